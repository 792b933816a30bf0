//! Certificates for tests, made as they run; a folder that changes as Kubernetes changes a mounted Secret; and clients that
//! speak TLS.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use warren_amqp::frame::PROTOCOL_HEADER;
use warren_amqp::{Frame, Table, ToClient, ToServer, connection, decode_frame};

/// How long an answer may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who signs certificates and lists of those that are revoked.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    last_serial: AtomicU64,
}

/// A certificate and its key.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
    pub(super) serial: SerialNumber,
}

impl Authority {
    pub(super) fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // So that no two authorities have one name.
        let key = KeyPair::generate()?;
        let name = key.public_key_raw()[1..9].iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("authority {name}"));
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, key)?, last_serial: AtomicU64::new(0) })
    }

    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `localhost`, changed before it is signed.
    pub(super) fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Result<Identity> {
        self.sign_for(&KeyPair::generate()?, change)
    }

    pub(super) fn sign_for(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Result<Identity> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
        let serial = SerialNumber::from(self.last_serial.fetch_add(1, Ordering::Relaxed) + 1);
        params.serial_number = Some(serial.clone());
        change(&mut params);
        let certificate = params.signed_by(key, &self.issuer)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem(), serial })
    }

    /// The certificates that count no more. The list is good until that year.
    pub(super) fn revoke(&self, revoked: &[&Identity], until: i32) -> Result<String> {
        let of = |identity: &&Identity| RevokedCertParams {
            serial_number: identity.serial.clone(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(of).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

/// A mounted Secret: its files are links into a folder that is exchanged as a whole.
pub(super) struct Volume {
    folder: TempDir,
    versions: AtomicU64,
}

impl Volume {
    pub(super) fn new(files: &[(&str, &str)]) -> Result<Self> {
        let volume = Self { folder: TempDir::with_prefix("warren-tls-")?, versions: AtomicU64::new(0) };
        volume.publish(files)?;
        for (name, _) in files {
            std::os::unix::fs::symlink(Path::new("..data").join(name), volume.path(name))?;
        }
        Ok(volume)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts these files in the place of all that were there.
    pub(super) fn publish(&self, files: &[(&str, &str)]) -> Result<()> {
        let version = format!("..version-{}", self.versions.fetch_add(1, Ordering::Relaxed));
        std::fs::create_dir(self.path(&version))?;
        for (name, text) in files {
            std::fs::write(self.path(&version).join(name), text)?;
        }
        std::os::unix::fs::symlink(&version, self.path("..data_tmp"))?;
        std::fs::rename(self.path("..data_tmp"), self.path("..data"))?;
        Ok(())
    }
}

/// How clients connect: whom they trust, and what they show. Tickets that they are given are kept for the next connection.
pub(super) fn client_config(authority: &str, shows: Option<&Identity>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.with_root_certificates(roots);
    Ok(Arc::new(match shows {
        Some(shown) => {
            let chain = CertificateDer::pem_slice_iter(shown.certificate.as_bytes()).collect::<Result<_, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(shown.key.as_bytes())?)?
        }
        None => builder.with_no_client_auth(),
    }))
}

/// A connection that speaks TLS, from its first read or write on.
pub(super) struct TlsClient {
    pub(super) stream: StreamOwned<ClientConnection, TcpStream>,
    received: Vec<u8>,
}

impl TlsClient {
    pub(super) fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let client = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
        Ok(Self { stream: StreamOwned::new(client, stream), received: Vec::new() })
    }

    /// The first certificate that the server has shown.
    pub(super) fn server_certificate(&self) -> Option<&[u8]> {
        Some(self.stream.conn.peer_certificates()?.first()?.as_ref())
    }

    pub(super) fn send(&mut self, channel: u16, method: ToServer<'_>) -> Result<()> {
        let mut octets = Vec::new();
        method.encode(channel, &mut octets);
        Ok(self.stream.write_all(&octets)?)
    }

    /// The payload of the next method that comes.
    pub(super) fn receive(&mut self) -> Result<Vec<u8>> {
        loop {
            match decode_frame(&self.received, 131_072)? {
                Some((Frame::Method { payload, .. }, len)) => {
                    let payload = payload.to_vec();
                    self.received.drain(..len);
                    return Ok(payload);
                }
                Some((_, len)) => drop(self.received.drain(..len)),
                None => {
                    let mut octets = [0; 4_096];
                    let len = self.stream.read(&mut octets)?;
                    ensure!(len > 0, "the broker has closed");
                    self.received.extend_from_slice(&octets[..len]);
                }
            }
        }
    }

    /// Says AMQP's header; answers with the mechanisms that it may log in by.
    pub(super) fn greet(&mut self) -> Result<String> {
        self.stream.write_all(&PROTOCOL_HEADER)?;
        let start = self.receive()?;
        match ToClient::decode(&start)? {
            ToClient::ConnectionStart(start) => Ok(String::from_utf8(start.mechanisms.to_vec())?),
            other => anyhow::bail!("it was greeted by {other:?}"),
        }
    }

    /// Logs in and opens `/`, with channel 1.
    pub(super) fn log_in(mut self, mechanism: &str, response: &[u8]) -> Result<Self> {
        let offered = self.greet()?;
        ensure!(offered.split(' ').any(|offered| offered == mechanism), "{mechanism} is not among {offered}");
        let start_ok = connection::StartOk { client_properties: Table::new(&[]), mechanism, response, locale: "en_US" };
        self.send(0, ToServer::ConnectionStartOk(start_ok))?;
        let tune = self.receive().context("the login is refused")?;
        ensure!(matches!(ToClient::decode(&tune)?, ToClient::ConnectionTune(_)), "it is not tuned");
        let tune_ok = connection::TuneOk { channel_max: 2_047, frame_max: 131_072, heartbeat: 0 };
        self.send(0, ToServer::ConnectionTuneOk(tune_ok))?;
        self.send(0, ToServer::ConnectionOpen(connection::Open { virtual_host: "/" }))?;
        let open_ok = self.receive()?;
        ensure!(matches!(ToClient::decode(&open_ok)?, ToClient::ConnectionOpenOk(_)), "{open_ok:?}");
        self.open_channel(1)?;
        Ok(self)
    }

    pub(super) fn open_channel(&mut self, number: u16) -> Result<()> {
        self.send(number, ToServer::ChannelOpen(warren_amqp::channel::Open))?;
        let open_ok = self.receive()?;
        ensure!(matches!(ToClient::decode(&open_ok)?, ToClient::ChannelOpenOk(_)), "{open_ok:?}");
        Ok(())
    }
}
