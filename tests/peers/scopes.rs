//! What an error ends: the exchange, the connection, or nothing. A test for each row of the tables in its two parts, and
//! in no row the process.
#![allow(clippy::disallowed_methods, reason = "a real process is watched in real time")]

mod application;
mod exclusive;
mod held_up;
mod lost;
mod refused;
mod taken_back;
mod web_server;

use std::time::Duration;

use crate::support::{
    Fcgimux, Level, bounded,
    fcgi::{Call, Errand, Multiplexer, Pattern, Reply, WebServer},
    wait_until,
};

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);
/// Bytes of most responses.
const SIZE: usize = 1_000;
/// How long those take that are to be under way while something happens to another.
const BESIDE: Duration = Duration::from_millis(500);

/// Runs a test before a multiplexing application, and sees to it that nothing leaked and the process serves on.
/// `connections`: keys of the pool's connections besides.
fn with(connections: &'static str, listener: &'static str, test: impl FnOnce(&Fcgimux, &Multiplexer) + Send + 'static) {
    bounded(LIMIT, move || {
        let application = Multiplexer::start();
        let idle = "idle_timeout: 1s, surplus_idle: 300ms";
        let mux = Fcgimux::to(application.address())
            .pool("application: generic")
            .pool(&format!("connections: {{{idle}, {connections}}}"))
            // More is lost here, of what little there is, than a budget for ordinary times allows to be sent again.
            .pool("retry: {budget: 100%}")
            // Exchanges that are alone on their connection are told apart by what they are answered.
            .pool("on_failure: respond")
            .listener(listener)
            .start();
        let level = Level::of(&mux);
        test(&mux, &application);
        assert_right(&mux.call(&get(1, "last", ""), SOON), "last");
        wait_until("nothing is under way", || in_flight(&mux) == 0.0);
        level.assert_back(&mux);
        application.assert_undisturbed();
    });
}

const ONE: &str = "per_endpoint: 1";

fn get(id: u16, token: &str, more: &str) -> Call {
    Call::get("/srv/app").query(&format!("token={token}&n={SIZE}{more}")).id(id)
}

fn post(id: u16, token: &str, more: &str) -> Call {
    let body = Pattern::of_body(token).bytes(SIZE);
    Call::post("/srv/app", body).query(&format!("token={token}&n={SIZE}&body={SIZE}{more}")).id(id)
}

/// The whole of the token's response came, and nothing else.
#[track_caller]
fn assert_right(reply: &Reply, token: &str) {
    assert!(reply.ended, "{token}: no END_REQUEST, {:?}", reply.broken);
    assert_eq!((reply.http_status(), reply.status, reply.stderr.len()), (200, (0, 0), 0), "{token}: {reply:?}");
    assert_eq!(reply.header("X-Token").as_deref(), Some(token));
    assert!(reply.body() == Pattern::of(token).bytes(SIZE), "{token}: {} wrong bytes", reply.body().len());
}

/// It was answered in the application's stead.
#[track_caller]
fn assert_status(reply: &Reply, status: u16) {
    assert!(reply.ended, "no END_REQUEST, {:?}", reply.broken);
    assert_eq!((reply.http_status(), reply.status), (status, (0, 0)), "{reply:?}");
    assert!(reply.stderr.starts_with(b"fcgimux: "), "{reply:?}");
}

fn in_flight(mux: &Fcgimux) -> f64 {
    mux.metrics().sum("fcgimux_upstream_requests_in_flight", &[])
}

fn closed(mux: &Fcgimux, reason: &str) -> f64 {
    mux.metrics().sum("fcgimux_upstream_connections_closed_total", &[("reason", reason)])
}

fn retries(mux: &Fcgimux, reason: &str) -> f64 {
    mux.metrics().sum("fcgimux_retries_total", &[("reason", reason)])
}

fn dropped(mux: &Fcgimux) -> f64 {
    mux.metrics().sum("fcgimux_dropped_records_total", &[])
}

#[track_caller]
fn wait_executed(application: &Multiplexer, token: &str) {
    wait_until(&format!("{token} runs"), || application.executed(token) > 0);
}

/// Exchanges of another web server that are under way meanwhile.
struct Beside {
    web_server: WebServer,
    count: usize,
}

impl Beside {
    #[track_caller]
    fn begin(mux: &Fcgimux, application: &Multiplexer) -> Self {
        let mut web_server = WebServer::connect(&mux.socket().display().to_string());
        let delay = format!("delay={}", BESIDE.as_millis());
        let before = application.count(crate::support::fcgi::Tally::executed_tokens);
        let tokens: Vec<_> = (0..5).map(|number| format!("beside{before}-{number}")).collect();
        for token in &tokens {
            web_server.begin(Errand::get(token, 30_000).and(&delay));
        }
        for token in &tokens {
            wait_executed(application, token);
        }
        Self { web_server, count: tokens.len() }
    }

    /// All end as if nothing had happened.
    #[track_caller]
    fn assert_right(self) {
        for _ in 0..self.count {
            let (errand, done) = self.web_server.next_done(SOON).expect("an exchange ends");
            assert_eq!(done.verdict(&errand), Ok(()));
        }
        assert_eq!(self.web_server.defects(), Vec::<String>::new());
    }
}
