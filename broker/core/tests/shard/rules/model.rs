//! A queue with rules as a list of messages, and what each thing that happens to it does: no stores, no positions, no
//! deadlines that are kept, no log.

use std::collections::{BTreeMap, BTreeSet};

use warren_core::ConsumerKey;
use warren_core::limits::{DEAD_LETTERS_UNDER_WAY, FORWARD_RETRY_MILLIS};
use warren_core::queue::{DeadLettering, ForwardReason, Overflow, QueueKind, QueueSettings, Returned, Settlement};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    Held(ConsumerKey),
    /// It came back and is ready at that time.
    Returning(u64),
    /// The forwarder has it.
    Leaving(ForwardReason),
    /// It gave it back, and gets it again at that time; of those of one time this was so many-th.
    Retrying(u64, u64, ForwardReason),
    /// Too many are on their way; of those that wait this was so many-th.
    Waiting(u64, ForwardReason),
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) logged: bool,
    pub(crate) level: u8,
    /// When its time is over.
    pub(crate) time_ms: Option<u64>,
    /// Octets as its queue counts them.
    pub(crate) size: u64,
    pub(crate) count: u32,
    /// It came back.
    pub(crate) redelivered: bool,
    /// It may have been handed out before a restart.
    pub(crate) old: bool,
    pub(crate) state: State,
    /// As whoever has it was told.
    pub(crate) position: u64,
}

/// What a queue is expected to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// Message, redelivered, delivery count.
    Delivered(u64, bool, u32),
    /// Message, delivery count.
    Forwarded(u64, ForwardReason, u32),
    Unused,
}

/// A message that comes.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    pub(crate) id: u64,
    pub(crate) logged: bool,
    pub(crate) priority: Option<u8>,
    pub(crate) expiration: Option<u64>,
    pub(crate) key: Option<u128>,
    pub(crate) delay: Option<u64>,
    pub(crate) body: u64,
    /// All of what is kept of it.
    pub(crate) octets: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) settings: QueueSettings,
    /// In the order in which they came.
    pub(crate) messages: Vec<Message>,
    /// Consumers and how many messages they may hold.
    pub(crate) consumers: BTreeMap<ConsumerKey, u32>,
    /// When keys came: of logged messages and of the others.
    pub(crate) keys: [BTreeMap<u128, u64>; 2],
    pub(crate) used_at: u64,
    pub(crate) expired: bool,
    pub(crate) attached: bool,
    /// Logged messages that are done with, and what came back how often: not in the log yet.
    pub(crate) gone: Vec<u64>,
    pub(crate) failed: Vec<(u64, u32)>,
    /// Keys of logged messages that were refused, with the message unless it went on as a dead letter: not in the log yet.
    pub(crate) refusing: Vec<(u128, Option<u64>)>,
    /// Publishers are told what became of their messages when it is in the log.
    pub(crate) awaits: bool,
    /// How many the forwarder has given back, or had to wait.
    turns: u64,
    /// Messages of the present run.
    fresh: BTreeSet<u64>,
    pub(crate) said: Vec<Said>,
    pub(crate) now: u64,
}

impl Model {
    pub(crate) fn new(settings: QueueSettings, now: u64) -> Self {
        Self {
            settings,
            messages: Vec::new(),
            consumers: BTreeMap::new(),
            keys: Default::default(),
            used_at: now,
            expired: false,
            attached: false,
            gone: Vec::new(),
            failed: Vec::new(),
            refusing: Vec::new(),
            awaits: false,
            turns: 0,
            fresh: BTreeSet::new(),
            said: Vec::new(),
            now,
        }
    }

    pub(crate) fn used(&mut self) {
        (self.used_at, self.expired) = (self.now, false);
    }

    pub(crate) fn ready(&self) -> usize {
        self.messages.iter().filter(|message| message.state == State::Ready).count()
    }

    pub(crate) fn held(&self) -> Vec<usize> {
        self.which(|message| matches!(message.state, State::Held(_)))
    }

    pub(crate) fn leaving(&self) -> Vec<usize> {
        self.which(|message| matches!(message.state, State::Leaving(_)))
    }

    fn which(&self, is: impl Fn(&Message) -> bool) -> Vec<usize> {
        (0..self.messages.len()).filter(|at| is(&self.messages[*at])).collect()
    }

    /// The ready messages that are the first of their priority, highest first.
    fn heads(&self) -> Vec<usize> {
        let mut heads: BTreeMap<u8, usize> = BTreeMap::new();
        for at in self.which(|message| message.state == State::Ready) {
            heads.entry(self.messages[at].level).or_insert(at);
        }
        heads.into_values().rev().collect()
    }

    fn is_over(&self, at: usize) -> bool {
        self.messages[at].time_ms.is_some_and(|time| time <= self.now)
    }

    /// Takes a message in; false: refused. `time`: when it came.
    pub(crate) fn admit(&mut self, incoming: &Incoming, time: u64) -> bool {
        let mut message = self.message(incoming, time);
        if let (Some(key), Some(rule)) = (incoming.key, self.settings.deduplication) {
            let recent = |came: &u64| rule.cache_millis.is_none_or(|millis| came + millis > time);
            let by_log = self.is_known_by_log(incoming, time);
            // Of what is in memory only a restart would leave nothing, and the logged message was confirmed.
            let known = by_log || !incoming.logged && self.keys[1].get(&key).is_some_and(recent);
            let own = &mut self.keys[usize::from(!incoming.logged)];
            own.retain(|_, came| recent(came));
            own.entry(key).or_insert(time);
            let is_refused = self.refusing.iter().any(|(refused, _)| *refused == key);
            if by_log && incoming.logged {
                return !is_refused;
            }
            if is_refused {
                self.refuse(incoming, message);
                return false;
            }
            if known {
                return true;
            }
        }
        let full = |model: &Self| {
            let (dead, bytes) = model.dead();
            model.would_be_too_long(1 + dead, incoming.body + bytes)
        };
        if self.settings.overflow != Overflow::DropHead && full(self) {
            self.dispatch();
            if full(self) {
                self.refuse(incoming, message);
                return false;
            }
        }
        self.fresh.insert(incoming.id);
        message.state = State::Ready;
        self.messages.push(message);
        true
    }

    /// True if the log before the message says that the queue has had it.
    pub(crate) fn is_known_by_log(&self, incoming: &Incoming, time: u64) -> bool {
        let (Some(key), Some(rule)) = (incoming.key, self.settings.deduplication) else { return false };
        let recent = |came: &u64| rule.cache_millis.is_none_or(|millis| came + millis > time);
        self.keys[0].get(&key).is_some_and(recent)
    }

    /// As the log has a message, before anything is known of what became of it.
    pub(crate) fn message(&self, incoming: &Incoming, time: u64) -> Message {
        let Incoming { id, logged, priority, .. } = *incoming;
        let level = match self.settings.kind {
            QueueKind::Quorum => priority.unwrap_or(4).min(31),
            QueueKind::Classic => priority.unwrap_or(0).min(self.settings.max_priority),
            _ => 0,
        };
        let wait = match self.settings.kind {
            QueueKind::Delayed => Some(incoming.delay.unwrap_or(0)),
            _ => [self.settings.message_ttl, incoming.expiration].into_iter().flatten().min(),
        };
        let size = if self.settings.max_length_bytes.is_some() { incoming.body } else { incoming.octets };
        let time_ms = wait.map(|wait| time + wait);
        let (count, redelivered, old) = (0, false, false);
        Message { id, logged, level, time_ms, size, count, redelivered, old, state: State::Ready, position: 0 }
    }

    fn refuse(&mut self, incoming: &Incoming, message: Message) {
        let key = incoming.key.filter(|_| self.settings.deduplication.is_some());
        let goes_on = self.settings.overflow == Overflow::RejectPublishDeadLetter && self.forwards();
        match key {
            Some(key) if incoming.logged => self.refusing.push((key, (!goes_on).then_some(message.id))),
            Some(key) => drop(self.keys[1].remove(&key)),
            None if !goes_on => self.note_gone(&message),
            None => {}
        }
        self.awaits |= incoming.logged && (key.is_some() || !goes_on);
        if goes_on {
            self.messages.push(message);
            self.die(self.messages.len() - 1, ForwardReason::MaxLength);
        }
    }

    /// The log says what was refused; answers which messages that were.
    pub(crate) fn conclude(&mut self) -> Vec<u64> {
        self.awaits = false;
        let refused = std::mem::take(&mut self.refusing);
        refused.iter().for_each(|(key, _)| _ = self.keys[0].remove(key));
        refused.into_iter().filter_map(|(_, id)| id).collect()
    }

    fn would_be_too_long(&self, messages: usize, octets: u64) -> bool {
        let ready = self.messages.iter().filter(|message| message.state == State::Ready);
        let bytes = ready.map(|message| message.size).sum::<u64>() + octets;
        self.settings.max_length.is_some_and(|most| (self.ready() + messages) as u64 > most)
            || self.settings.max_length_bytes.is_some_and(|most| bytes > most)
    }

    /// Dead letters that count towards the queue's length, and their octets.
    fn dead(&self) -> (usize, u64) {
        let must_arrive = self.settings.dead_lettering == DeadLettering::AtLeastOnce;
        let dead = self.which(|message| match message.state {
            State::Leaving(_) | State::Retrying(..) => must_arrive,
            State::Waiting(_, reason) => must_arrive || reason != ForwardReason::MaxLength,
            State::Ready | State::Held(_) | State::Returning(_) => false,
        });
        (dead.len(), dead.iter().map(|at| self.messages[*at].size).sum())
    }

    fn forwards(&self) -> bool {
        self.settings.dead_lettering != DeadLettering::None || self.settings.kind == QueueKind::Delayed
    }

    fn note_gone(&mut self, message: &Message) {
        if message.logged {
            self.gone.push(message.id);
        }
    }

    pub(crate) fn remove(&mut self, at: usize) {
        let message = self.messages.remove(at);
        self.note_gone(&message);
    }

    /// True if one more may be on its way.
    fn has_room(&self) -> bool {
        let under_way = self.which(|message| matches!(message.state, State::Leaving(_) | State::Retrying(..)));
        !self.forwards() || under_way.len() < DEAD_LETTERS_UNDER_WAY
    }

    fn die(&mut self, at: usize, reason: ForwardReason) {
        if !self.has_room() {
            self.turns += 1;
            self.messages[at].state = State::Waiting(self.turns, reason);
        } else if self.forwards() {
            let message = &mut self.messages[at];
            message.state = State::Leaving(reason);
            self.said.push(Said::Forwarded(message.id, reason, message.count));
        } else {
            self.remove(at);
        }
    }

    /// What follows from anything that happened.
    pub(crate) fn dispatch(&mut self) {
        for at in self.which(|message| matches!(message.state, State::Returning(_))) {
            let message = &mut self.messages[at];
            if matches!(message.state, State::Returning(due) if due <= self.now) {
                message.state = State::Ready;
            }
        }
        self.forward_waiting();
        if self.settings.kind == QueueKind::Delayed {
            let now = self.now;
            let mut due = self.which(|message| message.state == State::Ready && message.time_ms <= Some(now));
            due.sort_by_key(|at| self.messages[*at].time_ms);
            for at in due {
                if !self.has_room() {
                    break;
                }
                self.die(at, ForwardReason::Due);
            }
            return;
        }
        while let Some(key) = self.taker() {
            let Some(head) = self.heads().first().copied() else { break };
            if self.is_over(head) && !self.fresh.contains(&self.messages[head].id) {
                self.expire(false);
                continue;
            }
            self.hand(head, key);
        }
        self.expire(true);
        while self.settings.overflow == Overflow::DropHead
            && self.would_be_too_long(0, 0)
            && self.has_room()
            && let Some(head) = self.heads().last()
        {
            self.die(*head, ForwardReason::MaxLength);
        }
        self.expire(true);
    }

    /// What came back is sent again behind what waits, or dropped if there is nowhere to send it any more.
    fn forward_waiting(&mut self) {
        let due = |model: &Self, time: u64| time <= model.now || !model.forwards();
        while let Some((at, reason)) = self.first_in_turn(|model, state| match state {
            State::Retrying(time, turn, reason) if due(model, time) => Some(((time, turn), reason)),
            _ => None,
        }) {
            self.turns += 1;
            self.messages[at].state = State::Waiting(self.turns, reason);
        }
        while self.has_room()
            && let Some((at, reason)) = self.first_in_turn(|_, state| match state {
                State::Waiting(turn, reason) => Some(((0, turn), reason)),
                _ => None,
            })
        {
            self.die(at, reason);
        }
    }

    fn first_in_turn(
        &self,
        turn: impl Fn(&Self, State) -> Option<((u64, u64), ForwardReason)>,
    ) -> Option<(usize, ForwardReason)> {
        let turns = self.messages.iter().enumerate();
        let turns =
            turns.filter_map(|(at, message)| turn(self, message.state).map(|(turn, reason)| (turn, at, reason)));
        turns.min_by_key(|(turn, ..)| *turn).map(|(_, at, reason)| (at, reason))
    }

    fn expire(&mut self, fresh: bool) {
        let over = |model: &Self| model.heads().into_iter().find(|at| model.is_over(*at));
        while let Some(at) = over(self).filter(|at| fresh || !self.fresh.contains(&self.messages[*at].id)) {
            self.die(at, ForwardReason::Expired);
        }
    }

    pub(crate) fn end_run(&mut self) {
        self.fresh.clear();
    }

    /// Some consumer that can take one more. Which one, the shard says.
    fn taker(&self) -> Option<ConsumerKey> {
        let held = |key: &ConsumerKey| self.which(|message| message.state == State::Held(*key)).len();
        self.consumers.iter().find(|(key, most)| held(key) < **most as usize).map(|(key, _)| *key)
    }

    fn hand(&mut self, at: usize, key: ConsumerKey) {
        let message = &mut self.messages[at];
        message.state = State::Held(key);
        self.said.push(Said::Delivered(message.id, message.redelivered || message.old, message.count));
    }

    /// What `basic.get` takes.
    pub(crate) fn get(&mut self, key: ConsumerKey, no_ack: bool) {
        self.used();
        self.expire(true);
        if self.settings.kind == QueueKind::Delayed {
            return;
        }
        if let Some(head) = self.heads().first().copied() {
            self.hand(head, key);
            if no_ack {
                self.remove(head);
            }
        }
    }

    /// What a client settles.
    pub(crate) fn settle(&mut self, at: usize, settlement: Settlement) {
        let quorum = self.settings.kind == QueueKind::Quorum;
        let message = &mut self.messages[at];
        match settlement {
            Settlement::Done => return self.remove(at),
            Settlement::Reject => return self.die(at, ForwardReason::Rejected),
            Settlement::Return => return message.state = State::Ready,
            Settlement::Requeue => {}
            Settlement::Fail => message.count += u32::from(quorum),
        }
        message.redelivered = true;
        let (count, id) = (message.count, message.id);
        let returned = if settlement == Settlement::Fail { Returned::Failed } else { Returned::GivenBack };
        if returned == Returned::Failed && quorum {
            if message.logged {
                self.failed.push((id, count));
            }
            if self.settings.delivery_limit.is_some_and(|limit| count > limit) {
                return self.die(at, ForwardReason::DeliveryLimit);
            }
        }
        let delay = self.settings.retry_delay.filter(|delay| delay.of == Returned::All || delay.of == returned);
        self.messages[at].state = delay.map_or(State::Ready, |delay| {
            State::Returning(self.now + (delay.min_millis * u64::from(count.max(1))).min(delay.max_millis))
        });
    }

    /// What the forwarder settles.
    pub(crate) fn arrive(&mut self, at: usize, done: bool) {
        match self.messages[at].state {
            State::Leaving(reason) if !done => {
                self.turns += 1;
                self.messages[at].state = State::Retrying(self.now + FORWARD_RETRY_MILLIS, self.turns, reason);
            }
            _ => self.remove(at),
        }
    }

    /// Says that nobody has used it for as long as it may be unused.
    pub(crate) fn look_at_use(&mut self) {
        if self.expires_at().is_some_and(|at| at <= self.now) {
            self.expired = true;
            self.said.push(Said::Unused);
        }
    }

    fn expires_at(&self) -> Option<u64> {
        let unused = self.consumers.is_empty() && !self.expired;
        self.settings.expires.filter(|_| unused).map(|expires| self.used_at + expires)
    }

    /// When something will happen by itself.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let returning = self.messages.iter().filter_map(|message| match message.state {
            State::Returning(due) | State::Retrying(due, ..) => Some(due),
            _ => None,
        });
        let heads = match self.settings.kind {
            QueueKind::Delayed if !self.has_room() => Vec::new(),
            QueueKind::Delayed => self.which(|message| message.state == State::Ready),
            _ => self.heads(),
        };
        let times = heads.into_iter().filter_map(|at| self.messages[at].time_ms);
        returning.chain(times).chain(self.expires_at()).min()
    }
}
