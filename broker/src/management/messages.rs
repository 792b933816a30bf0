//! Messages: publish, get, purge, and a queue that is tried out. All of it goes through an AMQP client of its own.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use warren_amqp::{BasicProperties, Header, Table};
use warren_core::topology::{Action, QueueDeclaration};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::client::{Client, Got, Settle};
use super::json::{cost_of_table, integer, of_table, shown_length};
use super::queues;
use super::route::Handle::Later;
use super::route::{Needs, Route, delete, get, post};
use crate::definitions;
use crate::limits::{GET_BYTES, GET_MESSAGES, INSIDE_TIMEOUT};

pub(super) const ROUTES: &[Route] = &[
    post(
        "/api/exchanges/{vhost}/{exchange}/publish",
        Needs::Management,
        "Publish a message; answers whether a queue took it.",
        Later(|call| Box::pin(publish(call))),
    ),
    post(
        "/api/queues/{vhost}/{queue}/get",
        Needs::Management,
        "Get messages, and acknowledge, requeue or reject them.",
        Later(|call| Box::pin(get_messages(call))),
    ),
    delete(
        "/api/queues/{vhost}/{queue}/contents",
        Needs::Management,
        "Purge a queue: drop the messages that wait.",
        Later(|call| Box::pin(purge(call))),
    ),
    get(
        "/api/aliveness-test/{vhost}",
        Needs::Management,
        "Publish a message to the queue `aliveness-test` and get it again.",
        Later(|call| Box::pin(aliveness_test(call))),
    ),
];

/// Does something with a client of its own, in the virtual host that the path names, within [`INSIDE_TIMEOUT`]. So many are
/// at it at once that what they hold of messages is bounded.
async fn with_client<T>(call: &Call, deed: impl AsyncFnOnce(&mut Client) -> Result<T, Failure>) -> Result<T, Failure> {
    let late = |_| {
        let reason = "the broker has not answered in time; look whether an alarm is in effect";
        Failure::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", reason)
    };
    let work = async {
        let _permit = call.inside.acquire().await.map_err(|_| Failure::stopping())?;
        let mut client = Client::open(call, call.name("vhost")).await?;
        let result = deed(&mut client).await?;
        client.close().await?;
        Ok(result)
    };
    timeout(INSIDE_TIMEOUT, work).await.map_err(late)?
}

/// What is published.
#[derive(Deserialize)]
struct Publish {
    routing_key: String,
    payload: String,
    payload_encoding: String,
    properties: Properties,
}

/// RabbitMQ's names for the properties of class `basic`. Others are passed over, as there.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Properties {
    content_type: Option<String>,
    content_encoding: Option<String>,
    headers: BTreeMap<String, Json>,
    delivery_mode: Option<u8>,
    priority: Option<u8>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    expiration: Option<String>,
    message_id: Option<String>,
    timestamp: Option<u64>,
    #[serde(rename = "type")]
    kind: Option<String>,
    user_id: Option<String>,
    app_id: Option<String>,
    cluster_id: Option<String>,
}

impl Properties {
    /// `headers`: the field table's octets.
    fn encoded<'a>(&'a self, headers: &'a [u8]) -> Result<BasicProperties<'a>, Failure> {
        let texts = [
            ("content_type", &self.content_type),
            ("content_encoding", &self.content_encoding),
            ("correlation_id", &self.correlation_id),
            ("reply_to", &self.reply_to),
            ("expiration", &self.expiration),
            ("message_id", &self.message_id),
            ("type", &self.kind),
            ("user_id", &self.user_id),
            ("app_id", &self.app_id),
            ("cluster_id", &self.cluster_id),
        ];
        let is_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > usize::from(u8::MAX));
        if let Some((name, _)) = texts.into_iter().find(|(_, text)| is_long(text)) {
            return Err(Failure::bad_request(format!("property {name} is longer than 255 octets")));
        }
        Ok(BasicProperties {
            content_type: self.content_type.as_deref(),
            content_encoding: self.content_encoding.as_deref(),
            headers: (!headers.is_empty()).then(|| Table::new(headers)),
            delivery_mode: self.delivery_mode,
            priority: self.priority,
            correlation_id: self.correlation_id.as_deref(),
            reply_to: self.reply_to.as_deref(),
            expiration: self.expiration.as_deref(),
            message_id: self.message_id.as_deref(),
            timestamp: self.timestamp,
            kind: self.kind.as_deref(),
            user_id: self.user_id.as_deref(),
            app_id: self.app_id.as_deref(),
            cluster_id: self.cluster_id.as_deref(),
        })
    }
}

async fn publish(call: Call) -> Answer {
    let Publish { routing_key, payload, payload_encoding, properties } = call.read()?;
    let vhost = call.target_vhost()?;
    let exchange = call.exchange_name("exchange");
    if vhost.exchange(exchange).is_none() {
        return Err(Failure::missing("exchange_not_found"));
    }
    if routing_key.len() > usize::from(u8::MAX) {
        return Err(Failure::bad_request("routing_key is longer than 255 octets"));
    }
    refuse_during_alarm(&call)?;
    let body = match payload_encoding.as_str() {
        "string" => payload.into_bytes(),
        "base64" => BASE64_STANDARD
            .decode(&payload)
            .map_err(|error| Failure::bad_request(format!("not_base64: payload: {error}")))?,
        other => return Err(Failure::bad_request(format!("unsupported_encoding: {other}; write string or base64"))),
    };
    let headers = definitions::table("headers", &properties.headers)?;
    let properties = properties.encoded(&headers)?;
    let routed =
        with_client(&call, async |client| client.publish((exchange, &routing_key), &properties, &body).await).await?;
    Ok(Reply::Json(json!({"routed": routed})))
}

/// A publisher would have to wait until the alarm is over.
fn refuse_during_alarm(call: &Call) -> Result<(), Failure> {
    call.shared.alarms.current().reason().map_or(Ok(()), |reason| {
        let reason = format!("the node takes no publishes now: {reason}");
        Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "blocked", reason))
    })
}

/// What is got, and what becomes of it.
#[derive(Deserialize)]
struct Get {
    #[serde(deserialize_with = "integer")]
    count: i64,
    ackmode: String,
    encoding: String,
    /// Octets of a payload that are shown; all of them without.
    truncate: Option<usize>,
}

async fn get_messages(call: Call) -> Answer {
    let Get { count, ackmode, encoding, truncate } = call.read()?;
    let settle = match ackmode.as_str() {
        "ack_requeue_false" => Settle::Ack,
        "ack_requeue_true" | "reject_requeue_true" => Settle::Requeue,
        "reject_requeue_false" => Settle::Reject,
        other => {
            return Err(Failure::bad_request(format!(
                "Invalid ackmode value: {other}. Valid values are: ack_requeue_true, ack_requeue_false, \
                 reject_requeue_true, reject_requeue_false"
            )));
        }
    };
    let base64 = match encoding.as_str() {
        "auto" => false,
        "base64" => true,
        _ => return Err(Failure::bad_request("Unsupported encoding. Please use auto or base64.")),
    };
    let count = usize::try_from(count).unwrap_or_default();
    if count > GET_MESSAGES {
        return Err(Failure::bad_request(format!("count {count} is more than {GET_MESSAGES}")));
    }
    let vhost = call.target_vhost()?;
    let name = call.name("queue");
    if vhost.queue(name).is_none() {
        return Err(Failure::missing("queue_not_found"));
    }
    let messages = with_client(&call, async |client| take(client, name, count, settle).await).await?;
    // Others wait on this thread.
    let shaped = spawn_blocking(move || messages.iter().map(|got| shape(got, base64, truncate)).collect());
    shaped.await.map(Reply::Json).map_err(|_| Failure::defect())
}

/// Takes messages until there are so many, none is left, or they are more than an answer should hold; then settles them.
async fn take(client: &mut Client, queue: &str, count: usize, settle: Settle) -> Result<Vec<Got>, Failure> {
    let (mut messages, mut octets) = (Vec::new(), 0);
    while messages.len() < count && octets < GET_BYTES {
        let Some(got) = client.get(queue).await? else { break };
        octets += shown_length(&got.body) + cost(&got);
        messages.push(got);
    }
    if let Some(last) = messages.last() {
        client.settle(last.tag, settle).await?;
    }
    Ok(messages)
}

/// About how many octets a message takes in an answer, beside its payload.
fn cost(got: &Got) -> usize {
    let header = Header::decode(&got.header).and_then(|header| header.properties.headers());
    let names = [got.exchange.as_bytes(), got.routing_key.as_bytes()].map(shown_length);
    // The properties beside the headers are few and short.
    names.iter().sum::<usize>() + header.ok().flatten().map_or(0, cost_of_table)
}

fn shape(got: &Got, base64: bool, truncate: Option<usize>) -> Json {
    let shown = &got.body[..truncate.unwrap_or(usize::MAX).min(got.body.len())];
    let (payload, encoding) = match std::str::from_utf8(shown) {
        Ok(text) if !base64 => (text.to_owned(), "string"),
        _ => (BASE64_STANDARD.encode(shown), "base64"),
    };
    json!({
        "payload_bytes": got.body.len(),
        "redelivered": got.redelivered,
        "exchange": got.exchange,
        "routing_key": got.routing_key,
        "message_count": got.message_count,
        "properties": properties(&got.header),
        "payload": payload,
        "payload_encoding": encoding,
    })
}

/// The properties of a message that are there.
fn properties(header: &[u8]) -> Json {
    let decoded = Header::decode(header).ok().and_then(|header| BasicProperties::decode(header.properties).ok());
    let of = decoded.unwrap_or_default();
    let fields = [
        ("content_type", of.content_type.map(Json::from)),
        ("content_encoding", of.content_encoding.map(Json::from)),
        ("headers", of.headers.map(|headers| of_table(headers.octets()))),
        ("delivery_mode", of.delivery_mode.map(Json::from)),
        ("priority", of.priority.map(Json::from)),
        ("correlation_id", of.correlation_id.map(Json::from)),
        ("reply_to", of.reply_to.map(Json::from)),
        ("expiration", of.expiration.map(Json::from)),
        ("message_id", of.message_id.map(Json::from)),
        ("timestamp", of.timestamp.map(Json::from)),
        ("type", of.kind.map(Json::from)),
        ("user_id", of.user_id.map(Json::from)),
        ("app_id", of.app_id.map(Json::from)),
        ("cluster_id", of.cluster_id.map(Json::from)),
    ];
    Json::Object(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>())
}

async fn purge(call: Call) -> Answer {
    let name = queues::named(&call)?.name.to_string();
    with_client(&call, async |client| client.purge(&name).await).await?;
    Ok(Reply::Done)
}

/// What RabbitMQ's test of the same name does, in a queue of the same name.
async fn aliveness_test(call: Call) -> Answer {
    const QUEUE: &str = "aliveness-test";
    let vhost = call.vhost()?.name();
    refuse_during_alarm(&call)?;
    let declaration = QueueDeclaration {
        name: QUEUE.to_owned(),
        generated_name: String::new(),
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: definitions::table("arguments", &BTreeMap::new())?,
    };
    call.ask(vhost, Action::DeclareQueue(declaration)).await?;
    let got = with_client(&call, async |client| {
        client.publish(("", QUEUE), &BasicProperties::default(), b"test_message").await?;
        let got = client.get(QUEUE).await?;
        if let Some(got) = &got {
            client.settle(got.tag, Settle::Ack).await?;
        }
        Ok(got)
    });
    match got.await? {
        Some(_) => Ok(Reply::Json(json!({"status": "ok"}))),
        None => Ok(Reply::Unwell(json!({"status": "failed", "reason": "the message did not come back"}))),
    }
}
