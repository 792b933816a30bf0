//! A broker that starts with a file of definitions.

use anyhow::{Context, Result, ensure};
use warren_amqp::ToClient;
use warren_tests::harness::{Broker, Connection, DataFolder, Settings};

use super::to_queue;

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
