//! The node's log: opening it, and telling each shard what has become durable.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, oneshot};
use tracing::{error, info, warn};
use warren_core::limits::{ENTRY_BYTES, MESSAGE_BYTES_MAX};
use warren_core::queue::{QueueFilter, QueueSample, QueueStatistics};
use warren_core::{ConnectionId, Location, ShardId};
use warren_replication::{EntryId, Restored};
use warren_storage::{
    Batch, Completion, Disk, FileDisk, Kind, Log, LogError, LogPoint, LogReader, LogWriter, MAX_PAYLOAD_LEN, Options,
    Position, Recovered, Retention,
};

use crate::alarms::Alarms;
use crate::alarms::disk::SpaceWatch;
use crate::bodies::{LogBodies, SyncedEnd};
use crate::checkpoint::{Contribution, Relocation};
use crate::config::LogConfig;
use crate::metrics::Metrics;
use crate::space::LogBounds;
use crate::statistics::ShardReport;
use crate::telemetry;

/// The largest message fits into a record: with what goes before it in its entry, and with its header.
const _: () = assert!(MESSAGE_BYTES_MAX + 2 * ENTRY_BYTES as u64 + (1 << 20) < MAX_PAYLOAD_LEN as u64);

/// What a shard is told beside its inbox, which may be closed for a while: about the log, in the order in which it became
/// true, and questions that must not wait.
#[derive(Debug)]
pub(crate) enum LogSignal {
    /// One of the shard's records is durable.
    Synced {
        /// What it is.
        kind: Kind,
        /// Its index, if it is an entry.
        index: u64,
        /// Where its payload is.
        position: Position,
    },
    /// The log takes entries again after it had refused one.
    Writable,
    /// Answer with a snapshot of everything that was synced before.
    Checkpoint(UnboundedSender<Contribution>),
    /// Write these messages again.
    Relocate(Relocation),
    /// How much it holds and has done.
    Summary(oneshot::Sender<ShardReport>),
    /// What these of its queues are like.
    Statistics(QueueFilter, oneshot::Sender<Vec<QueueStatistics>>),
    /// Hand nothing more to the consumers of these connections, or hand them messages again; how many messages they hold.
    Drain(Arc<[ConnectionId]>, bool, oneshot::Sender<u64>),
    /// What became of its queues since it was last asked.
    Sample(oneshot::Sender<Vec<QueueSample>>),
}

/// What was found in the log, in the order it has to be applied.
pub(crate) trait Replay {
    /// A shard's state up to an entry; comes before all else.
    fn snapshot(&mut self, shard: ShardId, octets: &[u8]) -> anyhow::Result<()>;
    /// An entry that is not in its shard's snapshot.
    fn entry(&mut self, shard: ShardId, at: Location, octets: &[u8]) -> anyhow::Result<()>;
    /// Messages that were moved.
    fn relocation(&mut self, shard: ShardId, at: Location, octets: &[u8]) -> anyhow::Result<()>;
}

/// The log, what it says about each shard's group, and the bounds that its volume sets.
pub(crate) struct Opened {
    log: Log<FileDisk>,
    pub(crate) restored: BTreeMap<ShardId, Restored>,
    pub(crate) bounds: LogBounds,
}

/// Opens the log in `data_dir` and hands `replay` what it holds.
pub(crate) fn open(data_dir: &Path, config: &LogConfig, replay: &mut impl Replay) -> anyhow::Result<Opened> {
    let folder = data_dir.join("log");
    let disk = FileDisk::open(&folder)?;
    if !disk.is_private().unwrap_or(true) {
        let folder = folder.display();
        warn!(%folder, "others may read messages in the log, and its mode cannot be changed: it is another user's, or the volume knows none");
    }
    let volume = disk.space().with_context(|| format!("the volume of {} does not say its size", folder.display()))?;
    let bounds = LogBounds::new(config, volume.total);
    let options =
        Options { segment_len: bounds.segment_bytes, reserve: bounds.reserve_bytes / 8, ..Options::default() };
    let mut restored = BTreeMap::new();
    let mut failure = None;
    let log = Log::open(disk, options, |found| {
        if failure.is_none() {
            failure = recovered(found, &mut restored, replay).err();
        }
    })?;
    failure.map_or(Ok(Opened { log, restored, bounds }), Err)
}

fn recovered(
    found: Recovered,
    restored: &mut BTreeMap<ShardId, Restored>,
    replay: &mut impl Replay,
) -> anyhow::Result<()> {
    match found {
        Recovered::Snapshot(snapshot) => {
            let shard = ShardId(snapshot.shard);
            let last = EntryId { term: snapshot.term, index: snapshot.index };
            restored.entry(shard).or_default().with_snapshot(last);
            let place = || format!("the snapshot of shard {} cannot be read", shard.0);
            replay.snapshot(shard, &snapshot.payload).with_context(place)
        }
        Recovered::Record { tag, position, payload } => {
            let shard = ShardId(tag.shard);
            let place = || format!("log record {:?} {} of shard {} cannot be applied", tag.kind, tag.index, shard.0);
            match tag.kind {
                Kind::Entry => {
                    let entry = EntryId { term: tag.term, index: tag.index };
                    let group = restored.entry(shard).or_default();
                    if group.with_entry(entry, &payload).with_context(place)? {
                        replay.entry(shard, location(position), &payload).with_context(place)?;
                    }
                    Ok(())
                }
                Kind::Vote => restored.entry(shard).or_default().with_vote(tag.term, &payload).with_context(place),
                Kind::Relocation => replay.relocation(shard, location(position), &payload).with_context(place),
                _ => Ok(()),
            }
        }
    }
}

/// The log's positions as the machines name them.
pub(crate) fn location(position: Position) -> Location {
    Location { segment: position.segment, offset: position.offset, len: position.len }
}

/// The machines' locations as the log names them.
pub(crate) fn position(location: Location) -> Position {
    Position { segment: location.segment, offset: location.offset, len: location.len }
}

/// How much was written since the last checkpoint, and who is woken when that is enough for the next.
#[derive(Debug, Clone)]
pub(crate) struct CheckpointDue {
    since: Arc<AtomicU64>,
    enough: Arc<AtomicU64>,
    notify: Arc<Notify>,
}

impl CheckpointDue {
    pub(crate) fn new(since: u64, enough: u64) -> Self {
        let due = Self { since: Arc::default(), enough: Arc::new(AtomicU64::new(enough)), notify: Arc::default() };
        due.written(since);
        due
    }

    fn written(&self, bytes: u64) {
        let since = self.since.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if since >= self.enough.load(Ordering::Relaxed) {
            self.now();
        }
    }

    /// Makes one due now.
    pub(crate) fn now(&self) {
        self.notify.notify_one();
    }

    /// Waits until one is due.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// A checkpoint begins; the next is due after `enough` more bytes.
    pub(crate) fn begin(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    pub(crate) fn set_enough(&self, bytes: u64) {
        self.enough.store(bytes, Ordering::Relaxed);
    }
}

/// The running log and what hangs on it.
pub(crate) struct NodeLog {
    pub(crate) writer: LogWriter,
    pub(crate) reader: LogReader<FileDisk>,
    pub(crate) retention: Retention<FileDisk>,
    pub(crate) synced: SyncedEnd,
    pub(crate) checkpoint: CheckpointDue,
    pub(crate) space: SpaceWatch,
    /// By shard number, the metadata's first.
    pub(crate) signals: Vec<UnboundedSender<LogSignal>>,
    pub(crate) bounds: LogBounds,
}

impl Opened {
    /// A reader of queued messages' bodies for what is to be done before the log runs.
    pub(crate) fn bodies(&self) -> LogBodies {
        LogBodies::new(self.log.reader(), SyncedEnd::default())
    }
}

impl NodeLog {
    /// Starts the log thread.
    pub(crate) fn start(
        opened: Opened,
        signals: Vec<UnboundedSender<LogSignal>>,
        alarms: Arc<Alarms>,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let Opened { log, bounds, .. } = opened;
        let (reader, retention, synced) = (log.reader(), log.retention(), SyncedEnd::default());
        synced.set(log.end());
        let checkpoint = CheckpointDue::new(log.bytes_since_checkpoint(), bounds.checkpoint_bytes);
        let space = SpaceWatch::new(retention.clone(), bounds.reserve_bytes, alarms);
        space.look();
        let completions = Completions {
            shards: signals.clone(),
            synced: synced.clone(),
            checkpoint: checkpoint.clone(),
            space: space.clone(),
            metrics,
            segment: log.end().segment,
        };
        let writer = LogWriter::spawn_bounded(log, completions, bounds.queue_bytes)?;
        Ok(Self { writer, reader, retention, synced, checkpoint, space, signals, bounds })
    }

    /// A reader of queued messages' bodies for one shard.
    pub(crate) fn bodies(&self) -> LogBodies {
        LogBodies::new(self.reader.clone(), self.synced.clone())
    }
}

/// Sorts completions by shard.
struct Completions {
    /// By number, the metadata's first.
    shards: Vec<UnboundedSender<LogSignal>>,
    synced: SyncedEnd,
    checkpoint: CheckpointDue,
    space: SpaceWatch,
    metrics: Metrics,
    /// The segment that the last batch ended in.
    segment: u32,
}

impl Completions {
    /// Only when the shards have been told: who asks them for a checkpoint at this point must find them there.
    fn advance(&mut self, end: LogPoint) {
        self.synced.set(end);
        // Each new segment takes space; that is the moment to look how much is left.
        if self.segment != end.segment {
            self.segment = end.segment;
            self.space.look();
        }
    }
}

impl Drop for Completions {
    /// A log thread that panicked, which is a defect, would leave everybody waiting for it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!("the log thread panicked; ending the process");
            telemetry::abort();
        }
    }
}

impl Completion for Completions {
    fn synced(&mut self, batch: Batch<'_>) {
        self.metrics.log_synced(batch.records.len(), batch.bytes, batch.sync_duration);
        for record in batch.records {
            let signal =
                LogSignal::Synced { kind: record.tag.kind, index: record.tag.index, position: record.position };
            if let Some(sender) = self.shards.get(usize::from(record.tag.shard)) {
                // A shard that has stopped needs to know nothing.
                let _ = sender.send(signal);
            }
        }
        self.advance(batch.end);
        self.checkpoint.written(batch.bytes);
    }

    /// Nothing that we could still do would be true: what the disk holds is unknown. A restart reads it and knows.
    fn failed(&mut self, error: LogError) {
        if !error.is_final() {
            // The node stops while the log waits for space: what was not written was not confirmed either.
            return warn!(%error, "the log ends without space for what waited");
        }
        error!(%error, "the log failed; ending the process so that nothing unwritten is confirmed");
        telemetry::abort();
    }

    fn writable(&mut self) {
        for sender in &self.shards {
            let _ = sender.send(LogSignal::Writable);
        }
    }

    fn out_of_space(&mut self, waiting: bool) {
        self.space.log_waits(waiting);
        if waiting {
            warn!(
                "the volume is full: the log waits for space; messages that are consumed and acknowledged give it back"
            );
        } else {
            info!("there is space again: the log goes on");
        }
    }
}
