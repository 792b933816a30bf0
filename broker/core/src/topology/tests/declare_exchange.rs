use alloc::format;

use warren_amqp::Value;

use super::*;

#[test]
fn predeclared_exchanges_are_there_and_durable() {
    let world = World::new();
    for (name, kind) in [
        ("", ExchangeKind::Direct),
        ("amq.direct", ExchangeKind::Direct),
        ("amq.fanout", ExchangeKind::Fanout),
        ("amq.topic", ExchangeKind::Topic),
        ("amq.headers", ExchangeKind::Headers),
        ("amq.match", ExchangeKind::Headers),
    ] {
        let record = world.vhost().exchange(name).unwrap();
        assert_eq!((record.kind, record.durable), (kind, true));
    }
    assert_eq!(world.vhost().exchanges().count(), 6);
}

#[test]
fn a_predeclared_exchange_may_be_declared_as_it_is() {
    let mut world = World::new();
    let durable = |declaration: &mut ExchangeDeclaration| declaration.durable = true;
    assert!(world.ask(declare_exchange("amq.direct", "direct", durable)).changes.is_empty());
    world.refused(
        declare_exchange("amq.direct", "fanout", durable),
        406,
        "inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'fanout' but current is 'direct'",
    );
}

#[test]
fn names_and_types_that_cannot_be() {
    let world = World::new();
    let refused = |name: &str, kind: &str, code, text: &str| {
        world.refused(declare_exchange(name, kind, |_| {}), code, text);
    };
    refused("amq.mine", "direct", 403, "exchange name 'amq.mine' contains reserved prefix 'amq.*'");
    refused("", "direct", 403, "operation not permitted on the default exchange");
    refused("\r\n", "direct", 403, "operation not permitted on the default exchange");
    refused("x", "x-recent-history", 406, "unknown exchange type 'x-recent-history'");
    refused("x", "", 406, "invalid exchange type ''");
    refused("amq.mine", "nope", 406, "unknown exchange type 'nope'");
    refused("", "nope", 406, "unknown exchange type 'nope'");
    refused("x\u{1b}", "direct", 406, r"exchange name 'x\u{1b}' contains control characters");
    refused(&"x".repeat(256), "direct", 406, "exchange name of 256 bytes is longer than 255");
}

#[test]
fn line_ends_are_dropped_from_declared_names() {
    let mut world = World::new();
    world.exchange("a\r\nb", "fanout");
    assert!(world.vhost().exchange("ab").is_some());
}

#[test]
fn passive_declare_looks_at_nothing_but_the_name() {
    let mut world = World::new();
    world.exchange("x", "topic");
    let passive = |name: &str| declare_exchange(name, "no such type", |declaration| declaration.passive = true);
    assert!(world.ask(passive("x")).changes.is_empty());
    world.refused(passive("y"), 404, "no exchange 'y' in vhost '/'");
    world.refused(passive(""), 403, "operation not permitted on the default exchange");
}

#[test]
fn the_first_property_that_differs_is_named() {
    let mut world = World::new();
    world.exchange("x", "direct");
    let check = |kind: &str, adjust: fn(&mut ExchangeDeclaration), property: &str, received: &str, current: &str| {
        let text = format!(
            "inequivalent arg '{property}' for exchange 'x' in vhost '/': received {received} but current is {current}"
        );
        world.refused(declare_exchange("x", kind, adjust), 406, &text);
    };
    let all = |declaration: &mut ExchangeDeclaration| {
        declaration.durable = true;
        declaration.auto_delete = true;
        declaration.internal = true;
    };
    check("topic", all, "type", "'topic'", "'direct'");
    check("direct", all, "durable", "'true'", "'false'");
    check("direct", |declaration| declaration.auto_delete = true, "auto_delete", "'true'", "'false'");
    check("direct", |declaration| declaration.internal = true, "internal", "'true'", "'false'");
    check(
        "direct",
        |declaration| declaration.arguments = table(|table| _ = table.put("alternate-exchange", "ae")),
        "alternate-exchange",
        "the value 'ae' of type 'longstr'",
        "none",
    );
}

#[test]
fn an_alternate_exchange_is_a_name() {
    let world = World::new();
    let arguments = table(|table| _ = table.put("alternate-exchange", Value::I32(1)));
    world.refused(
        declare_exchange("x", "direct", |declaration| declaration.arguments = arguments),
        406,
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'",
    );
}

#[test]
fn exchanges_are_limited() {
    let mut world = World::with_limits(TopologyLimits { exchanges: 7, ..TopologyLimits::default() });
    world.exchange("x", "direct");
    world.refused(
        declare_exchange("y", "direct", |_| {}),
        406,
        "cannot declare exchange 'y' in vhost '/': exchange limit of 7 is reached",
    );
    world.exchange("x", "direct");
}
