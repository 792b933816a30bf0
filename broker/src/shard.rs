//! One task per shard: moves inputs into the shard machine, entries into the log, events to connections.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info};
use warren_core::ShardId;
use warren_core::queue::{Shard, ShardInput, ShardOutput};
use warren_replication::{Group, ProposeError};
use warren_storage::{AppendError, Kind, LogHandle, Position, Record, Tag};

use crate::alarms::AlarmSet;
use crate::bodies::LogBodies;
use crate::checkpoint::{Contribution, Relocation, ShardState};
use crate::clock::Clock;
use crate::connections::Connections;
use crate::inbox::Inbox;
use crate::limits::{LONGEST_SLEEP, SETTLE_DELAY, SHARD_BATCHES_AT_ONCE};
use crate::log::{LogSignal, NodeLog, location};
use crate::metadata::{Deletions, MetadataHandle};
use crate::metrics::Metrics;
use crate::node::Shared;
use crate::statistics::{RaftReport, ShardReport, Statistics};
use crate::telemetry;

/// What a shard task is sent.
#[derive(Debug)]
pub(crate) enum ShardMessage {
    /// Inputs, in order.
    Inputs(Vec<ShardInput>),
    /// Answer when the log has everything that came before.
    Drain(oneshot::Sender<()>),
}

/// A shard and its surroundings.
pub(crate) struct ShardTask {
    id: ShardId,
    shard: Shard,
    group: Group,
    bodies: LogBodies,
    log: LogHandle,
    inputs: Inbox,
    signals: mpsc::UnboundedReceiver<LogSignal>,
    clock: Clock,
    connections: Arc<Connections>,
    metadata: MetadataHandle,
    deletions: Deletions,
    statistics: Arc<Statistics>,
    metrics: Metrics,
    /// Octets that may wait for the log; beyond, no inputs are taken.
    waiting_bytes: usize,
    /// While space on the volume is low all inputs are taken: among them are the acknowledgements that give it back.
    alarms: watch::Receiver<AlarmSet>,
    /// Who waits for the log to have everything.
    draining: Vec<oneshot::Sender<()>>,
    /// Relocations on their way to the log, oldest first.
    relocations: VecDeque<Relocation>,
    /// When settlements that nothing urgent has taken along are logged by themselves.
    settle_at: Option<Instant>,
    /// When the entries that are under way were proposed, oldest first.
    proposed: VecDeque<Instant>,
    /// How long the last entry took from there to its commit.
    commit_latency: Duration,
    /// The last entry that a checkpoint was given.
    snapshot: u64,
}

impl ShardTask {
    pub(crate) fn new(
        (id, shard): (ShardId, Shard),
        group: Group,
        (inputs, signals): (Inbox, mpsc::UnboundedReceiver<LogSignal>),
        log: &NodeLog,
        shared: &Shared,
        deletions: Deletions,
    ) -> Self {
        Self {
            id,
            shard,
            group,
            bodies: log.bodies(),
            log: log.writer.handle(),
            inputs,
            signals,
            clock: shared.clock,
            connections: shared.connections.clone(),
            metadata: shared.metadata.clone(),
            deletions,
            statistics: shared.statistics.clone(),
            metrics: shared.metrics.clone(),
            waiting_bytes: log.bounds.waiting_bytes,
            alarms: shared.alarms.subscribe(),
            draining: Vec::new(),
            relocations: VecDeque::new(),
            settle_at: None,
            proposed: VecDeque::new(),
            commit_latency: Duration::ZERO,
            snapshot: 0,
        }
    }

    /// Runs until the node drops the sending ends, or the log stops.
    pub(crate) async fn run(mut self) {
        let mut output = ShardOutput::default();
        let mut messages = Vec::with_capacity(SHARD_BATCHES_AT_ONCE);
        // What came due while the node was down.
        self.tick(&mut output);
        self.post(&mut output);
        loop {
            let takes_inputs = self.takes_inputs();
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                signal = self.signals.recv() => match signal.map(|signal| self.signal(signal, &mut output)) {
                    Some(Ok(())) => {}
                    Some(Err(error)) => return stop(self.id, &error),
                    None => return,
                },
                count = self.inputs.recv_many(&mut messages, SHARD_BATCHES_AT_ONCE), if takes_inputs => match count {
                    0 => return,
                    _ => self.take_in(&mut messages, &mut output),
                },
                _ = self.alarms.changed(), if !takes_inputs => {}
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => self.tick(&mut output),
            }
            self.post(&mut output);
            if let Err(error) = self.propose() {
                return stop(self.id, &error);
            }
            if self.shard.is_drained() {
                // Whoever waits may have given up.
                for reply in self.draining.drain(..) {
                    let _ = reply.send(());
                }
            }
        }
    }

    fn takes_inputs(&self) -> bool {
        self.shard.waiting_bytes() < self.waiting_bytes || self.alarms.borrow().disk().is_some()
    }

    /// When there is something to do though nobody says so: settlements are to be logged, or something in a queue is due.
    /// Nothing wakes a shard in which neither is the case.
    fn wake_at(&self) -> Option<Instant> {
        let due = self.shard.next_deadline().map(|at_ms| {
            let wait = Duration::from_millis(at_ms.saturating_sub(self.clock.unix_millis()));
            Instant::now() + wait.min(LONGEST_SLEEP)
        });
        self.settle_at.into_iter().chain(due).min()
    }

    fn tick(&mut self, output: &mut ShardOutput) {
        self.shard.tick(self.clock.unix_millis(), &mut self.bodies, output);
    }

    fn take_in(&mut self, messages: &mut Vec<ShardMessage>, output: &mut ShardOutput) {
        self.statistics.set_busy(self.id);
        self.tick(output);
        for message in messages.drain(..) {
            match message {
                ShardMessage::Inputs(inputs) => {
                    for input in inputs {
                        self.shard.handle(input, &mut self.bodies, output);
                    }
                }
                ShardMessage::Drain(reply) => self.draining.push(reply),
            }
        }
        self.statistics.tell(self.id);
    }

    fn signal(&mut self, signal: LogSignal, output: &mut ShardOutput) -> Result<(), ProposeError> {
        match signal {
            LogSignal::Relocate(relocation) => self.relocate(relocation),
            // Whoever asked may have stopped waiting.
            LogSignal::Summary(reply) => drop(reply.send(self.report())),
            LogSignal::Statistics(filter, reply) => {
                self.tick(output);
                drop(reply.send(self.shard.statistics(&filter)));
            }
            LogSignal::Drain(connections, drained, reply) => {
                self.tick(output);
                let _ = reply.send(self.shard.drain(&connections, drained, &mut self.bodies, output));
            }
            LogSignal::Sample(reply) => {
                self.tick(output);
                drop(reply.send(self.shard.sample()));
            }
            LogSignal::Synced { kind: Kind::Relocation, position, .. } => self.relocated(position),
            LogSignal::Synced { kind, index, position } => {
                self.statistics.set_busy(self.id);
                self.group.synced(kind, index, position);
                self.tick(output);
                while let Some(position) = self.group.take_committed() {
                    if let Some(proposed) = self.proposed.pop_front() {
                        self.commit_latency = proposed.elapsed();
                        self.metrics.entry_committed(self.commit_latency);
                    }
                    self.shard.committed(location(position), &mut self.bodies, output);
                }
                self.statistics.tell(self.id);
            }
            LogSignal::Writable => self.group.retry()?,
            LogSignal::Checkpoint(reply) => {
                let state = ShardState::Queues(self.shard.snapshot());
                self.snapshot = self.group.last_committed().index;
                // A checkpoint that was given up misses nothing.
                let _ = reply.send(Contribution { shard: self.id, last: self.group.last_committed(), state });
            }
        }
        Ok(())
    }

    fn report(&self) -> ShardReport {
        let raft = RaftReport {
            standing: self.group.standing(),
            snapshot: self.snapshot,
            commit_latency: self.commit_latency,
        };
        ShardReport { shard: self.id, summary: self.shard.summary(), raft }
    }

    /// Writes messages again, as this node's own affair: where a body lies differs from node to node.
    fn relocate(&mut self, relocation: Relocation) {
        let tag = Tag { kind: Kind::Relocation, shard: self.id.0, term: 0, index: 0 };
        match Record::new(tag, vec![relocation.payload.clone()]).map(|record| self.log.try_append(record)) {
            Ok(Ok(())) => self.relocations.push_back(relocation),
            Ok(Err(AppendError::Full(_) | AppendError::Stopped)) => debug!("no room to move messages; the next time"),
            Err(error) => error!(%error, "messages cannot be moved; their segment stays"),
        }
    }

    fn relocated(&mut self, position: Position) {
        let Some(relocation) = self.relocations.pop_front() else { return };
        if let Err(error) = self.shard.relocated(location(position), &relocation.payload) {
            error!(%error, "a relocation of our own cannot be read; ending the process");
            telemetry::abort();
        }
    }

    /// Logs what waits. Nobody is told when a settlement is durable, so settlements alone wait a little for company.
    fn propose(&mut self) -> Result<(), ProposeError> {
        let mut due = self.settle_at.is_some_and(|at| at <= Instant::now()) || !self.draining.is_empty();
        while self.group.has_room() && (due || self.shard.has_urgent()) {
            let Some(entry) = self.shard.take_entry(self.clock.unix_millis()) else { break };
            self.group.propose(entry)?;
            self.proposed.push_back(Instant::now());
            due = due && self.shard.waiting_bytes() > 0;
        }
        self.settle_at = match self.settle_at {
            _ if self.shard.waiting_bytes() == 0 => None,
            Some(at) if at > Instant::now() => Some(at),
            _ => Some(Instant::now() + SETTLE_DELAY),
        };
        Ok(())
    }

    fn post(&mut self, output: &mut ShardOutput) {
        for (connection, events) in output.take_events() {
            self.connections.post(self.id, connection, events);
        }
        for queue in output.unused.drain(..) {
            self.metadata.queue_unused(queue);
        }
        for (request, deleted) in output.deleted.drain(..) {
            self.deletions.answer(request, deleted);
        }
    }
}

/// Says why nothing can be logged any more. That is no news when the log has stopped, and otherwise a defect: the machines
/// bound every entry below what the log takes, and going on would leave clients waiting for confirms that never come.
pub(crate) fn stop(shard: ShardId, error: &ProposeError) {
    match error {
        ProposeError::Stopped(_) => info!(shard = shard.0, "the log has stopped, and so does the shard"),
        ProposeError::Unfit(_) | ProposeError::Empty | ProposeError::NotLeading(_) => {
            error!(shard = shard.0, %error, "an entry cannot be logged; ending the process");
            telemetry::abort();
        }
    }
}
