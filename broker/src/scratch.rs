//! One read buffer per thread, so that an idle connection owns none.

use std::cell::RefCell;

use crate::limits::READ_BYTES;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lends this thread's buffer, [`READ_BYTES`] long. What `work` leaves in it stays until the next task runs on the
/// thread, that is until the next `.await` of this one.
pub(crate) fn with_scratch<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(READ_BYTES, 0);
        work(scratch)
    })
}
