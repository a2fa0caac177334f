//! One endpoint as the rest of the data plane knows it, for as long as anybody has to do with it.

use crate::{config::EndpointAddress, metrics::EndpointMetrics};
use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};
use tokio_util::sync::CancellationToken;

/// The core knows endpoints by an index that comes again once one has been forgotten; an exchange, a log line and a count
/// belong to this instead.
pub(super) struct Target {
    /// The core's, while one of its connections is held.
    pub(super) index: usize,
    pub(super) address: EndpointAddress,
    pub(super) metrics: EndpointMetrics,
    /// It is no member of its pool any more.
    pub(super) gone: CancellationToken,
    /// It is left alone: that it fails is known, and logged no more.
    pub(super) ejected: AtomicBool,
}

impl Target {
    pub(super) fn new(index: usize, address: EndpointAddress, metrics: EndpointMetrics) -> Self {
        Self { index, address, metrics, gone: CancellationToken::new(), ejected: AtomicBool::new(false) }
    }

    /// A line about an attempt that failed: a warning, unless its endpoint is known to fail.
    pub(super) fn complain(&self, pool: &str, words: impl fmt::Display) {
        if self.ejected.load(Ordering::Relaxed) {
            tracing::debug!(pool, endpoint = %self, "{words}");
        } else {
            tracing::warn!(pool, endpoint = %self, "{words}");
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({} {})", self.index, self.address)
    }
}
