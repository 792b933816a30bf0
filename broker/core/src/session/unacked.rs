//! What a channel's client holds, by delivery tag.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::SessionOutput;
use crate::identity::{ChannelKey, QueueId, ShardId};
use crate::queue::{PositionRange, Settlement};

/// Holes that are not worth closing.
const HOLES_MIN: usize = 64;

/// The position of a message that has gone back without its client: acknowledging it has no effect. No queue has it.
const GONE: u64 = u64::MAX;

/// A message that the client holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) shard: ShardId,
    pub(super) queue: QueueId,
    pub(super) position: u64,
    pub(super) holder: Holder,
}

/// By whom a message was received: a consumer of the channel, or `basic.get`. Two consumers are told apart unless 65,535
/// came between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder(u16);

impl Holder {
    /// Nobody consumed it: the client got it.
    pub(super) const GET: Self = Self(0);

    /// The consumer of that number.
    pub(super) fn of(serial: u32) -> Self {
        Self((serial % u32::from(u16::MAX)) as u16 + 1)
    }
}

impl Held {
    /// True if a consumer's client has it.
    fn is_consumed(self) -> bool {
        self.holder != Holder::GET && self.position != GONE
    }

    /// Settles it; answers how many that were, 0 if it has gone back before.
    fn settle(self, channel: ChannelKey, settlement: Settlement, out: &mut SessionOutput) -> u64 {
        if self.position == GONE {
            return 0;
        }
        out.shards.settle(self.shard, self.queue, channel, PositionRange { first: self.position, len: 1 }, settlement);
        1
    }
}

/// Deliveries that are not settled yet, oldest first. Tags only grow, so a delivery is added at the end; mostly they
/// follow each other, so a tag's place is its distance from the first. One that is settled out of its turn leaves a
/// hole; holes are closed when they are more than the rest.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    entries: VecDeque<Entry>,
    holes: usize,
    /// How many came by consumers and have not gone back, with those that are settled later.
    consumed: usize,
    /// What is settled when the channel's transaction is committed.
    uncommitted: Vec<Uncommitted>,
}

#[derive(Debug)]
struct Uncommitted {
    tag: u64,
    held: Held,
    settlement: Settlement,
}

#[derive(Debug)]
struct Entry {
    tag: u64,
    position: u64,
    queue: QueueId,
    /// The metadata's shard, which has no messages, marks a hole.
    shard: ShardId,
    holder: Holder,
}

const _: () = assert!(size_of::<Entry>() == 24);

impl Entry {
    fn held(&self) -> Held {
        let Self { shard, queue, position, holder, .. } = *self;
        Held { shard, queue, position, holder }
    }

    fn is_hole(&self) -> bool {
        self.shard == ShardId::METADATA
    }
}

impl Unacked {
    /// Adds a delivery; `tag` is larger than all before.
    #[inline]
    pub(super) fn push(&mut self, tag: u64, held: Held) {
        let Held { shard, queue, position, holder } = held;
        self.entries.push_back(Entry { tag, position, queue, shard, holder });
        self.consumed += usize::from(held.is_consumed());
    }

    /// How many the client has and has not settled.
    pub(super) fn len(&self) -> u64 {
        (self.entries.len() - self.holes) as u64
    }

    /// How many are settled when the channel's transaction is committed.
    pub(super) fn uncommitted(&self) -> u64 {
        self.uncommitted.len() as u64
    }

    /// How many the client has by its consumers, with those that are settled later. What has gone back without it counts
    /// no more, though its tag is known.
    #[inline]
    pub(super) fn consumed(&self) -> usize {
        self.consumed
    }

    /// The queues that they come from.
    pub(super) fn queues(&self) -> BTreeSet<(ShardId, QueueId)> {
        let held = self.entries.iter().filter(|entry| !entry.is_hole() && entry.position != GONE);
        let later = self.uncommitted.iter().map(|later| (later.held.shard, later.held.queue));
        held.map(|entry| (entry.shard, entry.queue)).chain(later).collect()
    }

    /// What a consumer had of its queue, or what was got of it, has gone back there; answers how many that were. The tags
    /// stay known.
    pub(super) fn forget(&mut self, shard: ShardId, queue: QueueId, holder: Holder) -> usize {
        let is_it =
            |held: Held| (held.shard, held.queue, held.holder) == (shard, queue, holder) && held.position != GONE;
        let (consumed, mut forgotten) = (&mut self.consumed, 0);
        let mut forget = |held: Held, position: &mut u64| {
            *consumed -= usize::from(held.is_consumed());
            *position = GONE;
            forgotten += 1;
        };
        let entries = self.entries.iter_mut().filter(|entry| is_it(entry.held()));
        entries.for_each(|entry| forget(entry.held(), &mut entry.position));
        let later = self.uncommitted.iter_mut().filter(|later| is_it(later.held));
        later.for_each(|later| forget(later.held, &mut later.held.position));
        forgotten
    }

    /// Settles one delivery. Answers how many, 0 if it has gone back before; `None`: there is none of that tag.
    pub(super) fn settle_one(
        &mut self,
        channel: ChannelKey,
        tag: u64,
        settlement: Settlement,
        out: &mut SessionOutput,
    ) -> Option<u64> {
        self.take(tag).map(|held| held.settle(channel, settlement, out))
    }

    /// Takes out one delivery; `None`: there is none of that tag.
    fn take(&mut self, tag: u64) -> Option<Held> {
        let at = self.find(tag)?;
        let held = self.entries[at].held();
        self.entries[at].shard = ShardId::METADATA;
        self.holes += 1;
        self.consumed -= usize::from(held.is_consumed());
        self.close_holes();
        Some(held)
    }

    /// Notes that a delivery, or with `multiple` everything up to it, is settled by [`Self::commit`]; `None`: there is none
    /// of that tag. Until then the tags are unknown.
    pub(super) fn settle_later(&mut self, tag: u64, multiple: bool, settlement: Settlement) -> Option<()> {
        if !multiple {
            let held = self.take(tag)?;
            self.consumed += usize::from(held.is_consumed());
            self.uncommitted.push(Uncommitted { tag, held, settlement });
            return Some(());
        }
        let end = if tag == 0 { self.entries.len() } else { self.find(tag)? + 1 };
        for entry in self.entries.drain(..end) {
            match entry.shard {
                ShardId::METADATA => self.holes -= 1,
                _ => self.uncommitted.push(Uncommitted { tag: entry.tag, held: entry.held(), settlement }),
            }
        }
        Some(())
    }

    /// The tags of what is to be settled later, and how.
    pub(super) fn settled_later(&self) -> impl Iterator<Item = (u64, Settlement)> {
        self.uncommitted.iter().map(|Uncommitted { tag, settlement, .. }| (*tag, *settlement))
    }

    /// Settles what was to be settled later; answers how many were acknowledged.
    pub(super) fn commit(&mut self, channel: ChannelKey, out: &mut SessionOutput) -> u64 {
        let mut acknowledged = 0;
        for Uncommitted { held, settlement, .. } in self.uncommitted.drain(..) {
            self.consumed -= usize::from(held.is_consumed());
            let settled = held.settle(channel, settlement, out);
            acknowledged += if settlement == Settlement::Done { settled } else { 0 };
        }
        acknowledged
    }

    /// Puts what was to be settled later back to its place.
    pub(super) fn roll_back(&mut self) {
        if self.uncommitted.is_empty() {
            return;
        }
        self.entries.retain(|entry| !entry.is_hole());
        self.holes = 0;
        for Uncommitted { tag, held, .. } in core::mem::take(&mut self.uncommitted) {
            self.consumed -= usize::from(held.is_consumed());
            self.push(tag, held);
        }
        self.entries.make_contiguous().sort_unstable_by_key(|entry| entry.tag);
    }

    /// Settles everything up to `tag`, or everything if that is 0, also if that is nothing (spec `basic.ack`).
    /// Answers how many; `None`: there is none of that tag, and nothing is settled.
    pub(super) fn settle_up_to(
        &mut self,
        channel: ChannelKey,
        tag: u64,
        settlement: Settlement,
        out: &mut SessionOutput,
    ) -> Option<u64> {
        let end = if tag == 0 { self.entries.len() } else { self.find(tag)? + 1 };
        let mut settled = 0;
        let mut run: Option<(ShardId, QueueId, PositionRange)> = None;
        for entry in self.entries.drain(..end) {
            let Entry { shard, queue, position, .. } = entry;
            if shard == ShardId::METADATA {
                self.holes -= 1;
                continue;
            }
            if position == GONE {
                continue;
            }
            self.consumed -= usize::from(entry.held().is_consumed());
            settled += 1;
            match &mut run {
                Some((of, from, range)) if (*of, *from) == (shard, queue) && range.first + range.len == position => {
                    range.len += 1;
                }
                _ => {
                    let next = (shard, queue, PositionRange { first: position, len: 1 });
                    if let Some((shard, queue, range)) = run.replace(next) {
                        out.shards.settle(shard, queue, channel, range, settlement);
                    }
                }
            }
        }
        if let Some((shard, queue, range)) = run {
            out.shards.settle(shard, queue, channel, range, settlement);
        }
        Some(settled)
    }

    /// The place of a delivery.
    #[inline]
    fn find(&self, tag: u64) -> Option<usize> {
        let first = self.entries.front()?.tag;
        let guess = usize::try_from(tag.checked_sub(first)?).ok()?;
        let at = match self.entries.get(guess) {
            Some(entry) if entry.tag == tag => guess,
            _ => self.entries.binary_search_by_key(&tag, |entry| entry.tag).ok()?,
        };
        (!self.entries[at].is_hole()).then_some(at)
    }

    fn close_holes(&mut self) {
        while self.entries.front().is_some_and(Entry::is_hole) {
            self.entries.pop_front();
            self.holes -= 1;
        }
        if self.holes > HOLES_MIN && self.holes > self.entries.len() / 2 {
            self.entries.retain(|entry| !entry.is_hole());
            self.holes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ConnectionId;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const CHANNEL: ChannelKey = ChannelKey { connection: ConnectionId(1), channel: 1 };

    fn held(position: u64) -> Held {
        Held {
            shard: ShardId(1 + u16::from(position.is_multiple_of(3))),
            queue: QueueId(position as u32 % 2),
            position,
            holder: if position.is_multiple_of(5) { Holder::GET } else { Holder::of(position as u32 % 5) },
        }
    }

    /// What was settled, by position.
    fn settled(out: &mut SessionOutput) -> Vec<u64> {
        let mut positions = Vec::new();
        while let Some((_, inputs)) = out.next_shard_inputs() {
            for input in inputs {
                let crate::queue::ShardInput::Settle { ranges, .. } = input else { panic!("{input:?}") };
                positions.extend(ranges.iter().flat_map(|range| range.first..range.first + range.len));
            }
        }
        positions.sort_unstable();
        positions
    }

    proptest! {
        #[test]
        fn it_holds_what_a_sorted_map_holds(steps in prop::collection::vec((0..10_u8, 0..300_u64), 0..900)) {
            let (mut unacked, mut model, mut last) = (Unacked::default(), BTreeMap::new(), 0);
            let mut later = BTreeMap::new();
            for (action, tag) in steps {
                match action {
                    0..=2 => {
                        // Deliveries without acknowledgement take tags too.
                        last += 1 + tag % 2;
                        unacked.push(last, held(last));
                        model.insert(last, held(last));
                    }
                    3 | 4 => prop_assert_eq!(unacked.take(tag), model.remove(&tag)),
                    5 => {
                        let known = model.contains_key(&tag);
                        prop_assert_eq!(unacked.settle_later(tag, false, Settlement::Done).is_some(), known);
                        later.extend(model.remove_entry(&tag));
                    }
                    6 => {
                        let known = tag == 0 || model.contains_key(&tag);
                        prop_assert_eq!(unacked.settle_later(tag, true, Settlement::Done).is_some(), known);
                        if known {
                            later.extend(model.extract_if(.., |held, _| tag == 0 || *held <= tag));
                        }
                    }
                    7 => {
                        unacked.roll_back();
                        model.append(&mut later);
                    }
                    8 => {
                        let mut out = SessionOutput::default();
                        prop_assert_eq!(unacked.commit(CHANNEL, &mut out), later.len() as u64);
                        let gone = core::mem::take(&mut later);
                        prop_assert_eq!(settled(&mut out), gone.into_keys().collect::<Vec<_>>());
                    }
                    _ => {
                        let mut out = SessionOutput::default();
                        let known = tag == 0 || model.contains_key(&tag);
                        let count = unacked.settle_up_to(CHANNEL, tag, Settlement::Done, &mut out);
                        prop_assert_eq!(count.is_some(), known);
                        if let Some(count) = count {
                            let rest = if tag == 0 { BTreeMap::new() } else { model.split_off(&(tag + 1)) };
                            let gone = core::mem::replace(&mut model, rest);
                            prop_assert_eq!(settled(&mut out), gone.into_keys().collect::<Vec<_>>());
                            let _ = count;
                        }
                    }
                }
                let consumed = model.values().chain(later.values()).filter(|held| held.is_consumed());
                prop_assert_eq!(unacked.consumed(), consumed.count());
                prop_assert!(unacked.entries.len() <= 2 * (model.len() + HOLES_MIN + 1));
            }
        }
    }

    #[test]
    fn what_has_gone_back_is_known_and_settles_nothing() {
        let mut unacked = Unacked::default();
        (1..=10).for_each(|tag| {
            unacked.push(tag, Held { shard: ShardId(1), holder: Holder::of(tag as u32 % 2), ..held(tag) })
        });
        unacked.forget(ShardId(2), QueueId(1), Holder::of(1));
        unacked.forget(ShardId(1), QueueId(1), Holder::of(1));
        let mut out = SessionOutput::default();
        assert_eq!(unacked.settle_one(CHANNEL, 1, Settlement::Done, &mut out), Some(0));
        assert_eq!(unacked.settle_one(CHANNEL, 1, Settlement::Done, &mut out), None);
        assert_eq!(unacked.settle_one(CHANNEL, 2, Settlement::Done, &mut out), Some(1));
        assert_eq!(unacked.consumed(), 4);
        assert_eq!(unacked.settle_up_to(CHANNEL, 0, Settlement::Done, &mut out), Some(4));
        assert_eq!(settled(&mut out), [2, 4, 6, 8, 10]);
    }

    #[test]
    fn what_has_gone_back_before_the_commit_is_not_settled_by_it() {
        let mut unacked = Unacked::default();
        (1..=4).for_each(|tag| {
            unacked.push(tag, Held { shard: ShardId(1), holder: Holder::of(tag as u32 % 2), ..held(tag) })
        });
        assert_eq!(unacked.settle_later(0, true, Settlement::Done), Some(()));
        unacked.forget(ShardId(1), QueueId(1), Holder::of(1));
        let mut out = SessionOutput::default();
        assert_eq!(unacked.commit(CHANNEL, &mut out), 2);
        assert_eq!(settled(&mut out), [2, 4]);
    }

    #[test]
    fn one_that_is_held_for_ever_costs_nothing_for_those_after_it() {
        let mut unacked = Unacked::default();
        unacked.push(1, held(1));
        for tag in 2..100_000 {
            unacked.push(tag, held(tag));
            assert_eq!(unacked.take(tag), Some(held(tag)));
            assert!(unacked.entries.len() <= 2 * HOLES_MIN + 2);
        }
        assert_eq!(unacked.take(1), Some(held(1)));
        assert!(unacked.entries.is_empty());
    }
}
