//! Who takes a queue's messages and who holds them: consumers, and channels that got messages one by one.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::consumer::{Consumer, Subscription};
use super::statistics::{ConsumerStatistics, ConsumerStatus};
use super::turns::Turns;
use super::watch::Watch;
use crate::identity::{ChannelKey, ConnectionId, ConsumerKey};

/// A consumer, or somebody who is none and holds messages: one whose consumer has ended, or who got them (`basic.get`).
#[derive(Debug)]
struct Holder {
    key: ConsumerKey,
    /// Messages that it has to settle.
    held: u32,
    consumer: Option<Consumer>,
    /// If it may not hold them for as long as it likes.
    watch: Option<Box<Watch>>,
}

/// What a message remembers its holder by: the holder's number, which has the lower [`NUMBER_BITS`], and the age that the
/// holder's [`Watch`] gave the message.
pub(super) type Token = u32;

/// Memory ends long before there are so many holders.
const NUMBER_BITS: u32 = 27;
const _: () = assert!(Watch::AGELESS < 1 << (u32::BITS - NUMBER_BITS));

/// The number of the holder that a message remembers.
fn number_of(token: Token) -> u32 {
    token & ((1 << NUMBER_BITS) - 1)
}

/// Whom a queue serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Service {
    /// All consumers, in turn.
    #[default]
    Turns,
    /// All consumers, each until it has what it has room for: what one gets is not taken from others.
    Readers,
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
    /// When somebody may have held a message for too long, as far as is known without looking at all.
    deadline: Option<u64>,
}

impl Holders {
    /// How many consumers there are.
    pub(super) fn consumer_count(&self) -> usize {
        self.consumers
    }

    /// How many consumers and others there are; their numbers are smaller than the most there have been.
    pub(super) fn count(&self) -> usize {
        self.numbers.len()
    }

    /// How many messages they hold.
    pub(super) fn held(&self) -> u64 {
        self.numbers.values().map(|number| u64::from(self.entry(*number).held)).sum()
    }

    /// The consumers' keys, ascending.
    pub(super) fn consumer_keys(&self) -> impl Iterator<Item = ConsumerKey> {
        let consumers = self.numbers.iter().filter(|(_, number)| self.entry(**number).consumer.is_some());
        consumers.map(|(key, _)| *key)
    }

    pub(super) fn has_exclusive_consumer(&self) -> bool {
        self.exclusive_consumer().is_some()
    }

    /// The consumer that has the queue for itself.
    pub(super) fn exclusive_consumer(&self) -> Option<ConsumerKey> {
        let exclusive = |holder: &&Holder| holder.consumer.as_ref().is_some_and(Consumer::is_exclusive);
        self.entries.iter().find(exclusive).map(|holder| holder.key)
    }

    /// The consumer that is served, if only one is.
    pub(super) fn single_active(&self) -> Option<ConsumerKey> {
        self.active.map(|number| self.entry(number).key)
    }

    /// What the consumers are like now, by key.
    pub(super) fn statistics(&self) -> impl Iterator<Item = ConsumerStatistics> {
        self.numbers.iter().filter_map(|(key, number)| {
            let holder = self.entry(*number);
            let consumer = holder.consumer.as_ref()?;
            let status = match self.service {
                Service::SingleActive { .. } if self.active == Some(*number) => ConsumerStatus::SingleActive,
                Service::SingleActive { .. } => ConsumerStatus::Waiting,
                Service::Turns | Service::Readers if consumer.can_take(holder.held) => ConsumerStatus::Up,
                Service::Turns | Service::Readers => ConsumerStatus::Blocked,
            };
            Some(consumer.statistics(*key, holder.held, status))
        })
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
    fn number(&mut self, key: ConsumerKey) -> u32 {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let holder = Holder { key, held: 0, consumer: None, watch: None };
        let number = self.free.pop().unwrap_or(self.entries.len() as u32);
        match self.entries.get_mut(number as usize) {
            Some(entry) => *entry = holder,
            None => self.entries.push(holder),
        }
        self.numbers.insert(key, number);
        number
    }

    /// Adds a consumer, and answers its number.
    pub(super) fn subscribe(&mut self, key: ConsumerKey, subscription: Subscription) -> u32 {
        let number = self.number(key);
        self.end_consumer(number);
        let timeout = subscription.consumer_timeout.filter(|_| !subscription.no_ack);
        let consumer = Consumer::new(subscription);
        self.turns.push_back(number, consumer.priority());
        let holder = self.entry_mut(number);
        holder.consumer = Some(consumer);
        holder.watch = timeout.map(|millis| Box::new(Watch::new(millis)));
        self.consumers += 1;
        self.activate();
        number
    }

    /// Hands nothing more to consumers that are about to end.
    pub(super) fn leave(&mut self, leaves: impl Fn(&ConsumerKey) -> bool) {
        let leaving = self.entries.iter_mut().filter(|holder| leaves(&holder.key));
        leaving.filter_map(|holder| holder.consumer.as_mut()).for_each(Consumer::leave);
    }

    /// Hands nothing more to the consumers of a connection, or hands them messages again.
    pub(super) fn drain(&mut self, connection: ConnectionId, drained: bool) {
        for number in self.of_connection(connection) {
            let waits = matches!(self.service, Service::SingleActive { .. }) && self.active != Some(number);
            let Some(consumer) = &mut self.entry_mut(number).consumer else { continue };
            consumer.drain(drained);
            if drained && waits {
                consumer.end_turn();
                let priority = consumer.priority();
                self.turns.remove(number, priority);
            }
            self.rejoin_turn(number);
        }
        self.activate();
    }

    /// How many messages a connection holds.
    pub(super) fn held_by(&self, connection: ConnectionId) -> u64 {
        self.keys_of(connection).map(|(_, number)| u64::from(self.entry(*number).held)).sum()
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

    pub(super) fn is_of(&self, token: Token, connection: ConnectionId) -> bool {
        self.entry(number_of(token)).key.connection == connection
    }

    pub(super) fn forget_connection(&mut self, connection: ConnectionId) {
        let keys: Vec<ConsumerKey> = self.keys_of(connection).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.forget(key));
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
            Service::Turns | Service::Readers => self.next_in_turn(),
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
        if matches!(self.service, Service::SingleActive { .. }) && self.active.is_none() {
            self.active = self.turns.pop_front().map(|(number, _)| number);
        }
    }

    /// The consumer whose turn it was took a message of so many octets. Answers its key.
    pub(super) fn took(&mut self, number: u32, bytes: usize) -> ConsumerKey {
        let holder = &mut self.entries[number as usize];
        let key = holder.key;
        if let Some(consumer) = &mut holder.consumer {
            holder.held += u32::from(!consumer.no_ack());
            consumer.took(bytes);
            match self.service {
                Service::SingleActive { .. } => {}
                Service::Turns if consumer.can_take(holder.held) => self.turns.rotate(),
                Service::Readers if consumer.can_take(holder.held) => {}
                Service::Turns | Service::Readers => {
                    consumer.end_turn();
                    self.turns.pop_front();
                }
            }
        }
        key
    }

    /// Counts a message that was got, and that may be held for `timeout` milliseconds. Answers what it remembers.
    pub(super) fn got(&mut self, key: ConsumerKey, timeout: Option<u64>, now_ms: u64) -> Token {
        let number = self.number(key);
        let holder = self.entry_mut(number);
        holder.held += 1;
        if let (None, Some(millis)) = (&holder.watch, timeout) {
            holder.watch = Some(Box::new(Watch::new(millis)));
        }
        self.token(number, now_ms)
    }

    /// What a message remembers that this holder is handed now.
    pub(super) fn token(&mut self, number: u32, now_ms: u64) -> Token {
        let Some(watch) = &mut self.entries[number as usize].watch else {
            return number;
        };
        let age = watch.took(now_ms);
        let deadline = watch.deadline_from(now_ms);
        self.deadline = Some(self.deadline.map_or(deadline, |before| before.min(deadline)));
        number | age << NUMBER_BITS
    }

    /// What a message remembers from now on that its client is sent now, or (`sent` is false) that waits for that.
    pub(super) fn set_time(&mut self, token: Token, sent: bool, now_ms: u64) -> Token {
        let number = number_of(token);
        let Some(watch) = &mut self.entry_mut(number).watch else {
            return token;
        };
        watch.released(token >> NUMBER_BITS);
        if sent {
            return self.token(number, now_ms);
        }
        watch.put_aside(now_ms);
        let recall_at = watch.recall_at();
        self.deadline = [self.deadline, recall_at].into_iter().flatten().min();
        number | Watch::AGELESS << NUMBER_BITS
    }

    /// Counts a message that was settled.
    pub(super) fn released(&mut self, token: Token) {
        let number = number_of(token);
        let holder = self.entry_mut(number);
        holder.held -= 1;
        if let Some(watch) = &mut holder.watch {
            watch.released(token >> NUMBER_BITS);
        }
        self.rejoin_turn(number);
        self.free_if_idle(number);
    }

    /// Counts a message that `channel` settles. False: another holds it.
    pub(super) fn release(&mut self, token: Token, channel: ChannelKey) -> bool {
        let theirs = self.is_on(token, channel);
        if theirs {
            self.released(token);
        }
        theirs
    }

    /// True if a message is held on `channel`.
    pub(super) fn is_on(&self, token: Token, channel: ChannelKey) -> bool {
        self.entry(number_of(token)).key.on_channel() == channel
    }

    /// Counts messages of one holder that `channel` settles; more than it holds are not counted. Answers how many.
    pub(super) fn release_many(&mut self, number: u32, count: u32, channel: ChannelKey) -> u32 {
        let holder = self.entry_mut(number);
        if holder.held == 0 || holder.key.on_channel() != channel {
            return 0;
        }
        let released = count.min(holder.held);
        holder.held -= released;
        self.rejoin_turn(number);
        self.free_if_idle(number);
        released
    }

    /// The consumer whose turn it was takes nothing now.
    pub(super) fn pass(&mut self, number: u32) {
        if let Some(consumer) = &mut self.entry_mut(number).consumer {
            consumer.end_turn();
        }
        self.turns.pop_front();
    }

    /// The time that a channel may hold its messages begins anew.
    pub(super) fn extend(&mut self, channel: ChannelKey, now_ms: u64) {
        for number in self.of_connection(channel.connection) {
            let holder = self.entry_mut(number);
            if let Some(watch) = holder.watch.as_mut().filter(|_| holder.key.on_channel() == channel) {
                watch.extend(now_ms);
            }
        }
    }

    /// When [`Self::overdue`] is to be asked.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    /// Who has held a message for too long.
    pub(super) fn overdue(&mut self, now_ms: u64) -> Vec<ConsumerKey> {
        if self.deadline.is_none_or(|at| at > now_ms) {
            return Vec::new();
        }
        let (mut overdue, mut next) = (Vec::new(), None);
        for (key, number) in &self.numbers {
            match &self.entry(*number).watch {
                Some(watch) if watch.deadline().is_some_and(|at| at <= now_ms) => overdue.push(*key),
                Some(watch) => next = [next, watch.deadline(), watch.recall_at()].into_iter().flatten().min(),
                None => {}
            }
        }
        self.deadline = next;
        overdue
    }

    /// Whose session has kept messages for too long that its client has no room for. They are handed nothing more until
    /// their sessions grant them something. To be asked before [`Self::overdue`].
    pub(super) fn recall(&mut self, now_ms: u64) -> Vec<ConsumerKey> {
        let mut recalled = Vec::new();
        if self.deadline.is_none_or(|at| at > now_ms) {
            return recalled;
        }
        for (key, number) in &self.numbers {
            let Holder { watch: Some(watch), consumer: Some(consumer), .. } = &mut self.entries[*number as usize]
            else {
                continue;
            };
            if watch.recall_at().is_some_and(|at| at <= now_ms) {
                watch.recall(now_ms);
                consumer.pause();
                recalled.push(*key);
            }
        }
        recalled
    }

    /// Ends whoever `key` is. Answers how many messages it holds; [`Self::is_held_by`] says which, and [`Self::forget`] is
    /// to follow when they have been taken back.
    pub(super) fn end(&mut self, key: ConsumerKey) -> u64 {
        self.numbers.get(&key).copied().map_or(0, |number| {
            self.end_consumer(number);
            u64::from(self.entry(number).held)
        })
    }

    pub(super) fn is_held_by(&self, token: Token, key: ConsumerKey) -> bool {
        self.entry(number_of(token)).key == key
    }

    pub(super) fn forget(&mut self, key: ConsumerKey) {
        if let Some(number) = self.numbers.get(&key).copied() {
            self.entry_mut(number).held = 0;
            self.free_if_idle(number);
        }
    }

    /// Called after everything that may have given a consumer room.
    pub(super) fn rejoin_turn(&mut self, number: u32) {
        let holder = self.entry_mut(number);
        let held = holder.held;
        if let Some(priority) = holder.consumer.as_mut().and_then(|consumer| consumer.rejoin_turn(held)) {
            self.turns.push_back(number, priority);
        }
        self.hand_over(number);
    }

    /// The place of the only one that is served is another's as soon as it is drained and has finished.
    fn hand_over(&mut self, number: u32) {
        if self.active != Some(number) {
            return;
        }
        let holder = self.entry_mut(number);
        let has_finished = holder.held == 0;
        if let Some(consumer) = holder.consumer.as_mut().filter(|consumer| has_finished && consumer.is_drained()) {
            consumer.end_turn();
            self.active = None;
            self.activate();
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
        self.keys_of(connection).map(|(_, number)| *number).collect()
    }

    fn keys_of(&self, connection: ConnectionId) -> impl Iterator<Item = (&ConsumerKey, &u32)> {
        let least = ConsumerKey { connection, channel: 0, serial: 0 };
        self.numbers.range(least..).take_while(move |(key, _)| key.connection == connection)
    }

    /// Whose a message is.
    #[cfg(test)]
    pub(super) fn channel_of(&self, token: Token) -> ChannelKey {
        self.entry(number_of(token)).key.on_channel()
    }

    fn entry(&self, number: u32) -> &Holder {
        &self.entries[number as usize]
    }

    fn entry_mut(&mut self, number: u32) -> &mut Holder {
        &mut self.entries[number as usize]
    }
}
