//! Who a client is by its certificate: what stands in it, and which of that is a user's name.

use std::fmt::{self, Write};
use std::sync::Arc;

use rustls::ServerConnection;
use rustls::pki_types::CertificateDer;
use tracing::warn;
use x509_parser::asn1_rs::{Oid, ToDer, oid};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, GeneralName, X509Certificate, X509Error, X509Name};

use crate::config::CertificateLogin;
use crate::limits::CERTIFICATE_USER_BYTES;

/// The names in a client's certificate, which TLS has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateNames {
    /// Whose it is, as RFC 4514 writes it: the last part first.
    pub(crate) subject: String,
    /// Who has signed it, written likewise.
    pub(crate) issuer: String,
    /// The subject's common names; those that are no UTF-8 are not known.
    common_names: Vec<Option<String>>,
    /// The subject's alternative names of the kinds that can be users' names, in the certificate's order.
    alternative: Vec<AlternativeName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AlternativeName {
    Uri(String),
    Dns(String),
    Email(String),
}

/// Why a certificate is nobody's who could log in with it; for the log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("the client's certificate has no {0}, by which tls.login_from knows users")]
    Missing(CertificateLogin),
    #[error("the client's certificate has several common names: which of them would be the user's?")]
    Ambiguous,
    #[error("the name in the client's certificate has a control character")]
    ControlCharacter,
    #[error("the name in the client's certificate is longer than {CERTIFICATE_USER_BYTES} octets")]
    TooLong,
}

impl CertificateNames {
    /// Those that the client of a connection has shown, if it has shown any.
    pub(crate) fn of(connection: &ServerConnection) -> Option<Arc<Self>> {
        let certificate = connection.peer_certificates()?.first()?;
        let names = Self::read(certificate);
        names
            .inspect_err(|error| warn!(%error, "the client's certificate was verified and cannot be read"))
            .ok()
            .map(Arc::new)
    }

    /// Reads the names of a certificate.
    ///
    /// # Errors
    /// It is not one, which cannot be after TLS has verified it.
    fn read(certificate: &CertificateDer<'_>) -> Result<Self, X509Error> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| match error {
            x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error,
            x509_parser::nom::Err::Incomplete(_) => X509Error::InvalidCertificate,
        })?;
        let names = certificate.subject_alternative_name()?.map(|names| names.value.general_names.as_slice());
        let alternative = names.unwrap_or_default().iter().filter_map(AlternativeName::of).collect();
        let common_names = certificate.subject().iter_common_name();
        Ok(Self {
            subject: distinguished_name(certificate.subject()),
            issuer: distinguished_name(certificate.issuer()),
            common_names: common_names.map(|name| name.as_str().ok().map(str::to_owned)).collect(),
            alternative,
        })
    }

    /// The user's name: these octets and no others. Of several alternative names of the kind it is the first, as with
    /// RabbitMQ; several common names are nobody's.
    ///
    /// # Errors
    /// There is none of the kind, or one that no user can have.
    pub(crate) fn user(&self, from: CertificateLogin) -> Result<&str, NameError> {
        let name = match from {
            CertificateLogin::SanUri => self.first(|name| matches!(name, AlternativeName::Uri(_))),
            CertificateLogin::SanDns => self.first(|name| matches!(name, AlternativeName::Dns(_))),
            CertificateLogin::SanEmail => self.first(|name| matches!(name, AlternativeName::Email(_))),
            CertificateLogin::CommonName if self.common_names.len() > 1 => return Err(NameError::Ambiguous),
            CertificateLogin::CommonName => self.common_names.first().and_then(Option::as_deref),
            CertificateLogin::DistinguishedName => Some(self.subject.as_str()),
        };
        let name = name.filter(|name| !name.is_empty()).ok_or(NameError::Missing(from))?;
        if name.contains(char::is_control) {
            return Err(NameError::ControlCharacter);
        }
        if name.len() > CERTIFICATE_USER_BYTES {
            return Err(NameError::TooLong);
        }
        Ok(name)
    }

    fn first(&self, is_it: impl Fn(&AlternativeName) -> bool) -> Option<&str> {
        self.alternative.iter().find(|name| is_it(name)).map(|name| match name {
            AlternativeName::Uri(name) | AlternativeName::Dns(name) | AlternativeName::Email(name) => name.as_str(),
        })
    }
}

impl AlternativeName {
    fn of(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::URI(name) => Some(Self::Uri((*name).to_owned())),
            GeneralName::DNSName(name) => Some(Self::Dns((*name).to_owned())),
            GeneralName::RFC822Name(name) => Some(Self::Email((*name).to_owned())),
            _ => None,
        }
    }
}

/// The kinds of RFC 4514's own table; others are written by their number.
static KINDS: [(Oid<'static>, &str); 9] = [
    (oid!(2.5.4.3), "CN"),
    (oid!(2.5.4.7), "L"),
    (oid!(2.5.4.8), "ST"),
    (oid!(2.5.4.10), "O"),
    (oid!(2.5.4.11), "OU"),
    (oid!(2.5.4.6), "C"),
    (oid!(2.5.4.9), "STREET"),
    (oid!(0.9.2342.19200300.100.1.25), "DC"),
    (oid!(0.9.2342.19200300.100.1.1), "UID"),
];

/// A name as RFC 4514 writes it. No two names are written alike: what has a meaning there is escaped in values.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (index, part) in parts.iter().rev().enumerate() {
        for (number, attribute) in part.iter().enumerate() {
            text.push_str(if number > 0 {
                "+"
            } else if index > 0 {
                ","
            } else {
                ""
            });
            // A String takes everything.
            let _ = write_attribute(attribute, &mut text);
        }
    }
    text
}

fn write_attribute(attribute: &AttributeTypeAndValue<'_>, text: &mut String) -> fmt::Result {
    let kind = KINDS.iter().find(|(oid, _)| oid == attribute.attr_type());
    match (kind, attribute.as_str()) {
        (Some((_, kind)), Ok(value)) => {
            write!(text, "{kind}=")?;
            escape(value, text);
            Ok(())
        }
        _ => {
            write!(text, "{}=#", attribute.attr_type().to_id_string())?;
            let value = attribute.attr_value().to_der_vec().unwrap_or_default();
            value.iter().try_for_each(|octet| write!(text, "{octet:02x}"))
        }
    }
}

fn escape(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        let has_meaning = match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => true,
            '#' => index == 0,
            ' ' => index == 0 || index == last,
            _ => false,
        };
        if has_meaning {
            text.push('\\');
        }
        text.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    fn read(change: impl FnOnce(&mut CertificateParams)) -> CertificateNames {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        CertificateNames::read(params.self_signed(&key).expect("a certificate").der()).expect("it can be read")
    }

    fn ia5(text: &str) -> rcgen::string::Ia5String {
        text.try_into().expect("ASCII")
    }

    #[test]
    fn each_kind_of_name_is_found_and_of_several_the_first() {
        let names = read(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName(ia5("one.example")),
                SanType::URI(ia5("spiffe://cluster/ns/a/sa/b")),
                SanType::DnsName(ia5("two.example")),
                SanType::Rfc822Name(ia5("alice@example")),
                SanType::URI(ia5("spiffe://cluster/second")),
            ];
            params.distinguished_name.push(DnType::CountryName, "CH");
            params.distinguished_name.push(DnType::CommonName, "alice");
        });
        for (from, expected) in [
            (CertificateLogin::SanUri, "spiffe://cluster/ns/a/sa/b"),
            (CertificateLogin::SanDns, "one.example"),
            (CertificateLogin::SanEmail, "alice@example"),
            (CertificateLogin::CommonName, "alice"),
            (CertificateLogin::DistinguishedName, "CN=alice,C=CH"),
        ] {
            assert_eq!(names.user(from), Ok(expected));
        }
    }

    #[test]
    fn a_second_common_name_counts_also_if_it_cannot_be_read() {
        let of = |second: &str| {
            let common_name = DnType::CustomDnType(vec![2, 5, 4, 3]);
            let names = read(|params| {
                params.distinguished_name.push(DnType::CommonName, "alice");
                params.distinguished_name.push(common_name, DnValue::BmpString(second.try_into().expect("UCS-2")));
            });
            names.user(CertificateLogin::CommonName).map(str::to_owned)
        };
        assert_eq!(of("bob"), Err(NameError::Ambiguous));
        let alone = read(|params| {
            let unreadable = DnValue::BmpString("bob".try_into().expect("UCS-2"));
            params.distinguished_name.push(DnType::CommonName, unreadable);
        });
        assert_eq!(
            alone.user(CertificateLogin::CommonName),
            Err(NameError::Missing(CertificateLogin::CommonName)),
            "it is nobody's"
        );
    }

    #[test]
    fn a_certificate_without_such_a_name_is_nobodys() {
        let names = read(|params| params.distinguished_name.push(DnType::CommonName, ""));
        for from in [
            CertificateLogin::SanUri,
            CertificateLogin::SanDns,
            CertificateLogin::SanEmail,
            CertificateLogin::CommonName,
        ] {
            assert_eq!(names.user(from), Err(NameError::Missing(from)));
        }
        assert_eq!(
            read(|_| ()).user(CertificateLogin::DistinguishedName),
            Err(NameError::Missing(CertificateLogin::DistinguishedName))
        );
    }

    #[test]
    fn names_with_control_characters_are_nobodys_and_255_octets_are_the_most() {
        let user = |name: String| {
            let names = read(|params| params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String(name)));
            names.user(CertificateLogin::CommonName).map(str::to_owned)
        };
        for hostile in ["alice\0.evil", "alice\nadmin", "alice\u{7f}", "alice\u{85}", "\u{1b}[2Jalice"] {
            assert_eq!(user(hostile.to_owned()), Err(NameError::ControlCharacter), "{hostile:?}");
        }
        assert_eq!(user("x".repeat(CERTIFICATE_USER_BYTES)), Ok("x".repeat(CERTIFICATE_USER_BYTES)));
        assert_eq!(user("x".repeat(CERTIFICATE_USER_BYTES + 1)), Err(NameError::TooLong));
        assert_eq!(user("Ünï ✓".to_owned()), Ok("Ünï ✓".to_owned()), "others are taken as they are");
    }

    #[test]
    fn no_value_looks_like_another_part_of_the_name() {
        let dn = |common_name: &str| {
            read(|params| {
                params.distinguished_name.push(DnType::OrganizationName, "o");
                params.distinguished_name.push(DnType::CommonName, common_name);
            })
            .subject
        };
        for (common_name, expected) in [
            ("admin,O=x", r"CN=admin\,O=x,O=o"),
            (r#"a"b+c;d<e>f\g"#, r#"CN=a\"b\+c\;d\<e\>f\\g,O=o"#),
            (" #a ", r"CN=\ #a\ ,O=o"),
            ("#a", r"CN=\#a,O=o"),
        ] {
            assert_eq!(dn(common_name), expected);
        }
    }

    #[test]
    fn kinds_that_have_no_name_are_written_by_number() {
        let names = read(|params| {
            params.distinguished_name.push(
                DnType::CustomDnType(vec![1, 2, 3, 4]),
                DnValue::PrintableString("a".try_into().expect("printable")),
            );
        });
        assert_eq!(names.subject, "1.2.3.4=#130161");
    }
}
