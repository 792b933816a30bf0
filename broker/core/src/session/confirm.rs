//! Publisher confirms of one channel: which publishes wait, and what may be acknowledged now.

use alloc::collections::VecDeque;

use warren_amqp::{ToClient, basic};

/// The client counts publishes from 1 since its `confirm.select`. Inside, each channel's numbers start elsewhere, so that
/// what comes late for a channel that was closed is not taken for one that was opened under the same number since.
///
/// A publish is answered when every shard it went to has applied it, and in order: what completes early waits for
/// those before it, so that one `basic.ack` with `multiple` answers them all.
#[derive(Debug)]
pub(super) struct Confirms {
    /// The number inside of the client's publish 1.
    first: u64,
    /// The number inside of the oldest unanswered publish.
    oldest: u64,
    /// How many shards have not applied it yet, from `oldest` on.
    outstanding: VecDeque<u16>,
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

    /// How many publishes wait for their answer.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding.len() as u64
    }

    /// Adds the next publish, which went to `runs` runs; 0 if it was not routed.
    pub(super) fn published(&mut self, runs: u16) {
        self.outstanding.push_back(runs);
    }

    /// `len` publishes from `first` on have been applied by one shard.
    pub(super) fn applied(&mut self, first: u64, len: u64) {
        let Some(start) = first.checked_sub(self.oldest).and_then(|at| usize::try_from(at).ok()) else {
            return;
        };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        for runs in self.outstanding.iter_mut().skip(start).take(len) {
            *runs = runs.saturating_sub(1);
        }
    }

    /// The acknowledgement that is due, if any, and how many publishes it answers.
    pub(super) fn due(&mut self) -> Option<(ToClient<'static>, u64)> {
        let count = self.outstanding.iter().take_while(|runs| **runs == 0).count();
        self.outstanding.drain(..count);
        let count = count as u64;
        self.oldest += count;
        let ack = basic::Ack { delivery_tag: self.oldest - self.first, multiple: count > 1 };
        (count > 0).then_some((ToClient::BasicAck(ack), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(delivery_tag: u64, count: u64) -> Option<(ToClient<'static>, u64)> {
        Some((ToClient::BasicAck(basic::Ack { delivery_tag, multiple: count > 1 }), count))
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
    fn what_comes_late_for_a_closed_channel_confirms_nothing_on_the_next() {
        let mut closed = Confirms::new(1);
        closed.published(1);
        let late = closed.next() - 1;
        let mut reopened = Confirms::new(2);
        reopened.published(1);
        reopened.applied(late, 1);
        assert_eq!(reopened.due(), None);
        reopened.applied(reopened.next() - 1, 1);
        assert_eq!(reopened.due(), ack(1, 1));
    }
}
