//! The arguments of `exchange.declare` that have a meaning.
//!
//! | argument | exchanges | values |
//! |---|---|---|
//! | `alternate-exchange` | all | a string |
//! | `hash-header` | `x-consistent-hash` | a string: the header that is hashed |
//! | `hash-property` | `x-consistent-hash` | `message_id`, `correlation_id`, `timestamp`: the property that is hashed; not beside `hash-header` |
//! | `x-delayed-type` | `x-delayed-message` | the type that the exchange has for messages whose time has come |

use alloc::format;
use alloc::string::String;

use warren_amqp::Value;

use super::super::hash::Hashed;
use super::super::records::{DELAYED_TYPE, ExchangeKind};
use super::{check_same, check_size, lookup, precondition, printable, wrong_type};
use crate::Exception;

/// Checks the arguments of a new exchange; `exchange` is how error texts call it.
pub(in super::super) fn check(exchange: &str, kind: ExchangeKind, arguments: &[u8]) -> Result<(), Exception> {
    check_size(exchange, arguments)?;
    if let Some(value) = lookup(arguments, "alternate-exchange")
        && value.as_str().is_none()
    {
        return Err(wrong_type(value, "alternate-exchange", exchange));
    }
    match kind {
        ExchangeKind::ConsistentHash => check_hash(exchange, arguments),
        _ => Ok(()),
    }
}

fn check_hash(exchange: &str, arguments: &[u8]) -> Result<(), Exception> {
    let (header, property) = (lookup(arguments, "hash-header"), lookup(arguments, "hash-property"));
    for (name, value) in [("hash-header", header), ("hash-property", property)] {
        if let Some(value) = value.filter(|value| value.as_str().is_none()) {
            return Err(wrong_type(value, name, exchange));
        }
    }
    if header.is_some() && property.is_some() {
        return Err(precondition(String::from("hash-header and hash-property are mutually exclusive")));
    }
    match property {
        Some(Value::LongString(name)) if Hashed::property(name).is_none() => {
            Err(precondition(format!("Unsupported property: {}", printable(name))))
        }
        _ => Ok(()),
    }
}

/// The type that a declaration asks for. RabbitMQ looks at this before it looks at the name.
pub(in super::super) fn kind_of(name: &str, arguments: &[u8]) -> Result<ExchangeKind, Exception> {
    if name == DELAYED_TYPE {
        return delayed_kind(arguments);
    }
    plain_kind(name)
}

fn plain_kind(name: &str) -> Result<ExchangeKind, Exception> {
    ExchangeKind::from_name(name).ok_or_else(|| {
        let known = if name.is_empty() { "invalid" } else { "unknown" };
        precondition(format!("{known} exchange type '{}'", name.escape_debug()))
    })
}

fn delayed_kind(arguments: &[u8]) -> Result<ExchangeKind, Exception> {
    let Some(inner) = lookup(arguments, "x-delayed-type").and_then(|value| value.as_str()) else {
        let text = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
        return Err(precondition(String::from(text)));
    };
    if inner == DELAYED_TYPE {
        let text = "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'";
        return Err(precondition(String::from(text)));
    }
    plain_kind(inner)
}

/// Checks that an exchange declared again means the same exchange.
pub(in super::super) fn check_same_arguments(exchange: &str, received: &[u8], current: &[u8]) -> Result<(), Exception> {
    check_same("alternate-exchange", exchange, received, current)?;
    check_same("x-delayed-type", exchange, received, current)
}
