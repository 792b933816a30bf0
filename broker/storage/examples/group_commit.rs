//! What group commit gives on a disk: `fdatasync` alone beside the log, with so many records in flight; and what a lone
//! record costs besides its sync.
//!
//! `cargo run --release -p warren-storage --example group_commit [FOLDER]` (default: a folder in the target directory,
//! removed afterwards). Each figure is the best of three rounds of two seconds, because other users of a disk only ever
//! make it slower; their spread is printed beside it.

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use warren_storage::{
    Batch, Completion, Disk, FileDisk, Kind, Log, LogError, LogWriter, Options, Record, Recovered, Tag,
};

const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;

/// Passes on how many records each sync covered.
struct Counter(Sender<Synced>);

struct Synced {
    records: usize,
    sync: Duration,
    at: Instant,
}

impl Completion for Counter {
    fn synced(&mut self, batch: Batch<'_>) {
        // Nobody listens any more once a round is over.
        let _ = self.0.send(Synced { records: batch.records.len(), sync: batch.sync_duration, at: Instant::now() });
    }

    fn failed(&mut self, error: LogError) {
        eprintln!("{error}");
        std::process::abort();
    }
}

fn main() -> anyhow::Result<()> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/group_commit");
    let folder = std::env::args_os().nth(1).map_or_else(default, PathBuf::from);
    let folder = folder.join(format!("{}", std::process::id()));
    let result = measure(&folder);
    remove(&folder)?;
    result
}

fn measure(folder: &Path) -> anyhow::Result<()> {
    opening(folder)?;
    bare_syncs(folder)?;
    lone_records(folder)?;
    println!(
        "\n{:>8} {:>9} {:>12} {:>9} {:>8} {:>9} {:>12}   records/s of all rounds",
        "payload", "in flight", "records/s", "MB/s", "syncs/s", "sync µs", "reopen MB/s"
    );
    for len in [64, 1024, 16 << 10] {
        for in_flight in [1, 16, 256, 4096] {
            let mut rounds = Vec::new();
            for number in 0..ROUNDS {
                rounds.push(round(&folder.join(format!("log-{len}-{in_flight}-{number}")), len, in_flight)?);
            }
            print_rounds(len, in_flight, rounds);
        }
    }
    Ok(())
}

/// How long it takes to open an empty folder, and to open it again.
fn opening(folder: &Path) -> anyhow::Result<()> {
    for what in ["an empty folder", "it again"] {
        let begun = Instant::now();
        let log = Log::open(FileDisk::open(folder.join("open"))?, Options::default(), |_| {})?;
        println!("opening {what}: {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
        drop(log);
    }
    Ok(())
}

/// One write and one sync after the other, as fast as the disk takes them: the bound for one record in flight.
fn bare_syncs(folder: &Path) -> anyhow::Result<()> {
    let disk = FileDisk::open(folder.join("bare"))?;
    for (name, filled) in [("new", false), ("zero-filled", true)] {
        let len = 8 << 20;
        let file = disk.create(name, len)?;
        if filled {
            disk.write_at(&file, &mut [IoSlice::new(&vec![0; len as usize])], 0)?;
        }
        disk.sync_data(&file)?;
        let mut times = Vec::new();
        let begun = Instant::now();
        for offset in (0..len).step_by(104).take_while(|_| begun.elapsed() < ROUND) {
            let one = Instant::now();
            disk.write_at(&file, &mut [IoSlice::new(&[7; 104])], offset)?;
            disk.sync_data(&file)?;
            times.push(one.elapsed());
        }
        times.sort_unstable();
        let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
        let at = |part: f64| times[(times.len() as f64 * part) as usize].as_micros();
        println!("fdatasync alone, {name} file: {rate:.0}/s, p50 {} µs, p99 {} µs", at(0.5), at(0.99));
    }
    Ok(())
}

/// One record after the other: how long from appending until the log reports it, and how much of that is not the sync.
fn lone_records(folder: &Path) -> anyhow::Result<()> {
    let log = Log::open(FileDisk::open(folder.join("lone"))?, Options::default(), |_| {})?;
    let (sender, synced) = channel();
    let writer = LogWriter::spawn(log, Counter(sender))?;
    let handle = writer.handle();
    let (mut whole, mut besides) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < ROUND {
        let tag = Tag { kind: Kind::Entry, shard: 0, term: 1, index: 0 };
        let one = Instant::now();
        handle.append(Record::new(tag, vec![Bytes::from_static(&[7; 64])])?)?;
        let Synced { sync, at, .. } = synced.recv().context("the log thread is gone")?;
        whole.push(at - one);
        besides.push((at - one).saturating_sub(sync));
    }
    writer.close();
    for (name, times) in [("in all", &mut whole), ("besides the sync", &mut besides)] {
        times.sort_unstable();
        let at = |part: f64| times[(times.len() as f64 * part) as usize].as_micros();
        println!("a lone record, {name}: p50 {} µs, p90 {} µs, p99 {} µs", at(0.5), at(0.9), at(0.99));
    }
    Ok(())
}

struct Figures {
    records: f64,
    bytes: f64,
    syncs: f64,
    sync: Duration,
    /// Bytes of payload found per second when the log is opened again.
    reopened: f64,
}

fn round(folder: &Path, len: usize, in_flight: usize) -> anyhow::Result<Figures> {
    let log = Log::open(FileDisk::open(folder)?, Options::default(), |_| {})?;
    let (sender, synced) = channel();
    let writer = LogWriter::spawn(log, Counter(sender))?;
    let (records, elapsed) = keep_in_flight(&writer, &synced, &vec![7; len].into(), in_flight)?;
    let sums = writer.handle().statistics();
    writer.close();
    let begun = Instant::now();
    let mut found = 0;
    drop(Log::open(FileDisk::open(folder)?, Options::default(), |recovered| found += payload_len(&recovered))?);
    let reopened = found as f64 / begun.elapsed().as_secs_f64();
    remove(folder)?;
    Ok(Figures {
        records: records as f64 / elapsed,
        bytes: (records * len) as f64 / elapsed,
        syncs: sums.syncs as f64 / elapsed,
        sync: sums.sync_duration / sums.syncs.max(1) as u32,
        reopened,
    })
}

fn payload_len(recovered: &Recovered) -> usize {
    match recovered {
        Recovered::Record { payload, .. } => payload.len(),
        Recovered::Snapshot(_) => 0,
    }
}

fn keep_in_flight(
    writer: &LogWriter,
    synced: &Receiver<Synced>,
    payload: &Bytes,
    in_flight: usize,
) -> anyhow::Result<(usize, f64)> {
    let handle = writer.handle();
    let (mut sent, mut done) = (0, 0);
    let begun = Instant::now();
    while begun.elapsed() < ROUND {
        while sent < done + in_flight {
            let tag = Tag { kind: Kind::Entry, shard: 0, term: 1, index: sent as u64 };
            handle.append(Record::new(tag, vec![payload.clone()])?)?;
            sent += 1;
        }
        done += synced.recv().context("the log thread is gone")?.records;
    }
    Ok((done, begun.elapsed().as_secs_f64()))
}

fn print_rounds(len: usize, in_flight: usize, mut rounds: Vec<Figures>) {
    rounds.sort_by(|one, other| other.records.total_cmp(&one.records));
    let all: Vec<String> = rounds.iter().map(|round| format!("{:.0}", round.records)).collect();
    let best = &rounds[0];
    println!(
        "{len:>8} {in_flight:>9} {:>12.0} {:>9.1} {:>8.0} {:>9} {:>12.0}   {}",
        best.records,
        best.bytes / 1e6,
        best.syncs,
        best.sync.as_micros(),
        best.reopened / 1e6,
        all.join(" ")
    );
}

#[expect(clippy::disallowed_methods, reason = "the example's own folder")]
fn remove(folder: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}
