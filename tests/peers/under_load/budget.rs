//! Several sidecars that use the same php-fpm pods and cannot see each other: whether they share the workers as one queue
//! in front of all would.
#![expect(clippy::disallowed_methods, reason = "tests against real peers need the real clock")]

mod clients;
mod stage;

use std::time::Duration;

use crate::support::{bounded, in_three_attempts};
use clients::{Clients, Phase, Tally};
use stage::{Stage, WORKERS};

const SECOND: Duration = Duration::from_secs(1);

/// Clients at each of four sidecars: one of them heavy, then another, then all. More than there are workers at any time,
/// and at times twice as many.
const SHIFTING: [[usize; 4]; 6] =
    [[40, 1, 1, 1], [1, 40, 1, 1], [12, 12, 12, 12], [1, 1, 40, 8], [8, 8, 8, 8], [2, 30, 2, 30]];
/// What one request may wait beyond what it waits in the one queue at the same time: as long as a sidecar that knows
/// nothing of the others may keep a worker for itself (`surplus_idle`, `yield_after`).
const WAIT: Duration = SECOND;
/// Of the time of all workers, what one queue uses where nothing but the workers is scarce; measured: 0.99.
const BUSY: f64 = 0.9;
/// What is logged where the processor is short besides.
const SLOW_MACHINE: [&str; 2] = ["cannot read the status page", "did not prove itself"];

fn shifting(times: usize, each: Duration) -> Clients {
    assert!(SHIFTING.iter().all(|clients| clients.iter().sum::<usize>() > WORKERS), "workers are always scarce");
    let phases = SHIFTING.iter().map(|clients| Phase { clients: clients.to_vec(), lasts: each });
    Clients::new(phases.cycle().take(times * SHIFTING.len()).collect())
}

/// Together at least this share of what one queue serves, and nobody waits for much longer.
fn judge(shared: &Tally, ideal: &Tally, share: f64) -> Result<(), String> {
    println!("{}", Tally::compare(shared, ideal));
    for tally in [shared, ideal] {
        assert!(tally.errors.is_empty(), "{} errors: {:#?}", tally.errors.len(), &tally.errors[..1]);
    }
    let (served, longest) = (shared.share_of(ideal), shared.longest());
    let limit = WAIT + ideal.longest();
    let words = format!("{:.1} % of one queue, longest wait {longest:.1?}, limit {limit:.1?}", 100.0 * served);
    if served >= share && longest <= limit { Ok(()) } else { Err(words) }
}

fn share_as_one_queue_would(sidecars: &Stage, load: &Clients, share: f64) {
    let one = Stage::one_queue();
    let mut expected: &[&str] = &[];
    in_three_attempts(|| {
        let (shared, ideal) = load.run(sidecars, &one);
        let judged = judge(&shared, &ideal, share);
        // Where the processor is what is scarce, the comparison says nothing of the workers.
        let busy = ideal.share_of_workers(WORKERS);
        let words = format!("one queue had the workers busy for {:.1} % of the time", 100.0 * busy);
        println!("{words}");
        if busy >= BUSY {
            return judged;
        }
        expected = &SLOW_MACHINE;
        Err(format!("this machine is too slow: {words}"))
    });
    for stage in [sidecars, &one] {
        stage.assert_nothing_left(expected);
    }
}

#[test]
fn four_sidecars_that_read_the_status_page_share_three_pods_as_one_queue_would() {
    bounded(150 * SECOND, || share_as_one_queue_would(&Stage::sidecars(4, true), &shifting(1, 3 * SECOND), 0.95));
}

#[test]
#[ignore = "three minutes, and more when judged again"]
fn stress_four_sidecars_share_three_pods_for_long() {
    bounded(900 * SECOND, || {
        share_as_one_queue_would(&Stage::sidecars(4, true), &shifting(5, 3 * SECOND), 0.95);
        // By handshakes that hang alone: a sidecar learns late, or not at all, that others wait.
        share_as_one_queue_would(&Stage::sidecars(4, false), &shifting(5, 3 * SECOND), 0.9);
    });
}
