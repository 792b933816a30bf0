//! Streams against a simple model: a list of messages that only loses from its front, and readers that go along it.
//!
//! Checked after every step: that each reader gets what it wants, in order, with the right offset, and never more than
//! its prefetch; that nothing waits while a reader has room; that what retention keeps is within its bounds, and that it
//! drops nothing too early; that a restart finds the same messages, offsets and times, from the log alone or from a
//! snapshot and the log behind it, with messages moved and segments given up in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use warren_core::command::{Attributes, encode_publish_head};
use warren_core::queue::{
    Delivery, Event, PositionRange, PublishRun, QueueKind, QueueSettings, Settlement, Shard, ShardInput, ShardOutput,
    Snapshot, StreamOffset, StreamReading, Subscription,
};
use warren_core::{ConnectionId, ConsumerKey, QueueId};

use crate::log::{Log, Point, id};
use crate::{pick, replayed, seed};

/// 256 runs of 200 steps.
const CASES: u32 = 256;
const STEPS: usize = 200;

const STREAM: QueueId = QueueId(1);
/// Gets some of the messages too, so that they are in the log for two queues, and keeps them.
const OTHER: QueueId = QueueId(2);

/// Octets of the longest publish command.
const LONGEST: u64 = 16 + 2 * 4 + 2 + 8;

/// Numbers without a name are taken modulo what there is to choose from.
#[derive(Debug, Clone)]
enum Step {
    Publish { count: u8, value: u8, both: bool },
    Subscribe { from: usize, number: u64, filter: Vec<u8>, match_unfiltered: bool, prefetch_count: u32 },
    Settle { first: usize, count: usize, how: usize },
    Cancel(usize),
    Detach(usize),
    Grant(usize),
    Wait(u64),
    TakeEntry,
    Commit,
    CommitAll,
    TakeSnapshot,
    WriteSnapshot,
    Crash { durable: usize, earlier: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let publish = (1..40_u8, 0..4_u8, prop::bool::weighted(0.1)).prop_map(|(count, value, both)| Step::Publish {
        count,
        value,
        both,
    });
    let filter = prop_oneof![2 => Just(Vec::new()), 1 => vec(1..5_u8, 1..3)];
    let subscribe = (any::<usize>(), any::<u64>(), filter, any::<bool>(), 1..200_u32).prop_map(
        |(from, number, filter, match_unfiltered, prefetch_count)| Step::Subscribe {
            from,
            number,
            filter,
            match_unfiltered,
            prefetch_count,
        },
    );
    let settle = (any::<usize>(), 1..200_usize, any::<usize>()).prop_map(|(first, count, how)| Step::Settle {
        first,
        count,
        how,
    });
    prop_oneof![
        20 => publish,
        5 => subscribe,
        20 => settle,
        1 => any::<usize>().prop_map(Step::Cancel),
        1 => any::<usize>().prop_map(Step::Detach),
        3 => any::<usize>().prop_map(Step::Grant),
        5 => (1..2_000_u64).prop_map(Step::Wait),
        8 => Just(Step::TakeEntry),
        8 => Just(Step::Commit),
        5 => Just(Step::CommitAll),
        2 => Just(Step::TakeSnapshot),
        2 => Just(Step::WriteSnapshot),
        1 => (any::<usize>(), 0..20_usize).prop_map(|(durable, earlier)| Step::Crash { durable, earlier }),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Message {
    id: u64,
    /// 0: it has none.
    value: u8,
    len: u64,
    time_ms: u64,
    both: bool,
}

#[derive(Debug)]
struct Reader {
    /// Nothing before it comes any more.
    next: u64,
    filter: Vec<u8>,
    match_unfiltered: bool,
    prefetch_count: u32,
    /// Positions that are to be settled.
    held: Vec<u64>,
    cancelled: bool,
    sent: (u32, u64),
}

impl Reader {
    fn wants(&self, value: u8) -> bool {
        let filtered = if value == 0 { self.match_unfiltered } else { self.filter.contains(&value) };
        self.filter.is_empty() || filtered
    }

    fn has_room(&self) -> bool {
        !self.cancelled && self.held.len() < self.prefetch_count as usize
    }
}

/// Queues and numbers of messages.
type Contents = BTreeSet<(u32, u64)>;

struct World {
    shard: Shard,
    settings: QueueSettings,
    now_ms: u64,
    /// All that was ever committed; a message's offset is its index.
    messages: Vec<Message>,
    /// The oldest that is still there.
    first: u64,
    readers: BTreeMap<ConsumerKey, Reader>,
    filling: Vec<Message>,
    in_flight: VecDeque<(Bytes, Vec<Message>)>,
    log: Log,
    last_id: u64,
    last_serial: u32,
    /// A snapshot that is not on disk yet.
    taken: Option<(Snapshot, Point, Contents)>,
}

impl World {
    fn new(max_length_bytes: Option<u64>, max_age: Option<u64>) -> Self {
        let kind = QueueKind::Stream;
        let mut world = Self {
            shard: Shard::new(),
            settings: QueueSettings { logged: true, kind, max_length_bytes, max_age, ..QueueSettings::default() },
            now_ms: 1_000_000,
            messages: Vec::new(),
            first: 0,
            readers: BTreeMap::new(),
            filling: Vec::new(),
            in_flight: VecDeque::new(),
            log: Log::default(),
            last_id: 0,
            last_serial: 0,
            taken: None,
        };
        world.create_queues();
        world.commit_all();
        world
    }

    fn create_queues(&mut self) {
        self.tick();
        let settings = self.settings.clone();
        self.put(ShardInput::Create { queue: STREAM, settings });
        let settings = QueueSettings { logged: true, ..QueueSettings::default() };
        self.put(ShardInput::Create { queue: OTHER, settings });
    }

    fn tick(&mut self) {
        let mut output = ShardOutput::default();
        self.shard.tick(self.now_ms, &mut self.log, &mut output);
        self.observe(output);
    }

    fn put(&mut self, input: ShardInput) {
        let mut output = ShardOutput::default();
        self.shard.handle(input, &mut self.log, &mut output);
        self.observe(output);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish { count, value, both } => self.publish(count, value, both),
            Step::Subscribe { from, number, filter, match_unfiltered, prefetch_count } => {
                self.commit_all();
                let from = self.offset(from, number);
                let next = self.place(from);
                let reader = Reader {
                    next,
                    filter,
                    match_unfiltered,
                    prefetch_count,
                    held: Vec::new(),
                    cancelled: false,
                    sent: (0, 0),
                };
                self.subscribe(from, reader);
            }
            Step::Settle { first, count, how } => self.settle(first, count, how),
            Step::Cancel(which) => self.cancel(which),
            Step::Detach(which) => self.detach(which),
            Step::Grant(which) => self.grant(which),
            Step::Wait(millis) => {
                self.now_ms += millis;
                self.tick();
            }
            Step::TakeEntry => _ = self.take_entry(),
            Step::Commit => _ = self.commit(),
            Step::CommitAll => self.commit_all(),
            Step::TakeSnapshot => self.take_snapshot(),
            Step::WriteSnapshot => self.write_snapshot(),
            Step::Crash { durable, earlier } => self.crash(durable, earlier),
        }
        self.check_retention();
        self.check_nothing_waits_in_vain();
    }

    fn publish(&mut self, count: u8, value: u8, both: bool) {
        let mut commands = Vec::new();
        for _ in 0..count {
            self.last_id += 1;
            let before = commands.len();
            let filter = [value];
            let attributes = Attributes { filter: Some(&filter[..]).filter(|_| value > 0), ..Attributes::default() };
            let queues = if both { vec![STREAM, OTHER] } else { vec![STREAM] };
            encode_publish_head((queues.len(), queues.into_iter()), 0, 0, 0, 8, &attributes, &mut commands);
            commands.extend_from_slice(&self.last_id.to_be_bytes());
            let len = (commands.len() - before) as u64;
            self.filling.push(Message { id: self.last_id, value, len, time_ms: 0, both });
        }
        let commands = Bytes::from(commands);
        self.put(ShardInput::Publish(PublishRun { logged: true, commands, count: count.into(), receipts: vec![] }));
    }

    fn offset(&self, which: usize, number: u64) -> StreamOffset {
        let next = self.messages.len() as u64;
        let time_ms = self.now_ms - number % 20_000;
        let all = [
            StreamOffset::First,
            StreamOffset::Last,
            StreamOffset::Next,
            StreamOffset::Number(number % (next + 5)),
            StreamOffset::Timestamp(time_ms),
            StreamOffset::Interval(number % 20_000),
        ];
        pick(&all, which)
    }

    /// Where a reader begins that says so.
    fn place(&self, from: StreamOffset) -> u64 {
        let next = self.messages.len() as u64;
        let since = |time_ms: u64| self.messages.iter().position(|it| it.time_ms >= time_ms).unwrap_or(usize::MAX);
        let place = match from {
            StreamOffset::First => 0,
            StreamOffset::Last => next.saturating_sub(1),
            StreamOffset::Next => next,
            StreamOffset::Number(number) => return number.max(self.first),
            StreamOffset::Timestamp(time_ms) => since(time_ms) as u64,
            StreamOffset::Interval(millis) => since(self.now_ms - millis) as u64,
        };
        place.clamp(self.first, next)
    }

    fn subscribe(&mut self, from: StreamOffset, reader: Reader) {
        self.last_serial += 1;
        let connection = ConnectionId(u64::from(self.last_serial % 3 + 1));
        let consumer = ConsumerKey { connection, channel: 1, serial: self.last_serial };
        let filter = reader.filter.iter().map(|value| Bytes::copy_from_slice(&[*value])).collect();
        let reading = StreamReading { from, filter, match_unfiltered: reader.match_unfiltered };
        let prefetch_count = reader.prefetch_count;
        self.readers.insert(consumer, reader);
        let subscription = Subscription { prefetch_count, stream: Some(reading), ..Subscription::default() };
        self.put(ShardInput::Subscribe { queue: STREAM, consumer, subscription });
    }

    fn settle(&mut self, first: usize, count: usize, how: usize) {
        let mut held: Vec<_> = self.readers.iter_mut().filter(|(_, reader)| !reader.held.is_empty()).collect();
        if held.is_empty() {
            return;
        }
        let at = first % held.len();
        let holder = held[at].0.on_channel();
        let positions = &mut held[at].1.held;
        let from = first / 7 % positions.len();
        let until = (from + count).min(positions.len());
        let ranges = positions.drain(from..until).map(|first| PositionRange { first, len: 1 }).collect();
        let ways = [Settlement::Done, Settlement::Reject, Settlement::Requeue, Settlement::Fail, Settlement::Return];
        self.put(ShardInput::Settle { queue: STREAM, holder, ranges, settlement: pick(&ways, how) });
    }

    fn active(&self, which: usize) -> Option<ConsumerKey> {
        let active: Vec<ConsumerKey> =
            self.readers.iter().filter(|(_, reader)| !reader.cancelled).map(|(key, _)| *key).collect();
        (!active.is_empty()).then(|| pick(&active, which))
    }

    fn cancel(&mut self, which: usize) {
        if let Some(consumer) = self.active(which) {
            self.readers.get_mut(&consumer).unwrap().cancelled = true;
            self.put(ShardInput::Unsubscribe { queue: STREAM, consumer });
        }
    }

    /// With nothing in flight a detach takes effect at once.
    fn detach(&mut self, which: usize) {
        self.commit_all();
        if let Some(ConsumerKey { connection, .. }) = self.active(which) {
            self.readers.retain(|key, _| key.connection != connection);
            self.put(ShardInput::Detach { connection, queue: None });
        }
    }

    fn grant(&mut self, which: usize) {
        if let Some(consumer) = self.active(which) {
            let (messages, bytes) = std::mem::take(&mut self.readers.get_mut(&consumer).unwrap().sent);
            self.put(ShardInput::Grant { queue: STREAM, consumer, messages, bytes });
        }
    }

    fn take_entry(&mut self) -> bool {
        let Some(slices) = self.shard.take_entry(0) else { return false };
        assert_eq!(self.shard.waiting_bytes(), 0, "these entries are small, each takes all there is");
        let mut messages = std::mem::take(&mut self.filling);
        messages.iter_mut().for_each(|message| message.time_ms = self.now_ms);
        self.in_flight.push_back((Bytes::from(slices.concat()), messages));
        true
    }

    fn commit(&mut self) -> bool {
        let Some((octets, messages)) = self.in_flight.pop_front() else { return false };
        let at = self.log.append_entry(octets);
        self.messages.extend(messages);
        let mut output = ShardOutput::default();
        self.shard.committed(at, &mut self.log, &mut output);
        self.observe(output);
        true
    }

    fn commit_all(&mut self) {
        while self.commit() || self.take_entry() {}
    }

    fn contents(&self) -> Contents {
        let kept = self.messages.iter().skip(self.first as usize).map(|message| (STREAM.0, message.id));
        let others = self.messages.iter().filter(|message| message.both).map(|message| (OTHER.0, message.id));
        kept.chain(others).collect()
    }

    fn take_snapshot(&mut self) {
        self.commit_all();
        let contents = self.contents();
        let ids = contents.iter().map(|(_, id)| *id).collect();
        let snapshot = self.shard.snapshot();
        assert_eq!(snapshot.live(), self.log.live(&ids));
        self.taken = Some((snapshot, self.log.end(), contents));
    }

    /// By now the shard has changed what the snapshot shares with it.
    fn write_snapshot(&mut self) {
        let Some((snapshot, point, contents)) = self.taken.take() else { return };
        assert_eq!(self.log.contents(&snapshot), contents, "a snapshot has what lived when it was taken");
        if let Some((at, payload)) = self.log.write_checkpoint(&snapshot, point) {
            self.shard.relocated(at, &payload).expect("a relocation can be read");
        }
    }

    fn crash(&mut self, durable: usize, earlier: usize) {
        for _ in 0..durable % (self.in_flight.len() + 1) {
            let (octets, messages) = self.in_flight.pop_front().expect("there are so many");
            self.log.append_entry(octets);
            self.messages.extend(messages);
        }
        let checkpoint = self.log.checkpoint.as_ref();
        let restored = checkpoint.map(|checkpoint| Shard::restore(&checkpoint.octets).expect("it was encoded"));
        let covered = self.log.covered();
        let start = covered.records.saturating_sub(earlier).max(self.log.first_possible()).min(covered.records);
        self.shard = replayed(restored.unwrap_or_default(), &self.log.records[start..], covered.entries);
        let whole = replayed(Shard::new(), &self.log.records, 0);
        let contents = |shard: &Shard| shard.totals().ready;
        assert_eq!(contents(&self.shard), contents(&whole), "nothing is lost by a snapshot");
        self.shard.lead();
        self.readers.clear();
        self.in_flight.clear();
        self.filling.clear();
        self.taken = None;
        let first = std::mem::take(&mut self.first);
        self.note_first();
        assert!(self.first <= first, "a restart drops nothing");
        self.create_queues();
        self.commit_all();
    }

    fn note_first(&mut self) {
        let others = self.messages.iter().filter(|message| message.both).count() as u64;
        let kept = self.shard.totals().ready - others;
        let first = self.messages.len() as u64 - kept;
        assert!(first >= self.first, "what was dropped does not come back");
        self.first = first;
    }

    fn observe(&mut self, mut output: ShardOutput) {
        if self.shard.queue_ids().count() == 2 {
            self.note_first();
        }
        for (_, events) in output.take_events() {
            for event in events {
                match event {
                    Event::Deliver(key, delivery) => self.delivered(key, &delivery),
                    Event::Subscribed(_, Ok(())) | Event::Unsubscribed(_) => {}
                    other => panic!("nobody asked for {other:?}"),
                }
            }
        }
    }

    fn delivered(&mut self, key: ConsumerKey, delivery: &Delivery) {
        let offset = delivery.offset.expect("it is a stream");
        let message = self.messages[offset as usize];
        assert_eq!((id(&delivery.message), delivery.redelivered), (message.id, false));
        let reader = self.readers.get_mut(&key).expect("only live readers are sent messages");
        assert!(reader.has_room(), "{key:?} holds more than its prefetch, or was cancelled");
        assert!(reader.wants(message.value) && offset >= reader.next, "{key:?} did not ask for {offset}");
        for passed in reader.next.max(self.first)..offset {
            assert!(!reader.wants(self.messages[passed as usize].value), "{key:?} was not sent {passed}");
        }
        reader.next = offset + 1;
        reader.held.push(delivery.position);
        reader.sent.0 += 1;
        reader.sent.1 += delivery.message.size() as u64;
    }

    fn check_nothing_waits_in_vain(&self) {
        for (key, reader) in self.readers.iter().filter(|(_, reader)| reader.has_room()) {
            let waiting = (reader.next.max(self.first)..self.messages.len() as u64)
                .find(|offset| reader.wants(self.messages[*offset as usize].value));
            assert!(waiting.is_none(), "{key:?} is not sent {waiting:?}");
        }
    }

    fn check_retention(&self) {
        let kept = &self.messages[self.first as usize..];
        let bytes: u64 = kept.iter().map(|message| message.len).sum();
        let dropped = self.messages[..self.first as usize].last();
        let (max_bytes, max_age) = (self.settings.max_length_bytes, self.settings.max_age);
        if let Some(max) = max_bytes {
            assert!(bytes <= max.max(max / 8 + LONGEST), "{bytes} are kept of {max}");
            let too_early = dropped.is_some() && max_age.is_none() && bytes + max / 8 + LONGEST <= max;
            assert!(!too_early, "only {bytes} are kept of {max}");
        }
        if let Some(max) = max_age {
            let oldest = kept.first().map_or(self.now_ms, |message| message.time_ms);
            assert!(oldest + max + max / 8 + 1 > self.now_ms, "one of {oldest} is kept at {}", self.now_ms);
            let too_early = dropped.is_some_and(|message| message.time_ms + max > self.now_ms) && max_bytes.is_none();
            assert!(!too_early, "{dropped:?} was dropped at {}", self.now_ms);
        }
        if max_bytes.is_none() && max_age.is_none() {
            assert_eq!(self.first, 0);
        }
    }

    /// A last reader gets all that is left, after one more restart.
    fn finish(&mut self) {
        self.commit_all();
        self.crash(0, 0);
        let reader = Reader {
            next: self.first,
            filter: Vec::new(),
            match_unfiltered: false,
            prefetch_count: u32::MAX,
            held: Vec::new(),
            cancelled: false,
            sent: (0, 0),
        };
        self.subscribe(StreamOffset::First, reader);
        self.check_nothing_waits_in_vain();
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES,
        rng_seed: RngSeed::Fixed(seed()),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_stream_behaves_as_a_list_that_only_loses_from_its_front(
        max_bytes in prop::option::of(0..20_000_u64),
        max_age in prop::option::of(1..10_000_u64),
        steps in vec(step(), STEPS),
    ) {
        let mut world = World::new(max_bytes, max_age);
        steps.into_iter().for_each(|step| world.take(step));
        world.finish();
    }
}
