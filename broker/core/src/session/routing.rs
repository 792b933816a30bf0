//! Routes that a connection has asked for before.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::iter::once;

use warren_amqp::{Properties, ReplyCode, Table};

use super::properties::Checked;
use super::{ExchangeCounts, World};
use crate::error::Exception;
use crate::limits::{ROUTES_REMEMBERED, ROUTES_REMEMBERED_QUEUES};
use crate::topology::{Envelope, Identity, Routes};

/// Where messages went that were published with these names, by one snapshot of the topology, and that they may go there.
/// Publishers mostly say the same again, so the last ones are looked through before permissions, exchanges and bindings are.
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
    /// What was published to exchanges, beside what `known` has still to be added.
    counts: BTreeMap<Vec<u8>, Published>,
}

/// Messages that came to an exchange, and copies of them that went to queues.
#[derive(Debug, Clone, Copy, Default)]
struct Published {
    messages: u64,
    copies: u64,
}

impl Published {
    fn add(&mut self, more: Self) {
        self.messages += more.messages;
        self.copies += more.copies;
    }
}

#[derive(Debug, Default)]
struct Known {
    exchange: Vec<u8>,
    routing_key: Vec<u8>,
    /// True: `routes` is the answer. False: the user may publish so, but each message has an answer of its own, or the
    /// answer is long.
    repeats: bool,
    routes: Routes,
    published: Published,
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

/// Who publishes, and in which virtual host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publisher<'a> {
    pub(super) identity: &'a Identity,
    pub(super) vhost: &'a str,
}

impl RouteMemory {
    pub(super) const fn new() -> Self {
        Self { version: 0, known: Vec::new(), last: 0, oldest: 0, other: Routes::new(), counts: BTreeMap::new() }
    }

    /// Where a message goes, if it may go there.
    ///
    /// # Errors
    /// The user has no right to publish it, or its exchange does not take it.
    #[inline]
    pub(super) fn find(
        &mut self,
        world: &mut World<'_>,
        publisher: Publisher<'_>,
        names: Names<'_>,
        traits: Traits<'_>,
    ) -> Result<&Routes, Exception> {
        if self.version != world.topology.version() {
            self.forget(world.topology.version());
        }
        let Names { exchange, routing_key } = names;
        if !self.known.get(self.last).is_some_and(|known| known.is(exchange, routing_key)) {
            match self.known.iter().position(|known| known.is(exchange, routing_key)) {
                Some(at) => self.last = at,
                None => return self.route(world, publisher, names, traits),
            }
        }
        if !self.known[self.last].repeats {
            return self.route_again(world, publisher, names, traits);
        }
        Ok(&self.known[self.last].routes)
    }

    /// Where a message goes that has more than one routing key. It is not remembered. A key that is not text leads nowhere
    /// that the others do not, and one that is there twice leads there once.
    ///
    /// # Errors
    /// As [`Self::find`]; the user has to have the right to each key.
    #[cold]
    pub(super) fn find_all(
        &mut self,
        world: &mut World<'_>,
        publisher: Publisher<'_>,
        names: Names<'_>,
        content: &Checked<'_>,
    ) -> Result<&Routes, Exception> {
        self.other.clear();
        let (exchange, routing_key) = (text(names.exchange)?, text(names.routing_key)?);
        let mut seen = BTreeSet::from([routing_key]);
        let further_keys = content.further_keys().filter_map(|key| core::str::from_utf8(key).ok());
        let further_keys: Vec<_> = further_keys.filter(|key| seen.insert(key)).collect();
        for routing_key in once(&routing_key).chain(&further_keys) {
            world.topology.may_publish(publisher.identity, publisher.vhost, exchange, routing_key)?;
        }
        self.add(world, publisher.vhost, exchange, (routing_key, &further_keys), content.traits)?;
        Ok(&self.other)
    }

    /// Counts a message that was just found to go to so many queues, by [`Self::find_all`] if it has more than one routing
    /// key.
    #[inline]
    pub(super) fn count(&mut self, by_all: bool, exchange: &[u8], copies: u64) {
        let published = Published { messages: 1, copies };
        match self.known.get_mut(self.last) {
            Some(known) if !by_all => known.published.add(published),
            _ => self.add_count(exchange, published),
        }
    }

    /// Takes what was counted.
    pub(super) fn take_counts(&mut self) -> Vec<ExchangeCounts> {
        self.collect_counts();
        let taken = core::mem::take(&mut self.counts).into_iter();
        let counts = taken.map(|(exchange, Published { messages, copies })| ExchangeCounts {
            // What was routed has names that are text.
            exchange: String::from_utf8(exchange).unwrap_or_default(),
            published_in: messages,
            published_out: copies,
        });
        counts.collect()
    }

    fn collect_counts(&mut self) {
        for at in 0..self.known.len() {
            self.collect_count(at);
        }
    }

    fn collect_count(&mut self, at: usize) {
        let published = core::mem::take(&mut self.known[at].published);
        if published.messages > 0 {
            let exchange = core::mem::take(&mut self.known[at].exchange);
            self.add_count(&exchange, published);
            self.known[at].exchange = exchange;
        }
    }

    #[cold]
    fn add_count(&mut self, exchange: &[u8], published: Published) {
        match self.counts.get_mut(exchange) {
            Some(count) => count.add(published),
            None => drop(self.counts.insert(exchange.to_owned(), published)),
        }
    }

    fn forget(&mut self, version: u64) {
        self.collect_counts();
        self.version = version;
        self.known.clear();
        (self.last, self.oldest) = (0, 0);
    }

    #[inline(never)]
    fn route(
        &mut self,
        world: &mut World<'_>,
        publisher: Publisher<'_>,
        Names { exchange, routing_key }: Names<'_>,
        traits: Traits<'_>,
    ) -> Result<&Routes, Exception> {
        self.other.clear();
        let (exchange_name, key) = (text(exchange)?, text(routing_key)?);
        world.topology.may_publish(publisher.identity, publisher.vhost, exchange_name, key)?;
        self.add(world, publisher.vhost, exchange_name, (key, &[]), traits)?;
        if self.known.len() < ROUTES_REMEMBERED {
            self.known.push(Known::default());
            self.last = self.known.len() - 1;
        } else {
            self.collect_count(self.oldest);
            self.last = self.oldest;
            self.oldest = (self.oldest + 1) % ROUTES_REMEMBERED;
        }
        let known = &mut self.known[self.last];
        exchange.clone_into(&mut known.exchange);
        routing_key.clone_into(&mut known.routing_key);
        known.repeats = self.other.is_repeatable() && self.other.len() <= ROUTES_REMEMBERED_QUEUES;
        if !known.repeats {
            return Ok(&self.other);
        }
        core::mem::swap(&mut known.routes, &mut self.other);
        Ok(&known.routes)
    }

    /// The same names, and another message.
    #[inline(never)]
    fn route_again(
        &mut self,
        world: &mut World<'_>,
        publisher: Publisher<'_>,
        Names { exchange, routing_key }: Names<'_>,
        traits: Traits<'_>,
    ) -> Result<&Routes, Exception> {
        self.other.clear();
        self.add(world, publisher.vhost, text(exchange)?, (text(routing_key)?, &[]), traits)?;
        Ok(&self.other)
    }

    /// Adds the queues that the routing key and further ones lead to.
    fn add(
        &mut self,
        world: &mut World<'_>,
        name: &str,
        exchange: &str,
        (routing_key, further_keys): (&str, &[&str]),
        Traits { headers, properties }: Traits<'_>,
    ) -> Result<(), Exception> {
        let Some(vhost) = world.topology.vhost(name) else {
            return Err(Exception::connection(ReplyCode::NotAllowed, format!("vhost {name} not found")));
        };
        let message = Envelope { exchange, routing_key, further_keys, headers, properties };
        let routed = vhost.route(&message, world.random, &mut self.other);
        routed.map_err(|error| error.into_exception(exchange, name))
    }
}

fn text(octets: &[u8]) -> Result<&str, Exception> {
    let text = "exchange or routing key is not UTF-8";
    core::str::from_utf8(octets).map_err(|_| Exception::connection(ReplyCode::SyntaxError, text))
}
