//! One shard's consensus group on this node.

use std::collections::VecDeque;

use bytes::Bytes;
use warren_core::ShardId;
use warren_storage::{AppendError, Kind, LogHandle, Position, Record, RecordError, Tag};

use crate::auditor::{CommitAuditor, NodeId};

/// Entries that may be proposed and not yet committed. What arrives meanwhile gathers in the shard and makes the next
/// entry larger, so that batches form by themselves and no timer is needed.
pub const IN_FLIGHT_ENTRIES: u64 = 4;

/// Where a recovered log ended for one shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastEntry {
    /// The term of the last entry; 0 if there is none.
    pub term: u64,
    /// The index of the last entry; 0 if there is none.
    pub index: u64,
}

/// Why an entry cannot be proposed, now or ever.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// The entry can never be a record of the log.
    #[error("an entry does not fit into the log: {0}")]
    Unfit(#[from] RecordError),
    /// The log takes nothing any more: it failed, or the node is stopping.
    #[error("the log takes no entries any more: {0}")]
    Stopped(AppendError),
}

/// Proposes entries and says when they are committed.
pub struct Group {
    shard: ShardId,
    node: NodeId,
    term: u64,
    last_index: u64,
    committed: LastEntry,
    auditor: CommitAuditor,
    log: LogHandle,
    /// An entry that the log had no room for.
    refused: Option<Record>,
    /// Where this node's log holds the entries that are not committed yet, oldest first.
    durable: VecDeque<Position>,
}

impl Group {
    /// The group of `shard` with `node` as its only voter, which leads a new term behind the last recovered entry.
    /// What was recovered was durable on the majority of one and is committed.
    pub fn lead_alone(shard: ShardId, node: NodeId, last: LastEntry, log: LogHandle) -> Self {
        let mut auditor = CommitAuditor::new([node]);
        auditor.matched(node, last.index);
        let (term, last_index) = (last.term + 1, last.index);
        let durable = VecDeque::with_capacity(IN_FLIGHT_ENTRIES as usize);
        Self { shard, node, term, last_index, committed: last, auditor, log, refused: None, durable }
    }

    /// The last committed entry.
    pub fn last_committed(&self) -> LastEntry {
        self.committed
    }

    /// True if another entry may be proposed.
    pub fn has_room(&self) -> bool {
        self.refused.is_none() && self.last_index - self.committed.index < IN_FLIGHT_ENTRIES
    }

    /// Proposes an entry made of `slices`, one behind the other. If the log has no room the entry is kept and there is
    /// no room in the group either, until [`Self::retry`].
    ///
    /// # Errors
    /// The entry can never be written, or the log has stopped.
    pub fn propose(&mut self, slices: Vec<Bytes>) -> Result<(), ProposeError> {
        let tag = Tag { kind: Kind::Entry, shard: self.shard.0, term: self.term, index: self.last_index + 1 };
        let record = Record::new(tag, slices)?;
        self.last_index += 1;
        self.append(record)
    }

    /// Offers a refused entry to the log again.
    ///
    /// # Errors
    /// The log has stopped.
    pub fn retry(&mut self) -> Result<(), ProposeError> {
        self.refused.take().map_or(Ok(()), |record| self.append(record))
    }

    /// The entry `index`, the next one of this node's log, is durable there, its payload at `position`.
    pub fn synced(&mut self, index: u64, position: Position) {
        self.durable.push_back(position);
        self.auditor.matched(self.node, index);
    }

    /// Where the oldest committed entry that was not taken yet lies in this node's log; `None` if there is none.
    pub fn take_committed(&mut self) -> Option<Position> {
        if self.auditor.committed() <= self.committed.index {
            return None;
        }
        let position = self.durable.pop_front()?;
        self.committed = LastEntry { term: self.term, index: self.committed.index + 1 };
        Some(position)
    }

    fn append(&mut self, record: Record) -> Result<(), ProposeError> {
        match self.log.try_append(record) {
            Ok(()) => Ok(()),
            Err(AppendError::Full(record)) => {
                self.refused = Some(record);
                Ok(())
            }
            Err(stopped) => Err(ProposeError::Stopped(stopped)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use warren_storage::{Batch, Completion, FaultyDisk, Log, LogError, LogWriter, Options};

    use super::*;

    const SHARD: ShardId = ShardId(3);

    struct Sink(Sender<(u64, Position)>);

    impl Completion for Sink {
        fn synced(&mut self, batch: Batch<'_>) {
            for record in batch.records {
                // The test may have seen enough and gone.
                let _ = self.0.send((record.tag.index, record.position));
            }
        }

        fn failed(&mut self, error: LogError) {
            panic!("the log failed: {error}");
        }
    }

    #[test]
    fn entries_are_committed_in_order_and_at_most_four_are_in_flight() {
        let log = Log::open(FaultyDisk::new(4096), Options::default(), |_| {}).expect("an empty disk opens");
        let (sink, synced) = channel();
        let writer = LogWriter::spawn(log, Sink(sink)).expect("a thread starts");
        let mut group = Group::lead_alone(SHARD, NodeId(1), LastEntry::default(), writer.handle());
        let mut proposed = 0;
        while group.has_room() {
            group.propose(vec![Bytes::from_static(b"entry")]).expect("the log takes it");
            proposed += 1;
        }
        assert_eq!(proposed, IN_FLIGHT_ENTRIES);
        let mut committed = 0;
        while committed < proposed {
            let (index, position) = synced.recv().expect("the log syncs");
            group.synced(index, position);
            assert_eq!(group.take_committed(), Some(position));
            committed += 1;
        }
        assert_eq!(group.take_committed(), None);
        assert_eq!(group.last_committed(), LastEntry { term: 1, index: IN_FLIGHT_ENTRIES });
        assert!(group.has_room());
        writer.close();
    }

    #[test]
    fn a_new_term_goes_on_behind_what_was_recovered() {
        let disk = FaultyDisk::new(4096);
        let log = Log::open(disk.clone(), Options::default(), |_| {}).expect("an empty disk opens");
        let (sink, synced) = channel();
        let writer = LogWriter::spawn(log, Sink(sink)).expect("a thread starts");
        let last = LastEntry { term: 4, index: 9 };
        let mut group = Group::lead_alone(SHARD, NodeId(1), last, writer.handle());
        group.propose(vec![Bytes::from_static(b"entry")]).expect("the log takes it");
        let (index, position) = synced.recv().expect("the log syncs");
        group.synced(index, position);
        assert_eq!((index, group.take_committed()), (10, Some(position)));
        writer.close();
        let mut recovered = Vec::new();
        Log::open(disk, Options::default(), |record| recovered.push((record.tag.term, record.tag.index)))
            .expect("the disk opens again");
        assert_eq!(recovered, [(5, 10)]);
    }
}
