//! What one exchange holds up that goes no further: nobody for longer than may be. And what the end of a connection takes
//! along that came just before it: nothing.

use std::time::{Duration, Instant};

use super::{LIMIT, MILLISECOND, ONE, SIZE, SOON, assert_right, get, in_flight, post, wait_executed, with};
use crate::support::{
    Fcgimux, bounded,
    fcgi::{self, Connection, GET_VALUES, GET_VALUES_RESULT, Multiplexer, Replies, Stage},
    wait_until,
};

/// Larger than all buffers on the way.
const LARGE: usize = 32_000_000;

fn before(part: fn(Connection, &Stage), pool: &str, listener: &str) -> (fcgi::Application, Fcgimux) {
    let application = fcgi::Application::tcp(part);
    let mux = Fcgimux::to(application.address())
        .pool("application: generic\n    on_failure: respond")
        .pool(pool)
        .listener(listener)
        .start();
    (application, mux)
}

/// Whether it multiplexes: "0" or "1".
fn say(connection: &mut Connection, multiplexes: &str) {
    let pair = fcgi::pair(b"FCGI_MPXS_CONNS", multiplexes.as_bytes());
    let _ = connection.try_send(&fcgi::record(GET_VALUES_RESULT, 0, &pair));
}

/// Says that it multiplexes, and reads nothing of what follows.
fn reads_nothing(mut connection: Connection, _: &Stage) {
    if connection.read_record(SOON).is_ok() {
        say(&mut connection, "1");
    }
    std::thread::sleep(Duration::from_secs(8));
}

#[test]
fn a_web_server_that_reads_nothing_holds_up_those_that_come_later_for_no_longer_than_may_be() {
    with("per_endpoint: 1, stall_timeout: 1s", "", |mux, application| {
        let mut deaf = mux.connect();
        deaf.send(&get(1, "deaf", "&n=8000000").bytes());
        wait_executed(application, "deaf");
        std::thread::sleep(500 * MILLISECOND);
        let began = Instant::now();
        assert_right(&mux.call(&get(1, "later", ""), SOON), "later");
        assert!(began.elapsed() < SOON / 3, "{:?}", began.elapsed());
    });
}

#[test]
fn a_body_that_does_not_come_ends_its_own_exchange_only() {
    with(ONE, "timeouts: {read: 500ms}", |mux, application| {
        let mut connection = mux.connect();
        let late = post(1, "late", "");
        connection
            .send(&[get(2, "beside", "&delay=1500").bytes(), late.head(), fcgi::stdin(1, &late.body[..300])].concat());
        let replies = Replies::read(&mut connection, &[1, 2], SOON);
        assert_eq!(replies[1].http_status(), 408);
        assert_right(&replies[2], "beside");
        assert_eq!(application.tally().aborts, 1);
    });
}

#[test]
fn a_web_server_that_hangs_up_behind_a_body_that_nobody_reads_is_let_go_at_once() {
    bounded(LIMIT, || {
        let timeouts = "timeouts: {first_byte: off, between_bytes: off}";
        let (_application, mux) = before(reads_nothing, timeouts, "");
        let mut connection = mux.connect();
        let upload = fcgi::Call::post("/srv/app", vec![b'u'; LARGE]);
        let (bytes, mut sent, mut full) = (upload.bytes(), 0, 0);
        while full < 20 {
            let more = connection.send_what_fits(&bytes[sent..]);
            sent += more;
            full = if more == 0 { full + 1 } else { 0 };
            std::thread::sleep(10 * MILLISECOND);
        }
        assert!(sent < bytes.len(), "nobody reads all of it");
        assert_eq!(in_flight(&mux), 1.0);
        connection.close();
        let open = || mux.metrics().sum("fcgimux_downstream_connections", &[]);
        let began = Instant::now();
        wait_until("its connection is closed", || open() == 0.0);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    });
}

#[test]
fn a_connection_that_is_due_to_end_serves_on_while_a_long_exchange_keeps_it_and_there_can_be_no_other() {
    for due in ["max_requests: 2", "max_age: 300ms"] {
        let connections: &'static str =
            if due.contains("age") { "per_endpoint: 1, max_age: 300ms" } else { "per_endpoint: 1, max_requests: 2" };
        with(connections, "", move |mux, application| {
            let mut connection = mux.connect();
            connection.send(&get(1, "long", "&delay=2000").bytes());
            wait_executed(application, "long");
            std::thread::sleep(400 * MILLISECOND);
            for number in 0..4 {
                let token = format!("short{number}");
                let reply = mux.call(&get(1, &token, ""), SOON);
                assert_right(&reply, &token);
                assert!(reply.took < 1_000 * MILLISECOND, "{due}: {:?}", reply.took);
            }
            assert_right(&connection.reply(SOON), "long");
        });
    }
}

#[test]
fn answers_that_a_web_server_does_not_read_are_not_heaped_up() {
    with(ONE, "timeouts: {read: 1s}", |mux, _| {
        let before = mux.rss_kib();
        let malformed =
            [fcgi::begin(1, true), fcgi::record(fcgi::PARAMS, 1, b"\xff"), fcgi::record(fcgi::PARAMS, 1, b"")];
        let many = malformed.concat().repeat(20_000);
        let mut connection = mux.connect();
        let mut sent = 0;
        let until = Instant::now() + 1_500 * MILLISECOND;
        while Instant::now() < until {
            sent += connection.send_what_fits(&many[..malformed.concat().len() * 1_000]);
            std::thread::sleep(MILLISECOND);
        }
        println!("{sent} bytes were taken");
        let grown = mux.peak_rss_kib().saturating_sub(before);
        assert!(grown < 8 * 1024, "grown by {grown} KiB");
    });
}

/// Answers whole, and closes without a look at the body; which its peer may learn by a failed write.
fn answers_and_closes(mut connection: Connection, stage: &Stage) {
    loop {
        let Ok(record) = connection.read_record(SOON) else { return };
        match record.kind {
            GET_VALUES => say(&mut connection, "0"),
            fcgi::PARAMS if record.content.is_empty() => {
                stage.note("executed");
                connection.answer(record.id, b"early");
                return;
            }
            _ => {}
        }
    }
}

#[test]
fn a_response_in_front_of_a_close_is_heard_and_its_request_not_sent_again() {
    bounded(LIMIT, || {
        let (application, mux) = before(answers_and_closes, "connections: {per_endpoint: 4}", "");
        for number in 1..=40 {
            let reply = mux.call(&fcgi::Call::post("/srv/app", vec![b'u'; 150_000]), SOON);
            assert_eq!((reply.body(), reply.ended), (&b"early"[..], true), "{number}: {reply:?}");
            assert_eq!(application.notes().len(), number);
        }
    });
}

fn says_and_closes(mut connection: Connection, multiplexes: &str) {
    if connection.read_record(SOON).is_ok_and(|record| record.kind == GET_VALUES) {
        say(&mut connection, multiplexes);
    }
}

#[test]
fn an_application_that_closes_behind_its_answer_to_get_values_ends_nothing_but_its_connection() {
    bounded(LIMIT, || {
        let parts: [fn(Connection, &Stage); 2] =
            [|connection, _| says_and_closes(connection, "0"), |connection, _| says_and_closes(connection, "1")];
        for part in parts {
            let (_application, mux) = before(part, "queue: {timeout: 2s}", "");
            for _ in 0..5 {
                let reply = mux.call(&fcgi::Call::get("/srv/app"), SOON);
                assert!(reply.ended && reply.http_status() >= 502, "{reply:?}");
            }
        }
    });
}

/// On one thread the two sides of an exchange never look at the same moment.
#[test]
fn a_body_goes_on_whatever_the_moment_in_which_room_for_it_is_made() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let mux = Fcgimux::to(application.address())
            .pool("application: generic")
            .pool("connections: {per_endpoint: 4, buffer: 4KiB}")
            .top("threads: 4")
            .start();
        std::thread::scope(|scope| {
            for web_server in 0..4 {
                let mux = &mux;
                scope.spawn(move || {
                    for number in 0..3 {
                        let token = format!("up{web_server}-{number}");
                        let body = fcgi::Pattern::of_body(&token).bytes(5_000_000);
                        let query = format!("token={token}&n={SIZE}&body={}", body.len());
                        let reply = mux.call(&fcgi::Call::post("/srv/app", body).query(&query), SOON);
                        assert_right(&reply, &token);
                    }
                });
            }
        });
        application.assert_undisturbed();
    });
}
