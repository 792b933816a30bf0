//! Publisher confirms of one channel: which publishes wait, and what may be acknowledged now.

use alloc::collections::VecDeque;

use warren_amqp::{ToClient, basic};

use super::Session;

/// The client counts publishes from 1 since its `confirm.select`. Inside, each channel's numbers start elsewhere, so that
/// what comes late for a channel that was closed is not taken for one that was opened under the same number since.
///
/// A publish is answered when every shard it went to has said what became of it, and in order: what completes early
/// waits for those before it, so that one `basic.ack` or `basic.nack` with `multiple` answers all that end alike.
#[derive(Debug)]
pub(super) struct Confirms {
    /// The number inside of the client's publish 1.
    first: u64,
    /// The number inside of the oldest unanswered publish.
    oldest: u64,
    /// From `oldest` on.
    outstanding: VecDeque<Outstanding>,
}

/// How many runs of a publish have not been answered for, and in the top bit whether one of the others was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outstanding(u16);

impl Outstanding {
    const REFUSED: u16 = 1 << 15;

    fn is_answered(self) -> bool {
        self.0 & !Self::REFUSED == 0
    }

    fn is_refused(self) -> bool {
        self.0 & Self::REFUSED != 0
    }

    /// One run has been answered for.
    fn answered(&mut self) {
        self.0 -= u16::from(!self.is_answered());
    }
}

impl Confirms {
    /// The confirms of the `generation`th channel of a connection that asks for them.
    pub(super) fn new(generation: u64) -> Self {
        // A channel would need a trillion publishes to reach into the next one's numbers.
        let first = (generation % (1 << 24)) << 40;
        Self { first, oldest: first, outstanding: VecDeque::new() }
    }

    /// The number inside of the next publish.
    pub(super) fn next(&self) -> u64 {
        self.oldest + self.outstanding.len() as u64
    }

    /// The number inside of the oldest publish that has not been answered.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// How many publishes wait for their answer.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding.len() as u64
    }

    /// Adds the next publish, which went to `runs` runs; 0 if it was not routed.
    pub(super) fn published(&mut self, runs: u16) {
        self.outstanding.push_back(Outstanding(runs));
    }

    /// `len` publishes from `first` on have been applied by one shard.
    pub(super) fn applied(&mut self, first: u64, len: u64) {
        self.range(first, len).for_each(Outstanding::answered);
    }

    /// `len` publishes from `first` on have been refused by one shard.
    pub(super) fn refused(&mut self, first: u64, len: u64) {
        for outstanding in self.range(first, len) {
            outstanding.answered();
            outstanding.0 |= Outstanding::REFUSED;
        }
    }

    /// Nothing if it is about a channel that was closed.
    fn range(&mut self, first: u64, len: u64) -> impl Iterator<Item = &mut Outstanding> {
        let start = first.checked_sub(self.oldest).and_then(|at| usize::try_from(at).ok());
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.outstanding.iter_mut().skip(start.unwrap_or(usize::MAX)).take(len)
    }

    /// Takes back all publishes that wait for their answer: they have not been handed to any shard.
    pub(super) fn withdraw(&mut self) {
        self.outstanding.clear();
    }

    /// The answer that is due, if any; ask again until there is none.
    pub(super) fn due(&mut self) -> Option<Answer> {
        let oldest = *self.outstanding.front().filter(|oldest| oldest.is_answered())?;
        let count = self.outstanding.iter().take_while(|next| **next == oldest).count();
        self.outstanding.drain(..count);
        self.oldest += count as u64;
        let last = self.oldest - self.first;
        Some(Answer { last, count: count as u64, refused: oldest.is_refused() })
    }
}

/// One publish of a connection at a time, whose confirm is waited for to see how long it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ConfirmWatch {
    /// Nobody asks.
    #[default]
    Off,
    /// The next publish will do.
    Wanted,
    /// This one, as its channel numbers it inside.
    On { channel: u16, number: u64 },
    /// It has been answered.
    Seen,
}

impl Session {
    /// From the next publish that is to be confirmed on, its answer is waited for, unless one is already: then
    /// [`Self::take_confirm_seen`] is true once.
    pub fn watch_confirm(&mut self) {
        if !self.is_watching_confirm() {
            self.confirm_watch = ConfirmWatch::Wanted;
        }
    }

    /// True while the answer to a publish is waited for.
    pub fn is_watching_confirm(&self) -> bool {
        matches!(self.confirm_watch, ConfirmWatch::On { .. })
    }

    /// True if the publish that was watched has been answered since this was last called.
    pub fn take_confirm_seen(&mut self) -> bool {
        let seen = self.confirm_watch == ConfirmWatch::Seen;
        if seen {
            self.confirm_watch = ConfirmWatch::Off;
        }
        seen
    }
}

impl ConfirmWatch {
    /// A publish of that channel has been answered up to before `next`.
    pub(super) fn answered(&mut self, answered: u16, next: u64) {
        if let Self::On { channel, number } = *self
            && channel == answered
            && number < next
        {
            *self = Self::Seen;
        }
    }

    /// A channel is no more, and what it waited for will not come.
    pub(super) fn forget(&mut self, forgotten: u16) {
        if matches!(*self, Self::On { channel, .. } if channel == forgotten) {
            *self = Self::Off;
        }
    }
}

/// What became of consecutive publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The last of them, as the client counts.
    last: u64,
    /// How many.
    pub(super) count: u64,
    /// A queue did not take them.
    pub(super) refused: bool,
}

impl Answer {
    pub(super) fn method(self) -> ToClient<'static> {
        let Self { last: delivery_tag, count, refused } = self;
        let multiple = count > 1;
        if refused {
            ToClient::BasicNack(basic::Nack { delivery_tag, multiple, requeue: false })
        } else {
            ToClient::BasicAck(basic::Ack { delivery_tag, multiple })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(last: u64, count: u64) -> Option<Answer> {
        Some(Answer { last, count, refused: false })
    }

    fn nack(last: u64, count: u64) -> Option<Answer> {
        Some(Answer { last, count, refused: true })
    }

    #[test]
    fn a_range_is_confirmed_by_one_ack() {
        let mut confirms = Confirms::new(0);
        (0..3).for_each(|_| confirms.published(1));
        confirms.applied(0, 3);
        assert_eq!(confirms.due(), ack(3, 3));
        assert_eq!(confirms.due(), None);
        assert_eq!(confirms.next(), 3);
    }

    #[test]
    fn a_publish_to_two_shards_waits_for_both() {
        let mut confirms = Confirms::new(0);
        confirms.published(2);
        confirms.applied(0, 1);
        assert_eq!(confirms.due(), None);
        confirms.applied(0, 1);
        assert_eq!(confirms.due(), ack(1, 1));
    }

    #[test]
    fn what_completes_early_waits_for_those_before_it() {
        let mut confirms = Confirms::new(0);
        confirms.published(1);
        confirms.published(0);
        assert_eq!(confirms.due(), None);
        confirms.applied(0, 1);
        assert_eq!(confirms.due(), ack(2, 2));
    }

    #[test]
    fn a_publish_that_any_shard_refuses_is_refused_once_all_have_answered() {
        for refused_first in [true, false] {
            let mut confirms = Confirms::new(0);
            confirms.published(2);
            if refused_first {
                confirms.refused(0, 1);
                assert_eq!(confirms.due(), None);
                confirms.applied(0, 1);
            } else {
                confirms.applied(0, 1);
                assert_eq!(confirms.due(), None);
                confirms.refused(0, 1);
            }
            assert_eq!(confirms.due(), nack(1, 1));
            assert_eq!(confirms.due(), None);
        }
    }

    #[test]
    fn neighbours_that_end_alike_share_an_answer_and_others_do_not() {
        let mut confirms = Confirms::new(3);
        let first = confirms.next();
        (0..6).for_each(|_| confirms.published(1));
        confirms.applied(first, 2);
        confirms.refused(first + 2, 3);
        confirms.applied(first + 5, 1);
        assert_eq!([confirms.due(), confirms.due(), confirms.due()], [ack(2, 2), nack(5, 3), ack(6, 1)]);
        assert_eq!((confirms.due(), confirms.outstanding()), (None, 0));
    }

    #[test]
    fn what_comes_late_for_a_closed_channel_confirms_nothing_on_the_next() {
        let mut closed = Confirms::new(1);
        closed.published(1);
        let late = closed.next() - 1;
        let mut reopened = Confirms::new(2);
        reopened.published(1);
        reopened.applied(late, 1);
        reopened.refused(late, 1);
        assert_eq!(reopened.due(), None);
        reopened.applied(reopened.next() - 1, 1);
        assert_eq!(reopened.due(), ack(1, 1));
    }
}
