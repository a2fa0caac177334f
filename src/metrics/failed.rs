//! The last thing that went wrong in a pool, in words: what a count cannot say.

use std::{
    fmt::Display,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Characters of an explanation that are kept.
const LONGEST: usize = 500;

/// What went wrong, when and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Since 1970.
    at: Duration,
    /// A word that the metrics have for it: an outcome, or the reason of a refusal.
    pub what: &'static str,
    /// Where, if it was at an endpoint.
    pub endpoint: Option<String>,
    /// May hold anything that an application or a web server has sent: for eyes only.
    pub why: String,
}

impl Failed {
    /// How long ago that was.
    pub fn ago(&self) -> Duration {
        super::unix_time().saturating_sub(self.at)
    }
}

#[derive(Debug, Default)]
pub(super) struct LastFailure(Mutex<Option<Failed>>);

impl LastFailure {
    pub(super) fn set(&self, what: &'static str, endpoint: Option<&dyn Display>, why: &dyn Display) {
        let why = why.to_string().chars().take(LONGEST).collect();
        let failed = Failed { at: super::unix_time(), what, endpoint: endpoint.map(ToString::to_string), why };
        *self.lock() = Some(failed);
    }

    pub(super) fn get(&self) -> Option<Failed> {
        self.lock().clone()
    }

    /// It is replaced as a whole, and so is whole.
    fn lock(&self) -> MutexGuard<'_, Option<Failed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_failure_is_kept_and_no_more_of_it_than_can_be_read() {
        let last = LastFailure::default();
        assert_eq!(last.get(), None);
        last.set("broken", Some(&"10.0.0.7:9000"), &"application closed the connection");
        last.set("queue_full", None, &"é".repeat(2000));
        let failed = last.get().unwrap();
        assert_eq!((failed.what, failed.endpoint.as_deref(), failed.why.chars().count()), ("queue_full", None, 500));
        assert!(failed.ago() < Duration::from_secs(60));
    }
}
