use alloc::{format, vec};

use proptest::prelude::*;
use warren_amqp::Value;

use super::super::topic;
use super::*;

#[test]
fn the_default_exchange_routes_by_queue_name() {
    let mut world = World::new();
    world.queue("q");
    world.queue("r");
    assert_eq!(world.route("", "q"), ["q"]);
    assert!(world.route("", "no").is_empty());
    assert!(world.route("", "").is_empty());
}

#[test]
fn missing_and_internal_exchanges_refuse() {
    let mut world = World::new();
    world.ask(declare_exchange("inner", "fanout", |declaration| declaration.internal = true));
    world.queue("q");
    world.bind("inner", "q", "");
    world.bind_exchange("amq.fanout", "inner", "");
    let refusal = |name: &str| world.vhost().route(&envelope(name, ""), &mut || 0, &mut Routes::new()).unwrap_err();
    assert_eq!(refusal("no"), RouteError::NoSuchExchange);
    assert_eq!(refusal("inner"), RouteError::Internal);
    let told = |name: &str| Err::<(), _>(refusal(name).into_exception(name, "/"));
    assert_channel_exception(told("no"), 404, "no exchange 'no' in vhost '/'");
    assert_channel_exception(told("inner"), 403, "cannot publish to internal exchange 'inner' in vhost '/'");
    assert_eq!(world.route("amq.fanout", ""), ["q"], "exchanges may publish to it");
}

#[test]
fn a_direct_exchange_compares_keys() {
    let mut world = World::new();
    for (queue, key) in [("a", "k"), ("b", "k"), ("c", "other"), ("d", "")] {
        world.queue(queue);
        world.bind("amq.direct", queue, key);
    }
    assert_eq!(world.route("amq.direct", "k"), ["a", "b"]);
    assert_eq!(world.route("amq.direct", ""), ["d"]);
    assert!(world.route("amq.direct", "K").is_empty());
}

#[test]
fn a_fanout_exchange_ignores_keys() {
    let mut world = World::new();
    for queue in ["a", "b"] {
        world.queue(queue);
        world.bind("amq.fanout", queue, queue);
    }
    assert_eq!(world.route("amq.fanout", "whatever"), ["a", "b"]);
}

#[test]
fn topic_keys_match_word_by_word() {
    let check = |pattern: &str, key: &str, matched: bool| {
        let mut world = World::new();
        world.queue("q");
        world.bind("amq.topic", "q", pattern);
        assert_eq!(!world.route("amq.topic", key).is_empty(), matched, "{pattern} against {key}");
        assert_eq!(naive(pattern, key), matched, "the model: {pattern} against {key}");
    };
    check("", "", true);
    check("*", "", false);
    check("#", "", true);
    check("#.#", "", true);
    check("", "a", false);
    check("a", "a", true);
    check("a.*", "a.", true);
    check("a.*", "a", false);
    check("a.*", "a.b", true);
    check("a.*", "a.b.c", false);
    check("a.#", "a", true);
    check("a.#", "a.b.c", true);
    check("#.a", "b.a.a", true);
    check("#.a.#", "b.a.b", true);
    check("#.a.#", "b.b", false);
    check("*.#.b", "a.b", true);
    check("*.#.b", "b", false);
    check(".", ".", true);
    check("*.*", ".", true);
    check("a..b", "a..b", true);
    check("a.*.b", "a..b", true);
    check("a*", "ab", false);
    check("a.#", "#.a", false);
    check("*", "*", true);
    check("x", "*", false);
}

/// Matches words recursively, as the rule reads.
fn naive(pattern: &str, key: &str) -> bool {
    fn step(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), None) => step(rest, key),
            (Some((&"#", rest)), Some((_, tail))) => step(rest, key) || step(pattern, tail),
            (Some((&"*", rest)), Some((_, tail))) => step(rest, tail),
            (Some((word, rest)), Some((head, tail))) => word == head && step(rest, tail),
            _ => false,
        }
    }
    step(&topic::words(pattern).collect::<Vec<_>>(), &topic::words(key).collect::<Vec<_>>())
}

fn topic_key(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..6).prop_map(|words| words.join("."))
}

fn topic_binding(id: u32, pattern: &str) -> Arc<Binding> {
    let hop = Hop::Queue(Route {
        shard: ShardId(1),
        queue: QueueId(id),
        logging: Logging::Nothing,
        deduplicates: false,
        stream: false,
    });
    Arc::new(Binding::new(hop, Arc::from("x"), Arc::from(pattern), Bytes::new(), false))
}

proptest! {
    /// Also with three and more `#`, which cannot be bound, and with bindings that went again.
    #[test]
    fn the_topic_tree_finds_what_the_naive_matcher_finds(
        patterns in prop::collection::vec((topic_key(&["a", "b", "*", "#", "#", ""]), any::<bool>()), 0..12),
        keys in prop::collection::vec(topic_key(&["a", "b", "", "#", "*"]), 1..12),
    ) {
        let numbered = (1..).zip(&patterns);
        let all: Vec<_> = numbered.map(|(id, (pattern, stays))| (topic_binding(id, pattern), *stays)).collect();
        let mut tree = topic::TopicTree::new();
        all.iter().for_each(|(binding, _)| tree.insert(Arc::clone(binding)));
        let full = tree.clone();
        all.iter().filter(|(_, stays)| !stays).for_each(|(binding, _)| tree.remove(binding));
        for key in &keys {
            for (tree, with_gone) in [(&tree, false), (&full, true)] {
                let mut found = Vec::new();
                tree.matches(key, |binding| found.push(Arc::clone(binding)));
                found.sort();
                let expected: Vec<_> = all.iter()
                    .filter(|(binding, stays)| (*stays || with_gone) && naive(&binding.routing_key, key))
                    .map(|(binding, _)| Arc::clone(binding))
                    .collect();
                prop_assert_eq!(&found, &expected, "key {:?}", key);
            }
        }
        all.iter().for_each(|(binding, _)| tree.remove(binding));
        prop_assert!(tree.is_bare(), "nothing is left of bindings that are gone");
    }
}

/// A matcher that tries one way after the other would not come to an end here.
#[test]
fn wildcards_do_not_multiply_the_work() {
    let mut tree = topic::TopicTree::new();
    let pattern = vec!["#.a"; 20].join(".");
    for (id, end) in [(1, "b"), (2, "c"), (3, "#")] {
        tree.insert(topic_binding(id, &format!("{pattern}.{end}")));
    }
    let key = format!("{}.b", vec!["a"; 126].join("."));
    let mut found = Vec::new();
    tree.matches(&key, |binding| found.push(binding.routing_key.rsplit('.').next().unwrap_or_default()));
    found.sort_unstable();
    assert_eq!(found, ["#", "b"]);
}

#[test]
fn headers_match_by_the_bindings_arguments() {
    let check = |arguments: &Bytes, headers: Option<&Bytes>, matched: bool| {
        let mut world = World::new();
        world.queue("q");
        world.ask(Action::BindQueue(Bind { arguments: arguments.clone(), ..bind("amq.headers", "q", "ignored") }));
        let routed = !world.route_with("amq.headers", "k", headers).is_empty();
        assert_eq!(routed, matched, "{arguments:?} against {headers:?}");
    };
    let two = |mode: &str| table(|table| _ = table.put("x-match", mode).put("a", 1).put("b", "two"));
    let a = table(|table| _ = table.put("a", 1));
    let both = table(|table| _ = table.put("z", 0).put("b", "two").put("a", 1));
    let neither = table(|table| _ = table.put("a", 2).put("b", true));
    check(&two("all"), Some(&both), true);
    check(&two("all"), Some(&a), false);
    check(&two("all"), None, false);
    check(&two("any"), Some(&a), true);
    check(&two("any"), Some(&neither), false);
    check(&a, Some(&both), true);
    check(&a, Some(&neither), false);

    let none = |mode: &str| table(|table| _ = table.put("x-match", mode));
    check(&Bytes::new(), None, true);
    check(&none("all"), Some(&a), true);
    check(&none("any"), Some(&a), false);

    let x = |mode: &str| table(|table| _ = table.put("x-match", mode).put("x-a", 1));
    let header = table(|table| _ = table.put("x-a", 1));
    check(&x("all"), None, true);
    check(&x("any"), Some(&header), false);
    check(&x("all-with-x"), None, false);
    check(&x("all-with-x"), Some(&header), true);
    check(&x("any-with-x"), Some(&header), true);
    check(&none("any-with-x"), Some(&none("any-with-x")), false);
}

#[test]
fn header_values_are_equal_by_what_they_say() {
    let check = |wanted: Value<'_>, value: Value<'_>, matched: bool| {
        let arguments = table(|table| _ = table.put("n", wanted));
        let headers = table(|table| _ = table.put("n", value));
        let mut world = World::new();
        world.queue("q");
        world.ask(Action::BindQueue(Bind { arguments, ..bind("amq.match", "q", "") }));
        let routed = !world.route_with("amq.match", "", Some(&headers)).is_empty();
        assert_eq!(routed, matched, "{wanted:?} against {value:?}");
    };
    check(Value::Void, Value::Bool(false), true);
    check(Value::Bool(false), Value::Void, false);
    check(Value::I8(1), Value::I64(1), true);
    check(Value::I32(1), Value::F64(1.0), true);
    check(Value::I32(1), Value::F32(1.5), false);
    check(Value::I32(1), Value::Bool(true), false);
    check(Value::from("1"), Value::I32(1), false);
    check(Value::from("a"), Value::Binary(b"a"), true);
    check(Value::from("a"), Value::from("A"), false);
    check(Value::Timestamp(5), Value::I64(5), true);
    check(Value::Decimal { scale: 1, unscaled: 5 }, Value::Decimal { scale: 1, unscaled: 5 }, true);
    check(Value::Decimal { scale: 1, unscaled: 5 }, Value::Decimal { scale: 2, unscaled: 50 }, false);
}

#[test]
fn a_way_that_only_names_have_a_say_in_is_repeatable() {
    let mut world = World::new();
    world.queue("q");
    world.bind("amq.headers", "q", "");
    world.bind_exchange("amq.fanout", "amq.headers", "");
    world.bind("amq.direct", "q", "k");
    let mut routes = Routes::new();
    world.vhost().route(&envelope("amq.direct", "k"), &mut || 0, &mut routes).unwrap();
    assert_eq!((routes.len(), routes.is_repeatable()), (1, true));
    world.vhost().route(&envelope("amq.fanout", "k"), &mut || 0, &mut routes).unwrap();
    assert_eq!((routes.len(), routes.is_repeatable()), (1, false));
    routes.clear();
    assert!(routes.is_repeatable(), "the next message has nothing to do with the last");
}

#[test]
fn a_queue_gets_a_message_once_over_all_ways_and_rings() {
    let mut world = World::new();
    world.queue("q");
    world.queue("r");
    world.exchange("a", "fanout");
    world.exchange("b", "direct");
    world.bind_exchange("a", "b", "");
    world.bind_exchange("b", "a", "k");
    world.bind_exchange("b", "b", "k");
    world.bind("a", "q", "1");
    world.bind("a", "q", "2");
    world.bind("b", "q", "k");
    world.bind("b", "r", "k");
    assert_eq!(world.route("a", "k"), ["q", "r"]);
    assert_eq!(world.route("b", "k"), ["q", "r"]);
    assert_eq!(world.route("a", "no"), ["q"]);
}

#[test]
fn routes_add_up_over_calls() {
    let mut world = World::new();
    let ids = ["q", "r"].map(|name| world.queue(name).id);
    let mut routes = Routes::new();
    for key in ["q", "r", "q"] {
        world.vhost().route(&envelope("", key), &mut || 0, &mut routes).unwrap();
    }
    assert_eq!(routes.as_slice().iter().map(|route| route.queue).collect::<Vec<_>>(), ids);
    assert_eq!(routes.by_shard().count(), 2);
    routes.clear();
    assert!(routes.is_empty());
}

#[test]
fn routes_are_grouped_by_shard() {
    let mut world = World::new();
    for index in 0..10 {
        world.queue(&format!("q{index}"));
        world.bind("amq.fanout", &format!("q{index}"), "");
    }
    let mut routes = Routes::new();
    world.vhost().route(&envelope("amq.fanout", ""), &mut || 0, &mut routes).unwrap();
    let groups: Vec<_> = routes.by_shard().map(|group| (group[0].shard.0, group.len())).collect();
    assert_eq!(groups, [(1, 3), (2, 3), (3, 2), (4, 2)]);
}

fn with_alternate(name: &str, alternate: &str) -> Action {
    let arguments = table(|table| _ = table.put("alternate-exchange", alternate));
    declare_exchange(name, "direct", |declaration| declaration.arguments = arguments)
}

#[test]
fn the_alternate_exchange_gets_what_goes_nowhere() {
    let mut world = World::new();
    for queue in ["q", "rest"] {
        world.queue(queue);
    }
    world.ask(with_alternate("x", "ae"));
    world.bind("x", "q", "k");
    assert!(world.route("x", "other").is_empty(), "an alternate exchange that is not there takes nothing");
    world.exchange("ae", "fanout");
    world.bind("ae", "rest", "");
    assert_eq!(world.route("x", "k"), ["q"]);
    assert_eq!(world.route("x", "other"), ["rest"]);
}

/// As RabbitMQ 4.3.6 answers it.
#[test]
fn as_an_alternate_exchange_the_default_exchange_routes_nothing_by_itself() {
    let mut world = World::new();
    for queue in ["q", "rest"] {
        world.queue(queue);
    }
    world.ask(with_alternate("x", ""));
    assert!(world.route("x", "q").is_empty());
    world.exchange("others", "fanout");
    world.bind("others", "rest", "");
    let definition = table(|table| _ = table.put("alternate-exchange", "others"));
    world.put_policy("p", |policy| policy.definition = definition);
    assert_eq!(world.route("x", "q"), ["rest"], "a policy's alternate exchange is followed, and that is all");
    assert_eq!(world.route("", "q"), ["q"]);
    assert!(world.route("", "other").is_empty());
}

#[test]
fn alternate_exchanges_in_a_ring_end() {
    let mut world = World::new();
    world.queue("q");
    world.ask(with_alternate("a", "b"));
    world.ask(with_alternate("b", "a"));
    world.bind("b", "q", "k");
    assert_eq!(world.route("a", "k"), ["q"]);
    assert!(world.route("a", "other").is_empty());
}

#[test]
fn a_snapshot_never_changes() {
    let mut world = World::new();
    for index in 0..100 {
        world.queue(&format!("q{index}"));
        world.bind("amq.topic", &format!("q{index}"), &format!("a.{index}.#"));
        world.bind("amq.direct", &format!("q{index}"), "k");
    }
    let before = World { topology: world.topology.clone() };
    let seen = |world: &World| {
        (
            world.topology.version(),
            world.route("amq.direct", "k"),
            world.route("amq.topic", "a.7.b"),
            world.route("", "q3"),
        )
    };
    let then = seen(&before);
    for index in 0..100 {
        let id = world.topology.queue("/", &format!("q{index}")).unwrap().id;
        world.topology.removal(id).iter().for_each(|change| world.topology.apply(change));
    }
    world.queue("new");
    world.bind("amq.direct", "new", "k");
    assert_eq!(world.route("amq.direct", "k"), ["new"]);
    assert_eq!(seen(&before), then);
    assert!(before.topology.version() < world.topology.version());
}

#[test]
fn a_policy_names_an_alternate_exchange_where_no_argument_does() {
    let mut world = World::new();
    for queue in ["given", "own"] {
        world.queue(queue);
        world.exchange(queue, "fanout");
        world.bind(queue, queue, "");
    }
    world.exchange("x", "direct");
    world.ask(with_alternate("y", "own"));
    let definition = table(|table| _ = table.put("alternate-exchange", "given"));
    world.put_policy("p", |policy| policy.definition = definition);
    assert_eq!(world.route("x", "k"), ["given"]);
    assert_eq!(world.route("y", "k"), ["own"], "the argument counts");
    assert_eq!(world.route("amq.topic", "k"), ["given"], "predeclared exchanges have policies too");
    world.queue("q");
    world.bind("x", "q", "k");
    assert_eq!(world.route("x", "k"), ["q"]);
    let definition = table(|table| _ = table.put("alternate-exchange", "nowhere"));
    world.put_policy("p", |policy| policy.definition = definition);
    assert!(world.route("x", "other").is_empty());
}

/// The names of the queues that a message with several routing keys goes to, sorted.
fn route_by_keys(world: &World, exchange: &str, keys: &[&str]) -> Vec<String> {
    let mut routes = Routes::new();
    let (routing_key, further_keys) = keys.split_first().unwrap();
    let message = Envelope { further_keys, ..envelope(exchange, routing_key) };
    world.vhost().route(&message, &mut || 0, &mut routes).unwrap();
    let name = |route: &Route| world.topology.queue_by_id(route.queue).unwrap().name.to_string();
    let mut names: Vec<String> = routes.as_slice().iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn several_keys_lead_where_each_of_them_leads_and_to_no_queue_twice() {
    let mut world = World::new();
    for queue in ["a", "b", "c"] {
        world.queue(queue);
        world.bind("amq.fanout", queue, "");
    }
    for (queue, key) in [("a", "x.*"), ("a", "#"), ("b", "*.y"), ("c", "z")] {
        world.bind("amq.topic", queue, key);
        world.bind("amq.direct", queue, key);
    }
    assert_eq!(route_by_keys(&world, "amq.topic", &["n", "m"]), ["a"]);
    assert_eq!(route_by_keys(&world, "amq.topic", &["x.y", "x.y", "n"]), ["a", "b"]);
    assert_eq!(route_by_keys(&world, "amq.topic", &["n", "x.y", "z"]), ["a", "b", "c"]);
    assert_eq!(route_by_keys(&world, "amq.direct", &["z", "#", "n", "x.*"]), ["a", "c"]);
    assert_eq!(route_by_keys(&world, "amq.fanout", &["n", "m"]), ["a", "b", "c"]);
    assert_eq!(route_by_keys(&world, "", &["n", "c", "a", "c"]), ["a", "c"]);
}

/// RabbitMQ 4.3.6: an exchange sees all keys of a message at once.
#[test]
fn an_alternate_exchange_gets_what_none_of_several_keys_leads_anywhere() {
    let mut world = World::new();
    ["a", "other"].iter().for_each(|queue| drop(world.queue(queue)));
    world.bind("amq.fanout", "other", "");
    let arguments = table(|table| _ = table.put("alternate-exchange", "amq.fanout"));
    world.ask(declare_exchange("x", "direct", |declared| declared.arguments = arguments));
    world.bind("x", "a", "a");
    assert_eq!(route_by_keys(&world, "x", &["a", "n"]), ["a"]);
    assert_eq!(route_by_keys(&world, "x", &["n", "a"]), ["a"]);
    assert_eq!(route_by_keys(&world, "x", &["n", "m"]), ["other"]);
    world.exchange("hub", "direct");
    ["a", "n"].iter().for_each(|key| world.bind_exchange("hub", "x", key));
    assert_eq!(route_by_keys(&world, "hub", &["n", "a"]), ["a"]);
}

/// RabbitMQ 4.3.6: whatever the number of keys, one queue; by which key it is chosen, it does not say.
#[test]
fn an_exchange_that_chooses_one_queue_does_so_once_for_all_keys() {
    for kind in ["x-random", "x-consistent-hash", "x-modulus-hash"] {
        let mut world = World::new();
        world.exchange("x", kind);
        for queue in ["a", "b", "c", "d", "e", "f"] {
            world.queue(queue);
            world.bind("x", queue, "1");
        }
        let chosen = world.route("x", "k");
        assert_eq!(route_by_keys(&world, "x", &["k", "l", "m", "n", "o", "p", "q"]), chosen, "{kind}");
        assert_eq!(chosen.len(), 1, "{kind}");
    }
}
