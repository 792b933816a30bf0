//! The load generator of ours: does what PerfTest cannot, many messages with little processor time.
//!
//! Each producer and each consumer is a thread with a connection of its own. A producer sends frames that were encoded
//! once, in large writes; a consumer looks at frame heads and at the stamp in each body. It is told the same for every
//! broker, knows no broker by name, and counts nothing that it has not seen: each message that was published has to come
//! exactly once, in its producer's order, and with confirms each has to be confirmed.

mod consumer;
mod frames;
mod message;
mod producer;
mod stage;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::Serialize;
use warren_amqp::{Table, TableBuilder, ToClient, ToServer, basic, connection, exchange, queue};
use warren_tests::harness::Connection;

use consumer::{Consumed, Consumer};
use frames::Frames;
use message::Batch;
use producer::{Producer, Published};
use stage::{Counter, Stage};

/// How often a thread that waits for the broker looks whether the load is over.
const LOOK: Duration = Duration::from_millis(100);
/// How long nothing may come before messages count as lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// Threads only move octets.
const STACK_LEN: usize = 128 << 10;
const EXCHANGE: &str = "bench";

/// What to do to a broker.
#[derive(Debug, Clone, PartialEq, Args, Serialize)]
pub(crate) struct Load {
    /// Octets of a body, at least 16.
    #[arg(long, default_value_t = message::SIZE_MIN)]
    pub(crate) size: usize,
    /// Publish with delivery mode 2.
    #[arg(long)]
    pub(crate) persistent: bool,
    /// The queues' `x-queue-type`; without it they have no argument.
    #[arg(long)]
    pub(crate) queue_type: Option<QueueType>,
    /// Declare the queues non-durable.
    #[arg(long)]
    pub(crate) transient_queue: bool,
    /// Confirms, with at most so many messages that wait for theirs; 0: no confirms.
    #[arg(long, default_value_t = 0)]
    pub(crate) window: u64,
    /// Acknowledge every so many deliveries at once; 0: consume without acknowledgements.
    #[arg(long, default_value_t = 0)]
    pub(crate) ack: u64,
    /// The consumers' prefetch count; 0: no limit.
    #[arg(long, default_value_t = 0)]
    pub(crate) prefetch: u16,
    /// Connections that publish.
    #[arg(long, default_value_t = 1)]
    pub(crate) producers: u64,
    /// Connections that consume.
    #[arg(long, default_value_t = 1)]
    pub(crate) consumers: u64,
    /// Queues; producers and consumers take them in turn.
    #[arg(long, default_value_t = 1)]
    pub(crate) queues: u64,
    /// Publish to a fanout exchange that all queues are bound to, instead of to one queue.
    #[arg(long)]
    pub(crate) fanout: bool,
    /// At most so many deliveries may be on their way, then producers wait for consumers; 0: any number.
    #[arg(long, default_value_t = 0)]
    pub(crate) in_flight: u64,
    /// Messages per second of all producers together; 0: as fast as it goes.
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u64,
    /// Seconds before anything is measured.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) warm_up: f64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 8.0)]
    pub(crate) seconds: f64,
    /// Publish so many messages in all, without a warm-up, instead of for a time. With no producers: consume so many.
    #[arg(long, default_value_t = 0)]
    pub(crate) count: u64,
    /// Leave the queues, and what is in them, for another load.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// A queue's type, as RabbitMQ's queue arguments name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum QueueType {
    /// On one node.
    Classic,
    /// Replicated, each confirm after its sync.
    Quorum,
}

/// What came of a load.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    /// Seconds that were measured.
    pub(crate) seconds: f64,
    /// Messages published in that time; with confirms, those that were confirmed.
    pub(crate) published: u64,
    /// Messages that came to consumers in that time.
    pub(crate) consumed: u64,
    /// Messages published altogether, warm-up and the rest included; all of them were found again.
    pub(crate) verified: u64,
    /// From sending to confirm.
    pub(crate) confirm_latency: Option<Latency>,
    /// From sending to arrival.
    pub(crate) delivery_latency: Option<Latency>,
}

/// Quantiles of durations, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Half of them are not longer.
    pub(crate) p50: f64,
    /// 95 of 100 are not longer.
    pub(crate) p95: f64,
    /// 99 of 100 are not longer.
    pub(crate) p99: f64,
    /// 999 of 1,000 are not longer.
    pub(crate) p999: f64,
    /// The longest.
    pub(crate) max: f64,
}

/// The two ends of what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// Everything after it counts.
    Begin,
    /// Nothing after it counts.
    End,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            size: message::SIZE_MIN,
            persistent: false,
            queue_type: None,
            transient_queue: false,
            window: 0,
            ack: 0,
            prefetch: 0,
            producers: 1,
            consumers: 1,
            queues: 1,
            fanout: false,
            in_flight: 0,
            rate: 0,
            warm_up: 2.0,
            seconds: 8.0,
            count: 0,
            keep: false,
        }
    }
}

impl Outcome {
    /// Messages per second: consumed ones, or, if the load has no consumers, published ones.
    pub(crate) fn rate(&self) -> f64 {
        (if self.consumed > 0 { self.consumed } else { self.published }) as f64 / self.seconds
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        })
    }
}

/// Puts `load` on the broker at `address`. Calls `probe` where what is measured begins and ends.
///
/// # Errors
/// The broker refuses something, a message is lost, comes twice or out of order, or is not confirmed.
pub(crate) fn run(address: SocketAddr, load: &Load, mut probe: impl FnMut(Edge) -> Result<()>) -> Result<Outcome> {
    load.check()?;
    let mut control = Connection::with_channel(address)?;
    load.declare(&mut control)?;
    let mut crew = Crew::start(address, load)?;
    let (began, before) = match load.count {
        0 => {
            std::thread::sleep(Duration::from_secs_f64(load.warm_up));
            crew.stage.measure();
            (Instant::now(), crew.totals())
        }
        _ => (crew.started, (0, 0)),
    };
    probe(Edge::Begin)?;
    if load.count == 0 {
        std::thread::sleep(Duration::from_secs_f64(load.seconds));
    } else {
        crew.wait_for_count(load)?;
    }
    let (seconds, after) = (began.elapsed().as_secs_f64(), crew.totals());
    probe(Edge::End)?;
    crew.stage.end();
    let Finished { messages, confirm_latency, delivery_latency } = crew.finish(load)?;
    load.clean_up(&mut control, messages)?;
    Ok(Outcome {
        seconds,
        published: after.0 - before.0,
        consumed: after.1 - before.1,
        verified: messages,
        confirm_latency,
        delivery_latency,
    })
}

/// A histogram of nanoseconds, from a microsecond to ten minutes, exact to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("the bounds are in order and the digits below 6")
}

impl Load {
    fn check(&self) -> Result<()> {
        ensure!(self.queues > 0 && self.producers + self.consumers > 0, "a load has queues and somebody who uses them");
        ensure!(
            self.producers > 0 || self.count > 0,
            "with consumers only, --count says how many messages to wait for"
        );
        ensure!(
            self.prefetch == 0 || self.ack <= u64::from(self.prefetch),
            "a consumer that may hold {} messages never gets to acknowledge {}",
            self.prefetch,
            self.ack
        );
        ensure!(self.consumers == 0 || self.consumers >= self.queues, "some queues have no consumer");
        Ok(())
    }

    fn queue(&self, index: u64) -> String {
        format!("bench-{}", index % self.queues)
    }

    fn declare(&self, control: &mut Connection) -> Result<()> {
        let arguments = TableBuilder::build(|table| match self.queue_type {
            Some(QueueType::Classic) => _ = table.put("x-queue-type", "classic"),
            Some(QueueType::Quorum) => _ = table.put("x-queue-type", "quorum"),
            None => {}
        });
        if self.fanout {
            control.declare_fanout(EXCHANGE, &[])?;
        }
        for index in 0..self.queues {
            let name = self.queue(index);
            let declare = queue::Declare {
                queue: &name,
                passive: false,
                durable: !self.transient_queue,
                exclusive: false,
                auto_delete: false,
                no_wait: false,
                arguments: Table::new(&arguments),
            };
            control.send(1, ToServer::QueueDeclare(declare))?;
            control.expect(1, |method| matches!(method, ToClient::QueueDeclareOk(_))).context("declare a queue")?;
            if self.fanout {
                let arguments = Table::new(&[]);
                let bind = queue::Bind { queue: &name, exchange: EXCHANGE, routing_key: "", no_wait: false, arguments };
                control.send(1, ToServer::QueueBind(bind))?;
                control.expect(1, |method| matches!(method, ToClient::QueueBindOk(_))).context("bind a queue")?;
            }
        }
        Ok(())
    }

    fn producer(&self, address: SocketAddr, index: u64) -> Result<Producer> {
        let mut connection = Connection::with_channel(address)?;
        if self.window > 0 {
            connection.confirm_select()?;
        }
        let (stream, received) = connection.into_parts();
        stream.set_read_timeout(Some(LOOK)).context("set a timeout")?;
        let queue = self.queue(index);
        let (exchange, routing_key) = if self.fanout { (EXCHANGE, "") } else { ("", queue.as_str()) };
        let share = self.count / self.producers + u64::from(index < self.count % self.producers);
        let batch = Batch::new(exchange, routing_key, self.size, self.persistent)?;
        // All producers may look at the same moment and find that there is room.
        let fair = if self.in_flight == 0 { u64::MAX } else { (self.in_flight / self.producers).max(1) };
        Ok(Producer {
            stream,
            frames: Frames::new(&received),
            batch_max: batch.capacity().min(fair),
            batch,
            index,
            window: self.window,
            rate: (self.rate > 0).then(|| self.rate as f64 / self.producers as f64),
            count: (self.count > 0).then_some(share),
        })
    }

    fn consumer(&self, address: SocketAddr, index: u64) -> Result<Consumer> {
        let mut connection = Connection::with_channel(address)?;
        let qos = basic::Qos { prefetch_size: 0, prefetch_count: self.prefetch, global: false };
        connection.send(1, ToServer::BasicQos(qos))?;
        connection.expect(1, |method| matches!(method, ToClient::BasicQosOk(_)))?;
        let consume = basic::Consume {
            queue: &self.queue(index),
            consumer_tag: "c",
            no_local: false,
            no_ack: self.ack == 0,
            exclusive: false,
            no_wait: false,
            arguments: Table::new(&[]),
        };
        connection.send(1, ToServer::BasicConsume(consume))?;
        connection.expect(1, |method| matches!(method, ToClient::BasicConsumeOk(_)))?;
        let (stream, received) = connection.into_parts();
        stream.set_read_timeout(Some(LOOK)).context("set a timeout")?;
        Ok(Consumer { stream, frames: Frames::new(&received), ack: self.ack })
    }

    /// How many deliveries `published` messages make.
    fn deliveries(&self, published: u64) -> u64 {
        published * if self.fanout { self.queues } else { 1 }
    }

    /// Without consumers, counts what is in the queues; then deletes them.
    fn clean_up(&self, control: &mut Connection, messages: u64) -> Result<()> {
        if self.consumers == 0 {
            self.wait_until_ready(control, self.deliveries(messages))?;
        }
        if self.keep {
            return Ok(());
        }
        for index in 0..self.queues {
            let queue = self.queue(index);
            let delete = queue::Delete { queue: &queue, if_unused: false, if_empty: false, no_wait: false };
            control.send(1, ToServer::QueueDelete(delete))?;
            control.expect(1, |method| matches!(method, ToClient::QueueDeleteOk(_))).context("delete a queue")?;
        }
        if self.fanout {
            let delete = exchange::Delete { exchange: EXCHANGE, if_unused: false, no_wait: false };
            control.send(1, ToServer::ExchangeDelete(delete))?;
            control
                .expect(1, |method| matches!(method, ToClient::ExchangeDeleteOk(_)))
                .context("delete an exchange")?;
        }
        Ok(())
    }

    /// Waits until the queues hold `expected` messages: a broker may know their length a little later.
    ///
    /// # Errors
    /// They hold another number for half a minute.
    pub(crate) fn wait_until_ready(&self, control: &mut Connection, expected: u64) -> Result<()> {
        let begin = Instant::now();
        loop {
            let ready = self.ready(control)?;
            if ready == expected {
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "{ready} messages are queued of {expected}");
            std::thread::sleep(LOOK);
        }
    }

    /// Messages in all queues.
    fn ready(&self, control: &mut Connection) -> Result<u64> {
        let mut ready = 0;
        for index in 0..self.queues {
            ready += u64::from(control.declare_queue(&self.queue(index), !self.transient_queue, true)?.0);
        }
        Ok(ready)
    }
}

/// What is known when everybody has ended.
struct Finished {
    messages: u64,
    confirm_latency: Option<Latency>,
    delivery_latency: Option<Latency>,
}

/// The threads of a load.
struct Crew {
    stage: Arc<Stage>,
    published: Arc<[Counter]>,
    consumed: Arc<[Counter]>,
    producers: Vec<JoinHandle<Result<(Producer, Published)>>>,
    consumers: Vec<JoinHandle<Result<(Consumer, Consumed)>>>,
    started: Instant,
}

impl Crew {
    /// Connects everybody, then lets them go.
    fn start(address: SocketAddr, load: &Load) -> Result<Self> {
        let consumers: Vec<_> =
            (0..load.consumers).map(|index| load.consumer(address, index)).collect::<Result<_>>()?;
        let producers: Vec<_> =
            (0..load.producers).map(|index| load.producer(address, index)).collect::<Result<_>>()?;
        let stage = Arc::new(Stage::new(load.in_flight, load.deliveries(1)));
        let counters = |count| (0..count).map(|_| Counter::default()).collect();
        let published: Arc<[Counter]> = counters(load.producers);
        let consumed: Arc<[Counter]> = counters(load.consumers);
        if load.count > 0 {
            stage.measure();
        }
        let started = Instant::now();
        let consumers = consumers.into_iter().enumerate().map(|(index, consumer)| {
            let (stage, counters) = (stage.clone(), consumed.clone());
            spawn(move || consumer.run(&stage, &counters[index]))
        });
        let consumers = consumers.collect::<Result<_>>()?;
        let producers = producers.into_iter().enumerate().map(|(index, producer)| {
            let (stage, counters) = (stage.clone(), published.clone());
            spawn(move || producer.run(&stage, &counters[index]))
        });
        let producers = producers.collect::<Result<_>>()?;
        Ok(Self { stage, published, consumed, producers, consumers, started })
    }

    /// What was published and consumed until now.
    fn totals(&self) -> (u64, u64) {
        (Counter::sum(&self.published), Counter::sum(&self.consumed))
    }

    /// Waits until the count is published, and consumed if there are consumers.
    fn wait_for_count(&self, load: &Load) -> Result<()> {
        if load.producers > 0 {
            self.wait_for(&self.published, load.count)?;
        }
        if load.consumers > 0 {
            self.wait_for(&self.consumed, load.deliveries(load.count))?;
        }
        Ok(())
    }

    fn wait_for(&self, counters: &[Counter], expected: u64) -> Result<()> {
        let (mut seen, mut progress) = (0, Instant::now());
        while seen < expected {
            std::thread::sleep(Duration::from_millis(1));
            let count = Counter::sum(counters);
            if count > seen {
                (seen, progress) = (count, Instant::now());
            } else if progress.elapsed() > PATIENCE || self.has_failed() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether somebody ended before time.
    fn has_failed(&self) -> bool {
        self.consumers.iter().any(JoinHandle::is_finished)
    }

    /// Waits until all is published, confirmed and consumed, and compares.
    fn finish(&mut self, load: &Load) -> Result<Finished> {
        let (mut messages, mut sent, mut confirm, mut delivery) = (0, 0_u64, histogram(), histogram());
        let mut ends = Vec::new();
        for producer in self.producers.drain(..) {
            let (producer, published) = join(producer).context("a producer")?;
            messages += published.messages;
            sent = sent.wrapping_add(published.checksum);
            confirm.add(&published.confirm_latency).context("add up latencies")?;
            ends.push(producer.stream);
        }
        let expected = if load.producers > 0 { load.deliveries(messages) } else { load.count };
        if load.consumers > 0 {
            self.wait_for(&self.consumed, expected)?;
        }
        self.stage.drained();
        let mut got = 0_u64;
        for consumer in self.consumers.drain(..) {
            let (consumer, consumed) = join(consumer).context("a consumer")?;
            got = got.wrapping_add(consumed.checksum);
            delivery.add(&consumed.latency).context("add up latencies")?;
            ends.push(consumer.stream);
        }
        if load.consumers > 0 {
            let consumed = self.totals().1;
            ensure!(consumed == expected, "{consumed} messages came of {expected}");
            let factor = load.deliveries(1);
            ensure!(load.producers == 0 || got == sent.wrapping_mul(factor), "other messages came than were sent");
        }
        ends.iter().for_each(close);
        let messages = if load.producers > 0 { messages } else { expected };
        Ok(Finished { messages, confirm_latency: Latency::of(&confirm), delivery_latency: Latency::of(&delivery) })
    }
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    std::thread::Builder::new().stack_size(STACK_LEN).spawn(work).context("start a thread")
}

fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("a thread of the load panicked"),
    }
}

/// Says good-bye. What the broker answers concerns nobody any more.
fn close(mut stream: &TcpStream) {
    let mut octets = Vec::new();
    let close = connection::Close { reply_code: 200, reply_text: "done", class_id: 0, method_id: 0 };
    ToServer::ConnectionClose(close).encode(0, &mut octets);
    std::io::Write::write_all(&mut stream, &octets).ok();
}
