//! Who gets which connection, and when one is opened, reaped, given up or refused.
//!
//! # States of a connection
//!
//! ```text
//!  Open ──> connecting ──> proving ──> idle <──────────┐
//!                                       │ checkout     │ checkin (Clean)
//!                                       v              │
//!                                     leased ──────> settling
//! ```
//! From every state a connection may be closed; what a caller holds of it then is void.
//!
//! # Calling order
//!
//! Commands ([`Pool::arrive`], [`Pool::settle`], [`Pool::checkin`], ...) and [`Pool::tick`] change the state; after each
//! one the driver takes directives from [`Pool::poll_directive`] until there are none, and calls [`Pool::tick`] again no
//! later than [`Pool::next_deadline`].
//!
//! With an application other than php-fpm exchanges share connections: see `share`.
//!
//! The pool is generic over what the driver keeps of a waiter (`W`) and of an idle connection (`C`): it holds them and
//! hands them on, and never looks inside.

mod endpoint;
mod idle;
mod lease;
mod queue;
mod share;
mod slot;

use super::{
    label::{Closed, ConnectionState, Refusal},
    proof::Clean,
    snapshot::{EndpointSnapshot, PoolSnapshot},
};
use crate::config;
use endpoint::{Endpoint, Health};
use queue::Queue;
use slot::{Slot, Slots};
use std::{
    cmp::Reverse,
    collections::{BTreeSet, VecDeque},
    ops::Bound,
    time::{Duration, Instant},
};

pub use lease::{Arrival, Directive, Handshake, Lease, OpenFailure, Settling, Share};
pub use queue::WaiterKey;
pub use share::Learned;
pub use slot::SlotKey;

/// How long a connection may be on its way (connecting, proving, settling) and still count as one that a waiter can
/// expect. Behind that its worker is busy with something else, and another connection is opened (rule R4).
const PATIENCE: Duration = Duration::from_millis(10);

/// How long a connection may rest before its fence is sent by itself, if no request comes to take it along.
const FENCE_WITHIN: Duration = Duration::from_millis(5);

/// See the [module](self).
#[derive(Debug)]
pub struct Pool<W, C> {
    application: config::Application,
    connections: config::Connections,
    endpoints: Vec<Endpoint>,
    slots: Slots<C>,
    queue: Queue<W>,
    directives: VecDeque<Directive<W, C>>,
    /// Endpoints with idle connections: fewest leased first, then most recently used.
    ready: BTreeSet<(usize, Reverse<Instant>, usize)>,
    /// Connections that are connecting, proving or settling, by the time they began to.
    coming: BTreeSet<(Instant, usize)>,
    /// Those that have been on their way since then or earlier are late, and waiters have been seen to without them.
    late: Option<Instant>,
    /// No idle connection needs to be reaped before this.
    reap_at: Option<Instant>,
    /// No idle connection needs to be fenced before this.
    fence_at: Option<Instant>,
    /// No endpoint needs to be tried again before this.
    retry_at: Option<Instant>,
    /// How long a connection waits for the answer to its handshake.
    prove: Duration,
    draining: bool,
}

impl<W, C> Pool<W, C> {
    pub fn new(pool: &config::Pool) -> Self {
        Self {
            application: pool.application,
            connections: pool.connections.clone(),
            endpoints: pool.endpoints.iter().map(|address| Endpoint::new(address.to_string())).collect(),
            slots: Slots::default(),
            queue: Queue::new(&pool.queue),
            directives: VecDeque::new(),
            ready: BTreeSet::new(),
            coming: BTreeSet::new(),
            late: None,
            reap_at: None,
            fence_at: None,
            retry_at: None,
            prove: pool.timeouts.prove,
            draining: false,
        }
    }

    // ---------------------------------------------------------------- commands

    /// Asks for a connection for one exchange. `again`: it was leased one before; it waits in front of those that were
    /// not. `waiter` is called for only if it must wait.
    ///
    /// # Errors
    /// The exchange is refused: the queue is full, or no endpoint is up.
    pub fn arrive(&mut self, again: bool, waiter: impl FnOnce() -> W, now: Instant) -> Result<Arrival<C>, Refusal> {
        if self.queue.is_empty()
            && let Some(arrival) = self.checkout_any(now)
        {
            return Ok(arrival);
        }
        if !self.any_up() {
            return Err(Refusal::NoEndpoint);
        }
        let key = self.queue.push(again, waiter, now).ok_or(Refusal::QueueFull)?;
        self.meet_demand(now);
        Ok(Arrival::Wait(key))
    }

    /// A waiter's web server hung up: it leaves the queue and is never sent.
    pub fn leave(&mut self, waiter: WaiterKey) {
        self.queue.remove(waiter);
    }

    /// A lease that was granted but not used, since its waiter had left.
    pub fn untouched(&mut self, lease: Lease<C>, now: Instant) {
        let slot = self.slots.get_mut(lease.key);
        slot.used = lease.used;
        if slot.unfenced {
            self.hand_on(lease.key, lease.connection, true, now);
            return;
        }
        self.set_state(lease.key, ConnectionState::Proving, now);
        if lease.kept {
            self.offer(lease.key, lease.connection, now);
        } else {
            self.close_slot(lease.key, lease.connection, Closed::NotKept, now);
        }
    }

    /// The exchange ended cleanly and the fence is under way.
    pub fn settle<D>(&mut self, lease: Lease<D>, now: Instant) -> (Settling, D) {
        self.set_state(lease.key, ConnectionState::Settling, now);
        (Settling { key: lease.key, endpoint: lease.endpoint }, lease.connection)
    }

    /// May the next exchange go on this connection before the fence behind this one is answered? It then takes the
    /// fence along in front of itself, which saves a write and two wake-ups. What is lost is the proof beforehand that
    /// the worker is free; hence only where fences have long been answered at once.
    pub fn may_defer(&self, lease: &Lease<()>, now: Instant) -> bool {
        self.connections.fence == config::Fence::Adaptive
            && self.endpoints[lease.endpoint].is_prompt(now)
            && self.retire(lease.key, now).is_none()
    }

    /// The exchange ended cleanly, and [`Pool::may_defer`]: the connection is free but for its fence.
    pub fn defer(&mut self, lease: Lease<()>, connection: C, now: Instant) {
        self.endpoints[lease.endpoint].recovered();
        self.hand_on(lease.key, connection, true, now);
    }

    /// A fence that went in front of a request was not answered at once.
    pub fn fence_late(&mut self, endpoint: usize, now: Instant) {
        self.endpoints[endpoint].fence_late(now);
    }

    /// A fence that went in front of a request was not answered at all: the application had closed behind the exchange
    /// before. Until enough others have been answered, none goes in front of a request again.
    pub fn fence_unanswered(&mut self, endpoint: usize) {
        self.endpoints[endpoint].fence_unanswered();
    }

    /// The fence was answered.
    pub fn checkin(&mut self, settling: Settling, connection: C, _proof: Clean, now: Instant) {
        let since = self.slots.get(settling.key).since;
        let endpoint = &mut self.endpoints[settling.endpoint];
        endpoint.recovered();
        endpoint.fence_answered(now.saturating_duration_since(since), now);
        self.offer(settling.key, connection, now);
    }

    /// The leased connection has been closed. `occupied`: its worker may still be at work on the request, so its place
    /// stays taken until a new connection proves otherwise (rule R15).
    pub fn discard(&mut self, lease: Lease<()>, reason: Closed, occupied: bool, now: Instant) {
        self.remove(lease.key, reason, occupied, now);
    }

    /// The settling connection has been closed.
    pub fn unsettled(&mut self, settling: Settling, reason: Closed, now: Instant) {
        self.remove(settling.key, reason, false, now);
    }

    /// Take nothing new to keep: idle connections close now, others behind their exchange.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        self.drain_shared(now);
        for key in self.slots.idle() {
            if self.slots.get(key).unfenced {
                self.probe(key, now);
            } else {
                self.close_idle(key, Closed::Drain, now);
            }
        }
    }

    // ---------------------------------------------------------------- events

    /// An opened connection is connected and sends its handshake.
    pub fn connected(&mut self, key: SlotKey, now: Instant) {
        self.set_state(key, ConnectionState::Proving, now);
    }

    /// The handshake was answered.
    pub fn proven(&mut self, key: SlotKey, connection: C, _proof: Clean, handshake: Handshake, now: Instant) {
        let endpoint = &mut self.endpoints[self.slots.get(key).endpoint];
        endpoint.recovered();
        if handshake == Handshake::Learn {
            endpoint.learned_kept();
        }
        self.offer(key, connection, now);
    }

    /// Connected to an application that does not keep connections: nothing was proven, and one request may be sent.
    pub fn unprovable(&mut self, key: SlotKey, connection: C, now: Instant) {
        self.endpoints[self.slots.get(key).endpoint].recovered();
        match self.queue.pop() {
            Some(waiter) => {
                let lease = self.lease(key, connection, Duration::ZERO, now);
                self.directives.push_back(Directive::Grant { waiter, lease });
            }
            None => self.close_slot(key, connection, Closed::NotKept, now),
        }
    }

    /// The connection could not be opened or did not prove itself, and is closed. Returns whether the endpoint is now
    /// known not to keep connections, for the first time.
    pub fn failed(&mut self, key: SlotKey, failure: OpenFailure, now: Instant) -> bool {
        let index = self.slots.get(key).endpoint;
        let endpoint = &mut self.endpoints[index];
        let news = match failure {
            // Busy, not broken: all its workers may be at work for others (rule R3).
            OpenFailure::Unanswered => {
                endpoint.recovered();
                false
            }
            OpenFailure::ClosedBehindAnswer => {
                endpoint.recovered();
                endpoint.saw_close_behind_answer(now)
            }
            OpenFailure::Unasked => {
                endpoint.closed_unasked();
                false
            }
            OpenFailure::Connect | OpenFailure::Handshake => {
                let at = endpoint.failed(now);
                self.retry_at = Some(self.retry_at.map_or(at, |earlier| earlier.min(at)));
                false
            }
        };
        let reason = if failure == OpenFailure::Connect { Closed::Connect } else { Closed::Prove };
        self.remove(key, reason, false, now);
        if !self.any_up() {
            self.refuse_all(Refusal::NoEndpoint);
        }
        news
    }

    /// An idle connection saw EOF, an error or a byte. Returns it to be closed, and its endpoint.
    pub fn lost(&mut self, key: SlotKey, now: Instant) -> Option<(C, usize)> {
        if self.slots.try_get_mut(key).is_some_and(|slot| slot.unfenced) {
            // A script may still be at work and write (fact 11.2); to close now would end it. The fence finds out.
            self.probe(key, now);
            return None;
        }
        let connection = self.take_idle(key)?;
        let slot = self.slots.get(key);
        let endpoint = slot.endpoint;
        if slot.used == 0 && now.saturating_duration_since(slot.since) < PATIENCE {
            self.endpoints[endpoint].forget_manners();
        }
        self.remove(key, Closed::Application, false, now);
        Some((connection, endpoint))
    }

    /// Time has passed: waiters expire, idle connections are reaped, endpoints that are down are tried again.
    pub fn tick(&mut self, now: Instant) {
        while let Some(waiter) = self.queue.expire(now) {
            self.directives.push_back(Directive::Refuse { waiter, refusal: Refusal::QueueTimeout });
        }
        if self.fence_at.is_some_and(|at| at <= now) {
            self.send_fences(now);
        }
        if self.reap_at.is_some_and(|at| at <= now) {
            self.reap(now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            for index in 0..self.endpoints.len() {
                if self.endpoints[index].pause_over(now) {
                    self.open(index, now);
                }
            }
            self.retry_at = self.endpoints.iter().filter_map(Endpoint::retry_at).min();
        }
        match self.application {
            config::Application::PhpFpm => self.meet_demand(now),
            config::Application::Generic => self.serve(now),
        }
    }

    // ---------------------------------------------------------------- poll

    /// The next thing to do, if any.
    pub fn poll_directive(&mut self) -> Option<Directive<W, C>> {
        self.directives.pop_front()
    }

    /// When [`Pool::tick`] is due; `None`: not before something else happens.
    ///
    /// Always in the future behind a [`Pool::tick`]: what cannot be mended by time passing is not waited for.
    pub fn next_deadline(&self) -> Option<Instant> {
        let patience = self.young().next().filter(|_| !self.queue.is_empty()).map(|(since, _)| *since + PATIENCE);
        [self.queue.next_deadline(), patience, self.reap_at, self.fence_at, self.retry_at].into_iter().flatten().min()
    }

    // ---------------------------------------------------------------- getters

    /// Every idle connection, to be watched for EOF.
    pub fn idle_mut(&mut self) -> impl Iterator<Item = (SlotKey, &mut C)> {
        self.slots.idle_mut()
    }

    /// Connections that are leased or settling, and waiters: what a drain waits for.
    pub fn busy(&self) -> usize {
        let at_work =
            |endpoint: &Endpoint| endpoint.count(ConnectionState::Leased) + endpoint.count(ConnectionState::Settling);
        self.queue.len() + self.endpoints.iter().map(at_work).sum::<usize>()
    }

    pub fn snapshot(&self, now: Instant) -> PoolSnapshot {
        let endpoints = self.endpoints.iter().map(|endpoint| EndpointSnapshot {
            name: endpoint.name.clone(),
            connections: endpoint.counts_with_ghosts(now),
            limit: self.connections.per_endpoint as usize,
            in_flight: match self.application {
                config::Application::PhpFpm => endpoint.count(ConnectionState::Leased),
                config::Application::Generic => endpoint.in_flight,
            },
            up: endpoint.health() != Health::Down,
            ejections: endpoint.ejections(),
        });
        PoolSnapshot {
            queue_depth: self.queue.len(),
            queue_limit: self.queue.limit(),
            oldest_wait: self.queue.oldest_wait(now),
            endpoints: endpoints.collect(),
        }
    }

    // ---------------------------------------------------------------- connections

    fn checkout_any(&mut self, now: Instant) -> Option<Arrival<C>> {
        match self.application {
            config::Application::PhpFpm => self.checkout(now).map(Arrival::Lease),
            config::Application::Generic => self.checkout_share(now).map(Arrival::Share),
        }
    }

    /// The idle connection to use: of the endpoint with the fewest leased, the most recently used.
    fn checkout(&mut self, now: Instant) -> Option<Lease<C>> {
        let &(_, _, index) = self.ready.first()?;
        // An endpoint is in `ready` only while it has idle connections.
        let key = self.endpoints[index].idle.last().copied().expect("a ready endpoint has an idle connection");
        let since = self.slots.get(key).since;
        let connection = self.take_idle(key)?;
        Some(self.lease(key, connection, now.saturating_duration_since(since), now))
    }

    fn lease(&mut self, key: SlotKey, connection: C, idle_for: Duration, now: Instant) -> Lease<C> {
        self.set_state(key, ConnectionState::Leased, now);
        let slot = self.slots.get_mut(key);
        let used = slot.used;
        slot.used += 1;
        let (endpoint, age) = (slot.endpoint, now.saturating_duration_since(slot.opened));
        Lease { key, endpoint, connection, idle_for, used, age, kept: self.endpoints[endpoint].kept() }
    }

    /// A connection whose worker is free: to the oldest waiter, to rest, or away.
    fn offer(&mut self, key: SlotKey, connection: C, now: Instant) {
        match self.retire(key, now) {
            Some(reason) => self.close_slot(key, connection, reason, now),
            None => self.hand_on(key, connection, false, now),
        }
    }

    fn hand_on(&mut self, key: SlotKey, connection: C, unfenced: bool, now: Instant) {
        self.slots.get_mut(key).unfenced = unfenced;
        match self.queue.pop() {
            Some(waiter) => {
                let lease = self.lease(key, connection, Duration::ZERO, now);
                self.directives.push_back(Directive::Grant { waiter, lease });
            }
            None => self.rest(key, connection, now),
        }
    }

    /// Why a connection that has just become free must not be used again.
    fn retire(&self, key: SlotKey, now: Instant) -> Option<Closed> {
        let slot = self.slots.get(key);
        let endpoint = &self.endpoints[slot.endpoint];
        let shared = endpoint.occupied(now) > 1 || !self.queue.is_empty();
        let tenure = self.connections.yield_after.filter(|_| shared && slot.used > 0);
        if self.draining && self.queue.is_empty() {
            Some(Closed::Drain)
        } else if self.connections.max_age.is_some_and(|limit| now - slot.opened >= limit) {
            Some(Closed::MaxAge)
        } else if self.connections.max_requests.is_some_and(|limit| slot.used >= limit) {
            Some(Closed::MaxRequests)
        } else if tenure.is_some_and(|limit| {
            now.saturating_duration_since(endpoint.gave_back.map_or(slot.opened, |at| at.max(slot.opened))) >= limit
        }) {
            Some(Closed::Yield)
        } else {
            None
        }
    }

    /// The one place that moves a connection from state to state.
    fn set_state(&mut self, key: SlotKey, state: ConnectionState, now: Instant) {
        let slot = self.slots.get_mut(key);
        let (before, index) = (slot.state, slot.endpoint);
        if is_coming(before) {
            self.coming.remove(&(slot.since, key.index()));
        }
        (slot.state, slot.since) = (state, now);
        if is_coming(state) {
            self.coming.insert((now, key.index()));
        }
        self.endpoints[index].moved(Some(before), Some(state));
        if before == ConnectionState::Leased || state == ConnectionState::Leased {
            self.rank(index);
        }
    }

    fn close_slot(&mut self, key: SlotKey, connection: C, reason: Closed, now: Instant) {
        let endpoint = self.slots.get(key).endpoint;
        self.directives.push_back(Directive::Close { connection, endpoint, reason });
        self.remove(key, reason, false, now);
    }

    /// Forgets a connection that is closed, and sees to what that calls for.
    fn remove(&mut self, key: SlotKey, reason: Closed, occupied: bool, now: Instant) {
        let Slot { endpoint: index, state, since, .. } = self.slots.remove(key);
        if is_coming(state) {
            self.coming.remove(&(since, key.index()));
        }
        let endpoint = &mut self.endpoints[index];
        endpoint.moved(Some(state), None);
        if occupied {
            // So long a connection in its place would wait for an answer.
            endpoint.leave_ghost(now + self.prove, now);
        }
        // One that never had a worker gives none back.
        if !matches!(reason, Closed::Connect | Closed::Prove) {
            endpoint.gave_back = Some(now);
        }
        self.rank(index);
        if reason == Closed::Application || reason == Closed::Broken {
            self.probe_idle(index, now);
        }
        // The next request should find a warm one in place of one that ended with its body.
        if reason == Closed::Body && !self.draining && self.endpoints[index].idle.is_empty() {
            self.open(index, now);
        }
        self.meet_demand(now);
    }

    // ---------------------------------------------------------------- demand

    /// Opens as many connections as there are waiters that nothing on its way can be expected to serve.
    fn meet_demand(&mut self, now: Instant) {
        if self.queue.is_empty() {
            return;
        }
        self.late = now.checked_sub(PATIENCE);
        let mut expected: usize = self.young().map(|(_, slot)| self.expected_of(*slot)).sum();
        while expected < self.queue.len() {
            let Some(index) = self.best_to_open(now) else { return };
            self.open(index, now);
            expected += self.places_of(index);
        }
    }

    /// Waiters that a connection on its way will serve.
    fn expected_of(&self, slot: usize) -> usize {
        match self.application {
            config::Application::PhpFpm => 1,
            config::Application::Generic => self.places_of(self.slots.endpoint_at(slot)),
        }
    }

    fn places_of(&self, index: usize) -> usize {
        match self.application {
            config::Application::PhpFpm => 1,
            config::Application::Generic => self.places_at(index) as usize,
        }
    }

    /// Connections on their way that a waiter can expect, the oldest first.
    fn young(&self) -> impl Iterator<Item = &(Instant, usize)> {
        let from = self.late.map_or(Bound::Unbounded, |late| Bound::Excluded((late, usize::MAX)));
        self.coming.range((from, Bound::Unbounded))
    }

    /// The endpoint with the fewest connections that has room and is not left alone after a failure.
    fn best_to_open(&self, now: Instant) -> Option<usize> {
        let open = self.endpoints.iter().enumerate().filter(|(index, endpoint)| {
            let coming = endpoint.coming() * self.places_of(*index);
            endpoint.may_open(self.connections_at(*index))
                && endpoint.takes_beyond(coming)
                && !self.is_being_asked(endpoint)
        });
        open.min_by_key(|(_, endpoint)| endpoint.occupied(now)).map(|(index, _)| index)
    }

    /// How many exchanges a connection to it takes is not known, and one is on its way to find out.
    fn is_being_asked(&self, endpoint: &Endpoint) -> bool {
        let asks = self.application == config::Application::Generic
            && endpoint.question(self.connections.multiplex) == Handshake::Learn;
        asks && endpoint.coming() > 0
    }

    fn open(&mut self, index: usize, now: Instant) {
        let endpoint = &mut self.endpoints[index];
        let limit = self.connections.per_endpoint as usize;
        if endpoint.connections() >= limit {
            return;
        }
        if endpoint.occupied(now) >= limit {
            endpoint.replace_ghost(now);
        }
        let handshake = match self.application {
            config::Application::PhpFpm => endpoint.handshake(now),
            config::Application::Generic => endpoint.question(self.connections.multiplex),
        };
        endpoint.moved(None, Some(ConnectionState::Connecting));
        let key = self.slots.insert(index, now);
        self.coming.insert((now, key.index()));
        self.directives.push_back(Directive::Open { key, endpoint: index, handshake });
    }

    fn any_up(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.health() != Health::Down)
    }

    fn refuse_all(&mut self, refusal: Refusal) {
        while let Some(waiter) = self.queue.pop() {
            self.directives.push_back(Directive::Refuse { waiter, refusal });
        }
    }
}

/// States in which a connection is on its way to become free.
fn is_coming(state: ConnectionState) -> bool {
    matches!(state, ConnectionState::Connecting | ConnectionState::Proving | ConnectionState::Settling)
}

#[cfg(test)]
mod tests;
