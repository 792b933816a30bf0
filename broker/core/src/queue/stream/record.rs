//! What memory keeps of a message in a stream: mostly one octet. The format stands here and nowhere else.
//!
//! ```text
//! record   mark u8, then what differs from what the record before lets expect:
//!          bit 0  segment, signed, from the one before             else it is in the same segment
//!          bit 1  offset, signed, from the end of the one before   else it begins there
//!          bit 2  len, signed, from the one before                 else it is as long
//!          bit 3  milliseconds since the one before, varint        else it came at the same time
//!          bit 4  fingerprint of its filter value, u32             else it has none
//!          bit 5  several queues refer to the same octets
//! ```
//!
//! Signed numbers are varints with their sign in the lowest bit, a u32 is little-endian. The first record of a chunk is
//! measured from an empty location at 0 and the time 0.

use alloc::vec::Vec;

use crate::location::Location;
use crate::varint::{put_signed, put_varint, take_signed, take_varint};

const SEGMENT: u8 = 1;
const OFFSET: u8 = 1 << 1;
const LEN: u8 = 1 << 2;
const TIME: u8 = 1 << 3;
const VALUE: u8 = 1 << 4;
const SHARED: u8 = 1 << 5;
const KNOWN: u8 = SEGMENT | OFFSET | LEN | TIME | VALUE | SHARED;

/// A message of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::queue) struct Record {
    /// Its publish command.
    pub(in crate::queue) location: Location,
    /// Other queues refer to the same command.
    pub(in crate::queue) shared: bool,
    /// When it came: milliseconds since the Unix epoch.
    pub(in crate::queue) time_ms: u64,
    /// The fingerprint of its filter value.
    pub(in crate::queue) value: Option<u32>,
}

/// What the record before lets expect of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Expected {
    segment: u32,
    offset: u64,
    len: u32,
    time_ms: u64,
}

impl Expected {
    /// Appends `record`, which came no earlier than the one before.
    pub(super) fn encode(&mut self, record: &Record, out: &mut Vec<u8>) {
        let Record { location, shared, time_ms, value } = *record;
        let mark = out.len();
        out.push(if shared { SHARED } else { 0 });
        let mut difference = |bit: u8, difference: i64| {
            if difference != 0 {
                out[mark] |= bit;
                put_signed(difference, out);
            }
        };
        difference(SEGMENT, i64::from(location.segment) - i64::from(self.segment));
        difference(OFFSET, i64::from(location.offset) - self.offset as i64);
        difference(LEN, i64::from(location.len) - i64::from(self.len));
        if time_ms != self.time_ms {
            out[mark] |= TIME;
            put_varint(time_ms - self.time_ms, out);
        }
        if let Some(value) = value {
            out[mark] |= VALUE;
            out.extend_from_slice(&value.to_le_bytes());
        }
        self.follow(record);
    }

    /// Reads the record at the front of `octets`; `None` if there is none that could be.
    pub(super) fn decode(&mut self, octets: &mut &[u8]) -> Option<Record> {
        let (&mark, rest) = octets.split_first()?;
        *octets = rest;
        if mark & !KNOWN != 0 {
            return None;
        }
        let mut field = |bit: u8, before: u64| {
            let difference = if mark & bit == 0 { 0 } else { take_signed(octets)? };
            u32::try_from(before.checked_add_signed(difference)?).ok()
        };
        let segment = field(SEGMENT, self.segment.into())?;
        let offset = field(OFFSET, self.offset)?;
        let len = field(LEN, self.len.into())?;
        let later = if mark & TIME == 0 { 0 } else { take_varint(octets)? };
        let value = if mark & VALUE == 0 { None } else { Some(take_u32(octets)?) };
        let record = Record {
            location: Location { segment, offset, len },
            shared: mark & SHARED != 0,
            time_ms: self.time_ms.checked_add(later)?,
            value,
        };
        self.follow(&record);
        Some(record)
    }

    fn follow(&mut self, record: &Record) {
        let Record { location, time_ms, .. } = *record;
        *self = Self { segment: location.segment, offset: location.end(), len: location.len, time_ms };
    }
}

fn take_u32(octets: &mut &[u8]) -> Option<u32> {
    let (value, rest) = octets.split_first_chunk()?;
    *octets = rest;
    Some(u32::from_le_bytes(*value))
}

/// By what streams know a filter value: 32-bit FNV-1a. One of four thousand million other values passes for it; readers look
/// at what they get, as they have to in RabbitMQ, whose filters let whole chunks pass.
pub(in crate::queue) fn fingerprint(value: &[u8]) -> u32 {
    value.iter().fold(0x811c_9dc5, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn record(location: (u32, u32, u32), time_ms: u64, value: Option<u32>) -> Record {
        let (segment, offset, len) = location;
        Record { location: Location { segment, offset, len }, shared: time_ms % 2 == 1, time_ms, value }
    }

    #[test]
    fn records_come_back_and_no_cut_is_taken_for_a_record() {
        let all = [
            record((1, 24, 60), 1_800_000_000_000, None),
            record((1, 84, 60), 1_800_000_000_000, Some(7)),
            record((3, 0, 70), 1_800_000_000_001, None),
            record((0, u32::MAX, u32::MAX), u64::MAX, Some(u32::MAX)),
            record((u32::MAX, 0, 0), u64::MAX, None),
        ];
        let (mut octets, mut expected) = (Vec::new(), Expected::default());
        all.iter().for_each(|record| expected.encode(record, &mut octets));
        let (mut rest, mut expected) = (&octets[..], Expected::default());
        for record in &all {
            let before = (rest, expected);
            assert_eq!(expected.decode(&mut rest), Some(*record));
            let len = before.0.len() - rest.len();
            for cut in 0..len {
                let mut expected = before.1;
                assert_eq!(expected.decode(&mut &before.0[..cut]), None, "{record:?} cut at {cut}");
            }
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn what_cannot_be_is_no_record() {
        for octets in [&[0x40][..], &[SEGMENT, 1], &[OFFSET, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            assert_eq!(Expected::default().decode(&mut &octets[..]), None, "{octets:?}");
        }
        let mut late = Expected { time_ms: u64::MAX, ..Expected::default() };
        assert_eq!(late.decode(&mut &[TIME, 1][..]), None);
    }

    #[test]
    fn messages_of_like_size_that_came_together_take_an_octet_each() {
        let (mut octets, mut expected) = (Vec::new(), Expected::default());
        for number in 0..1_000 {
            expected.encode(&record((7, 100 * number, 100), 1_800_000_000_000, None), &mut octets);
        }
        assert!(octets.len() < 1_020, "{}", octets.len());
    }

    #[test]
    fn fingerprints_are_those_of_fnv_1a() {
        let known = [(&b""[..], 0x811c_9dc5), (b"a", 0xe40c_292c), (b"foobar", 0xbf9c_f968)];
        known.into_iter().for_each(|(value, expected)| assert_eq!(fingerprint(value), expected));
    }
}
