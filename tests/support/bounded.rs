//! Time limits: for a whole test, and for a condition to come true.

use std::{
    panic::resume_unwind,
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(2);

/// Runs a test on a thread of its own and fails it when it takes longer than `limit`.
pub fn bounded<T: Send + 'static>(limit: Duration, test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, finished) = sync_channel::<()>(1);
    let runner = thread::spawn(move || {
        // Dropped when the test ends, also by a panic.
        let _done = done;
        test()
    });
    match finished.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => panic!("the test did not end within {limit:?}"),
        _ => runner.join().unwrap_or_else(|panic| resume_unwind(panic)),
    }
}

/// Whether `condition` came true within `limit`.
pub fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// Waits for `condition`, for ten seconds at most.
#[track_caller]
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(eventually(Duration::from_secs(10), condition), "waited 10 s in vain until {what}");
}
