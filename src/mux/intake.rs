//! What a web server sends on one connection: whole requests, and what it must be told at once.
//!
//! One request at a time is taken in on a connection; a further one begun meanwhile is answered CANT_MPX_CONN.

use super::{
    label::Refusal,
    policy::Policy,
    refuse::{Refused, put_end},
    request::Request,
};
use crate::wire::{
    BEGIN_BODY_LEN, BeginRequest, HEADER_LEN, Header, Kind, MANAGEMENT_ID, Pairs, Piece, ProtocolStatus, Role,
    ScanError, Scanner, UnknownType, VERSION, put_pair, put_record, variable,
};
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
    /// Body of the request being taken in: this range of the bytes shown.
    Body(Range<usize>),
    /// The request is whole.
    Request(Request),
    /// To be written to the web server between two records.
    Answer(Vec<u8>),
    /// The request being taken in goes no further; what still comes of it is dropped.
    Refused { id: u16, keep_conn: bool, why: Refused },
    /// The web server takes back the request that runs.
    Aborted,
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
    #[error("{} after the end of PARAMS for id {id}", kind.name())]
    AfterEnd { kind: Kind, id: u16 },
    #[error("STDIN before the end of PARAMS for id {0}")]
    StdinFirst(u16),
    #[error("GET_VALUES of {0} bytes, more than {MAX_GET_VALUES}")]
    GetValuesLength(u16),
}

/// Content of a GET_VALUES that we look at; the three known names take 45 bytes.
const MAX_GET_VALUES: u16 = 1024;

/// What is done with the content of the record under way.
#[derive(Clone, Copy, Debug, Default)]
enum Current {
    #[default]
    Ignore,
    Params,
    Stdin,
}

/// A request of which not all has come.
#[derive(Debug)]
struct Open {
    id: u16,
    keep_conn: bool,
    params: Vec<u8>,
    /// Set with the empty PARAMS record.
    findings: Option<super::policy::Findings>,
    /// Bytes of STDIN so far.
    body: u64,
}

/// Reads one web server's connection.
#[derive(Debug)]
pub struct Intake {
    policy: Arc<Policy>,
    /// What GET_VALUES is told: MAX_CONNS and MAX_REQS.
    limit: u32,
    scanner: Scanner,
    current: Current,
    open: Option<Open>,
    /// Id of the request that is whole and has not been answered to its end.
    running: Option<u16>,
    /// Why every request is refused, if so.
    refusing: Option<Refused>,
    /// A request that asked for the connection to be closed behind it has been ended by an [`Event::Answer`].
    over: bool,
}

impl Intake {
    pub fn new(policy: Arc<Policy>, limit: u32) -> Self {
        Self {
            policy,
            limit,
            scanner: Scanner::default(),
            current: Current::default(),
            open: None,
            running: None,
            refusing: None,
            over: false,
        }
    }

    /// The running request has been answered; its id may be used again.
    pub fn ended(&mut self) {
        self.running = None;
    }

    /// A request is whole and has not been answered to its end.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The id of the request being taken in.
    pub fn open_id(&self) -> Option<u16> {
        self.open.as_ref().map(|open| open.id)
    }

    /// What has been answered was the last request of the connection: nothing else is to be taken in.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Gives up the request being taken in, for a reason that only the caller knows.
    ///
    /// # Panics
    /// If none is being taken in: call it for an [`Event::Body`] only.
    pub fn refuse_open(&mut self, why: Refused) -> Event {
        self.refuse(why)
    }

    /// From now on each request is refused as soon as its params are there.
    pub fn refuse_all(&mut self, why: Refused) {
        self.refusing = Some(why);
    }

    /// True while the web server owes us the rest of a request or of a record.
    pub fn unfinished(&self) -> bool {
        self.open.is_some() || !self.scanner.at_boundary()
    }

    /// Takes from the start of `bytes` up to the next event.
    ///
    /// # Errors
    /// Something that no web server may send.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Taken, Violation> {
        let mut at = 0;
        loop {
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
            if event.is_some() {
                return Ok(Taken { consumed: at, event });
            }
        }
    }

    /// `behind`: what follows the header; holds the whole body of the records that [`whole_at_once`] waits for.
    fn handle_header(&mut self, header: Header, behind: &[u8]) -> Result<Option<Event>, Violation> {
        self.current = Current::Ignore;
        if header.id == MANAGEMENT_ID {
            return self.handle_management(header, behind).map(Some);
        }
        match header.kind {
            Kind::BeginRequest => self.handle_begin(header, behind),
            Kind::AbortRequest => Ok(self.handle_abort(header.id)),
            Kind::Params => self.handle_params(header),
            Kind::Stdin => self.handle_stdin(header),
            // DATA belongs to Filters, and other types are not a web server's: passed over, as are unknown ids.
            _ => Ok(None),
        }
    }

    fn handle_management(&self, header: Header, behind: &[u8]) -> Result<Event, Violation> {
        let mut out = vec![];
        if header.kind == Kind::GetValues {
            if header.content > MAX_GET_VALUES {
                return Err(Violation::GetValuesLength(header.content));
            }
            let mut values = vec![];
            let limit = self.limit.to_string();
            for (name, _) in Pairs::new(&behind[..header.content.into()]).filter_map(Result::ok) {
                match name {
                    variable::MAX_CONNS | variable::MAX_REQS => put_pair(&mut values, name, limit.as_bytes()),
                    variable::MPXS_CONNS => put_pair(&mut values, name, b"0"),
                    _ => {} // left out, as the specification says
                }
            }
            values.truncate(crate::wire::MAX_CONTENT);
            put_record(&mut out, Kind::GetValuesResult, MANAGEMENT_ID, &values);
        } else {
            let body = UnknownType { kind: header.kind.to_byte() }.encode();
            put_record(&mut out, Kind::UnknownType, MANAGEMENT_ID, &body);
        }
        Ok(Event::Answer(out))
    }

    fn handle_begin(&mut self, header: Header, behind: &[u8]) -> Result<Option<Event>, Violation> {
        let Some(body) = behind.first_chunk::<BEGIN_BODY_LEN>().filter(|_| header.content == BEGIN_BODY_LEN as u16)
        else {
            return Err(Violation::BeginLength(header.content));
        };
        let begin = BeginRequest::decode(body);
        let busy = self.open.as_ref().map(|open| open.id).or(self.running);
        let answer = |status| {
            let mut out = vec![];
            put_end(&mut out, header.id, status);
            Ok(Some(Event::Answer(out)))
        };
        match (busy, begin.role) {
            (Some(id), _) if id == header.id => Err(Violation::BeginTwice(id)),
            (Some(_), _) => answer(ProtocolStatus::CantMpxConn),
            (None, Role::Responder) => {
                let (id, keep_conn) = (header.id, begin.keep_conn);
                self.open = Some(Open { id, keep_conn, params: vec![], findings: None, body: 0 });
                Ok(None)
            }
            (None, _) => {
                self.over = !begin.keep_conn;
                answer(ProtocolStatus::UnknownRole)
            }
        }
    }

    fn handle_abort(&mut self, id: u16) -> Option<Event> {
        if self.running == Some(id) {
            return Some(Event::Aborted);
        }
        self.over = !self.open.take_if(|open| open.id == id)?.keep_conn;
        let mut out = vec![];
        put_end(&mut out, id, ProtocolStatus::RequestComplete);
        Some(Event::Answer(out))
    }

    fn handle_params(&mut self, header: Header) -> Result<Option<Event>, Violation> {
        let Some(open) = self.open.as_mut().filter(|open| open.id == header.id) else { return Ok(None) };
        if open.findings.is_some() {
            return Err(Violation::AfterEnd { kind: Kind::Params, id: header.id });
        }
        if header.content > 0 {
            let size = open.params.len() as u64 + u64::from(header.content);
            let limit = self.policy.max_params();
            if size > limit {
                let detail = format!("params of {size} bytes or more, over {limit} (params.max_size)");
                return Ok(Some(self.refuse(Refused { refusal: Refusal::ParamsTooLarge, detail })));
            }
            self.current = Current::Params;
            return Ok(None);
        }
        if let Some(why) = &self.refusing {
            let why = why.clone();
            return Ok(Some(self.refuse(why)));
        }
        match self.policy.inspect(&open.params) {
            Ok(findings) => {
                let over = self.policy.max_body.filter(|limit| findings.content_length.is_some_and(|n| n > *limit));
                open.findings = Some(findings);
                Ok(over.map(|limit| self.refuse(body_too_large(limit))))
            }
            Err(why) => Ok(Some(self.refuse(why))),
        }
    }

    fn handle_stdin(&mut self, header: Header) -> Result<Option<Event>, Violation> {
        let Some(open) = self.open.as_mut().filter(|open| open.id == header.id) else { return Ok(None) };
        let Some(findings) = &open.findings else { return Err(Violation::StdinFirst(header.id)) };
        if header.content == 0 {
            return Ok(Some(self.complete()));
        }
        open.body += u64::from(header.content);
        if let Some(said) = findings.content_length.filter(|said| open.body > *said) {
            let detail = format!("the body has {} bytes or more, CONTENT_LENGTH says {said}", open.body);
            return Ok(Some(self.refuse(Refused { refusal: Refusal::LengthMismatch, detail })));
        }
        if let Some(limit) = self.policy.max_body.filter(|limit| open.body > *limit) {
            return Ok(Some(self.refuse(body_too_large(limit))));
        }
        self.current = Current::Stdin;
        Ok(None)
    }

    /// The request is whole: the last checks, and the params as they go on.
    fn complete(&mut self) -> Event {
        // Both are there: handle_stdin, the only caller, has just looked at them.
        let open = self.open.as_ref().expect("a request is open");
        let findings = open.findings.as_ref().expect("its params have ended");
        if let Some(said) = findings.content_length.filter(|said| *said != open.body) {
            let detail = format!("the body ended after {} bytes, CONTENT_LENGTH says {said}", open.body);
            return self.refuse(Refused { refusal: Refusal::LengthMismatch, detail });
        }
        let missing = (findings.content_length.is_none() && open.body > 0).then_some(open.body);
        let rewritten = self.policy.rewrite(&open.params, findings, missing);
        let reusable = self.policy.reusable_after(findings, open.body);
        let method = findings.method;
        let Open { id, keep_conn, params, body, .. } = self.open.take().expect("a request is open");
        let params = rewritten.unwrap_or(params);
        self.running = Some(id);
        Event::Request(Request { id, keep_conn, body, reusable, method, params })
    }

    fn handle_content(&mut self, bytes: &[u8], start: usize, len: usize) -> Option<Event> {
        match (self.current, &mut self.open) {
            (Current::Params, Some(open)) => {
                open.params.extend_from_slice(&bytes[..len]);
                None
            }
            (Current::Stdin, Some(_)) => Some(Event::Body(start..start + len)),
            _ => None,
        }
    }

    fn refuse(&mut self, why: Refused) -> Event {
        self.current = Current::Ignore;
        let open = self.open.take().expect("only a request that is open is refused");
        Event::Refused { id: open.id, keep_conn: open.keep_conn, why }
    }
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
