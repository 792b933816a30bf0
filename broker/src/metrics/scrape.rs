//! The pages that Prometheus reads: `/metrics` with sums over everything, `/metrics/per-object` and `/metrics/detailed` with
//! a sample for each object (RabbitMQ's names for all three).
//!
//! The last two are written while they are sent, in pieces of [`SCRAPE_PIECE_BYTES`], from one shard's queues at a time: what
//! they take of memory does not grow with the number of queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use warren_core::ShardId;
use warren_core::queue::{DeadLettering, ForwardReason, QueueFilter, QueueKind, ShardSummary};
use warren_core::topology::{QueueRecord, Topology};

use super::clients::{CHANNELS, CONNECTIONS};
use super::node::{self, NODE, NodeView, RAFT, RAFT_SYSTEMS};
use super::page::{self, Gone, Pieces};
use super::queues::{COUNTERS, GAUGES, GLOBAL, KINDS, QueueFamily};
use super::selection::Selection;
use super::text::{Family, Text};
use crate::limits::SCRAPE_PIECE_BYTES;
use crate::node::{RABBITMQ_VERSION, Shared, name};
use crate::statistics::{self, ShardReport};

const PREFIX: &str = "rabbitmq_";
const DETAILED_PREFIX: &str = "rabbitmq_detailed_";
const CLUSTER_PREFIX: &str = "rabbitmq_cluster_";

const IDENTITY: Family = Family::gauge("identity_info", "Who says this: the node, its cluster and the page");
const BUILD: Family =
    Family::gauge("build_info", "The release of the broker, and the one of RabbitMQ that it behaves like");
const QUEUE_INFO: Family = Family::gauge("queue_info", "The type of a queue");
const EXCHANGE_PUBLISHED: Family =
    Family::counter("exchange_messages_published_total", "Messages published to exchanges");
const CONFIRMED: Family = Family::counter(
    "global_messages_dead_lettered_confirmed_total",
    "Dead letters that have reached their next queues, of queues whose strategy is at-least-once",
);
const VHOST_STATUS: Family = Family::gauge("vhost_status", "1 for each virtual host that is there");
const EXCHANGE_NAME: Family = Family::gauge("exchange_name", "1 for each exchange that is there");
const EXCHANGE_BINDINGS: Family = Family::gauge("exchange_bindings", "Bindings that lead from an exchange");

/// Why messages die.
const DEATHS: [(Family, ForwardReason); 4] = [
    (
        Family::counter("global_messages_dead_lettered_rejected_total", "Messages that were rejected for good"),
        ForwardReason::Rejected,
    ),
    (
        Family::counter("global_messages_dead_lettered_expired_total", "Messages whose time was over"),
        ForwardReason::Expired,
    ),
    (
        Family::counter("global_messages_dead_lettered_maxlen_total", "Messages that were too many for their queue"),
        ForwardReason::MaxLength,
    ),
    (
        Family::counter("global_messages_dead_lettered_delivery_limit_total", "Messages that came back too often"),
        ForwardReason::DeliveryLimit,
    ),
];

const STRATEGIES: [(DeadLettering, &str); 3] = [
    (DeadLettering::None, "disabled"),
    (DeadLettering::AtMostOnce, "at_most_once"),
    (DeadLettering::AtLeastOnce, "at_least_once"),
];

/// `/metrics`.
///
/// # Errors
/// A metric of the registry cannot be written as text, which is a defect.
pub(crate) async fn aggregated(shared: &Shared) -> Result<String, prometheus::Error> {
    let view = view(shared).await;
    let summary = statistics::sum(&view.shards);
    let mut text = Text::new(PREFIX);
    info(&mut text, "aggregated");
    write_node(&mut text, &view, &Selection::all());
    for family in node::CHANNEL_SUMS {
        text.one(&family.family, family.labels, (family.of)(&view));
    }
    connection_sums(&mut text, shared, &view);
    for QueueFamily { family, of_all, .. } in GAUGES.iter().chain(&COUNTERS) {
        if let Some(of_all) = of_all {
            text.one(family, &[], of_all(&summary));
        }
    }
    let published: u64 = shared.statistics.exchanges().values().map(|exchange| exchange.counters.published_in).sum();
    text.one(&EXCHANGE_PUBLISHED, &[], published as f64);
    write_global(&mut text, &summary, shared.metrics.dead_letters_arrived());
    node::message_sizes(&view, &mut text);
    write_raft(&mut text, &view.shards, false);
    text.append(&shared.metrics.render(view.report.log_segments, view.report.log_bytes)?);
    Ok(text.take())
}

/// `/metrics/per-object`, or with a selection `/metrics/detailed`.
pub(crate) fn objects(shared: Arc<Shared>, selection: Selection, permit: OwnedSemaphorePermit) -> Body {
    page::piecewise(permit, |pieces| async {
        let page = if selection.is_all() { PREFIX } else { DETAILED_PREFIX };
        Scrape { shared, selection, text: Text::new(page), pieces }.write().await
    })
}

/// Reads what the node's metrics are read from.
async fn view(shared: &Shared) -> NodeView {
    let probe = shared.statistics.probe();
    let report = spawn_blocking(move || probe.look()).await.unwrap_or_default();
    let shards = shared.statistics.shards().await;
    let summary = statistics::sum(&shards);
    let metrics = &shared.metrics;
    let memory = shared.alarms.memory();
    NodeView {
        report,
        traffic: metrics.traffic(),
        sizes: metrics.message_sizes(),
        shards,
        connections_opened: metrics.connections_opened.get(),
        connections_closed: metrics.connections_closed.get(),
        channels: u64::try_from(metrics.channels.get()).unwrap_or_default(),
        publishers: u64::try_from(metrics.publishers.get()).unwrap_or_default(),
        logins_succeeded: metrics.logins.succeeded(),
        logins_failed: metrics.logins.failed(),
        consumers: summary.totals.consumers,
        queues: summary.totals.queues,
        memory_used: memory.used,
        memory_limit: memory.watermark,
        disk_alarm: metrics.disk_alarm.get(),
        memory_alarm: metrics.memory_alarm.get(),
    }
}

/// Who says it. These names are the same on every page.
fn info(text: &mut Text, endpoint: &str) {
    let identity = [("rabbitmq_node", name()), ("rabbitmq_cluster", name()), ("rabbitmq_endpoint", endpoint)];
    text.one(&IDENTITY, &identity, 1.0);
    let build = [("rabbitmq_version", RABBITMQ_VERSION), ("warren_version", env!("CARGO_PKG_VERSION"))];
    text.one(&BUILD, &build, 1.0);
}

fn write_node(text: &mut Text, view: &NodeView, selection: &Selection) {
    for family in NODE.iter().filter(|family| selection.asks_for(&[family.asked_by])) {
        text.one(&family.family, family.labels, (family.of)(view));
    }
}

/// Octets through all connections that there ever were.
fn connection_sums(text: &mut Text, shared: &Shared, view: &NodeView) {
    let live = shared.connections.all().iter().map(|facts| facts.meter.read()).collect::<Vec<_>>();
    let traffic = &view.traffic;
    let sums = [
        traffic.closed_received_bytes + live.iter().map(|meter| meter.received_bytes).sum::<u64>(),
        traffic.closed_sent_bytes + live.iter().map(|meter| meter.sent_bytes).sum::<u64>(),
        traffic.closed_received_count + live.iter().map(|meter| meter.received_count).sum::<u64>(),
        traffic.closed_sent_count + live.iter().map(|meter| meter.sent_count).sum::<u64>(),
        view.channels,
    ];
    for (family, sum) in CONNECTIONS.iter().zip(sums) {
        text.one(&family.family, &[], sum as f64);
    }
}

/// RabbitMQ's counters by protocol and type of queue.
fn write_global(text: &mut Text, summary: &ShardSummary, arrived: u64) {
    for global in GLOBAL {
        text.family(&global.family);
        for (kind, queue_type) in KINDS {
            let labels = [("protocol", "amqp091"), ("queue_type", queue_type)];
            text.sample(global.family.name, &labels, (global.of)(&summary.kinds[kind as usize]) as f64);
        }
    }
    for (family, reason) in DEATHS {
        text.family(&family);
        for (kind, queue_type) in &KINDS[..2] {
            let fits = |(strategy, _): &&(DeadLettering, &str)| {
                *kind == QueueKind::Quorum || *strategy != DeadLettering::AtLeastOnce
            };
            for (strategy, strategy_name) in STRATEGIES.iter().filter(fits) {
                let labels = [("queue_type", *queue_type), ("dead_letter_strategy", *strategy_name)];
                text.sample(family.name, &labels, summary.deaths.of(*kind, *strategy, reason) as f64);
            }
        }
    }
    let labels = [("queue_type", "rabbit_quorum_queue"), ("dead_letter_strategy", "at_least_once")];
    text.one(&CONFIRMED, &labels, arrived as f64);
}

/// The Raft groups, each or by what they are for, under both names.
fn write_raft(text: &mut Text, shards: &[ShardReport], each: bool) {
    let system = |shard: &ShardReport| RAFT_SYSTEMS[usize::from(shard.shard != ShardId::METADATA)];
    for raft in RAFT {
        for family in [raft.old, raft.new] {
            text.family(&family);
            if each {
                for shard in shards {
                    let ((module, system), number) = (system(shard), shard.shard.0.to_string());
                    let labels = [("module", module), ("ra_system", system), ("shard", &number)];
                    text.sample(family.name, &labels, (raft.of)(shard));
                }
                continue;
            }
            for (module, ra_system) in RAFT_SYSTEMS {
                let of_system = shards.iter().filter(|shard| system(shard).1 == ra_system);
                let values: Vec<f64> = of_system.map(raft.of).collect();
                text.sample(family.name, &[("module", module), ("ra_system", ra_system)], (raft.of_all)(&values));
            }
        }
    }
}

/// A page that is being written for somebody who reads it.
struct Scrape {
    shared: Arc<Shared>,
    selection: Selection,
    text: Text,
    pieces: Pieces,
}

impl Scrape {
    async fn write(&mut self) -> Result<(), Gone> {
        let topology = self.shared.topology.load_full();
        let mut own = Text::new(PREFIX);
        info(&mut own, if self.selection.is_all() { "per-object" } else { "detailed" });
        self.text.append(&own.take());
        let view = view(&self.shared).await;
        write_node(&mut self.text, &view, &self.selection);
        if self.selection.asks_for(&["ra_metrics"]) {
            write_raft(&mut self.text, &view.shards, true);
        }
        if self.selection.is_all() {
            let summary = statistics::sum(&view.shards);
            write_global(&mut self.text, &summary, self.shared.metrics.dead_letters_arrived());
            node::message_sizes(&view, &mut self.text);
            // Metrics of the registry can be written: the other page has them too.
            let own = self.shared.metrics.render(view.report.log_segments, view.report.log_bytes);
            self.text.append(&own.unwrap_or_default());
        }
        self.pass_on().await?;
        self.write_queues(&topology).await?;
        self.write_clients().await?;
        self.write_exchanges(&topology).await?;
        self.flush().await
    }

    /// Family by family, since the format wants all samples of one together, and shard by shard.
    async fn write_queues(&mut self, topology: &Topology) -> Result<(), Gone> {
        let families = GAUGES.iter().chain(&COUNTERS).filter(|family| self.selection.asks_for(family.asked_by));
        for family in families.collect::<Vec<_>>() {
            self.text.family(&family.family);
            self.write_queue_samples(topology, |queue, text, labels| {
                if let Some(value) = (family.of)(queue) {
                    text.sample(family.family.name, labels, value);
                }
            })
            .await?;
        }
        if self.selection.asks_for(&["queue_metrics"]) {
            self.text.family(&QUEUE_INFO);
            self.write_queue_samples(topology, |queue, text, labels| {
                let kind = topology.settings(&queue.record).kind;
                let queue_type = KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name);
                let [vhost, queue] = *labels;
                let labels = [vhost, queue, ("queue_type", queue_type), ("membership", "leader")];
                text.sample(QUEUE_INFO.name, &labels, 1.0);
            })
            .await?;
        }
        Ok(())
    }

    async fn write_queue_samples(
        &mut self,
        topology: &Topology,
        write: impl Fn(&statistics::QueueReport, &mut Text, &[(&str, &str); 2]),
    ) -> Result<(), Gone> {
        let filter = QueueFilter::default();
        for shard in self.shared.statistics.shard_ids() {
            let queues = self.shared.statistics.queues_of(shard, topology, &filter).await;
            for queue in &queues {
                let QueueRecord { vhost, name, .. } = &*queue.record;
                if self.selection.takes_queue(vhost, name) {
                    write(queue, &mut self.text, &[("vhost", vhost), ("queue", name)]);
                    self.pass_on().await?;
                }
            }
        }
        Ok(())
    }

    async fn write_clients(&mut self) -> Result<(), Gone> {
        let selection = &self.selection;
        let connection_families: Vec<_> =
            CONNECTIONS.iter().filter(|family| selection.asks_for(&[family.asked_by])).collect();
        let channel_families: Vec<_> =
            CHANNELS.iter().filter(|family| selection.asks_for(&[family.asked_by])).collect();
        if connection_families.is_empty() && channel_families.is_empty() {
            return Ok(());
        }
        let connections = self.shared.statistics.connections(|_| true).await;
        for family in connection_families {
            self.text.family(&family.family);
            for connection in &connections {
                let name = connection.facts.name();
                self.text.sample(family.family.name, &[("connection", &name)], (family.of)(connection));
                self.pass_on().await?;
            }
        }
        let channels = self.shared.statistics.channels(&connections);
        for family in channel_families {
            self.text.family(&family.family);
            for channel in &channels {
                let name = format!("{} ({})", channel.connection.name(), channel.channel.number);
                self.text.sample(family.family.name, &[("channel", &name)], (family.of)(channel));
                self.pass_on().await?;
            }
        }
        Ok(())
    }

    async fn write_exchanges(&mut self, topology: &Topology) -> Result<(), Gone> {
        if self.selection.asks_for(&["exchange_metrics"]) {
            let exchanges: BTreeMap<_, _> = self.shared.statistics.exchanges().into_iter().collect();
            self.text.family(&EXCHANGE_PUBLISHED);
            for ((vhost, exchange), report) in &exchanges {
                if self.selection.takes_vhost(vhost) {
                    let labels = [("vhost", &**vhost), ("exchange", exchange)];
                    self.text.sample(EXCHANGE_PUBLISHED.name, &labels, report.counters.published_in as f64);
                    self.pass_on().await?;
                }
            }
        }
        if self.selection.is_all() {
            return Ok(());
        }
        // These have a prefix of their own, and are not among all.
        let mut text = Text::new(CLUSTER_PREFIX);
        if self.selection.asks_for(&["vhost_status"]) {
            text.family(&VHOST_STATUS);
            for vhost in topology.vhosts().filter(|vhost| self.selection.takes_vhost(vhost.name())) {
                text.sample(VHOST_STATUS.name, &[("vhost", vhost.name())], 1.0);
            }
        }
        for (asked_by, family) in [("exchange_names", EXCHANGE_NAME), ("exchange_bindings", EXCHANGE_BINDINGS)] {
            if self.selection.asks_for(&[asked_by]) {
                text.family(&family);
                self.write_exchange_samples(topology, &family, &mut text).await?;
            }
        }
        self.text.append(&text.take());
        Ok(())
    }

    async fn write_exchange_samples(
        &mut self,
        topology: &Topology,
        family: &Family,
        text: &mut Text,
    ) -> Result<(), Gone> {
        let vhosts: Vec<_> = topology.vhosts().filter(|vhost| self.selection.takes_vhost(vhost.name())).collect();
        for vhost in vhosts {
            let mut bindings: BTreeMap<Arc<str>, u64> = BTreeMap::new();
            vhost.bindings().for_each(|binding| *bindings.entry(binding.source).or_default() += 1);
            for exchange in vhost.exchanges().filter(|exchange| !exchange.name.is_empty()) {
                let labels = [("vhost", &**vhost.name()), ("exchange", &exchange.name), ("type", exchange.type_name())];
                let count = bindings.get(&exchange.name).copied().unwrap_or_default();
                text.sample(family.name, &labels, if family.name == EXCHANGE_NAME.name { 1.0 } else { count as f64 });
                if text.len() >= SCRAPE_PIECE_BYTES {
                    self.text.append(&text.take());
                    self.pass_on().await?;
                }
            }
        }
        Ok(())
    }

    /// Sends what has been written, if it is enough.
    async fn pass_on(&mut self) -> Result<(), Gone> {
        if self.text.len() < SCRAPE_PIECE_BYTES { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        let piece = Bytes::from(self.text.take());
        self.pieces.send(piece).await
    }
}
