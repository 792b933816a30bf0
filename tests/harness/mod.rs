//! What tests of a real broker process need: the process ([`Broker`]), an AMQP client that does nothing by itself
//! ([`Connection`]), and a judge of what was sent and what arrived ([`History`]).

mod broker;
mod connection;
mod history;
mod memory_group;

pub use broker::{Broker, DataFolder, Settings};
pub use connection::{Connection, Event, Message};
pub use history::{History, Verdict};
pub use memory_group::MemoryGroup;

pub use crate::process::wait_until;
