//! Which logins the audit trail tells one by one, and which together: whoever tries again and again must not write the log.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, sleep};

use super::recent::Recent;
use super::throttle::source;
use super::{Door, LoginError};
use crate::audit;
use crate::limits::{LOGINS_TOLD, LOGINS_TOLD_INTERVAL, REQUESTS_TOLD, REQUESTS_TOLD_INTERVAL, SOURCES_TOLD};

/// What was told lately.
pub(super) struct Trail {
    state: Mutex<State>,
    names: RandomState,
}

struct State {
    /// Sources of refused logins since they were told together last.
    refused: HashMap<IpAddr, Refused>,
    /// Refused logins of further sources.
    beyond: u64,
    /// Users of HTTP with their sources, by hash, and when that was told.
    requests: Recent<(u64, IpAddr), Instant>,
}

/// Refused logins of one source.
#[derive(Debug, Default)]
struct Refused {
    told: u32,
    /// It was told that they are not looked at any more.
    unasked: bool,
    /// Those that were not told one by one.
    counted: u64,
}

impl Trail {
    pub(super) fn new() -> Self {
        let state = State { refused: HashMap::new(), beyond: 0, requests: Recent::new(REQUESTS_TOLD) };
        Self { state: Mutex::new(state), names: RandomState::new() }
    }

    /// Whether somebody who was let in is told. A client of HTTP logs in with each request: of those the first is told, and
    /// one in [`REQUESTS_TOLD_INTERVAL`].
    pub(super) fn tells_login(&self, door: Door, user: &str, peer: IpAddr, now: Instant) -> bool {
        if door == Door::Amqp {
            return true;
        }
        let (key, mut state) = ((self.names.hash_one(user), source(peer)), self.state());
        match state.requests.get(&key) {
            Some(told) if now < *told + REQUESTS_TOLD_INTERVAL => false,
            Some(told) => {
                *told = now;
                true
            }
            None => {
                state.requests.insert(key, now);
                true
            }
        }
    }

    /// Whether a refused login is told by itself; if not, it is counted.
    pub(super) fn tells_refusal(&self, reason: &LoginError, peer: IpAddr) -> bool {
        let (source, mut state) = (source(peer), self.state());
        if state.refused.len() >= SOURCES_TOLD && !state.refused.contains_key(&source) {
            state.beyond += 1;
            return false;
        }
        let refused = state.refused.entry(source).or_default();
        let tells = match reason {
            LoginError::TooManyFailures => !std::mem::replace(&mut refused.unasked, true),
            _ => refused.told < LOGINS_TOLD,
        };
        match tells {
            true => refused.told += 1,
            false => refused.counted += 1,
        }
        tells
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
        for (source, count) in self.take() {
            audit::logins_refused(source, count);
        }
    }

    /// What was counted, by source; those of further sources have none.
    fn take(&self) -> Vec<(Option<IpAddr>, u64)> {
        let mut state = self.state();
        let refused = std::mem::take(&mut state.refused);
        let beyond = std::mem::take(&mut state.beyond);
        drop(state);
        let of_sources = refused.into_iter().map(|(source, refused)| (Some(source), refused.counted));
        of_sources.chain([(None, beyond)]).filter(|(_, count)| *count > 0).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn so_many_refused_logins_of_a_source_are_told_one_by_one_and_the_others_together() {
        let trail = Trail::new();
        let told = (0..1_000).filter(|_| trail.tells_refusal(&LoginError::Credentials, peer(0))).count();
        assert_eq!(told, LOGINS_TOLD as usize);
        assert!(trail.tells_refusal(&LoginError::Credentials, peer(1)), "others are not concerned");
        assert_eq!(trail.take(), [(Some(peer(0)), 1_000 - u64::from(LOGINS_TOLD))]);
        assert!(trail.take().is_empty());
        assert!(trail.tells_refusal(&LoginError::Credentials, peer(0)), "it begins anew");
    }

    #[test]
    fn logins_that_are_not_looked_at_are_told_once() {
        let trail = Trail::new();
        let told = (0..1_000).filter(|_| trail.tells_refusal(&LoginError::TooManyFailures, peer(0))).count();
        assert_eq!(told, 1);
        assert!(trail.tells_refusal(&LoginError::Credentials, peer(0)), "this is another reason");
        assert_eq!(trail.take(), [(Some(peer(0)), 999)]);
    }

    #[test]
    fn so_many_sources_are_told_and_of_more_only_how_many_were_refused() {
        let trail = Trail::new();
        let told = (0..=SOURCES_TOLD).filter(|number| trail.tells_refusal(&LoginError::Credentials, peer(*number)));
        assert_eq!(told.count(), SOURCES_TOLD);
        assert_eq!(trail.take(), [(None, 1)]);
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
