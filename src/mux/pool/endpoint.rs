//! One address of an application: how many connections it has, and whether it answers.

use super::{Handshake, Learned, PATIENCE, SlotKey, health::Health, member::Member};
use crate::{
    config::{EndpointAddress, Multiplex},
    mux::{
        channel::Values,
        label::{ConnectionState, EndpointState},
    },
};
use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// Prompt fences in a row after which the next request may go before the fence is answered.
const PROMPT_FENCES: u32 = 100;
/// One late fence, and for so long every connection proves itself before it is used again: a visitor has waited for work
/// that another's request had left behind (fact 11.1).
const LATE_FOR: Duration = Duration::from_secs(600);
/// An endpoint that did not keep connections is asked again after this: PHP may have been upgraded.
const RELEARN: Duration = Duration::from_secs(60);

/// So long one may rest at an endpoint where others wait for a worker, for all that handshakes have shown: behind that our
/// next request has not come, and theirs is there. Without it each small gap in our own traffic would end a connection.
const PRESSED_IDLE: Duration = Duration::from_millis(5);

/// What one exchange, or one connection, counts at an endpoint of weight 1: what each has is compared in whole numbers.
const UNIT: u64 = 1_000_000;
/// So many exchanges an endpoint may be behind the others and catch up with. It was idle meanwhile, or full: it does not
/// get all that it missed.
const CATCH_UP: u64 = 8;
/// The least part of its share that an endpoint gets while it starts slowly.
const SLOWEST: f64 = 0.1;

/// What is known of how an application treats a kept connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    Unknown,
    /// Closed behind one handshake: old, or stopping.
    Doubtful,
    Kept,
    /// Does not keep connections; learned at this time.
    NotKept(Instant),
}

/// What an application other than php-fpm has said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Talents {
    Unknown,
    /// Closed where it was asked: it may have been about to stop.
    Doubtful,
    Said(Values),
    /// It does not answer, or closes where it is asked.
    Mute,
}

/// Where it stands among those that have an idle connection, or a free place: the lowest is used first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// See [`Tier`].
    pub(super) tier: Tier,
    /// Exchanges that run there, by its share.
    pub(super) load: u64,
    /// What it has been given so far, by its share: the one that has had least comes first.
    pub(super) served: u64,
}

/// What comes before load: an endpoint of a later tier is used where none of an earlier one has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    Near,
    Far,
    /// It starts slowly, and has had its part for now.
    Slow,
    /// In the own zone, but no worker is free there: only for what is opened.
    NearSaturated,
    FarSaturated,
    Suspect,
    /// Its connections with room are held up by one exchange.
    Stalled,
}

/// Where it stands among those to which a connection may be opened: the lowest is used first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Room {
    pub(super) tier: Tier,
    /// Connections that it has, by its share.
    pub(super) load: u64,
    /// What has been opened to it so far, by its share: where connections do not last, this is what spreads exchanges.
    pub(super) opened: u64,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) name: String,
    pub(super) address: EndpointAddress,
    /// In the own zone, or no zones are known.
    pub(super) near: bool,
    pub(super) weight: u32,
    /// Discovery names it.
    pub(super) named: bool,
    /// Discovery does not name it any more, or as leaving.
    pub(super) leaving: bool,
    /// Drained by an operator.
    pub(super) held: bool,
    /// When it began its slow start.
    pub(super) slow_since: Option<Instant>,
    /// What one exchange counts here: the less the larger its weight, and more while it starts slowly.
    unit: u64,
    pub(super) health: Health,
    /// Ejections that the driver has been told of.
    pub(super) told_ejections: u64,
    /// Its status page says that none of its workers is free, or that somebody waits for one.
    pub(super) full: bool,
    /// ... and that others than we have or want them.
    pub(super) pressed: bool,
    /// Workers were scarce there until then, for all that handshakes have shown.
    pub(super) pressed_until: Option<Instant>,
    /// A handshake has not been answered for longer than usual: all workers are busy.
    pub(super) hanging: bool,
    /// Handshakes in a row that no worker has answered in time.
    pub(super) unanswered: u32,
    /// Workers that it can have, as its status page says.
    pub(super) workers: Option<u32>,
    /// What it has been given so far, each exchange by its share.
    pub(super) served: u64,
    /// The same of the connections that were opened to it.
    pub(super) opened: u64,
    /// Its place among those that start slowly and have had their part for now: see `served`.
    pub(super) ahead: Option<u64>,
    /// Idle connections, the most recently used last.
    pub(super) idle: Vec<SlotKey>,
    /// Closed connections whose worker may still be at work (rule R15): when each is forgotten, the first one first.
    ghosts: VecDeque<Instant>,
    /// When a worker was last given back to everybody.
    pub(super) gave_back: Option<Instant>,
    /// Connections with free places, by how many are taken.
    pub(super) rooms: BTreeSet<(u32, SlotKey)>,
    /// Exchanges on shared connections, those of connections that have ended included until they are given back.
    pub(super) in_flight: usize,
    talents: Talents,
    /// Its place among the endpoints that have idle connections.
    pub(super) rank: Option<Rank>,
    /// Its place among those to which a connection may be opened.
    pub(super) room: Option<Room>,
    counts: [usize; ConnectionState::ALL.len()],
    manners: Manners,
    /// Fences in a row that were answered at once.
    prompt: u32,
    /// When one last was not.
    late_at: Option<Instant>,
}

impl Endpoint {
    pub(super) fn new(member: &Member) -> Self {
        Self {
            name: member.address.to_string(),
            address: member.address.clone(),
            near: member.near,
            weight: member.weight,
            named: true,
            leaving: member.leaving,
            held: false,
            slow_since: None,
            unit: UNIT / u64::from(member.weight.max(1)),
            health: Health::new(),
            told_ejections: 0,
            full: false,
            pressed: false,
            pressed_until: None,
            hanging: false,
            unanswered: 0,
            workers: None,
            served: 0,
            opened: 0,
            ahead: None,
            idle: vec![],
            ghosts: VecDeque::new(),
            gave_back: None,
            rooms: BTreeSet::new(),
            in_flight: 0,
            talents: Talents::Unknown,
            rank: None,
            room: None,
            counts: [0; ConnectionState::ALL.len()],
            manners: Manners::Unknown,
            prompt: 0,
            late_at: None,
        }
    }

    // ---------------------------------------------------------------- commands

    /// One connection changed its state; `None`: did not exist before, or does not any more.
    pub(super) fn moved(&mut self, from: Option<ConnectionState>, to: Option<ConnectionState>) {
        if let Some(from) = from {
            self.counts[from as usize] -= 1;
        }
        if let Some(to) = to {
            self.counts[to as usize] += 1;
        }
        self.hanging &= self.coming() > 0;
    }

    /// A connection was closed whose worker may be at work until `forget_at`, for all that is known.
    pub(super) fn leave_ghost(&mut self, forget_at: Instant, now: Instant) {
        self.ghosts.retain(|at| *at > now);
        self.ghosts.push_back(forget_at);
    }

    /// A new connection takes such a place: its handshake finds out.
    pub(super) fn replace_ghost(&mut self, now: Instant) -> bool {
        self.ghosts.retain(|at| *at > now);
        self.ghosts.pop_front().is_some()
    }

    /// Whatever comes back in its place may be another application.
    pub(super) fn forget_talents(&mut self) {
        self.talents = Talents::Unknown;
    }

    /// It starts slowly from now on, without a claim to what it has missed.
    pub(super) fn start_slowly(&mut self, served: u64, now: Instant) {
        (self.slow_since, self.served) = (Some(now), self.served.max(served));
    }

    /// Works out its share; returns whether it is still starting slowly.
    pub(super) fn reckon_share(&mut self, slow_start: Option<Duration>, now: Instant) -> bool {
        let whole = UNIT / u64::from(self.weight.max(1));
        let part = self.slow_since.zip(slow_start).map(|(since, whole)| {
            now.saturating_duration_since(since).as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE)
        });
        match part {
            Some(part) if part < 1.0 => {
                self.unit = (whole as f64 / part.max(SLOWEST)) as u64;
                true
            }
            _ => {
                (self.slow_since, self.unit) = (None, whole);
                false
            }
        }
    }

    /// It answered a handshake and closed. Returns whether it is known from now on not to keep connections: only after
    /// two in a row, since a worker that stops looks the same (fact 6.2).
    pub(super) fn saw_close_behind_answer(&mut self, now: Instant) -> bool {
        let news = self.manners == Manners::Doubtful;
        self.manners = match self.manners {
            Manners::Unknown | Manners::Kept => Manners::Doubtful,
            Manners::Doubtful | Manners::NotKept(_) => Manners::NotKept(now),
        };
        news
    }

    /// It answered twice on one connection.
    pub(super) fn learned_kept(&mut self) {
        self.manners = Manners::Kept;
    }

    /// What a new connection of an application other than php-fpm taught.
    pub(super) fn learn(&mut self, learned: Learned) {
        match learned {
            Learned::Values(values) => self.talents = Talents::Said(values),
            Learned::Mute => self.talents = Talents::Mute,
            Learned::Nothing => {}
        }
    }

    /// It closed a connection where it was asked what it can: only one that does so twice in a row is not asked again.
    pub(super) fn closed_unasked(&mut self) {
        self.talents = match self.talents {
            Talents::Doubtful => Talents::Mute,
            _ => Talents::Doubtful,
        };
    }

    /// It closed a connection right behind its handshake: another PHP may have come in its place.
    pub(super) fn forget_manners(&mut self) {
        if self.manners == Manners::Kept {
            self.manners = Manners::Unknown;
        }
    }

    /// A fence was answered after so long.
    pub(super) fn fence_answered(&mut self, after: Duration, now: Instant) {
        if after > PATIENCE {
            self.fence_late(now);
        } else {
            self.prompt = self.prompt.saturating_add(1);
        }
    }

    /// A fence was not answered at once: scripts work on behind their response here.
    pub(super) fn fence_late(&mut self, now: Instant) {
        (self.prompt, self.late_at) = (0, Some(now));
    }

    /// A fence that went in front of a request found the connection closed: an exchange lost time by not waiting for it.
    pub(super) fn fence_unanswered(&mut self) {
        self.prompt = 0;
    }

    // ---------------------------------------------------------------- getters

    pub(super) fn handshake(&self, now: Instant) -> Handshake {
        match self.manners {
            Manners::Kept => Handshake::Prove,
            Manners::NotKept(at) if now.saturating_duration_since(at) < RELEARN => Handshake::Skip,
            _ => Handshake::Learn,
        }
    }

    /// The same, for an application other than php-fpm.
    pub(super) fn question(&self, multiplex: Multiplex) -> Handshake {
        match (self.talents, multiplex) {
            (_, Multiplex::Always) | (Talents::Mute, _) => Handshake::Skip,
            (Talents::Unknown | Talents::Doubtful, _) => Handshake::Learn,
            // One that takes many never keeps a connection waiting; one that takes one at a time may (rule R3).
            (Talents::Said(values), Multiplex::Auto) if values.multiplexes => Handshake::Remind,
            (Talents::Said(values), _) if values.multiplexes => Handshake::Skip,
            (Talents::Said(_), _) => Handshake::Prove,
        }
    }

    /// What it has said of itself.
    pub(super) fn values(&self) -> Option<Values> {
        match self.talents {
            Talents::Said(values) => Some(values),
            Talents::Unknown | Talents::Doubtful | Talents::Mute => None,
        }
    }

    pub(super) fn kept(&self) -> bool {
        !matches!(self.manners, Manners::NotKept(_))
    }

    /// Its workers are free as soon as they have answered, as far as has been seen.
    pub(super) fn is_prompt(&self, now: Instant) -> bool {
        let forgotten = self.late_at.is_none_or(|at| now.saturating_duration_since(at) > LATE_FOR);
        self.prompt >= PROMPT_FENCES && forgotten
    }

    pub(super) fn count(&self, state: ConnectionState) -> usize {
        self.counts[state as usize]
    }

    pub(super) fn connections(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Being opened.
    pub(super) fn coming(&self) -> usize {
        self.count(ConnectionState::Connecting) + self.count(ConnectionState::Proving)
    }

    /// Leased or settling.
    pub(super) fn at_work(&self) -> usize {
        self.count(ConnectionState::Leased) + self.count(ConnectionState::Settling)
    }

    /// Some connection to it is in use, or could be.
    pub(super) fn is_working(&self) -> bool {
        self.count(ConnectionState::Idle) + self.at_work() > 0
    }

    /// Workers that are, or may be, held by us.
    pub(super) fn occupied(&self, now: Instant) -> usize {
        self.connections() + self.ghosts(now)
    }

    /// The same, as far as it was known when it changed last: for an order that does not change by itself.
    pub(super) fn places_taken(&self) -> usize {
        self.connections() + self.ghosts.len()
    }

    /// Forgets those whose time is over. Returns whether there were any.
    pub(super) fn forget_ghosts(&mut self, now: Instant) -> bool {
        let before = self.ghosts.len();
        self.ghosts.retain(|at| *at > now);
        self.ghosts.len() != before
    }

    /// Places of workers that may still be busy.
    pub(super) fn ghosts(&self, now: Instant) -> usize {
        self.ghosts.iter().filter(|at| **at > now).count()
    }

    /// By state; places of workers that may still be busy count as settling.
    pub(super) fn counts_with_ghosts(&self, now: Instant) -> [usize; ConnectionState::ALL.len()] {
        let mut counts = self.counts;
        counts[ConnectionState::Settling as usize] += self.ghosts(now);
        counts
    }

    /// Nothing new goes there.
    pub(super) fn is_draining(&self) -> bool {
        self.leaving || self.held
    }

    /// Others wait for its workers: what is not in use here is given back.
    pub(super) fn is_pressed(&self, now: Instant) -> bool {
        self.pressed || self.pressed_until.is_some_and(|until| now < until)
    }

    /// So long one of its connections may rest meanwhile.
    pub(super) fn rest_limit(&self, now: Instant) -> Option<Duration> {
        match self.pressed {
            true => Some(Duration::ZERO),
            false => self.is_pressed(now).then_some(PRESSED_IDLE),
        }
    }

    /// All its workers are busy, as far as can be seen.
    pub(super) fn is_saturated(&self) -> bool {
        self.full || self.hanging
    }

    /// May it be given an exchange?
    pub(super) fn is_usable(&self) -> bool {
        !self.is_draining() && !self.health.is_ejected()
    }

    pub(super) fn state(&self) -> EndpointState {
        match () {
            () if self.is_draining() => EndpointState::Draining,
            () if self.health.is_ejected() => EndpointState::Ejected,
            () if self.health.is_suspect() || self.health.is_on_trial() => EndpointState::Suspect,
            () => EndpointState::Up,
        }
    }

    /// So many exchanges or connections, by its share.
    pub(super) fn load(&self, count: usize) -> u64 {
        (count as u64).saturating_mul(self.unit)
    }

    /// The least that it counts as having been given, where the others have been given so much.
    pub(super) fn at_least(&self, others: u64) -> u64 {
        others.saturating_sub(CATCH_UP * self.unit.min(UNIT))
    }

    /// Its tier for what is there already; `fresh`: for what would have to be opened.
    pub(super) fn tier(&self, fresh: bool) -> Tier {
        match (fresh && self.is_saturated(), self.near) {
            _ if self.health.is_suspect() => Tier::Suspect,
            (true, true) => Tier::NearSaturated,
            (true, false) => Tier::FarSaturated,
            _ if self.ahead.is_some() => Tier::Slow,
            (false, true) => Tier::Near,
            (false, false) => Tier::Far,
        }
    }

    /// Room for one more, and not left alone after a failure.
    pub(super) fn may_open(&self, limit: usize) -> bool {
        let trial = self.health.is_on_trial() && self.connections() > 0;
        self.is_usable() && self.connections() < limit && self.health.retry_at().is_none() && !trial
    }
}
