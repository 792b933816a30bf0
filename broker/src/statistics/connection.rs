//! What is known of a connection without asking its task: who it is, and how much has gone through its socket.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tracing::info;
use warren_core::ConnectionId;

use crate::authentication::Authenticated;
use crate::config::CertificateLogin;
use crate::tls::CertificateNames;

/// A connection from accept to end.
#[derive(Debug)]
pub(crate) struct ConnectionFacts {
    pub(crate) id: ConnectionId,
    /// The client's end.
    pub(crate) peer: SocketAddr,
    /// Ours.
    pub(crate) local: SocketAddr,
    /// When it was accepted: wall-clock milliseconds since the Unix epoch.
    pub(crate) connected_at_ms: u64,
    /// What its TLS handshake came to; `None`: it has none.
    pub(crate) tls: Option<TlsFacts>,
    /// Who has logged in to the management API, which speaks AMQP in that name; `None`: it is a client's.
    pub(crate) inside: Option<Authenticated>,
    /// What it was let into, from then on.
    pub(crate) opened: OnceLock<OpenedAs>,
    pub(crate) meter: Meter,
}

/// Who has opened a virtual host.
#[derive(Debug)]
pub(crate) struct OpenedAs {
    pub(crate) user: Arc<str>,
    pub(crate) vhost: Arc<str>,
}

/// What a TLS handshake came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFacts {
    /// As RabbitMQ writes it: `tlsv1.3`.
    pub(crate) version: &'static str,
    /// The suite's name as the standard has it: `TLS13_AES_256_GCM_SHA384`.
    pub(crate) cipher: String,
    /// The names in the certificate that the client has shown, if it has shown one.
    pub(crate) certificate: Option<Arc<CertificateNames>>,
    /// The user as whom that certificate lets it in by EXTERNAL, if there is such a user.
    pub(crate) certified_user: Option<Arc<str>>,
}

/// Counts of one socket. Its connection's task alone adds to them.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    received_bytes: AtomicU64,
    received_count: AtomicU64,
    sent_bytes: AtomicU64,
    sent_count: AtomicU64,
    unsent_bytes: AtomicU64,
}

/// A [`Meter`] at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Metered {
    /// Octets read, and how many reads that took.
    pub(crate) received_bytes: u64,
    /// See [`Self::received_bytes`].
    pub(crate) received_count: u64,
    /// Octets written, and how many writes that took.
    pub(crate) sent_bytes: u64,
    /// See [`Self::sent_bytes`].
    pub(crate) sent_count: u64,
    /// Octets that the client has left waiting.
    pub(crate) unsent_bytes: u64,
}

impl ConnectionFacts {
    /// Those of a connection from `peer` to `local` that has just been accepted.
    pub(crate) fn new(id: ConnectionId, (peer, local): (SocketAddr, SocketAddr), connected_at_ms: u64) -> Self {
        let (opened, meter) = (OnceLock::new(), Meter::default());
        Self { id, peer, local, connected_at_ms, tls: None, inside: None, opened, meter }
    }

    /// Whose it is; empty: it has not opened a virtual host yet.
    pub(crate) fn user(&self) -> &str {
        self.opened.get().map_or("", |opened| &opened.user)
    }

    /// The virtual host that it has opened; empty before.
    pub(crate) fn vhost(&self) -> &str {
        self.opened.get().map_or("", |opened| &opened.vhost)
    }

    /// The name that RabbitMQ would give it.
    pub(crate) fn name(&self) -> String {
        format!("{} -> {}", self.peer, self.local)
    }
}

impl Meter {
    pub(crate) fn received(&self, bytes: usize) {
        add(&self.received_bytes, bytes as u64);
        add(&self.received_count, 1);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.sent_bytes, bytes as u64);
        add(&self.sent_count, 1);
    }

    pub(crate) fn leaves(&self, unsent_bytes: usize) {
        self.unsent_bytes.store(unsent_bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Metered {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Metered {
            received_bytes: read(&self.received_bytes),
            received_count: read(&self.received_count),
            sent_bytes: read(&self.sent_bytes),
            sent_count: read(&self.sent_count),
            unsent_bytes: read(&self.unsent_bytes),
        }
    }
}

/// Nobody else writes it, so it need not be one step.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl TlsFacts {
    /// `None`: the handshake is not over. `login_from`: which name in its certificate is a user's, if certificates let users in.
    pub(crate) fn of(connection: &rustls::ServerConnection, login_from: Option<CertificateLogin>) -> Option<Self> {
        let version = match connection.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_3 => "tlsv1.3",
            _ => "tlsv1.2",
        };
        let cipher = format!("{:?}", connection.negotiated_cipher_suite()?.suite());
        let certificate = CertificateNames::of(connection);
        let user = certificate.as_ref().zip(login_from).and_then(|(names, from)| {
            names.user(from).inspect_err(|reason| info!(%reason, "the client's certificate lets nobody in")).ok()
        });
        let certified_user = user.map(Arc::from);
        Some(Self { version, cipher, certificate, certified_user })
    }
}
