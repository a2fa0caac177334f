//! What is wrong with a pool, in words for whoever is in a hurry.

use super::watch::{Watched, is_full, is_ill, is_usable};
use crate::mux::snapshot::{EndpointSnapshot, PoolSnapshot};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;

/// The worst comes last.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Well,
    /// Some endpoints are not used, or not gladly.
    Degraded,
    /// Requests were refused, broken off or not answered in time in the last seconds.
    Failing,
    /// Requests wait since no worker is free.
    Saturated,
    /// There is no endpoint to send anything to.
    Down,
    /// By an operator.
    Paused,
}

/// What a pool's state amounts to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Condition {
    pub level: Level,
    /// For how long it has been so.
    pub for_seconds: f64,
    /// A sentence, with all that is to be known at a glance.
    pub text: String,
    /// The same without figures, for those who are told of changes.
    pub cause: String,
}

/// Names that are told; of further ones only the number.
const NAMED: usize = 2;

impl Condition {
    pub(super) fn of(pool: &PoolSnapshot, watched: &Watched, now: Instant) -> Self {
        let (level, lasted) = watched.level(now);
        // Nobody looks more often.
        let lasted = Duration::from_secs(lasted.as_secs());
        let (mut cause, waiting, long) = (cause(level, pool), waiting(pool), spoken(lasted));
        let text = match level {
            Level::Well => format!("Well: {waiting}; {}", in_use(pool)),
            Level::Paused => format!("Paused by an operator for {long}: {waiting}"),
            Level::Down => format!("Down for {long}: {cause}; {waiting}"),
            Level::Saturated if cause.is_empty() => format!("Saturated for {long}: {waiting}"),
            Level::Saturated => format!("Saturated for {long}: {waiting}; {cause}"),
            Level::Failing => {
                let (failed, ended) = (watched.failed, watched.ended);
                format!("Failing for {long}: {failed} of the last {ended} requests; {waiting}")
            }
            Level::Degraded => format!("Degraded for {long}: {cause}; {waiting}"),
        };
        if cause.is_empty() {
            cause = match level {
                Level::Well => "nothing is wrong".to_owned(),
                Level::Failing => "requests fail".to_owned(),
                _ => "requests wait".to_owned(),
            };
        }
        Self { level, for_seconds: lasted.as_secs_f64(), text, cause }
    }
}

/// Empty where nothing is known beyond the level.
fn cause(level: Level, pool: &PoolSnapshot) -> String {
    let named = |is: &dyn Fn(&EndpointSnapshot) -> bool| {
        let mut names: Vec<_> =
            pool.endpoints.iter().filter(|endpoint| is(endpoint)).map(|endpoint| endpoint.name.as_str()).collect();
        names.sort_unstable();
        names
    };
    let said = |names: Vec<&str>, one: &str, several: &str| {
        (!names.is_empty()).then(|| format!("{} {}", listed(&names), if names.len() == 1 { one } else { several }))
    };
    let in_state =
        |state| said(named(&|endpoint| endpoint.state == state), "is", "are").map(|who| (who, state.label()));
    let in_states = || {
        let states = crate::mux::label::EndpointState::ALL.iter().skip(1);
        let said: Vec<_> =
            states.filter_map(|state| in_state(*state)).map(|(who, word)| format!("{who} {word}")).collect();
        said.join("; ")
    };
    match level {
        Level::Well | Level::Failing => String::new(),
        Level::Paused => "paused by an operator".to_owned(),
        Level::Down if pool.endpoints.is_empty() => "no endpoint has been found".to_owned(),
        Level::Down | Level::Degraded => in_states(),
        Level::Saturated => {
            let no_worker = said(
                named(&|endpoint| is_usable(endpoint) && endpoint.saturated),
                "has no free worker",
                "have no free worker",
            );
            let full = said(
                named(&|endpoint| is_usable(endpoint) && !endpoint.saturated && is_full(endpoint)),
                "has all its connections in use",
                "have all their connections in use",
            );
            let ill = said(named(&is_ill), "is not well", "are not well");
            [no_worker, full, ill].into_iter().flatten().collect::<Vec<_>>().join("; ")
        }
    }
}

fn waiting(pool: &PoolSnapshot) -> String {
    let oldest = spoken(pool.oldest_wait);
    match pool.queue_depth {
        0 => "nobody waits".to_owned(),
        1 => format!("1 waits, for {oldest}"),
        depth => format!("{depth} wait, oldest {oldest}"),
    }
}

fn in_use(pool: &PoolSnapshot) -> String {
    let limit: usize = pool.endpoints.iter().map(|endpoint| endpoint.limit).sum();
    format!("{} of {limit} connections in use", super::history::in_use(pool))
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [one, other] => format!("{one} and {other}"),
        [named @ .., _] if named.len() <= NAMED => format!("{} and {}", named.join(", "), names[NAMED]),
        _ => format!("{} and {} others", names[..NAMED].join(", "), names.len() - NAMED),
    }
}

/// As a person would say it: `1.3 s`, `2 min 10 s`.
pub fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, one: &str, small: u64, other: &str| match small {
        0 => format!("{large} {one}"),
        _ => format!("{large} {one} {small} {other}"),
    };
    match seconds {
        0 if duration.is_zero() => "0 s".to_owned(),
        0 if duration < Duration::from_millis(10) => format!("{} ms", tenths(duration.as_secs_f64() * 1e3)),
        0 => format!("{} ms", duration.as_millis()),
        1..10 => format!("{} s", tenths(duration.as_secs_f64())),
        10..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_say_them() {
        for (milliseconds, said) in [
            (0, "0 s"),
            (7, "7 ms"),
            (320, "320 ms"),
            (1_340, "1.3 s"),
            (3_000, "3 s"),
            (42_900, "42 s"),
            (60_000, "1 min"),
            (130_000, "2 min 10 s"),
            (11_100_000, "3 h 5 min"),
            (187_200_000, "2 d 4 h"),
        ] {
            assert_eq!(spoken(Duration::from_millis(milliseconds)), said);
        }
    }

    #[test]
    fn of_many_names_the_first_are_told() {
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b"]), "a and b");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(listed(&["a", "b", "c", "d", "e"]), "a, b and 3 others");
    }
}
