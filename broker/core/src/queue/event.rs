//! What a shard answers, and whom it tells.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Delivery;
use crate::identity::{ConnectionId, ConsumerKey, QueueId};

/// What a shard tells a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message for a consumer.
    Deliver(ConsumerKey, Delivery),
    /// Publishes of a channel have been applied here.
    Confirmed {
        /// The channel.
        channel: u16,
        /// The first publish's number.
        first: u64,
        /// How many.
        len: u64,
    },
    /// Answer to a subscribe.
    Subscribed(ConsumerKey, Result<(), SubscribeRefusal>),
    /// Answer to an unsubscribe.
    Unsubscribed(ConsumerKey),
    /// Answer to a get: the message and how many are ready behind it; `None`: the queue is empty.
    Got(Option<(Delivery, u64)>),
    /// Answer to a count: ready messages and consumers; `None`: the queue is gone.
    Counted(Option<(u64, u64)>),
    /// Answer to a purge: how many messages went.
    Purged(u64),
    /// The consumer's queue was deleted.
    ConsumerCancelled(ConsumerKey),
}

/// Why a consumer was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeRefusal {
    /// It or another consumer of the queue is exclusive.
    ExclusiveUse,
    /// The queue has been deleted meanwhile.
    QueueGone,
}

/// Why a queue was not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteRefusal {
    /// It has consumers and `if-unused` was set.
    InUse,
    /// It has messages and `if-empty` was set.
    NotEmpty,
}

/// Answer to a delete: how many ready messages went with the queue.
pub type Deleted = Result<u64, DeleteRefusal>;

/// How much a shard holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Queues.
    pub queues: u64,
    /// Messages that wait.
    pub ready: u64,
    /// Messages that clients hold.
    pub unacked: u64,
    /// Consumers.
    pub consumers: u64,
}

/// What a shard wants done, in order.
#[derive(Debug, Default)]
pub struct ShardOutput {
    events: Vec<(ConnectionId, Vec<Event>)>,
    /// Whom the last event is for, as an index into `events`.
    last: usize,
    index: BTreeMap<ConnectionId, usize>,
    /// Auto-delete queues that have lost their last consumer.
    pub unused: Vec<QueueId>,
    /// Answers to deletes, by request.
    pub deleted: Vec<(u64, Deleted)>,
}

impl ShardOutput {
    /// Takes the events, grouped by connection; each connection's are in order.
    pub fn take_events(&mut self) -> Vec<(ConnectionId, Vec<Event>)> {
        self.index.clear();
        core::mem::take(&mut self.events)
    }

    pub(super) fn tell(&mut self, connection: ConnectionId, event: Event) {
        match self.events.get_mut(self.last) {
            Some((last, events)) if *last == connection => events.push(event),
            _ => self.tell_another(connection, event),
        }
    }

    fn tell_another(&mut self, connection: ConnectionId, event: Event) {
        self.last = *self.index.entry(connection).or_insert_with(|| {
            self.events.push((connection, Vec::new()));
            self.events.len() - 1
        });
        self.events[self.last].1.push(event);
    }
}
