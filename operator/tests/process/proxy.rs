//! A proxy in front of the API server: it passes everything on with the rights of an administrator, writes down what is asked,
//! and does harm as told.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kube::Client;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Larger than any request of the operator.
const REQUEST_LENGTH_MAX: usize = 1 << 20;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
}

impl Call {
    /// Whether it is meant to change something.
    pub(crate) fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether it stays open and tells changes.
    pub(crate) fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }

    /// Whether it renews or looks at a Lease.
    pub(crate) fn is_about_a_lease(&self) -> bool {
        self.path.contains("/leases")
    }

    /// Whether it reads a whole collection: the path ends in a kind and not in a name.
    pub(crate) fn is_list(&self) -> bool {
        let mut words = self.path.trim_start_matches('/').split('/');
        let skipped = if words.next() == Some("api") { 1 } else { 2 };
        let rest: Vec<&str> = words.skip(skipped).collect();
        let in_collection = match rest.as_slice() {
            ["namespaces", _, kind] => !kind.is_empty(),
            [_] => true,
            _ => false,
        };
        self.method == Method::GET && in_collection && !self.is_watch()
    }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// It never reaches the API server, and this is the answer.
    Refuse(StatusCode),
    /// It is carried out, and this is the answer all the same.
    Lie(StatusCode),
    /// It is carried out, and there is never an answer.
    Silence,
}

type Rule = Box<dyn FnMut(&Call) -> Option<Harm> + Send>;

struct Shared {
    upstream: Client,
    calls: Mutex<Vec<Call>>,
    rule: Mutex<Option<Rule>>,
}

/// A proxy that runs until it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<Result<(), std::io::Error>>,
}

impl Proxy {
    pub(crate) async fn start(upstream: Client) -> Self {
        let shared = Arc::new(Shared { upstream, calls: Mutex::default(), rule: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(pass_on).with_state(shared.clone());
        let task = tokio::spawn(axum::serve(listener, router).into_future());
        Self { address, shared, task }
    }

    /// A kubeconfig that leads here.
    pub(crate) fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
            "current-context": "proxy",
        })
        .to_string()
    }

    /// From here on, `rule` decides what happens to each request.
    pub(crate) fn harm(&self, rule: impl FnMut(&Call) -> Option<Harm> + Send + 'static) {
        *lock(&self.shared.rule) = Some(Box::new(rule));
    }

    /// From here on, everything is passed on.
    pub(crate) fn heal(&self) {
        *lock(&self.shared.rule) = None;
    }

    /// What was asked since this was called last.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *lock(&self.shared.calls))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn pass_on(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Infallible> {
    let call = Call {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
    };
    let harm = lock(&shared.rule).as_mut().and_then(|rule| rule(&call));
    lock(&shared.calls).push(call);
    if let Some(Harm::Refuse(code)) = harm {
        return Ok(failure(code));
    }
    let answer = send(&shared.upstream, request).await;
    match harm {
        Some(Harm::Lie(code)) => Ok(failure(code)),
        Some(Harm::Silence) => std::future::pending().await,
        _ => Ok(answer),
    }
}

async fn send(upstream: &Client, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    // Those of the way from here on are the client's.
    [header::HOST, header::CONNECTION, header::CONTENT_LENGTH].iter().for_each(|name| drop(parts.headers.remove(name)));
    let body = to_bytes(body, REQUEST_LENGTH_MAX).await.unwrap();
    let request = http::Request::from_parts(parts, kube::client::Body::from(body));
    match upstream.send(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// An answer in the API server's form.
fn failure(code: StatusCode) -> Response {
    let reason = match code {
        StatusCode::CONFLICT => "Conflict",
        StatusCode::GONE => "Expired",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        _ => "InternalError",
    };
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": "told to",
    });
    (code, [(header::CONTENT_TYPE, "application/json")], status.to_string()).into_response()
}
