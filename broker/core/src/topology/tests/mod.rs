//! The rules of the topology, asked for as a session asks.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use bytes::Bytes;
use warren_amqp::{Properties, Table, TableBuilder};

use super::*;
use crate::Exception;

mod access;
mod administration;
mod binding;
mod declare_exchange;
mod declare_queue;
mod delayed_exchange;
mod delete;
mod exchange_types;
mod policy;
mod queue_arguments;
mod replay;
mod routing;
mod settings;

const ME: ConnectionId = ConnectionId(1);
const OTHER: ConnectionId = ConnectionId(2);

/// The node's own user, who may do everything.
fn node() -> Identity {
    Identity::Node(Arc::from("guest"))
}

/// A topology of one vhost and four shards, and a connection that asks.
struct World {
    topology: Topology,
}

impl World {
    fn new() -> Self {
        Self::with_limits(TopologyLimits::default())
    }

    fn with_limits(limits: TopologyLimits) -> Self {
        Self { topology: Topology::new(NonZeroU16::new(4).unwrap(), limits) }
    }

    fn prepare_as(&self, connection: ConnectionId, action: Action) -> Result<Prepared, Exception> {
        self.topology.prepare(&Request { connection, identity: node(), vhost: Arc::from("/"), action })
    }

    fn prepare_in(&self, identity: &Identity, vhost: &str, action: Action) -> Result<Prepared, Exception> {
        let identity = identity.clone();
        self.topology.prepare(&Request { connection: ME, identity, vhost: Arc::from(vhost), action })
    }

    /// Carries out what the node's own user asks about a virtual host.
    fn ask_in(&mut self, vhost: &str, action: Action) -> Prepared {
        let prepared = self.prepare_in(&node(), vhost, action).unwrap();
        prepared.changes.iter().for_each(|change| self.topology.apply(change));
        prepared
    }

    fn administer(&mut self, vhost: &str, asked: Administration) {
        self.ask_in(vhost, Action::Administer(asked));
    }

    fn put_vhost(&mut self, name: &str) {
        self.administer(
            name,
            Administration::PutVhost { description: String::new(), tags: Vec::new(), default_queue_type: None },
        );
    }

    /// Makes a user without rights.
    fn put_user(&mut self, name: &str, tags: &[&str]) -> Identity {
        let tags = tags.iter().map(ToString::to_string).collect();
        self.administer(
            "/",
            Administration::PutUser { name: name.to_string(), password: None, previous_until_ms: None, tags },
        );
        Identity::User(Arc::from(name))
    }

    /// Gives rights in `/`.
    fn permit(&mut self, user: &str, configure: &str, write: &str, read: &str) {
        let [configure, write, read] = [configure, write, read].map(ToString::to_string);
        self.administer("/", Administration::SetPermissions { user: user.to_string(), configure, write, read });
    }

    fn put_policy(&mut self, name: &str, adjust: impl FnOnce(&mut PolicyDeclaration)) {
        self.administer("/", Administration::PutPolicy(policy(name, adjust)));
    }

    fn ask_as(&mut self, connection: ConnectionId, action: Action) -> Result<Prepared, Exception> {
        let prepared = self.prepare_as(connection, action)?;
        prepared.changes.iter().for_each(|change| self.topology.apply(change));
        Ok(prepared)
    }

    fn ask(&mut self, action: Action) -> Prepared {
        self.ask_as(ME, action).unwrap()
    }

    /// Declares the queue `name`, transient if nothing else is asked.
    fn queue(&mut self, name: &str) -> Arc<QueueRecord> {
        self.queue_with(name, |_| {})
    }

    fn queue_with(&mut self, name: &str, adjust: impl FnOnce(&mut QueueDeclaration)) -> Arc<QueueRecord> {
        match self.ask(declare_queue(name, adjust)).outcome {
            Outcome::Queue(record) => record,
            other => panic!("declaring a queue answered {other:?}"),
        }
    }

    fn exchange(&mut self, name: &str, kind: &str) {
        self.ask(declare_exchange(name, kind, |_| {}));
    }

    fn bind(&mut self, source: &str, queue: &str, key: &str) {
        self.ask(Action::BindQueue(bind(source, queue, key)));
    }

    fn bind_exchange(&mut self, source: &str, destination: &str, key: &str) {
        self.ask(Action::BindExchange(bind(source, destination, key)));
    }

    fn vhost(&self) -> &Vhost {
        self.topology.vhost("/").unwrap()
    }

    /// The names of the queues that a message goes to, sorted.
    fn route(&self, exchange: &str, key: &str) -> Vec<String> {
        self.route_with(exchange, key, None)
    }

    fn route_with(&self, exchange: &str, key: &str, headers: Option<&Bytes>) -> Vec<String> {
        let mut routes = Routes::new();
        let headers = headers.map(|octets| Table::new(octets));
        self.vhost().route(&Envelope { headers, ..envelope(exchange, key) }, &mut || 0, &mut routes).unwrap();
        assert!(routes.as_slice().is_sorted(), "routes come in the order of shards");
        let name = |route: &Route| self.topology.queue_by_id(route.queue).unwrap().name.to_string();
        let mut names: Vec<String> = routes.as_slice().iter().map(name).collect();
        names.sort();
        names
    }

    /// Asserts that a request is refused on its channel with this code and text.
    #[track_caller]
    fn refused(&self, action: Action, code: u16, text: &str) {
        self.refused_as(ME, action, code, text);
    }

    #[track_caller]
    fn refused_as(&self, connection: ConnectionId, action: Action, code: u16, text: &str) {
        assert_channel_exception(self.prepare_as(connection, action), code, text);
    }
}

#[track_caller]
fn assert_channel_exception<T: core::fmt::Debug>(result: Result<T, Exception>, code: u16, text: &str) {
    match result {
        Err(Exception::Channel { code: found, text: said }) => assert_eq!((found.code(), said.as_str()), (code, text)),
        other => panic!("expected a channel exception, got {other:?}"),
    }
}

fn declare_queue(name: &str, adjust: impl FnOnce(&mut QueueDeclaration)) -> Action {
    let mut declaration = QueueDeclaration {
        name: name.to_string(),
        generated_name: String::from("amq.gen-JzTY20BRgKO-HjmUJj0wLg"),
        passive: false,
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: Bytes::new(),
    };
    adjust(&mut declaration);
    Action::DeclareQueue(declaration)
}

fn declare_exchange(name: &str, kind: &str, adjust: impl FnOnce(&mut ExchangeDeclaration)) -> Action {
    let mut declaration = ExchangeDeclaration {
        name: name.to_string(),
        kind: kind.to_string(),
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: Bytes::new(),
    };
    adjust(&mut declaration);
    Action::DeclareExchange(declaration)
}

/// A policy of priority 0 for everything, with no definition.
fn policy(name: &str, adjust: impl FnOnce(&mut PolicyDeclaration)) -> PolicyDeclaration {
    let mut declaration = PolicyDeclaration {
        name: name.to_string(),
        operator: false,
        pattern: String::from(".*"),
        apply_to: ApplyTo::All,
        priority: 0,
        definition: Bytes::new(),
    };
    adjust(&mut declaration);
    declaration
}

fn envelope<'m>(exchange: &'m str, routing_key: &'m str) -> Envelope<'m> {
    Envelope { exchange, routing_key, further_keys: &[], headers: None, properties: Properties::NONE }
}

fn bind(source: &str, destination: &str, key: &str) -> Bind {
    Bind {
        source: source.to_string(),
        destination: destination.to_string(),
        routing_key: key.to_string(),
        arguments: Bytes::new(),
    }
}

/// A durable queue of a type with further arguments.
fn declare_typed(name: &str, queue_type: &str, arguments: impl FnOnce(&mut TableBuilder<'_>)) -> Action {
    let arguments = table(|table| arguments(table.put("x-queue-type", queue_type)));
    declare_queue(name, |declaration| {
        declaration.durable = true;
        declaration.arguments = arguments;
    })
}

fn table(write: impl FnOnce(&mut TableBuilder<'_>)) -> Bytes {
    Bytes::from(TableBuilder::build(write))
}
