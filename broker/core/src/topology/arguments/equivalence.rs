//! What RabbitMQ compares when a queue or exchange is declared again, and how it says what differs.

use alloc::format;
use alloc::string::{String, ToString};

use warren_amqp::Value;

use super::super::headers::same_value;
use super::{lookup, precondition, shown};
use crate::Exception;

/// Checks that two plain properties agree; `of` is how error texts call what has them.
pub(in super::super) fn check_property<T: PartialEq + ToString>(
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

/// Checks that an argument says the same in two tables.
pub(in super::super) fn check_same(name: &str, of: &str, received: &[u8], current: &[u8]) -> Result<(), Exception> {
    check_same_value(name, of, lookup(received, name), lookup(current, name), shown)
}

/// Checks that two values of an argument say the same; `show` is for error texts.
pub(super) fn check_same_value<'v>(
    name: &str,
    of: &str,
    received: Option<Value<'v>>,
    current: Option<Value<'v>>,
    show: impl Fn(Value<'v>) -> String,
) -> Result<(), Exception> {
    let quoted = |value: Value<'v>| match value {
        Value::Void => String::from("none"),
        value => format!("'{}'", show(value)),
    };
    let typed = |value: Value<'v>| format!("the value {} of type '{}'", quoted(value), value.type_name());
    let (received, current) = match (received, current) {
        (None, None) => return Ok(()),
        (Some(received), Some(current)) if equivalent(received, current) => return Ok(()),
        (Some(received), Some(current)) => (quoted(received), quoted(current)),
        (Some(received), None) => (typed(received), String::from("none")),
        (None, Some(current)) => (String::from("none"), typed(current)),
    };
    Err(inequivalent(name, of, &received, &current))
}

/// The 406 for a declaration that differs from what is there. `received` and `current` come with their quotes.
pub(super) fn inequivalent(property: &str, of: &str, received: &str, current: &str) -> Exception {
    precondition(format!("inequivalent arg '{property}' for {of}: received {received} but current is {current}"))
}

fn equivalent(received: Value<'_>, current: Value<'_>) -> bool {
    type_class(received) == type_class(current) && same_value(received, current)
}

/// Values of one class are compared by what they say; integers of all widths are one class, and so are all octets.
fn type_class(value: Value<'_>) -> &'static str {
    match value {
        Value::F32(_) | Value::F64(_) => "float",
        Value::LongString(_) | Value::Binary(_) => "octets",
        other if other.as_integer().is_some() => "integer",
        other => other.type_name(),
    }
}
