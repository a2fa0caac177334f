//! What a multiplexing application counts.

use std::collections::HashMap;

use crate::support::fcgi::pattern::Pattern;

/// Defects beyond so many are not written down.
const DEFECTS: usize = 20;

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub connections: usize,
    pub open_connections: usize,
    pub most_open_connections: usize,
    /// GET_VALUES that came.
    pub asked_values: usize,
    pub begun: usize,
    /// Requests that have not ended, over all connections.
    pub open_ids: usize,
    pub most_open_ids: usize,
    pub most_open_ids_on_a_connection: usize,
    /// END_REQUESTs that were due.
    pub ended: usize,
    /// Requests that were open when their connection ended.
    pub lost: usize,
    pub aborts: usize,
    /// Aborts of requests that had ended, or never begun.
    pub late_aborts: usize,
    /// Other records of requests that had ended: on their way when they did.
    pub late_records: usize,
    /// Requests with a second one on a connection that takes one.
    pub refused_multiplexing: usize,
    /// Requests whose token had been executed before.
    pub executed_again: usize,
    pub posts_executed_twice: usize,
    /// What no web server may do, and bytes that were not those that follow from the token.
    pub defects: Vec<String>,
    /// By token.
    executed: HashMap<u64, usize>,
    /// How often a token was to be done wrong.
    attempts: HashMap<u64, usize>,
}

impl Tally {
    pub fn executed(&self, token: &str) -> usize {
        self.executed.get(&Pattern::of(token).key()).copied().unwrap_or(0)
    }

    /// Different tokens that were executed.
    pub fn executed_tokens(&self) -> usize {
        self.executed.len()
    }

    pub(super) fn execute(&mut self, token: &str, method: &str) {
        let count = self.executed.entry(Pattern::of(token).key()).or_default();
        *count += 1;
        self.executed_again += usize::from(*count > 1);
        if *count > 1 && method == "POST" {
            self.posts_executed_twice += 1;
            self.defect(format!("POST {token} was executed {} times", self.executed(token)));
        }
    }

    /// Counts one more attempt; answers how many there were before.
    pub(super) fn attempt(&mut self, token: &str) -> usize {
        let count = self.attempts.entry(Pattern::of(token).key()).or_default();
        *count += 1;
        *count - 1
    }

    pub(super) fn begin(&mut self, open_on_connection: usize) {
        self.begun += 1;
        self.open_ids += 1;
        self.most_open_ids = self.most_open_ids.max(self.open_ids);
        self.most_open_ids_on_a_connection = self.most_open_ids_on_a_connection.max(open_on_connection);
    }

    pub(super) fn end(&mut self) {
        self.ended += 1;
        self.open_ids -= 1;
    }

    pub(super) fn defect(&mut self, what: String) {
        if self.defects.len() < DEFECTS {
            self.defects.push(what);
        }
    }
}
