//! Clients that do not read what they are sent, and are closed all the same.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use warren_tests::harness::{Broker, Connection, DataFolder, wait_until};

use crate::identity::secrets::{ask, basic};
use crate::{MIB, to_queue};

/// Messages of 4 MiB: together more than all buffers between the broker and a client hold.
const MESSAGES: u32 = 8;

/// What the management API answers to its first user.
fn json(broker: &Broker, path: &str) -> Result<Value> {
    let answer = ask(broker.management, &format!("GET /api/{path}"), &basic("guest", "guest"), "")?;
    Ok(serde_json::from_str(answer.split_once("\r\n\r\n").context("half an answer")?.1)?)
}

/// The name of the connection for which at least a mebibyte waits.
fn stuck(broker: &Broker) -> Result<Option<String>> {
    let all = json(broker, "connections")?;
    let stuck = |connection: &&Value| connection["send_pend"].as_u64().is_some_and(|octets| octets >= MIB);
    let found = all.as_array().into_iter().flatten().find(stuck);
    Ok(found.and_then(|connection| connection["name"].as_str()).map(str::to_owned))
}

#[test]
fn a_client_that_does_not_read_gives_back_its_messages_when_somebody_closes_it() -> Result<()> {
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    let mut other = Connection::with_channel(broker.address)?;
    other.declare_queue("backlog", true, false)?;
    other.confirm_select()?;
    for _ in 0..MESSAGES {
        other.publish(to_queue("backlog"), false, &vec![b'x'; 4 << 20])?;
    }
    other.wait_for_confirms(MESSAGES.into())?;
    let mut deaf = Connection::with_small_window(broker.address)?;
    deaf.consume("backlog", false, 0)?;
    let mut name = None;
    wait_until(Duration::from_secs(10), || {
        name = stuck(&broker)?;
        Ok(name.is_some())
    })?;
    let name = name.context("a connection that does not read")?.replace(' ', "%20").replace('>', "%3E");
    let begin = Instant::now();
    let answer = ask(broker.management, &format!("DELETE /api/connections/{name}"), &basic("guest", "guest"), "")?;
    ensure!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    // Before the connection gives up on sending by itself, which takes ten seconds.
    wait_until(Duration::from_secs(8), || Ok(other.declare_queue("backlog", true, true)? == (MESSAGES, 0)))
        .context("its messages are another's")?;
    let is_gone = || Ok(json(&broker, "connections")?.as_array().is_some_and(|all| all.len() == 1));
    wait_until(Duration::from_secs(10), is_gone).context("its socket is closed")?;
    println!("its socket was kept for {:?}", begin.elapsed());
    Ok(())
}
