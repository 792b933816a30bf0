//! How fast a user's connections are read, if there is a limit: a bucket that fills with time and that reads empty.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Octets that the connections of one user may still send. A second's worth is saved at most.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: u64,
    /// When the bucket is full again.
    full: Mutex<Instant>,
}

impl Rate {
    /// A full bucket.
    pub(crate) fn new(per_second: u64, now: Instant) -> Self {
        Self { per_second, full: Mutex::new(now) }
    }

    /// Octets were read; answers until when no more may be. What is read together may be more than is there: it is made up
    /// for before the next read, as far as that takes no longer than [`DEBT`].
    pub(crate) fn take(&self, octets: usize, now: Instant) -> Option<Instant> {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = (*full).max(now) + Duration::from_secs_f64(octets as f64 / self.per_second as f64);
        *full = taken.min(now + CAPACITY + DEBT);
        empty_until(*full, now)
    }

    /// Until when nothing may be read, if it is empty.
    pub(crate) fn empty_until(&self, now: Instant) -> Option<Instant> {
        empty_until(*self.full.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// Octets that are there.
    pub(crate) fn left(&self, now: Instant) -> usize {
        let full = *self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let left = CAPACITY.saturating_sub(full.saturating_duration_since(now));
        (left.as_secs_f64() * self.per_second as f64) as usize
    }
}

/// What is saved at most.
const CAPACITY: Duration = Duration::from_secs(1);

/// For no longer are the user's connections not read: what they have to say beside messages, or that they are gone, is heard.
const DEBT: Duration = Duration::from_secs(2);

fn empty_until(full: Instant, now: Instant) -> Option<Instant> {
    full.checked_sub(CAPACITY).filter(|empty_until| *empty_until > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_read_as_the_rate_says_and_a_second_more() {
        let begin = Instant::now();
        let rate = Rate::new(1_000, begin);
        assert_eq!(rate.take(1_000, begin), None, "a second's worth is there");
        let mut now = rate.take(500, begin).expect("it is empty");
        assert_eq!(now, begin + Duration::from_millis(500));
        let mut octets = 1_500;
        while now < begin + Duration::from_secs(60) {
            octets += 100;
            now = rate.take(100, now).unwrap_or(now);
        }
        assert!((60_500..=61_200).contains(&octets), "{octets} in a minute");
        let later = now + Duration::from_secs(3_600);
        assert_eq!(rate.take(1_000, later), None);
        assert!(rate.take(1, later).is_some(), "what was not used is not saved for ever");
    }

    #[test]
    fn whatever_is_read_at_once_nobody_is_silenced_for_longer_than_two_seconds() {
        let now = Instant::now();
        let rate = Rate::new(64 << 10, now);
        assert_eq!((rate.left(now), rate.empty_until(now)), (64 << 10, None));
        let waits = (0..1_000).filter_map(|_| rate.take(128 << 10, now));
        assert!(waits.into_iter().all(|until| until <= now + DEBT));
        assert_eq!((rate.left(now), rate.empty_until(now)), (0, Some(now + DEBT)));
        assert_eq!(rate.left(now + DEBT + CAPACITY / 2), 32 << 10);
    }
}
