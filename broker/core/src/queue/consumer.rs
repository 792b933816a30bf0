//! What a queue knows of a consumer: what it may be sent now.

use crate::limits::{DELIVERY_WINDOW_BYTES, DELIVERY_WINDOW_MESSAGES};

/// The terms of a `basic.consume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// Messages are done with as they are sent.
    pub no_ack: bool,
    /// No other consumer may be on the queue.
    pub exclusive: bool,
    /// How many messages it may hold unacknowledged; 0 is unlimited (spec `basic.qos`). Without effect if `no_ack`.
    pub prefetch_count: u32,
}

/// A consumer and its two limits: what it holds unacknowledged, and what its connection has not yet passed on to
/// the socket. The second keeps a slow reader's deliveries in the queue instead of in our memory.
#[derive(Debug)]
pub(super) struct Consumer {
    subscription: Subscription,
    unacked: u32,
    window_messages: u32,
    window_bytes: u64,
    in_turn: bool,
    /// Its end waits for the log; it is handed nothing more.
    leaving: bool,
}

impl Consumer {
    /// A consumer that is in the turn queue.
    pub(super) fn new(subscription: Subscription) -> Self {
        Self { subscription, unacked: 0, window_messages: 0, window_bytes: 0, in_turn: true, leaving: false }
    }

    pub(super) fn no_ack(&self) -> bool {
        self.subscription.no_ack
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.subscription.exclusive
    }

    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    pub(super) fn can_take(&self) -> bool {
        if self.leaving {
            return false;
        }
        let prefetch = self.subscription.prefetch_count;
        let below_prefetch = self.no_ack() || prefetch == 0 || self.unacked < prefetch;
        below_prefetch && self.window_messages < DELIVERY_WINDOW_MESSAGES && self.window_bytes < DELIVERY_WINDOW_BYTES
    }

    /// Counts a message that was sent to it.
    pub(super) fn took(&mut self, bytes: usize) {
        if !self.no_ack() {
            self.unacked += 1;
        }
        self.window_messages += 1;
        self.window_bytes += bytes as u64;
    }

    /// Counts one message that it no longer holds.
    pub(super) fn settled_one(&mut self) {
        self.unacked = self.unacked.saturating_sub(1);
    }

    /// Counts what left for the socket.
    pub(super) fn passed_on(&mut self, messages: u32, bytes: u64) {
        self.window_messages = self.window_messages.saturating_sub(messages);
        self.window_bytes = self.window_bytes.saturating_sub(bytes);
    }

    /// True if it can take a message and is not waiting for its turn yet; then it counts as waiting.
    /// Called after its turn and after everything that may have given it room.
    pub(super) fn rejoin_turn(&mut self) -> bool {
        let joins = !self.in_turn && self.can_take();
        self.in_turn |= joins;
        joins
    }

    /// Its turn has come: it left the turn queue.
    pub(super) fn begin_turn(&mut self) {
        self.in_turn = false;
    }
}
