//! A name with many addresses.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use nix::sys::signal::Signal;

use super::{LIMIT, SECOND, SOON, Site, endpoints, small, wait_until_used};
use crate::support::{Dnsmasq, Exit, PhpFpm, Pod, Pods, bounded, eventually, since_epoch};

fn ips(pods: &[&Pod]) -> Vec<IpAddr> {
    pods.iter().map(|pod| pod.address().ip()).collect()
}

#[test]
fn addresses_that_come_and_go_are_used_and_let_go_without_an_error() {
    bounded(LIMIT, || {
        let mut pods = Pods::new();
        let (mut old, stays, new) = (pods.start(small()), pods.start(small()), pods.start(small()));
        let mut dns = Dnsmasq::start(0);
        dns.set("php.test", &ips(&[&old, &stays]));
        let (endpoint, servers) = (format!("dns: php.test:{}", pods.port()), dns.address());
        let site = Site::start(&pods, &endpoint, "discovery: {refresh: 1s}", &format!("dns: {{servers: [{servers}]}}"));
        site.wait_until_it_has(&[old.address(), stays.address()]);
        let load = site.load();
        wait_until_used(&pods, &old);

        dns.set("php.test", &ips(&[&old, &stays, &new]));
        wait_until_used(&pods, &new);

        dns.set("php.test", &ips(&[&stays, &new]));
        let removed = since_epoch();
        site.wait_until_it_has(&[stays.address(), new.address()]);
        // It asks every second, and what has begun to be sent then is sent.
        let late = removed + SECOND + SECOND / 2;
        std::thread::sleep(SECOND);
        let too_late: Vec<_> =
            pods.journal().of(&old).filter(|run| run.started > late).map(|run| run.started - removed).collect();
        assert!(too_late.is_empty(), "began behind the removal: {too_late:?}");
        // Nobody keeps a connection to it.
        let asked = Instant::now();
        old.signal(Signal::SIGQUIT);
        assert_eq!(old.wait_exit(SECOND), Some(Exit::Code(0)), "{:?} behind the signal", asked.elapsed());

        old.start_again();
        dns.set("php.test", &ips(&[&new, &old, &stays]));
        wait_until_used(&pods, &old);
        site.wait_until_it_has(&[old.address(), stays.address(), new.address()]);
        site.assert_clean(&load.stop(), &pods, &[]);
    });
}

#[test]
fn two_hundred_addresses_are_found_although_they_do_not_fit_into_a_packet() {
    bounded(LIMIT, || {
        let mut pods = Pods::new();
        // One that listens at all of them.
        let _pod = pods.start_at(Ipv4Addr::UNSPECIFIED.into(), PhpFpm::pool(8));
        let all: Vec<IpAddr> = (1..=200).map(|last| Ipv4Addr::new(127, 0, 77, last).into()).collect();
        let mut dns = Dnsmasq::start(0);
        dns.set("php.test", &all);
        let (endpoint, servers) = (format!("dns: php.test:{}", pods.port()), dns.address());
        let site = Site::start(&pods, &endpoint, "discovery: {refresh: 1s}", &format!("dns: {{servers: [{servers}]}}"));
        let complete = |count: usize| eventually(SOON, || endpoints(&site.mux.metrics()) == count);
        assert!(complete(200), "{}", site.mux.log());
        for _ in 0..20 {
            site.request().assert_clean();
        }
        dns.set("php.test", &all[..150]);
        assert!(complete(150), "{}", site.mux.log());
        site.request().assert_clean();
        assert_eq!(site.sum("fcgimux_discovery_endpoints", &[("pool", "default")]), 150.0);
        site.before.assert_nothing_left(&site.mux, &[]);
    });
}

#[test]
fn a_failed_connect_has_the_name_asked_before_its_time() {
    bounded(LIMIT, || {
        let mut pods = Pods::new();
        let (mut old, new) = (pods.start(small()), pods.start(small()));
        let mut dns = Dnsmasq::start(600);
        dns.set("php.test", &ips(&[&old]));
        let (endpoint, servers) = (format!("dns: php.test:{}", pods.port()), dns.address());
        let top = format!("dns: {{servers: [{servers}]}}");
        let site = Site::start(&pods, &endpoint, "discovery: {refresh: 60s}", &top);
        site.wait_until_it_has(&[old.address()]);
        site.request().assert_clean();
        dns.set("php.test", &ips(&[&new]));
        std::thread::sleep(2 * SECOND);
        assert!(site.has(old.address()), "asked without a reason");
        old.kill();
        // It waits in the queue until there is somebody to connect to.
        let asked = Instant::now();
        site.request().assert_clean();
        println!("answered after {:.1?}", asked.elapsed());
        site.wait_until_it_has(&[new.address()]);
    });
}

#[test]
fn a_name_of_the_hosts_file_needs_no_server() {
    bounded(LIMIT, || {
        let mut pods = Pods::new();
        let pod = pods.start_at(Ipv4Addr::LOCALHOST.into(), small());
        let endpoint = format!("dns: localhost:{}", pods.port());
        let site = Site::start(&pods, &endpoint, "", "dns: {servers: [\"127.0.0.1:9\"]}");
        site.wait_until_it_has(&[pod.address()]);
        site.request().assert_clean();
        site.before.assert_nothing_left(&site.mux, &[]);
    });
}
