//! Queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use warren_core::ConnectionId;
use warren_core::session::{MetadataAnswer, MetadataRequest};
use warren_core::topology::{Action, Policy, QueueDeclaration, QueueRecord, Vhost};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::json::{flag, of_table, of_value};
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, delete, get, put};
use crate::{definitions, node};

pub(super) const ROUTES: &[Route] = &[
    get("/api/queues", Needs::Management, "The queues that the caller sees.", Now(list)),
    get("/api/queues/{vhost}", Needs::Management, "Queues of a virtual host.", Now(list_of_vhost)),
    get("/api/queues/{vhost}/{queue}", Needs::Management, "One queue.", Now(one)),
    put("/api/queues/{vhost}/{queue}", Needs::Management, "Declare a queue.", Later(|call| Box::pin(declare(call)))),
    delete(
        "/api/queues/{vhost}/{queue}",
        Needs::Management,
        "Delete a queue; with `if-empty=true` or `if-unused=true` only if it has no messages or consumers.",
        Later(|call| Box::pin(remove(call))),
    ),
];

fn list(call: &Call) -> Answer {
    call.pages(call.vhosts().flat_map(shapes).collect())
}

fn list_of_vhost(call: &Call) -> Answer {
    call.pages(shapes(call.vhost()?))
}

/// The queues of a virtual host by name, without those that keep delayed messages for their exchanges.
pub(super) fn records(vhost: &Vhost) -> Vec<&Arc<QueueRecord>> {
    let mut records: Vec<_> = vhost.queues().filter(|queue| queue.delayed_exchange().is_none()).collect();
    records.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    records
}

fn shapes(vhost: &Vhost) -> Vec<Json> {
    records(vhost).into_iter().map(|record| Json::Object(shape(vhost, record))).collect()
}

/// The queue that the path names.
pub(super) fn named(call: &Call) -> Result<&Arc<QueueRecord>, Failure> {
    let queue = call.vhost()?.queue(call.name("queue"));
    queue.filter(|queue| queue.delayed_exchange().is_none()).ok_or_else(Failure::not_found)
}

fn one(call: &Call) -> Answer {
    Ok(Reply::Json(Json::Object(shape(call.vhost()?, named(call)?))))
}

/// What the topology knows of a queue.
fn shape(vhost: &Vhost, record: &QueueRecord) -> Map<String, Json> {
    let mut arguments = of_table(&record.arguments);
    let kind = record.queue_type();
    // As in RabbitMQ every queue shows its type among its arguments, whether it was declared with one or not.
    arguments["x-queue-type"] = kind.into();
    let policies = vhost.policy_of_queue(record);
    let name_of = |policy: &Option<Arc<Policy>>| policy.as_ref().map(|policy| policy.name.to_string());
    let effective = policies.values().into_iter().map(|(key, value)| (key.to_owned(), of_value(value)));
    Map::from_iter(
        [
            ("arguments", arguments),
            ("auto_delete", record.auto_delete.into()),
            ("durable", record.durable.into()),
            ("exclusive", record.exclusive_owner.is_some().into()),
            ("name", (*record.name).into()),
            ("node", node::name().into()),
            ("state", "running".into()),
            ("type", kind.into()),
            ("vhost", (*record.vhost).into()),
            ("policy", name_of(&policies.policy).into()),
            ("operator_policy", name_of(&policies.operator).into()),
            ("effective_policy_definition", Json::Object(effective.collect())),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    )
}

/// What a queue may be declared with; as in RabbitMQ it does not last, if nothing else is said.
#[derive(Deserialize)]
struct Body {
    #[serde(default, deserialize_with = "flag")]
    durable: bool,
    #[serde(default, deserialize_with = "flag")]
    auto_delete: bool,
    #[serde(default)]
    arguments: BTreeMap<String, Json>,
    node: Option<String>,
}

async fn declare(call: Call) -> Answer {
    let Body { durable, auto_delete, arguments, node } = call.read()?;
    if let Some(other) = node.filter(|node| *node != node::name()) {
        return Err(Failure::bad_request(format!("Node {other} is not a cluster member")));
    }
    let name = call.name("queue").to_owned();
    let vhost = call.target_vhost()?;
    let known = vhost.queue(&name);
    if name.is_empty() {
        return Err(Failure::bad_request("the queue has no name"));
    }
    let arguments = definitions::table("arguments", &arguments).map_err(Failure::from)?;
    let generated_name = String::new();
    let declaration =
        QueueDeclaration { name, generated_name, passive: false, durable, exclusive: false, auto_delete, arguments };
    let is_new = known.is_none();
    call.ask(vhost.name(), Action::DeclareQueue(declaration)).await?;
    Ok(Reply::put(is_new))
}

async fn remove(call: Call) -> Answer {
    let queue = named(&call)?;
    let request = MetadataRequest::DeleteQueue {
        connection: ConnectionId::FORWARDER,
        identity: call.caller.identity.clone(),
        vhost: Arc::clone(&queue.vhost),
        name: queue.name.to_string(),
        if_unused: call.query.flag("if-unused"),
        if_empty: call.query.flag("if-empty"),
    };
    match call.request(request).await? {
        MetadataAnswer::Deleted(_) | MetadataAnswer::Outcome(_) => Ok(Reply::Done),
    }
}
