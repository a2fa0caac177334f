//! The figures of the page and the metrics are the same.

use super::{LIMIT, SECOND, browser::Browser};
use crate::support::{Fcgimux, Load, Nginx, PhpFpm, Request, bounded, in_three_attempts, wait_until};

#[test]
fn the_page_says_what_the_metrics_say() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(2).start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 2}").pool("queue: {depth: 5}").start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        let mut browser = Browser::start();
        browser.open_page(&mux);
        // Some are refused: ten at once, of which two run and five wait.
        let load = Load::on(nginx.address(), |_| Request::echo("GET", 10).micros(5_000)).clients(10).count(300);
        assert!(load.run().ok > 0);

        // Two run, three wait, and nothing moves for a while. All five wait at first where no connection is at hand.
        let slow = Load::on(nginx.address(), |_| Request::echo("GET", 10).micros(3_000_000));
        let slow = slow.clients(5).count(5).start();
        wait_until("three wait", || mux.metrics().sum("fcgimux_queue_depth", &[]) == 3.0);
        browser.wait("document.querySelector('[data-figure=queue] span').textContent.startsWith('3 ')");
        let metrics = mux.metrics();
        assert_eq!(browser.figure("queue"), format!("3 / {}", metrics.sum("fcgimux_queue_limit", &[])));
        assert_eq!(browser.figure("in-use"), format!("2 / {}", metrics.sum("fcgimux_upstream_connections_limit", &[])));
        for state in ["leased", "settling", "proving", "connecting", "idle"] {
            let cells = browser.eval(&format!("document.querySelectorAll('tbody .cell.{state}').length"));
            let count = metrics.sum("fcgimux_upstream_connections", &[("state", state)]);
            assert_eq!(cells.as_f64(), Some(count), "{state}");
        }
        for outcome in ["ok", "refused", "broken", "timeout", "gone"] {
            let count = metrics.sum("fcgimux_requests_total", &[("outcome", outcome)]);
            assert_eq!(browser.count(outcome), count, "{outcome}");
        }
        let refused = metrics.sum("fcgimux_refused_total", &[("reason", "queue_full")]);
        assert!(refused > 0.0);
        assert_eq!(browser.count("refused: queue_full"), refused);
        let sent = metrics.sum("fcgimux_upstream_requests_total", &[]);
        let opened = metrics.sum("fcgimux_upstream_connections_opened_total", &[]);
        assert_eq!((browser.count("sent to applications"), browser.count("connections opened")), (sent, opened));
        let reuse: f64 = browser.figure("reuse").parse().expect("a number");
        assert!((reuse - sent / opened).abs() <= 0.005 * reuse, "{reuse}: {sent} / {opened}");
        let failed = browser.text("[data-figure=failures] small");
        assert_eq!(failed, format!("{refused} in 15 min"), "all of them were refused");
        let last = browser.text("[data-figure=last-failure]");
        assert!(last.contains("queue_full: pool default: 5 requests wait already (queue.depth)"), "{last}");
        for (id, side) in [("time-wait-upstream", "upstream"), ("time-wait-downstream", "downstream")] {
            let count = metrics.sum("fcgimux_time_wait_sockets", &[("side", side)]);
            assert_eq!(browser.text(&format!("#{id}")), count.to_string(), "{side}");
        }
        let downstream = metrics.sum("fcgimux_downstream_connections", &[]);
        assert_eq!(browser.text("#downstream"), downstream.to_string());
        slow.finish().assert_clean();
        assert_eq!(browser.complaints(), [""; 0]);
    });
}

#[test]
fn rates_and_times_on_the_page_are_those_of_the_load() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(4).start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 4}").start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        let mut browser = Browser::start();
        browser.open_page(&mux);
        in_three_attempts(|| {
            let load = Load::on(nginx.address(), |_| Request::echo("GET", 10).micros(30_000));
            let load = load.clients(4).rate(40.0).duration(10 * SECOND).start();
            std::thread::sleep(8 * SECOND);
            let figures = ["rate", "p50", "p99"].map(|name| browser.figure(name));
            load.finish().assert_clean();
            let [rate, p50, p99] = [("rate", " /s"), ("p50", " ms"), ("p99", " ms")].map(|(name, unit)| {
                let text = &figures[["rate", "p50", "p99"].iter().position(|known| *known == name).expect("known")];
                text.strip_suffix(unit).and_then(|number| number.parse::<f64>().ok()).unwrap_or(f64::NAN)
            });
            // 30 ms fall into the bucket of 25 ms to 50 ms.
            let right = (36.0..=44.0).contains(&rate) && (25.0..=50.0).contains(&p50) && (25.0..=250.0).contains(&p99);
            if right { Ok(()) } else { Err(format!("{figures:?}")) }
        });
        // A sample of the history each five seconds, most of them with traffic.
        browser.wait(
            "document.querySelector('figure svg').getAttribute('aria-label').match(/highest (3[6-9]|4[0-4])/) !== null",
        );
        assert_eq!(browser.complaints(), [""; 0]);
    });
}
