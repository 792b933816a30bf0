//! The node: what it is, what it runs on, and how it fares. There is one.

use serde_json::{Value as Json, json};
use tokio::task::spawn_blocking;
use warren_core::queue::QueueFilter;
use warren_core::topology::ExchangeKind;

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::reports::Fields;
use super::route::Handle::{Later, Now};
use super::route::{Needs, Route, get, post};
use crate::authentication::Door;
use crate::node::{self, RABBITMQ_VERSION};

pub(super) const ROUTES: &[Route] = &[
    get("/api/nodes", Needs::Monitoring, "The nodes: there is one.", Later(|call| Box::pin(list(call)))),
    get("/api/nodes/{node}", Needs::Monitoring, "One node.", Later(|call| Box::pin(one(call)))),
    get(
        "/api/nodes/{node}/memory",
        Needs::Monitoring,
        "What takes the node's memory: queues, by their types, and all the rest.",
        Later(|call| Box::pin(memory(call))),
    ),
    get(
        "/api/auth/attempts/{node}",
        Needs::Monitoring,
        "How many logins were tried, by protocol, and what came of them.",
        Now(attempts),
    ),
    post(
        "/api/rebalance/queues",
        Needs::Administrator,
        "Nothing: on one node every queue is where it should be.",
        Now(|_| Ok(Reply::Done)),
    ),
];

async fn list(call: Call) -> Answer {
    call.list(vec![shape(&call).await])
}

async fn one(call: Call) -> Answer {
    check_name(&call)?;
    Ok(Reply::Json(shape(&call).await))
}

fn attempts(call: &Call) -> Answer {
    check_name(call)?;
    let shape = |(protocol, door)| {
        let attempts = call.shared.metrics.logins.of(door);
        let (succeeded, failed) = (attempts.succeeded.get(), attempts.failed.get());
        (succeeded + failed > 0).then(|| {
            json!({
                "protocol": protocol,
                "auth_attempts": succeeded + failed,
                "auth_attempts_failed": failed,
                "auth_attempts_succeeded": succeeded,
            })
        })
    };
    let shown: Json = [("amqp091", Door::Amqp), ("http", Door::Http)].into_iter().filter_map(shape).collect();
    Ok(Reply::Json(shown))
}

/// The path has to name this node.
pub(super) fn check_name(call: &Call) -> Result<(), Failure> {
    if call.name("node") == node::name() { Ok(()) } else { Err(Failure::not_found()) }
}

async fn shape(call: &Call) -> Json {
    let probe = call.shared.statistics.probe();
    let report = spawn_blocking(move || probe.look()).await.unwrap_or_default();
    let uptime = u64::try_from(report.uptime.as_millis()).unwrap_or(u64::MAX);
    let mechanism = |name: &str| json!({"name": name, "description": format!("SASL {name}"), "enabled": true});
    let mechanisms: Json = ["PLAIN", "AMQPLAIN"].into_iter().map(mechanism).collect();
    let fd_total = report.files_max;
    let (memory, disk) = (call.shared.alarms.memory(), call.shared.alarms.volume());
    let alarms = call.shared.alarms.current();
    let tasks = tokio::runtime::Handle::current().metrics();
    json!({
        "name": node::name(),
        "type": "disc",
        "running": true,
        "being_drained": call.shared.is_stopping(),
        "partitions": [],
        "os_pid": std::process::id().to_string(),
        "uptime": uptime,
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "rates_mode": "basic",
        "fd_total": fd_total,
        "fd_used": report.files_open,
        "sockets_total": fd_total,
        "sockets_used": call.shared.connections.all().len(),
        "proc_total": fd_total,
        "proc_used": tasks.num_alive_tasks(),
        "run_queue": tasks.global_queue_depth(),
        "mem_used": memory.used,
        "mem_limit": memory.watermark,
        "mem_alarm": alarms.memory().is_some(),
        "mem_calculation_strategy": "rss",
        "disk_free": disk.free,
        "disk_free_limit": disk.reserve,
        "disk_free_alarm": alarms.disk().is_some(),
        "exchange_types": exchange_types(),
        "auth_mechanisms": mechanisms,
        "rabbitmq_version": RABBITMQ_VERSION,
    })
}

/// RabbitMQ's parts of its memory. Queues are told apart from all the rest, which is `other_system`; the others are 0,
/// because there is no such part here.
async fn memory(call: Call) -> Answer {
    check_name(&call)?;
    let queues = call.shared.statistics.queues(&call.topology, &QueueFilter::default()).await;
    let of = |kind| -> u64 {
        queues.iter().filter(|queue| queue.record.queue_type() == kind).map(|queue| queue.statistics.memory).sum()
    };
    let (classic, quorum, stream) = (of("classic"), of("quorum"), of("stream"));
    let used = call.shared.alarms.memory().used;
    let mut parts = Fields::new();
    parts.extend(NO_SUCH_MEMORY.map(|name| (name.to_owned(), Json::from(0))));
    let own = [
        ("queue_procs", classic),
        ("quorum_queue_procs", quorum),
        ("stream_queue_procs", stream),
        ("other_system", used.saturating_sub(classic + quorum + stream)),
    ];
    parts.extend(own.map(|(name, octets)| (name.to_owned(), octets.into())));
    parts.extend(["allocated_unused", "reserved_unallocated"].map(|name| (name.to_owned(), Json::from(0))));
    parts.insert("strategy".to_owned(), "rss".into());
    parts.insert("total".to_owned(), json!({"rss": used, "allocated": used, "erlang": 0}));
    Ok(Reply::Json(json!({"memory": parts})))
}

const NO_SUCH_MEMORY: [&str; 19] = [
    "connection_readers",
    "connection_writers",
    "connection_channels",
    "connection_other",
    "stream_queue_replica_reader_procs",
    "stream_queue_coordinator_procs",
    "plugins",
    "metadata_store",
    "metadata_store_ets",
    "other_proc",
    "metrics",
    "mgmt_db",
    "mnesia",
    "quorum_ets",
    "other_ets",
    "binary",
    "msg_index",
    "code",
    "atom",
];

/// The types that exchanges may be declared with.
pub(super) fn exchange_types() -> Json {
    let shape = |name: &str| json!({"name": name, "description": format!("exchange type {name}"), "enabled": true});
    ExchangeKind::ALL.iter().map(|kind| shape(kind.name())).chain([shape("x-delayed-message")]).collect()
}
