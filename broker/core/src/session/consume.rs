//! `basic.consume`, `basic.cancel`, `basic.get`, and the questions that a queue's shard answers.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use warren_amqp::{ReplyCode, ToClient, basic, queue};

use super::channel::Channel;
use super::deliver::give_back;
use super::direct_reply::DIRECT_REPLY_TO;
use super::subscription::{Terms, check_arguments, exclusive_use, no_consumers};
use super::{Origin, Session, SessionOutput, Waiting, World, base64url};
use crate::error::Exception;
use crate::identity::{ConnectionId, ConsumerKey, QueueId, ShardId};
use crate::limits::{
    CONSUMERS_PER_CHANNEL, CONSUMERS_PER_CONNECTION, DELIVERY_WINDOW_BYTES, DELIVERY_WINDOW_MESSAGES, STREAM_CONSUMERS,
};
use crate::queue::{Event, QueueKind, QueueSettings, ShardInput, SubscribeRefusal, Subscription};
use crate::topology::{QueueRecord, Topology, Verb};

/// A consumer as its connection knows it.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) shard: ShardId,
    pub(super) queue: QueueId,
    pub(super) channel: u16,
    pub(super) tag: Arc<str>,
    pub(super) no_ack: bool,
    /// As the client sent them.
    pub(super) arguments: Box<[u8]>,
    /// It may not hold messages for as long as it likes.
    pub(super) timed: bool,
    /// Sent to the socket since the last grant.
    sent_messages: u32,
    sent_bytes: u64,
}

/// What to answer once a shard has.
#[derive(Debug)]
pub(super) enum Reply {
    ConsumeOk { serial: u32, queue: Arc<QueueRecord>, no_wait: bool },
    CancelOk { serial: u32, tag: Arc<str>, no_wait: bool },
    Get { queue: Arc<QueueRecord>, no_ack: bool },
    DeclareOk { queue: Arc<QueueRecord>, no_wait: bool },
    PurgeOk { no_wait: bool },
}

impl Reply {
    /// True if a shard's `event` is what it waits for.
    pub(super) fn expects(&self, event: &Event) -> bool {
        match (self, event) {
            (Self::ConsumeOk { serial, .. }, Event::Subscribed(key, _))
            | (Self::CancelOk { serial, .. }, Event::Unsubscribed(key)) => *serial == key.serial,
            (Self::Get { .. }, Event::Got(_))
            | (Self::DeclareOk { .. }, Event::Counted(_))
            | (Self::PurgeOk { .. }, Event::Purged(_)) => true,
            _ => false,
        }
    }
}

impl Consumer {
    pub(super) fn is_on(&self, channel: u16) -> bool {
        self.channel == channel
    }

    pub(super) fn key(&self, connection: ConnectionId, serial: u32) -> ConsumerKey {
        ConsumerKey { connection, channel: self.channel, serial }
    }

    /// Counts a delivery; true if it is the one that makes a grant worth while.
    pub(super) fn sent(&mut self, bytes: usize) -> bool {
        let was_due = self.grant_is_due();
        self.sent_messages += 1;
        self.sent_bytes += bytes as u64;
        !was_due && self.grant_is_due()
    }

    /// Half the window has been used up. Later, and the queue might wait for us; earlier costs an input each.
    fn grant_is_due(&self) -> bool {
        self.sent_messages >= DELIVERY_WINDOW_MESSAGES / 2 || self.sent_bytes >= DELIVERY_WINDOW_BYTES / 2
    }

    pub(super) fn grant(&mut self, connection: ConnectionId, serial: u32) -> (ShardId, ShardInput) {
        let (messages, bytes) = (core::mem::take(&mut self.sent_messages), core::mem::take(&mut self.sent_bytes));
        let consumer = self.key(connection, serial);
        (self.shard, ShardInput::Grant { queue: self.queue, consumer, messages, bytes })
    }
}

impl Session {
    pub(super) fn basic_consume(
        &mut self,
        world: &mut World<'_>,
        origin: Origin,
        consume: &basic::Consume<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        check_arguments(consume.arguments)?;
        if consume.queue == DIRECT_REPLY_TO {
            return self.consume_replies(world, origin, consume, out);
        }
        check_unused(self.open_channel(origin)?, consume.consumer_tag)?;
        let queue = self.find_queue(world.topology, origin, consume.queue, Verb::Consume)?;
        let tag = consumer_tag(consume.consumer_tag, world);
        let serial = self.last_serial.wrapping_add(1);
        let on_connection = self.consumers.len();
        let channel = self.open_channel(origin)?;
        if channel.consumer_tags.len() >= CONSUMERS_PER_CHANNEL {
            let text = format!("consumer limit per channel of {CONSUMERS_PER_CHANNEL} reached");
            return Err(Exception::channel(ReplyCode::PreconditionFailed, text));
        }
        if on_connection >= CONSUMERS_PER_CONNECTION {
            let text = format!("consumer limit per connection of {CONSUMERS_PER_CONNECTION} reached");
            return Err(Exception::channel(ReplyCode::PreconditionFailed, text));
        }
        let limits = channel.prefetch;
        let settings = world.topology.settings(&queue);
        let terms = Terms { consume, settings: &settings, queue: &queue.name, vhost: &self.vhost, prefetch: limits };
        let subscription = terms.subscription()?;
        let channel = self.open_channel(origin)?;
        channel.consumer_tags.insert(tag.clone(), serial);
        self.last_serial = serial;
        let consumer = Consumer {
            shard: queue.shard,
            queue: queue.id,
            channel: origin.channel,
            tag: Arc::from(tag),
            no_ack: consume.no_ack,
            arguments: Box::from(consume.arguments.octets()),
            timed: is_timed(&subscription, &settings),
            sent_messages: 0,
            sent_bytes: 0,
        };
        let key = consumer.key(self.id, serial);
        self.touched.insert(queue.shard, queue.id);
        self.consumers.insert(serial, consumer);
        let input = ShardInput::Subscribe { queue: queue.id, consumer: key, subscription };
        let no_wait = consume.no_wait;
        self.ask_shard(origin, queue.clone(), input, Reply::ConsumeOk { serial, queue, no_wait }, out);
        Ok(())
    }

    pub(super) fn basic_cancel(
        &mut self,
        origin: Origin,
        cancel: &basic::Cancel<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let serial = self.open_channel(origin)?.consumer_tags.get(cancel.consumer_tag).copied();
        let Some((serial, consumer)) = serial.and_then(|serial| Some((serial, self.consumers.get(serial)?))) else {
            self.cancel_replies(origin, cancel.consumer_tag, out);
            // Cancelling an unknown tag is answered as if it had been known (RabbitMQ).
            if !cancel.no_wait {
                let ok = basic::CancelOk { consumer_tag: cancel.consumer_tag };
                out.send(origin.channel, &ToClient::BasicCancelOk(ok));
            }
            return Ok(());
        };
        // Waits, so that what is on its way to the consumer is delivered before cancel-ok.
        let unsubscribe = ShardInput::Unsubscribe { queue: consumer.queue, consumer: consumer.key(self.id, serial) };
        out.tell(consumer.shard, unsubscribe);
        let reply = Reply::CancelOk { serial, tag: consumer.tag.clone(), no_wait: cancel.no_wait };
        self.waiting = Some(Waiting::Shard { origin, reply });
        Ok(())
    }

    pub(super) fn basic_get(
        &mut self,
        world: &World<'_>,
        origin: Origin,
        get: &basic::Get<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let queue = self.find_queue(world.topology, origin, get.queue, Verb::Get)?;
        self.check_kind(world.topology, &queue, "basic.get")?;
        let holder = ConsumerKey { connection: self.id, channel: origin.channel, serial: 0 };
        self.touched.insert(queue.shard, queue.id);
        let input = ShardInput::Get { queue: queue.id, holder, no_ack: get.no_ack };
        self.ask_shard(origin, queue.clone(), input, Reply::Get { queue, no_ack: get.no_ack }, out);
        Ok(())
    }

    /// Streams are only read, and from the stores of delayed exchanges nobody takes.
    fn check_kind(&self, topology: &Topology, queue: &QueueRecord, method: &str) -> Result<(), Exception> {
        match topology.settings(queue).kind {
            QueueKind::Delayed if method == "basic.get" => Err(no_consumers(&queue.name, &self.vhost)),
            QueueKind::Classic | QueueKind::Quorum | QueueKind::Delayed => Ok(()),
            QueueKind::Stream => Err(Exception::connection(
                ReplyCode::NotImplemented,
                format!("{method} not supported by stream queues queue '{}' in vhost '{}'", queue.name, self.vhost),
            )),
        }
    }

    pub(super) fn queue_purge(
        &mut self,
        world: &World<'_>,
        origin: Origin,
        purge: &queue::Purge<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let queue = self.find_queue(world.topology, origin, purge.queue, Verb::Purge)?;
        self.check_kind(world.topology, &queue, "queue.purge")?;
        let input = ShardInput::Purge { queue: queue.id, connection: self.id };
        self.ask_shard(origin, queue, input, Reply::PurgeOk { no_wait: purge.no_wait }, out);
        Ok(())
    }

    /// Asks for the counts of `queue.declare-ok`.
    pub(super) fn count(&mut self, origin: Origin, queue: Arc<QueueRecord>, no_wait: bool, out: &mut SessionOutput) {
        let input = ShardInput::Count { queue: queue.id, connection: self.id };
        self.ask_shard(origin, queue.clone(), input, Reply::DeclareOk { queue, no_wait }, out);
    }

    fn ask_shard(
        &mut self,
        origin: Origin,
        queue: Arc<QueueRecord>,
        input: ShardInput,
        reply: Reply,
        out: &mut SessionOutput,
    ) {
        out.tell(queue.shard, input);
        self.waiting = Some(Waiting::Shard { origin, reply });
    }

    /// The queue of that name, if this connection may use it.
    fn find_queue(
        &mut self,
        topology: &Topology,
        origin: Origin,
        name: &str,
        verb: Verb,
    ) -> Result<Arc<QueueRecord>, Exception> {
        let name = self.queue_name(origin, name)?;
        topology.accessible_queue(&self.identity, &self.vhost, &name, self.id, verb)
    }

    fn no_queue(&self, name: &str) -> Exception {
        Exception::channel(ReplyCode::NotFound, format!("no queue '{name}' in vhost '{}'", self.vhost))
    }

    /// Carries on with the method that waited for a shard.
    pub(super) fn shard_answered(
        &mut self,
        origin: Origin,
        reply: Reply,
        answer: Event,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        match (reply, answer) {
            (Reply::ConsumeOk { serial, queue, no_wait }, Event::Subscribed(_, result)) => {
                self.subscribed(origin, serial, &queue, result, no_wait, out)
            }
            (Reply::CancelOk { serial, tag, no_wait }, Event::Unsubscribed(_)) => {
                self.end_consumer(serial, out);
                if !no_wait {
                    out.send(origin.channel, &ToClient::BasicCancelOk(basic::CancelOk { consumer_tag: &tag }));
                }
                Ok(())
            }
            (Reply::Get { queue, no_ack }, Event::Got(got)) => {
                match got {
                    None => {
                        out.counts.get_empty += 1;
                        self.open_channel(origin)?.counters.get_empty += 1;
                        out.send(origin.channel, &ToClient::BasicGetEmpty(basic::GetEmpty));
                    }
                    Some((delivery, ready)) => self.got(origin, &queue, &delivery, ready, no_ack, out)?,
                }
                Ok(())
            }
            (Reply::DeclareOk { queue, no_wait }, Event::Counted(counts)) => {
                let (ready, consumers) = counts.ok_or_else(|| self.no_queue(&queue.name))?;
                if !no_wait {
                    let ok = queue::DeclareOk {
                        queue: &queue.name,
                        message_count: count_field(ready),
                        consumer_count: count_field(consumers),
                    };
                    out.send(origin.channel, &ToClient::QueueDeclareOk(ok));
                }
                Ok(())
            }
            (Reply::PurgeOk { no_wait }, Event::Purged(count)) => {
                if !no_wait {
                    let ok = queue::PurgeOk { message_count: count_field(count) };
                    out.send(origin.channel, &ToClient::QueuePurgeOk(ok));
                }
                Ok(())
            }
            // It expects nothing else.
            _ => Ok(()),
        }
    }

    /// A shard has answered a method whose channel we have closed meanwhile, because a message was held on it for too long,
    /// say. The client is told no more of that channel.
    pub(super) fn answered_too_late(&self, origin: Origin, reply: &Reply, answer: &Event, out: &mut SessionOutput) {
        if let (Reply::Get { queue, no_ack: false }, Event::Got(Some((delivery, _)))) = (reply, answer) {
            give_back(queue.shard, self.key_of(origin.channel), delivery, out);
        }
    }

    fn subscribed(
        &mut self,
        origin: Origin,
        serial: u32,
        queue: &QueueRecord,
        result: Result<(), SubscribeRefusal>,
        no_wait: bool,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let Err(refusal) = result else {
            if let (Some(consumer), false) = (self.consumers.get(serial), no_wait) {
                let ok = basic::ConsumeOk { consumer_tag: &consumer.tag };
                out.send(origin.channel, &ToClient::BasicConsumeOk(ok));
            }
            return Ok(());
        };
        self.end_consumer(serial, out);
        Err(match refusal {
            SubscribeRefusal::QueueGone => self.no_queue(&queue.name),
            SubscribeRefusal::ExclusiveUse => exclusive_use(&queue.name, &self.vhost),
            SubscribeRefusal::TooManyConsumers => Exception::channel(
                ReplyCode::PreconditionFailed,
                format!("consumer limit per stream of {STREAM_CONSUMERS} reached"),
            ),
        })
    }
}

/// True if a consumer may hold messages for a limited time only.
fn is_timed(subscription: &Subscription, settings: &QueueSettings) -> bool {
    let timeout = subscription.consumer_timeout.or(settings.consumer_timeout);
    timeout.is_some() && !subscription.no_ack && subscription.stream.is_none()
}

/// The tag that the client gave, or one that nobody else has.
pub(super) fn consumer_tag(given: &str, world: &mut World<'_>) -> String {
    match given {
        "" => format!("amq.ctag-{}", base64url::encode((world.random)(), base64url::KEY_LEN)),
        tag => tag.to_string(),
    }
}

/// A tag names one consumer of its channel.
pub(super) fn check_unused(channel: &Channel, tag: &str) -> Result<(), Exception> {
    if channel.consumer_tags.contains_key(tag) {
        return Err(Exception::connection(ReplyCode::NotAllowed, format!("attempt to reuse consumer tag '{tag}'")));
    }
    Ok(())
}

/// A count as its 32-bit field takes it.
pub(super) fn count_field(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
