//! The management API as a client: where it is, who asks, and what went wrong in words that help.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Octets of an answer; a longer one is an error.
const ANSWER_BYTES: usize = 256 << 20;

/// Where the management API is, and who asks.
#[derive(Debug, Args)]
pub(super) struct Api {
    /// The management API.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:15672")]
    url: hyper::Uri,
    /// Who asks.
    #[arg(long, default_value = "guest")]
    user: String,
    /// File with the user's password; - is standard input. Without it, the password is `guest`.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// PEM file with the authorities that may have signed the server's certificate; needed for https.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Seconds to wait for an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

/// What went wrong, why, and what to do; with the exit code that says the same.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What was to be done.
    what: String,
    why: String,
    hint: String,
    /// See [`EXIT_CODES`].
    pub(super) code: u8,
}

pub(super) const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 the operation failed or the node is not well, 2 usage, 3 not found, 4 conflict, 5 not allowed, \
6 not reachable, 7 no answer in time.";

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}\nhint: {}", self.what, self.why, self.hint)
    }
}

impl std::error::Error for Trouble {}

impl Trouble {
    /// The node answers, and says that something is wrong with it.
    pub(super) fn unwell(why: String, hint: &str) -> Self {
        Self::new("the node is not well", 1, why, hint)
    }

    pub(super) fn new(what: &str, code: u8, why: impl fmt::Display, hint: &str) -> Self {
        Self { what: what.to_owned(), why: why.to_string(), hint: hint.to_owned(), code }
    }
}

/// An answer of the API.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// The answer as JSON; `null` if it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Api {
    /// Asks, and takes only what succeeds.
    pub(super) fn get(&self, what: &str, path: &str) -> Result<Answer, Trouble> {
        self.call(what, Method::GET, path, Bytes::new()).and_then(|answer| self.succeeded(what, answer))
    }

    /// Sends JSON, and takes only what succeeds.
    pub(super) fn post(&self, what: &str, path: &str, body: Vec<u8>) -> Result<Answer, Trouble> {
        self.call(what, Method::POST, path, body.into()).and_then(|answer| self.succeeded(what, answer))
    }

    fn succeeded(&self, what: &str, answer: Answer) -> Result<Answer, Trouble> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let json = answer.json();
        let reason = json["reason"].as_str().unwrap_or_default();
        let why = format!("the node at {} answers {} {reason}", self.url, answer.status);
        Err(match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let hint = "give --user and --password-file of somebody with the tag administrator";
                Trouble::new(what, 5, why, hint)
            }
            StatusCode::NOT_FOUND => Trouble::new(what, 3, why, "check the name and that --url is the management API"),
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                Trouble::new(what, 4, why, "something is there already and differs")
            }
            _ => Trouble::new(what, 1, why, "the node's log may say more"),
        })
    }

    /// Asks, whatever the answer's status is.
    pub(super) fn call(&self, what: &str, method: Method, path: &str, body: Bytes) -> Result<Answer, Trouble> {
        let password = self.password(what)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Trouble::new(what, 1, error, "the system lacks something"))?;
        let limit = Duration::from_secs(self.timeout);
        let asked = async { tokio::time::timeout(limit, self.ask(what, method, path, body, &password)).await };
        runtime.block_on(asked).unwrap_or_else(|_| {
            let why = format!("no answer from {} within {} s", self.url, self.timeout);
            Err(Trouble::new(what, 7, why, "what was asked for may still happen; give --timeout more seconds"))
        })
    }

    fn password(&self, what: &str) -> Result<String, Trouble> {
        let unreadable =
            |why: String| Trouble::new(what, 2, why, "name a file that holds the password and nothing else");
        let text = match &self.password_file {
            None => return Ok("guest".to_owned()),
            Some(file) if file.as_os_str() == "-" => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map(|_| text)
            }
            Some(file) => std::fs::read_to_string(file),
        };
        let text = text.map_err(|error| unreadable(format!("the password cannot be read: {error}")))?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    }

    async fn ask(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Bytes,
        password: &str,
    ) -> Result<Answer, Trouble> {
        let usage = |why: &str| Trouble::new(what, 2, why, "give a URL such as http://127.0.0.1:15672");
        let host = self.url.host().ok_or_else(|| usage("--url names no host"))?;
        let tls = match self.url.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(usage("--url is neither http nor https")),
        };
        let port = self.url.port_u16().unwrap_or(if tls { 15671 } else { 15672 });
        let unreachable = |error: &dyn fmt::Display| {
            let why = format!("{} cannot be reached: {error}", self.url);
            Trouble::new(what, 6, why, "check that the node runs and that --url is its management API")
        };
        let address = host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((address, port)).await.map_err(|error| unreachable(&error))?;
        let authority = self.url.authority().map_or(host, |authority| authority.as_str());
        let credentials = BASE64_STANDARD.encode(format!("{}:{password}", self.user));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, format!("Basic {credentials}"))
            .body(Full::new(body))
            .map_err(|error| usage(&error.to_string()))?;
        if !tls {
            return talk(stream, request).await.map_err(|error| unreachable(&error));
        }
        let ca = self.ca.as_deref().ok_or_else(|| usage("https needs --ca: the authorities to trust"))?;
        let stream = speak_tls(stream, address, ca).await.map_err(|error| unreachable(&error))?;
        talk(stream, request).await.map_err(|error| unreachable(&error))
    }
}

/// Speaks TLS with a server whose certificate is from one of the authorities in the file and for this host.
async fn speak_tls(stream: TcpStream, host: &str, ca: &Path) -> Result<TlsStream<TcpStream>, String> {
    let unreadable = |error: &dyn fmt::Display| format!("{}: {error}", ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| error.to_string())
}

/// Sends the request and reads the whole answer.
async fn talk<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    // It ends with the answer; what goes wrong with it, the answer says too.
    tokio::spawn(async move { drop(connection.await) });
    let answer = sender.send_request(request).await.map_err(text)?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
    Ok(Answer { status: head.status, body: body.to_bytes() })
}
