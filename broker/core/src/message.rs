//! A message as the broker keeps it: the octets it came with, never decoded again.

use bytes::Bytes;

use crate::command::{EntryError, Publish};

/// A routed message. Its parts lie one behind the other in one shared buffer:
/// exchange name, routing key, content header payload (as received), body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    octets: Bytes,
    exchange_len: u8,
    routing_key_len: u8,
    dead_letter: bool,
    header_len: u32,
}

impl Message {
    /// The message of a publish command (see [`crate::command`]), whose octets it shares.
    ///
    /// # Errors
    /// `command` is not one publish command from end to end, or its names are not text.
    pub fn from_publish(command: Bytes) -> Result<Self, EntryError> {
        let publish = Publish::decode(&command)?;
        if publish.len() != command.len() {
            return Err(EntryError::Message);
        }
        publish.check_names()?;
        Ok(Self::within(&command, 0, &publish))
    }

    /// The message of `publish`, which was read `from` octets into `commands`. Its names were checked when they came in.
    pub(crate) fn within(commands: &Bytes, from: usize, publish: &Publish<'_>) -> Self {
        Self {
            octets: commands.slice(from + publish.message_start()..from + publish.len()),
            exchange_len: publish.exchange_len,
            routing_key_len: publish.routing_key_len,
            dead_letter: publish.is_dead_letter(),
            header_len: publish.header_len,
        }
    }

    /// The same message in a buffer of its own: `octets`, of which it takes its part off the front.
    pub(crate) fn moved_to(&self, octets: &mut Bytes) -> Self {
        Self { octets: octets.split_to(self.octets.len()), ..*self }
    }

    /// All parts, one behind the other.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The exchange it was published to.
    pub fn exchange(&self) -> &str {
        self.name(0, usize::from(self.exchange_len))
    }

    /// The routing key it was published with.
    pub fn routing_key(&self) -> &str {
        let start = usize::from(self.exchange_len);
        self.name(start, start + usize::from(self.routing_key_len))
    }

    /// The payload of the content header frame, as the publisher sent it.
    pub fn header(&self) -> &[u8] {
        let start = self.names_len();
        &self.octets[start..start + self.header_len as usize]
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.octets[self.names_len() + self.header_len as usize..]
    }

    /// Whether it has died before; only then is its header `x-death` the broker's.
    pub fn is_dead_letter(&self) -> bool {
        self.dead_letter
    }

    /// Octets held, body included.
    pub fn size(&self) -> usize {
        self.octets.len()
    }

    fn names_len(&self) -> usize {
        usize::from(self.exchange_len) + usize::from(self.routing_key_len)
    }

    fn name(&self, start: usize, end: usize) -> &str {
        // The session that received it or the log's reader checked both names; an empty name in their place would be a
        // bug of ours, not the client's.
        core::str::from_utf8(&self.octets[start..end]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::QueueId;
    use crate::command::{Attributes, encode_publish_head};

    fn publish(names: (&[u8], &[u8]), header: &[u8], body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let (exchange_len, key_len) = (names.0.len() as u8, names.1.len() as u8);
        let queues = (2, [QueueId(1), QueueId(2)].into_iter());
        encode_publish_head(
            queues,
            exchange_len,
            key_len,
            header.len() as u32,
            body.len() as u32,
            &Attributes::default(),
            &mut out,
        );
        [names.0, names.1, header, body].iter().for_each(|part| out.extend_from_slice(part));
        out
    }

    #[test]
    fn parts_come_back_as_they_were_laid_down() {
        let octets = publish((b"ex", b"key"), b"HDR", b"body");
        let message = Message::from_publish(Bytes::from(octets)).expect("it is a publish");
        assert_eq!((message.exchange(), message.routing_key()), ("ex", "key"));
        assert_eq!((message.header(), message.body()), (&b"HDR"[..], &b"body"[..]));
        assert_eq!(message.size(), 12);
    }

    #[test]
    fn what_is_not_one_publish_from_end_to_end_is_refused() {
        let whole = publish((b"ex", b"key"), b"HDR", b"body");
        for cut in 0..whole.len() {
            assert!(Message::from_publish(Bytes::copy_from_slice(&whole[..cut])).is_err(), "cut at {cut}");
        }
        let longer = [&whole[..], b"x"].concat();
        assert_eq!(Message::from_publish(Bytes::from(longer)), Err(EntryError::Message));
    }

    #[test]
    fn names_that_are_not_text_are_refused() {
        for names in [(&b"\xff"[..], &b"k"[..]), (b"e", b"\xff"), (b"\xc3", b"\xa4")] {
            let octets = Bytes::from(publish(names, b"", b""));
            assert_eq!(Message::from_publish(octets), Err(EntryError::Message));
        }
    }
}
