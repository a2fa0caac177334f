//! What was found, for people and for scripts.

use std::fmt::Write;

use fcgimux::mux::scoreboard::Manager;
use serde_json::{Value, json};

use super::{
    advice::{Advice, Weight, held},
    findings::{Findings, Nature, Status},
};
use crate::cli::tool::{in_milliseconds, milliseconds, visible};

/// A line for each thing, a blank line between parts.
pub(super) fn text(findings: &Findings, advice: &Advice) -> String {
    let mut text = String::new();
    for (name, value) in lines(findings) {
        // Writing to a String cannot fail.
        _ = writeln!(text, "{name:<13} {}", visible(&value));
    }
    text.push('\n');
    if !advice.has_warnings() {
        text.push_str("nothing to mend\n");
    }
    for remark in &advice.remarks {
        let weight = if remark.weight == Weight::Warning { "WARNING" } else { "note" };
        _ = writeln!(text, "{weight:<8} {}", visible(&remark.text));
    }
    if let Some(fcgimux) = &advice.fcgimux {
        _ = write!(text, "\n# fcgimux:\n{fcgimux}");
    }
    if let Some(php_fpm) = &advice.php_fpm {
        _ = write!(text, "\n; php-fpm:\n{php_fpm}");
    }
    text
}

fn lines(findings: &Findings) -> Vec<(&'static str, String)> {
    let php = findings.php().map(|version| format!(", PHP {version}")).unwrap_or_default();
    let mut lines = vec![
        ("address", findings.address.clone()),
        ("application", format!("{}{php}", findings.nature().text())),
        ("connect", milliseconds(findings.connect)),
        ("GET_VALUES", format!("answered in {}: {}", milliseconds(findings.proof), announced(findings))),
        ("keeps", kept(findings)),
        ("multiplexes", multiplexes(findings)),
    ];
    if let Some(trips) = findings.round_trips {
        let [least, median, most] = [trips.least, trips.median, trips.most].map(milliseconds);
        let stalls = if trips.stalls == 1 { "stall" } else { "stalls" };
        let stalls = format!("{} {stalls} in {}", trips.stalls, trips.count);
        lines.push(("round trip", format!("least {least}, median {median}, most {most}; {stalls}")));
    }
    for asked in &findings.requests {
        lines.push(("request", format!("{}: status {} in {}", asked.script, asked.status, milliseconds(asked.took))));
    }
    lines.push((
        "status page",
        match &findings.status {
            Ok(status) => format!("{} at {}: {}", status.path, status.address, status_text(status)),
            Err(error) => format!("none: {error}"),
        },
    ));
    lines
}

fn announced(findings: &Findings) -> String {
    let pairs: Vec<_> = findings.values.pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { "it announces nothing".to_owned() } else { pairs.join(" ") }
}

fn kept(findings: &Findings) -> String {
    let word = |kept| if kept { "kept" } else { "closed" };
    let request = findings.keeps_behind_request.map_or("not seen", word);
    format!("behind GET_VALUES: {}; behind a request: {request}", word(findings.keeps_behind_values))
}

fn multiplexes(findings: &Findings) -> String {
    let answer = if findings.values.values.multiplexes { "yes, many requests at once on a connection" } else { "no" };
    answer.to_owned()
}

/// On one line.
pub(super) fn status_text(status: &Status) -> String {
    let board = &status.board;
    let queue = board
        .queue()
        .map_or_else(|| "cannot be seen".to_owned(), |waiting| format!("{waiting} of {}", board.listen_queue_len));
    format!(
        "pool {}, pm = {}, {}; listen queue {queue}; max children reached {} times",
        board.pool,
        manager(board.manager),
        held(board),
        board.max_children_reached
    )
}

fn manager(manager: Manager) -> &'static str {
    match manager {
        Manager::Static => "static",
        Manager::Dynamic => "dynamic",
        Manager::Ondemand => "ondemand",
        Manager::Unknown => "unknown",
    }
}

pub(super) fn json(findings: &Findings, advice: &Advice) -> Value {
    let requests: Vec<_> = findings.requests.iter().map(|asked| {
        json!({ "script": asked.script, "status": asked.status, "milliseconds": in_milliseconds(asked.took) })
    }).collect();
    let remarks: Vec<_> = advice
        .remarks
        .iter()
        .map(|remark| {
            let weight = if remark.weight == Weight::Warning { "warning" } else { "note" };
            json!({ "weight": weight, "word": remark.word, "text": remark.text })
        })
        .collect();
    json!({
        "address": findings.address,
        "other_addresses": findings.others,
        "application": nature(findings.nature()),
        "php": findings.php(),
        "announced": findings.values.pairs.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "multiplexes": findings.values.values.multiplexes,
        "keeps_behind_values": findings.keeps_behind_values,
        "keeps_behind_request": findings.keeps_behind_request,
        "milliseconds": {
            "connect": in_milliseconds(findings.connect),
            "first_answer": in_milliseconds(findings.proof),
        },
        "round_trips": findings.round_trips.map(|trips| json!({
            "count": trips.count,
            "stalls": trips.stalls,
            "milliseconds": {
                "least": in_milliseconds(trips.least),
                "median": in_milliseconds(trips.median),
                "most": in_milliseconds(trips.most),
            },
        })),
        "requests": requests,
        "status_page": findings.status.as_ref().ok().map(status),
        "remarks": remarks,
        "settings": { "fcgimux": advice.fcgimux, "php_fpm": advice.php_fpm },
        "error": null,
    })
}

pub(super) fn status(status: &Status) -> Value {
    let board = &status.board;
    json!({
        "address": status.address,
        "path": status.path,
        "pool": board.pool,
        "pm": manager(board.manager),
        "workers": board.processes.len(),
        "idle": board.idle(),
        "held": board.holding(),
        "listen_queue": board.queue(),
        "listen_queue_len": board.listen_queue_len,
        "max_children_reached": board.max_children_reached,
    })
}

fn nature(nature: Nature) -> &'static str {
    match nature {
        Nature::PhpFpm => "php-fpm",
        Nature::Multiplexer => "multiplexer",
        Nature::Go => "go",
        Nature::Libfcgi => "libfcgi",
        Nature::Unknown => "unknown",
    }
}
