//! Failing writes and syncs, and full disks: the log stops at the first, and what it promised before holds.

use std::io::ErrorKind;

use warren_storage::{FaultyDisk, LogError};

use crate::world::{Item, Random, item, open, record, small};

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
fn full_disk_stops_the_log_with_everything_synced_kept() {
    for segments in 1..5 {
        let disk = FaultyDisk::new(512);
        disk.set_capacity(segments * 8192 + 100);
        let (synced, appended, error) = run_until_failure(&disk);
        assert!(matches!(error, LogError::Io { source, .. } if source.kind() == ErrorKind::StorageFull));
        assert!(synced as u64 >= segments * 10, "only {synced} records in {segments} segments");
        promises_hold(&disk, synced, &appended);
    }
}

#[test]
fn record_too_long_for_the_segments_is_refused_and_the_log_goes_on() {
    let (mut log, _) = open(FaultyDisk::new(512), small(8192, 1)).unwrap();
    let error = log.append(&record(&item(0, 5000))).unwrap_err();
    assert!(matches!(error, LogError::DoesNotFit { len: 5000, max: 4016 }), "{error}");
    log.append(&record(&item(0, 4016))).unwrap();
    log.append(&record(&item(1, 4016))).unwrap();
    log.sync().unwrap();
}
