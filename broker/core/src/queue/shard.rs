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

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use bytes::Bytes;

use super::activity::{QueueCounters, Standing};
use super::admission::Arrival;
use super::deal::{Occasion, Source};
use super::event::{DeleteRefusal, Event, ShardOutput, SubscribeRefusal};
use super::input::{PublishRun, Receipt, ShardInput};
use super::outbox::{Due, Outbox, Outcome};
use super::recent::Recent;
use super::settled::Settled;
use super::store::{Body, Extra};
use super::window::ForwardWindow;
use super::{Queue, QueueKind, QueueSettings, Subscription};
use crate::command::{self, EntryHeader, Publish};
use crate::identity::{ConnectionId, ConsumerKey, QueueId};
use crate::limits::SETTLE_RANGES;
use crate::location::{Bodies, Location};
use crate::message::Message;

/// The queues of one shard.
#[derive(Debug, Default)]
pub struct Shard {
    pub(super) queues: BTreeMap<QueueId, Box<Queue>>,
    pub(super) epoch: u64,
    /// See [`Self::tick`].
    pub(super) now_ms: u64,
    /// When queues have something to do that no input asks for.
    deadlines: BTreeSet<(u64, QueueId)>,
    epoch_starts: bool,
    outbox: Outbox,
    pub(super) recent: Recent,
    pub(super) window: ForwardWindow,
    /// Empty between calls, kept for their memory: what is to be logged as settled, and the queues that a run is for.
    done: Settled,
    touched: Vec<QueueId>,
    /// Of the run that is being applied: without receipts.
    outcome: Outcome,
    /// It is told when it is in the log.
    outcome_waits: bool,
    /// The queues that were used since the last sample, as they were before.
    pub(super) used: BTreeMap<QueueId, Standing>,
    /// What was done with queues that are gone.
    pub(super) gone: [QueueCounters; QueueKind::ALL.len()],
    /// Connections whose consumers are handed nothing, see [`Self::drain`].
    drained: BTreeSet<ConnectionId>,
}

/// What a call works with beside the shard.
struct Surroundings<'a> {
    bodies: &'a mut dyn Bodies,
    out: &'a mut ShardOutput,
}

impl Shard {
    /// A shard without queues.
    pub fn new() -> Self {
        Self::default()
    }

    /// True if something waits for the log that somebody waits for. Settlements alone are not urgent: nobody is told
    /// when they are durable.
    pub fn has_urgent(&self) -> bool {
        self.epoch_starts || self.outbox.has_urgent()
    }

    /// Ends the replay: this node now leads. The epoch's first entry says so to later replays.
    pub fn lead(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
        self.queues.values_mut().for_each(|queue| queue.order_delayed());
        if self.queues.values().any(|queue| queue.attached) {
            self.queues.values_mut().for_each(|queue| queue.start_epoch());
            self.epoch_starts = true;
        }
    }

    /// The ids of its queues, ascending.
    pub fn queue_ids(&self) -> impl Iterator<Item = QueueId> {
        self.queues.keys().copied()
    }

    /// True if the log has everything: nothing waits for it and nothing is under way.
    pub fn is_drained(&self) -> bool {
        self.outbox.is_empty() && !self.epoch_starts
    }

    /// Octets that wait to be taken by [`Self::take_entry`].
    pub fn waiting_bytes(&self) -> usize {
        self.outbox.waiting_bytes()
    }

    /// It is so late: wall-clock milliseconds since the Unix epoch, never less than before. Does what has come due;
    /// called before inputs and commits are handed in.
    pub fn tick(&mut self, now_ms: u64, bodies: &mut dyn Bodies, out: &mut ShardOutput) {
        let started = self.now_ms == 0;
        self.now_ms = self.now_ms.max(now_ms);
        let mut around = Surroundings { bodies, out };
        if started {
            self.begin_time(&mut around);
        }
        if self.next_deadline().is_none_or(|at| at > self.now_ms) {
            return;
        }
        let later = self.deadlines.split_off(&(self.now_ms.saturating_add(1), QueueId(0)));
        for (_, id) in core::mem::replace(&mut self.deadlines, later) {
            self.with(id, &mut around, |queue, occasion| {
                queue.deadline = None;
                queue.expire(occasion);
                queue.end_overdue(occasion);
                queue.resume_readers();
            });
        }
    }

    /// What was there before the clock was known has been used until now.
    fn begin_time(&mut self, around: &mut Surroundings<'_>) {
        let timed = self.queues.values().filter(|queue| queue.rules.is_some() || queue.stream.is_some());
        let timed: Vec<QueueId> = timed.map(|queue| queue.id).collect();
        for id in timed {
            self.visit::<false, _>(id, around, |queue, occasion| queue.used(occasion.now_ms));
        }
    }

    /// When [`Self::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Hands nothing more to the consumers of these connections, those to come included, or (`drained` is false) hands them
    /// messages again. What they have they go on with. Answers how many messages the connections hold.
    pub fn drain(
        &mut self,
        connections: &[ConnectionId],
        drained: bool,
        bodies: &mut dyn Bodies,
        out: &mut ShardOutput,
    ) -> u64 {
        let ids: Vec<QueueId> = self.queue_ids().collect();
        let around = &mut Surroundings { bodies, out };
        for connection in connections {
            let changes = if drained { self.drained.insert(*connection) } else { self.drained.remove(connection) };
            for id in ids.iter().filter(|_| changes) {
                self.visit::<false, _>(*id, around, |queue, _| queue.holders.drain(*connection, drained));
            }
        }
        let held = |queue: &Queue| -> u64 { connections.iter().map(|one| queue.holders.held_by(*one)).sum() };
        self.queues.values().map(|queue| held(queue)).sum()
    }

    /// Takes in one input. `bodies` reads what it hands out.
    pub fn handle(&mut self, input: ShardInput, bodies: &mut dyn Bodies, out: &mut ShardOutput) {
        match input {
            ShardInput::Publish(run) if run.logged => self.outbox.push_run(run),
            input if self.must_wait(&input) => {
                self.announce(&input);
                self.outbox.defer(input);
            }
            input => self.perform(input, &mut Surroundings { bodies, out }),
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
            ShardInput::Detach { queue: None, .. } => return self.outbox.has_unapplied(),
            ShardInput::Detach { queue, .. } => *queue,
            ShardInput::Settle { .. }
            | ShardInput::Grant { .. }
            | ShardInput::Extend { .. }
            | ShardInput::Aside { .. } => None,
            ShardInput::Create { queue, settings } => return self.reconfigure(*queue, settings),
        };
        let Some(queue) = queue.and_then(|id| self.queues.get(&id)) else {
            // Of a run whose first queue has just been deleted, the others may still be logged ones.
            return matches!(input, ShardInput::Publish(_)) && self.outbox.has_unapplied();
        };
        if !queue.settings.logged {
            return false;
        }
        let hands_out = matches!(input, ShardInput::Subscribe { .. } | ShardInput::Get { .. });
        let hands_out = hands_out && queue.stream.is_none();
        (hands_out && self.attach(queue.id)) || self.outbox.has_unapplied()
    }

    /// Logs, once an epoch, that a queue is about to hand out messages. True: wait until that is committed.
    fn attach(&mut self, id: QueueId) -> bool {
        let Some(queue) = self.queues.get_mut(&id) else {
            return false;
        };
        let first = !core::mem::replace(&mut queue.attached, true);
        if first {
            self.log_own(|commands| command::encode_attach(id, commands));
        }
        first
    }

    /// Logs that a queue which is there behaves differently from now on, if it is to. True: wait until that is committed,
    /// so that every publish has the rules that hold at its place in the log.
    fn reconfigure(&mut self, id: QueueId, settings: &QueueSettings) -> bool {
        let Some(queue) = self.queues.get_mut(&id).filter(|queue| queue.settings.logged) else {
            return false;
        };
        let changes = queue.configuring > 0 || *queue.settings != *settings;
        if changes {
            queue.configuring += 1;
            self.log_own(|commands| command::encode_configure(id, settings, commands));
        }
        changes
    }

    /// A consumer whose end has to wait is handed nothing more, or what it gives back would come to it again and again.
    fn announce(&mut self, input: &ShardInput) {
        match *input {
            ShardInput::Unsubscribe { queue, consumer } => {
                if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.holders.leave(|key| *key == consumer);
                }
            }
            ShardInput::Detach { connection, queue } => {
                for (_, left) in self.queues.iter_mut().filter(|(id, _)| queue.is_none_or(|queue| queue == **id)) {
                    left.holders.leave(|key| key.connection == connection);
                }
            }
            _ => {}
        }
    }

    fn perform(&mut self, input: ShardInput, around: &mut Surroundings<'_>) {
        match input {
            ShardInput::Publish(run) => self.apply_run(run, None, self.now_ms, around),
            ShardInput::Settle { queue, holder, ranges, settlement } => {
                self.with(queue, around, |queue, occasion| queue.settle(holder, &ranges, settlement, occasion));
                self.let_out(around);
            }
            ShardInput::Subscribe { queue, consumer, subscription } => {
                self.subscribe(queue, consumer, subscription, around);
            }
            ShardInput::Unsubscribe { queue, consumer } => self.unsubscribe(queue, consumer, around),
            ShardInput::Grant { queue, consumer, messages, bytes } => {
                self.with(queue, around, |queue, _| queue.holders.grant(consumer, messages, bytes));
            }
            ShardInput::Get { queue, holder, no_ack } => self.get(queue, holder, no_ack, around),
            ShardInput::Count { queue, connection } => {
                let counts = self.visit::<false, _>(queue, around, |queue, occasion| {
                    queue.used(occasion.now_ms);
                    (queue.ready(), queue.holders.consumer_count() as u64)
                });
                around.out.tell(connection, Event::Counted(counts));
            }
            ShardInput::Purge { queue, connection } => {
                let count = self.with(queue, around, Queue::purge);
                around.out.tell(connection, Event::Purged(count.unwrap_or(0)));
            }
            ShardInput::Extend { queue, channel } => {
                self.with(queue, around, |queue, occasion| {
                    queue.holders.extend(channel, occasion.now_ms);
                });
            }
            ShardInput::Aside { queue, consumer, position, sent } => {
                self.with(queue, around, |queue, occasion| {
                    queue.set_time(consumer, position, sent, occasion.now_ms);
                });
            }
            ShardInput::Create { queue, settings } => self.create(queue, settings, around),
            ShardInput::Delete { queue, if_unused, if_empty, still_unused, request } => {
                let refusal = self.refusal(queue, if_unused, if_empty, still_unused);
                let deleted = refusal.map_or_else(|| Ok(self.delete(queue, around.out)), Err);
                around.out.deleted.push((request, deleted));
                self.let_out(around);
            }
            ShardInput::Detach { connection, queue } => self.detach(connection, queue, around),
        }
    }

    /// Has queues send their messages on that found no room for them in the window, as far as there is room now.
    fn let_out(&mut self, around: &mut Surroundings<'_>) {
        while let Some(id) = self.window.next() {
            self.with(id, around, |queue, _| queue.has_found_room());
        }
    }

    /// Works on a queue, then hands out what has become possible and logs what is done with.
    fn with<R>(
        &mut self,
        id: QueueId,
        around: &mut Surroundings<'_>,
        work: impl FnOnce(&mut Queue, &mut Occasion<'_>) -> R,
    ) -> Option<R> {
        self.visit::<true, R>(id, around, work)
    }

    /// As [`Self::with`]. If that is no `USE` of the queue, its statistics stay as they are, and take no memory.
    fn visit<const USE: bool, R>(
        &mut self,
        id: QueueId,
        around: &mut Surroundings<'_>,
        work: impl FnOnce(&mut Queue, &mut Occasion<'_>) -> R,
    ) -> Option<R> {
        let queue = self.queues.get_mut(&id)?;
        if USE {
            queue.note(&mut self.used, self.now_ms);
        }
        let source = Source { recent: &mut self.recent, bodies: around.bodies };
        let mut occasion =
            Occasion { now_ms: self.now_ms, source, out: around.out, done: &mut self.done, window: &mut self.window };
        let result = work(queue, &mut occasion);
        queue.dispatch(&mut occasion);
        if USE {
            queue.note_work(self.now_ms);
        }
        let deadline = queue.next_deadline();
        if deadline != queue.deadline {
            let before = core::mem::replace(&mut queue.deadline, deadline);
            before.map(|at| self.deadlines.remove(&(at, id)));
            deadline.map(|at| self.deadlines.insert((at, id)));
        }
        self.log_settled(id);
        Some(result)
    }

    /// Appends the messages of a run, hands out what can be, and answers. `at`: where the run lies in the log, if it
    /// does. `time_ms`: when it came.
    fn apply_run(&mut self, run: PublishRun, at: Option<Location>, time_ms: u64, around: &mut Surroundings<'_>) {
        self.enqueue(&run.commands, at, time_ms, around);
        let mut touched = core::mem::take(&mut self.touched);
        touched.sort_unstable();
        for id in touched.drain(..) {
            self.with(id, around, |queue, _| queue.fresh = false);
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.store.end_run(at.is_none().then_some(run.commands.len()));
            }
        }
        self.touched = touched;
        let somebody_waits = !run.receipts.is_empty() || !self.outcome.unlearnt.is_empty();
        if core::mem::take(&mut self.outcome_waits) && somebody_waits {
            let outcome = Outcome { receipts: run.receipts, ..core::mem::take(&mut self.outcome) };
            return self.outbox.push_outcome(outcome);
        }
        run.receipts.iter().for_each(|receipt| answer(receipt, &self.outcome.refused, around.out));
        self.outcome.refused.clear();
    }

    /// The log says what has become of publishes.
    fn conclude(&mut self, outcome: Outcome, around: &mut Surroundings<'_>) {
        for (id, unlearnt) in outcome.unlearnt {
            self.with(id, around, |queue, _| queue.refused(unlearnt));
        }
        outcome.receipts.iter().for_each(|receipt| answer(receipt, &outcome.refused, around.out));
    }

    /// Appends the messages of a run to their queues, which are then in `touched`.
    fn enqueue(&mut self, commands: &Bytes, at: Option<Location>, time_ms: u64, around: &mut Surroundings<'_>) {
        let mut publishes = Publishes { commands, from: 0, index: 0 }.peekable();
        while let Some(next) = publishes.next() {
            for id in next.publish.queues() {
                let Some(queue) = self.queues.get_mut(&id) else {
                    continue;
                };
                if !queue.fresh {
                    queue.note(&mut self.used, self.now_ms);
                    queue.fresh = true;
                    queue.store.begin_run();
                    self.touched.push(id);
                }
                // Most runs go to one queue, which is then looked up once.
                let only = next.publish.only_queue().is_some();
                let same = |more: &Next<'_>| only && more.publish.only_queue() == Some(id);
                let first = next.index;
                let mut last = first;
                let mut message = Some(next);
                while let Some(Next { from, publish, index }) = message {
                    let body = body(commands, at, from, &publish);
                    if publish.is_plain() && queue.is_plain() {
                        queue.store.push(queue.level(None), body, Extra::default());
                    } else {
                        let source = Source { recent: &mut self.recent, bodies: around.bodies };
                        let (now_ms, out) = (self.now_ms, &mut *around.out);
                        let mut occasion =
                            Occasion { now_ms, source, out, done: &mut self.done, window: &mut self.window };
                        if !queue.admit(Arrival { publish, body, time_ms }, &mut occasion) {
                            self.outcome.refused.push(index);
                        }
                    }
                    last = index;
                    message = publishes.next_if(same);
                }
                queue.activity.counters_mut().published += u64::from(last - first) + 1;
                if !self.done.is_empty() {
                    self.log_settled(id);
                }
            }
        }
        self.outcome.refused.dedup();
    }

    fn subscribe(&mut self, id: QueueId, key: ConsumerKey, subscription: Subscription, around: &mut Surroundings<'_>) {
        let refusal = match self.queues.get(&id) {
            None => Some(SubscribeRefusal::QueueGone),
            Some(queue) => queue.refusal(&subscription),
        };
        around.out.tell(key.connection, Event::Subscribed(key, refusal.map_or(Ok(()), Err)));
        if refusal.is_none() {
            let drained = self.drained.contains(&key.connection);
            self.with(id, around, |queue, occasion| {
                queue.subscribe(key, subscription, occasion.now_ms);
                if drained {
                    queue.holders.drain(key.connection, drained);
                }
            });
        }
    }

    fn unsubscribe(&mut self, id: QueueId, key: ConsumerKey, around: &mut Surroundings<'_>) {
        let unused = self.with(id, around, |queue, occasion| {
            queue.unsubscribe(key, occasion.now_ms);
            queue.is_unused()
        });
        if unused == Some(true) {
            around.out.unused.push(id);
        }
        around.out.tell(key.connection, Event::Unsubscribed(key));
    }

    fn get(&mut self, id: QueueId, holder: ConsumerKey, no_ack: bool, around: &mut Surroundings<'_>) {
        let got = self.with(id, around, |queue, occasion| {
            let delivery = queue.get(holder, no_ack, occasion)?;
            if queue.rules.is_some() {
                // What is over and comes next is not there any more.
                queue.expire_heads(true, occasion);
            }
            Some((delivery, queue.store.ready()))
        });
        around.out.tell(holder.connection, Event::Got(got.flatten()));
    }

    fn create(&mut self, id: QueueId, settings: QueueSettings, around: &mut Surroundings<'_>) {
        if let Some(queue) = self.queues.get(&id) {
            if *queue.settings == settings && queue.configuring == 0 {
                return;
            }
            self.with(id, around, |queue, occasion| {
                queue.configuring = queue.configuring.saturating_sub(1);
                queue.configure(settings, occasion.now_ms);
            });
            return;
        }
        if settings.logged {
            self.log_own(|commands| command::encode_create(id, commands));
            if !settings.is_plain() {
                self.log_own(|commands| command::encode_configure(id, &settings, commands));
            }
        }
        self.queues.insert(id, Box::new(Queue::new(id, settings, self.now_ms)));
        self.visit::<false, _>(id, around, |_, _| ());
    }

    /// Why a queue is not deleted on these conditions.
    fn refusal(&self, id: QueueId, if_unused: bool, if_empty: bool, still_unused: bool) -> Option<DeleteRefusal> {
        let queue = self.queues.get(&id)?;
        let in_use = if_unused && queue.holders.consumer_count() > 0;
        if in_use || still_unused && !queue.is_unused() && !queue.has_expired() {
            return Some(DeleteRefusal::InUse);
        }
        (if_empty && queue.store.ready() > 0).then_some(DeleteRefusal::NotEmpty)
    }

    /// Answers how many ready messages went with the queue.
    fn delete(&mut self, id: QueueId, out: &mut ShardOutput) -> u64 {
        let Some(queue) = self.queues.remove(&id) else {
            return 0;
        };
        for key in queue.holders.consumer_keys() {
            out.tell(key.connection, Event::ConsumerCancelled(key));
        }
        queue.deadline.map(|at| self.deadlines.remove(&(at, id)));
        self.used.remove(&id);
        self.gone[queue.settings.kind as usize].add(&queue.activity.counters());
        self.window.give_back(queue.rules.as_ref().map_or(0, |rules| rules.dead.window_bytes()));
        if queue.settings.logged {
            self.log_own(|commands| command::encode_delete(id, commands));
        }
        queue.store.ready()
    }

    fn detach(&mut self, connection: ConnectionId, queue: Option<QueueId>, around: &mut Surroundings<'_>) {
        if queue.is_none() {
            self.drained.remove(&connection);
        }
        let ids: Vec<QueueId> = queue.map_or_else(|| self.queue_ids().collect(), |id| Vec::from([id]));
        for id in ids {
            let unused = self.with(id, around, |queue, occasion| {
                queue.detach(connection, occasion);
                queue.is_unused()
            });
            if unused == Some(true) {
                around.out.unused.push(id);
            }
        }
    }

    /// Logs what is done with of a queue, and what came back to it.
    fn log_settled(&mut self, id: QueueId) {
        if self.done.is_empty() {
            return;
        }
        self.outcome_waits |= self.done.is_awaited();
        for unlearnt in self.done.unlearnt() {
            let sequence = unlearnt.message.map(|(sequence, _)| sequence);
            self.outbox.push_own(false, |commands| command::encode_unlearn(id, unlearnt.key, sequence, commands));
            self.outcome.unlearnt.push((id, *unlearnt));
        }
        for ranges in self.done.failed().chunks(SETTLE_RANGES) {
            self.outbox.push_own(false, |commands| command::encode_failed(id, ranges, commands));
        }
        for ranges in self.done.ranges().chunks(SETTLE_RANGES) {
            self.outbox.push_own(false, |commands| command::encode_settle(id, ranges, commands));
        }
        self.done.clear();
    }

    /// Logs a command that somebody waits for.
    fn log_own(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.outbox.push_own(true, write);
    }

    /// The next entry for the log, as slices to be written one behind the other; `None` if nothing waits to be
    /// logged. `now_ms` is wall-clock milliseconds since the Unix epoch. Entries are committed in this order.
    pub fn take_entry(&mut self, now_ms: u64) -> Option<Vec<Bytes>> {
        if !self.outbox.is_filling() && !self.epoch_starts {
            return None;
        }
        let epoch_start = core::mem::take(&mut self.epoch_starts);
        let now_ms = now_ms.max(self.now_ms);
        Some(self.outbox.take_entry(EntryHeader { commands: 0, epoch_start, now_ms, epoch: self.epoch }))
    }

    /// The oldest entry in flight is durable, its payload at `at` in the log: it takes effect, and so does what waited
    /// behind it.
    pub fn committed(&mut self, at: Location, bodies: &mut dyn Bodies, out: &mut ShardOutput) {
        let mut around = Surroundings { bodies, out };
        let (time_ms, due) = self.outbox.committed();
        for due in due {
            match due {
                Due::Run(run, start) => {
                    let at = at.part(start, run.commands.len() as u32);
                    if let Some(at) = at {
                        self.recent.push(at, run.commands.clone());
                    }
                    self.apply_run(run, at, time_ms, &mut around);
                }
                Due::Deferred(input) => self.perform(input, &mut around),
                Due::Outcome(outcome) => self.conclude(outcome, &mut around),
            }
        }
        self.recent.trim();
    }
}

/// What a queue keeps of a publish that was read `from` octets into a run.
fn body(commands: &Bytes, at: Option<Location>, from: usize, publish: &Publish<'_>) -> Body {
    match at.and_then(|at| at.part(from as u32, publish.len() as u32)) {
        Some(location) => Body::Log { location, shared: publish.only_queue().is_none() },
        None => Body::Memory(Message::within(commands, from, publish)),
    }
}

/// Tells a channel which of its publishes have been applied and which were refused, each once. `refused` is by index in
/// the run, ascending.
pub(super) fn answer(receipt: &Receipt, refused: &[u32], out: &mut ShardOutput) {
    let Receipt { connection, channel, first, len, index } = *receipt;
    let end = u64::from(index) + len;
    let number = |at: u64| first + (at - u64::from(index));
    let confirm = |from: u64, to: u64, out: &mut ShardOutput| {
        if from < to {
            out.tell(connection, Event::Confirmed { channel, first: number(from), len: to - from });
        }
    };
    let begin = refused.partition_point(|at| *at < index);
    let mut done = u64::from(index);
    let theirs = refused[begin..].iter().map(|at| u64::from(*at)).take_while(|at| *at < end);
    let mut theirs = theirs.peekable();
    while let Some(at) = theirs.next() {
        let mut to = at + 1;
        while theirs.next_if_eq(&to).is_some() {
            to += 1;
        }
        confirm(done, at, out);
        out.tell(connection, Event::Refused { channel, first: number(at), len: to - at });
        done = to;
    }
    confirm(done, end, out);
}

/// The publishes of a run. A session of this process encoded the run, so it decodes; were it defective, it would end there.
struct Publishes<'a> {
    commands: &'a [u8],
    from: usize,
    index: u32,
}

/// A publish of a run: where it begins, and how many are before it.
#[derive(Clone, Copy)]
struct Next<'a> {
    from: usize,
    publish: Publish<'a>,
    index: u32,
}

impl<'a> Iterator for Publishes<'a> {
    type Item = Next<'a>;

    fn next(&mut self) -> Option<Next<'a>> {
        let (from, index) = (self.from, self.index);
        let publish = Publish::decode(&self.commands[from..]).ok()?;
        self.from += publish.len();
        self.index += 1;
        Some(Next { from, publish, index })
    }
}
