//! Exchanges of the type `x-delayed-message`, and the queues where their messages wait.

use warren_amqp::Value;

use super::*;
use crate::limits;
use crate::queue::QueueKind;

const DELAYED: &str = "x-delayed-message";

fn declare_delayed(name: &str, kind: &str, adjust: impl FnOnce(&mut ExchangeDeclaration)) -> Action {
    let arguments = table(|table| _ = table.put("x-delayed-type", kind));
    declare_exchange(name, DELAYED, |declaration| {
        declaration.arguments = arguments;
        adjust(declaration);
    })
}

/// A world with a delayed direct exchange and a queue bound to it.
fn delayed() -> World {
    let mut world = World::new();
    world.ask(declare_delayed("x", "direct", |_| {}));
    world.queue("q");
    world.bind("x", "q", "k");
    world
}

/// Where a message goes, and how long it waits there.
fn sent(world: &World, exchange: &str, delay: Value<'_>) -> (Vec<String>, Option<u64>) {
    let headers = table(|table| _ = table.put("x-delay", delay));
    let mut routes = Routes::new();
    let message = Envelope { headers: Some(Table::new(&headers)), ..envelope(exchange, "k") };
    world.vhost().route(&message, &mut || 0, &mut routes).unwrap();
    assert!(!routes.is_repeatable());
    (world.route_with(exchange, "k", Some(&headers)), routes.delay())
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_message_with_a_delay_goes_to_the_store_and_others_on() {
    let world = delayed();
    let store = names(&["amq.delayed.x"]);
    assert_eq!(sent(&world, "x", Value::I32(5_000)), (store.clone(), Some(5_000)));
    assert_eq!(sent(&world, "x", Value::from("5000")), (store.clone(), Some(5_000)));
    assert_eq!(sent(&world, "x", Value::I64(i64::MAX)), (store, Some(limits::EXPIRATION_MILLIS)));
    for none in [Value::I32(0), Value::I32(-5_000), Value::from("soon"), Value::Bool(true), Value::Void] {
        assert_eq!(sent(&world, "x", none), (names(&["q"]), None), "{none:?}");
    }
    assert_eq!(world.route("x", "k"), ["q"]);
}

#[test]
fn the_inner_type_decides_when_the_time_has_come() {
    let mut world = World::new();
    world.ask(declare_delayed("x", "topic", |_| {}));
    world.queue("q");
    world.bind("x", "q", "a.*");
    assert_eq!(world.route("x", "a.b"), ["q"]);
    assert!(world.route("x", "b").is_empty());
    world.refused(
        Action::BindQueue(bind("x", "q", "#.#.#")),
        406,
        "Topic binding key '#.#.#' uses 3 '#' wildcards, at most 2 are allowed",
    );
}

#[test]
fn a_message_waits_though_it_comes_by_another_exchange_and_no_queue_is_bound() {
    let mut world = World::new();
    world.exchange("alternate", "fanout");
    world.queue("rest");
    world.bind("alternate", "rest", "");
    let arguments = table(|table| _ = table.put("x-delayed-type", "direct").put("alternate-exchange", "alternate"));
    world.ask(declare_exchange("x", DELAYED, |declaration| declaration.arguments = arguments));
    world.bind_exchange("amq.fanout", "x", "");
    assert_eq!(sent(&world, "amq.fanout", Value::I32(1)), (names(&["amq.delayed.x"]), Some(1)));
    assert_eq!(
        sent(&world, "amq.fanout", Value::I32(-1)),
        (names(&["rest"]), None),
        "the alternate exchange comes last"
    );
}

#[test]
fn the_store_lives_as_long_as_its_exchange_and_is_logged_as_it_is() {
    for durable in [true, false] {
        let mut world = World::new();
        let declared = world.ask(declare_delayed("x", "direct", |declaration| declaration.durable = durable));
        assert_eq!(declared.changes.len(), 2);
        let store = Arc::clone(world.topology.queue("/", "amq.delayed.x").unwrap());
        assert_eq!((store.is_logged(), store.delayed_exchange()), (durable, Some("x")));
        let settings = world.topology.settings(&store);
        assert_eq!((settings.kind, settings.logged, settings.consumer_timeout), (QueueKind::Delayed, durable, None));
        assert!(world.ask(declare_delayed("x", "direct", |it| it.durable = durable)).changes.is_empty());
        let mut again = World::new();
        again.topology.replay(&world.topology.snapshot()).unwrap();
        assert_eq!(again.topology.queue("/", "amq.delayed.x").is_some(), durable);
        assert_eq!(again.vhost().exchange("x").map(|record| record.type_name()), durable.then_some(DELAYED));
        let deleted = world.ask(Action::DeleteExchange { name: "x".to_string(), if_unused: false });
        assert_eq!(deleted.changes.len(), 2);
        assert!(world.topology.queue("/", "amq.delayed.x").is_none());
    }
}

#[test]
fn the_store_goes_with_an_auto_delete_exchange() {
    let mut world = World::new();
    world.ask(declare_delayed("x", "direct", |declaration| declaration.auto_delete = true));
    world.queue("q");
    world.bind("x", "q", "k");
    world.ask(Action::UnbindQueue(bind("x", "q", "k")));
    assert!(world.vhost().exchange("x").is_none());
    assert!(world.topology.queue("/", "amq.delayed.x").is_none());
}

#[test]
fn the_store_is_its_exchanges_alone() {
    let mut world = delayed();
    assert!(world.route("", "amq.delayed.x").is_empty(), "nothing is published past the exchange");
    let text = "queue 'amq.delayed.x' in vhost '/' holds the waiting messages of exchange 'x' and nothing else";
    world.refused(Action::BindQueue(bind("amq.fanout", "amq.delayed.x", "")), 403, text);
    assert_channel_exception(world.topology.prepare_delete_queue(&node(), "/", "amq.delayed.x", ME), 403, text);
    for verb in [Verb::Consume, Verb::Get] {
        assert_channel_exception(world.topology.accessible_queue(&node(), "/", "amq.delayed.x", ME, verb), 403, text);
    }
    assert!(world.topology.accessible_queue(&node(), "/", "amq.delayed.x", ME, Verb::Purge).is_ok());
    let count = declare_queue("amq.delayed.x", |declaration| declaration.passive = true);
    assert!(world.ask(count).changes.is_empty(), "how many wait may be asked");
}

#[test]
fn the_inner_type_is_checked_and_compared() {
    let mut world = World::new();
    world.refused(
        declare_exchange("x", DELAYED, |_| {}),
        406,
        "Invalid argument, 'x-delayed-type' must be an existing exchange type",
    );
    world.refused(
        declare_delayed("x", DELAYED, |_| {}),
        406,
        "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'",
    );
    world.refused(declare_delayed("x", "nope", |_| {}), 406, "unknown exchange type 'nope'");
    world.ask(declare_delayed("x", "direct", |_| {}));
    world.refused(
        declare_delayed("x", "fanout", |_| {}),
        406,
        "inequivalent arg 'x-delayed-type' for exchange 'x' in vhost '/': received 'fanout' but current is 'direct'",
    );
    world.refused(
        declare_exchange("x", "direct", |_| {}),
        406,
        "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'direct' but current is 'x-delayed-message'",
    );
}

#[test]
fn the_name_of_a_delayed_exchange_leaves_room_for_its_stores() {
    let mut world = World::new();
    let longest = limits::NAME_BYTES - "amq.delayed.".len();
    world.ask(declare_delayed(&"x".repeat(longest), "direct", |_| {}));
    let text = "the name of a delayed exchange is at most 243 bytes long";
    world.refused(declare_delayed(&"x".repeat(longest + 1), "direct", |_| {}), 406, text);
}

#[test]
fn a_store_counts_among_the_queues() {
    let world = World::with_limits(TopologyLimits { queues: 0, ..TopologyLimits::default() });
    let text = "cannot declare queue 'amq.delayed.x': queue limit in vhost '/' (0) is reached";
    world.refused(declare_delayed("x", "direct", |_| {}), 406, text);
}
