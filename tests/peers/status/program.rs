//! What fcgimux makes of the status page and of the ping.

use std::{net::SocketAddr, thread, time::Duration};

use crate::status::{LIMIT, SECOND, SOON, Watched, with_pages};
use crate::support::{
    Before, Fcgimux, Measures, PhpFpm, Port, bounded, eventually,
    fcgi::{Call, Connection},
    sockets::TimeWait,
    wait_until, warnings,
};

/// The page is read once a second, and php-fpm counts its queue once a second.
const SEEN_WITHIN: Duration = Duration::from_secs(8);

/// In front of it, reading its status page.
fn reading(watched: &Watched) -> Fcgimux {
    Fcgimux::to(watched.php.address()).pool(&format!("status: {{port: {}}}", watched.status.number())).start()
}

fn served(mux: &Fcgimux, php: &PhpFpm) {
    let reply = mux.call(&Call::get(&php.script("echo.php")).query("token=a"), 10 * SECOND).whole();
    assert_eq!(reply.text(), "a\n");
}

fn closed(metrics: &Measures, reason: &str) -> f64 {
    metrics.sum("fcgimux_upstream_connections_closed_total", &[("reason", reason)])
}

/// Lines at WARN that hold this.
fn complaints(mux: &Fcgimux, part: &str) -> Vec<String> {
    warnings(mux).into_iter().filter(|line| line.contains(part)).collect()
}

#[test]
fn workers_are_counted_and_those_that_others_hold_are_seen_without_taking_one() {
    bounded(LIMIT, || {
        let watched = Watched::start(PhpFpm::pool(3));
        let mux = reading(&watched);
        let before = Before::of(&mux);
        let saturated = || mux.metrics().sum("fcgimux_endpoint_saturated", &[]) == 1.0;
        let held = [(); 3].map(|()| watched.php.proven());
        let accepted = watched.board().accepted;
        assert!(eventually(SEEN_WITHIN, saturated), "{}", mux.log());
        assert_eq!(watched.board().accepted, accepted, "it has taken a worker to find that out");
        // And no more connections than workers will be opened.
        let limit = mux.metrics().sum("fcgimux_upstream_connections_limit", &[]);
        assert_eq!(limit, 3.0, "{}", mux.page("/metrics").1);
        held.into_iter().for_each(Connection::reset);
        assert!(eventually(SEEN_WITHIN, || !saturated()), "{}", mux.log());
        served(&mux, &watched.php);
        before.assert_nothing_left(&mux, &[]);
        let ports = [watched.php.port(), watched.status.number()];
        assert_eq!(ports.map(|port| TimeWait::of(port).total()), [0, 0]);
    });
}

#[test]
fn an_idle_connection_is_given_back_when_others_wait_for_its_worker() {
    bounded(LIMIT, || {
        let watched = Watched::start(PhpFpm::pool(1));
        // The only connection may rest for 30 s.
        let mux = reading(&watched);
        served(&mux, &watched.php);
        let mut other = watched.php.connect();
        assert_eq!(other.fence(SEEN_WITHIN), Ok(vec![]), "no worker: {}", mux.page("/metrics").1);
        assert_eq!(closed(&mux.metrics(), "pressure"), 1.0, "{}", mux.page("/metrics").1);
        other.reset();
        served(&mux, &watched.php);
    });
}

#[test]
fn a_page_that_cannot_be_read_is_told_once_with_what_to_do_about_it() {
    bounded(LIMIT, || {
        let (workers, status) = (Port::free(), Port::free());
        let pool = |path: &str| format!("status: {{port: {}, path: {path}}}", status.number());
        let [early, misled] =
            ["/status", "/other"].map(|path| Fcgimux::to(workers.address()).pool(&pool(path)).start());
        for mux in [&early, &misled] {
            wait_until("nobody listens", || complaints(mux, "pm.status_listen").len() == 1);
        }
        let php = with_pages(PhpFpm::pool(2).at(workers.address()), status.address()).start();
        wait_until("the page is there", || early.log().contains("is there again after"));
        // Several looks later.
        thread::sleep(2 * SECOND);
        assert_eq!(complaints(&early, "status page").len(), 1, "{}", early.log());
        assert_eq!(complaints(&misled, "status page").len(), 1, "{}", misled.log());
        for mux in [&early, &misled] {
            served(mux, &php);
        }
    });
}

#[test]
fn a_ping_that_waits_for_a_worker_is_no_failure_and_one_that_is_not_answered_is() {
    bounded(LIMIT, || {
        let php = [(); 2].map(|()| Watched::start(PhpFpm::pool(2)));
        let mute = PhpFpm::pool(2).start();
        let address = |watched: &Watched| watched.php.tcp_address();
        let mux = Fcgimux::to(address(&php[0]))
            .and(address(&php[1]))
            .and(mute.tcp_address())
            .pool("ping: {path: /ping, interval: 100ms}")
            .pool("timeouts: {prove: 300ms}")
            .start();
        let up = |address: SocketAddr| {
            mux.metrics().sum("fcgimux_endpoint_up", &[("endpoint", &address.to_string())]) == 1.0
        };
        // Busy, for longer than many pings.
        let _held = [(); 2].map(|()| php[0].php.proven());
        assert!(eventually(SOON * 3, || !up(mute.tcp_address())), "{}", mux.log());
        thread::sleep(SECOND);
        assert!(up(address(&php[0])) && up(address(&php[1])), "{}", mux.log());
        let told = complaints(&mux, "/ping");
        assert!(told.len() == 1 && told[0].contains("ping.path"), "{told:?}");
        served(&mux, &php[1].php);
    });
}
