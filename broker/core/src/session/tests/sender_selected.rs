//! Further routing keys in the headers `CC` and `BCC`.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use warren_amqp::content::{encode_body_frames, encode_header};
use warren_amqp::{BasicProperties, Header, Table, TableBuilder, ToClient, ToServer, Value, basic, queue};

use super::world::*;
use crate::limits::FRAME_MAX;

/// A broker with the durable queues `a`, `b` and `c`.
fn with_queues() -> World {
    let mut world = World::new();
    ["a", "b", "c"].iter().for_each(|name| world.queue(ME, name));
    world
}

fn headers(copies: &[(&str, &[&str])]) -> Vec<u8> {
    TableBuilder::build(|table| {
        table.put("x", 1);
        for (name, keys) in copies {
            table.array(name, |array| keys.iter().for_each(|key| _ = array.push(*key)));
        }
    })
}

fn publish_with_headers(world: &mut World, publish: basic::Publish<'_>, headers: &[u8]) {
    let properties = BasicProperties { headers: Some(Table::new(headers)), ..persistent() };
    world.publish_with(ME, publish, &properties, "m");
}

fn counts(world: &mut World) -> [u32; 3] {
    ["a", "b", "c"].map(|name| world.count(ME, name).0)
}

/// The names in the headers table of the first content header heard.
fn header_names(heard: &[Said]) -> Vec<String> {
    let payload = heard.iter().find_map(Said::content_header).expect("a message");
    let table = Header::decode(payload).expect("a header").properties.headers().expect("readable");
    table.expect("a table").iter().map(|entry| entry.expect("an entry").0.to_string()).collect()
}

#[test]
fn each_key_is_routed_by_and_each_queue_gets_the_message_once() {
    let mut world = with_queues();
    publish_with_headers(&mut world, to_queue("a"), &headers(&[("CC", &["b", "b", "a"]), ("BCC", &["b", "c"])]));
    assert_eq!(counts(&mut world), [1, 1, 1]);
    publish_with_headers(&mut world, to_queue("nowhere"), &headers(&[("BCC", &["c"])]));
    assert_eq!(counts(&mut world), [1, 1, 2]);
    publish_with_headers(&mut world, to_queue("a"), &headers(&[("CC", &[])]));
    assert_eq!(counts(&mut world), [2, 1, 2]);
    publish_with_headers(&mut world, to_queue("a"), &headers(&[("cc", &["b"])]));
    assert_eq!(counts(&mut world), [3, 1, 2], "names are told apart by case");
}

#[test]
fn keys_are_matched_by_the_exchange_published_to() {
    let mut world = with_queues();
    for (queue, routing_key) in [("a", "x.*"), ("b", "y.#"), ("c", "z")] {
        let bind = queue::Bind { queue, exchange: "amq.topic", routing_key, no_wait: false, arguments: NO_ARGUMENTS };
        world.call(ME, 1, ToServer::QueueBind(bind));
    }
    let publish = basic::Publish { exchange: "amq.topic", ..to_queue("x.1") };
    publish_with_headers(&mut world, publish, &headers(&[("CC", &["y.1.2", "a"])]));
    assert_eq!(counts(&mut world), [1, 1, 0]);
}

#[test]
fn elements_that_are_no_strings_are_no_keys() {
    let mut world = with_queues();
    let headers = TableBuilder::build(|table| {
        table.array("CC", |array| {
            array.push(1);
            array.push("b");
            array.push(Value::LongString(b"\xff"));
        });
    });
    publish_with_headers(&mut world, to_queue("a"), &headers);
    assert_eq!(counts(&mut world), [1, 1, 0]);
}

#[test]
fn the_first_of_several_headers_of_a_name_counts() {
    let mut world = with_queues();
    publish_with_headers(&mut world, to_queue("a"), &headers(&[("CC", &["b"]), ("CC", &["c"])]));
    assert_eq!(counts(&mut world), [1, 1, 0]);
}

#[test]
fn nobody_is_shown_blind_copies() {
    let mut world = with_queues();
    let headers = headers(&[("CC", &["b"]), ("BCC", &["c"])]);
    publish_with_headers(&mut world, to_queue("nowhere"), &headers);
    for queue in ["b", "c"] {
        world.send(ME, 1, ToServer::BasicGet(basic::Get { queue, no_ack: true }));
        assert_eq!(header_names(&world.heard(ME)), ["x", "CC"]);
    }
}

#[test]
fn a_returned_message_has_no_blind_copies_either() {
    let mut world = with_queues();
    let headers = headers(&[("BCC", &["no queue"])]);
    publish_with_headers(&mut world, basic::Publish { mandatory: true, ..to_queue("nowhere") }, &headers);
    let heard = world.heard(ME);
    assert!(matches!(heard[0].method(), ToClient::BasicReturn(_)), "{heard:?}");
    assert_eq!(header_names(&heard), ["x"]);
}

#[test]
fn a_mandatory_message_that_only_a_copy_is_routed_of_is_not_returned() {
    let mut world = with_queues();
    publish_with_headers(
        &mut world,
        basic::Publish { mandatory: true, ..to_queue("nowhere") },
        &headers(&[("CC", &["a"])]),
    );
    assert_eq!(world.heard(ME), []);
    assert_eq!(counts(&mut world), [1, 0, 0]);
}

#[test]
fn a_message_to_several_queues_by_its_copies_is_confirmed_once() {
    let mut world = with_queues();
    world.confirms(ME, 1);
    publish_with_headers(&mut world, to_queue("a"), &headers(&[("CC", &["b"]), ("BCC", &["c"])]));
    let heard = world.heard(ME);
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].method(), ToClient::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
}

#[test]
fn copies_that_are_no_arrays_are_406() {
    let wrong: [(&[&str], &str, &str); 3] =
        [(&["CC"], "CC", "longstr"), (&["BCC"], "BCC", "longstr"), (&["BCC", "CC"], "CC", "longstr")];
    for (names, blamed, kind) in wrong {
        let mut world = with_queues();
        let headers = TableBuilder::build(|table| names.iter().for_each(|name| _ = table.put(name, "b")));
        publish_with_headers(&mut world, to_queue("a"), &headers);
        let text =
            std::format!("PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,\"{blamed}\",{kind}}}");
        world.heard(ME)[0].closes_channel(406, &text, basic::Publish::ID);
        assert_eq!(world.count(OTHER, "a"), (0, 0));
    }
}

#[test]
fn copies_are_made_however_the_frames_come() {
    let mut world = with_queues();
    let headers = headers(&[("CC", &["b"]), ("BCC", &["c"])]);
    let properties = BasicProperties { headers: Some(Table::new(&headers)), ..persistent() };
    let mut octets = vec![];
    ToServer::BasicPublish(to_queue("a")).encode(1, &mut octets);
    encode_header(1, 3, &properties, &mut octets);
    encode_body_frames(1, b"abc", FRAME_MAX, &mut octets);
    octets.iter().for_each(|octet| world.send_octets(ME, &[*octet]));
    assert_eq!(counts(&mut world), [1, 1, 1]);
}
