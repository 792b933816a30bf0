//! Append, sync, roll over: the log as one owner uses it. [`writer`](crate::writer) puts it on a thread.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::folder::{Folder, Segment};
use crate::random::mixed;
use crate::reader::LogReader;
use crate::recovery::{self, OpenError, Recovered};
use crate::retention::Retention;
use crate::segment::{
    Identity, Kind, LogPoint, MAX_PAYLOAD_LEN, Position, RECORD_HEADER_LEN, RecordHeader, SEGMENT_HEADER_LEN,
    SegmentHeader, Tag, file_name, padded,
};

/// The longest segment that is accepted, in bytes.
pub const MAX_SEGMENT_LEN: u32 = 1 << 30;

/// How a log is laid out. What is already in the folder keeps the layout it has.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose data it is. A folder with another identity is refused.
    pub identity: Identity,
    /// Bytes of a segment: a multiple of 4096, at most [`MAX_SEGMENT_LEN`]. Default 64 MiB. A record that does not fit
    /// gets a segment of its own length.
    pub segment_len: u32,
    /// Bytes of the very first segment of an empty folder, which is made while the caller waits. Default 1 MiB.
    pub first_segment_len: u32,
    /// Bytes that new files of the log leave free on its volume, at least, for the next checkpoint: without one no
    /// segment could be given up any more. Twice the last checkpoint's length is left in any case. Default 1 MiB.
    pub reserve: u64,
    /// Where the epochs that salt the records come from. Default: random. A fixed seed makes the files of a test
    /// repeatable, and must not be used with a folder that was written with the same seed before.
    pub epoch_seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            identity: Identity::default(),
            segment_len: 64 << 20,
            first_segment_len: 1 << 20,
            reserve: 1 << 20,
            epoch_seed: RandomState::new().hash_one("epoch"),
        }
    }
}

impl Options {
    /// True if a segment may have so many bytes.
    pub fn is_segment_len(len: u32) -> bool {
        len > SEGMENT_HEADER_LEN && len <= MAX_SEGMENT_LEN && len.is_multiple_of(4096)
    }

    fn check(&self) -> Result<(), OpenError> {
        for len in [self.segment_len, self.first_segment_len] {
            if !Self::is_segment_len(len) {
                return Err(OpenError::SegmentLen { len });
            }
        }
        Ok(())
    }

    /// The header of segment `seq`, made for a record of `record_len` bytes.
    pub(crate) fn header(&self, seq: u32, prev_epoch: u64, record_len: u32) -> SegmentHeader {
        let usual_len = if seq == 0 { self.first_segment_len } else { self.segment_len };
        let needed = (SEGMENT_HEADER_LEN + record_len + RECORD_HEADER_LEN).next_multiple_of(4096);
        let segment_len = usual_len.max(needed);
        let epoch = mixed(self.epoch_seed.wrapping_add(u64::from(seq)));
        SegmentHeader { segment_len, identity: self.identity, seq, epoch, prev_epoch }
    }
}

/// Something to append: a payload with its tag, measured and checksummed when it is made, so that the thread that
/// made it pays for that and not the log thread.
#[derive(Debug, Clone)]
pub struct Record {
    pub(crate) tag: Tag,
    pub(crate) payload: Vec<Bytes>,
    pub(crate) len: u32,
    crc: u32,
}

/// Why something cannot be a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The payload is too long.
    #[error(
        "a record of {len} bytes does not fit into the log, which takes at most {MAX_PAYLOAD_LEN} bytes in one record"
    )]
    TooLong {
        /// Bytes of the payload.
        len: usize,
    },
    /// Records of that kind are the log's own.
    #[error("records of kind {kind:?} are written by the log alone")]
    Internal {
        /// The kind.
        kind: Kind,
    },
}

impl Record {
    /// A record whose payload is all the parts, one after the other. Parts up to 4 KiB are copied when they are
    /// written, larger ones are not.
    pub fn new(tag: Tag, payload: Vec<Bytes>) -> Result<Self, RecordError> {
        if tag.kind.is_internal() {
            return Err(RecordError::Internal { kind: tag.kind });
        }
        let len = payload.iter().map(Bytes::len).sum::<usize>();
        if len > MAX_PAYLOAD_LEN as usize {
            return Err(RecordError::TooLong { len });
        }
        let crc = payload.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        Ok(Self { tag, payload, len: len as u32, crc })
    }

    /// What the record says about its payload.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// Bytes that the record takes in the log.
    pub fn disk_len(&self) -> u32 {
        RECORD_HEADER_LEN + padded(self.len)
    }
}

/// Why the log could not do what it was asked to. Except after `NoSpace` and `Plan`, it accepts nothing any more: what is
/// on the disk after a failed write or sync is unknown, and trying again can report success for data that is gone.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A call on the disk failed.
    #[error("cannot {action} {file}: {source}. What of it reached the disk is unknown, so the log stops here")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file it was tried on.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The volume is full, or what is left of it is kept for the next checkpoint ([`Options::reserve`]). Nothing has
    /// changed; the same may be tried again.
    #[error(
        "cannot {action} {file}: no space ({source}). Nothing is lost; it goes on once there is room on the volume: \
         consume or delete messages, or enlarge the volume"
    )]
    NoSpace {
        /// What was tried.
        action: &'static str,
        /// The file it was tried on.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A checkpoint was asked for that does not fit this log. Nothing has changed.
    #[error("this checkpoint would lose records: {reason}")]
    Plan {
        /// What does not fit.
        reason: String,
    },
    /// All 2^32 segment numbers have been used.
    #[error(
        "the log has used up its segment numbers; restore a backup of the folder, or begin a new one, which is empty"
    )]
    NumbersUsedUp,
    /// The log failed earlier, and said so then.
    #[error("the log failed earlier and accepts nothing any more")]
    Stopped,
}

impl LogError {
    pub(crate) fn io(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, file: file.to_owned(), source }
    }

    /// Whether the log is of no use after it.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::NoSpace { .. } | Self::Plan { .. })
    }
}

/// The log of a node, with one owner. Nothing that was appended is durable before [`sync`](Self::sync) returned.
pub struct Log<D: Disk> {
    folder: Arc<Folder<D>>,
    options: Options,
    segment: Arc<Segment<D::File>>,
    /// Where the next record goes: the end of what was appended.
    tail: u32,
    /// The end of what was handed to the disk; what lies between it and the tail is staged.
    written: u32,
    /// The end of what a finished sync covers.
    synced: u32,
    staged: Staged,
    /// The last record is a mark, and all before it is synced.
    marked: bool,
    /// The last record is a seal: the next one goes to a new segment.
    sealed: bool,
    /// Bytes of the records that were found when the log was opened.
    replayed: u64,
    failed: bool,
}

impl<D: Disk> Log<D> {
    /// Opens the log in a folder, or begins one in an empty folder.
    ///
    /// The snapshots of the last checkpoint are handed to `visit`, then every record from its `replay_from` on, in the
    /// order of appending. All that counts only if this function returns `Ok`: by then all of it is synced. See
    /// [`recovery`] for what is kept and what is refused.
    /// A payload shares its memory with its neighbours (up to 1 MiB): copy what is to be kept for long.
    pub fn open(disk: D, options: Options, visit: impl FnMut(Recovered)) -> Result<Self, OpenError> {
        options.check()?;
        let found = recovery::recover(disk, &options, visit)?;
        let mut log = Self {
            folder: Arc::new(found.folder),
            options,
            segment: found.segment,
            tail: found.tail,
            written: found.tail,
            synced: found.tail,
            staged: Staged::default(),
            marked: found.marked,
            sealed: found.sealed,
            replayed: found.replayed,
            failed: false,
        };
        log.folder.set_synced(log.end());
        log.mark()?;
        Ok(log)
    }

    /// The end of what is synced.
    pub fn end(&self) -> LogPoint {
        // Reading begins before a seal, so that it is seen.
        let offset = if self.sealed { self.synced - RECORD_HEADER_LEN } else { self.synced };
        LogPoint { segment: self.segment.seq, offset }
    }

    /// The checkpoint that the log has, as of now.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.folder.checkpoints().last
    }

    /// Bytes of the records (headers and padding included) that [`open`](Self::open) found behind the checkpoint.
    pub fn bytes_since_checkpoint(&self) -> u64 {
        self.replayed
    }

    /// Reads payloads back, from any thread.
    pub fn reader(&self) -> LogReader<D> {
        LogReader::new(Arc::clone(&self.folder))
    }

    /// Writes checkpoints and gives up segments, from any thread.
    pub fn retention(&self) -> Retention<D> {
        Retention::new(Arc::clone(&self.folder), self.options.identity)
    }

    /// Adds a record at the end and says where its payload will be. May write, and syncs when a segment is full.
    ///
    /// # Errors
    /// After [`LogError::NoSpace`] the record is not in the log, and all before it is synced.
    pub fn append(&mut self, record: &Record) -> Result<Position, LogError> {
        self.unless_failed(|log| {
            log.make_room(record.disk_len())?;
            let position = log.stage(record.tag, &record.payload, record.len, record.crc);
            if log.staged.len >= STAGED_MAX {
                log.write_staged()?;
            }
            Ok(position)
        })
    }

    /// Hands everything appended to the disk, without waiting for it to become durable.
    pub fn write(&mut self) -> Result<(), LogError> {
        self.unless_failed(Self::write_staged)
    }

    /// Makes everything appended durable.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.unless_failed(Self::sync_segment)
    }

    /// Notes in the log, without a sync, that everything in it is synced, so that the next start can tell damage to the
    /// last records from an interrupted write. For quiet moments; does nothing if that is noted, or is not so.
    pub fn mark(&mut self) -> Result<(), LogError> {
        if !self.wants_mark() {
            return Ok(());
        }
        self.unless_failed(|log| {
            log.stage(Tag { kind: Kind::Mark, shard: 0, term: 0, index: 0 }, &[], 0, 0);
            log.marked = true;
            log.write_staged()
        })
    }

    /// Whether [`mark`](Self::mark) would write something.
    pub(crate) fn wants_mark(&self) -> bool {
        let empty = self.tail == SEGMENT_HEADER_LEN;
        !self.marked && !self.sealed && !empty && self.synced == self.tail && self.room() >= RECORD_HEADER_LEN
    }

    pub(crate) fn folder(&self) -> &Arc<Folder<D>> {
        &self.folder
    }

    /// The sequence number of the segment being written.
    pub fn active_segment(&self) -> u32 {
        self.segment.seq
    }

    /// Bytes that a record may take in this segment; room for a seal is always left.
    fn room(&self) -> u32 {
        self.segment.len.saturating_sub(self.tail).saturating_sub(RECORD_HEADER_LEN)
    }

    fn stage(&mut self, tag: Tag, payload: &[Bytes], len: u32, crc_payload: u32) -> Position {
        let header = RecordHeader { tag, len, crc_payload, synced_upto: self.synced };
        self.staged.push(&header.encode(self.segment.salt, self.tail), payload, len);
        let offset = self.tail + RECORD_HEADER_LEN;
        self.tail = offset + padded(len);
        self.marked = false;
        Position { segment: self.segment.seq, offset, len }
    }

    fn write_staged(&mut self) -> Result<(), LogError> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let mut slices = self.staged.slices(self.tail);
        let written = self.folder.disk.write_at(&self.segment.file, &mut slices, u64::from(self.written));
        written.map_err(LogError::io("write to", &file_name(self.segment.seq)))?;
        self.staged.clear();
        self.written = self.tail;
        Ok(())
    }

    fn sync_segment(&mut self) -> Result<(), LogError> {
        self.write_staged()?;
        if self.synced == self.tail {
            return Ok(());
        }
        let synced = self.folder.disk.sync_data(&self.segment.file);
        synced.map_err(LogError::io("sync", &file_name(self.segment.seq)))?;
        self.synced = self.tail;
        self.folder.set_synced(self.end());
        Ok(())
    }

    /// Sees to it that a record of `len` bytes fits behind the last one.
    fn make_room(&mut self, len: u32) -> Result<(), LogError> {
        if !self.sealed && len > self.room() {
            self.stage(Tag { kind: Kind::Seal, shard: 0, term: 0, index: 0 }, &[], 0, 0);
            self.sealed = true;
            self.sync_segment()?;
        }
        if self.sealed {
            self.begin_next_segment(len)?;
        }
        Ok(())
    }

    fn begin_next_segment(&mut self, record_len: u32) -> Result<(), LogError> {
        let seq = self.segment.seq.checked_add(1).ok_or(LogError::NumbersUsedUp)?;
        let header = self.options.header(seq, self.segment.epoch, record_len);
        self.segment = self.folder.begin_segment(&header)?;
        self.sealed = false;
        self.tail = SEGMENT_HEADER_LEN;
        self.written = self.tail;
        self.synced = self.tail;
        self.marked = false;
        self.folder.set_synced(self.end());
        Ok(())
    }

    fn unless_failed<T>(&mut self, deed: impl FnOnce(&mut Self) -> Result<T, LogError>) -> Result<T, LogError> {
        if self.failed {
            return Err(LogError::Stopped);
        }
        let done = deed(self);
        self.failed = done.as_ref().is_err_and(LogError::is_final);
        done
    }
}

/// Staged bytes from which on a write is made before a sync is asked for, so that memory stays bounded and the disk
/// begins early.
const STAGED_MAX: usize = 4 << 20;

/// Parts of a payload up to this many bytes are copied beside their neighbours; larger ones are written from where
/// they are.
const COPIED_MAX: usize = 4096;

const ZEROS: [u8; 4096] = [0; 4096];

/// Records on their way to the disk, as few pieces as possible.
#[derive(Default)]
struct Staged {
    copied: Vec<u8>,
    pieces: Vec<Piece>,
    len: usize,
}

enum Piece {
    /// The next so many bytes of `copied`.
    Copied(usize),
    Shared(Bytes),
}

impl Staged {
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, header: &[u8], payload: &[Bytes], len: u32) {
        self.copy(header);
        for part in payload {
            if part.len() <= COPIED_MAX {
                self.copy(part);
            } else {
                self.len += part.len();
                self.pieces.push(Piece::Shared(part.clone()));
            }
        }
        self.copy(&ZEROS[..(padded(len) - len) as usize]);
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
        self.len += bytes.len();
        match self.pieces.last_mut() {
            Some(Piece::Copied(count)) => *count += bytes.len(),
            _ => self.pieces.push(Piece::Copied(bytes.len())),
        }
    }

    /// The pieces, and zeros up to the end of the last page: a page that is written whole need not be read first.
    /// `end` is where the staged records end in the segment.
    fn slices(&self, end: u32) -> Vec<IoSlice<'_>> {
        let mut copied = self.copied.as_slice();
        let mut slices = Vec::with_capacity(self.pieces.len() + 1);
        for piece in &self.pieces {
            slices.push(match piece {
                Piece::Copied(count) => {
                    let (now, later) = copied.split_at(*count);
                    copied = later;
                    IoSlice::new(now)
                }
                Piece::Shared(bytes) => IoSlice::new(bytes),
            });
        }
        let rest = (end.next_multiple_of(4096) - end) as usize;
        slices.push(IoSlice::new(&ZEROS[..rest]));
        slices
    }

    fn clear(&mut self) {
        self.pieces.clear();
        self.len = 0;
        self.copied.clear();
        self.copied.shrink_to(2 * STAGED_MAX);
    }
}
