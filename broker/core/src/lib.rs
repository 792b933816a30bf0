//! Every rule of the broker as pure state machines.
//!
//! Four machines, each fed with inputs and, where time matters, a `now`; each answering with outputs:
//!
//! - [`session`]: one AMQP connection. Client methods in; server methods, shard inputs and topology requests out.
//! - [`topology`]: vhosts, exchanges, queues' names and bindings. Routing is a read of an immutable snapshot.
//! - [`queue`]: the queues of one shard: ready and unacknowledged messages, consumers, what has to be logged.
//! - [`forward`]: the messages that leave a queue for others: dead letters, and delayed ones that are due.
//!
//! Nothing here opens a socket or a file, reads a clock, draws a random number or spawns a task: what the
//! machines need from the world comes in as a value.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod batch;
pub mod command;
mod error;
#[cfg(test)]
mod fake_log;
pub mod forward;
pub mod header;
mod identity;
pub mod limits;
mod location;
mod message;
pub mod queue;
mod secret;
pub mod session;
mod time;
pub mod topology;
mod varint;

pub use error::Exception;
pub use identity::{ChannelKey, ConnectionId, ConsumerKey, QueueId, ShardId};
pub use location::{Bodies, Location};
pub use message::Message;
pub use secret::Secret;
pub use time::Instant;
