//! A broker that starts with a file of definitions: what is in it holds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use warren_amqp::{ToClient, basic};
use warren_tests::harness::{Broker, Connection, DataFolder, Settings};

use super::{bystander, is_served, to_queue};

/// Bob's password is `secret`; he may use what begins with `a`. A policy keeps one message in each of these queues.
const DEFINITIONS: &str = r#"{
  "vhosts": [{"name": "shop"}],
  "users": [{"name": "bob", "tags": [], "password_hash": "kI3GCqG+cq65rBQ9tiUUCREygKhmilKrZEWKSz+H0FJ1fk4/"}],
  "permissions": [{"vhost": "shop", "user": "bob", "configure": "^a", "write": "^a(mq.default$)?", "read": "^a"}],
  "policies": [{"vhost": "shop", "name": "short", "pattern": "^a", "apply-to": "queues", "definition": {"max-length": 1}}],
  "queues": [{"vhost": "shop", "name": "a", "durable": true}]
}"#;

/// What refused it.
fn refusal<T>(result: Result<T>) -> Result<String> {
    Ok(format!("{:#}", result.err().context("it was allowed")?))
}

fn bob_does_what_he_may(broker: &Broker) -> Result<()> {
    let open = |password, vhost| Connection::open_as(broker.address, "bob", password, vhost);
    let mut bob = open("secret", "shop")?;
    let (messages, _) = bob.declare_queue("a", true, true)?;
    ensure!(messages <= 1, "{messages} messages are in a queue of one");
    bob.confirm_select()?;
    for body in [b"first", b"other"] {
        bob.publish(to_queue("a"), true, body)?;
        bob.expect(1, |method| matches!(method, ToClient::BasicAck(_)))?;
    }
    ensure!(bob.declare_queue("a", true, true)?.0 == 1, "the policy counts");
    let text = refusal(bob.declare_queue("b", true, false))?;
    ensure!(text.contains("configure access to queue 'b' in vhost 'shop' refused for user 'bob'"), "{text}");
    let text = refusal(open("secret", "/"))?;
    ensure!(text.contains("access to vhost '/' refused for user 'bob'"), "{text}");
    let text = refusal(open("wrong", "shop"))?;
    ensure!(text.contains("Login was refused using authentication mechanism PLAIN"), "{text}");
    Ok(())
}

/// A broker with these definitions, and the folder that the file is in. The user `guest` is there too, as in what RabbitMQ
/// exports: where there are users, none is there by default.
pub(super) fn with_definitions(folder: &DataFolder, definitions: &str) -> Result<Broker> {
    let path = folder.path().join("definitions.json");
    std::fs::write(&path, with_guest(definitions)?)?;
    let config = format!("definitions = {:?}\n", path.display().to_string());
    Broker::start_with(folder, Settings { config: &config, ..Settings::default() })
}

/// Definitions with the user `guest` in them, whose password is its name, and who may do everything everywhere.
pub(super) fn with_guest(definitions: &str) -> Result<String> {
    let mut definitions: Value = serde_json::from_str(definitions)?;
    let hash = "d3JlbiXBLXcZr/6LnRoKrFFGl3nlHNhKh2/SY1IQVripYpCH";
    let vhosts = definitions["vhosts"].as_array().cloned().unwrap_or_default();
    let vhosts = vhosts.into_iter().map(|vhost| vhost["name"].clone()).chain([json!("/")]);
    let rights = |vhost| json!({"vhost": vhost, "user": "guest", "configure": ".*", "write": ".*", "read": ".*"});
    let rights: Vec<_> = vhosts.map(rights).collect();
    let guest = json!({"name": "guest", "tags": ["administrator"], "password_hash": hash});
    for (list, more) in [("users", vec![guest]), ("permissions", rights)] {
        let mut entries = definitions[list].as_array().cloned().unwrap_or_default();
        entries.extend(more);
        definitions[list] = entries.into();
    }
    Ok(definitions.to_string())
}

/// Carol may have three connections, Dave two channels, and the virtual host takes four connections. Their password is `secret`.
const LIMITS: &str = r#"{
  "vhosts": [{"name": "shop", "limits": {"max-connections": 4}}],
  "users": [
    {"name": "carol", "tags": [], "password_hash": "kI3GCqG+cq65rBQ9tiUUCREygKhmilKrZEWKSz+H0FJ1fk4/",
     "limits": {"max-connections": 3}},
    {"name": "dave", "tags": [], "password_hash": "kI3GCqG+cq65rBQ9tiUUCREygKhmilKrZEWKSz+H0FJ1fk4/",
     "limits": {"max-channels": 2}}
  ],
  "permissions": [
    {"vhost": "shop", "user": "carol", "configure": "", "write": "", "read": ""},
    {"vhost": "shop", "user": "dave", "configure": "", "write": "", "read": ""}
  ]
}"#;

/// What so many threads came to that began together.
fn at_once<T: Send>(threads: usize, act: impl Fn() -> Result<T> + Sync) -> Vec<Result<T>> {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let (barrier, act) = (&barrier, &act);
        let started: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(move || {
                    barrier.wait();
                    act()
                })
            })
            .collect();
        started.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

#[test]
fn the_documented_definitions_make_all_that_they_say() -> Result<()> {
    let text = include_str!("../../docs/definitions.md");
    let example = text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).context("an example")?;
    let folder = DataFolder::new()?;
    let broker = with_definitions(&folder, example)?;
    ensure!(!broker.has_said("is left out"), "something in it is refused");
    let (user, password) = ("orders", "orders-secret");
    ensure!(text.contains(&format!("The user `{user}` logs in with the password `{password}`")));
    let mut orders = Connection::open_as(broker.address, user, password, "shop")?;
    orders.confirm_select()?;
    let paid = basic::Publish { exchange: "orders", routing_key: "order.7.paid", mandatory: true, immediate: false };
    orders.publish(paid, true, b"a book")?;
    orders.expect(1, |method| matches!(method, ToClient::BasicAck(_)))?;
    let message = orders.get("orders.paid")?.context("the binding leads to the queue")?;
    ensure!(message.body == b"a book");
    let text = refusal(orders.declare_queue("invoices", true, false))?;
    ensure!(text.contains("configure access to queue 'invoices' in vhost 'shop' refused"), "{text}");
    let text = refusal(Connection::open_as(broker.address, user, "another", "shop"))?;
    ensure!(text.contains("Login was refused"), "{text}");
    Ok(())
}

#[test]
fn definitions_that_do_not_fit_are_left_out_and_told_in_plain_words() -> Result<()> {
    let folder = DataFolder::new()?;
    let queue = |arguments: &str| {
        format!(r#"{{"queues": [{{"vhost": "/", "name": "q", "durable": true, "arguments": {arguments}}}]}}"#)
    };
    with_definitions(&folder, &queue("{}"))?.kill()?;
    let broker = with_definitions(&folder, &queue(r#"{"x-max-length": 5}"#))?;
    let expected =
        "queue 'q' in vhost '/' (queues[0]) is left out: inequivalent arg 'x-max-length' for queue 'q' in vhost '/'";
    ensure!(broker.has_said(expected), "the log does not say that {expected}");
    is_served(&mut bystander(&broker)?)
}

#[test]
fn of_many_connections_at_once_as_many_are_let_in_as_the_limit_says() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = with_definitions(&folder, LIMITS)?;
    for _ in 0..10 {
        let attempts = at_once(30, || Connection::open_as(broker.address, "carol", "secret", "shop"));
        let (open, refused): (Vec<_>, Vec<_>) = attempts.into_iter().partition(Result::is_ok);
        ensure!(open.len() == 3, "{} connections are open", open.len());
        for refused in refused {
            let text = refusal(refused)?;
            ensure!(text.contains("user connection limit (3) is reached"), "{text}");
        }
        for connection in open {
            connection?.close()?;
        }
    }
    let shop = || Connection::open_as(broker.address, "guest", "guest", "shop");
    let attempts = at_once(30, shop);
    let (open, refused): (Vec<_>, Vec<_>) = attempts.into_iter().partition(Result::is_ok);
    ensure!(open.len() == 4, "{} connections are open", open.len());
    for refused in refused {
        let text = refusal(refused)?;
        ensure!(text.contains("connection limit (4) is reached"), "{text}");
    }
    Ok(())
}

#[test]
fn of_many_channels_at_once_as_many_are_let_in_as_the_limit_says() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = with_definitions(&folder, LIMITS)?;
    for _ in 0..10 {
        let connect = || Connection::raw(broker.address)?.log_in("dave", "secret", "shop");
        // As many as the virtual host takes.
        let connections: Vec<_> =
            at_once(4, connect).into_iter().map(|one| one.map(Mutex::new)).collect::<Result<_>>()?;
        let next = AtomicUsize::new(0);
        let attempts = at_once(4, || {
            let mine = &connections[next.fetch_add(1, Ordering::Relaxed)];
            mine.lock().expect("no panic").open_channel(1)
        });
        let open = attempts.iter().flatten().count();
        ensure!(open == 2, "{open} channels are open");
        for refused in attempts.into_iter().filter(Result::is_err) {
            let text = refusal(refused)?;
            ensure!(text.contains("has reached the maximum allowed user limit of 2"), "{text}");
        }
        for connection in connections {
            // Half of them have been closed by the broker.
            connection.into_inner().expect("no panic").close().ok();
        }
    }
    Ok(())
}

#[test]
fn definitions_are_there_when_the_ports_open_and_after_a_restart_with_them() -> Result<()> {
    let folder = DataFolder::new()?;
    let file = DataFolder::new()?;
    let path = file.path().join("definitions.json");
    std::fs::write(&path, DEFINITIONS)?;
    let config = format!("definitions = {:?}\n", path.display().to_string());
    let settings = Settings { config: &config, ..Settings::default() };
    let broker = Broker::start_with(&folder, settings)?;
    bob_does_what_he_may(&broker)?;
    broker.kill()?;
    let broker = Broker::start_with(&folder, settings)?;
    bob_does_what_he_may(&broker)?;
    broker.kill()?;
    // What was defined is in the log; the file is needed for what is new in it.
    bob_does_what_he_may(&Broker::start(&folder)?)
}
