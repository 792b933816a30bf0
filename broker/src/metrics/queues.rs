//! Metrics of queues: of each one, and of all together.

use warren_core::queue::{QueueCounters, QueueKind, ShardSummary};

use super::text::Family;
use crate::statistics::QueueReport;

/// A metric of queues.
pub(super) struct QueueFamily {
    pub(super) family: Family,
    /// The values of `family=` that ask for it (RabbitMQ's names).
    pub(super) asked_by: &'static [&'static str],
    /// Of one queue; `None`: it has none.
    pub(super) of: fn(&QueueReport) -> Option<f64>,
    /// Of all queues; `None`: there is no sense in it.
    pub(super) of_all: Option<fn(&ShardSummary) -> f64>,
}

const COARSE: &[&str] = &["queue_coarse_metrics"];
const METRICS: &[&str] = &["queue_metrics"];
const CONSUMERS: &[&str] = &["queue_consumer_count", "queue_metrics"];
const DELIVERY: &[&str] = &["queue_delivery_metrics"];

macro_rules! gauges {
    ($($name:literal, $asked_by:expr, $help:literal, $of:expr, $of_all:expr;)*) => {
        [$(QueueFamily { family: Family::gauge($name, $help), asked_by: $asked_by, of: $of, of_all: $of_all },)*]
    };
}

macro_rules! counters {
    ($($field:ident: $name:literal, $asked_by:expr, $help:literal;)*) => {
        [$(QueueFamily {
            family: Family::counter($name, $help),
            asked_by: $asked_by,
            of: |queue| Some(queue.statistics.counters.$field as f64),
            of_all: Some(|all| all.kinds.iter().map(|counters| counters.$field).sum::<u64>() as f64),
        },)*]
    };
}

/// How much there is.
pub(super) const GAUGES: [QueueFamily; 15] = gauges! {
    "queue_messages_ready", COARSE, "Messages that wait for consumers; of a stream, all",
        |queue| Some(queue.statistics.ready as f64), Some(|all| all.totals.ready as f64);
    "queue_messages_unacked", COARSE, "Messages that clients hold and have not acknowledged",
        |queue| Some(queue.statistics.unacked as f64), Some(|all| all.totals.unacked as f64);
    "queue_messages", COARSE, "Messages ready and unacknowledged together",
        |queue| Some((queue.statistics.ready + queue.statistics.unacked) as f64),
        Some(|all| (all.totals.ready + all.totals.unacked) as f64);
    "queue_consumers", CONSUMERS, "Consumers of queues",
        |queue| Some(queue.statistics.consumer_count as f64), Some(|all| all.totals.consumers as f64);
    "queue_consumer_capacity", METRICS, "Fraction of the last five seconds in which consumers could have taken more",
        |queue| Some(queue.consumer_capacity), None;
    "queue_consumer_utilisation", METRICS, "The same as the consumer capacity",
        |queue| Some(queue.consumer_capacity), None;
    "queue_process_memory_bytes", METRICS, "About how much memory queues take, with the messages that are in memory only",
        |queue| Some(queue.statistics.memory as f64), None;
    "queue_messages_ram", METRICS, "Messages that are in memory only",
        |queue| Some(queue.statistics.memory_messages as f64), Some(|all| all.memory_messages as f64);
    "queue_messages_ram_bytes", METRICS, "Size of the messages that are in memory only",
        |queue| Some(queue.statistics.memory_bytes as f64), Some(|all| all.memory_bytes as f64);
    "queue_messages_persistent", METRICS, "Messages that are in the log",
        |queue| Some(queue.persistent_messages() as f64),
        Some(|all| (all.totals.ready + all.totals.unacked).saturating_sub(all.memory_messages) as f64);
    "queue_messages_persistent_bytes", METRICS, "Size of the messages that are in the log",
        |queue| Some(queue.statistics.bytes.saturating_sub(queue.statistics.memory_bytes) as f64),
        Some(|all| all.bytes.saturating_sub(all.memory_bytes) as f64);
    "queue_messages_bytes", METRICS, "Size of all messages in queues",
        |queue| Some(queue.statistics.bytes as f64), Some(|all| all.bytes as f64);
    "queue_messages_ready_bytes", METRICS, "Size of the messages that wait for consumers",
        |queue| Some(queue.statistics.ready_bytes as f64), Some(|all| all.ready_bytes as f64);
    "queue_messages_unacked_bytes", METRICS, "Size of the messages that clients hold",
        |queue| Some(queue.statistics.bytes.saturating_sub(queue.statistics.ready_bytes) as f64),
        Some(|all| all.bytes.saturating_sub(all.ready_bytes) as f64);
    "queue_head_message_timestamp", METRICS, "The timestamp property of the message at the head, in seconds since 1970, if that message is in memory",
        |queue| queue.statistics.head_timestamp.map(|seconds| seconds as f64), None;
};

/// What was done.
pub(super) const COUNTERS: [QueueFamily; 8] = counters! {
    published: "queue_messages_published_total", DELIVERY, "Messages routed to queues";
    got: "queue_get_ack_total", DELIVERY, "Messages fetched by basic.get, to be acknowledged";
    got_no_ack: "queue_get_total", DELIVERY, "Messages fetched by basic.get without acknowledgement";
    get_empty: "queue_get_empty_total", DELIVERY, "Times that basic.get found no message";
    delivered: "queue_messages_delivered_ack_total", DELIVERY, "Messages handed to consumers that acknowledge";
    delivered_no_ack: "queue_messages_delivered_total", DELIVERY, "Messages handed to consumers that do not acknowledge";
    redelivered: "queue_messages_redelivered_total", DELIVERY, "Messages handed out again";
    acknowledged: "queue_messages_acked_total", DELIVERY, "Messages that clients have acknowledged";
};

/// A metric of all queues of a type (RabbitMQ's global counters).
pub(super) struct GlobalFamily {
    pub(super) family: Family,
    pub(super) of: fn(&QueueCounters) -> u64,
}

/// The types of queues that clients see, with RabbitMQ's names for them.
pub(super) const KINDS: [(QueueKind, &str); 3] = [
    (QueueKind::Classic, "rabbit_classic_queue"),
    (QueueKind::Quorum, "rabbit_quorum_queue"),
    (QueueKind::Stream, "rabbit_stream_queue"),
];

macro_rules! global {
    ($($name:literal, $of:expr, $help:literal;)*) => {
        [$(GlobalFamily { family: Family::counter($name, $help), of: $of },)*]
    };
}

/// By protocol and type of queue.
pub(super) const GLOBAL: [GlobalFamily; 8] = global! {
    "global_messages_delivered_total",
        |it| it.delivered + it.delivered_no_ack + it.got + it.got_no_ack,
        "Messages handed to consumers and gets";
    "global_messages_delivered_consume_manual_ack_total", |it| it.delivered,
        "Messages handed to consumers that acknowledge";
    "global_messages_delivered_consume_auto_ack_total", |it| it.delivered_no_ack,
        "Messages handed to consumers that do not acknowledge";
    "global_messages_delivered_get_manual_ack_total", |it| it.got,
        "Messages fetched by basic.get, to be acknowledged";
    "global_messages_delivered_get_auto_ack_total", |it| it.got_no_ack,
        "Messages fetched by basic.get without acknowledgement";
    "global_messages_get_empty_total", |it| it.get_empty,
        "Times that basic.get found no message";
    "global_messages_redelivered_total", |it| it.redelivered,
        "Messages handed out again";
    "global_messages_acknowledged_total", |it| it.acknowledged,
        "Messages that clients have acknowledged";
};
