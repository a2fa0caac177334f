//! `fcgimux call` against applications that answer.

use super::{LIMIT, run, run_with};
use crate::support::{
    Fcgimux, Folder, PhpFpm, Pool, apps, bounded,
    fcgi::{self, Application, Connection, STDERR, STDOUT, Stage},
    in_three_attempts,
};

/// php-fpm, and the same behind a fcgimux: both addresses.
fn php_and_behind() -> (PhpFpm, Fcgimux, [String; 2]) {
    in_front_of(PhpFpm::pool(2))
}

fn in_front_of(pool: Pool) -> (PhpFpm, Fcgimux, [String; 2]) {
    let php = pool.start();
    let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 1}").start();
    let addresses = [php.address(), mux.socket().display().to_string()];
    (php, mux, addresses)
}

#[test]
fn a_page_of_php_comes_on_standard_output_and_nothing_else() {
    bounded(LIMIT, || {
        let (php, _mux, addresses) = php_and_behind();
        let script = php.script("echo.php");
        for address in &addresses {
            let ran = run(&["call", address, &script, "--query", "token=a%20b"]);
            assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "a b\n", ""), "{address}");
            let ran = run(&["call", address, &format!("{script}?token=x&n=300000")]);
            assert_eq!((ran.code, ran.out.len()), (Some(0), 300_000), "{address}");
        }
    });
}

#[test]
fn a_body_is_sent_from_text_file_and_standard_input() {
    bounded(LIMIT, || {
        let (php, _mux, addresses) = php_and_behind();
        let (script, folder) = (php.script("echo.php"), Folder::new());
        let large = vec![b'x'; 3_000_000];
        let file = folder.write("body", &String::from_utf8(large.clone()).expect("ASCII")).display().to_string();
        for address in &addresses {
            let small = run(&["call", address, &script, "-d", "a=1&b=2", "--json"]).json();
            let length = |answer: &serde_json::Value| header(answer, "X-Length");
            assert_eq!((header(&small, "X-Method").as_str(), length(&small).as_str()), ("POST", "7"), "{address}");
            let put = run(&["call", address, &script, "-X", "PUT", "-d", &format!("@{file}"), "--json"]).json();
            assert_eq!((header(&put, "X-Method").as_str(), length(&put).as_str()), ("PUT", "3000000"), "{address}");
            let piped = run_with(&["call", address, &script, "-d", "@-", "--json"], &large).json();
            assert_eq!(length(&piped), "3000000", "{address}");
            assert_eq!(header(&piped, "X-Sha256"), header(&put, "X-Sha256"), "{address}");
        }
    });
}

fn header(answer: &serde_json::Value, name: &str) -> String {
    let headers = answer["headers"].as_array().unwrap_or_else(|| panic!("no headers: {answer}"));
    let found = headers.iter().find(|header| header[0] == name);
    found.and_then(|header| header[1].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn php_sees_what_a_web_server_would_have_said_and_what_flags_change() {
    bounded(LIMIT, || {
        let (php, _mux, addresses) = php_and_behind();
        php.add_script("server.php", "echo json_encode($_SERVER + ['post' => $_POST, 'get' => $_GET]);");
        let root = php.scripts().display().to_string();
        for address in &addresses {
            let ran = run(&[
                "call",
                address,
                "/server.php?a=1",
                "--root",
                &root,
                "--query",
                "b=2",
                "-d",
                "c=3",
                "-H",
                "X-Shop: Ørsted",
                "-H",
                "Cookie: k=v",
                "-P",
                "REMOTE_ADDR=192.0.2.7",
                "-P",
                "MY_PARAM=x=y",
            ]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            let seen = ran.json();
            for (name, value) in [
                ("SCRIPT_FILENAME", format!("{root}/server.php").as_str()),
                ("SCRIPT_NAME", "/server.php"),
                ("DOCUMENT_ROOT", &root),
                ("REQUEST_URI", "/server.php?a=1&b=2"),
                ("REQUEST_METHOD", "POST"),
                ("CONTENT_LENGTH", "3"),
                ("SERVER_PROTOCOL", "HTTP/1.1"),
                ("GATEWAY_INTERFACE", "CGI/1.1"),
                ("REMOTE_ADDR", "192.0.2.7"),
                ("HTTP_HOST", "localhost"),
                ("HTTP_X_SHOP", "Ørsted"),
                ("HTTP_COOKIE", "k=v"),
                ("MY_PARAM", "x=y"),
            ] {
                assert_eq!(seen[name], value, "{name} through {address}");
            }
            assert_eq!((&seen["get"]["b"], &seen["post"]["c"]), (&"2".into(), &"3".into()));
        }
    });
}

#[test]
fn status_headers_and_stderr_are_told_apart_and_fail_makes_an_exit_code() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let mux = Fcgimux::to(php.address()).start();
        let text = "http_response_code(503); header('X-A: b'); echo 'sorry';";
        let script = php.add_script("sorry.php", text);
        for address in [php.address(), mux.socket().display().to_string()] {
            let ran = run(&["call", &address, &script, "-i"]);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert!(ran.out.starts_with("Status: 503 ") && ran.out.ends_with("\r\n\r\nsorry"), "{ran:?}");
            assert!(ran.out.contains("\r\nX-A: b\r\n"), "{ran:?}");
            assert_eq!(ran.err, "", "{address}");
            let ran = run(&["call", "-f", &address, &script]);
            assert_eq!((ran.code, ran.out.as_str()), (Some(22), "sorry"), "{address}");
            let report = run(&["call", "-f", &address, &script, "--json"]);
            let (code, report) = (report.code, report.json());
            assert_eq!((code, &report["status"], &report["exit_code"]), (Some(22), &503.into(), &22.into()));
            assert_eq!((&report["body"], &report["error"]), (&"sorry".into(), &serde_json::Value::Null));
            // php-fpm says why in STDERR.
            let ran = run(&["call", "-f", &address, "/no/such.php"]);
            let told = (ran.code, ran.out.as_str(), ran.err.as_str());
            assert_eq!(told, (Some(22), "File not found.\n", "Primary script unknown\n"), "{address}");
            let report = run(&["call", &address, "/no/such.php", "--json"]).json();
            assert_eq!((&report["status"], &report["stderr"]), (&404.into(), &"Primary script unknown".into()));
        }
    });
}

#[test]
fn each_phase_is_timed_in_order() {
    bounded(LIMIT, || {
        let (php, _mux, addresses) = in_front_of(PhpFpm::pool(2).ini("output_buffering", "0"));
        // A line at 100 ms, one at 200 ms.
        let script = format!("{}?ms=200&steps=2", php.script("slow.php"));
        for address in &addresses {
            in_three_attempts(|| {
                let report = run(&["call", address, &script, "--json"]).json();
                let at = |phase: &str| report["milliseconds"][phase].as_f64().unwrap_or_else(|| panic!("{report}"));
                assert!(at("connect") >= 0.0 && at("sent") <= at("first_byte"), "{report}");
                assert!(at("first_byte") >= 99.0 && at("end") >= 199.0, "{report}");
                // It comes as it is flushed.
                if at("end") - at("first_byte") >= 50.0 { Ok(()) } else { Err(report.to_string()) }
            });
            let ran = run(&["call", "-v", address, &script]);
            for part in [
                "* ",
                ": connected in ",
                "> REQUEST_METHOD=GET",
                "< Content-type: text/plain",
                "first byte ",
                "status 200",
            ] {
                assert!(ran.err.to_lowercase().contains(&part.to_lowercase()), "{part} in {}", ran.err);
            }
            assert!(!ran.out.contains("REQUEST_METHOD") && ran.out.starts_with("step 1\nstep 2\n"), "{ran:?}");
        }
    });
}

#[test]
fn other_applications_answer_as_well() {
    bounded(LIMIT, || {
        for program in apps::ALL {
            let app = program().start();
            let script = app.scripts().join("app.php").display().to_string();
            let ran = run(&["call", &app.address(), &script, "--query", "token=t", "-d", "12345", "--json"]);
            let report = ran.json();
            assert_eq!((ran.code, &report["status"]), (Some(0), &200.into()), "{}: {ran:?}", app.name());
            assert_eq!(header(&report, "X-Token"), "t", "{}: {report}", app.name());
            assert_eq!(header(&report, "X-Length"), "5", "{}: {report}", app.name());
        }
    });
}

#[test]
fn the_pages_of_php_fpm_are_scripts_as_well() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).set("pm.status_path", "/status").set("ping.path", "/ping").start();
        let ran = run(&["call", &php.address(), "/ping"]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "pong"));
        let ran = run(&["call", &php.address(), "/status?json"]);
        assert_eq!((ran.code, &ran.json()["process manager"]), (Some(0), &"static".into()));
    });
}

#[test]
fn what_an_application_refuses_or_breaks_off_has_an_exit_code_and_a_reason() {
    let head = b"Content-Type: text/plain\r\n\r\nbegin";
    bounded(LIMIT, move || {
        let says = |bytes: Vec<u8>| {
            Application::tcp(move |mut connection: Connection, _: &Stage| {
                if connection.read_request(LIMIT).is_ok() {
                    connection.send(&bytes);
                }
            })
        };
        let end = |status| fcgi::end_request(1, 0, status);
        let cases = [
            (end(2), 75, "FCGI_OVERLOADED"),
            (end(1), 75, "FCGI_CANT_MPX_CONN"),
            (end(3), 75, "FCGI_UNKNOWN_ROLE"),
            (fcgi::record(STDOUT, 1, head), 56, "closed after 41 bytes"),
            (fcgi::record(STDOUT, 1, head)[..20].to_vec(), 56, "closed after 20 bytes"),
            ([fcgi::record(STDOUT, 1, b"no header block"), end(0)].concat(), 8, "no header block"),
            ([fcgi::record(STDOUT, 2, head), end(0)].concat(), 8, "STDOUT of request 2 in the answer to request 1"),
            (fcgi::record(fcgi::PARAMS, 1, b"x"), 8, "PARAMS record (id 1) in place of an answer"),
            (fcgi::record(fcgi::END_REQUEST, 1, b"x"), 8, "END_REQUEST of 1 bytes"),
        ];
        for (bytes, code, part) in cases {
            let application = says(bytes);
            let ran = run(&["call", &application.address(), "/a.php"]);
            assert_eq!(ran.code, Some(code), "{part}: {ran:?}");
            assert!(ran.err.starts_with("fcgimux: ") && ran.err.contains(part), "{part} in {ran:?}");
            assert!(ran.err.contains(&application.address()), "{ran:?}");
        }
        let noisy = [fcgi::record(STDERR, 1, b"words"), fcgi::record(STDOUT, 1, head), end(0)].concat();
        let ran = run(&["call", &says(noisy).address(), "/a.php"]);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "begin", "words\n"));
    });
}

#[test]
fn an_answer_without_an_end_ends_with_the_time() {
    bounded(LIMIT, || {
        let endless = Application::tcp(|mut connection: Connection, _: &Stage| {
            let record = fcgi::record(STDOUT, 1, &[b'x'; 60_000]);
            while connection.read_request(LIMIT).is_ok() {
                while connection.try_send(&record).is_ok() {}
            }
        });
        for command in ["call", "bench"] {
            let ran = run(&[command, &endless.address(), "/a.php", "--timeout", "500ms"]);
            assert_eq!((ran.code, ran.out.as_str()), (Some(28), ""), "{command}: {ran:?}");
            assert!(ran.err.contains("bytes came, and not the end"), "{command}: {ran:?}");
        }
    });
}

#[test]
fn an_answer_that_fcgimux_had_to_cut_is_seen_as_cut() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let mux = Fcgimux::to(php.address()).start();
        let script = php.add_script("dies.php", "echo str_repeat('x', 20000); flush(); sleep(1); posix_kill(0, 0);");
        let script = format!("{script}?x");
        let caller = std::thread::spawn({
            let socket = mux.socket().display().to_string();
            move || run(&["call", &socket, &script])
        });
        std::thread::sleep(std::time::Duration::from_millis(400));
        php.workers().into_iter().for_each(|worker| php.signal_worker(worker, nix::sys::signal::Signal::SIGKILL));
        let ran = caller.join().expect("it ran");
        assert_eq!(ran.code, Some(56), "{ran:?}");
        assert!(ran.out.starts_with("xxx"), "{ran:?}");
    });
}
