//! Checkpoints: what they keep, what they give up, and what is refused.

use warren_storage::{
    CheckpointPlan, FaultyDisk, Log, LogPoint, OpenError, Options, Position, ReadError, Recovered, Retained, Snapshot,
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
