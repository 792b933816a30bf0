//! A full queue that recognizes messages, with several entries under way: whatever publishers were told holds after a
//! restart, and what a replay makes of the log is what the shard had made of it.
//!
//! `WARREN_SEED=<seed> cargo test -p warren-core --test shard keys` runs the same steps again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use warren_core::command::{Attributes, encode_publish_head};
use warren_core::queue::{
    Deduplication, Event, Overflow, PublishRun, QueueKind, QueueSettings, Receipt, Shard, ShardInput, ShardOutput,
};
use warren_core::{Bodies, ConnectionId, ConsumerKey, Location, Message, QueueId};

use super::log::id;
use super::rules::Dice;

/// 400 runs of 300 steps.
const RUNS: u64 = 400;
const STEPS: usize = 300;
const QUEUE: QueueId = QueueId(1);
const KEYS: u64 = 4;
/// Entries under way at most.
const WINDOW: usize = 4;

#[derive(Default)]
struct Log(Vec<(Location, Bytes)>);

impl Log {
    fn append(&mut self, payload: Bytes) -> Location {
        let offset = self.0.last().map_or(0, |(at, _)| at.offset + at.len);
        let at = Location { segment: 0, offset, len: payload.len() as u32 };
        self.0.push((at, payload));
        at
    }
}

impl Bodies for Log {
    fn read(&mut self, at: Location) -> Message {
        let behind = self.0.partition_point(|(record, _)| record.offset <= at.offset);
        let (record, payload) = &self.0[behind - 1];
        let start = (at.offset - record.offset) as usize;
        Message::from_publish(payload.slice(start..start + at.len as usize)).expect("it is a publish")
    }
}

struct World {
    dice: Dice,
    settings: QueueSettings,
    /// Keys are never forgotten: then of each key exactly one logged message is taken.
    is_strict: bool,
    shard: Shard,
    log: Log,
    /// What is written and not committed yet.
    under_way: VecDeque<Location>,
    /// Entries of earlier lives.
    entries_before: usize,
    /// The newest snapshot, and the one that this life began with, each with how many entries it has.
    snapshot: Option<(Vec<u8>, usize)>,
    first_snapshot: Option<(Vec<u8>, usize)>,
    now: u64,
    last_id: u64,
    keys: BTreeMap<u64, u64>,
    logged: BTreeSet<u64>,
    /// What publishers were told.
    confirmed: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    got: BTreeSet<u64>,
    seen: BTreeSet<&'static str>,
}

impl World {
    fn new(mut dice: Dice) -> Self {
        let is_strict = dice.once_in(2);
        let cache_size = if is_strict { 1_000 } else { 1 + dice.below(3) as u32 };
        let cache_millis = dice.maybe(40).filter(|_| !is_strict);
        let kind = dice.pick(&[QueueKind::Classic, QueueKind::Quorum]);
        let settings = QueueSettings {
            logged: true,
            kind,
            max_length: Some(1 + dice.below(2)),
            overflow: Overflow::RejectPublish,
            deduplication: Some(Deduplication { cache_size, cache_millis }),
            ..QueueSettings::default()
        };
        let mut world = Self {
            dice,
            settings,
            is_strict,
            shard: Shard::new(),
            log: Log::default(),
            under_way: VecDeque::new(),
            entries_before: 0,
            snapshot: None,
            first_snapshot: None,
            now: 1_000,
            last_id: 0,
            keys: BTreeMap::new(),
            logged: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            refused: BTreeSet::new(),
            got: BTreeSet::new(),
            seen: BTreeSet::new(),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.now += 1;
        let mut output = ShardOutput::default();
        self.shard.tick(self.now, &mut self.log, &mut output);
        self.put(ShardInput::Create { queue: QUEUE, settings: self.settings.clone() });
    }

    fn put(&mut self, input: ShardInput) {
        let mut output = ShardOutput::default();
        self.shard.handle(input, &mut self.log, &mut output);
        self.hear(output);
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0..8 => self.publish(),
            8..11 => self.write(),
            11..15 => self.commit(),
            15..17 => self.get(),
            17 => self.now += self.dice.below(20),
            18 => self.snapshot = Some((self.shard.snapshot().encode(), self.committed())),
            _ if self.dice.once_in(4) => self.crash(),
            _ => self.compare(),
        }
    }

    fn publish(&mut self) {
        let logged = !self.dice.once_in(4);
        let (mut commands, first) = (Vec::new(), self.last_id + 1);
        let count = 1 + self.dice.below(2);
        for _ in 0..count {
            self.last_id += 1;
            let key = self.dice.maybe(KEYS);
            self.keys.extend(key.map(|key| (self.last_id, key)));
            self.logged.extend(logged.then_some(self.last_id));
            let attributes = Attributes { deduplication: key.map(u128::from), ..Attributes::default() };
            encode_publish_head((1, [QUEUE].into_iter()), 0, 0, 0, 8, &attributes, &mut commands);
            commands.extend_from_slice(&self.last_id.to_be_bytes());
        }
        let receipts = vec![Receipt { connection: ConnectionId(1), channel: 1, first, len: count, index: 0 }];
        let run = PublishRun { logged, commands: commands.into(), count: count as u32, receipts };
        self.put(ShardInput::Publish(run));
    }

    /// Gets a message, mostly for good.
    fn get(&mut self) {
        let holder = ConsumerKey { connection: ConnectionId(2), channel: 1, serial: 0 };
        let no_ack = !self.dice.once_in(8);
        self.put(ShardInput::Get { queue: QUEUE, holder, no_ack });
    }

    /// The log takes an entry.
    fn write(&mut self) {
        if self.under_way.len() < WINDOW
            && let Some(slices) = self.shard.take_entry(self.now)
        {
            self.under_way.push_back(self.log.append(Bytes::from(slices.concat())));
        }
    }

    fn commit(&mut self) {
        if let Some(at) = self.under_way.pop_front() {
            let mut output = ShardOutput::default();
            self.shard.committed(at, &mut self.log, &mut output);
            self.hear(output);
        }
    }

    fn committed(&self) -> usize {
        self.log.0.len() - self.under_way.len()
    }

    fn drain(&mut self) {
        while !self.shard.is_drained() || !self.under_way.is_empty() {
            self.write();
            self.commit();
        }
    }

    fn hear(&mut self, mut output: ShardOutput) {
        for event in output.take_events().into_iter().flat_map(|(_, events)| events) {
            match event {
                Event::Confirmed { first, len, .. } => self.confirmed.extend(first..first + len),
                Event::Refused { first, len, .. } => {
                    self.seen.insert("refused");
                    self.refused.extend(first..first + len);
                }
                Event::Got(Some((delivery, _))) => _ = self.got.insert(id(&delivery.message)),
                _ => {}
            }
        }
    }

    /// What a process finds that has a snapshot, the newest or the first, and so many entries of the log.
    fn found(&self, entries: usize, newest: bool) -> Shard {
        let (mut shard, covered) = match if newest { &self.snapshot } else { &self.first_snapshot } {
            Some((octets, covered)) => (Shard::restore(octets).expect("it was encoded"), *covered),
            None => (Shard::new(), 0),
        };
        for (at, entry) in &self.log.0[covered..entries] {
            shard.replay(*at, entry).expect("own entries can be replayed");
        }
        shard
    }

    /// Everything gets to the log; then that says all.
    fn compare(&mut self) {
        self.drain();
        if self.log.0.len() > self.entries_before {
            self.seen.insert("compared");
            // Without the messages that are in memory only.
            let live = Shard::restore(&self.shard.snapshot().encode()).expect("it was encoded").snapshot().encode();
            for newest in [false, true] {
                let found = self.found(self.log.0.len(), newest).snapshot().encode();
                assert_eq!(found, live, "newest: {newest}, entries: {}", self.log.0.len());
            }
        }
    }

    /// The process dies. Of what was under way, the log has as much as it has.
    fn crash(&mut self) {
        let entries = self.committed() + self.dice.below(self.under_way.len() as u64 + 1) as usize;
        if self.dice.once_in(2) {
            self.first_snapshot.clone_from(&self.snapshot);
        } else {
            self.snapshot.clone_from(&self.first_snapshot);
        }
        self.shard = self.found(entries, true);
        self.shard.lead();
        self.log.0.truncate(entries);
        self.under_way.clear();
        self.entries_before = entries;
        self.begin();
        self.check();
    }

    /// Compares what publishers were told with what is there.
    fn check(&mut self) {
        let there = self.there();
        let alive: Vec<_> = there.intersection(&self.refused).collect();
        assert!(alive.is_empty(), "refused, and there all the same: {alive:?}");
        if !self.is_strict {
            return;
        }
        let taken: BTreeSet<u64> = there.union(&self.got).filter(|id| self.logged.contains(id)).copied().collect();
        let confirmed = self.keys.iter().filter(|(id, _)| self.logged.contains(id) && self.confirmed.contains(id));
        for (id, key) in confirmed {
            let same: Vec<u64> = taken.iter().copied().filter(|other| self.keys.get(other) == Some(key)).collect();
            assert_eq!(same.len(), 1, "{id} is confirmed; of its key {key} these were taken: {same:?}");
        }
        self.seen.insert("restarted");
    }

    /// Which messages are in the queue.
    fn there(&mut self) -> BTreeSet<u64> {
        let survivors = self.shard.snapshot().survivors(&[0].into());
        survivors.iter().map(|survivor| id(&self.log.read(survivor.location))).collect()
    }
}

#[test]
fn what_publishers_were_told_of_keys_and_refusals_holds_after_a_restart() {
    let seed = crate::seed();
    let mut seen = BTreeSet::new();
    for run in 0..RUNS {
        let mut world = World::new(Dice(seed.wrapping_add(run << 32)));
        for _ in 0..STEPS {
            world.step();
        }
        world.crash();
        seen.append(&mut world.seen);
    }
    assert_eq!(seen, BTreeSet::from(["compared", "refused", "restarted"]));
}
