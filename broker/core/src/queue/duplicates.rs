//! Which messages a queue has had, by what their duplicates have in common (header `x-deduplication-header`).
//!
//! A message in memory is a duplicate of any. A logged one is a duplicate of logged ones only: it is confirmed, and what it
//! repeats must be there after a restart.
//!
//! Keys of logged messages and of the others are remembered apart, so that the former are a function of the log: a replay
//! finds the same ones known, and drops the same messages. That includes what becomes of the key of a logged message that is
//! refused, which the log says a while after the message:
//!
//! ```text
//! log        message with key 1    others with key 1      unlearn 1
//!            │                     │                      │
//!            └─ refused; 1 stays   └─ refused too: the    └─ 1 is forgotten, the publisher is told
//!               known for now         first may be back
//!                                     after a restart
//! ```

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;

use super::Deduplication;
use crate::limits::DEDUPLICATION_KEYS;

/// The keys that a queue remembers.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    logged: Keys,
    memory: Keys,
    /// Keys of logged messages that were refused, and how many of these the log does not say it of yet.
    refused: BTreeMap<u128, u32>,
}

/// What a queue knows of a message's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// A message that had it joined the queue, or was refused and that is not in the log yet.
    pub(super) how: How,
    /// That follows from the log before the message.
    pub(super) by_log: bool,
}

/// How a key is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It is not.
    New,
    /// The queue has had a message with it that this one repeats.
    Had,
    /// One is being refused.
    Refused,
}

#[derive(Debug, Default)]
struct Keys {
    /// Each with its place in `order` and the time when it came.
    known: BTreeMap<u128, (u64, u64)>,
    /// Oldest first.
    order: BTreeMap<u64, u128>,
    next: u64,
}

impl Duplicates {
    /// What a snapshot says.
    pub(super) fn restored(keys: Vec<(u128, u64)>) -> Self {
        let mut logged = Keys::default();
        keys.into_iter().for_each(|(key, time_ms)| logged.insert(key, time_ms));
        Self { logged, ..Self::default() }
    }

    /// What is known of the key of a message that comes at `time_ms`. From now on it is known.
    pub(super) fn meet(&mut self, key: u128, logged: bool, time_ms: u64, rule: Deduplication) -> Known {
        let by_log = self.logged.knows(key, time_ms, rule);
        let how = match by_log || !logged && self.memory.knows(key, time_ms, rule) {
            _ if self.refused.contains_key(&key) => How::Refused,
            true => How::Had,
            false => How::New,
        };
        let keys = if logged { &mut self.logged } else { &mut self.memory };
        keys.learn(key, time_ms, rule);
        Known { how, by_log }
    }

    /// A message is refused whose key was met. If it is logged, the key is forgotten when the log says so.
    pub(super) fn refuse(&mut self, key: u128, logged: bool) {
        if logged {
            *self.refused.entry(key).or_default() += 1;
        } else {
            self.memory.forget(key);
        }
    }

    /// The log says that a message with this key was refused.
    pub(super) fn unlearn(&mut self, key: u128) {
        self.logged.forget(key);
        if let Entry::Occupied(mut refused) = self.refused.entry(key) {
            *refused.get_mut() -= 1;
            if *refused.get() == 0 {
                refused.remove();
            }
        }
    }

    /// The keys of logged messages, oldest first, each with the time when it came.
    pub(super) fn logged(&self) -> Vec<(u128, u64)> {
        let keys = self.logged.order.values();
        keys.filter_map(|key| Some((*key, self.logged.known.get(key)?.1))).collect()
    }
}

impl Keys {
    fn knows(&self, key: u128, time_ms: u64, rule: Deduplication) -> bool {
        let known = self.known.get(&key);
        known.is_some_and(|(_, came)| rule.cache_millis.is_none_or(|millis| came.saturating_add(millis) > time_ms))
    }

    /// Remembers a key that comes at `time_ms`. One that is known keeps its time.
    fn learn(&mut self, key: u128, time_ms: u64, rule: Deduplication) {
        while self.oldest().is_some_and(|oldest| !self.knows(oldest, time_ms, rule)) {
            self.forget_oldest();
        }
        if !self.knows(key, time_ms, rule) {
            self.forget(key);
            self.insert(key, time_ms);
        }
        while self.known.len() > DEDUPLICATION_KEYS.min(rule.cache_size as usize) {
            self.forget_oldest();
        }
    }

    fn insert(&mut self, key: u128, time_ms: u64) {
        self.known.insert(key, (self.next, time_ms));
        self.order.insert(self.next, key);
        self.next += 1;
    }

    fn forget(&mut self, key: u128) {
        if let Some((place, _)) = self.known.remove(&key) {
            self.order.remove(&place);
        }
    }

    fn oldest(&self) -> Option<u128> {
        self.order.first_key_value().map(|(_, key)| *key)
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_first() {
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
        seen.meet(key, logged, time_ms, rule).how == How::Had
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
    fn a_message_in_memory_is_a_duplicate_of_any_and_a_logged_one_of_logged_ones() {
        let mut seen = Duplicates::default();
        let rule = rule(10, None);
        assert!(!is_duplicate(&mut seen, 1, true, 0, rule) && is_duplicate(&mut seen, 1, false, 0, rule));
        assert!(!is_duplicate(&mut seen, 2, false, 0, rule) && is_duplicate(&mut seen, 2, false, 0, rule));
        assert!(!is_duplicate(&mut seen, 2, true, 0, rule) && is_duplicate(&mut seen, 2, true, 0, rule));
        seen.unlearn(2);
        assert_eq!(seen.logged(), [(1, 0)]);
    }

    #[test]
    fn a_key_that_is_being_refused_is_known_until_the_log_says_so_of_all_its_messages() {
        let mut seen = Duplicates::default();
        let rule = rule(10, None);
        let known = |how, by_log| Known { how, by_log };
        assert_eq!(seen.meet(1, true, 0, rule), known(How::New, false));
        seen.refuse(1, true);
        assert_eq!(seen.meet(1, true, 0, rule), known(How::Refused, true));
        assert_eq!(seen.meet(1, false, 0, rule), known(How::Refused, true));
        seen.refuse(1, false);
        seen.refuse(1, true);
        seen.unlearn(1);
        assert_eq!(seen.meet(1, true, 0, rule), known(How::Refused, false));
        seen.unlearn(1);
        assert_eq!(seen.meet(1, true, 0, rule), known(How::New, false));
        assert_eq!(seen.meet(1, true, 0, rule), known(How::Had, true));
    }

    #[test]
    fn a_key_whose_time_is_over_begins_anew_also_if_the_clock_went_back() {
        let mut seen = Duplicates::default();
        let rule = rule(10, Some(100));
        [(1, 5_000), (2, 1_000)].into_iter().for_each(|(key, time)| _ = seen.meet(key, true, time, rule));
        assert!(!is_duplicate(&mut seen, 2, true, 1_100, rule));
        assert!(is_duplicate(&mut seen, 2, true, 1_199, rule));
        assert_eq!(seen.logged(), [(1, 5_000), (2, 1_100)]);
    }

    #[test]
    fn no_queue_remembers_more_than_the_bound() {
        let mut seen = Duplicates::default();
        let rule = rule(u32::MAX, None);
        (0..=DEDUPLICATION_KEYS as u128).for_each(|key| _ = seen.meet(key, true, 0, rule));
        assert_eq!(seen.logged().len(), DEDUPLICATION_KEYS);
        assert!(seen.logged.knows(1, 0, rule) && !seen.logged.knows(0, 0, rule));
    }
}
