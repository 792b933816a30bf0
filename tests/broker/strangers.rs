//! Clients that mean no good: what they leave in memory, in the log and on the disk.

use anyhow::{Result, ensure};
use warren_tests::harness::{Broker, Connection, DataFolder, Settings};

use super::{bystander, to_queue};

#[test]
fn what_clients_keep_secret_is_in_no_log_and_no_metric() -> Result<()> {
    const SECRET: &str = "canary-7f3a";
    let folder = DataFolder::new()?;
    let broker = Broker::start_with(&folder, Settings { log: "trace", ..Settings::default() })?;
    ensure!(Connection::open_as(broker.address, "guest", SECRET, "/").is_err());
    ensure!(Connection::open_as(broker.address, "nobody", SECRET, "/").is_err());
    let mut connection = bystander(&broker)?;
    connection.publish(to_queue("bystander"), true, SECRET.as_bytes())?;
    connection.expect(1, |method| matches!(method, warren_amqp::ToClient::BasicAck(_)))?;
    ensure!(connection.get("bystander")?.is_some_and(|message| message.body == SECRET.as_bytes()));
    let (_, metrics) = broker.http("/metrics")?;
    ensure!(!metrics.contains(SECRET), "it is in the metrics");
    broker.terminate()?;
    let (_, said) = broker.wait_for_last_words()?;
    ensure!(said.contains("login refused") && said.contains("DEBUG"), "the log has everything: {said}");
    ensure!(!said.contains(SECRET), "it is in the log");
    Ok(())
}

#[test]
fn names_from_clients_are_no_paths_no_labels_and_no_lines_of_the_log() -> Result<()> {
    const NAME: &str = "../../escaped/x";
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    let mut connection = Connection::with_channel(broker.address)?;
    connection.declare_queue(NAME, true, false)?;
    ensure!(Connection::open_as(broker.address, "eve\n{\"message\":\"forged\"}\u{1b}[2J", "x", "/").is_err());
    let (_, metrics) = broker.http("/metrics")?;
    ensure!(!metrics.contains("escaped"), "a name is in the metrics");
    broker.terminate()?;
    let (_, said) = broker.wait_for_last_words()?;
    for line in said.lines() {
        ensure!(line.starts_with('{') && !line.starts_with("{\"message\":\"forged\""), "a line of its own: {line}");
        ensure!(!line.contains('\u{1b}'), "a control character: {line}");
    }
    let broker = Broker::start(&folder)?;
    ensure!(Connection::with_channel(broker.address)?.declare_queue(NAME, true, true)? == (0, 0));
    let outside = folder.path().join(NAME);
    ensure!(!outside.exists() && !folder.path().join("../escaped").exists(), "{} is there", outside.display());
    Ok(())
}
