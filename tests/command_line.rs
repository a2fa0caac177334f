//! What an operator sees of the command line: help, `check`, messages and exit codes.

use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    path::Path,
    process::{Command, Output},
};

const GOOD: &str = "pools:\n  php:\n    endpoints:\n      - dns: php:9000\n    params: {set: {TOKEN: hunter2}}\n";
const BAD: &str = "threads: 0\npools:\n  php:\n    endpoint: []\n    queue: {timeout: 10}\n";

fn fcgimux(arguments: &[&str], directory: &Path) -> Output {
    in_zone(arguments, directory, "")
}

/// With the zone that the environment names; empty for none.
fn in_zone(arguments: &[&str], directory: &Path, zone: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fcgimux"))
        .args(arguments)
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .env("FCGIMUX_ZONE", zone)
        .output()
        .expect("the program is built with its tests")
}

fn in_directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect("a file in it can be written");
    }
    directory
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

#[test]
fn check_prints_every_violation_with_file_and_line() {
    let directory = in_directory(&[("bad.yaml", BAD)]);
    let output = fcgimux(&["check", "bad.yaml"], directory.path());
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty());
    let stderr = text(&output.stderr);
    let begins: Vec<&str> = stderr.lines().map(|line| &line[..line.find(": ").unwrap_or(0)]).collect();
    assert_eq!(begins, ["bad.yaml:1", "bad.yaml:3", "bad.yaml:4", "bad.yaml:5"], "{stderr}");
    assert!(stderr.contains("bad.yaml:4: pools.php.endpoint: unknown key; did you mean endpoints?"), "{stderr}");
}

#[test]
fn check_prints_the_effective_configuration_which_checks_again() {
    let directory = in_directory(&[("good.yaml", GOOD)]);
    let output = fcgimux(&["check", "good.yaml"], directory.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    assert!(stdout.contains("depth: 1024") && stdout.contains("TOKEN") && !stdout.contains("hunter2"), "{stdout}");
    std::fs::write(directory.path().join("again.yaml"), &stdout).expect("a file can be written");
    assert_eq!(text(&fcgimux(&["check", "again.yaml"], directory.path()).stdout), stdout);
}

#[test]
fn a_bad_file_is_refused_at_start_as_well() {
    let directory = in_directory(&[("bad.yaml", BAD)]);
    let output = fcgimux(&["--config", "bad.yaml"], directory.path());
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(text(&output.stderr).lines().count(), 4);
}

#[test]
fn a_file_that_cannot_be_read_has_its_own_exit_code() {
    let directory = in_directory(&[]);
    for arguments in [&["check", "none.yaml"][..], &["--config", "none.yaml"], &["check", "."]] {
        let output = fcgimux(arguments, directory.path());
        assert_eq!(output.status.code(), Some(66), "{arguments:?}");
        assert!(text(&output.stderr).starts_with("fcgimux: cannot read "), "{}", text(&output.stderr));
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let directory = in_directory(&[]);
    let output = fcgimux(&["--help"], directory.path());
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for part in ["--upstream", "--per-endpoint", "[default: 8]", "[default: /run/fcgimux.sock]", "check", "Exit codes"]
    {
        assert!(help.contains(part), "{part} in {help}");
    }
    let output = fcgimux(&["--version"], directory.path());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), format!("fcgimux {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_bad_command_line_is_refused_with_64() {
    let directory = in_directory(&[("good.yaml", GOOD)]);
    for (arguments, part) in [
        (&[][..], "Usage"),
        (&["--nonsense"], "--nonsense"),
        (&["check"], "<FILE>"),
        (&["--threads", "two", "--upstream", "php:9000"], "two"),
        (&["--threads", "2"], "--upstream: missing"),
        (&["--upstream", "php"], "--upstream: `php` has no port"),
        (&["--upstream", "php:9000", "--threads", "0", "--log-level", "loud"], "--log-level: `loud`"),
        (&["--config", "good.yaml", "--upstream", "php:9000"], "cannot be used with"),
        (&["--config", "good.yaml", "--access-log"], "cannot be used with"),
        (&["--upstream", "php:9000", "check", "good.yaml"], "check"),
    ] {
        let output = fcgimux(arguments, directory.path());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
}

#[test]
fn a_socket_whose_owner_accepts_nothing_is_not_taken_and_not_waited_for() {
    let directory = in_directory(&[]);
    let path = directory.path().join("fcgi.sock");
    let address = SockAddr::unix(&path).unwrap();
    let socket = || Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
    let owner = socket();
    owner.bind(&address).unwrap();
    owner.listen(0).unwrap();
    // Until no more fit.
    let waiting: Vec<_> =
        std::iter::repeat_with(socket).take_while(|socket| socket.connect(&address).is_ok()).collect();
    assert!(!waiting.is_empty());
    let path = path.display().to_string();
    let limited =
        ["10", env!("CARGO_BIN_EXE_fcgimux"), "--upstream", "127.0.0.1:9", "--admin", "off", "--listen", &path];
    let ran = Command::new("timeout").args(limited).output().unwrap();
    assert!(text(&ran.stderr).contains("another process listens there"), "{ran:?}");
}

#[test]
fn the_zone_of_the_environment_counts_where_the_file_names_none() {
    let directory = in_directory(&[("none.yaml", GOOD), ("own.yaml", &format!("zone: eu-1b\n{GOOD}"))]);
    let check = |file, zone| in_zone(&["check", file], directory.path(), zone);
    let shown =
        |output: Output| text(&output.stdout).lines().find(|line| line.starts_with("zone: ")).map(str::to_owned);
    assert_eq!(shown(check("none.yaml", "eu-1a")).as_deref(), Some("zone: eu-1a"));
    assert_eq!(shown(check("own.yaml", "eu-1a")).as_deref(), Some("zone: eu-1b"));
    assert_eq!(shown(check("none.yaml", "")), None);
    let output = check("none.yaml", "eu 1a");
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).starts_with("FCGIMUX_ZONE: `eu 1a` is not a zone"), "{}", text(&output.stderr));
}

#[test]
fn the_examples_check() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    let directory = in_directory(&[]);
    let files = std::fs::read_dir(examples).expect("there are examples").map(|file| file.expect("an entry").path());
    let mut checked = 0;
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
        let output = fcgimux(&["check", &file.display().to_string()], directory.path());
        assert_eq!(output.status.code(), Some(0), "{}: {}", file.display(), text(&output.stderr));
        // As it is with every comment that is a line of configuration taken out of its comment.
        let written = std::fs::read_to_string(&file).expect("an example can be read");
        std::fs::write(directory.path().join("all.yaml"), uncommented(&written)).expect("a file can be written");
        let output = fcgimux(&["check", "all.yaml"], directory.path());
        assert_eq!(output.status.code(), Some(0), "{}: {}", file.display(), text(&output.stderr));
        checked += 1;
    }
    assert!(checked >= 2, "only {checked} examples");
}

/// A comment in front of which nothing stands, and whose text looks like a key, is a suggestion.
fn uncommented(text: &str) -> String {
    let suggestion = |line: &str| {
        let (indent, comment) = line.split_once("# ").filter(|(indent, _)| indent.trim().is_empty())?;
        let key = comment.trim_start().trim_start_matches("- ").split_once(": ")?.0;
        key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_').then(|| format!("{indent}{comment}\n"))
    };
    text.lines().map(|line| suggestion(line).unwrap_or_else(|| format!("{line}\n"))).collect()
}
