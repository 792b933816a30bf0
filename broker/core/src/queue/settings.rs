//! How a queue behaves: its declaration and the policies on it, worked out by the topology.

/// The type of a queue (argument `x-queue-type`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueKind {
    /// `classic`
    #[default]
    Classic,
    /// `quorum`: logs messages of every delivery mode and counts deliveries.
    Quorum,
    /// `stream`: keeps what was read, for many readers.
    Stream,
    /// The store of a delayed exchange: messages wait for their time and nobody consumes.
    Delayed,
}

/// What happens when a queue would grow beyond its longest (argument `x-overflow`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Overflow {
    /// The oldest messages go.
    #[default]
    DropHead,
    /// New messages are refused, and their publishers told by `basic.nack`.
    RejectPublish,
    /// As [`Self::RejectPublish`], and the refused messages are dead-lettered.
    RejectPublishDeadLetter,
}

/// Where a queue's dead letters go, in short: the names are the topology's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadLettering {
    /// Nowhere: what dies is gone.
    #[default]
    None,
    /// To the queue's dead-letter exchange; what cannot be routed there is dropped.
    AtMostOnce,
    /// To the queue's dead-letter exchange; what cannot be routed there stays and is tried again.
    AtLeastOnce,
}

/// How long a message that came back waits before it is ready again (RabbitMQ 4.3, quorum queues): its delivery count
/// times `min_millis`, at most `max_millis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryDelay {
    /// Which ones wait.
    pub of: Returned,
    /// Milliseconds after the first return, and more after each further one.
    pub min_millis: u64,
    /// The longest wait in milliseconds.
    pub max_millis: u64,
}

/// Kinds of messages that come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Returned {
    /// All.
    All,
    /// Those whose consumer failed or rejected them.
    Failed,
    /// Those that their consumer gave back without fault.
    GivenBack,
}

/// How a queue recognizes messages that it has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deduplication {
    /// How many keys it remembers.
    pub cache_size: u32,
    /// For how many milliseconds; `None`: until they make room for newer ones.
    pub cache_millis: Option<u64>,
}

/// How a queue behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueSettings {
    /// Its persistent messages and its settlements are logged.
    pub logged: bool,
    /// It is deleted when its last consumer goes, once it has had one.
    pub auto_delete: bool,
    /// Its type.
    pub kind: QueueKind,
    /// Milliseconds that a message may wait.
    pub message_ttl: Option<u64>,
    /// Milliseconds without consumer, get or declaration after which the queue is deleted.
    pub expires: Option<u64>,
    /// Ready messages.
    pub max_length: Option<u64>,
    /// Octets of ready messages' bodies; of a stream, of all it keeps.
    pub max_length_bytes: Option<u64>,
    /// What happens at these two.
    pub overflow: Overflow,
    /// The highest priority that is told apart; 0: there are no priorities.
    pub max_priority: u8,
    /// Where what dies goes.
    pub dead_lettering: DeadLettering,
    /// How often a message may come back from failed deliveries; `None`: as often as it likes.
    pub delivery_limit: Option<u32>,
    /// How long messages that came back wait.
    pub retry_delay: Option<RetryDelay>,
    /// Milliseconds that a consumer may hold a message.
    pub consumer_timeout: Option<u64>,
    /// One consumer at a time gets messages.
    pub single_active_consumer: bool,
    /// Messages that it has had are dropped.
    pub deduplication: Option<Deduplication>,
    /// Milliseconds that a stream keeps a message.
    pub max_age: Option<u64>,
}
