//! Class 40, `exchange`. Declaring, deleting and binding exchanges.
//!
//! Written by `spec/generate.rs`; change that.

use alloc::vec::Vec;

use crate::error::DecodeError;
use crate::table::Table;
use crate::wire::{self, Reader};

/// `exchange.declare` (40, 10): Create an exchange, or check that an equal one exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declare<'a> {
    /// The exchange's name; empty is the default exchange.
    pub exchange: &'a str,
    /// The exchange's type: `direct`, `fanout`, `topic`, `headers` or a plugin's.
    pub kind: &'a str,
    /// Only check that the object exists.
    pub passive: bool,
    /// The object survives a restart of the broker.
    pub durable: bool,
    /// Delete the object once its last user (binding, consumer) has gone.
    pub auto_delete: bool,
    /// Messages come from other exchanges only, never from publishers.
    pub internal: bool,
    /// The server sends no answer; errors still close.
    pub no_wait: bool,
    /// The optional arguments, `x-…` by convention.
    pub arguments: Table<'a>,
}

impl<'a> Declare<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (40, 10);
    /// The name.
    pub const NAME: &'static str = "exchange.declare";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let exchange = reader.shortstr("exchange")?;
        let kind = reader.shortstr("type")?;
        let bits = reader.octet("passive, durable, auto-delete, internal, no-wait")?;
        let passive = wire::bit(bits, 0);
        let durable = wire::bit(bits, 1);
        let auto_delete = wire::bit(bits, 2);
        let internal = wire::bit(bits, 3);
        let no_wait = wire::bit(bits, 4);
        let arguments = reader.table("arguments")?;
        reader.finish()?;
        Ok(Self { exchange, kind, passive, durable, auto_delete, internal, no_wait, arguments })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.exchange);
            wire::put_shortstr(out, self.kind);
            out.push(wire::bits([self.passive, self.durable, self.auto_delete, self.internal, self.no_wait]));
            wire::put_longstr(out, self.arguments.octets());
        });
    }
}

/// `exchange.declare-ok` (40, 11): The exchange exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclareOk;

impl DeclareOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (40, 11);
    /// The name.
    pub const NAME: &'static str = "exchange.declare-ok";

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

/// `exchange.delete` (40, 20): Delete an exchange and its bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delete<'a> {
    /// The exchange's name; empty is the default exchange.
    pub exchange: &'a str,
    /// Refuse to delete the object while it has bindings or consumers.
    pub if_unused: bool,
    /// The server sends no answer; errors still close.
    pub no_wait: bool,
}

impl<'a> Delete<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (40, 20);
    /// The name.
    pub const NAME: &'static str = "exchange.delete";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let exchange = reader.shortstr("exchange")?;
        let bits = reader.octet("if-unused, no-wait")?;
        let if_unused = wire::bit(bits, 0);
        let no_wait = wire::bit(bits, 1);
        reader.finish()?;
        Ok(Self { exchange, if_unused, no_wait })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.exchange);
            out.push(wire::bits([self.if_unused, self.no_wait]));
        });
    }
}

/// `exchange.delete-ok` (40, 21): The exchange does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteOk;

impl DeleteOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (40, 21);
    /// The name.
    pub const NAME: &'static str = "exchange.delete-ok";

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

/// `exchange.bind` (40, 30): RabbitMQ: bind an exchange to an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The exchange that receives the messages.
    pub destination: &'a str,
    /// The exchange that the messages come from.
    pub source: &'a str,
    /// The key that the exchange routes by.
    pub routing_key: &'a str,
    /// The server sends no answer; errors still close.
    pub no_wait: bool,
    /// The optional arguments, `x-…` by convention.
    pub arguments: Table<'a>,
}

impl<'a> Bind<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (40, 30);
    /// The name.
    pub const NAME: &'static str = "exchange.bind";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let destination = reader.shortstr("destination")?;
        let source = reader.shortstr("source")?;
        let routing_key = reader.shortstr("routing-key")?;
        let bits = reader.octet("no-wait")?;
        let no_wait = wire::bit(bits, 0);
        let arguments = reader.table("arguments")?;
        reader.finish()?;
        Ok(Self { destination, source, routing_key, no_wait, arguments })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.destination);
            wire::put_shortstr(out, self.source);
            wire::put_shortstr(out, self.routing_key);
            out.push(wire::bits([self.no_wait]));
            wire::put_longstr(out, self.arguments.octets());
        });
    }
}

/// `exchange.bind-ok` (40, 31): RabbitMQ: the binding exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindOk;

impl BindOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (40, 31);
    /// The name.
    pub const NAME: &'static str = "exchange.bind-ok";

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

/// `exchange.unbind` (40, 40): RabbitMQ: remove a binding between exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbind<'a> {
    /// The exchange that receives the messages.
    pub destination: &'a str,
    /// The exchange that the messages come from.
    pub source: &'a str,
    /// The key that the exchange routes by.
    pub routing_key: &'a str,
    /// The server sends no answer; errors still close.
    pub no_wait: bool,
    /// The optional arguments, `x-…` by convention.
    pub arguments: Table<'a>,
}

impl<'a> Unbind<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (40, 40);
    /// The name.
    pub const NAME: &'static str = "exchange.unbind";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let destination = reader.shortstr("destination")?;
        let source = reader.shortstr("source")?;
        let routing_key = reader.shortstr("routing-key")?;
        let bits = reader.octet("no-wait")?;
        let no_wait = wire::bit(bits, 0);
        let arguments = reader.table("arguments")?;
        reader.finish()?;
        Ok(Self { destination, source, routing_key, no_wait, arguments })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.destination);
            wire::put_shortstr(out, self.source);
            wire::put_shortstr(out, self.routing_key);
            out.push(wire::bits([self.no_wait]));
            wire::put_longstr(out, self.arguments.octets());
        });
    }
}

/// `exchange.unbind-ok` (40, 51): RabbitMQ: the binding does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnbindOk;

impl UnbindOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (40, 51);
    /// The name.
    pub const NAME: &'static str = "exchange.unbind-ok";

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
