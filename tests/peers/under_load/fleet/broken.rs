//! Pods that connect and do not serve, no pods at all, and what is said of it.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Fcgimux, Load, Measures, PhpFpm, Pod, Pods, Request, bounded, eventually,
    fcgi::{Call, Reply},
    since_epoch,
};
use crate::under_load::fleet::{
    MILLISECOND, SECOND,
    echoes::{Echoes, ask},
    list::{Endpoints, List},
    site::{Site, items, mixed},
};

/// Requests that a broken pod may cost until it is left alone.
const FEW: u64 = 10;

fn start(echoes: &Echoes) -> Fcgimux {
    let items: String = echoes.items().iter().map(|item| format!("      - {item}\n")).collect();
    Fcgimux::yaml(&format!(
        "listeners:\n  - socket: {{socket}}\n    pool: default\npools:\n  default:\n    endpoints:\n{items}\
         admin: {{listen: {{admin}}}}\n"
    ))
}

fn is_up(measures: &Measures, echoes: &Echoes, index: usize) -> bool {
    measures.sum("fcgimux_endpoint_up", &[("endpoint", &echoes.address(index).to_string())]) == 1.0
}

/// Asks 200 times a second for so long; everybody is served.
fn ask_all(mux: &Fcgimux, time: Duration) {
    let asked = ask(&mux.socket(), 4, 200.0, time);
    assert!(asked.wrong.is_empty(), "{:?}", asked.wrong);
}

#[test]
fn pods_that_hang_up_on_their_requests_are_left_alone_until_they_are_mended_but_never_most_of_them() {
    bounded(60 * SECOND, || {
        let echoes = Echoes::start(4);
        let mux = start(&echoes);
        let ejected = || {
            let measures = mux.metrics();
            (0..4).filter(|index| !is_up(&measures, &echoes, *index)).collect::<Vec<_>>()
        };
        ask_all(&mux, SECOND / 2);
        echoes.hang_up(1, true);
        let before = echoes.requests()[1];
        // All are GETs, which the others serve.
        let alone = eventually(5 * SECOND, || {
            ask_all(&mux, SECOND / 2);
            ejected() == [1]
        });
        let cost = echoes.requests()[1] - before;
        println!("one broken: it was sent {cost} requests");
        assert!(alone && cost <= FEW, "{cost}; {:?}", ejected());
        echoes.hang_up(1, false);
        let (mended, before) = (Instant::now(), echoes.requests()[1]);
        let is_used = || {
            ask_all(&mux, SECOND / 5);
            echoes.requests()[1] >= before + 10
        };
        let used = eventually(6 * SECOND, is_used).then(|| mended.elapsed());
        println!("used {used:.1?} after it was mended");
        assert!(used.is_some_and(|after| after <= 5 * SECOND), "{used:?}");

        (1..4).for_each(|index| echoes.hang_up(index, true));
        let mut most = 0;
        for _ in 0..6 {
            ask(&mux.socket(), 4, 200.0, SECOND / 5);
            most = most.max(ejected().len());
        }
        println!("{most} of 4 were left alone at once; requests {:?}", echoes.requests());
        assert!((1..=2).contains(&most), "{most}");
    });
}

/// A GET as nginx sends it, past nginx.
fn call(site: &Site, pods: &Pods, limit: Duration) -> Reply {
    let script = pods.scripts().join("echo.php").display().to_string();
    site.mux.call(&Call::get(&script).query("token=alone"), limit)
}

#[test]
fn without_a_living_pod_requests_are_refused_at_once_and_served_when_one_is_back() {
    bounded(60 * SECOND, || {
        let mut pods = Pods::new();
        let mut three: Vec<_> = (0..3).map(|_| pods.start(PhpFpm::pool(2))).collect();
        let site = Site::start(&pods, &items(&three.iter().collect::<Vec<_>>()), &["timeouts: {connect: 500ms}"]);
        Load::on(site.nginx.address(), mixed(1_000)).clients(6).count(60).run().assert_clean();
        three.iter_mut().for_each(Pod::kill);
        // Those that come first find out.
        let down = eventually(2 * SECOND, || {
            call(&site, &pods, 5 * SECOND);
            three.iter().all(|pod| !site.is_up(pod))
        });
        assert!(down, "{}", site.mux.page("/metrics").1);
        let start = Instant::now();
        let reply = call(&site, &pods, 5 * SECOND);
        let took = start.elapsed();
        let (text, stderr) = (reply.text(), String::from_utf8_lossy(&reply.stderr).into_owned());
        println!("refused after {took:.1?}: {text:?} {stderr:?}");
        reply.hung_up();
        assert!(stderr.contains("no endpoint is up"), "{text} {stderr}");
        assert!(took <= 100 * MILLISECOND, "{took:?}");
        let back = Instant::now();
        three.iter_mut().for_each(Pod::start_again);
        let served = eventually(6 * SECOND, || call(&site, &pods, 5 * SECOND).text().contains("alone"));
        let after = back.elapsed();
        println!("served {after:.2?} after they were started again");
        assert!(served && after <= 5 * SECOND, "{after:?}");
        let used = eventually(5 * SECOND, || three.iter().all(|pod| site.is_up(pod)));
        assert!(used, "{}", site.mux.page("/metrics").1);
    });
}

#[test]
fn requests_wait_where_the_list_of_endpoints_is_empty_and_are_served_by_the_first() {
    bounded(60 * SECOND, || {
        let mut pods = Pods::new();
        let endpoints = Endpoints::of(&[]);
        let site = Site::listing(&pods, &endpoints, &["queue: {timeout: 1500ms}"]);
        let load = Load::on(site.nginx.address(), |_| Request::echo("POST", 100)).clients(8).count(8).start();
        thread::sleep(SECOND / 5);
        let pod = pods.start(PhpFpm::pool(4));
        let published = since_epoch();
        endpoints.publish(&[&pod], None);
        let report = load.finish();
        let journal = pods.journal();
        let first = journal.of(&pod).next().expect("it ran").started.saturating_sub(published);
        println!("{report}served {first:.2?} after the first endpoint was published");
        report.assert_clean();
        assert!(first <= SECOND + SECOND / 2, "{first:?}");
        journal.assert_posts_once();
        // And gone again: they wait once more, and for no longer than the queue's timeout.
        endpoints.publish(&[], None);
        assert!(eventually(2 * SECOND, || !site.lists(&pod)), "{}", site.mux.page("/metrics").1);
        let start = Instant::now();
        let reply = call(&site, &pods, 10 * SECOND);
        println!(
            "refused after {:.1?}: {:?} {:?}",
            start.elapsed(),
            reply.text(),
            String::from_utf8_lossy(&reply.stderr)
        );
        assert_eq!(reply.http_status(), 503, "{}", reply.text());
        assert!((1_400..2_500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    });
}
