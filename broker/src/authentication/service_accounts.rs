//! Pods that log in with the token of their ServiceAccount: the API server of Kubernetes says whose it is (TokenReview,
//! `authentication.k8s.io/v1`). It also knows of tokens whose pod or account is gone.
//!
//! The holder is the user of the topology that is called as Kubernetes calls the account,
//! `system:serviceaccount:<namespace>:<name>`; what it may do is written down there and nowhere else.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;
use tracing::warn;
use warren_core::limits::NAME_BYTES;

use super::fetch::Client;
use super::jose::Token;
use super::secret_files::{SecretFile, SecretFiles};
use crate::config::KubernetesConfig;
use crate::limits::REVIEW_TIMEOUT;

/// What the names of all ServiceAccounts begin with.
const PREFIX: &str = "system:serviceaccount:";

/// Asks the API server about tokens.
pub(super) struct ServiceAccounts {
    config: KubernetesConfig,
    /// Our own token.
    own: SecretFiles,
    client: Client,
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
        let own = SecretFiles::new([SecretFile::Needed(config.token_file.clone())]);
        Self { config, own, client }
    }

    /// The same, asking a server of a test, which speaks no TLS.
    #[cfg(test)]
    pub(super) fn without_tls(config: KubernetesConfig) -> Self {
        let mut accounts = Self::new(config);
        accounts.client.allow_http_on_loopback = true;
        accounts
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

    /// Whose token it is, as the API server says. It says so within [`REVIEW_TIMEOUT`], or cannot be asked.
    pub(super) async fn ask(&self, token: &[u8]) -> Result<Arc<str>, ReviewError> {
        let late = |_| Err(format!("it did not answer within {} s", REVIEW_TIMEOUT.as_secs()));
        let answer = timeout(REVIEW_TIMEOUT, self.exchange(token)).await.unwrap_or_else(late);
        self.read(answer.map_err(|reason| {
            warn!(reason, "the API server of Kubernetes cannot be asked about a token");
            ReviewError::Unavailable(reason)
        })?)
    }

    /// What it answers, or why it does not.
    async fn exchange(&self, token: &[u8]) -> Result<TokenReview, String> {
        let own = self.own.read().await.map_err(|error| error.to_string())?.concat();
        let own = String::from_utf8(own).map_err(|_| "our own token is not text")?;
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
        let answer = answer.map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(&answer).map_err(|_| "its answer is not a TokenReview")?)
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
    use super::*;

    fn service_accounts() -> ServiceAccounts {
        ServiceAccounts::new(toml::from_str("audience = 'warren'").expect("settings"))
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
