//! The endpoints as the world has them: which there should be and which the pool has, what operators and status pages
//! say, and what may therefore be done with each.

use crate::random::Random;
use fcgimux::{
    config::{self, EndpointAddress},
    mux::{
        command::Command,
        label::EndpointState,
        pool::{Member, Pool, Workers},
        snapshot::{EndpointSnapshot, PoolSnapshot},
    },
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The shortest pause before an endpoint that is left alone is tried again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(40);

/// One address.
#[derive(Clone, Debug)]
struct Host {
    name: String,
    address: EndpointAddress,
    /// Discovery names it, and as what.
    named: bool,
    leaving: bool,
    near: bool,
    weight: u32,
    /// Drained by an operator.
    held: bool,
    /// Places that may be taken: its limit, or those that were taken when that was lowered.
    most: usize,
    /// It was last tried, while it was left alone.
    tried: Option<Instant>,
    ejected: bool,
}

pub(crate) struct Fleet {
    hosts: Vec<Host>,
    /// Hosts by the pool's index.
    there: BTreeMap<usize, usize>,
    paused: bool,
    /// Exchanges share connections.
    shared: bool,
}

/// The address of one host, as in a configuration.
pub(crate) fn address(host: usize) -> String {
    format!("10.0.0.{host}:9000")
}

impl Fleet {
    /// All are named, near and of the same weight.
    pub(crate) fn new(hosts: usize, shared: bool) -> Self {
        let host = |number| Host {
            name: address(number),
            address: EndpointAddress::Tcp(address(number).parse().expect("an address")),
            named: true,
            leaving: false,
            near: true,
            weight: 1,
            held: false,
            most: 0,
            tried: None,
            ejected: false,
        };
        Self { hosts: (0..hosts).map(host).collect(), there: BTreeMap::new(), paused: false, shared }
    }

    // ---------------------------------------------------------------- changes

    /// Something changes.
    pub(crate) fn change<W, C>(&mut self, pool: &mut Pool<W, C>, random: &mut Random, now: Instant) {
        let index = random.between(0, 5) as usize;
        match random.between(0, 19) {
            0..=7 => {
                self.rename(random);
                pool.set_members(&self.members(random), now);
            }
            8 => self.command(pool, &Command::Pause, now),
            9..=11 => self.command(pool, &Command::Resume, now),
            12 => self.command(pool, &Command::Reconnect, now),
            13 => self.hold(random.next() as usize % self.hosts.len(), true, pool, now),
            14 | 15 => self.hold(random.next() as usize % self.hosts.len(), false, pool, now),
            16 | 17 if self.there.contains_key(&index) => {
                let limit = random.one_in(2).then(|| random.between(1, 6) as u32);
                let workers = Workers { full: random.one_in(2), wanted: random.between(0, 6), limit };
                pool.workers(index, (!random.one_in(3)).then_some(workers), now);
            }
            18 if self.there.contains_key(&index) => pool.checked(index, random.one_in(2), now),
            // As a report that comes late.
            19 if !self.there.contains_key(&index) => pool.workers(index, None, now),
            _ => {}
        }
    }

    /// All is well from now on.
    pub(crate) fn mend<W, C>(&mut self, pool: &mut Pool<W, C>, random: &mut Random, now: Instant) {
        for host in &mut self.hosts {
            (host.named, host.leaving) = (true, false);
        }
        pool.set_members(&self.members(random), now);
        self.command(pool, &Command::Resume, now);
        for host in 0..self.hosts.len() {
            self.hold(host, false, pool, now);
        }
        for index in self.there.keys() {
            // Those that are not there any more have nothing to say.
            pool.workers(*index, Some(Workers { full: false, wanted: 0, limit: None }), now);
        }
    }

    fn rename(&mut self, random: &mut Random) {
        for host in &mut self.hosts {
            if random.one_in(3) {
                (host.named, host.leaving) = (!random.one_in(3), random.one_in(4));
                (host.near, host.weight) = (!random.one_in(3), random.pick(&[1, 1, 2, 3]));
            }
        }
    }

    fn members(&self, random: &mut Random) -> Vec<Member> {
        let named = self.hosts.iter().filter(|host| host.named).map(|host| Member {
            address: host.address.clone(),
            weight: host.weight,
            near: host.near,
            leaving: host.leaving,
        });
        let mut members: Vec<_> = named.collect();
        let first = random.next() as usize % members.len().max(1);
        members.rotate_left(first);
        members
    }

    pub(crate) fn command<W, C>(&mut self, pool: &mut Pool<W, C>, command: &Command, now: Instant) {
        match command {
            Command::Pause => self.paused = true,
            Command::Resume => self.paused = false,
            _ => {}
        }
        pool.command(command, now).expect("it names no endpoint");
    }

    fn hold<W, C>(&mut self, host: usize, held: bool, pool: &mut Pool<W, C>, now: Instant) {
        let Host { name, .. } = self.hosts[host].clone();
        let command = if held { Command::Drain(name) } else { Command::Undrain(name) };
        let there = pool.snapshot(now).endpoints.iter().any(|endpoint| endpoint.name == self.hosts[host].name);
        assert_eq!(pool.command(&command, now).is_ok(), there);
        self.hosts[host].held = held && there;
    }

    // ---------------------------------------------------------------- what the pool says

    pub(crate) fn found(&mut self, index: usize, address: &EndpointAddress) {
        let host = self.hosts.iter().position(|host| host.address == *address).expect("a host that there is");
        assert!(self.hosts[host].named, "nobody named it");
        assert!(!self.there.values().any(|each| *each == host), "it is there twice");
        assert_eq!(self.there.insert(index, host), None, "the index of another");
        let host = &mut self.hosts[host];
        (host.most, host.tried, host.ejected) = (usize::MAX, None, false);
    }

    /// `left`: connections and exchanges there.
    pub(crate) fn forgotten(&mut self, index: usize, left: usize) {
        let host = self.there.remove(&index).expect("it was there");
        assert_eq!(left, 0, "forgotten with its connections");
        assert!(!self.hosts[host].named, "forgotten though it is named");
        self.hosts[host].held = false;
    }

    pub(crate) fn ejected(&mut self, index: usize) {
        self.hosts[self.there[&index]].ejected = true;
    }

    pub(crate) fn returned(&mut self, index: usize) {
        let host = &mut self.hosts[self.there[&index]];
        assert!(std::mem::take(&mut host.ejected), "it had not gone");
    }

    /// The host at an index that a directive names.
    pub(crate) fn host(&self, index: usize) -> usize {
        *self.there.get(&index).expect("an endpoint that is there")
    }

    // ---------------------------------------------------------------- rules

    /// It is given an exchange.
    pub(crate) fn may_lease(&self, index: usize, snapshot: &PoolSnapshot) {
        let (host, shown) = self.shown(index, snapshot);
        assert!(!self.paused, "the pool is paused");
        assert!(host.named && !host.leaving && !host.held, "an exchange for one that leaves: {host:?}");
        assert_ne!(shown.state, EndpointState::Ejected, "an exchange for one that is left alone");
    }

    /// A connection is opened to it, with which it has so many.
    pub(crate) fn may_open(&mut self, index: usize, open: usize, snapshot: &PoolSnapshot, now: Instant) {
        let (host, shown) = self.shown(index, snapshot);
        assert!(!self.paused, "the pool is paused");
        assert!(host.named && !host.leaving && !host.held, "a connection to one that leaves: {host:?}");
        assert!(open <= shown.limit, "one too many: {shown:?}");
        if shown.state == EndpointState::Ejected {
            let index = self.there[&index];
            let before = self.hosts[index].tried.replace(now);
            assert!(before.is_none_or(|at| now - at >= SHORTEST_PAUSE), "tried too often: {:?}", self.hosts[index]);
        }
    }

    /// A waiter is told that there is no endpoint, but for those that it avoids.
    pub(crate) fn may_refuse(&self, avoid: &[usize], snapshot: &PoolSnapshot) {
        let avoided = |endpoint: &&EndpointSnapshot| avoid.contains(&self.index(endpoint));
        let others = snapshot.endpoints.iter().filter(|endpoint| !avoided(endpoint));
        let mut state = others.map(|endpoint| endpoint.state);
        let ejected = !self.paused && state.clone().any(|state| state == EndpointState::Ejected);
        assert!(ejected || !avoid.is_empty(), "{snapshot:?}");
        assert!(state.all(|state| matches!(state, EndpointState::Ejected | EndpointState::Draining)), "{snapshot:?}");
    }

    /// `open` counts the connections that there are, by host.
    pub(crate) fn check(&mut self, snapshot: &PoolSnapshot, open: &[usize]) {
        assert_eq!(snapshot.endpoints.len(), self.there.len());
        assert_eq!(snapshot.paused, self.paused);
        for endpoint in &snapshot.endpoints {
            let number = self.hosts.iter().position(|host| host.name == endpoint.name).expect("a host that there is");
            let host = &mut self.hosts[number];
            assert_eq!(endpoint.held, host.held, "{host:?}");
            let draining = host.held || host.leaving || !host.named;
            assert_eq!(endpoint.state == EndpointState::Draining, draining, "{host:?} {endpoint:?}");
            assert!(host.named || open[number] > 0 || endpoint.in_flight > 0, "not forgotten: {endpoint:?}");
            // Workers that may still be at work for somebody who has gone count as settling.
            let taken: usize = endpoint.connections.iter().sum();
            let [.., idle, _, settling] = endpoint.connections;
            assert!(
                (open[number]..=open[number] + settling).contains(&taken),
                "{} are open: {endpoint:?}",
                open[number]
            );
            assert!(taken <= endpoint.limit.max(host.most), "over budget: {endpoint:?}");
            // Where exchanges share connections some end behind what runs on them, and the others stay.
            let stay = if self.shared { endpoint.limit } else { 0 };
            assert!(open[number] <= endpoint.limit || idle <= stay, "more than it may have: {endpoint:?}");
            host.most = endpoint.limit.max(taken);
        }
        let absent = |host: &usize| !self.there.values().any(|each| each == host);
        assert!(
            (0..self.hosts.len()).filter(absent).all(|host| open[host] == 0),
            "connections to one that is forgotten"
        );
    }

    /// Endpoints to which a waiter may go.
    pub(crate) fn is_used(&self, endpoint: &EndpointSnapshot) -> bool {
        !self.paused && endpoint.state == EndpointState::Up
    }

    pub(crate) fn number(&self, endpoint: &EndpointSnapshot) -> usize {
        self.hosts.iter().position(|host| host.name == endpoint.name).expect("a host that there is")
    }

    /// The pool's index of it.
    pub(crate) fn index(&self, endpoint: &EndpointSnapshot) -> usize {
        let host = self.number(endpoint);
        *self.there.iter().find(|(_, each)| **each == host).expect("an endpoint that is there").0
    }

    pub(crate) fn is_near(&self, host: usize) -> bool {
        self.hosts[host].near
    }

    fn shown<'a>(&self, index: usize, snapshot: &'a PoolSnapshot) -> (&Host, &'a EndpointSnapshot) {
        let host = &self.hosts[self.host(index)];
        let shown = snapshot.endpoints.iter().find(|endpoint| endpoint.name == host.name);
        (host, shown.expect("an endpoint that is there"))
    }
}

/// Other settings for a running pool: those of `other`, but for what makes it another pool.
pub(crate) fn reconfigure<W, C>(pool: &mut Pool<W, C>, config: &mut config::Pool, other: config::Pool, now: Instant) {
    pool.reconfigure(&other, now);
    *config = other;
}
