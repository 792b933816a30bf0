//! What a shard says about its queues when somebody asks. Nothing here changes a queue, and no rule depends on it.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use warren_amqp::Header;

use super::activity::{DeathCounts, QueueCounters, QueueSample};
use super::recent::Recent;
use super::store::Body;
use super::{Queue, QueueKind, Shard};
use crate::identity::{ConsumerKey, QueueId};
use crate::message::Message;

/// Which queues are asked about, and how thoroughly.
#[derive(Debug, Clone, Default)]
pub struct QueueFilter {
    /// Only these; `None`: all.
    pub queues: Option<BTreeSet<QueueId>>,
    /// With their consumers.
    pub consumers: bool,
}

/// What a queue is like now.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueStatistics {
    /// The queue.
    pub queue: QueueId,
    /// Messages that wait; of a stream, all.
    pub ready: u64,
    /// Messages that clients hold.
    pub unacked: u64,
    /// Messages that wait beside the queue: to be dead-lettered, or for their delay to be over.
    pub waiting: u64,
    /// Octets of the ready messages: names, header and body; of a queue whose octets are limited, of their bodies.
    pub ready_bytes: u64,
    /// Octets of all its messages, counted in the same way.
    pub bytes: u64,
    /// Messages that are not in the log, and their octets.
    pub memory_messages: u64,
    /// See [`Self::memory_messages`].
    pub memory_bytes: u64,
    /// About how many octets of memory the queue takes, with those messages.
    pub memory: u64,
    /// How many consumers it has.
    pub consumer_count: u64,
    /// Consumers could take a message now, were there one.
    pub has_capacity: bool,
    /// The consumer that is served, if only one is.
    pub single_active: Option<ConsumerKey>,
    /// The consumer that has the queue for itself.
    pub exclusive_consumer: Option<ConsumerKey>,
    /// The `timestamp` of the message at its head: seconds since the Unix epoch.
    pub head_timestamp: Option<u64>,
    /// When it last did something: wall-clock milliseconds since the Unix epoch; `None`: not since the process started.
    pub worked_ms: Option<u64>,
    /// How often things were done with it.
    pub counters: QueueCounters,
    /// For how long clients have held its messages since the process started, all together: message-milliseconds, the integral
    /// of [`Self::unacked`]. What it grew by over what [`QueueCounters::acknowledged`] grew by is how long they have one
    /// (Little's law).
    pub unacked_message_ms: u64,
    /// Its consumers, if they were asked for.
    pub consumers: Vec<ConsumerStatistics>,
}

/// A consumer as its queue knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerStatistics {
    /// Who it is.
    pub key: ConsumerKey,
    /// Whether it acknowledges what it gets.
    pub ack_required: bool,
    /// It has the queue for itself.
    pub exclusive: bool,
    /// How many messages it may hold; 0: as many as there are.
    pub prefetch_count: u32,
    /// How many it holds.
    pub held: u32,
    /// Milliseconds that it may hold one.
    pub timeout: Option<u64>,
    /// Whether it is served.
    pub status: ConsumerStatus,
}

/// Whether a consumer is served, in RabbitMQ's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerStatus {
    /// It gets messages.
    Up,
    /// It is the one that gets messages.
    SingleActive,
    /// Another one is.
    Waiting,
    /// It holds as many messages as it may, or does not take what it was sent.
    Blocked,
}

impl ConsumerStatus {
    /// The word that RabbitMQ has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::SingleActive => "single_active",
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
        }
    }

    /// Whether the queue hands it messages as soon as it can take them.
    pub const fn is_active(self) -> bool {
        !matches!(self, Self::Waiting)
    }
}

/// How much a shard holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Queues.
    pub queues: u64,
    /// Messages that wait.
    pub ready: u64,
    /// Messages that clients hold.
    pub unacked: u64,
    /// Consumers.
    pub consumers: u64,
}

/// How much a shard holds and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardSummary {
    /// How much there is.
    pub totals: ShardTotals,
    /// Octets of the messages that wait, see [`QueueStatistics::ready_bytes`].
    pub ready_bytes: u64,
    /// Octets of all messages.
    pub bytes: u64,
    /// Messages that are not in the log, and their octets.
    pub memory_messages: u64,
    /// See [`Self::memory_messages`].
    pub memory_bytes: u64,
    /// What was done with queues, of those that are gone too, in the order of [`QueueKind::ALL`].
    pub kinds: [QueueCounters; QueueKind::ALL.len()],
    /// Messages that died.
    pub deaths: DeathCounts,
}

impl ShardTotals {
    fn add(&mut self, more: &Self) {
        let Self { queues, ready, unacked, consumers } = more;
        self.queues += queues;
        self.ready += ready;
        self.unacked += unacked;
        self.consumers += consumers;
    }
}

impl ShardSummary {
    /// Adds what another shard holds and has done.
    pub fn add(&mut self, more: &Self) {
        let Self { totals, ready_bytes, bytes, memory_messages, memory_bytes, kinds, deaths } = more;
        self.totals.add(totals);
        self.ready_bytes += ready_bytes;
        self.bytes += bytes;
        self.memory_messages += memory_messages;
        self.memory_bytes += memory_bytes;
        self.deaths.add_all(deaths);
        self.kinds.iter_mut().zip(kinds).for_each(|(counters, more)| counters.add(more));
    }
}

impl Shard {
    /// How much it holds.
    pub fn totals(&self) -> ShardTotals {
        self.summary().totals
    }

    /// How much it holds, and what was done with its queues.
    pub fn summary(&self) -> ShardSummary {
        let mut summary = ShardSummary { kinds: self.gone, deaths: self.window.deaths, ..ShardSummary::default() };
        self.queues.values().for_each(|queue| queue.add_to(&mut summary));
        summary
    }

    /// What its queues are like now, ascending by id.
    pub fn statistics(&mut self, filter: &QueueFilter) -> Vec<QueueStatistics> {
        let (recent, now_ms) = (&mut self.recent, self.now_ms);
        let mut statistics = |queue: &mut Queue| queue.statistics(filter, recent, now_ms);
        match &filter.queues {
            None => self.queues.values_mut().map(|queue| statistics(queue)).collect(),
            Some(asked) => asked.iter().filter_map(|id| Some(statistics(self.queues.get_mut(id)?))).collect(),
        }
    }

    /// What became of the queues that were used since the last time this was asked, ascending by id.
    pub fn sample(&mut self) -> Vec<QueueSample> {
        let now_ms = self.now_ms;
        let used = core::mem::take(&mut self.used);
        let sampled = used.iter().filter_map(|(id, before)| Some(self.queues.get_mut(id)?.sample(before, now_ms)));
        sampled.collect()
    }
}

impl Queue {
    fn add_to(&self, summary: &mut ShardSummary) {
        let stream_bytes = self.stream.as_ref().map(|stream| stream.messages.bytes());
        let (in_memory, consumers) = (self.store.in_memory(), self.holders.consumer_count() as u64);
        summary.totals.add(&ShardTotals { queues: 1, ready: self.ready(), unacked: self.unacked(), consumers });
        summary.ready_bytes += stream_bytes.unwrap_or_else(|| self.store.ready_bytes());
        summary.bytes += stream_bytes.unwrap_or_else(|| self.store.live_bytes());
        summary.memory_messages += in_memory.messages;
        summary.memory_bytes += in_memory.bytes;
        summary.kinds[self.settings.kind as usize].add(&self.activity.counters());
    }

    fn statistics(&mut self, filter: &QueueFilter, recent: &mut Recent, now_ms: u64) -> QueueStatistics {
        let consumer_count = self.holders.consumer_count() as u64;
        let in_memory = self.store.in_memory();
        let (ready, unacked) = (self.ready(), self.unacked());
        let stream_bytes = self.stream.as_ref().map(|stream| stream.messages.bytes());
        QueueStatistics {
            queue: self.id,
            ready,
            unacked,
            waiting: self.rules.as_ref().map_or(0, |rules| rules.set_aside()),
            ready_bytes: stream_bytes.unwrap_or_else(|| self.store.ready_bytes()),
            bytes: stream_bytes.unwrap_or_else(|| self.store.live_bytes()),
            memory_messages: in_memory.messages,
            memory_bytes: in_memory.bytes,
            memory: size_of::<Self>() as u64 + self.activity.memory_bytes() + self.store.memory_bytes(),
            consumer_count,
            has_capacity: consumer_count > 0 && !self.is_stalled(),
            single_active: self.holders.single_active(),
            exclusive_consumer: self.holders.exclusive_consumer(),
            head_timestamp: self.head_timestamp(recent),
            worked_ms: self.activity.worked_ms(),
            counters: self.activity.counters(),
            unacked_message_ms: self.activity.held_message_ms(unacked, now_ms),
            consumers: if filter.consumers { self.holders.statistics().collect() } else { Vec::new() },
        }
    }

    /// As in RabbitMQ it is told if the message is in memory: nobody who asks has the shard wait for its disk.
    fn head_timestamp(&mut self, recent: &mut Recent) -> Option<u64> {
        if self.settings.kind == QueueKind::Delayed {
            return None;
        }
        let message = match self.store.head_body()? {
            Body::Memory(message) => message,
            Body::Log { location, .. } => recent.message(location)?,
        };
        timestamp(&message)
    }
}

fn timestamp(message: &Message) -> Option<u64> {
    Header::decode(message.header()).ok()?.properties.timestamp().ok()?
}
