//! Routes that a connection has asked for before.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use crate::limits::{ROUTES_REMEMBERED, ROUTES_REMEMBERED_QUEUES};
use crate::topology::{RouteError, Routes, Topology};

/// Where messages went that were published with these names, by one snapshot of the topology. Publishers mostly say
/// the same again, so the last ones are looked through before exchanges and bindings are.
#[derive(Debug)]
pub(super) struct RouteMemory {
    /// The version of the topology that they are of.
    version: u64,
    known: Vec<Known>,
    /// Which of `known` was the last to be found.
    last: usize,
    /// Which of `known` is the next to be forgotten.
    oldest: usize,
    /// The last answer that cannot be remembered: a headers exchange looked into the message, or it is long.
    other: Routes,
}

#[derive(Debug, Default)]
struct Known {
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    routes: Routes,
}

impl Known {
    #[inline]
    fn is(&self, exchange: &[u8], routing_key: &[u8]) -> bool {
        self.routing_key == routing_key && self.exchange == exchange
    }
}

/// The names of a publish, as they came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) exchange: &'a [u8],
    pub(super) routing_key: &'a [u8],
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unroutable {
    NotUtf8,
    NoVhost,
    Refused(RouteError),
}

impl RouteMemory {
    pub(super) const fn new() -> Self {
        Self { version: 0, known: Vec::new(), last: 0, oldest: 0, other: Routes::new() }
    }

    /// Where a message goes. `headers` is asked only if an exchange on its way goes by them.
    #[inline]
    pub(super) fn find<'h>(
        &mut self,
        topology: &Topology,
        vhost: &str,
        names: Names<'_>,
        headers: impl FnOnce() -> Option<warren_amqp::Table<'h>>,
    ) -> Result<&Routes, Unroutable> {
        if self.version != topology.version() {
            self.forget(topology.version());
        }
        let Names { exchange, routing_key } = names;
        if !self.known.get(self.last).is_some_and(|known| known.is(exchange, routing_key)) {
            match self.known.iter().position(|known| known.is(exchange, routing_key)) {
                Some(at) => self.last = at,
                None => return self.route(topology, vhost, names, headers),
            }
        }
        Ok(&self.known[self.last].routes)
    }

    fn forget(&mut self, version: u64) {
        self.version = version;
        self.known.clear();
        (self.last, self.oldest) = (0, 0);
    }

    #[inline(never)]
    fn route<'h>(
        &mut self,
        topology: &Topology,
        vhost: &str,
        Names { exchange, routing_key }: Names<'_>,
        headers: impl FnOnce() -> Option<warren_amqp::Table<'h>>,
    ) -> Result<&Routes, Unroutable> {
        let text = |octets| core::str::from_utf8(octets).map_err(|_| Unroutable::NotUtf8);
        let mut by_headers = false;
        let looked = || {
            by_headers = true;
            headers()
        };
        self.other.clear();
        let vhost = topology.vhost(vhost).ok_or(Unroutable::NoVhost)?;
        vhost.route(text(exchange)?, text(routing_key)?, looked, &mut self.other).map_err(Unroutable::Refused)?;
        if by_headers || self.other.len() > ROUTES_REMEMBERED_QUEUES {
            return Ok(&self.other);
        }
        if self.known.len() < ROUTES_REMEMBERED {
            self.known.push(Known::default());
            self.last = self.known.len() - 1;
        } else {
            self.last = self.oldest;
            self.oldest = (self.oldest + 1) % ROUTES_REMEMBERED;
        }
        let known = &mut self.known[self.last];
        exchange.clone_into(&mut known.exchange);
        routing_key.clone_into(&mut known.routing_key);
        core::mem::swap(&mut known.routes, &mut self.other);
        Ok(&known.routes)
    }
}
