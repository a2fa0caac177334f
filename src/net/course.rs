//! How one exchange goes, phase by phase, for its line in the log.

use super::pool::Facts;
use crate::mux::head;
use std::time::{Duration, Instant};

/// Noted of every exchange, whether it gets a line or not: moments that are known anyway.
pub(super) struct Course {
    arrived: Instant,
    /// Times that it was sent again.
    pub(super) retries: u32,
    /// How long the attempts before the last one took, from their lease on.
    lost: Duration,
    /// Of the last attempt; `None`: it has not come so far.
    leased: Option<Instant>,
    sent: Option<Instant>,
    first_byte: Option<Instant>,
    /// Bytes of its response, as records, that have gone on.
    pub(super) response: u64,
    /// Its connection, once it is over.
    pub(super) facts: Option<Facts>,
    /// Whether the response's status is looked for.
    is_read: bool,
    /// What the response says, or an answer of our own.
    pub(super) status: Option<u16>,
}

/// Where the time went: the parts together are the whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Phases {
    pub(super) whole: Duration,
    /// Until the last attempt had its connection, without what attempts before it took.
    pub(super) queued: Duration,
    pub(super) lost: Option<Duration>,
    /// Until the request had gone out. Not of a request whose body goes on as it comes.
    pub(super) sent: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    /// From there to the end, also one before its time.
    pub(super) end: Option<Duration>,
}

impl Course {
    /// `is_read`: the status of the response will be asked for.
    pub(super) fn new(arrived: Instant, is_read: bool) -> Self {
        Self {
            arrived,
            retries: 0,
            lost: Duration::ZERO,
            leased: None,
            sent: None,
            first_byte: None,
            response: 0,
            facts: None,
            is_read,
            status: None,
        }
    }

    /// It has a connection.
    pub(super) fn handle_lease(&mut self, now: Instant) {
        self.leased = Some(now);
    }

    /// The whole request has gone out.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        self.sent = Some(now);
    }

    /// These records of the response go on, the header block in one piece. `now`: when the last of them came.
    pub(super) fn handle_response(&mut self, records: &[u8], now: Instant) {
        if self.first_byte.is_none() {
            self.first_byte = Some(now);
            if self.is_read {
                self.status = head::status(records);
            }
        }
        self.response += records.len() as u64;
    }

    /// It will be sent again.
    pub(super) fn handle_retry(&mut self, now: Instant) {
        self.retries += 1;
        self.lost += self.leased.take().map_or(Duration::ZERO, |leased| now.saturating_duration_since(leased));
        (self.sent, self.first_byte, self.response, self.status) = (None, None, 0, None);
    }

    pub(super) fn arrived(&self) -> Instant {
        self.arrived
    }

    pub(super) fn phases(&self, now: Instant) -> Phases {
        let whole = now.saturating_duration_since(self.arrived);
        let mut at = self.leased.unwrap_or(now);
        let queued = at.saturating_duration_since(self.arrived).saturating_sub(self.lost);
        // An application may answer before it has been sent all: then nothing is left of that phase.
        let mut until = |then: Option<Instant>| {
            then.map(|then| {
                let from = at;
                at = then.max(from);
                at - from
            })
        };
        let (sent, first_byte) = (until(self.sent), until(self.first_byte));
        let end = until(self.leased.map(|_| now));
        Phases { whole, queued, lost: (self.retries > 0).then_some(self.lost), sent, first_byte, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn assert_adds_up(phases: &Phases) {
        let parts = [phases.lost, phases.sent, phases.first_byte, phases.end].into_iter().flatten();
        assert_eq!(phases.queued + parts.sum::<Duration>(), phases.whole, "{phases:?}");
    }

    #[test]
    fn the_phases_of_an_exchange_follow_each_other() {
        let start = clock::now();
        let at = |second: u32| start + second * SECOND;
        let mut course = Course::new(start, true);
        assert_adds_up(&course.phases(at(1)));
        assert_eq!(course.phases(at(1)).queued, SECOND);
        course.handle_lease(at(1));
        course.handle_sent(at(3));
        course.handle_response(b"", at(6));
        let phases = course.phases(at(10));
        let is = [phases.sent, phases.first_byte, phases.end].map(|phase| phase.map(|phase| phase.as_secs()));
        assert_eq!((phases.queued, is), (SECOND, [Some(2), Some(3), Some(4)]));
        assert_adds_up(&phases);
    }

    #[test]
    fn an_attempt_that_came_to_nothing_is_neither_waiting_nor_work() {
        let start = clock::now();
        let at = |second: u32| start + second * SECOND;
        let mut course = Course::new(start, true);
        course.handle_lease(at(1));
        course.handle_sent(at(2));
        course.handle_retry(at(5));
        assert_eq!(course.phases(at(7)).queued, 3 * SECOND);
        course.handle_lease(at(8));
        let phases = course.phases(at(9));
        assert_eq!((phases.queued, phases.lost, phases.sent), (4 * SECOND, Some(4 * SECOND), None));
        assert_adds_up(&phases);
    }

    #[test]
    fn an_answer_before_the_end_of_the_request_adds_up_as_well() {
        let start = clock::now();
        let at = |second: u32| start + second * SECOND;
        let mut course = Course::new(start, true);
        course.handle_lease(at(1));
        course.handle_response(b"", at(2));
        course.handle_sent(at(4));
        assert_eq!(course.phases(at(5)).first_byte, Some(Duration::ZERO));
        assert_adds_up(&course.phases(at(5)));
    }
}
