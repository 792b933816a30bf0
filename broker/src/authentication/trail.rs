//! Which logins the audit trail tells one by one, and which together: whoever tries again and again must not write the log.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Instant, sleep};

use super::recent::Recent;
use super::{Door, LoginError};
use crate::audit;
use crate::limits::{LOGINS_TOLD, LOGINS_TOLD_INTERVAL, REQUESTS_TOLD, REQUESTS_TOLD_INTERVAL};
use crate::told::{Told, source};

/// What was told lately.
pub(super) struct Trail {
    /// Refused logins, by their source and whether they were not even looked at.
    logins: Told<(IpAddr, bool)>,
    /// What users were refused who had logged in, over HTTP.
    denials: Told<Arc<str>>,
    /// Users of HTTP with their sources, by hash, and when that was told.
    requests: Mutex<Recent<(u64, IpAddr), Instant>>,
    names: RandomState,
}

impl Trail {
    pub(super) fn new() -> Self {
        Self {
            logins: Told::new(),
            denials: Told::new(),
            requests: Mutex::new(Recent::new(REQUESTS_TOLD)),
            names: RandomState::new(),
        }
    }

    /// Whether somebody who was let in is told. A client of HTTP logs in with each request: of those the first is told, and
    /// one in [`REQUESTS_TOLD_INTERVAL`].
    pub(super) fn tells_login(&self, door: Door, user: &str, peer: IpAddr, now: Instant) -> bool {
        if door == Door::Amqp {
            return true;
        }
        let key = (self.names.hash_one(user), source(peer));
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        match requests.get(&key) {
            Some(told) if now < *told + REQUESTS_TOLD_INTERVAL => false,
            Some(told) => {
                *told = now;
                true
            }
            None => {
                requests.insert(key, now);
                true
            }
        }
    }

    /// Whether a refused login is told by itself; if not, it is counted.
    pub(super) fn tells_refusal(&self, reason: &LoginError, peer: IpAddr) -> bool {
        match reason {
            LoginError::TooManyFailures => self.logins.tells((source(peer), true), 1),
            _ => self.logins.tells((source(peer), false), LOGINS_TOLD),
        }
    }

    /// Whether it is told by itself that a user was refused something; if not, it is counted.
    pub(super) fn tells_denial(&self, user: &Arc<str>) -> bool {
        self.denials.tells(Arc::clone(user), LOGINS_TOLD)
    }

    /// Tells together what was not told one by one, for ever.
    pub(super) async fn tell(self: Arc<Self>) {
        loop {
            sleep(LOGINS_TOLD_INTERVAL).await;
            self.tell_now();
        }
    }

    /// The same at once, for what has been counted so far.
    pub(super) fn tell_now(&self) {
        for (source, count) in self.logins.take() {
            audit::logins_refused(source.map(|(source, _)| source), count);
        }
        for (user, count) in self.denials.take() {
            audit::denials(user.as_deref(), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn peer(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).expect("few")))
    }

    #[test]
    fn so_many_refused_logins_of_a_source_are_told_one_by_one() {
        let trail = Trail::new();
        let told = (0..1_000).filter(|_| trail.tells_refusal(&LoginError::Credentials, peer(0))).count();
        assert_eq!(told, LOGINS_TOLD as usize);
        assert!(trail.tells_refusal(&LoginError::Credentials, peer(1)), "others are not concerned");
    }

    #[test]
    fn logins_that_are_not_looked_at_are_told_once() {
        let trail = Trail::new();
        let told = (0..1_000).filter(|_| trail.tells_refusal(&LoginError::TooManyFailures, peer(0))).count();
        assert_eq!(told, 1);
        assert!(trail.tells_refusal(&LoginError::Credentials, peer(0)), "this is another reason");
        assert_eq!(trail.logins.take(), [(Some((peer(0), true)), 999)]);
    }

    #[test]
    fn so_much_that_a_user_is_refused_is_told_one_by_one() {
        let (trail, [eve, bob]) = (Trail::new(), ["eve", "bob"].map(Arc::from));
        assert_eq!((0..1_000).filter(|_| trail.tells_denial(&eve)).count(), LOGINS_TOLD as usize);
        assert!(trail.tells_denial(&bob), "others are not concerned");
        assert_eq!(trail.denials.take(), [(Some(eve), 1_000 - u64::from(LOGINS_TOLD))]);
    }

    #[test]
    fn requests_of_a_user_from_one_place_are_told_once_in_a_while_and_connections_each() {
        let (trail, now) = (Trail::new(), Instant::now());
        let request = |user, from, at| trail.tells_login(Door::Http, user, peer(from), at);
        assert!(request("alice", 0, now) && !request("alice", 0, now));
        assert!(request("bob", 0, now) && request("alice", 1, now), "others are told");
        let later = now + REQUESTS_TOLD_INTERVAL;
        assert!(!request("alice", 0, later - Duration::from_millis(1)));
        assert!(request("alice", 0, later) && !request("alice", 0, later));
        assert!((0..3).all(|_| trail.tells_login(Door::Amqp, "alice", peer(0), now)));
    }
}
