//! A slow or hostile web server: whatever it sends is answered or closed as the FastCGI specification and the
//! configuration say, costs nothing that lasts, and never brings the process down.
#![allow(clippy::disallowed_methods, reason = "a real process is watched in real time")]

mod kept;
mod malformed;
mod management;

use std::time::Duration;

use crate::support::{
    Fcgimux, Level, bounded,
    fcgi::{self, Application, Call, End, Reply, polite},
};

const LIMIT: Duration = Duration::from_secs(60);
/// Longer than anything takes that is answered at once, on a busy machine.
const SOON: Duration = Duration::from_secs(5);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Runs a test with a fcgimux before an application that serves whatever reaches it, and sees to it that nothing leaked.
fn with(listener: &'static str, pool: &'static str, test: impl FnOnce(&Fcgimux, &Application) + Send + 'static) {
    bounded(LIMIT, move || {
        let application = Application::tcp(polite);
        let mux = Fcgimux::to(application.address())
            .pool(Level::SHORT_IDLE)
            .pool("timeouts: {prove: 500ms}")
            .pool(pool)
            .listener(listener)
            .start();
        // Memory for the first exchange is no leak.
        assert_eq!(mux.call(&post(), SOON).whole().text(), BODY);
        let level = Level::of(&mux);
        test(&mux, &application);
        level.assert_back(&mux);
        assert_eq!(mux.call(&post(), SOON).whole().text(), BODY, "no longer serves");
    });
}

const BODY: &str = "a body of some 40 bytes, sent in pieces";

fn post() -> Call {
    Call::post("/srv/app.php", BODY).query("token=1").last()
}

#[track_caller]
fn assert_echoed(reply: Reply, case: &str) {
    let reply = reply.whole();
    assert_eq!((reply.text().as_str(), reply.http_status(), reply.status), (BODY, 200, (0, 0)), "{case}");
}

#[test]
fn a_request_is_understood_however_its_bytes_are_split() {
    with("", "", |mux, _| {
        let bytes = post().bytes();
        for cut in 1..bytes.len() {
            let mut connection = mux.connect();
            connection.send_pieces(&bytes, &[cut, bytes.len()], MILLISECOND);
            assert_echoed(connection.reply(SOON), &format!("cut at {cut}"));
            assert_eq!(connection.ending(SOON), End::Closed, "cut at {cut}");
        }
    });
}

#[test]
fn a_request_is_understood_byte_by_byte() {
    with("", "", |mux, _| {
        for pause in [Duration::ZERO, MILLISECOND] {
            let mut connection = mux.connect();
            connection.send_pieces(&post().bytes(), &[1], pause);
            assert_echoed(connection.reply(SOON), "byte by byte");
        }
        for sizes in [&[2][..], &[3], &[7, 1], &[8], &[9], &[15, 1, 1], &[64]] {
            let mut connection = mux.connect();
            connection.send_pieces(&post().bytes(), sizes, MILLISECOND);
            assert_echoed(connection.reply(SOON), &format!("pieces of {sizes:?}"));
        }
    });
}

/// A web server that writes when its event loop says so waits for ever where a piece of what it sent stays charged to it.
#[test]
fn whoever_has_more_to_send_is_told_that_it_can() {
    with("", "", |mux, _| {
        let call = Call::post("/srv/app.php", vec![b'x'; 60_000]).keep();
        let bytes = call.bytes();
        let mut kept = mux.connect();
        for cut in [55_000, bytes.len() - 9, bytes.len() - 8, bytes.len() - 1, bytes.len()] {
            for last in [false, true] {
                let mut connection = if last { mux.connect() } else { std::mem::replace(&mut kept, mux.connect()) };
                let bytes = if last { call.clone().last().bytes() } else { bytes.clone() };
                connection.send_from_file(&bytes[..cut]);
                let ends = cut == bytes.len();
                if !ends {
                    assert!(connection.is_writable(SOON), "behind {cut} bytes, last: {last}");
                    connection.send(&bytes[cut..]);
                }
                assert_eq!(connection.reply(SOON).whole().text().len(), 60_000, "{cut}, last: {last}");
                assert!(connection.is_writable(SOON), "behind the response to {cut}, last: {last}");
                if !last {
                    kept = connection;
                }
            }
        }
    });
}

#[test]
fn padding_of_any_length_on_any_record_is_passed_over() {
    with("", "", |mux, _| {
        for padding in [1, 7, 8, 254, 255] {
            let mut bytes = fcgi::record_padded(fcgi::BEGIN_REQUEST, 1, &[0, 1, 0, 0, 0, 0, 0, 0], padding);
            let call = post();
            bytes.extend(fcgi::record_padded(fcgi::PARAMS, 1, &fcgi::pairs(call.params.iter().cloned()), padding));
            bytes.extend(fcgi::record_padded(fcgi::PARAMS, 1, &[], padding));
            for piece in BODY.as_bytes().chunks(10) {
                bytes.extend(fcgi::record_padded(fcgi::STDIN, 1, piece, padding));
            }
            bytes.extend(fcgi::record_padded(fcgi::STDIN, 1, &[], padding));
            let mut connection = mux.connect();
            connection.send(&bytes);
            assert_echoed(connection.reply(SOON), &format!("padding of {padding}"));
            // The response may come, and the connection go, before the padding behind the last record.
            let end = bytes.len() - usize::from(padding);
            let mut connection = mux.connect();
            connection.send_pieces(&bytes[..end], &[100], MILLISECOND);
            assert_echoed(connection.reply(SOON), &format!("padding of {padding}, in pieces"));
        }
    });
}

/// Pairs may span records (php-fpm breaks on it, fact 9.4), so the application must get them joined.
#[test]
fn records_of_one_byte_are_joined() {
    with("", "", |mux, _| {
        let call = post();
        for size in [1, 2, 3, 50] {
            let mut bytes = fcgi::begin(1, false);
            for piece in fcgi::pairs(call.params.iter().cloned()).chunks(size) {
                bytes.extend(fcgi::record(fcgi::PARAMS, 1, piece));
            }
            bytes.extend(fcgi::record(fcgi::PARAMS, 1, &[]));
            for piece in BODY.as_bytes().chunks(size) {
                bytes.extend(fcgi::record(fcgi::STDIN, 1, piece));
            }
            bytes.extend(fcgi::stdin_end(1));
            let mut connection = mux.connect();
            connection.send(&bytes);
            assert_echoed(connection.reply(SOON), &format!("records of {size}"));
        }
    });
}

#[test]
fn an_answer_bears_the_request_id_of_the_web_server() {
    with("", "params: {deny: [PHP_VALUE]}", |mux, _| {
        for id in [0, 1, 2, 255, 256, 257, 32_768, 65_535] {
            let reply = mux.call(&post().id(id), SOON);
            assert_eq!(reply.ids, [id]);
            assert_echoed(reply, &format!("id {id}"));
            let refused = mux.call(&post().id(id).param("PHP_VALUE", "x=y"), SOON).whole();
            assert_eq!((refused.ids.as_slice(), refused.http_status()), ([id].as_slice(), 403));
        }
    });
}

#[test]
fn records_of_unknown_types_and_foreign_ids_are_passed_over() {
    with("", "", |mux, _| {
        let call = post();
        let mut bytes = fcgi::begin(1, false);
        let mut foreign = Vec::new();
        for kind in [8, 9, 10, 11, 12, 100, 255] {
            foreign.extend(fcgi::record_padded(kind, 1, b"unknown", 3));
        }
        for kind in [fcgi::PARAMS, fcgi::STDIN, fcgi::ABORT_REQUEST, fcgi::END_REQUEST, fcgi::STDOUT] {
            foreign.extend(fcgi::record(kind, 77, b"\xff\xff\xff\xffnot a pair"));
        }
        bytes.extend(&foreign);
        bytes.extend(fcgi::record(fcgi::PARAMS, 1, &fcgi::pairs(call.params.iter().cloned())));
        bytes.extend(&foreign);
        bytes.extend(fcgi::record(fcgi::PARAMS, 1, &[]));
        bytes.extend(&foreign);
        bytes.extend(fcgi::stdin(1, BODY.as_bytes()));
        bytes.extend(&foreign);
        bytes.extend(fcgi::stdin_end(1));
        for size in [bytes.len(), 1] {
            let mut connection = mux.connect();
            connection.send_pieces(&bytes, &[size], Duration::ZERO);
            assert_echoed(connection.reply(SOON), &format!("pieces of {size}"));
        }
    });
}

/// Whatever bytes come: no panic, nothing left, and the next one is served. The seed is fixed; each byte of a right
/// request is changed in turn, and whole requests are cut and doubled at random.
#[test]
fn damaged_requests_leave_nothing_behind() {
    with("timeouts: {read: 100ms, write: 1s}", "", |mux, _| {
        let right = [post().keep().bytes(), fcgi::get_values(), post().id(2).bytes()].concat();
        let mut word: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut random = move |below: usize| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            usize::try_from(word % below as u64).expect("below a usize")
        };
        for round in 0..400 {
            let mut bytes = right.clone();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                match random(5) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes[at] = u8::try_from(random(256)).expect("a byte"),
                    2 => bytes.insert(at, u8::try_from(random(256)).expect("a byte")),
                    3 => drop(bytes.remove(at.min(bytes.len() - 1))),
                    _ => bytes.extend_from_slice(&right[at.min(right.len())..]),
                }
            }
            let mut connection = mux.connect();
            // It may be hung up on in the middle.
            let _ = connection.try_send(&bytes);
            let _ = connection.read_record(MILLISECOND);
            if round % 2 == 0 {
                connection.shutdown_write();
            }
        }
    });
}

trait Keep {
    /// The web server wants to keep its connection.
    fn keep(self) -> Self;
}

impl Keep for Call {
    fn keep(mut self) -> Self {
        self.keep = true;
        self
    }
}
