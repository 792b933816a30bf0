//! Metrics of the node as a whole.

use warren_core::session::MESSAGE_SIZES;

use super::text::{Family, Kind, Text};
use super::traffic::Traffic;
use crate::statistics::ShardReport;
use crate::statistics::node::NodeReport;

/// What metrics of the node are read from.
#[derive(Debug, Clone)]
pub(super) struct NodeView {
    pub(super) report: NodeReport,
    pub(super) traffic: Traffic,
    pub(super) sizes: [u64; MESSAGE_SIZES.len() + 1],
    pub(super) shards: Vec<ShardReport>,
    pub(super) connections_opened: u64,
    pub(super) connections_closed: u64,
    pub(super) channels: u64,
    pub(super) publishers: u64,
    pub(super) logins_succeeded: u64,
    pub(super) logins_failed: u64,
    pub(super) consumers: u64,
    pub(super) queues: u64,
    /// Publishers wait because the volume is short of space, or the process of memory.
    pub(super) disk_alarm: i64,
    pub(super) memory_alarm: i64,
    /// Octets of the process, and from how many on publishers wait.
    pub(super) memory_used: u64,
    pub(super) memory_limit: u64,
}

/// A metric of the node.
pub(super) struct NodeFamily {
    pub(super) family: Family,
    /// The value of `family=` that asks for it; empty: none, it is on the other pages only.
    pub(super) asked_by: &'static str,
    pub(super) labels: &'static [(&'static str, &'static str)],
    pub(super) of: fn(&NodeView) -> f64,
}

const NONE: &[(&str, &str)] = &[];
const AMQP: &[(&str, &str)] = &[("protocol", "amqp091")];

macro_rules! families {
    ($($kind:ident $asked_by:literal $labels:ident $name:literal, $of:expr, $help:literal;)*) => {
        [$(NodeFamily {
            family: Family { name: $name, kind: Kind::$kind, help: $help },
            asked_by: $asked_by,
            labels: $labels,
            of: $of,
        },)*]
    };
}

/// One sample each.
pub(super) const NODE: [NodeFamily; 32] = families! {
    Counter "connection_churn_metrics" NONE "connections_opened_total", |it| it.connections_opened as f64,
        "Connections accepted";
    Counter "connection_churn_metrics" NONE "connections_closed_total", |it| it.connections_closed as f64,
        "Connections that ended";
    Counter "connection_churn_metrics" NONE "channels_opened_total", |it| it.traffic.channels_opened as f64,
        "Channels opened";
    Counter "connection_churn_metrics" NONE "channels_closed_total", |it| it.traffic.channels_closed as f64,
        "Channels closed";
    Counter "connection_churn_metrics" NONE "queues_declared_total", |it| it.traffic.queues_declared as f64,
        "Declarations of queues, also of queues that were there";
    Counter "connection_churn_metrics" NONE "queues_created_total", |it| it.traffic.queues_created as f64,
        "Queues created";
    Counter "connection_churn_metrics" NONE "queues_deleted_total", |it| it.traffic.queues_deleted as f64,
        "Queues deleted";
    Gauge "" NONE "connections", |it| it.connections_opened.saturating_sub(it.connections_closed) as f64,
        "Connections open";
    Gauge "" NONE "channels", |it| it.channels as f64, "Channels open";
    Gauge "" NONE "consumers", |it| it.consumers as f64, "Consumers";
    Gauge "" NONE "queues", |it| it.queues as f64, "Queues";
    Counter "auth_attempt_metrics" NONE "auth_attempts_total",
        |it| (it.logins_succeeded + it.logins_failed) as f64, "Logins that were tried";
    Counter "auth_attempt_metrics" NONE "auth_attempts_succeeded_total", |it| it.logins_succeeded as f64,
        "Logins that succeeded";
    Counter "auth_attempt_metrics" NONE "auth_attempts_failed_total", |it| it.logins_failed as f64,
        "Logins that were refused";
    Gauge "node_coarse_metrics" NONE "process_open_fds", |it| it.report.files_open as f64, "Open files and sockets";
    Gauge "node_metrics" NONE "process_max_fds", |it| it.report.files_max as f64, "Files and sockets that may be open";
    Gauge "node_coarse_metrics" NONE "process_resident_memory_bytes", |it| it.memory_used as f64,
        "Memory of the process";
    Gauge "node_metrics" NONE "resident_memory_limit_bytes", |it| it.memory_limit as f64,
        "Memory of the process from which on publishers wait";
    Gauge "node_coarse_metrics" NONE "disk_space_available_bytes", |it| it.report.disk_free as f64,
        "Free space on the volume of the log";
    Gauge "node_metrics" NONE "disk_space_available_limit_bytes", |it| it.report.disk_limit as f64,
        "Free space below which publishers wait";
    Gauge "node_metrics" NONE "erlang_uptime_seconds", |it| it.report.uptime.as_secs_f64(),
        "Time since the process started, under the name that dashboards look for";
    Gauge "alarm_metrics" NONE "alarms_memory_used_watermark", |it| it.memory_alarm as f64,
        "1 while publishers wait because memory is short";
    Gauge "alarm_metrics" NONE "alarms_free_disk_space_watermark", |it| it.disk_alarm as f64,
        "1 while publishers wait because the volume is short of space";
    Gauge "alarm_metrics" NONE "alarms_file_descriptor_limit",
        |it| f64::from(u8::from(it.report.files_open >= it.report.files_max)),
        "1 while as many files and sockets are open as may be";
    Counter "" AMQP "global_messages_received_total", |it| it.traffic.published as f64, "Messages published by clients";
    Counter "" AMQP "global_messages_received_confirm_total", |it| it.traffic.published_with_confirm as f64,
        "Messages published on channels with confirms";
    Counter "" AMQP "global_messages_confirmed_total", |it| it.traffic.confirmed as f64,
        "Messages confirmed to publishers";
    Counter "" AMQP "global_messages_routed_total", |it| it.traffic.routed as f64, "Copies of messages handed to queues";
    Counter "" AMQP "global_messages_unroutable_returned_total", |it| it.traffic.returned as f64,
        "Mandatory messages that no queue wanted, returned";
    Counter "" AMQP "global_messages_unroutable_dropped_total", |it| it.traffic.dropped as f64,
        "Messages that no queue wanted, dropped";
    Gauge "" AMQP "global_publishers", |it| it.publishers as f64, "Channels open that have published";
    Gauge "" AMQP "global_consumers", |it| it.consumers as f64, "Consumers";
};

/// The channels' counters, over all channels that there ever were.
pub(super) const CHANNEL_SUMS: [NodeFamily; 11] = families! {
    Counter "" NONE "channel_messages_published_total", |it| it.traffic.published as f64, "Messages published on channels";
    Counter "" NONE "channel_messages_confirmed_total", |it| it.traffic.confirmed as f64,
        "Messages published on channels and confirmed";
    Counter "" NONE "channel_messages_unroutable_returned_total", |it| it.traffic.returned as f64,
        "Mandatory messages that no queue wanted, returned";
    Counter "" NONE "channel_messages_unroutable_dropped_total", |it| it.traffic.dropped as f64,
        "Messages that no queue wanted, dropped";
    Counter "" NONE "channel_get_ack_total", |it| it.traffic.got as f64,
        "Messages fetched on channels by basic.get, to be acknowledged";
    Counter "" NONE "channel_get_total", |it| it.traffic.got_no_ack as f64,
        "Messages fetched on channels by basic.get without acknowledgement";
    Counter "" NONE "channel_get_empty_total", |it| it.traffic.get_empty as f64, "Times that basic.get found no message";
    Counter "" NONE "channel_messages_delivered_ack_total", |it| it.traffic.delivered as f64,
        "Messages sent to consumers that acknowledge";
    Counter "" NONE "channel_messages_delivered_total", |it| it.traffic.delivered_no_ack as f64,
        "Messages sent to consumers that do not acknowledge";
    Counter "" NONE "channel_messages_redelivered_total", |it| it.traffic.redelivered as f64, "Messages sent again";
    Counter "" NONE "channel_messages_acked_total", |it| it.traffic.acknowledged as f64,
        "Messages acknowledged on channels";
};

const MESSAGE_SIZE: Family =
    Family { name: "message_size_bytes", kind: Kind::Histogram, help: "Sizes of the bodies of published messages" };

/// RabbitMQ's histogram of message sizes.
pub(super) fn message_sizes(view: &NodeView, text: &mut Text) {
    text.histogram(&MESSAGE_SIZE, AMQP, &MESSAGE_SIZES, &view.sizes, view.traffic.published_bytes as f64);
}

/// A metric of Raft groups. Both names that RabbitMQ has had for it are written: the second since 4.2.
pub(super) struct RaftFamily {
    pub(super) old: Family,
    pub(super) new: Family,
    pub(super) of: fn(&ShardReport) -> f64,
    /// What stands for several groups.
    pub(super) of_all: fn(&[f64]) -> f64,
}

/// The groups by what they are for: RabbitMQ's words for its two.
pub(super) const RAFT_SYSTEMS: [(&str, &str); 2] = [("metadata", "coordination"), ("shard", "quorum_queues")];

fn sum(values: &[f64]) -> f64 {
    values.iter().sum()
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

macro_rules! raft {
    ($($old_kind:ident $old:literal $new:literal $of_all:ident, $of:expr, $help:literal;)*) => {
        [$(RaftFamily {
            old: Family { name: $old, kind: Kind::$old_kind, help: $help },
            new: Family { name: $new, kind: Kind::Gauge, help: $help },
            of: $of,
            of_all: $of_all,
        },)*]
    };
}

/// How far the groups are.
pub(super) const RAFT: [RaftFamily; 6] = raft! {
    Counter "raft_term_total" "raft_term" most, |it| it.raft.standing.term as f64, "Term of the group";
    Gauge "raft_log_commit_index" "raft_commit_index" sum, |it| it.raft.standing.committed as f64,
        "Last committed entry";
    Gauge "raft_log_last_written_index" "raft_last_written_index" sum, |it| it.raft.standing.written as f64,
        "Last entry that is durable";
    Gauge "raft_log_last_applied_index" "raft_last_applied" sum, |it| it.raft.standing.committed as f64,
        "Last entry that took effect";
    Gauge "raft_log_snapshot_index" "raft_snapshot_index" sum, |it| it.raft.snapshot as f64,
        "Last entry of the last checkpoint";
    Gauge "raft_entry_commit_latency_seconds" "raft_commit_latency_seconds" most,
        |it| it.raft.commit_latency.as_secs_f64(), "Time that the last entry took to be committed";
};
