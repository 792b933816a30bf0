//! What a session says about its connection when somebody asks. Nothing here changes what it does.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::channel::Channel;
use super::{Confirms, Session, State};
use crate::identity::{ConsumerKey, QueueId, ShardId};

/// How often things were done on a channel. Named after RabbitMQ's `message_stats`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChannelCounters {
    /// Messages that the client published.
    pub published: u64,
    /// Publishes confirmed to it.
    pub confirmed: u64,
    /// Messages that no queue wanted, sent back to it.
    pub returned: u64,
    /// Messages that no queue wanted, dropped.
    pub dropped: u64,
    /// Messages sent to consumers that acknowledge.
    pub delivered: u64,
    /// Messages sent to consumers that do not acknowledge.
    pub delivered_no_ack: u64,
    /// Messages that the client got, to be acknowledged.
    pub got: u64,
    /// Messages that the client got without acknowledgement.
    pub got_no_ack: u64,
    /// Gets that found no message.
    pub get_empty: u64,
    /// Of what it was sent and got, what had been handed out before.
    pub redelivered: u64,
    /// Messages that the client acknowledged.
    pub acknowledged: u64,
}

impl ChannelCounters {
    /// How much more these are than what they were before. If that was another channel's, whose number this one has, all
    /// of them.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let less = |now: u64, before: u64| now.checked_sub(before);
        let difference = || {
            Some(Self {
                published: less(self.published, before.published)?,
                confirmed: less(self.confirmed, before.confirmed)?,
                returned: less(self.returned, before.returned)?,
                dropped: less(self.dropped, before.dropped)?,
                delivered: less(self.delivered, before.delivered)?,
                delivered_no_ack: less(self.delivered_no_ack, before.delivered_no_ack)?,
                got: less(self.got, before.got)?,
                got_no_ack: less(self.got_no_ack, before.got_no_ack)?,
                get_empty: less(self.get_empty, before.get_empty)?,
                redelivered: less(self.redelivered, before.redelivered)?,
                acknowledged: less(self.acknowledged, before.acknowledged)?,
            })
        };
        difference().unwrap_or(*self)
    }
}

/// What a connection is doing, in RabbitMQ's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// It has not opened a virtual host yet.
    Starting,
    /// It is read and served.
    Running,
    /// The node takes no publishes, and this client has not tried to publish.
    Blocking,
    /// The node takes no publishes, and this client is not read since it tried to publish.
    Blocked,
    /// It is not read for now: too many publishes wait for their confirm.
    Flow,
    /// One side has said goodbye.
    Closing,
}

impl ConnectionState {
    /// The word that RabbitMQ has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Blocking => "blocking",
            Self::Blocked => "blocked",
            Self::Flow => "flow",
            Self::Closing => "closing",
        }
    }
}

/// What a connection is like now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatistics {
    /// Who logged in; empty before.
    pub user: String,
    /// The virtual host that it has opened; empty before.
    pub vhost: Arc<str>,
    /// The SASL mechanism.
    pub mechanism: String,
    /// What the client said about itself: a field table's octets without the length in front.
    pub client_properties: Box<[u8]>,
    /// What it is doing.
    pub state: ConnectionState,
    /// Octets that a frame may have, as negotiated.
    pub frame_max: u32,
    /// Channels that it may have, as negotiated.
    pub channel_max: u16,
    /// The heartbeat interval in seconds; 0: none.
    pub heartbeat_secs: u64,
    /// Its open channels, by number.
    pub channels: Vec<ChannelStatistics>,
    /// Its consumers, by the order in which they came.
    pub consumers: Vec<SubscriberStatistics>,
}

/// What a channel is like now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelStatistics {
    /// Its number.
    pub number: u16,
    /// After `confirm.select`.
    pub confirm: bool,
    /// After `tx.select`.
    pub transactional: bool,
    /// The limit for each consumer that starts from now on; 0: none.
    pub prefetch_count: u16,
    /// The limit for all its consumers together; 0: none.
    pub global_prefetch_count: u16,
    /// Messages that the client holds.
    pub unacknowledged: u64,
    /// Publishes that wait for their confirm.
    pub unconfirmed: u64,
    /// Publishes that wait for `tx.commit`.
    pub uncommitted: u64,
    /// Acknowledgements that wait for `tx.commit`.
    pub acks_uncommitted: u64,
    /// Its consumers.
    pub consumer_count: u64,
    /// How often things were done on it.
    pub counters: ChannelCounters,
}

/// A consumer as its connection knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberStatistics {
    /// Who it is.
    pub key: ConsumerKey,
    /// Its tag, unique on its channel.
    pub tag: Arc<str>,
    /// The shard of its queue.
    pub shard: ShardId,
    /// Its queue.
    pub queue: QueueId,
    /// The arguments of its `basic.consume`: a field table's octets without the length in front.
    pub arguments: Box<[u8]>,
}

/// How many messages a connection has published to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeCounts {
    /// The exchange's name.
    pub exchange: String,
    /// Messages published to it.
    pub published_in: u64,
    /// Copies of them that went to queues.
    pub published_out: u64,
}

impl Session {
    /// What it is like now.
    pub fn statistics(&self) -> SessionStatistics {
        let consumers = self.consumers.iter().map(|(serial, consumer)| SubscriberStatistics {
            key: consumer.key(self.id, serial),
            tag: Arc::clone(&consumer.tag),
            shard: consumer.shard,
            queue: consumer.queue,
            arguments: consumer.arguments.clone(),
        });
        SessionStatistics {
            user: self.user().to_string(),
            vhost: Arc::clone(&self.vhost),
            mechanism: self.mechanism.clone(),
            client_properties: self.client_properties.clone(),
            state: self.connection_state(),
            frame_max: self.negotiated_frame_max,
            channel_max: self.channel_max,
            heartbeat_secs: self.heartbeat_millis / 1_000,
            channels: self.channels.iter().map(|(number, channel)| channel.statistics(number)).collect(),
            consumers: consumers.collect(),
        }
    }

    /// Takes what was published to exchanges since this was last called.
    pub fn take_exchange_counts(&mut self) -> Vec<ExchangeCounts> {
        self.routes.take_counts()
    }

    fn connection_state(&self) -> ConnectionState {
        match self.state {
            State::Opening(_) => ConnectionState::Starting,
            State::Closing | State::Closed | State::Left => ConnectionState::Closing,
            State::Running if self.is_blocked() => ConnectionState::Blocked,
            State::Running if self.alarm.is_on() => ConnectionState::Blocking,
            State::Running if self.is_held() => ConnectionState::Flow,
            State::Running => ConnectionState::Running,
        }
    }
}

impl Channel {
    fn statistics(&self, number: u16) -> ChannelStatistics {
        let transaction = self.transaction.as_ref();
        ChannelStatistics {
            number,
            confirm: self.confirms.is_some(),
            transactional: transaction.is_some(),
            prefetch_count: self.prefetch.consumer,
            global_prefetch_count: self.prefetch.channel,
            unacknowledged: self.unacked.len(),
            unconfirmed: self.confirms.as_ref().map_or(0, Confirms::outstanding),
            uncommitted: transaction.map_or(0, |transaction| transaction.answers.outstanding()),
            acks_uncommitted: self.unacked.uncommitted(),
            consumer_count: self.consumer_tags.len() as u64,
            counters: self.counters,
        }
    }
}
