//! What is written to a shard's log, and how. The format stands here and nowhere else.
//!
//! An entry is one batch, so that one record, one sync and one round of consensus carry many commands:
//!
//! ```text
//! entry     commands u32 | machine_version u16 | flags u16 | now_ms u64 | epoch u64      24 octets, little-endian
//!           then that many commands
//! publish   1 u8 | exchange_len u8 | routing_key_len u8 | attributes u8 | queues u32 | header_len u32 | body_len u32
//!           then queues × queue u32 | attributes | exchange | routing key | content header payload | body
//! settle    2 u8 | queue varint | ranges varint | ranges × (first: varint, from the end of the range before; len varint)
//! create    3 u8 | queue u32
//! delete    4 u8 | queue u32
//! attach    5 u8 | queue u32
//! configure 6 u8 | queue u32 | settings, as `queue::QueueSettings` writes them
//! failed    7 u8 | queue varint | ranges varint | ranges × (first: varint, as in settle; len varint; count varint)
//! unlearn   8 u8 | queue u32 | deduplication key u128 | number varint, plus 1, of the message that goes; 0: none does
//! ```
//!
//! The octet `attributes` says which of a message's attributes follow, in this order: bit 0 expiration (milliseconds
//! u64), bit 1 priority (u8), bit 2 deduplication key (u128), bit 3 delay (milliseconds u64), bit 4 stream filter value
//! (len u8 | octets). Bit 5 says that it is a dead letter; nothing follows for it.
//!
//! A varint is LEB128, least significant group first, at most ten octets. `flags` bit 0 marks the first entry of an
//! epoch, that is of a leader's time in office. A publish is encoded by the session that received it, in the same
//! form whether it will be logged or not, and shared from there on: between client and log nothing copies a body twice.
//!
//! The log holds a message only there, in its publish command, and queues remember where that is. When the segment that
//! has it is to be given up, what still lives in it is written again, as a *relocation*, which is a record of its own:
//!
//! ```text
//! relocation  messages u32, then that many
//! message     references u32 | references × (queue u32 | sequence u64) | publish, octet for octet as it was
//! ```

use alloc::vec::Vec;

use crate::identity::QueueId;
use crate::queue::QueueSettings;
use crate::varint::{put_varint, take_varint};

/// The rules by which entries are applied. A node refuses entries of a version it does not know.
pub const MACHINE_VERSION: u16 = 6;

/// Octets of an entry before its first command.
pub(crate) const ENTRY_HEADER_LEN: usize = 24;
const FLAG_EPOCH_START: u16 = 1;
const PUBLISH: u8 = 1;
const SETTLE: u8 = 2;
const CREATE: u8 = 3;
const DELETE: u8 = 4;
const ATTACH: u8 = 5;
const CONFIGURE: u8 = 6;
const FAILED: u8 = 7;
const UNLEARN: u8 = 8;
const PUBLISH_HEADER_LEN: usize = 16;
/// Where a publish says which attributes it has.
const MARK: usize = 3;
const REFERENCE_LEN: usize = 12;

/// The program that reads what was written by the version `written`, if this one reads `read`.
pub(crate) fn needed<V: Ord>(written: V, read: V) -> &'static str {
    if written > read { "a newer warren-broker" } else { "the older warren-broker that wrote it" }
}

/// Why an entry cannot be read. The log's checksums have passed, so this is another version or a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The entry ends within a header or command.
    #[error("entry ends within a command")]
    Truncated,
    /// The entry was written by rules that this binary does not have.
    #[error(
        "entry has machine version {0}, this binary applies {MACHINE_VERSION}; run {program}",
        program = needed(*.0, MACHINE_VERSION)
    )]
    Version(u16),
    /// A command of unknown kind.
    #[error("entry has a command of unknown kind {0}")]
    Kind(u8),
    /// A message's length is not the one that was logged for it, or its names are not text.
    #[error("entry has a malformed message")]
    Message,
    /// A queue's settings end early, or say what cannot be.
    #[error("entry has impossible settings of a queue")]
    Settings,
    /// There is more than the commands that it says it has.
    #[error("entry goes on behind its last command")]
    Trailing,
}

/// The fixed part of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryHeader {
    /// How many commands follow.
    pub commands: u32,
    /// True for the first entry of an epoch.
    pub epoch_start: bool,
    /// Wall-clock milliseconds since the Unix epoch, stamped by the leader.
    pub now_ms: u64,
    /// The leader's time in office, counted up.
    pub epoch: u64,
}

impl EntryHeader {
    /// The header's octets.
    pub fn encode(&self) -> [u8; ENTRY_HEADER_LEN] {
        let mut octets = [0; ENTRY_HEADER_LEN];
        let flags = if self.epoch_start { FLAG_EPOCH_START } else { 0 };
        octets[0..4].copy_from_slice(&self.commands.to_le_bytes());
        octets[4..6].copy_from_slice(&MACHINE_VERSION.to_le_bytes());
        octets[6..8].copy_from_slice(&flags.to_le_bytes());
        octets[8..16].copy_from_slice(&self.now_ms.to_le_bytes());
        octets[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        octets
    }

    /// Reads the header off the front of `entry`.
    pub fn decode(entry: &mut &[u8]) -> Result<Self, EntryError> {
        let commands = take_u32(entry)?;
        let version = u16::from_le_bytes(take(entry)?);
        let flags = u16::from_le_bytes(take(entry)?);
        if version != MACHINE_VERSION {
            return Err(EntryError::Version(version));
        }
        let epoch_start = flags & FLAG_EPOCH_START != 0;
        Ok(Self { commands, epoch_start, now_ms: take_u64(entry)?, epoch: take_u64(entry)? })
    }
}

/// Consecutive sequence numbers of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceRange {
    /// The first number.
    pub first: u64,
    /// How many; at least 1.
    pub len: u64,
}

/// Messages that have come back from failed deliveries equally often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedRange {
    /// Their sequence numbers.
    pub range: SequenceRange,
    /// How often, in all.
    pub count: u32,
}

/// One command of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// Append the message to each of its queues; those that no longer exist are skipped.
    Publish(Publish<'a>),
    /// Messages of a queue that are done with: acknowledged, discarded, purged.
    Settle {
        /// The queue.
        queue: QueueId,
        /// Their sequence numbers, ascending.
        ranges: Vec<SequenceRange>,
    },
    /// A queue of the log comes into being.
    Create(QueueId),
    /// A queue and all its messages go.
    Delete(QueueId),
    /// The queue is about to hand out messages; after a restart they count as redelivered.
    Attach(QueueId),
    /// Messages of a queue that came back from failed deliveries.
    Failed {
        /// The queue.
        queue: QueueId,
        /// Which and how often, ascending.
        ranges: Vec<FailedRange>,
    },
    /// The queue behaves like this from here on. Until then it has no rules.
    Configure(QueueId, QueueSettings),
    /// A message was refused that had a deduplication key: it is no duplicate when it comes again.
    Unlearn {
        /// The queue.
        queue: QueueId,
        /// The key.
        key: u128,
        /// The message's number, unless it goes on as a dead letter.
        sequence: Option<u64>,
    },
}

/// What queues' rules need to know of a message, so that nobody decodes its header again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Milliseconds that it may wait (property `expiration`).
    pub expiration: Option<u64>,
    /// The property `priority`. Queues differ in what its absence means.
    pub priority: Option<u8>,
    /// What its duplicates have in common (header `x-deduplication-header`).
    pub deduplication: Option<u128>,
    /// Milliseconds that it waits at a delayed exchange (header `x-delay`).
    pub delay: Option<u64>,
    /// The value that streams filter by (header `x-stream-filter-value`), at most 255 octets.
    pub filter: Option<&'a [u8]>,
    /// It is a dead letter: its header `x-death` is the broker's. One that a client has written counts for nothing, as in
    /// RabbitMQ since 4.0.
    pub dead_letter: bool,
}

const HAS_EXPIRATION: u8 = 1;
const HAS_PRIORITY: u8 = 1 << 1;
const HAS_DEDUPLICATION: u8 = 1 << 2;
const HAS_DELAY: u8 = 1 << 3;
const HAS_FILTER: u8 = 1 << 4;
const IS_DEAD_LETTER: u8 = 1 << 5;
const KNOWN_ATTRIBUTES: u8 = (1 << 6) - 1;

impl<'a> Attributes<'a> {
    /// Which of them are there.
    fn mark(&self) -> u8 {
        let bit = |bit: u8, there: bool| if there { bit } else { 0 };
        bit(HAS_EXPIRATION, self.expiration.is_some())
            | bit(HAS_PRIORITY, self.priority.is_some())
            | bit(HAS_DEDUPLICATION, self.deduplication.is_some())
            | bit(HAS_DELAY, self.delay.is_some())
            | bit(HAS_FILTER, self.filter.is_some())
            | bit(IS_DEAD_LETTER, self.dead_letter)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        if let Some(millis) = self.expiration {
            out.extend_from_slice(&millis.to_le_bytes());
        }
        out.extend(self.priority);
        if let Some(key) = self.deduplication {
            out.extend_from_slice(&key.to_le_bytes());
        }
        if let Some(millis) = self.delay {
            out.extend_from_slice(&millis.to_le_bytes());
        }
        if let Some(filter) = self.filter {
            let filter = &filter[..filter.len().min(255)];
            out.push(filter.len() as u8);
            out.extend_from_slice(filter);
        }
    }

    /// Reads them off the front of `octets`.
    fn decode(mark: u8, octets: &mut &'a [u8]) -> Result<Self, EntryError> {
        if mark & !KNOWN_ATTRIBUTES != 0 {
            return Err(EntryError::Message);
        }
        let has = |bit: u8| mark & bit != 0;
        Ok(Self {
            expiration: has(HAS_EXPIRATION).then(|| take_u64(octets)).transpose()?,
            priority: has(HAS_PRIORITY).then(|| take(octets).map(|[priority]| priority)).transpose()?,
            deduplication: has(HAS_DEDUPLICATION).then(|| take(octets).map(u128::from_le_bytes)).transpose()?,
            delay: has(HAS_DELAY).then(|| take_u64(octets)).transpose()?,
            filter: has(HAS_FILTER).then(|| take_filter(octets)).transpose()?,
            dead_letter: has(IS_DEAD_LETTER),
        })
    }
}

fn take_filter<'a>(octets: &mut &'a [u8]) -> Result<&'a [u8], EntryError> {
    let [len] = take(octets)?;
    let (filter, rest) = octets.split_at_checked(len.into()).ok_or(EntryError::Truncated)?;
    *octets = rest;
    Ok(filter)
}

/// A publish where it lies: its lengths are read and checked, nothing is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// All of the command.
    octets: &'a [u8],
    queue_count: usize,
    /// How far into the command the message begins.
    message_start: usize,
    pub(crate) exchange_len: u8,
    pub(crate) routing_key_len: u8,
    pub(crate) header_len: u32,
}

impl<'a> Publish<'a> {
    /// Reads the publish at the front of `octets`.
    ///
    /// # Errors
    /// It is another command, or longer than `octets`.
    pub fn decode(octets: &'a [u8]) -> Result<Self, EntryError> {
        let (head, rest) = octets.split_first_chunk::<PUBLISH_HEADER_LEN>().ok_or(EntryError::Truncated)?;
        let [kind, exchange_len, routing_key_len, mark, q0, q1, q2, q3, h0, h1, h2, h3, b0, b1, b2, b3] = *head;
        if kind != PUBLISH {
            return Err(EntryError::Kind(kind));
        }
        let queue_count = u32::from_le_bytes([q0, q1, q2, q3]);
        let header_len = u32::from_le_bytes([h0, h1, h2, h3]);
        let body_len = u32::from_le_bytes([b0, b1, b2, b3]);
        let queues_len = 4 * u64::from(queue_count);
        if (rest.len() as u64) < queues_len {
            return Err(EntryError::Truncated);
        }
        let mut behind = &rest[queues_len as usize..];
        if mark != 0 {
            Attributes::decode(mark, &mut behind)?;
        }
        let message_start = octets.len() - behind.len();
        let names = u64::from(exchange_len) + u64::from(routing_key_len);
        let len = names + u64::from(header_len) + u64::from(body_len);
        if (behind.len() as u64) < len {
            return Err(EntryError::Truncated);
        }
        let octets = &octets[..message_start + len as usize];
        let queue_count = queue_count as usize;
        Ok(Self { octets, queue_count, message_start, exchange_len, routing_key_len, header_len })
    }

    /// Octets of the command.
    #[expect(clippy::len_without_is_empty, reason = "a command is never empty")]
    pub fn len(&self) -> usize {
        self.octets.len()
    }

    /// The queues of this shard that it goes to.
    pub fn queues(&self) -> impl ExactSizeIterator<Item = QueueId> + use<'a> {
        let end = PUBLISH_HEADER_LEN + 4 * self.queue_count;
        let (queues, _) = self.octets[PUBLISH_HEADER_LEN..end].as_chunks();
        queues.iter().map(|queue| QueueId(u32::from_le_bytes(*queue)))
    }

    /// True if the message has no attributes.
    pub(crate) fn is_plain(&self) -> bool {
        self.octets[MARK] == 0
    }

    /// Octets of the command that are not the body.
    pub(crate) fn overhead(&self) -> u32 {
        let names = u32::from(self.exchange_len) + u32::from(self.routing_key_len);
        self.message_start as u32 + names + self.header_len
    }

    /// The queue, if it is only one.
    pub(crate) fn only_queue(&self) -> Option<QueueId> {
        let mut queues = self.queues();
        queues.next().filter(|_| queues.len() == 0)
    }

    /// How far into the command the message begins.
    pub(crate) fn message_start(&self) -> usize {
        self.message_start
    }

    /// What queues' rules need of the message. Most have nothing of this, so it is not kept but read again.
    pub fn attributes(&self) -> Attributes<'a> {
        let mut octets = &self.octets[PUBLISH_HEADER_LEN + 4 * self.queue_count..self.message_start];
        // They could be read when the publish was.
        Attributes::decode(self.octets[MARK], &mut octets).unwrap_or_default()
    }

    /// True if its queue has it from another one, as a dead letter.
    pub(crate) fn is_dead_letter(&self) -> bool {
        self.octets[MARK] & IS_DEAD_LETTER != 0
    }

    /// Makes sure that exchange and routing key are text, each for itself. Sessions have done so for what they encode.
    pub(crate) fn check_names(&self) -> Result<(), EntryError> {
        let names = &self.octets[self.message_start()..];
        let (exchange, rest) = names.split_at(usize::from(self.exchange_len));
        let routing_key = &rest[..usize::from(self.routing_key_len)];
        let are_text = [exchange, routing_key].into_iter().all(|name| core::str::from_utf8(name).is_ok());
        if are_text { Ok(()) } else { Err(EntryError::Message) }
    }
}

/// Names a logged message for as long as it lives, wherever its octets lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The queue that it waits in.
    pub queue: QueueId,
    /// Its number among that queue's logged messages.
    pub sequence: u64,
}

/// Writes the head of a publish to `queues` (how many, and which); the caller appends exchange, routing key, header
/// and body in this order.
pub fn encode_publish_head(
    queues: (usize, impl Iterator<Item = QueueId>),
    exchange_len: u8,
    routing_key_len: u8,
    header_len: u32,
    body_len: u32,
    attributes: &Attributes<'_>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&[PUBLISH, exchange_len, routing_key_len, attributes.mark()]);
    let (count, queues) = queues;
    out.extend_from_slice(&(count as u32).to_le_bytes());
    out.extend_from_slice(&header_len.to_le_bytes());
    out.extend_from_slice(&body_len.to_le_bytes());
    for queue in queues {
        out.extend_from_slice(&queue.0.to_le_bytes());
    }
    attributes.encode(out);
}

/// Writes a settle of `ranges`, which ascend and do not overlap.
pub fn encode_settle(queue: QueueId, ranges: &[SequenceRange], out: &mut Vec<u8>) {
    out.push(SETTLE);
    put_varint(u64::from(queue.0), out);
    put_varint(ranges.len() as u64, out);
    let mut end = 0;
    for range in ranges {
        put_varint(range.first - end, out);
        put_varint(range.len, out);
        end = range.first + range.len;
    }
}

/// Writes a failed of `ranges`, which ascend and do not overlap.
pub fn encode_failed(queue: QueueId, ranges: &[FailedRange], out: &mut Vec<u8>) {
    out.push(FAILED);
    put_varint(u64::from(queue.0), out);
    put_varint(ranges.len() as u64, out);
    let mut end = 0;
    for FailedRange { range, count } in ranges {
        put_varint(range.first - end, out);
        put_varint(range.len, out);
        put_varint(u64::from(*count), out);
        end = range.first + range.len;
    }
}

/// Writes a create.
pub fn encode_create(queue: QueueId, out: &mut Vec<u8>) {
    put_queue(CREATE, queue, out);
}

/// Writes a delete.
pub fn encode_delete(queue: QueueId, out: &mut Vec<u8>) {
    put_queue(DELETE, queue, out);
}

/// Writes an attach.
pub fn encode_attach(queue: QueueId, out: &mut Vec<u8>) {
    put_queue(ATTACH, queue, out);
}

/// Writes a configure.
pub fn encode_configure(queue: QueueId, settings: &QueueSettings, out: &mut Vec<u8>) {
    put_queue(CONFIGURE, queue, out);
    settings.encode(out);
}

/// Writes an unlearn.
pub fn encode_unlearn(queue: QueueId, key: u128, sequence: Option<u64>, out: &mut Vec<u8>) {
    put_queue(UNLEARN, queue, out);
    out.extend_from_slice(&key.to_le_bytes());
    put_varint(sequence.map_or(0, |sequence| sequence + 1), out);
}

/// Writes a relocation: publish commands, each with who refers to it.
pub fn encode_relocation<'a>(moved: impl ExactSizeIterator<Item = (&'a [Reference], &'a [u8])>, out: &mut Vec<u8>) {
    out.extend_from_slice(&(moved.len() as u32).to_le_bytes());
    for (references, publish) in moved {
        out.extend_from_slice(&(references.len() as u32).to_le_bytes());
        for reference in references {
            out.extend_from_slice(&reference.queue.0.to_le_bytes());
            out.extend_from_slice(&reference.sequence.to_le_bytes());
        }
        out.extend_from_slice(publish);
    }
}

/// Reads a relocation: `visit` is told of each reference, with where in `payload` its publish command begins and ends.
///
/// # Errors
/// `payload` is not a relocation; what comes before the mistake was told.
pub fn decode_relocation(
    payload: &[u8],
    mut visit: impl FnMut(Reference, core::ops::Range<usize>),
) -> Result<(), EntryError> {
    let mut rest = payload;
    for _ in 0..take_u32(&mut rest)? {
        let count = take_u32(&mut rest)? as usize;
        let len = count.checked_mul(REFERENCE_LEN).ok_or(EntryError::Truncated)?;
        let (references, publish) = rest.split_at_checked(len).ok_or(EntryError::Truncated)?;
        let start = payload.len() - publish.len();
        let end = start + Publish::decode(publish)?.len();
        let (references, _) = references.as_chunks::<REFERENCE_LEN>();
        for [q0, q1, q2, q3, sequence @ ..] in references {
            let queue = QueueId(u32::from_le_bytes([*q0, *q1, *q2, *q3]));
            visit(Reference { queue, sequence: u64::from_le_bytes(*sequence) }, start..end);
        }
        rest = &payload[end..];
    }
    if rest.is_empty() { Ok(()) } else { Err(EntryError::Trailing) }
}

/// Reads the next command off the front of `octets`.
pub fn decode_command<'a>(octets: &mut &'a [u8]) -> Result<Command<'a>, EntryError> {
    let (kind, rest) = octets.split_first().ok_or(EntryError::Truncated)?;
    if *kind == PUBLISH {
        let publish = Publish::decode(octets)?;
        *octets = &octets[publish.len()..];
        return Ok(Command::Publish(publish));
    }
    *octets = rest;
    match *kind {
        SETTLE => decode_settle(octets),
        FAILED => decode_failed(octets),
        CREATE => take_u32(octets).map(|queue| Command::Create(QueueId(queue))),
        DELETE => take_u32(octets).map(|queue| Command::Delete(QueueId(queue))),
        ATTACH => take_u32(octets).map(|queue| Command::Attach(QueueId(queue))),
        UNLEARN => {
            let (queue, key) = (QueueId(take_u32(octets)?), take(octets).map(u128::from_le_bytes)?);
            let sequence = take_varint(octets).ok_or(EntryError::Truncated)?.checked_sub(1);
            Ok(Command::Unlearn { queue, key, sequence })
        }
        CONFIGURE => {
            let queue = QueueId(take_u32(octets)?);
            QueueSettings::decode(octets)
                .map(|settings| Command::Configure(queue, settings))
                .ok_or(EntryError::Settings)
        }
        other => Err(EntryError::Kind(other)),
    }
}

/// The first queue of the publish at the front of `commands`.
pub fn first_queue(commands: &[u8]) -> Option<QueueId> {
    Publish::decode(commands).ok()?.queues().next()
}

fn decode_settle<'a>(octets: &mut &[u8]) -> Result<Command<'a>, EntryError> {
    let mut ranges = Vec::new();
    let queue = decode_ranges(octets, |range, _| {
        ranges.push(range);
        Ok(())
    })?;
    Ok(Command::Settle { queue, ranges })
}

fn decode_failed<'a>(octets: &mut &[u8]) -> Result<Command<'a>, EntryError> {
    let mut ranges = Vec::new();
    let queue = decode_ranges(octets, |range, octets| {
        let count = take_varint(octets).and_then(|count| u32::try_from(count).ok());
        ranges.push(FailedRange { range, count: count.ok_or(EntryError::Truncated)? });
        Ok(())
    })?;
    Ok(Command::Failed { queue, ranges })
}

/// Reads a queue and ranges of its sequence numbers; `each` takes a range and reads what follows it.
fn decode_ranges(
    octets: &mut &[u8],
    mut each: impl FnMut(SequenceRange, &mut &[u8]) -> Result<(), EntryError>,
) -> Result<QueueId, EntryError> {
    let number = |octets: &mut &[u8]| take_varint(octets).ok_or(EntryError::Truncated);
    let queue = QueueId(u32::try_from(number(octets)?).map_err(|_| EntryError::Truncated)?);
    let count = number(octets)?;
    let mut end = 0_u64;
    for _ in 0..count {
        let first = end.checked_add(number(octets)?).ok_or(EntryError::Truncated)?;
        let len = number(octets)?;
        end = first.checked_add(len).ok_or(EntryError::Truncated)?;
        each(SequenceRange { first, len }, octets)?;
    }
    Ok(queue)
}

fn put_queue(kind: u8, queue: QueueId, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&queue.0.to_le_bytes());
}

fn take_u32(octets: &mut &[u8]) -> Result<u32, EntryError> {
    take(octets).map(u32::from_le_bytes)
}

fn take_u64(octets: &mut &[u8]) -> Result<u64, EntryError> {
    take(octets).map(u64::from_le_bytes)
}

fn take<const N: usize>(octets: &mut &[u8]) -> Result<[u8; N], EntryError> {
    let (taken, rest) = octets.split_first_chunk().ok_or(EntryError::Truncated)?;
    *octets = rest;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use bytes::Bytes;

    use super::*;
    use crate::message::Message;

    fn publish(queues: &[u32], body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_publish_head(
            (queues.len(), queues.iter().map(|id| QueueId(*id))),
            2,
            1,
            3,
            body.len() as u32,
            &Attributes::default(),
            &mut out,
        );
        out.extend_from_slice(b"exkHDR");
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn a_publish_comes_back_with_its_queues_and_octets() {
        let octets = publish(&[7, 9], b"hello");
        let mut rest = &octets[..];
        let Ok(Command::Publish(publish)) = decode_command(&mut rest) else { panic!("not a publish") };
        assert_eq!(publish.queues().collect::<Vec<_>>(), [QueueId(7), QueueId(9)]);
        assert_eq!((publish.len(), rest.len()), (octets.len(), 0));
        let message = Message::from_publish(Bytes::from(octets)).expect("it is one publish");
        assert_eq!((message.exchange(), message.routing_key(), message.body()), ("ex", "k", &b"hello"[..]));
    }

    #[test]
    fn a_settle_comes_back_with_its_ranges() {
        let ranges = vec![SequenceRange { first: 3, len: 2 }, SequenceRange { first: 500, len: 1_000_000 }];
        let mut out = Vec::new();
        encode_settle(QueueId(4), &ranges, &mut out);
        let mut octets = &out[..];
        assert_eq!(decode_command(&mut octets), Ok(Command::Settle { queue: QueueId(4), ranges }));
        assert!(octets.is_empty());
    }

    #[test]
    fn a_failed_comes_back_with_its_ranges_and_every_cut_is_refused() {
        let failed = |(first, len, count)| FailedRange { range: SequenceRange { first, len }, count };
        let ranges = [(3, 2, 1), (500, 1_000_000, u32::MAX), (1_000_500, 1, 2)].map(failed).to_vec();
        let mut out = Vec::new();
        encode_failed(QueueId(4), &ranges, &mut out);
        for cut in 0..out.len() {
            assert!(decode_command(&mut &out[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(decode_command(&mut &out[..]), Ok(Command::Failed { queue: QueueId(4), ranges }));
    }

    #[test]
    fn queue_commands_come_back() {
        let queue = QueueId(u32::MAX);
        let settings = QueueSettings { logged: true, message_ttl: Some(60_000), ..QueueSettings::default() };
        let configure = Command::Configure(queue, settings);
        for expected in [
            Command::Create(queue),
            Command::Delete(queue),
            Command::Attach(queue),
            Command::Unlearn { queue, key: 7, sequence: None },
            Command::Unlearn { queue, key: 7, sequence: Some(u64::MAX - 1) },
            configure,
        ] {
            let mut out = Vec::new();
            match &expected {
                Command::Delete(queue) => encode_delete(*queue, &mut out),
                Command::Attach(queue) => encode_attach(*queue, &mut out),
                Command::Unlearn { queue, key, sequence } => encode_unlearn(*queue, *key, *sequence, &mut out),
                Command::Configure(queue, settings) => encode_configure(*queue, settings, &mut out),
                _ => encode_create(queue, &mut out),
            }
            assert_eq!(decode_command(&mut &out[..]), Ok(expected));
        }
    }

    #[test]
    fn an_entry_header_comes_back_and_other_versions_are_refused() {
        let header = EntryHeader { commands: 5, epoch_start: true, now_ms: 12, epoch: 3 };
        assert_eq!(EntryHeader::decode(&mut &header.encode()[..]), Ok(header));
        for version in [MACHINE_VERSION - 1, MACHINE_VERSION + 1] {
            let mut other = header.encode();
            other[4..6].copy_from_slice(&version.to_le_bytes());
            assert_eq!(EntryHeader::decode(&mut &other[..]), Err(EntryError::Version(version)));
        }
    }

    #[test]
    fn who_cannot_read_an_entry_is_told_which_program_can() {
        let told = |version| std::format!("{}", EntryError::Version(version));
        let versions =
            |version| std::format!("entry has machine version {version}, this binary applies {MACHINE_VERSION}");
        let (older, newer) = (MACHINE_VERSION - 1, MACHINE_VERSION + 1);
        assert_eq!(told(older), versions(older) + "; run the older warren-broker that wrote it");
        assert_eq!(told(newer), versions(newer) + "; run a newer warren-broker");
    }

    #[test]
    fn every_cut_of_a_command_is_an_error_and_never_a_panic() {
        let mut settle = Vec::new();
        encode_settle(QueueId(4), &[SequenceRange { first: 300, len: 300 }], &mut settle);
        let mut configure = Vec::new();
        encode_configure(
            QueueId(4),
            &QueueSettings { max_length: Some(300), ..QueueSettings::default() },
            &mut configure,
        );
        for whole in [publish(&[1, 2, 3], b"body"), settle, vec![CREATE, 1, 0, 0, 0], configure] {
            for cut in 0..whole.len() {
                assert!(decode_command(&mut &whole[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_relocation_comes_back_with_each_reference_and_where_its_message_lies() {
        let (first, second) = (publish(&[7, 9], b"one"), publish(&[7], b"two"));
        let references =
            [(7, 5), (9, u64::MAX), (7, 6)].map(|(queue, sequence)| Reference { queue: QueueId(queue), sequence });
        let moved = [(&references[..2], &first[..]), (&references[2..], &second[..])];
        let mut payload = Vec::new();
        encode_relocation(moved.into_iter(), &mut payload);
        let mut found = Vec::new();
        let visit = |reference, at: core::ops::Range<usize>| found.push((reference, payload[at].to_vec()));
        assert_eq!(decode_relocation(&payload, visit), Ok(()));
        let expected = [(references[0], first.clone()), (references[1], first), (references[2], second)];
        assert_eq!(found, expected);
        for cut in 0..payload.len() {
            assert!(decode_relocation(&payload[..cut], |_, _| ()).is_err(), "cut at {cut}");
        }
        payload.push(0);
        assert_eq!(decode_relocation(&payload, |_, _| ()), Err(EntryError::Trailing));
    }
}
