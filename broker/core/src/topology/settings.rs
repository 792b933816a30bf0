//! How a queue behaves: its declaration and the policies on it.

use super::Topology;
use super::arguments::QueueType;
use super::records::QueueRecord;
use crate::queue::{QueueKind, QueueSettings};

impl Topology {
    /// How the queue's shard is to treat it.
    pub fn settings(&self, queue: &QueueRecord) -> QueueSettings {
        let kind = match QueueType::of(&queue.arguments) {
            QueueType::Classic => QueueKind::Classic,
            QueueType::Quorum => QueueKind::Quorum,
        };
        QueueSettings { logged: queue.is_logged(), auto_delete: queue.auto_delete, kind, ..QueueSettings::default() }
    }
}
