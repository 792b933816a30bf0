//! Power cuts: whatever unsynced blocks are lost or torn, what was reported as synced is there, nothing is invented,
//! the order holds, and what was cut stays cut.

use warren_storage::FaultyDisk;

use crate::world::{Item, for_each_seed, item, open, record, small};
use warren_storage::Random;

#[derive(Clone, Copy)]
enum Step {
    /// Append a payload of so many bytes.
    Append(usize),
    /// Hand what is staged to the disk.
    Write,
    Sync,
}
use Step::{Append, Sync, Write};

/// What was done on a disk, and what was promised when.
struct Story {
    disk: FaultyDisk,
    appended: Vec<Item>,
    /// After so many changes of the disk, so many records had been reported as synced.
    promised: Vec<(usize, usize)>,
}

impl Story {
    /// Opens the disk, which holds `found`, and takes the steps.
    fn new(disk: FaultyDisk, segment_len: u32, seed: u64, found: &[Item], steps: &[Step]) -> Self {
        let (mut log, before) = open(disk.clone(), small(segment_len, seed)).unwrap();
        assert_eq!(before, found);
        let mut story = Self { appended: before, promised: vec![(disk.changes(), found.len())], disk };
        for step in steps {
            match *step {
                Append(len) => {
                    let next = item(story.appended.len() as u64, len);
                    log.append(&record(&next)).unwrap();
                    story.appended.push(next);
                }
                Write => log.write().unwrap(),
                Sync => {
                    log.sync().unwrap();
                    story.promised.push((story.disk.changes(), story.appended.len()));
                }
            }
        }
        story
    }

    fn promised_at(&self, changes: usize) -> usize {
        self.promised.iter().rev().find(|(then, _)| *then <= changes).map_or(0, |(_, count)| *count)
    }

    /// Recovers what a crash left, and goes on from there.
    fn check(&self, crashed: &FaultyDisk, changes: usize, segment_len: u32) -> Vec<Item> {
        let (mut log, found) = open(crashed.clone(), small(segment_len, 1001)).unwrap();
        let promised = self.promised_at(changes);
        assert!(found.len() >= promised, "after {changes} changes: {} of {promised} are there", found.len());
        assert_eq!(found, self.appended[..found.len()], "after {changes} changes");

        // The next record is as long as the one that was lost, so that it ends where that one ended.
        let len = self.appended.get(found.len()).map_or(24, |(_, payload)| payload.len());
        let next = item(1_000_000, len);
        log.append(&record(&next)).unwrap();
        log.write().unwrap();
        let all = [found.as_slice(), &[next]].concat();
        for kept in 0..3 {
            // Only the first so many of its blocks reach the disk.
            let mut asked = 0;
            let mut some = |outcomes: usize| {
                asked += 1;
                if asked <= 1 + kept { outcomes.saturating_sub(3) } else { 0 }
            };
            let (_, again) = open(crashed.crash(&mut some), small(segment_len, 1002)).unwrap();
            assert_eq!(again, all[..again.len()], "what was cut came back");
        }
        log.sync().unwrap();
        drop(log);
        let (_, again) = open(crashed.crash(&mut |_| 0), small(segment_len, 1002)).unwrap();
        assert_eq!(again, all, "what was cut came back");
        found
    }
}

/// Goes through all combinations of outcomes, like an odometer whose wheels appear as they are asked for.
#[derive(Default)]
pub(crate) struct Outcomes {
    wheels: Vec<(usize, usize)>,
    at: usize,
}

impl Outcomes {
    pub(crate) fn choose(&mut self, outcomes: usize) -> usize {
        if self.at == self.wheels.len() {
            self.wheels.push((0, outcomes));
        }
        self.at += 1;
        self.wheels[self.at - 1].0
    }

    /// Turns to the next combination, or says that there is none.
    pub(crate) fn turn(&mut self) -> bool {
        self.at = 0;
        while let Some((outcome, outcomes)) = self.wheels.pop() {
            if outcome + 1 < outcomes {
                self.wheels.push((outcome + 1, outcomes));
                return true;
            }
        }
        false
    }
}

/// Goes through everything that a power cut at any moment of these steps may leave, and says how many disks that were.
fn every_crash(block_len: usize, segment_len: u32, steps: &[Step]) -> usize {
    let story = Story::new(FaultyDisk::new(block_len), segment_len, 1, &[], steps);
    let (mut crashes, mut lost, mut lucky) = (0, 0, 0);
    for changes in 0..=story.disk.changes() {
        let then = story.disk.at(changes);
        let mut outcomes = Outcomes::default();
        loop {
            let crashed = then.crash(&mut |count| outcomes.choose(count));
            let found = story.check(&crashed, changes, segment_len);
            crashes += 1;
            lost += usize::from(found.len() < story.appended.len());
            lucky += usize::from(found.len() > story.promised_at(changes));
            if !outcomes.turn() {
                break;
            }
        }
    }
    assert!(lost > 0 && lucky > 0, "of {crashes} crashes {lost} lost something and {lucky} kept something unsynced");
    crashes
}

#[test]
fn every_crash_of_small_batches_keeps_what_was_synced() {
    let steps = [
        Append(20),
        Append(30),
        Sync,
        Append(50),
        Sync,
        Append(8),
        Append(0),
        Append(300),
        Sync,
        Append(100),
        Append(700),
        Append(100),
        Append(400),
        Write,
    ];
    assert!(every_crash(512, 8192, &steps) > 300);
    assert!(every_crash(4096, 8192, &steps) > 30);
}

#[test]
fn every_crash_of_rewritten_blocks_keeps_what_was_synced() {
    let sizes = [20, 20, 20, 200, 60, 100, 600, 100, 30, 900];
    let mut steps: Vec<Step> = sizes.iter().flat_map(|len| [Append(*len), Write]).collect();
    steps.insert(9, Sync);
    assert!(every_crash(512, 8192, &steps) > 300);
    assert!(every_crash(4096, 8192, &steps) > 30);
}

#[test]
fn every_crash_around_a_new_segment_keeps_what_was_synced() {
    let steps = [Append(1300), Sync, Append(1300), Sync, Append(700), Write, Append(700), Append(30), Sync, Append(40)];
    let then = [Append(1500), Append(200), Write];
    assert!(every_crash(512, 8192, &[steps.as_slice(), &then].concat()) > 1000);
    let steps = [Append(1300), Append(1300), Append(1300), Append(1300), Append(30), Sync, Append(2000), Append(2000)];
    assert!(every_crash(4096, 8192, &steps) > 30);
}

fn random_steps(random: &mut Random) -> Vec<Step> {
    let long = 1 + random.below(3000);
    (0..10 + random.below(120))
        .map(|_| match random.below(10) {
            0..6 => Append(random.below(long)),
            6 => Write,
            _ => Sync,
        })
        .collect()
}

#[test]
fn random_crashes_of_long_histories_keep_what_was_synced() {
    for_each_seed(40, "random_crashes_of_long_histories", |seed| {
        let mut random = Random(seed);
        let block_len = [512, 4096][random.below(2)];
        let segment_len = 4096 * (2 + random.below(6) as u32);
        let mut disk = FaultyDisk::new(block_len);
        let mut found = Vec::new();
        for generation in 0..4 {
            let steps = random_steps(&mut random);
            let story = Story::new(disk, segment_len, seed * 10 + generation, &found, &steps);
            for _ in 0..12 {
                let changes = random.below(story.disk.changes() + 1);
                let crashed = story.disk.at(changes).crash(&mut |outcomes| random.below(outcomes));
                story.check(&crashed, changes, segment_len);
            }
            // Live on with what one more crash leaves.
            disk = story.disk.crash(&mut |outcomes| random.below(outcomes));
            found = open(disk.clone(), small(segment_len, 2000 + seed * 10 + generation)).unwrap().1;
            disk = disk.crash(&mut |_| 0);
        }
    });
}

#[test]
fn record_behind_a_lost_one_stays_cut_when_the_log_grows_up_to_it() {
    // The first record fills its page to the end, so that nothing written in its place touches the second.
    let disk = FaultyDisk::new(4096);
    let story = Story::new(disk, 16 << 10, 1, &[], &[Append(4056), Append(100), Write]);
    let mut blocks = 0;
    let crashed = story.disk.crash(&mut |outcomes| {
        blocks += 1;
        // No change of names is pending, the first block is lost, the second is kept.
        if blocks == 3 { outcomes - 3 } else { 0 }
    });
    assert_eq!(blocks, 3);
    assert_eq!(story.check(&crashed, story.disk.changes(), 16 << 10), []);
}

#[test]
fn killed_process_loses_nothing_and_recovered_records_are_synced() {
    let steps = [Append(20), Sync, Append(30), Append(40), Write];
    let story = Story::new(FaultyDisk::new(512), 8192, 1, &[], &steps);
    let killed = story.disk.restart();
    let (_, found) = open(killed.clone(), small(8192, 2)).unwrap();
    assert_eq!(found, story.appended);
    // What the first opening yielded must survive a power cut right after it.
    let (_, again) = open(killed.crash(&mut |_| 0), small(8192, 3)).unwrap();
    assert_eq!(again, found);
}
