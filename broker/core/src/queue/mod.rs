//! One queue: ready and unacknowledged messages, consumers and whose turn it is.
//!
//! Order: a message's *position* is the place it took when it was enqueued and never changes. Messages that come
//! back (requeue, lost consumer) go to their old place (RabbitMQ: "original position if possible").
//!
//! A logged message also has a *sequence number*, the same on every node that applies the shard's log, by which its
//! settlement is logged. Messages of delivery mode 1, and all messages of queues that are not logged, have none.

mod consumer;
mod event;
mod input;
mod ready;
mod shard;
mod snapshot;

#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

pub use consumer::Subscription;
pub use event::{DeleteRefusal, Deleted, Event, ShardOutput, ShardTotals, SubscribeRefusal};
pub use input::{PublishRun, Receipt, ShardInput};
pub use shard::Shard;
pub use snapshot::{Snapshot, SnapshotError, Survivor};

use crate::command::SequenceRange;
use crate::identity::{ConnectionId, ConsumerKey, QueueId};
use crate::location::{Bodies, Location};
use crate::message::Message;
use consumer::Consumer;
use ready::Ready;
use snapshot::{QueueHead, QueueSnapshot};

/// What becomes of a message that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is done with: acknowledged, or rejected for good.
    Done,
    /// It goes back to its place, flagged redelivered.
    Requeue,
}

/// Consecutive positions of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionRange {
    /// The first position.
    pub first: u64,
    /// How many; at least 1.
    pub len: u64,
}

/// A message on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The queue it comes from.
    pub queue: QueueId,
    /// Its place in that queue, by which it is settled.
    pub position: u64,
    /// True if it was handed out before.
    pub redelivered: bool,
    /// The message.
    pub message: Message,
}

/// How a queue behaves, from its declaration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// Its persistent messages and its settlements are logged.
    pub logged: bool,
    /// It is deleted when its last consumer goes, once it has had one.
    pub auto_delete: bool,
}

/// A message's entry in its queue.
#[derive(Debug, Clone)]
struct Slot {
    position: u64,
    /// `None`: it is not in the log.
    sequence: Option<u64>,
    redelivered: bool,
    body: Body,
}

/// Where a queue's message is.
#[derive(Debug, Clone)]
enum Body {
    Memory(Message),
    Log { location: Location, shared: bool },
}

/// A logged message of a queue, as snapshots know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Logged {
    sequence: u64,
    /// Its publish command.
    location: Location,
    /// Other queues refer to the same command.
    shared: bool,
}

/// A message that a client holds.
#[derive(Debug)]
struct Unacked {
    slot: Slot,
    holder: ConsumerKey,
}

/// Where a queue puts what it hands out. Implemented by the shard's output.
trait Deliver {
    fn deliver(&mut self, to: ConsumerKey, delivery: Delivery);
}

#[derive(Debug)]
struct Queue {
    id: QueueId,
    settings: QueueSettings,
    next_position: u64,
    next_sequence: u64,
    /// Logged messages below may have been handed out in an earlier epoch.
    redelivered_below: u64,
    ready: Ready,
    unacked: BTreeMap<u64, Unacked>,
    consumers: BTreeMap<ConsumerKey, Consumer>,
    /// Consumers that can take a message, next one first. A key may be stale; `consumers` decides.
    turn: VecDeque<ConsumerKey>,
    has_had_consumer: bool,
    /// An attach is in the log since the epoch began.
    attached: bool,
}

impl Queue {
    fn new(id: QueueId, settings: QueueSettings) -> Self {
        Self {
            id,
            settings,
            next_position: 0,
            next_sequence: 0,
            redelivered_below: 0,
            ready: Ready::default(),
            unacked: BTreeMap::new(),
            consumers: BTreeMap::new(),
            turn: VecDeque::new(),
            has_had_consumer: false,
            attached: false,
        }
    }

    /// Appends a message. `logged` says that it came through the log.
    fn enqueue(&mut self, body: Body) {
        let sequence = matches!(body, Body::Log { .. }).then(|| {
            self.next_sequence += 1;
            self.next_sequence - 1
        });
        let position = self.next_position;
        self.next_position += 1;
        self.ready.push(Slot { position, sequence, redelivered: false, body });
    }

    /// Hands out ready messages while a consumer can take one: each in turn.
    fn dispatch(&mut self, bodies: &mut dyn Bodies, out: &mut impl Deliver, done: &mut Vec<u64>) {
        while !self.ready.is_empty() {
            let Some(key) = self.turn.pop_front() else {
                return;
            };
            let alone = self.turn.is_empty();
            let Some(consumer) = self.consumers.get_mut(&key) else {
                continue;
            };
            consumer.begin_turn();
            while consumer.can_take() {
                let Some(slot) = self.ready.pop() else { break };
                let delivery = slot.delivery(self.id, bodies);
                consumer.took(delivery.message.size());
                out.deliver(key, delivery);
                if consumer.no_ack() {
                    done.extend(slot.sequence);
                } else {
                    self.unacked.insert(slot.position, Unacked { slot, holder: key });
                }
                if !alone {
                    break;
                }
            }
            if consumer.rejoin_turn() {
                self.turn.push_back(key);
            }
        }
    }

    /// Takes the message at the head for `basic.get`; without acknowledgement its sequence number goes to `done`.
    fn take(
        &mut self,
        holder: ConsumerKey,
        no_ack: bool,
        bodies: &mut dyn Bodies,
        done: &mut Vec<u64>,
    ) -> Option<Delivery> {
        let slot = self.ready.pop()?;
        let delivery = slot.delivery(self.id, bodies);
        if no_ack {
            done.extend(slot.sequence);
        } else {
            self.unacked.insert(slot.position, Unacked { slot, holder });
        }
        Some(delivery)
    }

    /// Settles what is still unacknowledged in `ranges`; unknown positions are skipped, for their queue may have been
    /// deleted and declared again since.
    fn settle(&mut self, ranges: &[PositionRange], settlement: Settlement, done: &mut Vec<u64>) {
        for range in ranges {
            for position in range.first..range.first.saturating_add(range.len) {
                let Some(Unacked { mut slot, holder }) = self.unacked.remove(&position) else {
                    continue;
                };
                self.release_credit(holder);
                match settlement {
                    Settlement::Done => done.extend(slot.sequence),
                    Settlement::Requeue => {
                        slot.redelivered = true;
                        self.ready.put_back(slot);
                    }
                }
            }
        }
    }

    /// Gives back to `key` what it has been sent and has passed on to its socket.
    fn grant(&mut self, key: ConsumerKey, messages: u32, bytes: u64) {
        if let Some(consumer) = self.consumers.get_mut(&key) {
            consumer.passed_on(messages, bytes);
            if consumer.rejoin_turn() {
                self.turn.push_back(key);
            }
        }
    }

    fn release_credit(&mut self, holder: ConsumerKey) {
        if let Some(consumer) = self.consumers.get_mut(&holder) {
            consumer.settled_one();
            if consumer.rejoin_turn() {
                self.turn.push_back(holder);
            }
        }
    }

    fn subscribe(&mut self, key: ConsumerKey, subscription: Subscription) {
        self.consumers.insert(key, Consumer::new(subscription));
        self.has_had_consumer = true;
        self.turn.push_back(key);
    }

    /// Hands nothing more to consumers that are about to end.
    fn leave(&mut self, leaves: impl Fn(&ConsumerKey) -> bool) {
        self.consumers.iter_mut().filter(|(key, _)| leaves(key)).for_each(|(_, consumer)| consumer.leave());
    }

    /// Removes a consumer. What it holds stays unacknowledged until its session settles it (spec `basic.cancel`).
    fn unsubscribe(&mut self, key: ConsumerKey) {
        self.consumers.remove(&key);
        self.turn.retain(|waiting| *waiting != key);
    }

    /// Takes back everything of a connection that is gone.
    fn detach(&mut self, connection: ConnectionId) {
        self.consumers.retain(|key, _| key.connection != connection);
        self.turn.retain(|key| key.connection != connection);
        let held: Vec<u64> =
            self.unacked.iter().filter(|(_, held)| held.holder.connection == connection).map(|(at, _)| *at).collect();
        for position in held {
            self.settle(&[PositionRange { first: position, len: 1 }], Settlement::Requeue, &mut Vec::new());
        }
    }

    fn is_unused(&self) -> bool {
        self.settings.auto_delete && self.has_had_consumer && self.consumers.is_empty()
    }

    fn has_exclusive_consumer(&self) -> bool {
        self.consumers.values().any(Consumer::is_exclusive)
    }

    /// Drops all ready messages. Unacknowledged ones stay (spec `queue.purge`).
    fn purge(&mut self, done: &mut Vec<u64>) -> u64 {
        let mut count = 0;
        while let Some(slot) = self.ready.pop() {
            done.extend(slot.sequence);
            count += 1;
        }
        count
    }

    /// Applies a settlement from the log. The leader has settled these already; a replay has them ready.
    fn forget(&mut self, ranges: &[SequenceRange]) {
        for range in ranges {
            self.ready.remove_sequences(*range);
        }
    }

    /// Flags everything as redelivered if messages may have been handed out before the epoch began.
    fn start_epoch(&mut self) {
        if core::mem::take(&mut self.attached) {
            self.redelivered_below = self.next_sequence;
            self.ready.mark_redelivered();
        }
    }

    fn snapshot(&self) -> QueueSnapshot {
        let held = self.unacked.values().map(|unacked| &unacked.slot);
        let mut messages: Vec<Logged> = self.ready.iter().chain(held).filter_map(Slot::logged).collect();
        messages.sort_unstable_by_key(|message| message.sequence);
        QueueSnapshot {
            id: self.id,
            attached: self.attached,
            next_sequence: self.next_sequence,
            redelivered_below: self.redelivered_below,
            messages,
        }
    }

    fn restore(head: &QueueHead) -> Self {
        let mut queue = Self::new(head.id, QueueSettings { logged: true, auto_delete: false });
        queue.attached = head.attached;
        queue.redelivered_below = head.redelivered_below;
        queue
    }

    /// Appends a message of a snapshot.
    fn restore_message(&mut self, message: Logged) {
        let Logged { sequence, location, shared } = message;
        let redelivered = sequence < self.redelivered_below;
        let position = self.next_position;
        self.next_position += 1;
        let body = Body::Log { location, shared };
        self.ready.push(Slot { position, sequence: Some(sequence), redelivered, body });
    }

    /// The message `sequence` lies at `location` from now on, if it is still live.
    fn relocate(&mut self, sequence: u64, location: Location) {
        let held = self.unacked.values_mut().map(|unacked| &mut unacked.slot);
        if let Some(slot) = self.ready.iter_mut().chain(held).find(|slot| slot.sequence == Some(sequence))
            && let Body::Log { location: old, .. } = &mut slot.body
        {
            *old = location;
        }
    }
}

impl Slot {
    fn logged(&self) -> Option<Logged> {
        match self.body {
            Body::Memory(_) => None,
            Body::Log { location, shared } => self.sequence.map(|sequence| Logged { sequence, location, shared }),
        }
    }

    fn delivery(&self, queue: QueueId, bodies: &mut dyn Bodies) -> Delivery {
        let message = match &self.body {
            Body::Memory(message) => message.clone(),
            Body::Log { location, .. } => bodies.read(*location),
        };
        Delivery { queue, position: self.position, redelivered: self.redelivered, message }
    }
}

/// Sequence numbers as ascending ranges.
fn sequence_ranges(mut sequences: Vec<u64>) -> Vec<SequenceRange> {
    sequences.sort_unstable();
    let mut ranges: Vec<SequenceRange> = Vec::new();
    for sequence in sequences {
        match ranges.last_mut() {
            Some(range) if range.first + range.len == sequence => range.len += 1,
            _ => ranges.push(SequenceRange { first: sequence, len: 1 }),
        }
    }
    ranges
}
