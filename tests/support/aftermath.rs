//! What must be true again once a load is over: nothing waits, nothing is held, nothing unexpected was logged.

use std::time::Duration;

use super::{Fcgimux, bounded::eventually};

/// Surplus connections go after a second; a settling one may have a script's work behind its answer to wait for.
const CALM: Duration = Duration::from_secs(8);
const STATES: [&str; 4] = ["connecting", "proving", "leased", "settling"];

/// What a program held before a load.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    fds: usize,
}

impl Before {
    pub fn of(fcgimux: &Fcgimux) -> Self {
        // The socket is there before the admin thread has opened its own files.
        assert!(eventually(Duration::from_secs(10), || fcgimux.page("/livez").0 == 200));
        Self { fds: fcgimux.open_fds() }
    }

    /// Fails unless the program comes to rest: queue empty, no web server connected, at most one idle connection to each
    /// endpoint and none in another state, descriptors as before but for those, and opened minus closed connections the
    /// same number. Lines of its log at WARN and ERROR must each hold one of `expected`.
    #[track_caller]
    pub fn assert_nothing_left(&self, fcgimux: &Fcgimux, expected: &[&str]) {
        let mut found = String::new();
        let calm = eventually(CALM, || {
            found = self.left(fcgimux);
            found.is_empty()
        });
        assert!(calm, "left behind after {CALM:?}: {found}\n{}", fcgimux.page("/metrics").1);
        let warnings = warnings(fcgimux);
        let unexpected: Vec<_> =
            warnings.iter().filter(|line| !expected.iter().any(|part| line.contains(part))).collect();
        let first = &unexpected[..unexpected.len().min(10)];
        assert!(unexpected.is_empty(), "{} unexpected lines in the log, the first: {first:#?}", unexpected.len());
    }

    /// What is not as it should be, in words.
    fn left(&self, fcgimux: &Fcgimux) -> String {
        let metrics = fcgimux.metrics();
        let sum = |name: &str, labels: &[(&str, &str)]| metrics.sum(name, labels);
        let connections = |state| sum("fcgimux_upstream_connections", &[("state", state)]);
        let idle = connections("idle");
        let open = sum("fcgimux_upstream_connections_opened_total", &[])
            - sum("fcgimux_upstream_connections_closed_total", &[]);
        let mut left = Vec::new();
        let mut note = |wrong: bool, words: String| {
            if wrong {
                left.push(words);
            }
        };
        for state in STATES {
            let count = connections(state);
            note(count != 0.0, format!("{count} connections {state}"));
        }
        let endpoints = metrics.iter().filter(|(name, _)| name.starts_with("fcgimux_endpoint_up{")).count();
        let too_many = metrics.iter().any(|(name, value)| {
            name.starts_with("fcgimux_upstream_connections{") && name.contains("\"idle\"") && value > 1.0
        });
        note(too_many, format!("{idle} idle connections to {endpoints} endpoints"));
        note((open - idle).abs() > 0.0, format!("{open} connections opened and not closed, {idle} idle"));
        let queued = sum("fcgimux_queue_depth", &[]);
        note(queued != 0.0, format!("{queued} waiters"));
        let web_servers = sum("fcgimux_downstream_connections", &[]);
        note(web_servers != 0.0, format!("{web_servers} connections of web servers"));
        let fds = fcgimux.open_fds();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        let allowed = self.fds + idle as usize;
        note(fds > allowed, format!("{fds} descriptors, {} before", self.fds));
        left.join(", ")
    }
}

/// Lines of the log at WARN and ERROR.
pub fn warnings(fcgimux: &Fcgimux) -> Vec<String> {
    let serious = |line: &&str| {
        ["\"level\":\"WARN\"", "\"level\":\"ERROR\"", "panicked"].iter().any(|level| line.contains(level))
    };
    fcgimux.log().lines().filter(serious).map(str::to_owned).collect()
}
