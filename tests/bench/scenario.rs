//! What is measured: one table.

use crate::load::{Load, QueueType};

/// One thing to measure on every broker.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Short, for machines.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) title: &'static str,
    /// Which scenarios share a broker; each group begins on an empty one.
    pub(crate) group: Group,
    /// What is done.
    pub(crate) deed: Deed,
}

/// Scenarios that run one after the other on the same broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// The start, and loads on one queue with one producer and one consumer: all that a quick run measures.
    OneQueue,
    /// The same loads, made by PerfTest.
    PerfTest,
    /// Loads of other shapes.
    Wide,
    /// A long queue.
    Backlog,
    /// Many idle connections.
    Connections,
    /// Many idle queues.
    Queues,
}

/// What is done to a broker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Deed {
    /// How long the start took, and what the idle broker occupies.
    Start,
    /// As many messages as go through.
    Throughput(Load),
    /// How long confirms and deliveries take.
    Latency(Load),
    /// The same at half of the rate that this broker reached in another scenario.
    HalfLatency(Load, &'static str),
    /// Publish into a queue that nobody consumes, restart, then consume.
    Backlog(Load),
    /// Connect, and do nothing.
    Connections {
        /// How many to ours.
        warren: u64,
        /// How many to the other.
        peer: u64,
    },
    /// Declare durable queues, and do nothing.
    Queues {
        /// How many of ours.
        warren: u64,
        /// How many of the other's.
        peer: u64,
    },
}

impl Group {
    /// All, in the order in which they run.
    pub(crate) const ALL: [Self; 6] =
        [Self::OneQueue, Self::PerfTest, Self::Wide, Self::Backlog, Self::Connections, Self::Queues];
}

/// Transient messages, no confirms, no acknowledgements.
fn transient(size: usize) -> Load {
    Load { size, queue_type: Some(QueueType::Classic), warm_up: 1.0, seconds: 3.0, ..Load::default() }
}

/// Persistent messages in a queue whose confirms mean that they are on the disk: RabbitMQ's classic queues do not sync.
fn persistent(size: usize, window: u64) -> Load {
    let (persistent, queue_type) = (true, Some(QueueType::Quorum));
    let ack = (window / 2).clamp(1, 100);
    Load { persistent, queue_type, window, ack, prefetch: 400, ..transient(size) }
}

/// The table, in the order of the report.
pub(crate) fn all() -> Vec<Scenario> {
    let scenario = |name, title, group, deed| Scenario { name, title, group, deed };
    let one = |name, title, deed| scenario(name, title, Group::OneQueue, deed);
    let judged = |name, title, load| scenario(name, title, Group::PerfTest, load);
    let wide = |name, title, deed| scenario(name, title, Group::Wide, deed);
    let at_rate = |rate| Load { rate, ..persistent(16, 200) };
    // Without a bound, many producers fill queues that take minutes to drain.
    let spread = |producers, consumers, queues| Load {
        producers,
        consumers,
        queues,
        in_flight: 50_000,
        warm_up: 2.0,
        ..transient(16)
    };
    let longer = |load| Load { seconds: 4.0, ..load };
    vec![
        one("start", "From the start to the open port, and idle", Deed::Start),
        one("transient-16", "Transient, 16 B", Deed::Throughput(transient(16))),
        one("transient-1024", "Transient, 1 KiB", Deed::Throughput(transient(1024))),
        one("persistent-16", "Persistent, 16 B, window 200", Deed::Throughput(persistent(16, 200))),
        one("persistent-1024", "Persistent, 1 KiB, window 200", Deed::Throughput(persistent(1024, 200))),
        one("window-1", "Persistent, 16 B, window 1", Deed::Throughput(persistent(16, 1))),
        one("latency-2000", "Persistent, 16 B, 2,000/s", Deed::Latency(at_rate(2000))),
        judged("perftest-transient-16", "Transient, 16 B", Deed::Throughput(longer(transient(16)))),
        judged("perftest-transient-1024", "Transient, 1 KiB", Deed::Throughput(longer(transient(1024)))),
        judged("perftest-persistent-16", "Persistent, 16 B, window 200", Deed::Throughput(longer(persistent(16, 200)))),
        judged(
            "perftest-persistent-1024",
            "Persistent, 1 KiB, window 200",
            Deed::Throughput(longer(persistent(1024, 200))),
        ),
        judged("perftest-window-1", "Persistent, 16 B, window 1", Deed::Throughput(longer(persistent(16, 1)))),
        judged("perftest-latency-2000", "Persistent, 16 B, 2,000/s", Deed::Latency(longer(at_rate(2000)))),
        wide(
            "half-latency",
            "Persistent, 1 KiB, at half of its maximum",
            Deed::HalfLatency(persistent(1024, 200), "persistent-1024"),
        ),
        wide(
            "fan-out",
            "Fan-out 1 → 10 queues, transient, 256 B",
            Deed::Throughput(Load { fanout: true, size: 256, ..spread(1, 10, 10) }),
        ),
        wide("ten-by-ten", "10 producers, 10 consumers, one queue", Deed::Throughput(spread(10, 10, 1))),
        wide("queues-100", "100 queues, a producer and a consumer each", Deed::Throughput(spread(100, 100, 100))),
        wide("connections-1000", "1,000 connections on 100 queues", Deed::Throughput(spread(500, 500, 100))),
        wide("bodies-64k", "Transient, 64 KiB", Deed::Throughput(transient(64 << 10))),
        scenario(
            "backlog",
            "1,000,000 × 1 KiB queued, then drained",
            Group::Backlog,
            Deed::Backlog(Load { count: 1_000_000, ..persistent(1024, 1000) }),
        ),
        scenario(
            "connections",
            "Idle connections",
            Group::Connections,
            Deed::Connections { warren: 10_000, peer: 2_000 },
        ),
        scenario("queues", "Idle durable queues", Group::Queues, Deed::Queues { warren: 50_000, peer: 2_000 }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_references_point_back() {
        let scenarios = all();
        for (at, scenario) in scenarios.iter().enumerate() {
            let earlier = |name| scenarios[..at].iter().any(|earlier| earlier.name == name);
            assert!(!earlier(scenario.name), "{}", scenario.name);
            if let Deed::HalfLatency(_, of) = scenario.deed {
                assert!(earlier(of), "{of}");
            }
        }
    }
}
