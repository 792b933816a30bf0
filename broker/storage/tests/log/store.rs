//! Power cuts under a small store that uses the log as a broker does: bodies stay where they were written, snapshots say
//! where, checkpoints give up what nothing refers to, survivors are moved. Whatever a power cut leaves opens with the
//! old checkpoint or the new one, with every synced record behind it, and every body it refers to can be read.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use warren_storage::{
    CheckpointPlan, FaultyDisk, Kind, Log, LogPoint, LogReader, Position, Random, Record, Recovered, Snapshot, Tag,
};

use crate::crash::Outcomes;
use crate::world::{for_each_seed, item, record, small};

const SHARDS: u16 = 3;

/// Where the body of each stored item is.
type State = BTreeMap<u64, Position>;

/// One record of the log, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Logged {
    tag: Tag,
    position: Position,
    payload: Bytes,
}

impl Logged {
    fn apply(&self, state: &mut State) {
        match self.tag.kind {
            Kind::Entry => drop(state.insert(self.tag.index, self.position)),
            Kind::Purge => drop(state.remove(&self.tag.index)),
            Kind::Relocation => {
                state.entry(self.tag.index).and_modify(|position| *position = self.position);
            }
            kind => panic!("the store writes no {kind:?}"),
        }
    }
}

/// One snapshot per shard.
fn snapshots(state: &State) -> Vec<Snapshot> {
    let of_shard = |shard: u16| {
        let mut payload = Vec::new();
        for (id, position) in state.iter().filter(|(id, _)| *id % u64::from(SHARDS) == u64::from(shard)) {
            payload.put_u64(*id);
            payload.put_u32(position.segment);
            payload.put_u32(position.offset);
            payload.put_u32(position.len);
        }
        Snapshot { shard, term: 7, index: state.len() as u64, payload: payload.into() }
    };
    (0..SHARDS).map(of_shard).collect()
}

fn restored(snapshots: &[Snapshot]) -> State {
    let mut state = State::new();
    for mut payload in snapshots.iter().map(|snapshot| snapshot.payload.clone()) {
        while payload.has_remaining() {
            let id = payload.get_u64();
            let (segment, offset, len) = (payload.get_u32(), payload.get_u32(), payload.get_u32());
            state.insert(id, Position { segment, offset, len });
        }
    }
    state
}

fn live(state: &State) -> BTreeMap<u32, u64> {
    let mut live = BTreeMap::new();
    for position in state.values() {
        *live.entry(position.segment).or_default() += u64::from(position.len);
    }
    live
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Store a body of so many bytes.
    Put(usize),
    /// Take out one of the stored ones; the number says which.
    Take(usize),
    /// Move the oldest body to the end.
    Move,
    Write,
    Sync,
    /// Make a checkpoint at the last synced point but so many.
    Checkpoint(usize),
}
use Step::{Checkpoint, Move, Put, Sync, Take, Write};

/// Something that was promised, and after how many changes of the disk.
#[derive(Clone, Copy)]
struct Promise {
    changes: usize,
    /// So many records are synced.
    records: usize,
    end: LogPoint,
}

/// A checkpoint that was made.
#[derive(Clone)]
struct Made {
    /// Changes of the disk before and after.
    begun: usize,
    done: usize,
    plan: CheckpointPlan,
    /// So many records come before it.
    records: usize,
}

/// What was done on a disk, and what was promised when.
#[derive(Clone)]
struct Store {
    disk: FaultyDisk,
    segment_len: u32,
    logged: Vec<Logged>,
    promises: Vec<Promise>,
    made: Vec<Made>,
}

/// What a start found.
#[derive(PartialEq, Eq, Debug)]
struct Found {
    checkpoint: u64,
    snapshots: Vec<Snapshot>,
    logged: Vec<Logged>,
}

fn open(disk: &FaultyDisk, segment_len: u32, seed: u64) -> (Log<FaultyDisk>, Found) {
    let mut found = Found { checkpoint: 0, snapshots: Vec::new(), logged: Vec::new() };
    let log = Log::open(disk.clone(), small(segment_len, seed), |recovered| match recovered {
        Recovered::Snapshot(snapshot) => found.snapshots.push(snapshot),
        Recovered::Record { tag, position, payload } => found.logged.push(Logged { tag, position, payload }),
    });
    let log = log.unwrap();
    found.checkpoint = log.checkpoint().map_or(0, |checkpoint| checkpoint.number);
    (log, found)
}

impl Store {
    fn new(block_len: usize, segment_len: u32) -> Self {
        let disk = FaultyDisk::new(block_len);
        Self { disk, segment_len, logged: Vec::new(), promises: Vec::new(), made: Vec::new() }
    }

    /// Opens the disk and takes the steps.
    fn run(&mut self, seed: u64, steps: &[Step]) {
        let (mut log, found) = open(&self.disk, self.segment_len, seed);
        self.check_found(&found, 0);
        self.promise(&log);
        for step in steps {
            self.step(&mut log, *step);
        }
    }

    fn step(&mut self, log: &mut Log<FaultyDisk>, step: Step) {
        let state = self.state(self.logged.len());
        let oldest = state.iter().min_by_key(|(_, position)| **position);
        match step {
            Put(len) => {
                let puts = self.logged.iter().filter(|logged| logged.tag.kind == Kind::Entry);
                let id = puts.map(|logged| logged.tag.index + 1).max().unwrap_or(0);
                let (tag, payload) = item(id, len);
                self.append(log, tag, payload);
            }
            Take(which) => {
                if let Some(id) = state.keys().nth(which % state.len().max(1)) {
                    self.append(log, Tag { kind: Kind::Purge, shard: 0, term: 0, index: *id }, Bytes::new());
                }
            }
            Move => {
                if let Some((id, position)) = oldest {
                    log.sync().unwrap();
                    let payload = log.reader().read(*position).unwrap();
                    self.append(log, Tag { kind: Kind::Relocation, shard: 0, term: 0, index: *id }, payload);
                }
            }
            Write => log.write().unwrap(),
            Sync => {
                log.sync().unwrap();
                self.promise(log);
            }
            Checkpoint(back) => self.checkpoint(log, back),
        }
    }

    fn append(&mut self, log: &mut Log<FaultyDisk>, tag: Tag, payload: Bytes) {
        let position = log.append(&Record::new(tag, vec![payload.clone()]).unwrap()).unwrap();
        self.logged.push(Logged { tag, position, payload });
    }

    fn promise(&mut self, log: &Log<FaultyDisk>) {
        let (changes, records) = (self.disk.changes(), self.logged.len());
        self.promises.push(Promise { changes, records, end: log.end() });
    }

    fn checkpoint(&mut self, log: &Log<FaultyDisk>, back: usize) {
        let last = self.made.last().map(|made| made.plan.replay_from);
        let possible: Vec<Promise> =
            self.promises.iter().copied().filter(|promise| Some(promise.end) >= last).collect();
        let Promise { records, end, .. } = possible[possible.len() - 1 - back % possible.len()];
        let state = self.state(records);
        let plan = CheckpointPlan { replay_from: end, snapshots: snapshots(&state), live: live(&state) };
        let begun = self.disk.changes();
        log.retention().checkpoint(plan.clone()).unwrap();
        self.made.push(Made { begun, done: self.disk.changes(), plan, records });
    }

    /// What the first so many records come to.
    fn state(&self, records: usize) -> State {
        let mut state = State::new();
        self.logged[..records].iter().for_each(|logged| logged.apply(&mut state));
        state
    }

    /// What was found is what was written, and nothing that was promised after so many changes is missing. Says how many
    /// of the records have an effect.
    fn check_found(&self, found: &Found, changes: usize) -> usize {
        let done = self.made.iter().filter(|made| made.done <= changes).count() as u64;
        let begun = self.made.iter().filter(|made| made.begun < changes).count() as u64;
        let number = found.checkpoint;
        assert!((done..=begun.max(done)).contains(&number), "checkpoint {number}, but {done} of {begun} were finished");
        let made = number.checked_sub(1).map(|index| &self.made[index as usize]);
        assert_eq!(found.snapshots, made.map_or_else(Vec::new, |made| made.plan.snapshots.clone()));
        let first = made.map_or(0, |made| made.records);
        let all = first + found.logged.len();
        let promised = self.promises.iter().filter(|promise| promise.changes <= changes);
        let promised = promised.map(|promise| promise.records).max().unwrap_or(0);
        assert!(all >= promised, "{all} of {promised} promised records are there");
        assert_eq!(found.logged, self.logged[first..all]);
        all
    }

    /// Every body that the state after so many records refers to can be read.
    fn check_bodies(&self, reader: &LogReader<FaultyDisk>, records: usize) {
        for (id, position) in self.state(records) {
            let puts = self.logged[..records].iter().filter(|logged| logged.tag.kind == Kind::Entry);
            let put = puts.clone().find(|logged| logged.tag.index == id).expect("it was put before");
            assert_eq!(reader.read(position).unwrap(), put.payload, "body {id}");
        }
    }

    /// Recovers what a power cut after so many changes left, and goes on from there.
    fn check(&self, crashed: &FaultyDisk, changes: usize, random: &mut Random) {
        let untouched = crashed.restart();
        let (mut log, found) = open(crashed, self.segment_len, 1001);
        let records = self.check_found(&found, changes);
        assert_eq!(restored(&found.snapshots), self.state(records - found.logged.len()));
        self.check_bodies(&log.reader(), records);
        self.check_segments(&log, &found);
        // A power cut while it was opened, and one right after it.
        for moment in 0..=crashed.changes() {
            let again = crashed.at(moment).crash(&mut |outcomes| random.below(outcomes));
            assert_eq!(open(&again, self.segment_len, 1002).1, found, "opening again gives something else");
        }
        assert_eq!(open(&untouched, self.segment_len, 1003).1, found, "opening again gives something else");
        // It goes on: a record, a checkpoint of all that there is, and a power cut.
        let next = item(1_000_000, 700);
        log.append(&record(&next)).unwrap();
        log.sync().unwrap();
        let plan = CheckpointPlan {
            replay_from: log.end(),
            snapshots: snapshots(&self.state(records)),
            live: live(&self.state(records)),
        };
        log.retention().checkpoint(plan.clone()).unwrap();
        drop(log);
        let (log, again) = open(&crashed.crash(&mut |_| 0), self.segment_len, 1004);
        assert_eq!((again.snapshots, again.logged), (plan.snapshots, Vec::new()));
        self.check_bodies(&log.reader(), records);
    }

    /// Only segments that are needed are left.
    fn check_segments(&self, log: &Log<FaultyDisk>, found: &Found) {
        let Some(index) = found.checkpoint.checked_sub(1) else { return };
        let plan = &self.made[index as usize].plan;
        for seq in log.retention().segments() {
            let needed = seq >= plan.replay_from.segment || plan.live.contains_key(&seq);
            assert!(needed, "segment {seq} is left, and nobody needs it");
        }
    }

    /// Lives on with what a crash left.
    fn live_on(&mut self, disk: FaultyDisk, changes: usize) {
        let (log, found) = open(&disk, self.segment_len, 3000 + self.logged.len() as u64);
        let records = self.check_found(&found, changes);
        self.logged.truncate(records);
        self.made.truncate(found.checkpoint as usize);
        self.promises.retain(|promise| promise.records <= records && promise.changes <= changes);
        self.promises.push(Promise { changes: 0, records, end: log.end() });
        drop(log);
        // Opening made all of it durable.
        self.disk = disk.crash(&mut |_| 0);
        self.promises.iter_mut().for_each(|promise| promise.changes = 0);
        self.made.iter_mut().for_each(|made| (made.begun, made.done) = (0, 0));
    }
}

/// Goes through everything that a power cut at any moment of these steps may leave, and says how many disks that were.
fn every_crash(block_len: usize, segment_len: u32, steps: &[Step]) -> usize {
    let mut store = Store::new(block_len, segment_len);
    store.run(1, steps);
    let mut random = Random(1);
    let mut crashes = 0;
    for changes in 0..=store.disk.changes() {
        let then = store.disk.at(changes);
        let mut outcomes = Outcomes::default();
        loop {
            let crashed = then.crash(&mut |count| outcomes.choose(count));
            store.check(&crashed, changes, &mut random);
            crashes += 1;
            if !outcomes.turn() {
                break;
            }
        }
    }
    crashes
}

/// Puts of so many bytes each, every one synced, so that few blocks are at stake at a time.
fn synced_puts(count: usize, len: usize) -> Vec<Step> {
    (0..count).flat_map(|_| [Put(len), Sync]).collect()
}

#[test]
fn every_crash_around_a_checkpoint_leaves_the_old_one_or_the_new_one() {
    let steps = [Put(20), Put(300), Sync, Put(50), Checkpoint(0), Put(40), Sync, Checkpoint(1), Checkpoint(0), Put(9)];
    let crashes = [512, 4096].map(|block_len| every_crash(block_len, 8192, &steps));
    assert!(crashes[0] > 100 && crashes[1] > 50, "{crashes:?}");
}

#[test]
fn every_crash_around_giving_up_segments_keeps_what_is_live() {
    // Segments 0, 1 and 2 hold two bodies each. First only the one in the middle is needed, and then none of them.
    let take = [Take(0), Take(0), Take(2), Take(2), Sync, Checkpoint(0), Put(1500), Sync];
    let then = [Take(0), Take(0), Sync, Checkpoint(1), Put(1900), Sync, Put(1900), Sync, Checkpoint(0)];
    let steps = [synced_puts(6, 1900).as_slice(), &take, &then].concat();
    let crashes = every_crash(4096, 8192, &steps);
    assert!(crashes > 100, "{crashes}");
}

#[test]
fn every_crash_around_a_relocation_keeps_the_body_that_moved() {
    let then = [Take(1), Take(1), Sync, Checkpoint(0), Move, Checkpoint(0), Sync, Checkpoint(0), Put(30), Sync];
    let steps = [&[Put(20), Sync], synced_puts(9, 450).as_slice(), &then].concat();
    let crashes = every_crash(512, 8192, &steps);
    assert!(crashes > 100, "{crashes}");
}

#[test]
fn what_is_synced_after_a_kill_at_any_moment_survives_a_power_cut() {
    let then = [Take(0), Take(0), Take(2), Take(2), Sync, Checkpoint(0), Put(1900), Sync, Put(1900), Sync, Put(9)];
    let steps = [synced_puts(6, 1900).as_slice(), &then].concat();
    let mut store = Store::new(512, 8192);
    store.run(1, &steps);
    for changes in 0..=store.disk.changes() {
        let killed = store.disk.at(changes).restart();
        let (mut log, found) = open(&killed, 8192, 1001);
        let records = store.check_found(&found, changes);
        let next = item(1_000_000, 10);
        log.append(&record(&next)).unwrap();
        log.sync().unwrap();
        drop(log);
        let (log, again) = open(&killed.crash(&mut |_| 0), 8192, 1002);
        assert_eq!(again.logged.last().map(|logged| &logged.payload), Some(&next.1), "after {changes} changes");
        assert_eq!(again.logged[..again.logged.len() - 1], found.logged);
        store.check_bodies(&log.reader(), records);
    }
}

fn random_steps(random: &mut Random) -> Vec<Step> {
    let long = 1 + random.below(3000);
    let step = |random: &mut Random| match random.below(22) {
        0..8 => Put(random.below(long)),
        8..13 => Take(random.below(1000)),
        13 => Move,
        14 => Write,
        15 => Put(random.below(12_000)),
        16..20 => Sync,
        20 => Checkpoint(random.below(3)),
        _ => Checkpoint(0),
    };
    (0..10 + random.below(150)).map(|_| step(random)).collect()
}

#[test]
fn random_crashes_of_long_lives_keep_checkpoints_records_and_bodies() {
    for_each_seed(20, "random_crashes_of_long_lives", |seed| {
        let mut random = Random(seed);
        let block_len = [512, 4096][random.below(2)];
        let mut store = Store::new(block_len, 4096 * (2 + random.below(4) as u32));
        for generation in 0..5 {
            let steps = random_steps(&mut random);
            store.run(seed * 10 + generation, &steps);
            for _ in 0..8 {
                let changes = random.below(store.disk.changes() + 1);
                let crashed = store.disk.at(changes).crash(&mut |outcomes| random.below(outcomes));
                store.check(&crashed, changes, &mut random);
            }
            let changes = random.below(store.disk.changes() + 1);
            let then = store.disk.at(changes);
            let left =
                if random.below(3) == 0 { then.restart() } else { then.crash(&mut |outcomes| random.below(outcomes)) };
            store.live_on(left, changes);
        }
    });
}
