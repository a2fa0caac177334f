//! The one place that turns a [`Definition`] into a handle, and handles into text.

use super::definition::{self, Definition, Kind};
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::time::Duration;

/// Upper bounds in seconds. From below a round trip in one machine to beyond the default timeouts (60 s), so that
/// nothing of interest falls into the last bucket.
const BUCKETS: [f64; 20] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0,
    60.0, 120.0,
];

/// The exporter ignores it; the interface asks for it.
const METADATA: Metadata<'static> = Metadata::new("fcgimux", Level::INFO, None);

/// A recorder of its own rather than the process-wide one: several instances run side by side in one test process.
pub(super) struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Registry {
    /// `longest_wait` is the longest time that is measured with a limit of the operator's: buckets reach past it.
    pub(super) fn new(longest_wait: Duration) -> Self {
        let builder = PrometheusBuilder::new().set_buckets(&buckets(longest_wait));
        // The only error is an empty list.
        let recorder = builder.expect("there is at least one bucket").build_recorder();
        for definition in definition::ALL {
            describe(&recorder, definition);
        }
        Self { handle: recorder.handle(), recorder }
    }

    /// Handles of one name and the same label values are the same counter.
    pub(super) fn counter(&self, definition: &Definition, values: &[&str]) -> Counter {
        self.recorder.register_counter(&key(definition, Kind::Counter, values), &METADATA)
    }

    pub(super) fn gauge(&self, definition: &Definition, values: &[&str]) -> Gauge {
        self.recorder.register_gauge(&key(definition, Kind::Gauge, values), &METADATA)
    }

    pub(super) fn histogram(&self, definition: &Definition, values: &[&str]) -> Histogram {
        self.recorder.register_histogram(&key(definition, Kind::Histogram, values), &METADATA)
    }

    /// Without the series of pools that are not to be kept: the recorder cannot forget them.
    pub(super) fn render(&self, keep: impl Fn(&str) -> bool) -> String {
        let text = self.handle.render();
        let mut kept = String::with_capacity(text.len());
        for family in text.split_inclusive("\n\n") {
            let (mut samples, start) = (0, kept.len());
            for line in family.split_inclusive('\n') {
                let is_sample = !line.starts_with('#') && line != "\n";
                if !is_sample || pool_of(line).is_none_or(&keep) {
                    kept.push_str(line);
                    samples += usize::from(is_sample);
                }
            }
            if samples == 0 {
                kept.truncate(start);
            }
        }
        kept
    }

    pub(super) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// The value of the label `pool`, which stands first wherever it stands and has no character that is escaped.
fn pool_of(sample: &str) -> Option<&str> {
    sample.split_once("{pool=\"")?.1.split_once('"').map(|(pool, _)| pool)
}

fn describe(recorder: &PrometheusRecorder, definition: &Definition) {
    let (name, unit, help) = (definition.name.into(), Some(definition.unit), definition.help.into());
    match definition.kind {
        Kind::Counter => recorder.describe_counter(name, unit, help),
        Kind::Gauge => recorder.describe_gauge(name, unit, help),
        Kind::Histogram => recorder.describe_histogram(name, unit, help),
    }
}

fn key(definition: &Definition, kind: Kind, values: &[&str]) -> Key {
    debug_assert_eq!(definition.kind, kind, "{}", definition.name);
    debug_assert_eq!(definition.labels.len(), values.len(), "{}", definition.name);
    let pairs = definition.labels.iter().zip(values);
    let labels: Vec<Label> = pairs.map(|(label, value)| Label::new(*label, (*value).to_owned())).collect();
    Key::from_parts(definition.name, labels)
}

fn buckets(longest_wait: Duration) -> Vec<f64> {
    let mut bounds = BUCKETS.to_vec();
    let mut last = BUCKETS[BUCKETS.len() - 1];
    while last <= longest_wait.as_secs_f64() {
        last *= 2.0;
        bounds.push(last);
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_reach_past_the_longest_wait() {
        assert_eq!(buckets(Duration::from_secs(10)), BUCKETS);
        assert_eq!(buckets(Duration::from_secs(120))[20..], [240.0]);
        assert_eq!(buckets(Duration::from_secs(600))[20..], [240.0, 480.0, 960.0]);
    }
}
