//! The log thread: group commit, back-pressure, fail-stop.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use warren_storage::faulty::FaultyFile;
use warren_storage::{
    AppendError, Appended, Batch, CheckpointPlan, Completion, Disk, FaultyDisk, Files, Kind, Log, LogError, LogPoint,
    LogWriter, Options, Record, Space, Tag,
};

use crate::world::{item, open, record, small};

#[derive(Debug)]
enum Told {
    Synced(Vec<Appended>),
    Failed(LogError),
    Writable,
    OutOfSpace(bool),
}

struct Teller(Sender<Told>);

impl Completion for Teller {
    fn synced(&mut self, batch: Batch<'_>) {
        self.0.send(Told::Synced(batch.records.to_vec())).unwrap();
    }

    fn failed(&mut self, error: LogError) {
        self.0.send(Told::Failed(error)).unwrap();
    }

    fn writable(&mut self) {
        self.0.send(Told::Writable).unwrap();
    }

    fn out_of_space(&mut self, out: bool) {
        self.0.send(Told::OutOfSpace(out)).unwrap();
    }
}

/// A disk whose syncs, once the gate is closed, say that they have begun and then wait to be let through.
struct GatedDisk {
    disk: FaultyDisk,
    gate: Arc<Mutex<Option<Gate>>>,
}

struct Gate {
    begun: Sender<()>,
    pass: Receiver<()>,
}

impl Files for GatedDisk {
    type File = FaultyFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        self.disk.open(name)
    }
    fn len(&self, file: &FaultyFile) -> io::Result<u64> {
        self.disk.len(file)
    }
    fn read_at(&self, file: &FaultyFile, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.read_at(file, buf, offset)
    }
}

impl Disk for GatedDisk {
    fn create(&self, name: &str, len: u64) -> io::Result<FaultyFile> {
        self.disk.create(name, len)
    }
    fn read_cached_at(&self, file: &FaultyFile, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        self.disk.read_cached_at(file, buf, offset)
    }
    fn write_at(&self, file: &FaultyFile, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.disk.write_at(file, slices, offset)
    }
    fn sync_data(&self, file: &FaultyFile) -> io::Result<()> {
        // Only the log thread's syncs; the thread that prepares segments runs free.
        if std::thread::current().name() == Some("log")
            && let Some(gate) = &*self.gate.lock().unwrap()
        {
            gate.begun.send(()).unwrap();
            gate.pass.recv().unwrap();
        }
        self.disk.sync_data(file)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

/// A log thread whose syncs begin with a message and wait for one.
struct Gated {
    writer: LogWriter,
    told: Receiver<Told>,
    begun: Receiver<()>,
    pass: Sender<()>,
}

fn gated(bytes_max: usize) -> Gated {
    let gate = Arc::new(Mutex::new(None));
    let disk = GatedDisk { disk: FaultyDisk::new(512), gate: Arc::clone(&gate) };
    let log = Log::open(disk, small(1 << 20, 1), |_| {}).unwrap();
    let (begun_sender, begun) = channel();
    let (pass, pass_receiver) = channel();
    *gate.lock().unwrap() = Some(Gate { begun: begun_sender, pass: pass_receiver });
    let (sender, told) = channel();
    let writer = LogWriter::spawn_bounded(log, Teller(sender), bytes_max).unwrap();
    Gated { writer, told, begun, pass }
}

fn synced_indexes(told: &Receiver<Told>) -> Vec<u64> {
    match told.recv().unwrap() {
        Told::Synced(records) => records.iter().map(|record| record.tag.index).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_appended_during_a_sync_shares_the_next_one() {
    let Gated { writer, told, begun, pass } = gated(1 << 20);
    let handle = writer.handle();
    handle.try_append(record(&item(0, 10))).unwrap();
    begun.recv().unwrap();
    for index in 1..100 {
        handle.try_append(record(&item(index, 10))).unwrap();
    }
    assert!(handle.unsynced_for().is_some());
    pass.send(()).unwrap();
    assert_eq!(synced_indexes(&told), [0]);
    begun.recv().unwrap();
    pass.send(()).unwrap();
    assert_eq!(synced_indexes(&told), (1..100).collect::<Vec<_>>());
    assert_eq!(handle.statistics().syncs, 2);
    assert_eq!(handle.statistics().records, 100);
    assert_eq!(handle.statistics().bytes, 100 * 56);
    writer.close();
}

#[test]
fn full_queue_refuses_and_says_when_there_is_room() {
    let Gated { writer, told, begun, pass } = gated(1000);
    let handle = writer.handle();
    handle.try_append(record(&item(0, 5000))).expect("an empty queue takes a record of any size");
    begun.recv().unwrap();
    let refused = handle.try_append(record(&item(1, 10)));
    let Err(AppendError::Full(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.tag(), item(1, 10).0);
    pass.send(()).unwrap();
    assert!(matches!(told.recv().unwrap(), Told::Writable));
    assert_eq!(synced_indexes(&told), [0]);
    assert_eq!(handle.queued_bytes(), 0);
    handle.try_append(refused).unwrap();
    begun.recv().unwrap();
    pass.send(()).unwrap();
    assert_eq!(synced_indexes(&told), [1]);
    writer.close();
}

#[test]
fn a_record_larger_than_all_the_room_is_taken_once_half_of_it_is_free() {
    let Gated { writer, told, begun, pass } = gated(1000);
    let handle = writer.handle();
    handle.try_append(record(&item(0, 300))).unwrap();
    begun.recv().unwrap();
    handle.try_append(record(&item(1, 5000))).expect("less than half of the room is taken");
    assert!(matches!(handle.try_append(record(&item(2, 10))), Err(AppendError::Full(_))));
    pass.send(()).unwrap();
    assert_eq!(synced_indexes(&told), [0]);
    begun.recv().unwrap();
    pass.send(()).unwrap();
    assert!(matches!(told.recv().unwrap(), Told::Writable));
    assert_eq!(synced_indexes(&told), [1]);
    writer.close();
}

#[test]
fn waiting_append_goes_on_when_there_is_room() {
    let Gated { writer, told, begun, pass } = gated(1000);
    let handle = writer.handle();
    handle.append(record(&item(0, 900))).unwrap();
    begun.recv().unwrap();
    let waiting = std::thread::spawn(move || handle.append(record(&item(1, 900))));
    pass.send(()).unwrap();
    assert_eq!(synced_indexes(&told), [0]);
    begun.recv().unwrap();
    pass.send(()).unwrap();
    assert_eq!(synced_indexes(&told), [1]);
    waiting.join().unwrap().unwrap();
    writer.close();
}

#[test]
fn commit_hint_alone_is_written_without_a_sync() {
    let disk = FaultyDisk::new(512);
    let (log, _) = open(disk.clone(), small(8192, 1)).unwrap();
    let (sender, told) = channel();
    let writer = LogWriter::spawn(log, Teller(sender)).unwrap();
    let hint = Tag { kind: Kind::CommitHint, shard: 1, term: 1, index: 5 };
    writer.handle().append(Record::new(hint, Vec::new()).unwrap()).unwrap();
    let handle = writer.handle();
    writer.close();
    assert_eq!(handle.statistics().syncs, 0);
    assert!(told.recv().is_err(), "a hint was reported");
    let (_, found) = open(disk.restart(), small(8192, 2)).unwrap();
    assert_eq!(found, [(hint, bytes::Bytes::new())]);
}

#[test]
fn close_syncs_and_reports_everything_taken() {
    let disk = FaultyDisk::new(512);
    let (log, _) = open(disk.clone(), small(16 << 10, 1)).unwrap();
    let (sender, told) = channel();
    let writer = LogWriter::spawn(log, Teller(sender)).unwrap();
    let handle = writer.handle();
    for index in 0..200 {
        handle.append(record(&item(index, 500))).unwrap();
    }
    writer.close();
    assert!(matches!(handle.append(record(&item(200, 1))), Err(AppendError::Stopped)));
    let reported: Vec<u64> = told
        .iter()
        .flat_map(|told| match told {
            Told::Synced(records) => records.into_iter().map(|record| record.tag.index).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reported, (0..200).collect::<Vec<_>>());
    let (_, found) = open(disk.crash(&mut |_| 0), small(16 << 10, 2)).unwrap();
    assert_eq!(found.len(), 200);
}

#[test]
fn failed_sync_is_reported_once_and_nothing_after_it() {
    let disk = FaultyDisk::new(512);
    let (log, _) = open(disk.clone(), small(1 << 20, 1)).unwrap();
    let (sender, told) = channel();
    let writer = LogWriter::spawn(log, Teller(sender)).unwrap();
    let handle = writer.handle();
    handle.append(record(&item(0, 10))).unwrap();
    assert_eq!(synced_indexes(&told), [0]);
    disk.fail_write_after(0, ErrorKind::Other);
    // The thread that prepares segments may meet the fault first, and leaves reporting to the log.
    let refused = (1..100_000).find(|index| {
        handle.append(record(&item(*index, 10))).is_err() || {
            disk.fail_sync_after(0, ErrorKind::Other);
            disk.fail_write_after(0, ErrorKind::Other);
            false
        }
    });
    assert!(refused.is_some());
    let rest: Vec<Told> = told.iter().collect();
    assert!(matches!(rest.last(), Some(Told::Failed(LogError::Io { .. }))), "{rest:?}");
    assert_eq!(rest.iter().filter(|told| matches!(told, Told::Failed(_))).count(), 1);
    assert!(matches!(handle.try_append(record(&item(9, 10))), Err(AppendError::Stopped)));
}

#[test]
fn prepared_segments_are_used_when_rolling_over() {
    let disk = FaultyDisk::new(4096);
    let (log, _) = open(disk.clone(), small(64 << 10, 1)).unwrap();
    let (sender, told) = channel();
    let writer = LogWriter::spawn(log, Teller(sender)).unwrap();
    let handle = writer.handle();
    for index in 0..500 {
        handle.append(record(&item(index, 1000))).unwrap();
    }
    writer.close();
    drop(told);
    let (log, found) = open(disk.restart(), small(64 << 10, 2)).unwrap();
    assert_eq!(found.len(), 500);
    assert_eq!(log.active_segment(), 8);
}

/// A log thread on a disk that has room for two segments of 8 KiB, and the first three records of 3000 bytes appended at
/// once.
fn full() -> (FaultyDisk, LogWriter, Receiver<Told>) {
    let disk = FaultyDisk::new(512);
    disk.set_capacity(2 * 8192);
    let (log, _) = open(disk.clone(), small(8192, 1)).unwrap();
    let (sender, told) = channel();
    let writer = LogWriter::spawn(log, Teller(sender)).unwrap();
    for index in 0..3 {
        writer.handle().append(record(&item(index, 3000))).unwrap();
    }
    (disk, writer, told)
}

/// Waits for the log to be out of space, and gives what was synced until then.
fn synced_until_full(told: &Receiver<Told>) -> Vec<u64> {
    let mut synced = Vec::new();
    loop {
        match told.recv().unwrap() {
            Told::Synced(records) => synced.extend(records.iter().map(|record| record.tag.index)),
            Told::OutOfSpace(true) => return synced,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn full_volume_is_said_and_waited_for() {
    let (disk, writer, told) = full();
    assert_eq!(synced_until_full(&told), [0, 1], "what is synced is reported before the log waits");
    let handle = writer.handle();
    handle.append(record(&item(3, 10))).unwrap();
    assert_eq!(handle.queued_bytes(), 3040 + 56);
    assert!(handle.unsynced_for().is_some());
    assert_eq!(open(disk.crash(&mut |_| 0), small(8192, 2)).unwrap().1, [item(0, 3000), item(1, 3000)]);
    disk.set_capacity(1 << 20);
    assert!(matches!(told.recv().unwrap(), Told::OutOfSpace(false)));
    let mut synced = synced_indexes(&told);
    if synced.len() == 1 {
        synced.extend(synced_indexes(&told));
    }
    assert_eq!(synced, [2, 3]);
    writer.close();
    assert_eq!(open(disk.restart(), small(8192, 3)).unwrap().1.len(), 4);
}

#[test]
fn checkpoint_that_gives_up_segments_makes_room() {
    let disk = FaultyDisk::new(512);
    disk.set_capacity(4 * 8192 + 1000);
    let (log, _) = open(disk.clone(), Options { reserve: 500, ..small(8192, 1) }).unwrap();
    let (sender, told) = channel();
    let ends = Arc::new(Mutex::new(Vec::new()));
    let retention = log.retention();
    let writer = LogWriter::spawn(log, Ends { told: Teller(sender), ends: Arc::clone(&ends) }).unwrap();
    let handle = writer.handle();
    for index in 0..16 {
        handle.append(record(&item(index, 3000))).unwrap();
    }
    let mut synced = 0;
    while synced < 16 {
        match told.recv().unwrap() {
            Told::Synced(records) => synced += records.len(),
            Told::OutOfSpace(true) => {
                let replay_from = *ends.lock().unwrap().last().unwrap();
                let plan = CheckpointPlan { replay_from, snapshots: Vec::new(), live: BTreeMap::new() };
                assert!(retention.checkpoint(plan).unwrap().given_up > 0);
            }
            Told::OutOfSpace(false) => {}
            other => panic!("{other:?}"),
        }
    }
    writer.close();
    assert!(retention.segments().len() <= 4);
    let (_, found) = open(disk.restart(), small(8192, 2)).unwrap();
    assert_eq!(found.last(), Some(&item(15, 3000)));
}

/// As its teller, and keeps the end of each batch.
struct Ends {
    told: Teller,
    ends: Arc<Mutex<Vec<LogPoint>>>,
}

impl Completion for Ends {
    fn synced(&mut self, batch: Batch<'_>) {
        let last = batch.records.last().unwrap().position;
        assert_eq!(batch.end.segment, last.segment);
        assert_eq!(batch.end.offset, (last.offset + last.len).next_multiple_of(8));
        self.ends.lock().unwrap().push(batch.end);
        self.told.synced(batch);
    }

    fn failed(&mut self, error: LogError) {
        self.told.failed(error);
    }

    fn out_of_space(&mut self, out: bool) {
        self.told.out_of_space(out);
    }
}

#[test]
fn closing_a_log_that_is_out_of_space_says_that_the_rest_is_not_durable() {
    let (disk, writer, told) = full();
    assert_eq!(synced_until_full(&told), [0, 1]);
    writer.close();
    assert!(matches!(told.recv().unwrap(), Told::Failed(LogError::NoSpace { .. })));
    assert!(told.recv().is_err(), "something was told after the failure");
    assert_eq!(open(disk.restart(), small(8192, 2)).unwrap().1.len(), 2);
}

#[test]
fn checkpoints_beside_a_busy_log_lose_nothing_behind_them() {
    let disk = FaultyDisk::new(4096);
    let (log, _) = open(disk.clone(), small(16 << 10, 1)).unwrap();
    let (sender, told) = channel();
    let ends = Arc::new(Mutex::new(Vec::new()));
    let (retention, reader) = (log.retention(), log.reader());
    let writer = LogWriter::spawn(log, Ends { told: Teller(sender), ends: Arc::clone(&ends) }).unwrap();
    let handle = writer.handle();
    let appending = std::thread::spawn(move || {
        for index in 0..2000 {
            handle.append(record(&item(index, 700))).unwrap();
        }
    });
    let (mut next, mut kept) = (0, None);
    while next < 2000 {
        let Told::Synced(records) = told.recv().unwrap() else { panic!("the log failed") };
        next += records.len() as u64;
        // One body stays in the log for good, in the segment where it was written.
        let body = *kept.get_or_insert(records[0].position);
        assert_eq!(reader.read(body).unwrap(), item(0, 700).1);
        let replay_from = *ends.lock().unwrap().last().unwrap();
        let live = BTreeMap::from([(body.segment, 700)]);
        retention.checkpoint(CheckpointPlan { replay_from, snapshots: Vec::new(), live }).unwrap();
    }
    appending.join().unwrap();
    writer.close();
    assert!(retention.segments().len() <= 3, "{:?}", retention.segments());
    let (log, found) = open(disk.restart(), small(16 << 10, 2)).unwrap();
    assert!(found.len() < 2000);
    assert_eq!(log.reader().read(kept.unwrap()).unwrap(), item(0, 700).1);
}
