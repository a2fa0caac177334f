//! Request smuggling: what a script leaves unread of its body, php-fpm parses as further FastCGI records on a kept
//! connection. A FastCGI request planted in a body must never be executed, and nobody else's request may suffer from it.
//!
//! Where php-fpm would go on to read is not known in advance: a row of empty STDIN records, which it skips between
//! requests, leads to the planted one from every offset, and is tried at all eight offsets modulo its length.
//!
//! PHP 8.2.36 and 8.4.28 drain what is left unread; these tests say something only where an older one runs, which is there
//! beside the installed one. That the attacks are real on it is shown by a rule that is too wide.
#![allow(clippy::disallowed_methods, reason = "real peers need real time")]

use std::{net::SocketAddr, time::Duration};

use crate::support::{
    Fcgimux, Load, Nginx, PhpFpm, PhpProgram, Pool, Request, Unread, bounded,
    fcgi::Call,
    planted::{Body, MARK, OCTETS, SHIFTS},
    wait_until,
};

const LIMIT: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(10);

const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=x";

/// One body with a planted request, as php-fpm may be brought to leave it unread.
struct Attack {
    method: &'static str,
    /// Script and query.
    path: &'static str,
    content_type: &'static str,
    /// What comes in front of the planted records.
    start: Vec<u8>,
    size: usize,
}

fn attack(method: &'static str, path: &'static str, content_type: &'static str, size: usize) -> Attack {
    Attack { method, path, content_type, start: Vec::new(), size }
}

impl Attack {
    fn behind(mut self, start: &[u8]) -> Self {
        self.start = start.to_vec();
        self
    }

    fn body(&self, php: &PhpFpm, shift: usize) -> Vec<u8> {
        Body { content_type: self.content_type, start: &self.start, size: self.size }.bytes(php, shift)
    }

    /// As a web server sends it that lets everything through.
    fn call(&self, php: &PhpFpm, shift: usize) -> Call {
        let (script, query) = self.path.split_once('?').unwrap_or((self.path, ""));
        Call::new(self.method, &php.script(script)).query(query).body(self.content_type, self.body(php, shift)).last()
    }
}

/// Runs each attack at each offset, straight and through nginx, while others use the same connections, with each php-fpm.
fn assert_harmless(pool: Pool, others: fn(u64) -> Request, attacks: fn() -> Vec<Attack>) {
    for program in PhpProgram::all() {
        assert_harmless_behind(pool.clone().run_by(&program), "", others, attacks);
    }
}

/// `rule` is a line of the pool: another rule than the one by default.
fn assert_harmless_behind(pool: Pool, rule: &'static str, others: fn(u64) -> Request, attacks: fn() -> Vec<Attack>) {
    bounded(LIMIT, move || {
        let php = pool.start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 3}").pool(rule).start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).workers(2).start();
        let load = Load::on(nginx.address(), others).clients(4).duration(LIMIT).start();
        wait_until("others are there", || load.begun() > 20);
        for attack in attacks() {
            for shift in SHIFTS {
                let reply = mux.call(&attack.call(&php, shift), SOON).whole();
                let name = format!("{} {} {}, shift {shift}", attack.method, attack.path, attack.content_type);
                assert!(!reply.stdout.windows(MARK.len()).any(|part| part == MARK.as_bytes()), "{name}: answered");
                // nginx refuses other methods, and files that it is not configured for.
                if attack.method != "post" && attack.method != "Post" {
                    through_nginx(nginx.address(), &attack, attack.body(&php, shift), &name);
                }
                let planted = php.side_effects();
                assert!(planted.is_empty(), "{name}: executed {planted:?}");
            }
        }
        let report = load.stop();
        println!("{report}");
        report.assert_clean();
        // What has been planted may lie in a connection that nobody has used since.
        for _ in 0..20 {
            let reply = mux.call(&Call::get(&php.script("echo.php")).query("token=last").last(), SOON).whole();
            assert_eq!(reply.text(), "last\n");
        }
        assert_eq!(php.side_effects(), Vec::<String>::new());
    });
}

fn through_nginx(address: SocketAddr, attack: &Attack, body: Vec<u8>, name: &str) {
    let Attack { method, content_type, .. } = *attack;
    let path = format!("/{}", attack.path);
    let make = move |_| Request::new(method, &path).body_bytes(content_type, body.clone()).any_answer();
    let report = Load::on(address, make).count(1).patience(SOON).run();
    // Whatever is answered, an answer there must be; some attacks end in an error of PHP.
    let broken = report.errors.keys().any(|kind| !kind.starts_with("status 4"));
    assert!(!broken, "{name}: {report}");
}

fn gets_and_posts(number: u64) -> Request {
    match number % 4 {
        0 => Request::echo("POST", 100).body(3_000, number),
        1 => Request::echo("POST", 100).body(16_000, number),
        _ => Request::echo("GET", 100).micros(500),
    }
}

#[test]
fn a_request_planted_in_a_body_that_a_script_reads_in_part_is_never_executed() {
    assert_harmless(PhpFpm::pool(4).ini("post_max_size", "40000"), gets_and_posts, || {
        let mut attacks = vec![];
        for path in ["partial.php?read=100", "partial.php?read=0", "partial.php?read=8192"] {
            for (method, size) in [("PUT", 600), ("PUT", 16_000), ("PUT", 60_000), ("PATCH", 20_000), ("GET", 60_000)] {
                attacks.push(attack(method, path, OCTETS, size));
            }
            // Above post_max_size, and with a method that PHP does not take for POST.
            for (method, size) in [("POST", 60_000), ("POST", 41_000), ("post", 9_000), ("Post", 16_000)] {
                attacks.push(attack(method, path, OCTETS, size));
            }
            for method in ["DELETE", "OPTIONS", "PROPFIND"] {
                attacks.push(attack(method, path, OCTETS, 12_000));
            }
        }
        attacks
    });
}

#[test]
fn a_request_planted_in_a_form_that_php_gives_up_on_is_never_executed() {
    assert_harmless(PhpFpm::pool(4), gets_and_posts, || {
        let nameless = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n";
        let part = b"--x\r\nContent-Disposition:form-data;name=a\r\n\r\n\r\n";
        let mut attacks = vec![];
        for path in ["partial.php?read=100", "partial.php?read=0", "partial.php?open=0"] {
            for size in [2_000, 16_000, 60_000] {
                attacks.push(attack("POST", path, MULTIPART, size).behind(nameless));
                attacks.push(attack("POST", path, "multipart/form-data", size));
                attacks.push(attack("POST", path, "MultiPart/Form-Data; boundary=x", size).behind(nameless));
            }
            attacks.push(attack("POST", path, MULTIPART, 65_000).behind(&part.repeat(1_100)));
            attacks.push(attack("POST", path, MULTIPART, 16_000).behind(&part.repeat(300)));
        }
        attacks
    });
}

#[test]
fn a_request_planted_in_a_form_with_too_many_parts_is_never_executed() {
    assert_harmless(PhpFpm::pool(4).ini("max_multipart_body_parts", "10"), gets_and_posts, || {
        let part = b"--x\r\nContent-Disposition:form-data;name=a\r\n\r\n\r\n";
        ["partial.php?read=100", "partial.php?read=0"]
            .map(|path| attack("POST", path, MULTIPART, 10_000).behind(&part.repeat(30)))
            .into()
    });
}

/// PHP keeps 16 KiB of a body in memory; the rest goes to a temporary file, or is left unread where it cannot have one.
#[test]
fn a_request_planted_in_a_post_is_never_executed_when_php_has_no_room_for_temporary_files() {
    assert_harmless(PhpFpm::pool(4).ini("sys_temp_dir", "/nonexistent"), gets_and_posts, || {
        let sizes = [16_000, 16_383, 16_384, 16_385, 16_500, 20_000, 65_535, 100_000];
        let paths = ["partial.php?open=0", "partial.php?read=100"];
        let mut attacks = vec![];
        for size in sizes {
            attacks.extend(paths.map(|path| attack("POST", path, OCTETS, size)));
            attacks.push(attack("POST", paths[0], FORM, size));
        }
        attacks
    });
}

/// POSTs after which a connection is used again: PHP must have read them whole, whatever becomes of the script.
#[test]
fn a_request_planted_in_a_small_post_is_never_executed_whatever_becomes_of_the_script() {
    assert_harmless(PhpFpm::pool(4).set("ping.path", "/ping").set("pm.status_path", "/status"), gets_and_posts, || {
        let mut attacks = vec![];
        for size in [500, 8_200, 16_384] {
            for path in ["partial.php?read=100", "partial.php?open=0", "missing.php", "side_effects.inc", "finish.php"]
            {
                attacks.push(attack("POST", path, OCTETS, size));
            }
            attacks.push(attack("POST", "partial.php?read=100", FORM, size));
            attacks.push(attack("POST", "partial.php?read=100", FORM, size).behind(&b"a=1&".repeat(100)));
            attacks.push(attack("POST", "partial.php?read=100", "", size));
            attacks.push(attack("POST", "partial.php?read=100", "multipart/mixed; boundary=x", size));
        }
        attacks
    });
}

/// A rule under which a connection is used again after any POST.
const TOO_WIDE: &str = "reuse_after_body: {post_up_to: 1MiB, multipart: true}";

/// One for each reason for which PHP leaves a POST unread; `sys_temp_dir` and `post_max_size` are those of [`tight`].
fn attacks_on_a_wide_rule() -> Vec<Attack> {
    let nameless = b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n";
    vec![
        attack("POST", "partial.php?read=100", OCTETS, 60_000),
        attack("POST", "partial.php?open=0", OCTETS, 20_000),
        attack("POST", "partial.php?read=0", MULTIPART, 30_000).behind(nameless),
    ]
}

fn tight(program: &PhpProgram) -> Pool {
    PhpFpm::pool(4).run_by(program).ini("post_max_size", "40000").ini("sys_temp_dir", "/nonexistent")
}

/// What the other tests rest on: with a rule that is too wide the planted requests do run on such a PHP.
#[test]
fn without_the_rule_each_of_these_attacks_succeeds_on_a_php_that_executes_unread_bodies() {
    for program in PhpProgram::that(Unread::Executed) {
        bounded(LIMIT, move || {
            let php = tight(&program).start();
            let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 1}").pool(TOO_WIDE).start();
            for attack in attacks_on_a_wide_rule() {
                php.clear_side_effects();
                for shift in SHIFTS {
                    mux.call(&attack.call(&php, shift), SOON);
                    // Whatever lies in the connection is read before this is answered.
                    mux.call(&Call::get(&php.script("echo.php")), SOON);
                }
                let executed = php.side_effects();
                assert!(executed.iter().any(|line| line.starts_with(MARK)), "{} of {} bytes", attack.path, attack.size);
            }
        });
    }
}

/// Where PHP drains what is left unread a wide rule is harmless; see `reuse_after_body.post_up_to` in docs/settings.md.
#[test]
fn without_the_rule_a_php_that_drains_unread_bodies_executes_none() {
    for program in PhpProgram::that(Unread::Drained) {
        assert_harmless_behind(tight(&program), TOO_WIDE, gets_and_small_posts, attacks_on_a_wide_rule);
    }
}

/// Small enough for PHP's memory where it has no room for temporary files.
fn gets_and_small_posts(number: u64) -> Request {
    match number % 3 {
        0 => Request::echo("POST", 100).body(3_000, number),
        _ => Request::echo("GET", 100).micros(500),
    }
}
