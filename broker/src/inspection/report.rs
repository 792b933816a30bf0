//! What a look at the log comes to, in the form that is printed as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use warren_core::ShardId;
use warren_core::topology::{Topology, Vhost};
use warren_storage::inspection::{FAULTS_MAX, Fault, FoundCheckpoint, FoundSegment, SegmentState, Tail};
use warren_storage::segment::file_name;
use warren_storage::{Inspection, Kind, Position, Tag};

use super::Look;
use super::record::{Contents, Time};

/// What is in a log.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The folder with the log's files.
    pub folder: String,
    /// Nothing is damaged or missing: a node starts with it and has everything that was confirmed.
    pub sound: bool,
    /// The node whose log it is; 0: it is no member of a cluster.
    pub node_id: u64,
    /// Its cluster, in hexadecimal digits.
    pub cluster_id: String,
    /// The last checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The segments, oldest first.
    pub segments: Vec<Segment>,
    /// Files that hold nothing: spare and unfinished ones.
    pub other_files: Vec<String>,
    /// The end of the log.
    pub tail: Option<End>,
    /// What the metadata comes to.
    pub declared: Declared,
    /// What the records that were selected come to, shard by shard.
    pub shards: Vec<ShardReport>,
    /// How many places are damaged.
    pub fault_count: u64,
    /// The first of them.
    pub faults: Vec<Place>,
}

/// A checkpoint.
#[derive(Debug, Serialize)]
pub struct Checkpoint {
    /// Counts the checkpoints of a log.
    pub number: u64,
    /// Octets of its file.
    pub bytes: u64,
    /// The file in which a starting node goes on behind it, …
    pub replay_file: String,
    /// … and where in it.
    pub replay_offset: u32,
}

/// A segment's file.
#[derive(Debug, Serialize)]
pub struct Segment {
    /// Its name.
    pub file: String,
    /// Its octets.
    pub bytes: u64,
    /// `retained` for bodies that are still read from it, `replayed` when a node starts, or `given_up`.
    pub state: &'static str,
    /// Records in it that are whole.
    pub records: u64,
    /// Where the last of them ends.
    pub end: u32,
}

/// The end of the log.
#[derive(Debug, Serialize)]
pub struct End {
    /// The last file.
    pub file: String,
    /// Where its last whole record ends.
    pub offset: u32,
    /// Octets of the file behind that.
    pub free_bytes: u32,
    /// The file is finished.
    pub sealed: bool,
    /// Records that a crash has torn, and that nobody was told were durable; the next start cuts them off.
    pub torn_records: u32,
}

/// What is declared, as far as it outlives a restart.
#[derive(Debug, Serialize)]
pub struct Declared {
    /// Virtual hosts.
    pub vhosts: usize,
    /// Exchanges, with those that every virtual host has.
    pub exchanges: usize,
    /// Queues.
    pub queues: usize,
    /// Bindings.
    pub bindings: usize,
    /// Policies.
    pub policies: usize,
    /// Users.
    pub users: usize,
}

/// The records of one shard.
#[derive(Debug, Serialize)]
pub struct ShardReport {
    /// Its number.
    pub shard: u16,
    /// `metadata` or `queues`.
    pub holds: &'static str,
    /// Its state in the checkpoint.
    pub snapshot: Option<Snapshot>,
    /// How many records there are, by what they are.
    pub records: BTreeMap<&'static str, u64>,
    /// Their octets, without their headers.
    pub bytes: u64,
    /// The index of the first entry.
    pub first_index: Option<u64>,
    /// The index of the last entry.
    pub last_index: Option<u64>,
    /// The highest Raft term of a record.
    pub term: u64,
    /// When the first entry was written. The metadata's have no times.
    pub first_time: Option<Time>,
    /// When the last entry was written.
    pub last_time: Option<Time>,
    /// How many commands the entries have, by what they are.
    pub commands: BTreeMap<&'static str, u64>,
}

/// A shard's state in the checkpoint.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// The term of the last entry that is in it.
    pub term: u64,
    /// The index of that entry.
    pub index: u64,
    /// Octets of the state.
    pub bytes: u64,
}

/// A place that is damaged, or a file that is missing.
#[derive(Debug, Serialize)]
pub struct Place {
    /// The file.
    pub file: String,
    /// Octets from its start.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
}

impl Report {
    pub(super) fn new(folder: &Path, found: Inspection, look: Look<'_>) -> Self {
        let fault_count = found.fault_count + look.fault_count;
        let identity = found.identity.unwrap_or_default();
        Self {
            folder: folder.display().to_string(),
            sound: fault_count == 0,
            node_id: identity.node_id,
            cluster_id: format!("{:032x}", identity.cluster_id),
            checkpoint: found.checkpoint.map(Checkpoint::from),
            segments: found.segments.into_iter().map(Segment::from).collect(),
            other_files: found.others,
            tail: found.tail.map(End::from),
            declared: Declared::of(&look.topology),
            shards: look.shards.into_values().collect(),
            fault_count,
            faults: found.faults.into_iter().chain(look.faults).take(FAULTS_MAX).map(Place::from).collect(),
        }
    }
}

impl From<FoundCheckpoint> for Checkpoint {
    fn from(found: FoundCheckpoint) -> Self {
        let FoundCheckpoint { number, len, replay_from } = found;
        Self { number, bytes: len, replay_file: file_name(replay_from.segment), replay_offset: replay_from.offset }
    }
}

impl From<FoundSegment> for Segment {
    fn from(found: FoundSegment) -> Self {
        let state = match found.state {
            SegmentState::Retained => "retained",
            SegmentState::Replayed => "replayed",
            SegmentState::GivenUp => "given_up",
        };
        Self { file: file_name(found.seq), bytes: found.len, state, records: found.records, end: found.end }
    }
}

impl From<Tail> for End {
    fn from(tail: Tail) -> Self {
        Self {
            file: file_name(tail.point.segment),
            offset: tail.point.offset,
            free_bytes: tail.free,
            sealed: tail.sealed,
            torn_records: tail.torn,
        }
    }
}

impl From<Fault> for Place {
    fn from(Fault { file, offset, reason }: Fault) -> Self {
        Self { file, offset, reason }
    }
}

impl Declared {
    fn of(topology: &Topology) -> Self {
        let sum = |count: fn(&Vhost) -> usize| topology.vhosts().map(count).sum();
        Self {
            vhosts: topology.vhosts().count(),
            exchanges: sum(|vhost| vhost.exchanges().count()),
            queues: topology.queues().count(),
            bindings: sum(|vhost| vhost.bindings().count()),
            policies: sum(|vhost| vhost.policies().count()),
            users: topology.users().count(),
        }
    }
}

impl ShardReport {
    pub(super) fn new(shard: u16) -> Self {
        Self {
            shard,
            holds: if shard == ShardId::METADATA.0 { "metadata" } else { "queues" },
            snapshot: None,
            records: BTreeMap::new(),
            bytes: 0,
            first_index: None,
            last_index: None,
            term: 0,
            first_time: None,
            last_time: None,
            commands: BTreeMap::new(),
        }
    }

    pub(super) fn count(&mut self, tag: Tag, position: Position, contents: &Contents) {
        *self.records.entry(super::record::kind_name(tag.kind)).or_default() += 1;
        self.bytes += u64::from(position.len);
        self.term = self.term.max(tag.term);
        for (command, count) in &contents.counts {
            *self.commands.entry(command).or_default() += count;
        }
        if tag.kind == Kind::Entry {
            self.first_index.get_or_insert(tag.index);
            self.last_index = Some(tag.index);
        }
        self.first_time = self.first_time.or(contents.time);
        self.last_time = contents.time.or(self.last_time);
    }
}
