//! The audit trail of a real broker: what its log says about who did what.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use warren_amqp::ToClient;
use warren_tests::harness::{Broker, Connection, DataFolder, Settings};

use super::definitions::with_definitions;
use super::identity::{administer, ask, basic};
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

#[test]
fn refused_logins_that_were_counted_are_told_before_the_end() -> Result<()> {
    /// So many of a source are told one by one in a minute.
    const TOLD: usize = 60;
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    for _ in 0..TOLD + 7 {
        let answer = ask(broker.management, "GET /api/whoami", "Bearer none", "")?;
        ensure!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    broker.terminate()?;
    let (_, said) = broker.wait_for_last_words()?;
    let lines: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let refused = lines.iter().filter(|line| has(line, &[("action", "login"), ("outcome", "refused")]));
    let (together, single): (Vec<_>, Vec<_>) = refused.partition(|line| line["count"].is_u64());
    ensure!(single.len() == TOLD && together.len() == 1 && together[0]["count"] == 7, "{together:?}");
    Ok(())
}

#[test]
fn requests_that_a_user_lacks_the_right_for_are_told_with_what_they_concern_and_not_more_than_60_times_a_minute()
-> Result<()> {
    let folder = DataFolder::new()?;
    let broker = with_definitions(&folder, DEFINITIONS)?;
    for _ in 0..60 + 7 {
        let answer = ask(broker.management, "DELETE /api/queues/%2F/some%20orders", &basic("bob", "secret"), "")?;
        ensure!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    broker.terminate()?;
    let (_, said) = broker.wait_for_last_words()?;
    let lines: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let refused = lines.iter().filter(|line| has(line, &[("user", "bob"), ("outcome", "refused")]));
    let (together, single): (Vec<_>, Vec<_>) = refused.partition(|line| line["count"].is_u64());
    ensure!(single.len() == 60 && together.len() == 1 && together[0]["count"] == 7, "{together:?}");
    let fields = [("action", "DELETE /api/queues"), ("vhost", "/"), ("object", "some orders")];
    ensure!(single.iter().all(|line| has(line, &fields)), "{}", single[0]);
    Ok(())
}

/// Standard error is a pipe that nobody reads any more: in Kubernetes, a container runtime that hangs.
#[test]
fn a_log_that_nobody_reads_stops_nobody_and_what_is_lost_is_counted() -> Result<()> {
    let folder = DataFolder::new()?;
    let ports = ["--amqp", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--management", "127.0.0.1:0", "--log", "trace"];
    let mut command = Broker::command(&["serve", "--log-format", "json", "--data-dir"])?;
    let mut process = command.arg(folder.path()).args(ports).stderr(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(process.stderr.take().context("a pipe")?);
    let ready = loop {
        let mut line = String::new();
        ensure!(said.read_line(&mut line)? > 0, "it has ended");
        let line: Value = serde_json::from_str(&line)?;
        if line["message"] == "ready" {
            break line;
        }
    };
    let port = |name: &str| -> Result<SocketAddr> {
        Ok(ready[name].as_str().context("an address")?.trim_matches(['[', ']']).parse()?)
    };
    // Each login is a few lines of some hundred octets: together they are more than the pipe and the queue hold.
    let (amqp, metrics) = (port("amqp")?, port("metrics")?);
    let lost = || -> Result<bool> {
        let page = ask(metrics, "GET /metrics", "", "")?;
        let line = page.lines().find(|line| line.starts_with("warren_log_lines_dropped_total "));
        Ok(line.context("no such metric")?.rsplit(' ').next() != Some("0"))
    };
    let mut logins = 0;
    while !lost()? {
        for _ in 0..50 {
            drop(Connection::open(amqp)?);
        }
        logins += 50;
        ensure!(logins < 20_000, "nothing is lost");
    }
    let mut connection = Connection::with_channel(amqp)?;
    connection.declare_queue("served", true, false)?;
    // It is read again, and says what is missing before it ends.
    rustix::process::kill_process(rustix::process::Pid::from_child(&process), rustix::process::Signal::TERM)?;
    let mut last = said.lines().map_while(Result::ok).skip_while(|line| !line.contains("lines were dropped"));
    ensure!(last.any(|line| line.contains("stopped")), "it does not say that lines are missing, or how it ended");
    ensure!(process.wait()?.code() == Some(0));
    Ok(())
}

#[test]
fn requests_of_a_user_are_told_once_and_what_they_do_inside_is_no_login() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    for _ in 0..5 {
        administer(&broker, "GET /api/overview", "")?;
    }
    let message = r#"{"routing_key": "q", "payload": "x", "payload_encoding": "string", "properties": {}}"#;
    administer(&broker, "POST /api/exchanges/%2F/amq.default/publish", message)?;
    let login = [("action", "login"), ("outcome", "ok")];
    line(&broker, &login)?;
    drop(Connection::open(broker.address)?);
    broker.wait_for_line(|line| has(line, &login) && line["connection_id"].is_u64())?;
    ensure!(count(&broker, &login) == 2, "one of all requests, and one of the connection");
    let page = broker.http("/metrics")?.1;
    ensure!(page.contains("rabbitmq_auth_attempts_succeeded_total 7\n"), "each counts once");
    Ok(())
}
