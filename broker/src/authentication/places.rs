//! About how many logins of one source somebody else is asked at once; further ones of it wait, so that no source keeps the
//! others from being asked about.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::REVIEWS_OF_SOURCE_AT_ONCE;
use crate::told::source;

/// The sources that somebody is asked about, or that wait for that.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<IpAddr, OfSource>>);

#[derive(Debug)]
struct OfSource {
    places: Arc<Semaphore>,
    /// Those that have a place or wait for one.
    there: usize,
}

/// One of a source's places, as long as it is there.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    source: IpAddr,
    /// None while it waits.
    permit: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// Waits for a place, in the order of those who come.
    pub(super) async fn enter(self: &Arc<Self>, peer: IpAddr) -> Place {
        let source = source(peer);
        let places = {
            let mut all = self.all();
            let new = || OfSource { places: Arc::new(Semaphore::new(REVIEWS_OF_SOURCE_AT_ONCE)), there: 0 };
            let of_source = all.entry(source).or_insert_with(new);
            of_source.there += 1;
            Arc::clone(&of_source.places)
        };
        // Who goes away while it waits is none of them any more.
        let mut place = Place { places: Arc::clone(self), source, permit: None };
        // Nobody closes the semaphore.
        place.permit = places.acquire_owned().await.ok();
        place
    }

    fn all(&self) -> MutexGuard<'_, HashMap<IpAddr, OfSource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut all = self.places.all();
        if let Entry::Occupied(mut of_source) = all.entry(self.source) {
            of_source.get_mut().there -= 1;
            if of_source.get().there == 0 {
                of_source.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn so_many_of_a_source_have_a_place_and_one_more_waits() {
        let places = Arc::new(Places::default());
        let peer = |number| IpAddr::V4(Ipv4Addr::from_bits(number));
        let mut of_one = Vec::new();
        for _ in 0..REVIEWS_OF_SOURCE_AT_ONCE {
            of_one.push(places.enter(peer(0)).now_or_never().expect("a place"));
        }
        assert!(places.enter(peer(0)).now_or_never().is_none(), "all are taken");
        let other = places.enter(peer(1)).now_or_never().expect("another source has its own");
        of_one.pop();
        of_one.push(places.enter(peer(0)).now_or_never().expect("one has gone"));
        drop((of_one, other));
        assert!(places.all().is_empty(), "nothing is left of them");
    }
}
