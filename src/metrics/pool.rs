//! What is counted for one pool.

use super::{
    DiscoveryMetrics, EndpointMetrics, definition,
    discovery::DiscoveryCounts,
    endpoint::EndpointCounts,
    failed::{Failed, LastFailure},
    living::Living,
    registry::Registry,
};
use crate::mux::label::{Direction, Outcome, Refusal, RetryReason, Sticky};
use metrics::{Counter, Histogram};
use std::{
    array,
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Handles of the series of one pool, resolved once: an event costs an atomic addition, never a look-up by name.
#[derive(Clone)]
pub struct PoolMetrics {
    handles: Arc<Handles>,
}

struct Handles {
    name: String,
    requests: [Counter; Outcome::ALL.len()],
    request_duration: Histogram,
    queue_wait: Histogram,
    first_byte: Histogram,
    settle: Histogram,
    connect: Histogram,
    stall: Histogram,
    dropped: Counter,
    retries: [Counter; RetryReason::ALL.len()],
    refused: [Counter; Refusal::ALL.len()],
    php_settings: [Counter; Sticky::ALL.len()],
    bytes: [Counter; Direction::ALL.len()],
    /// Actions that have been counted.
    php_settings_seen: [AtomicBool; Sticky::ALL.len()],
    endpoints: Living<EndpointCounts>,
    sources: Living<DiscoveryCounts>,
    last_failure: LastFailure,
}

impl PoolMetrics {
    pub(super) fn new(registry: &Registry, name: &str) -> Self {
        let handles = Handles {
            requests: array::from_fn(|i| registry.counter(&definition::REQUESTS, &[name, Outcome::ALL[i].label()])),
            request_duration: registry.histogram(&definition::REQUEST_DURATION, &[name]),
            queue_wait: registry.histogram(&definition::QUEUE_WAIT, &[name]),
            first_byte: registry.histogram(&definition::FIRST_BYTE, &[name]),
            settle: registry.histogram(&definition::SETTLE, &[name]),
            connect: registry.histogram(&definition::CONNECT, &[name]),
            stall: registry.histogram(&definition::STALL, &[name]),
            dropped: registry.counter(&definition::DROPPED, &[name]),
            retries: array::from_fn(|i| registry.counter(&definition::RETRIES, &[name, RetryReason::ALL[i].label()])),
            refused: array::from_fn(|i| registry.counter(&definition::REFUSED, &[name, Refusal::ALL[i].label()])),
            php_settings: array::from_fn(|i| {
                registry.counter(&definition::PHP_SETTINGS, &[name, Sticky::ALL[i].label()])
            }),
            bytes: array::from_fn(|i| registry.counter(&definition::BYTES, &[name, Direction::ALL[i].label()])),
            php_settings_seen: array::from_fn(|_| AtomicBool::new(false)),
            endpoints: Living::default(),
            sources: Living::default(),
            last_failure: LastFailure::default(),
            name: name.to_owned(),
        };
        Self { handles: Arc::new(handles) }
    }

    /// The counts of an endpoint, by the name it has in snapshots. They are the same for all who hold them at a time, and
    /// end with the last of those. Not for each event: it looks up by name.
    pub fn endpoint(&self, name: &str) -> EndpointMetrics {
        EndpointMetrics::new(self.handles.endpoints.hold(name))
    }

    /// What is known of a source of endpoints; lives as an endpoint's counts do.
    pub fn discovery(&self, source: &str) -> DiscoveryMetrics {
        DiscoveryMetrics::new(self.handles.sources.hold(source))
    }

    /// An exchange ended; `duration` runs from the first byte of its request.
    pub fn exchange(&self, outcome: Outcome, duration: Duration) {
        self.handles.requests[outcome as usize].increment(1);
        self.handles.request_duration.record(duration);
    }

    /// An exchange left the queue, with a connection or without.
    pub fn queue_wait(&self, waited: Duration) {
        self.handles.queue_wait.record(waited);
    }

    /// From the lease to the first byte of the response.
    pub fn first_byte(&self, after: Duration) {
        self.handles.first_byte.record(after);
    }

    /// From END_REQUEST to the answer of the fence.
    pub fn settle(&self, after: Duration) {
        self.handles.settle.record(after);
    }

    /// From the start of connect() to the proof.
    pub fn connect(&self, after: Duration) {
        self.handles.connect.record(after);
    }

    /// A shared connection was not read from for so long, because the buffer of one exchange was full.
    pub fn stalled(&self, lasted: Duration) {
        self.handles.stall.record(lasted);
    }

    /// So many records belonged to no running exchange.
    pub fn dropped(&self, records: u64) {
        self.handles.dropped.increment(records);
    }

    /// A request was sent again.
    pub fn retried(&self, reason: RetryReason) {
        self.handles.retries[reason as usize].increment(1);
    }

    /// An exchange was answered in the application's stead.
    pub fn refused(&self, reason: Refusal) {
        self.handles.refused[reason as usize].increment(1);
    }

    /// A request had PHP_VALUE or PHP_ADMIN_VALUE. Returns whether it is the first of which that became.
    pub fn php_settings(&self, action: Sticky) -> bool {
        self.handles.php_settings[action as usize].increment(1);
        !self.handles.php_settings_seen[action as usize].swap(true, Ordering::Relaxed)
    }

    /// `count` bytes were carried.
    pub fn bytes(&self, direction: Direction, count: u64) {
        self.handles.bytes[direction as usize].increment(count);
    }

    /// Something went wrong, which is counted elsewhere: this is what it was, in a word of the metrics, where, and why.
    pub fn failed(&self, what: &'static str, endpoint: Option<&dyn Display>, why: &dyn Display) {
        self.handles.last_failure.set(what, endpoint, why);
    }

    pub(super) fn last_failure(&self) -> Option<Failed> {
        self.handles.last_failure.get()
    }

    pub(super) fn name(&self) -> &str {
        &self.handles.name
    }

    pub(super) fn endpoint_counts(&self, name: &str) -> Option<Arc<EndpointCounts>> {
        self.handles.endpoints.find(name)
    }

    pub(super) fn sources(&self) -> Vec<(String, Arc<DiscoveryCounts>)> {
        self.handles.sources.all()
    }
}
