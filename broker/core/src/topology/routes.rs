//! Where a message goes: the answer of routing, and why there may be none.

use alloc::format;
use alloc::vec::Vec;

use warren_amqp::ReplyCode;

use crate::{Exception, QueueId, ShardId};

/// One queue that a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The shard that holds the queue.
    pub shard: ShardId,
    /// The queue.
    pub queue: QueueId,
    /// Which of the queue's messages are logged.
    pub logging: Logging,
}

/// Which of a queue's messages are logged, and so outlive the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Logging {
    /// None: the queue itself is not.
    Nothing,
    /// Those of delivery mode 2.
    Persistent,
    /// All: the queue was declared as a quorum queue, and those of RabbitMQ ignore the delivery mode.
    Everything,
}

/// The queues that a message goes to, each once, in the order of their shards. Made to be used again and again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    list: Vec<Route>,
}

impl Routes {
    /// No queue.
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// Forgets the queues and keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
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

    pub(super) fn push(&mut self, route: Route) {
        self.list.push(route);
    }

    pub(super) fn settle(&mut self) {
        if self.list.len() > 1 {
            self.list.sort_unstable();
            self.list.dedup();
        }
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
