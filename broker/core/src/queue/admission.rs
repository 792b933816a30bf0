//! What becomes of a message that comes: it joins its queue, is refused, or has been there before.

use super::deal::Occasion;
use super::rules::Rules;
use super::store::{Body, Extra, State};
use super::{DeadLettering, ForwardReason, Overflow, Queue, QueueKind};
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

impl Queue {
    /// True if messages without attributes just join it.
    pub(super) fn is_plain(&self) -> bool {
        self.rules.is_none() && self.stream.is_none()
    }

    /// Takes a message in, as the queue's rules want it. False: it is refused.
    pub(super) fn admit(&mut self, arrival: Arrival<'_>, occasion: &mut Occasion<'_>) -> bool {
        let attributes = arrival.publish.attributes();
        if let Some(stream) = &mut self.stream {
            stream.push(&arrival.body, &attributes, arrival.time_ms, &self.settings);
            return true;
        }
        if self.is_duplicate(&attributes, &arrival) {
            if let Body::Log { .. } = arrival.body {
                occasion.done.push(self.store.pass_by());
            }
            return true;
        }
        let extra = self.extra(&attributes, &arrival);
        let bytes = arrival.publish.len() as u64 - u64::from(arrival.publish.overhead());
        if self.settings.overflow != Overflow::DropHead && self.would_overflow(bytes) {
            // Consumers that can take what is there make room.
            self.dispatch(occasion);
            if self.would_overflow(bytes) {
                self.refuse(arrival, &attributes, extra, occasion);
                return false;
            }
        }
        self.join(arrival, &attributes, extra);
        true
    }

    /// Takes in a message of the log. Whether it was really taken, a settlement in the log says.
    pub(super) fn replay(&mut self, arrival: Arrival<'_>) {
        if arrival.publish.is_plain() && self.is_plain() {
            self.store.push(self.level(None), arrival.body, Extra::default());
            return;
        }
        let attributes = arrival.publish.attributes();
        if let Some(stream) = &mut self.stream {
            return stream.push(&arrival.body, &attributes, arrival.time_ms, &self.settings);
        }
        self.is_duplicate(&attributes, &arrival);
        let extra = self.extra(&attributes, &arrival);
        self.store.push(self.level(attributes.priority), arrival.body, extra);
    }

    fn join(&mut self, arrival: Arrival<'_>, attributes: &Attributes<'_>, extra: Extra) {
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

    /// True if one more message of so many octets would be too much. Dead letters that must arrive count until they have, as
    /// in RabbitMQ: their queue would grow for ever if they can go nowhere.
    fn would_overflow(&self, bytes: u64) -> bool {
        let over = |most: Option<u64>, used: u64| most.is_some_and(|most| used > most);
        let kept = self.rules.as_ref().filter(|_| self.settings.dead_lettering == DeadLettering::AtLeastOnce);
        let (dead, dead_bytes) = kept.map_or((0, 0), |rules| (rules.dead.count(), rules.dead.bytes()));
        over(self.settings.max_length, self.store.ready() + dead + 1)
            || over(self.settings.max_length_bytes, self.store.ready_bytes() + dead_bytes + bytes)
    }

    /// A message that finds the queue full is done with, or dead-lettered. It is no duplicate when it comes again.
    fn refuse(&mut self, arrival: Arrival<'_>, attributes: &Attributes<'_>, extra: Extra, occasion: &mut Occasion<'_>) {
        let logged = matches!(arrival.body, Body::Log { .. });
        if let (Some(key), Some(_), Some(rules)) =
            (attributes.deduplication, self.settings.deduplication, &mut self.rules)
        {
            rules.duplicates.get_or_insert_default().unlearn(key, logged);
            if logged {
                occasion.done.unlearn(key);
            }
        }
        let waiting = self.rules.as_ref().map_or(0, |rules| rules.dead.waiting());
        let forwards = self.settings.overflow == Overflow::RejectPublishDeadLetter && self.forwards();
        if forwards && waiting < REFUSED_WAITING {
            let position = self.store.push(self.level(attributes.priority), arrival.body, extra);
            self.die(position, State::Ready, ForwardReason::MaxLength, occasion);
        } else if logged {
            occasion.done.push(self.store.pass_by());
        }
    }

    /// True if the queue has had the message; from now on it has.
    fn is_duplicate(&mut self, attributes: &Attributes<'_>, arrival: &Arrival<'_>) -> bool {
        let (Some(key), Some(rule), Some(rules)) =
            (attributes.deduplication, self.settings.deduplication, &mut self.rules)
        else {
            return false;
        };
        let duplicates = rules.duplicates.get_or_insert_default();
        let known = duplicates.knows(key, arrival.time_ms, rule);
        duplicates.learn(key, matches!(arrival.body, Body::Log { .. }), arrival.time_ms, rule);
        known
    }
}
