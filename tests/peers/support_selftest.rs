//! Holds the test support itself to what it promises, without fcgimux.

use std::time::Duration;

use crate::support::{
    Fcgimux, Load, Measures, Nginx, PhpFpm, Request, bounded, download,
    fcgi::{self, Application, Call, Connection, End},
    in_own_network,
    sockets::{Counters, TimeWait},
    sum_of_big, upload,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_load_through_nginx_gets_its_own_tokens_back() {
    bounded(40 * SECOND, || {
        let php = PhpFpm::pool(4).with_status().start();
        let nginx = Nginx::site(&php.scripts(), php.address()).start();
        let report = Load::on(nginx.address(), |number| match number % 10 {
            0 => Request::echo("PUT", 10).body(3_000, number),
            1 | 2 => Request::echo("POST", 20_000).body(100_000, number),
            3 => Request::new("GET", "/log.php"),
            _ => Request::echo("GET", 100),
        })
        .clients(8)
        .count(1_000)
        .run();
        println!("{report}");
        report.assert_clean();
        assert_eq!((report.sent, report.count("PUT"), php.side_effects().len()), (1_000, 100, 200));
        assert_eq!(php.worker_states().len(), 4);
        assert!(nginx.errors().is_empty(), "{:?}", nginx.errors());
    });
}

#[test]
fn a_load_at_a_rate_takes_its_time() {
    bounded(40 * SECOND, || {
        let php = PhpFpm::pool(2).start();
        let nginx = Nginx::site(&php.scripts(), php.address()).start();
        let report = Load::on(nginx.address(), |_| Request::echo("GET", 0)).clients(4).rate(100.0).count(100).run();
        report.assert_clean();
        assert!(report.took > Duration::from_millis(900), "{report}");
    });
}

#[test]
fn a_load_notices_errors_and_foreign_answers() {
    bounded(40 * SECOND, || {
        let php = PhpFpm::pool(1).start();
        php.add_script("foreign.php", "header('X-Token: someone-else'); echo 1;");
        php.add_script("cut.php", "header('Content-Length: 100'); echo 1;");
        let nginx = Nginx::site(&php.scripts(), php.address()).start();
        let report = Load::on(nginx.address(), |number| match number % 3 {
            0 => Request::new("GET", "/foreign.php"),
            1 => Request::new("GET", "/cut.php"),
            _ => Request::new("GET", "/missing.php"),
        })
        .count(9)
        .run();
        let counts = ["foreign answer", "truncated", "status 404"].map(|kind| report.error_count(kind));
        assert_eq!(counts, [3, 3, 3], "{report}");
    });
}

#[test]
fn large_bodies_are_summed() {
    bounded(60 * SECOND, || {
        let php = PhpFpm::pool(1).start();
        let nginx = Nginx::site(&php.scripts(), php.address()).start();
        let (sum, answer) = upload(nginx.address(), "PUT", "/upload.php", 20 << 20, 30 * SECOND).expect("upload");
        assert_eq!(String::from_utf8_lossy(&answer.body), format!("{} {}\n", sum.length, sum.sha256));
        for path in ["/big.php?mib=20", "/big.php?mib=20&length=1"] {
            let (status, sum) = download(nginx.address(), path, 65_536, Duration::ZERO, 30 * SECOND).expect("download");
            assert_eq!((status, sum), (200, sum_of_big(20 << 20)));
        }
    });
}

#[test]
fn a_scripted_application_plays_its_part() {
    bounded(20 * SECOND, || {
        let polite = Application::tcp(fcgi::polite);
        let mut connection = Connection::tcp(polite.address().parse().expect("an address"));
        assert!(connection.fence(SECOND).expect("an answer").is_empty());
        assert_eq!(connection.call(&Call::post("/x.php", "body"), SECOND).whole().body(), b"body");
        assert_eq!(connection.call(&Call::get("/x.php").query("q").last(), SECOND).whole().body(), b"q");
        assert_eq!(connection.ending(SECOND), End::Closed);
        assert_eq!(polite.accepted(), 1);

        let old = Application::tcp(fcgi::old_php);
        let mut connection = Connection::tcp(old.address().parse().expect("an address"));
        assert!(connection.fence(SECOND).is_ok());
        assert_eq!(connection.ending(SECOND), End::Closed);

        let silent = Application::tcp(fcgi::silent);
        let mut connection = Connection::tcp(silent.address().parse().expect("an address"));
        assert_eq!(connection.fence(SECOND / 10), Err(End::TimedOut));
    });
}

#[test]
fn a_test_can_have_a_network_of_its_own() {
    if !in_own_network("support_selftest::a_test_can_have_a_network_of_its_own") {
        return;
    }
    bounded(30 * SECOND, || {
        let php = PhpFpm::pool(1).start();
        let before = Counters::now();
        for _ in 0..10 {
            let mut connection = php.connect();
            connection.call(&Call::get(&php.script("echo.php")).last(), SECOND).whole();
            connection.ending(SECOND);
        }
        assert_eq!(Counters::now().since(&before, "ActiveOpens"), 10);
        assert!(TimeWait::of(php.port()).total() >= 10);
    });
}

#[test]
fn labels_of_metrics_are_told_apart() {
    let measures = Measures::parse("# HELP a b\na{x=\"1\",y=\"q\\\"}\"} 3\na{x=\"1\",y=\"r\"} 4\nab 5\n");
    assert_eq!(measures.sum("a", &[]), 7.0);
    assert_eq!(measures.sum("a", &[("y", "q\"}")]), 3.0);
    assert_eq!(measures.get("ab"), Some(5.0));
    assert!(!measures.has("b"));
}

#[test]
fn the_program_starts_serves_and_stops() {
    bounded(30 * SECOND, || {
        let php = PhpFpm::pool(2).start();
        for mut fcgimux in [Fcgimux::flags(&["--upstream", &php.address()]), Fcgimux::to(php.address()).start()] {
            let reply = fcgimux.call(&Call::get(&php.script("echo.php")).query("token=t"), 5 * SECOND).whole();
            assert_eq!(reply.header("x-token").as_deref(), Some("t"));
            assert!(fcgimux.metrics().iter().count() > 0);
            assert!(fcgimux.rss_kib() > 0 && fcgimux.open_fds() > 2);
            let _ = fcgimux.cpu_time();
            let nginx = Nginx::site(&php.scripts(), fcgimux.socket()).start();
            Load::on(nginx.address(), |_| Request::echo("GET", 10)).clients(2).count(50).run().assert_clean();
            fcgimux.signal(nix::sys::signal::Signal::SIGTERM);
            assert!(fcgimux.wait_exit(10 * SECOND).is_some(), "{}", fcgimux.log());
        }
    });
}
