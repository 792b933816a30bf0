//! AMQP 0-9-1 octets to values and back.
//!
//! This crate owns the wire format and nothing else: no IO, no clock, no state between calls. Everything decoded
//! borrows from the caller's buffer; everything encoded is appended to the caller's `Vec<u8>`.
//!
//! In reading order:
//! - [`frame`] splits a stream of octets into frames,
//! - [`spec`] turns a method frame's payload into [`ToServer`] or [`ToClient`] and back (generated, checked in),
//! - [`content`] reads and writes what follows `basic.publish` and its like: header and body frames,
//! - [`publish`] reads a whole publish, and [`delivery`] writes a whole delivery, in one go,
//! - [`changes`] alters a few properties of a message and leaves the others as they came,
//! - [`table`] walks field tables without recursion,
//! - [`error`] says what a peer's mistake costs it, [`limits`] names every bound.
//!
//! RabbitMQ's practice decides where it differs from the specification's letter; such places say so.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod changes;
pub mod content;
pub mod delivery;
pub mod error;
pub mod frame;
pub mod limits;
pub mod publish;
pub mod spec;
pub mod table;
mod wire;

pub use changes::Changes;
pub use content::{BasicProperties, Header, Properties};
pub use error::{DecodeError, ReplyCode, Severity};
pub use frame::{Frame, FrameError, decode_frame};
pub use limits::TableLimits;
pub use publish::{WholePublish, decode_whole_publish};
pub use spec::{ToClient, ToServer, access, basic, channel, confirm, connection, exchange, queue, tx};
pub use table::{Array, ArrayBuilder, Table, TableBuilder, TableError, Value};
