//! Slows down who guesses: logins that fail count against their user and source, and against their source alone.
//!
//! Each has a few failures free, which come back with time. Beyond them every attempt waits for its turn, and turns are
//! half a second to five seconds apart, the farther the more attempts fail. Who would have to wait for longer is refused at
//! once. A login that succeeds costs nothing.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::recent::Recent;
use crate::limits::{
    FAILURE_PAUSE_MAX, FAILURE_PAUSE_MIN, FAILURE_SOURCES, FAILURES_PER_MINUTE, FAILURES_PER_MINUTE_AND_SOURCE,
};
use crate::told::source;

/// What has failed lately, for as many users and sources as the limit says.
pub(super) struct Throttle {
    failures: Mutex<Recent<Key, Failures>>,
    names: RandomState,
}

/// Who has failed: a user of a source, or (without a user) a source. Of names, which may be long and are anybody's to choose,
/// a hash is kept that nobody outside can compute.
type Key = (Option<u64>, IpAddr);

/// Failures of one key.
#[derive(Debug, Clone, Copy)]
struct Failures {
    /// How many count at `since`; they come back with time.
    count: f64,
    since: Instant,
    /// When the next attempt may be made, if there are too many.
    next: Instant,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self { failures: Mutex::new(Recent::new(FAILURE_SOURCES)), names: RandomState::new() }
    }

    /// When somebody may try to log in; `None`: not at all now.
    pub(super) fn turn(&self, user: &str, peer: IpAddr, now: Instant) -> Option<Instant> {
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let [of_user, of_source] = self.keys(user, peer).map(|(key, free)| {
            let failures = all.get(&key).copied();
            failures.map_or(now, |failures| failures.turn(free, now))
        });
        let turn = of_user.max(of_source);
        if turn > now + FAILURE_PAUSE_MAX {
            return None;
        }
        for (key, free) in self.keys(user, peer) {
            if let Some(failures) = all.get(&key) {
                failures.taken(free, turn, now);
            }
        }
        Some(turn)
    }

    /// A login has failed.
    pub(super) fn failed(&self, user: &str, peer: IpAddr, now: Instant) {
        let mut all = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, free) in self.keys(user, peer) {
            match all.get(&key) {
                Some(failures) => failures.add(free, now),
                None => all.insert(key, Failures { count: 1.0, since: now, next: now }),
            }
        }
    }

    /// What a login counts against, with the failures that are free in a minute.
    fn keys(&self, user: &str, peer: IpAddr) -> [(Key, f64); 2] {
        let source = source(peer);
        [
            ((Some(self.names.hash_one(user)), source), f64::from(FAILURES_PER_MINUTE)),
            ((None, source), f64::from(FAILURES_PER_MINUTE_AND_SOURCE)),
        ]
    }
}

impl Failures {
    /// How many count now, of which so many come back in a minute.
    fn count(&self, free: f64, now: Instant) -> f64 {
        let minutes = now.saturating_duration_since(self.since).as_secs_f64() / 60.0;
        (self.count - minutes * free).max(0.0)
    }

    /// When the next attempt may be made.
    fn turn(&self, free: f64, now: Instant) -> Instant {
        if self.count(free, now) < free { now } else { self.next.max(now) + self.pause(free, now) }
    }

    /// An attempt will be made at that time.
    fn taken(&mut self, free: f64, turn: Instant, now: Instant) {
        if self.count(free, now) >= free {
            self.next = turn;
        }
    }

    /// The time between two attempts: twice as much with each that fails.
    fn pause(&self, free: f64, now: Instant) -> Duration {
        let beyond = (self.count(free, now) - free).clamp(0.0, 16.0);
        FAILURE_PAUSE_MIN.mul_f64(beyond.floor().exp2()).min(FAILURE_PAUSE_MAX)
    }

    /// Beyond a few more than are free it makes no difference, so that all come back in a little more than a minute.
    fn add(&mut self, free: f64, now: Instant) {
        self.count = (self.count(free, now) + 1.0).min(free + 4.0);
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    /// Attempts until one is refused, all at the same time and all failing: how long each has to wait.
    fn waits(throttle: &Throttle, user: &str, peer: IpAddr, now: Instant) -> Vec<Duration> {
        let attempt = || {
            let turn = throttle.turn(user, peer, now)?;
            throttle.failed(user, peer, now);
            Some(turn.duration_since(now))
        };
        std::iter::from_fn(attempt).take(100).collect()
    }

    #[test]
    fn five_failures_are_free_and_then_each_waits_longer() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        let waited = waits(&throttle, "bob", PEER, now);
        let millis: Vec<_> = waited.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [0, 0, 0, 0, 0, 500, 1_500, 3_500]);
        assert_eq!(throttle.turn("carol", PEER, now), Some(now), "another user");
        assert_eq!(throttle.turn("bob", OTHER, now), Some(now), "another source");
        assert_eq!(throttle.turn("bob", PEER, now + Duration::from_secs(120)), Some(now + Duration::from_secs(120)));
    }

    #[test]
    fn a_source_has_ten_times_as_many_whatever_users_it_names() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        let free = usize::try_from(FAILURES_PER_MINUTE_AND_SOURCE).expect("a few");
        for user in 0..free {
            assert_eq!(throttle.turn(&user.to_string(), PEER, now), Some(now));
            throttle.failed(&user.to_string(), PEER, now);
        }
        assert_eq!(throttle.turn("another", PEER, now), Some(now + FAILURE_PAUSE_MIN));
        assert_eq!(throttle.turn("another", OTHER, now), Some(now));
    }

    #[test]
    fn attempts_at_once_wait_one_behind_the_other() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        (0..FAILURES_PER_MINUTE).for_each(|_| throttle.failed("bob", PEER, now));
        let turns: Vec<_> = std::iter::from_fn(|| throttle.turn("bob", PEER, now)).take(1_000).collect();
        assert_eq!(turns.len(), 10, "half a second apart, up to five seconds");
        assert!(turns.is_sorted_by(|one, other| one < other));
        let later = now + FAILURE_PAUSE_MAX;
        throttle.failed("bob", PEER, later);
        assert_eq!(throttle.turn("bob", PEER, later), Some(later + FAILURE_PAUSE_MIN), "one after the other again");
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        waits(&throttle, "bob", address("2001:db8:1:2::1"), now);
        assert_eq!(throttle.turn("bob", address("2001:db8:1:2:ffff::2"), now), None);
        assert_eq!(throttle.turn("bob", address("2001:db8:1:3::1"), now), Some(now));
        waits(&throttle, "bob", address("::ffff:192.0.2.9"), now);
        assert_eq!(throttle.turn("bob", address("192.0.2.9"), now), None);
    }
}
