//! Why there is no answer, what to do about it, and the exit code that tells scripts.

use std::{fmt, io};

/// How the process ends when there is not even an event loop; also where nothing better is known.
pub(crate) const NO_RUNTIME: u8 = 1;

/// What went wrong. The numbers are those that curl has for the same, where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The name has no address.
    Name,
    /// Nobody takes the connection.
    Connect,
    /// Not within the time that was given.
    Late,
    /// What came is not FastCGI, or not what may come there.
    Strange,
    /// Closed before a byte of the answer.
    Closed,
    /// Closed in the middle of the answer.
    Broken,
    /// END_REQUEST says that the request was not served.
    Refused,
    /// What came belongs to another request.
    MixedUp,
    /// Our own output has nowhere to go.
    Output,
}

impl Kind {
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Name => 6,
            Self::Connect => 7,
            Self::Strange | Self::MixedUp => 8,
            Self::Output => 23,
            Self::Late => 28,
            Self::Closed => 52,
            Self::Broken => 56,
            Self::Refused => 75,
        }
    }

    /// For reports.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Connect => "connect",
            Self::Late => "timeout",
            Self::Strange => "not_fastcgi",
            Self::Closed => "closed",
            Self::Broken => "broken_off",
            Self::Refused => "refused",
            Self::MixedUp => "mixed_up",
            Self::Output => "output",
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::Name => "check the name, and the DNS of this host",
            Self::Connect => "is the application running, and does it listen there?",
            Self::Late => {
                "are all its workers busy or held by kept connections? A worker that is free answers in a millisecond; \
                 a server of another protocol may never answer"
            }
            Self::Strange => "is it a FastCGI application that listens there, and not a web server?",
            Self::Closed => {
                "listen.allowed_clients of php-fpm must name this host; or its worker was ended: see its log"
            }
            Self::Broken => "its worker was ended, or ran out of time: see its log",
            Self::Refused => "it is the application that says so: try again, or give it more room",
            Self::MixedUp => {
                "nothing that comes on this connection can be trusted; report it to whoever made the application"
            }
            Self::Output => "whoever reads it is gone, or there is no room for it",
        }
    }
}

/// Says what, where and what to do.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    what: String,
    advice: &'static str,
}

impl Failure {
    pub(crate) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), advice: kind.advice() }
    }

    /// Something else than usual is to be done about it.
    pub(super) fn with_advice(self, advice: &'static str) -> Self {
        Self { advice, ..self }
    }

    /// Of a connection that could not be opened.
    pub(super) fn connect(address: &dyn fmt::Display, error: &io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::NotFound => "there is no such socket: is the application running, and is this its path?",
            io::ErrorKind::PermissionDenied => "the socket's mode and group decide who may connect: run as one of them",
            io::ErrorKind::WouldBlock => {
                "its queue is full: all workers are busy, and more wait than its backlog holds"
            }
            io::ErrorKind::AddrNotAvailable => {
                "this host has no local port left: too many connections in TIME_WAIT (ss -s)"
            }
            _ => Kind::Connect.advice(),
        };
        let what = match error.kind() {
            io::ErrorKind::WouldBlock => format!("{address}: cannot connect"),
            _ => format!("{address}: cannot connect: {}", words(error)),
        };
        Self { kind: Kind::Connect, what, advice }
    }

    /// Without what to do.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn advice(&self) -> &'static str {
        self.advice
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.advice)
    }
}

/// Without the number: `connection refused`.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_ascii_lowercase().to_string() + letters.as_str()).unwrap_or_default()
}
