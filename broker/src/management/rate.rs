//! How many requests a user may make in a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;

use super::answer::Failure;
use crate::limits::REQUEST_RATES;

/// The requests that users have left: each gets as many a second as the limit says, and may save up those of one second.
#[derive(Debug)]
pub(super) struct Rates {
    /// Requests in a second; 0 is no limit.
    per_second: u32,
    users: Mutex<HashMap<Arc<str>, Left>>,
}

#[derive(Debug, Clone, Copy)]
struct Left {
    requests: f64,
    at: Instant,
}

impl Rates {
    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, users: Mutex::default() }
    }

    /// Counts a request of the user.
    ///
    /// # Errors
    /// 429 if it has none left.
    pub(super) fn count(&self, user: &Arc<str>, now: Instant) -> Result<(), Failure> {
        if self.per_second == 0 {
            return Ok(());
        }
        let most = f64::from(self.per_second);
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= REQUEST_RATES && !users.contains_key(user) {
            // Who has made none for a second has all of them again, as somebody has who is not known.
            users.retain(|_, left| now.saturating_duration_since(left.at) < Duration::from_secs(1));
        }
        let left = users.entry(Arc::clone(user)).or_insert(Left { requests: most, at: now });
        let gained = now.saturating_duration_since(left.at).as_secs_f64() * most;
        *left = Left { requests: (left.requests + gained).min(most), at: now };
        if left.requests < 1.0 {
            let reason = format!(
                "user '{user}' has made more than {} requests a second; wait, or raise management.requests_per_second",
                self.per_second
            );
            return Err(Failure::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", reason));
        }
        left.requests -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_makes_as_many_requests_a_second_as_the_limit_says_and_not_one_more() {
        let (rates, user, now) = (Rates::new(100), Arc::from("bob"), Instant::now());
        assert!((0..100).all(|_| rates.count(&user, now).is_ok()));
        let refused = rates.count(&user, now).expect_err("one more");
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(rates.count(&Arc::from("eve"), now).is_ok(), "others are not concerned");
        let later = now + Duration::from_millis(500);
        assert!((0..50).all(|_| rates.count(&user, later).is_ok()), "half of them are back after half a second");
        assert!(rates.count(&user, later).is_err());
    }

    #[test]
    fn what_is_remembered_of_users_is_bounded() {
        let (rates, now) = (Rates::new(1), Instant::now());
        for user in 0..REQUEST_RATES {
            assert!(rates.count(&Arc::from(user.to_string()), now).is_ok());
        }
        assert!(rates.count(&Arc::from("one more"), now + Duration::from_secs(2)).is_ok());
        assert_eq!(rates.users.lock().expect("no panic").len(), 1);
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let (rates, user, now) = (Rates::new(0), Arc::from("bob"), Instant::now());
        assert!((0..1_000).all(|_| rates.count(&user, now).is_ok()));
    }
}
