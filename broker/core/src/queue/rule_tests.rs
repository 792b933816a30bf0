//! Rules by which messages expire, are dropped, refused, dead-lettered, kept in an order of their own, or recognized.

use alloc::vec;
use alloc::vec::Vec;
use std::string::String;

use bytes::Bytes;

use super::tests::{NOW, QUEUE, World, consumer};
use super::*;
use crate::command::{Attributes, encode_publish_head};
use crate::identity::ConnectionId;

const PUBLISHER: ConnectionId = ConnectionId(9);

pub(super) fn logged() -> QueueSettings {
    QueueSettings { logged: true, ..QueueSettings::default() }
}

fn memory() -> QueueSettings {
    QueueSettings::default()
}

/// Publishes of one run, each with its attributes.
fn run(queues: &[QueueId], messages: &[(&str, Attributes<'_>)], logged: bool) -> PublishRun {
    let mut commands = Vec::new();
    for (body, attributes) in messages {
        let to = (queues.len(), queues.iter().copied());
        encode_publish_head(to, 0, 0, 3, body.len() as u32, attributes, &mut commands);
        commands.extend_from_slice(b"HDR");
        commands.extend_from_slice(body.as_bytes());
    }
    let len = messages.len() as u64;
    let receipts = vec![Receipt { connection: PUBLISHER, channel: 1, first: 1, len, index: 0 }];
    PublishRun { logged, commands: Bytes::from(commands), count: len as u32, receipts }
}

impl World {
    /// Publishes the way the queue wants it and waits until it is done.
    pub(super) fn send(&mut self, messages: &[(&str, Attributes<'_>)]) {
        let logged = self.shard.queues[&QUEUE].settings.logged;
        self.put(ShardInput::Publish(run(&[QUEUE], messages, logged)));
        self.commit();
    }

    pub(super) fn send_plain(&mut self, bodies: &[&str]) {
        let messages: Vec<_> = bodies.iter().map(|body| (*body, Attributes::default())).collect();
        self.send(&messages);
    }

    /// Takes what the forwarder was told: reason, body, position.
    pub(super) fn forwarded(&mut self) -> Vec<(ForwardReason, String, u64)> {
        let mut forwarded = vec![];
        self.events.retain(|(to, event)| {
            if let Event::Forward(forward) = event {
                assert_eq!((*to, forward.queue), (ConnectionId::FORWARDER, QUEUE));
                let body = String::from_utf8_lossy(forward.message.body()).into_owned();
                forwarded.push((forward.reason, body, forward.position));
                return false;
            }
            true
        });
        forwarded
    }

    /// What the publisher was told: refused, first, len.
    pub(super) fn answers(&mut self) -> Vec<(bool, u64, u64)> {
        let answer = |(_, event): (ConnectionId, Event)| match event {
            Event::Confirmed { first, len, .. } => Some((false, first, len)),
            Event::Refused { first, len, .. } => Some((true, first, len)),
            _ => None,
        };
        self.events.drain(..).filter_map(answer).collect()
    }

    pub(super) fn give(&mut self, position: u64, settlement: Settlement) {
        self.settle_by(self.holder(position), &[position], settlement);
    }

    /// Gets the next message to settle: body, delivery count, position.
    pub(super) fn take_one(&mut self) -> Option<(String, u32, u64)> {
        self.events.clear();
        self.put(ShardInput::Get { queue: QUEUE, holder: consumer(3), no_ack: false });
        self.commit();
        self.events.drain(..).find_map(|(_, event)| match event {
            Event::Got(Some((delivery, _))) => {
                let body = String::from_utf8_lossy(delivery.message.body()).into_owned();
                Some((body, delivery.delivery_count, delivery.position))
            }
            _ => None,
        })
    }

    pub(super) fn rest(&mut self) -> Vec<String> {
        self.drain().into_iter().map(|(body, _)| body).collect()
    }

    pub(super) fn ready(&self) -> u64 {
        self.shard.totals().ready
    }

    /// Both ways in which a process can find what was logged.
    pub(super) fn after_restarts(&self) -> [Self; 2] {
        [self.restarted(), self.restored()]
    }
}

pub(super) fn expiring(millis: u64) -> Attributes<'static> {
    Attributes { expiration: Some(millis), ..Attributes::default() }
}

fn of_priority(priority: u8) -> Attributes<'static> {
    Attributes { priority: Some(priority), ..Attributes::default() }
}

pub(super) fn none() -> Attributes<'static> {
    Attributes::default()
}

#[test]
fn a_message_that_has_waited_for_its_time_is_gone_for_good() {
    for settings in [logged(), memory()] {
        let mut world = World::with(QueueSettings { message_ttl: Some(100), ..settings });
        world.send_plain(&["a"]);
        world.tick(NOW + 40);
        world.send_plain(&["b"]);
        assert_eq!(world.shard.next_deadline(), Some(NOW + 100));
        world.tick(NOW + 99);
        assert_eq!(world.ready(), 2);
        world.tick(NOW + 100);
        assert_eq!((world.ready(), world.shard.next_deadline()), (1, Some(NOW + 140)));
        world.commit();
        if world.shard.queues[&QUEUE].settings.logged {
            assert!(world.after_restarts().iter().all(|world| world.ready() == 1));
        }
        world.tick(NOW + 140);
        assert_eq!((world.ready(), world.shard.next_deadline(), world.forwarded()), (0, None, vec![]));
    }
}

#[test]
fn the_shorter_of_the_queues_and_the_messages_own_time_counts() {
    let mut world = World::with(QueueSettings { message_ttl: Some(100), ..logged() });
    world.send(&[("a", expiring(50))]);
    assert_eq!(world.shard.next_deadline(), Some(NOW + 50));
    world.tick(NOW + 50);
    world.send(&[("b", expiring(500))]);
    assert_eq!((world.ready(), world.shard.next_deadline()), (1, Some(NOW + 150)));
}

#[test]
fn a_message_expires_at_the_head_of_its_queue_only() {
    let mut world = World::with(logged());
    world.send(&[("forever", none()), ("short", expiring(10)), ("last", none())]);
    world.tick(NOW + 1_000);
    assert_eq!((world.ready(), world.shard.next_deadline()), (3, None));
    assert_eq!(world.rest(), ["forever", "last"]);
}

#[test]
fn what_is_over_behind_a_message_that_was_got_is_not_counted_any_more() {
    let mut world = World::with(logged());
    world.send(&[("first", none()), ("over", expiring(0)), ("last", none())]);
    world.events.clear();
    world.put(ShardInput::Get { queue: QUEUE, holder: consumer(3), no_ack: true });
    world.commit();
    let counts = world.events.iter().filter_map(|(_, event)| match event {
        Event::Got(got) => Some(got.as_ref().map(|(_, ready)| *ready)),
        _ => None,
    });
    assert_eq!(counts.collect::<Vec<_>>(), [Some(1)]);
}

#[test]
fn what_expires_at_once_goes_to_whoever_can_take_it_now() {
    for settings in [logged(), memory()] {
        let mut world = World::with(settings);
        world.send(&[("nobody", expiring(0))]);
        assert_eq!(world.ready(), 0);
        world.subscribe(consumer(1), false, 1);
        world.events.clear();
        // The log takes its time, and the message does not.
        let settings_logged = world.shard.queues[&QUEUE].settings.logged;
        let messages = [("taken", expiring(0)), ("late", expiring(0))];
        world.put(ShardInput::Publish(run(&[QUEUE], &messages, settings_logged)));
        let entry = world.shard.take_entry(NOW);
        world.tick(NOW + 5);
        if let Some(entry) = entry {
            let at = world.log.append(&entry);
            let mut out = ShardOutput::default();
            world.shard.committed(at, &mut world.log, &mut out);
            world.collect(out);
        }
        assert_eq!(world.delivered(), [(1, "taken".into(), false)]);
        assert_eq!(world.ready(), 0);
    }
}

#[test]
fn a_message_that_comes_back_keeps_its_time() {
    let mut world = World::with(logged());
    world.send(&[("a", expiring(100)), ("b", none())]);
    let (_, _, position) = world.take_one().expect("it is there");
    world.tick(NOW + 200);
    world.give(position, Settlement::Requeue);
    assert_eq!(world.ready(), 1);
    assert_eq!(world.rest(), ["b"]);
}

#[test]
fn a_time_outlives_a_restart_and_is_looked_at_when_the_clock_is_known() {
    let mut world = World::with(logged());
    world.send(&[("short", expiring(100)), ("long", expiring(200)), ("forever", none())]);
    for mut world in world.after_restarts() {
        assert_eq!(world.ready(), 3);
        world.tick(NOW + 150);
        assert_eq!((world.ready(), world.shard.next_deadline()), (2, Some(NOW + 200)));
        assert_eq!(world.rest(), ["long", "forever"]);
    }
}

#[test]
fn the_oldest_messages_make_room_for_new_ones() {
    for settings in [logged(), memory()] {
        let is_logged = settings.logged;
        let mut world = World::with(QueueSettings { max_length: Some(2), ..settings });
        world.send_plain(&["a", "b", "c"]);
        let (body, _, position) = world.take_one().expect("it is there");
        assert_eq!((&body[..], world.ready()), ("b", 1), "the bound counts what is ready");
        world.send_plain(&["d"]);
        world.give(position, Settlement::Requeue);
        assert_eq!(world.ready(), 2, "what comes back is the oldest");
        world.commit();
        if is_logged {
            world.after_restarts().into_iter().for_each(|mut world| assert_eq!(world.rest(), ["c", "d"]));
        }
        assert_eq!(world.rest(), ["c", "d"]);
    }
}

#[test]
fn octets_of_bodies_are_counted_and_nothing_else_of_a_message() {
    for settings in [logged(), memory()] {
        let is_logged = settings.logged;
        let mut world = World::with(QueueSettings { max_length_bytes: Some(10), ..settings });
        world.send_plain(&["12345", "67890"]);
        assert_eq!(world.ready(), 2);
        world.send_plain(&["x"]);
        assert_eq!(world.ready(), 2);
        if is_logged {
            for mut world in world.after_restarts() {
                world.send_plain(&["1234"]);
                assert_eq!(world.ready(), 3);
                world.send_plain(&["1"]);
                assert_eq!(world.rest(), ["x", "1234", "1"]);
            }
        }
        world.send_plain(&["more than it may hold"]);
        assert_eq!(world.ready(), 0, "not even alone");
    }
}

#[test]
fn a_length_of_nothing_leaves_what_a_consumer_takes_at_once() {
    let mut world = World::with(QueueSettings { max_length: Some(0), ..memory() });
    world.subscribe(consumer(1), false, 1);
    world.events.clear();
    world.send_plain(&["a", "b"]);
    assert_eq!((world.delivered(), world.ready()), (vec![(1, "a".into(), false)], 0));
}

#[test]
fn a_full_queue_refuses_and_each_publish_is_answered_once() {
    for settings in [logged(), memory()] {
        let is_logged = settings.logged;
        let mut world =
            World::with(QueueSettings { max_length: Some(2), overflow: Overflow::RejectPublish, ..settings });
        world.send_plain(&["a", "b", "c", "d"]);
        assert_eq!(world.answers(), [(false, 1, 2), (true, 3, 2)]);
        if is_logged {
            world.commit();
            world.after_restarts().into_iter().for_each(|mut world| assert_eq!(world.rest(), ["a", "b"]));
        }
        assert_eq!(world.rest(), ["a", "b"]);
    }
}

#[test]
fn a_consumer_that_takes_makes_room_between_the_messages_of_a_run() {
    let mut world = World::with(QueueSettings { max_length: Some(1), overflow: Overflow::RejectPublish, ..memory() });
    world.subscribe(consumer(1), false, 2);
    world.send_plain(&["a", "b", "c", "d"]);
    assert_eq!(world.answers(), [(false, 1, 3), (true, 4, 1)]);
    assert_eq!(world.ready(), 1);
}

#[test]
fn a_publish_to_several_queues_is_refused_if_one_of_them_is_full() {
    let mut world = World::with(QueueSettings { max_length: Some(1), overflow: Overflow::RejectPublish, ..logged() });
    let other = QueueId(2);
    world.put(ShardInput::Create { queue: other, settings: logged() });
    let mut both = run(&[QUEUE, other], &[("a", none()), ("b", none()), ("c", none())], true);
    // The first is nobody's, and the others are of two channels.
    let receipt = |channel, first, index| Receipt { connection: PUBLISHER, channel, first, len: 1, index };
    both.receipts = vec![receipt(4, 70, 1), receipt(5, 80, 2)];
    world.put(ShardInput::Publish(both));
    world.commit();
    assert_eq!(world.answers(), [(true, 70, 1), (true, 80, 1)]);
    assert_eq!(world.shard.queues[&other].ready(), 3);
    assert_eq!(world.shard.queues[&QUEUE].ready(), 1);
}

#[test]
fn answers_cut_a_receipt_where_refusals_begin_and_end() {
    let receipt = Receipt { connection: PUBLISHER, channel: 1, first: 100, len: 5, index: 3 };
    for (refused, expected) in [
        (&[][..], vec![(false, 100, 5)]),
        (&[0, 2, 8], vec![(false, 100, 5)]),
        (&[3], vec![(true, 100, 1), (false, 101, 4)]),
        (&[7, 8], vec![(false, 100, 4), (true, 104, 1)]),
        (&[1, 4, 5, 7], vec![(false, 100, 1), (true, 101, 2), (false, 103, 1), (true, 104, 1)]),
        (&[3, 4, 5, 6, 7], vec![(true, 100, 5)]),
    ] {
        let mut world = World::with(memory());
        let mut out = ShardOutput::default();
        shard::answer(&receipt, refused, &mut out);
        world.collect(out);
        assert_eq!(world.answers(), expected, "{refused:?}");
    }
}

pub(super) fn quorum() -> QueueSettings {
    QueueSettings { kind: QueueKind::Quorum, ..logged() }
}

#[test]
fn quorum_queues_count_failed_deliveries_and_nothing_else() {
    let mut world = World::with(quorum());
    world.send_plain(&["a"]);
    for (settlement, count) in [
        (Settlement::Requeue, 0),
        (Settlement::Fail, 0),
        (Settlement::Return, 1),
        (Settlement::Requeue, 1),
        (Settlement::Fail, 1),
    ] {
        let (_, so_far, position) = world.take_one().expect("it is there");
        assert_eq!(so_far, count, "before {settlement:?}");
        world.give(position, settlement);
    }
    world.commit();
    for mut world in world.after_restarts() {
        assert_eq!(world.take_one().expect("it is there").1, 2);
        world.put(ShardInput::Detach { connection: consumer(3).connection, queue: None });
        assert_eq!(world.take_one().expect("it is there").1, 3, "its holder went");
    }
}

#[test]
fn classic_queues_do_not_count() {
    let mut world = World::with(QueueSettings { message_ttl: Some(1_000), ..logged() });
    world.send_plain(&["a"]);
    for _ in 0..2 {
        let (_, count, position) = world.take_one().expect("it is there");
        assert_eq!(count, 0);
        world.give(position, Settlement::Fail);
    }
}

#[test]
fn a_message_that_came_back_too_often_is_dead_lettered_or_dropped() {
    for dead_lettering in [DeadLettering::None, DeadLettering::AtLeastOnce] {
        let mut world = World::with(QueueSettings { delivery_limit: Some(2), dead_lettering, ..quorum() });
        world.send_plain(&["a"]);
        for _ in 0..3 {
            let (_, _, position) = world.take_one().expect("it is there");
            world.give(position, Settlement::Fail);
        }
        let count = world.events.iter().find_map(|(_, event)| match event {
            Event::Forward(forward) => Some((forward.reason, forward.delivery_count)),
            _ => None,
        });
        let forwards = dead_lettering != DeadLettering::None;
        assert_eq!(count, forwards.then_some((ForwardReason::DeliveryLimit, 3)));
        assert_eq!(world.ready(), 0);
        world.commit();
        assert!(world.after_restarts().iter().all(|world| world.ready() == u64::from(forwards)));
    }
}

#[test]
fn what_never_reached_its_consumer_goes_back_as_if_nothing_had_happened() {
    for settings in [memory(), QueueSettings { max_length: Some(5), ..memory() }] {
        let mut world = World::with(settings);
        world.send_plain(&["a"]);
        let (_, _, position) = world.take_one().expect("it is there");
        world.give(position, Settlement::Return);
        assert_eq!(world.drain(), [("a".into(), false)]);
    }
}

#[test]
fn a_message_that_came_back_waits_by_its_count_and_keeps_its_place() {
    let retry_delay = Some(RetryDelay { of: Returned::All, min_millis: 500, max_millis: 1_200 });
    let mut world = World::with(QueueSettings { retry_delay, ..quorum() });
    world.send_plain(&["a", "b"]);
    let mut now = NOW;
    for (settlement, wait) in [
        (Settlement::Requeue, 500),
        (Settlement::Fail, 500),
        (Settlement::Fail, 1_000),
        (Settlement::Requeue, 1_000),
        (Settlement::Fail, 1_200),
    ] {
        let (body, _, position) = world.take_one().expect("it is there");
        assert_eq!(body, "a", "it is before the other one");
        world.give(position, settlement);
        let totals = ShardTotals { queues: 1, ready: 1, unacked: 0, consumers: 0 };
        assert_eq!((world.shard.totals(), world.shard.next_deadline()), (totals, Some(now + wait)));
        now += wait;
        world.tick(now - 1);
        assert_eq!(world.ready(), 1);
        world.tick(now);
        assert_eq!(world.ready(), 2);
    }
    world.commit();
    assert!(world.after_restarts().iter().all(|world| world.ready() == 2));
}

#[test]
fn only_those_wait_that_are_to() {
    for (of, waits) in [(Returned::Failed, [false, true]), (Returned::GivenBack, [true, false])] {
        let retry_delay = Some(RetryDelay { of, min_millis: 500, max_millis: 500 });
        for (settlement, waits) in [Settlement::Requeue, Settlement::Fail].into_iter().zip(waits) {
            let mut world = World::with(QueueSettings { retry_delay, ..quorum() });
            world.send_plain(&["a"]);
            let (_, _, position) = world.take_one().expect("it is there");
            world.give(position, settlement);
            assert_eq!(world.ready() == 0, waits, "{settlement:?} of {of:?}");
        }
    }
}

#[test]
fn higher_priorities_come_first_and_each_in_its_order() {
    for settings in [logged(), memory()] {
        let is_logged = settings.logged;
        let mut world = World::with(QueueSettings { max_priority: 10, ..settings });
        let messages = [(0, "c1"), (5, "b1"), (255, "a1"), (5, "b2"), (10, "a2"), (1, "b3")];
        world.send(&messages.map(|(priority, body)| (body, of_priority(priority))));
        world.send_plain(&["c2"]);
        let expected = ["a1", "a2", "b1", "b2", "b3", "c1", "c2"];
        if is_logged {
            world.after_restarts().into_iter().for_each(|mut world| assert_eq!(world.rest(), expected));
        }
        let (_, _, position) = world.take_one().expect("it is there");
        assert_eq!(position, 10 << 56);
        world.give(position, Settlement::Requeue);
        assert_eq!(world.rest(), expected);
    }
}

#[test]
fn without_priorities_all_messages_are_of_one() {
    let mut world = World::with(logged());
    world.send(&[("a", of_priority(1)), ("b", of_priority(9))]);
    assert_eq!(world.rest(), ["a", "b"]);
}

#[test]
fn in_a_quorum_queue_a_message_without_a_priority_has_the_fourth_and_the_highest_is_31() {
    let mut world = World::with(quorum());
    let messages = [Some(3), None, Some(4), Some(5), Some(31), Some(200)];
    let attributes = messages.map(|priority| Attributes { priority, ..Attributes::default() });
    world.send(&["3", "none", "4", "5", "31", "200"].into_iter().zip(attributes).collect::<Vec<_>>());
    let expected = ["31", "200", "5", "none", "4", "3"];
    world.after_restarts().into_iter().for_each(|mut world| assert_eq!(world.rest(), expected));
    assert_eq!(world.rest(), expected);
}

#[test]
fn the_lowest_priority_makes_room_and_each_priority_expires_at_its_own_head() {
    let mut world = World::with(QueueSettings { max_length: Some(2), max_priority: 5, ..logged() });
    world.send(&[("high", of_priority(5)), ("low 1", none()), ("low 2", none())]);
    let short = Attributes { expiration: Some(10), ..of_priority(3) };
    assert_eq!(world.ready(), 2);
    world.send(&[("middle", short)]);
    world.tick(NOW + 10);
    assert_eq!(world.rest(), ["high"]);
}

pub(super) fn delayed() -> QueueSettings {
    QueueSettings { kind: QueueKind::Delayed, ..logged() }
}

pub(super) fn after(millis: u64) -> Attributes<'static> {
    Attributes { delay: Some(millis), ..Attributes::default() }
}

#[test]
fn delayed_messages_leave_when_they_are_due_in_the_order_of_their_times() {
    let mut world = World::with(delayed());
    world.send(&[("c", after(300)), ("a", after(100)), ("b1", after(200)), ("b2", after(200)), ("now", after(0))]);
    let told = |world: &mut World| -> Vec<String> {
        let told = world.forwarded();
        assert!(told.iter().all(|(reason, ..)| *reason == ForwardReason::Due));
        for (_, _, position) in &told {
            world.give(*position, Settlement::Done);
        }
        told.into_iter().map(|(_, body, _)| body).collect()
    };
    assert_eq!(told(&mut world), ["now"]);
    assert_eq!((world.ready(), world.shard.next_deadline()), (4, Some(NOW + 100)));
    assert_eq!(world.take_one(), None, "nobody consumes from it");
    world.commit();
    for mut world in world.after_restarts() {
        world.tick(NOW + 250);
        assert_eq!(told(&mut world), ["a", "b1", "b2"]);
        assert_eq!((world.ready(), world.shard.next_deadline()), (1, Some(NOW + 300)));
        world.put(ShardInput::Purge { queue: QUEUE, connection: ConnectionId(3) });
        world.commit();
        assert_eq!((world.ready(), world.shard.next_deadline()), (0, None));
    }
}

fn keyed(key: u128) -> Attributes<'static> {
    Attributes { deduplication: Some(key), ..Attributes::default() }
}

#[test]
fn a_message_that_the_queue_has_had_is_confirmed_and_dropped() {
    for settings in [logged(), memory()] {
        let is_logged = settings.logged;
        let deduplication = Some(Deduplication { cache_size: 10, cache_millis: Some(1_000) });
        let mut world = World::with(QueueSettings { deduplication, ..settings });
        world.send(&[("a", keyed(1)), ("again", keyed(1)), ("b", keyed(2)), ("c", none())]);
        assert_eq!((world.answers(), world.ready()), (vec![(false, 1, 4)], 3));
        world.commit();
        let worlds = if is_logged { world.after_restarts().into() } else { vec![] };
        for mut world in worlds {
            world.tick(NOW + 999);
            world.send(&[("once more", keyed(2)), ("d", keyed(3))]);
            assert_eq!(world.rest(), ["a", "b", "c", "d"]);
        }
        world.tick(NOW + 1_000);
        world.send(&[("long after", keyed(1))]);
        assert_eq!(world.rest(), ["a", "b", "c", "long after"]);
    }
}

#[test]
fn a_logged_message_is_no_duplicate_of_one_that_a_restart_would_not_find() {
    let deduplication = Some(Deduplication { cache_size: 10, cache_millis: None });
    let mut world = World::with(QueueSettings { deduplication, ..logged() });
    for (body, is_logged) in [("a", false), ("again", false), ("b", true), ("once more", true), ("and again", false)] {
        world.put(ShardInput::Publish(run(&[QUEUE], &[(body, keyed(1))], is_logged)));
        world.commit();
        assert_eq!(world.answers(), [(false, 1, 1)], "{body}");
    }
    assert_eq!(world.after_restarts().map(|mut world| world.rest()), [["b"], ["b"]]);
    assert_eq!(world.rest(), ["a", "b"]);
}

#[test]
fn a_message_that_was_refused_is_no_duplicate_when_it_comes_again() {
    let deduplication = Some(Deduplication { cache_size: 10, cache_millis: None });
    let (max_length, overflow) = (Some(1), Overflow::RejectPublish);
    let mut world = World::with(QueueSettings { deduplication, max_length, overflow, ..logged() });
    world.send(&[("a", keyed(1)), ("b", keyed(2))]);
    assert_eq!(world.answers(), [(false, 1, 1), (true, 2, 1)]);
    world.commit();
    for mut world in world.after_restarts() {
        assert_eq!(world.rest(), ["a"]);
        world.send(&[("b", keyed(2))]);
        assert_eq!(world.delivered(), [(77, "b".into(), false)]);
    }
}

#[test]
fn who_is_refused_is_told_when_the_log_says_so() {
    let forwarding = QueueSettings { dead_lettering: DeadLettering::AtMostOnce, ..logged() };
    for (settings, attributes) in [(logged(), none()), (logged(), keyed(1)), (forwarding, keyed(1))] {
        let deduplication = Some(Deduplication { cache_size: 10, cache_millis: None });
        let overflow = match settings.dead_lettering {
            DeadLettering::None => Overflow::RejectPublish,
            _ => Overflow::RejectPublishDeadLetter,
        };
        let mut world = World::with(QueueSettings { max_length: Some(0), deduplication, overflow, ..settings });
        world.put(ShardInput::Publish(run(&[QUEUE], &[("a", attributes)], true)));
        assert!(world.commit_one());
        assert_eq!((world.ready(), world.shard.totals().unacked), (0, 0));
        assert_eq!((world.answers(), world.shard.has_urgent()), (vec![], true), "{attributes:?}");
        assert!(world.commit_one());
        assert_eq!((world.answers(), world.shard.is_drained()), (vec![(true, 1, 1)], true), "{attributes:?}");
    }
}

#[test]
fn who_does_not_wait_for_an_answer_makes_no_haste() {
    let mut world = World::with(QueueSettings { max_length: Some(0), overflow: Overflow::RejectPublish, ..logged() });
    world.put(ShardInput::Publish(PublishRun { receipts: vec![], ..run(&[QUEUE], &[("a", none())], true) }));
    assert!(world.commit_one());
    assert!(!world.shard.has_urgent() && !world.shard.is_drained());
}

#[test]
fn a_shorter_length_takes_effect_at_once() {
    let mut world = World::with(logged());
    world.send_plain(&["a", "b", "c"]);
    world.put(ShardInput::Create { queue: QUEUE, settings: QueueSettings { max_length: Some(1), ..logged() } });
    world.commit();
    assert_eq!(world.rest(), ["c"]);
}
