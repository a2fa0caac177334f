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

/// What an exchange asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// It was leased a connection before: it waits in front of those that were not.
    pub again: bool,
    /// It may be executed twice, and nothing of it is lost with its connection: it may be sent to a worker that has not
    /// proved itself free yet, and from there to another one.
    pub repeatable: bool,
    /// Endpoints that may have executed it: it must not go there again.
    pub avoid: Vec<usize>,
}

/// One that waits.
#[derive(Debug)]
struct Place<W> {
    waiter: W,
    claim: Claim,
    since: Instant,
}

#[derive(Debug)]
pub(super) struct Queue<W> {
    waiters: BTreeMap<WaiterKey, Place<W>>,
    /// Waiters that avoid some endpoint.
    avoiding: usize,
    depth: usize,
    timeout: Duration,
    next_serial: u64,
}

impl<W> Queue<W> {
    pub(super) fn new(queue: &config::Queue) -> Self {
        let (depth, timeout) = (queue.depth as usize, queue.timeout);
        Self { waiters: BTreeMap::new(), avoiding: 0, depth, timeout, next_serial: 0 }
    }

    pub(super) fn reconfigure(&mut self, queue: &config::Queue) {
        (self.depth, self.timeout) = (queue.depth as usize, queue.timeout);
    }

    /// `None` if the queue is full. One that waits again always finds room: it was counted before.
    pub(super) fn push(&mut self, claim: Claim, waiter: impl FnOnce() -> W, now: Instant) -> Option<WaiterKey> {
        if self.waiters.len() >= self.depth && !claim.again {
            return None;
        }
        let class = if claim.again { Class::Again } else { Class::New };
        let key = WaiterKey { class, serial: self.next_serial };
        self.next_serial += 1;
        self.avoiding += usize::from(!claim.avoid.is_empty());
        self.waiters.insert(key, Place { waiter: waiter(), claim, since: now });
        Some(key)
    }

    pub(super) fn remove(&mut self, key: WaiterKey) -> Option<W> {
        let place = self.waiters.remove(&key)?;
        self.avoiding -= usize::from(!place.claim.avoid.is_empty());
        Some(place.waiter)
    }

    /// The next to be served.
    pub(super) fn pop(&mut self) -> Option<W> {
        let key = *self.waiters.first_key_value()?.0;
        self.remove(key)
    }

    /// The next that a connection to this endpoint may serve.
    pub(super) fn next_for(&self, endpoint: usize) -> Option<(WaiterKey, &Claim)> {
        let mut able = self.iter().filter(|(_, claim, _)| !claim.avoid.contains(&endpoint));
        able.next().map(|(key, claim, _)| (key, claim))
    }

    /// Takes out one that has waited too long.
    pub(super) fn expire(&mut self, now: Instant) -> Option<W> {
        let key = self.oldest().find(|(_, since)| *since + self.timeout <= now)?.0;
        self.remove(key)
    }

    /// Takes out one that avoids endpoints, if there is `no_hope` for it elsewhere.
    pub(super) fn give_up(&mut self, no_hope: impl Fn(&[usize]) -> bool) -> Option<W> {
        if self.avoiding == 0 {
            return None;
        }
        let key = self.iter().find(|(_, claim, _)| !claim.avoid.is_empty() && no_hope(&claim.avoid))?.0;
        self.remove(key)
    }

    /// This endpoint is there no more, and its number may become another's.
    pub(super) fn forget(&mut self, endpoint: usize) {
        if self.avoiding > 0 {
            let avoiding = self.waiters.values_mut().map(|place| &mut place.claim.avoid);
            let avoiding = avoiding.filter(|avoid| avoid.contains(&endpoint));
            avoiding.for_each(|avoid| avoid.retain(|each| *each != endpoint));
            self.avoiding = self.waiters.values().filter(|place| !place.claim.avoid.is_empty()).count();
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.oldest().map(|(_, since)| since + self.timeout).min()
    }

    pub(super) fn oldest_wait(&self, now: Instant) -> Duration {
        self.oldest().map(|(_, since)| now.saturating_duration_since(since)).max().unwrap_or_default()
    }

    /// What waiters avoid, and how many each; in no order.
    pub(super) fn avoided(&self) -> Vec<(Vec<usize>, usize)> {
        let mut avoided: Vec<(Vec<usize>, usize)> = vec![];
        if self.avoiding > 0 {
            for avoid in self.iter().map(|(_, claim, _)| &claim.avoid).filter(|avoid| !avoid.is_empty()) {
                match avoided.iter_mut().find(|(each, _)| each == avoid) {
                    Some((_, count)) => *count += 1,
                    None => avoided.push((avoid.clone(), 1)),
                }
            }
        }
        avoided
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

    /// Those that wait, in the order in which they are served, and since when.
    pub(super) fn iter(&self) -> impl Iterator<Item = (WaiterKey, &Claim, Instant)> {
        self.waiters.iter().map(|(key, place)| (*key, &place.claim, place.since))
    }

    /// The oldest of each class: within a class they came in order.
    fn oldest(&self) -> impl Iterator<Item = (WaiterKey, Instant)> {
        let first_new = self.waiters.range(WaiterKey { class: Class::New, serial: 0 }..).next();
        let first = self.waiters.first_key_value();
        first.into_iter().chain(first_new).map(|(key, place)| (*key, place.since))
    }
}
