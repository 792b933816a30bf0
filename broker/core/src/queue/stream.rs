//! Streams: messages that stay when they have been read, until there are too many or they are too old.
//!
//! ```text
//!          dropped     chunk         chunk          chunk
//!          ×××××××  [ 256 msgs ]  [ 256 msgs ]  [ 17 msgs ]
//!                   ^ first offset      ^ reader         ^ reader that rests: there is nothing more yet
//! ```
//!
//! A message's *offset* is its sequence number: the first of the stream has 0, and none is ever left out. All messages of a
//! stream are logged. What memory keeps of one is a few octets (see [`record`]). Whole chunks are dropped from the front,
//! which is logged as a settlement of their messages; readers that were there go on with what is left.
//!
//! Each reader gets every message that it wants, in order, and its acknowledgements give it room for more. What a
//! reader is handed has *positions* of its own, so that a settlement says whose room it is.

mod chunk;
mod filter;
mod messages;
mod reader;
mod record;
mod snapshot;

#[cfg(test)]
mod tests;

pub(super) use messages::{Messages, Retention};
pub(super) use reader::Readers;
pub(super) use record::{Record, fingerprint};
pub(super) use snapshot::SharedStream;

/// What a queue has instead of ready and held messages if it is a stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) messages: Messages,
    pub(super) readers: Readers,
}
