//! The fields of the answers, and their types, beside those of RabbitMQ.
//!
//! The same objects are made on whichever broker is judged, and every list and object is asked for. A run against RabbitMQ
//! writes what it finds to `shapes.json` beside the logs, which is kept as `programs/shapes.json`; ours has to have every
//! field of it with the same type, but for those that are listed here with a reason.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use warren_tests::harness::Connection;
use warren_tests::trial::api;
use warren_tests::trial::broker::Product;
use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::suite::{Exception, Quick, Run, Suite};

/// RabbitMQ's fields, by path: the place of a field, and the types that it has.
const EXPECTED: &str = include_str!("programs/shapes.json");

pub(crate) const SUITE: Suite = Suite {
    name: "shapes",
    version: "4.3.6",
    covers: "the fields of every answer and their types, as RabbitMQ has them",
    rabbitmq: Tally { passed: PATHS.len() as u32, failed: 0, skipped: 0 },
    left_out: NOT_HERE,
    limit: Duration::from_secs(120),
    quick: Quick::All,
    manages: true,
    install: |_| Ok(()),
    recipe: &[],
    run,
};

/// What is asked for.
const PATHS: &[&str] = &[
    "overview",
    "nodes",
    "whoami",
    "connections",
    "channels",
    "consumers",
    "queues",
    "queues/%2F/shaped",
    "exchanges",
    "exchanges/%2F/amq.fanout",
    "bindings",
    "vhosts",
    "users",
    "permissions",
    "topic-permissions",
    "policies",
    "operator-policies",
    "parameters",
    "vhost-limits",
    "user-limits",
    "definitions",
    "health/checks/alarms",
    "health/checks/local-alarms",
    "health/checks/virtual-hosts",
    "health/checks/node-is-quorum-critical",
    "health/checks/port-listener/5672",
    "health/checks/protocol-listener/amqp",
];

/// Fields of RabbitMQ that our answers do not have: a path and a place in its answer, or a part of the two.
const NOT_HERE: &[Exception] = &[
    Exception { case: "user_who_performed_action", reason: "who did what is in the audit log" },
    Exception { case: "garbage_collection", reason: "of Erlang's processes" },
    Exception { case: "reductions", reason: "of Erlang's processes" },
    Exception { case: "channels[].cached_segments", reason: "of RabbitMQ's quorum queues" },
    Exception { case: "channels[].pending_raft_commands", reason: "of RabbitMQ's quorum queues" },
    Exception { case: "channels[].idle_since", reason: "when a channel was used last is not noted" },
    Exception { case: "connections[].peer_cert_", reason: "null without TLS; here they are absent then" },
    Exception { case: "connections[].ssl_", reason: "null without TLS; here they are absent then" },
    Exception { case: "definitions.global_parameters[]", reason: "there are none" },
    Exception { case: ".incoming", reason: "what goes from one exchange to one queue is not counted" },
    Exception { case: ".outgoing", reason: "what goes from one exchange to one queue is not counted" },
    Exception { case: ".deliveries", reason: "what goes from one queue to one channel is not counted" },
    Exception {
        case: "nodes[].",
        reason: "of Erlang, its files and its garbage; what Telegraf and Datadog read is here",
    },
    Exception { case: "overview.churn_rates.", reason: "counted in /metrics" },
    Exception { case: "overview.contexts", reason: "of Erlang's web server" },
    Exception { case: "overview.crypto_lib_version", reason: "of Erlang" },
    Exception { case: "overview.erlang_", reason: "of Erlang" },
    Exception { case: "socket_opts", reason: "of Erlang's sockets" },
    Exception { case: "overview.message_stats.disk_", reason: "of RabbitMQ's message store" },
    Exception { case: "overview.require_definition_json_extension", reason: "of RabbitMQ's web page" },
    Exception { case: "overview.sample_retention_policies", reason: "no samples are kept" },
    Exception { case: ".internal_owner", reason: "of RabbitMQ's plugins" },
    Exception { case: "messages_ready_ram", reason: "of RabbitMQ's message store" },
    Exception { case: "messages_unacknowledged_ram", reason: "of RabbitMQ's message store" },
    Exception { case: ".storage_version", reason: "of RabbitMQ's message store" },
    Exception { case: "vhosts[].cluster_state.rabbit@localhost", reason: "the name of a node" },
    Exception { case: "vhosts[].recv_oct", reason: "octets are counted by connection" },
    Exception { case: "vhosts[].send_oct", reason: "octets are counted by connection" },
];

/// Types of a place, sorted, with commas.
type Shape = BTreeMap<String, String>;

fn run(run: &Run<'_>) -> Result<Vec<Case>> {
    let connection = make_objects()?;
    // What happened is in RabbitMQ's statistics only then.
    std::thread::sleep(Duration::from_millis(run.statistics_age().parse().context("a number of milliseconds")?));
    let mut found = BTreeMap::new();
    for path in PATHS {
        let mut shape = Shape::new();
        describe(&api::get(&format!("/api/{path}"))?, "", &mut shape);
        found.insert((*path).to_owned(), shape);
    }
    connection.close()?;
    if run.product == Product::Rabbitmq {
        std::fs::write(run.results.join("shapes.json"), serde_json::to_string_pretty(&found)?)?;
    }
    let expected: BTreeMap<String, Shape> = serde_json::from_str(EXPECTED).context("read shapes.json")?;
    Ok(found.iter().map(|(path, shape)| Case::of(path, &differences(path, expected.get(path), shape))).collect())
}

/// One of everything, and a connection with a consumer, which lives on.
fn make_objects() -> Result<Connection> {
    let mut connection = Connection::with_channel(SocketAddr::from((Ipv4Addr::LOCALHOST, 5672)))?;
    connection.declare_queue("shaped", true, false)?;
    connection.declare_fanout("shaping", &["shaped"])?;
    connection.consume("shaped", false, 10)?;
    api::put("/api/users/shaped", r#"{"password":"secret","tags":"monitoring"}"#)?;
    api::put("/api/permissions/%2F/shaped", r#"{"configure":"a","write":"b","read":"c"}"#)?;
    api::put("/api/topic-permissions/%2F/shaped", r#"{"exchange":"amq.topic","write":"b","read":"c"}"#)?;
    let policy = r#"{"pattern":"^shaped$","definition":{"max-length":10},"apply-to":"queues","priority":1}"#;
    api::put("/api/policies/%2F/shape", policy)?;
    api::put("/api/operator-policies/%2F/shape", policy)?;
    api::put("/api/vhost-limits/%2F/max-connections", r#"{"value":100}"#)?;
    api::put("/api/user-limits/shaped/max-channels", r#"{"value":100}"#)?;
    Ok(connection)
}

/// Adds the fields of a value. The items of a list are at one place together.
fn describe(value: &Value, place: &str, shape: &mut Shape) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            items.iter().for_each(|item| describe(item, &format!("{place}[]"), shape));
            "list"
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| describe(field, &format!("{place}.{name}"), shape));
            "object"
        }
    };
    let kinds = shape.entry(place.to_owned()).or_default();
    if !kinds.split(',').any(|known| known == kind) {
        let mut all: Vec<_> = kinds.split(',').filter(|known| !known.is_empty()).chain([kind]).collect();
        all.sort_unstable();
        *kinds = all.join(",");
    }
}

/// What RabbitMQ's answer has and ours has not, or has otherwise.
fn differences(path: &str, expected: Option<&Shape>, found: &Shape) -> String {
    let mut differences = Vec::new();
    for (place, kinds) in expected.into_iter().flatten() {
        let whole = format!("{path}{place}");
        let is_excepted = NOT_HERE.iter().any(|exception| whole.contains(exception.case));
        match found.get(place) {
            None if is_excepted => {}
            None => differences.push(format!("{place} is missing")),
            Some(ours) if ours.split(',').all(|kind| kinds.split(',').any(|known| known == kind)) => {}
            Some(ours) => differences.push(format!("{place} is {ours}, and not {kinds}")),
        }
    }
    differences.join("; ")
}
