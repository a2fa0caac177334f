//! Waiting between attempts: longer from one to the next while they fail soon, and not as long as all others do.

use crate::net::clock;
use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

/// An attempt that has lasted for so long was a good one.
const GOOD: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Pace {
    shortest: Duration,
    longest: Duration,
    next: Duration,
    /// When the present attempt began.
    began: Instant,
}

impl Pace {
    pub(super) fn new((shortest, longest): (Duration, Duration)) -> Self {
        Self { shortest, longest, next: shortest, began: clock::now() }
    }

    /// The present attempt is over; the next one begins when this is ready.
    pub(super) async fn rest(&mut self) {
        tokio::time::sleep(self.pause(clock::now())).await;
        self.began = clock::now();
    }

    /// Half of the time at least: when an API server comes back, or goes, all who watch it notice at once.
    fn pause(&mut self, now: Instant) -> Duration {
        if now.saturating_duration_since(self.began) >= GOOD {
            self.next = self.shortest;
        }
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause / 2 + pause / 2 * u32::from(random()) / 256
    }
}

/// Nothing that a secret may be made of. The standard library seeds its hash maps so.
pub(super) fn random() -> u8 {
    RandomState::new().hash_one(()).to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_good_attempt() {
        let (ms, seconds) = (Duration::from_millis, Duration::from_secs);
        let mut pace = Pace::new((ms(200), seconds(15)));
        let began = pace.began;
        for whole in [200, 400, 800, 1600, 3200, 6400, 12_800, 15_000, 15_000] {
            let pause = pace.pause(began + ms(10));
            assert!(pause >= ms(whole) / 2 && pause <= ms(whole), "{pause:?} of {whole} ms");
        }
        assert!(pace.pause(began + GOOD) <= ms(200));
        assert!(pace.pause(began + ms(10)) >= ms(200));
    }

    #[test]
    fn pauses_differ() {
        let began = clock::now();
        let pauses: std::collections::BTreeSet<_> =
            (0..100).map(|_| Pace::new((Duration::from_secs(1), Duration::from_secs(1))).pause(began)).collect();
        assert!(pauses.len() > 20, "{}", pauses.len());
    }
}
