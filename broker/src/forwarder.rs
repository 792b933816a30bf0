//! The task between queues: hands the forwarder what the shards let out, and the shards what it wants done.
//!
//! A shard never waits for it, and it waits for the shards as connections do. What waits here meanwhile is bounded by what
//! the shards let out at once.
//!
//! While the volume is low on space and publishers wait, messages go on slowly or wait here, and in their queues ([`Pace`]).

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tracing::info;
use warren_core::forward::{Forwarder, World};
use warren_core::queue::Event;
use warren_core::{ConnectionId, ShardId};

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
    /// How much may be forwarded, newly at each look at the volume.
    space: watch::Receiver<Option<u64>>,
    pace: Pace,
    /// What may not go on yet, in order.
    held: VecDeque<(ShardId, Event)>,
}

/// How much may still be forwarded until the volume is looked at again.
#[derive(Debug, Default)]
struct Pace {
    /// Octets; `None`: there is space for any number.
    left: Option<u64>,
}

impl Pace {
    /// True if one more message may go on: the one that uses up what is left is the last.
    fn allows(&self) -> bool {
        self.left.is_none_or(|left| left > 0)
    }

    fn spend(&mut self, octets: u64) {
        self.left = self.left.map(|left| left.saturating_sub(octets));
    }
}

impl ForwarderTask {
    /// From now on shards have somebody to send to.
    pub(crate) fn new(shared: Arc<Shared>, space: watch::Receiver<Option<u64>>) -> Self {
        let events = shared.connections.insert(ConnectionId::FORWARDER).posts;
        let pace = Pace { left: *space.borrow() };
        Self { forwarder: Forwarder::new(), events, shared, space, pace, held: VecDeque::new() }
    }

    /// Runs until the shards stop.
    pub(crate) async fn run(mut self) {
        let mut posts = Vec::with_capacity(FORWARDER_BATCHES_AT_ONCE);
        loop {
            tokio::select! {
                count = self.events.recv_many(&mut posts, FORWARDER_BATCHES_AT_ONCE) => match count {
                    0 => return,
                    _ => self.take_in(&mut posts),
                },
                // Fails only when the log has stopped.
                Ok(()) = self.space.changed() => self.go_on(),
            }
            self.shared.metrics.count_forwarded(&std::mem::take(&mut self.forwarder.counts));
            if let Err(ShardStopped) = self.hand_over().await {
                return info!("the node is stopping, and so does the forwarder");
            }
        }
    }

    fn take_in(&mut self, posts: &mut Vec<Post>) {
        for post in posts.drain(..) {
            let Post::Events(shard, events) = post else { continue };
            for event in events {
                let waits = matches!(event, Event::Forward(_)) && !(self.held.is_empty() && self.pace.allows());
                if waits {
                    self.held.push_back((shard, event));
                } else {
                    self.hear(shard, event);
                }
            }
        }
    }

    /// The volume was looked at: what was held goes on as far as it may now.
    fn go_on(&mut self) {
        self.pace.left = *self.space.borrow_and_update();
        while self.pace.allows()
            && let Some((shard, event)) = self.held.pop_front()
        {
            self.hear(shard, event);
        }
    }

    fn hear(&mut self, shard: ShardId, event: Event) {
        let topology = self.shared.topology.load();
        let mut world = World { topology: &topology, random: &mut random };
        self.forwarder.shard_event(shard, event, &mut world);
        self.pace.spend(self.forwarder.take_published());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_that_uses_up_what_is_left_is_the_last() {
        let mut pace = Pace { left: Some(100) };
        pace.spend(99);
        assert!(pace.allows());
        pace.spend(1_000);
        assert!(!pace.allows());
        let mut pace = Pace::default();
        pace.spend(u64::MAX);
        assert!(pace.allows(), "with space there is no bound");
    }
}
