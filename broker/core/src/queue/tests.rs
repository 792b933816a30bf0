//! Rules of queues, and the order that a shard keeps, without a socket or a log.

use alloc::vec;
use alloc::vec::Vec;
use std::format;
use std::string::String;

use bytes::Bytes;

use super::*;
use crate::command::{Attributes, encode_publish_head};
use crate::fake_log::FakeLog;
use crate::location::{Bodies, Location};
use crate::{ChannelKey, ConnectionId};

pub(super) const QUEUE: QueueId = QueueId(1);
/// When worlds begin.
pub(super) const NOW: u64 = 1_000_000;

pub(super) fn consumer(connection: u64) -> ConsumerKey {
    ConsumerKey { connection: ConnectionId(connection), channel: 1, serial: 1 }
}

pub(super) fn publish(bodies: &[&str], logged: bool) -> PublishRun {
    let mut commands = Vec::new();
    for body in bodies {
        encode_publish_head(
            (1, [QUEUE].into_iter()),
            0,
            0,
            0,
            body.len() as u32,
            &Attributes::default(),
            &mut commands,
        );
        commands.extend_from_slice(body.as_bytes());
    }
    let receipts =
        vec![Receipt { connection: ConnectionId(9), channel: 1, first: 1, len: bodies.len() as u64, index: 0 }];
    PublishRun { logged, commands: Bytes::from(commands), count: bodies.len() as u32, receipts }
}

fn delete_if(if_unused: bool, if_empty: bool, still_unused: bool, request: u64) -> ShardInput {
    ShardInput::Delete { queue: QUEUE, if_unused, if_empty, still_unused, request }
}

/// A shard with one queue, and what it said.
pub(super) struct World {
    pub(super) shard: Shard,
    pub(super) log: FakeLog,
    pub(super) events: Vec<(ConnectionId, Event)>,
    pub(super) unused: Vec<QueueId>,
    deleted: Vec<(u64, Deleted)>,
}

impl World {
    pub(super) fn with_queue(logged: bool, auto_delete: bool) -> Self {
        Self::with(QueueSettings { logged, auto_delete, ..QueueSettings::default() })
    }

    pub(super) fn with(settings: QueueSettings) -> Self {
        let mut world =
            Self { shard: Shard::new(), log: FakeLog::default(), events: vec![], unused: vec![], deleted: vec![] };
        world.tick(NOW);
        world.put(ShardInput::Create { queue: QUEUE, settings });
        world.commit();
        world
    }

    /// It is so many milliseconds after the tests' start of time.
    pub(super) fn tick(&mut self, now_ms: u64) {
        let mut out = ShardOutput::default();
        self.shard.tick(now_ms, &mut self.log, &mut out);
        self.collect(out);
    }

    pub(super) fn put(&mut self, input: ShardInput) {
        let mut out = ShardOutput::default();
        self.shard.handle(input, &mut self.log, &mut out);
        self.collect(out);
    }

    /// Lets the log take one entry and commits it; false if there was none.
    pub(super) fn commit_one(&mut self) -> bool {
        let Some(slices) = self.shard.take_entry(0) else {
            return false;
        };
        let at = self.log.append(&slices);
        let mut out = ShardOutput::default();
        self.shard.committed(at, &mut self.log, &mut out);
        self.collect(out);
        true
    }

    pub(super) fn commit(&mut self) {
        while self.commit_one() {}
    }

    pub(super) fn collect(&mut self, mut out: ShardOutput) {
        for (connection, events) in out.take_events() {
            self.events.extend(events.into_iter().map(|event| (connection, event)));
        }
        self.unused.append(&mut out.unused);
        self.deleted.append(&mut out.deleted);
    }

    pub(super) fn subscribe(&mut self, key: ConsumerKey, no_ack: bool, prefetch_count: u32) {
        let subscription = Subscription { no_ack, prefetch_count, ..Subscription::default() };
        self.put(ShardInput::Subscribe { queue: QUEUE, consumer: key, subscription });
        self.commit();
    }

    /// Settles messages without a priority, by the order in which they came, for whoever holds them.
    pub(super) fn settle(&mut self, positions: &[u64], settlement: Settlement) {
        let queue = self.shard.queues.get(&QUEUE);
        let level = queue.map_or(0, |queue| u64::from(queue.level(None)) << 56);
        for position in positions {
            self.settle_by(self.holder(level + position), &[level + position], settlement);
        }
    }

    /// Settles messages as if that channel held them.
    pub(super) fn settle_by(&mut self, holder: ChannelKey, positions: &[u64], settlement: Settlement) {
        let ranges = positions.iter().map(|first| PositionRange { first: *first, len: 1 }).collect();
        self.put(ShardInput::Settle { queue: QUEUE, holder, ranges, settlement });
    }

    /// Who holds the message at `position`; if nobody does, one that nobody is.
    pub(super) fn holder(&self, position: u64) -> ChannelKey {
        let nobody = ChannelKey { connection: ConnectionId(u64::MAX), channel: 0 };
        let Some(queue) = self.shard.queues.get(&QUEUE) else { return nobody };
        let range = PositionRange { first: position, len: 1 };
        if let Some(stream) = &queue.stream {
            return stream.readers.settled(range).map_or(nobody, |(number, _)| queue.holders.channel_of(number));
        }
        match queue.store.held_in(range).next().map(|held| held.holder) {
            None => nobody,
            Some(deaths::FORWARDER) => ChannelKey::FORWARDER,
            Some(token) => queue.holders.channel_of(token),
        }
    }

    /// What was delivered since the last call: consumer's connection, body, redelivered.
    pub(super) fn delivered(&mut self) -> Vec<(u64, String, bool)> {
        let mut delivered = vec![];
        for (connection, event) in self.events.drain(..) {
            if let Event::Deliver(_, delivery) = event {
                let body = String::from_utf8_lossy(delivery.message.body()).into_owned();
                delivered.push((connection.0, body, delivery.redelivered));
            }
        }
        delivered
    }

    /// The shard as a restart finds it: replayed from what was logged.
    pub(super) fn restarted(&self) -> Self {
        let mut shard = Shard::new();
        for (at, entry) in self.log.payloads() {
            shard.replay(at, entry).expect("own entries can be replayed");
        }
        shard.lead();
        Self { shard, log: self.log.clone(), events: vec![], unused: vec![], deleted: vec![] }
    }

    /// The shard as a restart finds it that begins with a snapshot of now.
    pub(super) fn restored(&self) -> Self {
        let mut world = self.restarted();
        world.shard = Shard::restore(&self.shard.snapshot().encode()).expect("it was encoded");
        world.shard.lead();
        world
    }

    /// Everything that a fresh consumer gets: body and redelivered flag.
    pub(super) fn drain(&mut self) -> Vec<(String, bool)> {
        self.subscribe(consumer(77), true, 0);
        self.delivered().into_iter().map(|(_, body, redelivered)| (body, redelivered)).collect()
    }
}

fn fresh(bodies: &[&str]) -> Vec<(String, bool)> {
    bodies.iter().map(|body| ((*body).into(), false)).collect()
}

#[test]
fn messages_come_in_order_and_consumers_take_turns() {
    let mut world = World::with_queue(false, false);
    world.subscribe(consumer(1), true, 0);
    world.subscribe(consumer(2), true, 0);
    world.put(ShardInput::Publish(publish(&["a", "b", "c", "d"], false)));
    // Events come grouped by connection.
    let turns = [(1, "a"), (1, "c"), (2, "b"), (2, "d")];
    assert_eq!(world.delivered(), turns.map(|(to, body)| (to, String::from(body), false)));
}

#[test]
fn prefetch_bounds_what_a_consumer_holds_and_an_ack_gives_room() {
    let mut world = World::with_queue(false, false);
    world.subscribe(consumer(1), false, 2);
    world.put(ShardInput::Publish(publish(&["a", "b", "c"], false)));
    assert_eq!(world.delivered().len(), 2);
    world.settle(&[0], Settlement::Done);
    assert_eq!(world.delivered(), [(1, String::from("c"), false)]);
}

#[test]
fn requeue_puts_messages_back_at_their_original_position_flagged_redelivered() {
    let mut world = World::with_queue(false, false);
    world.subscribe(consumer(1), false, 2);
    world.put(ShardInput::Publish(publish(&["a", "b", "c"], false)));
    world.put(ShardInput::Unsubscribe { queue: QUEUE, consumer: consumer(1) });
    world.settle(&[1], Settlement::Requeue);
    world.settle(&[0], Settlement::Requeue);
    world.events.clear();
    assert_eq!(world.drain(), [("a".into(), true), ("b".into(), true), ("c".into(), false)]);
}

#[test]
fn a_slow_reader_leaves_messages_in_the_queue_until_its_socket_took_the_earlier_ones() {
    let mut world = World::with_queue(false, false);
    world.subscribe(consumer(1), true, 0);
    let big = "x".repeat(1 << 20);
    world.put(ShardInput::Publish(publish(&[&big, "after"], false)));
    assert_eq!(world.delivered().len(), 1, "the first reaches the window's octets");
    world.put(ShardInput::Grant { queue: QUEUE, consumer: consumer(1), messages: 1, bytes: 1 << 20 });
    assert_eq!(world.delivered(), [(1, String::from("after"), false)]);
}

#[test]
fn a_connection_that_is_gone_gives_everything_back() {
    let mut world = World::with_queue(false, false);
    world.subscribe(consumer(1), false, 0);
    world.put(ShardInput::Publish(publish(&["a", "b"], false)));
    world.put(ShardInput::Detach { connection: ConnectionId(1), queue: Some(QUEUE) });
    let totals = ShardTotals { queues: 1, ready: 2, unacked: 0, consumers: 0 };
    assert_eq!(world.shard.totals(), totals);
    world.events.clear();
    assert_eq!(world.drain(), [("a".into(), true), ("b".into(), true)]);
}

#[test]
fn an_exclusive_consumer_is_alone_in_both_orders() {
    for (first, second) in [(true, false), (false, true)] {
        let mut world = World::with_queue(false, false);
        for (connection, exclusive) in [(1, first), (2, second)] {
            let subscription = Subscription { no_ack: true, exclusive, ..Subscription::default() };
            world.put(ShardInput::Subscribe { queue: QUEUE, consumer: consumer(connection), subscription });
        }
        let refusal = Event::Subscribed(consumer(2), Err(SubscribeRefusal::ExclusiveUse));
        assert!(world.events.contains(&(ConnectionId(2), refusal)), "first exclusive: {first}");
    }
}

#[test]
fn auto_delete_waits_for_a_first_consumer_and_follows_the_last() {
    let mut world = World::with_queue(false, true);
    world.put(ShardInput::Detach { connection: ConnectionId(5), queue: Some(QUEUE) });
    assert_eq!(world.unused, []);
    world.subscribe(consumer(1), true, 0);
    world.subscribe(consumer(2), true, 0);
    world.put(ShardInput::Unsubscribe { queue: QUEUE, consumer: consumer(1) });
    assert_eq!(world.unused, []);
    world.put(ShardInput::Unsubscribe { queue: QUEUE, consumer: consumer(2) });
    assert_eq!(world.unused, [QUEUE]);
}

#[test]
fn delete_honours_if_unused_and_if_empty_and_tells_consumers() {
    let mut world = World::with_queue(false, false);
    let delete = |if_unused, if_empty, request| delete_if(if_unused, if_empty, false, request);
    world.subscribe(consumer(1), false, 1);
    world.put(ShardInput::Publish(publish(&["held", "ready"], false)));
    world.put(delete(true, false, 1));
    world.put(delete(false, true, 2));
    world.put(delete(false, false, 3));
    assert_eq!(world.deleted, [(1, Err(DeleteRefusal::InUse)), (2, Err(DeleteRefusal::NotEmpty)), (3, Ok(1))]);
    assert!(world.events.contains(&(ConnectionId(1), Event::ConsumerCancelled(consumer(1)))));
}

#[test]
fn a_logged_publish_is_neither_confirmed_nor_delivered_before_its_commit() {
    let mut world = World::with_queue(true, false);
    world.subscribe(consumer(1), true, 0);
    world.events.clear();
    world.put(ShardInput::Publish(publish(&["a"], true)));
    assert_eq!(world.events, []);
    let entry = world.shard.take_entry(0).expect("the publish is to be logged");
    assert_eq!(world.events, [], "in the log's hands is not yet durable");
    let at = world.log.append(&entry);
    let mut out = ShardOutput::default();
    world.shard.committed(at, &mut world.log, &mut out);
    world.collect(out);
    let kinds: Vec<String> = world.events.iter().map(|(_, event)| format!("{event:.9?}")).collect();
    assert_eq!(world.events.len(), 2, "{kinds:?}");
}

#[test]
fn what_follows_a_logged_publish_waits_behind_it() {
    let mut world = World::with_queue(true, false);
    world.put(ShardInput::Publish(publish(&["logged"], true)));
    world.put(ShardInput::Publish(publish(&["memory"], false)));
    world.put(ShardInput::Count { queue: QUEUE, connection: ConnectionId(3) });
    assert_eq!(world.events, []);
    world.commit();
    assert!(world.events.contains(&(ConnectionId(3), Event::Counted(Some((2, 0))))));
    world.events.clear();
    assert_eq!(world.drain(), fresh(&["logged", "memory"]));
}

#[test]
fn a_settlement_does_not_wait_for_the_log() {
    let mut world = World::with_queue(true, false);
    world.put(ShardInput::Publish(publish(&["a", "b"], true)));
    world.subscribe(consumer(1), false, 1);
    world.events.clear();
    world.put(ShardInput::Publish(publish(&["c"], true)));
    world.settle(&[0], Settlement::Done);
    assert_eq!(world.delivered(), [(1, String::from("b"), false)]);
}

#[test]
fn a_restart_finds_confirmed_messages_and_not_the_settled_ones() {
    let mut world = World::with_queue(true, false);
    world.put(ShardInput::Publish(publish(&["a", "b", "c"], true)));
    world.put(ShardInput::Publish(publish(&["memory only"], false)));
    world.commit();
    assert_eq!(world.restarted().drain(), fresh(&["a", "b", "c"]));
    world.subscribe(consumer(1), false, 0);
    world.settle(&[1], Settlement::Done);
    world.commit();
    assert_eq!(world.restarted().drain(), [("a".into(), true), ("c".into(), true)]);
}

#[test]
fn messages_that_may_have_been_handed_out_before_a_restart_are_flagged_after_it() {
    let mut world = World::with_queue(true, false);
    world.put(ShardInput::Publish(publish(&["a"], true)));
    world.commit();
    let holder = ConsumerKey { connection: ConnectionId(1), channel: 1, serial: 0 };
    world.put(ShardInput::Get { queue: QUEUE, holder, no_ack: false });
    assert_eq!(world.events.iter().filter(|(_, event)| matches!(event, Event::Got(_))).count(), 0);
    world.commit();
    assert!(world.events.iter().any(|(_, event)| matches!(event, Event::Got(Some(_)))));
    let mut second = world.restarted();
    second.commit();
    let mut third = second.restarted();
    assert_eq!(third.drain(), [("a".into(), true)], "the flag outlives a second restart");
}

#[test]
fn purge_drops_ready_messages_for_good_and_leaves_the_held_ones() {
    let mut world = World::with_queue(true, false);
    world.put(ShardInput::Publish(publish(&["held", "b", "c"], true)));
    world.subscribe(consumer(1), false, 1);
    world.events.clear();
    world.put(ShardInput::Purge { queue: QUEUE, connection: ConnectionId(3) });
    world.commit();
    assert_eq!(world.events, [(ConnectionId(3), Event::Purged(2))]);
    assert_eq!(world.restarted().drain(), [("held".into(), true)]);
}

#[test]
fn a_deleted_queue_stays_deleted_after_a_restart() {
    let mut world = World::with_queue(true, false);
    world.put(ShardInput::Publish(publish(&["a"], true)));
    world.put(delete_if(false, false, false, 1));
    world.commit();
    assert_eq!(world.deleted, [(1, Ok(1))]);
    assert_eq!(world.restarted().shard.queue_ids().count(), 0);
}

#[test]
fn an_entry_is_cut_at_its_bounds_and_nothing_is_lost_by_it() {
    let mut world = World::with_queue(true, false);
    let body = "x".repeat(100 << 10);
    for _ in 0..7 {
        world.put(ShardInput::Publish(publish(&[&body], true)));
    }
    let before = world.log.len();
    world.commit();
    assert_eq!(world.log.len() - before, 3, "three of 100 KiB reach 256 KiB");
    assert_eq!(world.restarted().drain().len(), 7);
}

#[test]
fn only_settlements_are_in_no_hurry() {
    let mut world = World::with_queue(true, false);
    assert!(!world.shard.has_urgent());
    world.put(ShardInput::Publish(publish(&["a", "b"], true)));
    assert!(world.shard.has_urgent());
    world.subscribe(consumer(1), false, 0);
    assert!(!world.shard.has_urgent() && world.shard.is_drained());
    world.settle(&[0], Settlement::Done);
    assert!(!world.shard.has_urgent() && !world.shard.is_drained());
    world.put(ShardInput::Create {
        queue: QueueId(2),
        settings: QueueSettings { logged: true, ..QueueSettings::default() },
    });
    assert!(world.shard.has_urgent(), "it shares a step with the settlement");
    world.commit();
    assert!(!world.shard.has_urgent());
    world.put(ShardInput::Publish(publish(&["c"], true)));
    assert!(world.shard.take_entry(0).is_some());
    assert!(!world.shard.has_urgent(), "what is in flight has not to be taken again");
    world.put(ShardInput::Count { queue: QUEUE, connection: ConnectionId(3) });
    assert!(!world.shard.has_urgent(), "it waits for the entry in flight and no other");
    world.settle(&[1], Settlement::Done);
    world.put(ShardInput::Count { queue: QUEUE, connection: ConnectionId(3) });
    assert!(world.shard.has_urgent());
    let mut restarted = world.restarted();
    assert!(restarted.shard.has_urgent(), "an epoch starts");
    restarted.commit();
    assert!(!restarted.shard.has_urgent());
}

#[test]
fn what_waits_for_the_log_is_counted_in_octets() {
    let mut world = World::with_queue(true, false);
    world.put(ShardInput::Publish(publish(&["a", "b"], true)));
    world.subscribe(consumer(1), false, 0);
    world.put(ShardInput::Publish(publish(&["c"], true)));
    world.settle(&[0], Settlement::Done);
    world.settle(&[1], Settlement::Done);
    world.put(ShardInput::Publish(publish(&["d"], false)));
    assert_eq!(world.shard.waiting_bytes(), 21 + 2 * 5 + 21);
    world.commit();
    assert_eq!(world.shard.waiting_bytes(), 0);
}

#[test]
fn a_message_that_is_committed_now_is_delivered_without_a_look_into_the_log() {
    struct Nothing;

    impl Bodies for Nothing {
        fn read(&mut self, at: Location) -> Message {
            panic!("{at:?} was read")
        }
    }

    let mut world = World::with_queue(true, false);
    world.subscribe(consumer(1), false, 0);
    for round in 0..50 {
        world.put(ShardInput::Publish(publish(&["first", "second"], true)));
        let entry = world.shard.take_entry(0).expect("the publishes are to be logged");
        let at = world.log.append(&entry);
        let mut out = ShardOutput::default();
        world.shard.committed(at, &mut Nothing, &mut out);
        world.collect(out);
        let bodies: Vec<String> = world.delivered().into_iter().map(|(_, body, _)| body).collect();
        assert_eq!(bodies, ["first", "second"]);
        let range = PositionRange { first: 2 * round, len: 2 };
        let (holder, settlement) = (consumer(1).on_channel(), Settlement::Done);
        let input = ShardInput::Settle { queue: QUEUE, holder, ranges: vec![range], settlement };
        let mut out = ShardOutput::default();
        world.shard.handle(input, &mut Nothing, &mut out);
    }
}

#[test]
fn a_large_message_is_delivered_without_a_look_into_the_log_and_then_forgotten() {
    let mut world = World::with_queue(true, false);
    world.subscribe(consumer(1), false, 0);
    world.put(ShardInput::Publish(publish(&[&"x".repeat(crate::limits::RECENT_BYTES)], true)));
    world.commit();
    assert_eq!(world.delivered().len(), 1);
    world.settle(&[0], Settlement::Requeue);
    assert_eq!(world.log.reads(), 0);
    world.put(ShardInput::Get { queue: QUEUE, holder: consumer(2), no_ack: false });
    world.commit();
    assert_eq!(world.log.reads(), 1, "only the second time");
}

#[test]
fn a_relocation_is_without_effect_for_what_is_gone() {
    let mut world = World::with_queue(true, false);
    world.put(ShardInput::Publish(publish(&["a", "b"], true)));
    world.commit();
    let survivors = world.shard.snapshot().survivors(&(0..9).collect());
    let octets: Vec<Bytes> = survivors.iter().map(|survivor| world.log.octets(survivor.location)).collect();
    let mut payload = vec![];
    let moved = survivors.iter().zip(&octets).map(|(survivor, octets)| (&survivor.references[..], &octets[..]));
    crate::command::encode_relocation(moved, &mut payload);
    let at = world.log.append(&[Bytes::from(payload.clone())]);
    world.put(ShardInput::Get { queue: QUEUE, holder: consumer(1), no_ack: true });
    world.commit();
    world.shard.relocated(at, &payload).expect("it was encoded");
    let live = world.shard.snapshot().live();
    assert!(live.into_iter().eq([(at.segment, octets[1].len() as u64)]));
    world.put(delete_if(false, false, false, 1));
    world.shard.relocated(at, &payload).expect("it was encoded");
    assert!(world.shard.snapshot().live().is_empty());
}

fn with_rules(rules: QueueSettings) -> World {
    World::with(QueueSettings { logged: true, ..rules })
}

#[test]
fn a_queue_that_nobody_uses_for_too_long_is_named_once() {
    let mut world = with_rules(QueueSettings { expires: Some(1_000), ..QueueSettings::default() });
    assert_eq!(world.shard.next_deadline(), Some(NOW + 1_000));
    world.tick(NOW + 999);
    assert_eq!(world.unused, []);
    world.tick(NOW + 1_000);
    assert_eq!((&world.unused[..], world.shard.next_deadline()), (&[QUEUE][..], None));
    world.tick(NOW + 5_000);
    assert_eq!(world.unused, [QUEUE]);
}

#[test]
fn get_declare_and_the_end_of_the_last_consumer_begin_the_time_anew() {
    let mut world = with_rules(QueueSettings { expires: Some(1_000), ..QueueSettings::default() });
    world.tick(NOW + 900);
    world.put(ShardInput::Get { queue: QUEUE, holder: consumer(1), no_ack: true });
    world.commit();
    assert_eq!(world.shard.next_deadline(), Some(NOW + 1_900));
    world.tick(NOW + 1_800);
    world.put(ShardInput::Count { queue: QUEUE, connection: ConnectionId(1) });
    assert_eq!(world.shard.next_deadline(), Some(NOW + 2_800));
    for ends in [
        ShardInput::Unsubscribe { queue: QUEUE, consumer: consumer(1) },
        ShardInput::Detach { connection: ConnectionId(1), queue: None },
    ] {
        world.subscribe(consumer(1), true, 0);
        assert_eq!(world.shard.next_deadline(), None, "no queue with a consumer expires");
        let now = NOW + 10_000 * (1 + world.log.len() as u64);
        world.tick(now);
        world.put(ends);
        assert_eq!(world.shard.next_deadline(), Some(now + 1_000));
    }
    assert_eq!(world.unused, []);
}

#[test]
fn a_queue_that_was_used_since_it_was_named_is_not_deleted() {
    let mut world = with_rules(QueueSettings { expires: Some(1_000), ..QueueSettings::default() });
    world.put(delete_if(false, false, true, 1));
    world.tick(NOW + 1_000);
    world.put(ShardInput::Count { queue: QUEUE, connection: ConnectionId(1) });
    world.put(delete_if(false, false, true, 2));
    assert_eq!(world.deleted, [(1, Err(DeleteRefusal::InUse)), (2, Err(DeleteRefusal::InUse))]);
    world.tick(NOW + 2_000);
    world.put(delete_if(false, false, true, 3));
    assert_eq!((world.deleted[2], world.shard.next_deadline()), ((3, Ok(0)), None));
    assert_eq!(world.unused, [QUEUE, QUEUE]);
}

#[test]
fn the_time_without_use_begins_anew_with_a_restart() {
    let world = with_rules(QueueSettings { expires: Some(1_000), ..QueueSettings::default() });
    let mut second = world.restarted();
    assert_eq!(second.shard.next_deadline(), None, "it does not know the time yet");
    second.tick(NOW + 50_000);
    assert_eq!((&second.unused[..], second.shard.next_deadline()), (&[][..], Some(NOW + 51_000)));
}

#[test]
fn settings_outlive_a_restart_and_so_does_their_change() {
    let expires = |millis| QueueSettings { logged: true, expires: Some(millis), ..QueueSettings::default() };
    let mut world = World::with(expires(1_000));
    let settings = |world: &World| QueueSettings::clone(&world.shard.queues[&QUEUE].settings);
    assert_eq!(settings(&world.restarted()), expires(1_000));
    world.put(ShardInput::Publish(publish(&["a"], true)));
    for millis in [2_000, 3_000, 2_000, 3_000] {
        world.put(ShardInput::Create { queue: QUEUE, settings: expires(millis) });
    }
    assert_eq!(settings(&world), expires(1_000), "it waits for the log, as the publish does");
    world.commit();
    assert_eq!(settings(&world), expires(3_000));
    assert_eq!(settings(&world.restarted()), expires(3_000));
    let before = world.log.len();
    world.put(ShardInput::Create { queue: QUEUE, settings: expires(3_000) });
    world.commit();
    assert_eq!(world.log.len(), before, "what does not change is not logged");
    let plain = QueueSettings { logged: true, ..QueueSettings::default() };
    world.put(ShardInput::Create { queue: QUEUE, settings: plain.clone() });
    world.commit();
    assert_eq!((settings(&world.restarted()), world.shard.next_deadline()), (plain, None));
}

#[test]
fn a_change_of_settings_takes_effect_at_its_place_between_publishes() {
    let mut world = with_rules(QueueSettings::default());
    world.put(ShardInput::Publish(publish(&["a"], true)));
    let settings = QueueSettings { logged: true, expires: Some(7), ..QueueSettings::default() };
    world.put(ShardInput::Create { queue: QUEUE, settings: settings.clone() });
    assert!(world.shard.has_urgent());
    world.commit();
    let back = Shard::restore(&world.shard.snapshot().encode()).expect("it was encoded");
    assert_eq!(*back.queues[&QUEUE].settings, settings);
}
