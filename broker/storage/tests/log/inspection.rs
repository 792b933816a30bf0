//! A look at a log finds what recovery finds, and more; it changes nothing, and a log may be in use meanwhile.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use warren_storage::inspection::{FAULTS_MAX, Fault, SegmentState};
use warren_storage::segment::{SEGMENT_HEADER_LEN, file_name};
use warren_storage::{
    CheckpointPlan, FaultyDisk, Inspection, Log, LogPoint, Options, Position, Random, Recovered, Seen, Snapshot,
    inspect,
};

use crate::world::{Item, for_each_seed, item, open, record, small};

const SEGMENT_LEN: u32 = 8192;

fn look(disk: &FaultyDisk) -> (Inspection, Vec<Seen>) {
    let mut seen = Vec::new();
    let show = |each| {
        seen.push(each);
        ControlFlow::Continue(())
    };
    let inspection = inspect(disk, |shard| shard == 1, show).unwrap();
    (inspection, seen)
}

fn records(seen: &[Seen]) -> Vec<Item> {
    let item = |seen: &Seen| match seen {
        Seen::Record { tag, payload, .. } => Some((*tag, payload.clone())),
        Seen::Snapshot { .. } => None,
    };
    seen.iter().filter_map(item).collect()
}

/// Records of 1000 bytes, three to a segment, all synced.
fn filled(count: u64) -> (FaultyDisk, Log<FaultyDisk>, Vec<Position>) {
    let disk = FaultyDisk::new(512);
    let (mut log, _) = open(disk.clone(), small(SEGMENT_LEN, 1)).unwrap();
    let positions = append(&mut log, 0..count);
    (disk, log, positions)
}

fn append(log: &mut Log<FaultyDisk>, items: std::ops::Range<u64>) -> Vec<Position> {
    let positions = items.map(|index| log.append(&record(&item(index, 1000))).unwrap()).collect();
    log.sync().unwrap();
    positions
}

fn checkpoint(log: &Log<FaultyDisk>, live: &[u32]) {
    let snapshot = |shard, len| Snapshot { shard, term: 3, index: 7, payload: item(9, len).1 };
    let live: BTreeMap<u32, u64> = live.iter().map(|seq| (*seq, 1)).collect();
    let plan = CheckpointPlan { replay_from: log.end(), snapshots: vec![snapshot(1, 5000), snapshot(2, 70)], live };
    log.retention().checkpoint(plan).unwrap();
}

fn damaged(disk: &FaultyDisk, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> FaultyDisk {
    let disk = disk.restart();
    let mut bytes = disk.contents(file).unwrap();
    change(&mut bytes);
    disk.set_contents(file, &bytes);
    disk
}

fn places(faults: &[Fault]) -> Vec<(&str, u64)> {
    faults.iter().map(|fault| (fault.file.as_str(), fault.offset)).collect()
}

#[test]
fn a_sound_log_is_seen_whole_and_nothing_is_written() {
    let (disk, mut log, positions) = filled(20);
    log.mark().unwrap();
    let changes = disk.changes();
    let (found, seen) = look(&disk);
    assert_eq!(disk.changes(), changes);
    assert_eq!((found.fault_count, found.segments.len(), found.checkpoint), (0, 7, None));
    assert_eq!(records(&seen), (0..20).map(|index| item(index, 1000)).collect::<Vec<_>>());
    assert!(matches!(&seen[19], Seen::Record { position, replayed: true, .. } if *position == positions[19]));
    let tail = found.tail.unwrap();
    // The mark has 40 bytes.
    assert_eq!(tail.point, LogPoint { segment: 6, offset: positions[19].offset + 1000 + 40 });
    assert_eq!((tail.free, tail.sealed, tail.torn), (SEGMENT_LEN - tail.point.offset, false, 0));
    // Three records and a seal; two records and a mark.
    assert_eq!((found.segments[0].records, found.segments[6].records), (4, 3));
}

#[test]
fn an_empty_folder_is_sound() {
    let (found, seen) = look(&FaultyDisk::new(512));
    assert_eq!((found, seen), (Inspection::default(), Vec::new()));
}

#[test]
fn older_segments_are_looked_at_too_and_snapshots_are_shown_as_wanted() {
    let (disk, mut log, positions) = filled(20);
    checkpoint(&log, &[1, 4]);
    append(&mut log, 20..21);
    let (found, seen) = look(&disk);
    let states: Vec<_> = found.segments.iter().map(|segment| (segment.seq, segment.state)).collect();
    let (retained, replayed) = (SegmentState::Retained, SegmentState::Replayed);
    assert_eq!((states, found.fault_count), (vec![(1, retained), (4, retained), (6, replayed)], 0));
    assert_eq!(found.checkpoint.unwrap().number, 1);
    assert_eq!(found.others.len(), 2, "two of the others are spare: {:?}", found.others);
    let Seen::Snapshot { shard: 1, term: 3, index: 7, len: 5000, payload: Some(payload) } = &seen[0] else {
        panic!("{:?}", seen[0])
    };
    assert_eq!(*payload, item(9, 5000).1);
    assert!(matches!(seen[1], Seen::Snapshot { shard: 2, len: 70, payload: None, .. }));
    let replayed = |seen: &Seen| matches!(seen, Seen::Record { replayed: true, .. });
    assert_eq!(seen.iter().filter(|seen| replayed(seen)).count(), 1, "one record is behind the checkpoint");

    let at = positions[4];
    let disk = damaged(&disk, &file_name(1), |bytes| bytes[at.offset as usize + 500] ^= 1);
    let (found, seen) = look(&disk);
    assert_eq!(places(&found.faults), [("wal-00000001", u64::from(at.offset) - 40)]);
    assert!(!records(&seen).contains(&item(4, 1000)) && records(&seen).contains(&item(5, 1000)));
    let opened = Log::open(disk, small(SEGMENT_LEN, 9), |_| {});
    assert!(opened.is_ok(), "opening reads nothing of it");
}

#[test]
fn every_damage_has_its_place_and_what_is_behind_it_is_seen() {
    let (disk, mut log, positions) = filled(8);
    log.mark().unwrap();
    for (number, position) in positions.iter().enumerate() {
        for offset in [position.offset - 40, position.offset - 25, position.offset, position.offset + 999] {
            let file = file_name(position.segment);
            let (found, seen) = look(&damaged(&disk, &file, |bytes| bytes[offset as usize] ^= 4));
            assert_eq!(places(&found.faults), [(file.as_str(), u64::from(position.offset) - 40)], "{number}");
            let others = (0..8).filter(|index| *index != number as u64).map(|index| item(index, 1000));
            assert_eq!(records(&seen), others.collect::<Vec<_>>(), "{number}");
        }
    }
}

#[test]
fn a_damaged_or_missing_file_is_a_fault_of_its_own() {
    let (disk, log, _) = filled(20);
    checkpoint(&log, &[1, 4]);
    let header = look(&damaged(&disk, &file_name(4), |bytes| bytes[17] ^= 1)).0;
    assert_eq!(places(&header.faults), [("wal-00000004", 0)]);
    let head = look(&damaged(&disk, "checkpoint", |bytes| bytes[30] ^= 1)).0;
    assert_eq!((places(&head.faults), head.checkpoint), (vec![("checkpoint", 0)], None));
    assert_eq!(head.segments.len(), 3, "the segments are looked at all the same");
    let snapshot = look(&damaged(&disk, "checkpoint", |bytes| bytes[200] ^= 1)).0;
    assert_eq!(places(&snapshot.faults), [("checkpoint", 80 + 2 * 12)]);
    let end = look(&damaged(&disk, "checkpoint", |bytes| *bytes.last_mut().unwrap() ^= 1)).0;
    assert_eq!(end.fault_count, 1);
    for seq in [1, 6] {
        let disk = disk.restart();
        warren_storage::Disk::remove(&disk, &file_name(seq)).unwrap();
        assert_eq!(places(&look(&disk).0.faults), [(file_name(seq).as_str(), 0)]);
    }
    let (disk, _, _) = filled(20);
    warren_storage::Disk::remove(&disk, &file_name(2)).unwrap();
    assert_eq!(places(&look(&disk).0.faults), [("wal-00000002", 0)]);
}

#[test]
fn a_torn_tail_is_no_damage() {
    let (disk, mut log, positions) = filled(1);
    for index in 1..3 {
        log.append(&record(&item(index, 1000))).unwrap();
    }
    log.write().unwrap();
    let end = positions[0].offset as usize + 1000;
    let torn = damaged(&disk, &file_name(0), |bytes| bytes[end + 40 + 700] ^= 1);
    let (found, seen) = look(&torn);
    assert_eq!((found.fault_count, records(&seen).len()), (0, 1));
    let tail = found.tail.unwrap();
    assert_eq!((tail.point.offset as usize, tail.torn), (end, 2));
}

#[test]
fn it_finds_damage_where_opening_is_refused_and_only_there() {
    for_each_seed(300, "inspection::it_finds_damage", |seed| {
        let mut random = Random(seed);
        let (disk, mut log, _) = filled(1 + seed % 7);
        let unsynced = seed % 3;
        for index in 0..unsynced {
            log.append(&record(&item(50 + index, 300))).unwrap();
        }
        log.write().unwrap();
        let disk = disk.crash(&mut |outcomes| random.next_u64() as usize % outcomes);
        let names: Vec<_> = disk.names().into_iter().filter(|name| name.starts_with("wal-")).collect();
        let name = &names[random.next_u64() as usize % names.len()];
        let bit = random.next_u64() as usize % (SEGMENT_LEN as usize * 8);
        let disk = damaged(&disk, name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let (found, seen) = look(&disk);
        match open(disk.restart(), small(SEGMENT_LEN, 9)) {
            Ok((_, opened)) => assert_eq!((found.faults, records(&seen)), (Vec::new(), opened)),
            Err(error) => assert_ne!(found.fault_count, 0, "{error}"),
        }
    });
}

#[test]
fn a_log_that_is_in_use_meanwhile_looks_sound() {
    let (disk, mut log, _) = filled(20);
    checkpoint(&log, &[0, 1, 2, 3, 4, 5]);
    let mut next = 20;
    let mut shown = 0;
    let found = inspect(
        &disk,
        |_| true,
        |_| {
            shown += 1;
            if next < 60 {
                append(&mut log, next..next + 2);
                next += 2;
            }
            if next == 40 {
                checkpoint(&log, &[0, 3]);
            }
            ControlFlow::Continue(())
        },
    );
    let found = found.unwrap();
    assert_eq!(found.faults, []);
    assert!(found.segments.iter().any(|segment| segment.state == SegmentState::GivenUp), "{:?}", found.segments);
    assert!(shown > 5);
}

/// Segments are read a mebibyte at a time, so that there is something left to read of these.
#[test]
fn what_is_written_over_or_behind_what_is_being_read_is_no_damage() {
    const LEN: u32 = 2 << 20;
    let large = |index| record(&item(index, 300_000));
    for given_up in [false, true] {
        let disk = FaultyDisk::new(4096);
        let (mut log, _) = open(disk.clone(), small(LEN, 1)).unwrap();
        for index in 0..if given_up { 13 } else { 1 } {
            log.append(&large(index)).unwrap();
        }
        log.sync().unwrap();
        let mut shown = 0;
        let found = inspect(
            &disk,
            |_| false,
            |_| {
                shown += 1;
                if shown == 1 {
                    if given_up {
                        checkpoint(&log, &[]);
                    }
                    for index in 20..24 {
                        log.append(&large(index)).unwrap();
                        log.sync().unwrap();
                    }
                    for index in (24..36).filter(|_| given_up) {
                        log.append(&large(index)).unwrap();
                    }
                }
                ControlFlow::Continue(())
            },
        );
        let found = found.unwrap();
        assert_eq!(found.faults, [], "given up: {given_up}");
        assert_eq!(found.segments[0].state == SegmentState::GivenUp, given_up);
        assert!(given_up || shown == 5, "{shown} records were seen, and there are 5 by now");
    }
}

#[test]
fn a_segment_of_another_log_does_not_continue_this_one() {
    let (disk, log, _) = filled(20);
    checkpoint(&log, &[1]);
    let other = FaultyDisk::new(512);
    let (mut log, _) = open(other.clone(), small(SEGMENT_LEN, 2)).unwrap();
    append(&mut log, 0..20);
    for seq in [1, 6] {
        let disk = disk.restart();
        disk.set_contents(&file_name(seq), &other.contents(&file_name(seq)).unwrap());
        assert_eq!(places(&look(&disk).0.faults), [(file_name(seq).as_str(), 0)]);
    }
}

#[test]
fn another_nodes_segment_is_a_fault_and_a_newer_format_an_error() {
    let (disk, _, _) = filled(1);
    let identity = warren_storage::Identity { cluster_id: 5, node_id: 9 };
    let other = FaultyDisk::new(512);
    let options = Options { identity, ..small(SEGMENT_LEN, 2) };
    append(&mut Log::open(other.clone(), options, |_: Recovered| {}).unwrap(), 0..4);
    disk.set_contents(&file_name(1), &other.contents(&file_name(1)).unwrap());
    let found = look(&disk).0;
    // It says itself that the segment before it was finished.
    let unfinished = u64::from(SEGMENT_HEADER_LEN) + 1040;
    assert_eq!(places(&found.faults), [("wal-00000000", unfinished), ("wal-00000001", 0), ("wal-00000001", 0)]);
    assert!(found.faults[1].reason.contains("node 9 of cluster 00000000000000000000000000000005"));

    let newer = damaged(&disk, &file_name(0), |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..4092]);
        bytes[4092..4096].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(inspect(&newer, |_| false, |_| ControlFlow::Continue(())).is_err());
}

#[test]
fn a_thousand_faults_are_kept_and_more_are_counted() {
    const LEN: u32 = 256 << 10;
    let disk = FaultyDisk::new(512);
    let (mut log, _) = open(disk.clone(), small(LEN, 1)).unwrap();
    let positions: Vec<_> = (0..2_100).map(|index| log.append(&record(&item(index, 8))).unwrap()).collect();
    log.sync().unwrap();
    log.mark().unwrap();
    for count in [FAULTS_MAX, FAULTS_MAX + 1] {
        let every_other = positions.iter().step_by(2).take(count);
        let disk = damaged(&disk, &file_name(0), |bytes| {
            every_other.for_each(|position| bytes[position.offset as usize] ^= 1);
        });
        let found = look(&disk).0;
        assert_eq!((found.faults.len(), found.fault_count), (FAULTS_MAX, count as u64));
    }
}

#[test]
fn nothing_more_is_read_for_whoever_breaks_off() {
    let (disk, _, _) = filled(20);
    let mut shown = 0;
    let mut show_two = |_| {
        shown += 1;
        if shown == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let found = inspect(&disk, |_| false, &mut show_two).unwrap();
    assert_eq!((shown, found.segments.len(), found.segments[0].records), (2, 1, 2));
    assert_eq!(found.faults, [], "what was not read is not missing");
}
