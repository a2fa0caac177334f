//! What the log says of exchanges: the access log with its phases, its sampling and its traces, what warns, and what is
//! in neither.
#![allow(clippy::disallowed_methods, reason = "a real process is watched in real time")]

mod phases;
mod reader;
mod sampling;
mod secrets;
mod traces;

use std::time::Duration;

use crate::support::{Fcgimux, Load, Nginx, PhpFpm, Report, Request, eventually, fcgi::Call};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);

/// With every exchange in the access log.
const ON: &str = "log: {access: on}";

/// The lines of the log that are JSON.
fn lines(mux: &Fcgimux) -> Vec<Value> {
    mux.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Those of the access log about exchanges.
fn exchanges(mux: &Fcgimux) -> Vec<Value> {
    lines(mux).into_iter().filter(|line| line["message"] == "request" && line["level"] == "INFO").collect()
}

/// The last of so many lines, once they are there.
#[track_caller]
fn exchange(mux: &Fcgimux, number: usize) -> Value {
    assert!(eventually(SOON, || exchanges(mux).len() >= number), "no {number} lines: {}", mux.log());
    let all = exchanges(mux);
    assert_eq!(all.len(), number, "{all:#?}");
    all[number - 1].clone()
}

/// The lines that warn and begin so.
fn warnings(mux: &Fcgimux, begin: &str) -> Vec<Value> {
    let begins = |line: &Value| line["message"].as_str().is_some_and(|message| message.starts_with(begin));
    lines(mux).into_iter().filter(|line| line["level"] == "WARN" && begins(line)).collect()
}

/// These of a line, in one value.
fn fields<const N: usize>(line: &Value, names: [&str; N]) -> Value {
    Value::Array(names.map(|name| line[name].clone()).to_vec())
}

fn seconds(line: &Value, field: &str) -> f64 {
    line[field].as_f64().unwrap_or_else(|| panic!("no {field}: {line}"))
}

/// One request by way of nginx.
fn visit(nginx: &Nginx, request: &Request) -> Report {
    let request = request.clone();
    Load::on(nginx.address(), move |_| request.clone()).count(1).run()
}

fn echo(php: &PhpFpm) -> Call {
    Call::get(&php.script("echo.php")).query("token=1").last()
}

/// With every exchange in the log, there are as many lines as the metrics count, of each outcome.
#[track_caller]
fn assert_agrees_with_metrics(mux: &Fcgimux) {
    let metrics = mux.metrics();
    for outcome in ["ok", "refused", "broken", "timeout", "gone"] {
        let counted = metrics.sum("fcgimux_requests_total", &[("outcome", outcome)]);
        let written = || exchanges(mux).iter().filter(|line| line["outcome"] == outcome).count() as f64;
        assert!(eventually(SOON, || written() == counted), "{outcome}: {counted} and {} lines", written());
    }
}
