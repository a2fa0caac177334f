//! Exchanges of every kind over four connections: each gets its own bytes, in order, once.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{KIB, MILLISECOND, SECOND, address, in_flight};
use crate::support::{
    Fcgimux, Level, bounded,
    fcgi::{Abort, Done, Errand, Multiplexer, Pace, Random, Values, WebServer, run_alone},
    wait_until,
};

/// Connections with one exchange each, at a time.
const ALONE: usize = 16;
/// Connections with many exchanges each, and how many.
const SHARED: usize = 4;
const AT_ONCE: usize = 24;
/// The largest body and the largest response.
const MOST: u64 = 200 * KIB;

#[derive(Clone, Copy)]
struct Pass {
    /// Its tokens begin so.
    name: &'static str,
    /// Whether some requests that are taken back go on, as those of Go's applications: a web server without fcgimux before
    /// it gets to see that.
    goes_on: bool,
}

/// Hands out numbers, keeps what was wrong.
struct Work {
    address: String,
    pass: Pass,
    /// The next number for connections of one exchange each, and for those of many: the even ones and the odd ones.
    next: [AtomicUsize; 2],
    count: usize,
    wrong: Mutex<Vec<String>>,
    whole: AtomicUsize,
    aborted: AtomicUsize,
    bytes: AtomicUsize,
}

impl Work {
    fn errands(&self, half: usize) -> impl Iterator<Item = (Errand, Random)> {
        std::iter::from_fn(move || {
            let number = 2 * self.next[half].fetch_add(1, Ordering::Relaxed) + half;
            let enough = number >= self.count || self.wrong.lock().expect("wrong").len() > 10;
            (!enough).then(|| errand(self.pass, number))
        })
    }

    fn conclude(&self, errand: &Errand, done: &Done) {
        let verdict = if done.aborted { done.verdict_of_aborted(errand) } else { done.verdict(errand) };
        self.count_up(errand, done, verdict);
    }

    /// Where the web server hangs up nothing more can come than what has come.
    fn conclude_alone(&self, errand: &Errand, done: &Done) {
        let verdict = if done.aborted { done.wrong.clone().map_or(Ok(()), Err) } else { done.verdict(errand) };
        self.count_up(errand, done, verdict);
    }

    fn assert_right(self, took: Duration) {
        let (whole, aborted) = (self.whole.into_inner(), self.aborted.into_inner());
        let rate = whole as f64 / took.as_secs_f64();
        let mebibytes = self.bytes.into_inner() as f64 / f64::from(1 << 20);
        println!("{whole} whole, {aborted} taken back, {took:.1?}, {rate:.0} exchanges/s, {mebibytes:.0} MiB");
        assert_eq!(self.wrong.into_inner().expect("wrong"), Vec::<String>::new());
        assert_eq!(whole + aborted, self.count);
        assert!(aborted * 12 < self.count, "{aborted} were taken back");
    }

    fn count_up(&self, errand: &Errand, done: &Done, verdict: Result<(), String>) {
        let count = if done.aborted { &self.aborted } else { &self.whole };
        count.fetch_add(1, Ordering::Relaxed);
        let bytes = usize::try_from(done.received + errand.body).expect("a size");
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Err(words) = verdict {
            self.wrong.lock().expect("wrong").push(words);
        }
    }
}

/// The same for a number in every run, from whichever connection it goes out.
fn errand(pass: Pass, number: usize) -> (Errand, Random) {
    let mut random = Random::seeded(number as u64);
    let (token, response) = (format!("{}{number}", pass.name), random.size(MOST));
    let errand =
        if random.one_in(2) { Errand::get(token, response) } else { Errand::post(token, random.size(MOST), response) };
    // What it makes of an abort, if there is one; Go's applications go on for a while.
    let errand = match random.below(3) {
        0 => errand,
        1 => errand.and("abort=late"),
        2 if pass.goes_on => errand.and("abort=go"),
        _ => errand,
    };
    let errand = match random.below(8) {
        0 => errand.and("delay=5"),
        1 => errand.and("stream=1"),
        _ => errand,
    };
    (errand, random)
}

fn alone(work: &Work) {
    for (errand, mut random) in work.errands(0) {
        // The body goes out before the response is read.
        let errand = Errand { more: errand.more.replace("&stream=1", ""), ..errand };
        let (errand, pace) = match random.below(40) {
            0 | 1 => {
                let at = random.size(errand.response);
                (errand.and("delay=2"), Pace::Gone(at))
            }
            2 => {
                let at = random.size(errand.body + 300);
                (errand.abort(Abort::InBody(at)), Pace::Fast)
            }
            3 => (errand, Pace::Slow(16 * 1024, MILLISECOND)),
            _ => (errand, Pace::Fast),
        };
        let done = run_alone(&work.address, &errand, pace);
        work.conclude_alone(&errand, &done);
    }
}

fn shared(work: &Work, mut web_server: WebServer) {
    let errands = work.errands(1).map(|(errand, mut random)| match random.below(40) {
        0 => errand.abort(Abort::InResponse(0)),
        1 => {
            let at = 1 + random.size(errand.response);
            errand.abort(Abort::InResponse(at))
        }
        2 => {
            let at = random.size(errand.body);
            errand.abort(Abort::InBody(at))
        }
        _ => errand,
    });
    web_server.run(AT_ONCE, errands, |errand, done| work.conclude(errand, done));
    let defects = web_server.defects();
    if !defects.is_empty() {
        work.wrong.lock().expect("wrong").extend(defects);
    }
}

fn exchange(address: String, pass: Pass, count: usize) -> Work {
    let work = Work {
        address,
        pass,
        next: [const { AtomicUsize::new(0) }; 2],
        count,
        wrong: Mutex::default(),
        whole: AtomicUsize::new(0),
        aborted: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
    };
    thread::scope(|scope| {
        for _ in 0..ALONE {
            scope.spawn(|| alone(&work));
        }
        for number in 0..SHARED {
            let web_server = match number {
                0 => WebServer::slow(&work.address, 64 * 1024, 2 * MILLISECOND),
                _ => WebServer::connect(&work.address),
            };
            let work = &work;
            scope.spawn(move || shared(work, web_server));
        }
    });
    work
}

fn cross_talk(count: usize, limit: Duration) {
    bounded(limit, move || {
        let application = Multiplexer::start();
        let mux = Fcgimux::to(application.address())
            .pool("application: generic")
            .pool(
                "connections: {per_endpoint: 4, max_requests_in_flight: 32, idle_timeout: 200ms, surplus_idle: 100ms}",
            )
            .start();
        // Memory for the first exchanges is no leak.
        let work = exchange(address(&mux), Pass { name: "warm", goes_on: true }, 500);
        assert_eq!(work.wrong.into_inner().expect("wrong"), Vec::<String>::new());
        let level = Level::of(&mux);
        let start = Instant::now();
        let work = exchange(address(&mux), Pass { name: "t", goes_on: true }, count);
        let took = start.elapsed();
        work.assert_right(took);
        wait_until("no exchange is under way", || in_flight(&mux) == 0.0);
        wait_until("the application has no open id", || application.count(|tally| tally.open_ids) == 0);
        application.assert_undisturbed();
        let tally = application.tally();
        println!(
            "{} connections of the application, {} ids at once on one, {} aborts, {} late records",
            tally.connections, tally.most_open_ids_on_a_connection, tally.aborts, tally.late_records
        );
        assert!(tally.most_open_ids_on_a_connection <= 32, "max_requests_in_flight is 32");
        assert!(tally.most_open_ids > 32, "{} at once over all", tally.most_open_ids);
        assert_eq!((tally.executed_again, tally.lost), (0, 0), "each once, and no connection was lost");
        level.assert_back(&mux);
    });
}

/// What the peers find with nothing between them, and how fast they are.
#[test]
fn exchanges_without_a_multiplexer_between_get_their_own_bytes() {
    bounded(60 * SECOND, || {
        let application = Multiplexer::start();
        let start = Instant::now();
        exchange(application.address(), Pass { name: "t", goes_on: false }, 10_000).assert_right(start.elapsed());
        application.assert_undisturbed();
    });
}

/// As php-fpm does: then the many are on the connections of web servers only.
#[test]
fn exchanges_of_few_web_servers_before_an_application_that_takes_one_at_a_time_get_their_own_bytes() {
    bounded(120 * SECOND, || {
        let application = Multiplexer::with(Values { multiplexes: false, ..Values::default() });
        let mux = Fcgimux::to(application.address())
            .pool("connections: {per_endpoint: 32, idle_timeout: 200ms, surplus_idle: 100ms}")
            .start();
        let start = Instant::now();
        exchange(address(&mux), Pass { name: "t", goes_on: false }, 10_000).assert_right(start.elapsed());
        wait_until("the application has no open id", || application.count(|tally| tally.open_ids) == 0);
        application.assert_undisturbed();
        assert_eq!(application.count(|tally| tally.most_open_ids_on_a_connection), 1);
    });
}

#[test]
fn forty_thousand_exchanges_over_four_connections_get_their_own_bytes() {
    cross_talk(40_000, 120 * SECOND);
}

#[test]
#[ignore = "takes a quarter of an hour"]
fn stress_a_million_exchanges_over_four_connections_get_their_own_bytes() {
    cross_talk(1_000_000, 2_400 * SECOND);
}
