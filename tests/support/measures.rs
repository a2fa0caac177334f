//! A page of metrics in the Prometheus text format.

use std::collections::BTreeMap;

/// Every sample by its name with labels, as written: `fcgimux_requests_total{pool="default",outcome="complete"}`.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    samples: BTreeMap<String, f64>,
}

impl Measures {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        });
        Self { samples: samples.collect() }
    }

    /// One series, by its name with labels as written.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    /// Sum of all series of a name that have these labels; 0 without one.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matching = self.samples.iter().filter(|(series, _)| matches(series, name, labels));
        matching.map(|(_, value)| value).sum()
    }

    /// Whether any series has this name.
    pub fn has(&self, name: &str) -> bool {
        self.samples.keys().any(|series| matches(series, name, &[]))
    }

    /// How much a sum grew since `before`.
    pub fn since(&self, before: &Self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.sum(name, labels) - before.sum(name, labels)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.samples.iter().map(|(series, value)| (series.as_str(), *value))
    }
}

fn matches(series: &str, name: &str, labels: &[(&str, &str)]) -> bool {
    let Some(rest) = series.strip_prefix(name) else { return false };
    let inside = match rest.strip_prefix('{') {
        Some(inside) => inside.trim_end_matches('}'),
        None if rest.is_empty() => "",
        None => return false,
    };
    let found = read_labels(inside);
    labels.iter().all(|(label, value)| found.iter().any(|(name, is)| name == label && is == value))
}

/// `a="b",c="d"` with the escapes of the format.
fn read_labels(text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((name, quoted)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let mut end = quoted.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| if escaped == 'n' { '\n' } else { escaped })),
                other => value.push(other),
            }
        }
        labels.push((name.trim_start_matches(',').to_owned(), value));
        rest = &quoted[end..];
    }
    labels
}
