//! The messages of one queue that have the same priority, in the order of their positions, in 24 octets each.
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

mod chunk;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::PositionRange;
use super::settled::Settled;
use crate::command::SequenceRange;
use crate::location::Location;
use crate::message::Message;
pub(super) use chunk::{Amount, SharedStore, State};
use chunk::{CHUNK_SLOTS, Chunk, Pass};

/// Messages in memory share the buffer of the run that brought them. Those that stay behind when the rest of the run
/// has left are copied out of a buffer larger than this, unless they are half of it.
const PINNED_BYTES: usize = 4 << 10;

/// Where in a position the priority begins.
const PRIORITY_SHIFT: u32 = 56;

/// What only some messages have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extra {
    /// When its time is over, in milliseconds since the Unix epoch; 0: never.
    pub(super) time_ms: u64,
    /// Of its octets, so many are not its body, if its queue counts bodies.
    pub(super) overhead: u32,
    /// How often it came back from a failed delivery.
    pub(super) count: u32,
}

impl Extra {
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.time_ms != 0 && self.time_ms <= now_ms
    }
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
    pub(super) delivery_count: u32,
    /// Octets of its body, if the queue counts these.
    pub(super) bytes: u32,
    pub(super) body: Body,
}

/// A message that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) position: u64,
    /// Who, as the queue numbers its holders.
    pub(super) holder: u32,
    /// If it is logged.
    pub(super) sequence: Option<u64>,
    pub(super) delivery_count: u32,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Ready { redelivered: bool },
    Held(u32),
    Aside { redelivered: bool },
    Gone,
}

/// On what terms a message is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Terms {
    /// This holder has to settle it.
    Hold(u32),
    /// It is done with.
    Finish,
}

/// Why no more messages are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// There are none.
    Empty,
    /// Nobody takes them.
    NotTaken,
    /// The next one's time is over.
    Expired,
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
    pub(super) extra: Extra,
}

/// The messages of one priority.
#[derive(Debug)]
pub(super) struct Store {
    /// Ascending by position. All but the last have something live.
    chunks: VecDeque<Chunk>,
    next_position: u64,
    /// Nothing is ready at smaller positions.
    cursor: u64,
    ready: u64,
    live: u64,
    ready_bytes: u64,
    /// While a run is applied, the position of the first message that it brought.
    fresh_from: u64,
}

impl Store {
    pub(super) fn new(priority: u8) -> Self {
        let first = u64::from(priority) << PRIORITY_SHIFT;
        Self {
            chunks: VecDeque::new(),
            next_position: first,
            cursor: first,
            ready: 0,
            live: 0,
            ready_bytes: 0,
            fresh_from: u64::MAX,
        }
    }

    /// The priority of its messages.
    pub(super) fn priority(&self) -> u8 {
        (self.next_position >> PRIORITY_SHIFT) as u8
    }

    /// The priority of the message at `position`.
    pub(super) fn priority_of(position: u64) -> u8 {
        (position >> PRIORITY_SHIFT) as u8
    }

    /// True if it never had a message.
    pub(super) fn is_new(&self) -> bool {
        self.next_position << (u64::BITS - PRIORITY_SHIFT) == 0
    }

    /// How many messages wait.
    pub(super) fn ready(&self) -> u64 {
        self.ready
    }

    /// Octets of the messages that wait: of their bodies, if the queue counts these.
    pub(super) fn ready_bytes(&self) -> u64 {
        self.ready_bytes
    }

    /// How many messages there are.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    /// Octets of all messages there are, counted as [`Self::ready_bytes`] are. Looks at all that are held.
    pub(super) fn live_bytes(&self) -> u64 {
        self.ready_bytes + self.chunks.iter().map(Chunk::unready_bytes).sum::<u64>()
    }

    /// The messages that are not in the log. Looks at all chunks.
    pub(super) fn in_memory(&self) -> Amount {
        self.chunks.iter().fold(Amount::default(), |sum, chunk| sum.and(chunk.in_memory))
    }

    /// Octets of memory that it takes, with the messages that are not in the log.
    pub(super) fn memory_bytes(&self) -> u64 {
        let chunks: usize = self.chunks.iter().map(Chunk::memory_bytes).sum();
        chunks as u64 + self.in_memory().bytes
    }

    /// A run begins: what it brings is not looked at for its time before everybody had a chance to take it.
    pub(super) fn begin_run(&mut self) {
        self.fresh_from = self.next_position;
    }

    /// The run is over.
    pub(super) fn end_run(&mut self) {
        self.fresh_from = u64::MAX;
    }

    /// Where what the present run brought begins.
    pub(super) fn fresh_from(&self) -> u64 {
        self.fresh_from
    }

    /// Appends a message; answers its position.
    pub(super) fn push(&mut self, sequence: u64, body: Body, extra: Extra) -> u64 {
        let chunk = self.open_chunk(sequence);
        let before = chunk.ready_bytes;
        chunk.push(sequence, body, extra);
        let bytes = chunk.ready_bytes - before;
        self.ready_bytes += bytes;
        self.ready += 1;
        self.live += 1;
        self.next_position += 1;
        self.next_position - 1
    }

    /// The chunk that the next message goes to.
    fn open_chunk(&mut self, sequence: u64) -> &mut Chunk {
        if self.live == 0
            && let Some(last) = self.chunks.back_mut()
        {
            // Nothing is live: a queue that is emptied again and again allocates nothing.
            last.rewind(self.next_position, sequence);
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

    /// Gives memory back if there are no messages.
    pub(super) fn shrink(&mut self) {
        if self.live == 0 {
            self.chunks = VecDeque::new();
        }
    }

    /// Hands out ready messages, in order, for as long as somebody takes them. What is done with goes to `done`. One
    /// whose time is over by `now_ms` is not handed out, unless the present run has brought it.
    pub(super) fn hand_out(
        &mut self,
        redelivered_below: u64,
        now_ms: u64,
        taker: &mut impl Taker,
        done: &mut Settled,
    ) -> Stop {
        let mut at = self.chunk_at(self.cursor);
        while self.ready > 0 && at < self.chunks.len() {
            let (cursor, end) = (self.cursor, self.chunks[at].end());
            let pass = Pass { cursor, redelivered_below, now_ms, fresh_from: self.fresh_from };
            let stopped = self.change(&mut at, |chunk| chunk.hand_out(&pass, taker, done));
            self.cursor = stopped.map_or(end, |(position, _)| position);
            if let Some((_, stop)) = stopped {
                return stop;
            }
        }
        Stop::Empty
    }

    /// The message that is handed out next: its position, and what it has.
    pub(super) fn head(&mut self) -> Option<(u64, Extra)> {
        let mut at = self.chunk_at(self.cursor);
        while self.ready > 0 && at < self.chunks.len() {
            let chunk = &self.chunks[at];
            if let Some(position) = chunk.head(self.cursor) {
                self.cursor = position;
                return Some((position, chunk.extra((position - chunk.position) as usize)));
            }
            at += 1;
        }
        None
    }

    /// Where the message is that is handed out next.
    pub(super) fn head_body(&mut self) -> Option<Body> {
        let (position, _) = self.head()?;
        let chunk = &self.chunks[self.chunk_at(position)];
        chunk.body((position - chunk.position) as usize)
    }

    /// Moves the message at `position` on, if it is there and in the state `from`. Answers what it is.
    pub(super) fn shift(&mut self, position: u64, from: State, to: To, done: &mut Settled) -> Option<Found> {
        let mut at = self.chunk_at(position);
        let chunk = self.chunks.get(at).filter(|chunk| chunk.position <= position)?;
        let index = (position - chunk.position) as usize;
        let found = self.change(&mut at, |chunk| chunk.shift(index, from, to, done))?;
        if matches!(to, To::Ready { .. }) {
            self.cursor = self.cursor.min(position);
        }
        Some(found)
    }

    /// What the message at `position` remembers its holder by, if it is held.
    pub(super) fn token_mut(&mut self, position: u64) -> Option<&mut u32> {
        let at = self.chunk_at(position);
        let chunk = self.chunks.get_mut(at).filter(|chunk| chunk.position <= position)?;
        chunk.token_mut((position - chunk.position) as usize)
    }

    /// Notes how often the message at `position` came back from a failed delivery.
    pub(super) fn set_count(&mut self, position: u64, count: u32) {
        let at = self.chunk_at(position);
        if let Some(chunk) = self.chunks.get_mut(at).filter(|chunk| chunk.position <= position) {
            chunk.set_count((position - chunk.position) as usize, count);
        }
    }

    /// Notes that logged messages came back so often at least.
    pub(super) fn raise_count(&mut self, range: SequenceRange, count: u32) {
        for sequence in range.first..range.first.saturating_add(range.len) {
            let at = self.chunk_of_sequence(sequence);
            if let Some(chunk) = self.chunks.get_mut(at)
                && let Some(index) = chunk.index_of(sequence)
            {
                let count = count.max(chunk.extra(index).count);
                chunk.set_count(index, count);
            }
        }
    }

    /// What is held in `range` is done with, unless `release`, which is told where it is and whose, says that it stays. The
    /// rest is skipped. Logged messages go to `done`.
    pub(super) fn finish(
        &mut self,
        range: PositionRange,
        done: &mut Settled,
        mut release: impl FnMut(u64, u32) -> bool,
    ) {
        let end = range.first.saturating_add(range.len);
        let mut at = self.chunk_at(range.first);
        while self.chunks.get(at).is_some_and(|chunk| chunk.position < end) {
            self.change(&mut at, |chunk| chunk.finish(range.first, end, done, &mut release));
        }
    }

    /// What is held in `range` waits again, unless `release`, which is told whose it is, says that it stays. The rest is
    /// skipped.
    pub(super) fn requeue(&mut self, range: PositionRange, redelivered: bool, mut release: impl FnMut(u32) -> bool) {
        let end = range.first.saturating_add(range.len);
        let mut at = self.chunk_at(range.first);
        while self.chunks.get(at).is_some_and(|chunk| chunk.position < end) {
            let first = self.change(&mut at, |chunk| chunk.requeue(range.first, end, redelivered, &mut release));
            self.cursor = self.cursor.min(first.unwrap_or(u64::MAX));
        }
    }

    /// Takes back at most `left` messages whose holders are `theirs`, and counts them off.
    pub(super) fn take_back(&mut self, left: &mut u64, theirs: impl Fn(u32) -> bool) {
        let mut at = 0;
        while *left > 0 && at < self.chunks.len() {
            let first = self.change(&mut at, |chunk| {
                chunk.requeue(0, u64::MAX, true, |holder| {
                    let returns = theirs(holder);
                    *left -= u64::from(returns);
                    returns
                })
            });
            self.cursor = self.cursor.min(first.unwrap_or(u64::MAX));
        }
    }

    /// What is held in `range`.
    pub(super) fn held_in(&self, range: PositionRange) -> impl Iterator<Item = Held> {
        let end = range.first.saturating_add(range.len);
        let chunks = self.chunks.range(self.chunk_at(range.first)..);
        chunks.take_while(move |chunk| chunk.position < end).flat_map(move |chunk| chunk.held(range.first, end))
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

    /// Copies the messages of the present run, which are in memory and ready, out of the run that has `pinned` octets,
    /// if they are a small part of it.
    pub(super) fn unpin(&mut self, pinned: usize) {
        let position = self.fresh_from.max(self.cursor);
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

    /// The messages that are ready, each with its time.
    pub(super) fn times(&self) -> impl Iterator<Item = (u64, u64)> {
        self.chunks.iter().flat_map(|chunk| {
            let slots = chunk.slots.iter().enumerate().filter(|(_, slot)| slot.state == State::Ready);
            slots.map(|(index, _)| (chunk.extra(index).time_ms, chunk.position + index as u64))
        })
    }

    /// The messages, as a snapshot shares them.
    pub(super) fn share(&self) -> SharedStore {
        SharedStore(self.chunks.iter().filter(|chunk| chunk.live > 0).map(chunk::SharedChunk::from).collect())
    }

    /// Changes the chunk `at` and moves on to the next; one that the change has emptied is freed.
    fn change<R>(&mut self, at: &mut usize, change: impl FnOnce(&mut Chunk) -> R) -> R {
        let chunk = &mut self.chunks[*at];
        self.ready -= u64::from(chunk.ready);
        self.live -= u64::from(chunk.live);
        self.ready_bytes -= chunk.ready_bytes;
        let result = change(chunk);
        self.ready += u64::from(chunk.ready);
        self.live += u64::from(chunk.live);
        self.ready_bytes += chunk.ready_bytes;
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

#[cfg(test)]
mod tests;
