//! Accepts AMQP connections and starts a task for each.

mod acceptor;
mod half_open;
mod rate;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{Instrument, debug, error_span};
use warren_core::ConnectionId;
use warren_core::limits::HANDSHAKE_MILLIS;

use crate::connection;
use crate::node::Shared;
use crate::statistics::connection::{ConnectionFacts, TlsFacts};
use crate::tls::ReloadingTls;

pub(crate) use acceptor::Acceptor;
pub(crate) use half_open::HalfOpen;
use half_open::{ClientStream, Handshake};

/// Accepts until the node stops; with `tls`, clients that speak TLS.
pub(crate) async fn listen(mut acceptor: Acceptor, tls: Option<Arc<ReloadingTls>>, shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    loop {
        let next = async {
            let (stream, peer) = acceptor.accept().await;
            admit(stream, peer, tls.as_ref(), &shared).await;
        };
        tokio::select! {
            () = next => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// Starts the connection's task, as soon as there is a place among those that are half open.
async fn admit(stream: TcpStream, peer: SocketAddr, tls: Option<&Arc<ReloadingTls>>, shared: &Arc<Shared>) {
    let id = ConnectionId(shared.last_connection.fetch_add(1, Ordering::Relaxed) + 1);
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "the connection is gone already");
        return;
    }
    let Ok(local) = stream.local_addr() else {
        debug!(%peer, "the connection is gone already");
        return;
    };
    let facts = ConnectionFacts::new(id, (peer, local), shared.clock.unix_millis());
    let span = error_span!("connection", connection_id = id.0, %peer);
    let (handshake, stream) = InHandshake::begin(shared, id, stream).await;
    match tls {
        None => shared.tasks.spawn(connection::serve(facts, stream, handshake).instrument(span)),
        Some(tls) => shared.tasks.spawn(serve_tls(facts, stream, Arc::clone(tls), handshake).instrument(span)),
    };
}

/// Speaks TLS with the client before anything else.
async fn serve_tls(facts: ConnectionFacts, stream: ClientStream, tls: Arc<ReloadingTls>, handshake: InHandshake) {
    let mut stopping = handshake.node().stopping();
    let accepted = tokio::select! {
        accepted = timeout(Duration::from_millis(HANDSHAKE_MILLIS), tls.acceptor().accept(stream)) => accepted,
        _ = stopping.wait_for(|stopping| *stopping) => return,
    };
    match accepted {
        // It is large, and most connections have none.
        Ok(Ok(stream)) => {
            let facts = ConnectionFacts { tls: TlsFacts::of(stream.get_ref().1, tls.login_from()), ..facts };
            connection::serve(facts, Box::new(stream), handshake).await;
        }
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionAborted => {
            debug!(%error, "the TLS handshake is cut off")
        }
        Ok(Err(error)) => tls.tell_failure(facts.peer.ip(), Some(&error)),
        Err(_) => tls.tell_failure(facts.peer.ip(), None),
    }
}

/// A connection that has not opened a virtual host, as long as the value lives.
pub(crate) struct InHandshake {
    node: Arc<Shared>,
    /// When it was accepted: TLS and the login together have [`HANDSHAKE_MILLIS`].
    pub(crate) accepted: warren_core::Instant,
    /// Its place among those of clients; one inside the broker has none.
    place: Option<(ConnectionId, Arc<Handshake>)>,
}

impl InHandshake {
    /// That of a client, and its socket, which is watched until then.
    async fn begin(shared: &Arc<Shared>, connection: ConnectionId, stream: TcpStream) -> (Self, ClientStream) {
        let handshake = shared.half_open.begin(connection, &shared.metrics).await;
        let stream = ClientStream::new(stream, Arc::clone(&handshake));
        let place = Some((connection, handshake));
        (Self { node: Arc::clone(shared), accepted: shared.now(), place }, stream)
    }

    /// That of a connection that begins and ends in this process.
    pub(crate) fn inside(shared: &Arc<Shared>) -> Self {
        Self { node: Arc::clone(shared), accepted: shared.now(), place: None }
    }

    /// Ready when its place is another's: it has to go.
    pub(crate) fn poll_shed(&self, context: &Context<'_>) -> Poll<()> {
        self.place.as_ref().map_or(Poll::Pending, |(_, handshake)| handshake.poll_shed(context))
    }

    /// The node that it connects to.
    pub(crate) fn node(&self) -> &Arc<Shared> {
        &self.node
    }
}

impl Drop for InHandshake {
    fn drop(&mut self) {
        if let Some((connection, handshake)) = &self.place {
            self.node.half_open.end(*connection, handshake);
        }
    }
}
