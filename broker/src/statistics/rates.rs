//! How fast things happen: what was counted in the last [`SAMPLE_INTERVAL`], of what was active in it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use warren_core::queue::QueueSample;
use warren_core::session::{ChannelCounters, SessionStatistics};
use warren_core::{ConnectionId, QueueId};

use super::Statistics;
use super::connection::Metered;
use super::exchange::{ExchangeCounters, ExchangeName};
use crate::limits::SAMPLE_INTERVAL;
use crate::metrics::Traffic;

/// What happened in the last interval that is over. What is not named was idle.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// How long the interval was; 0 before the first is over.
    pub(crate) seconds: f64,
    pub(crate) queues: HashMap<QueueId, QueueSample>,
    /// Octets.
    pub(crate) connections: HashMap<ConnectionId, Metered>,
    pub(crate) channels: HashMap<(ConnectionId, u16), ChannelCounters>,
    /// By virtual host and name.
    pub(crate) exchanges: HashMap<ExchangeName, ExchangeCounters>,
    /// Of the node as a whole.
    pub(crate) traffic: Traffic,
}

impl Rates {
    /// So many in the interval, by the second.
    pub(crate) fn per_second(&self, count: impl Into<i128>) -> f64 {
        if self.seconds > 0.0 { count.into() as f64 / self.seconds } else { 0.0 }
    }
}

/// What was known of connections at the end of the last interval.
#[derive(Debug, Default)]
struct Before {
    meters: HashMap<ConnectionId, Metered>,
    sessions: HashMap<ConnectionId, Arc<SessionStatistics>>,
    traffic: Traffic,
}

/// Looks every [`SAMPLE_INTERVAL`]. Of a node on which nothing happens it reads a few flags and wakes nobody.
pub(crate) async fn sample(statistics: Arc<Statistics>) {
    let mut interval = interval_at(Instant::now() + SAMPLE_INTERVAL, SAMPLE_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = Before::default();
    let mut started = Instant::now();
    loop {
        interval.tick().await;
        let now = Instant::now();
        let rates = statistics.look(&mut before, now - started).await;
        started = now;
        statistics.rates.store(Arc::new(rates));
    }
}

impl Statistics {
    /// What happened since it looked before, which was so long ago.
    async fn look(&self, before: &mut Before, elapsed: Duration) -> Rates {
        let mut rates = Rates { seconds: elapsed.as_secs_f64(), ..Rates::default() };
        let traffic = self.traffic();
        rates.traffic = traffic.since(&std::mem::replace(&mut before.traffic, traffic));
        rates.queues = self.sample_queues().await;
        self.look_at_connections(before, &mut rates).await;
        rates.exchanges = self.exchanges.sample(&self.topology.load());
        rates
    }

    async fn look_at_connections(&self, before: &mut Before, rates: &mut Rates) {
        let live = self.connections.all();
        let mut active = Vec::new();
        for facts in &live {
            let now = facts.meter.read();
            let last = before.meters.insert(facts.id, now).unwrap_or_default();
            if now != last {
                rates.connections.insert(facts.id, now.since(&last));
                active.push(facts.id);
            }
        }
        let ids: HashSet<_> = live.iter().map(|facts| facts.id).collect();
        before.meters.retain(|id, _| ids.contains(id));
        before.sessions.retain(|id, _| ids.contains(id));
        self.sessions.retain(&ids);
        for (id, session) in self.sessions.ask(active).await {
            let last = before.sessions.insert(id, Arc::clone(&session));
            let last = last.as_ref().map_or(&[][..], |last| &last.channels);
            for channel in &session.channels {
                let last = last.binary_search_by_key(&channel.number, |last| last.number).ok().map(|at| &last[at]);
                let counters = last.map(|last| last.counters).unwrap_or_default();
                rates.channels.insert((id, channel.number), channel.counters.since(&counters));
            }
        }
    }
}

impl Metered {
    fn since(&self, before: &Self) -> Self {
        Self {
            received_bytes: self.received_bytes.wrapping_sub(before.received_bytes),
            received_count: self.received_count.wrapping_sub(before.received_count),
            sent_bytes: self.sent_bytes.wrapping_sub(before.sent_bytes),
            sent_count: self.sent_count.wrapping_sub(before.sent_count),
            unsent_bytes: self.unsent_bytes,
        }
    }
}
