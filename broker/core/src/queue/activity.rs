//! What has been done with a queue, as counts: for people and programs that watch the broker, and for no rule.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use super::{DeadLettering, Delivery, ForwardReason, Queue, QueueKind};
use crate::identity::QueueId;

/// How often things were done with a queue, from when it was made or, if that is later, from when the process started.
/// Named after RabbitMQ's `message_stats`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Messages that were routed to it, whether it took them or not.
    pub published: u64,
    /// Messages handed to consumers that acknowledge. One that its channel had no room for, and that came back, counts.
    pub delivered: u64,
    /// Messages handed to consumers that do not acknowledge.
    pub delivered_no_ack: u64,
    /// Messages handed out by `basic.get`, to be acknowledged.
    pub got: u64,
    /// Messages handed out by `basic.get` without acknowledgement.
    pub got_no_ack: u64,
    /// Gets that found no message.
    pub get_empty: u64,
    /// Of all that was handed out, what had been handed out before.
    pub redelivered: u64,
    /// Messages that clients acknowledged.
    pub acknowledged: u64,
}

impl QueueCounters {
    /// Adds others.
    pub fn add(&mut self, more: &Self) {
        let Self { published, delivered, delivered_no_ack, got, got_no_ack, get_empty, redelivered, acknowledged } =
            *more;
        self.published += published;
        self.delivered += delivered;
        self.delivered_no_ack += delivered_no_ack;
        self.got += got;
        self.got_no_ack += got_no_ack;
        self.get_empty += get_empty;
        self.redelivered += redelivered;
        self.acknowledged += acknowledged;
    }

    /// How much more these are than what they were before.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            published: self.published.saturating_sub(before.published),
            delivered: self.delivered.saturating_sub(before.delivered),
            delivered_no_ack: self.delivered_no_ack.saturating_sub(before.delivered_no_ack),
            got: self.got.saturating_sub(before.got),
            got_no_ack: self.got_no_ack.saturating_sub(before.got_no_ack),
            get_empty: self.get_empty.saturating_sub(before.get_empty),
            redelivered: self.redelivered.saturating_sub(before.redelivered),
            acknowledged: self.acknowledged.saturating_sub(before.acknowledged),
        }
    }
}

/// Messages that died, by the kind of their queue, where it sends its dead letters, and why. Named after RabbitMQ's
/// `messages_dead_lettered_…`, which also counts those that go nowhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeathCounts([[[u64; 4]; 3]; QueueKind::ALL.len()]);

impl DeathCounts {
    /// How many died so.
    pub fn of(&self, kind: QueueKind, dead_lettering: DeadLettering, reason: ForwardReason) -> u64 {
        cause(reason).map_or(0, |cause| self.0[kind as usize][dead_lettering as usize][cause])
    }

    /// Adds others.
    pub fn add_all(&mut self, more: &Self) {
        let counts = self.0.as_flattened_mut().as_flattened_mut().iter_mut();
        counts.zip(more.0.as_flattened().as_flattened()).for_each(|(count, more)| *count += more);
    }

    pub(super) fn add(&mut self, kind: QueueKind, dead_lettering: DeadLettering, reason: ForwardReason) {
        if let Some(cause) = cause(reason) {
            self.0[kind as usize][dead_lettering as usize][cause] += 1;
        }
    }
}

/// Messages whose delay is over live on.
fn cause(reason: ForwardReason) -> Option<usize> {
    match reason {
        ForwardReason::Rejected => Some(0),
        ForwardReason::Expired => Some(1),
        ForwardReason::MaxLength => Some(2),
        ForwardReason::DeliveryLimit => Some(3),
        ForwardReason::Due => None,
    }
}

/// What a queue was used for since the last sample ([`super::Shard::sample`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSample {
    /// The queue.
    pub queue: QueueId,
    /// By how much its counters grew.
    pub counters: QueueCounters,
    /// By how much more messages are ready.
    pub ready: i64,
    /// By how much more messages are with clients.
    pub unacked: i64,
    /// Milliseconds for which messages waited though there were consumers, none of which could take one.
    pub stalled_ms: u64,
}

/// What was done with one queue; nothing is kept of one that has not been used since the process started, for most of
/// many queues are idle.
#[derive(Debug, Default)]
pub(super) struct Activity(Option<Box<Figures>>);

#[derive(Debug, Default)]
struct Figures {
    counters: QueueCounters,
    /// When it last did something: wall-clock milliseconds since the Unix epoch; 0: not since the process started.
    worked_ms: u64,
    /// For how long its messages have waited for consumers that could not take them, until `stalled_since`.
    stalled_ms: u64,
    /// Since when they do; 0: they do not.
    stalled_since: u64,
    /// For how long clients have held messages until `held_since_ms`, all together: message-milliseconds.
    held_message_ms: u64,
    /// When that was added to last; 0: never.
    held_since_ms: u64,
    /// The shard has noted what it was like.
    is_noted: bool,
}

/// What a queue was like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    counters: QueueCounters,
    ready: u64,
    unacked: u64,
    stalled_ms: u64,
}

impl Activity {
    pub(super) fn counters(&self) -> QueueCounters {
        self.0.as_ref().map_or_else(QueueCounters::default, |figures| figures.counters)
    }

    #[inline]
    pub(super) fn counters_mut(&mut self) -> &mut QueueCounters {
        &mut self.figures().counters
    }

    /// When it last did something: wall-clock milliseconds since the Unix epoch.
    pub(super) fn worked_ms(&self) -> Option<u64> {
        self.0.as_ref().map(|figures| figures.worked_ms).filter(|at| *at > 0)
    }

    /// For how long clients have held messages until now, all together, of which they hold so many.
    pub(super) fn held_message_ms(&self, unacked: u64, now_ms: u64) -> u64 {
        self.0.as_ref().map_or(0, |figures| figures.held_until(unacked, now_ms))
    }

    /// Octets that it takes beside the queue.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |_| size_of::<Figures>() as u64)
    }

    #[inline]
    fn figures(&mut self) -> &mut Figures {
        self.0.get_or_insert_default()
    }
}

impl Figures {
    /// It is so late, and messages wait for consumers to have room, or they do not.
    fn stalled(&mut self, stalled: bool, now_ms: u64) {
        self.worked_ms = now_ms;
        if stalled == (self.stalled_since != 0) {
            return;
        }
        if stalled {
            self.stalled_since = now_ms.max(1);
        } else {
            self.stalled_ms += now_ms.saturating_sub(self.stalled_since);
            self.stalled_since = 0;
        }
    }

    /// So many messages were held until now.
    fn hold(&mut self, unacked: u64, now_ms: u64) {
        self.held_message_ms = self.held_until(unacked, now_ms);
        self.held_since_ms = now_ms;
    }

    fn held_until(&self, unacked: u64, now_ms: u64) -> u64 {
        let elapsed = if self.held_since_ms == 0 { 0 } else { now_ms.saturating_sub(self.held_since_ms) };
        self.held_message_ms.saturating_add(unacked.saturating_mul(elapsed))
    }

    fn stalled_until(&self, now_ms: u64) -> u64 {
        let goes_on = if self.stalled_since == 0 { 0 } else { now_ms.saturating_sub(self.stalled_since) };
        self.stalled_ms + goes_on
    }
}

impl Queue {
    /// True if messages wait though there are consumers: none of them can take one. Readers of a stream wait for nobody.
    pub(super) fn is_stalled(&self) -> bool {
        self.holders.consumer_count() > 0 && self.stream.is_none() && self.store.ready() > 0
    }

    /// Counts what became of a get.
    pub(super) fn count_got(&mut self, got: Option<&Delivery>, no_ack: bool) {
        let counters = self.activity.counters_mut();
        match got {
            None => counters.get_empty += 1,
            Some(_) if no_ack => counters.got_no_ack += 1,
            Some(_) => counters.got += 1,
        }
        counters.redelivered += u64::from(got.is_some_and(|delivery| delivery.redelivered));
    }

    /// The queue has worked.
    pub(super) fn note_work(&mut self, now_ms: u64) {
        let stalled = self.is_stalled();
        self.activity.figures().stalled(stalled, now_ms);
    }

    /// It is about to be used: remembers what it was like, if that is the first time since the last sample.
    #[inline]
    pub(super) fn note(&mut self, used: &mut BTreeMap<QueueId, Standing>, now_ms: u64) {
        let unacked = self.unacked();
        let figures = self.activity.figures();
        figures.hold(unacked, now_ms);
        if !figures.is_noted {
            figures.is_noted = true;
            used.insert(self.id, self.standing(now_ms));
        }
    }

    fn standing(&self, now_ms: u64) -> Standing {
        Standing {
            counters: self.activity.counters(),
            ready: self.ready(),
            unacked: self.unacked(),
            stalled_ms: self.activity.0.as_ref().map_or(0, |figures| figures.stalled_until(now_ms)),
        }
    }

    /// What has happened since it was like that.
    pub(super) fn sample(&mut self, before: &Standing, now_ms: u64) -> QueueSample {
        self.activity.figures().is_noted = false;
        let now = self.standing(now_ms);
        QueueSample {
            queue: self.id,
            counters: now.counters.since(&before.counters),
            ready: now.ready.cast_signed() - before.ready.cast_signed(),
            unacked: now.unacked.cast_signed() - before.unacked.cast_signed(),
            stalled_ms: now.stalled_ms - before.stalled_ms,
        }
    }
}
