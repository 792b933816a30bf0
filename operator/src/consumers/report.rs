//! What is said of a consumer: in the status of its MessageQueue, and as metrics.

use tokio::time::{Duration, Instant};

use super::plan::{Fleet, Reason, Wanted};
use crate::api::{Consumer, ConsumerStatus, Target};

/// How often the figures of a consumer that works are written, if nothing else about it is new.
const PERIOD: Duration = Duration::from_secs(60);

/// Longest message, in octets: others' errors are part of it.
const MESSAGE_LENGTH_MAX: usize = 512;

/// What is known of a consumer at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How many pods its target asks for; `None`: it has no target.
    pub current: Option<u32>,
    /// How many there should be, and why.
    pub wanted: Wanted,
    /// What its queue has to do, if that is known.
    pub work: Option<Work>,
    /// Messages that a pod was measured to acknowledge in a second.
    pub pod_rate: Option<f64>,
}

/// What a queue has to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Messages that wait.
    pub ready: u64,
    /// Messages that consumers have.
    pub unacked: u64,
    /// Messages that come in a second.
    pub arrivals: f64,
    /// Messages that are acknowledged in a second.
    pub completions: f64,
}

impl Report {
    /// What is known of `fleet` at `now_ms`.
    pub(super) fn of(fleet: &Fleet, current: Option<u32>, wanted: Wanted, now_ms: u64) -> Self {
        let work = fleet.fresh_figures(now_ms).map(|figures| Work {
            ready: figures.ready,
            unacked: figures.unacked,
            arrivals: fleet.rates.arrivals(),
            completions: fleet.rates.completions(),
        });
        Self { current, wanted, work, pod_rate: fleet.rates.pod_rate() }
    }

    /// As the status of the MessageQueue says it.
    pub(super) fn status(&self, name: &str, message: Option<String>) -> ConsumerStatus {
        let pods = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        let messages = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let rate = |rate: f64| format!("{rate:.3}");
        ConsumerStatus {
            name: name.to_owned(),
            current_replicas: pods(self.current.unwrap_or(self.wanted.replicas)),
            wanted_replicas: pods(self.wanted.replicas),
            reason: self.wanted.reason.as_str().to_owned(),
            message,
            messages_ready: self.work.map(|work| messages(work.ready)),
            messages_unacked: self.work.map(|work| messages(work.unacked)),
            arrivals_per_second: self.work.map(|work| rate(work.arrivals)),
            completions_per_second: self.work.map(|work| rate(work.completions)),
            messages_per_second_and_pod: self.pod_rate.map(rate),
        }
    }

    fn is_at_work(&self) -> bool {
        self.work.is_some_and(|work| work.ready + work.unacked > 0)
    }
}

/// What was told last, and when. An idle consumer has nothing to tell.
#[derive(Debug)]
pub(super) struct Told {
    report: Report,
    at: Instant,
}

impl Told {
    pub(super) fn new(report: Report, at: Instant) -> Self {
        Self { report, at }
    }

    /// Whether `report` says enough that is new to be told at `now`.
    pub(super) fn is_outdated_by(&self, report: &Report, now: Instant) -> bool {
        let is_worth = |report: &Report| (report.current, report.wanted);
        let works = report.is_at_work() || self.report.is_at_work();
        is_worth(&self.report) != is_worth(report) || works && now.duration_since(self.at) >= PERIOD
    }
}

/// What is wrong with `consumer` and what to do, if `reason` is that something is. `detail` is what somebody else said.
pub(super) fn message(consumer: &Consumer, reason: Reason, detail: Option<&str>) -> Option<String> {
    let Consumer { vhost, queue, .. } = consumer;
    let target = consumer.target.as_ref().map(Target::to_string).unwrap_or_default();
    let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
    let mut message = match reason {
        Reason::FiguresMissing => {
            format!("the broker says nothing about the queue {queue}, so that the number of pods stays{detail}")
        }
        Reason::QueueMissing => format!(
            "the broker has no queue {queue} in the virtual host {vhost}: declare it, for example in spec.topology.queues, or correct queue and vhost"
        ),
        Reason::TargetMissing => {
            format!("there is no {target} with a scale subresource in this namespace: make it, or correct target")
        }
        Reason::TargetTaken => {
            format!("{target} is scaled already{detail}: let only one entry name it, or two undo each other's work")
        }
        Reason::ScaleRefused => format!(
            "{target} cannot be scaled{detail}. Kinds other than Deployment and StatefulSet are allowed by the chart's consumers.scaleTargets"
        ),
        _ => return None,
    };
    message.truncate(message.floor_char_boundary(MESSAGE_LENGTH_MAX));
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(replicas: u32, reason: Reason, ready: u64) -> Report {
        let work = Some(Work { ready, unacked: 0, arrivals: 0.0, completions: 0.0 });
        Report { current: Some(replicas), wanted: Wanted { replicas, reason }, work, pod_rate: None }
    }

    #[test]
    fn figures_alone_are_told_once_a_minute_while_there_is_work_and_never_while_there_is_none() {
        let start = Instant::now();
        let is_told = |before: Report, after: Report, seconds| {
            Told::new(before, start).is_outdated_by(&after, start + Duration::from_secs(seconds))
        };
        let busy = |ready| report(3, Reason::Depth, ready);
        assert!(!is_told(busy(300), busy(299), 59));
        assert!(is_told(busy(300), busy(299), 60));
        assert!(is_told(busy(300), busy(0), 60), "that the work is done is told too");
        assert!(!is_told(busy(0), busy(0), 1_000_000));
        assert!(is_told(busy(300), report(3, Reason::Stabilizing, 300), 0));
        assert!(is_told(busy(300), report(4, Reason::Depth, 300), 0));
    }

    #[test]
    fn a_status_has_the_figures_that_are_known() {
        let status = report(3, Reason::Depth, 300).status("c", None);
        assert_eq!((status.messages_ready, status.arrivals_per_second.as_deref()), (Some(300), Some("0.000")));
        let silent = Report { work: None, current: None, ..report(3, Reason::FiguresMissing, 0) }.status("c", None);
        assert_eq!((silent.messages_ready, silent.arrivals_per_second, silent.current_replicas), (None, None, 3));
    }

    #[test]
    fn only_what_is_wrong_has_a_message_and_a_long_one_is_cut() {
        let consumer = serde_json::json!({"name": "c", "queue": "q", "maxReplicas": 1, "depthPerReplica": 1});
        let consumer: Consumer = serde_json::from_value(consumer).unwrap();
        assert_eq!(message(&consumer, Reason::Idle, Some("x")), None);
        let queue = message(&consumer, Reason::QueueMissing, None).unwrap();
        assert!(queue.starts_with("the broker has no queue q in the virtual host /: declare it"), "{queue}");
        let silent = message(&consumer, Reason::FiguresMissing, Some(&"ü".repeat(1_000))).unwrap();
        assert!((MESSAGE_LENGTH_MAX - 1..=MESSAGE_LENGTH_MAX).contains(&silent.len()), "a character has two octets");
    }
}
