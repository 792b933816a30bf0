//! What arguments of queues may be, and when they are the same. The texts were taken from RabbitMQ 4.3.6.

use alloc::format;

use warren_amqp::{ReplyCode, Value};

use super::*;
use crate::limits;

const TYPES: [&str; 3] = ["classic", "quorum", "stream"];
const QUEUES: &[&str] = &["classic", "quorum"];
const CLASSIC: &[&str] = &["classic"];
const QUORUM: &[&str] = &["quorum"];
const STREAM: &[&str] = &["stream"];
const ALL: &[&str] = &TYPES;

/// Whether a new queue of that type may have the argument: nothing, or the text behind the argument's name and queue.
fn refusal(queue_type: &str, name: &str, value: Value<'_>) -> Option<String> {
    let declare = declare_typed("q", queue_type, |table| {
        if name == "x-dead-letter-routing-key" {
            table.put("x-dead-letter-exchange", "dlx");
        }
        table.put(name, value);
    });
    match World::new().prepare_as(ME, declare) {
        Ok(_) => None,
        Err(Exception::Channel { code: ReplyCode::PreconditionFailed, text }) => {
            let start = format!("invalid arg '{name}' for queue 'q' in vhost '/'");
            Some(text.strip_prefix(&start).unwrap_or(&text).to_string())
        }
        Err(other) => panic!("{name} {value:?} is refused by {other:?}"),
    }
}

/// Asserts that queues of these types take the value, and that others do not know the argument.
#[track_caller]
fn taken(name: &str, types: &[&str], values: &[Value<'_>]) {
    for queue_type in TYPES {
        for value in values {
            let unfit = format!(" of queue type rabbit_{queue_type}_queue");
            let expected = if types.contains(&queue_type) { None } else { Some(unfit) };
            assert_eq!(refusal(queue_type, name, *value), expected, "{name} {value:?} on a {queue_type} queue");
        }
    }
}

#[track_caller]
fn refused(name: &str, types: &[&str], value: Value<'_>, reason: &str) {
    for queue_type in types {
        assert_eq!(refusal(queue_type, name, value).as_deref(), Some(reason), "{name} {value:?} on {queue_type}");
    }
}

#[test]
fn each_argument_fits_its_types_of_queue() {
    let ten_years = Value::I64(limits::EXPIRATION_MILLIS as i64);
    let (one, zero, many) = (Value::I8(1), Value::I32(0), Value::I64(1 << 40));
    taken("x-expires", QUEUES, &[one, ten_years]);
    taken("x-message-ttl", QUEUES, &[zero, one, ten_years]);
    taken("x-dead-letter-exchange", QUEUES, &[Value::from("dlx"), Value::from("")]);
    taken("x-dead-letter-strategy", QUORUM, &["at-most-once", "at-least-once"].map(Value::from));
    taken("x-max-length", QUEUES, &[zero, one, many]);
    taken("x-max-length-bytes", ALL, &[zero, one, many]);
    taken("x-max-in-memory-length", QUORUM, &[zero, many]);
    taken("x-max-in-memory-bytes", QUORUM, &[zero, many]);
    taken("x-max-priority", CLASSIC, &[zero, one, Value::I32(255)]);
    taken("x-overflow", QUEUES, &["drop-head", "reject-publish", "reject-publish-dlx"].map(Value::from));
    taken("x-single-active-consumer", QUEUES, &[Value::Bool(true), Value::Bool(false)]);
    taken("x-delivery-limit", QUORUM, &[zero, Value::I32(-1), many, Value::from("x"), Value::Void]);
    taken("x-delayed-retry-type", QUORUM, &["all", "failed", "returned", "disabled", "x"].map(Value::from));
    taken("x-delayed-retry-min", QUORUM, &[one, Value::from("x")]);
    taken("x-delayed-retry-max", QUORUM, &[one, Value::from("x")]);
    taken("x-consumer-timeout", QUORUM, &[zero, many]);
    taken("x-consumer-disconnected-timeout", QUORUM, &[zero, many]);
    taken("x-queue-leader-locator", ALL, &["client-local", "balanced", "random", "least-leaders"].map(Value::from));
    taken("x-queue-master-locator", CLASSIC, &[Value::from("min-masters")]);
    taken("x-queue-mode", CLASSIC, &[Value::from("lazy"), Value::from("x"), one]);
    taken("x-queue-version", CLASSIC, &[Value::I32(2)]);
    taken("x-quorum-initial-group-size", QUORUM, &[one, many]);
    taken("x-initial-cluster-size", STREAM, &[one, many]);
    taken("x-max-age", STREAM, &["1Y", "2M", "3D", "4h", "5m", "06s", "999999999999999999999Y"].map(Value::from));
    taken("x-stream-max-segment-size-bytes", STREAM, &[zero, Value::I64(limits::STREAM_SEGMENT_BYTES)]);
    taken("x-stream-filter-size-bytes", STREAM, &[Value::I32(16), Value::I32(255)]);
    taken("x-message-deduplication", QUEUES, &[Value::Bool(true)]);
    taken("x-cache-size", QUEUES, &[one, Value::I64(limits::DEDUPLICATION_KEYS as i64)]);
    taken("x-cache-ttl", QUEUES, &[zero, many]);
    taken("x-deduplication-header", QUEUES, &[Value::from("x-deduplication-header")]);
    for anything in ["x-quorum-target-group-size", "x-internal-purpose", "mine"] {
        taken(anything, ALL, &[Value::Void, Value::from("x"), Value::I32(-1)]);
    }
}

#[test]
fn numbers_and_words_are_checked() {
    let (negative, zero) = (Value::I32(-1), Value::I32(0));
    for name in ["x-expires", "x-message-ttl", "x-max-length", "x-max-length-bytes"] {
        refused(name, QUEUES, negative, ": {value_negative,-1}");
        refused(name, QUEUES, Value::from("abc"), r#": "expected integer, got longstr""#);
        refused(name, QUEUES, Value::Bool(true), r#": "expected integer, got bool""#);
        refused(name, QUEUES, Value::Void, r#": "expected integer, got void""#);
    }
    refused("x-expires", QUEUES, zero, ": {value_zero,0}");
    let above_ten_years = Value::I64(limits::EXPIRATION_MILLIS as i64 + 1);
    refused("x-expires", QUEUES, above_ten_years, ": {value_too_large,315360000001}");
    refused("x-message-ttl", QUEUES, above_ten_years, ": {value_too_large,315360000001}");
    refused("x-max-priority", CLASSIC, Value::I32(256), ": {max_value_exceeded,256}");
    refused("x-consumer-timeout", QUORUM, negative, ": {value_negative,-1}");
    refused("x-dead-letter-routing-key", QUEUES, Value::I32(1), ": {unacceptable_type,signedint}");
    refused("x-dead-letter-strategy", QUORUM, Value::from("x"), ": invalid_dlx_strategy");
    refused("x-overflow", QUEUES, Value::from("x"), ": invalid_overflow");
    refused("x-overflow", QUEUES, Value::I64(1), ": {unacceptable_type,long}");
    refused("x-single-active-consumer", QUEUES, Value::from("true"), ": {unacceptable_type,longstr}");
    refused("x-queue-leader-locator", ALL, Value::from("x"), ": invalid_queue_locator_arg");
    refused("x-queue-version", CLASSIC, Value::I32(1), r#": "unsupported queue version '1'""#);
    refused("x-queue-version", CLASSIC, negative, ": {value_negative,-1}");
    refused("x-quorum-initial-group-size", QUORUM, zero, ": {value_zero,0}");
    refused("x-initial-cluster-size", STREAM, zero, ": {value_zero,0}");
    for age in ["1d", "0s", "s", "", "1", "1ms", "10D ", " 1D", "1H", "-1D", "+1D", "1D2h", "٣D"] {
        refused("x-max-age", STREAM, Value::from(age), ": invalid_max_age");
    }
    refused("x-max-age", STREAM, Value::I32(1), ": {unacceptable_type,signedint}");
    let layout = "Exceeded max value for x-stream-max-segment-size-bytes";
    refused("x-stream-max-segment-size-bytes", STREAM, Value::I64(limits::STREAM_SEGMENT_BYTES + 1), layout);
    for size in [0, 15, 256] {
        let layout = "Invalid value for x-stream-filter-size-bytes";
        refused("x-stream-filter-size-bytes", STREAM, Value::I32(size), layout);
    }
    refused("x-cache-size", QUEUES, zero, ": {value_zero,0}");
    refused(
        "x-cache-size",
        QUEUES,
        Value::I64(limits::DEDUPLICATION_KEYS as i64 + 1),
        ": {max_value_exceeded,1048577}",
    );
}

#[test]
fn a_dead_letter_exchange_is_a_name_and_its_key_needs_it() {
    let world = World::new();
    let with = |name: &str, value: Value<'_>| declare_typed("q", "classic", |table| _ = table.put(name, value));
    for (value, kind) in [(Value::I32(1), "signedint"), (Value::Binary(b"x"), "binary"), (Value::Void, "void")] {
        let text = format!("invalid type '{kind}' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'");
        world.refused(with("x-dead-letter-exchange", value), 406, &text);
    }
    let text = "invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost '/': routing_key_but_no_dlx_defined";
    world.refused(with("x-dead-letter-routing-key", Value::from("k")), 406, text);
}

#[test]
fn another_deduplication_header_is_not_implemented() {
    let declare = declare_typed("q", "classic", |table| _ = table.put("x-deduplication-header", "id"));
    let text = "queue 'q' in vhost '/' can deduplicate by the header 'x-deduplication-header' only";
    World::new().refused(declare, 540, text);
}

#[test]
fn there_are_three_types_of_queue() {
    let world = World::new();
    let with = |value: Value<'_>| {
        let arguments = table(|table| _ = table.put("x-queue-type", value));
        declare_queue("q", |declaration| declaration.arguments = arguments)
    };
    let refused = |value: Value<'_>, reason: &str| {
        world.refused(with(value), 406, &format!("invalid arg 'x-queue-type' for queue 'q' in vhost '/': {reason}"));
    };
    refused(Value::from("fast"), r#""unsupported queue type 'fast'""#);
    refused(Value::from("delayed"), r#""unsupported queue type 'delayed'""#);
    refused(Value::I32(1), "{unacceptable_type,signedint}");
    refused(Value::Void, "{unacceptable_type,void}");
    assert!(world.prepare_as(ME, with(Value::from(""))).is_ok(), "the empty name is none");
}

#[test]
fn of_several_mistakes_the_one_that_rabbitmq_finds_first_is_told() {
    let world = World::new();
    let text = |arguments: fn(&mut TableBuilder<'_>), queue_type: &str, durable: bool| {
        let Action::DeclareQueue(mut declaration) = declare_typed("q", queue_type, arguments) else { unreachable!() };
        declaration.durable = durable;
        match world.prepare_as(ME, Action::DeclareQueue(declaration)) {
            Err(Exception::Channel { text, .. }) => text.replace(" for queue 'q' in vhost '/'", ""),
            other => panic!("{other:?}"),
        }
    };
    let both = |table: &mut TableBuilder<'_>| _ = table.put("x-message-ttl", -1).put("x-expires", -1);
    assert_eq!(text(both, "classic", true), "invalid arg 'x-expires': {value_negative,-1}");
    let unfit_and_wrong = |table: &mut TableBuilder<'_>| _ = table.put("x-max-priority", 1).put("x-message-ttl", -1);
    assert_eq!(text(unfit_and_wrong, "quorum", false), "invalid arg 'x-message-ttl': {value_negative,-1}");
    let unfit = |table: &mut TableBuilder<'_>| _ = table.put("x-max-priority", 1).put("x-expires", 1);
    assert_eq!(text(unfit, "stream", false), "invalid arg 'x-max-priority' of queue type rabbit_stream_queue");
    assert_eq!(text(|_| {}, "quorum", false), "invalid property 'non-durable'");
    let wrong_type = |table: &mut TableBuilder<'_>| _ = table.put("x-expires", -1);
    assert_eq!(text(wrong_type, "fast", true), r#"invalid arg 'x-queue-type': "unsupported queue type 'fast'""#);
}

#[test]
fn quorum_queues_and_streams_are_durable_shared_lasting_and_named() {
    let world = World::new();
    for queue_type in ["quorum", "stream"] {
        let refused = |adjust: fn(&mut QueueDeclaration), text: &str| {
            let Action::DeclareQueue(mut declaration) = declare_typed("q", queue_type, |_| {}) else { unreachable!() };
            adjust(&mut declaration);
            world.refused(Action::DeclareQueue(declaration), 406, text);
        };
        refused(|it| it.durable = false, "invalid property 'non-durable' for queue 'q' in vhost '/'");
        refused(|it| it.exclusive = true, "invalid property 'exclusive-owner' for queue 'q' in vhost '/'");
        refused(|it| it.auto_delete = true, "invalid property 'auto-delete' for queue 'q' in vhost '/'");
        let both = |it: &mut QueueDeclaration| (it.auto_delete, it.durable) = (true, false);
        refused(both, "invalid property 'auto-delete' for queue 'q' in vhost '/'");
        let text = format!("Cannot declare a server-named queue for type rabbit_{queue_type}_queue");
        refused(|it| it.name.clear(), &text);
    }
}

/// Declares a queue twice, the second time with other arguments; answers with what differs.
fn difference(
    queue_type: &str,
    first: impl FnOnce(&mut TableBuilder<'_>),
    second: impl FnOnce(&mut TableBuilder<'_>),
) -> String {
    let mut world = World::new();
    world.ask(declare_typed("q", queue_type, first));
    match world.prepare_as(ME, declare_typed("q", queue_type, second)) {
        Ok(prepared) if prepared.changes.is_empty() => String::from("none"),
        Err(Exception::Channel { code: ReplyCode::PreconditionFailed, text }) => {
            text.replace("inequivalent arg ", "").replace(" for queue 'q' in vhost '/'", "")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn integers_of_all_widths_are_equal_arguments() {
    let ttl = |value: Value<'_>| {
        let first = |table: &mut TableBuilder<'_>| _ = table.put("x-message-ttl", 2);
        difference("classic", first, |table| _ = table.put("x-message-ttl", value))
    };
    for same in [Value::I8(2), Value::U8(2), Value::I16(2), Value::U16(2), Value::U32(2), Value::I64(2)] {
        assert_eq!(ttl(same), "none");
    }
    assert_eq!(ttl(Value::I64(3)), "'x-message-ttl': received '3' but current is '2'");
    assert_eq!(ttl(Value::Bool(true)), "'x-message-ttl': received 'true' but current is '2'");
    assert_eq!(ttl(Value::Void), "'x-message-ttl': received none but current is '2'");
    assert_eq!(ttl(Value::F64(2.0)), "'x-message-ttl': received '2' but current is '2'");
    assert_eq!(ttl(Value::from("2")), "'x-message-ttl': received '2' but current is '2'");
}

#[test]
fn an_argument_that_came_or_went_is_told_with_its_type() {
    let dlx = |table: &mut TableBuilder<'_>| _ = table.put("x-dead-letter-exchange", "a");
    let text = "'x-dead-letter-exchange': received the value 'a' of type 'longstr' but current is none";
    assert_eq!(difference("classic", |_| {}, dlx), text);
    let text = "'x-dead-letter-exchange': received none but current is the value 'a' of type 'longstr'";
    assert_eq!(difference("quorum", dlx, |_| {}), text);
    let binary = |table: &mut TableBuilder<'_>| _ = table.put("x-dead-letter-exchange", Value::Binary(b"a"));
    assert_eq!(difference("classic", dlx, binary), "none");
}

#[test]
fn ages_are_compared_by_how_long_they_are() {
    let age = |age: &'static str| move |table: &mut TableBuilder<'_>| _ = table.put("x-max-age", age);
    assert_eq!(difference("stream", age("1D"), age("24h")), "none");
    let text = "'x-max-age': received '172800000' but current is '86400000'";
    assert_eq!(difference("stream", age("1D"), age("2D")), text);
    let text = "'x-max-age': received the value '86400000' of type 'longstr' but current is none";
    assert_eq!(difference("stream", |_| {}, age("1D")), text);
    assert_eq!(difference("stream", age("1D"), age("zz")), "'x-max-age': received 'zz' but current is '86400000'");
}

#[test]
fn only_arguments_that_fit_the_type_are_compared() {
    assert_eq!(difference("classic", |_| {}, |table| _ = table.put("x-max-age", "1D")), "none");
    assert_eq!(difference("quorum", |_| {}, |table| _ = table.put("x-max-priority", -5)), "none");
    let wrong = |table: &mut TableBuilder<'_>| _ = table.put("x-expires", -1);
    let text = "'x-expires': received '-1' but current is '1'";
    assert_eq!(difference("classic", |table| _ = table.put("x-expires", 1), wrong), text);
}

#[test]
fn another_type_is_a_difference_and_none_means_classic() {
    let mut world = World::new();
    let named = |queue_type: &str| declare_typed("q", queue_type, |_| {});
    let none = || declare_queue("q", |declaration| declaration.durable = true);
    let text = |received: &str, current: &str| {
        format!(
            "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received '{received}' but current is '{current}'"
        )
    };
    for current in TYPES {
        let queue = world.ask(named(current));
        for received in TYPES.into_iter().chain(["fast"]).filter(|received| *received != current) {
            world.refused(named(received), 406, &text(received, current));
        }
        match current {
            "classic" => assert!(world.ask(none()).changes.is_empty()),
            _ => world.refused(none(), 406, &text("classic", current)),
        }
        let Outcome::Queue(queue) = queue.outcome else { panic!("no queue") };
        world.topology.removal(queue.id).iter().for_each(|change| world.topology.apply(change));
    }
}

/// A world whose virtual host makes queues of that type if nothing is asked.
fn defaulting(world: &mut World, queue_type: Option<&str>) {
    let put = Administration::PutVhost {
        description: String::new(),
        tags: Vec::new(),
        default_queue_type: queue_type.map(ToString::to_string),
    };
    world.administer("/", put);
}

#[test]
fn the_default_type_is_for_durable_shared_lasting_queues() {
    for queue_type in ["quorum", "stream"] {
        let mut world = World::new();
        defaulting(&mut world, Some(queue_type));
        let mut made = |name: &str, adjust: fn(&mut QueueDeclaration)| {
            let queue = world.queue_with(name, adjust);
            queue.argument("x-queue-type").and_then(|value| value.as_str().map(ToString::to_string))
        };
        assert_eq!(made("durable", |it| it.durable = true).as_deref(), Some(queue_type));
        assert_eq!(made("transient", |_| {}), None);
        assert_eq!(made("exclusive", |it| (it.durable, it.exclusive) = (true, true)), None);
        assert_eq!(made("auto-delete", |it| (it.durable, it.auto_delete) = (true, true)), None);
        assert_eq!(made("", |it| it.exclusive = true), None);
        let text = format!("Cannot declare a server-named queue for type rabbit_{queue_type}_queue");
        world.refused(declare_queue("", |it| it.durable = true), 406, &text);
        let arguments = table(|table| _ = table.put("x-max-priority", 1));
        let declare = declare_queue("q", |it| (it.durable, it.arguments) = (true, arguments));
        let text =
            format!("invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_{queue_type}_queue");
        world.refused(declare, 406, &text);
    }
}

#[test]
fn a_queue_keeps_its_type_when_the_default_changes() {
    let mut world = World::new();
    defaulting(&mut world, Some("quorum"));
    let arguments = table(|table| _ = table.put("x-queue-type", "").put("mine", 1));
    let none = || declare_queue("q", |it| (it.durable, it.arguments) = (true, arguments.clone()));
    let text = |received: &str, current: &str| {
        format!(
            "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received '{received}' but current is '{current}'"
        )
    };
    world.ask(none());
    assert!(world.ask(none()).changes.is_empty());
    assert!(world.ask(declare_typed("q", "quorum", |_| {})).changes.is_empty());
    world.refused(declare_typed("q", "classic", |_| {}), 406, &text("classic", "quorum"));
    let queue = world.topology.queue("/", "q").unwrap();
    assert_eq!(
        (queue.argument("mine"), queue.argument("x-queue-type")),
        (Some(Value::I32(1)), Some(Value::from("quorum")))
    );
    defaulting(&mut world, None);
    world.refused(none(), 406, &text("classic", "quorum"));
}
