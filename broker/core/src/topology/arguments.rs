//! Arguments of queues and exchanges: which are known, which are right, and when two declarations mean the same.
//!
//! | argument | what is done with it |
//! |---|---|
//! | `x-queue-type` | `classic` (the default) and `quorum` are taken; a quorum queue logs messages of every delivery mode, otherwise both behave alike; `stream` is refused with 540 |
//! | `x-queue-mode` | `default` and `lazy` are taken and ignored, as in RabbitMQ; classic queues only |
//! | `x-queue-version` | 2 is taken and ignored, 1 is refused as in RabbitMQ 4.3; classic queues only |
//! | `x-queue-leader-locator`, `x-queue-master-locator` | taken and ignored: the least loaded shard is chosen |
//! | others that RabbitMQ knows | refused with 540 until they are implemented: a queue that silently does not do what was asked is worse |
//! | everything else | kept and given back, never compared |
//!
//! A refused argument closes the channel. For 406 this is what RabbitMQ does; 540 is a connection's error elsewhere,
//! but the connection is as right as with any other bad argument.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;
use warren_amqp::{ReplyCode, Table, TableBuilder, Value};

use super::headers::{same_value, sorted_entries};
use super::names::Thing;
use crate::{Exception, limits};

/// The types of queue that can be declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueType {
    Classic,
    Quorum,
}

impl QueueType {
    /// RabbitMQ's internal name, which its error texts show.
    pub(super) const fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }

    /// The type that a table asks for, without looking whether it is right in other ways.
    pub(super) fn of(arguments: &[u8]) -> Self {
        match lookup(arguments, "x-queue-type").and_then(|value| value.as_str()) {
            Some("quorum") => Self::Quorum,
            _ => Self::Classic,
        }
    }
}

/// An argument of `queue.declare` that RabbitMQ knows.
struct Known {
    name: &'static str,
    classic: bool,
    quorum: bool,
    implemented: bool,
}

const fn known(name: &'static str, classic: bool, quorum: bool, implemented: bool) -> Known {
    Known { name, classic, quorum, implemented }
}

const QUEUE_ARGUMENTS: [Known; 24] = [
    known("x-queue-type", true, true, true),
    known("x-queue-mode", true, false, true),
    known("x-queue-version", true, false, true),
    known("x-queue-leader-locator", true, true, true),
    known("x-queue-master-locator", true, false, true),
    known("x-expires", true, true, false),
    known("x-message-ttl", true, true, false),
    known("x-dead-letter-exchange", true, true, false),
    known("x-dead-letter-routing-key", true, true, false),
    known("x-dead-letter-strategy", false, true, false),
    known("x-max-length", true, true, false),
    known("x-max-length-bytes", true, true, false),
    known("x-max-in-memory-length", false, true, false),
    known("x-max-in-memory-bytes", false, true, false),
    known("x-max-priority", true, false, false),
    known("x-overflow", true, true, false),
    known("x-single-active-consumer", true, true, false),
    known("x-delivery-limit", false, true, false),
    known("x-consumer-timeout", true, true, false),
    known("x-quorum-initial-group-size", false, true, false),
    known("x-initial-cluster-size", false, false, false),
    known("x-max-age", false, false, false),
    known("x-stream-max-segment-size-bytes", false, false, false),
    known("x-stream-filter-size-bytes", false, false, false),
];

impl Known {
    fn fits(&self, queue_type: QueueType) -> bool {
        match queue_type {
            QueueType::Classic => self.classic,
            QueueType::Quorum => self.quorum,
        }
    }
}

/// Checks the arguments of a new queue; `queue` is how error texts call it.
pub(super) fn check_queue(queue: &str, arguments: &[u8]) -> Result<(), Exception> {
    check_size(queue, arguments)?;
    check_queue_type(queue, arguments)?;
    let queue_type = QueueType::of(arguments);
    for known in &QUEUE_ARGUMENTS {
        let name = known.name;
        let Some(value) = lookup(arguments, name) else {
            continue;
        };
        if !known.fits(queue_type) {
            let module = queue_type.module();
            return Err(precondition(format!("invalid arg '{name}' for {queue} of queue type {module}")));
        }
        if !known.implemented {
            let text = format!("argument '{name}' of {queue} is not implemented; declare the queue without it");
            return Err(Exception::channel(ReplyCode::NotImplemented, text));
        }
        match name {
            "x-queue-mode" => check_queue_mode(queue, value)?,
            "x-queue-version" => check_queue_version(queue, value)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_queue_type(queue: &str, arguments: &[u8]) -> Result<(), Exception> {
    let Some(value) = lookup(arguments, "x-queue-type") else {
        return Ok(());
    };
    match value {
        Value::LongString(b"classic" | b"quorum") => Ok(()),
        Value::LongString(b"stream") => Err(Exception::channel(
            ReplyCode::NotImplemented,
            format!("{queue} cannot be a stream: streams are not implemented; use x-queue-type quorum or classic"),
        )),
        Value::LongString(other) => {
            let other = printable(other);
            Err(invalid(queue, "x-queue-type", &format!("\"unsupported queue type '{other}'\"")))
        }
        other => Err(invalid(queue, "x-queue-type", &format!("{{unacceptable_type,{}}}", other.type_name()))),
    }
}

fn check_queue_mode(queue: &str, value: Value<'_>) -> Result<(), Exception> {
    match value {
        Value::LongString(b"default" | b"lazy") => Ok(()),
        Value::LongString(other) => {
            let other = printable(other);
            Err(invalid(queue, "x-queue-mode", &format!("\"unsupported queue mode '{other}'\"")))
        }
        other => Err(invalid(queue, "x-queue-mode", &format!("{{unacceptable_type,{}}}", other.type_name()))),
    }
}

fn check_queue_version(queue: &str, value: Value<'_>) -> Result<(), Exception> {
    let reason = match value.as_integer() {
        Some(2) => return Ok(()),
        Some(negative) if negative < 0 => format!("{{value_negative,{negative}}}"),
        Some(other) => format!("\"unsupported queue version '{other}'\""),
        None => format!("\"expected integer, got {}\"", value.type_name()),
    };
    Err(invalid(queue, "x-queue-version", &reason))
}

/// Checks the arguments of a new exchange; `exchange` is how error texts call it.
pub(super) fn check_exchange(exchange: &str, arguments: &[u8]) -> Result<(), Exception> {
    check_size(exchange, arguments)?;
    match lookup(arguments, "alternate-exchange") {
        None => Ok(()),
        Some(value) if value.as_str().is_some() => Ok(()),
        Some(value) => {
            let kind = value.type_name();
            Err(precondition(format!("invalid type '{kind}' for arg 'alternate-exchange' in {exchange}")))
        }
    }
}

/// Checks that arguments are not larger than what is kept of them.
pub(super) fn check_size(of: &str, arguments: &[u8]) -> Result<(), Exception> {
    if arguments.len() <= limits::ARGUMENTS_BYTES {
        return Ok(());
    }
    let (size, limit) = (arguments.len(), limits::ARGUMENTS_BYTES);
    Err(precondition(format!("arguments of {of} are {size} bytes, more than {limit}")))
}

/// Checks that a queue declared again means the same queue. Only arguments that its type knows are compared.
pub(super) fn check_same_queue(queue: &str, current: &[u8], received: &[u8]) -> Result<(), Exception> {
    let queue_type = QueueType::of(current);
    let names = QUEUE_ARGUMENTS.iter().filter(|known| known.fits(queue_type)).map(|known| known.name);
    check_same(queue, names, current, received)
}

/// Checks that an exchange declared again means the same exchange.
pub(super) fn check_same_exchange(exchange: &str, current: &[u8], received: &[u8]) -> Result<(), Exception> {
    check_same(exchange, ["alternate-exchange"].into_iter(), current, received)
}

fn check_same<'n>(
    of: &str,
    mut names: impl Iterator<Item = &'n str>,
    current: &[u8],
    received: &[u8],
) -> Result<(), Exception> {
    names.try_for_each(|name| {
        let (current, received) = (lookup(current, name), lookup(received, name));
        if equivalent(name, current, received) {
            return Ok(());
        }
        Err(inequivalent(name, of, &described(received), &described(current)))
    })
}

fn equivalent(name: &str, current: Option<Value<'_>>, received: Option<Value<'_>>) -> bool {
    match (current, received) {
        (None, None) => true,
        (Some(current), Some(received)) => type_class(current) == type_class(received) && same_value(current, received),
        (Some(one), None) | (None, Some(one)) => name == "x-queue-type" && one == Value::LongString(b"classic"),
    }
}

/// Values of one class are compared by what they say; integers of all widths are one class.
fn type_class(value: Value<'_>) -> &'static str {
    match value {
        Value::F32(_) | Value::F64(_) => "float",
        other if other.as_integer().is_some() => "integer",
        other => other.type_name(),
    }
}

/// The 406 for a declaration that differs from what is there. `received` and `current` come with their quotes.
pub(super) fn inequivalent(property: &str, of: &str, received: &str, current: &str) -> Exception {
    precondition(format!("inequivalent arg '{property}' for {of}: received {received} but current is {current}"))
}

/// [`inequivalent`] if two plain properties differ.
pub(super) fn check_property<T: PartialEq + ToString>(
    property: &str,
    of: &str,
    received: T,
    current: T,
) -> Result<(), Exception> {
    if received == current {
        return Ok(());
    }
    let quoted = |value: T| format!("'{}'", value.to_string());
    Err(inequivalent(property, of, &quoted(received), &quoted(current)))
}

fn described(value: Option<Value<'_>>) -> String {
    let Some(value) = value else {
        return String::from("none");
    };
    let kind = value.type_name();
    let shown = match value {
        Value::LongString(octets) | Value::Binary(octets) => printable(octets),
        Value::Bool(value) => Cow::Owned(value.to_string()),
        Value::F32(value) => Cow::Owned(value.to_string()),
        Value::F64(value) => Cow::Owned(value.to_string()),
        Value::Timestamp(seconds) => Cow::Owned(seconds.to_string()),
        other => other.as_integer().map_or(Cow::Borrowed("..."), |integer| Cow::Owned(integer.to_string())),
    };
    format!("the value '{shown}' of type '{kind}'")
}

/// A client's octets as text for a reply: at most 64 characters, no control characters.
fn printable(octets: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(octets);
    if text.len() <= 64 && !text.contains(char::is_control) {
        return text;
    }
    Cow::Owned(text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect())
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

fn lookup<'a>(arguments: &'a [u8], name: &str) -> Option<Value<'a>> {
    Table::new(arguments).get(name).ok().flatten()
}

fn invalid(queue: &str, name: &str, reason: &str) -> Exception {
    precondition(format!("invalid arg '{name}' for {queue}: {reason}"))
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
