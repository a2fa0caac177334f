//! What endpoints and connections tell the pool.

use super::{Grant, SharedPool, listen_for};
use crate::{
    mux::{
        channel::Values,
        label::Closed,
        pool::{Handshake, Learned, OpenFailure, Pool, Share, SlotKey, Workers},
        proof::Clean,
    },
    net::{channel::Channel, clock, discovery::Discovery, target::Target, upstream::Upstream},
};
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

/// Reports of an endpoint that is watched.
impl SharedPool {
    pub(in crate::net) fn settings(&self) -> watch::Receiver<()> {
        self.settings.subscribe()
    }

    /// What its status page says.
    pub(in crate::net) fn workers(self: &Arc<Self>, target: &Arc<Target>, workers: Option<Workers>) {
        self.of(target, |core| core.workers(target.index, workers, clock::now()));
    }

    /// An active check failed, or not.
    pub(in crate::net) fn checked(self: &Arc<Self>, target: &Arc<Target>, well: bool) {
        self.of(target, |core| core.checked(target.index, well, clock::now()));
    }

    /// The other side of a connection that is in use acknowledges nothing.
    pub(in crate::net) fn silent(self: &Arc<Self>, target: &Arc<Target>) {
        self.of(target, |core| core.silent(target.index, clock::now()));
    }

    /// The core's index may be another's by now.
    fn of(self: &Arc<Self>, target: &Arc<Target>, change: impl FnOnce(&mut Pool<oneshot::Sender<Grant>, Upstream>)) {
        self.change(|inner| {
            if inner.targets.get(&target.index).is_some_and(|known| Arc::ptr_eq(known, target)) {
                change(&mut inner.core);
            }
        });
    }
}

/// Reports of a connection being opened.
impl SharedPool {
    pub(in crate::net) fn connected(self: &Arc<Self>, key: SlotKey) {
        self.change(|inner| inner.core.connected(key, clock::now()));
    }

    pub(in crate::net) fn proven(
        self: &Arc<Self>,
        key: SlotKey,
        mut upstream: Upstream,
        proof: Clean,
        handshake: Handshake,
    ) {
        self.change(|inner| {
            listen_for(inner, &mut upstream);
            inner.core.proven(key, upstream, proof, handshake, clock::now());
        });
    }

    pub(in crate::net) fn unprovable(self: &Arc<Self>, key: SlotKey, upstream: Upstream) {
        self.change(|inner| inner.core.unprovable(key, upstream, clock::now()));
    }

    /// Returns whether the endpoint is now known, for the first time, not to keep connections.
    pub(in crate::net) fn failed(self: &Arc<Self>, key: SlotKey, target: &Target, failure: OpenFailure) -> bool {
        let reason = if failure == OpenFailure::Connect { Closed::Connect } else { Closed::Prove };
        target.metrics.closed(reason);
        if reason == Closed::Connect {
            // It may have gone, with another in its place.
            self.discovery.lock().expect("no panic under this lock").iter().for_each(Discovery::nudge);
        }
        self.change(|inner| inner.core.failed(key, failure, clock::now()))
    }
}

/// Reports of shared connections.
impl SharedPool {
    /// It is open and takes exchanges.
    pub(in crate::net) fn joined(self: &Arc<Self>, channel: &Arc<Channel>, learned: Learned) {
        self.change(|inner| {
            // It may have ended meanwhile, and its driver found nothing to report of it.
            if channel.is_over() {
                channel.target().metrics.closed(Closed::Prove);
                inner.core.failed(channel.key(), OpenFailure::Handshake, clock::now());
                return;
            }
            inner.channels.insert(channel.key(), channel.clone());
            channel.set_single(inner.core.is_single(channel.target().index, learned));
            inner.core.joined(channel.key(), learned, clock::now());
        });
    }

    pub(in crate::net) fn channel_learned(self: &Arc<Self>, channel: &Channel, values: Values) {
        self.change(|inner| {
            channel.set_single(inner.core.is_single(channel.target().index, Learned::Values(values)));
            inner.core.learned(channel.key(), values, clock::now());
        });
    }

    pub(in crate::net) fn channel_cannot_multiplex(self: &Arc<Self>, channel: &Channel) {
        self.channel_learned(channel, Values::default());
    }

    pub(in crate::net) fn channel_stalled(self: &Arc<Self>, key: SlotKey, stalled: bool) {
        self.change(|inner| inner.core.stalled(key, stalled, clock::now()));
    }

    /// It should take nothing more; if it `may`, unless there can be no other in its place.
    pub(in crate::net) fn channel_let_go(self: &Arc<Self>, key: SlotKey, reason: Closed, may: bool) {
        self.change(|inner| inner.core.let_go(key, reason, may, clock::now()));
    }

    /// It has ended.
    pub(in crate::net) fn channel_gone(self: &Arc<Self>, channel: &Channel, reason: Closed) {
        let reason = self.change(|inner| {
            // Not before it joined: whoever opens it reports what became of it.
            inner.channels.remove(&channel.key())?;
            inner.core.gone(channel.key(), reason, clock::now())
        });
        reason.into_iter().for_each(|reason| channel.target().metrics.closed(reason));
    }

    pub(in crate::net) fn release(self: &Arc<Self>, share: Share) {
        self.change(|inner| inner.core.release(share, clock::now()));
    }

    pub(in crate::net) fn release_untouched(self: &Arc<Self>, share: Share) {
        self.change(|inner| inner.core.release_untouched(share, clock::now()));
    }
}
