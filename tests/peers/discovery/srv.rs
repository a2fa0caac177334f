//! Services with ports and weights of their own.

use super::{LIMIT, SECOND, Site, small, wait_until_used};
use crate::support::{Dnsmasq, PhpFpm, Pods, Port, bounded};

#[test]
fn targets_of_a_service_are_used_at_their_ports_and_a_reserve_when_they_are_gone() {
    bounded(LIMIT, || {
        let mut pods = Pods::new();
        let (first, reserve) = (pods.start(small()), pods.start(small()));
        // The same host as the first, and another port.
        let port = Port::free();
        let address = (first.address().ip(), port.number()).into();
        let _second: PhpFpm = small().at(address).set("env[POD]", "second").start();
        let mut dns = Dnsmasq::start(0);
        dns.set("one.test", &[first.address().ip()]);
        dns.set("two.test", &[reserve.address().ip()]);
        let (own, other) = (pods.port(), port.number());
        let service = "_fastcgi._tcp.php.test";
        let reserved = (20, 0, own, "two.test");
        dns.set_services(service, &[(10, 10, own, "one.test"), (10, 30, other, "one.test"), reserved]);

        let top = format!("dns: {{servers: [{}]}}", dns.address());
        let site = Site::start(&pods, &format!("srv: {service}"), "discovery: {refresh: 1s}", &top);
        site.wait_until_it_has(&[first.address(), address]);
        let weight = |address: &str| site.sum("fcgimux_endpoint_weight", &[("endpoint", address)]);
        let weights = [first.address(), address].map(|address| weight(&address.to_string()));
        assert_eq!(weights, [1.0, 3.0]);
        let load = site.load();
        wait_until_used(&pods, &first);
        let in_second = || pods.journal().runs.iter().filter(|run| run.pod == "second").count();
        std::thread::sleep(SECOND);
        assert!(in_second() > 0, "nothing runs at the other port");

        dns.set_services(service, &[reserved]);
        wait_until_used(&pods, &reserve);
        site.wait_until_it_has(&[reserve.address()]);
        // The server is down for a moment while its services change.
        site.assert_clean(&load.stop(), &pods, &["discovery has failed for 0 s"]);
    });
}
