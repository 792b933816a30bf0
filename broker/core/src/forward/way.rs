//! Where the messages of a queue go on to.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use crate::identity::QueueId;
use crate::limits::FORWARD_WAYS;
use crate::queue::DeadLettering;
use crate::topology::{QueueRecord, Topology};

/// What the topology says about a queue that messages leave.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) queue: Arc<QueueRecord>,
    /// The exchange that they go to.
    pub(super) exchange: Arc<str>,
    /// The routing key that they get; `None`: they keep theirs.
    pub(super) routing_key: Option<Arc<str>>,
    /// They must arrive.
    pub(super) at_least_once: bool,
}

/// The ways of late, worked out once for each version of the topology.
#[derive(Debug, Default)]
pub(super) struct Ways {
    version: u64,
    known: BTreeMap<QueueId, Option<Arc<Way>>>,
}

impl Ways {
    /// The way of messages that leave this queue; `None`: it is gone, or sends them nowhere any more.
    pub(super) fn find(&mut self, queue: QueueId, topology: &Topology) -> Option<Arc<Way>> {
        if self.version != topology.version() || self.known.len() >= FORWARD_WAYS {
            self.known.clear();
            self.version = topology.version();
        }
        self.known.entry(queue).or_insert_with(|| Way::of(queue, topology).map(Arc::new)).clone()
    }
}

impl Way {
    fn of(queue: QueueId, topology: &Topology) -> Option<Self> {
        let queue = topology.queue_by_id(queue)?.clone();
        if let Some(exchange) = queue.delayed_exchange() {
            let exchange = Arc::from(exchange);
            return Some(Self { queue, exchange, routing_key: None, at_least_once: false });
        }
        let (exchange, routing_key) = topology.dead_letter(&queue)?;
        let at_least_once = topology.settings(&queue).dead_lettering == DeadLettering::AtLeastOnce;
        Some(Self { queue, exchange, routing_key, at_least_once })
    }
}
