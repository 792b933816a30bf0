//! `basic.ack`, `basic.nack`, `basic.reject` and `basic.recover`.

use alloc::format;

use warren_amqp::{ReplyCode, ToClient, basic};

use super::{Origin, Session, SessionOutput};
use crate::error::Exception;
use crate::queue::Settlement;

impl Session {
    pub(super) fn basic_ack(
        &mut self,
        origin: Origin,
        ack: basic::Ack,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let acknowledged = self.settle(origin, ack.delivery_tag, ack.multiple, Settlement::Done, out)?;
        out.counts.acknowledged += acknowledged;
        self.open_channel(origin)?.counters.acknowledged += acknowledged;
        Ok(())
    }

    pub(super) fn basic_nack(
        &mut self,
        origin: Origin,
        nack: basic::Nack,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let settlement = if nack.requeue { Settlement::Requeue } else { Settlement::Reject };
        self.settle(origin, nack.delivery_tag, nack.multiple, settlement, out).map(drop)
    }

    pub(super) fn basic_reject(
        &mut self,
        origin: Origin,
        reject: basic::Reject,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        // A quorum queue counts what is rejected, and does not count what is given back by `basic.nack` (RabbitMQ 4.3).
        let settlement = if reject.requeue { Settlement::Fail } else { Settlement::Reject };
        self.settle(origin, reject.delivery_tag, false, settlement, out).map(drop)
    }

    /// Answers how many messages were settled.
    fn settle(
        &mut self,
        origin: Origin,
        tag: u64,
        multiple: bool,
        settlement: Settlement,
        out: &mut SessionOutput,
    ) -> Result<u64, Exception> {
        let holder = self.key_of(origin.channel);
        let channel = self.open_channel(origin)?;
        let in_transaction = channel.transaction.is_some();
        let settled = if in_transaction {
            channel.unacked.settle_later(tag, multiple, settlement).map(|()| 0)
        } else {
            let settled = match multiple {
                true => channel.unacked.settle_up_to(holder, tag, settlement, out),
                false => channel.unacked.settle_one(holder, tag, settlement, out),
            };
            if !channel.aside.is_empty() || !channel.recalled.is_empty() {
                self.resume_deliveries(origin.channel, out);
            }
            settled
        };
        let text = || format!("unknown delivery tag {tag}");
        let settled = settled.ok_or_else(|| Exception::channel(ReplyCode::PreconditionFailed, text()))?;
        // In a transaction it is so when that is committed.
        if let Some(tracing) = self.tracing.as_mut().filter(|_| !in_transaction) {
            tracing.settled(origin.channel, tag, multiple, settlement, out);
        }
        Ok(settled)
    }

    /// `answered`: false for the deprecated `basic.recover-async`.
    pub(super) fn basic_recover(
        &mut self,
        origin: Origin,
        requeue: bool,
        answered: bool,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        if !requeue {
            // RabbitMQ's text for a redelivery to the original recipient, which it does not have either.
            return Err(Exception::connection(ReplyCode::NotImplemented, "requeue=false"));
        }
        let holder = self.key_of(origin.channel);
        self.open_channel(origin)?.unacked.settle_up_to(holder, 0, Settlement::Requeue, out);
        if let Some(tracing) = &mut self.tracing {
            tracing.settled(origin.channel, 0, true, Settlement::Requeue, out);
        }
        if answered {
            out.send(origin.channel, &ToClient::BasicRecoverOk(basic::RecoverOk));
        }
        self.resume_deliveries(origin.channel, out);
        Ok(())
    }
}
