//! A message as it goes on: where to, and with which header.

use alloc::vec::Vec;

use warren_amqp::{Changes, Header, Properties, Table, TableBuilder, Value};

use super::World;
use super::death::{Death, Deaths};
use super::way::Way;
use crate::batch::Parts;
use crate::command::Attributes;
use crate::header;
use crate::message::Message;
use crate::queue::{Forward, ForwardReason};
use crate::session::{attributes_for, parse_expiration};
use crate::topology::{Envelope, Route, Routes, Topology};

/// `delivery-mode` of a message that is to survive a restart.
const PERSISTENT: u8 = 2;

/// A message as it goes on.
#[derive(Debug)]
pub(super) struct Letter<'a> {
    way: &'a Way,
    message: &'a Message,
    /// The payload of its content header.
    header: Vec<u8>,
    /// By which it is routed, the first also what consumers are told.
    routing_keys: Vec<&'a str>,
    /// `None`: it is no dead letter, its delay is over.
    deaths: Option<Deaths>,
}

impl<'a> Letter<'a> {
    pub(super) fn new(forward: &'a Forward, way: &'a Way) -> Self {
        let message = &forward.message;
        let properties = properties(message.header());
        let headers = properties.headers().ok().flatten().unwrap_or_default();
        let before = if message.is_dead_letter() { Deaths::of(headers) } else { Deaths::default() };
        if forward.reason == ForwardReason::Due {
            let routing_keys = routing_keys(message, headers, &before, &["CC", "BCC"]);
            return Self { way, message, header: without_delay(message, headers), routing_keys, deaths: None };
        }
        let published_with = routing_keys(message, headers, &before, &["CC"]);
        let death = Death {
            queue: &way.queue.name,
            reason: forward.reason,
            time_secs: forward.at_ms / 1_000,
            exchange: message.exchange(),
            routing_keys: &published_with,
            expiration: properties.expiration().ok().flatten(),
        };
        let (header, deaths) = death.add_to(message.header(), message.is_dead_letter(), &before);
        let routing_keys = way.routing_key.as_deref().map_or(published_with, |key| Vec::from([key]));
        Self { way, message, header, routing_keys, deaths: Some(deaths) }
    }

    /// Adds the queues that it goes to.
    pub(super) fn route(&self, world: &mut World<'_>, routes: &mut Routes) {
        let Some(vhost) = world.topology.vhost(&self.way.queue.vhost) else { return };
        let properties = self.properties();
        let headers = properties.headers().ok().flatten();
        let (routing_key, further_keys) =
            self.routing_keys.split_first().map_or(("", &[][..]), |(key, more)| (*key, more));
        let envelope = Envelope { exchange: &self.way.exchange, routing_key, further_keys, headers, properties };
        vhost.route_forwarded(&envelope, world.random, routes);
    }

    /// True if it came from there without anybody having rejected it since, and so would go round for ever.
    pub(super) fn is_cycle(&self, target: &Route, topology: &Topology) -> bool {
        let queue = topology.queue_by_id(target.queue);
        queue.zip(self.deaths.as_ref()).is_some_and(|(queue, deaths)| deaths.is_cycle(&queue.name))
    }

    pub(super) fn is_persistent(&self) -> bool {
        self.properties().delivery_mode() == Ok(Some(PERSISTENT))
    }

    /// Its parts, as a publish to those queues has them.
    pub(super) fn parts(&self, routes: &Routes) -> Parts<'_> {
        let exchange = if self.deaths.is_some() { &self.way.exchange } else { self.message.exchange() };
        let routing_key = self.routing_keys.first().copied().unwrap_or_default();
        Parts {
            exchange: exchange.as_bytes(),
            routing_key: routing_key.as_bytes(),
            header: &self.header,
            body: self.message.body(),
            attributes: self.attributes(routes),
        }
    }

    fn properties(&self) -> Properties<'_> {
        properties(&self.header)
    }

    /// What its next queues need to know of it.
    fn attributes(&self, routes: &Routes) -> Attributes<'_> {
        let properties = self.properties();
        let expiration = properties.expiration().ok().flatten();
        let attributes = Attributes {
            expiration: expiration.and_then(|millis| parse_expiration(millis.as_bytes()).ok()),
            priority: properties.priority().ok().flatten(),
            dead_letter: self.deaths.is_some() || self.message.is_dead_letter(),
            ..Attributes::default()
        };
        attributes_for(routes, attributes, properties.headers().ok().flatten().unwrap_or_default())
    }
}

/// The properties in a content header; none, if it cannot be read: sessions take no such header in.
fn properties(payload: &[u8]) -> Properties<'_> {
    Header::decode(payload).map_or(Properties::NONE, |header| header.properties)
}

/// The message's routing key, and those in these headers (RabbitMQ's sender-selected distribution). A dead letter that
/// got another key has that one alone, though the header `CC` stays with it.
fn routing_keys<'a>(message: &'a Message, headers: Table<'a>, before: &Deaths, names: &[&str]) -> Vec<&'a str> {
    let arrays = names.iter().filter_map(|name| headers.get(name).ok().flatten()?.as_array());
    let further = arrays.flat_map(|array| array.iter().filter_map(|key| key.ok()?.as_str()));
    let all: Vec<&str> = core::iter::once(message.routing_key()).chain(further).collect();
    if message.is_dead_letter() && !before.newest_routing_keys().eq(all.iter().copied()) {
        return Vec::from([message.routing_key()]);
    }
    all
}

/// The header with `x-delay` negated, as RabbitMQ's plugin hands it on: so the message is not delayed again.
fn without_delay(message: &Message, headers: Table<'_>) -> Vec<u8> {
    let delay = headers.get("x-delay").ok().flatten();
    let with = TableBuilder::build(|table| {
        match delay {
            Some(Value::I8(millis)) => table.put("x-delay", Value::I8(millis.saturating_neg())),
            Some(Value::I16(millis)) => table.put("x-delay", Value::I16(millis.saturating_neg())),
            Some(Value::I32(millis)) => table.put("x-delay", Value::I32(millis.saturating_neg())),
            // Also one that is written in digits, as routing reads them.
            Some(other) => match other.as_integer().or_else(|| other.as_str()?.parse().ok()) {
                Some(millis) => table.put("x-delay", millis.saturating_neg()),
                None => table,
            },
            None => table,
        };
    });
    header::changed(message.header(), &Changes { without: &["BCC"], with: Table::new(&with), ..Changes::default() })
}
