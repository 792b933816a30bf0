//! Who gets in with a token, what they may do, and when that ends: a real identity provider, a real broker.

mod provider;
pub(crate) mod secrets;

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use warren_amqp::{ToClient, ToServer, basic, connection};
use warren_tests::harness::{Broker, Connection, DataFolder, Event, Settings};

pub(super) use secrets::{administer, ask, basic};

use super::to_queue;
pub(crate) use provider::{Key, Provider};

const ALL: &str = "rabbitmq.read:*/* rabbitmq.write:*/* rabbitmq.configure:*/*";
const HOUR: Duration = Duration::from_secs(3_600);

/// A broker that trusts these providers.
pub(crate) fn trusting(providers: &[&Provider], log: &str) -> Result<(DataFolder, Broker)> {
    let folder = DataFolder::new()?;
    let config: String = providers.iter().map(|provider| provider.section()).collect();
    let broker = Broker::start_with(&folder, Settings { config: &config, log, ..Settings::default() })?;
    // It asks for the keys in the background.
    wait_until(|| Ok(providers.iter().all(|provider| provider.asked() > 0)))?;
    Ok((folder, broker))
}

/// A connection by a token, with channel 1 open.
fn by_token(broker: &Broker, token: &str) -> Result<Connection> {
    Connection::open_as(broker.address, "whoever", token, "/")
}

/// What refused it.
fn refusal<T>(result: Result<T>) -> Result<String> {
    Ok(format!("{:#}", result.err().context("it was allowed")?))
}

/// What is said to somebody who may not read a queue.
fn get_refused(connection: &mut Connection, queue: &str) -> Result<String> {
    connection.send(1, ToServer::BasicGet(basic::Get { queue, no_ack: true }))?;
    refusal(connection.expect(1, |method| matches!(method, ToClient::BasicGetOk(_) | ToClient::BasicGetEmpty(_))))
}

/// Waits for something that takes seconds.
fn wait_until(mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is_so()? {
        ensure!(begin.elapsed() < Duration::from_secs(30), "not within 30 s");
        thread::yield_now();
    }
    Ok(())
}

fn update_secret(connection: &mut Connection, secret: &str) -> Result<()> {
    let update = connection::UpdateSecret { new_secret: secret.as_bytes(), reason: "renewed" };
    Ok(connection.send(0, ToServer::ConnectionUpdateSecret(update))?)
}

#[test]
fn a_token_lets_in_with_its_scopes_and_no_others() -> Result<()> {
    let (rsa, elliptic) = (Key::rsa("r")?, Key::ed25519("e")?);
    let provider = Provider::start(&[&rsa, &elliptic])?;
    let (_folder, broker) = trusting(&[&provider], "")?;
    let mut guest = Connection::with_channel(broker.address)?;
    guest.declare_queue("orders", true, false)?;
    guest.declare_queue("secrets", true, false)?;
    for key in [&rsa, &elliptic] {
        let claims = provider.claims(HOUR, "rabbitmq.read:%2F/orders openid other.read:*/*");
        let mut alice = by_token(&broker, &key.token(&claims)?)?;
        ensure!(alice.get("orders")?.is_none());
        let text = get_refused(&mut alice, "secrets")?;
        ensure!(text.contains("read access to queue 'secrets' in vhost '/' refused for user 'alice'"), "{text}");
    }
    for scope in ["", "rabbitmq.read:other/*", "rabbitmq.tag:administrator", "read:*/*", "RABBITMQ.read:*/*"] {
        let token = rsa.token(&provider.claims(HOUR, scope))?;
        let text = refusal(by_token(&broker, &token))?;
        ensure!(text.contains("access to vhost '/' refused for user 'alice'"), "{scope}: {text}");
    }
    Ok(())
}

#[test]
fn tokens_that_only_look_right_are_refused() -> Result<()> {
    let (key, stranger) = (Key::rsa("k")?, Key::rsa("k")?);
    let provider = Provider::start(&[&key])?;
    let (_folder, broker) = trusting(&[&provider], "")?;
    let good = provider.claims(HOUR, ALL);
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let mut without_exp = good.clone();
    without_exp.as_object_mut().context("an object")?.remove("exp");
    let past = provider.claims(Duration::ZERO, ALL)["exp"].as_f64().context("a number")? - 1.0;
    let mut unsigned = key.token_with(&json!({"alg": "none"}), &good)?;
    unsigned.truncate(unsigned.rfind('.').context("three parts")? + 1);
    let tokens = [
        unsigned,
        key.token_with(&json!({"alg": "HS256", "kid": "k"}), &good)?,
        key.token_with(&json!({"alg": "EdDSA", "kid": "k"}), &good)?,
        key.token_with(&json!({"alg": "RS256", "kid": "../../k"}), &good)?,
        stranger.token(&good)?,
        key.token(&with("iss", json!("https://127.0.0.1/realm")))?,
        key.token(&with("aud", json!("rabbitmq2")))?,
        key.token(&with("aud", json!(["other"])))?,
        key.token(&with("exp", json!(past)))?,
        key.token(&with("exp", json!("9999999999")))?,
        key.token(&without_exp)?,
        key.token(&with("sub", json!("")))?,
        key.token(&with("padding", json!("x".repeat(16 << 10))))?,
    ];
    for (index, token) in tokens.iter().enumerate() {
        // One that is too long for a frame before the login is closed for that.
        let text = refusal(Connection::open_as(broker.address, &format!("user{index}"), token, "/"))?;
        let is_refused = text.contains("Login was refused") || text.contains("FRAME_ERROR");
        ensure!(is_refused, "token {index}: {text}");
    }
    by_token(&broker, &key.token(&good)?).map(drop).context("a good one is taken all the same")
}

#[test]
fn a_token_that_expires_mid_stream_closes_its_connection_within_five_seconds() -> Result<()> {
    let key = Key::ed25519("k")?;
    let provider = Provider::start(&[&key])?;
    let (_folder, broker) = trusting(&[&provider], "")?;
    let claims = provider.claims(Duration::from_secs(4), ALL);
    let token = key.token(&claims)?;
    let (mut publisher, mut consumer) = (by_token(&broker, &token)?, by_token(&broker, &token)?);
    publisher.declare_queue("q", true, false)?;
    consumer.consume("q", true, 0)?;
    // Neither is ever idle.
    let mut sender = publisher.sender()?;
    let sending = thread::spawn(move || while sender.publish(to_queue("q"), true, b"m").is_ok() {});
    let receiving = thread::spawn(move || -> Result<_> { Ok((last_words(&mut consumer)?, unix_seconds())) });
    let publisher_end = (last_words(&mut publisher)?, unix_seconds());
    let consumer_end = receiving.join().map_err(|_| anyhow::anyhow!("the consumer panicked"))??;
    sending.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))?;
    let expires = claims["exp"].as_f64().context("a token expires")?;
    for (words, end) in [publisher_end, consumer_end] {
        ensure!(words == (320, "CONNECTION_FORCED - credential expired".to_owned()), "{words:?}");
        ensure!((expires - SLEWED..expires + 5.0).contains(&end), "it ended {} s after the token", end - expires);
    }
    let mut idle = by_token(&broker, &key.token(&provider.claims(Duration::from_secs(2), ALL))?)?;
    ensure!(last_words(&mut idle)?.0 == 320);
    ensure!(refusal(by_token(&broker, &token))?.contains("Login was refused"));
    Ok(())
}

/// How much earlier, in seconds, a broker may be that waits by a clock which only goes forward: while the time of day is being
/// set right, the two differ by up to 2 ms in the four seconds of the test (adjtimex: 500 ppm), and a millisecond is the unit.
const SLEWED: f64 = 0.01;

/// The time of day, by which tokens expire.
fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Code and text of the close that comes after messages.
fn last_words(connection: &mut Connection) -> Result<(u16, String)> {
    loop {
        let Event::Method { channel: 0, payload } = connection.receive()? else { continue };
        let ToClient::ConnectionClose(close) = ToClient::decode(&payload)? else { continue };
        let words = (close.reply_code, close.reply_text.to_owned());
        connection.send(0, ToServer::ConnectionCloseOk(connection::CloseOk))?;
        return Ok(words);
    }
}

#[test]
fn a_key_that_is_rotated_at_the_issuer_works_within_ten_seconds() -> Result<()> {
    let (old, new) = (Key::ed25519("old")?, Key::rsa("new")?);
    let provider = Provider::start(&[&old])?;
    let (_folder, broker) = trusting(&[&provider], "")?;
    by_token(&broker, &old.token(&provider.claims(HOUR, ALL))?)?;
    provider.publish(&[&new]);
    let (begin, token) = (Instant::now(), new.token(&provider.claims(HOUR, ALL))?);
    let mut attempts = 0;
    while Connection::open_as(broker.address, &format!("user{attempts}"), &token, "/").is_err() {
        attempts += 1;
        ensure!(begin.elapsed() < Duration::from_secs(11), "not after {:?}", begin.elapsed());
    }
    ensure!(refusal(by_token(&broker, &old.token(&provider.claims(HOUR, ALL))?))?.contains("Login was refused"));
    ensure!(provider.asked() <= 3, "it was asked {} times", provider.asked());
    Ok(())
}

#[test]
fn an_issuer_that_answers_nonsense_or_nothing_changes_nothing() -> Result<()> {
    let (key, unknown) = (Key::ed25519("k")?, Key::ed25519("unknown")?);
    let answers: [(u16, Vec<u8>); 7] = [
        (500, b"{\"keys\": []}".to_vec()),
        (200, Vec::new()),
        (200, b"<html>".to_vec()),
        (200, b"{\"keys\": []}".to_vec()),
        (200, vec![b' '; 300 << 10]),
        (302, Vec::new()),
        (204, Vec::new()),
    ];
    let providers: Vec<_> = answers.iter().map(|_| Provider::start(&[&key])).collect::<Result<_>>()?;
    let (_folder, broker) = trusting(&providers.iter().collect::<Vec<_>>(), "")?;
    for (provider, (status, body)) in providers.iter().zip(&answers) {
        by_token(&broker, &key.token(&provider.claims(HOUR, ALL))?)?;
        provider.answer(*status, body.clone());
    }
    // A key that is missing makes the broker ask.
    thread::scope(|scope| {
        for (index, provider) in providers.iter().enumerate() {
            let (broker, unknown) = (&broker, &unknown);
            scope.spawn(move || -> Result<()> {
                let token = unknown.token(&provider.claims(HOUR, ALL))?;
                drop(Connection::open_as(broker.address, &format!("user{index}"), &token, "/"));
                Ok(())
            });
        }
    });
    wait_until(|| {
        let (_, metrics) = broker.http("/metrics")?;
        let failures = metrics.lines().find_map(|line| line.strip_prefix("warren_issuer_refresh_failures_total "));
        Ok(failures.and_then(|count| count.parse().ok()) >= Some(answers.len()))
    })?;
    let (_, metrics) = broker.http("/metrics")?;
    let ages =
        metrics.lines().filter_map(|line| line.strip_prefix("warren_issuer_keys_timestamp_seconds{")?.split_once("} "));
    let now = UNIX_EPOCH.elapsed()?.as_secs_f64();
    let fetched: Vec<f64> = ages.map(|(_, at)| at.parse()).collect::<Result<_, _>>()?;
    ensure!(fetched.len() == answers.len(), "one of each issuer: {fetched:?}");
    ensure!(fetched.iter().all(|at| (now - 600.0..=now).contains(at)), "when the good ones were fetched: {fetched:?}");
    for (provider, answer) in providers.iter().zip(&answers) {
        ensure!(provider.asked() > 1, "{answer:?} was not asked for");
        by_token(&broker, &key.token(&provider.claims(HOUR, ALL))?).with_context(|| format!("after {answer:?}"))?;
    }
    wait_until(|| Ok(broker.has_said("the issuer's keys cannot be got")))
}

#[test]
fn a_renewed_token_keeps_the_connection_and_takes_the_rights_that_it_has_no_more() -> Result<()> {
    let key = Key::ed25519("k")?;
    let provider = Provider::start(&[&key])?;
    let (_folder, broker) = trusting(&[&provider], "")?;
    let short = key.token(&provider.claims(Duration::from_secs(3), ALL))?;
    let (mut alice, mut other) = (by_token(&broker, &short)?, by_token(&broker, &short)?);
    alice.declare_queue("q", true, false)?;
    alice.consume("q", true, 0)?;
    update_secret(&mut alice, &key.token(&provider.claims(HOUR, "rabbitmq.write:*/*"))?)?;
    alice.expect(1, |method| matches!(method, ToClient::BasicCancel(_)))?;
    alice.expect(0, |method| matches!(method, ToClient::ConnectionUpdateSecretOk(_)))?;
    ensure!(last_words(&mut other)?.0 == 320, "the first token has expired");
    alice.publish(to_queue("q"), true, b"m")?;
    let text = get_refused(&mut alice, "q")?;
    ensure!(text.contains("read access to queue 'q' in vhost '/' refused for user 'alice'"), "{text}");
    for (secret, expected) in [
        ("garbage".to_owned(), "NOT_ALLOWED - Secret update failed"),
        (key.token(&provider.claims(HOUR, "rabbitmq.read:other/*"))?, "access to vhost '/' refused for user 'alice'"),
    ] {
        let mut alice = by_token(&broker, &key.token(&provider.claims(HOUR, ALL))?)?;
        update_secret(&mut alice, &secret)?;
        let text = refusal(alice.expect(0, |method| matches!(method, ToClient::ConnectionUpdateSecretOk(_))))?;
        ensure!(text.contains("530") && text.contains(expected), "{text}");
    }
    Ok(())
}

#[test]
fn a_broker_whose_issuer_is_away_takes_passwords_and_later_tokens() -> Result<()> {
    let key = Key::ed25519("k")?;
    let provider = Provider::start(&[&key])?;
    provider.answer(503, Vec::new());
    let (_folder, broker) = trusting(&[&provider], "")?;
    Connection::open(broker.address)?;
    let token = key.token(&provider.claims(HOUR, ALL))?;
    ensure!(refusal(by_token(&broker, &token))?.contains("Login was refused"));
    provider.publish(&[&key]);
    let begin = Instant::now();
    while by_token(&broker, &token).is_err() {
        ensure!(begin.elapsed() < Duration::from_secs(30), "not after {:?}", begin.elapsed());
    }
    Ok(())
}

#[test]
fn all_connections_of_a_user_together_are_read_no_faster_than_its_limit_says() -> Result<()> {
    const BYTES: usize = 32 << 10;
    let folder = DataFolder::new()?;
    let config = "limits.user_bytes_per_second = 262144\n";
    let broker = Broker::start_with(&folder, Settings { config, ..Settings::default() })?;
    let begin = Instant::now();
    let mut connections = [Connection::with_channel(broker.address)?, Connection::with_channel(broker.address)?];
    for connection in &mut connections {
        connection.confirm_select()?;
    }
    // A second's worth goes at once, and the rest takes five seconds.
    for number in 0..48 {
        connections[number % 2].publish(to_queue("q"), false, &[0; BYTES])?;
    }
    for connection in &mut connections {
        connection.wait_for_confirms(24)?;
    }
    let took = begin.elapsed();
    ensure!((Duration::from_secs(4)..Duration::from_secs(20)).contains(&took), "it took {took:?}");
    let settings = Settings { config: "limits.user_bytes_per_second = 65535\n", ..Settings::default() };
    let text = refusal(Broker::start_with(&DataFolder::new()?, settings))?;
    ensure!(text.contains("it has to be at least 65536"), "{text}");
    Ok(())
}

#[test]
fn a_users_connections_end_with_it_and_a_consumer_that_is_there_outlives_its_right() -> Result<()> {
    let (_folder, broker) = super::broker()?;
    let user = r#"{"password": "secret", "tags": ""}"#;
    let rights = |read: &str| format!(r#"{{"configure": ".*", "write": ".*", "read": "{read}"}}"#);
    let put = |path: &str, body: &str| administer(&broker, &format!("PUT /api/{path}"), body);
    put("users/bob", user)?;
    put("permissions/%2F/bob", &rights(".*"))?;
    let mut bob = Connection::open_as(broker.address, "bob", "secret", "/")?;
    bob.declare_queue("q", true, false)?;
    bob.consume("q", true, 0)?;
    put("permissions/%2F/bob", &rights(""))?;
    bob.publish(to_queue("q"), true, b"m")?;
    ensure!(matches!(bob.receive()?, Event::Message(message) if message.body == b"m"));
    administer(&broker, "DELETE /api/users/bob", "")?;
    ensure!(bob.closed_with()? == (320, "CONNECTION_FORCED - user 'bob' is deleted".to_owned()));
    ensure!(refusal(Connection::open_as(broker.address, "bob", "secret", "/"))?.contains("Login was refused"));
    Ok(())
}

#[test]
fn a_token_of_16_kib_publishes_over_http() -> Result<()> {
    let key = Key::ed25519("k")?;
    let provider = Provider::start(&[&key])?;
    let (_folder, broker) = trusting(&[&provider], "")?;
    let mut claims = provider.claims(HOUR, &format!("{ALL} rabbitmq.tag:management"));
    claims["groups"] = json!("g".repeat(11_000));
    let token = key.token(&claims)?;
    ensure!(token.len() > 14_000, "{}", token.len());
    let message = r#"{"routing_key": "q", "payload": "x", "payload_encoding": "string", "properties": {}}"#;
    let publish = "POST /api/exchanges/%2F/amq.default/publish";
    let answer = ask(broker.management, publish, &format!("Bearer {token}"), message)?;
    ensure!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"routed":false}"#), "{answer}");
    Ok(())
}
