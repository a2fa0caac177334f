//! Records go on as they come, both ways.

use super::{LIMIT, MILLISECOND, SOON, generic};
use crate::support::{
    bounded,
    fcgi::{self, Errand, Multiplexer, Pattern},
    wait_until,
};

#[test]
fn a_request_reaches_the_application_before_its_body_has_come() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let mux = generic(&application, "per_endpoint: 1", "");
        let mut connection = mux.connect();
        connection.send(&Errand::post("up", 3_000, 500).head(1, true));
        wait_until("it is there", || application.executed("up") == 1);
        // A response that does not wait for the body comes before it.
        let early = Errand::post("both", 3_000, 500).and("stream=1");
        connection.send(&early.head(2, true));
        let mut received = 0;
        while received < 500 {
            let record = connection.read_record(SOON).expect("a record");
            assert_eq!((record.kind, record.id), (fcgi::STDOUT, 2));
            received += record.content.len();
        }
        for (id, token) in [(1, "up"), (2, "both")] {
            let body = Pattern::of_body(token).bytes(3_000);
            for piece in body.chunks(700) {
                connection.send(&fcgi::stdin(id, piece));
            }
            connection.send(&fcgi::stdin_end(id));
            assert!(connection.reply(SOON).ended);
        }
        application.assert_undisturbed();
    });
}

#[test]
fn a_response_reaches_the_web_server_as_it_is_written() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let mux = generic(&application, "per_endpoint: 1", "");
        let mut connection = mux.connect();
        let errand = Errand::get("down", 5_000).and("wrong=hang&at=400");
        connection.send(&[errand.head(1, true), fcgi::stdin_end(1)].concat());
        let mut received = 0;
        while received < 400 {
            received += connection.read_record(SOON).expect("a record").content.len();
        }
        assert_eq!(received, 400);
        assert!(connection.read_record(100 * MILLISECOND).is_err(), "nothing more was written");
        connection.send(&fcgi::abort(1));
        assert!(connection.reply(SOON).ended);
    });
}

/// Larger than every buffer on the way, both ways at once.
#[test]
fn a_body_and_a_response_pour_at_the_same_time() {
    bounded(LIMIT, || {
        use crate::support::fcgi::WebServer;
        let application = Multiplexer::start();
        let mux = generic(&application, "per_endpoint: 1, buffer: 16KiB", "");
        let mut web_server = WebServer::connect(&mux.socket().display().to_string());
        let before = mux.rss_kib();
        let errands = (0..4).map(|number| Errand::post(number, 40_000_000, 40_000_000).and("stream=1"));
        web_server.run(4, errands, |errand, done| assert_eq!(done.verdict(errand), Ok(())));
        application.assert_undisturbed();
        let grown = mux.peak_rss_kib().saturating_sub(before);
        assert!(grown < 16 * 1024, "grown by {grown} KiB");
    });
}
