//! The files for TLS: read as they are at one moment, and made into what accepts connections.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{CertRevocationListError, RootCertStore, ServerConfig, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use warren_core::Secret;

use super::error::TlsError;
use super::validity;
use crate::config::{ClientCertificates, TlsConfig, TlsVersion};
use crate::limits::TLS_FILE_BYTES;

/// What the files hold at one moment.
pub(super) struct Material {
    certificate: Vec<u8>,
    key: Secret,
    ca: Option<Vec<u8>>,
    crl: Option<Vec<u8>>,
}

/// What accepts connections, made of one [`Material`].
#[derive(Debug)]
pub(super) struct Accepting {
    /// For AMQP.
    pub(super) amqps: Arc<ServerConfig>,
    /// For HTTP.
    pub(super) https: Arc<ServerConfig>,
    /// Seconds since 1970 until which the server's certificate is valid.
    pub(super) not_after: i64,
    /// Seconds since 1970 at which the first list of revoked certificates is out of date.
    pub(super) next_update: Option<i64>,
}

/// A file that the configuration names, and the key that names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) path: &'a Path,
    pub(super) setting: &'static str,
}

const FROM_TLS12: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
const FROM_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// All that is wrong with the files, as far as one mistake does not hide another. `now`: what is not valid then is wrong.
pub(crate) fn mistakes(config: &TlsConfig, now: SystemTime) -> Vec<TlsError> {
    let check = |path: &Path, setting, holds: fn(Named<'_>, &[u8]) -> Result<(), TlsError>| {
        let file = Named { path, setting };
        read_file(file).and_then(|octets| holds(file, &octets)).err()
    };
    let optional =
        |path: &Option<PathBuf>, setting, holds| path.as_deref().and_then(|path| check(path, setting, holds));
    let has_certificates: fn(Named<'_>, &[u8]) -> _ = |file, octets| certificates(file, octets).map(drop);
    let of_files = [
        check(&config.certificate, "tls.certificate", has_certificates),
        check(&config.key, "tls.key", |file, octets| private_key(file, octets).map(drop)),
        optional(&config.ca, "tls.ca", has_certificates),
        optional(&config.crl, "tls.crl", |file, octets| revocation_lists(file, octets).map(drop)),
    ];
    let of_files: Vec<_> = of_files.into_iter().flatten().collect();
    if !of_files.is_empty() {
        return of_files;
    }
    let together = Material::read(config).and_then(|material| material.accepting(config, Some(now)));
    together.err().into_iter().collect()
}

impl Material {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read, or is longer than it may be.
    pub(super) fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        let optional = |path: &Option<PathBuf>, setting| {
            path.as_deref().map(|path| read_file(Named { path, setting })).transpose()
        };
        Ok(Self {
            certificate: read_file(Named { path: &config.certificate, setting: "tls.certificate" })?,
            key: Secret::from(read_file(Named { path: &config.key, setting: "tls.key" })?),
            ca: optional(&config.ca, "tls.ca")?,
            crl: optional(&config.crl, "tls.crl")?,
        })
    }

    /// Tells materials apart.
    pub(super) fn digest(&self) -> [u8; 32] {
        let none = Vec::new();
        let optional = |file: &Option<Vec<u8>>| Sha256::digest(file.as_ref().unwrap_or(&none));
        let files = [
            Sha256::digest(&self.certificate),
            Sha256::digest(self.key.expose()),
            optional(&self.ca),
            optional(&self.crl),
        ];
        files.iter().fold(Sha256::new(), Digest::chain_update).finalize().into()
    }

    /// What accepts connections with these files. `now`: only what is valid then.
    ///
    /// # Errors
    /// The files do not hold what they should, or it does not go together, or not now.
    pub(super) fn accepting(&self, config: &TlsConfig, now: Option<SystemTime>) -> Result<Accepting, TlsError> {
        let certificate = Named { path: &config.certificate, setting: "tls.certificate" };
        let chain = certificates(certificate, &self.certificate)?;
        let key = private_key(Named { path: &config.key, setting: "tls.key" }, self.key.expose())?;
        let (authorities, lists) = (self.authorities(config)?, self.lists(config)?);
        let server = |clients: ClientCertificates| self.server(config, (&chain, &key), clients, (&authorities, &lists));
        let amqps = Arc::new(server(config.client_certificates)?);
        let mut https = server(config.https_client_certificates)?;
        https.alpn_protocols = vec![b"http/1.1".to_vec()];
        let not_after = validity::check_server(certificate, &chain, now)?;
        if let (Some(path), Some(now)) = (&config.ca, now) {
            validity::check_authorities(Named { path, setting: "tls.ca" }, &authorities, now)?;
        }
        let next_update = match &config.crl {
            Some(path) => validity::check_lists(Named { path, setting: "tls.crl" }, &lists, now)?,
            None => None,
        };
        Ok(Accepting { amqps, https: Arc::new(https), not_after, next_update })
    }

    fn server(
        &self,
        config: &TlsConfig,
        (chain, key): (&[CertificateDer<'static>], &PrivateKeyDer<'static>),
        clients: ClientCertificates,
        (authorities, lists): (&[CertificateDer<'static>], &[CertificateRevocationListDer<'static>]),
    ) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = match config.min_version {
            TlsVersion::Tls12 => FROM_TLS12,
            TlsVersion::Tls13 => FROM_TLS13,
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::Other(error.to_string()))?;
        let verifier = match clients {
            ClientCertificates::None => None,
            _ => Some(verifier(config, clients, (authorities, lists), provider)?),
        };
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder
            .with_single_cert(chain.to_vec(), key.clone_key())
            .map_err(|error| unusable(&config.certificate, &config.key, error))?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        if verifier.is_some() {
            // Who resumes a session does not show a certificate again, and it may have been revoked since.
            server.send_tls13_tickets = 0;
        } else {
            // Its keys change every six hours, and with each reload.
            server.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| TlsError::Other(error.to_string()))?;
        }
        Ok(server)
    }

    fn authorities(&self, config: &TlsConfig) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let (Some(path), Some(ca)) = (&config.ca, &self.ca) else { return Ok(Vec::new()) };
        certificates(Named { path, setting: "tls.ca" }, ca)
    }

    fn lists(&self, config: &TlsConfig) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let (Some(path), Some(crl)) = (&config.crl, &self.crl) else { return Ok(Vec::new()) };
        revocation_lists(Named { path, setting: "tls.crl" }, crl)
    }
}

fn read_file(Named { path, setting }: Named<'_>) -> Result<Vec<u8>, TlsError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        std::fs::File::open(path)?.take(TLS_FILE_BYTES + 1).read_to_end(&mut octets)?;
        Ok(octets)
    };
    let octets =
        read().map_err(|error| TlsError::Read { path: path.to_path_buf(), setting, reason: error.to_string() })?;
    if octets.len() as u64 > TLS_FILE_BYTES {
        return Err(TlsError::TooLong { path: path.to_path_buf(), setting });
    }
    Ok(octets)
}

fn certificates(file: Named<'_>, octets: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wanted = ("certificate", "CERTIFICATE");
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(octets).collect();
    let certificates = found.map_err(|error| unreadable(file, wanted, error))?;
    if certificates.is_empty() {
        return Err(unreadable(file, wanted, pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn private_key(file: Named<'_>, octets: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wanted = ("private key without a password", "PRIVATE KEY");
    PrivateKeyDer::from_pem_slice(octets).map_err(|error| unreadable(file, wanted, error))
}

fn revocation_lists(file: Named<'_>, octets: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let wanted = ("list of revoked certificates", "X509 CRL");
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(octets).collect();
    let lists = found.map_err(|error| unreadable(file, wanted, error))?;
    if lists.is_empty() {
        return Err(unreadable(file, wanted, pem::Error::NoItemsFound));
    }
    Ok(lists)
}

/// What checks clients' certificates. With lists of revoked ones, each authority on a client's way has to have one that is not
/// out of date: what cannot be known is not let in.
fn verifier(
    config: &TlsConfig,
    clients: ClientCertificates,
    (authorities, lists): (&[CertificateDer<'static>], &[CertificateRevocationListDer<'static>]),
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let path = config.ca.as_deref().unwrap_or_else(|| Path::new(""));
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        let add = roots.add(certificate.clone());
        add.map_err(|error| unreadable_certificate(Named { path, setting: "tls.ca" }, &error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = builder.with_crls(lists.iter().cloned()).enforce_revocation_expiration();
    let builder = if clients == ClientCertificates::Required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| match (error, &config.crl) {
        (rustls::server::VerifierBuilderError::InvalidCrl(error), Some(crl)) => unreadable_list(crl, &error),
        (error, _) => TlsError::Other(format!("the authorities in {}: {error}", path.display())),
    })
}

/// `what` is missing in the file, or cannot be made out. `label`: how such a part of a PEM file begins.
fn unreadable(
    Named { path, setting }: Named<'_>,
    (what, label): (&'static str, &'static str),
    error: pem::Error,
) -> TlsError {
    let path = path.to_path_buf();
    let reason = match error {
        pem::Error::Io(error) => return TlsError::Read { path, setting, reason: error.to_string() },
        pem::Error::NoItemsFound => return TlsError::Missing { path, setting, what, label },
        // Its own sentences repeat the line that it stumbled over, which may be the key.
        pem::Error::MissingSectionEnd { .. } => "no line -----END …----- of its own ends what has begun",
        pem::Error::IllegalSectionStart { .. } => "a line -----BEGIN …----- goes on after its end or breaks off before",
        pem::Error::Base64Decode(_) => "a part of it is not base64",
        _ => "it cannot be made out",
    };
    TlsError::Pem { path, setting, reason }
}

pub(super) fn unreadable_certificate(Named { path, setting }: Named<'_>, error: &rustls::Error) -> TlsError {
    // The library speaks of a peer's certificate, whosever it is.
    let reason = match error {
        rustls::Error::InvalidCertificate(reason) => format!("{reason:?}"),
        other => other.to_string(),
    };
    TlsError::Certificate { path: path.to_path_buf(), setting, reason }
}

fn unreadable_list(path: &Path, error: &CertRevocationListError) -> TlsError {
    TlsError::Certificate { path: path.to_path_buf(), setting: "tls.crl", reason: format!("{error:?}") }
}

/// What is wrong with a certificate and a key that could be made out.
fn unusable(certificate: &Path, key: &Path, error: rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { certificate: certificate.to_path_buf(), key: key.to_path_buf() }
        }
        rustls::Error::InvalidCertificate(_) => {
            unreadable_certificate(Named { path: certificate, setting: "tls.certificate" }, &error)
        }
        rustls::Error::General(reason) => TlsError::Key { path: key.to_path_buf(), reason },
        other => TlsError::Other(other.to_string()),
    }
}
