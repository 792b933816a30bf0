//! Files that the program reads and writes: those that settings name, and those of the log.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Result, ensure};
use warren_amqp::ToClient;
use warren_tests::harness::{Broker, Connection, DataFolder};

use super::cli::run;
use super::pki::Authority;
use super::to_queue;

#[test]
fn config_check_names_every_file_that_cannot_be_used() -> Result<()> {
    let folder = DataFolder::new()?;
    let (authority, other) = (Authority::new()?, Authority::new()?);
    let (server, wrong) = (authority.sign(|_| ())?, other.sign(|_| ())?);
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, text) in [
        ("server.crt", server.certificate.as_str()),
        ("server.key", &server.key),
        ("wrong.key", &wrong.key),
        ("ca.crt", &authority.pem()),
        ("garbage", "x"),
        ("definitions.json", r#"{"queues": [{"name": ""}]}"#),
        ("good.json", "{}"),
        ("name", "admin"),
    ] {
        std::fs::write(path(name), text)?;
    }
    let check = |definitions: &str, [certificate, key, ca]: [&str; 3], password: &str| {
        let text = format!(
            "definitions = {:?}\n[tls]\ncertificate = {:?}\nkey = {:?}\nca = {:?}\n[default_user]\nname_file = {:?}\n\
             password_file = {:?}\n[telemetry.traces]\nendpoint = 'https://collector/v1/traces'\nca = {:?}\n",
            path(definitions),
            path(certificate),
            path(key),
            path(ca),
            path("name"),
            path(password),
            path(ca),
        );
        std::fs::write(path("warren.toml"), text)?;
        run(&["config", "check", "--config", &path("warren.toml")], &[])
    };
    let said = check("good.json", ["server.crt", "server.key", "ca.crt"], "name")?;
    ensure!(said.code == Some(0), "{}", said.errors);
    let said = check("definitions.json", ["missing", "garbage", "garbage"], "missing")?;
    ensure!(said.code == Some(1) && said.output.is_empty(), "{:?} {}", said.code, said.output);
    let settings = [
        (1, "definitions"),
        (3, "tls.certificate"),
        (4, "tls.key"),
        (5, "tls.ca"),
        (8, "default_user.password_file"),
        (11, "telemetry.traces.ca"),
    ];
    let named: Vec<_> = said.errors.lines().collect();
    ensure!(named.len() == settings.len(), "{}", said.errors);
    for (line, setting) in settings {
        let begin = format!("error: {}:{line}: {setting}: ", path("warren.toml"));
        ensure!(named.iter().any(|named| named.starts_with(&begin)), "{begin} is not in:\n{}", said.errors);
    }
    let said = check("good.json", ["server.crt", "wrong.key", "ca.crt"], "name")?;
    ensure!(said.code == Some(1) && said.errors.contains("is not that of the first certificate"), "{}", said.errors);
    Ok(())
}

/// The modes of a folder and of all that is in it.
fn modes(folder: &Path) -> Result<Vec<(String, u32)>> {
    let mut modes = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        modes.push((path.display().to_string(), std::fs::metadata(&path)?.mode() & 0o7777));
        if path.is_dir() {
            modes.extend(self::modes(&path)?);
        }
    }
    Ok(modes)
}

#[test]
fn nobody_else_may_read_what_a_broker_writes_also_where_an_older_one_let_them() -> Result<()> {
    let folder = DataFolder::new()?;
    for round in ["a new folder", "one that was open to all"] {
        let broker = Broker::start(&folder)?;
        let mut client = Connection::with_channel(broker.address)?;
        client.confirm_select()?;
        client.declare_queue("orders", true, false)?;
        client.publish(to_queue("orders"), false, b"secret")?;
        client.expect(1, |method| matches!(method, ToClient::BasicAck(_)))?;
        drop(broker);
        let log = folder.path().join("log");
        let found = modes(&log)?;
        ensure!(found.len() >= 2, "{found:?}");
        ensure!(found.iter().all(|(_, mode)| *mode == 0o600), "{round}: {found:?}");
        ensure!(std::fs::metadata(&log)?.mode() & 0o7777 == 0o700, "{round}");
        for (path, _) in found {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o644))?;
        }
        std::fs::set_permissions(log, PermissionsExt::from_mode(0o755))?;
    }
    Ok(())
}
