//! The file format, written down once.
//!
//! A log is a folder of segment files `wal-<seq>` (`seq` as eight hexadecimal digits, counting up) and a `checkpoint`
//! ([`checkpoint`](crate::checkpoint)), before which any segment may have been taken away. From the checkpoint on, or
//! from segment 0 where there is none, no segment is missing. Files `spare-<n>-<len>` are raw material for coming
//! segments, `new-<n>` and `checkpoint.new` are unfinished; none of them holds anything. All integers are
//! little-endian.
//!
//! ```text
//! segment header, 4096 bytes
//!      0  magic        8 bytes  "WARRENWL"
//!      8  version      u32      1
//!     12  segment_len  u32      length of the whole segment in bytes, a multiple of 4096
//!     16  cluster_id   u128     whose data this is (zero: not yet a member of a cluster)
//!     32  node_id      u64
//!     40  seq          u32      the same as in the file's name
//!     44  reserved     u32      zero
//!     48  epoch        u64      drawn anew for each segment; salts every record in it
//!     56  prev_epoch   u64      epoch of segment seq - 1 (zero: there was none)
//!     64  reserved              zero
//!   4092  crc          u32      crc32c of the 4092 bytes before
//!
//! record: header, 40 bytes, at a multiple of 8; then the payload; then zeros up to the next multiple of 8
//!      0  magic        u16      0x5701
//!      2  kind         u8       see `Kind`
//!      3  flags        u8       zero
//!      4  len          u32      bytes of payload
//!      8  crc_payload  u32      crc32c of the payload alone, so that it is the same on the wire between nodes
//!     12  crc_header   u32      crc32c of segment seq u32, epoch u64, offset of this header u32, then of this
//!                               header without this field
//!     16  shard        u16
//!     18  reserved     u16      zero
//!     20  synced_upto  u32      in units of 8 bytes: the end of what a finished fdatasync had covered in this segment
//!                               when this record was written
//!     24  term         u64
//!     32  index        u64
//! ```
//!
//! What the parts are for:
//! - A record never spans two segments. The first that does not fit is preceded by a `Seal` record and goes to the
//!   next segment, which is longer than others if the record is. That segment's file gets its name only after the
//!   sealed one is synced. So when `wal-<seq + 1>` exists, everything in `wal-<seq>` up to its seal was synced.
//! - The salt ties a record to its segment and its place. What an earlier use of a recycled file left behind, a block
//!   the disk wrote to the wrong place, or a record's image inside somebody's payload does not parse.
//! - `synced_upto` tells a torn tail from rot: a bad record that a later valid one claims was synced is damage, and
//!   opening is refused; otherwise it is the unsynced end of a crash, and is cut.

use crate::log::MAX_SEGMENT_LEN;

/// Bytes of a segment before its first record.
pub const SEGMENT_HEADER_LEN: u32 = 4096;

/// Bytes of a record before its payload.
pub const RECORD_HEADER_LEN: u32 = 40;

/// The most a record's payload may have: a message body of 128 MiB, and generous room for what goes with it.
pub const MAX_PAYLOAD_LEN: u32 = 136 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"WARRENWL";
const SEGMENT_VERSION: u32 = 1;
const RECORD_MAGIC: u16 = 0x5701;

/// Whose data a log is. A folder that belongs to another node or cluster is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity {
    /// The cluster; zero as long as the node is not a member of one.
    pub cluster_id: u128,
    /// The node; zero as long as it is not a member of a cluster.
    pub node_id: u64,
}

/// What a record is. Numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An entry of a shard's Raft log, at `index`, of `term`.
    Entry = 1,
    /// A vote of a shard; the payload says for whom. Reaches the disk in order with the entries.
    Vote = 2,
    /// The shard's entries from `index` on are void.
    Truncate = 3,
    /// The shard's entries up to `index` are known to be committed. Speeds up recovery; never waits for a sync.
    CommitHint = 4,
    /// The shard's log starts after `index`; earlier entries are covered by a snapshot.
    Purge = 5,
    /// Live bodies moved here from a segment that is to be reused.
    Relocation = 6,
    /// The last record of a full segment. Written by the log alone.
    Seal = 7,
    /// Nothing but its `synced_upto`: written (without a sync) when the log falls idle, so that rot in the last synced
    /// batch is told from a torn tail as well. Written by the log alone.
    Mark = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Vote,
            3 => Self::Truncate,
            4 => Self::CommitHint,
            5 => Self::Purge,
            6 => Self::Relocation,
            7 => Self::Seal,
            8 => Self::Mark,
            _ => return None,
        })
    }

    /// Whether only the log itself writes such records.
    pub(crate) fn is_internal(self) -> bool {
        matches!(self, Self::Seal | Self::Mark)
    }
}

/// What a record says about its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag {
    /// What the record is.
    pub kind: Kind,
    /// The shard it belongs to.
    pub shard: u16,
    /// The Raft term.
    pub term: u64,
    /// The index in the shard's Raft log; its exact meaning depends on `kind`.
    pub index: u64,
}

/// Where a payload, or a part of one, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The segment's sequence number.
    pub segment: u32,
    /// Bytes from the start of the segment file.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// A point of the log: between two records, or at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPoint {
    /// The segment's sequence number.
    pub segment: u32,
    /// Bytes from the start of the segment file.
    pub offset: u32,
}

impl Position {
    /// The `len` bytes that begin `start` bytes into this place, or `None` if they are not all inside it.
    pub fn part(self, start: u32, len: u32) -> Option<Self> {
        let end = start.checked_add(len)?;
        (end <= self.len).then_some(Self { segment: self.segment, offset: self.offset.checked_add(start)?, len })
    }
}

/// The name of a segment's file.
pub fn file_name(seq: u32) -> String {
    format!("wal-{seq:08x}")
}

/// The sequence number in a segment file's name, or `None` for any other file.
pub(crate) fn parse_file_name(name: &str) -> Option<u32> {
    let seq = u32::from_str_radix(name.strip_prefix("wal-")?, 16).ok()?;
    (file_name(seq) == name).then_some(seq)
}

/// The next multiple of 8.
pub(crate) fn padded(len: u32) -> u32 {
    len.next_multiple_of(8)
}

/// The first 4096 bytes of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) segment_len: u32,
    pub(crate) identity: Identity,
    pub(crate) seq: u32,
    pub(crate) epoch: u64,
    pub(crate) prev_epoch: u64,
}

/// Why 4096 bytes are no segment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("its header's checksum does not match")]
    Checksum,
    #[error("it was written in format version {0}, and this program knows version {SEGMENT_VERSION}")]
    Version(u32),
    #[error("its header says that it is {0} bytes long, which no segment is")]
    Length(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LEN as usize);
        bytes.extend_from_slice(&SEGMENT_MAGIC);
        bytes.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.segment_len.to_le_bytes());
        bytes.extend_from_slice(&self.identity.cluster_id.to_le_bytes());
        bytes.extend_from_slice(&self.identity.node_id.to_le_bytes());
        bytes.extend_from_slice(&self.seq.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.prev_epoch.to_le_bytes());
        bytes.resize(SEGMENT_HEADER_LEN as usize - 4, 0);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_LEN as usize]) -> Result<Self, HeaderError> {
        let (body, crc) = bytes.split_at(bytes.len() - 4);
        if crc32c::crc32c(body).to_le_bytes() != crc || body[..8] != SEGMENT_MAGIC {
            return Err(HeaderError::Checksum);
        }
        let version = u32_at(body, 8);
        if version != SEGMENT_VERSION {
            return Err(HeaderError::Version(version));
        }
        let segment_len = u32_at(body, 12);
        if segment_len <= SEGMENT_HEADER_LEN || segment_len > MAX_SEGMENT_LEN || !segment_len.is_multiple_of(4096) {
            return Err(HeaderError::Length(segment_len));
        }
        let cluster_id = u128::from(u64_at(body, 16)) | u128::from(u64_at(body, 24)) << 64;
        Ok(Self {
            segment_len,
            identity: Identity { cluster_id, node_id: u64_at(body, 32) },
            seq: u32_at(body, 40),
            epoch: u64_at(body, 48),
            prev_epoch: u64_at(body, 56),
        })
    }
}

/// What ties records to one use of one segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salt(u32);

impl Salt {
    pub(crate) fn new(seq: u32, epoch: u64) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(&seq.to_le_bytes()), &epoch.to_le_bytes()))
    }

    fn checksum(self, offset: u32, header: &[u8; RECORD_HEADER_LEN as usize]) -> u32 {
        let crc = crc32c::crc32c_append(self.0, &offset.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &header[..12]);
        crc32c::crc32c_append(crc, &header[16..])
    }
}

/// The 40 bytes before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) tag: Tag,
    pub(crate) len: u32,
    pub(crate) crc_payload: u32,
    /// Bytes, always a multiple of 8.
    pub(crate) synced_upto: u32,
}

/// What 40 bytes at a place of a segment are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoded {
    Header(RecordHeader),
    /// Not a record of this segment at this place.
    Nothing,
    /// A record with a kind or flags that this program does not know.
    Unknown,
}

impl RecordHeader {
    /// Bytes of the whole record on disk.
    pub(crate) fn record_len(&self) -> u64 {
        u64::from(RECORD_HEADER_LEN) + u64::from(self.len).next_multiple_of(8)
    }

    pub(crate) fn encode(&self, salt: Salt, offset: u32) -> [u8; RECORD_HEADER_LEN as usize] {
        let mut bytes = [0; RECORD_HEADER_LEN as usize];
        bytes[..2].copy_from_slice(&RECORD_MAGIC.to_le_bytes());
        bytes[2] = self.tag.kind as u8;
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.crc_payload.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.tag.shard.to_le_bytes());
        bytes[20..24].copy_from_slice(&(self.synced_upto / 8).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.tag.term.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.tag.index.to_le_bytes());
        let crc = salt.checksum(offset, &bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_LEN as usize], salt: Salt, offset: u32) -> Decoded {
        if bytes[..2] != RECORD_MAGIC.to_le_bytes() || u32_at(bytes, 12) != salt.checksum(offset, bytes) {
            return Decoded::Nothing;
        }
        let Some(kind) = Kind::from_byte(bytes[2]) else {
            return Decoded::Unknown;
        };
        if bytes[3] != 0 || bytes[18..20] != [0, 0] {
            return Decoded::Unknown;
        }
        let shard = u16::from_le_bytes([bytes[16], bytes[17]]);
        Decoded::Header(Self {
            tag: Tag { kind, shard, term: u64_at(bytes, 24), index: u64_at(bytes, 32) },
            len: u32_at(bytes, 4),
            crc_payload: u32_at(bytes, 8),
            synced_upto: u32_at(bytes, 20).saturating_mul(8),
        })
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 0x1122_3344_5566_7788;

    fn record_header() -> RecordHeader {
        let tag = Tag { kind: Kind::Entry, shard: 3, term: 9, index: 1000 };
        RecordHeader { tag, len: 5, crc_payload: crc32c::crc32c(b"hello"), synced_upto: 4136 }
    }

    fn segment_header() -> SegmentHeader {
        let identity = Identity { cluster_id: 0xaabb, node_id: 5 };
        SegmentHeader { segment_len: 64 << 20, identity, seq: 7, epoch: EPOCH, prev_epoch: 0x99 }
    }

    /// The expected bytes here and below were made by another program, from the format's description alone.
    #[test]
    fn record_header_is_as_the_format_says() {
        let expected = [
            0x01, 0x57, 0x01, 0x00, 0x05, 0x00, 0x00, 0x00, 0x4c, 0xbb, 0x71, 0x9a, 0xf0, 0xf8, 0x86, 0x5b, 0x03, 0x00,
            0x00, 0x00, 0x05, 0x02, 0x00, 0x00, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe8, 0x03, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x00,
        ];
        assert_eq!(record_header().encode(Salt::new(7, EPOCH), 4136), expected);
        assert_eq!(RecordHeader::decode(&expected, Salt::new(7, EPOCH), 4136), Decoded::Header(record_header()));
    }

    #[test]
    fn segment_header_is_as_the_format_says() {
        let bytes = segment_header().encode();
        let start = [
            0x57, 0x41, 0x52, 0x52, 0x45, 0x4e, 0x57, 0x4c, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0xbb, 0xaa,
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33,
            0x22, 0x11, 0x99, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        ];
        assert_eq!(bytes[..64], start);
        assert_eq!(bytes[64..4092], [0; 4028]);
        assert_eq!(bytes[4092..], 0x2da9_9e8e_u32.to_le_bytes());
        assert_eq!(SegmentHeader::decode(bytes.first_chunk().unwrap()), Ok(segment_header()));
    }

    #[test]
    fn record_is_nothing_in_another_segment_epoch_or_place() {
        let bytes = record_header().encode(Salt::new(7, EPOCH), 4136);
        for (seq, epoch, offset) in [(8, EPOCH, 4136), (7, EPOCH + 1, 4136), (7, EPOCH, 4144)] {
            assert_eq!(RecordHeader::decode(&bytes, Salt::new(seq, epoch), offset), Decoded::Nothing);
        }
    }

    #[test]
    fn kind_or_flag_of_a_later_version_is_told_from_damage() {
        for (at, value) in [(2, 9), (2, 0), (3, 1), (18, 1)] {
            let salt = Salt::new(7, EPOCH);
            let mut bytes = record_header().encode(salt, 4136);
            bytes[at] = value;
            let crc = salt.checksum(4136, &bytes);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(RecordHeader::decode(&bytes, salt, 4136), Decoded::Unknown, "byte {at} = {value}");
        }
    }

    #[test]
    fn segment_header_of_a_later_version_or_of_no_possible_length_is_refused() {
        let changed = |at: usize, value: u32| {
            let mut bytes = segment_header().encode();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[..4092]);
            bytes[4092..].copy_from_slice(&crc.to_le_bytes());
            SegmentHeader::decode(bytes.first_chunk().unwrap())
        };
        assert_eq!(changed(8, 2), Err(HeaderError::Version(2)));
        for len in [0, 4096, 4097, 8200, MAX_SEGMENT_LEN + 4096, u32::MAX] {
            assert_eq!(changed(12, len), Err(HeaderError::Length(len)));
        }
        assert!(changed(12, 8192).is_ok());
    }

    #[test]
    fn only_names_that_we_write_are_segments() {
        assert_eq!(parse_file_name(&file_name(0xab)), Some(0xab));
        for name in ["wal-ab", "wal-000000AB", "wal-+00000ab", "wal-0000000ab", "wal-", "spare-1-4096", "lock"] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn part_of_a_position_lies_inside_it() {
        let whole = Position { segment: 1, offset: 5000, len: 100 };
        assert_eq!(whole.part(10, 90), Some(Position { segment: 1, offset: 5010, len: 90 }));
        assert_eq!(whole.part(100, 0), Some(Position { segment: 1, offset: 5100, len: 0 }));
        assert_eq!(whole.part(10, 91), None);
        assert_eq!(whole.part(u32::MAX, 1), None);
    }
}
