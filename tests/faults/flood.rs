//! A publisher that sends more than the broker has room for, and the consumer that makes room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use warren_amqp::{ToClient, basic};
use warren_tests::harness::{Broker, Connection, Event};

use crate::world::{STOP, World, in_thread, join, wait_until};

pub(crate) const QUEUE: &str = "q";
pub(crate) const BODY_BYTES: u64 = 16 << 10;
/// What a flood sends: several times what there is room for.
pub(crate) const MESSAGES: u64 = 12_000;
/// What may be on its way between a publisher that is held back and the queue: the buffers of two sockets above all.
pub(crate) const UNDER_WAY_BYTES: u64 = 32 << 20;
const PUBLISHER: u64 = 1;

/// A publisher that sends without regard to anything, and reads its confirms at the same time.
pub(crate) struct Flood {
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) blocked: Arc<AtomicU64>,
    pub(crate) unblocked: Arc<AtomicU64>,
    pub(crate) sending: JoinHandle<Result<()>>,
    pub(crate) reading: JoinHandle<Result<()>>,
}

impl Flood {
    pub(crate) fn start(world: &Arc<World>, broker: &Broker, persistent: bool) -> Result<Self> {
        let mut connection = Connection::with_channel(broker.address)?;
        connection.confirm_select()?;
        let mut sender = connection.sender()?;
        let [sent, blocked, unblocked] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
        let sending = {
            let sent = sent.clone();
            in_thread(world, move |world| {
                for number in 1..=MESSAGES {
                    world.history().sends(&[QUEUE], PUBLISHER, number);
                    sender.publish(to_queue(), persistent, &body(number)).context("publish")?;
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

    /// Waits until it has been told to wait, and can send nothing more. There is room for so many octets.
    pub(crate) fn wait_until_it_stands(&self, room_bytes: u64) -> Result<()> {
        wait_until("connection.blocked comes", || Ok(self.blocked.load(Ordering::Relaxed) > 0))?;
        let (mut last, mut since) = (0, Instant::now());
        wait_until("the publisher is held back", || {
            let sent = self.sent.load(Ordering::Relaxed);
            if sent != last {
                (last, since) = (sent, Instant::now());
            }
            Ok(since.elapsed() > Duration::from_secs(1))
        })?;
        ensure!(
            last * BODY_BYTES <= room_bytes + UNDER_WAY_BYTES,
            "{last} messages were taken from a publisher that is held back"
        );
        Ok(())
    }
}

impl Flood {
    /// Waits until everything that it sends is confirmed, which it is as long as somebody consumes. Answers how it went.
    pub(crate) fn goes_through(&self, world: &World, broker: &mut Broker) -> Result<String> {
        let begin = Instant::now();
        while world.history().confirmed_count() < MESSAGES {
            let before = world.history().confirmed_count();
            wait_until("confirms go on", || {
                ensure!(broker.is_running()?, "the broker has ended");
                Ok(world.history().confirmed_count() > before)
            })?;
        }
        let blocked = self.blocked.load(Ordering::Relaxed);
        let mib = (MESSAGES * BODY_BYTES) >> 20;
        Ok(format!("{mib} MiB went through in {:?}, blocked {blocked} times", begin.elapsed()))
    }

    /// Its last words: it was told to go on as often as to wait.
    pub(crate) fn join(self) -> Result<()> {
        join(vec![self.sending, self.reading])?;
        let [blocked, unblocked] = [self.blocked, self.unblocked].map(|count| count.load(Ordering::Relaxed));
        ensure!(
            unblocked == blocked || unblocked + 1 == blocked,
            "blocked {blocked} times, unblocked {unblocked} times"
        );
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

pub(crate) fn to_queue() -> basic::Publish<'static> {
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

/// Consumes until every confirmed message has come, and one more that says that it is over.
pub(crate) fn drain(world: &Arc<World>, broker: &Broker) -> Result<JoinHandle<Result<()>>> {
    let connection = Connection::with_channel(broker.address)?;
    Ok(in_thread(world, move |world| consume(world, connection)))
}

pub(crate) fn end(world: &World, broker: &Broker, consumer: JoinHandle<Result<()>>) -> Result<()> {
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
