//! TLS to the management API: whom to trust, and what it means when that comes to nothing.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::trouble::{self, Trouble};

/// The authorities that may have signed the server's certificate.
pub(super) struct Trust(RootCertStore);

/// What went wrong, and what to do.
type Reason = (String, &'static str);

impl Trust {
    /// Those of a PEM file.
    ///
    /// # Errors
    /// It cannot be read, is no PEM file, or has no certificate that could be an authority's.
    pub(super) fn read(what: &str, file: &Path) -> Result<Self, Trouble> {
        let octets = trouble::read(what, file, "the authorities to trust")?;
        let unusable = |why: &str| {
            let why = format!("{}, which is --ca, {why}", file.display());
            Trouble::new(what, 2, why, "name a PEM file with the certificate of the authority that signed the server's")
        };
        let certificates = CertificateDer::pem_slice_iter(&octets).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|_| unusable("is not a PEM file"))?;
        if certificates.is_empty() {
            return Err(unusable(
                "has no certificate: it has to have a part that begins with -----BEGIN CERTIFICATE-----",
            ));
        }
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(|_| unusable("has a certificate that cannot be made out"))?;
        }
        Ok(Self(roots))
    }

    /// Speaks TLS with a server whose certificate is from one of them and for this host.
    pub(super) async fn connect(self, host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, Reason> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| (error.to_string(), CHECK_URL))?
            .with_root_certificates(self.0)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| (format!("{host} is neither a name nor an address"), CHECK_URL))?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map_err(|error| explain_handshake(&error, host))
    }
}

const CHECK_URL: &str = "check --url";
const SPEAKS_HTTP: &str = "if the port speaks plain HTTP, give http:// instead of https://; otherwise check --url";

fn explain_handshake(error: &io::Error, host: &str) -> Reason {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(error)) => explain_certificate(error, host),
        Some(rustls::Error::InvalidMessage(_)) => ("what listens there does not speak TLS".to_owned(), SPEAKS_HTTP),
        Some(rustls::Error::AlertReceived(alert)) => explain_alert(*alert),
        Some(rustls::Error::PeerIncompatible(_)) => {
            let why = "the server has no version of TLS, or no cipher, that this program has";
            (why.to_owned(), "use TLS 1.2 or 1.3 with a cipher of these days")
        }
        Some(error) => (error.to_string(), CHECK_URL),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            ("the connection was closed instead of answered by TLS".to_owned(), SPEAKS_HTTP)
        }
        None => (error.to_string(), CHECK_URL),
    }
}

/// What a server says against a client only when the handshake is over (TLS 1.3), if it is that.
pub(super) fn explain_later(error: &(dyn Error + 'static)) -> Option<Reason> {
    match error.downcast_ref::<io::Error>().and_then(|error| error.get_ref()?.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(explain_alert(*alert)),
        _ => explain_later(error.source()?),
    }
}

fn explain_alert(alert: AlertDescription) -> Reason {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
            let why = "the server ended the handshake, as one does that wants a client's certificate";
            (why.to_owned(), "this program shows none: use a port of the node that wants none")
        }
        AlertDescription::ProtocolVersion => {
            let why = "the server has no version of TLS that this program has";
            (why.to_owned(), "use TLS 1.2 or 1.3")
        }
        _ => ("the server ended the handshake".to_owned(), "the node's log says why"),
    }
}

fn explain_certificate(error: &CertificateError, host: &str) -> Reason {
    let (why, hint) = match error {
        CertificateError::UnknownIssuer => (
            "the server's certificate is from none of the authorities in --ca".to_owned(),
            "give as --ca the certificate of the authority that signed the server's",
        ),
        CertificateError::NotValidForNameContext { presented, .. } => (
            format!("the server's certificate is for {}, and not for {host}", names(presented)),
            "give in --url a name or an address that the certificate is for",
        ),
        CertificateError::NotValidForName => (
            format!("the server's certificate is not for {host}"),
            "give in --url a name or an address that the certificate is for",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("the server's certificate has expired".to_owned(), "have it issued anew, or set this machine's clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("the server's certificate is not valid yet".to_owned(), "set this machine's clock, or the authority's")
        }
        CertificateError::Other(other) if other.to_string().contains(USED_AS_SERVER) => (
            "the certificate that the server shows is an authority's own".to_owned(),
            "have the authority sign one for the server (not self-signed, or with basicConstraints CA:FALSE)",
        ),
        _ => ("the server's certificate cannot be accepted".to_owned(), "have it issued anew, for a TLS server"),
    };
    (why, hint)
}

/// How the library names an authority's certificate that a server shows as its own.
const USED_AS_SERVER: &str = "CaUsedAsEndEntity";

/// The names in a certificate, which the library gives as `DnsName("broker")` or `IpAddress(127.0.0.1)`.
fn names(presented: &[String]) -> String {
    let name = |name: &String| {
        let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        inside.trim_matches('"').to_owned()
    };
    let names: Vec<_> = presented.iter().map(name).collect();
    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
}
