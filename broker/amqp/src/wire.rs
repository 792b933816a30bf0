//! Reading and writing AMQP's elementary types (AMQP 0-9-1 §4.2.5): big-endian integers, bits packed into octets,
//! strings and tables with their length in front.

use alloc::vec::Vec;
use core::str;

use crate::error::DecodeError;
use crate::limits::SHORT_STRING_MAX;
use crate::table::Table;

/// The last octet of every frame.
pub(crate) const FRAME_END: u8 = 0xCE;

/// Type octet of a method frame.
pub(crate) const FRAME_METHOD: u8 = 1;

/// Type octet of a content header frame.
pub(crate) const FRAME_HEADER: u8 = 2;

/// Type octet of a content body frame.
pub(crate) const FRAME_BODY: u8 = 3;

/// Type octet of a heartbeat frame.
pub(crate) const FRAME_HEARTBEAT: u8 = 8;

/// Reads the fields of one method or content header in order. Knows its name, for errors.
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(what: &'static str, fields: &'a [u8]) -> Self {
        Self { what, rest: fields }
    }

    #[cold]
    fn truncated(&self, field: &'static str) -> DecodeError {
        DecodeError::Truncated { what: self.what, field }
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((value, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.truncated(field));
        };
        self.rest = rest;
        Ok(*value)
    }

    #[inline]
    fn octets(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((value, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.truncated(field));
        };
        self.rest = rest;
        Ok(value)
    }

    /// An octet; also a group of bits.
    #[inline]
    pub(crate) fn octet(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[octet]| octet)
    }

    #[inline]
    pub(crate) fn short(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn long(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn longlong(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A short string's octets, whatever they are.
    #[inline]
    pub(crate) fn shortstr_octets(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.octet(field)?;
        self.octets(usize::from(length), field)
    }

    #[inline]
    pub(crate) fn shortstr(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let octets = self.shortstr_octets(field)?;
        str::from_utf8(octets).map_err(|_| DecodeError::NotUtf8 { what: self.what, field })
    }

    #[inline]
    pub(crate) fn longstr(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.long(field)?;
        // On a target with 16-bit addresses the length may not fit; it is then longer than any buffer.
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.octets(length, field)
    }

    /// A field table. Its contents are not looked at.
    #[inline]
    pub(crate) fn table(&mut self, field: &'static str) -> Result<Table<'a>, DecodeError> {
        self.longstr(field).map(Table::new)
    }

    /// What has not been read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// All fields are read; anything left is an error.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(DecodeError::TrailingOctets { what: self.what, count: self.rest.len() })
    }
}

/// The value of one bit of a group, 0 the lowest.
#[inline]
pub(crate) const fn bit(group: u8, position: u8) -> bool {
    group & (1_u8 << (position & 7)) != 0
}

/// A group of up to eight bits, the lowest first.
#[inline]
pub(crate) fn bits<const N: usize>(values: [bool; N]) -> u8 {
    values.into_iter().rev().fold(0, |group, value| (group << 1) | u8::from(value))
}

/// The octets of a short string: the text, cut at a character's border if it is longer than a short string can be.
#[inline]
pub(crate) fn shortstr_octets(text: &str) -> (u8, &[u8]) {
    let octets = text.as_bytes();
    if let Ok(length) = u8::try_from(octets.len()) {
        return (length, octets);
    }
    let cut = text.get(..text.floor_char_boundary(SHORT_STRING_MAX)).unwrap_or_default();
    (u8::try_from(cut.len()).unwrap_or(u8::MAX), cut.as_bytes())
}

#[inline]
pub(crate) fn put_shortstr(out: &mut Vec<u8>, text: &str) {
    let (length, octets) = shortstr_octets(text);
    out.push(length);
    out.extend_from_slice(octets);
}

/// A long string; cut at 4 GiB - 1, which no frame can hold.
#[inline]
pub(crate) fn put_longstr(out: &mut Vec<u8>, octets: &[u8]) {
    let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
    let cut = usize::try_from(length).unwrap_or(usize::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(octets.get(..cut).unwrap_or(octets));
}

/// Runs `write` and puts the number of octets it wrote, as a `long`, in front of them.
#[inline]
pub(crate) fn put_with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[0; 4]);
    let start = out.len();
    write(out);
    set_length(out, start);
}

/// Writes the number of octets from `start` to the end into the four octets before `start`.
#[inline]
fn set_length(out: &mut [u8], start: usize) {
    if let Some((front, written)) = out.split_at_mut_checked(start)
        && let Some(prefix) = front.last_chunk_mut::<4>()
    {
        *prefix = u32::try_from(written.len()).unwrap_or(u32::MAX).to_be_bytes();
    }
}

/// A whole method frame around the fields that `write` appends.
#[inline]
pub(crate) fn put_method(
    out: &mut Vec<u8>,
    channel: u16,
    (class_id, method_id): (u16, u16),
    write: impl FnOnce(&mut Vec<u8>),
) {
    let [c1, c0] = channel.to_be_bytes();
    let [class1, class0] = class_id.to_be_bytes();
    let [method1, method0] = method_id.to_be_bytes();
    let start = out.len().saturating_add(7); // the payload, behind type, channel and size
    out.extend_from_slice(&[FRAME_METHOD, c1, c0, 0, 0, 0, 0, class1, class0, method1, method0]);
    write(out);
    set_length(out, start);
    out.push(FRAME_END);
}

/// A whole frame around a payload that exists already; cut at 4 GiB - 1, which no `frame-max` allows.
#[inline]
pub(crate) fn put_frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let cut = usize::try_from(size).unwrap_or(usize::MAX);
    let [c1, c0] = channel.to_be_bytes();
    let [s3, s2, s1, s0] = size.to_be_bytes();
    out.extend_from_slice(&[kind, c1, c0, s3, s2, s1, s0]);
    out.extend_from_slice(payload.get(..cut).unwrap_or(payload));
    out.push(FRAME_END);
}
