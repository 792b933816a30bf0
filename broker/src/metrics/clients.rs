//! Metrics of connections and channels.

use super::text::{Family, Kind};
use crate::statistics::{ChannelReport, ConnectionReport};

/// A metric of one connection.
pub(super) struct ConnectionFamily {
    pub(super) family: Family,
    /// The value of `family=` that asks for it (RabbitMQ's name).
    pub(super) asked_by: &'static str,
    pub(super) of: fn(&ConnectionReport) -> f64,
}

/// A metric of one channel.
pub(super) struct ChannelFamily {
    pub(super) family: Family,
    /// The value of `family=` that asks for it (RabbitMQ's name).
    pub(super) asked_by: &'static str,
    pub(super) of: fn(&ChannelReport) -> f64,
}

macro_rules! families {
    ($type:ident: $($kind:ident $asked_by:literal $name:literal, $of:expr, $help:literal;)*) => {
        [$($type {
            family: Family { name: $name, kind: Kind::$kind, help: $help },
            asked_by: $asked_by,
            of: $of,
        },)*]
    };
}

/// What goes through a connection.
pub(super) const CONNECTIONS: [ConnectionFamily; 5] = families! { ConnectionFamily:
    Counter "connection_coarse_metrics" "connection_incoming_bytes_total", |it| it.metered.received_bytes as f64,
        "Octets received by connections";
    Counter "connection_coarse_metrics" "connection_outgoing_bytes_total", |it| it.metered.sent_bytes as f64,
        "Octets sent by connections";
    Counter "connection_metrics" "connection_incoming_packets_total", |it| it.metered.received_count as f64,
        "Reads from sockets of connections that brought something";
    Counter "connection_metrics" "connection_outgoing_packets_total", |it| it.metered.sent_count as f64,
        "Writes to sockets of connections";
    Gauge "connection_metrics" "connection_channels",
        |it| it.session.as_ref().map_or(0, |session| session.channels.len()) as f64,
        "Channels of connections";
};

/// What goes over a channel.
pub(super) const CHANNELS: [ChannelFamily; 18] = families! { ChannelFamily:
    Gauge "channel_metrics" "channel_consumers", |it| it.channel.consumer_count as f64, "Consumers of channels";
    Gauge "channel_metrics" "channel_messages_unacked", |it| it.channel.unacknowledged as f64,
        "Messages delivered on channels and not acknowledged";
    Gauge "channel_metrics" "channel_messages_unconfirmed", |it| it.channel.unconfirmed as f64,
        "Messages published on channels and not confirmed";
    Gauge "channel_metrics" "channel_messages_uncommitted", |it| it.channel.uncommitted as f64,
        "Messages published in transactions and not committed";
    Gauge "channel_metrics" "channel_acks_uncommitted", |it| it.channel.acks_uncommitted as f64,
        "Acknowledgements in transactions that are not committed";
    Gauge "channel_metrics" "consumer_prefetch", |it| f64::from(it.channel.prefetch_count),
        "Messages that each new consumer of a channel may hold; 0 is any number";
    Gauge "channel_metrics" "channel_prefetch", |it| f64::from(it.channel.global_prefetch_count),
        "Messages that all consumers of a channel together may hold; 0 is any number";
    Counter "channel_exchange_metrics" "channel_messages_published_total", |it| it.channel.counters.published as f64,
        "Messages published on channels";
    Counter "channel_exchange_metrics" "channel_messages_confirmed_total", |it| it.channel.counters.confirmed as f64,
        "Messages published on channels and confirmed";
    Counter "channel_exchange_metrics" "channel_messages_unroutable_returned_total",
        |it| it.channel.counters.returned as f64, "Mandatory messages that no queue wanted, returned";
    Counter "channel_exchange_metrics" "channel_messages_unroutable_dropped_total",
        |it| it.channel.counters.dropped as f64, "Messages that no queue wanted, dropped";
    Counter "channel_queue_metrics" "channel_get_ack_total", |it| it.channel.counters.got as f64,
        "Messages fetched on channels by basic.get, to be acknowledged";
    Counter "channel_queue_metrics" "channel_get_total", |it| it.channel.counters.got_no_ack as f64,
        "Messages fetched on channels by basic.get without acknowledgement";
    Counter "channel_queue_metrics" "channel_get_empty_total", |it| it.channel.counters.get_empty as f64,
        "Times that basic.get found no message";
    Counter "channel_queue_metrics" "channel_messages_delivered_ack_total", |it| it.channel.counters.delivered as f64,
        "Messages sent to consumers that acknowledge";
    Counter "channel_queue_metrics" "channel_messages_delivered_total",
        |it| it.channel.counters.delivered_no_ack as f64, "Messages sent to consumers that do not acknowledge";
    Counter "channel_queue_metrics" "channel_messages_redelivered_total",
        |it| it.channel.counters.redelivered as f64, "Messages sent again";
    Counter "channel_queue_metrics" "channel_messages_acked_total", |it| it.channel.counters.acknowledged as f64,
        "Messages acknowledged on channels";
};
