//! How much was published to exchanges. Sessions count it, and hand it over when they are asked and when they end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use warren_core::session::ExchangeCounts;
use warren_core::topology::Topology;

/// Messages that came to an exchange, and copies of them that went to queues, since the process started or the exchange
/// was made, whichever is later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ExchangeCounters {
    pub(crate) published_in: u64,
    pub(crate) published_out: u64,
}

/// An exchange's virtual host and its name.
pub(crate) type ExchangeName = (Arc<str>, Arc<str>);

/// Exchanges that have been published to.
#[derive(Debug, Default)]
pub(crate) struct Exchanges(Mutex<HashMap<ExchangeName, Entry>>);

#[derive(Debug, Default)]
struct Entry {
    counters: ExchangeCounters,
    /// What they were when the last sample was taken.
    sampled: ExchangeCounters,
}

impl Exchanges {
    /// Adds what a session has counted.
    pub(crate) fn add(&self, vhost: &Arc<str>, counts: Vec<ExchangeCounts>) {
        if counts.is_empty() {
            return;
        }
        let mut entries = self.entries();
        for ExchangeCounts { exchange, published_in, published_out } in counts {
            let entry = entries.entry((Arc::clone(vhost), Arc::from(exchange))).or_default();
            entry.counters.published_in += published_in;
            entry.counters.published_out += published_out;
        }
    }

    /// What has been counted of all that have been published to.
    pub(crate) fn counters(&self) -> HashMap<ExchangeName, ExchangeCounters> {
        self.entries().iter().map(|(name, entry)| (name.clone(), entry.counters)).collect()
    }

    /// What was counted since this was last called; exchanges that are gone are forgotten.
    pub(super) fn sample(&self, topology: &Topology) -> HashMap<ExchangeName, ExchangeCounters> {
        let mut entries = self.entries();
        entries.retain(|(vhost, name), _| topology.vhost(vhost).is_some_and(|vhost| vhost.exchange(name).is_some()));
        let changed = entries.iter_mut().filter(|(_, entry)| entry.counters != entry.sampled);
        let sampled = changed.map(|(name, entry)| {
            let before = std::mem::replace(&mut entry.sampled, entry.counters);
            let more = ExchangeCounters {
                published_in: entry.counters.published_in - before.published_in,
                published_out: entry.counters.published_out - before.published_out,
            };
            (name.clone(), more)
        });
        sampled.collect()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ExchangeName, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
