//! What the clients of a fault test share: where the broker is, what they have seen, and when to stop.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use warren_amqp::{ToClient, basic};
use warren_tests::harness::{Connection, Event, History, Message};

/// How long the broker may take for what it should do in a moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes without a confirm yet, at most, of each publisher.
const UNCONFIRMED: u64 = 200;

/// Publishers wait while so many confirmed messages are not delivered yet.
const BACKLOG: u64 = 20_000;

/// The body of the message that ends a consumer.
pub(crate) const STOP: &[u8] = b"stop";

/// The shared part of a test.
#[derive(Default)]
pub(crate) struct World {
    /// Of the broker that runs now.
    address: Mutex<Option<SocketAddr>>,
    /// Grows when a broker is about to end, and again when the next one runs: odd while there is none.
    generation: AtomicU64,
    history: Mutex<History>,
    /// Publishers send nothing more; they wait for what is not confirmed and end.
    pub(crate) publishers_stop: AtomicBool,
    pub(crate) consumers_stop: AtomicBool,
}

/// A message of a publisher's sequence.
pub(crate) struct Outgoing {
    pub(crate) exchange: &'static str,
    pub(crate) routing_key: &'static str,
    /// The queues that it goes to.
    pub(crate) queues: &'static [&'static str],
    pub(crate) persistent: bool,
}

impl World {
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker is about to end.
    pub(crate) fn broker_ends(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// There is a broker: the first, or the next.
    pub(crate) fn broker_runs(&self, address: SocketAddr) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        if self.generation.load(Ordering::SeqCst) % 2 == 1 {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Works over ever new connections until `stop`. An error of a connection whose broker has ended is what the tests
    /// are about; any other is a mistake of the broker.
    pub(crate) fn work_on(
        &self,
        stop: impl Fn(&Self) -> bool,
        mut work: impl FnMut(&mut Connection) -> Result<()>,
    ) -> Result<()> {
        while !stop(self) {
            let generation = self.generation.load(Ordering::SeqCst);
            if generation % 2 == 1 {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let address = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
            let address = address.context("clients start after the broker")?;
            let outcome = Connection::with_channel(address).and_then(|mut connection| work(&mut connection));
            if self.generation.load(Ordering::SeqCst) == generation {
                outcome?;
            }
        }
        Ok(())
    }

    /// Sends ever new messages over ever new connections. What was not confirmed when a connection was lost may be in
    /// its queues or not, and is not sent again.
    pub(crate) fn publish_on(&self, publisher: u64, outgoing: impl Fn(u64) -> Outgoing) -> Result<()> {
        let mut last = 0;
        let stops = |world: &Self| world.publishers_stop.load(Ordering::Relaxed);
        self.work_on(stops, |connection| {
            connection.confirm_select()?;
            self.publish_over(connection, publisher, &mut last, &outgoing)
        })
    }

    /// Publishes over one connection until it is lost or all is confirmed at the end. `last` is the last number sent.
    fn publish_over(
        &self,
        connection: &mut Connection,
        publisher: u64,
        last: &mut u64,
        outgoing: impl Fn(u64) -> Outgoing,
    ) -> Result<()> {
        let before = *last;
        let mut confirmed = before;
        loop {
            let stops = self.publishers_stop.load(Ordering::Relaxed);
            let waits = stops || self.history().due_count() > BACKLOG;
            if !waits && *last - confirmed <= UNCONFIRMED / 2 {
                let first = *last + 1;
                *last = confirmed + UNCONFIRMED;
                self.publish_all(connection, publisher, first..=*last, &outgoing)?;
            }
            if confirmed == *last {
                if stops {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            let Event::Method { payload, .. } = connection.receive()? else { bail!("expected a confirm") };
            let ToClient::BasicAck(ack) = ToClient::decode(&payload)? else { bail!("expected a confirm") };
            let first = if ack.multiple { confirmed + 1 } else { before + ack.delivery_tag };
            confirmed = before + ack.delivery_tag;
            let mut history = self.history();
            for number in first..=confirmed {
                let Outgoing { queues, persistent, .. } = outgoing(number);
                // What is not persistent may be lost.
                if persistent {
                    history.confirms(queues, publisher, number);
                }
            }
        }
    }

    fn publish_all(
        &self,
        connection: &mut Connection,
        publisher: u64,
        numbers: impl Iterator<Item = u64> + Clone,
        outgoing: impl Fn(u64) -> Outgoing,
    ) -> Result<()> {
        let mut history = self.history();
        numbers.clone().for_each(|number| history.sends(outgoing(number).queues, publisher, number));
        drop(history);
        connection.publish_all(numbers.map(|number| {
            let Outgoing { exchange, routing_key, persistent, .. } = outgoing(number);
            let publish = basic::Publish { exchange, routing_key, mandatory: false, immediate: false };
            (publish, persistent, body(publisher, number))
        }))?;
        Ok(())
    }

    /// Notes a message that has come from `queue`; answers with its publisher and number. Every octet has to be right.
    pub(crate) fn delivered(&self, queue: &str, message: &Message) -> Result<(u64, u64)> {
        let mut words = message.body.split(|octet| *octet == b' ').map(|word| str::from_utf8(word).ok()?.parse().ok());
        let (Some(Some(publisher)), Some(Some(number))) = (words.next(), words.next()) else {
            bail!("a body does not begin with two numbers");
        };
        ensure!(message.body == body(publisher, number), "message {number} of publisher {publisher} is damaged");
        self.history().delivers(queue, publisher, number, message.redelivered);
        Ok((publisher, number))
    }
}

/// The body of a message: its publisher and number, and something to fill log and segments with. A few are long.
pub(crate) fn body(publisher: u64, number: u64) -> Vec<u8> {
    let length = match number % 97 {
        0 => 20_000,
        odd => 20 + odd * 5,
    };
    let filler = b'a' + u8::try_from((publisher + number) % 26).expect("a letter");
    let mut body = format!("{publisher} {number} ").into_bytes();
    body.resize(usize::try_from(length).expect("a length"), filler);
    body
}

/// Waits for something that is about to become so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < PATIENCE, "waited {} s for this in vain: {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

pub(crate) fn in_thread(
    world: &Arc<World>,
    work: impl FnOnce(&World) -> Result<()> + Send + 'static,
) -> JoinHandle<Result<()>> {
    let world = world.clone();
    thread::spawn(move || work(&world))
}

pub(crate) fn join(threads: Vec<JoinHandle<Result<()>>>) -> Result<()> {
    for thread in threads {
        match thread.join() {
            Ok(result) => result?,
            Err(_) => bail!("a thread panicked"),
        }
    }
    Ok(())
}
