//! What a session asks of the topology, and what it gets back.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use super::access::Identity;
use super::administration::Administration;
use super::change::Change;
use super::records::QueueRecord;
use crate::ConnectionId;

/// One request of a connection. Names are as received: whatever RabbitMQ does to them is done by
/// [`super::Topology::prepare`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The connection that asks; exclusive queues are its own.
    pub connection: ConnectionId,
    /// The user of that connection, whose rights count.
    pub identity: Identity,
    /// The virtual host that the connection opened, or that an administrator asks about.
    pub vhost: Arc<str>,
    /// What it asks.
    pub action: Action,
}

/// The request's kind. `arguments` everywhere: a field table's octets without the length in front, validated by the
/// codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `exchange.declare`
    DeclareExchange(ExchangeDeclaration),
    /// `exchange.delete`
    DeleteExchange {
        /// The exchange.
        name: String,
        /// Refuse if bindings lead from it.
        if_unused: bool,
    },
    /// `exchange.bind`
    BindExchange(Bind),
    /// `exchange.unbind`
    UnbindExchange(Bind),
    /// `queue.declare`
    DeclareQueue(QueueDeclaration),
    /// `queue.bind`; the session has put the channel's last declared queue in the place of an empty name.
    BindQueue(Bind),
    /// `queue.unbind`
    UnbindQueue(Bind),
    /// What only administrators may ask.
    Administer(Administration),
    /// The connection is gone: its exclusive queues go too.
    ReleaseConnection,
}

/// The fields of `exchange.declare`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeDeclaration {
    /// The exchange.
    pub name: String,
    /// The exchange's type, by name.
    pub kind: String,
    /// Only ask whether the exchange exists; everything but the name is ignored.
    pub passive: bool,
    /// Keep it over a restart.
    pub durable: bool,
    /// Delete it when its last binding goes.
    pub auto_delete: bool,
    /// Let only exchanges publish to it.
    pub internal: bool,
    /// The arguments; `alternate-exchange` has a meaning.
    pub arguments: Bytes,
}

/// The fields of `queue.declare`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDeclaration {
    /// The queue; empty asks for a name.
    pub name: String,
    /// The name to give if `name` is empty: `amq.gen-` and 128 random bits. The machines have no randomness of their own.
    pub generated_name: String,
    /// Only ask whether the queue exists; everything but the name is ignored.
    pub passive: bool,
    /// Keep it over a restart.
    pub durable: bool,
    /// Keep it for this connection alone, and only as long as that lives.
    pub exclusive: bool,
    /// Delete it when its last consumer goes.
    pub auto_delete: bool,
    /// The arguments; see [`super::Topology::prepare`] for those with a meaning.
    pub arguments: Bytes,
}

/// The fields of the four methods that bind and unbind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The exchange that the binding leads from.
    pub source: String,
    /// The queue or exchange that it leads to.
    pub destination: String,
    /// The binding key.
    pub routing_key: String,
    /// The arguments; headers exchanges compare them with headers.
    pub arguments: Bytes,
}

/// A request that was found right: what has to change, and what to answer once it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The changes, to be applied in this order with nothing in between. None if everything is as asked already.
    pub changes: Vec<Change>,
    /// The answer.
    pub outcome: Outcome,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is so. Nothing else to tell.
    Done,
    /// The declared queue. `queue.declare-ok` also needs its counts, which are its shard's to tell; a new one is empty.
    Queue(Arc<QueueRecord>),
    /// The queues that end with the connection or the virtual host; their shards have to be told.
    Released(Vec<Arc<QueueRecord>>),
}
