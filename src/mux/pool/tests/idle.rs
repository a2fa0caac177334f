//! Connections that rest, and when they end.

use super::*;

#[test]
fn one_idle_connection_of_an_endpoint_may_stay_for_long_and_the_others_go_soon() {
    let mut world = world(2, "connections: {per_endpoint: 3, surplus_idle: 1s, idle_timeout: 30s}");
    world.leased(5); // c1 c3 c5 on endpoint 0, c2 c4 on endpoint 1
    for connection in 1..=5 {
        world.finish(connection);
        world.pass(100 * MS);
    }
    world.pass(499 * MS);
    assert!(world.did().is_empty());
    world.pass(MS);
    assert_eq!(world.did(), ["close c1 idle"]);
    world.pass(SECOND);
    // The most recently used one stays.
    assert_eq!(world.did(), ["close c2 idle", "close c3 idle"]);
    world.pass(28 * SECOND + 299 * MS);
    assert!(world.did().is_empty());
    world.pass(100 * MS + MS);
    assert_eq!(world.did(), ["close c4 idle", "close c5 idle"]);
    assert_eq!(world.pool.next_deadline(), None);
}

#[test]
fn use_begins_the_time_anew() {
    let mut world = world(1, "connections: {idle_timeout: 2s}");
    world.leased(1);
    world.finish(1);
    for _ in 0..5 {
        world.pass(1900 * MS);
        world.arrive(1);
        world.finish(1);
        assert_eq!(world.did(), ["grant 1 c1"]);
    }
    world.pass(2 * SECOND);
    assert_eq!(world.did(), ["close c1 idle"]);
}

#[test]
fn without_a_surplus_time_only_one_rests_at_all() {
    let mut world = world(1, "connections: {surplus_idle: 0s}");
    world.leased(3);
    (1..=3).for_each(|connection| world.finish(connection));
    world.pass(Duration::ZERO);
    assert_eq!(world.did(), ["close c1 idle", "close c2 idle"]);
}

#[test]
fn an_old_connection_ends_with_its_exchange() {
    let mut world = world(1, "connections: {max_age: 10s, yield_after: off, idle_timeout: 1m}");
    world.leased(1);
    world.pass(10 * SECOND - MS);
    world.finish(1);
    world.arrive(1);
    world.pass(MS);
    assert_eq!(world.did(), ["grant 1 c1"]);
    world.arrive(2);
    world.did();
    world.finish(1);
    assert_eq!(world.did(), ["close c1 max_age"]);
}

#[test]
fn a_connection_ends_after_its_last_allowed_exchange() {
    let mut world = world(1, "connections: {max_requests: 3}");
    world.leased(1);
    for _ in 0..2 {
        world.finish(1);
        world.arrive(1);
        assert_eq!(world.did(), ["grant 1 c1"]);
    }
    world.finish(1);
    assert_eq!(world.did(), ["close c1 max_requests"]);
}

#[test]
fn an_idle_connection_that_the_application_closed_is_forgotten_and_its_neighbours_are_asked() {
    let mut world = world(2, "");
    world.leased(6);
    (1..=6).for_each(|connection| world.finish(connection));
    world.pass(50 * MS);
    world.did();
    world.lost(3); // of endpoint 0, as are c1 and c5
    assert_eq!(world.did(), ["probe c1", "probe c5"]);
    assert_eq!((world.count(0, ConnectionState::Settling), world.count(1, ConnectionState::Idle)), (2, 3));
    world.checkin(1);
    assert_eq!((world.did().len(), world.count(0, ConnectionState::Idle)), (0, 1));
    // The next that is gone: the one that answered is asked once more.
    world.unsettled(5);
    assert_eq!(world.did(), ["probe c1"]);
    world.arrive(1);
    assert_eq!(world.did(), ["grant 1 c6"], "the other endpoint has nothing to do with it");
}

#[test]
fn a_connection_that_broke_in_use_has_its_neighbours_asked_and_one_whose_web_server_left_has_not() {
    for (reason, asked) in [(Closed::Broken, true), (Closed::Application, true), (Closed::Gone, false)] {
        let mut world = world(1, "");
        world.leased(2);
        world.finish(1);
        world.discard(2, reason, false);
        assert_eq!(world.did().contains(&"probe c1".to_owned()), asked, "{reason:?}");
    }
}

#[test]
fn a_key_of_a_connection_that_does_not_rest_is_no_loss() {
    let mut world = world(1, "");
    world.leased(1);
    world.finish(1);
    let key = world.pool.idle_mut().next().unwrap().0;
    world.arrive(1);
    assert!(world.pool.lost(key, world.now).is_none(), "it has been leased meanwhile");
    world.discard(1, Closed::Broken, false);
    world.leased(1);
    world.finish(2);
    assert!(world.pool.lost(key, world.now).is_none(), "its place has been taken by another");
    assert_eq!(world.idle(), 1);
}

#[test]
#[should_panic(expected = "a key outlived its connection")]
fn a_key_of_a_connection_that_is_gone_is_loud() {
    let mut world = world(1, "");
    world.arrive(1);
    let (key, ..) = world.opening[0];
    world.fail(OpenFailure::Connect);
    world.pool.connected(key, world.now);
}

#[test]
fn a_snapshot_counts_what_there_is() {
    let mut world = world(2, "connections: {per_endpoint: 3}, queue: {depth: 7}");
    world.leased(5);
    world.finish(1);
    world.settle(2);
    world.discard(4, Closed::Gone, true);
    world.arrive(1);
    (2..=4).for_each(|waiter| world.arrive(waiter));
    world.pass(5 * MS);
    let snapshot = world.pool.snapshot(world.now);
    // By state: connecting, proving, idle, leased, settling.
    assert_eq!(snapshot.endpoints[0].connections, [0, 0, 0, 3, 0]);
    assert_eq!(snapshot.endpoints[1].connections, [2, 0, 0, 0, 1]);
    assert_eq!((snapshot.queue_depth, snapshot.queue_limit, snapshot.oldest_wait), (3, 7, 5 * MS));
    assert_eq!(snapshot.endpoints[1].name, "127.0.0.1:9001");
    assert!(
        snapshot
            .endpoints
            .iter()
            .all(|endpoint| endpoint.state == EndpointState::Up && endpoint.limit == 3 && endpoint.ejections == 0)
    );
}
