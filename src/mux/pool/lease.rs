//! What the pool and its driver hand each other.

use super::{SlotKey, WaiterKey};
use crate::{
    config::EndpointAddress,
    mux::label::{Closed, Refusal},
};
use std::time::Duration;

/// What the driver must do.
#[derive(Debug)]
#[must_use]
pub enum Directive<W, C> {
    /// There is an endpoint that was not there before.
    Found {
        endpoint: usize,
        address: EndpointAddress,
    },
    /// It is not there any more: its index may be given to another.
    Forget {
        endpoint: usize,
    },
    /// It is left alone from now on, for a reason in words; and it is used again.
    Ejected {
        endpoint: usize,
        why: &'static str,
    },
    Returned {
        endpoint: usize,
    },
    /// Connect to the endpoint, prove, and report [`Pool::connected`], then [`Pool::proven`] or [`Pool::failed`].
    Open {
        key: SlotKey,
        endpoint: usize,
        handshake: Handshake,
    },
    /// Hand the lease to this waiter. One that is gone gives it back with [`Pool::untouched`].
    Grant {
        waiter: W,
        lease: Lease<C>,
    },
    /// Tell this waiter that it will not be served.
    Refuse {
        waiter: W,
        refusal: Refusal,
    },
    /// Close this connection.
    Close {
        connection: C,
        endpoint: usize,
        reason: Closed,
    },
    /// Send the fence that this connection owes, or a GET_VALUES if it owes none, then [`Pool::checkin`] or
    /// [`Pool::unsettled`]: others of its endpoint were closed by the application, and an idle worker that is stopping
    /// leaves only when it is asked (fact 6.2).
    Probe {
        settling: Settling,
        connection: C,
    },
    /// Hand the place to this waiter. One that is gone gives it back with [`Pool::release_untouched`].
    GrantShare {
        waiter: W,
        share: Share,
    },
    /// Close this shared connection, on which no exchange runs.
    CloseShared {
        key: SlotKey,
        endpoint: usize,
        reason: Closed,
    },
}

/// How a new connection proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// php-fpm: two GET_VALUES: does the application keep the connection behind the first answer (fact 1.2)? Others: one
    /// that asks what it can, with a short wait for the answer.
    Learn,
    /// One GET_VALUES, which must be answered.
    Prove,
    /// One GET_VALUES, for whose answer nobody waits.
    Remind,
    /// None: the application would close behind it, or need not be asked.
    Skip,
}

/// The right to a connection for one exchange. Not cloned: it ends in [`Pool::settle`], [`Pool::discard`] or
/// [`Pool::untouched`].
#[derive(Debug)]
#[must_use]
pub struct Lease<C> {
    pub(super) key: SlotKey,
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
    /// The exchange before has ended, and its worker has not been asked whether it is free: the fence goes in front.
    pub unproven: bool,
}

/// What is left of a lease: the slot, while the connection is elsewhere.
#[derive(Debug)]
#[must_use]
pub struct Settling {
    pub(super) key: SlotKey,
    pub(super) endpoint: usize,
}

impl Settling {
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }
}

/// The right to one exchange on a connection that others share. It ends in [`Pool::release`], also when the connection
/// has ended before it.
#[derive(Debug)]
#[must_use]
pub struct Share {
    pub key: SlotKey,
    pub endpoint: usize,
    /// Exchanges before this one.
    pub used: u64,
    /// Since the connection was opened.
    pub age: Duration,
}

/// What became of a request for a connection.
#[derive(Debug)]
pub enum Arrival<C> {
    Lease(Lease<C>),
    Share(Share),
    Wait(WaiterKey),
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
    /// Not php-fpm: closed where it was asked what it can.
    Unasked,
    /// Closed, or answered something else.
    Handshake,
}

impl<C> Lease<C> {
    /// Splits the connection off, so that it can be moved while the lease stays.
    pub fn split(self) -> (Lease<()>, C) {
        let Self { key, endpoint, connection, idle_for, used, age, kept, unproven } = self;
        (Lease { key, endpoint, connection: (), idle_for, used, age, kept, unproven }, connection)
    }
}

impl Lease<()> {
    /// Puts back what [`Lease::split`] split off.
    pub fn join<C>(self, connection: C) -> Lease<C> {
        let Self { key, endpoint, connection: (), idle_for, used, age, kept, unproven } = self;
        Lease { key, endpoint, connection, idle_for, used, age, kept, unproven }
    }
}
