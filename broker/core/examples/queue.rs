//! Measures a shard's machine without log and sockets: `cargo run --release -p warren-core --example queue`.
//!
//! Shown is the processor's time for a message, of the best of some rounds: the one that other programs disturbed least.
//! Encoding the publishes is not in it, for that is the session's work.

#![expect(clippy::print_stdout, reason = "a measurement is for reading")]

use std::hint::black_box;

use bytes::Bytes;
use warren_core::command::{Attributes, encode_publish_head};
use warren_core::queue::{
    Event, PositionRange, PublishRun, QueueSettings, Receipt, Settlement, Shard, ShardInput, ShardOutput, Subscription,
};
use warren_core::{Bodies, ConnectionId, ConsumerKey, Location, Message, QueueId};

const QUEUE: QueueId = QueueId(7);
const PUBLISHER: ConnectionId = ConnectionId(1);
const CONSUMER: ConsumerKey = ConsumerKey { connection: ConnectionId(2), channel: 1, serial: 1 };
const BATCH: u32 = 200;
const BATCHES: usize = 5_000;
const BACKLOG: u64 = 1_000_000;
const ROUNDS: usize = 7;

fn main() {
    for body_len in [16, 1_024] {
        println!("{body_len} octets");
        keep_up(body_len, true, false);
        keep_up(body_len, false, false);
        keep_up(body_len, false, true);
        backlog(body_len);
    }
}

/// A consumer that takes everything at once and acknowledges it by the batch.
fn keep_up(body_len: usize, logged: bool, no_ack: bool) {
    let kind = if logged { "logged" } else { "memory" };
    let name = format!("{kind}, {}", if no_ack { "no acks" } else { "acks" });
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let mut world = World::new(body_len, logged);
        world.subscribe(no_ack);
        let started = processor_nanos();
        for batch in 0..BATCHES {
            world.publish(batch);
            world.commit();
            world.take_deliveries(no_ack);
        }
        best = best.min(per_message(started, BATCHES as u64 * u64::from(BATCH)));
    }
    println!("  {name:<24} {best:7.1} ns");
}

/// A million messages come, wait, are put into a snapshot, and go.
fn backlog(body_len: usize) {
    let mut world = World::new(body_len, true);
    let before = resident_kib();
    let step = |name: &str, work: &mut dyn FnMut()| {
        let started = processor_nanos();
        work();
        println!("  backlog: {name:<15} {:7.1} ns", per_message(started, BACKLOG));
    };
    step("publish", &mut || {
        for batch in 0..BACKLOG as usize / BATCH as usize {
            world.publish(batch);
            world.commit();
        }
    });
    let resident = (resident_kib() - before) as f64 * 1024.0 / BACKLOG as f64;
    println!("  backlog: resident        {resident:7.1} octets a message");
    let mut octets = Vec::new();
    let mut snapshot = None;
    step("share", &mut || snapshot = Some(world.shard.snapshot()));
    let snapshot = snapshot.expect("it was taken");
    step("encode", &mut || octets = snapshot.encode());
    step("count live", &mut || drop(black_box(snapshot.live())));
    println!("  backlog: snapshot        {:7.1} octets a message", octets.len() as f64 / BACKLOG as f64);
    step("restore", &mut || drop(black_box(Shard::restore(&octets).expect("it was encoded"))));
    world.subscribe(false);
    step("drain", &mut || {
        while world.shard.totals().ready + world.shard.totals().unacked > 0 {
            world.take_deliveries(false);
            world.commit();
        }
    });
}

fn per_message(started: u64, messages: u64) -> f64 {
    (processor_nanos() - started) as f64 / messages as f64
}

/// Nanoseconds that this thread has run.
fn processor_nanos() -> u64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    statistics.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Reads every message at the same cost: that of finding one in memory.
struct OneMessage(Message);

impl Bodies for OneMessage {
    fn read(&mut self, _: Location) -> Message {
        self.0.clone()
    }
}

struct World {
    shard: Shard,
    /// Some runs with the same messages, so that none is always in the processor's cache.
    runs: Vec<Bytes>,
    logged: bool,
    bodies: OneMessage,
    output: ShardOutput,
    /// Where the log ends.
    segment: u32,
    offset: u32,
    published: u64,
}

impl World {
    fn new(body_len: usize, logged: bool) -> Self {
        let mut publish = Vec::new();
        encode_publish_head((1, [QUEUE].into_iter()), 0, 5, 14, body_len as u32, &Attributes::default(), &mut publish);
        publish.extend_from_slice(b"queue, a header of");
        publish.resize(publish.len() + 1 + body_len, b'x');
        let commands = publish.repeat(BATCH as usize);
        let bodies = OneMessage(Message::from_publish(Bytes::from(publish)).expect("it is a publish"));
        let mut world = Self {
            shard: Shard::new(),
            runs: (0..64).map(|_| Bytes::from(commands.clone())).collect(),
            logged,
            bodies,
            output: ShardOutput::default(),
            segment: 0,
            offset: 0,
            published: 0,
        };
        world.put(ShardInput::Create { queue: QUEUE, settings: QueueSettings { logged, ..QueueSettings::default() } });
        world.commit();
        world
    }

    fn put(&mut self, input: ShardInput) {
        self.shard.handle(input, &mut self.bodies, &mut self.output);
    }

    fn publish(&mut self, batch: usize) {
        let commands = self.runs[batch % self.runs.len()].clone();
        let receipt =
            Receipt { connection: PUBLISHER, channel: 1, first: self.published + 1, len: BATCH.into(), index: 0 };
        self.published += u64::from(BATCH);
        let (logged, receipts) = (self.logged, vec![receipt]);
        self.put(ShardInput::Publish(PublishRun { logged, commands, count: BATCH, receipts }));
    }

    fn commit(&mut self) {
        while let Some(entry) = self.shard.take_entry(0) {
            let len = entry.iter().map(|slice| slice.len() as u32).sum();
            if self.offset > 64 << 20 {
                (self.segment, self.offset) = (self.segment + 1, 0);
            }
            let at = Location { segment: self.segment, offset: self.offset, len };
            self.offset += len + 40;
            self.shard.committed(at, &mut self.bodies, &mut self.output);
        }
    }

    fn subscribe(&mut self, no_ack: bool) {
        let subscription = Subscription { no_ack, prefetch_count: 1_000, ..Subscription::default() };
        self.put(ShardInput::Subscribe { queue: QUEUE, consumer: CONSUMER, subscription });
        self.commit();
    }

    /// Passes deliveries on, grants and acknowledges them.
    fn take_deliveries(&mut self, no_ack: bool) {
        let (mut range, mut bytes) = (PositionRange { first: 0, len: 0 }, 0);
        for (_, events) in self.output.take_events() {
            for event in events {
                if let Event::Deliver(_, delivery) = event {
                    let first = if range.len == 0 { delivery.position } else { range.first };
                    range = PositionRange { first, len: range.len + 1 };
                    bytes += black_box(delivery).message.size() as u64;
                }
            }
        }
        let messages = range.len as u32;
        self.put(ShardInput::Grant { queue: QUEUE, consumer: CONSUMER, messages, bytes });
        if !no_ack {
            self.put(ShardInput::Settle {
                queue: QUEUE,
                holder: CONSUMER.on_channel(),
                ranges: vec![range],
                settlement: Settlement::Done,
            });
        }
    }
}
