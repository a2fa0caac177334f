//! Pods are replaced one by one under load.

use std::{thread, time::Duration};

use nix::sys::signal::Signal;

use crate::support::{Exit, Load, PhpFpm, Pod, Pods, Pool, Report, Request, bounded, eventually, since_epoch};
#[cfg(feature = "kubernetes")]
use crate::under_load::fleet::list::Service;
use crate::under_load::fleet::{
    SECOND,
    list::{Endpoints, List},
    site::{LOSSES, Site, mixed},
};

const LINES: &[&str] = &["connections: {per_endpoint: 4}", "timeouts: {connect: 500ms}"];
/// All of them.
const REPLACED: usize = 3;
/// How long an old php-fpm may take behind its last request.
const GONE_WITHIN: Duration = SECOND;
/// What a list says has been read by then.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

fn pool() -> Pool {
    PhpFpm::pool(4).global("process_control_timeout", "10s")
}

/// Now and then one takes long enough to outlast what happens around it.
fn request(number: u64) -> Request {
    if number % 100 == 50 {
        let (method, label) = if number % 200 == 50 { ("POST", "slow POST") } else { ("GET", "slow GET") };
        return Request::echo(method, 500).body(300, number).micros(300_000).label(label);
    }
    mixed(6_000)(number)
}

/// Which of the two comes first for a pod that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// The list says so, and it is stopped when that is known: a preStop hook that waits.
    Leaves,
    /// It is stopped, and the list says so a second later: no such hook, and a discovery that is late.
    Stops,
}

/// Three pods under load, and what becomes of them.
struct RollOut<'a> {
    pods: &'a mut Pods,
    list: &'a dyn List,
    site: &'a Site,
    first: First,
    running: Vec<Pod>,
}

impl RollOut<'_> {
    /// Replaces each pod once and gives how long each php-fpm took behind its last request.
    fn run(&mut self) -> Vec<Duration> {
        (0..REPLACED).map(|_| self.replace_oldest()).collect()
    }

    fn replace_oldest(&mut self) -> Duration {
        self.running.push(self.pods.start(pool()));
        self.publish(None);
        let new = self.running.last().expect("a pod");
        assert!(eventually(SEEN_WITHIN, || self.site.lists(new)), "{} is not found: {}", new.name, self.site.mux.log());
        let old = self.running.remove(0);
        self.take_away(old)
    }

    fn take_away(&self, mut old: Pod) -> Duration {
        if self.first == First::Leaves {
            self.leave(&old);
        }
        let told = since_epoch();
        old.signal(Signal::SIGQUIT);
        let gone = old.gone_at(15 * SECOND);
        if self.first == First::Stops {
            thread::sleep(SECOND);
            self.leave(&old);
        }
        let gone = gone.join().expect("the watch").unwrap_or_else(|| panic!("{}", old.php().error_log()));
        assert_eq!(old.wait_exit(SECOND), Some(Exit::Code(0)), "{}", old.php().error_log());
        self.publish(None);
        gone.saturating_sub(self.pods.journal().last_of(&old).max(told))
    }

    /// Until the program knows.
    fn leave(&self, old: &Pod) {
        self.publish(Some(old));
        let leaves = || self.site.is_draining(old) || !self.site.lists(old);
        assert!(eventually(SEEN_WITHIN, leaves), "{} does not leave:\n{}", old.name, self.site.describe(old));
    }

    fn publish(&self, leaving: Option<&Pod>) {
        self.list.publish(&self.running.iter().collect::<Vec<_>>(), leaving);
    }
}

fn load(site: &Site) -> Load {
    Load::on(site.nginx.address(), request).clients(96).rate(500.0).duration(60 * SECOND)
}

/// Everything was answered, and each POST ran once.
fn assert_served(report: &Report, site: &Site, pods: &Pods) {
    let journal = pods.journal();
    site.print_failed(report, &journal);
    journal.assert_posts_once();
    report.assert_clean();
    let posts = report.count("POST") + report.count("slow POST");
    assert_eq!(journal.executions("POST").len() as u64, posts, "POSTs that ran");
    assert_eq!(site.nginx.errors(), [""; 0]);
}

fn roll_out(list: &dyn List, mut pods: Pods, first: First) {
    let running: Vec<Pod> = (0..REPLACED).map(|_| pods.start(pool())).collect();
    list.publish(&running.iter().collect::<Vec<_>>(), None);
    let site = Site::listing(&pods, list, LINES);
    let running_load = load(&site).start();
    thread::sleep(SECOND / 2);
    // Its pods live until the load has ended.
    let mut roll_out = RollOut { pods: &mut pods, list, site: &site, first, running };
    let behind = roll_out.run();
    let report = running_load.stop();
    drop(roll_out);
    site.print(&report);
    println!("each php-fpm was gone so long behind its last request: {behind:.1?}");
    assert_served(&report, &site, &pods);
    assert!(behind.iter().all(|behind| *behind <= GONE_WITHIN), "{behind:?}");
    site.assert_nothing_left(if first == First::Leaves { &[] } else { LOSSES });
}

#[test]
#[ignore = "seven seconds, most of them until a file is read again; with a Service it is shorter"]
fn stress_a_roll_out_by_a_file_costs_no_request_and_no_php_fpm_outlives_its_last() {
    bounded(60 * SECOND, || roll_out(&Endpoints::of(&[]), Pods::new(), First::Leaves));
}

#[test]
#[ignore = "ten seconds; with a Service it is shorter"]
fn stress_a_roll_out_by_a_file_that_is_told_a_second_late_costs_no_request_either() {
    bounded(60 * SECOND, || roll_out(&Endpoints::of(&[]), Pods::new(), First::Stops));
}

#[cfg(feature = "kubernetes")]
fn roll_out_of_service(first: First) {
    bounded(60 * SECOND, move || {
        let pods = Pods::new();
        roll_out(&Service::of(&pods), pods, first);
    });
}

#[test]
#[cfg(feature = "kubernetes")]
fn a_roll_out_of_a_service_costs_no_request_and_no_php_fpm_outlives_its_last() {
    roll_out_of_service(First::Leaves);
}

#[test]
#[cfg(feature = "kubernetes")]
#[ignore = "six seconds, for what a preStop hook avoids"]
fn stress_a_roll_out_of_a_service_that_is_told_a_second_late_costs_no_request_either() {
    roll_out_of_service(First::Stops);
}
