//! Exchanges that pick one binding: by hash, by place, by lot.

use alloc::collections::BTreeMap;
use alloc::format;

use warren_amqp::BasicProperties;
use warren_amqp::content::encode_header_payload;

use super::*;

const HASH: &str = "x-consistent-hash";

fn hashing(world: &mut World, weights: &[(&str, &str)]) {
    world.exchange("x", HASH);
    for (queue, weight) in weights {
        world.queue(queue);
        world.bind("x", queue, weight);
    }
}

/// Which queue each of the keys 0 to `count` goes to.
fn placed(world: &World, count: usize) -> Vec<String> {
    let place = |key: usize| {
        let queues = world.route("x", &format!("key {key}"));
        assert_eq!(queues.len(), 1, "a message goes one way");
        queues.into_iter().next().unwrap()
    };
    (0..count).map(place).collect()
}

fn counted(places: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    places.iter().for_each(|queue| *counts.entry(queue.as_str()).or_default() += 1);
    counts
}

#[test]
fn a_consistent_hash_exchange_spreads_messages_by_weight() {
    let mut world = World::new();
    hashing(&mut world, &[("a", "1"), ("b", "1"), ("c", "2"), ("d", "4")]);
    let places = placed(&world, 16_000);
    for (queue, expected) in [("a", 2_000), ("b", 2_000), ("c", 4_000), ("d", 8_000)] {
        let count = counted(&places)[queue];
        assert!(count.abs_diff(expected) < expected / 10, "{queue} has {count} of {expected}");
    }
    assert_eq!(placed(&world, 100), places[..100], "each key keeps its place");
}

#[test]
fn a_new_binding_takes_only_what_becomes_its_own_and_gives_it_back() {
    let mut world = World::new();
    hashing(&mut world, &[("a", "10"), ("b", "10"), ("c", "10")]);
    let before = placed(&world, 4_000);
    world.queue("new");
    world.bind("x", "new", "10");
    let after = placed(&world, 4_000);
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
    assert!(moved.clone().all(|(_, after)| after == "new"), "nothing moves between the others");
    assert!((800..1_200).contains(&moved.count()), "it takes about its share");
    world.ask(Action::UnbindQueue(bind("x", "new", "10")));
    assert_eq!(placed(&world, 4_000), before);
}

#[test]
fn places_are_the_same_after_a_restart() {
    let mut world = World::new();
    world.ask(declare_exchange("x", HASH, |declaration| declaration.durable = true));
    for queue in ["c", "a", "b"] {
        world.queue_with(queue, |declaration| declaration.durable = true);
        world.bind("x", queue, "1");
    }
    let mut again = World::new();
    again.topology.replay(&world.topology.snapshot()).unwrap();
    assert_eq!(placed(&again, 200), placed(&world, 200));
}

#[test]
fn without_bindings_a_picking_exchange_routes_nowhere() {
    let mut world = World::new();
    for kind in [HASH, "x-modulus-hash", "x-random", "x-local-random"] {
        world.exchange(kind, kind);
        assert!(world.route(kind, "k").is_empty(), "{kind}");
    }
}

#[test]
fn weights_are_numbers_from_1_to_10000() {
    let mut world = World::new();
    hashing(&mut world, &[("q", "1")]);
    for key in ["10000", "01", "+1"] {
        world.bind("x", "q", key);
    }
    let refused = |key: &str, text: &str| {
        world.refused(Action::BindQueue(bind("x", "q", key)), 406, text);
    };
    for key in ["0", "-1", "-99999999999999999999"] {
        refused(key, "The binding key must be greater than 0");
    }
    for key in ["10001", "99999999999999999999"] {
        refused(key, "The binding key must not exceed 10000");
    }
    refused("", "The binding key must be an integer: <<>>");
    refused("abc", "The binding key must be an integer: <<\"abc\">>");
    refused("1.5", "The binding key must be an integer: <<\"1.5\">>");
    refused(" 1", "The binding key must be an integer: <<\" 1\">>");
    refused("١", "The binding key must be an integer: <<\"١\"/utf8>>");
    assert!(world.prepare_as(ME, Action::UnbindQueue(bind("x", "q", "abc"))).is_ok(), "it cannot be there");
}

#[test]
fn a_header_is_hashed_instead_of_the_routing_key() {
    let mut world = World::new();
    let arguments = table(|table| _ = table.put("hash-header", "id"));
    world.ask(declare_exchange("x", HASH, |declaration| declaration.arguments = arguments));
    for queue in ["a", "b", "c", "d"] {
        world.queue(queue);
        world.bind("x", queue, "1");
    }
    let by = |key: &str, id: Option<i32>| {
        let headers = id.map(|id| table(|table| _ = table.put("id", id)));
        world.route_with("x", key, headers.as_ref())
    };
    let queues: BTreeMap<_, ()> = (0..100).map(|id| (by("k", Some(id)), ())).collect();
    assert_eq!(queues.len(), 4, "all queues get something");
    assert!((0..100).all(|id| by("k", Some(id)) == by("other", Some(id))), "the key has no say");
    assert_eq!(by("k", None), by("other", None), "those without the header go one way");
    let headers = table(|table| _ = table.put("id", 1));
    let mut routes = Routes::new();
    let message = Envelope { headers: Some(Table::new(&headers)), ..envelope("x", "k") };
    world.vhost().route(&message, &mut || 0, &mut routes).unwrap();
    assert!(!routes.is_repeatable());
}

#[test]
fn a_property_is_hashed_instead_of_the_routing_key() {
    let properties = |id: u64| {
        let text = id.to_string();
        let properties = BasicProperties {
            message_id: Some(&text),
            correlation_id: Some(&text),
            timestamp: Some(id),
            ..BasicProperties::default()
        };
        let mut payload = Vec::new();
        encode_header_payload(0, &properties, &mut payload);
        payload
    };
    for property in ["message_id", "correlation_id", "timestamp"] {
        let mut world = World::new();
        let arguments = table(|table| _ = table.put("hash-property", property));
        world.ask(declare_exchange("x", HASH, |declaration| declaration.arguments = arguments));
        let queues: Vec<_> = ["a", "b", "c", "d"].map(|queue| world.queue(queue).id).into();
        ["a", "b", "c", "d"].iter().for_each(|queue| world.bind("x", queue, "1"));
        let mut places = Vec::new();
        for id in 0..50 {
            let payload = properties(id);
            let properties = warren_amqp::Header::decode(&payload).unwrap().properties;
            for key in ["k", "other"] {
                let mut routes = Routes::new();
                let message = Envelope { properties, ..envelope("x", key) };
                world.vhost().route(&message, &mut || 0, &mut routes).unwrap();
                assert!(!routes.is_repeatable());
                places.push(routes.as_slice()[0].queue);
            }
        }
        assert!(places.chunks(2).all(|pair| pair[0] == pair[1]), "{property}: the key has no say");
        assert!(queues.iter().all(|queue| places.contains(queue)), "{property}: all queues get something");
    }
}

#[test]
fn what_is_hashed_is_checked_when_the_exchange_is_declared() {
    let world = World::new();
    let refused = |write: fn(&mut TableBuilder<'_>), text: &str| {
        let arguments = table(write);
        world.refused(declare_exchange("x", HASH, |declaration| declaration.arguments = arguments), 406, text);
    };
    refused(|it| _ = it.put("hash-property", "app_id"), "Unsupported property: app_id");
    refused(|it| _ = it.put("hash-property", ""), "Unsupported property: ");
    refused(
        |it| _ = it.put("hash-header", "h").put("hash-property", "message_id"),
        "hash-header and hash-property are mutually exclusive",
    );
    refused(
        |it| _ = it.put("hash-header", 1),
        "invalid type 'signedint' for arg 'hash-header' in exchange 'x' in vhost '/'",
    );
}

#[test]
fn a_declaration_that_hashes_something_else_is_not_a_difference() {
    let mut world = World::new();
    world.exchange("x", HASH);
    let arguments = table(|table| _ = table.put("hash-header", "h"));
    let again = declare_exchange("x", HASH, |declaration| declaration.arguments = arguments);
    assert!(world.ask(again).changes.is_empty(), "RabbitMQ does not compare it");
}

#[test]
fn a_modulus_hash_exchange_picks_by_the_key_alone() {
    let mut world = World::new();
    world.exchange("x", "x-modulus-hash");
    for queue in ["a", "b", "c"] {
        world.queue(queue);
        world.bind("x", queue, "ignored");
    }
    let places = placed(&world, 3_000);
    assert!(counted(&places).values().all(|count| (900..1_100).contains(count)), "{:?}", counted(&places));
    assert_eq!(placed(&world, 3_000), places);
}

#[test]
fn a_random_exchange_draws_one_binding() {
    for kind in ["x-random", "x-local-random"] {
        let mut world = World::new();
        world.exchange("x", kind);
        let queues: Vec<_> = ["a", "b", "c"].map(|queue| world.queue(queue).id).into();
        ["a", "b", "c"].iter().for_each(|queue| world.bind("x", queue, ""));
        let drawn: Vec<_> = (0..6_u128)
            .map(|number| {
                let mut routes = Routes::new();
                world.vhost().route(&envelope("x", "any"), &mut || number, &mut routes).unwrap();
                assert_eq!((routes.len(), routes.is_repeatable()), (1, false));
                routes.as_slice()[0].queue
            })
            .collect();
        assert_eq!(drawn[..3], drawn[3..], "six is twice around");
        assert!(queues.iter().all(|queue| drawn.contains(queue)));
    }
}

#[test]
fn a_local_random_exchange_binds_classic_queues_without_key() {
    let mut world = World::new();
    world.exchange("x", "x-local-random");
    world.queue("q");
    world.ask(declare_typed("quorum", "quorum", |_| {}));
    world.ask(declare_typed("stream", "stream", |_| {}));
    let refused = |action: Action, text: &str| world.refused(action, 406, text);
    refused(Action::BindQueue(bind("x", "q", "k")), "Non empty binding 'k' key not permitted");
    refused(Action::BindExchange(bind("x", "amq.fanout", "")), "Destination not found");
    for queue_type in ["quorum", "stream"] {
        let text = format!("Queue type rabbit_{queue_type}_queue not valid for this exchange type");
        refused(Action::BindQueue(bind("x", queue_type, "")), &text);
    }
    world.bind("x", "q", "");
    assert_eq!(world.route("x", "any"), ["q"]);
}

#[test]
fn picking_exchanges_bind_exchanges_too() {
    let mut world = World::new();
    world.queue("q");
    world.bind("amq.fanout", "q", "");
    for kind in [HASH, "x-modulus-hash", "x-random"] {
        world.exchange(kind, kind);
        world.bind_exchange(kind, "amq.fanout", "1");
        assert_eq!(world.route(kind, "k"), ["q"]);
    }
}
