//! What came, as lines that can be compared.

use std::fmt::Write;

use anyhow::Result;
use warren_amqp::{BasicProperties, Header, Table, ToClient, Value, channel, connection};
use warren_tests::harness::Message;

pub(crate) fn channel_close(close: &channel::Close<'_>) -> String {
    format!("channel.close {} {:?} ({}, {})", close.reply_code, close.reply_text, close.class_id, close.method_id)
}

pub(crate) fn connection_close(close: &connection::Close<'_>) -> String {
    format!("connection.close {} {:?} ({}, {})", close.reply_code, close.reply_text, close.class_id, close.method_id)
}

/// A message with its method, its properties and its body. Headers are sorted: their order means nothing.
pub(crate) fn message(message: &Message) -> Result<String> {
    let method = ToClient::decode(&message.method)?;
    let properties = BasicProperties::decode(Header::decode(&message.header)?.properties)?;
    let headers = properties.headers.map(table).transpose()?.unwrap_or_default();
    let rest = BasicProperties { headers: None, ..properties };
    Ok(format!("{method:?} {} {{{headers}}} {:?}", some_of(&rest), String::from_utf8_lossy(&message.body)))
}

/// The properties that are there.
fn some_of(properties: &BasicProperties<'_>) -> String {
    let mut text = String::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = write!(text, "{name}={value} ");
        }
    };
    put("delivery_mode", properties.delivery_mode.map(|mode| mode.to_string()));
    put("priority", properties.priority.map(|priority| priority.to_string()));
    put("expiration", properties.expiration.map(str::to_owned));
    put("user_id", properties.user_id.map(str::to_owned));
    put("reply_to", properties.reply_to.map(str::to_owned));
    text
}

fn table(table: Table<'_>) -> Result<String> {
    let mut entries = Vec::new();
    for entry in table.iter() {
        let (name, value) = entry?;
        entries.push(format!("{name}={}", shown(value)?));
    }
    entries.sort();
    Ok(entries.join(", "))
}

fn shown(value: Value<'_>) -> Result<String> {
    Ok(match value {
        Value::LongString(octets) => format!("{:?}", String::from_utf8_lossy(octets)),
        Value::Table(inner) => format!("{{{}}}", table(inner)?),
        Value::Array(array) => {
            let values: Result<Vec<String>> = array.iter().map(|value| shown(value?)).collect();
            format!("[{}]", values?.join(", "))
        }
        // When it happened differs from run to run.
        Value::Timestamp(_) => String::from("a time"),
        other => format!("{other:?}"),
    })
}
