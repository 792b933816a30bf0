//! Who takes a queue's messages and who holds them: consumers, and channels that got messages one by one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::consumer::{Consumer, Subscription};
use super::turns::Turns;
use crate::identity::{ConnectionId, ConsumerKey};

/// A consumer, or somebody who is none and holds messages: one whose consumer has ended, or who got them (`basic.get`).
#[derive(Debug)]
struct Holder {
    key: ConsumerKey,
    /// Messages that it has to settle.
    held: u32,
    consumer: Option<Consumer>,
}

/// Whom a queue serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Service {
    /// All consumers, in turn.
    #[default]
    Turns,
    /// One consumer at a time (argument `x-single-active-consumer`).
    SingleActive {
        /// A consumer of higher priority takes over as soon as the one before it holds nothing any more (RabbitMQ's quorum
        /// queues; its classic queues wait until the one before has gone).
        takeover: bool,
    },
}

/// The holders of one queue, by small numbers that its messages remember them by, and the consumers' turn.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// By number. What is nobody's is in `free`.
    entries: Vec<Holder>,
    free: Vec<u32>,
    numbers: BTreeMap<ConsumerKey, u32>,
    consumers: usize,
    service: Service,
    /// Consumers that can take a message. If only one is served, those who wait for its place.
    turns: Turns,
    /// The one that is served, if only one is.
    active: Option<u32>,
}

impl Holders {
    /// How many consumers there are.
    pub(super) fn consumer_count(&self) -> usize {
        self.consumers
    }

    /// The consumers' keys, ascending.
    pub(super) fn consumer_keys(&self) -> impl Iterator<Item = ConsumerKey> {
        let consumers = self.numbers.iter().filter(|(_, number)| self.entry(**number).consumer.is_some());
        consumers.map(|(key, _)| *key)
    }

    pub(super) fn has_exclusive_consumer(&self) -> bool {
        self.entries.iter().any(|holder| holder.consumer.as_ref().is_some_and(Consumer::is_exclusive))
    }

    /// True if somebody may be able to take a message.
    pub(super) fn has_takers(&self) -> bool {
        self.active.is_some() || !self.turns.is_empty()
    }

    /// Whom to serve from now on. Only while there are no consumers.
    pub(super) fn serve(&mut self, service: Service) {
        self.service = service;
    }

    /// The number of `key`, who need not be a consumer.
    pub(super) fn number(&mut self, key: ConsumerKey) -> u32 {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let holder = Holder { key, held: 0, consumer: None };
        let number = self.free.pop().unwrap_or(self.entries.len() as u32);
        match self.entries.get_mut(number as usize) {
            Some(entry) => *entry = holder,
            None => self.entries.push(holder),
        }
        self.numbers.insert(key, number);
        number
    }

    pub(super) fn subscribe(&mut self, key: ConsumerKey, subscription: Subscription) {
        let number = self.number(key);
        self.end_consumer(number);
        let consumer = Consumer::new(subscription);
        self.turns.push_back(number, consumer.priority());
        self.entry_mut(number).consumer = Some(consumer);
        self.consumers += 1;
        self.activate();
    }

    /// Hands nothing more to consumers that are about to end.
    pub(super) fn leave(&mut self, leaves: impl Fn(&ConsumerKey) -> bool) {
        let leaving = self.entries.iter_mut().filter(|holder| leaves(&holder.key));
        leaving.filter_map(|holder| holder.consumer.as_mut()).for_each(Consumer::leave);
    }

    /// Ends a consumer. What it holds stays with it.
    pub(super) fn unsubscribe(&mut self, key: ConsumerKey) {
        if let Some(number) = self.numbers.get(&key).copied() {
            self.end_consumer(number);
            self.free_if_idle(number);
        }
    }

    /// Ends the consumers of a connection. Answers how many messages it holds; [`Self::is_of`] says whose they are, and
    /// [`Self::forget_connection`] is to follow when they have been taken back.
    pub(super) fn detach(&mut self, connection: ConnectionId) -> u64 {
        let mut held = 0;
        for number in self.of_connection(connection) {
            self.end_consumer(number);
            held += u64::from(self.entry(number).held);
        }
        held
    }

    pub(super) fn is_of(&self, number: u32, connection: ConnectionId) -> bool {
        self.entry(number).key.connection == connection
    }

    pub(super) fn forget_connection(&mut self, connection: ConnectionId) {
        for number in self.of_connection(connection) {
            self.entry_mut(number).held = 0;
            self.free_if_idle(number);
        }
    }

    /// Gives back to a consumer what it has been sent and has passed on to its socket.
    pub(super) fn grant(&mut self, key: ConsumerKey, messages: u32, bytes: u64) {
        if let Some(number) = self.numbers.get(&key).copied() {
            if let Some(consumer) = &mut self.entry_mut(number).consumer {
                consumer.passed_on(messages, bytes);
            }
            self.rejoin_turn(number);
        }
    }

    /// The consumer whose turn it is, and whether it needs no acknowledgements.
    pub(super) fn next(&mut self) -> Option<(u32, bool)> {
        match self.service {
            Service::Turns => self.next_in_turn(),
            Service::SingleActive { takeover } => self.next_active(takeover),
        }
    }

    fn next_in_turn(&mut self) -> Option<(u32, bool)> {
        while let Some((number, _)) = self.turns.front() {
            let holder = self.entry_mut(number);
            if let Some(consumer) = &mut holder.consumer {
                if consumer.can_take(holder.held) {
                    return Some((number, consumer.no_ack()));
                }
                consumer.end_turn();
            }
            self.turns.pop_front();
        }
        None
    }

    /// The only consumer that is served. One of higher priority that waits may take its place.
    fn next_active(&mut self, takeover: bool) -> Option<(u32, bool)> {
        if takeover && !self.make_room() {
            return None;
        }
        let number = self.active?;
        let holder = self.entry(number);
        let consumer = holder.consumer.as_ref().filter(|consumer| consumer.can_take(holder.held))?;
        Some((number, consumer.no_ack()))
    }

    /// Lets one of higher priority take over. False: one waits to, and what the active consumer holds is in its way.
    fn make_room(&mut self) -> bool {
        let (Some(active), Some((_, waiting))) = (self.active, self.turns.front()) else {
            return true;
        };
        let holder = self.entry(active);
        let priority = holder.consumer.as_ref().map_or(i32::MIN, Consumer::priority);
        if waiting <= priority {
            return true;
        }
        let holds_nothing = holder.held == 0;
        if holds_nothing {
            self.turns.push_front(active, priority);
            self.active = None;
            self.activate();
        }
        holds_nothing
    }

    /// Serves the first of those who wait, if only one is served and nobody is.
    fn activate(&mut self) {
        if self.service != Service::Turns && self.active.is_none() {
            self.active = self.turns.pop_front().map(|(number, _)| number);
        }
    }

    /// The consumer whose turn it was took a message of so many octets. Answers its key.
    pub(super) fn took(&mut self, number: u32, bytes: usize) -> ConsumerKey {
        let in_turn = self.service == Service::Turns;
        let holder = &mut self.entries[number as usize];
        let key = holder.key;
        if let Some(consumer) = &mut holder.consumer {
            holder.held += u32::from(!consumer.no_ack());
            consumer.took(bytes);
            if !in_turn {
                return key;
            }
            if consumer.can_take(holder.held) {
                self.turns.rotate();
            } else {
                consumer.end_turn();
                self.turns.pop_front();
            }
        }
        key
    }

    /// Counts a message that was got.
    pub(super) fn got(&mut self, number: u32) {
        self.entry_mut(number).held += 1;
    }

    /// Counts a message that was settled.
    pub(super) fn released(&mut self, number: u32) {
        self.entry_mut(number).held -= 1;
        self.rejoin_turn(number);
        self.free_if_idle(number);
    }

    /// Called after everything that may have given a consumer room.
    fn rejoin_turn(&mut self, number: u32) {
        let holder = self.entry_mut(number);
        let held = holder.held;
        if let Some(priority) = holder.consumer.as_mut().and_then(|consumer| consumer.rejoin_turn(held)) {
            self.turns.push_back(number, priority);
        }
    }

    fn end_consumer(&mut self, number: u32) {
        if let Some(consumer) = self.entry_mut(number).consumer.take() {
            self.consumers -= 1;
            self.turns.remove(number, consumer.priority());
            self.active = self.active.filter(|active| *active != number);
            self.activate();
        }
    }

    fn free_if_idle(&mut self, number: u32) {
        let holder = self.entry(number);
        if holder.held == 0 && holder.consumer.is_none() {
            let key = holder.key;
            self.numbers.remove(&key);
            self.free.push(number);
        }
    }

    fn of_connection(&self, connection: ConnectionId) -> Vec<u32> {
        let least = ConsumerKey { connection, channel: 0, serial: 0 };
        let of_it = self.numbers.range(least..).take_while(|(key, _)| key.connection == connection);
        of_it.map(|(_, number)| *number).collect()
    }

    fn entry(&self, number: u32) -> &Holder {
        &self.entries[number as usize]
    }

    fn entry_mut(&mut self, number: u32) -> &mut Holder {
        &mut self.entries[number as usize]
    }
}
