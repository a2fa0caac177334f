//! What a pool looks like at one moment, for the admin server.

use super::label::ConnectionState;
use std::time::Duration;

/// Counts are those of the moment; limits are configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolSnapshot {
    pub queue_depth: usize,
    pub queue_limit: usize,
    /// How long the oldest waiter has waited; zero with an empty queue.
    pub oldest_wait: Duration,
    pub endpoints: Vec<EndpointSnapshot>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSnapshot {
    /// `host:port` or the path of a socket: the label `endpoint`.
    pub name: String,
    /// Connections by state, indexed by [`ConnectionState`] as usize.
    pub connections: [usize; ConnectionState::ALL.len()],
    pub limit: usize,
    /// Exchanges on them.
    pub in_flight: usize,
    /// False while every attempt to connect fails.
    pub up: bool,
    /// How often it went from up to not up.
    pub ejections: u64,
}
