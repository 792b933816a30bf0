use alloc::format;

use warren_amqp::Value;

use super::*;

#[test]
fn the_default_exchange_cannot_be_bound() {
    let mut world = World::new();
    world.queue("q");
    world.exchange("x", "direct");
    let text = "operation not permitted on the default exchange";
    world.refused(Action::BindQueue(bind("", "q", "k")), 403, text);
    world.refused(Action::UnbindQueue(bind("", "q", "k")), 403, text);
    world.refused(Action::BindExchange(bind("", "x", "k")), 403, text);
    world.refused(Action::BindExchange(bind("x", "", "k")), 403, text);
    world.refused(Action::UnbindExchange(bind("x", "", "k")), 403, text);
}

#[test]
fn both_ends_must_be_there() {
    let mut world = World::new();
    world.queue("q");
    world.exchange("x", "direct");
    world.refused(Action::BindQueue(bind("no", "q", "k")), 404, "no exchange 'no' in vhost '/'");
    world.refused(Action::BindQueue(bind("x", "no", "k")), 404, "no queue 'no' in vhost '/'");
    world.refused(Action::BindExchange(bind("x", "no", "k")), 404, "no exchange 'no' in vhost '/'");
    world.refused(Action::BindQueue(bind("no", "no", "k")), 404, "no exchange 'no' in vhost '/'");
}

#[test]
fn unbinding_what_is_not_bound_succeeds() {
    let mut world = World::new();
    world.queue_with("theirs", |declaration| declaration.exclusive = true);
    world.exchange("x", "direct");
    for (source, queue) in [("x", "theirs"), ("x", "no"), ("no", "theirs")] {
        let unbind = Action::UnbindQueue(bind(source, queue, "k"));
        assert!(world.ask_as(OTHER, unbind).unwrap().changes.is_empty());
    }
}

#[test]
fn a_foreign_exclusive_queue_cannot_be_bound_or_unbound() {
    let mut world = World::new();
    world.queue_with("mine", |declaration| declaration.exclusive = true);
    world.exchange("x", "direct");
    world.bind("x", "mine", "k");
    let text = "cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally declared \
                on another connection or the exclusive property value does not match that of the original declaration.";
    world.refused_as(OTHER, Action::BindQueue(bind("x", "mine", "other")), 405, text);
    world.refused_as(OTHER, Action::UnbindQueue(bind("x", "mine", "k")), 405, text);
}

#[test]
fn a_binding_is_its_ends_key_and_arguments() {
    let mut world = World::new();
    world.queue("q");
    let with = |key: &str, value: i32| Bind {
        arguments: table(|table| _ = table.put("n", value)),
        ..bind("amq.direct", "q", key)
    };
    assert_eq!(world.ask(Action::BindQueue(with("k", 1))).changes.len(), 1);
    assert!(world.ask(Action::BindQueue(with("k", 1))).changes.is_empty(), "again is no other binding");
    assert_eq!(world.ask(Action::BindQueue(with("k", 2))).changes.len(), 1);
    assert_eq!(world.ask(Action::BindQueue(with("l", 1))).changes.len(), 1);
    assert_eq!(world.vhost().bindings().count(), 3);
    assert_eq!(world.route("amq.direct", "k"), ["q"], "but a message comes once");
    world.ask(Action::UnbindQueue(with("k", 1)));
    assert_eq!(world.route("amq.direct", "k"), ["q"]);
    world.ask(Action::UnbindQueue(with("k", 2)));
    assert!(world.route("amq.direct", "k").is_empty());
}

#[test]
fn the_order_of_arguments_makes_no_difference() {
    let mut world = World::new();
    world.queue("q");
    let one = table(|table| _ = table.put("a", 1).put("b", 2));
    let other = table(|table| _ = table.put("b", 2).put("a", 1).put("b", 3));
    let with = |arguments: &Bytes| Bind { arguments: arguments.clone(), ..bind("amq.headers", "q", "") };
    world.ask(Action::BindQueue(with(&one)));
    assert!(world.ask(Action::BindQueue(with(&other))).changes.is_empty());
    world.ask(Action::UnbindQueue(with(&other)));
    assert_eq!(world.vhost().bindings().count(), 0);
}

#[test]
fn a_topic_key_has_at_most_two_multi_word_wildcards() {
    let mut world = World::new();
    world.queue("q");
    world.bind("amq.topic", "q", "#.a.#");
    world.bind("amq.topic", "q", "a#.#b.##.#");
    world.refused(
        Action::BindQueue(bind("amq.topic", "q", "#.a.#.b.#")),
        406,
        "Topic binding key '#.a.#.b.#' uses 3 '#' wildcards, at most 2 are allowed",
    );
    world.bind("amq.direct", "q", "#.#.#");
}

#[test]
fn x_match_is_one_of_four_words() {
    let mut world = World::new();
    world.queue("q");
    let with = |value: Value<'_>| {
        let arguments = table(|table| _ = table.put("x-match", value));
        Action::BindQueue(Bind { arguments, ..bind("amq.headers", "q", "") })
    };
    world.refused(
        with(Value::from("some")),
        406,
        r#"Invalid x-match field value <<"some">>; expected all, any, all-with-x, or any-with-x"#,
    );
    world.refused(with(Value::Bool(true)), 406, "Invalid x-match field type bool (value true); expected longstr");
    for right in ["all", "any", "all-with-x", "any-with-x"] {
        world.ask(with(Value::from(right)));
    }
}

#[test]
fn keys_and_arguments_are_limited() {
    let mut world = World::new();
    world.queue("q");
    world.bind("amq.direct", "q", &"k".repeat(255));
    world.refused(
        Action::BindQueue(bind("amq.direct", "q", &"k".repeat(256))),
        406,
        "binding key of 256 bytes is longer than 255",
    );
    let arguments = table(|table| _ = table.put("n", "x".repeat(16_384).as_str()));
    world.refused(
        Action::BindQueue(Bind { arguments, ..bind("amq.direct", "q", "") }),
        406,
        "arguments of a binding from exchange 'amq.direct' in vhost '/' are 16391 bytes, more than 16384",
    );
}

#[test]
fn bindings_that_one_message_can_match_are_limited() {
    let limits = TopologyLimits { reach: 2, ..TopologyLimits::default() };
    for exchange in ["amq.fanout", "amq.topic", "amq.headers", "amq.direct"] {
        let mut world = World::with_limits(limits);
        (0..3).for_each(|index| _ = world.queue(&format!("q{index}")));
        world.bind(exchange, "q0", "k");
        world.bind(exchange, "q1", "k");
        world.bind(exchange, "q1", "k");
        world.refused(
            Action::BindQueue(bind(exchange, "q2", "k")),
            406,
            &format!("cannot bind to exchange '{exchange}' in vhost '/': binding limit of 2 is reached"),
        );
        let other_key = world.prepare_as(ME, Action::BindQueue(bind(exchange, "q2", "another key")));
        assert_eq!(other_key.is_ok(), exchange == "amq.direct");
    }
}

#[test]
fn bindings_of_a_vhost_are_limited() {
    let mut world = World::with_limits(TopologyLimits { bindings: 2, ..TopologyLimits::default() });
    world.queue("q");
    world.bind("amq.direct", "q", "a");
    world.bind("amq.topic", "q", "a");
    world.refused(
        Action::BindQueue(bind("amq.fanout", "q", "a")),
        406,
        "cannot bind to exchange 'amq.fanout' in vhost '/': binding limit of 2 is reached",
    );
    world.ask(Action::UnbindQueue(bind("amq.direct", "q", "a")));
    world.bind("amq.fanout", "q", "a");
}

#[test]
fn a_binding_is_logged_if_both_ends_are() {
    let mut world = World::new();
    world.queue("transient");
    world.queue_with("durable", |declaration| declaration.durable = true);
    world.exchange("x", "direct");
    let logged = |world: &mut World, source: &str, queue: &str| {
        let changes = world.ask(Action::BindQueue(bind(source, queue, "k"))).changes;
        changes.iter().all(Change::is_logged)
    };
    assert!(logged(&mut world, "amq.direct", "durable"));
    assert!(!logged(&mut world, "amq.direct", "transient"));
    assert!(!logged(&mut world, "x", "durable"));
    let to_exchange = |source, destination| Action::BindExchange(bind(source, destination, "k"));
    assert!(world.ask(to_exchange("amq.direct", "amq.topic")).changes[0].is_logged());
    assert!(!world.ask(to_exchange("amq.direct", "x")).changes[0].is_logged());
}
