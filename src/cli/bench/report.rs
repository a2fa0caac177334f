//! The figures, for people and for scripts.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde_json::{Value, json};

use super::{Bench, load::Outcome};
use crate::cli::tool::{in_milliseconds, milliseconds};

const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];

pub(super) fn text(bench: &Bench, outcome: &Outcome) -> String {
    let (tally, seconds) = (&outcome.tally, outcome.elapsed.as_secs_f64());
    let pace = bench.rate.map_or_else(|| "as fast as answered".to_owned(), |rate| format!("{rate} a second fall due"));
    let connections = if bench.keep { "one kept connection each" } else { "a connection for each request" };
    let mut text = String::new();
    // Writing to a String cannot fail.
    _ = writeln!(text, "{}: {} clients, {connections}, {pace}, {seconds:.1} s", bench.target, bench.clients);
    let rate = tally.answers() as f64 / seconds;
    _ = writeln!(text, "{:<13} {}, {rate:.1} a second", "good answers", tally.answers());
    let times: Vec<_> =
        latencies(outcome).into_iter().map(|(name, time)| format!("{name} {}", milliseconds(time))).collect();
    if tally.answers() > 0 {
        let from = if bench.rate.is_some() { "when it was due" } else { "its start" };
        _ = writeln!(text, "{:<13} {}, from {from}", "latency", times.join(", "));
    }
    _ = writeln!(text, "{:<13} {} opened", "connections", tally.opened);
    _ = writeln!(text, "{:<13} {} bytes", "bodies", tally.bytes);
    _ = writeln!(text, "{:<13} {}", "failed", tally.failed());
    for (kind, (count, words)) in &tally.failures {
        _ = writeln!(text, "  {kind:<11} {count}: {words}");
    }
    if outcome.left > 0 {
        _ = writeln!(
            text,
            "{:<13} {}: they were due, and all {} clients were busy",
            "never sent", outcome.left, bench.clients
        );
    }
    text
}

pub(super) fn json(bench: &Bench, outcome: &Outcome) -> Value {
    let (tally, seconds) = (&outcome.tally, outcome.elapsed.as_secs_f64());
    let latencies: BTreeMap<_, _> =
        latencies(outcome).into_iter().map(|(name, time)| (name, in_milliseconds(time))).collect();
    let failures: BTreeMap<_, _> = tally.failures.iter().map(|(kind, (count, _))| (kind, count)).collect();
    let examples: BTreeMap<_, _> = tally.failures.iter().map(|(kind, (_, words))| (kind, words)).collect();
    json!({
        "address": bench.target.to_string(),
        "clients": bench.clients,
        "rate": bench.rate,
        "keep": bench.keep,
        "seconds": seconds,
        "good_answers": tally.answers(),
        "per_second": tally.answers() as f64 / seconds,
        "latency_milliseconds": latencies,
        "failed": tally.failed(),
        "failures": failures,
        "failure_examples": examples,
        "never_sent": outcome.left,
        "statuses": tally.statuses,
        "connections_opened": tally.opened,
        "body_bytes": tally.bytes,
    })
}

fn latencies(outcome: &Outcome) -> Vec<(&'static str, Duration)> {
    let tally = &outcome.tally;
    let mut latencies: Vec<_> =
        PERCENTILES.into_iter().map(|(name, percent)| (name, tally.percentile(percent))).collect();
    latencies.push(("max", tally.max()));
    latencies.push(("mean", tally.mean()));
    latencies
}
