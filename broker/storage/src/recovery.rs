//! What a folder means after a crash.
//!
//! If there is a [`checkpoint`], it is read first, and refused if anything in it is damaged: it was synced before it got
//! its name. Segments before its `replay_from` are not read. Those that it retains must be there, told by their epochs;
//! the others are what a crash left while they were given up, and are removed once opening has succeeded. From
//! `replay_from` on, or from segment 0 where there is no checkpoint, every segment must be there and continue the one
//! before it, told by their epochs.
//!
//! Those segments are read in order, and so are the records in them. A record that does not parse ends the reading, and then
//! the question is whether it was ever synced:
//! - In a segment that has a successor everything up to the seal was synced: opening is refused ([`OpenError::Corrupt`]).
//! - In the last segment, if a valid record behind it says by its `synced_upto` that the bad one was synced: refused.
//! - Otherwise it is the torn end of what was never synced, and nobody was told that it was: it is cut. Valid records
//!   behind it were not synced either; they are overwritten, or they could come back to life once the log has grown up
//!   to them.
//!
//! What is kept may have been only in the page cache of a killed process, and so may the names of its last files: the
//! folder and the last segment are synced before opening succeeds. Opening twice gives the same.
//!
//! One case stays: rot in the very last synced batch, when the power failed before anything else was written, looks
//! like a torn tail. [`Log::mark`](crate::Log::mark) narrows it to batches of the last moment.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::{self, Head, Restored, Snapshot};
use crate::disk::{Disk, Files};
use crate::folder::{Folder, Segment};
use crate::log::{LogError, Options};
use crate::segment::{
    HeaderError, Identity, Kind, LogPoint, Position, RECORD_HEADER_LEN, SEGMENT_HEADER_LEN, SegmentHeader, Tag,
    file_name, padded, parse_file_name,
};
use crate::window::Window;

/// Something found in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// A snapshot of the last checkpoint. These come first, in the order in which they were given.
    Snapshot(Snapshot),
    /// A record behind the checkpoint, or any record if there is no checkpoint.
    Record {
        /// What it says about its payload.
        tag: Tag,
        /// Where its payload is.
        position: Position,
        /// The payload.
        payload: Bytes,
    },
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Synced data is damaged or missing.
    #[error(
        "the log is damaged: {file} at byte {offset}: {reason}. This was synced before, so it is not the trace of a \
         crash, and starting without it would lose confirmed messages. Keep a copy of the folder, then restore a \
         backup of it; an empty folder starts with no messages at all"
    )]
    Corrupt {
        /// The damaged file.
        file: String,
        /// Bytes from the start of the file.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The folder belongs to somebody else.
    #[error(
        "{file} belongs to node {} of cluster {:032x}, and this is node {} of cluster {:032x}: the wrong volume is \
         mounted, or the node was given another identity", found.node_id, found.cluster_id, expected.node_id,
        expected.cluster_id
    )]
    Foreign {
        /// The first file that says so.
        file: String,
        /// What the file says.
        found: Identity,
        /// What was expected.
        expected: Identity,
    },
    /// A newer program wrote the folder.
    #[error("{file} was written by a newer version of this program ({reason}): start that version, or a newer one")]
    Newer {
        /// The file.
        file: String,
        /// What is not known here.
        reason: String,
    },
    /// The options make no sense.
    #[error(
        "a segment of {len} bytes is not possible: it must be a multiple of 4096 bytes, above 4096 and at most 1 GiB"
    )]
    SegmentLen {
        /// The length in the options, in bytes.
        len: u32,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] LogError),
}

/// What was found, as the log goes on from it.
pub(crate) struct Found<D: Disk> {
    pub(crate) folder: Folder<D>,
    /// The last segment.
    pub(crate) segment: Arc<Segment<D::File>>,
    /// The end of the last record.
    pub(crate) tail: u32,
    /// The last record is a seal: the next segment is to be begun.
    pub(crate) sealed: bool,
    /// The last record is a mark.
    pub(crate) marked: bool,
    /// Bytes of the records that were read.
    pub(crate) replayed: u64,
}

pub(crate) fn recover<D: Disk>(
    disk: D,
    options: &Options,
    mut visit: impl FnMut(Recovered),
) -> Result<Found<D>, OpenError> {
    let (folder, names) = Folder::open(disk, options)?;
    // Names that a killed process gave may not be durable yet, and all that follows builds on them.
    folder.disk.sync_dir().map_err(LogError::io("sync", "the log folder"))?;
    let sequence = sequence_numbers(&names);
    if names.iter().any(|name| name == checkpoint::FILE_NAME) {
        let head = restore(&folder, options, &sequence, &mut visit)?;
        let first = sequence.partition_point(|seq| *seq < head.replay_from.segment);
        let found = replay(folder, options, Some(&head), &sequence[first..], visit)?;
        remove_unneeded(&found.folder.disk, &head, &sequence[..first])?;
        Ok(found)
    } else if sequence.is_empty() {
        begin(folder, options)
    } else {
        replay(folder, options, None, &sequence, visit)
    }
}

/// The numbers of the segments in the folder, in order.
pub(crate) fn sequence_numbers(names: &[String]) -> Vec<u32> {
    let mut sequence: Vec<u32> = names.iter().filter_map(|name| parse_file_name(name)).collect();
    sequence.sort_unstable();
    sequence
}

fn begin<D: Disk>(folder: Folder<D>, options: &Options) -> Result<Found<D>, OpenError> {
    let segment = folder.begin_segment(&options.header(0, 0, 0))?;
    Ok(Found { folder, segment, tail: SEGMENT_HEADER_LEN, sealed: false, marked: false, replayed: 0 })
}

/// Takes the checkpoint up: opens the older segments it needs and visits its snapshots.
fn restore<D: Disk>(
    folder: &Folder<D>,
    options: &Options,
    sequence: &[u32],
    visit: &mut impl FnMut(Recovered),
) -> Result<Head, OpenError> {
    let restored = checkpoint::read(&folder.disk)?;
    let checkpoint = restored.checkpoint();
    let Restored { head, snapshots, .. } = restored;
    if head.identity != options.identity {
        let file = checkpoint::FILE_NAME.to_owned();
        return Err(OpenError::Foreign { file, found: head.identity, expected: options.identity });
    }
    for (seq, epoch) in &head.retained {
        if sequence.binary_search(seq).is_err() {
            return Err(corrupt(*seq, 0, "the file is missing, and the checkpoint needs it".to_owned()));
        }
        let (header, file) = open_segment(folder, *seq, options)?;
        check_epoch(*seq, header.epoch, *epoch)?;
        folder.insert(Segment::new(&header, file));
    }
    folder.set_checkpoint(&mut folder.checkpoints(), checkpoint);
    snapshots.into_iter().map(Recovered::Snapshot).for_each(visit);
    Ok(head)
}

/// Removes older segments that the checkpoint does not need: the crash came before they were given up.
fn remove_unneeded<D: Disk>(disk: &D, head: &Head, older: &[u32]) -> Result<(), LogError> {
    for seq in older.iter().filter(|seq| !head.retained.contains_key(seq)) {
        let name = file_name(*seq);
        disk.remove(&name).map_err(LogError::io("remove the file", &name))?;
    }
    Ok(())
}

/// Reads the records from the checkpoint on, or all of them. `sequence` are the segments from there on.
fn replay<D: Disk>(
    folder: Folder<D>,
    options: &Options,
    head: Option<&Head>,
    sequence: &[u32],
    mut visit: impl FnMut(Recovered),
) -> Result<Found<D>, OpenError> {
    let origin = LogPoint { segment: 0, offset: SEGMENT_HEADER_LEN };
    let start = head.map_or(origin, |head| head.replay_from);
    let last = check_complete(start.segment, sequence)?;
    let mut epoch = head.map(|head| head.replay_epoch);
    let mut replayed = 0;
    for &seq in sequence {
        let (header, file) = open_segment(&folder, seq, options)?;
        let continued = if seq == start.segment { header.epoch } else { header.prev_epoch };
        check_epoch(seq, continued, epoch.unwrap_or(continued))?;
        epoch = Some(header.epoch);
        let segment = folder.insert(Segment::new(&header, file));
        let from = if seq == start.segment { start.offset } else { SEGMENT_HEADER_LEN };
        if from > segment.len {
            let reason = format!("{} is shorter than the point in it that this names", file_name(seq));
            return Err(OpenError::Corrupt { file: checkpoint::FILE_NAME.to_owned(), offset: 0, reason });
        }
        let end = scan(&folder.disk, &segment, from, &mut visit)?;
        replayed += u64::from(end.offset - from);
        if seq == last {
            return finish(folder, segment, &end, replayed);
        }
        if end.last_kind != Some(Kind::Seal) {
            let reason = "a record does not match its checksum, in a segment that was finished".to_owned();
            return Err(corrupt(seq, end.offset, reason));
        }
    }
    Err(corrupt(last, 0, "the file is missing".to_owned()))
}

/// No segment may be missing from `first` on; gives the last one.
fn check_complete(first: u32, sequence: &[u32]) -> Result<u32, OpenError> {
    for (expected, seq) in (first..=u32::MAX).zip(sequence) {
        if expected != *seq {
            return Err(corrupt(expected, 0, format!("the file is missing, but {} is there", file_name(*seq))));
        }
    }
    let missing = || corrupt(first, 0, "the file is missing, and the checkpoint continues in it".to_owned());
    sequence.last().copied().ok_or_else(missing)
}

fn check_epoch(seq: u32, found: u64, expected: u64) -> Result<(), OpenError> {
    if found == expected {
        return Ok(());
    }
    Err(corrupt(seq, 0, "it is a segment of another log: it does not continue what is there".to_owned()))
}

fn corrupt(seq: u32, offset: u32, reason: String) -> OpenError {
    OpenError::Corrupt { file: file_name(seq), offset: u64::from(offset), reason }
}

/// Makes the last segment one to go on with.
fn finish<D: Disk>(
    folder: Folder<D>,
    segment: Arc<Segment<D::File>>,
    end: &End,
    replayed: u64,
) -> Result<Found<D>, OpenError> {
    let sealed = end.last_kind == Some(Kind::Seal);
    if !sealed {
        cut(&folder.disk, &segment, end.offset)?;
    }
    folder.disk.sync_data(&segment.file).map_err(LogError::io("sync", &file_name(segment.seq)))?;
    let marked = end.last_kind == Some(Kind::Mark);
    Ok(Found { folder, segment, tail: end.offset, sealed, marked, replayed })
}

fn open_segment<D: Disk>(
    folder: &Folder<D>,
    seq: u32,
    options: &Options,
) -> Result<(SegmentHeader, D::File), OpenError> {
    let (header, file) = read_header(&folder.disk, seq)?;
    if header.identity != options.identity {
        return Err(OpenError::Foreign { file: file_name(seq), found: header.identity, expected: options.identity });
    }
    Ok((header, file))
}

/// Opens a segment's file, whose header is whole and says that it is that segment.
pub(crate) fn read_header<F: Files>(files: &F, seq: u32) -> Result<(SegmentHeader, F::File), OpenError> {
    let name = file_name(seq);
    let file = files.open(&name).map_err(LogError::io("open", &name))?;
    let mut bytes = [0; SEGMENT_HEADER_LEN as usize];
    files.read_at(&file, &mut bytes, 0).map_err(LogError::io("read", &name))?;
    let header = SegmentHeader::decode(&bytes).map_err(|error| match error {
        HeaderError::Version(_) => OpenError::Newer { file: name.clone(), reason: error.to_string() },
        error => corrupt(seq, 0, error.to_string()),
    })?;
    if header.seq != seq {
        return Err(corrupt(seq, 0, format!("it is {} by its header", file_name(header.seq))));
    }
    Ok((header, file))
}

/// Where reading a segment ended.
struct End {
    /// The end of the last good record.
    offset: u32,
    last_kind: Option<Kind>,
}

/// Visits the good records of a segment, from `from` up to the first that is not, or to the seal.
fn scan<D: Disk>(
    disk: &D,
    segment: &Segment<D::File>,
    from: u32,
    visit: &mut impl FnMut(Recovered),
) -> Result<End, OpenError> {
    let mut window = Window::new(disk, segment);
    let mut end = End { offset: from, last_kind: None };
    while end.last_kind != Some(Kind::Seal) {
        let Some(header) = window.header(end.offset)? else {
            break;
        };
        let payload = window.bytes(end.offset + RECORD_HEADER_LEN, header.len)?;
        if crc32c::crc32c(&payload) != header.crc_payload {
            break;
        }
        let position = Position { segment: segment.seq, offset: end.offset + RECORD_HEADER_LEN, len: header.len };
        if !header.tag.kind.is_internal() {
            visit(Recovered::Record { tag: header.tag, position, payload });
        }
        end = End { offset: position.offset + padded(header.len), last_kind: Some(header.tag.kind) };
    }
    Ok(end)
}

/// Cuts the last segment at `tail`, unless a record behind it claims that something there was synced.
fn cut<D: Disk>(disk: &D, segment: &Segment<D::File>, tail: u32) -> Result<(), OpenError> {
    let mut window = Window::new(disk, segment);
    let mut stale = Vec::new();
    let mut from = tail;
    while let Some((offset, header)) = window.next_header(from)? {
        if header.synced_upto > tail {
            let reason = format!(
                "the record there does not match its checksum, and the one at byte {offset} says that it was synced"
            );
            return Err(corrupt(segment.seq, tail, reason));
        }
        stale.push(offset);
        from = offset + 8;
    }
    for offset in stale {
        let zeros = [0; RECORD_HEADER_LEN as usize];
        let erased = disk.write_at(&segment.file, &mut [IoSlice::new(&zeros)], u64::from(offset));
        erased.map_err(LogError::io("cut the end of", &file_name(segment.seq)))?;
    }
    Ok(())
}
