//! One connection to an application, and the exchanges that share it under request ids of ours.
//!
//! FastCGI has no flow control: an application writes its responses one behind the other, and whoever does not take his
//! holds up all that come behind. Hence a bounded buffer for each exchange. When one is full the connection is not read
//! from (a *stall*), and if that lasts while others wait, the slow exchange is ended so that they go on.
//!
//! # Ids
//!
//! They are given out in turn, so that one is not used again soon, and that of an exchange that was aborted never: there
//! are applications that answer ABORT_REQUEST with END_REQUEST at once and go on writing (docs/applications.md). What
//! comes under an id that nothing runs under is dropped.
//!
//! # One at a time
//!
//! A connection that takes one exchange at a time (*single*) is the same with one difference: an exchange that cannot be
//! ended is ended by closing the connection, since applications of that kind take ABORT_REQUEST for an error.
//!
//! # What dies of what an application does wrong
//!
//! | it sends | what dies |
//! |---|---|
//! | a record of an id that it was not given, or of an exchange that has ended | nothing: it is dropped and counted |
//! | management records that nobody asked for | nothing: they are dropped and counted |
//! | END_REQUEST of a wrong length, or a record that is not an application's, under an id that runs | that exchange |
//! | END_REQUEST with OVERLOADED or CANT_MPX_CONN before any of its response | nothing: it was not executed and is sent again |
//! | another protocol or version, or the end of the connection | the connection with all of its exchanges |
//!
//! # Calling order
//!
//! The driver of the connection shows what it reads ([`Channel::receive`]), writes what it is given
//! ([`Channel::to_send`], [`Channel::sent`]) and calls [`Channel::tick`] no later than [`Channel::next_deadline`]. The
//! owner of an exchange opens it, pushes its body, takes its response, and leaves. After each call whoever made it wakes
//! those that [`Channel::poll_wake`] names, and the driver if [`Channel::wants_driver`].

mod exchange;
mod questions;
mod stall;
mod values;
mod whole;

use super::failure::Kind as Cause;
use crate::wire::{
    END_BODY_LEN, EndRequest, Header, Kind, MANAGEMENT_ID, Piece, ProtocolStatus, ScanError, Scanner, put_record,
};
use exchange::{Exchange, Stage};
use questions::Questions;
use stall::Stalls;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};
use whole::whole_at_once;

pub use values::Values;

/// Bytes handed to the driver at once; a turn goes round within it.
const SEND_AT_ONCE: usize = 64 * 1024;
/// So many ids may rest before the connection is to be replaced: half of those that there are.
const MAX_RESTING: usize = 32 * 1024;
/// An application is given so long to end an exchange that was aborted; then it counts as one that never will.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The application ended it; its END_REQUEST is in the response.
    Ended(ProtocolStatus),
    /// The application would not take it, and has not executed it.
    Rejected(ProtocolStatus),
    /// It broke, for this cause. `unsent`: the application does not know of it.
    Broken { cause: Cause, unsent: bool },
    /// Its buffer was full for too long, and others waited.
    Stalled,
}

/// How an exchange is begun.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// The web server's id.
    pub theirs: u16,
    /// What follows of STDIN and DATA.
    pub streams: &'a [Kind],
    /// A GET_VALUES that is asked for it: it is sent behind the answer, for what may not be executed twice.
    pub question: Option<&'a [u8]>,
}

/// What is done with the content of the record under way.
#[derive(Clone, Copy, Debug, Default)]
enum Current {
    #[default]
    Skip,
    Response(u16, Kind),
}

/// An exchange whose owner has left takes its place no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freed {
    pub id: u16,
    /// The application has ended it; otherwise it has had its time to.
    pub ended: bool,
}

/// See the [module](self). `N` wakes the owner of an exchange.
#[derive(Debug)]
pub struct Channel<N> {
    /// Bytes of one exchange that are kept in each direction.
    buffer: usize,
    /// It takes one exchange at a time.
    single: bool,
    /// It must be closed: an exchange cannot be ended otherwise.
    doomed: bool,
    scanner: Scanner,
    current: Current,
    exchanges: HashMap<u16, Exchange<N>>,
    /// Ids that are not used again.
    resting: HashSet<u16>,
    last_id: u16,
    /// Those whose owner has left, until they are [`Channel::poll_freed`]: in the order in which that was.
    left: VecDeque<(Instant, u16)>,
    freed: Vec<Freed>,
    /// Those that have something to send.
    turns: VecDeque<u16>,
    /// Handed to the driver, and of that sent.
    out: Vec<u8>,
    sent: usize,
    /// Exchanges whose BEGIN_REQUEST stands in `out` at this place and has not been sent.
    beginning: VecDeque<(usize, u16)>,
    stalls: Stalls,
    dropped: u64,
    questions: Questions,
    /// Why there is no connection any more.
    broken: Option<Cause>,
    woken: Vec<N>,
    wants_driver: bool,
}

impl<N> Channel<N> {
    /// `buffer`: bytes of one exchange that are kept in each direction, 4 KiB at least.
    pub fn new(buffer: usize, stall_timeout: Duration) -> Self {
        Self {
            buffer,
            single: false,
            doomed: false,
            scanner: Scanner::default(),
            current: Current::Skip,
            exchanges: HashMap::new(),
            resting: HashSet::new(),
            last_id: 0,
            left: VecDeque::new(),
            freed: vec![],
            turns: VecDeque::new(),
            out: vec![],
            sent: 0,
            beginning: VecDeque::new(),
            stalls: Stalls::new(stall_timeout),
            dropped: 0,
            questions: Questions::default(),
            broken: None,
            woken: vec![],
            wants_driver: false,
        }
    }

    // ---------------------------------------------------------------- for owners of exchanges

    /// Begins an exchange. `head` appends BEGIN_REQUEST and PARAMS under the id that it is told. Returns that id; `None`
    /// where the connection is over.
    pub fn open(&mut self, opening: Opening<'_>, head: impl FnOnce(u16, &mut Vec<u8>), now: Instant) -> Option<u16> {
        if self.broken.is_some() || self.doomed {
            return None;
        }
        let id = self.free_id()?;
        let mut bytes = vec![];
        head(id, &mut bytes);
        let question = opening.question.map(|question| self.ask(question));
        if !self.stall_holds_up_others() {
            self.stalls.joined(now);
        }
        self.exchanges.insert(id, Exchange::new(opening, bytes, question));
        self.queue(id);
        Some(id)
    }

    /// Appends whole records of the request's body, with any id in them. Not more than [`Channel::room`].
    pub fn push(&mut self, id: u16, records: &[u8]) {
        if let Some(exchange) = self.exchanges.get_mut(&id).filter(|exchange| exchange.stage < Stage::Ended) {
            exchange.push(id, records);
            self.queue(id);
        }
    }

    /// Bytes of records that may be pushed. None behind the end of the response: nobody reads them.
    pub fn room(&self, id: u16) -> usize {
        let open = self.exchanges.get(&id).filter(|exchange| exchange.stage < Stage::Ended);
        // The other half is the web server's.
        open.map_or(0, |exchange| (self.buffer / 2).saturating_sub(exchange.unsent()))
    }

    /// Gives what has come of the response, in whole records under the web server's id, in place of an empty buffer; and
    /// how the exchange ended, if it has.
    pub fn take(&mut self, id: u16, into: &mut Vec<u8>, now: Instant) -> Option<Ending> {
        let exchange = self.exchanges.get_mut(&id)?;
        exchange.swap(into);
        let ending = exchange.ending();
        self.end_stall(id, now);
        ending
    }

    /// How the exchange ended, if it has.
    pub fn ending(&self, id: u16) -> Option<Ending> {
        self.exchanges.get(&id).and_then(Exchange::ending)
    }

    /// Has the owner woken when the exchange can go on in any way.
    pub fn listen(&mut self, id: u16, notify: N) {
        if let Some(exchange) = self.exchanges.get_mut(&id) {
            exchange.listen(notify);
        }
    }

    /// The owner is done with the exchange. Returns false for one that the application has and has not ended: it is
    /// aborted, and keeps its place until [`Channel::poll_freed`] names it.
    #[must_use]
    pub fn leave(&mut self, id: u16, now: Instant) -> bool {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return true };
        let over = exchange.is_settled() || !exchange.has_begun() || self.resting.contains(&id);
        let over = over || self.broken.is_some();
        self.doomed |= !over && self.single;
        if !self.single && exchange.has_begun() && self.broken.is_none() {
            if !over {
                put_record(&mut self.out, Kind::AbortRequest, id, &[]);
            }
            exchange.end_streams(id, &mut self.out);
        }
        if over {
            self.exchanges.remove(&id);
        } else {
            exchange.abandon();
            self.left.push_back((now + ABORT_PATIENCE, id));
        }
        self.end_stall(id, now);
        self.wants_driver = true;
        over
    }

    // ---------------------------------------------------------------- for the driver

    /// Takes from the start of `bytes` as much as there is room for; what is left is shown again, with more behind it.
    /// Nothing more is taken while [`Channel::is_stalled`].
    ///
    /// # Errors
    /// Bytes that are no records. The connection is over: [`Channel::fail`] comes next.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<usize, ScanError> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if self.scanner.at_boundary() && !whole_at_once(rest) {
                return Ok(at);
            }
            let room = match self.current {
                Current::Response(id, _) if self.scanner.outstanding().0 > 0 => self.response_room(id),
                _ => usize::MAX,
            };
            if room == 0 && !rest.is_empty() {
                self.begin_stall(now);
                return Ok(at);
            }
            let Some(piece) = self.scanner.next(&rest[..rest.len().min(room)])? else { return Ok(at) };
            at += piece.len();
            match piece {
                Piece::Header(header) => self.handle_header(header, &bytes[at..], now),
                Piece::Content(len) => self.handle_content(&rest[..len]),
                Piece::Padding(_) => {}
            }
        }
    }

    /// What is to be written next; empty if there is nothing.
    pub fn to_send(&mut self) -> &[u8] {
        self.wants_driver = false;
        if self.sent == self.out.len() {
            self.fill();
        }
        &self.out[self.sent..]
    }

    /// So many bytes of that have been written.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        while let Some((_, id)) = self.beginning.pop_front_if(|(place, _)| *place < self.sent) {
            if let Some(exchange) = self.exchanges.get_mut(&id).filter(|exchange| exchange.stage == Stage::Queued) {
                exchange.stage = Stage::Sent;
            }
        }
    }

    /// Whether the connection takes one exchange at a time.
    pub fn set_single(&mut self, single: bool) {
        self.single = single;
    }

    /// Asks what the application can; [`Channel::values`] has the answer when it comes. Returns the number of the question.
    pub fn ask(&mut self, question: &[u8]) -> u64 {
        self.out.extend_from_slice(question);
        self.wants_driver = true;
        self.questions.ask()
    }

    /// The connection is over, for this cause: so is every exchange on it.
    pub fn fail(&mut self, cause: &Cause) {
        self.broken.get_or_insert_with(|| cause.clone());
        self.freed.extend(self.left.drain(..).map(|(_, id)| Freed { id, ended: false }));
        self.exchanges.retain(|_, exchange| exchange.stage != Stage::Left);
        for exchange in self.exchanges.values_mut() {
            let unsent = exchange.stage == Stage::Queued;
            let closed = *cause == Cause::Closed;
            if exchange.stage != Stage::Ended && !(closed && exchange.end_behind_output()) {
                exchange.end(Ending::Broken { cause: cause.clone(), unsent });
            }
            self.woken.extend(exchange.listener());
        }
        self.stalls.forget();
        (self.out, self.sent) = (vec![], 0);
        self.turns.clear();
    }

    /// Time has passed: an exchange that has held others up for too long is ended, and one that was aborted and has not
    /// been ended is not waited for any longer.
    pub fn tick(&mut self, now: Instant) {
        while let Some((_, id)) = self.left.pop_front_if(|(at, _)| *at <= now) {
            self.freed.push(Freed { id, ended: false });
            self.exchanges.remove(&id);
            self.resting.insert(id);
        }
        if self.stall_deadline().is_none_or(|at| now < at) {
            return;
        }
        let Some(id) = self.stalls.id() else { return };
        if let Some(exchange) = self.exchanges.get_mut(&id) {
            exchange.drop_response();
            exchange.end(Ending::Stalled);
            self.woken.extend(exchange.listener());
        }
        self.end_stall(id, now);
    }

    // ---------------------------------------------------------------- poll

    /// Somebody to be woken.
    pub fn poll_wake(&mut self) -> Option<N> {
        self.woken.pop()
    }

    /// There is something for the driver to do.
    pub fn wants_driver(&self) -> bool {
        self.wants_driver
    }

    /// An exchange whose owner had left and which is over, each one once.
    pub fn poll_freed(&mut self) -> Option<Freed> {
        self.freed.pop()
    }

    /// When [`Channel::tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let left = self.left.front().map(|(at, _)| *at);
        [self.stall_deadline(), left].into_iter().flatten().min()
    }

    fn stall_deadline(&self) -> Option<Instant> {
        self.stalls.deadline().filter(|_| self.stall_holds_up_others())
    }

    /// Stalls that are over, each one once.
    pub fn poll_stall(&mut self) -> Option<Duration> {
        self.stalls.poll_over()
    }

    /// Records dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    // ---------------------------------------------------------------- getters

    pub fn is_stalled(&self) -> bool {
        self.stalls.id().is_some()
    }

    /// Since when one exchange has held up the others.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.stalls.since()
    }

    /// Exchanges whose owner has not left, and those aborted that the application has still time to end.
    pub fn in_flight(&self) -> usize {
        self.exchanges.len()
    }

    pub fn is_single(&self) -> bool {
        self.single
    }

    /// The connection must be closed.
    pub fn is_doomed(&self) -> bool {
        self.doomed
    }

    /// Exchanges that have not ended are on it.
    pub fn is_busy(&self) -> bool {
        self.exchanges.values().any(|exchange| exchange.stage < Stage::Ended)
    }

    /// What the application has said of itself, if it has.
    pub fn values(&self) -> Option<Values> {
        self.questions.values()
    }

    /// So many ids rest that the connection should be replaced.
    pub fn is_worn_out(&self) -> bool {
        self.resting.len() >= MAX_RESTING
    }

    // ---------------------------------------------------------------- private

    fn free_id(&mut self) -> Option<u16> {
        for _ in 0..=u16::MAX {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.exchanges.contains_key(&self.last_id) && !self.resting.contains(&self.last_id) {
                return Some(self.last_id);
            }
        }
        None
    }

    fn queue(&mut self, id: u16) {
        if let Some(exchange) = self.exchanges.get_mut(&id)
            && exchange.question.is_none()
            && !std::mem::replace(&mut exchange.in_turn, true)
        {
            self.turns.push_back(id);
            self.wants_driver = true;
        }
    }

    /// Each in turn gives one record.
    fn fill(&mut self) {
        self.out.clear();
        self.out.shrink_to(4 * SEND_AT_ONCE);
        self.sent = 0;
        while self.out.len() < SEND_AT_ONCE {
            let Some(id) = self.turns.pop_front() else { return };
            let Some(exchange) = self.exchanges.get_mut(&id) else { continue };
            if !exchange.has_begun() {
                self.beginning.push_back((self.out.len(), id));
            }
            exchange.in_turn = exchange.unsent() > 0;
            if exchange.in_turn {
                exchange.hand_on(&mut self.out);
                self.turns.push_back(id);
                // There is room for more.
                self.woken.extend(exchange.listener());
            }
        }
    }

    /// `behind`: what follows the header; holds the whole body of the records that [`whole_at_once`] waits for.
    fn handle_header(&mut self, header: Header, behind: &[u8], now: Instant) {
        self.current = Current::Skip;
        if header.id == MANAGEMENT_ID {
            let asked_for = header.kind == Kind::GetValuesResult && self.questions.handle_answer(header, behind);
            self.dropped += u64::from(!asked_for);
            return self.release_answered();
        }
        let Some(exchange) = self.exchanges.get_mut(&header.id) else {
            self.dropped += 1;
            return;
        };
        match (exchange.stage, header.kind) {
            (Stage::Left, Kind::EndRequest) => self.handle_late_end(header.id),
            (Stage::Left, _) => {}
            // Its owner is about to leave, and must not wait for what has come.
            (Stage::Ended, Kind::EndRequest) if !exchange.is_settled() => _ = self.resting.insert(header.id),
            (Stage::Ended, _) if !exchange.is_settled() => {}
            (Stage::Queued | Stage::Ended, _) => self.dropped += 1,
            (Stage::Sent, Kind::Stdout | Kind::Stderr) => self.handle_output(header),
            (Stage::Sent, Kind::EndRequest) if header.content == END_BODY_LEN as u16 => {
                self.handle_end(header.id, behind);
            }
            (Stage::Sent, Kind::EndRequest) => {
                self.resting.insert(header.id);
                self.break_exchange(header.id, format!("END_REQUEST of {} bytes in place of 8", header.content), now);
            }
            (Stage::Sent, kind) => {
                self.break_exchange(header.id, format!("{} record during a request", kind.name()), now);
            }
        }
    }

    /// What waits for the answer to a question that has been answered goes on.
    fn release_answered(&mut self) {
        let waiting = self.exchanges.iter_mut().filter(|(_, exchange)| exchange.question.is_some());
        let answered = waiting.filter_map(|(id, exchange)| {
            exchange.question.take_if(|question| self.questions.is_answered(*question)).map(|question| (question, *id))
        });
        let mut answered: Vec<_> = answered.collect();
        answered.sort_unstable();
        answered.into_iter().for_each(|(_, id)| self.queue(id));
    }

    fn handle_output(&mut self, header: Header) {
        if header.content > 0 {
            self.current = Current::Response(header.id, header.kind);
        } else if self.response_room(header.id) > 0
            && let Some(exchange) = self.exchanges.get_mut(&header.id)
        {
            // Without room it is left out: the end of the stream is told by END_REQUEST as well.
            exchange.append_record(header.kind, &[]);
            self.woken.extend(exchange.listener());
        }
    }

    fn handle_end(&mut self, id: u16, behind: &[u8]) {
        let body = behind.first_chunk::<END_BODY_LEN>();
        let Some((exchange, body)) = self.exchanges.get_mut(&id).zip(body) else { return };
        let status = EndRequest::decode(body).protocol_status;
        let rejected = matches!(status, ProtocolStatus::Overloaded | ProtocolStatus::CantMpxConn);
        if rejected && !exchange.has_responded() {
            exchange.end(Ending::Rejected(status));
        } else {
            exchange.append_record(Kind::EndRequest, body);
            exchange.end(Ending::Ended(status));
        }
        self.woken.extend(exchange.listener());
    }

    /// The application ends an exchange that was aborted.
    fn handle_late_end(&mut self, id: u16) {
        self.exchanges.remove(&id);
        self.resting.insert(id);
        if let Some(place) = self.left.iter().position(|(_, left)| *left == id) {
            self.left.remove(place);
            self.freed.push(Freed { id, ended: true });
        }
    }

    fn break_exchange(&mut self, id: u16, words: String, now: Instant) {
        if let Some(exchange) = self.exchanges.get_mut(&id) {
            exchange.end(Ending::Broken { cause: Cause::Protocol(words), unsent: false });
            self.woken.extend(exchange.listener());
        }
        self.end_stall(id, now);
    }

    fn handle_content(&mut self, content: &[u8]) {
        if let Current::Response(id, kind) = self.current
            && let Some(exchange) = self.exchanges.get_mut(&id).filter(|exchange| exchange.stage == Stage::Sent)
        {
            exchange.append(kind, content);
            self.woken.extend(exchange.listener());
        }
    }

    /// Bytes of the record under way that its exchange has room for; all of them where nobody wants them.
    fn response_room(&self, id: u16) -> usize {
        let exchange = self.exchanges.get(&id).filter(|exchange| exchange.stage == Stage::Sent);
        let kind = if let Current::Response(_, kind) = self.current { kind } else { Kind::Stdout };
        exchange.map_or(usize::MAX, |exchange| exchange.room(kind, self.buffer))
    }

    /// Somebody waits for more than the end of what he has aborted.
    fn stall_holds_up_others(&self) -> bool {
        let slow = self.stalls.id();
        slow.is_some() && self.exchanges.iter().any(|(id, exchange)| Some(*id) != slow && exchange.stage < Stage::Ended)
    }

    fn begin_stall(&mut self, now: Instant) {
        if let Current::Response(id, _) = self.current {
            self.stalls.begin(id, now);
        }
    }

    /// What this exchange did has made room again, if it was what the connection waited for.
    fn end_stall(&mut self, id: u16, now: Instant) {
        let held_up_others = self.stall_holds_up_others();
        self.wants_driver |= self.stalls.end(id, held_up_others, now);
    }
}

#[cfg(test)]
mod tests;
