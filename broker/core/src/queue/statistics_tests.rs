//! What queues say about themselves.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use super::tests::{NOW, QUEUE, World, consumer, publish};
use super::*;
use crate::ConnectionId;

fn statistics(world: &mut World) -> QueueStatistics {
    let filter = QueueFilter { consumers: true, ..QueueFilter::default() };
    let mut all = world.shard.statistics(&filter);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn get(world: &mut World, connection: u64, no_ack: bool) {
    let holder = ConsumerKey { serial: 0, ..consumer(connection) };
    world.put(ShardInput::Get { queue: QUEUE, holder, no_ack });
    world.commit();
}

fn put(world: &mut World, bodies: &[&str], logged: bool) {
    world.put(ShardInput::Publish(publish(bodies, logged)));
    world.commit();
}

#[test]
fn a_queue_counts_what_is_done_with_it_by_kind() {
    let mut world = World::with_queue(true, false);
    put(&mut world, &["a", "b", "c", "d", "e"], true);
    get(&mut world, 1, false);
    get(&mut world, 1, true);
    world.subscribe(consumer(2), false, 2);
    world.settle(&[2], Settlement::Done);
    world.settle(&[3], Settlement::Requeue);
    world.settle(&[0], Settlement::Reject);
    world.put(ShardInput::Unsubscribe { queue: QUEUE, consumer: consumer(2) });
    world.put(ShardInput::Detach { connection: ConnectionId(2), queue: None });
    world.commit();
    world.subscribe(consumer(3), true, 0);
    get(&mut world, 1, false);
    let expected = QueueCounters {
        published: 5,
        delivered: 4,
        delivered_no_ack: 2,
        got: 1,
        got_no_ack: 1,
        get_empty: 1,
        redelivered: 3,
        acknowledged: 1,
    };
    assert_eq!(statistics(&mut world).counters, expected);
    assert_eq!(world.shard.summary().kinds[QueueKind::Classic as usize], expected);
    let delete =
        ShardInput::Delete { queue: QUEUE, if_unused: false, if_empty: false, still_unused: false, request: 1 };
    world.put(delete);
    world.commit();
    assert_eq!(world.shard.summary().kinds[QueueKind::Classic as usize], expected, "counters never go back");
}

#[test]
fn octets_and_places_of_messages_are_known_while_they_are_there() {
    let mut world = World::with_queue(true, false);
    put(&mut world, &["abc", "defgh"], true);
    put(&mut world, &["in memory"], false);
    let all = statistics(&mut world);
    assert_eq!((all.ready, all.unacked, all.memory_messages), (3, 0, 1));
    assert_eq!(all.ready_bytes, all.bytes);
    assert!(all.memory_bytes > 0 && all.bytes > all.memory_bytes);
    world.subscribe(consumer(2), false, 2);
    let held = statistics(&mut world);
    assert_eq!((held.ready, held.unacked, held.bytes), (1, 2, all.bytes));
    assert_eq!(held.ready_bytes, all.memory_bytes, "the one in memory is left");
    world.settle(&[0, 1], Settlement::Done);
    let rest = statistics(&mut world);
    assert_eq!((rest.bytes, rest.memory_messages, rest.unacked), (all.memory_bytes, 1, 1));
    world.settle(&[2], Settlement::Done);
    let empty = statistics(&mut world);
    assert_eq!((empty.bytes, empty.ready_bytes, empty.memory_messages, empty.memory_bytes), (0, 0, 0, 0));
}

#[test]
fn what_is_purged_or_comes_back_counts_as_it_should() {
    let mut world = World::with_queue(true, false);
    put(&mut world, &["one", "two"], true);
    put(&mut world, &["three"], false);
    let all = statistics(&mut world);
    world.subscribe(consumer(2), false, 1);
    world.settle(&[0], Settlement::Requeue);
    assert_eq!(statistics(&mut world).bytes, all.bytes);
    world.put(ShardInput::Unsubscribe { queue: QUEUE, consumer: consumer(2) });
    world.put(ShardInput::Detach { connection: ConnectionId(2), queue: None });
    world.commit();
    let back = statistics(&mut world);
    assert_eq!((back.ready, back.ready_bytes, back.bytes), (3, all.bytes, all.bytes));
    world.put(ShardInput::Purge { queue: QUEUE, connection: ConnectionId(2) });
    world.commit();
    let purged = statistics(&mut world);
    assert_eq!((purged.ready, purged.bytes, purged.memory_messages, purged.memory_bytes), (0, 0, 0, 0));
}

#[test]
fn a_restart_knows_the_octets_and_counts_from_anew() {
    let mut world = World::with_queue(true, false);
    put(&mut world, &["abc", "defgh"], true);
    get(&mut world, 1, true);
    let before = statistics(&mut world);
    for mut world in [world.restarted(), world.restored()] {
        let after = statistics(&mut world);
        assert_eq!((after.ready, after.bytes, after.ready_bytes), (1, before.bytes, before.ready_bytes));
        assert_eq!(after.counters, QueueCounters::default());
    }
}

#[test]
fn consumers_say_whether_they_are_served() {
    let mut world = World::with_queue(false, false);
    world.subscribe(consumer(1), false, 1);
    world.subscribe(consumer(2), true, 0);
    put(&mut world, &["a"], false);
    let all = statistics(&mut world);
    let status = |statistics: &QueueStatistics| -> Vec<_> {
        statistics
            .consumers
            .iter()
            .map(|consumer| (consumer.key.connection.0, consumer.status, consumer.held))
            .collect()
    };
    assert_eq!(status(&all), vec![(1, ConsumerStatus::Blocked, 1), (2, ConsumerStatus::Up, 0)]);
    assert!(all.has_capacity && all.consumers[0].ack_required && !all.consumers[1].ack_required);
    assert_eq!((all.single_active, all.exclusive_consumer), (None, None));

    let settings = QueueSettings { single_active_consumer: true, ..QueueSettings::default() };
    let mut world = World::with(settings);
    world.subscribe(consumer(1), false, 1);
    world.subscribe(consumer(2), false, 1);
    let all = statistics(&mut world);
    assert_eq!(status(&all), vec![(1, ConsumerStatus::SingleActive, 0), (2, ConsumerStatus::Waiting, 0)]);
    assert_eq!(all.single_active, Some(consumer(1)));
}

#[test]
fn only_the_queues_that_were_asked_for_answer() {
    let mut world = World::with_queue(false, false);
    let mut asked = |ids: &[u32]| {
        let queues = Some(ids.iter().copied().map(QueueId).collect::<BTreeSet<_>>());
        world.shard.statistics(&QueueFilter { queues, ..QueueFilter::default() }).len()
    };
    assert_eq!((asked(&[]), asked(&[QUEUE.0]), asked(&[QUEUE.0 + 1])), (0, 1, 0));
}

#[test]
fn a_sample_has_what_was_done_since_the_last_one_and_nothing_of_idle_queues() {
    let mut world = World::with_queue(false, false);
    world.shard.sample();
    assert_eq!(world.shard.sample(), []);
    put(&mut world, &["a", "b"], false);
    put(&mut world, &["c"], false);
    get(&mut world, 1, false);
    let sample = world.shard.sample();
    let counters = QueueCounters { published: 3, got: 1, ..QueueCounters::default() };
    assert_eq!(sample, [QueueSample { queue: QUEUE, counters, ready: 2, unacked: 1, stalled_ms: 0 }]);
    assert_eq!(world.shard.sample(), []);
    world.settle_by(consumer(1).on_channel(), &[0], Settlement::Done);
    let counters = QueueCounters { acknowledged: 1, ..QueueCounters::default() };
    assert_eq!(world.shard.sample(), [QueueSample { queue: QUEUE, counters, ready: 0, unacked: -1, stalled_ms: 0 }]);
}

#[test]
fn the_time_for_which_messages_wait_for_consumers_is_counted() {
    let mut world = World::with_queue(false, false);
    world.subscribe(consumer(1), false, 1);
    world.shard.sample();
    put(&mut world, &["a", "b"], false);
    assert!(!statistics(&mut world).has_capacity);
    world.tick(NOW + 700);
    world.settle(&[0, 1], Settlement::Done);
    assert!(statistics(&mut world).has_capacity);
    world.tick(NOW + 1_500);
    put(&mut world, &["c"], false);
    let stalled = |world: &mut World| world.shard.sample().iter().map(|sample| sample.stalled_ms).collect::<Vec<_>>();
    assert_eq!(stalled(&mut world), [700]);
    put(&mut world, &["d"], false);
    world.tick(NOW + 1_600);
    assert_eq!(stalled(&mut world), [100], "also while it goes on");
}

#[test]
fn a_queue_says_when_it_last_worked() {
    let mut world = World::with_queue(true, false);
    assert_eq!(statistics(&mut world).worked_ms, None, "it has done nothing yet");
    put(&mut world, &["a"], false);
    assert_eq!(statistics(&mut world).worked_ms, Some(NOW));
    world.tick(NOW + 5_000);
    statistics(&mut world);
    assert_eq!(statistics(&mut world).worked_ms, Some(NOW), "asking is no work");
    put(&mut world, &["a"], false);
    assert_eq!(statistics(&mut world).worked_ms, Some(NOW + 5_000));
    assert_eq!(statistics(&mut world.restarted()).worked_ms, None);
}

#[test]
fn messages_that_die_are_counted_once_by_kind_strategy_and_reason() {
    let settings = QueueSettings {
        kind: QueueKind::Quorum,
        dead_lettering: DeadLettering::AtLeastOnce,
        max_length: Some(2),
        ..QueueSettings::default()
    };
    let mut world = World::with(settings);
    put(&mut world, &["a", "b", "c"], false);
    world.subscribe(consumer(1), false, 1);
    let held = world.holder(4 << 56 | 1);
    world.settle_by(held, &[4 << 56 | 1], Settlement::Reject);
    let deaths = world.shard.summary().deaths;
    let of = |reason| deaths.of(QueueKind::Quorum, DeadLettering::AtLeastOnce, reason);
    let all = [ForwardReason::MaxLength, ForwardReason::Rejected, ForwardReason::Expired, ForwardReason::Due].map(of);
    assert_eq!(all, [1, 1, 0, 0]);
    assert_eq!(deaths.of(QueueKind::Quorum, DeadLettering::None, ForwardReason::Rejected), 0);
    assert_eq!(deaths.of(QueueKind::Classic, DeadLettering::AtLeastOnce, ForwardReason::Rejected), 0);
}

#[test]
fn queues_that_were_only_declared_are_in_no_sample() {
    let mut world = World::with_queue(true, false);
    assert_eq!(world.shard.sample(), [], "it was made");
    world.put(ShardInput::Count { queue: QUEUE, connection: ConnectionId(7) });
    world.commit();
    assert_eq!(world.shard.sample(), [], "it was declared again");
    put(&mut world, &["a"], false);
    assert_eq!(world.shard.sample().len(), 1);
}

#[test]
fn for_how_long_messages_were_held_follows_from_how_many_were_at_each_time() {
    let mut world = World::with_queue(true, false);
    put(&mut world, &["a", "b", "c"], false);
    let held = |world: &mut World| statistics(world).unacked_message_ms;
    world.tick(NOW + 500);
    assert_eq!(held(&mut world), 0, "nobody has them yet");
    world.subscribe(consumer(1), false, 2);
    world.tick(NOW + 600);
    assert_eq!(held(&mut world), 200, "two messages for 100 ms");
    world.settle(&[0], Settlement::Done);
    world.tick(NOW + 1_600);
    assert_eq!(held(&mut world), 2_200, "the third took the place of the first");
    world.settle(&[1, 2], Settlement::Done);
    world.tick(NOW + 9_000);
    assert_eq!(held(&mut world), 2_200);
    assert_eq!(statistics(&mut world).counters.acknowledged, 3);
}
