//! What looking costs those who are served.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{LIMIT, SECOND};
use crate::support::{Fcgimux, Load, Nginx, PhpFpm, Request, bounded, get, in_three_attempts};

/// A scrape each second and so many open pages.
const PAGES: usize = 3;

#[test]
#[ignore = "takes a minute, and compares tails of latencies"]
fn stress_looking_each_second_costs_no_request_a_millisecond() {
    bounded(4 * LIMIT, || {
        let php = PhpFpm::pool(4).start();
        let mux = Fcgimux::to(php.address()).pool("connections: {per_endpoint: 4}").start();
        let nginx = Nginx::site(&php.scripts(), mux.socket()).start();
        in_three_attempts(|| {
            let looked = Arc::new(AtomicBool::new(false));
            let label = Arc::clone(&looked);
            // More at once than there are workers: some wait at any time.
            let load = Load::on(nginx.address(), move |_| {
                let label = if label.load(Ordering::Relaxed) { "looked at" } else { "left alone" };
                Request::echo("GET", 100).micros(2_000).label(label)
            });
            let load = load.clients(12).duration(60 * SECOND).start();
            let over = Arc::new(AtomicBool::new(false));
            let lookers: Vec<_> = (0..=PAGES)
                .map(|number| {
                    let path = if number == 0 { "/metrics" } else { "/overview" };
                    let (address, looked, over) = (mux.admin(), Arc::clone(&looked), Arc::clone(&over));
                    thread::spawn(move || {
                        let mut looks = 0;
                        while !over.load(Ordering::Relaxed) {
                            if looked.load(Ordering::Relaxed) {
                                assert_eq!(get(address, path, 5 * SECOND).expect(path).status, 200);
                                looks += 1;
                                thread::sleep(SECOND);
                            } else {
                                thread::sleep(Duration::from_millis(5));
                            }
                        }
                        looks
                    })
                })
                .collect();
            // In turns, so that whatever else the machine does meets both.
            while load.is_running() {
                thread::sleep(2 * SECOND);
                looked.fetch_xor(true, Ordering::Relaxed);
            }
            let report = load.finish();
            over.store(true, Ordering::Relaxed);
            let looks: Vec<u64> = lookers.into_iter().map(|looker| looker.join().expect("a looker")).collect();
            report.assert_clean();
            assert!(looks.iter().all(|looks| *looks > 20), "{looks:?}");
            let [alone, watched] = ["left alone", "looked at"].map(|label| report.quantile(label, 0.999));
            println!("{report}p99.9 left alone {alone:.1?}, looked at {watched:.1?}; looks {looks:?}");
            if watched <= alone + Duration::from_millis(1) { Ok(()) } else { Err(format!("{alone:?}, {watched:?}")) }
        });
    });
}
