//! Applications that are old, gone, restless or broken: what reaches the web server is right, or can be seen not to be.
#![allow(clippy::disallowed_methods, reason = "a real process is watched in real time")]

mod broken;
mod endpoints;
mod restless;

use std::time::Duration;

use crate::support::{
    Fcgimux, Level, bounded,
    fcgi::{self, Application, Call, Connection, Incoming, Stage},
};

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Plays an application that answers GET_VALUES and does `part` for each request, until that says false.
fn serve(mut connection: Connection, mut part: impl FnMut(&mut Connection, &Incoming) -> bool) {
    let mut incoming = Incoming::default();
    while let Ok(record) = connection.read_record(3 * SOON) {
        if record.kind == fcgi::GET_VALUES {
            if answer_values(&mut connection).is_err() {
                return;
            }
        } else if incoming.has_begun() || record.kind == fcgi::BEGIN_REQUEST {
            incoming.take(record);
        }
        if incoming.is_complete() && incoming.has_begun() {
            if !part(&mut connection, &incoming) {
                return;
            }
            incoming = Incoming::default();
        }
    }
}

fn answer_values(connection: &mut Connection) -> std::io::Result<()> {
    connection.try_send(&fcgi::record(fcgi::GET_VALUES_RESULT, 0, &fcgi::pairs([("FCGI_MPXS_CONNS", "0")])))
}

/// Answers with the body, or the query, and goes on if the connection is to be kept.
fn echo(connection: &mut Connection, request: &Incoming) -> bool {
    let query = request.param("QUERY_STRING").unwrap_or_default().as_bytes();
    let body = if request.body.is_empty() { query } else { &request.body };
    let sent = connection.try_answer(request.id, body).is_ok();
    if sent && !request.keep {
        connection.shutdown_write();
        let _ = connection.ending(SOON);
    }
    sent && request.keep
}

/// Runs a test before a scripted application, and sees to it that nothing leaked.
fn with(
    pool: &'static str,
    part: impl Fn(Connection, &Stage) + Send + Sync + 'static,
    test: impl FnOnce(&Fcgimux, &Application) + Send + 'static,
) {
    bounded(LIMIT, move || {
        let application = Application::tcp(part);
        let mux = Fcgimux::to(application.address())
            .pool("connections: {per_endpoint: 2, idle_timeout: 600ms, surplus_idle: 300ms}")
            .pool(pool)
            .start();
        let level = Level::of(&mux);
        test(&mux, &application);
        level.assert_back(&mux);
    });
}

fn get(query: &str) -> Call {
    Call::get("/srv/app.php").query(query).last()
}

fn post(body: &str) -> Call {
    Call::post("/srv/app.php", body).last()
}

#[track_caller]
fn assert_echoed(mux: &Fcgimux, call: &Call) {
    let reply = mux.call(call, SOON).whole();
    let query = call.params.iter().find(|(name, _)| name == "QUERY_STRING").map_or("", |(_, value)| value);
    let wanted = if call.body.is_empty() { query.to_owned() } else { String::from_utf8_lossy(&call.body).into_owned() };
    assert_eq!((reply.http_status(), reply.text()), (200, wanted), "{reply:?}");
}

fn closed(mux: &Fcgimux, reason: &str) -> f64 {
    mux.metrics().sum("fcgimux_upstream_connections_closed_total", &[("reason", reason)])
}

fn retries(mux: &Fcgimux, reason: &str) -> f64 {
    mux.metrics().sum("fcgimux_retries_total", &[("reason", reason)])
}

fn outcomes(mux: &Fcgimux, outcome: &str) -> f64 {
    mux.metrics().sum("fcgimux_requests_total", &[("outcome", outcome)])
}
