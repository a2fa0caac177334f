//! The peers of these tests face to face, nothing between them: what they find must be what is there.

use super::{LIMIT, MILLISECOND, SOON};
use crate::support::{
    bounded,
    fcgi::{
        Abort, Call, Connection, Errand, Manner, Multiplexer, Pace, Pattern, Random, Replies, Values, WebServer,
        run_alone,
    },
    wait_until,
};

#[test]
fn a_pattern_is_told_from_another_and_from_itself_elsewhere() {
    let (one, other) = (Pattern::of("t1"), Pattern::of("t2"));
    let bytes = one.bytes(1_000);
    for (from, to) in [(0, 1_000), (1, 2), (7, 9), (8, 16), (3, 998), (999, 1_000), (5, 5)] {
        assert_eq!(one.first_difference(from as u64, &bytes[from..to]), None, "{from}..{to}");
        let mut piece = vec![0; to - from];
        one.fill(from as u64, &mut piece);
        assert_eq!(piece, bytes[from..to]);
    }
    assert!(other.first_difference(0, &bytes).is_some_and(|at| at < 4));
    assert!(one.first_difference(8, &bytes[..100]).is_some());
    let mut wrong = bytes;
    wrong[777] ^= 1;
    assert_eq!(one.first_difference(100, &wrong[100..]), Some(777));
    assert_ne!(Pattern::of_body("t1").bytes(8), Pattern::of_data("t1").bytes(8));
}

#[test]
fn a_thousand_exchanges_face_to_face_are_right() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let mut web_server = WebServer::connect(&application.address());
        let mut random = Random::seeded(7);
        let errands = (0..1_000).map(move |number| {
            let errand = Errand::post(number, random.size(100_000), random.size(100_000));
            match number % 10 {
                0 => errand.abort(Abort::InResponse(1)),
                1 => errand.abort(Abort::InBody(10)),
                2 => errand.abort(Abort::InResponse(0)).and("abort=late&delay=20"),
                3 => errand.and("stream=1"),
                4 => errand.role(3).data(20_000),
                5 => errand.role(2),
                _ => errand,
            }
        });
        let mut whole = 0;
        web_server.run(100, errands, |errand, done| {
            let verdict = if done.aborted { done.verdict_of_aborted(errand) } else { done.verdict(errand) };
            assert_eq!(verdict, Ok(()));
            whole += usize::from(!done.aborted);
        });
        assert!(whole >= 700, "{whole} whole");
        assert_eq!(web_server.defects(), Vec::<String>::new());
        application.assert_undisturbed();
        let tally = application.tally();
        assert_eq!((tally.begun, tally.ended, tally.open_ids), (1_000, 1_000, 0), "{tally:?}");
        assert!(tally.most_open_ids > 50);
    });
}

#[test]
fn a_wrong_byte_of_a_body_and_an_id_begun_twice_are_seen() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let mut connection = Connection::tcp(application.address().parse().expect("ip:port"));
        let mut body = Pattern::of_body("a").bytes(100);
        body[50] ^= 1;
        let call = Call::post("/app", body).query("token=a&n=5&body=100");
        assert_eq!(connection.call(&call, SOON).whole().body(), Pattern::of("a").bytes(5));
        assert_eq!(application.tally().defects, ["a: byte 50 of STDIN is another's"]);
        // Behind an abort, Go's applications go on and end once more.
        let hanging = Call::get("/app").query("token=b&n=5&delay=100&abort=go").id(2);
        connection.send(&[hanging.bytes(), crate::support::fcgi::abort(2)].concat());
        assert_eq!(connection.reply(SOON).whole().stdout.len(), 0);
        connection.send(&Call::get("/app").query("token=c").id(2).bytes());
        assert_eq!(connection.reply(SOON).whole().body(), Pattern::of("b").bytes(5));
        assert!(application.tally().defects[1].starts_with("id 2 was begun again while b runs under it"));
    });
}

#[test]
fn what_is_wanted_wrong_is_done_wrong() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let address = application.address();
        let run = |more: &str| {
            let errand = Errand::get("w", 1_000).and(more);
            run_alone(&address, &errand, Pace::Fast).verdict(&errand)
        };
        for wrong in
            ["close", "close-inside", "reset", "end-length", "version", "strays", "trailing", "management", "foreign"]
        {
            for at in [0, 300] {
                let verdict = run(&format!("wrong={wrong}&at={at}"));
                assert!(verdict.is_err(), "{wrong}: {verdict:?}");
            }
            assert_eq!(run(&format!("wrong={wrong}&at=300&times=0")), Ok(()));
        }
        let refused = run_alone(&address, &Errand::get("x", 9).and("wrong=overloaded"), Pace::Fast);
        assert_eq!((refused.end, refused.head.as_str(), application.executed("x")), (Some((0, 2)), "", 0));
        // An early end, and a web server that goes.
        let early = Errand::post("early", 60_000, 500).and("early=1");
        let (before, done) = (application.tally().begun, run_alone(&address, &early, Pace::Fast));
        assert_eq!((done.received, application.tally().begun - before), (500, 1));
        let lost = application.tally().lost;
        let hangs = Errand::get("hangs", 100_000).and("wrong=hang&at=50000");
        assert!(run_alone(&address, &hangs, Pace::Gone(20_000)).aborted);
        wait_until("the lost one is counted", || application.tally().lost == lost + 1);
    });
}

#[test]
fn get_values_is_answered_as_told() {
    bounded(LIMIT, || {
        let slow = Manner::Late(50 * MILLISECOND);
        for (manner, answered) in
            [(Manner::Answers, true), (slow, true), (Manner::Never, false), (Manner::Closes, false)]
        {
            let application = Multiplexer::with(Values::manner(manner));
            let mut connection = Connection::tcp(application.address().parse().expect("ip:port"));
            assert_eq!(connection.fence(300 * MILLISECOND).is_ok(), answered, "{manner:?}");
        }
        let alone = Multiplexer::with(Values { multiplexes: false, ..Values::default() });
        let mut connection = Connection::tcp(alone.address().parse().expect("ip:port"));
        let calls = [1, 2].map(|id| Call::get("/app").query(&format!("token={id}&delay=50")).id(id).bytes());
        connection.send(&calls.concat());
        let replies = Replies::read(&mut connection, &[1, 2], SOON);
        assert_eq!((replies[1].status, replies[2].status), ((0, 0), (0, 1)));
    });
}

/// What all else is measured with must not be what is slow.
#[test]
fn a_response_of_a_gibibyte_comes_in_seconds() {
    bounded(LIMIT, || {
        let application = Multiplexer::start();
        let errand = Errand::get("big", 1 << 30).and("record=65535");
        let done = run_alone(&application.address(), &errand, Pace::Fast);
        assert_eq!(done.verdict(&errand), Ok(()));
        println!("1 GiB in {:.2?}", done.took);
    });
}
