//! How much fits: memory is asserted, time is shown and asserted generously, for a machine that is busy.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use warren_tests::harness::{Broker, Connection, DataFolder, Event, Settings};

use super::{MIB, bystander, declare_all, is_served, to_queue};

/// Far more than a start takes with what these tests leave behind.
const START: Duration = Duration::from_secs(15);

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_million_queued_messages_of_1_kib_take_at_most_60_mib_and_so_does_a_restart_with_them() -> Result<()> {
    const MESSAGES: u64 = 1_000_000;
    const BATCH: u64 = 1_000;
    const LIMIT: u64 = 60 * MIB;
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    let mut publisher = bystander(&broker)?;
    let body = |number: u64| format!("{number:<1024}").into_bytes();
    let begin = Instant::now();
    for first in (1..=MESSAGES).step_by(BATCH as usize) {
        let batch = first..first + BATCH;
        publisher.publish_all(batch.map(|number| (to_queue("bystander"), true, body(number))))?;
        let last = first + BATCH - 1;
        ensure!(publisher.wait_for_confirms_after(first - 1, last)? == last);
    }
    let filled = broker.resident_bytes()?;
    println!("1 M messages of 1 KiB in {:?}; resident: {} KiB; load {}", begin.elapsed(), filled >> 10, load_average());
    ensure!(filled <= LIMIT, "{filled} octets are resident with a million messages");
    broker.kill()?;

    let broker = Broker::start(&folder)?;
    let restarted = broker.resident_bytes()?;
    println!("restart: {:?}; resident: {} KiB; load {}", broker.start_duration, restarted >> 10, load_average());
    ensure!(restarted <= LIMIT, "{restarted} octets are resident after a restart with a million messages");
    ensure!(broker.start_duration <= START, "the start took {:?}", broker.start_duration);
    let mut consumer = Connection::with_channel(broker.address)?;
    ensure!(u64::from(consumer.declare_queue("bystander", true, true)?.0) == MESSAGES);
    let begin = Instant::now();
    consumer.consume("bystander", false, 2_000)?;
    for number in 1..=MESSAGES {
        let Event::Message(message) = consumer.receive()? else { bail!("expected a message") };
        ensure!(message.body == body(number), "message {number} is not as it was sent");
        if number.is_multiple_of(1_000) {
            consumer.ack(number, true)?;
        }
    }
    let drained = broker.resident_bytes()?;
    println!("drained in {:?}; resident: {} KiB; load {}", begin.elapsed(), drained >> 10, load_average());
    ensure!(drained <= LIMIT, "{drained} octets are resident after a million messages have gone");
    Ok(())
}

#[test]
fn ten_thousand_idle_connections_take_at_most_200_mib() -> Result<()> {
    const CONNECTIONS: usize = 10_000;
    let folder = DataFolder::new()?;
    // As many in a second as the test can make.
    let settings = Settings { config: "[accept]\nper_second = 100000\n", ..Settings::default() };
    let broker = Broker::start_with(&folder, settings)?;
    let mut bystander = bystander(&broker)?;
    let begin = Instant::now();
    let connections: Vec<_> =
        (0..CONNECTIONS).map(|_| Connection::with_channel(broker.address)).collect::<Result<_>>()?;
    let resident = broker.resident_bytes()?;
    println!(
        "{CONNECTIONS} idle connections in {:?}; resident: {} KiB; load {}",
        begin.elapsed(),
        resident >> 10,
        load_average()
    );
    ensure!(resident <= 200 * MIB, "{resident} octets are resident");
    is_served(&mut bystander)?;
    drop(connections);
    is_served(&mut bystander)
}

#[test]
fn fifty_thousand_idle_durable_queues_take_at_most_60_mib_and_so_does_a_restart_with_them() -> Result<()> {
    const QUEUES: usize = 50_000;
    const LIMIT: u64 = 60 * MIB;
    // So that snapshots of them are made, and the restart begins with one.
    let settings = Settings { config: "[log]\ncheckpoint_bytes = 1048576\n", ..Settings::default() };
    let folder = DataFolder::new()?;
    let broker = Broker::start_with(&folder, settings)?;
    let begin = Instant::now();
    let names: Vec<_> = (0..QUEUES).map(|number| format!("queue-{number}")).collect();
    declare_all(&broker, &names)?;
    let resident = broker.resident_bytes()?;
    println!(
        "{QUEUES} durable queues in {:?}; resident: {} KiB; load {}",
        begin.elapsed(),
        resident >> 10,
        load_average()
    );
    ensure!(resident <= LIMIT, "{resident} octets are resident with {QUEUES} idle queues");
    ensure!(folder.path().join("log").join("checkpoint").exists(), "there was no checkpoint");
    broker.kill()?;
    let broker = Broker::start_with(&folder, settings)?;
    let restarted = broker.resident_bytes()?;
    println!("restart: {:?}; resident: {} KiB; load {}", broker.start_duration, restarted >> 10, load_average());
    ensure!(restarted <= LIMIT, "{restarted} octets are resident after a restart with {QUEUES} idle queues");
    ensure!(broker.start_duration <= START, "the start took {:?}", broker.start_duration);
    let mut connection = Connection::with_channel(broker.address)?;
    for number in [0, 1, QUEUES / 2, QUEUES - 1] {
        ensure!(connection.declare_queue(&format!("queue-{number}"), true, true)? == (0, 0));
    }
    is_served(&mut bystander(&broker)?)
}
