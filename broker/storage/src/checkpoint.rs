//! The checkpoint: what makes the log's older part unnecessary, and the format of its file, written down once.
//!
//! The file `checkpoint` is replaced as a whole: it is written under the name `checkpoint.new`, synced, renamed, and the
//! folder synced. So one that is there was synced whole, and a damaged one is refused, never skipped. All integers
//! are little-endian.
//!
//! ```text
//! head, 80 bytes and 12 for each retained segment
//!      0  magic           8 bytes  "WARRENCP"
//!      8  version         u32      1
//!     12  head_len        u32      bytes of this head
//!     16  file_len        u64      bytes of the whole file
//!     24  cluster_id      u128     whose data this is, as in a segment's header
//!     40  node_id         u64
//!     48  number          u64      counts the checkpoints of this log, from 1
//!     56  replay_epoch    u64      the epoch of segment `replay_segment`
//!     64  replay_segment  u32      records from here on are not in the snapshots
//!     68  replay_offset   u32      bytes from the start of that segment, where a record begins or the log ended
//!     72  retained_count  u32
//!     76  retained                 of each older segment that is still needed: seq u32, epoch u64; ascending
//!    ...  crc             u32      crc32c of the head before
//!
//! snapshot, any number of them: header, 40 bytes, then the payload
//!      0  shard           u16
//!      2  reserved        u16      zero
//!      4  crc_payload     u32      crc32c of the payload
//!      8  term            u64
//!     16  index           u64
//!     24  len             u64      bytes of payload
//!     32  reserved        u32      zero
//!     36  crc             u32      crc32c of the crc of the head or header before this one, then of the 36 bytes before
//!
//! end, 16 bytes
//!      0  magic           8 bytes  "WARRENCE"
//!      8  snapshot_count  u32
//!     12  crc             u32      crc32c of the crc of the head or header before, then of the 12 bytes before
//! ```
//!
//! Every checksum includes the one before it, so parts of two checkpoints never pass for one.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};

use bytes::{Bytes, BytesMut};

use crate::disk::{Disk, Files};
use crate::log::LogError;
use crate::recovery::OpenError;
use crate::segment::{Identity, LogPoint, SEGMENT_HEADER_LEN, u32_at, u64_at};

/// The name of a log's checkpoint file in its folder.
pub const FILE_NAME: &str = "checkpoint";

/// Its name as long as it is not whole.
pub(crate) const UNFINISHED_NAME: &str = "checkpoint.new";

/// What a shard was at a point of the log: all that its records before that point come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The shard.
    pub shard: u16,
    /// The Raft term of the last entry that is in it.
    pub term: u64,
    /// The index of that entry.
    pub index: u64,
    /// The state, opaque here.
    pub payload: Bytes,
}

/// What to write with [`Retention::checkpoint`](crate::Retention::checkpoint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointPlan {
    /// Where the next start begins to read records: a point that [`Batch::end`](crate::Batch::end) or
    /// [`Log::end`](crate::Log::end) named.
    pub replay_from: LogPoint,
    /// All shards at that point, or later.
    pub snapshots: Vec<Snapshot>,
    /// The segments that something is still read from, with the bytes of that. Those from `replay_from` on stay in any
    /// case and need not be named.
    pub live: BTreeMap<u32, u64>,
}

/// The checkpoint that a log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Counts the checkpoints of a log, from 1.
    pub number: u64,
    /// Records from here on are read when the log is opened.
    pub replay_from: LogPoint,
    /// Bytes of the checkpoint's file.
    pub len: u64,
}

/// What a checkpoint left of the log's older part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reclaimed {
    /// The checkpoint that was written.
    pub checkpoint: Checkpoint,
    /// How many segments were given up.
    pub given_up: u32,
    /// The segments before the checkpoint's `replay_from` that stay, oldest first.
    pub retained: Vec<Retained>,
}

/// A segment that stays only because something in it is still read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// The segment's sequence number.
    pub segment: u32,
    /// Bytes of its file.
    pub len: u32,
    /// Bytes of it that are live, as the plan says.
    pub live: u64,
}

const MAGIC: [u8; 8] = *b"WARRENCP";
const VERSION: u32 = 1;
const END_MAGIC: [u8; 8] = *b"WARRENCE";
const HEAD_LEN_MIN: usize = 80;
const RETAINED_LEN: usize = 12;
const SNAPSHOT_HEADER_LEN: usize = 40;
const END_LEN: usize = 16;

/// Bytes written between two syncs, so that the log's own sync never waits behind a whole checkpoint.
const STEP: usize = 1 << 20;

/// What the head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) identity: Identity,
    pub(crate) number: u64,
    pub(crate) replay_from: LogPoint,
    pub(crate) replay_epoch: u64,
    /// Epochs of the older segments that are needed, by sequence number.
    pub(crate) retained: BTreeMap<u32, u64>,
}

impl Head {
    fn len(&self) -> usize {
        HEAD_LEN_MIN + self.retained.len() * RETAINED_LEN
    }

    pub(crate) fn file_len(&self, snapshots: &[Snapshot]) -> u64 {
        let snapshots = snapshots.iter().map(|snapshot| (SNAPSHOT_HEADER_LEN + snapshot.payload.len()) as u64);
        (self.len() + END_LEN) as u64 + snapshots.sum::<u64>()
    }

    fn encode(&self, file_len: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&file_len.to_le_bytes());
        bytes.extend_from_slice(&self.identity.cluster_id.to_le_bytes());
        bytes.extend_from_slice(&self.identity.node_id.to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.replay_epoch.to_le_bytes());
        bytes.extend_from_slice(&self.replay_from.segment.to_le_bytes());
        bytes.extend_from_slice(&self.replay_from.offset.to_le_bytes());
        bytes.extend_from_slice(&(self.retained.len() as u32).to_le_bytes());
        for (seq, epoch) in &self.retained {
            bytes.extend_from_slice(&seq.to_le_bytes());
            bytes.extend_from_slice(&epoch.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// Writes the whole checkpoint into `file`, which is `head.file_len(snapshots)` bytes long, and syncs it.
pub(crate) fn write<D: Disk>(disk: &D, file: &D::File, head: &Head, snapshots: &[Snapshot]) -> io::Result<()> {
    let mut steps = Steps { disk, file, offset: 0, bytes: Vec::with_capacity(STEP) };
    let bytes = head.encode(head.file_len(snapshots));
    let mut crc = checksum_of(&bytes);
    steps.put(&bytes)?;
    for snapshot in snapshots {
        let header = snapshot_header(snapshot, crc);
        crc = checksum_of(&header);
        steps.put(&header)?;
        steps.put(&snapshot.payload)?;
    }
    steps.put(&end(snapshots.len() as u32, crc))?;
    steps.write()
}

/// The last four bytes of a head or header.
fn checksum_of(bytes: &[u8]) -> u32 {
    u32_at(bytes, bytes.len() - 4)
}

fn chained(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&crc.to_le_bytes()), bytes)
}

fn snapshot_header(snapshot: &Snapshot, crc: u32) -> [u8; SNAPSHOT_HEADER_LEN] {
    let mut bytes = [0; SNAPSHOT_HEADER_LEN];
    bytes[..2].copy_from_slice(&snapshot.shard.to_le_bytes());
    bytes[4..8].copy_from_slice(&crc32c::crc32c(&snapshot.payload).to_le_bytes());
    bytes[8..16].copy_from_slice(&snapshot.term.to_le_bytes());
    bytes[16..24].copy_from_slice(&snapshot.index.to_le_bytes());
    bytes[24..32].copy_from_slice(&(snapshot.payload.len() as u64).to_le_bytes());
    let crc = chained(crc, &bytes[..36]);
    bytes[36..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn end(count: u32, crc: u32) -> [u8; END_LEN] {
    let mut bytes = [0; END_LEN];
    bytes[..8].copy_from_slice(&END_MAGIC);
    bytes[8..12].copy_from_slice(&count.to_le_bytes());
    let crc = chained(crc, &bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Writes a file from its start, in synced steps.
struct Steps<'a, D: Disk> {
    disk: &'a D,
    file: &'a D::File,
    offset: u64,
    bytes: Vec<u8>,
}

impl<D: Disk> Steps<'_, D> {
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(STEP - self.bytes.len()));
            self.bytes.extend_from_slice(now);
            bytes = later;
            if self.bytes.len() == STEP {
                self.write()?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.disk.write_at(self.file, &mut [IoSlice::new(&self.bytes)], self.offset)?;
        self.disk.sync_data(self.file)?;
        self.offset += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// A checkpoint read back.
pub(crate) struct Restored {
    pub(crate) head: Head,
    pub(crate) snapshots: Vec<Snapshot>,
    /// Bytes of the file.
    pub(crate) len: u64,
}

impl Restored {
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint { number: self.head.number, replay_from: self.head.replay_from, len: self.len }
    }
}

/// Reads the checkpoint and checks all of it.
pub(crate) fn read<F: Files>(files: &F) -> Result<Restored, OpenError> {
    let mut reader = CheckpointReader::open(files)?;
    let mut snapshots = Vec::new();
    while let Some(header) = reader.next()? {
        let SnapshotHeader { shard, term, index, .. } = header;
        snapshots.push(Snapshot { shard, term, index, payload: reader.payload(&header)? });
    }
    let len = reader.len();
    Ok(Restored { head: reader.head, snapshots, len })
}

/// What goes before a snapshot's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotHeader {
    pub(crate) shard: u16,
    pub(crate) term: u64,
    pub(crate) index: u64,
    /// Bytes of payload.
    pub(crate) len: u64,
    crc_payload: u32,
    /// Where the header begins in the file.
    at: u64,
}

/// A checkpoint, read from its start: the head, then each snapshot's header and payload, then the end.
pub(crate) struct CheckpointReader<'a, F: Files> {
    pub(crate) head: Head,
    source: Source<'a, F>,
    /// Of the head or header before.
    crc: u32,
    count: u32,
}

impl<'a, F: Files> CheckpointReader<'a, F> {
    pub(crate) fn open(files: &'a F) -> Result<Self, OpenError> {
        let file = files.open(FILE_NAME).map_err(LogError::io("open", FILE_NAME))?;
        let len = files.len(&file).map_err(LogError::io("read", FILE_NAME))?;
        let mut source = Source { files, file, offset: 0, len };
        let (head, crc) = read_head(&mut source)?;
        Ok(Self { head, source, crc, count: 0 })
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.source.len
    }

    /// The next snapshot, whose payload has to be taken or skipped next; `None` at the end, which is whole.
    pub(crate) fn next(&mut self) -> Result<Option<SnapshotHeader>, OpenError> {
        let at = self.source.offset;
        if self.source.rest() <= END_LEN as u64 {
            let whole = self.source.take(END_LEN as u64)? == end(self.count, self.crc).as_slice();
            return if whole { Ok(None) } else { Err(corrupt(at, "it does not end as a whole checkpoint does")) };
        }
        let header = self.source.take(SNAPSHOT_HEADER_LEN as u64)?;
        if chained(self.crc, &header[..36]) != checksum_of(&header) {
            return Err(corrupt(at, "a snapshot's header does not match its checksum"));
        }
        self.crc = checksum_of(&header);
        self.count += 1;
        Ok(Some(SnapshotHeader {
            shard: u16::from_le_bytes([header[0], header[1]]),
            term: u64_at(&header, 8),
            index: u64_at(&header, 16),
            len: u64_at(&header, 24),
            crc_payload: u32_at(&header, 4),
            at,
        }))
    }

    /// The payload of the snapshot, which is checked.
    pub(crate) fn payload(&mut self, header: &SnapshotHeader) -> Result<Bytes, OpenError> {
        let payload = self.source.take(header.len)?;
        header.check(crc32c::crc32c(&payload)).map(|()| payload)
    }

    /// Checks the payload of the snapshot and keeps no more than a step of it.
    pub(crate) fn skip_payload(&mut self, header: &SnapshotHeader) -> Result<(), OpenError> {
        let (mut rest, mut crc) = (header.len, 0);
        while rest > 0 {
            let step = self.source.take(rest.min(STEP as u64))?;
            crc = crc32c::crc32c_append(crc, &step);
            rest -= step.len() as u64;
        }
        header.check(crc)
    }
}

impl SnapshotHeader {
    fn check(&self, crc: u32) -> Result<(), OpenError> {
        let damaged = || corrupt(self.at, &format!("the snapshot of shard {} does not match its checksum", self.shard));
        if crc == self.crc_payload { Ok(()) } else { Err(damaged()) }
    }
}

fn read_head<F: Files>(source: &mut Source<'_, F>) -> Result<(Head, u32), OpenError> {
    let mut bytes = source.take(HEAD_LEN_MIN as u64)?.to_vec();
    if bytes[..8] != MAGIC {
        return Err(corrupt(0, "it does not begin as a checkpoint does"));
    }
    let head_len = u64::from(u32_at(&bytes, 12));
    let rest = head_len.checked_sub(HEAD_LEN_MIN as u64).ok_or_else(|| corrupt(12, "its head is too short"))?;
    bytes.extend_from_slice(&source.take(rest)?);
    let (body, crc) = bytes.split_at(bytes.len() - 4);
    if crc32c::crc32c(body).to_le_bytes() != crc {
        return Err(corrupt(0, "its head does not match its checksum"));
    }
    let version = u32_at(body, 8);
    if version != VERSION {
        let reason = format!("it was written in format version {version}, and this program knows version {VERSION}");
        return Err(OpenError::Newer { file: FILE_NAME.to_owned(), reason });
    }
    let file_len = u64_at(body, 16);
    if file_len != source.len {
        let reason = format!("it is {} bytes long, and was {file_len} when it was written", source.len);
        return Err(corrupt(source.len.min(file_len), &reason));
    }
    let crc = checksum_of(&bytes);
    decode_head(body).map(|head| (head, crc)).ok_or_else(|| corrupt(0, "its head makes no sense"))
}

/// The head without its checksum, which matches.
fn decode_head(body: &[u8]) -> Option<Head> {
    let retained = &body[HEAD_LEN_MIN - 4..];
    if retained.len() != (u32_at(body, 72) as usize).checked_mul(RETAINED_LEN)? {
        return None;
    }
    let cluster_id = u128::from(u64_at(body, 24)) | u128::from(u64_at(body, 32)) << 64;
    let replay_from = LogPoint { segment: u32_at(body, 64), offset: u32_at(body, 68) };
    let head = Head {
        identity: Identity { cluster_id, node_id: u64_at(body, 40) },
        number: u64_at(body, 48),
        replay_epoch: u64_at(body, 56),
        replay_from,
        retained: retained.chunks_exact(RETAINED_LEN).map(|each| (u32_at(each, 0), u64_at(each, 4))).collect(),
    };
    let older = head.retained.keys().all(|seq| *seq < replay_from.segment);
    let possible = replay_from.offset >= SEGMENT_HEADER_LEN && replay_from.offset.is_multiple_of(8);
    (older && possible).then_some(head)
}

fn corrupt(offset: u64, reason: &str) -> OpenError {
    OpenError::Corrupt { file: FILE_NAME.to_owned(), offset, reason: reason.to_owned() }
}

/// A file being read from its start.
struct Source<'a, F: Files> {
    files: &'a F,
    file: F::File,
    offset: u64,
    len: u64,
}

impl<F: Files> Source<'_, F> {
    fn rest(&self) -> u64 {
        self.len - self.offset
    }

    fn take(&mut self, count: u64) -> Result<Bytes, OpenError> {
        if count > self.rest() {
            return Err(corrupt(self.len, "it ends too early"));
        }
        let mut bytes = BytesMut::zeroed(count as usize);
        let read = self.files.read_at(&self.file, &mut bytes, self.offset);
        read.map_err(LogError::io("read", FILE_NAME))?;
        self.offset += count;
        Ok(bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faulty::FaultyDisk;

    fn head() -> Head {
        Head {
            identity: Identity { cluster_id: 0xaabb, node_id: 5 },
            number: 2,
            replay_from: LogPoint { segment: 7, offset: 4136 },
            replay_epoch: 0x1122_3344_5566_7788,
            retained: BTreeMap::from([(3, 0x99)]),
        }
    }

    /// The expected bytes were made by another program, from the format's description alone.
    #[test]
    fn checkpoint_is_as_the_format_says() {
        let expected = [
            0x57, 0x41, 0x52, 0x52, 0x45, 0x4e, 0x43, 0x50, 0x01, 0x00, 0x00, 0x00, 0x5c, 0x00, 0x00, 0x00, 0x99, 0x00,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xbb, 0xaa, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x07, 0x00, 0x00, 0x00, 0x28, 0x10, 0x00, 0x00,
            0x01, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x99, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xa0, 0x98,
            0xd6, 0x03, 0x04, 0x00, 0x00, 0x00, 0x4c, 0xbb, 0x71, 0x9a, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0xe8, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x55, 0x86, 0x2d, 0x07, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x57, 0x41, 0x52, 0x52, 0x45, 0x4e, 0x43,
            0x45, 0x01, 0x00, 0x00, 0x00, 0x72, 0xa8, 0x77, 0x84,
        ];
        let snapshots = [Snapshot { shard: 4, term: 9, index: 1000, payload: Bytes::from_static(b"hello") }];
        let disk = FaultyDisk::new(512);
        let file = disk.create(FILE_NAME, head().file_len(&snapshots)).unwrap();
        write(&disk, &file, &head(), &snapshots).unwrap();
        assert_eq!(disk.contents(FILE_NAME).unwrap(), expected);
        let restored = read(&disk).unwrap();
        assert_eq!((restored.head, restored.snapshots.as_slice(), restored.len), (head(), snapshots.as_slice(), 153));
    }

    #[test]
    fn snapshots_of_all_sizes_around_a_step_come_back() {
        for len in [0, 1, STEP - 300, STEP - 200, STEP - 132, STEP, STEP + 1, 3 * STEP + 5] {
            let payload: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
            let snapshot = |shard| Snapshot { shard, term: 1, index: 2, payload: payload.clone().into() };
            let snapshots = [snapshot(0), snapshot(1)];
            let disk = FaultyDisk::new(4096);
            let file = disk.create(FILE_NAME, head().file_len(&snapshots)).unwrap();
            write(&disk, &file, &head(), &snapshots).unwrap();
            let crashed = disk.crash(&mut |outcomes| outcomes - 1);
            assert!(read(&crashed).unwrap().snapshots == snapshots, "{len} bytes differ");
        }
    }

    #[test]
    fn head_that_makes_no_sense_is_refused_though_its_checksum_matches() {
        let point = |segment, offset| LogPoint { segment, offset };
        for head in [
            Head { replay_from: point(7, 4137), ..head() },
            Head { replay_from: point(7, 8), ..head() },
            Head { replay_from: point(3, 4136), ..head() },
        ] {
            let disk = FaultyDisk::new(512);
            let file = disk.create(FILE_NAME, head.file_len(&[])).unwrap();
            write(&disk, &file, &head, &[]).unwrap();
            assert!(matches!(read(&disk), Err(OpenError::Corrupt { .. })), "{head:?}");
        }
    }
}
