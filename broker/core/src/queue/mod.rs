//! One queue: ready and unacknowledged messages, consumers and whose turn it is.
//!
//! Order: a message's *position* is the place it took when it was enqueued and never changes. Messages that come
//! back (requeue, lost consumer) go to their old place (RabbitMQ: "original position if possible"). Higher priorities
//! come first: a position has its message's priority in the top octet, and below it the place among those of the same.
//!
//! What becomes of messages beside being handed out and settled is decided here when it happens, and logged as
//! settlements: a replay needs no rules. It needs what rules remember of a message (its time, its delivery count, its
//! deduplication key), and the queue's settings for these. Only duplicates it drops itself, for which ones they are follows
//! from the log alone. Whoever is told that a message did not join its queue is told when the log says so.
//!
//! A logged message also has a *sequence number*, the same on every node that applies the shard's log, by which its
//! settlement is logged. Messages of delivery mode 1, and all messages of queues that are not logged, have none.

mod activity;
mod admission;
mod consumer;
mod consumers;
mod deal;
mod deaths;
mod duplicates;
mod event;
mod holders;
mod input;
mod levels;
mod outbox;
mod reading;
mod recent;
mod replay;
mod returns;
mod rules;
mod settings;
mod settled;
mod shard;
mod snapshot;
mod statistics;
mod store;
mod stream;
mod turns;
mod watch;
mod window;

#[cfg(test)]
mod consumer_tests;
#[cfg(test)]
mod death_tests;
#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod statistics_tests;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;

pub use activity::{DeathCounts, QueueCounters, QueueSample};
pub use consumer::{StreamOffset, StreamReading, Subscription};
pub use event::{DeleteRefusal, Deleted, Event, Forward, ForwardReason, ShardOutput, SubscribeRefusal};
pub use input::{PublishRun, Receipt, ShardInput};
pub use settings::{DeadLettering, Deduplication, Overflow, QueueKind, QueueSettings, RetryDelay, Returned};
pub use shard::Shard;
pub use snapshot::{Snapshot, SnapshotError, Survivor};
pub use statistics::{ConsumerStatistics, ConsumerStatus, QueueFilter, QueueStatistics, ShardSummary, ShardTotals};

use alloc::boxed::Box;

use crate::identity::{ConsumerKey, QueueId};
use crate::message::Message;
use activity::Activity;
use admission::QUORUM_PRIORITY;
use deal::{Getter, Occasion, Taken, Turn};
use holders::Holders;
use levels::Levels;
use rules::Rules;
use settings::KeptSettings;
use store::{Stop, Terms};
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
    store: Levels,
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
    /// A run is being applied that has brought it messages.
    fresh: bool,
    activity: Activity,
}

impl Queue {
    fn new(id: QueueId, settings: QueueSettings, now_ms: u64) -> Self {
        let mut queue = Self {
            id,
            settings: KeptSettings::from(QueueSettings::default()),
            store: Levels::default(),
            holders: Holders::default(),
            rules: None,
            stream: None,
            has_had_consumer: false,
            attached: false,
            configuring: 0,
            deadline: None,
            fresh: false,
            activity: Activity::default(),
        };
        queue.configure(settings, now_ms);
        queue
    }

    /// Behaves like this from now on.
    fn configure(&mut self, settings: QueueSettings, now_ms: u64) {
        if Rules::of(&settings) && self.rules.is_none() {
            self.rules = Some(Box::default());
        }
        if settings.kind == QueueKind::Stream && self.stream.is_none() {
            self.stream = Some(Box::default());
        }
        if settings.kind == QueueKind::Quorum {
            self.store.expect(QUORUM_PRIORITY);
        }
        if let (None, Some(rules)) = (settings.deduplication, &mut self.rules) {
            rules.duplicates = None;
        }
        let expires = settings.expires != self.settings.expires;
        self.settings = settings.into();
        if expires {
            self.used(now_ms);
        }
    }

    /// Somebody consumes, gets or declares: the time until it expires begins anew.
    fn used(&mut self, now_ms: u64) {
        if let Some(rules) = &mut self.rules {
            rules.used(now_ms);
        }
    }

    /// When something is to be done that no input asks for.
    fn next_deadline(&mut self) -> Option<u64> {
        let stream = self.stream.as_ref().and_then(|stream| stream.deadline(&self.settings));
        let others = [self.holders.deadline(), stream].into_iter().flatten().min();
        let Some(rules) = &self.rules else {
            return others;
        };
        let unused = self.holders.consumer_count() == 0;
        let expires = rules.expires_at(&self.settings).filter(|_| unused);
        let returns = rules.returning.first().map(|(at, _)| *at);
        [others, expires, returns, self.next_time()].into_iter().flatten().min()
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

    /// How many messages wait; of a stream, how many there are.
    fn ready(&self) -> u64 {
        self.stream.as_ref().map_or_else(|| self.store.ready(), |stream| stream.messages.len())
    }

    /// How many messages clients hold.
    fn unacked(&self) -> u64 {
        if self.stream.is_some() {
            return self.holders.held();
        }
        self.store.held() - self.rules.as_ref().map_or(0, |rules| rules.set_aside())
    }

    /// Does what has become possible: what is over goes, and consumers get what is ready, each in turn.
    fn dispatch(&mut self, occasion: &mut Occasion<'_>) {
        if let Some(mut stream) = self.stream.take() {
            self.dispatch_stream(&mut stream, occasion);
            self.stream = Some(stream);
            return;
        }
        if self.rules.is_none() {
            self.serve(occasion);
            return;
        }
        self.wake(occasion);
        self.forward_waiting(occasion);
        if self.settings.kind == QueueKind::Delayed {
            return self.forward_due(occasion);
        }
        while self.serve(occasion) == Stop::Expired && self.expire_heads(false, occasion) {}
        // Whoever could take what came now has had a chance.
        self.expire_heads(true, occasion);
        if self.enforce_length(occasion) {
            self.expire_heads(true, occasion);
        }
    }

    /// Hands out ready messages while a consumer can take one.
    fn serve(&mut self, occasion: &mut Occasion<'_>) -> Stop {
        if self.store.ready() == 0 || !self.holders.has_takers() || self.settings.paused {
            return Stop::NotTaken;
        }
        let Occasion { now_ms, source, out, done, .. } = occasion;
        let now_ms = *now_ms;
        let mut turn = Turn {
            queue: self.id,
            holders: &mut self.holders,
            source,
            out,
            now_ms,
            number: 0,
            no_ack: false,
            taken: Taken::default(),
        };
        let stop = self.store.hand_out(now_ms, &mut turn, done);
        turn.taken.count(self.activity.counters_mut());
        stop
    }

    /// Takes the message at the head for `basic.get`; without acknowledgement its sequence number goes to `done`.
    fn get(&mut self, holder: ConsumerKey, no_ack: bool, occasion: &mut Occasion<'_>) -> Option<Delivery> {
        self.used(occasion.now_ms);
        if self.rules.is_some() {
            self.expire_heads(true, occasion);
        }
        if self.store.ready() == 0 || self.settings.kind == QueueKind::Delayed || self.settings.paused {
            self.count_got(None, no_ack);
            return None;
        }
        let (timeout, now_ms) = (self.settings.consumer_timeout, occasion.now_ms);
        let token = (!no_ack).then(|| self.holders.got(holder, timeout, now_ms));
        let terms = token.map_or(Terms::Finish, Terms::Hold);
        let mut getter = Getter { queue: self.id, terms: Some(terms), source: &mut occasion.source, got: None };
        self.store.hand_out(occasion.now_ms, &mut getter, occasion.done);
        let got = getter.got;
        if let (None, Some(token)) = (&got, token) {
            // What is next has to leave first.
            self.holders.released(token);
        }
        self.count_got(got.as_ref(), no_ack);
        got
    }

    /// Drops what is ready; answers how much that was.
    fn purge(&mut self, occasion: &mut Occasion<'_>) -> u64 {
        if let Some(rules) = &mut self.rules {
            rules.delayed.clear();
        }
        self.store.purge(occasion.done)
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

    /// The replay is over: what waits for its time is found in its order.
    fn order_delayed(&mut self) {
        if let (QueueKind::Delayed, Some(rules)) = (self.settings.kind, &mut self.rules) {
            rules.delayed = self.store.times().collect();
        }
    }
}
