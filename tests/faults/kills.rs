//! `kill -9` at random moments under every kind of load at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use warren_amqp::{ToClient, basic};
use warren_storage::Random;
use warren_tests::harness::{Broker, Connection, DataFolder, Event, Message, Settings};

use crate::world::{Outgoing, STOP, World, in_thread, join, wait_until};

const KILLS: u64 = 200;
/// One in so many kills comes while the broker starts.
const EARLY: u64 = 10;
const PUBLISHERS: u64 = 3;
/// Copies confirmed between two kills, at least.
const PROGRESS: u64 = 100;

/// Segments and checkpoints so small that between two kills there are many of both.
const CONFIG: &str = "[log]\nsegment_bytes = 262144\ncheckpoint_bytes = 524288\n";
/// What the folder may ever occupy: some segments, as many again for what a long backlog keeps from being given up, and
/// spare ones. All that is written would take many times as much.
const FOLDER_BYTES: u64 = 64 << 20;

const FANOUT: &str = "fanout";
/// Behind the exchange; consumed steadily.
const STEADY: &str = "steady";
/// Behind the exchange; its consumer leaves without acknowledging what it has.
const FICKLE: &str = "fickle";
/// Acknowledged in no order.
const SHUFFLED: &str = "shuffled";
/// Persistent and transient messages by turns, some of which are given back.
const MIXED: &str = "mixed";
/// Asked with `basic.get`.
const POLLED: &str = "polled";
/// Consumed only when much is in it, and then only in part: its messages are the survivors of old segments.
const HOARD: &str = "hoard";
const QUEUES: [&str; 6] = [STEADY, FICKLE, SHUFFLED, MIXED, POLLED, HOARD];

/// When the hoard is consumed from, and how much of it then.
const HOARD_MESSAGES: (u32, u32) = (3_000, 2_000);

/// Where a publisher's message goes, by turns.
fn outgoing(number: u64) -> Outgoing {
    let to = |routing_key, queues, persistent| Outgoing { exchange: "", routing_key, queues, persistent };
    match number % 12 {
        0 | 3 | 6 => Outgoing { exchange: FANOUT, routing_key: "", queues: &[STEADY, FICKLE], persistent: true },
        1 | 4 | 7 => to(SHUFFLED, &[SHUFFLED], true),
        2 | 5 => to(MIXED, &[MIXED], true),
        8 | 9 => to(MIXED, &[MIXED], false),
        10 => to(POLLED, &[POLLED], true),
        _ => to(HOARD, &[HOARD], true),
    }
}

/// How a consumer treats what it takes.
#[derive(Clone, Copy)]
enum Habit {
    /// Acknowledges ten at a time.
    Tens,
    /// As [`Self::Tens`], and leaves after a thousand, with some in its hands.
    TensAndLeaves,
    /// Acknowledges one by one, the later first.
    Backwards,
    /// Gives one in twenty back, once.
    GivesBack,
}

/// Takes what comes from a queue over ever new connections.
fn consume_on(world: &World, queue: &str, habit: Habit) -> Result<()> {
    let stops = |world: &World| world.consumers_stop.load(Ordering::Relaxed);
    world.work_on(stops, |connection| {
        // The broker may not have missed the consumer before yet: what that one held would come back too late for its order.
        while connection.declare_queue(queue, true, true)?.1 > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        connection.consume(queue, false, 100)?;
        consume_over(world, connection, queue, habit)
    })
}

fn consume_over(world: &World, connection: &mut Connection, queue: &str, habit: Habit) -> Result<()> {
    let mut given_back = BTreeSet::new();
    for taken in 1.. {
        let Event::Message(message) = connection.receive()? else { bail!("expected a message") };
        let tag = message.delivery_tag;
        if message.body == STOP {
            // What was given back may still be on its way.
            while !given_back.is_empty() {
                let Event::Message(message) = connection.receive()? else { bail!("expected a message") };
                given_back.remove(&world.delivered(queue, &message)?);
                connection.ack(message.delivery_tag, true)?;
            }
            return connection.ack(tag, true).context("acknowledge");
        }
        let name = world.delivered(queue, &message)?;
        match habit {
            Habit::Tens | Habit::TensAndLeaves if tag.is_multiple_of(10) => connection.ack(tag, true)?,
            Habit::Tens | Habit::TensAndLeaves => {}
            Habit::Backwards if tag.is_multiple_of(10) => {
                (tag - 9..=tag).rev().try_for_each(|tag| connection.ack(tag, false))?;
            }
            Habit::Backwards => {}
            Habit::GivesBack if tag.is_multiple_of(20) && !message.redelivered => {
                given_back.insert(name);
                connection.requeue(tag, false)?;
            }
            Habit::GivesBack => {
                given_back.remove(&name);
                connection.ack(tag, false)?;
            }
        }
        if matches!(habit, Habit::TensAndLeaves) && taken == 1_000 {
            break;
        }
    }
    Ok(())
}

/// Gets message after message, and gives some back; in the end until none is left, for one that has been delivered may
/// have come back.
fn poll_on(world: &World) -> Result<()> {
    let stops = |world: &World| world.consumers_stop.load(Ordering::Relaxed);
    world.work_on(stops, |connection| {
        loop {
            let stopping = stops(world);
            let Some(message) = connection.get_to_acknowledge(POLLED)? else {
                if stopping {
                    return Ok(());
                }
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            world.delivered(POLLED, &message)?;
            if message.delivery_tag.is_multiple_of(15) && !message.redelivered {
                connection.requeue(message.delivery_tag, false)?;
            } else {
                connection.ack(message.delivery_tag, false)?;
            }
        }
    })
}

/// Lets the hoard grow, and takes from it when it is large; all of it at the end.
fn draw_on(world: &World) -> Result<()> {
    let stops = |world: &World| world.consumers_stop.load(Ordering::Relaxed);
    let is_over = |world: &World| world.publishers_stop.load(Ordering::Relaxed);
    world.work_on(stops, |connection| {
        loop {
            let stopping = stops(world);
            let (at, count) = if is_over(world) { (1, u32::MAX) } else { HOARD_MESSAGES };
            if connection.declare_queue(HOARD, true, true)?.0 >= at {
                draw(world, connection, count)?;
            } else if stopping {
                return Ok(());
            } else {
                thread::sleep(Duration::from_millis(5));
            }
        }
    })
}

fn draw(world: &World, connection: &mut Connection, count: u32) -> Result<()> {
    for _ in 0..count {
        let Some(Message { delivery_tag, .. }) = connection
            .get_to_acknowledge(HOARD)?
            .map_or(Ok(None), |message| world.delivered(HOARD, &message).map(|_| Some(message)))?
        else {
            break;
        };
        connection.ack(delivery_tag, false)?;
    }
    Ok(())
}

/// What is certain about a queue that comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certain {
    /// It does not exist.
    Gone,
    /// It may exist, and hold anything that it ever held.
    Nothing,
    /// It exists, with at least and at most so many messages.
    Holds(u32, u32),
}

/// Declares, fills, purges and deletes queues. After each kill what is certain about them has to be so.
fn come_and_go_on(world: &World) -> Result<()> {
    const NAMES: [&str; 4] = ["come-1", "come-2", "come-3", "come-4"];
    let mut certain = [Certain::Gone; NAMES.len()];
    let mut round = 0;
    let stops = |world: &World| world.publishers_stop.load(Ordering::Relaxed);
    world.work_on(stops, |connection| {
        connection.confirm_select()?;
        let mut confirmed = 0;
        while !stops(world) {
            let index = round % NAMES.len();
            round += 1;
            come_and_go(connection, NAMES[index], round, &mut certain[index], &mut confirmed)?;
        }
        Ok(())
    })
}

/// One round with one queue. `confirmed` is the number of the connection's last publish.
fn come_and_go(
    connection: &mut Connection,
    queue: &str,
    round: usize,
    certain: &mut Certain,
    confirmed: &mut u64,
) -> Result<()> {
    const MESSAGES: u32 = 20;
    let before = std::mem::replace(certain, Certain::Nothing);
    let (found, _) = connection.declare_queue(queue, true, false)?;
    let as_expected = match before {
        Certain::Gone => found == 0,
        Certain::Nothing => true,
        Certain::Holds(least, most) => (least..=most).contains(&found),
    };
    ensure!(as_expected, "{queue} held {found} messages, and {before:?} was certain");
    // Until something behind it is confirmed, what a purge dropped may come back.
    let purged = if let Certain::Holds(_, most) = before { most } else { 0 };
    *certain = Certain::Holds(found, purged.max(found + MESSAGES));
    let publish = basic::Publish { exchange: "", routing_key: queue, mandatory: true, immediate: false };
    connection.publish_all((0..MESSAGES).map(|_| (publish, true, vec![b'x'; 200])))?;
    let last = *confirmed + u64::from(MESSAGES);
    while *confirmed < last {
        let Event::Method { payload, .. } = connection.receive()? else { bail!("expected a confirm") };
        let ToClient::BasicAck(ack) = ToClient::decode(&payload)? else { bail!("expected a confirm") };
        *confirmed = ack.delivery_tag;
        let missing = u32::try_from(last - ack.delivery_tag).context("confirms go on")?;
        *certain = Certain::Holds(found + MESSAGES - missing, found + MESSAGES);
    }
    match round % 5 {
        0 => {}
        1 => {
            // A purge is not durable when it is answered, as no acknowledgement is.
            *certain = Certain::Holds(0, found + MESSAGES);
            let purged = connection.purge_queue(queue)?;
            ensure!(purged == found + MESSAGES, "{purged} were purged of {found} and {MESSAGES}");
            ensure!(connection.declare_queue(queue, true, true)?.0 == 0, "something is left of a purge");
        }
        _ => {
            *certain = Certain::Nothing;
            let deleted = connection.delete_queue(queue)?;
            ensure!(deleted == found + MESSAGES, "{deleted} went with the queue of {found} and {MESSAGES}");
            *certain = Certain::Gone;
        }
    }
    Ok(())
}

fn settings() -> Settings<'static> {
    Settings { config: CONFIG, ..Settings::default() }
}

#[test]
fn two_hundred_kills_under_mixed_load_lose_no_confirmed_message_and_invent_none() -> Result<()> {
    let start = Instant::now();
    let seed = start_seed();
    println!("seed {seed}");
    let folder = DataFolder::new()?;
    let mut broker = Broker::start_with(&folder, settings())?;
    let mut connection = Connection::with_channel(broker.address)?;
    connection.declare_queues(QUEUES)?;
    connection.declare_fanout(FANOUT, &[STEADY, FICKLE])?;
    let world = Arc::new(World::default());
    world.broker_runs(broker.address);
    let mut publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| in_thread(&world, move |world| world.publish_on(publisher, outgoing)))
        .collect();
    publishers.push(in_thread(&world, come_and_go_on));
    let habits = [
        (STEADY, Habit::Tens),
        (FICKLE, Habit::TensAndLeaves),
        (SHUFFLED, Habit::Backwards),
        (MIXED, Habit::GivesBack),
    ];
    let consumers = habits.map(|(queue, habit)| in_thread(&world, move |world| consume_on(world, queue, habit)));
    let pollers = vec![in_thread(&world, poll_on), in_thread(&world, draw_on)];

    let (mut random, mut most, mut slowest) = (Random(seed), 0, Duration::ZERO);
    for kill in 1..=KILLS {
        let before = world.history().confirmed_count();
        thread::sleep(Duration::from_millis(20 + random.below(700) as u64));
        wait_until("confirms", || Ok(world.history().confirmed_count() >= before + PROGRESS))?;
        world.broker_ends();
        broker.kill()?;
        if kill.is_multiple_of(EARLY) {
            Broker::kill_while_it_starts(&folder, settings(), Duration::from_micros(random.below(20_000) as u64))?;
        }
        most = most.max(folder.occupied_bytes()?);
        broker = Broker::start_with(&folder, settings())?;
        slowest = slowest.max(broker.start_duration);
        world.broker_runs(broker.address);
    }

    world.publishers_stop.store(true, Ordering::Relaxed);
    join(publishers)?;
    wait_until("every confirmed message has been delivered", || Ok(world.history().due_count() == 0))?;
    world.consumers_stop.store(true, Ordering::Relaxed);
    join(pollers)?;
    let mut connection = Connection::with_channel(broker.address)?;
    for (queue, _) in habits {
        let stop = basic::Publish { exchange: "", routing_key: queue, mandatory: false, immediate: false };
        connection.publish(stop, true, STOP)?;
    }
    join(consumers.into())?;
    let verdict = world.history().verdict();
    println!(
        "{KILLS} kills in {:.1} s; {} sent, {} confirmed, {} deliveries, {} redelivered, {} lost, {} unexpected; \
         folder at most {} KiB, slowest start {slowest:?}",
        start.elapsed().as_secs_f64(),
        verdict.sent,
        verdict.confirmed,
        verdict.deliveries,
        verdict.redeliveries,
        verdict.lost.len(),
        verdict.unexpected.len(),
        most >> 10,
    );
    ensure!(verdict.is_good(), "{verdict:?}");
    ensure!(most <= FOLDER_BYTES, "the folder occupied {most} octets");
    empty_after_restart(broker, &mut connection, &folder)
}

/// What was acknowledged before the broker said goodbye does not come back.
fn empty_after_restart(broker: Broker, connection: &mut Connection, folder: &DataFolder) -> Result<()> {
    for queue in QUEUES {
        // Its consumer's last acknowledgement has come before the end of its connection.
        let mut left = (0, 0);
        let empty = wait_until("queues are empty", || {
            left = connection.declare_queue(queue, true, true)?;
            Ok(left == (0, 0))
        });
        empty.with_context(|| format!("{queue} holds {left:?}"))?;
    }
    broker.terminate()?;
    ensure!(broker.wait()?.success());
    let broker = Broker::start_with(folder, settings())?;
    let mut connection = Connection::with_channel(broker.address)?;
    for queue in QUEUES {
        let left = connection.declare_queue(queue, true, true)?;
        ensure!(left == (0, 0), "{queue} holds {left:?}");
    }
    Ok(())
}

/// `WARREN_SEED` to see a run again, as far as threads and disks allow.
fn start_seed() -> u64 {
    let given = std::env::var("WARREN_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    given.unwrap_or_else(|| u64::from(now.subsec_nanos()) + now.as_secs()).max(1)
}
