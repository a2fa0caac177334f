//! The time for which one exchange holds up the others of its connection.

use std::time::{Duration, Instant};

/// Stalls shorter than this are how a fast response meets a reader that is not as fast; they are not held against it.
const SHORT: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Stall {
    id: u16,
    since: Instant,
    /// Since when somebody else has waited for it.
    held_up_since: Instant,
}

/// How much of its time a slow exchange has kept others waiting.
#[derive(Debug)]
struct Debt {
    id: u16,
    owed: Duration,
    at: Instant,
}

/// The stall that goes on, and what is remembered of those that are over.
#[derive(Debug)]
pub(super) struct Stalls {
    /// An exchange may keep others waiting for so long.
    timeout: Duration,
    now: Option<Stall>,
    debt: Option<Debt>,
    /// How long those were that are over, for the metrics.
    over: Vec<Duration>,
}

impl Stalls {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, now: None, debt: None, over: vec![] }
    }

    /// The connection waits for this exchange from now on, if it does not wait already.
    pub(super) fn begin(&mut self, id: u16, now: Instant) {
        self.now.get_or_insert(Stall { id, since: now, held_up_since: now });
    }

    /// The first one has come that is held up.
    pub(super) fn joined(&mut self, now: Instant) {
        if let Some(stall) = &mut self.now {
            stall.held_up_since = now;
        }
    }

    /// This exchange has made room. Returns whether the connection waited for it.
    pub(super) fn end(&mut self, id: u16, held_up_others: bool, now: Instant) -> bool {
        let Some(stall) = self.now.take_if(|stall| stall.id == id) else { return false };
        if !held_up_others {
            return true;
        }
        let lasted = now.saturating_duration_since(stall.held_up_since);
        self.over.push(lasted);
        if lasted >= SHORT {
            self.debt = Some(Debt { id, owed: self.owed(&stall) + lasted, at: now });
        }
        true
    }

    /// The connection is over.
    pub(super) fn forget(&mut self) {
        self.now = None;
    }

    /// When the exchange that the connection waits for has held up others for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stall = self.now.as_ref()?;
        Some(stall.held_up_since + self.timeout.saturating_sub(self.owed(stall)))
    }

    /// What the exchange owed at the start of this stall: time in which others could go on has paid off some of it.
    fn owed(&self, stall: &Stall) -> Duration {
        let debt = self.debt.as_ref().filter(|debt| debt.id == stall.id);
        debt.map_or(Duration::ZERO, |debt| debt.owed.saturating_sub(stall.since.saturating_duration_since(debt.at)))
    }

    /// The exchange that the connection waits for.
    pub(super) fn id(&self) -> Option<u16> {
        self.now.as_ref().map(|stall| stall.id)
    }

    pub(super) fn since(&self) -> Option<Instant> {
        self.now.as_ref().map(|stall| stall.since)
    }

    /// How long one was that is over, each one once.
    pub(super) fn poll_over(&mut self) -> Option<Duration> {
        self.over.pop()
    }
}
