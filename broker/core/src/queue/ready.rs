//! The messages that wait, in the order of their positions.

use alloc::collections::{BTreeMap, VecDeque};

use super::Slot;
use crate::command::SequenceRange;

/// Messages never handed out, and those that came back. A returned message was once ahead of all fresh ones,
/// so the returned come first and both parts stay sorted without moving anything.
#[derive(Debug, Default)]
pub(super) struct Ready {
    returned: BTreeMap<u64, Slot>,
    fresh: VecDeque<Slot>,
}

impl Ready {
    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.returned.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.returned.len() + self.fresh.len()
    }

    /// Appends a new message.
    pub(super) fn push(&mut self, slot: Slot) {
        self.fresh.push_back(slot);
    }

    /// Puts a message back at its position.
    pub(super) fn put_back(&mut self, slot: Slot) {
        self.returned.insert(slot.position, slot);
    }

    /// Takes the first message.
    pub(super) fn pop(&mut self) -> Option<Slot> {
        match self.returned.pop_first() {
            Some((_, slot)) => Some(slot),
            None => self.fresh.pop_front(),
        }
    }

    /// Drops the messages with these sequence numbers, if they are here and were never handed out.
    /// Numbers ascend along the queue, so the first is found by bisection and the rest follow it.
    pub(super) fn remove_sequences(&mut self, range: SequenceRange) {
        let end = range.first.saturating_add(range.len);
        let start = self.fresh.partition_point(|slot| slot.sequence < Some(range.first));
        let stop = self.fresh.partition_point(|slot| slot.sequence < Some(end));
        self.fresh.drain(start..stop);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.returned.values().chain(&self.fresh)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.returned.values_mut().chain(&mut self.fresh)
    }

    pub(super) fn mark_redelivered(&mut self) {
        self.iter_mut().for_each(|slot| slot.redelivered = true);
    }
}
