//! Shards: ordered entries, and the word that an entry is committed.
//!
//! A [`Group`] is one shard's consensus group on this node. It numbers the entries that its shard proposes, hands them
//! to the node's log and says in order which of them are committed: durable on a majority of the voters. Consensus says
//! so, and the [`CommitAuditor`] counts for itself; what one of them does not know of is not handed out.
//!
//! In this version a group has one voter, this node, so that a majority is its own disk. It is Raft all the same: terms,
//! votes, the entry that begins a term, and a restart go the way that three nodes will.
//!
//! Reading order:
//! - [`Consensus`]: what is asked of an algorithm; `raft_driver`: `raft-rs` answers it;
//! - [`Restored`]: what a restart finds, and the format of votes;
//! - [`Group`]: those two, the log and the auditor together.
//!
//! This package starts no thread or task, has no timer, and knows neither AMQP nor Tokio.

mod auditor;
mod consensus;
mod group;
mod raft_driver;
mod restored;

pub use auditor::{CommitAuditor, NodeId};
pub use consensus::{Consensus, EntryId, NotLeading, TransferError, Vote, Write};
pub use group::{Append, Group, IN_FLIGHT_ENTRIES, ProposeError, Standing};
pub use raft_driver::RaftDriver;
pub use restored::{RestoreError, Restored};
