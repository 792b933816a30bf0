//! A message as the broker keeps it: the octets it came with, never decoded again.

use bytes::Bytes;

/// A routed message. Its parts lie one behind the other in one shared buffer:
/// exchange name, routing key, content header payload (as received), body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    octets: Bytes,
    exchange_len: u8,
    routing_key_len: u8,
    header_len: u32,
}

impl Message {
    /// Takes `octets` apart by the three lengths; what is left is the body.
    /// `None` if the lengths exceed the buffer or the names are not UTF-8.
    pub fn new(octets: Bytes, exchange_len: u8, routing_key_len: u8, header_len: u32) -> Option<Self> {
        let names = usize::from(exchange_len) + usize::from(routing_key_len);
        let head = names.checked_add(usize::try_from(header_len).ok()?)?;
        let boundary = usize::from(exchange_len);
        core::str::from_utf8(octets.get(..boundary)?).ok()?;
        core::str::from_utf8(octets.get(boundary..names)?).ok()?;
        (head <= octets.len()).then_some(Self { octets, exchange_len, routing_key_len, header_len })
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

    /// Octets held, body included.
    pub fn size(&self) -> usize {
        self.octets.len()
    }

    fn names_len(&self) -> usize {
        usize::from(self.exchange_len) + usize::from(self.routing_key_len)
    }

    fn name(&self, start: usize, end: usize) -> &str {
        // `new` checked both names; an empty name in their place would be a bug of ours, not the client's.
        core::str::from_utf8(&self.octets[start..end]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_were_laid_down() {
        let message = Message::new(Bytes::from_static(b"exkeyHDRbody"), 2, 3, 3).expect("lengths fit");
        assert_eq!((message.exchange(), message.routing_key()), ("ex", "key"));
        assert_eq!((message.header(), message.body()), (&b"HDR"[..], &b"body"[..]));
        assert_eq!(message.size(), 12);
    }

    #[test]
    fn lengths_beyond_the_buffer_are_refused() {
        assert_eq!(Message::new(Bytes::from_static(b"abc"), 2, 1, 1), None);
        assert_eq!(Message::new(Bytes::from_static(b"abc"), 4, 0, 0), None);
        assert_eq!(Message::new(Bytes::from_static(b"abc"), 0, 0, u32::MAX), None);
    }

    #[test]
    fn names_that_are_not_text_are_refused() {
        assert_eq!(Message::new(Bytes::from_static(b"\xffab"), 1, 1, 0), None);
        assert_eq!(Message::new(Bytes::from_static(b"a\xffb"), 1, 1, 0), None);
    }
}
