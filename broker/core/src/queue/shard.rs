//! All queues of one shard, and the order between what the log must hold first and what need not wait for it.
//!
//! ```text
//! input ── not logged ──────────────────────────────▶ applied at once ──▶ events
//!    └──── logged ──▶ filling ──take_entry──▶ in flight ──committed──▶ applied ──▶ events
//! ```
//!
//! A publish to logged queues waits for its commit. Whatever asks about a logged queue after it (get, subscribe,
//! count, cancel, a publish of delivery mode 1) waits behind it, so that one publisher's messages and questions keep
//! their order. Settlements and credit don't wait: they concern messages that are already out.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;

use super::event::{DeleteRefusal, Deleted, Event, ShardOutput, ShardTotals, SubscribeRefusal};
use super::input::{PublishRun, Receipt, ShardInput};
use super::snapshot::{self, Snapshot, SnapshotError};
use super::{Body, Queue, QueueSettings, Subscription, sequence_ranges};
use crate::command::{self, Command, ENTRY_HEADER_LEN, EntryError, EntryHeader, Publish};
use crate::identity::{ConnectionId, ConsumerKey, QueueId};
use crate::limits::{ENTRY_BYTES, ENTRY_COMMANDS, SETTLE_RANGES};
use crate::location::{Bodies, Location};
use crate::message::Message;

/// A part of an entry, or what waits behind it.
#[derive(Debug)]
enum Step {
    /// Publishes, applied when the entry is committed.
    Run(PublishRun),
    /// Commands that took effect here when they were written.
    Own { commands: Vec<u8>, count: u32, urgent: bool },
    /// Not logged; carried out in its turn.
    Deferred(ShardInput),
}

impl Step {
    fn len(&self) -> usize {
        match self {
            Self::Run(run) => run.commands.len(),
            Self::Own { commands, .. } => commands.len(),
            Self::Deferred(ShardInput::Publish(run)) => run.commands.len(),
            Self::Deferred(_) => 0,
        }
    }

    /// The octets for the log and how many commands they are. A run keeps its own, which are shared.
    fn take_commands(&mut self) -> Option<(Bytes, u32)> {
        match self {
            Self::Run(run) => Some((run.commands.clone(), run.count)),
            Self::Own { commands, count, .. } => Some((Bytes::from(core::mem::take(commands)), *count)),
            Self::Deferred(_) => None,
        }
    }
}

/// The queues of one shard.
#[derive(Debug, Default)]
pub struct Shard {
    queues: BTreeMap<QueueId, Queue>,
    filling: VecDeque<Step>,
    /// The steps of each entry, with how far into the entry they begin.
    in_flight: VecDeque<Vec<(usize, Step)>>,
    /// Runs and deferred inputs in `filling` and `in_flight`.
    unapplied: usize,
    epoch: u64,
    epoch_starts: bool,
}

impl Shard {
    /// A shard without queues.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a snapshot says. The entries behind it are still to be replayed.
    ///
    /// # Errors
    /// `octets` are not a snapshot that this version can read.
    pub fn restore(octets: &[u8]) -> Result<Self, SnapshotError> {
        let mut shard = Self::default();
        shard.epoch = snapshot::decode(
            octets,
            |head| {
                let queue = Queue::restore(&head);
                (queue, head.next_sequence)
            },
            |(queue, _), message| queue.restore_message(message),
            |id, (mut queue, next_sequence)| {
                queue.next_sequence = next_sequence;
                shard.queues.insert(id, queue);
            },
        )?;
        Ok(shard)
    }

    /// The logged state as it is now, cheaply.
    pub fn snapshot(&self) -> Snapshot {
        let queues = self.queues.values().filter(|queue| queue.settings.logged).map(Queue::snapshot).collect();
        Snapshot { epoch: self.epoch, queues }
    }

    /// The log holds messages again at `at`, the payload of a relocation (see [`command`]). Those that are still live
    /// are read from there from now on.
    ///
    /// # Errors
    /// `payload` is not a relocation.
    pub fn relocated(&mut self, at: Location, payload: &[u8]) -> Result<(), EntryError> {
        command::decode_relocation(payload, |reference, publish| {
            let location = at.part(publish.start as u32, publish.len() as u32);
            if let (Some(queue), Some(location)) = (self.queues.get_mut(&reference.queue), location) {
                queue.relocate(reference.sequence, location);
            }
        })
    }

    /// True if something waits for the log that somebody waits for. Settlements alone are not urgent: nobody is told
    /// when they are durable.
    pub fn has_urgent(&self) -> bool {
        let urgent = |step: &Step| !matches!(step, Step::Own { urgent: false, .. });
        self.epoch_starts || self.filling.iter().any(urgent)
    }

    /// Applies `entry`, the payload of a log record at `at`. Only before the first [`Self::handle`].
    ///
    /// # Errors
    /// `entry` is not an entry that this version can read; the shard is of no further use.
    pub fn replay(&mut self, at: Location, entry: &[u8]) -> Result<(), EntryError> {
        let mut rest = entry;
        let header = EntryHeader::decode(&mut rest)?;
        self.epoch = header.epoch;
        if header.epoch_start {
            self.queues.values_mut().for_each(Queue::start_epoch);
        }
        for _ in 0..header.commands {
            let start = entry.len() - rest.len();
            let command = command::decode_command(&mut rest)?;
            let len = entry.len() - rest.len() - start;
            let location = at.part(start as u32, len as u32).ok_or(EntryError::Truncated)?;
            self.replay_command(command, location)?;
        }
        if rest.is_empty() { Ok(()) } else { Err(EntryError::Trailing) }
    }

    fn replay_command(&mut self, command: Command<'_>, location: Location) -> Result<(), EntryError> {
        match command {
            Command::Publish(publish) => {
                publish.check_names()?;
                let shared = publish.only_queue().is_none();
                for id in publish.queues() {
                    if let Some(queue) = self.queues.get_mut(&id) {
                        queue.enqueue(Body::Log { location, shared });
                    }
                }
            }
            Command::Settle { queue, ranges } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.forget(&ranges);
                }
            }
            Command::Create(id) => {
                let settings = QueueSettings { logged: true, auto_delete: false };
                self.queues.entry(id).or_insert_with(|| Queue::new(id, settings));
            }
            Command::Delete(id) => drop(self.queues.remove(&id)),
            Command::Attach(id) => {
                if let Some(queue) = self.queues.get_mut(&id) {
                    queue.attached = true;
                }
            }
        }
        Ok(())
    }

    /// Ends the replay: this node now leads. The epoch's first entry says so to later replays.
    pub fn lead(&mut self) {
        self.epoch += 1;
        if self.queues.values().any(|queue| queue.attached) {
            self.queues.values_mut().for_each(Queue::start_epoch);
            self.epoch_starts = true;
        }
    }

    /// The ids of its queues, ascending.
    pub fn queue_ids(&self) -> impl Iterator<Item = QueueId> {
        self.queues.keys().copied()
    }

    /// How much it holds.
    pub fn totals(&self) -> ShardTotals {
        let mut totals = ShardTotals { queues: self.queues.len() as u64, ..ShardTotals::default() };
        for queue in self.queues.values() {
            totals.ready += queue.ready.len() as u64;
            totals.unacked += queue.unacked.len() as u64;
            totals.consumers += queue.consumers.len() as u64;
        }
        totals
    }

    /// True if the log has everything: nothing waits for it and nothing is under way.
    pub fn is_drained(&self) -> bool {
        self.filling.is_empty() && self.in_flight.is_empty() && !self.epoch_starts
    }

    /// Octets that wait to be taken by [`Self::take_entry`].
    pub fn waiting_bytes(&self) -> usize {
        self.filling.iter().map(Step::len).sum()
    }

    /// Takes in one input. `bodies` reads what it hands out.
    pub fn handle(&mut self, input: ShardInput, bodies: &mut dyn Bodies, out: &mut ShardOutput) {
        match input {
            ShardInput::Publish(run) if run.logged => {
                self.unapplied += 1;
                self.filling.push_back(Step::Run(run));
            }
            input if self.must_wait(&input) => self.defer(input),
            input => self.perform(input, bodies, out),
        }
    }

    /// True if `input` is about a logged queue and something that it must not overtake is not applied yet.
    fn must_wait(&mut self, input: &ShardInput) -> bool {
        let queue = match input {
            ShardInput::Publish(run) => command::first_queue(&run.commands),
            ShardInput::Subscribe { queue, .. }
            | ShardInput::Unsubscribe { queue, .. }
            | ShardInput::Get { queue, .. }
            | ShardInput::Count { queue, .. }
            | ShardInput::Purge { queue, .. }
            | ShardInput::Delete { queue, .. } => Some(*queue),
            ShardInput::Detach { queue: None, .. } => return self.unapplied > 0,
            ShardInput::Detach { queue, .. } => *queue,
            ShardInput::Settle { .. } | ShardInput::Grant { .. } | ShardInput::Create { .. } => None,
        };
        let Some(queue) = queue.and_then(|id| self.queues.get(&id)) else {
            return false;
        };
        if !queue.settings.logged {
            return false;
        }
        let hands_out = matches!(input, ShardInput::Subscribe { .. } | ShardInput::Get { .. });
        (hands_out && self.attach(queue.id)) || self.unapplied > 0
    }

    /// Logs, once an epoch, that a queue is about to hand out messages. True: wait until that is committed.
    fn attach(&mut self, id: QueueId) -> bool {
        let Some(queue) = self.queues.get_mut(&id) else {
            return false;
        };
        let first = !core::mem::replace(&mut queue.attached, true);
        if first {
            self.log_own(true, |commands| command::encode_attach(id, commands));
        }
        first
    }

    /// Puts `input` behind everything that is on its way to the log.
    fn defer(&mut self, input: ShardInput) {
        self.unapplied += 1;
        self.announce(&input);
        match self.in_flight.back_mut() {
            Some(steps) if self.filling.is_empty() => steps.push((0, Step::Deferred(input))),
            _ => self.filling.push_back(Step::Deferred(input)),
        }
    }

    /// A consumer whose end has to wait is handed nothing more, or what it gives back would come to it again and again.
    fn announce(&mut self, input: &ShardInput) {
        match *input {
            ShardInput::Unsubscribe { queue, consumer } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.leave(|key| *key == consumer);
                }
            }
            ShardInput::Detach { connection, queue } => {
                for (_, left) in self.queues.iter_mut().filter(|(id, _)| queue.is_none_or(|queue| queue == **id)) {
                    left.leave(|key| key.connection == connection);
                }
            }
            _ => {}
        }
    }

    fn perform(&mut self, input: ShardInput, bodies: &mut dyn Bodies, out: &mut ShardOutput) {
        match input {
            ShardInput::Publish(run) => self.apply_run(run, None, bodies, out),
            ShardInput::Settle { queue, ranges, settlement } => {
                self.with(queue, bodies, out, |queue, _, done| queue.settle(&ranges, settlement, done));
            }
            ShardInput::Subscribe { queue, consumer, subscription } => {
                self.subscribe(queue, consumer, subscription, bodies, out);
            }
            ShardInput::Unsubscribe { queue, consumer } => self.unsubscribe(queue, consumer, bodies, out),
            ShardInput::Grant { queue, consumer, messages, bytes } => {
                self.with(queue, bodies, out, |queue, _, _| queue.grant(consumer, messages, bytes));
            }
            ShardInput::Get { queue, holder, no_ack } => self.get(queue, holder, no_ack, bodies, out),
            ShardInput::Count { queue, connection } => {
                let counts = self.queues.get(&queue).map(|q| (q.ready.len() as u64, q.consumers.len() as u64));
                out.tell(connection, Event::Counted(counts));
            }
            ShardInput::Purge { queue, connection } => {
                let mut count = 0;
                self.with(queue, bodies, out, |queue, _, done| count = queue.purge(done));
                out.tell(connection, Event::Purged(count));
            }
            ShardInput::Create { queue, settings } => self.create(queue, settings),
            ShardInput::Delete { queue, if_unused, if_empty, request } => {
                let deleted = self.delete(queue, if_unused, if_empty, out);
                out.deleted.push((request, deleted));
            }
            ShardInput::Detach { connection, queue } => self.detach(connection, queue, bodies, out),
        }
    }

    /// Works on a queue, then hands out what has become possible and logs what is done with.
    fn with(
        &mut self,
        id: QueueId,
        bodies: &mut dyn Bodies,
        out: &mut ShardOutput,
        work: impl FnOnce(&mut Queue, &mut ShardOutput, &mut Vec<u64>),
    ) {
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        let mut done = Vec::new();
        work(queue, out, &mut done);
        queue.dispatch(bodies, out, &mut done);
        self.log_settled(id, done);
    }

    /// `at`: where the run lies in the log, if it does.
    fn apply_run(&mut self, run: PublishRun, at: Option<Location>, bodies: &mut dyn Bodies, out: &mut ShardOutput) {
        let mut from = 0;
        let mut touched: Vec<QueueId> = Vec::new();
        // A session of this process encoded the run, so it decodes; were it defective, the run would end there.
        while let Ok(publish) = Publish::decode(&run.commands[from..]) {
            let location = at.and_then(|at| at.part(from as u32, publish.len() as u32));
            for id in publish.queues() {
                let Some(queue) = self.queues.get_mut(&id) else {
                    continue;
                };
                queue.enqueue(match location.filter(|_| queue.settings.logged) {
                    Some(location) => Body::Log { location, shared: publish.only_queue().is_none() },
                    None => Body::Memory(Message::within(&run.commands, from, &publish)),
                });
                if touched.last() != Some(&id) {
                    touched.push(id);
                }
            }
            from += publish.len();
        }
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            self.with(id, bodies, out, |_, _, _| ());
        }
        for Receipt { connection, channel, first, len } in run.receipts {
            out.tell(connection, Event::Confirmed { channel, first, len });
        }
    }

    fn subscribe(
        &mut self,
        id: QueueId,
        key: ConsumerKey,
        subscription: Subscription,
        bodies: &mut dyn Bodies,
        out: &mut ShardOutput,
    ) {
        let refusal = match self.queues.get(&id) {
            None => Some(SubscribeRefusal::QueueGone),
            Some(queue) if queue.has_exclusive_consumer() => Some(SubscribeRefusal::ExclusiveUse),
            Some(queue) if subscription.exclusive && !queue.consumers.is_empty() => {
                Some(SubscribeRefusal::ExclusiveUse)
            }
            Some(_) => None,
        };
        out.tell(key.connection, Event::Subscribed(key, refusal.map_or(Ok(()), Err)));
        if refusal.is_none() {
            self.with(id, bodies, out, |queue, _, _| queue.subscribe(key, subscription));
        }
    }

    fn unsubscribe(&mut self, id: QueueId, key: ConsumerKey, bodies: &mut dyn Bodies, out: &mut ShardOutput) {
        self.with(id, bodies, out, |queue, out, _| {
            queue.unsubscribe(key);
            if queue.is_unused() {
                out.unused.push(id);
            }
        });
        out.tell(key.connection, Event::Unsubscribed(key));
    }

    fn get(&mut self, id: QueueId, holder: ConsumerKey, no_ack: bool, bodies: &mut dyn Bodies, out: &mut ShardOutput) {
        let mut done = Vec::new();
        let got = self.queues.get_mut(&id).and_then(|queue| {
            let delivery = queue.take(holder, no_ack, bodies, &mut done)?;
            Some((delivery, queue.ready.len() as u64))
        });
        self.log_settled(id, done);
        out.tell(holder.connection, Event::Got(got));
    }

    fn create(&mut self, id: QueueId, settings: QueueSettings) {
        if self.queues.contains_key(&id) {
            return;
        }
        self.queues.insert(id, Queue::new(id, settings));
        if settings.logged {
            self.log_own(true, |commands| command::encode_create(id, commands));
        }
    }

    fn delete(&mut self, id: QueueId, if_unused: bool, if_empty: bool, out: &mut ShardOutput) -> Deleted {
        let Some(queue) = self.queues.get(&id) else {
            return Ok(0);
        };
        if if_unused && !queue.consumers.is_empty() {
            return Err(DeleteRefusal::InUse);
        }
        if if_empty && !queue.ready.is_empty() {
            return Err(DeleteRefusal::NotEmpty);
        }
        for key in queue.consumers.keys() {
            out.tell(key.connection, Event::ConsumerCancelled(*key));
        }
        let (count, logged) = (queue.ready.len() as u64, queue.settings.logged);
        self.queues.remove(&id);
        if logged {
            self.log_own(true, |commands| command::encode_delete(id, commands));
        }
        Ok(count)
    }

    fn detach(
        &mut self,
        connection: ConnectionId,
        queue: Option<QueueId>,
        bodies: &mut dyn Bodies,
        out: &mut ShardOutput,
    ) {
        let ids: Vec<QueueId> = queue.map_or_else(|| self.queue_ids().collect(), |id| Vec::from([id]));
        for id in ids {
            self.with(id, bodies, out, |queue, out, _| {
                queue.detach(connection);
                if queue.is_unused() {
                    out.unused.push(id);
                }
            });
        }
    }

    fn log_settled(&mut self, id: QueueId, done: Vec<u64>) {
        if done.is_empty() {
            return;
        }
        for ranges in sequence_ranges(done).chunks(SETTLE_RANGES) {
            self.log_own(false, |commands| command::encode_settle(id, ranges, commands));
        }
    }

    /// Adds a command of the shard's own to the step at the end that takes such commands, unless that is full.
    fn log_own(&mut self, urgent: bool, write: impl FnOnce(&mut Vec<u8>)) {
        match self.filling.back_mut() {
            Some(Step::Own { commands, count, urgent: waited_for }) if commands.len() < ENTRY_BYTES => {
                write(commands);
                *count += 1;
                *waited_for |= urgent;
            }
            _ => {
                let mut commands = Vec::new();
                write(&mut commands);
                self.filling.push_back(Step::Own { commands, count: 1, urgent });
            }
        }
    }

    /// The next entry for the log, as slices to be written one behind the other; `None` if nothing waits to be
    /// logged. `now_ms` is wall-clock milliseconds since the Unix epoch. Entries are committed in this order.
    pub fn take_entry(&mut self, now_ms: u64) -> Option<Vec<Bytes>> {
        if self.filling.is_empty() && !self.epoch_starts {
            return None;
        }
        let mut header = EntryHeader {
            commands: 0,
            epoch_start: core::mem::take(&mut self.epoch_starts),
            now_ms,
            epoch: self.epoch,
        };
        let mut slices = Vec::from([Bytes::new()]);
        let mut steps = Vec::new();
        let mut size = 0;
        while let Some(step) = self.filling.front() {
            let full = size >= ENTRY_BYTES || header.commands >= ENTRY_COMMANDS;
            if full && !matches!(step, Step::Deferred(_)) {
                break;
            }
            let Some(mut step) = self.filling.pop_front() else {
                break;
            };
            let start = ENTRY_HEADER_LEN + size;
            if let Some((commands, count)) = step.take_commands() {
                size += commands.len();
                header.commands += count;
                slices.push(commands);
            }
            steps.push((start, step));
        }
        slices[0] = Bytes::copy_from_slice(&header.encode());
        self.in_flight.push_back(steps);
        Some(slices)
    }

    /// The oldest entry in flight is durable, its payload at `at` in the log: it takes effect, and so does what waited
    /// behind it.
    pub fn committed(&mut self, at: Location, bodies: &mut dyn Bodies, out: &mut ShardOutput) {
        for (start, step) in self.in_flight.pop_front().into_iter().flatten() {
            self.unapplied -= usize::from(!matches!(step, Step::Own { .. }));
            match step {
                Step::Run(run) => {
                    let at = at.part(start as u32, run.commands.len() as u32);
                    self.apply_run(run, at, bodies, out);
                }
                Step::Own { .. } => {}
                Step::Deferred(input) => self.perform(input, bodies, out),
            }
        }
    }
}
