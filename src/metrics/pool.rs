//! What is counted for one pool.

use super::{definition, registry::Registry};
use crate::{
    config,
    mux::{
        label::{Closed, ConnectionState, Direction, Outcome, Refusal, RetryReason},
        snapshot::{EndpointSnapshot, PoolSnapshot},
    },
};
use metrics::{Counter, Gauge, Histogram};
use std::{array, sync::Arc, time::Duration};

/// Handles of every series of one pool, resolved once: an event costs an atomic addition, never a look-up by name.
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
    bytes: [Counter; Direction::ALL.len()],
    queue_depth: Gauge,
    queue_limit: Gauge,
    queue_oldest_wait: Gauge,
    /// In the order of the configuration.
    endpoints: Vec<EndpointHandles>,
}

struct EndpointHandles {
    name: String,
    opened: Counter,
    closed: [Counter; Closed::ALL.len()],
    ejections: Counter,
    connections: [Gauge; ConnectionState::ALL.len()],
    limit: Gauge,
    in_flight: Gauge,
    up: Gauge,
}

impl PoolMetrics {
    pub(super) fn new(registry: &Registry, pool: &config::Pool) -> Self {
        let name = pool.name.as_str();
        let endpoints = pool.endpoints.iter().map(|address| EndpointHandles::new(registry, name, address.to_string()));
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
            bytes: array::from_fn(|i| registry.counter(&definition::BYTES, &[name, Direction::ALL[i].label()])),
            queue_depth: registry.gauge(&definition::QUEUE_DEPTH, &[name]),
            queue_limit: registry.gauge(&definition::QUEUE_LIMIT, &[name]),
            queue_oldest_wait: registry.gauge(&definition::QUEUE_OLDEST_WAIT, &[name]),
            endpoints: endpoints.collect(),
            name: pool.name.clone(),
        };
        handles.queue_limit.set(pool.queue.depth);
        for endpoint in &handles.endpoints {
            endpoint.limit.set(pool.connections.per_endpoint);
        }
        Self { handles: Arc::new(handles) }
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

    /// A connection is being opened; `endpoint` counts in the order of the configuration.
    pub fn opened(&self, endpoint: usize) {
        if let Some(handles) = self.endpoint(endpoint) {
            handles.opened.increment(1);
        }
    }

    /// A connection ended; `endpoint` counts in the order of the configuration.
    pub fn closed(&self, endpoint: usize, reason: Closed) {
        if let Some(handles) = self.endpoint(endpoint) {
            handles.closed[reason as usize].increment(1);
        }
    }

    /// A request was sent again.
    pub fn retried(&self, reason: RetryReason) {
        self.handles.retries[reason as usize].increment(1);
    }

    /// An exchange was answered in the application's stead.
    pub fn refused(&self, reason: Refusal) {
        self.handles.refused[reason as usize].increment(1);
    }

    /// `count` bytes were carried.
    pub fn bytes(&self, direction: Direction, count: u64) {
        self.handles.bytes[direction as usize].increment(count);
    }

    /// Sets what is not counted but looked at.
    pub(super) fn look_at(&self, snapshot: &PoolSnapshot) {
        self.handles.queue_depth.set(snapshot.queue_depth as f64);
        self.handles.queue_limit.set(snapshot.queue_limit as f64);
        self.handles.queue_oldest_wait.set(snapshot.oldest_wait);
        debug_assert_eq!(self.handles.endpoints.len(), snapshot.endpoints.len());
        for (handles, endpoint) in self.handles.endpoints.iter().zip(&snapshot.endpoints) {
            handles.look_at(endpoint);
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.handles.name
    }

    /// A wrong index is a bug of the caller's: loud in tests, and no reason for a running process to end.
    fn endpoint(&self, index: usize) -> Option<&EndpointHandles> {
        let handles = self.handles.endpoints.get(index);
        debug_assert!(handles.is_some(), "pool {} has no endpoint {index}", self.handles.name);
        handles
    }
}

impl EndpointHandles {
    fn new(registry: &Registry, pool: &str, name: String) -> Self {
        let labels = [pool, name.as_str()];
        let with = |word| [pool, name.as_str(), word];
        let handles = Self {
            opened: registry.counter(&definition::OPENED, &labels),
            closed: array::from_fn(|i| registry.counter(&definition::CLOSED, &with(Closed::ALL[i].label()))),
            ejections: registry.counter(&definition::EJECTIONS, &labels),
            connections: array::from_fn(|i| {
                registry.gauge(&definition::CONNECTIONS, &with(ConnectionState::ALL[i].label()))
            }),
            limit: registry.gauge(&definition::CONNECTIONS_LIMIT, &labels),
            in_flight: registry.gauge(&definition::IN_FLIGHT, &labels),
            up: registry.gauge(&definition::ENDPOINT_UP, &labels),
            name,
        };
        // Until the first look: nothing failed yet.
        handles.up.set(1);
        handles
    }

    fn look_at(&self, snapshot: &EndpointSnapshot) {
        debug_assert_eq!(self.name, snapshot.name, "endpoints are in the order of the configuration");
        for (gauge, count) in self.connections.iter().zip(snapshot.connections) {
            gauge.set(count as f64);
        }
        self.limit.set(snapshot.limit as f64);
        self.in_flight.set(snapshot.in_flight as f64);
        self.up.set(u8::from(snapshot.up));
        self.ejections.absolute(snapshot.ejections);
    }
}
