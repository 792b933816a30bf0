use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use warren_storage::{Appended, Batch, Completion, FaultyDisk, Log, LogError, LogWriter, Options, Recovered};

use super::*;

const SHARD: ShardId = ShardId(3);
const NODE: NodeId = NodeId(1);

struct Sink(Sender<Appended>);

impl Completion for Sink {
    fn synced(&mut self, batch: Batch<'_>) {
        for record in batch.records {
            // The test may have seen enough and gone.
            let _ = self.0.send(*record);
        }
    }

    fn failed(&mut self, error: LogError) {
        panic!("the log failed: {error}");
    }
}

fn log_thread(disk: FaultyDisk) -> (LogWriter, Receiver<Appended>) {
    let log = Log::open(disk, Options::default(), |_| {}).expect("the disk opens");
    let (sink, synced) = channel();
    (LogWriter::spawn(log, Sink(sink)).expect("a thread starts"), synced)
}

/// The next record that the log thread has made durable.
fn next(synced: &Receiver<Appended>) -> Appended {
    synced.recv_timeout(Duration::from_secs(60)).expect("the log reports what it was given")
}

fn restored(term: u64, index: u64) -> Restored {
    let mut restored = Restored::default();
    restored.with_snapshot(EntryId { term, index });
    restored
}

#[test]
fn entries_are_committed_in_order_and_at_most_four_are_in_flight() {
    let (writer, synced) = log_thread(FaultyDisk::new(4096));
    let mut group = Group::lead_alone(SHARD, NODE, &Restored::default(), writer.handle()).expect("the log takes it");
    let mut proposed = 0;
    while group.has_room() {
        group.propose(vec![Bytes::from_static(b"en"), Bytes::from_static(b"try")]).expect("the log takes it");
        proposed += 1;
    }
    assert_eq!(proposed + 1, IN_FLIGHT_ENTRIES, "the beginning of the term is in flight as well");
    for expected in [(Kind::Vote, 0), (Kind::Entry, 1), (Kind::Entry, 2), (Kind::Entry, 3), (Kind::Entry, 4)] {
        let Appended { tag, position } = next(&synced);
        assert_eq!((tag.kind, tag.index), expected);
        assert_eq!((tag.shard, tag.term), (SHARD.0, 1));
        group.synced(tag.kind, tag.index, position);
        let begins = tag.index < 2;
        assert_eq!(group.take_committed(), (!begins).then_some(position));
        assert_eq!(group.take_committed(), None);
    }
    assert_eq!(group.last_committed(), EntryId { term: 1, index: IN_FLIGHT_ENTRIES });
    assert!(group.has_room());
    writer.close();
}

#[test]
fn a_new_term_goes_on_behind_what_was_restored() {
    let disk = FaultyDisk::new(4096);
    let (writer, synced) = log_thread(disk.clone());
    let mut group = Group::lead_alone(SHARD, NODE, &restored(4, 9), writer.handle()).expect("the log takes it");
    group.propose(vec![Bytes::from_static(b"entry")]).expect("the log takes it");
    let mut committed = Vec::new();
    for Appended { tag, position } in [(); 3].map(|()| next(&synced)) {
        group.synced(tag.kind, tag.index, position);
        committed.extend(group.take_committed().map(|_| group.last_committed()));
    }
    assert_eq!(committed, [EntryId { term: 5, index: 11 }]);
    writer.close();
    let mut recovered = Vec::new();
    let visit = |found| match found {
        Recovered::Record { tag, payload, .. } => recovered.push((tag.kind, tag.term, tag.index, payload.to_vec())),
        Recovered::Snapshot(snapshot) => panic!("nobody made a checkpoint: {snapshot:?}"),
    };
    Log::open(disk, Options::default(), visit).expect("the disk opens again");
    let vote = (Kind::Vote, 5, 0, NODE.0.to_le_bytes().to_vec());
    assert_eq!(recovered, [vote, (Kind::Entry, 5, 10, Vec::new()), (Kind::Entry, 5, 11, b"entry".to_vec())]);
}

/// A log that keeps what it is given, as long as it has room.
#[derive(Clone, Default)]
struct Kept {
    records: Rc<RefCell<Vec<Record>>>,
    full: Rc<Cell<bool>>,
}

impl Append for Kept {
    fn try_append(&self, record: Record) -> Result<(), AppendError> {
        if self.full.get() {
            return Err(AppendError::Full(record));
        }
        self.records.borrow_mut().push(record);
        Ok(())
    }
}

impl Kept {
    fn tags(&self) -> Vec<(Kind, u64)> {
        self.records.borrow().iter().map(|record| (record.tag().kind, record.tag().index)).collect()
    }
}

fn alone(log: &Kept) -> Group<RaftDriver, Kept> {
    let restored = Restored::default();
    let raft = RaftDriver::lead_alone(NODE, &restored);
    Group::with_consensus(SHARD, NODE, &restored, raft, log.clone()).expect("the log is not closed")
}

fn position(len: u32) -> Position {
    Position { segment: 0, offset: 4096, len }
}

#[test]
fn what_the_log_refuses_is_written_later_in_order() {
    let log = Kept::default();
    log.full.set(true);
    let mut group = alone(&log);
    assert!(!group.has_room());
    group.retry().expect("the log is not closed");
    log.full.set(false);
    // There is room again, and nobody has said so yet.
    group.propose(vec![Bytes::from_static(b"entry")]).expect("it is kept");
    assert_eq!(log.tags(), []);
    group.retry().expect("the log is not closed");
    assert_eq!(log.tags(), [(Kind::Vote, 0), (Kind::Entry, 1), (Kind::Entry, 2)]);
    assert!(group.has_room());
}

#[test]
fn entries_that_cannot_be_written_get_no_number() {
    let log = Kept::default();
    let mut group = alone(&log);
    assert!(matches!(group.propose(Vec::new()), Err(ProposeError::Empty)));
    let long = Bytes::from(vec![0; MAX_PAYLOAD_LEN as usize]);
    let error = group.propose(vec![long, Bytes::from_static(b"x")]).expect_err("it is too long");
    assert!(matches!(error, ProposeError::Unfit(RecordError::TooLong { len }) if len > MAX_PAYLOAD_LEN as usize));
    assert_eq!(log.tags(), [(Kind::Vote, 0), (Kind::Entry, 1)]);
}

#[test]
fn a_read_goes_on_when_what_was_committed_before_it_has_been_taken() {
    let mut group = alone(&Kept::default());
    let first = group.read_barrier();
    group.synced(Kind::Vote, 0, position(8));
    assert_eq!(group.take_read(), None, "nothing of this term is committed yet");
    group.synced(Kind::Entry, 1, position(0));
    assert_eq!(group.take_committed(), None);
    assert_eq!(group.take_read(), Some(first));

    group.propose(vec![Bytes::from_static(b"entry")]).expect("the log takes it");
    let before = group.read_barrier();
    assert_eq!(group.take_read(), Some(before), "the entry was not committed when the read began");
    group.synced(Kind::Entry, 2, position(5));
    let behind = group.read_barrier();
    assert_eq!(group.take_read(), None, "the entry is committed and was not taken");
    assert_eq!(group.take_committed(), Some(position(5)));
    assert_eq!(group.take_read(), Some(behind));
    assert_eq!(group.take_read(), None);
}

#[test]
fn leadership_is_not_handed_to_strangers() {
    let mut group = alone(&Kept::default());
    let error = group.transfer(NodeId(2)).expect_err("it is no member");
    assert!(error.to_string().contains("node 2"), "{error}");
    group.transfer(NODE).expect("it leads already");
    group.propose(vec![Bytes::from_static(b"entry")]).expect("it still leads");
}

#[test]
#[should_panic(expected = "shard 3: the log reports Entry 2 as durable, and the next one is Some(Vote(")]
fn a_log_that_reports_records_out_of_order_stops_the_group() {
    let mut group = alone(&Kept::default());
    group.propose(vec![Bytes::from_static(b"entry")]).expect("the log takes it");
    group.synced(Kind::Entry, 2, position(5));
}

/// Raft, but what it takes for committed is what the test says.
struct Liar(RaftDriver, u64);

impl Consensus for Liar {
    fn propose(&mut self) -> Result<EntryId, NotLeading> {
        self.0.propose()
    }

    fn take_write(&mut self) -> Option<Write> {
        self.0.take_write()
    }

    fn synced(&mut self) {
        self.0.synced();
    }

    fn committed(&self) -> u64 {
        self.1
    }

    fn read_index(&mut self, request: u64) {
        self.0.read_index(request);
    }

    fn take_read_index(&mut self) -> Option<(u64, u64)> {
        self.0.take_read_index()
    }

    fn transfer(&mut self, to: NodeId) -> Result<(), TransferError> {
        self.0.transfer(to)
    }
}

/// A group that has proposed entry 2.
fn lied_to() -> Group<Liar, Kept> {
    let restored = Restored::default();
    let consensus = Liar(RaftDriver::lead_alone(NODE, &restored), 0);
    let log = Kept::default();
    let mut group = Group::with_consensus(SHARD, NODE, &restored, consensus, log).expect("the log is not closed");
    group.propose(vec![Bytes::from_static(b"entry")]).expect("the log takes it");
    group
}

#[test]
fn what_the_auditor_has_not_counted_is_not_handed_out() {
    let mut group = lied_to();
    group.synced(Kind::Vote, 0, position(8));
    group.synced(Kind::Entry, 1, position(0));
    group.synced(Kind::Entry, 2, position(5));
    group.auditor = CommitAuditor::new([NODE, NodeId(2), NodeId(3)]);
    group.auditor.matched(NODE, 2);
    group.consensus.1 = 2;
    assert_eq!(group.take_committed(), None, "one of three has it");
    group.auditor.matched(NodeId(3), 2);
    assert_eq!(group.take_committed(), Some(position(5)));
}

#[test]
#[should_panic(expected = "shard 3: consensus takes entry 2 for committed, and a majority has only 1")]
fn consensus_that_commits_what_no_majority_has_stops_the_group() {
    let mut group = lied_to();
    group.synced(Kind::Vote, 0, position(8));
    group.consensus.1 = 2;
    group.synced(Kind::Entry, 1, position(0));
}
