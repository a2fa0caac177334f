//! A reader that reads nothing, beside a thousand exchanges on one connection to the application.

use std::time::Instant;

use super::{KIB, SECOND, address, in_flight};
use crate::support::{
    Fcgimux, bounded, eventually,
    fcgi::{Errand, Multiplexer, Values, WebServer},
    wait_until,
};

const EXCHANGES: u64 = 1_000;
const BUFFER_KIB: u64 = 16;
/// Beyond the buffers of all exchanges, in both directions: what the sockets, the tables and the allocator take.
const CONSTANT_KIB: u64 = 24 * KIB;
/// Much more than a buffer and what the sockets take.
const RESPONSE: u64 = 200 * KIB;

fn setup() -> (Multiplexer, Fcgimux) {
    let application = Multiplexer::start();
    let mux = Fcgimux::to(application.address())
        .pool("application: generic")
        .pool("connections: {per_endpoint: 1, max_requests_in_flight: 1024, buffer: 16KiB, stall_timeout: 1s}")
        .listener("max_requests_in_flight: 1024")
        .start();
    let warm = WebServer::connect(&address(&mux)).warm();
    assert_eq!(warm, Ok(()));
    (application, mux)
}

trait Warm {
    fn warm(self) -> Result<(), String>;
}

impl Warm for WebServer {
    /// What the first exchange brings is not a matter of how many there are.
    fn warm(mut self) -> Result<(), String> {
        self.begin(Errand::post("warm", 100_000, 100_000));
        let (errand, done) = self.next_done(10 * SECOND).ok_or("nothing came")?;
        done.verdict(&errand)
    }
}

#[track_caller]
fn assert_bounded(mux: &Fcgimux, before_kib: u64) {
    let grown = mux.peak_rss_kib().saturating_sub(before_kib);
    let most = EXCHANGES * BUFFER_KIB * 2 + CONSTANT_KIB;
    println!("grown by {grown} KiB, may grow by {most} KiB");
    assert!(grown <= most, "grown by {grown} KiB, more than {most}");
}

#[track_caller]
fn assert_stalled(mux: &Fcgimux) {
    let metrics = mux.metrics();
    let (count, seconds) =
        (metrics.sum("fcgimux_stall_seconds_count", &[]), metrics.sum("fcgimux_stall_seconds_sum", &[]));
    println!("{count} stalls, {seconds} s");
    assert!(count >= 1.0 && seconds >= 0.9, "{count} stalls of {seconds} s together");
}

#[test]
fn one_dead_reader_among_a_thousand_exchanges_is_aborted_and_the_others_end_right() {
    bounded(120 * SECOND, || {
        let (application, mux) = setup();
        let before = mux.rss_kib();
        let start = Instant::now();
        let mut dead = WebServer::deaf(&address(&mux));
        dead.begin(Errand::get("dead", 16 << 20));
        wait_until("the dead one runs", || application.executed("dead") == 1);
        // Nine connections share the others; none is answered before all are there.
        let mut web_servers: Vec<_> = (0..9).map(|_| WebServer::connect(&address(&mux))).collect();
        for number in 1..EXCHANGES {
            let errand = Errand::post(number, 10 * KIB, RESPONSE).and("delay=500");
            web_servers[number as usize % 9].begin(errand);
        }
        for number in 1..EXCHANGES {
            let (errand, done) = web_servers[number as usize % 9].next_done(60 * SECOND).expect("an exchange ends");
            assert_eq!(done.verdict(&errand), Ok(()));
        }
        println!("all but the dead one ended after {:.1?}", start.elapsed());
        let tally = application.tally();
        assert_eq!(tally.connections, 1);
        assert!(tally.most_open_ids > 900, "{} at once", tally.most_open_ids);
        let aborted = eventually(5 * SECOND, || application.tally().aborts == 1);
        assert!(aborted, "{} aborts in place of that of the dead reader's exchange", application.tally().aborts);
        wait_until("nothing is under way", || in_flight(&mux) == 0.0 && application.tally().open_ids == 0);
        assert_stalled(&mux);
        assert_bounded(&mux, before);
        application.assert_undisturbed();
        assert_eq!(application.tally().connections, 1, "the connection is kept");
    });
}

/// The stall of each of its exchanges must not come behind that of the one before: they are all held up by the same.
#[test]
fn a_dead_web_server_with_a_thousand_exchanges_does_not_hold_up_others_for_long() {
    bounded(120 * SECOND, || {
        let (application, mux) = setup();
        let before = mux.rss_kib();
        let mut dead = WebServer::deaf(&address(&mux));
        for number in 0..EXCHANGES {
            dead.begin(Errand::get(format!("dead{number}"), RESPONSE).and("delay=500"));
        }
        wait_until("they run", || application.tally().executed_tokens() as u64 == 1 + EXCHANGES);
        // Their responses come, and fill their buffers and those of the kernel.
        std::thread::sleep(SECOND);
        let start = Instant::now();
        let mut other = WebServer::connect(&address(&mux));
        let errands = (0..1_000).map(|number| Errand::post(number, KIB, 20 * KIB));
        other.run(20, errands, |errand, done| assert_eq!(done.verdict(errand), Ok(())));
        let took = start.elapsed();
        println!("1,000 others took {took:.1?}");
        assert!(took < 20 * SECOND, "others were held up for {took:.1?}, with a stall_timeout of 1 s");
        assert_stalled(&mux);
        assert_bounded(&mux, before);
        application.assert_undisturbed();
        drop(dead);
        wait_until("nothing is under way", || in_flight(&mux) == 0.0 && application.tally().open_ids == 0);
        assert_eq!(application.tally().connections, 1, "the connection is kept");
    });
}

/// Where each exchange has a connection of its own to the application, nobody waits for a dead reader at all.
#[test]
fn a_dead_web_server_keeps_its_own_connections_to_the_application_and_little_memory() {
    bounded(120 * SECOND, || {
        let application = Multiplexer::with(Values { multiplexes: false, ..Values::default() });
        let mux = Fcgimux::to(application.address()).pool("connections: {per_endpoint: 110}").start();
        assert_eq!(WebServer::connect(&address(&mux)).warm(), Ok(()));
        let before = mux.rss_kib();
        let mut dead = WebServer::deaf(&address(&mux));
        for number in 0..100 {
            dead.begin(Errand::get(format!("dead{number}"), 4 << 20));
        }
        wait_until("they run", || application.tally().executed_tokens() == 101);
        let mut other = WebServer::connect(&address(&mux));
        let errands = (0..2_000).map(|number| Errand::post(number, KIB, 20 * KIB));
        let start = Instant::now();
        other.run(10, errands, |errand, done| assert_eq!(done.verdict(errand), Ok(())));
        println!("2,000 others took {:.1?}", start.elapsed());
        assert!(start.elapsed() < 10 * SECOND);
        let grown = mux.peak_rss_kib().saturating_sub(before);
        println!("grown by {grown} KiB");
        assert!(grown < 100 * 64 + CONSTANT_KIB, "grown by {grown} KiB");
        // It reads after all, and everything is there.
        dead.listen();
        for _ in 0..100 {
            let (errand, done) = dead.next_done(20 * SECOND).expect("an exchange ends");
            assert_eq!(done.verdict(&errand), Ok(()));
        }
        application.assert_undisturbed();
    });
}
