//! One address of an application: how many connections it has, and whether it answers.

use super::{Handshake, Learned, PATIENCE, SlotKey};
use crate::{
    config::Multiplex,
    mux::{channel::Values, label::ConnectionState},
};
use std::{
    cmp::Reverse,
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// Failures in a row after which an endpoint is down.
const FAILURES: u32 = 3;
/// ... or the time that they have lasted.
const FAILING_FOR: Duration = Duration::from_secs(1);
/// Pause after the first failure; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Prompt fences in a row after which the next request may go before the fence is answered.
const PROMPT_FENCES: u32 = 100;
/// One late fence, and for so long every connection proves itself before it is used again: a visitor has waited for work
/// that another's request had left behind (fact 11.1).
const LATE_FOR: Duration = Duration::from_secs(600);
/// An endpoint that did not keep connections is asked again after this: PHP may have been upgraded.
const RELEARN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Up,
    /// Failing, but not for long: waiters go on waiting.
    Suspect,
    Down,
}

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

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) name: String,
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
    pub(super) rank: Option<(usize, Reverse<Instant>)>,
    counts: [usize; ConnectionState::ALL.len()],
    manners: Manners,
    /// Failures since the last success, and when they began.
    failures: u32,
    failing_since: Option<Instant>,
    /// Nothing is opened before this.
    retry_at: Option<Instant>,
    health: Health,
    ejections: u64,
    /// Fences in a row that were answered at once.
    prompt: u32,
    /// When one last was not.
    late_at: Option<Instant>,
}

impl Endpoint {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            idle: vec![],
            ghosts: VecDeque::new(),
            gave_back: None,
            rooms: BTreeSet::new(),
            in_flight: 0,
            talents: Talents::Unknown,
            rank: None,
            counts: [0; ConnectionState::ALL.len()],
            manners: Manners::Unknown,
            failures: 0,
            failing_since: None,
            retry_at: None,
            health: Health::Up,
            ejections: 0,
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
    }

    /// A connection was closed whose worker may be at work until `forget_at`, for all that is known.
    pub(super) fn leave_ghost(&mut self, forget_at: Instant, now: Instant) {
        self.ghosts.retain(|at| *at > now);
        self.ghosts.push_back(forget_at);
    }

    /// A new connection takes such a place: its handshake finds out.
    pub(super) fn replace_ghost(&mut self, now: Instant) {
        self.ghosts.retain(|at| *at > now);
        self.ghosts.pop_front();
    }

    /// It answered.
    pub(super) fn recovered(&mut self) {
        (self.failures, self.failing_since, self.retry_at, self.health) = (0, None, None, Health::Up);
    }

    /// It did not; returns when it may be tried again.
    pub(super) fn failed(&mut self, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        // Whatever comes back in its place may be another application.
        self.talents = Talents::Unknown;
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(10)).min(LONGEST_PAUSE);
        let retry_at = now + pause;
        self.retry_at = Some(retry_at);
        let working = self.count(ConnectionState::Idle) + self.at_work() > 0;
        let down = !working && (self.failures >= FAILURES || now.saturating_duration_since(since) >= FAILING_FOR);
        if down && self.health != Health::Down {
            self.ejections += 1;
        }
        if self.health != Health::Down {
            self.health = if down { Health::Down } else { Health::Suspect };
        }
        retry_at
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

    /// The pause after a failure is over. Returns whether it should be tried even if nobody waits.
    pub(super) fn pause_over(&mut self, now: Instant) -> bool {
        self.retry_at.take_if(|at| *at <= now).is_some() && self.health == Health::Down
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

    /// Workers that are, or may be, held by us.
    pub(super) fn occupied(&self, now: Instant) -> usize {
        self.connections() + self.ghosts(now)
    }

    /// Places of workers that may still be busy.
    fn ghosts(&self, now: Instant) -> usize {
        self.ghosts.iter().filter(|at| **at > now).count()
    }

    /// By state; places of workers that may still be busy count as settling.
    pub(super) fn counts_with_ghosts(&self, now: Instant) -> [usize; ConnectionState::ALL.len()] {
        let mut counts = self.counts;
        counts[ConnectionState::Settling as usize] += self.ghosts(now);
        counts
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    pub(super) fn health(&self) -> Health {
        self.health
    }

    pub(super) fn ejections(&self) -> u64 {
        self.ejections
    }

    /// Room for one more, and not left alone after a failure.
    pub(super) fn may_open(&self, limit: usize) -> bool {
        self.connections() < limit && self.retry_at.is_none() && self.health != Health::Down
    }
}
