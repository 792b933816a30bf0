//! What was measured, and what becomes of several of it.

use serde::Serialize;

use crate::broker::Product;

/// What a number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Messages per second that came to consumers.
    Rate,
    /// Messages per second that were published and confirmed.
    PublishRate,
    /// Messages per second out of a long queue.
    DrainRate,
    /// Median time to the confirm, in microseconds.
    ConfirmP50,
    /// Its 99th percentile.
    ConfirmP99,
    /// Median time from sending to arrival, in microseconds.
    DeliveryP50,
    /// Its 99th percentile.
    DeliveryP99,
    /// Processor time of the broker per message, in microseconds.
    Processor,
    /// Octets that the disk wrote per message.
    Written,
    /// Milliseconds from the start to the open port.
    Start,
    /// Milliseconds from the start with a long queue until its length is known.
    Restart,
    /// Megabytes that the broker occupies.
    Resident,
    /// Octets of memory per thing (connection, queue, queued message).
    PerThing,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Sample {
    pub(crate) scenario: &'static str,
    pub(crate) metric: Metric,
    pub(crate) product: Product,
    /// From 0.
    pub(crate) repeat: u32,
    pub(crate) value: f64,
    /// What the machine's limits, measured just before, allow at best.
    pub(crate) limit: Option<f64>,
    /// The machine's load average when it began.
    pub(crate) load_average: f64,
}

/// Median and extremes of several values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// All samples of one metric of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) metric: Metric,
    pub(crate) warren: Option<Spread>,
    pub(crate) rabbitmq: Option<Spread>,
    /// How many times better ours is; below 1 it is worse.
    pub(crate) ratio: Option<f64>,
    /// Median of the limits beside our samples.
    pub(crate) limit: Option<f64>,
}

impl Metric {
    /// What it is called in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Rate => "messages/s",
            Self::PublishRate => "published/s",
            Self::DrainRate => "drained/s",
            Self::ConfirmP50 => "confirm p50, µs",
            Self::ConfirmP99 => "confirm p99, µs",
            Self::DeliveryP50 => "delivery p50, µs",
            Self::DeliveryP99 => "delivery p99, µs",
            Self::Processor => "CPU µs/message",
            Self::Written => "bytes written/message",
            Self::Start => "start, ms",
            Self::Restart => "restart, ms",
            Self::Resident => "resident, MB",
            Self::PerThing => "bytes each",
        }
    }

    /// A suffix for names where a scenario has more than one.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Rate => "",
            Self::PublishRate => "-published",
            Self::DrainRate => "-drained",
            Self::ConfirmP50 => "-confirm-p50-us",
            Self::ConfirmP99 => "-confirm-p99-us",
            Self::DeliveryP50 => "-delivery-p50-us",
            Self::DeliveryP99 => "-delivery-p99-us",
            Self::Processor => "-cpu-us",
            Self::Written => "-written-bytes",
            Self::Start => "-ms",
            Self::Restart => "-restart-ms",
            Self::Resident => "-resident-mb",
            Self::PerThing => "-bytes-each",
        }
    }

    fn is_better_if_larger(self) -> bool {
        matches!(self, Self::Rate | Self::PublishRate | Self::DrainRate)
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median, min, max })
    }
}

/// A row for each metric of each scenario, in the order in which they first came.
pub(crate) fn rows(samples: &[Sample]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for Sample { scenario, metric, .. } in samples {
        if !rows.iter().any(|row| (row.scenario, row.metric) == (*scenario, *metric)) {
            rows.push(row(samples, scenario, *metric));
        }
    }
    rows
}

fn row(samples: &[Sample], scenario: &'static str, metric: Metric) -> Row {
    let of = |product| {
        samples
            .iter()
            .filter(move |sample| (sample.scenario, sample.metric, sample.product) == (scenario, metric, product))
    };
    let spread = |product| Spread::of(of(product).map(|sample| sample.value).collect());
    let (warren, rabbitmq) = (spread(Product::Warren), spread(Product::RabbitMq));
    let ratio = warren.zip(rabbitmq).map(|(ours, theirs)| {
        if metric.is_better_if_larger() { ours.median / theirs.median } else { theirs.median / ours.median }
    });
    let limit = Spread::of(of(Product::Warren).filter_map(|sample| sample.limit).collect());
    Row { scenario, metric, warren, rabbitmq, ratio, limit: limit.map(|limit| limit.median) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(product: Product, metric: Metric, value: f64) -> Sample {
        Sample { scenario: "s", metric, product, repeat: 0, value, limit: Some(10.0 * value), load_average: 0.0 }
    }

    #[test]
    fn a_ratio_above_one_means_that_ours_is_better() {
        let samples = [
            sample(Product::Warren, Metric::Rate, 30.0),
            sample(Product::RabbitMq, Metric::Rate, 10.0),
            sample(Product::Warren, Metric::ConfirmP50, 30.0),
            sample(Product::RabbitMq, Metric::ConfirmP50, 60.0),
        ];
        let ratios: Vec<_> = rows(&samples).iter().map(|row| (row.metric, row.ratio)).collect();
        assert_eq!(ratios, [(Metric::Rate, Some(3.0)), (Metric::ConfirmP50, Some(2.0))]);
    }

    #[test]
    fn medians_and_extremes_are_of_all_repeats() {
        let samples = [5.0, 1.0, 4.0, 2.0].map(|value| sample(Product::Warren, Metric::Rate, value));
        let row = rows(&samples).remove(0);
        assert_eq!(row.warren, Some(Spread { median: 3.0, min: 1.0, max: 5.0 }));
        assert_eq!((row.rabbitmq, row.ratio, row.limit), (None, None, Some(30.0)));
    }
}
