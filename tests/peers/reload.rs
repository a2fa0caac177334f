//! The configuration is read again in a running process: what takes effect, what is refused, and that nothing closes
//! which need not.
#![allow(clippy::disallowed_methods, reason = "a real process is watched in real time")]

mod file;
mod listeners;
mod pools;
mod settings;

use std::{path::Path, time::Duration};

use crate::support::{
    Fcgimux, bounded, eventually,
    fcgi::{self, Application, Call, Connection, End, polite},
};
use nix::sys::signal::Signal;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A whole configuration: pools, and listeners in front of the one at `{socket}`, which serves `php`: when that can be
/// connected to, all of them can.
fn file(listeners: &str, pools: &[String], more: &str) -> String {
    let pools: String = pools.iter().map(|pool| format!("  {pool}\n")).collect();
    format!(
        "listeners:\n{listeners}  - {{socket: {{socket}}, mode: \"0666\", pool: php}}\npools:\n{pools}\
         admin: {{listen: {{admin}}}}\n{more}\n"
    )
}

/// A pool with this endpoint and other keys.
fn pool(name: &str, endpoint: impl std::fmt::Display, more: &str) -> String {
    format!("{name}: {{endpoints: [{{address: \"{endpoint}\"}}]{more}}}")
}

/// Only the pool `php`.
fn one(endpoint: impl std::fmt::Display, more: &str) -> String {
    file("", &[pool("php", endpoint, more)], "")
}

/// What a reload logged last, once it is more than before.
struct Reloads {
    seen: usize,
}

impl Reloads {
    fn of(mux: &Fcgimux) -> Self {
        Self { seen: Self::outcomes(mux).len() }
    }

    /// Puts another file in place, has it read and gives what became of that.
    #[track_caller]
    fn now(&mut self, mux: &Fcgimux, text: &str) -> Value {
        mux.rewrite(text);
        mux.signal(Signal::SIGHUP);
        self.next(mux)
    }

    /// The next outcome.
    #[track_caller]
    fn next(&mut self, mux: &Fcgimux) -> Value {
        assert!(eventually(SOON, || Self::outcomes(mux).len() > self.seen), "no reload: {}", mux.log());
        self.seen += 1;
        Self::outcomes(mux)[self.seen - 1].clone()
    }

    fn outcomes(mux: &Fcgimux) -> Vec<Value> {
        let last = ["configuration reloaded", "configuration read again", "; the configuration before stays in force"];
        let is_last = |line: &Value| last.iter().any(|end| message(line).contains(end));
        lines(mux).into_iter().filter(is_last).collect()
    }
}

/// Its log so far.
fn lines(mux: &Fcgimux) -> Vec<Value> {
    mux.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}

#[track_caller]
fn assert_reloaded(outcome: &Value) {
    assert_eq!(message(outcome), "configuration reloaded", "{outcome}");
}

#[track_caller]
fn assert_served(connection: &mut Connection, token: &str) {
    let reply = connection.call(&Call::get("/srv/app.php").query(token), SOON).whole();
    assert_eq!((reply.http_status(), reply.text().as_str()), (200, token));
}

/// Over a connection of its own.
#[track_caller]
fn assert_served_at(socket: &Path, token: &str) {
    let reply = Connection::unix(socket).call(&Call::get("/srv/app.php").query(token).last(), SOON).whole();
    assert_eq!((reply.http_status(), reply.text().as_str()), (200, token));
}

/// Requests of a pool so far.
fn requests(mux: &Fcgimux, pool: &str) -> f64 {
    mux.metrics().sum("fcgimux_requests_total", &[("pool", pool)])
}

fn opened(mux: &Fcgimux) -> f64 {
    mux.metrics().sum("fcgimux_upstream_connections_opened_total", &[])
}

fn closed(mux: &Fcgimux) -> f64 {
    mux.metrics().sum("fcgimux_upstream_connections_closed_total", &[])
}
