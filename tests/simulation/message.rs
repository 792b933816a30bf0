//! Messages that know themselves: from its number and length every octet of a message follows.

use bytes::Bytes;
use warren_core::command::{Attributes, encode_publish_head};
use warren_core::{Message, QueueId};

use warren_storage::Random;

/// A message's number: its publisher in the upper half, and its place among that publisher's messages in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageId(pub(crate) u64);

impl MessageId {
    pub(crate) fn new(publisher: u64, number: u64) -> Self {
        Self(publisher << 32 | number)
    }
}

const EXCHANGE: &[u8] = b"orders";

/// Appends the publish command of a message with a body of `len` octets, 8 at least, to `out`.
pub(crate) fn encode(id: MessageId, len: usize, queues: &[u32], out: &mut Vec<u8>) {
    let key = format!("k{}", id.0 % 1_000);
    let header = (id.0 ^ 0xffff).to_le_bytes();
    let ids = (queues.len(), queues.iter().map(|queue| QueueId(*queue)));
    encode_publish_head(
        ids,
        EXCHANGE.len() as u8,
        key.len() as u8,
        header.len() as u32,
        len as u32,
        &Attributes::default(),
        out,
    );
    for part in [EXCHANGE, key.as_bytes(), &header, &body(id, len)] {
        out.extend_from_slice(part);
    }
}

fn body(id: MessageId, len: usize) -> Vec<u8> {
    let mut body = id.0.to_be_bytes().to_vec();
    let mut random = Random(id.0);
    while body.len() < len {
        body.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    body.truncate(len);
    body
}

/// Which message this claims to be.
pub(crate) fn id(message: &Message) -> MessageId {
    let head = message.body().first_chunk().expect("bodies begin with their number");
    MessageId(u64::from_be_bytes(*head))
}

/// Every octet is the one that was published.
pub(crate) fn check(message: &Message, len: usize) {
    let id = id(message);
    let mut command = Vec::new();
    encode(id, len, &[], &mut command);
    let published = Message::from_publish(Bytes::from(command)).expect("it is a publish");
    let parts = |message: &Message| {
        let names = [message.exchange().to_owned(), message.routing_key().to_owned()];
        (names, message.header().to_vec(), message.body().to_vec())
    };
    assert_eq!(parts(message), parts(&published), "{id:?} has other octets than were published");
}
