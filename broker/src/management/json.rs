//! What several nouns need to be read from JSON or written as it.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value as Json};
use warren_amqp::{Array, Table, Value};

/// Arguments as JSON. They were validated when they came.
pub(super) fn of_table(octets: &[u8]) -> Json {
    table(Table::new(octets))
}

fn table(table: Table<'_>) -> Json {
    let entries = table.iter().map_while(Result::ok);
    Json::Object(entries.map(|(name, value)| (name.to_owned(), of_value(value))).collect::<Map<_, _>>())
}

fn array(array: Array<'_>) -> Json {
    array.iter().map_while(Result::ok).map(of_value).collect()
}

/// A value of a field table as JSON. Octets that are no UTF-8 become the replacement character, decimals a number.
pub(super) fn of_value(value: Value<'_>) -> Json {
    match value {
        Value::Bool(value) => value.into(),
        Value::F32(value) => f64::from(value).into(),
        Value::F64(value) => value.into(),
        Value::Timestamp(seconds) => seconds.into(),
        Value::LongString(text) | Value::Binary(text) => String::from_utf8_lossy(text).into(),
        Value::Array(elements) => array(elements),
        Value::Table(entries) => table(entries),
        other => other.as_integer().map_or(Json::Null, Json::from),
    }
}

/// About how many octets [`of_table`] and its text take.
pub(super) fn cost_of_table(table: Table<'_>) -> usize {
    table.iter().map_while(Result::ok).map(|(name, value)| shown_length(name.as_bytes()) + cost(value)).sum()
}

fn cost(value: Value<'_>) -> usize {
    // What a value takes that is nothing but there: its place in a tree that is half empty.
    const PLACE: usize = 96;
    PLACE
        + match value {
            Value::LongString(text) | Value::Binary(text) => shown_length(text),
            Value::Array(elements) => elements.iter().map_while(Result::ok).map(cost).sum(),
            Value::Table(entries) => cost_of_table(entries),
            _ => 0,
        }
}

/// About how many octets a text takes in JSON: control characters take six, what is no UTF-8 three.
pub(super) fn shown_length(text: &[u8]) -> usize {
    let length = |octet: &u8| match octet {
        _ if octet.is_ascii_control() => 6,
        _ if octet.is_ascii() => 2,
        _ => 3,
    };
    text.iter().map(length).sum()
}

/// Names or tags as a list.
pub(super) fn texts(texts: &[Arc<str>]) -> Json {
    texts.iter().map(|text| Json::from(&**text)).collect()
}

/// A boolean, or one written as text, which RabbitMQ takes too.
pub(super) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Bool(bool),
        Text(String),
    }
    match Flag::deserialize(from) {
        Ok(Flag::Bool(value)) => Ok(value),
        Ok(Flag::Text(text)) if text == "true" => Ok(true),
        Ok(Flag::Text(text)) if text == "false" => Ok(false),
        _ => Err(serde::de::Error::custom("not_boolean: write true or false")),
    }
}

/// A whole number, or one written as text, which RabbitMQ takes too.
pub(super) fn integer<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Integer {
        Number(i64),
        Text(String),
    }
    let wrong = || serde::de::Error::custom("not_integer: write a whole number");
    match Integer::deserialize(from) {
        Ok(Integer::Number(number)) => Ok(number),
        Ok(Integer::Text(text)) => text.parse().map_err(|_| wrong()),
        Err(_) => Err(wrong()),
    }
}
