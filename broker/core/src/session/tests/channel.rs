//! Channels, and what a mistake costs: the channel or the connection.

use std::vec;

use warren_amqp::{Frame, ToClient, ToServer, access, basic, channel, connection, exchange, queue};

use super::world::*;

fn close_channel() -> ToServer<'static> {
    ToServer::ChannelClose(channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 })
}

fn passive(name: &str) -> ToServer<'_> {
    ToServer::QueueDeclare(queue::Declare { passive: true, ..declare(name) })
}

#[test]
fn a_channel_error_closes_its_channel_and_no_other() {
    let mut world = World::new();
    world.open_channel(ME, 2);
    let said = world.call(ME, 1, passive("q"));
    assert_eq!(said.channel, 1);
    said.closes_channel(404, "NOT_FOUND - no queue 'q' in vhost '/'", queue::Declare::ID);
    let said = world.call(ME, 2, ToServer::QueueDeclare(declare("q")));
    assert!(matches!(said.method(), ToClient::QueueDeclareOk(_)));
}

#[test]
fn a_connection_error_leaves_other_connections_alone() {
    let mut world = World::new();
    let said = world.call(ME, 9, ToServer::QueueDeclare(declare("q")));
    said.closes_connection(504, "CHANNEL_ERROR - expected 'channel.open'", queue::Declare::ID);
    world.queue(OTHER, "q");
}

#[test]
fn frames_on_a_closing_channel_are_dropped_until_close_ok() {
    let mut world = World::new();
    world.queue(OTHER, "q");
    world.call(ME, 1, passive("missing"));
    world.publish(ME, "q", "dropped");
    world.send(ME, 1, ToServer::QueueDeclare(declare("also-dropped")));
    assert!(world.heard(ME).is_empty());
    world.send(ME, 1, ToServer::ChannelCloseOk(channel::CloseOk));
    world.open_channel(ME, 1);
    assert_eq!(world.count(ME, "q"), (0, 0));
    let said = world.call(ME, 1, passive("also-dropped"));
    said.closes_channel(404, "NOT_FOUND - no queue 'also-dropped' in vhost '/'", queue::Declare::ID);
}

#[test]
fn both_sides_may_close_a_channel_at_once() {
    let mut world = World::new();
    world.call(ME, 1, passive("missing"));
    assert_eq!(world.call(ME, 1, close_channel()).method(), ToClient::ChannelCloseOk(channel::CloseOk));
    world.send(ME, 1, ToServer::ChannelCloseOk(channel::CloseOk));
    assert!(world.heard(ME).is_empty());
    world.open_channel(ME, 1);
}

#[test]
fn a_closed_channel_gives_back_what_it_held_in_order() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish_all(ME, "q", &["a", "b", "c"]);
    assert_eq!(bodies(&world.consume(ME, "q", "t")), ["a", "b", "c"]);
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 2, multiple: false }));
    assert_eq!(world.call(ME, 1, close_channel()).method(), ToClient::ChannelCloseOk(channel::CloseOk));
    let delivered = world.consume(OTHER, "q", "t");
    assert_eq!(bodies(&delivered), ["a", "c"]);
    assert!(delivered.iter().all(|message| message.redelivered));
}

#[test]
fn a_lost_connection_gives_back_what_it_held() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish(ME, "q", "a");
    assert_eq!(world.consume(ME, "q", "t").len(), 1);
    world.disconnect(ME);
    let delivered = world.consume(OTHER, "q", "t");
    assert_eq!(delivered, [Message { tag: 1, redelivered: true, body: "a".into() }]);
}

#[test]
fn a_connection_that_is_closing_takes_nothing_from_others() {
    let mut world = World::new();
    world.queue(ME, "q");
    assert!(world.consume(ME, "q", "t").is_empty());
    world.takes_events(ME, false);
    world.publish(OTHER, "q", "a");
    // The delivery is on its way when the connection ends over a mistake, and the message goes to the other.
    world.send(ME, 9, ToServer::QueueDeclare(declare("q")));
    assert_eq!(bodies(&world.consume(OTHER, "q", "t")), ["a"]);
    world.takes_events(ME, true);
    let heard = world.heard(OTHER);
    assert_eq!(messages(&heard), [], "it is not taken away again");
    world.send(OTHER, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
    assert_eq!(world.count(OTHER, "q"), (0, 1));
}

#[test]
fn frames_behind_our_connection_close_are_dropped() {
    let mut world = World::new();
    world.call(ME, 9, ToServer::QueueDeclare(declare("q")));
    world.publish(ME, "q", "content");
    let mut octets = vec![];
    Frame::Heartbeat { channel: 3 }.encode(&mut octets);
    Frame::Method { channel: 1, payload: &[0, 60, 0, 255] }.encode(&mut octets);
    world.send_octets(ME, &octets);
    assert_eq!(world.heard(ME), [], "one connection.close is enough");
    world.send(ME, 0, ToServer::ConnectionCloseOk(connection::CloseOk));
    assert!(world.is_closed(ME));
}

#[test]
fn both_sides_may_close_the_connection_at_once() {
    let mut world = World::new();
    world.call(ME, 9, ToServer::QueueDeclare(declare("q")));
    let close = connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    let said = world.call(ME, 0, ToServer::ConnectionClose(close));
    assert_eq!(said.method(), ToClient::ConnectionCloseOk(connection::CloseOk));
    assert!(world.is_closed(ME));
}

#[test]
fn undecodable_methods_close_the_connection_and_are_named() {
    let cases: [(&[u8], u16, (u16, u16)); 4] = [
        (&[0, 60, 0, 255], 540, (60, 255)),
        (&[0, 60, 0, 60, 0], 503, (60, 60)),
        (&[0, 50, 0, 10, 0], 501, (50, 10)),
        (&[0], 501, (0, 0)),
    ];
    for (payload, code, offender) in cases {
        let mut world = World::new();
        let mut octets = vec![];
        Frame::Method { channel: 1, payload }.encode(&mut octets);
        world.send_octets(ME, &octets);
        let heard = world.heard(ME);
        let ToClient::ConnectionClose(close) = heard[0].method() else { panic!("{heard:?}") };
        assert_eq!((close.reply_code, (close.class_id, close.method_id)), (code, offender), "{payload:?}");
    }
}

#[test]
fn broken_framing_is_501() {
    let frames: [(&[u8], &str); 3] = [
        (b"\x01\x00\x01\x00\x00\x00\x01Ax", "type 1, channel 1: {invalid_frame_end_marker,120}"),
        (b"\x07\x00\x01\x00\x00\x00\x00\xce", "type 7, channel 1: unknown_frame"),
        (b"\x03\x00\x01\x00\x02\x00\x01", "type 3, channel 1: {frame_too_large,131073,131072}"),
    ];
    for (octets, term) in frames {
        let mut world = World::new();
        world.send_octets(ME, octets);
        world.heard(ME)[0].closes_connection(501, &std::format!("FRAME_ERROR - {term}"), (0, 0));
    }
}

#[test]
fn a_heartbeat_on_a_channel_is_505() {
    let mut world = World::new();
    world.send_octets(ME, b"\x08\x00\x01\x00\x00\x00\x00\xce");
    let text = "UNEXPECTED_FRAME - heartbeat frame on channel 1; heartbeats belong on channel 0";
    world.heard(ME)[0].closes_connection(505, text, (0, 0));
}

#[test]
fn opening_a_channel_twice_is_504() {
    let mut world = World::new();
    let said = world.call(ME, 1, ToServer::ChannelOpen(channel::Open));
    said.closes_connection(504, "CHANNEL_ERROR - second 'channel.open' seen", channel::Open::ID);
}

#[test]
fn channel_max_counts_open_channels() {
    let mut world = World::new();
    (2..=2_047).for_each(|number| world.open_channel(ME, number));
    world.send(ME, 7, close_channel());
    world.heard(ME);
    world.open_channel(ME, 60_000);
    let said = world.call(ME, 7, ToServer::ChannelOpen(channel::Open));
    let text = "NOT_ALLOWED - number of channels opened (2047) has reached the negotiated channel_max (2047)";
    said.closes_connection(530, text, (0, 0));
}

#[test]
fn what_is_not_implemented_is_540() {
    let methods: [(ToServer<'_>, &str, (u16, u16)); 4] = [
        (ToServer::ChannelFlow(channel::Flow { active: false }), "active=false", channel::Flow::ID),
        (
            ToServer::BasicQos(basic::Qos { prefetch_size: 1, prefetch_count: 0, global: false }),
            "prefetch_size!=0 (1)",
            basic::Qos::ID,
        ),
        (ToServer::BasicRecover(basic::Recover { requeue: false }), "requeue=false", basic::Recover::ID),
        (
            ToServer::BasicPublish(basic::Publish { immediate: true, ..to_queue("q") }),
            "immediate=true",
            basic::Publish::ID,
        ),
    ];
    for (method, text, id) in methods {
        let said = World::new().call(ME, 1, method);
        said.closes_connection(540, &std::format!("NOT_IMPLEMENTED - {text}"), id);
    }
}

#[test]
fn old_methods_that_do_nothing_are_answered() {
    let mut world = World::new();
    let flow = ToServer::ChannelFlow(channel::Flow { active: true });
    assert_eq!(world.call(ME, 1, flow).method(), ToClient::ChannelFlowOk(channel::FlowOk { active: true }));
    let access = access::Request { realm: "/", exclusive: false, passive: true, active: true, write: true, read: true };
    let said = world.call(ME, 1, ToServer::AccessRequest(access));
    assert_eq!(said.method(), ToClient::AccessRequestOk(access::RequestOk { ticket: 1 }));
}

#[test]
fn methods_of_the_connection_on_a_channel_are_503() {
    let mut world = World::new();
    let close = connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    let said = world.call(ME, 1, ToServer::ConnectionClose(close));
    said.closes_connection(503, "COMMAND_INVALID - unimplemented method", connection::Close::ID);
}

#[test]
fn methods_of_a_channel_on_channel_0_are_504() {
    let mut world = World::new();
    let said = world.call(ME, 0, ToServer::QueueDeclare(declare("q")));
    let text = "CHANNEL_ERROR - unexpected method in connection state running";
    said.closes_connection(504, text, queue::Declare::ID);
}

#[test]
fn reply_texts_are_cut_to_a_short_string() {
    let mut world = World::new();
    let name = "é".repeat(127);
    let said = world.call(ME, 1, passive(&name));
    let ToClient::ChannelClose(close) = said.method() else { panic!("{said:?}") };
    assert!((254..=255).contains(&close.reply_text.len()), "{}", close.reply_text.len());
    assert!(close.reply_text.starts_with("NOT_FOUND - no queue 'éé"));
}

#[test]
fn a_publish_to_an_unknown_exchange_closes_the_channel_later() {
    let mut world = World::new();
    world.publish_with(ME, basic::Publish { exchange: "nope", ..to_queue("q") }, &persistent(), "x");
    let text = "NOT_FOUND - no exchange 'nope' in vhost '/'";
    world.heard(ME)[0].closes_channel(404, text, basic::Publish::ID);
}

#[test]
fn an_unknown_exchange_type_is_406() {
    let declare = exchange::Declare {
        exchange: "e",
        kind: "nope",
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: NO_ARGUMENTS,
    };
    let said = World::new().call(ME, 1, ToServer::ExchangeDeclare(declare));
    said.closes_channel(406, "PRECONDITION_FAILED - unknown exchange type 'nope'", exchange::Declare::ID);
}

#[test]
fn new_credentials_are_taken_note_of() {
    let mut world = World::new();
    let update = connection::UpdateSecret { new_secret: b"other", reason: "it is time" };
    let said = world.call(ME, 0, ToServer::ConnectionUpdateSecret(update));
    assert_eq!(said.method(), ToClient::ConnectionUpdateSecretOk(connection::UpdateSecretOk));
    world.queue(ME, "q");
}

#[test]
fn a_reply_text_that_is_too_long_ends_in_dots() {
    let mut world = World::new();
    let name = std::format!("x{}", "ä".repeat(126));
    let said = world.call(ME, 1, ToServer::QueueDeclare(queue::Declare { passive: true, ..declare(&name) }));
    let ToClient::ChannelClose(close) = said.method() else { panic!("{said:?}") };
    assert!(close.reply_text.ends_with("ä..."), "{}", close.reply_text);
    assert_eq!(close.reply_text.len(), 254, "a letter of two octets more does not fit");
}
