//! Volumes that are full: publishers wait, everybody else goes on, and it heals by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Result, bail, ensure};
use warren_tests::harness::{Broker, Connection, DataFolder};

use crate::flood::{BODY_BYTES, Flood, MESSAGES, QUEUE, drain, end};
use crate::world::{World, join, wait_until};

const VOLUME_MIB: u32 = 64;

/// A broker on a volume of 64 MiB with a queue, and the world of its clients.
fn small_broker() -> Result<(DataFolder, Broker, Arc<World>)> {
    let folder = DataFolder::on_volume(VOLUME_MIB)?;
    let broker = Broker::start(&folder)?;
    Connection::with_channel(broker.address)?.declare_queue(QUEUE, true, false)?;
    Ok((folder, broker, Arc::default()))
}

#[test]
fn a_full_volume_holds_publishers_back_and_they_go_on_when_messages_have_been_consumed() -> Result<()> {
    let (_folder, mut broker, world) = small_broker()?;
    let flood = Flood::start(&world, &broker, true)?;
    flood.wait_until_it_stands(u64::from(VOLUME_MIB) << 20)?;
    let sent = flood.sent.load(Ordering::Relaxed);
    println!("held back after {} MiB; resident: {} KiB", (sent * BODY_BYTES) >> 20, broker.resident_bytes()? >> 10);
    // New connections are served, and what they take and acknowledge makes room.
    let consumer = drain(&world, &broker)?;
    println!("{}", flood.goes_through(&world, &mut broker)?);
    flood.join()?;
    end(&world, &broker, consumer)?;
    ensure!(world.history().verdict().redeliveries == 0, "something was delivered twice");
    Ok(())
}

#[test]
fn a_broker_killed_on_a_full_volume_starts_again_and_loses_nothing() -> Result<()> {
    let (folder, broker, world) = small_broker()?;
    let flood = Flood::start(&world, &broker, true)?;
    flood.wait_until_it_stands(u64::from(VOLUME_MIB) << 20)?;
    broker.kill()?;
    // Both have lost their socket, whatever they make of it.
    let Ok(_) = flood.sending.join() else { bail!("the sending thread panicked") };
    let Ok(_) = flood.reading.join() else { bail!("the reading thread panicked") };
    let broker = Broker::start(&folder)?;
    let consumer = drain(&world, &broker)?;
    end(&world, &broker, consumer)
}

#[test]
fn a_volume_that_others_have_filled_holds_publishers_back_until_there_is_space() -> Result<()> {
    let (folder, mut broker, world) = small_broker()?;
    let filler = folder.path().join("filler");
    // It ends with what is wanted: no space.
    ensure!(std::io::copy(&mut std::io::repeat(0), &mut std::fs::File::create(&filler)?).is_err());
    let flood = Flood::start(&world, &broker, true)?;
    flood.wait_until_it_stands(u64::from(VOLUME_MIB) << 20)?;
    let consumer = drain(&world, &broker)?;
    ensure!(broker.is_running()?, "the broker has ended");
    ensure!(world.history().confirmed_count() < MESSAGES);
    std::fs::remove_file(&filler)?;
    while world.history().confirmed_count() < MESSAGES {
        let before = world.history().confirmed_count();
        wait_until("confirms go on", || Ok(world.history().confirmed_count() > before))?;
    }
    join(vec![flood.sending, flood.reading])?;
    end(&world, &broker, consumer)
}
