//! A group, its log and a disk that forgets, in one thread: random proposals, writes, syncs, checkpoints, power cuts and
//! kills. Whatever happens, what was committed is found again, nothing is invented, and terms rise.
//!
//! The seed is printed; `WARREN_SEED=<seed> cargo test -p warren-replication --test simulation` runs the same again.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use warren_core::ShardId;
use warren_replication::{Append, EntryId, Group, NodeId, RaftDriver, Restored};
use warren_storage::{
    AppendError, CheckpointPlan, FaultyDisk, Kind, Log, LogPoint, LogReader, Options, Position, Record, Recovered,
    Snapshot, Tag,
};

const SHARD: ShardId = ShardId(5);
const NODE: NodeId = NodeId(1);
const CASES: u32 = 96;
const STEPS: std::ops::Range<usize> = 1..120;

/// What the group has given to the log and the log has not taken up.
#[derive(Clone, Default)]
struct Queue {
    records: Rc<RefCell<VecDeque<Record>>>,
    full: Rc<Cell<bool>>,
}

impl Append for Queue {
    fn try_append(&self, record: Record) -> Result<(), AppendError> {
        if self.full.get() {
            return Err(AppendError::Full(record));
        }
        self.records.borrow_mut().push_back(record);
        Ok(())
    }
}

/// An entry that was applied, and the number that is its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Applied {
    entry: EntryId,
    number: u64,
}

struct World {
    disk: FaultyDisk,
    log: Log<FaultyDisk>,
    reader: LogReader<FaultyDisk>,
    queue: Queue,
    group: Group<RaftDriver, Queue>,
    /// Written and not synced.
    written: Vec<(Tag, Position)>,
    /// Synced, and the group has not heard of it.
    synced: VecDeque<(Tag, Position)>,
    /// Numbers that were proposed in this life and are not committed.
    in_flight: VecDeque<u64>,
    committed: Vec<Applied>,
    /// Everything that was ever proposed.
    proposed: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Propose,
    /// The log's queue is full, or has room again.
    Full(bool),
    Write(usize),
    Sync,
    Hear(usize),
    /// Between the point and the shard's answer more may be synced.
    Checkpoint {
        sync_between: bool,
    },
    /// What becomes of each unsynced block.
    PowerCut(Vec<usize>),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => Just(Step::Propose),
        1 => any::<bool>().prop_map(Step::Full),
        8 => (1..4_usize).prop_map(Step::Write),
        6 => Just(Step::Sync),
        8 => (1..5_usize).prop_map(Step::Hear),
        1 => any::<bool>().prop_map(|sync_between| Step::Checkpoint { sync_between }),
        1 => vec(0..8_usize, 1..8).prop_map(Step::PowerCut),
        1 => Just(Step::Kill),
    ]
}

/// What opening a disk again brings.
struct Reopened {
    log: Log<FaultyDisk>,
    restored: Restored,
    applied: Vec<Applied>,
}

fn open(disk: &FaultyDisk) -> Reopened {
    let options = Options { first_segment_len: 8192, segment_len: 8192, ..Options::default() };
    let (mut restored, mut applied) = (Restored::default(), Vec::new());
    let log = Log::open(disk.clone(), options, |found| match found {
        Recovered::Snapshot(snapshot) => {
            restored.with_snapshot(EntryId { term: snapshot.term, index: snapshot.index });
            applied = decode(&snapshot.payload);
        }
        Recovered::Record { tag, payload, .. } if tag.kind == Kind::Vote => {
            restored.with_vote(tag.term, &payload).expect("votes are in order");
        }
        Recovered::Record { tag, payload, .. } => {
            let entry = EntryId { term: tag.term, index: tag.index };
            if restored.with_entry(entry, &payload).expect("entries are in order") {
                applied.push(Applied { entry, number: number(&payload) });
            }
        }
    });
    Reopened { log: log.expect("what a crash leaves can be opened"), restored, applied }
}

/// A shard's snapshot: here, everything that was ever applied.
fn encode(applied: &[Applied]) -> Bytes {
    let numbers = applied.iter().flat_map(|one| [one.entry.term, one.entry.index, one.number]);
    numbers.flat_map(u64::to_le_bytes).collect()
}

fn decode(payload: &[u8]) -> Vec<Applied> {
    let one = |octets: &[u8]| Applied {
        entry: EntryId { term: number(&octets[..8]), index: number(&octets[8..16]) },
        number: number(&octets[16..]),
    };
    payload.chunks_exact(24).map(one).collect()
}

fn number(octets: &[u8]) -> u64 {
    u64::from_le_bytes(octets.try_into().expect("numbers have 8 octets"))
}

impl World {
    fn new() -> Self {
        let disk = FaultyDisk::new(512);
        let reopened = open(&disk);
        Self::begin(disk, reopened, 0)
    }

    fn begin(disk: FaultyDisk, reopened: Reopened, proposed: u64) -> Self {
        let Reopened { log, restored, applied } = reopened;
        let queue = Queue::default();
        let raft = RaftDriver::lead_alone(NODE, &restored);
        let group = Group::with_consensus(SHARD, NODE, &restored, raft, queue.clone()).expect("the log takes it");
        let first = queue.records.borrow().front().expect("an election is written").tag();
        assert_eq!(first.kind, Kind::Vote, "the vote is written before the entries of its term");
        assert!(first.term > restored.last().term && first.term > restored.vote().term, "the term rises");
        Self {
            reader: log.reader(),
            disk,
            log,
            queue,
            group,
            written: Vec::new(),
            synced: VecDeque::new(),
            in_flight: VecDeque::new(),
            committed: applied,
            proposed,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Propose => self.propose(),
            Step::Full(full) => {
                self.queue.full.set(full);
                self.group.retry().expect("the log is not closed");
            }
            Step::Write(count) => self.write(count),
            Step::Sync => self.sync(),
            Step::Hear(count) => self.hear(count),
            Step::Checkpoint { sync_between } => self.checkpoint(sync_between),
            Step::PowerCut(choices) => {
                let mut choices = choices.iter().copied().cycle();
                let disk = self.disk.crash(&mut |outcomes| choices.next().unwrap_or_default() % outcomes);
                self.restart(disk);
            }
            Step::Kill => self.restart(self.disk.restart()),
        }
    }

    fn propose(&mut self) {
        if self.group.has_room() {
            self.proposed += 1;
            let octets = self.proposed.to_le_bytes();
            let slices = vec![Bytes::copy_from_slice(&octets[..3]), Bytes::copy_from_slice(&octets[3..])];
            self.group.propose(slices).expect("the log is not closed");
            self.in_flight.push_back(self.proposed);
        }
    }

    fn write(&mut self, count: usize) {
        for _ in 0..count {
            let Some(record) = self.queue.records.borrow_mut().pop_front() else { break };
            let position = self.log.append(&record).expect("the disk has room");
            self.written.push((record.tag(), position));
        }
        self.log.write().expect("the disk works");
    }

    fn sync(&mut self) {
        self.log.sync().expect("the disk works");
        self.synced.extend(self.written.drain(..));
    }

    fn hear(&mut self, count: usize) {
        for _ in 0..count {
            let Some((tag, position)) = self.synced.pop_front() else { return };
            self.group.synced(tag.kind, tag.index, position);
            while let Some(position) = self.group.take_committed() {
                self.commit(position);
            }
        }
    }

    fn commit(&mut self, position: Position) {
        let entry = self.group.last_committed();
        let number = number(&self.reader.read_part(position).expect("it is in the log"));
        assert_eq!(Some(number), self.in_flight.pop_front(), "entries are committed in the order of proposing");
        if let Some(last) = self.committed.last() {
            assert!(entry.index > last.entry.index && entry.term >= last.entry.term, "{entry:?} behind {last:?}");
        }
        self.committed.push(Applied { entry, number });
    }

    fn checkpoint(&mut self, sync_between: bool) {
        let replay_from: LogPoint = self.log.end();
        if sync_between {
            self.write(usize::MAX);
            self.sync();
        }
        // Whoever answers has heard of everything that was synced before.
        self.hear(usize::MAX);
        let EntryId { term, index } = self.group.last_committed();
        let snapshot = Snapshot { shard: SHARD.0, term, index, payload: encode(&self.committed) };
        let plan = CheckpointPlan { replay_from, snapshots: vec![snapshot], live: BTreeMap::new() };
        self.log.retention().checkpoint(plan).expect("the disk works");
    }

    fn restart(&mut self, disk: FaultyDisk) {
        let reopened = open(&disk);
        let (kept, more) = reopened.applied.split_at(self.committed.len().min(reopened.applied.len()));
        assert_eq!(kept, self.committed, "nothing committed is lost");
        for (found, proposed) in more.iter().zip(&self.in_flight) {
            assert_eq!(found.number, *proposed, "nothing is invented, and the order is kept");
        }
        assert!(more.len() <= self.in_flight.len(), "nothing is invented: {more:?}");
        let proposed = self.proposed;
        *self = Self::begin(disk, reopened, proposed);
    }

    /// Lets everything become committed.
    fn settle(&mut self) {
        self.take(Step::Full(false));
        self.write(usize::MAX);
        self.sync();
        self.hear(usize::MAX);
        assert_eq!(self.in_flight, [], "everything proposed is committed once it is durable");
    }
}

/// `$WARREN_SEED`, or a new one; printed, and shown if the test fails.
fn seed() -> u64 {
    let seed = match std::env::var("WARREN_SEED") {
        Ok(seed) => seed.parse().expect("WARREN_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0_u8),
    };
    eprintln!("WARREN_SEED={seed}");
    seed
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES,
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_committed_survives_whatever_happens(steps in vec(step(), STEPS)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.take(step));
        world.settle();
        world.take(Step::PowerCut(vec![0]));
        world.settle();
    }
}

#[test]
fn the_term_rises_when_a_checkpoint_has_dropped_every_record() {
    let mut world = World::new();
    for life in 1..=3 {
        world.take(Step::Propose);
        world.settle();
        assert_eq!(world.group.last_committed(), EntryId { term: life, index: 2 * life });
        world.take(Step::Checkpoint { sync_between: false });
        world.take(Step::PowerCut(vec![0]));
        let opened = open(&world.disk.restart());
        assert_eq!(opened.restored.last(), EntryId { term: life, index: 2 * life });
        assert_eq!(opened.restored.vote().elected, None, "no record is left");
    }
}

#[test]
fn a_term_whose_beginning_was_lost_is_led_again_and_nothing_of_it_was_committed() {
    let mut world = World::new();
    world.settle();
    world.take(Step::Kill);
    // The vote for term 2 is synced, and a checkpoint drops it; the entry that begins term 2 never reaches the disk.
    world.write(1);
    world.sync();
    world.take(Step::Checkpoint { sync_between: false });
    world.take(Step::PowerCut(vec![0]));
    world.settle();
    assert_eq!(world.group.last_committed(), EntryId { term: 2, index: 2 });
}
