//! What becomes of messages that clients settle, if their queue has rules: dead letters, delivery counts, and the wait
//! before a message that came back is ready again.

use alloc::vec::Vec;

use super::deal::Occasion;
use super::deaths::FORWARDER;
use super::holders::{Holders, Token};
use super::store::{Held, State, To};
use super::{ForwardReason, PositionRange, Queue, QueueKind, RetryDelay, Returned, Settlement};
use crate::identity::{ChannelKey, ConnectionId};

impl Queue {
    /// Settles what `channel` still holds in `ranges`. Other positions are skipped: what was there may have been taken back
    /// and be with another, or the queue may have been deleted and declared again since.
    pub(super) fn settle(
        &mut self,
        channel: ChannelKey,
        ranges: &[PositionRange],
        settlement: Settlement,
        occasion: &mut Occasion<'_>,
    ) {
        if self.stream.is_some() {
            return self.settle_stream(channel, ranges, settlement);
        }
        if self.rules.is_none() {
            return self.settle_plainly(channel, ranges, settlement, occasion);
        }
        if settlement == Settlement::Done {
            return self.finish(channel, ranges, occasion);
        }
        for range in ranges {
            let theirs = |held: &Held| match held.holder {
                FORWARDER => channel == ChannelKey::FORWARDER,
                holder => self.holders.is_on(holder, channel),
            };
            let held: Vec<Held> = self.store.held_in(*range).filter(theirs).collect();
            for held in held {
                self.settle_one(held, settlement, occasion);
                if held.holder != FORWARDER {
                    self.holders.released(held.holder);
                }
            }
        }
    }

    /// What `channel` holds in `ranges` is done with.
    fn finish(&mut self, channel: ChannelKey, ranges: &[PositionRange], occasion: &mut Occasion<'_>) {
        let Some(rules) = &mut self.rules else { return };
        let mut acknowledged = 0;
        for range in ranges {
            self.store.finish(*range, occasion.done, |position, holder| match holder {
                FORWARDER if channel == ChannelKey::FORWARDER => {
                    rules.dead.arrived(position, occasion.window);
                    true
                }
                FORWARDER => false,
                _ => {
                    let theirs = self.holders.release(holder, channel);
                    acknowledged += u64::from(theirs);
                    theirs
                }
            });
        }
        self.activity.counters_mut().acknowledged += acknowledged;
    }

    fn settle_plainly(
        &mut self,
        channel: ChannelKey,
        ranges: &[PositionRange],
        settlement: Settlement,
        occasion: &mut Occasion<'_>,
    ) {
        let mut finished = 0;
        for range in ranges {
            match settlement {
                Settlement::Done | Settlement::Reject => {
                    self.store.finish(*range, occasion.done, |_, holder| {
                        let theirs = self.holders.release(holder, channel);
                        finished += u64::from(theirs);
                        theirs
                    });
                }
                Settlement::Requeue | Settlement::Fail | Settlement::Return => {
                    let redelivered = settlement != Settlement::Return;
                    self.store.requeue(*range, redelivered, |holder| self.holders.release(holder, channel));
                }
            }
        }
        if settlement == Settlement::Done {
            self.activity.counters_mut().acknowledged += finished;
        }
    }

    /// Takes back everything of a connection that is gone.
    pub(super) fn detach(&mut self, connection: ConnectionId, occasion: &mut Occasion<'_>) {
        if self.holders.consumer_count() > 0 {
            self.used(occasion.now_ms);
        }
        let count = self.holders.detach(connection);
        self.take_back(count, Settlement::Fail, occasion, |holders, token| holders.is_of(token, connection));
        self.holders.forget_connection(connection);
        self.shrink();
    }

    /// Takes back the `count` messages whose holders are `theirs`. The holders are to be told.
    pub(super) fn take_back(
        &mut self,
        count: u64,
        settlement: Settlement,
        occasion: &mut Occasion<'_>,
        theirs: impl Fn(&Holders, Token) -> bool,
    ) {
        if self.rules.is_none() {
            self.store.take_back(count, |token| theirs(&self.holders, token));
        } else if count > 0 {
            let theirs = |held: &Held| held.holder != FORWARDER && theirs(&self.holders, held.holder);
            let held: Vec<Held> = self.store.all_held().filter(theirs).collect();
            held.into_iter().for_each(|held| self.settle_one(held, settlement, occasion));
        }
    }

    /// Settles a message otherwise than by an acknowledgement. Its holder is still to be told.
    fn settle_one(&mut self, held: Held, settlement: Settlement, occasion: &mut Occasion<'_>) {
        let Held { position, holder, .. } = held;
        if holder == FORWARDER {
            return match settlement {
                Settlement::Done | Settlement::Reject => {
                    self.rules.as_mut().and_then(|rules| rules.dead.arrived(position, occasion.window));
                    self.store.shift(position, State::Held, To::Gone, occasion.done);
                }
                Settlement::Requeue | Settlement::Fail | Settlement::Return => self.came_back(position, occasion),
            };
        }
        match settlement {
            Settlement::Done => drop(self.store.shift(position, State::Held, To::Gone, occasion.done)),
            Settlement::Reject => self.die(position, State::Held, ForwardReason::Rejected, occasion),
            Settlement::Return => {
                self.store.shift(position, State::Held, To::Ready { redelivered: false }, occasion.done);
            }
            Settlement::Requeue => self.give_back(position, held.delivery_count, Returned::GivenBack, occasion),
            Settlement::Fail => self.fail(held, occasion),
        }
    }

    /// A delivery has failed. Quorum queues count that, and give up at their limit.
    fn fail(&mut self, held: Held, occasion: &mut Occasion<'_>) {
        let Held { position, sequence, delivery_count, .. } = held;
        if self.settings.kind != QueueKind::Quorum {
            return self.give_back(position, 0, Returned::Failed, occasion);
        }
        let count = delivery_count.saturating_add(1);
        self.store.set_count(position, count);
        if let Some(sequence) = sequence {
            occasion.done.fail(sequence, count);
        }
        if self.settings.delivery_limit.is_some_and(|limit| count > limit) {
            return self.die(position, State::Held, ForwardReason::DeliveryLimit, occasion);
        }
        self.give_back(position, count, Returned::Failed, occasion);
    }

    /// A message is ready again, at once or after its wait.
    fn give_back(&mut self, position: u64, delivery_count: u32, returned: Returned, occasion: &mut Occasion<'_>) {
        let wait = self.settings.retry_delay.filter(|delay| delay.of == Returned::All || delay.of == returned);
        let Some(RetryDelay { min_millis, max_millis, .. }) = wait else {
            self.store.shift(position, State::Held, To::Ready { redelivered: true }, occasion.done);
            return;
        };
        let millis = min_millis.saturating_mul(delivery_count.max(1).into()).min(max_millis);
        let aside = To::Aside { redelivered: true };
        if self.store.shift(position, State::Held, aside, occasion.done).is_some()
            && let Some(rules) = &mut self.rules
        {
            rules.returning.insert((occasion.now_ms.saturating_add(millis), position));
        }
    }

    /// What has waited for long enough is ready again.
    pub(super) fn wake(&mut self, occasion: &mut Occasion<'_>) {
        let Some(rules) = &mut self.rules else { return };
        while let Some((_, position)) = rules.returning.first().copied().filter(|(at, _)| *at <= occasion.now_ms) {
            rules.returning.pop_first();
            self.store.shift(position, State::Aside, To::Ready { redelivered: true }, occasion.done);
        }
    }
}
