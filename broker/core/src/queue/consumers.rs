//! A queue's consumers: who is taken, who is served, and who is ended because it holds a message for too long.

use super::deal::Occasion;
use super::deaths::FORWARDER;
use super::event::{Event, SubscribeRefusal};
use super::holders::Service;
use super::{Queue, QueueKind, Settlement, Subscription};
use crate::identity::ConsumerKey;
use crate::limits::STREAM_CONSUMERS;

impl Queue {
    /// Why it does not take one more consumer. RabbitMQ's quorum queues and streams know no exclusive consumers and take
    /// all of them; its classic queues with a single active consumer take none.
    pub(super) fn refusal(&self, subscription: &Subscription) -> Option<SubscribeRefusal> {
        let exclusive = self.settings.kind == QueueKind::Classic
            && (self.holders.has_exclusive_consumer()
                || subscription.exclusive
                    && (self.settings.single_active_consumer || self.holders.consumer_count() > 0));
        let too_many = self.stream.is_some() && self.holders.count() >= STREAM_CONSUMERS as usize;
        let refusals = [(exclusive, SubscribeRefusal::ExclusiveUse), (too_many, SubscribeRefusal::TooManyConsumers)];
        refusals.into_iter().find(|(refuses, _)| *refuses).map(|(_, refusal)| refusal)
    }

    pub(super) fn add_consumer(&mut self, key: ConsumerKey, mut subscription: Subscription, now_ms: u64) {
        if self.holders.consumer_count() == 0 {
            self.holders.serve(self.service());
        }
        let Some(stream) = &mut self.stream else {
            subscription.consumer_timeout = subscription.consumer_timeout.or(self.settings.consumer_timeout);
            self.holders.subscribe(key, subscription);
            return;
        };
        // What a reader holds is not kept from anybody.
        subscription.consumer_timeout = None;
        let reading = subscription.stream.take().unwrap_or_default();
        let number = self.holders.subscribe(key, subscription);
        stream.readers.attach(number, &reading, &stream.messages, now_ms);
    }

    /// Whom it serves.
    fn service(&self) -> Service {
        match self.settings.kind {
            QueueKind::Stream => Service::Readers,
            kind if self.settings.single_active_consumer => {
                Service::SingleActive { takeover: kind == QueueKind::Quorum }
            }
            _ => Service::Turns,
        }
    }

    /// The time of the message at `position`, if `key` holds it, begins now, or (`sent` is false) when its client is sent it.
    pub(super) fn set_time(&mut self, key: ConsumerKey, position: u64, sent: bool, now_ms: u64) {
        if let Some(token) = self.store.token_mut(position)
            && *token != FORWARDER
            && self.holders.is_held_by(*token, key)
        {
            *token = self.holders.set_time(*token, sent, now_ms);
        }
    }

    /// Ends whoever has held a message for too long, and takes back what it holds. For RabbitMQ that is no failed delivery.
    /// What has waited for so long for a client that has no room for it is asked for.
    pub(super) fn end_overdue(&mut self, occasion: &mut Occasion<'_>) {
        for key in self.holders.recall(occasion.now_ms) {
            occasion.out.tell(key.connection, Event::Recalled(key));
        }
        let overdue = self.holders.overdue(occasion.now_ms);
        if overdue.is_empty() {
            return;
        }
        for key in overdue {
            let held = self.holders.end(key);
            self.take_back(held, Settlement::Requeue, occasion, |holders, token| holders.is_held_by(token, key));
            self.holders.forget(key);
            occasion.out.tell(key.connection, Event::ConsumerTimedOut(key, self.id));
        }
        self.used(occasion.now_ms);
        if self.is_unused() {
            occasion.out.unused.push(self.id);
        }
    }
}
