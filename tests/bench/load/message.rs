//! The messages of a load: encoded once, then only numbered and stamped.
//!
//! A body begins with two numbers of eight octets, most significant first: which message it is, and when it was sent.

use anyhow::{Context, Result, ensure};
use warren_amqp::content::{encode_body_frames, encode_header};
use warren_amqp::{BasicProperties, ToServer, basic};

use super::frames::number_at;

/// What the smallest body holds.
pub(crate) const SIZE_MIN: usize = 16;
/// What one write to the socket brings at most, if a message is not larger.
const BATCH_LEN: usize = 64 << 10;
const FRAME_MAX: u32 = 131_072;
/// Above these bits of a message's number is the number of its producer.
const PRODUCER_SHIFT: u32 = 40;

/// Which message, and when it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Counted over all loads of a process; below 2^24.
    pub(super) producer: u64,
    /// From 1, per producer.
    pub(super) number: u64,
    /// Nanoseconds of the machine's monotonic clock.
    pub(super) sent: u64,
}

/// Encoded publishes, one after the other.
#[derive(Debug)]
pub(super) struct Batch {
    octets: Vec<u8>,
    message_len: usize,
    /// Where in a message its body begins.
    body_at: usize,
}

impl Stamp {
    /// Reads the beginning of a body.
    ///
    /// # Errors
    /// It is too short to be one of ours.
    pub(super) fn read(body: &[u8]) -> Result<Self> {
        let (number, sent) =
            number_at(body, 0).zip(number_at(body, 8)).context("a body that no producer of ours sent")?;
        Ok(Self { producer: number >> PRODUCER_SHIFT, number: number & ((1 << PRODUCER_SHIFT) - 1), sent })
    }

    /// What is added up at both ends, to see that the same messages came that were sent.
    pub(super) fn identity(self) -> u64 {
        self.producer << PRODUCER_SHIFT | self.number
    }
}

impl Batch {
    /// Publishes of bodies of `size` octets.
    ///
    /// # Errors
    /// A body of that size cannot hold a stamp.
    pub(super) fn new(exchange: &str, routing_key: &str, size: usize, persistent: bool) -> Result<Self> {
        ensure!(size >= SIZE_MIN, "a body has at least {SIZE_MIN} octets, for its number and the time it was sent");
        let mut message = Vec::new();
        let publish = basic::Publish { exchange, routing_key, mandatory: false, immediate: false };
        ToServer::BasicPublish(publish).encode(1, &mut message);
        let delivery_mode = Some(if persistent { 2 } else { 1 });
        encode_header(1, size as u64, &BasicProperties { delivery_mode, ..BasicProperties::default() }, &mut message);
        let body_at = message.len() + 7;
        encode_body_frames(1, &vec![b'x'; size], FRAME_MAX, &mut message);
        let octets = message.repeat((BATCH_LEN / message.len()).max(1));
        Ok(Self { octets, message_len: message.len(), body_at })
    }

    /// How many messages it holds.
    pub(super) fn capacity(&self) -> u64 {
        (self.octets.len() / self.message_len) as u64
    }

    /// Marks the message at `position`.
    pub(super) fn stamp(&mut self, position: u64, stamp: Stamp) {
        let at = position as usize * self.message_len + self.body_at;
        self.octets[at..at + 8].copy_from_slice(&stamp.identity().to_be_bytes());
        self.octets[at + 8..at + 16].copy_from_slice(&stamp.sent.to_be_bytes());
    }

    /// The octets of the first `count` messages.
    pub(super) fn octets(&self, count: u64) -> &[u8] {
        &self.octets[..count as usize * self.message_len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_amqp::{Frame, decode_frame};

    #[test]
    fn each_message_of_a_batch_carries_its_stamp() {
        let mut batch = Batch::new("", "queue", 20, true).unwrap();
        let stamps = [5, 6].map(|number| Stamp { producer: 3, number, sent: number * 1000 });
        for (position, stamp) in (0..).zip(stamps) {
            batch.stamp(position, stamp);
        }
        let (mut octets, mut bodies) = (batch.octets(2), Vec::new());
        while let Some((frame, len)) = decode_frame(octets, FRAME_MAX).unwrap() {
            if let Frame::Body { payload, .. } = frame {
                assert_eq!(payload.len(), 20);
                bodies.push(Stamp::read(payload).unwrap());
            }
            octets = &octets[len..];
        }
        assert_eq!(bodies, stamps);
    }

    #[test]
    fn a_body_too_small_for_a_stamp_is_refused() {
        assert!(Batch::new("", "queue", 15, false).is_err());
        assert!(Stamp::read(&[0; 15]).is_err());
    }
}
