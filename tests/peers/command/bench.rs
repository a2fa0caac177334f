//! `fcgimux bench` against real applications: what it says is true.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::{LIMIT, Ran, run};
use crate::support::{
    Fcgimux, PhpFpm,
    apps::Program,
    bounded, eventually,
    fcgi::{Application, Connection, Stage},
    in_three_attempts,
};

#[track_caller]
fn assert_clean(report: &Value, count: u64) {
    assert_eq!((&report["good_answers"], &report["failed"]), (&count.into(), &0.into()), "{report}");
    assert_eq!((&report["statuses"]["200"], &report["never_sent"]), (&count.into(), &0.into()), "{report}");
}

#[track_caller]
fn latency(report: &Value, name: &str) -> f64 {
    report["latency_milliseconds"][name].as_f64().unwrap_or_else(|| panic!("{name}: {report}"))
}

#[test]
fn every_request_is_counted_once_with_its_own_token() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(4).start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 3}").start();
        let (script, socket) = (php.script("echo.php"), mux.socket().display().to_string());
        let bench = |address: &str, more: &[&str]| {
            let ran = run(&[&["bench", address, &script, "-n", "300", "--token", "--json"], more].concat());
            assert_eq!(ran.code, Some(0), "{ran:?}");
            ran.json()
        };
        let short = bench(&php.address(), &["-c", "3"]);
        assert_clean(&short, 300);
        assert_eq!(short["connections_opened"], 300, "{short}");
        let kept = bench(&php.address(), &["-c", "3", "--keep"]);
        assert_clean(&kept, 300);
        assert_eq!(kept["connections_opened"], 3, "{kept}");
        let through = bench(&socket, &["-c", "16"]);
        assert_clean(&through, 300);
        // The first is sent by itself.
        assert_eq!(mux.metrics().sum("fcgimux_requests_total", &[("outcome", "ok")]), 301.0);
        let posted = bench(&socket, &["-c", "8", "--keep", "-d", "a=1", "--query", "n=5000"]);
        assert_clean(&posted, 300);
        assert_eq!(posted["body_bytes"], 300 * 5000, "{posted}");
        let [p50, p99, max] = ["p50", "p99", "max"].map(|name| latency(&posted, name));
        assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{posted}");
    });
}

#[test]
fn a_multiplexing_application_is_loaded_on_kept_connections() {
    bounded(LIMIT, || {
        let app = Program::go().start();
        let script = app.scripts().join("app.php").display().to_string();
        for keep in [&[][..], &["--keep"]] {
            let ran =
                run(&[&["bench", &app.address(), &script, "-n", "200", "--query", "n=100", "--token", "--json"], keep]
                    .concat());
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert_clean(&ran.json(), 200);
        }
    });
}

#[test]
fn time_that_a_due_request_waits_for_a_client_counts() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(2).start();
        let script = format!("{}?ms=50", php.script("slow.php"));
        // 50 a second through one client of 50 ms each: 20 a second. The last of 25 is due at 480 ms, and begins after 1.2 s.
        let arguments = ["bench", &php.address(), &script, "-c", "1", "-r", "50", "-n", "25", "--json"];
        let report = run(&arguments).json();
        assert_clean(&report, 25);
        assert!(latency(&report, "max") >= 25.0 * 50.0 - 480.0 - 5.0, "{report}");
        // Without a rate each counts from its own start.
        in_three_attempts(|| {
            let report = run(&["bench", &php.address(), &script, "-c", "1", "-n", "10", "--json"]).json();
            assert_clean(&report, 10);
            assert!(latency(&report, "p50") >= 50.0, "{report}");
            if latency(&report, "p90") < 100.0 { Ok(()) } else { Err(report.to_string()) }
        });
    });
}

#[test]
fn a_rate_is_kept_and_a_duration_ends_it() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(4).start();
        let arguments =
            ["bench", &php.address(), &php.script("echo.php"), "-c", "4", "-r", "200", "-t", "1s", "--json"];
        in_three_attempts(|| {
            let report = run(&arguments).json();
            assert_eq!(report["failed"], 0, "{report}");
            let (good, seconds) = (report["good_answers"].as_u64(), report["seconds"].as_f64().unwrap_or(0.0));
            assert!(good <= Some(200) && seconds >= 0.99, "{report}");
            let kept = good == Some(200) && seconds < 1.2 && latency(&report, "p50") < 20.0;
            if kept { Ok(()) } else { Err(report.to_string()) }
        });
    });
}

#[test]
fn what_could_not_be_sent_in_time_is_told() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let script = format!("{}?ms=100", php.script("slow.php"));
        let ran = run(&["bench", &php.address(), &script, "-c", "1", "-r", "100", "-t", "500ms", "--json"]);
        let report = ran.json();
        assert_eq!(ran.code, Some(3), "{report}");
        let [good, left] = ["good_answers", "never_sent"].map(|name| report[name].as_u64().unwrap_or(0));
        assert!((1..=6).contains(&good) && good + left == 50, "{report}");
    });
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_what_runs_and_both_say_what_there_is() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(2).start();
        // The first request, by itself, is answered at once.
        let count = php.scripts().join("../log/count");
        let code = "file_put_contents(COUNT, 'x', FILE_APPEND); if (filesize(COUNT) > 1) sleep(30); echo 'x';";
        let script = php.add_script("slow_later.php", &code.replace("COUNT", &format!("'{}'", count.display())));
        let mut command = Command::new(env!("CARGO_BIN_EXE_fcgimux"));
        command.args(["bench", &php.address(), &script, "-c", "2", "-t", "50s", "--timeout", "40s", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let id = Pid::from_raw(child.id().cast_signed());
        assert!(eventually(LIMIT, || count.metadata().is_ok_and(|file| file.len() == 3)));
        kill(id, Signal::SIGINT).expect("SIGINT");
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(child.try_wait().expect("wait"), None, "what has been begun ends");
        kill(id, Signal::SIGINT).expect("SIGINT");
        let ran = Ran::from(child.wait_with_output().expect("it ends"));
        assert_eq!((ran.code, &ran.json()["failures"]["given_up"]), (Some(3), &2.into()), "{ran:?}");
    });
}

#[test]
fn the_answer_of_another_is_an_error() {
    bounded(LIMIT, || {
        // The first two answers are right; from then on each gets that of the one before.
        let before = std::sync::Mutex::new(String::new());
        let count = std::sync::atomic::AtomicUsize::new(0);
        let mixing = Application::tcp(move |mut connection: Connection, _: &Stage| {
            while let Ok(request) = connection.read_request(LIMIT) {
                let query = request.param("QUERY_STRING").unwrap_or_default().to_owned();
                let mut before = before.lock().expect("the one before");
                let mixed = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 2;
                let body = if mixed { before.clone() } else { query.clone() };
                *before = query;
                if connection.try_answer(request.id, body.as_bytes()).is_err() {
                    return;
                }
            }
        });
        let ran = run(&["bench", &mixing.address(), "/a.php", "-n", "20", "-c", "1", "--keep", "--token", "--json"]);
        let report = ran.json();
        assert_eq!(
            (ran.code, &report["failures"]["token"], &report["good_answers"]),
            (Some(3), &19.into(), &1.into()),
            "{report}"
        );
    });
}

#[test]
fn an_application_that_dies_under_load_is_told_by_kind() {
    bounded(LIMIT, || {
        let mut php = PhpFpm::pool(2).start();
        let address = php.address();
        let script = format!("{}?ms=20", php.script("slow.php"));
        let loading = std::thread::spawn(move || run(&["bench", &address, &script, "-t", "1s", "-c", "2", "--json"]));
        std::thread::sleep(Duration::from_millis(500));
        php.signal(Signal::SIGTERM);
        php.wait_exit(LIMIT);
        let ran = loading.join().expect("it ran");
        let report = ran.json();
        assert_eq!(ran.code, Some(3), "{report}");
        assert!(
            report["failures"]["connect"].as_u64() > Some(0) && report["good_answers"].as_u64() > Some(0),
            "{report}"
        );
        assert!(
            report["failure_examples"]["connect"].as_str().is_some_and(|text| text.contains("refused")),
            "{report}"
        );
    });
}

#[test]
fn a_first_answer_that_makes_no_sense_to_measure_is_the_last() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let ran = run(&["bench", &php.address(), "/no/such.php"]);
        assert_eq!(ran.code, Some(22), "{ran:?}");
        assert!(ran.err.contains("status 404: \"File not found.\"; nothing more was sent"), "{ran:?}");
        let ran = run(&["bench", &php.address(), &php.script("pid.php"), "--token"]);
        assert_eq!(ran.code, Some(22), "{ran:?}");
        assert!(ran.err.contains("without the token"), "{ran:?}");
    });
}
