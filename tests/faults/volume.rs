//! Volumes that are full: publishers wait, everybody else goes on, and it heals by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use warren_amqp::{ToClient, basic};
use warren_tests::harness::{Broker, Connection, DataFolder, Event};

use crate::world::{STOP, World, in_thread, join, wait_until};

const QUEUE: &str = "q";
const VOLUME_MIB: u32 = 64;
const BODY_BYTES: u64 = 16 << 10;
/// What a flood sends: three times what the volume holds.
const MESSAGES: u64 = 12_000;
/// What may be on its way between a publisher that is held back and the volume: the buffers of two sockets above all.
const UNDER_WAY_BYTES: u64 = 32 << 20;
const PUBLISHER: u64 = 1;

/// A publisher that sends without regard to anything, and reads its confirms at the same time.
struct Flood {
    sent: Arc<AtomicU64>,
    blocked: Arc<AtomicU64>,
    unblocked: Arc<AtomicU64>,
    sending: JoinHandle<Result<()>>,
    reading: JoinHandle<Result<()>>,
}

impl Flood {
    fn start(world: &Arc<World>, broker: &Broker) -> Result<Self> {
        let mut connection = Connection::with_channel(broker.address)?;
        connection.confirm_select()?;
        let mut sender = connection.sender()?;
        let [sent, blocked, unblocked] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
        let sending = {
            let sent = sent.clone();
            in_thread(world, move |world| {
                for number in 1..=MESSAGES {
                    world.history().sends(&[QUEUE], PUBLISHER, number);
                    sender.publish(to_queue(), true, &body(number)).context("publish")?;
                    sent.store(number, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let reading = {
            let (blocked, unblocked) = (blocked.clone(), unblocked.clone());
            in_thread(world, move |world| read(world, &mut connection, &blocked, &unblocked))
        };
        Ok(Self { sent, blocked, unblocked, sending, reading })
    }

    /// Waits until it has been told to wait, and can send nothing more.
    fn wait_until_it_stands(&self) -> Result<()> {
        wait_until("connection.blocked comes", || Ok(self.blocked.load(Ordering::Relaxed) > 0))?;
        let (mut last, mut since) = (0, Instant::now());
        wait_until("the publisher is held back", || {
            let sent = self.sent.load(Ordering::Relaxed);
            if sent != last {
                (last, since) = (sent, Instant::now());
            }
            Ok(since.elapsed() > Duration::from_secs(1))
        })?;
        let most = (u64::from(VOLUME_MIB) << 20) + UNDER_WAY_BYTES;
        ensure!(last * BODY_BYTES <= most, "{last} messages were taken from a publisher that is held back");
        Ok(())
    }
}

/// Notes confirms, and when the publisher is told to wait and to go on, until the last confirm.
fn read(world: &World, connection: &mut Connection, blocked: &AtomicU64, unblocked: &AtomicU64) -> Result<()> {
    let mut confirmed = 0;
    while confirmed < MESSAGES {
        // Nothing comes as long as the volume is full.
        let Event::Method { payload, .. } = connection.receive()? else { bail!("expected a confirm") };
        match ToClient::decode(&payload)? {
            ToClient::ConnectionBlocked(_) => _ = blocked.fetch_add(1, Ordering::Relaxed),
            ToClient::ConnectionUnblocked(_) => _ = unblocked.fetch_add(1, Ordering::Relaxed),
            ToClient::BasicAck(ack) => {
                let first = if ack.multiple { confirmed + 1 } else { ack.delivery_tag };
                confirmed = ack.delivery_tag;
                (first..=confirmed).for_each(|number| world.history().confirms(&[QUEUE], PUBLISHER, number));
            }
            other => bail!("expected a confirm, got {other:?}"),
        }
    }
    Ok(())
}

fn to_queue() -> basic::Publish<'static> {
    basic::Publish { exchange: "", routing_key: QUEUE, mandatory: false, immediate: false }
}

fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_string().into_bytes();
    body.resize(usize::try_from(BODY_BYTES).expect("16 KiB"), b' ');
    body
}

/// Takes what comes until it is told to stop.
fn consume(world: &World, mut connection: Connection) -> Result<()> {
    connection.consume(QUEUE, false, 200)?;
    loop {
        let Event::Message(message) = connection.receive()? else { bail!("expected a message") };
        if message.body == STOP {
            return connection.ack(message.delivery_tag, true).context("acknowledge");
        }
        let number = str::from_utf8(&message.body)?.trim_end().parse()?;
        world.history().delivers(QUEUE, PUBLISHER, number, message.redelivered);
        if message.delivery_tag.is_multiple_of(50) {
            connection.ack(message.delivery_tag, true)?;
        }
    }
}

/// A broker on a volume of 64 MiB with a queue, and the world of its clients.
fn small_broker() -> Result<(DataFolder, Broker, Arc<World>)> {
    let folder = DataFolder::on_volume(VOLUME_MIB)?;
    let broker = Broker::start(&folder)?;
    Connection::with_channel(broker.address)?.declare_queue(QUEUE, true, false)?;
    Ok((folder, broker, Arc::default()))
}

/// Consumes until every confirmed message has come, and one more that says that it is over.
fn drain(world: &Arc<World>, broker: &Broker) -> Result<JoinHandle<Result<()>>> {
    let connection = Connection::with_channel(broker.address)?;
    Ok(in_thread(world, move |world| consume(world, connection)))
}

fn end(world: &World, broker: &Broker, consumer: JoinHandle<Result<()>>) -> Result<()> {
    wait_until("every confirmed message has been delivered", || Ok(world.history().due_count() == 0))?;
    let mut connection = Connection::with_channel(broker.address)?;
    connection.confirm_select()?;
    connection.publish(to_queue(), true, STOP)?;
    ensure!(connection.wait_for_confirms(1)? == 1);
    join(vec![consumer])?;
    let verdict = world.history().verdict();
    ensure!(verdict.is_good() && verdict.confirmed > 0, "{verdict:?}");
    Ok(())
}

#[test]
fn a_full_volume_holds_publishers_back_and_they_go_on_when_messages_have_been_consumed() -> Result<()> {
    let (_folder, mut broker, world) = small_broker()?;
    let flood = Flood::start(&world, &broker)?;
    flood.wait_until_it_stands()?;
    let sent = flood.sent.load(Ordering::Relaxed);
    println!("held back after {} MiB; resident: {} KiB", (sent * BODY_BYTES) >> 20, broker.resident_bytes()? >> 10);
    // New connections are served, and what they take and acknowledge makes room.
    let consumer = drain(&world, &broker)?;
    let begin = Instant::now();
    while world.history().confirmed_count() < MESSAGES {
        let before = world.history().confirmed_count();
        wait_until("confirms go on", || {
            ensure!(broker.is_running()?, "the broker has ended");
            Ok(world.history().confirmed_count() > before)
        })?;
    }
    let blocked = flood.blocked.load(Ordering::Relaxed);
    println!("{} MiB went through in {:?}, blocked {blocked} times", (MESSAGES * BODY_BYTES) >> 20, begin.elapsed());
    join(vec![flood.sending, flood.reading])?;
    let unblocked = flood.unblocked.load(Ordering::Relaxed);
    ensure!(unblocked == blocked || unblocked + 1 == blocked, "blocked {blocked} times, unblocked {unblocked} times");
    end(&world, &broker, consumer)?;
    ensure!(world.history().verdict().redeliveries == 0, "something was delivered twice");
    Ok(())
}

#[test]
fn a_broker_killed_on_a_full_volume_starts_again_and_loses_nothing() -> Result<()> {
    let (folder, broker, world) = small_broker()?;
    let flood = Flood::start(&world, &broker)?;
    flood.wait_until_it_stands()?;
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
    let flood = Flood::start(&world, &broker)?;
    flood.wait_until_it_stands()?;
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
