//! What queues are told of a message: what its properties and headers say, as far as one of its queues asks.

use std::vec::Vec;

use warren_amqp::{BasicProperties, Table, TableBuilder, ToServer, basic, exchange, queue};

use super::world::*;
use crate::command::{Attributes, Publish};

fn declare_with(world: &mut World, name: &str, write: impl FnOnce(&mut TableBuilder<'_>)) {
    let arguments = TableBuilder::build(write);
    let declare = queue::Declare { durable: true, arguments: Table::new(&arguments), ..declare(name) };
    let said = world.call(ME, 1, ToServer::QueueDeclare(declare));
    assert!(matches!(said.method(), warren_amqp::ToClient::QueueDeclareOk(_)), "{said:?}");
}

/// All headers that a queue may ask for.
fn headers() -> Vec<u8> {
    TableBuilder::build(|table| {
        table.put("x-deduplication-header", "key").put("x-stream-filter-value", "blue").put("x-delay", 5_000);
    })
}

/// Publishes a message with all of [`headers`] and checks what the queues are told.
#[track_caller]
fn told(world: &mut World, publish: basic::Publish<'_>, expected: Attributes<'_>) {
    let headers = headers();
    world.runs.clear();
    let properties = BasicProperties { headers: Some(Table::new(&headers)), ..persistent() };
    world.publish_with(ME, publish, &properties, "m");
    let run = world.runs.pop().expect("it was routed");
    assert_eq!(Publish::decode(&run.commands).expect("a publish").attributes(), expected);
}

#[test]
fn a_queue_that_does_not_ask_is_told_nothing() {
    let mut world = World::new();
    world.queue(ME, "plain");
    told(&mut world, to_queue("plain"), Attributes::default());
}

#[test]
fn a_queue_that_drops_duplicates_is_told_what_they_have_in_common() {
    let mut world = World::new();
    declare_with(&mut world, "once", |table| _ = table.put("x-message-deduplication", true).put("x-cache-size", 10));
    for _ in 0..2 {
        world.publish_with(ME, to_queue("once"), &persistent(), "without the header");
    }
    let headers = headers();
    let key = super::super::deduplication::deduplication_key(Table::new(&headers));
    assert!(key.is_some());
    for _ in 0..2 {
        told(&mut world, to_queue("once"), Attributes { deduplication: key, ..Attributes::default() });
    }
    assert_eq!(world.count(ME, "once"), (3, 0));
}

#[test]
fn a_stream_is_told_the_value_that_it_filters_by() {
    let mut world = World::new();
    declare_with(&mut world, "stream", |table| _ = table.put("x-queue-type", "stream"));
    told(&mut world, to_queue("stream"), Attributes { filter: Some(b"blue"), ..Attributes::default() });
}

#[test]
fn a_delayed_exchange_is_told_for_how_long() {
    let mut world = World::new();
    world.queue(ME, "q");
    let arguments = TableBuilder::build(|table| _ = table.put("x-delayed-type", "direct"));
    let declare = exchange::Declare {
        exchange: "later",
        kind: "x-delayed-message",
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: Table::new(&arguments),
    };
    world.call(ME, 1, ToServer::ExchangeDeclare(declare));
    let publish = basic::Publish { exchange: "later", ..to_queue("q") };
    told(&mut world, publish, Attributes { delay: Some(5_000), ..Attributes::default() });
}
