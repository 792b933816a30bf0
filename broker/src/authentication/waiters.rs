//! How many logins wait because somebody else has to be asked about what they show: of one source, and of all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::{UNVERIFIED_WAITERS, UNVERIFIED_WAITERS_OF_SOURCE};
use crate::told::source;

/// Those that wait, by source.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<IpAddr, usize>>);

/// One of them, as long as it is there.
#[derive(Debug)]
pub(super) struct Waiting<'w> {
    waiters: &'w Waiters,
    source: IpAddr,
}

impl Waiters {
    /// One more from there; `None` if there are as many as may be.
    pub(super) fn enter(&self, peer: IpAddr) -> Option<Waiting<'_>> {
        let source = source(peer);
        let mut counts = self.counts();
        let of_source = counts.get(&source).copied().unwrap_or_default();
        if of_source >= UNVERIFIED_WAITERS_OF_SOURCE || counts.values().sum::<usize>() >= UNVERIFIED_WAITERS {
            return None;
        }
        counts.insert(source, of_source + 1);
        Some(Waiting { waiters: self, source })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut counts = self.waiters.counts();
        match counts.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn so_many_of_a_source_wait_and_so_many_of_all_and_not_one_more() {
        let waiters = Waiters::default();
        let peer = |number: usize| IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).expect("few")));
        let mut of_one: Vec<_> = std::iter::from_fn(|| waiters.enter(peer(0))).take(1_000).collect();
        assert_eq!(of_one.len(), UNVERIFIED_WAITERS_OF_SOURCE);
        drop(of_one.pop());
        assert!(waiters.enter(peer(0)).is_some(), "one has gone");
        let others: Vec<_> = (1..1_000).filter_map(|number| waiters.enter(peer(number))).collect();
        assert_eq!(of_one.len() + others.len(), UNVERIFIED_WAITERS);
        drop((of_one, others));
        assert!(waiters.counts().is_empty());
    }
}
