//! A stream in a snapshot. The format stands here and nowhere else.
//!
//! ```text
//! stream   first_offset varint | chunks varint, then that many, in the order of the stream
//! chunk    messages varint | octets varint, then that many: the records, as `record.rs` has them
//! ```
//!
//! The last chunk ends before the queue's `next_sequence`. Messages before `first_offset`, which is in the first chunk or
//! behind the last, are done with.

use alloc::vec::Vec;

use super::chunk::{CHUNK_MESSAGES, Chunk};
use super::messages::Messages;
use crate::command::SequenceRange;
use crate::queue::store::{Extra, Logged};
use crate::varint::{put_varint, take_varint};

/// The messages of a stream as they were.
#[derive(Debug, Clone)]
pub(in crate::queue) struct SharedStream {
    pub(super) first_offset: u64,
    pub(super) chunks: Vec<Chunk>,
}

impl SharedStream {
    /// The messages that are not done with, in order.
    pub(in crate::queue) fn logged(&self) -> impl Iterator<Item = Logged> + '_ {
        let messages = self.chunks.iter().flat_map(Chunk::messages);
        let kept = messages.skip_while(|(offset, _)| *offset < self.first_offset);
        kept.map(|(sequence, record)| Logged {
            sequence,
            location: record.location,
            shared: record.shared,
            extra: Extra::default(),
        })
    }

    pub(in crate::queue) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(self.first_offset, out);
        put_varint(self.chunks.len() as u64, out);
        for chunk in &self.chunks {
            put_varint(chunk.count.into(), out);
            put_varint(chunk.records.len() as u64, out);
            out.extend_from_slice(&chunk.records);
        }
    }

    /// Reads the stream whose next message gets `next_offset` off the front of `octets`; `None` if there is none that
    /// could be.
    pub(in crate::queue) fn decode(octets: &mut &[u8], next_offset: u64) -> Option<Messages> {
        let first_offset = take_varint(octets)?;
        let mut chunks = Vec::new();
        for _ in 0..take_varint(octets)? {
            let count = take_varint(octets).filter(|count| (1..=u64::from(CHUNK_MESSAGES)).contains(count))?;
            let len = usize::try_from(take_varint(octets)?).ok()?;
            let (records, rest) = octets.split_at_checked(len)?;
            *octets = rest;
            chunks.push((count as u32, records));
        }
        let count = chunks.iter().map(|(count, _)| u64::from(*count)).sum();
        let mut messages = Messages::restored(next_offset.checked_sub(count)?);
        for (count, records) in chunks {
            messages.restore(count, records).then_some(())?;
        }
        let done = first_offset.checked_sub(messages.first_offset())?;
        messages.forget(SequenceRange { first: messages.first_offset(), len: done });
        (messages.first_offset() == first_offset).then_some(messages)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::{Record, Retention};
    use super::*;
    use crate::location::Location;

    /// 300 messages, the first 20 of which are done with.
    fn messages() -> Messages {
        let mut messages = Messages::default();
        for offset in 0..300 {
            let location = Location { segment: offset / 100, offset: 1_000 * (offset % 100), len: 900 + offset % 3 };
            let record =
                Record { location, shared: offset % 7 == 0, time_ms: u64::from(offset / 5), value: Some(offset) };
            messages.push(record, Retention::default());
        }
        messages.forget(SequenceRange { first: 0, len: 20 });
        messages
    }

    #[test]
    fn a_stream_comes_back_octet_for_octet_and_goes_on_as_it_would_have() {
        let mut before = messages();
        let mut octets = vec![];
        before.share().encode(&mut octets);
        let mut rest = &octets[..];
        let mut after = SharedStream::decode(&mut rest, 300).expect("it was encoded");
        assert!(rest.is_empty());
        assert_eq!((after.first_offset(), after.next_offset()), (20, 300));
        for messages in [&mut before, &mut after] {
            let location = Location { segment: 3, offset: 0, len: 1 };
            let record = Record { location, shared: false, time_ms: 0, value: None };
            messages.push(record, Retention::default());
        }
        let mut again = [vec![], vec![]];
        before.share().encode(&mut again[0]);
        after.share().encode(&mut again[1]);
        assert_eq!(again[0], again[1]);
        assert!(after.share().logged().map(|message| message.sequence).eq(20..301));
    }

    #[test]
    fn an_empty_stream_keeps_its_next_offset() {
        let mut messages = messages();
        messages.forget(SequenceRange { first: 20, len: 280 });
        let mut octets = vec![];
        messages.share().encode(&mut octets);
        let after = SharedStream::decode(&mut &octets[..], 300).expect("it was encoded");
        assert_eq!((after.first_offset(), after.next_offset()), (300, 300));
    }

    #[test]
    fn no_cut_and_nothing_impossible_is_taken() {
        let mut octets = vec![];
        messages().share().encode(&mut octets);
        for cut in 0..octets.len() {
            assert!(SharedStream::decode(&mut &octets[..cut], 300).is_none(), "cut at {cut}");
        }
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        let cases: [(&[u8], u64); 9] = [
            // A chunk of no message, of too many, with an octet too much, with one too little.
            (&[0, 1, 0, 0], 0),
            (&[0, 1, 0x81, 2, 0], 257),
            (&[0, 1, 1, 2, 0, 0], 1),
            (&[0, 1, 2, 1, 0], 2),
            // More messages than there have been.
            (&[0, 1, 2, 2, 0, 0], 1),
            // The first offset before the first chunk, and behind the next offset.
            (&[0, 1, 1, 1, 0], 5),
            (&[7, 1, 1, 1, 0], 5),
            // Later messages that came earlier.
            (&[0, 2, 1, 2, 8, 9, 1, 2, 8, 8], 2),
            (&[&[0][..], &huge].concat(), 0),
        ];
        for (octets, next_offset) in cases {
            assert!(SharedStream::decode(&mut &octets[..], next_offset).is_none(), "{octets:?}");
        }
        assert!(SharedStream::decode(&mut &[0, 2, 1, 2, 8, 8, 1, 2, 8, 9][..], 2).is_some());
    }
}
