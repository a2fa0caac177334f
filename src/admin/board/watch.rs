//! Since when a pool and its endpoints are as they are, as far as somebody has looked.

use super::{condition::Level, history::History, pace::Pace};
use crate::mux::{
    label::{ConnectionState, EndpointState},
    snapshot::{EndpointSnapshot, PoolSnapshot},
};
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// Who has waited so long does not wait for a connection that is just being opened.
const LONG: Duration = Duration::from_millis(100);

/// A queue that is empty for a moment is as full as before in the next.
const PERSISTS: Duration = Duration::from_secs(3);

/// One pool.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) history: History,
    paused: Spell,
    down: Spell,
    saturated: Spell,
    failing: Spell,
    degraded: Spell,
    /// Requests that ended at last count over a step, and those of them that failed.
    pub(super) ended: u64,
    pub(super) failed: u64,
    began: Instant,
    endpoints: HashMap<String, WatchedEndpoint>,
}

#[derive(Debug)]
pub(super) struct WatchedEndpoint {
    state: EndpointState,
    since: Instant,
    saturated: Spell,
}

/// A time during which something is so.
#[derive(Debug, Default)]
struct Spell {
    since: Option<Instant>,
    /// When it was last seen to be so.
    seen: Option<Instant>,
}

impl Spell {
    /// It is over once it has not been seen for longer than it `persists`.
    fn look(&mut self, is_so: bool, persists: Duration, now: Instant) {
        if is_so {
            self.since.get_or_insert(now);
            self.seen = Some(now);
        } else if self.seen.is_none_or(|seen| now - seen >= persists) {
            self.since = None;
        }
    }
}

impl Watched {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            history: History::default(),
            paused: Spell::default(),
            down: Spell::default(),
            saturated: Spell::default(),
            failing: Spell::default(),
            degraded: Spell::default(),
            ended: 0,
            failed: 0,
            began: now,
            endpoints: HashMap::new(),
        }
    }

    pub(super) fn look(&mut self, pool: &PoolSnapshot, now: Instant) {
        self.paused.look(pool.paused, Duration::ZERO, now);
        self.down.look(!pool.endpoints.iter().any(is_usable), Duration::ZERO, now);
        self.saturated.look(is_saturated(pool), PERSISTS, now);
        self.degraded.look(pool.endpoints.iter().any(is_ill), Duration::ZERO, now);
        self.endpoints.retain(|name, _| pool.endpoints.iter().any(|endpoint| endpoint.name == *name));
        for endpoint in &pool.endpoints {
            let new = || WatchedEndpoint { state: endpoint.state, since: now, saturated: Spell::default() };
            let watched = self.endpoints.entry(endpoint.name.clone()).or_insert_with(new);
            if watched.state != endpoint.state {
                (watched.state, watched.since) = (endpoint.state, now);
            }
            watched.saturated.look(endpoint.saturated, Duration::ZERO, now);
        }
    }

    /// The latest pace: it holds until the next.
    pub(super) fn count(&mut self, pace: &Pace, now: Instant) {
        (self.ended, self.failed) = (pace.requests, pace.failures);
        self.failing.look(pace.failures > 0, Duration::ZERO, now);
    }

    /// The worst of what is so, and for how long it has been.
    pub(super) fn level(&self, now: Instant) -> (Level, Duration) {
        let spells = [
            (Level::Paused, &self.paused),
            (Level::Down, &self.down),
            (Level::Saturated, &self.saturated),
            (Level::Failing, &self.failing),
            (Level::Degraded, &self.degraded),
        ];
        let worst = spells.into_iter().find_map(|(level, spell)| Some((level, now - spell.since?)));
        worst.unwrap_or((Level::Well, now - self.began))
    }

    /// For how long it has been in its state, and for how long it has had no free worker, if it has none.
    pub(super) fn endpoint(&self, name: &str, now: Instant) -> (Duration, Option<Duration>) {
        let Some(endpoint) = self.endpoints.get(name) else { return Default::default() };
        (now - endpoint.since, endpoint.saturated.since.map(|since| now - since))
    }
}

/// Requests wait, and not only for a connection that is being opened.
fn is_saturated(pool: &PoolSnapshot) -> bool {
    let mut usable = pool.endpoints.iter().filter(|endpoint| is_usable(endpoint));
    pool.queue_depth > 0 && (pool.oldest_wait >= LONG || usable.all(|endpoint| endpoint.saturated || is_full(endpoint)))
}

pub(super) fn is_usable(endpoint: &EndpointSnapshot) -> bool {
    matches!(endpoint.state, EndpointState::Up | EndpointState::Suspect)
}

pub(super) fn is_ill(endpoint: &EndpointSnapshot) -> bool {
    matches!(endpoint.state, EndpointState::Ejected | EndpointState::Suspect)
}

/// Every connection that may exist does, and is in use.
pub(super) fn is_full(endpoint: &EndpointSnapshot) -> bool {
    let idle = endpoint.connections[ConnectionState::Idle as usize];
    idle == 0 && endpoint.connections.iter().sum::<usize>() >= endpoint.limit.max(1)
}
