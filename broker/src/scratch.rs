//! Buffers that belong to threads, so that an idle connection owns none.

use std::cell::{Cell, RefCell};

use warren_core::limits::FRAME_MAX;

use crate::limits::{KEPT_BUFFER_BYTES, READ_BYTES};

/// A read behind a frame that lacks its last octet.
const SCRATCH_BYTES: usize = READ_BYTES + FRAME_MAX as usize + 16;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends this thread's read buffer, which has room for [`READ_BYTES`] behind any front of a frame. What `work` leaves in
/// it stays until the next task runs on the thread, that is until the next `.await` of this one.
pub(crate) fn with_scratch<R>(work: impl FnOnce(&mut [u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(SCRATCH_BYTES, 0);
        work(scratch)
    })
}

/// An empty buffer to write into; give it back with [`give_back`].
pub(crate) fn write_buffer() -> Vec<u8> {
    SPARE.take()
}

/// Takes a buffer that nobody needs any more; the next [`write_buffer`] of the thread finds it, unless it is too large
/// to be kept.
pub(crate) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_BUFFER_BYTES {
        buffer.clear();
        SPARE.set(buffer);
    }
}
