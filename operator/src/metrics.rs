//! The operator's Prometheus metrics: names and registration, nothing else.

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// All series of the operator. Label values come from closed sets, never from names of objects.
pub struct Metrics {
    registry: Registry,
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
        Ok(Self { registry, reconciles, reconcile_errors, reconcile_duration, writes, watch_errors, leader })
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
    use super::Metrics;

    #[test]
    fn every_series_has_a_unique_name_and_is_encoded() {
        let metrics = Metrics::new().unwrap();
        metrics.reconciles.with_label_values(&["settled"]).inc();
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
                "warren_operator_reconcile_duration_seconds histogram",
                "warren_operator_reconcile_errors_total counter",
                "warren_operator_reconciles_total counter",
                "warren_operator_watch_errors_total counter",
                "warren_operator_writes_total counter",
            ]
        );
    }
}
