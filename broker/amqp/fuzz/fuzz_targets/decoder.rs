//! Everything this crate decodes, on any octets. Nothing may panic or read on past an error, and whatever is decoded
//! must encode to octets that decode to the same again.
//!
//! From `broker/amqp`: `RUSTC_BOOTSTRAP=1 cargo fuzz run decoder -- -max_total_time=60`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_amqp::content::Properties;
use warren_amqp::frame::decode_protocol_header;
use warren_amqp::limits::{TABLE, TABLE_BEFORE_LOGIN};
use warren_amqp::{
    Array, BasicProperties, Frame, Header, Table, ToClient, ToServer, Value, decode_frame, decode_whole_publish,
};

fuzz_target!(|octets: &[u8]| {
    let _ = decode_protocol_header(octets);
    stream(octets);
    method(octets);
    header(octets);
    table(Table::new(octets));
    array(Array::new(octets));
});

fn stream(mut octets: &[u8]) {
    while let Ok(Some((frame, taken))) = decode_frame(octets, 8_192) {
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(again, octets[..taken]);
        match frame {
            Frame::Method { payload, .. } => method(payload),
            Frame::Header { payload, .. } => header(payload),
            Frame::Body { .. } | Frame::Heartbeat { .. } => {}
        }
        whole_publish(octets);
        octets = &octets[taken..];
    }
}

/// What is taken at one go is what its frames are.
fn whole_publish(octets: &[u8]) {
    let Some((whole, len)) = decode_whole_publish(octets, 8_192) else {
        return;
    };
    let (mut rest, mut payloads) = (&octets[..len], Vec::new());
    while !rest.is_empty() {
        let Ok(Some((frame, taken))) = decode_frame(rest, 8_192) else { panic!("not whole frames") };
        assert_eq!(frame.channel(), whole.channel);
        payloads.push(match frame {
            Frame::Method { payload, .. } | Frame::Header { payload, .. } | Frame::Body { payload, .. } => payload,
            Frame::Heartbeat { .. } => panic!("a heartbeat within a publish"),
        });
        rest = &rest[taken..];
    }
    assert_eq!(payloads[1], whole.header_payload);
    assert_eq!(payloads.get(2).copied().unwrap_or_default(), whole.body);
}

fn method(payload: &[u8]) {
    if let Ok(decoded) = ToServer::decode(payload) {
        let mut frame = Vec::new();
        decoded.encode(1, &mut frame);
        assert_eq!(ToServer::decode(method_payload(&frame)), Ok(decoded));
        if let ToServer::ConnectionStartOk(start) = decoded {
            let _ = start.client_properties.validate(&TABLE_BEFORE_LOGIN);
        }
        if let ToServer::QueueDeclare(declare) = decoded {
            table(declare.arguments);
        }
    }
    if let Ok(decoded) = ToClient::decode(payload) {
        let mut frame = Vec::new();
        decoded.encode(1, &mut frame);
        assert_eq!(ToClient::decode(method_payload(&frame)), Ok(decoded));
    }
}

fn method_payload(frame: &[u8]) -> &[u8] {
    match decode_frame(frame, u32::MAX) {
        Ok(Some((Frame::Method { payload, .. }, taken))) if taken == frame.len() => payload,
        other => panic!("not one method frame: {other:?}"),
    }
}

fn header(payload: &[u8]) {
    let Ok(header) = Header::decode(payload) else {
        return;
    };
    properties(header.properties);
}

fn properties(properties: Properties<'_>) {
    let _ = (properties.delivery_mode(), properties.priority(), properties.reply_to(), properties.user_id());
    let _ = (properties.expiration(), properties.timestamp());
    let valid = properties.inspect(&TABLE);
    if let Ok(Some(headers)) = properties.headers() {
        table(headers);
    }
    if let Ok(decoded) = BasicProperties::decode(properties) {
        let mut again = Vec::new();
        decoded.encode(&mut again);
        assert_eq!(again, properties.octets());
        let headers = decoded.headers.unwrap_or_default();
        assert_eq!(valid.is_ok(), headers.validate(&TABLE).is_ok());
    }
}

fn table(table: Table<'_>) {
    let valid = table.validate(&TABLE).is_ok();
    let mut walked = 0;
    for entry in table {
        assert!(!valid || entry.is_ok());
        walked += 1;
        if let Ok((_, Value::Array(inner))) = entry {
            array(inner);
        }
    }
    assert!(walked <= table.octets().len());
}

fn array(array: Array<'_>) {
    assert!(array.iter().count() <= array.octets().len());
}
