//! The operator's Prometheus metrics: names and registration, nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::consumers::series::ConsumerSeries;

/// The result of a reconcile whose MessageQueue is no more.
pub const GONE: &str = "gone";

/// All series of the operator. Label values come from closed sets, and only those of consumers from names of objects.
pub struct Metrics {
    registry: Registry,
    /// What is known of consumers.
    pub consumers: ConsumerSeries,
    /// Reconciles that ended, by `result`: `settled`, `progressing`, `paused`, `refused`, `gone` or `error`.
    pub reconciles: IntCounterVec,
    /// Reconciles that failed, by the `step` that failed.
    pub reconcile_errors: IntCounterVec,
    /// Seconds from the start to the end of a reconcile.
    pub reconcile_duration: Histogram,
    /// Objects written or deleted, by `kind`. It stands still while nothing changes.
    pub writes: IntCounterVec,
    /// Watches that were interrupted and started again.
    pub watch_errors: IntCounter,
    /// 1 while this operator works, 0 while another does.
    pub leader: IntGauge,
    /// MessageQueues by how their last reconcile ended, as in `reconciles`.
    queues: IntGaugeVec,
    /// How the last reconcile of each MessageQueue ended, by namespace and name.
    results: Mutex<HashMap<(String, String), &'static str>>,
}

impl Metrics {
    /// Registers all series.
    ///
    /// # Errors
    /// When two series have the same name, which the tests rule out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, label: &str| -> Result<IntCounterVec, prometheus::Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let reconciles = counter("warren_operator_reconciles_total", "Reconciles that ended, by result.", "result")?;
        let reconcile_errors = counter(
            "warren_operator_reconcile_errors_total",
            "Reconciles that failed, by the step that failed.",
            "step",
        )?;
        let writes = counter("warren_operator_writes_total", "Objects written or deleted, by kind.", "kind")?;
        let watch_errors = IntCounter::new("warren_operator_watch_errors_total", "Watches that were interrupted.")?;
        registry.register(Box::new(watch_errors.clone()))?;
        let reconcile_duration = Histogram::with_opts(HistogramOpts::new(
            "warren_operator_reconcile_duration_seconds",
            "Time from the start to the end of a reconcile.",
        ))?;
        registry.register(Box::new(reconcile_duration.clone()))?;
        let leader = IntGauge::new("warren_operator_leader", "1 while this operator works, 0 while another does.")?;
        registry.register(Box::new(leader.clone()))?;
        let queues = IntGaugeVec::new(
            Opts::new("warren_operator_message_queues", "MessageQueues by how their last reconcile ended."),
            &["result"],
        )?;
        registry.register(Box::new(queues.clone()))?;
        let consumers = ConsumerSeries::new()?;
        registry.register(Box::new(consumers.clone()))?;
        let results = Mutex::default();
        Ok(Self {
            registry,
            consumers,
            reconciles,
            reconcile_errors,
            reconcile_duration,
            writes,
            watch_errors,
            leader,
            queues,
            results,
        })
    }

    /// Counts a reconcile of a MessageQueue that ended with `result`; `gone` is one that there is no more.
    pub fn reconciled(&self, namespace: &str, name: &str, result: &'static str) {
        self.reconciles.with_label_values(&[result]).inc();
        let key = (namespace.to_owned(), name.to_owned());
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let before = if result == GONE { results.remove(&key) } else { results.insert(key, result) };
        if let Some(before) = before {
            self.queues.with_label_values(&[before]).dec();
        }
        if result != GONE {
            self.queues.with_label_values(&[result]).inc();
        }
    }

    /// MessageQueues that are not there count no more.
    pub fn keep_only(&self, is_there: impl Fn(&str, &str) -> bool) {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.retain(|(namespace, name), result| {
            let stays = is_there(namespace, name);
            if !stays {
                self.queues.with_label_values(&[*result]).dec();
            }
            stays
        });
    }

    /// Another operator works, and knows better than this one how many MessageQueues there are.
    pub fn stands_by(&self) {
        self.leader.set(0);
        self.results.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.queues.reset();
    }

    /// All series in Prometheus' text format 0.0.4.
    ///
    /// # Errors
    /// When a series cannot be encoded, which the tests rule out.
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::{GONE, Metrics};

    #[test]
    fn every_series_has_a_unique_name_and_is_encoded() {
        let metrics = Metrics::new().unwrap();
        metrics.reconciled("a", "b", "settled");
        metrics.reconcile_errors.with_label_values(&["apply"]).inc();
        metrics.writes.with_label_values(&["Service"]).inc();
        metrics.watch_errors.inc();
        metrics.reconcile_duration.observe(0.1);
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert_eq!(
            names,
            [
                "warren_operator_leader gauge",
                "warren_operator_message_queues gauge",
                "warren_operator_reconcile_duration_seconds histogram",
                "warren_operator_reconcile_errors_total counter",
                "warren_operator_reconciles_total counter",
                "warren_operator_watch_errors_total counter",
                "warren_operator_writes_total counter",
            ]
        );
    }

    #[test]
    fn each_queue_counts_once_under_its_last_result() {
        let metrics = Metrics::new().unwrap();
        let count = |result: &str| metrics.queues.with_label_values(&[result]).get();
        metrics.reconciled("a", "b", "progressing");
        metrics.reconciled("a", "b", "settled");
        metrics.reconciled("a", "c", "settled");
        metrics.reconciled("a", "c", "settled");
        assert_eq!((count("progressing"), count("settled")), (0, 2));
        metrics.reconciled("a", "b", GONE);
        metrics.reconciled("a", "never seen", GONE);
        assert_eq!((count("settled"), count(GONE)), (1, 0));
        metrics.stands_by();
        assert_eq!(count("settled"), 0);
    }
}
