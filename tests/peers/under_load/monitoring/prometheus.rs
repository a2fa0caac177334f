//! A real Prometheus with the project's rules, which scrapes one program each second.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::{
    monitoring::dashboard::{file, list, text},
    support::{Folder, Port, Process, get},
};

pub(crate) struct Prometheus {
    _process: Process,
    _folder: Folder,
    port: Port,
}

/// One line of a result: its labels, and its values over time. An instant result has one.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: Vec<(String, String)>,
    /// Seconds since 1970, and the value.
    pub(crate) points: Vec<(f64, f64)>,
}

impl Prometheus {
    /// Scrapes this address as the pod `web-0` in the namespace `shop`.
    #[track_caller]
    pub(crate) fn start(target: SocketAddr) -> Self {
        let (folder, port) = (Folder::new(), Port::free());
        for rules in ["rules.yaml", "alerts.yaml"] {
            folder.write(rules, &fs::read_to_string(file(rules)).expect("rules"));
        }
        let config = folder.write(
            "prometheus.yml",
            &format!(
                "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
                 rule_files: [rules.yaml, alerts.yaml]\n\
                 scrape_configs:\n  - job_name: fcgimux\n    static_configs:\n      - targets: [\"{target}\"]\n        \
                 labels: {{namespace: shop, pod: web-0}}\n"
            ),
        );
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.subfolder("data").display()),
            format!("--web.listen-address={}", port.address()),
            "--log.level=warn".to_owned(),
        ];
        let mut process = Process::start(&folder, "prometheus.log", "prometheus", arguments);
        process.wait_ready(&folder, || {
            TcpStream::connect(port.address()).is_ok() && call(port.address(), "/-/ready").0 == 200
        });
        Self { _process: process, _folder: folder, port }
    }

    /// Now.
    pub(crate) fn query(&self, expr: &str) -> Result<Vec<Series>, String> {
        self.ask("query", expr, "")
    }

    /// The sum of what an expression gives now; 0 when that is nothing.
    #[track_caller]
    pub(crate) fn sum(&self, expr: &str) -> f64 {
        let result = self.query(expr).unwrap_or_else(|error| panic!("{expr}: {error}"));
        result.iter().flat_map(|series| &series.points).map(|(_, value)| value).sum()
    }

    /// Each second between two points in time.
    pub(crate) fn range(&self, expr: &str, [from, to]: [f64; 2]) -> Result<Vec<Series>, String> {
        self.ask("query_range", expr, &format!("&start={from:.3}&end={to:.3}&step=1"))
    }

    /// Every rule with its state.
    #[track_caller]
    pub(crate) fn rules(&self) -> Vec<Value> {
        let (status, answer) = call(self.port.address(), "/api/v1/rules");
        assert_eq!(status, 200, "{answer}");
        let groups = list(&answer["data"]["groups"]).iter();
        groups.flat_map(|group| list(&group["rules"]).to_vec()).collect()
    }

    fn ask(&self, kind: &str, expr: &str, more: &str) -> Result<Vec<Series>, String> {
        let (status, answer) = call(self.port.address(), &format!("/api/v1/{kind}?query={}{more}", encode(expr)));
        if status != 200 {
            return Err(format!("status {status}: {}", answer["error"]));
        }
        Ok(list(&answer["data"]["result"]).iter().map(Series::of).collect())
    }
}

impl Series {
    fn of(json: &Value) -> Self {
        let labels = json["metric"].as_object().expect("labels");
        let points = match list(&json["values"]) {
            [] => vec![point(&json["value"])],
            values => values.iter().map(point).collect(),
        };
        Self { labels: labels.iter().map(|(name, value)| (name.clone(), text(value))).collect(), points }
    }

    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(label, _)| label == name).map_or("", |(_, value)| value)
    }

    /// It has a value that is a number.
    pub(crate) fn says_something(&self) -> bool {
        self.points.iter().any(|(_, value)| value.is_finite())
    }

    /// `{{label}}` filled in.
    pub(crate) fn named(&self, legend: &str) -> String {
        let filled = self
            .labels
            .iter()
            .fold(legend.to_owned(), |legend, (name, value)| legend.replace(&format!("{{{{{name}}}}}"), value));
        filled.trim().to_owned()
    }
}

fn point(json: &Value) -> (f64, f64) {
    (json[0].as_f64().expect("a time"), text(&json[1]).parse().expect("a value"))
}

fn call(address: SocketAddr, path: &str) -> (u16, Value) {
    match get(address, path, Duration::from_secs(10)) {
        Ok(answer) => (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default()),
        Err(error) => (0, Value::String(error.to_string())),
    }
}

/// Percent-encoding of whatever is no letter and no digit.
fn encode(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    });
    encoded.collect()
}
