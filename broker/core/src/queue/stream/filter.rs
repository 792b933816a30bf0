//! Which messages a reader wants.

use alloc::vec::Vec;

use super::record::fingerprint;
use crate::queue::StreamReading;

/// Filter values by their fingerprints, and a bit for each that a chunk with such messages has too.
#[derive(Debug)]
pub(super) struct Filter {
    /// Ascending.
    values: Vec<u32>,
    /// Also messages without a value.
    unfiltered: bool,
    /// See [`Self::bit`].
    bits: u64,
}

impl Filter {
    /// What `reading` asks for; `None`: everything.
    pub(super) fn of(reading: &StreamReading) -> Option<Self> {
        if reading.filter.is_empty() {
            return None;
        }
        let mut values: Vec<u32> = reading.filter.iter().map(|value| fingerprint(value)).collect();
        values.sort_unstable();
        values.dedup();
        let unfiltered = reading.match_unfiltered;
        let bits = values.iter().fold(0, |bits, value| bits | Self::bit(Some(*value)));
        Some(Self { values, unfiltered, bits: bits | if unfiltered { Self::bit(None) } else { 0 } })
    }

    /// The bit of a value among 63, and the highest for messages without a value.
    pub(super) fn bit(value: Option<u32>) -> u64 {
        1 << value.map_or(63, |value| value % 63)
    }

    /// True if there may be messages for it where `bits` are set.
    pub(super) fn may_match(&self, bits: u64) -> bool {
        self.bits & bits != 0
    }

    /// True if it wants a message with this value.
    pub(super) fn matches(&self, value: Option<u32>) -> bool {
        value.map_or(self.unfiltered, |value| self.values.binary_search(&value).is_ok())
    }
}
