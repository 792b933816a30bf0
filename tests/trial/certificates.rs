//! Certificates for the TLS listener and for the clients that use it, made anew for each run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

/// The authority's certificate.
pub const CA: &str = "ca.pem";
/// The broker's, for `localhost` and both loopback addresses.
pub const SERVER: Pair = Pair { certificate: "server.pem", key: "server.key" };
/// A client's.
pub const CLIENT: Pair = Pair { certificate: "client.pem", key: "client.key" };

/// Files of a certificate and its key, in PEM.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// The certificate's.
    pub certificate: &'static str,
    /// The key's.
    pub key: &'static str,
}

/// Writes all files into `folder`.
///
/// # Errors
/// A certificate cannot be made or written.
pub fn write(folder: &Path) -> Result<()> {
    let mut params = named("conformance authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("make an authority")?;
    put(folder, CA, &authority.pem())?;
    let mut server = leaf("localhost", ExtendedKeyUsagePurpose::ServerAuth);
    server.subject_alt_names.push(SanType::DnsName("localhost".try_into()?));
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    server.subject_alt_names.extend(loopback.map(SanType::IpAddress));
    for (pair, params) in [(SERVER, server), (CLIENT, leaf("guest", ExtendedKeyUsagePurpose::ClientAuth))] {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority).context("sign a certificate")?;
        put(folder, pair.certificate, &certificate.pem())?;
        put(folder, pair.key, &key.serialize_pem())?;
    }
    Ok(())
}

fn put(folder: &Path, file: &str, text: &str) -> Result<()> {
    std::fs::write(folder.join(file), text).with_context(|| format!("write {file}"))
}

fn leaf(name: &str, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
