//! Routes that a connection has asked for before.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::iter::once;

use warren_amqp::{Properties, Table};

use super::World;
use crate::limits::{ROUTES_REMEMBERED, ROUTES_REMEMBERED_QUEUES};
use crate::topology::{Envelope, RouteError, Routes};

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
    /// The last answer that cannot be remembered: more than names had a say, or it is long.
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

/// What else exchanges may go by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traits<'a> {
    pub(super) headers: Option<Table<'a>>,
    pub(super) properties: Properties<'a>,
}

impl Traits<'_> {
    /// None of them.
    pub(super) const NONE: Self = Self { headers: None, properties: Properties::NONE };
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

    /// Where a message goes.
    #[inline]
    pub(super) fn find(
        &mut self,
        world: &mut World<'_>,
        vhost: &str,
        names: Names<'_>,
        traits: Traits<'_>,
    ) -> Result<&Routes, Unroutable> {
        if self.version != world.topology.version() {
            self.forget(world.topology.version());
        }
        let Names { exchange, routing_key } = names;
        if !self.known.get(self.last).is_some_and(|known| known.is(exchange, routing_key)) {
            match self.known.iter().position(|known| known.is(exchange, routing_key)) {
                Some(at) => self.last = at,
                None => return self.route(world, vhost, names, traits),
            }
        }
        Ok(&self.known[self.last].routes)
    }

    /// Where a message goes that has more than one routing key. It is not remembered. A key that is not text leads nowhere
    /// that the others do not.
    #[cold]
    pub(super) fn find_all<'k>(
        &mut self,
        world: &mut World<'_>,
        vhost: &str,
        Names { exchange, routing_key }: Names<'_>,
        further_keys: impl Iterator<Item = &'k [u8]>,
        Traits { headers, properties }: Traits<'_>,
    ) -> Result<&Routes, Unroutable> {
        let exchange = core::str::from_utf8(exchange).map_err(|_| Unroutable::NotUtf8)?;
        let routing_key = core::str::from_utf8(routing_key).map_err(|_| Unroutable::NotUtf8)?;
        let vhost = world.topology.vhost(vhost).ok_or(Unroutable::NoVhost)?;
        self.other.clear();
        for routing_key in once(routing_key).chain(further_keys.filter_map(|key| core::str::from_utf8(key).ok())) {
            let message = Envelope { exchange, routing_key, headers, properties };
            vhost.route(&message, world.random, &mut self.other).map_err(Unroutable::Refused)?;
        }
        Ok(&self.other)
    }

    fn forget(&mut self, version: u64) {
        self.version = version;
        self.known.clear();
        (self.last, self.oldest) = (0, 0);
    }

    #[inline(never)]
    fn route(
        &mut self,
        world: &mut World<'_>,
        vhost: &str,
        Names { exchange, routing_key }: Names<'_>,
        Traits { headers, properties }: Traits<'_>,
    ) -> Result<&Routes, Unroutable> {
        let text = |octets| core::str::from_utf8(octets).map_err(|_| Unroutable::NotUtf8);
        self.other.clear();
        let vhost = world.topology.vhost(vhost).ok_or(Unroutable::NoVhost)?;
        let message = Envelope { exchange: text(exchange)?, routing_key: text(routing_key)?, headers, properties };
        vhost.route(&message, world.random, &mut self.other).map_err(Unroutable::Refused)?;
        if !self.other.is_repeatable() || self.other.len() > ROUTES_REMEMBERED_QUEUES {
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
