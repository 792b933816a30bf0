//! Dead letters on a volume that has no space for all their copies.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use warren_amqp::basic;
use warren_tests::harness::{Broker, Connection, DataFolder, Event};

const VOLUME_MIB: u32 = 64;
const BODY_BYTES: usize = 16 << 10;
/// They take more than half of the volume, and each queue gets all of them.
const MESSAGES: u64 = 2_400;
const QUEUES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// How long what takes seconds may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the log says when nothing is left.
const FULL: &str = "the volume is full";

/// A queue whose messages are over after a while and then go to all the others, with all messages in it.
fn fill(broker: &Broker) -> Result<()> {
    let mut connection = Connection::with_channel(broker.address)?;
    connection.declare_queues(QUEUES)?;
    connection.declare_fanout("copies", &QUEUES)?;
    connection.declare_queue_with("work", |table| {
        table.put("x-dead-letter-exchange", "copies").put("x-message-ttl", 8_000);
    })?;
    connection.confirm_select()?;
    for number in 0..MESSAGES {
        let mut body = number.to_be_bytes().to_vec();
        body.resize(BODY_BYTES, b' ');
        let to_work = basic::Publish { exchange: "", routing_key: "work", mandatory: false, immediate: false };
        connection.publish(to_work, true, &body)?;
    }
    connection.wait_for_confirms(MESSAGES)?;
    Ok(())
}

/// Copies that wait for consumers.
fn copies(connection: &mut Connection) -> Result<u64> {
    QUEUES.iter().try_fold(0, |sum, queue| Ok(sum + u64::from(connection.declare_queue(queue, true, true)?.0)))
}

/// Takes every message once from a queue, whatever comes twice.
fn take_all(broker: &Broker, queue: &str) -> Result<()> {
    let mut connection = Connection::with_channel(broker.address)?;
    connection.consume(queue, false, 50)?;
    let mut seen = BTreeSet::new();
    while (seen.len() as u64) < MESSAGES {
        let Event::Message(message) = connection.receive().with_context(|| format!("{} of {queue}", seen.len()))?
        else {
            bail!("expected a message")
        };
        seen.insert(message.body.first_chunk().map(|number| u64::from_be_bytes(*number)).context("a number")?);
        connection.ack(message.delivery_tag, false)?;
    }
    Ok(())
}

#[test]
fn dead_letters_leave_room_on_the_volume_and_go_on_when_copies_have_been_consumed() -> Result<()> {
    let folder = DataFolder::on_volume(VOLUME_MIB)?;
    let mut broker = Broker::start(&folder)?;
    fill(&broker)?;
    let mut connection = Connection::with_channel(broker.address)?;
    // Some go on, and then, for lack of space, none.
    let (mut last, mut since, begin) = (0, Instant::now(), Instant::now());
    while last == 0 || since.elapsed() < Duration::from_secs(3) {
        let now = copies(&mut connection)?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
        ensure!(begin.elapsed() < PATIENCE, "they go on and on: {last}");
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{last} copies, {} KiB occupied", folder.occupied_bytes()? >> 10);
    ensure!(last < MESSAGES * QUEUES.len() as u64, "all have arrived, the volume is too large for this test");
    ensure!(!broker.has_said(FULL), "dead letters have filled the volume");
    // Whoever consumes gives space back, and in the end everybody has everything.
    let running = &broker;
    std::thread::scope(|scope| {
        let consumers = QUEUES.map(|queue| scope.spawn(move || take_all(running, queue)));
        consumers.into_iter().try_for_each(|consumer| match consumer.join() {
            Ok(result) => result,
            Err(_) => bail!("a consumer panicked"),
        })
    })?;
    ensure!(!broker.has_said(FULL), "dead letters have filled the volume");
    ensure!(broker.is_running()?, "the broker has ended");
    Ok(())
}
