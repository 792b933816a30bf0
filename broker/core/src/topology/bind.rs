//! Which bindings may be made and unmade. The texts and codes are RabbitMQ 4.3's.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use core::num::IntErrorKind;

use warren_amqp::Table;

use super::Topology;
use super::access::{Resource, Verb};
use super::arguments::{self, QueueType, precondition};
use super::binding::{Binding, Hop};
use super::change::Change;
use super::exchange::Exchange;
use super::headers;
use super::names::Thing;
use super::prepare::{check_owner, done, not_found, refuse_default_exchange, refuse_store};
use super::records::ExchangeKind;
use super::request::{Bind, Outcome, Prepared, Request};
use super::topic;
use super::vhost::{Vhost, route_to};
use crate::{ConnectionId, Exception, limits};

impl Topology {
    fn require_binding(&self, request: &Request, to: Thing, bind: &Bind) -> Result<(), Exception> {
        self.require(request, Verb::BindTo, to.resource(), &bind.destination)?;
        refuse_default_ends(to, bind)?;
        self.require(request, Verb::BindFrom, Resource::Exchange, &bind.source)?;
        self.check_topic(&request.identity, Verb::BindFrom, &request.vhost, &bind.source, &bind.routing_key)
    }

    pub(super) fn bind(&self, vhost: &Vhost, request: &Request, to: Thing, bind: &Bind) -> Result<Prepared, Exception> {
        self.require_binding(request, to, bind)?;
        let source =
            vhost.exchange_table(&bind.source).ok_or_else(|| not_found(Thing::Exchange, &bind.source, vhost))?;
        let (hop, destination_logged) =
            destination(vhost, to, &bind.destination).ok_or_else(|| not_found(to, &bind.destination, vhost))?;
        refuse_store(to, &bind.destination, vhost)?;
        check_binding(source, to, bind, vhost)?;
        check_queue_owner(vhost, to, &bind.destination, request.connection)?;
        let binding = binding_of(bind, source, hop, destination_logged);
        if vhost.has_binding(&binding) {
            return Ok(done());
        }
        self.check_room(vhost, source, &bind.routing_key)?;
        let changes = vec![Change::Bind(binding.record(vhost.name()))];
        Ok(Prepared { changes, outcome: Outcome::Done })
    }

    /// A binding that is not there, with ends or without, is no error, though another connection may own the queue.
    pub(super) fn unbind(
        &self,
        vhost: &Vhost,
        request: &Request,
        to: Thing,
        bind: &Bind,
    ) -> Result<Prepared, Exception> {
        self.require_binding(request, to, bind)?;
        let (Some(source), Some((hop, destination_logged))) =
            (vhost.exchange_table(&bind.source), destination(vhost, to, &bind.destination))
        else {
            return Ok(done());
        };
        let binding = binding_of(bind, source, hop, destination_logged);
        if !vhost.has_binding(&binding) {
            return Ok(done());
        }
        check_queue_owner(vhost, to, &bind.destination, request.connection)?;
        let changes = self.with_auto_deletes([Change::Unbind(binding.record(vhost.name()))]);
        Ok(Prepared { changes, outcome: Outcome::Done })
    }

    fn check_room(&self, vhost: &Vhost, source: &Exchange, routing_key: &str) -> Result<(), Exception> {
        let reach = source.reach(routing_key);
        let room = reach < self.limits.reach && vhost.binding_count() < self.limits.bindings;
        if room {
            return Ok(());
        }
        let limit = if reach < self.limits.reach { self.limits.bindings } else { self.limits.reach };
        let named = arguments::exchange_named(&source.record.name, vhost.name());
        Err(precondition(format!("cannot bind to {named}: binding limit of {limit} is reached")))
    }
}

/// A binding survives a restart if both its ends do.
fn binding_of(bind: &Bind, source: &Exchange, hop: Hop, destination_logged: bool) -> Binding {
    let record = &source.record;
    let (name, key) = (Arc::clone(&record.name), Arc::from(bind.routing_key.as_str()));
    Binding::new(hop, name, key, arguments::canonical(&bind.arguments), record.durable && destination_logged)
}

/// Where a binding leads, and whether that survives a restart.
fn destination(vhost: &Vhost, thing: Thing, name: &str) -> Option<(Hop, bool)> {
    match thing {
        Thing::Queue => vhost.queue(name).map(|queue| (Hop::Queue(route_to(queue)), queue.is_logged())),
        Thing::Exchange => {
            vhost.exchange(name).map(|exchange| (Hop::Exchange(Arc::clone(&exchange.name)), exchange.durable))
        }
    }
}

fn check_binding(source: &Exchange, to: Thing, bind: &Bind, vhost: &Vhost) -> Result<(), Exception> {
    let key = &bind.routing_key;
    if key.len() > limits::NAME_BYTES {
        let (size, limit) = (key.len(), limits::NAME_BYTES);
        return Err(precondition(format!("binding key of {size} bytes is longer than {limit}")));
    }
    let named = arguments::exchange_named(&source.record.name, vhost.name());
    arguments::check_size(&format!("a binding from {named}"), &bind.arguments)?;
    match source.record.kind {
        ExchangeKind::Direct | ExchangeKind::Fanout | ExchangeKind::ModulusHash | ExchangeKind::Random => Ok(()),
        ExchangeKind::ConsistentHash => check_weight(key),
        ExchangeKind::LocalRandom => check_local_random(to, bind, vhost),
        ExchangeKind::Headers => headers::validate(Table::new(&bind.arguments)).map_err(precondition),
        ExchangeKind::Topic => {
            let limit = limits::TOPIC_MULTI_WILDCARDS;
            let count = topic::words(key).filter(|word| *word == "#").count();
            if count <= limit {
                return Ok(());
            }
            let key = key.escape_debug();
            let text = format!("Topic binding key '{key}' uses {count} '#' wildcards, at most {limit} are allowed");
            Err(precondition(text))
        }
    }
}

/// The key of a binding to a consistent-hash exchange is its weight.
fn check_weight(key: &str) -> Result<(), Exception> {
    let text = match key.parse::<i64>() {
        Ok(1..=limits::HASH_WEIGHT) => return Ok(()),
        Ok(..=0) => String::from("The binding key must be greater than 0"),
        Err(error) if *error.kind() == IntErrorKind::NegOverflow => {
            String::from("The binding key must be greater than 0")
        }
        Err(error) if *error.kind() != IntErrorKind::PosOverflow => {
            format!("The binding key must be an integer: {}", headers::erlang_binary(key.as_bytes()))
        }
        Ok(_) | Err(_) => format!("The binding key must not exceed {}", limits::HASH_WEIGHT),
    };
    Err(precondition(text))
}

/// RabbitMQ binds classic queues to such exchanges, and nothing else.
fn check_local_random(to: Thing, bind: &Bind, vhost: &Vhost) -> Result<(), Exception> {
    if !bind.routing_key.is_empty() {
        let key = bind.routing_key.escape_debug();
        return Err(precondition(format!("Non empty binding '{key}' key not permitted")));
    }
    let Some(queue) = vhost.queue(&bind.destination).filter(|_| to == Thing::Queue) else {
        return Err(precondition(String::from("Destination not found")));
    };
    match QueueType::of(&queue.arguments) {
        QueueType::Classic => Ok(()),
        other => Err(precondition(format!("Queue type {} not valid for this exchange type", other.module()))),
    }
}

fn check_queue_owner(vhost: &Vhost, thing: Thing, name: &str, connection: ConnectionId) -> Result<(), Exception> {
    match vhost.queue(name) {
        Some(queue) if thing == Thing::Queue => check_owner(queue, connection),
        _ => Ok(()),
    }
}

fn refuse_default_ends(to: Thing, bind: &Bind) -> Result<(), Exception> {
    if to == Thing::Exchange {
        refuse_default_exchange(&bind.destination)?;
    }
    refuse_default_exchange(&bind.source)
}
