//! The brokers' management API, asked as their own user. It is reached by the client that also reaches the API server: TLS,
//! time limits and the reading of streams are the same.

use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyDataStream, BodyExt, Limited};
use kube::client::Body;
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;
use x509_parser::pem::Pem;

use crate::consumers::figures::{Figures, Peer};
use crate::credentials::Credentials;

/// How long a broker may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a broker may take to answer a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer that is read, in octets. A person chooses the broker's image, and it must not fill our memory.
const ANSWER_LENGTH_MAX: usize = 1 << 20;

/// Where a broker's management API is, and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host and port.
    pub address: String,
    /// The authorities that may vouch for it, in PEM, none of which need be there; `None`: it is asked without TLS.
    pub authorities: Option<String>,
    /// As whom.
    pub credentials: Credentials,
}

/// Why a broker does not answer.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It cannot be reached, or refuses.
    #[error("{0}")]
    Refused(#[source] Box<kube::Error>),
    /// It cannot be asked like this.
    #[error("the address or an authority of the broker cannot be used: {0}")]
    Unusable(String),
    /// Nobody says whom to trust.
    #[error("no authority is known that vouches for the broker: put it into ca.crt of the Secret with the certificate")]
    NoAuthority,
    /// What it said breaks off.
    #[error("the broker's answer broke off: {0}")]
    BrokenOff(#[source] LinesCodecError),
    /// What it said has another form than this release knows.
    #[error("the broker says something that this release does not understand: {0}")]
    Unreadable(#[source] serde_json::Error),
    /// It answers, and does not do what it should: it is stopping, or has no room.
    #[error("the broker says: {0}")]
    Answered(String),
    /// It does not answer in time.
    #[error("the broker does not answer within {} s", CALL_TIMEOUT.as_secs())]
    Slow,
    /// It answers what nobody can use.
    #[error("the broker's answer to {path} cannot be read: {reason}")]
    Garbled {
        /// What it was asked.
        path: String,
        /// Why not.
        reason: String,
    },
}

/// What a broker tells of queues that are watched.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// A queue has changed.
    Queue {
        /// Its virtual host.
        vhost: String,
        /// Its name.
        name: String,
        /// What it has to do; `None`: there is no such queue.
        figures: Option<Figures>,
    },
    /// Nothing else is new.
    Alive {
        /// When, by the broker's clock: milliseconds since the Unix epoch.
        at_ms: u64,
    },
}

/// What a broker answers to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status of HTTP.
    pub status: StatusCode,
    /// The header `location`, or nothing.
    pub location: String,
    /// JSON, or `null` if there was none.
    pub body: Value,
}

impl Answer {
    /// What the broker says about a refusal.
    pub fn reason(&self) -> String {
        self.body["reason"].as_str().map_or_else(|| format!("the broker answers {}", self.status), ToOwned::to_owned)
    }
}

/// Asks one broker.
#[derive(Clone)]
pub struct BrokerApi(Client);

impl BrokerApi {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// The endpoint cannot be used.
    pub fn new(endpoint: &Endpoint) -> Result<Self, BrokerError> {
        let unusable = |error: &dyn std::fmt::Display| BrokerError::Unusable(error.to_string());
        let scheme = if endpoint.authorities.is_some() { "https" } else { "http" };
        let uri: Uri = format!("{scheme}://{}", endpoint.address).parse().map_err(|error| unusable(&error))?;
        let mut config = Config::new(uri);
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = None;
        config.default_retry = false;
        config.proxy_url = None;
        if let Some(authorities) = &endpoint.authorities {
            let der = Pem::iter_from_buffer(authorities.as_bytes()).map(|pem| pem.map(|pem| pem.contents));
            let der: Vec<_> = der.collect::<Result<_, _>>().map_err(|error| unusable(&error))?;
            if der.is_empty() {
                return Err(BrokerError::NoAuthority);
            }
            config.root_cert = Some(der);
        }
        config.auth_info = AuthInfo {
            username: Some(endpoint.credentials.username.clone()),
            password: Some(endpoint.credentials.password.clone().into()),
            ..AuthInfo::default()
        };
        Client::try_from(config).map(Self).map_err(|error| BrokerError::Refused(Box::new(error)))
    }

    /// What these queues, each a virtual host and a name, have to do, as it changes.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses. The stream's errors are its end.
    pub async fn figures(
        &self,
        queues: &[(&str, &str)],
    ) -> Result<BoxStream<'static, Result<Line, BrokerError>>, BrokerError> {
        let queue = |(vhost, name): &(&str, &str)| {
            format!("queue={}", encoded(&format!("{}/{}", encoded(vhost), encoded(name))))
        };
        let query = queues.iter().map(queue).collect::<Vec<_>>().join("&");
        let request = Request::get(format!("/api/warren/figures?{query}")).body(Body::empty());
        let request = request.map_err(|error| BrokerError::Unusable(error.to_string()))?;
        let answered = timeout(CALL_TIMEOUT, async {
            let response = self.0.send(request).await.map_err(|error| BrokerError::Refused(Box::new(error)))?;
            if response.status().is_success() {
                return Ok(response.into_body());
            }
            let path = "/api/warren/figures";
            Err(refusal(path.to_owned(), &read_answer(path, response).await?))
        });
        let body = answered.await.unwrap_or(Err(BrokerError::Slow))?;
        let octets = StreamReader::new(BodyDataStream::new(body).map_err(std::io::Error::other));
        let lines = FramedRead::new(octets, LinesCodec::new_with_max_length(ANSWER_LENGTH_MAX));
        Ok(lines
            .map_err(BrokerError::BrokenOff)
            .and_then(|line| std::future::ready(read(&line)))
            .try_filter_map(|line| std::future::ready(Ok(line)))
            .boxed())
    }

    /// Asks once, with `body` as JSON. Any status is an answer, except that the broker does not know us.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, BrokerError> {
        let octets = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.body(Body::from(octets)).map_err(|error| BrokerError::Unusable(error.to_string()))?;
        let answered = timeout(CALL_TIMEOUT, async {
            let response = self.0.send(request).await.map_err(|error| BrokerError::Refused(Box::new(error)))?;
            read_answer(path, response).await
        });
        answered.await.unwrap_or(Err(BrokerError::Slow))
    }

    /// Has consumers from `address` handed nothing new for so long. Answers how many messages they hold.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub async fn drain(&self, address: &str, time: Duration) -> Result<u64, BrokerError> {
        let path = drain_path(address);
        let answer = self.call(Method::PUT, &path, Some(&json!({"seconds": time.as_secs()}))).await?;
        let unacked = answer.body.get("unacked").and_then(Value::as_u64).filter(|_| answer.status.is_success());
        unacked.ok_or_else(|| refusal(path, &answer))
    }

    /// Has consumers from `address` served again.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub async fn end_drain(&self, address: &str) -> Result<(), BrokerError> {
        let path = drain_path(address);
        let answer = self.call(Method::DELETE, &path, None).await?;
        let is_over = answer.status.is_success() || answer.status == StatusCode::NOT_FOUND;
        is_over.then_some(()).ok_or_else(|| refusal(path, &answer))
    }
}

fn drain_path(address: &str) -> String {
    format!("/api/warren/drains/{}", encoded(address))
}

fn refusal(path: String, answer: &Answer) -> BrokerError {
    BrokerError::Garbled { path, reason: answer.reason() }
}

async fn read_answer(path: &str, response: Response<Body>) -> Result<Answer, BrokerError> {
    let garbled = |reason: String| BrokerError::Garbled { path: path.to_owned(), reason };
    let (head, body) = response.into_parts();
    let collected =
        Limited::new(body, ANSWER_LENGTH_MAX).collect().await.map_err(|error| garbled(error.to_string()))?;
    let octets = collected.to_bytes();
    if head.status == StatusCode::UNAUTHORIZED {
        return Err(garbled("it does not take our password".to_owned()));
    }
    let body = match octets.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&octets).map_err(|error| garbled(error.to_string()))?,
    };
    let location = head.headers.get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(Answer { status: head.status, location: location.to_owned(), body })
}

/// A line as the broker writes it.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Written {
    Queue {
        vhost: String,
        name: String,
        at_ms: u64,
        since_ms: u64,
        #[serde(flatten)]
        work: Option<Work>,
    },
    Alive {
        at_ms: u64,
    },
    /// Of a newer release.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Work {
    ready: u64,
    unacked: u64,
    published: u64,
    delivered: u64,
    redelivered: u64,
    acknowledged: u64,
    unacked_message_ms: u64,
    single_active_consumer: bool,
    peers: Vec<Peer>,
}

/// `None`: a kind of line that this release does not know.
fn read(line: &str) -> Result<Option<Line>, BrokerError> {
    Ok(match serde_json::from_str(line).map_err(BrokerError::Unreadable)? {
        Written::Queue { vhost, name, at_ms, since_ms, work } => {
            let figures = work.map(|work| Figures {
                at_ms,
                since_ms,
                ready: work.ready,
                unacked: work.unacked,
                published: work.published,
                delivered: work.delivered,
                redelivered: work.redelivered,
                acknowledged: work.acknowledged,
                unacked_message_ms: work.unacked_message_ms,
                single_active_consumer: work.single_active_consumer,
                peers: work.peers,
            });
            Some(Line::Queue { vhost, name, figures })
        }
        Written::Alive { at_ms } => Some(Line::Alive { at_ms }),
        Written::Other => None,
    })
}

/// Everything but RFC 3986's unreserved characters is percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, octet| {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            encoded.push(char::from(octet));
        } else {
            encoded.push_str(&format!("%{octet:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use tokio_util::codec::LinesCodecError;

    #[test]
    fn lines_are_read_as_the_broker_writes_them() {
        let queue = r#"{"kind":"queue","vhost":"/","name":"q","at_ms":7,"since_ms":5,"ready":1,"unacked":2,"published":3,
            "delivered":4,"redelivered":0,"acknowledged":1,"unacked_message_ms":9,"single_active_consumer":false,
            "peers":[{"address":"10.0.0.7","consumers":1,"prefetch":20,"unacked":2}]}"#;
        let peer = Peer { address: "10.0.0.7".into(), consumers: 1, prefetch: 20, unacked: 2 };
        let figures = Figures {
            at_ms: 7,
            since_ms: 5,
            ready: 1,
            unacked: 2,
            published: 3,
            delivered: 4,
            acknowledged: 1,
            unacked_message_ms: 9,
            peers: vec![peer],
            ..Figures::default()
        };
        let (vhost, name) = ("/".to_owned(), "q".to_owned());
        let expected = Line::Queue { vhost: vhost.clone(), name: name.clone(), figures: Some(figures) };
        assert_eq!(read(queue).unwrap(), Some(expected));
        let gone = r#"{"kind":"queue","vhost":"/","name":"q","at_ms":7,"since_ms":5}"#;
        assert_eq!(read(gone).unwrap(), Some(Line::Queue { vhost, name, figures: None }));
        assert_eq!(read(r#"{"kind":"alive","at_ms":8}"#).unwrap(), Some(Line::Alive { at_ms: 8 }));
        assert_eq!(read(r#"{"kind":"weather","at_ms":8}"#).unwrap(), None);
        assert!(read("{").is_err());
    }

    #[tokio::test]
    async fn a_line_without_end_breaks_the_figures_off() {
        let endless = || async {
            axum::body::Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 65_536])))
        };
        let router = axum::Router::new().route("/api/warren/figures", axum::routing::get(endless));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let credentials = Credentials { username: "u".into(), password: "p".into() };
        let broker = BrokerApi::new(&Endpoint { address, authorities: None, credentials }).unwrap();
        let mut lines = broker.figures(&[("/", "q")]).await.unwrap();
        let broken = lines.next().await.unwrap().unwrap_err();
        assert!(matches!(broken, BrokerError::BrokenOff(LinesCodecError::MaxLineLengthExceeded)), "{broken}");
        server.abort();
    }

    #[test]
    fn an_endpoint_that_cannot_be_used_says_so() {
        let credentials = Credentials { username: "u".into(), password: "p".into() };
        let endpoint = Endpoint { address: "a b".into(), authorities: None, credentials };
        assert!(BrokerApi::new(&endpoint).is_err_and(|error| matches!(error, BrokerError::Unusable(_))));
    }
}
