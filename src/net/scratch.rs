//! One buffer per thread for bytes on their way through: a connection that waits holds none.

use std::cell::RefCell;

/// Large enough for the largest record with its header and padding.
pub(super) const SCRATCH_LEN: usize = 128 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_LEN].into());
}

/// Lends the buffer. Not across an await: `work` is no future, and so cannot wait.
///
/// # Panics
/// If `work` asks for it again.
pub(super) fn with<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with(|scratch| work(&mut scratch.borrow_mut()))
}
