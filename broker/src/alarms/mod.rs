//! What the node is short of. While that is memory or disk, publishers wait (`connection.blocked`) and everybody else goes on.
//!
//! ```text
//!          below the watermark            at it or above                 at the hard stop (memory)
//!  quiet ──────────────────────▶ alarm: who publishes is not ──────▶ who has published before is not
//!    ▲                           read from then on                   read at all, others little by little
//!    └──── a tenth below the watermark again (disk: a quarter above the reserve)
//! ```
//!
//! A client is told once that it is blocked and once that it is not any more, whatever changes in between. Connections
//! that only consume notice nothing: what they acknowledge is what ends the alarm.

pub(crate) mod disk;
mod in_use;
mod limit;
pub(crate) mod memory;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::metrics::Metrics;

/// What the node is short of now, and since when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AlarmSet {
    memory: Option<SystemTime>,
    disk: Option<SystemTime>,
    /// Memory is at the hard stop.
    hard_stop: bool,
}

impl AlarmSet {
    /// Since when memory is short, if it is.
    pub(crate) fn memory(&self) -> Option<SystemTime> {
        self.memory
    }

    /// Since when space on the volume is short, if it is.
    pub(crate) fn disk(&self) -> Option<SystemTime> {
        self.disk
    }

    /// True if there is so little memory that publishers are not even read.
    pub(crate) fn is_hard_stop(&self) -> bool {
        self.memory.is_some() && self.hard_stop
    }

    /// Why publishers wait, in RabbitMQ's words for `connection.blocked`; `None` if they need not.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match (self.memory, self.disk) {
            (None, None) => None,
            (Some(_), None) => Some("low on memory"),
            (None, Some(_)) => Some("low on disk"),
            (Some(_), Some(_)) => Some("low on memory & disk"),
        }
    }
}

/// The node's alarms and the levels that they depend on.
#[derive(Debug)]
pub(crate) struct Alarms {
    set: watch::Sender<AlarmSet>,
    levels: Levels,
    metrics: Metrics,
    began: Instant,
}

/// In octets, as last measured.
#[derive(Debug, Default)]
struct Levels {
    memory_used: AtomicU64,
    memory_in_use: AtomicU64,
    memory_watermark: AtomicU64,
    memory_limit: AtomicU64,
    /// Milliseconds from the beginning to the last measurement.
    measured_ms: AtomicU64,
    disk_free: AtomicU64,
    disk_reserve: AtomicU64,
}

/// How much memory the process has, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryLevel {
    /// What it occupies: its resident set.
    pub(crate) used: u64,
    /// What of that is in use, and not only kept by the allocator. This is what the watermark is compared with.
    pub(crate) in_use: u64,
    /// From there on publishers wait.
    pub(crate) watermark: u64,
    /// What it may occupy at most: the smallest limit of its control groups, or what the host has.
    pub(crate) limit: u64,
}

/// How much space the volume has, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskLevel {
    /// What is free.
    pub(crate) free: u64,
    /// Below that publishers wait.
    pub(crate) reserve: u64,
}

impl Alarms {
    /// Without alarms, and without levels before they are measured.
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { set: watch::Sender::new(AlarmSet::default()), levels: Levels::default(), metrics, began: Instant::now() }
    }

    /// What is short now.
    pub(crate) fn current(&self) -> AlarmSet {
        *self.set.borrow()
    }

    /// What is short from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<AlarmSet> {
        self.set.subscribe()
    }

    /// What memory was last measured to be.
    pub(crate) fn memory(&self) -> MemoryLevel {
        let Levels { memory_used, memory_in_use, memory_watermark, memory_limit, .. } = &self.levels;
        let [used, in_use, watermark, limit] = [memory_used, memory_in_use, memory_watermark, memory_limit].map(load);
        MemoryLevel { used, in_use, watermark, limit }
    }

    /// How long ago memory was last measured.
    pub(crate) fn since_measured(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(load(&self.levels.measured_ms)))
    }

    /// What the volume was last measured to have.
    pub(crate) fn volume(&self) -> DiskLevel {
        let [free, reserve] = [&self.levels.disk_free, &self.levels.disk_reserve].map(load);
        DiskLevel { free, reserve }
    }

    fn set_memory(&self, low: bool, hard_stop: bool) {
        self.set.send_if_modified(|set| {
            let before = *set;
            set.memory = since(set.memory, low);
            set.hard_stop = hard_stop;
            *set != before
        });
        self.metrics.memory_alarm.set(i64::from(low));
    }

    fn set_disk(&self, low: bool) {
        self.set.send_if_modified(|set| {
            let before = *set;
            set.disk = since(set.disk, low);
            *set != before
        });
        self.metrics.disk_alarm.set(i64::from(low));
    }
}

fn load(level: &AtomicU64) -> u64 {
    level.load(Ordering::Relaxed)
}

/// Since when it is low, if it is: since now if it was not before.
fn since(before: Option<SystemTime>, low: bool) -> Option<SystemTime> {
    low.then(|| before.unwrap_or_else(SystemTime::now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_are_told_rabbitmqs_words_for_what_is_short() {
        let alarms = Alarms::new(Metrics::new().expect("names differ"));
        let watch = alarms.subscribe();
        assert_eq!(alarms.current().reason(), None);
        alarms.set_memory(true, false);
        assert_eq!(alarms.current().reason(), Some("low on memory"));
        alarms.set_disk(true);
        assert_eq!(alarms.current().reason(), Some("low on memory & disk"));
        alarms.set_memory(false, false);
        assert_eq!((alarms.current().reason(), alarms.current().memory()), (Some("low on disk"), None));
        assert!(watch.has_changed().expect("the sender lives"));
    }

    #[test]
    fn an_alarm_keeps_the_time_when_it_began_and_wakes_nobody_while_it_lasts() {
        let alarms = Alarms::new(Metrics::new().expect("names differ"));
        alarms.set_memory(true, false);
        let began = alarms.current().memory();
        let watch = alarms.subscribe();
        alarms.set_memory(true, false);
        assert!(!watch.has_changed().expect("the sender lives"));
        alarms.set_memory(true, true);
        assert!(watch.has_changed().expect("the sender lives") && alarms.current().is_hard_stop());
        assert_eq!(alarms.current().memory(), began);
    }
}
