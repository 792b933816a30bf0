//! What sessions and the metadata ask of a shard.

use alloc::vec::Vec;

use bytes::Bytes;

#[cfg(doc)]
use super::event::{Event, ShardOutput};
use super::{PositionRange, QueueSettings, Settlement, Subscription};
use crate::identity::{ChannelKey, ConnectionId, ConsumerKey, QueueId};

/// Publishes of one channel that are confirmed when their run is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Who published.
    pub connection: ConnectionId,
    /// On which channel.
    pub channel: u16,
    /// The first publish's number on that channel.
    pub first: u64,
    /// How many consecutive publishes.
    pub len: u64,
    /// Which command of the run is the first of them.
    pub index: u32,
}

/// Encoded publishes of one connection, in order. Either all of its queues are logged or none is, so that transient
/// queues never wait for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRun {
    /// True: confirmed only once the log holds them.
    pub logged: bool,
    /// Publish commands, one behind the other (see [`crate::command`]).
    pub commands: Bytes,
    /// How many commands.
    pub count: u32,
    /// What to confirm when they are applied.
    pub receipts: Vec<Receipt>,
}

/// What a session or the metadata asks of a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardInput {
    /// Append messages.
    Publish(PublishRun),
    /// Settle messages that were handed out. What its holder does not hold any more is skipped: it may have been taken back
    /// meanwhile and be with another.
    Settle {
        /// The queue they came from.
        queue: QueueId,
        /// Who was handed them.
        holder: ChannelKey,
        /// Their positions.
        ranges: Vec<PositionRange>,
        /// What becomes of them.
        settlement: Settlement,
    },
    /// `basic.consume`; answered by [`Event::Subscribed`].
    Subscribe {
        /// The queue.
        queue: QueueId,
        /// The new consumer.
        consumer: ConsumerKey,
        /// Its terms.
        subscription: Subscription,
    },
    /// `basic.cancel`; answered by [`Event::Unsubscribed`], behind the consumer's last delivery.
    Unsubscribe {
        /// The queue.
        queue: QueueId,
        /// The consumer.
        consumer: ConsumerKey,
    },
    /// A consumer's deliveries have left for its socket.
    Grant {
        /// The queue.
        queue: QueueId,
        /// The consumer.
        consumer: ConsumerKey,
        /// How many messages.
        messages: u32,
        /// How many octets, as [`crate::Message::size`] counts.
        bytes: u64,
    },
    /// `basic.get`; answered by [`Event::Got`].
    Get {
        /// The queue.
        queue: QueueId,
        /// Who asks: its serial is 0, which no consumer has.
        holder: ConsumerKey,
        /// The message is done with as it is sent.
        no_ack: bool,
    },
    /// Asks for ready messages and consumers; answered by [`Event::Counted`].
    Count {
        /// The queue.
        queue: QueueId,
        /// Who asks.
        connection: ConnectionId,
    },
    /// `queue.purge`; answered by [`Event::Purged`].
    Purge {
        /// The queue.
        queue: QueueId,
        /// Who asks.
        connection: ConnectionId,
    },
    /// A channel's client is at work: the time that it may hold messages of the queue begins anew.
    Extend {
        /// The queue.
        queue: QueueId,
        /// The channel.
        channel: ChannelKey,
    },
    /// A message that a consumer was handed waits in its session until its client has room for it, or has now been sent. The
    /// time that it may be held begins when it is sent.
    Aside {
        /// The queue.
        queue: QueueId,
        /// The consumer.
        consumer: ConsumerKey,
        /// The message's.
        position: u64,
        /// False: it waits.
        sent: bool,
    },
    /// A queue comes into being; if it is there, it behaves like this from now on.
    Create {
        /// The queue.
        queue: QueueId,
        /// How it behaves.
        settings: QueueSettings,
    },
    /// A queue goes; answered in [`ShardOutput::deleted`] under `request`.
    Delete {
        /// The queue.
        queue: QueueId,
        /// Refuse if it has consumers.
        if_unused: bool,
        /// Refuse if it has ready messages.
        if_empty: bool,
        /// Refuse if it has been used since it was named in [`ShardOutput::unused`].
        still_unused: bool,
        /// Names the answer.
        request: u64,
    },
    /// A connection leaves: its consumers end, and what it holds goes back.
    Detach {
        /// The connection.
        connection: ConnectionId,
        /// Which queue it leaves; `None`: all of the shard.
        queue: Option<QueueId>,
    },
}
