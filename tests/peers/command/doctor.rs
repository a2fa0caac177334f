//! `fcgimux doctor` against real applications, and one that behaves like old PHP.

use super::{LIMIT, run};
use crate::support::{
    Fcgimux, Folder, PhpFpm, PhpProgram, Pool, Port, Unread,
    apps::{self, Program},
    bounded,
    fcgi::{self, Application, Connection, Stage, old_php},
    in_three_attempts, wait_until,
};

/// A pool with its pages apart from its workers, and where they are.
fn with_pages(pool: Pool) -> (PhpFpm, Port) {
    let port = Port::free();
    let pool = pool.set("pm.status_path", "/status").set("pm.status_listen", &port.address().to_string());
    (pool.start(), port)
}

#[test]
fn a_php_fpm_that_is_well_is_told_so_with_settings_for_both_sides() {
    bounded(LIMIT, || {
        let (php, status) = with_pages(PhpFpm::pool(9).ini("expose_php", "1"));
        let (address, status, script) = (php.address(), status.address().to_string(), php.script("echo.php"));
        let arguments = ["doctor", &address, "--script", &script, "--status-address", &status, "--sidecars", "2"];
        // A busy machine stalls, and is told so.
        in_three_attempts(|| {
            let ran = run(&[&arguments[..], &["--json"]].concat());
            let report = ran.json();
            assert_eq!(
                (&report["application"], &report["multiplexes"]),
                (&"php-fpm".into(), &false.into()),
                "{report}"
            );
            assert!(report["php"].as_str().is_some_and(|version| version.starts_with("8.")), "{report}");
            assert_eq!(report["announced"], serde_json::json!({ "FCGI_MPXS_CONNS": "0" }));
            assert_eq!((&report["keeps_behind_values"], &report["keeps_behind_request"]), (&true.into(), &true.into()));
            assert_eq!((&report["round_trips"]["count"], &report["error"]), (&30.into(), &serde_json::Value::Null));
            let page = &report["status_page"];
            assert_eq!((&page["pm"], &page["workers"]), (&"static".into(), &9.into()));
            assert_eq!((&page["max_children_reached"], &page["listen_queue"]), (&0.into(), &0.into()));
            let settings = report["settings"]["fcgimux"].as_str().expect("settings").to_owned();
            assert!(
                settings.contains("per_endpoint: 4") && settings.contains(&format!("address: \"{address}\"")),
                "{settings}"
            );
            check(&settings);
            let php_fpm = report["settings"]["php_fpm"].as_str().expect("settings");
            assert!(
                php_fpm.contains("pm.max_children = 9 ") && php_fpm.contains("pm.status_listen = 0.0.0.0:"),
                "{php_fpm}"
            );
            match (ran.code, ran.warnings().as_slice()) {
                (Some(0), []) => Ok(()),
                (Some(3), [stalls]) if stalls == "stalls" => Err("stalls".to_owned()),
                _ => panic!("{report}"),
            }
        });
        let text = run(&arguments).out;
        for part in [
            "php-fpm, PHP 8.",
            "keeps         behind GET_VALUES: kept; behind a request: kept",
            "median",
            "# fcgimux:",
            "; php-fpm:",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    });
}

/// fcgimux takes the settings.
#[track_caller]
fn check(settings: &str) {
    let folder = Folder::new();
    let file = folder.write("fcgimux.yaml", settings).display().to_string();
    let ran = run(&["check", &file]);
    assert_eq!(ran.code, Some(0), "{ran:?}: {settings}");
}

#[test]
fn it_takes_one_worker_and_leaves_none_behind() {
    bounded(LIMIT, || {
        let (php, status) = with_pages(PhpFpm::pool(1));
        for _ in 0..2 {
            let ran = run(&["doctor", &php.address(), "--probes", "5", "--json"]);
            assert_eq!(ran.json()["keeps_behind_request"], true, "{ran:?}");
        }
        let page = || run(&["call", &status.address().to_string(), "/status?json&full"]).json();
        wait_until("the worker waits for somebody", || page()["processes"][0]["state"] == "Idle");
        assert_eq!(page()["listen queue"], 0);
    });
}

#[test]
fn on_demand_workers_are_warned_of() {
    bounded(LIMIT, || {
        let pool = PhpFpm::pool(0).set("pm", "ondemand").set("pm.max_children", "3");
        let (php, _status) = with_pages(pool);
        let ran = run(&["doctor", &php.address(), "--json", "--probes", "3"]);
        assert_eq!((ran.code, &ran.json()["status_page"]["pm"]), (Some(3), &"ondemand".into()), "{ran:?}");
        assert!(ran.warnings().contains(&"ondemand".to_owned()), "{ran:?}");
    });
}

#[test]
fn too_few_workers_for_the_sidecars_are_warned_of() {
    bounded(LIMIT, || {
        let (php, _status) = with_pages(PhpFpm::pool(3));
        let ran = run(&["doctor", &php.address(), "--json", "--sidecars", "2", "--per-endpoint", "2"]);
        assert!(ran.warnings().contains(&"max_children".to_owned()), "{ran:?}");
        assert_eq!(ran.code, Some(3));
        let settings = ran.json();
        assert!(
            settings["settings"]["fcgimux"].as_str().is_some_and(|text| text.contains("per_endpoint: 1")),
            "{settings}"
        );
        assert!(settings["settings"]["php_fpm"].as_str().is_some_and(|text| text.contains("pm.max_children = 5")));
    });
}

#[test]
fn a_php_that_closes_behind_a_question_is_told_as_old() {
    bounded(LIMIT, || {
        let application = Application::tcp(old_php);
        let ran = run(&["doctor", &application.address(), "--json", "--timeout", "2s"]);
        let report = ran.json();
        assert_eq!((ran.code, &report["keeps_behind_values"]), (Some(3), &false.into()), "{report}");
        assert!(ran.warnings().contains(&"old_php".to_owned()), "{report}");
    });
}

#[test]
fn requests_that_recycle_their_worker_close_the_connection() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).set("pm.max_requests", "1").start();
        let ran = run(&["doctor", &php.address(), "--json", "--probes", "3", "--script", &php.script("echo.php")]);
        assert_eq!(ran.json()["keeps_behind_request"], false, "{ran:?}");
        assert!(ran.warnings().contains(&"closes_behind_request".to_owned()), "{ran:?}");
    });
}

#[test]
fn its_configuration_shows_what_cannot_be_seen_from_outside() {
    bounded(LIMIT, || {
        let (php, _status) = with_pages(PhpFpm::pool(4).set("request_terminate_timeout", "20s"));
        let file = php.scripts().parent().expect("a folder").join("php-fpm.conf").display().to_string();
        let ran = run(&["doctor", &php.address(), "--json", "--probes", "3", "--php-fpm-conf", &file]);
        let warnings = ran.warnings();
        for word in ["process_control_timeout", "request_terminate_timeout"] {
            assert!(warnings.iter().any(|warning| warning == word), "{word} in {warnings:?}");
        }
        let php = PhpFpm::pool(4).global("process_control_timeout", "10s").start();
        let file = php.scripts().parent().expect("a folder").join("php-fpm.conf").display().to_string();
        let ran = run(&["doctor", &php.address(), "--json", "--probes", "3", "--php-fpm-conf", &file]);
        assert!(!ran.warnings().contains(&"process_control_timeout".to_owned()), "{ran:?}");
    });
}

#[test]
fn a_php_that_takes_unread_bodies_for_requests_is_named() {
    bounded(LIMIT, || {
        for program in PhpProgram::all() {
            // Of another version nothing is said.
            if !matches!(program.version(), (8, 2 | 4, _)) {
                continue;
            }
            let php = PhpFpm::pool(2).run_by(&program).ini("expose_php", "1").start();
            let ran = run(&["doctor", &php.address(), "--json", "--probes", "2", "--script", &php.script("echo.php")]);
            let remarks = &ran.json()["remarks"];
            let mut remarks = remarks.as_array().expect("remarks").iter();
            let is_named = remarks.any(|remark| remark["word"] == "unread_bodies" && remark["weight"] == "note");
            assert_eq!(is_named, program.unread() == Unread::Executed, "{ran:?}");
        }
    });
}

#[test]
fn go_is_known_by_what_it_announces() {
    bounded(LIMIT, || {
        let app = Program::go().start();
        let ran = run(&["doctor", &app.address(), "--json", "--probes", "10", "--script", "/app.php"]);
        let report = ran.json();
        assert_eq!((&report["application"], &report["multiplexes"]), (&"go".into(), &true.into()), "{report}");
        assert_eq!((&report["keeps_behind_values"], &report["keeps_behind_request"]), (&true.into(), &true.into()));
        let settings = report["settings"]["fcgimux"].as_str().expect("settings");
        assert!(settings.contains("application: generic"), "{settings}");
        check(settings);
        assert_eq!(report["settings"]["php_fpm"], serde_json::Value::Null);
        // Its second, empty result is not the answer to the next question.
        assert_eq!(report["round_trips"]["count"], 10, "{report}");
    });
}

#[test]
fn every_kind_of_application_is_looked_at_to_the_end() {
    bounded(LIMIT, || {
        for program in apps::ALL {
            let app = program().start();
            let script = app.scripts().join("app.php").display().to_string();
            let ran = run(&["doctor", &app.address(), "--json", "--probes", "5", "--script", &script]);
            let report = ran.json();
            let kept = (&report["keeps_behind_values"], &report["keeps_behind_request"]);
            assert_eq!(kept, (&true.into(), &true.into()), "{}: {report}", app.name());
            assert_eq!((&report["requests"][1]["status"], &report["php"]), (&200.into(), &serde_json::Value::Null));
            assert_eq!(report["application"] == "libfcgi", app.uses_libfcgi(), "{}: {report}", app.name());
            let warnings = ran.warnings();
            assert!(warnings.iter().all(|word| word == "stalls"), "{}: {report}", app.name());
        }
    });
}

#[test]
fn behind_fcgimux_it_is_seen_that_something_multiplexes() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(2).start();
        let mux = Fcgimux::to(php.address()).start();
        let ran = run(&["doctor", &mux.socket().display().to_string(), "--json", "--script", &php.script("echo.php")]);
        let report = ran.json();
        assert_eq!((&report["application"], &report["multiplexes"]), (&"multiplexer".into(), &true.into()), "{report}");
        assert_eq!(report["keeps_behind_request"], true, "{report}");
    });
}

#[test]
fn the_status_page_is_looked_at_also_while_nobody_else_answers() {
    bounded(LIMIT, || {
        let (php, status) = with_pages(PhpFpm::pool(1));
        let _held = php.proven();
        let status = status.address().to_string();
        let ran = run(&["doctor", &php.address(), "--timeout", "300ms", "--status-address", &status]);
        assert_eq!(ran.code, Some(28), "{ran:?}");
        assert!(ran.err.contains("1 worker: 0 idle, 0 busy, 1 held by connections that somebody keeps"), "{ran:?}");
        let ran = run(&["doctor", &php.address(), "--timeout", "300ms", "--status-address", &status, "--json"]);
        let report = ran.json();
        assert_eq!(
            (&report["error"]["kind"], &report["status_page"]["held"]),
            (&"timeout".into(), &1.into()),
            "{report}"
        );
    });
}

#[test]
fn what_an_application_says_does_not_steer_the_terminal() {
    bounded(LIMIT, || {
        let head = "X-Powered-By: PHP/8\x1b]0;owned\x07\r\nContent-Type: text/plain\r\n\r\n";
        let application = Application::tcp(move |mut connection: Connection, _: &Stage| {
            while let Ok(record) = connection.read_record(LIMIT) {
                if record.kind == fcgi::GET_VALUES {
                    connection.send(&fcgi::record(fcgi::GET_VALUES_RESULT, 0, b"\x05\x02NAME\x1b\x1b["));
                } else if record.kind == fcgi::STDIN && record.content.is_empty() {
                    let answer = fcgi::record(fcgi::STDOUT, record.id, head.as_bytes());
                    connection.send(&[answer, fcgi::end_request(record.id, 0, 0)].concat());
                }
            }
        });
        let ran = run(&["doctor", &application.address(), "--probes", "2"]);
        assert!(ran.out.contains("PHP 8\u{fffd}]0;owned\u{fffd}") && ran.out.contains("NAME\u{fffd}"), "{ran:?}");
        assert!(!ran.out.contains(['\x1b', '\x07']), "{ran:?}");
    });
}

#[test]
fn a_number_of_workers_that_cannot_be_seen_is_not_made_up() {
    bounded(LIMIT, || {
        let pool = PhpFpm::pool(0).set("pm", "ondemand").set("pm.max_children", "30");
        let (php, _status) = with_pages(pool);
        let settings = &run(&["doctor", &php.address(), "--json", "--probes", "2"]).json()["settings"];
        for (side, setting) in [("fcgimux", "connections:"), ("php_fpm", "pm.max_children")] {
            let text = settings[side].as_str().expect("settings");
            let line = text.lines().find(|line| line.contains(setting)).expect(setting);
            assert!(line.trim_start().starts_with(['#', ';']), "{text}");
        }
    });
}
