//! What follows from what was seen: remarks, and the settings to use on both sides.

use std::{fmt::Write, time::Duration};

use fcgimux::mux::scoreboard::{Manager, Scoreboard};

use super::{
    Doctor,
    findings::{Findings, Nature, STALL},
    php_conf::{PhpConf, Settings},
};

/// `connections.idle_timeout` where nothing else is set: how long a connection may be idle, which php-fpm counts.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// `connections.per_endpoint` where nothing is set.
const DEFAULT_PER_ENDPOINT: u64 = 8;
/// Workers kept free of sidecars: for somebody who looks, or comes by another way.
const RESERVE: u64 = 1;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It will hurt.
    Warning,
    /// It is good to know.
    Note,
}

#[derive(Clone, Debug)]
pub(super) struct Remark {
    pub(super) weight: Weight,
    /// For scripts.
    pub(super) word: &'static str,
    pub(super) text: String,
}

/// All of it, and what to set.
#[derive(Debug)]
pub(super) struct Advice {
    pub(super) remarks: Vec<Remark>,
    /// A configuration of fcgimux, where there is none in between yet.
    pub(super) fcgimux: Option<String>,
    /// For php-fpm's configuration, where it is php-fpm.
    pub(super) php_fpm: Option<String>,
}

/// What is under way.
struct Writer<'a> {
    doctor: &'a Doctor,
    findings: &'a Findings,
    conf: Option<&'a PhpConf>,
    remarks: Vec<Remark>,
}

impl Advice {
    pub(super) fn new(doctor: &Doctor, findings: &Findings, conf: Option<&PhpConf>) -> Self {
        let mut writer = Writer { doctor, findings, conf, remarks: vec![] };
        let nature = findings.nature();
        writer.connections();
        if nature == Nature::PhpFpm {
            writer.budget();
            writer.workers();
            writer.php_fpm_conf();
            writer.unread_bodies();
        }
        writer.look_of_things();
        let fcgimux = (nature != Nature::Multiplexer).then(|| writer.fcgimux_settings());
        let php_fpm = (nature == Nature::PhpFpm).then(|| writer.php_fpm_settings());
        writer.remarks.sort_by_key(|remark| remark.weight != Weight::Warning);
        Self { remarks: writer.remarks, fcgimux, php_fpm }
    }

    pub(super) fn has_warnings(&self) -> bool {
        self.remarks.iter().any(|remark| remark.weight == Weight::Warning)
    }
}

impl Writer<'_> {
    fn add(&mut self, weight: Weight, word: &'static str, text: impl Into<String>) {
        self.remarks.push(Remark { weight, word, text: text.into() });
    }

    fn warn(&mut self, word: &'static str, text: impl Into<String>) {
        self.add(Weight::Warning, word, text);
    }

    fn note(&mut self, word: &'static str, text: impl Into<String>) {
        self.add(Weight::Note, word, text);
    }

    /// Does it keep them?
    fn connections(&mut self) {
        let findings = self.findings;
        if findings.nature() == Nature::Multiplexer {
            self.note(
                "behind_fcgimux",
                "what answers is something like fcgimux: look at the application behind it for what to set.",
            );
        }
        if !findings.keeps_behind_values && findings.nature() == Nature::PhpFpm {
            let php = findings.php().map(|version| format!("PHP {version} ")).unwrap_or_default();
            self.warn(
                "old_php",
                format!(
                    "{php}closes the connection behind GET_VALUES, as PHP before 8.2.13 does (or a worker that is being \
                     stopped): fcgimux then opens a connection for each request. Use PHP 8.2.13 or newer."
                ),
            );
        } else if !findings.keeps_behind_values {
            self.warn("closes_behind_values", "the connection is closed behind GET_VALUES: nothing can be kept");
        }
        if findings.keeps_behind_request == Some(false) {
            self.warn(
                "closes_behind_request",
                "the connection is closed behind a request although it was to be kept: is there a pm.max_requests that \
                 was just reached? Otherwise nothing can be kept.",
            );
        }
        if let Some(failed) = &findings.request_failed {
            self.warn("request_failed", format!("a request failed: {failed}"));
        }
    }

    /// Are there workers for all?
    fn budget(&mut self) {
        let (sidecars, Some(children)) = (self.doctor.sidecars, self.max_children()) else {
            return self.note(
                "max_children_unknown",
                "pm.max_children cannot be seen (pm = static shows it on the status page; --php-fpm-conf tells it): it \
                 must be larger than per_endpoint times the number of sidecars.",
            );
        };
        let wanted = self.doctor.per_endpoint.unwrap_or(1) * sidecars;
        if self.doctor.per_endpoint.is_none() && children < DEFAULT_PER_ENDPOINT * sidecars + RESERVE {
            self.note(
                "default_per_endpoint",
                format!(
                    "with its default per_endpoint, {DEFAULT_PER_ENDPOINT}, fcgimux could hold all {children} workers: set it as \
                     below."
                ),
            );
        }
        if children < wanted + RESERVE {
            let (least, planned, fits) = (wanted + RESERVE, self.doctor.per_endpoint.unwrap_or(1), self.per_endpoint());
            let or =
                if fits < planned { format!("lower per_endpoint to {fits}") } else { "use fewer sidecars".to_owned() };
            self.warn(
                "max_children",
                format!(
                    "pm.max_children is {children}, and {wanted} workers can be held (per_endpoint {planned}, sidecars \
                     {sidecars}): raise it to {least} or more, or {or}."
                ),
            );
        }
    }

    /// What the status page says of them.
    fn workers(&mut self) {
        let Ok(status) = &self.findings.status else {
            let said = self.findings.status.as_ref().err().cloned().unwrap_or_default();
            return self.note("no_status_page", format!("there is no status page to read: {said}"));
        };
        let board = &status.board;
        if board.manager == Manager::Ondemand {
            self.ondemand();
        }
        if board.max_children_reached > 0 {
            self.warn(
                "max_children_reached",
                format!(
                    "all workers were busy {} times since the start: raise pm.max_children.",
                    board.max_children_reached
                ),
            );
        }
        if let Some(waiting @ 1..) = board.queue() {
            self.warn(
                "listen_queue",
                format!("{waiting} connections wait for a worker right now: there are too few, or others keep them."),
            );
        }
        // One answers us, unless it is asked where no worker is needed.
        if board.idle() == 0 && board.manager == Manager::Static {
            self.note("all_busy", format!("no worker is idle: {}.", held(board)));
        }
        let (is_apart, at) = (status.address != self.findings.address, &status.address);
        if !is_apart {
            self.note(
                "status_costs_a_worker",
                format!(
                    "the status page is read at {at}, where it takes a worker: set pm.status_listen, and name it with \
                     --status-address."
                ),
            );
        }
    }

    /// What is in its file.
    fn php_fpm_conf(&mut self) {
        let Some(conf) = self.conf else {
            return self.note(
                "process_control_timeout",
                "process_control_timeout cannot be seen from outside (--php-fpm-conf FILE reads it). With 0, the default, each \
                 reload and stop kills the requests that run.",
            );
        };
        if conf.global().duration("process_control_timeout").is_none_or(|timeout| timeout.is_zero()) {
            self.warn(
                "process_control_timeout",
                "process_control_timeout is 0: each reload and stop of php-fpm kills the requests that run. Set it to the \
                 longest request or more.",
            );
        }
        let Some((name, pool)) = self.pool() else {
            return self.warn(
                "pool_not_found",
                format!("no pool of the file listens at {}: is it the file of another php-fpm?", self.findings.address),
            );
        };
        let (name, pool) = (name.to_owned(), pool.clone());
        if pool.get("pm") == Some("ondemand") && self.findings.status.is_err() {
            self.ondemand();
        }
        if pool.duration("request_terminate_timeout").is_some_and(|limit| !limit.is_zero() && limit <= IDLE_TIMEOUT) {
            self.warn(
                "request_terminate_timeout",
                format!(
                    "request_terminate_timeout of pool {name} counts idle time as well: keep idle_timeout of fcgimux (30s) \
                     below it, and its heartbeat on."
                ),
            );
        }
        if pool.get("listen.allowed_clients").is_none() && self.findings.address.contains(':') {
            self.note(
                "allowed_clients",
                format!("pool {name} has no listen.allowed_clients: whoever reaches its port runs code."),
            );
        }
        if pool.get("pm.status_path").is_some() && pool.get("pm.status_listen").is_none() {
            self.note("status_listen", format!("pool {name} has no pm.status_listen: its status page takes a worker."));
        }
    }

    /// Is what a script leaves unread of a body taken for a request?
    fn unread_bodies(&mut self) {
        if let (Some(php), Some(false)) = (self.findings.php(), self.findings.drains_bodies()) {
            self.note(
                "unread_bodies",
                format!(
                    "PHP {php} takes what a script leaves unread of a body for the next request on a kept connection \
                     (request smuggling). fcgimux does not use such a connection again (keep reuse_after_body as it is); \
                     whatever else keeps connections to it, as nginx does with fastcgi_keep_conn, is open to it. PHP \
                     8.2.36 and 8.4.28 mend it."
                ),
            );
        }
    }

    fn look_of_things(&mut self) {
        // A single one of many is the neighbour's.
        if let Some(trips) = self.findings.round_trips.filter(|trips| 20 * trips.stalls > trips.count) {
            self.warn(
                "stalls",
                format!(
                    "{} of {} answers that need no work took longer than {STALL:?} (the longest {:.1?}): a busy host, a \
                     container short of CPU, or a lossy network.",
                    trips.stalls, trips.count, trips.most
                ),
            );
        }
        if !self.findings.others.is_empty() {
            let others = self.findings.others.join(", ");
            self.note(
                "more_addresses",
                format!("only {} was looked at; the name also has {others}.", self.findings.address),
            );
        }
    }

    fn ondemand(&mut self) {
        self.warn(
            "ondemand",
            "pm = ondemand starts too few workers for connections that stay: bursts wait although there is room. Use pm = \
             static, or dynamic.",
        );
    }

    fn pool(&self) -> Option<(&str, &Settings)> {
        let address = &self.findings.address;
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
        self.conf?.pool(port, port.is_none().then_some(address.as_ref()))
    }

    /// `pm.max_children`, from its file or, with `pm = static`, from the status page.
    fn max_children(&self) -> Option<u64> {
        let from_file = self.pool().and_then(|(_, pool)| pool.number("pm.max_children"));
        from_file.or_else(|| self.findings.max_children())
    }

    /// What all sidecars can have at once, shared evenly.
    fn per_endpoint(&self) -> u64 {
        let share = self.max_children().map(|children| children.saturating_sub(RESERVE) / self.doctor.sidecars);
        share.unwrap_or(1).clamp(1, DEFAULT_PER_ENDPOINT)
    }

    fn fcgimux_settings(&self) -> String {
        let target = self.doctor.target.to_string();
        let origin = match target.strip_prefix("unix:").unwrap_or(&target) {
            path if path.starts_with('/') => format!("socket: {path}"),
            ip if ip.parse::<std::net::SocketAddr>().is_ok() => format!("address: \"{ip}\""),
            name => format!("dns: {name}"),
        };
        let nature = self.findings.nature();
        let mut text = String::from("pools:\n  app:\n");
        // Writing to a String cannot fail.
        _ = writeln!(text, "    application: {}\n    endpoints:\n      - {origin}", nature.dialect());
        if nature == Nature::PhpFpm {
            let children = self.max_children();
            let fits =
                |wanted: &u64| children.is_none_or(|children| wanted * self.doctor.sidecars + RESERVE <= children);
            let per_endpoint = self.doctor.per_endpoint.filter(fits).or_else(|| children.map(|_| self.per_endpoint()));
            _ = match per_endpoint {
                Some(per_endpoint) => writeln!(text, "    connections: {{per_endpoint: {per_endpoint}}}"),
                // As below.
                None => writeln!(
                    text,
                    "    # connections: {{per_endpoint: N}}    (pm.max_children - {RESERVE}) / {}; {DEFAULT_PER_ENDPOINT} if left out",
                    self.doctor.sidecars
                ),
            };
            _ = writeln!(text, "    status: {{port: {}, path: {}}}", self.status_port(), self.doctor.status);
            if self.findings.drains_bodies() == Some(true) {
                text.push_str(
                    "    # reuse_after_body: {post_up_to: N}    at most PHP's post_max_size, if every endpoint has such a PHP\n",
                );
            }
        }
        text
    }

    fn php_fpm_settings(&self) -> String {
        let per_endpoint = self.doctor.per_endpoint.unwrap_or_else(|| self.per_endpoint());
        let least = per_endpoint * self.doctor.sidecars + RESERVE;
        let share = format!("per_endpoint times {} sidecars", self.doctor.sidecars);
        let children = match self.max_children() {
            Some(children) => format!("pm.max_children = {}    ; more than {share}", children.max(least)),
            // Whoever takes a number for one that was seen would be left with a fraction of his workers.
            None => format!("; pm.max_children cannot be seen from here: keep it above {share}"),
        };
        let name = self.pool().map_or("www", |(name, _)| name);
        format!(
            "[global]\nprocess_control_timeout = 60s    ; the longest request, or more\n[{name}]\npm = static\n\
             {children}\n\
             pm.status_path = {}\npm.status_listen = 0.0.0.0:{}    ; let only the sidecars in: it runs scripts as well\n\
             request_terminate_timeout = 60s    ; or 0; longer than idle_timeout of fcgimux\n\
             ; listen.allowed_clients = the addresses of the sidecars\n",
            self.doctor.status,
            self.status_port()
        )
    }

    /// Where the page is apart from the workers, or shall be.
    fn status_port(&self) -> u16 {
        let listen = self.pool().and_then(|(_, pool)| pool.get("pm.status_listen"));
        let given = self.doctor.status_address.as_ref().map(ToString::to_string);
        let port = |text: &str| text.rsplit(':').next()?.parse().ok();
        given.as_deref().and_then(port).or_else(|| listen.and_then(port)).unwrap_or(9001)
    }
}

/// What its workers do.
pub(super) fn held(board: &Scoreboard) -> String {
    let (all, idle, holding) = (board.processes.len(), board.idle(), board.holding());
    let busy = all.saturating_sub(idle + holding);
    let workers = if all == 1 { "worker" } else { "workers" };
    format!("{all} {workers}: {idle} idle, {busy} busy, {holding} held by connections that somebody keeps")
}
