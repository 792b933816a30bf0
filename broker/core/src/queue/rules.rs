//! What a queue keeps for its rules. Queues without rules have nothing of this.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use super::duplicates::Duplicates;
use super::window::ForwardWindow;
use super::{DeadLettering, ForwardReason, QueueKind, QueueSettings};
use crate::limits::{DEAD_LETTERS_UNDER_WAY, DEAD_LETTERS_WAITING};

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
    /// Messages that were refused and stay until the log says so.
    pub(super) refused: usize,
    /// If it recognizes messages that it has had.
    pub(super) duplicates: Option<Box<Duplicates>>,
}

/// A message that leaves its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeadLetter {
    pub(super) position: u64,
    /// Octets, as the queue counts them.
    pub(super) bytes: u32,
    pub(super) reason: ForwardReason,
}

const _: () = assert!(size_of::<DeadLetter>() == 16);

/// Messages that leave their queue.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    /// By position: those that the forwarder has, with what they take of the shard's window.
    under_way: BTreeMap<u64, (DeadLetter, u64)>,
    /// Those that it gave back, and when each is sent again: all wait equally long, so the earliest is the first.
    retrying: VecDeque<(u64, DeadLetter)>,
    /// Those that wait until fewer are on their way.
    waiting: VecDeque<DeadLetter>,
    /// Octets of them all.
    bytes: u64,
    /// Of those that wait, what the queue had taken in before.
    waiting_load: Load,
    /// The queue waits for room in the shard's window.
    pub(super) crowded: bool,
}

/// How much of a queue messages are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) messages: u64,
    /// As the queue counts them.
    pub(super) bytes: u64,
}

impl Load {
    /// What a full queue has refused was never part of it.
    fn of(letter: &DeadLetter) -> Self {
        let messages = u64::from(letter.reason != ForwardReason::MaxLength);
        Self { messages, bytes: messages * u64::from(letter.bytes) }
    }

    fn add(&mut self, letter: &DeadLetter) {
        let Self { messages, bytes } = Self::of(letter);
        *self = Self { messages: self.messages + messages, bytes: self.bytes + bytes };
    }

    fn subtract(&mut self, letter: &DeadLetter) {
        let Self { messages, bytes } = Self::of(letter);
        *self = Self { messages: self.messages - messages, bytes: self.bytes - bytes };
    }
}

impl Rules {
    /// True if queues with these settings need it.
    pub(super) fn of(settings: &QueueSettings) -> bool {
        let QueueSettings { kind, message_ttl, expires, max_length, max_length_bytes, delivery_limit, .. } = settings;
        let numbers = [message_ttl, expires, max_length, max_length_bytes];
        matches!(kind, QueueKind::Quorum | QueueKind::Delayed)
            || numbers.into_iter().any(Option::is_some)
            || delivery_limit.is_some()
            || settings.dead_lettering != DeadLettering::None
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
        self.returning.len() as u64 + self.dead.count() + self.refused as u64
    }
}

impl DeadLetters {
    /// True if one more may be on its way. What came back counts until it is tried again.
    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() + self.retrying.len() < DEAD_LETTERS_UNDER_WAY
    }

    /// How many there are, wherever they wait.
    pub(super) fn count(&self) -> u64 {
        (self.under_way.len() + self.retrying.len() + self.waiting.len()) as u64
    }

    /// How much of a queue that refuses publishes they are. Those that must arrive count until they have, as in RabbitMQ:
    /// their queue would grow for ever if they can go nowhere. Of the others, those count that wait, for the same reason.
    pub(super) fn load(&self, dead_lettering: DeadLettering) -> Load {
        match dead_lettering {
            DeadLettering::AtLeastOnce => Load { messages: self.count(), bytes: self.bytes },
            DeadLettering::AtMostOnce | DeadLettering::None => self.waiting_load,
        }
    }

    /// True if a message whose time is over may wait beside its queue.
    pub(super) fn has_room_to_wait(&self) -> bool {
        self.waiting.len() < DEAD_LETTERS_WAITING
    }

    /// A message goes to the forwarder and takes so much of the shard's window.
    pub(super) fn leave(&mut self, letter: DeadLetter, window_bytes: u64) {
        self.bytes += u64::from(letter.bytes);
        self.under_way.insert(letter.position, (letter, window_bytes));
    }

    /// The forwarder has settled a message; answers which.
    pub(super) fn arrived(&mut self, position: u64, window: &mut ForwardWindow) -> Option<DeadLetter> {
        let (letter, window_bytes) = self.under_way.remove(&position)?;
        window.give_back(window_bytes);
        self.bytes -= u64::from(letter.bytes);
        Some(letter)
    }

    /// What it takes of the shard's window.
    pub(super) fn window_bytes(&self) -> u64 {
        self.under_way.values().map(|(_, bytes)| bytes).sum()
    }

    /// How many wait until fewer are on their way.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A message waits until fewer are on their way.
    pub(super) fn wait(&mut self, letter: DeadLetter) {
        self.bytes += u64::from(letter.bytes);
        self.waiting_load.add(&letter);
        self.waiting.push_back(letter);
    }

    /// The next one that waits.
    pub(super) fn next(&mut self) -> Option<DeadLetter> {
        let letter = self.waiting.pop_front()?;
        if self.waiting.is_empty() {
            self.waiting.shrink_to(DEAD_LETTERS_UNDER_WAY);
        }
        self.bytes -= u64::from(letter.bytes);
        self.waiting_load.subtract(&letter);
        Some(letter)
    }

    /// A message came back and is sent again at that time. Times never decrease.
    pub(super) fn retry(&mut self, at_ms: u64, letter: DeadLetter) {
        self.bytes += u64::from(letter.bytes);
        self.retrying.push_back((at_ms, letter));
    }

    /// When the next one that came back is sent again.
    pub(super) fn retry_at(&self) -> Option<u64> {
        self.retrying.front().map(|(at_ms, _)| *at_ms)
    }

    /// It is so late: what came back long enough ago has its turn again, behind the others that wait.
    pub(super) fn resume(&mut self, now_ms: u64) {
        while let Some((_, letter)) = self.retrying.pop_front_if(|(at_ms, _)| *at_ms <= now_ms) {
            self.waiting_load.add(&letter);
            self.waiting.push_back(letter);
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.waiting.capacity()
    }
}
