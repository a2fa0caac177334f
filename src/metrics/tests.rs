use super::*;
use crate::mux::{
    label::{Closed, ConnectionState, Direction, EndpointState, Outcome, Refusal, RetryReason},
    scoreboard::Scoreboard,
    snapshot::EndpointSnapshot,
};
use std::{
    io::Write,
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
        let labels = format!("pool=\"php\",endpoint=\"10.0.0.7:9000\",reason=\"{}\"", reason.label());
        assert_value(&text, &format!("fcgimux_upstream_connections_closed_total{{{labels}}}"), 0.0);
    }
    assert_value(&text, "fcgimux_refused_total{pool=\"php\",reason=\"queue_full\"}", 0.0);
    assert_value(&text, "fcgimux_endpoint_ejections_total{pool=\"php\",endpoint=\"10.0.0.7:9000\"}", 0.0);
    assert_value(&text, "fcgimux_settle_seconds_count{pool=\"php\"}", 0.0);
}

#[test]
fn every_metric_is_rendered_with_its_help_and_kind() {
    let metrics = Metrics::new(&config());
    let _source = metrics.pool("php").discovery("dns php:9000");
    let _endpoint = endpoint_with_a_page(&metrics);
    let text = render(&metrics);
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
    let (one, other) = (pool.endpoint("10.0.0.7:9000"), pool.endpoint("/run/php.sock"));
    other.opened();
    other.leased();
    one.closed(Closed::MaxAge);
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
            "fcgimux_upstream_connections_closed_total{pool=\"php\",endpoint=\"10.0.0.7:9000\",reason=\"max_age\"} 1",
            "fcgimux_upstream_connections_opened_total{pool=\"php\",endpoint=\"/run/php.sock\"} 1",
            "fcgimux_upstream_requests_total{pool=\"php\",endpoint=\"/run/php.sock\"} 1",
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
        let labels = format!("pool=\"php\",endpoint=\"10.0.0.7:9000\",state=\"{state}\"");
        assert_value(&text, &format!("fcgimux_upstream_connections{{{labels}}}"), f64::from(count));
    }
    assert_value(&text, "fcgimux_upstream_connections_limit{pool=\"php\",endpoint=\"/run/php.sock\"}", 16.0);
    assert_value(&text, "fcgimux_endpoint_up{pool=\"php\",endpoint=\"10.0.0.7:9000\"}", 1.0);
    assert_value(&text, "fcgimux_endpoint_up{pool=\"php\",endpoint=\"/run/php.sock\"}", 0.0);
    assert_value(&text, "fcgimux_endpoint_ejections_total{pool=\"php\",endpoint=\"/run/php.sock\"}", 7.0);
    assert_value(&text, "fcgimux_pool_paused{pool=\"php\"}", 1.0);
}

#[test]
fn an_endpoint_has_a_one_for_its_state_alone() {
    let text = render(&Metrics::new(&config()));
    for (state, of_one, of_other) in [("up", 1.0, 0.0), ("suspect", 0.0, 0.0), ("ejected", 0.0, 1.0)] {
        let series =
            |endpoint| format!("fcgimux_endpoint_state{{pool=\"php\",endpoint=\"{endpoint}\",state=\"{state}\"}}");
        assert_value(&text, &series("10.0.0.7:9000"), of_one);
        assert_value(&text, &series("/run/php.sock"), of_other);
        let count = format!("fcgimux_endpoints{{pool=\"php\",state=\"{state}\"}}");
        assert_value(&text, &count, of_one + of_other);
    }
    assert_value(&text, "fcgimux_endpoints{pool=\"php\",state=\"draining\"}", 0.0);
}

#[test]
fn each_property_of_an_endpoint_has_a_metric_of_its_own() {
    let metrics = Metrics::new(&config());
    for property in ["saturated", "held", "near", "weight"] {
        let mut endpoint = EndpointSnapshot { near: false, weight: 0, ..endpoint("e:1", EndpointState::Up, 0) };
        match property {
            "saturated" => endpoint.saturated = true,
            "held" => endpoint.held = true,
            "near" => endpoint.near = true,
            _ => endpoint.weight = 1,
        }
        let text = scrape(&metrics, vec![endpoint]);
        for name in ["saturated", "held", "near", "weight"] {
            let series = format!("fcgimux_endpoint_{name}{{pool=\"php\",endpoint=\"e:1\"}}");
            assert_value(&text, &series, f64::from(u8::from(name == property)));
        }
    }
}

#[test]
fn a_scrape_holds_the_endpoints_of_the_snapshot_and_no_other() {
    let metrics = Metrics::new(&config());
    let up = |name| endpoint(name, EndpointState::Up, 0);
    let held = ["10.0.0.1:1", "10.0.0.2:2"].map(|name| metrics.pool("php").endpoint(name));
    held.iter().for_each(EndpointMetrics::opened);
    let text = scrape(&metrics, vec![up("10.0.0.2:2"), up("10.0.0.1:1")]);
    assert!(text.contains("10.0.0.1:1"));
    let text = scrape(&metrics, vec![up("10.0.0.2:2"), up("10.0.0.3:3")]);
    assert!(!text.contains("10.0.0.1:1"), "held by somebody, but not there");
    // Came before anybody has counted.
    assert_value(&text, "fcgimux_upstream_connections_opened_total{pool=\"php\",endpoint=\"10.0.0.3:3\"}", 0.0);
    assert!(!scrape(&metrics, vec![]).contains("endpoint=\""));
}

#[test]
fn an_endpoint_that_comes_back_goes_on_counting_while_somebody_holds_it() {
    let metrics = Metrics::new(&config());
    let series = "fcgimux_upstream_connections_opened_total{pool=\"php\",endpoint=\"10.0.0.1:1\"}";
    let there = || vec![endpoint("10.0.0.1:1", EndpointState::Up, 0)];
    let first = metrics.pool("php").endpoint("10.0.0.1:1");
    first.opened();
    assert!(!scrape(&metrics, vec![]).contains(series));
    let second = metrics.pool("php").endpoint("10.0.0.1:1");
    second.opened();
    assert_value(&scrape(&metrics, there()), series, 2.0);
    drop((first, second));
    let _third = metrics.pool("php").endpoint("10.0.0.1:1");
    assert_value(&scrape(&metrics, there()), series, 0.0);
}

#[test]
fn an_endpoint_that_is_there_twice_does_not_cost_the_scrape() {
    let twice = vec![endpoint("e:1", EndpointState::Draining, 0), endpoint("e:1", EndpointState::Up, 0)];
    let text = scrape(&Metrics::new(&config()), twice);
    assert_eq!(text.matches("fcgimux_endpoint_up{").count(), 1, "{text}");
}

#[test]
fn a_socket_with_any_path_is_a_valid_label() {
    let text = scrape(&Metrics::new(&config()), vec![endpoint("/run/a \"b\"\\c", EndpointState::Up, 0)]);
    assert_value(&text, "fcgimux_endpoint_up{pool=\"php\",endpoint=\"/run/a \\\"b\\\"\\\\c\"}", 1.0);
}

#[test]
fn a_source_of_endpoints_is_seen_while_it_is_asked() {
    let metrics = Metrics::new(&config());
    let source = metrics.pool("php").discovery("dns php:9000");
    let last = "fcgimux_discovery_last_success_timestamp_seconds{pool=\"php\",source=\"dns php:9000\"}";
    assert_value(&render(&metrics), last, 0.0);
    source.succeeded();
    source.endpoints(3);
    let text = render(&metrics);
    let age = unix_time().as_secs_f64() - value(&text, last);
    assert!((-1.0..60.0).contains(&age), "{age}");
    assert_value(&text, "fcgimux_discovery_endpoints{pool=\"php\",source=\"dns php:9000\"}", 3.0);
    drop(source);
    assert!(!render(&metrics).contains("source=\""));
}

#[test]
fn the_workers_of_an_endpoint_are_seen_while_its_page_is_read() {
    let metrics = Metrics::new(&config());
    assert!(!render(&metrics).contains("phpfpm_"));
    let endpoint = endpoint_with_a_page(&metrics);
    assert_value(&render(&metrics), "phpfpm_idle_processes{pool=\"php\",endpoint=\"10.0.0.7:9000\"}", 1.0);
    endpoint.not_looked_at();
    assert!(!render(&metrics).contains("phpfpm_"));
}

#[test]
fn a_pool_that_comes_later_is_counted_and_one_that_goes_leaves_nothing_behind() {
    let metrics = Metrics::new(&config());
    let both = with_pools("  php: {endpoints: [{socket: /a}]}\n  api: {endpoints: [{socket: /b}]}\n");
    let added = both.pools.iter().map(|pool| metrics.add_pool(pool)).find(|pool| pool.name() == "api").unwrap();
    added.refused(Refusal::QueueFull);
    added.settle(SECOND);
    let shown = |names: &[&str]| {
        let pools: Vec<_> = names.iter().map(|name| ((*name).to_owned(), snapshot())).collect();
        metrics.render(&pools, &SocketCounts::default())
    };
    let refused = "fcgimux_refused_total{pool=\"api\",reason=\"queue_full\"}";
    assert_value(&shown(&["php", "api"]), refused, 1.0);
    let gone = shown(&["php"]);
    assert!(!gone.contains("pool=\"api\""), "{gone}");
    assert!(gone.contains("fcgimux_settle_seconds_count{pool=\"php\"} 0\n"), "{gone}");
    assert!(!shown(&[]).contains("pool=\""));
    metrics.pool("api").refused(Refusal::QueueFull);
    assert_value(&shown(&["api"]), refused, 2.0);
}

#[test]
fn a_pool_that_is_there_already_is_not_added_again() {
    let metrics = Metrics::new(&config());
    metrics.pool("php").refused(Refusal::QueueFull);
    metrics.add_pool(&config().pools[0]).refused(Refusal::QueueFull);
    assert_value(&render(&metrics), "fcgimux_refused_total{pool=\"php\",reason=\"queue_full\"}", 2.0);
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
    metrics.set_listeners(&[]);
    assert_value(&render(&metrics), "fcgimux_downstream_connections_limit", 0.0);
}

#[test]
fn socket_counts_are_absent_while_they_cannot_be_read() {
    let metrics = Metrics::new(&config());
    let text = metrics.render(&[], &sockets());
    assert_value(&text, "fcgimux_time_wait_sockets{side=\"upstream\"}", 5.0);
    assert_value(&text, "fcgimux_time_wait_sockets{side=\"downstream\"}", 6.0);
    assert_value(&text, "fcgimux_ephemeral_ports_in_use_ratio", 0.25);
    let absent = metrics.render(&[], &SocketCounts::default());
    assert!(!absent.contains("fcgimux_time_wait_sockets"));
    assert!(!absent.contains("fcgimux_ephemeral_ports_in_use_ratio"));
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
    let _source = metrics.pool("php").discovery("dns php:9000");
    let _endpoint = endpoint_with_a_page(&metrics);
    promtool.stdin.take().unwrap().write_all(render(&metrics).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", output.status);
}

fn render(metrics: &Metrics) -> String {
    metrics.render(&[("php".to_owned(), snapshot())], &sockets())
}

fn endpoint_with_a_page(metrics: &Metrics) -> EndpointMetrics {
    let endpoint = metrics.pool("php").endpoint("10.0.0.7:9000");
    let page = r#"{"pool":"www","process manager":"static","listen queue len":511,"processes":[{"state":"Idle"}]}"#;
    endpoint.looked(Some(&Scoreboard::parse(page.as_bytes()).unwrap()));
    endpoint
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

fn scrape(metrics: &Metrics, endpoints: Vec<EndpointSnapshot>) -> String {
    let pool = PoolSnapshot { endpoints, ..snapshot() };
    metrics.render(&[("php".to_owned(), pool)], &SocketCounts::default())
}

fn snapshot() -> PoolSnapshot {
    PoolSnapshot {
        queue_depth: 3,
        queue_limit: 1024,
        oldest_wait: Duration::from_millis(1500),
        paused: true,
        endpoints: vec![
            endpoint("10.0.0.7:9000", EndpointState::Up, 0),
            endpoint("/run/php.sock", EndpointState::Ejected, 7),
        ],
    }
}

fn endpoint(name: &str, state: EndpointState, ejections: u64) -> EndpointSnapshot {
    assert_eq!(ConnectionState::ALL.len(), 5);
    EndpointSnapshot {
        name: name.to_owned(),
        connections: [1, 2, 3, 4, 5],
        limit: 16,
        in_flight: 9,
        state,
        ejections,
        weight: 1,
        near: true,
        held: false,
        saturated: false,
    }
}

/// One listener, one pool `php`.
fn config() -> Config {
    with_pools("  php: {endpoints: [{socket: /run/php.sock}]}\n")
}

fn with_pools(pools: &str) -> Config {
    let listener = "listeners: [{socket: /run/fcgimux.sock, pool: php, max_connections: 1024}]";
    Config::from_yaml(&format!("{listener}\npools:\n{pools}")).unwrap()
}
