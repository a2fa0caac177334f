//! What fcgimux holds while nothing runs, to see afterwards that nothing leaked.

use std::time::Duration;

use super::{Fcgimux, bounded::eventually};

/// Resident memory may be so much higher afterwards: an allocator keeps pages, and each pass fragments it differently.
const MEMORY_SLACK_KIB: u64 = 4 * 1024;
/// Idle connections must have been reaped by then.
const PATIENCE: Duration = Duration::from_secs(15);

/// Taken while nothing runs; give the pool short idle timeouts.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    fds: usize,
    rss_kib: u64,
}

impl Level {
    /// A pool's line with which connections are gone soon after their last exchange.
    pub const SHORT_IDLE: &str = "connections: {per_endpoint: 4, idle_timeout: 200ms, surplus_idle: 100ms}";

    #[track_caller]
    pub fn of(mux: &Fcgimux) -> Self {
        // Its admin server may come a little later than its socket.
        assert!(eventually(PATIENCE, || mux.page("/livez").0 == 200), "{}", mux.log());
        assert!(eventually(PATIENCE, || rests(mux)), "{}", occupied(mux));
        Self { fds: mux.open_fds(), rss_kib: mux.rss_kib() }
    }

    /// Fails unless connections, waiters, descriptors and memory are back where they were, and nothing panicked.
    #[track_caller]
    pub fn assert_back(self, mux: &Fcgimux) {
        let log = mux.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(eventually(PATIENCE, || rests(mux)), "{}", occupied(mux));
        let back = eventually(PATIENCE, || mux.open_fds() <= self.fds);
        assert!(back, "{} descriptors, {} before", mux.open_fds(), self.fds);
        let rss = mux.rss_kib();
        assert!(rss <= self.rss_kib + MEMORY_SLACK_KIB, "{rss} KiB of memory, {} before", self.rss_kib);
    }
}

/// No connection on either side and nobody who waits; places of workers that may be busy count as connections.
fn rests(mux: &Fcgimux) -> bool {
    let metrics = mux.metrics();
    let names = ["fcgimux_downstream_connections", "fcgimux_upstream_connections", "fcgimux_queue_depth"];
    names.iter().all(|name| metrics.sum(name, &[]) == 0.0)
}

fn occupied(mux: &Fcgimux) -> String {
    let metrics = mux.metrics();
    let held = metrics.iter().filter(|(series, value)| {
        *value != 0.0
            && (series.contains("_connections{") || series.contains("queue_depth") || series.contains("_connections "))
    });
    format!("not at rest: {:?}", held.collect::<Vec<_>>())
}
