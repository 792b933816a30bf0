//! A binding as routing needs it.

use alloc::sync::Arc;
use core::cmp::Ordering;
use core::hash::{Hash, Hasher};

use bytes::Bytes;
use warren_amqp::Table;

use super::headers::Mode;
use super::records::{BindingRecord, Destination};
use super::routes::Route;

/// Where a binding leads, with all that a message needs to go there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hop {
    Queue(Route),
    Exchange(Arc<str>),
}

impl Hop {
    /// Puts in what names the destination, and nothing that may change while it is there.
    pub(super) fn hash_identity(&self, hasher: &mut impl Hasher) {
        match self {
            Self::Queue(route) => route.queue.hash(hasher),
            Self::Exchange(name) => name.hash(hasher),
        }
    }
}

/// One binding of a virtual host. Held by its source for routing and by its destination for deletion.
///
/// The order is by destination first, so that the routes of one exchange come out sorted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) hop: Hop,
    pub(super) source: Arc<str>,
    pub(super) routing_key: Arc<str>,
    pub(super) arguments: Bytes,
    pub(super) logged: bool,
    /// What a headers exchange does with the arguments; read from them once.
    pub(super) mode: Mode,
}

impl Binding {
    pub(super) fn new(hop: Hop, source: Arc<str>, routing_key: Arc<str>, arguments: Bytes, logged: bool) -> Self {
        let mode = Mode::of(Table::new(&arguments));
        Self { hop, source, routing_key, arguments, logged, mode }
    }

    /// The binding as changes and listings have it.
    pub(super) fn record(&self, vhost: &Arc<str>) -> BindingRecord {
        BindingRecord {
            vhost: Arc::clone(vhost),
            source: Arc::clone(&self.source),
            destination: match &self.hop {
                Hop::Queue(route) => Destination::Queue(route.queue),
                Hop::Exchange(name) => Destination::Exchange(Arc::clone(name)),
            },
            routing_key: Arc::clone(&self.routing_key),
            arguments: self.arguments.clone(),
            logged: self.logged,
        }
    }

    fn identity(&self) -> (&Hop, &str, &str, &[u8]) {
        (&self.hop, &self.source, &self.routing_key, &self.arguments)
    }
}

impl Ord for Binding {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identity().cmp(&other.identity())
    }
}

impl PartialOrd for Binding {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
