//! Health checks: 200 with `{"status": "ok"}`, or 503 with `failed`, a reason and what is wrong.

use serde_json::{Value as Json, json};
use x509_parser::time::ASN1Time;

use super::answer::{Answer, Failure, Reply};
use super::call::Call;
use super::route::Handle::Now;
use super::route::{Needs, Route, get};
use crate::metrics::unix_seconds;
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
    check(
        "/api/health/checks/certificate-expiration/{within}/{unit}",
        "The certificate of the ports for TLS does not end within so many days, weeks, months or years.",
        certificate_expiration,
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

fn certificate_expiration(call: &Call) -> Answer {
    let days = match call.name("unit") {
        "days" => 1,
        "weeks" => 7,
        "months" => 30,
        "years" => 365,
        _ => {
            let reason = "Time unit not recognised. Supported units: days, weeks, months, years.";
            return Err(Failure::bad_request(reason));
        }
    };
    let within: i64 = call.name("within").parse().map_err(|_| Failure::bad_request("Invalid expiration value."))?;
    let not_after = call.shared.metrics.tls.certificate_not_after.get();
    let ends = not_after <= unix_seconds().saturating_add(within.saturating_mul(days * 86_400));
    let listeners = call.shared.listening.iter().filter(|listener| is_tls(listener.protocol) && ends);
    let expired: Vec<_> = listeners
        .map(|listener| {
            json!({
                "node": node::name(),
                "protocol": listener.protocol,
                "interface": listener.address.ip().to_string(),
                "port": listener.address.port(),
                "certfile_expires_on": [date(not_after)],
            })
        })
        .collect();
    if expired.is_empty() {
        return fine(call);
    }
    let reason = "Certificates expiring";
    Ok(Reply::Unwell(json!({"status": "failed", "reason": reason, "expired": expired})))
}

/// A time in seconds since 1970, as RFC 2822 has it.
fn date(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).ok().and_then(|time| time.to_rfc2822().ok()).unwrap_or_default()
}

fn is_tls(protocol: &str) -> bool {
    protocol.ends_with("/ssl") || protocol.starts_with("https")
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
