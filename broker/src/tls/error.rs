//! What can be wrong with the files for TLS.

use std::path::PathBuf;

use crate::limits::TLS_FILE_BYTES;

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
    /// A file is longer than any that is meant.
    #[error(
        "{path}, which is {setting}, has more than {TLS_FILE_BYTES} octets: no file that is meant for it has so many"
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// What names it.
        setting: &'static str,
    },
    /// The server's certificate is out of its time.
    #[error(
        "the first certificate in {path}, which is tls.certificate, is valid {period}, and not now; have it issued anew"
    )]
    OutOfTime {
        /// The file.
        path: PathBuf,
        /// From when to when.
        period: String,
    },
    /// None of the other certificates in the file has signed the first one.
    #[error(
        "the first certificate in {path}, which is tls.certificate, does not come from those behind it: {reason}; put the \
         certificates between it and its authority there, or none"
    )]
    Chain {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A certificate is not an authority's.
    #[error(
        "{path}, which is tls.ca, has the certificate of {subject}, which is no authority: it may not sign certificates, \
         and is not signed by itself; name the file with the authorities that sign clients' certificates"
    )]
    NoAuthority {
        /// The file.
        path: PathBuf,
        /// Whose certificate it is.
        subject: String,
    },
    /// All authorities are out of their time.
    #[error("none of the authorities in {path}, which is tls.ca, is valid now; have them issued anew")]
    OldAuthorities {
        /// The file.
        path: PathBuf,
    },
    /// A list of revoked certificates is out of date.
    #[error(
        "a list in {path}, which is tls.crl, was to be replaced by a newer one at {next_update}; put the newer one there"
    )]
    OldList {
        /// The file.
        path: PathBuf,
        /// When.
        next_update: String,
    },
    /// TLS cannot be set up for another reason.
    #[error("TLS cannot be offered: {0}")]
    Other(String),
}

impl TlsError {
    /// The key in the configuration that names the file.
    pub(crate) fn setting(&self) -> &'static str {
        match self {
            Self::Read { setting, .. }
            | Self::Pem { setting, .. }
            | Self::Missing { setting, .. }
            | Self::Certificate { setting, .. }
            | Self::TooLong { setting, .. } => setting,
            Self::Key { .. } | Self::Mismatch { .. } => "tls.key",
            Self::OutOfTime { .. } | Self::Chain { .. } => "tls.certificate",
            Self::NoAuthority { .. } | Self::OldAuthorities { .. } => "tls.ca",
            Self::OldList { .. } => "tls.crl",
            Self::Other(_) => "tls",
        }
    }
}
