//! Whether an endpoint is used, by what connections and exchanges show of it.
//!
//! ```text
//!       a connect or a handshake fails            3 in a row, for 1 s, or silent as well
//!  up ────────────────────────────────> suspect ───────────────────────────────────────> ejected
//!   ^ <───────────── any answer ───────────┘                                                │
//!   │                                                                    pause, tried again │
//!   ├────────────────────────────────── it answers <────────────────────────────────────────┤
//!   │        a good end                        5 exchanges broken in a row                  │
//!   └─────────────────── on trial, one at a time <── pause ── ejected <── up                │
//! ```
//! To send a worker something in order to see whether it is well costs nobody but the one who looks: a connect, a fence
//! and the outcome of real exchanges say it all.

use std::time::{Duration, Instant};

/// Failures in a row after which an endpoint is ejected.
const FAILURES: u32 = 3;
/// ... or the time that they have lasted.
const FAILING_FOR: Duration = Duration::from_secs(1);
/// Established connections whose peer acknowledged nothing, in a row. One may be a fault of its own.
const SILENCES: u32 = 2;
/// Exchanges in a row that the application broke off or did not answer in time, with none between that ended well.
const BROKEN: u32 = 5;
/// Pause after the first failure; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The same, after exchanges that broke: each trial may cost a visitor his answer.
const FIRST_TRIAL: Duration = Duration::from_secs(1);
const LONGEST_TRIAL: Duration = Duration::from_secs(4);
/// The longest pause while most of the pool's endpoints are ejected: it is likelier that all come back at once.
pub(super) const PANIC_PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// Failing, but not for long: used where no other has room.
    Suspect,
    /// It cannot be reached.
    Unreachable,
    /// It can, and breaks what it is sent.
    Broken,
    /// The pause after that is over: one exchange at a time.
    Trial,
}

/// How the pause before the next try is drawn: each process has its own, so that they do not all come at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    /// 0.0 to 1.0: the part of the last fifth that is left out.
    pub(super) early: f64,
    pub(super) longest: Duration,
}

#[derive(Debug)]
pub(super) struct Health {
    state: State,
    /// Failures since the last answer, and when they began.
    failures: u32,
    failing_since: Option<Instant>,
    /// Silences since the last answer.
    silences: u32,
    /// Exchanges broken since the last that ended well.
    broken: u32,
    /// Trials in a row that came to nothing.
    trials: u32,
    /// Nothing is opened before this.
    retry_at: Option<Instant>,
    ejections: u64,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            state: State::Up,
            failures: 0,
            failing_since: None,
            silences: 0,
            broken: 0,
            trials: 0,
            retry_at: None,
            ejections: 0,
        }
    }

    // ---------------------------------------------------------------- commands

    /// It answered a connect, a handshake or a fence. Returns whether it was unreachable before.
    pub(super) fn answered(&mut self) -> bool {
        (self.failures, self.failing_since, self.silences) = (0, None, 0);
        let back = self.state == State::Unreachable;
        if matches!(self.state, State::Suspect | State::Unreachable) {
            (self.state, self.retry_at) = (State::Up, None);
        }
        back
    }

    /// A connect or a handshake failed. `working`: other connections to it are in use. Returns when it may be tried again.
    pub(super) fn failed(&mut self, working: bool, pause: Pause, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        let long = self.failures >= FAILURES || now.saturating_duration_since(since) >= FAILING_FOR;
        // Behind a silence with no answer since there is nothing to wait for: the two do not come from one connection.
        self.doubt((long && !working) || self.silences > 0);
        self.pause(FIRST_PAUSE, self.failures - 1, LONGEST_PAUSE, pause, now)
    }

    /// The peer of an established connection does not acknowledge what it was sent.
    pub(super) fn silent(&mut self, pause: Pause, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        self.silences += 1;
        self.doubt(self.silences >= SILENCES);
        self.pause(FIRST_PAUSE, self.silences - 1, LONGEST_PAUSE, pause, now)
    }

    /// An exchange ended well. Returns whether that ends a trial.
    pub(super) fn ended_well(&mut self) -> bool {
        (self.broken, self.trials) = (0, 0);
        let back = matches!(self.state, State::Trial | State::Broken);
        if back {
            (self.state, self.retry_at) = (State::Up, None);
        }
        back
    }

    /// The application broke an exchange off, or did not answer in time. `may_eject`: enough others are left. Returns
    /// when it may be tried again, if it is ejected by this.
    pub(super) fn broke(&mut self, may_eject: bool, pause: Pause, now: Instant) -> Option<Instant> {
        self.broken = self.broken.saturating_add(1);
        let failed = match self.state {
            State::Trial => true,
            State::Up | State::Suspect => self.broken >= BROKEN,
            State::Unreachable | State::Broken => false,
        };
        if !failed || !may_eject {
            return None;
        }
        self.ejections += u64::from(self.state != State::Trial);
        self.state = State::Broken;
        let at = self.pause(FIRST_TRIAL, self.trials, LONGEST_TRIAL, pause, now);
        self.trials = self.trials.saturating_add(1);
        Some(at)
    }

    /// Nothing is wrong with it, but it is to be left alone for a while.
    pub(super) fn rest(&mut self, doublings: u32, pause: Pause, now: Instant) -> Instant {
        self.pause(FIRST_PAUSE, doublings, LONGEST_PAUSE, pause, now)
    }

    /// A worker has become free there: what was left alone only because all were busy need not be any longer.
    pub(super) fn worker_freed(&mut self) {
        if self.state == State::Up {
            self.retry_at = None;
        }
    }

    /// The pause is over. Returns whether it should be tried even if nobody waits: nothing else would show that it is well.
    pub(super) fn pause_over(&mut self, now: Instant) -> Option<bool> {
        self.retry_at.take_if(|at| *at <= now)?;
        if self.state == State::Broken {
            self.state = State::Trial;
        }
        Some(matches!(self.state, State::Unreachable | State::Suspect))
    }

    /// Too many are left alone for how their exchanges ended: this one is tried at once.
    pub(super) fn relent(&mut self) {
        if self.state == State::Broken {
            (self.state, self.retry_at) = (State::Trial, None);
        }
    }

    // ---------------------------------------------------------------- getters

    /// Not to be used at all.
    pub(super) fn is_ejected(&self) -> bool {
        matches!(self.state, State::Unreachable | State::Broken)
    }

    /// For how its exchanges ended.
    pub(super) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.state == State::Suspect
    }

    /// It gets one exchange at a time.
    pub(super) fn is_on_trial(&self) -> bool {
        self.state == State::Trial
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    pub(super) fn ejections(&self) -> u64 {
        self.ejections
    }

    // ---------------------------------------------------------------- private

    fn doubt(&mut self, eject: bool) {
        match self.state {
            State::Unreachable | State::Broken => {}
            _ if eject => {
                self.state = State::Unreachable;
                self.ejections += 1;
            }
            State::Trial => {}
            _ => self.state = State::Suspect,
        }
    }

    fn pause(&mut self, first: Duration, doublings: u32, longest: Duration, pause: Pause, now: Instant) -> Instant {
        let whole = first.saturating_mul(1 << doublings.min(10)).min(longest).min(pause.longest);
        let at = now + whole.mul_f64(1.0 - 0.2 * pause.early.clamp(0.0, 1.0));
        self.retry_at = Some(at);
        at
    }
}
