//! What is kept of one request of a web server's connection.

use crate::{
    mux::{failure::Kind, refuse::Refused},
    net::{spool::Spool, upload::Upload},
};
use std::{task::Waker, time::Instant};

/// What is kept of a request between its first and its last record.
#[derive(Debug, Default)]
pub(in crate::net) struct Held {
    /// Its body, until its exchange begins; of one that goes on as it comes nothing.
    pub(super) spool: Option<Spool>,
    /// Of a body that goes on as it comes, what its exchange has not taken.
    pub(super) upload: Upload,
    /// When the web server last sent something of it.
    pub(super) sent_at: Option<Instant>,
    /// What its exchange must hear of, and whom to wake for it.
    pub(super) told: Option<Told>,
    pub(super) listener: Option<Waker>,
}

impl Held {
    /// Has its exchange hear of something.
    pub(super) fn tell(&mut self, told: Told) {
        self.told = Some(told);
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.wake();
        }
    }
}

/// What an exchange is told of its web server.
#[derive(Debug)]
pub(in crate::net) enum Told {
    /// It takes the request back.
    Aborted,
    /// The rest of the request cannot be taken in.
    Cut(Refused),
    /// Nothing takes its body, and other requests wait behind that.
    Stalled,
    /// The connection is over.
    Gone(Kind),
}

impl Told {
    /// The client has left, as far as the web server says.
    pub(in crate::net) fn is_leave(&self) -> bool {
        matches!(self, Self::Aborted | Self::Gone(Kind::Closed | Kind::Broken(_)))
    }
}

impl From<Told> for Kind {
    fn from(told: Told) -> Self {
        match told {
            Told::Aborted => Self::Aborted,
            Told::Cut(why) => Self::Protocol(why.detail),
            Told::Stalled => Self::Stalled,
            Told::Gone(kind) => kind,
        }
    }
}
