//! What a connection is told and does whether its client reads or not. What waits for the client's reading is a post.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::sync::oneshot;
use warren_core::session::SessionStatistics;

/// What a connection is told to do at once.
#[derive(Debug)]
pub(crate) enum Order {
    /// Say what you are like.
    Describe(oneshot::Sender<SessionStatistics>),
    /// Say goodbye: somebody closes it, for that reason.
    Close(String),
    /// Close, if you are concerned.
    Ended(Arc<Ended>),
}

/// Users and virtual hosts that are no more.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) users: Vec<Arc<str>>,
    pub(crate) vhosts: Vec<Arc<str>>,
}

/// Orders on their way to a connection, which takes all of them each time that its task runs. While there are none they
/// take next to no memory: most connections are never told anything.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    waiting: Mutex<Vec<Order>>,
    /// Saves the task a look at `waiting`.
    any: AtomicBool,
    task: AtomicWaker,
}

impl Orders {
    pub(super) fn give(&self, order: Order) {
        self.waiting().push(order);
        self.any.store(true, Ordering::Release);
        self.task.wake();
    }

    /// All that have come since it was asked before, in order. It is ready when there are some.
    pub(crate) fn poll_take(&self, context: &Context<'_>) -> Poll<Vec<Order>> {
        self.task.register(context.waker());
        if self.any.swap(false, Ordering::AcqRel) {
            return Poll::Ready(std::mem::take(&mut *self.waiting()));
        }
        Poll::Pending
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Order>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
