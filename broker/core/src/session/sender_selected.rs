//! Sender-selected distribution: further routing keys of a message, in its headers `CC` and `BCC` (RabbitMQ).
//!
//! Exchanges see all keys of a message at once ([`crate::topology::Envelope`]), and each queue gets it once. Nobody is shown
//! `BCC`.

use alloc::format;

use warren_amqp::{Array, ReplyCode, Table, Value};

use crate::error::Exception;

/// The header whose keys nobody is shown.
pub(super) const BLIND: &str = "BCC";

/// The further routing keys of a message that has some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SenderSelected<'a> {
    open: Array<'a>,
    blind: Array<'a>,
    /// There is a `BCC`.
    pub(super) is_blind: bool,
}

impl<'a> SenderSelected<'a> {
    /// Those in these headers, which have been validated; `None`: there are neither `CC` nor `BCC`.
    #[inline]
    pub(super) fn of(headers: Table<'a>) -> Result<Option<Self>, Exception> {
        let (mut open, mut blind) = (None, None);
        for (name, value) in headers.iter().flatten() {
            // The first of several entries of a name counts.
            match name {
                "CC" => open = open.or(Some(value)),
                BLIND => blind = blind.or(Some(value)),
                _ => {}
            }
        }
        if open.is_none() && blind.is_none() {
            return Ok(None);
        }
        Ok(Some(Self { open: keys("CC", open)?, blind: keys(BLIND, blind)?, is_blind: blind.is_some() }))
    }

    /// The keys. Elements that are not strings are none (RabbitMQ).
    pub(super) fn keys(self) -> impl Iterator<Item = &'a [u8]> {
        self.open.iter().chain(self.blind.iter()).filter_map(|element| match element {
            Ok(Value::LongString(key)) => Some(key),
            _ => None,
        })
    }
}

fn keys<'a>(name: &str, value: Option<Value<'a>>) -> Result<Array<'a>, Exception> {
    match value {
        None => Ok(Array::default()),
        Some(Value::Array(keys)) => Ok(keys),
        Some(other) => {
            let text = format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}", other.type_name());
            Err(Exception::channel(ReplyCode::PreconditionFailed, text))
        }
    }
}
