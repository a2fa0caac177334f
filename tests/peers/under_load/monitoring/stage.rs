//! Two php-fpm pods and one that is not there, behind nginx and the program, seen by Prometheus.

use std::{net::SocketAddr, path::Path, thread, time::Duration};

use nix::sys::signal::Signal;

use super::prometheus::Prometheus;
use crate::support::{Fcgimux, Folder, Load, Nginx, PhpFpm, Port, Report, Request, eventually, wait_until};

pub(crate) const CHILDREN: usize = 4;
/// What is scraped each second is there within this.
const SCRAPED: Duration = Duration::from_secs(5);

pub(crate) struct Stage {
    /// The first stays; the second is listed in a file and dies in the end.
    pub(crate) pods: Vec<PhpFpm>,
    pub(crate) mux: Fcgimux,
    pub(crate) nginx: Nginx,
    pub(crate) prometheus: Prometheus,
    /// All pods': of the workers, and of the status page.
    pub(crate) ports: [Port; 2],
    config: String,
    _list: Folder,
}

impl Stage {
    pub(crate) fn start() -> Self {
        let (ports, list) = ([(); 2].map(|()| Port::free()), Folder::new());
        let [workers, page] = [0, 1].map(|index: usize| ports[index].number());
        let host = |number: u8, port: u16| SocketAddr::from(([127, 0, 9, number], port));
        let pods = [1, 2].map(|number| pod(host(number, workers), host(number, page), list.path()));
        // Nobody is there at the third.
        let listed: String = [2, 3].iter().map(|number| format!("- address: {}\n", host(*number, workers))).collect();
        let listed = list.write("endpoints.yaml", &listed).display().to_string();
        let config = format!(
            "listeners: [{{socket: {{socket}}, mode: \"0666\", pool: shop}}]\n\
             pools:\n  shop:\n    endpoints: [{{address: \"{}\"}}, {{file: {listed}}}]\n    status: {{port: {page}}}\n    \
             connections: {{per_endpoint: {CHILDREN}}}\n    queue: {{depth: 24, timeout: 600ms}}\n\
             admin: {{listen: {{admin}}}}\n",
            host(1, workers)
        );
        let mux = Fcgimux::yaml(&config);
        let nginx = Nginx::site(&pods[0].scripts(), mux.socket()).start();
        let prometheus = Prometheus::start(mux.admin());
        let stage = Self { pods: pods.into(), mux, nginx, prometheus, ports, config, _list: list };
        wait_until("the first scrape", || stage.prometheus.sum("fcgimux_build_info") == 1.0);
        stage
    }

    /// Four in five are GETs with this time in PHP; the others are POSTs. Who is refused takes a breath before the next.
    pub(crate) fn load(&self, clients: usize, rate: Option<f64>, service: Duration, lasts: Duration) -> Report {
        let micros = u64::try_from(service.as_micros()).expect("a short time");
        let make = move |number| match number % 5 {
            0 => Request::echo("POST", 100).body(2_000, number).micros(micros),
            _ => Request::echo("GET", 2_000).micros(micros),
        };
        let load = Load::on(self.nginx.address(), make).clients(clients).duration(lasts).pause(service / 2);
        rate.into_iter().fold(load, Load::rate).run()
    }

    /// A file that cannot be loaded, and a signal to load it.
    pub(crate) fn break_configuration(&self) {
        self.mux.rewrite(&(self.config.clone() + "nonsense: 1\n"));
        self.mux.signal(Signal::SIGHUP);
    }

    /// Waits until Prometheus has the same value as the outside: a scrape, and as much for a busy machine.
    #[track_caller]
    pub(crate) fn agrees(&self, what: &str, expr: &str, truth: impl Fn() -> f64) {
        let mut seen = (0.0, 0.0);
        let agrees = eventually(SCRAPED, || {
            seen = (self.prometheus.sum(expr), truth());
            if seen.0 != seen.1 {
                thread::sleep(Duration::from_millis(100));
            }
            seen.0 == seen.1
        });
        assert!(agrees, "{what}: Prometheus has {}, the truth is {}", seen.0, seen.1);
        println!("{what}: {}", seen.1);
    }

    /// Lines that all workers together have written: one for each request that PHP has run.
    pub(crate) fn run_by_php(&self) -> usize {
        let logs = [1, 2].map(|number| self._list.read(&format!("access-127.0.9.{number}")));
        logs.iter().map(|log| log.lines().filter(|line| line.contains("echo.php")).count()).sum()
    }
}

fn pod(workers: SocketAddr, page: SocketAddr, logs: &Path) -> PhpFpm {
    let log = logs.join(format!("access-{}", workers.ip()));
    PhpFpm::pool(CHILDREN)
        .at(workers)
        .set("pm.status_path", "/status")
        .set("pm.status_listen", &page.to_string())
        .set("access.log", &log.display().to_string())
        .set("access.format", "%m %r")
        .start()
}
