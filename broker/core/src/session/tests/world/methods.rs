//! Methods of a client, and their parts, with what most tests want in them.

use std::vec;
use std::vec::Vec;

use bytes::Bytes;
use warren_amqp::content::encode_header;
use warren_amqp::{BasicProperties, Frame, Table, TableBuilder, ToServer, basic, connection, queue};

use super::NO_ARGUMENTS;

pub(crate) fn client_properties(capabilities: &[&str]) -> Vec<u8> {
    TableBuilder::build(|table| {
        table.table("capabilities", |table| {
            for name in capabilities {
                table.put(name, true);
            }
        });
    })
}

pub(crate) fn start_ok<'a>(
    client_properties: Table<'a>,
    mechanism: &'a str,
    response: &'a [u8],
) -> connection::StartOk<'a> {
    connection::StartOk { client_properties, mechanism, response, locale: "en_US" }
}

pub(crate) fn declare(queue: &str) -> queue::Declare<'_> {
    queue::Declare {
        queue,
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: NO_ARGUMENTS,
    }
}

pub(crate) fn consume<'a>(queue: &'a str, consumer_tag: &'a str) -> basic::Consume<'a> {
    basic::Consume {
        queue,
        consumer_tag,
        no_local: false,
        no_ack: false,
        exclusive: false,
        no_wait: false,
        arguments: NO_ARGUMENTS,
    }
}

pub(crate) fn to_queue(queue: &str) -> basic::Publish<'_> {
    basic::Publish { exchange: "", routing_key: queue, mandatory: false, immediate: false }
}

pub(crate) fn persistent() -> BasicProperties<'static> {
    BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() }
}

/// A publish's method and header, and no body.
pub(crate) fn publish_head(queue: &str, body_size: u64) -> Vec<u8> {
    let mut octets = vec![];
    ToServer::BasicPublish(to_queue(queue)).encode(1, &mut octets);
    encode_header(1, body_size, &persistent(), &mut octets);
    octets
}

pub(crate) fn body_frame(number: u16, payload: &[u8]) -> Bytes {
    let mut octets = vec![];
    Frame::Body { channel: number, payload }.encode(&mut octets);
    Bytes::from(octets)
}
