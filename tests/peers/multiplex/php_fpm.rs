//! Several exchanges at once on one connection of a web server, with php-fpm behind: each has a worker of its own.

use std::time::{Duration, Instant};

use super::{LIMIT, MILLISECOND, SOON};
use crate::support::{
    Fcgimux, PhpFpm, bounded,
    fcgi::{self, Call, Connection, Replies},
    wait_until,
};

fn setup(workers: usize) -> (PhpFpm, Fcgimux) {
    let php = PhpFpm::pool(workers).start();
    let mux = Fcgimux::to(php.address()).pool(&format!("connections: {{per_endpoint: {workers}}}")).start();
    (php, mux)
}

fn echo(php: &PhpFpm, id: u16, micros: u32) -> Call {
    let query = format!("token=t{id}&n=2000&us={micros}");
    Call::post(&php.script("echo.php"), format!("body {id}")).query(&query).id(id)
}

#[track_caller]
fn assert_own(reply: &fcgi::Reply, id: u16) {
    assert!(reply.ended, "{reply:?}");
    assert_eq!((reply.http_status(), reply.status), (200, (0, 0)), "{reply:?}");
    assert_eq!(reply.header("X-Token"), Some(format!("t{id}")));
    assert_eq!(reply.header("X-Length"), Some(format!("body {id}").len().to_string()));
    assert_eq!(reply.text(), format!("t{id} ").repeat(2_000)[..2_000]);
}

#[test]
fn exchanges_of_one_connection_run_on_a_worker_each_and_a_slow_one_holds_up_none() {
    bounded(LIMIT, || {
        let (php, mux) = setup(4);
        let mut connection = mux.connect();
        // Opens the connections to the workers.
        let calls: Vec<_> = (1..=4).map(|id| echo(&php, id, 20_000).bytes()).collect();
        connection.send(&calls.concat());
        let replies = Replies::read(&mut connection, &[1, 2, 3, 4], SOON);
        replies.iter().for_each(|(id, reply)| assert_own(reply, id));
        let slow = Duration::from_millis(1_500);
        connection.send(&echo(&php, 9, 1_500_000).bytes());
        let start = Instant::now();
        // In three of the workers, one after the other and all at once.
        for round in 0..20 {
            let ids = [10, 11, 12].map(|id| id + 10 * round);
            connection.send(&ids.map(|id| echo(&php, id, 0).bytes()).concat());
            let replies = Replies::read(&mut connection, &ids, SOON);
            replies.iter().for_each(|(id, reply)| assert_own(reply, id));
        }
        let quick = start.elapsed();
        assert!(quick < slow, "60 quick ones took {quick:.1?} beside one of {slow:?}");
        let replies = Replies::read(&mut connection, &[9], SOON);
        assert_own(&replies[9], 9);
    });
}

#[test]
fn more_exchanges_than_workers_wait_for_one() {
    bounded(LIMIT, || {
        let (php, mux) = setup(2);
        let mut connection = mux.connect();
        let ids: Vec<u16> = (1..=100).collect();
        connection.send(&ids.iter().flat_map(|id| echo(&php, *id, 1_000).bytes()).collect::<Vec<_>>());
        let replies = Replies::read(&mut connection, &ids, SOON);
        replies.iter().for_each(|(id, reply)| assert_own(reply, id));
        let opened = mux.metrics().sum("fcgimux_upstream_connections_opened_total", &[]);
        assert!(opened <= 8.0, "{opened} connections for two workers");
    });
}

#[test]
fn a_request_taken_back_frees_its_worker_and_no_other() {
    bounded(LIMIT, || {
        let (php, mux) = setup(2);
        let mut connection = mux.connect();
        connection.send(&[echo(&php, 1, 800_000).bytes(), echo(&php, 2, 800_000).bytes()].concat());
        wait_until("both run", || mux.metrics().sum("fcgimux_upstream_connections", &[("state", "leased")]) == 2.0);
        connection.send(&fcgi::abort(1));
        let replies = Replies::read(&mut connection, &[1, 2], SOON);
        assert_eq!((replies[1].status, replies[1].stdout.len()), ((0, 0), 0));
        assert!(replies[1].took < 500 * MILLISECOND, "{:?}", replies[1].took);
        assert_own(&replies[2], 2);
        connection.send(&echo(&php, 1, 0).bytes());
        assert_own(&Replies::read(&mut connection, &[1], SOON)[1], 1);
    });
}

/// php-fpm knows three roles, and reads no DATA.
#[test]
fn an_authorizer_runs_and_a_filter_is_unknown() {
    bounded(LIMIT, || {
        let (php, mux) = setup(2);
        let script = php.add_script(
            "role.php",
            "header('Status: 200 OK');\nheader('Variable-USER: fred');\necho $_SERVER['FCGI_ROLE'] ?? 'none';\n",
        );
        let call = Call::get(&script).param("CONTENT_LENGTH", "500");
        let params = fcgi::record(fcgi::PARAMS, 1, &fcgi::pairs(call.params.iter().cloned()));
        let end = fcgi::record(fcgi::PARAMS, 1, &[]);
        let authorizer = |connection: &mut Connection, ends: bool| {
            connection.send(&[&fcgi::begin_role(1, 2, 1)[..], &params, &end].concat());
            if ends {
                connection.send(&fcgi::stdin_end(1));
            }
            connection.reply(SOON).whole()
        };
        // It has no STDIN, which some web servers end all the same; the length is that of the visitor's request.
        for ends in [false, true, false] {
            let reply = authorizer(&mut mux.connect(), ends);
            assert_eq!((reply.http_status(), reply.text().as_str()), (200, "AUTHORIZER"), "{reply:?}");
            assert_eq!(reply.header("Variable-USER").as_deref(), Some("fred"));
        }
        let mut connection = mux.connect();
        connection.send(&fcgi::begin_role(1, 3, 1));
        assert_eq!(connection.reply(SOON).whole().status, (0, 3));
        let reply = authorizer(&mut connection, true);
        assert_eq!(reply.text(), "AUTHORIZER");
    });
}
