//! What both installations of an application share: a database, one php-fpm, and fcgimux before it for one of them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::normal::Names;
use crate::support::{Before, Fcgimux, Folder, Mariadb, PhpFpm, Port, eventually, sockets::TimeWait};

const WORKERS: usize = 12;
/// Of the workers: the rest is for requests past fcgimux, and for requests that an application sends to itself.
const CONNECTIONS: usize = 6;
/// Scripts may work on behind their answers.
const CALM: Duration = Duration::from_secs(20);
const EXECUTED: &str = "executed.log";

pub(super) struct Stage {
    pub(super) folder: Folder,
    pub(super) database: Mariadb,
    pub(super) mux: Fcgimux,
    _php: PhpFpm,
    port: Port,
    before: Before,
}

impl Stage {
    /// Needs a network of its own: php-fpm listens on all its addresses, so that connections past fcgimux can be told apart.
    #[track_caller]
    pub(super) fn start() -> Self {
        let (folder, database, port) = (Folder::new(), Mariadb::start(), Port::free());
        let path = |name: &str| folder.join(name).display().to_string();
        folder.subfolder("sessions");
        let php = PhpFpm::pool(WORKERS)
            .at(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.number())))
            .ini("mysqli.default_socket", &database.socket().display().to_string())
            .ini("session.save_path", &path("sessions"))
            .ini("memory_limit", "256M")
            .ini("upload_max_filesize", "32M")
            .ini("post_max_size", "64M")
            // What scripts complain of goes to the web server, as by default.
            .ini("error_log", "")
            .set("access.log", &path(EXECUTED))
            .set("access.format", "%{HTTP_HOST}e %m %{REQUEST_URI}e %s")
            .start();
        let mux = Fcgimux::to(port.address()).pool(&format!("connections: {{per_endpoint: {CONNECTIONS}}}")).start();
        let before = Before::of(&mux);
        Self { folder, database, mux, _php: php, port, before }
    }

    /// php-fpm's address past fcgimux.
    pub(super) fn direct(&self) -> String {
        format!("127.0.0.2:{}", self.port.number())
    }

    /// What php-fpm executed for one web server and not, or not as often, for the other.
    pub(super) fn executed_otherwise(&self, direct: SocketAddr, through: SocketAddr) -> Vec<String> {
        let mut found = Vec::new();
        // A line is written when a script has ended, which may be later than its answer.
        eventually(CALM, || {
            let [direct, through] = [direct, through].map(|server| self.executed(server));
            let requests = direct.keys().chain(through.keys());
            found = requests
                .map(|request| (request, [&direct, &through].map(|all| all.get(request).copied().unwrap_or_default())))
                .filter(|(_, [direct, through])| direct != through)
                .map(|(request, [direct, through])| format!("executed: {request}: {direct} direct, {through} through"))
                .collect();
            found.is_empty()
        });
        found
    }

    /// How often each request was executed. Not WordPress's calls of its own wp-cron: two pages at once may send one each.
    fn executed(&self, server: SocketAddr) -> BTreeMap<String, usize> {
        let (log, prefix) = (self.folder.read(EXECUTED), format!("{server} "));
        let names = Names::default().read(&server.to_string(), "HOST");
        let mut executed = BTreeMap::new();
        for line in
            log.lines().filter_map(|line| line.strip_prefix(&prefix)).filter(|line| !line.contains("/wp-cron.php"))
        {
            *executed.entry(names.normal(line)).or_default() += 1;
        }
        executed
    }

    pub(super) fn figures(&self) -> String {
        let metrics = self.mux.metrics();
        let [requests, opened] = ["requests_total", "upstream_connections_opened_total"]
            .map(|name| metrics.sum(&format!("fcgimux_{name}"), &[]));
        let direct = TimeWait::at(self.direct().parse().expect("an address")).total();
        format!("fcgimux: {requests} requests over {opened} connections; TIME_WAIT sockets past it: {direct}")
    }

    /// Fails unless fcgimux has only done what it is there for, and rests.
    #[track_caller]
    pub(super) fn assert_clean(&self) {
        self.before.assert_nothing_left(&self.mux, &[]);
        let metrics = self.mux.metrics();
        let all = metrics.sum("fcgimux_requests_total", &[]);
        let ok = metrics.sum("fcgimux_requests_total", &[("outcome", "ok")]);
        assert!(all > 0.0 && ok == all, "{all} requests, {ok} of them ok:\n{}", self.mux.page("/metrics").1);
        for name in ["fcgimux_refused_total", "fcgimux_retries_total", "fcgimux_dropped_records_total"] {
            assert!(metrics.has(name), "no metric {name}");
            assert_eq!(metrics.sum(name, &[]), 0.0, "{name}");
        }
        let time_wait = TimeWait::at(self.port.address());
        assert_eq!(time_wait, TimeWait::default(), "left behind by fcgimux");
    }
}
