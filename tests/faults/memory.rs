//! Memory that is short: publishers wait, everybody else goes on, nobody is killed, and it heals by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use warren_amqp::ToClient;
use warren_tests::harness::{Broker, Connection, DataFolder, MemoryGroup, Settings};

use crate::flood::{BODY_BYTES, Flood, QUEUE, drain, end, to_queue};
use crate::world::{World, wait_until};

const MIB: u64 = 1 << 20;

/// What the broker may have. The flood is half as much again.
const LIMIT: u64 = 128 * MIB;

/// A broker that may have so much memory, with a queue.
fn small_broker(folder: &DataFolder, group: &MemoryGroup) -> Result<Broker> {
    let broker = Broker::start_with(folder, Settings { memory: Some(group), ..Settings::default() })?;
    Connection::with_channel(broker.address)?.declare_queue(QUEUE, true, false)?;
    Ok(broker)
}

fn gauge(broker: &Broker) -> Result<bool> {
    Ok(broker.http("/metrics")?.1.contains("\nrabbitmq_alarms_memory_used_watermark 1\n"))
}

fn said(broker: &Broker, words: &str) -> usize {
    let begins = |line: &&serde_json::Value| line["message"].as_str().is_some_and(|message| message.starts_with(words));
    broker.said().iter().filter(begins).count()
}

#[test]
fn a_transient_backlog_without_consumers_raises_the_alarm_and_goes_on_when_it_is_consumed() -> Result<()> {
    let (group, folder) = (MemoryGroup::new(LIMIT)?, DataFolder::new()?);
    let mut broker = small_broker(&folder, &group)?;
    let world = Arc::<World>::default();
    let mut bystander = Connection::with_channel(broker.address)?;
    ensure!(!gauge(&broker)?);
    let flood = Flood::start(&world, &broker, false)?;
    flood.wait_until_it_stands(LIMIT)?;
    let sent = flood.sent.load(Ordering::Relaxed);
    println!("held back after {} MiB; resident: {} MiB", (sent * BODY_BYTES) / MIB, broker.resident_bytes()? / MIB);
    ensure!(broker.resident_bytes()? < LIMIT * 85 / 100, "{} octets are resident", broker.resident_bytes()?);
    ensure!(gauge(&broker)? && said(&broker, "memory is low") == 1);
    ensure!(broker.http("/readyz")?.0.contains("200"), "it is alive and well, and consumers have to reach it");
    // Who only consumes notices nothing, and it makes room.
    bystander.declare_queue("other", true, false)?;
    ensure!(bystander.get("other")?.is_none());
    let consumer = drain(&world, &broker)?;
    println!("{}", flood.goes_through(&world, &mut broker)?);
    flood.join()?;
    end(&world, &broker, consumer)?;
    wait_until("the alarm ends", || Ok(!gauge(&broker)?))?;
    let (begun, ended) = (said(&broker, "memory is low"), said(&broker, "memory is there again"));
    ensure!(begun == ended && begun >= 1, "it began {begun} times and ended {ended} times");
    ensure!(group.kills()? == 0);
    Ok(())
}

#[test]
fn at_the_hard_stop_who_has_published_before_is_not_read_at_all() -> Result<()> {
    let (group, folder) = (MemoryGroup::new(LIMIT)?, DataFolder::new()?);
    let broker = small_broker(&folder, &group)?;
    let mut publisher = Connection::with_channel(broker.address)?;
    publisher.confirm_select()?;
    let mut consumer = Connection::with_channel(broker.address)?;
    let body = vec![b'x'; MIB as usize];
    for number in 1..=40 {
        publisher.publish(to_queue(), false, &body)?;
        publisher.wait_for_confirms_after(number - 1, number)?;
    }
    // There is no alarm. Then the pod gets smaller: what is resident is nearly all that there is.
    ensure!(!gauge(&broker)?);
    group.limit(broker.resident_bytes()? * 100 / 88)?;
    publisher.expect(
        0,
        |method| matches!(method, ToClient::ConnectionBlocked(blocked) if blocked.reason == "low on memory"),
    )?;
    wait_until("it says so", || Ok(said(&broker, "memory is very low: publishers are not read at all") == 1))?;
    // A stranger that publishes is blocked too, and who consumes is not.
    let mut stranger = Connection::with_channel(broker.address)?;
    stranger.publish(to_queue(), false, b"x")?;
    stranger.expect(0, |method| matches!(method, ToClient::ConnectionBlocked(_)))?;
    ensure!(consumer.purge_queue(QUEUE)? == 40);
    for connection in [&mut publisher, &mut stranger] {
        connection.expect(0, |method| matches!(method, ToClient::ConnectionUnblocked(_)))?;
    }
    ensure!(group.kills()? == 0);
    Ok(())
}
