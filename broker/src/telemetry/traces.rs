//! Traces: spans of messages that belong to a trace, sent to a collector of OpenTelemetry as OTLP over HTTP, in JSON.
//!
//! A session says which messages are followed, and what becomes of them (`warren_core::session::TraceEvent`). Its
//! connection's [`Tracer`] looks at the clock and hands finished spans to a queue that never waits. One task takes them from
//! there and sends them, [`SPANS_AT_ONCE`] at most in one request. What does not fit, and what the collector does not take, is
//! dropped and counted: traces are not worth a message's time.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};
use warren_core::queue::Settlement;
use warren_core::session::{TraceEvent, TraceOutcome, TracedMessage};
use warren_core::topology::Topology;

use crate::authentication::send_json;
use crate::config::TracesConfig;
use crate::limits::{SPANS_AT_ONCE, SPANS_DELAY, SPANS_WAITING, TRACES_FAREWELL};
use crate::metrics::TraceMetrics;
use crate::random::random;

/// Where spans go; cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    jobs: Sender<Job>,
    metrics: TraceMetrics,
    /// One in so many traces is followed.
    pub(crate) one_in: NonZeroU32,
}

#[derive(Debug)]
enum Job {
    Span(Box<Span>),
    /// Answered when all before it has been sent or dropped.
    Flush(oneshot::Sender<()>),
}

/// A span: a child of the publisher's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    id: [u8; 8],
    message: TracedMessage,
    /// The name of the queue that it comes from, if it was sent.
    queue: Option<Arc<str>>,
    /// Nanoseconds since the Unix epoch.
    begun: u64,
    ended: u64,
    outcome: TraceOutcome,
}

/// What is under way on one connection.
#[derive(Debug)]
pub(crate) struct Tracer {
    traces: Traces,
    open: HashMap<u64, Box<Span>>,
}

impl Traces {
    /// Starts the task that sends spans.
    pub(crate) fn start(config: TracesConfig, metrics: TraceMetrics) -> Self {
        let (jobs, queue) = mpsc::channel(SPANS_WAITING);
        let one_in = config.one_in;
        let exporter = Exporter { config, resource: resource(), metrics: metrics.clone(), fails: false };
        // It ends with the last connection and the node, which hold the other end.
        tokio::spawn(exporter.run(queue));
        Self { jobs, metrics, one_in }
    }

    /// Waits until what is finished has been sent, but not for long, and not beyond `end`.
    pub(crate) async fn flush(&self, end: Instant) {
        let (done, finished) = oneshot::channel();
        let flush = async {
            if self.jobs.send(Job::Flush(done)).await.is_ok() {
                // Without an answer there is nobody who could send anything.
                let _ = finished.await;
            }
        };
        // What is not sent then is lost, as it is when the process is killed.
        let _ = timeout_at(end.min(Instant::now() + TRACES_FAREWELL), flush).await;
    }

    fn finished(&self, span: Box<Span>) {
        if self.jobs.try_send(Job::Span(span)).is_err() {
            self.metrics.dropped_full.inc();
        }
    }
}

impl Tracer {
    pub(crate) fn new(traces: Traces) -> Self {
        Self { traces, open: HashMap::new() }
    }

    /// Takes what a session has told, just after it did.
    pub(crate) fn take(&mut self, events: &mut Vec<TraceEvent>, topology: &Topology) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        for event in events.drain(..) {
            match event {
                TraceEvent::Begun { span, message } => {
                    let queue = message.queue.and_then(|queue| topology.queue_by_id(queue));
                    let queue = queue.map(|record| Arc::clone(&record.name));
                    let (id, outcome) = ((random() as u64).max(1).to_be_bytes(), TraceOutcome::Abandoned);
                    self.open.insert(span, Box::new(Span { id, message, queue, begun: now, ended: now, outcome }));
                }
                TraceEvent::Ended { span, outcome } => {
                    if let Some(mut span) = self.open.remove(&span) {
                        (span.ended, span.outcome) = (now, outcome);
                        self.traces.finished(span);
                    }
                }
                TraceEvent::Missed => self.traces.metrics.dropped_under_way.inc(),
            }
        }
    }
}

/// The task that sends spans.
struct Exporter {
    config: TracesConfig,
    resource: Value,
    metrics: TraceMetrics,
    /// The last request failed, which is told once.
    fails: bool,
}

impl Exporter {
    async fn run(mut self, mut queue: Receiver<Job>) {
        let mut jobs = Vec::new();
        while queue.recv_many(&mut jobs, 1).await > 0 {
            self.gather(&mut queue, &mut jobs).await;
            let mut spans = Vec::with_capacity(jobs.len());
            let mut waiting = Vec::new();
            for job in jobs.drain(..) {
                match job {
                    Job::Span(span) => spans.push(span),
                    Job::Flush(done) => waiting.push(done),
                }
            }
            if !spans.is_empty() {
                self.send(&spans).await;
            }
            for done in waiting {
                // Who waited may have gone.
                let _ = done.send(());
            }
        }
    }

    /// Waits a moment for more to send with the first, unless somebody waits for all to be sent.
    async fn gather(&self, queue: &mut Receiver<Job>, jobs: &mut Vec<Job>) {
        let more = async {
            while jobs.len() < SPANS_AT_ONCE && !matches!(jobs.last(), Some(Job::Flush(_))) {
                if queue.recv_many(jobs, 1).await == 0 {
                    return;
                }
            }
        };
        // What has come until then is what is sent.
        let _ = timeout(SPANS_DELAY, more).await;
    }

    async fn send(&mut self, spans: &[Box<Span>]) {
        let TracesConfig { endpoint, ca, allow_http, one_in: _ } = &self.config;
        let document = document(&self.resource, spans).to_string();
        let sent = send_json(endpoint, ca.clone(), *allow_http, document.into_bytes()).await;
        match &sent {
            Ok(()) => self.metrics.exported.inc_by(spans.len() as u64),
            Err(_) => self.metrics.dropped_refused.inc_by(spans.len() as u64),
        }
        match &sent {
            Err(error) if !self.fails => {
                warn!(%error, endpoint, "the collector of traces takes no spans; they are dropped")
            }
            Ok(()) if self.fails => info!(endpoint, "the collector of traces takes spans again"),
            _ => {}
        }
        self.fails = sent.is_err();
    }
}

/// A request of OTLP: `ExportTraceServiceRequest` in the JSON form of protobuf, with octets in hexadecimal digits.
fn document(resource: &Value, spans: &[Box<Span>]) -> Value {
    let spans: Vec<_> = spans.iter().map(|span| span.json()).collect();
    let scope = json!({"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")});
    json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]})
}

fn resource() -> Value {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    json!({"attributes": [
        text("service.name", "warren-broker"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", &host),
    ]})
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// Numbers of 64 bits are text in protobuf's JSON.
fn number(key: &str, value: usize) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

impl Span {
    /// Names and attributes are those of OpenTelemetry's conventions for messaging and for RabbitMQ.
    fn json(&self) -> Value {
        let TracedMessage { context, exchange, routing_key, body_bytes, .. } = &self.message;
        let exchange_name = if exchange.is_empty() { "amq.default" } else { exchange };
        // A client of the broker calls it to publish; the broker calls its client to deliver.
        let (operation, kind, of_type) =
            if self.message.queue.is_none() { ("publish", 2, "send") } else { ("deliver", 3, "receive") };
        let destination = match &self.queue {
            Some(queue) if **queue == **routing_key => format!("{exchange_name}:{queue}"),
            Some(queue) => format!("{exchange_name}:{routing_key}:{queue}"),
            None => format!("{exchange_name}:{routing_key}"),
        };
        let name = self.queue.as_deref().unwrap_or(exchange_name);
        let (outcome, failed) = outcome(self.outcome);
        json!({
            "traceId": hex(&context.trace_id),
            "spanId": hex(&self.id),
            "parentSpanId": hex(&context.span_id),
            "traceState": context.state,
            // Sampled; the parent is in another process.
            "flags": 0x301,
            "name": format!("{operation} {name}"),
            "kind": kind,
            "startTimeUnixNano": self.begun.to_string(),
            "endTimeUnixNano": self.ended.to_string(),
            "attributes": [
                text("messaging.system", "rabbitmq"),
                text("messaging.operation.name", operation),
                text("messaging.operation.type", of_type),
                text("messaging.destination.name", &destination),
                text("messaging.rabbitmq.destination.routing_key", routing_key),
                number("messaging.message.body.size", *body_bytes),
                text("warren.outcome", outcome),
            ],
            "status": if failed { json!({"code": 2, "message": outcome}) } else { json!({}) },
        })
    }
}

/// What an outcome is called, and whether it is an error.
fn outcome(outcome: TraceOutcome) -> (&'static str, bool) {
    match outcome {
        TraceOutcome::Taken => ("taken", false),
        TraceOutcome::Unroutable => ("unroutable", false),
        TraceOutcome::Confirmed => ("confirmed", false),
        TraceOutcome::Refused => ("refused", true),
        TraceOutcome::Sent => ("sent", false),
        TraceOutcome::Settled(Settlement::Done) => ("acknowledged", false),
        TraceOutcome::Settled(Settlement::Reject) => ("rejected", true),
        TraceOutcome::Settled(_) => ("requeued", true),
        TraceOutcome::Abandoned => ("abandoned", true),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::post;
    use warren_core::QueueId;
    use warren_core::session::TraceContext;

    use super::*;
    use crate::metrics::Metrics;

    fn metrics() -> TraceMetrics {
        Metrics::new().expect("metrics").traces
    }

    fn span(queue: Option<&str>, outcome: TraceOutcome) -> Box<Span> {
        let context = TraceContext { trace_id: [0xab; 16], span_id: [0xcd; 8], state: String::new() };
        let queue = queue.map(Arc::from);
        let (exchange, routing_key) = (String::from("ex"), String::from("k\"\n"));
        let id = queue.as_ref().map(|_| QueueId(1));
        let message = TracedMessage { context, queue: id, exchange, routing_key, body_bytes: 5 };
        Box::new(Span { id: [1; 8], message, queue, begun: 10, ended: u64::MAX, outcome })
    }

    #[test]
    fn a_span_is_written_as_otlp_says() {
        let json = span(Some("q"), TraceOutcome::Settled(Settlement::Reject)).json();
        assert_eq!(json["traceId"], "abababababababababababababababab");
        assert_eq!((&json["spanId"], &json["parentSpanId"]), (&json!("0101010101010101"), &json!("cdcdcdcdcdcdcdcd")));
        assert_eq!((&json["name"], &json["kind"], &json["flags"]), (&json!("deliver q"), &json!(3), &json!(769)));
        assert_eq!(
            (&json["startTimeUnixNano"], &json["endTimeUnixNano"]),
            (&json!("10"), &json!("18446744073709551615"))
        );
        assert_eq!(json["status"], json!({"code": 2, "message": "rejected"}));
        let attributes = json["attributes"].as_array().expect("attributes");
        assert!(attributes.contains(&text("messaging.destination.name", "ex:k\"\n:q")), "{attributes:#?}");
        assert!(attributes.contains(&json!({"key": "messaging.message.body.size", "value": {"intValue": "5"}})));
        let json = span(None, TraceOutcome::Refused).json();
        assert_eq!(
            (&json["name"], &json["kind"], &json["status"]["code"]),
            (&json!("publish ex"), &json!(2), &json!(2))
        );
    }

    #[test]
    fn outcomes_that_lose_or_repeat_a_message_are_errors() {
        use TraceOutcome::{Abandoned, Confirmed, Refused, Sent, Settled, Taken, Unroutable};
        for good in [Taken, Unroutable, Confirmed, Sent, Settled(Settlement::Done)] {
            assert!(!outcome(good).1, "{good:?}");
        }
        let again = [Settlement::Requeue, Settlement::Fail, Settlement::Return, Settlement::Reject].map(Settled);
        for bad in again.into_iter().chain([Abandoned, Refused]) {
            assert!(outcome(bad).1, "{bad:?}");
        }
    }

    #[test]
    fn what_finds_no_place_in_the_queue_is_dropped_and_counted() {
        let (jobs, _queue) = mpsc::channel(SPANS_WAITING);
        let traces = Traces { jobs, metrics: metrics(), one_in: NonZeroU32::MIN };
        let before = traces.metrics.dropped_full.get();
        for dropped in [0, 1] {
            let count = if dropped == 0 { SPANS_WAITING } else { 1 };
            (0..count).for_each(|_| traces.finished(span(None, TraceOutcome::Taken)));
            assert_eq!(traces.metrics.dropped_full.get() - before, dropped);
        }
    }

    #[tokio::test]
    async fn a_request_has_512_spans_and_the_next_the_others() {
        let (sender, mut sizes) = mpsc::channel(8);
        let take = move |document: axum::body::Bytes| async move {
            let document: Value = serde_json::from_slice(&document).expect("JSON");
            let spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().map_or(0, Vec::len);
            sender.send(spans).await.expect("somebody counts");
            "{}"
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/traces", post(take))).await });
        let config = TracesConfig { endpoint, ca: None, allow_http: true, one_in: NonZeroU32::MIN };
        let traces = Traces::start(config, metrics());
        for count in [SPANS_AT_ONCE, SPANS_AT_ONCE + 1] {
            (0..count).for_each(|_| traces.finished(span(None, TraceOutcome::Taken)));
            assert_eq!(sizes.recv().await, Some(SPANS_AT_ONCE));
        }
        traces.flush(Instant::now() + TRACES_FAREWELL).await;
        assert_eq!(sizes.try_recv(), Ok(1));
        assert_eq!(traces.metrics.exported.get(), 2 * SPANS_AT_ONCE as u64 + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_two_seconds_for_the_last_spans() {
        let (jobs, _queue) = mpsc::channel(1);
        let traces = Traces { jobs, metrics: metrics(), one_in: NonZeroU32::MIN };
        let begun = Instant::now();
        traces.flush(begun + 10 * TRACES_FAREWELL).await;
        assert_eq!(begun.elapsed(), TRACES_FAREWELL);
        traces.flush(Instant::now()).await;
        assert_eq!(begun.elapsed(), TRACES_FAREWELL, "not beyond the end");
    }
}
