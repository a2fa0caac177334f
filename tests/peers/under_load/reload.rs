//! php-fpm reloads or stops under load: it must not wait for our connections, and nothing may get lost.
#![expect(clippy::disallowed_methods, reason = "tests against real peers need the real clock")]

use std::{
    fs, thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::support::{
    Before, Exit, Fcgimux, Load, Nginx, PhpFpm, Report, Request, bounded, download, eventually, proc, sum_of_big,
};
use nix::sys::signal::Signal;

const SECOND: Duration = Duration::from_secs(1);
const WORKERS: usize = 8;
/// How long php-fpm may take behind its last running request.
const DONE_WITHIN: Duration = Duration::from_millis(500);
/// More than the buffers between php-fpm and a reader hold, so that the script lasts as long as the download.
const LARGE: u64 = 48 << 20;

/// Notes when a script of which worker has sent everything, in front of each script.
const END_OF_SCRIPT: &str = r#"
register_shutdown_function(function () {
    while (ob_get_level() > 0) {
        ob_end_flush();
    }
    flush();
    file_put_contents(
        __DIR__ . '/../log/ends',
        getmypid() . ' ' . sprintf('%.6f', microtime(true)) . "\n",
        FILE_APPEND,
    );
});
"#;

struct Peers {
    php: PhpFpm,
    mux: Fcgimux,
    nginx: Nginx,
    before: Before,
}

/// php-fpm with `process_control_timeout`, and an nginx that does not hide a slow reader.
fn peers() -> Peers {
    let php = PhpFpm::pool(WORKERS)
        .global("process_control_timeout", "5s")
        .set("php_admin_value[auto_prepend_file]", "../scripts/end_of_script.inc")
        .start();
    php.add_script("end_of_script.inc", END_OF_SCRIPT);
    let mux = Fcgimux::to(php.address()).start();
    let nginx = Nginx::site(&php.scripts(), mux.socket()).location("fastcgi_buffering off").start();
    let before = Before::of(&mux);
    Peers { php, mux, nginx, before }
}

/// Short requests, and one in fifty that takes a second.
fn load(nginx: &Nginx) -> Load {
    let make = |number: u64| match number % 50 {
        7 => Request::new("GET", "/slow.php?ms=1000").label("slow"),
        17 => Request::new("POST", "/slow.php?ms=1000").label("slow"),
        0 | 10 | 20 | 30 | 40 => Request::echo("POST", 1_000).body(2_000, number),
        5 => Request::echo("PUT", 1_000).body(40_000, number),
        _ => Request::echo("GET", 20_000),
    };
    // Some connections rest in between, which is what php-fpm would wait for.
    Load::on(nginx.address(), make).clients(8).rate(120.0).patience(20 * SECOND)
}

/// When the last script of these workers had sent everything.
fn last_end(php: &PhpFpm, workers: &[u32]) -> SystemTime {
    let text = fs::read_to_string(php.log_folder().join("ends")).expect("scripts ended");
    let ends = text.lines().filter_map(|line| {
        let (worker, at) = line.split_once(' ')?;
        workers.contains(&worker.parse().ok()?).then(|| at.parse::<f64>().ok())?
    });
    UNIX_EPOCH + Duration::from_secs_f64(ends.fold(0.0, f64::max))
}

/// Runs the load with large responses to slow readers beside it, and signals the master when all are on their way. Gives
/// the load's report, how long the workers of then stayed beyond the last of their scripts, and how long that was behind
/// the signal.
fn signal_under_load(peers: &mut Peers, signal: Signal, goes_on: bool) -> (Report, Duration, Duration) {
    let running = load(&peers.nginx).duration(8 * SECOND).start();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let address = peers.nginx.address();
            let path = format!("/big.php?length=1&bytes={LARGE}");
            thread::spawn(move || download(address, &path, 128 << 10, Duration::from_millis(8), 30 * SECOND))
        })
        .collect();
    thread::sleep(SECOND);
    let workers = peers.php.workers();
    assert_eq!(workers.len(), WORKERS);
    assert!(readers.iter().all(|reader| !reader.is_finished()), "the large responses are over already");
    let signalled = SystemTime::now();
    peers.php.signal(signal);
    let gone = eventually(10 * SECOND, || workers.iter().all(|worker| !proc::exists(*worker)));
    let done = SystemTime::now();
    assert!(gone, "workers are left 10 s after {signal}");
    if !goes_on {
        assert_eq!(peers.php.wait_exit(SECOND), Some(Exit::Code(0)), "{}", peers.php.error_log());
    }
    for reader in readers {
        let (status, sum) = reader.join().expect("a reader").expect("a large response");
        assert_eq!((status, sum), (200, sum_of_big(LARGE)));
    }
    let last = last_end(&peers.php, &workers);
    let report = if goes_on { running.finish() } else { running.stop() };
    let beyond = done.duration_since(last).unwrap_or_default();
    let ran = last.duration_since(signalled).unwrap_or_default();
    println!("{signal}: the last script ended {ran:.1?} behind it, the workers were gone {beyond:.1?} later\n{report}");
    (report, beyond, ran)
}

#[test]
fn a_reload_under_load_is_done_with_its_last_request_and_loses_none() {
    bounded(60 * SECOND, || {
        let mut peers = peers();
        let (report, beyond, ran) = signal_under_load(&mut peers, Signal::SIGUSR2, true);
        report.assert_clean();
        // At the timeout php-fpm would end them itself.
        assert!(ran < 4 * SECOND, "no worker was left to wait for");
        assert!(beyond <= DONE_WITHIN, "{beyond:?} behind the last request; {}", peers.php.error_log());
        peers.before.assert_nothing_left(&peers.mux, &[]);
        assert!(peers.nginx.errors().is_empty(), "{:?}", peers.nginx.errors());
    });
}

#[test]
fn a_stop_under_load_is_done_with_its_last_request_and_loses_only_what_comes_later() {
    bounded(60 * SECOND, || {
        let mut peers = peers();
        let (report, beyond, _) = signal_under_load(&mut peers, Signal::SIGQUIT, false);
        assert!(beyond <= DONE_WITHIN, "{beyond:?} behind the last request; {}", peers.php.error_log());
        // The page is nginx's own, as without fcgimux; its log has the reason.
        let refused = report.error_count("status 502");
        assert_eq!(report.sent - report.ok, refused, "{report}");
        let told =
            peers.nginx.error_log().lines().filter(|line| line.contains("in stderr: \"fcgimux: ")).count() as u64;
        assert_eq!(told, refused, "refusals with a reason in nginx's log");
        let expected = ["cannot connect: ", "request refused: ", "did not prove itself", "endpoint is left alone: "];
        peers.before.assert_nothing_left(&peers.mux, &expected);
    });
}
