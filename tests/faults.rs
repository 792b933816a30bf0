//! `kill -9` under load: no confirmed message may be lost, and none invented.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use warren_amqp::{ToClient, basic};
use warren_tests::harness::{Broker, Connection, DataFolder, Event, History};

const KILLS: usize = 20;
const PUBLISHERS: u64 = 3;
/// Copies confirmed between two kills, at least.
const PROGRESS: usize = 1_000;
/// Publishes without a confirm yet, at most, of each publisher.
const UNCONFIRMED: u64 = 200;
/// How long the broker may take for what it should do in a moment.
const PATIENCE: Duration = Duration::from_secs(30);

const FANOUT: &str = "fanout";
const QUEUES: [&str; 3] = ["fanout-1", "fanout-2", "direct"];

/// What all threads share.
struct World {
    /// Of the broker that runs now.
    address: Mutex<std::net::SocketAddr>,
    history: Mutex<History>,
    /// Publishers send nothing more; they wait for what is not confirmed and end.
    publishers_stop: AtomicBool,
    consumers_stop: AtomicBool,
}

impl World {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to the broker, as soon as one runs.
    fn connect(&self) -> Result<Connection> {
        let start = Instant::now();
        loop {
            let address = *self.address.lock().unwrap_or_else(PoisonError::into_inner);
            match Connection::with_channel(address) {
                Err(error) if start.elapsed() > PATIENCE => return Err(error),
                Err(_) => thread::yield_now(),
                connection => return connection,
            }
        }
    }

    fn confirmed_count(&self) -> usize {
        self.history().confirmed_count()
    }
}

/// The queues that a publisher's message is for: by turns both behind the exchange, and the third.
fn queues(number: u64) -> &'static [&'static str] {
    if number.is_multiple_of(2) { &QUEUES[..2] } else { &QUEUES[2..] }
}

fn publish(connection: &mut Connection, publisher: u64, number: u64) -> std::io::Result<()> {
    let (exchange, routing_key) = if number.is_multiple_of(2) { (FANOUT, "") } else { ("", QUEUES[2]) };
    let publish = basic::Publish { exchange, routing_key, mandatory: false, immediate: false };
    connection.publish(publish, true, format!("{publisher} {number}").as_bytes())
}

/// Sends ever new messages over ever new connections. What was not confirmed when a connection was lost may be in its
/// queues or not, and is not sent again.
fn publish_on(world: &World, publisher: u64) -> Result<()> {
    let mut last = 0;
    while !world.publishers_stop.load(Ordering::Relaxed) {
        let mut connection = world.connect()?;
        // An error is the end of this broker, which is what this is about.
        if connection.confirm_select().is_ok() {
            last = publish_over(world, &mut connection, publisher, last);
        }
    }
    Ok(())
}

/// Publishes over one connection until it is lost or all is confirmed at the end; answers with the last number sent.
fn publish_over(world: &World, connection: &mut Connection, publisher: u64, before: u64) -> u64 {
    let (mut last, mut confirmed) = (before, before);
    loop {
        let stops = world.publishers_stop.load(Ordering::Relaxed);
        while !stops && last - confirmed < UNCONFIRMED {
            last += 1;
            world.history().sends(queues(last), publisher, last);
            if publish(connection, publisher, last).is_err() {
                return last;
            }
        }
        if stops && confirmed == last {
            return last;
        }
        let Ok(Event::Method { payload, .. }) = connection.receive() else { return last };
        let Ok(ToClient::BasicAck(ack)) = ToClient::decode(&payload) else { return last };
        let first = if ack.multiple { confirmed + 1 } else { before + ack.delivery_tag };
        confirmed = before + ack.delivery_tag;
        let mut history = world.history();
        (first..=confirmed).for_each(|number| history.confirms(queues(number), publisher, number));
    }
}

/// Takes what comes from a queue over ever new connections, and acknowledges it.
fn consume_on(world: &World, queue: &str) -> Result<()> {
    while !world.consumers_stop.load(Ordering::Relaxed) {
        let mut connection = world.connect()?;
        if connection.consume(queue, false, 100).is_ok() {
            consume_over(world, &mut connection, queue)?;
        }
    }
    Ok(())
}

fn consume_over(world: &World, connection: &mut Connection, queue: &str) -> Result<()> {
    loop {
        // An error or the end is the end of this broker.
        let Ok(Event::Message(message)) = connection.receive() else { return Ok(()) };
        let text = std::str::from_utf8(&message.body).context("bodies are text")?;
        if text == "stop" {
            return connection.ack(message.delivery_tag, true).context("acknowledge");
        }
        let (publisher, number) = text.split_once(' ').context("bodies are two numbers")?;
        world.history().delivers(queue, publisher.parse()?, number.parse()?, message.redelivered);
        // Some of what it holds is acknowledged and some is not when the broker is killed.
        if message.delivery_tag.is_multiple_of(10) && connection.ack(message.delivery_tag, true).is_err() {
            return Ok(());
        }
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_so() {
        ensure!(start.elapsed() < PATIENCE, "waited {} s for this in vain: {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn in_thread(world: &Arc<World>, work: impl FnOnce(&World) -> Result<()> + Send + 'static) -> JoinHandle<Result<()>> {
    let world = world.clone();
    thread::spawn(move || work(&world))
}

fn join(threads: Vec<JoinHandle<Result<()>>>) -> Result<()> {
    for thread in threads {
        match thread.join() {
            Ok(result) => result?,
            Err(_) => bail!("a thread panicked"),
        }
    }
    Ok(())
}

#[test]
fn twenty_kills_under_load_lose_no_confirmed_message_and_invent_none() -> Result<()> {
    let start = Instant::now();
    let folder = DataFolder::new()?;
    let mut broker = Broker::start(&folder)?;
    let mut connection = Connection::with_channel(broker.address)?;
    QUEUES.iter().try_for_each(|queue| connection.declare_queue(queue, true, false).map(drop))?;
    connection.declare_fanout(FANOUT, &QUEUES[..2])?;
    let world = Arc::new(World {
        address: Mutex::new(broker.address),
        history: Mutex::default(),
        publishers_stop: AtomicBool::new(false),
        consumers_stop: AtomicBool::new(false),
    });
    let publishers = (0..PUBLISHERS).map(|publisher| in_thread(&world, move |world| publish_on(world, publisher)));
    let publishers: Vec<_> = publishers.collect();
    let consumers: Vec<_> =
        QUEUES.iter().map(|queue| in_thread(&world, move |world| consume_on(world, queue))).collect();

    for _ in 0..KILLS {
        let before = world.confirmed_count();
        wait_until("confirms", || world.confirmed_count() >= before + PROGRESS)?;
        broker.kill()?;
        broker = Broker::start(&folder)?;
        *world.address.lock().unwrap_or_else(PoisonError::into_inner) = broker.address;
    }

    world.publishers_stop.store(true, Ordering::Relaxed);
    join(publishers)?;
    wait_until("every confirmed message has been delivered", || world.history().is_drained())?;
    world.consumers_stop.store(true, Ordering::Relaxed);
    let mut connection = Connection::with_channel(broker.address)?;
    for queue in QUEUES {
        let stop = basic::Publish { exchange: "", routing_key: queue, mandatory: false, immediate: false };
        connection.publish(stop, true, b"stop")?;
    }
    join(consumers)?;
    for queue in QUEUES {
        // Its consumer's last acknowledgement has come before the end of its connection.
        while connection.declare_queue(queue, true, true)? != (0, 0) {}
    }
    let verdict = world.history().verdict();
    println!(
        "faults: {KILLS} kills in {:.1} s; {} sent, {} confirmed, {} deliveries, {} redelivered, {} lost, {} unexpected",
        start.elapsed().as_secs_f64(),
        verdict.sent,
        verdict.confirmed,
        verdict.deliveries,
        verdict.redeliveries,
        verdict.lost.len(),
        verdict.unexpected.len()
    );
    ensure!(verdict.is_good(), "{verdict:?}");
    empty_after_restart(broker, &folder)
}

/// What was acknowledged before the broker said goodbye does not come back.
fn empty_after_restart(broker: Broker, folder: &DataFolder) -> Result<()> {
    broker.terminate()?;
    ensure!(broker.wait()?.success());
    let broker = Broker::start(folder)?;
    let mut connection = Connection::with_channel(broker.address)?;
    for queue in QUEUES {
        let left = connection.declare_queue(queue, true, true)?;
        ensure!(left == (0, 0), "{queue} holds {left:?}");
    }
    Ok(())
}
