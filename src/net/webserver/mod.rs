//! One connection from a web server: what it sends becomes requests, what it is sent goes out as far as it takes it.
//!
//! Its reader and its exchanges share it, all in one task: [`Downstream`]. Whatever is sent ends with a record, so that
//! several responses, and answers of our own, may follow each other in any order.

mod held;
mod inlet;
mod linger;
mod outlet;
mod over;

use super::{
    clock,
    pool::SharedPool,
    scratch,
    socket::Socket,
    spool::{BodyStorage, Spool},
};
use crate::{
    config::Application,
    mux::{
        Request,
        failure::Kind,
        intake::{Event, Intake, Stream},
        label::Refusal,
        refuse::Refused,
    },
};
use inlet::Inlet;
use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

pub(super) use held::{Held, Told};
pub(super) use linger::Lingering;
pub(super) use over::Over;

/// Bytes of answers of our own that wait for what was sent before; above that a web server is not read from.
const MAX_ANSWERS: usize = 64 * 1024;

/// One web server's connection, as the exchanges on it share it.
pub(super) struct Downstream(Mutex<WebServer>);

impl Downstream {
    pub(super) fn new(
        arrived: Arrived,
        intake: Intake<Held>,
        storage: BodyStorage,
        pool: Arc<SharedPool>,
        lingering: Arc<Lingering>,
    ) -> Self {
        let Arrived { socket, requests } = arrived;
        Self(Mutex::new(WebServer {
            socket,
            inlet: Inlet::default(),
            intake,
            carry: vec![],
            unread: false,
            at_end: false,
            heard_at: clock::now(),
            requests,
            pending: vec![],
            answers: 0,
            took_at: clock::now(),
            reader: Waker::noop().clone(),
            until_clear: VecDeque::new(),
            sending: false,
            over: None,
            cut_short: vec![],
            blocked: None,
            storage,
            pool,
            lingering,
        }))
    }

    /// Only one task has it; the lock is never waited for.
    pub(super) fn lock(&self) -> MutexGuard<'_, WebServer> {
        // A panic under it is a defect, and ends the task and with it the connection.
        self.0.lock().expect("no panic under this lock")
    }
}

/// A connection on which nothing runs, new or kept by its web server.
pub(super) struct Arrived {
    pub(super) socket: Socket,
    /// Requests heard so far.
    pub(super) requests: u64,
}

impl Arrived {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, requests: 0 }
    }
}

/// See the [module](self).
pub(super) struct WebServer {
    socket: Socket,
    inlet: Inlet,
    intake: Intake<Held>,
    /// Bytes read that the intake has not taken yet.
    carry: Vec<u8>,
    /// `carry` may hold more than a part of a record: it is looked at before more is read.
    unread: bool,
    /// The web server has ended its sending; what it has asked for is answered all the same, as php-fpm does (fact 7.2).
    at_end: bool,
    /// When the web server last sent a byte, or connected.
    heard_at: Instant,
    /// Requests heard so far.
    requests: u64,
    /// Whole records that the web server has not taken yet, perhaps without the beginning of the first.
    pending: Vec<u8>,
    /// Bytes of answers of our own in `pending`.
    answers: usize,
    /// When the web server last took a byte, or was first left one to take.
    took_at: Instant,
    /// The task that reads.
    reader: Waker,
    /// Exchanges that wait for `pending` to be empty, in the order of their turns.
    until_clear: VecDeque<Waker>,
    /// An exchange ended before all of its request had come: the web server may not have done sending.
    sending: bool,
    /// Why nothing more can be said to the web server.
    over: Option<Kind>,
    /// Exchanges whose responses broke off in the middle while others ran; see [`WebServer::break_off`].
    cut_short: Vec<u16>,
    /// The request whose body nothing takes, and since when: no more is read until there is room.
    blocked: Option<(u16, Instant)>,
    storage: BodyStorage,
    pool: Arc<SharedPool>,
    /// Takes the connection over once it has been answered to the end.
    lingering: Arc<Lingering>,
}

/// What the web server's bytes came to.
#[derive(Debug)]
pub(super) enum Heard {
    Request(Request, Spool),
    /// To be answered in the application's stead.
    Refused {
        id: u16,
        why: Refused,
    },
}

impl WebServer {
    // ---------------------------------------------------------------- in

    /// Reads until something is whole: at once where it is there already.
    pub(super) fn poll_hear(&mut self, context: &mut Context<'_>) -> Poll<Result<Heard, Over>> {
        if !self.reader.will_wake(context.waker()) {
            self.reader = context.waker().clone();
        }
        loop {
            if self.is_deaf() || self.blocked.is_some() || self.at_end {
                return self.socket.poll_hangup(context).map(|()| Err(Over::Closed));
            }
            let heard = if std::mem::take(&mut self.unread) {
                let bytes = std::mem::take(&mut self.carry);
                self.digest(&bytes)?
            } else if self.intake.is_over() || !self.must_be_heard() {
                // A web server that need not be heard costs no registration.
                return Poll::Pending;
            } else {
                ready!(scratch::with(|buffer| self.poll_read(context, buffer)))?
            };
            if let Some(heard) = heard {
                return Poll::Ready(Ok(heard));
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Result<Option<Heard>, Over>> {
        let carried = self.carry.len();
        let space = &mut buffer[carried..];
        let more = self.intake.owed() > space.len() as u64;
        let Self { socket, inlet, .. } = self;
        let mut look = |socket: &Socket| inlet.look(socket, space, more);
        let at_once = if socket.is_watched() { None } else { Some(look(socket)) };
        let new = match at_once {
            None => ready!(socket.poll_take(context, look))?,
            Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => ready!(socket.poll_take(context, look))?,
            Some(done) => done?,
        };
        if new.is_empty() {
            return Poll::Ready(self.handle_end());
        }
        self.heard_at = clock::now();
        // What was carried over goes right in front of what is new.
        let start = new.start;
        buffer[start..start + carried].copy_from_slice(&self.carry);
        self.carry.clear();
        let heard = self.digest(&buffer[start..carried + new.end])?;
        self.inlet.take(&self.socket, buffer, self.is_to_leave_a_byte())?;
        Poll::Ready(Ok(heard))
    }

    /// The web server has asked for all that it asks for here until it is answered: see [`Inlet`]. One that has several
    /// requests at once may have more to send at any time.
    fn is_to_leave_a_byte(&self) -> bool {
        self.intake.is_running() && self.intake.is_said() && !self.intake.is_shared()
    }

    /// The web server has ended its sending, or closed.
    fn handle_end(&mut self) -> Result<Option<Heard>, Over> {
        if self.socket.is_hung_up() || !self.intake.is_running() {
            return Err(Over::Closed);
        }
        self.at_end = true;
        self.carry.clear();
        for held in self.intake.handle_end() {
            held.tell(Told::Gone(Kind::Closed));
        }
        Ok(None)
    }

    /// Shows `bytes` to the intake up to the next thing that somebody else must hear of; keeps what is left.
    fn digest(&mut self, bytes: &[u8]) -> Result<Option<Heard>, Over> {
        let mut at = 0;
        // Whether it ended for want of bytes is what tells if the rest is to be looked at again as it is.
        let (heard, starved) = loop {
            let taken = self.intake.take(&bytes[at..])?;
            let shown = &bytes[at..];
            at += taken.consumed;
            let Some(event) = taken.event else { break (None, true) };
            let heard = self.handle(event, shown)?;
            if heard.is_some() || self.is_deaf() || self.blocked.is_some() {
                break (heard, false);
            }
        };
        self.intake.touched().for_each(|held| held.sent_at = Some(self.heard_at));
        self.unread = !starved && at < bytes.len();
        self.carry.extend_from_slice(&bytes[at..]);
        Ok(heard)
    }

    /// `shown`: the bytes that ranges of events mean.
    fn handle(&mut self, event: Event, shown: &[u8]) -> io::Result<Option<Heard>> {
        match event {
            Event::Body { id, stream, range } if self.streams() => self.keep_part(id, stream, &shown[range]),
            Event::Body { id, range, .. } => {
                if let Err(error) = self.keep_body(id, &shown[range]) {
                    let why = self.cannot_store(&error);
                    let event = self.intake.refuse_open(id, why);
                    return self.handle(event, &[]);
                }
            }
            Event::End { id, stream } => {
                if let Some(held) = self.intake.store_mut(id) {
                    held.upload.end(stream.kind());
                    held.wake();
                }
            }
            Event::Answer(answer) => self.answer(&answer)?,
            Event::Request(request) => {
                self.requests += 1;
                let spool = self.intake.store_mut(request.id).and_then(|held| held.spool.take());
                let spool = spool.unwrap_or_else(|| Spool::new(self.pool.next_id()));
                return Ok(Some(Heard::Request(request, spool)));
            }
            Event::Refused { id, keep_conn, why } => {
                self.sending |= !keep_conn;
                self.requests += 1;
                return Ok(Some(Heard::Refused { id, why }));
            }
            Event::Cut { id, why } => self.tell(id, Told::Cut(why)),
            Event::Aborted { id } => match self.cut_short.iter().position(|cut| *cut == id) {
                // Its exchange is over; the web server has given up waiting for the rest.
                Some(place) => {
                    self.cut_short.remove(place);
                    self.end(id)?;
                }
                None => self.tell(id, Told::Aborted),
            },
        }
        Ok(None)
    }

    /// Bodies go on as they come.
    fn streams(&self) -> bool {
        self.pool.application == Application::Generic
    }

    /// Half of what is kept of an exchange; the other half is the application's connection's.
    fn upload_limit(&self) -> usize {
        // At most 16 MiB: see the configuration.
        self.pool.config().connections.buffer as usize / 2
    }

    fn keep_part(&mut self, id: u16, stream: Stream, part: &[u8]) {
        let limit = self.upload_limit();
        let Some(held) = self.intake.store_mut(id) else { return };
        held.upload.push(stream.kind(), part, limit);
        held.sent_at = Some(self.heard_at);
        held.wake();
        if held.upload.len() >= limit {
            self.blocked = Some((id, clock::now()));
        }
    }

    fn keep_body(&mut self, id: u16, body: &[u8]) -> io::Result<()> {
        let Some(held) = self.intake.store_mut(id) else { return Ok(()) };
        let spool = held.spool.get_or_insert_with(|| Spool::new(self.pool.next_id()));
        spool.push(body, self.storage.memory, &self.storage.directory)
    }

    fn cannot_store(&self, error: &io::Error) -> Refused {
        let detail = format!(
            "cannot store the body in {}: {error} (body.directory, body.memory)",
            self.storage.directory.display()
        );
        Refused { refusal: Refusal::Storage, detail }
    }

    /// Gives up the request that is being taken in and has been silent for longest, if there is one.
    pub(super) fn give_up_open(&mut self, why: Refused) -> Option<Heard> {
        let id = self.intake.open().min_by_key(|(_, held)| held.sent_at).map(|(id, _)| id)?;
        match self.intake.refuse_open(id, why) {
            Event::Refused { id, keep_conn, why } => {
                self.sending |= !keep_conn;
                Some(Heard::Refused { id, why })
            }
            _ => None,
        }
    }

    /// True while the web server owes us the rest of a request or of a record, or has not taken its answers.
    pub(super) fn owes_bytes(&self) -> bool {
        let owes = !self.at_end && (self.intake.unfinished() || !self.carry.is_empty());
        self.blocked.is_none() && (owes || (!self.is_clear() && !self.intake.is_running()))
    }

    /// Since when it has: each request that is being taken in has a time of its own, whatever comes beside it.
    pub(super) fn owes_since(&self) -> Instant {
        if self.is_clear() && !self.intake.is_shared() {
            return self.heard_at;
        }
        let open = self.intake.open().filter_map(|(_, held)| held.sent_at).min();
        open.unwrap_or_else(|| self.heard_at.max(self.took_at))
    }

    /// It sends management records and does not read the answers: it is not read from either.
    pub(super) fn is_deaf(&self) -> bool {
        self.answers > MAX_ANSWERS
    }

    /// Requests heard so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    // ---------------------------------------------------------------- exchanges

    /// Moves what has come of a body behind the records in `into`, within `room`.
    pub(super) fn take_body(&mut self, id: u16, room: usize, into: &mut Vec<u8>) {
        let Some(held) = self.intake.store_mut(id) else { return };
        held.upload.take(room, into);
        if !into.is_empty() {
            self.unblock(id);
        }
    }

    fn unblock(&mut self, id: u16) {
        if let Some((_, since)) = self.blocked.take_if(|(blocked, _)| *blocked == id) {
            if self.holds_up_others(id) {
                self.pool.metrics.stalled(clock::now() - since);
            }
            // What was read and not looked at comes first.
            self.unread = !self.carry.is_empty();
            self.reader.wake_by_ref();
        }
    }

    /// Bytes that have been read have not been looked at.
    pub(super) fn is_unread(&self) -> bool {
        self.unread && self.blocked.is_none() && self.over.is_none() && !self.is_deaf()
    }

    /// The request has no body, and none can come.
    pub(super) fn is_bodiless(&self, id: u16) -> bool {
        self.intake.is_whole(id) && self.intake.store(id).is_none_or(|held| held.upload.content() == 0)
    }

    /// Since when the web server has owed the rest of a body of which everything that has come has been taken.
    pub(super) fn owes_body(&self, id: u16) -> Option<Instant> {
        let held = self.intake.store(id).filter(|_| !self.intake.is_whole(id))?;
        (held.upload.len() == 0).then(|| held.sent_at.unwrap_or(self.heard_at))
    }

    /// When the body that nothing takes has held up others for too long; `None` while it holds up nobody.
    pub(super) fn stall_deadline(&self) -> Option<Instant> {
        let (_, since) = self.blocked.filter(|(id, _)| self.holds_up_others(*id))?;
        Some(since + self.pool.config().connections.stall_timeout)
    }

    /// Other requests are there, or behind what is not read: a web server that multiplexes sends them as they come.
    fn holds_up_others(&self, id: u16) -> bool {
        !self.intake.is_only(id) || self.intake.is_shared()
    }

    /// It has.
    pub(super) fn stalled(&mut self) {
        if let Some((id, _)) = self.blocked {
            self.tell(id, Told::Stalled);
        }
    }

    fn tell(&mut self, id: u16, told: Told) {
        if let Some(held) = self.intake.store_mut(id) {
            held.tell(told);
        }
    }

    /// What the exchange of this request must hear of its web server.
    pub(super) fn poll_told(&mut self, context: &mut Context<'_>, id: u16) -> Poll<Told> {
        if let Some(kind) = &self.over {
            return Poll::Ready(Told::Gone(kind.clone()));
        }
        let Some(held) = self.intake.store_mut(id) else { return Poll::Pending };
        if let Some(told) = held.told.take() {
            return Poll::Ready(told);
        }
        if !held.listener.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            held.listener = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Nothing more can be said to the web server; every exchange is told.
    pub(super) fn gone(&mut self, why: impl Into<Kind>) {
        self.over.get_or_insert_with(|| why.into());
        self.intake.stores_mut().filter_map(|held| held.listener.take()).for_each(Waker::wake);
        self.until_clear.drain(..).for_each(Waker::wake);
    }

    /// The exchange has ended.
    pub(super) fn ended(&mut self, id: u16) {
        self.sending |= self.intake.is_last() && !self.intake.is_whole(id);
        self.intake.ended(id);
        if !self.intake.is_last() {
            self.inlet.release(&self.socket);
        }
        self.unblock(id);
    }

    /// This exchange has ended and all has been sent. If no other will come behind it and none runs beside it, the
    /// connection ends.
    pub(super) fn close_behind(&mut self, id: u16) {
        if self.is_clear() && self.intake.is_last() && self.intake.is_only(id) && self.intake.is_whole(id) {
            self.part();
        }
    }

    /// Every response has been answered to its end, and sent: ends the connection behind the web server.
    pub(super) fn part(&mut self) {
        self.lingering.part(std::mem::replace(&mut self.socket, Socket::Void));
    }

    /// Sends no more; what the web server is still sending is to be read, lest it lose its answer.
    pub(super) fn shut_down_sending(&self) -> io::Result<()> {
        self.socket.shut_down_sending()
    }

    /// No other request is or can be at work on the connection: what happens to it concerns this one alone.
    pub(super) fn is_alone(&self, id: u16) -> bool {
        self.intake.is_only(id)
    }

    /// The connection is to end with a break: a response goes no further, or nothing more is wanted of its web server.
    pub(super) fn is_to_break(&self) -> bool {
        !self.cut_short.is_empty() || self.over.as_ref().is_some_and(|why| *why != Kind::Closed)
    }

    /// The web server may not have done sending.
    pub(super) fn is_sending(&self) -> bool {
        self.sending
    }

    /// Nothing is left to be done on the connection, but perhaps to send the rest.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_some() || self.intake.is_over() || (self.at_end && !self.intake.is_running())
    }

    // ---------------------------------------------------------------- the connection itself

    /// Wakes the task when the web server says something or hangs up; until then that is only seen by writing.
    pub(super) fn watch(&mut self) -> io::Result<()> {
        self.socket.watch()
    }

    /// Has the connection's reader listen from now on, if it does not yet.
    pub(super) fn listen(&mut self, context: &Context<'_>) -> io::Result<()> {
        if !self.socket.is_watched() {
            self.watch()?;
            context.waker().wake_by_ref();
        }
        Ok(())
    }

    /// The reader has something to do, or to wait for.
    pub(super) fn must_be_heard(&self) -> bool {
        self.unread || self.socket.is_watched() || !self.intake.is_running() || self.intake.awaits_body()
    }

    /// The connection, at rest and with nothing left unread: somebody else serves it from now on.
    pub(super) fn hand_over(&mut self) -> Arrived {
        Arrived { socket: std::mem::replace(&mut self.socket, Socket::Void), requests: self.requests }
    }

    pub(super) fn is_watched(&self) -> bool {
        self.socket.is_watched()
    }

    /// A look at the socket: has the web server hung up?
    pub(super) fn is_gone(&self) -> bool {
        self.over.is_some() || self.socket.is_hung_up()
    }

    /// When the web server last sent a byte, or connected.
    pub(super) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Reads and drops whatever comes. Ready when the connection has ended.
    pub(super) fn poll_deaf(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match ready!(scratch::with(|buffer| self.socket.poll_recv(context, buffer))) {
                Ok(1..) => self.heard_at = clock::now(),
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}
