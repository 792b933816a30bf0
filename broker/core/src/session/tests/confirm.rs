//! Publisher confirms and returns.

use std::vec::Vec;
use std::{format, vec};

use warren_amqp::{BasicProperties, Table, TableBuilder, ToClient, ToServer, basic, confirm, queue};

use super::world::*;

fn ack(delivery_tag: u64, multiple: bool) -> ToClient<'static> {
    ToClient::BasicAck(basic::Ack { delivery_tag, multiple })
}

fn nack(delivery_tag: u64, multiple: bool) -> ToClient<'static> {
    ToClient::BasicNack(basic::Nack { delivery_tag, multiple, requeue: false })
}

/// A broker with the durable queue `q`; channel 1 has confirms.
fn with_confirms() -> World {
    let mut world = World::new();
    world.queue(ME, "q");
    world.confirms(ME, 1);
    world
}

#[test]
fn a_persistent_message_is_confirmed_once_it_is_durable() {
    let mut world = with_confirms();
    world.commits = false;
    world.publish(ME, "q", "a");
    assert_eq!(world.heard(ME), []);
    world.commit();
    assert_eq!(world.heard(ME)[0].method(), ack(1, false));
}

#[test]
fn a_quorum_queue_logs_messages_of_every_delivery_mode() {
    let mut world = World::new();
    let arguments = TableBuilder::build(|table| {
        table.put("x-queue-type", "quorum");
    });
    let quorum = queue::Declare { durable: true, arguments: Table::new(&arguments), ..declare("quorum") };
    world.call(ME, 1, ToServer::QueueDeclare(quorum));
    world.confirms(ME, 1);
    world.commits = false;
    world.publish_with(ME, to_queue("quorum"), &BasicProperties::default(), "a");
    assert_eq!(world.heard(ME), []);
    world.commit();
    assert_eq!(world.heard(ME)[0].method(), ack(1, false));
}

#[test]
fn a_transient_message_is_confirmed_at_once() {
    let mut world = with_confirms();
    world.call(ME, 1, ToServer::QueueDeclare(declare("transient")));
    world.commits = false;
    world.publish(ME, "transient", "a");
    assert_eq!(world.heard(ME)[0].method(), ack(1, false));
}

#[test]
fn confirms_of_a_batch_come_as_one_range() {
    let mut world = with_confirms();
    world.commits = false;
    world.publish_all(ME, "q", &["a", "b", "c"]);
    world.commit();
    let heard = world.heard(ME);
    assert_eq!((heard.len(), heard[0].method()), (1, ack(3, true)));
    world.publish(ME, "q", "d");
    assert_eq!(world.heard(ME)[0].method(), ack(4, false));
}

#[test]
fn without_confirm_select_there_are_no_confirms() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish(ME, "q", "a");
    assert_eq!(world.heard(ME), []);
}

#[test]
fn publishes_before_confirm_select_are_not_counted_and_selecting_again_changes_nothing() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish(ME, "q", "uncounted");
    world.confirms(ME, 1);
    world.publish(ME, "q", "a");
    assert_eq!(world.heard(ME)[0].method(), ack(1, false));
    world.confirms(ME, 1);
    world.publish(ME, "q", "b");
    assert_eq!(world.heard(ME)[0].method(), ack(2, false));
}

#[test]
fn confirm_select_without_wait_is_not_answered() {
    let mut world = World::new();
    world.send(ME, 1, ToServer::ConfirmSelect(confirm::Select { no_wait: true }));
    assert_eq!(world.heard(ME), []);
    world.publish(ME, "nowhere", "a");
    assert_eq!(world.heard(ME)[0].method(), ack(1, false));
}

#[test]
fn each_channel_counts_for_itself() {
    let mut world = with_confirms();
    world.open_channel(ME, 2);
    world.publish(ME, "q", "on channel 1");
    world.heard(ME);
    world.confirms(ME, 2);
    let mut octets = vec![];
    ToServer::BasicPublish(to_queue("q")).encode(2, &mut octets);
    warren_amqp::content::encode_header(2, 0, &persistent(), &mut octets);
    world.send_octets(ME, &octets);
    let heard = world.heard(ME);
    assert_eq!((heard[0].channel, heard[0].method()), (2, ack(1, false)));
}

#[test]
fn an_unroutable_mandatory_message_is_returned_before_its_ack() {
    let mut world = with_confirms();
    world.publish_with(ME, basic::Publish { mandatory: true, ..to_queue("nowhere") }, &persistent(), "lost");
    let heard = world.heard(ME);
    let returned = basic::Return { reply_code: 312, reply_text: "NO_ROUTE", exchange: "", routing_key: "nowhere" };
    assert_eq!(heard[0].method(), ToClient::BasicReturn(returned));
    assert_eq!(bodies(&messages(&heard)), ["lost"]);
    assert_eq!(heard[3].method(), ack(1, false));
}

#[test]
fn an_unroutable_message_that_is_not_mandatory_is_just_acked() {
    let mut world = with_confirms();
    world.publish(ME, "nowhere", "lost");
    let heard = world.heard(ME);
    assert_eq!((heard.len(), heard[0].method()), (1, ack(1, false)));
}

#[test]
fn a_routable_mandatory_message_is_not_returned() {
    let mut world = with_confirms();
    world.publish_with(ME, basic::Publish { mandatory: true, ..to_queue("q") }, &persistent(), "a");
    let heard = world.heard(ME);
    assert_eq!((heard.len(), heard[0].method()), (1, ack(1, false)));
}

#[test]
fn a_message_to_many_queues_is_confirmed_once_and_only_when_all_have_it() {
    let mut world = World::new();
    for number in 0..8 {
        let name = format!("q{number}");
        let declare = queue::Declare { durable: number % 2 == 0, ..declare(&name) };
        world.call(ME, 1, ToServer::QueueDeclare(declare));
        let bind = queue::Bind {
            queue: &name,
            exchange: "amq.fanout",
            routing_key: "",
            no_wait: false,
            arguments: NO_ARGUMENTS,
        };
        assert_eq!(world.call(ME, 1, ToServer::QueueBind(bind)).method(), ToClient::QueueBindOk(queue::BindOk));
    }
    world.confirms(ME, 1);
    for properties in [persistent(), BasicProperties::default()] {
        world.commits = false;
        world.publish_with(ME, basic::Publish { exchange: "amq.fanout", ..to_queue("") }, &properties, "all");
        let early = world.heard(ME).len();
        world.commit();
        assert_eq!(early + world.heard(ME).len(), 1);
        assert!(early == 0 || properties.delivery_mode.is_none(), "a persistent one waits for the log");
    }
    for number in 0..8 {
        assert_eq!(world.count(ME, &format!("q{number}")), (2, 0));
    }
}

#[test]
fn a_message_to_a_queue_that_is_gone_is_still_confirmed() {
    let mut world = with_confirms();
    let delete = queue::Delete { queue: "q", if_unused: false, if_empty: false, no_wait: false };
    let said = world.call(OTHER, 1, ToServer::QueueDelete(delete));
    assert_eq!(said.method(), ToClient::QueueDeleteOk(queue::DeleteOk { message_count: 0 }));
    world.publish(ME, "q", "a");
    assert_eq!(world.heard(ME)[0].method(), ack(1, false));
}

#[test]
fn what_a_queue_refuses_is_nacked_and_its_neighbours_are_acked() {
    let mut world = with_confirms();
    world.commits = false;
    world.publish_all(ME, "q", &["a", "b", "c", "d", "e"]);
    let first = world.runs[0].receipts[0].first;
    world.refuse(ME, 1, first + 2, 2);
    assert_eq!(world.heard(ME), [], "those before them have no answer yet");
    world.commit();
    let heard = world.heard(ME);
    assert_eq!(heard.iter().map(Said::method).collect::<Vec<_>>(), [ack(2, true), nack(4, true), ack(5, false)]);
}
