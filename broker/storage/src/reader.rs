//! Payloads by their position, from any thread, while the log is being written.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::disk::Disk;
use crate::folder::{Folder, Segment};
use crate::segment::{Decoded, Position, RECORD_HEADER_LEN, RecordHeader, SEGMENT_HEADER_LEN, file_name};

/// Reads payloads back. Cheap to clone; every call is one `pread` and blocks for as long as the disk takes,
/// except [`read_part_now`](Self::read_part_now).
///
/// A position may be read as soon as its record was reported as synced or recovered, and for as long as its segment has
/// not been given up by [`Retention::checkpoint`](crate::Retention::checkpoint).
pub struct LogReader<D: Disk> {
    folder: Arc<Folder<D>>,
}

impl<D: Disk> Clone for LogReader<D> {
    fn clone(&self) -> Self {
        Self { folder: Arc::clone(&self.folder) }
    }
}

/// Why a payload cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The segment was given up, or never was.
    #[error("segment {} is not in the log any more", file_name(*segment))]
    Gone {
        /// The segment's sequence number.
        segment: u32,
    },
    /// The position is not inside its segment: it came from elsewhere.
    #[error("{position:?} is not a place in the log")]
    Outside {
        /// The position asked for.
        position: Position,
    },
    /// The bytes on the disk are not the ones that were written.
    #[error(
        "{} is damaged at byte {}: the checksum of the record there does not match. The disk returned other bytes than \
         were written to it; keep a copy of the folder and restore a backup of it", file_name(position.segment), position.offset
    )]
    Corrupt {
        /// The position asked for.
        position: Position,
    },
    /// The disk refused.
    #[error("cannot read {} at byte {}: {source}", file_name(position.segment), position.offset)]
    Io {
        /// The position asked for.
        position: Position,
        /// What the system said.
        source: io::Error,
    },
}

impl<D: Disk> LogReader<D> {
    pub(crate) fn new(folder: Arc<Folder<D>>) -> Self {
        Self { folder }
    }

    /// The whole payload of a record, checked against its checksums. `position` is as it was reported.
    pub fn read(&self, position: Position) -> Result<Bytes, ReadError> {
        let segment = self.segment(position)?;
        let start = position.offset - RECORD_HEADER_LEN;
        let mut record = BytesMut::zeroed(RECORD_HEADER_LEN as usize + position.len as usize);
        let read = self.folder.disk.read_at(&segment.file, &mut record, u64::from(start));
        read.map_err(|source| ReadError::Io { position, source })?;
        let payload = record.split_off(RECORD_HEADER_LEN as usize).freeze();
        let head = record.first_chunk().ok_or(ReadError::Outside { position })?;
        match RecordHeader::decode(head, segment.salt, start) {
            Decoded::Header(header) if header.len == position.len && header.crc_payload == crc32c::crc32c(&payload) => {
                Ok(payload)
            }
            _ => Err(ReadError::Corrupt { position }),
        }
    }

    /// A part of a payload, such as [`Position::part`] makes. The checksum covers whole payloads, so it is not checked.
    pub fn read_part(&self, part: Position) -> Result<Bytes, ReadError> {
        let segment = self.segment(part)?;
        let mut bytes = BytesMut::zeroed(part.len as usize);
        let read = self.folder.disk.read_at(&segment.file, &mut bytes, u64::from(part.offset));
        read.map_err(|source| ReadError::Io { position: part, source })?;
        Ok(bytes.freeze())
    }

    /// As [`read_part`](Self::read_part), if that can be done from memory, without waiting for the disk: for async
    /// tasks. `None` if not. On file systems that cannot tell it reads plainly.
    pub fn read_part_now(&self, part: Position) -> Result<Option<Bytes>, ReadError> {
        let segment = self.segment(part)?;
        let mut bytes = BytesMut::zeroed(part.len as usize);
        let read = self.folder.disk.read_cached_at(&segment.file, &mut bytes, u64::from(part.offset));
        let now = read.map_err(|source| ReadError::Io { position: part, source })?;
        Ok(now.then(|| bytes.freeze()))
    }

    /// Bytes of a whole segment: nothing can be read beyond.
    pub fn segment_len(&self, segment: u32) -> Result<u32, ReadError> {
        Ok(self.folder.segment(segment).ok_or(ReadError::Gone { segment })?.len)
    }

    fn segment(&self, position: Position) -> Result<Arc<Segment<D::File>>, ReadError> {
        let segment = self.folder.segment(position.segment).ok_or(ReadError::Gone { segment: position.segment })?;
        let first = SEGMENT_HEADER_LEN + RECORD_HEADER_LEN;
        let inside = position.offset.checked_add(position.len).is_some_and(|end| end <= segment.len);
        if position.offset < first || !inside {
            return Err(ReadError::Outside { position });
        }
        Ok(segment)
    }
}
