//! One node: reads the log, starts the tasks, opens the ports, and stops it all again.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::join_all;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};
use warren_core::ShardId;
use warren_core::queue::ShardInput;
use warren_core::session::MetadataRequest;
use warren_core::topology::{QueueRecord, Topology};
use warren_replication::{Group, NodeId};
use warren_storage::LogWriter;

use crate::alarms::Alarms;
use crate::alarms::memory::MemoryWatch;
use crate::authentication::{self, Authentication};
use crate::checkpoint::Checkpointer;
use crate::clock::Clock;
use crate::config::Config;
use crate::connections::Connections;
use crate::definitions::{self, Definition, Source};
use crate::drains::Drains;
use crate::forwarder::ForwarderTask;
use crate::http::server::HttpServer;
use crate::inbox::{InboxSender, inbox};
use crate::listener::HalfOpen;
use crate::log::{self, LogSignal, NodeLog, Opened};
use crate::metadata::{self, Mailbox, MetadataHandle, MetadataTask};
use crate::metrics::Metrics;
use crate::ports::{Listening, Ports, Servers, Service};
use crate::recovery::State;
use crate::shard::{ShardMessage, ShardTask};
use crate::statistics::node::NodeProbe;
use crate::statistics::{self, Statistics};
use crate::telemetry;
use crate::telemetry::traces::Traces;
use crate::tls::{ReloadingTls, TlsFiles};

/// How many shards hold queues. Each queue's record names its shard, so this may grow and must not shrink.
pub(crate) const SHARDS: NonZeroU16 = NonZeroU16::new(32).expect("32 is not 0");

/// The only node there is.
const NODE: NodeId = NodeId(1);

/// What the tasks of a node share.
pub(crate) struct Shared {
    pub(crate) topology: Arc<ArcSwap<Topology>>,
    /// By shard number; the first is the metadata's and takes nothing.
    pub(crate) shards: Vec<InboxSender>,
    pub(crate) metadata: MetadataHandle,
    pub(crate) connections: Arc<Connections>,
    pub(crate) authentication: Authentication,
    pub(crate) metrics: Metrics,
    pub(crate) statistics: Arc<Statistics>,
    /// Octets that a message's body may have.
    pub(crate) message_bytes: u64,
    pub(crate) tasks: TaskTracker,
    pub(crate) last_connection: AtomicU64,
    /// Whose consumers are handed nothing new.
    pub(crate) drains: Drains,
    /// Connections that have not opened a virtual host yet.
    pub(crate) half_open: HalfOpen,
    /// The origin of the machines' time.
    pub(crate) started: Instant,
    /// The shards' time.
    pub(crate) clock: Clock,
    /// Every address that the node listens on.
    pub(crate) listening: Vec<Listening>,
    stopping: watch::Sender<bool>,
    /// What the node is short of.
    pub(crate) alarms: Arc<Alarms>,
    /// Where spans go, if they go anywhere.
    pub(crate) traces: Option<Traces>,
}

impl Shared {
    /// Becomes true when the node stops.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// The machines' time.
    pub(crate) fn now(&self) -> warren_core::Instant {
        warren_core::Instant(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// A time of day as the machines' time, by what the clock says now. What is past is now.
    pub(crate) fn machine_time(&self, at: SystemTime) -> warren_core::Instant {
        let ahead = at.duration_since(SystemTime::now()).unwrap_or_default();
        self.now().after_millis(u64::try_from(ahead.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    writer: LogWriter,
    amqp: Vec<SocketAddr>,
    amqps: Vec<SocketAddr>,
    metrics: Vec<SocketAddr>,
    servers: Servers,
    /// How long it may take to stop.
    grace: Duration,
    /// What TLS is accepted with, and what follows its files.
    tls: Option<(Arc<ReloadingTls>, JoinHandle<()>)>,
}

impl Node {
    /// Starts a node: when this returns its ports are open.
    ///
    /// # Errors
    /// The definitions cannot be used, the data folder is in use or damaged, or an address cannot be listened on.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        raise_file_limit();
        let started = Instant::now();
        let definitions = config.definitions.as_deref().map(definitions::load).transpose()?.unwrap_or_default();
        let metrics = Metrics::new()?;
        let tls = config.tls.clone().map(|tls| TlsFiles::load(tls, metrics.clone())).transpose()?;
        let ports = Ports::bind(&config)?;
        let mut state = State::empty(config.limits.topology());
        let opened = log::open(&config.data_dir, &config.log, &mut state)
            .with_context(|| format!("cannot open the data folder {}", config.data_dir.display()))?;
        state.lead(&mut opened.bodies());
        if let Some(Err(error)) = config.default_user.as_ref().map(authentication::readable) {
            warn!(%error, "nobody can log in until the default user's files can be read");
        }
        let grace = config.shutdown.grace();
        let (requests_per_second, accept) = (config.management.requests_per_second, config.accept.clone());
        let (shared, writer) = start_machines(config, state, opened, (started, metrics), ports.listening())?;
        define(definitions, &shared).await;
        let [amqp, amqps, metrics, metrics_https, management, management_https] = [
            Service::Amqp,
            Service::Amqps,
            Service::Metrics,
            Service::MetricsHttps,
            Service::Management,
            Service::ManagementHttps,
        ]
        .map(|service| ports.addresses(service));
        let servers = ports.serve(tls.as_ref(), &accept, requests_per_second, &shared);
        let tls = tls.map(|tls| (tls.amqps(), tokio::spawn(tls.follow())));
        info!(?amqp, ?amqps, ?metrics, ?metrics_https, ?management, ?management_https, elapsed = ?started.elapsed(), "ready");
        Ok(Self { shared, writer, amqp, amqps, metrics, servers, grace, tls })
    }

    /// The addresses for AMQP, with the ports that were taken.
    pub fn amqp_addresses(&self) -> &[SocketAddr] {
        &self.amqp
    }

    /// The addresses for AMQP over TLS, with the ports that were taken.
    pub fn amqps_addresses(&self) -> &[SocketAddr] {
        &self.amqps
    }

    /// What its tasks share.
    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The addresses for HTTP.
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.metrics
    }

    /// Stops: `/readyz` says so at once, no connection is accepted any more, clients are told by `connection.close` (320), and
    /// the log finishes. It takes at most as long as the configuration allows, but for a disk that does not answer.
    pub async fn stop(self) {
        info!("stopping");
        self.shared.stopping.send_replace(true);
        self.shared.tasks.close();
        let grace = self.grace;
        // Half of the time is the clients', and what they leave of it with the other half the log's.
        let end = tokio::time::Instant::now() + grace;
        if tokio::time::timeout(grace / 2, self.shared.tasks.wait()).await.is_err() {
            warn!("some connections did not close in time");
        }
        if tokio::time::timeout_at(end, self.drain()).await.is_err() {
            warn!("the log did not take everything in time; some messages will be delivered again");
        }
        if let Some(traces) = &self.shared.traces {
            traces.flush(end).await;
        }
        let (accepting, following) = self.tls.unzip();
        for task in self.servers.amqp.into_iter().chain(following) {
            task.abort();
        }
        // Until now they have answered that the node is stopping.
        join_all(self.servers.http.into_iter().map(HttpServer::stop)).await;
        // Nobody logs in any more.
        self.shared.authentication.tell_the_rest();
        if let Some(tls) = accepting {
            tls.tell_the_rest();
        }
        // Blocks for one sync at most; nothing else is left to run.
        self.writer.close();
        info!("stopped");
    }
}

impl Node {
    /// Waits until the shards have logged what their connections left: acknowledgements, above all.
    async fn drain(&self) {
        for shard in &self.shared.shards[1..] {
            let (reply, drained) = oneshot::channel();
            if shard.send(ShardMessage::Drain(reply)).await.is_ok() {
                // Dropped without an answer, it has stopped and logs nothing any more.
                let _ = drained.await;
            }
        }
    }
}

/// Starts a task that the node cannot be without. If it panics, which is a defect, everybody who waits for it would
/// wait for ever; a process that ends is restarted and reads its log.
fn spawn_vital(name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            error!(task = name, "a vital task panicked; ending the process");
            telemetry::abort();
        }
    });
}

/// Starts the log, the metadata's task, one for each shard, and those that look after the log's size.
fn start_machines(
    config: Config,
    state: State,
    opened: Opened,
    (started, metrics): (Instant, Metrics),
    listening: Vec<Listening>,
) -> anyhow::Result<(Arc<Shared>, LogWriter)> {
    let restored = opened.restored.clone();
    let (senders, signals): (Vec<_>, Vec<_>) = (0..=SHARDS.get()).map(|_| mpsc::unbounded_channel()).unzip();
    let alarms = Arc::new(Alarms::new(metrics.clone()));
    let memory = MemoryWatch::new(alarms.clone(), config.memory.high_watermark)?;
    let log = NodeLog::start(opened, senders, alarms.clone(), metrics.clone())?;
    let (metadata, deletions, mailbox) = metadata::mailbox();
    let (senders, inputs): (Vec<_>, Vec<_>) = (0..=SHARDS.get()).map(|_| inbox(log.bounds.inbox_bytes)).unzip();
    let topology = Arc::new(ArcSwap::from_pointee(state.topology.clone()));
    let shared =
        Arc::new(share(config, topology, (metadata, senders), &log, alarms, (started, metrics.clone()), listening));
    spawn_vital("statistics", statistics::sample(shared.statistics.clone()));
    spawn_vital("memory", memory.run(shared.statistics.clone()));
    spawn_vital("forwarder", ForwarderTask::new(shared.clone(), log.space.forwarding()).run());
    let group = |shard: ShardId| {
        Group::lead_alone(shard, NODE, &restored.get(&shard).copied().unwrap_or_default(), log.writer.handle())
    };
    let mut signals = signals.into_iter();
    let metadata_signals = signals.next();
    // The first inbox is the metadata's, which has none.
    let channels = inputs.into_iter().skip(1).zip(signals);
    for ((id, shard), channels) in state.shards.into_iter().zip(channels) {
        let task = ShardTask::new((id, shard), group(id)?, channels, &log, &shared, deletions.clone());
        spawn_vital("shard", task.run());
    }
    if let Some(signals) = metadata_signals {
        spawn_metadata(mailbox, state.topology, group(ShardId::METADATA)?, signals, &shared);
    }
    Ok((shared, look_after(log, metrics)))
}

/// Puts together what the tasks share, and starts what some of it needs.
fn share(
    config: Config,
    topology: Arc<ArcSwap<Topology>>,
    (metadata, shards): (MetadataHandle, Vec<InboxSender>),
    log: &NodeLog,
    alarms: Arc<Alarms>,
    (started, metrics): (Instant, Metrics),
    listening: Vec<Listening>,
) -> Shared {
    let users = (config.default_user, config.authentication);
    let authentication = Authentication::start(users, topology.clone(), metadata.clone(), metrics.clone());
    let connections = Arc::new(Connections::with_rate(config.limits.user_bytes_per_second));
    let probe = NodeProbe::new(log.retention.clone(), log.bounds.reserve_bytes, started);
    let signals = log.signals.clone();
    let statistics = Statistics::new(topology.clone(), connections.clone(), signals, probe, metrics.clone());
    Shared {
        topology,
        shards,
        metadata,
        connections,
        authentication,
        statistics: Arc::new(statistics),
        message_bytes: config.max_message_bytes,
        tasks: TaskTracker::new(),
        last_connection: AtomicU64::new(0),
        drains: Drains::default(),
        half_open: HalfOpen::default(),
        started,
        clock: Clock::start(),
        listening,
        stopping: watch::Sender::new(false),
        alarms,
        traces: config.telemetry.traces.map(|traces| Traces::start(traces, metrics.traces.clone())),
        metrics,
    }
}

/// Starts what keeps the log short and the volume from filling up.
fn look_after(log: NodeLog, metrics: Metrics) -> LogWriter {
    let NodeLog { writer, reader, retention, synced, checkpoint, space, signals, bounds } = log;
    let checkpointer = Checkpointer {
        due: checkpoint.clone(),
        min_bytes: bounds.checkpoint_bytes,
        relocation_bytes: bounds.relocation_bytes,
        synced,
        retention,
        reader,
        signals,
        moving: Arc::default(),
        metrics,
    };
    spawn_vital("checkpoint", checkpointer.run());
    spawn_vital("space", space.run(checkpoint));
    writer
}

fn spawn_metadata(
    mailbox: Mailbox,
    working: Topology,
    group: Group,
    signals: mpsc::UnboundedReceiver<LogSignal>,
    shared: &Shared,
) {
    let (published, shards, metrics) = (shared.topology.clone(), shared.shards.clone(), shared.metrics.clone());
    let committed = working.clone();
    let connections = Arc::clone(&shared.connections);
    let task = MetadataTask {
        mailbox,
        working,
        committed,
        published,
        connections,
        group,
        signals,
        shards,
        last_delete: 0,
        metrics,
    };
    spawn_vital("metadata", task.run());
}

/// The input that makes a queue in its shard.
pub(crate) fn create(queue: &QueueRecord, topology: &Topology) -> ShardInput {
    ShardInput::Create { queue: queue.id, settings: topology.settings(queue) }
}

/// Makes what the definitions say and what is not there. What does not fit what is there is the smaller harm: it is told
/// and left, for the messages in it are somebody's.
async fn define(mut definitions: Vec<Definition>, shared: &Shared) {
    // All are sent before the first is waited for, so that many become durable together.
    let ask = |definition: Definition| {
        let answer = shared.metadata.request(MetadataRequest::Topology(definition.request.clone()));
        (definition, answer)
    };
    let (count, mut left_out) = (definitions.len(), Vec::<Arc<str>>::new());
    definitions.retain(|definition| match definition.reserved(&shared.authentication) {
        Some(refusal) => {
            warn!("{}", definition.left_out(&refusal, Source::File));
            left_out.push(definition.entry.clone());
            false
        }
        None => true,
    });
    let asked: Vec<_> = definitions.into_iter().map(ask).collect();
    for (definition, answer) in asked {
        // Of an entry of which nothing was made, the rest is not worth a line of its own.
        if let Ok(Err(refusal)) = answer.await
            && left_out.last() != Some(&definition.entry)
        {
            warn!("{}", definition.left_out(&refusal, Source::File));
            left_out.push(definition.entry);
        }
    }
    if count > 0 {
        info!(count, left_out = left_out.len(), "definitions are loaded");
    }
}

/// The release of RabbitMQ whose management API and metrics these are, as far as they go. Tools decide by it what to ask for.
pub(crate) const RABBITMQ_VERSION: &str = "4.3.6";

/// The node's name, as RabbitMQ forms it: of the program and of the host.
pub(crate) fn name() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| {
        let uname = rustix::system::uname();
        format!("warren@{}", uname.nodename().to_string_lossy())
    });
    &NAME
}

/// Every connection is a file descriptor, and the usual soft limit of 1,024 is for programs that use `select`.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        warn!(%error, limit = ?limit.current, "the limit of open files cannot be raised");
    }
}
