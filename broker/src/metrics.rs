//! Names and registration of the broker's metrics. RabbitMQ's names where it has one, ours under `warren_`.

mod clients;
mod log;
mod node;
pub(crate) mod page;
mod queues;
pub(crate) mod scrape;
pub(crate) mod selection;
mod text;
mod traffic;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::sync::Semaphore;
use warren_core::forward::ForwardCounts;
use warren_core::session::{Counts, MESSAGE_SIZES};

use crate::authentication::Door;
use crate::limits::SCRAPES;
use crate::statistics::connection::Metered;
use crate::telemetry;
use log::LogMetrics;
use traffic::SharedTraffic;
pub(crate) use traffic::Traffic;

/// Upper bounds of sync times in seconds: from a fast local disk to one that stalls.
const SYNC_SECONDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// Counters and gauges of one node that are not read from elsewhere when somebody asks. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// What is ours alone.
    registry: Registry,
    traffic: Arc<SharedTraffic>,
    forwarded: IntCounter,
    dead_letters_arrived: IntCounter,
    forwarded_dropped: IntCounter,
    log: LogMetrics,
    confirm_seconds: Histogram,
    /// Pages that may be written at once; those of `/metrics` take none of these places.
    pub(crate) scrapes: Arc<Semaphore>,
    /// Connections accepted.
    pub(crate) connections_opened: IntCounter,
    /// Connections that ended.
    pub(crate) connections_closed: IntCounter,
    /// Logins, by what they came in by.
    pub(crate) logins: Logins,
    /// Answers of issuers of tokens that could not be used.
    pub(crate) issuer_refresh_failures: IntCounter,
    /// When the keys that count were fetched, in seconds since 1970, by issuer of tokens.
    issuer_keys: IntGaugeVec,
    /// Open channels.
    pub(crate) channels: IntGauge,
    /// Of these, those that have published.
    pub(crate) publishers: IntGauge,
    /// 1 while memory is low.
    pub(crate) memory_alarm: IntGauge,
    /// 1 while space on the volume is low.
    pub(crate) disk_alarm: IntGauge,
    /// What became of the files for TLS.
    pub(crate) tls: TlsMetrics,
    /// Connections that were not wanted.
    pub(crate) accepting: AcceptMetrics,
    /// What became of spans.
    pub(crate) traces: TraceMetrics,
}

/// Logins, by what they came in by.
#[derive(Debug, Clone)]
pub(crate) struct Logins {
    amqp: Attempts,
    http: Attempts,
}

/// Logins that were tried.
#[derive(Debug, Clone)]
pub(crate) struct Attempts {
    pub(crate) succeeded: IntCounter,
    /// Those that were refused.
    pub(crate) failed: IntCounter,
}

impl Logins {
    pub(crate) fn of(&self, door: Door) -> &Attempts {
        match door {
            Door::Amqp => &self.amqp,
            Door::Http => &self.http,
        }
    }

    fn succeeded(&self) -> u64 {
        self.amqp.succeeded.get() + self.http.succeeded.get()
    }

    fn failed(&self) -> u64 {
        self.amqp.failed.get() + self.http.failed.get()
    }
}

impl Attempts {
    fn new() -> Result<Self, prometheus::Error> {
        let counter = |name| IntCounter::new(name, "see node.rs");
        Ok(Self { succeeded: counter("succeeded")?, failed: counter("failed")? })
    }
}

/// Connections that were not wanted.
#[derive(Debug, Clone)]
pub(crate) struct AcceptMetrics {
    /// Those of sources that connect too often.
    pub(crate) refused_by_rate: IntCounter,
    /// Those that had not logged in when others needed their places.
    pub(crate) shed: IntCounter,
}

/// What became of spans.
#[derive(Debug, Clone)]
pub(crate) struct TraceMetrics {
    /// Those that the collector has taken.
    pub(crate) exported: IntCounter,
    /// Those that found no place in the queue.
    pub(crate) dropped_full: IntCounter,
    /// Those of connections that had too many under way.
    pub(crate) dropped_under_way: IntCounter,
    /// Those that the collector did not take.
    pub(crate) dropped_refused: IntCounter,
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

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Two metrics have one name, which is a defect.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        registry.register(Box::new(telemetry::dropped_lines()))?;
        Ok(Self {
            traffic: Arc::default(),
            forwarded: counter(
                &registry,
                "warren_messages_forwarded_total",
                "Dead letters and delayed messages that have reached their next queues",
            )?,
            dead_letters_arrived: IntCounter::new("unregistered_arrived", "see scrape.rs")?,
            forwarded_dropped: counter(
                &registry,
                "warren_messages_forwarded_dropped_total",
                "Dead letters and delayed messages that no queue took",
            )?,
            log: LogMetrics::new(&registry)?,
            confirm_seconds: histogram(
                &registry,
                "warren_confirm_duration_seconds",
                "Time from a publish to its confirm, of one publish of each connection at a time",
                &SYNC_SECONDS,
            )?,
            scrapes: Arc::new(Semaphore::new(SCRAPES)),
            connections_opened: IntCounter::new("connections_opened", "see node.rs")?,
            connections_closed: IntCounter::new("connections_closed", "see node.rs")?,
            logins: Logins { amqp: Attempts::new()?, http: Attempts::new()? },
            channels: IntGauge::new("channels", "see node.rs")?,
            publishers: IntGauge::new("publishers", "see node.rs")?,
            memory_alarm: IntGauge::new("memory_alarm", "see node.rs")?,
            disk_alarm: IntGauge::new("disk_alarm", "see node.rs")?,
            issuer_keys: issuer_keys(&registry)?,
            issuer_refresh_failures: counter(
                &registry,
                "warren_issuer_refresh_failures_total",
                "Answers of token issuers, when asked for their keys, that could not be used",
            )?,
            tls: TlsMetrics::new(&registry)?,
            accepting: AcceptMetrics::new(&registry)?,
            traces: TraceMetrics::new(&registry)?,
            registry,
        })
    }

    /// One sync of the log is done.
    pub(crate) fn log_synced(&self, records: usize, bytes: u64, duration: Duration) {
        self.log.synced(records, bytes, duration);
    }

    /// An entry took so long to be committed.
    pub(crate) fn entry_committed(&self, latency: Duration) {
        self.log.committed(latency);
    }

    /// A publish took so long to be confirmed.
    pub(crate) fn confirmed(&self, latency: Duration) {
        self.confirm_seconds.observe(latency.as_secs_f64());
    }

    /// A checkpoint has been made.
    pub(crate) fn checkpoint_made(&self) {
        self.log.checkpoint_made();
    }

    /// When the keys of that issuer were fetched: 0 until that is said.
    pub(crate) fn issuer_keys(&self, issuer: &str) -> IntGauge {
        self.issuer_keys.with_label_values(&[issuer])
    }

    /// Adds what a session counted.
    pub(crate) fn count(&self, counts: &Counts) {
        if *counts != Counts::default() {
            self.traffic.count(counts);
        }
    }

    /// Adds what has happened to queues.
    pub(crate) fn add(&self, traffic: &Traffic) {
        self.traffic.add(traffic);
    }

    /// A connection has ended.
    pub(crate) fn connection_ended(&self, metered: &Metered) {
        self.connections_closed.inc();
        self.traffic.add(&Traffic {
            closed_received_bytes: metered.received_bytes,
            closed_received_count: metered.received_count,
            closed_sent_bytes: metered.sent_bytes,
            closed_sent_count: metered.sent_count,
            ..Traffic::default()
        });
    }

    /// What has happened so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic.read()
    }

    fn message_sizes(&self) -> [u64; MESSAGE_SIZES.len() + 1] {
        self.traffic.sizes()
    }

    /// Adds what the forwarder counted.
    pub(crate) fn count_forwarded(&self, counts: &ForwardCounts) {
        self.forwarded.inc_by(counts.confirmed);
        self.dead_letters_arrived.inc_by(counts.at_least_once);
        self.forwarded_dropped.inc_by(counts.dropped);
    }

    /// Dead letters that have reached their next queues, of queues that insist on it.
    fn dead_letters_arrived(&self) -> u64 {
        self.dead_letters_arrived.get()
    }

    /// What is in the registry, as Prometheus reads it. The log has so many files and octets.
    ///
    /// # Errors
    /// A metric cannot be written as text, which is a defect.
    fn render(&self, segments: u64, bytes: u64) -> Result<String, prometheus::Error> {
        self.log.set_size(segments, bytes);
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl AcceptMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let dropped = IntCounterVec::new(
            Opts::new("warren_connections_dropped_total", "Connections that were dropped for what they are, by why"),
            &["reason"],
        )?;
        registry.register(Box::new(dropped.clone()))?;
        let of = |reason| dropped.with_label_values(&[reason]);
        Ok(Self { refused_by_rate: of("source_rate"), shed: of("half_open") })
    }
}

impl TraceMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let dropped = IntCounterVec::new(
            Opts::new("warren_trace_spans_dropped_total", "Spans that no collector has, by why"),
            &["reason"],
        )?;
        registry.register(Box::new(dropped.clone()))?;
        let of = |reason| dropped.with_label_values(&[reason]);
        Ok(Self {
            exported: counter(registry, "warren_trace_spans_exported_total", "Spans that the collector has taken")?,
            dropped_full: of("queue_full"),
            dropped_under_way: of("under_way"),
            dropped_refused: of("collector"),
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

fn issuer_keys(registry: &Registry) -> Result<IntGaugeVec, prometheus::Error> {
    let fetched = IntGaugeVec::new(
        Opts::new(
            "warren_issuer_keys_timestamp_seconds",
            "When the keys of a token issuer were fetched, in seconds since 1970; 0: not since the process started",
        ),
        &["issuer"],
    )?;
    registry.register(Box::new(fetched.clone()))?;
    Ok(fetched)
}

/// Now.
pub(crate) fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}

fn histogram(registry: &Registry, name: &str, help: &str, bounds: &[f64]) -> Result<Histogram, prometheus::Error> {
    let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(bounds.to_vec()))?;
    registry.register(Box::new(histogram.clone()))?;
    Ok(histogram)
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
