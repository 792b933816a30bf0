//! Queues as a connection declares, names and owns them.

use warren_amqp::{Table, ToClient, ToServer, basic, connection, queue};

use super::world::*;

fn close() -> ToServer<'static> {
    ToServer::ConnectionClose(connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 })
}

fn declare_ok(queue: &str, message_count: u32, consumer_count: u32) -> ToClient<'_> {
    ToClient::QueueDeclareOk(queue::DeclareOk { queue, message_count, consumer_count })
}

fn exclusive(name: &str) -> ToServer<'_> {
    ToServer::QueueDeclare(queue::Declare { exclusive: true, ..declare(name) })
}

#[test]
fn declare_ok_counts_ready_messages_and_consumers() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish_all(ME, "q", &["a", "b", "c"]);
    world.get(ME, "q");
    let durable = queue::Declare { durable: true, ..declare("q") };
    assert_eq!(world.call(ME, 1, ToServer::QueueDeclare(durable)).method(), declare_ok("q", 2, 0));
    world.consume(ME, "q", "t");
    assert_eq!(world.call(ME, 1, ToServer::QueueDeclare(durable)).method(), declare_ok("q", 0, 1));
}

#[test]
fn a_queue_without_a_name_gets_one_that_the_empty_name_stands_for() {
    let mut world = World::new();
    let said = world.call(ME, 1, exclusive(""));
    let ToClient::QueueDeclareOk(ok) = said.method() else { panic!("{said:?}") };
    assert!(ok.queue.starts_with("amq.gen-") && ok.queue.len() == 30, "{}", ok.queue);
    world.publish(ME, ok.queue, "a");
    assert_eq!(world.get(ME, "").unwrap().body, "a");
}

#[test]
fn the_empty_name_is_the_queue_that_the_channel_declared_last() {
    let mut world = World::new();
    world.queue(ME, "first");
    world.queue(ME, "second");
    let bind =
        queue::Bind { queue: "", exchange: "amq.topic", routing_key: "", no_wait: false, arguments: NO_ARGUMENTS };
    assert_eq!(world.call(ME, 1, ToServer::QueueBind(bind)).method(), ToClient::QueueBindOk(queue::BindOk));
    // Both names empty: the queue's name is the binding key.
    let publish = basic::Publish { exchange: "amq.topic", ..to_queue("second") };
    world.publish_with(ME, publish, &persistent(), "a");
    assert_eq!(world.count(ME, "second"), (1, 0));
    let purge = ToServer::QueuePurge(queue::Purge { queue: "", no_wait: false });
    assert_eq!(world.call(ME, 1, purge).method(), ToClient::QueuePurgeOk(queue::PurgeOk { message_count: 1 }));
}

#[test]
fn a_passive_declare_of_the_empty_name_finds_nothing() {
    let mut world = World::new();
    world.queue(ME, "q");
    let said = world.call(ME, 1, ToServer::QueueDeclare(queue::Declare { passive: true, ..declare("") }));
    said.closes_channel(404, "NOT_FOUND - no queue '' in vhost '/'", queue::Declare::ID);
}

#[test]
fn the_empty_name_without_a_declared_queue_is_404() {
    for method in [
        ToServer::BasicGet(basic::Get { queue: "", no_ack: true }),
        ToServer::BasicConsume(consume("", "t")),
        ToServer::QueuePurge(queue::Purge { queue: "", no_wait: false }),
        ToServer::QueueDelete(queue::Delete { queue: "", if_unused: false, if_empty: false, no_wait: false }),
    ] {
        let id = method.method_id();
        World::new().call(ME, 1, method).closes_channel(404, "NOT_FOUND - no previously declared queue", id);
    }
}

#[test]
fn methods_without_wait_are_not_answered() {
    let mut world = World::new();
    world.send(ME, 1, ToServer::QueueDeclare(queue::Declare { no_wait: true, ..declare("q") }));
    let bind =
        queue::Bind { queue: "q", exchange: "amq.fanout", routing_key: "", no_wait: true, arguments: NO_ARGUMENTS };
    world.send(ME, 1, ToServer::QueueBind(bind));
    world.send(ME, 1, ToServer::QueuePurge(queue::Purge { queue: "q", no_wait: true }));
    let delete = queue::Delete { queue: "q", if_unused: false, if_empty: false, no_wait: true };
    world.send(ME, 1, ToServer::QueueDelete(delete));
    assert_eq!(world.heard(ME), []);
    let said = world.call(ME, 1, ToServer::QueueDeclare(queue::Declare { passive: true, ..declare("q") }));
    said.closes_channel(404, "NOT_FOUND - no queue 'q' in vhost '/'", queue::Declare::ID);
}

#[test]
fn methods_sent_at_once_are_carried_out_in_order() {
    let mut world = World::new();
    let mut octets = std::vec![];
    ToServer::QueueDeclare(declare("q")).encode(1, &mut octets);
    octets.extend_from_slice(&publish_head("q", 0));
    ToServer::BasicGet(basic::Get { queue: "q", no_ack: true }).encode(1, &mut octets);
    ToServer::QueueDeclare(declare("q")).encode(1, &mut octets);
    world.send_octets(ME, &octets);
    let heard = world.heard(ME);
    assert_eq!(heard[0].method(), declare_ok("q", 0, 0));
    assert!(matches!(heard[1].method(), ToClient::BasicGetOk(_)));
    assert_eq!(heard[3].method(), declare_ok("q", 0, 0));
}

#[test]
fn an_exclusive_queue_is_locked_for_others() {
    let mut world = World::new();
    world.call(ME, 1, exclusive("mine"));
    let text = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be \
                originally declared on another connection or the exclusive property value does not match that of the \
                original declaration.";
    let text = &text[..text.len().min(255)];
    for method in [
        ToServer::BasicGet(basic::Get { queue: "mine", no_ack: true }),
        ToServer::BasicConsume(consume("mine", "t")),
        ToServer::QueuePurge(queue::Purge { queue: "mine", no_wait: false }),
        ToServer::QueueDeclare(queue::Declare { passive: true, ..declare("mine") }),
        ToServer::QueueDelete(queue::Delete { queue: "mine", if_unused: false, if_empty: false, no_wait: false }),
    ] {
        let id = method.method_id();
        world.call(OTHER, 1, method).closes_channel(405, text, id);
        world.send(OTHER, 1, ToServer::ChannelCloseOk(warren_amqp::channel::CloseOk));
        world.open_channel(OTHER, 1);
    }
}

#[test]
fn close_ok_comes_when_the_exclusive_queues_are_gone() {
    let mut world = World::new();
    world.call(ME, 1, exclusive("mine"));
    let said = world.call(ME, 0, close());
    assert_eq!(said.method(), ToClient::ConnectionCloseOk(connection::CloseOk));
    assert!(world.topology.queue("/", "mine").is_none());
    assert!(world.is_closed(ME));
}

#[test]
fn a_lost_connection_takes_its_exclusive_queues_along() {
    let mut world = World::new();
    world.call(ME, 1, exclusive("mine"));
    world.disconnect(ME);
    assert!(world.topology.queue("/", "mine").is_none());
}

#[test]
fn a_connection_lost_before_declare_ok_leaves_no_exclusive_queue() {
    let mut world = World::new();
    world.metadata_answers(false);
    world.send(ME, 1, exclusive("mine"));
    assert!(world.is_waiting(ME));
    world.disconnect(ME);
    world.metadata_answers(true);
    assert!(world.topology.queue("/", "mine").is_none());
}

#[test]
fn an_exclusive_queue_outlives_its_channel() {
    let mut world = World::new();
    world.call(ME, 1, exclusive("mine"));
    let close = warren_amqp::channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    world.call(ME, 1, ToServer::ChannelClose(close));
    world.open_channel(ME, 1);
    assert_eq!(world.count(ME, "mine"), (0, 0));
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer_and_not_before_it_had_one() {
    let mut world = World::new();
    let auto_delete = queue::Declare { auto_delete: true, ..declare("q") };
    world.call(ME, 1, ToServer::QueueDeclare(auto_delete));
    world.get(ME, "q");
    world.disconnect(ME);
    assert_eq!(world.count(OTHER, "q"), (0, 0), "it never had a consumer");
    world.consume(OTHER, "q", "t");
    world.call(OTHER, 1, ToServer::BasicCancel(basic::Cancel { consumer_tag: "t", no_wait: false }));
    assert!(world.topology.queue("/", "q").is_none());
}

#[test]
fn delete_tells_how_many_messages_went_along_and_succeeds_for_a_missing_queue() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish(ME, "q", "a");
    for expected in [1, 0] {
        let delete = queue::Delete { queue: "q", if_unused: false, if_empty: false, no_wait: false };
        let said = world.call(ME, 1, ToServer::QueueDelete(delete));
        assert_eq!(said.method(), ToClient::QueueDeleteOk(queue::DeleteOk { message_count: expected }));
    }
}

#[test]
fn a_queue_in_use_or_with_messages_is_not_deleted_under_a_condition() {
    let mut world = World::new();
    world.queue(ME, "q");
    world.publish(OTHER, "q", "a");
    let if_empty = queue::Delete { queue: "q", if_unused: false, if_empty: true, no_wait: false };
    let said = world.call(OTHER, 1, ToServer::QueueDelete(if_empty));
    assert!(matches!(said.method(), ToClient::ChannelClose(close) if close.reply_code == 406), "{said:?}");
    world.consume(ME, "q", "t");
    let if_unused = queue::Delete { if_unused: true, if_empty: false, ..if_empty };
    let said = world.call(ME, 1, ToServer::QueueDelete(if_unused));
    assert!(matches!(said.method(), ToClient::ChannelClose(close) if close.reply_code == 406), "{said:?}");
    assert!(world.topology.queue("/", "q").is_some());
}

#[test]
fn arguments_that_cannot_be_decoded_are_541() {
    // A field `a` of type `U`, which the specification has and RabbitMQ has not.
    let arguments = Table::new(b"\x01aU\x00\x00");
    let methods = [
        ToServer::QueueDeclare(queue::Declare { arguments, ..declare("q") }),
        ToServer::BasicConsume(basic::Consume { arguments, ..consume("q", "t") }),
    ];
    for method in methods {
        let said = World::new().call(ME, 1, method);
        assert!(matches!(said.method(), ToClient::ConnectionClose(close) if close.reply_code == 541), "{said:?}");
    }
}
