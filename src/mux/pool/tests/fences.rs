//! Fences that go in front of a request, and where they do not.

use super::*;

impl World {
    /// Fences that are answered at once, until one may go in front of a request. How many.
    fn trust(&mut self, connection: u32) -> u32 {
        for count in 0..1000 {
            self.arrive_repeatable(9000);
            let may = self.may_defer(connection);
            if may {
                self.leave(9000);
                self.did();
                return count;
            }
            self.finish(connection);
        }
        panic!("never trusted");
    }

    fn may_defer(&mut self, connection: u32) -> bool {
        let (lease, same) = self.leases.remove(&connection).unwrap().split();
        let may = self.pool.may_defer(&lease, self.now);
        self.leases.insert(same, lease.join(same));
        may
    }

    /// The exchange has ended, and the one that waits takes the fence along.
    fn defer(&mut self, connection: u32) {
        let (lease, same) = self.leases.remove(&connection).unwrap().split();
        assert!(self.pool.may_defer(&lease, self.now));
        self.pool.defer(lease, same, self.now);
        self.obey();
    }
}

#[test]
fn a_fence_may_go_in_front_of_a_request_once_many_have_been_answered_at_once() {
    let mut world = world(2, "connections: {per_endpoint: 1}");
    world.leased(2);
    assert_eq!(world.trust(1), 100);
    world.arrive_repeatable(1);
    assert!(world.may_defer(1));
    assert!(!world.may_defer(2), "another endpoint has to show it itself");
    let mut careful = super::world(1, "connections: {fence: always, per_endpoint: 1}");
    careful.leased(1);
    (0..200).for_each(|_| {
        careful.arrive_repeatable(1);
        assert!(!careful.may_defer(1));
        careful.finish(1);
    });
}

#[test]
fn where_nobody_waits_a_worker_proves_itself_first() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.leased(1);
    world.trust(1);
    assert!(!world.may_defer(1));
    world.arrive_repeatable(1);
    world.defer(1);
    assert_eq!(world.did(), ["grant 1 c1 unproven"]);
    assert!(!world.may_defer(1));
}

#[test]
fn a_request_that_may_not_be_repeated_waits_for_the_proof() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.leased(1);
    world.trust(1);
    world.arrive(1);
    world.arrive_repeatable(2);
    assert!(!world.may_defer(1), "not even for one behind it");
    world.settle(1);
    world.did();
    world.checkin(1);
    assert_eq!(world.did(), ["grant 1 c1"]);
    world.defer(1);
    assert_eq!(world.did(), ["grant 2 c1 unproven"]);
}

#[test]
fn nobody_is_sent_behind_a_fence_beside_a_worker_that_is_free() {
    let mut world = world(2, "connections: {per_endpoint: 2}");
    world.leased(4); // c1 c3 on endpoint 0, c2 c4 on endpoint 1
    world.trust(1);
    let member = |port: u16, near| {
        let address = EndpointAddress::Tcp(([127, 0, 0, 1], port).into());
        Member { address, weight: 1, near, leaving: false }
    };
    world.pool.set_members(&[member(9000, true), member(9001, false)], world.now);
    world.discard(3, Closed::Gone, false);
    world.finish(2);
    world.did();
    // One that waits for a better connection, beside one that rests.
    world.arrive_repeatable(1);
    assert_eq!(world.did(), ["open 0"]);
    assert!(!world.may_defer(1));
    world.finish(1);
    assert_eq!(world.did(), ["grant 1 c1"]);
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
        world.arrive_repeatable(1);
        assert!(!world.may_defer(1));
        world.finish(1);
    });
    world.pass(601 * SECOND);
    world.trust(1);
    world.arrive_repeatable(1);
    assert!(world.may_defer(1));
    world.pool.fence_late(0, world.now); // one that went with a request
    assert!(!world.may_defer(1));
}

#[test]
fn a_lease_that_nobody_took_still_owes_its_fence() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.leased(1);
    world.trust(1);
    world.arrive_repeatable(2);
    world.arrive_repeatable(3);
    world.defer(1);
    world.untouched(1);
    assert_eq!(world.did(), ["grant 2 c1 unproven", "probe c1"]);
    world.checkin(1);
    assert_eq!(world.did(), ["grant 3 c1"], "and not once it has been answered");
}

#[test]
fn a_waiter_that_has_left_meanwhile_leaves_the_fence_to_itself() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.leased(1);
    world.trust(1);
    world.arrive_repeatable(2);
    let (lease, same) = world.leases.remove(&1).unwrap().split();
    assert!(world.pool.may_defer(&lease, world.now));
    world.leave(2);
    world.pool.defer(lease, same, world.now);
    world.obey();
    assert_eq!(world.did(), ["probe c1"]);
    world.checkin(1);
    assert_eq!(world.idle(), 1);
}

#[test]
fn a_connection_that_is_to_end_is_fenced_first() {
    let mut world = world(1, "connections: {max_requests: 102, per_endpoint: 1}");
    world.leased(1);
    assert_eq!(world.trust(1), 100);
    world.arrive_repeatable(1);
    world.defer(1);
    world.arrive_repeatable(2);
    world.did();
    assert!(!world.may_defer(1));
    world.settle(1);
    world.checkin(1);
    assert_eq!(world.did()[0], "close c1 max_requests");
}

#[test]
fn the_place_of_a_worker_that_was_found_busy_stays_taken() {
    let mut world = world(1, "connections: {per_endpoint: 2}");
    world.leased(2);
    world.trust(1);
    world.arrive_repeatable(1);
    world.defer(1);
    world.pool.fence_late(0, world.now);
    world.discard(1, Closed::Busy, true);
    assert_eq!(world.count(0, ConnectionState::Settling), 1);
    world.did();
    world.again(1);
    assert_eq!(world.did(), ["open 0"], "in its place, where a handshake finds out");
    world.finish(2);
    assert_eq!(world.did(), ["grant 1 c2"]);
}
