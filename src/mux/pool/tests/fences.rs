//! Fences that go with the next request, and what becomes of those that none takes along.

use super::*;

impl World {
    /// Fences that are answered at once, until one may be put off. How many.
    fn trust(&mut self, connection: u32) -> u32 {
        for count in 0..1000 {
            if self.may_defer(connection) {
                self.did();
                return count;
            }
            self.finish(connection);
            self.arrive(1);
        }
        panic!("never trusted");
    }

    fn may_defer(&mut self, connection: u32) -> bool {
        let (lease, same) = self.leases.remove(&connection).unwrap().split();
        let may = self.pool.may_defer(&lease, self.now);
        self.leases.insert(same, lease.join(same));
        may
    }

    fn defer(&mut self, connection: u32) {
        let (lease, same) = self.leases.remove(&connection).unwrap().split();
        assert!(self.pool.may_defer(&lease, self.now));
        self.pool.defer(lease, same, self.now);
        self.obey();
    }
}

#[test]
fn a_fence_may_go_with_the_next_request_once_many_have_been_answered_at_once() {
    let mut world = world(2, "connections: {per_endpoint: 1}");
    world.leased(2);
    assert_eq!(world.trust(1), 100);
    assert!(!world.may_defer(2), "another endpoint has to show it itself");
    let mut careful = super::world(1, "connections: {fence: always}");
    careful.leased(1);
    (0..200).for_each(|_| {
        assert!(!careful.may_defer(1));
        careful.finish(1);
        careful.arrive(1);
    });
}

#[test]
fn one_late_fence_ends_the_trust_for_ten_minutes() {
    let mut world = world(1, "connections: {per_endpoint: 1, yield_after: off}");
    world.leased(1);
    world.trust(1);
    world.settle(1);
    world.pass(11 * MS);
    world.checkin(1);
    world.arrive(1);
    (0..300).for_each(|_| {
        assert!(!world.may_defer(1));
        world.finish(1);
        world.arrive(1);
    });
    world.pass(601 * SECOND);
    world.trust(1);
    world.pool.fence_late(0, world.now); // one that went with a request
    assert!(!world.may_defer(1));
}

#[test]
fn a_connection_that_owes_its_fence_goes_to_the_oldest_waiter_or_rests_ready_for_the_next() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.leased(1);
    world.trust(1);
    world.arrive(2);
    world.defer(1);
    assert_eq!(world.did(), ["grant 2 c1"]);
    world.defer(1);
    world.pass(4 * MS);
    world.arrive(3);
    assert_eq!(world.did(), ["grant 3 c1"]);
    world.pass(SECOND);
    assert!(world.did().is_empty(), "whoever was leased it sends the fence");
}

#[test]
fn a_fence_that_no_request_takes_along_is_sent_soon() {
    let mut world = world(1, "connections: {per_endpoint: 2}");
    world.leased(2);
    world.trust(2);
    world.defer(1);
    world.pass(2 * MS);
    world.defer(2);
    world.pass(3 * MS);
    assert_eq!(world.did(), ["probe c1"]);
    world.pass(2 * MS);
    assert_eq!(world.did(), ["probe c2"]);
    world.checkin(1);
    world.checkin(2);
    world.pass(30 * MS);
    assert!(world.did().is_empty(), "and only once");
}

#[test]
fn what_comes_on_a_connection_that_owes_its_fence_is_not_its_end() {
    let mut world = world(1, "");
    world.leased(1);
    world.trust(1);
    world.defer(1);
    let key = world.pool.idle_mut().next().unwrap().0;
    // A script may write behind its response; to close the connection would end it.
    assert!(world.pool.lost(key, world.now).is_none());
    world.obey();
    assert_eq!(world.did(), ["probe c1"]);
    world.unsettled(1);
    assert_eq!(world.count(0, ConnectionState::Idle), 0);
}

#[test]
fn a_connection_that_owes_its_fence_is_fenced_before_it_is_closed() {
    let mut world = world(1, "connections: {surplus_idle: 0s}");
    world.leased(2);
    world.trust(2);
    world.defer(1);
    world.defer(2);
    world.pass(MS);
    assert!(world.did().is_empty(), "not even as a surplus");
    world.drain();
    assert_eq!(world.did(), ["probe c1", "probe c2"]);
    world.checkin(1);
    world.checkin(2);
    assert_eq!(world.did(), ["close c1 drain", "close c2 drain"]);
}

#[test]
fn a_lease_that_nobody_took_still_owes_its_fence() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.leased(1);
    world.trust(1);
    world.arrive(2);
    world.defer(1);
    world.untouched(1);
    world.did();
    world.pass(5 * MS);
    assert_eq!(world.did(), ["probe c1"]);
    world.checkin(1);
    world.arrive(3);
    world.settle(1);
    world.checkin(1);
    world.pass(5 * MS);
    assert_eq!(world.did(), ["grant 3 c1"], "and not once it has been answered");
}

#[test]
fn a_connection_that_is_to_end_is_fenced_at_once() {
    let mut world = world(1, "connections: {max_requests: 200}");
    world.leased(1);
    world.trust(1);
    for _ in 0..98 {
        world.defer(1);
        world.arrive(1);
    }
    assert!(world.may_defer(1));
    world.defer(1);
    world.arrive(1);
    assert!(!world.may_defer(1));
    world.did();
    world.finish(1);
    assert_eq!(world.did(), ["close c1 max_requests"]);
}
