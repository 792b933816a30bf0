//! The connections of an HTTP port: how many there may be, and which of them makes room for one more.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::limits::{HTTP_PLACE_TIME, HTTP_READ_TIME, HTTP_SHORT_ANSWER};

/// So many connections as there may be. One that waits for a request of its client can be shed for a new one, the longest
/// waiting first; while none waits, the one that has been answered for longest, if that is longer than [`HTTP_PLACE_TIME`]:
/// clients that read slowly keep nobody out for long.
#[derive(Debug)]
pub(super) struct Slots {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// By when they began to wait.
    waiting: BTreeMap<u64, CancellationToken>,
    /// By when they began to be answered.
    answered: BTreeMap<u64, (Instant, CancellationToken)>,
    last: u64,
}

/// A connection's place, as long as the value lives.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    shed: CancellationToken,
    /// Its number among those that wait, or those that are answered.
    number: Mutex<u64>,
}

/// A request that is being answered, as long as the value lives.
#[derive(Debug)]
pub(super) struct InAnswer(Arc<Slot>);

/// The body of an answer; when it is written or dropped, its connection waits again.
#[derive(Debug)]
pub(super) struct InUse<B> {
    body: B,
    /// Ends the connection if that takes too long.
    timer: Option<AbortHandle>,
    _answer: InAnswer,
}

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// A place for one more connection; `None`: all are taken, and have not been answered for long.
    pub(super) fn enter(slots: &Arc<Self>) -> Option<Slot> {
        let mut state = slots.state();
        if state.taken < slots.most {
            state.taken += 1;
        } else {
            // Its place is the new one's from now on, however long its task takes to end.
            state.shed(Instant::now())?.cancel();
        }
        let shed = CancellationToken::new();
        let number = Mutex::new(state.wait(shed.clone()));
        drop(state);
        Some(Slot { slots: Arc::clone(slots), shed, number })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, shed: CancellationToken) -> u64 {
        self.last += 1;
        self.waiting.insert(self.last, shed);
        self.last
    }

    fn answer(&mut self, shed: CancellationToken) -> u64 {
        self.last += 1;
        self.answered.insert(self.last, (Instant::now(), shed));
        self.last
    }

    /// Who makes room for one more.
    fn shed(&mut self, now: Instant) -> Option<CancellationToken> {
        if let Some((_, waiting)) = self.waiting.pop_first() {
            return Some(waiting);
        }
        let first = self.answered.first_entry()?;
        let is_slow = now.duration_since(first.get().0) >= HTTP_PLACE_TIME;
        is_slow.then(|| first.remove().1)
    }

    fn remove(&mut self, number: u64) {
        self.waiting.remove(&number);
        self.answered.remove(&number);
    }
}

impl Slot {
    /// Becomes cancelled when the place is given to another connection.
    pub(super) fn shed(&self) -> CancellationToken {
        self.shed.clone()
    }

    /// Its client has sent a request.
    pub(super) fn begin(slot: Arc<Self>) -> InAnswer {
        slot.set_waiting(false);
        InAnswer(slot)
    }

    /// Ends its connection, whoever needs the place.
    fn cut_off(&self) {
        let mut state = self.slots.state();
        if !self.shed.is_cancelled() {
            state.remove(*self.number.lock().unwrap_or_else(PoisonError::into_inner));
            state.taken -= 1;
            self.shed.cancel();
        }
    }

    fn set_waiting(&self, waits: bool) {
        let mut state = self.slots.state();
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        state.remove(*number);
        // Who was shed has no place to be in.
        if !self.shed.is_cancelled() {
            let shed = self.shed.clone();
            *number = if waits { state.wait(shed) } else { state.answer(shed) };
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        state.remove(*self.number.lock().unwrap_or_else(PoisonError::into_inner));
        if !self.shed.is_cancelled() {
            state.taken -= 1;
        }
    }
}

impl Drop for InAnswer {
    fn drop(&mut self) {
        self.0.set_waiting(true);
    }
}

impl<B: Body> InUse<B> {
    /// Of a long answer its client has to have read all within [`HTTP_READ_TIME`].
    pub(super) fn new(body: B, answer: InAnswer) -> Self {
        let is_long = body.size_hint().upper().is_none_or(|most| most > HTTP_SHORT_ANSWER);
        let timer = is_long.then(|| {
            let slot = Arc::downgrade(&answer.0);
            let cut_off = async move {
                sleep(HTTP_READ_TIME).await;
                if let Some(slot) = slot.upgrade() {
                    slot.cut_off();
                }
            };
            tokio::spawn(cut_off).abort_handle()
        });
        Self { body, timer, _answer: answer }
    }

    /// Of an answer that is never read to its end.
    pub(super) fn endless(body: B, answer: InAnswer) -> Self {
        Self { body, timer: None, _answer: answer }
    }
}

impl<B> Drop for InUse<B> {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

impl<B: Body + Unpin> Body for InUse<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;
    use tokio::time::{advance, pause};

    use super::*;

    #[test]
    fn of_those_that_wait_the_one_that_waited_longest_makes_room() {
        let slots = Arc::new(Slots::new(2));
        let enter = || Slots::enter(&slots);
        let (first, second) = (enter().expect("empty"), enter().expect("half empty"));
        let third = enter().expect("others wait");
        assert!(first.shed().is_cancelled() && !second.shed().is_cancelled());
        // It waits anew, behind the third.
        let second = Arc::new(second);
        drop(Slot::begin(Arc::clone(&second)));
        let fourth = enter().expect("others wait");
        assert!(third.shed().is_cancelled() && !second.shed().is_cancelled());
        drop((first, third, fourth));
        assert_eq!(slots.state().taken, 1, "those that were shed have left their places before");
        drop(second);
        let state = slots.state();
        assert_eq!((state.taken, state.waiting.len(), state.answered.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn while_all_are_answered_the_one_that_reads_for_too_long_makes_room() {
        pause();
        let slots = Arc::new(Slots::new(2));
        let slow = Arc::new(Slots::enter(&slots).expect("room"));
        let _slow = Slot::begin(Arc::clone(&slow));
        advance(HTTP_PLACE_TIME - Duration::from_millis(1)).await;
        let other = Arc::new(Slots::enter(&slots).expect("room"));
        let _other = Slot::begin(Arc::clone(&other));
        assert!(Slots::enter(&slots).is_none(), "none has been answered for long");
        advance(Duration::from_millis(1)).await;
        let place = Slots::enter(&slots);
        assert!(place.is_some() && slow.shed().is_cancelled() && !other.shed().is_cancelled());
    }

    #[tokio::test]
    async fn who_does_not_read_a_long_answer_within_two_minutes_is_cut_off_and_his_place_is_free() {
        pause();
        let slots = Arc::new(Slots::new(3));
        let most = usize::try_from(HTTP_SHORT_ANSWER).expect("it fits");
        let answer = |octets: usize| {
            let slot = Arc::new(Slots::enter(&slots).expect("room"));
            let body = InUse::new(Full::new(Bytes::from(vec![0; octets])), Slot::begin(Arc::clone(&slot)));
            (slot, body)
        };
        let [(short, _short_body), (read, read_body), (unread, _unread_body)] = [most, most + 1, most + 1].map(answer);
        sleep(HTTP_READ_TIME - Duration::from_millis(1)).await;
        drop(read_body);
        assert!(![&short, &read, &unread].iter().any(|slot| slot.shed().is_cancelled()));
        sleep(Duration::from_millis(2)).await;
        assert!(unread.shed().is_cancelled(), "it was not read");
        assert!(!short.shed().is_cancelled() && !read.shed().is_cancelled());
        assert_eq!(slots.state().taken, 2);
    }

    #[test]
    fn while_all_are_answered_and_none_for_long_nobody_makes_room() {
        let slots = Arc::new(Slots::new(2));
        let [first, second] = [(); 2].map(|()| Arc::new(Slots::enter(&slots).expect("room")));
        let answers = [first, second].map(Slot::begin);
        assert!(Slots::enter(&slots).is_none());
        drop(answers);
        assert!(Slots::enter(&slots).is_some());
    }
}
