//! Many exchanges over few connections, with everything checked: whose bytes came, what one exchange may take from
//! others, and how much memory it may cost.
#![expect(clippy::disallowed_methods, reason = "tests against real peers need the real clock")]

mod cross_talk;
mod fairness;
mod memory;

use std::time::Duration;

use crate::support::Fcgimux;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const KIB: u64 = 1024;

fn address(mux: &Fcgimux) -> String {
    mux.socket().display().to_string()
}

fn in_flight(mux: &Fcgimux) -> f64 {
    mux.metrics().sum("fcgimux_upstream_requests_in_flight", &[])
}
