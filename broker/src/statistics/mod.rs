//! What the node says about itself when somebody asks: the management API and Prometheus both read it here.
//!
//! Shards and connections answer for themselves, in the order in which they do everything else; nothing is kept twice. What
//! is kept is the last sample of what was active ([`Rates`]), and what connections said when it was taken: one that is held up
//! is shown as it was then.

pub(crate) mod connection;
pub(crate) mod exchange;
pub(crate) mod node;
mod rates;
mod sessions;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::join_all;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, oneshot};
use warren_core::queue::{ConsumerStatistics, QueueFilter, QueueSample, QueueStatistics, ShardSummary};
use warren_core::session::{ChannelCounters, ChannelStatistics, SessionStatistics, SubscriberStatistics};
use warren_core::topology::{QueueRecord, Topology};
use warren_core::{ConnectionId, ConsumerKey, QueueId, ShardId};
use warren_replication::Standing;

use crate::connections::Connections;
#[cfg(doc)]
use crate::limits::SAMPLE_INTERVAL;
use crate::log::LogSignal;
use crate::metrics::{Metrics, Traffic};
use connection::{ConnectionFacts, Metered};
use exchange::{ExchangeCounters, ExchangeName, Exchanges};
use node::NodeProbe;
pub(crate) use rates::{Rates, sample};
use sessions::{Descriptions, Sessions};
use watch::Watchers;

/// Where the node's counts are, and how fast they grow.
pub(crate) struct Statistics {
    topology: Arc<ArcSwap<Topology>>,
    connections: Arc<Connections>,
    /// By shard number, the metadata's first.
    signals: Vec<UnboundedSender<LogSignal>>,
    /// By shard number: it has done something since the last sample.
    busy: Vec<AtomicBool>,
    watchers: Watchers,
    rates: ArcSwap<Rates>,
    probe: NodeProbe,
    metrics: Metrics,
    pub(crate) exchanges: Exchanges,
    sessions: Sessions,
}

/// What a shard says of itself as a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShardReport {
    pub(crate) shard: ShardId,
    pub(crate) summary: ShardSummary,
    pub(crate) raft: RaftReport,
}

/// How far a shard's Raft group is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RaftReport {
    pub(crate) standing: Standing,
    /// The last entry that a checkpoint was given.
    pub(crate) snapshot: u64,
    /// How long the last entry took to be committed.
    pub(crate) commit_latency: Duration,
}

/// A queue, and how fast things happen in it.
#[derive(Debug, Clone)]
pub(crate) struct QueueReport {
    pub(crate) record: Arc<QueueRecord>,
    pub(crate) statistics: QueueStatistics,
    /// What happened in the last interval.
    pub(crate) sample: QueueSample,
    /// The fraction of the last interval in which consumers could have taken more: RabbitMQ's `consumer_capacity`.
    pub(crate) consumer_capacity: f64,
}

/// A connection, as far as is known.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionReport {
    pub(crate) facts: Arc<ConnectionFacts>,
    /// What has gone through its socket.
    pub(crate) metered: Metered,
    /// Of that, what went in the last interval.
    pub(crate) sample: Metered,
    /// `None`: it is new, and has not answered.
    pub(crate) session: Option<Arc<SessionStatistics>>,
}

/// A channel of a connection.
#[derive(Debug, Clone)]
pub(crate) struct ChannelReport {
    pub(crate) connection: Arc<ConnectionFacts>,
    pub(crate) session: Arc<SessionStatistics>,
    pub(crate) channel: ChannelStatistics,
    /// What happened in the last interval.
    pub(crate) sample: ChannelCounters,
}

/// A consumer, as its queue and its connection know it.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerReport {
    pub(crate) queue: Arc<QueueRecord>,
    pub(crate) connection: Arc<ConnectionFacts>,
    pub(crate) user: String,
    /// Its tag, and the arguments that it came with.
    pub(crate) subscriber: SubscriberStatistics,
    pub(crate) consumer: ConsumerStatistics,
}

/// An exchange that has been published to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ExchangeReport {
    pub(crate) counters: ExchangeCounters,
    /// What happened in the last interval.
    pub(crate) sample: ExchangeCounters,
}

impl Statistics {
    /// Of a node whose shards are reached by `signals`, the metadata's first.
    pub(crate) fn new(
        topology: Arc<ArcSwap<Topology>>,
        connections: Arc<Connections>,
        signals: Vec<UnboundedSender<LogSignal>>,
        probe: NodeProbe,
        metrics: Metrics,
    ) -> Self {
        Self {
            topology,
            sessions: Sessions::new(Arc::clone(&connections)),
            connections,
            busy: signals.iter().map(|_| AtomicBool::new(false)).collect(),
            watchers: Watchers::new(signals.len()),
            signals,
            rates: ArcSwap::default(),
            probe,
            metrics,
            exchanges: Exchanges::default(),
        }
    }

    /// A shard has something to do.
    pub(crate) fn set_busy(&self, shard: ShardId) {
        if let Some(busy) = self.busy.get(usize::from(shard.0))
            && !busy.load(Ordering::Relaxed)
        {
            busy.store(true, Ordering::Relaxed);
        }
    }

    /// Something has happened in a shard.
    pub(crate) fn tell(&self, shard: ShardId) {
        self.watchers.tell(usize::from(shard.0));
    }

    /// `watcher` is told from now on when something has happened in a shard, as long as it lives.
    pub(crate) fn watch(&self, shard: ShardId, watcher: &Arc<Notify>) {
        self.watchers.watch(usize::from(shard.0), watcher);
    }

    /// What happened in the last interval.
    pub(crate) fn rates(&self) -> Arc<Rates> {
        self.rates.load_full()
    }

    /// What the operating system knows of the node.
    pub(crate) fn probe(&self) -> NodeProbe {
        self.probe.clone()
    }

    /// What has happened since the process started.
    pub(crate) fn traffic(&self) -> Traffic {
        self.metrics.traffic()
    }

    /// The shards that hold queues.
    pub(crate) fn shard_ids(&self) -> impl Iterator<Item = ShardId> + use<> {
        (1..self.signals.len() as u16).map(ShardId)
    }

    /// How much the node holds, and what was done with its queues.
    pub(crate) async fn summary(&self) -> ShardSummary {
        sum(&self.shards().await)
    }

    /// All shards, the metadata's first.
    pub(crate) async fn shards(&self) -> Vec<ShardReport> {
        join_all(self.signals.iter().map(|shard| ask(shard, LogSignal::Summary))).await.into_iter().flatten().collect()
    }

    /// The queues of one shard, by id, as [`Self::queues`] has them.
    pub(crate) async fn queues_of(
        &self,
        shard: ShardId,
        topology: &Topology,
        filter: &QueueFilter,
    ) -> Vec<QueueReport> {
        let Some(signals) = self.signals.get(usize::from(shard.0)) else { return Vec::new() };
        let answer = ask(signals, |reply| LogSignal::Statistics(filter.clone(), reply)).await;
        self.reports(answer, topology, filter)
    }

    /// The queues that `topology` and `filter` name, by shard and id. Those that a delayed exchange waits in are not among
    /// them unless they are asked for.
    pub(crate) async fn queues(&self, topology: &Topology, filter: &QueueFilter) -> Vec<QueueReport> {
        let found = match &filter.queues {
            None => self.ask_all(|reply| LogSignal::Statistics(filter.clone(), reply)).await,
            Some(asked) => self.ask_for(topology, asked.iter().copied(), filter).await,
        };
        self.reports(found, topology, filter)
    }

    fn reports(
        &self,
        found: impl IntoIterator<Item = Vec<QueueStatistics>>,
        topology: &Topology,
        filter: &QueueFilter,
    ) -> Vec<QueueReport> {
        let rates = self.rates();
        let reports = found.into_iter().flatten().filter_map(|statistics| {
            let record = Arc::clone(topology.queue_by_id(statistics.queue)?);
            let listed = filter.queues.is_some() || record.delayed_exchange().is_none();
            listed.then(|| QueueReport::new(record, statistics, &rates))
        });
        reports.collect()
    }

    /// The connections of which `is_wanted`, by the order in which they came. Their tasks are asked, unless they were just now.
    pub(crate) async fn connections(&self, is_wanted: impl Fn(&ConnectionFacts) -> bool) -> Vec<ConnectionReport> {
        let rates = self.rates();
        let mut wanted = self.connections.all();
        wanted.retain(|facts| is_wanted(facts));
        wanted.sort_unstable_by_key(|facts| facts.id);
        let mut sessions = self.sessions.recent(wanted.iter().map(|facts| facts.id)).await;
        let reports = wanted.into_iter().map(|facts| ConnectionReport {
            metered: facts.meter.read(),
            sample: rates.connections.get(&facts.id).copied().unwrap_or_default(),
            session: sessions.remove(&facts.id),
            facts,
        });
        reports.collect()
    }

    /// All channels of these connections, by connection and number.
    pub(crate) fn channels(&self, connections: &[ConnectionReport]) -> Vec<ChannelReport> {
        let rates = self.rates();
        let of = |report: &ConnectionReport| {
            let (facts, rates) = (Arc::clone(&report.facts), Arc::clone(&rates));
            report.session.clone().into_iter().flat_map(move |session| {
                let channels = session.channels.iter().map(|channel| ChannelReport {
                    connection: Arc::clone(&facts),
                    session: Arc::clone(&session),
                    channel: channel.clone(),
                    sample: rates.channels.get(&(facts.id, channel.number)).copied().unwrap_or_default(),
                });
                channels.collect::<Vec<_>>()
            })
        };
        connections.iter().flat_map(of).collect()
    }

    /// The consumers of these queues, which were asked for with theirs, by queue.
    pub(crate) async fn consumers(&self, queues: &[QueueReport]) -> Vec<ConsumerReport> {
        let consumers = queues.iter().flat_map(|queue| &queue.statistics.consumers);
        let sessions = self.sessions_with(consumers.map(|consumer| consumer.key).collect()).await;
        let subscribers = subscribers(&sessions);
        let facts: HashMap<_, _> = self.connections.all().into_iter().map(|facts| (facts.id, facts)).collect();
        let all = queues.iter().flat_map(|queue| queue.statistics.consumers.iter().map(move |one| (queue, one)));
        let reports = all.filter_map(|(queue, consumer)| {
            // One that came or went in this moment is left out.
            let (session, subscriber) = subscribers.get(&consumer.key)?;
            Some(ConsumerReport {
                queue: Arc::clone(&queue.record),
                connection: Arc::clone(facts.get(&consumer.key.connection)?),
                user: session.user.clone(),
                subscriber: (*subscriber).clone(),
                consumer: *consumer,
            })
        });
        reports.collect()
    }

    /// The tag of a consumer; `None`: it has gone, or its connection does not answer.
    pub(crate) async fn consumer_tag(&self, key: ConsumerKey) -> Option<Arc<str>> {
        let sessions = self.sessions_with(vec![key]).await;
        subscribers(&sessions).get(&key).map(|(_, subscriber)| Arc::clone(&subscriber.tag))
    }

    /// What is known of the connections of these consumers. Those that are not known to have theirs are asked again: they may
    /// be new.
    async fn sessions_with(&self, consumers: Vec<ConsumerKey>) -> Descriptions {
        let ids: BTreeSet<_> = consumers.iter().map(|key| key.connection).collect();
        let mut sessions = self.sessions.recent(ids).await;
        let known = subscribers(&sessions);
        let unknown = consumers.iter().filter(|key| !known.contains_key(key));
        let unknown: BTreeSet<_> = unknown.map(|key| key.connection).collect();
        sessions.extend(self.sessions.ask(unknown).await);
        sessions
    }

    /// The exchanges that have been published to, by virtual host and name. What is younger than [`SAMPLE_INTERVAL`] may
    /// be missing.
    pub(crate) fn exchanges(&self) -> HashMap<ExchangeName, ExchangeReport> {
        let rates = self.rates();
        let all = self.exchanges.counters().into_iter().map(|(name, counters)| {
            let sample = rates.exchanges.get(&name).copied().unwrap_or_default();
            (name, ExchangeReport { counters, sample })
        });
        all.collect()
    }

    /// What became of the queues that were used since the last time. Shards that have done nothing are not woken.
    async fn sample_queues(&self) -> HashMap<QueueId, QueueSample> {
        let busy = self.busy.iter().zip(&self.signals).filter(|(busy, _)| busy.swap(false, Ordering::Relaxed));
        let asked = busy.map(|(_, shard)| ask(shard, LogSignal::Sample));
        let samples = join_all(asked).await.into_iter().flatten().flatten();
        samples.map(|sample| (sample.queue, sample)).collect()
    }

    /// Has the shards hand nothing to the consumers of these connections, or hand them messages again. Answers how many
    /// messages they hold.
    pub(crate) async fn drain(&self, connections: &[ConnectionId], drained: bool) -> u64 {
        let connections: Arc<[ConnectionId]> = connections.into();
        self.ask_all(|reply| LogSignal::Drain(connections.clone(), drained, reply)).await.into_iter().sum()
    }

    /// Has the shards hand nothing to the consumers of a connection that is new to them.
    pub(crate) fn drain_new(&self, connection: ConnectionId) {
        for shard in self.signals.iter().skip(1) {
            // A shard that has stopped hands out nothing, and nobody waits for the answer.
            drop(shard.send(LogSignal::Drain(Arc::new([connection]), true, oneshot::channel().0)));
        }
    }

    /// Asks all shards. One that has stopped does not answer.
    async fn ask_all<T>(&self, signal: impl Fn(oneshot::Sender<T>) -> LogSignal) -> Vec<T> {
        let shards = self.signals.iter().skip(1);
        join_all(shards.map(|shard| ask(shard, &signal))).await.into_iter().flatten().collect()
    }

    /// Asks the shards of these queues.
    async fn ask_for(
        &self,
        topology: &Topology,
        queues: impl Iterator<Item = QueueId>,
        filter: &QueueFilter,
    ) -> Vec<Vec<QueueStatistics>> {
        let mut by_shard: HashMap<ShardId, QueueFilter> = HashMap::new();
        for record in queues.filter_map(|id| topology.queue_by_id(id)) {
            let empty = || QueueFilter { queues: Some(BTreeSet::new()), ..filter.clone() };
            by_shard.entry(record.shard).or_insert_with(empty).queues.get_or_insert_default().insert(record.id);
        }
        let asked = by_shard.into_iter().filter_map(|(shard, filter)| {
            let shard = self.signals.get(usize::from(shard.0))?;
            Some(ask(shard, move |reply| LogSignal::Statistics(filter, reply)))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

/// The consumers that these connections know, with the session of each. A connection may have 65,536 of them.
fn subscribers(sessions: &Descriptions) -> HashMap<ConsumerKey, (&SessionStatistics, &SubscriberStatistics)> {
    let all =
        sessions.values().flat_map(|session| session.consumers.iter().map(move |one| (one.key, (&**session, one))));
    all.collect()
}

/// What all shards hold together.
pub(crate) fn sum(shards: &[ShardReport]) -> ShardSummary {
    let mut sum = ShardSummary::default();
    shards.iter().for_each(|shard| sum.add(&shard.summary));
    sum
}

async fn ask<T>(shard: &UnboundedSender<LogSignal>, signal: impl FnOnce(oneshot::Sender<T>) -> LogSignal) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    shard.send(signal(reply)).ok()?;
    answer.await.ok()
}

impl QueueReport {
    /// Messages that are in the log.
    pub(crate) fn persistent_messages(&self) -> u64 {
        let QueueStatistics { ready, unacked, memory_messages, .. } = self.statistics;
        (ready + unacked).saturating_sub(memory_messages)
    }

    fn new(record: Arc<QueueRecord>, statistics: QueueStatistics, rates: &Rates) -> Self {
        let idle = QueueSample { queue: record.id, counters: Default::default(), ready: 0, unacked: 0, stalled_ms: 0 };
        let sample = rates.queues.get(&record.id).copied();
        let consumer_capacity = match sample {
            _ if statistics.consumer_count == 0 => 0.0,
            Some(sample) if rates.seconds > 0.0 => {
                (1.0 - sample.stalled_ms as f64 / 1_000.0 / rates.seconds).clamp(0.0, 1.0)
            }
            _ if statistics.has_capacity => 1.0,
            _ => 0.0,
        };
        Self { record, statistics, sample: sample.unwrap_or(idle), consumer_capacity }
    }
}
