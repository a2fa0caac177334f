//! What share of the requests each pod gets.
//!
//! Judged in up to three attempts: a machine that stands still for a moment leaves so much to do that all pods are full for
//! a while, and then each takes what it can.

use std::{thread, time::Duration};

use crate::support::{Load, PhpFpm, Pod, Pods, Report, Request, Run, bounded, in_three_attempts, since_epoch};
use crate::under_load::fleet::{
    MILLISECOND, SECOND,
    list::{Endpoints, List},
    loss::assert_cut_off,
    site::{Site, item, items, mixed},
};

/// Requests per second, clients, microseconds in the script.
type Pace = (f64, usize, u64);

/// Busy, and with hardly ever two requests at a time.
const EQUAL: [Pace; 2] = [(450.0, 32, 6_000), (300.0, 4, 1_500)];
/// Busier: a pod where nothing runs comes before one with a larger weight where something does, so that weights tell
/// where each has some.
const WEIGHTED: [Pace; 2] = [(450.0, 64, 24_000), (300.0, 4, 1_500)];

const PACED: Duration = Duration::from_millis(1_250);

/// How far the counts lie apart: the largest above the smallest, as a share of it.
#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn spread(counts: &[usize]) -> f64 {
    let (least, most) = (counts.iter().min().expect("a count"), counts.iter().max().expect("a count"));
    *most as f64 / (*least).max(1) as f64 - 1.0
}

/// A load, and how many requests each pod had of it, behind its first moments: connections come one by one.
fn counts_under(site: &Site, pods: &Pods, of: &[&Pod], load: Load) -> (Vec<usize>, Report) {
    pods.clear_journal();
    let from = since_epoch() + SECOND / 4;
    let report = load.run();
    let journal = pods.journal();
    let counted = |pod: &&Pod| journal.of(pod).filter(|run| run.started > from).count();
    let counts: Vec<_> = of.iter().map(counted).collect();
    println!("requests of each pod: {counts:?}");
    site.print(&report);
    (counts, report)
}

/// Counts of three pods in each pace, with these items as endpoints.
fn paced(pods: &Pods, three: &[&Pod], items: &[String], paces: &[Pace]) -> Vec<Vec<usize>> {
    let paced = paces.iter().map(|(rate, clients, micros)| {
        let site = Site::start(pods, items, &["connections: {per_endpoint: 12}"]);
        let load = Load::on(site.nginx.address(), mixed(*micros)).clients(*clients).rate(*rate);
        let (counts, report) = counts_under(&site, pods, three, load.duration(PACED));
        report.assert_clean();
        counts
    });
    paced.collect()
}

/// As far from the shares as this, at most: 0.05.
#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn keep_to(counts: &[usize], weights: [f64; 3], at_most: f64) -> bool {
    let share = counts.iter().sum::<usize>() as f64 / weights.iter().sum::<f64>();
    let parts = counts.iter().zip(weights).map(|(count, weight)| *count as f64 / weight / share);
    parts.into_iter().all(|part| (part - 1.0).abs() <= at_most)
}

#[test]
fn pods_get_requests_by_their_weights_and_equal_ones_the_same_number() {
    bounded(60 * SECOND, || {
        let mut pods = Pods::new();
        let three: Vec<_> = (0..3).map(|_| pods.start(PhpFpm::pool(12))).collect();
        let three: Vec<&Pod> = three.iter().collect();
        in_three_attempts(|| {
            let equal = paced(&pods, &three, &items(&three), &EQUAL);
            if equal.iter().all(|counts| spread(counts) <= 0.05) { Ok(()) } else { Err(format!("{equal:?}")) }
        });
        let weighted = [item(three[0], ""), item(three[1], ", weight: 2"), item(three[2], ", weight: 1")];
        in_three_attempts(|| {
            let counts = paced(&pods, &three, &weighted, &WEIGHTED);
            let fair = counts.iter().all(|counts| keep_to(counts, [1.0, 2.0, 1.0], 0.1));
            if fair { Ok(()) } else { Err(format!("{counts:?}")) }
        });
    });
}

/// What 64 clients get of 8 ms each, 600 times a second, through one fcgimux: the p99, and how many each pod had.
fn tail_of(pods: &Pods, of: &[&Pod], connections: usize) -> (Duration, Vec<usize>) {
    let site = Site::start(pods, &items(of), &[&format!("connections: {{per_endpoint: {connections}}}")]);
    let request = |_| Request::echo("GET", 500).micros(8_000);
    let load = Load::on(site.nginx.address(), request).clients(64).rate(600.0).duration(3 * SECOND / 2);
    let (counts, report) = counts_under(&site, pods, of, load);
    report.assert_clean();
    (report.quantile("GET", 0.99), counts)
}

#[test]
fn a_pod_that_is_five_times_slower_gets_what_it_can_do_and_holds_up_nobody_else() {
    bounded(90 * SECOND, || {
        let mut pods = Pods::new();
        let three: Vec<_> = (0..3).map(|_| pods.start(PhpFpm::pool(4))).collect();
        let three: Vec<&Pod> = three.iter().collect();
        // One queue before one php-fpm with workers of the same kinds: eight as they are, and four that are slow.
        let ideal = pods.start(PhpFpm::pool(12));
        let slow: Vec<u32> = three[2].workers().into_iter().chain(ideal.workers().into_iter().take(4)).collect();
        pods.slow_down(&slow);
        in_three_attempts(|| {
            let (reference, _) = tail_of(&pods, &[&ideal], 12);
            let (p99, counts) = tail_of(&pods, &three, 4);
            let words = format!("p99 {p99:.1?}, of one queue {reference:.1?}; requests {counts:?}");
            println!("{words}");
            // A fifth of the others' would be its part if all were always busy; they are not, and it is busier.
            let fair = counts[2] * 2 <= counts[0].min(counts[1]) && counts[2] * 10 >= counts[0].min(counts[1]);
            if fair && p99 <= reference * 3 / 2 { Ok(()) } else { Err(words) }
        });
    });
}

const OWN: &str = ", zone: eu-1a";
const OTHER: &str = ", zone: eu-1b";

#[test]
fn requests_stay_in_the_own_zone_until_it_is_full_or_dead() {
    bounded(60 * SECOND, || {
        let mut pods = Pods::new();
        let mut three: Vec<_> = (0..3).map(|_| pods.start(PhpFpm::pool(3))).collect();
        let zoned = [item(&three[0], OWN), item(&three[1], OWN), item(&three[2], OTHER)];
        let lines = ["connections: {per_endpoint: 3}", "timeouts: {connect: 500ms}"];
        let site = Site::start_with(&pods, &zoned, &lines, "zone: eu-1a\n");
        let load = |clients, rate, micros| {
            Load::on(site.nginx.address(), mixed(micros)).clients(clients).rate(rate).duration(4 * SECOND / 5)
        };
        in_three_attempts(|| {
            let three: Vec<&Pod> = three.iter().collect();
            let (quiet, report) = counts_under(&site, &pods, &three, load(4, 100.0, 3_000));
            report.assert_clean();
            // Twelve at a time, where the own zone has six workers: nobody waits while the other has three.
            let (full, report) = counts_under(&site, &pods, &three, load(12, 1e6, 20_000));
            report.assert_clean();
            let words = format!("{quiet:?}, and where the zone is full {full:?}");
            let stays = quiet[2] == 0 && spread(&quiet[..2]) <= 0.05;
            if stays && full[2] * 4 >= full[0] * 3 { Ok(()) } else { Err(words) }
        });
        pods.clear_journal();
        let running = load(8, 150.0, 4_000).duration(3 * SECOND / 2).start();
        thread::sleep(300 * MILLISECOND);
        let killed = since_epoch();
        three[0].kill();
        three[1].kill();
        let dead = since_epoch();
        let report = running.finish();
        site.print(&report);
        let journal = pods.journal();
        site.print_failed(&report, &journal);
        journal.assert_posts_once();
        assert_cut_off(&site, &report, &journal, &[&three[0], &three[1]], [killed, dead]);
        let elsewhere = journal.of(&three[2]).filter(|run| run.started > killed).count();
        println!("{elsewhere} in the other zone since the own one died");
        assert!(elsewhere >= 130, "{elsewhere}");
    });
}

const SLOW_START: Duration = Duration::from_secs(2);

/// What a pod that comes later has of a fair share in each third of its slow start, and behind it.
#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn shares_of_a_new_pod() -> [f64; 4] {
    let mut pods = Pods::new();
    let old: Vec<_> = (0..2).map(|_| pods.start(PhpFpm::pool(6))).collect();
    let endpoints = Endpoints::of(&items(&old.iter().collect::<Vec<_>>()));
    let site = Site::listing(&pods, &endpoints, &["connections: {per_endpoint: 6}", "slow_start: 2s"]);
    let load = Load::on(site.nginx.address(), mixed(8_000)).clients(32).rate(400.0).duration(30 * SECOND).start();
    // Those that the program finds in its first moments all start at once.
    thread::sleep(SECOND + SECOND / 2);
    let new = pods.start(PhpFpm::pool(6));
    endpoints.publish(&[&old[0], &old[1], &new], None);
    thread::sleep(SLOW_START + SECOND + 2 * SECOND / 3);
    let report = load.stop();
    site.print(&report);
    report.assert_clean();
    let journal = pods.journal();
    let first = journal.of(&new).next().expect("the new pod is used").started;
    let share = |from: Duration, to: Duration| {
        let within = |run: &&Run| run.started >= first + from && run.started < first + to;
        let its = journal.of(&new).filter(within).count();
        3.0 * its as f64 / journal.runs.iter().filter(within).count().max(1) as f64
    };
    [0, 1, 2, 3].map(|third| share(SLOW_START * third / 3, SLOW_START * (third + 1) / 3))
}

#[test]
fn a_new_pod_gets_its_share_little_by_little() {
    bounded(60 * SECOND, || {
        in_three_attempts(|| {
            let shares = shares_of_a_new_pod();
            let words = format!("of a fair share in each third of slow_start, and behind it: {shares:.2?}");
            println!("{words}");
            let grows = shares.windows(2).all(|pair| pair[1] > pair[0]);
            if grows && shares[0] < 0.5 && (0.9..=1.1).contains(&shares[3]) { Ok(()) } else { Err(words) }
        });
    });
}
