//! Messages that are not in memory any more: read back from the log.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::task::block_in_place;
use tracing::error;
use warren_core::{Bodies, Location, Message};
use warren_storage::{FileDisk, LogPoint, LogReader, ReadError};

use crate::limits::{READ_AHEAD_BYTES, READ_AHEAD_GAP, READ_AHEADS};
use crate::log::position;
use crate::telemetry;

/// How far the log is synced, as the log thread last said: what lies behind it may still change.
#[derive(Debug, Clone, Default)]
pub(crate) struct SyncedEnd(Arc<AtomicU64>);

impl SyncedEnd {
    pub(crate) fn set(&self, end: LogPoint) {
        self.0.store(u64::from(end.segment) << 32 | u64::from(end.offset), Ordering::Release);
    }

    pub(crate) fn get(&self) -> LogPoint {
        let end = self.0.load(Ordering::Acquire);
        LogPoint { segment: (end >> 32) as u32, offset: end as u32 }
    }
}

/// One shard's reader. A backlog lies in the log mostly in the order it is delivered, so a read that continues one before
/// takes more than it was asked for, and the next ones are slices of it. Several are remembered, for a shard delivers
/// several backlogs at a time, and a stream has readers at several places.
pub(crate) struct LogBodies {
    reader: LogReader<FileDisk>,
    synced: SyncedEnd,
    /// The one used last first; at most [`READ_AHEADS`].
    reads: Vec<Done>,
}

/// A read.
struct Done {
    at: Location,
    octets: Bytes,
}

impl Done {
    /// The octets at `at`, if they were read.
    fn slice(&self, at: Location) -> Option<Bytes> {
        let start = at.offset.checked_sub(self.at.offset)? as usize;
        let inside = at.segment == self.at.segment && start + at.len as usize <= self.octets.len();
        inside.then(|| self.octets.slice(start..start + at.len as usize))
    }

    /// True if `at` lies right behind it.
    fn is_continued_by(&self, at: Location) -> bool {
        let behind = at.offset.checked_sub(self.at.offset).and_then(|gap| gap.checked_sub(self.at.len));
        at.segment == self.at.segment && behind.is_some_and(|gap| gap < READ_AHEAD_GAP)
    }
}

impl LogBodies {
    pub(crate) fn new(reader: LogReader<FileDisk>, synced: SyncedEnd) -> Self {
        Self { reader, synced, reads: Vec::new() }
    }

    /// How much to read at `at`, which continues a read: more than was asked for, as far as the log is synced. Messages of a
    /// queue that lie apart are read one by one, or each would keep its neighbours in memory.
    fn len_to_read(&self, at: Location) -> Result<u32, ReadError> {
        let synced = self.synced.get();
        let end = match synced.segment.cmp(&at.segment) {
            // The log thread has told us of `at` and not yet how far it is: nothing behind it is sure.
            Less => return Ok(at.len),
            Equal => synced.offset,
            Greater => self.reader.segment_len(at.segment)?,
        };
        Ok(at.len.max(READ_AHEAD_BYTES.min(end.saturating_sub(at.offset))))
    }

    fn octets(&mut self, at: Location) -> Result<Bytes, ReadError> {
        let known = self.reads.iter().enumerate().find_map(|(index, read)| Some((index, read.slice(at)?)));
        if let Some((index, octets)) = known {
            self.reads[..=index].rotate_right(1);
            return Ok(octets);
        }
        let continued = self.reads.iter().position(|read| read.is_continued_by(at));
        let len = if continued.is_some() { self.len_to_read(at)? } else { at.len };
        let octets = read(&self.reader, Location { len, ..at })?;
        let asked = octets.slice(..at.len as usize);
        match continued {
            Some(index) => _ = self.reads.remove(index),
            None => self.reads.truncate(READ_AHEADS - 1),
        }
        // A large message is not kept for a neighbour that may never be asked for.
        let octets = if len <= READ_AHEAD_BYTES { octets } else { Bytes::new() };
        self.reads.insert(0, Done { at: Location { len, ..at }, octets });
        Ok(asked)
    }
}

impl Bodies for LogBodies {
    fn read(&mut self, at: Location) -> Message {
        let message = self.octets(at).map_err(anyhow::Error::new).and_then(|octets| Ok(Message::from_publish(octets)?));
        message.unwrap_or_else(|error| {
            error!(error = format!("{error:#}"), ?at, "a queued message cannot be read back; ending the process");
            telemetry::abort();
        })
    }
}

/// Reads from the page cache without ado, and otherwise lets the runtime know that this thread waits for the disk.
fn read(reader: &LogReader<FileDisk>, at: Location) -> Result<Bytes, ReadError> {
    let part = position(at);
    match reader.read_part_now(part)? {
        Some(octets) => Ok(octets),
        None => block_in_place(|| reader.read_part(part)),
    }
}
