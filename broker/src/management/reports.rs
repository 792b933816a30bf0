//! Statistics as JSON, with RabbitMQ's names: counts, and beside each `…_details` with what it grew by in a second.

use serde_json::{Map, Value as Json, json};
use warren_core::queue::QueueCounters;
use warren_core::session::ChannelCounters;

use crate::clock;
use crate::node;
use crate::statistics::connection::{ConnectionFacts, Metered};
use crate::statistics::exchange::ExchangeCounters;
use crate::statistics::{ChannelReport, ConnectionReport, ConsumerReport, ExchangeReport, QueueReport, Rates};

use super::json::of_table;

/// Fields of an object that is put together.
pub(super) type Fields = Map<String, Json>;

/// Puts in a count and its rate.
pub(super) fn rated(out: &mut Fields, name: &str, count: u64, grown: i128, rates: &Rates) {
    out.insert(name.to_owned(), count.into());
    out.insert(format!("{name}_details"), json!({"rate": rates.per_second(grown)}));
}

/// How often something was done, by RabbitMQ's names for it: since it began, and in the last interval.
#[derive(Debug, Default)]
pub(super) struct MessageStats(Vec<(&'static str, u64, u64)>);

impl MessageStats {
    pub(super) fn of_queue(all: &QueueCounters, more: &QueueCounters) -> Self {
        let count = |count: fn(&QueueCounters) -> u64| (count(all), count(more));
        Self::handed_out(count(handed_out_of), count(|of| of.delivered), count(|of| of.delivered_no_ack))
            .and("get", count(|of| of.got))
            .and("get_no_ack", count(|of| of.got_no_ack))
            .and("get_empty", count(|of| of.get_empty))
            .and("redeliver", count(|of| of.redelivered))
            .and("ack", count(|of| of.acknowledged))
            .and("publish", count(|of| of.published))
    }

    pub(super) fn of_channel(all: &ChannelCounters, more: &ChannelCounters) -> Self {
        let count = |count: fn(&ChannelCounters) -> u64| (count(all), count(more));
        Self::handed_out(count(sent_on), count(|of| of.delivered), count(|of| of.delivered_no_ack))
            .and("get", count(|of| of.got))
            .and("get_no_ack", count(|of| of.got_no_ack))
            .and("get_empty", count(|of| of.get_empty))
            .and("redeliver", count(|of| of.redelivered))
            .and("ack", count(|of| of.acknowledged))
            .and("publish", count(|of| of.published))
            .and("confirm", count(|of| of.confirmed))
            .and("return_unroutable", count(|of| of.returned))
            .and("drop_unroutable", count(|of| of.dropped))
    }

    pub(super) fn of_exchange(ExchangeReport { counters, sample }: &ExchangeReport) -> Self {
        let count = |count: fn(&ExchangeCounters) -> u64| (count(counters), count(sample));
        Self::default().and("publish_in", count(|of| of.published_in)).and("publish_out", count(|of| of.published_out))
    }

    fn handed_out(all: (u64, u64), delivered: (u64, u64), delivered_no_ack: (u64, u64)) -> Self {
        Self::default().and("deliver_get", all).and("deliver", delivered).and("deliver_no_ack", delivered_no_ack)
    }

    /// With one more count, or another one in the place of that of the same name.
    pub(super) fn and(mut self, name: &'static str, (all, more): (u64, u64)) -> Self {
        self.0.retain(|(known, _, _)| *known != name);
        self.0.push((name, all, more));
        self
    }

    /// The object `message_stats`; none, as in RabbitMQ, as long as nothing was ever done.
    pub(super) fn put_into(self, out: &mut Fields, rates: &Rates) {
        if self.0.iter().all(|(_, all, _)| *all == 0) {
            return;
        }
        let mut stats = Map::new();
        for (name, all, more) in self.0 {
            rated(&mut stats, name, all, more.into(), rates);
        }
        out.insert("message_stats".to_owned(), Json::Object(stats));
    }
}

fn handed_out_of(counters: &QueueCounters) -> u64 {
    counters.delivered + counters.delivered_no_ack + counters.got + counters.got_no_ack
}

fn sent_on(counters: &ChannelCounters) -> u64 {
    counters.delivered + counters.delivered_no_ack + counters.got + counters.got_no_ack
}

/// How many messages there are of each kind, with rates.
pub(super) fn put_depth(out: &mut Fields, [ready, unacked]: [u64; 2], more: [i128; 2], rates: &Rates) {
    rated(out, "messages", ready + unacked, more[0] + more[1], rates);
    rated(out, "messages_ready", ready, more[0], rates);
    rated(out, "messages_unacknowledged", unacked, more[1], rates);
}

/// What a shard says of a queue.
pub(super) fn put_queue(out: &mut Fields, report: &QueueReport, rates: &Rates) {
    let QueueReport { record, statistics: of, sample, consumer_capacity } = report;
    put_depth(out, [of.ready, of.unacked], [sample.ready.into(), sample.unacked.into()], rates);
    let messages = of.ready + of.unacked;
    let fields = [
        ("consumers", of.consumer_count.into()),
        ("consumer_capacity", (*consumer_capacity).into()),
        ("consumer_utilisation", (*consumer_capacity).into()),
        ("memory", of.memory.into()),
        ("messages_ram", of.memory_messages.into()),
        ("messages_persistent", messages.saturating_sub(of.memory_messages).into()),
        ("messages_dlx", of.waiting.into()),
        ("message_bytes", of.bytes.into()),
        ("message_bytes_ready", of.ready_bytes.into()),
        ("message_bytes_unacknowledged", of.bytes.saturating_sub(of.ready_bytes).into()),
        ("message_bytes_ram", of.memory_bytes.into()),
        ("message_bytes_persistent", of.bytes.saturating_sub(of.memory_bytes).into()),
        ("head_message_timestamp", of.head_timestamp.into()),
    ];
    out.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    if let Some(worked_ms) = of.worked_ms {
        out.insert("idle_since".to_owned(), date_time(worked_ms).into());
    }
    if record.queue_type() != "classic" {
        // One node leads and holds everything.
        out.insert("leader".to_owned(), node::name().into());
        out.insert("members".to_owned(), json!([node::name()]));
        out.insert("online".to_owned(), json!([node::name()]));
    }
    MessageStats::of_queue(&of.counters, &sample.counters).put_into(out, rates);
}

/// A connection as RabbitMQ shows it; one that is new shows no more than its socket.
pub(super) fn connection(report: &ConnectionReport, rates: &Rates) -> Fields {
    let ConnectionReport { facts, metered, sample, session } = report;
    let mut out = network(facts);
    put_octets(&mut out, metered, sample, rates);
    let state = session.as_ref().map_or("starting", |session| session.state.name());
    out.insert("state".to_owned(), state.into());
    if let Some(session) = session {
        let properties = of_table(&session.client_properties);
        let provided = properties.get("connection_name").cloned().unwrap_or_default();
        let fields = [
            ("user", session.user.as_str().into()),
            ("vhost", (*session.vhost).into()),
            ("auth_mechanism", session.mechanism.as_str().into()),
            ("channel_max", session.channel_max.into()),
            ("frame_max", session.frame_max.into()),
            ("timeout", session.heartbeat_secs.into()),
            ("channels", session.channels.len().into()),
            ("user_provided_name", provided),
            ("client_properties", properties),
        ];
        out.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    }
    out
}

fn network(facts: &ConnectionFacts) -> Fields {
    let tls = facts.tls.as_ref();
    let (kind, protocol) = match facts.inside {
        Some(_) => ("direct", "Direct 0-9-1"),
        None => ("network", "AMQP 0-9-1"),
    };
    let fields = [
        ("name", facts.name().into()),
        ("node", node::name().into()),
        ("type", kind.into()),
        ("protocol", protocol.into()),
        ("host", facts.local.ip().to_string().into()),
        ("port", facts.local.port().into()),
        ("peer_host", facts.peer.ip().to_string().into()),
        ("peer_port", facts.peer.port().into()),
        ("connected_at", facts.connected_at_ms.into()),
        ("ssl", tls.is_some().into()),
        ("ssl_protocol", tls.map(|tls| tls.version).into()),
        ("ssl_cipher", tls.map(|tls| tls.cipher.as_str()).into()),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// What has gone through sockets.
pub(super) fn put_octets(out: &mut Fields, all: &Metered, more: &Metered, rates: &Rates) {
    rated(out, "recv_oct", all.received_bytes, more.received_bytes.into(), rates);
    rated(out, "send_oct", all.sent_bytes, more.sent_bytes.into(), rates);
    out.insert("recv_cnt".to_owned(), all.received_count.into());
    out.insert("send_cnt".to_owned(), all.sent_count.into());
    out.insert("send_pend".to_owned(), all.unsent_bytes.into());
}

/// The name of a channel: its connection's, and its number.
pub(super) fn channel_name(facts: &ConnectionFacts, number: u16) -> String {
    format!("{} ({number})", facts.name())
}

fn connection_details(facts: &ConnectionFacts) -> Json {
    json!({"name": facts.name(), "peer_host": facts.peer.ip().to_string(), "peer_port": facts.peer.port()})
}

/// A channel as RabbitMQ shows it.
pub(super) fn channel(report: &ChannelReport, rates: &Rates) -> Fields {
    let ChannelReport { connection, session, channel: of, sample } = report;
    let fields = [
        ("name", channel_name(connection, of.number).into()),
        ("number", of.number.into()),
        ("node", node::name().into()),
        ("user", session.user.as_str().into()),
        ("vhost", (*session.vhost).into()),
        ("state", session.state.name().into()),
        ("connection_details", connection_details(connection)),
        ("confirm", of.confirm.into()),
        ("transactional", of.transactional.into()),
        ("prefetch_count", of.prefetch_count.into()),
        ("global_prefetch_count", of.global_prefetch_count.into()),
        ("consumer_count", of.consumer_count.into()),
        ("messages_unacknowledged", of.unacknowledged.into()),
        ("messages_unconfirmed", of.unconfirmed.into()),
        ("messages_uncommitted", of.uncommitted.into()),
        ("acks_uncommitted", of.acks_uncommitted.into()),
    ];
    let mut out: Fields = fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    MessageStats::of_channel(&of.counters, sample).put_into(&mut out, rates);
    out
}

/// A consumer as RabbitMQ shows it.
pub(super) fn consumer(report: &ConsumerReport) -> Json {
    let ConsumerReport { queue, connection, user, subscriber, consumer } = report;
    let number = consumer.key.channel;
    json!({
        "consumer_tag": &*subscriber.tag,
        "arguments": of_table(&subscriber.arguments),
        "ack_required": consumer.ack_required,
        "active": consumer.status.is_active(),
        "activity_status": consumer.status.name(),
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch_count,
        "consumer_timeout": consumer.timeout.unwrap_or_default(),
        "queue": {"name": &*queue.name, "vhost": &*queue.vhost},
        "channel_details": {
            "name": channel_name(connection, number),
            "number": number,
            "connection_name": connection.name(),
            "node": node::name(),
            "peer_host": connection.peer.ip().to_string(),
            "peer_port": connection.peer.port(),
            "user": user,
        },
    })
}

/// Milliseconds since the Unix epoch as RabbitMQ writes them: `2026-11-23T14:14:08.067+00:00`.
pub(super) fn date_time(unix_ms: u64) -> String {
    format!("{}+00:00", clock::date_time(unix_ms))
}
