//! The properties of a message that concern the broker: what they may be, and what queues need to know of them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use warren_amqp::content::CLASS_BASIC;
use warren_amqp::{Changes, DecodeError, Header, ReplyCode, Table, Value, limits};

use super::deduplication::deduplication_key;
use super::direct_reply::DIRECT_REPLY_TO;
use super::expiration::parse_expiration;
use super::routing::Traits;
use super::sender_selected::{BLIND, SenderSelected};
use crate::command::Attributes;
use crate::error::Exception;
use crate::header;
use crate::limits::ANNOUNCED_BYTES;
use crate::topology::{Identity, Routes, Topology};

/// `delivery-mode` of a message that is to survive a restart.
const PERSISTENT: u8 = 2;

/// What a content header says, found good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked<'a> {
    pub(super) persistent: bool,
    pub(super) traits: Traits<'a>,
    expiration: Option<u64>,
    priority: Option<u8>,
    copies: Copies,
    /// Its `reply-to` asks for an answer past all queues.
    pub(super) asks_for_reply: bool,
}

/// Whether a message has further routing keys, and whether there are some that nobody is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copies {
    None,
    Open,
    Blind,
}

impl<'a> Checked<'a> {
    /// Looks at a content header that somebody has sent: once, and at nothing that does not concern the broker. The order
    /// of the checks is RabbitMQ's. `message_bytes`: how large the body may be.
    #[inline]
    pub(super) fn of(
        payload: &'a [u8],
        message_bytes: u64,
        publisher: &Identity,
        topology: &Topology,
    ) -> Result<Self, Exception> {
        let header = Header::decode(payload).map_err(malformed)?;
        if header.class_id != CLASS_BASIC || header.body_size > message_bytes {
            check_size(payload, message_bytes)?;
        }
        let properties = header.properties.inspect(&limits::TABLE).map_err(malformed)?;
        let expiration = properties.expiration.map(parse_expiration).transpose()?;
        let copies = properties.headers.map_or(Ok(Copies::None), copies)?;
        if let Some(claimed) = properties.user_id {
            check_user(claimed, publisher, topology)?;
        }
        let traits = Traits { headers: properties.headers, properties: header.properties };
        Ok(Self {
            persistent: properties.delivery_mode == Some(PERSISTENT),
            traits,
            expiration,
            priority: properties.priority,
            copies,
            asks_for_reply: properties.reply_to.is_some_and(|name| name == DIRECT_REPLY_TO.as_bytes()),
        })
    }
}

impl<'a> Checked<'a> {
    /// True if it is kept as it came.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        !self.asks_for_reply && !self.has_blind_copies()
    }

    /// What the queues that it goes to need to know of it: those of the headers that one of them asks for.
    #[inline]
    pub(super) fn attributes_for(&self, routes: &Routes) -> Attributes<'a> {
        let attributes = Attributes { expiration: self.expiration, priority: self.priority, ..Attributes::default() };
        if routes.ask_nothing() {
            return attributes;
        }
        attributes_for(routes, attributes, self.traits.headers.unwrap_or_default())
    }

    /// Whether it has further routing keys.
    #[inline]
    pub(super) fn has_copies(&self) -> bool {
        self.copies != Copies::None
    }

    /// Its further routing keys.
    pub(super) fn further_keys(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let selected = self.traits.headers.filter(|_| self.has_copies()).map(SenderSelected::of);
        selected.and_then(Result::ok).flatten().into_iter().flat_map(SenderSelected::keys)
    }

    #[inline]
    fn has_blind_copies(&self) -> bool {
        self.copies == Copies::Blind
    }
}

/// The attributes of a message with these headers, and with those of the headers that one of its queues asks for.
#[cold]
pub(crate) fn attributes_for<'a>(routes: &Routes, attributes: Attributes<'a>, headers: Table<'a>) -> Attributes<'a> {
    Attributes {
        delay: routes.delay(),
        deduplication: if routes.deduplicates() { deduplication_key(headers) } else { None },
        filter: if routes.has_stream() { filter_value(headers) } else { None },
        ..attributes
    }
}

/// The content header as it is kept, if that is not as it came: nobody is shown blind copies, and `reply_to` is an address.
#[cold]
pub(super) fn kept_header(payload: &[u8], content: &Checked<'_>, reply_to: Option<&str>) -> Vec<u8> {
    let without: &[&str] = if content.has_blind_copies() { &[BLIND] } else { &[] };
    header::changed(payload, &Changes { without, reply_to, ..Changes::default() })
}

/// The body's size that a content header announces, if it may.
pub(super) fn check_size(payload: &[u8], message_bytes: u64) -> Result<u64, Exception> {
    let header = Header::decode(payload).map_err(malformed)?;
    if header.class_id != CLASS_BASIC {
        let text =
            format!("expected content header for class {CLASS_BASIC}, got one for class {} instead", header.class_id);
        return Err(Exception::connection(ReplyCode::UnexpectedFrame, text));
    }
    if header.body_size > ANNOUNCED_BYTES {
        let text = format!("content body size {} exceeds maximum allowed size {ANNOUNCED_BYTES}", header.body_size);
        return Err(Exception::connection(ReplyCode::FrameError, text));
    }
    if header.body_size > message_bytes {
        // The body follows and is dropped with the closing channel.
        let text = format!("message size {} is larger than configured max size {message_bytes}", header.body_size);
        return Err(Exception::channel(ReplyCode::PreconditionFailed, text));
    }
    Ok(header.body_size)
}

fn copies(headers: Table<'_>) -> Result<Copies, Exception> {
    Ok(match SenderSelected::of(headers)? {
        None => Copies::None,
        Some(SenderSelected { is_blind: false, .. }) => Copies::Open,
        Some(SenderSelected { is_blind: true, .. }) => Copies::Blind,
    })
}

/// The value that streams filter by (header `x-stream-filter-value`).
fn filter_value(headers: Table<'_>) -> Option<&[u8]> {
    match headers.get("x-stream-filter-value") {
        Ok(Some(Value::LongString(value))) => Some(value),
        _ => None,
    }
}

#[cold]
fn malformed(error: DecodeError) -> Exception {
    Exception::connection(error.reply_code(), format!("{error}"))
}

/// A message may name its publisher, and only those who may impersonate others may name somebody else.
fn check_user(claimed: &[u8], identity: &Identity, topology: &Topology) -> Result<(), Exception> {
    let user = identity.name();
    if claimed == user.as_bytes() || topology.may_impersonate(identity) {
        return Ok(());
    }
    let claimed = String::from_utf8_lossy(claimed);
    let text = format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
    Err(Exception::channel(ReplyCode::PreconditionFailed, text))
}
