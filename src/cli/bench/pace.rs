//! When requests are begun.

use std::{cell::Cell, sync::Arc, thread, time::Duration};

use tokio::{sync::Semaphore, time::Instant};

/// Hands out the starts of a run, of which none is lost: what falls due while all clients are busy is begun later, and its
/// time counts from when it was due.
#[derive(Debug)]
pub(super) struct Pace {
    begun: Instant,
    /// Starts a second; `None`: whenever a client is free.
    rate: Option<f64>,
    /// Starts in all; `None`: until it is stopped.
    most: Option<u64>,
    taken: Cell<u64>,
    /// A permit for each start that is due; closed when there are no more.
    due: Arc<Semaphore>,
}

impl Pace {
    /// `duration`: beyond it nothing falls due; `requests`: not more than these.
    pub(super) fn new(rate: Option<f64>, duration: Option<Duration>, requests: Option<u64>) -> Self {
        // The float is far below what it holds exactly, and positive.
        let in_time = rate.zip(duration).map(|(rate, duration)| (rate * duration.as_secs_f64()).ceil() as u64);
        let most = in_time.into_iter().chain(requests).min();
        let pace = Self { begun: Instant::now(), rate, most, taken: Cell::new(0), due: Arc::new(Semaphore::new(0)) };
        if let Some(rate) = rate {
            pace.keep_time(rate);
        }
        pace
    }

    /// Waits for the next start, and says when it was due; `None`: there is none.
    pub(super) async fn next(&self) -> Option<Instant> {
        if self.due.is_closed() || self.most.is_some_and(|most| self.taken.get() >= most) {
            return None;
        }
        let Some(rate) = self.rate else {
            self.taken.set(self.taken.get() + 1);
            return Some(Instant::now());
        };
        self.due.acquire().await.ok()?.forget();
        let number = self.taken.replace(self.taken.get() + 1);
        if self.most.is_some_and(|most| self.taken.get() >= most) {
            // The others wait for what will not come.
            self.stop();
        }
        Some(self.begun + at(number, rate))
    }

    /// No more starts.
    pub(super) fn stop(&self) {
        self.due.close();
    }

    /// Starts that were due and that nobody has taken.
    pub(super) fn left(&self) -> u64 {
        let Some(rate) = self.rate else { return 0 };
        // As above.
        let due = (self.begun.elapsed().as_secs_f64() * rate).ceil() as u64;
        self.most.unwrap_or(due).min(due).saturating_sub(self.taken.get())
    }

    /// Starts that somebody has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.get()
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// On a thread of its own, which ends with the process: the timer of the event loop knows whole milliseconds only.
    fn keep_time(&self, rate: f64) {
        let (due, begun, most) = (Arc::clone(&self.due), self.begun, self.most);
        thread::spawn(move || {
            for number in 0..most.unwrap_or(u64::MAX) {
                thread::sleep((begun + at(number, rate)).saturating_duration_since(Instant::now()));
                if due.is_closed() {
                    return;
                }
                due.add_permits(1);
            }
        });
    }
}

/// When a start is due, from the beginning.
fn at(number: u64, rate: f64) -> Duration {
    // The largest number that there can be is centuries away.
    Duration::from_secs_f64(number as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_due_while_nobody_was_free_keeps_its_time() {
        let pace = Pace::new(Some(1000.0), Some(Duration::from_secs(1)), None);
        tokio::time::sleep(Duration::from_millis(50)).await;
        for number in 0..40 {
            assert_eq!(pace.next().await, Some(pace.begun + Duration::from_millis(number)));
        }
        assert!(pace.left() >= 10);
        pace.stop();
        assert_eq!(pace.next().await, None);
    }

    #[tokio::test]
    async fn no_more_are_begun_than_are_asked_for() {
        for (rate, duration, requests) in
            [(Some(10_000.0), None, Some(5)), (Some(1000.0), Some(5), None), (None, None, Some(5))]
        {
            let pace = Pace::new(rate, duration.map(Duration::from_millis), requests);
            let mut begun = 0;
            while pace.next().await.is_some() {
                begun += 1;
            }
            assert_eq!((begun, pace.left()), (5, 0));
        }
    }

    #[tokio::test]
    async fn without_a_rate_the_time_counts_from_now() {
        let pace = Pace::new(None, Some(Duration::from_secs(1)), None);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(pace.next().await.unwrap() >= pace.begun + Duration::from_millis(5));
        pace.stop();
        assert_eq!((pace.next().await, pace.left()), (None, 0));
    }
}
