//! Connections that rest: which may be leased, and when each is asked, closed or forgotten.

use super::{Directive, Pool, Settling, SlotKey};
use crate::mux::label::{Closed, ConnectionState};
use std::time::Instant;

impl<W, C> Pool<W, C> {
    pub(super) fn rest(&mut self, key: SlotKey, connection: C, now: Instant) {
        self.set_state(key, ConnectionState::Idle, now);
        let slot = self.slots.get_mut(key);
        slot.connection = Some(connection);
        let rested = *slot.rested.get_or_insert(now);
        let index = slot.endpoint;
        let idle = &self.endpoints[index].idle;
        // Nearly always the last one: it was used most recently.
        let behind = idle.iter().rposition(|each| self.slots.get(*each).rested <= Some(rested));
        let place = behind.map_or(0, |behind| behind + 1);
        self.endpoints[index].idle.insert(place, key);
        self.rank(index);
        let limit = self.endpoints[index].rest_limit(now).unwrap_or(self.connections.surplus_idle);
        sooner(&mut self.reap_at, (rested + limit).max(now));
        self.connections.heartbeat.into_iter().for_each(|every| sooner(&mut self.beat_at, now + every));
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
        self.ask(key, connection, now);
    }

    pub(super) fn ask(&mut self, key: SlotKey, connection: C, now: Instant) {
        self.set_state(key, ConnectionState::Settling, now);
        let endpoint = self.slots.get(key).endpoint;
        self.directives.push_back(Directive::Probe { settling: Settling { key, endpoint }, connection });
    }

    /// Asks idle connections for a sign of life: a worker that is told to stop leaves only when it is asked (fact 6.2), and
    /// a host that is gone says nothing by itself.
    pub(super) fn beat(&mut self, now: Instant) {
        self.beat_at = None;
        let Some(every) = self.connections.heartbeat else { return };
        let mut next: Option<Instant> = None;
        for key in self.slots.idle() {
            let slot = self.slots.get(key);
            // Those that are due a little later go along, so that it is not looked too often.
            if slot.since + every * 3 / 4 <= now {
                self.probe(key, now);
            } else {
                sooner(&mut next, slot.since + every);
            }
        }
        self.beat_at = next;
    }

    pub(super) fn reap(&mut self, now: Instant) {
        self.reap_at = None;
        let mut next: Option<Instant> = None;
        for index in self.indices() {
            if self.endpoints[index].forget_ghosts(now) {
                self.rank(index);
            }
            // The first is the least recently used; the last is the one that may stay longer.
            let idle = self.endpoints[index].idle.clone();
            let pressed = self.endpoints[index].rest_limit(now);
            let last = idle.len().saturating_sub(1);
            for (place, key) in idle.into_iter().enumerate() {
                let slot = self.slots.get(key);
                let (limit, reason) = match pressed {
                    Some(limit) => (limit, Closed::Pressure),
                    None if place == last => (self.connections.idle_timeout, Closed::Idle),
                    None => (self.connections.surplus_idle, Closed::Idle),
                };
                let at = slot.rested.unwrap_or(slot.since) + limit;
                if at <= now {
                    self.close_idle(key, reason, now);
                } else {
                    sooner(&mut next, at);
                }
            }
        }
        self.reap_at = next;
    }
}

/// Something is due by then.
pub(super) fn sooner(due: &mut Option<Instant>, at: Instant) {
    *due = Some(due.map_or(at, |earlier| earlier.min(at)));
}
