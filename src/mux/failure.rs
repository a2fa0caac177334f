//! How an exchange breaks, and the three things that follow: may it be sent again, what is the web server told, what is
//! noted of the connection.

use super::{
    label::{Closed, Outcome, RetryReason},
    refuse::Status,
    reply::ReplyError,
};
use crate::wire::ProtocolStatus;
use std::{fmt, time::Duration};

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    WebServer,
    Application,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// End of stream where more was due.
    Closed,
    /// The other side broke the connection off: the operating system's words.
    Broken(String),
    /// Our side gave the connection up (a host or a network that is gone), and the other side may know nothing of it.
    Lost(String),
    /// The other side's kernel has acknowledged nothing of it for so long: a host that is gone, or cut off.
    Silent(Duration),
    /// The GET_VALUES in front of a request that waits for their answers have not been answered for so long, though they have
    /// arrived somewhere.
    Unanswered(Duration),
    /// Bytes that may not come.
    Protocol(String),
    /// The response ended inside its header block. Web servers tell that from a connection that ends.
    Headless,
    /// Nothing came in time: which timeout.
    Timeout(&'static str),
    /// The web server took the request back (ABORT_REQUEST).
    Aborted,
    /// It did not take its bytes, and others waited behind them.
    Stalled,
    /// The application would not take the request, and has not executed it.
    Rejected(ProtocolStatus),
    /// The worker is at work behind the response before, as the fence in front of the request has shown by its silence.
    Busy,
}

impl From<ReplyError> for Kind {
    fn from(error: ReplyError) -> Self {
        if error == ReplyError::Head { Self::Headless } else { Self::Protocol(error.to_string()) }
    }
}

/// How far the exchange had come. What follows from it is the table in [`Failure::retry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No byte of it has been sent.
    Unsent,
    /// Sent behind a GET_VALUES that has not been answered.
    Unproven,
    /// Sent, or being sent; the application may have begun.
    Sent,
    /// Bytes of the response have gone on.
    Responding,
}

/// An exchange that did not end as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub origin: Origin,
    pub kind: Kind,
    pub phase: Phase,
    /// Where exactly, in words; may be empty.
    pub position: String,
}

impl Failure {
    /// Whether the exchange may be sent again, on another connection (rule R12). `idempotent`: it may be executed twice.
    /// For one that may not, nothing that a connection does behind its first byte tells that it was not executed: whatever
    /// stands between may have passed it on. What the application itself says does.
    ///
    /// | failure | phase | sent again |
    /// |---|---|---|
    /// | the web server's | any | never |
    /// | a timeout, a stall | any | never: the script may be running |
    /// | bytes have gone on | responding | never |
    /// | any other, or rejected by the application | unsent | always: it was not executed |
    /// | rejected (OVERLOADED, CANT_MPX_CONN) | sent | always: it was not executed |
    /// | connection ended, GET_VALUES in front unanswered | unproven | if idempotent: a worker would have answered |
    /// | connection lost or silent, or protocol error, GET_VALUES in front unanswered | unproven | if idempotent |
    /// | connection ended, lost, silent or protocol error | sent | if idempotent |
    /// | the worker is busy behind the response before | unproven | if idempotent: it may be executed yet |
    pub fn retry(&self, idempotent: bool) -> Option<RetryReason> {
        match (self.origin, &self.kind, self.phase) {
            (Origin::WebServer, ..) | (_, Kind::Timeout(_) | Kind::Stalled, _) | (_, _, Phase::Responding) => None,
            (_, Kind::Busy, _) => idempotent.then_some(RetryReason::Busy),
            (_, _, Phase::Unsent) | (_, Kind::Rejected(_), _) => Some(RetryReason::Unproven),
            (_, Kind::Closed | Kind::Broken(_), Phase::Unproven) => idempotent.then_some(RetryReason::Unproven),
            (_, _, Phase::Unproven | Phase::Sent) => idempotent.then_some(RetryReason::Idempotent),
        }
    }

    /// Whether the web server could have met it at the application itself, without us between: the application cannot be
    /// reached, or it broke off. What only we would not wait for is not.
    pub fn is_the_applications_own(&self) -> bool {
        let ours = matches!(self.kind, Kind::Timeout("first_byte" | "between_bytes" | "exchange") | Kind::Stalled);
        self.origin == Origin::Application && !ours
    }

    /// The answer in the application's stead; `None` where nothing can be mended: the web server is gone, or has a part
    /// of a response already.
    pub fn status(&self) -> Option<Status> {
        match (self.origin, &self.kind, self.phase) {
            (Origin::WebServer, ..) | (_, _, Phase::Responding) => None,
            (_, Kind::Timeout(_) | Kind::Stalled | Kind::Silent(_) | Kind::Unanswered(_), _) => {
                Some(Status::GatewayTimeout)
            }
            (_, Kind::Rejected(_), _) => Some(Status::ServiceUnavailable),
            _ => Some(Status::BadGateway),
        }
    }

    pub fn outcome(&self) -> Outcome {
        match (self.origin, &self.kind) {
            (Origin::WebServer, _) => Outcome::Gone,
            (_, Kind::Timeout(_) | Kind::Stalled | Kind::Silent(_) | Kind::Unanswered(_)) => Outcome::Timeout,
            _ => Outcome::Broken,
        }
    }

    /// The client has left, or the web server, as either may at any time: nothing is wrong.
    pub fn is_leave(&self) -> bool {
        let kind = matches!(self.kind, Kind::Closed | Kind::Broken(_) | Kind::Lost(_) | Kind::Aborted);
        self.origin == Origin::WebServer && kind
    }

    /// What is noted of the connection.
    pub fn closed(&self) -> Closed {
        match (self.origin, &self.kind) {
            (Origin::WebServer, _) => Closed::Gone,
            (_, Kind::Timeout(_) | Kind::Stalled) => Closed::Timeout,
            (_, Kind::Silent(_) | Kind::Unanswered(_)) => Closed::Silent,
            (_, Kind::Busy) => Closed::Busy,
            (_, Kind::Protocol(_) | Kind::Headless) => Closed::Protocol,
            (_, Kind::Closed | Kind::Broken(_) | Kind::Lost(_) | Kind::Aborted | Kind::Rejected(_)) => Closed::Broken,
        }
    }

    /// The worker may still be at work on the request (rule R15).
    pub fn leaves_worker_busy(&self) -> bool {
        let busy =
            matches!(self.kind, Kind::Timeout(_) | Kind::Lost(_) | Kind::Silent(_) | Kind::Unanswered(_) | Kind::Busy);
        self.origin == Origin::WebServer || busy
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.origin {
            Origin::WebServer => "web server",
            Origin::Application => "application",
        };
        match &self.kind {
            Kind::Closed => write!(f, "{who} closed the connection")?,
            Kind::Broken(error) => write!(f, "connection of the {who} broke: {error}")?,
            Kind::Lost(error) => write!(f, "connection of the {who} was lost: {error}")?,
            Kind::Silent(lasted) => write!(f, "host of the {who} has acknowledged nothing for {lasted:.1?}")?,
            Kind::Unanswered(lasted) => {
                write!(f, "{who} has not answered GET_VALUES for {lasted:.1?} (timeouts.connect)")?
            }
            Kind::Protocol(error) => write!(f, "{who} broke the protocol: {error}")?,
            Kind::Headless => write!(f, "{who} broke the protocol: {}", ReplyError::Head)?,
            Kind::Aborted => write!(f, "{who} aborted the request")?,
            Kind::Stalled => write!(f, "{who} held up other exchanges for too long (connections.stall_timeout)")?,
            Kind::Busy => write!(f, "worker of the {who} is busy behind the response before")?,
            Kind::Rejected(ProtocolStatus::CantMpxConn) => write!(f, "{who} takes one request at a time")?,
            Kind::Rejected(_) => write!(f, "{who} is overloaded")?,
            Kind::Timeout(which) => write!(f, "{who} was too slow (timeouts.{which})")?,
        }
        if !self.position.is_empty() {
            write!(f, " {}", self.position)?;
        }
        match self.phase {
            _ if matches!(self.kind, Kind::Rejected(_)) => f.write_str("; the request was not executed"),
            Phase::Unsent => f.write_str("; the request was not executed"),
            Phase::Unproven | Phase::Sent => f.write_str("; the request may have been executed"),
            Phase::Responding => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(origin: Origin, kind: Kind, phase: Phase) -> Failure {
        Failure { origin, kind, phase, position: String::new() }
    }

    /// Each row of the table above: failure, phase, sent again if idempotent, sent again otherwise.
    #[test]
    fn the_retry_table_holds() {
        use Phase::{Responding, Sent, Unproven, Unsent};
        let (web, app) = (Origin::WebServer, Origin::Application);
        let (idempotent, unproven) = (Some(RetryReason::Idempotent), Some(RetryReason::Unproven));
        let busy = Some(RetryReason::Busy);
        let reset = || Kind::Broken("reset".into());
        let lost = || Kind::Lost("timed out".into());
        let garbage = || Kind::Protocol("garbage".into());
        let rejected = || Kind::Rejected(ProtocolStatus::Overloaded);
        for (origin, kind, phase, may_twice, only_once) in [
            (app, Kind::Closed, Unsent, unproven, unproven),
            (app, lost(), Unsent, unproven, unproven),
            (app, Kind::Unanswered(Duration::from_secs(1)), Unsent, unproven, unproven),
            (app, rejected(), Sent, unproven, unproven),
            (app, rejected(), Responding, None, None),
            (app, Kind::Stalled, Sent, None, None),
            (web, Kind::Stalled, Responding, None, None),
            (web, Kind::Closed, Unproven, None, None),
            (web, Kind::Closed, Sent, None, None),
            (web, Kind::Timeout("write"), Responding, None, None),
            (app, Kind::Timeout("first_byte"), Unproven, None, None),
            (app, Kind::Timeout("first_byte"), Sent, None, None),
            (app, Kind::Closed, Responding, None, None),
            (app, reset(), Responding, None, None),
            (app, garbage(), Responding, None, None),
            (app, Kind::Closed, Unproven, unproven, None),
            (app, reset(), Unproven, unproven, None),
            (app, garbage(), Unproven, idempotent, None),
            (app, lost(), Unproven, idempotent, None),
            (app, lost(), Sent, idempotent, None),
            (app, lost(), Responding, None, None),
            (app, Kind::Closed, Sent, idempotent, None),
            (app, reset(), Sent, idempotent, None),
            (app, garbage(), Sent, idempotent, None),
            (app, Kind::Busy, Unproven, busy, None),
        ] {
            let failure = failure(origin, kind, phase);
            assert_eq!(failure.retry(true), may_twice, "{failure:?}");
            assert_eq!(failure.retry(false), only_once, "{failure:?}");
        }
    }

    #[test]
    fn what_has_begun_cannot_be_answered_otherwise() {
        let broken = failure(Origin::Application, Kind::Closed, Phase::Responding);
        assert_eq!((broken.status(), broken.outcome(), broken.closed()), (None, Outcome::Broken, Closed::Broken));
        let late = failure(Origin::Application, Kind::Timeout("first_byte"), Phase::Sent);
        assert_eq!((late.status(), late.outcome()), (Some(Status::GatewayTimeout), Outcome::Timeout));
        let dead = failure(Origin::Application, Kind::Closed, Phase::Sent);
        assert_eq!(dead.status(), Some(Status::BadGateway));
    }
}
