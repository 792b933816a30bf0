//! Which queues have a message already that must reach several.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::Source;
use crate::identity::QueueId;
use crate::limits::PARTLY_FORWARDED;

/// Messages that some of their next queues have and others have refused. They are bounded, for a queue that is purged or
/// deleted does not say so: the oldest is forgotten, and if it is sent again after all, to all of them.
#[derive(Debug, Default)]
pub(super) struct Partly {
    arrived: BTreeMap<Source, Vec<QueueId>>,
    /// The oldest first; those that have been taken meanwhile are skipped.
    order: VecDeque<Source>,
}

impl Partly {
    pub(super) fn insert(&mut self, source: Source, arrived: Vec<QueueId>) {
        self.arrived.insert(source, arrived);
        self.order.push_back(source);
        while self.order.len() > PARTLY_FORWARDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.arrived.remove(&oldest);
        }
    }

    /// The queues that have the message; `None`: it has not been refused yet.
    pub(super) fn take(&mut self, source: Source) -> Option<Vec<QueueId>> {
        let arrived = self.arrived.remove(&source)?;
        self.order.retain(|other| *other != source);
        Some(arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::ShardId;

    fn source(position: u64) -> Source {
        Source { shard: ShardId(1), queue: QueueId(1), position }
    }

    #[test]
    fn beyond_the_limit_the_oldest_is_forgotten() {
        let mut partly = Partly::default();
        for position in 0..PARTLY_FORWARDED as u64 {
            partly.insert(source(position), Vec::from([QueueId(7)]));
        }
        assert_eq!(partly.take(source(0)), Some(Vec::from([QueueId(7)])), "all fit");
        for position in 0..2 {
            partly.insert(source(PARTLY_FORWARDED as u64 + position), Vec::new());
        }
        assert_eq!(partly.take(source(1)), None, "one too many");
        assert_eq!(partly.take(source(2)), Some(Vec::from([QueueId(7)])));
        assert_eq!(partly.take(source(2)), None, "it is taken once");
    }
}
