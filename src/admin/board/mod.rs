//! What the pool page and `fcgimux top` show: each pool now, how fast it is, how it has been for a quarter of an hour, and
//! in words whether anything is wrong with it.
//!
//! It looks by itself once a second, whoever watches, so that a page opened later knows since when. Several pages that are
//! open share one document.

mod condition;
mod history;
mod pace;
mod page;
mod watch;

pub mod overview;

use super::{AdminState, json};
use crate::{
    metrics::{PoolTotals, SocketCounts},
    mux::snapshot::PoolSnapshot,
};
use hyper::body::Bytes;
use overview::{Overview, Sockets};
use pace::Pace;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use watch::Watched;

pub(super) use page::{CONTENT_SECURITY_POLICY, PAGE};

/// Between two samples of the history. Rates are over as long, or a little longer.
const STEP: Duration = Duration::from_secs(5);

/// A document that is younger is served again.
const FRESH: Duration = Duration::from_millis(900);

/// See the [module](self).
#[derive(Default)]
pub(super) struct Board {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    pools: HashMap<String, Watched>,
    /// The first is the youngest that is at least a [`STEP`] old, as soon as there is one: rates count from it.
    readings: VecDeque<Arc<Reading>>,
    /// That of the last sample.
    sampled: Option<Arc<Reading>>,
    /// Of when somebody asked last.
    sockets: Option<(Instant, SocketCounts)>,
    document: Option<(Instant, Bytes)>,
}

/// Everything that had been counted at one moment, by pool.
struct Reading {
    at: Instant,
    pools: HashMap<String, PoolTotals>,
}

impl Board {
    /// To be called each second.
    pub(super) fn tick(&self, state: &AdminState) {
        let (now, pools) = (Instant::now(), state.process.pools());
        let mut inner = self.lock();
        inner.look(&pools, now);
        // A tick may come a little early.
        let due = |sampled: &Arc<Reading>| now - sampled.at + Duration::from_millis(500) >= STEP;
        if inner.sampled.as_ref().is_none_or(due) {
            inner.sample(state, &pools, now);
        }
    }

    /// The [`Overview`] as JSON, not older than a second.
    pub(super) fn document(&self, state: &AdminState) -> Bytes {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some((at, document)) = &inner.document
            && now - *at < FRESH
        {
            return document.clone();
        }
        let pools = state.process.pools();
        inner.look(&pools, now);
        let reading = inner.read(state, &pools, now);
        // The system's tables may be long.
        if inner.sockets.is_none_or(|(counted, _)| now - counted >= STEP) {
            inner.sockets = Some((now, state.sockets(&pools)));
        }
        let document = Bytes::from(json::text(&inner.overview(state, &pools, &reading)));
        inner.document = Some((now, document.clone()));
        document
    }

    /// Whatever happened under the lock, what is shown mends itself with the next look.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What can be seen without counting: since when anything is as it is.
    fn look(&mut self, pools: &[(String, PoolSnapshot)], now: Instant) {
        self.pools.retain(|name, _| pools.iter().any(|(known, _)| known == name));
        for (name, pool) in pools {
            self.pools.entry(name.clone()).or_insert_with(|| Watched::new(now)).look(pool, now);
        }
    }

    /// Counts as well.
    fn read(&mut self, state: &AdminState, pools: &[(String, PoolSnapshot)], now: Instant) -> Arc<Reading> {
        let reading = Arc::new(Reading { at: now, pools: state.metrics.totals(pools) });
        self.readings.push_back(reading.clone());
        while self.readings.get(1).is_some_and(|next| now - next.at >= STEP) {
            self.readings.pop_front();
        }
        for (name, totals) in &reading.pools {
            let pace = self.pace(name, totals, now);
            self.pools.get_mut(name).into_iter().for_each(|watched| watched.count(&pace, now));
        }
        reading
    }

    fn sample(&mut self, state: &AdminState, pools: &[(String, PoolSnapshot)], now: Instant) {
        let reading = self.read(state, pools, now);
        if let Some(before) = self.sampled.replace(reading.clone()) {
            for (name, pool) in pools {
                let pace = Pace::between(before.pools.get(name), reading.pools.get(name), now - before.at);
                self.pools.get_mut(name).into_iter().for_each(|watched| watched.history.add(&pace, pool));
            }
        }
    }

    /// Since the first reading.
    fn pace(&self, pool: &str, totals: &PoolTotals, now: Instant) -> Pace {
        let Some(first) = self.readings.front() else { return Pace::default() };
        Pace::between(first.pools.get(pool), Some(totals), now - first.at)
    }

    fn overview(&self, state: &AdminState, pools: &[(String, PoolSnapshot)], reading: &Reading) -> Overview {
        let lasted = self.readings.front().map_or(Duration::ZERO, |first| reading.at - first.at);
        let show = |(name, pool): &(String, PoolSnapshot)| {
            let (watched, totals) = (self.pools.get(name)?, reading.pools.get(name)?);
            let unsampled = self
                .sampled
                .as_ref()
                .map(|sampled| Pace::between(sampled.pools.get(name), Some(totals), reading.at - sampled.at).failures);
            let pace = self.pace(name, totals, reading.at);
            let failures = watched.history.failures() + unsampled.unwrap_or_default();
            Some(overview::Pool::new(name, pool, &overview::Known { watched, totals, pace, failures, now: reading.at }))
        };
        Overview {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interval_seconds: json::seconds(lasted),
            downstream_connections: state.metrics.downstream_connections().get().max(0).unsigned_abs(),
            sockets: Sockets::from(self.sockets.map(|(_, counts)| counts).unwrap_or_default()),
            pools: pools.iter().filter_map(show).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
