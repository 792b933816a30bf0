//! What the log says about a group when its node starts, and the format of its votes.
//!
//! ```text
//! vote: a record of kind `Vote`, whose term is the term reached; index 0; payload 8 bytes
//!      0  elected  u64      little-endian: the node that got this node's vote in that term; 0: nobody yet
//! ```
//!
//! # What a checkpoint forgets
//!
//! A checkpoint drops the vote with everything before it and keeps a shard's last applied entry. The term of that entry
//! may then be lower than the one that the node had reached: the vote was synced, the entry that begins its term was
//! not yet. A restart then leads the same term a second time. With one voter that is harmless: an entry of the first
//! time that was lost was not synced, so it was committed nowhere and known to nobody; and one that was not lost is
//! found behind the checkpoint, with its term. The entries that are ever committed have terms that only rise.
//!
//! With several voters it would not be: this node could elect two leaders in one term (Raft §5.2). There the vote has
//! to be in the log again, durable and behind the point where the checkpoint begins, before the checkpoint counts.

use crate::auditor::NodeId;
use crate::consensus::{EntryId, Vote};

/// What the log says about a group when its node starts: the last vote and the last entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    vote: Vote,
    /// The last entry that is in the snapshot.
    snapshot: EntryId,
    last: EntryId,
}

/// The records of a shard do not continue each other, which no crash explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// An entry is missing, or comes a second time.
    #[error("entry {index} comes behind entry {last}: the log was damaged or put together from two")]
    Index {
        /// The entry's index.
        index: u64,
        /// The index of the one before it.
        last: u64,
    },
    /// A term goes back.
    #[error("a record of term {term} comes behind one of term {last}: the log was damaged or put together from two")]
    Term {
        /// The record's term.
        term: u64,
        /// The term of the one before it.
        last: u64,
    },
    /// The payload of a vote has another length.
    #[error("a vote of {len} bytes, and a vote has {VOTE_LEN}: it was written by another version of this program")]
    Vote {
        /// Bytes of the payload.
        len: usize,
    },
}

const VOTE_LEN: usize = 8;

impl Restored {
    /// The last entry: where the group goes on. It is the snapshot's if none came behind it.
    pub fn last(&self) -> EntryId {
        self.last
    }

    /// The last term that the node has reached, and its vote in it.
    pub fn vote(&self) -> Vote {
        if self.vote.term >= self.last.term { self.vote } else { Vote { term: self.last.term, elected: None } }
    }

    /// A snapshot is in place of all entries up to `last`. Comes before all records.
    pub fn with_snapshot(&mut self, last: EntryId) {
        (self.snapshot, self.last) = (last, last);
    }

    /// The next record is a vote.
    ///
    /// # Errors
    /// It cannot be read, or its term goes back.
    pub fn with_vote(&mut self, term: u64, payload: &[u8]) -> Result<(), RestoreError> {
        let elected = u64::from_le_bytes(payload.try_into().map_err(|_| RestoreError::Vote { len: payload.len() })?);
        if term < self.vote.term {
            return Err(RestoreError::Term { term, last: self.vote.term });
        }
        self.vote = Vote { term, elected: (elected != 0).then_some(NodeId(elected)) };
        Ok(())
    }

    /// The next record is an entry. Answers whether it has to be applied: it is not in the snapshot, and it is not just the
    /// beginning of a term.
    ///
    /// # Errors
    /// It does not continue what came before.
    pub fn with_entry(&mut self, entry: EntryId, payload: &[u8]) -> Result<bool, RestoreError> {
        if entry.index <= self.snapshot.index {
            return Ok(false);
        }
        if entry.index != self.last.index + 1 {
            return Err(RestoreError::Index { index: entry.index, last: self.last.index });
        }
        if entry.term < self.last.term {
            return Err(RestoreError::Term { term: entry.term, last: self.last.term });
        }
        self.last = entry;
        Ok(!payload.is_empty())
    }
}

/// The payload of a vote's record.
pub(crate) fn vote_payload(vote: Vote) -> [u8; VOTE_LEN] {
    vote.elected.map_or(0, |node| node.0).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, index: u64) -> EntryId {
        EntryId { term, index }
    }

    #[test]
    fn a_vote_is_the_number_of_who_was_elected() {
        let vote = Vote { term: 3, elected: Some(NodeId(0x0102)) };
        assert_eq!(vote_payload(vote), [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(vote_payload(Vote { term: 3, elected: None }), [0; 8]);
        let mut restored = Restored::default();
        restored.with_vote(3, &vote_payload(vote)).expect("it can be read");
        assert_eq!(restored.vote(), vote);
        restored.with_vote(4, &[0; 8]).expect("it can be read");
        assert_eq!(restored.vote(), Vote { term: 4, elected: None });
        assert_eq!(restored.with_vote(3, &[0; 8]), Err(RestoreError::Term { term: 3, last: 4 }));
        assert_eq!(restored.with_vote(5, &[0; 7]), Err(RestoreError::Vote { len: 7 }));
    }

    #[test]
    fn entries_of_the_snapshot_and_beginnings_of_terms_are_not_applied() {
        let mut restored = Restored::default();
        restored.with_snapshot(entry(2, 10));
        assert_eq!(restored.with_entry(entry(2, 9), b"old"), Ok(false));
        assert_eq!(restored.with_entry(entry(2, 10), b"old"), Ok(false));
        assert_eq!(restored.last(), entry(2, 10));
        assert_eq!(restored.with_entry(entry(3, 11), b""), Ok(false));
        assert_eq!(restored.with_entry(entry(3, 12), b"new"), Ok(true));
        assert_eq!(restored.last(), entry(3, 12));
    }

    #[test]
    fn entries_continue_each_other() {
        let mut restored = Restored::default();
        assert_eq!(restored.with_entry(entry(4, 1), b"1"), Ok(true));
        assert_eq!(restored.with_entry(entry(4, 3), b"3"), Err(RestoreError::Index { index: 3, last: 1 }));
        assert_eq!(restored.with_entry(entry(4, 1), b"1"), Err(RestoreError::Index { index: 1, last: 1 }));
        assert_eq!(restored.with_entry(entry(3, 2), b"2"), Err(RestoreError::Term { term: 3, last: 4 }));
    }

    #[test]
    fn the_last_entry_tells_the_term_where_a_checkpoint_has_dropped_the_vote() {
        let mut restored = Restored::default();
        restored.with_snapshot(entry(7, 10));
        assert_eq!(restored.vote(), Vote { term: 7, elected: None });
    }
}
