//! php-fpm reloads or stops while nothing happens: it must not wait for connections that only rest.

use std::{thread, time::Instant};

use nix::sys::signal::Signal;

use crate::support::{Exit, Load, PhpFpm, Pods, Pool, Request, bounded, eventually, proc};
use crate::under_load::fleet::{
    MILLISECOND, SECOND,
    site::{Site, items},
};

const WORKERS: usize = 4;

fn pool() -> Pool {
    PhpFpm::pool(WORKERS).global("process_control_timeout", "10s")
}

/// So many requests at a time, once: each leaves a connection that rests.
fn burst(site: &Site, clients: u64) {
    let request = |_| Request::echo("GET", 100).micros(30_000);
    Load::on(site.nginx.address(), request).clients(8).count(clients).run().assert_clean();
}

/// Until at least so many rest. Not all at once behind a reload: a worker that did not come at once makes the pool give
/// back what rests for a while.
fn let_rest(site: &Site, connections: f64) {
    let rest = || {
        burst(site, WORKERS as u64);
        eventually(100 * MILLISECOND, || resting(site) >= connections)
    };
    assert!(eventually(10 * SECOND, rest), "{}", site.mux.page("/metrics").1);
}

fn resting(site: &Site) -> f64 {
    site.mux.metrics().sum("fcgimux_upstream_connections", &[("state", "idle")])
}

#[test]
fn a_reload_and_a_stop_in_the_middle_of_nothing_are_done_within_a_second() {
    bounded(60 * SECOND, || {
        let mut pods = Pods::new();
        let mut pod = pods.start(pool());
        let site = Site::start(&pods, &items(&[&pod]), &["connections: {per_endpoint: 4, surplus_idle: 20s}"]);
        let_rest(&site, 2.0);
        let (workers, rested, start) = (pod.workers(), resting(&site), Instant::now());
        pod.signal(Signal::SIGUSR2);
        let gone = eventually(12 * SECOND, || workers.iter().all(|worker| !proc::exists(*worker)));
        let took = start.elapsed();
        println!("{rested} connections rested; the old workers were gone after {took:.2?}");
        assert!(gone && took <= SECOND, "{took:?}");

        let_rest(&site, 2.0);
        // Nothing is due any more, but for the heartbeats.
        thread::sleep(SECOND / 2);
        let (rested, start) = (resting(&site), Instant::now());
        pod.signal(Signal::SIGQUIT);
        let exit = pod.wait_exit(12 * SECOND);
        let took = start.elapsed();
        println!("{rested} connections rested; it was gone after {took:.2?}");
        assert_eq!(exit, Some(Exit::Code(0)), "{}", pod.php().error_log());
        assert!(took <= SECOND, "{took:?}");
    });
}

#[test]
fn a_post_to_a_worker_that_has_just_been_told_to_go_is_served_by_its_successor() {
    bounded(60 * SECOND, || {
        let mut pods = Pods::new();
        let pod = pods.start(pool());
        let site = Site::start(&pods, &items(&[&pod]), &["connections: {per_endpoint: 4}"]);
        // The second kind may be left unread by PHP in part, so that a reset says nothing of it.
        for (round, body) in [300, 30_000, 300, 30_000].into_iter().enumerate() {
            let_rest(&site, 1.0);
            thread::sleep(50 * MILLISECOND);
            pod.signal(Signal::SIGUSR2);
            // It has been told, and rests in a read: it answers one GET_VALUES and goes, whatever is behind that.
            thread::sleep(10 * MILLISECOND);
            let post = move |number| Request::echo("POST", 100).body(body, number);
            let report = Load::on(site.nginx.address(), post).clients(2).count(2).run();
            println!("round {round}: {report}");
            report.assert_clean();
            pods.journal().assert_posts_once();
        }
    });
}
