//! Who takes a queue's messages and who holds them: consumers, and channels that got messages one by one.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use super::consumer::{Consumer, Subscription};
use crate::identity::{ConnectionId, ConsumerKey};

/// A consumer, or somebody who is none and holds messages: one whose consumer has ended, or who got them (`basic.get`).
#[derive(Debug)]
struct Holder {
    key: ConsumerKey,
    /// Messages that it has to settle.
    held: u32,
    consumer: Option<Consumer>,
}

/// The holders of one queue, by small numbers that its messages remember them by, and the consumers' turn.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// By number. What is nobody's is in `free`.
    entries: Vec<Holder>,
    free: Vec<u32>,
    numbers: BTreeMap<ConsumerKey, u32>,
    consumers: usize,
    /// Consumers that can take a message, next one first.
    turn: VecDeque<u32>,
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
        !self.turn.is_empty()
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
        self.consumers += usize::from(self.entry(number).consumer.is_none());
        self.entry_mut(number).consumer = Some(Consumer::new(subscription));
        self.turn.push_back(number);
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
        while let Some(number) = self.turn.front().copied() {
            let holder = self.entry_mut(number);
            if let Some(consumer) = &mut holder.consumer {
                if consumer.can_take(holder.held) {
                    return Some((number, consumer.no_ack()));
                }
                consumer.end_turn();
            }
            self.turn.pop_front();
        }
        None
    }

    /// The consumer whose turn it was took a message of so many octets. Answers its key.
    pub(super) fn took(&mut self, number: u32, bytes: usize) -> ConsumerKey {
        let holder = &mut self.entries[number as usize];
        let key = holder.key;
        if let Some(consumer) = &mut holder.consumer {
            holder.held += u32::from(!consumer.no_ack());
            consumer.took(bytes);
            let again = consumer.can_take(holder.held);
            if !again {
                consumer.end_turn();
            }
            if !again || self.turn.len() > 1 {
                self.turn.pop_front();
                if again {
                    self.turn.push_back(number);
                }
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
        if holder.consumer.as_mut().is_some_and(|consumer| consumer.rejoin_turn(held)) {
            self.turn.push_back(number);
        }
    }

    fn end_consumer(&mut self, number: u32) {
        if self.entry_mut(number).consumer.take().is_some() {
            self.consumers -= 1;
            self.turn.retain(|waiting| *waiting != number);
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
