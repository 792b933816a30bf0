//! Secrets go in through every door, and come out of none.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use warren_amqp::ToClient;
use warren_tests::harness::{Broker, Connection, DataFolder, Settings};

use super::{ALL, HOUR, Key, Provider, update_secret};

/// Part of every password here. Base64 of it is looked for too, as it stands in headers.
const CANARY: &str = "canary-7f3a-canary-7f3a";

/// What an HTTP port answers, with its head.
pub(crate) fn ask(address: SocketAddr, request: &str, authorization: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let head = format!("{request} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\nAuthorization: {authorization}\r\n");
    write!(stream, "{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Something that an administrator does, and that succeeds.
pub(crate) fn administer(broker: &Broker, request: &str, body: &str) -> Result<()> {
    let answer = ask(broker.management, request, &basic("guest", "guest"), body)?;
    ensure!(answer.starts_with("HTTP/1.1 20"), "{request}: {answer}");
    Ok(())
}

pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// Everything that the broker answers on its HTTP ports to somebody who may see all of it.
fn all_that_is_shown(broker: &Broker) -> Result<String> {
    let paths = [
        "users",
        "users/carol",
        "overview",
        "nodes",
        "connections",
        "channels",
        "queues",
        "exchanges",
        "bindings",
        "vhosts",
        "permissions",
        "policies",
        "parameters",
        "whoami",
        "definitions",
        "consumers",
    ];
    let mut shown = broker.http("/metrics")?.1;
    for path in ["/metrics/per-object", "/metrics/detailed"] {
        shown.push_str(&broker.http(path)?.1);
    }
    for path in paths {
        shown.push_str(&ask(broker.management, &format!("GET /api/{path}"), &basic("guest", "guest"), "")?);
    }
    Ok(shown)
}

#[test]
fn no_secret_is_in_a_log_a_metric_or_an_answer() -> Result<()> {
    let key = Key::ed25519("k")?;
    let provider = Provider::start(&[&key])?;
    let (_folder, broker) = super::trusting(&[&provider], "trace")?;
    let scope = format!("{ALL} rabbitmq.tag:administrator");
    let [token, renewed, expired] = [HOUR, 2 * HOUR, Duration::ZERO].map(|lifetime| {
        // Signatures differ with their claims, so that each token is looked for.
        key.token(&provider.claims(lifetime, &scope))
    });
    let (token, renewed, expired) = (token?, renewed?, expired?);
    // AMQP: passwords and tokens, right and wrong.
    ensure!(Connection::open_as(broker.address, "guest", CANARY, "/").is_err());
    ensure!(Connection::open_as(broker.address, "nobody", &expired, "/").is_err());
    let mut alice = Connection::open_as(broker.address, "whoever", &token, "/")?;
    update_secret(&mut alice, &renewed)?;
    alice.expect(0, |method| matches!(method, ToClient::ConnectionUpdateSecretOk(_)))?;
    let mut refused = Connection::open_as(broker.address, "whoever", &token, "/")?;
    update_secret(&mut refused, CANARY)?;
    ensure!(refused.closed_with()?.0 == 530);
    // HTTP: the same, and a user who gets a password.
    for authorization in
        [basic("guest", CANARY), basic("x", &token), format!("Bearer {token}"), format!("Bearer {CANARY}")]
    {
        let answer = ask(broker.management, "GET /api/whoami", &authorization, "")?;
        ensure!(!answer.contains(CANARY) && !answer.contains(&token), "{answer}");
    }
    let user = format!(r#"{{"password": "{CANARY}", "tags": ""}}"#);
    let answer = ask(broker.management, "PUT /api/users/carol", &format!("Bearer {token}"), &user)?;
    ensure!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    for broken in [format!(r#"{{"password": "{CANARY}""#), format!(r#"{{"password": ["{CANARY}"], "tags": ""}}"#)] {
        let answer = ask(broker.management, "PUT /api/users/dave", &basic("guest", "guest"), &broken)?;
        ensure!(answer.starts_with("HTTP/1.1 400") && !answer.contains(CANARY), "{answer}");
    }
    let shown = all_that_is_shown(&broker)?;
    ensure!(shown.contains("carol") && shown.contains("rabbitmq_connections"), "it shows much: {shown}");
    drop(alice);
    broker.terminate()?;
    let (_, said) = broker.wait_for_last_words()?;
    ensure!(said.contains("login refused") && said.contains("DEBUG"), "the log has everything");
    let encoded = BASE64_STANDARD.encode(CANARY);
    for secret in [CANARY, encoded.trim_end_matches('='), &token, &renewed, &expired] {
        // Of a token its signature is what nobody may have; its claims are no secret of the broker's.
        let secret = secret.rsplit('.').next().unwrap_or(secret);
        ensure!(!said.contains(secret), "in the log: {secret}");
        ensure!(!shown.contains(secret), "in an answer: {secret}");
    }
    Ok(())
}

#[test]
fn a_secret_that_stands_where_a_file_is_named_is_not_said_again_by_its_content() -> Result<()> {
    let folder = DataFolder::new()?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("password"), CANARY)?;
    std::fs::write(file("definitions.json"), format!(r#"{{"users": [{{"name": "a", "password": "{CANARY}"}}]}}"#))?;
    let configs = [
        format!("definitions = {:?}", file("definitions.json")),
        format!("definitions = {:?}", file("password")),
        format!("[tls]\ncertificate = {0:?}\nkey = {0:?}", file("password")),
    ];
    for config in configs {
        let started = Broker::start_with(&folder, Settings { config: &config, log: "trace", ..Settings::default() });
        let said = format!("{:#}", started.err().ok_or_else(|| anyhow::anyhow!("it started with {config}"))?);
        ensure!(said.contains("definitions") || said.contains("tls"), "it says what is wrong: {said}");
        ensure!(!said.contains(CANARY), "it says the secret: {said}");
    }
    Ok(())
}
