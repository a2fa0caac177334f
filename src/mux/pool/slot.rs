//! The connections of a pool, and keys to them that never go stale unnoticed.

use super::share::Places;
use crate::mux::label::ConnectionState;
use slab::Slab;
use std::time::{Duration, Instant};

/// Names one connection: a place, and a serial number that never comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotKey {
    index: usize,
    serial: u64,
}

impl SlotKey {
    pub(super) fn index(self) -> usize {
        self.index
    }
}

#[derive(Debug)]
pub(super) struct Slot<C> {
    pub(super) endpoint: usize,
    pub(super) state: ConnectionState,
    /// When it came into its state.
    pub(super) since: Instant,
    /// When it began to connect.
    pub(super) opened: Instant,
    /// Exchanges it was leased for.
    pub(super) used: u64,
    /// Since when nobody has used it, of one that rests; signs of life that it is asked for do not count.
    pub(super) rested: Option<Instant>,
    /// There while idle; otherwise the driver has it.
    pub(super) connection: Option<C>,
    /// Of a connection that exchanges share; the driver has it.
    pub(super) places: Option<Places>,
    /// Opened in the place of a worker that may still be busy with a request of ours (rule R15).
    pub(super) instead: bool,
    serial: u64,
}

#[derive(Debug)]
pub(super) struct Slots<C> {
    slab: Slab<Slot<C>>,
    next_serial: u64,
}

impl<C> Slot<C> {
    /// Its handshake lasts longer than can be the network's doing, to judge by how long it took to connect: no worker has
    /// accepted it, so all are busy.
    pub(super) fn hangs(&self, patience: Duration, now: Instant) -> bool {
        let connecting = self.since.saturating_duration_since(self.opened);
        let proving = now.saturating_duration_since(self.since);
        self.state == ConnectionState::Proving && proving >= patience.max(connecting * 3)
    }
}

impl<C> Default for Slots<C> {
    fn default() -> Self {
        Self { slab: Slab::new(), next_serial: 0 }
    }
}

impl<C> Slots<C> {
    pub(super) fn insert(&mut self, endpoint: usize, now: Instant) -> SlotKey {
        let serial = self.next_serial;
        self.next_serial += 1;
        let state = ConnectionState::Connecting;
        let slot = Slot {
            endpoint,
            state,
            since: now,
            opened: now,
            used: 0,
            rested: None,
            connection: None,
            places: None,
            instead: false,
            serial,
        };
        SlotKey { index: self.slab.insert(slot), serial }
    }

    /// A key comes from a lease or a directive, and each of those ends with its connection: one that resolves to nothing
    /// is a defect, and going on would hand one visitor's connection to another.
    pub(super) fn get(&self, key: SlotKey) -> &Slot<C> {
        self.slab.get(key.index).filter(|slot| slot.serial == key.serial).expect("a key outlived its connection")
    }

    pub(super) fn get_mut(&mut self, key: SlotKey) -> &mut Slot<C> {
        self.try_get_mut(key).expect("a key outlived its connection")
    }

    pub(super) fn try_get_mut(&mut self, key: SlotKey) -> Option<&mut Slot<C>> {
        self.slab.get_mut(key.index).filter(|slot| slot.serial == key.serial)
    }

    /// The connection at a place, which is taken.
    pub(super) fn at(&self, index: usize) -> &Slot<C> {
        &self.slab[index]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot<C>> {
        self.slab.iter().map(|(_, slot)| slot)
    }

    pub(super) fn remove(&mut self, key: SlotKey) -> Slot<C> {
        self.get(key);
        self.slab.remove(key.index)
    }

    pub(super) fn idle(&self) -> Vec<SlotKey> {
        let idle = self.slab.iter().filter(|(_, slot)| slot.connection.is_some());
        idle.map(|(index, slot)| SlotKey { index, serial: slot.serial }).collect()
    }

    /// Every connection.
    #[cfg(debug_assertions)]
    pub(super) fn keys(&self) -> impl Iterator<Item = SlotKey> {
        self.slab.iter().map(|(index, slot)| SlotKey { index, serial: slot.serial })
    }

    /// Every shared connection.
    pub(super) fn shared(&self) -> Vec<SlotKey> {
        let shared = self.slab.iter().filter(|(_, slot)| slot.places.is_some());
        shared.map(|(index, slot)| SlotKey { index, serial: slot.serial }).collect()
    }

    pub(super) fn idle_mut(&mut self) -> impl Iterator<Item = (SlotKey, &mut C)> {
        self.slab.iter_mut().filter_map(|(index, slot)| {
            let key = SlotKey { index, serial: slot.serial };
            slot.connection.as_mut().map(|connection| (key, connection))
        })
    }
}
