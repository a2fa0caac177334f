//! Settings that a running process takes, and those that it cannot.

use super::*;

#[test]
fn another_limit_takes_effect_and_no_connection_closes_for_it() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&one(php.address(), ""));
        let mut kept = mux.connect();
        assert_served(&mut kept, "before");
        let (pid, before, mut reloads) = (mux.pid(), mux.metrics(), Reloads::of(&mux));
        let outcome = reloads.now(&mux, &one(php.address(), ", queue: {depth: 77}, connections: {per_endpoint: 3}"));
        assert_reloaded(&outcome);
        assert_eq!(outcome["pools_changed"], "php (connections.per_endpoint, queue.depth)", "{outcome}");
        assert!(outcome["listeners_changed"].is_null() && outcome["pools_added"].is_null(), "{outcome}");
        let now = mux.metrics();
        assert_eq!(now.sum("fcgimux_queue_limit", &[]), 77.0);
        assert_eq!(now.sum("fcgimux_upstream_connections_limit", &[]), 3.0);
        assert_eq!(now.sum("fcgimux_config_reload_success", &[]), 1.0);
        let at = |metrics: &crate::support::Measures| metrics.sum("fcgimux_config_reload_timestamp_seconds", &[]);
        assert!(at(&now) > at(&before));
        // The web server's connection goes on, and so does that to the application.
        assert_served(&mut kept, "after");
        assert_served_at(&mux.socket(), "another");
        assert_eq!((opened(&mux), closed(&mux), php.accepted()), (1.0, 0.0, 1));
        assert_eq!((mux.pid(), requests(&mux, "php")), (pid, 3.0));
    });
}

#[test]
fn params_and_bodies_are_held_to_the_new_settings_also_on_a_kept_connection() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&one(php.address(), ""));
        let mut kept = mux.connect();
        assert_served(&mut kept, "before");
        let mut reloads = Reloads::of(&mux);
        assert_reloaded(&reloads.now(&mux, &one(php.address(), ", body: {max_size: 10B}")));
        let body = |length| Call::post("/srv/app.php", vec![b'x'; length]);
        assert_eq!(kept.call(&body(11), SOON).whole().http_status(), 413);
        assert_eq!(kept.call(&body(10), SOON).whole().http_status(), 200);
        assert_reloaded(&reloads.now(&mux, &one(php.address(), "")));
        assert_eq!(kept.call(&body(11), SOON).whole().http_status(), 200);
    });
}

/// Whatever came last on it, and whatever was answered.
#[test]
fn a_kept_connection_at_rest_goes_over_to_new_settings_of_its_listener() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let text = |write: &str| {
            let listener = format!("pool: php, timeouts: {{write: {write}}}}}");
            one(php.address(), ", body: {max_size: 10B}").replace("pool: php}", &listener)
        };
        let mux = Fcgimux::yaml(&text("50s"));
        let mut reloads = Reloads::of(&mux);
        let get = Call::get("/srv/app.php");
        let refused = Call::post("/srv/app.php", vec![b'x'; 11]);
        let short = Call::post("/srv/app.php", "abc").param("CONTENT_LENGTH", "5");
        for (number, (first, status, later)) in [
            (get.clone(), 200, vec![]),
            (refused, 413, vec![]),
            (short, 400, vec![]),
            (get.clone(), 200, fcgi::stdin_end(1)),
            (get.clone(), 200, [fcgi::stdin_end(1), fcgi::stdin_end(7)].concat()),
            (get.unended(), 200, fcgi::stdin_end(1)),
        ]
        .into_iter()
        .enumerate()
        {
            let mut kept = mux.connect();
            assert_eq!(kept.call(&first, SOON).whole().http_status(), status, "{number}");
            kept.send(&later);
            std::thread::sleep(50 * MILLISECOND);
            assert_reloaded(&reloads.now(&mux, &text(&format!("{}s", 40 + number))));
            assert_served(&mut kept, &format!("behind the new settings, {number}"));
        }
    });
}

#[test]
fn the_log_changes_its_level_its_format_and_its_lines() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let text = |log: &str| file("", &[pool("php", php.address(), "")], log);
        let mux = Fcgimux::yaml(&text(""));
        let mut reloads = Reloads::of(&mux);
        let outcome = reloads.now(&mux, &text("log: {access: true, level: debug}"));
        assert_eq!(outcome["settings_changed"], "log.level, log.access", "{outcome}");
        assert_served_at(&mux.socket(), "token");
        let access = |line: &Value| line["script"] == "/srv/app.php" && line["level"] == "INFO";
        assert!(eventually(SOON, || lines(&mux).iter().any(access)), "{}", mux.log());
        mux.rewrite(&text("log: {format: text, level: info}"));
        mux.signal(Signal::SIGHUP);
        let is_text =
            || mux.log().lines().any(|line| !line.starts_with('{') && line.contains("configuration reloaded"));
        assert!(eventually(SOON, is_text), "{}", mux.log());
    });
}

#[test]
fn what_only_a_restart_changes_stays_and_is_warned_of() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&one(php.address(), ""));
        let mut reloads = Reloads::of(&mux);
        let text = one(php.address(), ", queue: {depth: 77}").replace("{listen: {admin}}", "{listen: off}");
        assert_reloaded(&reloads.now(&mux, &format!("{text}threads: 2\n")));
        let warned = |line: &Value| {
            line["level"] == "WARN" && message(line).starts_with("threads, admin.listen changes with a restart only")
        };
        assert!(eventually(SOON, || lines(&mux).iter().any(warned)), "{}", mux.log());
        assert_eq!(mux.metrics().sum("fcgimux_queue_limit", &[]), 77.0);
    });
}

#[test]
fn a_process_that_was_started_with_flags_has_nothing_to_read_and_goes_on() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::flags(&["--upstream", &php.address()]);
        mux.signal(Signal::SIGHUP);
        assert!(eventually(SOON, || mux.log().contains("it came from no file")), "{}", mux.log());
        assert_served_at(&mux.socket(), "token");
    });
}

#[test]
fn signals_that_come_while_one_is_served_are_one_more_reload() {
    bounded(LIMIT, || {
        let php = Application::tcp(polite);
        let mux = Fcgimux::yaml(&one(php.address(), ""));
        let mut reloads = Reloads::of(&mux);
        for _ in 0..50 {
            mux.signal(Signal::SIGHUP);
        }
        reloads.next(&mux);
        assert_served_at(&mux.socket(), "token");
        // The last of them is behind everything that was written before.
        let outcome = reloads.now(&mux, &one(php.address(), ", queue: {depth: 77}"));
        assert!(!outcome.is_null());
        assert!(eventually(SOON, || mux.metrics().sum("fcgimux_queue_limit", &[]) == 77.0), "{}", mux.log());
    });
}
