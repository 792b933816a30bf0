//! Bindings. One is named by its source, its destination and its *properties key*: the routing key with `%` and what is not
//! a letter, digit, `-`, `.` or `_` written as in paths, then, if the binding has arguments, `~` and a digest of them. The
//! key of a binding without both is `~`. It is RabbitMQ's form but for the digest, which is the broker's own affair there too.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use warren_core::topology::{Action, Bind, BindingRecord, Destination, Topology, Vhost};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::exchanges;
use super::json::of_table;
use super::queues;
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, delete, get, post};
use crate::definitions;

pub(super) const ROUTES: &[Route] = &[
    get("/api/bindings", Needs::Management, "The bindings that the caller sees.", Now(list)),
    get("/api/bindings/{vhost}", Needs::Management, "Bindings of a virtual host.", Now(list_of_vhost)),
    get("/api/bindings/{vhost}/e/{source}/q/{queue}", Needs::Management, BETWEEN, Now(between_queue)),
    post("/api/bindings/{vhost}/e/{source}/q/{queue}", Needs::Management, BIND, Later(|call| Box::pin(bind(call)))),
    get("/api/bindings/{vhost}/e/{source}/q/{queue}/{properties}", Needs::Management, "One binding.", Now(one)),
    delete(
        "/api/bindings/{vhost}/e/{source}/q/{queue}/{properties}",
        Needs::Management,
        "Delete a binding.",
        Later(|call| Box::pin(unbind(call))),
    ),
    get("/api/bindings/{vhost}/e/{source}/e/{destination}", Needs::Management, BETWEEN, Now(between_exchanges)),
    post(
        "/api/bindings/{vhost}/e/{source}/e/{destination}",
        Needs::Management,
        BIND,
        Later(|call| Box::pin(bind(call))),
    ),
    get("/api/bindings/{vhost}/e/{source}/e/{destination}/{properties}", Needs::Management, "One binding.", Now(one)),
    delete(
        "/api/bindings/{vhost}/e/{source}/e/{destination}/{properties}",
        Needs::Management,
        "Delete a binding.",
        Later(|call| Box::pin(unbind(call))),
    ),
    get("/api/queues/{vhost}/{queue}/bindings", Needs::Management, "Bindings that lead to a queue.", Now(of_queue)),
    get(
        "/api/exchanges/{vhost}/{exchange}/bindings/source",
        Needs::Management,
        "Bindings that lead from an exchange.",
        Now(from_exchange),
    ),
    get(
        "/api/exchanges/{vhost}/{exchange}/bindings/destination",
        Needs::Management,
        "Bindings that lead to an exchange.",
        Now(to_exchange),
    ),
];

const BETWEEN: &str = "Bindings between the two.";
const BIND: &str = "Bind the two; the answer's header `location` ends with the binding's properties key.";

/// What stands for itself in a properties key.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// A binding with its destination by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) to_queue: bool,
    pub(super) routing_key: String,
    pub(super) arguments: Bytes,
}

impl Shown {
    /// `None` for what leads to the store of a delayed exchange, or nowhere any more.
    fn of(record: &BindingRecord, topology: &Topology) -> Option<Self> {
        let (destination, to_queue) = match &record.destination {
            Destination::Queue(id) => (topology.queue_by_id(*id)?.name.to_string(), true),
            Destination::Exchange(name) => (name.to_string(), false),
        };
        let (source, routing_key) = (record.source.to_string(), record.routing_key.to_string());
        Some(Self { source, destination, to_queue, routing_key, arguments: record.arguments.clone() })
    }

    /// What the default exchange does for every queue.
    fn implicit(queue: &str) -> Self {
        let (source, destination, routing_key) = (String::new(), queue.to_owned(), queue.to_owned());
        Self { source, destination, to_queue: true, routing_key, arguments: Bytes::new() }
    }

    fn order(&self) -> (&str, &str, &str, &[u8]) {
        (&self.source, &self.destination, &self.routing_key, &self.arguments)
    }

    pub(super) fn properties_key(&self) -> String {
        properties_key(&self.routing_key, &self.arguments)
    }

    pub(super) fn destination_type(&self) -> &'static str {
        if self.to_queue { "queue" } else { "exchange" }
    }

    fn shape(&self, vhost: &Vhost) -> Json {
        json!({
            "source": self.source,
            "vhost": &**vhost.name(),
            "destination": self.destination,
            "destination_type": self.destination_type(),
            "routing_key": self.routing_key,
            "arguments": of_table(&self.arguments),
            "properties_key": self.properties_key(),
        })
    }
}

fn properties_key(routing_key: &str, arguments: &[u8]) -> String {
    let key = utf8_percent_encode(routing_key, PLAIN);
    match (routing_key.is_empty(), arguments.is_empty()) {
        (true, true) => String::from("~"),
        (false, true) => key.to_string(),
        _ => format!("{key}~{}", BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(arguments)[..6])),
    }
}

/// The bindings of a virtual host as RabbitMQ shows them: sorted, those of the default exchange first.
pub(super) fn explicit(vhost: &Vhost, topology: &Topology) -> Vec<Shown> {
    let mut bindings: Vec<_> = vhost.bindings().filter_map(|record| Shown::of(&record, topology)).collect();
    bindings.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
    bindings
}

fn all(vhost: &Vhost, topology: &Topology) -> Vec<Shown> {
    let implicit = queues::records(vhost).into_iter().map(|queue| Shown::implicit(&queue.name));
    implicit.chain(explicit(vhost, topology)).collect()
}

fn shapes(vhost: &Vhost, call: &Call, is_asked: impl Fn(&Shown) -> bool) -> Vec<Json> {
    let all = all(vhost, &call.topology);
    all.iter().filter(|shown| is_asked(shown)).map(|shown| shown.shape(vhost)).collect()
}

fn list(call: &Call) -> Answer {
    call.list(call.vhosts().flat_map(|vhost| shapes(vhost, call, |_| true)).collect())
}

fn list_of_vhost(call: &Call) -> Answer {
    call.list(shapes(call.vhost()?, call, |_| true))
}

fn between_queue(call: &Call) -> Answer {
    call.list(shapes(call.vhost()?, call, |shown| is_between(call, shown)))
}

fn between_exchanges(call: &Call) -> Answer {
    between_queue(call)
}

/// Whether the binding leads from where to where the path says.
fn is_between(call: &Call, shown: &Shown) -> bool {
    let ends = Ends::of(call);
    shown.source == ends.source && shown.destination == ends.destination && shown.to_queue == ends.to_queue
}

/// What the path names.
struct Ends<'c> {
    source: &'c str,
    destination: &'c str,
    to_queue: bool,
}

impl<'c> Ends<'c> {
    fn of(call: &'c Call) -> Self {
        let to_queue = call.path.iter().any(|(name, _)| name == "queue");
        let destination = if to_queue { call.name("queue") } else { call.exchange_name("destination") };
        Self { source: call.exchange_name("source"), destination, to_queue }
    }
}

fn one(call: &Call) -> Answer {
    let vhost = call.vhost()?;
    Ok(Reply::Json(found(call)?.shape(vhost)))
}

/// The binding that the path names.
fn found(call: &Call) -> Result<Shown, Failure> {
    let key = call.name("properties");
    let mut all: Vec<_> =
        all(call.vhost()?, &call.topology).into_iter().filter(|shown| is_between(call, shown)).collect();
    let exact = all.iter().position(|shown| shown.properties_key() == key);
    // A path that is decoded once more than it should be is understood too: clients differ in that.
    let place = exact.or_else(|| all.iter().position(|shown| decoded_key(shown) == key));
    place.map(|place| all.swap_remove(place)).ok_or_else(Failure::not_found)
}

fn decoded_key(shown: &Shown) -> String {
    match shown.arguments.is_empty() {
        true if !shown.routing_key.is_empty() => shown.routing_key.clone(),
        _ => shown.properties_key(),
    }
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    routing_key: String,
    #[serde(default)]
    arguments: BTreeMap<String, Json>,
}

async fn bind(call: Call) -> Answer {
    let Body { routing_key, arguments } = call.read()?;
    let vhost = call.target_vhost()?;
    let ends = Ends::of(&call);
    let arguments = definitions::table("arguments", &arguments).map_err(Failure::from)?;
    // Names of arguments come sorted, as the topology keeps them, so the binding will have this key.
    let key = properties_key(&routing_key, &arguments);
    let bind =
        Bind { source: ends.source.to_owned(), destination: ends.destination.to_owned(), routing_key, arguments };
    let action = if ends.to_queue { Action::BindQueue(bind) } else { Action::BindExchange(bind) };
    let to = if ends.to_queue { ends.destination } else { exchanges::named(ends.destination) };
    let place = format!("{}/{}", utf8_percent_encode(to, PLAIN), utf8_percent_encode(&key, KEY));
    call.ask(vhost.name(), action).await?;
    Ok(Reply::CreatedAt(place))
}

/// What stands for itself where a properties key is part of a path: also its `~`.
const KEY: &AsciiSet = &PLAIN.remove(b'~');

async fn unbind(call: Call) -> Answer {
    let shown = found(&call)?;
    let bind = Bind {
        source: shown.source,
        destination: shown.destination,
        routing_key: shown.routing_key,
        arguments: shown.arguments,
    };
    let action = if shown.to_queue { Action::UnbindQueue(bind) } else { Action::UnbindExchange(bind) };
    call.ask(call.name("vhost"), action).await?;
    Ok(Reply::Done)
}

/// None for a queue or an exchange that is not there, as in RabbitMQ: rabbitmqadmin looks here for what it is to delete.
fn of_queue(call: &Call) -> Answer {
    call.list(shapes(call.vhost()?, call, |shown| shown.to_queue && shown.destination == call.name("queue")))
}

fn from_exchange(call: &Call) -> Answer {
    let exchange = call.exchange_name("exchange");
    call.list(shapes(call.vhost()?, call, |shown| shown.source == exchange))
}

fn to_exchange(call: &Call) -> Answer {
    let exchange = call.exchange_name("exchange");
    call.list(shapes(call.vhost()?, call, |shown| !shown.to_queue && shown.destination == exchange))
}
