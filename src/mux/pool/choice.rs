//! Which connection an exchange gets, and where another one is opened.
//!
//! Two orders are kept up to date as things change, so that a choice costs the same with three endpoints and with three
//! hundred: those that have an idle connection or a free place ([`Rank`]), and those to which a connection may be opened.

use super::{
    Arrival, Directive, Handshake, LATE_AT_ONCE, Lease, PATIENCE, Pool, SCARCE, SlotKey,
    endpoint::{Endpoint, Rank, Room, Tier},
    is_coming,
    share::STALLED,
};
use crate::{config::Application, mux::label::ConnectionState};
use std::{
    ops::Bound,
    time::{Duration, Instant},
};

/// After so many exchanges one more endpoint gets a connection beyond those that are needed, so that it has its part of a
/// load that fewer could carry.
const WARM_EVERY: u32 = 8;
/// Endpoints that are looked at for one more connection; those behind them are fuller.
const CANDIDATES: usize = 8;

impl<W, C> Pool<W, C> {
    // ---------------------------------------------------------------- choosing

    /// For a waiter, or for one that comes: what it avoids, and since when it has waited.
    pub(super) fn checkout_any(&mut self, avoid: &[usize], since: Option<Instant>, now: Instant) -> Option<Arrival<C>> {
        if self.paused {
            return None;
        }
        let index = self.first_ready(avoid, since, now)?;
        let arrival = match self.application {
            Application::PhpFpm => Arrival::Lease(self.checkout(index, now)?),
            Application::Generic => Arrival::Share(self.checkout_share(index, avoid, now)?),
        };
        self.warm_up(index, now);
        Some(arrival)
    }

    /// The first in the order of those that have room; `None` also where a better one can be opened, but for a waiter
    /// that this has cost its patience.
    fn first_ready(&self, avoid: &[usize], since: Option<Instant>, now: Instant) -> Option<usize> {
        let (rank, index) = self.ready_for(avoid)?;
        let waits = self.is_better_openable(rank, avoid) && since.is_none_or(|since| now < since + PATIENCE);
        (!waits).then_some(index)
    }

    /// The first of those that have room.
    pub(super) fn ready_for(&self, avoid: &[usize]) -> Option<(Rank, usize)> {
        self.ready.iter().find(|(_, index)| !avoid.contains(index)).copied()
    }

    /// When the next waiter takes what there is, if it waits for a better one.
    pub(super) fn waits_for_better(&self) -> Option<Instant> {
        if self.ready.is_empty() || self.paused {
            return None;
        }
        let mut waiters =
            self.queue.iter().filter_map(|(_, claim, since)| Some((self.ready_for(&claim.avoid)?, since)));
        let ((rank, _), since) = waiters.next()?;
        (rank.tier != Tier::Stalled).then(|| since + PATIENCE)
    }

    /// A connection can be opened that would be better than the first that has room now. One to a saturated endpoint is
    /// not: it would wait. Nor is any better than one that is held up, which has rules of its own.
    fn is_better_openable(&self, rank: Rank, avoid: &[usize]) -> bool {
        if matches!(rank.tier, Tier::Near | Tier::Stalled) {
            return false;
        }
        let better = |room: &Room| room.tier < rank.tier && room.tier <= Tier::Far;
        self.openable.first().is_some_and(|(room, _)| better(room))
            && self.best_to_open(avoid).and_then(|index| self.endpoints[index].room).is_some_and(|room| better(&room))
    }

    /// The idle connection to use of an endpoint: the most recently used.
    fn checkout(&mut self, index: usize, now: Instant) -> Option<Lease<C>> {
        // An endpoint is in `ready` only while it has idle connections.
        let key = self.endpoints[index].idle.last().copied().expect("a ready endpoint has an idle connection");
        let since = self.slots.get(key).since;
        let connection = self.take_idle(key)?;
        Some(self.lease(key, connection, now.saturating_duration_since(since), now))
    }

    pub(super) fn lease(&mut self, key: SlotKey, connection: C, idle_for: Duration, now: Instant) -> Lease<C> {
        let slot = self.slots.get_mut(key);
        slot.rested = None;
        let used = slot.used;
        slot.used += 1;
        let (endpoint, age) = (slot.endpoint, now.saturating_duration_since(slot.opened));
        self.charge(endpoint);
        self.set_state(key, ConnectionState::Leased, now);
        let kept = self.endpoints[endpoint].kept();
        Lease { key, endpoint, connection, idle_for, used, age, kept, unproven: false }
    }

    /// It has been given one more.
    pub(super) fn charge(&mut self, index: usize) {
        let endpoint = &mut self.endpoints[index];
        // One that starts slowly and gets more than its part, since nobody else has room, takes nothing from the others.
        if endpoint.ahead.is_none() {
            self.served = self.served.max(endpoint.served);
        }
        endpoint.served += endpoint.load(1);
        while let Some(&(until, index)) = self.ahead.first()
            && until <= self.served
        {
            self.rank(index);
        }
    }

    // ---------------------------------------------------------------- the two orders

    /// Puts an endpoint in its places among those that have room and those to which a connection may be opened.
    pub(super) fn rank(&mut self, index: usize) {
        self.note_ahead(index);
        self.rank_ready(index);
        let openable = self.room_of(index);
        let endpoint = &mut self.endpoints[index];
        if endpoint.room != openable {
            endpoint.room.into_iter().for_each(|room| _ = self.openable.remove(&(room, index)));
            openable.into_iter().for_each(|room| _ = self.openable.insert((room, index)));
            endpoint.room = openable;
        }
    }

    /// The first of the two.
    fn rank_ready(&mut self, index: usize) {
        let ready = self.rank_of(index);
        let endpoint = &mut self.endpoints[index];
        if endpoint.rank != ready {
            endpoint.rank.into_iter().for_each(|rank| _ = self.ready.remove(&(rank, index)));
            ready.into_iter().for_each(|rank| _ = self.ready.insert((rank, index)));
            endpoint.rank = ready;
        }
    }

    pub(super) fn unrank(&mut self, index: usize) {
        let endpoint = &mut self.endpoints[index];
        endpoint.rank.take().into_iter().for_each(|rank| _ = self.ready.remove(&(rank, index)));
        endpoint.room.take().into_iter().for_each(|room| _ = self.openable.remove(&(room, index)));
        endpoint.ahead.take().into_iter().for_each(|ahead| _ = self.ahead.remove(&(ahead, index)));
    }

    /// Has it had its part for now, of those that start slowly?
    fn note_ahead(&mut self, index: usize) {
        let endpoint = &mut self.endpoints[index];
        let ahead = endpoint.slow_since.map(|_| endpoint.served).filter(|served| *served > self.served);
        if endpoint.ahead != ahead {
            endpoint.ahead.into_iter().for_each(|ahead| _ = self.ahead.remove(&(ahead, index)));
            ahead.into_iter().for_each(|ahead| _ = self.ahead.insert((ahead, index)));
            endpoint.ahead = ahead;
        }
    }

    fn rank_of(&mut self, index: usize) -> Option<Rank> {
        let endpoint = &mut self.endpoints[index];
        let (running, stalled) = match self.application {
            Application::PhpFpm => {
                endpoint.idle.last()?;
                (endpoint.count(ConnectionState::Leased), false)
            }
            Application::Generic => {
                let (rank, _) = endpoint.rooms.last().filter(|_| endpoint.takes_more())?;
                (endpoint.in_flight, *rank == STALLED)
            }
        };
        if !endpoint.is_usable() || (endpoint.health.is_on_trial() && running > 0) {
            return None;
        }
        endpoint.served = endpoint.served.max(endpoint.at_least(self.served));
        let tier = if stalled { Tier::Stalled } else { endpoint.tier(false) };
        Some(Rank { tier, load: endpoint.load(running), served: endpoint.served })
    }

    fn room_of(&self, index: usize) -> Option<Room> {
        let endpoint = &self.endpoints[index];
        let coming = endpoint.coming() * self.places_of(index);
        let room = endpoint.may_open(self.connections_at(index))
            && endpoint.takes_beyond(coming)
            && !self.is_being_asked(endpoint);
        let load = endpoint.load(endpoint.places_taken());
        room.then(|| Room { tier: endpoint.tier(true), load, opened: endpoint.opened })
    }

    /// How many exchanges a connection to it takes is not known, and one is on its way to find out.
    fn is_being_asked(&self, endpoint: &Endpoint) -> bool {
        let asks = self.application == Application::Generic
            && endpoint.question(self.connections.multiplex) == Handshake::Learn;
        asks && endpoint.coming() > 0
    }

    // ---------------------------------------------------------------- demand

    /// Gives what is free to waiters, and opens as many connections as there are waiters left that nothing on its way can
    /// be expected to serve.
    pub(super) fn serve(&mut self, now: Instant) {
        if self.queue.is_empty() {
            return;
        }
        // First: it may make another endpoint the better one.
        self.note_late(now);
        while let Some((waiter, arrival)) = self.match_next(now) {
            self.directives.push_back(match arrival {
                Arrival::Lease(lease) => Directive::Grant { waiter, lease },
                Arrival::Share(share) => Directive::GrantShare { waiter, share },
                // A checkout is no place in the queue.
                Arrival::Wait(_) => return,
            });
        }
        if self.queue.is_empty() || self.paused {
            return;
        }
        for (avoided, count) in self.queue.avoided() {
            self.open_for(count, &avoided, now);
        }
        self.open_for(self.queue.len(), &[], now);
    }

    /// The next waiter that what is free may serve. Behind one that waits for something better nobody overtakes, but
    /// behind one that may not have what there is.
    fn match_next(&mut self, now: Instant) -> Option<(W, Arrival<C>)> {
        if self.ready.is_empty() {
            return None;
        }
        let able = self.queue.iter().find(|(_, claim, _)| self.ready_for(&claim.avoid).is_some());
        let (key, avoid, since) = able.map(|(key, claim, since)| (key, claim.avoid.clone(), since))?;
        let arrival = self.checkout_any(&avoid, Some(since), now)?;
        Some((self.queue.remove(key)?, arrival))
    }

    /// Opens connections for as many waiters as nothing on its way will serve.
    fn open_for(&mut self, waiters: usize, avoid: &[usize], now: Instant) {
        let best = self.openable.iter().find(|(_, index)| !avoid.contains(index));
        let best = best.map_or(Tier::Stalled, |(room, _)| room.tier);
        let able = self.young().filter(|(_, slot)| !avoid.contains(&self.slots.at(*slot).endpoint));
        let mut expected: usize = able.map(|(_, slot)| self.expected_of(*slot, best)).sum();
        while expected < waiters {
            let Some(index) = self.best_to_open(avoid) else { return };
            self.open(index, now);
            expected += self.places_of(index);
        }
    }

    /// Connections that have been on their way for too long are not waited for any more: their endpoint is busy.
    fn note_late(&mut self, now: Instant) {
        let Some(late) = now.checked_sub(PATIENCE) else { return };
        let newly = self.coming_since(self.late).take_while(|(since, _)| *since <= late).take(LATE_AT_ONCE);
        let newly: Vec<_> = newly.map(|(_, slot)| *slot).collect();
        self.late = self.late.max(Some(late));
        for slot in newly {
            let slot = self.slots.at(slot);
            let index = slot.endpoint;
            if slot.hangs(PATIENCE, now) || slot.state == ConnectionState::Connecting {
                self.endpoints[index].hanging = true;
                self.rank(index);
            }
        }
        let Some(late) = now.checked_sub(SCARCE) else { return };
        let newly = self.coming_since(self.scarce).take_while(|(since, _)| *since <= late).take(LATE_AT_ONCE);
        let newly: Vec<_> = newly.map(|(_, slot)| *slot).collect();
        self.scarce = self.scarce.max(Some(late));
        newly.into_iter().for_each(|slot| self.press_if_scarce(slot, now));
    }

    /// No worker has accepted it for long, though none of ours may still be at work behind a request that was given up:
    /// others have them all.
    pub(super) fn press_if_scarce(&mut self, slot: usize, now: Instant) {
        let slot = self.slots.at(slot);
        let index = slot.endpoint;
        if slot.hangs(SCARCE, now) && !slot.instead && self.endpoints[index].ghosts(now) == 0 {
            self.press(index, now);
        }
    }

    /// Waiters that a connection on its way will serve; where a better one could be opened, none.
    fn expected_of(&self, slot: usize, best: Tier) -> usize {
        let index = self.slots.at(slot).endpoint;
        let endpoint = &self.endpoints[index];
        // A saturated one is not better: a connection opened there would wait.
        let worse = best <= Tier::Far && endpoint.tier(false) > best;
        if worse || !endpoint.is_usable() { 0 } else { self.places_of(index) }
    }

    fn places_of(&self, index: usize) -> usize {
        match self.application {
            Application::PhpFpm => 1,
            Application::Generic => self.places_at(index) as usize,
        }
    }

    /// Connections on their way that a waiter can expect, the oldest first.
    pub(super) fn young(&self) -> impl Iterator<Item = &(Instant, usize)> {
        self.coming_since(self.late)
    }

    pub(super) fn coming_since(&self, seen: Option<Instant>) -> impl Iterator<Item = &(Instant, usize)> {
        let from = seen.map_or(Bound::Unbounded, |seen| Bound::Excluded((seen, usize::MAX)));
        self.coming.range((from, Bound::Unbounded))
    }

    /// The endpoint with the fewest connections for its share that has room and is not left alone. A place or two in the
    /// backlog of each for a waiter is enough.
    pub(super) fn best_to_open(&self, avoid: &[usize]) -> Option<usize> {
        let places = 2 * self.queue.len().max(1);
        let able = self.openable.iter().map(|(_, index)| *index).filter(|index| !avoid.contains(index));
        let candidates = able.take(CANDIDATES);
        candidates.into_iter().find(|index| self.endpoints[*index].coming() < places)
    }

    pub(super) fn open(&mut self, index: usize, now: Instant) {
        let limit = self.limit_at(index);
        let endpoint = &mut self.endpoints[index];
        if endpoint.connections() >= limit {
            return;
        }
        let instead = endpoint.occupied(now) >= limit && endpoint.replace_ghost(now);
        let handshake = match self.application {
            Application::PhpFpm => endpoint.handshake(now),
            Application::Generic => endpoint.question(self.connections.multiplex),
        };
        endpoint.opened = endpoint.opened.max(endpoint.at_least(self.opened));
        if endpoint.slow_since.is_none() {
            self.opened = self.opened.max(endpoint.opened);
        }
        endpoint.opened += endpoint.load(1);
        endpoint.moved(None, Some(ConnectionState::Connecting));
        let key = self.slots.insert(index, now);
        self.slots.get_mut(key).instead = instead;
        self.coming.insert((now, key.index()));
        self.rank(index);
        self.directives.push_back(Directive::Open { key, endpoint: index, handshake });
    }

    /// Connections that this endpoint may have.
    pub(super) fn limit_at(&self, index: usize) -> usize {
        let limit = self.connections.per_endpoint;
        self.endpoints[index].workers.map_or(limit, |workers| workers.clamp(1, limit)) as usize
    }

    /// Now and then an endpoint with fewer connections for its share than others, `used` among them, gets one more that
    /// nobody waits for. Otherwise each of them would be given as much as it happens to have connections.
    pub(super) fn warm_up(&mut self, used: usize, now: Instant) {
        self.unwarmed += 1;
        if self.unwarmed < WARM_EVERY || self.draining {
            return;
        }
        self.unwarmed = 0;
        let used = &self.endpoints[used];
        let fullest = self.openable.last().filter(|(room, _)| room.tier <= Tier::Far).map_or(0, |(room, _)| room.load);
        let most = used.load(used.places_taken()).max(fullest);
        let fewer = |room: &Room, endpoint: &Endpoint| room.load == 0 || room.load + endpoint.load(1) <= most;
        // One that is used once and closed cannot wait for a request.
        let php = self.application == Application::PhpFpm;
        let lasts = |endpoint: &Endpoint| !php || endpoint.handshake(now) != Handshake::Skip;
        let better = self.openable.iter().take(CANDIDATES).take_while(|(room, _)| room.tier <= Tier::Far);
        let mut better = better.map(|(room, index)| (room, *index, &self.endpoints[*index]));
        let found = better.find(|(room, _, endpoint)| fewer(room, endpoint) && lasts(endpoint));
        let found = found.map(|(_, index, _)| index);
        found.into_iter().for_each(|index| self.open(index, now));
    }

    // ---------------------------------------------------------------- states

    /// The one place that moves a connection from state to state.
    pub(super) fn set_state(&mut self, key: SlotKey, state: ConnectionState, now: Instant) {
        let slot = self.slots.get_mut(key);
        let (before, index) = (slot.state, slot.endpoint);
        if is_coming(before) {
            self.coming.remove(&(slot.since, key.index()));
        }
        (slot.state, slot.since) = (state, now);
        if is_coming(state) {
            self.coming.insert((now, key.index()));
        }
        let endpoint = &mut self.endpoints[index];
        endpoint.moved(Some(before), Some(state));
        // Between use and rest it has as many as before, so that none more and none fewer may be opened; it happens with
        // every exchange.
        let opening = |state| matches!(state, ConnectionState::Connecting | ConnectionState::Proving);
        if opening(before) || opening(state) || endpoint.slow_since.is_some() {
            self.rank(index);
        } else {
            self.rank_ready(index);
        }
    }
}
