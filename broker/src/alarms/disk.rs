//! The alarm of the volume: how much of it is free, and how much may be forwarded while that is little.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tracing::{info, warn};
use warren_storage::{FileDisk, Retention};

use super::Alarms;
use crate::limits::SPACE_INTERVAL;
use crate::log::CheckpointDue;

/// Asks the volume how much space is left and raises or ends the alarm. Cloning shares it.
#[derive(Clone)]
pub(crate) struct SpaceWatch {
    retention: Retention<FileDisk>,
    /// Below so many free bytes the alarm begins.
    reserve: u64,
    alarms: Arc<Alarms>,
    /// See [`Self::forwarding`].
    forwarding: watch::Sender<Option<u64>>,
    /// The log waits for space, however much there seems to be: its next segment may be a long one.
    log_waits: Arc<AtomicBool>,
}

impl SpaceWatch {
    pub(crate) fn new(retention: Retention<FileDisk>, reserve: u64, alarms: Arc<Alarms>) -> Self {
        Self { retention, reserve, alarms, forwarding: watch::Sender::new(None), log_waits: Arc::default() }
    }

    /// Octets that may be forwarded from one queue to others in the next [`SPACE_INTERVAL`]; `None`: any number, there is
    /// space.
    pub(crate) fn forwarding(&self) -> watch::Receiver<Option<u64>> {
        self.forwarding.subscribe()
    }

    /// The log begins or ends to wait for space.
    pub(crate) fn log_waits(&self, waits: bool) {
        self.log_waits.store(waits, Ordering::Relaxed);
        self.look();
    }

    /// Looks now. Blocks for one `statvfs`.
    pub(crate) fn look(&self) {
        self.look_and_allow(false);
    }

    /// `renew`: what was allowed to be forwarded is in the log by now, and more may follow.
    fn look_and_allow(&self, renew: bool) {
        let space = match self.retention.space() {
            Ok(space) => space,
            Err(error) => return warn!(%error, "the volume does not say how much space it has"),
        };
        // It ends a little above where it begins, so that it does not flicker.
        let raised = self.alarms.current().disk().is_some();
        let enough = if raised { self.reserve + self.reserve / 4 } else { self.reserve };
        let log_waits = self.log_waits.load(Ordering::Relaxed);
        let low = space.available < enough || log_waits;
        let allowed = low.then(|| if log_waits { 0 } else { forwardable(space.available, self.reserve) });
        self.allow_forwarding(allowed, renew);
        self.alarms.levels.disk_free.store(space.available, Ordering::Relaxed);
        self.alarms.levels.disk_reserve.store(self.reserve, Ordering::Relaxed);
        if low == raised {
            return;
        }
        self.alarms.set_disk(low);
        let (available, reserve) = (space.available, self.reserve);
        if low {
            warn!(available, reserve, "the volume is almost full: publishers wait until messages have been consumed");
        } else {
            info!(available, reserve, "the volume has space again: publishers go on");
        }
    }

    fn allow_forwarding(&self, octets: Option<u64>, renew: bool) {
        self.forwarding.send_if_modified(|last| {
            let tell = match (*last, octets) {
                (None, None) => false,
                // What was allowed when it was renewed is still being used up.
                (Some(_), Some(1..)) => renew,
                _ => true,
            };
            if tell {
                *last = octets;
            }
            tell
        });
    }

    /// Looks from time to time, for as long as the node runs. While space is low, each look also makes a checkpoint due:
    /// it gives back the space of what has been consumed.
    pub(crate) async fn run(self, checkpoint: CheckpointDue) {
        let mut interval = tokio::time::interval(SPACE_INTERVAL);
        loop {
            interval.tick().await;
            let watch = self.clone();
            // Fails only if the runtime is going away.
            let _ = tokio::task::spawn_blocking(move || watch.look_and_allow(true)).await;
            if self.alarms.current().disk().is_some() {
                checkpoint.now();
            }
        }
    }
}

/// Octets that may be forwarded while space is low. Messages go on then, or consumers of the next queues, who could give
/// space back, would wait for ever; but slowly, because a message that moves takes its space twice until a checkpoint
/// has given the old one back, and several times if it goes to several queues. A quarter of the reserve is left to everything
/// else, so that the log can begin another segment (new ones leave an eighth, and none is longer than that) and does not
/// wait: what is forwarded comes closer to it and never reaches it, however often space is looked at.
fn forwardable(available: u64, reserve: u64) -> u64 {
    available.saturating_sub(reserve / 4) / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogConfig;
    use crate::node::SHARDS;
    use crate::space::LogBounds;

    const MIB: u64 = 1 << 20;

    /// Octets that may be taken in before the alarm and written after it.
    fn under_way(bounds: &LogBounds) -> u64 {
        let shards = usize::from(SHARDS.get()) * (bounds.waiting_bytes + bounds.inbox_bytes);
        (bounds.queue_bytes + shards) as u64
    }

    #[test]
    fn everything_under_way_fits_into_half_of_the_reserve() {
        let bounds = LogBounds::new(&LogConfig::default(), 64 << 20);
        assert_eq!((bounds.segment_bytes, bounds.reserve_bytes), (1 << 20, 8 << 20));
        for power in 26..42 {
            let bounds = LogBounds::new(&LogConfig::default(), 1 << power);
            assert!(under_way(&bounds) <= bounds.reserve_bytes / 2, "{bounds:?}");
        }
    }

    #[test]
    fn what_was_taken_in_before_the_alarm_does_not_keep_messages_from_going_on() {
        for volume in (26..42).flat_map(|power| [1 << power, 3 << (power - 1)]) {
            let bounds = LogBounds::new(&LogConfig::default(), volume);
            let (reserve, segment) = (bounds.reserve_bytes, u64::from(bounds.segment_bytes));
            let left = reserve - under_way(&bounds) - segment;
            assert!(forwardable(left, reserve) >= segment / 8, "{bounds:?}");
        }
    }

    #[test]
    fn nothing_is_forwarded_unless_the_log_can_begin_a_segment() {
        for power in 26..42 {
            let bounds = LogBounds::new(&LogConfig::default(), 1 << power);
            let reserve = bounds.reserve_bytes;
            assert!(u64::from(bounds.segment_bytes) + reserve / 8 <= reserve / 4);
            assert_eq!(forwardable(reserve / 4, reserve), 0);
            assert!(forwardable(reserve / 4 + 8, reserve) > 0);
        }
    }

    #[test]
    fn what_is_forwarded_without_giving_space_back_leaves_a_quarter_of_the_reserve() {
        let reserve = 512 * MIB;
        let mut available = reserve - 1;
        for _ in 0..1_000 {
            available -= forwardable(available, reserve);
        }
        assert!((reserve / 4..reserve / 4 + 8).contains(&available), "{available}");
        assert_eq!(forwardable(0, reserve), 0);
        assert_eq!(forwardable(reserve, reserve), 48 * MIB, "moving messages goes on meanwhile");
    }
}
