use alloc::format;

use warren_amqp::{ReplyCode, Value};

use super::*;

#[test]
fn declaring_twice_finds_the_same_queue() {
    let mut world = World::new();
    let first = world.ask(declare_queue("q", |_| {}));
    let again = world.ask(declare_queue("q", |_| {}));
    assert_eq!(first.changes.len(), 1);
    assert!(again.changes.is_empty());
    assert_eq!(first.outcome, again.outcome);
}

#[test]
fn empty_name_takes_the_generated_one() {
    let mut world = World::new();
    let queue = world.queue("");
    assert_eq!(&*queue.name, "amq.gen-JzTY20BRgKO-HjmUJj0wLg");
    assert!(world.topology.queue("/", &queue.name).is_some());
}

#[test]
fn a_generated_name_that_exists_is_never_shared() {
    let mut world = World::new();
    world.queue("");
    let text = "the generated queue name 'amq.gen-JzTY20BRgKO-HjmUJj0wLg' is taken; declare again";
    world.refused(declare_queue("", |_| {}), 541, text);
}

#[test]
fn line_ends_are_dropped_from_declared_names() {
    let mut world = World::new();
    assert_eq!(&*world.queue("a\r\nb\n").name, "ab");
    world.ask(declare_queue("a\nb", |declaration| declaration.passive = true));
}

#[test]
fn names_that_cannot_be() {
    let world = World::new();
    let refused = |name: &str, code, text: &str| world.refused(declare_queue(name, |_| {}), code, text);
    refused("amq.mine", 403, "queue name 'amq.mine' contains reserved prefix 'amq.*'");
    refused("a\tb", 406, r"queue name 'a\tb' contains control characters");
    refused("a\u{85}", 406, r"queue name 'a\u{85}' contains control characters");
    refused(&"x".repeat(256), 406, "queue name of 256 bytes is longer than 255");
    let mut world = world;
    world.queue(&"x".repeat(255));
    world.queue("amq");
    world.queue("AMQ.upper");
}

#[test]
fn passive_declare_looks_at_nothing_but_name_and_owner() {
    let mut world = World::new();
    world.queue_with("q", |declaration| declaration.durable = true);
    world.queue_with("mine", |declaration| declaration.exclusive = true);
    let passive = |name: &str| {
        declare_queue(name, |declaration| {
            declaration.passive = true;
            declaration.auto_delete = true;
            declaration.arguments = table(|table| _ = table.put("x-max-length", 5));
        })
    };
    assert!(world.prepare_as(OTHER, passive("q")).unwrap().changes.is_empty());
    world.refused(passive("nope"), 404, "no queue 'nope' in vhost '/'");
    world.refused(passive(""), 404, "no queue '' in vhost '/'");
    world.refused_as(OTHER, passive("mine"), 405, &locked("mine"));
}

fn locked(name: &str) -> String {
    format!(
        "cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be originally declared on \
         another connection or the exclusive property value does not match that of the original declaration."
    )
}

#[test]
fn an_exclusive_queue_is_its_connections_alone() {
    let mut world = World::new();
    world.queue_with("mine", |declaration| declaration.exclusive = true);
    world.queue("shared");
    let exclusive = |name: &str| declare_queue(name, |declaration| declaration.exclusive = true);
    world.refused_as(OTHER, exclusive("mine"), 405, &locked("mine"));
    world.refused_as(OTHER, declare_queue("mine", |_| {}), 405, &locked("mine"));
    world.refused_as(ME, declare_queue("mine", |_| {}), 405, &locked("mine"));
    world.refused_as(ME, exclusive("shared"), 405, &locked("shared"));
    assert_channel_exception(
        world.topology.accessible_queue(&node(), "/", "mine", OTHER, Verb::Get),
        405,
        &locked("mine"),
    );
    assert_channel_exception(
        world.topology.accessible_queue(&node(), "/", "no", ME, Verb::Get),
        404,
        "no queue 'no' in vhost '/'",
    );
    assert!(world.topology.accessible_queue(&node(), "/", "mine", ME, Verb::Get).is_ok());
    assert!(world.ask(exclusive("mine")).changes.is_empty());
}

#[test]
fn an_exclusive_queue_is_not_durable_whatever_was_asked() {
    let mut world = World::new();
    let queue = world.queue_with("mine", |declaration| {
        declaration.exclusive = true;
        declaration.durable = true;
    });
    assert!(!queue.durable);
    let plain = world.ask(declare_queue("mine", |declaration| declaration.exclusive = true));
    assert!(plain.changes.is_empty(), "durable or not is no difference for it");
}

#[test]
fn only_durable_shared_lasting_queues_are_logged() {
    let check = |durable, exclusive, auto_delete, logged| {
        let mut world = World::new();
        let queue = world.queue_with("q", |declaration| {
            declaration.durable = durable;
            declaration.exclusive = exclusive;
            declaration.auto_delete = auto_delete;
        });
        assert_eq!(queue.is_logged(), logged);
        assert_eq!(queue.id.0 < FIRST_UNLOGGED_ID, logged, "the id tells");
        assert_eq!(Change::CreateQueue(queue).is_logged(), logged);
    };
    check(true, false, false, true);
    check(false, false, false, false);
    check(true, true, false, false);
    check(true, false, true, false);
}

#[test]
fn the_first_property_that_differs_is_named() {
    let mut world = World::new();
    world.queue_with("q", |declaration| declaration.durable = true);
    let check = |adjust: fn(&mut QueueDeclaration), text: &str| {
        world.refused(declare_queue("q", adjust), 406, text);
    };
    check(|_| {}, "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'");
    check(
        |declaration| declaration.auto_delete = true,
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'",
    );
    check(
        |declaration| {
            declaration.durable = true;
            declaration.auto_delete = true;
        },
        "inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'",
    );
    check(
        |declaration| {
            declaration.durable = true;
            declaration.arguments = table(|table| _ = table.put("x-message-ttl", 60_000));
        },
        "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '60000' of type 'signedint' \
         but current is none",
    );
    check(
        |declaration| {
            declaration.durable = true;
            declaration.arguments = table(|table| _ = table.put("x-queue-type", "quorum"));
        },
        "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is 'classic'",
    );
}

#[test]
fn unknown_arguments_are_kept_and_not_compared() {
    let mut world = World::new();
    let with = |value| {
        let arguments = table(|table| _ = table.put("x-mine", value));
        declare_queue("q", |declaration| declaration.arguments = arguments)
    };
    world.ask(with(1));
    assert!(world.ask(with(2)).changes.is_empty());
    let queue = world.topology.queue("/", "q").unwrap();
    assert_eq!(queue.argument("x-mine"), Some(Value::I32(1)));
}

#[test]
fn classic_is_the_type_of_queues_that_name_none() {
    let mut world = World::new();
    let classic = |name: &str| {
        declare_queue(name, |declaration| {
            declaration.arguments = table(|table| _ = table.put("x-queue-type", "classic"));
        })
    };
    world.ask(declare_queue("a", |_| {}));
    assert!(world.ask(classic("a")).changes.is_empty());
    world.ask(classic("b"));
    assert!(world.ask(declare_queue("b", |_| {})).changes.is_empty());
}

#[test]
fn a_quorum_queue_is_durable_shared_lasting_and_named() {
    let world = World::new();
    let quorum = |adjust: fn(&mut QueueDeclaration)| {
        declare_queue("q", |declaration| {
            declaration.durable = true;
            declaration.arguments = table(|table| _ = table.put("x-queue-type", "quorum"));
            adjust(declaration);
        })
    };
    let refused = |adjust: fn(&mut QueueDeclaration), property: &str| {
        let text = format!("invalid property '{property}' for queue 'q' in vhost '/'");
        world.refused(quorum(adjust), 406, &text);
    };
    assert!(world.prepare_as(ME, quorum(|_| {})).is_ok());
    refused(|declaration| declaration.durable = false, "non-durable");
    refused(|declaration| declaration.exclusive = true, "exclusive-owner");
    refused(|declaration| declaration.auto_delete = true, "auto-delete");
    world.refused(
        quorum(|declaration| declaration.name.clear()),
        406,
        "Cannot declare a server-named queue for type rabbit_quorum_queue",
    );
    let with = |name: &str| {
        let arguments = table(|table| _ = table.put("x-queue-type", "quorum").put(name, 1));
        declare_queue("q", |declaration| {
            declaration.durable = true;
            declaration.arguments = arguments;
        })
    };
    for name in ["x-max-priority", "x-queue-mode", "x-queue-version"] {
        let text = format!("invalid arg '{name}' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue");
        world.refused(with(name), 406, &text);
    }
}

#[test]
fn queues_are_limited() {
    let mut world = World::with_limits(TopologyLimits { queues: 2, ..TopologyLimits::default() });
    world.queue("a");
    world.queue("b");
    world.refused(declare_queue("c", |_| {}), 406, "cannot declare queue 'c': queue limit in vhost '/' (2) is reached");
    assert!(world.ask(declare_queue("b", |_| {})).changes.is_empty(), "what is there may be declared again");
}

#[test]
fn arguments_are_limited() {
    let mut world = World::new();
    let of_size = |size: usize| {
        let value = "x".repeat(size - "\u{1}nS....".len());
        let arguments = table(|table| _ = table.put("n", value.as_str()));
        assert_eq!(arguments.len(), size);
        declare_queue("q", |declaration| declaration.arguments = arguments)
    };
    let limit = crate::limits::ARGUMENTS_BYTES;
    let text = "arguments of queue 'q' in vhost '/' are 16385 bytes, more than 16384";
    world.refused(of_size(limit + 1), 406, text);
    world.ask(of_size(limit));
}

#[test]
fn queues_go_to_the_shard_with_the_fewest() {
    let mut world = World::new();
    let shards: Vec<u16> = (0..8).map(|index| world.queue(&format!("q{index}")).shard.0).collect();
    assert_eq!(shards, [1, 2, 3, 4, 1, 2, 3, 4]);
    let gone = world.topology.queue("/", "q2").unwrap().id;
    world.topology.removal(gone).iter().for_each(|change| world.topology.apply(change));
    assert_eq!(world.queue("next").shard, ShardId(3));
}

#[test]
fn ids_of_logged_queues_are_never_used_again() {
    let mut world = World::new();
    let durable = |declaration: &mut QueueDeclaration| declaration.durable = true;
    let first = world.queue_with("q", durable).id;
    world.topology.removal(first).iter().for_each(|change| world.topology.apply(change));
    assert_eq!((first, world.queue_with("q", durable).id), (QueueId(1), QueueId(2)));
    world.topology.apply(&Change::QueueIds { next: FIRST_UNLOGGED_ID - 1 });
    assert_eq!(world.queue_with("last", durable).id, QueueId(FIRST_UNLOGGED_ID - 1));
    world.refused(
        declare_queue("more", durable),
        506,
        "no queue id is left; export the definitions and import them into a new data folder",
    );
    world.queue("transient queues have ids of their own");
}

#[test]
fn ids_of_unlogged_queues_begin_anew_and_pass_over_those_in_use() {
    let mut world = World::new();
    let first = world.queue("first").id;
    assert_eq!(first, QueueId(FIRST_UNLOGGED_ID));
    world.topology.next_unlogged_id = u32::MAX;
    assert_eq!(world.queue("last").id, QueueId(u32::MAX));
    assert_eq!(world.queue("next").id, QueueId(FIRST_UNLOGGED_ID + 1));
}

#[test]
fn an_unknown_vhost_closes_the_connection() {
    let world = World::new();
    let request =
        Request { connection: ME, identity: node(), vhost: Arc::from("nope"), action: declare_queue("q", |_| {}) };
    let refusal = world.topology.prepare(&request).unwrap_err();
    assert_eq!(refusal, Exception::connection(ReplyCode::NotAllowed, "vhost nope not found"));
}
