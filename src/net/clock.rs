//! The time, and alarms that cost next to nothing unless they ring.
//!
//! Nearly every exchange is over long before any of its deadlines, so an alarm must be cheap to set and to take back.
//! A timer of the runtime is not: one that is earlier than all others makes it write to an eventfd and take another
//! turn. Here one task ticks while there is traffic, and an alarm is an entry in a map that it looks at.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How late an alarm may ring.
const TICK: Duration = Duration::from_millis(10);
/// Ticks without an alarm after which the ticking stops until the next one.
const REST: u32 = 100;

pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Seconds for a line of the log, to a millionth.
pub(super) fn seconds(duration: Duration) -> f64 {
    // Exact for three hundred years.
    duration.as_micros() as f64 / 1e6
}

/// Rings alarms. [`Ticker::run`] must run for that.
#[derive(Debug, Default)]
pub(super) struct Ticker {
    alarms: Mutex<Alarms>,
    /// Told when the first alarm is set after a rest.
    begin: Notify,
}

#[derive(Debug, Default)]
struct Alarms {
    /// By deadline; the number tells apart those of one moment.
    set: BTreeMap<(Instant, u64), Waker>,
    next: u64,
    ticking: bool,
}

impl Ticker {
    fn lock(&self) -> MutexGuard<'_, Alarms> {
        // Nothing that can panic is done under this lock.
        self.alarms.lock().expect("no panic under this lock")
    }

    /// Ticks for as long as the process lives.
    pub(super) async fn run(self: Arc<Self>) {
        let mut idle = 0;
        loop {
            tokio::time::sleep(TICK).await;
            let (rung, quiet) = {
                let mut alarms = self.lock();
                let later = alarms.set.split_off(&(now(), u64::MAX));
                let rung = std::mem::replace(&mut alarms.set, later);
                idle = if rung.is_empty() && alarms.set.is_empty() { idle + 1 } else { 0 };
                alarms.ticking = idle < REST;
                (rung, !alarms.ticking)
            };
            rung.into_values().for_each(Waker::wake);
            if quiet {
                self.begin.notified().await;
                idle = 0;
            }
        }
    }

    fn set(&self, deadline: Instant, waker: Waker) -> (Instant, u64) {
        let mut alarms = self.lock();
        let key = (deadline, alarms.next);
        alarms.next += 1;
        alarms.set.insert(key, waker);
        if !std::mem::replace(&mut alarms.ticking, true) {
            self.begin.notify_one();
        }
        key
    }
}

/// One deadline that may move. Dropped, it does not ring.
#[derive(Debug)]
pub(super) struct Alarm {
    ticker: Arc<Ticker>,
    key: Option<(Instant, u64)>,
}

impl Alarm {
    pub(super) fn new(ticker: &Arc<Ticker>) -> Self {
        Self { ticker: ticker.clone(), key: None }
    }

    /// Ready once `deadline` has passed; wakes the task then, a tick late at most. `None`: never.
    ///
    /// It is not moved while the deadline is only put off: it rings at the old one, and the task asks again.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        let now = now();
        if now >= deadline {
            return Poll::Ready(());
        }
        if self.key.is_none_or(|(set, _)| deadline < set || set <= now) {
            self.clear();
            self.key = Some(self.ticker.set(deadline, context.waker().clone()));
        }
        Poll::Pending
    }

    fn clear(&mut self) {
        if let Some(key) = self.key.take() {
            self.ticker.lock().set.remove(&key);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
    }
}
