//! The exchanges that wait for a lease: first in first out, bounded in length and in time.

use crate::config;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Names one waiter. In the order in which they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaiterKey {
    class: Class,
    serial: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Had a connection that broke before it could be of use: older than all that never had one.
    Again,
    New,
}

#[derive(Debug)]
pub(super) struct Queue<W> {
    waiters: BTreeMap<WaiterKey, (W, Instant)>,
    depth: usize,
    timeout: Duration,
    next_serial: u64,
}

impl<W> Queue<W> {
    pub(super) fn new(queue: &config::Queue) -> Self {
        Self { waiters: BTreeMap::new(), depth: queue.depth as usize, timeout: queue.timeout, next_serial: 0 }
    }

    pub(super) fn reconfigure(&mut self, queue: &config::Queue) {
        (self.depth, self.timeout) = (queue.depth as usize, queue.timeout);
    }

    /// `None` if the queue is full. One that waits again always finds room: it was counted before.
    pub(super) fn push(&mut self, again: bool, waiter: impl FnOnce() -> W, now: Instant) -> Option<WaiterKey> {
        if self.waiters.len() >= self.depth && !again {
            return None;
        }
        let class = if again { Class::Again } else { Class::New };
        let key = WaiterKey { class, serial: self.next_serial };
        self.next_serial += 1;
        self.waiters.insert(key, (waiter(), now));
        Some(key)
    }

    pub(super) fn remove(&mut self, key: WaiterKey) {
        self.waiters.remove(&key);
    }

    /// The next to be served.
    pub(super) fn pop(&mut self) -> Option<W> {
        self.waiters.pop_first().map(|(_, (waiter, _))| waiter)
    }

    /// Takes out one that has waited too long.
    pub(super) fn expire(&mut self, now: Instant) -> Option<W> {
        let key = self.oldest().find(|(_, since)| *since + self.timeout <= now)?.0;
        self.waiters.remove(&key).map(|(waiter, _)| waiter)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.oldest().map(|(_, since)| since + self.timeout).min()
    }

    pub(super) fn oldest_wait(&self, now: Instant) -> Duration {
        self.oldest().map(|(_, since)| now.saturating_duration_since(since)).max().unwrap_or_default()
    }

    /// Since when the next to be served has waited.
    pub(super) fn next_since(&self) -> Option<Instant> {
        self.waiters.first_key_value().map(|(_, (_, since))| *since)
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(super) fn limit(&self) -> usize {
        self.depth
    }

    /// Those that wait, in the order in which they are served: had a connection before, and since when.
    pub(super) fn iter(&self) -> impl Iterator<Item = (bool, Instant)> {
        self.waiters.iter().map(|(key, (_, since))| (key.class == Class::Again, *since))
    }

    /// The oldest of each class: within a class they came in order.
    fn oldest(&self) -> impl Iterator<Item = (WaiterKey, Instant)> {
        let first_new = self.waiters.range(WaiterKey { class: Class::New, serial: 0 }..).next();
        let first = self.waiters.first_key_value();
        first.into_iter().chain(first_new).map(|(key, (_, since))| (*key, *since))
    }
}
