//! Class 85, `confirm`. RabbitMQ's publisher confirms.
//!
//! Written by `spec/generate.rs`; change that.

use alloc::vec::Vec;

use crate::error::DecodeError;
use crate::wire::{self, Reader};

/// `confirm.select` (85, 10): The channel's publishes are to be confirmed, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Select {
    /// The server sends no answer; errors still close.
    pub no_wait: bool,
}

impl Select {
    /// Class and method id.
    pub const ID: (u16, u16) = (85, 10);
    /// The name.
    pub const NAME: &'static str = "confirm.select";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let bits = reader.octet("no-wait")?;
        let no_wait = wire::bit(bits, 0);
        reader.finish()?;
        Ok(Self { no_wait })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.push(wire::bits([self.no_wait]));
        });
    }
}

/// `confirm.select-ok` (85, 11): Confirm mode is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectOk;

impl SelectOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (85, 11);
    /// The name.
    pub const NAME: &'static str = "confirm.select-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let reader = Reader::new(Self::NAME, fields);
        reader.finish()?;
        Ok(Self)
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |_| {});
    }
}
