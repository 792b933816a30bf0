//! The node's log: opening it, and telling each shard what has become durable.

use std::collections::BTreeMap;
use std::path::Path;
use std::process;

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tracing::error;
use warren_core::ShardId;
use warren_replication::LastEntry;
use warren_storage::{Batch, Completion, FileDisk, Kind, Log, LogError, Options};

use crate::metrics::Metrics;

/// What the log thread tells a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogSignal {
    /// The shard's entries up to this index are durable.
    Synced(u64),
    /// The log takes entries again after it had refused one.
    Writable,
}

/// Everything that was found in the log, by shard.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) last: BTreeMap<ShardId, LastEntry>,
}

/// Opens the log in `data_dir` and hands every entry to `replay` in the order it was written.
pub(crate) fn open(
    data_dir: &Path,
    mut replay: impl FnMut(ShardId, Bytes) -> anyhow::Result<()>,
) -> anyhow::Result<(Log<FileDisk>, Recovered)> {
    let folder = data_dir.join("log");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the data folder {}", folder.display()))?;
    let disk = FileDisk::open(&folder)?;
    let mut recovered = Recovered::default();
    let mut failure = None;
    let log = Log::open(disk, Options::default(), |record| {
        if record.tag.kind != Kind::Entry || failure.is_some() {
            return;
        }
        let shard = ShardId(record.tag.shard);
        recovered.last.insert(shard, LastEntry { term: record.tag.term, index: record.tag.index });
        // Messages live on in this memory; sharing the read buffer would keep all of it for one of them.
        let entry = Bytes::copy_from_slice(&record.payload);
        let place = || format!("log entry {} of shard {} cannot be applied", record.tag.index, shard.0);
        failure = replay(shard, entry).with_context(place).err();
    })?;
    failure.map_or(Ok((log, recovered)), Err)
}

/// Sorts completions by shard.
pub(crate) struct Completions {
    shards: Vec<UnboundedSender<LogSignal>>,
    metrics: Metrics,
}

impl Completions {
    /// `shards` by number, the metadata's first.
    pub(crate) fn new(shards: Vec<UnboundedSender<LogSignal>>, metrics: Metrics) -> Self {
        Self { shards, metrics }
    }

    fn tell(&self, shard: u16, signal: LogSignal) {
        if let Some(sender) = self.shards.get(usize::from(shard)) {
            // A shard that has stopped needs to know nothing.
            let _ = sender.send(signal);
        }
    }
}

impl Completion for Completions {
    fn synced(&mut self, batch: Batch<'_>) {
        self.metrics.log_synced(batch.records.len(), batch.bytes, batch.sync_duration);
        let mut last: BTreeMap<u16, u64> = BTreeMap::new();
        for record in batch.records {
            last.insert(record.tag.shard, record.tag.index);
        }
        for (shard, index) in last {
            self.tell(shard, LogSignal::Synced(index));
        }
    }

    /// Nothing that we could still do would be true: what the disk holds is unknown. A restart reads it and knows.
    fn failed(&mut self, error: LogError) {
        error!(%error, "the log failed; ending the process so that nothing unwritten is confirmed");
        process::abort();
    }

    fn writable(&mut self) {
        for sender in &self.shards {
            let _ = sender.send(LogSignal::Writable);
        }
    }
}
