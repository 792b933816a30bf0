//! What was so over the last seconds: needs, backlogs, idleness, and what more pods brought.

use std::collections::VecDeque;

use super::figures::Figures;
use super::rates::Rates;

/// For how long needs are remembered.
const REMEMBERED_MS: u64 = 60_000;

/// A backlog rises if it is larger by this part of it than it was.
const RISE_PART: u64 = 10;

/// It has stopped to rise if it did not rise for so long. What is looked at twice at once has had no time to.
const STILL_MS: u64 = 150;

/// A queue to which nothing has come for so long is quiet.
const QUIET_MS: u64 = 3_000;

/// Pods are at work for so long at least before what they do together is compared.
const SETTLED_MS: u64 = 3_000;

/// And for the time of so many messages: before the first ones are done, more pods have done nothing more.
const SETTLED_MESSAGES: f64 = 3.0;

/// Twice as many pods should do twice as much. If they do less than this part of what was hoped for, they wait for something else.
const GAIN_MIN: f64 = 0.1;

/// After so long it is tried again whether more pods do more.
const SATURATED_MS: u64 = 300_000;

/// What is remembered of a queue.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// When figures came last.
    last_ms: Option<u64>,
    /// Since when they have come without a break.
    unbroken_since_ms: Option<u64>,
    /// How many pods were needed when.
    needs: VecDeque<(u64, u32)>,
    /// Since when messages have waited without a break.
    backlog_since_ms: Option<u64>,
    /// How many messages waited, and since when and until when it has been more each time.
    ready: u64,
    rising_since_ms: Option<u64>,
    risen_ms: u64,
    /// Since when nothing has come, waited or been in hand.
    idle_since_ms: Option<u64>,
    /// When something came last.
    arrived_ms: Option<u64>,
    published: u64,
    /// What the pods did when they last had enough to do: with how many, since when, and how much a second.
    effort: Option<Effort>,
    saturated_until_ms: Option<u64>,
    /// When more pods were asked for last, and for how many messages.
    order: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Effort {
    pods: u64,
    since_ms: u64,
    /// Of the number of pods before, what they did a second: `(pods, completions)`.
    before: Option<(u64, f64)>,
}

impl History {
    /// What was known is not known without a break any longer.
    pub(super) fn interrupt(&mut self) {
        self.unbroken_since_ms = None;
        self.needs.clear();
        self.idle_since_ms = None;
        self.effort = None;
    }

    pub(super) fn add(&mut self, figures: &Figures, rates: &Rates, now_ms: u64) {
        if self.age_ms(now_ms) > super::plan::FIGURES_AGE_MAX_MS {
            self.interrupt();
        }
        self.unbroken_since_ms.get_or_insert(now_ms);
        self.last_ms = Some(now_ms);
        if figures.published != self.published {
            self.published = figures.published;
            self.arrived_ms = Some(now_ms);
            self.idle_since_ms = None;
        }
        if figures.ready > self.ready + self.ready / RISE_PART {
            self.rising_since_ms.get_or_insert(now_ms);
            self.risen_ms = now_ms;
        } else if now_ms.saturating_sub(self.risen_ms) >= STILL_MS {
            self.rising_since_ms = None;
        }
        self.ready = figures.ready;
        if figures.ready == 0 {
            self.backlog_since_ms = None;
        } else {
            self.backlog_since_ms.get_or_insert(now_ms);
        }
        if figures.depth() == 0 {
            self.idle_since_ms.get_or_insert(now_ms);
        } else {
            self.idle_since_ms = None;
        }
        self.compare_efforts(figures, rates, now_ms);
    }

    pub(super) fn need(&mut self, replicas: u32, now_ms: u64) {
        while self.needs.front().is_some_and(|(at, _)| now_ms.saturating_sub(*at) > REMEMBERED_MS) {
            self.needs.pop_front();
        }
        // Of equal needs the last is enough to know until when it was so, and the first since when.
        if let [.., (_, before), (at, last)] = self.needs.make_contiguous()
            && *before == replicas
            && *last == replicas
        {
            *at = now_ms;
            return;
        }
        self.needs.push_back((now_ms, replicas));
    }

    /// How old the last figures are.
    pub(super) fn age_ms(&self, now_ms: u64) -> u64 {
        self.last_ms.map_or(u64::MAX, |at| now_ms.saturating_sub(at))
    }

    /// The largest need of the last `span_ms`. `None`: not all of that time is known.
    pub(super) fn most_needed(&self, span_ms: u64, now_ms: u64) -> Option<u32> {
        self.unbroken_since_ms.filter(|since| now_ms.saturating_sub(*since) >= span_ms)?;
        let begin = now_ms.saturating_sub(span_ms);
        // What was needed at the beginning was written down before it.
        let at_begin = self.needs.iter().rev().find(|(at, _)| *at <= begin);
        let since = self.needs.iter().filter(|(at, _)| *at > begin);
        since.chain(at_begin).map(|(_, replicas)| *replicas).max()
    }

    /// Messages have waited all the time.
    pub(super) fn has_backlog(&self, span_ms: u64, now_ms: u64) -> bool {
        self.backlog_since_ms.is_some_and(|since| now_ms.saturating_sub(since) >= span_ms)
    }

    /// For how long messages have waited without a break.
    pub(super) fn backlog_ms(&self, now_ms: u64) -> u64 {
        self.backlog_since_ms.map_or(0, |since| now_ms.saturating_sub(since))
    }

    /// For how long more messages have waited each time that somebody looked.
    pub(super) fn rises_for(&self, now_ms: u64) -> Option<u64> {
        self.rising_since_ms.map(|since| now_ms.saturating_sub(since))
    }

    /// For how long there was nothing to do.
    pub(super) fn idle_ms(&self, now_ms: u64) -> u64 {
        self.idle_since_ms.map_or(0, |since| now_ms.saturating_sub(since))
    }

    /// More pods are asked for, because there are so many messages.
    pub(super) fn order(&mut self, depth: u64, now_ms: u64) {
        self.order = Some((now_ms, depth));
    }

    /// How long ago more pods were asked for, and for how many messages.
    pub(super) fn since_order(&self, now_ms: u64) -> (u64, u64) {
        self.order.map_or((u64::MAX, 0), |(at, depth)| (now_ms.saturating_sub(at), depth))
    }

    /// Nothing has come lately.
    pub(super) fn is_quiet(&self, now_ms: u64) -> bool {
        self.arrived_ms.is_none_or(|at| now_ms.saturating_sub(at) >= QUIET_MS)
    }

    /// More pods did not do more, the last time that there were more.
    pub(super) fn is_saturated(&self) -> bool {
        self.saturated_until_ms.is_some()
    }

    fn compare_efforts(&mut self, figures: &Figures, rates: &Rates, now_ms: u64) {
        let completions = rates.completions();
        if figures.ready == 0 || self.saturated_until_ms.is_some_and(|until| until <= now_ms) {
            self.saturated_until_ms = None;
            self.effort = None;
        }
        let pods = figures.busy_peers();
        if figures.ready == 0 || pods == 0 {
            return;
        }
        let Some(effort) = self.effort.as_mut() else {
            self.effort = Some(Effort { pods, since_ms: now_ms, before: None });
            return;
        };
        let worked_ms = now_ms.saturating_sub(effort.since_ms);
        let message_ms = rates.service_seconds().unwrap_or(0.0) * 1000.0;
        let is_settled = worked_ms >= SETTLED_MS && worked_ms as f64 >= message_ms * SETTLED_MESSAGES;
        match effort.before {
            _ if effort.pods == pods => {
                if let Some((fewer, did)) = effort.before.filter(|_| is_settled) {
                    let hoped = did * (pods as f64 / fewer as f64 - 1.0);
                    if completions - did < hoped * GAIN_MIN {
                        self.saturated_until_ms.get_or_insert(now_ms + SATURATED_MS);
                    }
                    effort.before = None;
                }
            }
            // While they come one after the other they are compared with those of before.
            Some((fewer, _)) if pods > fewer && !is_settled => *effort = Effort { pods, since_ms: now_ms, ..*effort },
            _ if pods > effort.pods && is_settled => {
                let before = Some((effort.pods, completions));
                *effort = Effort { pods, since_ms: now_ms, before };
            }
            _ => *effort = Effort { pods, since_ms: now_ms, before: None },
        }
    }
}
