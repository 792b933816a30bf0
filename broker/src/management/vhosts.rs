//! Virtual hosts.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use warren_core::topology::{Administration, Vhost};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::json::{flag, texts};
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, delete, get, post, put};
use crate::definitions::tags;
use crate::node;

pub(super) const ROUTES: &[Route] = &[
    get("/api/vhosts", Needs::Management, "The virtual hosts that the caller sees.", Now(list)),
    get("/api/vhosts/{vhost}", Needs::Administrator, "One virtual host.", Now(one)),
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
    post("/api/vhosts/{vhost}/start/{node}", Needs::Administrator, "Nothing: every virtual host runs.", Now(start)),
];

fn list(call: &Call) -> Answer {
    // Who watches the node is told of all virtual hosts, though not what is in them.
    let shown = call
        .topology
        .vhosts()
        .filter(|vhost| call.caller.is_monitor() || call.caller.sees(&call.topology, vhost.name()));
    call.pages(shown.map(shape).collect())
}

fn one(call: &Call) -> Answer {
    Ok(Reply::Json(shape(call.vhost()?)))
}

fn shape(vhost: &Vhost) -> Json {
    let record = vhost.record();
    let kind = record.default_queue_type.as_deref().unwrap_or("classic");
    json!({
        "name": &*record.name,
        "description": &*record.description,
        "tags": texts(&record.tags),
        "default_queue_type": kind,
        "protected_from_deletion": false,
        "metadata": {"description": &*record.description, "tags": texts(&record.tags), "default_queue_type": kind},
        "tracing": false,
        "cluster_state": {node::name(): "running"},
    })
}

/// What a virtual host may be made with.
#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    description: String,
    #[serde(default, deserialize_with = "tags")]
    tags: Vec<String>,
    default_queue_type: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    tracing: bool,
    #[serde(default, deserialize_with = "flag")]
    protected_from_deletion: bool,
}

async fn make(call: Call) -> Answer {
    let Body { description, tags, default_queue_type, tracing, protected_from_deletion } = call.read()?;
    if tracing || protected_from_deletion {
        let reason = "tracing and protection from deletion are not available; leave them out or say false";
        return Err(Failure::bad_request(reason));
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
    let name = call.vhost()?.name();
    call.administer(name, Administration::DeleteVhost).await?;
    Ok(Reply::Done)
}

fn start(call: &Call) -> Answer {
    call.vhost()?;
    if call.name("node") != node::name() { Err(Failure::not_found()) } else { Ok(Reply::Done) }
}
