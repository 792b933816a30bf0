//! Certificates, keys, authorities and lists of revoked certificates that change while the broker runs.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rcgen::date_time_ymd;
use warren_tests::harness::{Broker, DataFolder, Settings, wait_until};

use super::pki::{Authority, Identity, TlsClient, Volume, client_config};

/// How long a change may take to count.
const RELOAD: Duration = Duration::from_secs(15);

/// How long what is not about time may take, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a Secret with TLS's files holds.
struct Files {
    ca: String,
    certificate: String,
    key: String,
    crl: String,
}

impl Files {
    fn list(&self) -> [(&str, &str); 4] {
        [("ca.crt", &self.ca), ("tls.crt", &self.certificate), ("tls.key", &self.key), ("crl.pem", &self.crl)]
    }

    fn serving(authority: &Authority, server: &Identity) -> Result<Self> {
        Ok(Self {
            ca: authority.pem(),
            certificate: server.certificate.clone(),
            key: server.key.clone(),
            crl: authority.revoke(&[], 4_000)?,
        })
    }
}

fn start(volume: &Volume, lines: &str) -> Result<(DataFolder, Broker)> {
    let [ca, certificate, key, crl] =
        ["ca.crt", "tls.crt", "tls.key", "crl.pem"].map(|name| volume.path(name).display().to_string());
    let config = format!(
        "listeners.amqps = [\"127.0.0.1:0\"]\n[tls]\nca = {ca:?}\ncertificate = {certificate:?}\nkey = {key:?}\n{}",
        lines.replace("CRL", &format!("{crl:?}"))
    );
    let folder = DataFolder::new()?;
    let broker = Broker::start_with(&folder, Settings { config: &config, ..Settings::default() })?;
    Ok((folder, broker))
}

/// The value of a metric without labels, or with those in its name.
fn metric(broker: &Broker, name: &str) -> Result<f64> {
    let (_, text) = broker.http("/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("there is no {name}"))?.parse()?)
}

fn refusals(broker: &Broker) -> Result<f64> {
    metric(broker, "warren_tls_reloads_total{result=\"refused\"}")
}

fn der(identity: &Identity) -> Result<Vec<u8>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    Ok(CertificateDer::from_pem_slice(identity.certificate.as_bytes())?.to_vec())
}

/// The certificate that a new client is shown, which logs in.
fn shown(broker: &Broker, authority: &Authority) -> Result<Vec<u8>> {
    let address = broker.tls_address.context("the broker takes TLS")?;
    let client = TlsClient::connect(address, &client_config(&authority.pem(), None)?)?;
    let client = client.log_in("PLAIN", b"\0guest\0guest")?;
    Ok(client.server_certificate().context("it has shown one")?.to_vec())
}

#[test]
fn a_renewed_certificate_counts_within_15_seconds_and_a_thousand_connections_go_on() -> Result<()> {
    const CONNECTIONS: usize = 1_000;
    let authority = Authority::new()?;
    let (old, new) = (authority.sign(|_| ())?, authority.sign(|_| ())?);
    let volume = Volume::new(&Files::serving(&authority, &old)?.list())?;
    let (_folder, broker) = start(&volume, "")?;
    let address = broker.tls_address.context("the broker takes TLS")?;
    let config = client_config(&authority.pem(), None)?;
    let connect = || TlsClient::connect(address, &config)?.log_in("PLAIN", b"\0guest\0guest");
    let mut live = (0..CONNECTIONS).map(|_| connect()).collect::<Result<Vec<_>>>()?;
    ensure!(shown(&broker, &authority)? == der(&old)?);
    let closed_before = metric(&broker, "rabbitmq_connections_closed_total")?;
    volume.publish(&Files::serving(&authority, &new)?.list())?;
    let (published, new) = (Instant::now(), der(&new)?);
    let mut handshakes = 0;
    wait_until(RELOAD, || {
        handshakes += 1;
        Ok(shown(&broker, &authority)? == new)
    })
    .context("the new certificate is shown")?;
    println!("the new certificate was shown after {:?}, in handshake {handshakes}", published.elapsed());
    for client in &mut live {
        client.open_channel(2)?;
    }
    let closed = metric(&broker, "rabbitmq_connections_closed_total")? - closed_before;
    ensure!(closed <= f64::from(handshakes), "{closed} connections have ended, of which {handshakes} are ours");
    // It is counted behind the moment from which on it is shown.
    wait_until(RELOAD, || Ok(metric(&broker, "warren_tls_reloads_total{result=\"taken\"}")? == 1.0))?;
    ensure!(metric(&broker, "warren_tls_material_refused")? == 0.0);
    Ok(())
}

#[test]
fn what_cannot_be_used_is_refused_and_told_and_the_old_certificate_goes_on() -> Result<()> {
    let (authority, other) = (Authority::new()?, Authority::new()?);
    let server = authority.sign(|params| params.not_after = date_time_ymd(3_000, 1, 1))?;
    let good = || Files::serving(&authority, &server);
    let of = |other: &Identity| Ok(Files { certificate: other.certificate.clone(), key: other.key.clone(), ..good()? });
    let expired = authority.sign(|params| params.not_after = date_time_ymd(2_020, 1, 1))?;
    let early = authority.sign(|params| params.not_before = date_time_ymd(3_000, 1, 1))?;
    let foreign_chain = format!("{}{}", server.certificate, other.pem());
    let no_list = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    let bad: [(Result<Files>, &str); 8] = [
        (of(&expired), "is valid from"),
        (of(&early), "is valid from"),
        (Ok(Files { key: expired.key.clone(), ..good()? }), "is not that of the first"),
        (Ok(Files { certificate: foreign_chain, ..good()? }), "does not come from"),
        (Ok(Files { ca: server.certificate.clone(), ..good()? }), "which is no authority"),
        (Ok(Files { ca: String::new(), ..good()? }), "has no certificate"),
        (Ok(Files { crl: authority.revoke(&[], 2_021)?, ..good()? }), "was to be replaced by a newer one"),
        (Ok(Files { crl: no_list.to_owned(), ..good()? }), "cannot be read"),
    ];
    thread::scope(|scope| {
        let running = bad.map(|(files, word)| {
            let good = good();
            let (authority, server) = (&authority, &server);
            scope.spawn(move || is_refused(&good?, &files?, word, (authority, server)).context(word))
        });
        running.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })
}

/// Whether a broker that serves with `good` files refuses `bad` ones with that word, goes on with what it had, and takes the
/// good ones again.
fn is_refused(good: &Files, bad: &Files, word: &str, (authority, server): (&Authority, &Identity)) -> Result<()> {
    let volume = Volume::new(&good.list())?;
    let (_folder, broker) = start(&volume, "client_certificates = \"optional\"\ncrl = CRL")?;
    volume.publish(&bad.list())?;
    wait_until(PATIENCE, || Ok(refusals(&broker)? == 1.0))?;
    wait_until(PATIENCE, || Ok(broker.has_said(word))).context("it did not say so")?;
    ensure!(metric(&broker, "warren_tls_material_refused")? == 1.0);
    ensure!(shown(&broker, authority)? == der(server)?, "another certificate is shown");
    ensure!(metric(&broker, "warren_tls_certificate_not_after_seconds")? == 32_503_680_000.0);
    volume.publish(&good.list())?;
    wait_until(PATIENCE, || Ok(metric(&broker, "warren_tls_material_refused")? == 0.0)).context("good again")?;
    ensure!(refusals(&broker)? == 1.0, "it was told once");
    Ok(())
}

/// Whether a client that has connected before with the same `config`, and may resume that session, is let in.
fn is_let_in(broker: &Broker, config: &std::sync::Arc<rustls::ClientConfig>) -> Result<bool> {
    let address = broker.tls_address.context("the broker takes TLS")?;
    Ok(TlsClient::connect(address, config)?.log_in("PLAIN", b"\0guest\0guest").is_ok())
}

#[test]
fn a_revoked_client_is_let_in_no_more_and_its_session_is_not_resumed() -> Result<()> {
    let authority = Authority::new()?;
    let (server, alice, bob) = (authority.sign(|_| ())?, authority.sign(|_| ())?, authority.sign(|_| ())?);
    let good = || Files::serving(&authority, &server);
    let volume = Volume::new(&good()?.list())?;
    let (_folder, broker) = start(&volume, "client_certificates = \"required\"\ncrl = CRL")?;
    let [alice_connects, bob_connects] = [&alice, &bob].map(|client| client_config(&authority.pem(), Some(client)));
    let (alice_connects, bob_connects) = (alice_connects?, bob_connects?);
    ensure!(is_let_in(&broker, &alice_connects)? && is_let_in(&broker, &bob_connects)?);
    volume.publish(&Files { crl: authority.revoke(&[&alice], 4_000)?, ..good()? }.list())?;
    wait_until(PATIENCE, || Ok(!is_let_in(&broker, &alice_connects)?)).context("alice is revoked")?;
    ensure!(is_let_in(&broker, &bob_connects)?, "bob is not");
    Ok(())
}

#[test]
fn clients_of_a_new_authority_are_let_in_once_it_is_there_and_those_of_the_old_one_no_more() -> Result<()> {
    let (old, new) = (Authority::new()?, Authority::new()?);
    let server = old.sign(|_| ())?;
    let volume = Volume::new(&Files::serving(&old, &server)?.list())?;
    let (_folder, broker) = start(&volume, "client_certificates = \"required\"")?;
    let connects = |authority: &Authority| client_config(&old.pem(), Some(&authority.sign(|_| ())?));
    let (of_old, of_new) = (connects(&old)?, connects(&new)?);
    ensure!(is_let_in(&broker, &of_old)? && !is_let_in(&broker, &of_new)?);
    let both = format!("{}{}", old.pem(), new.pem());
    for (ca, old_is_in) in [(both, true), (new.pem(), false)] {
        volume.publish(&Files { ca, ..Files::serving(&old, &server)? }.list())?;
        wait_until(PATIENCE, || Ok(is_let_in(&broker, &of_new)? && is_let_in(&broker, &of_old)? == old_is_in))?;
    }
    Ok(())
}

#[test]
fn an_expired_certificate_does_not_keep_a_broker_from_starting_and_is_told() -> Result<()> {
    let authority = Authority::new()?;
    let expired = authority.sign(|params| params.not_after = date_time_ymd(2_020, 1, 1))?;
    let renewed = authority.sign(|_| ())?;
    let volume = Volume::new(&Files::serving(&authority, &expired)?.list())?;
    let (_folder, broker) = start(&volume, "")?;
    wait_until(PATIENCE, || Ok(broker.has_said("clients that check will not come in by TLS")))
        .context("it did not say so")?;
    ensure!(metric(&broker, "warren_tls_material_refused")? == 1.0);
    ensure!(metric(&broker, "warren_tls_certificate_not_after_seconds")? == 1_577_836_800.0);
    ensure!(shown(&broker, &authority).is_err(), "a client that checks does not come in");
    volume.publish(&Files::serving(&authority, &renewed)?.list())?;
    wait_until(PATIENCE, || Ok(shown(&broker, &authority).is_ok()))?;
    ensure!(metric(&broker, "warren_tls_material_refused")? == 0.0);
    Ok(())
}

#[test]
fn who_connects_while_files_change_is_served_with_one_or_the_other() -> Result<()> {
    let authority = Authority::new()?;
    let servers = (0..3).map(|_| authority.sign(|_| ())).collect::<Result<Vec<_>>>()?;
    let ders = servers.iter().map(der).collect::<Result<Vec<_>>>()?;
    let volume = Volume::new(&Files::serving(&authority, &servers[0])?.list())?;
    let (_folder, broker) = start(&volume, "")?;
    thread::scope(|scope| -> Result<()> {
        let changes = scope.spawn(|| -> Result<()> {
            for (server, der) in servers.iter().zip(&ders).skip(1) {
                volume.publish(&Files::serving(&authority, server)?.list())?;
                wait_until(PATIENCE, || Ok(shown(&broker, &authority)? == *der))?;
            }
            Ok(())
        });
        let mut handshakes = 0;
        while !changes.is_finished() {
            ensure!(ders.contains(&shown(&broker, &authority)?), "a certificate that was never there");
            handshakes += 1;
        }
        println!("{handshakes} handshakes while files changed twice");
        let Ok(changed) = changes.join() else { bail!("a thread panicked") };
        changed
    })
}
