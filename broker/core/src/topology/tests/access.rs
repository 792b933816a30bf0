//! Who may do what. What each deed takes, and in which order it is found missing, was asked of RabbitMQ 4.3.6.

use alloc::format;
use alloc::vec;

use super::*;

const BOB: &str = "bob";

/// What the table says of each verb, for vhost, exchange, queue, topic, user, permissions, policy and operator policy:
/// `c`, `w` and `r` are the permissions, `e` is any in the virtual host, `a` the tag `administrator`, `p` the tag
/// `policymaker` too, `-` is nobody.
const EXPECTED: [(Verb, &str); 12] = [
    (Verb::Open, "e-------"),
    (Verb::Declare, "-cc-----"),
    (Verb::Delete, "-cc-----"),
    (Verb::BindFrom, "-r-r----"),
    (Verb::BindTo, "-ww-----"),
    (Verb::PassOn, "-rr-----"),
    (Verb::TakeOn, "-w------"),
    (Verb::Publish, "-w-w----"),
    (Verb::Consume, "--r-----"),
    (Verb::Get, "--r-----"),
    (Verb::Purge, "--r-----"),
    (Verb::Administer, "a---aapa"),
];

/// Somebody with one kind of right only, and the letters of the table that it satisfies.
fn people(world: &mut World) -> Vec<(Identity, &'static str)> {
    let mut person = |name: &str, tags: &[&str], rights: Option<[&str; 3]>, may: &'static str| {
        let identity = world.put_user(name, tags);
        if let Some([configure, write, read]) = rights {
            world.permit(name, configure, write, read);
        }
        (identity, may)
    };
    let token = |scopes: &[&str], may: &'static str| {
        let token = TokenIdentity::new("token", scopes.iter().copied()).expect("few scopes");
        (Identity::Token(Arc::new(token)), may)
    };
    vec![
        token(&[], ""),
        token(&["configure:%2F/x"], "ce"),
        token(&["write:%2F/x*", "read:other/x"], "we"),
        token(&["read:*/x/*"], "re"),
        token(&["tag:monitoring", "read:%2F/y"], "e"),
        token(&["tag:administrator"], "ap"),
        token(&["tag:policymaker", "read:other/*"], ""),
        token(&["tag:policymaker", "read:%2F/"], "ep"),
        token(&["tag:administrator", "configure:*/"], "eap"),
        person("nobody", &[], None, ""),
        person("configurer", &[], Some(["^x$", "", ""]), "ce"),
        person("writer", &[], Some(["", "^x$", ""]), "we"),
        person("reader", &[], Some(["", "", "^x$"]), "re"),
        person("visitor", &["monitoring"], Some(["", "", "^y$"]), "e"),
        person("administrator", &["administrator"], None, "ap"),
        person("policymaker", &["policymaker"], None, ""),
        person("local-policymaker", &["policymaker"], Some(["", "", ""]), "ep"),
        person("local-administrator", &["other", "administrator"], Some(["", "", ""]), "eap"),
        (Identity::User(Arc::from("unknown")), ""),
        (node(), "cwreap"),
    ]
}

#[test]
fn every_verb_on_every_resource_takes_what_the_table_says_and_the_rest_is_nobodys() {
    assert_eq!(EXPECTED.map(|(verb, _)| verb), Verb::ALL);
    let mut world = World::new();
    let people = people(&mut world);
    for (verb, needs) in EXPECTED {
        assert_eq!(needs.len(), Resource::ALL.len());
        for (resource, need) in Resource::ALL.into_iter().zip(needs.chars()) {
            for (identity, may) in &people {
                let allowed = world.topology.check(identity, verb, resource, "/", "x").is_ok();
                assert_eq!(allowed, may.contains(need), "{identity:?} {verb:?} {resource:?}");
            }
        }
    }
}

#[test]
fn a_token_takes_a_third_pattern_for_the_keys_of_topic_exchanges_alone() {
    let mut world = World::new();
    world.exchange("t", "topic");
    world.exchange("d", "direct");
    let holder = |scopes: &[&str]| {
        Identity::Token(Arc::new(TokenIdentity::new("alice", scopes.iter().copied()).expect("few scopes")))
    };
    let publish = |identity: &Identity, exchange, key| world.topology.may_publish(identity, "/", exchange, key);
    let text = "write access to topic 'a.b' in exchange 't' in vhost '/' refused for user 'alice'";
    for scopes in
        [&["write:*/*"][..], &["write:*/*/b*"], &["write:*/other/*", "write:*/t"], &["read:*/*/*", "write:*/t"]]
    {
        assert_channel_exception(publish(&holder(scopes), "t", "a.b"), 403, text);
        assert_eq!(publish(&holder(&["write:*/*"]), "d", "a.b"), Ok(()), "{scopes:?}");
    }
    for scopes in [&["write:*/*/*"][..], &["write:*/t/a*"], &["write:*/*", "write:*/*/a.b"]] {
        assert_eq!(publish(&holder(scopes), "t", "a.b"), Ok(()), "{scopes:?}");
    }
}

#[test]
fn a_token_has_its_own_rights_and_the_limits_of_the_user_of_its_name() {
    let mut world = World::new();
    world.put_user(BOB, &["administrator"]);
    world.permit(BOB, ".*", ".*", ".*");
    let limits = UserLimits { max_connections: Some(1), max_channels: None };
    world.administer("/", Administration::SetUserLimits { user: BOB.to_string(), limits });
    let bob = Identity::Token(Arc::new(TokenIdentity::new(BOB, ["read:%2F/q"]).expect("one scope")));
    assert!(world.topology.check(&bob, Verb::Administer, Resource::User, "/", "").is_err());
    assert!(world.prepare_in(&bob, "/", declare_queue("q", |_| {})).is_err());
    let open = |of_user| world.topology.may_open(&bob, "/", OpenConnections { of_user, in_vhost: of_user });
    assert!(open(0).is_ok() && open(1).is_err());
}

#[test]
fn who_has_no_limit_has_that_of_everybody_and_the_nodes_own_user_none() {
    let limits =
        TopologyLimits { user_connections: 2, user_channels: 3, vhost_connections: 5, ..TopologyLimits::default() };
    let mut world = World::with_limits(limits);
    let bob = world.put_user(BOB, &[]);
    world.permit(BOB, "", "", "");
    let opens = |world: &World, identity: &Identity, of_user, in_vhost| {
        world.topology.may_open(identity, "/", OpenConnections { of_user, in_vhost }).map(drop)
    };
    let text = "connection refused for user 'bob': user connection limit (2) is reached";
    assert_eq!(opens(&world, &bob, 1, 1), Ok(()));
    assert_eq!(opens(&world, &bob, 2, 2), Err(Exception::connection(warren_amqp::ReplyCode::NotAllowed, text)));
    assert_eq!(opens(&world, &node(), 4, 4), Ok(()));
    assert!(opens(&world, &node(), 4, 5).is_err(), "the virtual host's is everybody's");
    assert!(world.topology.may_open_channel(&bob, 2).is_ok() && world.topology.may_open_channel(&bob, 3).is_err());
    assert!(world.topology.may_open_channel(&node(), 3).is_ok());
    let limits = UserLimits { max_connections: Some(4), max_channels: Some(1) };
    world.administer("/", Administration::SetUserLimits { user: BOB.to_string(), limits });
    assert!(opens(&world, &bob, 3, 3).is_ok() && world.topology.may_open_channel(&bob, 1).is_err());
}

#[test]
fn rights_end_at_the_virtual_host() {
    let mut world = World::new();
    world.put_vhost("other");
    let bob = world.put_user(BOB, &[]);
    world.permit(BOB, ".*", ".*", ".*");
    assert!(world.prepare_in(&bob, "/", declare_queue("q", |_| {})).is_ok());
    let text = "configure access to queue 'q' in vhost 'other' refused for user 'bob'";
    assert_channel_exception(world.prepare_in(&bob, "other", declare_queue("q", |_| {})), 403, text);
    world.administer("/", Administration::ClearPermissions { user: BOB.to_string() });
    assert!(world.prepare_in(&bob, "/", declare_queue("q", |_| {})).is_err());
}

/// Does something without any right, then again with each right that was found missing, and asserts what is missing
/// each time and that it succeeds in the end.
#[track_caller]
fn takes(deed: impl Fn(&World, &Identity) -> Result<(), Exception>, needs: &[(&str, &str, &str)]) {
    let mut world = World::new();
    world.queue("q");
    world.exchange("x", "topic");
    world.exchange("y", "fanout");
    let bob = world.put_user(BOB, &[]);
    let mut rights = ["configure", "write", "read"].map(|kind| (kind, Vec::new()));
    for (kind, resource, name) in needs {
        let [configure, write, read] = rights.clone().map(|(_, names)| format!("^({})$", names.join("|")));
        world.permit(BOB, &configure, &write, &read);
        let text = format!("{kind} access to {resource} '{name}' in vhost '/' refused for user 'bob'");
        assert_channel_exception(deed(&world, &bob), 403, &text);
        assert!(deed(&world, &node()).is_ok());
        let (_, names) = rights.iter_mut().find(|(own, _)| own == kind).expect("a permission");
        names.push(name.replace('.', "\\."));
    }
    let [configure, write, read] = rights.map(|(_, names)| format!("^({})$", names.join("|")));
    world.permit(BOB, &configure, &write, &read);
    assert_eq!(deed(&world, &bob), Ok(()));
}

fn asks(action: Action) -> impl Fn(&World, &Identity) -> Result<(), Exception> {
    move |world, identity| world.prepare_in(identity, "/", action.clone()).map(drop)
}

#[test]
fn declaring_and_deleting_take_configure() {
    takes(asks(declare_queue("n", |_| {})), &[("configure", "queue", "n")]);
    takes(asks(declare_queue("q", |_| {})), &[("configure", "queue", "q")]);
    takes(asks(declare_queue("q", |declaration| declaration.passive = true)), &[("configure", "queue", "q")]);
    takes(asks(declare_queue("", |_| {})), &[("configure", "queue", "amq.gen-JzTY20BRgKO-HjmUJj0wLg")]);
    takes(asks(declare_exchange("n", "fanout", |_| {})), &[("configure", "exchange", "n")]);
    takes(asks(declare_exchange("x", "topic", |_| {})), &[("configure", "exchange", "x")]);
    takes(asks(declare_exchange("x", "", |declaration| declaration.passive = true)), &[("configure", "exchange", "x")]);
    let delete = |name: &str| Action::DeleteExchange { name: name.to_string(), if_unused: false };
    takes(asks(delete("x")), &[("configure", "exchange", "x")]);
    takes(asks(delete("missing")), &[("configure", "exchange", "missing")]);
    let delete_queue = |name: &'static str| {
        move |world: &World, identity: &Identity| world.topology.prepare_delete_queue(identity, "/", name, ME).map(drop)
    };
    takes(delete_queue("q"), &[("configure", "queue", "q")]);
    takes(delete_queue("missing"), &[("configure", "queue", "missing")]);
}

#[test]
fn passing_messages_on_takes_read_and_write_when_it_is_declared() {
    let alternate = |name: &'static str| {
        declare_exchange(name, "topic", |declaration| {
            declaration.arguments = table(|table| _ = table.put("alternate-exchange", "y"));
        })
    };
    takes(
        asks(alternate("n")),
        &[("configure", "exchange", "n"), ("read", "exchange", "n"), ("write", "exchange", "y")],
    );
    let dead_letter = |to: &'static str| {
        declare_queue("n", |declaration| {
            declaration.arguments = table(|table| _ = table.put("x-dead-letter-exchange", to));
        })
    };
    for (to, called) in [("x", "x"), ("", "amq.default"), ("missing", "missing")] {
        takes(
            asks(dead_letter(to)),
            &[("configure", "queue", "n"), ("read", "queue", "n"), ("write", "exchange", called)],
        );
    }
}

#[test]
fn binding_and_unbinding_take_write_at_the_destination_and_read_at_the_source() {
    let queue_needs = [("write", "queue", "q"), ("read", "exchange", "x")];
    takes(asks(Action::BindQueue(bind("x", "q", "k"))), &queue_needs);
    takes(asks(Action::UnbindQueue(bind("x", "q", "k"))), &queue_needs);
    let exchange_needs = [("write", "exchange", "y"), ("read", "exchange", "x")];
    takes(asks(Action::BindExchange(bind("x", "y", "k"))), &exchange_needs);
    takes(asks(Action::UnbindExchange(bind("x", "y", "k"))), &exchange_needs);
}

#[test]
fn what_is_not_there_is_told_only_to_those_who_have_the_rights() {
    let mut world = World::new();
    let bob = world.put_user(BOB, &[]);
    let missing = |world: &World| world.prepare_in(&bob, "/", Action::BindQueue(bind("no", "none", "k")));
    world.permit(BOB, "", "", "");
    let text = "write access to queue 'none' in vhost '/' refused for user 'bob'";
    assert_channel_exception(missing(&world), 403, text);
    world.permit(BOB, "", ".*", ".*");
    assert_channel_exception(missing(&world), 404, "no exchange 'no' in vhost '/'");
    let get = world.topology.accessible_queue(&bob, "/", "none", ME, Verb::Get);
    assert_channel_exception(get, 404, "no queue 'none' in vhost '/'");
    world.refused_as(ME, Action::BindQueue(bind("", "q", "k")), 403, "operation not permitted on the default exchange");
}

#[test]
fn reserved_names_and_unknown_types_are_refused_before_rights_are_asked_for() {
    let mut world = World::new();
    let bob = world.put_user(BOB, &[]);
    let ask = |action| world.prepare_in(&bob, "/", action);
    let reserved = "queue name 'amq.mine' contains reserved prefix 'amq.*'";
    assert_channel_exception(ask(declare_queue("amq.mine", |_| {})), 403, reserved);
    assert_channel_exception(ask(declare_exchange("n", "none", |_| {})), 406, "unknown exchange type 'none'");
    let text = "configure access to exchange 'amq.mine' in vhost '/' refused for user 'bob'";
    assert_channel_exception(ask(declare_exchange("amq.mine", "topic", |_| {})), 403, text);
}

#[test]
fn publishing_takes_write_and_taking_out_takes_read() {
    let publish = |exchange: &'static str| {
        move |world: &World, identity: &Identity| world.topology.may_publish(identity, "/", exchange, "k")
    };
    takes(publish("x"), &[("write", "exchange", "x")]);
    takes(publish("missing"), &[("write", "exchange", "missing")]);
    takes(publish(""), &[("write", "exchange", "amq.default")]);
    for verb in [Verb::Consume, Verb::Get, Verb::Purge] {
        let open = move |world: &World, identity: &Identity| {
            world.topology.accessible_queue(identity, "/", "q", ME, verb).map(drop)
        };
        takes(open, &[("read", "queue", "q")]);
    }
}

#[test]
fn topic_permissions_limit_keys_of_one_topic_exchange() {
    let mut world = World::new();
    let bob = world.put_user("b.b", &[]);
    world.permit("b.b", ".*", ".*", ".*");
    world.queue("q");
    world.exchange("y", "fanout");
    let may_publish = |world: &World, exchange, key| world.topology.may_publish(&bob, "/", exchange, key);
    assert_eq!(may_publish(&world, "amq.topic", "anything"), Ok(()));
    let set = |exchange: &str| Administration::SetTopicPermissions {
        user: String::from("b.b"),
        exchange: exchange.to_string(),
        write: String::from("^{username}\\."),
        read: String::from("^b"),
    };
    world.administer("/", set("amq.topic"));
    world.administer("/", set("amq.direct"));
    assert_eq!(may_publish(&world, "amq.topic", "b.b.x"), Ok(()));
    let text = "write access to topic 'bxb.x' in exchange 'amq.topic' in vhost '/' refused for user 'b.b'";
    assert_channel_exception(may_publish(&world, "amq.topic", "bxb.x"), 403, text);
    assert_eq!(may_publish(&world, "amq.direct", "bxb.x"), Ok(()), "not a topic exchange");
    assert_eq!(world.topology.may_publish(&node(), "/", "amq.topic", "x"), Ok(()));
    for (action, allowed) in [
        (Action::BindQueue(bind("amq.topic", "q", "b")), true),
        (Action::BindQueue(bind("amq.topic", "q", "a.#")), false),
        (Action::UnbindQueue(bind("amq.topic", "q", "a")), false),
        (Action::BindExchange(bind("amq.topic", "y", "a")), false),
        (Action::BindQueue(bind("amq.direct", "q", "a")), true),
    ] {
        assert_eq!(world.prepare_in(&bob, "/", action.clone()).is_ok(), allowed, "{action:?}");
    }
    let text = "read access to topic 'a' in exchange 'amq.topic' in vhost '/' refused for user 'b.b'";
    assert_channel_exception(world.prepare_in(&bob, "/", Action::BindQueue(bind("amq.topic", "q", "a"))), 403, text);
    let clear =
        Administration::ClearTopicPermissions { user: String::from("b.b"), exchange: String::from("amq.topic") };
    world.administer("/", clear);
    assert_eq!(may_publish(&world, "amq.topic", "bxb.x"), Ok(()));
}

#[track_caller]
fn assert_connection_exception<T: core::fmt::Debug>(result: Result<T, Exception>, code: u16, text: &str) {
    match result {
        Err(Exception::Connection { code: found, text: said }) => {
            assert_eq!((found.code(), said.as_str()), (code, text))
        }
        other => panic!("expected a connection exception, got {other:?}"),
    }
}

#[test]
fn a_virtual_host_is_open_to_those_with_any_right_in_it() {
    let mut world = World::new();
    let bob = world.put_user(BOB, &[]);
    let open = |world: &World, identity: &Identity, vhost: &str| {
        world.topology.may_open(identity, vhost, OpenConnections::default()).map(|vhost| Arc::clone(vhost.name()))
    };
    assert_connection_exception(open(&world, &bob, "/"), 530, "access to vhost '/' refused for user 'bob'");
    assert_connection_exception(open(&world, &bob, "no"), 530, "vhost no not found");
    world.permit(BOB, "", "", "");
    assert_eq!(open(&world, &bob, "/").as_deref(), Ok("/"));
    assert_eq!(open(&world, &node(), "/").as_deref(), Ok("/"));
    world.administer("/", Administration::DeleteUser { name: BOB.to_string() });
    assert!(open(&world, &bob, "/").is_err());
    world.put_user(BOB, &[]);
    assert!(open(&world, &bob, "/").is_err(), "rights end with the user");
}

#[test]
fn connections_are_limited_by_virtual_host_and_by_user() {
    let mut world = World::new();
    let bob = world.put_user(BOB, &[]);
    world.permit(BOB, "", "", "");
    let open = |world: &World, identity: &Identity, of_user, in_vhost| {
        world.topology.may_open(identity, "/", OpenConnections { of_user, in_vhost }).map(drop)
    };
    assert_eq!(open(&world, &bob, 9_999, 49_999), Ok(()));
    let limits = VhostLimits { max_connections: Some(2), max_queues: None };
    world.administer("/", Administration::SetVhostLimits(limits));
    assert_eq!(open(&world, &bob, 0, 1), Ok(()));
    let text = "access to vhost '/' refused for user 'bob': connection limit (2) is reached";
    assert_connection_exception(open(&world, &bob, 0, 2), 530, text);
    assert!(open(&world, &node(), 0, 2).is_err());
    let limits = UserLimits { max_connections: Some(1), max_channels: None };
    world.administer("/", Administration::SetUserLimits { user: BOB.to_string(), limits });
    assert_eq!(open(&world, &bob, 0, 0), Ok(()));
    let text = "connection refused for user 'bob': user connection limit (1) is reached";
    assert_connection_exception(open(&world, &bob, 1, 1), 530, text);
    assert_eq!(open(&world, &node(), 1, 1), Ok(()));
}

#[test]
fn channels_are_limited_by_user() {
    let mut world = World::new();
    let bob = world.put_user(BOB, &[]);
    assert_eq!(world.topology.may_open_channel(&bob, 99_999), Ok(()));
    let limits = UserLimits { max_connections: None, max_channels: Some(1) };
    world.administer("/", Administration::SetUserLimits { user: BOB.to_string(), limits });
    assert_eq!(world.topology.may_open_channel(&bob, 0), Ok(()));
    let text = "number of channels opened for user 'bob' has reached the maximum allowed user limit of 1";
    assert_connection_exception(world.topology.may_open_channel(&bob, 1), 530, text);
    assert_eq!(world.topology.may_open_channel(&node(), 1), Ok(()));
}

#[test]
fn queues_are_limited_by_virtual_host() {
    let mut world = World::new();
    let limits = VhostLimits { max_connections: None, max_queues: Some(1) };
    world.administer("/", Administration::SetVhostLimits(limits));
    world.queue("first");
    world.queue("first");
    let text = "cannot declare queue 'second': queue limit in vhost '/' (1) is reached";
    world.refused(declare_queue("second", |_| {}), 406, text);
    world.administer("/", Administration::SetVhostLimits(VhostLimits::default()));
    world.queue("second");
}

#[test]
fn impersonators_are_those_with_the_tag() {
    let mut world = World::new();
    let bob = world.put_user(BOB, &["administrator"]);
    assert!(!world.topology.may_impersonate(&bob) && !world.topology.may_impersonate(&node()));
    let bob = world.put_user(BOB, &["impersonator"]);
    assert!(world.topology.may_impersonate(&bob));
}
