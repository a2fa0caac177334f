//! Connections that rest: which may be leased, and when each is asked, closed or forgotten.

use super::{Directive, FENCE_WITHIN, Pool, Settling, SlotKey, share::STALLED};
use crate::{
    config::Application,
    mux::label::{Closed, ConnectionState},
};
use std::{cmp::Reverse, time::Instant};

impl<W, C> Pool<W, C> {
    pub(super) fn rest(&mut self, key: SlotKey, connection: C, now: Instant) {
        self.set_state(key, ConnectionState::Idle, now);
        let slot = self.slots.get_mut(key);
        slot.connection = Some(connection);
        let (index, unfenced) = (slot.endpoint, slot.unfenced);
        self.endpoints[index].idle.push(key);
        self.rank(index);
        let (due, limit) = match unfenced {
            true => (&mut self.fence_at, FENCE_WITHIN),
            false => (&mut self.reap_at, self.connections.surplus_idle),
        };
        *due = Some(due.map_or(now + limit, |earlier| earlier.min(now + limit)));
    }

    /// Takes a connection out of rest; its state, and with it its endpoint's rank, is the caller's to set.
    pub(super) fn take_idle(&mut self, key: SlotKey) -> Option<C> {
        let slot = self.slots.try_get_mut(key)?;
        let connection = slot.connection.take()?;
        let index = slot.endpoint;
        let idle = &mut self.endpoints[index].idle;
        // Most often the last one: it was used most recently.
        let place = idle.iter().rposition(|each| *each == key).expect("an idle connection is listed at its endpoint");
        idle.remove(place);
        Some(connection)
    }

    /// Puts an endpoint in its place among those that are ready, or takes it out.
    pub(super) fn rank(&mut self, index: usize) {
        let endpoint = &mut self.endpoints[index];
        if let Some((leased, used)) = endpoint.rank.take() {
            self.ready.remove(&(leased, used, index));
        }
        let (best, load) = match self.application {
            Application::PhpFpm => (endpoint.idle.last(), endpoint.count(ConnectionState::Leased)),
            Application::Generic => {
                let room = endpoint.rooms.last().filter(|_| endpoint.takes_more());
                // Behind every endpoint that has a place on a connection which nothing holds up.
                let last = if room.is_some_and(|(rank, _)| *rank == STALLED) { usize::MAX / 2 } else { 0 };
                (room.map(|(_, key)| key), endpoint.in_flight + last)
            }
        };
        if let Some(best) = best {
            let rank = (load, Reverse(self.slots.get(*best).since));
            endpoint.rank = Some(rank);
            self.ready.insert((rank.0, rank.1, index));
        }
    }

    pub(super) fn close_idle(&mut self, key: SlotKey, reason: Closed, now: Instant) {
        if self.slots.get(key).places.is_some() {
            return self.close_shared(key, reason, now);
        }
        if let Some(connection) = self.take_idle(key) {
            self.close_slot(key, connection, reason, now);
        }
    }

    /// The application closed one connection: are the idle ones of that endpoint still good?
    pub(super) fn probe_idle(&mut self, index: usize, now: Instant) {
        for key in self.endpoints[index].idle.clone() {
            self.probe(key, now);
        }
    }

    /// Lets an idle connection prove that its worker is free.
    pub(super) fn probe(&mut self, key: SlotKey, now: Instant) {
        let Some(connection) = self.take_idle(key) else { return };
        self.set_state(key, ConnectionState::Settling, now);
        let endpoint = self.slots.get(key).endpoint;
        self.rank(endpoint);
        self.directives.push_back(Directive::Probe { settling: Settling { key, endpoint }, connection });
    }

    /// Sends the fences that no request has taken along.
    pub(super) fn send_fences(&mut self, now: Instant) {
        self.fence_at = None;
        for key in self.slots.idle() {
            let slot = self.slots.get(key);
            let at = slot.since + FENCE_WITHIN;
            match slot.unfenced {
                true if at <= now => self.probe(key, now),
                true => self.fence_at = Some(self.fence_at.map_or(at, |earlier| earlier.min(at))),
                false => {}
            }
        }
    }

    pub(super) fn reap(&mut self, now: Instant) {
        self.reap_at = None;
        let mut next: Option<Instant> = None;
        for index in 0..self.endpoints.len() {
            // The first is the least recently used; the last is the one that may stay longer.
            let idle = self.endpoints[index].idle.clone();
            let last = idle.len().saturating_sub(1);
            for (place, key) in idle.into_iter().enumerate() {
                if self.slots.get(key).unfenced {
                    continue; // and looked at again when it is fenced and rests
                }
                let limit = if place == last { self.connections.idle_timeout } else { self.connections.surplus_idle };
                let at = self.slots.get(key).since + limit;
                if at <= now {
                    self.close_idle(key, Closed::Idle, now);
                } else {
                    next = Some(next.map_or(at, |earlier| earlier.min(at)));
                }
            }
        }
        self.reap_at = next;
    }
}
