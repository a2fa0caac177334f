//! Why a web server's connection is over.

use crate::mux::{failure::Kind, intake::Violation};
use std::io;

/// The connection is over.
#[derive(Debug, thiserror::Error)]
pub(in crate::net) enum Over {
    #[error("web server closed the connection")]
    Closed,
    #[error("connection of the web server broke: {0}")]
    Broken(#[from] io::Error),
    #[error("web server broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error("web server did not send the rest of its request in time (timeouts.read)")]
    Silent,
}

impl From<Over> for Kind {
    fn from(over: Over) -> Self {
        match over {
            Over::Closed => Self::Closed,
            Over::Broken(error) => Self::Broken(error.to_string()),
            Over::Silent => Self::Timeout("read"),
            Over::Violation(_) => Self::Protocol(over.to_string()),
        }
    }
}
