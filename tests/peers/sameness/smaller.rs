//! Small things that applications and clients of FastCGI do, and rarely.

use std::{process::Command, thread, time::Duration};

use super::{
    case::Case,
    client::{Ending, get, post},
    seen::Seen,
    site::{apache, caddy, lighttpd, nginx, nginx_kept},
    stage::{Application, Side},
};
use crate::support::{
    Fcgimux, Nginx, PhpFpm,
    apps::Program,
    eventually,
    fcgi::{self, Call, Connection, Incoming, Replies, STDERR, STDOUT},
};

const SOON: Duration = Duration::from_secs(5);

pub(crate) fn records() -> Vec<Case> {
    let env = |side: &Side<'_>| Call::get(&side.script("env.php")).last();
    vec![
        Case::new("request id 0").does(move |side| called(side, &env(side).id(0))).runs(1),
        Case::new("request id 65535").does(move |side| called(side, &env(side).id(65_535))).runs(1),
        Case::new("request id 0 on a kept connection")
            .does(|side| {
                let mut connection = side.connect();
                let call = Call::get(&side.script("env.php")).id(0);
                let first = connection.call(&call, SOON);
                Seen::of_reply(&first).and("the second", connection.call(&call, SOON).text())
            })
            .runs(2),
        Case::new("a client that shuts down sending behind its request")
            .does(move |side| half_closed(side, &env(side), Duration::ZERO))
            .runs(1),
        Case::new("a client that shuts down sending behind a POST without an end of STDIN")
            .does(|side| {
                half_closed(side, &Call::post(&side.script("env.php"), "abc").last().unended(), Duration::ZERO)
            })
            .runs(1),
        Case::new("a client that shuts down sending while the script runs")
            .script("slow.php", "usleep(300000); echo \"slow\\n\";")
            .does(|side| half_closed(side, &Call::get(&side.script("slow.php")).last(), Duration::from_millis(100)))
            .runs(1),
        Case::new("two requests in one write")
            .does(|side| {
                let mut connection = side.connect();
                let call = |id| Call::post(&side.script("env.php"), "abc").id(id);
                connection.send(&[call(1).bytes(), call(2).bytes()].concat());
                let replies = Replies::read(&mut connection, &[1, 2], SOON);
                Seen::of_reply(&replies[1]).and("the second", replies[2].text())
            })
            .runs(2),
        Case::new("100 requests on a connection")
            .does(|side| {
                let mut connection = side.connect();
                let call = Call::post(&side.script("ok.php"), "abc");
                let good = (0..100).filter(|_| connection.call(&call, SOON).text() == "ok\n").count();
                Seen::default().and("answered", good)
            })
            .runs(100),
        Case::new("params in a record each").does(|side| in_records(side, 0)).runs(1),
        Case::new("records with padding").does(|side| in_records(side, 5)).runs(1),
        Case::new("two params of one name").does(|side| {
            let values = [("SCRIPT_FILENAME", "/none"), ("X_TWICE", "1"), ("X_TWICE", "2"), ("", "empty")];
            let own = [("SCRIPT_FILENAME", side.script("env.php")), ("REQUEST_METHOD", "GET".to_owned())];
            let own = own.iter().map(|(name, value)| (*name, value.as_str()));
            let params = fcgi::params(1, values.into_iter().chain(own));
            let mut connection = side.connect();
            connection.send(&[fcgi::begin(1, false), params, fcgi::stdin_end(1)].concat());
            Seen::of_reply(&connection.reply(SOON))
        }),
        Case::new("requests one after the other that each take most of timeouts.read")
            .before(|theme| Application::php(theme, |php| php, |mux| mux.listener("timeouts: {read: 1s}")))
            .does(slowly_sent)
            .runs(3),
    ]
}

/// Applications that end a response in their own way.
pub(crate) fn ends() -> Vec<Case> {
    let ending = |name: &str, part: fn(&mut Connection, &Incoming)| {
        Case::new(name).before(move |_| Application::scripted(part)).ask(get("/ok.php")).ask(post("/ok.php", "a=1"))
    };
    let whole = "a response and a close behind an empty STDOUT, no END_REQUEST";
    vec![
        ending("an END_REQUEST without a STDOUT", |connection, request| {
            let _ = connection.try_send(&fcgi::end_request(request.id, 0, 0));
            connection.shutdown_write();
        })
        .on(nginx())
        .status(502),
        ending(whole, ends_behind_an_empty_stdout).on(nginx()),
        ending(whole, ends_behind_an_empty_stdout).on(caddy()).status(200),
        ending("a close in place of END_REQUEST", |connection, request| {
            let _ = connection.try_send(&stdout(request, "Content-Type: text/plain\r\n\r\nall of it"));
            connection.shutdown_write();
        })
        .on(nginx())
        .better("breaks off", 200, Ending::Cut),
        ending("a message behind the response", |connection, request| {
            let message = fcgi::record_padded(STDERR, request.id, b"a word of warning", 7);
            let _ = connection.try_send(
                &[
                    stdout(request, "Content-Type: text/plain\r\n\r\nbody"),
                    message,
                    fcgi::end_request(request.id, 0, 0),
                ]
                .concat(),
            );
            connection.shutdown_write();
        })
        .on(nginx())
        .on(apache())
        .on(lighttpd())
        .logs("a word of warning"),
        ending("an application status of 3", |connection, request| {
            let body = stdout(request, "Content-Type: text/plain\r\n\r\nbody");
            let _ = connection.try_send(&[body, fcgi::end_request(request.id, 3, 0)].concat());
            connection.shutdown_write();
        })
        .on(nginx())
        .on(apache())
        .on(lighttpd())
        .on(caddy()),
        ending("headers that come byte by byte", |connection, request| {
            let text = "Status: 201 Made\r\nContent-Type: text/plain\r\n\r\nbody";
            let bytes: Vec<u8> = text.bytes().flat_map(|byte| fcgi::record(STDOUT, request.id, &[byte])).collect();
            let _ = connection.try_send(&[bytes, fcgi::end_request(request.id, 0, 0)].concat());
            connection.shutdown_write();
        })
        .on(nginx())
        .on(apache())
        .on(lighttpd())
        .on(caddy())
        .status(201),
    ]
}

/// Heads of responses that are not what they should be: the web server judges them.
pub(crate) fn odd_heads() -> Vec<Case> {
    let head = |name: &str, head: &'static str| {
        let part = move |connection: &mut Connection, request: &Incoming| {
            let _ = connection.try_send(&[stdout(request, head), fcgi::end_request(request.id, 0, 0)].concat());
            connection.shutdown_write();
        };
        Case::new(name).before(move |_| Application::scripted(part)).ask(get("/ok.php")).on(nginx())
    };
    vec![
        head("lines that end in LF", "Content-Type: text/plain\nX-A: 1\n\nbody")
            .on(apache())
            .on(lighttpd())
            .on(caddy()),
        head("a line that is no header", "Content-Type: text/plain\r\nno colon here\r\n\r\nbody").status(502),
        head("a name with a space", "Content-Type: text/plain\r\nX A: 1\r\n\r\nbody").status(502),
        head("a status that is none", "Status: abc\r\nContent-Type: text/plain\r\n\r\nbody").status(502),
        head("a status line in place of Status", "HTTP/1.1 201 Made\r\nContent-Type: text/plain\r\n\r\nbody"),
        head("only a status", "Status: 404 Not Found\r\n\r\n").status(404).on(apache()).on(lighttpd()).on(caddy()),
        head("an empty head", "\r\nbody"),
        head("a folded header", "X-A: 1\r\n two\r\nContent-Type: text/plain\r\n\r\nbody").status(502),
        head("a length that is too large", "Content-Length: 100\r\n\r\nbody").gives(200, Ending::Cut),
        head("a length that is too small", "Content-Length: 2\r\n\r\nbody"),
    ]
}

/// Something else than FastCGI at the address: the web server says 502, and fcgimux says in its log what it met.
pub(crate) fn http_in_place_of_fastcgi() -> Vec<Case> {
    let case = |name: &str, application: fn() -> Application| {
        let case = Case::new(name).before(move |_| application()).on(nginx()).on(nginx_kept()).status(502);
        case.does(|side| {
            let answer = super::client::ask(side.address(), &get("/ok.php"));
            let named = !side.is_through() || eventually(SOON, || side.mux().log().contains("HTTP"));
            [answer].into_iter().collect::<Seen>().and("fcgimux names HTTP", named)
        })
    };
    vec![
        case("nginx at the address", || {
            let server = Nginx::site(std::path::Path::new("/nowhere"), "/nobody").start();
            Application::beside(server.address().to_string(), server)
        }),
        case("a server that says HTTP/1.0", || {
            let server = fcgi::Application::tcp(|mut connection, _| {
                let _ = connection.read_record(SOON);
                let _ = connection.try_send(b"HTTP/1.0 400 Bad request\r\nConnection: close\r\n\r\n");
            });
            Application::beside(server.address(), server)
        }),
    ]
}

/// An application that may answer before it has read a body is not kept waiting for one.
pub(crate) fn starts() -> Vec<Case> {
    let go = |name: &str| Case::new(name).before(|_| Application::of(Program::go().start()));
    vec![
        go("an application that is not php-fpm starts before the body begins").does(|side| {
            let mut connection = side.connect();
            let call = go_call(side, "early").body("text/plain", "abc");
            connection.send(&call.head());
            let reply = connection.reply(SOON);
            Seen::of_reply(&reply)
        }),
        go("a body that comes in steps reaches an application that is not php-fpm").does(|side| {
            let mut connection = side.connect();
            let call = go_call(side, "upload").body("text/plain", "abcdef");
            connection.send(&call.head());
            for piece in [b"abc", b"def"] {
                thread::sleep(Duration::from_millis(50));
                connection.send(&fcgi::stdin(1, piece));
            }
            connection.send(&fcgi::stdin_end(1));
            Seen::of_reply(&connection.reply(SOON))
        }),
    ]
}

fn go_call(side: &Side<'_>, query: &str) -> Call {
    let call = Call::new("POST", &side.script("app.php")).query(query).param("SCRIPT_NAME", "/app.php");
    let call = call.param("REQUEST_URI", &format!("/app.php?{query}")).param("SERVER_PROTOCOL", "HTTP/1.1");
    call.param("SERVER_NAME", "test").param("SERVER_PORT", "80").last()
}

fn called(side: &Side<'_>, call: &Call) -> Seen {
    Seen::of_reply(&side.connect().call(call, SOON))
}

/// A POST whose params and body come in many records.
fn in_records(side: &Side<'_>, padding: u8) -> Seen {
    let call = Call::post(&side.script("env.php"), "abcdef").last();
    let padded = |kind, content: &[u8]| fcgi::record_padded(kind, 1, content, padding);
    let mut bytes = fcgi::begin(1, false);
    for (name, value) in &call.params {
        bytes.extend(padded(fcgi::PARAMS, &fcgi::pair(name.as_bytes(), value.as_bytes())));
    }
    bytes.extend(fcgi::record(fcgi::PARAMS, 1, &[]));
    bytes.extend(call.body.chunks(2).flat_map(|chunk| padded(fcgi::STDIN, chunk)));
    bytes.extend(fcgi::stdin_end(1));
    let mut connection = side.connect();
    connection.send(&bytes);
    Seen::of_reply(&connection.reply(SOON))
}

fn half_closed(side: &Side<'_>, call: &Call, pause: Duration) -> Seen {
    let mut connection = side.connect();
    connection.send(&call.bytes());
    thread::sleep(pause);
    connection.shutdown_write();
    Seen::of_reply(&connection.reply(SOON))
}

/// Three requests on a connection, each in two parts 700 ms apart.
fn slowly_sent(side: &Side<'_>) -> Seen {
    let mut connection = side.connect();
    let mut seen = Seen::default();
    for number in 0..3 {
        let bytes = Call::post(&side.script("env.php"), "abcdef").bytes();
        let (one, two) = bytes.split_at(bytes.len() - 12);
        connection.send(one);
        thread::sleep(Duration::from_millis(700));
        let sent = connection.try_send(two).is_ok();
        let reply = connection.reply(SOON);
        seen = seen.and(&format!("answer {number}"), format!("{sent} {} {}", reply.ended, reply.text()));
    }
    seen
}

fn stdout(request: &Incoming, text: &str) -> Vec<u8> {
    fcgi::record(STDOUT, request.id, text.as_bytes())
}

fn ends_behind_an_empty_stdout(connection: &mut Connection, request: &Incoming) {
    let bytes = [stdout(request, "Content-Type: text/plain\r\n\r\nall of it"), stdout(request, "")];
    let _ = connection.try_send(&bytes.concat());
    connection.shutdown_write();
}

/// The name that operators look for.
#[test]
fn the_listening_socket_is_called_by_its_path() {
    let php = PhpFpm::pool(1).start();
    let mux = Fcgimux::to(php.address()).start();
    let output = Command::new("ss").arg("-xlH").output().expect("ss (iproute2)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = mux.socket().display().to_string();
    let found = text.split_whitespace().any(|word| word == path);
    let near: Vec<_> = text.lines().filter(|line| line.contains(&path)).collect();
    assert!(found, "{path}: {near:?}");
}
