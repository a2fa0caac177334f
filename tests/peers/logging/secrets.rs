//! No params and no bodies in any line, whatever becomes of the request that carries them.

use super::*;
use crate::support::{bounded, fcgi::Connection};

const SECRET: &str = "hunter2s3cr3t";

/// A request that has it wherever a visitor can put it.
fn planted(call: Call) -> Call {
    call.query(&format!("token={SECRET}"))
        .param("REQUEST_URI", &format!("/a.php?token={SECRET}"))
        .param("HTTP_COOKIE", &format!("session={SECRET}"))
        .param("HTTP_AUTHORIZATION", &format!("Bearer {SECRET}"))
        .param("HTTP_TRACEPARENT", &format!("00-{SECRET}-01"))
        .param("PATH_INFO", &format!("/{SECRET}"))
        .param("CONTENT_TYPE", SECRET)
        .last()
}

fn post(script: &str) -> Call {
    planted(Call::post(script, format!("password={SECRET}")))
}

/// Whatever is answered; what the web server's log is told does not hold it either.
#[track_caller]
fn send(mux: &Fcgimux, call: &Call) -> u16 {
    let reply = mux.call(call, SOON);
    let told = String::from_utf8_lossy(&reply.stderr).into_owned();
    assert!(!told.contains(SECRET), "{told}");
    reply.http_status()
}

/// Served, refused in every way, broken, retried and given up.
fn exercise(mux: &Fcgimux, php: &PhpFpm) {
    let dies = php.add_script("dies.php", "posix_kill(getmypid(), 9); sleep(5);");
    let ok = php.script("echo.php");
    assert_eq!((send(mux, &planted(Call::get(&ok))), send(mux, &post(&ok))), (200, 200));
    assert_eq!((send(mux, &planted(Call::get(&dies))), send(mux, &post(&dies))), (502, 502));
    assert_eq!(send(mux, &planted(Call::get(&php.script("slow.php"))).query(&format!("ms=700&token={SECRET}"))), 504);
    assert_eq!(send(mux, &planted(Call::get(&ok)).param("PHP_VALUE", SECRET)), 403);
    assert_eq!(send(mux, &planted(Call::get(&ok)).param("HTTP_LARGE", &SECRET.repeat(1_000))), 431);
    assert_eq!(send(mux, &post(&ok).param("CONTENT_LENGTH", SECRET)), 400);
    assert_eq!(send(mux, &post(&ok).param("CONTENT_LENGTH", "3")), 400);
    assert_eq!(
        send(mux, &Call { body: SECRET.repeat(1_000).into_bytes(), ..post(&ok) }.param("CONTENT_LENGTH", "13000")),
        413
    );
    // A method that is none, and the file's name as Apache may write it.
    assert_eq!(send(mux, &planted(Call::new(&format!("GET {SECRET}"), &ok))), 200);
    assert_eq!(send(mux, &planted(Call::get(&format!("proxy:fcgi://localhost/{ok}?token={SECRET}")))), 200);
    // Bytes that are no FastCGI, and a web server that hangs up.
    let mut raw: Connection = mux.connect();
    raw.send(format!("GET /?{SECRET} HTTP/1.1\r\nCookie: {SECRET}\r\n\r\n").as_bytes());
    _ = raw.ending(SOON);
    let mut gone = mux.connect();
    gone.send(&planted(Call::get(&php.script("slow.php"))).query(&format!("ms=100&token={SECRET}")).bytes());
    assert!(eventually(SOON, || mux.metrics().sum("fcgimux_upstream_requests_in_flight", &[]) >= 1.0));
    drop(gone);
    assert!(eventually(SOON, || mux.metrics().sum("fcgimux_requests_total", &[("outcome", "gone")]) >= 1.0));
}

#[test]
fn what_a_visitor_sends_is_in_no_line_at_the_most_talkative_level() {
    bounded(LIMIT, || {
        for format in ["json", "text"] {
            let php = PhpFpm::pool(2).start();
            let mux = Fcgimux::to(php.address())
                .pool("connections: {per_endpoint: 2}")
                .pool("timeouts: {first_byte: 400ms}\n    on_failure: respond")
                .pool("body: {max_size: 8KiB}")
                .pool(&format!("params: {{max_size: 8KiB, deny: [PHP_VALUE], set: {{TOKEN: {SECRET}}}}}"))
                .top(&format!("log: {{level: debug, format: {format}, access: on}}"))
                .start();
            exercise(&mux, &php);
            thread_of_requests(&mux, &php);
            let log = mux.log();
            let found: Vec<&str> = log.lines().filter(|line| line.contains(SECRET)).collect();
            assert!(found.is_empty(), "{format}: {found:#?}");
            // The lines that could have held it are there.
            for words in
                ["request refused", "exchange broke", "echo.php", "connection of a web server closed", "PHP_VALUE"]
            {
                assert!(log.contains(words), "{format}: nothing of {words}\n{log}");
            }
        }
    });
}

/// Headers, cookies, a query and a body by way of nginx.
fn thread_of_requests(mux: &Fcgimux, php: &PhpFpm) {
    let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
    let request = Request::new("POST", &format!("/echo.php?password={SECRET}"))
        .header("Cookie", &format!("a={SECRET}"))
        .header("X-Secret", SECRET)
        .header("Authorization", &format!("Basic {SECRET}"))
        .body_bytes("application/x-www-form-urlencoded", format!("a={SECRET}").into_bytes());
    visit(&nginx, &request).assert_clean();
}

/// Whoever can name a file must not be able to write a line of our log.
#[test]
fn a_script_with_a_line_break_in_its_name_stays_in_its_line() {
    bounded(LIMIT, || {
        let php = PhpFpm::pool(1).start();
        let mux = Fcgimux::to(php.address()).top("log: {format: text, access: on}").start();
        let forged = "/srv/a\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J.php";
        for name in ["first", "PHP_VALUE"] {
            mux.call(&Call::get(forged).param(name, "x").last(), SOON);
        }
        let dies = php.add_script("dies\nforged.php", "posix_kill(getmypid(), 9); sleep(5);");
        mux.call(&Call::post(&dies, "x").last(), SOON);
        assert!(eventually(SOON, || mux.log().contains("exchange broke")), "{}", mux.log());
        let log = mux.log();
        assert!(log.contains("forged") && !log.contains('\u{1b}'), "{log}");
        let forged = |line: &&str| line.starts_with("2026-01-01") || line.starts_with("forged");
        assert_eq!(log.lines().filter(forged).count(), 0, "{log}");
    });
}
