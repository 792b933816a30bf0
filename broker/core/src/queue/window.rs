//! How much a shard has let out to the forwarder, and how many messages have died, over all its queues.

use alloc::collections::VecDeque;

use super::activity::DeathCounts;
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
    /// Whose turn it is to take room though others wait.
    turn: Option<QueueId>,
    pub(super) deaths: DeathCounts,
}

impl ForwardWindow {
    /// True if one more message of this queue may leave: the one that reaches the bound is the last, and who has not waited
    /// takes nothing from those who do.
    pub(super) fn has_room_for(&self, queue: QueueId) -> bool {
        self.has_room() && (self.crowded.is_empty() || self.turn == Some(queue))
    }

    fn has_room(&self) -> bool {
        self.bytes < FORWARD_WINDOW_BYTES
    }

    /// A message leaves; answers what it takes of the window until it comes back.
    pub(super) fn leave(&mut self, message: &Message) -> u64 {
        let bytes = OVERHEAD_BYTES + message.size() as u64;
        self.bytes += bytes;
        bytes
    }

    /// A message has arrived, or come back, or its queue is gone: [`Self::next`] is to be asked for who gets the room.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.bytes -= bytes;
    }

    /// A queue is to be looked at again when there is room.
    pub(super) fn wait(&mut self, queue: QueueId) {
        self.crowded.push_back(queue);
    }

    /// A queue for which there is room now; it is its turn until the next call.
    pub(super) fn next(&mut self) -> Option<QueueId> {
        self.turn = if self.has_room() { self.crowded.pop_front() } else { None };
        self.turn
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use bytes::Bytes;

    use super::super::tests::{NOW, QUEUE, World};
    use super::super::{
        DeadLettering, Event, PositionRange, PublishRun, QueueKind, QueueSettings, Settlement, ShardInput,
    };
    use super::*;
    use crate::ChannelKey;
    use crate::command::{Attributes, encode_publish_head};
    use crate::limits::FORWARD_RETRY_MILLIS;

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
            publish(&mut world, queue, &Attributes::default());
        }
        world
    }

    fn publish(world: &mut World, queue: QueueId, attributes: &Attributes<'_>) {
        let mut commands = Vec::new();
        for _ in 0..MESSAGES {
            encode_publish_head((1, [queue].into_iter()), 0, 0, 0, BODY_BYTES as u32, attributes, &mut commands);
            commands.resize(commands.len() + BODY_BYTES, 0);
        }
        let (count, commands) = (MESSAGES as u32, Bytes::from(commands));
        world.put(ShardInput::Publish(PublishRun { logged: false, commands, count, receipts: vec![] }));
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

    /// What the forwarder does with messages that can go nowhere and must not be lost, and with the others.
    fn answer(world: &mut World, undeliverable: QueueId) -> Vec<(QueueId, u64)> {
        let out = let_out(world);
        for (queue, position) in &out {
            let settlement = if *queue == undeliverable { Settlement::Return } else { Settlement::Done };
            let ranges = vec![PositionRange { first: *position, len: 1 }];
            world.put(ShardInput::Settle { queue: *queue, holder: ChannelKey::FORWARDER, ranges, settlement });
        }
        out
    }

    #[test]
    fn what_comes_back_again_and_again_keeps_no_other_queue_waiting() {
        let mut world = world();
        let delayed = QueueId(QUEUES + 1);
        let settings = QueueSettings { kind: QueueKind::Delayed, ..QueueSettings::default() };
        world.put(ShardInput::Create { queue: delayed, settings });
        publish(&mut world, delayed, &Attributes { delay: Some(10), ..Attributes::default() });
        world.tick(NOW + 10);
        let mut arrived = vec![];
        while arrived.len() < QUEUES as usize * MESSAGES {
            let out = answer(&mut world, QUEUE);
            assert!(!out.is_empty(), "{} have arrived, and nothing is on its way", arrived.len());
            arrived.extend(out.into_iter().filter(|(queue, _)| *queue != QUEUE));
        }
        let (mut now, mut tries) = (NOW + 10, 0);
        while tries < MESSAGES {
            now += FORWARD_RETRY_MILLIS;
            world.tick(now);
            loop {
                match answer(&mut world, QUEUE).len() {
                    0 => break,
                    count => tries += count,
                }
            }
        }
        assert_eq!(world.shard.next_deadline(), Some(now + FORWARD_RETRY_MILLIS), "it is tried again all the same");
    }

    #[test]
    fn who_comes_later_takes_no_room_from_those_who_wait() {
        let mut window = ForwardWindow { bytes: FORWARD_WINDOW_BYTES, ..ForwardWindow::default() };
        assert_eq!((window.next(), window.has_room_for(QUEUE)), (None, false), "it is full");
        window.wait(QueueId(7));
        window.wait(QueueId(8));
        window.give_back(1);
        assert!(!window.has_room_for(QUEUE) && !window.has_room_for(QueueId(7)), "nobody's turn");
        for turn in [QueueId(7), QueueId(8)] {
            assert_eq!(window.next(), Some(turn));
            assert!(window.has_room_for(turn));
            // Behind the last one nobody waits.
            assert_eq!(window.has_room_for(QUEUE), turn == QueueId(8));
        }
        assert_eq!((window.next(), window.has_room_for(QUEUE)), (None, true), "nobody waits any more");
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
