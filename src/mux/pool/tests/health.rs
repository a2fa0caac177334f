//! Endpoints that do not answer, and those that do not keep connections.

use super::*;
use OpenFailure::{ClosedBehindAnswer, Connect, Unanswered};

impl World {
    fn up(&self, endpoint: usize) -> bool {
        self.pool.snapshot(self.now).endpoints[endpoint].state != EndpointState::Ejected
    }

    /// Lets each attempt to connect fail until the endpoint is down.
    fn bring_down(&mut self) {
        self.arrive(99);
        while self.up(0) {
            self.fail(Connect);
            self.pass(200 * MS);
        }
        self.did();
    }
}

#[test]
fn an_endpoint_is_down_after_three_failures_in_a_row_and_its_waiters_are_told() {
    let mut world = world(1, "");
    world.arrive(1);
    world.fail(Connect);
    assert_eq!(world.did(), ["open 0"]);
    world.arrive(2);
    world.pass(49 * MS);
    assert!(world.did().is_empty() && world.up(0), "it pauses, and waiters wait");
    world.pass(MS);
    assert_eq!(world.did(), ["open 0", "open 0"]);
    world.fail(OpenFailure::Handshake);
    assert!(world.up(0));
    world.fail(Connect);
    assert_eq!(world.did(), ["refuse 1 no_endpoint", "refuse 2 no_endpoint"]);
    assert!(!world.up(0));
    world.arrive(3);
    assert_eq!(world.did(), ["refuse 3 no_endpoint"], "at once, without a wait");
    assert_eq!(world.pool.snapshot(world.now).endpoints[0].ejections, 1);
}

#[test]
fn an_endpoint_is_down_when_it_has_failed_for_a_second() {
    let mut world = world(1, "");
    world.arrive(1);
    world.fail(Connect);
    world.pass(SECOND); // as long as a connect that is not answered takes
    world.fail(Connect);
    assert!(!world.up(0));
}

#[test]
fn an_endpoint_that_is_down_is_tried_in_the_background_with_growing_pauses() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.bring_down();
    let mut pauses = vec![];
    if world.opening.is_empty() {
        world.pass(10 * SECOND);
    }
    for _ in 0..6 {
        assert_eq!(world.opening.len(), 1);
        world.fail(Connect);
        let failed = world.now;
        while world.opening.is_empty() {
            world.pass(10 * MS);
        }
        pauses.push((world.now - failed).as_millis());
    }
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert_eq!(pauses[5], 500, "it is the only one, so all are ejected, and likelier to come back: {pauses:?}");
    world.prove();
    assert!(world.up(0));
    world.arrive(1);
    assert_eq!(world.did().last().unwrap(), "grant 1 c1");
    assert_eq!(world.pool.snapshot(world.now).endpoints[0].ejections, 1);
}

#[test]
fn an_endpoint_that_is_down_is_up_with_its_first_sign_of_life() {
    for sign in [Unanswered, ClosedBehindAnswer] {
        let mut world = world(1, "");
        world.bring_down();
        world.pass(10 * SECOND);
        world.fail(sign);
        assert!(world.up(0), "{sign:?}: it took the connection");
        world.did();
        world.arrive(1);
        assert_eq!(world.did(), ["open 0"]);
    }
}

#[test]
fn it_is_tried_while_draining_too_for_requests_still_come() {
    let mut world = world(1, "");
    world.bring_down();
    world.drain();
    world.pass(10 * SECOND);
    world.prove();
    assert!(world.up(0));
    world.did();
    world.arrive(1);
    assert_eq!(world.did(), ["open 0"]);
}

#[test]
fn an_endpoint_whose_connections_still_work_is_not_down() {
    let mut world = world(1, "connections: {per_endpoint: 2, yield_after: off}, queue: {timeout: 1m}");
    world.leased(1);
    world.arrive(1);
    for _ in 0..10 {
        world.fail(Connect);
        world.pass(2 * SECOND);
    }
    assert!(world.up(0) && world.did().iter().all(|did| !did.contains("no_endpoint")));
    world.finish(1);
    world.discard(1, Closed::Application, false);
    world.arrive(2);
    // It had answered in between, so the count began anew.
    world.fail(Connect);
    assert!(world.up(0));
}

#[test]
fn one_that_is_busy_is_not_broken() {
    let mut world = world(1, "connections: {per_endpoint: 1}, queue: {timeout: 1m}");
    world.arrive(1);
    for _ in 0..10 {
        world.pass(5 * SECOND);
        world.fail(Unanswered);
    }
    assert!(world.up(0) && world.waiting.len() == 1);
}

#[test]
fn waiters_are_served_by_another_endpoint_when_one_is_down() {
    let mut world = world(2, "");
    world.arrive(1);
    world.arrive(2);
    world.did();
    let alive = world.opening.remove(1).unwrap();
    while world.up(0) {
        world.fail(Connect);
        world.pass(100 * MS);
        world.opening.retain(|(_, endpoint, _)| *endpoint == 0);
    }
    assert_eq!(world.waiting.len(), 2, "nobody is refused");
    world.opening.push_front(alive);
    world.prove();
    assert!(world.did().contains(&"grant 1 c1".to_owned()));
    world.arrive(3);
    assert_eq!(world.waiting.len(), 2);
}

// ---------------------------------------------------------------- PHP before 8.2.13

fn handshakes(world: &World) -> Vec<Handshake> {
    world.opening.iter().map(|(_, _, handshake)| *handshake).collect()
}

#[test]
fn a_new_endpoint_is_asked_whether_it_keeps_connections_and_then_not_again() {
    let mut world = world(1, "");
    world.arrive(1);
    assert_eq!(handshakes(&world), [Handshake::Learn]);
    world.prove();
    world.arrive(2);
    assert_eq!(handshakes(&world), [Handshake::Prove]);
}

#[test]
fn an_endpoint_that_closes_behind_two_handshakes_is_served_with_a_connection_each() {
    let mut world = world(1, "");
    world.arrive(1);
    assert!(!world.fail(ClosedBehindAnswer), "one may be a worker that stops");
    assert_eq!(handshakes(&world), [Handshake::Learn]);
    assert!(world.fail(ClosedBehindAnswer), "two in a row are news");
    assert_eq!(handshakes(&world), [Handshake::Skip]);
    world.did();
    world.prove();
    assert_eq!((world.did(), world.leases[&1].kept), (vec!["grant 1 c1".to_owned()], false));
    world.discard(1, Closed::NotKept, false);
    assert!(world.did().is_empty(), "none is opened ahead");
    world.arrive(2);
    world.leave(2);
    world.prove();
    assert_eq!(world.did(), ["open 0", "close c2 not_kept"], "one that nobody needs is not kept either");
    world.arrive(3);
    world.prove();
    world.untouched(3);
    assert_eq!(world.did(), ["open 0", "grant 3 c3", "close c3 not_kept"]);
}

#[test]
fn one_close_behind_a_handshake_between_answers_means_nothing() {
    let mut world = world(1, "");
    world.arrive(1);
    world.fail(ClosedBehindAnswer);
    world.prove();
    assert!(world.leases[&1].kept);
    world.arrive(2);
    assert_eq!(handshakes(&world), [Handshake::Prove]);
}

#[test]
fn an_endpoint_that_did_not_keep_connections_is_asked_again_after_a_minute() {
    let mut world = world(1, "");
    world.arrive(1);
    world.fail(ClosedBehindAnswer);
    world.fail(ClosedBehindAnswer);
    world.prove();
    world.discard(1, Closed::NotKept, false);
    world.pass(59 * SECOND);
    world.arrive(2);
    assert_eq!(handshakes(&world), [Handshake::Skip]);
    world.prove();
    world.discard(2, Closed::NotKept, false);
    world.pass(SECOND);
    world.arrive(3);
    assert_eq!(handshakes(&world), [Handshake::Learn]);
    assert!(!world.fail(ClosedBehindAnswer), "it is no news");
    assert_eq!(handshakes(&world), [Handshake::Skip]);
    world.prove();
    world.discard(3, Closed::NotKept, false);
    world.pass(60 * SECOND);
    world.arrive(4);
    world.prove();
    assert!(world.leases[&4].kept, "PHP was upgraded");
}

#[test]
fn a_connection_closed_right_behind_its_handshake_makes_the_next_one_learn() {
    let mut world = world(1, "");
    world.leased(1);
    world.finish(1);
    world.pass(2 * SECOND);
    world.arrive(1);
    world.arrive(2);
    world.leave(2);
    world.prove(); // c2 rests, never used
    world.pass(5 * MS);
    world.lost(2);
    world.arrive(3);
    assert_eq!(handshakes(&world), [Handshake::Learn], "another PHP may have come in its place");
}
