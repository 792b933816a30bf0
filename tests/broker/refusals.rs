//! Messages that a queue does not take, and what is left of them when the process is killed as soon as their publisher
//! knows.

use anyhow::{Result, ensure};
use warren_amqp::{BasicProperties, Table, TableBuilder, ToClient};
use warren_tests::harness::{Broker, Connection, DataFolder};

use crate::forwarding::{confirmed, publish};
use crate::to_queue;

/// Publishes a persistent message with a key.
fn publish_keyed(connection: &mut Connection, queue: &str, key: &str) -> Result<()> {
    let headers = TableBuilder::build(|table| _ = table.put("x-deduplication-header", key));
    let headers = Some(Table::new(&headers));
    publish(connection, to_queue(queue), &BasicProperties { delivery_mode: Some(2), headers, ..Default::default() })
}

/// A broker that was killed and started again, and how many messages a queue has then.
fn after_a_kill(broker: Broker, folder: &DataFolder, queue: &str) -> Result<(Broker, Connection, u32)> {
    broker.kill()?;
    let broker = Broker::start(folder)?;
    let mut connection = Connection::with_channel(broker.address)?;
    let (count, _) = connection.declare_queue(queue, true, true)?;
    connection.confirm_select()?;
    Ok((broker, connection, count))
}

#[test]
fn what_was_refused_is_not_there_after_a_kill_and_is_taken_when_it_comes_again() -> Result<()> {
    for round in 0..4_u32 {
        let folder = DataFolder::new()?;
        let broker = Broker::start(&folder)?;
        let mut connection = Connection::with_channel(broker.address)?;
        connection.declare_queue_with("full", |table| {
            table.put("x-max-length", 1).put("x-overflow", "reject-publish");
            if round % 2 == 0 {
                table.put("x-message-deduplication", true);
            }
        })?;
        connection.confirm_select()?;
        publish_keyed(&mut connection, "full", "a")?;
        confirmed(&mut connection)?;
        publish_keyed(&mut connection, "full", "b")?;
        connection.expect(1, |method| matches!(method, ToClient::BasicNack(_)))?;

        let (_broker, mut connection, count) = after_a_kill(broker, &folder, "full")?;
        ensure!(count == 1, "round {round}: {count} messages");
        ensure!(connection.get("full")?.is_some());
        publish_keyed(&mut connection, "full", "b")?;
        confirmed(&mut connection)?;
        ensure!(connection.get("full")?.is_some(), "round {round}");
    }
    Ok(())
}

#[test]
fn a_duplicate_that_was_confirmed_is_not_there_after_a_kill() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    let mut connection = Connection::with_channel(broker.address)?;
    connection.declare_queue_with("once", |table| _ = table.put("x-message-deduplication", true))?;
    connection.confirm_select()?;
    for _ in 0..2 {
        publish_keyed(&mut connection, "once", "a")?;
        confirmed(&mut connection)?;
    }
    let (_broker, mut connection, count) = after_a_kill(broker, &folder, "once")?;
    ensure!(count == 1, "{count} messages");
    publish_keyed(&mut connection, "once", "a")?;
    confirmed(&mut connection)?;
    ensure!(connection.declare_queue("once", true, true)?.0 == 1);
    Ok(())
}
