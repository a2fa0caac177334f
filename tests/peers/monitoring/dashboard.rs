//! A dashboard as Grafana reads it from its file.

use std::{fs, path::PathBuf};

use serde_json::Value;

/// In the order in which they link to each other.
pub(crate) const NAMES: [&str; 4] = ["pool", "endpoints", "php-fpm", "sidecar"];

pub(crate) struct Dashboard {
    pub(crate) json: Value,
    pub(crate) panels: Vec<Panel>,
}

/// One that shows something; the headings between them are none.
pub(crate) struct Panel {
    pub(crate) json: Value,
    pub(crate) title: String,
    /// `timeseries`, `stat`, `heatmap` or `table`.
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) targets: Vec<Target>,
}

#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) expr: String,
    pub(crate) legend: String,
}

impl Dashboard {
    #[track_caller]
    pub(crate) fn read(name: &str) -> Self {
        let text = fs::read_to_string(file(&format!("dashboards/{name}.json"))).expect("a dashboard");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let panels = list(&json["panels"]).iter().filter(|panel| panel["type"] != "row").map(Panel::of);
        Self { panels: panels.collect(), json }
    }
}

impl Panel {
    fn of(json: &Value) -> Self {
        let targets = list(&json["targets"]).iter();
        Self {
            title: text(&json["title"]),
            kind: text(&json["type"]),
            unit: text(&json["fieldConfig"]["defaults"]["unit"]),
            targets: targets
                .map(|target| Target { expr: text(&target["expr"]), legend: text(&target["legendFormat"]) })
                .collect(),
            json: json.clone(),
        }
    }
}

impl Target {
    /// With the variables of the dashboard filled in as Grafana does with All chosen, over this interval.
    pub(crate) fn query(&self, interval: &str) -> String {
        let all = ["$namespace", "$pod", "$pool"];
        let filled = all.iter().fold(self.expr.clone(), |expr, variable| expr.replace(variable, ".*"));
        filled.replace("$__rate_interval", interval)
    }
}

/// Below deploy/monitoring.
pub(crate) fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/monitoring").join(name)
}

/// None, where there is no list.
pub(crate) fn list(json: &Value) -> &[Value] {
    json.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text(json: &Value) -> String {
    json.as_str().unwrap_or_default().to_owned()
}
