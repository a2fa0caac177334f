//! One connection from a web server: what it sends becomes requests, what it is sent goes out as far as it takes it.

use super::{scratch, socket::Socket, spool::Spool};
use crate::mux::{
    Request,
    failure::Kind,
    intake::{Event, Intake, Violation},
    label::Refusal,
    refuse::{Refused, put_break},
};
use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Answers to management records that wait for the end of the running response; more is no web server.
const MAX_ANSWERS: usize = 64 * 1024;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct WebServer {
    socket: Socket,
    intake: Intake,
    /// Bytes read that the intake has not taken yet.
    carry: Vec<u8>,
    /// `carry` may hold more than a part of a record: it is looked at before more is read.
    unread: bool,
    /// Bytes read so far.
    received: u64,
    /// Bytes that the web server has not taken yet; at most what one read brought.
    pending: Vec<u8>,
    /// The request of which a part of the response has been sent, and not its end.
    responding: Option<u16>,
    /// Answers to management records: kept apart from the response that is on its way, lest they fall into a record.
    answers: Vec<u8>,
    storage: BodyStorage,
}

/// Where the bodies of requests are kept.
#[derive(Clone, Debug)]
pub(super) struct BodyStorage {
    /// Bytes of one body in memory.
    pub(super) memory: u64,
    pub(super) directory: Arc<Path>,
}

/// What the web server's bytes came to.
#[derive(Debug)]
pub(super) enum Heard {
    Request(Request),
    /// To be answered in the application's stead.
    Refused {
        id: u16,
        keep_conn: bool,
        why: Refused,
    },
    /// The web server takes the running request back.
    Aborted,
    /// Its last request has been answered: the answers are to be sent, and the connection closed.
    Over,
}

/// For further answers.
enum Room {
    Some,
    /// Not before these are sent.
    None,
    /// There will be none: the last request has been answered.
    Over,
}

/// The connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Over {
    #[error("web server closed the connection")]
    Closed,
    #[error("connection of the web server broke: {0}")]
    Broken(#[from] io::Error),
    #[error("web server broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error("web server did not send the rest of its request in time (timeouts.read)")]
    Silent,
    #[error("web server sends management records and reads no answers")]
    Answers,
}

impl From<Over> for Kind {
    fn from(over: Over) -> Self {
        match over {
            Over::Closed => Self::Closed,
            Over::Broken(error) => Self::Broken(error.to_string()),
            Over::Silent => Self::Timeout("read"),
            Over::Violation(_) | Over::Answers => Self::Protocol(over.to_string()),
        }
    }
}

impl WebServer {
    pub(super) fn new(socket: Socket, intake: Intake, storage: BodyStorage) -> Self {
        let (carry, pending, answers) = (vec![], vec![], vec![]);
        Self { socket, intake, carry, unread: false, received: 0, pending, responding: None, answers, storage }
    }

    // ---------------------------------------------------------------- in

    /// Reads until something is whole: at once where it is there already. Body bytes go to `spool`.
    pub(super) fn poll_hear(&mut self, context: &mut Context<'_>, spool: &mut Spool) -> Poll<Result<Heard, Over>> {
        loop {
            // Between two requests answers need not wait. A web server that does not read them is not read from either.
            if !self.intake.is_running() {
                self.send_answers()?;
                while !self.is_clear() {
                    ready!(self.poll_flush(context))?;
                }
            }
            let heard = if std::mem::take(&mut self.unread) {
                let bytes = std::mem::take(&mut self.carry);
                self.digest(&bytes, spool)?
            } else {
                ready!(scratch::with(|buffer| self.poll_read(context, buffer, spool)))?
            };
            if let Some(heard) = heard {
                return Poll::Ready(Ok(heard));
            }
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        spool: &mut Spool,
    ) -> Poll<Result<Option<Heard>, Over>> {
        let carried = self.carry.len();
        let space = &mut buffer[carried..];
        let at_once = if self.socket.is_watched() { None } else { Some(self.socket.try_recv(space)) };
        let read = match at_once {
            Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => ready!(self.socket.poll_recv(context, space))?,
            Some(done) => done?,
            None => ready!(self.socket.poll_recv(context, space))?,
        };
        if read == 0 {
            return Poll::Ready(Err(Over::Closed));
        }
        self.received += read as u64;
        buffer[..carried].copy_from_slice(&self.carry);
        self.carry.clear();
        Poll::Ready(self.digest(&buffer[..carried + read], spool))
    }

    /// Shows `bytes` to the intake up to the next thing that somebody else must hear of; keeps what is left.
    fn digest(&mut self, bytes: &[u8], spool: &mut Spool) -> Result<Option<Heard>, Over> {
        let mut at = 0;
        // Whether it ended for want of bytes is what tells if the rest is to be looked at again as it is.
        let (heard, starved) = loop {
            let taken = self.intake.take(&bytes[at..])?;
            let event = match taken.event {
                Some(Event::Body(range)) => {
                    let body = &bytes[at + range.start..at + range.end];
                    match spool.push(body, self.storage.memory, &self.storage.directory) {
                        Ok(()) => None,
                        Err(error) => Some(self.intake.refuse_open(self.cannot_store(&error))),
                    }
                }
                Some(event) => Some(event),
                None => {
                    at += taken.consumed;
                    break (None, true);
                }
            };
            at += taken.consumed;
            match event {
                Some(Event::Answer(answer)) => match self.keep_answer(&answer, spool)? {
                    Room::Some => {}
                    Room::None => break (None, false),
                    Room::Over => break (Some(Heard::Over), false),
                },
                Some(Event::Request(request)) => break (Some(Heard::Request(request)), false),
                Some(Event::Refused { id, keep_conn, why }) => {
                    break (Some(Heard::Refused { id, keep_conn, why }), false);
                }
                Some(Event::Aborted) => break (Some(Heard::Aborted), false),
                Some(Event::Body(_)) | None => {}
            }
        };
        self.unread = !starved && at < bytes.len();
        self.carry.extend_from_slice(&bytes[at..]);
        Ok(heard)
    }

    /// Keeps an answer until it may be sent, and tells whether there is room for more.
    fn keep_answer(&mut self, answer: &[u8], spool: &mut Spool) -> Result<Room, Over> {
        self.answers.extend_from_slice(answer);
        if self.intake.open_id().is_none() {
            // The request that it ends may have been taken back in the middle of its body.
            spool.clear();
        }
        match self.answers.len() > MAX_ANSWERS {
            _ if self.intake.is_over() => Ok(Room::Over),
            false => Ok(Room::Some),
            true if self.intake.is_running() => Err(Over::Answers),
            true => Ok(Room::None),
        }
    }

    fn cannot_store(&self, error: &io::Error) -> Refused {
        let detail = format!(
            "cannot store the body in {}: {error} (body.directory, body.memory)",
            self.storage.directory.display()
        );
        Refused { refusal: Refusal::Storage, detail }
    }

    /// The id of the request being taken in.
    pub(super) fn open_id(&self) -> Option<u16> {
        self.intake.open_id()
    }

    /// True while the web server owes us the rest of a request or of a record, or has not taken its answers.
    pub(super) fn owes_bytes(&self) -> bool {
        self.intake.unfinished() || !self.carry.is_empty() || !self.is_clear()
    }

    /// Bytes read so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The running request has been answered to its end.
    pub(super) fn ended(&mut self) {
        self.intake.ended();
    }

    // ---------------------------------------------------------------- out

    /// Sends as much as goes at once and keeps the rest. Ask [`WebServer::is_clear`] before sending more.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at_once = if self.pending.is_empty() { self.socket.try_send(bytes) } else { Ok(0) };
        let sent = match at_once {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            sent => sent?,
        };
        self.pending.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends whole records of the response to the request `id`; [`WebServer::responded`] must follow its end.
    pub(super) fn respond(&mut self, id: u16, bytes: &[u8]) -> io::Result<()> {
        self.responding = Some(id);
        self.send(bytes)
    }

    /// The response has been sent to its end.
    pub(super) fn responded(&mut self) {
        self.responding = None;
    }

    /// The response goes no further, if one has begun: has the web server see that it is cut short, and why. Only the
    /// end of the connection may follow.
    pub(super) fn break_off(&mut self, detail: &str) {
        if let Some(id) = self.responding.take() {
            let mut out = vec![];
            put_break(&mut out, id, detail);
            // One that is gone need not be told.
            _ = self.send(&out);
        }
    }

    /// Sends the answers to management records; only between two responses.
    pub(super) fn send_answers(&mut self) -> io::Result<()> {
        let answers = std::mem::take(&mut self.answers);
        if answers.is_empty() { Ok(()) } else { self.send(&answers) }
    }

    /// True if the web server has taken everything so far.
    pub(super) fn is_clear(&self) -> bool {
        self.pending.is_empty()
    }

    /// Sends what is pending; how many bytes went.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.pending.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sent = ready!(self.socket.poll_write(context, |socket| socket.try_send(&self.pending)))?;
        self.pending.drain(..sent);
        if self.pending.is_empty() {
            self.pending = vec![]; // a web server that waits holds no memory
        }
        Poll::Ready(Ok(sent))
    }

    // ---------------------------------------------------------------- the connection itself

    /// Closes the connection.
    pub(super) fn close(&mut self) {
        self.socket = Socket::Void;
    }

    /// Wakes the task when the web server hangs up; until then that is only seen by writing.
    pub(super) fn watch(&mut self) -> io::Result<()> {
        self.socket.watch()
    }

    pub(super) fn is_watched(&self) -> bool {
        self.socket.is_watched()
    }

    /// A look at the socket: has the web server hung up?
    pub(super) fn is_gone(&self) -> bool {
        self.socket.peer_is_gone()
    }
}

impl Drop for WebServer {
    /// At the end of the process, for instance.
    fn drop(&mut self) {
        self.break_off("fcgimux gave the request up");
    }
}
