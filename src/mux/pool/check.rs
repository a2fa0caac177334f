//! What must hold of a pool between two calls, worked out anew from what it holds: for the tests.

use super::{
    Claim, Pool, SlotKey,
    endpoint::{Endpoint, Rank, Room, Tier},
    is_coming,
    share::STALLED,
};
use crate::{config::Application, mux::label::ConnectionState};
use std::collections::BTreeSet;

impl<W, C> Pool<W, C> {
    /// # Panics
    /// Something that the pool keeps up to date as things change is not what it should be.
    pub fn check(&self) {
        for (index, endpoint) in &self.endpoints {
            self.check_counts(index, endpoint);
            self.check_health(index, endpoint);
            assert_eq!(self.by_address.get(&endpoint.address), Some(&index), "{endpoint:?}");
            assert_eq!(endpoint.rank, self.rank_anew(endpoint), "{endpoint:?}");
            assert_eq!(endpoint.room, self.room_anew(index, endpoint), "{endpoint:?}");
        }
        assert_eq!(self.by_address.len(), self.endpoints.len());
        self.check_orders();
        self.check_clocks();
        self.check_waiters();
        let (all, _) = self.ejected();
        let members = self.endpoints.iter().filter(|(_, endpoint)| !endpoint.is_draining());
        let broken = members.filter(|(_, endpoint)| endpoint.health.is_broken()).count();
        assert!(2 * broken <= all, "{broken} of {all} are left alone for how their exchanges ended");
    }

    fn check_counts(&self, index: usize, endpoint: &Endpoint) {
        let own = || self.slots.keys().filter(move |key| self.slots.get(*key).endpoint == index);
        for &state in ConnectionState::ALL {
            let counted = own().filter(|key| self.slots.get(*key).state == state).count();
            assert_eq!(endpoint.count(state), counted, "{state:?}: {endpoint:?}");
        }
        let resting: BTreeSet<SlotKey> =
            own().filter(|key| self.slots.get(*key).state == ConnectionState::Idle).collect();
        assert_eq!(endpoint.idle.len(), resting.len(), "{endpoint:?}");
        assert_eq!(endpoint.idle.iter().copied().collect::<BTreeSet<_>>(), resting, "{endpoint:?}");
        assert!(endpoint.idle.is_sorted_by_key(|key| self.slots.get(*key).rested), "{endpoint:?}");
        let rooms = own().filter_map(|key| Some((self.slots.get(key).places?.rank()?, key)));
        assert_eq!(endpoint.rooms, rooms.collect(), "{endpoint:?}");
        let taken: u32 = own().filter_map(|key| Some(self.slots.get(key).places?.taken)).sum();
        assert!(endpoint.in_flight >= taken as usize, "{endpoint:?}");
        assert!(!endpoint.hanging || endpoint.coming() > 0, "{endpoint:?}");
        let left = endpoint.connections() + endpoint.in_flight;
        assert!(endpoint.named || left > 0, "nothing is left of it: {endpoint:?}");
    }

    /// An endpoint that is not used is tried again, and something will show whether it is well.
    fn check_health(&self, index: usize, endpoint: &Endpoint) {
        let health = &endpoint.health;
        let (retry_at, coming) = (health.retry_at(), endpoint.coming() > 0);
        assert!(retry_at.is_some() || !health.is_broken(), "never tried again: {endpoint:?}");
        let doubted = health.is_ejected() || health.is_suspect();
        assert!(retry_at.is_some() || coming || !doubted, "never tried again: {index} {endpoint:?}");
        if let Some(at) = retry_at.filter(|_| !endpoint.is_draining() && !self.paused) {
            assert!(self.retry_at.is_some_and(|next| next <= at), "not tried again in time: {endpoint:?}");
        }
    }

    /// Its place among those that have room.
    fn rank_anew(&self, endpoint: &Endpoint) -> Option<Rank> {
        let (running, has_room, stalled) = match self.application {
            Application::PhpFpm => (endpoint.count(ConnectionState::Leased), !endpoint.idle.is_empty(), false),
            Application::Generic => {
                let best = endpoint.rooms.iter().next_back().map(|(rank, _)| *rank);
                (endpoint.in_flight, best.is_some() && endpoint.takes_more(), best == Some(STALLED))
            }
        };
        let usable = !endpoint.leaving && !endpoint.held && !endpoint.health.is_ejected();
        let one_too_many = endpoint.health.is_on_trial() && running > 0;
        let tier = match () {
            () if stalled => Tier::Stalled,
            () if endpoint.health.is_suspect() => Tier::Suspect,
            () if self.is_ahead(endpoint) => Tier::Slow,
            () if endpoint.near => Tier::Near,
            () => Tier::Far,
        };
        let rank = Rank { tier, load: endpoint.load(running), served: endpoint.served };
        (usable && has_room && !one_too_many).then_some(rank)
    }

    /// Its place among those to which a connection may be opened.
    fn room_anew(&self, index: usize, endpoint: &Endpoint) -> Option<Room> {
        let usable = !endpoint.leaving && !endpoint.held && !endpoint.health.is_ejected();
        let pauses = endpoint.health.retry_at().is_some();
        let tried = endpoint.health.is_on_trial() && endpoint.connections() > 0;
        let fits = endpoint.connections() < self.connections_at(index);
        let wanted = match self.application {
            Application::PhpFpm => true,
            Application::Generic => {
                let asks = endpoint.question(self.connections.multiplex) == super::Handshake::Learn;
                let coming = endpoint.coming() * self.places_at(index) as usize;
                endpoint.takes_beyond(coming) && !(asks && endpoint.coming() > 0)
            }
        };
        let full = endpoint.full || endpoint.hanging;
        let tier = match (endpoint.health.is_suspect(), full, endpoint.near) {
            (true, ..) => Tier::Suspect,
            (_, true, true) => Tier::NearSaturated,
            (_, true, false) => Tier::FarSaturated,
            _ if self.is_ahead(endpoint) => Tier::Slow,
            (_, false, true) => Tier::Near,
            (_, false, false) => Tier::Far,
        };
        let open = usable && !pauses && !tried && fits && wanted;
        open.then(|| Room { tier, load: endpoint.load(endpoint.places_taken()), opened: endpoint.opened })
    }

    fn is_ahead(&self, endpoint: &Endpoint) -> bool {
        endpoint.slow_since.is_some() && endpoint.served > self.served
    }

    fn check_orders(&self) {
        let ranked = self.endpoints.iter().filter_map(|(index, endpoint)| Some((endpoint.rank?, index)));
        assert_eq!(self.ready, ranked.collect());
        let open = self.endpoints.iter().filter_map(|(index, endpoint)| Some((endpoint.room?, index)));
        assert_eq!(self.openable, open.collect());
        let ahead = self.endpoints.iter().filter(|(_, endpoint)| self.is_ahead(endpoint));
        assert_eq!(self.ahead, ahead.map(|(index, endpoint)| (endpoint.served, index)).collect());
        let coming = self.slots.keys().filter(|key| is_coming(self.slots.get(*key).state));
        assert_eq!(self.coming, coming.map(|key| (self.slots.get(key).since, key.index())).collect());
        assert!(self.slots.keys().all(|key| self.endpoints.contains(self.slots.get(key).endpoint)));
    }

    /// Whatever is to happen by itself has a time.
    fn check_clocks(&self) {
        let resting = || self.slots.keys().map(|key| self.slots.get(key)).filter(|slot| slot.connection.is_some());
        let any = resting().next().is_some();
        assert!(self.beat_at.is_some() || self.connections.heartbeat.is_none() || !any, "nobody is asked");
        assert!(self.reap_at.is_some() || !any, "nothing is reaped");
        let slow = self.endpoints.iter().any(|(_, endpoint)| endpoint.slow_since.is_some());
        assert!(self.ramp_at.is_some() || !slow, "a slow start never ends");
    }

    /// Nobody waits beside room on a connection, but for a better one that is on its way.
    fn check_waiters(&self) {
        if self.queue.is_empty() {
            return;
        }
        assert!(self.next_deadline().is_some());
        for (_, claim, _) in self.queue.iter() {
            let hope = claim.avoid.is_empty() || self.has_other(&claim.avoid);
            assert!(hope, "it waits for an endpoint that there is not: {claim:?}");
            let Some((rank, index)) = self.ready_for(&claim.avoid).filter(|_| !self.paused) else { continue };
            let young = self.young().next().is_some();
            let stalled = rank.tier == Tier::Stalled && self.best_to_open(&claim.avoid).is_some();
            assert!(young || stalled, "somebody waits beside room at {index}: {:?}", self.endpoints[index]);
        }
    }

    /// A request goes to a worker that has not proved itself free only where none that has can be had, and where it may be
    /// sent again if the worker turns out to be busy.
    pub(super) fn check_unproven(&self, claim: &Claim) {
        assert!(claim.repeatable, "may not be sent again: {claim:?}");
        assert!(self.ready_for(&claim.avoid).is_none(), "beside a worker that is free: {claim:?}");
    }
}
