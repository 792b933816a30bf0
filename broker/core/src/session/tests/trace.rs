//! What a session tells of messages that belong to traces.

use core::num::NonZeroU32;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use warren_amqp::{BasicProperties, Table, TableBuilder, ToServer, basic, channel, queue, tx};

use super::world::*;
use crate::identity::ConnectionId;
use crate::limits::TRACED_UNDER_WAY;
use crate::queue::Settlement;
use crate::session::{Session, TraceEvent, TraceOutcome};
use crate::time::Instant;

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// A broker with the durable queue `q`; the first client's session follows one in so many traces.
fn tracing(one_in: u32) -> World {
    let mut world = World::new();
    world.queue(ME, "q");
    let client = &mut world.clients[ME];
    let session = core::mem::replace(&mut client.session, Session::new(ConnectionId(0), Instant(0)));
    client.session = session.with_tracing(NonZeroU32::new(one_in));
    world
}

fn publish(world: &mut World, traceparent: &str) {
    let headers = TableBuilder::build(|table| {
        table.put("traceparent", traceparent);
        table.put("tracestate", "vendor=1");
    });
    let headers = Some(Table::new(&headers));
    let properties = BasicProperties { headers, delivery_mode: Some(2), ..BasicProperties::default() };
    world.publish_with(ME, to_queue("q"), &properties, "body");
}

/// What has been told since the last time: `+` and the number of a span that began, its end with its outcome.
fn told(world: &mut World) -> Vec<String> {
    let tell = |event| match event {
        TraceEvent::Begun { span, message } => {
            assert_eq!((message.exchange.as_str(), message.routing_key.as_str(), message.body_bytes), ("", "q", 4));
            assert_eq!(message.context.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
            assert_eq!(message.context.span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
            assert_eq!(message.context.state, "vendor=1");
            format!("+{span}{}", if message.queue.is_some() { " sent" } else { "" })
        }
        TraceEvent::Ended { span, outcome } => match outcome {
            TraceOutcome::Settled(settlement) => format!("{span} {settlement:?}"),
            outcome => format!("{span} {outcome:?}"),
        },
        TraceEvent::Missed => String::from("missed"),
    };
    world.clients[ME].output.traces.drain(..).map(tell).collect()
}

#[test]
fn a_publish_ends_with_its_confirm_and_without_confirms_at_once() {
    let mut world = tracing(1);
    publish(&mut world, SAMPLED);
    assert_eq!(told(&mut world), ["+1", "1 Taken"]);
    world.confirms(ME, 1);
    world.commits = false;
    publish(&mut world, SAMPLED);
    publish(&mut world, SAMPLED);
    assert_eq!(told(&mut world), ["+2", "+3"]);
    world.commit();
    assert_eq!(told(&mut world), ["2 Confirmed", "3 Confirmed"]);
}

#[test]
fn only_sampled_messages_are_told_of_and_only_if_somebody_asks() {
    let mut world = tracing(1);
    publish(&mut world, UNSAMPLED);
    publish(&mut world, "nonsense");
    world.publish(ME, "q", "body");
    assert_eq!(told(&mut world), Vec::<String>::new());
    let mut world = World::new();
    world.queue(ME, "q");
    publish(&mut world, SAMPLED);
    assert_eq!(told(&mut world), Vec::<String>::new());
}

#[test]
fn one_in_so_many_traces_is_followed_by_its_number() {
    // The trace's last 64 bits are 0x8448eb211c80319c: even, and no multiple of 8.
    for (one_in, followed) in [(1, true), (2, true), (4, true), (8, false), (3, false)] {
        let mut world = tracing(one_in);
        publish(&mut world, SAMPLED);
        assert_eq!(!told(&mut world).is_empty(), followed, "one in {one_in}");
    }
}

#[test]
fn a_delivery_ends_when_it_is_settled() {
    let mut world = tracing(1);
    world.consume(ME, "q", "t");
    (0..5).for_each(|_| publish(&mut world, SAMPLED));
    let told_first = told(&mut world);
    let begun: Vec<_> = told_first.iter().filter(|line| line.ends_with("sent")).collect();
    assert_eq!(begun.len(), 5, "{told_first:?}");
    let spans: Vec<_> = begun.iter().map(|line| line[1..].trim_end_matches(" sent")).collect();
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 2, multiple: false }));
    assert_eq!(told(&mut world), [format!("{} Done", spans[1])]);
    world.send(ME, 1, ToServer::BasicNack(basic::Nack { delivery_tag: 3, multiple: true, requeue: false }));
    assert_eq!(told(&mut world), [format!("{} Reject", spans[0]), format!("{} Reject", spans[2])]);
    world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 0, multiple: true }));
    assert_eq!(told(&mut world), [format!("{} Done", spans[3]), format!("{} Done", spans[4])]);
}

#[test]
fn what_was_got_ends_when_it_is_settled_or_at_once_if_nobody_does() {
    let mut world = tracing(1);
    publish(&mut world, SAMPLED);
    publish(&mut world, SAMPLED);
    told(&mut world);
    world.send(ME, 1, ToServer::BasicGet(basic::Get { queue: "q", no_ack: true }));
    assert_eq!(told(&mut world), ["+3 sent", "3 Sent"]);
    world.send(ME, 1, ToServer::BasicGet(basic::Get { queue: "q", no_ack: false }));
    assert_eq!(told(&mut world), ["+4 sent"]);
    world.send(ME, 1, ToServer::BasicRecover(basic::Recover { requeue: true }));
    assert_eq!(told(&mut world), [format!("4 {:?}", Settlement::Requeue)]);
}

#[test]
fn what_is_under_way_is_abandoned_with_its_channel() {
    let mut world = tracing(1);
    world.confirms(ME, 1);
    world.commits = false;
    publish(&mut world, SAMPLED);
    assert_eq!(told(&mut world), ["+1"]);
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    world.send(ME, 1, ToServer::ChannelClose(close));
    assert_eq!(told(&mut world), ["1 Abandoned"]);
}

#[test]
fn a_publish_in_a_transaction_ends_at_once() {
    let mut world = tracing(1);
    world.call(ME, 1, ToServer::TxSelect(tx::Select));
    publish(&mut world, SAMPLED);
    assert_eq!(told(&mut world), ["+1", "1 Taken"]);
}

#[test]
fn a_delivery_that_is_settled_in_a_transaction_ends_with_its_commit() {
    let mut world = tracing(1);
    (0..2).for_each(|_| publish(&mut world, SAMPLED));
    world.call(ME, 1, ToServer::TxSelect(tx::Select));
    world.consume(ME, "q", "t");
    let spans: Vec<_> =
        told(&mut world).into_iter().filter_map(|line| Some(String::from(&line.strip_suffix(" sent")?[1..]))).collect();
    let ack = |world: &mut World| world.send(ME, 1, ToServer::BasicAck(basic::Ack { delivery_tag: 2, multiple: true }));
    ack(&mut world);
    world.call(ME, 1, ToServer::TxRollback(tx::Rollback));
    assert!(told(&mut world).is_empty(), "it was undone");
    ack(&mut world);
    assert!(told(&mut world).is_empty(), "it is not so yet");
    world.call(ME, 1, ToServer::TxCommit(tx::Commit));
    assert_eq!(told(&mut world), spans.iter().map(|span| format!("{span} Done")).collect::<Vec<_>>());
}

#[test]
fn a_publish_that_no_queue_wants_ends_as_that() {
    let mut world = tracing(1);
    world.send(
        ME,
        1,
        ToServer::QueueDelete(queue::Delete { queue: "q", if_unused: false, if_empty: false, no_wait: true }),
    );
    publish(&mut world, SAMPLED);
    assert_eq!(told(&mut world), ["+1", "1 Unroutable"]);
}

#[test]
fn so_many_are_followed_at_once_and_one_more_is_not() {
    let mut world = tracing(1);
    world.confirms(ME, 1);
    world.commits = false;
    (0..TRACED_UNDER_WAY).for_each(|_| publish(&mut world, SAMPLED));
    assert_eq!(told(&mut world).len(), TRACED_UNDER_WAY);
    publish(&mut world, SAMPLED);
    assert_eq!(told(&mut world), vec!["missed"]);
    world.commit();
    assert_eq!(told(&mut world).len(), TRACED_UNDER_WAY, "all of those are confirmed");
    publish(&mut world, SAMPLED);
    assert!(told(&mut world)[0].starts_with('+'), "there is room again");
}

#[test]
fn channels_are_told_apart() {
    let mut world = tracing(1);
    world.open_channel(ME, 2);
    world.confirms(ME, 1);
    world.confirms(ME, 2);
    world.commits = false;
    publish(&mut world, SAMPLED);
    // Nobody has a queue of this name, so it is confirmed at once.
    world.publish_on(ME, 2, "nowhere", "body");
    assert!(world.heard(ME).iter().any(|said| said.channel == 2), "a confirm");
    assert_eq!(told(&mut world), ["+1"]);
    world.commit();
    assert_eq!(told(&mut world), ["1 Confirmed"]);
    publish(&mut world, SAMPLED);
    told(&mut world);
    for number in [1, 2] {
        world.send(ME, number, ToServer::BasicGet(basic::Get { queue: "q", no_ack: false }));
    }
    assert_eq!(told(&mut world), ["+3 sent", "+4 sent"]);
    world.send(ME, 2, ToServer::BasicAck(basic::Ack { delivery_tag: 1, multiple: true }));
    assert_eq!(told(&mut world), ["4 Done"]);
}

#[test]
fn what_is_under_way_is_abandoned_with_its_connection() {
    let mut world = tracing(1);
    publish(&mut world, SAMPLED);
    world.send(ME, 1, ToServer::BasicGet(basic::Get { queue: "q", no_ack: false }));
    told(&mut world);
    let client = &mut world.clients[ME];
    client.session.disconnect(&mut client.output);
    assert_eq!(told(&mut world), ["2 Abandoned"]);
}

#[test]
fn a_publish_that_its_queue_refuses_ends_as_refused() {
    let mut world = tracing(1);
    let arguments = TableBuilder::build(|table| {
        table.put("x-max-length", 0);
        table.put("x-overflow", "reject-publish");
    });
    let full = queue::Declare { arguments: Table::new(&arguments), ..declare("full") };
    world.call(ME, 1, ToServer::QueueDeclare(full));
    world.confirms(ME, 1);
    let headers = TableBuilder::build(|table| {
        table.put("traceparent", SAMPLED);
    });
    let properties = BasicProperties { headers: Some(Table::new(&headers)), ..BasicProperties::default() };
    world.publish_with(ME, to_queue("full"), &properties, "body");
    let told: Vec<_> = world.clients[ME].output.traces.drain(..).collect();
    assert_eq!(told[1], TraceEvent::Ended { span: 1, outcome: TraceOutcome::Refused });
}

#[test]
fn a_span_does_not_tell_the_key_with_which_replies_are_sent() {
    const KEY: &str = "amq.rabbitmq.reply-to.canary";
    let mut world = tracing(1);
    let bind =
        queue::Bind { queue: "q", exchange: "amq.fanout", routing_key: "", no_wait: false, arguments: NO_ARGUMENTS };
    world.call(ME, 1, ToServer::QueueBind(bind));
    let headers = TableBuilder::build(|table| {
        table.put("traceparent", SAMPLED);
    });
    let properties = BasicProperties { headers: Some(Table::new(&headers)), ..BasicProperties::default() };
    world.publish_with(ME, to_queue(KEY), &properties, "body");
    world.publish_with(ME, basic::Publish { exchange: "amq.fanout", ..to_queue(KEY) }, &properties, "body");
    world.send(ME, 1, ToServer::BasicGet(basic::Get { queue: "q", no_ack: true }));
    let told: Vec<_> = world.clients[ME].output.traces.drain(..).collect();
    let keys = told.iter().filter_map(|event| match event {
        TraceEvent::Begun { message, .. } => Some(message.routing_key.as_str()),
        _ => None,
    });
    assert_eq!(keys.collect::<Vec<_>>(), ["amq.rabbitmq.reply-to"; 3]);
}

#[test]
fn messages_that_nobody_settles_take_no_room_from_publishes() {
    let mut world = tracing(1);
    world.consume(ME, "q", "t");
    (0..=TRACED_UNDER_WAY).for_each(|_| publish(&mut world, SAMPLED));
    let told_first = told(&mut world);
    assert_eq!(told_first.iter().filter(|line| line.ends_with("sent")).count(), TRACED_UNDER_WAY);
    assert_eq!(told_first.iter().filter(|line| *line == "missed").count(), 1);
    assert_eq!(told_first.iter().filter(|line| line.ends_with("Taken")).count(), TRACED_UNDER_WAY + 1);
}
