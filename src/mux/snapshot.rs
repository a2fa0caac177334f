//! What a pool looks like at one moment, for the admin server.

use super::label::{ConnectionState, EndpointState};
use std::time::Duration;

/// Counts are those of the moment; limits are configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolSnapshot {
    pub queue_depth: usize,
    pub queue_limit: usize,
    /// How long the oldest waiter has waited; zero with an empty queue.
    pub oldest_wait: Duration,
    /// Nothing is sent: requests wait until an operator resumes the pool.
    pub paused: bool,
    /// In no order that lasts: endpoints come and go.
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
    pub state: EndpointState,
    /// How often it went from being used to being left alone.
    pub ejections: u64,
    /// Share of the requests relative to others, before zones and slow start.
    pub weight: u32,
    /// In the own zone, or no zones are known.
    pub near: bool,
    /// Drained by an operator.
    pub held: bool,
    /// No worker is free there, as its status page or hanging handshakes say.
    pub saturated: bool,
}

/// One upstream connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionSnapshot {
    pub endpoint: String,
    pub state: ConnectionState,
    /// Since it began to connect.
    pub age: Duration,
    /// Since it came into its state.
    pub since: Duration,
    /// Exchanges so far, running ones included.
    pub requests: u64,
    /// Exchanges that run on it.
    pub in_flight: u32,
}

/// One exchange that waits for a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct WaiterSnapshot {
    pub waited: Duration,
    /// It had a connection that broke before it could be of use.
    pub again: bool,
}
