//! How many pods a queue's consumers need. Pure: what is known goes in, a number and the reason for it come out.
//!
//! ```text
//! backlog   (arrivals + ready / time left) / rate of a pod      so that what waits is done in time
//! load      arrivals / (rate of a pod · 0.8)                    so that the pods carry what comes
//! tail      Erlang: at most 1 % wait longer than drainWithin    so that chance does not make it late
//! unacked   unacked / what a pod may have at a time             never fewer than the work in hand needs
//! ```
//!
//! It grows to the whole number at once, when a burst has come in, and again when there is much more work, or what was ordered
//! last has had time to help. From nothing it grows on the first message. It shrinks only when all that was known for
//! [`SHRINK_AFTER_MS`] allowed it, to what the largest need of that time was; never while figures are missing, and, if a time to
//! drain is declared, never while there has been a backlog all that time.

use super::erlang::servers_for;
use super::figures::Figures;
use super::history::History;
use super::rates::Rates;

/// The load that a fleet is meant for; the rest is for chance.
const UTILISATION: f64 = 0.8;

/// The part of messages that may wait longer than declared.
const LATE_PART: f64 = 0.01;

/// A need has to be less for so long before pods go.
pub const SHRINK_AFTER_MS: u64 = 15_000;

/// Pods that are at work have so long to help before more are ordered.
const GROW_AFTER_MS: u64 = 5_000;

/// Pods that have been ordered have so long to come.
const START_MS: u64 = 30_000;

/// So many times the work for which pods were ordered last cannot have been meant for these, and waits for nothing.
const MUCH_MORE: u64 = 4;

/// Figures that are older are none.
pub const FIGURES_AGE_MAX_MS: u64 = 10_000;

/// So long the work of a burst is put together before pods are ordered for it, while some are at work.
const GATHER_MS: u64 = 2_000;

/// This part of the time to drain may pass with it.
const GATHER_PART: u64 = 10;

/// What is left of the time to drain is never less than this part of it, or the number would grow without end.
const TIME_LEFT_PART_MIN: f64 = 0.2;

/// What was declared for the consumers of a queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// There are never fewer.
    pub min_replicas: u32,
    /// Nor more.
    pub max_replicas: u32,
    /// What the number follows from.
    pub goal: Goal,
    /// For how long the queue has been idle when the last pods go.
    pub cooldown_ms: u64,
}

impl Rule {
    /// For how long a burst may come in before it is acted on.
    fn burst_ms(&self) -> u64 {
        match self.goal {
            Goal::DepthPerReplica(_) => GATHER_MS,
            Goal::DrainWithin(within_ms) => GATHER_MS.min(within_ms / GATHER_PART),
        }
    }
}

/// What the number of consumers follows from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// One pod for so many messages, ready or unacknowledged.
    DepthPerReplica(u64),
    /// What waits is done after so many milliseconds.
    DrainWithin(u64),
}

/// Why the number is what it is. The names are those of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is to be done.
    Idle,
    /// Messages, ready or not, by `depthPerReplica`.
    Depth,
    /// What waits, in the time that is left.
    Backlog,
    /// What comes in.
    Load,
    /// So that few wait long.
    Tail,
    /// What consumers have in hand.
    Unacked,
    /// Messages are there, and how much a pod can do was never seen.
    Measuring,
    /// More would be needed than `maxReplicas`.
    MaxReplicas,
    /// Fewer would be needed than `minReplicas`.
    MinReplicas,
    /// More pods did not do more.
    DownstreamSaturated,
    /// The queue serves one consumer at a time.
    SingleActiveConsumer,
    /// More are needed, and how many is known when a burst has come in.
    Gathering,
    /// Fewer would do, but not for long enough yet.
    Stabilizing,
    /// Fewer would do, and the pods that are to go still work.
    Draining,
    /// The queue is idle, but not for `cooldown` yet.
    CoolingDown,
    /// The broker says nothing.
    FiguresMissing,
    /// The broker has no such queue.
    QueueMissing,
    /// What is to be scaled is not there.
    TargetMissing,
    /// Another consumer scales it already.
    TargetTaken,
    /// The API server does not let it be scaled.
    ScaleRefused,
}

impl Reason {
    /// As it is written in a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Depth => "Depth",
            Self::Backlog => "Backlog",
            Self::Load => "Load",
            Self::Tail => "Tail",
            Self::Unacked => "Unacked",
            Self::Measuring => "Measuring",
            Self::MaxReplicas => "MaxReplicas",
            Self::MinReplicas => "MinReplicas",
            Self::DownstreamSaturated => "DownstreamSaturated",
            Self::SingleActiveConsumer => "SingleActiveConsumer",
            Self::Gathering => "Gathering",
            Self::Stabilizing => "Stabilizing",
            Self::Draining => "Draining",
            Self::CoolingDown => "CoolingDown",
            Self::FiguresMissing => "FiguresMissing",
            Self::QueueMissing => "QueueMissing",
            Self::TargetMissing => "TargetMissing",
            Self::TargetTaken => "TargetTaken",
            Self::ScaleRefused => "ScaleRefused",
        }
    }
}

/// How many there should be, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The number of pods.
    pub replicas: u32,
    /// What it follows from.
    pub reason: Reason,
}

/// What is known of a queue and its consumers over time.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// How fast things happen.
    pub rates: Rates,
    history: History,
    figures: Option<Latest>,
    /// When the broker was heard last, by our clock.
    heard_ms: u64,
}

#[derive(Clone, Debug)]
enum Latest {
    Queue(Figures),
    NoQueue,
}

impl Fleet {
    /// A fleet of which only an earlier rate of its pods is known.
    pub fn with_pod_rate(pod_rate: Option<f64>) -> Self {
        Self { rates: Rates::with_pod_rate(pod_rate), ..Self::default() }
    }

    /// What is known of the queue, unless that is too old.
    pub fn fresh_figures(&self, now_ms: u64) -> Option<&Figures> {
        self.figures().filter(|_| self.history.age_ms(now_ms) <= FIGURES_AGE_MAX_MS)
    }

    /// What is known of the queue.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.figures {
            Some(Latest::Queue(figures)) => Some(figures),
            Some(Latest::NoQueue) | None => None,
        }
    }

    /// More pods were asked for.
    pub fn ordered(&mut self, now_ms: u64) {
        if let Some(Latest::Queue(figures)) = &self.figures {
            self.history.order(figures.depth(), now_ms);
        }
    }

    /// Takes what the broker says at `now_ms`, by our clock. `None`: there is no such queue.
    pub fn observe(&mut self, figures: Option<Figures>, rule: &Rule, now_ms: u64) {
        self.heard_ms = now_ms;
        let Some(figures) = figures else {
            self.figures = Some(Latest::NoQueue);
            self.history.interrupt();
            return;
        };
        if let Some(Latest::Queue(last)) = &self.figures
            && last.since_ms != figures.since_ms
        {
            self.history.interrupt();
        }
        self.rates.add(&figures);
        self.history.add(&figures, &self.rates, now_ms);
        let needed = self.needed(&figures, rule, now_ms);
        self.history.need(needed.replicas, now_ms);
        self.figures = Some(Latest::Queue(figures));
    }

    /// The broker says that nothing has changed since what it said last.
    pub fn unchanged(&mut self, rule: &Rule, now_ms: u64) {
        if let Some(Latest::Queue(figures)) = &self.figures {
            let passed = now_ms.saturating_sub(self.heard_ms);
            let figures = Figures { at_ms: figures.at_ms + passed, ..figures.clone() };
            self.observe(Some(figures), rule, now_ms);
        }
    }

    /// How many pods there should be at `now_ms`, while `current` are asked for.
    pub fn wanted(&self, rule: &Rule, current: u32, now_ms: u64) -> Wanted {
        if matches!(self.figures, Some(Latest::NoQueue)) {
            return hold(current, rule, Reason::QueueMissing);
        }
        let Some(figures) = self.fresh_figures(now_ms) else { return hold(current, rule, Reason::FiguresMissing) };
        let needed = self.needed(figures, rule, now_ms);
        if needed.replicas >= current {
            return self.grown(needed, figures, rule, current, now_ms);
        }
        // Time in which nothing was heard makes nothing smaller.
        let heard_ms = now_ms.saturating_sub(self.history.age_ms(now_ms));
        let lowest = self.history.most_needed(SHRINK_AFTER_MS, heard_ms);
        let is_backlogged =
            matches!(rule.goal, Goal::DrainWithin(_)) && self.history.has_backlog(SHRINK_AFTER_MS, heard_ms);
        match lowest {
            Some(lowest) if lowest < current && !is_backlogged => {
                self.shrunk(Wanted { replicas: lowest, ..needed }, rule, heard_ms)
            }
            _ => Wanted { replicas: current, reason: Reason::Stabilizing },
        }
    }

    /// What the queue needs now, within the rule's bounds, whatever there is.
    fn needed(&self, figures: &Figures, rule: &Rule, now_ms: u64) -> Wanted {
        let goal = match rule.goal {
            Goal::DepthPerReplica(depth) => {
                most(&[(Reason::Depth, ceil(figures.depth() as f64 / depth.max(1) as f64))])
            }
            Goal::DrainWithin(within_ms) => self.to_drain(figures, within_ms, rule, now_ms),
        };
        let goal = if figures.single_active_consumer && goal.replicas > 1 {
            Wanted { replicas: 1, reason: Reason::SingleActiveConsumer }
        } else {
            goal
        };
        let wanted = larger(goal, Wanted { replicas: in_hand(figures), reason: Reason::Unacked });
        if wanted.replicas > rule.max_replicas {
            return Wanted { replicas: rule.max_replicas, reason: Reason::MaxReplicas };
        }
        if wanted.replicas < rule.min_replicas {
            return Wanted { replicas: rule.min_replicas, reason: Reason::MinReplicas };
        }
        wanted
    }

    fn to_drain(&self, figures: &Figures, within_ms: u64, rule: &Rule, now_ms: u64) -> Wanted {
        let is_idle = figures.depth() == 0;
        let Some(rate) = self.rates.pod_rate() else {
            return Wanted {
                replicas: u32::from(!is_idle),
                reason: if is_idle { Reason::Idle } else { Reason::Measuring },
            };
        };
        let within = within_ms.max(1) as f64 / 1000.0;
        let waited = self.history.backlog_ms(now_ms) as f64 / 1000.0;
        let left = (within - waited).max(within * TIME_LEFT_PART_MIN);
        // A queue at rest has no load: what is left of the mean would keep pods for minutes.
        let arrivals = if is_idle && self.history.is_quiet(now_ms) { 0.0 } else { self.rates.arrivals_over(within) };
        let backlog = if figures.ready > 0 { (arrivals + figures.ready as f64 / left) / rate } else { 0.0 };
        let tail = servers_for(arrivals, rate, within, LATE_PART, rule.max_replicas);
        // What consumers have fetched ahead is not done either.
        let fetched = figures.depth() as f64 / within / rate;
        most(&[
            (Reason::Backlog, ceil(backlog)),
            (Reason::Unacked, ceil(fetched)),
            (Reason::Load, ceil(arrivals / (rate * UTILISATION))),
            (Reason::Tail, tail),
            (Reason::Measuring, u32::from(!is_idle)),
        ])
    }

    /// Grows, if more pods have not been found to be of no use.
    fn grown(&self, needed: Wanted, figures: &Figures, rule: &Rule, current: u32, now_ms: u64) -> Wanted {
        if needed.replicas == current || current < rule.min_replicas || current == 0 {
            return needed;
        }
        if self.history.is_saturated() {
            return Wanted { replicas: current, reason: Reason::DownstreamSaturated };
        }
        if self.history.rises_for(now_ms).is_some_and(|since_ms| since_ms < rule.burst_ms()) {
            return Wanted { replicas: current, reason: Reason::Gathering };
        }
        let are_there = figures.peers.len() as u64 >= u64::from(current);
        let patience = if are_there { GROW_AFTER_MS } else { START_MS };
        let (since_ms, depth) = self.history.since_order(now_ms);
        if since_ms >= patience || figures.depth() >= depth.saturating_mul(MUCH_MORE) {
            needed
        } else {
            Wanted { replicas: current, reason: Reason::Stabilizing }
        }
    }

    /// The last ones go when the queue has been idle for the cooldown.
    fn shrunk(&self, lower: Wanted, rule: &Rule, now_ms: u64) -> Wanted {
        if lower.replicas == 0 && self.history.idle_ms(now_ms) < rule.cooldown_ms {
            return Wanted { replicas: 1.max(rule.min_replicas), reason: Reason::CoolingDown };
        }
        lower
    }
}

/// What nothing is known about stays as it is, but for what was declared.
fn hold(current: u32, rule: &Rule, reason: Reason) -> Wanted {
    Wanted { replicas: current.max(rule.min_replicas), reason }
}

/// How many pods it takes to have so many messages in hand.
fn in_hand(figures: &Figures) -> u32 {
    let busiest = figures.peers.iter().map(|peer| peer.unacked.max(peer.prefetch)).max().unwrap_or(0);
    if busiest == 0 { u32::from(figures.unacked > 0) } else { ceil(figures.unacked as f64 / busiest as f64) }
}

fn most(needs: &[(Reason, u32)]) -> Wanted {
    let idle = Wanted { replicas: 0, reason: Reason::Idle };
    needs.iter().fold(idle, |most, (reason, replicas)| larger(most, Wanted { replicas: *replicas, reason: *reason }))
}

fn larger(one: Wanted, other: Wanted) -> Wanted {
    if other.replicas > one.replicas { other } else { one }
}

/// The next whole number; what is beyond all bounds is the largest.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded on both sides")]
fn ceil(number: f64) -> u32 {
    // A hair above a whole number is rounding, and no need for a pod.
    (number - 1e-9).ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests;
