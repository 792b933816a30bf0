//! A look at a log's folder that changes nothing in it: what is there, and whether it is whole.
//!
//! It reads what [recovery](crate::recovery) reads and judges it by the same rules, but where opening is refused it
//! notes a [`Fault`] and goes on behind it. It reads more, too: of the segments from which only bodies are still read,
//! and of what the checkpoint's snapshots cover, every record is compared with its checksums.
//!
//! A log may be in use while it is looked at. What looks like damage then is looked at again: a file that is another
//! one by now was given up, and a record that is whole by now had not been written yet.
//!
//! Memory: one record, one step of the checkpoint, and 100 bytes for each segment and fault.

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::checkpoint::{self, CheckpointReader, Head};
use crate::disk::Files;
use crate::folder::Segment;
use crate::log::LogError;
use crate::recovery::{OpenError, read_header, sequence_numbers};
use crate::segment::{
    Identity, Kind, LogPoint, Position, RECORD_HEADER_LEN, RecordHeader, SEGMENT_HEADER_LEN, SegmentHeader, Tag,
    file_name,
};
use crate::window::Window;

/// Faults that are kept; further ones are only counted.
pub const FAULTS_MAX: usize = 1_000;

/// How often the list of files is read again because a checkpoint came between.
const LISTINGS: usize = 8;

/// What is in the folder of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Whose data it is; `None` if no file could say so.
    pub identity: Option<Identity>,
    /// The checkpoint, if there is one and its head is whole.
    pub checkpoint: Option<FoundCheckpoint>,
    /// The segments, oldest first.
    pub segments: Vec<FoundSegment>,
    /// Other files of the log, which hold nothing: spare and unfinished ones.
    pub others: Vec<String>,
    /// The end of the log, if its last segment could be read.
    pub tail: Option<Tail>,
    /// What is damaged or missing, at most [`FAULTS_MAX`].
    pub faults: Vec<Fault>,
    /// How many faults there are.
    pub fault_count: u64,
}

/// A checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundCheckpoint {
    /// Counts the checkpoints of a log, from 1.
    pub number: u64,
    /// Bytes of its file.
    pub len: u64,
    /// Records from here on are not in its snapshots.
    pub replay_from: LogPoint,
}

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundSegment {
    /// Its sequence number.
    pub seq: u32,
    /// Bytes of its file.
    pub len: u64,
    /// What it is there for.
    pub state: SegmentState,
    /// Records in it that are whole.
    pub records: u64,
    /// Where the last of them ends, in bytes from the start of the file.
    pub end: u32,
}

/// What a segment is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentState {
    /// It is before the checkpoint, and stays for what is still read from it.
    Retained,
    /// It is read when the log is opened.
    Replayed,
    /// Nobody needs it: it is left over from a crash, or was given up while we looked. It was not read, or not to its end.
    GivenUp,
}

/// The end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Behind the last whole record.
    pub point: LogPoint,
    /// Bytes of the segment behind it.
    pub free: u32,
    /// The segment is finished; the next record begins another one.
    pub sealed: bool,
    /// Records behind the tail that were begun when the process ended, and that nobody was told were synced. Opening the
    /// log cuts them off.
    pub torn: u32,
}

/// Something that is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// Bytes from its start.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
}

/// Something found in the folder, in the order of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A snapshot of the checkpoint. These come first.
    Snapshot {
        /// The shard.
        shard: u16,
        /// The Raft term of the last entry that is in it.
        term: u64,
        /// The index of that entry.
        index: u64,
        /// Bytes of the state.
        len: u64,
        /// The state, if it was asked for and is whole.
        payload: Option<Bytes>,
    },
    /// A record that is whole, wherever in the log. Not those that the log writes for itself.
    Record {
        /// What it says about its payload.
        tag: Tag,
        /// Where its payload is.
        position: Position,
        /// The payload.
        payload: Bytes,
        /// Whether opening the log reads it: it is behind the checkpoint.
        replayed: bool,
    },
}

/// Looks at the log in `files` and shows `visit` what is in it, with the states of those shards' snapshots that are
/// `wanted`. When that breaks off, nothing more is read, and the [`Inspection`] says what was found until then.
///
/// # Errors
/// A newer program wrote the folder, or it may not be read. Damage is no error: it is in the [`Inspection`].
pub fn inspect<F: Files>(
    files: &F,
    wanted: impl Fn(u16) -> bool,
    visit: impl FnMut(Seen) -> ControlFlow<()>,
) -> Result<Inspection, OpenError> {
    let mut look = Look { files, visit, stopped: false, found: Inspection::default() };
    let listing = look.listing()?;
    let head = match listing.checkpoint {
        Some(Ok(reader)) => Some(look.checkpoint(reader, wanted)?),
        Some(Err(error)) => {
            look.note(checkpoint::FILE_NAME, 0, error)?;
            None
        }
        None => None,
    };
    look.found.others = listing.names.into_iter().filter(|name| is_other(name)).collect();
    let damaged = look.found.fault_count > 0 && head.is_none();
    look.segments(head.as_ref(), &listing.sequence, damaged)?;
    Ok(look.found)
}

fn is_other(name: &str) -> bool {
    name.starts_with("spare-") || name.starts_with("new-") || name == checkpoint::UNFINISHED_NAME
}

/// The files at one moment.
struct Listing<'a, F: Files> {
    checkpoint: Option<Result<CheckpointReader<'a, F>, OpenError>>,
    names: Vec<String>,
    sequence: Vec<u32>,
}

impl<F: Files> Listing<'_, F> {
    fn number(&self) -> Option<u64> {
        self.checkpoint.as_ref()?.as_ref().ok().map(|reader| reader.head.number)
    }

    fn is_complete(&self) -> bool {
        self.sequence.windows(2).all(|pair| pair[1] - pair[0] == 1)
    }
}

struct Look<'a, F: Files, V> {
    files: &'a F,
    visit: V,
    /// Whoever looks wants to see no more.
    stopped: bool,
    found: Inspection,
}

/// What is at a place of a segment.
enum At {
    Record(RecordHeader, Bytes),
    /// A record's header, whose payload does not match.
    Torn,
    Nothing,
}

impl<'a, F: Files, V: FnMut(Seen) -> ControlFlow<()>> Look<'a, F, V> {
    /// The files that belong to one checkpoint: if another one came between, they are listed again.
    fn listing(&self) -> Result<Listing<'a, F>, OpenError> {
        let mut listing = self.list()?;
        for _ in 1..LISTINGS {
            if listing.number() == self.number() && listing.is_complete() {
                break;
            }
            listing = self.list()?;
        }
        Ok(listing)
    }

    fn list(&self) -> Result<Listing<'a, F>, OpenError> {
        let checkpoint = match CheckpointReader::open(self.files) {
            Err(error) if is_not_found(&error) => None,
            opened => Some(opened),
        };
        let mut names = self.files.list().map_err(LogError::io("list the files of", "the log folder"))?;
        names.sort_unstable();
        let sequence = sequence_numbers(&names);
        Ok(Listing { checkpoint, names, sequence })
    }

    /// The number of the checkpoint that is there now.
    fn number(&self) -> Option<u64> {
        CheckpointReader::open(self.files).ok().map(|reader| reader.head.number)
    }

    /// Shows the snapshots of the checkpoint.
    fn checkpoint(
        &mut self,
        mut reader: CheckpointReader<'a, F>,
        wanted: impl Fn(u16) -> bool,
    ) -> Result<Head, OpenError> {
        let Head { number, replay_from, identity, .. } = reader.head;
        self.found.identity = Some(identity);
        self.found.checkpoint = Some(FoundCheckpoint { number, len: reader.len(), replay_from });
        loop {
            let header = match reader.next() {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => {
                    self.note(checkpoint::FILE_NAME, 0, error)?;
                    break;
                }
            };
            let read = if wanted(header.shard) {
                reader.payload(&header).map(Some)
            } else {
                reader.skip_payload(&header).map(|()| None)
            };
            let payload = match read {
                Ok(payload) => payload,
                Err(error) => {
                    self.note(checkpoint::FILE_NAME, 0, error)?;
                    None
                }
            };
            let (shard, term, index, len) = (header.shard, header.term, header.index, header.len);
            self.stopped |= (self.visit)(Seen::Snapshot { shard, term, index, len, payload }).is_break();
        }
        Ok(reader.head)
    }

    /// Looks at all segments. Where the checkpoint is damaged, nobody knows which of them have to be there.
    fn segments(&mut self, head: Option<&Head>, sequence: &[u32], damaged: bool) -> Result<(), OpenError> {
        let first = head.map_or(0, |head| head.replay_from.segment);
        self.look_for_missing(head, sequence, if damaged { None } else { Some(first) });
        let mut before: Option<SegmentHeader> = None;
        for &seq in sequence {
            if self.stopped {
                break;
            }
            let retained = head.and_then(|head| head.retained.get(&seq));
            if seq < first && retained.is_none() {
                self.given_up(seq);
                continue;
            }
            let state = if seq < first { SegmentState::Retained } else { SegmentState::Replayed };
            let Some((header, file)) = self.open(seq, head)? else { continue };
            let epoch = match (retained, head, before) {
                (Some(epoch), ..) => (header.epoch, *epoch),
                (None, Some(head), _) if seq == first => (header.epoch, head.replay_epoch),
                (None, _, Some(before)) if before.seq.checked_add(1) == Some(seq) => (header.prev_epoch, before.epoch),
                _ => (0, 0),
            };
            if epoch.0 != epoch.1 {
                self.fault(&file_name(seq), 0, "it is a segment of another log: it does not continue what is there");
            }
            before = Some(header);
            let len = self.files.len(&file).unwrap_or_else(|_| u64::from(header.segment_len));
            let found = FoundSegment { seq, len, state, records: 0, end: SEGMENT_HEADER_LEN };
            let is_last = sequence.last() == Some(&seq);
            self.segment(Segment::new(&header, file), found, head, is_last)?;
        }
        Ok(())
    }

    /// Notes what has to be there and is not. `first` is the segment that opening reads first.
    fn look_for_missing(&mut self, head: Option<&Head>, sequence: &[u32], first: Option<u32>) {
        for seq in head.into_iter().flat_map(|head| head.retained.keys()) {
            if sequence.binary_search(seq).is_err() {
                self.fault(&file_name(*seq), 0, "the file is missing, and the checkpoint needs it");
            }
        }
        let Some(first) = first else { return };
        let replayed = &sequence[sequence.partition_point(|seq| *seq < first)..];
        if replayed.is_empty() && head.is_some() {
            self.fault(&file_name(first), 0, "the file is missing, and the checkpoint continues in it");
        }
        let mut expected = first;
        for &seq in replayed {
            if seq != expected {
                let reason = format!("the file is missing, but {} is there", file_name(seq));
                self.fault(&file_name(expected), 0, &reason);
            }
            expected = seq.saturating_add(1);
        }
    }

    /// Opens a segment. `None` if that cannot be done, which is noted.
    fn open(&mut self, seq: u32, head: Option<&Head>) -> Result<Option<(SegmentHeader, F::File)>, OpenError> {
        let opened = match read_header(self.files, seq) {
            Err(_) if self.number() != head.map(|head| head.number) => {
                self.given_up(seq);
                return Ok(None);
            }
            opened => opened,
        };
        match opened {
            Ok((header, file)) => {
                let identity = *self.found.identity.get_or_insert(header.identity);
                if header.identity != identity {
                    let Identity { cluster_id, node_id } = header.identity;
                    let reason = format!("it belongs to node {node_id} of cluster {cluster_id:032x}, others do not");
                    self.fault(&file_name(seq), 0, &reason);
                }
                Ok(Some((header, file)))
            }
            Err(error) => self.note(&file_name(seq), 0, error).map(|()| None),
        }
    }

    fn given_up(&mut self, seq: u32) {
        let name = file_name(seq);
        let len = self.files.open(&name).and_then(|file| self.files.len(&file)).unwrap_or_default();
        let state = SegmentState::GivenUp;
        self.found.segments.push(FoundSegment { seq, len, state, records: 0, end: SEGMENT_HEADER_LEN });
    }

    /// Shows the records of a segment.
    fn segment(
        &mut self,
        segment: Segment<F::File>,
        mut found: FoundSegment,
        head: Option<&Head>,
        is_last: bool,
    ) -> Result<(), OpenError> {
        let end = match self.walk(&segment, &mut found, head, is_last) {
            Ok(end) => end,
            Err(error) => {
                self.note(&file_name(found.seq), found.end, error)?;
                End::default()
            }
        };
        if is_last && found.state != SegmentState::GivenUp {
            let point = LogPoint { segment: found.seq, offset: found.end };
            let free = segment.len.saturating_sub(found.end);
            self.found.tail = Some(Tail { point, free, sealed: end.sealed, torn: end.torn });
        }
        self.found.segments.push(found);
        Ok(())
    }

    /// Shows record after record, and notes where there is none that should be.
    fn walk(
        &mut self,
        segment: &Segment<F::File>,
        found: &mut FoundSegment,
        head: Option<&Head>,
        is_last: bool,
    ) -> Result<End, OpenError> {
        let mut window = Window::new(self.files, segment);
        loop {
            let at = read(&mut window, found.end)?;
            if let At::Record(header, payload) = at {
                let sealed = header.tag.kind == Kind::Seal;
                self.record(found, header, payload, head);
                if sealed || self.stopped {
                    return Ok(End { sealed, torn: 0 });
                }
                continue;
            }
            let is_torn = matches!(at, At::Torn);
            let behind = Behind::look(&mut window, found.end)?;
            // What was not whole may have been written meanwhile.
            window = Window::new(self.files, segment);
            if behind.next.is_some() && matches!(read(&mut window, found.end)?, At::Record(..)) {
                continue;
            }
            if is_last && !behind.says_synced {
                return Ok(End { sealed: false, torn: behind.records + u32::from(is_torn) });
            }
            if !self.is_there(segment) {
                found.state = SegmentState::GivenUp;
                return Ok(End::default());
            }
            let what = if is_torn { "the payload of the record there" } else { "what should be a record there" };
            let next = behind.next.map_or_else(String::new, |next| format!("; the next record is at byte {next}"));
            let reason = format!("{what} does not match its checksum, and it was synced{next}");
            self.fault(&file_name(found.seq), u64::from(found.end), &reason);
            let Some(next) = behind.next else { return Ok(End::default()) };
            found.end = next;
        }
    }

    fn record(&mut self, found: &mut FoundSegment, header: RecordHeader, payload: Bytes, head: Option<&Head>) {
        let position = Position { segment: found.seq, offset: found.end + RECORD_HEADER_LEN, len: header.len };
        let place = LogPoint { segment: found.seq, offset: found.end };
        found.records += 1;
        found.end += header.record_len() as u32;
        if !header.tag.kind.is_internal() {
            let replayed = head.is_none_or(|head| place >= head.replay_from);
            self.stopped |= (self.visit)(Seen::Record { tag: header.tag, position, payload, replayed }).is_break();
        }
    }

    /// Whether the segment's file is still that segment.
    fn is_there(&self, segment: &Segment<F::File>) -> bool {
        read_header(self.files, segment.seq).is_ok_and(|(header, _)| header.epoch == segment.epoch)
    }

    /// Notes what is wrong with a file; `offset` is where it could not be read. Some errors end the look.
    fn note(&mut self, file: &str, offset: u32, error: OpenError) -> Result<(), OpenError> {
        match error {
            OpenError::Corrupt { file, offset, reason } => self.fault(&file, offset, &reason),
            OpenError::Disk(LogError::Io { source, .. }) if source.kind() != io::ErrorKind::PermissionDenied => {
                self.fault(file, offset.into(), &format!("it cannot be read: {source}"));
            }
            other => return Err(other),
        }
        Ok(())
    }

    fn fault(&mut self, file: &str, offset: u64, reason: &str) {
        self.found.fault_count += 1;
        if self.found.faults.len() < FAULTS_MAX {
            self.found.faults.push(Fault { file: file.to_owned(), offset, reason: reason.to_owned() });
        }
    }
}

/// How a segment ends.
#[derive(Default)]
struct End {
    sealed: bool,
    /// Records that were begun behind the last whole one.
    torn: u32,
}

/// What is behind a place where no whole record is.
struct Behind {
    /// Where the next record begins.
    next: Option<u32>,
    /// One of them says that what is missing was synced.
    says_synced: bool,
    records: u32,
}

impl Behind {
    /// Looks at all records behind `tail`, or up to the first that says that what is there was synced.
    fn look<F: Files>(window: &mut Window<'_, F>, tail: u32) -> Result<Self, OpenError> {
        let mut behind = Self { next: None, says_synced: false, records: 0 };
        let mut from = tail + 8;
        while let Some((at, header)) = window.next_header(from)? {
            behind.next.get_or_insert(at);
            behind.records += 1;
            behind.says_synced = header.synced_upto > tail;
            if behind.says_synced {
                break;
            }
            from = at + 8;
        }
        Ok(behind)
    }
}

fn read<F: Files>(window: &mut Window<'_, F>, offset: u32) -> Result<At, OpenError> {
    let Some(header) = window.header(offset)? else { return Ok(At::Nothing) };
    let payload = window.bytes(offset + RECORD_HEADER_LEN, header.len)?;
    let is_whole = crc32c::crc32c(&payload) == header.crc_payload;
    Ok(if is_whole { At::Record(header, payload) } else { At::Torn })
}

fn is_not_found(error: &OpenError) -> bool {
    matches!(error, OpenError::Disk(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound)
}
