//! One sending of a request: its head, then its body, as far as the socket takes them.

use super::{socket::Socket, spool::Spool};
use crate::mux::{
    Request,
    request::{Framing, Front, NUDGE},
};
use nix::sys::sendfile::sendfile64;
use std::{
    io::{self, ErrorKind, IoSlice},
    task::{Context, Poll, ready},
};

/// Bytes that one sendfile call may take: others must get their turn.
const SENDFILE_CHUNK: usize = 1024 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Outgoing {
    /// All in front of the body.
    head: Vec<u8>,
    spool: Spool,
    /// Bytes of head, file and memory, in this order, that have been sent.
    sent: u64,
    /// Bytes of the GET_VALUES at its start.
    questions: usize,
    /// Of the head only so many bytes may go out yet.
    held_behind: Option<usize>,
}

impl Outgoing {
    pub(super) fn new(spool: Spool) -> Self {
        Self { head: vec![], spool, sent: 0, questions: 0, held_behind: None }
    }

    /// Our request id.
    pub(super) fn id(&self) -> u16 {
        self.spool.id()
    }

    /// From the beginning, on another connection perhaps.
    pub(super) fn start(&mut self, request: &Request, keep_conn: bool, front: &Front) {
        self.head.clear();
        (self.sent, self.held_behind) = (0, front.holds().then(|| front.size()));
        self.questions = front.size();
        request.put_head(&mut self.head, Framing { id: self.spool.id(), keep_conn, front });
    }

    fn file_len(&self) -> u64 {
        self.spool.file().map_or(0, |(_, len)| len)
    }

    pub(super) fn len(&self) -> u64 {
        self.head.len() as u64 + self.file_len() + self.spool.memory().len() as u64
    }

    pub(super) fn is_done(&self) -> bool {
        self.sent == self.len()
    }

    /// Nothing of the request itself has gone out, or may yet.
    pub(super) fn is_held(&self) -> bool {
        self.held_behind.is_some()
    }

    /// All that may go out has.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_done() || self.held_behind.is_some_and(|held| self.sent == held as u64)
    }

    /// What stands in front of the request has been answered in part: see [`NUDGE`].
    pub(super) fn nudge(&mut self) {
        if self.held_behind.is_some() {
            self.held_behind = Some(self.questions + NUDGE.len());
        }
    }

    /// It has been answered.
    pub(super) fn release(&mut self) {
        if self.held_behind.take() == Some(self.questions) {
            self.sent = self.sent.max((self.questions + NUDGE.len()) as u64);
        }
    }

    /// Sends once; how many bytes went.
    ///
    /// # Errors
    /// Those of the socket, or of the file.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<u64>> {
        let sent = ready!(socket.poll_write(context, |socket| self.send(socket)))? as u64;
        self.sent += sent;
        Poll::Ready(Ok(sent))
    }

    fn send(&self, socket: &Socket) -> io::Result<usize> {
        let head = self.head.len() as u64;
        let from =
            |bytes: &[u8], start: u64| usize::try_from(self.sent.saturating_sub(start)).map(|at| at.min(bytes.len()));
        if let Some(held) = self.held_behind {
            return socket.try_send(&self.head[self.sent as usize..held]);
        }
        match self.spool.file() {
            Some((file, len)) if self.sent >= head && self.sent < head + len => {
                let mut offset = (self.sent - head) as i64;
                let left = (head + len - self.sent).min(SENDFILE_CHUNK as u64) as usize;
                match sendfile64(socket.fd()?, file, Some(&mut offset), left)? {
                    0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the stored body is shorter than it was")),
                    sent => Ok(sent),
                }
            }
            Some(_) if self.sent < head => socket.try_send(&self.head[self.sent as usize..]),
            file => {
                let start = head + file.map_or(0, |(_, len)| len);
                let memory = self.spool.memory();
                let head_left = &self.head[from(&self.head, 0).unwrap_or(self.head.len())..];
                let memory_left = &memory[from(memory, start).unwrap_or(memory.len())..];
                match (head_left.is_empty(), memory_left.is_empty()) {
                    (_, true) => socket.try_send(head_left),
                    (true, _) => socket.try_send(memory_left),
                    _ => socket.try_send_all_of(&[IoSlice::new(head_left), IoSlice::new(memory_left)]),
                }
            }
        }
    }
}
