//! When connections are opened, and how many.

use super::*;

#[test]
fn no_connection_is_opened_while_one_that_a_waiter_can_expect_is_on_its_way() {
    let mut world = world(1, "");
    world.arrive(1);
    assert_eq!(world.did(), ["open 0"]);
    world.leave(1);
    world.pass(5 * MS);
    world.arrive(2);
    assert!(world.did().is_empty(), "the one opened for another will do");
    world.prove();
    assert_eq!(world.did(), ["grant 2 c1"]);
    world.settle(1);
    world.arrive(3);
    world.pass(9 * MS);
    assert!(world.did().is_empty(), "one that settles will do");
    world.arrive(4);
    assert_eq!(world.did(), ["open 0"], "but one for each");
}

#[test]
fn one_is_opened_for_a_waiter_whose_connection_is_late_and_the_clock_is_left_alone_then() {
    let mut world = world(1, "connections: {per_endpoint: 3}, queue: {timeout: 60s}");
    world.arrive(1);
    world.pass(9 * MS);
    assert_eq!(world.did(), ["open 0"]);
    world.pass(MS);
    assert_eq!(world.did(), ["open 0"], "patience is over");
    world.pass(SECOND);
    assert!(world.did().is_empty(), "two places among those who wait for a worker are enough for one");
    // Late ones hold up nothing: only the queue's timeout is left.
    assert_eq!(world.pool.next_deadline(), Some(world.start + 60 * SECOND));
    world.prove_nth(1);
    assert_eq!(world.did(), ["grant 1 c1"]);
    assert_eq!(world.pool.next_deadline(), None);
}

#[test]
fn a_fence_that_is_late_counts_as_a_worker_at_work() {
    let mut world = world(1, "");
    world.leased(1);
    world.settle(1);
    world.arrive(1);
    world.pass(10 * MS);
    assert_eq!(world.did(), ["open 0"]);
    world.prove();
    assert_eq!(world.did(), ["grant 1 c2"]);
    // Someone else's late fence is nobody's business without a waiter.
    world.pass(SECOND);
    assert!(world.did().is_empty());
}

#[test]
fn connecting_starts_with_the_endpoint_that_has_the_fewest_connections() {
    let mut world = world(3, "connections: {per_endpoint: 2}");
    (1..=7).for_each(|waiter| world.arrive(waiter));
    assert_eq!(world.did(), ["open 0", "open 1", "open 2", "open 0", "open 1", "open 2"], "and stops at the budget");
}

#[test]
fn the_place_of_a_worker_that_may_still_be_busy_stays_taken_until_a_handshake_finds_out() {
    let mut world = world(1, "connections: {per_endpoint: 2}");
    world.leased(2);
    world.discard(1, Closed::Gone, true);
    world.discard(2, Closed::Timeout, true);
    assert_eq!(world.count(0, ConnectionState::Settling), 2, "shown as such");
    for waiter in 1..=3 {
        world.arrive(waiter);
    }
    assert_eq!(world.did(), ["open 0", "open 0"], "in their places, and no more");
    world.pass(SECOND);
    world.prove();
    world.prove();
    assert_eq!(world.did(), ["grant 1 c3", "grant 2 c4"]);
    assert_eq!(world.count(0, ConnectionState::Settling), 0);
}

#[test]
fn the_place_of_a_worker_that_may_be_busy_is_free_when_a_handshake_in_it_would_be_given_up() {
    let mut world = world(1, "connections: {per_endpoint: 2}, timeouts: {prove: 5s}, queue: {timeout: 1m}");
    world.leased(2);
    world.discard(1, Closed::Gone, true);
    world.pass(3 * SECOND);
    world.discard(2, Closed::Gone, true);
    assert_eq!(world.count(0, ConnectionState::Settling), 2);
    world.pass(3 * SECOND);
    assert_eq!(world.count(0, ConnectionState::Settling), 1);
    (1..=3).for_each(|waiter| world.arrive(waiter));
    assert_eq!(world.did(), ["open 0", "open 0"], "one in the free place, one in that of the other");
}

#[test]
fn free_places_are_used_before_those_of_workers_that_may_be_busy() {
    let mut world = world(2, "connections: {per_endpoint: 2}");
    world.leased(2);
    world.discard(1, Closed::Gone, true);
    world.discard(2, Closed::Gone, false);
    (1..=2).for_each(|waiter| world.arrive(waiter));
    assert_eq!(world.did(), ["open 1", "open 0"]);
    assert_eq!(world.count(0, ConnectionState::Settling), 1);
}

#[test]
fn a_connection_that_ended_with_its_body_is_replaced_if_none_rests() {
    let mut world = world(1, "connections: {per_endpoint: 2}");
    world.leased(2);
    world.discard(1, Closed::Body, false);
    assert_eq!(world.did(), ["open 0"]);
    world.prove();
    assert_eq!((world.did().len(), world.idle()), (0, 1));
    world.discard(2, Closed::Body, false);
    assert!(world.did().is_empty(), "the next request finds a warm one");
}

#[test]
fn the_replacement_is_the_one_that_a_waiter_gets() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.leased(1);
    world.arrive(1);
    world.discard(1, Closed::Body, false);
    assert_eq!(world.did(), ["open 0"]);
}

#[test]
fn a_waiter_left_by_a_broken_connection_gets_another() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    for failure in [OpenFailure::Unanswered, OpenFailure::ClosedBehindAnswer] {
        world.arrive(1);
        assert_eq!(world.did(), ["open 0"]);
        world.fail(failure);
        assert_eq!(world.did(), ["open 0"]);
        world.prove();
        assert_eq!(world.did(), ["grant 1 c1"]);
        world.arrive(2);
        world.discard(1, Closed::Broken, false);
        assert_eq!(world.did(), ["open 0"]);
        world.prove();
        world.discard(2, Closed::Broken, false);
        world.did();
        world.connections = 0;
    }
}

// ---------------------------------------------------------------- giving workers up to others

#[test]
fn a_worker_is_given_up_after_long_use_while_others_are_held_or_waited_for() {
    let mut world = world(1, "connections: {per_endpoint: 2, yield_after: 1s}");
    world.leased(2);
    for connection in [1, 2] {
        world.arrive(10);
        world.pass(SECOND - MS);
        world.finish(connection);
        assert_eq!(world.did(), [format!("grant 10 c{connection}")], "not before its time");
        world.arrive(11);
        world.pass(MS);
        world.finish(connection);
        // Its place in the application's backlog is behind everybody else's.
        assert_eq!(world.did(), [format!("close c{connection} yield"), "open 0".to_owned()]);
        world.prove();
        world.did();
    }
}

#[test]
fn an_endpoint_gives_up_one_worker_at_a_time() {
    let mut world = world(1, "connections: {per_endpoint: 3, yield_after: 1s}");
    world.leased(3);
    world.pass(5 * SECOND);
    (1..=3).for_each(|connection| world.finish(connection));
    assert_eq!((world.did(), world.idle()), (vec!["close c1 yield".to_owned()], 2));
}

#[test]
fn the_only_worker_is_kept_as_long_as_nobody_waits() {
    let mut world = world(1, "connections: {yield_after: 1s}");
    world.leased(1);
    world.pass(100 * SECOND);
    world.finish(1);
    assert_eq!((world.did().len(), world.idle()), (0, 1));
}

#[test]
fn no_worker_is_given_up_when_that_is_off_and_none_on_its_first_proof() {
    let mut held = world(1, "connections: {per_endpoint: 2, yield_after: off}");
    held.leased(2);
    held.pass(100 * SECOND);
    held.arrive(1);
    held.finish(1);
    assert_eq!(held.did(), ["grant 1 c1"]);
    // A connection that was in a backlog for long has had nothing yet.
    let mut slow = world(1, "connections: {per_endpoint: 2, yield_after: 1s}");
    slow.arrive(1);
    slow.pass(4 * SECOND);
    slow.prove();
    assert!(slow.did().contains(&"grant 1 c1".to_owned()));
}

#[test]
fn a_connection_that_never_was_one_gives_no_worker_up() {
    let mut world = world(1, "connections: {per_endpoint: 2, yield_after: 1s}");
    world.leased(1);
    world.pass(SECOND - MS);
    world.arrive(1);
    world.fail(OpenFailure::Connect);
    world.pass(MS);
    world.did();
    world.finish(1);
    assert_eq!(world.did()[0], "close c1 yield");
}
