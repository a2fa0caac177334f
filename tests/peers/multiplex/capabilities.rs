//! What an application can do, as it says or does not, and as the configuration overrides it.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{LIMIT, MILLISECOND, generic};
use crate::support::{
    Fcgimux, bounded,
    fcgi::{Errand, Manner, Multiplexer, Tally, Values, WebServer},
};

/// So many at once, each for a moment; all are right.
#[track_caller]
fn run(mux: &Fcgimux, name: &str, count: usize, at_once: usize) -> Duration {
    let start = Instant::now();
    let mut web_server = WebServer::connect(&mux.socket().display().to_string());
    // Without a body: behind one, a connection that takes one exchange at a time is not used again.
    let errands = (0..count).map(|number| Errand::get(format!("{name}{number}"), 5_000).and("delay=20"));
    web_server.run(at_once, errands, |errand, done| assert_eq!(done.verdict(errand), Ok(())));
    assert_eq!(web_server.defects(), Vec::<String>::new());
    start.elapsed()
}

/// A pool of at most four connections, of eight exchanges each where they are shared.
fn with(values: Values, more: &'static str, test: impl FnOnce(&Fcgimux, &Multiplexer) + Send + 'static) {
    bounded(LIMIT, move || {
        // The next one may be accepted before the end of the one that it follows has been seen: of those that the application
        // closes where it is asked, or of one.
        let unseen = if matches!(values.manner, Manner::Closes) { 2 } else { 1 };
        let application = Multiplexer::with(values);
        let keys = format!("per_endpoint: 4, max_requests_in_flight: 8{more}");
        let mux = generic(&application, &keys, "timeouts: {prove: 300ms}");
        test(&mux, &application);
        application.assert_undisturbed();
        let tally = application.tally();
        assert_eq!((tally.refused_multiplexing, tally.executed_again), (0, 0));
        assert!(tally.most_open_ids_on_a_connection <= 8, "{tally:?}");
        assert!(tally.most_open_connections <= 4 + unseen, "{tally:?}");
    });
}

#[track_caller]
fn assert_shared(tally: &Tally) {
    assert_eq!(tally.most_open_ids_on_a_connection, 8, "connections are filled");
}

#[track_caller]
fn assert_exclusive(tally: &Tally) {
    assert_eq!(tally.most_open_ids_on_a_connection, 1, "one exchange per connection");
    assert!(tally.most_open_ids > 1, "several at once all the same");
}

#[test]
fn an_application_that_multiplexes_is_asked_once_and_its_connections_are_filled_before_another_is_opened() {
    with(Values::default(), "", |mux, application| {
        run(mux, "few", 100, 8);
        assert_eq!(application.tally().connections, 1, "eight find room on one");
        run(mux, "many", 300, 32);
        let tally = application.tally();
        assert_shared(&tally);
        assert!(tally.most_open_ids > 16, "{} at once", tally.most_open_ids);
        assert!(tally.asked_values <= tally.connections, "asked {} times", tally.asked_values);
    });
}

#[test]
fn exchanges_beyond_what_the_connections_take_wait() {
    with(Values::default(), "", |mux, application| {
        run(mux, "t", 500, 100);
        assert_eq!(application.tally().most_open_ids, 32);
    });
}

#[test]
fn an_application_that_never_answers_get_values_serves_one_exchange_per_connection() {
    with(Values::manner(Manner::Never), "", |mux, application| {
        let took = run(mux, "t", 100, 20);
        assert!(took < Duration::from_secs(5), "waited for an answer for {took:.1?}");
        assert_exclusive(&application.tally());
        let asked = application.tally().asked_values;
        run(mux, "u", 100, 20);
        assert!(asked <= 4 && application.tally().asked_values == asked, "not asked again and again: {asked}");
    });
}

#[test]
fn an_application_that_answers_late_is_served_all_the_same() {
    // In time, and when it was given up.
    for (late, in_time) in [(100, true), (700, false)] {
        let values = Values::manner(Manner::Late(late * MILLISECOND));
        with(values, "", move |mux, application| {
            run(mux, "t", 100, 20);
            // The answer comes meanwhile, and disturbs nothing.
            thread::sleep(late * MILLISECOND);
            run(mux, "u", 100, 20);
            if in_time {
                assert_shared(&application.tally());
            }
            assert_eq!(application.tally().lost, 0);
        });
    }
}

#[test]
fn an_application_that_closes_on_get_values_serves_one_exchange_per_connection() {
    with(Values::manner(Manner::Closes), "", |mux, application| {
        run(mux, "t", 100, 20);
        assert_exclusive(&application.tally());
        let asked = application.tally().asked_values;
        run(mux, "u", 100, 20);
        assert!(asked <= 4 && application.tally().asked_values == asked, "not asked again and again: {asked}");
    });
}

#[test]
fn an_application_that_does_not_know_get_values_serves_one_exchange_per_connection() {
    with(Values::manner(Manner::Unknown), "", |mux, application| {
        run(mux, "t", 100, 20);
        assert_exclusive(&application.tally());
    });
}

#[test]
fn an_application_that_does_not_multiplex_serves_one_exchange_per_connection() {
    with(Values { multiplexes: false, ..Values::default() }, "", |mux, application| {
        run(mux, "t", 200, 20);
        assert_exclusive(&application.tally());
        assert_eq!(application.tally().most_open_ids, 4);
    });
}

#[test]
fn no_more_requests_run_than_an_application_says_it_takes() {
    with(Values { max_reqs: Some(5), ..Values::default() }, "", |mux, application| {
        run(mux, "t", 200, 40);
        assert_eq!(application.tally().most_open_ids, 5, "over all connections");
    });
}

#[test]
fn no_more_connections_are_opened_than_an_application_says_it_takes() {
    with(Values { max_conns: Some(2), ..Values::default() }, "", |mux, application| {
        run(mux, "t", 300, 40);
        let tally = application.tally();
        assert_eq!((tally.most_open_connections, tally.most_open_ids), (2, 16));
    });
}

#[test]
fn an_application_is_not_asked_where_the_configuration_knows() {
    for (manner, multiplexes) in [(Manner::Closes, true), (Manner::Never, true)] {
        let values = Values { manner, multiplexes, ..Values::default() };
        with(values, ", multiplex: always", |mux, application| {
            run(mux, "t", 300, 32);
            assert_shared(&application.tally());
            assert_eq!(application.tally().asked_values, 0);
        });
        with(values, ", multiplex: never", |mux, application| {
            run(mux, "t", 100, 20);
            assert_exclusive(&application.tally());
            assert!(application.tally().asked_values <= 2, "not asked again");
        });
    }
    with(Values::default(), ", multiplex: never", |mux, application| {
        run(mux, "t", 100, 20);
        assert_exclusive(&application.tally());
    });
}
