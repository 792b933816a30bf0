//! The node: what it is, what it runs on, and how it fares. There is one.

use serde_json::{Value as Json, json};
use warren_core::topology::ExchangeKind;

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::cluster::RABBITMQ_VERSION;
use super::route::Handle::Now;
use super::route::{Needs, Route, get};
use crate::node;

pub(super) const ROUTES: &[Route] = &[
    get("/api/nodes", Needs::Monitoring, "The nodes: there is one.", Now(list)),
    get("/api/nodes/{node}", Needs::Monitoring, "One node.", Now(one)),
];

fn list(call: &Call) -> Answer {
    call.list(vec![shape(call)])
}

fn one(call: &Call) -> Answer {
    check_name(call)?;
    Ok(Reply::Json(shape(call)))
}

/// The path has to name this node.
pub(super) fn check_name(call: &Call) -> Result<(), Failure> {
    if call.name("node") == node::name() { Ok(()) } else { Err(Failure::not_found()) }
}

fn shape(call: &Call) -> Json {
    let uptime = u64::try_from(call.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mechanism = |name: &str| json!({"name": name, "description": format!("SASL {name}"), "enabled": true});
    let mechanisms: Json = ["PLAIN", "AMQPLAIN"].into_iter().map(mechanism).collect();
    let fd_total = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
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
        "fd_used": open_files(),
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

/// How many descriptors the process has open.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// The types that exchanges may be declared with.
pub(super) fn exchange_types() -> Json {
    let shape = |name: &str| json!({"name": name, "description": format!("exchange type {name}"), "enabled": true});
    ExchangeKind::ALL.iter().map(|kind| shape(kind.name())).chain([shape("x-delayed-message")]).collect()
}
