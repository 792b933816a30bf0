//! Messages that are not in memory any more: read back from the log.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::task::block_in_place;
use tracing::error;
use warren_core::{Bodies, Location, Message};
use warren_storage::{FileDisk, LogPoint, LogReader, ReadError};

use crate::limits::{READ_AHEAD_BYTES, READ_AHEAD_GAP};
use crate::log::position;

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

/// One shard's reader. A backlog lies in the log mostly in the order it is delivered, so a read that continues the one
/// before takes more than it was asked for, and the next ones are slices of it.
pub(crate) struct LogBodies {
    reader: LogReader<FileDisk>,
    synced: SyncedEnd,
    ahead: Location,
    octets: Bytes,
}

impl LogBodies {
    pub(crate) fn new(reader: LogReader<FileDisk>, synced: SyncedEnd) -> Self {
        let nothing = Location { segment: 0, offset: 0, len: 0 };
        Self { reader, synced, ahead: nothing, octets: Bytes::new() }
    }

    /// What has been read ahead, if `at` is in it.
    fn slice(&self, at: Location) -> Option<Bytes> {
        let start = at.offset.checked_sub(self.ahead.offset)? as usize;
        let inside = at.segment == self.ahead.segment && start + at.len as usize <= self.octets.len();
        inside.then(|| self.octets.slice(start..start + at.len as usize))
    }

    /// How much to read at `at`: more than asked if it lies right behind what was read before. Messages of a queue that
    /// lie apart are read one by one, or each would keep its neighbours in memory.
    fn len_to_read(&self, at: Location) -> Result<u32, ReadError> {
        let behind = at.offset.checked_sub(self.ahead.offset).and_then(|gap| gap.checked_sub(self.ahead.len));
        let continues = at.segment == self.ahead.segment && behind.is_some_and(|gap| gap < READ_AHEAD_GAP);
        let synced = self.synced.get();
        let end = match synced.segment.cmp(&at.segment) {
            _ if !continues => return Ok(at.len),
            // The log thread has told us of `at` and not yet how far it is: nothing behind it is sure.
            Less => return Ok(at.len),
            Equal => synced.offset,
            Greater => self.reader.segment_len(at.segment)?,
        };
        Ok(at.len.max(READ_AHEAD_BYTES.min(end.saturating_sub(at.offset))))
    }

    fn octets(&mut self, at: Location) -> Result<Bytes, ReadError> {
        if let Some(octets) = self.slice(at) {
            return Ok(octets);
        }
        let ahead = Location { len: self.len_to_read(at)?, ..at };
        self.octets = read(&self.reader, ahead)?;
        self.ahead = ahead;
        Ok(self.octets.slice(..at.len as usize))
    }
}

impl Bodies for LogBodies {
    fn read(&mut self, at: Location) -> Message {
        let message = self.octets(at).map_err(anyhow::Error::new).and_then(|octets| Ok(Message::from_publish(octets)?));
        message.unwrap_or_else(|error| {
            error!(error = format!("{error:#}"), ?at, "a queued message cannot be read back; ending the process");
            process::abort();
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
