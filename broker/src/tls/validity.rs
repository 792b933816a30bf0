//! Whether certificates and lists are what they should be, and now: what the TLS library checks of a peer, and not of us.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::ParsedCertificate;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::error::TlsError;
use super::material::{Named, unreadable_certificate};

/// Until when the first certificate is valid, in seconds since 1970. With `now`: it is valid then, and one of those behind it
/// stands for it, if there are any.
///
/// # Errors
/// It is not.
pub(super) fn check_server(
    file: Named<'_>,
    chain: &[CertificateDer<'static>],
    now: Option<SystemTime>,
) -> Result<i64, TlsError> {
    let Some((leaf, issuers)) = chain.split_first() else { return Ok(i64::MAX) };
    let validity = parse(file, leaf)?.validity().clone();
    if let Some(now) = now {
        if !(validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&seconds(now)) {
            let period = format!("from {} to {}", validity.not_before, validity.not_after);
            return Err(TlsError::OutOfTime { path: file.path.to_path_buf(), period });
        }
        check_chain(file, leaf, issuers, now)?;
    }
    Ok(validity.not_after.timestamp())
}

/// Whether the certificates behind the first one lead to it, in whatever order they are.
fn check_chain(
    file: Named<'_>,
    leaf: &CertificateDer<'static>,
    issuers: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<(), TlsError> {
    if issuers.is_empty() {
        return Ok(());
    }
    let mut roots = RootCertStore::empty();
    for issuer in issuers {
        roots.add(issuer.clone()).map_err(|error| unreadable_certificate(file, &error))?;
    }
    let leaf = ParsedCertificate::try_from(leaf).map_err(|error| unreadable_certificate(file, &error))?;
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, issuers, now, algorithms).map_err(|error| {
        let reason = match error {
            rustls::Error::InvalidCertificate(reason) => format!("{reason:?}"),
            other => other.to_string(),
        };
        TlsError::Chain { path: file.path.to_path_buf(), reason }
    })
}

/// Whether the authorities may be such, and at least one of them is valid.
///
/// # Errors
/// They are not.
pub(super) fn check_authorities(
    file: Named<'_>,
    authorities: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<(), TlsError> {
    let mut valid = false;
    for authority in authorities {
        let authority = parse(file, authority)?;
        // Version 1 knows no such mark; those that are signed by themselves are trusted for what they are.
        if !authority.is_ca() && authority.subject().as_raw() != authority.issuer().as_raw() {
            let subject = authority.subject().to_string();
            return Err(TlsError::NoAuthority { path: file.path.to_path_buf(), subject });
        }
        let period = authority.validity();
        valid |= (period.not_before.timestamp()..=period.not_after.timestamp()).contains(&seconds(now));
    }
    if valid { Ok(()) } else { Err(TlsError::OldAuthorities { path: file.path.to_path_buf() }) }
}

/// When the first of the lists is out of date, in seconds since 1970. With `now`: none is so then.
///
/// # Errors
/// One is, or cannot be read.
pub(super) fn check_lists(
    file: Named<'_>,
    lists: &[CertificateRevocationListDer<'static>],
    now: Option<SystemTime>,
) -> Result<Option<i64>, TlsError> {
    let mut first = None;
    for list in lists {
        let (_, list) = CertificateRevocationList::from_der(list).map_err(|error| cannot_be_read(file, &error))?;
        let Some(next_update) = list.next_update() else { continue };
        if now.is_some_and(|now| next_update.timestamp() < seconds(now)) {
            return Err(TlsError::OldList { path: file.path.to_path_buf(), next_update: next_update.to_string() });
        }
        let earlier = first.unwrap_or(i64::MAX).min(next_update.timestamp());
        first = Some(earlier);
    }
    Ok(first)
}

fn parse<'a>(file: Named<'_>, certificate: &'a CertificateDer<'static>) -> Result<X509Certificate<'a>, TlsError> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| parsed).map_err(|error| cannot_be_read(file, &error))
}

fn cannot_be_read(Named { path, setting }: Named<'_>, error: &impl ToString) -> TlsError {
    TlsError::Certificate { path: Path::to_path_buf(path), setting, reason: error.to_string() }
}

fn seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
