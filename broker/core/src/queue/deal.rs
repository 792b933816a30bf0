//! Handing messages out: to consumers in turn, or to one channel that asks.

use super::activity::QueueCounters;
use super::event::{Event, ShardOutput};
use super::holders::Holders;
use super::recent::Recent;
use super::settled::Settled;
use super::store::{Body, Found, Taker, Terms};
use super::window::ForwardWindow;
use super::{Delivery, QueueId};
use crate::location::Bodies;
use crate::message::Message;

/// Where the octets of messages are.
pub(super) struct Source<'a> {
    pub(super) recent: &'a mut Recent,
    pub(super) bodies: &'a mut dyn Bodies,
}

/// What a queue is given whenever it works.
pub(super) struct Occasion<'a> {
    /// Wall-clock milliseconds since the Unix epoch.
    pub(super) now_ms: u64,
    pub(super) source: Source<'a>,
    pub(super) out: &'a mut ShardOutput,
    /// What is to be logged as done with.
    pub(super) done: &'a mut Settled,
    pub(super) window: &'a mut ForwardWindow,
}

impl Source<'_> {
    pub(super) fn message(&mut self, body: Body) -> Message {
        match body {
            Body::Memory(message) => message,
            Body::Log { location, .. } => self.recent.message(location).unwrap_or_else(|| self.bodies.read(location)),
        }
    }

    fn delivery(&mut self, queue: QueueId, found: Found) -> Delivery {
        let Found { position, redelivered, delivery_count, body, .. } = found;
        Delivery { queue, position, redelivered, delivery_count, offset: None, message: self.message(body) }
    }
}

/// The consumers of a queue, each in turn.
pub(super) struct Turn<'a, 's> {
    pub(super) queue: QueueId,
    pub(super) holders: &'a mut Holders,
    pub(super) source: &'a mut Source<'s>,
    pub(super) out: &'a mut ShardOutput,
    /// Wall-clock milliseconds since the Unix epoch.
    pub(super) now_ms: u64,
    /// Whose turn it is, and whether it needs no acknowledgements.
    pub(super) number: u32,
    pub(super) no_ack: bool,
    pub(super) taken: Taken,
}

/// What consumers took in one go.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    messages: u64,
    no_ack: u64,
    redelivered: u64,
}

impl Taken {
    pub(super) fn count(self, counters: &mut QueueCounters) {
        counters.delivered += self.messages - self.no_ack;
        counters.delivered_no_ack += self.no_ack;
        counters.redelivered += self.redelivered;
    }
}

impl Taker for Turn<'_, '_> {
    fn next(&mut self) -> Option<Terms> {
        let (number, no_ack) = self.holders.next()?;
        (self.number, self.no_ack) = (number, no_ack);
        Some(if no_ack { Terms::Finish } else { Terms::Hold(self.holders.token(number, self.now_ms)) })
    }

    fn take(&mut self, found: Found) {
        self.taken.messages += 1;
        self.taken.no_ack += u64::from(self.no_ack);
        self.taken.redelivered += u64::from(found.redelivered);
        let delivery = self.source.delivery(self.queue, found);
        let key = self.holders.took(self.number, delivery.message.size());
        self.out.tell(key.connection, Event::Deliver(key, delivery));
    }
}

/// A channel that gets one message (`basic.get`).
pub(super) struct Getter<'a, 's> {
    pub(super) queue: QueueId,
    /// Taken by the first message.
    pub(super) terms: Option<Terms>,
    pub(super) source: &'a mut Source<'s>,
    pub(super) got: Option<Delivery>,
}

impl Taker for Getter<'_, '_> {
    fn next(&mut self) -> Option<Terms> {
        self.terms.take()
    }

    fn take(&mut self, found: Found) {
        self.got = Some(self.source.delivery(self.queue, found));
    }
}
