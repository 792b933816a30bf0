//! `basic.ack`, `basic.nack`, `basic.reject` and `basic.recover`.

use std::format;
use std::string::String;
use std::vec::Vec;

use warren_amqp::{ToClient, ToServer, basic, channel};

use super::world::*;
use crate::queue::Settlement;

fn ack(delivery_tag: u64, multiple: bool) -> ToServer<'static> {
    ToServer::BasicAck(basic::Ack { delivery_tag, multiple })
}

fn nack(delivery_tag: u64, multiple: bool, requeue: bool) -> ToServer<'static> {
    ToServer::BasicNack(basic::Nack { delivery_tag, multiple, requeue })
}

/// A broker whose client holds the messages a, b, c and d of the queue `q`, by tags 1 to 4, and has cancelled.
fn holding() -> World {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish_all(ME, "q", &["a", "b", "c", "d"]);
    assert_eq!(world.consume(ME, "q", "t").len(), 4);
    world.send(ME, 1, ToServer::BasicCancel(basic::Cancel { consumer_tag: "t", no_wait: true }));
    world
}

/// What is in the queue for another connection, once the first has let go of the rest.
fn left(world: &mut World) -> Vec<String> {
    world.disconnect(ME);
    world.consume(OTHER, "q", "t").into_iter().map(|message| message.body).collect()
}

#[track_caller]
fn refused(world: &mut World, method: ToServer<'_>, tag: u64) {
    let id = method.method_id();
    let text = format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
    world.call(ME, 1, method).closes_channel(406, &text, id);
}

#[test]
fn an_acked_message_is_gone() {
    let mut world = holding();
    world.send(ME, 1, ack(2, false));
    assert_eq!(left(&mut world), ["a", "c", "d"]);
}

#[test]
fn multiple_acks_everything_up_to_the_tag() {
    let mut world = holding();
    world.send(ME, 1, ack(3, true));
    assert_eq!(left(&mut world), ["d"]);
}

#[test]
fn multiple_with_tag_0_acks_everything() {
    let mut world = holding();
    world.send(ME, 1, ack(0, true));
    assert!(left(&mut world).is_empty());
}

#[test]
fn multiple_with_tag_0_and_nothing_to_ack_is_fine_and_a_single_tag_0_is_not() {
    let mut world = World::new();
    world.send(ME, 1, ack(0, true));
    assert_eq!(world.heard(ME), []);
    refused(&mut world, ack(0, false), 0);
}

#[test]
fn an_unknown_tag_is_406() {
    for method in [ack(5, false), ack(5, true), nack(5, false, true), nack(5, true, false)] {
        refused(&mut holding(), method, 5);
    }
    let reject = ToServer::BasicReject(basic::Reject { delivery_tag: 5, requeue: true });
    refused(&mut holding(), reject, 5);
}

#[test]
fn a_tag_is_good_for_one_ack() {
    let mut world = holding();
    world.send(ME, 1, ack(1, false));
    refused(&mut world, ack(1, false), 1);
}

#[test]
fn tags_are_those_of_their_channel() {
    let mut world = holding();
    world.open_channel(ME, 2);
    let said = world.call(ME, 2, ack(1, false));
    said.closes_channel(406, "PRECONDITION_FAILED - unknown delivery tag 1", basic::Ack::ID);
    assert_eq!(left(&mut world), ["a", "b", "c", "d"]);
}

#[test]
fn nack_with_requeue_puts_messages_back_at_their_place() {
    let mut world = holding();
    world.send(ME, 1, nack(3, false, true));
    world.send(ME, 1, nack(1, false, true));
    let delivered = world.consume(OTHER, "q", "t");
    assert_eq!(bodies(&delivered), ["a", "c"]);
    assert!(delivered.iter().all(|message| message.redelivered));
}

#[test]
fn nack_without_requeue_drops() {
    let mut world = holding();
    world.send(ME, 1, nack(2, true, false));
    assert_eq!(left(&mut world), ["c", "d"]);
}

#[test]
fn reject_takes_one_message() {
    let mut world = holding();
    world.send(ME, 1, ToServer::BasicReject(basic::Reject { delivery_tag: 2, requeue: false }));
    world.send(ME, 1, ToServer::BasicReject(basic::Reject { delivery_tag: 3, requeue: true }));
    assert_eq!(bodies(&world.consume(OTHER, "q", "t")), ["c"]);
    world.send(OTHER, 1, ack(1, false));
    world.send(OTHER, 1, ToServer::BasicCancel(basic::Cancel { consumer_tag: "t", no_wait: true }));
    assert_eq!(left(&mut world), ["a", "d"]);
}

#[test]
fn recover_hands_everything_out_again() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish_all(ME, "q", &["a", "b"]);
    world.consume(ME, "q", "t");
    world.send(ME, 1, ToServer::BasicRecover(basic::Recover { requeue: true }));
    let heard = world.heard(ME);
    assert_eq!(heard[0].method(), ToClient::BasicRecoverOk(basic::RecoverOk));
    let again = ["a", "b"].map(Into::into).into_iter().zip(3..);
    let again: Vec<_> = again.map(|(body, tag)| Message { tag, redelivered: true, body }).collect();
    assert_eq!(messages(&heard), again);
    refused(&mut world, ack(1, false), 1);
}

#[test]
fn recover_async_is_not_answered() {
    let mut world = World::new();
    world.send(ME, 1, ToServer::BasicRecoverAsync(basic::RecoverAsync { requeue: true }));
    assert_eq!(world.heard(ME), []);
}

#[test]
fn a_queue_is_told_what_failed_and_what_was_only_given_back() {
    for (method, settlement) in [
        (nack(1, false, true), Settlement::Requeue),
        (nack(1, false, false), Settlement::Reject),
        (ToServer::BasicReject(basic::Reject { delivery_tag: 1, requeue: true }), Settlement::Fail),
        (ToServer::BasicReject(basic::Reject { delivery_tag: 1, requeue: false }), Settlement::Reject),
        (ack(1, false), Settlement::Done),
    ] {
        let mut world = holding();
        world.told();
        world.send(ME, 1, method);
        assert_eq!(world.settled(), [(settlement, 1)]);
        world.send(ME, 1, ToServer::BasicRecoverAsync(basic::RecoverAsync { requeue: true }));
        assert_eq!(world.settled(), [(Settlement::Requeue, 3)]);
    }
}

#[test]
fn what_a_closed_channel_held_has_failed() {
    let mut world = holding();
    world.told();
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    world.call(ME, 1, ToServer::ChannelClose(close));
    assert_eq!(world.settled(), [(Settlement::Fail, 4)]);
}
