//! `basic.ack`, `basic.nack`, `basic.reject` and `basic.recover`.

use alloc::collections::BTreeMap;
use alloc::format;

use warren_amqp::{ReplyCode, ToClient, basic};

use super::channel::Held;
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
        if !multiple {
            let held = unacked.remove(&tag).ok_or_else(|| unknown_tag(tag))?;
            out.settle(held.shard, held.queue, held.position, settlement);
            return Ok(1);
        }
        // Tag 0 with `multiple` is everything, also if that is nothing (spec `basic.ack`).
        if tag != 0 && !unacked.contains_key(&tag) {
            return Err(unknown_tag(tag));
        }
        let rest = if tag == 0 { BTreeMap::new() } else { unacked.split_off(&(tag + 1)) };
        let settled = core::mem::replace(unacked, rest);
        let count = settled.len() as u64;
        settle_all(settled, settlement, out);
        Ok(count)
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
        let unacked = core::mem::take(&mut self.open_channel(origin)?.unacked);
        settle_all(unacked, Settlement::Requeue, out);
        if answered {
            out.send(origin.channel, &ToClient::BasicRecoverOk(basic::RecoverOk));
        }
        Ok(())
    }
}

fn settlement(requeue: bool) -> Settlement {
    if requeue { Settlement::Requeue } else { Settlement::Done }
}

fn settle_all(held: BTreeMap<u64, Held>, settlement: Settlement, out: &mut SessionOutput) {
    for held in held.into_values() {
        out.settle(held.shard, held.queue, held.position, settlement);
    }
}

fn unknown_tag(tag: u64) -> Exception {
    Exception::channel(ReplyCode::PreconditionFailed, format!("unknown delivery tag {tag}"))
}
