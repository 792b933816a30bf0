//! `[tls]`: certificate and key of the listeners that speak TLS, and what clients have to show.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Mistakes;

/// Files for TLS, all PEM. They are read at the start; a file that has changed counts from the next start on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's certificate, and behind it those between it and its authority.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The authorities whose certificates clients may show. Needed if `client_certificates` is not `none`.
    pub ca: Option<PathBuf>,
    /// Whether clients have to show a certificate. Default: `none`.
    #[serde(default)]
    pub client_certificates: ClientCertificates,
}

/// Whether clients have to show a certificate. Whoever shows one still logs in with a password.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// Nobody is asked for one.
    #[default]
    None,
    /// Who shows one must have it from an authority in `tls.ca`.
    Optional,
    /// Everybody must show one from an authority in `tls.ca`.
    Required,
}

impl TlsConfig {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        if self.client_certificates != ClientCertificates::None && self.ca.is_none() {
            mistakes.add(
                "tls.client_certificates",
                "it needs tls.ca: the file with the authorities that sign clients' certificates",
            );
        }
    }
}
