//! `basic.qos`: how many messages a client may hold unacknowledged, by consumer and by channel.
//!
//! The limit by consumer is its queue's to keep. The one by channel (`global`) is kept here: what the queues hand out
//! beyond it is put aside until acknowledgements make room, and its client has all its time to acknowledge it from when it
//! is sent. If that comes to nothing for as long as the client would have had, it goes back, and its queue hands the consumer
//! nothing more until there is room. It is not much, because a queue hands a consumer at most as much as was not sent to its
//! socket yet, one delivery window.

use alloc::format;

use warren_amqp::{ReplyCode, ToClient, basic};

use super::channel::Channel;
use super::consume::Consumer;
use super::{Origin, Session, SessionOutput};
use crate::error::Exception;
use crate::identity::{ConnectionId, ShardId};
use crate::queue::{Delivery, ShardInput};

/// The limits of a channel; 0 is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Prefetch {
    /// For each consumer that starts from now on.
    pub(super) consumer: u16,
    /// For all of them together.
    pub(super) channel: u16,
}

/// A message for a consumer, which may have to wait until the client has acknowledged others.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) shard: ShardId,
    /// The consumer's.
    pub(super) serial: u32,
    pub(super) delivery: Delivery,
}

impl Aside {
    /// Has the time begin that its client may hold it, or (`sent` is false) wait until it is sent.
    pub(super) fn set_time(&self, consumer: &Consumer, connection: ConnectionId, sent: bool, out: &mut SessionOutput) {
        if consumer.timed {
            let Delivery { queue, position, .. } = self.delivery;
            let consumer = consumer.key(connection, self.serial);
            out.tell(self.shard, ShardInput::Aside { queue, consumer, position, sent });
        }
    }
}

impl Prefetch {
    /// How many messages a queue may hand a new consumer: no more than its channel will take.
    pub(super) fn of_consumer(self) -> u16 {
        match (self.consumer, self.channel) {
            (0, limit) | (limit, 0) => limit,
            (consumer, channel) => consumer.min(channel),
        }
    }
}

impl Channel {
    /// True if its client holds as many messages as it wants. Those that it got one by one do not count, as in RabbitMQ.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        let limit = usize::from(self.prefetch.channel);
        limit > 0 && self.unacked.consumed() >= limit
    }
}

impl Session {
    /// Sets a limit. A client that calls is at work, so the time that it may hold messages begins anew.
    pub(super) fn basic_qos(
        &mut self,
        origin: Origin,
        qos: basic::Qos,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        if qos.prefetch_size != 0 {
            let text = format!("prefetch_size!=0 ({})", qos.prefetch_size);
            return Err(Exception::connection(ReplyCode::NotImplemented, text));
        }
        let key = self.key_of(origin.channel);
        let channel = self.open_channel(origin)?;
        // RabbitMQ 4.3 gives each consumer a limit of its own all the same. Clients of its earlier versions count on one limit.
        let limit = if qos.global { &mut channel.prefetch.channel } else { &mut channel.prefetch.consumer };
        *limit = qos.prefetch_count;
        for (shard, queue) in channel.unacked.queues() {
            out.tell(shard, ShardInput::Extend { queue, channel: key });
        }
        out.send(origin.channel, &ToClient::BasicQosOk(basic::QosOk));
        self.resume_deliveries(origin.channel, out);
        Ok(())
    }
}
