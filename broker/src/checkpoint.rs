//! Checkpoints: what lets the log be short.
//!
//! From time to time every shard hands out a snapshot of what it knows, at one point of the log. When all of them are on
//! disk, a restart begins there, and segments before it are needed only for the bodies of messages that are still queued.
//! A segment without such bodies is given up; the few survivors of an old one are written again at the log's end, so
//! that the next checkpoint can give it up.
//!
//! ```text
//! due ─▶ every shard: snapshot ─▶ checkpoint file ─▶ segments given up ─▶ survivors moved ─▶ (next time: given up)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::task::spawn_blocking;
use tracing::{debug, error, warn};
use warren_core::ShardId;
use warren_core::command::encode_relocation;
use warren_core::queue::{Snapshot, Survivor};
use warren_replication::EntryId;
use warren_storage::{CheckpointPlan, FileDisk, LogError, LogPoint, LogReader, Reclaimed, Retention};

use crate::bodies::SyncedEnd;
use crate::limits::RELOCATION_BYTES;
use crate::log::{CheckpointDue, LogSignal, position};
use crate::metrics::Metrics;
use crate::telemetry;

/// What one shard gives to a checkpoint.
#[derive(Debug)]
pub(crate) struct Contribution {
    pub(crate) shard: ShardId,
    /// The last entry that is in it.
    pub(crate) last: EntryId,
    pub(crate) state: ShardState,
}

/// A shard's state at that entry.
#[derive(Debug)]
pub(crate) enum ShardState {
    /// The metadata, encoded.
    Metadata(Bytes),
    /// Queues.
    Queues(Snapshot),
}

/// Messages on their way to another place in the log.
#[derive(Debug)]
pub(crate) struct Relocation {
    /// Of the record.
    pub(crate) payload: Bytes,
    /// Held while they are on their way: the next ones are chosen when these have arrived, or they would be chosen again.
    _moving: Arc<()>,
}

/// The task that makes checkpoints.
pub(crate) struct Checkpointer {
    pub(crate) due: CheckpointDue,
    /// Bytes of log after which a checkpoint is due, however small it would be.
    pub(crate) min_bytes: u64,
    pub(crate) synced: SyncedEnd,
    pub(crate) retention: Retention<FileDisk>,
    pub(crate) reader: LogReader<FileDisk>,
    /// Where shards hear from the log; by number, the metadata's first.
    pub(crate) signals: Vec<UnboundedSender<LogSignal>>,
    /// Octets of messages that may be moved after one checkpoint.
    pub(crate) relocation_bytes: u64,
    /// Others have it too while messages are being moved.
    pub(crate) moving: Arc<()>,
    pub(crate) metrics: Metrics,
}

/// What a finished checkpoint came to.
struct Finished {
    bytes: u64,
    moved: Vec<(ShardId, Bytes)>,
}

/// The log is due for relocation while it is this many times larger than what lives in it, …
const SIZE_PER_LIVE: u64 = 2;
/// … and this many segments more.
const SPARE_SEGMENTS: u64 = 4;

impl Checkpointer {
    /// Runs until the node stops.
    pub(crate) async fn run(self) {
        loop {
            self.due.wait().await;
            let begun = Instant::now();
            let Some((point, contributions)) = self.collect().await else { return };
            let (retention, reader) = (self.retention.clone(), self.reader.clone());
            let room = if Arc::strong_count(&self.moving) == 1 { self.relocation_bytes } else { 0 };
            let finished = spawn_blocking(move || finish(&retention, &reader, point, contributions, room)).await;
            match finished.context("the checkpoint was given up").flatten() {
                Ok(finished) => {
                    debug!(elapsed = ?begun.elapsed(), bytes = finished.bytes, "checkpoint");
                    self.metrics.checkpoint_made();
                    self.due.set_enough(self.min_bytes.max(4 * finished.bytes));
                    self.relocate(finished.moved);
                }
                Err(error) => give_up_or_go_on(&error),
            }
        }
    }

    /// Asks every shard for its snapshot. Whoever has heard of everything that was synced before the request came has
    /// applied it too, so a restart may begin at the end of what was synced when we asked.
    async fn collect(&self) -> Option<(LogPoint, Vec<Contribution>)> {
        let (sender, mut answers) = mpsc::unbounded_channel();
        self.due.begin();
        let point = self.synced.get();
        for signals in &self.signals {
            signals.send(LogSignal::Checkpoint(sender.clone())).ok()?;
        }
        drop(sender);
        let mut contributions = Vec::with_capacity(self.signals.len());
        while let Some(contribution) = answers.recv().await {
            contributions.push(contribution);
        }
        (contributions.len() == self.signals.len()).then_some((point, contributions))
    }

    /// Hands each shard its messages to be written again: beside its inbox, which may be full for want of space.
    fn relocate(&self, moved: Vec<(ShardId, Bytes)>) {
        for (shard, payload) in moved {
            if let Some(signals) = self.signals.get(usize::from(shard.0)) {
                // A shard that has stopped does so because the node stops.
                let _ = signals.send(LogSignal::Relocate(Relocation { payload, _moving: self.moving.clone() }));
            }
        }
    }
}

/// Without space there is no checkpoint now, and one later. Anything else means that the disk cannot be trusted.
fn give_up_or_go_on(error: &anyhow::Error) {
    match error.downcast_ref::<LogError>() {
        Some(log) if !log.is_final() => {
            warn!(error = format!("{error:#}"), "no checkpoint now; the log grows until one succeeds")
        }
        _ => {
            error!(error = format!("{error:#}"), "a checkpoint failed; ending the process");
            telemetry::abort();
        }
    }
}

/// Writes the checkpoint, gives up what it does not need, and reads what should move.
fn finish(
    retention: &Retention<FileDisk>,
    reader: &LogReader<FileDisk>,
    replay_from: LogPoint,
    contributions: Vec<Contribution>,
    room: u64,
) -> anyhow::Result<Finished> {
    let mut live: BTreeMap<u32, u64> = BTreeMap::new();
    let mut snapshots = Vec::with_capacity(contributions.len());
    for Contribution { shard, last, state } in &contributions {
        let payload = match state {
            ShardState::Metadata(octets) => octets.clone(),
            ShardState::Queues(snapshot) => {
                for (segment, bytes) in snapshot.live() {
                    *live.entry(segment).or_default() += bytes;
                }
                Bytes::from(snapshot.encode())
            }
        };
        snapshots.push(warren_storage::Snapshot { shard: shard.0, term: last.term, index: last.index, payload });
    }
    let bytes = snapshots.iter().map(|snapshot| snapshot.payload.len() as u64).sum();
    let reclaimed = retention.checkpoint(CheckpointPlan { replay_from, snapshots, live })?;
    let moved = survivors(reader, &contributions, &to_empty(&reclaimed, room))?;
    Ok(Finished { bytes, moved })
}

/// The old segments to move survivors out of: those with the least, as long as the log is too large for what lives in it.
fn to_empty(reclaimed: &Reclaimed, room: u64) -> BTreeSet<u32> {
    let mut retained = reclaimed.retained.clone();
    retained.sort_unstable_by_key(|segment| segment.live);
    let live: u64 = retained.iter().map(|segment| segment.live).sum();
    let mut size: u64 = retained.iter().map(|segment| u64::from(segment.len)).sum();
    let spare = retained.iter().map(|segment| u64::from(segment.len)).max().unwrap_or_default() * SPARE_SEGMENTS;
    let mut moved = 0;
    let mut chosen = BTreeSet::new();
    for segment in retained {
        if size <= SIZE_PER_LIVE * live + spare || moved + segment.live > room {
            break;
        }
        size -= u64::from(segment.len);
        moved += segment.live;
        chosen.insert(segment.segment);
    }
    chosen
}

/// The messages in those segments, read from the log, as payloads of relocation records.
fn survivors(
    reader: &LogReader<FileDisk>,
    contributions: &[Contribution],
    segments: &BTreeSet<u32>,
) -> anyhow::Result<Vec<(ShardId, Bytes)>> {
    let mut moved = Vec::new();
    for Contribution { shard, state, .. } in contributions {
        let ShardState::Queues(snapshot) = state else { continue };
        let mut batch: Vec<(Survivor, Bytes)> = Vec::new();
        let mut bytes = 0;
        for survivor in snapshot.survivors(segments) {
            let command = reader.read_part(position(survivor.location))?;
            bytes += command.len();
            batch.push((survivor, command));
            if bytes >= RELOCATION_BYTES {
                moved.push((*shard, payload(&batch)));
                batch.clear();
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            moved.push((*shard, payload(&batch)));
        }
    }
    Ok(moved)
}

fn payload(survivors: &[(Survivor, Bytes)]) -> Bytes {
    let mut payload = Vec::new();
    let items = survivors.iter().map(|(survivor, command)| (&survivor.references[..], &command[..]));
    encode_relocation(items, &mut payload);
    Bytes::from(payload)
}
