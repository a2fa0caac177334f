//! What came of a load.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

use super::super::http::{Answer, HttpError};
use super::request::Request;

/// First messages kept of each kind of error.
const SAMPLES: usize = 5;

/// Counts, times and errors of all clients together.
#[derive(Default)]
pub struct Report {
    /// Requests begun.
    pub sent: u64,
    /// Answers that were whole and right.
    pub ok: u64,
    /// Everything else, by kind: `foreign answer`, `wrong answer`, `status 502`, and the kinds of [`HttpError`].
    pub errors: BTreeMap<String, Failure>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Tokens of the requests without a right answer.
    pub failed_tokens: Vec<String>,
    /// Tokens of the requests that took longer than [`super::Load::late_after`], and how long.
    pub late: Vec<(String, Duration)>,
    /// Microseconds of right answers, by label.
    latency: BTreeMap<&'static str, Histogram<u64>>,
    /// The longest that any request took, failed ones included.
    pub longest: Duration,
    pub took: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Failure {
    pub count: u64,
    /// The first of them.
    pub samples: Vec<String>,
}

impl Report {
    /// The latency of right answers below which this share (0.0 to 1.0) of a label's requests stayed.
    pub fn quantile(&self, label: &str, share: f64) -> Duration {
        let value = self.latency.get(label).map_or(0, |histogram| histogram.value_at_quantile(share));
        Duration::from_micros(value)
    }

    /// Right answers of a label.
    pub fn count(&self, label: &str) -> u64 {
        self.latency.get(label).map_or(0, Histogram::len)
    }

    pub fn error_count(&self, kind: &str) -> u64 {
        self.errors.get(kind).map_or(0, |failure| failure.count)
    }

    /// Right answers per second.
    pub fn throughput(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 requests")]
        let ok = self.ok as f64;
        ok / self.took.as_secs_f64().max(1e-9)
    }

    /// Fails unless every answer was whole and right.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.errors.is_empty() && self.ok > 0, "{self}");
    }

    /// Fails when an answer was mixed up, whatever else happened.
    #[track_caller]
    pub fn assert_not_mixed_up(&self) {
        let mixed = self.error_count("foreign answer") + self.error_count("wrong answer");
        assert_eq!(mixed, 0, "{self}");
    }

    pub(super) fn settle(
        &mut self,
        request: &Request,
        token: &str,
        answered: Result<Answer, HttpError>,
        took: Duration,
    ) {
        self.longest = self.longest.max(took);
        let fault = match answered {
            Ok(answer) => {
                *self.statuses.entry(answer.status).or_default() += 1;
                request.fault(token, &answer)
            }
            Err(error) => Some((error.kind().to_owned(), error.to_string())),
        };
        if let Some((kind, message)) = fault {
            self.failed_tokens.push(token.to_owned());
            self.fail(kind, format!("{} {} after {took:?}: {message}", request.method, request.path));
            return;
        }
        self.ok += 1;
        let histogram = self.latency.entry(request.label).or_insert_with(new_histogram);
        histogram.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn fail(&mut self, kind: String, message: String) {
        let failure = self.errors.entry(kind).or_default();
        failure.count += 1;
        if failure.samples.len() < SAMPLES {
            failure.samples.push(message);
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.longest = self.longest.max(other.longest);
        self.failed_tokens.extend(other.failed_tokens);
        self.late.extend(other.late);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (label, histogram) in other.latency {
            let sum = self.latency.entry(label).or_insert_with(new_histogram);
            sum.add(&histogram).expect("histograms of one shape");
        }
        for (kind, failure) in other.errors {
            let sum = self.errors.entry(kind).or_default();
            sum.count += failure.count;
            let room = SAMPLES - sum.samples.len();
            sum.samples.extend(failure.samples.into_iter().take(room));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, ok, took, longest, .. } = self;
        writeln!(out, "{ok} of {sent} right in {took:.1?}, {:.0}/s, longest {longest:.1?}", self.throughput())?;
        for label in self.latency.keys() {
            let [half, tail] = [0.5, 0.99].map(|share| self.quantile(label, share));
            writeln!(out, "  {label}: {} right, p50 {half:.1?}, p99 {tail:.1?}", self.count(label))?;
        }
        for (kind, failure) in &self.errors {
            writeln!(out, "  {kind}: {}", failure.count)?;
            for sample in &failure.samples {
                writeln!(out, "    {sample}")?;
            }
        }
        Ok(())
    }
}

/// Up to two minutes with three digits.
fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000, 3).expect("bounds of a histogram")
}
