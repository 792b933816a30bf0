//! `[tls]`: certificate and key of the listeners that speak TLS, and what clients have to show.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Mistakes;

/// TLS for all listeners that speak it. The files are PEM. They are read every ten seconds: what has changed counts for new
/// connections, and what cannot be used is refused and told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's certificate, and behind it those between it and its authority.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The authorities whose certificates clients may show. Needed if `client_certificates` is not `none`.
    pub ca: Option<PathBuf>,
    /// Lists of revoked certificates. With it, each authority of a client's certificate has to have a list that is not out of
    /// date. Default: none, and no certificate counts as revoked.
    pub crl: Option<PathBuf>,
    /// Whether clients of `listeners.amqps` have to show a certificate. Default: `none`.
    #[serde(default)]
    pub client_certificates: ClientCertificates,
    /// Whether clients of the HTTPS listeners have to show a certificate. They log in as without. Default: `none`.
    #[serde(default)]
    pub https_client_certificates: ClientCertificates,
    /// The oldest version of TLS that is spoken. Default: `1.2`.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// Which name in a client's certificate is the user's who logs in with it (SASL EXTERNAL). Default: none, and certificates
    /// log nobody in.
    pub login_from: Option<CertificateLogin>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum TlsVersion {
    /// RFC 5246, with ephemeral keys and authenticated ciphers only.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

/// A name in a certificate: RabbitMQ's `ssl_cert_login_from`. Of several alternative names of the kind it is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateLogin {
    /// The subject's alternative name that is a URI, such as a SPIFFE ID.
    SanUri,
    /// The subject's alternative name that is a DNS name.
    SanDns,
    /// The subject's alternative name that is an e-mail address.
    SanEmail,
    /// The subject's only common name.
    CommonName,
    /// The whole subject as RFC 4514 writes it: `CN=alice,O=example`.
    DistinguishedName,
}

impl fmt::Display for CertificateLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SanUri => "URI among its alternative names",
            Self::SanDns => "DNS name among its alternative names",
            Self::SanEmail => "e-mail address among its alternative names",
            Self::CommonName => "common name",
            Self::DistinguishedName => "subject",
        })
    }
}

/// Whether clients have to show a certificate.
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
        let Self { client_certificates, https_client_certificates, .. } = self;
        let asked = [
            ("tls.client_certificates", client_certificates),
            ("tls.https_client_certificates", https_client_certificates),
        ];
        let asking = asked.into_iter().filter(|(_, asked)| **asked != ClientCertificates::None);
        if self.ca.is_none() {
            for (setting, _) in asking.clone() {
                mistakes.add(setting, "it needs tls.ca: the file with the authorities that sign clients' certificates");
            }
        }
        let asks = "it needs tls.client_certificates or tls.https_client_certificates to be optional or required: nobody else \
                    shows a certificate";
        if self.crl.is_some() && asking.count() == 0 {
            mistakes.add("tls.crl", asks);
        }
        if self.login_from.is_some() && *client_certificates == ClientCertificates::None {
            mistakes.add("tls.login_from", "it needs tls.client_certificates to be optional or required");
        }
    }
}
