//! Accepts AMQP connections and starts a task for each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, debug, error_span, info, warn};
use warren_core::ConnectionId;
use warren_core::limits::HANDSHAKE_MILLIS;

use crate::config::CertificateLogin;
use crate::connection;
use crate::limits::HANDSHAKES;
use crate::node::Shared;
use crate::statistics::connection::{ConnectionFacts, Meter, TlsFacts};
use crate::tls::{self, ReloadingTls};

/// Accepts until the node stops; with `tls`, clients that speak TLS.
pub(crate) async fn listen(listener: TcpListener, tls: Option<Arc<ReloadingTls>>, shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, peer, tls.as_deref(), &shared),
            Err(error) => {
                // Out of descriptors, most likely: waiting lets others close theirs.
                warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Starts the connection's task, unless too many others have not logged in yet.
fn admit(stream: TcpStream, peer: SocketAddr, tls: Option<&ReloadingTls>, shared: &Arc<Shared>) {
    let Some(handshake) = InHandshake::begin(shared) else {
        debug!(%peer, "too many connections are logging in; closing this one");
        return;
    };
    let id = ConnectionId(shared.last_connection.fetch_add(1, Ordering::Relaxed) + 1);
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "the connection is gone already");
        return;
    }
    let Ok(local) = stream.local_addr() else {
        debug!(%peer, "the connection is gone already");
        return;
    };
    let facts = ConnectionFacts {
        id,
        peer,
        local,
        connected_at_ms: shared.clock.unix_millis(),
        tls: None,
        meter: Meter::default(),
    };
    let span = error_span!("connection", connection_id = id.0, %peer);
    match tls {
        None => shared.tasks.spawn(connection::serve(facts, stream, handshake).instrument(span)),
        Some(tls) => {
            shared.tasks.spawn(serve_tls(facts, stream, (tls.acceptor(), tls.login_from()), handshake).instrument(span))
        }
    };
}

/// Speaks TLS with the client before anything else.
async fn serve_tls(
    facts: ConnectionFacts,
    stream: TcpStream,
    tls: (TlsAcceptor, Option<CertificateLogin>),
    handshake: InHandshake,
) {
    let (tls, login_from) = tls;
    let mut stopping = handshake.node().stopping();
    let accepted = tokio::select! {
        accepted = timeout(Duration::from_millis(HANDSHAKE_MILLIS), tls.accept(stream)) => accepted,
        _ = stopping.wait_for(|stopping| *stopping) => return,
    };
    match accepted {
        // It is large, and most connections have none.
        Ok(Ok(stream)) => {
            let facts = ConnectionFacts { tls: TlsFacts::of(stream.get_ref().1, login_from), ..facts };
            connection::serve(facts, Box::new(stream), handshake).await;
        }
        Ok(Err(error)) if tls::is_plain_text(&error) => {
            info!("the client does not speak TLS, and this port takes nothing else; has it been given the wrong port?");
        }
        Ok(Err(error)) => info!(%error, "the TLS handshake failed"),
        Err(_) => info!("the client did not finish its TLS handshake in time"),
    }
}

/// A connection that counts among those that have not opened a virtual host, as long as the value lives.
pub(crate) struct InHandshake {
    node: Arc<Shared>,
    /// When it was accepted: TLS and the login together have [`HANDSHAKE_MILLIS`].
    pub(crate) accepted: warren_core::Instant,
}

impl InHandshake {
    /// `None`: there are as many as there may be.
    pub(crate) fn begin(shared: &Arc<Shared>) -> Option<Self> {
        let one_more = |count| (count < HANDSHAKES).then_some(count + 1);
        shared.handshakes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self { node: Arc::clone(shared), accepted: shared.now() })
    }

    /// The node that it connects to.
    pub(crate) fn node(&self) -> &Arc<Shared> {
        &self.node
    }
}

impl Drop for InHandshake {
    fn drop(&mut self) {
        self.node.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}
