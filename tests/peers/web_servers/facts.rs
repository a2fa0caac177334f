//! What each web server sends, taken down on the wire between it and fcgimux.

use std::{thread, time::Duration};

use super::{
    front::{
        APACHE, APACHE_KEPT, CADDY, Front, HAPROXY, HAPROXY_KEPT, HAPROXY_MANY, LIGHTTPD, NGINX, NGINX_KEPT,
        NGINX_UNBUFFERED, Running,
    },
    recorder::{Recorder, Taped},
    visitor::{get, leave_after, post, post_chunked},
};
use crate::support::{
    Fcgimux, PhpFpm, bounded,
    fcgi::{self, ABORT_REQUEST, BEGIN_REQUEST, GET_VALUES, PARAMS, STDIN},
    wait_until,
};

const LIMIT: Duration = Duration::from_secs(60);
const ALL: [Front; 10] =
    [NGINX, NGINX_KEPT, NGINX_UNBUFFERED, APACHE, APACHE_KEPT, LIGHTTPD, CADDY, HAPROXY, HAPROXY_KEPT, HAPROXY_MANY];
const SHORT: [Front; 6] = [NGINX, NGINX_UNBUFFERED, APACHE, LIGHTTPD, CADDY, HAPROXY];
const KEPT: [Front; 3] = [NGINX_KEPT, APACHE_KEPT, HAPROXY_KEPT];

/// Takes down what each of `fronts` sends while `visit` asks for things.
fn taken_down(
    fronts: &'static [Front],
    visit: impl Fn(&Running) + Send + 'static,
    check: impl Fn(&str, &Recorder) + Send + 'static,
) {
    bounded(LIMIT, move || {
        let php = PhpFpm::pool(4).start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 4}").start();
        for front in fronts {
            let recorder = Recorder::before(&mux.socket());
            let server = front.start(&php.scripts(), recorder.socket());
            visit(&server);
            check(front.0, &recorder);
        }
    });
}

fn three_visits(server: &Running) {
    let server = server.address();
    assert_eq!(get(server, "/echo.php?token=1").status, 200);
    assert_eq!(get(server, "/echo.php?token=2").status, 200);
    assert_eq!(post(server, "/echo.php?token=3", "text/plain", &vec![b'x'; 100_000]).status, 200);
}

#[test]
fn short_connections_carry_one_request_with_id_1_and_without_keep_conn() {
    taken_down(&SHORT, three_visits, |front, recorder| {
        let connections = recorder.connections();
        assert_eq!(connections.len(), 3, "{front}");
        for taped in connections {
            assert_eq!((taped.ids(), taped.flags()), (vec![1], vec![0]), "{front}");
            assert!(taped.of_kind(GET_VALUES).is_empty(), "{front} asks nothing");
        }
    });
}

#[test]
fn kept_connections_carry_one_request_after_the_other_with_keep_conn() {
    taken_down(&KEPT, three_visits, |front, recorder| {
        let connections = recorder.connections();
        assert_eq!(connections.len(), 1, "{front}");
        let ids = if front.starts_with("HAProxy") { vec![1, 3, 5] } else { vec![1, 1, 1] };
        assert_eq!((connections[0].ids(), connections[0].flags()), (ids, vec![1, 1, 1]), "{front}");
        assert_eq!(connections[0].most, 1, "{front}");
        assert!(connections[0].of_kind(GET_VALUES).is_empty(), "{front} asks nothing");
    });
}

#[test]
fn every_web_server_asks_for_a_responder_and_ends_params_and_stdin() {
    taken_down(&ALL, three_visits, |front, recorder| {
        for taped in recorder.connections() {
            for begin in taped.of_kind(BEGIN_REQUEST) {
                assert_eq!(begin.content[..2], [0, 1], "{front}: role");
                for kind in [PARAMS, STDIN] {
                    let records: Vec<_> =
                        taped.of_kind(kind).into_iter().filter(|record| record.id == begin.id).collect();
                    assert!(records.last().is_some_and(|record| record.content.is_empty()), "{front}: end of {kind}");
                }
            }
            let ends = taped.of_kind(STDIN).iter().filter(|record| record.content.is_empty()).count();
            assert_eq!(ends, taped.ids().len(), "{front}: one end of STDIN for each request");
        }
    });
}

#[test]
fn only_nginx_and_caddy_pad_records_to_eight_bytes() {
    taken_down(&ALL, three_visits, |front, recorder| {
        for taped in recorder.connections() {
            let pads = front.starts_with("nginx") || front == CADDY.0;
            for record in &taped.sent {
                // nginx leaves the pieces of a body that it keeps in a file as they are.
                let wanted = (8 - record.content.len() % 8) % 8;
                let padding = usize::from(record.padding);
                let right = if pads { padding == wanted || record.kind == STDIN } else { padding == 0 };
                assert!(right, "{front}: {} bytes, padding {padding}", record.content.len());
            }
        }
    });
}

#[test]
fn a_body_without_a_length_is_measured_by_some_and_said_to_be_minus_one_by_caddy() {
    let visit = |server: &Running| {
        // HAProxy takes no more than fits a buffer; the others say the length of a small one, which came with the headers.
        let length = if matches!(server, Running::Haproxy(_)) { 12_000 } else { 200_000 };
        post_chunked(server.address(), "/echo.php?token=1", &vec![b'x'; length]);
    };
    taken_down(&ALL, visit, |front, recorder| {
        let said = recorder.connections()[0].param("CONTENT_LENGTH");
        let wanted = match front {
            _ if front == CADDY.0 => Some("-1"),
            _ if front == NGINX_UNBUFFERED.0 => Some(""),
            _ if front.starts_with("Apache") => None,
            _ if front.starts_with("HAProxy") => Some("12000"),
            _ => Some("200000"),
        };
        assert_eq!(said.as_deref(), wanted, "{front}");
    });
}

/// They close the connection, or (HAProxy, where others run on it) let the rest come and drop it.
#[test]
fn no_web_server_aborts_a_request_whose_visitor_leaves() {
    let visit = |server: &Running| leave_after(server.address(), "/big.php?mib=32&length=1", 100_000);
    taken_down(&ALL, visit, |front, recorder| {
        wait_until("the connection is closed", || recorder.connections().iter().any(|taped| taped.closed));
        let aborts: usize = recorder.connections().iter().map(|taped| taped.of_kind(ABORT_REQUEST).len()).sum();
        assert_eq!(aborts, 0, "{front}");
    });
}

#[test]
fn haproxy_asks_what_a_connection_may_carry_before_it_begins() {
    taken_down(&[HAPROXY_MANY], three_visits, |front, recorder| {
        let connections = recorder.connections();
        assert_eq!(connections.len(), 1, "{front}");
        let asked = fcgi::pairs([("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")]);
        let first = &connections[0].sent[0];
        assert_eq!((first.kind, first.id, &first.content), (GET_VALUES, 0, &asked));
        assert_eq!(connections[0].of_kind(GET_VALUES).len(), 1, "once for each connection");
        assert_eq!((connections[0].ids(), connections[0].flags()), (vec![1, 3, 5], vec![1, 1, 1]));
    });
}

#[test]
fn haproxy_sends_many_exchanges_at_once_on_one_connection() {
    let visit = |server: &Running| {
        let server = server.address();
        assert_eq!(get(server, "/echo.php").status, 200);
        let visitors: Vec<_> =
            (0..8).map(|_| thread::spawn(move || get(server, "/slow.php?ms=300&token=m").text())).collect();
        for visitor in visitors {
            assert_eq!(visitor.join().expect("a visitor"), "m\n");
        }
    };
    taken_down(&[HAPROXY_MANY], visit, |_, recorder| {
        let most: Vec<_> = recorder.connections().iter().map(|taped: &Taped| taped.most).collect();
        assert_eq!(most, [8], "all on one connection");
    });
}
