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
//! The pool is generic over what the driver keeps of a waiter (`W`) and of an idle connection (`C`): it holds them and
//! hands them on, and never looks inside.

mod endpoint;
mod queue;
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

pub use queue::WaiterKey;
pub use slot::SlotKey;

/// How long a connection may be on its way (connecting, proving, settling) and still count as one that a waiter can
/// expect. Behind that its worker is busy with something else, and another connection is opened (rule R4).
const PATIENCE: Duration = Duration::from_millis(10);

/// What the driver must do.
#[derive(Debug)]
#[must_use]
pub enum Directive<W, C> {
    /// Connect to the endpoint, prove, and report [`Pool::connected`], then [`Pool::proven`] or [`Pool::failed`].
    Open { key: SlotKey, endpoint: usize, handshake: Handshake },
    /// Hand the lease to this waiter. One that is gone gives it back with [`Pool::untouched`].
    Grant { waiter: W, lease: Lease<C> },
    /// Tell this waiter that it will not be served.
    Refuse { waiter: W, refusal: Refusal },
    /// Close this connection.
    Close { connection: C, endpoint: usize, reason: Closed },
    /// Send a fence's GET_VALUES on this connection, then [`Pool::checkin`] or [`Pool::discard`]: others of its endpoint
    /// were closed by the application, and an idle worker that is stopping leaves only when it is asked (fact 6.2).
    Probe { settling: Settling, connection: C },
}

/// How a new connection proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Two GET_VALUES: does the application keep the connection behind the first answer (fact 1.2)?
    Learn,
    /// One GET_VALUES.
    Prove,
    /// None: the application would close behind it.
    Skip,
}

/// The right to a connection for one exchange. Not cloned: it ends in [`Pool::settle`], [`Pool::discard`] or
/// [`Pool::untouched`].
#[derive(Debug)]
#[must_use]
pub struct Lease<C> {
    key: SlotKey,
    pub endpoint: usize,
    pub connection: C,
    /// How long it had been idle; zero for one that has just proved itself.
    pub idle_for: Duration,
    /// Exchanges before this one.
    pub used: u64,
    /// Since it connected.
    pub age: Duration,
    /// False where the application does not keep connections: send without keep-conn and without GET_VALUES.
    pub kept: bool,
}

/// What is left of a lease: the slot, while the connection is elsewhere.
#[derive(Debug)]
#[must_use]
pub struct Settling {
    key: SlotKey,
    endpoint: usize,
}

impl Settling {
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }
}

/// What became of a request for a connection.
#[derive(Debug)]
pub enum Arrival<C> {
    Lease(Lease<C>),
    Wait(WaiterKey),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Pool<W, C> {
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
    /// No endpoint needs to be tried again before this.
    retry_at: Option<Instant>,
    draining: bool,
}

impl<W, C> Pool<W, C> {
    pub fn new(pool: &config::Pool) -> Self {
        Self {
            connections: pool.connections.clone(),
            endpoints: pool.endpoints.iter().map(|address| Endpoint::new(address.to_string())).collect(),
            slots: Slots::default(),
            queue: Queue::new(&pool.queue),
            directives: VecDeque::new(),
            ready: BTreeSet::new(),
            coming: BTreeSet::new(),
            late: None,
            reap_at: None,
            retry_at: None,
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
            && let Some(lease) = self.checkout(now)
        {
            return Ok(Arrival::Lease(lease));
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
        self.slots.get_mut(lease.key).used = lease.used;
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

    /// The fence was answered.
    pub fn checkin(&mut self, settling: Settling, connection: C, _proof: Clean, now: Instant) {
        let endpoint = self.slots.get(settling.key).endpoint;
        self.endpoints[endpoint].recovered();
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
        for key in self.slots.idle() {
            self.close_idle(key, Closed::Drain, now);
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
        self.meet_demand(now);
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
        [self.queue.next_deadline(), patience, self.reap_at, self.retry_at].into_iter().flatten().min()
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
            connections: endpoint.counts_with_ghosts(),
            limit: self.connections.per_endpoint as usize,
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
        if let Some(reason) = self.retire(key, now) {
            self.close_slot(key, connection, reason, now);
        } else if let Some(waiter) = self.queue.pop() {
            let lease = self.lease(key, connection, Duration::ZERO, now);
            self.directives.push_back(Directive::Grant { waiter, lease });
        } else {
            self.rest(key, connection, now);
        }
    }

    /// Why a connection that has just become free must not be used again.
    fn retire(&self, key: SlotKey, now: Instant) -> Option<Closed> {
        let slot = self.slots.get(key);
        let endpoint = &self.endpoints[slot.endpoint];
        let shared = endpoint.occupied() > 1 || !self.queue.is_empty();
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

    fn rest(&mut self, key: SlotKey, connection: C, now: Instant) {
        self.set_state(key, ConnectionState::Idle, now);
        let slot = self.slots.get_mut(key);
        slot.connection = Some(connection);
        let index = slot.endpoint;
        self.endpoints[index].idle.push(key);
        self.rank(index, now);
        let at = now + self.connections.surplus_idle;
        self.reap_at = Some(self.reap_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Takes a connection out of rest; its state, and with it its endpoint's rank, is the caller's to set.
    fn take_idle(&mut self, key: SlotKey) -> Option<C> {
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
    fn rank(&mut self, index: usize, now: Instant) {
        let endpoint = &mut self.endpoints[index];
        if let Some((leased, used)) = endpoint.rank.take() {
            self.ready.remove(&(leased, used, index));
        }
        if !endpoint.idle.is_empty() {
            let rank = (endpoint.count(ConnectionState::Leased), Reverse(now));
            endpoint.rank = Some(rank);
            self.ready.insert((rank.0, rank.1, index));
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
            self.rank(index, now);
        }
    }

    fn close_idle(&mut self, key: SlotKey, reason: Closed, now: Instant) {
        if let Some(connection) = self.take_idle(key) {
            self.close_slot(key, connection, reason, now);
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
        endpoint.ghosts += usize::from(occupied);
        endpoint.gave_back = Some(now);
        self.rank(index, now);
        if reason == Closed::Application || reason == Closed::Broken {
            self.probe_idle(index, now);
        }
        // The next request should find a warm one in place of one that ended with its body.
        if reason == Closed::Body && !self.draining && self.endpoints[index].idle.is_empty() {
            self.open(index, now);
        }
        self.meet_demand(now);
    }

    /// The application closed one connection: are the idle ones of that endpoint still good?
    fn probe_idle(&mut self, index: usize, now: Instant) {
        for key in std::mem::take(&mut self.endpoints[index].idle) {
            let Some(connection) = self.slots.get_mut(key).connection.take() else { continue };
            self.set_state(key, ConnectionState::Settling, now);
            self.directives.push_back(Directive::Probe { settling: Settling { key, endpoint: index }, connection });
        }
        self.rank(index, now);
    }

    fn reap(&mut self, now: Instant) {
        self.reap_at = None;
        let mut next: Option<Instant> = None;
        for index in 0..self.endpoints.len() {
            // The first is the least recently used; the last is the one that may stay longer.
            let idle = self.endpoints[index].idle.clone();
            let last = idle.len().saturating_sub(1);
            for (place, key) in idle.into_iter().enumerate() {
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

    // ---------------------------------------------------------------- demand

    /// Opens as many connections as there are waiters that nothing on its way can be expected to serve.
    fn meet_demand(&mut self, now: Instant) {
        if self.queue.is_empty() {
            return;
        }
        self.late = now.checked_sub(PATIENCE);
        for _ in self.young().count()..self.queue.len() {
            let Some(index) = self.best_to_open() else { return };
            self.open(index, now);
        }
    }

    /// Connections on their way that a waiter can expect, the oldest first.
    fn young(&self) -> impl Iterator<Item = &(Instant, usize)> {
        let from = self.late.map_or(Bound::Unbounded, |late| Bound::Excluded((late, usize::MAX)));
        self.coming.range((from, Bound::Unbounded))
    }

    /// The endpoint with the fewest connections that has room and is not left alone after a failure.
    fn best_to_open(&self) -> Option<usize> {
        let limit = self.connections.per_endpoint as usize;
        let open = self.endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.may_open(limit));
        open.min_by_key(|(_, endpoint)| endpoint.occupied()).map(|(index, _)| index)
    }

    fn open(&mut self, index: usize, now: Instant) {
        let endpoint = &mut self.endpoints[index];
        if endpoint.connections() + endpoint.ghosts >= self.connections.per_endpoint as usize {
            if endpoint.ghosts == 0 {
                return;
            }
            // The place of a worker that may still be busy: the handshake finds out.
            endpoint.ghosts -= 1;
        }
        let handshake = endpoint.handshake(now);
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

/// Why an opened connection came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFailure {
    /// It did not connect: refused, unreachable, or not in time.
    Connect,
    /// Connected, but no worker answered in time.
    Unanswered,
    /// Answered the first GET_VALUES and closed: PHP before 8.2.13, or a worker that stops (facts 1.2, 6.2).
    ClosedBehindAnswer,
    /// Closed, or answered something else.
    Handshake,
}

impl<C> Lease<C> {
    /// Splits the connection off, so that it can be moved while the lease stays.
    pub fn split(self) -> (Lease<()>, C) {
        let Self { key, endpoint, connection, idle_for, used, age, kept } = self;
        (Lease { key, endpoint, connection: (), idle_for, used, age, kept }, connection)
    }
}

/// States in which a connection is on its way to become free.
fn is_coming(state: ConnectionState) -> bool {
    matches!(state, ConnectionState::Connecting | ConnectionState::Proving | ConnectionState::Settling)
}

#[cfg(test)]
mod tests;
