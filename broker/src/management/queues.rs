//! Queues.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tokio::task::spawn_blocking;
use warren_core::ConnectionId;
use warren_core::queue::QueueFilter;
use warren_core::session::{MetadataAnswer, MetadataRequest};
use warren_core::topology::{Action, Administration, Policy, QueueDeclaration, QueueRecord, Vhost};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::json::{flag, of_table, of_value};
use super::listing::{Columns, Listing};
use super::reports;
use super::route::Handle::Later;
use super::route::{Needs, Route, delete, get, put};
use crate::limits::LIST_PART;
use crate::statistics::ConsumerReport;
use crate::{definitions, node};

pub(super) const ROUTES: &[Route] = &[
    get("/api/queues", Needs::Management, "The queues that the caller sees.", Later(|call| Box::pin(list(call)))),
    get("/api/queues/detailed", Needs::Management, "The same.", Later(|call| Box::pin(list(call)))),
    get(
        "/api/queues/{vhost}",
        Needs::Management,
        "Queues of a virtual host.",
        Later(|call| Box::pin(list_of_vhost(call))),
    ),
    get("/api/queues/{vhost}/{queue}", Needs::Management, "One queue.", Later(|call| Box::pin(one(call)))),
    put("/api/queues/{vhost}/{queue}", Needs::Management, "Declare a queue.", Later(|call| Box::pin(declare(call)))),
    delete(
        "/api/queues/{vhost}/{queue}",
        Needs::Management,
        "Delete a queue; with `if-empty=true` or `if-unused=true` only if it has no messages or consumers.",
        Later(|call| Box::pin(remove(call))),
    ),
    put(
        "/api/queues/{vhost}/{queue}/pause",
        Needs::Policymaker,
        "Let a queue hand nothing out; it takes what is published.",
        Later(|call| Box::pin(pause(call, true))),
    ),
    put(
        "/api/queues/{vhost}/{queue}/resume",
        Needs::Policymaker,
        "Let a queue hand out messages again.",
        Later(|call| Box::pin(pause(call, false))),
    ),
];

async fn list(call: Call) -> Answer {
    let shown = call.vhosts().flat_map(records).map(Arc::clone).collect();
    page(call, shown).await
}

async fn list_of_vhost(call: Call) -> Answer {
    let shown = records(call.vhost()?).into_iter().map(Arc::clone).collect();
    page(call, shown).await
}

/// The list that the query asks for. Only what is on the page is put together; a list without pages is, while it is sent.
async fn page(call: Call, records: Vec<Arc<QueueRecord>>) -> Answer {
    let keys = match Listing::of(&call.query)?.sorts_by() {
        None => None,
        Some(key) => Some(sorted_by(&call, &records, key).await),
    };
    // There may be a hundred thousand of them.
    let sorted = spawn_blocking(move || {
        let outlines = keys.unwrap_or_else(|| records.iter().map(|record| json!({"name": &*record.name})).collect());
        let answer = call.pages(outlines.into_iter().enumerate().map(placed).collect());
        (call, records, answer)
    });
    let (call, records, answer) = sorted.await.map_err(|_| Failure::defect())?;
    let Reply::Json(mut answer) = answer? else { return Err(Failure::not_found()) };
    let items = match &mut answer {
        Json::Object(page) => page.get_mut("items").map(Json::take),
        list => return Ok(Reply::Stream(streamed(call, in_order(&list.take(), &records)))),
    };
    if let Some(items) = items {
        answer["items"] = shapes(&call, &in_order(&items, &records)).await.into();
    }
    Ok(Reply::Json(answer))
}

/// Where an outline's queue stands in the list of records.
const PLACE: &str = " place";

fn placed((place, mut outline): (usize, Json)) -> Json {
    outline[PLACE] = place.into();
    outline
}

/// The queues in the order of their outlines.
fn in_order(outlines: &Json, records: &[Arc<QueueRecord>]) -> Vec<Arc<QueueRecord>> {
    let places = outlines.as_array().into_iter().flatten().filter_map(|item| item[PLACE].as_u64());
    places.filter_map(|place| records.get(usize::try_from(place).ok()?).map(Arc::clone)).collect()
}

/// Of each queue its name and what the list is sorted by.
async fn sorted_by(call: &Call, records: &[Arc<QueueRecord>], key: &str) -> Vec<Json> {
    let only = Columns::of_names(&["name", key]);
    let mut outlines = Vec::with_capacity(records.len());
    for part in records.chunks(LIST_PART) {
        outlines.extend(shapes(call, part).await.iter().map(|shape| only.of(shape)));
        tokio::task::yield_now().await;
    }
    outlines
}

/// The list, made while it is sent.
fn streamed(call: Call, records: Vec<Arc<QueueRecord>>) -> Body {
    let parts = stream::unfold((call, records, 0), |(call, records, sent)| async move {
        if sent > records.len() {
            return None;
        }
        let part = &records[sent..records.len().min(sent + LIST_PART)];
        let mut text = String::from(if sent == 0 { "[" } else { "" });
        for (index, shape) in shapes(&call, part).await.into_iter().enumerate() {
            let shown = match &call.columns {
                Some(columns) => columns.of(&shape),
                None => shape,
            };
            text.push_str(if sent + index == 0 { "" } else { "," });
            text.push_str(&shown.to_string());
        }
        let is_last = sent + part.len() == records.len();
        text.push_str(if is_last { "]" } else { "" });
        let next = if is_last { records.len() + 1 } else { sent + part.len() };
        Some((Ok::<_, Infallible>(Bytes::from(text)), (call, records, next)))
    });
    Body::from_stream(parts)
}

/// The queues as JSON, with what their shards say of them.
async fn shapes(call: &Call, records: &[Arc<QueueRecord>]) -> Vec<Json> {
    let statistics = &call.shared.statistics;
    let (is_static, is_total) = (call.query.flag("disable_stats"), call.query.flag("enable_queue_totals"));
    let ids = records.iter().map(|record| record.id).collect();
    let filter = QueueFilter { queues: Some(ids), ..QueueFilter::default() };
    let reports = if is_static && !is_total { Vec::new() } else { statistics.queues(&call.topology, &filter).await };
    let (reports, rates): (HashMap<_, _>, _) =
        (reports.into_iter().map(|report| (report.record.id, report)).collect(), statistics.rates());
    let shown = records.iter().filter_map(|record| {
        let mut shape = shape(call, call.topology.vhost(&record.vhost)?, record);
        match reports.get(&record.id) {
            Some(report) if is_static => {
                let (ready, unacked) = (report.statistics.ready, report.statistics.unacked);
                let totals =
                    [("messages", ready + unacked), ("messages_ready", ready), ("messages_unacknowledged", unacked)];
                shape.extend(totals.map(|(name, count)| (name.to_owned(), count.into())));
            }
            Some(report) => reports::put_queue(&mut shape, report, &rates),
            None => {}
        }
        Some(Json::Object(shape))
    });
    shown.collect()
}

/// The consumers of the queues that the filter names.
pub(super) async fn consumers(call: &Call, filter: QueueFilter) -> Vec<ConsumerReport> {
    let statistics = &call.shared.statistics;
    let queues = statistics.queues(&call.topology, &QueueFilter { consumers: true, ..filter }).await;
    statistics.consumers(&queues).await
}

/// The queues of a virtual host by name, without those that keep delayed messages for their exchanges.
pub(super) fn records(vhost: &Vhost) -> Vec<&Arc<QueueRecord>> {
    let mut records: Vec<_> = vhost.queues().filter(|queue| queue.delayed_exchange().is_none()).collect();
    records.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    records
}

/// The queue that the path names.
pub(super) fn named(call: &Call) -> Result<&Arc<QueueRecord>, Failure> {
    let queue = call.vhost()?.queue(call.name("queue"));
    queue.filter(|queue| queue.delayed_exchange().is_none()).ok_or_else(Failure::not_found)
}

async fn one(call: Call) -> Answer {
    let (vhost, record) = (call.vhost()?, named(&call)?);
    let mut out = shape(&call, vhost, record);
    let statistics = &call.shared.statistics;
    let filter = QueueFilter { queues: Some([record.id].into()), consumers: true };
    let reports = statistics.queues(&call.topology, &filter).await;
    let Some(report) = reports.first() else { return Ok(Reply::Json(Json::Object(out))) };
    reports::put_queue(&mut out, report, &statistics.rates());
    for (name, key) in [
        ("exclusive_consumer_tag", report.statistics.exclusive_consumer),
        ("single_active_consumer_tag", report.statistics.single_active),
    ] {
        let tag = match key {
            Some(key) => statistics.consumer_tag(key).await,
            None => None,
        };
        out.insert(name.to_owned(), tag.as_deref().into());
    }
    let consumers = statistics.consumers(&reports).await;
    out.insert("consumer_details".to_owned(), consumers.iter().map(reports::consumer).collect());
    Ok(Reply::Json(Json::Object(out)))
}

/// What the topology knows of a queue.
fn shape(call: &Call, vhost: &Vhost, record: &QueueRecord) -> Map<String, Json> {
    let state = if call.topology.is_paused(record.id) { "paused" } else { "running" };
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
            ("internal", false.into()),
            ("name", (*record.name).into()),
            ("node", node::name().into()),
            ("state", state.into()),
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
struct Declared {
    #[serde(default, deserialize_with = "flag")]
    durable: bool,
    #[serde(default, deserialize_with = "flag")]
    auto_delete: bool,
    #[serde(default)]
    arguments: BTreeMap<String, Json>,
    node: Option<String>,
}

async fn declare(call: Call) -> Answer {
    let Declared { durable, auto_delete, arguments, node } = call.read()?;
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

async fn pause(call: Call, paused: bool) -> Answer {
    let queue = named(&call)?;
    let name = queue.name.to_string();
    call.administer(&queue.vhost, Administration::PauseQueue { name, paused }).await?;
    Ok(Reply::Done)
}
