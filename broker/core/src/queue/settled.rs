//! Sequence numbers on their way into the log.

use alloc::vec::Vec;

use crate::command::SequenceRange;

/// Logged messages of one queue that are done with. Neighbours that come in order are one range from the start.
#[derive(Debug, Default)]
pub(super) struct Settled(Vec<SequenceRange>);

impl Settled {
    /// Adds a number that is not there yet.
    pub(super) fn push(&mut self, sequence: u64) {
        match self.0.last_mut() {
            Some(range) if range.first + range.len == sequence => range.len += 1,
            _ => self.0.push(SequenceRange { first: sequence, len: 1 }),
        }
    }

    /// Adds numbers that are not there yet.
    pub(super) fn push_range(&mut self, range: SequenceRange) {
        self.0.push(range);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The numbers as ranges that ascend and do not touch.
    pub(super) fn ranges(&mut self) -> &[SequenceRange] {
        if !self.0.is_sorted_by_key(|range| range.first) {
            self.0.sort_unstable_by_key(|range| range.first);
        }
        self.0.dedup_by(|next, range| {
            let follows = range.first + range.len == next.first;
            range.len += if follows { next.len } else { 0 };
            follows
        });
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_ascending_ranges() {
        let mut settled = Settled::default();
        [5, 1, 2, 9, 3, 4].into_iter().for_each(|sequence| settled.push(sequence));
        let expected = [(1, 5), (9, 1)].map(|(first, len)| SequenceRange { first, len });
        assert_eq!(settled.ranges(), expected);
    }
}
