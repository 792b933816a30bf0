//! What is remembered of an exchange, a queue and a binding.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use warren_amqp::{Table, Value};

use super::arguments::QueueType;
use crate::{ConnectionId, QueueId, ShardId};

/// The type of exchanges that make messages wait.
pub(super) const DELAYED_TYPE: &str = "x-delayed-message";

/// What the name of a delayed exchange's store begins with, before the exchange's own. Nobody can declare such a queue.
pub(super) const DELAYED_STORE: &str = "amq.delayed.";

/// How an exchange picks destinations (AMQP 0-9-1 §3.1.3, and RabbitMQ's plugins).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExchangeKind {
    /// Bindings whose key equals the routing key.
    Direct,
    /// Every binding.
    Fanout,
    /// Bindings whose key, read as words with wildcards, matches the routing key.
    Topic,
    /// Bindings whose arguments match the message's headers.
    Headers,
    /// One binding: the hash of something in the message decides which, and bindings have weights.
    ConsistentHash,
    /// One binding: the hash of the routing key, modulo the number of bindings, is its place.
    ModulusHash,
    /// One binding, by lot.
    Random,
    /// One binding, by lot, among queues on the node that the message came to; one node has all of them.
    LocalRandom,
}

impl ExchangeKind {
    /// All kinds, in the order of their stored numbers.
    pub const ALL: [Self; 8] = [
        Self::Direct,
        Self::Fanout,
        Self::Topic,
        Self::Headers,
        Self::ConsistentHash,
        Self::ModulusHash,
        Self::Random,
        Self::LocalRandom,
    ];

    /// The name in `exchange.declare`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
            Self::Random => "x-random",
            Self::LocalRandom => "x-local-random",
        }
    }

    /// The kind of that name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An exchange as it was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRecord {
    /// The virtual host it is in.
    pub vhost: Arc<str>,
    /// Its name, unique among the exchanges of the virtual host; `""` is the default exchange.
    pub name: Arc<str>,
    /// How it picks destinations.
    pub kind: ExchangeKind,
    /// Whether messages with the header `x-delay` wait before it picks destinations (type `x-delayed-message`). The
    /// queue that they wait in is [`Self::store_name`].
    pub delayed: bool,
    /// Whether it survives a restart.
    pub durable: bool,
    /// Whether it is deleted when its last binding goes.
    pub auto_delete: bool,
    /// Whether only other exchanges may publish to it.
    pub internal: bool,
    /// The arguments of the declaration: a field table's octets without the length in front.
    pub arguments: Bytes,
}

impl ExchangeRecord {
    /// The type that it was declared with.
    pub fn type_name(&self) -> &'static str {
        if self.delayed { DELAYED_TYPE } else { self.kind.name() }
    }

    /// The name of the queue where messages wait, if the exchange is delayed.
    pub fn store_name(&self) -> Option<Arc<str>> {
        self.delayed.then(|| Arc::from([DELAYED_STORE, &self.name].concat()))
    }

    /// The exchange that gets what this one routes nowhere (RabbitMQ's argument `alternate-exchange`).
    pub fn alternate(&self) -> Option<Arc<str>> {
        let value = Table::new(&self.arguments).get("alternate-exchange").ok()??;
        value.as_str().map(Arc::from)
    }
}

/// A queue as it was declared, and where it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    /// Its number. Below 2³¹ for logged queues and then never used again; from 2³¹ on for the others.
    pub id: QueueId,
    /// The shard that holds its messages.
    pub shard: ShardId,
    /// The virtual host it is in.
    pub vhost: Arc<str>,
    /// Its name, unique among the queues of the virtual host.
    pub name: Arc<str>,
    /// Whether it was declared durable. Never true for an exclusive queue, as in RabbitMQ.
    pub durable: bool,
    /// Whether it is deleted when its last consumer goes.
    pub auto_delete: bool,
    /// The connection that alone may use it, and with which it ends.
    pub exclusive_owner: Option<ConnectionId>,
    /// The arguments of the declaration: a field table's octets without the length in front.
    pub arguments: Bytes,
}

impl QueueRecord {
    /// The delayed exchange whose messages wait here; `None`: it is a queue as others are.
    pub fn delayed_exchange(&self) -> Option<&str> {
        self.name.strip_prefix(DELAYED_STORE)
    }

    /// Whether the queue and its persistent messages are in the log. Transient, exclusive and auto-delete queues are
    /// memory only.
    pub fn is_logged(&self) -> bool {
        self.durable && !self.auto_delete && self.exclusive_owner.is_none()
    }

    /// The queue's type, as `x-queue-type` names it.
    pub fn queue_type(&self) -> &'static str {
        QueueType::of(&self.arguments).name()
    }

    /// The argument of that name.
    pub fn argument(&self, name: &str) -> Option<Value<'_>> {
        Table::new(&self.arguments).get(name).ok().flatten()
    }
}

/// A virtual host as an administrator made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostRecord {
    /// Its name.
    pub name: Arc<str>,
    /// For people.
    pub description: Arc<str>,
    /// For people.
    pub tags: Vec<Arc<str>>,
    /// The type of queues that are declared without one: `classic`, `quorum` or `stream`; `None` is `classic`.
    pub default_queue_type: Option<Arc<str>>,
    /// It cannot be deleted.
    pub protected: bool,
    /// How much it may hold.
    pub limits: VhostLimits,
}

impl VhostRecord {
    /// The virtual host that is there from the beginning.
    pub(super) fn default_vhost() -> Self {
        Self {
            name: Arc::from(super::DEFAULT_VHOST),
            description: Arc::from("Default virtual host"),
            tags: Vec::new(),
            default_queue_type: None,
            protected: false,
            limits: VhostLimits::default(),
        }
    }
}

/// How much a virtual host may hold; `None` is as much as others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VhostLimits {
    /// Connections at once; at it, one more is refused with 530.
    pub max_connections: Option<u32>,
    /// Queues; at it, one more is refused with 406.
    pub max_queues: Option<u32>,
}

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue.
    Queue(QueueId),
    /// Another exchange of the same virtual host.
    Exchange(Arc<str>),
}

/// A binding: source, destination, routing key and arguments together are its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingRecord {
    /// The virtual host that source and destination are in.
    pub vhost: Arc<str>,
    /// The exchange it leads from.
    pub source: Arc<str>,
    /// Where it leads.
    pub destination: Destination,
    /// The binding key.
    pub routing_key: Arc<str>,
    /// The arguments, sorted by name and each name once, so that equal arguments are equal octets.
    pub arguments: Bytes,
    /// Whether source and destination both survive a restart, and so the binding does.
    pub logged: bool,
}
