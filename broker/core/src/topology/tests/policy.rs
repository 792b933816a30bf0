//! Policies: which one counts, how two kinds of them are merged, and what may stand in them. Asked of RabbitMQ 4.3.6.

use alloc::vec;

use proptest::prelude::*;
use warren_amqp::Value;

use super::*;

type Definition = Vec<(&'static str, Value<'static>)>;

fn number(value: i64) -> Value<'static> {
    Value::I64(value)
}

fn text(value: &'static str) -> Value<'static> {
    Value::LongString(value.as_bytes())
}

fn defined(entries: &[(&'static str, Value<'static>)]) -> Bytes {
    table(|table| entries.iter().for_each(|(key, value)| _ = table.put(key, *value)))
}

/// Queues of all types with the same name at the end, and an exchange.
fn world() -> World {
    let mut world = World::new();
    for kind in ["classic", "quorum"] {
        world.queue_with(kind, |declaration| {
            declaration.durable = true;
            declaration.arguments = table(|table| _ = table.put("x-queue-type", kind));
        });
    }
    let mut stream = QueueRecord::clone(world.topology.queue("/", "quorum").unwrap());
    stream.id = QueueId(100);
    stream.name = Arc::from("stream");
    stream.arguments = table(|table| _ = table.put("x-queue-type", "stream"));
    world.topology.apply(&Change::CreateQueue(Arc::new(stream)));
    world
}

fn effective(world: &World, queue: &str) -> EffectivePolicy {
    world.topology.policy_of(world.topology.queue("/", queue).unwrap())
}

/// Which of classic queue, quorum queue, stream and exchange have the policy.
fn who_has(world: &World, policy: &str) -> [bool; 4] {
    let is = |effective: EffectivePolicy| effective.policy.is_some_and(|found| *found.name == *policy);
    let [classic, quorum, stream] = ["classic", "quorum", "stream"].map(|queue| is(effective(world, queue)));
    [classic, quorum, stream, is(world.vhost().policy_of_exchange("amq.topic"))]
}

#[test]
fn the_policy_of_the_highest_priority_counts_whole() {
    let mut world = world();
    world.put_policy("low", |policy| policy.definition = defined(&[("max-length", number(7)), ("expires", number(9))]));
    world.put_policy("high", |policy| {
        policy.definition = defined(&[("max-length", number(5))]);
        policy.priority = 1;
    });
    let found = effective(&world, "classic");
    assert_eq!(found.get("max-length"), Some(number(5)));
    assert_eq!(found.get("expires"), None);
    world.put_policy("high", |policy| {
        policy.definition = defined(&[("max-length", number(5))]);
        policy.priority = -1;
    });
    assert_eq!(effective(&world, "classic").get("max-length"), Some(number(7)));
    world.put_policy("a-first-name", |policy| policy.definition = defined(&[("max-length", number(1))]));
    assert_eq!(effective(&world, "classic").get("max-length"), Some(number(1)));
    let delete = |name: &str| Administration::DeletePolicy { operator: false, name: name.to_string() };
    ["a-first-name", "low", "high"].iter().for_each(|name| world.administer("/", delete(name)));
    assert_eq!(effective(&world, "classic"), EffectivePolicy::default());
}

#[test]
fn a_policy_is_for_names_and_kinds() {
    let mut world = world();
    for (apply_to, expected) in [
        (ApplyTo::All, [true, true, true, true]),
        (ApplyTo::Queues, [true, true, true, false]),
        (ApplyTo::ClassicQueues, [true, false, false, false]),
        (ApplyTo::QuorumQueues, [false, true, false, false]),
        (ApplyTo::Streams, [false, false, true, false]),
        (ApplyTo::Exchanges, [false, false, false, true]),
    ] {
        world.put_policy("p", |policy| {
            policy.apply_to = apply_to;
            policy.definition = defined(&[("max-length-bytes", number(5))]);
        });
        assert_eq!(who_has(&world, "p"), expected, "{apply_to:?}");
    }
    world.put_policy("p", |policy| {
        policy.pattern = String::from("^(quo|amq)");
        policy.definition = defined(&[("max-length-bytes", number(5))]);
    });
    assert_eq!(who_has(&world, "p"), [false, true, false, true]);
}

#[test]
fn a_policy_with_a_key_that_a_type_has_no_use_for_is_not_for_that_type() {
    let check = |definition: &[(&'static str, Value<'static>)], expected: [bool; 3]| {
        let mut world = world();
        world.put_policy("p", |policy| policy.definition = defined(definition));
        assert_eq!(who_has(&world, "p")[..3], expected, "{definition:?}");
        assert!(who_has(&world, "p")[3]);
    };
    check(&[("message-ttl", number(5))], [true, true, false]);
    check(&[("max-length", number(5))], [true, true, false]);
    check(&[("max-length-bytes", number(5))], [true, true, true]);
    check(&[("max-in-memory-length", number(5))], [false, true, false]);
    check(&[("delivery-limit", number(5))], [false, true, false]);
    check(&[("dead-letter-strategy", text("at-least-once"))], [false, true, false]);
    check(&[("dead-letter-exchange", text("x"))], [true, true, false]);
    check(&[("alternate-exchange", text("x"))], [true, true, true]);
    check(&[("max-age", text("7D"))], [false, false, true]);
    check(&[("queue-mode", text("lazy"))], [true, false, false]);
    check(&[("initial-cluster-size", number(3))], [false, false, true]);
    check(&[("target-group-size", number(3))], [false, true, false]);
    check(&[("consumer-timeout", number(3))], [true, true, true]);
    check(&[("max-length", number(5)), ("delivery-limit", number(3))], [false, true, false]);
}

#[test]
fn operator_policies_are_merged_key_by_key() {
    let merged = |user: Definition, operator: Definition, key: &str| {
        let mut world = world();
        world.put_policy("u", |policy| policy.definition = defined(&user));
        world.put_policy("o", |policy| {
            policy.definition = defined(&operator);
            policy.operator = true;
        });
        effective(&world, "quorum").get(key).and_then(|value| value.as_integer())
    };
    for (key, user, operator, expected) in [
        ("message-ttl", 5, 9, 5),
        ("message-ttl", 9, 5, 5),
        ("max-length", 9, 5, 5),
        ("delivery-limit", 5, 9, 5),
        ("delivery-limit", -1, 5, 5),
        ("delivery-limit", 5, -1, 5),
        ("delivery-limit", -1, -1, -1),
        ("target-group-size", 3, 5, 5),
        ("target-group-size", 5, 3, 5),
        ("delayed-retry-min", 9, 5, 9),
        ("delayed-retry-max", 9, 5, 5),
    ] {
        let found = merged(vec![(key, number(user))], vec![(key, number(operator))], key);
        assert_eq!(found, Some(expected), "{key} {user} {operator}");
    }
    let mut world = world();
    world.put_policy("u", |policy| policy.definition = defined(&[("overflow", text("reject-publish"))]));
    world.put_policy("o", |policy| {
        policy.definition = defined(&[("overflow", text("drop-head")), ("expires", number(4))]);
        policy.operator = true;
    });
    let found = effective(&world, "quorum");
    assert_eq!((found.get("overflow"), found.get("expires")), (Some(text("drop-head")), Some(number(4))));
}

#[test]
fn definitions_are_checked() {
    let refused = |operator, definition: &[(&'static str, Value<'static>)], expected: &str| {
        let asked = policy("p", |policy| {
            policy.operator = operator;
            policy.definition = defined(definition);
        });
        World::new().refused(Action::Administer(Administration::PutPolicy(asked)), 406, expected);
    };
    refused(false, &[], "no policy provided");
    refused(false, &[("message-ttl", number(-1))], "-1 is not a valid message TTL");
    refused(false, &[("expires", number(0))], "0 is not a valid queue expiry");
    refused(false, &[("max-length", text("x"))], "'x' is not a valid maximum length");
    refused(false, &[("max-age", text("5x"))], "'5x' is not a valid max age");
    refused(false, &[("max-age", text("h"))], "'h' is not a valid max age");
    refused(false, &[("overflow", text("none"))], "'none' is not a valid overflow value");
    refused(false, &[("dead-letter-exchange", number(1))], "1 is not a valid dead letter exchange name");
    refused(false, &[("ha-mode", text("all"))], "'ha-mode' is not a recognised policy setting");
    refused(true, &[("max-age", text("1h"))], "'max-age' is not a recognised operator policy setting");
    let size = "is not a valid filter size. Valid range is 16-255";
    refused(false, &[("stream-filter-size-bytes", number(15))], &alloc::format!("15 {size}"));
    refused(false, &[("stream-filter-size-bytes", number(256))], &alloc::format!("256 {size}"));
    let (least, most) = (("delayed-retry-min", number(9)), ("delayed-retry-max", number(5)));
    refused(false, &[least, most], "delayed-retry-max (5) must not be smaller than delayed-retry-min (9)");
    let text_of = "delayed-retry-min is required when delayed-retry-type is all";
    refused(false, &[("delayed-retry-type", text("all"))], text_of);
    let mut world = world();
    for (key, value) in
        [("stream-filter-size-bytes", number(16)), ("max-age", text("12M")), ("queue-version", number(2))]
    {
        world.put_policy("p", |policy| policy.definition = defined(&[(key, value)]));
    }
}

/// The model: all policies that match, in the order they count; the first is it.
fn model(policies: &[PolicyDeclaration], operator: bool, queue: &str) -> Option<String> {
    let quorum_only =
        |policy: &PolicyDeclaration| Table::new(&policy.definition).get("delivery-limit").unwrap().is_some();
    let mut matching: Vec<_> = policies
        .iter()
        .filter(|policy| policy.operator == operator && queue.contains(&policy.pattern))
        .filter(|policy| match policy.apply_to {
            ApplyTo::All | ApplyTo::Queues => true,
            ApplyTo::ClassicQueues => queue.ends_with("classic"),
            ApplyTo::QuorumQueues => queue.ends_with("quorum"),
            ApplyTo::Streams | ApplyTo::Exchanges => false,
        })
        .filter(|policy| !quorum_only(policy) || queue.ends_with("quorum"))
        .collect();
    matching.sort_by(|one, other| other.priority.cmp(&one.priority).then(one.name.cmp(&other.name)));
    matching.first().map(|policy| policy.name.clone())
}

fn any_policy() -> impl Strategy<Value = PolicyDeclaration> {
    let name = prop::sample::select(&["a", "b", "c", "d"][..]);
    let pattern = prop::sample::select(&["", "a", "b", "ab", "-"][..]);
    let key = prop::sample::select(&["max-length", "delivery-limit"][..]);
    let apply_to = prop::sample::select(&ApplyTo::ALL[..]);
    (name, any::<bool>(), pattern, apply_to, -1..2_i64, key, 0..4_i64).prop_map(
        |(name, operator, pattern, apply_to, priority, key, value)| {
            policy(name, |policy| {
                policy.operator = operator;
                policy.pattern = pattern.to_string();
                policy.apply_to = apply_to;
                policy.priority = priority;
                policy.definition = defined(&[(key, number(value))]);
            })
        },
    )
}

proptest! {
    #[test]
    fn policies_count_as_in_a_simple_model(steps in prop::collection::vec((any_policy(), 0..4_u8), 0..30)) {
        let mut world = World::new();
        let queues = ["a-classic", "ab-classic", "a-quorum", "b-quorum"];
        for queue in queues {
            let kind = queue.rsplit('-').next().unwrap();
            world.queue_with(queue, |declaration| {
                declaration.durable = true;
                declaration.arguments = table(|table| _ = table.put("x-queue-type", kind));
            });
        }
        let mut policies: Vec<PolicyDeclaration> = Vec::new();
        for (asked, deed) in steps {
            let (operator, name) = (asked.operator, asked.name.clone());
            policies.retain(|policy| (policy.operator, &policy.name) != (operator, &name));
            if deed == 0 {
                world.administer("/", Administration::DeletePolicy { operator, name });
            } else {
                world.administer("/", Administration::PutPolicy(asked.clone()));
                policies.push(asked);
            }
            for queue in queues {
                let found = effective(&world, queue);
                let name = |policy: &Option<Arc<Policy>>| policy.as_ref().map(|policy| policy.name.to_string());
                prop_assert_eq!(name(&found.policy), model(&policies, false, queue));
                prop_assert_eq!(name(&found.operator), model(&policies, true, queue));
                let value = |operator: bool| {
                    let name = model(&policies, operator, queue)?;
                    let policy = policies.iter().find(|policy| policy.operator == operator && policy.name == name)?;
                    Table::new(&policy.definition).get("max-length").unwrap()?.as_integer()
                };
                let least = value(false).into_iter().chain(value(true)).min();
                prop_assert_eq!(found.get("max-length").and_then(|value| value.as_integer()), least);
            }
        }
    }
}
