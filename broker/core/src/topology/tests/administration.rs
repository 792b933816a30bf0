//! Virtual hosts, users and rights: how they change, and what the log says of it.

use alloc::format;
use alloc::vec;

use proptest::prelude::*;

use super::*;

fn hash(algorithm: HashingAlgorithm, octets: usize) -> PasswordHash {
    PasswordHash { algorithm, octets: Bytes::from(vec![7; octets]) }
}

fn put_user(name: &str, password: Option<PasswordHash>) -> Action {
    put_user_until(name, password, None)
}

/// The password before counts until then.
fn put_user_until(name: &str, password: Option<PasswordHash>, previous_until_ms: Option<u64>) -> Action {
    let name = name.to_string();
    Action::Administer(Administration::PutUser { name, password, previous_until_ms, tags: Vec::new() })
}

fn put_vhost(description: &str, tags: &[&str], default_queue_type: Option<&str>) -> Action {
    Action::Administer(Administration::PutVhost {
        description: description.to_string(),
        tags: tags.iter().map(ToString::to_string).collect(),
        default_queue_type: default_queue_type.map(ToString::to_string),
    })
}

fn permissions(user: &str, configure: &str) -> Action {
    let [user, configure, write, read] = [user, configure, "", ""].map(ToString::to_string);
    Action::Administer(Administration::SetPermissions { user, configure, write, read })
}

fn topic_permissions(user: &str, exchange: &str) -> Action {
    let [user, exchange, write, read] = [user, exchange, "^{username}", ".*"].map(ToString::to_string);
    Action::Administer(Administration::SetTopicPermissions { user, exchange, write, read })
}

#[test]
fn only_administrators_administer() {
    let mut world = World::new();
    let bob = world.put_user("bob", &["management"]);
    let root = world.put_user("root", &["administrator"]);
    let text = "user 'bob' has not the tag 'administrator'";
    assert_channel_exception(world.prepare_in(&bob, "new", put_vhost("", &[], None)), 403, text);
    assert!(world.prepare_in(&root, "new", put_vhost("", &[], None)).is_ok());
    let asked = policy("p", |policy| policy.definition = table(|table| _ = table.put("max-length", 1)));
    let put = |operator| Action::Administer(Administration::PutPolicy(PolicyDeclaration { operator, ..asked.clone() }));
    let maker = world.put_user("maker", &["policymaker"]);
    let text = "user 'maker' has not the tag 'policymaker' and rights in vhost '/'";
    assert_channel_exception(world.prepare_in(&maker, "/", put(false)), 403, text);
    world.permit("maker", "", "", "");
    assert!(world.prepare_in(&maker, "/", put(false)).is_ok());
    assert!(world.prepare_in(&maker, "/", put(true)).is_err());
}

#[test]
fn a_protected_virtual_host_is_not_deleted_and_what_changes_it_leaves_it_protected() {
    let mut world = World::new();
    world.ask_in("v", put_vhost("", &[], None));
    let protect = |protected| Action::Administer(Administration::ProtectVhost { protected });
    let delete = || Action::Administer(Administration::DeleteVhost);
    world.ask_in("v", protect(true));
    world.ask_in("v", put_vhost("orders", &[], None));
    world.ask_in("v", Action::Administer(Administration::SetVhostLimits(VhostLimits::default())));
    let text = "Refusing to delete virtual host 'v' because it is protected from deletion";
    assert_channel_exception(world.prepare_in(&node(), "v", delete()), 406, text);
    assert!(world.topology.vhost("v").is_some());
    world.ask_in("v", protect(false));
    world.ask_in("v", delete());
    assert!(world.topology.vhost("v").is_none());
    assert!(world.prepare_in(&node(), "v", protect(true)).is_err(), "it is not there");
}

#[test]
fn a_virtual_host_ends_with_all_that_is_in_it() {
    let mut world = World::new();
    world.ask_in("v", put_vhost("orders", &["a"], Some("quorum")));
    let record = world.topology.vhost("v").unwrap().record();
    assert_eq!((&*record.description, record.tags.len()), ("orders", 1));
    assert_eq!(record.default_queue_type.as_deref(), Some("quorum"));
    world.put_user("bob", &[]);
    world.ask_in("v", permissions("bob", ".*"));
    world.ask_in("v", topic_permissions("bob", "amq.topic"));
    world.ask_in("/", permissions("bob", ".*"));
    let durable = |declaration: &mut QueueDeclaration| declaration.durable = true;
    world.ask_in("v", declare_queue("kept", durable));
    world.ask_in("v", declare_queue("gone", |_| {}));
    world.ask_in("v", Action::BindQueue(bind("amq.fanout", "kept", "")));
    world.queue("other");
    let deleted = world.ask_in("v", Action::Administer(Administration::DeleteVhost));
    let Outcome::Released(queues) = deleted.outcome else { panic!("{deleted:?}") };
    assert_eq!(queues.iter().map(|queue| &*queue.name).collect::<Vec<_>>(), ["kept", "gone"]);
    assert!(world.topology.vhost("v").is_none());
    assert_eq!(world.topology.queues().count(), 1);
    assert_eq!(world.topology.users.permission_count, 1);
    world.put_vhost("v");
    assert_eq!(world.topology.vhost("v").unwrap().queue_count(), 0);
    let bob = Identity::User(Arc::from("bob"));
    assert!(world.topology.may_open(&bob, "v", OpenConnections::default()).is_err());
}

#[test]
fn what_is_so_already_changes_nothing() {
    let mut world = World::new();
    let password = Some(hash(HashingAlgorithm::Sha256, 36));
    let definition = table(|table| _ = table.put("max-length", 1));
    let asked: Vec<_> = vec![
        put_vhost("d", &["a"], None),
        put_user("bob", password),
        Action::Administer(Administration::SetUserLimits {
            user: String::from("bob"),
            limits: UserLimits { max_connections: Some(1), max_channels: None },
        }),
        permissions("bob", "a"),
        topic_permissions("bob", "x"),
        Action::Administer(Administration::PutPolicy(policy("p", |policy| policy.definition = definition))),
        Action::Administer(Administration::SetVhostLimits(VhostLimits { max_connections: Some(1), max_queues: None })),
    ];
    for action in &asked {
        assert_eq!(world.ask_in("v", action.clone()).changes.len(), 1, "{action:?}");
    }
    for action in &asked {
        assert_eq!(world.ask_in("v", action.clone()).changes, [], "{action:?}");
    }
    let absent = [
        Administration::DeleteUser { name: "x".repeat(300) },
        Administration::ClearPermissions { user: String::from("no") },
        Administration::ClearTopicPermissions { user: String::from("bob"), exchange: String::from("no") },
        Administration::DeletePolicy { operator: true, name: String::from("p") },
    ];
    for asked in absent {
        assert_eq!(world.ask_in("v", Action::Administer(asked)).changes, []);
    }
    assert_eq!(world.ask_in("no", Action::Administer(Administration::DeleteVhost)).changes, []);
    assert_eq!(world.topology.user("bob").unwrap().limits.max_connections, Some(1));
    assert_eq!(world.topology.vhost("v").unwrap().record().limits.max_connections, Some(1));
}

#[test]
fn a_better_hash_takes_the_place_of_the_one_it_was_made_from_and_of_no_other() {
    let mut world = World::new();
    let old = hash(HashingAlgorithm::Sha512, 68);
    let new = hash(HashingAlgorithm::Argon2id, 48);
    world.ask_in("v", put_user("bob", Some(old.clone())));
    let rehash = |user: &str, old: &PasswordHash, new: &PasswordHash| {
        let (user, old, new) = (String::from(user), old.clone(), new.clone());
        Action::Administer(Administration::RehashPassword { user, old, new })
    };
    assert_eq!(world.ask_in("v", rehash("bob", &new, &new)).changes, [], "it has another one");
    assert_eq!(world.ask_in("v", rehash("carol", &old, &new)).changes, [], "there is no such user");
    assert_eq!(world.ask_in("v", rehash("bob", &old, &new)).changes.len(), 1);
    assert_eq!(world.topology.user("bob").unwrap().password.as_ref(), Some(&new));
    assert_eq!(world.ask_in("v", rehash("bob", &old, &new)).changes, [], "it is so already");
    let broken = hash(HashingAlgorithm::Argon2id, 36);
    let text = "password hash of user 'bob' has 36 octets, those of warren_password_hashing_argon2id have 48";
    assert_channel_exception(world.prepare_in(&node(), "v", rehash("bob", &new, &broken)), 406, text);
}

#[test]
fn the_password_before_counts_as_long_as_the_administrator_says_and_no_other_does() {
    let mut world = World::new();
    let [one, two, three] =
        [1, 2, 3].map(|octet| PasswordHash { octets: vec![octet; 48].into(), ..hash(HashingAlgorithm::Argon2id, 48) });
    let mut put = |password: Option<&PasswordHash>, until: Option<u64>| {
        world.ask_in("v", put_user_until("bob", password.cloned(), until));
        world.topology.user("bob").expect("it was put").as_ref().clone()
    };
    let before = |hash: &PasswordHash, until_ms| Some(PreviousPassword { hash: hash.clone(), until_ms });
    assert_eq!(put(Some(&one), Some(10)).previous, None, "there was none");
    let bob = put(Some(&two), Some(20));
    assert_eq!(bob.previous, before(&one, 20));
    assert_eq!((bob.previous_at(19), bob.previous_at(20)), (bob.previous.as_ref(), None));
    assert_eq!(put(Some(&two), Some(30)).previous, before(&one, 20), "the password is the same");
    assert_eq!(put(Some(&three), Some(40)).previous, before(&two, 40), "the first one is over");
    assert_eq!(put(Some(&three), None).previous, None, "it ends at once");
    put(Some(&two), Some(50));
    assert_eq!(put(None, Some(60)).previous, None, "who has no password has none before it");
}

#[test]
fn what_cannot_be_is_refused_with_a_sentence() {
    let world = World::new();
    let long = "x".repeat(256);
    for (action, text) in [
        (put_user("", None), "user name '' is empty"),
        (put_user("a\nb", None), "user name 'a\\nb' contains control characters"),
        (put_user(&long, None), &format!("user name '{}' is longer than 255 octets", &long[..64])),
        (
            put_user("bob", Some(hash(HashingAlgorithm::Sha512, 36))),
            "password hash of user 'bob' has 36 octets, those of rabbit_password_hashing_sha512 have 68",
        ),
        (put_vhost("", &[], Some("mirrored")), "mirrored is not a valid queue type"),
        (put_vhost(&"x".repeat(1_025), &[], None), "description of 1025 bytes is longer than 1024"),
        (put_vhost("", &["t"; 65], None), "65 tags are more than 64"),
    ] {
        assert_channel_exception(world.prepare_in(&node(), "v", action), 406, text);
    }
    assert!(world.prepare_in(&node(), "v", put_vhost(&"x".repeat(1_024), &["t"; 64], None)).is_ok());
    assert_channel_exception(world.prepare_in(&node(), "/", permissions("no", "")), 404, "no user 'no'");
    let mut world = World::new();
    world.put_user("bob", &[]);
    let text = "pattern '(?<=a)b' cannot be used: ";
    match world.prepare_in(&node(), "/", permissions("bob", "(?<=a)b")) {
        Err(Exception::Channel { text: said, .. }) => assert!(said.starts_with(text), "{said}"),
        other => panic!("{other:?}"),
    }
    assert!(world.prepare_in(&node(), "no", permissions("bob", "")).is_err());
}

#[test]
fn there_are_at_most_so_many_of_each() {
    let limits = TopologyLimits { vhosts: 2, users: 1, permissions: 2, policies: 1, ..TopologyLimits::default() };
    let mut world = World::with_limits(limits);
    let full = |world: &World, vhost: &str, action: Action, text: &str| {
        assert_channel_exception(world.prepare_in(&node(), vhost, action), 406, text);
    };
    world.put_vhost("v");
    world.put_vhost("v");
    full(&world, "w", put_vhost("", &[], None), "vhost limit of 2 is reached");
    world.put_user("bob", &[]);
    world.put_user("bob", &["tag"]);
    full(&world, "/", put_user("eve", None), "user limit of 1 is reached");
    world.ask_in("/", permissions("bob", ""));
    world.ask_in("/", topic_permissions("bob", "x"));
    world.ask_in("/", permissions("bob", ".*"));
    world.ask_in("/", topic_permissions("bob", "x"));
    full(&world, "v", permissions("bob", ""), "permission limit of 2 is reached");
    full(&world, "/", topic_permissions("bob", "y"), "permission limit of 2 is reached");
    let define = |policy: &mut PolicyDeclaration| policy.definition = table(|table| _ = table.put("max-length", 1));
    world.put_policy("p", define);
    world.put_policy("p", define);
    let another = Action::Administer(Administration::PutPolicy(policy("q", define)));
    full(&world, "/", another, "policy limit of 1 is reached");
}

#[test]
fn a_password_hash_is_never_shown() {
    assert_eq!(format!("{:?}", hash(HashingAlgorithm::Sha512, 68)), "PasswordHash { algorithm: Sha512, .. }");
}

/// Requests in two virtual hosts that come and go, with two users.
fn action() -> impl Strategy<Value = Action> {
    let name = || prop::sample::select(&["a", "b"][..]);
    let limit = || prop::option::of(0..3_u32);
    let define = |policy: &mut PolicyDeclaration| policy.definition = table(|table| _ = table.put("max-length", 1));
    let user = |user: &str| user.to_string();
    prop_oneof![
        2 => (name(), prop::option::of(Just("quorum"))).prop_map(|(text, kind)| put_vhost(text, &[text], kind)),
        1 => Just(Action::Administer(Administration::DeleteVhost)),
        1 => (limit(), limit()).prop_map(|(max_connections, max_queues)| {
            Action::Administer(Administration::SetVhostLimits(VhostLimits { max_connections, max_queues }))
        }),
        2 => (name(), any::<bool>(), limit()).prop_map(|(name, with, until)| {
            let algorithm = if until == Some(0) { HashingAlgorithm::Sha256 } else { HashingAlgorithm::Sha512 };
            let octets = algorithm.salt_bytes() + algorithm.digest_bytes();
            put_user_until(name, with.then(|| hash(algorithm, octets)), until.map(u64::from))
        }),
        1 => name().prop_map(move |name| Action::Administer(Administration::DeleteUser { name: user(name) })),
        1 => (name(), limit()).prop_map(move |(name, max_channels)| {
            let limits = UserLimits { max_connections: None, max_channels };
            Action::Administer(Administration::SetUserLimits { user: user(name), limits })
        }),
        2 => (name(), name()).prop_map(|(name, pattern)| permissions(name, pattern)),
        1 => name().prop_map(move |name| Action::Administer(Administration::ClearPermissions { user: user(name) })),
        2 => (name(), name()).prop_map(|(name, exchange)| topic_permissions(name, exchange)),
        1 => (name(), name()).prop_map(move |(name, exchange)| {
            Action::Administer(Administration::ClearTopicPermissions { user: user(name), exchange: user(exchange) })
        }),
        2 => (name(), any::<bool>(), 0..2_i64).prop_map(move |(name, operator, priority)| {
            let policy = policy(name, define);
            Action::Administer(Administration::PutPolicy(PolicyDeclaration { operator, priority, ..policy }))
        }),
        1 => (name(), any::<bool>()).prop_map(move |(name, operator)| {
            Action::Administer(Administration::DeletePolicy { operator, name: user(name) })
        }),
        3 => (name(), any::<bool>()).prop_map(|(name, durable)| {
            declare_queue(name, |declaration| declaration.durable = durable)
        }),
        1 => name().prop_map(|name| declare_exchange(name, "topic", |declaration| declaration.durable = true)),
        1 => (name(), name()).prop_map(|(source, queue)| Action::BindQueue(bind(source, queue, "k"))),
    ]
}

fn logged(topology: &Topology) -> Vec<String> {
    topology.logged_changes().map(|change| format!("{change:?}")).collect()
}

fn assert_counts(topology: &Topology) {
    let rights = topology.users.iter().map(|user| user.permissions.size() + user.topics.size()).sum::<usize>();
    assert_eq!(rights, topology.users.permission_count);
    let queues: usize = topology.vhosts().map(Vhost::queue_count).sum();
    assert_eq!(queues, topology.queues().count());
    assert_eq!(usize::try_from(topology.loads.iter().sum::<u32>()).unwrap(), queues);
}

proptest! {
    #[test]
    fn replaying_what_administrators_did_gives_what_was(
        steps in prop::collection::vec((prop::sample::select(&["/", "v"][..]), action()), 0..80),
        (snapshot_at, log_from) in (0..80_usize, 0..80_usize),
    ) {
        let mut world = World::new();
        let (mut log, mut from) = (Vec::new(), 0);
        let mut snapshot = (world.topology.snapshot(), 0);
        for (index, (vhost, action)) in steps.into_iter().enumerate() {
            if index == snapshot_at {
                snapshot = (world.topology.snapshot(), log.len());
            }
            if index == log_from {
                from = log.len();
            }
            let Ok(prepared) = world.prepare_in(&node(), vhost, action) else { continue };
            for change in prepared.changes {
                if change.is_logged() {
                    change.encode(&mut log);
                }
                world.topology.apply(&change);
            }
            assert_counts(&world.topology);
        }
        let (snapshot, at) = snapshot;
        let expected = world.topology.snapshot();
        for parts in [&[&log[..]][..], &[&snapshot, &log[at..]], &[&snapshot, &log[at.min(from)..]], &[&expected]] {
            let mut again = World::new();
            parts.iter().for_each(|octets| again.topology.replay(octets).unwrap());
            assert_counts(&again.topology);
            prop_assert_eq!(logged(&again.topology), logged(&world.topology));
            prop_assert_eq!(again.topology.snapshot(), &expected[..]);
        }
    }
}

#[test]
fn that_there_was_a_user_is_known_for_good() {
    let mut topology = World::new().topology;
    assert!(!topology.has_had_users());
    let record = UserRecord {
        name: "u".into(),
        password: None,
        previous: None,
        tags: Vec::new(),
        limits: UserLimits::default(),
    };
    for change in
        [AdministrationChange::PutUser(Arc::new(record)), AdministrationChange::DeleteUser { name: "u".into() }]
    {
        topology.apply(&Change::Administration(change));
        let mut again = World::new().topology;
        again.replay(&topology.snapshot()).unwrap();
        assert!(topology.has_had_users() && again.has_had_users());
        assert_eq!(again.users().count(), topology.users().count());
    }
}

/// One change of every kind, as it is written. These octets are in people's data folders.
#[test]
fn the_form_of_administration_in_the_log_stays() {
    let check = |change: AdministrationChange, expected: &[u8]| {
        let change = Change::Administration(change);
        let mut octets = Vec::new();
        change.encode(&mut octets);
        assert_eq!(octets, expected, "{change:?}");
        assert_eq!(Change::decode(&octets), Ok((change, octets.len())));
        for size in 0..octets.len() {
            assert_eq!(Change::decode(&octets[..size]), Err(ChangeError::Truncated));
        }
    };
    let name = |name: &str| Arc::<str>::from(name);
    check(
        AdministrationChange::PutVhost(Arc::new(VhostRecord {
            name: name("v"),
            description: name("d"),
            tags: vec![name("t")],
            default_queue_type: Some(name("quorum")),
            protected: false,
            limits: VhostLimits { max_connections: Some(2), max_queues: None },
        })),
        b"\x08\x01v\x01\x00\x00\x00d\x01\x01t\x01\x06quorum\x01\x02\x00\x00\x00\x00",
    );
    let bare = |protected| VhostRecord {
        name: name("v"),
        description: name(""),
        tags: Vec::new(),
        default_queue_type: None,
        protected,
        limits: VhostLimits::default(),
    };
    check(AdministrationChange::PutVhost(Arc::new(bare(false))), b"\x08\x01v\x00\x00\x00\x00\x00\x00\x00\x00");
    check(AdministrationChange::PutVhost(Arc::new(bare(true))), b"\x08\x01v\x00\x00\x00\x00\x00\x02\x00\x00");
    let unknown = Change::decode(b"\x08\x01v\x00\x00\x00\x00\x00\x04\x00\x00");
    assert_eq!(unknown, Err(ChangeError::UnknownCode(4)));
    check(AdministrationChange::DeleteVhost { name: name("v") }, b"\x09\x01v");
    let limits = UserLimits { max_connections: None, max_channels: Some(3) };
    let user = |password| UserRecord { name: name("u"), password, previous: None, tags: Vec::new(), limits };
    let password = PasswordHash { algorithm: HashingAlgorithm::Sha512, octets: Bytes::from_static(b"saltdigest") };
    check(
        AdministrationChange::PutUser(Arc::new(user(Some(password)))),
        b"\x0a\x01u\x00\x00\x01\x03\x00\x00\x00\x02\x0a\x00\x00\x00saltdigest\x00",
    );
    let password = PasswordHash { algorithm: HashingAlgorithm::Argon2id, octets: Bytes::from_static(b"saltdigest") };
    let hash = PasswordHash { algorithm: HashingAlgorithm::Sha256, octets: Bytes::from_static(b"before") };
    let previous = Some(PreviousPassword { hash, until_ms: 0x0102 });
    check(
        AdministrationChange::PutUser(Arc::new(UserRecord { previous, ..user(Some(password)) })),
        b"\x0a\x01u\x00\x00\x01\x03\x00\x00\x00\x03\x0a\x00\x00\x00saltdigest\x01\x06\x00\x00\x00before\x02\x01\x00\x00\x00\x00\x00\x00",
    );
    check(AdministrationChange::PutUser(Arc::new(user(None))), b"\x0a\x01u\x00\x00\x01\x03\x00\x00\x00\x00\x00");
    check(AdministrationChange::DeleteUser { name: name("u") }, b"\x0b\x01u");
    let pattern = |text| Pattern::of_permission(text).expect("a pattern");
    check(
        AdministrationChange::PutPermissions(Arc::new(PermissionsRecord {
            user: name("u"),
            vhost: name("v"),
            configure: pattern("c"),
            write: pattern(""),
            read: pattern("r"),
        })),
        b"\x0c\x01u\x01v\x01\x00\x00\x00c\x00\x00\x00\x00\x01\x00\x00\x00r",
    );
    check(AdministrationChange::DeletePermissions { user: name("u"), vhost: name("v") }, b"\x0d\x01u\x01v");
    let topic = |text| Pattern::of_topic(text, &name("u"), &name("v")).expect("a pattern");
    check(
        AdministrationChange::PutTopicPermissions(Arc::new(TopicPermissionsRecord {
            user: name("u"),
            vhost: name("v"),
            exchange: name("x"),
            write: topic("w"),
            read: topic("r"),
        })),
        b"\x0e\x01u\x01v\x01x\x01\x00\x00\x00w\x01\x00\x00\x00r",
    );
    check(
        AdministrationChange::DeleteTopicPermissions { user: name("u"), vhost: name("v"), exchange: name("x") },
        b"\x0f\x01u\x01v\x01x",
    );
    check(
        AdministrationChange::PutPolicy(Arc::new(Policy {
            vhost: name("v"),
            name: name("p"),
            operator: true,
            pattern: Pattern::of_policy("q").expect("a pattern"),
            apply_to: ApplyTo::Streams,
            priority: -1,
            definition: Bytes::from_static(b"\x01nV"),
        })),
        b"\x10\x01v\x01p\x01\x01\x00\x00\x00q\x04\xff\xff\xff\xff\xff\xff\xff\xff\x03\x00\x00\x00\x01nV",
    );
    check(
        AdministrationChange::DeletePolicy { vhost: name("v"), name: name("p"), operator: false },
        b"\x11\x01v\x01p\x00",
    );
}
