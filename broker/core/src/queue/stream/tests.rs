//! Messages of a stream and their readers, without a queue around them.

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use super::chunk::{CHUNK_MESSAGES, Chunk};
use super::*;
use crate::command::SequenceRange;
use crate::limits::{STREAM_CONSUMERS, STREAM_SCAN};
use crate::location::Location;
use crate::queue::settled::Settled;
use crate::queue::{PositionRange, StreamOffset, StreamReading};

const KEEP: Retention = Retention { max_bytes: None, max_age: None };

/// Where the message `offset` lies if it has not moved.
fn place(offset: u64) -> Location {
    Location { segment: 1, offset: offset as u32 * 100, len: 100 }
}

fn record(offset: u64, time_ms: u64, value: Option<&str>) -> Record {
    Record { location: place(offset), shared: false, time_ms, value: value.map(|value| fingerprint(value.as_bytes())) }
}

impl Stream {
    /// `count` messages of 100 octets, one each millisecond from the time 1,000 on.
    fn with(count: u64, retention: Retention) -> Self {
        let mut stream = Self::default();
        stream.publish(count, retention);
        stream
    }

    fn publish(&mut self, count: u64, retention: Retention) {
        for _ in 0..count {
            let offset = self.messages.next_offset();
            self.messages.push(record(offset, 1_000 + offset, None), retention);
        }
    }

    fn attach(&mut self, number: u32, from: StreamOffset, filter: &[&str]) {
        let filter = filter.iter().map(|value| Bytes::copy_from_slice(value.as_bytes())).collect();
        let reading = StreamReading { from, filter, match_unfiltered: false };
        self.readers.attach(number, &reading, &self.messages, 5_000);
    }

    /// What the reader gets until there is nothing.
    fn offsets(&mut self, number: u32) -> Vec<u64> {
        core::iter::from_fn(|| self.readers.read(number, &self.messages)).map(|reading| reading.offset).collect()
    }

    fn woken(&mut self) -> Vec<u32> {
        let mut woken = vec![];
        self.readers.wake(&self.messages, |number| woken.push(number));
        woken
    }

    fn retain(&mut self, now_ms: u64, retention: Retention) -> Vec<SequenceRange> {
        let mut done = Settled::default();
        self.messages.retain(now_ms, retention, &mut done);
        done.ranges().to_vec()
    }
}

#[test]
fn readers_get_everything_in_order_across_the_borders_of_chunks_and_nothing_twice() {
    for count in [0, 1, 255, 256, 257, 1_000] {
        let mut stream = Stream::with(count, KEEP);
        for number in [0, 3] {
            stream.attach(number, StreamOffset::First, &[]);
            assert!(stream.offsets(number).into_iter().eq(0..count), "{count}");
        }
        stream.publish(300, KEEP);
        assert_eq!(stream.woken(), [0, 3]);
        assert!(stream.offsets(0).into_iter().eq(count..count + 300), "{count}");
        assert_eq!(stream.woken(), [], "nothing came since");
    }
}

#[test]
fn every_offset_begins_where_it_says() {
    let cases = [
        (StreamOffset::First, 0),
        (StreamOffset::Last, 599),
        (StreamOffset::Next, 600),
        (StreamOffset::Number(0), 0),
        (StreamOffset::Number(256), 256),
        (StreamOffset::Number(599), 599),
        (StreamOffset::Number(603), 603),
        (StreamOffset::Timestamp(0), 0),
        (StreamOffset::Timestamp(1_256), 256),
        (StreamOffset::Timestamp(1_599), 599),
        (StreamOffset::Timestamp(1_600), 600),
        (StreamOffset::Interval(3_500), 500),
        (StreamOffset::Interval(u64::MAX), 0),
        (StreamOffset::Interval(0), 600),
    ];
    for (from, first) in cases {
        let mut stream = Stream::with(600, KEEP);
        stream.attach(0, from, &[]);
        let before = stream.offsets(0);
        stream.publish(5, KEEP);
        let all = [before, stream.offsets(0)].concat();
        assert!(all.iter().copied().eq(first..605), "{from:?} began at {:?}", all.first());
    }
}

#[test]
fn last_is_the_newest_message_and_of_an_empty_stream_the_first_to_come() {
    let mut stream = Stream::default();
    stream.attach(0, StreamOffset::Last, &[]);
    stream.publish(1, KEEP);
    assert_eq!(stream.offsets(0), [0]);
    let bounds = Retention { max_age: Some(10), ..KEEP };
    stream.retain(2_000, bounds);
    stream.attach(0, StreamOffset::Last, &[]);
    assert_eq!(stream.offsets(0), []);
    stream.publish(1, KEEP);
    assert_eq!(stream.offsets(0), [1]);
}

#[test]
fn too_many_octets_drop_the_oldest_chunks_and_an_eighth_at_most_is_missing() {
    let bounds = Retention { max_bytes: Some(8_000), ..KEEP };
    let mut stream = Stream::default();
    for _ in 0..1_000 {
        stream.publish(1, bounds);
        let first = stream.messages.first_offset();
        let dropped = stream.retain(0, bounds);
        let len = stream.messages.first_offset() - first;
        let expected = if len > 0 { vec![SequenceRange { first, len }] } else { vec![] };
        assert_eq!(dropped, expected);
        assert!(stream.messages.len() <= 80);
        assert!(stream.messages.len() >= stream.messages.next_offset().min(71));
    }
}

#[test]
fn the_newest_chunk_stays_however_large_it_is() {
    for max in [0, 1, 99] {
        let bounds = Retention { max_bytes: Some(max), ..KEEP };
        let mut stream = Stream::with(3, bounds);
        stream.retain(0, bounds);
        assert_eq!((stream.messages.first_offset(), stream.messages.len()), (2, 1), "{max}");
    }
}

#[test]
fn what_is_too_old_goes_and_what_is_not_stays() {
    let bounds = Retention { max_age: Some(800), ..KEEP };
    let mut stream = Stream::with(600, bounds);
    assert_eq!(stream.messages.expires(bounds), Some(1_100 + 800), "the first chunk spans an eighth of the age");
    for now in 1_600..3_000 {
        stream.retain(now, bounds);
        let oldest = 1_000 + stream.messages.first_offset();
        assert!(oldest + 800 + 101 >= now || stream.messages.len() == 0, "at {now} there is one of {oldest}");
        assert!(stream.messages.first_offset() <= (now - 800).saturating_sub(999), "{now}");
    }
    assert_eq!((stream.messages.len(), stream.messages.expires(bounds)), (0, None));
    assert_eq!(stream.messages.next_offset(), 600);
}

#[test]
fn readers_of_what_is_dropped_go_on_with_what_is_left() {
    let bounds = Retention { max_bytes: Some(80_000), ..KEEP };
    let mut stream = Stream::with(500, bounds);
    stream.attach(0, StreamOffset::First, &[]);
    stream.attach(1, StreamOffset::First, &[]);
    assert_eq!(stream.readers.read(0, &stream.messages).map(|reading| reading.offset), Some(0));
    assert_eq!(stream.offsets(1).len(), 500);
    stream.publish(2_000, bounds);
    stream.retain(0, bounds);
    let first = stream.messages.first_offset();
    assert!(first > 1_500);
    for number in [0, 1] {
        assert!(stream.offsets(number).into_iter().eq(first..2_500), "{number}");
    }
}

#[test]
fn a_settlement_in_the_middle_of_a_chunk_hides_what_is_before() {
    let mut stream = Stream::with(600, KEEP);
    stream.messages.forget(SequenceRange { first: 0, len: 300 });
    assert_eq!((stream.messages.first_offset(), stream.messages.len()), (300, 300));
    stream.attach(0, StreamOffset::Timestamp(0), &[]);
    assert_eq!(stream.offsets(0)[0], 300);
    stream.messages.forget(SequenceRange { first: 0, len: u64::MAX });
    assert_eq!((stream.messages.first_offset(), stream.messages.len()), (600, 0));
}

#[test]
fn filters_let_pass_what_they_name_and_skip_the_rest() {
    let mut stream = Stream::default();
    for offset in 0..2_000 {
        let value = ["a", "b", "c"].get((offset % 7) as usize).copied();
        stream.messages.push(record(offset, 0, value), KEEP);
    }
    stream.attach(0, StreamOffset::First, &["a"]);
    assert!(stream.offsets(0).into_iter().eq((0..2_000).step_by(7)));
    stream.attach(1, StreamOffset::Number(100), &["b", "c", "nothing"]);
    assert!(stream.offsets(1).into_iter().eq((100..2_000).filter(|offset| [1, 2].contains(&(offset % 7)))));
    stream.attach(2, StreamOffset::First, &["nothing"]);
    assert_eq!(stream.offsets(2), []);
    let reading = StreamReading { match_unfiltered: true, filter: vec![Bytes::from("a")], ..StreamReading::default() };
    stream.readers.attach(3, &StreamReading { from: StreamOffset::First, ..reading }, &stream.messages, 0);
    assert!(stream.offsets(3).into_iter().eq((0..2_000).filter(|offset| ![1, 2].contains(&(offset % 7)))));
}

#[test]
fn a_reader_that_wants_little_pauses_after_many_messages_and_goes_on() {
    let mut stream = Stream::default();
    let scan = u64::from(STREAM_SCAN);
    // Each chunk has the value that is wanted, so none is skipped.
    for offset in 0..2 * scan {
        let same_bit = (0..)
            .map(|number: u32| number.to_le_bytes())
            .find(|it| fingerprint(it) % 63 == fingerprint(b"wanted") % 63);
        let value = same_bit.map(|it| fingerprint(&it));
        stream.messages.push(Record { value, ..record(0, 0, None) }, KEEP);
        if offset + 1 == scan || offset == scan {
            stream.messages.push(record(0, 0, Some("wanted")), KEEP);
        }
    }
    stream.attach(0, StreamOffset::First, &["wanted"]);
    assert_eq!(stream.readers.read(0, &stream.messages), None, "the one that is wanted is one beyond the bound");
    assert!(stream.readers.have_paused());
    let mut resumed = vec![];
    stream.readers.resume(|number| resumed.push(number));
    assert_eq!((resumed, stream.readers.have_paused()), (vec![0], false));
    assert_eq!(stream.readers.read(0, &stream.messages).map(|reading| reading.offset), Some(scan));
    stream.attach(1, StreamOffset::Number(1), &["wanted"]);
    assert_eq!(stream.readers.read(1, &stream.messages).map(|reading| reading.offset), Some(scan), "at the bound");
}

#[test]
fn what_moved_is_read_where_it_is_and_readers_stay_where_they_are() {
    let mut stream = Stream::with(700, KEEP);
    stream.attach(0, StreamOffset::First, &[]);
    (0..300).for_each(|_| _ = stream.readers.read(0, &stream.messages));
    stream.attach(1, StreamOffset::First, &[]);
    stream.offsets(1);
    let elsewhere = |offset: u64| Location { segment: 9, offset: 7 * offset as u32, len: 100 };
    let moved: Vec<(u64, Location)> = (200..400).chain(690..700).map(|offset| (offset, elsewhere(offset))).collect();
    stream.messages.relocate(&moved);
    stream.publish(10, KEEP);
    for offset in 300..710 {
        let reading = stream.readers.read(0, &stream.messages).expect("there are more");
        let expected = if offset < 400 || (690..700).contains(&offset) { elsewhere(offset) } else { place(offset) };
        assert_eq!((reading.offset, reading.record.location), (offset, expected));
        assert_eq!(reading.record.time_ms, 1_000 + offset);
    }
    assert!(stream.offsets(1).into_iter().eq(700..710));
    stream.messages.forget(SequenceRange { first: 0, len: 600 });
    stream.messages.relocate(&[(0, elsewhere(0)), (599, elsewhere(0)), (605, elsewhere(1)), (9_999, elsewhere(2))]);
    stream.attach(2, StreamOffset::Number(605), &[]);
    let reading = stream.readers.read(2, &stream.messages).expect("it is there");
    assert_eq!((reading.offset, reading.record.location), (605, elsewhere(1)));
}

#[test]
fn a_settlement_gives_room_to_the_reader_that_was_handed_the_message_and_to_no_later_one() {
    let mut stream = Stream::with(10, KEEP);
    let last = STREAM_CONSUMERS - 1;
    stream.attach(0, StreamOffset::First, &[]);
    stream.attach(last, StreamOffset::First, &[]);
    let positions = |stream: &mut Stream, number| -> Vec<u64> {
        (0..3).map(|_| stream.readers.read(number, &stream.messages).expect("there are ten").position).collect()
    };
    for number in [0, last] {
        let handed = positions(&mut stream, number);
        assert!(handed.windows(2).all(|pair| pair[1] == pair[0] + 1), "they settle as one range");
        let all = PositionRange { first: handed[0], len: 3 };
        assert_eq!(stream.readers.settled(all), Some((number, 3)));
        assert_eq!(stream.readers.settled(PositionRange { first: handed[2], len: u64::MAX }), Some((number, 1)));
        stream.attach(number, StreamOffset::First, &[]);
        assert_eq!(stream.readers.settled(all).filter(|(_, count)| *count > 0), None);
        let again = positions(&mut stream, number);
        assert_eq!(stream.readers.settled(PositionRange { first: handed[2], len: 3 }), Some((number, 2)));
        assert_eq!(stream.readers.settled(PositionRange { first: again[0], len: 2 }), Some((number, 2)));
    }
    assert_eq!(stream.readers.settled(PositionRange { first: 1 << 48, len: 1 }), Some((1, 0)));
    assert_eq!(stream.readers.settled(PositionRange { first: u64::MAX, len: 1 }).filter(|(_, count)| *count > 0), None);
}

#[test]
fn a_million_messages_take_less_than_three_megabytes() {
    let mut stream = Stream::default();
    let mut offset = 0;
    for entry in 0..100_000_u32 {
        for number in 0..10 {
            let location = Location { segment: entry / 5_000, offset: offset % (64 << 20), len: 300 + number % 3 };
            offset += 300 + number % 3;
            stream.messages.push(Record { location, shared: false, time_ms: u64::from(entry) * 7, value: None }, KEEP);
        }
        offset += 40;
    }
    let shared_vec = 2 * size_of::<usize>() + size_of::<Vec<u8>>();
    let chunk = |chunk: Chunk| size_of::<Chunk>() + shared_vec + chunk.records.capacity();
    let chunks = stream.messages.share().chunks;
    assert_eq!(chunks.len(), 1_000_000_usize.div_ceil(CHUNK_MESSAGES as usize));
    let bytes: usize = chunks.into_iter().map(chunk).sum();
    assert!(bytes < 3_000_000, "{bytes}");
}
