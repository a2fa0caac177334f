//! Lines about workers that go on behind their responses.

use crate::{
    mux::Request,
    net::{clock::seconds, course::Course},
};
use std::time::Duration;

/// A worker that goes on with a request for longer, after its response, is worth a line.
const LATE: Duration = Duration::from_millis(10);

/// What a line about a worker that goes on behind its response says, of an exchange that has a line of its own.
///
/// A line of its own, because that of the exchange cannot wait: the visitor has his answer, and the worker may take minutes.
pub(in crate::net) struct Afterwards {
    pool: String,
    endpoint: String,
    script: String,
    trace: Option<(String, String)>,
}

impl Afterwards {
    pub(in crate::net) fn new(pool: &str, request: &Request, course: &Course) -> Box<Self> {
        let trace = request.trace().map(|trace| (trace.trace_id.to_owned(), trace.span_id.to_owned()));
        let endpoint = course.facts.as_ref().map_or_else(String::new, |facts| facts.target.to_string());
        Box::new(Self { pool: pool.to_owned(), endpoint, script: request.script().into_owned(), trace })
    }

    /// The worker is free again.
    pub(in crate::net) fn handle_settled(&self, took: Duration) {
        if took < LATE {
            return;
        }
        let (trace_id, span_id) = self.trace.as_ref().map(|(trace, span)| (trace.as_str(), span.as_str())).unzip();
        let Self { pool, endpoint, script, .. } = self;
        let settled = seconds(took);
        tracing::info!(target: "access", pool, endpoint, script, settled, trace_id, span_id, "settled");
    }
}
