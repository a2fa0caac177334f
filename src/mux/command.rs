//! What an operator may ask of a running pool.

/// Endpoints are named as they are shown: `10.0.0.7:9000`, or the path of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Requests wait from now on; connections close behind what runs on them.
    Pause,
    Resume,
    /// Every connection ends behind its exchange, and new ones take their places.
    Reconnect,
    /// Nothing new goes to this endpoint; what runs there ends.
    Drain(String),
    Undrain(String),
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("no endpoint {0} in this pool")]
    NoEndpoint(String),
}
