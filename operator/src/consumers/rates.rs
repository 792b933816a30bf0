//! How fast messages come and are worked off, and how many a second one pod can do.
//!
//! By Little's law the time for which a message is with a consumer is the growth of `unacked_message_ms` over that of
//! `acknowledged`, exactly and without a clock beside each message. What a *pod* can do shows only when there is always a
//! message for it: a pod that waits for messages does no more than come in. So while messages wait the rate of a pod is taken as it is,
//! and otherwise it is only ever found to be higher.

use super::figures::Figures;

/// Follows a burst.
const FAST_SECONDS: f64 = 2.0;

/// Takes some of a burst for what will come.
const MEDIUM_SECONDS: f64 = 8.0;

/// Remembers what is usual.
const SLOW_SECONDS: f64 = 30.0;

/// Beyond this part of deliveries, redeliveries that end in no acknowledgement say that messages fail: then how long they take says
/// nothing about pods. Those that do end are a backlog that has outlived its broker, or the work of a pod that is gone.
const POISONED_PART: f64 = 0.1;

/// An exponentially weighted mean, for values that hold for different times.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Mean(Option<f64>);

impl Mean {
    fn add(&mut self, value: f64, seconds: f64, time_constant: f64) {
        let weight = 1.0 - (-seconds / time_constant).exp();
        self.0 = Some(self.0.map_or(value, |mean| mean + (value - mean) * weight));
    }
}

/// What consumers did since something was measured. It is a measurement when as many messages are done as pods are busy: until
/// then it says how far each of them is, and not how long one takes.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    /// How long that was.
    seconds: f64,
    acknowledged: f64,
    /// For how long they held messages, all together.
    held_seconds: f64,
    /// For how long pods held at least one, all together.
    pod_seconds: f64,
    /// They might have done more.
    is_for_want_of_messages: bool,
}

impl Work {
    fn add(&mut self, more: Self) {
        self.seconds += more.seconds;
        self.acknowledged += more.acknowledged;
        self.held_seconds += more.held_seconds;
        self.pod_seconds += more.pod_seconds;
        self.is_for_want_of_messages |= more.is_for_want_of_messages;
    }
}

/// What two and more [`Figures`] of a queue say together.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    last: Option<Figures>,
    arrivals_fast: Mean,
    arrivals_medium: Mean,
    arrivals_slow: Mean,
    completions: Mean,
    pod_rate: Mean,
    service_seconds: Mean,
    work: Work,
}

impl Rates {
    /// As they are known of earlier, for example from a status.
    pub fn with_pod_rate(pod_rate: Option<f64>) -> Self {
        Self { pod_rate: Mean(pod_rate.filter(|rate| rate.is_finite() && *rate > 0.0)), ..Self::default() }
    }

    /// Messages that come in a second, lately: for growing.
    pub fn arrivals(&self) -> f64 {
        self.arrivals_fast.0.unwrap_or(0.0)
    }

    /// Messages that come in a second, as far as the next `seconds` are concerned: who has long to work off a burst need not
    /// take it for what always comes.
    pub fn arrivals_over(&self, seconds: f64) -> f64 {
        let mean = match seconds {
            _ if seconds >= SLOW_SECONDS => self.arrivals_slow,
            _ if seconds >= MEDIUM_SECONDS => self.arrivals_medium,
            _ => self.arrivals_fast,
        };
        mean.0.unwrap_or(0.0)
    }

    /// Messages that are acknowledged in a second.
    pub fn completions(&self) -> f64 {
        self.completions.0.unwrap_or(0.0)
    }

    /// Messages that one pod can do in a second. `None`: none was seen at work.
    pub fn pod_rate(&self) -> Option<f64> {
        self.pod_rate.0
    }

    /// For how many seconds a consumer has a message.
    pub fn service_seconds(&self) -> Option<f64> {
        self.service_seconds.0
    }

    /// Takes the next figures. Those that are no newer than the last change nothing.
    pub fn add(&mut self, figures: &Figures) {
        let Some(last) = self.last.replace(figures.clone()) else { return };
        if last.since_ms != figures.since_ms {
            self.work = Work::default();
            return;
        }
        if figures.at_ms <= last.at_ms {
            self.last = Some(last);
            return;
        }
        self.compare(&last, figures);
    }

    fn compare(&mut self, last: &Figures, now: &Figures) {
        let seconds = (now.at_ms - last.at_ms) as f64 / 1000.0;
        let grown = |count: fn(&Figures) -> u64| count(now).saturating_sub(count(last)) as f64;
        let arrivals = grown(|figures| figures.published) / seconds;
        self.arrivals_fast.add(arrivals, seconds, FAST_SECONDS);
        self.arrivals_medium.add(arrivals, seconds, MEDIUM_SECONDS);
        self.arrivals_slow.add(arrivals, seconds, SLOW_SECONDS);
        let acknowledged = grown(|figures| figures.acknowledged);
        self.completions.add(acknowledged / seconds, seconds, FAST_SECONDS);
        let failed = grown(|figures| figures.redelivered) - acknowledged;
        if failed > POISONED_PART * grown(|figures| figures.delivered) {
            self.work = Work::default();
            return;
        }
        let held_seconds = grown(|figures| figures.unacked_message_ms) / 1000.0;
        if acknowledged == 0.0 && held_seconds == 0.0 {
            self.work = Work::default();
            return;
        }
        let busy = (last.busy_peers() + now.busy_peers()) as f64 / 2.0;
        self.work.add(Work {
            seconds,
            acknowledged,
            held_seconds,
            pod_seconds: busy * seconds,
            is_for_want_of_messages: last.ready == 0 || now.ready == 0 || busy == 0.0,
        });
        if self.work.acknowledged >= busy.max(1.0) {
            self.measure();
        }
    }

    /// Takes what was done for a measurement, and begins another.
    fn measure(&mut self) {
        let work = std::mem::take(&mut self.work);
        self.service_seconds.add(work.held_seconds / work.acknowledged, work.seconds, SLOW_SECONDS);
        if !work.is_for_want_of_messages {
            self.pod_rate.add(work.acknowledged / work.pod_seconds, work.seconds, FAST_SECONDS);
        } else if work.held_seconds > 0.0 {
            self.raise_pod_rate(work.acknowledged / work.held_seconds);
        }
    }

    /// One place for a message does so many in a second, and a pod has one place at least.
    fn raise_pod_rate(&mut self, rate: f64) {
        if self.pod_rate.0.is_none_or(|known| rate > known) {
            self.pod_rate.add(rate, 1.0, FAST_SECONDS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Peer;
    use super::*;

    fn busy(pods: usize) -> Vec<Peer> {
        let peer = |number| Peer { address: format!("10.0.0.{number}"), consumers: 1, prefetch: 1, unacked: 1 };
        (0..pods).map(peer).collect()
    }

    /// `pods` pods work off a queue that is never empty, each a message in `service_ms`, while `arrivals` come in a second.
    fn saturated(rates: &mut Rates, pods: usize, service_ms: u64, arrivals: u64, seconds: u64) {
        let first = rates.last.clone().unwrap_or_default();
        for step in 1..=seconds * 5 {
            let elapsed = step * 200;
            let done = pods as u64 * elapsed / service_ms;
            rates.add(&Figures {
                at_ms: first.at_ms + elapsed,
                ready: 1_000,
                unacked: pods as u64,
                published: first.published + arrivals * elapsed / 1000,
                delivered: first.delivered + done,
                acknowledged: first.acknowledged + done,
                unacked_message_ms: first.unacked_message_ms + pods as u64 * elapsed,
                peers: busy(pods),
                ..Figures::default()
            });
        }
    }

    fn is_near(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= expected * 0.05
    }

    #[test]
    fn what_a_pod_does_is_measured_while_messages_wait() {
        let mut rates = Rates::default();
        saturated(&mut rates, 4, 100, 70, 20);
        assert!(is_near(rates.pod_rate().unwrap(), 10.0), "{rates:?}");
        assert!(is_near(rates.service_seconds().unwrap(), 0.1), "{rates:?}");
        assert!(is_near(rates.completions(), 40.0), "{rates:?}");
        assert!(is_near(rates.arrivals(), 70.0), "{rates:?}");
    }

    #[test]
    fn pods_that_become_slower_are_found_out_while_messages_wait() {
        let mut rates = Rates::default();
        saturated(&mut rates, 4, 100, 70, 20);
        saturated(&mut rates, 4, 500, 70, 20);
        assert!(is_near(rates.pod_rate().unwrap(), 2.0), "{rates:?}");
    }

    #[test]
    fn pods_without_work_do_not_seem_slow() {
        let mut rates = Rates::default();
        saturated(&mut rates, 4, 100, 70, 20);
        let last = rates.last.clone().unwrap();
        for step in 1..=50 {
            rates.add(&Figures {
                at_ms: last.at_ms + step * 1_000,
                ready: 0,
                unacked: 0,
                published: last.published + step,
                delivered: last.delivered + step,
                acknowledged: last.acknowledged + step,
                // They keep it for long, because nobody hurries them.
                unacked_message_ms: last.unacked_message_ms + step * 900,
                peers: busy(4),
                ..Figures::default()
            });
        }
        assert!(is_near(rates.pod_rate().unwrap(), 10.0), "{rates:?}");
        assert!(is_near(rates.arrivals(), 1.0), "{rates:?}");
        assert!(rates.arrivals_over(60.0) > 2.0, "it remembers what is usual");
        assert!(rates.arrivals_over(60.0) > rates.arrivals_over(10.0));
    }

    /// A pod that has a job for 5 s, one after the other, told when one ends and each second, `ready` of them waiting.
    fn long_jobs(ready: u64) -> Rates {
        let mut rates = Rates::default();
        for step in 0..=60 {
            let done = step / 5;
            let now = Figures {
                at_ms: step * 1_000,
                ready,
                unacked: 1,
                published: ready + done + 1,
                delivered: done + 1,
                acknowledged: done,
                unacked_message_ms: step * 1_000,
                peers: busy(1),
                ..Figures::default()
            };
            rates.add(&now);
            rates.add(&Figures { at_ms: now.at_ms + 300, unacked_message_ms: now.unacked_message_ms + 300, ..now });
        }
        rates
    }

    #[test]
    fn the_time_in_which_no_job_ends_belongs_to_those_that_end_later() {
        for ready in [0, 100] {
            let rates = long_jobs(ready);
            assert!(is_near(rates.pod_rate().unwrap(), 0.2), "{rates:?}");
            assert!(is_near(rates.service_seconds().unwrap(), 5.0), "{rates:?}");
        }
    }

    #[test]
    fn the_first_to_be_done_says_nothing_about_those_that_are_not() {
        let mut rates = Rates::default();
        let at = |at_ms, done| Figures {
            at_ms,
            ready: 100,
            unacked: 4,
            delivered: done + 4,
            acknowledged: done,
            unacked_message_ms: at_ms * 4,
            peers: busy(4),
            ..Figures::default()
        };
        for (at_ms, done) in [(0, 0), (400, 1), (1_000, 1)] {
            rates.add(&at(at_ms, done));
        }
        assert_eq!(rates.pod_rate(), None);
        rates.add(&at(1_200, 4));
        assert!(is_near(rates.pod_rate().unwrap(), 4.0 / 4.8), "{rates:?}");
    }

    #[test]
    fn messages_that_fail_again_and_again_say_nothing_about_pods() {
        let mut rates = Rates::default();
        saturated(&mut rates, 4, 100, 70, 20);
        let last = rates.last.clone().unwrap();
        for step in 1..=50 {
            rates.add(&Figures {
                at_ms: last.at_ms + step * 1_000,
                ready: 100,
                delivered: last.delivered + step * 100,
                redelivered: last.redelivered + step * 90,
                acknowledged: last.acknowledged + step,
                unacked_message_ms: last.unacked_message_ms + step,
                published: last.published,
                unacked: 4,
                peers: busy(4),
                ..Figures::default()
            });
        }
        assert!(is_near(rates.pod_rate().unwrap(), 10.0), "{rates:?}");
    }

    #[test]
    fn a_backlog_that_has_outlived_its_broker_says_what_pods_can_do() {
        let mut rates = Rates::default();
        for step in 0..=50 {
            rates.add(&Figures {
                at_ms: step * 1_000,
                since_ms: 1,
                ready: 1_000,
                unacked: 4,
                delivered: 4 + step * 40,
                redelivered: 4 + step * 40,
                acknowledged: step * 40,
                unacked_message_ms: step * 4_000,
                peers: busy(4),
                ..Figures::default()
            });
        }
        assert!(is_near(rates.pod_rate().unwrap(), 10.0), "{rates:?}");
    }

    #[test]
    fn a_broker_that_starts_anew_and_figures_out_of_order_change_no_rate() {
        let mut rates = Rates::default();
        saturated(&mut rates, 4, 100, 70, 20);
        let before = (rates.arrivals(), rates.completions(), rates.pod_rate());
        let last = rates.last.clone().unwrap();
        rates.add(&Figures { at_ms: last.at_ms - 1, published: 1 << 40, ..last.clone() });
        rates.add(&Figures { at_ms: last.at_ms + 1_000, since_ms: last.at_ms, published: 3, ..Figures::default() });
        assert_eq!((rates.arrivals(), rates.completions(), rates.pod_rate()), before);
    }
}
