//! Keys and certificates: read, judged and made.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use super::schedule::{AuthorityState, BACKDATED_SECONDS, Step, Validity, authority_step, leaf_due, seconds};
use super::{Authorities, Certificates, Pair, Stored, Terms};

/// A common name has at most so many characters (RFC 5280, appendix A.1).
const COMMON_NAME_MAX: usize = 64;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate: {0}")]
pub struct CertificateError(#[from] rcgen::Error);

/// What certificates are to be.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// DNS names and IP addresses of the brokers, all of them; the first also names the authority.
    pub names: &'a [String],
    /// How long they are valid.
    pub terms: Terms,
    /// The value of the annotation that asks for another authority: each new value asks once.
    pub rotate: Option<&'a str>,
    /// Seconds since 1970.
    pub now: i64,
}

/// The certificates as they should be, from those that are stored.
///
/// # Errors
/// When the operating system gives no randomness for a key.
pub fn renew(stored: &Stored, request: &Request<'_>) -> Result<Certificates, CertificateError> {
    let is_usable = |authorities: &&Authorities| is_authority(&authorities.active, request.now);
    let mut authorities = match stored.authorities.as_ref().filter(is_usable) {
        Some(authorities) => authorities.clone(),
        None => Authorities {
            active: new_authority(request)?,
            next: None,
            old: None,
            rotated_for: request.rotate.map(str::to_owned),
        },
    };
    while advance(&mut authorities, stored.leaf.as_ref(), request)? {}
    let known =
        stored.leaf.as_ref().and_then(|leaf| Some((leaf.clone(), leaf_by(leaf, &authorities.active, request)?)));
    let (leaf, validity) = match known.filter(|(_, validity)| request.now < leaf_due(*validity)) {
        Some(known) => known,
        None => new_leaf(&authorities.active, request)?,
    };
    let authority_due = match authority_step(&state(&authorities, Some(validity), request), &request.terms, request.now)
    {
        Step::Wait(until) => until,
        Step::Announce | Step::Promote | Step::Forget => request.now,
    };
    let due = leaf_due(validity).min(authority_due);
    Ok(Certificates {
        due_in: Duration::from_secs(u64::try_from(due - request.now).unwrap_or(0)),
        leaf_not_after: validity.not_after,
        authority_not_after: validity_of(&authorities.active.certificate).map_or(0, |validity| validity.not_after),
        leaf,
        authorities,
    })
}

/// Does what is due with the authorities. True: there may be more.
fn advance(
    authorities: &mut Authorities,
    leaf: Option<&Pair>,
    request: &Request<'_>,
) -> Result<bool, CertificateError> {
    let leaf = leaf.and_then(|leaf| leaf_by(leaf, &authorities.active, request));
    match authority_step(&state(authorities, leaf, request), &request.terms, request.now) {
        Step::Announce => {
            authorities.next = Some(new_authority(request)?);
            authorities.rotated_for = request.rotate.map(str::to_owned).or_else(|| authorities.rotated_for.take());
        }
        Step::Promote => {
            if let Some(next) = authorities.next.take() {
                let before = std::mem::replace(&mut authorities.active, next);
                authorities.old = Some(before.certificate);
            }
        }
        Step::Forget => authorities.old = None,
        Step::Wait(_) => return Ok(false),
    }
    Ok(true)
}

fn state(authorities: &Authorities, leaf: Option<Validity>, request: &Request<'_>) -> AuthorityState {
    let never = Validity { not_before: request.now, not_after: request.now };
    AuthorityState {
        active: validity_of(&authorities.active.certificate).unwrap_or(never),
        // One that cannot be read is replaced when it should sign.
        next: authorities.next.as_ref().map(|next| validity_of(&next.certificate).unwrap_or(never)),
        has_old: authorities.old.is_some(),
        leaf,
        is_asked_for: request.rotate.is_some() && request.rotate != authorities.rotated_for.as_deref(),
    }
}

fn new_authority(request: &Request<'_>) -> Result<Pair, CertificateError> {
    let mut params = params(request, request.terms.authority)?;
    // Several of one name would be taken for each other by those who look for an issuer by its name.
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mark: String = key.public_key_raw().iter().rev().take(4).map(|octet| format!("{octet:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("{} CA {mark}", common_name(request, 13)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn new_leaf(authority: &Pair, request: &Request<'_>) -> Result<(Pair, Validity), CertificateError> {
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let mut params = params(request, request.terms.certificate)?;
    params.distinguished_name.push(DnType::CommonName, common_name(request, 0));
    for name in request.names {
        params.subject_alt_names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let validity =
        Validity { not_before: params.not_before.unix_timestamp(), not_after: params.not_after.unix_timestamp() };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((Pair { certificate: certificate.pem(), key: key.serialize_pem() }, validity))
}

fn params(request: &Request<'_>, life: Duration) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = moment(request.now - BACKDATED_SECONDS);
    params.not_after = moment(request.now + seconds(life));
    Ok(params)
}

/// Years beyond 9999 cannot be written into a certificate.
fn moment(seconds: i64) -> OffsetDateTime {
    const LAST: i64 = 253_402_300_799;
    OffsetDateTime::from_unix_timestamp(seconds.min(LAST)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The first name, with room for `suffix` more characters.
fn common_name(request: &Request<'_>, suffix: usize) -> String {
    let name = request.names.first().map_or("warren", String::as_str);
    name.chars().take(COMMON_NAME_MAX - suffix).collect()
}

/// Whether it can sign now.
fn is_authority(pair: &Pair, now: i64) -> bool {
    let is_key = KeyPair::from_pem(&pair.key).is_ok_and(|key| Issuer::from_ca_cert_pem(&pair.certificate, key).is_ok());
    is_key && validity_of(&pair.certificate).is_some_and(|validity| now < validity.not_after)
}

/// The validity of a certificate by this authority for just these names, whose key is its own.
fn leaf_by(leaf: &Pair, authority: &Pair, request: &Request<'_>) -> Option<Validity> {
    let key = KeyPair::from_pem(&leaf.key).ok()?;
    let authority = pem(&authority.certificate)?;
    let authority = authority.parse_x509().ok()?;
    let pem = pem(&leaf.certificate)?;
    let certificate = pem.parse_x509().ok()?;
    // An authority's name has a part of its key in it.
    let is_by = certificate.issuer().as_raw() == authority.subject().as_raw();
    let has_key = certificate.public_key().subject_public_key.data.as_ref() == rcgen::PublicKeyData::der_bytes(&key);
    let is_for_names = names_of(&certificate)? == request.names;
    (is_by && has_key && is_for_names).then(|| validity(&certificate))
}

/// Names and addresses of a certificate; `None` if it has other ones too.
fn names_of(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    let names = names.iter().map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => address(octets).map(|address| address.to_string()),
        _ => None,
    });
    names.collect()
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn validity_of(certificate: &str) -> Option<Validity> {
    Some(validity(&pem(certificate)?.parse_x509().ok()?))
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let validity = certificate.validity();
    Validity { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() }
}

fn pem(text: &str) -> Option<Pem> {
    Pem::iter_from_buffer(text.as_bytes()).next()?.ok()
}
