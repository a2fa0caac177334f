//! Endpoints that come and go, fill up, and are held out by an operator.

use super::*;
use crate::mux::command::{Command, CommandError};

fn address(endpoint: usize) -> String {
    format!("127.0.0.1:{}", 9000 + endpoint)
}

impl World {
    /// Discovery names these; `leaving` among them as leaving.
    fn members(&mut self, named: &[usize], leaving: &[usize]) {
        let member = |endpoint: &usize| Member {
            address: EndpointAddress::Tcp(address(*endpoint).parse().unwrap()),
            weight: 1,
            near: true,
            leaving: leaving.contains(endpoint),
        };
        let members: Vec<_> = named.iter().map(member).collect();
        self.pool.set_members(&members, self.now);
        self.obey();
    }

    pub(super) fn command(&mut self, command: Command) {
        self.pool.command(&command, self.now).unwrap();
        self.obey();
    }

    fn workers(&mut self, endpoint: usize, full: bool, limit: Option<u32>) {
        self.pool.workers(endpoint, Some(Workers { full, wanted: 100, limit }), self.now);
        self.obey();
    }

    /// The names of those that there are.
    fn there(&self) -> Vec<String> {
        let mut names: Vec<_> = self.pool.snapshot(self.now).endpoints.into_iter().map(|each| each.name).collect();
        names.sort();
        names
    }

    fn state(&self, endpoint: usize) -> EndpointState {
        let shown = self.pool.snapshot(self.now).endpoints.into_iter().find(|each| each.name == address(endpoint));
        shown.expect("it is there").state
    }
}

// ---------------------------------------------------------------- coming and going

#[test]
fn an_endpoint_that_is_named_no_more_closes_what_is_idle_and_lets_the_rest_end() {
    let mut world = world(2, "");
    world.leased(3); // c1 c3 on endpoint 0, c2 on endpoint 1
    world.finish(1);
    world.members(&[1], &[]);
    assert_eq!((world.did(), world.there().len()), (vec!["close c1 leaving".to_owned()], 2));
    assert_eq!(world.state(0), EndpointState::Draining);
    world.finish(3);
    assert_eq!((world.did(), world.there()), (vec!["close c3 leaving".to_owned()], vec![address(1)]));
    world.arrive(1);
    assert_eq!(world.did(), ["open 1"], "it is forgotten, and nobody goes there");
}

#[test]
fn an_endpoint_without_a_connection_is_forgotten_at_once_and_its_index_given_out_again() {
    let mut world = world(2, "");
    world.members(&[1], &[]);
    assert_eq!(world.there(), [address(1)]);
    world.members(&[1, 7], &[]);
    assert_eq!(world.there(), [address(1), address(7)]);
    (1..=2).for_each(|waiter| world.arrive(waiter));
    let mut opened = world.did();
    opened.sort();
    assert_eq!(opened, ["open 0", "open 1"]);
}

#[test]
fn nobody_is_sent_from_one_that_leaves_to_another_that_leaves_with_it() {
    let mut world = world(3, "connections: {per_endpoint: 1}");
    world.leased(2);
    world.finish(1);
    world.finish(2);
    world.command(Command::Pause);
    world.did();
    world.arrive(1);
    world.command(Command::Resume);
    world.did();
    world.members(&[2], &[]);
    assert!(world.did().iter().all(|did| did != "open 0" && did != "open 1"));
}

#[test]
fn one_that_comes_back_at_its_address_while_an_exchange_runs_there_is_the_same_endpoint() {
    let mut world = world(1, "");
    world.leased(1);
    world.members(&[], &[]);
    assert_eq!(world.state(0), EndpointState::Draining);
    world.members(&[0], &[]);
    assert_eq!(world.state(0), EndpointState::Up);
    world.finish(1);
    assert!(world.did().is_empty(), "what ran there was never touched");
    world.arrive(1);
    assert_eq!(world.did(), ["grant 1 c1"]);
}

#[test]
fn one_that_is_named_as_leaving_gets_nothing_new_and_stays_known() {
    let mut world = world(2, "");
    world.leased(2);
    world.members(&[0, 1], &[0]);
    world.finish(1);
    assert_eq!((world.did(), world.there().len()), (vec!["close c1 leaving".to_owned()], 2));
    (1..=3).for_each(|waiter| world.arrive(waiter));
    assert_eq!(world.did(), ["open 1", "open 1", "open 1"]);
}

#[test]
fn requests_wait_while_no_endpoint_is_known_and_go_to_the_first_that_is_found() {
    let mut world = world(1, "");
    world.members(&[], &[]);
    assert!(world.pool.is_empty());
    world.arrive(1);
    assert!(world.did().is_empty());
    world.members(&[3], &[]);
    assert_eq!((world.did(), world.pool.is_empty()), (vec!["open 0".to_owned()], false));
}

#[test]
fn a_lease_that_was_not_used_goes_to_nobody_else_where_its_endpoint_leaves() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.leased(1);
    world.arrive(1);
    world.command(Command::Drain(address(0)));
    world.untouched(1);
    assert_eq!(world.did(), ["close c1 leaving"]);
    world.command(Command::Undrain(address(0)));
    assert_eq!(world.did(), ["open 0"]);
}

// ---------------------------------------------------------------- operators

#[test]
fn a_paused_pool_sends_nothing_and_lets_what_runs_end() {
    let mut world = world(1, "connections: {per_endpoint: 2}, queue: {timeout: 1m}");
    world.leased(2);
    world.finish(1);
    world.command(Command::Pause);
    assert_eq!(world.did(), ["close c1 reconnect"]);
    world.arrive(1);
    world.finish(2);
    world.pass(10 * SECOND);
    assert_eq!(world.did(), ["close c2 reconnect"], "and the clock does not spin");
    world.command(Command::Resume);
    assert_eq!(world.did(), ["open 0"]);
}

#[test]
fn a_pause_keeps_its_waiters_when_a_connection_of_old_php_opens() {
    let mut world = world(1, "connections: {per_endpoint: 1}");
    world.arrive(1);
    world.fail(OpenFailure::ClosedBehindAnswer);
    world.fail(OpenFailure::ClosedBehindAnswer);
    world.command(Command::Pause);
    world.did();
    world.prove();
    assert_eq!((world.did(), world.waiting.len()), (vec!["close c1 not_kept".to_owned()], 1));
    world.command(Command::Resume);
    assert_eq!(world.did(), ["open 0"]);
}

#[test]
fn a_reconnect_closes_what_is_idle_and_what_runs_behind_its_exchange_and_new_ones_stay() {
    let mut world = world(1, "");
    world.leased(2);
    world.finish(1);
    world.command(Command::Reconnect);
    assert_eq!(world.did(), ["close c1 reconnect"]);
    world.pass(MS);
    world.finish(2);
    assert_eq!(world.did(), ["close c2 reconnect"]);
    world.arrive(1);
    world.prove();
    world.finish(3);
    world.arrive(2);
    assert_eq!(world.did(), ["open 0", "grant 1 c3", "grant 2 c3"]);
}

#[test]
fn an_endpoint_that_nobody_knows_cannot_be_drained() {
    let mut world = world(1, "");
    let drained = world.pool.command(&Command::Drain(address(5)), world.now);
    assert_eq!(drained, Err(CommandError::NoEndpoint(address(5))));
}

#[test]
fn one_whose_pause_ended_while_it_was_held_or_the_pool_paused_is_tried_when_it_may_be() {
    let verbs = [(Command::Pause, Command::Resume), (Command::Drain(address(0)), Command::Undrain(address(0)))];
    for (stop, go) in verbs {
        let mut world = world(1, "");
        world.arrive(1);
        while world.state(0) != EndpointState::Ejected {
            world.fail(OpenFailure::Connect);
            world.pass(100 * MS);
        }
        world.opening.clear();
        world.did();
        world.command(stop);
        world.pass(10 * SECOND);
        assert!(world.did().is_empty());
        world.command(go);
        world.pass(3 * SECOND);
        assert!(world.did().contains(&"open 0".to_owned()), "or it would never be known to be well");
    }
}

// ---------------------------------------------------------------- limits and pressure

#[test]
fn a_lowered_limit_closes_what_is_idle_at_once_and_what_runs_behind_its_exchange() {
    let mut world = world(1, "connections: {per_endpoint: 4}");
    world.leased(4);
    world.finish(1);
    world.pool.workers(0, Some(Workers { full: false, wanted: 0, limit: Some(2) }), world.now);
    // Looked at by hand: for now there are more than there may be.
    let mut closed = vec![];
    while let Some(directive) = world.pool.poll_directive() {
        let Directive::Close { connection, reason, .. } = directive else { panic!("{directive:?}") };
        closed.push((connection, reason));
    }
    assert_eq!(closed, [(1, Closed::Pressure)]);
    let (settling, connection) = world.pool.settle(world.leases.remove(&2).unwrap(), world.now);
    world.pool.checkin(settling, connection, clean(), world.now);
    world.obey();
    assert_eq!(world.did(), ["close c2 pressure"]);
    world.finish(3);
    assert_eq!((world.did().len(), world.idle()), (0, 1), "the limit is reached");
}

#[test]
fn where_others_wait_for_a_worker_nothing_rests() {
    let mut world = world(2, "");
    world.leased(2);
    world.finish(1);
    world.workers(0, true, None);
    assert_eq!(world.did(), ["close c1 pressure"]);
    world.finish(2);
    world.arrive(1);
    assert_eq!(world.did(), ["grant 1 c2"]);
    world.arrive(2);
    assert_eq!(world.did(), ["open 1"], "and another is opened where none waits");
}

#[test]
fn a_pool_that_has_all_the_workers_itself_gives_none_back() {
    let mut world = world(2, "");
    world.leased(2);
    world.finish(1);
    let held = Workers { full: true, wanted: 1, limit: None };
    world.pool.workers(0, Some(held), world.now);
    world.obey();
    assert!(world.did().is_empty());
    world.pool.workers(0, Some(Workers { wanted: 2, ..held }), world.now);
    world.obey();
    assert_eq!(world.did(), ["close c1 pressure"], "somebody waits");
}

#[test]
fn a_pause_after_handshakes_that_no_worker_answered_ends_when_one_is_free() {
    let mut world = world(1, "connections: {per_endpoint: 2}, queue: {timeout: 1m}");
    world.leased(1);
    world.arrive(1);
    for _ in 0..4 {
        world.pass(5 * SECOND);
        world.fail(OpenFailure::Unanswered);
    }
    world.did();
    assert!(world.opening.is_empty(), "it pauses");
    world.discard(1, Closed::Body, false);
    assert!(world.did().contains(&"open 0".to_owned()));
}

// ---------------------------------------------------------------- health

#[test]
fn one_that_failed_once_is_tried_even_if_nobody_needs_it() {
    let mut world = world(2, "");
    world.leased(2);
    world.finish(2);
    world.discard(1, Closed::Gone, false);
    world.command(Command::Drain(address(1)));
    world.arrive(1);
    world.command(Command::Undrain(address(1)));
    world.fail(OpenFailure::Connect);
    world.did();
    assert_eq!(world.state(0), EndpointState::Suspect);
    world.pass(60 * MS);
    assert!(world.opening.iter().any(|(_, endpoint, _)| *endpoint == 0), "nothing else would show that it is well");
}
