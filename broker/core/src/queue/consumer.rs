//! What a queue knows of a consumer: what it may be sent now.

use alloc::vec::Vec;

use bytes::Bytes;

use super::statistics::{ConsumerStatistics, ConsumerStatus};
use crate::identity::ConsumerKey;
use crate::limits::{DELIVERY_WINDOW_BYTES, DELIVERY_WINDOW_MESSAGES};

/// The terms of a `basic.consume`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Messages are done with as they are sent.
    pub no_ack: bool,
    /// No other consumer may be on the queue.
    pub exclusive: bool,
    /// How many messages it may hold unacknowledged; 0 is unlimited (spec `basic.qos`). Without effect if `no_ack`.
    pub prefetch_count: u32,
    /// Consumers of higher priority are served first (argument `x-priority`).
    pub priority: i32,
    /// Milliseconds that it may hold a message, instead of what its queue says (argument `x-consumer-timeout`).
    pub consumer_timeout: Option<u64>,
    /// What it reads of a stream.
    pub stream: Option<StreamReading>,
}

/// What a consumer reads of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamReading {
    /// Where it begins (argument `x-stream-offset`).
    pub from: StreamOffset,
    /// Only messages with one of these values; none: all (argument `x-stream-filter`).
    pub filter: Vec<Bytes>,
    /// Also messages without a value (argument `x-stream-match-unfiltered`).
    pub match_unfiltered: bool,
}

/// A place in a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StreamOffset {
    /// The oldest message there is.
    First,
    /// The newest messages there are.
    Last,
    /// What comes from now on.
    #[default]
    Next,
    /// The message of this number, or the next one there is.
    Number(u64),
    /// The first message from this time on: milliseconds since the Unix epoch.
    Timestamp(u64),
    /// The first message of the last so many milliseconds.
    Interval(u64),
}

/// A consumer's limit beside what it holds unacknowledged: what its connection has not yet passed on to the socket. It
/// keeps a slow reader's deliveries in the queue instead of in our memory.
#[derive(Debug)]
pub(super) struct Consumer {
    subscription: Subscription,
    window_messages: u32,
    window_bytes: u64,
    /// It is waiting for its turn.
    in_turn: bool,
    /// Its end waits for the log; it is handed nothing more.
    leaving: bool,
    /// Its client has had no room for what it was handed; it is handed nothing more until its session grants it something.
    paused: bool,
    /// Somebody wants its client to finish what it has; it is handed nothing more until that is over.
    drained: bool,
}

impl Consumer {
    /// A consumer that is in the turn queue.
    pub(super) fn new(subscription: Subscription) -> Self {
        Self {
            subscription,
            window_messages: 0,
            window_bytes: 0,
            in_turn: true,
            leaving: false,
            paused: false,
            drained: false,
        }
    }

    pub(super) fn no_ack(&self) -> bool {
        self.subscription.no_ack
    }

    pub(super) fn priority(&self) -> i32 {
        self.subscription.priority
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.subscription.exclusive
    }

    /// What it is like, for those who ask.
    pub(super) fn statistics(&self, key: ConsumerKey, held: u32, status: ConsumerStatus) -> ConsumerStatistics {
        let Subscription { no_ack, exclusive, prefetch_count, consumer_timeout: timeout, .. } = self.subscription;
        ConsumerStatistics { key, ack_required: !no_ack, exclusive, prefetch_count, held, timeout, status }
    }

    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    pub(super) fn drain(&mut self, drained: bool) {
        self.drained = drained;
    }

    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    /// True if it may be sent another message while it holds so many.
    pub(super) fn can_take(&self, held: u32) -> bool {
        if self.leaving || self.paused || self.drained {
            return false;
        }
        let prefetch = self.subscription.prefetch_count;
        let below_prefetch = self.no_ack() || prefetch == 0 || held < prefetch;
        below_prefetch && self.window_messages < DELIVERY_WINDOW_MESSAGES && self.window_bytes < DELIVERY_WINDOW_BYTES
    }

    /// Counts a message that was sent to it.
    pub(super) fn took(&mut self, bytes: usize) {
        self.window_messages += 1;
        self.window_bytes += bytes as u64;
    }

    /// Counts what left for the socket.
    pub(super) fn passed_on(&mut self, messages: u32, bytes: u64) {
        self.paused = false;
        self.window_messages = self.window_messages.saturating_sub(messages);
        self.window_bytes = self.window_bytes.saturating_sub(bytes);
    }

    /// Its priority, if it can take a message and is not waiting for its turn yet; then it counts as waiting.
    pub(super) fn rejoin_turn(&mut self, held: u32) -> Option<i32> {
        let joins = !self.in_turn && self.can_take(held);
        self.in_turn |= joins;
        joins.then(|| self.priority())
    }

    /// It has left the turn queue.
    pub(super) fn end_turn(&mut self) {
        self.in_turn = false;
    }
}
