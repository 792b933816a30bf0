//! The management API as a client: where it is, who asks, and what went wrong in words that help.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::tls::{self, Trust};
use super::trouble::{self, Trouble};

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
    /// Asks, and takes only what succeeds. `tag`: who may ask.
    pub(super) fn get(&self, what: &str, path: &str, tag: &str) -> Result<Answer, Trouble> {
        self.call(what, Method::GET, path, Bytes::new()).and_then(|answer| self.succeeded(what, answer, tag))
    }

    /// Sends JSON, and takes only what succeeds. `tag`: who may send it.
    pub(super) fn post(&self, what: &str, path: &str, body: Vec<u8>, tag: &str) -> Result<Answer, Trouble> {
        self.call(what, Method::POST, path, body.into()).and_then(|answer| self.succeeded(what, answer, tag))
    }

    fn succeeded(&self, what: &str, answer: Answer, tag: &str) -> Result<Answer, Trouble> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let json = answer.json();
        let reason = json["reason"].as_str().unwrap_or_default();
        let why = format!("the node at {} answers {} {reason}", self.url, answer.status);
        Err(match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let hint = format!("give --user and --password-file of somebody with the tag {tag}");
                Trouble::new(what, 5, why, &hint)
            }
            StatusCode::NOT_FOUND => Trouble::new(what, 3, why, "check the name and that --url is the management API"),
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                Trouble::new(what, 4, why, "something is there already and differs")
            }
            StatusCode::BAD_REQUEST => Trouble::new(what, 1, why, "correct that in what is sent, and send it again"),
            status if status.is_server_error() => Trouble::new(what, 1, why, "the node's log may say more"),
            _ => Trouble::new(what, 1, why, "check that --url is the management API"),
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
        let Some(file) = &self.password_file else { return Ok("guest".to_owned()) };
        let octets = trouble::read(what, file, "the password and nothing else")?;
        let text = String::from_utf8(octets)
            .map_err(|_| Trouble::new(what, 2, "the password is not UTF-8", "name a file that holds it as UTF-8"))?;
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
        let trust = match (self.url.scheme_str(), &self.ca) {
            (Some("http"), _) => None,
            (Some("https"), Some(ca)) => Some(Trust::read(what, ca)?),
            (Some("https"), None) => return Err(usage("https needs --ca: a file with the authorities to trust")),
            _ => return Err(usage("--url is neither http nor https")),
        };
        let credentials = BASE64_STANDARD.encode(format!("{}:{password}", self.user));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.url.authority().map_or(host, |authority| authority.as_str()))
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, format!("Basic {credentials}"))
            .body(Full::new(body))
            .map_err(|error| usage(&error.to_string()))?;
        let unreachable =
            |(why, hint): (String, &str)| Trouble::new(what, 6, format!("{} cannot be reached: {why}", self.url), hint);
        let address = host.trim_matches(['[', ']']);
        let usual = if trust.is_some() { 15671 } else { 15672 };
        let port = self.url.port_u16().unwrap_or(usual);
        let stream = TcpStream::connect((address, port)).await;
        let stream = stream.map_err(|error| unreachable((error.to_string(), IS_IT_THERE)))?;
        match trust {
            None => talk(stream, request).await.map_err(|error| unreachable(explain(&*error, false))),
            Some(trust) => {
                let stream = trust.connect(address, stream).await.map_err(&unreachable)?;
                talk(stream, request).await.map_err(|error| unreachable(explain(&*error, true)))
            }
        }
    }
}

const IS_IT_THERE: &str = "check that the node runs and that --url is its management API";

/// Why there is no answer, and what to do.
fn explain(error: &(dyn std::error::Error + 'static), over_tls: bool) -> (String, &'static str) {
    if let Some(refused) = tls::explain_later(error) {
        return refused;
    }
    match error.downcast_ref::<hyper::Error>() {
        Some(error) if !over_tls && (error.is_parse() || error.is_incomplete_message()) => {
            let why = "what listens there does not answer as HTTP does";
            (why.to_owned(), "if the port speaks TLS, give https:// and --ca; otherwise check --url")
        }
        _ => (error.to_string(), IS_IT_THERE),
    }
}

/// Sends the request and reads the whole answer.
async fn talk<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer; what goes wrong with it, the answer says too.
    tokio::spawn(async move { drop(connection.await) });
    let answer = sender.send_request(request).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await?;
    Ok(Answer { status: head.status, body: body.to_bytes() })
}
