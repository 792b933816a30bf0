//! Checkpoints: what they keep, what they give up, and what is refused.

use std::io::ErrorKind;

use warren_storage::segment::file_name;
use warren_storage::{
    CheckpointPlan, Disk, FaultyDisk, Identity, Log, LogError, LogPoint, OpenError, Options, Position, Random,
    ReadError, Recovered, Retained, Snapshot,
};

use crate::world::{Item, item, record, small};

const SEGMENT_LEN: u32 = 8192;

/// Everything that opening gives.
struct Opened {
    disk: FaultyDisk,
    log: Log<FaultyDisk>,
    snapshots: Vec<Snapshot>,
    records: Vec<Item>,
}

fn open_with(disk: &FaultyDisk, options: Options) -> Result<Opened, OpenError> {
    let (mut snapshots, mut records) = (Vec::new(), Vec::new());
    let log = Log::open(disk.clone(), options, |recovered| match recovered {
        Recovered::Snapshot(snapshot) => snapshots.push(snapshot),
        Recovered::Record { tag, payload, .. } => records.push((tag, payload)),
    })?;
    Ok(Opened { disk: disk.clone(), log, snapshots, records })
}

fn reopen(disk: &FaultyDisk) -> Opened {
    open_with(&disk.restart(), small(SEGMENT_LEN, 77)).unwrap()
}

fn snapshot(shard: u16, len: usize) -> Snapshot {
    let payload = item(u64::from(shard) + 500, len).1;
    Snapshot { shard, term: 3, index: 1000 + u64::from(shard), payload }
}

fn plan(replay_from: LogPoint, live: &[(u32, u64)]) -> CheckpointPlan {
    let snapshots = vec![snapshot(0, 0), snapshot(1, 10_000), snapshot(2, 7)];
    CheckpointPlan { replay_from, snapshots, live: live.iter().copied().collect() }
}

/// A log with records 0 to 19 of 1000 bytes each, three to a segment: segments 0 to 6.
fn seven_segments() -> (FaultyDisk, Log<FaultyDisk>, Vec<Position>) {
    let disk = FaultyDisk::new(512);
    let mut log = open_with(&disk, small(SEGMENT_LEN, 1)).unwrap().log;
    let positions = (0..20).map(|index| log.append(&record(&item(index, 1000))).unwrap()).collect();
    log.sync().unwrap();
    assert_eq!(log.retention().segments(), [0, 1, 2, 3, 4, 5, 6]);
    (disk, log, positions)
}

#[test]
fn checkpoint_gives_snapshots_back_and_then_the_records_behind_it() {
    let (disk, mut log, positions) = seven_segments();
    let plan = plan(log.end(), &[]);
    log.append(&record(&item(20, 50))).unwrap();
    log.sync().unwrap();
    let reclaimed = log.retention().checkpoint(plan.clone()).unwrap();
    assert_eq!((reclaimed.given_up, reclaimed.retained.len(), reclaimed.checkpoint.number), (6, 0, 1));
    assert_eq!(log.retention().segments(), [6]);
    assert!(matches!(log.reader().read(positions[0]), Err(ReadError::Gone { segment: 0 })));
    let opened = reopen(&disk);
    assert_eq!(opened.snapshots, plan.snapshots);
    assert_eq!(opened.records, [item(20, 50)]);
    assert_eq!(opened.log.bytes_since_checkpoint(), 40 + 56);
    assert_eq!(opened.log.checkpoint(), Some(reclaimed.checkpoint));
    // Records before it in the same segment are still read by their positions.
    assert_eq!(opened.log.reader().read(positions[19]).unwrap(), item(19, 1000).1);
}

#[test]
fn live_segments_stay_readable_with_holes_between_them() {
    let (disk, log, positions) = seven_segments();
    let reclaimed = log.retention().checkpoint(plan(log.end(), &[(1, 1000), (4, 17), (6, 5)])).unwrap();
    let expected = [(1, 1000), (4, 17)].map(|(segment, live)| Retained { segment, len: SEGMENT_LEN, live });
    assert_eq!((reclaimed.given_up, reclaimed.retained.as_slice()), (4, expected.as_slice()));
    drop(log);
    let opened = reopen(&disk);
    assert_eq!(opened.log.retention().segments(), [1, 4, 6]);
    assert_eq!(opened.records, []);
    for (number, position) in (0..).zip(&positions) {
        match (position.segment, opened.log.reader().read(*position)) {
            (1 | 4 | 6, read) => assert_eq!(read.unwrap(), item(number, 1000).1),
            (segment, read) => assert!(matches!(read, Err(ReadError::Gone { segment: gone }) if gone == segment)),
        }
    }
    let reclaimed = opened.log.retention().checkpoint(plan(opened.log.end(), &[(4, 17)])).unwrap();
    assert_eq!((reclaimed.given_up, reclaimed.checkpoint.number), (1, 2));
    assert_eq!(reopen(&opened.disk).log.retention().segments(), [4, 6]);
}

#[test]
fn plan_that_would_lose_records_is_refused_and_nothing_changes() {
    let (disk, mut log, _) = seven_segments();
    let end = log.end();
    let retention = log.retention();
    retention.checkpoint(plan(end, &[(3, 1)])).unwrap();
    log.append(&record(&item(20, 50))).unwrap();
    log.write().unwrap();
    let unsynced = LogPoint { offset: end.offset + 40 + 56, ..end };
    let refused = [
        (plan(unsynced, &[]), "is not synced yet"),
        (plan(LogPoint { segment: 9, offset: 4096 }, &[]), "there is no"),
        (plan(LogPoint { segment: 5, offset: 4096 }, &[]), "there is no"),
        (plan(LogPoint { segment: 3, offset: 4096 }, &[]), "before the last checkpoint"),
        (plan(LogPoint { offset: end.offset - 8, ..end }, &[]), "before the last checkpoint"),
        (plan(LogPoint { offset: end.offset + 4, ..end }, &[]), "is not between two records"),
        (plan(LogPoint { offset: 64, ..end }, &[]), "is not between two records"),
        (plan(end, &[(2, 10)]), "live segment 2 was given up before"),
    ];
    let changes = disk.changes();
    for (plan, reason) in refused {
        match retention.checkpoint(plan) {
            Err(LogError::Plan { reason: found }) if found.contains(reason) => {}
            other => panic!("{reason}: {other:?}"),
        }
    }
    assert_eq!(disk.changes(), changes);
    log.sync().unwrap();
    retention.checkpoint(plan(unsynced, &[(3, 1)])).unwrap();
    assert_eq!(reopen(&disk).records, []);
}

#[test]
fn records_behind_an_earlier_point_are_read_again() {
    let disk = FaultyDisk::new(512);
    let mut log = open_with(&disk, small(SEGMENT_LEN, 1)).unwrap().log;
    let mut ends = vec![log.end()];
    for index in 0..20 {
        log.append(&record(&item(index, 1000))).unwrap();
        log.sync().unwrap();
        ends.push(log.end());
    }
    for (first, end) in (0..).zip(ends) {
        log.retention().checkpoint(plan(end, &[])).unwrap();
        let opened = reopen(&disk);
        let expected: Vec<Item> = (first..20).map(|index| item(index, 1000)).collect();
        assert_eq!(opened.records, expected);
        assert_eq!(opened.snapshots, plan(end, &[]).snapshots);
        assert_eq!(opened.log.retention().segments()[0], end.segment);
    }
}

#[test]
fn what_a_crash_left_of_giving_up_is_removed_when_opening() {
    let (disk, log, _) = seven_segments();
    disk.set_contents("new-9", &[1; 4096]);
    disk.set_contents("checkpoint.new", &[1; 4096]);
    disk.set_contents("spare-7-8192", &[1; 8192]);
    disk.set_contents("spare-8-4096", &[1; 4096]);
    disk.set_contents("lock", &[]);
    let before: Vec<_> = (0..6).map(|seq| disk.contents(&file_name(seq)).unwrap()).collect();
    log.retention().checkpoint(plan(log.end(), &[(2, 1)])).unwrap();
    for (seq, bytes) in (0..6).zip(&before) {
        // As if none of them had been given up; their contents do not matter any more.
        disk.set_contents(&file_name(seq), if seq == 2 { bytes } else { &bytes[100..] });
    }
    let opened = reopen(&disk);
    let names = opened.disk.names();
    let segments: Vec<&String> = names.iter().filter(|name| name.starts_with("wal-")).collect();
    assert_eq!(segments, ["wal-00000002", "wal-00000006"]);
    for gone in ["new-9", "checkpoint.new", "spare-8-4096"] {
        assert!(!names.iter().any(|name| name == gone), "{gone} is left: {names:?}");
    }
    assert!(names.iter().any(|name| name == "lock"), "somebody else's file is gone");
    assert!(names.iter().filter(|name| name.starts_with("spare-")).count() <= 2, "{names:?}");
}

/// The reason why the folder is refused as damaged.
fn refusal(disk: &FaultyDisk) -> String {
    let names = disk.names();
    match open_with(disk, small(SEGMENT_LEN, 78)) {
        Err(error @ OpenError::Corrupt { .. }) => {
            assert_eq!(disk.names(), names, "a refused folder was changed");
            error.to_string()
        }
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(opened) => panic!("opened with {} records", opened.records.len()),
    }
}

/// Segments 2 and 4 are retained, and 6 is where reading begins.
fn sound() -> FaultyDisk {
    let (disk, log, _) = seven_segments();
    log.retention().checkpoint(plan(log.end(), &[(2, 1), (4, 1)])).unwrap();
    for name in disk.names().iter().filter(|name| name.starts_with("spare-")) {
        Disk::remove(&disk, name).unwrap();
    }
    disk.restart()
}

#[test]
fn missing_files_are_refused_by_name() {
    for name in ["wal-00000002", "wal-00000004", "wal-00000006", "checkpoint"] {
        let disk = sound();
        Disk::remove(&disk, name).unwrap();
        let text = refusal(&disk);
        let named = if name == "checkpoint" { "wal-00000000" } else { name };
        assert!(text.contains(&format!("{named} at byte 0: the file is missing")), "{text}");
    }
}

#[test]
fn segments_of_another_log_are_refused() {
    let other = FaultyDisk::new(512);
    let mut log = open_with(&other, small(SEGMENT_LEN, 1000)).unwrap().log;
    for index in 0..20 {
        log.append(&record(&item(index, 1000))).unwrap();
    }
    log.sync().unwrap();
    for seq in [2, 4, 6] {
        let disk = sound();
        disk.set_contents(&file_name(seq), &other.contents(&file_name(seq)).unwrap());
        let text = refusal(&disk);
        assert!(text.contains(&file_name(seq)) && text.contains("another log"), "{text}");
    }
}

#[test]
fn replay_segment_that_is_too_short_is_refused() {
    let (disk, mut log, _) = seven_segments();
    log.append(&record(&item(20, 20_000))).unwrap();
    log.sync().unwrap();
    log.retention().checkpoint(plan(log.end(), &[])).unwrap();
    // The same segment, but by its header not as long as the point to read from.
    let mut short = disk.contents(&file_name(7)).unwrap()[..8192].to_vec();
    short[12..16].copy_from_slice(&8192u32.to_le_bytes());
    let crc = crc32c::crc32c(&short[..4092]);
    short[4092..4096].copy_from_slice(&crc.to_le_bytes());
    disk.set_contents(&file_name(7), &short);
    assert!(refusal(&disk.restart()).contains("wal-00000007 is shorter"));
}

#[test]
fn every_flipped_bit_of_a_checkpoint_is_refused() {
    let sound = sound();
    let bytes = sound.contents("checkpoint").unwrap();
    for at in 0..bytes.len() {
        let disk = sound.restart();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        disk.set_contents("checkpoint", &flipped);
        let text = refusal(&disk);
        assert!(text.contains("the log is damaged: checkpoint at byte"), "byte {at}: {text}");
    }
}

#[test]
fn checkpoint_cut_or_grown_at_every_byte_is_refused() {
    let sound = sound();
    let bytes = sound.contents("checkpoint").unwrap();
    for len in (0..bytes.len()).chain([bytes.len() + 1, bytes.len() + 16, bytes.len() + 4096]) {
        let disk = sound.restart();
        let mut cut = bytes.clone();
        cut.resize(len, 0);
        disk.set_contents("checkpoint", &cut);
        let text = refusal(&disk);
        assert!(text.contains("the log is damaged: checkpoint at byte"), "cut to {len}: {text}");
    }
}

#[test]
fn parts_of_two_checkpoints_are_not_taken_for_one() {
    let (disk, mut log, _) = seven_segments();
    log.retention().checkpoint(plan(log.end(), &[])).unwrap();
    let one = disk.contents("checkpoint").unwrap();
    log.append(&record(&item(20, 50))).unwrap();
    log.sync().unwrap();
    log.retention().checkpoint(plan(log.end(), &[])).unwrap();
    let other = disk.contents("checkpoint").unwrap();
    assert_eq!(one.len(), other.len());
    // Behind the head both hold the same snapshots.
    for at in (512..one.len()).step_by(512).chain([80]) {
        disk.set_contents("checkpoint", &[&other[..at], &one[at..]].concat());
        refusal(&disk.restart());
    }
}

#[test]
fn checkpoint_of_another_node_or_a_newer_program_is_refused() {
    let disk = sound();
    let identity = Identity { cluster_id: 7, node_id: 2 };
    let error = open_with(&disk, Options { identity, ..small(SEGMENT_LEN, 2) }).err().unwrap();
    assert!(matches!(&error, OpenError::Foreign { file, .. } if file == "checkpoint"), "{error}");
    let mut bytes = disk.contents("checkpoint").unwrap();
    bytes[8] = 9;
    let head_len = 80 + 2 * 12;
    let crc = crc32c::crc32c(&bytes[..head_len - 4]);
    bytes[head_len - 4..head_len].copy_from_slice(&crc.to_le_bytes());
    disk.set_contents("checkpoint", &bytes);
    let error = open_with(&disk, small(SEGMENT_LEN, 2)).err().unwrap();
    assert!(matches!(&error, OpenError::Newer { file, .. } if file == "checkpoint"), "{error}");
}

#[test]
fn rot_in_records_behind_the_checkpoint_is_refused_and_before_it_not_looked_for() {
    let (disk, mut log, _) = seven_segments();
    let end = log.end();
    for index in 20..25 {
        log.append(&record(&item(index, 50))).unwrap();
        log.sync().unwrap();
    }
    log.retention().checkpoint(plan(end, &[])).unwrap();
    let sound = disk.contents(&file_name(6)).unwrap();
    let mut rotten = sound.clone();
    rotten[end.offset as usize + 44] ^= 1;
    disk.set_contents(&file_name(6), &rotten);
    assert!(refusal(&disk.restart()).contains("says that it was synced"));
    rotten = sound;
    rotten[end.offset as usize - 4] ^= 1;
    disk.set_contents(&file_name(6), &rotten);
    assert_eq!(reopen(&disk).records.len(), 5);
}

#[test]
fn recycled_segments_never_show_what_they_held_before() {
    const SEGMENT_LEN: u32 = 20 << 10;
    // Each record fills a page, so that an old one lies untouched right behind the newest.
    let disk = FaultyDisk::new(512);
    let mut random = Random(3);
    let mut log = open_with(&disk, small(SEGMENT_LEN, 1)).unwrap().log;
    let mut recycled = 0;
    let mut ends = vec![log.end()];
    for index in 0..120 {
        let before = disk.changes();
        log.append(&record(&item(index, 4056))).unwrap();
        log.sync().unwrap();
        ends.push(log.end());
        let from = ends[ends.len().saturating_sub(5)];
        log.retention().checkpoint(plan(from, &[])).unwrap();
        recycled += usize::from(disk.names().iter().any(|name| name.starts_with("spare-")));
        let changes = disk.changes();
        // A power cut now, or in the middle of giving up, recycling and beginning segments.
        for moment in [changes, changes - random.below(changes - before)] {
            let crashed = disk.at(moment).crash(&mut |outcomes| random.below(outcomes));
            let found = open_with(&crashed, small(SEGMENT_LEN, 5000 + index)).unwrap().records;
            let numbers: Vec<u64> = found.iter().map(|(tag, _)| tag.index).collect();
            let synced = if moment == changes { index } else { index.saturating_sub(1) };
            assert!(index == 0 || numbers.last() >= Some(&synced), "{synced} is lost: {numbers:?}");
            for (number, found) in (numbers.first().copied().unwrap_or(0)..).zip(&found) {
                assert_eq!(*found, item(number, 4056));
            }
        }
    }
    assert!(recycled > 0, "nothing was recycled");
}

#[test]
fn failed_write_or_sync_of_a_checkpoint_ends_it_and_leaves_the_old_one_or_the_new_one() {
    let faults: [fn(&FaultyDisk, u64); 2] = [
        |disk, count| disk.fail_write_after(count, ErrorKind::Other),
        |disk, count| disk.fail_sync_after(count, ErrorKind::Other),
    ];
    for (fail, count) in faults.into_iter().flat_map(|fail| (0..3).map(move |count| (fail, count))) {
        let (disk, log, positions) = seven_segments();
        let retention = log.retention();
        let long = CheckpointPlan { snapshots: vec![snapshot(1, 5 << 20)], ..plan(log.end(), &[]) };
        retention.checkpoint(plan(log.end(), &[(2, 1)])).unwrap();
        fail(&disk, count);
        assert!(matches!(retention.checkpoint(long.clone()), Err(LogError::Io { .. })));
        let changes = disk.changes();
        assert!(matches!(retention.checkpoint(long), Err(LogError::Stopped)));
        assert_eq!(disk.changes(), changes, "a failed log touched the disk again");
        let opened = open_with(&disk.crash(&mut |_| 0), small(SEGMENT_LEN, 2)).unwrap();
        assert_eq!(opened.snapshots, plan(log.end(), &[]).snapshots);
        assert!(opened.log.reader().read(positions[6]).is_ok());
    }
}

#[test]
fn checkpoint_without_room_is_said_and_leaves_everything_as_it_was() {
    let set: [fn(&FaultyDisk, u64); 2] = [FaultyDisk::set_capacity, FaultyDisk::set_quota];
    for set in set {
        let (disk, mut log, _) = seven_segments();
        let retention = log.retention();
        retention.checkpoint(plan(log.end(), &[(2, 1)])).unwrap();
        let used: u64 = disk.names().iter().map(|name| disk.contents(name).unwrap().len() as u64).sum();
        assert_eq!(disk.names().iter().filter(|name| name.starts_with("spare-")).count(), 2);
        let long = CheckpointPlan { snapshots: vec![snapshot(1, 50_000)], ..plan(log.end(), &[]) };
        set(&disk, used + 1000);
        let error = retention.checkpoint(long.clone()).unwrap_err();
        assert!(matches!(error, LogError::NoSpace { .. }) && error.to_string().contains("no space"), "{error}");
        let names = ["checkpoint", "wal-00000002", "wal-00000006"];
        assert_eq!(disk.names(), names, "spare files are given back first, and nothing unfinished is left");
        assert_eq!(reopen(&disk).snapshots, plan(log.end(), &[]).snapshots);
        log.append(&record(&item(20, 50))).unwrap();
        log.sync().unwrap();
        set(&disk, used + 100_000);
        assert_eq!(retention.checkpoint(long).unwrap().given_up, 1);
        assert_eq!(reopen(&disk).records, [item(20, 50)]);
    }
}

#[test]
fn spare_files_make_room_for_a_checkpoint() {
    let (disk, log, _) = seven_segments();
    let retention = log.retention();
    retention.checkpoint(plan(log.end(), &[])).unwrap();
    let used: u64 = disk.names().iter().map(|name| disk.contents(name).unwrap().len() as u64).sum();
    disk.set_capacity(used + 5000);
    assert_eq!(retention.space().unwrap().available, 5000 + 2 * u64::from(SEGMENT_LEN));
    assert_eq!(retention.space().unwrap().total, used + 5000);
    let longer = CheckpointPlan { snapshots: vec![snapshot(1, 12_000)], ..plan(log.end(), &[]) };
    assert_eq!(retention.checkpoint(longer).unwrap().checkpoint.number, 2);
}

#[test]
fn log_that_fills_the_volume_leaves_room_for_the_checkpoint_that_frees_it() {
    let disk = FaultyDisk::new(512);
    disk.set_capacity(10 * u64::from(SEGMENT_LEN));
    let options = |seed| Options { reserve: 12_000, ..small(SEGMENT_LEN, seed) };
    let mut log = open_with(&disk, options(1)).unwrap().log;
    for round in 0..5 {
        let full = (0..).find_map(|index| log.append(&record(&item(index, 1000))).err()).unwrap();
        assert!(matches!(full, LogError::NoSpace { .. }), "{full}");
        assert!(log.retention().space().unwrap().available >= 12_000);
        // A process that is started on the full volume can free it, too.
        drop(log);
        log = open_with(&disk, options(2 + round)).unwrap().log;
        assert!(matches!(log.append(&record(&item(0, 1000))), Err(LogError::NoSpace { .. })));
        assert!(log.retention().checkpoint(plan(log.end(), &[])).unwrap().given_up >= 5);
        log.append(&record(&item(0, 1000))).unwrap();
        log.sync().unwrap();
    }
}

#[test]
fn part_is_read_now_only_if_it_is_in_memory() {
    let (disk, log, positions) = seven_segments();
    let part = positions[3].part(100, 30).unwrap();
    let expected = item(3, 1000).1.slice(100..130);
    assert_eq!(log.reader().read_part_now(part).unwrap(), Some(expected.clone()));
    disk.set_uncached(true);
    assert_eq!(log.reader().read_part_now(part).unwrap(), None);
    assert_eq!(log.reader().read_part(part).unwrap(), expected);
    log.retention().checkpoint(plan(log.end(), &[])).unwrap();
    assert!(matches!(log.reader().read_part_now(part), Err(ReadError::Gone { segment: 1 })));
}
