//! The messages of one queue, in the order of their positions, in 24 octets each.
//!
//! ```text
//!            gone      gone     held      ready     ready
//! chunk   [ ×××××× ] [ ××hh×h ] [ hhhhrr ] [ rrrrrr ] [ rrr ]
//!                                     ^ cursor: nothing is ready before it
//! ```
//!
//! A message stays at its place while a client holds it, so that one that comes back is where it was without being
//! moved: only the cursor goes back to it. Chunks of which nothing is left are freed, wherever they are.
//!
//! Chunks are shared with snapshots and copied when they change while a snapshot has them.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;

use super::settled::Settled;
use super::{PositionRange, Settlement};
use crate::command::SequenceRange;
use crate::location::Location;
use crate::message::Message;

/// Messages in one chunk: 12 KiB of slots.
const CHUNK_SLOTS: usize = 512;

/// Messages in memory share the buffer of the run that brought them. Those that stay behind when the rest of the run
/// has left are copied out of a buffer larger than this, unless they are half of it.
const PINNED_BYTES: usize = 4 << 10;

/// What became of a message so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It waits.
    Ready,
    /// A client has it.
    Held,
    /// It is done with.
    Gone,
}

/// It is in the log and has a sequence number.
const LOGGED: u8 = 1;
/// It was handed out and came back.
const REDELIVERED: u8 = 1 << 1;
/// Its publish command names other queues too.
const SHARED: u8 = 1 << 2;

/// A message's entry in its queue.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// If logged, its publish command. If not, `segment` is its index in the chunk's `memory`, and `len` its size.
    location: Location,
    /// From the chunk's `sequence`: its number if logged, else the number that the next logged message got.
    sequence: u32,
    /// Who holds it, as the queue numbers its holders. Without meaning unless it is held.
    holder: u32,
    state: State,
    flags: u8,
}

const _: () = assert!(size_of::<Slot>() == 24);

impl Slot {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Up to [`CHUNK_SLOTS`] consecutive positions.
#[derive(Debug)]
struct Chunk {
    /// The first slot's.
    position: u64,
    /// What the slots' sequence numbers count from.
    sequence: u64,
    /// Slots that are ready, and that are ready or held.
    ready: u16,
    live: u16,
    slots: Arc<Vec<Slot>>,
    /// Messages that are not in the log, in order; `None` when done with.
    memory: Vec<Option<Message>>,
}

/// Where a message is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Here: it is not in the log.
    Memory(Message),
    /// A publish command in the log.
    Log {
        /// Where it is.
        location: Location,
        /// It names other queues too.
        shared: bool,
    },
}

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) position: u64,
    pub(super) redelivered: bool,
    pub(super) body: Body,
}

/// On what terms a message is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    /// This holder has to settle it.
    Hold(u32),
    /// It is done with.
    Finish,
}

/// Whom a store hands its messages to.
pub(super) trait Taker {
    /// The terms of whoever takes the next message; `None`: nobody takes more.
    fn next(&mut self) -> Option<Terms>;

    /// That message.
    fn take(&mut self, found: Found);
}

/// A logged message of a queue, as snapshots know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) sequence: u64,
    /// Its publish command.
    pub(super) location: Location,
    /// Other queues refer to the same command.
    pub(super) shared: bool,
}

/// The messages of one queue.
#[derive(Debug, Default)]
pub(super) struct Store {
    /// Ascending by position. All but the last have something live.
    chunks: VecDeque<Chunk>,
    next_position: u64,
    next_sequence: u64,
    /// Logged messages below may have been handed out in an earlier epoch.
    redelivered_below: u64,
    /// Nothing is ready at smaller positions.
    cursor: u64,
    ready: u64,
    live: u64,
}

impl Store {
    /// A store whose messages are still to be added by [`Self::restore`].
    pub(super) fn restored(next_sequence: u64, redelivered_below: u64) -> Self {
        Self { next_sequence, redelivered_below, ..Self::default() }
    }

    /// How many messages wait.
    pub(super) fn ready(&self) -> u64 {
        self.ready
    }

    /// How many messages clients hold.
    pub(super) fn held(&self) -> u64 {
        self.live - self.ready
    }

    /// The position that the next message gets.
    pub(super) fn next_position(&self) -> u64 {
        self.next_position
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

    /// Appends a message.
    pub(super) fn push(&mut self, body: Body) {
        let sequence = self.next_sequence;
        self.next_sequence += u64::from(matches!(body, Body::Log { .. }));
        self.append(sequence, body);
    }

    /// Appends a message of a snapshot.
    pub(super) fn restore(&mut self, message: Logged) {
        let Logged { sequence, location, shared } = message;
        self.append(sequence, Body::Log { location, shared });
    }

    fn append(&mut self, sequence: u64, body: Body) {
        self.open_chunk(sequence).push(sequence, body);
        self.ready += 1;
        self.live += 1;
        self.next_position += 1;
    }

    /// The chunk that the next message goes to.
    fn open_chunk(&mut self, sequence: u64) -> &mut Chunk {
        if self.live == 0 {
            self.rewind(sequence);
        }
        let fits = |last: &Chunk| {
            last.slots.len() < CHUNK_SLOTS
                && sequence.checked_sub(last.sequence).is_some_and(|it| it <= u32::MAX.into())
        };
        if !self.chunks.back().is_some_and(fits) {
            // The first of a queue grows with it: most queues are short.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK_SLOTS };
            self.chunks.pop_back_if(|last| last.live == 0);
            self.chunks.push_back(Chunk::new(self.next_position, sequence, capacity));
        }
        let last = self.chunks.len() - 1;
        &mut self.chunks[last]
    }

    /// Begins the last chunk anew, for nothing is live: a queue that is emptied again and again allocates nothing.
    fn rewind(&mut self, sequence: u64) {
        if let Some(last) = self.chunks.back_mut() {
            match Arc::get_mut(&mut last.slots) {
                Some(slots) => slots.clear(),
                None => last.slots = Arc::default(),
            }
            last.memory.clear();
            (last.position, last.sequence) = (self.next_position, sequence);
        }
    }

    /// Gives memory back if there are no messages.
    pub(super) fn shrink(&mut self) {
        if self.live == 0 {
            self.chunks = VecDeque::new();
        }
    }

    /// Hands out ready messages, in order, for as long as somebody takes them. What is done with goes to `done`.
    pub(super) fn hand_out(&mut self, taker: &mut impl Taker, done: &mut Settled) {
        let mut at = self.chunk_at(self.cursor);
        while self.ready > 0 && at < self.chunks.len() {
            let (cursor, below, end) = (self.cursor, self.redelivered_below, self.chunks[at].end());
            let stopped = self.change(&mut at, |chunk| chunk.hand_out(cursor, below, taker, done));
            self.cursor = stopped.unwrap_or(end);
            if stopped.is_some() {
                return;
            }
        }
    }

    /// Settles what is held in `range`, and tells `released` whose it was; the rest of it is skipped. Logged messages
    /// that are done with go to `done`.
    pub(super) fn settle(
        &mut self,
        range: PositionRange,
        settlement: Settlement,
        done: &mut Settled,
        mut released: impl FnMut(u32),
    ) {
        let end = range.first.saturating_add(range.len);
        let mut at = self.chunk_at(range.first);
        while self.chunks.get(at).is_some_and(|chunk| chunk.position < end) {
            let first = self.change(&mut at, |chunk| match settlement {
                Settlement::Done | Settlement::Reject => {
                    chunk.finish(range.first, end, done, &mut released);
                    None
                }
                Settlement::Requeue | Settlement::Fail | Settlement::Return => {
                    chunk.requeue(range.first, end, |holder| {
                        released(holder);
                        true
                    })
                }
            });
            self.cursor = self.cursor.min(first.unwrap_or(u64::MAX));
        }
    }

    /// Takes back the `count` messages whose holders are `theirs`.
    pub(super) fn take_back(&mut self, count: u64, theirs: impl Fn(u32) -> bool) {
        let mut left = count;
        let mut at = 0;
        while left > 0 && at < self.chunks.len() {
            let first = self.change(&mut at, |chunk| {
                chunk.requeue(0, u64::MAX, |holder| {
                    let returns = theirs(holder);
                    left -= u64::from(returns);
                    returns
                })
            });
            self.cursor = self.cursor.min(first.unwrap_or(u64::MAX));
        }
    }

    /// Drops all ready messages; answers how many there were.
    pub(super) fn purge(&mut self, done: &mut Settled) -> u64 {
        let count = self.ready;
        self.hand_out(&mut Nobody, done);
        count
    }

    /// Drops the messages with these sequence numbers that are ready.
    pub(super) fn forget(&mut self, range: SequenceRange) {
        let end = range.first.saturating_add(range.len);
        let mut at = self.chunk_of_sequence(range.first);
        while self.chunks.get(at).is_some_and(|chunk| chunk.sequence < end) {
            self.change(&mut at, |chunk| chunk.forget(range.first, end));
        }
    }

    /// The message `sequence` lies at `location` from now on, if it is still live.
    pub(super) fn relocate(&mut self, sequence: u64, location: Location) {
        let at = self.chunk_of_sequence(sequence);
        if let Some(chunk) = self.chunks.get_mut(at) {
            chunk.relocate(sequence, location);
        }
    }

    /// Copies the messages from `position` on, which are in memory and ready, out of the run that brought them and that
    /// has `pinned` octets, if they are a small part of it.
    pub(super) fn unpin(&mut self, position: u64, pinned: usize) {
        let position = position.max(self.cursor);
        if pinned <= PINNED_BYTES || position >= self.next_position {
            return;
        }
        let at = self.chunk_at(position);
        let left = self.chunks.range_mut(at..).flat_map(|chunk| chunk.memory_from(position));
        let len: usize = left.map(|message| message.size()).sum();
        if len * 2 >= pinned {
            return;
        }
        let mut copy = Vec::with_capacity(len);
        let left = self.chunks.range_mut(at..).flat_map(|chunk| chunk.memory_from(position));
        left.for_each(|message| copy.extend_from_slice(message.octets()));
        let mut copy = Bytes::from(copy);
        let left = self.chunks.range_mut(at..).flat_map(|chunk| chunk.memory_from(position));
        left.for_each(|message| *message = message.moved_to(&mut copy));
    }

    /// The messages, as a snapshot shares them.
    pub(super) fn share(&self) -> SharedStore {
        let live = self.chunks.iter().filter(|chunk| chunk.live > 0);
        SharedStore(live.map(|chunk| (chunk.sequence, chunk.slots.clone())).collect())
    }

    /// Changes the chunk `at` and moves on to the next; one that the change has emptied is freed.
    fn change<R>(&mut self, at: &mut usize, change: impl FnOnce(&mut Chunk) -> R) -> R {
        let chunk = &mut self.chunks[*at];
        self.ready -= u64::from(chunk.ready);
        self.live -= u64::from(chunk.live);
        let result = change(chunk);
        self.ready += u64::from(chunk.ready);
        self.live += u64::from(chunk.live);
        if chunk.live == 0 && *at + 1 < self.chunks.len() {
            self.chunks.remove(*at);
        } else {
            *at += 1;
        }
        result
    }

    /// The first chunk that ends behind `position`.
    fn chunk_at(&self, position: u64) -> usize {
        let first = self.chunks.front().map_or(0, |chunk| chunk.position);
        // Right unless chunks are missing before it, or one was closed before it was full.
        let guess = (position.saturating_sub(first) / CHUNK_SLOTS as u64) as usize;
        if self.chunks.get(guess).is_some_and(|chunk| chunk.position <= position && position < chunk.end()) {
            return guess;
        }
        self.chunks.partition_point(|chunk| chunk.end() <= position)
    }

    /// The chunk that has the logged message `sequence`, if any has, and otherwise one before those that follow it.
    fn chunk_of_sequence(&self, sequence: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.sequence <= sequence).saturating_sub(1)
    }
}

impl Chunk {
    fn new(position: u64, sequence: u64, capacity: usize) -> Self {
        let slots = Arc::new(Vec::with_capacity(capacity));
        Self { position, sequence, ready: 0, live: 0, slots, memory: Vec::new() }
    }

    /// Adds a slot. There is room for it, and the sequence number is in reach.
    fn push(&mut self, sequence: u64, body: Body) {
        let (location, flags) = match body {
            Body::Log { location, shared: true } => (location, LOGGED | SHARED),
            Body::Log { location, shared: false } => (location, LOGGED),
            Body::Memory(message) => {
                let location = Location { segment: self.memory.len() as u32, offset: 0, len: message.size() as u32 };
                self.memory.push(Some(message));
                (location, 0)
            }
        };
        let sequence = (sequence - self.sequence) as u32;
        let slot = Slot { location, sequence, holder: 0, state: State::Ready, flags };
        Arc::make_mut(&mut self.slots).push(slot);
        self.ready += 1;
        self.live += 1;
    }

    fn end(&self) -> u64 {
        self.position + self.slots.len() as u64
    }

    /// The slots of the positions from `first` to before `end`, by index.
    fn indices(&self, first: u64, end: u64) -> Range<usize> {
        let index = |position: u64| (position.saturating_sub(self.position) as usize).min(self.slots.len());
        index(first)..index(end)
    }

    /// Answers the position of the message that nobody took.
    fn hand_out(&mut self, cursor: u64, below: u64, taker: &mut impl Taker, done: &mut Settled) -> Option<u64> {
        if self.ready == 0 {
            return None;
        }
        let Range { start, end } = self.indices(cursor, u64::MAX);
        let slots = Arc::make_mut(&mut self.slots);
        for (index, slot) in (start..end).zip(&mut slots[start..]) {
            if slot.state != State::Ready {
                continue;
            }
            let position = self.position + index as u64;
            let Some(terms) = taker.next() else {
                return Some(position);
            };
            let sequence = self.sequence + u64::from(slot.sequence);
            let redelivered = slot.has(REDELIVERED) || slot.has(LOGGED) && sequence < below;
            self.ready -= 1;
            if let Terms::Hold(holder) = terms {
                (slot.state, slot.holder) = (State::Held, holder);
            } else {
                slot.state = State::Gone;
                self.live -= 1;
            }
            let body = if slot.has(LOGGED) {
                if terms == Terms::Finish {
                    done.push(sequence);
                }
                Body::Log { location: slot.location, shared: slot.has(SHARED) }
            } else {
                let kept = &mut self.memory[slot.location.segment as usize];
                let message = if terms == Terms::Finish { kept.take() } else { kept.clone() };
                Body::Memory(message.expect("a message in memory is there until it is done with"))
            };
            taker.take(Found { position, redelivered, body });
            if self.ready == 0 {
                return None;
            }
        }
        None
    }

    /// What is held in these positions is done with.
    fn finish(&mut self, first: u64, end: u64, done: &mut Settled, released: &mut impl FnMut(u32)) {
        if self.live == self.ready {
            return;
        }
        let range = self.indices(first, end);
        for slot in &mut Arc::make_mut(&mut self.slots)[range] {
            if slot.state != State::Held {
                continue;
            }
            slot.state = State::Gone;
            self.live -= 1;
            released(slot.holder);
            if slot.has(LOGGED) {
                done.push(self.sequence + u64::from(slot.sequence));
            } else {
                self.memory[slot.location.segment as usize] = None;
            }
        }
    }

    /// What is held in these positions waits again, if its holder `returns` it. Answers the first position.
    fn requeue(&mut self, first: u64, end: u64, mut returns: impl FnMut(u32) -> bool) -> Option<u64> {
        if self.live == self.ready {
            return None;
        }
        let range = self.indices(first, end);
        let mut first = None;
        for (index, slot) in range.clone().zip(&mut Arc::make_mut(&mut self.slots)[range]) {
            if slot.state == State::Held && returns(slot.holder) {
                slot.state = State::Ready;
                slot.flags |= REDELIVERED;
                self.ready += 1;
                first = first.or(Some(self.position + index as u64));
            }
        }
        first
    }

    /// What is ready of these sequence numbers is done with.
    fn forget(&mut self, first: u64, end: u64) {
        let sequence = self.sequence;
        let start = self.slots.partition_point(|slot| sequence + u64::from(slot.sequence) < first);
        for slot in &mut Arc::make_mut(&mut self.slots)[start..] {
            if sequence + u64::from(slot.sequence) >= end {
                return;
            }
            if slot.state == State::Ready && slot.has(LOGGED) {
                slot.state = State::Gone;
                self.ready -= 1;
                self.live -= 1;
            }
        }
    }

    fn relocate(&mut self, sequence: u64, location: Location) {
        let number = |slot: &Slot| self.sequence + u64::from(slot.sequence);
        let start = self.slots.partition_point(|slot| number(slot) < sequence);
        let mut same = self.slots[start..].iter().take_while(|slot| number(slot) == sequence);
        // Messages in memory that came before it have its number too.
        let found = same.position(|slot| slot.has(LOGGED) && slot.state != State::Gone);
        if let Some(index) = found {
            Arc::make_mut(&mut self.slots)[start + index].location = location;
        }
    }

    /// The messages in memory, from `position` on.
    fn memory_from(&mut self, position: u64) -> impl Iterator<Item = &mut Message> {
        let Range { start, .. } = self.indices(position, u64::MAX);
        let first = self.slots[start..].iter().find(|slot| !slot.has(LOGGED));
        let start = first.map_or(self.memory.len(), |slot| slot.location.segment as usize);
        self.memory[start..].iter_mut().flatten()
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

/// The chunks of a store as they were, each with what its sequence numbers count from.
#[derive(Debug, Clone)]
pub(super) struct SharedStore(Vec<(u64, Arc<Vec<Slot>>)>);

impl SharedStore {
    /// The logged messages that are not done with, ascending by number.
    pub(super) fn logged(&self) -> impl Iterator<Item = Logged> {
        self.0.iter().flat_map(|(base, slots)| {
            let logged = slots.iter().filter(|slot| slot.has(LOGGED) && slot.state != State::Gone);
            logged.map(move |slot| Logged {
                sequence: base + u64::from(slot.sequence),
                location: slot.location,
                shared: slot.has(SHARED),
            })
        })
    }
}

#[cfg(test)]
mod tests;
