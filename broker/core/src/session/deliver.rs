//! Messages to the client, by consumers and gets, and consumers that end without having asked for it.

use alloc::borrow::Cow;
use alloc::format;

use warren_amqp::delivery::{Content, encode_deliver, encode_get_ok};
use warren_amqp::{ReplyCode, ToClient, basic};

use super::channel::Channel;
use super::consume::{Consumer, count_field};
use super::declare::Reply;
use super::prefetch::Aside;
use super::trace::{Seen, Tracing};
use super::unacked::{Held, Holder};
use super::{Origin, Session, SessionOutput, Waiting};
use crate::error::Exception;
use crate::header;
use crate::identity::{ChannelKey, ConsumerKey, QueueId, ShardId};
use crate::queue::{Delivery, PositionRange, Settlement};
use crate::topology::QueueRecord;

impl Session {
    /// Answers a `basic.get` that found a message.
    pub(super) fn got(
        &mut self,
        origin: Origin,
        queue: &QueueRecord,
        delivery: &Delivery,
        ready: u64,
        no_ack: bool,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let (number, frame_max) = (origin.channel, self.frame_max);
        let channel = self.open_channel(origin)?;
        let held = Held { shard: queue.shard, queue: queue.id, position: delivery.position, holder: Holder::GET };
        let delivery_tag = channel.next_delivery_tag((!no_ack).then_some(held));
        let message = &delivery.message;
        let method = basic::GetOk {
            delivery_tag,
            redelivered: delivery.redelivered,
            exchange: message.exchange(),
            routing_key: message.routing_key(),
            message_count: count_field(ready),
        };
        let header = header_of(delivery);
        let content = Content { header_payload: &header, body: message.body() };
        out.count_get(delivery.redelivered, no_ack, &mut channel.counters);
        encode_get_ok(number, &method, content, frame_max, &mut out.octets);
        if let Some(tracing) = &mut self.tracing {
            tracing.sent(number, queue.id, Seen::sent(message), (!no_ack).then_some(delivery_tag), out);
        }
        Ok(())
    }

    /// Takes in a message for a consumer. It is sent, unless the channel's client holds as many as it wants; one whose
    /// consumer has ended goes back.
    pub(super) fn deliver(&mut self, shard: ShardId, key: ConsumerKey, delivery: Delivery, out: &mut SessionOutput) {
        let serial = key.serial;
        let Some(consumer) = self.consumers.get_mut(serial) else {
            // Unless everything of the queue has been given back.
            if self.touched.contains(shard, delivery.queue) {
                give_back(shard, key.on_channel(), &delivery, out);
            }
            return;
        };
        let Some(channel) = self.channels.get_mut(consumer.channel) else {
            return;
        };
        let waits = !consumer.no_ack && channel.is_full();
        let aside = Aside { shard, serial, delivery };
        if waits {
            aside.set_time(consumer, self.id, false, out);
            channel.aside.push_back(aside);
        } else if send(&aside, (consumer, channel), self.frame_max, self.tracing.as_deref_mut(), out) {
            self.grants_due.push(serial);
        }
    }

    /// What was put aside for a consumer has waited for too long, and goes back for others to have it.
    pub(super) fn recalled(&mut self, key: ConsumerKey, out: &mut SessionOutput) {
        let Some(consumer) = self.consumers.get_mut(key.serial) else { return };
        let Some(channel) = self.channels.get_mut(consumer.channel) else { return };
        channel.aside.retain(|aside| {
            let stays = aside.serial != key.serial;
            if !stays {
                give_back(aside.shard, key.on_channel(), &aside.delivery, out);
                consumer.sent(aside.delivery.message.size());
            }
            stays
        });
        channel.recalled.insert(key.serial);
        self.resume_deliveries(key.channel, out);
    }

    /// Sends what was put aside, as far as there is room now. If there is room behind it, queues that have what they handed
    /// out again hand it out anew.
    pub(super) fn resume_deliveries(&mut self, number: u16, out: &mut SessionOutput) {
        let Some(channel) = self.channels.get_mut(number) else {
            return;
        };
        while !channel.is_full()
            && let Some(aside) = channel.aside.pop_front()
        {
            // What was put aside goes with its consumer.
            let Some(consumer) = self.consumers.get_mut(aside.serial) else { continue };
            aside.set_time(consumer, self.id, true, out);
            if send(&aside, (consumer, channel), self.frame_max, self.tracing.as_deref_mut(), out) {
                self.grants_due.push(aside.serial);
            }
        }
        if channel.is_full() || channel.recalled.is_empty() {
            return;
        }
        for serial in core::mem::take(&mut channel.recalled) {
            if let Some(consumer) = self.consumers.get_mut(serial) {
                let (shard, grant) = consumer.grant(self.id, serial);
                out.tell(shard, grant);
            }
        }
    }

    /// A consumer's queue is gone: tells a client that announced `consumer_cancel_notify` (RabbitMQ extension).
    pub(super) fn consumer_cancelled(&mut self, serial: u32, out: &mut SessionOutput) {
        let Some(consumer) = self.forget_consumer(serial) else { return };
        match &mut self.waiting {
            Some(Waiting::Metadata { origin, reply: Reply::QueueDeleteOk { cancelled, .. } })
                if origin.channel == consumer.channel =>
            {
                cancelled.push(consumer);
            }
            _ => self.notify_of_cancel(&consumer, out),
        }
    }

    /// Somebody has held a message for too long, and all that it held has gone back: a consumer ends with `basic.cancel`
    /// where the client understands that. A channel with a client that does not, or one that got its messages one by
    /// one, is closed (RabbitMQ).
    pub(super) fn timed_out(&mut self, shard: ShardId, queue: QueueId, key: ConsumerKey, out: &mut SessionOutput) {
        let consumer = self.forget_consumer(key.serial);
        let holder = if key.serial == 0 { Holder::GET } else { Holder::of(key.serial) };
        let channel = self.channels.get_mut(key.channel);
        let forgotten = channel.map_or(0, |channel| channel.unacked.forget(shard, queue, holder));
        self.resume_deliveries(key.channel, out);
        match consumer {
            Some(consumer) if self.capabilities.consumer_cancel_notify => self.notify_of_cancel(&consumer, out),
            // It had ended before, and what it held has gone back all the same. Or what was got is settled meanwhile, perhaps
            // with its channel: then this one was opened since.
            None if key.serial != 0 || forgotten == 0 => {}
            _ if self.channel(key.channel).is_none() => {}
            _ => {
                let text = format!(
                    "delivery acknowledgement on channel {} timed out. This timeout value can be configured, \
                     see consumers doc guide to learn more",
                    key.channel
                );
                self.close_channel(Origin::none(key.channel), ReplyCode::PreconditionFailed, &text, out);
            }
        }
    }

    pub(super) fn notify_of_cancel(&self, consumer: &Consumer, out: &mut SessionOutput) {
        if self.capabilities.consumer_cancel_notify {
            let cancel = basic::Cancel { consumer_tag: &consumer.tag, no_wait: true };
            out.send(consumer.channel, &ToClient::BasicCancel(cancel));
        }
    }

    /// Ends a consumer. Messages that it was about to be sent go back.
    pub(super) fn end_consumer(&mut self, serial: u32, out: &mut SessionOutput) -> Option<Consumer> {
        let consumer = self.consumers.get(serial)?;
        let holder = self.key_of(consumer.channel);
        if let Some(channel) = self.channels.get_mut(consumer.channel) {
            let of_it = channel.aside.iter().filter(|aside| aside.serial == serial);
            of_it.for_each(|aside| give_back(aside.shard, holder, &aside.delivery, out));
        }
        self.forget_consumer(serial)
    }

    /// Forgets a consumer whose messages are in its queue again, or gone with it.
    fn forget_consumer(&mut self, serial: u32) -> Option<Consumer> {
        let consumer = self.consumers.remove(serial)?;
        if let Some(channel) = self.channels.get_mut(consumer.channel) {
            channel.consumer_tags.remove(&*consumer.tag);
            channel.aside.retain(|aside| aside.serial != serial);
        }
        Some(consumer)
    }
}

/// Writes a message for its consumer; true if its queue should hear of it.
#[inline]
fn send(
    aside: &Aside,
    (consumer, channel): (&mut Consumer, &mut Channel),
    frame_max: u32,
    tracing: Option<&mut Tracing>,
    out: &mut SessionOutput,
) -> bool {
    let Aside { shard, serial, delivery } = aside;
    let Delivery { queue, position, redelivered, message, .. } = delivery;
    let held = Held { shard: *shard, queue: *queue, position: *position, holder: Holder::of(*serial) };
    let method = basic::Deliver {
        consumer_tag: &consumer.tag,
        delivery_tag: channel.next_delivery_tag((!consumer.no_ack).then_some(held)),
        redelivered: *redelivered,
        exchange: message.exchange(),
        routing_key: message.routing_key(),
    };
    let header = header_of(delivery);
    let content = Content { header_payload: &header, body: message.body() };
    out.count_delivery(*redelivered, consumer.no_ack, &mut channel.counters);
    encode_deliver(consumer.channel, &method, content, frame_max, &mut out.octets);
    if let Some(tracing) = tracing {
        let tag = (!consumer.no_ack).then_some(method.delivery_tag);
        tracing.sent(consumer.channel, *queue, Seen::sent(message), tag, out);
    }
    consumer.sent(message.size())
}

/// A message that was not sent goes back to its queue as if nothing had happened.
pub(super) fn give_back(shard: ShardId, holder: ChannelKey, delivery: &Delivery, out: &mut SessionOutput) {
    let range = PositionRange { first: delivery.position, len: 1 };
    out.shards.settle(shard, delivery.queue, holder, range, Settlement::Return);
}

/// The content header to send: as it came, but with what the queue has counted.
#[inline]
fn header_of(delivery: &Delivery) -> Cow<'_, [u8]> {
    let Delivery { message, delivery_count, offset, .. } = delivery;
    if *delivery_count == 0 && offset.is_none() {
        return Cow::Borrowed(message.header());
    }
    Cow::Owned(header::delivered(message.header(), *delivery_count, *offset))
}
