//! Connections that a web server keeps: one request after the other.

use super::{BODY, Keep, MILLISECOND, SOON, assert_echoed, post, with};
use crate::support::fcgi::{self, Call, End, Replies};

#[test]
fn a_kept_connection_serves_one_request_after_the_other() {
    with("", "", |mux, _| {
        let mut connection = mux.connect();
        for id in [1, 1, 2, 65_535, 1] {
            let reply = connection.call(&post().id(id).keep(), SOON);
            assert_eq!(reply.ids, [id]);
            assert_echoed(reply, &format!("id {id}"));
        }
        assert_echoed(connection.call(&post(), SOON), "the last one");
        assert_eq!(connection.ending(SOON), End::Closed, "closed behind the one without keep-conn");
    });
}

#[test]
fn pipelined_requests_are_all_served() {
    with("", "", |mux, _| {
        let calls = (1..=20).map(|number| Call::post("/app", format!("body {number}")).id(number).keep());
        let bytes: Vec<u8> = calls.flat_map(|call| call.bytes()).collect();
        for size in [bytes.len(), 100, 1] {
            let mut connection = mux.connect();
            connection.send_pieces(&bytes, &[size], MILLISECOND / 100);
            let ids: Vec<u16> = (1..=20).collect();
            for (id, reply) in Replies::read(&mut connection, &ids, SOON).iter() {
                assert_eq!((reply.text(), reply.status), (format!("body {id}"), (0, 0)), "{reply:?}");
            }
            assert_echoed(connection.call(&post().keep(), SOON), "behind them");
        }
    });
}

/// The response may be sent before the padding of the last record has come.
#[test]
fn padding_behind_a_request_does_not_disturb_the_next_one() {
    with("", "", |mux, _| {
        let call = post().keep();
        let bytes = [call.clone().unended().bytes(), fcgi::record_padded(fcgi::STDIN, 1, &[], 255)].concat();
        let mut connection = mux.connect();
        for early in [0, 1, 100, 254] {
            let (first, rest) = bytes.split_at(bytes.len() - 255 + early);
            connection.send(first);
            assert_echoed(connection.reply(SOON), "before its padding");
            connection.send(rest);
            assert_echoed(connection.call(&call, SOON), "behind the padding");
        }
    });
}

#[test]
fn what_stands_behind_the_last_request_is_not_served() {
    with("", "", |mux, _| {
        let mut connection = mux.connect();
        connection.send(&[post().bytes(), post().id(2).bytes()].concat());
        assert_echoed(connection.reply(SOON), "the first");
        let (rest, end) = connection.read_to_end(SOON);
        assert!(rest.is_empty() && matches!(end, End::Closed | End::Reset), "{} bytes, {end:?}", rest.len());
    });
}

#[test]
fn a_kept_connection_serves_on_behind_a_refused_request() {
    with("", "body: {max_size: 50B}\n    params: {max_count: 20, deny: [PHP_VALUE]}", |mux, _| {
        let mut connection = mux.connect();
        let large = vec![b'x'; 300_000];
        let mut too_many = post().keep();
        too_many.params.extend((0..20).map(|number| (format!("P{number}"), String::new())));
        let mut unsaid = post().body("text/plain", large.clone()).keep();
        unsaid.params.retain(|(name, _)| name != "CONTENT_LENGTH");
        let refusals = [
            (post().keep().param("PHP_VALUE", "x"), 403),
            (too_many, 431),
            (post().body("text/plain", large).keep(), 413),
            (unsaid, 413),
            (post().keep().param("CONTENT_LENGTH", "7"), 400),
            (post().keep().param("CONTENT_LENGTH", "70"), 413),
            (post().keep().param("CONTENT_LENGTH", "45"), 400),
        ];
        for (call, status) in refusals {
            for id in [1, 2] {
                let reply = connection.call(&call.clone().id(id), SOON).whole();
                assert_eq!((reply.http_status(), reply.ids.as_slice()), (status, [id].as_slice()), "{reply:?}");
                assert_echoed(connection.call(&post().id(id).keep(), SOON), &format!("behind a {status}"));
            }
        }
        // The next request may stand right behind the refused one.
        let refused = post().keep().param("PHP_VALUE", "x");
        connection.send(&[refused.bytes(), post().id(2).bytes()].concat());
        assert_eq!(connection.reply(SOON).whole().http_status(), 403);
        assert_echoed(connection.reply(SOON), "in the same write as a refused one");
    });
}

#[test]
fn a_request_that_is_taken_back_is_ended_and_the_connection_serves_on() {
    with("", "", |mux, application| {
        let mut connection = mux.connect();
        let (call, before) = (post().keep(), application.accepted());
        let whole = call.bytes();
        for cut in [16, call.head().len() - 8, call.head().len(), whole.len() - 8 - BODY.len() - 8] {
            connection.send(&[&whole[..cut], &fcgi::abort(1)].concat());
            let reply = connection.reply(SOON).whole();
            assert_eq!((reply.status, reply.stdout.len()), ((0, 0), 0), "cut at {cut}");
        }
        assert_eq!(application.accepted(), before, "nothing of it reached the application");
        connection.send(&fcgi::abort(1));
        connection.send(&fcgi::abort(700));
        assert_echoed(connection.call(&call, SOON), "behind them");
        // Larger than what is kept in memory.
        let large = Call::post("/app", vec![b'x'; 1_000_000]).keep().unended();
        connection.send(&[large.bytes(), fcgi::abort(1)].concat());
        assert_eq!(connection.reply(SOON).whole().status, (0, 0));
        assert_echoed(connection.call(&call, SOON), "behind a large body");
        // Without keep-conn it was the last.
        connection.send(&[post().head(), fcgi::abort(1)].concat());
        assert_eq!(connection.reply(SOON).whole().status, (0, 0));
        assert_eq!(connection.ending(SOON), End::Closed);
    });
}

/// Both halves of a stream are closed by most peers at once, and by nginx always; one that only ends its own side is answered,
/// as by php-fpm (fact 7.2).
#[test]
fn a_web_server_that_has_said_all_is_answered() {
    with("", "", |mux, _| {
        let mut connection = mux.connect();
        connection.send(&post().bytes());
        connection.shutdown_write();
        assert_echoed(connection.reply(SOON), "with its end");
        assert_eq!(connection.ending(SOON), End::Closed);
        // On a kept connection between two requests it is the end.
        let mut connection = mux.connect();
        assert_echoed(connection.call(&post().keep(), SOON), "kept");
        connection.shutdown_write();
        assert_eq!(connection.ending(SOON), End::Closed);
    });
}
