//! Direct reply-to: answers that go from connection to connection, past all queues (RabbitMQ).
//!
//! A client consumes from the pseudo-queue `amq.rabbitmq.reply-to` and publishes requests whose `reply-to` says so. The
//! server puts the channel's *address* in its place, and whoever publishes to the default exchange with an address as
//! the routing key reaches that consumer, at most once: a reply to nobody is dropped.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Debug, Formatter};

use bytes::Bytes;
use warren_amqp::delivery::{Content, encode_deliver};
use warren_amqp::{ReplyCode, ToClient, basic, queue};

use super::consume::{check_unused, consumer_tag};
use super::{Origin, Session, SessionOutput, World, base64url};
use crate::batch::Parts;
use crate::command::encode_publish_head;
use crate::error::Exception;
use crate::identity::ConnectionId;
use crate::message::Message;

/// The pseudo-queue, and what `reply-to` says in a request.
pub(super) const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// Characters of an address behind the pseudo-queue's name: a full stop, connection and channel, the key.
const PLACE_LEN: usize = 14;

/// Where the replies to one channel go. As a routing key: `amq.rabbitmq.reply-to.`, then connection (64 bits) and channel
/// (16 bits) in 14 characters, then the key in 22.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplyAddress {
    /// The connection of the client that asked.
    pub connection: ConnectionId,
    /// Its channel.
    pub channel: u16,
    /// The virtual host of both sides; replies do not leave it. It is not in the routing key.
    vhost: Arc<str>,
    /// What nobody can guess.
    key: u128,
}

/// A message on its way to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectReply {
    /// Where it goes.
    pub address: ReplyAddress,
    /// The message, as it was published.
    pub message: Message,
}

/// A channel's consumer of the pseudo-queue.
#[derive(Debug)]
pub(super) struct ReplyConsumer {
    tag: String,
    pub(super) address: ReplyAddress,
}

impl Debug for ReplyAddress {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        // Who knows the key can send replies.
        formatter
            .debug_struct("ReplyAddress")
            .field("connection", &self.connection)
            .field("channel", &self.channel)
            .finish()
    }
}

impl ReplyAddress {
    /// The routing key that leads there.
    pub(super) fn routing_key(&self) -> String {
        let place = u128::from(self.connection.0) << 16 | u128::from(self.channel);
        let (place, key) = (base64url::encode(place, PLACE_LEN), base64url::encode(self.key, base64url::KEY_LEN));
        format!("{DIRECT_REPLY_TO}.{place}{key}")
    }

    /// The address that makes this routing key in a virtual host; `None`: it is no address.
    pub(super) fn parse(routing_key: &str, vhost: &Arc<str>) -> Option<Self> {
        let rest = routing_key.strip_prefix(DIRECT_REPLY_TO)?.strip_prefix('.')?;
        let (place, key) = rest.split_at_checked(PLACE_LEN)?;
        let place = base64url::decode(place)?;
        let connection = ConnectionId(u64::try_from(place >> 16).ok()?);
        let vhost = Arc::clone(vhost);
        let address = Self { connection, channel: place as u16, vhost, key: base64url::decode(key)? };
        (key.len() == base64url::KEY_LEN).then_some(address)
    }
}

/// Whether a name is the pseudo-queue's or begins like an address.
pub(super) fn is_reply_name(name: &str) -> bool {
    name.strip_prefix(DIRECT_REPLY_TO).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Session {
    /// `basic.consume` of the pseudo-queue.
    pub(super) fn consume_replies(
        &mut self,
        world: &mut World<'_>,
        origin: Origin,
        consume: &basic::Consume<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let (connection, vhost) = (self.id, Arc::clone(&self.vhost));
        let channel = self.open_channel(origin)?;
        check_unused(channel, consume.consumer_tag)?;
        if channel.replies.is_some() {
            return Err(Exception::channel(ReplyCode::PreconditionFailed, "reply consumer already set"));
        }
        if !consume.no_ack {
            return Err(Exception::channel(ReplyCode::PreconditionFailed, "reply consumer cannot acknowledge"));
        }
        let tag = consumer_tag(consume.consumer_tag, world);
        let address = ReplyAddress { connection, channel: origin.channel, vhost, key: (world.random)() };
        // No consumer of a queue has the serial 0.
        channel.consumer_tags.insert(tag.clone(), 0);
        out.reply_addresses.push((address.clone(), true));
        if !consume.no_wait {
            out.send(origin.channel, &ToClient::BasicConsumeOk(basic::ConsumeOk { consumer_tag: &tag }));
        }
        channel.replies = Some(ReplyConsumer { tag, address });
        Ok(())
    }

    /// Ends a channel's consumer of replies, if that is its tag.
    pub(super) fn cancel_replies(&mut self, origin: Origin, tag: &str, out: &mut SessionOutput) {
        if let Some(channel) = self.channel(origin.channel)
            && let Some(consumer) = channel.replies.take_if(|consumer| consumer.tag == tag)
        {
            channel.consumer_tags.remove(tag);
            out.reply_addresses.push((consumer.address, false));
        }
    }

    /// `queue.declare` of the pseudo-queue or of an address: it is there, or not, and nothing comes into being. Servers
    /// ask whether a client still waits for its answer.
    pub(super) fn declare_replies(
        &self,
        world: &World<'_>,
        origin: Origin,
        declare: &queue::Declare<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let name = declare.queue;
        let is_there = name == DIRECT_REPLY_TO
            || ReplyAddress::parse(name, &self.vhost).is_some_and(|at| (world.takes_replies)(&at));
        if !is_there {
            let text = format!("no queue '{name}' in vhost '{}'", self.vhost);
            return Err(Exception::channel(ReplyCode::NotFound, text));
        }
        if !declare.no_wait {
            let ok = queue::DeclareOk { queue: name, message_count: 0, consumer_count: 1 };
            out.send(origin.channel, &ToClient::QueueDeclareOk(ok));
        }
        Ok(())
    }

    /// The `reply-to` of a request on a channel.
    pub(super) fn reply_to(&self, number: u16) -> Result<String, Exception> {
        let consumer = self.channels.get(number).and_then(|channel| channel.replies.as_ref());
        consumer
            .map(|consumer| consumer.address.routing_key())
            .ok_or_else(|| Exception::channel(ReplyCode::PreconditionFailed, "fast reply consumer does not exist"))
    }

    /// Takes in a reply for a channel of this connection. One that nobody waits for any more is dropped.
    pub fn direct_reply(&mut self, reply: &DirectReply, out: &mut SessionOutput) {
        let DirectReply { address, message } = reply;
        let frame_max = self.frame_max;
        let Some(channel) = self.channel(address.channel) else { return };
        let delivery_tag = channel.last_delivery_tag + 1;
        let Some(consumer) = channel.replies.as_ref().filter(|consumer| consumer.address == *address) else { return };
        let method = basic::Deliver {
            consumer_tag: &consumer.tag,
            delivery_tag,
            redelivered: false,
            exchange: message.exchange(),
            routing_key: message.routing_key(),
        };
        let content = Content { header_payload: message.header(), body: message.body() };
        out.count_delivery(false, true, &mut channel.counters);
        encode_deliver(address.channel, &method, content, frame_max, &mut out.octets);
        channel.last_delivery_tag = delivery_tag;
    }
}

/// Sends a message of the default exchange to those of its routing keys that are addresses; answers to how many.
#[cold]
pub(super) fn send_replies<'k>(
    parts: Parts<'k>,
    vhost: &Arc<str>,
    further_keys: impl Iterator<Item = &'k [u8]>,
    out: &mut SessionOutput,
) -> usize {
    if !parts.exchange.is_empty() {
        return 0;
    }
    let keys = core::iter::once(parts.routing_key).chain(further_keys);
    let before = out.replies.len();
    let mut addresses: Vec<ReplyAddress> = Vec::new();
    for address in keys.filter_map(|key| ReplyAddress::parse(core::str::from_utf8(key).ok()?, vhost)) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if let Some(message) = (!addresses.is_empty()).then(|| message(parts)).flatten() {
        out.replies.extend(addresses.into_iter().map(|address| DirectReply { address, message: message.clone() }));
    }
    out.replies.len() - before
}

/// The message as queues keep it, but that there is no queue.
fn message(parts: Parts<'_>) -> Option<Message> {
    let Parts { exchange, routing_key, header, body, attributes } = parts;
    let (exchange_len, key_len) = (exchange.len() as u8, routing_key.len() as u8);
    let (header_len, body_len) = (header.len() as u32, body.len() as u32);
    let mut command = Vec::new();
    let nowhere = (0, core::iter::empty());
    encode_publish_head(nowhere, exchange_len, key_len, header_len, body_len, &attributes, &mut command);
    [exchange, routing_key, header, body].iter().for_each(|part| command.extend_from_slice(part));
    Message::from_publish(Bytes::from(command)).ok()
}
