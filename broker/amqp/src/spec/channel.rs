//! Class 20, `channel`. Opening, pausing and closing a channel.
//!
//! Written by `spec/generate.rs`; change that.

use alloc::vec::Vec;

use crate::error::DecodeError;
use crate::wire::{self, Reader};

/// `channel.open` (20, 10): Open the channel whose number the frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open;

impl Open {
    /// Class and method id.
    pub const ID: (u16, u16) = (20, 10);
    /// The name.
    pub const NAME: &'static str = "channel.open";

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

/// `channel.open-ok` (20, 11): The channel is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOk;

impl OpenOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (20, 11);
    /// The name.
    pub const NAME: &'static str = "channel.open-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        reader.longstr("reserved")?;
        reader.finish()?;
        Ok(Self)
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&[0; 4]);
        });
    }
}

/// `channel.flow` (20, 20): Ask the peer to pause or resume content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Whether content may flow (channel.flow) or active access is asked for (access.request).
    pub active: bool,
}

impl Flow {
    /// Class and method id.
    pub const ID: (u16, u16) = (20, 20);
    /// The name.
    pub const NAME: &'static str = "channel.flow";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let bits = reader.octet("active")?;
        let active = wire::bit(bits, 0);
        reader.finish()?;
        Ok(Self { active })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.push(wire::bits([self.active]));
        });
    }
}

/// `channel.flow-ok` (20, 21): The request to pause or resume is in effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowOk {
    /// Whether content may flow (channel.flow) or active access is asked for (access.request).
    pub active: bool,
}

impl FlowOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (20, 21);
    /// The name.
    pub const NAME: &'static str = "channel.flow-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let bits = reader.octet("active")?;
        let active = wire::bit(bits, 0);
        reader.finish()?;
        Ok(Self { active })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.push(wire::bits([self.active]));
        });
    }
}

/// `channel.close` (20, 40): Either side ends the channel and says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close<'a> {
    /// One of the numbers in `ReplyCode`.
    pub reply_code: u16,
    /// What went wrong, for people to read.
    pub reply_text: &'a str,
    /// Class of the method that caused the close, or 0.
    pub class_id: u16,
    /// Method that caused the close, or 0.
    pub method_id: u16,
}

impl<'a> Close<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (20, 40);
    /// The name.
    pub const NAME: &'static str = "channel.close";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let reply_code = reader.short("reply-code")?;
        let reply_text = reader.shortstr("reply-text")?;
        let class_id = reader.short("class-id")?;
        let method_id = reader.short("method-id")?;
        reader.finish()?;
        Ok(Self { reply_code, reply_text, class_id, method_id })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.reply_code.to_be_bytes());
            wire::put_shortstr(out, self.reply_text);
            out.extend_from_slice(&self.class_id.to_be_bytes());
            out.extend_from_slice(&self.method_id.to_be_bytes());
        });
    }
}

/// `channel.close-ok` (20, 41): The end is agreed; the number may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseOk;

impl CloseOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (20, 41);
    /// The name.
    pub const NAME: &'static str = "channel.close-ok";

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
