//! Frames and methods octet by octet, as the standard and other implementations write them.

use warren_amqp::frame::{Frame, FrameError, HEARTBEAT, PROTOCOL_HEADER, decode_frame, decode_protocol_header};
use warren_amqp::{DecodeError, ReplyCode, Severity, Table, ToClient, ToServer, basic, channel, connection, queue};

fn frame(kind: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
    let size = u8::try_from(payload.len()).expect("a short payload");
    [&[kind, 0, channel, 0, 0, 0, size], payload, &[0xCE]].concat()
}

#[test]
fn publish_is_read_and_written_octet_by_octet() {
    let payload = b"\x00\x3c\x00\x28\x00\x00\x04logs\x05hello\x01";
    let method = basic::Publish { exchange: "logs", routing_key: "hello", mandatory: true, immediate: false };
    assert_eq!(ToServer::decode(payload), Ok(ToServer::BasicPublish(method)));
    let mut out = Vec::new();
    method.encode(1, &mut out);
    assert_eq!(out, frame(1, 1, payload));
}

#[test]
fn deliver_is_written_octet_by_octet() {
    let method = basic::Deliver {
        consumer_tag: "ctag",
        delivery_tag: 0x0102_0304_0506_0708,
        redelivered: true,
        exchange: "",
        routing_key: "q",
    };
    let mut out = Vec::new();
    ToClient::BasicDeliver(method).encode(2, &mut out);
    assert_eq!(out, frame(1, 2, b"\x00\x3c\x00\x3c\x04ctag\x01\x02\x03\x04\x05\x06\x07\x08\x01\x00\x01q"));
}

#[test]
fn queue_declare_packs_its_five_bits_lowest_first() {
    let arguments = b"\x0dx-message-ttlI\x00\x00\x03\xe8";
    let payload = [&b"\x00\x32\x00\x0a\x00\x00\x01q\x12\x00\x00\x00\x13"[..], arguments].concat();
    let method = queue::Declare {
        queue: "q",
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        no_wait: true,
        arguments: Table::new(arguments),
    };
    assert_eq!(ToServer::decode(&payload), Ok(ToServer::QueueDeclare(method)));
}

#[test]
fn close_carries_code_text_and_offender() {
    let payload = b"\x00\x14\x00\x28\x01\x94\x09NOT_FOUND\x00\x32\x00\x0a";
    let method = channel::Close { reply_code: 404, reply_text: "NOT_FOUND", class_id: 50, method_id: 10 };
    assert_eq!(ToClient::decode(payload), Ok(ToClient::ChannelClose(method)));
    assert_eq!(ToServer::decode(payload), Ok(ToServer::ChannelClose(method)));
    let mut out = Vec::new();
    method.encode(3, &mut out);
    assert_eq!(out, frame(1, 3, payload));
}

#[test]
fn reserved_fields_may_hold_anything_when_read() {
    let payload = b"\x00\x0a\x00\x28\x01/\x03\xff\xfe\xfd\x01";
    assert_eq!(ToServer::decode(payload), Ok(ToServer::ConnectionOpen(connection::Open { virtual_host: "/" })));
}

#[test]
fn a_short_string_that_is_not_utf8_is_502() {
    let error = ToServer::decode(b"\x00\x3c\x00\x28\x00\x00\x00\x02\xc3\x28\x00").expect_err("not UTF-8");
    assert_eq!(error, DecodeError::NotUtf8 { what: "basic.publish", field: "routing-key" });
    assert_eq!(error.reply_code(), ReplyCode::SyntaxError);
    assert_eq!(error.to_string(), "cannot decode basic.publish: routing-key is not UTF-8");
}

#[test]
fn a_text_beyond_255_octets_is_cut_at_a_character() {
    let text = format!("{}é", "x".repeat(254));
    let mut out = Vec::new();
    connection::Blocked { reason: &text }.encode(0, &mut out);
    let (split, taken) = decode_frame(&out, 4_096).expect("a good frame").expect("a whole frame");
    assert_eq!(taken, out.len());
    let Frame::Method { payload, .. } = split else { panic!("not a method frame") };
    let expected = connection::Blocked { reason: &text[..254] };
    assert_eq!(ToClient::decode(payload), Ok(ToClient::ConnectionBlocked(expected)));
}

#[test]
fn frames_split_one_by_one_and_wait_for_their_last_octet() {
    let stream = [frame(1, 1, b"abcd"), frame(2, 1, b"h"), frame(3, 1, b""), HEARTBEAT.to_vec()].concat();
    let mut rest = &stream[..];
    let mut frames = Vec::new();
    while let Some((split, taken)) = decode_frame(rest, 4_096).expect("a good frame") {
        for short in 0..taken {
            assert_eq!(decode_frame(&rest[..short], 4_096), Ok(None), "{short} octets of {taken}");
        }
        frames.push(split);
        rest = &rest[taken..];
    }
    assert_eq!(
        frames,
        [
            Frame::Method { channel: 1, payload: b"abcd" },
            Frame::Header { channel: 1, payload: b"h" },
            Frame::Body { channel: 1, payload: b"" },
            Frame::Heartbeat { channel: 0 },
        ]
    );
    let mut again = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut again));
    assert_eq!(again, stream);
}

#[test]
fn a_frame_of_frame_max_is_taken_and_one_octet_more_refused_before_it_arrives() {
    let head = |size: u32| [&[3, 0, 9][..], &size.to_be_bytes()].concat();
    assert_eq!(decode_frame(&head(4_088), 4_096), Ok(None));
    let whole = [head(4_088), vec![0; 4_088], vec![0xCE]].concat();
    let (split, taken) = decode_frame(&whole, 4_096).expect("a good frame").expect("a whole frame");
    assert_eq!((split.channel(), taken), (9, 4_096));

    let error = decode_frame(&head(4_089), 4_096).expect_err("one octet too large");
    assert_eq!(error, FrameError::TooLarge { kind: 3, channel: 9, size: 4_089, limit: 4_088 });
    assert_eq!(error.reply_code(), ReplyCode::FrameError);
    assert_eq!(error.to_string(), "type 3, channel 9: {frame_too_large,4089,4088}");
    assert!(decode_frame(&head(u32::MAX), u32::MAX).is_err());
}

#[test]
fn a_frame_max_of_zero_is_not_unlimited() {
    assert!(decode_frame(&frame(1, 0, b"abcd"), 0).is_err());
    assert!(decode_frame(&frame(1, 0, b"abcd"), 7).is_err());
}

#[test]
fn broken_frames_are_501() {
    let unknown = |kind| FrameError::Unknown { kind, channel: 1 };
    let cases: [(&[u8], FrameError); 6] = [
        (b"\x00\x00\x01\x00\x00\x00\x00\xce", unknown(0)),
        (b"\x04\x00\x01\x00\x00\x00\x00", unknown(4)),
        (b"\xff\x00\x01\x00\x00\x00\x00", unknown(255)),
        (b"\x08\x00\x01\x00\x00\x00\x01x\xce", unknown(8)),
        (b"\x01\x00\x01\x00\x00\x00\x01x\xcd", FrameError::EndOctet { kind: 1, channel: 1, found: 0xcd }),
        (b"\x01\x00\x01\x00\x00\x00\x00\x00", FrameError::EndOctet { kind: 1, channel: 1, found: 0 }),
    ];
    for (octets, expected) in cases {
        let error = decode_frame(octets, 4_096).expect_err("a broken frame");
        assert_eq!(error, expected);
        assert_eq!(error.reply_code(), ReplyCode::FrameError);
    }
}

#[test]
fn a_heartbeat_keeps_its_wrong_channel_for_the_caller_to_judge() {
    let octets = frame(8, 5, b"");
    let (split, _) = decode_frame(&octets, 4_096).expect("a good frame").expect("a whole frame");
    assert_eq!(split, Frame::Heartbeat { channel: 5 });
}

#[test]
fn the_protocol_header_is_refused_at_its_first_wrong_octet() {
    let whole = [&PROTOCOL_HEADER[..], b"more"].concat();
    for short in 0..8 {
        assert_eq!(decode_protocol_header(&whole[..short]), Ok(None));
    }
    assert_eq!(decode_protocol_header(&whole), Ok(Some(8)));
    assert_eq!(decode_protocol_header(b"AMQP\x01\x01\x00\x09"), Ok(Some(8)), "0-9 is read as 0-9-1");
    let refused: [&[u8]; 6] =
        [b"G", b"AMQ\x00", b"AMQP\x03", b"AMQP\x00\x01", b"AMQP\x01\x01\x00\x08", b"AMQP\x00\x00\x09\x00"];
    for octets in refused {
        assert!(decode_protocol_header(octets).is_err(), "{octets:?}");
    }
}

#[test]
fn reply_codes_have_the_standards_numbers_names_and_sizes() {
    let rows: [(u16, &str, Option<Severity>); 19] = [
        (200, "REPLY_SUCCESS", None),
        (311, "CONTENT_TOO_LARGE", Some(Severity::Soft)),
        (312, "NO_ROUTE", Some(Severity::Soft)),
        (313, "NO_CONSUMERS", Some(Severity::Soft)),
        (320, "CONNECTION_FORCED", Some(Severity::Hard)),
        (402, "INVALID_PATH", Some(Severity::Hard)),
        (403, "ACCESS_REFUSED", Some(Severity::Soft)),
        (404, "NOT_FOUND", Some(Severity::Soft)),
        (405, "RESOURCE_LOCKED", Some(Severity::Soft)),
        (406, "PRECONDITION_FAILED", Some(Severity::Soft)),
        (501, "FRAME_ERROR", Some(Severity::Hard)),
        (502, "SYNTAX_ERROR", Some(Severity::Hard)),
        (503, "COMMAND_INVALID", Some(Severity::Hard)),
        (504, "CHANNEL_ERROR", Some(Severity::Hard)),
        (505, "UNEXPECTED_FRAME", Some(Severity::Hard)),
        (506, "RESOURCE_ERROR", Some(Severity::Hard)),
        (530, "NOT_ALLOWED", Some(Severity::Hard)),
        (540, "NOT_IMPLEMENTED", Some(Severity::Hard)),
        (541, "INTERNAL_ERROR", Some(Severity::Hard)),
    ];
    assert_eq!(rows.len(), ReplyCode::ALL.len());
    for (code, name, severity) in rows {
        let known = ReplyCode::from_code(code).expect("a defined code");
        assert_eq!((known.code(), known.name(), known.severity()), (code, name, severity));
    }
    assert_eq!(ReplyCode::from_code(404), Some(ReplyCode::NotFound));
    assert_eq!(ReplyCode::from_code(500), None);
}
