//! The core in a world of its own: web servers that come and hang up, applications that recycle workers, die, reload,
//! fall silent and refuse, and a clock that costs nothing. Thousands of worlds, each from one seed.
//!
//! `FCGIMUX_TEST_SEED=n` runs one seed, `FCGIMUX_TEST_SEEDS=n` so many.

mod application;
mod even;
mod fleet;
mod queue;
mod random;
mod shared;
mod world;

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};
use world::{Fates, Kind, World};

fn seeds(first: u64, count: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    match number("FCGIMUX_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + number("FCGIMUX_TEST_SEEDS").unwrap_or(count).max(count),
    }
}

/// Runs worlds from `first` on; says which seed it was when one breaks a rule.
fn run(kind: Kind, first: u64, count: u64) {
    let seeds = seeds(first, count);
    let mut fates = Fates::default();
    for seed in seeds.clone() {
        let lived = catch_unwind(AssertUnwindSafe(|| World::new(kind, seed).live()));
        match lived {
            Ok(lived) => fates += lived,
            Err(panic) => {
                eprintln!("{kind:?} world: seed {seed}; run it alone with FCGIMUX_TEST_SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    println!("{kind:?}: {} seeds, {fates:?}", seeds.clone().count());
    // A world in which hardly anybody is served shows nothing.
    assert!(seeds.count() < 100 || fates.served > fates.all / 2, "{fates:?}");
}

#[test]
fn in_a_calm_world_everyone_is_served_in_order_and_soon() {
    run(Kind::Calm, 0, 2_000);
}

#[test]
fn in_a_world_of_faults_nothing_is_lost_mixed_up_or_left_behind() {
    run(Kind::Faulty, 0, 4_000);
}

#[test]
fn in_a_world_of_old_php_each_request_has_a_connection_of_its_own() {
    run(Kind::Old, 0, 800);
}

#[test]
fn in_a_world_of_endpoints_that_come_and_go_what_runs_is_left_alone_and_what_leaves_gets_nothing_new() {
    run(Kind::Fleet, 0, 1_500);
}

/// The same for worlds in which exchanges share connections.
fn run_shared(first: u64, count: u64) {
    let mut fates = shared::Fates::default();
    let seeds = seeds(first, count);
    for seed in seeds.clone() {
        match catch_unwind(AssertUnwindSafe(|| shared::World::new(seed).live())) {
            Ok(lived) => fates += lived,
            Err(panic) => {
                eprintln!("shared world: seed {seed}; run it alone with FCGIMUX_TEST_SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    println!("shared: {} seeds, {fates:?}", seeds.clone().count());
    assert!(seeds.count() < 100 || fates.served > fates.all / 2, "{fates:?}");
}

#[test]
fn in_a_shared_world_each_exchange_gets_its_own_bytes_or_a_failure_that_may_be() {
    run_shared(0, 2_000);
}

#[test]
#[ignore = "takes minutes"]
fn stress_many_more_worlds() {
    for kind in [Kind::Calm, Kind::Faulty, Kind::Old, Kind::Fleet] {
        run(kind, 1_000_000, 40_000);
    }
    run_shared(1_000_000, 40_000);
}
