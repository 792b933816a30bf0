//! What is written to a shard's log, and how. The format stands here and nowhere else.
//!
//! An entry is one batch, so that one record, one sync and one round of consensus carry many commands:
//!
//! ```text
//! entry    commands u32 | machine_version u16 | flags u16 | now_ms u64 | epoch u64      24 octets, little-endian
//!          then that many commands
//! publish  1 u8 | exchange_len u8 | routing_key_len u8 | 0 u8 | queues u32 | header_len u32 | body_len u32
//!          then queues × queue u32 | exchange | routing key | content header payload | body
//! settle   2 u8 | queue varint | ranges varint | ranges × (first: varint, from the end of the range before; len varint)
//! create   3 u8 | queue u32
//! delete   4 u8 | queue u32
//! attach   5 u8 | queue u32
//! ```
//!
//! A varint is LEB128, least significant group first, at most ten octets. `flags` bit 0 marks the first entry of an
//! epoch, that is of a leader's time in office. A publish is encoded by the session that received it, in the same
//! form whether it will be logged or not, and shared from there on: between client and log nothing copies a body twice.

use alloc::vec::Vec;

use bytes::{Buf, Bytes};

use crate::identity::QueueId;
use crate::message::Message;

/// The rules by which entries are applied. A node refuses entries of a version it does not know.
pub const MACHINE_VERSION: u16 = 1;

const ENTRY_HEADER_LEN: usize = 24;
const FLAG_EPOCH_START: u16 = 1;
const PUBLISH: u8 = 1;
const SETTLE: u8 = 2;
const CREATE: u8 = 3;
const DELETE: u8 = 4;
const ATTACH: u8 = 5;
const PUBLISH_HEADER_LEN: usize = 16;

/// Why an entry cannot be read. The log's checksums have passed, so this is a newer version or a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The entry ends within a header or command.
    #[error("entry ends within a command")]
    Truncated,
    /// The entry was written by rules that this binary does not have.
    #[error("entry has machine version {0}, this binary applies {MACHINE_VERSION}; run a newer warren-broker")]
    Version(u16),
    /// A command of unknown kind.
    #[error("entry has a command of unknown kind {0}")]
    Kind(u8),
    /// A message's lengths or names contradict each other.
    #[error("entry has a malformed message")]
    Message,
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
    pub fn decode(entry: &mut Bytes) -> Result<Self, EntryError> {
        if entry.len() < ENTRY_HEADER_LEN {
            return Err(EntryError::Truncated);
        }
        let commands = entry.get_u32_le();
        let version = entry.get_u16_le();
        let flags = entry.get_u16_le();
        if version != MACHINE_VERSION {
            return Err(EntryError::Version(version));
        }
        let epoch_start = flags & FLAG_EPOCH_START != 0;
        Ok(Self { commands, epoch_start, now_ms: entry.get_u64_le(), epoch: entry.get_u64_le() })
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

/// One command of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Append the message to each of the queues.
    Publish {
        /// Queues of this shard; those that no longer exist are skipped.
        queues: Vec<QueueId>,
        /// The message.
        message: Message,
    },
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
}

/// Writes the head of a publish to `queues` (how many, and which); the caller appends exchange, routing key, header
/// and body in this order.
pub fn encode_publish_head(
    queues: (usize, impl Iterator<Item = QueueId>),
    exchange_len: u8,
    routing_key_len: u8,
    header_len: u32,
    body_len: u32,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&[PUBLISH, exchange_len, routing_key_len, 0]);
    let (count, queues) = queues;
    out.extend_from_slice(&(count as u32).to_le_bytes());
    out.extend_from_slice(&header_len.to_le_bytes());
    out.extend_from_slice(&body_len.to_le_bytes());
    for queue in queues {
        out.extend_from_slice(&queue.0.to_le_bytes());
    }
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

/// Reads the next command off the front of `octets`; its message shares the buffer.
pub fn decode_command(octets: &mut Bytes) -> Result<Command, EntryError> {
    let kind = *octets.first().ok_or(EntryError::Truncated)?;
    match kind {
        PUBLISH => decode_publish(octets),
        SETTLE => decode_settle(octets),
        CREATE => decode_queue(octets).map(Command::Create),
        DELETE => decode_queue(octets).map(Command::Delete),
        ATTACH => decode_queue(octets).map(Command::Attach),
        other => Err(EntryError::Kind(other)),
    }
}

/// The first queue of the publish at the front of `commands`.
pub fn first_queue(commands: &[u8]) -> Option<QueueId> {
    let octets = commands.get(PUBLISH_HEADER_LEN..PUBLISH_HEADER_LEN + 4)?;
    Some(QueueId(u32::from_le_bytes(octets.try_into().ok()?)))
}

fn decode_publish(octets: &mut Bytes) -> Result<Command, EntryError> {
    if octets.len() < PUBLISH_HEADER_LEN {
        return Err(EntryError::Truncated);
    }
    octets.advance(1);
    let (exchange_len, routing_key_len) = (octets.get_u8(), octets.get_u8());
    octets.advance(1);
    let count = octets.get_u32_le() as usize;
    let (header_len, body_len) = (octets.get_u32_le(), octets.get_u32_le());
    if octets.len() / 4 < count {
        return Err(EntryError::Truncated);
    }
    let queues = (0..count).map(|_| QueueId(octets.get_u32_le())).collect();
    let names = usize::from(exchange_len) + usize::from(routing_key_len);
    let len = names as u64 + u64::from(header_len) + u64::from(body_len);
    let len = usize::try_from(len).map_err(|_| EntryError::Truncated)?;
    if octets.len() < len {
        return Err(EntryError::Truncated);
    }
    let message = Message::new(octets.split_to(len), exchange_len, routing_key_len, header_len);
    Ok(Command::Publish { queues, message: message.ok_or(EntryError::Message)? })
}

fn decode_settle(octets: &mut Bytes) -> Result<Command, EntryError> {
    octets.advance(1);
    let queue = QueueId(u32::try_from(take_varint(octets)?).map_err(|_| EntryError::Truncated)?);
    let count = take_varint(octets)?;
    let mut ranges = Vec::new();
    let mut end = 0_u64;
    for _ in 0..count {
        let first = end.checked_add(take_varint(octets)?).ok_or(EntryError::Truncated)?;
        let len = take_varint(octets)?;
        end = first.checked_add(len).ok_or(EntryError::Truncated)?;
        ranges.push(SequenceRange { first, len });
    }
    Ok(Command::Settle { queue, ranges })
}

fn decode_queue(octets: &mut Bytes) -> Result<QueueId, EntryError> {
    if octets.len() < 5 {
        return Err(EntryError::Truncated);
    }
    octets.advance(1);
    Ok(QueueId(octets.get_u32_le()))
}

fn put_queue(kind: u8, queue: QueueId, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&queue.0.to_le_bytes());
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(octets: &mut Bytes) -> Result<u64, EntryError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        if octets.is_empty() {
            return Err(EntryError::Truncated);
        }
        let octet = octets.get_u8();
        value |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(EntryError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn publish(queues: &[u32], body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_publish_head((queues.len(), queues.iter().map(|id| QueueId(*id))), 2, 1, 3, body.len() as u32, &mut out);
        out.extend_from_slice(b"exkHDR");
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn a_publish_comes_back_with_its_queues_and_octets() {
        let mut octets = Bytes::from(publish(&[7, 9], b"hello"));
        let Ok(Command::Publish { queues, message }) = decode_command(&mut octets) else { panic!("not a publish") };
        assert_eq!(queues, vec![QueueId(7), QueueId(9)]);
        assert_eq!((message.exchange(), message.routing_key(), message.body()), ("ex", "k", &b"hello"[..]));
        assert!(octets.is_empty());
    }

    #[test]
    fn a_settle_comes_back_with_its_ranges() {
        let ranges = vec![SequenceRange { first: 3, len: 2 }, SequenceRange { first: 500, len: 1_000_000 }];
        let mut out = Vec::new();
        encode_settle(QueueId(4), &ranges, &mut out);
        let mut octets = Bytes::from(out);
        assert_eq!(decode_command(&mut octets), Ok(Command::Settle { queue: QueueId(4), ranges }));
        assert!(octets.is_empty());
    }

    #[test]
    fn queue_commands_come_back() {
        let queue = QueueId(u32::MAX);
        for expected in [Command::Create(queue), Command::Delete(queue), Command::Attach(queue)] {
            let mut out = Vec::new();
            match expected {
                Command::Delete(queue) => encode_delete(queue, &mut out),
                Command::Attach(queue) => encode_attach(queue, &mut out),
                _ => encode_create(queue, &mut out),
            }
            assert_eq!(decode_command(&mut Bytes::from(out)), Ok(expected));
        }
    }

    #[test]
    fn an_entry_header_comes_back_and_other_versions_are_refused() {
        let header = EntryHeader { commands: 5, epoch_start: true, now_ms: 12, epoch: 3 };
        let mut octets = Bytes::copy_from_slice(&header.encode());
        assert_eq!(EntryHeader::decode(&mut octets), Ok(header));
        let mut newer = header.encode();
        newer[4] = 9;
        assert_eq!(EntryHeader::decode(&mut Bytes::copy_from_slice(&newer)), Err(EntryError::Version(9)));
    }

    #[test]
    fn every_cut_of_a_command_is_an_error_and_never_a_panic() {
        let mut settle = Vec::new();
        encode_settle(QueueId(4), &[SequenceRange { first: 300, len: 300 }], &mut settle);
        for whole in [publish(&[1, 2, 3], b"body"), settle, vec![CREATE, 1, 0, 0, 0]] {
            for cut in 0..whole.len() {
                assert!(decode_command(&mut Bytes::copy_from_slice(&whole[..cut])).is_err(), "cut at {cut}");
            }
        }
    }
}
