//! One shard's group on this node: consensus, the log, and the auditor between them and everybody else.

use std::collections::VecDeque;

use bytes::Bytes;
use warren_core::ShardId;
use warren_storage::{AppendError, Kind, LogHandle, MAX_PAYLOAD_LEN, Position, Record, RecordError, Tag};

use crate::auditor::{CommitAuditor, NodeId};
use crate::consensus::{Consensus, EntryId, NotLeading, TransferError, Write};
use crate::raft_driver::RaftDriver;
use crate::restored::{Restored, vote_payload};

/// Entries that may be proposed and not yet committed. What arrives meanwhile gathers in the shard and makes the next
/// entry larger, so that batches form by themselves and no timer is needed.
pub const IN_FLIGHT_ENTRIES: u64 = 4;

/// Why an entry cannot be proposed, now or ever.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// The entry can never be a record of the log.
    #[error("an entry does not fit into the log: {0}")]
    Unfit(#[from] RecordError),
    /// The entry has no octets. Such a one only begins a term, and would never be handed out.
    #[error("an entry has no octets, so there is nothing to commit")]
    Empty,
    /// Another node has to propose it.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// The log takes nothing any more: it failed, or the node is stopping.
    #[error("the log takes no entries any more: {0}")]
    Stopped(AppendError),
}

/// Takes records for the log, in order, and never waits: the log thread's queue, or a log in a simulation.
pub trait Append {
    /// Takes a record, or gives it back if there is no room now.
    ///
    /// # Errors
    /// As [`LogHandle::try_append`].
    fn try_append(&self, record: Record) -> Result<(), AppendError>;
}

impl Append for LogHandle {
    fn try_append(&self, record: Record) -> Result<(), AppendError> {
        Self::try_append(self, record)
    }
}

/// Proposes entries and says, in order, which are committed and where they are.
///
/// ```text
/// propose ─▶ consensus numbers it ─▶ log ─▶ synced ─┬▶ consensus: committed? ─┐
///                                                   └▶ auditor: a majority? ──┴▶ take_committed
/// ```
///
/// # Panics
/// What consensus says is committed and the auditor has not counted stops the group with a panic, and so does a log that
/// reports records in another order than it got them: nothing that was said since could be trusted. Whoever runs a
/// group ends the process when it panics.
pub struct Group<C = RaftDriver, L = LogHandle> {
    shard: ShardId,
    node: NodeId,
    consensus: C,
    log: L,
    auditor: CommitAuditor,
    /// The last entry that was numbered.
    last: EntryId,
    /// The last committed entry up to which everything was taken.
    committed: EntryId,
    /// Records that the log had no room for, oldest first.
    refused: VecDeque<Record>,
    /// What was given to the log and is not durable yet, oldest first.
    under_way: VecDeque<Write>,
    /// Where this node's log holds durable entries that were not taken yet, oldest first.
    durable: VecDeque<(EntryId, Position)>,
    /// Reads whose index is known, oldest first.
    reads: VecDeque<(u64, u64)>,
    last_read: u64,
}

/// How far a group is: Raft's own words for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The term of the last entry.
    pub term: u64,
    /// The last entry that was numbered.
    pub last: u64,
    /// The last entry that is durable here.
    pub written: u64,
    /// The last entry that is committed, and has been taken to be applied.
    pub committed: u64,
}

impl Group {
    /// The group of `shard` with `node`, whose number is not 0, as its only voter, which leads a new term behind what was
    /// restored.
    ///
    /// # Errors
    /// The log takes nothing.
    pub fn lead_alone(shard: ShardId, node: NodeId, restored: &Restored, log: LogHandle) -> Result<Self, ProposeError> {
        Self::with_consensus(shard, node, restored, RaftDriver::lead_alone(node, restored), log)
    }
}

impl<C: Consensus, L: Append> Group<C, L> {
    /// As [`lead_alone`](Group::lead_alone), with another consensus or another log. What was restored was durable on the majority of one
    /// and is committed.
    ///
    /// # Errors
    /// The log takes nothing.
    pub fn with_consensus(
        shard: ShardId,
        node: NodeId,
        restored: &Restored,
        consensus: C,
        log: L,
    ) -> Result<Self, ProposeError> {
        let last = restored.last();
        let mut auditor = CommitAuditor::new([node]);
        auditor.matched(node, last.index);
        let mut group = Self {
            shard,
            node,
            consensus,
            log,
            auditor,
            last,
            committed: last,
            refused: VecDeque::new(),
            under_way: VecDeque::new(),
            durable: VecDeque::new(),
            reads: VecDeque::new(),
            last_read: 0,
        };
        group.write(None)?;
        Ok(group)
    }

    /// The last committed entry; all up to it were [taken](Self::take_committed).
    pub fn last_committed(&self) -> EntryId {
        self.committed
    }

    /// How far the group is, for those who watch it.
    pub fn standing(&self) -> Standing {
        Standing {
            term: self.last.term,
            last: self.last.index,
            written: self.auditor.committed(),
            committed: self.committed.index,
        }
    }

    /// True if another entry may be proposed.
    pub fn has_room(&self) -> bool {
        self.refused.is_empty() && self.last.index - self.committed.index < IN_FLIGHT_ENTRIES
    }

    /// Proposes an entry made of `slices`, one behind the other. If the log has no room the entry is kept and there is
    /// no room in the group either, until [`Self::retry`].
    ///
    /// # Errors
    /// The entry can never be written, this node does not lead, or the log has stopped.
    pub fn propose(&mut self, slices: Vec<Bytes>) -> Result<(), ProposeError> {
        // Once it has a number it has to be written.
        match slices.iter().map(Bytes::len).sum::<usize>() {
            0 => return Err(ProposeError::Empty),
            len if len > MAX_PAYLOAD_LEN as usize => return Err(RecordError::TooLong { len }.into()),
            _ => {}
        }
        let entry = self.consensus.propose()?;
        self.write(Some((entry, slices)))
    }

    /// Offers refused records to the log again.
    ///
    /// # Errors
    /// The log has stopped.
    pub fn retry(&mut self) -> Result<(), ProposeError> {
        for record in std::mem::take(&mut self.refused) {
            self.append(record)?;
        }
        Ok(())
    }

    /// The group's oldest record under way is durable: a vote or an entry, the latter's payload at `position`.
    ///
    /// # Panics
    /// It is not the oldest, or consensus takes for committed what is not durable.
    pub fn synced(&mut self, kind: Kind, index: u64, position: Position) {
        let write = self.under_way.pop_front();
        match write {
            Some(Write::Vote(_)) if kind == Kind::Vote => {}
            Some(Write::Entry(entry)) if kind == Kind::Entry && entry.index == index => {
                self.durable.push_back((entry, position));
                self.auditor.matched(self.node, index);
            }
            _ => panic!(
                "shard {}: the log reports {kind:?} {index} as durable, and the next one is {write:?}",
                self.shard.0
            ),
        }
        self.consensus.synced();
        self.audit();
        self.reads.extend(std::iter::from_fn(|| self.consensus.take_read_index()));
    }

    /// Where the oldest committed entry that was not taken yet lies in this node's log; `None` if there is none. Entries
    /// that only begin a term are passed over.
    pub fn take_committed(&mut self) -> Option<Position> {
        let counted = self.consensus.committed().min(self.auditor.committed());
        while self.committed.index < counted {
            let (entry, position) = self.durable.pop_front()?;
            self.committed = entry;
            if position.len > 0 {
                return Some(position);
            }
        }
        None
    }

    /// Begins a read of the shard's state that must not miss what is committed now (thesis §6.4). Answers a number that
    /// [`take_read`](Self::take_read) gives back when the read may go on; they count up from 1.
    pub fn read_barrier(&mut self) -> u64 {
        self.last_read += 1;
        self.consensus.read_index(self.last_read);
        self.reads.extend(std::iter::from_fn(|| self.consensus.take_read_index()));
        self.last_read
    }

    /// The oldest read that may go on: what was committed when it began has been taken.
    pub fn take_read(&mut self) -> Option<u64> {
        let taken = self.committed.index;
        self.reads.pop_front_if(|(_, index)| *index <= taken).map(|(request, _)| request)
    }

    /// Hands leadership to another member; nothing happens if it is this node.
    ///
    /// # Errors
    /// That node is not a member.
    pub fn transfer(&mut self, to: NodeId) -> Result<(), TransferError> {
        self.consensus.transfer(to)
    }

    /// # Panics
    /// Consensus goes further than the auditor.
    fn audit(&self) {
        let (committed, counted) = (self.consensus.committed(), self.auditor.committed());
        assert!(
            committed <= counted,
            "shard {}: consensus takes entry {committed} for committed, and a majority has only {counted}; nothing is \
             confirmed any more",
            self.shard.0
        );
    }

    /// Gives the log what consensus wants written; an entry that was not proposed has no octets.
    fn write(&mut self, mut proposed: Option<(EntryId, Vec<Bytes>)>) -> Result<(), ProposeError> {
        while let Some(write) = self.consensus.take_write() {
            let (tag, payload) = match write {
                Write::Vote(vote) => {
                    let payload = Bytes::copy_from_slice(&vote_payload(vote));
                    (Tag { kind: Kind::Vote, shard: self.shard.0, term: vote.term, index: 0 }, vec![payload])
                }
                Write::Entry(entry) => {
                    self.last = entry;
                    let own = proposed.take_if(|(id, _)| *id == entry).map(|(_, slices)| slices);
                    let tag = Tag { kind: Kind::Entry, shard: self.shard.0, term: entry.term, index: entry.index };
                    (tag, own.unwrap_or_default())
                }
            };
            self.under_way.push_back(write);
            self.append(Record::new(tag, payload)?)?;
        }
        Ok(())
    }

    fn append(&mut self, record: Record) -> Result<(), ProposeError> {
        // Behind one that was refused: the log has to have them in order.
        if !self.refused.is_empty() {
            self.refused.push_back(record);
            return Ok(());
        }
        match self.log.try_append(record) {
            Ok(()) => Ok(()),
            Err(AppendError::Full(record)) => {
                self.refused.push_back(record);
                Ok(())
            }
            Err(stopped) => Err(ProposeError::Stopped(stopped)),
        }
    }
}

#[cfg(test)]
mod tests;
