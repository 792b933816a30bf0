//! Consecutive messages of a stream, packed.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::filter::Filter;
use super::record::{Expected, Record};
use crate::location::Location;

/// Messages in one chunk.
pub(super) const CHUNK_MESSAGES: u32 = 256;

/// Up to [`CHUNK_MESSAGES`] messages. Shared with snapshots, and copied when it changes while a snapshot has it.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// The first message's.
    pub(super) offset: u64,
    /// How many messages; at least 1.
    pub(super) count: u32,
    /// Octets in the log.
    pub(super) bytes: u64,
    /// When the first and the last came.
    pub(super) oldest_ms: u64,
    pub(super) newest_ms: u64,
    /// Which filter values may be in it (see [`Filter`]).
    pub(super) values: u64,
    /// See [`super::record`].
    pub(super) records: Arc<Vec<u8>>,
}

impl Chunk {
    /// A chunk whose first message is still to be pushed.
    pub(super) fn new(offset: u64) -> Self {
        Self { offset, count: 0, bytes: 0, oldest_ms: 0, newest_ms: 0, values: 0, records: Arc::default() }
    }

    /// Its messages from `records`, in which there are to be `count`; with what a further record would be measured from.
    /// `None` if there is anything else in `records`.
    pub(super) fn decode(offset: u64, count: u32, records: &[u8]) -> Option<(Self, Expected)> {
        let mut chunk = Self { records: Arc::new(records.to_vec()), ..Self::new(offset) };
        let (mut rest, mut expected) = (records, Expected::default());
        for _ in 0..count {
            let record = expected.decode(&mut rest)?;
            chunk.add(&record);
        }
        rest.is_empty().then_some((chunk, expected))
    }

    /// Appends a message.
    pub(super) fn push(&mut self, record: &Record, expected: &mut Expected) {
        expected.encode(record, Arc::make_mut(&mut self.records));
        self.add(record);
    }

    /// Counts a message whose record is there.
    fn add(&mut self, record: &Record) {
        if self.count == 0 {
            self.oldest_ms = record.time_ms;
        }
        self.newest_ms = record.time_ms;
        self.count += 1;
        self.bytes += u64::from(record.location.len);
        self.values |= Filter::bit(record.value);
    }

    /// Gives memory back that only further messages would need.
    pub(super) fn shrink(&mut self) {
        if let Some(records) = Arc::get_mut(&mut self.records) {
            records.shrink_to_fit();
        }
    }

    /// The offset behind its last message.
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.count)
    }

    /// Its messages, each with its offset.
    pub(super) fn messages(&self) -> impl Iterator<Item = (u64, Record)> + '_ {
        let (mut rest, mut expected) = (&self.records[..], Expected::default());
        (self.offset..self.end()).map_while(move |offset| Some((offset, expected.decode(&mut rest)?)))
    }

    /// Messages lie elsewhere from now on; `moved` is ascending by offset. Answers what a further record would be measured
    /// from.
    pub(super) fn relocate(&mut self, moved: &[(u64, Location)]) -> Expected {
        let (mut records, mut expected) = (Vec::with_capacity(self.records.len()), Expected::default());
        for (offset, record) in self.messages() {
            let moved = moved.binary_search_by_key(&offset, |(offset, _)| *offset).map(|at| moved[at].1);
            let location = moved.unwrap_or(record.location);
            expected.encode(&Record { location, ..record }, &mut records);
        }
        self.records = Arc::new(records);
        expected
    }
}
