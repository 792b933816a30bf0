//! Opening a folder of arbitrary segment files: never a panic, never a record that was not written, and opening again
//! gives the same.
//!
//! From `broker/storage`, on the pinned toolchain:
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run recovery -- -max_total_time=60 -max_len=20000`
//!
//! The first byte of the input chooses the mode, modulo 4:
//! - 0: the rest is the only segment file as it is;
//! - 1: the rest is a list of changes (where u16, how u8) to the files of a sound log of three segments. Random bytes
//!   alone would never get past a checksum;
//! - 2: the rest is the checkpoint of such a log;
//! - 3: such a log has a checkpoint, and the rest is a list of changes as above to it (first half of the places) and to
//!   the segments (second half). The checksums of the checkpoint are made right again if the first change says so, so
//!   that what is behind them is reached.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warren_storage::checkpoint::FILE_NAME as CHECKPOINT;
use warren_storage::segment::file_name;
use warren_storage::{
    CheckpointPlan, Disk, FaultyDisk, Kind, Log, LogPoint, Options, Record, Recovered, Snapshot, Tag,
};

const SEGMENT_LEN: u32 = 8192;
const SEGMENTS: u32 = 3;

fuzz_target!(|input: &[u8]| {
    let Some((mode, rest)) = input.split_first() else { return };
    let disk = FaultyDisk::new(512);
    let mut written = Vec::new();
    match mode % 4 {
        0 => disk.set_contents(&file_name(0), rest),
        1 => {
            written = sound_log(&disk).0;
            change_files(&disk, rest);
        }
        2 => {
            written = sound_log(&disk).0;
            disk.set_contents(CHECKPOINT, rest);
        }
        _ => {
            let (records, middle) = sound_log(&disk);
            written = records;
            written.extend(checkpoint(&disk, middle));
            let (changes, later) = rest.split_at(rest.len() / 6 * 3);
            change_checkpoint(&disk, changes);
            change_files(&disk, later);
        }
    }
    let Some(found) = open(&disk, 2) else { return };
    for recovered in &found {
        // A checkpoint whose checksums were made right may say anything.
        let sound = written.contains(recovered) || matches!((mode % 4, recovered), (2 | 3, Recovered::Snapshot(_)));
        assert!(sound, "{recovered:?} was never written");
    }
    assert_eq!(open(&disk.restart(), 3), Some(found), "opening again gives something else");
});

fn options(epoch_seed: u64) -> Options {
    Options { segment_len: SEGMENT_LEN, first_segment_len: SEGMENT_LEN, epoch_seed, ..Options::default() }
}

/// Opens the log and gives what was found.
fn open(disk: &FaultyDisk, epoch_seed: u64) -> Option<Vec<Recovered>> {
    let mut found = Vec::new();
    let log = Log::open(disk.clone(), options(epoch_seed), |recovered| found.push(recovered)).ok()?;
    for recovered in &found {
        if let Recovered::Record { position, payload, .. } = recovered {
            assert_eq!(log.reader().read(*position).expect("recovered, so readable"), payload);
        }
    }
    Some(found)
}

/// Three segments of records, some synced and some not; and a point in the middle.
fn sound_log(disk: &FaultyDisk) -> (Vec<Recovered>, LogPoint) {
    let mut log = Log::open(disk.clone(), options(1), |_| {}).expect("an empty disk");
    let (mut written, mut middle) = (Vec::new(), log.end());
    for index in 0.. {
        let tag = Tag { kind: Kind::Entry, shard: 1, term: 1, index };
        let payload = vec![index as u8; 100 + 97 * (index as usize % 7)];
        let record = Record::new(tag, vec![payload.clone().into()]).expect("a short record");
        let position = log.append(&record).expect("a sound disk");
        written.push(Recovered::Record { tag, position, payload: payload.into() });
        if index % 3 == 0 {
            log.sync().expect("a sound disk");
            if log.active_segment() < SEGMENTS - 1 {
                middle = log.end();
            }
        }
        if log.active_segment() == SEGMENTS - 1 && position.offset > 5500 {
            break;
        }
    }
    log.write().expect("a sound disk");
    (written, middle)
}

/// Makes a checkpoint at a point of the log, without giving up any segment, and gives its snapshots.
fn checkpoint(disk: &FaultyDisk, replay_from: LogPoint) -> Vec<Recovered> {
    let snapshot =
        |shard| Snapshot { shard, term: 1, index: 9, payload: vec![shard as u8; 20 * shard as usize].into() };
    let snapshots = vec![snapshot(0), snapshot(1), snapshot(2)];
    let log = Log::open(disk.clone(), options(4), |_| {}).expect("a sound log");
    let live = (0..SEGMENTS).map(|seq| (seq, 1)).collect();
    let plan = CheckpointPlan { replay_from, snapshots: snapshots.clone(), live };
    log.retention().checkpoint(plan).expect("a sound disk");
    snapshots.into_iter().map(Recovered::Snapshot).collect()
}

/// Changes the checkpoint's bytes; the first change's last byte says whether its checksums are right afterwards.
fn change_checkpoint(disk: &FaultyDisk, changes: &[u8]) {
    let mut bytes = disk.contents(CHECKPOINT).expect("a checkpoint");
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] ^= change[2];
    }
    if changes.get(2).is_some_and(|how| how % 2 == 1) {
        seal_checkpoint(&mut bytes);
    }
    disk.set_contents(CHECKPOINT, &bytes);
}

/// Makes the checksums of a checkpoint right, as far as its lengths lead.
fn seal_checkpoint(bytes: &mut [u8]) {
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
    };
    let Some(head_len) = number(bytes, 12).map(|len| len as usize).filter(|len| (80..=bytes.len()).contains(len))
    else {
        return;
    };
    let mut crc = crc32c::crc32c(&bytes[..head_len - 4]);
    bytes[head_len - 4..head_len].copy_from_slice(&crc.to_le_bytes());
    let mut at = head_len;
    while at + 40 <= bytes.len().saturating_sub(16) {
        let len = number(bytes, at + 24).map_or(0, |len| len as usize);
        let end = (at + 40).saturating_add(len).min(bytes.len());
        let payload = crc32c::crc32c(&bytes[at + 40..end]);
        bytes[at + 4..at + 8].copy_from_slice(&payload.to_le_bytes());
        crc = crc32c::crc32c_append(crc32c::crc32c(&crc.to_le_bytes()), &bytes[at..at + 36]);
        bytes[at + 36..at + 40].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
    if at + 16 == bytes.len() {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&crc.to_le_bytes()), &bytes[at..at + 12]);
        bytes[at + 12..].copy_from_slice(&crc.to_le_bytes());
    }
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
