//! `basic.ack`, `basic.nack`, `basic.reject` and `basic.recover`.

use alloc::format;

use warren_amqp::{ReplyCode, ToClient, basic};

use super::{Origin, Session, SessionOutput};
use crate::error::Exception;
use crate::queue::{PositionRange, Settlement};

impl Session {
    pub(super) fn basic_ack(
        &mut self,
        origin: Origin,
        ack: basic::Ack,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let acknowledged = self.settle(origin, ack.delivery_tag, ack.multiple, Settlement::Done, out)?;
        out.counts.acknowledged += acknowledged;
        Ok(())
    }

    pub(super) fn basic_nack(
        &mut self,
        origin: Origin,
        nack: basic::Nack,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        self.settle(origin, nack.delivery_tag, nack.multiple, settlement(nack.requeue), out).map(drop)
    }

    pub(super) fn basic_reject(
        &mut self,
        origin: Origin,
        reject: basic::Reject,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        self.settle(origin, reject.delivery_tag, false, settlement(reject.requeue), out).map(drop)
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
        let unacked = &mut self.open_channel(origin)?.unacked;
        if multiple {
            return unacked.settle_up_to(tag, settlement, out).ok_or_else(|| unknown_tag(tag));
        }
        let held = unacked.take(tag).ok_or_else(|| unknown_tag(tag))?;
        out.settle(held.shard, held.queue, PositionRange { first: held.position, len: 1 }, settlement);
        Ok(1)
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
        self.open_channel(origin)?.unacked.settle_up_to(0, Settlement::Requeue, out);
        if answered {
            out.send(origin.channel, &ToClient::BasicRecoverOk(basic::RecoverOk));
        }
        Ok(())
    }
}

fn settlement(requeue: bool) -> Settlement {
    if requeue { Settlement::Requeue } else { Settlement::Done }
}

fn unknown_tag(tag: u64) -> Exception {
    Exception::channel(ReplyCode::PreconditionFailed, format!("unknown delivery tag {tag}"))
}
