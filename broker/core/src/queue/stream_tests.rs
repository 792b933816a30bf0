//! Streams in a shard: consumers, the log, snapshots.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use std::string::{String, ToString};

use bytes::Bytes;

use super::tests::{NOW, QUEUE, World, consumer};
use super::*;
use crate::ConnectionId;
use crate::command::{Attributes, encode_publish_head, encode_relocation};
use crate::limits::STREAM_CONSUMERS;

fn stream() -> QueueSettings {
    QueueSettings { logged: true, kind: QueueKind::Stream, ..QueueSettings::default() }
}

/// A run of messages, each with its filter value if that is not empty.
fn run(messages: &[(&str, &str)]) -> PublishRun {
    let mut commands = Vec::new();
    for (body, value) in messages {
        let filter = Some(value.as_bytes()).filter(|value| !value.is_empty());
        let attributes = Attributes { filter, ..Attributes::default() };
        encode_publish_head((1, [QUEUE].into_iter()), 0, 0, 0, body.len() as u32, &attributes, &mut commands);
        commands.extend_from_slice(body.as_bytes());
    }
    PublishRun { logged: true, commands: Bytes::from(commands), count: messages.len() as u32, receipts: vec![] }
}

impl World {
    fn publish(&mut self, bodies: &[&str]) {
        let messages: Vec<(&str, &str)> = bodies.iter().map(|body| (*body, "")).collect();
        self.put(ShardInput::Publish(run(&messages)));
        self.commit();
    }

    fn read(&mut self, connection: u64, from: StreamOffset, prefetch_count: u32, filter: &[&'static str]) {
        let filter = filter.iter().map(|value| Bytes::from_static(value.as_bytes())).collect();
        let reading = StreamReading { from, filter, match_unfiltered: false };
        let subscription = Subscription { prefetch_count, stream: Some(reading), ..Subscription::default() };
        self.put(ShardInput::Subscribe { queue: QUEUE, consumer: consumer(connection), subscription });
        self.commit();
    }

    /// What one consumer was delivered since the last call: offset, position, body.
    fn got(&mut self, connection: u64) -> Vec<(u64, u64, String)> {
        let mut got = vec![];
        self.events.retain(|(to, event)| {
            let Event::Deliver(_, delivery) = event else {
                return true;
            };
            if to.0 == connection {
                assert!(!delivery.redelivered);
                let body = String::from_utf8_lossy(delivery.message.body()).into_owned();
                got.push((delivery.offset.expect("it is a stream"), delivery.position, body));
            }
            to.0 != connection
        });
        got
    }

    fn bodies(&mut self, connection: u64) -> Vec<String> {
        self.got(connection).into_iter().map(|(.., body)| body).collect()
    }
}

#[test]
fn many_consumers_read_the_same_messages_and_nothing_goes() {
    let mut world = World::with(stream());
    world.publish(&["a", "b"]);
    world.read(1, StreamOffset::First, 10, &[]);
    world.read(2, StreamOffset::Number(1), 10, &[]);
    world.read(3, StreamOffset::Next, 10, &[]);
    world.publish(&["c"]);
    assert_eq!(world.bodies(1), ["a", "b", "c"]);
    assert_eq!(world.got(2).iter().map(|(offset, ..)| *offset).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(world.bodies(3), ["c"]);
    assert_eq!(world.shard.totals(), ShardTotals { queues: 1, ready: 3, unacked: 6, consumers: 3 });
    world.put(ShardInput::Count { queue: QUEUE, connection: ConnectionId(9) });
    assert!(world.events.contains(&(ConnectionId(9), Event::Counted(Some((3, 3))))));
    let holder = ConsumerKey { serial: 0, ..consumer(9) };
    world.put(ShardInput::Get { queue: QUEUE, holder, no_ack: false });
    assert!(world.events.contains(&(ConnectionId(9), Event::Got(None))), "nothing can be got one by one");
}

#[test]
fn a_consumer_holds_as_many_as_it_may_and_settling_in_any_way_gives_it_room_only() {
    for settlement in [Settlement::Done, Settlement::Reject, Settlement::Requeue, Settlement::Fail, Settlement::Return]
    {
        let mut world = World::with(stream());
        world.publish(&["a", "b", "c", "d", "e"]);
        world.read(1, StreamOffset::First, 2, &[]);
        world.read(2, StreamOffset::First, 1, &[]);
        let got = world.got(1);
        assert_eq!(got.len(), 2);
        world.settle(&[got[1].1], settlement);
        assert_eq!(world.bodies(1), ["c"], "{settlement:?}");
        assert_eq!(world.bodies(2), ["a"]);
        let ranges = vec![PositionRange { first: 0, len: 2 }];
        world.put(ShardInput::Settle { queue: QUEUE, holder: consumer(1).on_channel(), ranges, settlement });
        assert_eq!(world.bodies(1).len(), 2);
        world.commit();
        assert_eq!(world.restarted().shard.totals().ready, 5, "{settlement:?}");
    }
}

#[test]
fn a_slow_reader_waits_for_its_socket() {
    let mut world = World::with(stream());
    let big = "x".repeat(600 << 10);
    world.publish(&[&big, &big, "c"]);
    world.read(1, StreamOffset::First, 10, &[]);
    assert_eq!(world.got(1).len(), 2);
    world.put(ShardInput::Grant { queue: QUEUE, consumer: consumer(1), messages: 2, bytes: 1_200 << 10 });
    assert_eq!(world.bodies(1), ["c"]);
}

#[test]
fn filters_are_asked_before_a_message_is_read() {
    let mut world = World::with(stream());
    world.put(ShardInput::Publish(run(&[("1", "a"), ("2", "b"), ("3", ""), ("4", "a")])));
    world.commit();
    let mut world = world.restarted();
    world.read(1, StreamOffset::First, 10, &["a", "c"]);
    assert_eq!(world.log.reads(), 2);
    assert_eq!(world.bodies(1), ["1", "4"]);
}

#[test]
fn offsets_and_times_outlive_a_restart_in_both_ways() {
    let mut world = World::with(stream());
    for hour in 0..5 {
        world.tick(NOW + hour * 3_600_000);
        world.publish(&[&hour.to_string(), &hour.to_string()]);
    }
    for mut world in [world.restarted(), world.restored(), world.restored().restored()] {
        assert_eq!(world.shard.totals().ready, 10);
        world.tick(NOW + 5 * 3_600_000);
        world.read(1, StreamOffset::Timestamp(NOW + 1), 100, &[]);
        assert_eq!(world.got(1).first().map(|(offset, _, body)| (*offset, &body[..])), Some((2, "1")));
        world.read(2, StreamOffset::Interval(3_600_000), 100, &[]);
        assert_eq!(world.bodies(2), ["4", "4"]);
        world.read(3, StreamOffset::Last, 100, &[]);
        world.publish(&["5"]);
        let last: Vec<(u64, String)> = world.got(3).into_iter().map(|(offset, _, body)| (offset, body)).collect();
        assert_eq!(last, [(9, "4".into()), (10, "5".into())]);
    }
}

#[test]
fn what_retention_drops_stays_dropped_and_readers_hear_of_no_gap() {
    let mut world = World::with(QueueSettings { max_length_bytes: Some(2_000), ..stream() });
    let bodies: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    world.read(1, StreamOffset::First, 1, &[]);
    for body in &bodies {
        world.publish(&[body]);
    }
    world.commit();
    let kept = world.shard.totals().ready;
    assert!((80..105).contains(&kept), "of messages of 21 to 23 octets: {kept}");
    let position = world.got(1)[0].1;
    world.settle(&[position], Settlement::Done);
    assert_eq!(world.got(1)[0].0, 500 - kept);
    for mut world in [world.restarted(), world.restored()] {
        assert_eq!(world.shard.totals().ready, kept);
        world.read(2, StreamOffset::First, 1_000, &[]);
        let got = world.got(2);
        assert!(got.iter().map(|(offset, ..)| *offset).eq(500 - kept..500));
        assert!(got.iter().all(|(offset, _, body)| *body == offset.to_string()));
    }
}

#[test]
fn old_messages_go_when_their_time_comes_though_nobody_does_anything() {
    let mut world = World::with(QueueSettings { max_age: Some(8_000), ..stream() });
    world.publish(&["a"]);
    world.tick(NOW + 5_000);
    world.publish(&["b"]);
    assert_eq!(world.shard.next_deadline(), Some(NOW + 8_000));
    world.tick(NOW + 7_999);
    assert_eq!(world.shard.totals().ready, 2);
    world.tick(NOW + 8_000);
    assert_eq!((world.shard.totals().ready, world.shard.next_deadline()), (1, Some(NOW + 13_000)));
    world.commit();
    let mut world = world.restarted();
    assert_eq!(world.shard.totals().ready, 1);
    world.tick(NOW + 13_000);
    world.put(ShardInput::Create { queue: QUEUE, settings: QueueSettings { max_age: Some(8_000), ..stream() } });
    assert_eq!((world.shard.totals().ready, world.shard.next_deadline()), (0, None));
    world.publish(&["c"]);
    world.read(1, StreamOffset::First, 10, &[]);
    assert_eq!(world.got(1)[0].0, 2, "offsets go on");
}

#[test]
fn a_shorter_retention_takes_effect_when_it_is_declared() {
    let mut world = World::with(stream());
    let many: Vec<(&str, &str)> = vec![("x", ""); 1_000];
    world.put(ShardInput::Publish(run(&many)));
    world.commit();
    let settings = QueueSettings { max_length_bytes: Some(6_000), ..stream() };
    world.put(ShardInput::Create { queue: QUEUE, settings });
    world.commit();
    assert_eq!(world.shard.totals().ready, 1_000 - 3 * 256, "whole chunks of messages of 21 octets");
    assert_eq!(world.restarted().shard.totals().ready, 1_000 - 3 * 256);
}

#[test]
fn a_cancelled_consumers_settlements_concern_nobody_else() {
    let mut world = World::with(stream());
    world.publish(&["a", "b", "c", "d"]);
    world.read(1, StreamOffset::First, 2, &[]);
    let first = world.got(1);
    world.put(ShardInput::Unsubscribe { queue: QUEUE, consumer: consumer(1) });
    assert_eq!(world.shard.totals().unacked, 2);
    world.settle(&[first[0].1, first[1].1], Settlement::Fail);
    assert_eq!(world.shard.totals().unacked, 0);
    world.read(2, StreamOffset::First, 2, &[]);
    assert_eq!(world.got(2).len(), 2);
    world.settle(&[first[0].1, first[1].1], Settlement::Done);
    assert_eq!((world.got(2).len(), world.shard.totals().unacked), (0, 2));
    world.put(ShardInput::Detach { connection: ConnectionId(2), queue: None });
    assert_eq!(world.shard.totals(), ShardTotals { queues: 1, ready: 4, unacked: 0, consumers: 0 });
}

#[test]
fn a_stream_takes_so_many_consumers_and_no_more() {
    let mut world = World::with(stream());
    let subscribe = |world: &mut World, serial: u32| {
        let key = ConsumerKey { serial, ..consumer(1) };
        let subscription = Subscription { prefetch_count: 1, ..Subscription::default() };
        world.put(ShardInput::Subscribe { queue: QUEUE, consumer: key, subscription });
        world.events.drain(..).any(|(_, event)| event == Event::Subscribed(key, Ok(())))
    };
    assert!((1..=STREAM_CONSUMERS).all(|serial| subscribe(&mut world, serial)));
    assert!(!subscribe(&mut world, STREAM_CONSUMERS + 1));
    world.put(ShardInput::Unsubscribe { queue: QUEUE, consumer: ConsumerKey { serial: 7, ..consumer(1) } });
    assert!(subscribe(&mut world, STREAM_CONSUMERS + 2));
    world.publish(&["a"]);
    assert_eq!(world.got(1).len(), STREAM_CONSUMERS as usize);
}

#[test]
fn a_reader_that_finds_nothing_for_long_goes_on_at_the_next_tick() {
    let mut world = World::with(stream());
    let others: Vec<(&str, &str)> = vec![("other", "a"); 3_000];
    for _ in 0..8 {
        world.put(ShardInput::Publish(run(&others)));
        world.put(ShardInput::Publish(run(&[("wanted", "b")])));
        world.commit();
    }
    world.read(1, StreamOffset::First, 7, &["b"]);
    let mut got = world.got(1).len();
    for _ in 0..5 {
        if world.shard.next_deadline().is_some() {
            world.tick(NOW);
        }
        got += world.got(1).len();
    }
    assert_eq!((got, world.shard.next_deadline()), (7, None));
}

#[test]
fn live_octets_and_survivors_know_stream_messages_and_moved_ones_are_read_where_they_are() {
    let mut world = World::with(stream());
    world.publish(&["a", "b"]);
    world.publish(&["c"]);
    let snapshot = world.shard.snapshot();
    let live = snapshot.live();
    assert_eq!(live.values().sum::<u64>(), 3 * 21);
    let segments: BTreeSet<u32> = live.keys().copied().collect();
    let survivors = snapshot.survivors(&segments);
    assert_eq!(survivors.len(), 3);
    let sequences: Vec<u64> = survivors.iter().map(|survivor| survivor.references[0].sequence).collect();
    assert_eq!(sequences, [0, 1, 2]);
    let octets: Vec<Bytes> = survivors.iter().map(|survivor| world.log.octets(survivor.location)).collect();
    let moved = survivors.iter().zip(&octets).take(2).map(|(survivor, octets)| (&survivor.references[..], &octets[..]));
    let mut payload = vec![];
    encode_relocation(moved.collect::<Vec<_>>().into_iter(), &mut payload);
    let at = world.log.append(&[Bytes::from(payload.clone())]);
    world.shard.relocated(at, &payload).expect("it is a relocation");
    assert_eq!(world.shard.snapshot().live().get(&at.segment), Some(&(2 * 21)));
    world.read(1, StreamOffset::First, 10, &[]);
    assert_eq!(world.bodies(1), ["a", "b", "c"]);
}

#[test]
fn a_channel_gives_room_to_nobody_but_its_own_reader() {
    let mut world = World::with(stream());
    world.publish(&["a", "b"]);
    world.read(1, StreamOffset::First, 1, &[]);
    let position = world.got(1)[0].1;
    world.settle_by(consumer(2).on_channel(), &[position], Settlement::Done);
    assert_eq!(world.bodies(1), Vec::<String>::new());
    world.settle_by(consumer(1).on_channel(), &[position], Settlement::Done);
    assert_eq!(world.bodies(1), ["b"]);
}
