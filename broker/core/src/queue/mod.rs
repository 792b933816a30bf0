//! One queue: ready and unacknowledged messages, consumers and whose turn it is.
//!
//! Order: a message's *position* is the place it took when it was enqueued and never changes. Messages that come
//! back (requeue, lost consumer) go to their old place (RabbitMQ: "original position if possible").
//!
//! A logged message also has a *sequence number*, the same on every node that applies the shard's log, by which its
//! settlement is logged. Messages of delivery mode 1, and all messages of queues that are not logged, have none.

mod consumer;
mod deal;
mod event;
mod holders;
mod input;
mod outbox;
mod recent;
mod replay;
mod settings;
mod settled;
mod shard;
mod snapshot;
mod store;
mod turns;

#[cfg(test)]
mod consumer_tests;
#[cfg(test)]
mod tests;

pub use consumer::{StreamOffset, StreamReading, Subscription};
pub use event::{DeleteRefusal, Deleted, Event, Forward, ForwardReason, ShardOutput, ShardTotals, SubscribeRefusal};
pub use input::{PublishRun, Receipt, ShardInput};
pub use settings::{DeadLettering, Deduplication, Overflow, QueueKind, QueueSettings, RetryDelay, Returned};
pub use shard::Shard;
pub use snapshot::{Snapshot, SnapshotError, Survivor};

use crate::identity::{ConnectionId, ConsumerKey, QueueId};
use crate::message::Message;
use deal::{Getter, Source, Turn};
use holders::{Holders, Service};
use settled::Settled;
use store::{Store, Terms};

/// What becomes of a message that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is done with: acknowledged.
    Done,
    /// It was rejected for good: dead-lettered if the queue does that, otherwise done with.
    Reject,
    /// Its consumer gives it back (`basic.nack` and the like with `requeue`): it goes back to its place, flagged
    /// redelivered.
    Requeue,
    /// Its consumer failed: its channel or connection is gone. As [`Self::Requeue`], and it counts as a failed delivery.
    Fail,
    /// It never reached its consumer: it goes back as if nothing had happened.
    Return,
}

/// Consecutive positions of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionRange {
    /// The first position.
    pub first: u64,
    /// How many; at least 1.
    pub len: u64,
}

/// A message on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The queue it comes from.
    pub queue: QueueId,
    /// Its place in that queue, by which it is settled.
    pub position: u64,
    /// True if it was handed out before.
    pub redelivered: bool,
    /// How often it came back from a failed delivery, if the queue counts that and it did (header `x-delivery-count`).
    pub delivery_count: u32,
    /// Its number in a stream (header `x-stream-offset`).
    pub offset: Option<u64>,
    /// The message.
    pub message: Message,
}

#[derive(Debug)]
struct Queue {
    id: QueueId,
    settings: QueueSettings,
    store: Store,
    holders: Holders,
    has_had_consumer: bool,
    /// An attach is in the log since the epoch began.
    attached: bool,
    /// While a run is applied, the position of the first message that it brought.
    fresh_from: Option<u64>,
}

impl Queue {
    fn new(id: QueueId, settings: QueueSettings) -> Self {
        Self {
            id,
            settings,
            store: Store::default(),
            holders: Holders::default(),
            has_had_consumer: false,
            attached: false,
            fresh_from: None,
        }
    }

    /// Hands out ready messages while a consumer can take one: each in turn.
    fn dispatch(&mut self, source: &mut Source<'_>, out: &mut ShardOutput, done: &mut Settled) {
        if self.store.ready() > 0 && self.holders.has_takers() {
            let mut turn = Turn { queue: self.id, holders: &mut self.holders, source, out, number: 0 };
            self.store.hand_out(&mut turn, done);
        }
    }

    /// Takes the message at the head for `basic.get`; without acknowledgement its sequence number goes to `done`.
    fn get(
        &mut self,
        holder: ConsumerKey,
        no_ack: bool,
        source: &mut Source<'_>,
        done: &mut Settled,
    ) -> Option<Delivery> {
        if self.store.ready() == 0 {
            return None;
        }
        let terms = if no_ack {
            Terms::Finish
        } else {
            let number = self.holders.number(holder);
            self.holders.got(number);
            Terms::Hold(number)
        };
        let mut getter = Getter { queue: self.id, terms: Some(terms), source, got: None };
        self.store.hand_out(&mut getter, done);
        getter.got
    }

    /// Settles what is still unacknowledged in `ranges`; unknown positions are skipped, for their queue may have been
    /// deleted and declared again since.
    fn settle(&mut self, ranges: &[PositionRange], settlement: Settlement, done: &mut Settled) {
        for range in ranges {
            self.store.settle(*range, settlement, done, |number| self.holders.released(number));
        }
    }

    /// Why it does not take one more consumer. RabbitMQ's quorum queues know no exclusive consumers and take all of them;
    /// its classic queues with a single active consumer take none.
    fn refusal(&self, subscription: &Subscription) -> Option<SubscribeRefusal> {
        let exclusive = self.settings.kind == QueueKind::Classic
            && (self.holders.has_exclusive_consumer()
                || subscription.exclusive
                    && (self.settings.single_active_consumer || self.holders.consumer_count() > 0));
        exclusive.then_some(SubscribeRefusal::ExclusiveUse)
    }

    fn subscribe(&mut self, key: ConsumerKey, subscription: Subscription) {
        if self.holders.consumer_count() == 0 {
            self.holders.serve(self.service());
        }
        self.holders.subscribe(key, subscription);
        self.has_had_consumer = true;
    }

    /// Whom it serves.
    fn service(&self) -> Service {
        if self.settings.single_active_consumer {
            Service::SingleActive { takeover: self.settings.kind == QueueKind::Quorum }
        } else {
            Service::Turns
        }
    }

    /// Removes a consumer. What it holds stays unacknowledged until its session settles it (spec `basic.cancel`).
    fn unsubscribe(&mut self, key: ConsumerKey) {
        self.holders.unsubscribe(key);
        self.shrink();
    }

    /// Takes back everything of a connection that is gone.
    fn detach(&mut self, connection: ConnectionId) {
        let held = self.holders.detach(connection);
        self.store.take_back(held, |number| self.holders.is_of(number, connection));
        self.holders.forget_connection(connection);
        self.shrink();
    }

    /// A queue that nobody consumes from keeps no memory for messages that it does not have.
    fn shrink(&mut self) {
        if self.holders.consumer_count() == 0 {
            self.store.shrink();
        }
    }

    fn is_unused(&self) -> bool {
        self.settings.auto_delete && self.has_had_consumer && self.holders.consumer_count() == 0
    }

    /// Flags everything as redelivered if messages may have been handed out before the epoch began.
    fn start_epoch(&mut self) {
        if core::mem::take(&mut self.attached) {
            self.store.mark_redelivered();
        }
    }
}
