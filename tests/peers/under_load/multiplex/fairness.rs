//! One exchange that pours beside small ones.

use std::time::{Duration, Instant};

use super::{KIB, MILLISECOND, SECOND, address};
use crate::support::{
    Fcgimux, bounded,
    fcgi::{Errand, Multiplexer, Values, WebServer},
    in_three_attempts,
};

const SMALL: usize = 100;
const POUR: u64 = 1 << 30;
/// What the small ones may wait for longer beside the pour than without it.
const FACTOR: u32 = 5;
const ALONE: Duration = Duration::from_secs(2);
const BESIDE: Duration = Duration::from_secs(4);

fn setup() -> (Multiplexer, Fcgimux) {
    let application = Multiplexer::start();
    let mux = Fcgimux::to(application.address())
        .pool("application: generic")
        .pool("connections: {per_endpoint: 1, max_requests_in_flight: 128}")
        .start();
    (application, mux)
}

fn small(number: usize) -> Errand {
    Errand::get(format!("small{number}"), KIB)
}

/// Keeps the small ones under way on one connection.
struct Loop {
    web_server: WebServer,
    number: usize,
    /// Set once the pour has ended, where it is on this connection too.
    poured: bool,
}

impl Loop {
    fn on(address: &str) -> Self {
        Self { web_server: WebServer::connect(address), number: 0, poured: false }
    }

    /// For so long, or until `enough`; times of those that ended meanwhile.
    fn run(&mut self, time: Duration, mut enough: impl FnMut() -> bool) -> Vec<Duration> {
        let (start, mut times, mut running) = (Instant::now(), Vec::new(), 0);
        loop {
            let more = start.elapsed() < time && !self.poured && !enough();
            while more && running < SMALL {
                self.number += 1;
                self.web_server.begin(small(self.number));
                running += 1;
            }
            if running == 0 {
                return times;
            }
            if let Some(took) = self.next() {
                times.push(took);
                running -= 1;
            }
        }
    }

    /// The time of a small one; none: it was the pour.
    fn next(&mut self) -> Option<Duration> {
        let (errand, done) = self.web_server.next_done(60 * SECOND).expect("an exchange ends");
        assert_eq!(done.verdict(&errand), Ok(()));
        if errand.token.starts_with("pour") {
            println!("poured in {:.1?}", done.took);
            self.poured = true;
            return None;
        }
        Some(done.took)
    }

    /// What is left of the pour comes without the others.
    fn end(mut self) {
        while !self.poured {
            assert!(self.next().is_none());
        }
        assert_eq!(self.web_server.defects(), Vec::<String>::new());
    }
}

/// Small ones on one connection of a web server, the pour on another.
fn judge_on_two_connections(address: &str, pour: &Errand) -> Result<(), String> {
    let (mut small, mut pouring) = (Loop::on(address), Loop::on(address));
    let mut alone = small.run(ALONE, || false);
    pouring.web_server.begin(pour.clone());
    let mut beside = small.run(BESIDE, || pouring.web_server.running() == 0);
    pouring.end();
    judge(&mut alone, &mut beside)
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

fn judge(alone: &mut [Duration], beside: &mut [Duration]) -> Result<(), String> {
    let [one, other] = [&mut *alone, &mut *beside].map(|times| percentile(times, 99));
    let words = format!(
        "p99 {one:.2?} alone ({} exchanges, p50 {:.2?}), {other:.2?} beside ({}, p50 {:.2?}), {:.1} times",
        alone.len(),
        percentile(alone, 50),
        beside.len(),
        percentile(beside, 50),
        other.as_secs_f64() / one.as_secs_f64()
    );
    println!("{words}");
    if other <= FACTOR * one { Ok(()) } else { Err(words) }
}

#[test]
fn a_pour_does_not_hold_up_small_exchanges_on_its_connection_to_the_application() {
    bounded(180 * SECOND, || {
        let (application, mux) = setup();
        let pour = Errand::get("pour", POUR).and("record=65535");
        in_three_attempts(|| judge_on_two_connections(&address(&mux), &pour));
        assert_eq!(application.tally().connections, 1, "all on one connection");
        application.assert_undisturbed();
    });
}

/// Pours into the connection of the web server that has the small ones, until it has ended.
fn pour_into_the_connection_of_the_small_ones(
    address: &str,
    judge: impl Fn(&mut [Duration], &mut [Duration]) -> Result<(), String>,
) {
    in_three_attempts(|| {
        let mut small = Loop::on(address);
        let mut alone = small.run(ALONE, || false);
        small.web_server.begin(Errand::get("pour", POUR).and("record=65535"));
        let mut beside = small.run(BESIDE, || false);
        small.end();
        judge(&mut alone, &mut beside)
    });
}

#[test]
fn a_pour_does_not_hold_up_small_exchanges_on_its_connection_of_a_web_server() {
    bounded(180 * SECOND, || {
        let (application, mux) = setup();
        pour_into_the_connection_of_the_small_ones(&address(&mux), judge);
        application.assert_undisturbed();
    });
}

/// What the peers make of it with nothing between them: the small ones wait for what lies in the kernel's buffers.
#[test]
fn the_peers_hold_up_nobody_themselves() {
    bounded(180 * SECOND, || {
        let application = Multiplexer::start();
        pour_into_the_connection_of_the_small_ones(&application.address(), |alone, beside| {
            let words = judge(alone, beside).err().unwrap_or_default();
            if percentile(beside, 99) < 100 * MILLISECOND { Ok(()) } else { Err(words) }
        });
        application.assert_undisturbed();
    });
}

/// Where each exchange has a connection of its own to the application.
#[test]
fn a_pour_from_a_connection_of_its_own_does_not_hold_up_small_exchanges_of_its_web_server() {
    bounded(180 * SECOND, || {
        let application = Multiplexer::with(Values { multiplexes: false, ..Values::default() });
        let mux = Fcgimux::to(application.address()).pool("connections: {per_endpoint: 101}").start();
        pour_into_the_connection_of_the_small_ones(&address(&mux), judge);
        application.assert_undisturbed();
    });
}

/// The other way: a body that pours in.
#[test]
fn a_large_body_does_not_hold_up_small_exchanges() {
    bounded(180 * SECOND, || {
        let (application, mux) = setup();
        let mut attempts = 0;
        in_three_attempts(|| {
            attempts += 1;
            let pour = Errand::post(format!("pour{attempts}"), POUR / 2, 10);
            judge_on_two_connections(&address(&mux), &pour)
        });
        application.assert_undisturbed();
    });
}
