//! Consensus by `raft-rs`, stepped by whoever calls: no task, no timer, no channel.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::storage::{RaftState, Storage};
use raft::{Config, Error, GetEntriesContext, RawNode, StateRole, StorageError};

use crate::auditor::NodeId;
use crate::consensus::{Consensus, EntryId, NotLeading, TransferError, Vote, Write};
use crate::group::IN_FLIGHT_ENTRIES;
use crate::restored::Restored;

/// One group of `raft-rs` on this node.
///
/// The library hands out its work in numbered portions and learns later which of them are durable. A portion counts as
/// durable when all its writes are and all portions before it.
pub struct RaftDriver {
    raft: RawNode<Entries>,
    /// What was last written of term and vote.
    vote: Vote,
    writes: VecDeque<Write>,
    /// Portions that are not durable yet, oldest first: their number, and how many of their writes are still awaited.
    /// The first always awaits some.
    awaited: VecDeque<(u64, usize)>,
    committed: u64,
    /// Reads that came before this term has committed anything.
    early_reads: Vec<u64>,
    reads: VecDeque<(u64, u64)>,
}

impl RaftDriver {
    /// The group with `node`, whose number is not 0, as its only voter. It elects itself at once and leads a new term behind what
    /// was restored, all of which was durable on the majority of one and is committed.
    pub fn lead_alone(node: NodeId, restored: &Restored) -> Self {
        let committed = restored.last().index;
        let config =
            Config { applied: committed, max_inflight_msgs: IN_FLIGHT_ENTRIES as usize, ..Config::new(node.0) };
        // It says little beside its elections; what breaks its invariants is a panic with a message of its own.
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut raft = RawNode::new(&config, Entries::new(node, restored), &logger)
            .expect("the configuration is valid, and these entries can be read");
        raft.campaign().expect("a node that hears of no other term may always stand for election");
        let mut driver = Self {
            raft,
            vote: restored.vote(),
            writes: VecDeque::new(),
            awaited: VecDeque::new(),
            committed,
            early_reads: Vec::new(),
            reads: VecDeque::new(),
        };
        driver.advance();
        driver
    }

    /// Takes up what the library has worked out.
    fn advance(&mut self) {
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            let before = self.writes.len();
            if let Some(state) = ready.hs() {
                self.write_vote(state);
                self.raft.mut_store().state = state.clone();
            }
            for entry in ready.take_entries() {
                self.raft.mut_store().terms.push_back(entry.term);
                self.writes.push_back(Write::Entry(EntryId { term: entry.term, index: entry.index }));
            }
            for read in ready.take_read_states() {
                if let Ok(request) = read.request_ctx.try_into() {
                    self.reads.push_back((u64::from_le_bytes(request), read.index));
                }
            }
            let committed = ready.take_committed_entries();
            self.awaited.push_back((ready.number(), self.writes.len() - before));
            self.raft.advance_append_async(ready);
            if let Some(last) = committed.last() {
                self.commit(last.index);
            }
            self.report();
        }
    }

    fn write_vote(&mut self, state: &HardState) {
        let vote = Vote { term: state.term, elected: (state.vote != 0).then_some(NodeId(state.vote)) };
        if vote != self.vote {
            self.vote = vote;
            self.writes.push_back(Write::Vote(vote));
        }
    }

    /// Entries are applied by the shard's machine as soon as they are handed out, so the library need not keep them.
    fn commit(&mut self, index: u64) {
        self.committed = index;
        self.raft.advance_apply_to(index);
        self.raft.mut_store().forget_before(index);
    }

    /// Tells the library which portions are durable.
    fn report(&mut self) {
        while let Some((number, 0)) = self.awaited.front() {
            self.raft.on_persist_ready(*number);
            self.awaited.pop_front();
        }
    }
}

impl Consensus for RaftDriver {
    fn propose(&mut self) -> Result<EntryId, NotLeading> {
        // A follower would send the proposal to the leader, and its octets are not in it.
        if self.raft.raft.state != StateRole::Leader {
            return Err(NotLeading);
        }
        self.raft.propose(Vec::new(), Vec::new()).map_err(|_| NotLeading)?;
        let entry = EntryId { term: self.raft.raft.term, index: self.raft.raft.raft_log.last_index() };
        self.advance();
        Ok(entry)
    }

    fn take_write(&mut self) -> Option<Write> {
        self.writes.pop_front()
    }

    fn synced(&mut self) {
        if let Some((_, writes)) = self.awaited.front_mut() {
            *writes -= 1;
        }
        self.report();
        self.advance();
        if !self.early_reads.is_empty() && self.raft.raft.commit_to_current_term() {
            for request in std::mem::take(&mut self.early_reads) {
                self.read_index(request);
            }
        }
    }

    fn committed(&self) -> u64 {
        self.committed
    }

    fn read_index(&mut self, request: u64) {
        // The library drops such a request: only when an entry of its own term is committed does a leader know what is.
        if !self.raft.raft.commit_to_current_term() {
            return self.early_reads.push(request);
        }
        self.raft.read_index(request.to_le_bytes().to_vec());
        self.advance();
    }

    fn take_read_index(&mut self) -> Option<(u64, u64)> {
        self.reads.pop_front()
    }

    fn transfer(&mut self, to: NodeId) -> Result<(), TransferError> {
        if self.raft.raft.prs().get(to.0).is_none() {
            return Err(TransferError { to });
        }
        self.raft.transfer_leader(to.0);
        self.advance();
        Ok(())
    }
}

/// What `raft-rs` reads back: the entries that are not committed yet, as terms without octets, behind the last one that
/// is. All before it look to the library as if a snapshot had taken their place.
struct Entries {
    state: HardState,
    members: ConfState,
    /// The last entry that is not here any more.
    base: EntryId,
    /// Of the entries from the one behind `base` on.
    terms: VecDeque<u64>,
}

impl Entries {
    fn new(node: NodeId, restored: &Restored) -> Self {
        let (vote, base) = (restored.vote(), restored.last());
        let mut state = HardState::default();
        (state.term, state.vote, state.commit) = (vote.term, vote.elected.map_or(0, |node| node.0), base.index);
        let members = ConfState::from((vec![node.0], Vec::new()));
        Self { state, members, base, terms: VecDeque::new() }
    }

    /// Drops the entries up to `index`, which are all here.
    fn forget_before(&mut self, index: u64) {
        while self.base.index < index
            && let Some(term) = self.terms.pop_front()
        {
            self.base = EntryId { term, index: self.base.index + 1 };
        }
    }

    fn term_of(&self, index: u64) -> Result<u64, StorageError> {
        if index == self.base.index {
            return Ok(self.base.term);
        }
        let offset = index.checked_sub(self.base.index + 1).ok_or(StorageError::Compacted)?;
        self.terms.get(offset as usize).copied().ok_or(StorageError::Unavailable)
    }
}

impl Storage for Entries {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.state.clone(), self.members.clone()))
    }

    /// The bound of octets is without effect: no entry has any here.
    fn entries(
        &self,
        low: u64,
        high: u64,
        _max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let entry = |index| {
            let mut entry = Entry::default();
            (entry.term, entry.index) = (self.term_of(index)?, index);
            Ok(entry)
        };
        (low..high).map(entry).collect::<Result<_, _>>().map_err(Error::Store)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.term_of(index).map_err(Error::Store)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.base.index + self.terms.len() as u64)
    }

    /// Only for followers, which a group of one does not have.
    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(7);

    fn restored(term: u64, index: u64) -> Restored {
        let mut restored = Restored::default();
        restored.with_snapshot(EntryId { term, index });
        restored
    }

    fn writes(driver: &mut RaftDriver) -> Vec<Write> {
        std::iter::from_fn(|| driver.take_write()).collect()
    }

    fn entry(term: u64, index: u64) -> Write {
        Write::Entry(EntryId { term, index })
    }

    #[test]
    fn a_term_begins_with_a_vote_and_then_an_entry() {
        let mut driver = RaftDriver::lead_alone(NODE, &restored(4, 9));
        let vote = Write::Vote(Vote { term: 5, elected: Some(NODE) });
        assert_eq!(writes(&mut driver), [vote, entry(5, 10)]);
        driver.synced();
        assert_eq!(driver.committed(), 9);
        driver.synced();
        assert_eq!(driver.committed(), 10);
    }

    #[test]
    fn a_vote_of_a_lost_term_counts() {
        let mut restored = restored(4, 9);
        restored.with_vote(8, &NODE.0.to_le_bytes()).expect("it is a vote");
        let mut driver = RaftDriver::lead_alone(NODE, &restored);
        assert_eq!(writes(&mut driver)[1], entry(9, 10));
    }

    #[test]
    fn entries_are_written_while_earlier_ones_are_awaited_and_committed_one_by_one() {
        let mut driver = RaftDriver::lead_alone(NODE, &Restored::default());
        assert_eq!(driver.propose(), Ok(EntryId { term: 1, index: 2 }));
        assert_eq!(driver.propose(), Ok(EntryId { term: 1, index: 3 }));
        assert_eq!(writes(&mut driver)[1..], [entry(1, 1), entry(1, 2), entry(1, 3)]);
        let committed = [(); 4].map(|()| {
            driver.synced();
            driver.committed()
        });
        assert_eq!(committed, [0, 1, 2, 3]);
        assert_eq!(writes(&mut driver), []);
    }

    #[test]
    fn what_is_committed_is_not_kept() {
        let mut driver = RaftDriver::lead_alone(NODE, &Restored::default());
        for _ in 0..100 {
            driver.propose().expect("it leads");
            writes(&mut driver).iter().for_each(|_| driver.synced());
        }
        assert_eq!(driver.committed(), 101);
        assert_eq!((driver.raft.store().base.index, driver.raft.store().terms.len()), (101, 0));
        assert!(driver.awaited.is_empty());
    }

    #[test]
    fn a_read_before_the_term_has_committed_anything_is_answered_when_it_has() {
        let mut driver = RaftDriver::lead_alone(NODE, &restored(4, 9));
        driver.read_index(1);
        assert_eq!(driver.take_read_index(), None);
        writes(&mut driver).iter().for_each(|_| driver.synced());
        assert_eq!(driver.take_read_index(), Some((1, 10)));
        driver.propose().expect("it leads");
        driver.read_index(2);
        assert_eq!(driver.take_read_index(), Some((2, 10)));
    }

    #[test]
    fn leadership_goes_to_members_only() {
        let mut driver = RaftDriver::lead_alone(NODE, &Restored::default());
        assert_eq!(driver.transfer(NodeId(8)), Err(TransferError { to: NodeId(8) }));
        assert_eq!(driver.transfer(NODE), Ok(()));
        assert_eq!(driver.propose(), Ok(EntryId { term: 1, index: 2 }));
    }

    #[test]
    fn time_that_passes_changes_nothing_for_a_group_of_one() {
        let mut driver = RaftDriver::lead_alone(NODE, &Restored::default());
        writes(&mut driver).iter().for_each(|_| driver.synced());
        for _ in 0..1000 {
            driver.raft.tick();
            driver.advance();
        }
        assert_eq!(writes(&mut driver), []);
        assert_eq!(driver.propose(), Ok(EntryId { term: 1, index: 2 }));
    }
}
