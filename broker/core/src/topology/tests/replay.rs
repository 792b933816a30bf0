//! The log: what is written of changes, and what comes back of it.

use alloc::format;

use proptest::prelude::*;

use super::*;

/// A request in a small world, where things meet often.
fn action() -> impl Strategy<Value = (ConnectionId, Action)> {
    let name = || prop::sample::select(&["a", "b", "c", "amq.topic"][..]);
    let key = || prop::sample::select(&["", "k", "k.l", "#.k", "*"][..]);
    let flags = || (any::<bool>(), any::<bool>(), any::<bool>());
    let arguments =
        || prop::option::of(0..3_i32).prop_map(|n| n.map_or_else(Bytes::new, |n| table(|table| _ = table.put("n", n))));
    let bind = move || {
        (name(), name(), key(), arguments())
            .prop_map(|(source, destination, key, arguments)| Bind { arguments, ..bind(source, destination, key) })
    };
    let kind = prop::sample::select(&["direct", "fanout", "topic", "headers"][..]);
    let action = prop_oneof![
        1 => (name(), kind, flags(), arguments()).prop_map(|(name, kind, (durable, auto_delete, internal), arguments)| {
            declare_exchange(name, kind, |declaration| {
                declaration.durable = durable;
                declaration.auto_delete = auto_delete;
                declaration.internal = internal;
                declaration.arguments = arguments;
            })
        }),
        1 => (name(), any::<bool>()).prop_map(|(name, if_unused)| Action::DeleteExchange { name: name.to_string(), if_unused }),
        1 => (name(), flags(), arguments()).prop_map(|(name, (durable, auto_delete, exclusive), arguments)| {
            declare_queue(name, |declaration| {
                declaration.durable = durable;
                declaration.auto_delete = auto_delete;
                declaration.exclusive = exclusive;
                declaration.arguments = arguments;
            })
        }),
        4 => bind().prop_map(Action::BindQueue),
        2 => bind().prop_map(Action::BindExchange),
        1 => bind().prop_map(Action::UnbindQueue),
        1 => bind().prop_map(Action::UnbindExchange),
        1 => Just(Action::ReleaseConnection),
    ];
    ((1..3_u64).prop_map(ConnectionId), action)
}

/// A request, or the removal of the n-th queue.
fn steps() -> impl Strategy<Value = Vec<Result<(ConnectionId, Action), usize>>> {
    let step = prop_oneof![6 => action().prop_map(Ok), 1 => (0..4_usize).prop_map(Err)];
    prop::collection::vec(step, 0..60)
}

fn logged(topology: &Topology) -> Vec<String> {
    topology.logged_changes().map(|change| format!("{change:?}")).collect()
}

fn replayed(parts: &[&[u8]]) -> World {
    let mut world = World::new();
    parts.iter().for_each(|octets| world.topology.replay(octets).unwrap());
    assert_consistent(&world);
    world
}

fn assert_consistent(world: &World) {
    let bindings: Vec<_> = world.vhost().bindings().collect();
    assert_eq!(bindings.len(), world.vhost().binding_count());
    for record in world.vhost().exchanges() {
        let exchange = world.vhost().exchange_table(&record.name).unwrap();
        let mut held = 0;
        exchange.for_each_binding(|binding| {
            held += 1;
            assert!(bindings.contains(&binding.record(world.vhost().name())));
        });
        assert_eq!(held, exchange.bindings);
    }
    let by_id: Vec<_> = world.topology.queues().map(|queue| queue.id).collect();
    assert_eq!(by_id.len(), world.vhost().queue_count());
    let loads: u32 = world.topology.loads.iter().sum();
    assert_eq!(usize::try_from(loads).unwrap(), by_id.len());
}

proptest! {
    #[test]
    fn replaying_the_log_or_a_snapshot_and_the_log_after_it_gives_the_logged_part_of_what_was(
        steps in steps(), (snapshot_at, log_from) in (0..60_usize, 0..60_usize),
    ) {
        let mut world = World::new();
        let mut log = Vec::new();
        let mut snapshot = (world.topology.snapshot(), 0);
        let mut from = 0;
        for (index, step) in steps.into_iter().enumerate() {
            if index == snapshot_at {
                snapshot = (world.topology.snapshot(), log.len());
            }
            if index == log_from {
                from = log.len();
            }
            let changes = match step {
                Ok((connection, action)) => world.prepare_as(connection, action).map_or_else(|_| Vec::new(), |prepared| prepared.changes),
                Err(nth) => world.topology.queues().nth(nth).map_or_else(Vec::new, |queue| world.topology.removal(queue.id)),
            };
            for change in changes {
                if change.is_logged() {
                    change.encode(&mut log);
                }
                world.topology.apply(&change);
            }
            assert_consistent(&world);
        }
        let (snapshot, at) = snapshot;
        let expected = world.topology.snapshot();
        let durable = |declaration: &mut QueueDeclaration| declaration.durable = true;
        // A snapshot may be newer than the place that the log is read from.
        for parts in [&[&log[..]][..], &[&snapshot, &log[at..]], &[&snapshot, &log[at.min(from)..]], &[&expected]] {
            let mut again = replayed(parts);
            prop_assert_eq!(logged(&again.topology), logged(&world.topology));
            prop_assert_eq!(again.topology.snapshot(), &expected[..]);
            let id = again.queue_with("next", durable).id;
            prop_assert_eq!(id, world.topology.free_queue_id(true).unwrap());
        }
    }

    #[test]
    fn no_octets_make_decoding_panic(octets in prop::collection::vec(any::<u8>(), 0..80), kind in 0..19_u8) {
        let mut octets = octets;
        octets.insert(0, kind);
        if let Ok((change, size)) = Change::decode(&octets) {
            let mut again = Vec::new();
            change.encode(&mut again);
            prop_assert_eq!(&again[..], &octets[..size]);
            World::new().topology.apply(&change);
        }
    }
}

/// One change of every kind, as [`Change::encode`] writes it. These octets are in people's data folders.
#[test]
fn the_form_in_the_log_stays() {
    let vhost: Arc<str> = Arc::from("/");
    let binding = |destination| BindingRecord {
        vhost: Arc::clone(&vhost),
        source: Arc::from("x"),
        destination,
        routing_key: Arc::from("k"),
        arguments: Bytes::from_static(b"\x01nV"),
        logged: true,
    };
    let exchange = ExchangeRecord {
        vhost: Arc::clone(&vhost),
        name: Arc::from("x"),
        delayed: false,
        kind: ExchangeKind::Topic,
        durable: true,
        auto_delete: false,
        internal: true,
        arguments: Bytes::new(),
    };
    let queue = QueueRecord {
        id: QueueId(0x0102),
        shard: ShardId(3),
        vhost: Arc::clone(&vhost),
        name: Arc::from("q"),
        durable: true,
        auto_delete: false,
        exclusive_owner: None,
        arguments: Bytes::from_static(b"\x01nV"),
    };
    let delete_exchange = Change::DeleteExchange { vhost: Arc::clone(&vhost), name: Arc::from("x"), logged: true };
    let check = |change: Change, expected: &[u8]| {
        let mut octets = Vec::new();
        change.encode(&mut octets);
        assert_eq!(octets, expected, "{change:?}");
        assert_eq!(Change::decode(&octets), Ok((change, octets.len())));
        for size in 0..octets.len() {
            assert_eq!(Change::decode(&octets[..size]), Err(ChangeError::Truncated));
        }
    };
    check(Change::CreateExchange(Arc::new(exchange)), b"\x01\x01/\x01x\x02\x02\x00\x00\x00\x00");
    check(delete_exchange, b"\x02\x01/\x01x");
    check(Change::CreateQueue(Arc::new(queue)), b"\x03\x02\x01\x00\x00\x03\x00\x01/\x01q\x03\x00\x00\x00\x01nV");
    check(Change::DeleteQueue { id: QueueId(7), logged: true }, b"\x04\x07\x00\x00\x00");
    check(
        Change::Bind(binding(Destination::Queue(QueueId(7)))),
        b"\x05\x01/\x01x\x00\x07\x00\x00\x00\x01k\x03\x00\x00\x00\x01nV",
    );
    check(
        Change::Unbind(binding(Destination::Exchange(Arc::from("y")))),
        b"\x06\x01/\x01x\x01\x01y\x01k\x03\x00\x00\x00\x01nV",
    );
    check(Change::QueueIds { next: 9 }, b"\x07\x09\x00\x00\x00");
    check(Change::PauseQueue { id: QueueId(7), paused: true, logged: true }, b"\x12\x07\x00\x00\x00\x01");
}

#[test]
fn octets_without_meaning_are_errors() {
    assert_eq!(Change::decode(b""), Err(ChangeError::Truncated));
    assert_eq!(Change::decode(b"\x00"), Err(ChangeError::UnknownKind(0)));
    assert_eq!(Change::decode(b"\x15"), Err(ChangeError::UnknownKind(21)));
    assert_eq!(Change::decode(b"\x02\x01\xff\x01x"), Err(ChangeError::NotUtf8));
    assert_eq!(Change::decode(b"\x01\x01/\x01x\x08\x00\x00\x00\x00\x00"), Err(ChangeError::UnknownCode(8)));
    assert_eq!(Change::decode(b"\x01\x01/\x01x\x00\x08\x00\x00\x00\x00"), Err(ChangeError::UnknownCode(8)));
    assert_eq!(Change::decode(b"\x05\x01/\x01x\x02"), Err(ChangeError::UnknownCode(2)));
}

#[test]
fn a_snapshot_has_what_is_logged_and_nothing_else() {
    let mut world = World::new();
    let empty = world.topology.snapshot();
    assert_eq!(empty, b"\x07\x01\x00\x00\x00");
    world.queue("transient");
    world.queue_with("auto-delete", |declaration| (declaration.durable, declaration.auto_delete) = (true, true));
    world.queue_with("exclusive", |declaration| (declaration.durable, declaration.exclusive) = (true, true));
    world.exchange("transient", "fanout");
    world.bind("amq.fanout", "transient", "");
    world.bind("transient", "exclusive", "");
    assert_eq!(world.topology.snapshot(), empty);
    let kept = world.queue_with("kept", |declaration| declaration.durable = true);
    world.bind("transient", "kept", "");
    world.bind("amq.fanout", "kept", "");
    let again = replayed(&[&world.topology.snapshot()]);
    assert_eq!(again.topology.queues().collect::<Vec<_>>(), [&kept]);
    assert_eq!(again.route("amq.fanout", ""), ["kept"]);
    assert_eq!(again.vhost().binding_count(), 1);
}

#[test]
fn octets_that_are_no_changes_are_refused_with_what_they_are() {
    let mut world = World::new();
    world.queue_with("q", |declaration| declaration.durable = true);
    let mut octets = world.topology.snapshot();
    octets.push(99);
    assert_eq!(World::new().topology.replay(&octets), Err(ChangeError::UnknownKind(99)));
}

#[test]
fn pauses_and_global_parameters_survive_a_snapshot_but_for_queues_that_are_not_logged() {
    let mut world = World::new();
    let kept = world.queue_with("kept", |declaration| declaration.durable = true).id;
    let transient = world.queue("transient").id;
    let empty = world.topology.snapshot();
    for name in ["kept", "transient"] {
        world.administer("/", Administration::PauseQueue { name: name.to_string(), paused: true });
    }
    assert!(world.topology.is_paused(kept) && world.topology.is_paused(transient));
    let restarted = replayed(&[&world.topology.snapshot()]).topology;
    assert!(restarted.is_paused(kept) && !restarted.is_paused(transient));
    assert!(restarted.settings(restarted.queue_by_id(kept).expect("it is there")).paused);
    for name in ["kept", "transient"] {
        world.administer("/", Administration::PauseQueue { name: name.to_string(), paused: false });
    }
    assert_eq!(world.topology.snapshot(), empty);
    let (name, value) = (String::from("name"), String::from("[1]"));
    world.administer("/", Administration::PutGlobalParameter { name: name.clone(), value });
    let restarted = replayed(&[&world.topology.snapshot()]).topology;
    let parameters: Vec<_> = restarted.global_parameters().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(parameters, [("name", "[1]")]);
    world.administer("/", Administration::DeleteGlobalParameter { name });
    assert_eq!(world.topology.snapshot(), empty);
}

#[test]
fn used_ids_survive_a_snapshot_though_the_queues_are_gone() {
    let mut world = World::new();
    let durable = |declaration: &mut QueueDeclaration| declaration.durable = true;
    let id = world.queue_with("q", durable).id;
    world.topology.removal(id).iter().for_each(|change| world.topology.apply(change));
    let mut restarted = replayed(&[&world.topology.snapshot()]);
    assert_eq!(restarted.queue_with("q", durable).id, QueueId(id.0 + 1));
}

#[test]
fn a_queue_of_a_shard_that_is_not_used_any_more_is_kept() {
    let mut world = World::new();
    let mut record = QueueRecord::clone(&world.queue_with("q", |declaration| declaration.durable = true));
    record.shard = ShardId(40);
    let mut smaller = World::new();
    smaller.topology.apply(&Change::CreateQueue(Arc::new(record)));
    assert_eq!(smaller.topology.queue("/", "q").unwrap().shard, ShardId(40));
    smaller.topology.apply(&Change::DeleteQueue { id: QueueId(1), logged: true });
    assert!(smaller.topology.queue("/", "q").is_none());
}

#[test]
fn only_a_pause_changes_what_is_known_of_paused_queues() {
    let mut world = World::new();
    let (paused, other) = (world.queue("paused"), world.queue("other"));
    let pause = |paused| Administration::PauseQueue { name: String::from("paused"), paused };
    let before = world.topology.clone();
    world.administer("/", pause(true));
    let toggled = world.topology.reconfigured(&before);
    assert_eq!(toggled.iter().map(|queue| queue.id).collect::<Vec<_>>(), [paused.id]);
    // All of them are looked at where the set is another.
    let before = world.topology.clone();
    world.queue("third");
    world.topology.apply(&Change::DeleteQueue { id: other.id, logged: false });
    assert!(Arc::ptr_eq(&world.topology.paused, &before.paused));
    world.administer("/", pause(false));
    let toggled = world.topology.reconfigured(&before);
    assert_eq!(toggled.iter().map(|queue| queue.id).collect::<Vec<_>>(), [paused.id]);
}
