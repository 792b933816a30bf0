//! The rule of the headers exchange (RabbitMQ's, which is wider than AMQP 0-9-1 §3.1.3.4).
//!
//! `x-match` in the binding's arguments says whether `all` (the default) or `any` of the other arguments must be in the
//! message's headers. Arguments that begin with `x-` count only for `all-with-x` and `any-with-x`; `x-match` itself
//! never counts. An argument of type void asks for the header's presence, any other for an equal value: numbers are
//! equal across widths, strings and binaries by their octets. `all` of no arguments matches everything, `any` of none
//! matches nothing.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use warren_amqp::{Table, Value};

use super::arguments;

/// The value of `x-match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    All,
    Any,
    AllWithX,
    AnyWithX,
}

impl Mode {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "all" => Self::All,
            "any" => Self::Any,
            "all-with-x" => Self::AllWithX,
            "any-with-x" => Self::AnyWithX,
            _ => return None,
        })
    }

    /// Without `x-match`, or with one that is invalid in spite of [`validate`], it is `all`.
    pub(super) fn of(arguments: Table<'_>) -> Self {
        let value = arguments.get("x-match").ok().flatten();
        value.and_then(|value| Self::from_name(value.as_str()?)).unwrap_or(Self::All)
    }

    fn counts(self, name: &str) -> bool {
        match self {
            Self::All | Self::Any => !name.starts_with("x-"),
            Self::AllWithX | Self::AnyWithX => name != "x-match",
        }
    }
}

/// Checks a binding's arguments; the error is the reply text.
pub(super) fn validate(arguments: Table<'_>) -> Result<(), String> {
    match arguments.get("x-match").ok().flatten() {
        None => Ok(()),
        Some(Value::LongString(octets)) => {
            let name = String::from_utf8_lossy(octets);
            if Mode::from_name(&name).is_some() {
                return Ok(());
            }
            let shown = erlang_binary(octets);
            Err(format!("Invalid x-match field value {shown}; expected all, any, all-with-x, or any-with-x"))
        }
        Some(value) => {
            let shown = match value {
                Value::Binary(octets) => erlang_binary(octets),
                Value::Void => "undefined".into(),
                other => arguments::shown(other),
            };
            Err(format!("Invalid x-match field type {} (value {shown}); expected longstr", value.type_name()))
        }
    }
}

/// Octets as RabbitMQ's texts have them: `<<"text">>`.
pub(super) fn erlang_binary(octets: &[u8]) -> String {
    let text = arguments::printable(octets);
    match text.as_ref() {
        "" => "<<>>".into(),
        ascii if ascii.is_ascii() => format!("<<\"{ascii}\">>"),
        other => format!("<<\"{other}\"/utf8>>"),
    }
}

/// A message's headers, sorted by name, ready to be compared with many bindings.
#[derive(Debug, Default)]
pub(super) struct MessageHeaders<'m> {
    entries: Vec<(&'m str, Value<'m>)>,
}

impl<'m> MessageHeaders<'m> {
    /// Of several equal names the first counts.
    pub(super) fn new(headers: Table<'m>) -> Self {
        Self { entries: sorted_entries(headers) }
    }

    /// Whether a binding with these arguments, whose `x-match` is `mode`, takes the message.
    pub(super) fn match_binding(&self, mode: Mode, arguments: Table<'_>) -> bool {
        let wanted = arguments.iter().map_while(Result::ok).filter(|(name, _)| mode.counts(name));
        let mut met = wanted.map(|(name, value)| self.meets(name, value));
        match mode {
            Mode::All | Mode::AllWithX => met.all(|met| met),
            Mode::Any | Mode::AnyWithX => met.any(|met| met),
        }
    }

    fn meets(&self, name: &str, wanted: Value<'_>) -> bool {
        let Ok(index) = self.entries.binary_search_by_key(&name, |(name, _)| name) else {
            return false;
        };
        let Some((_, value)) = self.entries.get(index) else {
            return false;
        };
        wanted == Value::Void || same_value(wanted, *value)
    }
}

/// The entries of a table sorted by name, the first of equal names only. Ends at what cannot be read, which the codec
/// has refused before.
pub(super) fn sorted_entries(table: Table<'_>) -> Vec<(&str, Value<'_>)> {
    let mut entries: Vec<_> = table.iter().map_while(Result::ok).collect();
    entries.sort_by_key(|(name, _)| *name);
    entries.dedup_by_key(|(name, _)| *name);
    entries
}

/// Equality of values as RabbitMQ has it: of what they say, not of how they are written.
pub(super) fn same_value(a: Value<'_>, b: Value<'_>) -> bool {
    match (Comparable::from(a), Comparable::from(b)) {
        (Comparable::Integer(integer), Comparable::Float(float))
        | (Comparable::Float(float), Comparable::Integer(integer)) => {
            #[expect(clippy::cast_precision_loss, reason = "a float of that size is as imprecise")]
            {
                integer as f64 == float
            }
        }
        (a, b) => a == b,
    }
}

#[derive(PartialEq)]
enum Comparable<'a> {
    Integer(i128),
    Float(f64),
    Octets(&'a [u8]),
    Other(Value<'a>),
}

impl<'a> From<Value<'a>> for Comparable<'a> {
    fn from(value: Value<'a>) -> Self {
        match value {
            Value::F32(float) => Self::Float(float.into()),
            Value::F64(float) => Self::Float(float),
            Value::LongString(octets) | Value::Binary(octets) => Self::Octets(octets),
            Value::Timestamp(seconds) => Self::Integer(seconds.into()),
            other => other.as_integer().map_or(Self::Other(other), |integer| Self::Integer(integer.into())),
        }
    }
}
