//! php-fpm's status page and its ping: what a real one says of its workers (facts of section 15, without fcgimux in
//! between), and what fcgimux makes of it.
#![allow(clippy::disallowed_methods, reason = "a real php-fpm is measured in real time")]

mod program;

use std::{net::SocketAddr, thread, time::Duration};

use crate::support::{
    PhpFpm, Pool, Port, bounded, eventually,
    fcgi::{Call, Connection, End, Reply},
    sockets::TimeWait,
    wait_until,
};
use fcgimux::mux::scoreboard::{Children, Manager, QUERY, Scoreboard, State};

const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything takes that is answered at once, on a busy machine.
const SOON: Duration = Duration::from_secs(3);
/// What is not answered within this is not being answered.
const A_WHILE: Duration = Duration::from_millis(500);
/// Behind this php-fpm's master has looked once more.
const COUNTED: Duration = Duration::from_millis(1_200);

/// A php-fpm that keeps its pages apart from its workers.
pub(crate) struct Watched {
    pub(crate) php: PhpFpm,
    pub(crate) status: Port,
}

impl Watched {
    pub(crate) fn start(pool: Pool) -> Self {
        let status = Port::free();
        Self { php: with_pages(pool, status.address()).start(), status }
    }

    /// The page, read as fcgimux reads it.
    #[track_caller]
    pub(crate) fn board(&self) -> Scoreboard {
        let reply = ask(self.status.address(), "/status", SOON).whole();
        Scoreboard::parse(reply.body()).expect("a status page")
    }
}

fn with_pages(pool: Pool, status: SocketAddr) -> Pool {
    pool.set("pm.status_path", "/status").set("pm.status_listen", &status.to_string()).set("ping.path", "/ping")
}

/// One question on a connection of its own, closed by RST.
fn ask(address: SocketAddr, path: &str, limit: Duration) -> Reply {
    let mut connection = Connection::tcp(address);
    let reply = connection.call(&Call::get(path).query(QUERY).last(), limit);
    connection.reset();
    reply
}

fn with(pool: Pool, test: impl FnOnce(&Watched) + Send + 'static) {
    bounded(LIMIT, move || test(&Watched::start(pool)));
}

fn dynamic(children: usize) -> Pool {
    let pool = PhpFpm::pool(children).set("pm", "dynamic").set("pm.start_servers", "1");
    pool.set("pm.min_spare_servers", "1").set("pm.max_spare_servers", "2")
}

/// Without a worker until somebody comes.
fn ondemand(children: usize) -> Pool {
    PhpFpm::pool(0).set("pm", "ondemand").set("pm.max_children", &children.to_string())
}

#[test]
fn fact_15_the_page_of_a_pool_at_rest_lists_its_workers() {
    bounded(LIMIT, || {
        let pools = [
            (PhpFpm::pool(3), Manager::Static, 3),
            (dynamic(4), Manager::Dynamic, 1),
            (ondemand(3), Manager::Ondemand, 0),
        ];
        for (pool, manager, workers) in pools {
            let watched = Watched::start(pool);
            // Those that have just been started say nothing of themselves for a moment.
            wait_until("all workers are idle", || watched.board().idle() == workers);
            let board = watched.board();
            assert_eq!((board.pool.as_str(), board.manager, board.processes.len()), ("test", manager, workers));
            assert_eq!((board.holding(), board.queue()), (0, Some(0)));
            assert!(board.start_time > 0 && board.listen_queue_len > 0 && !board.is_full(), "{board:?}");
        }
    });
}

#[test]
fn fact_13_php_fpm_does_not_see_the_queue_of_a_unix_socket() {
    with(PhpFpm::pool(1).unix(), |watched| {
        let _held = watched.php.proven();
        let mut waiting = watched.php.connect();
        assert_eq!(waiting.fence(COUNTED), Err(End::TimedOut));
        let board = watched.board();
        assert_eq!((board.queue(), board.idle(), board.is_full()), (None, 0, true), "(13.4)");
    });
}

#[test]
fn fact_15_kept_connections_show_as_held_workers_and_make_the_sums_wrong() {
    with(PhpFpm::pool(3), |watched| {
        let [mut first, _second] = [(); 2].map(|()| watched.php.proven());
        wait_until("two workers are held", || {
            let board = watched.board();
            (board.holding(), board.idle(), board.processes.len()) == (2, 1, 3)
        });
        let drifts = eventually(SOON, || {
            first.fence(SOON).expect("an answer");
            watched.board().total_sum > 3
        });
        assert!(drifts, "the sums are right now (2.4): {:?}", watched.board());
        let board = watched.board();
        assert_eq!((board.holding(), board.processes.len()), (2, 3));
        let held = board.processes.iter().find(|process| process.state == State::ReadingHeaders);
        assert!(held.is_some_and(|process| process.requests > 0), "{board:?}");
    });
}

#[test]
fn fact_15_who_waits_for_a_worker_is_counted_within_a_second_and_stays_counted_when_gone() {
    with(PhpFpm::pool(1), |watched| {
        let held = watched.php.proven();
        let given_up = watched.php.connect();
        wait_until("the queue is counted", || watched.board().queue() == Some(1));
        given_up.reset();
        thread::sleep(COUNTED);
        assert_eq!(watched.board().queue(), Some(1), "one that has given up is not counted any more");
        held.reset();
        wait_until("it is taken out", || watched.board().queue() == Some(0));
    });
}

#[test]
fn fact_15_asking_costs_no_worker_and_leaves_no_time_wait() {
    with(PhpFpm::pool(2), |watched| {
        let _held = [(); 2].map(|()| watched.php.proven());
        wait_until("no worker is idle", || watched.board().idle() == 0);
        let before = watched.board();
        assert!(before.is_full(), "{before:?}");
        for _ in 0..50 {
            assert_eq!(watched.board().accepted, before.accepted);
        }
        assert_eq!(TimeWait::of(watched.status.number()).total(), 0);
    });
}

#[test]
fn fact_15_two_kept_connections_keep_everybody_else_from_the_status_page() {
    with(PhpFpm::pool(1), |watched| {
        let kept = [(); 2].map(|()| {
            let mut connection = Connection::tcp(watched.status.address());
            connection.fence(SOON).expect("an answer");
            connection
        });
        assert_eq!(ask(watched.status.address(), "/status", A_WHILE).broken, Some(End::TimedOut));
        kept.into_iter().for_each(Connection::reset);
        assert_eq!(watched.board().processes.len(), 1);
    });
}

#[test]
fn fact_15_ping_is_answered_beside_the_status_page_also_while_no_worker_is_free() {
    with(PhpFpm::pool(1), |watched| {
        let (workers, status) = (watched.php.tcp_address(), watched.status.address());
        assert_eq!(ask(workers, "/ping", SOON).whole().text(), "pong");
        let _held = watched.php.proven();
        assert_eq!(ask(status, "/ping", SOON).whole().text(), "pong");
        assert_eq!(ask(workers, "/ping", A_WHILE).broken, Some(End::TimedOut));
    });
}

#[test]
fn fact_15_the_port_of_the_status_page_runs_scripts_too_and_refuses_the_same_clients() {
    bounded(LIMIT, || {
        let watched = Watched::start(PhpFpm::pool(1));
        let _held = watched.php.proven();
        let reply = ask(watched.status.address(), &watched.php.script("echo.php"), SOON);
        assert_eq!(reply.whole().text(), "none\n", "a script runs where no worker is free");
        assert_eq!(ask(watched.status.address(), "/other", SOON).whole().http_status(), 404);
        let watched = Watched::start(PhpFpm::pool(1).set("listen.allowed_clients", "192.0.2.1"));
        let reply = ask(watched.status.address(), "/status", SOON);
        assert!(matches!(reply.broken, Some(End::Reset | End::Closed)), "{reply:?}");
    });
}

#[test]
fn fact_15_pm_max_children_is_learned_of_a_static_pool_at_once() {
    with(PhpFpm::pool(5), |watched| {
        assert_eq!(Children::default().look(&watched.board()), Some(5));
        let board = watched.board();
        let _held = [(); 5].map(|()| watched.php.proven());
        let mut waiting = watched.php.connect();
        assert_eq!(waiting.fence(COUNTED), Err(End::TimedOut));
        assert_eq!((board.max_children_reached, watched.board().max_children_reached), (0, 0), "(2.2)");
    });
}

#[test]
fn fact_15_pm_max_children_of_another_pool_is_learned_when_it_is_reached() {
    bounded(LIMIT, || {
        for pool in [dynamic(3), ondemand(3)] {
            let watched = Watched::start(pool);
            let mut children = Children::default();
            assert_eq!(children.look(&watched.board()), None);
            // One more than there can be. Each comes when the one before has its worker (5.3).
            let mut held: Vec<_> = (0..3).map(|_| watched.php.proven()).collect();
            held.push(watched.php.connect());
            wait_until("the limit is known", || children.look(&watched.board()) == Some(3));
            held.into_iter().for_each(Connection::reset);
        }
    });
}
