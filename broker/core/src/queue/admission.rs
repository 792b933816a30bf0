//! What becomes of a message that comes: it joins its queue, is refused, or has been there before.

use super::deal::Occasion;
use super::duplicates::{How, Known};
use super::rules::Rules;
use super::settled::{Settled, Unlearnt};
use super::store::{Body, Extra, State, To};
use super::{ForwardReason, Overflow, Queue, QueueKind};
use crate::command::{Attributes, Publish};
use crate::limits::{QUORUM_PRIORITY_MAX, REFUSED_WAITING};

/// The priority of a quorum queue's messages that have none.
pub(super) const QUORUM_PRIORITY: u8 = 4;

/// A message on its way into a queue.
pub(super) struct Arrival<'a> {
    pub(super) publish: Publish<'a>,
    pub(super) body: Body,
    /// When it came: what its entry in the log says, or now.
    pub(super) time_ms: u64,
}

impl Arrival<'_> {
    fn is_logged(&self) -> bool {
        matches!(self.body, Body::Log { .. })
    }
}

impl Queue {
    /// True if messages without attributes just join it.
    pub(super) fn is_plain(&self) -> bool {
        self.rules.is_none() && self.stream.is_none()
    }

    /// Takes a message in, as the queue's rules want it. False: it is refused. If that it does not join follows from more than
    /// the log before it, the log is to say so before anybody else is told.
    pub(super) fn admit(&mut self, arrival: Arrival<'_>, occasion: &mut Occasion<'_>) -> bool {
        let attributes = arrival.publish.attributes();
        if let Some(stream) = &mut self.stream {
            stream.push(&arrival.body, &attributes, arrival.time_ms, &self.settings);
            return true;
        }
        let logged = arrival.is_logged();
        let known = self.meet(&attributes, &arrival);
        let refused = match known.how {
            How::New => self.is_full(&arrival, occasion),
            // A replay finds the same, and drops it too.
            how if known.by_log && logged => {
                self.store.pass_by();
                return how == How::Had;
            }
            How::Had => return true,
            How::Refused => true,
        };
        if refused {
            self.refuse(arrival, &attributes, occasion);
        } else {
            self.join(arrival, &attributes);
        }
        !refused
    }

    /// Takes in a message of the log, unless the queue has had it. If it was not taken for another reason, the log says so.
    pub(super) fn replay(&mut self, arrival: Arrival<'_>) {
        if arrival.publish.is_plain() && self.is_plain() {
            self.store.push(self.level(None), arrival.body, Extra::default());
            return;
        }
        let attributes = arrival.publish.attributes();
        if let Some(stream) = &mut self.stream {
            return stream.push(&arrival.body, &attributes, arrival.time_ms, &self.settings);
        }
        if self.meet(&attributes, &arrival).by_log {
            self.store.pass_by();
            return;
        }
        let extra = self.extra(&attributes, &arrival);
        self.store.push(self.level(attributes.priority), arrival.body, extra);
    }

    fn join(&mut self, arrival: Arrival<'_>, attributes: &Attributes<'_>) {
        let extra = self.extra(attributes, &arrival);
        let position = self.store.push(self.level(attributes.priority), arrival.body, extra);
        if self.settings.kind == QueueKind::Delayed
            && let Some(rules) = &mut self.rules
        {
            rules.delayed.insert((extra.time_ms, position));
        }
    }

    /// The store's level of a message's priority.
    pub(super) fn level(&self, priority: Option<u8>) -> u8 {
        match self.settings.kind {
            QueueKind::Quorum => priority.unwrap_or(QUORUM_PRIORITY).min(QUORUM_PRIORITY_MAX),
            QueueKind::Classic => priority.unwrap_or(0).min(self.settings.max_priority),
            QueueKind::Stream | QueueKind::Delayed => 0,
        }
    }

    /// What is to be remembered of a message beside its place. Its own expiration makes rules necessary.
    fn extra(&mut self, attributes: &Attributes<'_>, arrival: &Arrival<'_>) -> Extra {
        let wait = match self.settings.kind {
            QueueKind::Delayed => Some(attributes.delay.unwrap_or(0)),
            _ => [self.settings.message_ttl, attributes.expiration].into_iter().flatten().min(),
        };
        if wait.is_some() && self.rules.is_none() {
            self.rules = Some(Rules::default().into());
        }
        let time_ms = wait.map_or(0, |millis| arrival.time_ms.saturating_add(millis).max(1));
        let overhead = match (self.settings.max_length_bytes, &arrival.body) {
            (None, _) => 0,
            (Some(_), Body::Log { .. }) => arrival.publish.overhead(),
            (Some(_), Body::Memory(message)) => (message.size() - message.body().len()) as u32,
        };
        Extra { time_ms, overhead, count: 0 }
    }

    /// True if it refuses a message because it is full.
    fn is_full(&mut self, arrival: &Arrival<'_>, occasion: &mut Occasion<'_>) -> bool {
        let bytes = arrival.publish.len() as u64 - u64::from(arrival.publish.overhead());
        if self.settings.overflow == Overflow::DropHead || !self.would_overflow(bytes) {
            return false;
        }
        // Consumers that can take what is there make room.
        self.dispatch(occasion);
        self.would_overflow(bytes)
    }

    /// True if one more message of so many octets would be too much, with the dead letters that count.
    fn would_overflow(&self, bytes: u64) -> bool {
        let over = |most: Option<u64>, used: u64| most.is_some_and(|most| used > most);
        let rules = self.rules.as_ref();
        let dead = rules.map(|rules| rules.dead.load(self.settings.dead_lettering)).unwrap_or_default();
        over(self.settings.max_length, self.store.ready() + dead.messages + 1)
            || over(self.settings.max_length_bytes, self.store.ready_bytes() + dead.bytes + bytes)
    }

    /// A message that finds the queue full is done with, or dead-lettered. It is no duplicate when it comes again.
    fn refuse(&mut self, arrival: Arrival<'_>, attributes: &Attributes<'_>, occasion: &mut Occasion<'_>) {
        let key = attributes.deduplication.filter(|_| self.settings.deduplication.is_some());
        if let (Some(key), Some(rules)) = (key, &mut self.rules) {
            rules.duplicates.get_or_insert_default().refuse(key, arrival.is_logged());
        }
        let waiting = self.rules.as_ref().map_or(0, |rules| rules.dead.waiting());
        let forwards = self.settings.overflow == Overflow::RejectPublishDeadLetter && self.forwards();
        match key.filter(|_| arrival.is_logged()) {
            key if forwards && waiting < REFUSED_WAITING => {
                let extra = self.extra(attributes, &arrival);
                let position = self.store.push(self.level(attributes.priority), arrival.body, extra);
                self.die(position, State::Ready, ForwardReason::MaxLength, occasion);
                key.into_iter().for_each(|key| occasion.done.unlearn(Unlearnt { key, message: None }));
            }
            Some(key) => self.refuse_later(key, arrival, attributes, occasion),
            None if arrival.is_logged() => occasion.done.push_awaited(self.store.pass_by()),
            None => {}
        }
    }

    /// A logged message with a key is refused: until the log says so it stays, waiting for that alone, so that it and its
    /// key go together.
    fn refuse_later(
        &mut self,
        key: u128,
        arrival: Arrival<'_>,
        attributes: &Attributes<'_>,
        occasion: &mut Occasion<'_>,
    ) {
        let sequence = self.store.next_sequence();
        let extra = self.extra(attributes, &arrival);
        let position = self.store.push(self.level(attributes.priority), arrival.body, extra);
        let aside = To::Aside { redelivered: false };
        self.store.shift(position, State::Ready, aside, occasion.done);
        if let Some(rules) = &mut self.rules {
            rules.refused += 1;
        }
        occasion.done.unlearn(Unlearnt { key, message: Some((sequence, position)) });
    }

    /// The log says of a message that it was refused.
    pub(super) fn refused(&mut self, unlearnt: Unlearnt) {
        self.unlearn(unlearnt.key);
        if let Some((_, position)) = unlearnt.message {
            // The log has it already.
            self.store.shift(position, State::Aside, To::Gone, &mut Settled::default());
            if let Some(rules) = &mut self.rules {
                rules.refused -= 1;
            }
        }
    }

    /// The log says that a message with this key was refused.
    pub(super) fn unlearn(&mut self, key: u128) {
        if let Some(duplicates) = self.rules.as_mut().and_then(|rules| rules.duplicates.as_mut()) {
            duplicates.unlearn(key);
        }
    }

    /// What is known of a message's key; from now on it is known.
    fn meet(&mut self, attributes: &Attributes<'_>, arrival: &Arrival<'_>) -> Known {
        let (Some(key), Some(rule), Some(rules)) =
            (attributes.deduplication, self.settings.deduplication, &mut self.rules)
        else {
            return Known { how: How::New, by_log: false };
        };
        rules.duplicates.get_or_insert_default().meet(key, arrival.is_logged(), arrival.time_ms, rule)
    }
}
