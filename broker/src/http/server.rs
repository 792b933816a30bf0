//! HTTP/1.1 for every port that speaks it: accepts, bounds what a client may take, and hands its requests to a router.
//!
//! What a client gets here: ten seconds for each request's head and as long between two requests, 16 KiB for the head, 15
//! seconds to take something of an answer, and one of 512 connections per port. If all of them are taken, the one that has
//! waited longest for a request of its client makes room, so that nobody who only sits there keeps probes out.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request};
use axum::response::Response;
use axum::{Router, middleware};
use futures::future::BoxFuture;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{Instrument, debug, error_span};

use super::patience::Impatient;
use super::slots::{InUse, Slot, Slots};
use crate::limits::{
    FAREWELL_TIMEOUT, HTTP_BODY_TIMEOUT, HTTP_CONNECTIONS, HTTP_HEADER_BYTES, HTTP_HEADER_TIMEOUT, SEND_TIMEOUT,
};
use crate::listener::Acceptor;
use crate::tls::ReloadingTls;

/// Who sent a request. Handlers ask for it as `ConnectInfo<Peer>`.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The client's end of the connection.
    pub(crate) address: SocketAddr,
}

/// A port that is served until it is told to stop.
pub(crate) struct HttpServer {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Serves `router` on that port; with `tls`, to clients that speak TLS.
    pub(crate) fn start(acceptor: Acceptor, tls: Option<Arc<ReloadingTls>>, router: Router) -> Self {
        Self::with_places(acceptor, tls, router, HTTP_CONNECTIONS)
    }

    fn with_places(acceptor: Acceptor, tls: Option<Arc<ReloadingTls>>, router: Router, places: usize) -> Self {
        let stop = CancellationToken::new();
        let port = Port { tls, router, slots: Arc::new(Slots::new(places)), stop: stop.clone() };
        Self { stop, task: tokio::spawn(port.serve(acceptor)) }
    }

    /// Takes no more connections, lets requests that have begun end for a second, and drops what is left.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if timeout(FAREWELL_TIMEOUT, &mut self.task).await.is_err() {
            // Its connections' tasks go with it.
            self.task.abort();
        }
    }
}

/// Lets requests to `router` have bodies of so many octets; a longer one is answered by 413 where it is read, and one that
/// does not come whole within a minute by an error. What counts are the octets that come, not those that are announced.
pub(crate) fn limit_bodies(router: Router, octets: usize) -> Router {
    let limit = move |request: Request| async move {
        let in_time = |body: Body| Body::new(Impatient::new(body, HTTP_BODY_TIMEOUT));
        request.map(|body| Body::new(Limited::new(in_time(body), octets)))
    };
    router.layer(middleware::map_request(limit)).layer(DefaultBodyLimit::disable())
}

/// What the connections of a port share.
#[derive(Clone)]
struct Port {
    tls: Option<Arc<ReloadingTls>>,
    router: Router,
    slots: Arc<Slots>,
    stop: CancellationToken,
}

impl Port {
    async fn serve(self, mut acceptor: Acceptor) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                (stream, address) = acceptor.accept() => self.admit(stream, address, &mut connections),
                Some(_) = connections.join_next() => {}
                () = self.stop.cancelled() => break,
            }
        }
        drop(acceptor);
        while connections.join_next().await.is_some() {}
    }

    /// Starts the connection's task, unless all others are being answered and there is no room for one more.
    fn admit(&self, stream: TcpStream, address: SocketAddr, connections: &mut JoinSet<()>) {
        let Some(slot) = Slots::enter(&self.slots) else {
            debug!(peer = %address, "too many HTTP requests are being answered; closing this connection");
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(peer = %address, %error, "the connection is gone already");
            return;
        }
        let peer = Peer { address };
        let span = error_span!("http", peer = %peer.address);
        connections.spawn(self.clone().connection(stream, peer, slot).instrument(span));
    }

    async fn connection(self, stream: TcpStream, peer: Peer, slot: Slot) {
        let shed = slot.shed();
        let served = async {
            match &self.tls {
                None => self.talk(stream, peer, slot).await,
                Some(tls) => match timeout(HTTP_HEADER_TIMEOUT, tls.acceptor().accept(stream)).await {
                    Ok(Ok(stream)) => self.talk(Box::new(stream), peer, slot).await,
                    Ok(Err(error)) => tls.tell_failure(peer.address.ip(), Some(&error)),
                    Err(_) => tls.tell_failure(peer.address.ip(), None),
                },
            }
        };
        tokio::select! {
            () = served => {}
            () = shed.cancelled() => debug!("closing a connection without a request: others need its place"),
        }
    }

    async fn talk<S>(&self, stream: S, peer: Peer, slot: Slot)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone();
        let slot = Arc::new(slot);
        let service =
            hyper::service::service_fn(move |request| answer(router.clone(), peer.clone(), Arc::clone(&slot), request));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HTTP_HEADER_TIMEOUT)
            .max_buf_size(HTTP_HEADER_BYTES)
            .max_header_size(HTTP_HEADER_BYTES);
        let stream = TokioIo::new(Impatient::new(stream, SEND_TIMEOUT));
        let mut connection = std::pin::pin!(http.serve_connection(stream, service));
        let served = tokio::select! {
            served = &mut connection => served,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            debug!(%error, "an HTTP connection ended early");
        }
    }
}

/// An answer with this extension comes as long as it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endless;

/// Answers one request. Its connection counts as in use until the answer is written.
fn answer(
    router: Router,
    peer: Peer,
    slot: Arc<Slot>,
    request: hyper::Request<Incoming>,
) -> BoxFuture<'static, Result<Response<InUse<Body>>, std::convert::Infallible>> {
    Box::pin(async move {
        let in_use = Slot::begin(slot);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = router.oneshot(request).await?;
        let is_endless = response.extensions().get::<Endless>().is_some();
        Ok(response.map(|body| if is_endless { InUse::endless(body, in_use) } else { InUse::new(body, in_use) }))
    })
}

#[cfg(test)]
mod tests;
