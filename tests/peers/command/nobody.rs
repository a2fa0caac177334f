//! Against nothing that answers as it should: each command says what is wrong in a sentence, in time, with an exit code.

use std::{
    os::unix::net::UnixListener,
    process::{Command, Stdio},
    time::Instant,
};

use super::{LIMIT, Ran, run};
use crate::support::{
    Caddy, Fcgimux, Folder, Nginx, PhpFpm, Port, bounded, eventually,
    fcgi::{Application, Call, Unanswering, silent},
};

const COMMANDS: [&str; 3] = ["call", "bench", "doctor"];

/// Each command against this address.
fn each(address: &str, more: &[&str]) -> Vec<(&'static str, Ran)> {
    let run = |command| {
        let script: &[&str] = if command == "doctor" { &[] } else { &["/a.php"] };
        (command, run(&[&[command, address], script, more].concat()))
    };
    COMMANDS.map(run).into()
}

#[track_caller]
fn assert_told(address: &str, more: &[&str], code: i32, parts: &[&str]) {
    for (command, ran) in each(address, more) {
        assert_eq!(ran.code, Some(code), "{command}: {ran:?}");
        assert_eq!(ran.out, "", "{command}");
        assert!(ran.err.starts_with("fcgimux: ") && ran.err.lines().count() == 1, "{command}: {ran:?}");
        parts.iter().for_each(|part| assert!(ran.err.contains(part), "{command}: {part} in {}", ran.err));
    }
}

#[test]
fn nobody_listens() {
    bounded(LIMIT, || {
        let (port, folder) = (Port::free(), Folder::new());
        let address = port.address().to_string();
        assert_told(&address, &[], 7, &[&address, "connection refused", "is the application running"]);
        let missing = folder.join("php.sock").display().to_string();
        assert_told(&missing, &[], 7, &[&missing, "no such file", "there is no such socket"]);
        let dead = folder.join("dead.sock");
        drop(UnixListener::bind(&dead).expect("bind"));
        assert_told(&dead.display().to_string(), &[], 7, &["connection refused"]);
        assert_told("no-such-host.invalid:9000", &[], 6, &["no-such-host.invalid has no address"]);
    });
}

#[test]
fn somebody_accepts_and_says_nothing() {
    bounded(LIMIT, || {
        let application = Application::tcp(silent);
        let begun = Instant::now();
        let parts = [application.address().as_str(), "within 300ms", "workers busy"].map(str::to_owned);
        assert_told(&application.address(), &["--timeout", "300ms"], 28, &parts.each_ref().map(String::as_str));
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
        let hanging = Unanswering::new();
        // The first fill the backlog.
        let held: Vec<_> = (0..4)
            .map(|_| std::net::TcpStream::connect_timeout(&hanging.address(), std::time::Duration::from_millis(200)))
            .collect();
        assert!(held.iter().any(Result::is_err), "the backlog is full");
        let address = hanging.address().to_string();
        assert_told(&address, &["--timeout", "300ms"], 28, &["the connection was not taken within 300ms"]);
    });
}

#[test]
fn a_php_fpm_whose_workers_are_all_held_is_told_from_one_that_is_gone() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).with_status().set("pm.status_path", "/status").start();
        let _held = php.proven();
        assert_told(&php.address(), &["--timeout", "300ms"], 28, &["workers busy or held by kept connections"]);
    });
}

#[test]
fn a_web_server_answers_in_its_own_protocol() {
    bounded(LIMIT, || {
        let folder = Folder::new();
        let nginx = Nginx::site(folder.path(), folder.join("none.sock")).start();
        let address = nginx.address().to_string();
        assert_told(&address, &[], 8, &["not a FastCGI record", "HTTP/1.1 400", "is it a FastCGI application"]);
    });
}

/// Go's HTTP server waits for the end of a line.
#[test]
fn a_web_server_that_waits_for_the_end_of_a_line_answers_in_its_own_protocol() {
    bounded(LIMIT, || {
        let caddy = Caddy::with("http://:{port} {\n    bind 127.0.0.1\n    respond ok\n}");
        let address = caddy.address().to_string();
        let parts = ["not a FastCGI record", "an HTTP server answers there", "HTTP/1.1 400"];
        assert_told(&address, &["--timeout", "300ms"], 8, &parts);
        let mux = Fcgimux::to(&address).pool("timeouts: {prove: 300ms}").start();
        let mut asks = mux.connect();
        asks.send(&Call::get("/a.php").bytes());
        let named = || mux.log().contains("connection did not prove itself: not a FastCGI record");
        assert!(eventually(LIMIT, named) && mux.log().contains("an HTTP server answers there"), "{}", mux.log());
    });
}

#[test]
fn php_fpm_lets_only_others_in() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).set("listen.allowed_clients", "192.0.2.1").start();
        let parts = ["closed without an answer", "listen.allowed_clients"];
        assert_told(&php.address(), &[], 52, &parts);
    });
}

#[test]
fn a_wrong_command_line_is_told_before_anything_is_sent() {
    for (arguments, code, part) in [
        (&["call", "php", "/a.php"][..], 64, "`php` has no port"),
        (&["call", "php:9000"], 64, "<SCRIPT>"),
        (&["call", "127.0.0.1:1", "a.php"], 64, "does not begin with /"),
        (&["call", "127.0.0.1:1", "/a.php", "-P", "X"], 64, "NAME=VALUE"),
        (&["call", "127.0.0.1:1", "/a.php", "--timeout", "5"], 64, "has no unit"),
        (&["call", "127.0.0.1:1", "/a.php", "-d", "@/none/there"], 66, "cannot read /none/there"),
        (&["bench", "127.0.0.1:1", "/a.php", "-r", "0"], 64, "0.001"),
        (&["bench", "127.0.0.1:1", "/a.php", "-c", "0"], 64, "0 is not in"),
        (&["doctor", "127.0.0.1:1", "--sidecars", "0"], 64, "0 is not in"),
        (&["doctor", "127.0.0.1:1", "--php-fpm-conf", "/none/there"], 66, "cannot read /none/there"),
        (&["completions", "powershell"], 64, "bash"),
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(part), "{part} in {ran:?}");
    }
}

#[test]
fn help_of_each_command_names_its_exit_codes_and_gives_examples() {
    for command in COMMANDS {
        let ran = run(&[command, "--help"]);
        assert_eq!(ran.code, Some(0));
        for part in ["Examples:", "Exit codes", "HOST:PORT", "--timeout", "  64", "52"] {
            assert!(ran.out.contains(part), "{part} in {}", ran.out);
        }
    }
}

#[test]
fn shells_take_the_completions() {
    let bash = run(&["completions", "bash"]);
    assert_eq!(bash.code, Some(0), "{bash:?}");
    let folder = Folder::new();
    let file = folder.write("fcgimux.bash", &bash.out).display().to_string();
    // As bash itself asks: COMP_WORDS, and the answer in COMPREPLY.
    let ask =
        "source \"$1\"; COMP_WORDS=(fcgimux call --ti); COMP_CWORD=2; _fcgimux fcgimux --ti call; echo ${COMPREPLY[@]}";
    let output = Command::new("bash").args(["-c", ask, "bash", &file]).output().expect("bash");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "--timeout\n", "{output:?}");
    for (shell, part) in [("zsh", "#compdef fcgimux"), ("fish", "complete -c fcgimux")] {
        let ran = run(&["completions", shell]);
        assert_eq!(ran.code, Some(0));
        assert!(ran.out.contains(part) && ran.out.contains("doctor"), "{shell}");
    }
}

#[test]
fn nobody_reads_standard_error_any_more() {
    bounded(LIMIT, || {
        let (port, php) = (Port::free(), PhpFpm::pool(1).start());
        // As in `2>&1 >/dev/null | head -1`.
        let ends = |arguments: &[&str]| {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let mut command = Command::new(env!("CARGO_BIN_EXE_fcgimux"));
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
            command.status().expect("it ends").code()
        };
        let address = port.address().to_string();
        for arguments in [&["call", &address, "/a"][..], &["bench", &address, "/a"], &["doctor", &address]] {
            assert_eq!(ends(arguments), Some(7), "{arguments:?}");
        }
        assert_eq!(ends(&["call", "-v", &php.address(), &php.script("echo.php")]), Some(0));
        assert_eq!(ends(&["--upstream", "x"]), Some(64));
    });
}
