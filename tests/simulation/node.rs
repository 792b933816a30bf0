//! A node without sockets, tasks and clocks: the real machines, groups and log, put together as the broker puts them
//! together, and moved on by hand.
//!
//! Each function is what one of the broker's tasks or threads does in one go: a shard's task takes inputs, proposes and
//! hears from the log; the log's thread writes and syncs; a checkpoint is asked for, contributed to and finished. So a
//! caller that calls them in any order goes through the orders that a scheduler could bring about.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use warren_core::command::{Reference, encode_relocation};
use warren_core::queue::{Event, QueueKind, QueueSettings, Shard, ShardInput, ShardOutput, ShardTotals, Snapshot};
use warren_core::{Bodies, ConnectionId, Location, Message, QueueId, ShardId};
use warren_replication::{Append, EntryId, Group, NodeId, RaftDriver, Restored};
use warren_storage::{
    AppendError, CheckpointPlan, Disk, FaultyDisk, Kind, Log, LogError, LogPoint, LogReader, Options, Position,
    Reclaimed, Record, Recovered, Retention, Space, Tag,
};

use crate::disk::{SharedDisk, interleaved};

/// Every queue with its shard; all are durable.
pub(crate) const QUEUES: [(u32, u16); 4] = [(1, 1), (2, 1), (3, 2), (4, 3)];

pub(crate) const SHARDS: [u16; 3] = [1, 2, 3];

const NODE: NodeId = NodeId(1);

/// The size of the volume.
const VOLUME: u64 = 1 << 40;

/// Octets of messages in one relocation; the message that reaches it is the last.
const RELOCATION_BYTES: usize = 1_000;

/// The last one has rules, so that what these need of the log and of snapshots is there: times, lengths of bodies, and how
/// often messages came back. Nothing is ever over or too much, for here no time passes.
fn settings(queue: u32) -> QueueSettings {
    let plain = QueueSettings { logged: true, ..QueueSettings::default() };
    if queue != 4 {
        return plain;
    }
    let (message_ttl, max_length_bytes) = (Some(1 << 40), Some(1 << 40));
    QueueSettings { kind: QueueKind::Quorum, message_ttl, max_length_bytes, delivery_limit: Some(1 << 30), ..plain }
}

pub(crate) fn shard_of(queue: u32) -> u16 {
    QUEUES.iter().find(|(id, _)| *id == queue).expect("it is one of the queues").1
}

/// What was told to whom, each connection's in order.
pub(crate) type Told = Vec<(ConnectionId, Event)>;

/// What a start finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Of each shard what its group has been through, and its queues, encoded.
    shards: BTreeMap<u16, (Restored, Vec<u8>)>,
}

impl State {
    /// The queues of every shard as they will be when somebody leads them again.
    pub(crate) fn led_again(&self) -> BTreeMap<u16, Vec<u8>> {
        self.shards.iter().map(|(shard, (_, queues))| (*shard, led_again(queues))).collect()
    }
}

/// Opens the log and puts the shards together, as `broker/src/log.rs` and `broker/src/recovery.rs` do.
fn recover(disk: &FaultyDisk, options: Options) -> (Log<SharedDisk>, BTreeMap<u16, (Restored, Shard)>) {
    let mut shards: BTreeMap<u16, (Restored, Shard)> =
        SHARDS.into_iter().map(|shard| (shard, Default::default())).collect();
    let log = Log::open(SharedDisk(disk.clone()), options, |found| match found {
        Recovered::Snapshot(snapshot) => {
            let (restored, shard) = shards.get_mut(&snapshot.shard).expect("there are no other shards");
            restored.with_snapshot(EntryId { term: snapshot.term, index: snapshot.index });
            *shard = Shard::restore(&snapshot.payload).expect("a snapshot can be read");
        }
        Recovered::Record { tag, position, payload } => {
            let (restored, shard) = shards.get_mut(&tag.shard).expect("there are no other shards");
            match tag.kind {
                Kind::Entry => {
                    let entry = EntryId { term: tag.term, index: tag.index };
                    if restored.with_entry(entry, &payload).expect("entries continue each other") {
                        shard.replay(location(position), &payload).expect("an entry can be applied");
                    }
                }
                Kind::Vote => restored.with_vote(tag.term, &payload).expect("a vote can be read"),
                Kind::Relocation => shard.relocated(location(position), &payload).expect("a relocation can be read"),
                kind => panic!("nobody wrote a record of {kind:?}"),
            }
        }
    });
    (log.expect("what a crash leaves can be opened"), shards)
}

/// What a start on `disk` finds.
pub(crate) fn state(disk: &FaultyDisk, options: Options) -> State {
    let (_, shards) = recover(disk, options);
    let encoded = |(id, (restored, shard)): (u16, (Restored, Shard))| (id, (restored, shard.snapshot().encode()));
    State { shards: shards.into_iter().map(encoded).collect() }
}

/// A shard's logged state at the beginning of the next epoch, without the epoch: one in which nothing was logged leaves
/// no trace. Until then a snapshot may flag more messages, if it was taken while an attach was on its way to the log.
fn led_again(snapshot: &[u8]) -> Vec<u8> {
    let mut shard = Shard::restore(snapshot).expect("a snapshot can be read");
    shard.lead();
    let mut octets = shard.snapshot().encode();
    octets.drain(..2);
    octets
}

fn location(position: Position) -> Location {
    Location { segment: position.segment, offset: position.offset, len: position.len }
}

fn position(location: Location) -> Position {
    Position { segment: location.segment, offset: location.offset, len: location.len }
}

/// The log thread's queue.
#[derive(Clone, Default)]
struct Intake {
    records: Rc<RefCell<VecDeque<Record>>>,
    full: Rc<Cell<bool>>,
}

impl Append for Intake {
    fn try_append(&self, record: Record) -> Result<(), AppendError> {
        if self.full.get() {
            return Err(AppendError::Full(record));
        }
        self.records.borrow_mut().push_back(record);
        Ok(())
    }
}

/// The log's thread.
struct LogThread {
    disk: FaultyDisk,
    log: Log<SharedDisk>,
    intake: Intake,
    /// Given to the log and not synced.
    written: Vec<(Tag, Position)>,
    /// Synced, and not reported yet; with how many changes the disk had seen then.
    synced: Vec<(Tag, Position, usize)>,
}

impl LogThread {
    /// Appends up to `count` of the records that wait, and hands them to the disk. One for which there is no space waits
    /// on, and what came before it is synced.
    fn write(&mut self, count: usize) {
        for _ in 0..count {
            let Some(record) = self.intake.records.borrow_mut().pop_front() else { break };
            match self.log.append(&record) {
                Ok(position) => self.written.push((record.tag(), position)),
                Err(LogError::NoSpace { .. }) => {
                    self.intake.records.borrow_mut().push_front(record);
                    return self.sync();
                }
                Err(error) => panic!("the disk works, and the log says: {error}"),
            }
        }
        self.log.write().expect("the disk works");
    }

    fn is_quiet(&self) -> bool {
        self.written.is_empty() && self.synced.is_empty()
    }

    fn sync(&mut self) {
        if !self.written.is_empty() {
            self.log.sync().expect("the disk works");
            let changes = self.disk.changes();
            self.synced.extend(self.written.drain(..).map(|(tag, position)| (tag, position, changes)));
        }
    }
}

/// An entry that was synced, and after how many changes of the disk.
pub(crate) struct SyncedEntry {
    pub(crate) shard: u16,
    pub(crate) index: u64,
    pub(crate) changes: usize,
}

/// Reads bodies back from the log.
struct LogBodies(LogReader<SharedDisk>);

impl Bodies for LogBodies {
    fn read(&mut self, at: Location) -> Message {
        let octets = self.0.read_part(position(at)).expect("a queued message is in the log");
        Message::from_publish(octets).expect("a queued message is a publish")
    }
}

/// What a shard is told beside its inputs.
enum Signal {
    Synced { kind: Kind, index: u64, position: Position },
    Writable,
    Checkpoint,
    Relocate(Relocation),
}

/// Messages on their way to another place in the log.
struct Relocation {
    payload: Bytes,
    /// The next ones are chosen when these have arrived.
    _moving: Rc<()>,
}

/// A shard, as its task has it.
struct Member {
    shard: Shard,
    group: Group<RaftDriver, Intake>,
    signals: VecDeque<Signal>,
    relocations: VecDeque<Relocation>,
    /// The index of the entry that was proposed last.
    last_index: u64,
    /// What the log held of the group at the start.
    restored: Restored,
}

/// What the log's thread does between two calls of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meanwhile {
    Nothing,
    Write(usize),
    Sync,
}

/// A checkpoint for which contributions are awaited.
struct Collecting {
    point: LogPoint,
    /// How many shards have been asked.
    asked: usize,
    given: BTreeMap<u16, (EntryId, Snapshot)>,
}

pub(crate) struct Node {
    pub(crate) disk: FaultyDisk,
    log: Rc<RefCell<LogThread>>,
    reader: LogReader<SharedDisk>,
    retention: Retention<SharedDisk>,
    bodies: LogBodies,
    intake: Intake,
    shards: BTreeMap<u16, Member>,
    /// As the log's thread last said.
    synced: LogPoint,
    checkpoint: Option<Collecting>,
    moving: Rc<()>,
}

impl Node {
    /// Starts on what is on `disk`.
    pub(crate) fn start(disk: FaultyDisk, options: Options) -> Self {
        let (log, shards) = recover(&disk, options);
        let intake = Intake::default();
        let mut bodies = LogBodies(log.reader());
        let lead = |(id, (restored, shard))| (id, lead(id, restored, shard, &intake, &mut bodies));
        let shards = shards.into_iter().map(lead).collect();
        let (reader, retention, synced) = (log.reader(), log.retention(), log.end());
        let (written, reported) = (Vec::new(), Vec::new());
        let log = LogThread { disk: disk.clone(), log, intake: intake.clone(), written, synced: reported };
        Self {
            disk,
            log: Rc::new(RefCell::new(log)),
            reader,
            retention,
            bodies,
            intake,
            shards,
            synced,
            checkpoint: None,
            moving: Rc::default(),
        }
    }

    /// How many changes the disk has seen since the node started: the time, as far as a power cut is concerned.
    pub(crate) fn changes(&self) -> usize {
        self.disk.changes()
    }

    /// The last entry of a shard that was in the log at the start.
    pub(crate) fn restored_index(&self, shard: u16) -> u64 {
        self.shards[&shard].restored.last().index
    }

    /// Segments that nobody needs are not left lying about.
    pub(crate) fn check_files(&self) {
        let files = self.disk.names().into_iter().filter(|name| name.starts_with("wal-")).count();
        assert_eq!(files, self.retention.segments().len(), "{:?}", self.disk.names());
    }

    pub(crate) fn totals(&self, shard: u16) -> ShardTotals {
        self.shards[&shard].shard.totals()
    }

    /// The queues of every shard as they will be when somebody leads them again.
    pub(crate) fn led_again(&self) -> BTreeMap<u16, Vec<u8>> {
        let queues = |member: &Member| led_again(&member.shard.snapshot().encode());
        self.shards.iter().map(|(shard, member)| (*shard, queues(member))).collect()
    }

    fn member(&mut self, shard: u16) -> &mut Member {
        self.shards.get_mut(&shard).expect("it is one of the shards")
    }

    /// A shard's task takes an input.
    pub(crate) fn input(&mut self, shard: u16, input: ShardInput) -> Told {
        let mut output = ShardOutput::default();
        let member = self.shards.get_mut(&shard).expect("it is one of the shards");
        member.shard.handle(input, &mut self.bodies, &mut output);
        told(output)
    }

    /// A shard's task logs what waits, or only what is urgent; answers the indexes of the new entries.
    pub(crate) fn propose(&mut self, shard: u16, mut due: bool) -> Vec<u64> {
        let member = self.member(shard);
        let mut proposed = Vec::new();
        while member.group.has_room() && (due || member.shard.has_urgent()) {
            let Some(entry) = member.shard.take_entry(0) else { break };
            assert_eq!(member.shard.waiting_bytes(), 0, "these entries are small, and each takes all that waits");
            member.group.propose(entry).expect("the log is not closed");
            member.last_index += 1;
            proposed.push(member.last_index);
            due = false;
        }
        proposed
    }

    /// The log's thread appends up to `count` of the records that wait, and hands them to the disk.
    pub(crate) fn write(&mut self, count: usize) {
        self.log.borrow_mut().write(count);
    }

    /// The log's thread syncs, and sends each shard word; answers the entries that are durable now.
    pub(crate) fn sync(&mut self) -> Vec<SyncedEntry> {
        let log = Rc::clone(&self.log);
        let mut log = log.borrow_mut();
        log.sync();
        let mut entries = Vec::new();
        if !log.synced.is_empty() {
            self.synced = log.log.end();
        }
        for (Tag { kind, shard, index, .. }, position, changes) in log.synced.drain(..) {
            self.member(shard).signals.push_back(Signal::Synced { kind, index, position });
            if kind == Kind::Entry {
                entries.push(SyncedEntry { shard, index, changes });
            }
        }
        entries
    }

    /// The log has nothing to do and notes that all is synced.
    pub(crate) fn idle(&mut self) {
        self.log.borrow_mut().log.mark().expect("the disk works");
    }

    /// The volume has so many octets left, or more than enough.
    pub(crate) fn set_room(&mut self, room: Option<u64>) {
        let Space { available, total } = self.disk.space().expect("the disk works");
        self.disk.set_capacity(room.map_or(VOLUME, |room| total - available + room));
    }

    /// The log's queue is full, or takes records again.
    pub(crate) fn set_full(&mut self, full: bool) {
        if self.intake.full.replace(full) && !full {
            self.shards.values_mut().for_each(|member| member.signals.push_back(Signal::Writable));
        }
    }

    /// A shard's task takes the next signal; `None` if there is none.
    pub(crate) fn hear(&mut self, shard: u16) -> Option<Told> {
        let member = self.shards.get_mut(&shard).expect("it is one of the shards");
        let mut output = ShardOutput::default();
        match member.signals.pop_front()? {
            Signal::Relocate(relocation) => member.relocate(shard, relocation, &self.intake),
            Signal::Synced { kind: Kind::Relocation, position, .. } => member.relocated(position),
            Signal::Synced { kind, index, position } => {
                member.group.synced(kind, index, position);
                while let Some(position) = member.group.take_committed() {
                    member.shard.committed(location(position), &mut self.bodies, &mut output);
                }
            }
            Signal::Writable => member.group.retry().expect("the log is not closed"),
            Signal::Checkpoint => {
                let contribution = (member.group.last_committed(), member.shard.snapshot());
                let collecting = self.checkpoint.as_mut().expect("somebody asked for it");
                collecting.given.insert(shard, contribution);
            }
        }
        Some(told(output))
    }

    /// A checkpoint begins, if none is under way: a restart will begin at what is synced now.
    pub(crate) fn begin_checkpoint(&mut self) {
        let point = self.synced;
        self.checkpoint.get_or_insert_with(|| Collecting { point, asked: 0, given: BTreeMap::new() });
    }

    /// The next shard is asked for its snapshot. More may have been synced by then.
    pub(crate) fn ask_for_snapshot(&mut self) {
        let Some(collecting) = &mut self.checkpoint else { return };
        let Some(shard) = SHARDS.get(collecting.asked) else { return };
        collecting.asked += 1;
        self.member(*shard).signals.push_back(Signal::Checkpoint);
    }

    /// Writes the checkpoint, if every shard has contributed, while the log's thread goes on: `meanwhile` says before each
    /// call what that does. Then the old segments for which `chosen` says so are emptied. Answers what is left; `None` if
    /// there was no checkpoint, for want of space or contributions.
    pub(crate) fn finish_checkpoint(
        &mut self,
        meanwhile: impl FnMut() -> Meanwhile + 'static,
        chosen: &mut dyn FnMut(u32) -> bool,
    ) -> Option<Reclaimed> {
        let Collecting { point, given, .. } =
            self.checkpoint.take_if(|collecting| collecting.given.len() == SHARDS.len())?;
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        for (segment, bytes) in given.values().flat_map(|(_, snapshot)| snapshot.live()) {
            *live.entry(segment).or_default() += bytes;
        }
        let encoded = |(shard, (last, snapshot)): (&u16, &(EntryId, Snapshot))| {
            let payload = Bytes::from(snapshot.encode());
            warren_storage::Snapshot { shard: *shard, term: last.term, index: last.index, payload }
        };
        let plan = CheckpointPlan { replay_from: point, snapshots: given.iter().map(encoded).collect(), live };
        let between = log_goes_on(Rc::clone(&self.log), meanwhile);
        let reclaimed = match interleaved(between, || self.retention.checkpoint(plan)) {
            Err(LogError::NoSpace { .. }) => return None,
            done => done.expect("the disk works"),
        };
        if Rc::strong_count(&self.moving) == 1 {
            let old = reclaimed.retained.iter().map(|retained| retained.segment);
            self.empty(&old.filter(|segment| chosen(*segment)).collect(), &given);
        }
        Some(reclaimed)
    }

    /// Reads what lives in `segments`, and hands each shard its messages to be written again.
    fn empty(&mut self, segments: &BTreeSet<u32>, given: &BTreeMap<u16, (EntryId, Snapshot)>) {
        for (shard, (_, snapshot)) in given {
            let mut batch: Vec<(Vec<Reference>, Bytes)> = Vec::new();
            for survivor in snapshot.survivors(segments) {
                let command = self.reader.read_part(position(survivor.location)).expect("it is still in the log");
                batch.push((survivor.references, command));
                if batch.iter().map(|(_, command)| command.len()).sum::<usize>() >= RELOCATION_BYTES {
                    self.send_relocation(*shard, &std::mem::take(&mut batch));
                }
            }
            if !batch.is_empty() {
                self.send_relocation(*shard, &batch);
            }
        }
    }

    fn send_relocation(&mut self, shard: u16, batch: &[(Vec<Reference>, Bytes)]) {
        let mut payload = Vec::new();
        encode_relocation(batch.iter().map(|(references, command)| (&references[..], &command[..])), &mut payload);
        let relocation = Relocation { payload: Bytes::from(payload), _moving: Rc::clone(&self.moving) };
        self.member(shard).signals.push_back(Signal::Relocate(relocation));
    }

    /// True if nothing is on its way to the log or from it.
    pub(crate) fn is_quiet(&self) -> bool {
        let quiet = |member: &Member| member.shard.is_drained() && member.signals.is_empty();
        self.intake.records.borrow().is_empty() && self.log.borrow().is_quiet() && self.shards.values().all(quiet)
    }
}

fn log_goes_on(log: Rc<RefCell<LogThread>>, mut does: impl FnMut() -> Meanwhile) -> impl FnMut() {
    move || match does() {
        Meanwhile::Nothing => {}
        Meanwhile::Write(count) => log.borrow_mut().write(count),
        Meanwhile::Sync => log.borrow_mut().sync(),
    }
}

/// Ends a shard's replay, as `broker/src/recovery.rs` does, and begins its group's new term.
fn lead(id: u16, restored: Restored, mut shard: Shard, intake: &Intake, bodies: &mut LogBodies) -> Member {
    shard.lead();
    for (queue, _) in QUEUES.into_iter().filter(|(_, shard)| *shard == id) {
        let create = ShardInput::Create { queue: QueueId(queue), settings: settings(queue) };
        shard.handle(create, bodies, &mut ShardOutput::default());
    }
    let raft = RaftDriver::lead_alone(NODE, &restored);
    let group = Group::with_consensus(ShardId(id), NODE, &restored, raft, intake.clone());
    let group = group.expect("the log is not closed");
    let records = intake.records.borrow();
    let begins = records.iter().rfind(|record| record.tag().shard == id && record.tag().kind == Kind::Entry);
    let last_index = begins.expect("a term begins with an entry").tag().index;
    Member { shard, group, signals: VecDeque::new(), relocations: VecDeque::new(), last_index, restored }
}

fn told(mut output: ShardOutput) -> Told {
    let by_connection = output.take_events().into_iter();
    by_connection.flat_map(|(connection, events)| events.into_iter().map(move |event| (connection, event))).collect()
}

impl Member {
    /// Writes messages again; not now if the log has no room.
    fn relocate(&mut self, shard: u16, relocation: Relocation, intake: &Intake) {
        let tag = Tag { kind: Kind::Relocation, shard, term: 0, index: 0 };
        let record = Record::new(tag, vec![relocation.payload.clone()]).expect("it is short");
        if intake.try_append(record).is_ok() {
            self.relocations.push_back(relocation);
        }
    }

    fn relocated(&mut self, position: Position) {
        let relocation = self.relocations.pop_front().expect("it was sent to the log");
        self.shard.relocated(location(position), &relocation.payload).expect("a relocation can be read");
    }
}
