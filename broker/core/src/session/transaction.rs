//! Class `tx`: publishes and acknowledgements of a channel that take effect together, at `tx.commit`, or not at all.
//!
//! Messages are routed when they are published and handed to their queues when they are committed. As in RabbitMQ a
//! commit is not atomic over several queues: what it promises is that its publishes are durable when it is answered.
//! Acknowledgements are on their way to the log then, as they always are: see `SETTLE_DELAY` in the shell's limits.

use alloc::boxed::Box;
use alloc::format;

use warren_amqp::{ReplyCode, ToClient, tx};

use super::confirm::Confirms;
use super::properties::Checked;
use super::publish::{Published, Surroundings};
use super::{Origin, Session, SessionOutput, Waiting};
use crate::error::Exception;
use crate::identity::QueueId;
use crate::limits::TRANSACTION_BYTES;
use crate::queue::Receipt;
use crate::topology::Routes;

/// What a publish may cost in each shard beside its octets: a run of its own.
const RUN_COST: u64 = 256;

/// What a channel has published since its last commit or rollback. What it has acknowledged is kept with what it has not.
#[derive(Debug)]
pub(super) struct Transaction {
    /// What its publishes come to.
    output: SessionOutput,
    /// Which of them have not been answered for.
    pub(super) answers: Confirms,
    /// Octets in `output`.
    bytes: u64,
    /// A queue has refused a message that is being committed.
    refused: bool,
}

impl Transaction {
    fn new(answers: Confirms) -> Self {
        Self { output: SessionOutput::default(), answers, bytes: 0, refused: false }
    }

    /// Takes in a message that is handed to its queues at the commit. `uncommitted`: octets of all channels.
    pub(super) fn publish(
        &mut self,
        published: Published<'_>,
        content: &Checked<'_>,
        routes: &Routes,
        receipt: Receipt,
        surroundings: Surroundings<'_>,
        uncommitted: &mut u64,
    ) -> Result<(), Exception> {
        let copies = routes.by_shard().count().max(1) as u64;
        let bytes = copies * (published.len() + RUN_COST) + routes.len() as u64 * size_of::<QueueId>() as u64;
        self.reserve(bytes, uncommitted)?;
        let receipt = Receipt { first: self.answers.next(), ..receipt };
        let runs = published.hand_over(content, routes, Some(receipt), surroundings, &mut self.output);
        self.answers.published(runs);
        Ok(())
    }

    /// Makes room for so many octets.
    fn reserve(&mut self, bytes: u64, uncommitted: &mut u64) -> Result<(), Exception> {
        // The largest message must get through.
        if *uncommitted > 0 && *uncommitted + bytes > TRANSACTION_BYTES {
            let text =
                format!("publishes that wait for tx.commit exceed {TRANSACTION_BYTES} octets; commit more often");
            return Err(Exception::channel(ReplyCode::PreconditionFailed, text));
        }
        *uncommitted += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Forgets the publishes.
    fn roll_back(&mut self) {
        self.output = SessionOutput::default();
        self.answers.withdraw();
        self.bytes = 0;
    }
}

impl Session {
    pub(super) fn tx_select(&mut self, origin: Origin, out: &mut SessionOutput) -> Result<(), Exception> {
        let generation = self.confirm_generation;
        let channel = self.open_channel(origin)?;
        if channel.confirms.is_some() {
            let text = "cannot switch from confirm to tx mode";
            return Err(Exception::channel(ReplyCode::PreconditionFailed, text));
        }
        if channel.transaction.is_none() {
            channel.transaction = Some(Box::new(Transaction::new(Confirms::new(generation))));
            self.confirm_generation = generation.wrapping_add(1);
        }
        out.send(origin.channel, &ToClient::TxSelectOk(tx::SelectOk));
        Ok(())
    }

    /// Hands over the publishes, then the settlements. Answered when all shards have: no frame is read meanwhile.
    pub(super) fn tx_commit(&mut self, origin: Origin, out: &mut SessionOutput) -> Result<(), Exception> {
        let transaction = self.transaction(origin)?;
        let bytes = core::mem::take(&mut transaction.bytes);
        out.absorb(core::mem::take(&mut transaction.output));
        let holder = self.key_of(origin.channel);
        if let Some(channel) = self.channels.get_mut(origin.channel)
            && let Some(tracing) = &mut self.tracing
        {
            for (tag, settlement) in channel.unacked.settled_later() {
                tracing.settled(origin.channel, tag, false, settlement, out);
            }
        }
        let channel = self.open_channel(origin)?;
        let acknowledged = channel.unacked.commit(holder, out);
        channel.counters.acknowledged += acknowledged;
        out.counts.acknowledged += acknowledged;
        self.uncommitted_bytes -= bytes;
        self.waiting = Some(Waiting::Commit { origin });
        self.confirms_due(origin.channel);
        self.resume_deliveries(origin.channel, out);
        Ok(())
    }

    pub(super) fn tx_rollback(&mut self, origin: Origin, out: &mut SessionOutput) -> Result<(), Exception> {
        self.transaction(origin)?;
        self.roll_back(origin.channel);
        out.send(origin.channel, &ToClient::TxRollbackOk(tx::RollbackOk));
        Ok(())
    }

    fn transaction(&mut self, origin: Origin) -> Result<&mut Transaction, Exception> {
        let transaction = self.open_channel(origin)?.transaction.as_deref_mut();
        transaction.ok_or_else(|| Exception::channel(ReplyCode::PreconditionFailed, "channel is not transactional"))
    }

    /// Undoes what a channel has done and not committed, if it has.
    pub(super) fn roll_back(&mut self, number: u16) {
        if let Some(channel) = self.channels.get_mut(number)
            && let Some(transaction) = &mut channel.transaction
        {
            self.uncommitted_bytes -= transaction.bytes;
            transaction.roll_back();
            channel.unacked.roll_back();
        }
    }

    /// Answers the commit of a channel if nothing of it is under way any more.
    pub(super) fn finish_commit(&mut self, number: u16, out: &mut SessionOutput) {
        let Some(Waiting::Commit { origin }) = self.waiting else { return };
        let Some(channel) = self.channels.get_mut(number).filter(|_| origin.channel == number) else { return };
        let Some(transaction) = &mut channel.transaction else { return };
        while let Some(answer) = transaction.answers.due() {
            transaction.refused |= answer.refused;
        }
        if transaction.answers.outstanding() > 0 {
            return;
        }
        self.waiting = None;
        if transaction.refused {
            let exception = Exception::channel(ReplyCode::PreconditionFailed, "partial tx completion");
            return self.fail(origin, exception, out);
        }
        out.send(number, &ToClient::TxCommitOk(tx::CommitOk));
    }
}
