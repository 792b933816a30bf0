//! Consecutive places of a store: what each message is, where it is, and what became of it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::{Body, Extra, Found, Held, Logged, Stop, Taker, Terms, To};
use crate::location::Location;
use crate::message::Message;
use crate::queue::settled::Settled;

/// Messages in one chunk: 12 KiB of slots.
pub(super) const CHUNK_SLOTS: usize = 512;

/// What became of a message so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) enum State {
    /// It waits to be handed out.
    Ready,
    /// A client has it, or the forwarder.
    Held,
    /// It waits for something else: its time, or the forwarder.
    Aside,
    /// It is done with.
    Gone,
}

/// It is in the log and has a sequence number.
pub(super) const LOGGED: u8 = 1;
/// It was handed out and came back.
const REDELIVERED: u8 = 1 << 1;
/// Its publish command names other queues too.
pub(super) const SHARED: u8 = 1 << 2;

/// A message's entry in its queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// If logged, its publish command. If not, `segment` is its index in the chunk's `memory`, and `len` its size.
    pub(super) location: Location,
    /// From the chunk's `sequence`: its number if logged, else the number that the next logged message got.
    pub(super) sequence: u32,
    /// Who holds it, as the queue numbers its holders. Without meaning unless it is held.
    holder: u32,
    pub(super) state: State,
    flags: u8,
}

const _: () = assert!(size_of::<Slot>() == 24);

impl Slot {
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What a pass over a chunk needs to know of its store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    /// Nothing is ready before.
    pub(super) cursor: u64,
    /// Logged messages below this number may have been handed out in an earlier epoch.
    pub(super) redelivered_below: u64,
    /// Messages whose time is over by then are not handed out, except those from `fresh_from` on.
    pub(super) now_ms: u64,
    pub(super) fresh_from: u64,
}

/// So many messages with so many octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::queue) struct Amount {
    pub(in crate::queue) messages: u64,
    pub(in crate::queue) bytes: u64,
}

impl Amount {
    pub(in crate::queue) fn and(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }

    fn add(&mut self, bytes: u32) {
        self.messages += 1;
        self.bytes += u64::from(bytes);
    }

    fn subtract(&mut self, bytes: u32) {
        self.messages -= 1;
        self.bytes -= u64::from(bytes);
    }
}

/// Up to [`CHUNK_SLOTS`] consecutive positions.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The first slot's.
    pub(super) position: u64,
    /// What the slots' sequence numbers count from.
    pub(super) sequence: u64,
    /// Slots that are ready, and those that are not gone.
    pub(super) ready: u16,
    pub(super) live: u16,
    /// Octets of what is ready.
    pub(super) ready_bytes: u64,
    /// What is not gone and not in the log.
    pub(super) in_memory: Amount,
    pub(super) slots: Arc<Vec<Slot>>,
    /// By slot, if one of them ever had any.
    pub(super) extras: Option<Arc<Vec<Extra>>>,
    /// Messages that are not in the log, in order; `None` when done with.
    pub(super) memory: Vec<Option<Message>>,
}

impl Chunk {
    pub(super) fn new(position: u64, sequence: u64, capacity: usize) -> Self {
        let slots = Arc::new(Vec::with_capacity(capacity));
        Self {
            position,
            sequence,
            ready: 0,
            live: 0,
            ready_bytes: 0,
            in_memory: Amount::default(),
            slots,
            extras: None,
            memory: Vec::new(),
        }
    }

    /// Begins anew at another place; nothing is live.
    pub(super) fn rewind(&mut self, position: u64, sequence: u64) {
        match Arc::get_mut(&mut self.slots) {
            Some(slots) => slots.clear(),
            None => self.slots = Arc::default(),
        }
        match self.extras.as_mut().map(Arc::get_mut) {
            Some(Some(extras)) => extras.clear(),
            _ => self.extras = None,
        }
        self.memory.clear();
        (self.position, self.sequence) = (position, sequence);
    }

    /// Adds a slot that is ready. There is room for it, and the sequence number is in reach.
    pub(super) fn push(&mut self, sequence: u64, body: Body, extra: Extra) {
        let (location, flags) = match body {
            Body::Log { location, shared: true } => (location, LOGGED | SHARED),
            Body::Log { location, shared: false } => (location, LOGGED),
            Body::Memory(message) => {
                let location = Location { segment: self.memory.len() as u32, offset: 0, len: message.size() as u32 };
                self.memory.push(Some(message));
                self.in_memory.add(location.len.saturating_sub(extra.overhead));
                (location, 0)
            }
        };
        if extra != Extra::default() || self.extras.is_some() {
            self.extras_mut().push(extra);
        }
        let sequence = (sequence - self.sequence) as u32;
        let slot = Slot { location, sequence, holder: 0, state: State::Ready, flags };
        Arc::make_mut(&mut self.slots).push(slot);
        self.ready += 1;
        self.live += 1;
        let bytes = u64::from(location.len.saturating_sub(extra.overhead));
        self.ready_bytes += bytes;
    }

    /// The extras of the slots that there are.
    fn extras_mut(&mut self) -> &mut Vec<Extra> {
        let slots = self.slots.len();
        let capacity = self.slots.capacity();
        let extras = self.extras.get_or_insert_with(|| Arc::new(Vec::with_capacity(capacity)));
        let extras = Arc::make_mut(extras);
        if extras.len() < slots {
            extras.resize(slots, Extra::default());
        }
        extras
    }

    pub(super) fn extra(&self, index: usize) -> Extra {
        self.extras.as_ref().and_then(|extras| extras.get(index)).copied().unwrap_or_default()
    }

    /// What the message at `index` remembers its holder by, if it is held.
    pub(super) fn token_mut(&mut self, index: usize) -> Option<&mut u32> {
        let slot = Arc::make_mut(&mut self.slots).get_mut(index).filter(|slot| slot.state == State::Held);
        slot.map(|slot| &mut slot.holder)
    }

    pub(super) fn set_count(&mut self, index: usize, count: u32) {
        self.extras_mut()[index].count = count;
    }

    /// Octets of what is neither ready nor gone.
    pub(super) fn unready_bytes(&self) -> u64 {
        if self.live == self.ready {
            return 0;
        }
        let unready = |slot: &Slot| matches!(slot.state, State::Held | State::Aside);
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| unready(slot));
        slots.map(|(index, slot)| u64::from(slot.location.len.saturating_sub(self.extra(index).overhead))).sum()
    }

    /// Octets of memory that it takes, beside the messages in it.
    pub(super) fn memory_bytes(&self) -> usize {
        let extras = self.extras.as_ref().map_or(0, |extras| extras.capacity() * size_of::<Extra>());
        let slots = self.slots.capacity() * size_of::<Slot>();
        size_of::<Self>() + slots + extras + self.memory.capacity() * size_of::<Option<Message>>()
    }

    pub(super) fn end(&self) -> u64 {
        self.position + self.slots.len() as u64
    }

    /// The slots of the positions from `first` to before `end`, by index.
    pub(super) fn indices(&self, first: u64, end: u64) -> Range<usize> {
        let index = |position: u64| (position.saturating_sub(self.position) as usize).min(self.slots.len());
        index(first)..index(end)
    }

    /// Answers the position of the message that was not handed out, and why.
    pub(super) fn hand_out(&mut self, pass: &Pass, taker: &mut impl Taker, done: &mut Settled) -> Option<(u64, Stop)> {
        if self.ready == 0 {
            return None;
        }
        let Range { start, end } = self.indices(pass.cursor, u64::MAX);
        let extras = self.extras.as_ref().map(|extras| &extras[..]).unwrap_or_default();
        let slots = Arc::make_mut(&mut self.slots);
        for (index, slot) in (start..end).zip(&mut slots[start..]) {
            if slot.state != State::Ready {
                continue;
            }
            let position = self.position + index as u64;
            let extra = extras.get(index).copied().unwrap_or_default();
            if extra.is_over(pass.now_ms) && position < pass.fresh_from {
                return Some((position, Stop::Expired));
            }
            let Some(terms) = taker.next() else {
                return Some((position, Stop::NotTaken));
            };
            let sequence = self.sequence + u64::from(slot.sequence);
            let redelivered = slot.has(REDELIVERED) || slot.has(LOGGED) && sequence < pass.redelivered_below;
            let bytes = slot.location.len.saturating_sub(extra.overhead);
            self.ready -= 1;
            self.ready_bytes -= u64::from(bytes);
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
                let message = if terms == Terms::Finish {
                    self.in_memory.subtract(bytes);
                    kept.take()
                } else {
                    kept.clone()
                };
                Body::Memory(message.expect("a message in memory is there until it is done with"))
            };
            taker.take(Found { position, redelivered, delivery_count: extra.count, bytes, body });
            if self.ready == 0 {
                return None;
            }
        }
        None
    }

    /// The first ready message from `cursor` on.
    pub(super) fn head(&self, cursor: u64) -> Option<u64> {
        if self.ready == 0 {
            return None;
        }
        let Range { start, .. } = self.indices(cursor, u64::MAX);
        let found = self.slots[start..].iter().position(|slot| slot.state == State::Ready)?;
        Some(self.position + (start + found) as u64)
    }

    /// Where the message at `index` is.
    pub(super) fn body(&self, index: usize) -> Option<Body> {
        let slot = self.slots.get(index)?;
        if slot.has(LOGGED) {
            return Some(Body::Log { location: slot.location, shared: slot.has(SHARED) });
        }
        self.memory.get(slot.location.segment as usize)?.clone().map(Body::Memory)
    }

    /// Moves the message at `index` on, if it is in the state `from`. Answers what it is.
    pub(super) fn shift(&mut self, index: usize, from: State, to: To, done: &mut Settled) -> Option<Found> {
        let extra = self.extra(index);
        let slot = Arc::make_mut(&mut self.slots).get_mut(index).filter(|slot| slot.state == from)?;
        let sequence = self.sequence + u64::from(slot.sequence);
        let bytes = slot.location.len.saturating_sub(extra.overhead);
        if from == State::Ready {
            self.ready -= 1;
            self.ready_bytes -= u64::from(bytes);
        }
        let redelivered = slot.has(REDELIVERED);
        match to {
            To::Ready { redelivered } => {
                slot.state = State::Ready;
                slot.flags |= if redelivered { REDELIVERED } else { 0 };
                self.ready += 1;
                self.ready_bytes += u64::from(bytes);
            }
            To::Aside { redelivered } => {
                slot.state = State::Aside;
                slot.flags |= if redelivered { REDELIVERED } else { 0 };
            }
            To::Held(holder) => (slot.state, slot.holder) = (State::Held, holder),
            To::Gone => {
                slot.state = State::Gone;
                self.live -= 1;
            }
        }
        let body = if slot.has(LOGGED) {
            if slot.state == State::Gone {
                done.push(sequence);
            }
            Body::Log { location: slot.location, shared: slot.has(SHARED) }
        } else {
            let kept = &mut self.memory[slot.location.segment as usize];
            let message = if slot.state == State::Gone {
                self.in_memory.subtract(bytes);
                kept.take()
            } else {
                kept.clone()
            };
            Body::Memory(message?)
        };
        let position = self.position + index as u64;
        Some(Found { position, redelivered, delivery_count: extra.count, bytes, body })
    }

    /// What is held in these positions is done with, unless `release` says that it stays.
    pub(super) fn finish(
        &mut self,
        first: u64,
        end: u64,
        done: &mut Settled,
        release: &mut impl FnMut(u64, u32) -> bool,
    ) {
        if self.live == self.ready {
            return;
        }
        let range = self.indices(first, end);
        let extras = self.extras.as_ref().map(|extras| &extras[..]).unwrap_or_default();
        for (index, slot) in range.clone().zip(&mut Arc::make_mut(&mut self.slots)[range]) {
            if slot.state != State::Held || !release(self.position + index as u64, slot.holder) {
                continue;
            }
            slot.state = State::Gone;
            self.live -= 1;
            if slot.has(LOGGED) {
                done.push(self.sequence + u64::from(slot.sequence));
            } else {
                let overhead = extras.get(index).map_or(0, |extra| extra.overhead);
                self.in_memory.subtract(slot.location.len.saturating_sub(overhead));
                self.memory[slot.location.segment as usize] = None;
            }
        }
    }

    /// What is held in these positions waits again, if its holder `returns` it. Answers the first position.
    pub(super) fn requeue(
        &mut self,
        first: u64,
        end: u64,
        redelivered: bool,
        mut returns: impl FnMut(u32) -> bool,
    ) -> Option<u64> {
        if self.live == self.ready {
            return None;
        }
        let range = self.indices(first, end);
        let extras = self.extras.as_ref().map(|extras| &extras[..]).unwrap_or_default();
        let mut first = None;
        for (index, slot) in range.clone().zip(&mut Arc::make_mut(&mut self.slots)[range]) {
            if slot.state == State::Held && returns(slot.holder) {
                slot.state = State::Ready;
                slot.flags |= if redelivered { REDELIVERED } else { 0 };
                let overhead = extras.get(index).map_or(0, |extra| extra.overhead);
                self.ready += 1;
                self.ready_bytes += u64::from(slot.location.len.saturating_sub(overhead));
                first = first.or(Some(self.position + index as u64));
            }
        }
        first
    }

    /// What is held in these positions.
    pub(super) fn held(&self, first: u64, end: u64) -> impl Iterator<Item = Held> {
        let range = if self.live == self.ready { 0..0 } else { self.indices(first, end) };
        let held = range.filter(|index| self.slots[*index].state == State::Held);
        held.map(|index| {
            let slot = &self.slots[index];
            let sequence = slot.has(LOGGED).then(|| self.sequence + u64::from(slot.sequence));
            let (position, delivery_count) = (self.position + index as u64, self.extra(index).count);
            Held { position, holder: slot.holder, sequence, delivery_count }
        })
    }

    /// What is ready of these sequence numbers is done with.
    pub(super) fn forget(&mut self, first: u64, end: u64) {
        let sequence = self.sequence;
        let start = self.slots.partition_point(|slot| sequence + u64::from(slot.sequence) < first);
        for index in start..self.slots.len() {
            let slot = &mut Arc::make_mut(&mut self.slots)[index];
            if sequence + u64::from(slot.sequence) >= end {
                return;
            }
            if slot.state == State::Ready && slot.has(LOGGED) {
                slot.state = State::Gone;
                let len = slot.location.len;
                let bytes = u64::from(len.saturating_sub(self.extra(index).overhead));
                self.ready -= 1;
                self.live -= 1;
                self.ready_bytes -= bytes;
            }
        }
    }

    /// The slot of the logged message `sequence`, if it is live.
    pub(super) fn index_of(&self, sequence: u64) -> Option<usize> {
        let number = |slot: &Slot| self.sequence + u64::from(slot.sequence);
        let start = self.slots.partition_point(|slot| number(slot) < sequence);
        let mut same = self.slots[start..].iter().take_while(|slot| number(slot) == sequence);
        // Messages in memory that came before it have its number too.
        let found = same.position(|slot| slot.has(LOGGED) && slot.state != State::Gone)?;
        Some(start + found)
    }

    pub(super) fn relocate(&mut self, sequence: u64, location: Location) {
        if let Some(index) = self.index_of(sequence) {
            Arc::make_mut(&mut self.slots)[index].location = location;
        }
    }

    /// The messages in memory, from `position` on.
    pub(super) fn memory_from(&mut self, position: u64) -> impl Iterator<Item = &mut Message> {
        let Range { start, .. } = self.indices(position, u64::MAX);
        let first = self.slots[start..].iter().find(|slot| !slot.has(LOGGED));
        let start = first.map_or(self.memory.len(), |slot| slot.location.segment as usize);
        self.memory[start..].iter_mut().flatten()
    }
}

/// The chunks of a store as they were.
#[derive(Debug, Clone)]
pub(in crate::queue) struct SharedStore(pub(super) Vec<SharedChunk>);

#[derive(Debug, Clone)]
pub(super) struct SharedChunk {
    sequence: u64,
    slots: Arc<Vec<Slot>>,
    extras: Option<Arc<Vec<Extra>>>,
}

impl From<&Chunk> for SharedChunk {
    fn from(chunk: &Chunk) -> Self {
        Self { sequence: chunk.sequence, slots: chunk.slots.clone(), extras: chunk.extras.clone() }
    }
}

impl SharedChunk {
    fn logged(&self) -> impl Iterator<Item = Logged> {
        let extras = self.extras.as_ref().map(|extras| &extras[..]).unwrap_or_default();
        let live = self.slots.iter().enumerate().filter(|(_, slot)| slot.has(LOGGED) && slot.state != State::Gone);
        live.map(|(index, slot)| Logged {
            sequence: self.sequence + u64::from(slot.sequence),
            location: slot.location,
            shared: slot.has(SHARED),
            extra: extras.get(index).copied().unwrap_or_default(),
        })
    }
}

impl SharedStore {
    /// The logged messages that are not done with, ascending by number.
    pub(in crate::queue) fn logged(&self) -> impl Iterator<Item = Logged> {
        self.0.iter().flat_map(SharedChunk::logged)
    }
}
