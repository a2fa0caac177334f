//! The admin server: what it shows, what an operator can have done through it, and who may.
#![allow(clippy::disallowed_methods, reason = "real sockets and real peers need the real clock")]

mod client;
mod pages;
mod server;
mod verbs;

use std::time::Duration;

use crate::support::Fcgimux;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);

/// The answer to a verb, which must be a whole one.
#[track_caller]
fn verb(mux: &Fcgimux, path: &str) -> Value {
    let answer = client::post(mux.admin(), &format!("/pools/default/{path}"), "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

/// A page of the pool's state.
#[track_caller]
fn page(mux: &Fcgimux, path: &str) -> Value {
    let answer = client::get(mux.admin(), &format!("/pools/default{path}"));
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}
