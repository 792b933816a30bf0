//! Who is connected: where a shard's events go.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use tokio::sync::mpsc::UnboundedSender;
use warren_core::queue::Event;
use warren_core::{ConnectionId, ShardId};

/// Events of one shard for one connection, in order.
pub(crate) type ShardEvents = (ShardId, Vec<Event>);

/// The live connections. Channels to them are unbounded because what goes through them is not: deliveries are bounded
/// by each consumer's window and the number of consumers, confirms by the publishes that may be unconfirmed at once,
/// answers by one question at a time (all in `warren_core::limits`).
#[derive(Debug, Default)]
pub(crate) struct Connections {
    live: RwLock<HashMap<ConnectionId, UnboundedSender<ShardEvents>>>,
}

impl Connections {
    pub(crate) fn insert(&self, connection: ConnectionId, events: UnboundedSender<ShardEvents>) {
        self.live.write().unwrap_or_else(PoisonError::into_inner).insert(connection, events);
    }

    pub(crate) fn remove(&self, connection: ConnectionId) {
        self.live.write().unwrap_or_else(PoisonError::into_inner).remove(&connection);
    }

    /// Sends events to a connection. One that is gone has sent, or is about to send, a detach that takes back what the
    /// events would have handed out.
    pub(crate) fn post(&self, shard: ShardId, connection: ConnectionId, events: Vec<Event>) {
        if let Some(sender) = self.live.read().unwrap_or_else(PoisonError::into_inner).get(&connection) {
            let _ = sender.send((shard, events));
        }
    }
}
