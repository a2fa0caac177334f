//! Exchanges that must not go again to an endpoint that may have executed them.

use super::*;
use crate::mux::command::Command;

#[test]
fn what_may_have_been_executed_goes_only_to_another_endpoint() {
    let mut world = world(2, "");
    world.leased(2);
    world.finish(1);
    world.elsewhere(1, &[0]);
    assert_eq!(world.did(), ["open 1"], "though one rests at the first");
    world.finish(2);
    assert_eq!(world.did(), ["grant 1 c2"]);
    world.elsewhere(2, &[1]);
    assert_eq!(world.did(), ["grant 2 c1"]);
}

#[test]
fn others_are_served_beside_one_that_waits_for_another_endpoint() {
    let mut world = world(2, "connections: {per_endpoint: 1}");
    world.leased(2);
    world.elsewhere(1, &[0]);
    world.arrive(2);
    world.arrive(3);
    world.finish(1);
    assert_eq!(world.did(), ["grant 2 c1"]);
    world.finish(1);
    assert_eq!(world.did(), ["grant 3 c1"]);
    world.finish(1);
    assert_eq!((world.did().len(), world.idle()), (0, 1));
    world.pass(20 * MS);
    world.finish(2);
    assert_eq!(world.did(), ["grant 1 c2"]);
}

#[test]
fn without_another_endpoint_it_is_refused_at_once() {
    let mut world = world(1, "");
    world.leased(1);
    world.finish(1);
    assert!(!world.pool.has_other(&[0]));
    world.elsewhere(1, &[0]);
    assert_eq!(world.did(), ["refuse 1 no_endpoint"]);
}

#[test]
fn it_is_refused_when_the_last_other_endpoint_goes() {
    let mut world = world(3, "connections: {per_endpoint: 1}");
    world.leased(3);
    world.elsewhere(1, &[0]);
    world.elsewhere(2, &[0, 1]);
    world.arrive(3);
    world.command(Command::Drain("127.0.0.1:9002".into()));
    assert_eq!(world.did(), ["refuse 2 no_endpoint"]);
    world.command(Command::Drain("127.0.0.1:9001".into()));
    assert_eq!(world.did(), ["refuse 1 no_endpoint"]);
    world.finish(1);
    assert_eq!(world.did(), ["grant 3 c1"]);
}

#[test]
fn the_number_of_an_endpoint_that_has_gone_is_avoided_no_more() {
    let mut world = world(2, "connections: {per_endpoint: 1}");
    world.leased(2);
    world.elsewhere(1, &[0]);
    let member = |port: u16| {
        let address = EndpointAddress::Tcp(([127, 0, 0, 1], port).into());
        Member { address, weight: 1, near: true, leaving: false }
    };
    world.pool.set_members(&[member(9001)], world.now);
    world.obey();
    world.discard(1, Closed::Leaving, false);
    world.pool.set_members(&[member(9001), member(9007)], world.now);
    world.obey();
    assert_eq!(world.did(), ["open 0"], "another one, under the same number");
    world.prove();
    assert_eq!(world.did(), ["grant 1 c3"]);
}
