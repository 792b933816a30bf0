//! A node's whole write path in one thread on a disk that loses power: shards, groups, log, checkpoints, relocations
//! and recovery, with publishers and consumers before it.
//!
//! Whatever the disk loses or tears of what was not synced, a start finds every confirmed message that was not settled,
//! once, octet for octet and in its place; nothing else but what was published and never settled for sure; flagged
//! redelivered if it was handed out; and the same again if it starts a second time.
//!
//! Small traces are cut at every step of the disk, with every outcome for the blocks at stake as far as those can be
//! counted; long ones at random. `WARREN_SEED=<n> cargo test -p warren-tests --test simulation` runs one seed again.

mod disk;
mod message;
mod node;
mod oracle;
mod power_cut;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use warren_storage::FaultyDisk;

use crate::power_cut::every_disk;
use crate::world::Step::{
    AskForSnapshots, BeginCheckpoint, FinishCheckpoint, Full, Get, Hear, Idle, Leave, Propose, Publish, Quiet, Room,
    Settle, Subscribe, Sync, Write,
};
use crate::world::{Layout, Seen, Step, World};
use warren_storage::Random;

/// Random long traces.
const SEEDS: u64 = 64;

/// Takes the steps, and looks at every disk that a power cut at any moment of them may leave. Answers how many those were,
/// and what the steps came to.
fn every_crash(block_len: usize, steps: &[Step]) -> (usize, Seen) {
    let mut world = World::new(Layout { block_len, segment_len: SEGMENT_LEN });
    steps.iter().for_each(|step| world.take(*step));
    world.check_quiet();
    let mut random = Random(1);
    let mut subsets = Random(2);
    let mut disks = 0;
    for changes in 0..=world.node.changes() {
        let then = world.node.disk.at(changes);
        disks += every_disk(&then, &mut subsets, |disk| {
            world.check(disk, changes, &mut random);
        });
    }
    (disks, world.seen)
}

/// Both kinds of blocks that real disks have.
const BLOCK_LENS: [usize; 2] = [512, 4096];

/// Small, so that segments are finished, given up and used again all the time.
const SEGMENT_LEN: u32 = 8192;

fn publish(publisher: u64, queues: &'static [u32], count: u64, len: usize) -> Step {
    Publish { publisher, queues, count, len, logged: true }
}

fn settle(queue: u32, first: usize, count: usize) -> Step {
    Settle { queue, first, count, requeue: false }
}

#[test]
fn every_crash_of_publish_deliver_and_settle_keeps_what_was_promised() {
    let steps = [
        publish(1, &[1, 2], 2, 20),
        publish(2, &[1], 1, 450),
        Propose { shard: 1, due: false },
        Write(9),
        publish(1, &[2, 3], 1, 400),
        Sync,
        Propose { shard: 1, due: false },
        Propose { shard: 2, due: false },
        Hear { shard: 1, count: 9 },
        Write(1),
        Write(9),
        Sync,
        Quiet,
        Subscribe { queue: 1, no_ack: false, prefetch: 0 },
        Get { queue: 2, no_ack: true },
        Quiet,
        settle(1, 0, 1),
        Settle { queue: 1, first: 0, count: 1, requeue: true },
        Propose { shard: 1, due: true },
        Write(9),
        Idle,
        publish(2, &[1, 2], 1, 10),
        Sync,
        Quiet,
        Idle,
    ];
    for block_len in BLOCK_LENS {
        let (disks, seen) = every_crash(block_len, &steps);
        eprintln!("{disks} disks, {seen:?}");
        assert!(seen.confirmed > 5 && seen.delivered > 4 && seen.redelivered > 0, "{seen:?}");
        assert!(disks > 60, "{disks} disks");
    }
}

#[test]
fn every_crash_around_checkpoints_and_relocations_keeps_what_was_promised() {
    let steps = [
        publish(1, &[1, 2], 1, 700),
        Quiet,
        publish(2, &[3], 3, 1_900),
        Quiet,
        publish(1, &[1, 4], 1, 800),
        publish(2, &[3], 3, 1_900),
        Quiet,
        Subscribe { queue: 3, no_ack: false, prefetch: 0 },
        Subscribe { queue: 1, no_ack: false, prefetch: 1 },
        Quiet,
        settle(3, 0, 3),
        publish(2, &[1, 4], 1, 30),
        BeginCheckpoint,
        AskForSnapshots(1),
        Hear { shard: 1, count: 1 },
        settle(3, 0, 3),
        AskForSnapshots(1),
        Hear { shard: 2, count: 1 },
        Propose { shard: 1, due: true },
        Propose { shard: 2, due: true },
        Propose { shard: 3, due: true },
        Write(9),
        Sync,
        Hear { shard: 3, count: 9 },
        AskForSnapshots(1),
        Hear { shard: 3, count: 9 },
        FinishCheckpoint { emptied: u32::MAX, meanwhile: 0 },
        Hear { shard: 1, count: 1 },
        Hear { shard: 3, count: 1 },
        Write(1),
        settle(1, 0, 1),
        Sync,
        Quiet,
        BeginCheckpoint,
        AskForSnapshots(3),
        Quiet,
        publish(2, &[2], 1, 100),
        FinishCheckpoint { emptied: 0, meanwhile: 3 },
        Quiet,
        publish(1, &[3], 2, 1_500),
        Quiet,
        Leave(0),
        Quiet,
    ];
    for block_len in BLOCK_LENS {
        let (disks, seen) = every_crash(block_len, &steps);
        eprintln!("{disks} disks, {seen:?}");
        assert!(seen.checkpoints == 2 && seen.relocations > 0 && seen.given_up > 1, "{seen:?}");
        assert!(disks > 200, "{disks} disks");
    }
}

/// The first block at stake is lost and those behind it are kept, so that a record is there and the one before it is
/// not. The next life begins with records that take the place of the lost one, and end where the other begins: when the
/// power goes again, whatever gets to the disk, that one must not follow them.
#[test]
fn what_lies_behind_a_lost_record_never_comes_back() {
    let (block_len, mut disks) = (BLOCK_LENS[0], 0);
    // Somewhere the lost record ends with a block, or with a half of one, which is what can be torn.
    for filler in (8..8 + block_len).step_by(8) {
        let mut world = World::new(Layout { block_len, segment_len: SEGMENT_LEN });
        [publish(1, &[1], 1, filler), Quiet].into_iter().for_each(|step| world.take(step));
        // As long as the votes of three shards, and the entries that begin their terms.
        for len in [160, 8] {
            world.take(publish(1, &[1], 1, len));
            world.take(Propose { shard: 1, due: false });
        }
        world.take(Write(9));
        let mut asked = 0;
        let left = world.node.disk.crash(&mut |count| {
            asked += 1;
            if asked == 2 { 0 } else { count.saturating_sub(3) }
        });
        let found = world.check_once(&left, world.node.changes());
        world.restart(left, world.node.changes(), true, &found);
        world.take(Write(9));
        let changes = world.node.changes();
        disks += every_disk(&world.node.disk.at(changes), &mut Random(1), |left| {
            world.check_once(left, changes);
        });
    }
    assert!(disks > 1_000, "{disks} disks");
}

/// Where messages go: to one queue, to two of one shard, to several shards.
const TARGETS: &[&[u32]] = &[&[1], &[2], &[1, 2], &[3], &[4], &[1, 2, 3], &[1, 2, 3, 4]];

fn random_len(random: &mut Random) -> usize {
    match random.below(12) {
        0 => 1_000 + random.below(3_000),
        1 => 4_097 + random.below(12_000),
        2..5 => 8 + random.below(400),
        // Often the same, so that a record takes the place of one that was lost.
        _ => random.pick(&[8, 20, 60]),
    }
}

fn random_step(random: &mut Random) -> Step {
    let (queue, shard) = random.pick(&node::QUEUES);
    match random.below(100) {
        0..16 => Publish {
            publisher: 1 + random.below(3) as u64,
            queues: random.pick(TARGETS),
            count: 1 + random.below(4) as u64,
            len: random_len(random),
            logged: !random.once_in(6),
        },
        16..19 => Subscribe { queue, no_ack: random.once_in(6), prefetch: random.below(5) as u32 },
        19..22 => Get { queue, no_ack: random.once_in(2) },
        22..34 => Settle {
            queue,
            first: if random.once_in(3) { random.below(9) } else { 0 },
            count: 1 + random.below(6),
            requeue: random.once_in(4),
        },
        34 => Leave(random.below(99)),
        35..53 => Propose { shard, due: random.once_in(2) },
        53..63 => Write(1 + random.below(5)),
        63..72 => Sync,
        72..85 => Hear { shard, count: 1 + random.below(5) },
        85 => Idle,
        86 => Full(true),
        87 => Full(false),
        // For not even a checkpoint, or for a segment or two.
        88 => Room(Some(random.pick(&[0, 300, 9_000, 30_000]))),
        89 => Room(None),
        90 | 91 => BeginCheckpoint,
        92..95 => AskForSnapshots(1 + random.below(3)),
        95..98 => FinishCheckpoint { emptied: random.next_u64() as u32, meanwhile: random.next_u64() },
        _ => Quiet,
    }
}

/// What is left when the process ends after so many changes, and whether that was for want of power.
fn random_end(then: &FaultyDisk, random: &mut Random) -> (FaultyDisk, bool) {
    match random.below(8) {
        0 | 1 => (then.restart(), false),
        2 => (then.crash(&mut |_| 0), true),
        3 => (then.crash(&mut |count| count - 1), true),
        _ => (then.crash(&mut |count| random.below(count)), true),
    }
}

/// Several lives of a node, each ending at a random moment. Answers what they came to.
fn lives(seed: u64) -> Seen {
    let mut random = Random(seed);
    let block_len = random.pick(&[512, 4096]);
    let mut world = World::new(Layout { block_len, segment_len: 4096 * (2 + random.below(4) as u32) });
    for _ in 0..2 + random.below(5) {
        for _ in 0..50 + random.below(400) {
            world.take(random_step(&mut random));
        }
        if random.once_in(3) {
            world.check_quiet();
        }
        for last in [false, false, false, true] {
            let whole = world.node.changes();
            let changes = if last && random.once_in(2) { whole } else { random.below(whole + 1) };
            let (left, power_cut) = random_end(&world.node.disk.at(changes), &mut random);
            let found = world.check(&left, changes, &mut random);
            if last {
                world.restart(left, changes, power_cut, &found);
            }
        }
    }
    world.check_quiet();
    world.seen
}

#[test]
fn random_crashes_of_long_lives_keep_what_was_promised() {
    let one = std::env::var("WARREN_SEED").ok().map(|seed| seed.parse().expect("WARREN_SEED is a number"));
    let mut seen = Seen::default();
    for seed in one.map_or(0..SEEDS, |seed: u64| seed..seed + 1) {
        match catch_unwind(AssertUnwindSafe(|| lives(seed))) {
            Ok(more) => seen += more,
            Err(panic) => {
                eprintln!("again: WARREN_SEED={seed} cargo test -p warren-tests --test simulation");
                resume_unwind(panic);
            }
        }
    }
    eprintln!("{seen:?}");
    let enough = seen.redelivered > 2_000 && seen.checkpoints > 200 && seen.given_up > 500 && seen.relocations > 500;
    assert!(enough || one.is_some(), "too little happens: {seen:?}");
}
