//! An issuer of tokens: where its keys come from, and what its tokens have to say.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use prometheus::IntGauge;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};
use warren_core::limits::NAME_BYTES;
use warren_core::topology::{Identity, TokenIdentity, TooManyScopes};

use super::Authenticated;
use super::fetch::{Client, FetchError};
use super::jose::{Claims, JoseError, Keys, KeysError, Token};
use crate::config::{IssuerConfig, RightsFrom};
use crate::limits::{KEYS_LIFETIME, KEYS_PATIENCE, KEYS_REFRESH, KEYS_REFRESH_MIN, KEYS_RETRY, NOT_BEFORE_LEEWAY};
use crate::metrics::{Metrics, unix_seconds};

/// An issuer, with the keys that it was found to have last.
pub(super) struct Issuer {
    config: IssuerConfig,
    prefix: String,
    client: Client,
    keys: ArcSwapOption<Fetched>,
    /// Somebody has shown a token with a key that is not among them.
    wanted: Notify,
    /// Counts how often the issuer was asked.
    asked: watch::Sender<u64>,
    metrics: Metrics,
    /// When the keys were got.
    fetched: IntGauge,
}

struct Fetched {
    keys: Keys,
    at: Instant,
}

/// Why a token is not taken; for the log, so that nothing of the token is in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error(transparent)]
    Jose(#[from] JoseError),
    #[error("the issuer's keys have not been got yet, or the last ones are older than a day")]
    NoKeys,
    #[error("its claim '{0}' is missing or not what it should be")]
    Claim(&'static str),
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYet,
    #[error("the first of the claims that may have the user's name, or all of them, cannot be used as one")]
    NoName,
    #[error(transparent)]
    TooManyScopes(#[from] TooManyScopes),
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("its OpenID configuration is not an object of JSON with issuer and jwks_uri")]
    Discovery,
    #[error("its OpenID configuration is another issuer's")]
    OtherIssuer,
    #[error("its keys cannot be used: {0}")]
    Keys(#[from] KeysError),
}

/// `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0), as far as it matters.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// An issuer without keys yet.
    pub(super) fn new(config: IssuerConfig, metrics: Metrics) -> Self {
        let client = Client { ca: config.ca.clone(), allow_http_on_loopback: config.allow_http_on_loopback };
        Self {
            prefix: config.prefix(),
            client,
            keys: ArcSwapOption::empty(),
            wanted: Notify::new(),
            asked: watch::Sender::new(0),
            fetched: metrics.issuer_keys(&config.issuer),
            config,
            metrics,
        }
    }

    /// What its tokens have in `iss`.
    pub(super) fn name(&self) -> &str {
        &self.config.issuer
    }

    /// Gets the keys, and again from time to time or when one is missing. An answer that cannot be used changes nothing.
    pub(super) async fn keep_keys(self: Arc<Self>) {
        let issuer = self.name();
        loop {
            let wait = match self.refresh().await {
                Ok(keys) => {
                    debug!(issuer, "the issuer's keys are here");
                    self.keys.store(Some(Arc::new(Fetched { keys, at: Instant::now() })));
                    self.fetched.set(unix_seconds());
                    KEYS_REFRESH
                }
                Err(error) => {
                    self.metrics.issuer_refresh_failures.inc();
                    warn!(issuer, %error, "the issuer's keys cannot be got; the last ones go on to count, for a day");
                    KEYS_RETRY
                }
            };
            self.asked.send_modify(|count| *count += 1);
            sleep(KEYS_REFRESH_MIN).await;
            let _ = timeout(wait.saturating_sub(KEYS_REFRESH_MIN), self.wanted.notified()).await;
        }
    }

    async fn refresh(&self) -> Result<Keys, RefreshError> {
        let discovered;
        let address = match &self.config.jwks_uri {
            Some(address) => address,
            None => {
                let base = self.config.issuer.trim_end_matches('/');
                let document = self.client.get(&format!("{base}/.well-known/openid-configuration")).await?;
                let discovery: Discovery = serde_json::from_slice(&document).map_err(|_| RefreshError::Discovery)?;
                if discovery.issuer != self.config.issuer {
                    return Err(RefreshError::OtherIssuer);
                }
                discovered = discovery.jwks_uri;
                &discovered
            }
        };
        Ok(Keys::parse(&self.client.get(address).await?)?)
    }

    /// Who it is that a token of this issuer speaks of. `enter` lets it wait for a key that is missing; `None`: too many do.
    pub(super) async fn authenticate<W>(
        &self,
        token: Token<'_>,
        enter: impl FnOnce() -> Option<W>,
    ) -> Result<Authenticated, TokenError> {
        let fetched = self.keys_for(&token, enter).await.ok_or(TokenError::NoKeys)?;
        let claims = token.verify(&fetched.keys, &self.config.algorithms)?;
        self.read(&claims, SystemTime::now())
    }

    /// The keys, if possible with that of the token: for a while its key may be one that the issuer has had for a moment
    /// only.
    async fn keys_for<W>(&self, token: &Token<'_>, enter: impl FnOnce() -> Option<W>) -> Option<Arc<Fetched>> {
        let mut asked = self.asked.subscribe();
        asked.borrow_and_update();
        let fetched = self.keys();
        if fetched.as_ref().is_some_and(|fetched| token.key_is_among(&fetched.keys)) {
            return fetched;
        }
        self.wanted.notify_one();
        if let Some(_waiting) = enter() {
            let _ = timeout(KEYS_PATIENCE, asked.changed()).await;
        }
        self.keys()
    }

    fn keys(&self) -> Option<Arc<Fetched>> {
        self.keys.load_full().filter(|fetched| fetched.at.elapsed() < KEYS_LIFETIME)
    }

    /// Reads what a token of ours says, at that time.
    fn read(&self, claims: &Claims, now: SystemTime) -> Result<Authenticated, TokenError> {
        if claims.get("iss").and_then(Value::as_str) != Some(self.name()) {
            return Err(TokenError::Claim("iss"));
        }
        if !claims.has_among("aud", &self.config.audience) {
            return Err(TokenError::Claim("aud"));
        }
        let time = |name| claims.time(name).map_err(|_| TokenError::Claim(name));
        let expires = time("exp")?.ok_or(TokenError::Claim("exp"))?;
        if expires <= now {
            return Err(TokenError::Expired);
        }
        if time("nbf")?.is_some_and(|not_before| not_before > now + NOT_BEFORE_LEEWAY) {
            return Err(TokenError::NotYet);
        }
        let name = self.user_name(claims).ok_or(TokenError::NoName)?;
        if self.config.rights == RightsFrom::User {
            return Ok(Authenticated {
                identity: Identity::User(Arc::from(name)),
                expires: Some(expires),
                revocable: None,
            });
        }
        let scopes = self.scopes(claims);
        let meant = scopes.iter().filter_map(|scope| scope.strip_prefix(&self.prefix));
        let identity = TokenIdentity::new(name, meant)?;
        Ok(Authenticated { identity: Identity::Token(Arc::new(identity)), expires: Some(expires), revocable: None })
    }

    /// The first claim that is there has to do: another one may be somebody else's to choose.
    fn user_name<'c>(&self, claims: &'c Claims) -> Option<&'c str> {
        let is_name = |name: &&str| !name.is_empty() && name.len() <= NAME_BYTES && !name.chars().any(char::is_control);
        self.config.username_claims.iter().find_map(|claim| claims.get(claim))?.as_str().filter(is_name)
    }

    /// All scopes, with those that others stand for.
    fn scopes(&self, claims: &Claims) -> Vec<String> {
        let keys = std::iter::once("scope").chain(self.config.additional_scopes_keys.iter().map(String::as_str));
        let scopes = keys.filter_map(|key| claims.get(key)).flat_map(words);
        scopes
            .flat_map(|scope| match self.config.scope_aliases.get(scope) {
                Some(meant) => meant.clone(),
                None => vec![scope.to_owned()],
            })
            .collect()
    }
}

/// The words of a claim: a text with spaces between them, or a list of texts.
fn words(claim: &Value) -> Vec<&str> {
    let texts = match claim {
        Value::Array(list) => list.as_slice(),
        text => std::slice::from_ref(text),
    };
    texts.iter().filter_map(Value::as_str).flat_map(|text| text.split(' ')).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests;
