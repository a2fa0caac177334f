//! HAProxy with `mpxs-conns`, where several visitors share a connection: what becomes of the others when one exchange ends
//! otherwise than in order, and what HAProxy 2.6 makes of ends that other web servers understand.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    front::{HAPROXY_KEPT, HAPROXY_MANY},
    visitor::{Answer, Ending, get},
};
use crate::support::{
    Fcgimux, Folder, PhpFpm, bounded, eventually,
    fcgi::{self, Application, Connection, STDOUT, Stage},
    wait_until,
};

const LIMIT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(10);

/// HAProxy before an application that answers every request with these bytes; gives what a visitor sees.
fn shown(answer: fn(u16) -> Vec<u8>) -> Answer {
    let folder = Folder::new();
    let socket = folder.join("application.sock");
    let part = move |mut connection: Connection, _: &Stage| {
        while let Ok(request) = connection.read_request(SOON) {
            let _ = connection.try_send(&answer(request.id));
        }
    };
    let _application = Application::unix(&socket, part);
    let server = HAPROXY_KEPT.start(folder.path(), &socket);
    get(server.address(), "/a.php")
}

fn stdout(id: u16, text: &str) -> Vec<u8> {
    fcgi::record(STDOUT, id, text.as_bytes())
}

/// Why fcgimux never refuses with an end alone.
#[test]
fn haproxy_looks_at_no_protocol_status_and_waits_for_a_response_in_vain() {
    bounded(LIMIT, || {
        let overloaded = thread::spawn(|| shown(|id| fcgi::end_request(id, 0, 2)));
        let busy = thread::spawn(|| shown(|id| fcgi::end_request(id, 0, 1)));
        assert_eq!([overloaded, busy].map(|seen| seen.join().expect("a visitor").status), [504, 504]);
    });
}

/// Why fcgimux never ends an exchange whose response broke off.
#[test]
fn haproxy_takes_an_early_end_for_a_whole_response() {
    bounded(LIMIT, || {
        let answer = shown(|id| {
            let part = stdout(id, "Content-Type: text/plain\r\n\r\nthe first half");
            [part, fcgi::end_request(id, 1, 2)].concat()
        });
        assert_eq!((answer.status, answer.ending, answer.text().as_str()), (200, Ending::Whole, "the first half"));
    });
}

/// An application that answers each request in this way, as soon as it has its params.
fn answering(answer: impl Fn(&mut Connection, u16) + Send + Sync + 'static) -> Application {
    Application::tcp(move |mut connection, _| {
        while let Ok(record) = connection.read_record(SOON) {
            if record.kind == fcgi::GET_VALUES {
                let values = fcgi::pair(b"FCGI_MPXS_CONNS", b"0");
                let _ = connection.try_send(&fcgi::record(fcgi::GET_VALUES_RESULT, 0, &values));
            } else if record.kind == fcgi::PARAMS && record.content.is_empty() {
                answer(&mut connection, record.id);
            }
        }
    })
}

/// Of Debian 12 it ends with "FATAL: bug condition" when it is told the end of a response before the end of its headers.
#[test]
fn an_end_inside_the_headers_does_not_reach_haproxy() {
    bounded(LIMIT, || {
        let application = answering(|connection, id| {
            let half = [stdout(id, "Content-Type: text"), fcgi::end_request(id, 0, 0)];
            let _ = connection.try_send(&half.concat());
        });
        let mux = Fcgimux::to(application.address()).start();
        let folder = Folder::new();
        for front in [HAPROXY_KEPT, HAPROXY_MANY] {
            let mut server = front.start(folder.path(), &mux.socket());
            let answer = get(server.address(), "/a.php");
            assert_ne!((answer.status, answer.ending), (200, Ending::Whole), "{}: {}", front.0, answer.text());
            let died = eventually(Duration::from_millis(300), || !server.is_running());
            assert!(!died, "{}: {}", front.0, server.log());
        }
    });
}

/// Of Debian 12 it dies of a record of STDERR without padding that nothing follows at once.
#[test]
fn messages_in_the_middle_of_a_response_do_not_end_haproxy() {
    bounded(LIMIT, || {
        let application = answering(|connection, id| {
            let _ = connection.try_send(&stdout(id, "Content-Type: text/plain\r\n\r\nfirst "));
            for message in ["eight by", "nine byte", "sixteen bytes long"] {
                thread::sleep(Duration::from_millis(50));
                let _ = connection.try_send(&fcgi::record(fcgi::STDERR, id, message.as_bytes()));
            }
            thread::sleep(Duration::from_millis(50));
            let _ = connection.try_send(&[stdout(id, "second"), fcgi::end_request(id, 0, 0)].concat());
        });
        let mux = Fcgimux::to(application.address()).start();
        let folder = Folder::new();
        for front in [HAPROXY_KEPT, HAPROXY_MANY] {
            let mut server = front.start(folder.path(), &mux.socket());
            let answer = get(server.address(), "/a.php");
            assert!(server.is_running(), "{}: {answer:?}", front.0);
            assert_eq!((answer.text().as_str(), answer.ending), ("first second", Ending::Whole), "{}", front.0);
        }
    });
}

/// HAProxy with `mpxs-conns` before fcgimux before php-fpm.
fn with(listener: &'static str, pool: &'static str, test: impl FnOnce(SocketAddr, &Fcgimux, &PhpFpm) + Send + 'static) {
    bounded(LIMIT, move || {
        let php = PhpFpm::pool(4).start();
        php.add_script(
            "die.php",
            "echo str_repeat('d', 50000);
            while (ob_get_level() > 0) { ob_end_flush(); }
            flush();
            usleep(200000);
            posix_kill(getmypid(), 9);
            sleep(5);",
        );
        let mux =
            Fcgimux::to(php.address()).pool("connections: {per_endpoint: 4}").pool(pool).listener(listener).start();
        let server = HAPROXY_MANY.start(&php.scripts(), &mux.socket());
        let tested = catch_unwind(AssertUnwindSafe(|| test(server.address(), &mux, &php)));
        if let Err(panic) = tested {
            println!("HAProxy's log:\n{}", server.log());
            resume_unwind(panic);
        }
        assert!(!mux.log().contains("panicked"), "{}", mux.log());
    });
}

fn visitors(server: SocketAddr, count: usize, path: &'static str) -> Vec<JoinHandle<Answer>> {
    (0..count).map(|number| thread::spawn(move || get(server, &format!("{path}&token=v{number}")))).collect()
}

fn answers(visitors: Vec<JoinHandle<Answer>>) -> Vec<Answer> {
    visitors.into_iter().map(|visitor| visitor.join().expect("a visitor")).collect()
}

#[test]
fn requests_refused_on_a_shared_connection_are_told_at_once_and_harm_no_other() {
    with("", "queue: {depth: 4}", |server, mux, _| {
        let served = visitors(server, 4, "/slow.php?ms=1500");
        wait_until("every worker is busy", || {
            mux.metrics().sum("fcgimux_upstream_connections", &[("state", "leased")]) == 4.0
        });
        let waiting = visitors(server, 4, "/slow.php?ms=100");
        wait_until("the queue is full", || mux.metrics().sum("fcgimux_queue_depth", &[]) == 4.0);
        for answer in answers(visitors(server, 6, "/slow.php?ms=100")) {
            assert_eq!((answer.status, answer.ending), (503, Ending::Whole), "{}", answer.text());
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
        }
        for (number, answer) in answers(served).into_iter().enumerate() {
            assert_eq!((answer.status, answer.text()), (200, format!("v{number}\n")));
        }
        for (number, answer) in answers(waiting).into_iter().enumerate() {
            assert_eq!((answer.status, answer.text()), (200, format!("v{number}\n")));
        }
    });
}

/// HAProxy puts exchanges on a new connection while it still waits for the answer to GET_VALUES, so more may come than that
/// allows. Each is served or refused, in words that HAProxy understands.
#[test]
fn more_exchanges_than_a_connection_may_carry_keep_nobody_waiting() {
    with("max_requests_in_flight: 2", "", |server, _, _| {
        for _ in 0..3 {
            for (number, answer) in answers(visitors(server, 12, "/slow.php?ms=50")).into_iter().enumerate() {
                let served = answer.status == 200 && answer.text() == format!("v{number}\n");
                assert!((served || answer.status == 503) && answer.ending == Ending::Whole, "{answer:?}");
            }
        }
    });
}

/// The broken one is never taken for whole; another is served whole, or seen to break with the connection.
#[test]
fn a_response_that_breaks_off_on_a_shared_connection_is_seen_to_and_nobody_gets_a_wrong_one() {
    with("", "", |server, _, _| {
        let others = visitors(server, 3, "/slow.php?ms=600&steps=3");
        let broken = get(server, "/die.php");
        assert_ne!(broken.ending, Ending::Whole, "status {}, {} bytes", broken.status, broken.body.len());
        for (number, answer) in answers(others).into_iter().enumerate() {
            let whole = answer.text().ends_with(&format!("step 3\nv{number}\n"));
            assert_eq!(whole, answer.status == 200 && answer.ending == Ending::Whole, "{answer:?}");
        }
        assert_eq!(get(server, "/echo.php?token=after").text(), "after\n");
    });
}

#[test]
fn a_visitor_who_leaves_a_shared_connection_harms_no_other() {
    with("", "", |server, mux, _| {
        let others = visitors(server, 3, "/slow.php?ms=800&steps=4");
        super::visitor::leave_after(server, "/big.php?mib=64&length=1", 100_000);
        for (number, answer) in answers(others).into_iter().enumerate() {
            assert_eq!((answer.status, answer.ending), (200, Ending::Whole), "{answer:?}");
            assert!(answer.text().ends_with(&format!("step 4\nv{number}\n")), "{answer:?}");
        }
        wait_until("no worker is busy", || {
            mux.metrics().sum("fcgimux_upstream_connections", &[("state", "leased")]) == 0.0
        });
    });
}
