//! Virtual hosts.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use warren_core::queue::QueueFilter;
use warren_core::topology::{Administration, Vhost, VhostRecord};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::json::{flag, texts};
use super::overview;
use super::reports::Fields;
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, delete, get, post, put};
use crate::definitions::tags;
use crate::node;

pub(super) const ROUTES: &[Route] = &[
    get(
        "/api/vhosts",
        Needs::Management,
        "The virtual hosts that the caller sees.",
        Later(|call| Box::pin(list(call))),
    ),
    get("/api/vhosts/{vhost}", Needs::Administrator, "One virtual host.", Later(|call| Box::pin(one(call)))),
    put(
        "/api/vhosts/{vhost}",
        Needs::Administrator,
        "Make or change a virtual host.",
        Later(|call| Box::pin(make(call))),
    ),
    delete(
        "/api/vhosts/{vhost}",
        Needs::Administrator,
        "Delete a virtual host with everything in it.",
        Later(|call| Box::pin(remove(call))),
    ),
    post(
        "/api/vhosts/{vhost}/deletion/protection",
        Needs::Administrator,
        "Protect a virtual host from being deleted.",
        Later(|call| Box::pin(protect(call))),
    ),
    delete(
        "/api/vhosts/{vhost}/deletion/protection",
        Needs::Administrator,
        "Let a virtual host be deleted again.",
        Later(|call| Box::pin(unprotect(call))),
    ),
    post("/api/vhosts/{vhost}/start/{node}", Needs::Administrator, "Nothing: every virtual host runs.", Now(start)),
];

async fn list(call: Call) -> Answer {
    // Who watches the node is told of all virtual hosts, though not what is in them.
    let sees = |vhost: &&Vhost| call.caller.is_monitor() || call.caller.sees(&call.topology, vhost.name());
    let shown = call.topology.vhosts().filter(sees).collect();
    call.pages(with_totals(&call, shown).await)
}

async fn one(call: Call) -> Answer {
    let shown = with_totals(&call, vec![call.vhost()?]).await;
    shown.into_iter().next().map(Reply::Json).ok_or_else(Failure::not_found)
}

/// Virtual hosts with what is in their queues.
async fn with_totals(call: &Call, vhosts: Vec<&Vhost>) -> Vec<Json> {
    let statistics = &call.shared.statistics;
    if call.query.flag("disable_stats") {
        return vhosts.into_iter().map(|vhost| Json::Object(shape(vhost))).collect();
    }
    let mut by_vhost: HashMap<_, Vec<_>> = HashMap::new();
    for report in statistics.queues(&call.topology, &QueueFilter::default()).await {
        by_vhost.entry(Arc::clone(&report.record.vhost)).or_default().push(report);
    }
    let (exchanges, rates) = (statistics.exchanges(), statistics.rates());
    let shown = vhosts.into_iter().map(|vhost| {
        let mut out = shape(vhost);
        let own = exchanges.iter().filter(|((of, _), _)| of == vhost.name()).map(|(_, report)| report);
        let published = own.fold((0, 0), |(all, more), report| {
            (all + report.counters.published_in, more + report.sample.published_in)
        });
        let queues = by_vhost.get(vhost.name()).map(Vec::as_slice).unwrap_or_default();
        overview::put_vhost(&mut out, queues, published, &rates);
        Json::Object(out)
    });
    shown.collect()
}

fn shape(vhost: &Vhost) -> Fields {
    let record = vhost.record();
    let kind = record.default_queue_type.as_deref().unwrap_or("classic");
    let shape = json!({
        "name": &*record.name,
        "description": &*record.description,
        "tags": texts(&record.tags),
        "default_queue_type": kind,
        "protected_from_deletion": record.protected,
        "metadata": metadata(record),
        "tracing": false,
        "cluster_state": {node::name(): "running"},
    });
    shape.as_object().cloned().unwrap_or_default()
}

/// What is said about a virtual host. That it is protected is said of those that are.
pub(super) fn metadata(record: &VhostRecord) -> Json {
    let mut metadata = json!({
        "description": &*record.description,
        "tags": texts(&record.tags),
        "default_queue_type": record.default_queue_type.as_deref().unwrap_or("classic"),
    });
    if record.protected {
        metadata["protected_from_deletion"] = true.into();
    }
    metadata
}

/// What a virtual host may be made with. `protected_from_deletion` is passed over, as by RabbitMQ: it has a path of its own.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    description: String,
    #[serde(default, deserialize_with = "tags")]
    tags: Vec<String>,
    default_queue_type: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    tracing: bool,
}

async fn make(call: Call) -> Answer {
    let Body { description, tags, default_queue_type, tracing } = call.read()?;
    if tracing {
        return Err(Failure::bad_request("tracing is not available; leave it out or say false"));
    }
    let name = call.name("vhost");
    let is_new = call.topology.vhost(name).is_none();
    let default_queue_type = default_queue_type.filter(|kind| kind != "undefined");
    call.administer(name, Administration::PutVhost { description, tags, default_queue_type }).await?;
    if is_new && matches!(call.caller.identity, warren_core::topology::Identity::User(_)) {
        // As in RabbitMQ, who makes a virtual host has all rights in it.
        let (user, all) = (call.caller.identity.name().to_string(), || String::from(".*"));
        let asked = Administration::SetPermissions { user, configure: all(), write: all(), read: all() };
        call.administer(name, asked).await?;
    }
    Ok(Reply::put(is_new))
}

async fn remove(call: Call) -> Answer {
    let vhost = call.vhost()?;
    let deleted = call.administer(vhost.name(), Administration::DeleteVhost).await;
    // RabbitMQ has a status of its own for it.
    deleted.map_err(|failure| match vhost.record().protected {
        true => Failure::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", failure.reason),
        false => failure,
    })?;
    Ok(Reply::Done)
}

async fn protect(call: Call) -> Answer {
    let name = call.name("vhost");
    let missing = |_| {
        let reason = format!("Cannot enable deletion protection of virtual host '{name}' because it does not exist");
        Failure::missing(reason)
    };
    let name = call.vhost().map_err(missing)?.name();
    call.administer(name, Administration::ProtectVhost { protected: true }).await?;
    Ok(Reply::Done)
}

async fn unprotect(call: Call) -> Answer {
    let name = call.vhost()?.name();
    call.administer(name, Administration::ProtectVhost { protected: false }).await?;
    Ok(Reply::Done)
}

fn start(call: &Call) -> Answer {
    call.vhost()?;
    if call.name("node") != node::name() { Err(Failure::not_found()) } else { Ok(Reply::Done) }
}
