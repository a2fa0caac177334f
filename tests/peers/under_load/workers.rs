//! Few workers for many clients: how well they are used, and who waits for whom.
#![expect(clippy::disallowed_methods, reason = "tests against real peers need the real clock")]

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{Before, Fcgimux, Load, Nginx, PhpFpm, Report, Request, bounded, fcgi::Call, in_three_attempts};

const SECOND: Duration = Duration::from_secs(1);
const WORKERS: usize = 4;
const CLIENTS: usize = 64;
/// What the script of the pinned workers sleeps: long enough that the workers are what is scarce, and not the processor.
const MICROS: u64 = 10_000;
/// `connections.surplus_idle`, and `connections.yield_after`: what another fcgimux's workers may be missed for.
const SURPLUS_IDLE: Duration = SECOND;

/// Requests per second that as many workers serve when each has a connection of its own and always the next request: what
/// "workers divided by script time" comes to on this machine, now.
fn direct_throughput(php: &PhpFpm, time: Duration) -> f64 {
    let call = Call::get(&php.script("echo.php")).query(&format!("token=direct&n=100&us={MICROS}"));
    let served: u32 = thread::scope(|scope| {
        let worker = || {
            let mut connection = php.proven();
            let (start, mut served) = (Instant::now(), 0);
            while start.elapsed() < time {
                connection.call(&call, 5 * SECOND).whole();
                served += 1;
            }
            connection.reset();
            served
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a direct client")).sum()
    });
    f64::from(served) / time.as_secs_f64()
}

fn pinned(_: u64) -> Request {
    Request::echo("GET", 100).micros(MICROS)
}

/// How long the last of so many that come at once waits in one queue before all workers.
#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn ideal_wait(requests: usize, throughput: f64) -> Duration {
    Duration::from_secs_f64(requests as f64 / throughput)
}

#[test]
fn sixty_four_clients_keep_four_workers_busy_and_wait_in_one_queue() {
    bounded(90 * SECOND, || {
        let time = 3 * SECOND;
        // Workers like those, at the same time: whatever else the machine does holds both up alike.
        let [php, reference] = [(); 2].map(|()| PhpFpm::pool(WORKERS).start());
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 4}").start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        let before = Before::of(&mux);
        in_three_attempts(|| {
            let running = Load::on(nginx.address(), pinned).clients(CLIENTS).duration(time).start();
            let possible = direct_throughput(&reference, time);
            let report = running.finish();
            report.assert_clean();
            before.assert_nothing_left(&mux, &[]);
            let share = report.throughput() / possible;
            let ideal = ideal_wait(CLIENTS, possible);
            let words = format!(
                "{:.0} of {possible:.0} requests/s ({:.1} %), longest wait {:.1?}, ideal {ideal:.1?}",
                report.throughput(),
                100.0 * share,
                report.longest
            );
            println!("{words}\n{report}");
            if share >= 0.9 && report.longest <= 3 * ideal { Ok(()) } else { Err(words) }
        });
        assert!(nginx.errors().is_empty(), "{:?}", nginx.errors());
    });
}

#[test]
fn two_programs_share_four_workers_and_nobody_waits_for_longer_than_the_surplus_idle_time() {
    bounded(120 * SECOND, || {
        let php = PhpFpm::pool(WORKERS).start();
        let [steady, bursty] =
            [(); 2].map(|()| Fcgimux::to(php.address()).pool("connections: {per_endpoint: 4}").start());
        let [steady_site, bursty_site] =
            [&steady, &bursty].map(|mux| Nginx::site(&php.scripts(), mux.socket()).start());
        let before = [&steady, &bursty].map(Before::of);
        in_three_attempts(|| {
            let possible = direct_throughput(&php, SECOND);
            let running = Load::on(steady_site.address(), pinned).clients(CLIENTS).duration(6 * SECOND).start();
            let mut bursts = Vec::new();
            thread::sleep(SECOND);
            while running.is_running() {
                let burst = Load::on(bursty_site.address(), pinned).clients(32).count(64);
                bursts.push(burst.duration(20 * SECOND).run());
                thread::sleep(SECOND);
            }
            let report = running.finish();
            report.assert_clean();
            bursts.iter().for_each(Report::assert_clean);
            let longest_of_burst = bursts.iter().map(|burst| burst.longest).max().expect("a burst");
            // Both together in one queue.
            let limit = 3 * ideal_wait(CLIENTS + 32, possible) + SURPLUS_IDLE;
            let words = format!(
                "longest wait {:.1?} steady, {longest_of_burst:.1?} in {} bursts; {:.0} of {possible:.0} requests/s; limit {limit:.1?}",
                report.longest,
                bursts.len(),
                report.throughput()
            );
            println!("{words}\n{report}");
            if report.longest.max(longest_of_burst) <= limit { Ok(()) } else { Err(words) }
        });
        before[0].assert_nothing_left(&steady, &["no worker answered in time"]);
        before[1].assert_nothing_left(&bursty, &["no worker answered in time"]);
        for site in [&steady_site, &bursty_site] {
            assert!(site.errors().is_empty(), "{:?}", site.errors());
        }
    });
}

/// echo.php, with work and output behind the end of the request where a header asks for it.
const ECHO_AND_FINISH: &str = r#"
$token = $_GET['token'] ?? 'none';
$n = (int) ($_GET['n'] ?? 0);
$body = file_get_contents('php://input');
if (isset($_GET['us'])) {
    usleep((int) $_GET['us']);
}
header('Content-Type: text/plain');
header("X-Token: $token");
header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
header('X-Length: ' . strlen($body));
header('X-Sha256: ' . hash('sha256', $body));
echo $n > 0 ? substr(str_repeat("$token ", intdiv($n, strlen($token) + 1) + 1), 0, $n) : "$token\n";
$work = $_SERVER['HTTP_X_WORK_BEHIND'] ?? null;
if ($work !== null) {
    fastcgi_finish_request();
    usleep((int) $work);
    switch ($_SERVER['HTTP_X_STRAY'] ?? 'none') {
        case 'echo':
            echo str_repeat('STRAY ', 5000);
            break;
        case 'flush':
            for ($i = 0; $i < 10; $i++) {
                echo "STRAY LINE $i\n";
                flush();
            }
            break;
        case 'late':
            echo str_repeat('STRAY ', 20000);
            flush();
            usleep(100000);
            echo str_repeat('STRAY ', 20000);
    }
}
"#;
/// Of the runs with work behind the end of requests: one request in twenty works for two seconds, which holds
/// `RATE / 20 * 2 s` = 8 workers at any time.
const RATE: f64 = 80.0;
const BUSY_BEHIND: usize = 8;
/// 76 requests/s of 60 ms: 4.6 of the 8 workers that are left.
const OTHERS_MICROS: u64 = 60_000;

fn other(_: u64) -> Request {
    Request::echo("GET", 1_000).micros(OTHERS_MICROS).label("others")
}

fn finishing(number: u64) -> Request {
    // Until then no worker has been seen to work on: the first that does is the hard one.
    if number < 160 || !number.is_multiple_of(20) {
        return other(number);
    }
    let stray = ["none", "echo", "flush", "late"][(number / 20 % 4) as usize];
    let request = Request::echo(if number.is_multiple_of(40) { "GET" } else { "POST" }, 1_000);
    request.header("X-Work-Behind", "2000000").header("X-Stray", stray).label("finishing")
}

/// A run at the same pace, with so many workers.
fn paced(workers: usize, make: fn(u64) -> Request) -> Report {
    let php = PhpFpm::pool(workers).start();
    php.add_script("echo.php", ECHO_AND_FINISH);
    let mux = Fcgimux::to(php.address()).pool(&format!("connections: {{per_endpoint: {workers}}}")).start();
    let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
    let before = Before::of(&mux);
    let report = Load::on(nginx.address(), make).clients(CLIENTS).rate(RATE).count(640).duration(30 * SECOND).run();
    report.assert_clean();
    before.assert_nothing_left(&mux, &[]);
    assert!(nginx.errors().is_empty(), "{:?}", nginx.errors());
    report
}

#[test]
fn work_behind_the_end_of_requests_costs_the_others_no_more_than_its_workers() {
    bounded(150 * SECOND, || {
        in_three_attempts(|| {
            let with = paced(16, finishing);
            // The same pace, and no request that finishes early: each of their places is an ordinary one.
            let without = paced(16 - BUSY_BEHIND, other);
            println!("with work behind 5 %:\n{with}\nwith {BUSY_BEHIND} fewer workers:\n{without}");
            let [p99, reference] = [&with, &without].map(|report| report.quantile("others", 0.99));
            // Without it a request would now and then wait for the work of another, up to two seconds.
            let limit = reference + (reference / 4).max(Duration::from_millis(25));
            let words = format!("p99 {p99:.1?}, with {BUSY_BEHIND} fewer workers {reference:.1?}");
            if p99 <= limit { Ok(()) } else { Err(words) }
        });
    });
}

#[test]
fn no_request_dies_of_the_idle_time_before_it() {
    // Lanes of requests, each on a connection of its own: gaps below, at and above the limit of the worker.
    const GAPS: [[u64; 2]; 6] =
        [[500, 4_000], [1_000, 3_500], [1_500, 3_300], [2_000, 3_100], [2_500, 2_900], [2_700, 3_700]];
    bounded(90 * SECOND, || {
        let kinds = ["GET", "POST"].into_iter().flat_map(|method| GAPS.map(|gaps| (method, gaps)));
        let php = PhpFpm::pool(2 * GAPS.len() + 2).set("request_terminate_timeout", "3s").start();
        let lanes: Vec<_> = kinds
            .map(|(method, gaps)| {
                let mux = Fcgimux::to(php.address()).start();
                let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
                (method, gaps, Before::of(&mux), mux, nginx)
            })
            .collect();
        thread::scope(|scope| {
            for &(method, ref gaps, _, _, ref nginx) in &lanes {
                scope.spawn(move || {
                    let request = move |_| Request::new(method, "/slow.php?ms=2000");
                    let one = || Load::on(nginx.address(), request).count(1).run();
                    for gap in gaps {
                        one().assert_clean();
                        thread::sleep(Duration::from_millis(*gap));
                        one().assert_clean();
                    }
                });
            }
        });
        for (method, gaps, before, mux, nginx) in &lanes {
            let metrics = mux.metrics();
            println!(
                "{method}, gaps {gaps:?}: retries {}, closed by the application {}",
                metrics.sum("fcgimux_retries_total", &[]),
                metrics.sum("fcgimux_upstream_connections_closed_total", &[("reason", "application")])
            );
            before.assert_nothing_left(mux, &[]);
            assert!(nginx.errors().is_empty(), "{:?}", nginx.errors());
        }
        let log = php.error_log();
        // Idle workers may be ended, running ones not.
        assert!(!log.contains("slow.php"), "{log}");
    });
}
