//! Accepts AMQP connections and starts a task for each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tracing::{Instrument, debug, info_span, warn};
use warren_core::ConnectionId;

use crate::connection;
use crate::limits::HANDSHAKES;
use crate::node::Shared;

/// Accepts until the node stops.
pub(crate) async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut stopping = shared.stopping();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, peer, &shared),
            Err(error) => {
                // Out of descriptors, most likely: waiting lets others close theirs.
                warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Starts the connection's task, unless too many others have not logged in yet.
fn admit(stream: TcpStream, peer: SocketAddr, shared: &Arc<Shared>) {
    if shared.handshakes.load(Ordering::Relaxed) >= HANDSHAKES {
        debug!(%peer, "too many connections are logging in; closing this one");
        return;
    }
    let id = ConnectionId(shared.last_connection.fetch_add(1, Ordering::Relaxed) + 1);
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "the connection is gone already");
        return;
    }
    let span = info_span!("connection", connection_id = id.0, %peer);
    shared.tasks.spawn(connection::serve(id, stream, peer, shared.clone()).instrument(span));
}
