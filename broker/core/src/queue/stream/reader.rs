//! Who reads a stream, and where.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::chunk::Chunk;
use super::filter::Filter;
use super::messages::Messages;
use super::record::{Expected, Record};
use crate::limits::{STREAM_CONSUMERS, STREAM_SCAN};
use crate::queue::{PositionRange, StreamReading};

/// A position is the reader's number above so many bits, and below them how many messages readers of that number were
/// handed before: a number that is used again counts on.
const PLACE_BITS: u32 = 48;
const PLACES: u64 = 1 << PLACE_BITS;
const _: () = assert!(STREAM_CONSUMERS as u64 <= 1 << (u64::BITS - PLACE_BITS));

/// A message for a reader.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::queue) struct Reading {
    /// By what it is settled.
    pub(in crate::queue) position: u64,
    /// Its number in the stream.
    pub(in crate::queue) offset: u64,
    pub(in crate::queue) record: Record,
}

/// Where a reader is.
#[derive(Debug, Default)]
pub(super) struct Reader {
    cursor: Cursor,
    filter: Option<Box<Filter>>,
    /// The places of what it was handed.
    first_place: u64,
    next_place: u64,
    /// It is among those that rest or pause.
    waits: bool,
}

/// A message's place in memory.
#[derive(Debug, Default)]
struct Cursor {
    /// The message's.
    offset: u64,
    /// The number of its chunk, and how far into the records its own begins; only if the rest of the stream is as it was.
    chunk: u64,
    at: usize,
    expected: Expected,
    /// See [`Messages::rewritten`]; `None`: its chunk has not been looked for.
    rewritten: Option<u32>,
}

/// The readers of a stream, by the numbers of the queue's holders.
#[derive(Debug, Default)]
pub(in crate::queue) struct Readers {
    readers: Vec<Reader>,
    /// The next message's offset when readers were told that there is something.
    announced: u64,
    /// Readers that wait for messages to come.
    resting: Vec<u32>,
    /// Readers that have looked at many messages without finding one that they want, and go on later.
    paused: Vec<u32>,
}

impl Readers {
    /// The holder `number`, who is below [`STREAM_CONSUMERS`], reads from now on.
    pub(in crate::queue) fn attach(&mut self, number: u32, reading: &StreamReading, messages: &Messages, now_ms: u64) {
        let index = number as usize;
        while self.readers.len() <= index {
            self.readers.push(Reader::default());
        }
        let reader = &mut self.readers[index];
        reader.cursor = Cursor { offset: messages.offset_of(reading.from, now_ms), ..Cursor::default() };
        reader.filter = Filter::of(reading).map(Box::new);
        reader.first_place = reader.next_place;
    }

    /// The next message for the reader `number`. If there is none, [`Self::wake`] or [`Self::resume`] names it when it is
    /// worth looking again.
    pub(in crate::queue) fn read(&mut self, number: u32, messages: &Messages) -> Option<Reading> {
        let reader = self.readers.get_mut(number as usize)?;
        for _ in 0..STREAM_SCAN {
            let Some((chunk, is_last)) = reader.cursor.find(messages) else {
                reader.wait(number, &mut self.resting);
                return None;
            };
            if let Some((offset, record)) = reader.next(chunk, is_last) {
                return Some(Reading { position: reader.hand_out(number), offset, record });
            }
        }
        reader.wait(number, &mut self.paused);
        None
    }

    /// Names the readers for whom there may be something, since messages came.
    pub(in crate::queue) fn wake(&mut self, messages: &Messages, mut awake: impl FnMut(u32)) {
        if self.announced != messages.next_offset() {
            self.announced = messages.next_offset();
            for number in self.resting.drain(..) {
                self.readers[number as usize].waits = false;
                awake(number);
            }
        }
    }

    /// True if readers wait for [`Self::resume`].
    pub(in crate::queue) fn have_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// Names the readers that have only paused.
    pub(in crate::queue) fn resume(&mut self, mut awake: impl FnMut(u32)) {
        for number in self.paused.drain(..) {
            self.readers[number as usize].waits = false;
            awake(number);
        }
    }

    /// Whose messages are in `range`, and how many of these were handed to it.
    pub(in crate::queue) fn settled(&self, range: PositionRange) -> Option<(u32, u32)> {
        let number = (range.first >> PLACE_BITS) as u32;
        let reader = self.readers.get(number as usize)?;
        let first = range.first % PLACES;
        let end = first.saturating_add(range.len).min(reader.next_place);
        let count = end.checked_sub(first.max(reader.first_place))?;
        Some((number, u32::try_from(count).unwrap_or(u32::MAX)))
    }
}

impl Reader {
    /// The message at the cursor, which is in `chunk`, unless it is not wanted. In either case the cursor moves on.
    fn next(&mut self, chunk: &Chunk, is_last: bool) -> Option<(u64, Record)> {
        if let Some(filter) = &self.filter
            && !is_last
            && !filter.may_match(chunk.values)
        {
            self.cursor.pass(chunk);
            return None;
        }
        let (offset, record) = self.cursor.step(chunk)?;
        let wanted = self.filter.as_ref().is_none_or(|filter| filter.matches(record.value));
        wanted.then_some((offset, record))
    }

    /// The position of the message that it is handed.
    fn hand_out(&mut self, number: u32) -> u64 {
        let place = self.next_place % PLACES;
        self.next_place += 1;
        u64::from(number) << PLACE_BITS | place
    }

    fn wait(&mut self, number: u32, others: &mut Vec<u32>) {
        if !core::mem::replace(&mut self.waits, true) {
            others.push(number);
        }
    }
}

impl Cursor {
    /// The chunk that it is in now, and whether that is the last; `None`: there is no message at its place yet. If its
    /// message has been dropped, it moves on to the first that has not.
    fn find<'a>(&mut self, messages: &'a Messages) -> Option<(&'a Chunk, bool)> {
        let (chunk, is_last) = self.known(messages).or_else(|| self.seek(messages))?;
        if self.offset < chunk.end() {
            return Some((chunk, is_last));
        }
        if is_last {
            return None;
        }
        self.pass(chunk);
        messages.chunk(self.chunk)
    }

    /// Its chunk, if what it knows of its place still holds.
    fn known<'a>(&self, messages: &'a Messages) -> Option<(&'a Chunk, bool)> {
        let known = self.rewritten == Some(messages.rewritten()) && self.offset >= messages.first_offset();
        messages.chunk(self.chunk).filter(|_| known)
    }

    /// Looks for its place anew.
    fn seek<'a>(&mut self, messages: &'a Messages) -> Option<(&'a Chunk, bool)> {
        let offset = self.offset.max(messages.first_offset());
        let number = messages.chunk_number(offset);
        let found = messages.chunk(number)?;
        let rewritten = Some(messages.rewritten());
        *self = Self { offset: found.0.offset, chunk: number, rewritten, ..Self::default() };
        while self.offset < offset {
            self.step(found.0)?;
        }
        Some(found)
    }

    /// The message at its place in `chunk`; it moves on.
    fn step(&mut self, chunk: &Chunk) -> Option<(u64, Record)> {
        let mut rest = chunk.records.get(self.at..)?;
        let record = self.expected.decode(&mut rest)?;
        self.at = chunk.records.len() - rest.len();
        self.offset += 1;
        Some((self.offset - 1, record))
    }

    /// Moves on behind `chunk`, which is not the last.
    fn pass(&mut self, chunk: &Chunk) {
        (self.chunk, self.offset) = (self.chunk + 1, chunk.end());
        (self.at, self.expected) = (0, Expected::default());
    }
}
