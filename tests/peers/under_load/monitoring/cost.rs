//! What it costs to be looked at. How much longer the slowest requests take is shown and not judged: on a machine that others use as
//! well, that is more than what a scrape could add.

use std::{fs, thread, time::Duration};

use super::{MILLISECOND, SECOND};
use crate::support::{Fcgimux, Load, Nginx, PhpFpm, Report, Request, bounded, in_three_attempts};

const WORKERS: usize = 8;
const CLIENTS: usize = 32;
/// With and without a scrape each second, in turn.
const ROUNDS: usize = 4;
const ROUND: Duration = Duration::from_secs(4);

/// CPU time of the threads of a process that have this name, or of all.
fn cpu(pid: u32, name: Option<&str>) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("threads").filter_map(Result::ok);
    let of = |path: std::path::PathBuf| {
        let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let ours = name.is_none_or(|name| comm.trim() == name);
        let nanoseconds = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        let first = nanoseconds.split_whitespace().next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
        if ours { first / 1e9 } else { 0.0 }
    };
    threads.map(|thread| of(thread.path())).sum()
}

/// Every worker is busy, and more wait.
fn round(mux: &Fcgimux, nginx: &Nginx, service: Duration, scraped: bool) -> Report {
    let micros = u64::try_from(service.as_micros()).expect("a short time");
    let make = move |_| Request::echo("GET", 0).micros(micros);
    let load = Load::on(nginx.address(), make).clients(CLIENTS).duration(ROUND).start();
    while scraped && load.is_running() {
        mux.metrics();
        thread::sleep(SECOND);
    }
    let report = load.finish();
    report.assert_clean();
    report
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
#[ignore = "a minute, and more when judged again"]
fn stress_a_scrape_each_second_takes_hardly_any_of_the_cpu() {
    bounded(300 * SECOND, || {
        let php = PhpFpm::pool(WORKERS).start();
        let mux = Fcgimux::to(php.address()).pool(&format!("connections: {{per_endpoint: {WORKERS}}}")).start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        in_three_attempts(|| {
            let mut tails = [vec![], vec![]];
            for turn in 0..2 * ROUNDS {
                let report = round(&mux, &nginx, 2 * MILLISECOND, turn % 2 == 1);
                tails[turn % 2].push(report.quantile("GET", 0.999));
            }
            let [without, with] = tails.map(median);
            let before = [cpu(mux.pid(), Some("admin")), cpu(mux.pid(), None)];
            let busy = round(&mux, &nginx, Duration::ZERO, true);
            let after = [cpu(mux.pid(), Some("admin")), cpu(mux.pid(), None)];
            let [admin, all] = [after[0] - before[0], after[1] - before[1]];
            let words = format!(
                "p99.9 {without:.2?} without and {with:.2?} with a scrape each second; {:.2} % of the CPU at {:.0}/s",
                100.0 * admin / all,
                busy.throughput()
            );
            println!("{words}");
            if admin <= 0.02 * all { Ok(()) } else { Err(words) }
        });
    });
}
