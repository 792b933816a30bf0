//! Class 10, `connection`. Opening, tuning and closing a connection. All methods travel on channel 0.
//!
//! Written by `spec/generate.rs`; change that.

use alloc::vec::Vec;

use crate::error::DecodeError;
use crate::table::Table;
use crate::wire::{self, Reader};

/// `connection.start` (10, 10): The server introduces itself and offers SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start<'a> {
    /// Major protocol version, 0.
    pub version_major: u8,
    /// Minor protocol version, 9.
    pub version_minor: u8,
    /// Who the server is and which extensions it offers.
    pub server_properties: Table<'a>,
    /// SASL mechanisms on offer, separated by spaces.
    pub mechanisms: &'a [u8],
    /// Languages of reply texts on offer, separated by spaces.
    pub locales: &'a [u8],
}

impl<'a> Start<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 10);
    /// The name.
    pub const NAME: &'static str = "connection.start";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let version_major = reader.octet("version-major")?;
        let version_minor = reader.octet("version-minor")?;
        let server_properties = reader.table("server-properties")?;
        let mechanisms = reader.longstr("mechanisms")?;
        let locales = reader.longstr("locales")?;
        reader.finish()?;
        Ok(Self { version_major, version_minor, server_properties, mechanisms, locales })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.push(self.version_major);
            out.push(self.version_minor);
            wire::put_longstr(out, self.server_properties.octets());
            wire::put_longstr(out, self.mechanisms);
            wire::put_longstr(out, self.locales);
        });
    }
}

/// `connection.start-ok` (10, 11): The client introduces itself and begins to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartOk<'a> {
    /// Who the client is and which extensions it understands.
    pub client_properties: Table<'a>,
    /// The chosen SASL mechanism.
    pub mechanism: &'a str,
    /// The mechanism's answer, opaque here. Never log it.
    pub response: &'a [u8],
    /// The chosen language of reply texts.
    pub locale: &'a str,
}

impl<'a> StartOk<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 11);
    /// The name.
    pub const NAME: &'static str = "connection.start-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let client_properties = reader.table("client-properties")?;
        let mechanism = reader.shortstr("mechanism")?;
        let response = reader.longstr("response")?;
        let locale = reader.shortstr("locale")?;
        reader.finish()?;
        Ok(Self { client_properties, mechanism, response, locale })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_longstr(out, self.client_properties.octets());
            wire::put_shortstr(out, self.mechanism);
            wire::put_longstr(out, self.response);
            wire::put_shortstr(out, self.locale);
        });
    }
}

/// `connection.secure` (10, 20): The server asks for another round of the SASL exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secure<'a> {
    /// The mechanism's challenge, opaque here.
    pub challenge: &'a [u8],
}

impl<'a> Secure<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 20);
    /// The name.
    pub const NAME: &'static str = "connection.secure";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let challenge = reader.longstr("challenge")?;
        reader.finish()?;
        Ok(Self { challenge })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_longstr(out, self.challenge);
        });
    }
}

/// `connection.secure-ok` (10, 21): The client answers the challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecureOk<'a> {
    /// The mechanism's answer, opaque here. Never log it.
    pub response: &'a [u8],
}

impl<'a> SecureOk<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 21);
    /// The name.
    pub const NAME: &'static str = "connection.secure-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let response = reader.longstr("response")?;
        reader.finish()?;
        Ok(Self { response })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_longstr(out, self.response);
        });
    }
}

/// `connection.tune` (10, 30): The server proposes its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tune {
    /// Highest number of channels on the connection; 0 leaves the choice to the peer.
    pub channel_max: u16,
    /// Largest frame in octets, its 8 octets of framing included; 0 leaves the choice to the peer.
    pub frame_max: u32,
    /// Seconds of silence between heartbeats; 0 turns them off.
    pub heartbeat: u16,
}

impl Tune {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 30);
    /// The name.
    pub const NAME: &'static str = "connection.tune";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let channel_max = reader.short("channel-max")?;
        let frame_max = reader.long("frame-max")?;
        let heartbeat = reader.short("heartbeat")?;
        reader.finish()?;
        Ok(Self { channel_max, frame_max, heartbeat })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.channel_max.to_be_bytes());
            out.extend_from_slice(&self.frame_max.to_be_bytes());
            out.extend_from_slice(&self.heartbeat.to_be_bytes());
        });
    }
}

/// `connection.tune-ok` (10, 31): The client settles the limits, never above the proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TuneOk {
    /// Highest number of channels on the connection; 0 leaves the choice to the peer.
    pub channel_max: u16,
    /// Largest frame in octets, its 8 octets of framing included; 0 leaves the choice to the peer.
    pub frame_max: u32,
    /// Seconds of silence between heartbeats; 0 turns them off.
    pub heartbeat: u16,
}

impl TuneOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 31);
    /// The name.
    pub const NAME: &'static str = "connection.tune-ok";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let channel_max = reader.short("channel-max")?;
        let frame_max = reader.long("frame-max")?;
        let heartbeat = reader.short("heartbeat")?;
        reader.finish()?;
        Ok(Self { channel_max, frame_max, heartbeat })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            out.extend_from_slice(&self.channel_max.to_be_bytes());
            out.extend_from_slice(&self.frame_max.to_be_bytes());
            out.extend_from_slice(&self.heartbeat.to_be_bytes());
        });
    }
}

/// `connection.open` (10, 40): The client chooses a virtual host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<'a> {
    /// The virtual host to work in.
    pub virtual_host: &'a str,
}

impl<'a> Open<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 40);
    /// The name.
    pub const NAME: &'static str = "connection.open";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let virtual_host = reader.shortstr("virtual-host")?;
        reader.shortstr_octets("reserved")?;
        reader.octet("reserved")?;
        reader.finish()?;
        Ok(Self { virtual_host })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_shortstr(out, self.virtual_host);
            out.push(0);
            out.push(0);
        });
    }
}

/// `connection.open-ok` (10, 41): The connection is ready for channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOk;

impl OpenOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 41);
    /// The name.
    pub const NAME: &'static str = "connection.open-ok";

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

/// `connection.close` (10, 50): Either side ends the connection and says why.
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
    pub const ID: (u16, u16) = (10, 50);
    /// The name.
    pub const NAME: &'static str = "connection.close";

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

/// `connection.close-ok` (10, 51): The end is agreed; the socket may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseOk;

impl CloseOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 51);
    /// The name.
    pub const NAME: &'static str = "connection.close-ok";

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

/// `connection.blocked` (10, 60): RabbitMQ: the server has stopped reading from publishers because a resource is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked<'a> {
    /// Why, for people to read.
    pub reason: &'a str,
}

impl<'a> Blocked<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 60);
    /// The name.
    pub const NAME: &'static str = "connection.blocked";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let reason = reader.shortstr("reason")?;
        reader.finish()?;
        Ok(Self { reason })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_shortstr(out, self.reason);
        });
    }
}

/// `connection.unblocked` (10, 61): RabbitMQ: the shortage is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unblocked;

impl Unblocked {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 61);
    /// The name.
    pub const NAME: &'static str = "connection.unblocked";

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

/// `connection.update-secret` (10, 70): RabbitMQ: a new secret for the session, before the old one expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateSecret<'a> {
    /// The new secret, a token as a rule. Never log it.
    pub new_secret: &'a [u8],
    /// Why, for people to read.
    pub reason: &'a str,
}

impl<'a> UpdateSecret<'a> {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 70);
    /// The name.
    pub const NAME: &'static str = "connection.update-secret";

    /// Decodes the fields, which follow the ids in a method frame's payload.
    ///
    /// # Errors
    /// A field is cut short or not UTF-8, or octets are left over. Tables are not looked into.
    #[inline]
    pub fn decode(fields: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(Self::NAME, fields);
        let new_secret = reader.longstr("new-secret")?;
        let reason = reader.shortstr("reason")?;
        reader.finish()?;
        Ok(Self { new_secret, reason })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        wire::put_method(out, channel, Self::ID, |out| {
            wire::put_longstr(out, self.new_secret);
            wire::put_shortstr(out, self.reason);
        });
    }
}

/// `connection.update-secret-ok` (10, 71): RabbitMQ: the new secret is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateSecretOk;

impl UpdateSecretOk {
    /// Class and method id.
    pub const ID: (u16, u16) = (10, 71);
    /// The name.
    pub const NAME: &'static str = "connection.update-secret-ok";

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
