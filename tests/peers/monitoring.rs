//! Rules, alerts and dashboards as files: whether they hold together, with each other and with the program. A real run is shown to
//! Prometheus in under_load/monitoring.rs.

pub(crate) mod dashboard;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use fcgimux::metrics::definition::{self, Kind};
use serde_json::Value;

use dashboard::{Dashboard, NAMES, file, list, text};

const ALERTS: [&str; 12] = [
    "PoolSaturationHigh",
    "QueueWaitHigh",
    "QueueTimeouts",
    "QueueFull",
    "ErrorRatioHigh",
    "NoEndpoints",
    "EndpointFlapping",
    "ConnectionChurnHigh",
    "PoolLargerThanFpm",
    "DiscoveryStale",
    "ConfigReloadFailed",
    "FcgimuxDown",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn promtool(arguments: &[&str], files: &[PathBuf]) -> String {
    let output = Command::new("promtool").args(arguments).args(files).output().expect("promtool (Debian: prometheus)");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[track_caller]
fn yaml(path: &Path) -> Value {
    serde_yaml::from_str(&fs::read_to_string(path).expect("a file")).expect("YAML")
}

/// The rules of a file.
fn rules(name: &str) -> Vec<Value> {
    list(&yaml(&file(name))["groups"]).iter().flat_map(|group| list(&group["rules"]).to_vec()).collect()
}

/// Every name in an expression that is one of ours, without what a histogram puts behind it.
fn metrics_in(expr: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
    let words = expr.split(|character| !is_part(character));
    words
        .filter(|word| ["fcgimux_", "phpfpm_", "process_"].iter().any(|start| word.starts_with(start)))
        .map(base)
        .collect()
}

fn base(word: &str) -> String {
    let is_histogram =
        |name: &str| definition::ALL.iter().any(|known| known.name == name && known.kind == Kind::Histogram);
    let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| word.strip_suffix(part));
    parts.into_iter().find(|name| is_histogram(name)).unwrap_or(word).to_owned()
}

#[test]
fn promtool_finds_nothing_to_complain_about_in_rules_and_alerts() {
    let files = ["rules.yaml", "alerts.yaml"].map(file);
    promtool(&["check", "rules", "--lint=all", "--lint-fatal"], &files);
    promtool(&["test", "rules"], &[root().join("tests/monitoring/alerts_test.yaml")]);
}

#[test]
fn every_alert_is_tested_while_it_fires_and_while_it_does_not() {
    let tests = yaml(&root().join("tests/monitoring/alerts_test.yaml"));
    let mut cases = BTreeMap::<String, [usize; 2]>::new();
    for case in list(&tests["tests"]).iter().flat_map(|test| list(&test["promql_expr_test"])) {
        let expr = text(&case["expr"]);
        let alert = expr.split('"').nth(1).expect("an alert").to_owned();
        let fires = !list(&case["exp_samples"]).is_empty();
        cases.entry(alert).or_default()[usize::from(fires)] += 1;
    }
    for alert in ALERTS {
        assert!(cases.get(alert).is_some_and(|[silent, fires]| *silent > 0 && *fires > 0), "{alert}: {cases:?}");
    }
}

#[test]
fn every_alert_says_what_it_means_and_what_to_do() {
    let runbooks = fs::read_to_string(root().join("docs/runbooks.md")).expect("runbooks");
    let sections: Vec<(&str, &str)> =
        runbooks.split("\n## ").skip(1).filter_map(|part| part.split_once('\n')).collect();
    let alerts = rules("alerts.yaml");
    let names = |of: Vec<&str>| of.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let named: Vec<String> = alerts.iter().map(|alert| text(&alert["alert"])).collect();
    assert_eq!(named, names(ALERTS.to_vec()));
    assert_eq!(
        names(sections.iter().map(|(title, _)| *title).collect()),
        names(ALERTS.to_vec()),
        "in docs/runbooks.md"
    );
    for (title, section) in sections {
        assert!(
            ["What it means", "Look at", "Do"].iter().all(|part| section.contains(&format!("**{part}.**"))),
            "{title}"
        );
    }
    for alert in &alerts {
        let (name, annotations) = (text(&alert["alert"]), &alert["annotations"]);
        assert!(["warning", "critical"].contains(&text(&alert["labels"]["severity"]).as_str()), "{name}");
        assert!(!text(&alert["for"]).is_empty(), "{name}");
        assert!(["summary", "description"].iter().all(|key| text(&annotations[*key]).ends_with('.')), "{name}");
        assert_eq!(text(&annotations["runbook"]), format!("docs/runbooks.md#{}", name.to_lowercase()));
    }
}

#[test]
fn rules_alerts_and_dashboards_ask_for_what_there_is() {
    let mut known: BTreeSet<String> = definition::ALL.iter().map(|definition| definition.name.to_owned()).collect();
    let recorded: BTreeSet<String> = rules("rules.yaml").iter().map(|rule| text(&rule["record"])).collect();
    assert!(recorded.iter().all(|name| name.matches(':').count() == 2), "level:metric:operation: {recorded:?}");
    let of_rules = ["rules.yaml", "alerts.yaml"].map(rules).concat().into_iter().map(|rule| text(&rule["expr"]));
    let of_panels = NAMES.map(Dashboard::read).into_iter().flat_map(|dashboard| dashboard.panels);
    let of_panels = of_panels.flat_map(|panel| panel.targets).map(|target| target.expr);
    let asked: Vec<String> = of_rules.chain(of_panels).collect();
    for expr in &asked {
        let unknown: Vec<_> = metrics_in(expr).into_iter().filter(|name| !known.contains(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?} in {expr}");
    }
    // What nobody looks at is either of no use or forgotten.
    asked.iter().flat_map(|expr| metrics_in(expr)).for_each(|name| _ = known.remove(&name));
    println!("in no rule and no panel: {known:?}");
    let rest = [
        "fcgimux_dropped_records_total",
        "fcgimux_endpoint_near",
        "fcgimux_endpoint_state",
        "fcgimux_endpoint_weight",
        "fcgimux_php_settings_total",
        "phpfpm_listen_queue_length",
    ];
    assert_eq!(known.iter().map(String::as_str).collect::<Vec<_>>(), rest);
}

#[test]
fn dashboards_can_be_provisioned_as_they_are() {
    let mut ids = BTreeSet::new();
    for name in NAMES {
        let Dashboard { json, panels } = Dashboard::read(name);
        assert!(
            json.get("__inputs").is_none() && json.get("id").is_none(),
            "{name}: provisioning does not fill these in"
        );
        assert_eq!(text(&json["uid"]), format!("fcgimux-{name}"));
        assert!(text(&json["title"]).starts_with("fcgimux / ") && json["schemaVersion"] == 42, "{name}");
        let variables: Vec<String> = list(&json["templating"]["list"]).iter().map(|each| text(&each["name"])).collect();
        let expected = ["datasource", "namespace", "pod", "pool"];
        assert_eq!(variables, expected[..if name == "sidecar" { 3 } else { 4 }], "{name}");
        for panel in &panels {
            let at = format!("{name}: {}", panel.title);
            assert!(ids.insert((name, panel.title.clone())), "{at}: twice");
            assert!(!panel.unit.is_empty() && text(&panel.json["description"]).ends_with('.'), "{at}");
            assert_eq!(text(&panel.json["datasource"]["uid"]), "${datasource}", "{at}");
            assert!(!list(&panel.json["fieldConfig"]["defaults"]["thresholds"]["steps"]).is_empty(), "{at}");
            let legends: BTreeSet<_> = panel.targets.iter().map(|target| &target.legend).collect();
            let told_apart = legends.len() == panel.targets.len() || panel.kind == "table";
            assert!(told_apart && legends.iter().all(|legend| !legend.is_empty()), "{at}");
            for target in &panel.targets {
                assert!(target.expr.contains("namespace=~\"$namespace\", pod=~\"$pod\""), "{at}: {}", target.expr);
            }
        }
        assert_no_overlap(name, list(&json["panels"]));
    }
}

/// Panels lie side by side on a grid of 24 columns, and each has an id of its own.
#[track_caller]
fn assert_no_overlap(name: &str, panels: &[Value]) {
    let mut taken = BTreeMap::new();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "{name}");
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a place"));
        assert!(x + w <= 24, "{name}: {}", panel["title"]);
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            let before = taken.insert(place, &panel["title"]);
            assert!(before.is_none(), "{name}: {} on {before:?}", panel["title"]);
        }
    }
}

#[test]
fn runbooks_name_panels_that_there_are() {
    let runbooks = fs::read_to_string(root().join("docs/runbooks.md")).expect("runbooks").replace('\n', " ");
    let mut named = 0;
    for (name, word) in NAMES.into_iter().zip(["Pool", "Endpoints", "php-fpm", "Sidecar"]) {
        let titles: Vec<String> = Dashboard::read(name).panels.into_iter().map(|panel| panel.title).collect();
        for part in runbooks.split(&format!("*{word}: ")).skip(1) {
            let title = part.split('*').next().unwrap_or_default();
            assert!(titles.iter().any(|known| known == title), "{word} has no panel {title}");
            named += 1;
        }
    }
    assert!(named >= 10, "{named}");
}
