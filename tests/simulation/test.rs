//! A node's whole write path in one thread on a disk that loses power: shards, groups, log, checkpoints, relocations
//! and recovery, with publishers and consumers before it.
//!
//! Whatever the disk loses or tears of what was not synced, a start finds every confirmed message that was not settled,
//! once, octet for octet and in its place; nothing else but what was published and never settled for sure; flagged
//! redelivered if it was handed out; and the same again if it starts a second time.
//!
//! Small traces are cut at every step of the disk, with every outcome for the blocks at stake as far as those can be
//! counted; long ones at random. `WARREN_SEED=<n> cargo test -p warren-tests --test simulation` runs one seed again.

mod message;
mod node;
mod oracle;
mod power_cut;
mod random;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use warren_storage::FaultyDisk;

use crate::power_cut::every_disk;
use crate::random::Random;
use crate::world::Step::{
    BeginCheckpoint, FinishCheckpoint, Full, Get, Hear, Idle, Leave, Propose, Publish, Quiet, Settle, Subscribe, Sync,
    Write,
};
use crate::world::{Layout, Seen, Step, World};

/// Random long traces.
const SEEDS: u64 = 64;

/// Takes the steps, and looks at every disk that a power cut at any moment of them may leave. Answers how many those were,
/// and what the steps came to.
fn every_crash(layout: Layout, steps: &[Step]) -> (usize, Seen) {
    let mut world = World::new(layout);
    steps.iter().for_each(|step| world.take(*step));
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

const SMALL: Layout = Layout { block_len: 512, segment_len: 8192 };

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
        publish(2, &[1], 1, 30),
        Propose { shard: 1, due: false },
        Write(9),
        publish(1, &[2, 3], 1, 40),
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
    let (disks, seen) = every_crash(SMALL, &steps);
    eprintln!("{disks} disks, {seen:?}");
    assert!(seen.confirmed > 5 && seen.delivered > 4 && seen.redelivered > 0, "{seen:?}");
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
        BeginCheckpoint,
        Hear { shard: 1, count: 1 },
        settle(3, 0, 3),
        Hear { shard: 2, count: 1 },
        Propose { shard: 2, due: true },
        Write(9),
        Hear { shard: 3, count: 1 },
        FinishCheckpoint { emptied: u32::MAX },
        Hear { shard: 1, count: 1 },
        Hear { shard: 3, count: 1 },
        Write(1),
        settle(1, 0, 1),
        Sync,
        Quiet,
        BeginCheckpoint,
        Quiet,
        publish(2, &[2], 1, 100),
        FinishCheckpoint { emptied: 0 },
        Quiet,
        publish(1, &[3], 2, 1_500),
        Quiet,
        Leave(0),
        Quiet,
    ];
    let (disks, seen) = every_crash(Layout { block_len: 4096, segment_len: 8192 }, &steps);
    eprintln!("{disks} disks, {seen:?}");
    assert!(seen.checkpoints == 2 && seen.relocations > 0 && seen.given_up > 1, "{seen:?}");
}

/// Where messages go: to one queue, to two of one shard, to several shards.
const TARGETS: &[&[u32]] = &[&[1], &[2], &[1, 2], &[3], &[4], &[1, 2, 3], &[1, 2, 3, 4]];

fn random_len(random: &mut Random) -> usize {
    match random.below(12) {
        0 => 1_000 + random.below(3_000),
        1 => 4_097 + random.below(12_000),
        _ => 8 + random.below(400),
    }
}

fn random_step(random: &mut Random) -> Step {
    let (queue, shard) = random.pick(&node::QUEUES);
    match random.below(100) {
        0..18 => Publish {
            publisher: 1 + random.below(3) as u64,
            queues: random.pick(TARGETS),
            count: 1 + random.below(4) as u64,
            len: random_len(random),
            logged: !random.once_in(6),
        },
        18..21 => Subscribe { queue, no_ack: random.once_in(6), prefetch: random.below(5) as u32 },
        21..24 => Get { queue, no_ack: random.once_in(2) },
        24..36 => Settle {
            queue,
            first: if random.once_in(3) { random.below(9) } else { 0 },
            count: 1 + random.below(6),
            requeue: random.once_in(4),
        },
        36 => Leave(random.below(99)),
        37..53 => Propose { shard, due: random.once_in(2) },
        53..63 => Write(1 + random.below(5)),
        63..72 => Sync,
        72..86 => Hear { shard, count: 1 + random.below(5) },
        86 => Idle,
        87 => Full(true),
        88..90 => Full(false),
        90..93 => BeginCheckpoint,
        93..97 => FinishCheckpoint { emptied: random.next() as u32 },
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
            world.quiet();
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
    world.quiet();
    world.seen
}

#[test]
fn random_crashes_of_long_lives_keep_what_was_promised() {
    let seeds = match std::env::var("WARREN_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("WARREN_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    let mut all = Vec::new();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| lives(seed))) {
            Ok(seen) => all.push(seen),
            Err(panic) => {
                eprintln!("again: WARREN_SEED={seed} cargo test -p warren-tests --test simulation");
                resume_unwind(panic);
            }
        }
    }
    eprintln!("{all:?}");
}
