//! Pools and endpoints that come, change and go.

use super::*;
use crate::support::PhpFpm;

fn listener(name: &str, pool: &str) -> String {
    format!("  - {{socket: {{folder}}/{name}.sock, mode: \"0666\", pool: {pool}}}\n")
}

fn names(mux: &Fcgimux) -> Vec<String> {
    let metrics = mux.metrics();
    let series = metrics.iter().filter_map(|(series, _)| series.strip_prefix("fcgimux_queue_depth{pool=\""));
    let mut names: Vec<String> = series.map(|rest| rest.trim_end_matches("\"}").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_pool_is_added_with_a_listener_and_removed_again() {
    bounded(LIMIT, || {
        let (php, blog) = (Application::tcp(polite), Application::tcp(polite));
        let mux = Fcgimux::yaml(&one(php.address(), ""));
        assert_served_at(&mux.socket(), "before");
        let (fds, mut reloads) = (mux.open_fds(), Reloads::of(&mux));
        let pools = [pool("php", php.address(), ""), pool("blog", blog.address(), "")];
        let outcome = reloads.now(&mux, &file(&listener("blog", "blog"), &pools, ""));
        assert_eq!(outcome["pools_added"], "blog", "{outcome}");
        assert_served_at(&mux.folder().join("blog.sock"), "of the new pool");
        assert_eq!((requests(&mux, "blog"), names(&mux)), (1.0, vec!["blog".to_owned(), "php".to_owned()]));
        let outcome = reloads.now(&mux, &one(php.address(), ""));
        assert_eq!(
            (outcome["pools_removed"].as_str(), outcome["pools_added"].as_str()),
            (Some("blog"), None),
            "{outcome}"
        );
        assert!(eventually(SOON, || names(&mux) == ["php"]), "{:?}", names(&mux));
        assert_served_at(&mux.socket(), "after");
        assert_eq!(php.accepted(), 1, "the other pool's connection");
        assert!(eventually(SOON, || mux.open_fds() <= fds), "{} descriptors, {fds} before", mux.open_fds());
    });
}

#[test]
fn what_runs_and_waits_in_a_removed_pool_ends_there() {
    bounded(LIMIT, || {
        let (php, old) = (Application::tcp(polite), PhpFpm::pool(1).start());
        let pools = [pool("php", php.address(), ""), pool("old", old.address(), ", connections: {per_endpoint: 1}")];
        let mux = Fcgimux::yaml(&file(&listener("old", "old"), &pools, ""));
        let slow = Call::get(&old.script("slow.php")).query("ms=500");
        let mut calls: Vec<_> = (0..3).map(|_| Connection::unix(&mux.folder().join("old.sock"))).collect();
        calls.iter_mut().for_each(|call| call.send(&slow.bytes()));
        assert!(eventually(SOON, || mux.metrics().sum("fcgimux_queue_depth", &[("pool", "old")]) == 2.0));
        let mut reloads = Reloads::of(&mux);
        let outcome = reloads.now(&mux, &one(php.address(), ""));
        assert_eq!(outcome["pools_removed"], "old", "{outcome}");
        // It is still seen, as long as it is there.
        assert_eq!(names(&mux), ["old", "php"]);
        for call in &mut calls {
            assert_eq!(call.reply(SOON).whole().http_status(), 200);
        }
        assert!(eventually(SOON, || names(&mux) == ["php"]), "{:?}", names(&mux));
        assert!(mux.log().contains("pool ended"), "{}", mux.log());
    });
}

#[test]
fn a_pool_of_another_application_is_another_pool() {
    bounded(LIMIT, || {
        let (php, app) = (Application::tcp(polite), Application::tcp(polite));
        let mux = Fcgimux::yaml(&one(php.address(), ""));
        let mut kept = mux.connect();
        assert_served(&mut kept, "before");
        let mut reloads = Reloads::of(&mux);
        let outcome = reloads.now(&mux, &one(app.address(), ", application: generic"));
        assert!(
            outcome["pools_changed"].as_str().is_some_and(|pool| pool.starts_with("php (application, ")),
            "{outcome}"
        );
        assert_served(&mut kept, "after");
        assert_served_at(&mux.socket(), "anew");
        assert!(app.accepted() > 0);
        assert!(eventually(SOON, || mux.log().contains("pool ended")), "{}", mux.log());
        assert_eq!((requests(&mux, "php"), names(&mux)), (3.0, vec!["php".to_owned()]));
    });
}

#[test]
fn endpoints_come_and_go_without_a_connection_to_the_others_closing() {
    bounded(LIMIT, || {
        let (first, second) = (Application::tcp(polite), Application::tcp(polite));
        let both = |one: &Application, other: &Application| {
            let list = format!("[{{address: \"{}\"}}, {{address: \"{}\"}}]", one.address(), other.address());
            file("", &[format!("php: {{endpoints: {list}, slow_start: off}}")], "")
        };
        let mux = Fcgimux::yaml(&one(first.address(), ""));
        assert_served_at(&mux.socket(), "before");
        let mut reloads = Reloads::of(&mux);
        assert_reloaded(&reloads.now(&mux, &both(&first, &second)));
        let up = |mux: &Fcgimux| mux.metrics().sum("fcgimux_endpoint_up", &[]);
        assert!(eventually(SOON, || up(&mux) == 2.0), "{}", mux.page("/metrics").1);
        for number in 0..10 {
            assert_served_at(&mux.socket(), &format!("both{number}"));
        }
        assert_eq!(first.accepted(), 1);
        assert_reloaded(&reloads.now(&mux, &one(second.address(), "")));
        assert!(eventually(SOON, || up(&mux) == 1.0), "{}", mux.page("/metrics").1);
        assert_served_at(&mux.socket(), "after");
        assert!(second.accepted() >= 1);
        // An idle connection to an endpoint that has gone is closed.
        assert!(eventually(SOON, || opened(&mux) - closed(&mux) <= 1.0), "{}", mux.page("/metrics").1);
    });
}
