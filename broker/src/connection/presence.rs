//! What a connection counts for in the node.

use std::sync::Arc;
use std::task::{Context, Poll};

use warren_core::Exception;
use warren_core::session::Census;
use warren_core::topology::OpenConnections;

use crate::connections::{Connections, Opened};
use crate::listener::InHandshake;
use crate::node::Shared;
use crate::statistics::connection::{ConnectionFacts, OpenedAs};

/// What a connection counts for in the node's gauges; given back when it ends, however it ends.
pub(super) struct Presence {
    shared: Arc<Shared>,
    /// Until it opens a virtual host.
    handshake: Option<InHandshake>,
    /// From when it opens a virtual host until it is closed.
    pub(super) opened: Option<Opened>,
    channels: usize,
    publishers: usize,
    facts: Arc<ConnectionFacts>,
}

impl Presence {
    pub(super) fn new(handshake: InHandshake, facts: Arc<ConnectionFacts>) -> Self {
        let shared = Arc::clone(handshake.node());
        shared.metrics.connections_opened.inc();
        Self { shared, facts, handshake: Some(handshake), opened: None, channels: 0, publishers: 0 }
    }

    /// Ready when the connection's place among those that have not logged in is another's.
    pub(super) fn poll_shed(&self, context: &Context<'_>) -> Poll<()> {
        self.handshake.as_ref().map_or(Poll::Pending, |handshake| handshake.poll_shed(context))
    }

    /// It has so many channels now, of which so many have published.
    pub(super) fn update(&mut self, in_handshake: bool, channels: usize, publishers: usize) {
        if publishers != self.publishers {
            self.shared.metrics.publishers.add(publishers as i64 - self.publishers as i64);
            self.publishers = publishers;
        }
        if channels != self.channels {
            self.shared.metrics.channels.add(channels as i64 - self.channels as i64);
            self.channels = channels;
        }
        if !in_handshake {
            self.handshake = None;
        }
    }
}

impl Census for Presence {
    fn open_connection(
        &mut self,
        user: &str,
        vhost: &str,
        check: &mut dyn FnMut(OpenConnections) -> Result<(), Exception>,
    ) -> Result<(), Exception> {
        self.opened = Some(Connections::open(&self.shared.connections, user, vhost, check)?);
        // A session opens one virtual host, once.
        let _ = self.facts.opened.set(OpenedAs { user: user.into(), vhost: vhost.into() });
        Ok(())
    }

    fn open_channel(
        &mut self,
        own: usize,
        check: &mut dyn FnMut(usize) -> Result<(), Exception>,
    ) -> Result<(), Exception> {
        match &mut self.opened {
            Some(opened) => opened.open_channel(own, check),
            // A session opens its virtual host before any channel.
            None => check(own),
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.update(false, 0, 0);
        self.shared.metrics.connection_ended(&self.facts.meter.read());
    }
}
