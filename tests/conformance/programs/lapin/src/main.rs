//! The tutorials' programs and what users do next, with lapin. Prints a line for each case.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

use futures_lite::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    BasicRejectOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(10);

fn equal<T: PartialEq + Debug>(got: T, wanted: T) -> Outcome {
    if got == wanted { Ok(()) } else { Err(format!("got {got:?} instead of {wanted:?}").into()) }
}

async fn publish(channel: &Channel, exchange: &str, key: &str, body: &str, properties: BasicProperties) -> Outcome {
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties).await?.await?;
    Ok(())
}

async fn send(channel: &Channel, exchange: &str, key: &str, body: &str) -> Outcome {
    publish(channel, exchange, key, body, BasicProperties::default()).await
}

async fn queue(channel: &Channel, name: &str) -> Outcome<String> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await?;
    Ok(queue.name().to_string())
}

async fn own_queue(channel: &Channel, arguments: FieldTable) -> Outcome<String> {
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare("".into(), options, arguments).await?.name().to_string())
}

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind) -> Outcome {
    let options = ExchangeDeclareOptions::default();
    Ok(channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await?)
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Outcome {
    let options = QueueBindOptions::default();
    Ok(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await?)
}

/// The next messages of a queue, by a consumer that ends with its channel.
async fn take(connection: &Connection, queue: &str, count: usize) -> Outcome<Vec<Delivery>> {
    let channel = connection.create_channel().await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    let mut messages = Vec::new();
    while messages.len() < count {
        let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await.map_err(|_| "nothing came")?;
        let delivery = delivery.ok_or("the consumer has ended")??;
        delivery.ack(BasicAckOptions::default()).await?;
        messages.push(delivery);
    }
    channel.close(200, "done".into()).await?;
    Ok(messages)
}

fn bodies(messages: &[Delivery]) -> Vec<&str> {
    messages.iter().map(|message| std::str::from_utf8(&message.data).unwrap_or("not text")).collect()
}

async fn hello_world(connection: &Connection, channel: &Channel) -> Outcome {
    queue(channel, "hello").await?;
    send(channel, "", "hello", "Hello World!").await?;
    equal(bodies(&take(connection, "hello", 1).await?), vec!["Hello World!"])
}

async fn work_queues(connection: &Connection, channel: &Channel) -> Outcome {
    queue(channel, "tasks").await?;
    for number in 0..10 {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        publish(channel, "", "tasks", &number.to_string(), persistent).await?;
    }
    let worker = async || -> Outcome<Channel> {
        let worker = connection.create_channel().await?;
        worker.basic_qos(1, BasicQosOptions::default()).await?;
        Ok(worker)
    };
    let (one, two) = (worker().await?, worker().await?);
    let consume = async |channel: &Channel| {
        channel.basic_consume("tasks".into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await
    };
    let (mut first, mut second) = (consume(&one).await?, consume(&two).await?);
    for _ in 0..5 {
        for consumer in [&mut first, &mut second] {
            let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await.map_err(|_| "nothing came")?;
            delivery.ok_or("the consumer has ended")??.ack(BasicAckOptions::default()).await?;
        }
    }
    Ok(())
}

async fn publish_subscribe(connection: &Connection, channel: &Channel) -> Outcome {
    exchange(channel, "logs", ExchangeKind::Fanout).await?;
    let queues = [own_queue(channel, FieldTable::default()).await?, own_queue(channel, FieldTable::default()).await?];
    for queue in &queues {
        bind(channel, queue, "logs", "").await?;
    }
    send(channel, "logs", "", "info").await?;
    for queue in &queues {
        equal(bodies(&take(connection, queue, 1).await?), vec!["info"])?;
    }
    Ok(())
}

async fn routing(connection: &Connection, channel: &Channel) -> Outcome {
    exchange(channel, "direct_logs", ExchangeKind::Direct).await?;
    let queue = own_queue(channel, FieldTable::default()).await?;
    for severity in ["info", "error"] {
        bind(channel, &queue, "direct_logs", severity).await?;
    }
    for severity in ["info", "debug", "error"] {
        send(channel, "direct_logs", severity, severity).await?;
    }
    equal(bodies(&take(connection, &queue, 2).await?), vec!["info", "error"])
}

async fn topics(connection: &Connection, channel: &Channel) -> Outcome {
    exchange(channel, "topic_logs", ExchangeKind::Topic).await?;
    let queue = own_queue(channel, FieldTable::default()).await?;
    for pattern in ["kern.#", "*.critical"] {
        bind(channel, &queue, "topic_logs", pattern).await?;
    }
    for key in ["kern", "kern.critical", "cron.info", "cron.critical", "a.b.critical"] {
        send(channel, "topic_logs", key, key).await?;
    }
    equal(bodies(&take(connection, &queue, 3).await?), vec!["kern", "kern.critical", "cron.critical"])
}

async fn remote_procedure_call(connection: &Connection, channel: &Channel) -> Outcome {
    queue(channel, "rpc_queue").await?;
    let callback = own_queue(channel, FieldTable::default()).await?;
    let asked = BasicProperties::default().with_reply_to(callback.as_str().into()).with_correlation_id("one".into());
    publish(channel, "", "rpc_queue", "30", asked).await?;
    let request = take(connection, "rpc_queue", 1).await?.remove(0);
    let reply_to = request.properties.reply_to().clone().ok_or("no reply_to")?;
    let correlation_id = request.properties.correlation_id().clone().ok_or("no correlation_id")?;
    let answer = BasicProperties::default().with_correlation_id(correlation_id);
    publish(channel, "", reply_to.as_str(), "31", answer).await?;
    let reply = take(connection, &callback, 1).await?.remove(0);
    equal(reply.properties.correlation_id().as_ref().map(|id| id.to_string()), Some("one".to_owned()))?;
    equal(bodies(&[reply]), vec!["31"])
}

async fn publisher_confirms(_: &Connection, channel: &Channel) -> Outcome {
    queue(channel, "confirmed").await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let publish = async |key: &str, mandatory| {
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        channel.basic_publish("".into(), key.into(), options, b"text", BasicProperties::default()).await?.await
    };
    for _ in 0..20 {
        equal(publish("confirmed", true).await?, Confirmation::Ack(None))?;
    }
    match publish("nowhere", true).await? {
        Confirmation::Ack(Some(returned)) => equal(returned.reply_code, 312),
        other => Err(format!("got {other:?}").into()),
    }
}

async fn a_missing_queue_costs_the_channel_only(connection: &Connection, channel: &Channel) -> Outcome {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let error = channel.queue_declare("nope".into(), options, FieldTable::default()).await.err();
    let text = error.ok_or("there is such a queue")?.to_string();
    if !text.contains("no queue 'nope' in vhost '/'") {
        return Err(text.into());
    }
    connection.create_channel().await?;
    Ok(())
}

async fn rejected_messages_come_back_in_their_place(connection: &Connection, channel: &Channel) -> Outcome {
    let queue = own_queue(channel, FieldTable::default()).await?;
    for text in ["0", "1", "2"] {
        send(channel, "", &queue, text).await?;
    }
    let first = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await?.ok_or("nothing there")?;
    first.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await?;
    let messages = take(connection, &queue, 3).await?;
    equal(bodies(&messages), vec!["0", "1", "2"])?;
    equal(messages[0].redelivered, true)
}

async fn dead_letters_tell_where_they_died(connection: &Connection, channel: &Channel) -> Outcome {
    let graveyard = own_queue(channel, FieldTable::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(LongString::from("")));
    arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(graveyard.clone().into()));
    let mortal = own_queue(channel, arguments).await?;
    send(channel, "", &mortal, "soul").await?;
    let message = channel.basic_get(mortal.as_str().into(), BasicGetOptions::default()).await?.ok_or("nothing there")?;
    message.reject(BasicRejectOptions { requeue: false }).await?;
    let message = take(connection, &graveyard, 1).await?.remove(0);
    let headers = message.properties.headers().clone().ok_or("no headers")?;
    let deaths = headers.inner().get("x-death").and_then(AMQPValue::as_array).ok_or("no x-death")?;
    let death = deaths.as_slice().first().and_then(AMQPValue::as_field_table).ok_or("an empty x-death")?;
    equal(death.inner().get("queue"), Some(&AMQPValue::LongString(mortal.into())))?;
    equal(death.inner().get("count"), Some(&AMQPValue::LongLongInt(1)))
}

#[tokio::main]
async fn main() -> Outcome {
    macro_rules! run {
        ($($case:ident),* $(,)?) => {$(
            let connection = Connection::connect("amqp://localhost:5672/%2f", ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            let name = stringify!($case).replace('_', " ");
            match $case(&connection, &channel).await {
                Ok(()) => println!("passed\t{name}"),
                Err(error) => println!("failed\t{name}\t{}", error.to_string().replace(['\n', '\t'], " ")),
            }
            connection.close(200, "done".into()).await.ok();
        )*};
    }
    run!(
        hello_world,
        work_queues,
        publish_subscribe,
        routing,
        topics,
        remote_procedure_call,
        publisher_confirms,
        a_missing_queue_costs_the_channel_only,
        rejected_messages_come_back_in_their_place,
        dead_letters_tell_where_they_died,
    );
    Ok(())
}
