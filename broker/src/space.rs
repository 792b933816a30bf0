//! How large the log's parts are on its volume.

use crate::config::LogConfig;
use crate::node::SHARDS;

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

    #[test]
    fn the_configuration_has_the_last_word() {
        let config = LogConfig { segment_bytes: Some(1 << 20), checkpoint_bytes: Some(3 << 20) };
        let bounds = LogBounds::new(&config, 1 << 40);
        assert_eq!((bounds.segment_bytes, bounds.checkpoint_bytes), (1 << 20, 3 << 20));
    }
}
