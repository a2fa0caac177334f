//! What a pool looks like at one moment, for the admin server.

use super::{Claim, Pool, endpoint::Endpoint};
use crate::{
    config::Application,
    mux::{
        label::ConnectionState,
        snapshot::{ConnectionSnapshot, EndpointSnapshot, PoolSnapshot, WaiterSnapshot},
    },
};
use std::time::Instant;

impl<W, C> Pool<W, C> {
    pub fn snapshot(&self, now: Instant) -> PoolSnapshot {
        let endpoints = self.endpoints.iter().map(|(index, endpoint)| self.show(index, endpoint, now));
        PoolSnapshot {
            queue_depth: self.queue.len(),
            queue_limit: self.queue.limit(),
            oldest_wait: self.queue.oldest_wait(now),
            paused: self.paused,
            endpoints: endpoints.collect(),
        }
    }

    /// Every upstream connection.
    pub fn connections(&self, now: Instant) -> Vec<ConnectionSnapshot> {
        let show = |slot: &super::Slot<C>| ConnectionSnapshot {
            endpoint: self.endpoints[slot.endpoint].name.clone(),
            state: slot.state,
            age: now.saturating_duration_since(slot.opened),
            since: now.saturating_duration_since(slot.rested.unwrap_or(slot.since)),
            requests: slot.used,
            in_flight: match slot.places {
                Some(places) => places.taken,
                None => u32::from(slot.state == ConnectionState::Leased),
            },
        };
        self.slots.iter().map(show).collect()
    }

    /// The first `at_most` that wait, in the order in which they are served, and how many there are in all.
    pub fn waiters(&self, at_most: usize, now: Instant) -> (usize, Vec<WaiterSnapshot>) {
        let show = |(_, claim, since): (_, &Claim, _)| WaiterSnapshot {
            waited: now.saturating_duration_since(since),
            again: claim.again,
        };
        (self.queue.len(), self.queue.iter().take(at_most).map(show).collect())
    }

    fn show(&self, index: usize, endpoint: &Endpoint, now: Instant) -> EndpointSnapshot {
        EndpointSnapshot {
            name: endpoint.name.clone(),
            connections: endpoint.counts_with_ghosts(now),
            limit: self.limit_at(index),
            in_flight: match self.application {
                Application::PhpFpm => endpoint.count(ConnectionState::Leased),
                Application::Generic => endpoint.in_flight,
            },
            state: endpoint.state(),
            ejections: endpoint.health.ejections(),
            weight: endpoint.weight,
            near: endpoint.near,
            held: endpoint.held,
            saturated: endpoint.is_saturated(),
        }
    }
}
