//! Pods, and those who send to them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use crate::support::{Before, Fcgimux, PhpFpm, Port, fcgi::Call, sockets::TimeWait};

const PODS: usize = 3;
const CHILDREN: usize = 8;
/// Of all pods together.
pub(crate) const WORKERS: usize = PODS * CHILDREN;

pub(crate) struct Stage {
    pods: Vec<PhpFpm>,
    muxes: Vec<Fcgimux>,
    before: Vec<Before>,
    /// Of all pods: that of the workers, and that of the status page.
    ports: [Port; 2],
}

impl Stage {
    /// So many programs in front of the same pods; `status`: they read the status page.
    pub(crate) fn sidecars(count: usize, status: bool) -> Self {
        // Two stages have no address in common.
        static HOSTS: AtomicU8 = AtomicU8::new(1);
        let ports = [(); 2].map(|()| Port::free());
        let host = || Ipv4Addr::new(127, 0, 7, HOSTS.fetch_add(1, Ordering::Relaxed));
        let hosts: Vec<_> = (0..PODS).map(|_| IpAddr::from(host())).collect();
        let [workers, pages] = [0, 1].map(|port: usize| {
            let port = ports[port].number();
            hosts.iter().map(|host| SocketAddr::from((*host, port))).collect::<Vec<_>>()
        });
        let pods = workers.iter().zip(&pages).map(|(workers, page)| {
            let pool = PhpFpm::pool(CHILDREN).at(*workers).set("pm.status_path", "/status");
            pool.set("pm.status_listen", &page.to_string()).start()
        });
        let pods = pods.collect();
        let mux = || {
            let setup = workers[1..].iter().fold(Fcgimux::to(workers[0]), |setup, address| setup.and(address));
            let setup = setup.pool(&format!("connections: {{per_endpoint: {CHILDREN}}}"));
            let status = status.then(|| format!("status: {{port: {}}}", ports[1].number()));
            status.iter().fold(setup, |setup, line| setup.pool(line)).start()
        };
        let muxes: Vec<_> = (0..count).map(|_| mux()).collect();
        let before = muxes.iter().map(|mux| {
            // Both its threads run: all its files are open.
            mux.connect().fence(Duration::from_secs(5)).expect("an answer of its own");
            mux.metrics();
            Before::of(mux)
        });
        let before = before.collect();
        Self { pods, muxes, before, ports }
    }

    /// One program in front of as many pods of its own: the best that can be had.
    pub(crate) fn one_queue() -> Self {
        Self::sidecars(1, false)
    }

    /// A socket for each of so many sidecars, in place of which there may be one.
    pub(crate) fn sockets(&self, sidecars: usize) -> Vec<PathBuf> {
        (0..sidecars).map(|index| self.muxes[index % self.muxes.len()].socket()).collect()
    }

    pub(crate) fn call(&self, token: &str, service: Duration) -> Call {
        let query = format!("token={token}&us={}", service.as_micros());
        Call::get(&self.pods[0].script("echo.php")).query(&query).last()
    }

    /// Lines of the logs at WARN and ERROR must each hold one of `expected`.
    pub(crate) fn assert_nothing_left(&self, expected: &[&str]) {
        for (mux, before) in self.muxes.iter().zip(&self.before) {
            before.assert_nothing_left(mux, expected);
        }
        let time_wait = self.ports.each_ref().map(|port| TimeWait::of(port.number()).total());
        assert_eq!(time_wait, [0, 0], "sockets in TIME_WAIT at the workers' port and at that of the status page");
    }
}
