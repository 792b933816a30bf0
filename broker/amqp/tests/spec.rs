//! The generated methods against the description they are generated from, method by method.

#[path = "../spec/generate.rs"]
#[expect(dead_code, reason = "`main` is for the example of the same file")]
mod generate;

use std::path::Path;

use generate::{Class, Field, Method, Spec};
use proptest::prelude::*;
use warren_amqp::spec::method_name;
use warren_amqp::{DecodeError, Frame, ReplyCode, ToClient, ToServer, decode_frame};

const DESCRIPTION: &str = include_str!("../spec/amqp0-9-1.txt");

fn spec() -> Spec {
    Spec::parse(DESCRIPTION)
}

fn methods(spec: &Spec) -> impl Iterator<Item = (&Class, &Method)> {
    spec.classes.iter().flat_map(|class| class.methods.iter().map(move |method| (class, method)))
}

/// Decodes in every direction the method goes: name, ids and the frame it encodes to on channel 7.
fn decode_and_encode(method: &Method, payload: &[u8]) -> Result<Vec<Encoded>, DecodeError> {
    let mut results = Vec::new();
    if method.to_server {
        let decoded = ToServer::decode(payload)?;
        let mut frame = Vec::new();
        decoded.encode(7, &mut frame);
        results.push((decoded.name(), decoded.method_id(), frame));
    }
    if method.to_client {
        let decoded = ToClient::decode(payload)?;
        let mut frame = Vec::new();
        decoded.encode(7, &mut frame);
        results.push((decoded.name(), decoded.method_id(), frame));
    }
    Ok(results)
}

type Encoded = (&'static str, (u16, u16), Vec<u8>);

/// Random octets of a field's type, its bits excepted; reserved ones as this crate writes them.
fn field_octets(field: &Field) -> BoxedStrategy<Vec<u8>> {
    let size = |octets: usize| prop::collection::vec(any::<u8>(), octets);
    let with_long = |octets: Vec<u8>| {
        let length = u32::try_from(octets.len()).expect("short test input");
        [&length.to_be_bytes()[..], &octets].concat()
    };
    let reserved = field.reserved();
    match field.kind.as_str() {
        "octet" | "short" | "long" | "longlong" if reserved => {
            panic!("only shorts are reserved: {}", field.kind)
        }
        "octet" => size(1).boxed(),
        "short" => size(2).boxed(),
        "long" => size(4).boxed(),
        "longlong" => size(8).boxed(),
        "shortstr" => prop::string::string_regex(".{0,60}")
            .expect("a fixed pattern")
            .prop_map(|text| [&[u8::try_from(text.len()).expect("at most 240")], text.as_bytes()].concat())
            .boxed(),
        "longstr" | "table" => prop::collection::vec(any::<u8>(), 0..300).prop_map(with_long).boxed(),
        other => panic!("unknown type {other}"),
    }
}

/// Random octets of a whole method frame's payload.
fn payload(class_id: u16, method: &Method) -> BoxedStrategy<Vec<u8>> {
    let ids = [class_id.to_be_bytes(), method.id.to_be_bytes()].concat();
    let mut whole = Just(ids).boxed();
    for group in method.fields.chunk_by(|one, next| one.kind == "bit" && next.kind == "bit") {
        assert!(group.len() <= 8, "more bits than an octet holds");
        let next = match group[0].kind.as_str() {
            "bit" => {
                let named = group.iter().rev().fold(0_u8, |mask, bit| (mask << 1) | u8::from(!bit.reserved()));
                any::<u8>().prop_map(move |octet| vec![octet & named]).boxed()
            }
            "short" if group[0].reserved() => Just(vec![0; 2]).boxed(),
            "shortstr" if group[0].reserved() => Just(vec![0]).boxed(),
            "longstr" if group[0].reserved() => Just(vec![0; 4]).boxed(),
            _ => field_octets(&group[0]),
        };
        whole = (whole, next).prop_map(|(front, back)| [front, back].concat()).boxed();
    }
    whole
}

/// A random method of the description: its place in it and a payload.
fn any_method() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let strategies: Vec<_> = methods(&spec())
        .enumerate()
        .map(|(place, (class, method))| (Just(place), payload(class.id, method)).boxed())
        .collect();
    prop::strategy::Union::new(strategies)
}

#[test]
fn generated_files_are_what_the_generator_writes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/spec");
    let files = spec().files();
    for (name, expected) in &files {
        let found = std::fs::read_to_string(folder.join(name)).expect("the generated file is readable");
        assert!(found == *expected, "src/spec/{name} is stale: run `cargo run -p warren-amqp --example generate`");
    }
    let found = std::fs::read_dir(&folder).expect("src/spec is readable").count();
    assert_eq!(found, files.len(), "src/spec holds a file that the generator does not write");
}

#[test]
fn every_method_is_known_by_name() {
    let spec = spec();
    for (class, method) in methods(&spec) {
        let name = format!("{}.{}", class.name, method.name);
        assert_eq!(method_name(class.id, method.id), Some(name.as_str()));
    }
    assert_eq!(methods(&spec).count(), 66);
    assert_eq!(method_name(60, 41), None);
}

#[test]
fn a_method_in_the_wrong_direction_is_503_and_an_unknown_one_540() {
    for (class, method) in methods(&spec()) {
        let payload = [class.id.to_be_bytes(), method.id.to_be_bytes()].concat();
        let refused = [
            (!method.to_server).then(|| ToServer::decode(&payload).expect_err("not to the server")),
            (!method.to_client).then(|| ToClient::decode(&payload).expect_err("not to the client")),
        ];
        for error in refused.into_iter().flatten() {
            assert_eq!(error.reply_code(), ReplyCode::CommandInvalid);
            let DecodeError::WrongDirection { name, class_id, method_id } = error else { panic!("{error:?}") };
            assert_eq!((name, class_id, method_id), (&*format!("{}.{}", class.name, method.name), class.id, method.id));
        }
    }
    for (class_id, method_id) in [(0, 0), (60, 41), (61, 10), (u16::MAX, u16::MAX)] {
        let payload = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
        let error = ToServer::decode(&payload).expect_err("there is no such method");
        assert_eq!(error, DecodeError::UnknownMethod { class_id, method_id });
        assert_eq!(error.reply_code(), ReplyCode::NotImplemented);
    }
}

#[test]
fn content_follows_publish_return_deliver_and_get_ok_only() {
    let spec = spec();
    let names: Vec<_> = methods(&spec)
        .filter(|(_, method)| method.content)
        .map(|(class, method)| format!("{}.{}", class.name, method.name))
        .collect();
    assert_eq!(names, ["basic.publish", "basic.return", "basic.deliver", "basic.get-ok"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_method_encodes_to_the_octets_it_was_decoded_from((place, payload) in any_method()) {
        let spec = spec();
        let (class, method) = methods(&spec).nth(place).expect("a place in the description");
        let results = decode_and_encode(method, &payload)?;
        prop_assert!(!results.is_empty(), "a method without a direction");
        for (name, id, frame) in results {
            prop_assert_eq!(name, format!("{}.{}", class.name, method.name));
            prop_assert_eq!(id, (class.id, method.id));
            let (split, taken) = decode_frame(&frame, 131_072)?.expect("a whole frame");
            prop_assert_eq!(taken, frame.len());
            prop_assert_eq!(split, Frame::Method { channel: 7, payload: &payload });
        }
    }

    #[test]
    fn a_method_cut_short_or_followed_by_more_is_501((place, payload) in any_method(), cut: prop::sample::Index) {
        let spec = spec();
        let (_, method) = methods(&spec).nth(place).expect("a place in the description");
        let short = &payload[..cut.index(payload.len())];
        let error = decode_and_encode(method, short).expect_err("an octet is missing");
        prop_assert!(matches!(error, DecodeError::Truncated { .. }), "{error}");
        prop_assert_eq!(error.reply_code(), ReplyCode::FrameError);

        let long = [&payload[..], &[0]].concat();
        let error = decode_and_encode(method, &long).expect_err("an octet is left over");
        prop_assert!(matches!(error, DecodeError::TrailingOctets { count: 1, .. }), "{error}");
        prop_assert_eq!(error.reply_code(), ReplyCode::FrameError);
    }

    #[test]
    fn no_payload_makes_a_decoder_panic(payload in prop::collection::vec(any::<u8>(), 0..400), place: prop::sample::Index) {
        let spec = spec();
        let (class, method) = methods(&spec).nth(place.index(66)).expect("a place in the description");
        let guided = [&class.id.to_be_bytes()[..], &method.id.to_be_bytes(), &payload].concat();
        for octets in [&payload, &guided] {
            let _ = ToServer::decode(octets);
            let _ = ToClient::decode(octets);
        }
    }
}
