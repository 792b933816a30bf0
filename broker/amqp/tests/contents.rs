//! Header and body frames, properties, and whole deliveries.

use proptest::prelude::*;
use warren_amqp::content::{
    BasicProperties, Header, Inspected, Properties, encode_body_frames, encode_header, encode_header_payload,
    encode_header_raw,
};
use warren_amqp::delivery::{Content, encode_deliver, encode_get_ok, encode_return};
use warren_amqp::limits::TABLE;
use warren_amqp::{
    DecodeError, Frame, ReplyCode, Table, TableError, ToClient, ToServer, WholePublish, basic, decode_frame,
    decode_whole_publish,
};

fn split(mut octets: &[u8], frame_max: u32) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while let Some((frame, taken)) = decode_frame(octets, frame_max).expect("a good frame") {
        frames.push(frame);
        octets = &octets[taken..];
    }
    assert_eq!(octets, b"", "octets after the last frame");
    frames
}

const HEADERS: &[u8] = b"\x01kt\x01";

fn all_properties() -> BasicProperties<'static> {
    BasicProperties {
        content_type: Some("text/plain"),
        content_encoding: Some("gzip"),
        headers: Some(Table::new(HEADERS)),
        delivery_mode: Some(2),
        priority: Some(9),
        correlation_id: Some("c"),
        reply_to: Some("r"),
        expiration: Some("60000"),
        message_id: Some("m"),
        timestamp: Some(1_600_000_000),
        kind: Some("t"),
        user_id: Some("guest"),
        app_id: Some("a"),
        cluster_id: Some("x"),
    }
}

#[test]
fn a_header_is_read_and_written_octet_by_octet() {
    let payload = b"\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x90\x00\x0atext/plain\x02";
    let header = Header::decode(payload).expect("a good header");
    assert_eq!((header.class_id, header.body_size), (60, 5));
    let properties =
        BasicProperties { content_type: Some("text/plain"), delivery_mode: Some(2), ..BasicProperties::default() };
    assert_eq!(BasicProperties::decode(header.properties), Ok(properties));
    let mut frame = Vec::new();
    encode_header(1, 5, &properties, &mut frame);
    assert_eq!(split(&frame, 4_096), [Frame::Header { channel: 1, payload }]);
    let mut kept = Vec::new();
    encode_header_payload(5, &properties, &mut kept);
    assert_eq!(kept, payload);
    let mut raw = Vec::new();
    encode_header_raw(1, payload, &mut raw);
    assert_eq!(raw, frame);
}

#[test]
fn each_property_is_found_behind_all_the_others() {
    let mut octets = Vec::new();
    all_properties().encode(&mut octets);
    let properties = Properties::new(&octets);
    assert_eq!(properties.headers(), Ok(Some(Table::new(HEADERS))));
    assert_eq!(properties.delivery_mode(), Ok(Some(2)));
    assert_eq!(properties.priority(), Ok(Some(9)));
    assert_eq!(properties.reply_to(), Ok(Some("r")));
    assert_eq!(properties.expiration(), Ok(Some("60000")));
    assert_eq!(properties.timestamp(), Ok(Some(1_600_000_000)));
    assert_eq!(properties.user_id(), Ok(Some("guest")));
    let inspected = Inspected {
        delivery_mode: Some(2),
        headers: Some(Table::new(HEADERS)),
        priority: Some(9),
        reply_to: Some(b"r"),
        expiration: Some(b"60000"),
        user_id: Some(b"guest"),
    };
    assert_eq!(properties.inspect(&TABLE), Ok(inspected));
    assert_eq!(BasicProperties::decode(properties), Ok(all_properties()));
}

#[test]
fn absent_properties_are_none() {
    let properties = Properties::new(&[0, 0]);
    assert_eq!(properties.headers(), Ok(None));
    assert_eq!(properties.delivery_mode(), Ok(None));
    assert_eq!(properties.priority(), Ok(None));
    assert_eq!(properties.reply_to(), Ok(None));
    assert_eq!(properties.expiration(), Ok(None));
    assert_eq!(properties.timestamp(), Ok(None));
    assert_eq!(properties.user_id(), Ok(None));
    assert_eq!(properties.inspect(&TABLE), Ok(Inspected::default()));
    assert_eq!(BasicProperties::decode(properties), Ok(BasicProperties::default()));
}

#[test]
fn malformed_headers_have_their_codes() {
    let weight = b"\x00\x3c\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let error = Header::decode(weight).expect_err("weight is not 0");
    assert_eq!((error, error.reply_code()), (DecodeError::WeightNotZero { weight: 1 }, ReplyCode::UnexpectedFrame));
    for short in 0..12 {
        let error = Header::decode(&[0; 12][..short]).expect_err("too short");
        assert_eq!(error.reply_code(), ReplyCode::FrameError);
    }
    let cases: [(&[u8], ReplyCode); 8] = [
        (b"", ReplyCode::FrameError),
        (b"\x10", ReplyCode::FrameError),
        (b"\x10\x00", ReplyCode::FrameError),
        (b"\x10\x00\x02\x00", ReplyCode::FrameError),
        (b"\x80\x00\x05text", ReplyCode::FrameError),
        (b"\x00\x01\x00\x00", ReplyCode::SyntaxError),
        (b"\x20\x00\x00\x00\x00\x01\x01", ReplyCode::InternalError),
        (b"\x00\x40\x00", ReplyCode::FrameError),
    ];
    for (octets, code) in cases {
        let error = Properties::new(octets).inspect(&TABLE).expect_err("malformed properties");
        assert_eq!(error.reply_code(), code, "{octets:?}: {error}");
    }
    let error = Properties::new(b"\x20\x00\x00\x00\x00\x01\x01").inspect(&TABLE);
    assert_eq!(error, Err(DecodeError::Table(TableError::Truncated)));
}

#[test]
fn a_text_property_of_any_octets_is_passed_on_and_only_refused_when_read() {
    let octets = b"\x06\x00\x02\xff\xfe\x01r";
    let properties = Properties::new(octets);
    assert!(properties.inspect(&TABLE).is_ok());
    assert_eq!(properties.reply_to(), Ok(Some("r")));
    let error = BasicProperties::decode(properties).expect_err("not UTF-8");
    assert_eq!(error, DecodeError::NotUtf8 { what: "content header", field: "correlation-id" });
}

#[test]
fn bodies_split_at_frame_max_less_eight() {
    let cases = [
        (0, vec![]),
        (1, vec![1]),
        (4_087, vec![4_087]),
        (4_088, vec![4_088]),
        (4_089, vec![4_088, 1]),
        (8_176, vec![4_088, 4_088]),
        (8_177, vec![4_088, 4_088, 1]),
    ];
    for (size, expected) in cases {
        let body: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
        let mut out = Vec::new();
        encode_body_frames(3, &body, 4_096, &mut out);
        let mut whole = Vec::new();
        let mut sizes = Vec::new();
        for frame in split(&out, 4_096) {
            let Frame::Body { channel: 3, payload } = frame else { panic!("not a body frame: {frame:?}") };
            whole.extend_from_slice(payload);
            sizes.push(payload.len());
        }
        assert_eq!((sizes, whole), (expected, body));
    }
}

#[test]
fn a_frame_max_below_the_least_still_writes_bodies() {
    let mut out = Vec::new();
    encode_body_frames(1, &[7; 5_000], 0, &mut out);
    assert_eq!(split(&out, 4_096).len(), 2);
}

#[test]
fn returned_and_fetched_messages_are_method_header_and_body() {
    let mut header_payload = Vec::new();
    encode_header_payload(2, &all_properties(), &mut header_payload);
    let content = Content { header_payload: &header_payload, body: b"hi" };
    let returned = basic::Return { reply_code: 312, reply_text: "NO_ROUTE", exchange: "e", routing_key: "k" };
    let fetched =
        basic::GetOk { delivery_tag: 1, redelivered: false, exchange: "e", routing_key: "k", message_count: 3 };
    let mut out = Vec::new();
    encode_return(1, &returned, content, 4_096, &mut out);
    encode_get_ok(1, &fetched, content, 4_096, &mut out);
    let frames = split(&out, 4_096);
    assert_eq!(frames.len(), 6);
    let method = |frame: &Frame<'_>| match *frame {
        Frame::Method { channel: 1, payload } => payload.to_vec(),
        other => panic!("not a method: {other:?}"),
    };
    assert_eq!(ToClient::decode(&method(&frames[0])), Ok(ToClient::BasicReturn(returned)));
    assert_eq!(ToClient::decode(&method(&frames[3])), Ok(ToClient::BasicGetOk(fetched)));
    for place in [1, 4] {
        assert_eq!(frames[place], Frame::Header { channel: 1, payload: &header_payload });
        assert_eq!(frames[place + 1], Frame::Body { channel: 1, payload: b"hi" });
    }
}

fn text() -> impl Strategy<Value = Option<String>> {
    prop::option::of(".{0,50}")
}

proptest! {
    #[test]
    fn properties_are_read_as_they_were_written(
        texts in prop::collection::vec(text(), 10),
        octets in any::<(Option<u8>, Option<u8>, Option<u64>)>(),
        headers in prop::option::of(prop::collection::vec(any::<u8>(), 0..100)),
    ) {
        let text = |place: usize| texts[place].as_deref();
        let (delivery_mode, priority, timestamp) = octets;
        let written = BasicProperties {
            content_type: text(0),
            content_encoding: text(1),
            headers: headers.as_deref().map(Table::new),
            delivery_mode,
            priority,
            correlation_id: text(2),
            reply_to: text(3),
            expiration: text(4),
            message_id: text(5),
            timestamp,
            kind: text(6),
            user_id: text(7),
            app_id: text(8),
            cluster_id: text(9),
        };
        let mut octets = Vec::new();
        written.encode(&mut octets);
        let properties = Properties::new(&octets);
        prop_assert_eq!(BasicProperties::decode(properties)?, written);
        prop_assert_eq!(properties.delivery_mode()?, delivery_mode);
        prop_assert_eq!(properties.priority()?, priority);
        prop_assert_eq!(properties.headers()?, written.headers);
        prop_assert_eq!(properties.reply_to()?, text(3));
        prop_assert_eq!(properties.expiration()?, text(4));
        prop_assert_eq!(properties.timestamp()?, timestamp);
        prop_assert_eq!(properties.user_id()?, text(7));
    }

    #[test]
    fn no_octets_make_properties_panic(octets in prop::collection::vec(any::<u8>(), 0..120)) {
        let properties = Properties::new(&octets);
        let _ = Header::decode(&octets);
        let _ = BasicProperties::decode(properties);
        let _ = (properties.headers(), properties.delivery_mode(), properties.priority(), properties.user_id());
        let _ = (properties.reply_to(), properties.expiration(), properties.timestamp());
        let _ = properties.inspect(&TABLE);
    }

    #[test]
    fn a_delivery_is_its_frames(
        tag in ".{0,60}", exchange in ".{0,60}", routing_key in ".{0,60}",
        delivery_tag: u64, redelivered: bool, channel: u16,
        size in prop_oneof![0..100_usize, 4_000..13_000_usize],
    ) {
        let method = basic::Deliver {
            consumer_tag: &tag,
            delivery_tag,
            redelivered,
            exchange: &exchange,
            routing_key: &routing_key,
        };
        let body = vec![0x5A; size];
        let mut header_payload = Vec::new();
        encode_header_payload(u64::try_from(size).expect("a small body"), &all_properties(), &mut header_payload);
        let content = Content { header_payload: &header_payload, body: &body };
        let mut whole = Vec::from(&b"before"[..]);
        encode_deliver(channel, &method, content, 4_096, &mut whole);
        let mut parts = Vec::from(&b"before"[..]);
        method.encode(channel, &mut parts);
        encode_header_raw(channel, &header_payload, &mut parts);
        encode_body_frames(channel, &body, 4_096, &mut parts);
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn a_whole_publish_is_what_its_frames_say_and_every_cut_of_it_is_none(
        exchange in ".{0,60}", routing_key in ".{0,60}", mandatory: bool, channel: u16, size in 0..200_usize,
    ) {
        let method = basic::Publish { exchange: &exchange, routing_key: &routing_key, mandatory, immediate: false };
        let body = vec![0x5A; size];
        let octets = publish(channel, &method, &body);
        let (whole, taken) = decode_whole_publish(&octets, 4_096).expect("a whole publish");
        prop_assert_eq!(taken, octets.len());
        let frames = split(&octets, 4_096);
        let header_payload = match frames[1] { Frame::Header { payload, .. } => payload, other => panic!("{other:?}") };
        let (exchange, routing_key) = (exchange.as_bytes(), routing_key.as_bytes());
        let expected = WholePublish { channel, exchange, routing_key, mandatory, header_payload, body: &body };
        prop_assert_eq!(whole, expected);
        for cut in 0..octets.len() {
            prop_assert_eq!(decode_whole_publish(&octets[..cut], 4_096), None);
        }
    }

    #[test]
    fn what_is_taken_for_a_whole_publish_decodes_frame_by_frame(at in 0..80_usize, octet: u8, size in 0..20_usize) {
        let method = basic::Publish { exchange: "ex", routing_key: "key", mandatory: true, immediate: false };
        let mut octets = publish(1, &method, &vec![7; size]);
        let at = at % octets.len();
        octets[at] = octet;
        let Some((whole, taken)) = decode_whole_publish(&octets, 4_096) else { return Ok(()) };
        let frames = split(&octets[..taken], 4_096);
        let Frame::Method { channel, payload } = frames[0] else { panic!("{frames:?}") };
        prop_assert!(frames.iter().all(|frame| frame.channel() == channel));
        match ToServer::decode(payload) {
            Ok(ToServer::BasicPublish(publish)) => {
                prop_assert_eq!((publish.exchange.as_bytes(), publish.routing_key.as_bytes()), (whole.exchange, whole.routing_key));
                prop_assert_eq!((publish.mandatory, publish.immediate), (whole.mandatory, false));
            }
            Err(error) => prop_assert!(matches!(error, DecodeError::NotUtf8 { .. }), "{}", error),
            Ok(other) => panic!("{other:?}"),
        }
    }
}

/// The frames of a publish.
fn publish(channel: u16, method: &basic::Publish<'_>, body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    method.encode(channel, &mut octets);
    encode_header(channel, u64::try_from(body.len()).expect("a small body"), &all_properties(), &mut octets);
    encode_body_frames(channel, body, 4_096, &mut octets);
    octets
}

#[test]
fn what_is_not_a_plain_whole_publish_is_left_to_the_frames() {
    let method = basic::Publish { exchange: "", routing_key: "q", mandatory: false, immediate: false };
    let immediate = basic::Publish { immediate: true, ..method };
    assert_eq!(decode_whole_publish(&publish(1, &immediate, b"body"), 4_096), None);
    assert_eq!(decode_whole_publish(&publish(1, &method, &[7; 5_000]), 4_096), None, "two body frames");
    let mut ack = Vec::new();
    basic::Ack { delivery_tag: 1, multiple: false }.encode(1, &mut ack);
    ack.extend_from_slice(&publish(1, &method, b"body"));
    assert_eq!(decode_whole_publish(&ack, 4_096), None);
    let whole = publish(1, &method, b"body");
    let method_len = decode_frame(&whole, 4_096).expect("a good frame").expect("a whole one").1;
    let elsewhere = [&whole[..method_len], &publish(2, &method, b"body")[method_len..]].concat();
    assert_eq!(decode_whole_publish(&elsewhere, 4_096), None, "the content is another channel's");
}
