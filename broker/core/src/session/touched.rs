//! Which queues may hold something of a connection, so that its end can take it back.

use alloc::collections::BTreeSet;

use crate::identity::{QueueId, ShardId};
use crate::limits::TOUCHED_QUEUES;

/// Queues one by one up to a bound, and whole shards beyond it.
#[derive(Debug, Default)]
pub(super) struct Touched {
    queues: BTreeSet<(ShardId, QueueId)>,
    shards: BTreeSet<ShardId>,
}

impl Touched {
    pub(super) fn insert(&mut self, shard: ShardId, queue: QueueId) {
        if self.contains(shard, queue) {
            return;
        }
        if self.queues.len() >= TOUCHED_QUEUES {
            self.shards.extend(core::mem::take(&mut self.queues).into_iter().map(|(shard, _)| shard));
        }
        if !self.shards.contains(&shard) {
            self.queues.insert((shard, queue));
        }
    }

    pub(super) fn contains(&self, shard: ShardId, queue: QueueId) -> bool {
        self.shards.contains(&shard) || self.queues.contains(&(shard, queue))
    }

    /// What to leave: a queue, or with `None` all of a shard.
    pub(super) fn into_parts(self) -> impl Iterator<Item = (ShardId, Option<QueueId>)> {
        let shards = self.shards.into_iter().map(|shard| (shard, None));
        shards.chain(self.queues.into_iter().map(|(shard, queue)| (shard, Some(queue))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn beyond_the_bound_shards_are_remembered_and_nothing_is_forgotten() {
        let mut touched = Touched::default();
        let queue = |at: usize| (ShardId(at as u16 % 2 + 1), QueueId(at as u32));
        let all = || (0..3 * TOUCHED_QUEUES).map(queue);
        all().for_each(|(shard, queue)| touched.insert(shard, queue));
        assert!(all().all(|(shard, queue)| touched.contains(shard, queue)));
        assert!(touched.queues.len() <= TOUCHED_QUEUES);
        assert!(!touched.contains(ShardId(9), QueueId(0)));
        assert_eq!(touched.into_parts().collect::<Vec<_>>(), [(ShardId(1), None), (ShardId(2), None)]);
    }
}
