//! One node: reads the log, starts the tasks, opens the ports, and stops it all again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use anyhow::Context;
use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use warren_core::limits::TopologyLimits;
use warren_core::queue::Shard;
use warren_core::topology::{Change, Topology};
use warren_core::{QueueId, ShardId};
use warren_replication::{Group, NodeId};
use warren_storage::LogWriter;

use crate::config::Config;
use crate::connections::Connections;
use crate::limits::{SHARD_BATCHES, SHUTDOWN_TIMEOUT};
use crate::log::{self, Completions, LogSignal, Recovered};
use crate::metadata::{self, Deletions, Mailbox, MetadataHandle, MetadataTask};
use crate::metrics::Metrics;
use crate::shard::{ShardMessage, ShardTask};
use crate::users::Users;
use crate::{http, listener};

/// How many shards hold queues. Each queue's record names its shard, so this may grow and must not shrink.
const SHARDS: NonZeroU16 = NonZeroU16::new(32).expect("32 is not 0");

/// The only node there is.
const NODE: NodeId = NodeId(1);

/// What the tasks of a node share.
pub(crate) struct Shared {
    pub(crate) topology: Arc<ArcSwap<Topology>>,
    /// By shard number; the first is the metadata's and takes nothing.
    pub(crate) shards: Vec<mpsc::Sender<ShardMessage>>,
    pub(crate) metadata: MetadataHandle,
    pub(crate) connections: Arc<Connections>,
    pub(crate) users: Users,
    pub(crate) metrics: Metrics,
    pub(crate) tasks: TaskTracker,
    pub(crate) last_connection: AtomicU64,
    /// Connections that have not opened a virtual host yet.
    pub(crate) handshakes: AtomicUsize,
    /// The origin of the machines' time.
    pub(crate) started: Instant,
    stopping: watch::Sender<bool>,
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
}

/// A running node.
pub struct Node {
    shared: Arc<Shared>,
    writer: LogWriter,
    amqp: Vec<SocketAddr>,
    metrics: SocketAddr,
    servers: Vec<JoinHandle<()>>,
}

/// What the log says about how things were.
struct State {
    topology: Topology,
    shards: BTreeMap<ShardId, Shard>,
}

impl Node {
    /// Starts a node: when this returns its ports are open.
    ///
    /// # Errors
    /// The data folder is in use or damaged, or an address cannot be listened on.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        raise_file_limit();
        let started = Instant::now();
        let listeners = bind(&config.listeners.amqp).await?;
        let http_listener = bind_one(config.listeners.metrics).await?;
        let mut state = State::empty();
        let (log, recovered) = log::open(&config.data_dir, |shard, entry| state.replay(shard, entry))
            .with_context(|| format!("cannot open the data folder {}", config.data_dir.display()))?;
        let metrics = Metrics::new()?;
        let (senders, signals): (Vec<_>, Vec<_>) = (0..=SHARDS.get()).map(|_| mpsc::unbounded_channel()).unzip();
        let writer = LogWriter::spawn(log, Completions::new(senders, metrics.clone()))?;
        let shared = start_machines(config, state, &recovered, signals, &writer, metrics, started);
        let amqp = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
        let metrics = http_listener.local_addr()?;
        let mut servers = vec![tokio::spawn(serve_http(http_listener, shared.clone()))];
        servers.extend(listeners.into_iter().map(|listener| tokio::spawn(listener::listen(listener, shared.clone()))));
        info!(?amqp, %metrics, elapsed = ?started.elapsed(), "ready");
        Ok(Self { shared, writer, amqp, metrics, servers })
    }

    /// The addresses for AMQP, with the ports that were taken.
    pub fn amqp_addresses(&self) -> &[SocketAddr] {
        &self.amqp
    }

    /// The address for HTTP.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// Says goodbye to the clients, lets the log finish and returns.
    pub async fn stop(self) {
        info!("stopping");
        self.shared.stopping.send_replace(true);
        self.shared.tasks.close();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.shared.tasks.wait()).await.is_err() {
            warn!("some connections did not close in time");
        }
        for server in self.servers {
            server.abort();
        }
        // Blocks for one sync at most; nothing else is left to run.
        self.writer.close();
        info!("stopped");
    }
}

impl State {
    fn empty() -> Self {
        let topology = Topology::new(SHARDS, TopologyLimits::default());
        Self { topology, shards: (1..=SHARDS.get()).map(|id| (ShardId(id), Shard::new())).collect() }
    }

    fn replay(&mut self, shard: ShardId, entry: Bytes) -> anyhow::Result<()> {
        if shard == ShardId::METADATA {
            let mut rest = &entry[..];
            while !rest.is_empty() {
                let (change, len) = Change::decode(rest)?;
                self.topology.apply(&change);
                rest = &rest[len..];
            }
            return Ok(());
        }
        let machine = self.shards.get_mut(&shard).with_context(|| {
            format!("shard {} is unknown: the data was written with more than {SHARDS} shards", shard.0)
        })?;
        Ok(machine.replay(entry)?)
    }
}

/// Starts the metadata's task and one for each shard.
fn start_machines(
    config: Config,
    state: State,
    recovered: &Recovered,
    signals: Vec<mpsc::UnboundedReceiver<LogSignal>>,
    writer: &LogWriter,
    metrics: Metrics,
    started: Instant,
) -> Arc<Shared> {
    let (metadata, deletions, mailbox) = metadata::mailbox();
    let (senders, inputs): (Vec<_>, Vec<_>) = (0..=SHARDS.get()).map(|_| mpsc::channel(SHARD_BATCHES)).unzip();
    let shared = Arc::new(Shared {
        topology: Arc::new(ArcSwap::from_pointee(state.topology.clone())),
        shards: senders,
        metadata,
        connections: Arc::default(),
        users: Users::new(config.default_user),
        metrics,
        tasks: TaskTracker::new(),
        last_connection: AtomicU64::new(0),
        handshakes: AtomicUsize::new(0),
        started,
        stopping: watch::Sender::new(false),
    });
    let group = |shard: ShardId| {
        let last = recovered.last.get(&shard).copied().unwrap_or_default();
        Group::lead_alone(shard, NODE, last, writer.handle())
    };
    let mut found = Vec::new();
    let mut signals = signals.into_iter();
    let metadata_signals = signals.next();
    for ((id, shard), (inputs, signals)) in state.shards.into_iter().zip(inputs.into_iter().skip(1).zip(signals)) {
        found.extend(shard.queue_ids().map(|queue| (id, queue)));
        spawn_shard(id, shard, group(id), (inputs, signals), &shared, deletions.clone());
    }
    if let Some(signals) = metadata_signals {
        spawn_metadata(mailbox, state.topology, group(ShardId::METADATA), signals, &shared, found);
    }
    shared
}

fn spawn_shard(
    id: ShardId,
    mut shard: Shard,
    group: Group,
    (inputs, signals): (mpsc::Receiver<ShardMessage>, mpsc::UnboundedReceiver<LogSignal>),
    shared: &Shared,
    deletions: Deletions,
) {
    shard.lead();
    let (connections, metadata) = (shared.connections.clone(), shared.metadata.clone());
    tokio::spawn(ShardTask { id, shard, group, inputs, signals, connections, metadata, deletions }.run());
}

fn spawn_metadata(
    mailbox: Mailbox,
    working: Topology,
    group: Group,
    signals: mpsc::UnboundedReceiver<LogSignal>,
    shared: &Shared,
    found: Vec<(ShardId, QueueId)>,
) {
    let (published, shards) = (shared.topology.clone(), shared.shards.clone());
    tokio::spawn(MetadataTask { mailbox, working, published, group, signals, shards, last_delete: 0 }.run(found));
}

/// Binds all addresses. An IPv6 loopback address that this host does not have is left out: it is a default.
async fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if address.is_ipv6() && address.ip().is_loopback() && !listeners.is_empty() => {
                info!(%address, %error, "not listening there");
            }
            Err(error) => return Err(cannot_listen(*address, error)),
        }
    }
    Ok(listeners)
}

async fn bind_one(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| cannot_listen(address, error))
}

fn cannot_listen(address: SocketAddr, error: std::io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot listen on {address}: is another program using it?"))
}

async fn serve_http(listener: TcpListener, shared: Arc<Shared>) {
    if let Err(error) = axum::serve(listener, http::router(shared)).await {
        warn!(%error, "the HTTP server ended");
    }
}

/// Every connection is a file descriptor, and the usual soft limit of 1,024 is for programs that use `select`.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        warn!(%error, limit = ?limit.current, "the limit of open files cannot be raised");
    }
}
