//! What php-fpm says of its workers: the page of `pm.status_path` with the query [`QUERY`].

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use std::{fmt, time::Duration};

/// The page as this file reads it.
pub const QUERY: &str = "json&full";
/// Bytes of the largest page: several thousand workers with the longest names that php-fpm keeps.
pub const PAGE_AT_MOST: usize = 4 * 1024 * 1024;
/// Workers of one pool; php-fpm itself sets no limit, the memory of its host does.
const PROCESSES_AT_MOST: usize = 10_000;

/// One look at a pool of php-fpm. Fields that a version does not have are zero.
///
/// The states of the workers are those of the moment. The listen queue is counted once a second (fact 15.5); and the sums
/// (`idle processes`, `active processes`, `total processes`) are wrong with kept connections (fact 2.4): they are for
/// messages only.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Scoreboard {
    pub pool: String,
    #[serde(rename = "process manager", default)]
    pub manager: Manager,
    /// When the pool was started or reloaded, in seconds since 1970.
    #[serde(rename = "start time", default, deserialize_with = "count")]
    pub start_time: u64,
    /// The same, in seconds ago.
    #[serde(rename = "start since", default, deserialize_with = "count")]
    pub start_since: u64,
    /// Times that a worker began to wait for a request, on kept connections too (fact 15.4).
    #[serde(rename = "accepted conn", default, deserialize_with = "count")]
    pub accepted: u64,
    #[serde(rename = "listen queue", default, deserialize_with = "count")]
    listen_queue: u64,
    #[serde(rename = "max listen queue", default, deserialize_with = "count")]
    pub max_listen_queue: u64,
    /// Places in the listen queue; 0 where php-fpm cannot see it.
    #[serde(rename = "listen queue len", default, deserialize_with = "count")]
    pub listen_queue_len: u64,
    #[serde(rename = "idle processes", default, deserialize_with = "count")]
    pub idle_sum: u64,
    #[serde(rename = "active processes", default, deserialize_with = "count")]
    pub active_sum: u64,
    #[serde(rename = "total processes", default, deserialize_with = "count")]
    pub total_sum: u64,
    #[serde(rename = "max active processes", default, deserialize_with = "count")]
    pub max_active_sum: u64,
    /// How often all of `pm.max_children` ran and more were wanted; never with `pm = static`.
    #[serde(rename = "max children reached", default, deserialize_with = "count")]
    pub max_children_reached: u64,
    #[serde(rename = "slow requests", default, deserialize_with = "count")]
    pub slow_requests: u64,
    /// The workers that run.
    #[serde(deserialize_with = "processes")]
    pub processes: Vec<Process>,
}

/// `pm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    Static,
    Dynamic,
    Ondemand,
    #[default]
    #[serde(other)]
    Unknown,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Process {
    #[serde(default, deserialize_with = "count")]
    pub pid: u64,
    #[serde(default)]
    pub state: State,
    /// Times that it began to wait for a request.
    #[serde(default, deserialize_with = "count")]
    pub requests: u64,
    /// Of the request that runs, or of the last one; for [`State::ReadingHeaders`] the time that it has waited.
    #[serde(rename = "request duration", default, deserialize_with = "microseconds")]
    pub duration: Duration,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum State {
    /// It waits for a connection, or for the first byte on one (fact 2.3).
    Idle,
    /// It waits for a request on a connection that somebody keeps.
    #[serde(rename = "Reading headers")]
    ReadingHeaders,
    #[serde(rename = "Getting request informations")]
    Preparing,
    Running,
    Ending,
    /// It waits for the other side to close the connection (fact 2.5).
    Finishing,
    #[default]
    #[serde(other)]
    Other,
}

/// The page is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ScoreboardError {
    #[error("the page is empty")]
    Empty,
    #[error("not php-fpm's status as JSON: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Scoreboard {
    /// Reads the body of the page.
    ///
    /// # Errors
    /// It is not JSON, or not that of php-fpm with all its workers.
    pub fn parse(page: &[u8]) -> Result<Self, ScoreboardError> {
        if page.is_empty() {
            return Err(ScoreboardError::Empty);
        }
        Ok(serde_json::from_slice(page)?)
    }

    /// Connections in the listen queue, given-up ones included; `None` where php-fpm cannot see it, as with a Unix socket
    /// (fact 13.4).
    pub fn queue(&self) -> Option<u64> {
        (self.listen_queue_len > 0).then_some(self.listen_queue)
    }

    /// Workers that wait for a connection.
    pub fn idle(&self) -> usize {
        self.count(State::Idle)
    }

    /// Workers that somebody keeps for a next request: idle connections, ours included.
    pub fn holding(&self) -> usize {
        self.count(State::ReadingHeaders)
    }

    /// Nobody who comes now is served at once: no worker waits, or somebody waits for one. With `pm = dynamic` and
    /// `ondemand` a worker more may be started for whoever waits.
    pub fn is_full(&self) -> bool {
        self.queue().is_some_and(|waiting| waiting > 0) || (self.idle() == 0 && !self.may_grow())
    }

    /// Connections that hold a worker or wait for one, as far as that can be seen.
    pub fn wanted(&self) -> u64 {
        (self.processes.len() - self.idle()) as u64 + self.queue().unwrap_or_default()
    }

    fn count(&self, state: State) -> usize {
        self.processes.iter().filter(|process| process.state == state).count()
    }

    /// There were fewer workers than allowed, all the time.
    fn may_grow(&self) -> bool {
        self.manager != Manager::Static && self.max_children_reached == 0
    }
}

/// What is learned of `pm.max_children`, which no page says, by looking again and again.
///
/// With `pm = static` all run always, but for the moments in which one is replaced. With the other two all run when
/// `max children reached` rises; what it had risen to before the first look says nothing of how many that were.
#[derive(Clone, Debug, Default)]
pub struct Children {
    /// `start time` of the php-fpm that all this is of: a reload may bring another limit.
    start_time: u64,
    /// The most workers seen.
    most: usize,
    /// `max children reached` at the first look.
    reached_before: Option<u64>,
    /// It has risen since.
    reached: bool,
}

impl Children {
    /// Takes another look. Returns `pm.max_children` as far as it is known.
    pub fn look(&mut self, at: &Scoreboard) -> Option<u32> {
        if self.start_time != at.start_time {
            *self = Self { start_time: at.start_time, ..Self::default() };
        }
        self.most = self.most.max(at.processes.len());
        let before = *self.reached_before.get_or_insert(at.max_children_reached);
        self.reached |= at.max_children_reached > before;
        let known = at.manager == Manager::Static || self.reached;
        // At most 10,000.
        (known && self.most > 0).then_some(self.most as u32)
    }
}

/// A number of any kind, as far as it can be one of things: what php-fpm counts wrongly is no reason to read nothing.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    // A negative one is none; a float is cut, and too large a one is the largest.
    Ok(number.as_u64().unwrap_or_else(|| number.as_f64().map_or(0, |float| float as u64)))
}

fn microseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    count(deserializer).map(Duration::from_micros)
}

fn processes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Process>, D::Error> {
    struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Vec<Process>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {PROCESSES_AT_MOST} processes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut processes = vec![];
            while processes.len() < PROCESSES_AT_MOST {
                let Some(process) = list.next_element()? else { return Ok(processes) };
                processes.push(process);
            }
            match list.next_element::<IgnoredAny>()? {
                None => Ok(processes),
                Some(_) => Err(serde::de::Error::invalid_length(PROCESSES_AT_MOST + 1, &self)),
            }
        }
    }

    deserializer.deserialize_seq(List)
}

#[cfg(test)]
mod tests;
