//! What the API server of Kubernetes has said about tokens, and when it is asked: about each token once at a time, about few of
//! one source, and about nobody's guesses without end.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use warren_core::Secret;

use super::jose::Token;
use super::places::{Place, Places};
use super::recent::Recent;
use super::service_accounts::{ReviewError, ServiceAccounts};
use super::throttle::Throttle;
use super::{LoginError, Throttled};
use crate::limits::{
    REVIEW_INTERVAL, REVIEW_LIFETIME, REVIEW_LIFETIME_REFUSED, REVIEW_PATIENCE, REVIEWS, REVIEWS_AGAIN_AT_ONCE,
    REVIEWS_AT_ONCE,
};
use crate::random::random;

/// Asks about tokens, and remembers for a while what was said.
pub(super) struct Reviews {
    pub(super) accounts: ServiceAccounts,
    /// By the digest of the token.
    answers: Mutex<Recent<[u8; 32], Answer>>,
    asking: Arc<Semaphore>,
    /// Of those, the ones about connections that are open.
    asking_again: Semaphore,
    places: Arc<Places>,
    /// Logins by tokens that the API server does not know.
    refused: Throttle,
}

/// What is said about a token: nothing until the API server has answered.
#[derive(Clone)]
struct Answer(watch::Receiver<Option<Review>>);

/// What was said about a token.
#[derive(Clone)]
struct Review {
    outcome: Result<Arc<str>, ReviewError>,
    until: Instant,
}

/// Somebody who logs in with a token.
#[derive(Clone, Copy)]
pub(super) struct Holder<'t> {
    /// The token as it was shown.
    pub(super) octets: &'t [u8],
    /// What it says of itself, which nobody has looked at yet.
    pub(super) token: &'t Token<'t>,
    pub(super) peer: IpAddr,
}

/// What a question holds until it is answered.
struct Room {
    _place: Option<Place>,
    _permit: OwnedSemaphorePermit,
}

impl Reviews {
    pub(super) fn new(accounts: ServiceAccounts) -> Self {
        Self {
            accounts,
            answers: Mutex::new(Recent::new(REVIEWS)),
            asking: Arc::new(Semaphore::new(REVIEWS_AT_ONCE)),
            asking_again: Semaphore::new(REVIEWS_AGAIN_AT_ONCE),
            places: Arc::default(),
            refused: Throttle::new(),
        }
    }

    /// Whose token it is that somebody logs in with. Who comes while the same token is asked about waits for that answer.
    pub(super) async fn login(
        self: &Arc<Self>,
        holder: Holder<'_>,
        throttled: Throttled,
    ) -> Result<Arc<str>, LoginError> {
        let answer = match self.answer(&digest(holder.octets)) {
            Some(answer) => answer,
            None => self.ask_for(holder, throttled).await?,
        };
        Ok(answer.outcome().await?)
    }

    /// Begins to ask when there is room, and when it is their turn whose tokens were refused. Whose turn it is is asked by those
    /// alone who could go on, so that each sees what became of those before it.
    async fn ask_for(self: &Arc<Self>, holder: Holder<'_>, throttled: Throttled) -> Result<Answer, LoginError> {
        let account = holder.token.unverified().get("sub").and_then(serde_json::Value::as_str).unwrap_or_default();
        let mut room = self.room(holder.peer).await?;
        if let Some(answer) = self.answer(&digest(holder.octets)) {
            return Ok(answer);
        }
        if throttled == Throttled::No {
            return Ok(self.begin(holder.octets, room, None));
        }
        let now = Instant::now();
        let turn = self.refused.turn(account, holder.peer, now).ok_or(LoginError::TooManyFailures)?;
        if turn > now {
            drop(room);
            sleep_until(turn).await;
            room = self.room(holder.peer).await?;
        }
        Ok(self.begin(holder.octets, room, Some((account.into(), holder.peer))))
    }

    /// Waits until the API server may be asked about one more token of that source.
    async fn room(&self, peer: IpAddr) -> Result<Room, ReviewError> {
        let room = async {
            let place = self.places.enter(peer).await;
            Ok(Room { _place: Some(place), _permit: self.permit().await? })
        };
        let crowded = |_| ReviewError::Unavailable("it is being asked about too many others".into());
        timeout(REVIEW_PATIENCE, room).await.map_err(crowded)?
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, ReviewError> {
        // Nobody closes the semaphore.
        let permit = Arc::clone(&self.asking).acquire_owned().await;
        permit.map_err(|error| ReviewError::Unavailable(error.to_string()))
    }

    /// Asks about a token, unless that has begun. It goes on when nobody waits for it any more, for a client may be less patient
    /// than the API server is slow: what it says is known to the next one, and a token that it refuses counts against `login`.
    fn begin(self: &Arc<Self>, octets: &[u8], room: Room, login: Option<(Box<str>, IpAddr)>) -> Answer {
        let key = digest(octets);
        let mut answers = self.answers();
        if let Some(answer) = answers.get(&key).filter(|answer| answer.counts()) {
            return answer.clone();
        }
        let (said, answer) = watch::channel(None);
        let answer = Answer(answer);
        answers.insert(key, answer.clone());
        drop(answers);
        let (reviews, token) = (Arc::clone(self), Secret::from(octets));
        tokio::spawn(async move {
            let outcome = reviews.accounts.ask(token.expose()).await;
            if let (Err(ReviewError::Unauthenticated), Some((account, peer))) = (&outcome, login) {
                reviews.refused.failed(&account, peer, Instant::now());
            }
            let lifetime = if outcome.is_ok() { REVIEW_LIFETIME } else { REVIEW_LIFETIME_REFUSED };
            said.send_replace(Some(Review { outcome, until: Instant::now() + lifetime }));
            drop(room);
        });
        answer
    }

    /// Waits until the API server says that the token is none any more. While it cannot be asked, nothing is known against it.
    /// Connections that came back together do not ask together: each begins at a time of its own.
    pub(super) async fn revoked(self: &Arc<Self>, octets: &[u8]) {
        let mut pause = first_pause(random());
        loop {
            sleep(std::mem::replace(&mut pause, REVIEW_INTERVAL)).await;
            if self.again(octets).await == Err(ReviewError::Unauthenticated) {
                return;
            }
        }
    }

    async fn again(self: &Arc<Self>, octets: &[u8]) -> Result<Arc<str>, ReviewError> {
        // Those that log in do not stand behind all of these.
        let _turn = self.asking_again.acquire().await;
        let answer = match self.answer(&digest(octets)) {
            Some(answer) => answer,
            None => self.begin(octets, Room { _place: None, _permit: self.permit().await? }, None),
        };
        answer.outcome().await
    }

    /// What was said a while ago, or is being asked.
    fn answer(&self, key: &[u8; 32]) -> Option<Answer> {
        self.answers().get(key).filter(|answer| answer.counts()).cloned()
    }

    fn answers(&self) -> MutexGuard<'_, Recent<[u8; 32], Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// Whether it is not too old, or will still come.
    fn counts(&self) -> bool {
        match &*self.0.borrow() {
            Some(review) => review.until > Instant::now(),
            None => self.0.has_changed().is_ok(),
        }
    }

    async fn outcome(mut self) -> Result<Arc<str>, ReviewError> {
        let said = self.0.wait_for(Option::is_some).await.ok().and_then(|review| review.clone());
        said.map_or_else(|| Err(ReviewError::Unavailable("nobody asks any more".into())), |review| review.outcome)
    }
}

/// How long after its login a connection's token is asked about again: when what was said then does not count any more, and not
/// later than it is asked about from then on.
fn first_pause(random: u128) -> Duration {
    let random = random % (REVIEW_INTERVAL - REVIEW_LIFETIME).as_millis();
    REVIEW_LIFETIME + Duration::from_millis(u64::try_from(random).unwrap_or_default())
}

fn digest(octets: &[u8]) -> [u8; 32] {
    Sha256::digest(octets).into()
}

#[cfg(test)]
mod tests;
