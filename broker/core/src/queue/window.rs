//! How much a shard has let out to the forwarder, over all its queues.

use alloc::collections::VecDeque;

use crate::identity::QueueId;
use crate::limits::FORWARD_WINDOW_BYTES;
use crate::message::Message;

/// About what a message costs on its way beside its octets.
const OVERHEAD_BYTES: u64 = 512;

/// The window, and who waits for room in it.
#[derive(Debug, Default)]
pub(super) struct ForwardWindow {
    bytes: u64,
    /// Queues with messages that would leave, each once, in the order in which they found no room.
    crowded: VecDeque<QueueId>,
}

impl ForwardWindow {
    /// True if one more message may leave: the one that reaches the bound is the last.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < FORWARD_WINDOW_BYTES
    }

    /// A message leaves; answers what it takes of the window until it comes back.
    pub(super) fn leave(&mut self, message: &Message) -> u64 {
        let bytes = OVERHEAD_BYTES + message.size() as u64;
        self.bytes += bytes;
        bytes
    }

    /// A message has arrived, or come back, or its queue is gone.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.bytes -= bytes;
    }

    /// A queue is to be looked at again when there is room.
    pub(super) fn wait(&mut self, queue: QueueId) {
        self.crowded.push_back(queue);
    }

    /// A queue for which there is room now.
    pub(super) fn next(&mut self) -> Option<QueueId> {
        if self.has_room() { self.crowded.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use bytes::Bytes;

    use super::super::tests::{NOW, World};
    use super::super::{DeadLettering, Event, PositionRange, PublishRun, QueueSettings, Settlement, ShardInput};
    use super::*;
    use crate::ChannelKey;
    use crate::command::{Attributes, encode_publish_head};

    const QUEUES: u32 = 5;
    const MESSAGES: usize = 20;
    /// Six of them reach the bound.
    const BODY_BYTES: usize = 400 << 10;

    /// Queues whose messages are over after a moment, each with more than all may have on their way.
    fn world() -> World {
        let ttl = QueueSettings { message_ttl: Some(10), ..QueueSettings::default() };
        let mut world = World::with(QueueSettings::default());
        for queue in (1..=QUEUES).map(QueueId) {
            let settings = QueueSettings { dead_lettering: DeadLettering::AtMostOnce, ..ttl.clone() };
            world.put(ShardInput::Create { queue, settings });
            let mut commands = Vec::new();
            for _ in 0..MESSAGES {
                let to = (1, [queue].into_iter());
                encode_publish_head(to, 0, 0, 0, BODY_BYTES as u32, &Attributes::default(), &mut commands);
                commands.resize(commands.len() + BODY_BYTES, 0);
            }
            let (count, commands) = (MESSAGES as u32, Bytes::from(commands));
            world.put(ShardInput::Publish(PublishRun { logged: false, commands, count, receipts: vec![] }));
        }
        world
    }

    fn let_out(world: &mut World) -> Vec<(QueueId, u64)> {
        let forward = |(_, event)| match event {
            Event::Forward(forward) => Some((forward.queue, forward.position)),
            _ => None,
        };
        world.events.drain(..).filter_map(forward).collect()
    }

    #[test]
    fn the_messages_of_all_queues_share_a_window_and_each_queue_has_its_turn() {
        let mut world = world();
        world.tick(NOW + 10);
        let mut out = let_out(&mut world);
        let most = FORWARD_WINDOW_BYTES as usize / BODY_BYTES + 1;
        assert_eq!(out.len(), most, "the message that reaches the bound is the last");
        assert_eq!(world.shard.next_deadline(), None, "nothing wakes the shard while there is no room");
        let mut all = out.len();
        let mut seen = vec![];
        while let Some((queue, position)) = out.pop() {
            seen.push(queue);
            let ranges = vec![PositionRange { first: position, len: 1 }];
            world.put(ShardInput::Settle {
                queue,
                holder: ChannelKey::FORWARDER,
                ranges,
                settlement: Settlement::Done,
            });
            let more = let_out(&mut world);
            all += more.len();
            out.splice(0..0, more);
            assert!(out.len() <= most);
        }
        assert_eq!(all, QUEUES as usize * MESSAGES, "every message leaves in the end");
        let last_to_begin = (1..=QUEUES).filter_map(|id| seen.iter().position(|queue| *queue == QueueId(id))).max();
        assert!(last_to_begin.is_some_and(|at| at < all / 2), "{seen:?}");
    }

    #[test]
    fn a_queue_that_is_deleted_gives_its_room_to_others() {
        let mut world = world();
        world.tick(NOW + 10);
        let out = let_out(&mut world);
        let mut queues: Vec<QueueId> = out.iter().map(|(queue, _)| *queue).collect();
        queues.dedup();
        for queue in queues {
            let (if_unused, if_empty, still_unused, request) = (false, false, false, 1);
            world.put(ShardInput::Delete { queue, if_unused, if_empty, still_unused, request });
        }
        assert!(!let_out(&mut world).is_empty());
    }
}
