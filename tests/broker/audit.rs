//! The audit trail of a real broker: what its log says about who did what.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use warren_amqp::ToClient;
use warren_tests::harness::{Broker, Connection, DataFolder, Settings};

use super::definitions::with_definitions;
use super::to_queue;

/// Bob may read, and neither declare nor publish. His password is `secret`.
const DEFINITIONS: &str = r#"{
  "users": [{"name": "bob", "tags": [], "password_hash": "kI3GCqG+cq65rBQ9tiUUCREygKhmilKrZEWKSz+H0FJ1fk4/"}],
  "permissions": [{"user": "bob", "vhost": "/", "configure": "", "write": "", "read": ".*"}]
}"#;

fn has(line: &Value, fields: &[(&str, &str)]) -> bool {
    line["target"] == "audit" && fields.iter().all(|(name, value)| line[name] == *value)
}

/// How many lines of the audit trail have these values so far.
fn count(broker: &Broker, fields: &[(&str, &str)]) -> usize {
    broker.said().iter().filter(|line| has(line, fields)).count()
}

/// Waits for a line of the audit trail with these values.
fn line(broker: &Broker, fields: &[(&str, &str)]) -> Result<Value> {
    broker.wait_for_line(|line| has(line, fields)).with_context(|| format!("{fields:?}"))
}

#[test]
fn logins_changes_and_refusals_are_in_the_audit_trail_with_who_and_where() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = with_definitions(&folder, DEFINITIONS)?;

    ensure!(Connection::open_as(broker.address, "bob", "wrong", "/").is_err());
    let refused = line(&broker, &[("action", "login"), ("outcome", "refused"), ("user", "bob")])?;
    ensure!(refused["reason"] == "user or password is wrong" && refused["mechanism"] != Value::Null, "{refused}");
    ensure!(refused["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{refused}");

    let mut guest = Connection::with_channel(broker.address)?;
    let login = line(&broker, &[("action", "login"), ("outcome", "ok"), ("user", "guest")])?;
    ensure!(login["connection_id"].is_u64() && login["connection_id"] != refused["connection_id"], "{login}");
    guest.declare_queue("orders", true, false)?;
    let declared = line(&broker, &[("action", "queue.declare"), ("object", "orders")])?;
    ensure!(declared["user"] == "guest" && declared["vhost"] == "/" && declared["outcome"] == "ok", "{declared}");
    ensure!(declared["connection_id"] == login["connection_id"] && declared["peer"] == login["peer"], "{declared}");
    guest.declare_queue("orders", true, false)?;
    guest.delete_queue("orders")?;
    line(&broker, &[("action", "queue.delete"), ("object", "orders"), ("user", "guest")])?;
    let count = count(&broker, &[("action", "queue.declare"), ("object", "orders")]);
    ensure!(count == 1, "what changes nothing is no change: {count}");

    let mut bob = Connection::open_as(broker.address, "bob", "secret", "/")?;
    bob.publish(to_queue("orders"), false, b"x")?;
    bob.expect(1, |method| matches!(method, ToClient::ChannelClose(close) if close.reply_code == 403))?;
    let refused = line(&broker, &[("action", "basic.publish"), ("outcome", "refused"), ("user", "bob")])?;
    ensure!(refused["vhost"] == "/", "{refused}");
    ensure!(refused["reason"].as_str().is_some_and(|reason| reason.contains("amq.default")), "{refused}");
    Ok(())
}

#[test]
fn what_comes_and_goes_with_a_connection_is_in_the_audit_trail_at_debug_only() -> Result<()> {
    let folder = DataFolder::new()?;
    for (log, expected) in [("info", 0), ("warn,warren_broker::node=info,audit=debug", 1)] {
        let broker = Broker::start_with(&folder, Settings { log, ..Settings::default() })?;
        let mut connection = Connection::with_channel(broker.address)?;
        connection.declare_queue("mine", false, false)?;
        connection.declare_queue("lasting", true, false)?;
        connection.delete_queue("lasting")?;
        let deleted = line(&broker, &[("action", "queue.delete"), ("object", "lasting")])?;
        ensure!(deleted["peer"].is_string(), "the connection is named whatever the filter: {deleted}");
        ensure!(count(&broker, &[("object", "mine")]) == expected, "{log}");
    }
    Ok(())
}

#[test]
fn a_refused_login_is_told_with_the_users_name_in_every_line() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    ensure!(Connection::open_as(broker.address, "mallory", "wrong", "/").is_err());
    line(&broker, &[("action", "login"), ("user", "mallory")])?;
    let line = broker.wait_for_line(|line| line["message"] == "closed")?;
    ensure!(
        line["user"] == "mallory" && line["reason"].as_str().is_some_and(|reason| reason.contains("ACCESS_REFUSED")),
        "{line}"
    );
    Ok(())
}
