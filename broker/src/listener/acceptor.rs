//! Takes connections off a port, not more in a second than there may be.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::rate::{Rate, Sources};
use crate::config::AcceptConfig;
use crate::limits::ACCEPT_BURST;
use crate::metrics::Metrics;

/// How often it is told in the log, at most, that a source connects too often.
const TOLD_INTERVAL: Duration = Duration::from_secs(60);

/// A port's acceptor.
///
/// Beyond the port's rate, connections wait in the kernel's queue, so that many who come at once are all served, one after the
/// other. Who alone comes too often is closed at once, and takes nothing of the port's rate from others.
pub(crate) struct Acceptor {
    listener: TcpListener,
    rate: Rate,
    /// When the port's rate is used up, in the sense of [`Rate`].
    used_until: Instant,
    sources: Sources,
    told: Option<Instant>,
    metrics: Metrics,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, config: &AcceptConfig, metrics: Metrics) -> Self {
        let rate = Rate::new(config.per_second, ACCEPT_BURST);
        Self { listener, rate, used_until: Instant::now(), sources: Sources::new(config), told: None, metrics }
    }

    /// The next connection. Nothing is lost if the future is dropped.
    pub(crate) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let free_at = self.rate.free_at(self.used_until);
            // A timer takes a millisecond, also for what is past.
            if free_at > Instant::now() {
                sleep_until(free_at).await;
            }
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let now = Instant::now();
                    if self.sources.admits(peer.ip(), now) {
                        self.used_until = self.rate.used(self.used_until, now);
                        return (stream, peer);
                    }
                    self.refused(peer, now);
                }
                Err(error) => {
                    // Out of descriptors, most likely: waiting lets others close theirs.
                    warn!(%error, "a connection cannot be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn refused(&mut self, peer: SocketAddr, now: Instant) {
        self.metrics.accepting.refused_by_rate.inc();
        debug!(%peer, "its source connects too often");
        if self.told.is_none_or(|told| now.duration_since(told) >= TOLD_INTERVAL) {
            self.told = Some(now);
            warn!(
                %peer,
                "a source connects more often than accept.per_second_and_source says; its connections are closed at once"
            );
        }
    }
}
