//! Who of a queue's consumers is served: priorities, and one at a time.

use alloc::vec;
use alloc::vec::Vec;
use std::format;
use std::string::String;

use super::tests::{NOW, QUEUE, World, consumer, publish};
use super::*;
use crate::{ChannelKey, ConnectionId};

/// A queue that is not logged, so that everything takes effect at once.
fn queue_with(settings: QueueSettings) -> World {
    let mut world = World::with_queue(false, false);
    world.put(ShardInput::Create { queue: QUEUE, settings });
    world
}

fn single_active(kind: QueueKind) -> World {
    queue_with(QueueSettings { kind, single_active_consumer: true, ..QueueSettings::default() })
}

fn join(world: &mut World, connection: u64, priority: i32, prefetch_count: u32) {
    let subscription = Subscription { priority, prefetch_count, ..Subscription::default() };
    world.put(ShardInput::Subscribe { queue: QUEUE, consumer: consumer(connection), subscription });
}

fn leave(world: &mut World, connection: u64) {
    world.put(ShardInput::Unsubscribe { queue: QUEUE, consumer: consumer(connection) });
}

/// Publishes one message and answers who got it; 0: nobody.
fn who_gets_one(world: &mut World) -> u64 {
    world.put(ShardInput::Publish(publish(&["one"], false)));
    world.delivered().first().map_or(0, |(connection, ..)| *connection)
}

fn who_gets(world: &mut World, count: usize) -> Vec<u64> {
    (0..count).map(|_| who_gets_one(world)).collect()
}

#[test]
fn a_lower_priority_is_served_only_while_no_higher_one_can_take() {
    let mut world = queue_with(QueueSettings::default());
    for (connection, priority, prefetch) in [(1, 0, 3), (2, 5, 2), (3, 5, 2), (4, -1, 1)] {
        join(&mut world, connection, priority, prefetch);
    }
    assert_eq!(who_gets(&mut world, 9), [2, 3, 2, 3, 1, 1, 1, 4, 0]);
    world.settle(&[7], Settlement::Done);
    assert_eq!(world.delivered()[0].0, 4, "what waits goes to whoever has room");
    world.settle(&[4, 0], Settlement::Done);
    assert_eq!(who_gets(&mut world, 3), [2, 1, 0]);
}

#[test]
fn the_end_of_a_consumer_leaves_the_others_their_priorities() {
    let mut world = queue_with(QueueSettings::default());
    join(&mut world, 1, 1, 0);
    join(&mut world, 2, 2, 0);
    join(&mut world, 3, 3, 0);
    assert_eq!(who_gets(&mut world, 2), [3, 3]);
    leave(&mut world, 3);
    assert_eq!(who_gets(&mut world, 2), [2, 2]);
    join(&mut world, 4, 7, 0);
    leave(&mut world, 2);
    assert_eq!(who_gets(&mut world, 2), [4, 4]);
    leave(&mut world, 4);
    assert_eq!(who_gets(&mut world, 2), [1, 1]);
}

#[test]
fn a_single_active_consumer_is_the_first_until_it_goes() {
    let mut world = single_active(QueueKind::Classic);
    join(&mut world, 1, 0, 2);
    join(&mut world, 2, 0, 2);
    join(&mut world, 3, 0, 2);
    assert_eq!(who_gets(&mut world, 3), [1, 1, 0], "what it has no room for waits for it");
    leave(&mut world, 1);
    assert_eq!(world.delivered()[0].0, 2, "also while the one before holds messages");
    world.put(ShardInput::Detach { connection: ConnectionId(2), queue: None });
    let again: Vec<u64> = world.delivered().into_iter().map(|(connection, ..)| connection).collect();
    assert_eq!(again, [3]);
}

#[test]
fn a_classic_queue_serves_the_highest_priority_next_and_never_takes_over() {
    let mut world = single_active(QueueKind::Classic);
    join(&mut world, 1, 0, 0);
    join(&mut world, 2, 0, 0);
    join(&mut world, 3, 10, 0);
    assert_eq!(who_gets(&mut world, 2), [1, 1]);
    world.settle(&[0, 1], Settlement::Done);
    assert_eq!(who_gets_one(&mut world), 1);
    leave(&mut world, 1);
    assert_eq!(who_gets_one(&mut world), 3);
}

#[test]
fn in_a_quorum_queue_a_higher_priority_takes_over_when_nothing_is_held_any_more() {
    let mut world = single_active(QueueKind::Quorum);
    join(&mut world, 1, 0, 0);
    join(&mut world, 2, 0, 0);
    assert_eq!(who_gets(&mut world, 2), [1, 1]);
    join(&mut world, 3, 10, 0);
    assert_eq!(who_gets_one(&mut world), 0, "the active one is handed nothing more");
    world.settle(&[0], Settlement::Done);
    assert_eq!(world.delivered(), []);
    world.settle(&[1], Settlement::Done);
    assert_eq!(world.delivered()[0].0, 3);
    assert_eq!(who_gets_one(&mut world), 3);
    leave(&mut world, 3);
    assert_eq!(who_gets_one(&mut world), 1, "the one that made room is first of its priority");
}

#[test]
fn a_takeover_that_goes_before_its_time_leaves_the_active_one_active() {
    let mut world = single_active(QueueKind::Quorum);
    join(&mut world, 1, 0, 0);
    assert_eq!(who_gets_one(&mut world), 1);
    join(&mut world, 2, 10, 0);
    assert_eq!(who_gets_one(&mut world), 0);
    leave(&mut world, 2);
    assert_eq!(world.delivered()[0].0, 1);
}

#[test]
fn an_exclusive_consumer_and_a_single_active_one_exclude_each_other_in_classic_queues_only() {
    for (kind, refused) in [(QueueKind::Classic, true), (QueueKind::Quorum, false)] {
        let mut world = single_active(kind);
        let subscription = Subscription { exclusive: true, ..Subscription::default() };
        world.put(ShardInput::Subscribe { queue: QUEUE, consumer: consumer(1), subscription });
        let refusal = Event::Subscribed(consumer(1), Err(SubscribeRefusal::ExclusiveUse));
        assert_eq!(world.events.contains(&(ConnectionId(1), refusal)), refused, "{kind:?}");
    }
}

/// A quorum queue in memory whose consumers may hold a message for 1,600 ms.
fn with_timeout() -> World {
    queue_with(QueueSettings { kind: QueueKind::Quorum, consumer_timeout: Some(1_600), ..QueueSettings::default() })
}

fn timed_out(world: &World) -> Vec<ConsumerKey> {
    let keys = world.events.iter().filter_map(|(_, event)| match event {
        Event::ConsumerTimedOut(key, _) => Some(*key),
        _ => None,
    });
    keys.collect()
}

#[test]
fn a_consumer_that_holds_a_message_for_too_long_ends_and_all_it_holds_goes_back() {
    let mut world = with_timeout();
    join(&mut world, 1, 0, 2);
    world.put(ShardInput::Publish(publish(&["a"], false)));
    world.tick(NOW + 1_000);
    world.put(ShardInput::Publish(publish(&["b", "c"], false)));
    assert_eq!(world.delivered().len(), 2);
    let deadline = world.shard.next_deadline().expect("something is held");
    assert!((NOW + 1_600..NOW + 1_700).contains(&deadline), "{deadline}");
    world.tick(deadline - 1);
    assert_eq!(timed_out(&world), []);
    world.tick(deadline);
    assert_eq!(timed_out(&world), [consumer(1)]);
    assert_eq!(world.shard.totals(), ShardTotals { queues: 1, ready: 3, unacked: 0, consumers: 0 });
    assert_eq!(world.shard.next_deadline(), None);
    world.events.clear();
    join(&mut world, 2, 0, 0);
    let bodies: Vec<(String, bool)> = world.delivered().into_iter().map(|(_, body, flag)| (body, flag)).collect();
    assert_eq!(bodies, [("a".into(), true), ("b".into(), true), ("c".into(), false)]);
}

#[test]
fn who_settles_in_time_is_left_alone_however_busy() {
    let mut world = with_timeout();
    join(&mut world, 1, 0, 0);
    for round in 0..200 {
        world.put(ShardInput::Publish(publish(&["a"], false)));
        world.tick(NOW + 100 * round);
        if round >= 15 {
            world.settle(&[round - 15], Settlement::Done);
        }
    }
    assert_eq!(timed_out(&world), []);
    world.tick(NOW + 19_999);
    assert_eq!(timed_out(&world), []);
    world.tick(NOW + 20_099);
    assert_eq!(timed_out(&world), [consumer(1)]);
}

#[test]
fn a_consumers_own_timeout_is_what_counts_and_no_ack_has_none() {
    let mut world = with_timeout();
    for (connection, timeout, no_ack) in [(1, Some(100_000), false), (2, Some(160), false), (3, Some(1), true)] {
        let subscription =
            Subscription { prefetch_count: 1, consumer_timeout: timeout, no_ack, ..Subscription::default() };
        world.put(ShardInput::Subscribe { queue: QUEUE, consumer: consumer(connection), subscription });
    }
    world.put(ShardInput::Publish(publish(&["a", "b", "c"], false)));
    world.tick(NOW + 160);
    assert_eq!(timed_out(&world), []);
    world.tick(NOW + 180);
    assert_eq!(timed_out(&world), [consumer(2)]);
    world.tick(NOW + 89_000);
    assert_eq!(timed_out(&world), [consumer(2)]);
    world.tick(NOW + 109_000);
    assert_eq!(timed_out(&world), [consumer(2), consumer(1)]);
}

#[test]
fn a_channel_that_extends_begins_its_time_anew_and_others_do_not() {
    let mut world = with_timeout();
    join(&mut world, 1, 0, 1);
    join(&mut world, 2, 0, 1);
    world.put(ShardInput::Publish(publish(&["a", "b"], false)));
    world.tick(NOW + 1_500);
    for channel in [1, 2] {
        // Consumers are on channel 1.
        let channel = ChannelKey { connection: ConnectionId(u64::from(channel)), channel };
        world.put(ShardInput::Extend { queue: QUEUE, channel });
    }
    world.tick(NOW + 3_000);
    assert_eq!(timed_out(&world), [consumer(2)]);
    world.tick(NOW + 3_300);
    assert_eq!(timed_out(&world), [consumer(2), consumer(1)]);
}

#[test]
fn a_message_that_was_got_and_one_whose_consumer_was_cancelled_time_out_too() {
    let mut world = with_timeout();
    join(&mut world, 1, 0, 1);
    world.put(ShardInput::Publish(publish(&["a", "b"], false)));
    leave(&mut world, 1);
    let holder = ConsumerKey { connection: ConnectionId(2), channel: 7, serial: 0 };
    world.put(ShardInput::Get { queue: QUEUE, holder, no_ack: false });
    assert_eq!(world.shard.totals().unacked, 2);
    world.tick(NOW + 2_000);
    assert_eq!(timed_out(&world), [consumer(1), holder]);
    assert_eq!(world.shard.totals().ready, 2);
}

#[test]
fn an_auto_delete_queue_whose_last_consumer_timed_out_is_unused() {
    let mut world = with_timeout();
    let settings = QueueSettings { auto_delete: true, consumer_timeout: Some(1), ..QueueSettings::default() };
    world.put(ShardInput::Create { queue: QUEUE, settings });
    join(&mut world, 1, 0, 1);
    world.put(ShardInput::Publish(publish(&["a"], false)));
    world.tick(NOW + 1);
    assert_eq!((timed_out(&world), &world.unused[..]), (vec![consumer(1)], &[QUEUE][..]));
}

/// A message that its first holder, a consumer or (serial 0) a channel that got it, has held for too long, and that the
/// connection 2 has by now; with its position.
fn held_by_the_next(settings: QueueSettings, serial: u32) -> (World, u64, ConsumerKey) {
    let mut world = queue_with(QueueSettings { consumer_timeout: Some(1_600), ..settings });
    let late = ConsumerKey { serial, ..consumer(1) };
    if serial > 0 {
        world.put(ShardInput::Subscribe { queue: QUEUE, consumer: late, subscription: Subscription::default() });
    }
    world.put(ShardInput::Publish(publish(&["a"], false)));
    if serial == 0 {
        world.put(ShardInput::Get { queue: QUEUE, holder: late, no_ack: false });
    }
    let position = world.events.drain(..).find_map(|(_, event)| match event {
        Event::Deliver(_, delivery) | Event::Got(Some((delivery, _))) => Some(delivery.position),
        _ => None,
    });
    world.tick(NOW + 2_000);
    assert_eq!(timed_out(&world), [late]);
    join(&mut world, 2, 0, 0);
    assert_eq!(world.delivered(), [(2, "a".into(), true)]);
    (world, position.expect("it was handed out"), late)
}

const ALL: [Settlement; 5] =
    [Settlement::Done, Settlement::Reject, Settlement::Requeue, Settlement::Fail, Settlement::Return];

/// Queues with and without rules, which settle in different ways.
fn plain_and_ruled() -> [QueueSettings; 3] {
    let dead_lettering = DeadLettering::AtMostOnce;
    let plain = QueueSettings::default();
    [
        plain.clone(),
        QueueSettings { kind: QueueKind::Quorum, ..plain.clone() },
        QueueSettings { dead_lettering, ..plain },
    ]
}

#[test]
fn what_crosses_a_timeout_settles_nothing_of_the_next_holder() {
    for (settings, serial, settlement) in plain_and_ruled()
        .iter()
        .flat_map(|it| [0, 1].into_iter().flat_map(move |serial| ALL.map(|how| (it, serial, how))))
    {
        let (mut world, position, late) = held_by_the_next(settings.clone(), serial);
        world.settle_by(late.on_channel(), &[position], settlement);
        let what = format!("{settings:?} {serial} {settlement:?}");
        assert_eq!(world.shard.totals(), ShardTotals { queues: 1, ready: 0, unacked: 1, consumers: 1 }, "{what}");
        assert_eq!(world.events, [], "{what}");
        world.settle_by(consumer(2).on_channel(), &[position], Settlement::Requeue);
        assert_eq!(world.delivered(), [(2, "a".into(), true)], "{what}");
    }
}

#[test]
fn what_crosses_a_timeout_settles_nothing_that_the_forwarder_has() {
    for settlement in ALL {
        let dead_lettering = DeadLettering::AtMostOnce;
        let (mut world, position, late) =
            held_by_the_next(QueueSettings { dead_lettering, ..QueueSettings::default() }, 1);
        world.settle_by(consumer(2).on_channel(), &[position], Settlement::Reject);
        world.events.clear();
        for channel in [late.on_channel(), consumer(2).on_channel()] {
            world.settle_by(channel, &[position], settlement);
        }
        assert_eq!((world.events.len(), world.holder(position)), (0, ChannelKey::FORWARDER), "{settlement:?}");
        world.settle_by(ChannelKey::FORWARDER, &[position], Settlement::Done);
        assert!(world.shard.queues[&QUEUE].store.all_held().next().is_none());
    }
}

#[test]
fn of_a_range_only_what_the_channel_holds_is_settled() {
    for settings in plain_and_ruled() {
        let mut world = queue_with(settings);
        let other = ConsumerKey { channel: 2, serial: 2, ..consumer(1) };
        for consumer in [consumer(1), other, consumer(2)] {
            world.put(ShardInput::Subscribe { queue: QUEUE, consumer, subscription: Subscription::default() });
        }
        world.put(ShardInput::Publish(publish(&["a", "b", "c", "d", "e", "f"], false)));
        let first = world.events.iter().find_map(|(_, event)| match event {
            Event::Deliver(_, delivery) => Some(delivery.position),
            _ => None,
        });
        let range = PositionRange { first: first.expect("they were handed out"), len: 6 };
        let mut left = 6;
        for consumer in [consumer(1), other, consumer(2)] {
            let holder = consumer.on_channel();
            world.put(ShardInput::Settle { queue: QUEUE, holder, ranges: vec![range], settlement: Settlement::Done });
            left -= 2;
            assert_eq!(world.shard.totals().unacked, left);
        }
    }
}

/// Publishes a message to the consumer 1; answers its position.
fn hand_one(world: &mut World) -> u64 {
    world.put(ShardInput::Publish(publish(&["a"], false)));
    let position = world.events.drain(..).find_map(|(_, event)| match event {
        Event::Deliver(_, delivery) => Some(delivery.position),
        _ => None,
    });
    position.expect("it was handed out")
}

fn aside(world: &mut World, key: ConsumerKey, position: u64, sent: bool) {
    world.put(ShardInput::Aside { queue: QUEUE, consumer: key, position, sent });
}

#[test]
fn the_time_of_what_its_client_has_not_been_sent_begins_when_it_is() {
    let mut world = with_timeout();
    join(&mut world, 1, 0, 0);
    let (first, second) = (hand_one(&mut world), hand_one(&mut world));
    aside(&mut world, consumer(1), second, false);
    world.tick(NOW + 1_500);
    world.settle_by(consumer(1).on_channel(), &[first], Settlement::Done);
    world.put(ShardInput::Extend { queue: QUEUE, channel: consumer(1).on_channel() });
    world.tick(NOW + 100_000);
    assert_eq!((timed_out(&world), world.shard.totals().unacked), (vec![], 1));
    aside(&mut world, consumer(1), second, true);
    world.tick(NOW + 101_599);
    assert_eq!(timed_out(&world), []);
    world.tick(NOW + 101_700);
    assert_eq!(timed_out(&world), [consumer(1)]);
    assert_eq!(world.shard.totals().ready, 1);
}

/// Who was asked for what waits for a client without room.
fn recalled(world: &mut World) -> Vec<ConsumerKey> {
    let keys = world.events.drain(..).filter_map(|(_, event)| match event {
        Event::Recalled(key) => Some(key),
        _ => None,
    });
    keys.collect()
}

#[test]
fn what_has_waited_for_room_as_long_as_a_client_may_hold_it_is_asked_for() {
    let mut world = with_timeout();
    join(&mut world, 1, 0, 0);
    let first = hand_one(&mut world);
    aside(&mut world, consumer(1), first, false);
    world.tick(NOW + 1_000);
    let second = hand_one(&mut world);
    aside(&mut world, consumer(1), second, false);
    world.put(ShardInput::Extend { queue: QUEUE, channel: consumer(1).on_channel() });
    let due = world.shard.next_deadline().expect("there is one");
    assert!((NOW + 1_600..=NOW + 1_700).contains(&due));
    world.tick(due - 1);
    assert_eq!(recalled(&mut world), []);
    world.tick(due);
    assert_eq!(recalled(&mut world), [consumer(1)]);
    world.tick(due + 1_599);
    assert_eq!(recalled(&mut world), []);
    world.tick(due + 1_700);
    assert_eq!(recalled(&mut world), [consumer(1)], "there is still some");
    world.settle_by(consumer(1).on_channel(), &[first, second], Settlement::Return);
    world.tick(due + 10_000);
    assert_eq!((recalled(&mut world), world.shard.next_deadline()), (vec![], None));
}

#[test]
fn who_had_no_room_is_handed_nothing_until_it_is_granted_something_and_others_are() {
    let mut world = with_timeout();
    join(&mut world, 1, 0, 0);
    let position = hand_one(&mut world);
    aside(&mut world, consumer(1), position, false);
    world.tick(NOW + 1_700);
    world.settle_by(consumer(1).on_channel(), &[position], Settlement::Return);
    world.events.clear();
    assert_eq!((who_gets_one(&mut world), world.shard.totals().ready), (0, 2));
    join(&mut world, 2, 0, 1);
    assert_eq!(world.delivered(), [(2, "a".into(), false)]);
    world.put(ShardInput::Grant { queue: QUEUE, consumer: consumer(1), messages: 1, bytes: 1 });
    assert_eq!(world.delivered(), [(1, "one".into(), false)]);
}

#[test]
fn what_was_put_aside_is_settled_and_taken_back_like_any_other() {
    let mut world = with_timeout();
    join(&mut world, 1, 0, 0);
    let positions = [(); 4].map(|()| hand_one(&mut world));
    positions[1..].iter().for_each(|position| aside(&mut world, consumer(1), *position, false));
    world.settle_by(consumer(1).on_channel(), &positions[1..2], Settlement::Done);
    world.tick(NOW + 1_500);
    aside(&mut world, consumer(1), positions[2], true);
    world.settle_by(consumer(1).on_channel(), &positions[..1], Settlement::Done);
    world.tick(NOW + 3_000);
    assert_eq!(timed_out(&world), []);
    world.tick(NOW + 3_200);
    assert_eq!(timed_out(&world), [consumer(1)]);
    assert_eq!(world.shard.totals(), ShardTotals { queues: 1, ready: 2, unacked: 0, consumers: 0 });
}

#[test]
fn nobody_sets_the_time_of_what_others_hold() {
    let dead_lettering = DeadLettering::AtMostOnce;
    let mut world = queue_with(QueueSettings { consumer_timeout: Some(1_600), dead_lettering, ..Default::default() });
    join(&mut world, 1, 0, 0);
    let (first, dead) = (hand_one(&mut world), hand_one(&mut world));
    world.settle_by(consumer(1).on_channel(), &[dead], Settlement::Reject);
    let others = [consumer(2), ConsumerKey { channel: 2, ..consumer(1) }, ConsumerKey { serial: 2, ..consumer(1) }];
    for (key, position) in others.into_iter().map(|key| (key, first)).chain([(consumer(1), dead), (consumer(1), 77)]) {
        aside(&mut world, key, position, false);
    }
    world.tick(NOW + 1_700);
    assert_eq!(timed_out(&world), [consumer(1)]);
}

fn drain(world: &mut World, connection: u64, drained: bool) -> u64 {
    let mut out = ShardOutput::default();
    let held = world.shard.drain(&[ConnectionId(connection)], drained, &mut world.log, &mut out);
    world.collect(out);
    held
}

#[test]
fn a_drained_connection_finishes_what_it_has_and_is_handed_nothing_until_the_drain_is_over() {
    let mut world = queue_with(QueueSettings::default());
    join(&mut world, 1, 0, 2);
    join(&mut world, 2, 0, 1);
    assert_eq!(who_gets(&mut world, 2), [1, 2]);
    assert_eq!(drain(&mut world, 1, true), 1);
    assert_eq!(who_gets(&mut world, 2), [0, 0], "the other has no room");
    world.settle(&[0], Settlement::Done);
    assert_eq!(world.delivered(), vec![], "room that an acknowledgement makes is not used");
    assert_eq!(drain(&mut world, 1, true), 0, "saying it again asks again");
    world.settle(&[1], Settlement::Done);
    assert_eq!(world.delivered()[0].0, 2);
    assert_eq!(drain(&mut world, 1, false), 1);
    assert_eq!(world.delivered()[0].0, 1, "what waits comes at once");
}

#[test]
fn consumers_that_a_drained_connection_begins_are_drained_and_what_it_gets_counts() {
    let mut world = queue_with(QueueSettings::default());
    assert_eq!(drain(&mut world, 1, true), 0);
    join(&mut world, 1, 0, 5);
    assert_eq!(who_gets_one(&mut world), 0);
    let holder = ConsumerKey { serial: 0, ..consumer(1) };
    world.put(ShardInput::Get { queue: QUEUE, holder, no_ack: false });
    assert_eq!(drain(&mut world, 1, true), 1);
    world.put(ShardInput::Detach { connection: ConnectionId(1), queue: None });
    join(&mut world, 1, 0, 5);
    assert_eq!(world.delivered()[0].0, 1, "nothing is remembered of a connection that has ended");
}

#[test]
fn the_only_consumer_that_is_served_hands_over_when_it_is_drained_and_has_finished() {
    let mut world = single_active(QueueKind::Classic);
    for connection in 1..=3 {
        join(&mut world, connection, 0, 5);
    }
    assert_eq!(who_gets(&mut world, 2), [1, 1]);
    assert_eq!(drain(&mut world, 2, true), 0);
    assert_eq!(drain(&mut world, 1, true), 2);
    assert_eq!(who_gets_one(&mut world), 0, "it has not finished");
    world.settle(&[0, 1], Settlement::Done);
    assert_eq!(world.delivered()[0].0, 3, "the second is drained");
    drain(&mut world, 3, true);
    world.settle(&[2], Settlement::Done);
    assert_eq!(who_gets_one(&mut world), 0, "nobody is left");
    drain(&mut world, 2, false);
    assert_eq!(world.delivered()[0].0, 2);
}
