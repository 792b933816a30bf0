//! Class 50, `queue`. Declaring, binding, purging and deleting queues.
//!
//! Written by `spec/generate.rs`; change that.

use alloc::vec::Vec;

use crate::error::DecodeError;
use crate::table::Table;
use crate::wire::{self, Reader};

/// `queue.declare` (50, 10): Create a queue, or check that an equal one exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declare<'a> {
    /// The queue's name; empty is the channel's last declared queue, or asks for a name when declaring.
    pub queue: &'a str,
    /// Only check that the object exists.
    pub passive: bool,
    /// The object survives a restart of the broker.
    pub durable: bool,
    /// Only this connection (declare) or this consumer (consume) may use the object.
    pub exclusive: bool,
    /// Delete the object once its last user (binding, consumer) has gone.
    pub auto_delete: bool,
    /// The server sends no answer; errors still close.
    pub no_wait: bool,
    /// The optional arguments, `x-…` by convention.
    pub arguments: Table<'a>,
}

impl<'a> Declare<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (50, 10);
    /// The name.
    pub const NAME: &'static str = "queue.declare";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let queue = reader.shortstr("queue")?;
        let bits = reader.octet("passive, durable, exclusive, auto-delete, no-wait")?;
        let passive = wire::bit(bits, 0);
        let durable = wire::bit(bits, 1);
        let exclusive = wire::bit(bits, 2);
        let auto_delete = wire::bit(bits, 3);
        let no_wait = wire::bit(bits, 4);
        let arguments = reader.table("arguments")?;
        reader.finish()?;
        Ok(Self { queue, passive, durable, exclusive, auto_delete, no_wait, arguments })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.queue);
            out.push(wire::bits([self.passive, self.durable, self.exclusive, self.auto_delete, self.no_wait]));
            wire::put_longstr(out, self.arguments.octets());
        });
    }
}

/// `queue.declare-ok` (50, 11): The queue exists; its name and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclareOk<'a> {
    /// The queue's name; empty is the channel's last declared queue, or asks for a name when declaring.
    pub queue: &'a str,
    /// Messages ready in the queue.
    pub message_count: u32,
    /// Consumers of the queue.
    pub consumer_count: u32,
}

impl<'a> DeclareOk<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (50, 11);
    /// The name.
    pub const NAME: &'static str = "queue.declare-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let queue = reader.shortstr("queue")?;
        let message_count = reader.long("message-count")?;
        let consumer_count = reader.long("consumer-count")?;
        reader.finish()?;
        Ok(Self { queue, message_count, consumer_count })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_shortstr(out, self.queue);
            out.extend_from_slice(&self.message_count.to_be_bytes());
            out.extend_from_slice(&self.consumer_count.to_be_bytes());
        });
    }
}

/// `queue.bind` (50, 20): Bind a queue to an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The queue's name; empty is the channel's last declared queue, or asks for a name when declaring.
    pub queue: &'a str,
    /// The exchange's name; empty is the default exchange.
    pub exchange: &'a str,
    /// The key that the exchange routes by.
    pub routing_key: &'a str,
    /// The server sends no answer; errors still close.
    pub no_wait: bool,
    /// The optional arguments, `x-…` by convention.
    pub arguments: Table<'a>,
}

impl<'a> Bind<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (50, 20);
    /// The name.
    pub const NAME: &'static str = "queue.bind";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let queue = reader.shortstr("queue")?;
        let exchange = reader.shortstr("exchange")?;
        let routing_key = reader.shortstr("routing-key")?;
        let bits = reader.octet("no-wait")?;
        let no_wait = wire::bit(bits, 0);
        let arguments = reader.table("arguments")?;
        reader.finish()?;
        Ok(Self { queue, exchange, routing_key, no_wait, arguments })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.queue);
            wire::put_shortstr(out, self.exchange);
            wire::put_shortstr(out, self.routing_key);
            out.push(wire::bits([self.no_wait]));
            wire::put_longstr(out, self.arguments.octets());
        });
    }
}

/// `queue.bind-ok` (50, 21): The binding exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindOk;

impl BindOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (50, 21);
    /// The name.
    pub const NAME: &'static str = "queue.bind-ok";

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

/// `queue.purge` (50, 30): Drop all ready messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purge<'a> {
    /// The queue's name; empty is the channel's last declared queue, or asks for a name when declaring.
    pub queue: &'a str,
    /// The server sends no answer; errors still close.
    pub no_wait: bool,
}

impl<'a> Purge<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (50, 30);
    /// The name.
    pub const NAME: &'static str = "queue.purge";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let queue = reader.shortstr("queue")?;
        let bits = reader.octet("no-wait")?;
        let no_wait = wire::bit(bits, 0);
        reader.finish()?;
        Ok(Self { queue, no_wait })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.queue);
            out.push(wire::bits([self.no_wait]));
        });
    }
}

/// `queue.purge-ok` (50, 31): How many messages were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeOk {
    /// Messages ready in the queue.
    pub message_count: u32,
}

impl PurgeOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (50, 31);
    /// The name.
    pub const NAME: &'static str = "queue.purge-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let message_count = reader.long("message-count")?;
        reader.finish()?;
        Ok(Self { message_count })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.message_count.to_be_bytes());
        });
    }
}

/// `queue.delete` (50, 40): Delete a queue with its messages and bindings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delete<'a> {
    /// The queue's name; empty is the channel's last declared queue, or asks for a name when declaring.
    pub queue: &'a str,
    /// Refuse to delete the object while it has bindings or consumers.
    pub if_unused: bool,
    /// Refuse to delete the queue while it holds messages.
    pub if_empty: bool,
    /// The server sends no answer; errors still close.
    pub no_wait: bool,
}

impl<'a> Delete<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (50, 40);
    /// The name.
    pub const NAME: &'static str = "queue.delete";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let queue = reader.shortstr("queue")?;
        let bits = reader.octet("if-unused, if-empty, no-wait")?;
        let if_unused = wire::bit(bits, 0);
        let if_empty = wire::bit(bits, 1);
        let no_wait = wire::bit(bits, 2);
        reader.finish()?;
        Ok(Self { queue, if_unused, if_empty, no_wait })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.queue);
            out.push(wire::bits([self.if_unused, self.if_empty, self.no_wait]));
        });
    }
}

/// `queue.delete-ok` (50, 41): How many messages went with the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteOk {
    /// Messages ready in the queue.
    pub message_count: u32,
}

impl DeleteOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (50, 41);
    /// The name.
    pub const NAME: &'static str = "queue.delete-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let message_count = reader.long("message-count")?;
        reader.finish()?;
        Ok(Self { message_count })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.message_count.to_be_bytes());
        });
    }
}

/// `queue.unbind` (50, 50): Remove a binding of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unbind<'a> {
    /// The queue's name; empty is the channel's last declared queue, or asks for a name when declaring.
    pub queue: &'a str,
    /// The exchange's name; empty is the default exchange.
    pub exchange: &'a str,
    /// The key that the exchange routes by.
    pub routing_key: &'a str,
    /// The optional arguments, `x-…` by convention.
    pub arguments: Table<'a>,
}

impl<'a> Unbind<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (50, 50);
    /// The name.
    pub const NAME: &'static str = "queue.unbind";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let queue = reader.shortstr("queue")?;
        let exchange = reader.shortstr("exchange")?;
        let routing_key = reader.shortstr("routing-key")?;
        let arguments = reader.table("arguments")?;
        reader.finish()?;
        Ok(Self { queue, exchange, routing_key, arguments })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.queue);
            wire::put_shortstr(out, self.exchange);
            wire::put_shortstr(out, self.routing_key);
            wire::put_longstr(out, self.arguments.octets());
        });
    }
}

/// `queue.unbind-ok` (50, 51): The binding does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnbindOk;

impl UnbindOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (50, 51);
    /// The name.
    pub const NAME: &'static str = "queue.unbind-ok";

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
