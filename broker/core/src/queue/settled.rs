//! Sequence numbers on their way into the log.

use alloc::vec::Vec;

use crate::command::{FailedRange, SequenceRange};

/// Logged messages of one queue that are done with, and those that came back from a failed delivery.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Neighbours that come in order are one range from the start.
    done: Vec<SequenceRange>,
    /// Each with how often it has come back so far.
    failed: Vec<FailedRange>,
    /// Messages with deduplication keys that were refused.
    unlearnt: Vec<Unlearnt>,
    /// Somebody is to be told of these when they are in the log.
    awaited: bool,
}

/// A logged message that had a deduplication key and was refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unlearnt {
    pub(super) key: u128,
    /// Its number and its position, unless it goes on as a dead letter.
    pub(super) message: Option<(u64, u64)>,
}

impl Settled {
    /// Adds a number that is not there yet.
    pub(super) fn push(&mut self, sequence: u64) {
        match self.done.last_mut() {
            Some(range) if range.first + range.len == sequence => range.len += 1,
            _ => self.done.push(SequenceRange { first: sequence, len: 1 }),
        }
    }

    /// Adds a number that is not there yet, of a message whose publisher is told when the log has it.
    pub(super) fn push_awaited(&mut self, sequence: u64) {
        self.push(sequence);
        self.awaited = true;
    }

    /// Adds numbers that are not there yet.
    pub(super) fn push_range(&mut self, range: SequenceRange) {
        self.done.push(range);
    }

    /// Adds a number of a message that came back, for the so manieth time.
    pub(super) fn fail(&mut self, sequence: u64, count: u32) {
        match self.failed.last_mut() {
            Some(FailedRange { range, count: same }) if range.first + range.len == sequence && *same == count => {
                range.len += 1;
            }
            _ => self.failed.push(FailedRange { range: SequenceRange { first: sequence, len: 1 }, count }),
        }
    }

    /// Adds a message that was refused.
    pub(super) fn unlearn(&mut self, unlearnt: Unlearnt) {
        self.unlearnt.push(unlearnt);
        self.awaited = true;
    }

    pub(super) fn unlearnt(&self) -> &[Unlearnt] {
        &self.unlearnt
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.awaited
    }

    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.failed.is_empty() && self.unlearnt.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.unlearnt.clear();
        self.awaited = false;
        self.done.clear();
        self.failed.clear();
    }

    /// What came back, as ranges that ascend and do not overlap.
    pub(super) fn failed(&mut self) -> &[FailedRange] {
        if !self.failed.is_sorted_by_key(|failed| failed.range.first) {
            self.failed.sort_unstable_by_key(|failed| failed.range.first);
        }
        &self.failed
    }

    /// What is done with, as ranges that ascend and do not touch.
    pub(super) fn ranges(&mut self) -> &[SequenceRange] {
        if !self.done.is_sorted_by_key(|range| range.first) {
            self.done.sort_unstable_by_key(|range| range.first);
        }
        self.done.dedup_by(|next, range| {
            let follows = range.first + range.len == next.first;
            range.len += if follows { next.len } else { 0 };
            follows
        });
        &self.done
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

    #[test]
    fn neighbours_that_came_back_as_often_are_one_range() {
        let mut settled = Settled::default();
        [(5, 1), (6, 1), (7, 2), (3, 1)].into_iter().for_each(|(sequence, count)| settled.fail(sequence, count));
        let failed = |(first, len, count)| FailedRange { range: SequenceRange { first, len }, count };
        assert_eq!(settled.failed(), [(3, 1, 1), (5, 2, 1), (7, 1, 2)].map(failed));
    }
}
