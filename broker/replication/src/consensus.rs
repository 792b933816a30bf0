//! What a group needs from a consensus algorithm, and no more.

use crate::auditor::NodeId;

/// An entry's place in its shard's Raft log. An index has one entry in each term that ever wrote there, and of those
/// only one is ever committed (Raft §5.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The Raft term in which it was proposed; 0 if there is no entry.
    pub term: u64,
    /// Counts the entries from 1; 0 if there is no entry.
    pub index: u64,
}

/// The term that a node has reached, and whom it has elected in it (Raft §5.2). It may elect one only, so this must be
/// durable before anybody hears of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vote {
    /// The term; 0 before the first election.
    pub term: u64,
    /// Whom; `None` as long as the node has elected nobody in that term.
    pub elected: Option<NodeId>,
}

/// Something that has to reach this node's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// A vote.
    Vote(Vote),
    /// An entry. Its octets are not known here: they are those of the proposal with this id, or none.
    Entry(EntryId),
}

/// The node does not lead the shard, or is just handing it over: the proposal was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node does not lead the shard; the entry was not taken and belongs to the node that does")]
pub struct NotLeading;

/// Leadership cannot go there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("node {} is not a member of this shard's group, so it cannot lead it; name one of its members", to.0)]
pub struct TransferError {
    /// Who was named.
    pub to: NodeId,
}

/// One shard's consensus on one node: a machine without IO, clock or thread. It numbers entries, says what has to be
/// written and in which order, is told what is durable, and says how far the shard is committed.
///
/// It never sees an entry's octets. They go from the shard to the log once and are found there by index.
///
/// With several voters it also needs to be told of messages and of time, and to hand out messages (Raft §5.3, §5.2);
/// members change (Raft §6; thesis §4.3); a follower that is too far behind is given a snapshot (Raft §7). None of
/// these means anything to a group of one, whose snapshot is read [at the start](crate::Restored), so none is here.
pub trait Consensus {
    /// Takes a new entry, as the leader, and numbers it (Raft §5.3).
    ///
    /// # Errors
    /// The node does not lead.
    fn propose(&mut self) -> Result<EntryId, NotLeading>;

    /// The next thing to write; `None` if there is nothing. What is taken has to reach the log in this order: a vote before the
    /// entries of its term. A term begins with an entry that nobody proposed and that has no octets: only by
    /// committing one of its own term does a leader learn what is committed before it (Raft §5.4.2, §8).
    fn take_write(&mut self) -> Option<Write>;

    /// The oldest write that was taken and not reported yet is durable. Writes are awaited while the next ones are
    /// already made (thesis §10.2.1).
    fn synced(&mut self);

    /// The index up to which entries are committed.
    fn committed(&self) -> u64;

    /// Asks up to which index a reader must have applied entries to see everything that is committed now, under a
    /// number that the answer will have (thesis §6.4).
    fn read_index(&mut self, request: u64);

    /// The next answer: the number of the request, and the index.
    fn take_read_index(&mut self) -> Option<(u64, u64)>;

    /// Hands leadership to another member (thesis §3.10). That it has gone is seen when [`propose`](Self::propose) is refused. To
    /// itself there is nothing to hand over.
    ///
    /// # Errors
    /// That node is not a member.
    fn transfer(&mut self, to: NodeId) -> Result<(), TransferError>;
}
