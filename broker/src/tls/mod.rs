//! TLS for clients: what the server shows them, and what it wants to see.

mod reload;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{InvalidMessage, RootCertStore, ServerConfig};

use crate::config::{ClientCertificates, TlsConfig};

pub(crate) use reload::ReloadingTls;

/// Why the files for TLS cannot be used. `setting`: the key in the configuration that names the file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(
        "cannot read {path}, which is {setting}: {reason}; name a file that is there and that this process may read"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What names it.
        setting: &'static str,
        /// Why.
        reason: String,
    },
    /// What is in a file is not PEM.
    #[error(
        "{path}, which is {setting}, is not a PEM file: {reason}; it has to have lines -----BEGIN …----- and -----END …----- with base64 between them"
    )]
    Pem {
        /// The file.
        path: PathBuf,
        /// What names it.
        setting: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A file has nothing of what it should have.
    #[error(
        "{path}, which is {setting}, has no {what}: it has to have a part that begins with -----BEGIN {label}-----"
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// What names it.
        setting: &'static str,
        /// What it lacks.
        what: &'static str,
        /// How such a part begins.
        label: &'static str,
    },
    /// A certificate cannot be read.
    #[error("{path}, which is {setting}, has a certificate that cannot be read: {reason}; have it issued anew")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What names it.
        setting: &'static str,
        /// Why.
        reason: String,
    },
    /// The key cannot be read.
    #[error(
        "{path}, which is tls.key, has a private key that cannot be read: {reason}; it has to be an RSA, ECDSA \
         or Ed25519 key without a password"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not go together.
    #[error(
        "the private key in {key}, which is tls.key, is not that of the first certificate in {certificate}, which is \
         tls.certificate; name two files that were made together"
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// TLS cannot be set up for another reason.
    #[error("TLS cannot be offered: {0}")]
    Other(String),
}

/// A file that the configuration names, and the key that names it.
#[derive(Clone, Copy)]
struct Named<'a> {
    path: &'a Path,
    setting: &'static str,
}

/// What accepts TLS connections, made of the files that the configuration names: TLS 1.2 and 1.3.
///
/// # Errors
/// A file cannot be read, or holds something else.
pub(crate) fn load(config: &TlsConfig) -> Result<ReloadingTls, TlsError> {
    let TlsConfig { certificate, key, ca, client_certificates } = config;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates(Named { path: certificate, setting: "tls.certificate" })?;
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
        unreadable(Named { path: key, setting: "tls.key" }, ("private key without a password", "PRIVATE KEY"), error)
    })?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Other(error.to_string()))?;
    let builder = match (ca, client_certificates) {
        (Some(ca), ClientCertificates::Optional | ClientCertificates::Required) => {
            let required = *client_certificates == ClientCertificates::Required;
            builder.with_client_cert_verifier(verifier(ca, required, provider)?)
        }
        _ => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(chain, private_key).map_err(|error| unusable(certificate, key, error))?;
    Ok(ReloadingTls::new(config))
}

/// Whether a handshake failed because the client does not speak TLS at all.
pub(crate) fn is_plain_text(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

fn certificates(file: Named<'_>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wanted = ("certificate", "CERTIFICATE");
    let found = CertificateDer::pem_file_iter(file.path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = found.map_err(|error| unreadable(file, wanted, error))?;
    if certificates.is_empty() {
        return Err(unreadable(file, wanted, pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

fn verifier(ca: &Path, required: bool, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let file = Named { path: ca, setting: "tls.ca" };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| unreadable_certificate(file, &error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| TlsError::Other(format!("the authorities in {}: {error}", ca.display())))
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

fn unreadable_certificate(Named { path, setting }: Named<'_>, error: &rustls::Error) -> TlsError {
    // The library speaks of a peer's certificate, whosever it is.
    let reason = match error {
        rustls::Error::InvalidCertificate(reason) => format!("{reason:?}"),
        other => other.to_string(),
    };
    TlsError::Certificate { path: path.to_path_buf(), setting, reason }
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            let files = Self { folder: tempfile::tempdir().expect("a folder for the files") };
            let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
            files.write("good.crt", &signed.cert.pem());
            files.write("good.key", &signed.signing_key.serialize_pem());
            let other = rcgen::KeyPair::generate().expect("a key");
            files.write("other.key", &other.serialize_pem());
            files.write("empty", "");
            // Zeros, where there should be DER.
            for (name, label) in [("garbage.crt", "CERTIFICATE"), ("garbage.key", "PRIVATE KEY")] {
                files.write(name, &format!("-----BEGIN {label}-----\nAAAAAAAA\n-----END {label}-----\n"));
            }
            files.write("broken", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
            files
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.folder.path().join(name), text).expect("written");
        }

        fn config(&self, certificate: &str, key: &str, ca: &str) -> TlsConfig {
            let path = |name: &str| self.folder.path().join(name);
            TlsConfig {
                certificate: path(certificate),
                key: path(key),
                ca: Some(path(ca)),
                client_certificates: ClientCertificates::Required,
            }
        }
    }

    #[test]
    fn good_files_are_taken_and_each_bad_one_is_named_with_what_is_wrong_and_what_to_do() {
        let files = Files::new();
        assert!(load(&files.config("good.crt", "good.key", "good.crt")).is_ok());
        for (config, file, setting, reason) in [
            (files.config("absent", "good.key", "good.crt"), "absent", "tls.certificate", "cannot read"),
            (files.config("good.crt", "absent", "good.crt"), "absent", "tls.key", "cannot read"),
            (files.config("good.crt", "good.key", "absent"), "absent", "tls.ca", "cannot read"),
            (files.config("empty", "good.key", "good.crt"), "empty", "tls.certificate", "has no certificate"),
            (files.config("good.key", "good.key", "good.crt"), "good.key", "tls.certificate", "has no certificate"),
            (files.config("good.crt", "good.crt", "good.crt"), "good.crt", "tls.key", "has no private key"),
            (files.config("good.crt", "good.key", "empty"), "empty", "tls.ca", "has no certificate"),
            (files.config("broken", "good.key", "good.crt"), "broken", "tls.certificate", "not a PEM file"),
            (files.config("garbage.crt", "good.key", "good.crt"), "garbage.crt", "tls.certificate", "BadEncoding"),
            (files.config("good.crt", "garbage.key", "good.crt"), "garbage.key", "tls.key", "has a private key that"),
            (files.config("good.crt", "good.key", "garbage.crt"), "garbage.crt", "tls.ca", "BadEncoding"),
            (files.config("good.crt", "other.key", "good.crt"), "other.key", "tls.key", "is not that of the first"),
        ] {
            let error = load(&config).expect_err(file).to_string();
            let path = files.folder.path().join(file).display().to_string();
            assert_eq!(error.matches(&format!("{path}, which is {setting}")).count(), 1, "{error}");
            assert_eq!(error.matches(reason).count(), 1, "{error}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said_without_the_key() {
        const SECRET: &str = "MC4CAQAwBQYDK2VwBCIEIcanary";
        let files = Files::new();
        let in_octets = format!("{:?}", SECRET.as_bytes());
        for (name, text) in [
            ("one line", format!("-----BEGIN PRIVATE KEY----- {SECRET} -----END PRIVATE KEY-----")),
            ("no end", format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n")),
            ("other end", format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END {SECRET}-----\n")),
            ("cut off", format!("-----BEGIN {SECRET}\n")),
            ("no base64", format!("-----BEGIN PRIVATE KEY-----\n{SECRET}!\n-----END PRIVATE KEY-----\n")),
        ] {
            files.write(name, &text);
            let error = load(&files.config("good.crt", name, "good.crt")).expect_err(name).to_string();
            assert!(error.contains("tls.key") && !error.contains("canary"), "{error}");
            assert!(!error.contains(in_octets.trim_matches(['[', ']'])), "{error}");
        }
    }

    #[test]
    fn an_error_says_everything_once() {
        let files = Files::new();
        for config in [
            files.config("absent", "good.key", "good.crt"),
            files.config("broken", "good.key", "good.crt"),
            files.config("good.crt", "good.key", "garbage.crt"),
            files.config("good.crt", "garbage.key", "good.crt"),
        ] {
            let error = load(&config).expect_err("a bad file");
            assert!(std::error::Error::source(&error).is_none(), "what caused it is in its text: {error}");
        }
    }
}
