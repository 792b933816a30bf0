//! A stream, from a client's side.

use std::vec::Vec;

use warren_amqp::{BasicProperties, Table, TableBuilder, ToClient, ToServer, Value, basic, queue};

use super::world::*;

const ARGUMENTS: [(&str, &str); 1] = [("x-queue-type", "stream")];

fn table(entries: &[(&str, &str)]) -> Vec<u8> {
    TableBuilder::build(|table| {
        for (name, value) in entries {
            table.put(name, *value);
        }
    })
}

fn with_stream() -> World {
    let mut world = World::new();
    let arguments = table(&ARGUMENTS);
    let declare = queue::Declare { durable: true, arguments: Table::new(&arguments), ..declare("s") };
    let said = world.call(ME, 1, ToServer::QueueDeclare(declare));
    assert!(matches!(said.method(), ToClient::QueueDeclareOk(_)), "{said:?}");
    world
}

fn publish(world: &mut World, body: &str, value: &str) {
    let headers = table(&[("x-stream-filter-value", value)]);
    let properties = BasicProperties { headers: Some(Table::new(&headers)), ..BasicProperties::default() };
    world.publish_with(ME, to_queue("s"), &properties, body);
}

/// Consumes with a prefetch of `prefetch_count` and answers what came at once.
fn read(world: &mut World, client: usize, arguments: &[(&str, &str)], prefetch_count: u16) -> Vec<Said> {
    let qos = basic::Qos { prefetch_size: 0, prefetch_count, global: false };
    world.call(client, 1, ToServer::BasicQos(qos));
    let arguments = table(arguments);
    let consume = basic::Consume { arguments: Table::new(&arguments), ..consume("s", "t") };
    world.send(client, 1, ToServer::BasicConsume(consume));
    world.heard(client)
}

/// The offsets of the messages that came.
fn offsets(heard: &[Said]) -> Vec<i64> {
    let headers = heard.iter().filter(|said| said.content_header().is_some());
    let offset = |said: &Said| match said.properties().headers.expect("there are some").get("x-stream-offset") {
        Ok(Some(Value::I64(offset))) => offset,
        other => panic!("no offset but {other:?}"),
    };
    headers.map(offset).collect()
}

#[test]
fn messages_of_any_delivery_mode_stay_and_everybody_reads_them() {
    let mut world = with_stream();
    ["a", "b", "c"].into_iter().for_each(|body| publish(&mut world, body, "x"));
    for client in [ME, OTHER] {
        let heard = read(&mut world, client, &[("x-stream-offset", "first")], 2);
        assert_eq!(offsets(&heard), [0, 1]);
        assert_eq!(bodies(&messages(&heard[1..])), ["a", "b"]);
        world.send(client, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
        assert_eq!(offsets(&world.heard(client)), [2]);
    }
    assert_eq!(world.count(ME, "s"), (3, 2));
}

#[test]
fn a_reader_gets_what_it_filters_from_where_it_begins() {
    let mut world = with_stream();
    for (body, value) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")] {
        publish(&mut world, body, value);
    }
    let heard = read(&mut world, OTHER, &[("x-stream-offset", "first"), ("x-stream-filter", "x")], 10);
    assert_eq!(offsets(&heard), [0, 2, 3]);
    let heard = read(&mut world, ME, &[("x-stream-offset", "last")], 10);
    assert_eq!(offsets(&heard), [3]);
}

#[test]
fn what_is_rejected_stays_and_gives_room() {
    let mut world = with_stream();
    ["a", "b"].into_iter().for_each(|body| publish(&mut world, body, "x"));
    assert_eq!(offsets(&read(&mut world, ME, &[("x-stream-offset", "first")], 1)), [0]);
    world.send(ME, 1, ToServer::BasicReject(basic::Reject { delivery_tag: 1, requeue: true }));
    assert_eq!(offsets(&world.heard(ME)), [1]);
    assert_eq!(world.count(ME, "s"), (2, 1));
}

#[test]
fn a_stream_is_not_consumed_without_prefetch_and_not_got_from() {
    let mut world = with_stream();
    let text = "PRECONDITION_FAILED - consumer prefetch count is not set for stream queue 's' in vhost '/'";
    world.call(ME, 1, ToServer::BasicConsume(consume("s", "t"))).closes_channel(406, text, basic::Consume::ID);
    let text = "NOT_IMPLEMENTED - basic.get not supported by stream queues queue 's' in vhost '/'";
    let get = ToServer::BasicGet(basic::Get { queue: "s", no_ack: true });
    world.call(OTHER, 1, get).closes_connection(540, text, basic::Get::ID);
}
