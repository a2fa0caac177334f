//! How php-fpm's workers are, as its status page says, under the names of php-fpm_exporter.
//!
//! What php-fpm adds up itself is wrong where connections are kept (facts 2.2 and 2.4): its sums drift, and a worker that
//! waits for a next request counts as active. Here they are added up from what each worker does.

use super::{
    definition::{self, Definition},
    text::Family,
};
use crate::mux::scoreboard::Scoreboard;

/// What is known of one php-fpm whose page is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Workers {
    /// Looks that failed.
    failures: u64,
    /// The last look did not.
    up: bool,
    /// What the last one that did not fail has shown.
    seen: Option<Seen>,
}

/// One look at the page.
#[derive(Clone, Copy, Debug)]
struct Seen {
    start_time: u64,
    start_since: u64,
    accepted: u64,
    /// `None` where php-fpm cannot see it.
    queue: Option<u64>,
    longest_queue: u64,
    queue_places: u64,
    idle: usize,
    held: usize,
    active: usize,
    /// Of all looks since php-fpm has started.
    most_active: usize,
    total: usize,
    children_reached: u64,
    slow: u64,
}

type Look = fn(&Seen) -> Option<u64>;

/// In the order of the definitions.
const SHOWN: [(&Definition, Look); 12] = [
    (&definition::PHP_FPM_START_SINCE, |seen| Some(seen.start_since)),
    (&definition::PHP_FPM_ACCEPTED, |seen| Some(seen.accepted)),
    (&definition::PHP_FPM_QUEUE, |seen| seen.queue),
    (&definition::PHP_FPM_LONGEST_QUEUE, |seen| seen.queue.map(|_| seen.longest_queue)),
    (&definition::PHP_FPM_QUEUE_PLACES, |seen| seen.queue.map(|_| seen.queue_places)),
    (&definition::PHP_FPM_IDLE, |seen| Some(seen.idle as u64)),
    (&definition::PHP_FPM_HELD, |seen| Some(seen.held as u64)),
    (&definition::PHP_FPM_ACTIVE, |seen| Some(seen.active as u64)),
    (&definition::PHP_FPM_TOTAL, |seen| Some(seen.total as u64)),
    (&definition::PHP_FPM_MOST_ACTIVE, |seen| Some(seen.most_active as u64)),
    (&definition::PHP_FPM_CHILDREN_REACHED, |seen| Some(seen.children_reached)),
    (&definition::PHP_FPM_SLOW, |seen| Some(seen.slow)),
];

impl Workers {
    /// The page was read, or could not be.
    pub(super) fn look(&mut self, page: Option<&Scoreboard>) {
        self.up = page.is_some();
        match page {
            Some(page) => self.seen = Some(Seen::of(page, self.seen)),
            None => self.failures += 1,
        }
    }
}

impl Seen {
    fn of(page: &Scoreboard, before: Option<Self>) -> Self {
        let (idle, held, total) = (page.idle(), page.holding(), page.processes.len());
        let active = total - idle - held;
        // A php-fpm that has started anew begins anew.
        let most = before.filter(|before| before.start_time == page.start_time).map_or(0, |before| before.most_active);
        Self {
            start_time: page.start_time,
            start_since: page.start_since,
            accepted: page.accepted,
            queue: page.queue(),
            longest_queue: page.max_listen_queue,
            queue_places: page.listen_queue_len,
            idle,
            held,
            active,
            most_active: most.max(active),
            total,
            children_reached: page.max_children_reached,
            slow: page.slow_requests,
        }
    }
}

/// Appends those of all endpoints, each with its labels `pool` and `endpoint`. Of a page that cannot be read no more than
/// that: what it said before is not what is.
pub(super) fn render(text: &mut String, all: &[([&str; 2], Workers)]) {
    let mut each = |definition, look: &dyn Fn(&Workers) -> Option<u64>| {
        let mut family = Family::new(text, definition);
        for (labels, workers) in all {
            look(workers).into_iter().for_each(|value| family.sample(labels, value));
        }
    };
    each(&definition::PHP_FPM_UP, &|workers| Some(u64::from(workers.up)));
    each(&definition::PHP_FPM_FAILURES, &|workers| Some(workers.failures));
    for (definition, look) in SHOWN {
        each(definition, &|workers| workers.seen.filter(|_| workers.up).as_ref().and_then(look));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [&str; 2] = ["php", "10.0.0.7:9000"];

    fn page(start_time: u64, queue_places: u64, states: &[&str]) -> Scoreboard {
        let processes: Vec<_> = states.iter().map(|state| format!(r#"{{"state":"{state}"}}"#)).collect();
        // The sums are wrong on purpose.
        let text = format!(
            r#"{{"pool":"www","process manager":"static","start time":{start_time},"start since":60,"accepted conn":23,
            "listen queue":2,"max listen queue":7,"listen queue len":{queue_places},"idle processes":0,
            "active processes":19,"total processes":20,"max active processes":20,"max children reached":3,
            "slow requests":4,"processes":[{}]}}"#,
            processes.join(",")
        );
        Scoreboard::parse(text.as_bytes()).unwrap()
    }

    fn shown(workers: Workers) -> Vec<String> {
        let mut text = String::new();
        render(&mut text, &[(LABELS, workers)]);
        let samples = text.lines().filter(|line| line.starts_with("phpfpm_"));
        samples.map(|line| line.replace("{pool=\"php\",endpoint=\"10.0.0.7:9000\"}", "")).collect()
    }

    #[test]
    fn what_the_workers_do_is_counted_and_not_what_php_fpm_adds_up() {
        let mut workers = Workers::default();
        workers.look(Some(&page(
            1,
            511,
            &["Idle", "Reading headers", "Reading headers", "Running", "Finishing", "New"],
        )));
        let expected = [
            "phpfpm_up 1",
            "phpfpm_scrape_failures 0",
            "phpfpm_start_since 60",
            "phpfpm_accepted_connections 23",
            "phpfpm_listen_queue 2",
            "phpfpm_max_listen_queue 7",
            "phpfpm_listen_queue_length 511",
            "phpfpm_idle_processes 1",
            "phpfpm_held_processes 2",
            "phpfpm_active_processes 3",
            "phpfpm_total_processes 6",
            "phpfpm_max_active_processes 3",
            "phpfpm_max_children_reached 3",
            "phpfpm_slow_requests 4",
        ];
        assert_eq!(shown(workers), expected);
    }

    #[test]
    fn the_most_active_are_those_of_all_looks_since_php_fpm_has_started() {
        let most = |workers: &Workers| workers.seen.unwrap().most_active;
        let mut workers = Workers::default();
        for (start_time, states, expected) in
            [(1, &["Running", "Ending"][..], 2), (1, &["Idle"], 2), (2, &["Running"], 1), (2, &["Idle"], 1)]
        {
            workers.look(Some(&page(start_time, 511, states)));
            assert_eq!(most(&workers), expected);
        }
    }

    #[test]
    fn of_a_page_that_cannot_be_read_nothing_is_said_but_that() {
        let mut workers = Workers::default();
        workers.look(Some(&page(1, 511, &["Idle"])));
        workers.look(None);
        assert_eq!(shown(workers), ["phpfpm_up 0", "phpfpm_scrape_failures 1"]);
        workers.look(Some(&page(1, 511, &["Idle"])));
        assert_eq!(shown(workers).len(), 14);
    }

    #[test]
    fn a_queue_that_php_fpm_cannot_see_is_left_out() {
        let mut workers = Workers::default();
        workers.look(Some(&page(1, 0, &["Idle"])));
        assert!(!shown(workers).iter().any(|line| line.contains("listen_queue")));
    }
}
