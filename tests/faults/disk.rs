//! Disks that fail.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail, ensure};
use warren_amqp::basic;
use warren_tests::harness::{Broker, Connection, DataFolder, Event, Settings};

use crate::world::{Outgoing, STOP, World, in_thread, join, wait_until};

const QUEUE: &str = "q";
const PUBLISHERS: u64 = 2;

fn outgoing(_number: u64) -> Outgoing {
    Outgoing { exchange: "", routing_key: QUEUE, queues: &[QUEUE], persistent: true }
}

#[test]
fn a_failed_write_ends_the_process_with_a_clear_line_and_no_confirmed_message_is_lost() -> Result<()> {
    const ROUNDS: u64 = 10;
    let settings = Settings { takes_file_limit: true, ..Settings::default() };
    let folder = DataFolder::new()?;
    let world = Arc::new(World::default());
    let mut broker = Broker::start_with(&folder, settings)?;
    Connection::with_channel(broker.address)?.declare_queue(QUEUE, true, false)?;
    world.broker_runs(broker.address);
    let publishers =
        (0..PUBLISHERS).map(|publisher| in_thread(&world, move |world| world.publish_on(publisher, outgoing)));
    let publishers: Vec<_> = publishers.collect();
    let consumer = in_thread(&world, consume_on);
    for round in 1..=ROUNDS {
        let before = world.history().confirmed_count();
        wait_until("confirms", || Ok(world.history().confirmed_count() >= before + 200 * round))?;
        world.broker_ends();
        broker.limit_file_size(0)?;
        let (status, said) = broker.wait_for_last_words()?;
        ensure!(!status.success(), "it ended as if all were well");
        ensure!(said.contains("the log failed; ending the process so that nothing unwritten is confirmed"), "{said}");
        ensure!(said.contains("File too large"), "the reason is missing: {said}");
        broker = Broker::start_with(&folder, settings)?;
        world.broker_runs(broker.address);
    }
    world.publishers_stop.store(true, Ordering::Relaxed);
    join(publishers)?;
    stop_consumer(&world, &broker)?;
    join(vec![consumer])?;
    let verdict = world.history().verdict();
    println!("{ROUNDS} failed disks; {} confirmed, {} redelivered", verdict.confirmed, verdict.redeliveries);
    ensure!(verdict.is_good(), "{verdict:?}");
    Ok(())
}

fn consume_on(world: &World) -> Result<()> {
    let stops = |world: &World| world.consumers_stop.load(Ordering::Relaxed);
    world.work_on(stops, |connection| {
        connection.consume(QUEUE, false, 100)?;
        loop {
            let Event::Message(message) = connection.receive()? else { bail!("expected a message") };
            if message.body == STOP {
                return connection.ack(message.delivery_tag, true).context("acknowledge");
            }
            world.delivered(QUEUE, &message)?;
            if message.delivery_tag.is_multiple_of(50) {
                connection.ack(message.delivery_tag, true)?;
            }
        }
    })
}

/// Ends the consumer once it has everything.
fn stop_consumer(world: &World, broker: &Broker) -> Result<()> {
    wait_until("every confirmed message has been delivered", || Ok(world.history().due_count() == 0))?;
    world.consumers_stop.store(true, Ordering::Relaxed);
    let stop = basic::Publish { exchange: "", routing_key: QUEUE, mandatory: false, immediate: false };
    Connection::with_channel(broker.address)?.publish(stop, true, STOP).context("publish")
}
