//! The connections of an HTTP port: how many there may be, and which of them makes room for one more.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use tokio_util::sync::CancellationToken;

/// So many connections as there may be. One that waits for a request of its client can be shed for a new one, the longest
/// waiting first; one that is being answered cannot.
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
    last: u64,
}

/// A connection's place, as long as the value lives.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    shed: CancellationToken,
    /// Its number among those that wait; `None` while its client is answered.
    waits: Mutex<Option<u64>>,
}

/// A request that is being answered, as long as the value lives.
#[derive(Debug)]
pub(super) struct InAnswer(Arc<Slot>);

/// The body of an answer; when it is written or dropped, its connection waits again.
#[derive(Debug)]
pub(super) struct InUse<B> {
    body: B,
    _answer: InAnswer,
}

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: Mutex::default() }
    }

    /// A place for one more connection; `None`: all are taken, and being answered.
    pub(super) fn enter(slots: &Arc<Self>) -> Option<Slot> {
        let mut state = slots.state();
        if state.taken < slots.most {
            state.taken += 1;
        } else {
            // Its place is the new one's from now on, however long its task takes to end.
            state.waiting.pop_first()?.1.cancel();
        }
        let shed = CancellationToken::new();
        let waits = Mutex::new(Some(state.wait(shed.clone())));
        drop(state);
        Some(Slot { slots: Arc::clone(slots), shed, waits })
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

    fn set_waiting(&self, waits: bool) {
        let mut state = self.slots.state();
        let mut number = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = number.take() {
            state.waiting.remove(&number);
        }
        // Who was shed has no place to wait in.
        if waits && !self.shed.is_cancelled() {
            *number = Some(state.wait(self.shed.clone()));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.set_waiting(false);
        if !self.shed.is_cancelled() {
            self.slots.state().taken -= 1;
        }
    }
}

impl Drop for InAnswer {
    fn drop(&mut self) {
        self.0.set_waiting(true);
    }
}

impl<B> InUse<B> {
    pub(super) fn new(body: B, answer: InAnswer) -> Self {
        Self { body, _answer: answer }
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
        assert_eq!((state.taken, state.waiting.len()), (0, 0));
    }

    #[test]
    fn while_all_are_answered_nobody_makes_room() {
        let slots = Arc::new(Slots::new(2));
        let [first, second] = [(); 2].map(|()| Arc::new(Slots::enter(&slots).expect("room")));
        let answers = [first, second].map(Slot::begin);
        assert!(Slots::enter(&slots).is_none());
        drop(answers);
        assert!(Slots::enter(&slots).is_some());
    }
}
