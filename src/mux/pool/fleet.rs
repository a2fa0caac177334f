//! Endpoints come and go, break, fill up, and are held out by an operator.

use super::{
    Directive, Pool, SlotKey,
    endpoint::Endpoint,
    health::{PANIC_PAUSE, Pause},
    member::Member,
};
use crate::{
    config,
    mux::{
        command::{Command, CommandError},
        label::{Closed, Refusal},
    },
};
use slab::Slab;
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

/// So long a handshake that hung is remembered. Measured with four sidecars before three php-fpm: after 2 s the next one
/// that wants more than it has hangs again, so nobody forgets while workers are scarce.
const PRESSED_FOR: Duration = Duration::from_secs(2);
/// Handshakes that no worker answered, after which the endpoint gets a pause.
const UNANSWERED: u32 = 2;
/// Endpoints that are found within this of the pool itself are as new as all others: they need not start slowly.
const TOGETHER: Duration = Duration::from_secs(1);
/// How often the share of an endpoint that starts slowly is worked out, as a part of the whole slow start.
const STEPS: u32 = 20;

/// What the status page of an application says of its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// Somebody waits for one, or none is idle and no more can be started.
    pub full: bool,
    /// Connections that hold one or wait for one, ours among them.
    pub wanted: u64,
    /// Workers that there can be (`pm.max_children`), where that is known.
    pub limit: Option<u32>,
}

impl<W, C> Pool<W, C> {
    // ---------------------------------------------------------------- commands

    /// The endpoints that there should be. Those that are not named leave: what runs there ends, and then they are
    /// forgotten ([`Directive::Forget`]).
    pub fn set_members(&mut self, members: &[Member], now: Instant) {
        let named: HashSet<_> = members.iter().map(|member| &member.address).collect();
        let gone = self.endpoints.iter().filter(|(_, endpoint)| !named.contains(&endpoint.address));
        let gone: Vec<_> = gone.map(|(index, _)| index).collect();
        // All are marked before anything closes: waiters would be sent from one that leaves to the next.
        for index in &gone {
            (self.endpoints[*index].named, self.endpoints[*index].leaving) = (false, true);
            self.rank(*index);
        }
        for member in members {
            match self.by_address.get(&member.address) {
                Some(index) => self.update(*index, member, now),
                None => self.add(member, now),
            }
        }
        let draining = self.endpoints.iter().filter(|(_, endpoint)| endpoint.is_draining());
        for index in draining.map(|(index, _)| index).collect::<Vec<_>>() {
            self.clear(index, now);
            self.forget_if_gone(index);
        }
        self.retry(now);
        self.refuse_without_hope();
        self.serve(now);
    }

    /// Other settings, from now on. Connections that need not close stay.
    pub fn reconfigure(&mut self, pool: &config::Pool, now: Instant) {
        debug_assert_eq!(self.application, pool.application, "another dialect is another pool");
        self.connections = pool.connections.clone();
        self.prove = pool.timeouts.prove;
        self.slow_start = pool.slow_start;
        self.queue.reconfigure(&pool.queue);
        (self.reap_at, self.beat_at) = (Some(now), Some(now));
        for index in self.indices() {
            self.replace_places(index, now);
            self.rank(index);
            self.shrink(index, now);
        }
        self.tick(now);
    }

    /// # Errors
    /// No endpoint has that name.
    pub fn command(&mut self, command: &Command, now: Instant) -> Result<(), CommandError> {
        match command {
            Command::Pause => {
                self.paused = true;
                self.recycle(now);
            }
            Command::Resume => {
                self.paused = false;
                self.retry(now);
            }
            Command::Reconnect => self.recycle(now),
            Command::Drain(name) => {
                let index = self.named(name)?;
                self.endpoints[index].held = true;
                self.clear(index, now);
                self.refuse_without_hope();
            }
            Command::Undrain(name) => {
                let index = self.named(name)?;
                self.endpoints[index].held = false;
                self.rank(index);
                self.retry(now);
            }
        }
        self.serve(now);
        Ok(())
    }

    // ---------------------------------------------------------------- events

    /// What its status page says; `None`: it cannot be asked.
    pub fn workers(&mut self, index: usize, workers: Option<Workers>, now: Instant) {
        let Some(endpoint) = self.endpoints.get_mut(index) else { return };
        endpoint.full = workers.is_some_and(|workers| workers.full);
        // Where all of them are ours, there is nobody to give one to.
        let others = workers.is_some_and(|workers| workers.wanted > endpoint.occupied(now) as u64);
        endpoint.pressed = endpoint.full && others;
        endpoint.workers = workers.map_or(endpoint.workers, |workers| workers.limit);
        let pressed = endpoint.pressed;
        self.rank(index);
        self.shrink(index, now);
        if pressed {
            self.reap(now);
        }
        self.serve(now);
    }

    /// An established connection, the caller's to close, has sent something that the other side's kernel does not
    /// acknowledge: a host that is gone, or cut off.
    pub fn silent(&mut self, index: usize, now: Instant) {
        let pause = self.pause();
        // It may have gone meanwhile.
        let Some(endpoint) = self.endpoints.get_mut(index) else { return };
        let at = endpoint.health.silent(pause, now);
        self.doubted(index, at, "its host acknowledges nothing", now);
    }

    /// An active check failed, or not.
    pub fn checked(&mut self, index: usize, well: bool, now: Instant) {
        if self.endpoints.get(index).is_none() {
            return;
        }
        match well {
            true => self.answered(index, now),
            false => self.broke(index, now),
        }
    }

    // ---------------------------------------------------------------- for the rest of the pool

    /// It answered a connect, a handshake or a fence.
    pub(super) fn answered(&mut self, index: usize, now: Instant) {
        let suspect = self.endpoints[index].health.is_suspect();
        let back = self.endpoints[index].health.answered();
        if back {
            self.returned(index, now);
        }
        if back || suspect {
            self.rank(index);
        }
    }

    /// An exchange ended well there.
    pub(super) fn ended_well(&mut self, index: usize, now: Instant) {
        if self.endpoints[index].health.ended_well() {
            self.returned(index, now);
            self.rank(index);
            // What rests there was for nobody as long as one was on trial.
            self.serve(now);
        }
    }

    /// The application broke an exchange off, or did not answer it in time.
    pub(super) fn broke(&mut self, index: usize, now: Instant) {
        let (pause, may_eject) = (self.pause(), self.may_eject());
        if let Some(at) = self.endpoints[index].health.broke(may_eject, pause, now) {
            self.doubted(index, at, "it breaks one request after the other", now);
        }
    }

    /// A connect or a handshake failed there.
    pub(super) fn unreachable(&mut self, index: usize, now: Instant) {
        let pause = self.pause();
        let endpoint = &mut self.endpoints[index];
        endpoint.forget_talents();
        let working = endpoint.is_working();
        let at = endpoint.health.failed(working, pause, now);
        self.doubted(index, at, "it cannot be connected to", now);
    }

    /// No worker took a connection in time: it is busy, not broken; but connections that nobody takes fill its backlog.
    pub(super) fn unanswered(&mut self, index: usize, now: Instant) {
        self.answered(index, now);
        let pause = self.pause();
        let endpoint = &mut self.endpoints[index];
        (endpoint.hanging, endpoint.unanswered) = (true, endpoint.unanswered.saturating_add(1));
        endpoint.pressed_until = Some(now + PRESSED_FOR);
        if endpoint.unanswered >= UNANSWERED {
            let at = endpoint.health.rest(endpoint.unanswered - UNANSWERED, pause, now);
            self.retry_by(at);
        }
        self.rank(index);
    }

    /// A handshake there has shown that workers are scarce.
    pub(super) fn press(&mut self, index: usize, now: Instant) {
        let endpoint = &mut self.endpoints[index];
        let news = !endpoint.is_pressed(now);
        endpoint.pressed_until = Some(now + PRESSED_FOR);
        if news {
            self.reap(now);
        }
    }

    /// The pauses of endpoints that are over. While nothing may be sent there, a pause goes on: when it ends one must be
    /// tried, or nothing would ever show that it is well.
    pub(super) fn retry(&mut self, now: Instant) {
        self.retry_at = None;
        if self.paused {
            return;
        }
        for index in self.indices() {
            let endpoint = &mut self.endpoints[index];
            if endpoint.is_draining() {
                continue;
            }
            if let Some(untold) = endpoint.health.pause_over(now) {
                self.rank(index);
                if untold {
                    self.try_out(index, now);
                }
            }
        }
        let members = self.endpoints.iter().filter(|(_, endpoint)| !endpoint.is_draining());
        self.retry_at = members.filter_map(|(_, endpoint)| endpoint.health.retry_at()).min();
    }

    /// Opens a connection for no waiter, to see whether it is well.
    fn try_out(&mut self, index: usize, now: Instant) {
        let endpoint = &self.endpoints[index];
        if !endpoint.health.is_ejected() && endpoint.coming() > 0 {
            // That one will tell.
        } else if endpoint.connections() < self.limit_at(index) {
            self.open(index, now);
        } else {
            let pause = self.pause();
            self.endpoints[index].health.rest(0, pause, now);
            self.rank(index);
        }
    }

    /// The shares of endpoints that start slowly.
    pub(super) fn ramp(&mut self, now: Instant) {
        let mut slow = false;
        for index in self.indices() {
            if self.endpoints[index].slow_since.is_some() {
                slow |= self.reckon_share(index, now);
                self.rank(index);
            }
        }
        self.ramp_at = self.slow_start.filter(|_| slow).map(|whole| now + whole / STEPS);
    }

    /// Works out the share of an endpoint; returns whether it is still starting slowly.
    fn reckon_share(&mut self, index: usize, now: Instant) -> bool {
        let endpoint = &mut self.endpoints[index];
        let was_slow = endpoint.slow_since.is_some();
        let is_slow = endpoint.reckon_share(self.slow_start, now);
        if was_slow && !is_slow {
            // What it was given while it had less of a claim is over with.
            endpoint.served = endpoint.served.min(self.served + endpoint.load(1));
            endpoint.opened = endpoint.opened.min(self.opened + endpoint.load(1));
        }
        is_slow
    }

    /// There is another endpoint than these that is used.
    pub fn has_other(&self, than: &[usize]) -> bool {
        has_other(&self.endpoints, than)
    }

    /// A request that waits may be served some time: there is an endpoint that answers, or none at all is known yet.
    pub(super) fn any_hope(&self, avoid: &[usize]) -> bool {
        if !avoid.is_empty() {
            return self.has_other(avoid);
        }
        let mut none = true;
        for (_, endpoint) in &self.endpoints {
            if endpoint.is_usable() {
                return true;
            }
            none &= endpoint.is_draining();
        }
        none || self.paused
    }

    pub(super) fn indices(&self) -> Vec<usize> {
        self.endpoints.iter().map(|(index, _)| index).collect()
    }

    /// Forgets an endpoint that is no member any more, once nothing of it is left.
    pub(super) fn forget_if_gone(&mut self, index: usize) {
        let Some(endpoint) = self.endpoints.get(index) else { return };
        if !endpoint.named && endpoint.connections() == 0 && endpoint.in_flight == 0 {
            self.unrank(index);
            let endpoint = self.endpoints.remove(index);
            self.by_address.remove(&endpoint.address);
            self.queue.forget(index);
            self.directives.push_back(Directive::Forget { endpoint: index });
        }
    }

    // ---------------------------------------------------------------- private

    fn add(&mut self, member: &Member, now: Instant) {
        let mut endpoint = Endpoint::new(member);
        // Those before it have no claim to be caught up with.
        (endpoint.served, endpoint.opened) = (self.served, self.opened);
        let index = self.endpoints.insert(endpoint);
        self.by_address.insert(member.address.clone(), index);
        self.directives.push_back(Directive::Found { endpoint: index, address: member.address.clone() });
        if now.saturating_duration_since(self.created) >= TOGETHER {
            self.start_slowly(index, now);
        }
        self.rank(index);
    }

    fn update(&mut self, index: usize, member: &Member, now: Instant) {
        let endpoint = &mut self.endpoints[index];
        let returns = endpoint.leaving && !member.leaving;
        (endpoint.named, endpoint.leaving) = (true, member.leaving);
        (endpoint.weight, endpoint.near) = (member.weight, member.near);
        self.reckon_share(index, now);
        if returns {
            // Another application may have come at the same address.
            let endpoint = &mut self.endpoints[index];
            endpoint.forget_manners();
            endpoint.forget_talents();
            self.start_slowly(index, now);
        }
        self.rank(index);
    }

    fn start_slowly(&mut self, index: usize, now: Instant) {
        if let Some(whole) = self.slow_start {
            self.endpoints[index].start_slowly(self.served, now);
            self.reckon_share(index, now);
            self.ramp_at.get_or_insert(now + whole / STEPS);
        }
    }

    /// It leaves: its idle connections close now, others behind what runs on them.
    fn clear(&mut self, index: usize, now: Instant) {
        self.rank(index);
        let own = |pool: &Self, key: &SlotKey| pool.slots.get(*key).endpoint == index;
        let keys: Vec<_> = self.slots.idle().into_iter().filter(|key| own(self, key)).collect();
        self.let_idle_go(keys, Closed::Leaving, now);
        let keys: Vec<_> = self.slots.shared().into_iter().filter(|key| own(self, key)).collect();
        keys.into_iter().for_each(|key| self.let_go(key, Closed::Leaving, false, now));
    }

    /// Closes what is idle beyond its limit; what is in use follows behind its exchanges.
    fn shrink(&mut self, index: usize, now: Instant) {
        let endpoint = &self.endpoints[index];
        let surplus = endpoint.connections().saturating_sub(self.limit_at(index));
        let keys = endpoint.idle.iter().take(surplus).copied().collect();
        self.let_idle_go(keys, Closed::Pressure, now);
    }

    /// Every connection of today ends: idle ones now, others behind what runs on them.
    fn recycle(&mut self, now: Instant) {
        self.recycled = Some(now);
        self.let_idle_go(self.slots.idle(), Closed::Reconnect, now);
        for key in self.slots.shared() {
            self.let_go(key, Closed::Reconnect, false, now);
        }
    }

    pub(super) fn let_idle_go(&mut self, keys: Vec<SlotKey>, reason: Closed, now: Instant) {
        for key in keys {
            if self.slots.try_get_mut(key).is_some() {
                self.close_idle(key, reason, now);
            }
        }
    }

    fn named(&self, name: &str) -> Result<usize, CommandError> {
        let mut found = self.endpoints.iter().filter(|(_, endpoint)| endpoint.name == name);
        found.next().map(|(index, _)| index).ok_or_else(|| CommandError::NoEndpoint(name.to_owned()))
    }

    fn returned(&mut self, index: usize, now: Instant) {
        self.directives.push_back(Directive::Returned { endpoint: index });
        self.start_slowly(index, now);
    }

    /// It is to be tried again at `at`, and meanwhile used less, or not.
    fn doubted(&mut self, index: usize, at: Instant, why: &'static str, now: Instant) {
        let endpoint = &mut self.endpoints[index];
        if endpoint.health.is_ejected() && endpoint.told_ejections != endpoint.health.ejections() {
            endpoint.told_ejections = endpoint.health.ejections();
            self.directives.push_back(Directive::Ejected { endpoint: index, why });
        }
        self.retry_by(at);
        self.rank(index);
        self.probe_idle(index, now);
        self.refuse_without_hope();
    }

    /// Nobody waits for endpoints none of which can be used.
    fn refuse_without_hope(&mut self) {
        self.relent();
        if !self.any_hope(&[]) {
            return self.refuse_all(Refusal::NoEndpoint);
        }
        while let Some(waiter) = self.queue.give_up(|avoid| !has_other(&self.endpoints, avoid)) {
            self.directives.push_back(Directive::Refuse { waiter, refusal: Refusal::NoEndpoint });
        }
    }

    /// Where those that are left alone for how their exchanges ended have become more than half, or nothing else is left
    /// to be used, they are tried at once.
    fn relent(&mut self) {
        let (all, _) = self.ejected();
        let members = self.endpoints.iter().filter(|(_, endpoint)| !endpoint.is_draining());
        let broken: Vec<_> = members.filter(|(_, each)| each.health.is_broken()).map(|(index, _)| index).collect();
        if 2 * broken.len() > all || !self.endpoints.iter().any(|(_, endpoint)| endpoint.is_usable()) {
            for index in broken {
                self.endpoints[index].health.relent();
                self.rank(index);
            }
        }
    }

    fn retry_by(&mut self, at: Instant) {
        self.retry_at = Some(self.retry_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Never more than half of the endpoints are left alone for how their exchanges ended: where most of them break,
    /// the fault is in what they are sent.
    fn may_eject(&self) -> bool {
        let (all, ejected) = self.ejected();
        2 * (ejected + 1) <= all
    }

    /// Endpoints that do not drain, and how many of them are ejected.
    pub(super) fn ejected(&self) -> (usize, usize) {
        let members = self.endpoints.iter().filter(|(_, endpoint)| !endpoint.is_draining());
        members.fold((0, 0), |(all, ejected), (_, endpoint)| {
            (all + 1, ejected + usize::from(endpoint.health.is_ejected()))
        })
    }

    /// The next pause. Where most endpoints are ejected it is short: they are likelier to come back together.
    fn pause(&mut self) -> Pause {
        let (all, ejected) = self.ejected();
        let longest = if 2 * ejected > all { PANIC_PAUSE } else { Duration::MAX };
        Pause { early: self.chance(), longest }
    }

    /// 0.0 to 1.0 (xorshift64*, Vigna 2016); always 0.0 with the seed 0.
    fn chance(&mut self) -> f64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn has_other(endpoints: &Slab<Endpoint>, than: &[usize]) -> bool {
    endpoints.iter().any(|(index, endpoint)| !than.contains(&index) && endpoint.is_usable())
}
