//! A look at the log of a node that is stopped, or runs meanwhile: what is in it, and whether it is whole. It changes
//! nothing and takes no lock.
//!
//! [`warren_storage::inspect`] reads the files and judges them; here their records become shards, queues and commands, by
//! the code that a node reads them with when it starts. [`report`] is what comes of it, [`record`] a single record.
//!
//! Never shown: hashes of passwords, and bodies of messages unless they are asked for.

pub mod record;
pub mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use warren_core::limits::TopologyLimits;
use warren_core::topology::{Change, Topology};
use warren_core::{QueueId, ShardId};
use warren_replication::{EntryId, Restored};
use warren_storage::inspection::{FAULTS_MAX, Fault};
use warren_storage::segment::{RECORD_HEADER_LEN, file_name};
use warren_storage::{Kind, OpenError, Position, ReadOnlyFolder, Seen, Tag};

pub use crate::limits::INSPECTED_BODY_BYTES;
use crate::node::SHARDS;
use record::{Contents, Reading, ShownRecord};
use report::{Report, ShardReport};

/// Which records are counted for their shards and shown. Whether the log is sound is always said of all of it.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Of these shards; empty: of all.
    pub shards: BTreeSet<u16>,
    /// What concerns this queue; `None`: any, and what concerns none.
    pub queue: Option<QueueChoice>,
    /// With these Raft indexes.
    pub indexes: RangeInclusive<u64>,
    /// Octets of each message's body that are shown.
    pub body_bytes: Option<usize>,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueChoice {
    /// By its number.
    Id(u32),
    /// By its name: all queues that ever had it, as far as the log knows.
    Name {
        /// Its virtual host.
        vhost: String,
        /// Its name.
        name: String,
    },
}

/// Why nothing can be said of a folder.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is no log, or it may not be read.
    #[error("the log in {} cannot be read: {source}", folder.display())]
    Folder {
        /// The folder of the log.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No queue of that name is or was declared, as far as the log goes back.
    #[error("the log has no queue '{name}' in virtual host '{vhost}'")]
    NoQueue {
        /// The virtual host.
        vhost: String,
        /// The queue.
        name: String,
    },
    /// A newer program wrote the log, or a file of it may not be read.
    #[error(transparent)]
    Log(#[from] OpenError),
}

/// Takes what is shown; when it breaks off, nothing more is read.
pub type Show<'a> = &'a mut dyn FnMut(&ShownRecord<'_>) -> ControlFlow<()>;

/// Looks at the log in a node's data folder. Each record that is selected is handed to `show`, if there is one.
///
/// # Errors
/// There is no log, it may not be read, or a newer program wrote it; or it has no queue of the name that is selected. Damage is
/// no error: it is in the report.
pub fn inspect<'a>(data_dir: &Path, selection: &'a Selection, show: Option<Show<'a>>) -> Result<Report, InspectError> {
    let folder = data_dir.join("log");
    let files =
        ReadOnlyFolder::open(&folder).map_err(|source| InspectError::Folder { folder: folder.clone(), source })?;
    let mut look = Look::new(selection, show);
    let found = warren_storage::inspect(&files, |shard| shard == ShardId::METADATA.0, |seen| look.see(seen))?;
    if let Some(QueueChoice::Name { vhost, name }) = &selection.queue
        && look.chosen.is_empty()
        && look.fault_count == 0
        && found.fault_count == 0
    {
        return Err(InspectError::NoQueue { vhost: vhost.clone(), name: name.clone() });
    }
    Ok(Report::new(&folder, found, look))
}

/// What is known so far.
struct Look<'a> {
    selection: &'a Selection,
    show: Option<Show<'a>>,
    topology: Topology,
    /// Queues that are, or have been, the one that is selected.
    chosen: BTreeSet<QueueId>,
    restored: BTreeMap<u16, Restored>,
    shards: BTreeMap<u16, ShardReport>,
    /// Records that are whole and make no sense.
    faults: Vec<Fault>,
    fault_count: u64,
}

impl<'a> Look<'a> {
    fn new(selection: &'a Selection, show: Option<Show<'a>>) -> Self {
        let chosen = match selection.queue {
            Some(QueueChoice::Id(id)) => BTreeSet::from([QueueId(id)]),
            _ => BTreeSet::new(),
        };
        Self {
            selection,
            show,
            topology: Topology::new(SHARDS, TopologyLimits::default()),
            chosen,
            restored: BTreeMap::new(),
            shards: BTreeMap::new(),
            faults: Vec::new(),
            fault_count: 0,
        }
    }

    fn see(&mut self, seen: Seen) -> ControlFlow<()> {
        match seen {
            Seen::Snapshot { shard, term, index, len, payload } => {
                self.restored.entry(shard).or_default().with_snapshot(EntryId { term, index });
                self.shard(shard).snapshot = Some(report::Snapshot { term, index, bytes: len });
                let Some(payload) = payload else { return ControlFlow::Continue(()) };
                self.choose(&payload);
                if let Err(error) = self.topology.replay(&payload) {
                    let reason = format!("the snapshot of the metadata cannot be read: {error}");
                    self.fault(warren_storage::checkpoint::FILE_NAME, 0, reason);
                }
                ControlFlow::Continue(())
            }
            Seen::Record { tag, position, payload, replayed } => {
                if tag.shard == ShardId::METADATA.0 && tag.kind == Kind::Entry {
                    self.choose(&payload);
                }
                let contents = self.contents(tag, &payload).unwrap_or_else(|error| {
                    self.record_fault(tag, position, &error);
                    Contents::default()
                });
                if let Some(Err(error)) = replayed.then(|| self.replay(tag, &payload)) {
                    self.record_fault(tag, position, &error);
                }
                self.count(tag, position, &contents, replayed)
            }
        }
    }

    fn shard(&mut self, shard: u16) -> &mut ShardReport {
        self.shards.entry(shard).or_insert_with(|| ShardReport::new(shard))
    }

    fn contents(&self, tag: Tag, payload: &Bytes) -> anyhow::Result<Contents> {
        let reading = Reading {
            topology: &self.topology,
            chosen: self.selection.queue.is_some().then_some(&self.chosen),
            shown: self.show.is_some(),
            body_bytes: self.selection.body_bytes,
        };
        Contents::read(tag, payload, &reading)
    }

    /// Counts a record that is selected, and shows it.
    fn count(&mut self, tag: Tag, position: Position, contents: &Contents, replayed: bool) -> ControlFlow<()> {
        let Selection { shards, queue, indexes, .. } = self.selection;
        let of_shard = shards.is_empty() || shards.contains(&tag.shard);
        let of_queue = queue.is_none() || contents.concerns_wanted;
        if !(of_shard && of_queue && indexes.contains(&tag.index)) {
            return ControlFlow::Continue(());
        }
        self.shard(tag.shard).count(tag, position, contents);
        match &mut self.show {
            Some(show) => show(&ShownRecord::new(tag, position, contents, replayed)),
            None => ControlFlow::Continue(()),
        }
    }

    /// Goes along as a node does that starts: do the shard's records continue each other, and what is declared?
    fn replay(&mut self, tag: Tag, payload: &Bytes) -> anyhow::Result<()> {
        let restored = self.restored.entry(tag.shard).or_default();
        match tag.kind {
            Kind::Vote => restored.with_vote(tag.term, payload)?,
            Kind::Entry => {
                let new = restored.with_entry(EntryId { term: tag.term, index: tag.index }, payload)?;
                if new && tag.shard == ShardId::METADATA.0 {
                    self.topology.replay(payload)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Looks which queues get the name that is asked for. What cannot be read is noted elsewhere.
    fn choose(&mut self, mut changes: &[u8]) {
        let Some(QueueChoice::Name { vhost, name }) = &self.selection.queue else { return };
        while let Ok((change, len)) = Change::decode(changes) {
            if let Change::CreateQueue(record) = &change
                && (&*record.vhost, &*record.name) == (vhost.as_str(), name.as_str())
            {
                self.chosen.insert(record.id);
            }
            changes = &changes[len..];
        }
    }

    fn record_fault(&mut self, tag: Tag, position: Position, error: &anyhow::Error) {
        let offset = u64::from(position.offset - RECORD_HEADER_LEN);
        let reason = format!("{} {} of shard {}: {error}", record::kind_name(tag.kind), tag.index, tag.shard);
        self.fault(&file_name(position.segment), offset, reason);
    }

    fn fault(&mut self, file: &str, offset: u64, reason: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(Fault { file: file.to_owned(), offset, reason });
        }
    }
}
