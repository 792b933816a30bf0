//! TLS that follows its files.

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

/// What accepts TLS connections of one kind. Connections that are there keep what they were accepted with.
#[derive(Debug)]
pub(crate) struct ReloadingTls {
    current: ArcSwap<ServerConfig>,
}

impl ReloadingTls {
    pub(super) fn new(config: ServerConfig) -> Self {
        Self { current: ArcSwap::from_pointee(config) }
    }

    /// Accepts one connection with what is the newest now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}
