//! Which messages a queue has had, by what their duplicates have in common (header `x-deduplication-header`).
//!
//! Keys of logged messages and of the others are remembered apart, so that the former are a function of the log. A replay
//! learns them and drops nothing by them: what was a duplicate is settled in the log.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::Deduplication;
use crate::limits::DEDUPLICATION_KEYS;

/// The keys that a queue remembers.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    logged: Keys,
    memory: Keys,
}

#[derive(Debug, Default)]
struct Keys {
    /// Each with the time when it came.
    known: BTreeMap<u128, u64>,
    /// Oldest first.
    order: VecDeque<u128>,
}

impl Duplicates {
    /// What a snapshot says.
    pub(super) fn restored(keys: Vec<(u128, u64)>) -> Self {
        let order = keys.iter().map(|(key, _)| *key).collect();
        Self { logged: Keys { known: keys.into_iter().collect(), order }, memory: Keys::default() }
    }

    /// True if a message with this key is a duplicate at `time_ms`.
    pub(super) fn knows(&self, key: u128, time_ms: u64, rule: Deduplication) -> bool {
        [&self.logged, &self.memory].into_iter().any(|keys| keys.knows(key, time_ms, rule))
    }

    /// Remembers the key of a message that came at `time_ms`.
    pub(super) fn learn(&mut self, key: u128, logged: bool, time_ms: u64, rule: Deduplication) {
        let keys = if logged { &mut self.logged } else { &mut self.memory };
        keys.learn(key, time_ms, rule);
    }

    /// Forgets the key of a message that was refused.
    pub(super) fn unlearn(&mut self, key: u128, logged: bool) {
        let keys = if logged { &mut self.logged } else { &mut self.memory };
        if keys.known.remove(&key).is_some() {
            keys.order.retain(|known| *known != key);
        }
    }

    /// The keys of logged messages, oldest first, each with the time when it came.
    pub(super) fn logged(&self) -> Vec<(u128, u64)> {
        let keys = self.logged.order.iter();
        keys.filter_map(|key| Some((*key, *self.logged.known.get(key)?))).collect()
    }
}

impl Keys {
    fn knows(&self, key: u128, time_ms: u64, rule: Deduplication) -> bool {
        let came = self.known.get(&key);
        came.is_some_and(|came| rule.cache_millis.is_none_or(|millis| came.saturating_add(millis) > time_ms))
    }

    fn learn(&mut self, key: u128, time_ms: u64, rule: Deduplication) {
        while self.order.front().is_some_and(|oldest| !self.knows(*oldest, time_ms, rule)) {
            self.forget_oldest();
        }
        if let Entry::Vacant(entry) = self.known.entry(key) {
            entry.insert(time_ms);
            self.order.push_back(key);
        }
        while self.order.len() > DEDUPLICATION_KEYS.min(rule.cache_size as usize) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(key) = self.order.pop_front() {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(cache_size: u32, cache_millis: Option<u64>) -> Deduplication {
        Deduplication { cache_size, cache_millis }
    }

    /// What the queue makes of a message.
    fn is_duplicate(seen: &mut Duplicates, key: u128, logged: bool, time_ms: u64, rule: Deduplication) -> bool {
        let known = seen.knows(key, time_ms, rule);
        seen.learn(key, logged, time_ms, rule);
        known
    }

    #[test]
    fn a_key_is_known_until_newer_ones_need_its_place() {
        let mut seen = Duplicates::default();
        let twice = [1, 1, 2, 1, 3, 1].map(|key| is_duplicate(&mut seen, key, true, 0, rule(2, None)));
        assert_eq!(twice, [false, true, false, true, false, false]);
        assert_eq!(seen.logged(), [(3, 0), (1, 0)]);
        assert_eq!(Duplicates::restored(seen.logged()).logged(), seen.logged());
    }

    #[test]
    fn a_key_is_known_for_as_long_as_the_queue_says() {
        let mut seen = Duplicates::default();
        let rule = rule(10, Some(100));
        assert!(!is_duplicate(&mut seen, 1, false, 1_000, rule));
        assert!(is_duplicate(&mut seen, 1, false, 1_099, rule));
        assert!(!is_duplicate(&mut seen, 1, false, 1_100, rule), "a duplicate does not make it live longer");
    }

    #[test]
    fn logged_and_other_messages_are_duplicates_of_each_other() {
        let mut seen = Duplicates::default();
        let rule = rule(10, None);
        assert!(!is_duplicate(&mut seen, 1, true, 0, rule) && is_duplicate(&mut seen, 1, false, 0, rule));
        assert!(!is_duplicate(&mut seen, 2, false, 0, rule) && is_duplicate(&mut seen, 2, true, 0, rule));
        seen.unlearn(2, true);
        assert_eq!(seen.logged(), [(1, 0)]);
    }

    #[test]
    fn no_queue_remembers_more_than_the_bound() {
        let mut seen = Duplicates::default();
        let rule = rule(u32::MAX, None);
        (0..=DEDUPLICATION_KEYS as u128).for_each(|key| seen.learn(key, true, 0, rule));
        assert_eq!(seen.logged().len(), DEDUPLICATION_KEYS);
        assert!(seen.knows(1, 0, rule) && !seen.knows(0, 0, rule));
    }
}
