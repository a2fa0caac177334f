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
//! With an application other than php-fpm exchanges share connections: see `share`. Endpoints come and go: see `fleet`;
//! which of them is used, and for how much: see `choice`; whether at all: see `health`.
//!
//! The pool is generic over what the driver keeps of a waiter (`W`) and of an idle connection (`C`): it holds them and
//! hands them on, and never looks inside.

#[cfg(debug_assertions)]
mod check;
mod choice;
mod endpoint;
mod fleet;
mod health;
mod idle;
mod lease;
mod member;
mod queue;
mod share;
mod show;
mod slot;

use super::{
    label::{Closed, ConnectionState, Refusal},
    proof::Clean,
};
use crate::config::{self, EndpointAddress, Origin};
use endpoint::{Endpoint, Rank, Room};
use queue::Queue;
use slab::Slab;
use slot::{Slot, Slots};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

pub use fleet::Workers;
pub use lease::{Arrival, Directive, Handshake, Lease, OpenFailure, Settling, Share};
pub use member::Member;
pub use queue::{Claim, WaiterKey};
pub use share::Learned;
pub use slot::SlotKey;

/// How long a connection may be on its way (connecting, proving, settling) and still count as one that a waiter can
/// expect. Behind that its worker is busy with something else, and another connection is opened (rule R4).
const PATIENCE: Duration = Duration::from_millis(10);

/// A handshake that hangs for so long shows that workers are scarce. A host whose processor is held back for a period of
/// its quota (100 ms where the kernel is not told otherwise) looks the same for up to that long.
const SCARCE: Duration = Duration::from_millis(100);

/// An endpoint at which others wait for a worker gets one of ours back this often, if `yield_after` is not less.
const PRESSED_YIELD: Duration = Duration::from_millis(50);

/// Connections that are found late in one go; a pool has rarely more on their way.
const LATE_AT_ONCE: usize = 10_000;

/// See the [module](self).
#[derive(Debug)]
pub struct Pool<W, C> {
    application: config::Application,
    connections: config::Connections,
    slow_start: Option<Duration>,
    /// By an index that is given out again once [`Directive::Forget`] has been.
    endpoints: Slab<Endpoint>,
    by_address: HashMap<EndpointAddress, usize>,
    slots: Slots<C>,
    queue: Queue<W>,
    directives: VecDeque<Directive<W, C>>,
    /// Endpoints that have room on a connection, in the order in which they are used.
    ready: BTreeSet<(Rank, usize)>,
    /// Endpoints to which a connection may be opened: those with the fewest for their share first.
    openable: BTreeSet<(Room, usize)>,
    /// What an endpoint that has always had its part has been given; the clock of fair queueing.
    served: u64,
    /// The same of connections that were opened.
    opened: u64,
    /// Endpoints that start slowly and have had their part until `served` has come so far.
    ahead: BTreeSet<(u64, usize)>,
    /// Exchanges since an endpoint without a connection got one for no waiter.
    unwarmed: u32,
    /// Connections that are connecting, proving or settling, by the time they began to.
    coming: BTreeSet<(Instant, usize)>,
    /// Those that have been on their way since then or earlier are late, and waiters have been seen to without them.
    late: Option<Instant>,
    /// The same, of those that have been for so long that workers are scarce.
    scarce: Option<Instant>,
    /// No idle connection needs to be reaped before this.
    reap_at: Option<Instant>,
    /// No idle connection needs to be asked for a sign of life before this.
    beat_at: Option<Instant>,
    /// No endpoint needs to be tried again before this.
    retry_at: Option<Instant>,
    /// No endpoint's share changes before this.
    ramp_at: Option<Instant>,
    /// How long a connection waits for the answer to its handshake.
    prove: Duration,
    /// Endpoints that are found soon behind this are as new as all others.
    created: Instant,
    /// Connections opened by then are not used again.
    recycled: Option<Instant>,
    /// Nothing is sent: an operator changes something behind us.
    paused: bool,
    draining: bool,
    /// Of the pauses before an endpoint is tried again.
    seed: u64,
}

impl<W, C> Pool<W, C> {
    /// With the endpoints that the configuration itself names. `seed`: any number, another one for each process; 0 leaves
    /// the pauses as they are.
    pub fn new(pool: &config::Pool, seed: u64, now: Instant) -> Self {
        let mut new = Self {
            application: pool.application,
            connections: pool.connections.clone(),
            slow_start: pool.slow_start,
            endpoints: Slab::new(),
            by_address: HashMap::new(),
            slots: Slots::default(),
            queue: Queue::new(&pool.queue),
            directives: VecDeque::new(),
            ready: BTreeSet::new(),
            openable: BTreeSet::new(),
            served: 0,
            opened: 0,
            ahead: BTreeSet::new(),
            unwarmed: 0,
            coming: BTreeSet::new(),
            late: None,
            scarce: None,
            reap_at: None,
            beat_at: None,
            retry_at: None,
            ramp_at: None,
            prove: pool.timeouts.prove,
            created: now,
            recycled: None,
            paused: false,
            draining: false,
            seed,
        };
        let named = pool.endpoints.iter().filter_map(|source| match &source.origin {
            Origin::Address(address) => {
                Some(Member { address: address.clone(), weight: source.weight, near: true, leaving: false })
            }
            _ => None,
        });
        new.set_members(&named.collect::<Vec<_>>(), now);
        new
    }

    // ---------------------------------------------------------------- commands

    /// Asks for a connection for one exchange. `waiter` is called for only if it must wait.
    ///
    /// # Errors
    /// The exchange is refused: the queue is full, or no endpoint is up.
    pub fn arrive(&mut self, claim: Claim, waiter: impl FnOnce() -> W, now: Instant) -> Result<Arrival<C>, Refusal> {
        if self.queue.is_empty()
            && let Some(arrival) = self.checkout_any(&claim.avoid, None, now)
        {
            return Ok(arrival);
        }
        if !self.any_hope(&claim.avoid) {
            return Err(Refusal::NoEndpoint);
        }
        let key = self.queue.push(claim, waiter, now).ok_or(Refusal::QueueFull)?;
        self.serve(now);
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
        if lease.unproven {
            return self.ask(lease.key, lease.connection, now);
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
        self.ended_well(lease.endpoint, now);
        self.set_state(lease.key, ConnectionState::Settling, now);
        (Settling { key: lease.key, endpoint: lease.endpoint }, lease.connection)
    }

    /// May the request that waits go on this connection before the fence behind this exchange is answered? It then takes
    /// the fence along in front of itself, which saves a write and two wake-ups. What is lost is the proof beforehand that
    /// the worker is free; hence only where no worker that has proved itself is to be had, where fences have long been
    /// answered at once, and for a request that may go to another worker if this one turns out to be busy.
    pub fn may_defer(&self, lease: &Lease<()>, now: Instant) -> bool {
        self.connections.fence == config::Fence::Adaptive
            && !self.queue.is_empty()
            && self.endpoints[lease.endpoint].is_prompt(now)
            && self.waits_unproven(lease.endpoint)
            && self.retire(lease.key, now).is_none()
    }

    /// The exchange ended cleanly, and [`Pool::may_defer`]: the request that waits is sent behind its fence.
    pub fn defer(&mut self, lease: Lease<()>, connection: C, now: Instant) {
        self.answered(lease.endpoint, now);
        self.ended_well(lease.endpoint, now);
        // The waiter may have left meanwhile, or been served by another connection.
        let waiter = if self.waits_unproven(lease.endpoint) { self.next_waiter(lease.endpoint) } else { None };
        match waiter {
            Some(waiter) => self.grant(waiter, lease.key, connection, true, now),
            None => self.ask(lease.key, connection, now),
        }
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
        let slot = self.slots.get(settling.key);
        let (after, rested) = (now.saturating_duration_since(slot.since), slot.rested.is_some());
        self.answered(settling.endpoint, now);
        // One that rested has no exchange behind it whose work could make it late.
        if !rested {
            self.endpoints[settling.endpoint].fence_answered(after, now);
        }
        self.offer(settling.key, connection, now);
    }

    /// The leased connection has been closed. `occupied`: its worker may still be at work on the request, so its place
    /// stays taken until a new connection proves otherwise (rule R15).
    pub fn discard(&mut self, lease: Lease<()>, reason: Closed, occupied: bool, now: Instant) {
        match reason {
            Closed::Broken | Closed::Protocol | Closed::Timeout => self.broke(lease.endpoint, now),
            Closed::Body | Closed::NotKept => {
                self.answered(lease.endpoint, now);
                self.ended_well(lease.endpoint, now);
            }
            Closed::Silent => self.silent(lease.endpoint, now),
            _ => {}
        }
        self.remove(lease.key, reason, occupied, now);
    }

    /// The settling connection has been closed.
    pub fn unsettled(&mut self, settling: Settling, reason: Closed, now: Instant) {
        if reason == Closed::Silent {
            self.silent(settling.endpoint, now);
        }
        self.remove(settling.key, reason, false, now);
    }

    /// Take nothing new to keep: idle connections close now, others behind their exchange.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        self.drain_shared(now);
        self.let_idle_go(self.slots.idle(), Closed::Drain, now);
    }

    // ---------------------------------------------------------------- events

    /// An opened connection is connected and sends its handshake.
    pub fn connected(&mut self, key: SlotKey, now: Instant) {
        self.set_state(key, ConnectionState::Proving, now);
    }

    /// The handshake was answered.
    pub fn proven(&mut self, key: SlotKey, connection: C, _proof: Clean, handshake: Handshake, now: Instant) {
        let slot = self.slots.get(key);
        let (index, hung) = (slot.endpoint, slot.hangs(PATIENCE, now));
        self.answered(index, now);
        self.press_if_scarce(key.index(), now);
        let endpoint = &mut self.endpoints[index];
        endpoint.unanswered = 0;
        endpoint.hanging &= hung;
        if handshake == Handshake::Learn {
            endpoint.learned_kept();
        }
        self.offer(key, connection, now);
    }

    /// Connected to an application that does not keep connections: nothing was proven, and one request may be sent.
    pub fn unprovable(&mut self, key: SlotKey, connection: C, now: Instant) {
        let index = self.slots.get(key).endpoint;
        self.answered(index, now);
        match self.next_waiter(index) {
            Some(waiter) => self.grant(waiter, key, connection, false, now),
            None => self.close_slot(key, connection, Closed::NotKept, now),
        }
    }

    /// The connection could not be opened or did not prove itself, and is closed. Returns whether the endpoint is now
    /// known not to keep connections, for the first time.
    pub fn failed(&mut self, key: SlotKey, failure: OpenFailure, now: Instant) -> bool {
        let index = self.slots.get(key).endpoint;
        let news = match failure {
            // Busy, not broken: all its workers may be at work for others (rule R3).
            OpenFailure::Unanswered => {
                self.unanswered(index, now);
                false
            }
            OpenFailure::ClosedBehindAnswer => {
                self.answered(index, now);
                self.endpoints[index].saw_close_behind_answer(now)
            }
            OpenFailure::Unasked => {
                self.answered(index, now);
                self.endpoints[index].closed_unasked();
                false
            }
            OpenFailure::Connect | OpenFailure::Handshake => {
                self.unreachable(index, now);
                false
            }
        };
        let reason = if failure == OpenFailure::Connect { Closed::Connect } else { Closed::Prove };
        self.remove(key, reason, false, now);
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
        if self.beat_at.is_some_and(|at| at <= now) {
            self.beat(now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry(now);
        }
        if self.ramp_at.is_some_and(|at| at <= now) {
            self.ramp(now);
        }
        self.serve(now);
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
        let next = |seen, limit: Duration| self.coming_since(seen).next().map(|(since, _)| *since + limit);
        let hangs =
            if self.queue.is_empty() { [None, None] } else { [next(self.late, PATIENCE), next(self.scarce, SCARCE)] };
        let own = [self.reap_at, self.beat_at, self.retry_at, self.ramp_at];
        own.into_iter().chain(hangs).chain([self.queue.next_deadline(), self.waits_for_better()]).flatten().min()
    }

    // ---------------------------------------------------------------- getters

    /// Every idle connection, to be watched for EOF.
    pub fn idle_mut(&mut self) -> impl Iterator<Item = (SlotKey, &mut C)> {
        self.slots.idle_mut()
    }

    /// An operator has paused it: whoever comes waits.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// There is no endpoint, but perhaps some that leave.
    pub fn is_empty(&self) -> bool {
        self.endpoints.iter().all(|(_, endpoint)| endpoint.is_draining())
    }

    /// Connections that are leased or settling, and waiters: what a drain waits for.
    pub fn busy(&self) -> usize {
        self.queue.len() + self.endpoints.iter().map(|(_, endpoint)| endpoint.at_work()).sum::<usize>()
    }

    // ---------------------------------------------------------------- connections

    /// A connection whose worker is free: to the oldest waiter, to rest, or away.
    fn offer(&mut self, key: SlotKey, connection: C, now: Instant) {
        if let Some(reason) = self.retire(key, now) {
            return self.close_slot(key, connection, reason, now);
        }
        match self.next_waiter(self.slots.get(key).endpoint) {
            Some(waiter) => self.grant(waiter, key, connection, false, now),
            None => {
                self.rest(key, connection, now);
                self.serve(now);
            }
        }
    }

    fn grant(&mut self, waiter: (W, Claim), key: SlotKey, connection: C, unproven: bool, now: Instant) {
        #[cfg(debug_assertions)]
        if unproven {
            self.check_unproven(&waiter.1);
        }
        let lease = Lease { unproven, ..self.lease(key, connection, Duration::ZERO, now) };
        let endpoint = lease.endpoint;
        self.directives.push_back(Directive::Grant { waiter: waiter.0, lease });
        self.warm_up(endpoint, now);
    }

    /// The oldest waiter that an endpoint may be given, if it may be given one.
    fn next_waiter(&mut self, index: usize) -> Option<(W, Claim)> {
        let endpoint = &self.endpoints[index];
        let tried = endpoint.health.is_on_trial() && endpoint.count(ConnectionState::Leased) > 0;
        if self.paused || !endpoint.is_usable() || tried {
            return None;
        }
        let (key, claim) = self.queue.next_for(index).map(|(key, claim)| (key, claim.clone()))?;
        Some((self.queue.remove(key)?, claim))
    }

    /// Whoever waits for a connection to this endpoint may be given one that has not proved itself: there is no better for
    /// it, and it may be sent again.
    fn waits_unproven(&self, index: usize) -> bool {
        let next = self.queue.next_for(index);
        next.is_some_and(|(_, claim)| claim.repeatable && self.ready_for(&claim.avoid).is_none())
    }

    /// Why a connection that has just become free must not be used again.
    fn retire(&self, key: SlotKey, now: Instant) -> Option<Closed> {
        let slot = self.slots.get(key);
        let endpoint = &self.endpoints[slot.endpoint];
        let shared = endpoint.occupied(now) > 1 || !self.queue.is_empty();
        let tenure = self.connections.yield_after.filter(|_| shared && slot.used > 0);
        let pressed = endpoint.is_pressed(now);
        let tenure = tenure.map(|limit| if pressed { limit.min(PRESSED_YIELD) } else { limit });
        if self.draining && self.queue.is_empty() {
            Some(Closed::Drain)
        } else if endpoint.is_draining() {
            Some(Closed::Leaving)
        } else if self.paused || self.recycled.is_some_and(|at| slot.opened <= at) {
            Some(Closed::Reconnect)
        } else if (endpoint.pressed && self.queue.is_empty()) || endpoint.connections() > self.limit_at(slot.endpoint) {
            Some(Closed::Pressure)
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
            if !occupied {
                endpoint.health.worker_freed();
            }
        }
        self.rank(index);
        if reason == Closed::Application || reason == Closed::Broken {
            self.probe_idle(index, now);
        }
        let endpoint = &self.endpoints[index];
        // The next request should find a warm one in place of one that ended with its body.
        if reason == Closed::Body
            && !self.draining
            && !self.paused
            && endpoint.idle.is_empty()
            && endpoint.room.is_some()
            && !endpoint.is_pressed(now)
        {
            self.open(index, now);
        }
        self.forget_if_gone(index);
        self.serve(now);
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
