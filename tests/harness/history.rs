//! What was sent, confirmed and delivered, and whether that is how a queue may behave.
//!
//! The rules are those of Jepsen's total-queue checker (lost = confirmed − delivered, unexpected = delivered − sent),
//! and three more: a second sight is flagged redelivered, each publisher's messages are first seen in the order in which
//! they were sent, and what was never redelivered is seen once.

use std::collections::{BTreeMap, BTreeSet};

/// A copy of a message: the queue it is for, its publisher, and its number among that publisher's messages.
type Copy = (String, u64, u64);

/// What happened, as the clients saw it.
#[derive(Debug, Default)]
pub struct History {
    sent: BTreeSet<Copy>,
    confirmed: BTreeSet<Copy>,
    seen: BTreeSet<Copy>,
    /// The newest message of each publisher that each queue has shown.
    newest: BTreeMap<(String, u64), u64>,
    deliveries: u64,
    redeliveries: u64,
    unexpected: Vec<Copy>,
    unflagged: Vec<Copy>,
    disordered: Vec<Copy>,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Copies sent.
    pub sent: usize,
    /// Of these, confirmed.
    pub confirmed: usize,
    /// Deliveries, each time counted.
    pub deliveries: u64,
    /// Of these, flagged redelivered.
    pub redeliveries: u64,
    /// Confirmed and never delivered.
    pub lost: Vec<(String, u64, u64)>,
    /// Delivered and never sent, or not to this queue.
    pub unexpected: Vec<(String, u64, u64)>,
    /// Delivered again without the flag.
    pub unflagged: Vec<(String, u64, u64)>,
    /// First seen after a later message of the same publisher.
    pub disordered: Vec<(String, u64, u64)>,
}

impl History {
    /// `publisher` is about to send message `number`, which is for these queues.
    pub fn sends(&mut self, queues: &[&str], publisher: u64, number: u64) {
        self.sent.extend(queues.iter().map(|queue| ((*queue).to_owned(), publisher, number)));
    }

    /// The broker has confirmed it.
    pub fn confirms(&mut self, queues: &[&str], publisher: u64, number: u64) {
        self.confirmed.extend(queues.iter().map(|queue| ((*queue).to_owned(), publisher, number)));
    }

    /// A consumer of `queue` has received it.
    pub fn delivers(&mut self, queue: &str, publisher: u64, number: u64, redelivered: bool) {
        let copy = (queue.to_owned(), publisher, number);
        self.deliveries += 1;
        self.redeliveries += u64::from(redelivered);
        if !self.sent.contains(&copy) {
            self.unexpected.push(copy);
            return;
        }
        if !self.seen.insert(copy.clone()) {
            if !redelivered {
                self.unflagged.push(copy);
            }
            return;
        }
        let newest = self.newest.entry((copy.0.clone(), publisher)).or_insert(number);
        if number < *newest {
            self.disordered.push(copy);
        } else {
            *newest = number;
        }
    }

    /// How many copies have been confirmed.
    pub fn confirmed_count(&self) -> usize {
        self.confirmed.len()
    }

    /// True once every confirmed copy has been delivered.
    pub fn is_drained(&self) -> bool {
        self.confirmed.is_subset(&self.seen)
    }

    /// Judges it.
    pub fn verdict(&self) -> Verdict {
        Verdict {
            sent: self.sent.len(),
            confirmed: self.confirmed.len(),
            deliveries: self.deliveries,
            redeliveries: self.redeliveries,
            lost: self.confirmed.difference(&self.seen).cloned().collect(),
            unexpected: self.unexpected.clone(),
            unflagged: self.unflagged.clone(),
            disordered: self.disordered.clone(),
        }
    }
}

impl Verdict {
    /// True if nothing happened that may not happen.
    pub fn is_good(&self) -> bool {
        [&self.lost, &self.unexpected, &self.unflagged, &self.disordered].iter().all(|mistakes| mistakes.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages 1 to 3 of publisher 7, for queue `q`, of which 1 and 2 are confirmed.
    fn history() -> History {
        let mut history = History::default();
        (1..=3).for_each(|number| history.sends(&["q"], 7, number));
        history.confirms(&["q"], 7, 1);
        history.confirms(&["q"], 7, 2);
        history
    }

    #[test]
    fn a_delivery_in_order_is_good_with_and_without_what_was_not_confirmed() {
        let mut history = history();
        history.delivers("q", 7, 1, false);
        assert!(!history.is_drained());
        history.delivers("q", 7, 2, false);
        assert!(history.is_drained() && history.verdict().is_good());
        history.delivers("q", 7, 3, true);
        history.delivers("q", 7, 1, true);
        let verdict = history.verdict();
        assert!(verdict.is_good());
        assert_eq!((verdict.sent, verdict.confirmed, verdict.deliveries, verdict.redeliveries), (3, 2, 4, 2));
    }

    #[test]
    fn confirmed_and_not_delivered_is_lost() {
        let mut history = history();
        history.delivers("q", 7, 1, false);
        assert_eq!(history.verdict().lost, [("q".to_owned(), 7, 2)]);
    }

    #[test]
    fn what_was_not_sent_to_a_queue_is_unexpected() {
        let mut history = history();
        history.delivers("q", 7, 4, false);
        history.delivers("other", 7, 1, false);
        assert_eq!(history.verdict().unexpected, [("q".to_owned(), 7, 4), ("other".to_owned(), 7, 1)]);
    }

    #[test]
    fn a_second_sight_has_to_be_flagged() {
        let mut history = history();
        history.delivers("q", 7, 1, false);
        history.delivers("q", 7, 1, false);
        assert_eq!(history.verdict().unflagged, [("q".to_owned(), 7, 1)]);
    }

    #[test]
    fn first_sights_have_to_be_in_order() {
        let mut history = history();
        history.delivers("q", 7, 2, false);
        history.delivers("q", 7, 1, false);
        assert_eq!(history.verdict().disordered, [("q".to_owned(), 7, 1)]);
        assert!(!history.verdict().is_good());
    }
}
