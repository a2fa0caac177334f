//! What a web server sends on one connection: requests under their ids, and what it must be told at once.
//!
//! Any number of requests up to a limit is taken in at a time, interleaved as the web server likes (specification,
//! section 3.3). What is passed on when depends on the application's dialect: php-fpm must be given a request whole (rule
//! R7), so it is announced with its last byte; another application is given what comes, so a request is announced with
//! the end of its params, and its body follows.
//!
//! What dies of what a web server does wrong:
//!
//! | it sends | what dies |
//! |---|---|
//! | a record of an id that it has not begun, or that has ended | nothing: it is passed over |
//! | a request behind one that wants the connection closed | nothing: it is passed over |
//! | a role, or one request more than may be | that request, by END_REQUEST |
//! | params or a body that are malformed or too large | that exchange, by a response that says so |
//! | ABORT_REQUEST | that exchange |
//! | an id begun twice, bodies of management records out of bounds, records out of their order, another protocol | the connection with all of its exchanges |

mod management;
mod requests;

use super::{
    about::about,
    label::Refusal,
    policy::{Method, Policy},
    refuse::{Refused, put_end},
    request::Request,
};
use crate::{
    config::Application,
    wire::{
        BEGIN_BODY_LEN, BeginRequest, HEADER_LEN, Header, Kind, MANAGEMENT_ID, Piece, ProtocolStatus, Role, ScanError,
        Scanner, VERSION,
    },
};
pub use management::Limits;
use management::MAX_GET_VALUES;
use requests::{Open, Requests, Stage};
use std::{ops::Range, sync::Arc};

/// What stood at the start of the bytes shown.
#[derive(Debug)]
pub struct Taken {
    /// Bytes that were taken; what is left is shown again, with more behind it.
    pub consumed: usize,
    /// `None`: more bytes are needed.
    pub event: Option<Event>,
}

#[derive(Debug)]
pub enum Event {
    /// Body of a request: this range of the bytes shown.
    Body { id: u16, stream: Stream, range: Range<usize> },
    /// The end of a stream of a request that has been announced.
    End { id: u16, stream: Stream },
    /// The request's exchange begins. It is whole, or its body follows: see [`Intake::is_whole`].
    Request(Request),
    /// To be written to the web server between two records.
    Answer(Vec<u8>),
    /// The request being taken in goes no further; what still comes of it is dropped.
    Refused { id: u16, keep_conn: bool, why: Refused },
    /// The same, of a request that has been announced: its exchange ends.
    Cut { id: u16, why: Refused },
    /// The web server takes back a request that has been announced.
    Aborted { id: u16 },
}

/// What a web server sends of a request behind its params.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdin,
    /// The file that a Filter works on.
    Data,
}

impl Stream {
    pub const fn kind(self) -> Kind {
        match self {
            Self::Stdin => Kind::Stdin,
            Self::Data => Kind::Data,
        }
    }
}

/// Bytes that no web server may send; the connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("{0}")]
    Scan(#[from] ScanError),
    #[error("BEGIN_REQUEST of {0} bytes in place of 8")]
    BeginLength(u16),
    #[error("BEGIN_REQUEST for id {0}, whose request has not ended")]
    BeginTwice(u16),
    #[error("{} after the end of its stream for id {id}", kind.name())]
    AfterEnd { kind: Kind, id: u16 },
    #[error("{} before the end of PARAMS for id {id}", kind.name())]
    BeforeParams { kind: Kind, id: u16 },
    #[error("GET_VALUES of {0} bytes, more than {MAX_GET_VALUES}")]
    GetValuesLength(u16),
}

/// What is done with the content of the record under way.
#[derive(Clone, Copy, Debug, Default)]
enum Current {
    #[default]
    Ignore,
    Params(u16),
    Body(u16, Stream),
}

/// Reads one web server's connection. `B` is what the driver keeps of each request.
#[derive(Debug)]
pub struct Intake<B> {
    policy: Arc<Policy>,
    limits: Limits,
    scanner: Scanner,
    current: Current,
    requests: Requests<B>,
    /// Why every request is refused, if so.
    refusing: Option<Refused>,
    /// A request has come that wants the connection to be closed behind it: it was the last one.
    last: bool,
    /// The web server has asked whether it may, or has had several requests at once.
    shared: bool,
    /// A request whose body is as long as its CONTENT_LENGTH says: whole, whether or not an end of STDIN follows.
    satisfied: Option<u16>,
}

impl<B: Default> Intake<B> {
    pub fn new(policy: Arc<Policy>, limits: Limits) -> Self {
        Self {
            policy,
            limits,
            scanner: Scanner::default(),
            current: Current::default(),
            requests: Requests::default(),
            refusing: None,
            last: false,
            shared: false,
            satisfied: None,
        }
    }

    /// An exchange has ended, however much of its request has come; its id may be used again.
    pub fn ended(&mut self, id: u16) {
        self.requests.remove(id);
    }

    /// Some request has been announced and has not ended.
    pub fn is_running(&self) -> bool {
        self.requests.iter().any(|open| open.announced)
    }

    /// The requests that are being taken in and have not been announced.
    pub fn open(&self) -> impl Iterator<Item = (u16, &B)> {
        self.requests.iter().filter(|open| !open.announced).map(|open| (open.id, &open.store))
    }

    /// Those of them of which something has come since they were asked for last.
    pub fn touched(&mut self) -> impl Iterator<Item = &mut B> {
        let touched = |open: &mut Open<B>| std::mem::take(&mut open.touched) && !open.announced;
        self.requests.iter_mut().filter_map(move |open| touched(open).then_some(&mut open.store))
    }

    /// Bytes of body that the one request there is must still bring before it is whole; 0 where that is not known.
    pub fn owed(&self) -> u64 {
        self.requests.only().map_or(0, |open| open.length().unwrap_or(0).saturating_sub(open.body))
    }

    /// Nothing more will come of any request: what has not been announced is dropped. Returns what the driver keeps of those
    /// that have been and lack the rest of their body.
    pub fn handle_end(&mut self) -> impl Iterator<Item = &mut B> {
        self.requests.retain(|open| open.announced);
        self.scanner = Scanner::default();
        self.requests.iter_mut().filter(|open| !open.is_whole()).map(|open| &mut open.store)
    }

    /// The last request of the connection has ended: nothing else is to be taken in.
    pub fn is_over(&self) -> bool {
        self.last && self.requests.is_empty()
    }

    /// The web server puts many requests on this connection at once, or may.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// No other request may come behind those that have.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Nothing more is to come of a request that has been announced; an Authorizer has no body.
    pub fn is_whole(&self, id: u16) -> bool {
        self.requests.get(id).is_none_or(Open::is_whole)
    }

    /// What the driver keeps of a request, from its BEGIN_REQUEST to its end.
    pub fn store_mut(&mut self, id: u16) -> Option<&mut B> {
        self.requests.get_mut(id).map(|open| &mut open.store)
    }

    pub fn store(&self, id: u16) -> Option<&B> {
        self.requests.get(id).map(|open| &open.store)
    }

    /// The exchange will take nothing more of its request, whose id stays taken.
    pub fn drop_rest(&mut self, id: u16) {
        if let Some(open) = self.requests.get_mut(id) {
            open.stage = Stage::Whole;
        }
    }

    pub fn stores_mut(&mut self) -> impl Iterator<Item = &mut B> {
        self.requests.iter_mut().map(|open| &mut open.store)
    }

    /// This request has begun and no other has.
    pub fn is_only(&self, id: u16) -> bool {
        self.requests.len() == 1 && self.requests.get(id).is_some()
    }

    /// Gives up a request, for a reason that only the caller knows.
    ///
    /// # Panics
    /// If it has not begun: call it for an [`Event::Body`] only.
    pub fn refuse_open(&mut self, id: u16, why: Refused) -> Event {
        self.refuse(id, why)
    }

    /// From now on each request is refused as soon as its params are there.
    pub fn refuse_all(&mut self, why: Refused) {
        self.refusing = Some(why);
    }

    /// The rest of a request that has been announced is to come.
    pub fn awaits_body(&self) -> bool {
        self.requests.iter().any(|open| open.announced && !open.is_whole())
    }

    /// The web server has sent all of the requests there are, the records that end them included.
    pub fn is_said(&self) -> bool {
        self.scanner.at_boundary() && self.requests.iter().all(|open| open.announced && open.ended)
    }

    /// True while the web server owes us the rest of a request that has not been announced, or of a record.
    pub fn unfinished(&self) -> bool {
        !self.scanner.at_boundary() || self.requests.iter().any(|open| !open.announced)
    }

    /// Takes from the start of `bytes` up to the next event.
    ///
    /// # Errors
    /// Something that no web server may send.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Taken, Violation> {
        let mut at = 0;
        loop {
            if let Some(id) = self.satisfied.take() {
                let event = self.complete(id);
                return Ok(Taken { consumed: at + self.take_end(id, &bytes[at..]), event: Some(event) });
            }
            let rest = &bytes[at..];
            if self.scanner.at_boundary() && !whole_at_once(rest) {
                return Ok(Taken { consumed: at, event: None });
            }
            let Some(piece) = self.scanner.next(rest)? else {
                return Ok(Taken { consumed: at, event: None });
            };
            let start = at;
            at += piece.len();
            let event = match piece {
                Piece::Header(header) => self.handle_header(header, &bytes[at..])?,
                Piece::Content(len) => self.handle_content(&bytes[start..], start, len),
                Piece::Padding(_) => None,
            };
            if let Some(Event::Request(request)) = &event {
                at += self.take_end(request.id, &bytes[at..]);
            }
            if event.is_some() {
                return Ok(Taken { consumed: at, event });
            }
        }
    }

    /// A request that is whole without its end of STDIN takes it along where it has come, so that nothing of it is left to
    /// look at. Returns how long it is, with the padding in front of it.
    fn take_end(&mut self, id: u16, bytes: &[u8]) -> usize {
        let Some(open) = self.requests.get_mut(id).filter(|open| open.is_whole() && !open.ended) else { return 0 };
        let mut scanner = self.scanner.clone();
        let mut at = 0;
        // What cannot be a record is found where it is read.
        while let Ok(Some(piece)) = scanner.next(&bytes[at..]) {
            at += piece.len();
            match piece {
                Piece::Padding(_) if open.ended => {}
                Piece::Padding(_) => continue,
                Piece::Header(Header { kind: Kind::Stdin, content: 0, id: ended, .. }) if ended == id => {
                    open.ended = true
                }
                _ => return 0,
            }
            if scanner.at_boundary() || at == bytes.len() {
                self.scanner = scanner;
                return at;
            }
        }
        0
    }

    /// `behind`: what follows the header; holds the whole body of the records that [`whole_at_once`] waits for.
    fn handle_header(&mut self, header: Header, behind: &[u8]) -> Result<Option<Event>, Violation> {
        self.current = Current::Ignore;
        // php-fpm serves a request of id 0 as any other (fact 9.1).
        if header.id == MANAGEMENT_ID && !header.kind.is_of_a_request() {
            return self.handle_management(header, behind).map(Some);
        }
        if let Some(open) = self.requests.get_mut(header.id) {
            open.touched = true;
        }
        match header.kind {
            Kind::BeginRequest => self.handle_begin(header, behind),
            Kind::AbortRequest => Ok(self.handle_abort(header.id)),
            Kind::Params => self.handle_params(header),
            Kind::Stdin => self.handle_body(header, Stream::Stdin),
            Kind::Data => self.handle_body(header, Stream::Data),
            // Other types are not a web server's: passed over, as are unknown ids.
            _ => Ok(None),
        }
    }

    fn handle_management(&mut self, header: Header, behind: &[u8]) -> Result<Event, Violation> {
        if header.kind != Kind::GetValues {
            return Ok(Event::Answer(management::unknown_type(header.kind)));
        }
        if header.content > MAX_GET_VALUES {
            return Err(Violation::GetValuesLength(header.content));
        }
        self.shared = true;
        Ok(Event::Answer(management::values(&behind[..header.content.into()], self.limits)))
    }

    fn handle_begin(&mut self, header: Header, behind: &[u8]) -> Result<Option<Event>, Violation> {
        let Some(body) = behind.first_chunk::<BEGIN_BODY_LEN>().filter(|_| header.content == BEGIN_BODY_LEN as u16)
        else {
            return Err(Violation::BeginLength(header.content));
        };
        let (id, begin) = (header.id, BeginRequest::decode(body));
        if self.requests.get(id).is_some() {
            return Err(Violation::BeginTwice(id));
        }
        if self.last {
            return Ok(None); // the connection closes before its turn
        }
        if self.requests.len() >= self.limits.requests as usize {
            let detail = format!("more than {} requests at once (max_requests_in_flight)", self.limits.requests);
            let why = Refused { refusal: Refusal::RequestsInFlight, detail };
            return Ok(Some(Event::Refused { id, keep_conn: true, why }));
        }
        if !self.plays(begin.role) {
            self.last = !begin.keep_conn;
            return Ok(Some(answer_end(id, ProtocolStatus::UnknownRole)));
        }
        self.last = !begin.keep_conn;
        self.shared |= !self.requests.is_empty();
        self.requests.begin(id, begin);
        Ok(None)
    }

    fn plays(&self, role: Role) -> bool {
        match role {
            Role::Responder | Role::Authorizer => true,
            // php-fpm closes the connection at a Filter's DATA (fact 9.2).
            Role::Filter => self.policy.application == Application::Generic,
            Role::Other(_) => false,
        }
    }

    fn handle_abort(&mut self, id: u16) -> Option<Event> {
        if self.requests.get(id)?.announced {
            return Some(Event::Aborted { id });
        }
        self.requests.remove(id);
        Some(answer_end(id, ProtocolStatus::RequestComplete))
    }

    fn handle_params(&mut self, header: Header) -> Result<Option<Event>, Violation> {
        let Some(open) = self.requests.get_mut(header.id) else { return Ok(None) };
        match open.stage {
            Stage::Params if header.content > 0 => {
                let size = open.params.len() as u64 + u64::from(header.content);
                let limit = self.policy.max_params();
                if size > limit {
                    let detail = format!("params of {size} bytes or more, over {limit} (params.max_size)");
                    return Ok(Some(self.refuse(header.id, Refused { refusal: Refusal::ParamsTooLarge, detail })));
                }
                self.current = Current::Params(header.id);
                Ok(None)
            }
            Stage::Params => Ok(self.end_params(header.id)),
            Stage::Whole => Ok(None),
            Stage::Stdin | Stage::Data => Err(Violation::AfterEnd { kind: Kind::Params, id: header.id }),
        }
    }

    fn end_params(&mut self, id: u16) -> Option<Event> {
        let open = self.requests.get_mut(id)?;
        if let Some(why) = &self.refusing {
            let why = why.clone();
            return Some(self.refuse(id, why));
        }
        let findings = match self.policy.inspect(&open.params) {
            Ok(findings) => findings,
            Err(why) => return Some(self.refuse(id, why)),
        };
        let length = findings.content_length;
        (open.stage, open.findings) = (Stage::Stdin, Some(findings));
        let bodiless = open.role == Role::Authorizer;
        match self.policy.max_body.filter(|limit| self.streams() && length.is_some_and(|length| length > *limit)) {
            Some(limit) => Some(self.refuse(id, body_too_large(limit))),
            None if self.streams() => Some(self.announce(id, length.unwrap_or(0), None)),
            // It has no STDIN, though some web servers end it all the same.
            None if bodiless || self.requests.get(id).is_some_and(Open::is_known_to_be_bodiless) => {
                Some(self.complete(id))
            }
            None => None,
        }
    }

    /// Bodies go on as they come.
    fn streams(&self) -> bool {
        self.policy.application == Application::Generic
    }

    fn handle_body(&mut self, header: Header, stream: Stream) -> Result<Option<Event>, Violation> {
        let id = header.id;
        let Some(open) = self.requests.get_mut(id) else { return Ok(None) };
        // DATA belongs to Filters.
        if stream == Stream::Data && open.role != Role::Filter {
            return Ok(None);
        }
        open.ended |= header.content == 0 && stream == open.last_stream();
        match (open.stage, stream) {
            (Stage::Params, _) => return Err(Violation::BeforeParams { kind: header.kind, id }),
            (Stage::Data, Stream::Stdin) => return Err(Violation::AfterEnd { kind: header.kind, id }),
            (Stage::Stdin, Stream::Stdin) | (Stage::Data, Stream::Data) => {}
            // The file of a Filter comes behind its STDIN.
            (Stage::Stdin, Stream::Data) | (Stage::Whole, _) => return Ok(None),
        }
        if header.content == 0 {
            return Ok(Some(self.end_body(id, stream)));
        }
        if stream == Stream::Stdin {
            open.body += u64::from(header.content);
            if let Some(why) = self.surplus(id) {
                return Ok(Some(self.refuse(id, why)));
            }
        }
        self.current = Current::Body(id, stream);
        Ok(None)
    }

    /// Why the body may not be as long as it is by now.
    fn surplus(&self, id: u16) -> Option<Refused> {
        let open = self.requests.get(id)?;
        let said = open.findings.as_ref().and_then(|findings| findings.content_length);
        if let Some(said) = said.filter(|said| open.body > *said && !self.streams()) {
            let detail = format!("the body has {} bytes or more, CONTENT_LENGTH says {said}", open.body);
            return Some(Refused { refusal: Refusal::LengthMismatch, detail });
        }
        // What is announced need not come; the first byte of it says that it will.
        self.policy.max_body.filter(|limit| open.body.max(said.unwrap_or(0)) > *limit).map(body_too_large)
    }

    fn end_body(&mut self, id: u16, stream: Stream) -> Event {
        if !self.streams() {
            return self.complete(id);
        }
        if let Some(open) = self.requests.get_mut(id) {
            let data_follows = open.role == Role::Filter && stream == Stream::Stdin;
            open.stage = if data_follows { Stage::Data } else { Stage::Whole };
        }
        Event::End { id, stream }
    }

    /// The request is whole: the last checks, and the params as they go on. One of which no byte of body has come goes on
    /// with the CONTENT_LENGTH that it has: a web server that asks on behalf of another request (auth_request, mirror) sends
    /// the length of a body that it keeps, and php-fpm reads the end of STDIN and runs the script.
    fn complete(&mut self, id: u16) -> Event {
        // Both are there: the callers have just looked at them.
        let open = self.requests.get_mut(id).expect("the request is open");
        let findings = open.findings.as_ref().expect("its params have ended");
        let body = open.body;
        let missing = match findings.content_length {
            None => (body > 0 || findings.unknown_length).then_some(body),
            Some(said) if said == body || (body == 0 && open.role != Role::Authorizer) => None,
            // It is not given the body (specification, section 6.3), and must not wait for one (fact 10.2).
            Some(_) if open.role == Role::Authorizer => Some(body),
            Some(said) => {
                let detail = format!("the body ended after {body} bytes, CONTENT_LENGTH says {said}");
                return self.refuse(id, Refused { refusal: Refusal::LengthMismatch, detail });
            }
        };
        open.stage = Stage::Whole;
        self.announce(id, body, missing)
    }

    /// `missing`: what CONTENT_LENGTH should have said.
    fn announce(&mut self, id: u16, body: u64, missing: Option<u64>) -> Event {
        let streams = self.streams();
        // As above.
        let open = self.requests.get_mut(id).expect("the request is open");
        let findings = open.findings.as_ref().expect("its params have ended");
        let rewritten = self.policy.rewrite(&open.params, findings, missing);
        // A length without a body: PHP reads up to the end of STDIN, before it runs the script where that is a POST.
        let ends_stdin = !streams && body == 0 && missing.is_none() && findings.content_length.unwrap_or(0) > 0;
        let reusable = self.policy.reusable_after(findings, body) && (!ends_stdin || findings.method == Method::Post);
        let (method, role, keep_conn, sticky) = (findings.method, open.role, open.keep_conn, findings.sticky);
        open.announced = true;
        let params = std::mem::take(&mut open.params);
        let params = rewritten.unwrap_or(params);
        Event::Request(Request { id, role, keep_conn, body, ends_stdin, reusable, method, sticky, params })
    }

    fn handle_content(&mut self, bytes: &[u8], start: usize, len: usize) -> Option<Event> {
        match self.current {
            Current::Ignore => None,
            Current::Params(id) => {
                if let Some(open) = self.requests.get_mut(id) {
                    open.touched = true;
                    open.params.extend_from_slice(&bytes[..len]);
                }
                None
            }
            // Its exchange may have ended in the middle of the record.
            Current::Body(id, stream) => {
                let streams = self.streams();
                let open = self.requests.get_mut(id).filter(|open| open.stage != Stage::Whole)?;
                if stream == Stream::Stdin {
                    open.arrived += len as u64;
                    if !streams && open.length() == Some(open.arrived) {
                        self.satisfied = Some(id);
                    }
                }
                Some(Event::Body { id, stream, range: start..start + len })
            }
        }
    }

    fn refuse(&mut self, id: u16, mut why: Refused) -> Event {
        self.current = Current::Ignore;
        self.satisfied.take_if(|satisfied| *satisfied == id);
        let open = self.requests.get(id).expect("only a request that is open is refused");
        let Open { keep_conn, announced, .. } = open;
        if open.findings.is_some() {
            why.detail += &about(&open.params);
        }
        if *announced {
            return Event::Cut { id, why };
        }
        let keep_conn = *keep_conn;
        self.requests.remove(id);
        Event::Refused { id, keep_conn, why }
    }
}

fn answer_end(id: u16, status: ProtocolStatus) -> Event {
    let mut out = vec![];
    put_end(&mut out, id, status);
    Event::Answer(out)
}

fn body_too_large(limit: u64) -> Refused {
    Refused { refusal: Refusal::BodyTooLarge, detail: format!("the body is over {limit} bytes (body.max_size)") }
}

/// False while `bytes` start with a record that is read in one piece (BEGIN_REQUEST, GET_VALUES) and is not whole.
fn whole_at_once(bytes: &[u8]) -> bool {
    // What is no record is to be seen at once.
    let header = bytes.first_chunk::<HEADER_LEN>().map(Header::decode).filter(|header| header.version == VERSION);
    let Some(header) = header else { return true };
    let wanted = match header.kind {
        Kind::BeginRequest if header.content == BEGIN_BODY_LEN as u16 => BEGIN_BODY_LEN,
        Kind::GetValues if header.id == MANAGEMENT_ID && header.content <= MAX_GET_VALUES => header.content.into(),
        _ => 0,
    };
    bytes.len() >= HEADER_LEN + wanted
}

#[cfg(test)]
mod tests;
