//! `basic.qos`: limits by consumer and by channel.

use std::vec;
use std::vec::Vec;

use warren_amqp::{Table, TableBuilder, ToClient, ToServer, basic, channel, queue};

use super::world::*;
use crate::queue::{Event, Settlement, ShardInput};

fn qos(prefetch_count: u16, global: bool) -> ToServer<'static> {
    ToServer::BasicQos(basic::Qos { prefetch_size: 0, prefetch_count, global })
}

fn ack(delivery_tag: u64, multiple: bool) -> ToServer<'static> {
    ToServer::BasicAck(basic::Ack { delivery_tag, multiple })
}

/// A broker with two queues of three messages each, and a client that will hold `limit` messages on its channel.
fn limited(limit: u16) -> World {
    let mut world = World::new();
    for queue in ["q", "r"] {
        world.queue(ME, queue);
        world.publish_all(OTHER, queue, &["1", "2", "3"]);
    }
    assert_eq!(world.call(ME, 1, qos(limit, true)).method(), ToClient::BasicQosOk(basic::QosOk));
    world
}

fn delivered(world: &mut World) -> usize {
    messages(&world.heard(ME)).len()
}

#[test]
fn a_global_limit_is_of_all_consumers_of_the_channel_together() {
    let mut world = limited(2);
    assert_eq!(world.consume(ME, "q", "a").len(), 2);
    assert_eq!(world.consume(ME, "r", "b").len(), 0);
    world.send(ME, 1, ack(1, false));
    assert_eq!(bodies(&messages(&world.heard(ME))), ["1"], "what was put aside first");
    world.send(ME, 1, ack(0, true));
    assert_eq!(delivered(&mut world), 2);
    world.send(ME, 1, ack(0, true));
    assert_eq!(delivered(&mut world), 1);
}

#[test]
fn another_channel_has_a_limit_of_its_own() {
    let mut world = limited(1);
    assert_eq!(world.consume(ME, "q", "a").len(), 1);
    world.open_channel(ME, 2);
    world.send(ME, 2, ToServer::BasicConsume(consume("r", "b")));
    assert_eq!(delivered(&mut world), 3);
}

#[test]
fn a_global_limit_does_not_hold_back_what_needs_no_acknowledgement() {
    let mut world = limited(1);
    assert_eq!(world.consume(ME, "q", "a").len(), 1);
    world.send(ME, 1, ToServer::BasicConsume(basic::Consume { no_ack: true, ..consume("r", "b") }));
    assert_eq!(delivered(&mut world), 3);
}

#[test]
fn a_nack_makes_room_and_so_does_a_higher_limit() {
    let mut world = limited(1);
    world.consume(ME, "q", "a");
    world.consume(ME, "r", "b");
    world.send(ME, 1, ToServer::BasicNack(basic::Nack { delivery_tag: 1, multiple: false, requeue: false }));
    assert_eq!(delivered(&mut world), 1);
    world.send(ME, 1, qos(3, true));
    assert_eq!(delivered(&mut world), 1, "one that was put aside");
    world.send(ME, 1, qos(0, true));
    world.send(ME, 1, ack(0, true));
    assert!(delivered(&mut world) > 0);
}

#[test]
fn what_was_put_aside_goes_back_unseen_when_its_consumer_ends() {
    let mut world = limited(1);
    world.consume(ME, "q", "a");
    world.consume(ME, "r", "b");
    world.told();
    world.call(ME, 1, ToServer::BasicCancel(basic::Cancel { consumer_tag: "b", no_wait: false }));
    assert_eq!(world.settled(), [(Settlement::Return, 1)]);
    assert_eq!(bodies(&world.consume(OTHER, "r", "c")), ["1", "2", "3"]);
    world.send(ME, 1, ack(0, true));
    assert!(
        messages(&world.heard(ME)).iter().all(|message| message.body != "1"),
        "they are not the consumer's any more"
    );
}

#[test]
fn what_was_put_aside_goes_back_when_its_queue_asks_and_its_consumer_is_granted_more_when_there_is_room() {
    let mut world = limited(1);
    world.consume(ME, "q", "a");
    world.consume(ME, "r", "b");
    world.told();
    let grants = |world: &mut World| {
        let told = world.told().into_iter();
        let grants = told.filter_map(|input| match input {
            ShardInput::Grant { consumer, messages, .. } => Some((consumer, messages)),
            _ => None,
        });
        grants.collect::<Vec<_>>()
    };
    let key = world.key(ME, 2);
    world.hear_from(ME, "r", Event::Recalled(key));
    assert_eq!((delivered(&mut world), world.settled()), (0, vec![(Settlement::Return, 1)]));
    world.call(ME, 1, ToServer::BasicCancel(basic::Cancel { consumer_tag: "a", no_wait: false }));
    // The queue, which has not asked by itself, has handed it out again, and that takes the room.
    world.send(ME, 1, ack(1, false));
    assert_eq!((delivered(&mut world), grants(&mut world)), (1, vec![]));
    world.send(ME, 1, ack(2, false));
    assert_eq!(grants(&mut world), [(key, 2)]);
    world.hear_from(ME, "r", Event::Recalled(world.key(ME, 77)));
    assert_eq!(world.settled(), [], "of a consumer that has ended");
}

#[test]
fn who_has_room_when_a_queue_asks_is_granted_more_at_once() {
    let mut world = limited(2);
    world.consume(ME, "q", "a");
    world.send(ME, 1, ack(0, true));
    assert_eq!(delivered(&mut world), 1);
    world.told();
    let key = world.key(ME, 1);
    world.hear_from(ME, "q", Event::Recalled(key));
    let granted = |input: &ShardInput| matches!(input, ShardInput::Grant { consumer, .. } if *consumer == key);
    assert!(world.told().iter().any(granted));
}

#[test]
fn what_was_put_aside_goes_back_unseen_when_the_channel_ends() {
    let mut world = limited(1);
    world.consume(ME, "q", "a");
    world.consume(ME, "r", "b");
    world.told();
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    world.call(ME, 1, ToServer::ChannelClose(close));
    let mut settled = world.settled();
    settled.sort_by_key(|(settlement, _)| *settlement == Settlement::Return);
    assert_eq!(settled, [(Settlement::Fail, 1), (Settlement::Return, 1)]);
}

#[test]
fn a_consumer_gets_no_more_than_its_channel_takes() {
    let mut world = limited(2);
    let limit = |world: &mut World| {
        world.told().iter().find_map(|input| match input {
            ShardInput::Subscribe { subscription, .. } => Some(subscription.prefetch_count),
            _ => None,
        })
    };
    world.consume(ME, "q", "a");
    assert_eq!(limit(&mut world), Some(2));
    world.call(ME, 1, qos(1, false));
    world.send(ME, 1, ToServer::BasicConsume(consume("q", "b")));
    assert_eq!(limit(&mut world), Some(1));
    world.send(ME, 1, qos(5, false));
    world.send(ME, 1, ToServer::BasicConsume(consume("q", "c")));
    assert_eq!(limit(&mut world), Some(2));
}

#[test]
fn a_limit_extends_the_time_for_what_the_channel_holds() {
    let mut world = limited(0);
    world.consume(ME, "q", "a");
    world.get(ME, "r");
    world.told();
    world.call(ME, 1, qos(1, false));
    let (q, r) = (world.record("q").id, world.record("r").id);
    let channel = world.key(ME, 1).on_channel();
    let mut extended = world.told();
    extended.sort_by_key(|input| matches!(input, ShardInput::Extend { queue, .. } if *queue == r));
    let extend = |queue| ShardInput::Extend { queue, channel };
    assert_eq!(extended, vec![extend(q), extend(r)]);
}

#[test]
fn what_was_got_one_by_one_does_not_count() {
    let mut world = limited(1);
    world.get(ME, "q");
    assert_eq!(world.consume(ME, "q", "a").len(), 1);
    world.get(ME, "r");
    world.send(ME, 1, ack(2, false));
    assert_eq!(delivered(&mut world), 1);
}

#[test]
fn the_time_of_what_is_put_aside_stands_still_until_it_is_sent_where_time_counts() {
    for (kind, timed) in [("quorum", true), ("classic", false)] {
        let mut world = World::new();
        let arguments = TableBuilder::build(|table| _ = table.put("x-queue-type", kind));
        for queue in ["q", "r"] {
            let arguments = Table::new(&arguments);
            let declare = queue::Declare { durable: true, arguments, ..declare(queue) };
            world.call(ME, 1, ToServer::QueueDeclare(declare));
            world.publish_all(OTHER, queue, &["1", "2"]);
        }
        world.call(ME, 1, qos(1, true));
        world.consume(ME, "q", "a");
        world.consume(ME, "r", "b");
        let queue = world.record("r").id;
        let asides = |world: &mut World| {
            let told = world.told().into_iter();
            let asides = told.filter(|input| matches!(input, ShardInput::Aside { queue: of, .. } if *of == queue));
            asides
                .map(|input| match input {
                    ShardInput::Aside { consumer, sent, .. } => (consumer, sent),
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
        };
        let key = world.key(ME, 2);
        let expected = |sent| if timed { vec![(key, sent)] } else { vec![] };
        assert_eq!(asides(&mut world), expected(false), "{kind}");
        world.send(ME, 1, ack(1, false));
        assert_eq!(bodies(&messages(&world.heard(ME))), ["1"]);
        assert_eq!(asides(&mut world), expected(true), "{kind}");
    }
}
