//! Every bound of the machines, in one table, with what happens at it.

/// Messages that may be on their way from a queue to one consumer's socket; more wait in the queue.
pub const DELIVERY_WINDOW_MESSAGES: u32 = 8_192;

/// Octets that may be on their way from a queue to one consumer's socket; the message that reaches it is the last.
pub const DELIVERY_WINDOW_BYTES: u64 = 1 << 20;

/// Octets of commands in one log entry; the command that reaches it is the entry's last.
pub const ENTRY_BYTES: usize = 256 << 10;

/// Commands in one log entry; the run of publishes that reaches it is the entry's last.
pub const ENTRY_COMMANDS: u32 = 1_024;

/// Ranges in one logged settlement; more are logged as further settlements.
pub const SETTLE_RANGES: usize = 4_096;

/// Dead letters and due messages of one queue that may be on their way to where they go, or have come back and wait
/// until they are tried again; more wait where nobody gets them.
pub const DEAD_LETTERS_UNDER_WAY: usize = 256;

/// Messages that wait beside a queue to leave it, at 16 octets each; further ones whose time is over stay in it, where nobody
/// gets them either, and keep what is behind them from being handed out. What clients reject beyond waits all the same.
pub const DEAD_LETTERS_WAITING: usize = 64 << 10;

/// Messages that wait to leave a queue that is full; one more that is refused then is not dead-lettered.
pub const REFUSED_WAITING: usize = 4_096;

/// Keys by which one queue recognizes messages that it has had, of logged ones and of others; the oldest makes room for
/// one more.
pub const DEDUPLICATION_KEYS: usize = 1 << 20;

/// The highest priority that a quorum queue tells apart (RabbitMQ 4.3); higher ones count as this one.
pub const QUORUM_PRIORITY_MAX: u8 = 31;

/// Octets of what a shard committed last that it keeps in memory for consumers that keep up; older messages are read
/// from the log.
pub const RECENT_BYTES: usize = 1 << 20;

/// Queues that a connection has consumed or got from and remembers one by one; beyond, it remembers their shards and
/// gives back by shard.
pub const TOUCHED_QUEUES: usize = 1_024;

/// Consumers of one stream; one more is refused with 406.
pub const STREAM_CONSUMERS: u32 = 1 << 16;

/// Messages, or chunks of them, that a stream looks through at a time for a consumer that wants few of them; it goes on when
/// others have had their turn.
pub const STREAM_SCAN: u32 = 1 << 14;

/// Publishes of traces that a connection follows at once, until they are confirmed, and as many deliveries, until they are
/// settled; of one more nothing is told.
pub const TRACED_UNDER_WAY: usize = 1_024;

/// Octets of a message's header `tracestate` that are told; of a longer one nothing is (W3C Trace Context §3.3.1.5).
pub const TRACESTATE_BYTES: usize = 512;

/// Octets of unfinished bodies on one connection, over all its channels, or those of the largest message if that is more;
/// one more closes it with 506.
pub const UNFINISHED_BYTES: u64 = 64 << 20;

/// Octets of publishes that wait for `tx.commit` on one connection, over all its channels; the publish that goes beyond
/// closes its channel with 406, unless it is the only one.
pub const TRANSACTION_BYTES: u64 = 64 << 20;

/// Octets of encoded publishes in one run; the publish that reaches it is the run's last.
pub const RUN_BYTES: usize = 64 << 10;

/// Octets of one message's body, unless the node is configured otherwise. A larger one closes the channel with 406 when
/// its header comes.
pub const MESSAGE_BYTES: u64 = 16 << 20;

/// Octets of one message's body that a node may be configured to take.
pub const MESSAGE_BYTES_MAX: u64 = 128 << 20;

/// Octets of a body that a content header may announce at all. More is taken for nonsense and closes the connection with 501,
/// as in RabbitMQ.
pub const ANNOUNCED_BYTES: u64 = 512 << 20;

/// Milliseconds that a dead letter which must arrive and cannot waits in its queue before it is tried again.
pub const FORWARD_RETRY_MILLIS: u64 = 5_000;

/// Dead letters that some of their next queues have and others have refused, which are remembered; of the oldest it is
/// forgotten, and the queues that have it get it again.
pub const PARTLY_FORWARDED: usize = 4_096;

/// Octets of a dead letter's `x-death`. Beyond, its oldest deaths are forgotten, never the newest, and the message goes on
/// only if one of those that are left is a rejection: otherwise it may have been everywhere before.
pub const DEATHS_BYTES: usize = 64 << 10;

/// Octets of messages that a shard has let out to the forwarder, over all its queues; the message that reaches it is the
/// last. Others wait: expired and rejected ones beside their queues, those that are too many or due in them.
pub const FORWARD_WINDOW_BYTES: u64 = 2 << 20;

/// Queues of which the forwarder remembers where their messages go; beyond, all are looked up anew.
pub const FORWARD_WAYS: usize = 1_024;

/// Milliseconds in the property `expiration`: ten years, as in RabbitMQ; more is refused with 406.
pub const EXPIRATION_MILLIS: u64 = 315_360_000_000;

/// Channels open at once on a connection, as offered in `connection.tune` (RabbitMQ's default).
pub const CHANNEL_MAX: u16 = 2_047;

/// Octets of a frame: as offered in `connection.tune`, before `connection.open`, and the smallest that a client may choose.
pub use warren_amqp::limits::{FRAME_MAX_BEFORE_OPEN, FRAME_MAX_DEFAULT as FRAME_MAX, FRAME_MIN_SIZE as FRAME_MIN};

/// Seconds between heartbeats, as offered in `connection.tune` (RabbitMQ's default).
pub const HEARTBEAT_SECS: u16 = 60;

/// Milliseconds from accept to `connection.open`; a slower connection is dropped.
pub const HANDSHAKE_MILLIS: u64 = 10_000;

/// Milliseconds that a client has to answer our `connection.close`.
pub const CLOSE_MILLIS: u64 = 5_000;

/// Consumers on one channel; one more is refused with 406.
pub const CONSUMERS_PER_CHANNEL: usize = 10_000;

/// Consumers on one connection; one more is refused with 406. What its queues may have under way to a connection is this
/// many times the delivery window, and practically two or three times.
pub const CONSUMERS_PER_CONNECTION: usize = 65_536;

/// Values in one consumer's `x-stream-filter`; more are refused with 406.
pub const STREAM_FILTERS: usize = 64;

/// Publishes of one connection that wait for their confirm; beyond, the connection is not read until some are confirmed.
pub const UNCONFIRMED_PUBLISHES: u64 = 131_072;

/// Ways of messages that a connection remembers until the topology changes; the oldest makes room for one more.
pub const ROUTES_REMEMBERED: usize = 16;

/// Queues at the end of a way that is remembered; longer ones are looked up for each message.
pub const ROUTES_REMEMBERED_QUEUES: usize = 64;

/// Octets of an exchange's, queue's or virtual host's name and of a binding key: a short string (AMQP 0-9-1 §4.2.5.3).
pub const NAME_BYTES: usize = 255;

/// Octets of the arguments of one exchange, queue or binding; more are refused with 406.
pub const ARGUMENTS_BYTES: usize = 16 << 10;

/// Octets of a stream's segment that a declaration may ask for; more are refused with 406, as in RabbitMQ.
pub const STREAM_SEGMENT_BYTES: i64 = 3_000_000_000;

/// Keys that a queue with deduplication remembers if it does not say how many.
pub const DEDUPLICATION_KEYS_DEFAULT: u32 = 128;

/// The weight of a binding to a consistent-hash exchange; more is refused with 406, as in RabbitMQ.
pub const HASH_WEIGHT: i64 = 10_000;

/// Words `#` in one binding key of a topic exchange; more are refused with 406, as in RabbitMQ 4.3.
pub const TOPIC_MULTI_WILDCARDS: usize = 2;

/// Global parameters; one more is refused with 406.
pub const GLOBAL_PARAMETERS: usize = 128;

/// Octets of a global parameter's value as JSON; a longer one is refused with 406.
pub const GLOBAL_PARAMETER_BYTES: usize = 16 << 10;

/// Octets of a virtual host's description; a longer one is refused.
pub const DESCRIPTION_BYTES: usize = 1_024;

/// Tags of one user or virtual host; more are refused.
pub const TAGS: usize = 64;

/// Octets of one pattern of a permission or policy as it is written; a longer one is refused.
pub const PATTERN_BYTES: usize = 1_024;

/// Octets of a pattern's program; a pattern that repeats so much that it would be larger is refused.
pub const PATTERN_PROGRAM_BYTES: usize = 128 << 10;

/// How much the topology may hold; one more is refused with 406.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopologyLimits {
    /// Queues of one virtual host.
    pub queues: usize,
    /// Exchanges of one virtual host, predeclared ones included.
    pub exchanges: usize,
    /// Bindings of one virtual host.
    pub bindings: usize,
    /// Bindings that one message can match at one exchange: all of a fanout, topic or headers exchange, those of one
    /// binding key at a direct exchange.
    pub reach: usize,
    /// Virtual hosts.
    pub vhosts: usize,
    /// Users.
    pub users: usize,
    /// Permissions and topic permissions of all users.
    pub permissions: usize,
    /// Policies and operator policies of one virtual host.
    pub policies: usize,
    /// Connections of one user at once, if nothing else is said of it. The node's own user has no such limit.
    pub user_connections: u32,
    /// Channels of one user at once, if nothing else is said of it. The node's own user has no such limit.
    pub user_channels: u32,
    /// Connections in one virtual host at once, if nothing else is said of it.
    pub vhost_connections: u32,
}

impl Default for TopologyLimits {
    fn default() -> Self {
        Self {
            queues: 200_000,
            exchanges: 50_000,
            bindings: 1_000_000,
            reach: 10_000,
            vhosts: 1_000,
            users: 10_000,
            permissions: 20_000,
            policies: 1_000,
            user_connections: 10_000,
            user_channels: 100_000,
            vhost_connections: 50_000,
        }
    }
}

/// Scopes of a token that give something here; a token with more is refused. Each of them may be looked at when a right is
/// asked for.
pub const TOKEN_SCOPES: usize = 512;
