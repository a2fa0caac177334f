//! A pod whose packets are dropped on the way, without a word to anybody.

use std::{thread, time::Duration};

use crate::support::{
    Host, Load, Lost, PhpFpm, Pod, Pods, Router, bounded, eventually, in_own_network, in_three_attempts, since_epoch,
};
use crate::under_load::fleet::{
    SECOND,
    loss::ran_between,
    site::{LOSSES, Site, is_post, items, mixed},
};

const CONNECT: Duration = Duration::from_millis(500);
const LINES: &[&str] = &["timeouts: {connect: 500ms}", "connections: {per_endpoint: 4}"];
const WORKERS: usize = 4;
/// What else a request of 15 ms may take on a busy machine.
const NOISE: Duration = Duration::from_millis(250);

/// What became of one pod that was lost.
struct Fate<'a> {
    pod: &'a Pod,
    host: &'a Host,
    lost: Lost,
    /// While its routes were changed.
    dropped: [Duration; 2],
    /// Since it was lost, until its endpoint was down.
    known: Option<Duration>,
    /// Since it was found, until it ran something again.
    used: Option<Duration>,
}

impl Fate<'_> {
    fn lose(&mut self) {
        let from = since_epoch();
        self.host.lose(self.lost);
        self.dropped = [from, since_epoch()];
    }

    fn is_known(&mut self, site: &Site) -> bool {
        if self.known.is_none() && !site.is_up(self.pod) {
            self.known = Some(since_epoch() - self.dropped[1]);
        }
        self.known.is_some()
    }

    fn find(&mut self, site: &Site, pods: &Pods) {
        if self.known.is_none() {
            println!("not known as lost ({:?}):\n{}", self.lost, site.describe(self.pod));
        }
        self.host.find(self.lost);
        let back = since_epoch();
        // What was on its way to it all the time may arrive at once.
        let ran_again = || pods.journal().of(self.pod).any(|run| run.started > back + SECOND / 50);
        let used = eventually(6 * SECOND, || site.is_up(self.pod) && ran_again());
        self.used = used.then(|| since_epoch() - back);
    }
}

/// Of four pods behind a router, one is lost, and one is only not heard any more.
fn lose_two() -> Result<(), String> {
    let mut router = Router::new();
    let mut pods = Pods::new();
    let hosts: Vec<Host> = (0..4).map(|_| router.host()).collect();
    let start = |host: &Host| pods.start_at(host.address(), PhpFpm::pool(WORKERS).in_network_of(host.pid()));
    let four: Vec<Pod> = hosts.iter().map(start).collect();
    let site = Site::start(&pods, &items(&four.iter().collect::<Vec<_>>()), LINES);
    let load = Load::on(site.nginx.address(), mixed(15_000)).clients(128).rate(300.0).late_after(CONNECT + NOISE);
    let load = load.duration(30 * SECOND).start();
    thread::sleep(SECOND / 2);
    let mut fates = [(1, Lost::Both), (2, Lost::Answers)].map(|(index, lost)| {
        let (pod, host) = (&four[index], &hosts[index]);
        Fate { pod, host, lost, dropped: [Duration::ZERO; 2], known: None, used: None }
    });
    fates.iter_mut().for_each(Fate::lose);
    // Both are looked at each time.
    eventually(3 * SECOND, || fates.iter_mut().filter_map(|fate| fate.is_known(&site).then_some(())).count() == 2);
    thread::sleep(SECOND / 2);
    fates.iter_mut().for_each(|fate| fate.find(&site, &pods));
    thread::sleep(SECOND / 5);
    let report = load.stop();
    site.print(&report);
    let journal = pods.journal();
    site.print_failed(&report, &journal);
    journal.assert_posts_once();
    report.assert_not_mixed_up();
    // Only what was handed to them and may have been executed there: a POST for each connection that they had.
    let failed = &report.failed_tokens;
    assert!(failed.len() <= 2 * WORKERS && failed.iter().all(|token| is_post(token)), "{report}");
    site.assert_nothing_left(LOSSES);
    // What ran there at that moment may wait for its answer until the timeouts end it, as may a POST that was sent there
    // before anybody could know.
    let ran = fates.each_ref().map(|fate| ran_between(&journal, fate.pod, fate.dropped[0], fate.dropped[1]));
    let had = |token: &str| {
        let sent_there = || fates.iter().any(|fate| journal.of(fate.pod).any(|run| run.token == token));
        ran.iter().any(|ran| ran.contains(token)) || (is_post(token) && sent_there())
    };
    let others: Vec<_> = report.late.iter().filter(|(token, _)| !had(token)).collect();
    let told = fates.each_ref().map(|fate| (fate.lost, fate.known, fate.used));
    let words = format!("known, used again after {told:.2?}; late {:.2?}, of others {others:.2?}", report.late);
    println!("{words}");
    let in_time = |fate: &Fate| {
        // One exchange is given up, and one connect, where all other connections to it wait for what runs there.
        fate.known.is_some_and(|after| after <= 2 * CONNECT + NOISE)
            && fate.used.is_some_and(|after| after <= 5 * SECOND)
    };
    if fates.iter().all(in_time) && others.is_empty() { Ok(()) } else { Err(words) }
}

#[test]
fn a_black_hole_costs_others_a_connect_timeout_at_most_and_no_post_runs_twice() {
    if in_own_network(
        "under_load::fleet::black_hole::a_black_hole_costs_others_a_connect_timeout_at_most_and_no_post_runs_twice",
    ) {
        bounded(60 * SECOND, || in_three_attempts(lose_two));
    }
}
