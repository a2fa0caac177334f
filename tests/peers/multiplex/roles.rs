//! Responder, Authorizer, Filter.

use super::{LIMIT, SOON, generic};
use crate::support::{
    bounded,
    fcgi::{self, Done, Errand, Multiplexer, Pace, WebServer, run_alone},
};

const RESPONDER: u16 = 1;
const AUTHORIZER: u16 = 2;
const FILTER: u16 = 3;

#[track_caller]
fn assert_played(errand: &Errand, done: &Done) {
    assert_eq!(done.verdict(errand), Ok(()));
    assert_eq!(done.header("X-Role"), Some(errand.role.to_string().as_str()));
    assert_eq!(done.header("X-Received"), Some(errand.body.to_string().as_str()));
    let variable = (errand.role == AUTHORIZER).then_some(errand.token.as_str());
    assert_eq!(done.header("Variable-TOKEN"), variable);
}

#[test]
fn each_role_is_played_on_a_connection_of_its_own() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let mux = generic(&application, "per_endpoint: 2", "");
        let address = mux.socket().display().to_string();
        let mut number = 0;
        for size in [0, 1, 100, 65_535, 65_536, 400_000] {
            for role in [RESPONDER, AUTHORIZER, FILTER] {
                number += 1;
                let errand = Errand::post(number, if role == AUTHORIZER { 0 } else { size }, size);
                let errand = errand.role(role).data(size / 2);
                assert_played(&errand, &run_alone(&address, &errand, Pace::Fast));
            }
        }
        application.assert_undisturbed();
    });
}

#[test]
fn roles_mix_on_one_connection() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let mux = generic(&application, "per_endpoint: 1", "");
        let mut web_server = WebServer::connect(&mux.socket().display().to_string());
        let errands = (0_u16..600).map(|number| {
            let (role, size) = (1 + number % 3, u64::from(number) * 100);
            let body = if role == AUTHORIZER { 0 } else { size };
            Errand::post(number, body, 50_000 - size / 2).role(role).data(60_000 - size)
        });
        web_server.run(30, errands, assert_played);
        assert_eq!(web_server.defects(), Vec::<String>::new());
        application.assert_undisturbed();
        let tally = application.tally();
        assert_eq!((tally.begun, tally.ended, tally.connections), (600, 600, 1));
    });
}

/// The end of STDIN of one that has none is not passed on as more than that.
#[test]
fn an_authorizer_may_end_the_stdin_that_it_does_not_have() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let mux = generic(&application, "per_endpoint: 1", "");
        let mut connection = mux.connect();
        for (id, ends) in [(1, true), (1, false), (2, true)] {
            let errand = Errand::get(format!("{id}{ends}"), 100).role(AUTHORIZER);
            connection.send(&errand.head(id, true));
            if ends {
                connection.send(&fcgi::stdin_end(id));
            }
            let reply = connection.reply(SOON).whole();
            assert_eq!((reply.ids.as_slice(), reply.body().len()), ([id].as_slice(), 100));
        }
    });
}

#[test]
fn an_unknown_role_is_answered_so_and_the_others_live() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let mux = generic(&application, "per_endpoint: 1", "");
        let mut connection = mux.connect();
        connection.send(&Errand::get("slow", 100).and("delay=300").head(1, true));
        connection.send(&fcgi::stdin_end(1));
        for role in [0, 4, 255, 65_535] {
            connection.send(&Errand::get("none", 0).role(role).head(2, true));
            connection.send(&[fcgi::stdin_end(2), fcgi::record(fcgi::DATA, 2, b"")].concat());
            let reply = connection.reply(SOON).whole();
            assert_eq!((reply.ids.as_slice(), reply.status, reply.stdout.len()), ([2].as_slice(), (0, 3), 0));
        }
        let reply = connection.reply(SOON).whole();
        assert_eq!((reply.ids.as_slice(), reply.status, reply.body().len()), ([1].as_slice(), (0, 0), 100));
        assert_eq!(application.tally().begun, 1, "nothing of them reached the application");
    });
}
