//! The volume: how large the log's parts are on it, how much of it is free, the alarm that keeps publishers from using it
//! up, and how much may be forwarded meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tracing::{info, warn};
use warren_storage::{FileDisk, Retention};

use crate::config::LogConfig;
use crate::limits::SPACE_INTERVAL;
use crate::log::CheckpointDue;
use crate::node::SHARDS;

/// Why publishers are held back (RabbitMQ's words in `connection.blocked`).
pub(crate) const LOW_ON_DISK: &str = "low on disk";

/// The sizes of the log's parts, in octets. A large volume gets the sizes that are fastest; on a small one, everything that
/// is bounded here is a small part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogBounds {
    /// A segment of the log: 1/64 of the volume, 1 MiB to 64 MiB, a power of two.
    pub(crate) segment_bytes: u32,
    /// The log between two checkpoints: 1/16 of the volume, at most 64 MiB, while the checkpoints are small.
    pub(crate) checkpoint_bytes: u64,
    /// What publishers must leave free, so that acknowledgements, moved messages and checkpoints have room: 1/8 of the
    /// volume, at most 512 MiB.
    pub(crate) reserve_bytes: u64,
    /// Records waiting for the log thread: at most an eighth of the reserve and 64 MiB.
    pub(crate) queue_bytes: usize,
    /// Commands waiting in one shard: its part of a quarter of the reserve, at most 4 MiB.
    pub(crate) waiting_bytes: usize,
    /// Messages moved after one checkpoint; what is left waits for the next: an eighth of the reserve.
    pub(crate) relocation_bytes: u64,
    /// What waits in front of one shard: its part of another eighth of the reserve, at most 256 KiB.
    pub(crate) inbox_bytes: usize,
}

const MIB: u64 = 1 << 20;

impl LogBounds {
    /// The bounds on a volume of `volume` octets, where the configuration says nothing else.
    pub(crate) fn new(config: &LogConfig, volume: u64) -> Self {
        let segment = (volume / 64).clamp(MIB, 64 * MIB);
        // Both are within u32: 64 MiB is.
        let power = 1_u64 << segment.ilog2();
        let reserve_bytes = (volume / 8).clamp(4 * MIB, 512 * MIB);
        // What was taken in before the alarm is written after it. With a segment that is begun for it, it leaves more of the
        // reserve than what forwarding needs to go on, or nothing would, for ever.
        let shards = u64::from(SHARDS.get());
        Self {
            segment_bytes: config.segment_bytes.unwrap_or(power as u32),
            checkpoint_bytes: config.checkpoint_bytes.unwrap_or_else(|| (volume / 16).clamp(MIB, 64 * MIB)),
            reserve_bytes,
            queue_bytes: (reserve_bytes / 8).min(64 * MIB) as usize,
            waiting_bytes: (reserve_bytes / 4 / shards) as usize,
            relocation_bytes: reserve_bytes / 8,
            inbox_bytes: (reserve_bytes / 8 / shards).min(MIB / 4) as usize,
        }
    }
}

/// Asks the volume how much space is left and raises or ends the alarm. Cloning shares it.
#[derive(Clone)]
pub(crate) struct SpaceWatch {
    retention: Retention<FileDisk>,
    /// Below so many free bytes the alarm begins.
    reserve: u64,
    alarm: watch::Sender<Option<&'static str>>,
    /// See [`Self::forwarding`].
    forwarding: watch::Sender<Option<u64>>,
    /// The log waits for space, however much there seems to be: its next segment may be a long one.
    log_waits: Arc<AtomicBool>,
}

impl SpaceWatch {
    pub(crate) fn new(
        retention: Retention<FileDisk>,
        reserve: u64,
        alarm: watch::Sender<Option<&'static str>>,
    ) -> Self {
        Self { retention, reserve, alarm, forwarding: watch::Sender::new(None), log_waits: Arc::default() }
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
        let raised = self.alarm.borrow().is_some();
        let enough = if raised { self.reserve + self.reserve / 4 } else { self.reserve };
        let log_waits = self.log_waits.load(Ordering::Relaxed);
        let low = space.available < enough || log_waits;
        let allowed = low.then(|| if log_waits { 0 } else { forwardable(space.available, self.reserve) });
        self.allow_forwarding(allowed, renew);
        if low == raised {
            return;
        }
        self.alarm.send_replace(low.then_some(LOW_ON_DISK));
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
            if self.alarm.borrow().is_some() {
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

    #[test]
    fn a_large_volume_gets_the_largest_parts() {
        let bounds = LogBounds::new(&LogConfig::default(), 1 << 40);
        assert_eq!((bounds.segment_bytes, bounds.checkpoint_bytes), (64 << 20, 64 << 20));
        assert_eq!((bounds.reserve_bytes, bounds.queue_bytes), (512 << 20, 64 << 20));
        assert_eq!((bounds.waiting_bytes, bounds.inbox_bytes), (4 << 20, 256 << 10));
    }

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

    #[test]
    fn the_configuration_has_the_last_word() {
        let config = LogConfig { segment_bytes: Some(1 << 20), checkpoint_bytes: Some(3 << 20) };
        let bounds = LogBounds::new(&config, 1 << 40);
        assert_eq!((bounds.segment_bytes, bounds.checkpoint_bytes), (1 << 20, 3 << 20));
    }
}
