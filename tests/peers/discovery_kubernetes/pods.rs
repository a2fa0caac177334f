//! What becomes of pods.

use std::thread;

use nix::sys::signal::Signal;

use super::{LIMIT, SECOND, Site, ip, slice, small, wait_until_used};
use crate::support::{
    Exit, Pods, bounded,
    kubernetes::{KubeApi, Slice},
    since_epoch,
};

#[test]
fn pods_come_get_ready_end_and_go_without_an_error() {
    bounded(LIMIT, || {
        let (api, mut pods) = (KubeApi::start(), Pods::new());
        let (mut old, stays) = (pods.start(small()), pods.start(small()));
        api.apply(slice(&pods).ready(&ip(&old)).ready(&ip(&stays)));
        let site = Site::start(&api, &pods);
        site.wait_until_it_has(&[("up", old.address()), ("up", stays.address())]);
        let load = site.load();
        wait_until_used(&pods, &old);

        // It is started, and not used before it is ready.
        let new = pods.start(small());
        api.apply(slice(&pods).ready(&ip(&old)).ready(&ip(&stays)).unready(&ip(&new)));
        thread::sleep(SECOND / 2);
        assert_eq!(pods.journal().of(&new).count(), 0);
        api.apply(slice(&pods).ready(&ip(&old)).ready(&ip(&stays)).ready(&ip(&new)));
        wait_until_used(&pods, &new);

        // Told to end: nothing new begins there, and nobody keeps a connection to it.
        api.apply(slice(&pods).terminating(&ip(&old)).ready(&ip(&stays)).ready(&ip(&new)));
        let told = since_epoch();
        site.wait_until_it_has(&[("draining", old.address()), ("up", stays.address()), ("up", new.address())]);
        thread::sleep(SECOND);
        let begun: Vec<_> =
            pods.journal().of(&old).map(|run| run.started).filter(|at| *at > told + SECOND / 2).collect();
        assert!(begun.is_empty(), "began behind {told:?}: {begun:?}");
        old.signal(Signal::SIGQUIT);
        assert_eq!(old.wait_exit(SECOND), Some(Exit::Code(0)), "it waits for somebody");
        api.apply(slice(&pods).ready(&ip(&stays)).ready(&ip(&new)));
        site.wait_until_it_has(&[("up", stays.address()), ("up", new.address())]);

        // The address is given to another pod.
        old.start_again();
        let other = Slice::of("shop/php", "php-def").port("fastcgi", pods.port());
        api.apply(other.ready(&ip(&old)));
        wait_until_used(&pods, &old);
        site.assert_clean(load, &pods, &[]);
    });
}

#[test]
fn slices_that_are_packed_anew_disturb_nobody() {
    bounded(LIMIT, || {
        let (api, mut pods) = (KubeApi::start(), Pods::new());
        let (one, other) = (pods.start(small()), pods.start(small()));
        api.apply(slice(&pods).ready(&ip(&one)).ready(&ip(&other)));
        let site = Site::start(&api, &pods);
        let all = [("up", one.address()), ("up", other.address())];
        site.wait_until_it_has(&all);
        let opened = || site.sum("fcgimux_upstream_connections_opened_total");
        let load = site.load();
        wait_until_used(&pods, &one);
        wait_until_used(&pods, &other);

        for (from, to) in [("abc", "def"), ("def", "abc"), ("abc", "def")] {
            let before = opened();
            // Gone here, and a moment later there.
            api.delete(&format!("shop/php-{from}"));
            let to = Slice::of("shop/php", &format!("php-{to}")).port("fastcgi", pods.port());
            api.apply(to.ready(&ip(&one)).ready(&ip(&other)));
            thread::sleep(SECOND / 2);
            assert_eq!(site.endpoints().len(), 2);
            println!("{} connections opened meanwhile", opened() - before);
        }
        let leaving = site.mux.metrics().sum("fcgimux_upstream_connections_closed_total", &[("reason", "leaving")]);
        assert_eq!(leaving, 0.0, "nobody left");
        site.assert_clean(load, &pods, &[]);
    });
}
