//! Places on connections that exchanges share.

mod office;

use super::*;
use crate::mux::channel::Values;
use office::office;

const MANY: Values = Values { multiplexes: true, connections: None, requests: None };
const ONE: Values = Values { multiplexes: false, connections: None, requests: None };
const SAYS_MANY: Learned = Learned::Values(MANY);

// ---------------------------------------------------------------- places

#[test]
fn places_on_one_connection_are_filled_before_another_is_opened() {
    let mut office = office(1, "max_requests_in_flight: 3", "");
    office.arrive([1]);
    office.join(SAYS_MANY);
    assert_eq!(office.did(), ["open c1 at 0 Learn", "grant 1 c1"]);
    office.arrive([2, 3]);
    assert_eq!(office.did(), ["grant 2 c1", "grant 3 c1"]);
    office.arrive([4]);
    assert_eq!(office.did(), ["open c2 at 0 Remind"]);
    office.join(Learned::Nothing);
    office.arrive([5]);
    assert_eq!(office.did(), ["grant 4 c2", "grant 5 c2"]);
    // Where one is freer than the other, the fuller one is filled up.
    office.finish([1, 2]);
    office.arrive([6, 7, 8, 9]);
    assert_eq!(office.did(), ["grant 6 c2", "grant 7 c1", "grant 8 c1", "open c3 at 0 Remind"]);
    office.leave(9);
    office.finish(3..=8);
    office.assert_quiet();
}

#[test]
fn one_connection_asks_first_while_nothing_is_known_of_the_endpoint() {
    let mut office = office(1, "", "");
    office.arrive(1..=20);
    assert_eq!(office.did(), ["open c1 at 0 Learn"]);
    office.pass(100 * MS);
    assert_eq!(office.did(), [""; 0], "however long it takes");
    office.join(SAYS_MANY);
    assert_eq!(office.did().len(), 20, "all are granted, and nothing is opened");
    assert_eq!(office.taken(1), 20);
}

#[test]
fn each_endpoint_is_asked_by_a_connection_of_its_own() {
    let mut office = office(2, "", "");
    office.arrive([1, 2, 3]);
    assert_eq!(office.did(), ["open c1 at 0 Learn", "open c2 at 1 Learn"]);
}

#[test]
fn one_that_takes_a_request_at_a_time_is_given_as_many_connections_as_there_are_waiters() {
    let mut office = office(1, "per_endpoint: 4", "");
    office.arrive(1..=6);
    office.join(Learned::Values(ONE));
    let opened = ["open c2 at 0 Prove", "open c3 at 0 Prove", "open c4 at 0 Prove"];
    assert_eq!(office.did(), [&["open c1 at 0 Learn", "grant 1 c1"][..], &opened].concat());
    (0..3).for_each(|_| _ = office.join(Learned::Values(ONE)));
    assert_eq!(office.did(), ["grant 2 c2", "grant 3 c3", "grant 4 c4"]);
    office.finish([3]);
    office.finish([1]);
    assert_eq!(office.did(), ["grant 5 c3", "grant 6 c1"]);
}

#[test]
fn one_that_does_not_answer_is_given_one_request_at_a_time_and_not_asked_again() {
    let mut office = office(1, "", "");
    office.arrive([1, 2]);
    office.join(Learned::Mute);
    assert_eq!(office.did(), ["open c1 at 0 Learn", "grant 1 c1", "open c2 at 0 Skip"]);
    assert!(!office.pool.answers(0));
    office.join(Learned::Nothing);
    assert_eq!(office.did(), ["grant 2 c2"]);
    assert!(office.pool.is_single(0, Learned::Mute) && office.pool.is_single(0, Learned::Nothing));
}

#[test]
fn one_that_closes_twice_where_it_is_asked_is_not_asked_again() {
    let mut office = office(1, "", "");
    office.arrive([1]);
    office.fail(OpenFailure::Unasked);
    assert_eq!(office.did(), ["open c1 at 0 Learn", "open c2 at 0 Learn"], "it may have been about to stop");
    office.fail(OpenFailure::Unasked);
    assert_eq!(office.did(), ["open c3 at 0 Skip"], "at once");
    office.join(Learned::Nothing);
    assert_eq!((office.did(), office.taken(3)), (vec!["grant 1 c3".to_owned()], 1));
    assert_eq!(office.pool.snapshot(office.now).endpoints[0].ejections, 0);
}

#[test]
fn what_is_set_goes_before_what_the_application_says() {
    let mut always = office(1, "multiplex: always, max_requests_in_flight: 2", "");
    always.arrive(1..=4);
    assert_eq!(always.did(), ["open c1 at 0 Skip", "open c2 at 0 Skip"], "nothing need be asked");
    always.join(Learned::Nothing);
    always.join(Learned::Nothing);
    assert_eq!(always.did(), ["grant 1 c1", "grant 2 c1", "grant 3 c2", "grant 4 c2"]);
    let mut never = office(1, "multiplex: never", "");
    never.arrive(1..=2);
    never.join(SAYS_MANY);
    assert_eq!(never.did(), ["open c1 at 0 Learn", "grant 1 c1", "open c2 at 0 Skip"]);
    assert!(never.pool.is_single(0, SAYS_MANY) && !always.pool.is_single(0, Learned::Values(ONE)));
}

// ---------------------------------------------------------------- what the application announces

#[test]
fn one_that_multiplexes_is_given_no_more_connections_than_it_announces() {
    let mut office = office(1, "max_requests_in_flight: 1, per_endpoint: 8", "");
    office.arrive(1..=5);
    office.join(Learned::Values(Values { connections: Some(2), ..MANY }));
    assert_eq!(office.opening.len(), 1);
    office.join(Learned::Nothing);
    office.did();
    office.pass(5 * SECOND);
    assert_eq!((office.did(), office.waiting.len()), (vec![], 3));
    office.finish([1, 2]);
    assert_eq!(office.did(), ["grant 3 c1", "grant 4 c2"]);
}

#[test]
fn one_that_multiplexes_is_given_no_more_requests_than_it_announces() {
    let mut office = office(1, "per_endpoint: 8", "queue: {timeout: 30s}");
    office.arrive(1..=10);
    office.join(Learned::Values(Values { requests: Some(4), ..MANY }));
    assert_eq!((office.shares.len(), office.waiting.len()), (4, 6));
    office.did();
    // Another connection would be of no use.
    office.pass(10 * SECOND);
    assert_eq!(office.did(), [""; 0]);
    office.finish([2]);
    assert_eq!(office.did(), ["grant 5 c1"]);
    // They count over all connections: those of one that has ended until they are over.
    office.gone(1);
    assert_eq!(office.did(), [""; 0]);
    office.finish([1]);
    office.join(Learned::Nothing);
    assert_eq!(office.did(), ["open c2 at 0 Remind", "grant 6 c2"]);
    assert_eq!(office.shares.len(), 4);
}

#[test]
fn what_one_that_takes_a_request_at_a_time_announces_is_that_of_one_process() {
    let mut office = office(1, "per_endpoint: 3", "");
    office.arrive(1..=3);
    let alone = Learned::Values(Values { multiplexes: false, connections: Some(1), requests: Some(1) });
    office.join(alone);
    assert_eq!(office.opening.len(), 2);
    office.join(alone);
    office.join(alone);
    assert_eq!(office.shares.len(), 3);
}

#[test]
fn an_answer_that_comes_late_counts_from_then_on() {
    let mut office = office(1, "max_requests_in_flight: 8, per_endpoint: 1", "");
    office.arrive(1..=5);
    office.join(Learned::Mute);
    assert_eq!((office.shares.len(), office.did().len()), (1, 2));
    office.with(1, |pool, key, now| pool.learned(key, MANY, now));
    assert_eq!(office.did(), ["grant 2 c1", "grant 3 c1", "grant 4 c1", "grant 5 c1"]);
    office.gone(1);
    // Of one that is gone nothing is learned.
    let key = office.shares[&1].1.key;
    office.pool.learned(key, ONE, office.now);
    assert!(!office.pool.is_single(0, Learned::Nothing));
}

#[test]
fn one_that_cannot_multiplex_after_all_is_given_one_at_a_time() {
    let mut office = office(1, "per_endpoint: 2", "");
    office.arrive(1..=3);
    office.join(SAYS_MANY);
    office.did();
    office.with(1, Pool::cannot_multiplex);
    assert!(office.pool.is_single(0, Learned::Nothing));
    office.arrive([4]);
    assert_eq!(office.did(), ["open c2 at 0 Prove"]);
    office.join(Learned::Values(ONE));
    office.finish([1, 2]);
    office.arrive([5]);
    assert_eq!(office.did(), ["grant 4 c2"], "one still runs there");
    office.finish([3]);
    assert_eq!(office.did(), ["grant 5 c1"]);
}

// ---------------------------------------------------------------- connections that take nothing new

#[test]
fn a_stalled_connection_gets_nothing_new_while_there_is_another_way() {
    let mut office = office(1, "per_endpoint: 2", "");
    office.arrive([1]);
    office.join(SAYS_MANY);
    office.did();
    office.with(1, |pool, key, now| pool.stalled(key, true, now));
    office.arrive([2]);
    assert_eq!(office.did(), ["open c2 at 0 Remind"]);
    office.join(Learned::Nothing);
    office.arrive([3]);
    assert_eq!(office.did(), ["grant 2 c2", "grant 3 c2"]);
    // With no third, those that come join one: so it is seen that somebody waits, and the slow one gets its deadline.
    office.with(2, |pool, key, now| pool.stalled(key, true, now));
    office.arrive([4]);
    assert_eq!(office.did(), ["grant 4 c2"]);
    office.with(1, |pool, key, now| pool.stalled(key, false, now));
    office.arrive([5]);
    assert_eq!(office.did(), ["grant 5 c1"]);
}

#[test]
fn where_there_can_be_no_other_a_connection_that_is_due_goes_on_until_it_is_idle() {
    for due in ["max_requests: 1", "max_age: 10s, surplus_idle: 60s, idle_timeout: 60s"] {
        let mut office = office(1, &format!("per_endpoint: 1, {due}"), "");
        office.arrive([1]);
        office.join(SAYS_MANY);
        office.pass(11 * SECOND);
        office.arrive([2]);
        office.finish([2]);
        office.with(1, |pool, key, now| pool.let_go(key, Closed::Overloaded, true, now));
        office.arrive([3]);
        let granted = ["open c1 at 0 Learn", "grant 1 c1", "grant 2 c1", "grant 3 c1"];
        assert_eq!(office.did(), granted, "{due}: behind the first everybody would wait");
        office.finish([3, 1]);
        let reason = due.split(':').next().unwrap();
        assert_eq!(office.did(), [format!("close c1 {reason}")]);
        office.assert_quiet();
    }
}

#[test]
fn a_connection_that_is_let_go_closes_with_its_last_exchange() {
    let mut office = office(1, "", "");
    office.arrive([1, 2]);
    office.join(SAYS_MANY);
    office.did();
    office.with(1, |pool, key, now| pool.let_go(key, Closed::MaxAge, false, now));
    office.with(1, |pool, key, now| pool.let_go(key, Closed::Yield, false, now));
    assert_eq!(office.did(), [""; 0]);
    office.arrive([3]);
    assert_eq!(office.did(), ["open c2 at 0 Remind"]);
    office.finish([1]);
    assert_eq!(office.did(), [""; 0]);
    office.finish([2]);
    assert_eq!(office.did(), ["close c1 max_age"], "the first reason counts");
    // One without any at once.
    office.join(Learned::Nothing);
    office.finish([3]);
    office.did();
    office.with(2, |pool, key, now| pool.let_go(key, Closed::MaxAge, false, now));
    assert_eq!(office.did(), ["close c2 max_age"]);
    office.assert_quiet();
}

#[test]
fn a_connection_takes_no_more_exchanges_than_max_requests() {
    let mut office = office(1, "max_requests: 3", "");
    office.arrive([1]);
    office.join(SAYS_MANY);
    office.arrive([2]);
    office.finish([1]);
    office.arrive([3, 4]);
    assert_eq!(office.did(), ["open c1 at 0 Learn", "grant 1 c1", "grant 2 c1", "grant 3 c1", "open c2 at 0 Remind"]);
    assert_eq!(office.shares[&3].1.used, 2);
    office.finish([2, 3]);
    assert_eq!(office.did(), ["close c1 max_requests"]);
}

#[test]
fn a_place_that_was_not_used_counts_for_nothing() {
    let mut office = office(1, "", "");
    office.arrive([1]);
    office.join(SAYS_MANY);
    for waiter in 2..10 {
        office.arrive([waiter]);
        let (_, share) = office.shares.remove(&waiter).unwrap();
        assert_eq!(share.used, 1);
        office.pool.release_untouched(share, office.now);
        office.obey();
    }
    office.finish([1]);
    office.assert_quiet();
}

#[test]
fn a_connection_over_max_age_takes_what_it_has_to_the_end() {
    let mut office = office(1, "max_age: 10s, surplus_idle: 60s, idle_timeout: 60s", "");
    office.arrive([1, 2]);
    office.join(SAYS_MANY);
    office.did();
    office.pass(11 * SECOND);
    office.finish([1]);
    office.arrive([3]);
    assert_eq!(office.did(), ["open c2 at 0 Remind"], "its age is seen when an exchange ends");
    office.finish([2]);
    assert_eq!(office.did(), ["close c1 max_age"]);
}

#[test]
fn a_drain_closes_what_is_idle_and_the_rest_behind_its_exchanges() {
    let mut office = office(1, "max_requests_in_flight: 1, per_endpoint: 3", "");
    office.arrive([1, 2, 3]);
    office.join(SAYS_MANY);
    office.join(Learned::Nothing);
    office.join(Learned::Nothing);
    office.arrive([4]);
    office.did();
    office.finish([1]);
    assert_eq!(office.did(), ["grant 4 c1"]);
    office.finish([4]);
    office.pool.drain(office.now);
    office.obey();
    assert_eq!(office.did(), ["close c1 drain"]);
    assert_eq!(office.pool.busy(), 2);
    // Those that come are served all the same.
    office.arrive([5, 6]);
    assert_eq!(office.did(), ["open c4 at 0 Remind"]);
    office.finish([2]);
    assert_eq!(office.did(), ["grant 5 c2"]);
    office.join(Learned::Nothing);
    assert_eq!(office.did(), ["grant 6 c4"]);
    office.finish([3, 5, 6]);
    assert_eq!(office.did(), ["close c3 drain", "close c2 drain", "close c4 drain"]);
    office.assert_quiet();
    assert_eq!(office.open.len() + office.opening.len(), 0);
}

#[test]
fn a_connection_that_opens_for_nobody_while_draining_is_closed() {
    let mut office = office(1, "", "");
    office.arrive([1]);
    office.pool.drain(office.now);
    office.leave(1);
    office.join(SAYS_MANY);
    assert_eq!(office.did(), ["open c1 at 0 Learn", "close c1 drain"]);
}

#[test]
fn of_idle_connections_one_stays_and_the_others_go_soon() {
    let mut office = office(1, "max_requests_in_flight: 1, per_endpoint: 3, surplus_idle: 1s, idle_timeout: 30s", "");
    office.arrive([1, 2, 3]);
    office.join(SAYS_MANY);
    office.join(Learned::Nothing);
    office.join(Learned::Nothing);
    office.did();
    office.finish([2]);
    office.pass(500 * MS);
    office.finish([3, 1]);
    office.pass(499 * MS);
    assert_eq!(office.did(), [""; 0]);
    office.pass(MS);
    assert_eq!(office.did(), ["close c2 idle"]);
    office.pass(501 * MS);
    assert_eq!(office.did(), ["close c3 idle"], "the one used last stays");
    office.pass(20 * SECOND);
    assert_eq!(office.did(), [""; 0]);
    office.pass(10 * SECOND);
    assert_eq!(office.did(), ["close c1 idle"]);
    assert_eq!(office.pool.next_deadline(), None);
}

#[test]
fn one_that_nobody_came_for_is_reaped_like_others() {
    let mut office = office(1, "surplus_idle: 1s, idle_timeout: 2s", "");
    office.arrive([1]);
    office.leave(1);
    office.join(SAYS_MANY);
    office.did();
    office.pass(2 * SECOND);
    assert_eq!(office.did(), ["close c1 idle"]);
}

// ---------------------------------------------------------------- connections that end

#[test]
fn places_of_a_connection_that_has_ended_are_given_back_without_it() {
    let mut office = office(1, "per_endpoint: 1", "");
    office.arrive(1..=3);
    office.join(SAYS_MANY);
    office.did();
    office.gone(1);
    assert_eq!(office.did(), [""; 0]);
    office.arrive([4]);
    assert_eq!(office.did(), ["open c2 at 0 Remind"], "its place is free at once");
    office.join(Learned::Nothing);
    assert_eq!(office.did(), ["grant 4 c2"]);
    office.finish([1, 2, 3]);
    assert_eq!((office.did(), office.taken(2)), (vec![], 1));
    // Nor can anything be done to it any more.
    office.arrive([5]);
    let stale = {
        let key = office.shares[&5].1.key;
        office.gone(2);
        key
    };
    office.pool.stalled(stale, true, office.now);
    office.pool.let_go(stale, Closed::Body, false, office.now);
    office.pool.cannot_multiplex(stale, office.now);
    office.finish([4, 5]);
    office.assert_quiet();
}

#[test]
fn waiters_are_served_in_order_whatever_makes_room() {
    let mut office = office(1, "max_requests_in_flight: 2, per_endpoint: 2", "");
    office.arrive(1..=9);
    office.join(SAYS_MANY);
    office.join(Learned::Nothing);
    office.did();
    office.finish([3]);
    office.gone(1);
    office.join(Learned::Nothing);
    office.leave(8);
    office.finish([4, 1]);
    let granted: Vec<_> = office.did().into_iter().filter(|line| line.starts_with("grant")).collect();
    assert_eq!(granted, ["grant 5 c2", "grant 6 c3", "grant 7 c3", "grant 9 c2"]);
}

#[test]
fn one_that_waits_again_goes_before_others() {
    let mut office = office(1, "max_requests_in_flight: 1, per_endpoint: 1", "");
    office.arrive(1..=2);
    office.join(SAYS_MANY);
    let again = Claim { again: true, ..Claim::default() };
    let Ok(Arrival::Wait(key)) = office.pool.arrive(again, || 3, office.now) else { panic!("nothing is free") };
    office.waiting.insert(3, key);
    office.did();
    office.finish([1]);
    assert_eq!(office.did(), ["grant 3 c1"]);
}

#[test]
fn what_comes_back_behind_a_failure_may_be_another_application() {
    let mut office = office(1, "per_endpoint: 2", "queue: {timeout: 30s}");
    office.arrive([1]);
    office.join(Learned::Mute);
    office.gone(1);
    office.finish([1]);
    office.arrive([2]);
    office.did();
    office.fail(OpenFailure::Connect);
    office.pass(50 * MS);
    assert_eq!(office.did(), ["open c3 at 0 Learn"]);
}

// ---------------------------------------------------------------- several endpoints

#[test]
fn exchanges_are_spread_evenly_over_endpoints() {
    let mut office = office(3, "max_requests_in_flight: 100", "");
    office.arrive([1, 2, 3]);
    (0..3).for_each(|_| _ = office.join(SAYS_MANY));
    office.arrive(4..=30);
    assert_eq!([1, 2, 3].map(|number| office.taken(number)), [10, 10, 10]);
    office.finish((1..=30).filter(|waiter| waiter % 3 == 1));
    office.arrive(31..=40);
    let taken = [1, 2, 3].map(|number| office.taken(number));
    assert!(taken.iter().all(|taken| *taken == 10), "{taken:?}");
}

#[test]
fn one_that_is_stalled_at_one_endpoint_leaves_the_others() {
    let mut office = office(2, "per_endpoint: 1", "");
    office.arrive([1, 2]);
    office.join(SAYS_MANY);
    office.join(SAYS_MANY);
    office.with(1, |pool, key, now| pool.stalled(key, true, now));
    office.arrive(3..=6);
    let (stalled, other) = (office.taken(1), office.taken(2));
    assert_eq!(stalled + other, 6);
    assert!(stalled <= 2 && other >= 4, "{stalled} {other}");
    assert_eq!(office.waiting.len(), 0);
}
