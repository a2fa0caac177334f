//! What was seen of an application.

use std::time::Duration;

use fcgimux::mux::{
    channel::Values,
    scoreboard::{Manager, Scoreboard},
};

/// Slower than this, an answer that needs no work was held up by something: a busy host, a lost packet.
pub(super) const STALL: Duration = Duration::from_millis(10);

/// Everything, as far as it could be seen.
#[derive(Debug)]
pub(super) struct Findings {
    /// Where it was looked.
    pub(super) address: String,
    /// The other addresses of the name.
    pub(super) others: Vec<String>,
    pub(super) connect: Duration,
    pub(super) values: Announced,
    /// How long the first answer took: a worker had to accept first.
    pub(super) proof: Duration,
    /// The connection stays open behind GET_VALUES.
    pub(super) keeps_behind_values: bool,
    pub(super) round_trips: Option<RoundTrips>,
    /// In the order in which they were made.
    pub(super) requests: Vec<Asked>,
    /// Why the last one brought no answer.
    pub(super) request_failed: Option<String>,
    /// The connection stays open behind a request; `None`: not seen.
    pub(super) keeps_behind_request: Option<bool>,
    pub(super) status: Result<Status, String>,
}

/// What an application says of itself.
#[derive(Debug, Default)]
pub(super) struct Announced {
    pub(super) values: Values,
    /// Names and values as they came.
    pub(super) pairs: Vec<(String, String)>,
}

/// Times of GET_VALUES and its answer on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RoundTrips {
    pub(super) count: usize,
    pub(super) least: Duration,
    pub(super) median: Duration,
    pub(super) most: Duration,
    /// Longer than [`STALL`].
    pub(super) stalls: usize,
}

/// A request that was answered.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) script: String,
    pub(super) status: u16,
    pub(super) took: Duration,
    /// X-Powered-By.
    pub(super) powered_by: Option<String>,
}

/// php-fpm's status page.
#[derive(Debug)]
pub(super) struct Status {
    /// Where it was read.
    pub(super) address: String,
    pub(super) path: String,
    pub(super) board: Scoreboard,
}

/// What kind of application it seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nature {
    PhpFpm,
    /// Says all that can be said, and that it takes many requests at once on a connection; or does the latter with PHP
    /// behind it.
    Multiplexer,
    Go,
    Libfcgi,
    Unknown,
}

impl RoundTrips {
    /// Of at least one.
    pub(super) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort();
        let stalls = times.iter().filter(|time| **time > STALL).count();
        let (least, most) = (*times.first()?, *times.last()?);
        Some(Self { count: times.len(), least, median: times[times.len() / 2], most, stalls })
    }
}

impl Findings {
    /// PHP's version, where it shows.
    pub(super) fn php(&self) -> Option<&str> {
        let powered = self.requests.iter().filter_map(|asked| asked.powered_by.as_deref());
        powered.filter_map(|by| by.strip_prefix("PHP/")).next()
    }

    /// Whether PHP reads what a script leaves unread of a body, instead of taking it for the next request (fact 10.5).
    /// `None`: the version does not show, or is one of which that is not known.
    pub(super) fn drains_bodies(&self) -> Option<bool> {
        // A distribution puts its own behind: `8.2.36-1+deb`.
        let numbers = self.php()?.split(|character: char| !character.is_ascii_digit());
        let numbers: Vec<u32> = numbers.map_while(|number| number.parse().ok()).take(3).collect();
        match numbers[..] {
            [8, 2, patch] => Some(patch >= 36),
            [8, 4, patch] => Some(patch >= 28),
            [..=7, ..] | [8, 0 | 1, _] | [8, 5, ..=7] => Some(false),
            _ => None,
        }
    }

    /// By what it announces, php-fpm says FCGI_MPXS_CONNS=0 and nothing else (fact 1.1); the others: docs/applications.md,
    /// G1.
    pub(super) fn nature(&self) -> Nature {
        let is_php = self.php().is_some() || self.status.is_ok();
        let Values { multiplexes, connections, requests } = self.values.values;
        match (is_php, multiplexes, connections, requests) {
            (true, true, ..) | (false, true, Some(_), Some(_)) => Nature::Multiplexer,
            (true, false, ..) => Nature::PhpFpm,
            (false, true, None, None) => Nature::Go,
            (false, false, Some(1), Some(1)) => Nature::Libfcgi,
            (false, false, None, None) if self.values.pairs.len() == 1 => Nature::PhpFpm,
            _ => Nature::Unknown,
        }
    }

    /// Workers that there can be, where that is known: with `pm = static` all run.
    pub(super) fn max_children(&self) -> Option<u64> {
        let board = &self.status.as_ref().ok()?.board;
        (board.manager == Manager::Static).then_some(board.processes.len() as u64)
    }
}

impl Nature {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::PhpFpm => "php-fpm",
            Self::Multiplexer => "something that multiplexes, such as fcgimux",
            Self::Go => "announces what Go's net/http/fcgi does",
            Self::Libfcgi => "announces what libfcgi does (C, perl, fcgiwrap)",
            Self::Unknown => "a FastCGI application of unknown kind",
        }
    }

    /// The key `application` of a pool.
    pub(super) const fn dialect(self) -> &'static str {
        match self {
            Self::PhpFpm => "php-fpm",
            _ => "generic",
        }
    }
}
