//! Messages that leave their queue by way of the forwarder, and what waits meanwhile.

use alloc::vec;
use alloc::vec::Vec;

use super::rule_tests::{after, delayed, expiring, logged, none, quorum};
use super::tests::{NOW, QUEUE, World, consumer};
use super::*;
use crate::identity::ConnectionId;
use crate::limits::{DEAD_LETTERS_UNDER_WAY, DEAD_LETTERS_WAITING, FORWARD_RETRY_MILLIS, REFUSED_WAITING};

fn dead_lettering(settings: QueueSettings) -> QueueSettings {
    QueueSettings { dead_lettering: DeadLettering::AtMostOnce, ..settings }
}

#[test]
fn what_is_rejected_expires_or_is_too_much_goes_to_the_forwarder_and_stays_until_it_has_settled() {
    let mut world = World::with(dead_lettering(QueueSettings { max_length: Some(2), ..logged() }));
    world.send(&[("too many", none()), ("rejected", none()), ("expired", expiring(100))]);
    let (_, _, position) = world.take_one().expect("it is there");
    world.give(position, Settlement::Reject);
    world.tick(NOW + 100);
    let forwarded = world.forwarded();
    let expected = [(ForwardReason::Rejected, "rejected"), (ForwardReason::Expired, "expired")];
    assert_eq!(forwarded.iter().map(|(reason, body, _)| (*reason, &body[..])).collect::<Vec<_>>(), expected);
    assert_eq!(world.shard.totals(), ShardTotals { queues: 1, ready: 0, unacked: 0, consumers: 0 });
    world.commit();
    for world in world.after_restarts() {
        assert_eq!(world.ready(), 3, "nothing is lost before it has arrived elsewhere");
    }
    for (_, _, position) in forwarded {
        world.give(position, Settlement::Done);
    }
    world.commit();
    for world in world.after_restarts() {
        assert_eq!(world.ready(), 1, "the forwarder has not settled the first one, which was too many");
    }
}

#[test]
fn what_is_too_much_is_told_as_such() {
    let mut world = World::with(dead_lettering(QueueSettings { max_length: Some(1), ..logged() }));
    world.send_plain(&["a", "b"]);
    let expected = [(ForwardReason::MaxLength, "a".into(), 0)];
    assert_eq!(world.forwarded(), expected);
}

#[test]
fn what_the_forwarder_gives_back_it_gets_again_after_a_while() {
    let mut world = World::with(dead_lettering(QueueSettings { message_ttl: Some(10), ..logged() }));
    world.send_plain(&["a", "b"]);
    world.tick(NOW + 10);
    let first = world.forwarded();
    assert_eq!(first.len(), 2);
    world.give(first[0].2, Settlement::Return);
    assert_eq!((world.forwarded(), world.ready()), (vec![], 0));
    let again = NOW + 10 + FORWARD_RETRY_MILLIS;
    assert_eq!(world.shard.next_deadline(), Some(again));
    world.tick(again - 1);
    assert_eq!(world.forwarded(), []);
    world.tick(again);
    assert_eq!((world.forwarded(), world.shard.next_deadline()), (vec![first[0].clone()], None));
    world.give(first[0].2, Settlement::Done);
    world.give(first[1].2, Settlement::Done);
    world.commit();
    assert!(world.after_restarts().iter().all(|world| world.ready() == 0));
}

#[test]
fn no_more_than_so_many_dead_letters_of_a_queue_are_on_their_way() {
    let mut world = World::with(dead_lettering(QueueSettings { message_ttl: Some(10), ..logged() }));
    let bodies = vec!["x"; DEAD_LETTERS_UNDER_WAY + 1];
    world.send_plain(&bodies);
    world.tick(NOW + 10);
    let forwarded = world.forwarded();
    assert_eq!((forwarded.len(), world.shard.next_deadline()), (DEAD_LETTERS_UNDER_WAY, None));
    assert_eq!((world.ready(), world.shard.totals().unacked), (0, 0), "what waits is nobody's");
    world.subscribe(consumer(1), true, 0);
    assert_eq!((world.delivered(), world.take_one()), (vec![], None), "it is over, and nobody gets it");
    world.send_plain(&["behind"]);
    assert_eq!(world.delivered(), [(1, "behind".into(), false)], "what is over stops nobody else");
    world.give(forwarded[7].2, Settlement::Done);
    assert_eq!(world.forwarded().len(), 1);
}

#[test]
fn what_is_rejected_while_too_many_are_on_their_way_waits_its_turn() {
    let mut world = World::with(dead_lettering(logged()));
    let bodies = vec!["x"; DEAD_LETTERS_UNDER_WAY + 2];
    world.send_plain(&bodies);
    world.subscribe(consumer(1), false, 0);
    world.settle(&(0..bodies.len() as u64).collect::<Vec<_>>(), Settlement::Reject);
    assert_eq!(world.forwarded().len(), DEAD_LETTERS_UNDER_WAY);
    assert_eq!(world.shard.totals().unacked, 0);
    let positions = |world: &mut World| world.forwarded().into_iter().map(|(_, _, at)| at).collect::<Vec<u64>>();
    world.give(3, Settlement::Return);
    assert_eq!(positions(&mut world), [0; 0], "what is tried again later counts until then");
    for (settled, next) in [(4, DEAD_LETTERS_UNDER_WAY as u64), (5, DEAD_LETTERS_UNDER_WAY as u64 + 1)] {
        world.give(settled, Settlement::Done);
        assert_eq!(positions(&mut world), [next]);
    }
    world.tick(NOW + FORWARD_RETRY_MILLIS);
    assert_eq!(positions(&mut world), [3]);
}

#[test]
fn a_full_queue_may_dead_letter_what_it_refuses_up_to_a_bound() {
    let overflow = Overflow::RejectPublishDeadLetter;
    let mut world = World::with(dead_lettering(QueueSettings { max_length: Some(1), overflow, ..logged() }));
    let count = 1 + DEAD_LETTERS_UNDER_WAY + REFUSED_WAITING;
    let bodies = vec!["x"; count];
    for bodies in bodies.chunks(500) {
        world.send_plain(bodies);
    }
    let live = |world: &World| world.shard.queues[&QUEUE].store.held() + world.ready();
    assert_eq!((live(&world), world.ready()), (count as u64, 1));
    world.send_plain(&["one more"]);
    assert_eq!(world.answers().last(), Some(&(true, 1, 1)));
    assert_eq!(live(&world), count as u64);
}

#[test]
fn without_dead_lettering_what_is_rejected_is_gone() {
    for settings in [logged(), QueueSettings { message_ttl: Some(1_000), ..logged() }] {
        let mut world = World::with(settings);
        world.send_plain(&["a"]);
        let (_, _, position) = world.take_one().expect("it is there");
        world.give(position, Settlement::Reject);
        world.commit();
        assert_eq!(world.forwarded(), []);
        assert!(world.after_restarts().iter().all(|world| world.ready() == 0));
    }
}

#[test]
fn dead_letters_that_wait_are_dropped_when_the_queue_has_nowhere_to_send_them() {
    let mut world = World::with(dead_lettering(logged()));
    let bodies = vec!["x"; DEAD_LETTERS_UNDER_WAY + 2];
    world.send_plain(&bodies);
    world.subscribe(consumer(1), false, 0);
    world.settle(&(0..bodies.len() as u64).collect::<Vec<_>>(), Settlement::Reject);
    let forwarded = world.forwarded();
    world.give(forwarded[0].2, Settlement::Return);
    world.put(ShardInput::Create { queue: QUEUE, settings: logged() });
    world.commit();
    for (_, _, position) in &forwarded[1..] {
        world.give(*position, Settlement::Done);
    }
    world.commit();
    assert!(world.after_restarts().iter().all(|world| world.ready() == 0));
}

#[test]
fn purge_makes_no_dead_letters() {
    let mut world = World::with(dead_lettering(logged()));
    world.send_plain(&["a"]);
    world.put(ShardInput::Purge { queue: QUEUE, connection: ConnectionId(3) });
    world.commit();
    assert_eq!((world.forwarded(), world.ready()), (vec![], 0));
}

#[test]
fn no_more_than_so_many_due_messages_are_on_their_way() {
    let mut world = World::with(delayed());
    let messages = vec![("x", after(10)); DEAD_LETTERS_UNDER_WAY + 1];
    world.send(&messages);
    world.tick(NOW + 10);
    assert_eq!((world.forwarded().len(), world.shard.next_deadline()), (DEAD_LETTERS_UNDER_WAY, None));
    world.give(0, Settlement::Done);
    assert_eq!(world.forwarded().len(), 1);
    world.give(1, Settlement::Return);
    assert_eq!(world.forwarded(), []);
    world.tick(NOW + 10 + FORWARD_RETRY_MILLIS);
    assert_eq!(world.forwarded(), [(ForwardReason::Due, "x".into(), 1)]);
}

/// With more dead letters than may be on their way, all of which come back each time they are tried.
fn stuck(settings: QueueSettings, more: usize) -> World {
    let must_arrive = QueueSettings { dead_lettering: DeadLettering::AtLeastOnce, ..settings };
    let mut world = World::with(QueueSettings { message_ttl: Some(10), ..must_arrive });
    for bodies in vec!["x"; DEAD_LETTERS_UNDER_WAY + more].chunks(100) {
        world.send_plain(bodies);
    }
    world.tick(NOW + 10);
    all_come_back(&mut world);
    world
}

fn all_come_back(world: &mut World) -> Vec<u64> {
    let positions: Vec<u64> = world.forwarded().into_iter().map(|(.., position)| position).collect();
    positions.iter().for_each(|position| world.give(*position, Settlement::Return));
    positions
}

#[test]
fn expired_heads_that_cannot_go_anywhere_do_not_stop_what_is_behind_them() {
    let mut world = stuck(logged(), 50);
    world.send(&[("alive", none()), ("over", expiring(0)), ("alive too", none())]);
    assert_eq!((world.ready(), world.shard.totals().unacked), (3, 0));
    world.subscribe(consumer(1), false, 0);
    assert_eq!(world.delivered(), [(1, "alive".into(), false), (1, "alive too".into(), false)]);
    assert_eq!((world.ready(), world.shard.totals().unacked), (0, 2));
    world.commit();
    for mut world in world.after_restarts() {
        assert_eq!(world.ready(), DEAD_LETTERS_UNDER_WAY as u64 + 53, "nothing is lost");
        world.tick(NOW + 11);
        assert_eq!((world.forwarded().len(), world.ready()), (DEAD_LETTERS_UNDER_WAY, 3));
    }
}

#[test]
fn what_cannot_go_anywhere_is_tried_in_turn_a_bounded_number_at_a_time() {
    let mut world = stuck(logged(), 50);
    assert_eq!(world.forwarded(), []);
    let mut now = NOW + 10;
    let mut tried = vec![];
    for _ in 0..3 {
        now += FORWARD_RETRY_MILLIS;
        assert_eq!(world.shard.next_deadline(), Some(now));
        world.tick(now);
        tried.push(all_come_back(&mut world));
    }
    let level = tried[0][0] - DEAD_LETTERS_UNDER_WAY as u64;
    let all: Vec<u64> = tried.into_iter().flatten().map(|position| position - level).collect();
    let count = DEAD_LETTERS_UNDER_WAY as u64 + 50;
    let expected = (0..).map(|index: u64| (DEAD_LETTERS_UNDER_WAY as u64 + index) % count);
    assert_eq!(all, expected.take(3 * DEAD_LETTERS_UNDER_WAY).collect::<Vec<_>>());
}

/// As RabbitMQ counts them.
#[test]
fn dead_letters_that_must_arrive_count_as_long_as_they_have_not() {
    let bounds = [(Some(3), None), (None, Some(6))];
    for (max_length, max_length_bytes) in bounds {
        let overflow = Overflow::RejectPublish;
        let plain = QueueSettings { max_length, max_length_bytes, overflow, message_ttl: Some(10), ..quorum() };
        let rules = QueueSettings { dead_lettering: DeadLettering::AtLeastOnce, ..plain.clone() };
        let mut world = World::with(rules);
        world.send_plain(&["11", "22"]);
        world.tick(NOW + 10);
        let out = world.forwarded();
        world.answers();
        world.send_plain(&["33", "44"]);
        assert_eq!(world.answers(), [(false, 1, 1), (true, 2, 1)], "two are on their way");
        world.give(out[0].2, Settlement::Return);
        world.send_plain(&["55"]);
        assert_eq!(world.answers(), [(true, 1, 1)], "one came back");
        world.give(out[1].2, Settlement::Done);
        world.send_plain(&["66", "77"]);
        assert_eq!(world.answers(), [(false, 1, 1), (true, 2, 1)], "one has arrived");
        // What is only tried once leaves room at once.
        world.put(ShardInput::Create { queue: QUEUE, settings: dead_lettering(plain) });
        world.commit();
        world.send_plain(&["88", "99"]);
        assert_eq!(world.answers(), [(false, 1, 1), (true, 2, 1)]);
    }
}

#[test]
fn dead_letters_that_wait_count_too() {
    let most = DEAD_LETTERS_UNDER_WAY as u64 + 51;
    let (max_length, overflow) = (Some(most), Overflow::RejectPublish);
    let mut world = stuck(QueueSettings { max_length, overflow, ..quorum() }, 50);
    world.answers();
    world.send_plain(&["last", "one too many"]);
    assert_eq!(world.answers(), [(false, 1, 1), (true, 2, 1)]);
}

#[test]
fn purge_leaves_dead_letters_that_wait() {
    let mut world = stuck(logged(), 50);
    world.send_plain(&["ready"]);
    world.put(ShardInput::Purge { queue: QUEUE, connection: ConnectionId(3) });
    world.commit();
    world.tick(NOW + 10 + FORWARD_RETRY_MILLIS);
    assert_eq!((world.forwarded().len(), world.ready()), (DEAD_LETTERS_UNDER_WAY, 0));
    assert!(world.after_restarts().iter().all(|world| world.ready() == DEAD_LETTERS_UNDER_WAY as u64 + 50));
}

#[test]
fn expired_messages_beyond_those_that_may_wait_stay_and_nobody_gets_what_is_behind_them() {
    let alive = [(1, "alive".into(), false)];
    for more in [0, 1] {
        let mut world = World::with(dead_lettering(logged()));
        for messages in vec![("x", expiring(10)); DEAD_LETTERS_UNDER_WAY + DEAD_LETTERS_WAITING + more].chunks(500) {
            world.send(messages);
        }
        world.tick(NOW + 10);
        let forwarded = world.forwarded();
        assert_eq!((forwarded.len(), world.ready()), (DEAD_LETTERS_UNDER_WAY, more as u64));
        assert_eq!(world.shard.next_deadline(), None, "what stays wakes nobody");
        world.send(&[("alive", none())]);
        assert_eq!(world.take_one().is_some(), more == 0);
        world.subscribe(consumer(1), false, 0);
        assert_eq!((world.delivered(), world.ready()), (vec![], 2 * more as u64));
        world.give(forwarded[0].2, Settlement::Done);
        assert_eq!(world.delivered(), alive[..more], "there is room again");
        assert_eq!(world.ready(), 0);
    }
}

#[test]
fn when_nothing_waits_any_more_the_memory_for_it_is_given_back() {
    let mut world = World::with(dead_lettering(QueueSettings { message_ttl: Some(10), ..logged() }));
    for bodies in vec!["x"; 20 * DEAD_LETTERS_UNDER_WAY].chunks(500) {
        world.send_plain(bodies);
    }
    let capacity = |world: &World| {
        let rules = world.shard.queues[&QUEUE].rules.as_ref();
        rules.map_or(0, |rules| rules.dead.capacity())
    };
    world.tick(NOW + 10);
    assert!(capacity(&world) >= 19 * DEAD_LETTERS_UNDER_WAY);
    loop {
        let forwarded = world.forwarded();
        if forwarded.is_empty() {
            break;
        }
        forwarded.into_iter().for_each(|(.., position)| world.give(position, Settlement::Done));
    }
    assert!(capacity(&world) <= DEAD_LETTERS_UNDER_WAY);
}

#[test]
fn dead_letters_that_wait_count_even_if_they_are_tried_only_once() {
    let bounds = [(Some(3), None), (None, Some(6))];
    for (max_length, max_length_bytes) in bounds {
        let overflow = Overflow::RejectPublish;
        let plain = QueueSettings { max_length, max_length_bytes, overflow, message_ttl: Some(10), ..logged() };
        let mut world = World::with(dead_lettering(plain));
        let mut now = NOW;
        for _ in 0..DEAD_LETTERS_UNDER_WAY / 2 {
            world.send_plain(&["11", "22"]);
            now += 10;
            world.tick(now);
        }
        let out = world.forwarded();
        assert_eq!(out.len(), DEAD_LETTERS_UNDER_WAY);
        world.answers();
        world.send_plain(&["33", "44"]);
        assert_eq!(world.answers(), [(false, 1, 2)], "none of those on their way counts");
        world.tick(now + 10);
        world.send_plain(&["55", "66"]);
        assert_eq!(world.answers(), [(false, 1, 1), (true, 2, 1)], "two wait");
        world.give(out[0].2, Settlement::Done);
        world.send_plain(&["77", "88"]);
        assert_eq!(world.answers(), [(false, 1, 1), (true, 2, 1)], "one waits, and one is ready");
    }
}

#[test]
fn what_a_full_queue_has_refused_takes_no_place_in_it_while_it_waits() {
    let overflow = Overflow::RejectPublishDeadLetter;
    let mut world = World::with(dead_lettering(QueueSettings { max_length: Some(1), overflow, ..logged() }));
    world.send_plain(&vec!["x"; 1 + DEAD_LETTERS_UNDER_WAY + 5]);
    assert!(world.take_one().is_some());
    world.answers();
    world.send_plain(&["a", "b"]);
    assert_eq!(world.answers(), [(false, 1, 1), (true, 2, 1)]);
}
