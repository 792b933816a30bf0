//! Names of things that the machines and the shell pass around. Numbers, never paths or strings of a client.

/// One client connection, unique for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// The node itself, as the one who carries dead letters and delayed messages on. No client's connection has it.
    pub const FORWARDER: Self = Self(0);
}

/// One queue of the node. A logged queue's number is never used again after a delete; the others' may be, once all
/// have been through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u32);

/// One shard: a set of queues that share one ordered sequence of log entries. 0 is the metadata's shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard that holds vhosts, exchanges, queue records and bindings, and no messages.
    pub const METADATA: Self = Self(0);
}

/// One channel of a connection, as who holds messages: what is handed out on a channel is settled on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey {
    /// The connection.
    pub connection: ConnectionId,
    /// The channel's number.
    pub channel: u16,
}

impl ChannelKey {
    /// The node itself, which has no channels.
    pub const FORWARDER: Self = Self { connection: ConnectionId::FORWARDER, channel: 0 };
}

/// One consumer: the connection and channel it was started on, and its number on that connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerKey {
    /// The connection that receives the deliveries.
    pub connection: ConnectionId,
    /// The channel that `basic.consume` came on.
    pub channel: u16,
    /// Counts the consumers of the connection; a tag may be used again after a cancel, this number is not.
    pub serial: u32,
}

impl ConsumerKey {
    /// The channel that it is on.
    pub fn on_channel(self) -> ChannelKey {
        ChannelKey { connection: self.connection, channel: self.channel }
    }
}
