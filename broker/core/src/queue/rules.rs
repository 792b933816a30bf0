//! What a queue keeps for its rules. Queues without rules have nothing of this.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use super::duplicates::Duplicates;
use super::window::ForwardWindow;
use super::{ForwardReason, QueueKind, QueueSettings};
use crate::limits::DEAD_LETTERS_UNDER_WAY;

/// Messages that wait for something else than a consumer, and what else the rules of a queue need to remember.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// When somebody used the queue last: milliseconds since the Unix epoch.
    used_at: u64,
    /// It was named as unused since.
    expired: bool,
    pub(super) dead: DeadLetters,
    /// Messages that came back and are ready again later: when, and their positions.
    pub(super) returning: BTreeSet<(u64, u64)>,
    /// Of the store of a delayed exchange: when each message is due, and its position.
    pub(super) delayed: BTreeSet<(u64, u64)>,
    /// If it recognizes messages that it has had.
    pub(super) duplicates: Option<Box<Duplicates>>,
}

/// Messages that leave their queue.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    /// By position: those that the forwarder has, with what they take of the shard's window.
    under_way: BTreeMap<u64, (ForwardReason, u64)>,
    /// Those that wait until it has fewer, and those that it gave back.
    waiting: VecDeque<(u64, ForwardReason)>,
    /// The queue waits for room in the shard's window.
    pub(super) crowded: bool,
}

impl Rules {
    /// True if queues with these settings need it.
    pub(super) fn of(settings: &QueueSettings) -> bool {
        let QueueSettings { kind, message_ttl, expires, max_length, max_length_bytes, delivery_limit, .. } = settings;
        let numbers = [message_ttl, expires, max_length, max_length_bytes];
        matches!(kind, QueueKind::Quorum | QueueKind::Delayed)
            || numbers.into_iter().any(Option::is_some)
            || delivery_limit.is_some()
            || settings.dead_lettering != super::DeadLettering::None
            || settings.retry_delay.is_some()
            || settings.deduplication.is_some()
    }

    /// Somebody consumes, gets or declares.
    pub(super) fn used(&mut self, now_ms: u64) {
        (self.used_at, self.expired) = (now_ms, false);
    }

    /// True if nobody has used the queue since it was named as unused.
    pub(super) fn has_expired(&self) -> bool {
        self.expired
    }

    /// When the queue will have been unused for too long.
    pub(super) fn expires_at(&self, settings: &QueueSettings) -> Option<u64> {
        let expires = settings.expires.filter(|_| !self.expired)?;
        Some(self.used_at.saturating_add(expires))
    }

    /// Notes that the queue is named as unused.
    pub(super) fn expire(&mut self) {
        self.expired = true;
    }

    /// How many messages are held that no client holds.
    pub(super) fn set_aside(&self) -> u64 {
        (self.returning.len() + self.dead.under_way.len() + self.dead.waiting.len()) as u64
    }
}

impl DeadLetters {
    /// True if one more may be on its way.
    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < DEAD_LETTERS_UNDER_WAY
    }

    /// A message goes to the forwarder and takes so much of the shard's window.
    pub(super) fn leave(&mut self, position: u64, reason: ForwardReason, bytes: u64) {
        self.under_way.insert(position, (reason, bytes));
    }

    /// The forwarder has settled a message; answers why it left.
    pub(super) fn arrived(&mut self, position: u64, window: &mut ForwardWindow) -> Option<ForwardReason> {
        let (reason, bytes) = self.under_way.remove(&position)?;
        window.give_back(bytes);
        Some(reason)
    }

    /// What it takes of the shard's window.
    pub(super) fn window_bytes(&self) -> u64 {
        self.under_way.values().map(|(_, bytes)| bytes).sum()
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A message waits until there is room.
    pub(super) fn wait(&mut self, position: u64, reason: ForwardReason) {
        self.waiting.push_back((position, reason));
    }

    /// The next one that waits.
    pub(super) fn next(&mut self) -> Option<(u64, ForwardReason)> {
        self.waiting.pop_front()
    }
}
