//! TLS that follows its files.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::{InvalidMessage, ServerConfig};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tokio_rustls::TlsAcceptor;
use tracing::{error, info, warn};

use super::error::TlsError;
use super::material::{Accepting, Material};
use crate::clock::rfc3339;
use crate::config::{CertificateLogin, TlsConfig};
use crate::limits::{LOGINS_TOLD, LOGINS_TOLD_INTERVAL, TLS_POLL_INTERVAL};
use crate::metrics::Metrics;
use crate::told::{Told, source};

/// What accepts TLS connections of one kind. Connections that are there keep what they were accepted with.
#[derive(Debug)]
pub(crate) struct ReloadingTls {
    current: ArcSwap<ServerConfig>,
    login_from: Option<CertificateLogin>,
    /// Handshakes that failed, by their source.
    failed: Arc<Told<IpAddr>>,
}

impl ReloadingTls {
    /// Accepts one connection with what is the newest now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Which name in a client's certificate is a user's; `None`: certificates let nobody in.
    pub(crate) fn login_from(&self) -> Option<CertificateLogin> {
        self.login_from
    }

    /// Tells that a client did not come in by TLS, unless its source has been told of too often. `error`: what went wrong, or
    /// `None` if it took too long.
    pub(crate) fn tell_failure(&self, peer: IpAddr, error: Option<&io::Error>) {
        if !self.failed.tells(source(peer), LOGINS_TOLD) {
            return;
        }
        match error {
            Some(error) if is_plain_text(error) => info!(
                "the client does not speak TLS, and this port takes nothing else; has it been given the wrong port, or http: \
                 instead of https:?"
            ),
            Some(error) => info!(%error, "the TLS handshake failed"),
            None => info!("the client did not finish its TLS handshake in time"),
        }
    }

    /// Tells how many handshakes have failed, here and on the ports that share the files, that were not told one by one.
    pub(crate) fn tell_the_rest(&self) {
        for (source, count) in self.failed.take() {
            let source = source.map(tracing::field::display);
            info!(source, count, "more TLS handshakes failed");
        }
    }
}

/// Whether a handshake failed because the client does not speak TLS at all.
fn is_plain_text(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(inner, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

/// The files for TLS, and what is made of them.
///
/// They are read every [`TLS_POLL_INTERVAL`] and told apart by what is in them: where Kubernetes mounts a Secret, a change is a
/// new folder behind a link, of which no file's own time tells. What cannot be used is refused whole, and what was there before
/// goes on; it is tried again each time, for it may only be early, or half written.
pub(crate) struct TlsFiles {
    config: Arc<TlsConfig>,
    amqps: Arc<ReloadingTls>,
    https: Arc<ReloadingTls>,
    taken: [u8; 32],
    refused: Option<Refused>,
    metrics: Metrics,
}

/// What was refused last, so that it is told once.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    /// `None`: the files could not be read.
    digest: Option<[u8; 32]>,
    error: TlsError,
}

impl TlsFiles {
    /// Reads them for the first time. What is only out of its time is taken, for there is nothing better yet, and who does not
    /// come by TLS is not concerned.
    ///
    /// # Errors
    /// A file cannot be read, or holds something else than it should.
    pub(crate) fn load(config: TlsConfig, metrics: Metrics) -> Result<Self, TlsError> {
        let material = Material::read(&config)?;
        let (accepting, refused) = match material.accepting(&config, Some(SystemTime::now())) {
            Ok(accepting) => (accepting, None),
            Err(error) => {
                let accepting = material.accepting(&config, None)?;
                warn!(%error, "clients that check will not come in by TLS");
                (accepting, Some(Refused { digest: Some(material.digest()), error }))
            }
        };
        let failed = Arc::new(Told::new());
        let reloading = |config: &Arc<ServerConfig>, login_from| {
            Arc::new(ReloadingTls { current: ArcSwap::new(config.clone()), login_from, failed: Arc::clone(&failed) })
        };
        let files = Self {
            amqps: reloading(&accepting.amqps, config.login_from),
            // Over HTTP nobody logs in with a certificate.
            https: reloading(&accepting.https, None),
            config: Arc::new(config),
            taken: material.digest(),
            refused,
            metrics,
        };
        files.report(&accepting);
        Ok(files)
    }

    /// For AMQP.
    pub(crate) fn amqps(&self) -> Arc<ReloadingTls> {
        Arc::clone(&self.amqps)
    }

    /// For HTTP.
    pub(crate) fn https(&self) -> Arc<ReloadingTls> {
        Arc::clone(&self.https)
    }

    /// Follows the files for ever, and tells how many handshakes failed that were not told one by one.
    pub(crate) async fn follow(mut self) {
        let mut looks = interval(TLS_POLL_INTERVAL);
        // The first tick of an interval is at once, when there is nothing to tell yet.
        let mut tellings = interval_at(Instant::now() + LOGINS_TOLD_INTERVAL, LOGINS_TOLD_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => self.look().await,
                _ = tellings.tick() => self.amqps.tell_the_rest(),
            }
        }
    }

    async fn look(&mut self) {
        let (config, taken) = (Arc::clone(&self.config), self.taken);
        // Disks and network volumes may be slow.
        match tokio::task::spawn_blocking(move || look(&config, &taken)).await {
            Ok(Looked::Same) => self.as_before(),
            Ok(Looked::New(digest, accepting)) => self.take(digest, &accepting),
            Ok(Looked::Refused(refused)) => self.refuse(refused),
            Err(error) => error!(%error, "the files for TLS cannot be looked at"),
        }
    }

    /// What was refused is gone, and what is in use is there again.
    fn as_before(&mut self) {
        if self.refused.as_ref().is_some_and(|refused| refused.digest != Some(self.taken)) {
            self.refused = None;
            self.metrics.tls.material_refused.set(0);
            info!("the files for TLS are again as they were");
        }
    }

    fn take(&mut self, digest: [u8; 32], accepting: &Accepting) {
        self.amqps.current.store(accepting.amqps.clone());
        self.https.current.store(accepting.https.clone());
        (self.taken, self.refused) = (digest, None);
        self.metrics.tls.reloads_taken.inc();
        self.report(accepting);
        info!(
            not_after = rfc3339(u64::try_from(accepting.not_after).unwrap_or_default().saturating_mul(1_000)),
            "the files for TLS have changed; new connections are accepted with them"
        );
    }

    fn refuse(&mut self, refused: Refused) {
        if self.refused.as_ref() == Some(&refused) {
            return;
        }
        let error = &refused.error;
        error!(%error, "the files for TLS have changed and cannot be used; what was there before goes on");
        self.metrics.tls.reloads_refused.inc();
        self.metrics.tls.material_refused.set(1);
        self.refused = Some(refused);
    }

    fn report(&self, accepting: &Accepting) {
        let metrics = &self.metrics.tls;
        metrics.material_refused.set(self.refused.is_some().into());
        metrics.certificate_not_after.set(accepting.not_after);
        metrics.crl_next_update.set(accepting.next_update.unwrap_or_default());
    }
}

/// What became of the files.
enum Looked {
    Same,
    New([u8; 32], Accepting),
    Refused(Refused),
}

fn look(config: &TlsConfig, taken: &[u8; 32]) -> Looked {
    let material = match Material::read(config) {
        Ok(material) => material,
        Err(error) => return Looked::Refused(Refused { digest: None, error }),
    };
    let digest = material.digest();
    if digest == *taken {
        return Looked::Same;
    }
    match material.accepting(config, Some(SystemTime::now())) {
        Ok(accepting) => Looked::New(digest, accepting),
        Err(error) => Looked::Refused(Refused { digest: Some(digest), error }),
    }
}
