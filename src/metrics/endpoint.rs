//! What is counted for one endpoint of a pool.

use super::workers::Workers;
use crate::mux::{label::Closed, scoreboard::Scoreboard};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// A handle on the counts of one endpoint: cheap to clone, an event costs an atomic addition.
#[derive(Clone, Debug)]
pub struct EndpointMetrics {
    counts: Arc<EndpointCounts>,
}

/// Live as long as a handle does.
#[derive(Debug, Default)]
pub(super) struct EndpointCounts {
    requests: AtomicU64,
    opened: AtomicU64,
    /// Indexed by [`Closed`] as usize.
    closed: [AtomicU64; Closed::ALL.len()],
    /// `None` where nobody reads its status page.
    workers: Mutex<Option<Workers>>,
}

impl EndpointMetrics {
    pub(super) fn new(counts: Arc<EndpointCounts>) -> Self {
        Self { counts }
    }

    /// An exchange was given a connection to it.
    pub fn leased(&self) {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection is being opened.
    pub fn opened(&self) {
        self.counts.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection, or an attempt at one, ended.
    pub fn closed(&self, reason: Closed) {
        self.counts.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Its status page was read, or could not be.
    pub fn looked(&self, page: Option<&Scoreboard>) {
        self.counts.lock().get_or_insert_default().look(page);
    }

    /// Its status page is read no more.
    pub fn not_looked_at(&self) {
        *self.counts.lock() = None;
    }
}

impl EndpointCounts {
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(super) fn closed(&self, reason: Closed) -> u64 {
        self.closed[reason as usize].load(Ordering::Relaxed)
    }

    pub(super) fn workers(&self) -> Option<Workers> {
        *self.lock()
    }

    /// Nothing that can panic is done under this lock.
    fn lock(&self) -> MutexGuard<'_, Option<Workers>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
