//! The connections to applications and the pool's directives.

use super::{ASK_FOR, Application, Event, MS, Said, World};
use fcgimux::mux::{
    channel::{Channel, Freed, Values},
    failure::Kind as Cause,
    label::{Closed, Refusal},
    pool::{Directive, Handshake, Learned, OpenFailure, Share, SlotKey},
    request::question,
};
use std::{collections::BTreeMap, time::Instant};

/// Bytes on their way to an application, above which it takes no more for now.
const WINDOW: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Asking,
    Joined,
    Closed,
}

pub(super) struct Link {
    pub(super) key: SlotKey,
    pub(super) endpoint: usize,
    /// The host of that endpoint.
    pub(super) host: usize,
    handshake: Handshake,
    stage: Stage,
    channel: Channel<usize>,
    /// Read and not taken.
    carry: Vec<u8>,
    /// Places of exchanges that the application has not ended.
    pub(super) left: BTreeMap<u16, Share>,
    /// What the pool has been told.
    told: (Option<Values>, bool),
    pub(super) application: Application,
    /// On the way to the application, and from it.
    pub(super) on_the_way: [usize; 2],
    /// Nothing overtakes on a connection.
    last: [Instant; 2],
}

impl Link {
    pub(super) fn channel(&mut self) -> &mut Channel<usize> {
        &mut self.channel
    }

    pub(super) fn is_open(&self) -> bool {
        self.stage != Stage::Closed
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.channel.next_deadline().filter(|_| self.is_open())
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if self.is_open() {
            self.channel.tick(now);
            assert!(self.channel.next_deadline().is_none_or(|at| at > now), "a driver would tick for ever");
        }
    }

    pub(super) fn learned(&mut self, single: bool) {
        self.channel.set_single(single);
    }

    /// Bytes that have not been taken by the other side.
    pub(super) fn is_clogged(&self) -> bool {
        self.on_the_way[1] + self.carry.len() > WINDOW
    }

    /// No exchange is on it, and nothing of one is kept.
    pub(super) fn assert_quiet(&self) {
        assert_eq!((self.channel.in_flight(), self.left.len()), (0, 0), "{:?}", self.channel);
        assert!(!self.channel.is_stalled() && self.carry.len() < 2000);
    }
}

impl World {
    /// Carries out what there is to do until there is nothing.
    pub(super) fn settle(&mut self) {
        loop {
            let mut busy = self.obey();
            for link in 0..self.links.len() {
                if self.links[link].is_open() {
                    busy |= self.drive(link);
                }
            }
            while let Some(number) = self.woken.pop_front() {
                self.look(number);
                busy = true;
            }
            if !busy {
                return;
            }
        }
    }

    fn obey(&mut self) -> bool {
        let mut busy = false;
        while let Some(directive) = self.pool.poll_directive() {
            busy = true;
            match directive {
                Directive::Found { endpoint, address } => self.fleet.found(endpoint, &address),
                Directive::Forget { endpoint } => {
                    let links = self.links.iter().filter(|link| link.endpoint == endpoint);
                    let left = links.map(|link| usize::from(link.is_open()) + link.left.len()).sum();
                    self.fleet.forgotten(endpoint, left);
                    let avoiding = self.exchanges.iter_mut().map(|exchange| &mut exchange.avoid);
                    avoiding.for_each(|avoid| avoid.retain(|each| *each != endpoint));
                }
                Directive::Ejected { endpoint, .. } => self.fleet.ejected(endpoint),
                Directive::Returned { endpoint } => self.fleet.returned(endpoint),
                Directive::Open { key, endpoint, handshake } => self.open(key, endpoint, handshake),
                Directive::GrantShare { waiter, share } => self.granted(waiter, share),
                Directive::CloseShared { key, .. } => {
                    let link = self.link_of(key);
                    self.links[link].assert_quiet();
                    self.close(link, &Cause::Closed);
                }
                Directive::Refuse { waiter, refusal } => {
                    match refusal {
                        Refusal::QueueTimeout => {}
                        Refusal::NoEndpoint => {
                            self.fleet.may_refuse(&self.exchanges[waiter].avoid, &self.pool.snapshot(self.now))
                        }
                        other => panic!("{other:?} is no end of a wait"),
                    }
                    self.conclude(waiter, super::Fate::Refused);
                }
                Directive::Grant { .. } | Directive::Close { .. } | Directive::Probe { .. } => {
                    panic!("connections are shared")
                }
            }
        }
        busy
    }

    pub(super) fn link_of(&self, key: SlotKey) -> usize {
        self.links.iter().position(|link| link.key == key).expect("one that was opened")
    }

    fn open(&mut self, key: SlotKey, endpoint: usize, handshake: Handshake) {
        let link = self.links.len();
        let connections = &self.config.connections;
        let channel = Channel::new(connections.buffer as usize, connections.stall_timeout);
        let application = Application::new(self.habits, &mut self.random);
        self.links.push(Link {
            key,
            endpoint,
            host: self.fleet.host(endpoint),
            handshake,
            stage: Stage::Connecting,
            channel,
            carry: vec![],
            left: BTreeMap::new(),
            told: (None, false),
            application,
            on_the_way: [0; 2],
            last: [self.now; 2],
        });
        let open = self.links.iter().filter(|link| link.endpoint == endpoint && link.is_open()).count();
        self.fleet.may_open(endpoint, open, &self.pool.snapshot(self.now), self.now);
        self.travel(link, 0, Event::Connected);
    }

    pub(super) fn connected(&mut self, link: usize) {
        if self.links[link].stage != Stage::Connecting {
            return;
        }
        let Link { key, handshake, .. } = self.links[link];
        if self.random.one_in(200) {
            self.links[link].stage = Stage::Closed;
            self.pool.failed(key, OpenFailure::Connect, self.now);
            return;
        }
        if handshake != Handshake::Skip {
            self.links[link].channel.ask(&question());
        }
        match handshake {
            Handshake::Skip | Handshake::Remind => self.join(link, Learned::Nothing),
            Handshake::Learn | Handshake::Prove => {
                self.links[link].stage = Stage::Asking;
                self.pool.connected(key, self.now);
                let limit = if handshake == Handshake::Learn { ASK_FOR } else { self.config.timeouts.prove };
                self.after(limit, Event::AskedEnough(link));
            }
        }
    }

    pub(super) fn asked_enough(&mut self, link: usize) {
        if self.links[link].stage != Stage::Asking {
            return;
        }
        if self.links[link].handshake == Handshake::Learn {
            return self.join(link, Learned::Mute);
        }
        let key = self.links[link].key;
        self.close(link, &Cause::Closed);
        self.pool.failed(key, OpenFailure::Unanswered, self.now);
    }

    fn join(&mut self, link: usize, learned: Learned) {
        let Link { key, endpoint, .. } = self.links[link];
        let single = self.pool.is_single(endpoint, learned);
        self.links[link].channel.set_single(single);
        self.links[link].stage = Stage::Joined;
        self.pool.joined(key, learned, self.now);
    }

    /// What the driver of one connection does. True if anything.
    fn drive(&mut self, index: usize) -> bool {
        let now = self.now;
        let link = &mut self.links[index];
        let mut busy = false;
        if !link.carry.is_empty() && !link.channel.is_stalled() {
            let Ok(taken) = link.channel.receive(&link.carry, now) else {
                self.over(index, &Cause::Protocol("another protocol".into()), Closed::Protocol);
                return true;
            };
            link.carry.drain(..taken);
            busy |= taken > 0;
        }
        let woken = std::iter::from_fn(|| link.channel.poll_wake());
        self.woken.extend(woken);
        while let Some(Freed { id, .. }) = link.channel.poll_freed() {
            let share = link.left.remove(&id).expect("its owner has left it here");
            self.pool.release(share, now);
            busy = true;
        }
        while link.channel.poll_stall().is_some() {}
        self.fates.dropped += link.channel.take_dropped();
        let doomed = link.channel.is_doomed();
        busy |= self.obey();
        if !self.links[index].is_open() {
            return true;
        }
        if doomed {
            self.over(index, &Cause::Aborted, Closed::Gone);
            return true;
        }
        busy | self.tell_pool(index) | self.send(index)
    }

    /// What the connection has taught, and whether it stalls.
    fn tell_pool(&mut self, index: usize) -> bool {
        let link = &mut self.links[index];
        let (values, stalled) = (link.channel.values(), link.channel.is_stalled());
        let told = std::mem::replace(&mut link.told, (values, stalled));
        let Link { key, endpoint, stage, .. } = *link;
        if told.1 != stalled {
            self.pool.stalled(key, stalled, self.now);
        }
        if let Some(values) = values.filter(|_| told.0 != values) {
            if stage == Stage::Asking {
                self.join(index, Learned::Values(values));
            } else {
                let single = self.pool.is_single(endpoint, Learned::Values(values));
                self.links[index].channel.set_single(single);
                self.pool.learned(key, values, self.now);
            }
        }
        told != (values, stalled)
    }

    fn send(&mut self, index: usize) -> bool {
        let link = &mut self.links[index];
        if link.on_the_way[0] > WINDOW {
            return false;
        }
        let bytes = link.channel.to_send();
        let len = bytes.len().min(self.random.pick(&[100, 5_000, 100_000]));
        if len == 0 {
            return false;
        }
        let bytes = bytes[..len].to_vec();
        link.channel.sent(len);
        link.on_the_way[0] += len;
        self.travel(index, 0, |link| Event::ToApplication(link, bytes));
        true
    }

    pub(super) fn hear(&mut self, link: usize, said: Said) {
        match said {
            Said::Bytes(bytes) => {
                self.links[link].on_the_way[1] -= bytes.len();
                if self.links[link].is_open() {
                    self.links[link].carry.extend(bytes);
                }
            }
            Said::Eof if self.links[link].is_open() => {
                // A stalled connection is not read from: its end is seen behind the rest.
                if self.links[link].channel.is_stalled() {
                    return self.after(MS, Event::ToUs(link, Said::Eof));
                }
                self.drive(link);
                if self.links[link].channel.is_stalled() {
                    return self.after(MS, Event::ToUs(link, Said::Eof));
                }
                if self.links[link].is_open() {
                    self.over(link, &Cause::Closed, Closed::Broken);
                }
            }
            Said::Eof => {}
        }
    }

    /// The connection has ended by itself.
    fn over(&mut self, link: usize, cause: &Cause, reason: Closed) {
        let Link { key, stage, handshake, .. } = self.links[link];
        self.close(link, cause);
        match stage {
            Stage::Connecting => _ = self.pool.failed(key, OpenFailure::Connect, self.now),
            Stage::Asking => {
                let asked = handshake == Handshake::Learn;
                let failure = if asked { OpenFailure::Unasked } else { OpenFailure::Handshake };
                self.pool.failed(key, failure, self.now);
            }
            Stage::Joined => assert!(self.pool.gone(key, reason, self.now).is_some()),
            Stage::Closed => panic!("it ends once"),
        }
        for share in std::mem::take(&mut self.links[link].left).into_values() {
            self.pool.release(share, self.now);
        }
    }

    fn close(&mut self, index: usize, cause: &Cause) {
        let link = &mut self.links[index];
        link.stage = Stage::Closed;
        link.channel.fail(cause);
        while let Some(Freed { id, .. }) = link.channel.poll_freed() {
            assert!(link.left.contains_key(&id));
        }
        self.woken.extend(std::iter::from_fn(|| link.channel.poll_wake()));
        link.carry.clear();
        link.application.break_off();
    }

    /// Over the network: nothing overtakes.
    pub(super) fn travel(&mut self, link: usize, direction: usize, event: impl FnOnce(usize) -> Event) {
        let at = (self.now + self.random.micros(20, 500)).max(self.links[link].last[direction]);
        self.links[link].last[direction] = at;
        self.numbers += 1;
        self.events.insert((at, self.numbers), event(link));
    }
}
