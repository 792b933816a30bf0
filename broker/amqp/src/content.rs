//! What follows a method with content (`basic.publish`, `basic.deliver`, …): a header frame, then body frames.
//!
//! A header frame's payload is class id (short), weight (short, 0), body size (longlong), property flags (short),
//! then the properties whose flag is set, first property at the highest bit (AMQP 0-9-1 §4.2.6). The two lowest flags
//! name no property of class `basic` and must be 0.
//!
//! A broker passes the payload on as it came and looks up the few properties it cares about in [`Properties`];
//! [`BasicProperties`] is all of them at once.

use alloc::vec::Vec;

use crate::error::DecodeError;
use crate::limits::{FRAME_MIN_SIZE, FRAME_OVERHEAD, TableLimits};
use crate::table::Table;
use crate::wire::{self, FRAME_BODY, FRAME_HEADER, Reader};

const WHAT: &str = "content header";

/// A decoded header frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The class of the method before it: 60, `basic`.
    pub class_id: u16,
    /// Octets of the body, over all body frames. Check it against a limit before any of them is awaited; a body of 0
    /// octets has no body frame.
    pub body_size: u64,
    /// Flags and properties as received.
    pub properties: Properties<'a>,
}

impl<'a> Header<'a> {
    /// Decodes a header frame's payload. Beyond their flags the properties are not looked at.
    ///
    /// # Errors
    /// The payload is cut short or the weight is not 0.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(WHAT, payload);
        let class_id = reader.short("class-id")?;
        let weight = reader.short("weight")?;
        let body_size = reader.longlong("body-size")?;
        if weight != 0 {
            return Err(DecodeError::WeightNotZero { weight });
        }
        Ok(Self { class_id, body_size, properties: Properties(reader.rest()) })
    }
}

/// What a broker looks at in the properties of a message that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inspected<'a> {
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// The application's field table, within the limits.
    pub headers: Option<Table<'a>>,
    /// 0 to 255.
    pub priority: Option<u8>,
    /// The queue that answers go to, but any octets here.
    pub reply_to: Option<&'a [u8]>,
    /// Milliseconds as a decimal number, but any octets here.
    pub expiration: Option<&'a [u8]>,
    /// The publishing user, but any octets here.
    pub user_id: Option<&'a [u8]>,
}

/// Flags and properties of class `basic` as received, looked up without decoding the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Properties<'a>(&'a [u8]);

/// A property's flag.
const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
pub(crate) const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
pub(crate) const REPLY_TO: u16 = 1 << 9;
pub(crate) const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;
const NO_PROPERTY: u16 = 0b11;

impl<'a> Properties<'a> {
    /// No property at all.
    pub const NONE: Self = Self(&[0, 0]);

    /// Flags and properties, as they stand at the end of a header frame's payload.
    #[inline]
    pub const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// Flags and properties as received.
    #[inline]
    pub const fn octets(self) -> &'a [u8] {
        self.0
    }

    /// `delivery-mode`: 2 asks for a message that survives a restart; 1 and absence do not.
    ///
    /// # Errors
    /// The properties are malformed up to this one. The same holds for every look-up here.
    pub fn delivery_mode(self) -> Result<Option<u8>, DecodeError> {
        self.find(DELIVERY_MODE, |reader| reader.octet("delivery-mode"))
    }

    /// `priority`, 0 to 255.
    pub fn priority(self) -> Result<Option<u8>, DecodeError> {
        self.find(PRIORITY, |reader| reader.octet("priority"))
    }

    /// `headers`, the application's field table; not validated.
    pub fn headers(self) -> Result<Option<Table<'a>>, DecodeError> {
        self.find(HEADERS, |reader| reader.table("headers"))
    }

    /// `reply-to`, the queue that answers go to.
    pub fn reply_to(self) -> Result<Option<&'a str>, DecodeError> {
        self.find(REPLY_TO, |reader| reader.shortstr("reply-to"))
    }

    /// `expiration`: milliseconds as a decimal number, but any text here.
    pub fn expiration(self) -> Result<Option<&'a str>, DecodeError> {
        self.find(EXPIRATION, |reader| reader.shortstr("expiration"))
    }

    /// `timestamp`: seconds since 1970-01-01 UTC.
    pub fn timestamp(self) -> Result<Option<u64>, DecodeError> {
        self.find(TIMESTAMP, |reader| reader.longlong("timestamp"))
    }

    /// `user-id`, which RabbitMQ compares with the connection's user.
    pub fn user_id(self) -> Result<Option<&'a str>, DecodeError> {
        self.find(USER_ID, |reader| reader.shortstr("user-id"))
    }

    /// Checks what RabbitMQ checks when a message is published: every property is there to its end, nothing follows
    /// the last one, and `headers` is a table within the limits. Texts may be any octets. Answers with those that
    /// concern a broker.
    ///
    /// # Errors
    /// The first thing wrong.
    #[inline]
    pub fn inspect(self, limits: &TableLimits) -> Result<Inspected<'a>, DecodeError> {
        let (mut flags, mut reader) = self.split()?;
        let mut inspected = Inspected::default();
        while flags != 0 {
            let property = 1 << 15 >> flags.leading_zeros();
            flags &= !property;
            match property {
                HEADERS => {
                    let headers = reader.table("headers")?;
                    headers.validate(limits)?;
                    inspected.headers = Some(headers);
                }
                DELIVERY_MODE => inspected.delivery_mode = Some(reader.octet("delivery-mode")?),
                PRIORITY => inspected.priority = Some(reader.octet("priority")?),
                REPLY_TO => inspected.reply_to = Some(reader.shortstr_octets("reply-to")?),
                EXPIRATION => inspected.expiration = Some(reader.shortstr_octets("expiration")?),
                USER_ID => inspected.user_id = Some(reader.shortstr_octets("user-id")?),
                other => skip(&mut reader, other)?,
            }
        }
        reader.finish()?;
        Ok(inspected)
    }

    #[inline]
    pub(crate) fn split(self) -> Result<(u16, Reader<'a>), DecodeError> {
        let mut reader = Reader::new(WHAT, self.0);
        let flags = reader.short("property flags")?;
        if flags & NO_PROPERTY != 0 {
            return Err(DecodeError::UnknownProperty { flags });
        }
        Ok((flags, reader))
    }

    #[inline]
    fn find<T>(
        self,
        property: u16,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let (flags, mut reader) = self.split()?;
        if flags & property == 0 {
            return Ok(None);
        }
        // The properties before it have the higher bits.
        let before = !(property | property.wrapping_sub(1));
        skip(&mut reader, flags & before)?;
        read(&mut reader).map(Some)
    }
}

/// Reads past the properties of these flags.
#[inline]
pub(crate) fn skip(reader: &mut Reader<'_>, mut flags: u16) -> Result<(), DecodeError> {
    while flags != 0 {
        let property = 1 << 15 >> flags.leading_zeros();
        flags &= !property;
        match property {
            HEADERS => reader.longstr("headers").map(drop)?,
            DELIVERY_MODE | PRIORITY => reader.octet("delivery-mode or priority").map(drop)?,
            TIMESTAMP => reader.longlong("timestamp").map(drop)?,
            _ => reader.shortstr_octets("properties").map(drop)?,
        }
    }
    Ok(())
}

/// The properties of class `basic`. `None` is absent from the wire, which is not the same as empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BasicProperties<'a> {
    /// MIME type of the body.
    pub content_type: Option<&'a str>,
    /// MIME encoding of the body.
    pub content_encoding: Option<&'a str>,
    /// The application's field table.
    pub headers: Option<Table<'a>>,
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// 0 to 255; what counts is the queue's `x-max-priority`.
    pub priority: Option<u8>,
    /// The application's, to match an answer with its question.
    pub correlation_id: Option<&'a str>,
    /// The queue that answers go to.
    pub reply_to: Option<&'a str>,
    /// Milliseconds as a decimal number.
    pub expiration: Option<&'a str>,
    /// The application's name for the message.
    pub message_id: Option<&'a str>,
    /// Seconds since 1970-01-01 UTC.
    pub timestamp: Option<u64>,
    /// The application's kind of message (`type` on the wire).
    pub kind: Option<&'a str>,
    /// The publishing user.
    pub user_id: Option<&'a str>,
    /// The publishing application.
    pub app_id: Option<&'a str>,
    /// Deprecated; carried along.
    pub cluster_id: Option<&'a str>,
}

impl<'a> BasicProperties<'a> {
    /// Decodes flags and properties. The headers table is not looked into.
    ///
    /// # Errors
    /// A property is cut short or not UTF-8, octets are left over, or a flag names no property. RabbitMQ does not ask
    /// for UTF-8 here: use [`Properties`] for messages that are only passed on.
    pub fn decode(properties: Properties<'a>) -> Result<Self, DecodeError> {
        let (flags, mut reader) = properties.split()?;
        let has = |property: u16| flags & property != 0;
        let decoded = Self {
            content_type: has(CONTENT_TYPE).then(|| reader.shortstr("content-type")).transpose()?,
            content_encoding: has(CONTENT_ENCODING).then(|| reader.shortstr("content-encoding")).transpose()?,
            headers: has(HEADERS).then(|| reader.table("headers")).transpose()?,
            delivery_mode: has(DELIVERY_MODE).then(|| reader.octet("delivery-mode")).transpose()?,
            priority: has(PRIORITY).then(|| reader.octet("priority")).transpose()?,
            correlation_id: has(CORRELATION_ID).then(|| reader.shortstr("correlation-id")).transpose()?,
            reply_to: has(REPLY_TO).then(|| reader.shortstr("reply-to")).transpose()?,
            expiration: has(EXPIRATION).then(|| reader.shortstr("expiration")).transpose()?,
            message_id: has(MESSAGE_ID).then(|| reader.shortstr("message-id")).transpose()?,
            timestamp: has(TIMESTAMP).then(|| reader.longlong("timestamp")).transpose()?,
            kind: has(TYPE).then(|| reader.shortstr("type")).transpose()?,
            user_id: has(USER_ID).then(|| reader.shortstr("user-id")).transpose()?,
            app_id: has(APP_ID).then(|| reader.shortstr("app-id")).transpose()?,
            cluster_id: has(CLUSTER_ID).then(|| reader.shortstr("cluster-id")).transpose()?,
        };
        reader.finish()?;
        Ok(decoded)
    }

    /// Appends flags and properties.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flag = |present: bool, property: u16| if present { property } else { 0 };
        let texts_before = [(self.content_type, CONTENT_TYPE), (self.content_encoding, CONTENT_ENCODING)];
        let texts_between = [
            (self.correlation_id, CORRELATION_ID),
            (self.reply_to, REPLY_TO),
            (self.expiration, EXPIRATION),
            (self.message_id, MESSAGE_ID),
        ];
        let texts_after =
            [(self.kind, TYPE), (self.user_id, USER_ID), (self.app_id, APP_ID), (self.cluster_id, CLUSTER_ID)];
        let texts = texts_before.iter().chain(&texts_between).chain(&texts_after);
        let flags = texts.fold(0, |flags, (text, property)| flags | flag(text.is_some(), *property))
            | flag(self.headers.is_some(), HEADERS)
            | flag(self.delivery_mode.is_some(), DELIVERY_MODE)
            | flag(self.priority.is_some(), PRIORITY)
            | flag(self.timestamp.is_some(), TIMESTAMP);
        out.extend_from_slice(&flags.to_be_bytes());
        let put_texts = |out: &mut Vec<u8>, texts: &[(Option<&str>, u16)]| {
            texts.iter().filter_map(|(text, _)| *text).for_each(|text| wire::put_shortstr(out, text));
        };
        put_texts(out, &texts_before);
        if let Some(headers) = self.headers {
            wire::put_longstr(out, headers.octets());
        }
        out.extend(self.delivery_mode);
        out.extend(self.priority);
        put_texts(out, &texts_between);
        out.extend(self.timestamp.into_iter().flat_map(u64::to_be_bytes));
        put_texts(out, &texts_after);
    }
}

/// Appends a header frame with these properties, for a body of `body_size` octets.
pub fn encode_header(channel: u16, body_size: u64, properties: &BasicProperties<'_>, out: &mut Vec<u8>) {
    let [c1, c0] = channel.to_be_bytes();
    out.extend_from_slice(&[FRAME_HEADER, c1, c0]);
    wire::put_with_length(out, |out| encode_header_payload(body_size, properties, out));
    out.push(wire::FRAME_END);
}

/// Appends the payload of a header frame of class `basic`, to be kept and sent later.
pub fn encode_header_payload(body_size: u64, properties: &BasicProperties<'_>, out: &mut Vec<u8>) {
    let [class1, class0] = CLASS_BASIC.to_be_bytes();
    out.extend_from_slice(&[class1, class0, 0, 0]);
    out.extend_from_slice(&body_size.to_be_bytes());
    properties.encode(out);
}

/// Class id of `basic`, the one class with content.
pub const CLASS_BASIC: u16 = crate::basic::Publish::ID.0;

/// Appends a header frame around a payload that was received or kept.
#[inline]
pub fn encode_header_raw(channel: u16, payload: &[u8], out: &mut Vec<u8>) {
    wire::put_frame(out, FRAME_HEADER, channel, payload);
}

/// Appends the body in frames of at most `frame_max` octets, framing included; no frame for an empty body. A
/// `frame_max` below [`FRAME_MIN_SIZE`] counts as that.
#[inline]
pub fn encode_body_frames(channel: u16, body: &[u8], frame_max: u32, out: &mut Vec<u8>) {
    let payload = body_frame_payload(frame_max);
    if !body.is_empty() && body.len() <= payload {
        return wire::put_frame(out, FRAME_BODY, channel, body);
    }
    for part in body.chunks(payload) {
        wire::put_frame(out, FRAME_BODY, channel, part);
    }
}

/// Most octets of a body in one frame.
#[inline]
pub(crate) fn body_frame_payload(frame_max: u32) -> usize {
    let octets = frame_max.max(FRAME_MIN_SIZE).saturating_sub(FRAME_OVERHEAD);
    usize::try_from(octets).unwrap_or(usize::MAX)
}
