//! A real process on a real folder, killed at random.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use warren_storage::{Batch, Completion, FileDisk, Log, LogError, LogWriter, Options, Random};

use crate::folder::Scratch;
use crate::world::{item, open, record};

const FOLDER: &str = "WARREN_KILL_TEST_FOLDER";
const ROUNDS: usize = 20;

/// Small, so that batches are many and the log stays short.
const QUEUE_BYTES_MAX: usize = 128 << 10;

/// Prints the last index of every synced batch.
struct Printer;

impl Completion for Printer {
    fn synced(&mut self, batch: Batch<'_>) {
        let last = batch.records.last().expect("a batch has records").tag.index;
        // Below the test harness's capture of `println!`, straight into the pipe.
        writeln!(std::io::stdout().lock(), "\nsynced {last}").expect("the parent reads until we are gone");
    }

    fn failed(&mut self, error: LogError) {
        panic!("{error}");
    }
}

/// The record number `index`; its length is known from its number.
fn numbered(index: u64) -> crate::world::Item {
    item(index, Random(index).below(if index.is_multiple_of(50) { 100_000 } else { 2000 }))
}

/// Small segments, so that many kills fall around a roll-over.
fn options() -> Options {
    Options { segment_len: 1 << 20, first_segment_len: 64 << 10, ..Options::default() }
}

/// The child: goes on where the log ends, until it is killed.
fn append_until_killed(folder: &Path) {
    let mut next = 0;
    let log = Log::open(FileDisk::open(folder).unwrap(), options(), |_| next += 1).unwrap();
    let writer = LogWriter::spawn_bounded(log, Printer, QUEUE_BYTES_MAX).unwrap();
    let handle = writer.handle();
    for index in next.. {
        handle.append(record(&numbered(index))).unwrap();
    }
}

#[test]
fn killed_process_keeps_every_reported_record() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return append_until_killed(Path::new(&folder));
    }
    let folder = Scratch::new("killed_process");
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut reported = 0;
    for round in 0..ROUNDS {
        reported = reported.max(one_life(&folder.0, 1 + random.below(40)));
        let (_, found) = open(FileDisk::open(&folder.0).unwrap(), options()).unwrap();
        assert!(found.len() as u64 > reported, "round {round}: {} of {} are there", found.len(), reported + 1);
        for (index, found) in found.iter().enumerate() {
            assert!(*found == numbered(index as u64), "round {round}: record {index} differs");
        }
    }
}

/// Runs the child until it has reported `batches`, kills it, and gives the last index that it reported.
fn one_life(folder: &Path, batches: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::killed_process_keeps_every_reported_record", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reports = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("synced ")?.parse::<u64>().ok());
    let mut last = reports.by_ref().take(batches).last().expect("the child reports");
    child.kill().unwrap();
    // What it reported before it was gone counts.
    last = reports.last().unwrap_or(last);
    child.wait().unwrap();
    last
}
