//! Connections that many exchanges share: who gets a place on which, and when one is opened or given up.
//!
//! Here the pool holds no connections but counts the places on them; the driver has each under its key. An application
//! that takes one exchange at a time is the case of one place.

use super::{Closed, Directive, Endpoint, Pool, Slot, SlotKey, lease::Share};
use crate::{
    config::Multiplex,
    mux::{channel::Values, label::ConnectionState},
};
use std::time::Instant;

/// The rank of a connection that one exchange holds up: behind all others.
pub(super) const STALLED: u32 = 0;

/// The places on one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) all: u32,
    pub(super) taken: u32,
    /// One exchange holds up the others: nobody else should join them while there is another way.
    pub(super) stalled: bool,
    /// It takes nothing new, and closes with its last exchange.
    pub(super) leaving: Option<Closed>,
}

impl Places {
    /// How soon the next exchange should come here; `None`: there is no place.
    pub(super) fn rank(&self) -> Option<u32> {
        let free = self.taken < self.all && self.leaving.is_none();
        free.then_some(if self.stalled { STALLED } else { self.taken + 1 })
    }
}

/// What a connection's handshake taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    Values(Values),
    /// It was asked, and did not answer in time.
    Mute,
    /// It was not asked.
    Nothing,
}

impl<W, C> Pool<W, C> {
    // ---------------------------------------------------------------- commands

    /// An exchange on a shared connection has ended for the application as well. The connection may be gone.
    pub fn release(&mut self, share: Share, now: Instant) {
        self.endpoints[share.endpoint].in_flight -= 1;
        if self.slots.try_get_mut(share.key).is_some() {
            self.ended_well(share.endpoint, now);
            self.change_places(share.key, |places| places.taken -= 1, now);
            self.retire_shared(share.key, now);
        } else {
            self.rank(share.endpoint);
            self.forget_if_gone(share.endpoint);
        }
        self.serve(now);
    }

    /// The same, of one that was not used: its waiter had left.
    pub fn release_untouched(&mut self, share: Share, now: Instant) {
        if let Some(slot) = self.slots.try_get_mut(share.key) {
            slot.used = slot.used.saturating_sub(1);
        }
        self.release(share, now);
    }

    // ---------------------------------------------------------------- events

    /// A connection is open and takes exchanges.
    pub fn joined(&mut self, key: SlotKey, learned: Learned, now: Instant) {
        let index = self.slots.get(key).endpoint;
        self.answered(index, now);
        self.endpoints[index].unanswered = 0;
        self.endpoints[index].learn(learned);
        let all = self.places_at(index);
        self.slots.get_mut(key).places = Some(Places { all, taken: 0, stalled: false, leaving: None });
        self.set_state(key, ConnectionState::Idle, now);
        self.endpoints[index].idle.push(key);
        self.reap_by(now + self.connections.surplus_idle);
        self.change_places(key, |_| {}, now);
        self.retire_shared(key, now);
        self.serve(now);
    }

    /// The application has said what it can after it was given exchanges.
    pub fn learned(&mut self, key: SlotKey, values: Values, now: Instant) {
        let Some(index) = self.slots.try_get_mut(key).map(|slot| slot.endpoint) else { return };
        self.endpoints[index].learn(Learned::Values(values));
        let all = self.places_at(index);
        if self.slots.get(key).places.is_some() {
            self.change_places(key, |places| places.all = all, now);
        }
        self.serve(now);
    }

    /// The application has refused an exchange beside another, whatever it said before.
    pub fn cannot_multiplex(&mut self, key: SlotKey, now: Instant) {
        self.learned(key, Values::default(), now);
    }

    /// One exchange holds up the others of its connection, or does so no longer.
    pub fn stalled(&mut self, key: SlotKey, stalled: bool, now: Instant) {
        if self.slots.try_get_mut(key).is_some_and(|slot| slot.places.is_some()) {
            self.change_places(key, |places| places.stalled = stalled, now);
            self.serve(now);
        }
    }

    /// A shared connection should take nothing new; if it `may` go on, not unless another can be had in its place.
    pub fn let_go(&mut self, key: SlotKey, reason: Closed, may: bool, now: Instant) {
        if may && self.slots.try_get_mut(key).is_some_and(|slot| slot.places.is_some_and(|places| places.taken > 0)) {
            let index = self.slots.get(key).endpoint;
            if !self.may_replace(index) {
                return;
            }
        }
        if self.slots.try_get_mut(key).is_some_and(|slot| slot.places.is_some()) {
            self.change_places(key, |places| places.leaving = places.leaving.or(Some(reason)), now);
            self.retire_shared(key, now);
            self.serve(now);
        }
    }

    /// A shared connection has ended. Returns why, for the metrics; `None` if the pool knows that already.
    pub fn gone(&mut self, key: SlotKey, reason: Closed, now: Instant) -> Option<Closed> {
        let slot = self.slots.try_get_mut(key)?;
        // An application may be faster in closing one that was to be closed.
        let leaving = slot.places.and_then(|places| places.leaving).filter(|_| reason == Closed::Application);
        let reason = leaving.unwrap_or(reason);
        if matches!(reason, Closed::Broken | Closed::Protocol) {
            self.broke(self.slots.get(key).endpoint, now);
        }
        self.forget_shared(key, reason, now);
        Some(reason)
    }

    // ---------------------------------------------------------------- for the rest of the pool

    /// A place: at the endpoint with the fewest exchanges, on the connection that has the most, so that another one is
    /// needed only when it is full.
    pub(super) fn checkout_share(&mut self, index: usize, avoid: &[usize], now: Instant) -> Option<Share> {
        // An endpoint is in `ready` only while it has a free place.
        let (rank, key) = *self.endpoints[index].rooms.last().expect("a ready endpoint has a free place");
        if rank == STALLED && (self.young().next().is_some() || self.best_to_open(avoid).is_some()) {
            return None;
        }
        self.charge(index);
        let may_replace = self.may_replace(index);
        self.endpoints[index].in_flight += 1;
        let slot = self.slots.get_mut(key);
        let used = slot.used;
        slot.used += 1;
        let age = now.saturating_duration_since(slot.opened);
        let worn = may_replace && self.connections.max_requests.is_some_and(|limit| slot.used >= limit);
        let take = |places: &mut Places| {
            places.taken += 1;
            if worn {
                places.leaving = places.leaving.or(Some(Closed::MaxRequests));
            }
        };
        self.change_places(key, take, now);
        Some(Share { key, endpoint: index, used, age })
    }

    /// Another connection may be opened beside those of an endpoint. Where none may, one that is old or has served enough
    /// goes on until it is idle: behind one long exchange on it everybody would wait.
    fn may_replace(&self, index: usize) -> bool {
        self.endpoints[index].connections() < self.connections_at(index)
    }

    /// Exchanges that a new connection to this endpoint can be expected to take.
    pub(super) fn places_at(&self, index: usize) -> u32 {
        self.places_for(self.endpoints[index].values())
    }

    fn places_for(&self, values: Option<Values>) -> u32 {
        let most = self.connections.max_requests_in_flight;
        match self.connections.multiplex {
            Multiplex::Always => most,
            Multiplex::Never => 1,
            Multiplex::Auto => match values {
                Some(values) if values.multiplexes => values.requests.map_or(most, |limit| limit.min(most)),
                _ => 1,
            },
        }
    }

    /// The application has answered what it can.
    pub fn answers(&self, endpoint: usize) -> bool {
        self.endpoints.get(endpoint).is_some_and(|endpoint| endpoint.values().is_some())
    }

    /// A connection to this endpoint takes one exchange at a time, given what it has taught.
    pub fn is_single(&self, endpoint: usize, learned: Learned) -> bool {
        let values = match learned {
            Learned::Values(values) => Some(values),
            Learned::Mute => None,
            // One that is gone takes nothing more in any case.
            Learned::Nothing => self.endpoints.get(endpoint).and_then(Endpoint::values),
        };
        self.places_for(values) == 1
    }

    /// Connections that this endpoint may have. What an application says of that counts where it speaks for all of its
    /// connections; one that takes a request at a time speaks for the process that happened to accept.
    pub(super) fn connections_at(&self, index: usize) -> usize {
        let limit = self.limit_at(index);
        let own = self.endpoints[index].values().filter(|values| values.multiplexes);
        own.and_then(|values| values.connections).map_or(limit, |own| limit.min(own as usize))
    }

    /// Its connections have as many places as the settings allow now.
    pub(super) fn replace_places(&mut self, index: usize, now: Instant) {
        let all = self.places_at(index);
        for key in self.slots.shared() {
            if self.slots.get(key).endpoint == index {
                self.change_places(key, |places| places.all = all, now);
                self.retire_shared(key, now);
            }
        }
    }

    pub(super) fn drain_shared(&mut self, now: Instant) {
        for key in self.slots.shared() {
            self.retire_shared(key, now);
        }
    }

    pub(super) fn close_shared(&mut self, key: SlotKey, reason: Closed, now: Instant) {
        let endpoint = self.slots.get(key).endpoint;
        self.directives.push_back(Directive::CloseShared { key, endpoint, reason });
        self.forget_shared(key, reason, now);
    }

    // ---------------------------------------------------------------- private

    /// Closes a connection that has no exchange any more and should not be used again.
    fn retire_shared(&mut self, key: SlotKey, now: Instant) {
        let slot = self.slots.get(key);
        let Some(places) = slot.places else { return };
        let index = slot.endpoint;
        let worn = self.connections.max_requests.is_some_and(|limit| slot.used >= limit);
        let surplus = self.is_surplus(index);
        let aged = self.connections.max_age.is_some_and(|limit| now.saturating_duration_since(slot.opened) >= limit);
        let reason = places.leaving.or_else(|| match () {
            () if self.draining && self.queue.is_empty() => Some(Closed::Drain),
            () if self.endpoints[index].is_draining() => Some(Closed::Leaving),
            () if self.paused || self.recycled.is_some_and(|at| slot.opened <= at) => Some(Closed::Reconnect),
            () if surplus => Some(Closed::Pressure),
            () if aged => Some(Closed::MaxAge),
            () if worn => Some(Closed::MaxRequests),
            () => None,
        });
        match reason {
            None => {}
            Some(reason) if places.taken == 0 => self.close_shared(key, reason, now),
            Some(_) if self.draining => {}
            Some(_) if places.leaving.is_none() && !surplus && !self.may_replace(index) => {}
            Some(reason) => self.change_places(key, |places| places.leaving = Some(reason), now),
        }
    }

    /// It has more connections than it may have, those that are about to end left out.
    fn is_surplus(&self, index: usize) -> bool {
        let (limit, all) = (self.limit_at(index), self.endpoints[index].connections());
        let leaves = |slot: &Slot<C>| slot.endpoint == index && slot.places.is_some_and(|each| each.leaving.is_some());
        all > limit && all - self.slots.iter().filter(|slot| leaves(slot)).count() > limit
    }

    /// The one place that changes how many exchanges a connection has or may have.
    fn change_places(&mut self, key: SlotKey, change: impl FnOnce(&mut Places), now: Instant) {
        let slot = self.slots.get_mut(key);
        let index = slot.endpoint;
        let places = slot.places.as_mut().expect("only shared connections have places");
        let before = *places;
        change(places);
        let after = *places;
        let rooms = &mut self.endpoints[index].rooms;
        before.rank().into_iter().for_each(|rank| _ = rooms.remove(&(rank, key)));
        after.rank().into_iter().for_each(|rank| _ = rooms.insert((rank, key)));
        if before.taken == 0 && after.taken > 0 {
            self.endpoints[index].idle.retain(|idle| *idle != key);
            self.set_state(key, ConnectionState::Leased, now);
        } else if before.taken > 0 && after.taken == 0 {
            self.set_state(key, ConnectionState::Idle, now);
            self.endpoints[index].idle.push(key);
            self.reap_by(now + self.connections.surplus_idle);
        }
        self.rank(index);
    }

    fn forget_shared(&mut self, key: SlotKey, reason: Closed, now: Instant) {
        let slot = self.slots.get(key);
        let index = slot.endpoint;
        if let Some(places) = slot.places {
            places.rank().into_iter().for_each(|rank| _ = self.endpoints[index].rooms.remove(&(rank, key)));
            self.endpoints[index].idle.retain(|idle| *idle != key);
        }
        self.remove(key, reason, false, now);
    }

    fn reap_by(&mut self, at: Instant) {
        self.reap_at = Some(self.reap_at.map_or(at, |earlier| earlier.min(at)));
    }
}

impl Endpoint {
    /// Another exchange may be sent to it.
    pub(super) fn takes_more(&self) -> bool {
        self.takes_beyond(0)
    }

    /// The same, with so many that are to come.
    pub(super) fn takes_beyond(&self, coming: usize) -> bool {
        let limit = self.values().filter(|values| values.multiplexes).and_then(|values| values.requests);
        limit.is_none_or(|limit| self.in_flight + coming < limit as usize)
    }
}
