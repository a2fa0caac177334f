//! Which endpoint is used, and for how much.

use super::*;

impl World {
    /// Discovery names these, with their weights, and whether they are near.
    fn weights(&mut self, endpoints: &[(u32, bool)]) {
        let member = |(endpoint, (weight, near)): (usize, &(u32, bool))| Member {
            address: EndpointAddress::Tcp(format!("127.0.0.1:{}", 9000 + endpoint).parse().unwrap()),
            weight: *weight,
            near: *near,
            leaving: false,
        };
        self.pool.set_members(&endpoints.iter().enumerate().map(member).collect::<Vec<_>>(), self.now);
        self.obey();
    }

    /// So many exchanges, one behind the other; how many each endpoint was given.
    fn one_by_one(&mut self, count: usize) -> Vec<usize> {
        let mut given = vec![0; self.pool.endpoints.len()];
        for _ in 0..count {
            self.arrive(1);
            while !self.opening.is_empty() {
                self.prove();
            }
            let (number, lease) = self.leases.first_key_value().expect("it is served");
            let (number, endpoint) = (*number, lease.endpoint);
            given[endpoint] += 1;
            self.finish(number);
            self.pass(MS);
        }
        self.did();
        given
    }
}

const STAY: &str = "connections: {yield_after: off, idle_timeout: 30s}";

#[test]
fn what_one_client_sends_is_spread_over_all_once_each_has_a_connection() {
    let mut world = world(3, STAY);
    assert_eq!(world.one_by_one(7), [7, 0, 0], "one connection is enough");
    world.one_by_one(60);
    assert_eq!(world.one_by_one(30), [10, 10, 10]);
}

#[test]
fn weights_are_parts_of_the_whole() {
    let mut world = world(3, STAY);
    world.weights(&[(1, true), (2, true), (3, true)]);
    world.one_by_one(120);
    assert_eq!(world.one_by_one(60), [10, 20, 30]);
}

#[test]
fn an_endpoint_that_was_full_for_long_does_not_get_all_that_it_missed() {
    let mut world = world(2, STAY);
    world.one_by_one(40);
    (0..2).for_each(|waiter| world.arrive(100 + waiter));
    // One of the two goes on; the other is held for a hundred exchanges.
    let (number, endpoint) = world.leases.iter().map(|(number, lease)| (*number, lease.endpoint)).next().unwrap();
    world.finish(number);
    let other = 1 - endpoint;
    let long = *world.leases.keys().next().unwrap();
    let mut lease = BTreeMap::new();
    lease.insert(long, world.leases.remove(&long).unwrap());
    world.one_by_one(100);
    world.leases = lease;
    world.finish(long);
    let given = world.one_by_one(40);
    assert!(given[other] <= 20 + 4 + 1, "{given:?}");
}

#[test]
fn the_own_zone_is_used_while_it_has_room_and_another_when_it_has_none() {
    let mut world = world(2, "connections: {per_endpoint: 1, yield_after: off}");
    world.weights(&[(1, false), (1, true)]);
    world.arrive(1);
    assert_eq!(world.did(), ["open 1"]);
    world.prove();
    world.arrive(2);
    world.prove();
    assert_eq!(world.did(), ["grant 1 c1", "open 0", "grant 2 c2"]);
    world.finish(2);
    world.finish(1);
    world.pass(MS);
    world.arrive(3);
    assert_eq!(world.did(), ["grant 3 c1"]);
    world.arrive(4);
    assert_eq!(world.did(), ["grant 4 c2"]);
}

#[test]
fn an_endpoint_that_comes_later_begins_with_a_tenth_of_its_part() {
    let mut world = world(1, &format!("{STAY}, slow_start: 10s"));
    world.pass(2 * SECOND);
    world.weights(&[(1, true), (1, true)]);
    // A tenth of what the other one gets, for as long as the clock all but stands still.
    let given = world.one_by_one(110);
    assert!((5..=13).contains(&given[1]), "{given:?}");
    world.pass(10 * SECOND);
    world.one_by_one(40);
    assert_eq!(world.one_by_one(40), [20, 20]);
}

#[test]
fn what_an_endpoint_was_given_while_it_started_slowly_is_forgiven_also_where_its_list_ends_that() {
    let mut world = world(1, "connections: {per_endpoint: 1, yield_after: off, idle_timeout: 30s}, slow_start: 10s");
    world.pass(2 * SECOND);
    world.weights(&[(1, true), (1, true)]);
    world.leased(2);
    let of = |world: &World, endpoint| *world.leases.iter().find(|(_, lease)| lease.endpoint == endpoint).unwrap().0;
    let (slow, other) = (of(&world, 1), of(&world, 0));
    // Nobody else has room, and each of these counts as ten.
    for number in 1..=5 {
        world.finish(slow);
        world.arrive(number);
    }
    world.finish(slow);
    world.finish(other);
    // The list comes again in the very moment at which its slow start is over.
    world.now += 10 * SECOND;
    world.weights(&[(1, true), (1, true)]);
    world.did();
    assert_eq!(world.one_by_one(10), [5, 5]);
}

#[test]
fn an_endpoint_that_starts_slowly_and_has_had_its_part_is_used_where_nobody_else_has_room() {
    let mut world = world(1, "connections: {per_endpoint: 1, yield_after: off}, slow_start: 10s");
    world.pass(2 * SECOND);
    world.weights(&[(1, true), (1, true)]);
    world.leased(2);
    let slow = *world.leases.iter().find(|(_, lease)| lease.endpoint == 1).unwrap().0;
    let other = *world.leases.iter().find(|(_, lease)| lease.endpoint == 0).unwrap().0;
    world.finish(slow);
    world.arrive(1);
    assert_eq!(world.did(), [format!("grant 1 c{slow}")], "the other one is full");
    world.finish(slow);
    world.finish(other);
    world.arrive(2);
    assert_eq!(world.did(), [format!("grant 2 c{other}")]);
}
