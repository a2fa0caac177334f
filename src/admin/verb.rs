//! Verbs: what an operator has done, and what became of it.

use super::{
    Process,
    json::{self, seconds},
    show::Missing,
};
use crate::mux::{
    command::{Command, CommandError},
    snapshot::{EndpointSnapshot, PoolSnapshot},
};
use serde::Serialize;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

/// How often a verb that is waited for is looked at.
const POLL: Duration = Duration::from_millis(50);

/// What a verb did, and how far it has come.
#[derive(Debug, Serialize)]
struct Became {
    pool: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    /// Everything that the verb is for has happened; for those that take from an application: nothing runs there.
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<bool>,
    requests_in_flight: usize,
    connections: usize,
    /// Those that are older than the verb.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_connections: Option<usize>,
    queue_depth: usize,
    waited_seconds: f64,
    /// The verb is no longer in force, so that there is nothing to wait for: somebody has taken it back.
    #[serde(skip)]
    overtaken: bool,
}

/// How long a verb is waited for.
pub(super) struct Patience<'a> {
    pub(super) wait: Duration,
    /// Places of those who wait; who finds none is answered at once.
    pub(super) places: &'a Semaphore,
    /// Nobody waits any longer.
    pub(super) ending: &'a CancellationToken,
}

/// Carries out a verb and says what became of it, at the latest when the patience is at its end.
pub(super) async fn perform(
    process: &dyn Process,
    peer: SocketAddr,
    pool: &str,
    command: &Command,
    patience: Patience<'_>,
) -> Result<String, Missing> {
    let begun = Instant::now();
    match process.command(pool, command) {
        None => return Err(Missing::pool(process, pool)),
        Some(Err(CommandError::NoEndpoint(endpoint))) => return Err(Missing::endpoint(process, pool, &endpoint)),
        Some(Ok(())) => {}
    }
    let place = patience.places.try_acquire();
    let wait = if place.is_ok() { patience.wait } else { Duration::ZERO };
    tracing::info!(%peer, pool, endpoint = endpoint(command), "an operator asked for {}", word(command));
    loop {
        let waited = begun.elapsed();
        let became = look(process, pool, command, waited).ok_or_else(|| Missing::pool(process, pool))?;
        if became.done || became.overtaken || waited >= wait {
            return Ok(json::text(&became));
        }
        let pause = time::sleep(POLL.min(wait - waited));
        if patience.ending.run_until_cancelled(pause).await.is_none() {
            return Ok(json::text(&became));
        }
    }
}

/// `None`: the pool is gone.
fn look(process: &dyn Process, pool: &str, command: &Command, waited: Duration) -> Option<Became> {
    let snapshot = process.pool(pool)?;
    let mut became = Became {
        pool: pool.to_owned(),
        endpoint: None,
        done: false,
        paused: None,
        state: None,
        held: None,
        requests_in_flight: 0,
        connections: 0,
        old_connections: None,
        queue_depth: snapshot.queue_depth,
        waited_seconds: seconds(waited),
        overtaken: false,
    };
    match command {
        Command::Pause | Command::Resume => {
            became.count(&snapshot.endpoints);
            became.paused = Some(snapshot.paused);
            became.overtaken = snapshot.paused != (*command == Command::Pause);
            became.done = !became.overtaken && (*command == Command::Resume || became.is_quiet());
        }
        Command::Reconnect => {
            became.count(&snapshot.endpoints);
            let old = process.connections(pool)?.iter().filter(|connection| connection.age > waited).count();
            became.old_connections = Some(old);
            became.done = old == 0;
        }
        Command::Drain(name) | Command::Undrain(name) => became.look_at_endpoint(&snapshot, name, command),
    }
    Some(became)
}

impl Became {
    fn look_at_endpoint(&mut self, pool: &PoolSnapshot, name: &str, command: &Command) {
        self.endpoint = Some(name.to_owned());
        let drain = matches!(command, Command::Drain(_));
        let Some(endpoint) = pool.endpoints.iter().find(|endpoint| endpoint.name == name) else {
            // It has left meanwhile: nothing runs there, and nothing comes.
            (self.done, self.overtaken) = (drain, !drain);
            return;
        };
        self.count(std::slice::from_ref(endpoint));
        (self.state, self.held) = (Some(endpoint.state.label()), Some(endpoint.held));
        self.overtaken = endpoint.held != drain;
        self.done = !self.overtaken && (!drain || self.is_quiet());
    }

    fn count(&mut self, endpoints: &[EndpointSnapshot]) {
        self.requests_in_flight = endpoints.iter().map(|endpoint| endpoint.in_flight).sum();
        self.connections = endpoints.iter().flat_map(|endpoint| endpoint.connections).sum();
    }

    /// Without a connection no script runs any more, also none that works on behind its response.
    fn is_quiet(&self) -> bool {
        self.requests_in_flight == 0 && self.connections == 0
    }
}

fn word(command: &Command) -> &'static str {
    match command {
        Command::Pause => "pause",
        Command::Resume => "resume",
        Command::Reconnect => "reconnect",
        Command::Drain(_) => "drain",
        Command::Undrain(_) => "undrain",
    }
}

fn endpoint(command: &Command) -> Option<&str> {
    match command {
        Command::Drain(endpoint) | Command::Undrain(endpoint) => Some(endpoint),
        _ => None,
    }
}

/// The query of a verb: nothing, or `wait=10s`, `at_most` at the most.
pub(super) fn wait_of(query: Option<&str>, at_most: Duration) -> Result<Duration, String> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(Duration::ZERO) };
    let Some(text) = query.strip_prefix("wait=") else {
        return Err(format!("{query} is not understood; a verb takes only wait, such as wait=10s"));
    };
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let read = |(unit, milliseconds): (&str, u64)| {
        let number = text.strip_suffix(unit).filter(|number| number.bytes().all(|digit| digit.is_ascii_digit()))?;
        number.parse::<u64>().ok()?.checked_mul(milliseconds)
    };
    match units.into_iter().find_map(read).map(Duration::from_millis) {
        None => Err(format!("wait={text} is no duration; write one such as wait=10s (units: ms, s, m)")),
        Some(wait) if wait > at_most => {
            Err(format!("wait={text} is too long; wait for {at_most:?} at most, and ask again where that is too short"))
        }
        Some(wait) => Ok(wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_a_unit_and_a_limit() {
        let wait = |query| wait_of(query, Duration::from_secs(60));
        assert_eq!(wait(None), Ok(Duration::ZERO));
        assert_eq!(wait(Some("")), Ok(Duration::ZERO));
        for (query, milliseconds) in [("wait=250ms", 250), ("wait=10s", 10_000), ("wait=1m", 60_000), ("wait=0s", 0)] {
            assert_eq!(wait(Some(query)), Ok(Duration::from_millis(milliseconds)), "{query}");
        }
        for query in [
            "wait",
            "wait=",
            "wait=10",
            "wait=s",
            "wait=-1s",
            "wait=+1s",
            "wait=1.5s",
            "wait=61s",
            "wait=2m",
            "wiat=1s",
        ] {
            assert!(wait(Some(query)).is_err(), "{query}");
        }
        for query in ["wait=1s&wait=2s", "wait=99999999999999999999s", "wait=18446744073709551615m", "x"] {
            assert!(wait(Some(query)).is_err(), "{query}");
        }
    }
}
