//! Queues with rules against a model of each: what expires, is dropped, refused, dead-lettered, delayed, counted,
//! recognized or put first, and what a restart finds of it.
//!
//! Everything is drawn from one number, which is printed: `WARREN_SEED=<seed> cargo test -p warren-core --test shard
//! rules` runs the same steps again and writes the same trace.

mod model;
mod world;

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use world::World;

/// 300 runs of 400 steps.
const RUNS: u64 = 300;
const STEPS: usize = 400;

/// Numbers that follow from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of them.
    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }

    /// A number below `end` half of the time.
    pub(crate) fn maybe(&mut self, end: u64) -> Option<u64> {
        (!self.once_in(2)).then(|| self.below(end))
    }
}

/// Runs the steps of a seed; answers what was said at each of them, as one number, and what kinds of things that were.
fn trace(seed: u64) -> (u64, BTreeSet<String>) {
    let mut world = World::new(Dice(seed));
    let mut hash = DefaultHasher::new();
    for _ in 0..STEPS {
        world.step().hash(&mut hash);
    }
    world.restart();
    (hash.finish(), std::mem::take(&mut world.seen))
}

#[test]
fn rules_of_queues_do_what_lists_of_messages_do() {
    let seed = crate::seed();
    println!("WARREN_SEED={seed} cargo test -p warren-core --test shard rules");
    let mut seen = BTreeSet::new();
    for run in 0..RUNS {
        seen.append(&mut trace(seed.wrapping_add(run << 32)).1);
    }
    let reasons = ["DeliveryLimit", "Due", "Expired", "MaxLength", "Rejected"];
    let others = ["confirmed", "given back", "redelivered false", "redelivered true", "refused", "unused", "waits"];
    assert!(seen.iter().eq(reasons.iter().chain(&others)), "what has happened: {seen:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_one_another() {
    let seed = crate::seed();
    assert_eq!(trace(seed), trace(seed));
    assert_ne!(trace(seed).0, trace(seed.wrapping_add(1)).0);
}
