//! What was sent, confirmed and delivered, and whether that is how a queue may behave.
//!
//! The rules are those of Jepsen's total-queue checker (lost = confirmed − delivered, unexpected = delivered − sent),
//! and three more: a second sight is flagged redelivered, each publisher's messages are first seen in the order in which
//! they were sent, and what was never redelivered is seen once.
//!
//! A message costs a few octets here, so that millions can be followed.

use std::collections::BTreeMap;

/// A copy of a message: the queue it is for, its publisher, and its number among that publisher's messages.
type Copy = (String, u64, u64);

/// How many mistakes of a kind are kept; one is enough to fail, and more only help to see a pattern.
const MISTAKES: usize = 20;

/// What happened, as the clients saw it.
#[derive(Debug, Default)]
pub struct History {
    streams: BTreeMap<String, BTreeMap<u64, Stream>>,
    sent: u64,
    confirmed: u64,
    /// Confirmed, and not seen yet.
    due: u64,
    deliveries: u64,
    redeliveries: u64,
    unexpected: Vec<Copy>,
    unflagged: Vec<Copy>,
    disordered: Vec<Copy>,
}

/// One publisher's messages for one queue.
#[derive(Debug, Default)]
struct Stream {
    /// What is known of each number: [`SENT`], [`CONFIRMED`], [`SEEN`].
    known: Vec<u8>,
    /// The newest that the queue has shown.
    newest: u64,
}

const SENT: u8 = 1;
const CONFIRMED: u8 = 2;
const SEEN: u8 = 4;

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Copies sent.
    pub sent: u64,
    /// Of these, confirmed.
    pub confirmed: u64,
    /// Deliveries, each time counted.
    pub deliveries: u64,
    /// Of these, flagged redelivered.
    pub redeliveries: u64,
    /// Confirmed and never delivered; this and the others the first 20.
    pub lost: Vec<(String, u64, u64)>,
    /// Delivered and never sent, or not to this queue.
    pub unexpected: Vec<(String, u64, u64)>,
    /// Delivered again without the flag.
    pub unflagged: Vec<(String, u64, u64)>,
    /// First seen after a later message of the same publisher.
    pub disordered: Vec<(String, u64, u64)>,
}

impl History {
    /// `publisher` is about to send message `number`, which is for these queues. Numbers are small: each costs an octet
    /// up to the greatest.
    pub fn sends(&mut self, queues: &[&str], publisher: u64, number: u64) {
        for queue in queues {
            self.sent += u64::from(self.note(queue, publisher, number, SENT));
        }
    }

    /// The broker has confirmed it, and must not lose it any more.
    pub fn confirms(&mut self, queues: &[&str], publisher: u64, number: u64) {
        for queue in queues {
            if self.note(queue, publisher, number, CONFIRMED) {
                self.confirmed += 1;
                self.due += u64::from(!self.is(queue, publisher, number, SEEN));
            }
        }
    }

    /// A consumer of `queue` has received it.
    pub fn delivers(&mut self, queue: &str, publisher: u64, number: u64, redelivered: bool) {
        let copy = || (queue.to_owned(), publisher, number);
        self.deliveries += 1;
        self.redeliveries += u64::from(redelivered);
        if !self.is(queue, publisher, number, SENT) {
            return keep(&mut self.unexpected, copy());
        }
        if !self.note(queue, publisher, number, SEEN) {
            if !redelivered {
                keep(&mut self.unflagged, copy());
            }
            return;
        }
        self.due -= u64::from(self.is(queue, publisher, number, CONFIRMED));
        let stream = self.stream(queue, publisher);
        if number < stream.newest {
            keep(&mut self.disordered, copy());
        } else {
            stream.newest = number;
        }
    }

    /// How many copies have been confirmed.
    pub fn confirmed_count(&self) -> u64 {
        self.confirmed
    }

    /// How many copies have been confirmed and not delivered yet.
    pub fn due_count(&self) -> u64 {
        self.due
    }

    /// Judges it.
    pub fn verdict(&self) -> Verdict {
        Verdict {
            sent: self.sent,
            confirmed: self.confirmed,
            deliveries: self.deliveries,
            redeliveries: self.redeliveries,
            lost: self.lost().take(MISTAKES).collect(),
            unexpected: self.unexpected.clone(),
            unflagged: self.unflagged.clone(),
            disordered: self.disordered.clone(),
        }
    }

    fn lost(&self) -> impl Iterator<Item = Copy> {
        let streams = self.streams.iter().flat_map(|(queue, streams)| streams.iter().map(move |entry| (queue, entry)));
        streams.flat_map(|(queue, (publisher, stream))| {
            let numbers = (0..).zip(&stream.known).filter(|(_, known)| **known & (CONFIRMED | SEEN) == CONFIRMED);
            numbers.map(|(number, _)| (queue.clone(), *publisher, number))
        })
    }

    fn stream(&mut self, queue: &str, publisher: u64) -> &mut Stream {
        if !self.streams.contains_key(queue) {
            self.streams.insert(queue.to_owned(), BTreeMap::new());
        }
        let streams = self.streams.get_mut(queue).expect("it was put there if it was missing");
        streams.entry(publisher).or_default()
    }

    /// True if this was not known.
    fn note(&mut self, queue: &str, publisher: u64, number: u64, what: u8) -> bool {
        let known = &mut self.stream(queue, publisher).known;
        let index = usize::try_from(number).expect("numbers are small");
        if known.len() <= index {
            known.resize(index + 1, 0);
        }
        let is_new = known[index] & what == 0;
        known[index] |= what;
        is_new
    }

    fn is(&self, queue: &str, publisher: u64, number: u64, what: u8) -> bool {
        let stream = self.streams.get(queue).and_then(|streams| streams.get(&publisher));
        let known = stream.and_then(|stream| stream.known.get(usize::try_from(number).ok()?));
        known.is_some_and(|known| known & what != 0)
    }
}

fn keep(mistakes: &mut Vec<Copy>, copy: Copy) {
    if mistakes.len() < MISTAKES {
        mistakes.push(copy);
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
        assert_eq!(history.due_count(), 1);
        history.delivers("q", 7, 2, false);
        assert!(history.due_count() == 0 && history.verdict().is_good());
        history.delivers("q", 7, 3, true);
        history.delivers("q", 7, 1, true);
        let verdict = history.verdict();
        assert!(verdict.is_good());
        assert_eq!((verdict.sent, verdict.confirmed, verdict.deliveries, verdict.redeliveries), (3, 2, 4, 2));
    }

    #[test]
    fn a_confirm_may_come_after_the_delivery() {
        let mut history = history();
        (1..=3).for_each(|number| history.delivers("q", 7, number, false));
        history.confirms(&["q"], 7, 3);
        assert_eq!((history.confirmed_count(), history.due_count()), (3, 0));
        assert!(history.verdict().is_good());
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
