//! Consumers and `basic.get`.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use warren_amqp::{ToClient, ToServer, basic, channel, queue};

use super::world::*;
use crate::limits::{CONSUMERS_PER_CHANNEL, CONSUMERS_PER_CONNECTION, DELIVERY_WINDOW_MESSAGES};
use crate::queue::Event;

fn cancel(consumer_tag: &str) -> ToServer<'_> {
    ToServer::BasicCancel(basic::Cancel { consumer_tag, no_wait: false })
}

fn cancel_ok(consumer_tag: &str) -> ToClient<'_> {
    ToClient::BasicCancelOk(basic::CancelOk { consumer_tag })
}

fn with_queue() -> World {
    let mut world = World::new();
    world.queue(ME, "q");
    world
}

fn delete(name: &str) -> ToServer<'_> {
    ToServer::QueueDelete(queue::Delete { queue: name, if_unused: false, if_empty: false, no_wait: false })
}

#[test]
fn consume_ok_comes_before_the_first_delivery_and_names_the_tag() {
    let mut world = with_queue();
    world.publish(ME, "q", "a");
    assert_eq!(world.consume(ME, "q", "mine"), [Message { tag: 1, redelivered: false, body: "a".into() }]);
}

#[test]
fn an_empty_tag_is_made_up() {
    let mut world = with_queue();
    let mut tags = [(); 2].map(|()| {
        let said = world.call(ME, 1, ToServer::BasicConsume(consume("q", "")));
        match said.method() {
            ToClient::BasicConsumeOk(ok) => ok.consumer_tag.to_string(),
            other => panic!("{other:?}"),
        }
    });
    tags.sort();
    assert!(tags.iter().all(|tag| tag.starts_with("amq.ctag-") && tag.len() == 31), "{tags:?}");
    assert_ne!(tags[0], tags[1]);
}

#[test]
fn consume_without_wait_is_not_answered() {
    let mut world = with_queue();
    world.publish(ME, "q", "a");
    world.send(ME, 1, ToServer::BasicConsume(basic::Consume { no_wait: true, ..consume("q", "t") }));
    let heard = world.heard(ME);
    assert!(matches!(heard[0].method(), ToClient::BasicDeliver(deliver) if deliver.consumer_tag == "t"));
}

#[test]
fn a_tag_in_use_on_its_channel_is_530() {
    let mut world = with_queue();
    world.consume(ME, "q", "t");
    world.open_channel(ME, 2);
    let on_another_channel = world.call(ME, 2, ToServer::BasicConsume(consume("q", "t")));
    assert!(matches!(on_another_channel.method(), ToClient::BasicConsumeOk(_)));
    let said = world.call(ME, 1, ToServer::BasicConsume(consume("there is no such queue", "t")));
    said.closes_connection(530, "NOT_ALLOWED - attempt to reuse consumer tag 't'", basic::Consume::ID);
}

/// Consumes so often on a channel, without waiting; answers what the channel is closed with, if it is.
fn consume_often(world: &mut World, number: u16, times: usize) -> Option<(u16, String)> {
    let tags: Vec<_> = (0..times).map(|time| format!("{times}-{time}")).collect();
    for (index, tags) in tags.chunks(50).enumerate() {
        let queue = format!("q{}", index % 20);
        world.queue(OTHER, &queue);
        let mut octets = Vec::new();
        for tag in tags {
            let consume = basic::Consume { no_wait: true, ..consume(&queue, tag) };
            ToServer::BasicConsume(consume).encode(number, &mut octets);
        }
        world.send_octets(ME, &octets);
    }
    match world.heard(ME).first()?.method() {
        ToClient::ChannelClose(close) => Some((close.reply_code, close.reply_text.to_string())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn consumers_of_a_channel_and_of_a_connection_are_limited() {
    let mut world = World::new();
    assert_eq!(consume_often(&mut world, 1, CONSUMERS_PER_CHANNEL), None);
    world.open_channel(ME, 2);
    assert_eq!(consume_often(&mut world, 2, 1), None, "the limit is the channel's");
    let text = "PRECONDITION_FAILED - consumer limit per channel of 10000 reached";
    assert_eq!(consume_often(&mut world, 1, 1), Some((406, String::from(text))));
    let mut left = CONSUMERS_PER_CONNECTION - 1;
    for number in 3.. {
        world.open_channel(ME, number);
        let times = left.min(CONSUMERS_PER_CHANNEL);
        assert_eq!(consume_often(&mut world, number, times), None);
        left -= times;
        if left == 0 {
            break;
        }
    }
    let text = "PRECONDITION_FAILED - consumer limit per connection of 65536 reached";
    world.open_channel(ME, 100);
    assert_eq!(consume_often(&mut world, 100, 1), Some((406, String::from(text))));
}

#[test]
fn a_cancelled_tag_may_be_used_again() {
    let mut world = with_queue();
    world.consume(ME, "q", "t");
    assert_eq!(world.call(ME, 1, cancel("t")).method(), cancel_ok("t"));
    assert_eq!(world.count(ME, "q"), (0, 0));
    world.consume(ME, "q", "t");
}

#[test]
fn cancelling_an_unknown_tag_is_fine() {
    let mut world = World::new();
    assert_eq!(world.call(ME, 1, cancel("nobody")).method(), cancel_ok("nobody"));
}

#[test]
fn what_a_cancelled_consumer_holds_stays_its_channels() {
    let mut world = with_queue();
    world.publish(ME, "q", "a");
    world.consume(ME, "q", "t");
    world.call(ME, 1, cancel("t"));
    assert_eq!(world.count(OTHER, "q"), (0, 0));
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
    world.disconnect(ME);
    assert_eq!(world.count(OTHER, "q"), (0, 0));
}

#[test]
fn a_cancel_is_answered_for_its_own_consumer() {
    let mut world = with_queue();
    world.consume(ME, "q", "stays");
    world.open_channel(ME, 2);
    world.call(ME, 2, ToServer::BasicConsume(consume("q", "goes with its channel")));
    // The end of channel 2 and the cancel on channel 1 are on their way to the shard together.
    world.commits = false;
    world.publish(ME, "q", "keeps the shard waiting");
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    world.call(ME, 2, ToServer::ChannelClose(close));
    world.send(ME, 1, cancel("stays"));
    world.takes_events(ME, false);
    world.commit();
    world.takes_events(ME, true);
    let heard = world.heard(ME);
    assert_eq!(heard.last().map(Said::method), Some(cancel_ok("stays")));
    let delivered = world.consume(ME, "q", "stays");
    assert_eq!(bodies(&delivered), ["keeps the shard waiting"], "the tag is free");
}

#[test]
fn an_exclusive_consumer_is_alone_on_its_queue() {
    let exclusive = |tag| ToServer::BasicConsume(basic::Consume { exclusive: true, ..consume("q", tag) });
    let text = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    let mut world = with_queue();
    world.consume(ME, "q", "first");
    world.call(OTHER, 1, exclusive("second")).closes_channel(403, text, basic::Consume::ID);
    let mut world = with_queue();
    assert!(matches!(world.call(ME, 1, exclusive("first")).method(), ToClient::BasicConsumeOk(_)));
    let said = world.call(OTHER, 1, ToServer::BasicConsume(consume("q", "second")));
    said.closes_channel(403, text, basic::Consume::ID);
}

#[test]
fn prefetch_is_for_each_consumer_started_after_it() {
    let mut world = with_queue();
    world.consume(ME, "q", "unlimited");
    world.call(ME, 1, cancel("unlimited"));
    let qos = basic::Qos { prefetch_size: 0, prefetch_count: 2, global: false };
    assert_eq!(world.call(ME, 1, ToServer::BasicQos(qos)).method(), ToClient::BasicQosOk(basic::QosOk));
    (0..6).for_each(|number| world.publish(ME, "q", &format!("{number}")));
    assert_eq!(world.consume(ME, "q", "first").len(), 2);
    assert_eq!(world.consume(ME, "q", "second").len(), 2);
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }));
    assert_eq!(bodies(&messages(&world.heard(ME))), ["4"]);
}

#[test]
fn a_client_that_does_not_read_is_sent_a_window_and_no_more() {
    let mut world = with_queue();
    let window = DELIVERY_WINDOW_MESSAGES as usize;
    (0..2 * window).for_each(|_| world.publish(OTHER, "q", "x"));
    world.send(ME, 1, ToServer::BasicConsume(basic::Consume { no_ack: true, ..consume("q", "t") }));
    assert_eq!(world.count(OTHER, "q").0 as usize, window);
    assert_eq!(messages(&world.heard(ME)).len(), window);
    assert_eq!(messages(&world.heard(ME)).len(), window, "what it has read is replaced");
}

#[test]
fn get_tells_how_many_are_left() {
    let mut world = with_queue();
    world.publish_all(ME, "q", &["a", "b"]);
    world.send(ME, 1, ToServer::BasicGet(basic::Get { queue: "q", no_ack: true }));
    let heard = world.heard(ME);
    let got = basic::GetOk { delivery_tag: 1, redelivered: false, exchange: "", routing_key: "q", message_count: 1 };
    assert_eq!(heard[0].method(), ToClient::BasicGetOk(got));
    assert_eq!(world.get(ME, "q").unwrap().body, "b");
    let empty = world.call(ME, 1, ToServer::BasicGet(basic::Get { queue: "q", no_ack: true }));
    assert_eq!(empty.method(), ToClient::BasicGetEmpty(basic::GetEmpty));
}

#[test]
fn consuming_from_a_missing_queue_is_404() {
    let mut world = World::new();
    let said = world.call(ME, 1, ToServer::BasicConsume(consume("q", "t")));
    said.closes_channel(404, "NOT_FOUND - no queue 'q' in vhost '/'", basic::Consume::ID);
}

#[test]
fn a_deleted_queue_is_told_to_consumers_that_announced_consumer_cancel_notify() {
    let mut world = with_queue();
    world.consume(ME, "q", "t");
    world.call(OTHER, 1, delete("q"));
    let heard = world.heard(ME);
    let notice = basic::Cancel { consumer_tag: "t", no_wait: true };
    assert_eq!(heard.iter().map(Said::method).collect::<Vec<_>>(), [ToClient::BasicCancel(notice)]);
    world.queue(ME, "q");
    world.consume(ME, "q", "t");
}

#[test]
fn who_deletes_a_queue_hears_delete_ok_before_the_end_of_its_own_consumers() {
    let mut world = with_queue();
    world.consume(ME, "q", "here");
    world.open_channel(ME, 2);
    world.call(ME, 2, ToServer::BasicConsume(consume("q", "elsewhere")));
    // The queue's shard tells its consumers before the metadata is through with the deletion.
    world.metadata_answers(false);
    world.send(ME, 1, delete("q"));
    for serial in [1, 2] {
        let key = world.key(ME, serial);
        world.hear_from(ME, "q", Event::ConsumerCancelled(key));
    }
    world.metadata_answers(true);
    let heard = world.heard(ME);
    let notice = |consumer_tag| ToClient::BasicCancel(basic::Cancel { consumer_tag, no_wait: true });
    let ok = ToClient::QueueDeleteOk(queue::DeleteOk { message_count: 0 });
    let on = |channel| heard.iter().filter(|said| said.channel == channel).map(Said::method).collect::<Vec<_>>();
    assert_eq!(on(1), [ok, notice("here")]);
    assert_eq!(on(2), [notice("elsewhere")]);
}

#[test]
fn a_deleted_queue_is_not_told_to_other_consumers() {
    let mut world = World::empty();
    world.connect();
    world.connect();
    world.log_in_with(ME, &[], 0);
    world.log_in(OTHER);
    world.open_channel(ME, 1);
    world.open_channel(OTHER, 1);
    world.queue(ME, "q");
    world.consume(ME, "q", "t");
    world.call(OTHER, 1, delete("q"));
    assert_eq!(world.heard(ME), []);
}

#[test]
fn a_closed_channel_ends_its_consumers() {
    let mut world = with_queue();
    world.consume(ME, "q", "t");
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    world.call(ME, 1, ToServer::ChannelClose(close));
    assert_eq!(world.count(OTHER, "q"), (0, 0));
}

#[test]
fn a_channel_that_closes_is_not_handed_its_messages_again() {
    let mut world = with_queue();
    world.publish(ME, "q", "a");
    world.consume(ME, "q", "t");
    // The end of the consumer waits for the log, what it held does not.
    world.commits = false;
    world.publish(OTHER, "q", "b");
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    world.call(ME, 1, ToServer::ChannelClose(close));
    world.commit();
    let delivered = world.consume(OTHER, "q", "t");
    let expected = [("a", true), ("b", false)].into_iter().zip(1..);
    let expected = expected.map(|((body, redelivered), tag)| Message { tag, redelivered, body: body.into() });
    assert_eq!(delivered, expected.collect::<Vec<_>>());
}

#[test]
fn an_argument_that_is_not_understood_is_ignored_and_one_of_another_queue_type_refused() {
    let table = |name: &str| {
        warren_amqp::TableBuilder::build(|table| {
            table.put(name, 1);
        })
    };
    let mut world = with_queue();
    for (name, tag) in [("x-unknown", "t"), ("x-priority", "u")] {
        let table = table(name);
        let arguments = warren_amqp::Table::new(&table);
        let said = world.call(ME, 1, ToServer::BasicConsume(basic::Consume { arguments, ..consume("q", tag) }));
        assert!(matches!(said.method(), ToClient::BasicConsumeOk(_)), "{name}");
    }
    let table = table("x-stream-offset");
    let arguments = warren_amqp::Table::new(&table);
    let said = world.call(ME, 1, ToServer::BasicConsume(basic::Consume { arguments, ..consume("q", "v") }));
    let text = "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 'q' in vhost '/' of queue type \
                rabbit_classic_queue";
    said.closes_channel(406, text, basic::Consume::ID);
}
