//! One exchange that pours beside small ones.

use std::time::{Duration, Instant};

use super::{
    KIB, SECOND, address,
    support::{
        Fcgimux, bounded,
        fcgi::{Errand, Multiplexer, WebServer},
        in_three_attempts,
    },
};

const SMALL: usize = 100;
const POUR: u64 = 1 << 30;
/// What the small ones may wait for longer beside the pour than without it.
const FACTOR: u32 = 5;

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

/// Keeps the small ones under way as long as `goes_on` says so; times of those that ended meanwhile.
struct Loop<'a> {
    web_server: &'a mut WebServer,
    number: usize,
    times: Vec<Duration>,
}

impl Loop<'_> {
    fn run(&mut self, mut goes_on: impl FnMut() -> bool) -> Vec<Duration> {
        self.times.clear();
        let mut running = 0;
        let mut more = true;
        let mut pour_done = false;
        loop {
            more = more && !pour_done && goes_on();
            while more && running < SMALL {
                self.number += 1;
                self.web_server.begin(small(self.number));
                running += 1;
            }
            if running == 0 {
                return std::mem::take(&mut self.times);
            }
            let (errand, done) = self.web_server.next_done(20 * SECOND).expect("an exchange ends");
            assert_eq!(done.verdict(&errand), Ok(()));
            if errand.token == "pour" {
                println!("{POUR} bytes in {:.1?}", done.took);
                pour_done = true;
            } else {
                self.times.push(done.took);
                running -= 1;
            }
        }
    }
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
        in_three_attempts(|| {
            let (mut pouring, mut others) = (WebServer::connect(&address(&mux)), WebServer::connect(&address(&mux)));
            let mut small = Loop { web_server: &mut others, number: 0, times: Vec::new() };
            let start = Instant::now();
            let mut alone = small.run(|| start.elapsed() < 2 * SECOND);
            pouring.begin(Errand::get("pour", POUR).and("record=65535"));
            let mut pour = None;
            let mut beside = small.run(|| {
                pour = pour.take().or_else(|| pouring.next_done(Duration::ZERO));
                pour.is_none()
            });
            let (errand, done) = pour.expect("the pour ends");
            println!("1 GiB in {:.1?}", done.took);
            assert_eq!(done.verdict(&errand), Ok(()));
            judge(&mut alone, &mut beside)
        });
        assert_eq!(application.tally().connections, 1, "all on one connection");
        application.assert_undisturbed();
    });
}

#[test]
fn a_pour_does_not_hold_up_small_exchanges_on_its_connection_of_a_web_server() {
    bounded(180 * SECOND, || {
        let (application, mux) = setup();
        in_three_attempts(|| {
            let mut web_server = WebServer::connect(&address(&mux));
            let mut small = Loop { web_server: &mut web_server, number: 0, times: Vec::new() };
            let start = Instant::now();
            let mut alone = small.run(|| start.elapsed() < 2 * SECOND);
            small.web_server.begin(Errand::get("pour", POUR).and("record=65535"));
            let mut beside = small.run(|| true);
            judge(&mut alone, &mut beside)
        });
        application.assert_undisturbed();
    });
}

/// The other way: a body that pours in.
#[test]
fn a_large_body_does_not_hold_up_small_exchanges() {
    bounded(180 * SECOND, || {
        let (application, mux) = setup();
        in_three_attempts(|| {
            let (mut pouring, mut others) = (WebServer::connect(&address(&mux)), WebServer::connect(&address(&mux)));
            let mut small = Loop { web_server: &mut others, number: 0, times: Vec::new() };
            let start = Instant::now();
            let mut alone = small.run(|| start.elapsed() < 2 * SECOND);
            pouring.begin(Errand::post(format!("upload{:?}", start.elapsed()), POUR / 2, 10));
            let mut pour = None;
            let mut beside = small.run(|| {
                pour = pour.take().or_else(|| pouring.next_done(Duration::ZERO));
                pour.is_none()
            });
            let (errand, done) = pour.expect("the upload ends");
            println!("half a GiB up in {:.1?}", done.took);
            assert_eq!(done.verdict(&errand), Ok(()));
            judge(&mut alone, &mut beside)
        });
        application.assert_undisturbed();
    });
}
