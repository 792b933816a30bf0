//! Asks other servers over HTTPS: issuers for their keys, the API server of Kubernetes about a token.
//!
//! One connection for each question, which is rare. No redirect is followed, so that nobody but the server that the
//! configuration names is ever asked.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::uri::Scheme;
use axum::http::{Request, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::limits::{ANSWER_BYTES, ANSWER_HEAD_BYTES, ANSWER_TIMEOUT};

/// Where systems keep the authorities that they believe in.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How a server is asked.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// The file with the authorities that may sign its certificate; `None` is the system's. It is read each time.
    pub(super) ca: Option<PathBuf>,
    /// Plain HTTP is taken from loopback addresses.
    pub(super) allow_http_on_loopback: bool,
}

/// Why an address cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("it is not an address such as https://login.example.com/path")]
    Malformed,
    #[error("it does not begin with https://")]
    NotHttps,
}

/// Why there is no answer. No text that the server has sent is in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("cannot read the authorities in {path}: {reason}")]
    Authorities { path: PathBuf, reason: String },
    #[error("no file with authorities is where systems have one; name one with `ca`")]
    NoAuthorities,
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the answer is not HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer is longer than {ANSWER_BYTES} octets, or broke off")]
    Body,
    #[error("it did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
}

/// Where plain HTTP may be spoken.
#[derive(Debug, Clone, Copy)]
enum Http {
    Never,
    OnLoopback,
    Everywhere,
}

impl Http {
    fn on_loopback(allowed: bool) -> Self {
        if allowed { Self::OnLoopback } else { Self::Never }
    }

    fn everywhere(allowed: bool) -> Self {
        if allowed { Self::Everywhere } else { Self::Never }
    }
}

/// The parts of an address that is all right.
struct Address {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
}

impl Address {
    fn parse(text: &str, http: Http) -> Result<Self, AddressError> {
        let uri: Uri = text.parse().map_err(|_| AddressError::Malformed)?;
        let authority = uri.authority().ok_or(AddressError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(AddressError::Malformed);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let is_allowed_http = uri.scheme() == Some(&Scheme::HTTP)
            && match http {
                Http::Never => false,
                Http::OnLoopback => is_loopback,
                Http::Everywhere => true,
            };
        if !tls && !is_allowed_http {
            return Err(AddressError::NotHttps);
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { host, port, tls, uri })
    }
}

/// Whether a server at this address can be asked.
///
/// # Errors
/// It is not an address, or not one of HTTPS.
pub(crate) fn check_address(text: &str, allow_http_on_loopback: bool) -> Result<(), AddressError> {
    Address::parse(text, Http::on_loopback(allow_http_on_loopback)).map(drop)
}

/// Whether a server at this address can be asked, if plain HTTP may be spoken everywhere or nowhere.
///
/// # Errors
/// It is not an address, or not one of HTTPS.
pub(crate) fn check_endpoint(text: &str, allow_http: bool) -> Result<(), AddressError> {
    Address::parse(text, Http::everywhere(allow_http)).map(drop)
}

/// Sends a document of JSON to a server that need not know who sends it. `ca`: as [`Client::ca`].
///
/// # Errors
/// The server cannot be reached, or does not take it.
pub(crate) async fn send_json(
    address: &str,
    ca: Option<PathBuf>,
    allow_http: bool,
    document: Vec<u8>,
) -> Result<(), FetchError> {
    let address = Address::parse(address, Http::everywhere(allow_http))?;
    let request = Request::post("/").header(header::CONTENT_TYPE, "application/json").body(Full::from(document));
    Client { ca, allow_http_on_loopback: false }.ask(address, request).await.map(drop)
}

impl Client {
    /// What is at an address.
    pub(super) async fn get(&self, address: &str) -> Result<Bytes, FetchError> {
        self.ask(self.address(address)?, Request::get("/").body(Full::default())).await
    }

    /// What is answered to a document of JSON. `bearer`: the token that says who asks.
    pub(super) async fn post(&self, address: &str, bearer: &str, document: Vec<u8>) -> Result<Bytes, FetchError> {
        let request = Request::post("/")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        self.ask(self.address(address)?, request.body(Full::from(document))).await
    }

    fn address(&self, text: &str) -> Result<Address, AddressError> {
        Address::parse(text, Http::on_loopback(self.allow_http_on_loopback))
    }

    async fn ask(
        &self,
        address: Address,
        request: Result<Request<Full<Bytes>>, axum::http::Error>,
    ) -> Result<Bytes, FetchError> {
        let mut request = request.map_err(|_| AddressError::Malformed)?;
        *request.uri_mut() = address.uri.path_and_query().map_or("/", |path| path.as_str()).parse().unwrap_or_default();
        let host = address.uri.authority().map_or("", |authority| authority.as_str());
        let host = host.parse().map_err(|_| AddressError::Malformed)?;
        request.headers_mut().insert(header::HOST, host);
        let json = header::HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::ACCEPT, json);
        timeout(ANSWER_TIMEOUT, self.exchange(&address, request)).await.map_err(|_| FetchError::Timeout)?
    }

    async fn exchange(&self, address: &Address, request: Request<Full<Bytes>>) -> Result<Bytes, FetchError> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(FetchError::Connect)?;
        if !address.tls {
            return speak(stream, request).await;
        }
        let name = ServerName::try_from(address.host.clone()).map_err(|_| AddressError::Malformed)?;
        let ca = self.ca.clone();
        // It is a file, which may be large, and on a volume that is slow.
        let config = spawn_blocking(move || client_config(ca.as_deref())).await;
        let config = config.map_err(|error| FetchError::Connect(io::Error::other(error)))??;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(FetchError::Connect)?;
        speak(stream, request).await
    }
}

/// What servers are recognised by: certificates that the authorities in `ca` have signed, or those of the system.
fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, FetchError> {
    let of_system = || SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.is_file());
    let path = ca.or_else(of_system).ok_or(FetchError::NoAuthorities)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities(path, ca.is_some())?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Whether a file that the configuration names holds authorities.
///
/// # Errors
/// It cannot be read, or holds none.
pub(crate) fn check_authorities(path: &Path) -> Result<(), FetchError> {
    let none =
        || FetchError::Authorities { path: path.to_path_buf(), reason: "there is no certificate in it".to_owned() };
    if authorities(path, true)?.is_empty() { Err(none()) } else { Ok(()) }
}

/// The authorities in a file. There may be one among the system's that is not to be read, and nobody here can do anything
/// about it; in a file that the configuration names (`is_ours`) it is a mistake.
fn authorities(path: &Path, is_ours: bool) -> Result<RootCertStore, FetchError> {
    let failed = |reason: String| FetchError::Authorities { path: path.to_path_buf(), reason };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    if is_ours {
        for certificate in certificates {
            let added = roots.add(certificate.map_err(|error| failed(error.to_string()))?);
            added.map_err(|_| failed("a certificate in it cannot be made out".to_owned()))?;
        }
    } else {
        roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    }
    Ok(roots)
}

async fn speak<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(ANSWER_HEAD_BYTES).handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|_| FetchError::Body)
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // The server may close its side with its answer; what it has sent is still to be read.
        ended = connection => {
            ended?;
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_asked_and_loopback_if_that_is_allowed() {
        for (address, strictly, with_loopback) in [
            ("https://login.example.com/a?b", true, true),
            ("https://[::1]:8443", true, true),
            ("http://127.0.0.1:1/x", false, true),
            ("http://localhost/x", false, true),
            ("http://[::1]/x", false, true),
            ("http://login.example.com", false, false),
            ("http://127.0.0.1.example.com", false, false),
            ("http://localhost@example.com/", false, false),
            ("https://user@example.com/", false, false),
            ("ftp://127.0.0.1/", false, false),
            ("file:///etc/passwd", false, false),
            ("/relative", false, false),
            ("", false, false),
        ] {
            assert_eq!(check_address(address, false).is_ok(), strictly, "{address}");
            assert_eq!(check_address(address, true).is_ok(), with_loopback, "{address}");
        }
    }

    #[test]
    fn an_authority_that_cannot_be_read_is_a_mistake_in_our_file_and_passed_over_in_the_systems() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("authorities.pem");
        let key = rcgen::KeyPair::generate().expect("a key");
        let good = rcgen::CertificateParams::default().self_signed(&key).expect("a certificate").pem();
        let broken = "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n";
        for (text, ours, systems) in [(good.clone(), Some(1), 1), (format!("{broken}{good}"), None, 1)] {
            std::fs::write(&path, text).expect("written");
            let count = |is_ours| authorities(&path, is_ours).ok().map(|roots| roots.len());
            assert_eq!((count(true), count(false)), (ours, Some(systems)));
        }
    }
}
