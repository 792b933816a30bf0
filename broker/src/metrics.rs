//! Names and registration of the broker's metrics. RabbitMQ's names where it has one, ours under `warren_`.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use warren_core::forward::ForwardCounts;
use warren_core::queue::ShardTotals;
use warren_core::session::Counts;

/// Upper bounds of sync times in seconds: from a fast local disk to one that stalls.
const SYNC_SECONDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// All metrics of one node. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    messages: MessageCounters,
    forwarded: ForwardCounters,
    totals: Gauges,
    log_sync_seconds: Histogram,
    log_bytes: IntCounter,
    log_records: IntCounter,
    /// Connections accepted.
    pub(crate) connections_opened: IntCounter,
    /// Connections that ended.
    pub(crate) connections_closed: IntCounter,
    /// Logins that succeeded.
    pub(crate) logins_succeeded: IntCounter,
    /// Logins that were refused.
    pub(crate) logins_failed: IntCounter,
    /// Answers of issuers of tokens that could not be used.
    pub(crate) issuer_refresh_failures: IntCounter,
    /// Open channels.
    pub(crate) channels: IntGauge,
    /// 1 while memory is low.
    pub(crate) memory_alarm: IntGauge,
    /// 1 while space on the volume is low.
    pub(crate) disk_alarm: IntGauge,
    /// What became of the files for TLS.
    pub(crate) tls: TlsMetrics,
}

/// What became of the files for TLS.
#[derive(Debug, Clone)]
pub(crate) struct TlsMetrics {
    /// Changes that count now.
    pub(crate) reloads_taken: IntCounter,
    /// Changes that were refused.
    pub(crate) reloads_refused: IntCounter,
    /// 1 while the files hold what was refused.
    pub(crate) material_refused: IntGauge,
    /// When the server's certificate ends, in seconds since 1970.
    pub(crate) certificate_not_after: IntGauge,
    /// When the first list of revoked certificates is out of date, in seconds since 1970; 0: there is none.
    pub(crate) crl_next_update: IntGauge,
}

/// What became of the messages that clients published, since the process started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub(crate) received: u64,
    pub(crate) confirmed: u64,
    pub(crate) unroutable_returned: u64,
    pub(crate) unroutable_dropped: u64,
}

#[derive(Debug, Clone)]
struct MessageCounters {
    received: IntCounter,
    received_confirm: IntCounter,
    confirmed: IntCounter,
    routed: IntCounter,
    unroutable_returned: IntCounter,
    unroutable_dropped: IntCounter,
    delivered: IntCounter,
    redelivered: IntCounter,
    acknowledged: IntCounter,
    get_empty: IntCounter,
}

#[derive(Debug, Clone)]
struct ForwardCounters {
    expired: IntCounter,
    rejected: IntCounter,
    max_length: IntCounter,
    delivery_limit: IntCounter,
    confirmed: IntCounter,
    dropped: IntCounter,
}

/// Set when somebody scrapes.
#[derive(Debug, Clone)]
struct Gauges {
    connections: IntGauge,
    queues: IntGauge,
    consumers: IntGauge,
    ready: IntGauge,
    unacked: IntGauge,
    messages: IntGauge,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Two metrics have one name, which is a defect.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let log_sync_seconds = Histogram::with_opts(
            HistogramOpts::new("warren_log_sync_duration_seconds", "Time of one fdatasync of the log")
                .buckets(SYNC_SECONDS.to_vec()),
        )?;
        registry.register(Box::new(log_sync_seconds.clone()))?;
        Ok(Self {
            messages: MessageCounters::new(&registry)?,
            forwarded: ForwardCounters::new(&registry)?,
            totals: Gauges::new(&registry)?,
            log_sync_seconds,
            log_bytes: counter(&registry, "warren_log_written_bytes_total", "Octets written to the log")?,
            log_records: counter(&registry, "warren_log_records_total", "Records written to the log")?,
            connections_opened: counter(&registry, "rabbitmq_connections_opened_total", "Connections accepted")?,
            connections_closed: counter(&registry, "rabbitmq_connections_closed_total", "Connections that ended")?,
            logins_succeeded: counter(&registry, "rabbitmq_auth_attempts_succeeded_total", "Logins that succeeded")?,
            logins_failed: counter(&registry, "rabbitmq_auth_attempts_failed_total", "Logins that were refused")?,
            issuer_refresh_failures: counter(
                &registry,
                "warren_issuer_refresh_failures_total",
                "Answers of token issuers, when asked for their keys, that could not be used",
            )?,
            channels: gauge(&registry, "rabbitmq_channels", "Channels open")?,
            memory_alarm: gauge(&registry, "rabbitmq_alarms_memory_used_watermark", "1 while memory is low")?,
            disk_alarm: gauge(
                &registry,
                "rabbitmq_alarms_free_disk_space_watermark",
                "1 while space on the volume is low",
            )?,
            tls: TlsMetrics::new(&registry)?,
            registry,
        })
    }

    /// One sync of the log is done.
    pub(crate) fn log_synced(&self, records: usize, bytes: u64, duration: Duration) {
        self.log_records.inc_by(records as u64);
        self.log_bytes.inc_by(bytes);
        self.log_sync_seconds.observe(duration.as_secs_f64());
    }

    /// Adds what a session counted.
    pub(crate) fn count(&self, counts: &Counts) {
        if *counts == Counts::default() {
            return;
        }
        let pairs = [
            (&self.messages.received, counts.received),
            (&self.messages.received_confirm, counts.received_confirm),
            (&self.messages.confirmed, counts.confirmed),
            (&self.messages.routed, counts.routed),
            (&self.messages.unroutable_returned, counts.unroutable_returned),
            (&self.messages.unroutable_dropped, counts.unroutable_dropped),
            (&self.messages.delivered, counts.delivered),
            (&self.messages.redelivered, counts.redelivered),
            (&self.messages.acknowledged, counts.acknowledged),
            (&self.messages.get_empty, counts.get_empty),
        ];
        add(pairs);
    }

    /// What became of the messages that clients published.
    pub(crate) fn published(&self) -> Published {
        let of = &self.messages;
        Published {
            received: of.received.get(),
            confirmed: of.confirmed.get(),
            unroutable_returned: of.unroutable_returned.get(),
            unroutable_dropped: of.unroutable_dropped.get(),
        }
    }

    /// Adds what the forwarder counted.
    pub(crate) fn count_forwarded(&self, counts: &ForwardCounts) {
        add([
            (&self.forwarded.expired, counts.expired),
            (&self.forwarded.rejected, counts.rejected),
            (&self.forwarded.max_length, counts.max_length),
            (&self.forwarded.delivery_limit, counts.delivery_limit),
            (&self.forwarded.confirmed, counts.confirmed),
            (&self.forwarded.dropped, counts.dropped),
        ]);
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Errors
    /// A metric cannot be written as text, which is a defect.
    pub(crate) fn render(&self, totals: ShardTotals) -> Result<String, prometheus::Error> {
        let connections = self.connections_opened.get().saturating_sub(self.connections_closed.get());
        let pairs = [
            (&self.totals.connections, connections),
            (&self.totals.queues, totals.queues),
            (&self.totals.consumers, totals.consumers),
            (&self.totals.ready, totals.ready),
            (&self.totals.unacked, totals.unacked),
            (&self.totals.messages, totals.ready + totals.unacked),
        ];
        for (gauge, value) in pairs {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl MessageCounters {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let message =
            |name: &str, help: &str| counter(registry, &format!("rabbitmq_global_messages_{name}_total"), help);
        Ok(Self {
            received: message("received", "Messages published by clients")?,
            received_confirm: message("received_confirm", "Messages published on channels with confirms")?,
            confirmed: message("confirmed", "Messages confirmed to publishers")?,
            routed: message("routed", "Copies of messages handed to queues")?,
            unroutable_returned: message("unroutable_returned", "Messages that no queue wanted, returned")?,
            unroutable_dropped: message("unroutable_dropped", "Messages that no queue wanted, dropped")?,
            delivered: message("delivered", "Messages sent to consumers and gets")?,
            redelivered: message("redelivered", "Messages sent to consumers and gets again")?,
            acknowledged: message("acknowledged", "Messages acknowledged by clients")?,
            get_empty: message("get_empty", "Gets that found no message")?,
        })
    }
}

impl ForwardCounters {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let dead_lettered = |name: &str, help: &str| {
            counter(registry, &format!("rabbitmq_global_messages_dead_lettered_{name}_total"), help)
        };
        Ok(Self {
            expired: dead_lettered("expired", "Dead letters whose time was over")?,
            rejected: dead_lettered("rejected", "Dead letters that were rejected")?,
            max_length: dead_lettered("maxlen", "Dead letters of queues that were too long")?,
            delivery_limit: dead_lettered("delivery_limit", "Dead letters that came back too often")?,
            confirmed: dead_lettered(
                "confirmed",
                "Dead letters and delayed messages that have reached their next queues",
            )?,
            dropped: counter(
                registry,
                "warren_messages_forwarded_dropped_total",
                "Dead letters and delayed messages that no queue took",
            )?,
        })
    }
}

impl TlsMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let reloads = IntCounterVec::new(
            Opts::new("warren_tls_reloads_total", "Changes of the files for TLS, by what became of them"),
            &["result"],
        )?;
        registry.register(Box::new(reloads.clone()))?;
        Ok(Self {
            reloads_taken: reloads.with_label_values(&["taken"]),
            reloads_refused: reloads.with_label_values(&["refused"]),
            material_refused: gauge(
                registry,
                "warren_tls_material_refused",
                "1 while the files for TLS hold something that cannot be used",
            )?,
            certificate_not_after: gauge(
                registry,
                "warren_tls_certificate_not_after_seconds",
                "When the certificate in use ends, in seconds since 1970",
            )?,
            crl_next_update: gauge(
                registry,
                "warren_tls_crl_next_update_seconds",
                "When the first list of revoked certificates is out of date, in seconds since 1970",
            )?,
        })
    }
}

impl Gauges {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            connections: gauge(registry, "rabbitmq_connections", "Connections open")?,
            queues: gauge(registry, "rabbitmq_queues", "Queues")?,
            consumers: gauge(registry, "rabbitmq_consumers", "Consumers")?,
            ready: gauge(registry, "rabbitmq_queue_messages_ready", "Messages ready to be delivered")?,
            unacked: gauge(registry, "rabbitmq_queue_messages_unacked", "Messages delivered and not acknowledged yet")?,
            messages: gauge(registry, "rabbitmq_queue_messages", "Messages ready and unacknowledged")?,
        })
    }
}

fn add<'c>(pairs: impl IntoIterator<Item = (&'c IntCounter, u64)>) {
    for (counter, count) in pairs {
        if count > 0 {
            counter.inc_by(count);
        }
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::with_opts(Opts::new(name, help))?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::with_opts(Opts::new(name, help))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}
