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
    /// for before the next read.
    pub(crate) fn take(&self, octets: usize, now: Instant) -> Option<Instant> {
        const CAPACITY: Duration = Duration::from_secs(1);
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        *full = (*full).max(now) + Duration::from_secs_f64(octets as f64 / self.per_second as f64);
        full.checked_sub(CAPACITY).filter(|empty_until| *empty_until > now)
    }
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
}
