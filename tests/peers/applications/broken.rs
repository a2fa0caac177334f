//! Applications that break off or break the protocol in the middle of a response.

use super::{LIMIT, MILLISECOND, SOON, assert_echoed, closed, echo, get, outcomes, post, retries, serve, with};
use crate::support::{
    Fcgimux, Folder, Nginx, bounded, download, eventually,
    fcgi::{self, Application, Call, Connection, End, Incoming, STDERR, STDOUT, Stage},
};

/// Does this to every request that asks for it by its query `bad`, and echoes others.
fn misbehave(
    bad: impl Fn(&mut Connection, &Incoming) + Send + Sync + 'static,
) -> impl Fn(Connection, &Stage) + Send + Sync + 'static {
    move |connection, stage| {
        serve(connection, |connection, request| {
            if request.param("QUERY_STRING") != Some("bad") {
                return echo(connection, request);
            }
            stage.note(request.param("REQUEST_METHOD").unwrap_or_default());
            bad(connection, request);
            false
        });
    }
}

const HEAD: &[u8] = b"Content-Type: text/plain\r\n\r\n";

/// A whole record with the beginning of a response.
fn beginning(id: u16) -> Vec<u8> {
    fcgi::record(STDOUT, id, &[HEAD, b"beginning"].concat())
}

fn bad(method: &str) -> Call {
    let call = Call::new(method, "/srv/app.php").query("bad").last();
    if method == "POST" { call.body("text/plain", "body") } else { call }
}

/// The response has begun: it must be cut, and be seen to be.
#[track_caller]
fn assert_cut(mux: &Fcgimux, application: &Application, what: &str) {
    for method in ["GET", "POST"] {
        let (before, notes) = (outcomes(mux, "broken"), application.notes().len());
        let mut connection = mux.connect();
        connection.send(&bad(method).bytes());
        let mut seen = Vec::new();
        let end = loop {
            match connection.read_record(SOON) {
                Ok(record) => seen.push(record),
                Err(end) => break end,
            }
        };
        // A web server like nginx takes an orderly end of the connection for the end of the response; this it does not.
        assert_eq!(end, End::Reset, "{what}: as when php-fpm dies");
        let stdout: Vec<u8> =
            seen.iter().filter(|record| record.kind == STDOUT).flat_map(|record| record.content.clone()).collect();
        assert!(stdout.starts_with(HEAD) && stdout.ends_with(b"beginning"), "{what}: {seen:?}");
        let told = seen.last().is_some_and(|record| record.kind == STDERR && record.content.starts_with(b"fcgimux: "));
        assert!(told, "{what}: {seen:?}");
        assert_eq!(application.notes().len() - notes, 1, "{what}: executed once");
        assert_eq!(outcomes(mux, "broken") - before, 1.0, "{what}");
        assert_echoed(mux, &post("the next one"));
    }
    assert_eq!(retries(mux, "idempotent") + retries(mux, "unproven"), 0.0, "{what}");
}

#[test]
fn a_response_that_breaks_off_between_two_records_is_cut_visibly() {
    let part = misbehave(|connection, request| connection.send(&beginning(request.id)));
    with("", part, |mux, application| assert_cut(mux, application, "closed"));
}

#[test]
fn a_response_that_breaks_off_inside_a_record_is_cut_visibly() {
    let part = misbehave(|connection, request| {
        let record = fcgi::record_padded(STDOUT, request.id, &[HEAD, b"beginning and the rest"].concat(), 5);
        connection.send(&record[..8 + HEAD.len() + 9]);
    });
    with("", part, |mux, application| assert_cut(mux, application, "closed inside a record"));
}

#[test]
fn a_response_that_is_reset_is_cut_visibly() {
    let part = |connection: Connection, stage: &Stage| {
        // A reset takes back what was not read yet, so it comes a little later.
        let mut lost = None;
        let kept = connection;
        serve_until(kept, &mut lost, stage);
        if let Some(connection) = lost {
            std::thread::sleep(50 * MILLISECOND);
            connection.reset();
        }
    };
    with("", part, |mux, application| assert_cut(mux, application, "reset"));
}

/// Like [`serve`], but hands the connection out behind the beginning of a bad request's response.
fn serve_until(mut connection: Connection, out: &mut Option<Connection>, stage: &Stage) {
    let mut incoming = Incoming::default();
    while let Ok(record) = connection.read_record(SOON) {
        if record.kind == fcgi::GET_VALUES {
            if super::answer_values(&mut connection).is_err() {
                return;
            }
        } else if incoming.has_begun() || record.kind == fcgi::BEGIN_REQUEST {
            incoming.take(record);
        }
        if incoming.is_complete() && incoming.has_begun() {
            if incoming.param("QUERY_STRING") == Some("bad") {
                stage.note(incoming.param("REQUEST_METHOD").unwrap_or_default());
                connection.send(&beginning(incoming.id));
                *out = Some(connection);
                return;
            }
            if !echo(&mut connection, &incoming) {
                return;
            }
            incoming = Incoming::default();
        }
    }
}

#[test]
fn a_response_that_breaks_the_protocol_is_cut_visibly() {
    type Garbage = fn(u16) -> Vec<u8>;
    let cases: [(&str, Garbage); 6] = [
        ("no FastCGI", |_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        ("END_REQUEST of 7 bytes", |id| fcgi::record(fcgi::END_REQUEST, id, &[0; 7])),
        ("END_REQUEST without content", |id| fcgi::record(fcgi::END_REQUEST, id, &[])),
        ("a record of a web server", |id| fcgi::record(fcgi::STDIN, id, b"x")),
        ("an unknown type", |id| fcgi::record(200, id, b"x")),
        ("a second answer to GET_VALUES", |_| {
            let answer = fcgi::record(fcgi::GET_VALUES_RESULT, 0, &[]);
            [answer.clone(), answer].concat()
        }),
    ];
    for (what, garbage) in cases {
        for in_one_write in [true, false] {
            let part = misbehave(move |connection, request| {
                let (first, then) = (beginning(request.id), garbage(request.id));
                if in_one_write {
                    connection.send(&[first, then].concat());
                } else {
                    connection.send(&first);
                    std::thread::sleep(20 * MILLISECOND);
                    connection.send(&then);
                }
                let ended = connection.ending(SOON);
                assert_ne!(ended, End::TimedOut, "the connection is given up");
            });
            with("", part, move |mux, application| {
                assert_cut(mux, application, what);
                assert_eq!(closed(mux, "protocol"), 2.0, "{what}");
            });
        }
    }
}

/// What is done about it is the web server's to decide, unless it is told to be answered. Nothing is sent again: there is no
/// other endpoint.
#[test]
fn an_application_that_breaks_off_before_its_response_breaks_the_web_servers_connection() {
    let breaks: [fn(&mut Connection, &Incoming); 4] = [
        |connection, _| connection.shutdown_write(),
        |connection, _| connection.send(b"garbage!"),
        |connection, request| connection.send(&fcgi::record(fcgi::END_REQUEST, request.id, &[0; 9])),
        |connection, request| connection.send(&fcgi::record(STDOUT, request.id, b"x")[..7]),
    ];
    for each in breaks {
        let part = misbehave(move |connection, request| {
            each(connection, request);
            // A part of a header is told from a slow application only by its end.
            connection.shutdown_write();
            let _ = connection.ending(SOON);
        });
        with("", part, |mux, application| {
            for method in ["POST", "GET"] {
                let reply = mux.call(&bad(method), SOON).hung_up();
                assert!(String::from_utf8_lossy(&reply.stderr).contains("may have been executed"), "{reply:?}");
            }
            assert_eq!(application.notes(), ["POST", "GET"]);
            assert_eq!((retries(mux, "idempotent"), outcomes(mux, "broken")), (0.0, 2.0));
            assert_echoed(mux, &get("good"));
        });
    }
}

#[test]
fn an_application_that_breaks_off_before_its_response_is_answered_502_where_that_is_wanted() {
    let part = misbehave(|connection, _| connection.shutdown_write());
    with("on_failure: respond", part, |mux, application| {
        for method in ["POST", "GET"] {
            let reply = mux.call(&bad(method), SOON).whole();
            assert_eq!((reply.http_status(), reply.header("Retry-After")), (502, None), "{reply:?}");
            assert!(String::from_utf8_lossy(&reply.stderr).contains("may have been executed"), "{reply:?}");
        }
        assert_eq!(application.notes(), ["POST", "GET"]);
    });
}

#[test]
fn records_of_other_requests_reach_nobody_and_end_the_connection() {
    let part = |connection: Connection, _: &Stage| {
        serve(connection, |connection, request| {
            let other = request.id.wrapping_add(1).max(1);
            let stray = |id| [fcgi::record(STDOUT, id, b"STRAY"), fcgi::record(STDERR, id, b"STRAY")].concat();
            let body = request.param("QUERY_STRING").unwrap_or_default().as_bytes().to_vec();
            connection.send(
                &[
                    stray(other),
                    fcgi::record(STDOUT, request.id, HEAD),
                    stray(0),
                    fcgi::record(STDOUT, request.id, &body),
                    fcgi::end_request(other, 1, 0),
                    fcgi::end_request(request.id, 0, 0),
                ]
                .concat(),
            );
            let ended = connection.ending(SOON);
            assert_ne!(ended, End::TimedOut, "the connection is used on");
            false
        });
    };
    with("", part, |mux, application| {
        for number in 1..=10 {
            let mut connection = mux.connect();
            let reply = connection.call(&get(&format!("number={number}")), SOON).whole();
            assert_eq!((reply.text(), reply.stderr.len()), (format!("number={number}"), 0));
            assert_eq!((reply.ids.as_slice(), reply.status), ([1].as_slice(), (0, 0)));
            // More where one was slow to prove itself.
            assert!(application.accepted() >= number, "a connection of its own each time");
        }
        assert!(eventually(SOON, || closed(mux, "protocol") == 10.0), "{:?}", mux.metrics());
    });
}

#[test]
fn a_break_is_a_reset_whatever_stands_behind_the_request() {
    let part = misbehave(|connection, request| connection.send(&beginning(request.id)));
    with("", part, |mux, _| {
        let behind = [
            vec![],
            fcgi::stdin_end(1),
            [fcgi::stdin_end(1), fcgi::stdin_end(1)].concat(),
            fcgi::record_padded(fcgi::STDIN, 1, &[], 9),
            fcgi::begin(2, true)[..5].to_vec(),
        ];
        for (number, behind) in behind.into_iter().enumerate() {
            for call in [get("bad"), get("bad").last()] {
                let mut connection = mux.connect();
                connection.send(&[call.bytes(), behind.clone()].concat());
                let (bytes, end) = connection.read_to_end(SOON);
                assert_eq!(end, End::Reset, "{number}");
                assert!(String::from_utf8_lossy(&bytes).contains("beginning"), "{number}");
            }
        }
    });
}

/// A visitor of nginx with its default settings must see that a response is not whole, and its log must say why.
#[test]
fn a_visitor_of_nginx_sees_that_a_response_was_cut_off() {
    bounded(LIMIT, || {
        for (inside, buffering) in [(false, "on"), (true, "on"), (false, "off"), (true, "off")] {
            let folder = Folder::new();
            let application = Application::tcp(misbehave(move |connection, request| {
                let mut bytes = beginning(request.id);
                // More than one read of anybody's, and as large as PHP's.
                bytes.extend(fcgi::record(STDOUT, request.id, &[b'x'; 65_528]).repeat(4));
                bytes.truncate(bytes.len() - if inside { 20_000 } else { 0 });
                connection.send(&bytes);
            }));
            let mux = Fcgimux::to(application.address()).start();
            let nginx =
                Nginx::site(folder.path(), mux.socket()).location(&format!("fastcgi_buffering {buffering}")).start();
            let got = download(nginx.address(), "/app.php?bad", 4_096, MILLISECOND, SOON);
            assert_eq!(got.map_err(|error| error.kind()), Err("truncated"), "inside {inside}, buffering {buffering}");
            let errors = nginx.errors();
            let said = "fcgimux: application closed the connection";
            assert!(errors.iter().any(|line| line.contains(said)), "{errors:?}");
        }
    });
}
