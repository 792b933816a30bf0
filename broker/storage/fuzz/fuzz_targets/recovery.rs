//! Opening a folder of arbitrary segment files: never a panic, never a record that was not written, and opening again
//! gives the same.
//!
//! From `broker/storage`, on the pinned toolchain:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run recovery -- -max_total_time=60 -max_len=20000`
//!
//! The first byte of the input chooses the mode:
//! - even: the rest is the only segment file as it is;
//! - odd: the rest is a list of changes (where u16, how u8) to the files of a sound log of three segments. Random bytes
//!   alone would never get past a checksum.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_storage::segment::file_name;
use warren_storage::{Disk, FaultyDisk, Kind, Log, Options, Record, Recovered, Tag};

const SEGMENT_LEN: u32 = 8192;
const SEGMENTS: u32 = 3;

fuzz_target!(|input: &[u8]| {
    let Some((mode, rest)) = input.split_first() else { return };
    let disk = FaultyDisk::new(512);
    let written = if mode % 2 == 0 {
        disk.set_contents(&file_name(0), rest);
        Vec::new()
    } else {
        let written = sound_log(&disk);
        change_files(&disk, rest);
        written
    };
    let Some(found) = open(&disk, 2) else { return };
    for record in &found {
        assert!(written.contains(record), "{:?} was never written", record.tag);
    }
    assert_eq!(open(&disk.restart(), 3), Some(found), "opening again gives something else");
});

fn options(epoch_seed: u64) -> Options {
    Options { segment_len: SEGMENT_LEN, first_segment_len: SEGMENT_LEN, epoch_seed, ..Options::default() }
}

/// Opens the log, appends a record so that the end is used as well, and gives what was found.
fn open(disk: &FaultyDisk, epoch_seed: u64) -> Option<Vec<Recovered>> {
    let mut found = Vec::new();
    let log = Log::open(disk.clone(), options(epoch_seed), |record| found.push(record)).ok()?;
    for record in &found {
        assert_eq!(log.reader().read(record.position).expect("recovered, so readable"), record.payload);
    }
    Some(found)
}

/// Three segments of records, some synced and some not.
fn sound_log(disk: &FaultyDisk) -> Vec<Recovered> {
    let mut log = Log::open(disk.clone(), options(1), |_| {}).expect("an empty disk");
    let mut written = Vec::new();
    for index in 0.. {
        let tag = Tag { kind: Kind::Entry, shard: 1, term: 1, index };
        let payload = vec![index as u8; 100 + 97 * (index as usize % 7)];
        let record = Record::new(tag, vec![payload.clone().into()]).expect("a short record");
        let position = log.append(&record).expect("a sound disk");
        written.push(Recovered { tag, position, payload: payload.into() });
        if index % 3 == 0 {
            log.sync().expect("a sound disk");
        }
        if log.active_segment() == SEGMENTS - 1 && position.offset > 5500 {
            break;
        }
    }
    log.write().expect("a sound disk");
    written
}

fn change_files(disk: &FaultyDisk, changes: &[u8]) {
    let mut files: Vec<Vec<u8>> =
        (0..SEGMENTS).map(|seq| disk.contents(&file_name(seq)).expect("three segments")).collect();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let file = &mut files[place / SEGMENT_LEN as usize % SEGMENTS as usize];
        let at = place % SEGMENT_LEN as usize;
        match change[2] {
            // Lost blocks, cut files, files that are gone.
            255 => file[at / 512 * 512..].chunks_mut(512).take(1).for_each(|block| block.fill(0)),
            254 => file[at..].fill(0),
            253 => file.swap(at, (at + 40) % SEGMENT_LEN as usize),
            252 => drop(Disk::remove(disk, &file_name((place % SEGMENTS as usize) as u32))),
            byte => file[at] ^= byte,
        }
    }
    for (seq, file) in (0..SEGMENTS).zip(&files) {
        let name = file_name(seq);
        if disk.names().contains(&name) {
            disk.set_contents(&name, file);
        }
    }
}
