//! Counts for itself how far a majority has come, from nothing but each voter's own word.

use std::collections::BTreeMap;

/// A member of the cluster. Given once, kept with the data, never used again for an empty disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// How far each voter's log is durable, and so how far the group is committed (Raft §5.3).
///
/// It stands beside the consensus on purpose: what it has not counted is not confirmed to any client.
#[derive(Debug, Clone)]
pub struct CommitAuditor {
    /// The last durable index of every voter; 0 for none.
    matched: BTreeMap<NodeId, u64>,
}

impl CommitAuditor {
    /// An auditor of a group with these voters.
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { matched: voters.into_iter().map(|voter| (voter, 0)).collect() }
    }

    /// `node` says that its log is durable up to `index`. Those who do not vote are not counted; a lower index than
    /// before is an old message.
    pub fn matched(&mut self, node: NodeId, index: u64) {
        if let Some(matched) = self.matched.get_mut(&node) {
            *matched = index.max(*matched);
        }
    }

    /// The highest index that a majority has; 0 if there is none.
    pub fn committed(&self) -> u64 {
        let mut indexes: Vec<u64> = self.matched.values().copied().collect();
        indexes.sort_unstable();
        // Of n ascending values, the one that more than half are not below.
        indexes.len().checked_sub(1).map_or(0, |last| indexes[last / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(matched: &[u64]) -> u64 {
        let nodes = (0..).map(NodeId);
        let mut auditor = CommitAuditor::new(nodes.clone().take(matched.len()));
        nodes.zip(matched).for_each(|(node, index)| auditor.matched(node, *index));
        auditor.committed()
    }

    #[test]
    fn an_index_is_committed_when_more_than_half_of_the_voters_have_it() {
        for (matched, expected) in [
            (&[][..], 0),
            (&[7][..], 7),
            (&[7, 3][..], 3),
            (&[9, 3, 5][..], 5),
            (&[9, 0, 0][..], 0),
            (&[1, 2, 3, 4][..], 2),
            (&[9, 9, 9, 0, 0][..], 9),
            (&[9, 9, 1, 0, 0][..], 1),
        ] {
            assert_eq!(committed(matched), expected, "{matched:?}");
        }
    }

    #[test]
    fn strangers_and_old_messages_do_not_count() {
        let mut auditor = CommitAuditor::new([NodeId(1)]);
        auditor.matched(NodeId(2), 50);
        assert_eq!(auditor.committed(), 0);
        auditor.matched(NodeId(1), 5);
        auditor.matched(NodeId(1), 4);
        assert_eq!(auditor.committed(), 5);
    }
}
