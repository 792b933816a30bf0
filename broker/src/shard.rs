//! One task per shard: moves inputs into the shard machine, entries into the log, events to connections.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info};
use warren_core::ShardId;
use warren_core::queue::{Shard, ShardInput, ShardOutput, ShardTotals};
use warren_replication::{Group, ProposeError};

use crate::connections::Connections;
use crate::limits::{SHARD_BATCHES_AT_ONCE, SHARD_WAITING_BYTES};
use crate::log::LogSignal;
use crate::metadata::{Deletions, MetadataHandle};

/// What a shard task is sent.
#[derive(Debug)]
pub(crate) enum ShardMessage {
    /// Inputs, in order.
    Inputs(Vec<ShardInput>),
    /// How many messages and consumers it has.
    Totals(oneshot::Sender<ShardTotals>),
    /// Answer when the log has everything that came before.
    Drain(oneshot::Sender<()>),
}

/// A shard and its surroundings.
pub(crate) struct ShardTask {
    pub(crate) id: ShardId,
    pub(crate) shard: Shard,
    pub(crate) group: Group,
    pub(crate) inputs: mpsc::Receiver<ShardMessage>,
    pub(crate) signals: mpsc::UnboundedReceiver<LogSignal>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) metadata: MetadataHandle,
    pub(crate) deletions: Deletions,
    /// Who waits for the log to have everything.
    pub(crate) draining: Vec<oneshot::Sender<()>>,
}

impl ShardTask {
    /// Runs until the node drops the sending ends, or the log stops.
    pub(crate) async fn run(mut self) {
        let mut output = ShardOutput::default();
        let mut messages = Vec::with_capacity(SHARD_BATCHES_AT_ONCE);
        loop {
            let takes_inputs = self.shard.waiting_bytes() < SHARD_WAITING_BYTES;
            tokio::select! {
                biased;
                signal = self.signals.recv() => match signal.map(|signal| self.signal(signal, &mut output)) {
                    Some(Ok(())) => {}
                    Some(Err(error)) => return self.stop(&error),
                    None => return,
                },
                count = self.inputs.recv_many(&mut messages, SHARD_BATCHES_AT_ONCE), if takes_inputs => match count {
                    0 => return,
                    _ => self.take_in(&mut messages, &mut output),
                },
            }
            self.post(&mut output);
            if let Err(error) = self.propose() {
                return self.stop(&error);
            }
            if self.shard.is_drained() {
                // Whoever waits may have given up.
                for reply in self.draining.drain(..) {
                    let _ = reply.send(());
                }
            }
        }
    }

    fn take_in(&mut self, messages: &mut Vec<ShardMessage>, output: &mut ShardOutput) {
        for message in messages.drain(..) {
            match message {
                ShardMessage::Inputs(inputs) => inputs.into_iter().for_each(|input| self.shard.handle(input, output)),
                // Whoever asked may have stopped waiting.
                ShardMessage::Totals(reply) => drop(reply.send(self.shard.totals())),
                ShardMessage::Drain(reply) => self.draining.push(reply),
            }
        }
    }

    fn signal(&mut self, signal: LogSignal, output: &mut ShardOutput) -> Result<(), ProposeError> {
        match signal {
            LogSignal::Synced(index) => {
                for _ in 0..self.group.synced(index) {
                    self.shard.committed(output);
                }
                Ok(())
            }
            LogSignal::Writable => self.group.retry(),
        }
    }

    fn propose(&mut self) -> Result<(), ProposeError> {
        while self.group.has_room() {
            let Some(entry) = self.shard.take_entry(unix_millis()) else { break };
            self.group.propose(entry)?;
        }
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

    fn stop(&self, error: &ProposeError) {
        match error {
            ProposeError::Stopped(_) => info!(shard = self.id.0, "the log has stopped, and so does the shard"),
            ProposeError::Unfit(_) | ProposeError::TooLong(_) => {
                // The machines bound every entry below what the log takes, so this is a defect; going on would
                // leave clients waiting for confirms that never come.
                error!(shard = self.id.0, %error, "an entry cannot be logged; ending the process");
                std::process::abort();
            }
        }
    }
}

/// Wall-clock milliseconds since the Unix epoch; 0 before it.
fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
