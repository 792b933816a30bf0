//! Replies from connection to connection, past all queues.

use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use warren_amqp::{BasicProperties, Header, Table, TableBuilder, ToClient, ToServer, basic, channel, queue};

use super::world::*;
use crate::topology::Administration;

const PSEUDO_QUEUE: &str = "amq.rabbitmq.reply-to";

fn consume_replies(tag: &str) -> basic::Consume<'_> {
    basic::Consume { no_ack: true, ..consume(PSEUDO_QUEUE, tag) }
}

fn request() -> BasicProperties<'static> {
    BasicProperties { reply_to: Some(PSEUDO_QUEUE), correlation_id: Some("7"), ..persistent() }
}

/// A broker with the queue `requests`, where [`ME`] consumes replies under the tag `replies`.
fn with_reply_consumer() -> World {
    let mut world = World::new();
    world.queue(ME, "requests");
    let said = world.call(ME, 1, ToServer::BasicConsume(consume_replies("replies")));
    assert_eq!(said.method(), ToClient::BasicConsumeOk(basic::ConsumeOk { consumer_tag: "replies" }));
    world
}

/// Sends a request, and answers with the address that whoever gets it sees.
fn address(world: &mut World) -> String {
    world.publish_with(ME, to_queue("requests"), &request(), "question");
    world.send(OTHER, 1, ToServer::BasicGet(basic::Get { queue: "requests", no_ack: true }));
    let heard = world.heard(OTHER);
    let payload = heard[1].content_header().expect("behind the method");
    let reply_to = Header::decode(payload).expect("a header").properties.reply_to().expect("readable");
    reply_to.expect("it asks for a reply").to_string()
}

fn declared(world: &mut World, name: &str) -> Said {
    world.call(OTHER, 1, ToServer::QueueDeclare(queue::Declare { passive: true, ..declare(name) }))
}

#[test]
fn a_reply_reaches_the_channel_that_asked() {
    let mut world = with_reply_consumer();
    let address = address(&mut world);
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    for (delivery_tag, body) in [(1, "first"), (2, "second")] {
        world.publish_with(OTHER, to_queue(&address), &persistent(), body);
        let heard = world.heard(ME);
        let deliver = basic::Deliver {
            consumer_tag: "replies",
            delivery_tag,
            redelivered: false,
            exchange: "",
            routing_key: &address,
        };
        assert_eq!(heard[0].method(), ToClient::BasicDeliver(deliver));
        assert_eq!(bodies(&messages(&heard)), [body]);
    }
}

#[test]
fn an_address_stays_the_same_for_all_requests_and_differs_between_consumers() {
    let mut world = with_reply_consumer();
    let first = address(&mut world);
    assert_eq!(address(&mut world), first);
    world.call(ME, 1, ToServer::BasicCancel(basic::Cancel { consumer_tag: "replies", no_wait: false }));
    world.call(ME, 1, ToServer::BasicConsume(consume_replies("again")));
    assert_ne!(address(&mut world), first);
}

#[test]
fn replies_and_deliveries_of_a_channel_share_their_tags() {
    let mut world = with_reply_consumer();
    world.queue(ME, "q");
    let address = address(&mut world);
    world.publish(ME, "q", "a");
    assert_eq!(world.get(ME, "q").expect("one").tag, 1);
    world.publish(OTHER, &address, "reply");
    assert_eq!(messages(&world.heard(ME))[0].tag, 2);
}

#[test]
fn a_message_that_asks_for_another_reply_to_stays_as_it_is() {
    let mut world = with_reply_consumer();
    for reply_to in ["amq.rabbitmq.reply-tox", "mine"] {
        let properties = BasicProperties { reply_to: Some(reply_to), ..persistent() };
        world.publish_with(ME, to_queue("requests"), &properties, "question");
        world.send(OTHER, 1, ToServer::BasicGet(basic::Get { queue: "requests", no_ack: true }));
        let heard = world.heard(OTHER);
        let header = Header::decode(heard[1].content_header().expect("a header")).expect("readable");
        assert_eq!(header.properties.reply_to(), Ok(Some(reply_to)));
    }
}

#[test]
fn a_reply_is_confirmed_and_never_returned_whether_anybody_waits_or_not() {
    let mut world = with_reply_consumer();
    world.confirms(OTHER, 1);
    let address = address(&mut world);
    let mandatory = basic::Publish { mandatory: true, ..to_queue(&address) };
    for delivery_tag in 1..=2 {
        world.publish_with(OTHER, mandatory, &persistent(), "reply");
        let heard = world.heard(OTHER);
        let ack = basic::Ack { delivery_tag, multiple: false };
        assert_eq!((heard.len(), heard[0].method()), (1, ToClient::BasicAck(ack)));
        let delivered = if delivery_tag == 1 { 1 } else { 0 };
        assert_eq!(messages(&world.heard(ME)).len(), delivered);
        world.call(ME, 1, ToServer::BasicCancel(basic::Cancel { consumer_tag: "replies", no_wait: false }));
    }
}

#[test]
fn what_only_looks_like_an_address_leads_nowhere() {
    let mut world = with_reply_consumer();
    let address = address(&mut world);
    let short = &address[..address.len() - 1];
    for key in [PSEUDO_QUEUE, "amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.nonsense", short, &format!("{address}A")]
    {
        world.publish_with(OTHER, basic::Publish { mandatory: true, ..to_queue(key) }, &persistent(), "reply");
        let heard = world.heard(OTHER);
        assert!(matches!(heard[0].method(), ToClient::BasicReturn(_)), "{key}: {heard:?}");
    }
    assert_eq!(world.heard(ME), []);
}

#[test]
fn a_guessed_key_reaches_nobody() {
    let mut world = with_reply_consumer();
    let address = address(&mut world);
    let guessed = format!("{}B", &address[..address.len() - 1]);
    world.publish(OTHER, &guessed, "forged");
    assert_eq!(world.heard(ME), []);
    declared(&mut world, &guessed).closes_channel(
        404,
        &format!("NOT_FOUND - no queue '{guessed}' in vhost '/'"),
        queue::Declare::ID,
    );
}

#[test]
fn replies_do_not_leave_their_virtual_host() {
    let mut world = with_reply_consumer();
    let address = address(&mut world);
    let (description, tags) = (String::new(), Vec::new());
    world.administer_in("other", Administration::PutVhost { description, tags, default_queue_type: None });
    let stranger = world.connect();
    world.open_vhost(stranger, "other");
    world.open_channel(stranger, 1);
    world.publish_with(stranger, basic::Publish { mandatory: true, ..to_queue(&address) }, &persistent(), "reply");
    assert_eq!((world.heard(stranger), world.heard(ME)), (vec![], vec![]), "nothing is said of it");
    let passive = queue::Declare { passive: true, ..declare(&address) };
    let said = world.call(stranger, 1, ToServer::QueueDeclare(passive));
    let text = format!("NOT_FOUND - no queue '{address}' in vhost 'other'");
    said.closes_channel(404, &text, queue::Declare::ID);
}

#[test]
fn only_the_default_exchange_leads_to_an_address() {
    let mut world = with_reply_consumer();
    let address = address(&mut world);
    let direct = basic::Publish { exchange: "amq.direct", mandatory: true, ..to_queue(&address) };
    world.publish_with(OTHER, direct, &persistent(), "reply");
    assert!(matches!(world.heard(OTHER)[0].method(), ToClient::BasicReturn(_)));
    assert_eq!(world.heard(ME), []);
}

#[test]
fn copies_reach_an_address_once() {
    let mut world = with_reply_consumer();
    let address = address(&mut world);
    let headers = TableBuilder::build(|table| {
        table.array("CC", |array| _ = array.push(address.as_str()));
        table.array("BCC", |array| _ = array.push(address.as_str()));
    });
    let properties = BasicProperties { headers: Some(Table::new(&headers)), ..persistent() };
    world.publish_with(OTHER, basic::Publish { mandatory: true, ..to_queue("requests") }, &properties, "both");
    assert_eq!(world.heard(OTHER), []);
    assert_eq!(bodies(&messages(&world.heard(ME))), ["both"]);
    assert_eq!(world.count(ME, "requests"), (1, 0));
}

#[test]
fn replies_are_consumed_without_acknowledgement_and_once_a_channel() {
    let mut world = World::new();
    world.send(ME, 1, ToServer::BasicConsume(consume(PSEUDO_QUEUE, "a")));
    let text = "PRECONDITION_FAILED - reply consumer cannot acknowledge";
    world.heard(ME)[0].closes_channel(406, text, basic::Consume::ID);

    let mut world = with_reply_consumer();
    world.open_channel(ME, 2);
    world.call(ME, 2, ToServer::BasicConsume(consume_replies("replies")));
    world.send(ME, 1, ToServer::BasicConsume(basic::Consume { no_ack: false, ..consume_replies("other") }));
    let text = "PRECONDITION_FAILED - reply consumer already set";
    world.heard(ME)[0].closes_channel(406, text, basic::Consume::ID);
}

#[test]
fn a_tag_is_used_once_a_channel_by_whatever_consumer() {
    let mut world = with_reply_consumer();
    world.send(ME, 1, ToServer::BasicConsume(consume("requests", "replies")));
    let text = "NOT_ALLOWED - attempt to reuse consumer tag 'replies'";
    world.heard(ME)[0].closes_connection(530, text, basic::Consume::ID);

    let mut world = World::new();
    world.queue(ME, "q");
    world.consume(ME, "q", "taken");
    world.send(ME, 1, ToServer::BasicConsume(consume_replies("taken")));
    let text = "NOT_ALLOWED - attempt to reuse consumer tag 'taken'";
    world.heard(ME)[0].closes_connection(530, text, basic::Consume::ID);
}

#[test]
fn the_server_makes_a_tag_up_and_no_wait_is_silent() {
    let mut world = World::new();
    let said = world.call(ME, 1, ToServer::BasicConsume(consume_replies("")));
    assert!(matches!(said.method(), ToClient::BasicConsumeOk(ok) if ok.consumer_tag.starts_with("amq.ctag-")));
    world.send(OTHER, 1, ToServer::BasicConsume(basic::Consume { no_wait: true, ..consume_replies("a") }));
    assert_eq!(world.heard(OTHER), []);
}

#[test]
fn a_request_without_a_reply_consumer_on_its_channel_is_406() {
    let mut world = with_reply_consumer();
    world.publish_with(OTHER, to_queue("requests"), &request(), "question");
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
    world.heard(OTHER)[0].closes_channel(406, text, basic::Publish::ID);

    world.call(ME, 1, ToServer::BasicCancel(basic::Cancel { consumer_tag: "replies", no_wait: false }));
    world.publish_with(ME, basic::Publish { exchange: "nowhere", ..to_queue("requests") }, &request(), "question");
    let text = "NOT_FOUND - no exchange 'nowhere' in vhost '/'";
    world.heard(ME)[0].closes_channel(404, text, basic::Publish::ID);
}

fn there(name: &str) -> ToClient<'_> {
    ToClient::QueueDeclareOk(queue::DeclareOk { queue: name, message_count: 0, consumer_count: 1 })
}

#[test]
fn a_server_can_ask_whether_anybody_waits_for_its_reply() {
    type End = fn(&mut World);
    let ends: [End; 3] = [
        |world| {
            drop(world.call(ME, 1, ToServer::BasicCancel(basic::Cancel { consumer_tag: "replies", no_wait: false })))
        },
        |world| drop(world.call(ME, 1, ToServer::ChannelClose(close_of_channel()))),
        |world| world.disconnect(ME),
    ];
    for end in ends {
        let mut world = with_reply_consumer();
        let address = address(&mut world);
        assert_eq!(declared(&mut world, &address).method(), there(&address));
        assert_eq!(declared(&mut world, PSEUDO_QUEUE).method(), there(PSEUDO_QUEUE));
        end(&mut world);
        let text = format!("NOT_FOUND - no queue '{address}' in vhost '/'");
        declared(&mut world, &address).closes_channel(404, &text, queue::Declare::ID);
    }
}

fn close_of_channel() -> channel::Close<'static> {
    channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 }
}

#[test]
fn the_pseudo_queue_is_no_queue() {
    let mut world = World::new();
    world.send(ME, 1, ToServer::BasicGet(basic::Get { queue: PSEUDO_QUEUE, no_ack: true }));
    let text = "NOT_FOUND - no queue 'amq.rabbitmq.reply-to' in vhost '/'";
    world.heard(ME)[0].closes_channel(404, text, basic::Get::ID);
}
