//! A real run as Prometheus sees it: whether its figures are true, whether every panel of every dashboard has something to show, and a
//! picture of each dashboard below target/dashboards, for a person to look at.

mod cost;
mod picture;
mod prometheus;
mod stage;

use std::{collections::BTreeSet, thread, time::Duration};

use crate::{
    monitoring::dashboard::{Dashboard, NAMES, Panel, Target, list, text},
    support::{
        bounded, eventually, since_epoch,
        sockets::{TimeWait, established},
        wait_until,
    },
};
use picture::Picture;
use prometheus::{Prometheus, Series};
use stage::{CHILDREN, Stage};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
/// What `$__rate_interval` stands for: a few scrapes.
const INTERVAL: &str = "4s";

#[test]
fn every_panel_of_every_dashboard_shows_a_real_run_and_what_it_shows_is_true() {
    bounded(120 * SECOND, || {
        let mut stage = Stage::start();
        let begin = now();
        let figures = calm_and_saturated(&stage);
        // One pod dies, and the configuration breaks.
        drop(stage.pods.pop());
        stage.break_configuration();
        let end = stage.load(6, None, 20 * MILLISECOND, 3 * SECOND);
        let sent = figures + end.sent;
        stage.agrees("requests", "sum(fcgimux_requests_total)", || float(sent));
        stage.agrees("php-fpm that answers", "sum(phpfpm_up)", || 1.0);
        let times = [begin, now()];
        let mut faults = vec![];
        for name in NAMES {
            let dashboard = Dashboard::read(name);
            let mut picture = Picture::of(&dashboard, times);
            for panel in &dashboard.panels {
                match results(&stage.prometheus, panel, times) {
                    Ok(results) => picture.add(panel, &results),
                    Err(fault) => faults.push(format!("{name}: {}: {fault}", panel.title)),
                }
            }
            picture.take(name);
        }
        assert!(faults.is_empty(), "{faults:#?}\n{}", stage.mux.log());
        assert_alerts_are_on_their_way(&stage.prometheus);
    });
}

/// Returns how many requests were sent, having compared Prometheus with what others have counted.
fn calm_and_saturated(stage: &Stage) -> u64 {
    let calm = stage.load(8, Some(200.0), 3 * MILLISECOND, 2 * SECOND);
    calm.assert_clean();
    let saturated = thread::scope(|scope| {
        let load = scope.spawn(|| stage.load(60, None, 250 * MILLISECOND, 4 * SECOND));
        // All connections that may exist do.
        let connections = "sum(fcgimux_upstream_connections)";
        stage.agrees("connections under load", connections, || float(established(stage.ports[0].number())));
        stage.agrees("connections at their limit", connections, || float(2 * CHILDREN));
        load.join().expect("the load")
    });
    saturated.assert_not_mixed_up();
    let (refused, ok) = (saturated.error_count("status 503"), calm.ok + saturated.ok);
    assert_eq!(saturated.ok + refused, saturated.sent, "{saturated}");
    assert!(refused > 0, "{saturated}");
    stage.agrees("requests that were answered", "sum(fcgimux_requests_total{outcome=\"ok\"})", || float(ok));
    stage.agrees("requests that PHP has run", "sum(fcgimux_upstream_requests_total)", || float(stage.run_by_php()));
    stage.agrees("requests that were refused", "sum(fcgimux_refused_total)", || float(refused));
    stage.agrees("measured times", "sum(fcgimux_request_duration_seconds_count)", || float(calm.sent + saturated.sent));
    leave_time_wait(stage);
    calm.sent + saturated.sent
}

/// fcgimux leaves none: others do, here.
fn leave_time_wait(stage: &Stage) {
    let port = stage.ports[0].number();
    assert_eq!(TimeWait::of(port).total(), 0);
    for _ in 0..3 {
        drop(stage.pods[0].proven());
    }
    wait_until("three sockets are in TIME_WAIT", || TimeWait::of(port).total() == 3);
    stage
        .agrees("TIME_WAIT", "sum(fcgimux_time_wait_sockets{side=\"upstream\"})", || float(TimeWait::of(port).total()));
}

/// Every rule can be evaluated, and those alerts wait for their time that must.
#[track_caller]
fn assert_alerts_are_on_their_way(prometheus: &Prometheus) {
    let expected = ["QueueWaitHigh", "QueueTimeouts", "QueueFull", "ErrorRatioHigh", "ConfigReloadFailed"];
    let mut pending = BTreeSet::new();
    let on_their_way = eventually(5 * SECOND, || {
        let alerts = prometheus.rules().into_iter().filter(|rule| rule["state"] == "pending");
        pending = alerts.map(|rule| text(&rule["name"])).collect();
        expected.iter().all(|name| pending.contains(*name))
    });
    assert!(on_their_way, "{pending:?}");
    for rule in prometheus.rules() {
        assert_eq!((text(&rule["health"]).as_str(), text(&rule["lastError"]).as_str()), ("ok", ""), "{rule}");
        for annotation in list(&rule["alerts"]).iter().flat_map(|alert| alert["annotations"].as_object()).flatten() {
            let filled = text(annotation.1);
            assert!(!["{{", "no value", "<error"].iter().any(|part| filled.contains(part)), "{filled}");
        }
    }
}

/// Of each of its queries.
fn results(prometheus: &Prometheus, panel: &Panel, times: [f64; 2]) -> Result<Vec<Vec<Series>>, String> {
    let one = |target: &Target| {
        let query = target.query(INTERVAL);
        let result = match panel.kind.as_str() {
            "table" => prometheus.query(&query),
            _ => prometheus.range(&query, times),
        };
        match result {
            // Grafana leaves out a label that is not there.
            Ok(series) if series.iter().any(|one| one.named(&target.legend).contains("{{")) => {
                Err(format!("{} is not filled in: {query}", target.legend))
            }
            Ok(series) if series.iter().any(Series::says_something) => Ok(series),
            Ok(_) => Err(format!("nothing: {query}")),
            Err(error) => Err(format!("{error}: {query}")),
        }
    };
    panel.targets.iter().map(one).collect()
}

fn now() -> f64 {
    since_epoch().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn float(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}
