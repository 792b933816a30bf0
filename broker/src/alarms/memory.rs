//! The alarm of memory: how much of the process's resident set is in use (`in_use`).
//!
//! The resident set is what the process itself took and what the kernel ends it for. What a control group counts beyond it
//! is above all the page cache of the log, which the kernel gives up by itself before anything else, and which would keep
//! the alarm on for ever on a busy disk. Buffers of sockets in the kernel are not in it; the way from the hard stop to the
//! limit is left for them. It takes one read of `/proc/self/statm`, without a lock in the kernel.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{info, warn};

use super::in_use::InUse;
use super::limit::memory_limit;
use super::{Alarms, MemoryLevel};
use crate::config::Watermark;
use crate::limits::{MEMORY_ANSWER_TIMEOUT, MEMORY_FILL_BYTES, MEMORY_INTERVAL, MEMORY_LIMIT_LOOKS};
use crate::statistics::Statistics;

/// Of a thousand parts of the limit: there, publishers are not even read.
const HARD_STOP: u64 = 850;

/// Of a thousand parts of the limit: the highest watermark there is, so that there is a way between it and the hard stop.
pub(crate) const WATERMARK_MAX: u64 = 800;

/// Measures the process's memory and raises or ends the alarm.
pub(crate) struct MemoryWatch {
    alarms: Arc<Alarms>,
    watermark: Watermark,
    statm: File,
    page_bytes: u64,
    limit: u64,
    in_use: InUse,
}

/// What a measurement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    low: bool,
    hard_stop: bool,
}

impl MemoryWatch {
    /// Looks for the limit and measures for the first time.
    ///
    /// # Errors
    /// The kernel does not say how much memory there is or is used, or the watermark is beyond what there is.
    pub(crate) fn new(alarms: Arc<Alarms>, watermark: Watermark) -> anyhow::Result<Self> {
        let limit = memory_limit(Path::new("/"))?;
        let octets = watermark.octets(limit);
        anyhow::ensure!(
            octets <= thousandths(limit, WATERMARK_MAX),
            "memory.high_watermark is {octets} octets, and this process may have {limit}: give at most 0.8 of that"
        );
        let page_bytes = rustix::param::page_size() as u64;
        let statm = File::open("/proc/self/statm")?;
        let mut watch = Self { alarms, watermark, statm, page_bytes, limit, in_use: InUse::default() };
        let resident = watch.resident_bytes()?;
        watch.look(resident, None);
        info!(limit, watermark = octets, "memory is watched");
        Ok(watch)
    }

    /// Measures for as long as the node runs.
    pub(crate) async fn run(mut self, statistics: Arc<Statistics>) {
        let (mut looks, mut is_blind) = (0_u32, false);
        loop {
            let level = self.alarms.memory();
            tokio::time::sleep(pause(level, self.alarms.current().is_hard_stop())).await;
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(MEMORY_LIMIT_LOOKS) {
                self.look_for_limit();
            }
            let resident = match self.resident_bytes() {
                Ok(resident) => resident,
                Err(error) => {
                    // An alarm that is on would stay on for ever.
                    if !std::mem::replace(&mut is_blind, true) {
                        warn!(%error, "the kernel does not say how much memory is used; it is asked again");
                    }
                    continue;
                }
            };
            is_blind = false;
            // Far below the watermark nobody needs to know, and shards are left alone.
            let messages = if resident < level.watermark / 2 { None } else { messages(&statistics).await };
            self.look(resident, messages);
        }
    }

    /// A pod's limit may change while it runs.
    fn look_for_limit(&mut self) {
        match memory_limit(Path::new("/")) {
            Ok(limit) if limit != self.limit => {
                info!(before = self.limit, limit, "the limit of memory has changed");
                self.limit = limit;
            }
            _ => {}
        }
    }

    fn look(&mut self, used: u64, messages: Option<u64>) {
        let in_use = self.in_use.estimate(used, messages);
        // A limit that has become smaller than the watermark draws it along.
        let watermark = self.watermark.octets(self.limit).min(thousandths(self.limit, WATERMARK_MAX));
        let level = MemoryLevel { used, in_use, watermark, limit: self.limit };
        let alarms = self.alarms.current();
        let before = Verdict { low: alarms.memory().is_some(), hard_stop: alarms.is_hard_stop() };
        let now = verdict(level, before);
        self.alarms.set_memory_level(level);
        self.alarms.set_memory(now.low, now.hard_stop);
        tell(level, now, before);
    }

    /// The second number of proc_pid_statm(5), in pages.
    fn resident_bytes(&self) -> io::Result<u64> {
        let mut octets = [0; 128];
        let len = self.statm.read_at(&mut octets, 0)?;
        let text = std::str::from_utf8(&octets[..len]).unwrap_or_default();
        let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.map(|pages| pages * self.page_bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Alarms {
    fn set_memory_level(&self, level: MemoryLevel) {
        let MemoryLevel { used, in_use, watermark, limit } = level;
        self.levels.memory_used.store(used, Ordering::Relaxed);
        self.levels.memory_in_use.store(in_use, Ordering::Relaxed);
        self.levels.memory_watermark.store(watermark, Ordering::Relaxed);
        self.levels.memory_limit.store(limit, Ordering::Relaxed);
        let measured_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.levels.measured_ms.store(measured_ms, Ordering::Relaxed);
    }
}

/// What a level means, after what it meant before: each alarm ends a tenth below where it begins, so that it does not
/// flicker.
fn verdict(level: MemoryLevel, before: Verdict) -> Verdict {
    let MemoryLevel { used: _, in_use, watermark, limit } = level;
    let below = |begin: u64, on: bool| in_use < if on { begin - begin / 10 } else { begin };
    let hard_stop = !below(thousandths(limit, HARD_STOP), before.hard_stop);
    Verdict { low: hard_stop || !below(watermark, before.low), hard_stop }
}

/// Octets of the messages in memory. Whatever keeps a shard from answering, the alarm does not wait for it.
async fn messages(statistics: &Statistics) -> Option<u64> {
    let summary = tokio::time::timeout(MEMORY_ANSWER_TIMEOUT, statistics.summary()).await;
    summary.ok().map(|summary| summary.memory_bytes)
}

/// How long until the next look: half as long as [`MEMORY_FILL_BYTES`] a second need from here to what comes next, so that
/// nobody overruns it unseen; at least 20 ms, and at most [`MEMORY_INTERVAL`].
fn pause(level: MemoryLevel, hard_stop: bool) -> Duration {
    let MemoryLevel { used: _, in_use, watermark, limit } = level;
    let next = match in_use {
        _ if hard_stop => limit,
        in_use if in_use < watermark => watermark,
        _ => thousandths(limit, HARD_STOP),
    };
    let millis = next.saturating_sub(in_use).saturating_mul(1_000) / MEMORY_FILL_BYTES / 2;
    Duration::from_millis(millis).clamp(Duration::from_millis(20), MEMORY_INTERVAL)
}

fn thousandths(limit: u64, parts: u64) -> u64 {
    // A limit below 1,000 octets does not occur, and the other way round very large ones would not fit.
    limit / 1_000 * parts
}

/// Says what has changed, once.
fn tell(level: MemoryLevel, now: Verdict, before: Verdict) {
    let MemoryLevel { used, in_use, watermark, limit } = level;
    if now.low && !before.low {
        warn!(used, in_use, watermark, limit, "memory is low: publishers wait until messages have been consumed");
    }
    if now.hard_stop && !before.hard_stop {
        warn!(used, in_use, limit, "memory is very low: publishers are not read at all");
    }
    if before.low && !now.low {
        info!(used, in_use, watermark, limit, "memory is there again: publishers go on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn level(used: u64) -> MemoryLevel {
        MemoryLevel { used: 999, in_use: used, watermark: 600, limit: 1_000 }
    }

    #[test]
    fn the_alarm_begins_at_the_watermark_and_ends_a_tenth_below() {
        let low = |used, low| verdict(level(used), Verdict { low, hard_stop: false }).low;
        assert!(!low(599, false) && low(600, false));
        assert!(low(540, true) && !low(539, true));
    }

    #[test]
    fn the_hard_stop_begins_at_85_of_100_and_is_an_alarm_too() {
        let verdict = |used, before| verdict(level(used), Verdict { low: before, hard_stop: before });
        assert_eq!(verdict(849, false), Verdict { low: true, hard_stop: false });
        assert_eq!(verdict(850, false), Verdict { low: true, hard_stop: true });
        assert_eq!(verdict(765, true), Verdict { low: true, hard_stop: true });
        assert_eq!(verdict(764, true), Verdict { low: true, hard_stop: false });
        assert_eq!(verdict(539, true), Verdict { low: false, hard_stop: false });
    }

    #[test]
    fn a_gibibyte_a_second_does_not_come_past_the_watermark_unseen() {
        let level = |in_use| MemoryLevel { used: 0, in_use, watermark: 300 * MIB, limit: 512 * MIB };
        let pause = |used| pause(level(used), false);
        assert_eq!(pause(0), Duration::from_millis(146));
        assert_eq!(pause(299 * MIB), Duration::from_millis(20));
        assert_eq!(pause(300 * MIB), Duration::from_millis(66));
        let large = MemoryLevel { used: 0, in_use: 0, watermark: 1 << 40, limit: 1 << 41 };
        assert_eq!(super::pause(large, false), MEMORY_INTERVAL);
    }

    #[test]
    fn this_process_occupies_something() {
        let alarms = Arc::new(Alarms::new(crate::metrics::Metrics::new().expect("names differ")));
        MemoryWatch::new(alarms.clone(), Watermark::default()).expect("Linux");
        let MemoryLevel { used, in_use: _, watermark, limit } = alarms.memory();
        assert!((MIB..1 << 40).contains(&used) && watermark < limit && watermark > limit / 2, "{used} {watermark}");
        let text = MemoryWatch::new(alarms, Watermark::Octets(1 << 60)).err().expect("too much").to_string();
        assert!(text.contains("give at most 0.8"), "{text}");
    }
}
