//! Lines about exchanges: one for each in the access log, and those that warn. They never hold params or bodies, but for
//! the method, the script and the ids of a trace.

use super::{
    clock::{self, seconds},
    course::Course,
    serve::Site,
};
use crate::mux::{
    Request,
    failure::{Failure, Origin},
    label::{Outcome, Refusal, Sticky},
    refuse::Refused,
};
use std::{
    fmt::Display,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

/// Which of the exchanges that went well get a line.
pub(super) struct Sampling {
    /// 0.0 to 1.0.
    share: f64,
    hasher: RandomState,
    seen: AtomicU64,
}

impl Sampling {
    pub(super) fn new(share: f64) -> Self {
        Self { share, hasher: RandomState::new(), seen: AtomicU64::new(0) }
    }

    fn picks_next(&self) -> bool {
        // The hashes of a count are as good as drawn.
        self.share >= 1.0
            || (self.hasher.hash_one(self.seen.fetch_add(1, Ordering::Relaxed)) as f64) < self.share * 2f64.powi(64)
    }
}

impl Site {
    /// One line for an exchange that is over for its web server, if it is to have one; whether it has. `request`: not of one
    /// that was refused before it was whole.
    pub(super) fn log_access(
        &self,
        request: Option<&Request>,
        course: &Course,
        outcome: Outcome,
        refusal: Option<Refusal>,
    ) -> bool {
        let Some(sampling) = &self.access else { return false };
        let went_well =
            outcome == Outcome::Ok && course.retries == 0 && course.status.is_none_or(|status| status < 500);
        if went_well && !sampling.picks_next() {
            return false;
        }
        let phases = course.phases(clock::now());
        let facts = course.facts.as_ref();
        let trace = request.and_then(Request::trace);
        tracing::info!(
            target: "access",
            pool = self.pool.name,
            outcome = outcome.label(),
            reason = refusal.map(Refusal::label),
            status = course.status,
            method = request.and_then(Request::method),
            script = request.map(Request::script).as_deref(),
            endpoint = facts.map(|facts| tracing::field::display(&facts.target)),
            seconds = seconds(phases.whole),
            queued = seconds(phases.queued),
            lost = phases.lost.map(seconds),
            sent = phases.sent.map(seconds),
            first_byte = phases.first_byte.map(seconds),
            end = phases.end.map(seconds),
            retries = course.retries,
            connection_age = facts.map(|facts| seconds(facts.age)),
            connection_requests = facts.map(|facts| facts.used),
            request_body = request.map(|request| request.body),
            response_bytes = course.response,
            trace_id = trace.map(|trace| trace.trace_id),
            span_id = trace.map(|trace| trace.span_id),
            "request"
        );
        true
    }

    /// One line for an exchange that broke, also where it is sent again; none above `debug` for a client that left.
    pub(super) fn note_broken(&self, request: &Request, course: &Course, failure: &Failure) {
        let facts = course.facts.as_ref();
        if failure.origin != Origin::WebServer {
            let endpoint = facts.map(|facts| &facts.target as &dyn Display);
            self.pool.metrics.failed(failure.outcome().label(), endpoint, failure);
        }
        let trace = request.trace();
        // The level of a line cannot be a variable.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    pool = self.pool.name,
                    endpoint = facts.map(|facts| tracing::field::display(&facts.target)),
                    connection_age = facts.map(|facts| seconds(facts.age)),
                    connection_requests = facts.map(|facts| facts.used),
                    phase = ?failure.phase,
                    method = request.method(),
                    script = &*request.script(),
                    trace_id = trace.map(|trace| trace.trace_id),
                    span_id = trace.map(|trace| trace.span_id),
                    "exchange broke: {failure}"
                )
            };
        }
        if failure.is_leave() { line!(debug) } else { line!(warn) }
    }

    /// A line for the first request of a pool that changes its worker for all behind it, or would have.
    pub(super) fn note_sticky(&self, request: &Request, action: Sticky) {
        if !self.pool.metrics.php_settings(action) {
            return;
        }
        let (pool, method, script) = (&self.pool.name, request.method(), request.script());
        let host = request.host();
        match action {
            Sticky::Passed => tracing::info!(
                pool,
                method,
                script = &*script,
                host = host.as_deref(),
                "PHP_VALUE or PHP_ADMIN_VALUE goes on to php-fpm, where it stays in the worker for all requests behind it; \
                 where sites share the pool, params.deny keeps it out (said once; fcgimux_php_settings_total counts)"
            ),
            Sticky::Stripped => tracing::warn!(
                pool,
                method,
                script = &*script,
                host = host.as_deref(),
                "PHP_VALUE or PHP_ADMIN_VALUE is taken out of requests (params.on_denied: strip; said once; \
                 fcgimux_php_settings_total counts)"
            ),
        }
    }

    /// One line for a request that is answered in the application's stead.
    pub(super) fn note_refused(&self, request: Option<&Request>, why: &Refused) {
        let trace = request.and_then(Request::trace);
        tracing::warn!(
            pool = self.pool.name,
            reason = why.refusal.label(),
            method = request.and_then(Request::method),
            script = request.map(Request::script).as_deref(),
            trace_id = trace.map(|trace| trace.trace_id),
            span_id = trace.map(|trace| trace.span_id),
            "request refused: {}",
            why.detail
        );
    }
}
