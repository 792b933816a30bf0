//! What a shard's log says, put together: enough to begin a replay behind it, and to know which parts of the log hold
//! messages that are still wanted. The format stands here and nowhere else.
//!
//! ```text
//! snapshot   version u8 = 2 | epoch varint | queues varint, then that many, ascending by id
//! queue      id varint, from the id before + 1 | flags u8 | next_sequence varint | redelivered_below varint
//!            | settings, as `QueueSettings` writes them, if `flags` bit 1 says so; else they are plain
//!            | keys, if `flags` bit 2 says so | levels varint, then that many, ascending by priority; or, if it is a stream, what
//!            `stream/snapshot.rs` says
//! keys       count varint, then that many: key u128, little-endian | time, signed, from the one before
//! level      priority u8 | messages varint, then that many, in the order of the level
//! message    mark u8, then what differs from what the message before lets expect:
//!            bit 0  numbers skipped varint                       else it has the number that follows
//!            bit 1  segment, signed, from the one before         else it is in the same segment
//!            bit 2  offset, signed, from the end of the one before   else it begins there
//!            bit 3  len, signed, from the one before             else it is as long
//!            bit 4  several queues refer to the same octets
//!            bit 5  time, signed, from the one before            else its time is over then too
//!            bit 6  delivery count varint                        else it never came back from a failed delivery
//!            bit 7  overhead, signed, from the one before        else as many octets are not its body
//! ```
//!
//! Signed numbers are varints with their sign in the lowest bit. A queue's first message is measured from number -1 and
//! an empty location at 0, without time and overhead; a level's too. Time is in milliseconds since the Unix epoch, 0 for a
//! message that may wait for ever. Keys are those that logged messages are recognized by, oldest first, each with the time
//! when it came. `flags` bit 0 says that an attach is in the log since the epoch began. Messages below
//! `redelivered_below` may have been handed out in an earlier epoch.
//!
//! Only logged queues and messages are here, ready or held alike. What is settled is left out, also if the settlement is
//! not committed yet: a replay skips numbers that it does not find.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::store::{Extra, Logged, SharedStore};
use super::stream::{Messages, SharedStream};
use super::{QueueKind, QueueSettings};
use crate::command::{Reference, needed};
use crate::identity::QueueId;
use crate::location::Location;
use crate::varint::{put_signed, put_varint, take_signed, take_varint};

const VERSION: u8 = 2;
const ATTACHED: u8 = 1;
const CONFIGURED: u8 = 1 << 1;
const KEYS: u8 = 1 << 2;

/// No queue gets so far; a snapshot that says so is refused before sums with it overflow.
const SEQUENCE_MAX: u64 = u64::MAX >> 1;

const SKIPS: u8 = 1;
const SEGMENT: u8 = 1 << 1;
const OFFSET: u8 = 1 << 2;
const LEN: u8 = 1 << 3;
const SHARED: u8 = 1 << 4;
const TIME: u8 = 1 << 5;
const COUNT: u8 = 1 << 6;
const OVERHEAD: u8 = 1 << 7;

/// Why a snapshot cannot be read. Its checksum has passed, so this is another version or a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It was written by a version of the format that this binary does not have.
    #[error("snapshot has version {0}, this binary reads {VERSION}; run {program}", program = needed(*.0, VERSION))]
    Version(u8),
    /// It ends early, or a number in it has no end.
    #[error("snapshot ends within a field")]
    Truncated,
    /// It goes on behind its last queue.
    #[error("snapshot goes on behind its last queue")]
    Trailing,
    /// A number leaves the range that its meaning gives it.
    #[error("snapshot has an impossible {0}")]
    Impossible(&'static str),
}

/// A message that lives in the log, and who waits for it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// Its publish command.
    pub location: Location,
    /// The queues that hold it, ascending; at least one.
    pub references: Vec<Reference>,
}

/// The logged state of a shard between two entries. Made of pointers to what the shard had then; the shard goes on and
/// copies what it changes.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) epoch: u64,
    pub(super) queues: Vec<QueueSnapshot>,
}

/// A queue in a snapshot.
#[derive(Debug, Clone)]
pub(super) struct QueueSnapshot {
    pub(super) id: QueueId,
    pub(super) attached: bool,
    pub(super) next_sequence: u64,
    pub(super) redelivered_below: u64,
    pub(super) settings: QueueSettings,
    /// What logged messages are recognized by, oldest first, each with the time when it came.
    pub(super) keys: Vec<(u128, u64)>,
    /// By priority.
    pub(super) levels: Vec<(u8, SharedStore)>,
    /// If it is a stream; it has no other messages then.
    pub(super) stream: Option<SharedStream>,
}

impl Snapshot {
    /// The snapshot's octets. Takes a few nanoseconds a message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from([VERSION]);
        put_varint(self.epoch, &mut out);
        put_varint(self.queues.len() as u64, &mut out);
        let mut least = 0;
        for queue in &self.queues {
            put_varint(u64::from(queue.id.0) - least, &mut out);
            least = u64::from(queue.id.0) + 1;
            queue.encode(&mut out);
        }
        out
    }

    /// Octets of the log that are still wanted, by segment: of each live message its publish command, once.
    pub fn live(&self) -> BTreeMap<u32, u64> {
        let mut live = BTreeMap::new();
        let mut shared = BTreeSet::new();
        let mut count = |location: Location| *live.entry(location.segment).or_insert(0) += u64::from(location.len);
        self.queues.iter().flat_map(QueueSnapshot::logged).for_each(|message| {
            if !message.shared || shared.insert(message.location) {
                count(message.location);
            }
        });
        live
    }

    /// The live messages that lie in `segments`, in the order in which they lie there.
    pub fn survivors(&self, segments: &BTreeSet<u32>) -> Vec<Survivor> {
        let mut all = Vec::new();
        for queue in &self.queues {
            let wanted = queue.logged().filter(|message| segments.contains(&message.location.segment));
            all.extend(
                wanted.map(|message| (message.location, Reference { queue: queue.id, sequence: message.sequence })),
            );
        }
        all.sort_unstable();
        let mut survivors: Vec<Survivor> = Vec::new();
        for (location, reference) in all {
            match survivors.last_mut() {
                Some(last) if last.location == location => last.references.push(reference),
                _ => survivors.push(Survivor { location, references: Vec::from([reference]) }),
            }
        }
        survivors
    }
}

impl QueueSnapshot {
    /// The messages that are not done with, in order.
    fn logged(&self) -> impl Iterator<Item = Logged> {
        let messages = self.levels.iter().flat_map(|(_, messages)| messages.logged());
        messages.chain(self.stream.iter().flat_map(SharedStream::logged))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let plain = self.settings.is_plain();
        let flag = |flag: u8, is: bool| if is { flag } else { 0 };
        let flags = [flag(ATTACHED, self.attached), flag(CONFIGURED, !plain), flag(KEYS, !self.keys.is_empty())];
        out.push(flags.into_iter().sum());
        put_varint(self.next_sequence, out);
        put_varint(self.redelivered_below, out);
        if !plain {
            self.settings.encode(out);
        }
        if !self.keys.is_empty() {
            self.encode_keys(out);
        }
        if let Some(stream) = &self.stream {
            return stream.encode(out);
        }
        put_varint(self.levels.len() as u64, out);
        for (priority, messages) in &self.levels {
            out.push(*priority);
            put_varint(messages.logged().count() as u64, out);
            let mut expected = Expected::default();
            messages.logged().for_each(|message| expected.encode(message, out));
        }
    }

    fn encode_keys(&self, out: &mut Vec<u8>) {
        put_varint(self.keys.len() as u64, out);
        let mut before = 0;
        for (key, time_ms) in &self.keys {
            out.extend_from_slice(&key.to_le_bytes());
            put_signed(time_ms.wrapping_sub(before) as i64, out);
            before = *time_ms;
        }
    }
}

/// What the message before lets expect of a message.
#[derive(Debug, Clone, Copy, Default)]
struct Expected {
    sequence: u64,
    segment: u32,
    offset: u64,
    len: u32,
    time_ms: u64,
    overhead: u32,
}

impl Expected {
    fn encode(&mut self, message: Logged, out: &mut Vec<u8>) {
        let Logged { sequence, location, shared, extra } = message;
        let mark = out.len();
        out.push(if shared { SHARED } else { 0 });
        if sequence != self.sequence {
            out[mark] |= SKIPS;
            put_varint(sequence - self.sequence, out);
        }
        let mut difference = |bit: u8, difference: i64| {
            if difference != 0 {
                out[mark] |= bit;
                put_signed(difference, out);
            }
        };
        difference(SEGMENT, i64::from(location.segment) - i64::from(self.segment));
        difference(OFFSET, i64::from(location.offset) - self.offset as i64);
        difference(LEN, i64::from(location.len) - i64::from(self.len));
        difference(TIME, extra.time_ms.wrapping_sub(self.time_ms) as i64);
        difference(OVERHEAD, i64::from(extra.overhead) - i64::from(self.overhead));
        if extra.count > 0 {
            out[mark] |= COUNT;
            put_varint(extra.count.into(), out);
        }
        self.follow(message);
    }

    fn decode(&mut self, octets: &mut &[u8]) -> Result<Logged, SnapshotError> {
        let mark = take_octet(octets)?;
        let skipped = if mark & SKIPS == 0 { 0 } else { take_varint(octets).ok_or(SnapshotError::Truncated)? };
        let sequence = self.sequence.checked_add(skipped).filter(|sequence| *sequence < SEQUENCE_MAX);
        let mut difference = |bit: u8| match mark & bit {
            0 => Ok(0),
            _ => take_signed(octets).ok_or(SnapshotError::Truncated),
        };
        let part = |before: u64, difference: i64| {
            let value = before.checked_add_signed(difference).and_then(|value| u32::try_from(value).ok());
            value.ok_or(SnapshotError::Impossible("location"))
        };
        let segment = part(self.segment.into(), difference(SEGMENT)?)?;
        let offset = part(self.offset, difference(OFFSET)?)?;
        let len = part(self.len.into(), difference(LEN)?)?;
        let time_ms = self.time_ms.wrapping_add(difference(TIME)? as u64);
        let overhead = part(self.overhead.into(), difference(OVERHEAD)?)?;
        let count = if mark & COUNT == 0 { 0 } else { take_varint(octets).ok_or(SnapshotError::Truncated)? };
        let count = u32::try_from(count).map_err(|_| SnapshotError::Impossible("delivery count"))?;
        let message = Logged {
            sequence: sequence.ok_or(SnapshotError::Impossible("sequence number"))?,
            location: Location { segment, offset, len },
            shared: mark & SHARED != 0,
            extra: Extra { time_ms, overhead, count },
        };
        self.follow(message);
        Ok(message)
    }

    fn follow(&mut self, message: Logged) {
        let Logged { location, extra, .. } = message;
        let (sequence, offset) = (message.sequence + 1, location.end());
        let (time_ms, overhead) = (extra.time_ms, extra.overhead);
        *self = Self { sequence, segment: location.segment, offset, len: location.len, time_ms, overhead };
    }
}

/// Reads a snapshot: its queues one by one, and the messages of each before the next queue.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    octets: &'a [u8],
    epoch: u64,
    queues: u64,
    /// The smallest id that the next queue may have.
    least: u64,
}

/// A queue without its messages.
#[derive(Debug)]
pub(super) struct QueueHead {
    pub(super) id: QueueId,
    pub(super) attached: bool,
    pub(super) next_sequence: u64,
    pub(super) redelivered_below: u64,
    pub(super) settings: QueueSettings,
    pub(super) keys: Vec<(u128, u64)>,
    levels: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(mut octets: &'a [u8]) -> Result<Self, SnapshotError> {
        let version = take_octet(&mut octets)?;
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let epoch = take_varint(&mut octets).ok_or(SnapshotError::Truncated)?;
        let queues = take_varint(&mut octets).ok_or(SnapshotError::Truncated)?;
        Ok(Self { octets, epoch, queues, least: 0 })
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The next queue; `None` at the end of the snapshot.
    pub(super) fn queue(&mut self) -> Result<Option<QueueHead>, SnapshotError> {
        if self.queues == 0 {
            return if self.octets.is_empty() { Ok(None) } else { Err(SnapshotError::Trailing) };
        }
        self.queues -= 1;
        let id = self.least.checked_add(self.number()?).and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or(SnapshotError::Impossible("queue id"))?;
        self.least = u64::from(id) + 1;
        let flags = take_octet(&mut self.octets)?;
        let (next_sequence, redelivered_below) = (self.number()?, self.number()?);
        if flags & !(ATTACHED | CONFIGURED | KEYS) != 0 {
            return Err(SnapshotError::Impossible("flag of a queue"));
        }
        if redelivered_below > next_sequence || next_sequence > SEQUENCE_MAX {
            return Err(SnapshotError::Impossible("sequence number"));
        }
        let settings = match flags & CONFIGURED {
            0 => QueueSettings { logged: true, ..QueueSettings::default() },
            _ => QueueSettings::decode(&mut self.octets).ok_or(SnapshotError::Impossible("settings of a queue"))?,
        };
        let (id, attached) = (QueueId(id), flags & ATTACHED != 0);
        let keys = if flags & KEYS == 0 { Vec::new() } else { self.keys()? };
        let levels = if settings.kind == QueueKind::Stream { 0 } else { self.number()? };
        Ok(Some(QueueHead { id, attached, next_sequence, redelivered_below, settings, keys, levels }))
    }

    /// The messages of the stream that was read last.
    pub(super) fn stream(&mut self, queue: &QueueHead) -> Result<Messages, SnapshotError> {
        let messages = SharedStream::decode(&mut self.octets, queue.next_sequence);
        messages.ok_or(SnapshotError::Impossible("stream"))
    }

    fn keys(&mut self) -> Result<Vec<(u128, u64)>, SnapshotError> {
        let (mut keys, mut before) = (Vec::new(), 0_u64);
        for _ in 0..self.number()? {
            let (key, rest) = self.octets.split_first_chunk().ok_or(SnapshotError::Truncated)?;
            self.octets = rest;
            let time = take_signed(&mut self.octets).ok_or(SnapshotError::Truncated)?;
            before = before.wrapping_add(time as u64);
            keys.push((u128::from_le_bytes(*key), before));
        }
        Ok(keys)
    }

    /// Hands the messages of the queue that was read last to `each`, with their priorities, in order.
    pub(super) fn messages(
        &mut self,
        queue: &QueueHead,
        mut each: impl FnMut(u8, Logged),
    ) -> Result<(), SnapshotError> {
        let mut least = 0;
        for _ in 0..queue.levels {
            let priority = take_octet(&mut self.octets)?;
            if u16::from(priority) < least {
                return Err(SnapshotError::Impossible("priority"));
            }
            least = u16::from(priority) + 1;
            let mut expected = Expected::default();
            for _ in 0..self.number()? {
                let message = expected.decode(&mut self.octets)?;
                if message.sequence >= queue.next_sequence {
                    return Err(SnapshotError::Impossible("sequence number"));
                }
                each(priority, message);
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<u64, SnapshotError> {
        take_varint(&mut self.octets).ok_or(SnapshotError::Truncated)
    }
}

fn take_octet(octets: &mut &[u8]) -> Result<u8, SnapshotError> {
    let (octet, rest) = octets.split_first().ok_or(SnapshotError::Truncated)?;
    *octets = rest;
    Ok(*octet)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::levels::Levels;
    use super::super::store::Body;
    use super::*;
    use crate::queue::Shard;

    fn location(segment: u32, offset: u32, len: u32) -> Location {
        Location { segment, offset, len }
    }

    type Messages<'a> = &'a [(u64, Location, bool)];

    fn snapshot(queues: &[(u32, Messages<'_>)]) -> Snapshot {
        let queue = |(id, messages): &(u32, Messages<'_>)| {
            let mut store = Levels::restored(1_000_000, 3);
            for (sequence, location, shared) in *messages {
                let (sequence, location, shared) = (*sequence, *location, *shared);
                store.restore(0, Logged { sequence, location, shared, extra: Extra::default() });
            }
            let (levels, keys) = (store.share(), vec![]);
            let settings = QueueSettings { logged: true, ..QueueSettings::default() };
            let (id, next_sequence) = (QueueId(*id), 1_000_000);
            let (redelivered_below, stream) = (3, None);
            QueueSnapshot { id, attached: true, next_sequence, redelivered_below, settings, keys, levels, stream }
        };
        Snapshot { epoch: 5, queues: queues.iter().map(queue).collect() }
    }

    /// Two queues, one message that both have, and all kinds of steps from one message to the next.
    fn two_queues() -> Snapshot {
        let first = [
            (0, location(1, 24, 60), false),
            (1, location(1, 84, 60), false),
            (9, location(1, 300, 70), true),
            (10, location(0, 5_000, 10), false),
            (400, location(u32::MAX, u32::MAX, u32::MAX), false),
        ];
        snapshot(&[(3, &first), (4, &[]), (900, &[(7, location(1, 300, 70), true)])])
    }

    #[test]
    fn a_snapshot_comes_back_octet_for_octet() {
        let octets = two_queues().encode();
        let shard = Shard::restore(&octets).expect("it was encoded");
        assert_eq!(shard.snapshot().encode(), octets);
        assert!(shard.queue_ids().eq([3, 4, 900].map(QueueId)));
        assert_eq!(shard.totals().ready, 6);
    }

    #[test]
    fn the_format_is_what_is_written_above() {
        let octets = snapshot(&[(2, &[(1, location(7, 24, 50), false), (2, location(7, 74, 50), true)])]).encode();
        let million = [0xc0, 0x84, 0x3d];
        let head = [&[2, 5, 1, 2, 1][..], &million, &[3, 1, 0, 2]].concat();
        let messages = [SKIPS | SEGMENT | OFFSET | LEN, 1, 14, 48, 100, SHARED];
        assert_eq!(octets, [&head[..], &messages].concat());
    }

    #[test]
    fn messages_of_like_size_one_behind_the_other_take_an_octet_each() {
        let mut store = Levels::default();
        for number in 0..10_000 {
            store.push(0, Body::Log { location: location(1, 100 * number, 100), shared: false }, Extra::default());
        }
        let queue = QueueSnapshot {
            id: QueueId(1),
            attached: false,
            next_sequence: 10_000,
            redelivered_below: 0,
            settings: QueueSettings { logged: true, ..QueueSettings::default() },
            keys: vec![],
            levels: store.share(),
            stream: None,
        };
        let octets = Snapshot { epoch: 1, queues: vec![queue] }.encode();
        assert!(octets.len() < 10_020, "{}", octets.len());
    }

    #[test]
    fn the_settings_of_queues_come_back() {
        let mut snapshot = two_queues();
        snapshot.queues[1].settings.message_ttl = Some(60_000);
        let octets = snapshot.encode();
        let shard = Shard::restore(&octets).expect("it was encoded");
        assert_eq!(shard.snapshot().encode(), octets);
        for cut in 0..octets.len() {
            assert!(Shard::restore(&octets[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn every_cut_is_refused_and_so_is_anything_behind_the_end() {
        let octets = two_queues().encode();
        for cut in 0..octets.len() {
            assert!(Shard::restore(&octets[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [&octets[..], &[0]].concat();
        assert_eq!(Shard::restore(&longer).err(), Some(SnapshotError::Trailing));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        let cases: [(&[u8], SnapshotError); 10] = [
            (&[1], SnapshotError::Version(1)),
            (&[2, 0, 1, 0, 8, 0, 0, 0], SnapshotError::Impossible("flag of a queue")),
            (&[2, 0, 1, 0, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0], SnapshotError::Impossible("settings of a queue")),
            (&[2, 0, 1, 0, 0, 3, 4, 0], SnapshotError::Impossible("sequence number")),
            (&[2, 0, 1, 0, 0, 1, 0, 1, 0, 1, SKIPS, 1], SnapshotError::Impossible("sequence number")),
            (&[2, 0, 1, 0, 0, 1, 0, 1, 0, 1, SEGMENT, 1], SnapshotError::Impossible("location")),
            (&[2, 0, 1, 0, 0, 1, 0, 1, 0, 1, OVERHEAD, 1], SnapshotError::Impossible("location")),
            (
                &[2, 0, 1, 0, 0, 1, 0, 1, 0, 1, COUNT, 0xff, 0xff, 0xff, 0xff, 0x1f],
                SnapshotError::Impossible("delivery count"),
            ),
            (&[2, 0, 1, 0, 0, 1, 0, 2, 3, 0, 3, 0], SnapshotError::Impossible("priority")),
            (&[2, 0, 2, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], SnapshotError::Impossible("queue id")),
        ];
        for (octets, expected) in cases {
            assert_eq!(Shard::restore(octets).err(), Some(expected), "{octets:?}");
        }
        let of_1 = std::format!("{}", SnapshotError::Version(1));
        assert_eq!(of_1, "snapshot has version 1, this binary reads 2; run the older warren-broker that wrote it");
        // Counts that nothing follows must not be believed.
        for head in [&[2, 0][..], &[2, 0, 1, 0, 0, 5, 0], &[2, 0, 1, 0, 0, 5, 0, 1, 0], &[2, 0, 1, 0, 4, 5, 0]] {
            assert_eq!(Shard::restore(&[head, &huge].concat()).err(), Some(SnapshotError::Truncated));
        }
    }

    #[test]
    fn what_several_queues_refer_to_lives_once() {
        let live = two_queues().live();
        let expected = [(0, 10), (1, 60 + 60 + 70), (u32::MAX, u64::from(u32::MAX))];
        assert!(live.into_iter().eq(expected));
    }

    #[test]
    fn survivors_come_in_the_order_of_the_log_each_with_who_refers_to_it() {
        let survivors = two_queues().survivors(&BTreeSet::from([0, 1]));
        let reference = |queue, sequence| Reference { queue: QueueId(queue), sequence };
        let expected = [
            (location(0, 5_000, 10), vec![reference(3, 10)]),
            (location(1, 24, 60), vec![reference(3, 0)]),
            (location(1, 84, 60), vec![reference(3, 1)]),
            (location(1, 300, 70), vec![reference(3, 9), reference(900, 7)]),
        ];
        assert_eq!(survivors, expected.map(|(location, references)| Survivor { location, references }));
    }
}
