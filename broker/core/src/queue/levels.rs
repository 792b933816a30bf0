//! The messages of one queue: a store for each priority in use.
//!
//! Positions carry the priority in their top octet, so that whoever holds a message settles it by its position alone.
//! Sequence numbers are the queue's, over all priorities.

use alloc::vec::Vec;

use super::PositionRange;
use super::settled::Settled;
use super::store::{Amount, Body, Extra, Found, Held, Logged, SharedStore, State, Stop, Store, Taker, Terms, To};
use crate::command::SequenceRange;
use crate::location::Location;

/// The messages of one queue.
#[derive(Debug)]
pub(super) struct Levels {
    /// Of the priority that messages without one have.
    base: Store,
    /// The other priorities in use, highest first.
    others: Vec<Store>,
    next_sequence: u64,
    /// Logged messages below may have been handed out in an earlier epoch.
    redelivered_below: u64,
}

impl Default for Levels {
    fn default() -> Self {
        Self { base: Store::new(0), others: Vec::new(), next_sequence: 0, redelivered_below: 0 }
    }
}

impl Levels {
    /// Levels whose messages are still to be added by [`Self::restore`].
    pub(super) fn restored(next_sequence: u64, redelivered_below: u64) -> Self {
        Self { next_sequence, redelivered_below, ..Self::default() }
    }

    /// Most messages will have this priority.
    pub(super) fn expect(&mut self, priority: u8) {
        if self.base.is_new() && self.others.is_empty() {
            self.base = Store::new(priority);
        }
    }

    /// How many messages wait.
    pub(super) fn ready(&self) -> u64 {
        self.stores().map(Store::ready).sum()
    }

    /// Octets of the messages that wait: of their bodies, if the queue counts these.
    pub(super) fn ready_bytes(&self) -> u64 {
        self.stores().map(Store::ready_bytes).sum()
    }

    /// Octets of all messages there are, counted as [`Self::ready_bytes`] are.
    pub(super) fn live_bytes(&self) -> u64 {
        self.stores().map(Store::live_bytes).sum()
    }

    /// The messages that are not in the log.
    pub(super) fn in_memory(&self) -> Amount {
        self.stores().map(Store::in_memory).fold(Amount::default(), Amount::and)
    }

    /// Octets of memory that they take, with the messages that are not in the log.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.stores().map(Store::memory_bytes).sum()
    }

    /// How many messages clients hold, or wait for something else than a client.
    pub(super) fn held(&self) -> u64 {
        self.stores().map(|store| store.live() - store.ready()).sum()
    }

    /// The number that the next logged message gets.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Logged messages below this number may have been handed out in an earlier epoch.
    pub(super) fn redelivered_below(&self) -> u64 {
        self.redelivered_below
    }

    /// Flags all messages there are as redelivered. Only while all of them are logged.
    pub(super) fn mark_redelivered(&mut self) {
        self.redelivered_below = self.next_sequence;
    }

    /// Appends a message of that priority; answers its position.
    pub(super) fn push(&mut self, priority: u8, body: Body, extra: Extra) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += u64::from(matches!(body, Body::Log { .. }));
        self.level(priority).push(sequence, body, extra)
    }

    /// A logged message comes and does not stay: answers its number.
    pub(super) fn pass_by(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }

    /// Appends a message of a snapshot.
    pub(super) fn restore(&mut self, priority: u8, message: Logged) {
        let Logged { sequence, location, shared, extra } = message;
        self.level(priority).push(sequence, Body::Log { location, shared }, extra);
    }

    /// A run begins: see [`Store::begin_run`].
    pub(super) fn begin_run(&mut self) {
        self.stores_mut().for_each(Store::begin_run);
    }

    /// The run is over. If it was not logged, what is left of its octets, which are so many, may be copied out of it.
    pub(super) fn end_run(&mut self, pinned: Option<usize>) {
        for store in self.stores_mut() {
            if let Some(pinned) = pinned {
                store.unpin(pinned);
            }
            store.end_run();
        }
    }

    /// True if the present run has brought what is at `position`.
    pub(super) fn is_fresh(&self, position: u64) -> bool {
        self.store(position).is_some_and(|store| position >= store.fresh_from())
    }

    /// Gives memory back if there are no messages.
    pub(super) fn shrink(&mut self) {
        self.stores_mut().for_each(Store::shrink);
    }

    /// Hands out ready messages, highest priority first, for as long as somebody takes them. What is done with goes to
    /// `done`. It stops at a message whose time is over by `now_ms`, unless the present run has brought it.
    pub(super) fn hand_out(&mut self, now_ms: u64, taker: &mut impl Taker, done: &mut Settled) -> Stop {
        let below = self.redelivered_below;
        for store in self.stores_mut().filter(|store| store.ready() > 0) {
            let stop = store.hand_out(below, now_ms, taker, done);
            if stop != Stop::Empty {
                return stop;
            }
        }
        Stop::Empty
    }

    /// Of each priority the message that is handed out next, highest first: its position, and what it has.
    pub(super) fn heads(&mut self) -> impl Iterator<Item = (u64, Extra)> {
        self.stores_mut().filter_map(Store::head)
    }

    /// Where the message is that is handed out next.
    pub(super) fn head_body(&mut self) -> Option<Body> {
        self.stores_mut().find_map(Store::head_body)
    }

    /// The message that goes first if there are too many.
    pub(super) fn lowest_head(&mut self) -> Option<u64> {
        self.heads().last().map(|(position, _)| position)
    }

    /// Moves the message at `position` on, if it is there and in the state `from`. Answers what it is.
    pub(super) fn shift(&mut self, position: u64, from: State, to: To, done: &mut Settled) -> Option<Found> {
        self.store_mut(position)?.shift(position, from, to, done)
    }

    /// What the message at `position` remembers its holder by, if it is held.
    pub(super) fn token_mut(&mut self, position: u64) -> Option<&mut u32> {
        self.store_mut(position)?.token_mut(position)
    }

    /// Notes how often the message at `position` came back from a failed delivery.
    pub(super) fn set_count(&mut self, position: u64, count: u32) {
        if let Some(store) = self.store_mut(position) {
            store.set_count(position, count);
        }
    }

    /// Notes that logged messages came back so often at least.
    pub(super) fn raise_count(&mut self, range: SequenceRange, count: u32) {
        let len = range.len.min(self.next_sequence.saturating_sub(range.first));
        let range = SequenceRange { len, ..range };
        self.stores_mut().for_each(|store| store.raise_count(range, count));
    }

    /// What is held in `range` is done with: see [`Store::finish`].
    pub(super) fn finish(&mut self, range: PositionRange, done: &mut Settled, release: impl FnMut(u64, u32) -> bool) {
        if let Some(store) = self.store_mut(range.first) {
            store.finish(range, done, release);
        }
    }

    /// What is held in `range` waits again: see [`Store::requeue`].
    pub(super) fn requeue(&mut self, range: PositionRange, redelivered: bool, release: impl FnMut(u32) -> bool) {
        if let Some(store) = self.store_mut(range.first) {
            store.requeue(range, redelivered, release);
        }
    }

    /// Takes back the `count` messages whose holders are `theirs`.
    pub(super) fn take_back(&mut self, count: u64, theirs: impl Fn(u32) -> bool) {
        let mut left = count;
        self.stores_mut().for_each(|store| store.take_back(&mut left, &theirs));
    }

    /// What is held in `range`.
    pub(super) fn held_in(&self, range: PositionRange) -> impl Iterator<Item = Held> {
        self.store(range.first).into_iter().flat_map(move |store| store.held_in(range))
    }

    /// All that is held.
    pub(super) fn all_held(&self) -> impl Iterator<Item = Held> {
        self.stores().flat_map(|store| store.held_in(PositionRange { first: 0, len: u64::MAX }))
    }

    /// Drops all ready messages; answers how many there were.
    pub(super) fn purge(&mut self, done: &mut Settled) -> u64 {
        let count = self.ready();
        self.hand_out(0, &mut Nobody, done);
        count
    }

    /// Drops the messages with these sequence numbers that are ready.
    pub(super) fn forget(&mut self, range: SequenceRange) {
        self.stores_mut().for_each(|store| store.forget(range));
    }

    /// The message `sequence` lies at `location` from now on, if it is still live.
    pub(super) fn relocate(&mut self, sequence: u64, location: Location) {
        self.stores_mut().for_each(|store| store.relocate(sequence, location));
    }

    /// The messages that are ready, each with its time before its position.
    pub(super) fn times(&self) -> impl Iterator<Item = (u64, u64)> {
        self.stores().flat_map(Store::times)
    }

    /// The messages, as a snapshot shares them, by priority.
    pub(super) fn share(&self) -> Vec<(u8, SharedStore)> {
        let mut levels: Vec<_> =
            self.stores().filter(|store| store.live() > 0).map(|store| (store.priority(), store.share())).collect();
        levels.sort_unstable_by_key(|(priority, _)| *priority);
        levels
    }

    #[cfg(test)]
    pub(super) fn base(&self) -> &Store {
        &self.base
    }

    #[cfg(test)]
    pub(super) fn base_mut(&mut self) -> &mut Store {
        &mut self.base
    }

    /// The store of a priority, which is new if need be.
    fn level(&mut self, priority: u8) -> &mut Store {
        if self.base.priority() == priority {
            return &mut self.base;
        }
        let at = self.others.partition_point(|store| store.priority() > priority);
        if self.others.get(at).is_none_or(|store| store.priority() != priority) {
            let mut store = Store::new(priority);
            if self.base.fresh_from() != u64::MAX {
                store.begin_run();
            }
            self.others.insert(at, store);
        }
        &mut self.others[at]
    }

    /// The store of the message at `position`.
    fn store(&self, position: u64) -> Option<&Store> {
        let priority = Store::priority_of(position);
        self.stores().find(|store| store.priority() == priority)
    }

    fn store_mut(&mut self, position: u64) -> Option<&mut Store> {
        let priority = Store::priority_of(position);
        if self.base.priority() == priority {
            return Some(&mut self.base);
        }
        self.others.iter_mut().find(|store| store.priority() == priority)
    }

    /// All stores, highest priority first.
    fn stores(&self) -> impl Iterator<Item = &Store> {
        let (above, below) = self.others.split_at(self.above());
        above.iter().chain([&self.base]).chain(below)
    }

    fn stores_mut(&mut self) -> impl Iterator<Item = &mut Store> {
        let above = self.above();
        let (above, below) = self.others.split_at_mut(above);
        above.iter_mut().chain([&mut self.base]).chain(below)
    }

    /// How many of the others are above the base.
    fn above(&self) -> usize {
        self.others.partition_point(|store| store.priority() > self.base.priority())
    }
}

/// Drops what it is handed.
struct Nobody;

impl Taker for Nobody {
    fn next(&mut self) -> Option<Terms> {
        Some(Terms::Finish)
    }

    fn take(&mut self, _: Found) {}
}
