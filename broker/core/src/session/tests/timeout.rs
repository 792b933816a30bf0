//! Consumers that hold a message for too long.

use std::vec;
use std::vec::Vec;

use warren_amqp::{BasicProperties, ToClient, ToServer, basic, channel, exchange, queue, tx};

use super::world::*;
use crate::queue::{Event, Settlement, ShardInput};

const TEXT: &str = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. This timeout value can be \
                    configured, see consumers doc guide to learn more";

/// A client that holds two messages of `q` as the consumer 1, and of `r` as the consumer 2, and does not hear of its queues.
fn holding(capabilities: &[&str]) -> World {
    let mut world = World::empty();
    let client = world.connect();
    world.log_in_with(client, capabilities, 0);
    world.open_channel(client, 1);
    for (queue, tag) in [("q", "t"), ("r", "u")] {
        world.queue(client, queue);
        world.publish_all(client, queue, &["a", "b"]);
        assert_eq!(world.consume(client, queue, tag).len(), 2);
    }
    world.told();
    world
}

fn timed_out(world: &World, serial: u32) -> Event {
    let queue = world.topology.queue("/", "q").expect("it was declared");
    Event::ConsumerTimedOut(world.key(ME, serial), queue.id)
}

#[test]
fn a_client_that_can_take_it_is_told_that_its_consumer_has_ended() {
    let mut world = holding(&["consumer_cancel_notify"]);
    world.hear_from(ME, "q", timed_out(&world, 1));
    let cancel = basic::Cancel { consumer_tag: "t", no_wait: true };
    assert_eq!(world.heard(ME)[0].method(), ToClient::BasicCancel(cancel));
}

#[test]
fn acknowledging_too_late_is_no_mistake_and_has_no_effect() {
    let mut world = holding(&["consumer_cancel_notify"]);
    world.hear_from(ME, "q", timed_out(&world, 1));
    world.heard(ME);
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
    assert_eq!((world.heard(ME), world.settled()), (Vec::new(), Vec::new()));
    world.send(ME, 1, ToServer::BasicNack(basic::Nack { delivery_tag: 0, multiple: true, requeue: true }));
    assert_eq!(world.settled(), [(Settlement::Requeue, 2)], "those of the other consumer");
}

#[test]
fn whatever_is_settled_says_whose_it_was() {
    let mut world = holding(&["consumer_cancel_notify"]);
    let channel = world.key(ME, 1).on_channel();
    world.get(ME, "q");
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
    world.send(ME, 1, ToServer::BasicReject(basic::Reject { delivery_tag: 2, requeue: false }));
    world.send(ME, 1, ToServer::BasicNack(basic::Nack { delivery_tag: 0, multiple: true, requeue: true }));
    world.send(ME, 1, ToServer::BasicRecover(basic::Recover { requeue: true }));
    let delivery = world.delivery("q");
    world.hear_from(ME, "q", Event::Deliver(world.key(ME, 99), delivery));
    world.disconnect(ME);
    let told = world.told();
    let holders = told.iter().filter_map(|input| match input {
        ShardInput::Settle { holder, .. } => Some(*holder),
        _ => None,
    });
    let holders: Vec<_> = holders.collect();
    assert!(holders.len() >= 4 && holders.iter().all(|holder| *holder == channel), "{told:?}");
}

#[test]
fn the_channel_of_a_client_that_cannot_take_it_is_closed() {
    let mut world = holding(&[]);
    world.hear_from(ME, "q", timed_out(&world, 1));
    world.heard(ME)[0].closes_channel(406, TEXT, (0, 0));
    assert_eq!(world.settled(), [(Settlement::Fail, 2)], "those of the other consumer");
}

/// A client that got a message of `q`, and does not hear of its queue.
fn with_one_that_it_got() -> World {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish_all(ME, "q", &["a", "b"]);
    assert!(world.get(ME, "q").is_some());
    world
}

#[test]
fn the_channel_of_a_client_that_got_its_messages_one_by_one_is_closed() {
    let mut world = with_one_that_it_got();
    world.hear_from(ME, "q", timed_out(&world, 0));
    world.heard(ME)[0].closes_channel(406, TEXT, (0, 0));
    world.hear_from(ME, "q", timed_out(&world, 0));
    assert!(world.heard(ME).is_empty(), "it is closing");
}

#[test]
fn a_timeout_that_is_heard_of_too_late_closes_no_channel_that_was_opened_since() {
    let mut world = with_one_that_it_got();
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    world.call(ME, 1, ToServer::ChannelClose(close));
    world.open_channel(ME, 1);
    world.hear_from(ME, "q", timed_out(&world, 0));
    assert_eq!(world.heard(ME), Vec::new());
    assert!(world.get(ME, "q").is_some());
}

#[test]
fn a_timeout_that_an_acknowledgement_has_crossed_closes_no_channel() {
    let mut world = with_one_that_it_got();
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
    world.hear_from(ME, "q", timed_out(&world, 0));
    assert_eq!(world.heard(ME), Vec::new());
}

#[test]
fn an_acknowledgement_that_waits_for_its_commit_is_none_yet() {
    let mut world = with_one_that_it_got();
    world.call(ME, 1, ToServer::TxSelect(tx::Select));
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
    world.hear_from(ME, "q", timed_out(&world, 0));
    world.heard(ME)[0].closes_channel(406, TEXT, (0, 0));
}

#[test]
fn a_consumer_that_has_ended_before_takes_nobody_with_it() {
    let mut world = holding(&[]);
    world.call(ME, 1, ToServer::BasicCancel(basic::Cancel { consumer_tag: "t", no_wait: false }));
    world.hear_from(ME, "q", timed_out(&world, 1));
    assert!(world.heard(ME).is_empty());
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 0, multiple: true }));
    assert_eq!(world.settled(), [(Settlement::Done, 2)], "those of the other consumer");
}

#[test]
fn what_the_queue_has_counted_is_in_the_headers() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish_with(ME, to_queue("q"), &BasicProperties::default(), "a");
    world.consume(ME, "q", "t");
    let mut counted = world.delivery("q");
    counted.delivery_count = 3;
    counted.offset = Some(7);
    world.hear_from(ME, "q", Event::Deliver(world.key(ME, 1), counted));
    let heard = world.heard(ME);
    let headers = heard[1].properties().headers.expect("there are headers");
    assert_eq!(headers.get("x-delivery-count"), Ok(Some(warren_amqp::Value::I64(3))));
    assert_eq!(headers.get("x-stream-offset"), Ok(Some(warren_amqp::Value::I64(7))));
}

/// Methods that are answered by a shard or by the metadata, also with an exception.
fn that_wait() -> Vec<ToServer<'static>> {
    let purge = queue::Purge { queue: "empty", no_wait: false };
    let bind =
        queue::Bind { queue: "q", exchange: "amq.topic", routing_key: "k", no_wait: false, arguments: NO_ARGUMENTS };
    let unbind = queue::Unbind { queue: "q", exchange: "amq.topic", routing_key: "k", arguments: NO_ARGUMENTS };
    let delete = queue::Delete { queue: "r", if_unused: false, if_empty: false, no_wait: false };
    let exchange = exchange::Delete { exchange: "amq.topic", if_unused: false, no_wait: false };
    let to = |queue| basic::Get { queue, no_ack: false };
    vec![
        ToServer::QueueDeclare(declare("new")),
        ToServer::QueueDeclare(queue::Declare { durable: true, ..declare("q") }),
        ToServer::QueueDeclare(queue::Declare { durable: false, ..declare("q") }),
        ToServer::QueuePurge(purge),
        ToServer::QueueBind(bind),
        ToServer::QueueUnbind(unbind),
        ToServer::QueueDelete(delete),
        ToServer::ExchangeDelete(exchange),
        ToServer::BasicGet(to("r")),
        ToServer::BasicGet(to("empty")),
        ToServer::BasicConsume(consume("r", "v")),
        ToServer::BasicConsume(consume("taken", "v")),
        ToServer::BasicCancel(basic::Cancel { consumer_tag: "t", no_wait: false }),
        ToServer::BasicCancel(basic::Cancel { consumer_tag: "u", no_wait: false }),
        ToServer::TxCommit(tx::Commit),
    ]
}

#[test]
fn a_channel_that_was_closed_over_a_timeout_is_not_answered_any_more() {
    for method in that_wait() {
        let mut world = holding(&[]);
        let other = world.connect();
        world.log_in(other);
        world.open_channel(other, 1);
        world.queue(ME, "empty");
        world.queue(ME, "taken");
        let exclusive = basic::Consume { exclusive: true, ..consume("taken", "x") };
        world.call(other, 1, ToServer::BasicConsume(exclusive));
        if matches!(method, ToServer::TxCommit(_)) {
            world.call(ME, 1, ToServer::TxSelect(tx::Select));
            world.publish_on(ME, 1, "empty", "c");
        } else {
            world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 4, multiple: false }));
            world.publish(other, "r", "c");
        }
        world.heard(ME);
        world.metadata_answers(false);
        world.takes_events(ME, false);
        world.send(ME, 1, method);
        assert!(world.is_waiting(ME), "{method:?}");
        world.interrupt(ME, "q", timed_out(&world, 1));
        world.heard(ME)[0].closes_channel(406, TEXT, (0, 0));
        world.metadata_answers(true);
        world.takes_events(ME, true);
        assert_eq!((world.heard(ME), world.is_waiting(ME)), (Vec::new(), false), "{method:?}");
        world.send(ME, 1, ToServer::ChannelCloseOk(channel::CloseOk));
        world.open_channel(ME, 1);
        assert_eq!(world.heard(ME), Vec::new(), "{method:?}");
        if !matches!(method, ToServer::QueueDelete(_)) {
            assert!(world.get(ME, "r").is_some(), "{method:?}: what it held is there again");
        }
    }
}
