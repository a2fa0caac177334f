//! The sending side of a web server's connection: whole records, kept where the web server does not take them at once.

use super::WebServer;
use crate::{
    mux::{
        failure::Kind,
        refuse::{put_end, put_note},
    },
    net::clock,
    wire::ProtocolStatus,
};
use std::{
    io::{self, ErrorKind},
    task::{Context, Poll, ready},
    time::Instant,
};

impl WebServer {
    /// Sends as much as goes at once and keeps the rest. Ask [`WebServer::poll_clear`] before sending more.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at_once = if self.pending.is_empty() { self.socket.try_send(bytes) } else { Ok(0) };
        let sent = match at_once {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            sent => sent?,
        };
        if sent < bytes.len() {
            if self.pending.is_empty() {
                self.took_at = clock::now();
            }
            self.pending.extend_from_slice(&bytes[sent..]);
        }
        Ok(())
    }

    /// Sends whole records of a response.
    pub(in crate::net) fn respond(&mut self, records: &[u8]) -> io::Result<()> {
        self.send(records)
    }

    /// Sends whole records of our own. A web server that does not read them is not read from.
    pub(in crate::net) fn answer(&mut self, records: &[u8]) -> io::Result<()> {
        self.send(records)?;
        self.answers = if self.is_clear() { 0 } else { self.answers + records.len() };
        Ok(())
    }

    /// Ends a request with nothing but END_REQUEST.
    pub(in crate::net) fn end(&mut self, id: u16) -> io::Result<()> {
        let mut out = vec![];
        put_end(&mut out, id, ProtocolStatus::RequestComplete);
        self.ended(id);
        self.answer(&out)
    }

    /// The exchange goes no further: has the web server see that, as it would see php-fpm die, and says why for its log.
    ///
    /// Only the end of the connection can say so: END_REQUEST would make the web server take what it has for the whole.
    /// Others that run on the connection must not die of that: as long as there are any, the exchange just does not end, as
    /// if its application hung.
    pub(in crate::net) fn break_off(&mut self, id: u16, detail: &str) {
        if self.over.is_some() {
            self.ended(id);
            return;
        }
        self.intake.drop_rest(id);
        self.unblock(id);
        let mut out = vec![];
        put_note(&mut out, id, detail);
        // One that is gone need not be told.
        _ = self.send(&out);
        self.cut_short.push(id);
    }

    /// No exchange runs any more: if one was cut short, the connection ends with a break (see [`Inlet`]).
    pub(in crate::net) fn break_if_cut_short(&mut self) {
        if !self.cut_short.is_empty() && self.over.is_none() && self.intake.open().next().is_none() {
            self.gone(Kind::Broken("a response was cut short".into()));
        }
    }

    /// True if the web server has taken everything so far.
    pub(in crate::net) fn is_clear(&self) -> bool {
        self.pending.is_empty()
    }

    /// Ready once the web server has taken everything so far, or never will. Those that wait get their turns in order.
    pub(in crate::net) fn poll_clear(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_clear() || self.over.is_some() {
            return Poll::Ready(());
        }
        if !self.until_clear.iter().any(|waker| waker.will_wake(context.waker())) {
            self.until_clear.push_back(context.waker().clone());
        }
        Poll::Pending
    }

    /// When the web server last took a byte, or was first left one to take.
    pub(in crate::net) fn took_at(&self) -> Instant {
        self.took_at
    }

    /// Sends what is pending. To be called by the connection's reader alone. Ready when nothing is left.
    pub(in crate::net) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let sent = match ready!(self.socket.poll_write(context, |socket| socket.try_send(&self.pending))) {
                Ok(sent) => sent,
                Err(error) => {
                    self.pending.clear();
                    return Poll::Ready(Err(error));
                }
            };
            self.pending.drain(..sent);
            self.took_at = clock::now();
            if self.pending.is_empty() {
                self.pending = vec![]; // a web server that waits holds no memory
                self.answers = 0;
            }
        }
        // One at a time: of all who wait, the one that has sent most would be the first again.
        if let Some(next) = self.until_clear.pop_front() {
            next.wake();
            // It may have nothing to send any more; then it is the next one's turn.
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }
}
