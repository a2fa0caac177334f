//! Who is served, when, and by which connection.

use super::*;

#[test]
fn the_oldest_waiter_gets_whichever_connection_proves_itself_first() {
    let mut world = world(2, "");
    world.arrive(1);
    world.arrive(2);
    assert_eq!(world.did(), ["open 0", "open 1"]);
    world.prove_nth(1);
    world.prove();
    assert_eq!(world.did(), ["grant 1 c1", "grant 2 c2"]);
    assert_eq!((world.leases[&1].endpoint, world.leases[&2].endpoint), (1, 0));
}

#[test]
fn waiters_are_served_in_the_order_of_their_arrival() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.leased(1);
    for waiter in 1..=5 {
        world.arrive(waiter);
        world.pass(MS);
    }
    for waiter in 1..=5 {
        world.finish(1);
        assert_eq!(world.did(), [format!("grant {waiter} c1")]);
    }
}

#[test]
fn an_exchange_that_is_sent_again_goes_before_all_that_never_had_a_connection() {
    let mut world = world(1, "connections: {per_endpoint: 1}, queue: {depth: 2}");
    world.leased(1);
    world.arrive(1);
    world.arrive(2);
    // It was counted before: a full queue has room for it.
    world.again(3);
    world.again(4);
    world.arrive(5);
    assert_eq!(world.did(), ["refuse 5 queue_full"]);
    for waiter in [3, 4, 1, 2] {
        world.finish(1);
        assert_eq!(world.did(), [format!("grant {waiter} c1")]);
    }
}

#[test]
fn an_idle_connection_is_leased_at_once() {
    let mut world = world(1, "");
    world.leased(1);
    world.pass(3 * MS);
    world.finish(1);
    world.pass(7 * MS);
    world.arrive(1);
    assert_eq!(world.did(), ["grant 1 c1"]);
    let lease = &world.leases[&1];
    assert_eq!((lease.idle_for, lease.age, lease.used, lease.kept), (7 * MS, 10 * MS, 1, true));
}

#[test]
fn a_lease_that_was_waited_for_has_not_been_idle() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.leased(1);
    world.arrive(1);
    world.pass(5 * MS);
    world.finish(1);
    assert_eq!((world.leases[&1].idle_for, world.leases[&1].used), (Duration::ZERO, 1));
}

#[test]
fn the_endpoint_with_the_fewest_leased_serves_and_among_equals_the_one_that_has_had_least() {
    let mut world = world(2, "connections: {per_endpoint: 3}");
    world.leased(5); // c1 c3 c5 on endpoint 0, c2 c4 on endpoint 1
    for connection in [1, 4, 2] {
        world.finish(connection);
        world.pass(MS);
    }
    // Endpoint 0 has two leased, endpoint 1 none.
    world.arrive(1);
    world.arrive(2);
    assert_eq!(world.did(), ["grant 1 c2", "grant 2 c4"]);
    world.finish(3);
    world.finish(5);
    world.pass(MS);
    world.finish(2);
    world.finish(4);
    world.pass(MS);
    world.did();
    // None leased on either side: endpoint 0 has had three, endpoint 1 four. On each, the most recently used.
    world.arrive(3);
    assert_eq!(world.did(), ["grant 3 c5", "open 1"], "the eighth: endpoint 1 has fewer, and gets one for nobody");
    world.arrive(4);
    assert_eq!(world.did(), ["grant 4 c4"]);
}

#[test]
fn what_becomes_of_others_does_not_make_a_connection_recently_used() {
    let mut world = world(2, "");
    world.leased(3); // c1 c3 on endpoint 0, c2 on endpoint 1
    world.finish(1);
    world.pass(MS);
    world.finish(2);
    world.pass(MS);
    world.discard(3, Closed::Timeout, false);
    world.arrive(1);
    assert_eq!(world.did(), ["grant 1 c2"]);
}

#[test]
fn a_waiter_that_leaves_is_never_granted() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.leased(1);
    world.arrive(1);
    world.arrive(2);
    world.leave(1);
    world.finish(1);
    assert_eq!(world.did(), ["grant 2 c1"]);
}

#[test]
fn a_lease_that_nobody_took_goes_to_the_next_waiter_or_rests_as_if_never_granted() {
    let mut world = world(1, "connections: {per_endpoint: 1, max_requests: 2}");
    world.leased(1);
    world.finish(1);
    world.arrive(1);
    world.arrive(2);
    world.untouched(1);
    assert_eq!(world.did(), ["grant 1 c1", "grant 2 c1"]);
    world.untouched(1);
    assert_eq!((world.did().len(), world.idle()), (0, 1));
    world.arrive(3);
    assert_eq!((world.did(), world.leases[&1].used), (vec!["grant 3 c1".to_owned()], 1));
    world.finish(1);
    assert_eq!(world.did(), ["close c1 max_requests"]);
}

#[test]
fn one_more_than_the_queue_holds_is_refused() {
    let mut world = world(1, "connections: {per_endpoint: 1}, queue: {depth: 2}");
    world.leased(1);
    (1..=3).for_each(|waiter| world.arrive(waiter));
    assert_eq!(world.did(), ["refuse 3 queue_full"]);
    world.leave(1);
    world.arrive(4);
    assert_eq!(world.waiting.len(), 2);
}

#[test]
fn a_waiter_is_refused_when_its_time_is_over_and_not_before() {
    let mut world = world(1, "connections: {per_endpoint: 1}, queue: {timeout: 2s}");
    world.leased(1);
    world.arrive(1);
    world.pass(500 * MS);
    world.again(2);
    world.pass(500 * MS);
    world.arrive(3);
    world.pass(999 * MS);
    assert_eq!(world.pool.snapshot(world.now).oldest_wait, 1999 * MS);
    assert!(world.did().is_empty());
    world.pass(MS);
    assert_eq!(world.did(), ["refuse 1 queue_timeout"]);
    world.pass(500 * MS);
    assert_eq!(world.did(), ["refuse 2 queue_timeout"]);
    world.pass(500 * MS);
    assert_eq!(world.did(), ["refuse 3 queue_timeout"]);
    assert_eq!(world.pool.snapshot(world.now).oldest_wait, Duration::ZERO);
}

#[test]
fn what_waits_runs_or_settles_is_busy() {
    let mut world = world(1, "connections: {per_endpoint: 2}");
    assert_eq!(world.pool.busy(), 0);
    world.leased(2);
    world.arrive(1);
    world.settle(1);
    assert_eq!(world.pool.busy(), 3);
    world.checkin(1);
    world.finish(1);
    world.finish(2);
    assert_eq!((world.pool.busy(), world.idle()), (0, 2));
}

#[test]
fn a_drain_closes_what_rests_now_and_the_others_behind_their_exchange_but_serves_on() {
    let mut world = world(1, "connections: {per_endpoint: 2}");
    world.leased(2);
    world.finish(1);
    world.drain();
    assert_eq!(world.did(), ["close c1 drain"]);
    world.arrive(1);
    world.arrive(2);
    assert_eq!(world.did(), ["open 0"]);
    world.finish(2);
    world.prove();
    assert_eq!(world.did(), ["grant 1 c2", "grant 2 c3"]);
    world.finish(2);
    world.discard(3, Closed::Body, false);
    assert_eq!(world.did(), ["close c2 drain"], "and none in place of the last");
    world.arrive(3);
    world.leave(3);
    world.prove();
    assert_eq!(world.did(), ["open 0", "close c4 drain"], "nobody waits for it any more");
}
