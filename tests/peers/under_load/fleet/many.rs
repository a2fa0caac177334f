//! Two hundred endpoints that come and go: what a request costs must not depend on them.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::support::{Fcgimux, bounded, in_three_attempts};
use crate::under_load::fleet::{
    MILLISECOND, SECOND,
    echoes::{Echoes, ask},
    list::Endpoints,
};

const MANY: u16 = 200;
const CLIENTS: u64 = 8;
const RATE: f64 = 2_000.0;
const PHASE: Duration = Duration::from_millis(250);
const ROUNDS: usize = 5;
/// Behind so many requests an endpoint is known to be prompt, and requests to it cost less.
const WARM: u64 = 110;

fn start(file: &Path) -> Fcgimux {
    // The more endpoints, the longer a connection rests between two requests: its fence does not go along with the next
    // one, and before that it proves itself. That is the price of rest, whatever the number; here both pay it, or neither.
    Fcgimux::yaml(&format!(
        "listeners:\n  - socket: {{socket}}\n    pool: default\npools:\n  default:\n    endpoints:\n      - file: {}\n    \
         connections: {{fence: always, reprove_after: 10s}}\nadmin: {{listen: {{admin}}}}\n",
        file.display()
    ))
}

/// Time on a processor of all threads of a process, in nanoseconds.
fn on_processor(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let spent = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    spent.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum()
}

/// What one request costs this program, in microseconds.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
fn cost(mux: &Fcgimux, time: Duration) -> f64 {
    let before = on_processor(mux.pid());
    let asked = ask(&mux.socket(), CLIENTS, RATE, time);
    let spent = on_processor(mux.pid()) - before;
    assert!(asked.wrong.is_empty(), "{} wrong: {:?}", asked.wrong.len(), &asked.wrong[..asked.wrong.len().min(5)]);
    spent as f64 / 1_000.0 / asked.right as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Takes one out and puts another in, five times a second, while something runs.
fn while_changing<T>(endpoints: &Endpoints, all: &[String], what: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for change in 0.. {
                if over.load(Relaxed) {
                    return;
                }
                let out = &all[change * 7 % all.len()];
                let items: Vec<_> = all.iter().filter(|item| *item != out).cloned().collect();
                endpoints.write(&items);
                thread::sleep(200 * MILLISECOND);
            }
        });
        let result = what();
        over.store(true, Relaxed);
        result
    })
}

#[test]
fn two_hundred_endpoints_cost_a_request_no_more_than_three_also_while_they_change() {
    bounded(90 * SECOND, || {
        let echoes = Echoes::start(MANY);
        let all = echoes.items();
        let [few, many] = [&all[..3], &all[..]].map(Endpoints::of);
        let programs = [&few, &many].map(|endpoints| start(&endpoints.path()));
        // Each endpoint shall be known before anything is measured.
        for (program, known) in programs.iter().zip([3, u64::from(MANY)]) {
            let asked = ask(&program.socket(), 32, 1e6, Duration::from_micros(known * WARM));
            assert!(asked.wrong.is_empty(), "{:?}", asked.wrong.first());
        }
        in_three_attempts(|| {
            // Against each other within a round: what else the machine does differs from one to the next.
            let (mut costs, mut ratios) = (Vec::new(), [Vec::new(), Vec::new()]);
            for _ in 0..ROUNDS {
                let round = [
                    cost(&programs[0], PHASE),
                    cost(&programs[1], PHASE),
                    while_changing(&many, &all, || cost(&programs[1], PHASE)),
                ];
                ratios[0].push(round[1] / round[0]);
                ratios[1].push(round[2] / round[0]);
                costs.push(round);
            }
            let [more, changing] = ratios.map(median);
            let words = format!(
                "a request costs {more:.2} of that with 3 endpoints, {changing:.2} with 5 changes a second; \
                 microseconds with 3, 200 and changing ones: {costs:.0?}"
            );
            println!("{words}");
            if more <= 1.15 && changing <= 1.15 { Ok(()) } else { Err(words) }
        });
    });
}
