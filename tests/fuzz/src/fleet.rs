//! The endpoints of a fuzzed pool: which there should be, which there are, and what may be done with each.

use super::input::Input;
use fcgimux::{
    config::EndpointAddress,
    mux::{
        command::Command,
        label::EndpointState,
        pool::{Member, Pool, Workers},
    },
};
use std::{collections::BTreeMap, time::Instant};

/// Addresses that there are; a configuration names the first ones.
const HOSTS: usize = 4;

#[derive(Default)]
pub(crate) struct Fleet {
    /// Those that discovery names; `true`: as leaving.
    named: BTreeMap<String, bool>,
    /// By index.
    there: BTreeMap<usize, String>,
    paused: bool,
}

fn name(host: usize) -> String {
    format!("10.0.0.{}:9000", host + 1)
}

impl Fleet {
    /// The pool as it is when it is new.
    pub(crate) fn new(named: usize) -> Self {
        Self { named: (0..named).map(|host| (name(host), false)).collect(), ..Self::default() }
    }

    /// Discovery, an operator or a status page has something to say.
    pub(crate) fn change<W, C>(&mut self, pool: &mut Pool<W, C>, input: &mut Input<'_>, now: Instant) {
        let host = input.below(HOSTS);
        match input.below(8) {
            0 | 1 => {
                let kinds: Vec<u8> = (0..HOSTS).map(|_| input.byte()).collect();
                let named = kinds.iter().enumerate().filter(|(_, kind)| **kind % 4 != 0);
                let members: Vec<_> = named.map(|(host, kind)| member(host, *kind)).collect();
                self.named = members.iter().map(|each| (each.address.to_string(), each.leaving)).collect();
                pool.set_members(&members, now);
            }
            2 => {
                self.paused = !self.paused;
                let command = if self.paused { Command::Pause } else { Command::Resume };
                assert_eq!(pool.command(&command, now), Ok(()));
            }
            3 => assert_eq!(pool.command(&Command::Reconnect, now), Ok(())),
            4 | 5 => {
                let there = self.there.values().any(|each| *each == name(host));
                let command =
                    if input.below(2) == 0 { Command::Drain(name(host)) } else { Command::Undrain(name(host)) };
                assert_eq!(pool.command(&command, now).is_ok(), there);
            }
            6 => {
                let limit = [None, Some(0), Some(1), Some(2), Some(100)][input.below(5)];
                let workers = (input.below(3) > 0).then_some(Workers {
                    full: input.below(2) == 0,
                    wanted: input.below(4) as u64,
                    limit,
                });
                pool.workers(host, workers, now);
            }
            _ => pool.checked(host, input.below(2) == 0, now),
        }
    }

    pub(crate) fn found(&mut self, index: usize, address: &EndpointAddress) {
        let name = address.to_string();
        assert!(self.named.contains_key(&name) && self.there.values().all(|each| *each != name), "found twice");
        assert_eq!(self.there.insert(index, name), None, "the index of another");
    }

    /// `left`: connections and exchanges there.
    pub(crate) fn forgotten(&mut self, index: usize, left: usize) {
        let name = self.there.remove(&index).expect("it was there");
        assert!(!self.named.contains_key(&name) && left == 0, "forgotten, with {left} left");
    }

    /// It is there; and `new`: it may be given something new.
    pub(crate) fn may<W, C>(&self, index: usize, new: bool, pool: &Pool<W, C>, now: Instant) {
        let name = self.there.get(&index).expect("an endpoint that is there");
        let snapshot = pool.snapshot(now);
        let shown = snapshot.endpoints.iter().find(|each| each.name == *name).expect("it is shown");
        let leaves = shown.held || self.named.get(name) != Some(&false);
        assert_eq!(shown.state == EndpointState::Draining, leaves);
        assert!(!new || !(leaves || self.paused || shown.state == EndpointState::Ejected), "{shown:?}");
    }

    /// A connection may be opened: as above, but for one that is tried.
    pub(crate) fn may_open<W, C>(&self, index: usize, open: usize, pool: &Pool<W, C>, now: Instant) {
        self.may(index, false, pool, now);
        let snapshot = pool.snapshot(now);
        let shown = snapshot.endpoints.iter().find(|each| each.name == self.there[&index]).expect("it is shown");
        assert!(shown.state != EndpointState::Draining && !self.paused && open <= shown.limit, "{open} at {shown:?}");
    }

    /// Everything is well again.
    pub(crate) fn mend<W, C>(&mut self, pool: &mut Pool<W, C>, now: Instant) {
        self.paused = false;
        assert_eq!(pool.command(&Command::Resume, now), Ok(()));
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = usize> {
        self.there.keys().copied()
    }
}

fn member(host: usize, kind: u8) -> Member {
    let address = EndpointAddress::Tcp(name(host).parse().expect("an address"));
    let weight = [1, 1, 2, 100][usize::from(kind / 4 % 4)];
    Member { address, weight, near: !(kind / 16).is_multiple_of(4), leaving: kind / 64 == 0 }
}
