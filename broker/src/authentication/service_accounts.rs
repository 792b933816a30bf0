//! Pods that log in with the token of their ServiceAccount: the API server of Kubernetes says whose it is (TokenReview,
//! `authentication.k8s.io/v1`). It also knows of tokens whose pod or account is gone.
//!
//! The holder is the user of the topology that is called as Kubernetes calls the account,
//! `system:serviceaccount:<namespace>:<name>`; what it may do is written down there and nowhere else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tracing::warn;
use warren_core::limits::NAME_BYTES;

use super::fetch::{Client, FetchError};
use super::jose::Token;
use super::recent::Recent;
use super::secret_files::SecretFiles;
use crate::config::KubernetesConfig;
use crate::limits::{REVIEW_INTERVAL, REVIEW_LIFETIME, REVIEW_LIFETIME_REFUSED, REVIEWS, REVIEWS_AT_ONCE};

/// What the names of all ServiceAccounts begin with.
const PREFIX: &str = "system:serviceaccount:";

/// Asks the API server about tokens, and remembers for a while what it has said.
pub(super) struct ServiceAccounts {
    config: KubernetesConfig,
    /// Our own token.
    own: SecretFiles,
    client: Client,
    /// By the digest of the token. Who holds the lock of an entry is the one who asks.
    reviews: Mutex<Recent<[u8; 32], Entry>>,
    asking: Semaphore,
}

type Entry = Arc<tokio::sync::Mutex<Option<Review>>>;

/// What was said about a token.
#[derive(Clone)]
struct Review {
    outcome: Result<Arc<str>, ReviewError>,
    until: Instant,
}

/// Why a token of a ServiceAccount is not taken; for the log, so that nothing of the token is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReviewError {
    #[error("it is not meant for '{0}': mount one with that audience")]
    Audience(String),
    #[error("it has expired, or does not say when it will")]
    Expired,
    #[error("Kubernetes does not know it, or does not any more")]
    Unauthenticated,
    #[error("it is not a ServiceAccount's")]
    NotAServiceAccount,
    #[error("the API server of Kubernetes could not be asked: {0}")]
    Unavailable(String),
}

/// The answer, as far as it matters.
#[derive(Deserialize)]
struct TokenReview {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    user: User,
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

impl ServiceAccounts {
    pub(super) fn new(config: KubernetesConfig) -> Self {
        let client = Client { ca: Some(config.ca.clone()), allow_http_on_loopback: false };
        let reviews = Mutex::new(Recent::new(REVIEWS));
        let own = SecretFiles::new([config.token_file.clone()]);
        Self { config, own, client, reviews, asking: Semaphore::new(REVIEWS_AT_ONCE) }
    }

    /// When it runs out. What a token says of itself is only believed where it speaks against it: that spares a question.
    pub(super) fn expiry(&self, token: &Token<'_>) -> Result<SystemTime, ReviewError> {
        let claims = token.unverified();
        if !claims.has_among("aud", &self.config.audience) {
            return Err(ReviewError::Audience(self.config.audience.clone()));
        }
        let expires = claims.time("exp").ok().flatten().filter(|expires| *expires > SystemTime::now());
        expires.ok_or(ReviewError::Expired)
    }

    /// Whose token it is, if that was asked a while ago. `octets`: the token as it was shown.
    pub(super) fn known(&self, octets: &[u8]) -> Option<Result<Arc<str>, ReviewError>> {
        let entry = self.entry(octets);
        let review = entry.try_lock().ok()?;
        review.as_ref().filter(|known| known.until > Instant::now()).map(|known| known.outcome.clone())
    }

    fn entry(&self, octets: &[u8]) -> Entry {
        let key = Sha256::digest(octets).into();
        let mut reviews = self.reviews.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = reviews.get(&key) {
            return Arc::clone(entry);
        }
        let entry = Entry::default();
        reviews.insert(key, Arc::clone(&entry));
        entry
    }

    /// Whose token it is. Many who come at once with one token wait for the first of them.
    pub(super) async fn review(&self, octets: &[u8]) -> Result<Arc<str>, ReviewError> {
        let entry = self.entry(octets);
        let mut review = entry.lock().await;
        if let Some(known) = review.as_ref().filter(|known| known.until > Instant::now()) {
            return known.outcome.clone();
        }
        let outcome = self.ask(octets).await;
        let lifetime = if outcome.is_ok() { REVIEW_LIFETIME } else { REVIEW_LIFETIME_REFUSED };
        *review = Some(Review { outcome: outcome.clone(), until: Instant::now() + lifetime });
        outcome
    }

    /// Waits until the API server says that the token is none any more. While it cannot be asked, nothing is known against it.
    pub(super) async fn revoked(&self, octets: &[u8]) {
        loop {
            sleep(REVIEW_INTERVAL).await;
            if self.review(octets).await == Err(ReviewError::Unauthenticated) {
                return;
            }
        }
    }

    async fn ask(&self, token: &[u8]) -> Result<Arc<str>, ReviewError> {
        // Nobody closes the semaphore.
        let _permit = self.asking.acquire().await.map_err(|error| ReviewError::Unavailable(error.to_string()))?;
        let unavailable = |reason: String| {
            warn!(reason, "the API server of Kubernetes cannot be asked about a token");
            ReviewError::Unavailable(reason)
        };
        let own = self.own.read().await.map_err(|error| unavailable(error.to_string()))?.concat();
        let own = String::from_utf8(own).map_err(|_| unavailable("our own token is not text".into()))?;
        // A token is three parts of base64, which was looked at before.
        let token = String::from_utf8_lossy(token);
        let question = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self.config.audience]},
        });
        let address =
            format!("{}/apis/authentication.k8s.io/v1/tokenreviews", self.config.api_server.trim_end_matches('/'));
        let answer = self.client.post(&address, &own, question.to_string().into_bytes()).await;
        let answer = answer.map_err(|error: FetchError| unavailable(error.to_string()))?;
        let review: TokenReview =
            serde_json::from_slice(&answer).map_err(|_| unavailable("its answer is not a TokenReview".into()))?;
        self.read(review)
    }

    fn read(&self, review: TokenReview) -> Result<Arc<str>, ReviewError> {
        let Status { authenticated, audiences, user } = review.status;
        if !authenticated {
            return Err(ReviewError::Unauthenticated);
        }
        // One that does not know of audiences would let tokens in that are meant for others.
        if !audiences.contains(&self.config.audience) {
            return Err(ReviewError::Audience(self.config.audience.clone()));
        }
        let name = Some(user.username).filter(|name| name.starts_with(PREFIX) && name.len() <= NAME_BYTES);
        name.map(Arc::from).ok_or(ReviewError::NotAServiceAccount)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn service_accounts() -> ServiceAccounts {
        ServiceAccounts::new(toml::from_str("audience = 'warren'").expect("settings"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_kubernetes_does_not_know_any_more_is_revoked_and_an_outage_revokes_none() {
        let accounts = service_accounts();
        let unavailable = ReviewError::Unavailable("down".into());
        let said = async |outcome: Result<Arc<str>, ReviewError>| {
            let review = Review { outcome, until: Instant::now() + Duration::from_secs(7_200) };
            *accounts.entry(b"token").lock().await = Some(review);
        };
        for outcome in [Ok(Arc::from("system:serviceaccount:shop:billing")), Err(unavailable)] {
            said(outcome).await;
            let revoked = timeout(Duration::from_secs(3_600), accounts.revoked(b"token")).await;
            assert!(revoked.is_err(), "it is not");
        }
        said(Err(ReviewError::Unauthenticated)).await;
        let begin = Instant::now();
        accounts.revoked(b"token").await;
        assert_eq!(begin.elapsed(), REVIEW_INTERVAL);
    }

    #[test]
    fn only_a_service_account_for_our_audience_is_believed() {
        let name = "system:serviceaccount:shop:billing";
        let refused = |audiences: &[&str], user: &str| {
            let status = json!({"authenticated": true, "audiences": audiences, "user": {"username": user}});
            service_accounts().read(serde_json::from_value(json!({"status": status})).expect("a review"))
        };
        assert_eq!(refused(&["other", "warren"], name), Ok(Arc::from(name)));
        for audiences in [&[][..], &["other"], &["warren2"]] {
            assert_eq!(refused(audiences, name), Err(ReviewError::Audience("warren".into())), "{audiences:?}");
        }
        for user in ["", "admin", "system:node:a", "system:anonymous", &format!("{PREFIX}{}", "a".repeat(255))] {
            assert_eq!(refused(&["warren"], user), Err(ReviewError::NotAServiceAccount), "{user}");
        }
        for status in [json!({}), json!({"authenticated": false, "audiences": ["warren"], "user": {"username": name}})]
        {
            let review = serde_json::from_value(json!({"status": status})).expect("a review");
            assert_eq!(service_accounts().read(review), Err(ReviewError::Unauthenticated));
        }
    }
}
