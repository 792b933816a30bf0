//! Clients that speak TLS, those that should, and those that are let in by what they show.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rcgen::{DnType, DnValue, SanType};
use warren_amqp::frame::PROTOCOL_HEADER;
use warren_tests::harness::{Broker, Connection, DataFolder, Settings};

use super::definitions::with_guest;
use super::identity::{ask, basic};
use super::pki::{Authority, Identity, TlsClient, Volume, client_config};

/// An authority, and a server and a client that it vouches for.
struct Pki {
    authority: Authority,
    client: Identity,
    volume: Volume,
}

impl Pki {
    fn new() -> Result<Self> {
        let authority = Authority::new()?;
        let (server, client) = (authority.sign(|_| ())?, authority.sign(|_| ())?);
        let files = [
            ("ca.crt", authority.pem()),
            ("server.crt", server.certificate),
            ("server.key", server.key),
            ("client.key", client.key.clone()),
        ];
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        Ok(Self { volume: Volume::new(&files)?, authority, client })
    }

    /// A broker's configuration, with more lines for `[tls]`.
    fn config(&self, lines: &str) -> String {
        let [certificate, key, ca] =
            ["server.crt", "server.key", "ca.crt"].map(|file| self.volume.path(file).display().to_string());
        format!(
            r#"
            listeners.amqps = ["127.0.0.1:0"]
            listeners.metrics_https = ["127.0.0.1:0"]
            [tls]
            certificate = "{certificate}"
            key = "{key}"
            ca = "{ca}"
            {lines}
            "#
        )
    }

    fn broker(&self, lines: &str) -> Result<(DataFolder, Broker)> {
        let folder = DataFolder::new()?;
        let broker = Broker::start_with(&folder, Settings { config: &self.config(lines), ..Settings::default() })?;
        Ok((folder, broker))
    }

    /// A client that is about to speak TLS.
    fn client(&self, broker: &Broker, shows: Option<&Identity>) -> Result<TlsClient> {
        let address = broker.tls_address.context("the broker takes TLS")?;
        TlsClient::connect(address, &client_config(&self.authority.pem(), shows)?)
    }
}

#[test]
fn who_may_connect_follows_from_client_certificates() -> Result<()> {
    let pki = Pki::new()?;
    let stranger = Authority::new()?.sign(|_| ())?;
    for (setting, without) in [("none", true), ("optional", true), ("required", false)] {
        let (_folder, broker) = pki.broker(&format!("client_certificates = \"{setting}\""))?;
        let asks = setting != "none";
        for (shown, expected) in [(Some(&pki.client), true), (None, without), (Some(&stranger), !asks)] {
            let greeted = pki.client(&broker, shown)?.greet().is_ok();
            ensure!(greeted == expected, "{setting}, shows one: {}, greeted: {greeted}", shown.is_some());
        }
    }
    Ok(())
}

#[test]
fn metrics_are_served_over_https_to_who_shows_what_is_asked_for() -> Result<()> {
    let pki = Pki::new()?;
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for (setting, without) in [("none", true), ("required", false)] {
        let (_folder, broker) = pki.broker(&format!("https_client_certificates = \"{setting}\""))?;
        let address = broker.metrics_https.context("the broker takes HTTPS")?;
        for (shown, expected) in [(Some(&pki.client), true), (None, without)] {
            let mut client = TlsClient::connect(address, &client_config(&pki.authority.pem(), shown)?)?;
            let mut answer = String::new();
            client.stream.write_all(request)?;
            // It may be closed without a word.
            client.stream.read_to_string(&mut answer).ok();
            ensure!(answer.starts_with("HTTP/1.1 200") == expected, "{setting}: {answer}");
        }
        ensure!(broker.http("/livez")?.0.contains("200"), "without TLS it is served as before");
    }
    Ok(())
}

#[test]
fn a_client_on_the_wrong_port_is_told_in_the_log_and_others_are_served() -> Result<()> {
    let pki = Pki::new()?;
    let (_folder, broker) = pki.broker("")?;
    let mut plain = Connection::raw(broker.tls_address.context("the broker takes TLS")?)?;
    plain.send_octets(&PROTOCOL_HEADER)?;
    plain.wait_for_end()?;
    let mut http = Connection::raw(broker.metrics_https.context("the broker takes HTTPS")?)?;
    http.send_octets(b"GET / HTTP/1.1\r\n\r\n")?;
    http.wait_for_end()?;
    let mut tls = Connection::raw(broker.address)?;
    tls.send_octets(b"\x16\x03\x01\x02\x00\x01")?;
    tls.wait_for_end()?;
    pki.client(&broker, None)?.greet()?;
    drop(Connection::with_channel(broker.address)?);
    broker.terminate()?;
    let (_, said) = broker.wait_for_last_words()?;
    for words in ["the client does not speak TLS", "http: instead of https:", "the client speaks TLS"] {
        ensure!(said.contains(words), "it did not say that {words}: {said}");
    }
    Ok(())
}

#[test]
fn a_broker_with_a_bad_certificate_says_which_file_and_does_not_start() -> Result<()> {
    let pki = Pki::new()?;
    let folder = DataFolder::new()?;
    let config = folder.path().join("warren.toml");
    std::fs::write(&config, pki.config("").replace("server.key", "client.key"))?;
    let data = folder.path().join("data");
    let arguments =
        ["serve".as_ref(), "--config".as_ref(), config.as_os_str(), "--data-dir".as_ref(), data.as_os_str()];
    let output = Broker::output(&arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("client.key"), "it said: {said}");
    Ok(())
}

/// Users `alice`, `spiffe://cluster/alice`, and `CN=alice,O=example`, who may do everything and have no password.
fn definitions(folder: &DataFolder) -> Result<String> {
    let users = ["alice", "spiffe://cluster/alice", "CN=alice,O=example"];
    let user = |name: &str| serde_json::json!({ "name": name, "password_hash": "", "tags": [] });
    let right =
        |name: &str| serde_json::json!({ "user": name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*" });
    let text = serde_json::json!({ "users": users.map(user), "permissions": users.map(right) }).to_string();
    let file = folder.path().join("definitions.json");
    std::fs::write(&file, with_guest(&text)?)?;
    Ok(format!("definitions = {:?}", file.display().to_string()))
}

#[test]
fn external_lets_in_who_is_named_by_a_certificate_as_the_settings_say() -> Result<()> {
    let pki = Pki::new()?;
    let alice = pki.authority.sign(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "example");
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.subject_alt_names = ["spiffe://cluster/alice", "spiffe://cluster/bob"]
            .map(|uri| SanType::URI(uri.try_into().expect("ASCII")))
            .to_vec();
    })?;
    let hostile = pki.authority.sign(|params| {
        params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String("alice\0.evil".to_owned()));
    })?;
    let bob = pki.authority.sign(|params| params.distinguished_name.push(DnType::CommonName, "bob"))?;
    let certificates = "client_certificates = \"optional\"\n";
    for (setting, is_offered) in [
        ("login_from = \"common_name\"", true),
        ("login_from = \"san_uri\"", true),
        ("login_from = \"distinguished_name\"", true),
        ("login_from = \"san_email\"", false),
        ("", false),
    ] {
        let folder = DataFolder::new()?;
        let config = format!("{}\n{}", definitions(&folder)?, pki.config(&format!("{certificates}{setting}")));
        let broker = Broker::start_with(&folder, Settings { config: &config, ..Settings::default() })?;
        let offered = pki.client(&broker, Some(&alice))?.greet()?;
        ensure!(offered.ends_with(" EXTERNAL") == is_offered, "{setting}: {offered}");
        ensure!(pki.client(&broker, Some(&alice))?.log_in("EXTERNAL", b"").is_ok() == is_offered, "{setting}");
        ensure!(!pki.client(&broker, None)?.greet()?.contains("EXTERNAL"), "{setting}: without a certificate");
        if setting.contains("common_name") {
            ensure!(pki.client(&broker, Some(&alice))?.log_in("EXTERNAL", b"alice").is_ok());
            ensure!(pki.client(&broker, Some(&alice))?.log_in("EXTERNAL", b"guest").is_err(), "for somebody else");
            ensure!(pki.client(&broker, Some(&bob))?.log_in("EXTERNAL", b"").is_err(), "there is no bob");
            ensure!(!pki.client(&broker, Some(&hostile))?.greet()?.contains("EXTERNAL"), "a hostile name");
            let mut plain = Connection::raw(broker.address)?;
            plain.send_octets(&PROTOCOL_HEADER)?;
            let greeting = format!("{:?}", plain.receive()?);
            ensure!(!greeting.contains(&format!("{:?}", b"EXTERNAL").replace(['[', ']'], "")), "without TLS");
        }
        // With a password, everybody logs in as before.
        pki.client(&broker, Some(&bob))?.log_in("PLAIN", b"\0guest\0guest")?;
    }
    Ok(())
}

#[test]
fn a_client_that_is_slow_with_tls_has_what_is_left_of_its_time_to_log_in() -> Result<()> {
    let pki = Pki::new()?;
    let (_folder, broker) = pki.broker("")?;
    let mut client = pki.client(&broker, None)?;
    let begin = Instant::now();
    // So slow is this client.
    std::thread::sleep(Duration::from_secs(4));
    client.greet()?;
    let mut rest = Vec::new();
    // The broker closes without a word of AMQP or TLS, or with one.
    client.stream.read_to_end(&mut rest).ok();
    let waited = begin.elapsed();
    ensure!((Duration::from_secs(5)..Duration::from_secs(13)).contains(&waited), "dropped after {waited:?}");
    Ok(())
}

#[test]
fn the_health_check_of_certificates_fails_within_the_time_before_their_end() -> Result<()> {
    let pki = Pki::new()?;
    let (_folder, broker) = pki.broker("")?;
    let check = |within: &str| {
        let path = format!("GET /api/health/checks/certificate-expiration/{within}");
        ask(broker.management, &path, &basic("guest", "guest"), "")
    };
    for within in ["4/weeks", "2/months", "1/years", "0/days", "-1/days"] {
        ensure!(check(within)?.ends_with(r#"{"status":"ok"}"#), "{within}");
    }
    // Certificates of these tests end in the year 4096.
    let answer = check("3000/years")?;
    ensure!(answer.starts_with("HTTP/1.1 503") && answer.contains("Certificates expiring"), "{answer}");
    let port = broker.tls_address.context("the broker takes TLS")?.port();
    ensure!(
        answer.contains(&format!("\"port\":{port}")) && answer.contains("amqp/ssl") && answer.contains("4096"),
        "{answer}"
    );
    for (within, reason) in
        [("1/centuries", "Time unit not recognised"), ("x/days", "Invalid expiration value."), ("1.5/days", "Invalid")]
    {
        let answer = check(within)?;
        ensure!(answer.starts_with("HTTP/1.1 400") && answer.contains(reason), "{answer}");
    }
    Ok(())
}

#[test]
fn handshakes_that_fail_are_told_no_more_than_60_times_a_minute_for_each_source() -> Result<()> {
    let pki = Pki::new()?;
    let (_folder, broker) = pki.broker("")?;
    let ports = [broker.tls_address, broker.metrics_https];
    for number in 0..60 + 7 {
        let mut stream = std::net::TcpStream::connect(ports[number % 2].context("it takes TLS")?)?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        // An alert, and the end: whether that is orderly is all the same.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    broker.terminate()?;
    let (_, said) = broker.wait_for_last_words()?;
    let single = said.matches("the client does not speak TLS").count();
    let together = said.lines().filter(|line| line.contains("more TLS handshakes failed")).collect::<Vec<_>>();
    ensure!(single == 60 && together.len() == 1 && together[0].contains("\"count\":7"), "{single} {together:?}");
    Ok(())
}
