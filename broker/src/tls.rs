//! TLS for clients: what the server shows them, and what it wants to see.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{InvalidMessage, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::{ClientCertificates, TlsConfig};

/// Why the files for TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in a file is not PEM.
    #[error("{path} is not a PEM file: {reason}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file has nothing of what it should have.
    #[error("{path} has no {what}; it has to be a PEM file")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
    /// An authority's certificate cannot be used.
    #[error("{path} has a certificate that cannot be used: {source}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities cannot be used together.
    #[error("the authorities of {path} cannot be used: {source}")]
    Verifier {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VerifierBuilderError,
    },
    /// Certificate and key do not go together, or one of them is not of a kind that is known.
    #[error("the certificate {certificate} and the key {key} cannot be used together: {source}")]
    Certificate {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// What accepts TLS connections, made of the files that the configuration names: TLS 1.2 and 1.3.
///
/// # Errors
/// A file cannot be read, or holds something else.
pub(crate) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let TlsConfig { certificate, key, ca, client_certificates } = config;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates(certificate)?;
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, "private key", error))?;
    let unusable = |source| TlsError::Certificate { certificate: certificate.clone(), key: key.clone(), source };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match (ca, client_certificates) {
        (Some(ca), ClientCertificates::Optional | ClientCertificates::Required) => {
            let required = *client_certificates == ClientCertificates::Required;
            builder.with_client_cert_verifier(verifier(ca, required, provider)?)
        }
        _ => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(chain, private_key).map_err(unusable)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whether a handshake failed because the client does not speak TLS at all.
pub(crate) fn is_plain_text(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = found.map_err(|error| unreadable(path, "certificate", error))?;
    if certificates.is_empty() {
        return Err(TlsError::Missing { path: path.to_path_buf(), what: "certificate" });
    }
    Ok(certificates)
}

fn verifier(ca: &Path, required: bool, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|source| TlsError::Authority { path: ca.to_path_buf(), source })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|source| TlsError::Verifier { path: ca.to_path_buf(), source })
}

fn unreadable(path: &Path, what: &'static str, error: pem::Error) -> TlsError {
    let path = path.to_path_buf();
    match error {
        pem::Error::Io(source) => TlsError::Read { path, source },
        pem::Error::NoItemsFound => TlsError::Missing { path, what },
        other => TlsError::Pem { path, reason: other.to_string() },
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
    fn good_files_are_taken_and_each_bad_one_is_named_with_what_is_wrong() {
        let files = Files::new();
        assert!(acceptor(&files.config("good.crt", "good.key", "good.crt")).is_ok());
        for (config, file, reason) in [
            (files.config("absent", "good.key", "good.crt"), "absent", "cannot read"),
            (files.config("good.crt", "absent", "good.crt"), "absent", "cannot read"),
            (files.config("good.crt", "good.key", "absent"), "absent", "cannot read"),
            (files.config("empty", "good.key", "good.crt"), "empty", "no certificate"),
            (files.config("good.key", "good.key", "good.crt"), "good.key", "no certificate"),
            (files.config("good.crt", "good.crt", "good.crt"), "good.crt", "no private key"),
            (files.config("good.crt", "good.key", "empty"), "empty", "no certificate"),
            (files.config("broken", "good.key", "good.crt"), "broken", "not a PEM file"),
            (files.config("good.crt", "other.key", "good.crt"), "other.key", "cannot be used together"),
        ] {
            let error = acceptor(&config).err().expect(file).to_string();
            assert!(error.contains(file) && error.contains(reason), "{error}");
        }
    }
}
