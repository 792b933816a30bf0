//! Where a message goes: what routing sees of it, its answer, and why there may be none.

use alloc::format;
use alloc::vec::Vec;

use warren_amqp::{Properties, ReplyCode, Table};

use crate::{Exception, QueueId, ShardId};

/// What routing sees of a message.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'m> {
    /// The exchange that it was published to.
    pub exchange: &'m str,
    /// Its routing key.
    pub routing_key: &'m str,
    /// Its further routing keys, those of `CC` and `BCC`. Exchanges that go by the routing key look at all of them,
    /// those that choose one queue at the first alone. One whose bindings match none of them has routed nowhere (RabbitMQ).
    pub further_keys: &'m [&'m str],
    /// Its headers, found well-formed.
    pub headers: Option<Table<'m>>,
    /// All its properties, for exchanges that go by one of them.
    pub properties: Properties<'m>,
}

/// One queue that a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The shard that holds the queue.
    pub shard: ShardId,
    /// The queue.
    pub queue: QueueId,
    /// Which of the queue's messages are logged.
    pub logging: Logging,
    /// Whether the queue drops messages that it has had: it asks for the attribute `deduplication`.
    pub deduplicates: bool,
    /// Whether the queue is a stream: it asks for the attribute `filter`.
    pub stream: bool,
}

/// Which of a queue's messages are logged, and so outlive the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Logging {
    /// None: the queue itself is not.
    Nothing,
    /// Those of delivery mode 2.
    Persistent,
    /// All: the queue is a quorum queue or a stream, and those of RabbitMQ ignore the delivery mode; or it is the store
    /// of a delayed exchange.
    Everything,
}

/// The queues that a message goes to, each once, in the order of their shards. Made to be used again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    list: Vec<Route>,
    delay: Option<u64>,
    /// Whether something in the message or chance had a say.
    unrepeatable: bool,
    /// Whether a queue asks for an attribute.
    asking: bool,
}

impl Routes {
    /// No queue.
    pub const fn new() -> Self {
        Self { list: Vec::new(), delay: None, unrepeatable: false, asking: false }
    }

    /// Forgets the queues and keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.delay = None;
        self.unrepeatable = false;
        self.asking = false;
    }

    /// Whether there is no queue: the message is unroutable.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many queues.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The queues, sorted by shard and queue.
    pub fn as_slice(&self) -> &[Route] {
        &self.list
    }

    /// The queues of one shard after the other; no slice is empty.
    pub fn by_shard(&self) -> impl Iterator<Item = &[Route]> {
        self.list.chunk_by(|a, b| a.shard == b.shard)
    }

    /// Milliseconds that the message waits in the queues of the delayed exchanges that it met: the attribute `delay`.
    pub fn delay(&self) -> Option<u64> {
        self.delay
    }

    /// Whether the same exchange and routing key lead to the same queues while the topology does not change. They do
    /// not if an exchange looked into the message or drew lots.
    pub fn is_repeatable(&self) -> bool {
        !self.unrepeatable
    }

    /// Whether no queue asks for one of the attributes `delay`, `deduplication` and `filter`.
    #[inline]
    pub fn ask_nothing(&self) -> bool {
        !self.asking
    }

    /// Whether a queue asks for the attribute `deduplication`.
    pub fn deduplicates(&self) -> bool {
        self.list.iter().any(|route| route.deduplicates)
    }

    /// Whether a queue asks for the attribute `filter`.
    pub fn has_stream(&self) -> bool {
        self.list.iter().any(|route| route.stream)
    }

    pub(super) fn push(&mut self, route: Route) {
        self.list.push(route);
    }

    /// The message waits so long in the stores that were pushed.
    pub(super) fn wait(&mut self, millis: u64) {
        self.delay = Some(millis);
    }

    /// Something other than names had a say.
    pub(super) fn depend_on_message(&mut self) {
        self.unrepeatable = true;
    }

    pub(super) fn settle(&mut self) {
        if self.list.len() > 1 {
            self.list.sort_unstable();
            self.list.dedup();
        }
        self.asking = self.delay.is_some() || self.list.iter().any(|route| route.deduplicates || route.stream);
    }
}

/// Why a client's message cannot be routed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The exchange does not exist.
    #[error("no such exchange")]
    NoSuchExchange,
    /// Only exchanges may publish to it.
    #[error("the exchange is internal")]
    Internal,
}

impl RouteError {
    /// The channel exception for a `basic.publish` to `exchange`, in RabbitMQ's words.
    pub fn into_exception(self, exchange: &str, vhost: &str) -> Exception {
        match self {
            Self::NoSuchExchange => {
                Exception::channel(ReplyCode::NotFound, format!("no exchange '{exchange}' in vhost '{vhost}'"))
            }
            Self::Internal => Exception::channel(
                ReplyCode::AccessRefused,
                format!("cannot publish to internal exchange '{exchange}' in vhost '{vhost}'"),
            ),
        }
    }
}
