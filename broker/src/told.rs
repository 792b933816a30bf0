//! What the log tells one by one and what it only counts: whoever does the same thing again and again must not write the log.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::limits::SOURCES_TOLD;

/// Events of some who cause them (`K`), since those that were only counted were told last.
#[derive(Debug)]
pub(crate) struct Told<K>(Mutex<State<K>>);

#[derive(Debug)]
struct State<K> {
    by_cause: HashMap<K, Count>,
    /// Events of further ones.
    beyond: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    told: u32,
    /// Those that were not told one by one.
    counted: u64,
}

impl<K: Hash + Eq> Told<K> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { by_cause: HashMap::new(), beyond: 0 }))
    }

    /// Whether an event is told by itself, as the first `most` of each are; if not, it is counted.
    pub(crate) fn tells(&self, cause: K, most: u32) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.by_cause.len() >= SOURCES_TOLD && !state.by_cause.contains_key(&cause) {
            state.beyond += 1;
            return false;
        }
        let count = state.by_cause.entry(cause).or_default();
        let tells = count.told < most;
        match tells {
            true => count.told += 1,
            false => count.counted += 1,
        }
        tells
    }

    /// What was counted, by who caused it; events of further ones have none. Counting begins anew.
    pub(crate) fn take(&self) -> Vec<(Option<K>, u64)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_cause = std::mem::take(&mut state.by_cause);
        let beyond = std::mem::take(&mut state.beyond);
        drop(state);
        let known = by_cause.into_iter().map(|(cause, count)| (Some(cause), count.counted));
        known.chain([(None, beyond)]).filter(|(_, count)| *count > 0).collect()
    }
}

/// Who counts as one: an address of IPv4, or the network of 64 bits that one of IPv6 is in, for whoever has one such address
/// has all of them.
pub(crate) fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_each_are_told_one_by_one_and_the_others_together() {
        let told = Told::new();
        assert_eq!((0..1_000).filter(|_| told.tells("one", 60)).count(), 60);
        assert!(told.tells("other", 60), "others are not concerned");
        assert_eq!(told.take(), [(Some("one"), 940)]);
        assert!(told.take().is_empty());
        assert!(told.tells("one", 60), "it begins anew");
    }

    #[test]
    fn so_many_are_told_apart_and_of_more_only_how_often() {
        let told = Told::new();
        assert_eq!((0..=SOURCES_TOLD).filter(|number| told.tells(*number, 1)).count(), SOURCES_TOLD);
        assert_eq!(told.take(), [(None, 1)]);
    }
}
