//! Every metric, once: its name, kind, labels, unit and meaning. `docs/metrics.md` holds the same list for operators.

use metrics::Unit;

/// What can be known of a metric without a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    /// In the order in which their values are given.
    pub labels: &'static [&'static str],
    pub unit: Unit,
    /// The text after `# HELP`.
    pub help: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// The word after `# TYPE`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! definitions {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $unit:ident, $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: Definition = Definition {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                unit: Unit::$unit,
                help: $help,
            };
        )+

        /// Every metric there is.
        pub const ALL: &[Definition] = &[$($constant),+];
    };
}

definitions! {
    REQUESTS: Counter "fcgimux_requests_total" ["pool", "outcome"] Count,
        "Exchanges that ended, by how they ended for the web server.";
    REQUEST_DURATION: Histogram "fcgimux_request_duration_seconds" ["pool"] Seconds,
        "Time from the first byte of a request to the end of its exchange.";
    QUEUE_WAIT: Histogram "fcgimux_queue_wait_seconds" ["pool"] Seconds,
        "Time an exchange waited for a connection.";
    FIRST_BYTE: Histogram "fcgimux_first_byte_seconds" ["pool"] Seconds,
        "Time from the lease of a connection to the first byte of the response.";
    SETTLE: Histogram "fcgimux_settle_seconds" ["pool"] Seconds,
        "Time from the end of a response until its worker proved free.";
    CONNECT: Histogram "fcgimux_connect_seconds" ["pool"] Seconds,
        "Time to open a connection and to have it prove itself.";
    RETRIES: Counter "fcgimux_retries_total" ["pool", "reason"] Count,
        "Requests sent again on another connection, by why that was safe.";
    REFUSED: Counter "fcgimux_refused_total" ["pool", "reason"] Count,
        "Exchanges answered in the application's stead, by why.";
    PHP_SETTINGS: Counter "fcgimux_php_settings_total" ["pool", "action"] Count,
        "Requests with PHP_VALUE or PHP_ADMIN_VALUE, by what became of these.";
    BYTES: Counter "fcgimux_bytes_total" ["pool", "direction"] Bytes,
        "Bytes carried between web servers and the application.";
    STALL: Histogram "fcgimux_stall_seconds" ["pool"] Seconds,
        "Time that a shared connection was not read from, for the sake of one exchange whose buffer was full.";
    DROPPED: Counter "fcgimux_dropped_records_total" ["pool"] Count,
        "Records of an application that belong to no running exchange.";
    QUEUE_DEPTH: Gauge "fcgimux_queue_depth" ["pool"] Count,
        "Exchanges that wait for a connection.";
    QUEUE_LIMIT: Gauge "fcgimux_queue_limit" ["pool"] Count,
        "Exchanges that may wait; one more is refused.";
    QUEUE_OLDEST_WAIT: Gauge "fcgimux_queue_oldest_wait_seconds" ["pool"] Seconds,
        "How long the oldest waiter has waited; 0 with an empty queue.";
    PAUSED: Gauge "fcgimux_pool_paused" ["pool"] Count,
        "1 while a pool is paused by an operator and its requests wait, otherwise 0.";
    ENDPOINTS: Gauge "fcgimux_endpoints" ["pool", "state"] Count,
        "Endpoints of a pool, by state.";
    DISCOVERY_LAST_SUCCESS: Gauge "fcgimux_discovery_last_success_timestamp_seconds" ["pool", "source"] Seconds,
        "Unix time at which a source of endpoints was last asked, or heard, with success; 0 if never.";
    DISCOVERY_ENDPOINTS: Gauge "fcgimux_discovery_endpoints" ["pool", "source"] Count,
        "Endpoints that a source found last.";
    CONNECTIONS: Gauge "fcgimux_upstream_connections" ["pool", "endpoint", "state"] Count,
        "Connections to an endpoint, by state.";
    CONNECTIONS_LIMIT: Gauge "fcgimux_upstream_connections_limit" ["pool", "endpoint"] Count,
        "Connections to an endpoint that may exist, in all states together.";
    IN_FLIGHT: Gauge "fcgimux_upstream_requests_in_flight" ["pool", "endpoint"] Count,
        "Exchanges that an endpoint has and has not ended.";
    ENDPOINT_UP: Gauge "fcgimux_endpoint_up" ["pool", "endpoint"] Count,
        "0 while an endpoint is ejected: left alone since it failed too often. Otherwise 1.";
    ENDPOINT_STATE: Gauge "fcgimux_endpoint_state" ["pool", "endpoint", "state"] Count,
        "1 for the state that an endpoint is in, 0 for the others.";
    ENDPOINT_SATURATED: Gauge "fcgimux_endpoint_saturated" ["pool", "endpoint"] Count,
        "1 while an endpoint has no free worker, as its status page or handshakes that hang say, otherwise 0.";
    ENDPOINT_HELD: Gauge "fcgimux_endpoint_held" ["pool", "endpoint"] Count,
        "1 while an endpoint is drained by an operator, otherwise 0.";
    ENDPOINT_NEAR: Gauge "fcgimux_endpoint_near" ["pool", "endpoint"] Count,
        "1 for an endpoint in the own zone, or where zones are not known, otherwise 0.";
    ENDPOINT_WEIGHT: Gauge "fcgimux_endpoint_weight" ["pool", "endpoint"] Count,
        "Share of the requests that an endpoint is to have, relative to others.";
    EJECTIONS: Counter "fcgimux_endpoint_ejections_total" ["pool", "endpoint"] Count,
        "How often an endpoint was ejected.";
    ENDPOINT_REQUESTS: Counter "fcgimux_upstream_requests_total" ["pool", "endpoint"] Count,
        "Exchanges that were given a connection to an endpoint.";
    OPENED: Counter "fcgimux_upstream_connections_opened_total" ["pool", "endpoint"] Count,
        "Attempts to open a connection to an endpoint.";
    CLOSED: Counter "fcgimux_upstream_connections_closed_total" ["pool", "endpoint", "reason"] Count,
        "Connections to an endpoint that ended, by why.";
    PHP_FPM_UP: Gauge "phpfpm_up" ["pool", "endpoint"] Count,
        "1 while php-fpm's status page can be read, otherwise 0.";
    PHP_FPM_FAILURES: Gauge "phpfpm_scrape_failures" ["pool", "endpoint"] Count,
        "How often the status page could not be read.";
    PHP_FPM_START_SINCE: Gauge "phpfpm_start_since" ["pool", "endpoint"] Seconds,
        "Seconds since php-fpm started or was reloaded.";
    PHP_FPM_ACCEPTED: Gauge "phpfpm_accepted_connections" ["pool", "endpoint"] Count,
        "How often a worker of php-fpm began to wait for a request, on kept connections too.";
    PHP_FPM_QUEUE: Gauge "phpfpm_listen_queue" ["pool", "endpoint"] Count,
        "Connections that wait for a worker of php-fpm.";
    PHP_FPM_LONGEST_QUEUE: Gauge "phpfpm_max_listen_queue" ["pool", "endpoint"] Count,
        "The most connections that have waited at once since php-fpm started.";
    PHP_FPM_QUEUE_PLACES: Gauge "phpfpm_listen_queue_length" ["pool", "endpoint"] Count,
        "Connections that may wait for a worker of php-fpm.";
    PHP_FPM_IDLE: Gauge "phpfpm_idle_processes" ["pool", "endpoint"] Count,
        "Workers of php-fpm that wait for a connection.";
    PHP_FPM_HELD: Gauge "phpfpm_held_processes" ["pool", "endpoint"] Count,
        "Workers of php-fpm that wait for the next request on a connection that somebody keeps.";
    PHP_FPM_ACTIVE: Gauge "phpfpm_active_processes" ["pool", "endpoint"] Count,
        "Workers of php-fpm that do neither: they have a request.";
    PHP_FPM_TOTAL: Gauge "phpfpm_total_processes" ["pool", "endpoint"] Count,
        "Workers of php-fpm that run.";
    PHP_FPM_MOST_ACTIVE: Gauge "phpfpm_max_active_processes" ["pool", "endpoint"] Count,
        "The most active workers that were seen at once since php-fpm started.";
    PHP_FPM_CHILDREN_REACHED: Gauge "phpfpm_max_children_reached" ["pool", "endpoint"] Count,
        "How often pm.max_children workers ran and more were wanted; never with pm = static.";
    PHP_FPM_SLOW: Gauge "phpfpm_slow_requests" ["pool", "endpoint"] Count,
        "Requests that took longer than request_slowlog_timeout.";
    DOWNSTREAM: Gauge "fcgimux_downstream_connections" [] Count,
        "Open connections from web servers.";
    DOWNSTREAM_LIMIT: Gauge "fcgimux_downstream_connections_limit" [] Count,
        "Connections from web servers that are served at once, over all listeners.";
    TIME_WAIT: Gauge "fcgimux_time_wait_sockets" ["side"] Count,
        "Sockets in TIME_WAIT in this network namespace, on the ports of endpoints or of listeners.";
    EPHEMERAL_PORTS: Gauge "fcgimux_ephemeral_ports_in_use_ratio" [] Percent,
        "Share of the ephemeral port range in use in this network namespace, 0 to 1.";
    LOOP_LAG: Histogram "fcgimux_event_loop_lag_seconds" [] Seconds,
        "How long the event loop that carries requests took to turn to something new.";
    RELOAD_SUCCESS: Gauge "fcgimux_config_reload_success" [] Count,
        "1 if the last attempt to load the configuration succeeded, 0 if it changed nothing.";
    RELOAD_TIMESTAMP: Gauge "fcgimux_config_reload_timestamp_seconds" [] Seconds,
        "Unix time at which the configuration in force was loaded.";
    BUILD_INFO: Gauge "fcgimux_build_info" ["version"] Count,
        "Always 1; the label holds the version that runs.";
    PROCESS_RESIDENT_MEMORY: Gauge "process_resident_memory_bytes" [] Bytes,
        "Resident memory of the process.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" [] Seconds,
        "User and system CPU time of the process.";
    PROCESS_OPEN_FDS: Gauge "process_open_fds" [] Count,
        "Open file descriptors.";
    PROCESS_MAX_FDS: Gauge "process_max_fds" [] Count,
        "File descriptors that may be open (soft limit).";
    PROCESS_START_TIME: Gauge "process_start_time_seconds" [] Seconds,
        "Unix time at which the process started.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::label::{Closed, ConnectionState, Direction, EndpointState, Outcome, Refusal, RetryReason, Sticky};
    use std::{collections::HashSet, fs, path::Path};

    fn documentation() -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        fs::read_to_string(path).unwrap()
    }

    fn unit_word(definition: &Definition) -> &'static str {
        match definition.unit {
            Unit::Count => "count",
            Unit::Seconds => "seconds",
            Unit::Bytes => "bytes",
            Unit::Percent => "ratio",
            other => panic!("{} has a unit that is no base unit: {other:?}", definition.name),
        }
    }

    /// What the table of the documentation must say of a metric, up to the text.
    fn documented_row(definition: &Definition) -> String {
        let labels: Vec<_> = definition.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
        format!("| `{}` | {} | {labels} | {} |", definition.name, definition.kind.word(), unit_word(definition))
    }

    #[test]
    fn the_documentation_and_the_definitions_hold_the_same_list() {
        let documented: Vec<String> = documentation()
            .lines()
            .filter(|line| ["| `fcgimux_", "| `phpfpm_", "| `process_"].iter().any(|start| line.starts_with(start)))
            .map(|line| line.splitn(6, '|').take(5).collect::<Vec<_>>().join("|") + "|")
            .collect();
        let defined: Vec<String> = ALL.iter().map(documented_row).collect();
        assert_eq!(documented, defined);
    }

    #[test]
    fn the_documentation_explains_every_label_value() {
        let text = documentation();
        let sets: [(&str, Vec<&str>); 8] = [
            ("outcome", Outcome::ALL.iter().map(|value| value.label()).collect()),
            ("state` of `fcgimux_upstream_connections", ConnectionState::ALL.iter().map(|v| v.label()).collect()),
            ("state` of `fcgimux_endpoint_state", EndpointState::ALL.iter().map(|value| value.label()).collect()),
            ("reason` of `fcgimux_upstream_connections_closed_total", Closed::ALL.iter().map(|v| v.label()).collect()),
            ("reason` of `fcgimux_refused_total", Refusal::ALL.iter().map(|value| value.label()).collect()),
            ("reason` of `fcgimux_retries_total", RetryReason::ALL.iter().map(|value| value.label()).collect()),
            ("action", Sticky::ALL.iter().map(|value| value.label()).collect()),
            ("direction", Direction::ALL.iter().map(|value| value.label()).collect()),
        ];
        for (title, values) in sets {
            let heading = format!("### `{title}`");
            let section = text.split_once(&heading).unwrap_or_else(|| panic!("no section {heading}")).1;
            let section = section.split("\n#").next().unwrap();
            let documented: Vec<&str> = section
                .lines()
                .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(value, _)| value))
                .collect();
            assert_eq!(documented, values, "{heading}");
        }
    }

    #[test]
    fn every_name_is_used_once_and_says_its_kind() {
        let names: HashSet<_> = ALL.iter().map(|definition| definition.name).collect();
        assert_eq!(names.len(), ALL.len());
        for definition in ALL {
            let is_total = definition.name.ends_with("_total");
            assert_eq!(is_total, definition.kind == Kind::Counter, "{}", definition.name);
            assert!(definition.help.ends_with('.'), "{}", definition.name);
        }
    }
}
