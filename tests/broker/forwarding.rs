//! Messages that go on by themselves: dead letters, delayed messages, direct replies; and queues that end by themselves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use warren_amqp::content::{encode_body_frames, encode_header};
use warren_amqp::{BasicProperties, Header, Table, TableBuilder, ToClient, ToServer, basic, exchange, queue};
use warren_tests::harness::{Broker, Connection, DataFolder, Event, Message};

use crate::to_queue;

const FRAME_MAX: u32 = 131_072;
/// How long something may take that should take a moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// Dead letters of the queue go to another one by the default exchange.
fn dead_letters_to<'t>(queue: &'t str) -> impl FnOnce(&mut TableBuilder<'_>) + use<'t> {
    move |table| {
        table.put("x-dead-letter-exchange", "").put("x-dead-letter-routing-key", queue);
    }
}

pub(crate) fn publish(
    connection: &mut Connection,
    to: basic::Publish<'_>,
    properties: &BasicProperties<'_>,
) -> Result<()> {
    let mut octets = Vec::new();
    ToServer::BasicPublish(to).encode(1, &mut octets);
    encode_header(1, 4, properties, &mut octets);
    encode_body_frames(1, b"body", FRAME_MAX, &mut octets);
    Ok(connection.send_octets(&octets)?)
}

fn persistent() -> BasicProperties<'static> {
    BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() }
}

pub(crate) fn confirmed(connection: &mut Connection) -> Result<()> {
    connection.expect(1, |method| matches!(method, ToClient::BasicAck(_)))
}

fn next_message(connection: &mut Connection) -> Result<Message> {
    match connection.receive()? {
        Event::Message(message) => Ok(message),
        other => bail!("expected a message, got {other:?}"),
    }
}

fn headers(message: &Message) -> Result<Table<'_>> {
    Header::decode(&message.header)?.properties.headers()?.context("it has headers")
}

/// Queue and reason of each death, the newest first.
fn deaths(message: &Message) -> Result<Vec<(String, String)>> {
    let deaths = headers(message)?.get("x-death")?.and_then(|value| value.as_array()).context("it has died")?;
    let text = |death: Table<'_>, field: &str| -> Result<String> {
        Ok(death.get(field)?.and_then(|value| value.as_str()).context("a text")?.to_owned())
    };
    let each = deaths.iter().map(|death| {
        let death = death?.as_table().context("a table")?;
        Ok((text(death, "queue")?, text(death, "reason")?))
    });
    each.collect()
}

#[test]
fn a_message_whose_time_is_over_goes_along_a_chain_of_queues() -> Result<()> {
    let (_folder, broker) = crate::broker()?;
    let mut connection = Connection::with_channel(broker.address)?;
    connection.declare_queue_with("end", |_| ())?;
    connection.declare_queue_with("second", |table| {
        dead_letters_to("end")(table);
        table.put("x-message-ttl", 50);
    })?;
    connection.declare_queue_with("first", dead_letters_to("second"))?;
    publish(&mut connection, to_queue("first"), &BasicProperties { expiration: Some("20"), ..persistent() })?;
    connection.consume("end", true, 0)?;
    let message = next_message(&mut connection)?;
    ensure!(message.body == b"body" && message.routing_key == "end");
    let expected = [("second", "expired"), ("first", "expired")].map(|(queue, reason)| (queue.into(), reason.into()));
    ensure!(deaths(&message)? == expected, "{:?}", deaths(&message)?);
    Ok(())
}

#[test]
fn dead_letters_are_not_lost_when_the_broker_is_killed() -> Result<()> {
    const MESSAGES: u64 = 2_000;
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    let mut connection = Connection::with_channel(broker.address)?;
    connection.declare_queue_with("dead", |_| ())?;
    connection.declare_queue_with("work", dead_letters_to("dead"))?;
    connection.confirm_select()?;
    for _ in 0..MESSAGES {
        connection.publish(to_queue("work"), true, b"body")?;
    }
    connection.wait_for_confirms(MESSAGES)?;
    for _ in 0..MESSAGES {
        let message = connection.get_to_acknowledge("work")?.context("it is there")?;
        connection
            .send(1, ToServer::BasicReject(basic::Reject { delivery_tag: message.delivery_tag, requeue: false }))?;
    }
    broker.kill()?;
    let broker = Broker::start(&folder)?;
    let mut connection = Connection::with_channel(broker.address)?;
    let (work, _) = connection.declare_queue("work", true, true)?;
    let (dead, _) = connection.declare_queue("dead", true, true)?;
    ensure!(u64::from(work + dead) >= MESSAGES, "{work} and {dead} are left of {MESSAGES}");
    Ok(())
}

#[test]
fn a_delayed_message_comes_when_it_is_due_also_after_the_broker_was_killed() -> Result<()> {
    const DELAY: Duration = Duration::from_millis(2_000);
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    let mut connection = Connection::with_channel(broker.address)?;
    declare_delayed(&mut connection, "later")?;
    connection.declare_queue_with("target", |_| ())?;
    let bind = queue::Bind {
        queue: "target",
        exchange: "later",
        routing_key: "key",
        no_wait: false,
        arguments: Table::default(),
    };
    connection.call(1, ToServer::QueueBind(bind))?;
    connection.confirm_select()?;
    let headers_table = TableBuilder::build(|table| {
        table.put("x-delay", i32::try_from(DELAY.as_millis()).expect("it is small"));
    });
    let to = basic::Publish { exchange: "later", routing_key: "key", mandatory: false, immediate: false };
    publish(&mut connection, to, &BasicProperties { headers: Some(Table::new(&headers_table)), ..persistent() })?;
    confirmed(&mut connection)?;
    let published = Instant::now();
    ensure!(connection.get("target")?.is_none(), "it is not due yet");
    broker.kill()?;
    let broker = Broker::start(&folder)?;
    let mut connection = Connection::with_channel(broker.address)?;
    connection.consume("target", true, 0)?;
    let message = next_message(&mut connection)?;
    let waited = published.elapsed();
    ensure!(waited + Duration::from_millis(50) >= DELAY, "it came after {waited:?}");
    let delay = headers(&message)?.get("x-delay")?.and_then(|value| value.as_integer());
    ensure!(delay == Some(-2_000), "{delay:?}");
    Ok(())
}

fn declare_delayed(connection: &mut Connection, name: &str) -> Result<()> {
    let arguments = TableBuilder::build(|table| {
        table.put("x-delayed-type", "direct");
    });
    let declare = exchange::Declare {
        exchange: name,
        kind: "x-delayed-message",
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: Table::new(&arguments),
    };
    connection.send(1, ToServer::ExchangeDeclare(declare))?;
    connection.expect(1, |method| matches!(method, ToClient::ExchangeDeclareOk(_)))
}

#[test]
fn a_queue_that_nobody_uses_is_deleted_when_its_time_is_over() -> Result<()> {
    let (_folder, broker) = crate::broker()?;
    let mut connection = Connection::with_channel(broker.address)?;
    connection.declare_queue_with("kept", |_| ())?;
    connection.declare_queue_with("expires", |table| {
        table.put("x-expires", 200);
    })?;
    let begin = Instant::now();
    // Asking for the queue itself would use it.
    while !broker.http("/metrics")?.1.contains("\nrabbitmq_queues 1\n") {
        ensure!(begin.elapsed() < PATIENCE, "it is still there");
    }
    connection.declare_queue("kept", true, true)?;
    connection.send(1, ToServer::BasicGet(basic::Get { queue: "expires", no_ack: true }))?;
    connection.expect(1, |method| matches!(method, ToClient::ChannelClose(close) if close.reply_code == 404))
}

#[test]
fn a_reply_goes_from_connection_to_connection_past_all_queues() -> Result<()> {
    let (_folder, broker) = crate::broker()?;
    let [mut client, mut server] =
        [Connection::with_channel(broker.address)?, Connection::with_channel(broker.address)?];
    server.declare_queue("requests", true, false)?;
    server.consume("requests", true, 0)?;
    client.consume("amq.rabbitmq.reply-to", true, 0)?;
    let asks = BasicProperties { reply_to: Some("amq.rabbitmq.reply-to"), ..BasicProperties::default() };
    publish(&mut client, to_queue("requests"), &asks)?;
    let request = next_message(&mut server)?;
    let address = Header::decode(&request.header)?.properties.reply_to()?.context("it says where replies go")?;
    server.publish(to_queue(address), false, b"answer")?;
    let reply = next_message(&mut client)?;
    ensure!(reply.body == b"answer" && reply.routing_key == address);
    // Nobody waits there any more: the reply is lost and nothing else happens.
    let address = address.to_owned();
    drop(client);
    server.publish(to_queue(&address), false, b"too late")?;
    server.declare_queue("requests", true, true).map(drop)
}
