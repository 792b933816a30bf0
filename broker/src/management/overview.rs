//! The node at a glance.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};
use warren_core::queue::{QueueCounters, QueueFilter, QueueSample};
use warren_core::session::ChannelCounters;

use super::answer::{Answer, Reply};
use super::call::Call;
use super::cluster::{PRODUCT_NAME, PRODUCT_VERSION, cluster_name};
use super::connections;
use super::nodes::exchange_types;
use super::queues;
use super::reports::{Fields, MessageStats, put_depth, rated};
use super::route::Handle::Later;
use super::route::{Needs, Route, get};
use crate::node::{self, RABBITMQ_VERSION};
use crate::statistics::{QueueReport, Rates};

pub(super) const ROUTES: &[Route] =
    &[get("/api/overview", Needs::Management, "The node at a glance.", Later(|call| Box::pin(overview(call))))];

async fn overview(call: Call) -> Answer {
    let mut out = identity(&call);
    let rates = call.shared.statistics.rates();
    let (totals, stats) = if call.caller.is_monitor() {
        out.extend(of_node(&call, &rates));
        all(&call, &rates).await
    } else {
        seen(&call).await
    };
    // Tools read it even if nothing was ever done.
    out.insert("message_stats".to_owned(), json!({}));
    stats.put_into(&mut out, &rates);
    let mut depth = Fields::new();
    put_depth(&mut depth, totals.messages, totals.more, &rates);
    out.insert("queue_totals".to_owned(), Json::Object(depth));
    out.insert("object_totals".to_owned(), objects(&call, totals.consumers).await);
    Ok(Reply::Json(Json::Object(out)))
}

/// What the node is.
fn identity(call: &Call) -> Fields {
    let fields = [
        ("management_version", RABBITMQ_VERSION.into()),
        ("rabbitmq_version", RABBITMQ_VERSION.into()),
        ("product_name", PRODUCT_NAME.into()),
        ("product_version", PRODUCT_VERSION.into()),
        ("rates_mode", "basic".into()),
        ("cluster_name", cluster_name(call).into()),
        ("cluster_tags", json!({})),
        ("node_tags", json!({})),
        ("node", node::name().into()),
        ("disable_stats", false.into()),
        ("enable_queue_totals", false.into()),
        ("default_queue_type", "classic".into()),
        ("is_op_policy_updating_enabled", true.into()),
        // Statistics are not gathered in a queue that could grow: they are asked for.
        ("statistics_db_event_queue", 0.into()),
        ("exchange_types", exchange_types()),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// What only those see who watch the node.
fn of_node(call: &Call, rates: &Rates) -> Fields {
    let shape = |listener: &crate::ports::Listening| {
        json!({
            "node": node::name(),
            "protocol": listener.protocol,
            "ip_address": listener.address.ip().to_string(),
            "port": listener.address.port(),
            "tls": listener.protocol.ends_with("/ssl") || listener.protocol.starts_with("https"),
        })
    };
    let listeners: Json = call.shared.listening.iter().map(shape).collect();
    let metrics = &call.shared.metrics;
    let mut churn = Map::new();
    rated(&mut churn, "connection_created", metrics.connections_opened.get(), 0, rates);
    rated(&mut churn, "connection_closed", metrics.connections_closed.get(), 0, rates);
    // How fast these grow is not sampled.
    churn.retain(|name, _| !name.ends_with("_details"));
    [("listeners".to_owned(), listeners), ("churn_rates".to_owned(), Json::Object(churn))].into_iter().collect()
}

/// How much is in queues, and how much that has grown.
#[derive(Debug, Default)]
struct Totals {
    messages: [u64; 2],
    more: [i128; 2],
    consumers: u64,
}

impl Totals {
    fn add_growth(&mut self, sample: &QueueSample) {
        self.more[0] += i128::from(sample.ready);
        self.more[1] += i128::from(sample.unacked);
    }
}

/// Of all queues, and of all that was ever done.
async fn all(call: &Call, rates: &Rates) -> (Totals, MessageStats) {
    let summary = call.shared.statistics.summary().await;
    let mut totals = Totals {
        messages: [summary.totals.ready, summary.totals.unacked],
        more: [0; 2],
        consumers: summary.totals.consumers,
    };
    let (mut done, mut more) = (QueueCounters::default(), QueueCounters::default());
    summary.kinds.iter().for_each(|kind| done.add(kind));
    for sample in rates.queues.values() {
        totals.add_growth(sample);
        more.add(&sample.counters);
    }
    let traffic = call.shared.statistics.traffic();
    let grown = |count: fn(&ChannelCounters) -> u64| rates.channels.values().map(count).sum();
    let stats = MessageStats::of_queue(&done, &more)
        .and("publish", (traffic.published, grown(|of| of.published)))
        .and("confirm", (traffic.confirmed, grown(|of| of.confirmed)))
        .and("return_unroutable", (traffic.returned, grown(|of| of.returned)))
        .and("drop_unroutable", (traffic.dropped, grown(|of| of.dropped)));
    (totals, stats)
}

/// Of the queues that the caller sees.
async fn seen(call: &Call) -> (Totals, MessageStats) {
    let ids: BTreeSet<_> = call.vhosts().flat_map(queues::records).map(|queue| queue.id).collect();
    let filter = QueueFilter { queues: Some(ids), ..QueueFilter::default() };
    sum(&call.shared.statistics.queues(&call.topology, &filter).await)
}

fn sum(reports: &[QueueReport]) -> (Totals, MessageStats) {
    let (mut totals, mut done, mut more) = (Totals::default(), QueueCounters::default(), QueueCounters::default());
    for report in reports {
        totals.messages[0] += report.statistics.ready;
        totals.messages[1] += report.statistics.unacked;
        totals.consumers += report.statistics.consumer_count;
        totals.add_growth(&report.sample);
        done.add(&report.statistics.counters);
        more.add(&report.sample.counters);
    }
    (totals, MessageStats::of_queue(&done, &more))
}

/// How many there are of what the caller sees.
async fn objects(call: &Call, consumers: u64) -> Json {
    let connections = connections::visible(call).await;
    let channels: usize =
        connections.iter().filter_map(|report| report.session.as_ref()).map(|of| of.channels.len()).sum();
    json!({
        "connections": connections.len(),
        "channels": channels,
        "consumers": consumers,
        "queues": call.vhosts().map(|vhost| queues::records(vhost).len()).sum::<usize>(),
        "exchanges": call.vhosts().map(|vhost| vhost.exchanges().count()).sum::<usize>(),
    })
}

/// What is in the queues of a virtual host, as fields of it.
pub(super) fn put_vhost(out: &mut Fields, reports: &[QueueReport], published: (u64, u64), rates: &Rates) {
    let (totals, stats) = sum(reports);
    put_depth(out, totals.messages, totals.more, rates);
    stats.and("publish", published).put_into(out, rates);
}
