//! The messages of a stream, in chunks.

use alloc::collections::VecDeque;

use super::chunk::{CHUNK_MESSAGES, Chunk};
use super::record::{Expected, Record};
use super::snapshot::SharedStream;
use crate::command::SequenceRange;
use crate::location::Location;
use crate::queue::StreamOffset;
use crate::queue::settled::Settled;

/// A chunk ends with the first so many parts of what a stream keeps, so that it keeps at most a part too much.
const CHUNKS_PER_BOUND: u64 = 8;

/// What a stream keeps.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::queue) struct Retention {
    /// Octets in the log; the newest chunk is kept all the same.
    pub(in crate::queue) max_bytes: Option<u64>,
    /// Milliseconds.
    pub(in crate::queue) max_age: Option<u64>,
}

/// The messages of a stream.
#[derive(Debug, Default)]
pub(in crate::queue) struct Messages {
    /// Without gaps, ascending by offset.
    chunks: VecDeque<Chunk>,
    /// How many chunks were before these: a chunk's number is this and its index.
    dropped_chunks: u64,
    /// The oldest message's, within the first chunk.
    first_offset: u64,
    next_offset: u64,
    /// Octets of all chunks in the log.
    bytes: u64,
    /// What the next record of the last chunk is measured from.
    end: Expected,
    /// How often chunks were written anew: what readers know of their octets then is of no use.
    rewritten: u32,
}

impl Messages {
    /// Messages whose chunks are still to be added by [`Self::restore`], the first of which begins at `offset`.
    pub(in crate::queue) fn restored(offset: u64) -> Self {
        Self { first_offset: offset, next_offset: offset, ..Self::default() }
    }

    /// Adds a chunk of a snapshot: `count` messages, whose records are `records`. False: these are not their records.
    pub(in crate::queue) fn restore(&mut self, count: u32, records: &[u8]) -> bool {
        let Some((chunk, end)) = Chunk::decode(self.next_offset, count, records) else {
            return false;
        };
        let follows = self.chunks.back().is_none_or(|last| last.newest_ms <= chunk.oldest_ms);
        self.next_offset = chunk.end();
        self.bytes += chunk.bytes;
        self.end = end;
        self.chunks.push_back(chunk);
        follows && count > 0
    }

    /// The chunk of that number, counted from the beginning of the stream, and whether there is none behind it; `None`: it
    /// has been dropped, or is still to come.
    pub(super) fn chunk(&self, number: u64) -> Option<(&Chunk, bool)> {
        let index = usize::try_from(number.checked_sub(self.dropped_chunks)?).ok()?;
        Some((self.chunks.get(index)?, index + 1 == self.chunks.len()))
    }

    /// The number of the chunk that has the message `offset`, or of the first one behind it; there may be none yet.
    pub(super) fn chunk_number(&self, offset: u64) -> u64 {
        self.dropped_chunks + self.chunks.partition_point(|chunk| chunk.end() <= offset) as u64
    }

    /// See the field.
    pub(super) fn rewritten(&self) -> u32 {
        self.rewritten
    }

    /// How many messages there are.
    pub(in crate::queue) fn len(&self) -> u64 {
        self.next_offset - self.first_offset
    }

    /// Octets of all messages in the log.
    pub(in crate::queue) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The offset of the oldest message.
    pub(in crate::queue) fn first_offset(&self) -> u64 {
        self.first_offset
    }

    /// The offset that the next message gets.
    pub(in crate::queue) fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// The messages, as a snapshot shares them.
    pub(in crate::queue) fn share(&self) -> SharedStream {
        SharedStream { first_offset: self.first_offset, chunks: self.chunks.iter().cloned().collect() }
    }

    /// Appends a message. It counts as no older than the one before.
    pub(in crate::queue) fn push(&mut self, record: Record, retention: Retention) {
        let newest = self.chunks.back().map_or(0, |last| last.newest_ms);
        let record = Record { time_ms: record.time_ms.max(newest), ..record };
        if self.chunks.back().is_none_or(|last| retention.ends(last, record.time_ms)) {
            self.chunks.back_mut().map(Chunk::shrink);
            self.end = Expected::default();
            self.chunks.push_back(Chunk::new(self.next_offset));
        }
        if let Some(last) = self.chunks.back_mut() {
            last.push(&record, &mut self.end);
        }
        self.bytes += u64::from(record.location.len);
        self.next_offset += 1;
    }

    /// Drops what is not to be kept any more; what goes is told to `done`.
    pub(in crate::queue) fn retain(&mut self, now_ms: u64, retention: Retention, done: &mut Settled) {
        let from = self.first_offset;
        while self.chunks.front().is_some_and(|first| {
            let too_many = self.chunks.len() > 1 && retention.max_bytes.is_some_and(|max| self.bytes > max);
            too_many || retention.expires(first).is_some_and(|at| at <= now_ms)
        }) {
            self.drop_first();
        }
        if self.first_offset > from {
            done.push_range(SequenceRange { first: from, len: self.first_offset - from });
        }
    }

    /// When [`Self::retain`] has something to do that no push brings about.
    pub(in crate::queue) fn expires(&self, retention: Retention) -> Option<u64> {
        retention.expires(self.chunks.front()?)
    }

    /// Drops all messages before the end of `range`, as far as there are so many.
    pub(in crate::queue) fn forget(&mut self, range: SequenceRange) {
        let end = range.first.saturating_add(range.len).min(self.next_offset);
        while self.chunks.front().is_some_and(|first| first.end() <= end) {
            self.drop_first();
        }
        self.first_offset = self.first_offset.max(end);
    }

    fn drop_first(&mut self) {
        if let Some(first) = self.chunks.pop_front() {
            self.bytes -= first.bytes;
            self.first_offset = first.end();
            self.dropped_chunks += 1;
        }
    }

    /// Messages lie elsewhere from now on; `moved` is ascending by offset.
    pub(in crate::queue) fn relocate(&mut self, moved: &[(u64, Location)]) {
        let mut rest = moved;
        while let Some((offset, _)) = rest.first() {
            let index = self.chunks.partition_point(|chunk| chunk.end() <= *offset);
            let Some(chunk) = self.chunks.get_mut(index) else {
                return;
            };
            let (within, behind) = rest.split_at(rest.partition_point(|(offset, _)| *offset < chunk.end()));
            rest = behind;
            let end = chunk.relocate(within);
            if index + 1 == self.chunks.len() {
                self.end = end;
            }
            self.rewritten = self.rewritten.wrapping_add(1);
        }
    }

    /// The offset of the first message that a reader is handed who begins at `from`.
    pub(super) fn offset_of(&self, from: StreamOffset, now_ms: u64) -> u64 {
        match from {
            StreamOffset::First => self.first_offset,
            StreamOffset::Last => self.next_offset.saturating_sub(1).max(self.first_offset),
            StreamOffset::Next => self.next_offset,
            StreamOffset::Number(offset) => offset.max(self.first_offset),
            StreamOffset::Timestamp(time_ms) => self.offset_from(time_ms),
            StreamOffset::Interval(millis) => self.offset_from(now_ms.saturating_sub(millis)),
        }
    }

    /// The offset of the first message that came at `time_ms` or later.
    fn offset_from(&self, time_ms: u64) -> u64 {
        let index = self.chunks.partition_point(|chunk| chunk.newest_ms < time_ms);
        let mut messages = self.chunks.get(index).into_iter().flat_map(Chunk::messages);
        let found = messages.find(|(_, record)| record.time_ms >= time_ms);
        found.map_or(self.next_offset, |(offset, _)| offset.max(self.first_offset))
    }
}

impl Retention {
    /// True if a message that comes at `time_ms` begins a new chunk behind `last`.
    fn ends(self, last: &Chunk, time_ms: u64) -> bool {
        last.count >= CHUNK_MESSAGES
            || self.max_bytes.is_some_and(|max| last.bytes >= max / CHUNKS_PER_BOUND)
            || self.max_age.is_some_and(|max| time_ms - last.oldest_ms > max / CHUNKS_PER_BOUND)
    }

    /// When `chunk` is too old.
    fn expires(self, chunk: &Chunk) -> Option<u64> {
        self.max_age.map(|max| chunk.newest_ms.saturating_add(max))
    }
}
