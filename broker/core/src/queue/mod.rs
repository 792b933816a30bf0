//! One queue: ready and unacknowledged messages, consumers and whose turn it is.
//!
//! Order: a message's *position* is the place it took when it was enqueued and never changes. Messages that come
//! back (requeue, lost consumer) go to their old place (RabbitMQ: "original position if possible").
//!
//! A logged message also has a *sequence number*, the same on every node that applies the shard's log, by which its
//! settlement is logged. Messages of delivery mode 1, and all messages of queues that are not logged, have none.

mod consumer;
mod consumers;
mod deal;
mod event;
mod holders;
mod input;
mod outbox;
mod reading;
mod recent;
mod replay;
mod rules;
mod settings;
mod settled;
mod shard;
mod snapshot;
mod store;
mod stream;
mod turns;
mod watch;

#[cfg(test)]
mod consumer_tests;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;

pub use consumer::{StreamOffset, StreamReading, Subscription};
pub use event::{DeleteRefusal, Deleted, Event, Forward, ForwardReason, ShardOutput, ShardTotals, SubscribeRefusal};
pub use input::{PublishRun, Receipt, ShardInput};
pub use settings::{DeadLettering, Deduplication, Overflow, QueueKind, QueueSettings, RetryDelay, Returned};
pub use shard::Shard;
pub use snapshot::{Snapshot, SnapshotError, Survivor};

use alloc::boxed::Box;

use crate::command::Publish;
use crate::identity::{ConnectionId, ConsumerKey, QueueId};
use crate::message::Message;
use deal::{Getter, Occasion, Turn};
use holders::Holders;
use rules::Rules;
use settings::KeptSettings;
use settled::Settled;
use store::{Body, Store, Terms};
use stream::Stream;

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
    settings: KeptSettings,
    store: Store,
    holders: Holders,
    /// What its settings and messages need beside these.
    rules: Option<Box<Rules>>,
    /// If it is a stream; it has nothing in its store then.
    stream: Option<Box<Stream>>,
    has_had_consumer: bool,
    /// An attach is in the log since the epoch began.
    attached: bool,
    /// Changes of its settings that are on their way through the log.
    configuring: u16,
    /// When the shard looks at it again.
    deadline: Option<u64>,
    /// While a run is applied, the position of the first message that it brought.
    fresh_from: Option<u64>,
}

impl Queue {
    fn new(id: QueueId, settings: QueueSettings, now_ms: u64) -> Self {
        let mut queue = Self {
            id,
            settings: KeptSettings::from(QueueSettings::default()),
            store: Store::default(),
            holders: Holders::default(),
            rules: None,
            stream: None,
            has_had_consumer: false,
            attached: false,
            configuring: 0,
            deadline: None,
            fresh_from: None,
        };
        queue.configure(settings);
        queue.used(now_ms);
        queue
    }

    /// Behaves like this from now on.
    fn configure(&mut self, settings: QueueSettings) {
        if Rules::of(&settings) && self.rules.is_none() {
            self.rules = Some(Box::default());
        }
        if settings.kind == QueueKind::Stream && self.stream.is_none() {
            self.stream = Some(Box::default());
        }
        self.settings = settings.into();
    }

    /// Somebody consumes, gets or declares: the time until it expires begins anew.
    fn used(&mut self, now_ms: u64) {
        if let Some(rules) = &mut self.rules {
            rules.used(now_ms);
        }
    }

    /// When something is to be done that no input asks for.
    fn next_deadline(&self) -> Option<u64> {
        let unused = self.holders.consumer_count() == 0;
        let rules = self.rules.as_ref().filter(|_| unused);
        let expires = rules.and_then(|rules| rules.expires_at(&self.settings));
        let stream = self.stream.as_ref().and_then(|stream| stream.deadline(&self.settings));
        [expires, self.holders.deadline(), stream].into_iter().flatten().min()
    }

    /// Says that the queue is unused, if it has been so for as long as it may be.
    fn expire(&mut self, occasion: &mut Occasion<'_>) {
        let unused = self.holders.consumer_count() == 0;
        if let Some(rules) = &mut self.rules
            && rules.expires_at(&self.settings).is_some_and(|at| unused && at <= occasion.now_ms)
        {
            rules.expire();
            occasion.out.unused.push(self.id);
        }
    }

    /// Appends a message, which came at `time_ms`.
    fn push(&mut self, body: Body, publish: &Publish<'_>, time_ms: u64) {
        match &mut self.stream {
            None => self.store.push(body),
            Some(stream) => stream.push(&body, &publish.attributes(), time_ms, &self.settings),
        }
    }

    /// How many messages wait; of a stream, how many there are.
    fn ready(&self) -> u64 {
        self.stream.as_ref().map_or_else(|| self.store.ready(), |stream| stream.messages.len())
    }

    /// How many messages clients hold.
    fn unacked(&self) -> u64 {
        if self.stream.is_some() { self.holders.held() } else { self.store.held() }
    }

    /// Hands out ready messages while a consumer can take one: each in turn.
    fn dispatch(&mut self, occasion: &mut Occasion<'_>) {
        if let Some(mut stream) = self.stream.take() {
            self.dispatch_stream(&mut stream, occasion);
            self.stream = Some(stream);
            return;
        }
        if self.store.ready() > 0 && self.holders.has_takers() {
            let Occasion { now_ms, source, out, done } = occasion;
            let now_ms = *now_ms;
            let mut turn = Turn { queue: self.id, holders: &mut self.holders, source, out, now_ms, number: 0 };
            self.store.hand_out(&mut turn, done);
        }
    }

    /// Takes the message at the head for `basic.get`; without acknowledgement its sequence number goes to `done`.
    fn get(&mut self, holder: ConsumerKey, no_ack: bool, occasion: &mut Occasion<'_>) -> Option<Delivery> {
        self.used(occasion.now_ms);
        if self.store.ready() == 0 {
            return None;
        }
        let timeout = self.settings.consumer_timeout;
        let terms =
            if no_ack { Terms::Finish } else { Terms::Hold(self.holders.got(holder, timeout, occasion.now_ms)) };
        let mut getter = Getter { queue: self.id, terms: Some(terms), source: &mut occasion.source, got: None };
        self.store.hand_out(&mut getter, occasion.done);
        getter.got
    }

    /// Settles what is still unacknowledged in `ranges`; unknown positions are skipped, for their queue may have been
    /// deleted and declared again since.
    fn settle(&mut self, ranges: &[PositionRange], settlement: Settlement, done: &mut Settled) {
        if self.stream.is_some() {
            return self.settle_stream(ranges);
        }
        for range in ranges {
            self.store.settle(*range, settlement, done, |number| self.holders.released(number));
        }
    }

    fn subscribe(&mut self, key: ConsumerKey, subscription: Subscription, now_ms: u64) {
        self.used(now_ms);
        self.add_consumer(key, subscription, now_ms);
        self.has_had_consumer = true;
    }

    /// Removes a consumer. What it holds stays unacknowledged until its session settles it (spec `basic.cancel`).
    fn unsubscribe(&mut self, key: ConsumerKey, now_ms: u64) {
        self.holders.unsubscribe(key);
        self.used(now_ms);
        self.shrink();
    }

    /// Takes back everything of a connection that is gone.
    fn detach(&mut self, connection: ConnectionId, now_ms: u64) {
        if self.holders.consumer_count() > 0 {
            self.used(now_ms);
        }
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

    /// True if it is to go since its last consumer went.
    fn is_unused(&self) -> bool {
        self.settings.auto_delete && self.has_had_consumer && self.holders.consumer_count() == 0
    }

    /// True if it is to go since nobody has used it for so long.
    fn has_expired(&self) -> bool {
        self.holders.consumer_count() == 0 && self.rules.as_ref().is_some_and(|rules| rules.has_expired())
    }

    /// Flags everything as redelivered if messages may have been handed out before the epoch began.
    fn start_epoch(&mut self) {
        if core::mem::take(&mut self.attached) {
            self.store.mark_redelivered();
        }
    }
}
