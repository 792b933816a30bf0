//! Clients that speak TLS, and those that should.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use warren_amqp::frame::PROTOCOL_HEADER;
use warren_amqp::{Frame, decode_frame};
use warren_tests::harness::{Broker, Connection, DataFolder, Settings};

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority, and a server and a client that it vouches for.
struct Pki {
    folder: TempDir,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Pki {
    fn new() -> Result<Self> {
        let pki = Self { folder: TempDir::with_prefix("warren-tls-")? };
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = Authority::self_signed(params, KeyPair::generate()?)?;
        std::fs::write(pki.path("ca.crt"), authority.pem())?;
        for name in ["server", "client"] {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
            params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
            let key = KeyPair::generate()?;
            std::fs::write(pki.path(&format!("{name}.crt")), params.signed_by(&key, &authority)?.pem())?;
            std::fs::write(pki.path(&format!("{name}.key")), key.serialize_pem())?;
        }
        Ok(pki)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A broker's configuration.
    fn config(&self, client_certificates: &str) -> String {
        let [certificate, key, ca] =
            ["server.crt", "server.key", "ca.crt"].map(|file| self.path(file).display().to_string());
        format!(
            r#"
            listeners.amqps = ["127.0.0.1:0"]
            [tls]
            certificate = "{certificate}"
            key = "{key}"
            ca = "{ca}"
            client_certificates = "{client_certificates}"
            "#
        )
    }

    /// A client that is about to speak TLS: it does so when it writes or reads.
    fn client(&self, broker: &Broker, shows_certificate: bool) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.crt"))?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        let config = if shows_certificate {
            let certificate = CertificateDer::from_pem_file(self.path("client.crt"))?;
            builder.with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_file(self.path("client.key"))?)?
        } else {
            builder.with_no_client_auth()
        };
        let stream = TcpStream::connect(broker.tls_address.context("the broker takes TLS")?)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
        Ok(StreamOwned::new(client, stream))
    }

    /// What a client is answered that speaks TLS and sends AMQP's header.
    fn greeting(&self, broker: &Broker, shows_certificate: bool) -> Result<Vec<u8>> {
        let mut stream = self.client(broker, shows_certificate)?;
        stream.write_all(&PROTOCOL_HEADER)?;
        let mut answer = vec![0; 4_096];
        let len = stream.read(&mut answer)?;
        answer.truncate(len);
        Ok(answer)
    }
}

fn broker(pki: &Pki, client_certificates: &str) -> Result<(DataFolder, Broker)> {
    let folder = DataFolder::new()?;
    let config = pki.config(client_certificates);
    let broker = Broker::start_with(&folder, Settings { config: &config, ..Settings::default() })?;
    Ok((folder, broker))
}

/// Whether it is `connection.start`.
fn is_start(octets: &[u8]) -> bool {
    matches!(decode_frame(octets, 131_072), Ok(Some((Frame::Method { payload: [0, 10, 0, 10, ..], .. }, _))))
}

#[test]
fn who_may_connect_follows_from_client_certificates() -> Result<()> {
    let pki = Pki::new()?;
    for (setting, with_certificate, without) in
        [("none", true, true), ("optional", true, true), ("required", true, false)]
    {
        let (_folder, broker) = broker(&pki, setting)?;
        for (shows_certificate, expected) in [(true, with_certificate), (false, without)] {
            let greeted = pki.greeting(&broker, shows_certificate).is_ok_and(|octets| is_start(&octets));
            ensure!(greeted == expected, "{setting}, certificate shown: {shows_certificate}, greeted: {greeted}");
        }
    }
    Ok(())
}

#[test]
fn a_client_that_is_slow_with_tls_has_what_is_left_of_ten_seconds_to_log_in() -> Result<()> {
    let pki = Pki::new()?;
    let (_folder, broker) = broker(&pki, "none")?;
    let mut stream = pki.client(&broker, false)?;
    let begin = Instant::now();
    // So slow is this client.
    std::thread::sleep(Duration::from_secs(4));
    stream.write_all(&PROTOCOL_HEADER)?;
    let mut answer = Vec::new();
    // The broker closes without a word of AMQP or TLS, or with one.
    stream.read_to_end(&mut answer).ok();
    let waited = begin.elapsed();
    ensure!(is_start(&answer), "it was answered by {answer:?}");
    ensure!((Duration::from_secs(9)..Duration::from_secs(13)).contains(&waited), "dropped after {waited:?}");
    Ok(())
}

#[test]
fn a_client_on_the_wrong_port_is_told_in_the_log_and_others_are_served() -> Result<()> {
    let pki = Pki::new()?;
    let (_folder, broker) = broker(&pki, "none")?;
    let mut plain = Connection::raw(broker.tls_address.context("the broker takes TLS")?)?;
    plain.send_octets(&PROTOCOL_HEADER)?;
    plain.wait_for_end()?;
    let mut tls = Connection::raw(broker.address)?;
    tls.send_octets(b"\x16\x03\x01\x02\x00\x01")?;
    tls.wait_for_end()?;
    ensure!(is_start(&pki.greeting(&broker, false)?));
    drop(Connection::with_channel(broker.address)?);
    broker.terminate()?;
    let (_, said) = broker.wait_for_last_words()?;
    for words in ["the client does not speak TLS", "the client speaks TLS"] {
        ensure!(said.contains(words), "it did not say that {words}: {said}");
    }
    Ok(())
}

#[test]
fn a_broker_with_a_bad_certificate_says_which_file_and_does_not_start() -> Result<()> {
    let pki = Pki::new()?;
    let config = pki.folder.path().join("warren.toml");
    std::fs::write(&config, pki.config("none").replace("server.key", "client.key"))?;
    let data = pki.path("data");
    let arguments =
        ["serve".as_ref(), "--config".as_ref(), config.as_os_str(), "--data-dir".as_ref(), data.as_os_str()];
    let output = Broker::output(&arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("client.key"), "it said: {said}");
    Ok(())
}
