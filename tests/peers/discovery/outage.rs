//! The DNS server is gone, or has nothing to say.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{LIMIT, SECOND, SOON, Site, small};
use crate::support::{Dnsmasq, Pods, bounded, eventually, since_epoch, warnings};

const LAST_SUCCESS: &str = "fcgimux_discovery_last_success_timestamp_seconds";

fn site(pods: &Pods, dns: &Dnsmasq) -> Site {
    let endpoint = format!("dns: php.test:{}", pods.port());
    Site::start(pods, &endpoint, "discovery: {refresh: 1s}", &format!("dns: {{servers: [{}]}}", dns.address()))
}

/// Takes the server away for so long under load.
fn outage(lasts: Duration, away: fn(&mut Dnsmasq), back: fn(&mut Dnsmasq)) {
    let mut pods = Pods::new();
    let (one, other) = (pods.start(small()), pods.start(small()));
    let mut dns = Dnsmasq::start(0);
    dns.set("php.test", &[one.address().ip(), other.address().ip()]);
    let site = site(&pods, &dns);
    site.wait_until_it_has(&[one.address(), other.address()]);
    let load = site.load();
    thread::sleep(SECOND);

    away(&mut dns);
    let since = since_epoch();
    thread::sleep(lasts);
    let last = Duration::from_secs_f64(site.sum(LAST_SUCCESS, &[("source", &format!("dns php.test:{}", pods.port()))]));
    assert!(last > since - 2 * SECOND && last < since + SECOND / 2, "last success {last:?}, down since {since:?}");
    let failed: Vec<_> = warnings(&site.mux).into_iter().filter(|line| line.contains("discovery has failed")).collect();
    // Again each minute.
    let reminders = usize::try_from(lasts.as_secs() / 60).expect("a few minutes");
    assert!((1..=1 + reminders).contains(&failed.len()), "{failed:#?}");
    assert!(failed[0].contains("cannot look php.test. up: "), "{failed:?}");
    assert!(!site.mux.log().contains("discovery works again"));
    site.wait_until_it_has(&[one.address(), other.address()]);

    back(&mut dns);
    let again = eventually(2 * SOON, || site.mux.log().contains("discovery works again"));
    assert!(again, "{}", site.mux.log());
    dns.set("php.test", &[other.address().ip()]);
    site.wait_until_it_has(&[other.address()]);
    site.assert_clean(&load.stop(), &pods, &["discovery has failed"]);
}

#[test]
fn nothing_changes_while_the_server_is_down() {
    bounded(LIMIT, || outage(5 * SECOND, Dnsmasq::down, Dnsmasq::up));
}

#[test]
#[ignore = "a minute of silence"]
fn stress_nothing_changes_while_the_server_is_silent_for_a_minute() {
    bounded(3 * LIMIT, || outage(LIMIT, |dns| dns.freeze(), |dns| dns.thaw()));
}

#[test]
fn a_name_without_addresses_is_believed_to_have_none_once_that_has_lasted() {
    bounded(LIMIT, || {
        let mut pods = Pods::new();
        let pod = pods.start(small());
        let mut dns = Dnsmasq::start(0);
        dns.set("php.test", &[pod.address().ip()]);
        let site = site(&pods, &dns);
        site.wait_until_it_has(&[pod.address()]);
        let load = site.load();
        thread::sleep(SECOND);

        dns.set("php.test", &[]);
        thread::sleep(3 * SECOND);
        dns.set("php.test", &[pod.address().ip()]);
        let back = eventually(SOON, || site.mux.log().contains("discovery works again"));
        assert!(back, "{}", site.mux.log());

        dns.set("php.test", &[]);
        let gone = Instant::now();
        thread::sleep(9 * SECOND);
        assert!(site.has(pod.address()), "believed too early");
        site.assert_clean(&load.stop(), &pods, &["php.test. does not exist"]);
        let believed = eventually(3 * SECOND, || !site.has(pod.address()));
        assert!(believed, "still there after {:?}", gone.elapsed());
        assert_eq!(site.sum("fcgimux_discovery_endpoints", &[]), 0.0);
        let told = warnings(&site.mux).iter().any(|line| line.contains("it has no endpoints any more"));
        assert!(told, "{}", site.mux.log());

        dns.set("php.test", &[pod.address().ip()]);
        site.wait_until_it_has(&[pod.address()]);
        site.request().assert_clean();
    });
}
