//! The API on a real node, asked through its router.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value as Json, json};
use tower::ServiceExt;

use super::{Method, routes};
use crate::config::{Config, Listeners};
use crate::http::server::Peer;
use crate::node::Node;

mod bounds;
mod definitions;
mod documents;
mod drains;
mod figures;
mod messages;
mod node_user;
mod objects;
mod pause;
mod rights;
mod shapes;

/// A node and the router of its API.
struct World {
    node: Node,
    router: Router,
    _folder: tempfile::TempDir,
}

/// What the API answered.
#[derive(Debug)]
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Json,
}

impl Answered {
    fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }
}

impl World {
    async fn start() -> Self {
        Self::start_with_rate(0).await
    }

    async fn start_with_rate(requests_per_second: u32) -> Self {
        Self::start_with(requests_per_second, |_| Config::default()).await
    }

    /// `config` makes the settings, for which it may put files in a folder.
    async fn start_with(requests_per_second: u32, config: impl FnOnce(&Path) -> Config) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the data");
        let free: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let listeners = Listeners { amqp: vec![free], metrics: free, management: free, ..Listeners::default() };
        let config = Config { data_dir: folder.path().to_path_buf(), listeners, ..config(folder.path()) };
        let node = Node::start(config).await.expect("it starts");
        let router = super::router(Arc::clone(node.shared()), requests_per_second);
        Self { node, router, _folder: folder }
    }

    /// Asks as the node's own user.
    async fn ask(&self, method: Method, path: &str, body: Json) -> Answered {
        self.ask_as(("guest", "guest"), method, path, body).await
    }

    async fn get(&self, path: &str) -> Json {
        let answered = self.ask(Method::Get, path, Json::Null).await;
        assert_eq!(answered.status, StatusCode::OK, "{path}: {answered:?}");
        answered.body
    }

    async fn put(&self, path: &str, body: Json) -> StatusCode {
        self.ask(Method::Put, path, body).await.status
    }

    async fn post(&self, path: &str, body: Json) -> Answered {
        self.ask(Method::Post, path, body).await
    }

    async fn delete(&self, path: &str) -> StatusCode {
        self.ask(Method::Delete, path, Json::Null).await.status
    }

    async fn ask_as(&self, login: (&str, &str), method: Method, path: &str, body: Json) -> Answered {
        self.answered(self.request(login, method, path, body)).await
    }

    fn request(&self, (user, password): (&str, &str), method: Method, path: &str, body: Json) -> Request<Body> {
        let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let request = Request::builder()
            .method(method.name())
            .uri(format!("/api{path}"))
            .header("authorization", format!("Basic {credentials}"));
        from_here(request.body(body).expect("a request"))
    }

    /// Sends a request as it is.
    async fn send(&self, request: Request<Body>) -> Answered {
        self.answered(from_here(request)).await
    }

    async fn answered(&self, request: Request<Body>) -> Answered {
        let response = self.router.clone().oneshot(request).await.expect("it cannot fail");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        Answered { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    /// A user with the password `secret`, these tags, and permissions for names that begin with `m` in `/`.
    async fn add_user(&self, name: &str, tags: &str) {
        let made = self.put(&format!("/users/{name}"), json!({"password": "secret", "tags": tags})).await;
        assert_eq!(made, StatusCode::CREATED);
        let rights = json!({"configure": "^m", "write": "^m", "read": "^m"});
        assert_eq!(self.put(&format!("/permissions/%2F/{name}"), rights).await, StatusCode::CREATED);
    }

    async fn stop(self) {
        self.node.stop().await;
    }
}

/// A request of a client on this host.
fn from_here(mut request: Request<Body>) -> Request<Body> {
    let peer = Peer { address: (Ipv4Addr::LOCALHOST, 50_000).into() };
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}
