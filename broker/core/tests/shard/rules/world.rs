//! A shard and the models of its queues, step by step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use warren_core::command::{Attributes, encode_publish_head};
use warren_core::limits::FORWARD_RETRY_MILLIS;
use warren_core::queue::{
    DeadLettering, Deduplication, Delivery, Event, Overflow, PositionRange, PublishRun, QueueKind, QueueSettings,
    Receipt, RetryDelay, Returned, Settlement, Shard, ShardInput, ShardOutput, Subscription,
};
use warren_core::{Bodies, ChannelKey, ConnectionId, ConsumerKey, Location, Message as Octets, QueueId};

use super::Dice;
use super::model::{Incoming, Message, Model, Said, State};

/// Two logged ones, one in memory, and the store of a delayed exchange.
const QUEUES: [u32; 4] = [1, 2, 3, 4];
const PUBLISHER: ConnectionId = ConnectionId(900);
const HEADER: &[u8] = b"a header";

/// Entries one behind the other in one endless segment.
#[derive(Debug, Default)]
struct Log {
    entries: Vec<(Location, Bytes)>,
    end: u32,
}

impl Log {
    fn append(&mut self, payload: Bytes) -> Location {
        let at = Location { segment: 1, offset: self.end, len: payload.len() as u32 };
        self.end += at.len;
        self.entries.push((at, payload));
        at
    }
}

impl Bodies for Log {
    fn read(&mut self, at: Location) -> Octets {
        let behind = self.entries.partition_point(|(entry, _)| entry.offset <= at.offset);
        let (entry, payload) = &self.entries[behind - 1];
        let start = (at.offset - entry.offset) as usize;
        Octets::from_publish(payload.slice(start..start + at.len as usize)).expect("it is the place of a publish")
    }
}

pub(super) struct World {
    dice: Dice,
    shard: Shard,
    log: Log,
    /// What a restart begins with, and how many entries it has.
    snapshot: Option<(Vec<u8>, usize)>,
    models: BTreeMap<u32, Model>,
    /// By queue: logged messages that a restart finds, as it finds them.
    durable: BTreeMap<u32, Vec<Message>>,
    /// Publishes that are to be answered; true: they are refused.
    answers: BTreeMap<u64, bool>,
    /// Those that are not answered before the next entry is committed.
    awaited: BTreeSet<u64>,
    now: u64,
    /// Many messages come at once, so that more leave than may be on their way.
    is_crowded: bool,
    last_id: u64,
    last_number: u64,
    last_connection: u64,
    /// What kinds of things were said, so that a test can see that it tests something.
    pub(super) seen: BTreeSet<String>,
    /// What happened last, for whoever has to find out why.
    trace: VecDeque<String>,
}

/// Steps of a failing run that are shown.
const SHOWN: usize = 60;

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.trace.iter().for_each(|step| println!("{step}"));
            self.models.iter().for_each(|(queue, model)| println!("queue {queue}: {model:#?}"));
        }
    }
}

fn settings(queue: u32, dice: &mut Dice) -> QueueSettings {
    let kind = [QueueKind::Classic, QueueKind::Quorum, QueueKind::Classic, QueueKind::Delayed][queue as usize - 1];
    let plain = QueueSettings { logged: queue != 3, kind, ..QueueSettings::default() };
    if kind == QueueKind::Delayed || dice.once_in(8) {
        return plain;
    }
    let retry = || RetryDelay { of: Returned::All, min_millis: 5, max_millis: 12 };
    QueueSettings {
        message_ttl: dice.maybe(60).filter(|_| dice.once_in(2)),
        expires: dice.maybe(40).filter(|_| dice.once_in(3)),
        max_length: dice.maybe(8),
        max_length_bytes: dice.maybe(60).filter(|_| dice.once_in(2)),
        overflow: dice.pick(&[Overflow::DropHead, Overflow::RejectPublish, Overflow::RejectPublishDeadLetter]),
        max_priority: dice.below(4) as u8,
        dead_lettering: dice.pick(&[DeadLettering::None, DeadLettering::AtMostOnce, DeadLettering::AtLeastOnce]),
        delivery_limit: dice.maybe(3).map(|limit| limit as u32),
        retry_delay: dice
            .once_in(3)
            .then(|| RetryDelay { of: dice.pick(&[Returned::All, Returned::Failed, Returned::GivenBack]), ..retry() }),
        deduplication: dice
            .once_in(2)
            .then(|| Deduplication { cache_size: 1_000, cache_millis: dice.maybe(30).map(|millis| millis + 1) }),
        ..plain
    }
}

impl World {
    pub(super) fn new(mut dice: Dice) -> Self {
        let (now, is_crowded) = (1_000, dice.once_in(20));
        let models = QUEUES.map(|queue| (queue, Model::new(settings(queue, &mut dice), now)));
        let mut world = Self {
            dice,
            shard: Shard::new(),
            log: Log::default(),
            snapshot: None,
            models: models.into(),
            durable: QUEUES.map(|queue| (queue, Vec::new())).into(),
            answers: BTreeMap::new(),
            awaited: BTreeSet::new(),
            now,
            is_crowded,
            last_id: 0,
            last_number: 0,
            last_connection: 0,
            seen: BTreeSet::new(),
            trace: VecDeque::new(),
        };
        let mut output = ShardOutput::default();
        world.shard.tick(now, &mut world.log, &mut output);
        world.create_queues(&mut output);
        world
    }

    fn create_queues(&mut self, output: &mut ShardOutput) {
        for queue in QUEUES {
            let settings = self.models[&queue].settings.clone();
            let create = ShardInput::Create { queue: QueueId(queue), settings };
            self.shard.handle(create, &mut self.log, output);
        }
        self.commit(output);
    }

    /// Lets one thing happen; answers what it was and what was said about it.
    pub(super) fn step(&mut self) -> String {
        let mut output = ShardOutput::default();
        let waits = self.models.values().any(|model| model.awaits);
        // Most else waits for the log then.
        let roll = if waits { self.dice.pick(&[95, 97, 98, 99]) } else { self.dice.below(100) };
        let what = match roll {
            0..2 if self.is_crowded => self.publish(600, &mut output),
            0..30 => self.publish(4, &mut output),
            30..42 => self.get(&mut output),
            42..50 => self.subscribe(&mut output),
            50..66 => self.settle(&mut output),
            66..72 if self.is_crowded => self.arrive(60, &mut output),
            66..72 => self.arrive(1, &mut output),
            72..76 => self.leave(&mut output),
            76..90 => self.pass_time(&mut output),
            90..92 => self.purge(&mut output),
            92..95 => self.reconfigure(&mut output),
            95..97 => self.write_snapshot(),
            97..99 => {
                self.commit(&mut output);
                String::from("commit")
            }
            _ => {
                self.restart();
                String::from("restart")
            }
        };
        self.check(&what, output)
    }

    /// Everything that waits for the log gets there, and takes effect.
    fn commit(&mut self, output: &mut ShardOutput) {
        while self.commit_one(output) {}
    }

    /// As far as the shard has written by now, a restart will find it.
    fn commit_one(&mut self, output: &mut ShardOutput) -> bool {
        let Some(slices) = self.shard.take_entry(self.now) else { return false };
        self.note_durable();
        self.awaited.clear();
        for (queue, model) in &mut self.models {
            let refused = model.conclude();
            self.durable.get_mut(queue).unwrap().retain(|message| !refused.contains(&message.id));
        }
        let at = self.log.append(Bytes::from(slices.concat()));
        self.shard.committed(at, &mut self.log, output);
        true
    }

    fn note_durable(&mut self) {
        for (queue, model) in &mut self.models {
            let found = self.durable.get_mut(queue).unwrap();
            let gone: BTreeSet<u64> = model.gone.drain(..).collect();
            found.retain(|message| !gone.contains(&message.id));
            for (id, count) in model.failed.drain(..) {
                found.iter_mut().filter(|message| message.id == id).for_each(|message| message.count = count);
            }
        }
    }

    fn put(&mut self, input: ShardInput, output: &mut ShardOutput) {
        self.shard.handle(input, &mut self.log, output);
    }

    fn publish(&mut self, most: u64, output: &mut ShardOutput) -> String {
        let queues: &[u32] = self.dice.pick(&[&[1], &[1], &[2], &[2], &[1, 2], &[3], &[3], &[4]]);
        let logged = queues != [3] && !self.dice.once_in(4);
        let count = 1 + self.dice.below(most);
        let (mut commands, mut incoming) = (Vec::new(), Vec::new());
        for _ in 0..count {
            incoming.push(self.incoming(queues, logged, &mut commands));
        }
        let first = self.last_number + 1;
        self.last_number += count;
        let receipts = vec![Receipt { connection: PUBLISHER, channel: 1, first, len: count, index: 0 }];
        let run = PublishRun { logged, commands: commands.into(), count: count as u32, receipts };
        self.put(ShardInput::Publish(run), output);
        if logged {
            self.commit_one(output);
        }
        let mut refused = BTreeSet::new();
        for (number, incoming) in (first..).zip(&incoming) {
            for queue in queues {
                let model = self.models.get_mut(queue).unwrap();
                if logged && !model.is_known_by_log(incoming, self.now) {
                    let found = model.message(incoming, self.now);
                    self.durable.get_mut(queue).unwrap().push(found);
                }
                if !model.admit(incoming, self.now) {
                    refused.insert(number);
                }
            }
        }
        for queue in queues {
            let model = self.models.get_mut(queue).unwrap();
            model.dispatch();
            model.end_run();
        }
        if self.models.values().any(|model| model.awaits) {
            self.awaited = (first..first + count).collect();
        }
        self.answers.extend((first..first + count).map(|number| (number, refused.contains(&number))));
        format!("publish {first} {count} {refused:?}")
    }

    fn incoming(&mut self, queues: &[u32], logged: bool, commands: &mut Vec<u8>) -> Incoming {
        self.last_id += 1;
        let dice = &mut self.dice;
        let attributes = Attributes {
            expiration: dice.maybe(40).filter(|_| dice.once_in(2)),
            priority: dice.maybe(6).map(|priority| priority as u8),
            deduplication: dice.maybe(6).map(u128::from).filter(|_| dice.once_in(3)),
            delay: dice.maybe(40),
            filter: None,
            dead_letter: false,
        };
        let body = 8 + dice.below(20) as usize;
        let start = commands.len();
        let to = (queues.len(), queues.iter().map(|queue| QueueId(*queue)));
        encode_publish_head(to, 0, 0, HEADER.len() as u32, body as u32, &attributes, commands);
        let message = commands.len();
        commands.extend_from_slice(HEADER);
        commands.extend_from_slice(&self.last_id.to_be_bytes());
        commands.resize(message + HEADER.len() + body, 0);
        Incoming {
            id: self.last_id,
            logged,
            priority: attributes.priority,
            expiration: attributes.expiration,
            key: attributes.deduplication,
            delay: attributes.delay,
            body: body as u64,
            octets: (commands.len() - if logged { start } else { message }) as u64,
        }
    }

    fn connect(&mut self, serial: u32) -> ConsumerKey {
        self.last_connection += 1;
        ConsumerKey { connection: ConnectionId(self.last_connection), channel: 1, serial }
    }

    fn get(&mut self, output: &mut ShardOutput) -> String {
        let (queue, no_ack, holder) = (self.dice.pick(&QUEUES), self.dice.once_in(4), self.connect(0));
        self.put(ShardInput::Get { queue: QueueId(queue), holder, no_ack }, output);
        self.commit_attach(queue, output);
        let model = self.models.get_mut(&queue).unwrap();
        model.get(holder, no_ack);
        model.dispatch();
        format!("get {queue} {no_ack}")
    }

    /// The first that asks a logged queue for messages waits for the log.
    fn commit_attach(&mut self, queue: u32, output: &mut ShardOutput) {
        let model = self.models.get_mut(&queue).unwrap();
        if model.settings.logged && !std::mem::replace(&mut model.attached, true) {
            self.commit_one(output);
        }
    }

    fn subscribe(&mut self, output: &mut ShardOutput) -> String {
        let (queue, prefetch_count) = (1 + self.dice.below(3) as u32, 1 + self.dice.below(3) as u32);
        if self.models[&queue].consumers.len() == 2 {
            return String::from("nothing");
        }
        let consumer = self.connect(1);
        let subscription = Subscription { prefetch_count, ..Subscription::default() };
        self.put(ShardInput::Subscribe { queue: QueueId(queue), consumer, subscription }, output);
        self.commit_attach(queue, output);
        let model = self.models.get_mut(&queue).unwrap();
        model.used();
        model.consumers.insert(consumer, prefetch_count);
        model.dispatch();
        format!("subscribe {queue} {prefetch_count}")
    }

    /// A client settles one of the messages that it holds.
    fn settle(&mut self, output: &mut ShardOutput) -> String {
        let queue = self.dice.pick(&QUEUES);
        let held = self.models[&queue].held();
        if held.is_empty() {
            return String::from("nothing");
        }
        let at = self.dice.pick(&held);
        let kinds = [Settlement::Done, Settlement::Reject, Settlement::Requeue, Settlement::Fail, Settlement::Return];
        let settlement = self.dice.pick(&kinds);
        let model = self.models.get_mut(&queue).unwrap();
        let State::Held(key) = model.messages[at].state else { unreachable!("only held ones were asked for") };
        let position = model.messages[at].position;
        model.settle(at, settlement);
        model.dispatch();
        let stranger = ChannelKey { channel: key.channel + 1, connection: key.connection };
        for holder in [stranger, ChannelKey::FORWARDER, key.on_channel()] {
            let ranges = vec![PositionRange { first: position, len: 1 }];
            self.put(ShardInput::Settle { queue: QueueId(queue), holder, ranges, settlement }, output);
        }
        format!("settle {queue} {at} {settlement:?}")
    }

    /// The forwarder settles some of the messages that it has, at most so many.
    fn arrive(&mut self, most: usize, output: &mut ShardOutput) -> String {
        let queue = self.dice.pick(&QUEUES);
        let leaving = self.models[&queue].leaving();
        if leaving.is_empty() {
            return String::from("nothing");
        }
        let (first, done) = (self.dice.below(leaving.len() as u64) as usize, !self.dice.once_in(4));
        let settlement = if done { Settlement::Done } else { Settlement::Return };
        let model = self.models.get_mut(&queue).unwrap();
        let which = leaving.iter().skip(first).take(most);
        let positions: Vec<u64> = which.map(|at| model.messages[*at].position).collect();
        let ranges = positions.iter().map(|first| PositionRange { first: *first, len: 1 }).collect();
        for position in &positions {
            let theirs =
                |message: &Message| message.position == *position && matches!(message.state, State::Leaving(_));
            let at = model.messages.iter().position(theirs).unwrap();
            model.arrive(at, done);
        }
        self.seen.extend((!done).then(|| String::from("given back")));
        model.dispatch();
        let holder = ChannelKey::FORWARDER;
        self.put(ShardInput::Settle { queue: QueueId(queue), holder, ranges, settlement }, output);
        format!("arrive {queue} {positions:?} {done}")
    }

    /// A connection goes: that of a consumer, or of a channel that got a message.
    fn leave(&mut self, output: &mut ShardOutput) -> String {
        let queue = self.dice.pick(&QUEUES);
        let model = self.models.get_mut(&queue).unwrap();
        let holders = model.messages.iter().filter_map(|message| match message.state {
            State::Held(key) => Some(key),
            _ => None,
        });
        let all: BTreeSet<ConsumerKey> = holders.chain(model.consumers.keys().copied()).collect();
        let Some(key) = all.iter().nth(self.dice.below(5) as usize).copied() else {
            return String::from("nothing");
        };
        let theirs = |message: &Message| message.state == State::Held(key);
        let ids: Vec<(u8, u64)> = model
            .messages
            .iter()
            .filter(|message| theirs(message))
            .map(|message| (message.level, message.id))
            .collect();
        if !model.consumers.is_empty() {
            model.used();
        }
        model.consumers.remove(&key);
        // Highest priority first, as the queue goes through its messages.
        let mut ids = ids;
        ids.sort_by_key(|(level, id)| (std::cmp::Reverse(*level), *id));
        for (_, id) in ids {
            let at = model.messages.iter().position(|message| message.id == id).unwrap();
            model.settle(at, Settlement::Fail);
        }
        model.dispatch();
        self.put(ShardInput::Detach { connection: key.connection, queue: Some(QueueId(queue)) }, output);
        format!("leave {queue} {key:?}")
    }

    fn pass_time(&mut self, output: &mut ShardOutput) -> String {
        // Now and then long enough for what the forwarder gave back.
        self.now += if self.dice.once_in(12) { FORWARD_RETRY_MILLIS } else { self.dice.below(15) };
        self.shard.tick(self.now, &mut self.log, output);
        for model in self.models.values_mut() {
            model.now = self.now;
            if model.deadline().is_some_and(|at| at <= self.now) {
                model.look_at_use();
                model.dispatch();
            }
        }
        format!("time {}", self.now)
    }

    fn purge(&mut self, output: &mut ShardOutput) -> String {
        let (queue, connection) = (self.dice.pick(&QUEUES), ConnectionId(800));
        self.put(ShardInput::Purge { queue: QueueId(queue), connection }, output);
        let model = self.models.get_mut(&queue).unwrap();
        while let Some(at) = model.messages.iter().position(|message| message.state == State::Ready) {
            model.remove(at);
        }
        model.dispatch();
        format!("purge {queue}")
    }

    fn reconfigure(&mut self, output: &mut ShardOutput) -> String {
        let queue = self.dice.pick(&QUEUES);
        let settings = settings(queue, &mut self.dice);
        self.put(ShardInput::Create { queue: QueueId(queue), settings: settings.clone() }, output);
        if self.models[&queue].settings.logged && self.models[&queue].settings != settings {
            self.commit_one(output);
        }
        let model = self.models.get_mut(&queue).unwrap();
        if model.settings.expires != settings.expires {
            model.used();
        }
        if settings.deduplication.is_none() {
            model.keys = Default::default();
        }
        model.settings = settings;
        model.dispatch();
        format!("reconfigure {queue}")
    }

    /// What a snapshot leaves out is done with, whether the log says so or not.
    fn write_snapshot(&mut self) -> String {
        self.snapshot = Some((self.shard.snapshot().encode(), self.log.entries.len()));
        self.note_durable();
        String::from("snapshot")
    }

    /// The process dies. What was not in the log yet is as if it had not happened.
    pub(super) fn restart(&mut self) {
        let (mut shard, covered) = match &self.snapshot {
            Some((octets, covered)) => (Shard::restore(octets).expect("it was encoded"), *covered),
            None => (Shard::new(), 0),
        };
        for (at, entry) in &self.log.entries[covered..] {
            shard.replay(*at, entry).expect("own entries can be replayed");
        }
        shard.lead();
        self.shard = shard;
        for (queue, model) in &mut self.models {
            let was_attached = std::mem::take(&mut model.attached);
            let found = self.durable.get_mut(queue).unwrap();
            found.iter_mut().for_each(|message| message.old |= was_attached);
            model.messages.clone_from(found);
            // A key that was refused is known if the log does not say so yet; its message is there then, too.
            (model.refusing, model.awaits) = Default::default();
            model.keys[1].clear();
            model.consumers.clear();
            (model.gone, model.failed) = Default::default();
            model.used();
        }
        self.answers.clear();
        self.awaited.clear();
        let mut output = ShardOutput::default();
        self.create_queues(&mut output);
        self.shard.tick(self.now, &mut self.log, &mut output);
        for model in self.models.values_mut() {
            model.dispatch();
            if model.deadline().is_some_and(|at| at <= self.now) {
                model.look_at_use();
            }
        }
        self.check("restart", output);
    }

    /// Compares what was said, and how things are now, with what the models say.
    fn check(&mut self, what: &str, mut output: ShardOutput) -> String {
        self.trace.push_back(String::from(what));
        if self.trace.len() > SHOWN {
            self.trace.pop_front();
        }
        let mut said: BTreeMap<u32, Vec<Said>> = BTreeMap::new();
        for queue in output.unused.drain(..) {
            self.seen.insert(String::from("unused"));
            said.entry(queue.0).or_default().push(Said::Unused);
        }
        for (connection, events) in output.take_events() {
            for event in events {
                self.hear(connection, event, &mut said);
            }
        }
        let waits = self.models.values().any(|model| model.awaits);
        assert!(waits || self.answers.is_empty(), "{what}: publishes are not answered: {:?}", self.answers);
        let mut ready = 0;
        let waits = |model: &Model| model.messages.iter().any(|message| matches!(message.state, State::Waiting(..)));
        self.seen.extend(self.models.values().any(waits).then(|| String::from("waits")));
        for (queue, model) in &mut self.models {
            let expected = sorted(std::mem::take(&mut model.said));
            let said = sorted(said.remove(queue).unwrap_or_default());
            assert_eq!(said, expected, "{what}: queue {queue} with {:?}", model.settings);
            ready += model.ready();
        }
        let totals = self.shard.totals();
        let held: usize = self.models.values().map(|model| model.held().len()).sum();
        assert_eq!((totals.ready, totals.unacked), (ready as u64, held as u64), "{what}: ready and unacknowledged");
        let deadline = self.models.values().filter_map(Model::deadline).min();
        assert_eq!(self.shard.next_deadline(), deadline, "{what}: the next deadline");
        format!("{what} {totals:?} {deadline:?}")
    }

    fn hear(&mut self, connection: ConnectionId, event: Event, said: &mut BTreeMap<u32, Vec<Said>>) {
        let (queue, position, octets) = match event {
            Event::Forward(forward) => {
                let id = id(&forward.message);
                self.seen.insert(format!("{:?}", forward.reason));
                let queue = said.entry(forward.queue.0).or_default();
                queue.push(Said::Forwarded(id, forward.reason, forward.delivery_count));
                assert_eq!((connection, forward.at_ms), (ConnectionId::FORWARDER, self.now));
                (forward.queue.0, forward.position, forward.message)
            }
            Event::Deliver(key, delivery) => self.hear_delivery(key, delivery, said),
            Event::Got(Some((delivery, _))) => {
                let key = ConsumerKey { connection, channel: 1, serial: 0 };
                self.hear_delivery(key, delivery, said)
            }
            Event::Confirmed { first, len, .. } => return self.answered(first, len, false),
            Event::Refused { first, len, .. } => return self.answered(first, len, true),
            Event::Got(None) | Event::Purged(_) | Event::Subscribed(_, Ok(())) => return,
            other => panic!("nobody asked for {other:?}"),
        };
        let model = self.models.get_mut(&queue).unwrap();
        let id = id(&octets);
        if let Some(message) = model.messages.iter_mut().find(|message| message.id == id) {
            assert!(message.position == 0 || message.position == position, "a message keeps its place");
            message.position = position;
        }
    }

    fn answered(&mut self, first: u64, len: u64, refused: bool) {
        self.seen.insert(String::from(if refused { "refused" } else { "confirmed" }));
        for number in first..first + len {
            assert!(
                !self.awaited.contains(&number),
                "publish {number} is answered before the log says what became of it"
            );
            assert_eq!(self.answers.remove(&number), Some(refused), "publish {number} is answered once, and rightly");
        }
    }

    /// Which of several consumers gets a message is the shard's choice, as long as it has room.
    fn hear_delivery(
        &mut self,
        key: ConsumerKey,
        delivery: Delivery,
        said: &mut BTreeMap<u32, Vec<Said>>,
    ) -> (u32, u64, Octets) {
        let Delivery { queue, position, redelivered, delivery_count, message, .. } = delivery;
        if redelivered || delivery_count > 0 {
            self.seen.insert(format!("redelivered {}", delivery_count > 0));
        }
        let id = id(&message);
        said.entry(queue.0).or_default().push(Said::Delivered(id, redelivered, delivery_count));
        let model = self.models.get_mut(&queue.0).unwrap();
        if let Some(message) = model.messages.iter_mut().find(|message| message.id == id)
            && let State::Held(_) = message.state
        {
            message.state = State::Held(key);
        }
        (queue.0, position, message)
    }
}

/// What was said, without the order between one connection's and another's.
fn sorted(mut said: Vec<Said>) -> Vec<Said> {
    said.sort_by_key(|said| match said {
        Said::Delivered(id, ..) => (0, *id),
        Said::Forwarded(..) => (1, 0),
        Said::Unused => (2, 0),
    });
    said
}

fn id(message: &Octets) -> u64 {
    let number = message.body().first_chunk().expect("bodies begin with a number");
    u64::from_be_bytes(*number)
}
