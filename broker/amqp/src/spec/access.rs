//! Class 30, `access`. Access tickets of AMQP 0-8. Old clients still ask; the answer means nothing.
//!
//! Written by `spec/generate.rs`; change that.

use alloc::vec::Vec;

use crate::error::DecodeError;
use crate::wire::{self, Reader};

/// `access.request` (30, 10): Ask for an access ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Name of the access realm.
    pub realm: &'a str,
    /// Only this connection (declare) or this consumer (consume) may use the object.
    pub exclusive: bool,
    /// Only check that the object exists.
    pub passive: bool,
    /// Whether content may flow (channel.flow) or active access is asked for (access.request).
    pub active: bool,
    /// Write access is asked for.
    pub write: bool,
    /// Read access is asked for.
    pub read: bool,
}

impl<'a> Request<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (30, 10);
    /// The name.
    pub const NAME: &'static str = "access.request";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let realm = reader.shortstr("realm")?;
        let bits = reader.octet("exclusive, passive, active, write, read")?;
        let exclusive = wire::bit(bits, 0);
        let passive = wire::bit(bits, 1);
        let active = wire::bit(bits, 2);
        let write = wire::bit(bits, 3);
        let read = wire::bit(bits, 4);
        reader.finish()?;
        Ok(Self { realm, exclusive, passive, active, write, read })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_shortstr(out, self.realm);
            out.push(wire::bits([self.exclusive, self.passive, self.active, self.write, self.read]));
        });
    }
}

/// `access.request-ok` (30, 11): Grant it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestOk {
    /// Access ticket; ignored by every later method.
    pub ticket: u16,
}

impl RequestOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (30, 11);
    /// The name.
    pub const NAME: &'static str = "access.request-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let ticket = reader.short("ticket")?;
        reader.finish()?;
        Ok(Self { ticket })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.ticket.to_be_bytes());
        });
    }
}
