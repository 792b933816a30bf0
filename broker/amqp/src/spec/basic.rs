//! Class 60, `basic`. Publishing, consuming and settling messages.
//!
//! Written by `spec/generate.rs`; change that.

use alloc::vec::Vec;

use crate::error::DecodeError;
use crate::table::Table;
use crate::wire::{self, Reader};

/// `basic.qos` (60, 10): Limit the unacknowledged deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qos {
    /// Most unacknowledged octets; RabbitMQ refuses anything but 0 with 540.
    pub prefetch_size: u32,
    /// Most unacknowledged deliveries; 0 is no limit.
    pub prefetch_count: u16,
    /// The limit is the channel's as a whole instead of each new consumer's.
    pub global: bool,
}

impl Qos {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 10);
    /// The name.
    pub const NAME: &'static str = "basic.qos";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let prefetch_size = reader.long("prefetch-size")?;
        let prefetch_count = reader.short("prefetch-count")?;
        let bits = reader.octet("global")?;
        let global = wire::bit(bits, 0);
        reader.finish()?;
        Ok(Self { prefetch_size, prefetch_count, global })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.prefetch_size.to_be_bytes());
            out.extend_from_slice(&self.prefetch_count.to_be_bytes());
            out.push(wire::bits([self.global]));
        });
    }
}

/// `basic.qos-ok` (60, 11): The limit is in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QosOk;

impl QosOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 11);
    /// The name.
    pub const NAME: &'static str = "basic.qos-ok";

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

/// `basic.consume` (60, 20): Start a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consume<'a> {
    /// The queue's name; empty is the channel's last declared queue, or asks for a name when declaring.
    pub queue: &'a str,
    /// The consumer's name on this channel; empty asks the server to choose one.
    pub consumer_tag: &'a str,
    /// Do not deliver what this connection published; RabbitMQ ignores it.
    pub no_local: bool,
    /// Deliveries count as acknowledged when sent.
    pub no_ack: bool,
    /// Only this connection (declare) or this consumer (consume) may use the object.
    pub exclusive: bool,
    /// The server sends no answer; errors still close.
    pub no_wait: bool,
    /// The optional arguments, `x-…` by convention.
    pub arguments: Table<'a>,
}

impl<'a> Consume<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 20);
    /// The name.
    pub const NAME: &'static str = "basic.consume";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let queue = reader.shortstr("queue")?;
        let consumer_tag = reader.shortstr("consumer-tag")?;
        let bits = reader.octet("no-local, no-ack, exclusive, no-wait")?;
        let no_local = wire::bit(bits, 0);
        let no_ack = wire::bit(bits, 1);
        let exclusive = wire::bit(bits, 2);
        let no_wait = wire::bit(bits, 3);
        let arguments = reader.table("arguments")?;
        reader.finish()?;
        Ok(Self { queue, consumer_tag, no_local, no_ack, exclusive, no_wait, arguments })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.queue);
            wire::put_shortstr(out, self.consumer_tag);
            out.push(wire::bits([self.no_local, self.no_ack, self.exclusive, self.no_wait]));
            wire::put_longstr(out, self.arguments.octets());
        });
    }
}

/// `basic.consume-ok` (60, 21): The consumer exists; its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumeOk<'a> {
    /// The consumer's name on this channel; empty asks the server to choose one.
    pub consumer_tag: &'a str,
}

impl<'a> ConsumeOk<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 21);
    /// The name.
    pub const NAME: &'static str = "basic.consume-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let consumer_tag = reader.shortstr("consumer-tag")?;
        reader.finish()?;
        Ok(Self { consumer_tag })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_shortstr(out, self.consumer_tag);
        });
    }
}

/// `basic.cancel` (60, 30): End a consumer. RabbitMQ: the server says so too when the queue goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancel<'a> {
    /// The consumer's name on this channel; empty asks the server to choose one.
    pub consumer_tag: &'a str,
    /// The server sends no answer; errors still close.
    pub no_wait: bool,
}

impl<'a> Cancel<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 30);
    /// The name.
    pub const NAME: &'static str = "basic.cancel";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let consumer_tag = reader.shortstr("consumer-tag")?;
        let bits = reader.octet("no-wait")?;
        let no_wait = wire::bit(bits, 0);
        reader.finish()?;
        Ok(Self { consumer_tag, no_wait })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_shortstr(out, self.consumer_tag);
            out.push(wire::bits([self.no_wait]));
        });
    }
}

/// `basic.cancel-ok` (60, 31): The consumer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelOk<'a> {
    /// The consumer's name on this channel; empty asks the server to choose one.
    pub consumer_tag: &'a str,
}

impl<'a> CancelOk<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 31);
    /// The name.
    pub const NAME: &'static str = "basic.cancel-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let consumer_tag = reader.shortstr("consumer-tag")?;
        reader.finish()?;
        Ok(Self { consumer_tag })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_shortstr(out, self.consumer_tag);
        });
    }
}

/// `basic.publish` (60, 40): Publish a message. Header and body frames follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The exchange's name; empty is the default exchange.
    pub exchange: &'a str,
    /// The key that the exchange routes by.
    pub routing_key: &'a str,
    /// Return the message if no queue takes it.
    pub mandatory: bool,
    /// Return the message unless a consumer can take it at once; RabbitMQ refuses this flag with 540.
    pub immediate: bool,
}

impl<'a> Publish<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 40);
    /// The name.
    pub const NAME: &'static str = "basic.publish";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let exchange = reader.shortstr("exchange")?;
        let routing_key = reader.shortstr("routing-key")?;
        let bits = reader.octet("mandatory, immediate")?;
        let mandatory = wire::bit(bits, 0);
        let immediate = wire::bit(bits, 1);
        reader.finish()?;
        Ok(Self { exchange, routing_key, mandatory, immediate })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.exchange);
            wire::put_shortstr(out, self.routing_key);
            out.push(wire::bits([self.mandatory, self.immediate]));
        });
    }
}

/// `basic.return` (60, 50): A published message that could not be routed comes back. Header and body frames follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Return<'a> {
    /// One of the numbers in `ReplyCode`.
    pub reply_code: u16,
    /// What went wrong, for people to read.
    pub reply_text: &'a str,
    /// The exchange's name; empty is the default exchange.
    pub exchange: &'a str,
    /// The key that the exchange routes by.
    pub routing_key: &'a str,
}

impl<'a> Return<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 50);
    /// The name.
    pub const NAME: &'static str = "basic.return";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let reply_code = reader.short("reply-code")?;
        let reply_text = reader.shortstr("reply-text")?;
        let exchange = reader.shortstr("exchange")?;
        let routing_key = reader.shortstr("routing-key")?;
        reader.finish()?;
        Ok(Self { reply_code, reply_text, exchange, routing_key })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.reply_code.to_be_bytes());
            wire::put_shortstr(out, self.reply_text);
            wire::put_shortstr(out, self.exchange);
            wire::put_shortstr(out, self.routing_key);
        });
    }
}

/// `basic.deliver` (60, 60): A message for a consumer. Header and body frames follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deliver<'a> {
    /// The consumer's name on this channel; empty asks the server to choose one.
    pub consumer_tag: &'a str,
    /// Number of the delivery (or, in confirm mode, of the publish) on this channel, from 1.
    pub delivery_tag: u64,
    /// The message may have been delivered before.
    pub redelivered: bool,
    /// The exchange's name; empty is the default exchange.
    pub exchange: &'a str,
    /// The key that the exchange routes by.
    pub routing_key: &'a str,
}

impl<'a> Deliver<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 60);
    /// The name.
    pub const NAME: &'static str = "basic.deliver";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let consumer_tag = reader.shortstr("consumer-tag")?;
        let delivery_tag = reader.longlong("delivery-tag")?;
        let bits = reader.octet("redelivered")?;
        let redelivered = wire::bit(bits, 0);
        let exchange = reader.shortstr("exchange")?;
        let routing_key = reader.shortstr("routing-key")?;
        reader.finish()?;
        Ok(Self { consumer_tag, delivery_tag, redelivered, exchange, routing_key })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_shortstr(out, self.consumer_tag);
            out.extend_from_slice(&self.delivery_tag.to_be_bytes());
            out.push(wire::bits([self.redelivered]));
            wire::put_shortstr(out, self.exchange);
            wire::put_shortstr(out, self.routing_key);
        });
    }
}

/// `basic.get` (60, 70): Ask for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Get<'a> {
    /// The queue's name; empty is the channel's last declared queue, or asks for a name when declaring.
    pub queue: &'a str,
    /// Deliveries count as acknowledged when sent.
    pub no_ack: bool,
}

impl<'a> Get<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 70);
    /// The name.
    pub const NAME: &'static str = "basic.get";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.short("reserved")?;
        let queue = reader.shortstr("queue")?;
        let bits = reader.octet("no-ack")?;
        let no_ack = wire::bit(bits, 0);
        reader.finish()?;
        Ok(Self { queue, no_ack })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 2]);
            wire::put_shortstr(out, self.queue);
            out.push(wire::bits([self.no_ack]));
        });
    }
}

/// `basic.get-ok` (60, 71): The message asked for; the count is what remains. Header and body frames follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetOk<'a> {
    /// Number of the delivery (or, in confirm mode, of the publish) on this channel, from 1.
    pub delivery_tag: u64,
    /// The message may have been delivered before.
    pub redelivered: bool,
    /// The exchange's name; empty is the default exchange.
    pub exchange: &'a str,
    /// The key that the exchange routes by.
    pub routing_key: &'a str,
    /// Messages ready in the queue.
    pub message_count: u32,
}

impl<'a> GetOk<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 71);
    /// The name.
    pub const NAME: &'static str = "basic.get-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let delivery_tag = reader.longlong("delivery-tag")?;
        let bits = reader.octet("redelivered")?;
        let redelivered = wire::bit(bits, 0);
        let exchange = reader.shortstr("exchange")?;
        let routing_key = reader.shortstr("routing-key")?;
        let message_count = reader.long("message-count")?;
        reader.finish()?;
        Ok(Self { delivery_tag, redelivered, exchange, routing_key, message_count })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.delivery_tag.to_be_bytes());
            out.push(wire::bits([self.redelivered]));
            wire::put_shortstr(out, self.exchange);
            wire::put_shortstr(out, self.routing_key);
            out.extend_from_slice(&self.message_count.to_be_bytes());
        });
    }
}

/// `basic.get-empty` (60, 72): The queue has no ready message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetEmpty;

impl GetEmpty {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 72);
    /// The name.
    pub const NAME: &'static str = "basic.get-empty";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.shortstr_octets("reserved")?;
        reader.finish()?;
        Ok(Self)
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.push(0);
        });
    }
}

/// `basic.ack` (60, 80): Deliveries are done. RabbitMQ: to the client, publishes are safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Number of the delivery (or, in confirm mode, of the publish) on this channel, from 1.
    pub delivery_tag: u64,
    /// Everything up to and including the tag is meant; tag 0 then means all outstanding.
    pub multiple: bool,
}

impl Ack {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 80);
    /// The name.
    pub const NAME: &'static str = "basic.ack";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let delivery_tag = reader.longlong("delivery-tag")?;
        let bits = reader.octet("multiple")?;
        let multiple = wire::bit(bits, 0);
        reader.finish()?;
        Ok(Self { delivery_tag, multiple })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.delivery_tag.to_be_bytes());
            out.push(wire::bits([self.multiple]));
        });
    }
}

/// `basic.reject` (60, 90): One delivery is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    /// Number of the delivery (or, in confirm mode, of the publish) on this channel, from 1.
    pub delivery_tag: u64,
    /// Put the message back; otherwise it is dropped or dead-lettered.
    pub requeue: bool,
}

impl Reject {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 90);
    /// The name.
    pub const NAME: &'static str = "basic.reject";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let delivery_tag = reader.longlong("delivery-tag")?;
        let bits = reader.octet("requeue")?;
        let requeue = wire::bit(bits, 0);
        reader.finish()?;
        Ok(Self { delivery_tag, requeue })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.delivery_tag.to_be_bytes());
            out.push(wire::bits([self.requeue]));
        });
    }
}

/// `basic.recover-async` (60, 100): Deliver everything unacknowledged again, without an answer. Deprecated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoverAsync {
    /// Put the message back; otherwise it is dropped or dead-lettered.
    pub requeue: bool,
}

impl RecoverAsync {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 100);
    /// The name.
    pub const NAME: &'static str = "basic.recover-async";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let bits = reader.octet("requeue")?;
        let requeue = wire::bit(bits, 0);
        reader.finish()?;
        Ok(Self { requeue })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.push(wire::bits([self.requeue]));
        });
    }
}

/// `basic.recover` (60, 110): Deliver everything unacknowledged again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recover {
    /// Put the message back; otherwise it is dropped or dead-lettered.
    pub requeue: bool,
}

impl Recover {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 110);
    /// The name.
    pub const NAME: &'static str = "basic.recover";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let bits = reader.octet("requeue")?;
        let requeue = wire::bit(bits, 0);
        reader.finish()?;
        Ok(Self { requeue })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.push(wire::bits([self.requeue]));
        });
    }
}

/// `basic.recover-ok` (60, 111): The redelivery has been arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoverOk;

impl RecoverOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 111);
    /// The name.
    pub const NAME: &'static str = "basic.recover-ok";

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

/// `basic.nack` (60, 120): RabbitMQ: deliveries are refused; to the client, publishes were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack {
    /// Number of the delivery (or, in confirm mode, of the publish) on this channel, from 1.
    pub delivery_tag: u64,
    /// Everything up to and including the tag is meant; tag 0 then means all outstanding.
    pub multiple: bool,
    /// Put the message back; otherwise it is dropped or dead-lettered.
    pub requeue: bool,
}

impl Nack {
    /// Class and method id.
    pub const ID: (u16, u16) = (60, 120);
    /// The name.
    pub const NAME: &'static str = "basic.nack";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let delivery_tag = reader.longlong("delivery-tag")?;
        let bits = reader.octet("multiple, requeue")?;
        let multiple = wire::bit(bits, 0);
        let requeue = wire::bit(bits, 1);
        reader.finish()?;
        Ok(Self { delivery_tag, multiple, requeue })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.delivery_tag.to_be_bytes());
            out.push(wire::bits([self.multiple, self.requeue]));
        });
    }
}
