//! Whose turn it is.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Those of one priority who wait for their turn, next one first.
#[derive(Debug)]
struct Level {
    priority: i32,
    waiting: VecDeque<u32>,
}

/// Consumers that wait for their turn, by number: those of higher priority first, those of one priority in the order in
/// which they came.
///
/// A priority is kept until somebody who had it is taken out, so that coming and going allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// By priority, highest first.
    levels: Vec<Level>,
    /// Nobody waits at the levels before this one.
    first: usize,
    waiting: usize,
}

impl Turns {
    /// True if nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Whose turn it is, and with which priority.
    pub(super) fn front(&mut self) -> Option<(u32, i32)> {
        while let Some(level) = self.levels.get(self.first) {
            if let Some(number) = level.waiting.front() {
                return Some((*number, level.priority));
            }
            self.first += 1;
        }
        None
    }

    /// Lets `number` wait behind the others of its priority.
    pub(super) fn push_back(&mut self, number: u32, priority: i32) {
        self.level(priority).push_back(number);
    }

    /// Lets `number` wait before the others of its priority.
    pub(super) fn push_front(&mut self, number: u32, priority: i32) {
        self.level(priority).push_front(number);
    }

    /// Takes the one whose turn it is.
    pub(super) fn pop_front(&mut self) -> Option<(u32, i32)> {
        let front = self.front()?;
        self.levels[self.first].waiting.pop_front();
        self.waiting -= 1;
        Some(front)
    }

    /// Puts the one whose turn it is behind the others of its priority.
    pub(super) fn rotate(&mut self) {
        if self.front().is_some() {
            let waiting = &mut self.levels[self.first].waiting;
            if waiting.len() > 1 {
                waiting.rotate_left(1);
            }
        }
    }

    /// Takes out `number`, which waits with `priority` if it does at all.
    pub(super) fn remove(&mut self, number: u32, priority: i32) {
        if let Ok(at) = self.find(priority) {
            let waiting = &mut self.levels[at].waiting;
            let before = waiting.len();
            waiting.retain(|other| *other != number);
            self.waiting -= before - waiting.len();
            if waiting.is_empty() {
                self.levels.remove(at);
                self.first -= usize::from(at < self.first);
            }
        }
    }

    fn level(&mut self, priority: i32) -> &mut VecDeque<u32> {
        let at = self.find(priority).unwrap_or_else(|at| {
            self.levels.insert(at, Level { priority, waiting: VecDeque::new() });
            at
        });
        self.first = self.first.min(at);
        self.waiting += 1;
        &mut self.levels[at].waiting
    }

    fn find(&self, priority: i32) -> Result<usize, usize> {
        self.levels.binary_search_by(|level| priority.cmp(&level.priority))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn all(mut turns: Turns) -> Vec<u32> {
        core::iter::from_fn(|| turns.pop_front()).map(|(number, _)| number).collect()
    }

    fn with(waiting: &[(u32, i32)]) -> Turns {
        let mut turns = Turns::default();
        waiting.iter().for_each(|(number, priority)| turns.push_back(*number, *priority));
        turns
    }

    #[test]
    fn higher_priorities_come_first_and_equal_ones_in_the_order_of_arrival() {
        assert_eq!(
            all(with(&[(1, 0), (2, i32::MAX), (3, 0), (4, i32::MIN), (5, 7), (6, i32::MAX)])),
            [2, 6, 5, 1, 3, 4]
        );
        let mut turns = with(&[(1, 0), (2, 5), (3, 5)]);
        turns.rotate();
        turns.push_front(4, 0);
        assert_eq!(all(turns), [3, 2, 4, 1]);
    }

    #[test]
    fn one_of_a_higher_level_that_comes_back_is_next() {
        let mut turns = with(&[(1, 5), (2, 0)]);
        assert_eq!(turns.pop_front(), Some((1, 5)));
        assert_eq!(turns.front(), Some((2, 0)));
        turns.push_back(1, 5);
        assert_eq!(all(turns), [1, 2]);
    }

    #[test]
    fn who_is_taken_out_leaves_no_level_behind() {
        let mut turns = with(&[(1, 0)]);
        for priority in 1..1_000 {
            turns.push_back(2, priority);
            assert_eq!(turns.pop_front(), Some((2, priority)));
            assert_eq!(turns.front(), Some((1, 0)));
            turns.remove(2, priority);
            assert!(!turns.is_empty() && turns.levels.len() == 1);
        }
        turns.remove(1, 0);
        assert!(turns.is_empty() && turns.levels.is_empty());
        turns.push_back(3, 0);
        assert_eq!(all(turns), [3]);
    }
}
