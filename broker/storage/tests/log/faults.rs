//! Failing writes and syncs, and full disks: the log stops at the first, and what it promised before holds.

use std::io::ErrorKind;

use warren_storage::{FaultyDisk, LogError, Random};

use crate::world::{Item, item, open, record, small};

/// Appends and syncs batches of two until something fails. Gives what was synced, what was appended, and why it ended.
fn run_until_failure(disk: &FaultyDisk) -> (usize, Vec<Item>, LogError) {
    let (mut log, _) = open(disk.clone(), small(8192, 1)).unwrap();
    let (mut appended, mut synced) = (Vec::new(), 0);
    let error = loop {
        let next = item(appended.len() as u64, 300);
        appended.push(next.clone());
        if let Err(error) = log.append(&record(&next)) {
            break error;
        }
        if appended.len().is_multiple_of(2) {
            if let Err(error) = log.sync() {
                break error;
            }
            synced = appended.len();
        }
    };
    let changes = disk.changes();
    assert!(matches!(log.append(&record(&item(0, 1))), Err(LogError::Stopped)));
    assert!(matches!(log.write(), Err(LogError::Stopped)));
    assert!(matches!(log.sync(), Err(LogError::Stopped)));
    assert_eq!(disk.changes(), changes, "a failed log touched the disk again");
    (synced, appended, error)
}

fn promises_hold(disk: &FaultyDisk, synced: usize, appended: &[Item]) {
    let mut random = Random(5);
    for _ in 0..20 {
        let crashed = disk.crash(&mut |outcomes| random.below(outcomes));
        let (_, found) = open(crashed, small(8192, 2)).unwrap();
        assert!(found.len() >= synced);
        assert_eq!(found, appended[..found.len()]);
    }
}

#[test]
fn any_failed_write_stops_the_log() {
    for count in 0..40 {
        let disk = FaultyDisk::new(512);
        drop(open(disk.clone(), small(8192, 0)).unwrap());
        disk.fail_write_after(count, ErrorKind::Other);
        let (synced, appended, error) = run_until_failure(&disk);
        assert!(matches!(error, LogError::Io { source, .. } if source.kind() == ErrorKind::Other));
        promises_hold(&disk, synced, &appended);
    }
}

#[test]
fn any_failed_sync_stops_the_log_and_is_not_tried_again() {
    // The first sync is the one of opening.
    for count in 1..40 {
        let disk = FaultyDisk::new(512);
        drop(open(disk.clone(), small(8192, 0)).unwrap());
        disk.fail_sync_after(count, ErrorKind::Other);
        let (synced, appended, error) = run_until_failure(&disk);
        assert!(matches!(error, LogError::Io { source, .. } if source.kind() == ErrorKind::Other));
        promises_hold(&disk, synced, &appended);
    }
}

#[test]
fn full_disk_is_said_and_the_log_goes_on_once_there_is_room() {
    let set: [fn(&FaultyDisk, u64); 2] = [FaultyDisk::set_capacity, FaultyDisk::set_quota];
    for (segments, set) in (1..5).flat_map(|segments| set.map(|set| (segments, set))) {
        let disk = FaultyDisk::new(512);
        set(&disk, segments * 8192 + 100);
        let (mut log, _) = open(disk.clone(), small(8192, 1)).unwrap();
        let items: Vec<Item> = (0..200).map(|index| item(index, 300)).collect();
        let full = items.iter().position(|item| match log.append(&record(item)) {
            Ok(_) => false,
            Err(LogError::NoSpace { .. }) => true,
            Err(error) => panic!("{error}"),
        });
        let full = full.expect("the disk is smaller than the records");
        assert!(full as u64 >= segments * 10, "only {full} records in {segments} segments");
        let changes = disk.changes();
        assert!(matches!(log.append(&record(&items[full])), Err(LogError::NoSpace { .. })));
        assert_eq!(disk.changes(), changes, "trying again wrote something");
        assert_eq!(disk.names().len() as u64, segments, "an unfinished file is left");
        log.mark().unwrap();
        // What came before is synced, also without a further call.
        assert_eq!(open(disk.crash(&mut |_| 0), small(8192, 2)).unwrap().1, items[..full]);
        set(&disk, 1 << 20);
        for item in &items[full..] {
            log.append(&record(item)).unwrap();
        }
        log.sync().unwrap();
        assert_eq!(open(disk.crash(&mut |_| 0), small(8192, 2)).unwrap().1, items);
    }
}

#[test]
fn record_longer_than_segments_gets_a_segment_of_its_own_length() {
    let disk = FaultyDisk::new(512);
    let (mut log, _) = open(disk.clone(), small(8192, 1)).unwrap();
    let items = [item(0, 100), item(1, 50_000), item(2, 100), item(3, 4016), item(4, 4017)];
    let positions: Vec<_> = items.iter().map(|item| log.append(&record(item)).unwrap()).collect();
    log.sync().unwrap();
    for (position, item) in positions.iter().zip(&items) {
        assert_eq!(log.reader().read(*position).unwrap(), item.1);
    }
    let len = |seq| disk.contents(&warren_storage::segment::file_name(seq)).unwrap().len();
    assert_eq!([len(0), len(1), len(2), len(3)], [8192, 57_344, 8192, 12_288]);
    drop(log);
    assert_eq!(open(disk.restart(), small(8192, 2)).unwrap().1, items);
}
