//! The task between queues: hands the forwarder what the shards let out, and the shards what it wants done.
//!
//! A shard never waits for it, and it waits for the shards as connections do. What waits here meanwhile is bounded by what
//! the shards let out at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};
use tracing::info;
use warren_core::ConnectionId;
use warren_core::forward::{Forwarder, World};

use crate::connections::Post;
use crate::inbox::ShardStopped;
use crate::limits::FORWARDER_BATCHES_AT_ONCE;
use crate::node::Shared;
use crate::random::random;
use crate::shard::ShardMessage;

/// The forwarder and its surroundings.
pub(crate) struct ForwarderTask {
    forwarder: Forwarder,
    events: UnboundedReceiver<Post>,
    shared: Arc<Shared>,
}

impl ForwarderTask {
    /// From now on shards have somebody to send to.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let events = shared.connections.insert(ConnectionId::FORWARDER).posts;
        Self { forwarder: Forwarder::new(), events, shared }
    }

    /// Runs until the shards stop.
    pub(crate) async fn run(mut self) {
        let mut posts = Vec::with_capacity(FORWARDER_BATCHES_AT_ONCE);
        loop {
            let deadline = self.deadline();
            tokio::select! {
                count = self.events.recv_many(&mut posts, FORWARDER_BATCHES_AT_ONCE) => match count {
                    0 => return,
                    _ => self.take_in(&mut posts),
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
            }
            self.forwarder.tick(self.shared.now());
            self.shared.metrics.count_forwarded(&std::mem::take(&mut self.forwarder.counts));
            if let Err(ShardStopped) = self.hand_over().await {
                return info!("the node is stopping, and so does the forwarder");
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let origin = Instant::from_std(self.shared.started);
        self.forwarder.next_deadline().map(|at| origin + Duration::from_millis(at.0))
    }

    fn take_in(&mut self, posts: &mut Vec<Post>) {
        let topology = self.shared.topology.load();
        let mut world = World { now: self.shared.now(), topology: &topology, random: &mut random };
        for post in posts.drain(..) {
            let Post::Events(shard, events) = post else { continue };
            for event in events {
                self.forwarder.shard_event(shard, event, &mut world);
            }
        }
    }

    /// Sends the shards their inputs, waiting for those that have enough to do.
    async fn hand_over(&mut self) -> Result<(), ShardStopped> {
        while let Some((shard, inputs)) = self.forwarder.next_shard_inputs() {
            if let Some(sender) = self.shared.shards.get(usize::from(shard.0)) {
                sender.send(ShardMessage::Inputs(inputs)).await?;
            }
        }
        Ok(())
    }
}
