//! Arguments of queues, exchanges and bindings: which are known, which are right, and when two declarations mean the same.
//!
//! `queue` has the table of queue arguments, `exchange` those of exchanges, `equivalence` what RabbitMQ compares when
//! something is declared again. Arguments that nobody knows are kept and given back, never compared.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use warren_amqp::{ReplyCode, Table, TableBuilder, Value};

use super::headers::sorted_entries;
use super::names::Thing;
use crate::{Exception, limits};

mod equivalence;
pub(super) mod exchange;
pub(super) mod queue;

pub(super) use equivalence::{check_property, check_same};
pub(super) use queue::QueueType;

/// The value of an argument.
pub(super) fn lookup<'a>(arguments: &'a [u8], name: &str) -> Option<Value<'a>> {
    Table::new(arguments).get(name).ok().flatten()
}

/// Checks that arguments are not larger than what is kept of them.
pub(super) fn check_size(of: &str, arguments: &[u8]) -> Result<(), Exception> {
    if arguments.len() <= limits::ARGUMENTS_BYTES {
        return Ok(());
    }
    let (size, limit) = (arguments.len(), limits::ARGUMENTS_BYTES);
    Err(precondition(format!("arguments of {of} are {size} bytes, more than {limit}")))
}

/// The arguments of a binding in the one form that equal arguments share: sorted by name, the first of equal names.
pub(super) fn canonical(arguments: &Bytes) -> Bytes {
    let entries = sorted_entries(Table::new(arguments));
    let octets: Vec<u8> = TableBuilder::build(|table| {
        for (name, value) in entries {
            table.put(name, value);
        }
    });
    if octets == *arguments { arguments.clone() } else { Bytes::from(octets) }
}

/// A 406 that closes the channel.
pub(super) fn precondition(text: String) -> Exception {
    Exception::channel(ReplyCode::PreconditionFailed, text)
}

/// How error texts call a queue or an exchange.
pub(super) fn queue_named(name: &str, vhost: &str) -> String {
    Thing::Queue.named(name, vhost)
}

/// See [`queue_named`].
pub(super) fn exchange_named(name: &str, vhost: &str) -> String {
    Thing::Exchange.named(name, vhost)
}

/// The 406 for an argument that names an exchange and is no string; `of` is how error texts call what it is an argument of.
pub(super) fn wrong_type(value: Value<'_>, name: &str, of: &str) -> Exception {
    precondition(format!("invalid type '{}' for arg '{name}' in {of}", value.type_name()))
}

/// A value as error texts show it.
pub(super) fn shown(value: Value<'_>) -> String {
    match value {
        Value::LongString(octets) | Value::Binary(octets) => printable(octets).into_owned(),
        Value::Bool(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::Timestamp(seconds) => seconds.to_string(),
        other => other.as_integer().map_or_else(|| String::from("..."), |integer| integer.to_string()),
    }
}

/// A client's octets as text for a reply: at most 64 characters, no control characters.
pub(super) fn printable(octets: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(octets);
    if text.len() <= 64 && !text.contains(char::is_control) {
        return text;
    }
    Cow::Owned(text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect())
}
