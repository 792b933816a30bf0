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
use crate::limits::{FORWARDER_BATCH_BYTES, FORWARDER_BATCHES_AT_ONCE};
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
    /// Octets of publishes that are to be handed over.
    gathered: u64,
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
        let events = shared.connections.insert(ConnectionId::FORWARDER, None).posts;
        let pace = Pace { left: *space.borrow() };
        Self { forwarder: Forwarder::new(), events, shared, space, pace, held: VecDeque::new(), gathered: 0 }
    }

    /// Runs until the shards stop.
    pub(crate) async fn run(mut self) {
        let mut posts = Vec::with_capacity(FORWARDER_BATCHES_AT_ONCE);
        loop {
            let done = tokio::select! {
                count = self.events.recv_many(&mut posts, FORWARDER_BATCHES_AT_ONCE) => match count {
                    0 => return,
                    _ => self.take_in(&mut posts).await,
                },
                // Fails only when the log has stopped.
                Ok(()) = self.space.changed() => self.go_on().await,
            };
            self.shared.metrics.count_forwarded(&std::mem::take(&mut self.forwarder.counts));
            if let Err(ShardStopped) = done {
                return info!("the node is stopping, and so does the forwarder");
            }
        }
    }

    async fn take_in(&mut self, posts: &mut Vec<Post>) -> Result<(), ShardStopped> {
        for post in posts.drain(..) {
            let Post::Events(shard, events) = post else { continue };
            for event in events {
                let may_wait = matches!(event, Event::Forward(_));
                if may_wait && !(self.held.is_empty() && self.may_go_on()) {
                    self.held.push_back((shard, event));
                } else {
                    self.hear(shard, event).await?;
                }
            }
        }
        self.hand_over().await
    }

    /// The volume was looked at: what was held goes on as far as it may now.
    async fn go_on(&mut self) -> Result<(), ShardStopped> {
        self.pace.left = *self.space.borrow_and_update();
        while self.may_go_on()
            && let Some((shard, event)) = self.held.pop_front()
        {
            self.hear(shard, event).await?;
        }
        self.hand_over().await
    }

    /// True if one more message may go on. If the volume has been looked at again, that is taken in first.
    fn may_go_on(&self) -> bool {
        self.pace.allows() && !self.space.has_changed().unwrap_or(false)
    }

    fn decide(&mut self, shard: ShardId, event: Event) {
        let topology = self.shared.topology.load();
        let mut world = World { topology: &topology, random: &mut random };
        self.forwarder.shard_event(shard, event, &mut world);
        let octets = self.forwarder.take_published();
        self.pace.spend(octets);
        self.gathered += octets;
    }

    async fn hear(&mut self, shard: ShardId, event: Event) -> Result<(), ShardStopped> {
        self.decide(shard, event);
        if self.gathered >= FORWARDER_BATCH_BYTES { self.hand_over().await } else { Ok(()) }
    }

    /// Sends the shards their inputs, waiting for those that have enough to do.
    async fn hand_over(&mut self) -> Result<(), ShardStopped> {
        self.gathered = 0;
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
