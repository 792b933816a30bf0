//! Who somebody is: every way into the node asks here, and here alone.

mod fetch;
mod hashing;
mod issuer;
mod jose;
mod passwords;
mod places;
mod recent;
mod reviews;
mod secret_files;
mod service_accounts;
mod throttle;
mod trail;
mod waiters;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::time::Instant;
use tracing::{Span, info};
use warren_core::session::{Login, MetadataRequest};
use warren_core::topology::{Action, Administration, DEFAULT_VHOST, Identity, PasswordHash, Request, Topology};
use warren_core::{ConnectionId, Secret};

pub(crate) use fetch::{check_address, check_authorities, check_endpoint, send_json};
pub use hashing::password_hash;
pub use jose::SignatureAlgorithm;
pub(crate) use passwords::{check_secret, readable};

use crate::audit;
use crate::config::{AuthenticationConfig, DefaultUser};
use crate::metadata::MetadataHandle;
use crate::metrics::Metrics;
use issuer::{Issuer, TokenError};
use jose::{Token, looks_like_a_token};
use passwords::{Found, Passwords};
use reviews::{Holder, Reviews};
use service_accounts::{ReviewError, ServiceAccounts};
use throttle::Throttle;
use trail::Trail;
use waiters::Waiters;

/// Checks credentials, whatever door they come through, and counts what came of it.
pub(crate) struct Authentication {
    passwords: Passwords,
    throttle: Throttle,
    waiters: Waiters,
    trail: Arc<Trail>,
    issuers: Vec<Arc<Issuer>>,
    service_accounts: Option<Arc<Reviews>>,
    topology: Arc<ArcSwap<Topology>>,
    metadata: MetadataHandle,
    metrics: Metrics,
}

/// What somebody shows to be let in.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// A name and a password: SASL PLAIN and AMQPLAIN, HTTP Basic.
    Password(Login),
    /// A token alone: HTTP Bearer.
    Bearer(Secret),
    /// The user's name in a certificate, which TLS has verified: SASL EXTERNAL.
    Certificate(Arc<str>),
}

impl Credentials {
    /// How somebody tries to log in, for the audit trail.
    fn mechanism(&self) -> &'static str {
        match self {
            Self::Password(_) => "password",
            Self::Bearer(_) => "bearer",
            Self::Certificate(_) => "certificate",
        }
    }

    /// Whom the client names.
    fn user(&self) -> &str {
        match self {
            Self::Password(login) => &login.user,
            Self::Bearer(_) => "",
            Self::Certificate(user) => user,
        }
    }
}

/// What somebody comes in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// A connection, which logs in once.
    Amqp,
    /// The management API, where each request logs in.
    Http,
}

/// Whether a login waits for its turn where others have failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Throttled {
    Yes,
    No,
}

/// Somebody who was let in.
#[derive(Debug, Clone)]
pub(crate) struct Authenticated {
    /// Whose rights count.
    pub(crate) identity: Identity,
    /// When the credentials run out; never, if there is none.
    pub(crate) expires: Option<SystemTime>,
    /// The token, if somebody may take it back before that: see [`Authentication::revoked`].
    pub(crate) revocable: Option<Secret>,
}

/// Why a login was refused; for the log, never for the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("user or password is wrong")]
    Credentials,
    #[error("guest may only log in from this host; configure [default_user] for others")]
    GuestFromAfar,
    #[error("cannot read {path}: {source}")]
    Secret { path: String, source: io::Error },
    #[error("too many logins have failed lately, of this user or from this source; it was not looked at")]
    TooManyFailures,
    #[error("the token is refused: {0}")]
    Token(#[from] TokenError),
    #[error("the token of a ServiceAccount is refused: {0}")]
    Review(#[from] ReviewError),
    #[error("the token is of none of the issuers that are configured")]
    NoIssuer,
    #[error("there is no user of the name in the certificate")]
    UnknownCertificate,
    #[error("the password could not be compared: the thread that was to do it has ended")]
    NotCompared,
}

impl Authentication {
    /// Checks credentials from now on. Issuers are asked for their keys in the background.
    pub(crate) fn start(
        (default_user, config): (Option<DefaultUser>, AuthenticationConfig),
        topology: Arc<ArcSwap<Topology>>,
        metadata: MetadataHandle,
        metrics: Metrics,
    ) -> Self {
        let issuers = config.issuers.into_iter().map(|issuer| Arc::new(Issuer::new(issuer, metrics.clone())));
        let issuers: Vec<_> = issuers.collect();
        for issuer in &issuers {
            tokio::spawn(Arc::clone(issuer).keep_keys());
        }
        let trail = Arc::new(Trail::new());
        tokio::spawn(Arc::clone(&trail).tell());
        Self {
            passwords: Passwords::new(default_user),
            throttle: Throttle::new(),
            waiters: Waiters::default(),
            trail,
            issuers,
            service_accounts: config.kubernetes.map(|config| Arc::new(Reviews::new(ServiceAccounts::new(config)))),
            topology,
            metadata,
            metrics,
        }
    }

    /// Who it is that shows these credentials. It may take a while: somebody else may have to be asked.
    ///
    /// # Errors
    /// They are not right. Whoever showed them is told no more than that.
    pub(crate) async fn authenticate(
        &self,
        credentials: &Credentials,
        door: Door,
        peer: IpAddr,
    ) -> Result<Authenticated, LoginError> {
        let result = match credentials {
            Credentials::Password(login) => self.check_login(login, peer).await,
            Credentials::Bearer(token) => self.check_token(token.expose(), peer, Throttled::Yes).await,
            Credentials::Certificate(user) => self.check_certificate(user, peer),
        };
        self.told(credentials, (door, peer), result)
    }

    /// The same for somebody who is in already and shows newer credentials (`connection.update-secret`): whoever else has failed
    /// does not matter, and whoever fails is not in any more.
    ///
    /// # Errors
    /// They are not right.
    pub(crate) async fn renew(&self, credentials: &Credentials, peer: IpAddr) -> Result<Authenticated, LoginError> {
        let result = match credentials {
            Credentials::Password(login) if self.is_token(login.password.expose()) => {
                self.check_token(login.password.expose(), peer, Throttled::No).await
            }
            Credentials::Password(_) | Credentials::Bearer(_) | Credentials::Certificate(_) => {
                return self.authenticate(credentials, Door::Amqp, peer).await;
            }
        };
        self.told(credentials, (Door::Amqp, peer), result)
    }

    /// Counts what came of a login, and tells it.
    fn told(
        &self,
        credentials: &Credentials,
        (door, peer): (Door, IpAddr),
        result: Result<Authenticated, LoginError>,
    ) -> Result<Authenticated, LoginError> {
        let counts = self.metrics.logins.of(door);
        match &result {
            Ok(authenticated) => {
                counts.succeeded.inc();
                let user = authenticated.identity.name();
                if self.trail.tells_login(door, user, peer, Instant::now()) {
                    audit::login(user, credentials.mechanism(), None);
                }
            }
            Err(reason) => {
                counts.failed.inc();
                if self.trail.tells_refusal(reason, peer) {
                    audit::login(credentials.user(), credentials.mechanism(), Some(reason));
                }
            }
        }
        result
    }

    /// Waits until a token that was taken is none any more: its pod or its account is gone.
    pub(crate) async fn revoked(&self, token: &Secret) {
        match &self.service_accounts {
            Some(reviews) => reviews.revoked(token.expose()).await,
            None => std::future::pending().await,
        }
    }

    /// Whether the audit trail tells by itself that this user was refused a request; if not, it is counted.
    pub(crate) fn tells_denial(&self, user: &Arc<str>) -> bool {
        self.trail.tells_denial(user)
    }

    /// Tells what of refused logins and requests was counted and not told yet: the node stops.
    pub(crate) fn tell_the_rest(&self) {
        self.trail.tell_now();
    }

    /// The name of the node's own user, who is not in the topology; none if its file could never be read.
    pub(crate) fn node_user(&self, topology: &Topology) -> Option<String> {
        self.passwords.node_user_name(topology)
    }

    /// Whether the configuration names the node's own user, whose place nobody can take then.
    pub(crate) fn configures_node_user(&self) -> bool {
        self.passwords.configures_node_user()
    }

    /// Whether this is the name of the node's own user as the configuration has it: no user of the topology is made with it.
    pub(crate) fn is_reserved(&self, user: &str) -> bool {
        self.configures_node_user() && self.node_user(&self.topology.load()).is_some_and(|name| name == user)
    }

    /// The hash that a user with this new password is made with. It takes tens of milliseconds, and waits for others.
    ///
    /// # Errors
    /// The password is one that nobody can have: it cannot be hashed.
    pub(crate) async fn hash(&self, password: Secret) -> Result<PasswordHash, LoginError> {
        self.passwords.hash(password).await
    }

    /// A password may be a token: then it is the token's holder who logs in, whatever user the client names (RabbitMQ).
    async fn check_login(&self, login: &Login, peer: IpAddr) -> Result<Authenticated, LoginError> {
        let password = login.password.expose();
        if self.is_token(password) {
            return self.check_token(password, peer, Throttled::Yes).await;
        }
        Ok(Authenticated { identity: self.check_password(login, peer).await?, expires: None, revocable: None })
    }

    /// Nobody guesses a signature, so that no token waits because others have failed. What costs somebody else something is
    /// bounded: how many wait for a key that is missing, and how often the API server of Kubernetes is asked.
    async fn check_token(
        &self,
        octets: &[u8],
        peer: IpAddr,
        throttled: Throttled,
    ) -> Result<Authenticated, LoginError> {
        let token = Token::parse(octets).map_err(TokenError::from)?;
        let of_token = |issuer: &&Arc<Issuer>| token.claimed_issuer() == Some(issuer.name());
        match (self.issuers.iter().find(of_token), &self.service_accounts) {
            (Some(issuer), _) => {
                let authenticated = issuer.authenticate(token, || self.waiters.enter(peer)).await?;
                if let Identity::User(name) = &authenticated.identity {
                    self.passwords.check_origin(name, false, peer)?;
                }
                Ok(authenticated)
            }
            (None, Some(reviews)) => {
                let expires = reviews.accounts.expiry(&token)?;
                let name = reviews.login(Holder { octets, token: &token, peer }, throttled).await?;
                let revocable = Some(Secret::from(octets));
                Ok(Authenticated { identity: Identity::User(name), expires: Some(expires), revocable })
            }
            (None, None) => Err(LoginError::NoIssuer),
        }
    }

    fn is_token(&self, password: &[u8]) -> bool {
        (!self.issuers.is_empty() || self.service_accounts.is_some()) && looks_like_a_token(password)
    }

    /// The user that a certificate names has to be there: whoever signs certificates does not make users. The node's own user
    /// has a password, and no certificate.
    fn check_certificate(&self, user: &str, peer: IpAddr) -> Result<Authenticated, LoginError> {
        self.passwords.check_origin(user, false, peer)?;
        let topology = self.topology.load();
        let record = topology.user(user).ok_or(LoginError::UnknownCertificate)?;
        Ok(Authenticated { identity: Identity::User(Arc::clone(&record.name)), expires: None, revocable: None })
    }

    async fn check_password(&self, login: &Login, peer: IpAddr) -> Result<Identity, LoginError> {
        let topology = self.topology.load_full();
        let Found { identity, rehashed } = self.passwords.check(&topology, login, peer, &self.throttle).await?;
        if let Some((old, new)) = rehashed {
            self.rehash(&login.user, old, new);
        }
        Ok(identity)
    }

    /// Asks for a better hash in the place of the one that the user has. Nobody waits for it: if it comes to nothing, the next
    /// login asks again.
    fn rehash(&self, user: &str, old: PasswordHash, new: PasswordHash) {
        info!(user, "the password gets a better hash");
        let asked = Administration::RehashPassword { user: user.to_owned(), old, new };
        let request = Request {
            connection: ConnectionId::FORWARDER,
            identity: Identity::Node(Arc::from("authentication")),
            vhost: Arc::from(DEFAULT_VHOST),
            action: Action::Administer(asked),
        };
        // It is the node that does so, and not whoever logs in: see `audit`.
        Span::none().in_scope(|| drop(self.metadata.request(MetadataRequest::Topology(request))));
    }
}

#[cfg(test)]
mod tests;
