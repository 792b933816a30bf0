//! Shards: ordered entries, and the word that an entry is committed.
//!
//! A [`Group`] is one shard's consensus group on this node. It numbers the entries that its shard proposes, hands them
//! to the node's log and says in order which of them are committed: durable on a majority of the voters, as counted
//! by the [`CommitAuditor`]. In this version a group has one voter, this node, so that a majority is its own disk;
//! proposing, committing and recovering already go the way that three nodes will.

mod auditor;
mod group;

pub use auditor::{CommitAuditor, NodeId};
pub use group::{Group, IN_FLIGHT_ENTRIES, LastEntry, ProposeError};
