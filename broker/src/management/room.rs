//! Room for answers that grow with what there is: so many are made or read at once, and no user has more than half of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::http::StatusCode;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::Failure;
use crate::limits::ANSWER_PATIENCE;

/// Places for answers.
#[derive(Debug)]
pub(super) struct Rooms {
    places: Arc<Semaphore>,
    places_of_user: usize,
    /// What users have left who have a place, or wait for one.
    users: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

/// A place for an answer, until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    _of_user: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Rooms {
    /// So many places; two at least, so that one user leaves one to others.
    pub(super) fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), places_of_user: places / 2, users: Mutex::default() }
    }

    /// Waits for a place of a user.
    ///
    /// # Errors
    /// 503 if there was none for [`ANSWER_PATIENCE`].
    pub(super) async fn take(&self, user: &Arc<str>) -> Result<Room, Failure> {
        let (of_user, of_all) = (self.of_user(user), Arc::clone(&self.places));
        let room = async {
            // Who waits for a place of its own stands in nobody's way.
            let of_user = of_user.acquire_owned().await?;
            Ok::<_, AcquireError>(Room { _of_user: of_user, _of_all: of_all.acquire_owned().await? })
        };
        let busy = |_| {
            let reason = "too many large answers are being read; try again";
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", reason)
        };
        timeout(ANSWER_PATIENCE, room).await.map_err(busy)?.map_err(|_| Failure::stopping())
    }

    fn of_user(&self, user: &Arc<str>) -> Arc<Semaphore> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = users.get(user).and_then(Weak::upgrade) {
            return places;
        }
        users.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(self.places_of_user));
        users.insert(Arc::clone(user), Arc::downgrade(&places));
        places
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_user_has_half_of_the_places_and_all_users_have_all_of_them() {
        let (rooms, users) = (Rooms::new(4), ["a", "b", "c"].map(Arc::from));
        let take = |user: usize| rooms.take(&users[user]).now_or_never().map(|room| room.expect("it does not stop"));
        let [first, second] = [take(0), take(0)];
        assert!(first.is_some() && second.is_some());
        assert!(take(0).is_none(), "one more of the same user waits");
        let [third, fourth] = [take(1), take(1)];
        assert!(third.is_some() && fourth.is_some());
        assert!(take(2).is_none(), "there is no more");
        drop(first);
        let again = take(2);
        assert!(again.is_some());
        drop((second, third, fourth, again));
        drop(take(0));
        assert_eq!(rooms.users.lock().expect("nobody panics").len(), 1, "who has none is forgotten");
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told() {
        tokio::time::pause();
        let (rooms, user) = (Rooms::new(2), Arc::from("a"));
        let _room = rooms.take(&user).await.expect("there is room");
        let refused = rooms.take(&user).await.expect_err("there is none");
        assert_eq!((refused.status, refused.error), (StatusCode::SERVICE_UNAVAILABLE, "busy"));
    }
}
