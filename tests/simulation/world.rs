//! A node, its clients and its disk; what they do, step by step; and what becomes of it all when the power goes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use bytes::Bytes;
use warren_core::queue::{Delivery, Event, PositionRange, PublishRun, Receipt, Settlement, ShardInput, Subscription};
use warren_core::{ConnectionId, ConsumerKey, QueueId};
use warren_storage::{FaultyDisk, Options, Random};

use crate::message::{self, MessageId};
use crate::node::{self, Meanwhile, Node, QUEUES, SHARDS, SyncedEntry, Told, shard_of};
use crate::oracle::{Found, FoundMessage, Oracle};

/// One thing that happens. Numbers without a unit are taken modulo what there is to choose from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// So many messages with bodies of so many octets, to each of the queues; of those of one shard in one command.
    Publish {
        publisher: u64,
        queues: &'static [u32],
        count: u64,
        len: usize,
        logged: bool,
    },
    /// A consumer with a connection of its own.
    Subscribe {
        queue: u32,
        no_ack: bool,
        prefetch: u32,
    },
    /// A channel with a connection of its own asks for one message.
    Get {
        queue: u32,
        no_ack: bool,
    },
    /// Of what is held of a queue, so many are settled from that one on.
    Settle {
        queue: u32,
        first: usize,
        count: usize,
        requeue: bool,
    },
    /// A consumer's connection closes, when nothing is on its way.
    Leave(usize),
    /// A shard logs what waits; if not `due`, only if somebody waits for it.
    Propose {
        shard: u16,
        due: bool,
    },
    /// The log takes up to so many records and hands them to the disk.
    Write(usize),
    Sync,
    /// A shard hears up to so many signals.
    Hear {
        shard: u16,
        count: usize,
    },
    /// The log has nothing to do.
    Idle,
    /// The log's queue is full, or takes records again.
    Full(bool),
    /// The volume has so many octets left, or more than enough.
    Room(Option<u64>),
    BeginCheckpoint,
    /// The next so many shards are asked for their snapshots.
    AskForSnapshots(usize),
    /// Writes the checkpoint, if all shards have contributed. Bits of `emptied` say which old segments are emptied then;
    /// what the log's thread does meanwhile follows from `meanwhile`, and is nothing if that is 0.
    FinishCheckpoint {
        emptied: u32,
        meanwhile: u64,
    },
    /// Everything that is on its way arrives.
    Quiet,
}

/// How the log is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// The disk's unit of loss, in octets.
    pub(crate) block_len: usize,
    pub(crate) segment_len: u32,
}

pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) oracle: Oracle,
    layout: Layout,
    /// Of the last start.
    epoch_seed: u64,
    /// By publisher, the number of its last message.
    numbers: BTreeMap<u64, u64>,
    /// Numbers the connections of consumers and channels.
    last_connection: u64,
    consumers: Vec<(u32, ConsumerKey)>,
    /// Consumers, and channels that wait for an answer, that do not acknowledge.
    no_ack: BTreeSet<ConsumerKey>,
    /// What the steps came to, so that a test can see that it tests something.
    pub(crate) seen: Seen,
}

/// What has happened in a world.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) confirmed: usize,
    pub(crate) delivered: usize,
    pub(crate) redelivered: usize,
    pub(crate) checkpoints: usize,
    pub(crate) given_up: usize,
    pub(crate) relocations: usize,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, more: Self) {
        self.confirmed += more.confirmed;
        self.delivered += more.delivered;
        self.redelivered += more.redelivered;
        self.checkpoints += more.checkpoints;
        self.given_up += more.given_up;
        self.relocations += more.relocations;
    }
}

/// Connections up to here are publishers'.
const PUBLISHERS: u64 = 100;

impl Layout {
    fn options(self, epoch_seed: u64) -> Options {
        let segment_len = self.segment_len;
        Options { segment_len, first_segment_len: segment_len, reserve: 0, epoch_seed, ..Options::default() }
    }
}

impl World {
    /// A node on an empty disk.
    pub(crate) fn new(layout: Layout) -> Self {
        let node = Node::start(FaultyDisk::new(layout.block_len), layout.options(0));
        Self {
            node,
            oracle: Oracle::new(),
            layout,
            epoch_seed: 0,
            numbers: BTreeMap::new(),
            last_connection: PUBLISHERS,
            consumers: Vec::new(),
            no_ack: BTreeSet::new(),
            seen: Seen::default(),
        }
    }

    pub(crate) fn take(&mut self, step: Step) {
        match step {
            Step::Publish { publisher, queues, count, len, logged } => {
                self.publish(publisher, queues, count, len, logged);
            }
            Step::Subscribe { queue, no_ack, prefetch } => self.subscribe(queue, no_ack, prefetch),
            Step::Get { queue, no_ack } => self.get(queue, no_ack),
            Step::Settle { queue, first, count, requeue } => self.settle(queue, first, count, requeue),
            Step::Leave(which) => self.leave(which),
            Step::Propose { shard, due } => self.propose(shard, due),
            Step::Write(count) => self.node.write(count),
            Step::Sync => self.sync(),
            Step::Hear { shard, count } => {
                for _ in 0..count {
                    self.hear(shard);
                }
            }
            Step::Idle => self.node.idle(),
            Step::Full(full) => self.node.set_full(full),
            Step::Room(room) => self.node.set_room(room),
            Step::BeginCheckpoint => self.node.begin_checkpoint(),
            Step::AskForSnapshots(count) => (0..count).for_each(|_| self.node.ask_for_snapshot()),
            Step::FinishCheckpoint { emptied, meanwhile } => self.finish_checkpoint(emptied, meanwhile),
            Step::Quiet => self.quiet(),
        }
    }

    fn publish(&mut self, publisher: u64, queues: &[u32], count: u64, len: usize, logged: bool) {
        let last = self.numbers.entry(publisher).or_default();
        let first = *last + 1;
        *last += count;
        for shard in SHARDS {
            let queues: Vec<u32> = queues.iter().copied().filter(|queue| shard_of(*queue) == shard).collect();
            if queues.is_empty() {
                continue;
            }
            let mut commands = Vec::new();
            for number in first..first + count {
                let id = MessageId::new(publisher, number);
                message::encode(id, len, &queues, &mut commands);
                queues.iter().for_each(|queue| self.oracle.published(*queue, id, len, logged));
            }
            let receipt = Receipt { connection: ConnectionId(publisher), channel: 1, first, len: count, index: 0 };
            let (commands, receipts) = (Bytes::from(commands), vec![receipt]);
            let run = PublishRun { logged, commands, count: count as u32, receipts };
            self.input(shard, ShardInput::Publish(run));
        }
    }

    fn connect(&mut self, serial: u32, no_ack: bool) -> ConsumerKey {
        self.last_connection += 1;
        let key = ConsumerKey { connection: ConnectionId(self.last_connection), channel: 1, serial };
        if no_ack {
            self.no_ack.insert(key);
        }
        key
    }

    fn subscribe(&mut self, queue: u32, no_ack: bool, prefetch_count: u32) {
        let consumer = self.connect(1, no_ack);
        self.consumers.push((queue, consumer));
        self.oracle.asked(queue, self.node.changes());
        let subscription = Subscription { no_ack, prefetch_count, ..Subscription::default() };
        self.input(shard_of(queue), ShardInput::Subscribe { queue: QueueId(queue), consumer, subscription });
    }

    fn get(&mut self, queue: u32, no_ack: bool) {
        let holder = self.connect(0, no_ack);
        self.oracle.asked(queue, self.node.changes());
        self.input(shard_of(queue), ShardInput::Get { queue: QueueId(queue), holder, no_ack });
    }

    fn settle(&mut self, queue: u32, first: usize, count: usize, requeue: bool) {
        let held = self.oracle.held(queue);
        let Some((holder, _)) = held.get(first % held.len().max(1)).copied() else { return };
        let theirs = held.iter().skip(first % held.len()).filter(|(by, _)| *by == holder).take(count);
        let positions: Vec<u64> = theirs.map(|(_, position)| *position).collect();
        self.oracle.settled(queue, &positions, requeue, self.node.changes());
        let ranges = positions.into_iter().map(|first| PositionRange { first, len: 1 }).collect();
        let settlement = if requeue { Settlement::Requeue } else { Settlement::Done };
        let holder = holder.on_channel();
        self.input(shard_of(queue), ShardInput::Settle { queue: QueueId(queue), holder, ranges, settlement });
    }

    fn leave(&mut self, which: usize) {
        if self.consumers.is_empty() {
            return;
        }
        self.quiet();
        let (queue, key) = self.consumers.swap_remove(which % self.consumers.len());
        self.oracle.left(key, self.node.changes());
        self.input(shard_of(queue), ShardInput::Detach { connection: key.connection, queue: Some(QueueId(queue)) });
    }

    fn propose(&mut self, shard: u16, due: bool) {
        for index in self.node.propose(shard, due) {
            self.oracle.proposed(shard, index);
        }
    }

    fn sync(&mut self) {
        for SyncedEntry { shard, index, changes } in self.node.sync() {
            self.oracle.synced(shard, index, changes);
        }
    }

    fn hear(&mut self, shard: u16) -> bool {
        let told = self.node.hear(shard);
        let heard = told.is_some();
        self.observe(shard, told.unwrap_or_default());
        heard
    }

    fn finish_checkpoint(&mut self, emptied: u32, meanwhile: u64) {
        let mut relocated = 0;
        let mut random = Random(meanwhile);
        let meanwhile = move || match random.below(4) {
            _ if meanwhile == 0 => Meanwhile::Nothing,
            0 | 1 => Meanwhile::Write(1 + random.below(3)),
            2 => Meanwhile::Sync,
            _ => Meanwhile::Nothing,
        };
        let finished = self.node.finish_checkpoint(meanwhile, &mut |segment| {
            let chosen = emptied >> (segment % 32) & 1 == 1;
            relocated += usize::from(chosen);
            chosen
        });
        if let Some(reclaimed) = finished {
            self.seen.checkpoints += 1;
            self.seen.given_up += reclaimed.given_up as usize;
            self.seen.relocations += relocated;
        }
    }

    /// Lets everything arrive that is on its way.
    pub(crate) fn quiet(&mut self) {
        self.node.set_full(false);
        self.node.set_room(None);
        while !self.node.is_quiet() {
            SHARDS.into_iter().for_each(|shard| self.propose(shard, true));
            self.node.write(usize::MAX);
            self.sync();
            for shard in SHARDS {
                while self.hear(shard) {}
            }
        }
        self.oracle.check_all_confirmed();
    }

    fn input(&mut self, shard: u16, input: ShardInput) {
        let told = self.node.input(shard, input);
        self.observe(shard, told);
    }

    /// Takes in what clients of a shard were told in one go.
    fn observe(&mut self, shard: u16, told: Told) {
        let mut came: Vec<(ConsumerKey, Delivery)> = Vec::new();
        for (connection, event) in told {
            match event {
                Event::Deliver(key, delivery) => came.push((key, delivery)),
                Event::Got(Some((delivery, _))) => {
                    came.push((ConsumerKey { connection, channel: 1, serial: 0 }, delivery));
                }
                Event::Confirmed { channel: 1, first, len } => self.confirmed(shard, connection.0, first, len),
                Event::Subscribed(_, Ok(())) | Event::Got(None) => {}
                other => panic!("{connection:?} is told {other:?} by shard {shard}"),
            }
        }
        // Each connection's are in order, and so are a queue's positions.
        came.sort_by_key(|(_, delivery)| (delivery.queue, delivery.position));
        for (key, delivery) in &came {
            self.seen.delivered += 1;
            self.seen.redelivered += usize::from(delivery.redelivered);
            self.oracle.delivered(delivery, *key, self.no_ack.contains(key), self.node.changes());
        }
        for (consumer, delivery) in came.into_iter().filter(|(key, _)| key.serial > 0) {
            let bytes = delivery.message.size() as u64;
            self.input(shard, ShardInput::Grant { queue: delivery.queue, consumer, messages: 1, bytes });
        }
    }

    fn confirmed(&mut self, shard: u16, publisher: u64, first: u64, len: u64) {
        for number in first..first + len {
            self.seen.confirmed += 1;
            self.oracle.confirmed(shard, MessageId::new(publisher, number), self.node.changes());
        }
    }

    fn next_options(&self, openings: u64) -> Options {
        self.layout.options(self.epoch_seed + openings)
    }

    /// Starts on what a crash after so many changes has left: it finds what it has to.
    pub(crate) fn check_once(&self, left: &FaultyDisk, changes: usize) -> Found {
        let found = self.contents(&left.restart());
        self.oracle.check(&found, changes);
        found
    }

    /// As [`check_once`](Self::check_once), and a second start finds the same.
    pub(crate) fn check(&self, left: &FaultyDisk, changes: usize, random: &mut Random) -> Found {
        let found = self.check_once(left, changes);
        // Opening it again gives the same, and so does a power cut on the way.
        let (once, untouched) = (left.restart(), left.restart());
        let first = node::state(&once, self.next_options(1 << 20));
        let after = once.at(once.changes()).crash(&mut |_| 0);
        assert_eq!(node::state(&after, self.next_options(2 << 20)), first, "opened a second time");
        let durable = untouched.crash(&mut |_| 0);
        let state = node::state(&durable, self.next_options(3 << 20));
        let moment = durable.at(random.below(durable.changes() + 1));
        let again = moment.crash(&mut |outcomes| random.below(outcomes));
        assert_eq!(node::state(&again, self.next_options(4 << 20)), state, "opened after a power cut while opening");
        found
    }

    /// All that a node hands out that starts on `disk`, with the flags that it gives.
    fn contents(&self, disk: &FaultyDisk) -> Found {
        let mut node = Node::start(disk.clone(), self.next_options(5 << 20));
        let mut found = Found {
            last: SHARDS.into_iter().map(|shard| (shard, node.restored_index(shard))).collect(),
            queues: QUEUES.into_iter().map(|(queue, _)| (queue, Vec::new())).collect(),
        };
        for (queue, shard) in QUEUES {
            let consumer = ConsumerKey { connection: ConnectionId(u64::from(queue)), channel: 1, serial: 1 };
            let subscription = Subscription::default();
            node.input(shard, ShardInput::Subscribe { queue: QueueId(queue), consumer, subscription });
        }
        while !node.is_quiet() {
            SHARDS.into_iter().for_each(|shard| drop(node.propose(shard, true)));
            node.write(usize::MAX);
            node.sync();
            for shard in SHARDS {
                while let Some(told) = node.hear(shard) {
                    collect(&mut node, shard, told, &mut found);
                }
            }
        }
        node.check_files();
        for shard in SHARDS {
            assert_eq!(node.totals(shard).ready, 0, "shard {shard} keeps messages from a consumer that takes all");
        }
        found
    }

    /// When everything has arrived, the log says exactly what the node knows, down to the places of messages.
    pub(crate) fn check_quiet(&mut self) {
        self.quiet();
        let left = self.node.disk.crash(&mut |_| 0);
        let found = node::state(&left, self.next_options(6 << 20)).led_again();
        assert_eq!(found, self.node.led_again(), "a start finds something else than is there");
    }

    /// The process ended after so many changes and left this disk: a new one goes on with it.
    pub(crate) fn restart(&mut self, left: FaultyDisk, changes: usize, power_cut: bool, found: &Found) {
        self.epoch_seed += 7 << 20;
        self.node = Node::start(left, self.layout.options(self.epoch_seed));
        let durable_at = if power_cut { 0 } else { self.node.changes() };
        self.oracle.restart(found, changes, durable_at);
        self.consumers.clear();
        self.no_ack.clear();
    }
}

/// Notes what was handed out, and makes room for more.
fn collect(node: &mut Node, shard: u16, told: Told, found: &mut Found) {
    for (_, event) in told {
        let Event::Deliver(consumer, Delivery { queue, message, redelivered, .. }) = event else { continue };
        let len = message.body().len();
        message::check(&message, len);
        let messages = found.queues.get_mut(&queue.0).expect("it is one of the queues");
        messages.push(FoundMessage { id: message::id(&message), len, redelivered });
        let grant = ShardInput::Grant { queue, consumer, messages: 1, bytes: message.size() as u64 };
        let more = node.input(shard, grant);
        collect(node, shard, more, found);
    }
}
