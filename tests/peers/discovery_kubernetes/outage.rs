//! The API server is gone, silent, or has forgotten.

use std::{thread, time::Duration};

use super::{LIMIT, SECOND, SOON, Site, ip, slice, small, wait_until_used};
use crate::support::{
    Pods, bounded, eventually,
    kubernetes::{KubeApi, Verb},
    since_epoch, wait_until, warnings,
};

/// Takes the API server away for so long under load.
fn outage(lasts: Duration) {
    let (mut api, mut pods) = (KubeApi::start(), Pods::new());
    let (one, other, new) = (pods.start(small()), pods.start(small()), pods.start(small()));
    api.apply(slice(&pods).ready(&ip(&one)).ready(&ip(&other)));
    let site = Site::start(&api, &pods);
    let both = [("up", one.address()), ("up", other.address())];
    site.wait_until_it_has(&both);
    let load = site.load();
    thread::sleep(SECOND);

    api.stop();
    let since = since_epoch();
    // It changes, and nobody can be told.
    api.apply(slice(&pods).ready(&ip(&other)).ready(&ip(&new)));
    thread::sleep(lasts);
    let last = Duration::from_secs_f64(site.sum("fcgimux_discovery_last_success_timestamp_seconds"));
    assert!(last > since - 2 * SECOND && last < since + SECOND / 2, "last success {last:?}, down since {since:?}");
    let failed = warnings(&site.mux);
    // Again each minute.
    let reminders = usize::try_from(lasts.as_secs() / 60).expect("a few minutes");
    assert!((1..=1 + reminders).contains(&failed.len()), "{failed:#?}");
    let words = format!("cannot ask the API server {}/: ", api.url());
    assert!(failed.iter().all(|line| line.contains("discovery has failed") && line.contains(&words)), "{failed:#?}");
    site.wait_until_it_has(&both);

    api.resume();
    let patience = 4 * SOON;
    let again = eventually(patience, || site.mux.log().contains("discovery works again"));
    assert!(again, "{}", site.mux.log());
    site.wait_until_it_has(&[("up", other.address()), ("up", new.address())]);
    wait_until_used(&pods, &new);
    site.assert_clean(load, &pods, &["discovery has failed"]);
}

#[test]
fn nothing_changes_while_the_api_server_is_down_and_what_was_missed_is_seen_then() {
    bounded(LIMIT, || outage(5 * SECOND));
}

#[test]
#[ignore = "a minute of silence"]
fn stress_nothing_changes_while_the_api_server_is_down_for_a_minute() {
    bounded(3 * LIMIT, || outage(LIMIT));
}

#[test]
fn a_new_list_takes_nobody_away_before_it_is_whole() {
    bounded(LIMIT, || {
        let (api, mut pods) = (KubeApi::start(), Pods::new());
        let (one, other) = (pods.start(small()), pods.start(small()));
        // Two slices, so that there is a half of it.
        api.apply(slice(&pods).ready(&ip(&one)));
        api.apply(
            crate::discovery_kubernetes::Slice::of("shop/php", "php-def")
                .port("fastcgi", pods.port())
                .ready(&ip(&other)),
        );
        let site = Site::start(&api, &pods);
        let both = [("up", one.address()), ("up", other.address())];
        site.wait_until_it_has(&both);
        let all = site.endpoints();
        let load = site.load();
        api.slow_lists(SECOND / 2);
        for round in 1..=2 {
            api.compact();
            wait_until("it lists anew", || {
                assert_eq!(site.endpoints(), all);
                api.count(Verb::List) > round
            });
            wait_until("it watches", || {
                assert_eq!(site.endpoints(), all);
                api.watches() > round
            });
        }
        api.apply(slice(&pods).terminating(&ip(&one)));
        site.wait_until_it_has(&[("draining", one.address()), ("up", other.address())]);
        site.assert_clean(load, &pods, &[]);
    });
}
