//! Addresses whose consumers are handed nothing new, so that what runs there can end without giving anything back.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::info;
use warren_core::ConnectionId;

use crate::limits::DRAINS;
use crate::node::Shared;

/// The drains of a node, by address.
#[derive(Debug, Default)]
pub(crate) struct Drains(Mutex<BTreeMap<IpAddr, Drain>>);

#[derive(Debug)]
struct Drain {
    until: Instant,
    /// Ends it when its time is over.
    _end: AbortOnDropHandle<()>,
}

/// There are as many drains as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Drains {
    /// Consumers from `address` are handed nothing new for so long, whatever was said before. Answers how many messages
    /// the connections from there hold: once that is 0 it stays 0.
    ///
    /// # Errors
    /// There are [`DRAINS`] others.
    pub(crate) async fn begin(shared: &Arc<Shared>, address: IpAddr, time: Duration) -> Result<u64, TooMany> {
        let until = Instant::now() + time;
        {
            let mut drains = shared.drains.lock();
            if drains.len() >= DRAINS && !drains.contains_key(&address) {
                return Err(TooMany);
            }
            let node = Arc::downgrade(shared);
            let end = tokio::spawn(async move {
                sleep_until(until).await;
                if let Some(shared) = node.upgrade() {
                    // In a task of its own: this one ends with the drain.
                    tokio::spawn(async move { Self::end_if(&shared, address, |drain| drain.until == until).await });
                }
            });
            if drains.insert(address, Drain { until, _end: AbortOnDropHandle::new(end) }).is_none() {
                info!(%address, seconds = time.as_secs(), "consumers are drained");
            }
        }
        Ok(Self::held(shared, address).await)
    }

    /// How many messages the connections from `address` hold, if it is drained.
    pub(crate) async fn unacked(shared: &Shared, address: IpAddr) -> Option<u64> {
        shared.drains.left(address)?;
        Some(Self::held(shared, address).await)
    }

    async fn held(shared: &Shared, address: IpAddr) -> u64 {
        shared.statistics.drain(&shared.connections.from(address), true).await
    }

    /// Consumers from `address` are handed messages again. False: nobody had said that they are not.
    pub(crate) async fn end(shared: &Shared, address: IpAddr) -> bool {
        Self::end_if(shared, address, |_| true).await
    }

    /// A drain that was begun anew meanwhile is not the one whose time is over.
    async fn end_if(shared: &Shared, address: IpAddr, is_meant: impl Fn(&Drain) -> bool + Send) -> bool {
        let was_drained = {
            let mut drains = shared.drains.lock();
            drains.get(&address).is_some_and(is_meant) && drains.remove(&address).is_some()
        };
        if was_drained {
            info!(%address, "consumers are served again");
            shared.statistics.drain(&shared.connections.from(address), false).await;
        }
        was_drained
    }

    /// A connection is there that was not before. To be called before it asks the shards for anything.
    pub(crate) fn joined(shared: &Shared, connection: ConnectionId, address: IpAddr) {
        if shared.drains.left(address.to_canonical()).is_some() {
            shared.statistics.drain_new(connection);
        }
    }

    /// The addresses that are drained, and for how long they will be.
    pub(crate) fn all(&self) -> Vec<(IpAddr, Duration)> {
        let now = Instant::now();
        self.lock().iter().map(|(address, drain)| (*address, drain.until.saturating_duration_since(now))).collect()
    }

    /// For how long an address will be drained; `None`: it is not.
    pub(crate) fn left(&self, address: IpAddr) -> Option<Duration> {
        self.lock().get(&address).map(|drain| drain.until.saturating_duration_since(Instant::now()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Drain>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
