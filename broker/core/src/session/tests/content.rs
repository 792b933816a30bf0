//! Putting a message together from its frames.

use std::vec;
use std::vec::Vec;

use warren_amqp::content::encode_header;
use warren_amqp::{BasicProperties, Frame, ToClient, ToServer, basic, channel};

use super::world::*;
use crate::command::{Attributes, Publish};
use crate::limits::{ANNOUNCED_BYTES, FRAME_MAX, MESSAGE_BYTES, MESSAGE_BYTES_MAX, UNFINISHED_BYTES};

/// A broker with the queue `q`.
fn with_queue() -> World {
    let mut world = World::new();
    world.queue(ME, "q");
    world
}

#[test]
fn a_body_of_no_octets_has_no_body_frame() {
    let mut world = with_queue();
    world.send_octets(ME, &publish_head("q", 0));
    world.send(OTHER, 1, ToServer::BasicGet(basic::Get { queue: "q", no_ack: true }));
    let heard = world.heard(OTHER);
    assert_eq!(heard.len(), 2, "method and header: {heard:?}");
    assert_eq!(bodies(&messages(&heard)), [""]);
}

#[test]
fn a_body_may_come_in_many_frames_and_many_reads() {
    let mut world = with_queue();
    let mut octets = publish_head("q", 10);
    for part in ["ab", "", "cdefg", "hij"] {
        octets.extend_from_slice(&body_frame(1, part.as_bytes()));
    }
    octets.iter().for_each(|octet| world.send_octets(ME, &[*octet]));
    assert_eq!(world.get(OTHER, "q").unwrap().body, "abcdefghij");
}

#[test]
fn bodies_are_split_at_frame_max() {
    let mut world = with_queue();
    let payload_max = FRAME_MAX as usize - 8;
    for (len, frames) in [(payload_max, 1), (payload_max + 1, 2), (2 * payload_max, 2)] {
        let body = "x".repeat(len);
        world.publish(ME, "q", &body);
        world.send(OTHER, 1, ToServer::BasicGet(basic::Get { queue: "q", no_ack: true }));
        let heard = world.heard(OTHER);
        assert_eq!(heard.len(), 2 + frames, "{len}");
        assert!(messages(&heard)[0].body == body);
    }
}

#[test]
fn a_body_longer_than_announced_is_501() {
    let mut world = with_queue();
    world.send_octets(ME, &publish_head("q", 3));
    world.send_octets(ME, &body_frame(1, b"abcd"));
    let text = "FRAME_ERROR - content body frame exceeds remaining content size";
    world.heard(ME)[0].closes_connection(501, text, basic::Publish::ID);
    assert_eq!(world.count(OTHER, "q"), (0, 0));
}

#[test]
fn a_message_above_the_largest_size_is_406_and_its_body_is_dropped() {
    let mut world = with_queue();
    world.send_octets(ME, &publish_head("q", MESSAGE_BYTES + 1));
    let text = "PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216";
    let heard = world.heard(ME);
    assert!(matches!(heard[0].method(), ToClient::ChannelClose(close) if close.reply_text == text), "{heard:?}");
    world.send_octets(ME, &body_frame(1, b"part of it"));
    world.send(ME, 1, ToServer::ChannelCloseOk(channel::CloseOk));
    world.open_channel(ME, 1);
    assert_eq!(world.count(ME, "q"), (0, 0));
}

#[test]
fn a_node_may_take_larger_and_smaller_messages_than_usual() {
    for bytes in [3, MESSAGE_BYTES_MAX] {
        let mut world = with_queue();
        world.set_message_bytes(ME, bytes);
        world.send_octets(ME, &publish_head("q", bytes));
        assert!(world.heard(ME).is_empty(), "{bytes} octets are taken");
        let mut world = with_queue();
        world.set_message_bytes(ME, bytes);
        world.send_octets(ME, &publish_head("q", bytes + 1));
        let heard = world.heard(ME);
        assert!(matches!(heard[0].method(), ToClient::ChannelClose(close) if close.reply_code == 406), "{heard:?}");
    }
}

#[test]
fn a_body_of_more_than_can_be_is_501() {
    let mut world = with_queue();
    world.send_octets(ME, &publish_head("q", ANNOUNCED_BYTES));
    assert!(matches!(world.heard(ME)[0].method(), ToClient::ChannelClose(close) if close.reply_code == 406));
    let mut world = with_queue();
    world.send_octets(ME, &publish_head("q", ANNOUNCED_BYTES + 1));
    let text = "FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912";
    world.heard(ME)[0].closes_connection(501, text, basic::Publish::ID);
}

/// Sends so many octets of a body of the largest size on a channel, which may be that of a publish under way.
fn send_part(world: &mut World, number: u16, octets: u64) {
    let part = vec![b'x'; FRAME_MAX as usize - 8];
    let mut left = usize::try_from(octets).unwrap();
    while left > 0 {
        let len = left.min(part.len());
        world.send_octets(ME, &body_frame(number, &part[..len]));
        left -= len;
    }
}

#[test]
fn unfinished_bodies_of_all_channels_together_are_bounded() {
    let mut world = with_queue();
    let full = u16::try_from(UNFINISHED_BYTES / MESSAGE_BYTES).unwrap();
    for number in 1..=full + 1 {
        if number > 1 {
            world.open_channel(ME, number);
        }
        let mut head = vec![];
        ToServer::BasicPublish(to_queue("q")).encode(number, &mut head);
        encode_header(number, MESSAGE_BYTES, &BasicProperties::default(), &mut head);
        world.send_octets(ME, &head);
    }
    (1..=full).for_each(|number| send_part(&mut world, number, MESSAGE_BYTES - 1));
    send_part(&mut world, full + 1, u64::from(full));
    assert_eq!(world.heard(ME), [], "{UNFINISHED_BYTES} octets are waited for");
    send_part(&mut world, full + 1, 1);
    let text = "RESOURCE_ERROR - unfinished bodies on this connection exceed 67108864 octets; finish some first";
    world.heard(ME)[0].closes_connection(506, text, basic::Publish::ID);
}

#[test]
fn a_method_before_the_content_is_complete_is_505() {
    let mut publish = vec![];
    ToServer::BasicPublish(to_queue("q")).encode(1, &mut publish);
    for (octets, awaited) in [(publish, "header for class 60"), (publish_head("q", 3), "body")] {
        let mut world = with_queue();
        world.send_octets(ME, &octets);
        let mut method = vec![];
        ToServer::BasicGet(basic::Get { queue: "q", no_ack: true }).encode(1, &mut method);
        world.send_octets(ME, &method);
        let got = if awaited == "body" { "content body" } else { "content header" };
        let text = std::format!("UNEXPECTED_FRAME - expected content {awaited}, got non {got} frame instead");
        world.heard(ME)[0].closes_connection(505, &text, basic::Publish::ID);
    }
}

#[test]
fn contents_of_two_channels_may_mix() {
    let mut world = with_queue();
    world.open_channel(ME, 2);
    let mut octets = publish_head("q", 1);
    ToServer::BasicPublish(to_queue("q")).encode(2, &mut octets);
    encode_header(2, 1, &persistent(), &mut octets);
    octets.extend_from_slice(&body_frame(1, b"1"));
    octets.extend_from_slice(&body_frame(2, b"2"));
    world.send_octets(ME, &octets);
    assert_eq!([world.get(OTHER, "q").unwrap().body, world.get(OTHER, "q").unwrap().body], ["1", "2"]);
}

#[test]
fn content_without_a_publish_is_505() {
    let mut header = vec![];
    encode_header(1, 3, &persistent(), &mut header);
    for octets in [header, body_frame(1, b"abc").to_vec()] {
        let mut world = with_queue();
        world.send_octets(ME, &octets);
        let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
        world.heard(ME)[0].closes_connection(505, text, (0, 0));
    }
}

#[test]
fn a_content_header_of_another_class_is_505() {
    let mut world = with_queue();
    let mut octets = vec![];
    ToServer::BasicPublish(to_queue("q")).encode(1, &mut octets);
    let payload = [0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0];
    Frame::Header { channel: 1, payload: &payload }.encode(&mut octets);
    world.send_octets(ME, &octets);
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead";
    world.heard(ME)[0].closes_connection(505, text, basic::Publish::ID);
}

#[test]
fn malformed_properties_close_the_connection() {
    let mut world = with_queue();
    let mut octets = vec![];
    ToServer::BasicPublish(to_queue("q")).encode(1, &mut octets);
    // Says that it has a content type, which is missing.
    let payload = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0];
    Frame::Header { channel: 1, payload: &payload }.encode(&mut octets);
    world.send_octets(ME, &octets);
    let heard = world.heard(ME);
    assert!(matches!(heard[0].method(), ToClient::ConnectionClose(close) if close.reply_code == 501), "{heard:?}");
}

#[test]
fn a_user_id_must_be_the_users_own() {
    let mut world = with_queue();
    let own = BasicProperties { user_id: Some("guest"), ..persistent() };
    world.publish_with(ME, to_queue("q"), &own, "mine");
    assert_eq!(world.count(ME, "q"), (1, 0));
    let other = BasicProperties { user_id: Some("root"), ..persistent() };
    world.publish_with(ME, to_queue("q"), &other, "not mine");
    let text = "PRECONDITION_FAILED - user_id property set to 'root' but authenticated user was 'guest'";
    let heard = world.heard(ME);
    assert!(matches!(heard[0].method(), ToClient::ChannelClose(close) if close.reply_text == text), "{heard:?}");
}

#[test]
fn properties_come_out_as_they_went_in() {
    let mut world = with_queue();
    let properties = BasicProperties {
        content_type: Some("text/plain"),
        correlation_id: Some("7"),
        reply_to: Some("back"),
        ..persistent()
    };
    let mut octets = vec![];
    ToServer::BasicPublish(to_queue("q")).encode(1, &mut octets);
    let mut header = vec![];
    encode_header(1, 0, &properties, &mut header);
    octets.extend_from_slice(&header);
    world.send_octets(ME, &octets);
    world.send(ME, 1, ToServer::BasicGet(basic::Get { queue: "q", no_ack: true }));
    assert!(world.heard_octets(ME).ends_with(&header));
}

#[test]
fn messages_of_all_kinds_keep_a_publishers_order() {
    let mut world = with_queue();
    world.call(ME, 1, ToServer::QueueDeclare(declare("transient-1")));
    world.call(ME, 1, ToServer::QueueDeclare(declare("transient-2")));
    world.call(ME, 1, ToServer::QueueDeclare(declare("transient-3")));
    world.call(ME, 1, ToServer::QueueDeclare(declare("transient-4")));
    world.commits = false;
    world.publish(ME, "q", "persistent");
    // In one read, so that the session may put them in one run: a queue that waits for no log, and one that does.
    let mut octets = vec![];
    for queue in ["transient-1", "transient-2", "transient-3", "transient-4", "q"] {
        ToServer::BasicPublish(to_queue(queue)).encode(1, &mut octets);
        encode_header(1, 4, &BasicProperties::default(), &mut octets);
        octets.extend_from_slice(&body_frame(1, b"fast"));
    }
    world.send_octets(ME, &octets);
    world.commit();
    assert_eq!([world.get(ME, "q").unwrap().body, world.get(ME, "q").unwrap().body], ["persistent", "fast"]);
}

#[test]
fn queues_are_told_how_long_a_message_may_wait_and_how_urgent_it_is() {
    let mut world = with_queue();
    let properties = BasicProperties { expiration: Some("250"), priority: Some(7), ..persistent() };
    for frames in [whole(&properties), by_octets(&properties)] {
        frames.iter().for_each(|octets| world.send_octets(ME, octets));
        let run = world.runs.pop().expect("it was routed");
        let expected = Attributes { expiration: Some(250), priority: Some(7), ..Attributes::default() };
        assert_eq!(Publish::decode(&run.commands).expect("a publish").attributes(), expected);
    }
}

/// A publish of one octet to `q`, in one read.
fn whole(properties: &BasicProperties<'_>) -> Vec<Vec<u8>> {
    let mut octets = vec![];
    ToServer::BasicPublish(to_queue("q")).encode(1, &mut octets);
    encode_header(1, 1, properties, &mut octets);
    octets.extend_from_slice(&body_frame(1, b"a"));
    vec![octets]
}

/// The same, octet by octet.
fn by_octets(properties: &BasicProperties<'_>) -> Vec<Vec<u8>> {
    whole(properties).concat().chunks(1).map(<[u8]>::to_vec).collect()
}

#[test]
fn an_expiration_that_is_no_number_is_406() {
    let mut world = with_queue();
    let properties = BasicProperties { expiration: Some("abc"), ..persistent() };
    world.publish_with(ME, to_queue("q"), &properties, "a");
    let text = "PRECONDITION_FAILED - invalid expiration 'abc': no_integer";
    world.heard(ME)[0].closes_channel(406, text, basic::Publish::ID);
    assert_eq!(world.count(OTHER, "q"), (0, 0));
}

#[test]
fn what_is_wrong_with_the_exchange_is_said_before_what_is_wrong_with_the_message() {
    let wrong = [
        BasicProperties { expiration: Some("abc"), ..persistent() },
        BasicProperties { user_id: Some("root"), ..persistent() },
    ];
    for properties in wrong {
        let mut world = with_queue();
        world.publish_with(ME, basic::Publish { exchange: "nowhere", ..to_queue("q") }, &properties, "a");
        let text = "NOT_FOUND - no exchange 'nowhere' in vhost '/'";
        world.heard(ME)[0].closes_channel(404, text, basic::Publish::ID);
    }
}
