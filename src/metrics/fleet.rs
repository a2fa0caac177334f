//! Pools and endpoints as they are at the moment of a scrape: endpoints come and go, and so do their series.

use super::{
    PoolMetrics,
    definition::{self, Definition},
    endpoint::EndpointCounts,
    text::Family,
    workers,
};
use crate::mux::{
    label::{Closed, ConnectionState, EndpointState},
    snapshot::{EndpointSnapshot, PoolSnapshot},
};
use std::{fmt::Display, sync::Arc};

/// Appends every metric that has the label `endpoint` or `source`, and what is looked at of a pool.
pub(super) fn render(text: &mut String, pools: &[(PoolMetrics, &PoolSnapshot)]) {
    of_pools(text, pools);
    of_sources(text, pools);
    let rows = rows(pools);
    states(text, &rows);
    counts(text, &rows);
    let known = rows.iter().filter_map(|row| Some(([row.pool, row.endpoint.name.as_str()], row.counts.workers()?)));
    workers::render(text, &known.collect::<Vec<_>>());
}

/// One endpoint of a pool.
struct Row<'a> {
    pool: &'a str,
    endpoint: &'a EndpointSnapshot,
    /// Zeros where nobody holds them: nothing was counted then.
    counts: Arc<EndpointCounts>,
}

/// By pool and name, so that two scrapes can be compared.
fn rows<'a>(pools: &'a [(PoolMetrics, &'a PoolSnapshot)]) -> Vec<Row<'a>> {
    let mut all = Vec::new();
    for (metrics, snapshot) in pools {
        let mut endpoints: Vec<_> = snapshot.endpoints.iter().collect();
        endpoints.sort_by(|one, other| one.name.cmp(&other.name));
        // Names differ; were that to fail, a series twice would cost the whole scrape.
        endpoints.dedup_by(|one, other| one.name == other.name);
        all.extend(endpoints.into_iter().map(|endpoint| {
            let counts = metrics.endpoint_counts(&endpoint.name).unwrap_or_default();
            Row { pool: metrics.name(), endpoint, counts }
        }));
    }
    all
}

fn of_pools(text: &mut String, pools: &[(PoolMetrics, &PoolSnapshot)]) {
    let mut gauge = |definition, look: fn(&PoolSnapshot) -> f64| {
        let mut family = Family::new(text, definition);
        for (metrics, snapshot) in pools {
            family.sample(&[metrics.name()], look(snapshot));
        }
    };
    gauge(&definition::QUEUE_DEPTH, |pool| pool.queue_depth as f64);
    gauge(&definition::QUEUE_LIMIT, |pool| pool.queue_limit as f64);
    gauge(&definition::QUEUE_OLDEST_WAIT, |pool| pool.oldest_wait.as_secs_f64());
    gauge(&definition::PAUSED, |pool| f64::from(u8::from(pool.paused)));
    let mut family = Family::new(text, &definition::ENDPOINTS);
    for (metrics, snapshot) in pools {
        for state in EndpointState::ALL {
            let count = snapshot.endpoints.iter().filter(|endpoint| endpoint.state == *state).count();
            family.sample(&[metrics.name(), state.label()], count);
        }
    }
}

fn of_sources(text: &mut String, pools: &[(PoolMetrics, &PoolSnapshot)]) {
    let sources: Vec<_> = pools.iter().map(|(metrics, _)| (metrics.name(), metrics.sources())).collect();
    let all =
        || sources.iter().flat_map(|(pool, sources)| sources.iter().map(move |(name, counts)| (*pool, name, counts)));
    let mut family = Family::new(text, &definition::DISCOVERY_LAST_SUCCESS);
    for (pool, source, counts) in all() {
        family.sample(&[pool, source], counts.last_success());
    }
    drop(family);
    let mut family = Family::new(text, &definition::DISCOVERY_ENDPOINTS);
    for (pool, source, counts) in all() {
        family.sample(&[pool, source], counts.endpoints());
    }
}

fn states(text: &mut String, rows: &[Row<'_>]) {
    by_word(
        text,
        &definition::CONNECTIONS,
        rows,
        ConnectionState::ALL.iter().map(|state| state.label()),
        |row, state| row.endpoint.connections[state],
    );
    each(text, &definition::CONNECTIONS_LIMIT, rows, |row| row.endpoint.limit);
    each(text, &definition::IN_FLIGHT, rows, |row| row.endpoint.in_flight);
    each(text, &definition::ENDPOINT_UP, rows, |row| u8::from(row.endpoint.state != EndpointState::Ejected));
    by_word(
        text,
        &definition::ENDPOINT_STATE,
        rows,
        EndpointState::ALL.iter().map(|state| state.label()),
        |row, state| u8::from(row.endpoint.state as usize == state),
    );
    each(text, &definition::ENDPOINT_SATURATED, rows, |row| u8::from(row.endpoint.saturated));
    each(text, &definition::ENDPOINT_HELD, rows, |row| u8::from(row.endpoint.held));
    each(text, &definition::ENDPOINT_NEAR, rows, |row| u8::from(row.endpoint.near));
    each(text, &definition::ENDPOINT_WEIGHT, rows, |row| row.endpoint.weight);
}

fn counts(text: &mut String, rows: &[Row<'_>]) {
    each(text, &definition::EJECTIONS, rows, |row| row.endpoint.ejections);
    each(text, &definition::ENDPOINT_REQUESTS, rows, |row| row.counts.requests());
    each(text, &definition::OPENED, rows, |row| row.counts.opened());
    by_word(text, &definition::CLOSED, rows, Closed::ALL.iter().map(|reason| reason.label()), |row, reason| {
        row.counts.closed(Closed::ALL[reason])
    });
}

/// A metric with the labels pool and endpoint.
fn each<T: Display>(
    text: &mut String,
    definition: &'static Definition,
    rows: &[Row<'_>],
    look: impl Fn(&Row<'_>) -> T,
) {
    let mut family = Family::new(text, definition);
    for row in rows {
        family.sample(&[row.pool, &row.endpoint.name], look(row));
    }
}

/// A metric with a third label, one series for each of its `words`; `look` is given a word's place.
fn by_word<T: Display>(
    text: &mut String,
    definition: &'static Definition,
    rows: &[Row<'_>],
    words: impl Iterator<Item = &'static str> + Clone,
    look: impl Fn(&Row<'_>, usize) -> T,
) {
    let mut family = Family::new(text, definition);
    for row in rows {
        for (place, word) in words.clone().enumerate() {
            family.sample(&[row.pool, &row.endpoint.name, word], look(row, place));
        }
    }
}
