//! What is known of one source of endpoints.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A handle on what is known of one source: cheap to clone. The default one is nobody's, and not shown: for a source that is
/// never asked again, whose last success would look older and older.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryMetrics {
    counts: Arc<DiscoveryCounts>,
}

/// Live as long as a handle does.
#[derive(Debug, Default)]
pub(super) struct DiscoveryCounts {
    /// Unix time in milliseconds; 0 before the first success.
    last_success: AtomicU64,
    /// What it found last.
    endpoints: AtomicU64,
}

impl DiscoveryMetrics {
    pub(super) fn new(counts: Arc<DiscoveryCounts>) -> Self {
        Self { counts }
    }

    /// It was asked, or heard, with success.
    pub fn succeeded(&self) {
        let now = u64::try_from(super::unix_time().as_millis()).unwrap_or(u64::MAX);
        self.counts.last_success.store(now, Ordering::Relaxed);
    }

    /// So many endpoints are what it found last.
    pub fn endpoints(&self, count: usize) {
        self.counts.endpoints.store(count as u64, Ordering::Relaxed);
    }
}

impl DiscoveryCounts {
    /// Unix time in seconds.
    pub(super) fn last_success(&self) -> f64 {
        self.last_success.load(Ordering::Relaxed) as f64 / 1e3
    }

    pub(super) fn endpoints(&self) -> u64 {
        self.endpoints.load(Ordering::Relaxed)
    }
}
