//! Who wants to hear that something has happened in a shard, without asking again and again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

/// Those who watch shards. A shard that nobody watches pays a look at a flag for it.
#[derive(Debug)]
pub(super) struct Watchers {
    /// By shard number, the metadata's first.
    shards: Vec<OfShard>,
}

#[derive(Debug, Default)]
struct OfShard {
    /// There may be some.
    any: AtomicBool,
    watchers: Mutex<Vec<Weak<Notify>>>,
}

impl Watchers {
    pub(super) fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| OfShard::default()).collect() }
    }

    /// Something has happened.
    pub(super) fn tell(&self, shard: usize) {
        let Some(shard) = self.shards.get(shard).filter(|shard| shard.any.load(Ordering::Acquire)) else { return };
        let mut watchers = shard.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| watcher.upgrade().inspect(|watcher| watcher.notify_one()).is_some());
        shard.any.store(!watchers.is_empty(), Ordering::Release);
    }

    /// `watcher` is told from now on, as long as it lives. It is told once even if it watches twice.
    pub(super) fn watch(&self, shard: usize, watcher: &Arc<Notify>) {
        let Some(shard) = self.shards.get(shard) else { return };
        let mut watchers = shard.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if !watchers.iter().any(|known| known.as_ptr() == Arc::as_ptr(watcher)) {
            watchers.push(Arc::downgrade(watcher));
        }
        shard.any.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn those_who_watch_a_shard_are_told_once_and_forgotten_when_they_are_gone() {
        let watchers = Watchers::new(3);
        let (one, other) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        for shard in [1, 1, 7] {
            watchers.watch(shard, &one);
        }
        watchers.watch(2, &other);
        watchers.tell(1);
        assert!(one.notified().now_or_never().is_some());
        assert!(one.notified().now_or_never().is_none(), "once");
        assert!(other.notified().now_or_never().is_none(), "another shard");
        drop(one);
        watchers.tell(1);
        assert!(!watchers.shards[1].any.load(Ordering::Relaxed));
        watchers.tell(9);
    }
}
