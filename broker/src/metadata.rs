//! The metadata task: declares, binds and deletes, one after the other, and publishes the topology.
//!
//! Requests are checked and made true on a working copy, then logged together as one entry. Only when that is durable
//! does everybody see the new snapshot and do those who asked get their answers.
//!
//! Whatever the task waits for, it hears what the log says: a shard may answer only when there is space for its entry,
//! and that may need a checkpoint, which needs the metadata's snapshot.

use std::collections::VecDeque;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::{Span, info};
use warren_core::queue::{DeleteRefusal, Deleted, ShardInput, ShardSummary};
use warren_core::session::{MetadataAnswer, MetadataRequest};
use warren_core::topology::{AdministrationChange, Change, Identity, Outcome, QueueRecord, Topology};
use warren_core::{ConnectionId, Exception, QueueId, ShardId};
use warren_replication::Group;

use crate::audit::PendingChange;
use crate::checkpoint::{Contribution, ShardState};
use crate::connections::{Connections, Ended};
use crate::inbox::InboxSender;
use crate::limits::METADATA_REQUESTS_AT_ONCE;
use crate::log::LogSignal;
use crate::metrics::{Metrics, Traffic};
use crate::node;
use crate::shard::{self, ShardMessage};
use crate::statistics::{RaftReport, ShardReport};

/// The answer to a request.
pub(crate) type Answer = Result<MetadataAnswer, Exception>;

#[derive(Debug)]
enum Message {
    /// With the span of who asks.
    Request(Box<MetadataRequest>, oneshot::Sender<Answer>, Span),
    /// An auto-delete queue has lost its last consumer.
    QueueUnused(QueueId),
}

/// How others reach the metadata task. The channel is unbounded, what goes through it is not: a connection asks one
/// question at a time, and so does a request to the management API, but for definitions, which ask
/// [`METADATA_REQUESTS_AT_ONCE`], a few imports at a time.
#[derive(Debug, Clone)]
pub(crate) struct MetadataHandle {
    messages: mpsc::UnboundedSender<Message>,
}

impl MetadataHandle {
    pub(crate) fn request(&self, request: MetadataRequest) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        // If the node is stopping the reply is dropped, which the receiver sees.
        let _ = self.messages.send(Message::Request(Box::new(request), reply, Span::current()));
        answer
    }

    pub(crate) fn queue_unused(&self, queue: QueueId) {
        let _ = self.messages.send(Message::QueueUnused(queue));
    }
}

/// Where shards answer deletes.
#[derive(Debug, Clone)]
pub(crate) struct Deletions(mpsc::UnboundedSender<(u64, Deleted)>);

impl Deletions {
    pub(crate) fn answer(&self, request: u64, deleted: Deleted) {
        let _ = self.0.send((request, deleted));
    }
}

/// The task's ends of its channels, made before the shards that need the other ends.
pub(crate) struct Mailbox {
    messages: mpsc::UnboundedReceiver<Message>,
    deleted: mpsc::UnboundedReceiver<(u64, Deleted)>,
}

pub(crate) fn mailbox() -> (MetadataHandle, Deletions, Mailbox) {
    let (sender, messages) = mpsc::unbounded_channel();
    let (answers, deleted) = mpsc::unbounded_channel();
    (MetadataHandle { messages: sender }, Deletions(answers), Mailbox { messages, deleted })
}

/// The task's state.
pub(crate) struct MetadataTask {
    pub(crate) mailbox: Mailbox,
    /// As it will be when everything under way is durable.
    pub(crate) working: Topology,
    /// As the entries that are committed made it.
    pub(crate) committed: Topology,
    /// As everybody sees it: queues are in their shards before they are here.
    pub(crate) published: Arc<ArcSwap<Topology>>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) group: Group,
    pub(crate) signals: mpsc::UnboundedReceiver<LogSignal>,
    /// By shard number; the first is the metadata's own and takes nothing.
    pub(crate) shards: Vec<InboxSender>,
    pub(crate) last_delete: u64,
    pub(crate) metrics: Metrics,
}

/// What a batch of requests came to.
#[derive(Default)]
struct Batch {
    /// Changes for the log.
    entry: Vec<u8>,
    /// Queues that begin: their shards are told before anybody can see them, as they are of new settings.
    created: Vec<Arc<QueueRecord>>,
    /// Users and virtual hosts that end, and their connections with them.
    ended: Ended,
    /// Answers to be given when the entry is durable.
    answers: VecDeque<(oneshot::Sender<Answer>, Answer)>,
    /// What the audit trail is told then.
    audited: Vec<PendingChange>,
}

/// Who asks for a change, and the span that says from where.
type Asker<'a> = (&'a Identity, &'a Span);

/// The log or a shard has stopped: so does the task.
struct Stopped;

impl MetadataTask {
    /// Runs until the node stops.
    pub(crate) async fn run(mut self) {
        let mut messages = Vec::new();
        while self.carry_out_next(&mut messages).await.is_ok() {}
        info!("the node is stopping, and so does the metadata");
    }

    async fn carry_out_next(&mut self, messages: &mut Vec<Message>) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            signal = self.signals.recv() => self.signal(signal).map(drop),
            count = self.mailbox.messages.recv_many(messages, METADATA_REQUESTS_AT_ONCE) => match count {
                0 => Err(Stopped),
                _ => self.carry_out(messages).await,
            },
        }
    }

    async fn carry_out(&mut self, messages: &mut Vec<Message>) -> Result<(), Stopped> {
        let mut batch = Batch::default();
        let before = self.working.clone();
        for message in messages.drain(..) {
            match message {
                Message::Request(request, reply, span) => {
                    let answer = self.prepare(*request, &span, &mut batch).await?;
                    batch.answers.push_back((reply, answer));
                }
                Message::QueueUnused(queue) => self.delete_unused(queue, &mut batch).await?,
            }
        }
        if !batch.entry.is_empty() {
            self.log(std::mem::take(&mut batch.entry)).await?;
        }
        for queue in batch.created.iter().chain(&self.working.reconfigured(&before)) {
            self.create_in_shard(queue).await?;
        }
        self.published.store(Arc::new(self.working.clone()));
        self.connections.ended(batch.ended);
        batch.audited.into_iter().for_each(PendingChange::tell);
        for (reply, answer) in batch.answers {
            // The connection may be gone.
            let _ = reply.send(answer);
        }
        Ok(())
    }

    async fn prepare(&mut self, request: MetadataRequest, span: &Span, batch: &mut Batch) -> Result<Answer, Stopped> {
        match request {
            MetadataRequest::Topology(request) => {
                let prepared = match self.working.prepare(&request) {
                    Ok(prepared) => prepared,
                    Err(exception) => return Ok(Err(exception)),
                };
                if let Outcome::Queue(_) = &prepared.outcome {
                    self.metrics.add(&Traffic { queues_declared: 1, ..Traffic::default() });
                }
                if let Outcome::Released(queues) = &prepared.outcome {
                    for queue in queues {
                        self.delete_in_shard(queue.shard, queue.id, (false, false), false).await?.ok();
                    }
                }
                self.apply(&prepared.changes, Some((&request.identity, span)), batch).await?;
                Ok(Ok(MetadataAnswer::Outcome(prepared.outcome)))
            }
            MetadataRequest::DeleteQueue { connection, identity, vhost, name, if_unused, if_empty } => {
                self.delete_queue((connection, (&identity, span)), &vhost, &name, (if_unused, if_empty), batch).await
            }
        }
    }

    async fn delete_queue(
        &mut self,
        (connection, asker): (ConnectionId, Asker<'_>),
        vhost: &str,
        name: &str,
        (if_unused, if_empty): (bool, bool),
        batch: &mut Batch,
    ) -> Result<Answer, Stopped> {
        let queue = match self.working.prepare_delete_queue(asker.0, vhost, name, connection) {
            Ok(Some(queue)) => queue,
            Ok(None) => return Ok(Ok(MetadataAnswer::Deleted(0))),
            Err(exception) => return Ok(Err(exception)),
        };
        // A queue of this batch is not in its shard yet, so it has neither messages nor consumers.
        let in_shard = batch.created.iter().all(|created| created.id != queue.id);
        let deleted = if in_shard {
            self.delete_in_shard(queue.shard, queue.id, (if_unused, if_empty), false).await?
        } else {
            Ok(0)
        };
        Ok(match deleted {
            Ok(count) => {
                self.apply(&self.working.removal(queue.id), Some(asker), batch).await?;
                Ok(MetadataAnswer::Deleted(count))
            }
            Err(refusal) => Err(refused(refusal, &queue)),
        })
    }

    async fn delete_unused(&mut self, id: QueueId, batch: &mut Batch) -> Result<(), Stopped> {
        let Some(queue) = self.working.queue_by_id(id).cloned() else { return Ok(()) };
        // Somebody may have used it since; then the queue stays.
        if self.delete_in_shard(queue.shard, id, (false, false), true).await?.is_ok() {
            self.apply(&self.working.removal(id), None, batch).await?;
        }
        Ok(())
    }

    /// Makes changes true on the working copy. Those that nobody asks for, the node makes itself.
    async fn apply(&mut self, changes: &[Change], asker: Option<Asker<'_>>, batch: &mut Batch) -> Result<(), Stopped> {
        for change in changes {
            if let Some((identity, span)) = asker {
                batch.audited.extend(PendingChange::new(identity, span, change, &self.working));
            }
            if let Change::DeleteQueue { id, .. } = change {
                self.end_store(*id, batch).await?;
            }
            if change.is_logged() {
                change.encode(&mut batch.entry);
            }
            match change {
                Change::Administration(AdministrationChange::DeleteUser { name }) => {
                    batch.ended.users.push(Arc::clone(name));
                }
                Change::Administration(AdministrationChange::DeleteVhost { name }) => {
                    batch.ended.vhosts.push(Arc::clone(name));
                }
                Change::CreateQueue(queue) => {
                    self.metrics.add(&Traffic { queues_created: 1, ..Traffic::default() });
                    batch.created.push(queue.clone());
                }
                Change::DeleteQueue { id, .. } => {
                    self.metrics.add(&Traffic { queues_deleted: 1, ..Traffic::default() });
                    batch.created.retain(|created| created.id != *id);
                }
                _ => {}
            }
            self.working.apply(change);
        }
        Ok(())
    }

    /// Takes a delayed exchange's store from its shard. It ends with its exchange, whatever brings that about; of other
    /// queues their shards know already.
    async fn end_store(&mut self, id: QueueId, batch: &Batch) -> Result<(), Stopped> {
        let store = self.working.queue_by_id(id).filter(|queue| queue.delayed_exchange().is_some()).cloned();
        if let Some(store) = store
            && batch.created.iter().all(|created| created.id != id)
        {
            self.delete_in_shard(store.shard, id, (false, false), false).await?.ok();
        }
        Ok(())
    }

    /// Logs an entry and waits until it is committed.
    async fn log(&mut self, entry: Vec<u8>) -> Result<(), Stopped> {
        if let Err(error) = self.group.propose(vec![Bytes::from(entry)]) {
            shard::stop(ShardId::METADATA, &error);
            return Err(Stopped);
        }
        loop {
            let signal = self.signals.recv().await;
            if self.signal(signal)? > 0 {
                return Ok(());
            }
        }
    }

    /// Takes in what the log says; `None` if it has ended. Answers how many entries that committed.
    fn signal(&mut self, signal: Option<LogSignal>) -> Result<u64, Stopped> {
        match signal.ok_or(Stopped)? {
            LogSignal::Synced { kind, index, position } => {
                self.group.synced(kind, index, position);
                let mut committed = 0;
                while self.group.take_committed().is_some() {
                    committed += 1;
                    // At most one entry is under way, and what has been worked out is in it.
                    self.committed = self.working.clone();
                }
                return Ok(committed);
            }
            LogSignal::Writable => self.group.retry().map_err(|_| Stopped)?,
            // Messages are not the metadata's.
            LogSignal::Relocate(_) | LogSignal::Statistics(..) | LogSignal::Drain(..) | LogSignal::Sample(_) => {}
            LogSignal::Summary(reply) => {
                let raft = RaftReport { standing: self.group.standing(), ..RaftReport::default() };
                // Whoever asked may have stopped waiting.
                let _ = reply.send(ShardReport { shard: ShardId::METADATA, summary: ShardSummary::default(), raft });
            }
            LogSignal::Checkpoint(reply) => {
                let state = ShardState::Metadata(Bytes::from(self.committed.snapshot()));
                // A checkpoint that was given up misses nothing.
                let _ = reply.send(Contribution { shard: ShardId::METADATA, last: self.group.last_committed(), state });
            }
        }
        Ok(0)
    }

    async fn create_in_shard(&mut self, queue: &QueueRecord) -> Result<(), Stopped> {
        self.send(queue.shard, node::create(queue, &self.working)).await
    }

    async fn delete_in_shard(
        &mut self,
        shard: ShardId,
        queue: QueueId,
        (if_unused, if_empty): (bool, bool),
        still_unused: bool,
    ) -> Result<Deleted, Stopped> {
        self.last_delete += 1;
        let request = self.last_delete;
        self.send(shard, ShardInput::Delete { queue, if_unused, if_empty, still_unused, request }).await?;
        loop {
            tokio::select! {
                answer = self.mailbox.deleted.recv() => {
                    let (answered, deleted) = answer.ok_or(Stopped)?;
                    if answered == request {
                        return Ok(deleted);
                    }
                }
                signal = self.signals.recv() => drop(self.signal(signal)?),
            }
        }
    }

    async fn send(&mut self, shard: ShardId, input: ShardInput) -> Result<(), Stopped> {
        let sender = self.shards.get(usize::from(shard.0)).ok_or(Stopped)?.clone();
        let sending = sender.send(ShardMessage::Inputs(vec![input]));
        tokio::pin!(sending);
        loop {
            tokio::select! {
                sent = &mut sending => return sent.map_err(|_| Stopped),
                signal = self.signals.recv() => drop(self.signal(signal)?),
            }
        }
    }
}

/// RabbitMQ's words for a `queue.delete` whose condition does not hold.
fn refused(refusal: DeleteRefusal, queue: &QueueRecord) -> Exception {
    let reason = match refusal {
        DeleteRefusal::InUse => "in use",
        DeleteRefusal::NotEmpty => "not empty",
    };
    let text = format!("queue '{}' in vhost '{}' {reason}", queue.name, queue.vhost);
    Exception::channel(warren_amqp::ReplyCode::PreconditionFailed, text)
}
