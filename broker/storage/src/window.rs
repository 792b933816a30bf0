//! A segment's records, read in large steps.

use std::io;

use bytes::{Bytes, BytesMut};

use crate::disk::Files;
use crate::folder::Segment;
use crate::log::LogError;
use crate::recovery::OpenError;
use crate::segment::{Decoded, RECORD_HEADER_LEN, RecordHeader, file_name};

/// Bytes read at a time.
const WINDOW_LEN: u32 = 1 << 20;

/// A segment, read in large steps.
pub(crate) struct Window<'a, F: Files> {
    files: &'a F,
    segment: &'a Segment<F::File>,
    start: u32,
    bytes: Bytes,
}

impl<'a, F: Files> Window<'a, F> {
    pub(crate) fn new(files: &'a F, segment: &'a Segment<F::File>) -> Self {
        Self { files, segment, start: 0, bytes: Bytes::new() }
    }

    /// The record header at `offset`, if there is one whose record lies inside the segment.
    pub(crate) fn header(&mut self, offset: u32) -> Result<Option<RecordHeader>, OpenError> {
        if u64::from(offset) + u64::from(RECORD_HEADER_LEN) > u64::from(self.segment.len) {
            return Ok(None);
        }
        self.fill(offset, RECORD_HEADER_LEN)?;
        let at = (offset - self.start) as usize;
        let Some(bytes) = self.bytes[at..].first_chunk() else {
            return Ok(None);
        };
        match RecordHeader::decode(bytes, self.segment.salt, offset) {
            Decoded::Header(header) if u64::from(offset) + header.record_len() <= u64::from(self.segment.len) => {
                Ok(Some(header))
            }
            Decoded::Header(_) | Decoded::Nothing => Ok(None),
            Decoded::Unknown => {
                let reason = format!("a record of an unknown kind at byte {offset}");
                Err(OpenError::Newer { file: file_name(self.segment.seq), reason })
            }
        }
    }

    /// The first record header at `offset` or behind it, and where it is.
    pub(crate) fn next_header(&mut self, offset: u32) -> Result<Option<(u32, RecordHeader)>, OpenError> {
        let mut at = offset;
        while u64::from(at) + u64::from(RECORD_HEADER_LEN) <= u64::from(self.segment.len) {
            if let Some(header) = self.header(at)? {
                return Ok(Some((at, header)));
            }
            at += 8;
        }
        Ok(None)
    }

    pub(crate) fn bytes(&mut self, offset: u32, len: u32) -> Result<Bytes, OpenError> {
        self.fill(offset, len)?;
        let at = (offset - self.start) as usize;
        Ok(self.bytes.slice(at..at + len as usize))
    }

    /// Makes `len` bytes from `offset`, which lie inside the segment, part of what is read.
    fn fill(&mut self, offset: u32, len: u32) -> Result<(), OpenError> {
        let inside = offset >= self.start && (offset - self.start) as usize + len as usize <= self.bytes.len();
        if !inside {
            let count = len.max(WINDOW_LEN).min(self.segment.len - offset);
            self.bytes = self.read(offset, count).map_err(LogError::io("read", &file_name(self.segment.seq)))?;
            self.start = offset;
        }
        Ok(())
    }

    fn read(&self, offset: u32, count: u32) -> io::Result<Bytes> {
        let mut bytes = BytesMut::zeroed(count as usize);
        self.files.read_at(&self.segment.file, &mut bytes, u64::from(offset))?;
        Ok(bytes.freeze())
    }
}
