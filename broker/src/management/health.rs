//! Health checks: 200 with `{"status": "ok"}`, or 503 with `failed`, a reason and what is wrong.

use serde_json::{Value as Json, json};

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::route::Handle::Now;
use super::route::{Needs, Route, get};
use crate::node;

pub(super) const ROUTES: &[Route] = &[
    check("/api/health/checks/alarms", "No alarm is in effect.", alarms),
    check("/api/health/checks/local-alarms", "No alarm is in effect on this node.", alarms),
    check("/api/health/checks/is-in-service", "The node serves and is not stopping.", in_service),
    check("/api/health/checks/ready-to-serve-clients", "The node serves and is not stopping.", in_service),
    check("/api/health/checks/below-node-connection-limit", "There is no such limit of the node.", fine),
    check("/api/health/checks/virtual-hosts", "All virtual hosts run.", fine),
    check("/api/health/checks/node-is-quorum-critical", "Nothing depends on other nodes: there is one.", single_node),
    check("/api/health/checks/reached-target-cluster-size", "The cluster is complete: it has one node.", fine),
    check("/api/health/checks/metadata-store/initialized", "The metadata have been read.", fine),
    check("/api/health/checks/metadata-store/initialized/with-data", "The metadata have a virtual host.", fine),
    check("/api/health/checks/port-listener/{port}", "The node listens on that port.", port_listener),
    check(
        "/api/health/checks/protocol-listener/{protocols}",
        "The node listens for those protocols.",
        protocol_listener,
    ),
    check("/api/health/checks/quorum-queues-without-elected-leaders/all-vhosts", LEADERS, fine),
    check("/api/health/checks/quorum-queues-without-elected-leaders/all-vhosts/pattern/{pattern}", LEADERS, fine),
    check("/api/health/checks/quorum-queues-without-elected-leaders/vhost/{vhost}", LEADERS, fine),
    check("/api/health/checks/quorum-queues-without-elected-leaders/vhost/{vhost}/pattern/{pattern}", LEADERS, fine),
];

const LEADERS: &str = "Every queue has its leader, as long as the node runs.";

const fn check(path: &'static str, summary: &'static str, handle: fn(&Call) -> Answer) -> Route {
    get(path, Needs::Management, summary, Now(handle))
}

/// What is so as long as the node answers.
fn fine(_call: &Call) -> Answer {
    Ok(Reply::Json(json!({"status": "ok"})))
}

fn single_node(_call: &Call) -> Answer {
    Ok(Reply::Json(json!({"status": "ok", "reason": "single node cluster"})))
}

fn alarms(call: &Call) -> Answer {
    let set = call.shared.alarms.current();
    if set.reason().is_none() {
        return fine(call);
    }
    let resources = [("memory", set.memory()), ("disk", set.disk())].into_iter().filter(|(_, since)| since.is_some());
    let alarms: Json = resources.map(|(resource, _)| json!({"node": node::name(), "resource": resource})).collect();
    let reason = "There are alarms in effect in the cluster";
    Ok(Reply::Unwell(json!({"status": "failed", "reason": reason, "alarms": alarms})))
}

fn in_service(call: &Call) -> Answer {
    if call.shared.is_stopping() {
        return Ok(Reply::Unwell(json!({"status": "failed", "reason": "the node is stopping"})));
    }
    fine(call)
}

fn port_listener(call: &Call) -> Answer {
    let port: u16 = call.name("port").parse().map_err(|_| Failure::bad_request("Invalid port"))?;
    let mut ports: Vec<_> = call.shared.listening.iter().map(|listener| listener.address.port()).collect();
    if ports.contains(&port) {
        return Ok(Reply::Json(json!({"status": "ok", "port": port})));
    }
    ports.sort_unstable();
    ports.dedup();
    let reason = "No active listener";
    Ok(Reply::Unwell(json!({"status": "failed", "reason": reason, "missing": port, "ports": ports})))
}

fn protocol_listener(call: &Call) -> Answer {
    let mut present: Vec<_> = call.shared.listening.iter().map(|listener| listener.protocol).collect();
    present.sort_unstable();
    present.dedup();
    let asked = call.name("protocols").split(',').map(|name| match name {
        "amqp091" | "amqp0-9-1" => "amqp",
        "amqps" | "amqp091/ssl" => "amqp/ssl",
        "prometheus" => "http/prometheus",
        name => name,
    });
    let missing: Vec<_> = asked.filter(|protocol| !present.contains(protocol)).collect();
    if missing.is_empty() {
        return Ok(Reply::Json(json!({"status": "ok", "protocols": present})));
    }
    let reason = "No active listener";
    Ok(Reply::Unwell(json!({"status": "failed", "reason": reason, "missing": missing, "protocols": present})))
}
