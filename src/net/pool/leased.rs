//! A connection that an exchange has for itself, and the same connection behind it: neither can get lost.

use super::{SharedPool, listen_for};
use crate::{
    mux::{
        label::Closed,
        pool::{Lease, Settling},
        proof::Clean,
        reply::Finished,
    },
    net::{clock, target::Target, upstream::Upstream},
};
use std::{sync::Arc, time::Duration};

/// What is known of a leased connection, for decisions and log lines.
#[derive(Clone, Debug)]
pub(in crate::net) struct Facts {
    pub(in crate::net) target: Arc<Target>,
    /// Zero if it has just proved itself.
    pub(in crate::net) idle_for: Duration,
    /// Exchanges before this one.
    pub(in crate::net) used: u64,
    pub(in crate::net) age: Duration,
    pub(in crate::net) kept: bool,
}

/// A connection for one exchange. Dropped without a word it is discarded.
pub(in crate::net) struct Leased {
    pool: Arc<SharedPool>,
    held: Option<(Lease<()>, Upstream)>,
    pub(in crate::net) facts: Facts,
}

impl Leased {
    pub(super) fn new(pool: &Arc<SharedPool>, lease: Lease<Upstream>, target: Arc<Target>) -> Self {
        let (lease, upstream) = lease.split();
        let Lease { idle_for, used, age, kept, .. } = lease;
        Self { pool: pool.clone(), held: Some((lease, upstream)), facts: Facts { target, idle_for, used, age, kept } }
    }

    pub(in crate::net) fn upstream(&mut self) -> &mut Upstream {
        // Taken only by the methods that consume the lease.
        &mut self.held.as_mut().expect("a lease holds its connection").1
    }

    /// Nothing was sent on it: its web server had gone.
    pub(in crate::net) fn untouched(mut self) {
        if let Some((lease, mut upstream)) = self.held.take() {
            self.pool.change(|inner| {
                listen_for(inner, &mut upstream);
                inner.core.untouched(lease.join(upstream), clock::now());
            });
        }
    }

    /// The exchange ended cleanly; the fence comes next. `None`: it goes in front of a request that waits, if it `may`.
    pub(in crate::net) fn settle(mut self, finished: Finished, may: bool) -> Option<(Settled, Upstream, Finished)> {
        let (lease, mut upstream) = self.held.take().expect("a lease holds its connection");
        let settling = self.pool.change(|inner| {
            let now = clock::now();
            if may && inner.core.may_defer(&lease, now) {
                upstream.owed = Some(finished);
                inner.core.defer(lease, upstream, now);
                return None;
            }
            Some((inner.core.settle(lease, now).0, upstream, finished))
        });
        let (settling, upstream, finished) = settling?;
        Some((Settled::new(&self.pool, self.facts.target.clone(), settling), upstream, finished))
    }

    /// Not to be used again. `close` closes it; `occupied`: its worker may still be busy with the request.
    pub(in crate::net) fn discard(mut self, reason: Closed, occupied: bool, close: impl FnOnce(Upstream)) {
        self.give_up(reason, occupied, close);
    }

    fn give_up(&mut self, reason: Closed, occupied: bool, close: impl FnOnce(Upstream)) {
        if let Some((lease, upstream)) = self.held.take() {
            close(upstream);
            self.facts.target.metrics.closed(reason);
            self.pool.change(|inner| inner.core.discard(lease, reason, occupied, clock::now()));
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.give_up(Closed::Broken, true, drop);
    }
}

/// The place of a connection whose worker is being asked whether it is free. Dropped, it is given up.
pub(in crate::net) struct Settled {
    pool: Arc<SharedPool>,
    target: Arc<Target>,
    settling: Option<Settling>,
}

impl Settled {
    pub(super) fn new(pool: &Arc<SharedPool>, target: Arc<Target>, settling: Settling) -> Self {
        Self { pool: pool.clone(), target, settling: Some(settling) }
    }

    pub(in crate::net) fn pool(&self) -> &Arc<SharedPool> {
        &self.pool
    }

    pub(in crate::net) fn checkin(mut self, mut upstream: Upstream, proof: Clean) {
        if let Some(settling) = self.settling.take() {
            self.pool.change(|inner| {
                listen_for(inner, &mut upstream);
                inner.core.checkin(settling, upstream, proof, clock::now());
            });
        }
    }

    /// The connection has been closed.
    pub(in crate::net) fn close(mut self, reason: Closed) {
        self.give_up(reason);
    }

    fn give_up(&mut self, reason: Closed) {
        if let Some(settling) = self.settling.take() {
            self.target.metrics.closed(reason);
            self.pool.change(|inner| inner.core.unsettled(settling, reason, clock::now()));
        }
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        self.give_up(Closed::Broken);
    }
}
