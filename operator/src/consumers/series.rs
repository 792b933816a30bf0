//! Consumers as Prometheus' series: made when somebody reads them, so that a consumer that is gone has none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, Opts};

use super::report::Report;

/// What every series says about whose it is. A MessageQueue has at most 32 consumers.
const LABELS: [&str; 3] = ["namespace", "messagequeue", "consumer"];

/// How much of something a report tells, if it does.
type Reading = fn(&Report) -> Option<f64>;

/// Names, what they mean, and where they are read.
const GAUGES: [(&str, &str, Reading); 7] = [
    ("warren_operator_consumer_wanted_replicas", "Pods that there should be.", |report| {
        Some(f64::from(report.wanted.replicas))
    }),
    ("warren_operator_consumer_current_replicas", "Pods that the target asks for.", |report| {
        report.current.map(f64::from)
    }),
    ("warren_operator_consumer_messages_ready", "Messages that wait for a consumer.", |report| {
        report.work.map(|work| work.ready as f64)
    }),
    ("warren_operator_consumer_messages_unacked", "Messages that consumers have and did not settle.", |report| {
        report.work.map(|work| work.unacked as f64)
    }),
    ("warren_operator_consumer_arrivals_per_second", "Messages that come in a second, lately.", |report| {
        report.work.map(|work| work.arrivals)
    }),
    (
        "warren_operator_consumer_completions_per_second",
        "Messages that are acknowledged in a second, lately.",
        |report| report.work.map(|work| work.completions),
    ),
    (
        "warren_operator_consumer_pod_completions_per_second",
        "Messages that one pod was measured to acknowledge in a second.",
        |report| report.pod_rate,
    ),
];

/// Where a consumer is: the namespace, the name of its MessageQueue, its own.
pub type Place = (String, String, String);

/// The series of all consumers.
#[derive(Clone)]
pub struct ConsumerSeries(Arc<Shelf>);

struct Shelf {
    samples: Mutex<BTreeMap<Place, Sample>>,
    gauges: Vec<(GaugeVec, Reading)>,
    reason: GaugeVec,
    scales: CounterVec,
    /// Held while somebody reads.
    reading: Mutex<()>,
}

#[derive(Default)]
struct Sample {
    report: Option<Report>,
    /// How often its target was scaled.
    ups: u64,
    downs: u64,
}

impl ConsumerSeries {
    /// Nobody's yet.
    ///
    /// # Errors
    /// A name is none, which the tests rule out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let gauge = |&(name, help, reading): &(&str, &str, Reading)| {
            Ok::<_, prometheus::Error>((GaugeVec::new(Opts::new(name, help), &LABELS)?, reading))
        };
        let with = |more| [&LABELS[..], &[more]].concat();
        let reason = Opts::new("warren_operator_consumer_reason", "1: why so many pods should be, as in the status.");
        let scales = Opts::new("warren_operator_consumer_scales_total", "How often the target was scaled.");
        Ok(Self(Arc::new(Shelf {
            samples: Mutex::default(),
            gauges: GAUGES.iter().map(gauge).collect::<Result<_, _>>()?,
            reason: GaugeVec::new(reason, &with("reason"))?,
            scales: CounterVec::new(scales, &with("direction"))?,
            reading: Mutex::default(),
        })))
    }

    /// This is known of a consumer.
    pub fn report(&self, place: Place, report: Report) {
        self.samples().entry(place).or_default().report = Some(report);
    }

    /// The target of a consumer was scaled.
    pub fn scaled(&self, place: Place, from: u32, to: u32) {
        let mut samples = self.samples();
        let sample = samples.entry(place).or_default();
        if to > from {
            sample.ups += 1;
        } else {
            sample.downs += 1;
        }
    }

    /// The MessageQueue has no other consumers than these.
    pub fn keep_only(&self, namespace: &str, queue: &str, is_there: impl Fn(&str) -> bool) {
        let stays =
            |(of, in_queue, name): &Place| of.as_str() != namespace || in_queue.as_str() != queue || is_there(name);
        self.samples().retain(|place, _| stays(place));
    }

    fn samples(&self) -> MutexGuard<'_, BTreeMap<Place, Sample>> {
        self.0.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for ConsumerSeries {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.0.gauges.iter().flat_map(|(gauge, _)| gauge.desc());
        gauges.chain(self.0.reason.desc()).chain(self.0.scales.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Shelf { gauges, reason, scales, reading, .. } = &*self.0;
        let _alone = reading.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.iter().for_each(|(gauge, _)| gauge.reset());
        reason.reset();
        scales.reset();
        for ((namespace, queue, name), sample) in &*self.samples() {
            let place = [namespace.as_str(), queue, name];
            let with = |more| [&place[..], &[more]].concat();
            let Some(report) = &sample.report else { continue };
            for (gauge, reading) in gauges {
                if let Some(value) = reading(report) {
                    gauge.with_label_values(&place).set(value);
                }
            }
            reason.with_label_values(&with(report.wanted.reason.as_str())).set(1.0);
            for (direction, count) in [("up", sample.ups), ("down", sample.downs)] {
                if report.current.is_some() {
                    scales.with_label_values(&with(direction)).inc_by(count as f64);
                }
            }
        }
        let families = gauges.iter().flat_map(|(gauge, _)| gauge.collect());
        families.chain(reason.collect()).chain(scales.collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, Registry, TextEncoder};

    use super::super::plan::{Reason, Wanted};
    use super::super::report::Work;
    use super::*;

    fn place(name: &str) -> Place {
        ("shop".into(), "hello".into(), name.into())
    }

    fn report(replicas: u32, reason: Reason, work: Option<Work>) -> Report {
        Report { current: Some(1), wanted: Wanted { replicas, reason }, work, pod_rate: Some(2.5) }
    }

    fn lines(series: &ConsumerSeries) -> Vec<String> {
        let registry = Registry::new();
        registry.register(Box::new(series.clone())).unwrap();
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(ToOwned::to_owned).collect()
    }

    #[test]
    fn each_consumer_has_its_series_and_one_reason() {
        let series = ConsumerSeries::new().unwrap();
        let work = Work { ready: 300, unacked: 4, arrivals: 7.5, completions: 6.0 };
        series.report(place("c"), report(0, Reason::Idle, None));
        series.report(place("c"), report(3, Reason::Depth, Some(work)));
        series.scaled(place("c"), 0, 1);
        let of = r#"consumer="c",messagequeue="hello",namespace="shop""#;
        let expected = [
            format!("warren_operator_consumer_arrivals_per_second{{{of}}} 7.5"),
            format!("warren_operator_consumer_completions_per_second{{{of}}} 6"),
            format!("warren_operator_consumer_current_replicas{{{of}}} 1"),
            format!("warren_operator_consumer_messages_ready{{{of}}} 300"),
            format!("warren_operator_consumer_messages_unacked{{{of}}} 4"),
            format!("warren_operator_consumer_pod_completions_per_second{{{of}}} 2.5"),
            format!("warren_operator_consumer_reason{{{of},reason=\"Depth\"}} 1"),
            r#"warren_operator_consumer_scales_total{consumer="c",direction="down",messagequeue="hello",namespace="shop"} 0"#.to_owned(),
            r#"warren_operator_consumer_scales_total{consumer="c",direction="up",messagequeue="hello",namespace="shop"} 1"#.to_owned(),
            format!("warren_operator_consumer_wanted_replicas{{{of}}} 3"),
        ];
        assert_eq!(lines(&series), expected);
        assert_eq!(lines(&series), expected, "it was read, and is the same");
    }

    #[test]
    fn what_is_not_known_or_not_there_has_no_series() {
        let series = ConsumerSeries::new().unwrap();
        series.report(place("c"), Report { current: None, ..report(3, Reason::FiguresMissing, None) });
        let names = lines(&series).iter().map(|line| line.split_once('{').unwrap().0.to_owned()).collect::<Vec<_>>();
        let known = ["pod_completions_per_second", "reason", "wanted_replicas"];
        assert_eq!(names, known.map(|name| format!("warren_operator_consumer_{name}")));
        series.report(place("d"), report(1, Reason::Idle, None));
        series.keep_only("shop", "hello", |name| name == "d");
        series.keep_only("shop", "other", |_| false);
        assert!(lines(&series).iter().all(|line| line.contains("consumer=\"d\"")));
        series.keep_only("shop", "hello", |_| false);
        assert_eq!(lines(&series), Vec::<String>::new());
    }
}
