//! For how long somebody has held messages, without a time beside each of them.
//!
//! ```text
//! handed out   t0         t1 = t0 + step      t2           now
//!              ├── age 0 ──┼───── age 1 ──────┼── age 2 ────┤
//! held             3                0               17            each message remembers the number of its age
//! ```

use core::array;

/// How many ages are told apart.
const AGES: usize = 31;

/// How many ages a timeout is long: a message times out at most a sixteenth of it late.
const AGES_PER_TIMEOUT: u64 = 16;

/// Messages that were handed out at about one time.
#[derive(Debug, Clone, Copy, Default)]
struct Age {
    /// When the first of them was handed out: milliseconds since the Unix epoch.
    since_ms: u64,
    /// How many of them are still held.
    held: u32,
}

/// How long one holder has held its messages, and how long it may.
///
/// An age's number is used again after [`AGES`] steps. What is held for so long has timed out, or its time has been begun
/// anew, and then it may get as much time once more.
#[derive(Debug)]
pub(super) struct Watch {
    timeout_ms: u64,
    ages: [Age; AGES],
    /// The age of what is handed out now.
    now: usize,
    /// What waits in the holder's session and not at its client: when the first of it began to, or was asked for last.
    aside: Age,
}

impl Watch {
    /// The number that stands for the age of what its client has not been sent: that time does not count.
    pub(super) const AGELESS: u32 = AGES as u32;

    /// Lets messages be held for so many milliseconds.
    pub(super) fn new(timeout_ms: u64) -> Self {
        Self { timeout_ms, ages: array::from_fn(|_| Age::default()), now: 0, aside: Age::default() }
    }

    /// Counts a message that is handed out now. Answers the number of its age.
    pub(super) fn took(&mut self, now_ms: u64) -> u32 {
        let step = (self.timeout_ms / AGES_PER_TIMEOUT).max(1);
        let Age { since_ms, held } = self.ages[self.now];
        if held == 0 {
            self.ages[self.now].since_ms = now_ms;
        } else if now_ms.saturating_sub(since_ms) >= step {
            self.now = (self.now + 1) % AGES;
            self.ages[self.now].since_ms = now_ms;
        }
        self.ages[self.now].held += 1;
        self.now as u32
    }

    /// Counts a message of that age that is settled.
    pub(super) fn released(&mut self, age: u32) {
        let age = self.ages.get_mut(age as usize).unwrap_or(&mut self.aside);
        age.held = age.held.saturating_sub(1);
    }

    /// Counts a message that waits in the holder's session from now on.
    pub(super) fn put_aside(&mut self, now_ms: u64) {
        if self.aside.held == 0 {
            self.aside.since_ms = now_ms;
        }
        self.aside.held += 1;
    }

    /// When what waits in the session has done so for as long as a client may hold a message.
    pub(super) fn recall_at(&self) -> Option<u64> {
        (self.aside.held > 0).then(|| self.deadline_from(self.aside.since_ms))
    }

    /// What waits in the session is asked for.
    pub(super) fn recall(&mut self, now_ms: u64) {
        self.aside.since_ms = now_ms;
    }

    /// The time of all that is held begins anew.
    pub(super) fn extend(&mut self, now_ms: u64) {
        self.ages.iter_mut().for_each(|age| age.since_ms = now_ms);
    }

    /// When a message that is handed out at `now_ms` times out.
    pub(super) fn deadline_from(&self, now_ms: u64) -> u64 {
        let step = (self.timeout_ms / AGES_PER_TIMEOUT).max(1);
        now_ms.saturating_add(self.timeout_ms).saturating_add(step - 1)
    }

    /// When the first of what is held times out.
    pub(super) fn deadline(&self) -> Option<u64> {
        let oldest = self.ages.iter().filter(|age| age.held > 0).map(|age| age.since_ms).min()?;
        Some(self.deadline_from(oldest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_never_times_out_early_and_at_most_a_sixteenth_late() {
        for timeout in [0, 1, 15, 16, 1_000, 1_800_000] {
            let mut watch = Watch::new(timeout);
            let mut held = std::collections::VecDeque::new();
            let mut now = 1_000_000;
            for step in 0..2_000 {
                now += (timeout / 50).max(1) * (step % 3);
                while watch.deadline().is_some_and(|at| at <= now) {
                    let (since, age) = held.pop_front().expect("something is held");
                    assert!(now >= since + timeout, "{timeout}: {since} at {now}");
                    watch.released(age);
                }
                if let Some((since, _)) = held.front() {
                    let latest = since + timeout + timeout / 16 + 1;
                    assert!(now <= latest, "{timeout}: {since} at {now}");
                }
                held.push_back((now, watch.took(now)));
            }
        }
    }

    #[test]
    fn what_is_settled_keeps_no_time() {
        let mut watch = Watch::new(1_600);
        let first = watch.took(1_000);
        let second = watch.took(1_500);
        assert_eq!(watch.deadline(), Some(1_000 + 1_600 + 99));
        watch.released(first);
        assert_eq!(watch.deadline(), Some(1_500 + 1_600 + 99));
        watch.released(second);
        assert_eq!(watch.deadline(), None);
    }

    #[test]
    fn what_waits_in_the_session_has_a_time_of_its_own() {
        let mut watch = Watch::new(1_600);
        assert_eq!(watch.recall_at(), None);
        watch.put_aside(1_000);
        watch.put_aside(1_500);
        watch.extend(1_500);
        assert_eq!((watch.deadline(), watch.recall_at()), (None, Some(1_000 + 1_600 + 99)));
        watch.recall(2_700);
        watch.released(Watch::AGELESS);
        assert_eq!(watch.recall_at(), Some(2_700 + 1_600 + 99));
        watch.released(Watch::AGELESS);
        watch.released(Watch::AGELESS);
        assert_eq!(watch.recall_at(), None);
        watch.put_aside(9_000);
        assert_eq!(watch.recall_at(), Some(9_000 + 1_600 + 99));
    }

    #[test]
    fn extended_time_begins_anew_for_all_that_is_held() {
        let mut watch = Watch::new(1_600);
        watch.took(0);
        watch.took(900);
        watch.extend(1_500);
        assert_eq!(watch.deadline(), Some(1_500 + 1_600 + 99));
    }
}
