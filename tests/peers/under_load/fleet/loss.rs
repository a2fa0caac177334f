//! A pod that is gone from one moment to the next.

use std::{collections::HashSet, thread, time::Duration};

use crate::support::{
    Journal, Load, PhpFpm, Pod, Pods, Report, Run, bounded, eventually, in_three_attempts, since_epoch, warnings,
};
use crate::under_load::fleet::{
    MILLISECOND, SECOND,
    site::{LOSSES, Site, is_post, items, mixed},
};

const LINES: &[&str] = &["timeouts: {connect: 500ms}", "connections: {per_endpoint: 4}"];
/// `timeouts.connect`, and what else a request of 15 ms may take on a busy machine.
const OTHERS_WITHIN: Duration = Duration::from_millis(750);

/// Requests whose script was running in a pod at some time between two, or was about to begin or end then.
pub(crate) fn ran_between<'j>(journal: &'j Journal, pod: &Pod, from: Duration, until: Duration) -> HashSet<&'j str> {
    const ABOUT: Duration = Duration::from_millis(20);
    let cut = |run: &&Run| run.ended.is_none_or(|ended| ended + ABOUT >= from);
    let ran = journal.of(pod).filter(|run| run.started <= until + ABOUT).filter(cut);
    ran.map(|run| run.token.as_str()).collect()
}

/// Asserts that what failed is what a kill of these pods between two moments cut off: each ran there then, or is a POST that
/// ran nowhere, for a worker may be killed between its reading of a request and the first line of the script. No more POSTs
/// fail than fcgimux tells of that these pods broke off and may have executed.
#[track_caller]
pub(crate) fn assert_cut_off(
    site: &Site,
    report: &Report,
    journal: &Journal,
    killed: &[&Pod],
    [from, until]: [Duration; 2],
) {
    let ran: HashSet<_> = killed.iter().flat_map(|pod| ran_between(journal, pod, from, until)).collect();
    let ran_nowhere = |token: &str| journal.runs.iter().all(|run| run.token != token);
    let cut_off = |token: &&String| ran.contains(token.as_str()) || (is_post(token) && ran_nowhere(token));
    let others: Vec<_> = report.failed_tokens.iter().filter(|token| !cut_off(token)).collect();
    assert!(others.is_empty(), "{others:?} did not run there: {report}");
    let names: Vec<_> = killed.iter().map(|pod| format!("\"{}\"", pod.address())).collect();
    let is_told = |line: &String| {
        let broke = line.contains("exchange broke") && !line.contains("was not executed");
        broke && line.contains("\"method\":\"POST\"") && names.iter().any(|name| line.contains(name))
    };
    let told = warnings(&site.mux).into_iter().filter(is_told).count();
    let posts = report.failed_tokens.iter().filter(|token| is_post(token)).count();
    assert!(posts <= told, "{told} of {posts} are told of: {report}");
}

/// Kills the second of three under load and starts it again two seconds later.
fn kill_one() -> Result<(), String> {
    let mut pods = Pods::new();
    let mut three: Vec<_> = (0..3).map(|_| pods.start(PhpFpm::pool(4))).collect();
    let site = Site::start(&pods, &items(&three.iter().collect::<Vec<_>>()), LINES);
    let load = Load::on(site.nginx.address(), mixed(15_000)).clients(64).rate(350.0).duration(30 * SECOND).start();
    thread::sleep(SECOND);
    let killed = since_epoch();
    three[1].kill();
    let dead = since_epoch();
    let known = eventually(2 * SECOND, || !site.is_up(&three[1])).then(|| since_epoch() - killed);
    thread::sleep(SECOND);
    let back = since_epoch();
    three[1].start_again();
    let up = eventually(6 * SECOND, || site.is_up(&three[1])).then(|| since_epoch() - back);
    let ran_again = || pods.journal().of(&three[1]).any(|run| run.started > back);
    let used = eventually(6 * SECOND, ran_again).then(|| since_epoch() - back);
    thread::sleep(300 * MILLISECOND);
    let report = load.stop();
    site.print(&report);
    let journal = pods.journal();
    site.print_failed(&report, &journal);
    journal.assert_posts_once();
    report.assert_not_mixed_up();
    let ran = ran_between(&journal, &three[1], killed, dead);
    assert_cut_off(&site, &report, &journal, &[&three[1]], [killed, dead]);
    site.assert_nothing_left(LOSSES);
    let words = format!(
        "known after {known:.2?}; back after {up:.2?}, used after {used:.2?}; {} failed of {} that ran there; longest {:.0?}",
        report.failed_tokens.len(),
        ran.len(),
        report.longest
    );
    println!("{words}");
    let well = known.is_some_and(|after| after <= SECOND) && up.max(used).is_some_and(|after| after <= 5 * SECOND);
    if well && report.longest <= OTHERS_WITHIN { Ok(()) } else { Err(words) }
}

#[test]
fn a_killed_pod_takes_with_it_what_ran_there_and_is_used_again_when_it_is_back() {
    bounded(60 * SECOND, || in_three_attempts(kill_one));
}
