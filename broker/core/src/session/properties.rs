//! The properties of a message that concern the broker: what they may be, and what queues need to know of them.

use alloc::format;
use alloc::string::String;

use warren_amqp::content::CLASS_BASIC;
use warren_amqp::{DecodeError, Header, ReplyCode, Table, limits};

use super::expiration::parse_expiration;
use super::routing::Traits;
use crate::command::Attributes;
use crate::error::Exception;
use crate::limits::MESSAGE_BYTES;

/// `delivery-mode` of a message that is to survive a restart.
const PERSISTENT: u8 = 2;

/// What a content header says, found good.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked<'a> {
    pub(super) persistent: bool,
    pub(super) traits: Traits<'a>,
    pub(super) attributes: Attributes<'a>,
}

impl<'a> Checked<'a> {
    /// Looks at a content header that `user` has sent: once, and at nothing that does not concern the broker. The order of
    /// the checks is RabbitMQ's.
    #[inline]
    pub(super) fn of(payload: &'a [u8], user: &str) -> Result<Self, Exception> {
        let header = Header::decode(payload).map_err(malformed)?;
        if header.class_id != CLASS_BASIC || header.body_size > MESSAGE_BYTES {
            check_size(payload)?;
        }
        let properties = header.properties.inspect(&limits::TABLE).map_err(malformed)?;
        let expiration = properties.expiration.map(parse_expiration).transpose()?;
        if let Some(headers) = properties.headers {
            refuse_sender_selected(headers)?;
        }
        if let Some(claimed) = properties.user_id.filter(|claimed| *claimed != user.as_bytes()) {
            return Err(impersonated(claimed, user));
        }
        let attributes = Attributes { expiration, priority: properties.priority, ..Attributes::default() };
        let traits = Traits { headers: properties.headers, properties: header.properties };
        Ok(Self { persistent: properties.delivery_mode == Some(PERSISTENT), traits, attributes })
    }
}

/// The body's size that a content header announces, if it may.
pub(super) fn check_size(payload: &[u8]) -> Result<u64, Exception> {
    let header = Header::decode(payload).map_err(malformed)?;
    if header.class_id != CLASS_BASIC {
        let text = format!("content header for class {}, expected class {CLASS_BASIC}", header.class_id);
        return Err(Exception::connection(ReplyCode::UnexpectedFrame, text));
    }
    if header.body_size > MESSAGE_BYTES {
        // The body follows and is dropped with the closing channel.
        let text = format!("message size {} is larger than configured max size {MESSAGE_BYTES}", header.body_size);
        return Err(Exception::channel(ReplyCode::PreconditionFailed, text));
    }
    Ok(header.body_size)
}

#[cold]
fn malformed(error: DecodeError) -> Exception {
    Exception::connection(error.reply_code(), format!("{error}"))
}

#[cold]
fn impersonated(claimed: &[u8], user: &str) -> Exception {
    let claimed = String::from_utf8_lossy(claimed);
    let text = format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
    Exception::channel(ReplyCode::PreconditionFailed, text)
}

/// RabbitMQ's sender-selected distribution: further routing keys in the headers `CC` and `BCC`.
fn refuse_sender_selected(headers: Table<'_>) -> Result<(), Exception> {
    for name in ["CC", "BCC"] {
        if matches!(headers.get(name), Ok(Some(_))) {
            let text = format!("the header '{name}' (sender-selected distribution) is not available in this version");
            return Err(Exception::channel(ReplyCode::NotImplemented, text));
        }
    }
    Ok(())
}
