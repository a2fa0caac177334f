//! Every FastCGI application of `tests/apps` behind fcgimux behind real web servers: each answer is what the application
//! itself answers, chunks arrive as they are sent, and a visitor who goes leaves nothing behind.
#![allow(clippy::disallowed_methods, reason = "real peers need the real clock")]

mod front;
mod visitor;

use std::{thread, time::Duration};

use crate::support::{
    Fcgimux, Load, Request,
    apps::{App, Program},
    bounded, download, eventually,
    fcgi::{self, Call},
    upload, wait_until,
};
use front::{FRONTS, Front, Running};
use visitor::{Answer, Visitor};

const LIMIT: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(20);
const MIB: u64 = 1024 * 1024;
/// Of a download and of an upload.
const LARGE: u64 = 8 * MIB;

/// What an application sees of a visitor who goes while it writes.
enum Abort {
    /// Nothing: its connection carries others as well, and it is told nothing there.
    Unseen,
    /// Its next write fails.
    Seen,
}

/// How an application is run, and what is expected of it.
struct Case {
    program: Program,
    /// Keys of the pool's `connections`, and another line of the pool.
    connections: &'static str,
    line: &'static str,
    abort: Abort,
}

impl Case {
    fn start(self) -> (App, Fcgimux, Abort) {
        let app = self.program.start();
        let mux = Fcgimux::to(app.address())
            .pool("application: generic")
            .pool(&format!("connections: {{per_endpoint: 4{}}}", self.connections))
            .pool(self.line)
            .start();
        (app, mux, self.abort)
    }
}

/// Runs everything through every web server.
fn serves(case: fn() -> Case) {
    bounded(LIMIT, move || {
        let (app, mux, abort) = case().start();
        for front in FRONTS {
            println!("{} behind {}", app.name(), front.name);
            let server = front.start(&app.scripts(), &mux.socket());
            echoes(&app, &server);
            carries_large_bodies(&app, &server);
            streams(&server, &mux);
            outlives_a_visitor(&app, &server, &front, &mux, &abort);
            keeps_tokens_apart(&app, &server);
            wait_until("nothing is left", || rests(&mux));
        }
        assert!(!mux.log().contains("panicked"), "{}", mux.log());
    });
}

#[test]
fn go_is_served_as_it_answers_itself() {
    serves(|| Case { program: Program::go(), connections: "", line: "", abort: Abort::Unseen });
}

#[test]
fn libfcgi_is_served_as_it_answers_itself() {
    serves(|| Case { program: Program::libfcgi(), connections: "", line: "", abort: Abort::Seen });
}

#[test]
fn perl_is_served_as_it_answers_itself() {
    // It never sees a failed write (G9).
    serves(|| Case { program: Program::perl(), connections: "", line: "", abort: Abort::Unseen });
}

#[test]
fn fcgiwrap_is_served_as_it_answers_itself() {
    // Without the param it does not stream (G14).
    serves(|| {
        let line = "params: {set: {NO_BUFFERING: \"1\"}}";
        Case { program: Program::fcgiwrap(), connections: "", line, abort: Abort::Seen }
    });
}

#[test]
fn flup_is_served_as_it_answers_itself() {
    // It multiplexes without saying so (G1).
    serves(|| Case { program: Program::flup(), connections: ", multiplex: always", line: "", abort: Abort::Unseen });
}

#[test]
fn flup_asked_for_its_capabilities_is_served_one_request_at_a_time() {
    bounded(LIMIT, || {
        let app = Program::flup().start();
        let mux = Fcgimux::to(app.address()).pool("application: generic").start();
        let server = FRONTS[0].start(&app.scripts(), &mux.socket());
        echoes(&app, &server);
        keeps_tokens_apart(&app, &server);
    });
}

#[test]
fn requests_share_a_connection_of_an_application_that_multiplexes() {
    let cases = [(Program::go as fn() -> Program, ""), (Program::flup, ", multiplex: always")];
    for (program, connections) in cases {
        bounded(LIMIT, move || {
            let (app, mux, _) = Case { program: program(), connections, line: "", abort: Abort::Unseen }.start();
            for front in [&FRONTS[0], &FRONTS[3]] {
                let server = front.start(&app.scripts(), &mux.socket());
                let load = Load::on(server.address(), |_| Request::new("GET", "/app.php?sleep=400"));
                let load = thread::spawn(move || load.clients(16).count(32).run());
                let in_flight = || mux.metrics().sum("fcgimux_upstream_requests_in_flight", &[]);
                assert!(eventually(SOON, || in_flight() == 16.0), "{} in flight", in_flight());
                assert_eq!(mux.metrics().sum("fcgimux_upstream_connections", &[]), 1.0, "{}", front.name);
                load.join().expect("the load").assert_clean();
            }
        });
    }
}

/// A body of records that nobody asked for, with a request behind them, `shift` bytes from its start.
fn planted(app: &App, shift: usize, log: &str) -> Vec<u8> {
    let unit = fcgi::record(fcgi::STDOUT, 9, b"to skip.");
    let request = app.get(&format!("watch=write&ms=1&token=planted&log={}", app.log_file(log))).id(7);
    let sled = unit.iter().copied().cycle().take(unit.len() * 1_000);
    [vec![b'x'; shift], sled.collect(), request.bytes()].concat()
}

/// Where a library's buffer ends it goes on reading the body as records (G10): at some shift these begin there.
#[test]
fn a_request_planted_in_a_body_that_nobody_reads_is_never_executed() {
    for program in [Program::libfcgi as fn() -> Program, Program::perl] {
        bounded(LIMIT, move || {
            let app = program().start();
            let mux = Fcgimux::to(app.address()).pool("application: generic").start();
            for shift in 0..16 {
                app.connect().call(&app.post("early", planted(&app, shift, "direct")), SOON).whole();
                mux.call(&app.post("early", planted(&app, shift, "behind")), SOON).whole();
                assert!(mux.call(&app.get("early"), SOON).ended);
            }
            wait_until("it is executed where fcgimux is not between", || !app.notes("direct").is_empty());
            assert_eq!(app.notes("behind"), Vec::<String>::new());
        });
    }
}

/// The same answer as without anything between: status, body, and what the program says in headers.
#[track_caller]
fn assert_same(app: &App, answer: &Answer, direct: &Call) {
    let direct = app.call(direct);
    assert_eq!(answer.status, direct.http_status(), "{answer:?}");
    assert!(answer.whole, "{answer:?}");
    assert_eq!(answer.text(), direct.text());
    for name in ["x-token", "x-method", "x-length", "x-sha256", "x-application"] {
        assert_eq!(answer.header(name), direct.header(name).as_deref(), "{name}");
    }
}

fn echoes(app: &App, server: &Running) {
    let visitor = Visitor::of(server.address());
    let answer = visitor.get("/app.php?token=a");
    assert_same(app, &answer, &app.get("token=a"));
    let long = "v".repeat(4_000);
    let answer = visitor.get_with("/app.php?token=b", &format!("X-Test: {long}\r\n"));
    assert_same(app, &answer, &app.get("token=b").param("HTTP_X_TEST", &long));
    for length in [0, 1, 10_000, 300_000] {
        let body = vec![b'x'; length];
        let answer = visitor.post("/app.php?token=c", &body);
        assert_same(app, &answer, &app.post("token=c", body));
    }
    assert_same(app, &visitor.get("/app.php?early"), &app.get("early"));
    assert_same(app, &visitor.get("/app.php?stderr=word"), &app.get("stderr=word"));
    assert_same(app, &visitor.get("/app.php?size=0&token=d"), &app.get("size=0&token=d"));
}

fn carries_large_bodies(app: &App, server: &Running) {
    let (sent, answer) = upload(server.address(), "POST", "/app.php?upload", LARGE, SOON).expect("an answer");
    assert_eq!((answer.status, answer.body), (200, format!("{} {}\n", sent.length, sent.sha256).into_bytes()));
    let path = format!("/app.php?size={LARGE}");
    let (status, sum) = download(server.address(), &path, 65_536, Duration::ZERO, SOON).expect("an answer");
    assert_eq!((status, &sum), (200, &crate::support::sum_of_big(LARGE)));
    let direct = app.call(&app.get(&format!("size={LARGE}")));
    assert_eq!(direct.body().len() as u64, sum.length);
    let path = format!("/app.php?size={LARGE}&seed=7");
    let other = download(server.address(), &path, 65_536, Duration::ZERO, SOON).expect("an answer").1;
    assert_ne!(other.sha256, sum.sha256);
}

/// Each chunk is with the visitor before the next is sent.
fn streams(server: &Running, mux: &Fcgimux) {
    let pause = 200;
    crate::support::in_three_attempts(|| {
        let times = Visitor::of(server.address()).chunks(&format!("/app.php?stream=4&pause={pause}"));
        assert_eq!(times.len(), 4, "{}", mux.log());
        let gaps: Vec<u128> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        // Held back they would come together.
        let apart = gaps.iter().all(|gap| *gap > pause / 2);
        if apart { Ok(()) } else { Err(format!("chunks came {gaps:?} ms apart")) }
    });
}

fn outlives_a_visitor(app: &App, server: &Running, front: &Front, mux: &Fcgimux, abort: &Abort) {
    let log = format!("watch-{}", front.name.replace([' ', ','], "-"));
    let path = format!("/app.php?watch=write&ms=700&token=gone&log={}", app.log_file(&log));
    Visitor::of(server.address()).leave_in(&path, "watch\n");
    wait_until("the application's writing ends", || app.notes(&log).len() == 2);
    let seen = app.notes(&log)[1].contains("write failed");
    assert_eq!(seen, matches!(abort, Abort::Seen), "{}: {:?}", front.name, app.notes(&log));
    wait_until("the exchange is over", || rests(mux));
    assert_same(app, &Visitor::of(server.address()).get("/app.php?token=after"), &app.get("token=after"));
}

fn keeps_tokens_apart(app: &App, server: &Running) {
    // A process for each request, on a small machine.
    let count = if app.name() == "fcgiwrap" { 40 } else { 200 };
    let load = Load::on(server.address(), |number| match number % 4 {
        0 => Request::echo("POST", 10_000).body(3_000, number),
        _ => Request::echo("GET", 2_000),
    });
    load.clients(8).count(count).run().assert_clean();
}

/// No exchange runs, and nobody waits.
fn rests(mux: &Fcgimux) -> bool {
    let metrics = mux.metrics();
    let leased = metrics.sum("fcgimux_upstream_connections", &[("state", "leased")]);
    let waiting = metrics.sum("fcgimux_queue_depth", &[]);
    leased + waiting + metrics.sum("fcgimux_upstream_requests_in_flight", &[]) == 0.0
}
