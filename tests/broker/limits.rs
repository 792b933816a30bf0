//! How much fits: memory is asserted, time is shown and asserted generously, for a machine that is busy.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use warren_tests::harness::{Broker, Connection, DataFolder};

use super::{MIB, bystander, is_served};

/// Far more than a start takes with what these tests leave behind.
const START: Duration = Duration::from_secs(15);

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn ten_thousand_idle_connections_take_at_most_200_mib() -> Result<()> {
    const CONNECTIONS: usize = 10_000;
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
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
    const CONNECTIONS: usize = 50;
    const LIMIT: u64 = 60 * MIB;
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    let begin = Instant::now();
    let declaring = (0..CONNECTIONS).map(|part| {
        let connection = Connection::with_channel(broker.address);
        std::thread::spawn(move || -> Result<()> {
            let names: Vec<_> = (part..QUEUES).step_by(CONNECTIONS).map(|number| format!("queue-{number}")).collect();
            connection?.declare_queues(names.iter().map(String::as_str))
        })
    });
    for thread in declaring.collect::<Vec<_>>() {
        let Ok(result) = thread.join() else { bail!("a thread panicked") };
        result?;
    }
    let resident = broker.resident_bytes()?;
    println!(
        "{QUEUES} durable queues in {:?}; resident: {} KiB; load {}",
        begin.elapsed(),
        resident >> 10,
        load_average()
    );
    ensure!(resident <= LIMIT, "{resident} octets are resident with {QUEUES} idle queues");
    broker.kill()?;
    let broker = Broker::start(&folder)?;
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
