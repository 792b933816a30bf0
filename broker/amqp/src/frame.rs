//! The stream of frames (AMQP 0-9-1 §4.2.2, §4.2.3), and the protocol header before it.
//!
//! ```text
//! octet 0    1        3         7          7 + size
//! +------+---------+---------+---------+------+
//! | type | channel |  size   | payload | 0xCE |
//! +------+---------+---------+---------+------+
//! ```
//! Types: 1 method, 2 content header, 3 content body, 8 heartbeat.

use alloc::vec::Vec;

use crate::error::ReplyCode;
use crate::limits::FRAME_OVERHEAD;
use crate::wire::{self, FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD};

/// What a client sends first: `AMQP` and version 0-9-1. A server that refuses a client's header answers with it.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";

/// The header of AMQP 0-9, which RabbitMQ takes for 0-9-1: nothing that matters differs.
const PROTOCOL_HEADER_0_9: [u8; 8] = *b"AMQP\x01\x01\x00\x09";

/// A heartbeat frame, complete.
pub const HEARTBEAT: [u8; 8] = [FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END];

/// One frame; the payload borrows from the buffer it was split off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// For [`crate::ToServer::decode`] or [`crate::ToClient::decode`].
    Method {
        /// Channel number; 0 is the connection itself.
        channel: u16,
        /// Class id, method id, fields.
        payload: &'a [u8],
    },
    /// For [`crate::Header::decode`].
    Header {
        /// Channel number.
        channel: u16,
        /// Class id, weight, body size, properties.
        payload: &'a [u8],
    },
    /// The next octets of the content's body.
    Body {
        /// Channel number.
        channel: u16,
        /// Octets of the body.
        payload: &'a [u8],
    },
    /// The peer is alive. On another channel than 0 it is an `UNEXPECTED_FRAME` (505).
    Heartbeat {
        /// Channel number, 0 if the peer follows the rules.
        channel: u16,
    },
}

/// The stream of frames is broken: what follows cannot be read, and the connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Announced by the frame's first seven octets; nothing of the payload has been waited for.
    #[error("type {kind}, channel {channel}: {{frame_too_large,{size},{limit}}}")]
    TooLarge {
        /// Type octet.
        kind: u8,
        /// Channel number.
        channel: u16,
        /// Octets of the payload as announced.
        size: u32,
        /// Most octets that a payload may have: `frame_max` less [`FRAME_OVERHEAD`].
        limit: u32,
    },
    /// A type octet that AMQP 0-9-1 does not have, or a heartbeat with a payload.
    #[error("type {kind}, channel {channel}: unknown_frame")]
    Unknown {
        /// Type octet.
        kind: u8,
        /// Channel number.
        channel: u16,
    },
    /// The octet after the payload is not 0xCE: the peer's idea of sizes is wrong.
    #[error("type {kind}, channel {channel}: {{invalid_frame_end_marker,{found}}}")]
    EndOctet {
        /// Type octet.
        kind: u8,
        /// Channel number.
        channel: u16,
        /// The octet found.
        found: u8,
    },
}

impl FrameError {
    /// The code to close the connection with: always 501, as in RabbitMQ. The error's text has RabbitMQ's term for
    /// it, and leaves out the payload that RabbitMQ quotes.
    pub const fn reply_code(&self) -> ReplyCode {
        ReplyCode::FrameError
    }
}

/// Splits the first frame off `buffer`: the frame and the octets it took, or `None` if more are needed.
///
/// `frame_max` is the negotiated size in octets, framing included. There is no value for "any size": 0 refuses every
/// payload. RabbitMQ tolerates payloads that forgot the [`FRAME_OVERHEAD`]; add it to `frame_max` to do the same.
///
/// # Errors
/// The frame is too large, of unknown type, or does not end in 0xCE. The first two need only the frame's first seven
/// octets.
#[inline]
pub fn decode_frame(buffer: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((&[kind, c1, c0, s3, s2, s1, s0], rest)) = buffer.split_first_chunk::<7>() else {
        return Ok(None);
    };
    let channel = u16::from_be_bytes([c1, c0]);
    let size = u32::from_be_bytes([s3, s2, s1, s0]);
    let limit = frame_max.saturating_sub(FRAME_OVERHEAD);
    if size > limit {
        return Err(FrameError::TooLarge { kind, channel, size, limit });
    }
    let known = matches!(kind, FRAME_METHOD | FRAME_HEADER | FRAME_BODY) || (kind == FRAME_HEARTBEAT && size == 0);
    if !known {
        return Err(FrameError::Unknown { kind, channel });
    }
    let Some((payload, &[end, ..])) = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size)) else {
        return Ok(None);
    };
    if end != FRAME_END {
        return Err(FrameError::EndOctet { kind, channel, found: end });
    }
    let frame = match kind {
        FRAME_METHOD => Frame::Method { channel, payload },
        FRAME_HEADER => Frame::Header { channel, payload },
        FRAME_BODY => Frame::Body { channel, payload },
        _ => Frame::Heartbeat { channel },
    };
    // Seven octets in front and one behind; a slice is far shorter than the address space.
    Ok(Some((frame, payload.len().saturating_add(8))))
}

/// What the first octets of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer does not speak AMQP 0-9-1: wrong protocol header")]
pub struct WrongProtocol;

/// Reads the protocol header: the octets it took (8), or `None` if more are needed and all so far are right.
///
/// # Errors
/// The header is another one. Known from the first wrong octet on; answer with [`PROTOCOL_HEADER`] and close.
pub fn decode_protocol_header(buffer: &[u8]) -> Result<Option<usize>, WrongProtocol> {
    let seen = buffer.get(..PROTOCOL_HEADER.len()).unwrap_or(buffer);
    if ![PROTOCOL_HEADER, PROTOCOL_HEADER_0_9].iter().any(|header| header.starts_with(seen)) {
        return Err(WrongProtocol);
    }
    Ok((seen.len() == PROTOCOL_HEADER.len()).then_some(seen.len()))
}

impl Frame<'_> {
    /// Channel number; 0 is the connection itself.
    pub const fn channel(&self) -> u16 {
        match *self {
            Self::Method { channel, .. }
            | Self::Header { channel, .. }
            | Self::Body { channel, .. }
            | Self::Heartbeat { channel } => channel,
        }
    }

    /// Appends the frame. Its size is not compared with any `frame_max`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Method { channel, payload } => wire::put_frame(out, FRAME_METHOD, channel, payload),
            Self::Header { channel, payload } => wire::put_frame(out, FRAME_HEADER, channel, payload),
            Self::Body { channel, payload } => wire::put_frame(out, FRAME_BODY, channel, payload),
            Self::Heartbeat { channel } => wire::put_frame(out, FRAME_HEARTBEAT, channel, &[]),
        }
    }
}
