use super::*;
use crate::{
    config,
    mux::{
        label::{Closed, ConnectionState, Direction, Outcome, Refusal, RetryReason},
        snapshot::EndpointSnapshot,
    },
};
use std::{
    io::Write,
    num::NonZeroU32,
    process::{Command, Stdio},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_counter_exists_before_its_first_event() {
    let text = render(&Metrics::new(&config()));
    for outcome in Outcome::ALL {
        assert_value(&text, &format!("fcgimux_requests_total{{pool=\"php\",outcome=\"{}\"}}", outcome.label()), 0.0);
    }
    for reason in Closed::ALL {
        let labels = format!("pool=\"php\",endpoint=\"php-1:9000\",reason=\"{}\"", reason.label());
        assert_value(&text, &format!("fcgimux_upstream_connections_closed_total{{{labels}}}"), 0.0);
    }
    assert_value(&text, "fcgimux_refused_total{pool=\"php\",reason=\"queue_full\"}", 0.0);
    assert_value(&text, "fcgimux_endpoint_ejections_total{pool=\"php\",endpoint=\"php-1:9000\"}", 0.0);
    assert_value(&text, "fcgimux_settle_seconds_count{pool=\"php\"}", 0.0);
}

#[test]
fn every_metric_is_rendered_with_its_help_and_kind() {
    let text = render(&Metrics::new(&config()));
    for definition in definition::ALL {
        let head =
            format!("# HELP {0} {1}\n# TYPE {0} {2}\n{0}", definition.name, definition.help, definition.kind.word());
        assert!(text.contains(&head), "{} is not rendered", definition.name);
    }
    let rendered: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    assert_eq!(rendered.len(), definition::ALL.len(), "{rendered:#?}");
}

#[test]
fn an_event_goes_to_the_series_of_its_labels_and_to_no_other() {
    let metrics = Metrics::new(&config());
    let before = render(&metrics);
    let pool = metrics.pool("php");
    pool.opened(1);
    pool.closed(0, Closed::MaxAge);
    pool.retried(RetryReason::Idempotent);
    pool.refused(Refusal::Storage);
    pool.bytes(Direction::Response, 512);
    let after = render(&metrics);
    let changed: Vec<_> =
        after.lines().filter(|line| is_ours(line) && !before.lines().any(|old| old == *line)).collect();
    let mut changed: Vec<_> = changed.into_iter().map(str::to_owned).collect();
    changed.sort();
    assert_eq!(
        changed,
        [
            "fcgimux_bytes_total{pool=\"php\",direction=\"response\"} 512",
            "fcgimux_refused_total{pool=\"php\",reason=\"storage\"} 1",
            "fcgimux_retries_total{pool=\"php\",reason=\"idempotent\"} 1",
            "fcgimux_upstream_connections_closed_total{pool=\"php\",endpoint=\"php-1:9000\",reason=\"max_age\"} 1",
            "fcgimux_upstream_connections_opened_total{pool=\"php\",endpoint=\"/run/php.sock\"} 1",
        ]
    );
}

#[test]
fn an_exchange_is_counted_and_measured() {
    let metrics = Metrics::new(&config());
    let pool = metrics.pool("php");
    pool.exchange(Outcome::Ok, Duration::from_millis(3));
    pool.exchange(Outcome::Timeout, 200 * SECOND);
    let text = render(&metrics);
    assert_value(&text, "fcgimux_requests_total{pool=\"php\",outcome=\"ok\"}", 1.0);
    assert_value(&text, "fcgimux_requests_total{pool=\"php\",outcome=\"timeout\"}", 1.0);
    assert_value(&text, "fcgimux_request_duration_seconds_bucket{pool=\"php\",le=\"0.0025\"}", 0.0);
    assert_value(&text, "fcgimux_request_duration_seconds_bucket{pool=\"php\",le=\"0.005\"}", 1.0);
    assert_value(&text, "fcgimux_request_duration_seconds_bucket{pool=\"php\",le=\"120\"}", 1.0);
    assert_value(&text, "fcgimux_request_duration_seconds_bucket{pool=\"php\",le=\"+Inf\"}", 2.0);
    assert_value(&text, "fcgimux_request_duration_seconds_sum{pool=\"php\"}", 200.003);
}

#[test]
fn each_time_goes_to_its_own_histogram() {
    let metrics = Metrics::new(&config());
    let pool = metrics.pool("php");
    pool.queue_wait(SECOND);
    pool.first_byte(2 * SECOND);
    pool.settle(3 * SECOND);
    pool.connect(4 * SECOND);
    let text = render(&metrics);
    for (name, sum) in [("queue_wait", 1.0), ("first_byte", 2.0), ("settle", 3.0), ("connect", 4.0)] {
        assert_value(&text, &format!("fcgimux_{name}_seconds_sum{{pool=\"php\"}}"), sum);
    }
}

#[test]
fn upkeep_between_scrapes_loses_and_doubles_nothing() {
    let metrics = Metrics::new(&config());
    let pool = metrics.pool("php");
    for _ in 0..1000 {
        pool.settle(SECOND);
        metrics.upkeep();
    }
    assert_value(&render(&metrics), "fcgimux_settle_seconds_count{pool=\"php\"}", 1000.0);
    assert_value(&render(&metrics), "fcgimux_settle_seconds_count{pool=\"php\"}", 1000.0);
}

#[test]
fn gauges_show_the_snapshot_they_were_rendered_with() {
    let metrics = Metrics::new(&config());
    let text = metrics.render(&[("php".to_owned(), snapshot())], &SocketCounts::default());
    assert_value(&text, "fcgimux_queue_depth{pool=\"php\"}", 3.0);
    assert_value(&text, "fcgimux_queue_limit{pool=\"php\"}", 1024.0);
    assert_value(&text, "fcgimux_queue_oldest_wait_seconds{pool=\"php\"}", 1.5);
    for (state, count) in ["connecting", "proving", "idle", "leased", "settling"].into_iter().zip(1..) {
        let labels = format!("pool=\"php\",endpoint=\"php-1:9000\",state=\"{state}\"");
        assert_value(&text, &format!("fcgimux_upstream_connections{{{labels}}}"), f64::from(count));
    }
    assert_value(&text, "fcgimux_upstream_connections_limit{pool=\"php\",endpoint=\"/run/php.sock\"}", 16.0);
    assert_value(&text, "fcgimux_endpoint_up{pool=\"php\",endpoint=\"php-1:9000\"}", 1.0);
    assert_value(&text, "fcgimux_endpoint_up{pool=\"php\",endpoint=\"/run/php.sock\"}", 0.0);
    assert_value(&text, "fcgimux_endpoint_ejections_total{pool=\"php\",endpoint=\"/run/php.sock\"}", 7.0);
}

#[test]
fn a_pool_that_is_not_configured_is_left_out() {
    let metrics = Metrics::new(&config());
    let text = metrics.render(&[("other".to_owned(), snapshot())], &SocketCounts::default());
    assert!(!text.contains("pool=\"other\""));
}

#[test]
fn connections_from_web_servers_are_counted_up_and_down() {
    let metrics = Metrics::new(&config());
    let connections = metrics.downstream_connections();
    connections.inc();
    connections.inc();
    connections.dec();
    let text = render(&metrics);
    assert_value(&text, "fcgimux_downstream_connections", 1.0);
    assert_value(&text, "fcgimux_downstream_connections_limit", 1024.0);
}

#[test]
fn socket_counts_are_absent_until_they_could_be_read_and_nan_when_they_no_longer_can() {
    let metrics = Metrics::new(&config());
    let absent = metrics.render(&[], &SocketCounts::default());
    assert!(!absent.contains("fcgimux_time_wait_sockets"));
    assert!(!absent.contains("fcgimux_ephemeral_ports_in_use_ratio"));
    let text = metrics.render(&[], &sockets());
    assert_value(&text, "fcgimux_time_wait_sockets{side=\"upstream\"}", 5.0);
    assert_value(&text, "fcgimux_time_wait_sockets{side=\"downstream\"}", 6.0);
    assert_value(&text, "fcgimux_ephemeral_ports_in_use_ratio", 0.25);
    let gone = metrics.render(&[], &SocketCounts::default());
    assert!(value(&gone, "fcgimux_time_wait_sockets{side=\"upstream\"}").is_nan());
    assert!(value(&gone, "fcgimux_ephemeral_ports_in_use_ratio").is_nan());
}

#[test]
fn a_failed_reload_keeps_the_time_of_the_configuration_in_force() {
    let metrics = Metrics::new(&config());
    let text = render(&metrics);
    assert_value(&text, "fcgimux_config_reload_success", 1.0);
    let loaded = value(&text, "fcgimux_config_reload_timestamp_seconds");
    assert!(loaded > 1.7e9, "{loaded}");
    metrics.config_loaded(false);
    let text = render(&metrics);
    assert_value(&text, "fcgimux_config_reload_success", 0.0);
    assert_value(&text, "fcgimux_config_reload_timestamp_seconds", loaded);
}

#[test]
fn two_instances_do_not_share_a_counter() {
    let (first, second) = (Metrics::new(&config()), Metrics::new(&config()));
    first.pool("php").refused(Refusal::QueueFull);
    assert_value(&render(&second), "fcgimux_refused_total{pool=\"php\",reason=\"queue_full\"}", 0.0);
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let command = Command::new("promtool")
        .args(["check", "metrics", "--extended"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = command else {
        println!("skipped: there is no promtool here");
        return;
    };
    let metrics = Metrics::new(&config());
    metrics.pool("php").exchange(Outcome::Ok, SECOND);
    promtool.stdin.take().unwrap().write_all(render(&metrics).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", output.status);
}

fn render(metrics: &Metrics) -> String {
    metrics.render(&[("php".to_owned(), snapshot())], &sockets())
}

fn value(text: &str, series: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

#[track_caller]
fn assert_value(text: &str, series: &str, expected: f64) {
    let value = value(text, series);
    assert!((value - expected).abs() < 1e-9, "{series} is {value}, not {expected}");
}

fn is_ours(line: &str) -> bool {
    line.starts_with("fcgimux_")
}

fn sockets() -> SocketCounts {
    SocketCounts { time_wait: Some(TimeWait { upstream: 5, downstream: 6 }), ephemeral_ports_in_use: Some(0.25) }
}

fn snapshot() -> PoolSnapshot {
    let endpoint = |name: &str, up, ejections| EndpointSnapshot {
        name: name.to_owned(),
        connections: [1, 2, 3, 4, 5],
        limit: 16,
        in_flight: 9,
        up,
        ejections,
    };
    assert_eq!(ConnectionState::ALL.len(), 5);
    PoolSnapshot {
        queue_depth: 3,
        queue_limit: 1024,
        oldest_wait: Duration::from_millis(1500),
        endpoints: vec![endpoint("php-1:9000", true, 0), endpoint("/run/php.sock", false, 7)],
    }
}

/// One listener, one pool `php` with an endpoint of either kind.
fn config() -> Config {
    let listener = config::Listener {
        address: config::ListenAddress::Unix { path: "/run/fcgimux.sock".into(), mode: 0o660, group: None },
        pool: "php".to_owned(),
        max_connections: 1024,
        max_requests_in_flight: 128,
        read_timeout: SECOND,
        write_timeout: SECOND,
    };
    Config {
        listeners: vec![listener],
        pools: vec![pool()],
        admin: config::Admin { listen: None },
        log: config::Log { level: config::LogLevel::Info, format: config::LogFormat::Text, access: false },
        threads: NonZeroU32::MIN,
        drain_deadline: SECOND,
    }
}

fn pool() -> config::Pool {
    config::Pool {
        name: "php".to_owned(),
        application: config::Application::PhpFpm,
        endpoints: vec![
            config::EndpointAddress::Tcp { host: "php-1".to_owned(), port: 9000 },
            config::EndpointAddress::Unix("/run/php.sock".into()),
        ],
        connections: config::Connections {
            per_endpoint: 16,
            idle_timeout: SECOND,
            surplus_idle: SECOND,
            yield_after: None,
            fence: config::Fence::Always,
            reprove_after: SECOND,
            max_age: None,
            max_requests: None,
            multiplex: config::Multiplex::Auto,
            max_requests_in_flight: 32,
            buffer: 1 << 16,
            stall_timeout: SECOND,
        },
        queue: config::Queue { depth: 1024, timeout: 10 * SECOND },
        timeouts: config::Timeouts {
            connect: SECOND,
            prove: SECOND,
            first_byte: None,
            between_bytes: None,
            exchange: None,
        },
        params: config::Params {
            max_size: 1024,
            max_count: 16,
            deny: Vec::new(),
            on_denied: config::OnDenied::Refuse,
            set: Vec::new(),
            remove: Vec::new(),
        },
        body: config::Body { max_size: None, memory: 1024, directory: "/tmp".into() },
        reuse_after_body: config::ReuseAfterBody { post_up_to: None, multipart: false },
        retry: config::Retry { attempts: 1, budget: 0.2 },
    }
}
