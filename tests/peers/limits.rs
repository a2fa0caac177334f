//! Limits and refusals: whoever exceeds one gets a whole answer with the right status, the operator a log line and a
//! metric, and nothing is left behind.
#![allow(clippy::disallowed_methods, reason = "a real process is watched in real time")]

mod endpoints;
mod requests;
mod timeouts;

use std::time::Duration;

use crate::support::{
    Fcgimux, Level, bounded,
    fcgi::{Application, Call, Reply, polite},
};

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Runs a test with a fcgimux before an application that serves whatever reaches it, and sees to it that nothing leaked.
fn with(pool: &'static str, test: impl FnOnce(&Fcgimux, &Application) + Send + 'static) {
    bounded(LIMIT, move || {
        let application = Application::tcp(polite);
        let mux = Fcgimux::to(application.address()).pool(Level::SHORT_IDLE).pool(pool).start();
        assert_served(&mux);
        let level = Level::of(&mux);
        test(&mux, &application);
        level.assert_back(&mux);
        assert_served(&mux);
    });
}

#[track_caller]
fn assert_served(mux: &Fcgimux) {
    let reply = mux.call(&Call::get("/srv/app.php").query("token=1"), SOON).whole();
    assert_eq!((reply.http_status(), reply.text().as_str()), (200, "token=1"));
}

/// The answer is a whole one with this status and text, says to the web server's log what happened, and nothing of that to
/// the visitor.
#[track_caller]
fn assert_answer(reply: Reply, status: &str, detail: &str) {
    let reply = reply.whole();
    assert_eq!(reply.header("Status").as_deref(), Some(status), "{reply:?}");
    assert_eq!(reply.text(), format!("{status}\n"));
    assert_eq!(reply.header("Content-Type").as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(reply.header("Retry-After").is_some(), status.starts_with("503"), "{status}");
    assert_eq!(reply.status, (0, 0));
    let log = String::from_utf8_lossy(&reply.stderr).into_owned();
    assert!(log.starts_with("fcgimux: ") && log.contains(detail), "STDERR {log:?}, not {detail:?}");
    assert!(!String::from_utf8_lossy(&reply.stdout).contains(detail), "the visitor is told {detail:?}");
}

/// What a refusal is counted as, and what its log line says.
struct Refusal {
    status: &'static str,
    reason: &'static str,
    detail: &'static str,
}

/// Sends a request that must be refused so, and nothing else.
#[track_caller]
fn assert_refused(mux: &Fcgimux, call: &Call, refusal: &Refusal) {
    let Refusal { status, reason, detail } = *refusal;
    let (before, lines) = (mux.metrics(), log_lines(mux, reason, detail));
    assert_answer(mux.call(call, SOON), status, detail);
    let now = mux.metrics();
    assert_eq!(now.since(&before, "fcgimux_refused_total", &[("reason", reason)]), 1.0, "{reason}");
    assert_eq!(now.since(&before, "fcgimux_refused_total", &[]), 1.0, "{reason}");
    assert_eq!(now.since(&before, "fcgimux_requests_total", &[("outcome", "refused")]), 1.0, "{reason}");
    assert_eq!(now.since(&before, "fcgimux_requests_total", &[]), 1.0, "{reason}");
    assert_eq!(log_lines(mux, reason, detail) - lines, 1, "{}", mux.log());
}

/// Lines of the log that say so.
fn log_lines(mux: &Fcgimux, reason: &str, detail: &str) -> usize {
    // JSON puts a backslash before each quote.
    let detail = detail.replace('"', "\\\"");
    mux.log().lines().filter(|line| line.contains(reason) && line.contains(&detail)).count()
}
