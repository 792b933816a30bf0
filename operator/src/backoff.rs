//! When what has failed is tried again: exponentially later, with jitter. Reconciles per object, anything else by a [`Retry`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand;
use tokio::time::Instant;

/// Delay after the first failure.
const DELAY_MIN: Duration = Duration::from_millis(500);

/// Longest delay.
const DELAY_MAX: Duration = Duration::from_secs(300);

/// Failures in a row, per object. An object that succeeds or is gone takes no space.
#[derive(Default)]
pub struct Backoff {
    failures: Mutex<HashMap<(String, String), u32>>,
}

impl Backoff {
    /// Notes a failure of the object and returns how long to wait.
    pub fn failed(&self, namespace: &str, name: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry((namespace.into(), name.into())).or_default();
        *count = count.saturating_add(1);
        jittered(delay(*count))
    }

    /// Forgets the failures of objects that are not there.
    pub fn keep_only(&self, is_there: impl Fn(&str, &str) -> bool) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|(namespace, name), _| is_there(namespace, name));
    }

    /// Forgets the failures of the object.
    pub fn succeeded(&self, namespace: &str, name: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&(namespace.to_owned(), name.to_owned()));
    }
}

/// When one thing is tried again that has failed; at once, if it has not.
#[derive(Debug)]
pub struct Retry {
    failures: u32,
    due: Option<Instant>,
    /// Longest delay.
    longest: Duration,
}

impl Retry {
    /// It has not failed. It will be tried at least every `longest`.
    pub fn at_least_every(longest: Duration) -> Self {
        Self { failures: 0, due: None, longest }
    }

    /// Whether it may be tried.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| now >= due)
    }

    /// Notes a failure and returns how long to wait.
    pub fn failed(&mut self, now: Instant) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let wait = jittered(delay(self.failures).min(self.longest));
        self.due = Some(now + wait);
        wait
    }

    /// Forgets all failures.
    pub fn succeeded(&mut self) {
        (self.failures, self.due) = (0, None);
    }
}

/// Between three quarters of `duration` and all of it, so that objects that wait together do not return together.
pub fn jittered(duration: Duration) -> Duration {
    let mut octet = [0];
    // Without randomness there is no jitter, which is no reason to fail.
    let share = rand::fill(&mut octet).map_or(0, |()| u32::from(octet[0]));
    duration - duration / 4 * share / 255
}

fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    DELAY_MIN.saturating_mul(1 << doublings).min(DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let seconds: Vec<_> = [1, 2, 3, 10, 11, u32::MAX].map(|failures| delay(failures).as_secs_f32()).to_vec();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 256.0, 300.0, 300.0]);
    }

    #[test]
    fn success_starts_over_and_objects_are_independent() {
        let backoff = Backoff::default();
        for _ in 0..10 {
            backoff.failed("default", "a");
        }
        assert!(backoff.failed("default", "a") > Duration::from_secs(200));
        assert!(backoff.failed("default", "b") <= DELAY_MIN);
        backoff.succeeded("default", "a");
        assert!(backoff.failed("default", "a") <= DELAY_MIN);
    }

    #[test]
    fn one_thing_waits_longer_each_time_up_to_its_longest_and_not_at_all_after_it_worked() {
        let mut retry = Retry::at_least_every(Duration::from_secs(30));
        let mut now = Instant::now();
        assert!(retry.is_due(now));
        for expected in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let wait = retry.failed(now);
            assert!((expected * 0.75..=expected).contains(&wait.as_secs_f64()), "{wait:?} instead of {expected} s");
            assert!(!retry.is_due(now));
            now += wait;
            assert!(retry.is_due(now));
        }
        retry.failed(now);
        retry.succeeded();
        assert!(retry.is_due(now));
        assert!(retry.failed(now) <= DELAY_MIN);
    }

    #[test]
    fn jitter_takes_at_most_a_quarter() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(4));
            assert!((Duration::from_secs(3)..=Duration::from_secs(4)).contains(&wait), "{wait:?}");
        }
    }
}
