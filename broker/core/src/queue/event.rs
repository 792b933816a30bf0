//! What a shard answers, and whom it tells.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Delivery;
use crate::identity::{ConnectionId, ConsumerKey, QueueId};
#[cfg(doc)]
use crate::limits::STREAM_CONSUMERS;
use crate::message::Message;

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
    /// Publishes of a channel have been refused here: a queue is full.
    Refused {
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
    /// The consumer, or with the serial 0 who got messages one by one, has held one for too long: it has ended, and what it
    /// held of this queue has gone back.
    ConsumerTimedOut(ConsumerKey, QueueId),
    /// What waits in the session for the consumer's client to have room has waited for the consumer's timeout: it is to go
    /// back. The consumer is handed nothing more until it is granted something ([`super::ShardInput::Grant`]).
    Recalled(ConsumerKey),
    /// A message that leaves its queue for its next one; only [`ConnectionId::FORWARDER`] is told. The queue keeps it until
    /// it is settled.
    Forward(Forward),
}

/// A message on its way from its queue to where the topology says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The queue it leaves.
    pub queue: QueueId,
    /// Its place there, by which it is settled.
    pub position: u64,
    /// Why it leaves.
    pub reason: ForwardReason,
    /// When it left: wall-clock milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How often it came back from a failed delivery.
    pub delivery_count: u32,
    /// The message.
    pub message: Message,
}

/// Why a message leaves its queue for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ForwardReason {
    /// It was rejected (`rejected` in `x-death`).
    Rejected,
    /// Its time was over (`expired`).
    Expired,
    /// The queue was too long (`maxlen`).
    MaxLength,
    /// It came back too often (`delivery_limit`).
    DeliveryLimit,
    /// Its delay is over.
    Due,
}

/// Why a consumer was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeRefusal {
    /// It or another consumer of the queue is exclusive.
    ExclusiveUse,
    /// The queue has been deleted meanwhile.
    QueueGone,
    /// It is a stream and has as many as it may ([`STREAM_CONSUMERS`]).
    TooManyConsumers,
}

/// Why a queue was not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteRefusal {
    /// It has consumers and `if-unused` was set, or it is in use again.
    InUse,
    /// It has messages and `if-empty` was set.
    NotEmpty,
}

/// Answer to a delete: how many ready messages went with the queue.
pub type Deleted = Result<u64, DeleteRefusal>;

/// Connections that are looked for one by one; beyond, an index is kept.
const FEW: usize = 8;

/// What a shard wants done, in order.
#[derive(Debug, Default)]
pub struct ShardOutput {
    events: Vec<(ConnectionId, Vec<Event>)>,
    /// Whom the last event is for, as an index into `events`.
    last: usize,
    index: BTreeMap<ConnectionId, usize>,
    /// Auto-delete queues that have lost their last consumer, and queues that nobody has used for as long as they may be
    /// unused.
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
        if self.events.get(self.last).is_none_or(|(last, _)| *last != connection) {
            self.last = self.find(connection);
        }
        let events = &mut self.events[self.last].1;
        if events.len() == events.capacity() {
            // Most are told one thing or hundreds: few steps from the one to the other.
            events.reserve(3 * events.len().max(1));
        }
        events.push(event);
    }

    /// The index of the events for `connection`, which are new if need be.
    fn find(&mut self, connection: ConnectionId) -> usize {
        let next = self.events.len();
        if next < FEW {
            let known = self.events.iter().position(|(to, _)| *to == connection);
            return known.unwrap_or_else(|| self.begin(connection));
        }
        if self.index.is_empty() {
            self.index.extend(self.events.iter().enumerate().map(|(at, (to, _))| (*to, at)));
        }
        let known = self.index.get(&connection).copied();
        known.unwrap_or_else(|| {
            self.index.insert(connection, next);
            self.begin(connection)
        })
    }

    fn begin(&mut self, connection: ConnectionId) -> usize {
        self.events.push((connection, Vec::new()));
        self.events.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_gets_its_events_in_order_however_many_there_are() {
        let mut out = ShardOutput::default();
        for _ in 0..2 {
            for count in 0..500 {
                out.tell(ConnectionId(count % 7 % 5), Event::Purged(count));
                out.tell(ConnectionId(count % 50), Event::Purged(count));
                out.tell(ConnectionId(count % 50), Event::Purged(count));
            }
            let events = out.take_events();
            assert_eq!(events.len(), 50);
            assert_eq!(events.iter().map(|(_, events)| events.len()).sum::<usize>(), 1_500);
            for (connection, events) in events {
                let numbers = events.iter().map(|event| match event {
                    Event::Purged(count) => *count,
                    other => panic!("nobody was told {other:?}"),
                });
                assert!(numbers.is_sorted(), "{connection:?}");
            }
        }
    }
}
