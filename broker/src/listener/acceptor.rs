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
    /// `None`: it takes whatever comes.
    bounds: Option<Bounds>,
    told: Option<Instant>,
    metrics: Metrics,
}

/// How many connections a port takes.
struct Bounds {
    rate: Rate,
    /// When the port's rate is used up, in the sense of [`Rate`].
    used_until: Instant,
    sources: Sources,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener, config: &AcceptConfig, metrics: Metrics) -> Self {
        let rate = Rate::new(config.per_second, ACCEPT_BURST);
        let bounds = Bounds { rate, used_until: Instant::now(), sources: Sources::new(config) };
        Self { listener, bounds: Some(bounds), told: None, metrics }
    }

    /// That of a port where nobody waits for others, nor is counted with those who share his address. What a connection costs
    /// there has to be bounded otherwise.
    pub(crate) fn unlimited(listener: TcpListener, metrics: Metrics) -> Self {
        Self { listener, bounds: None, told: None, metrics }
    }

    /// The next connection. Nothing is lost if the future is dropped.
    pub(crate) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if let Some(bounds) = &self.bounds {
                let free_at = bounds.rate.free_at(bounds.used_until);
                // A timer takes a millisecond, also for what is past.
                if free_at > Instant::now() {
                    sleep_until(free_at).await;
                }
            }
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let now = Instant::now();
                    if self.bounds.as_mut().is_none_or(|bounds| bounds.admit(peer, now)) {
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

impl Bounds {
    /// Whether that connection may come; if so it is counted.
    fn admit(&mut self, peer: SocketAddr, now: Instant) -> bool {
        let admitted = self.sources.admits(peer.ip(), now);
        if admitted {
            self.used_until = self.rate.used(self.used_until, now);
        }
        admitted
    }
}
