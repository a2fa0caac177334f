//! One connection to an application, and what is said on it.

use std::{fmt, io, time::Duration};

use fcgimux::{
    config::EndpointAddress,
    mux::request::question,
    wire::{END_OF_LINES, EndRequest, Header, Kind as Record, MANAGEMENT_ID, Piece, ProtocolStatus, Scanner},
};
use tokio::{
    io::Interest,
    time::{Instant, timeout, timeout_at},
};

use super::{Failure, Kind, failure::words, stream::Stream};

/// Bytes read at once.
const READ: usize = 64 * 1024;
/// Reads of what nobody asked for; as much as an application can have written before it saw that nobody reads.
const READS_AT_MOST: usize = 1_000;
/// An HTTP server that waits for the end of a line answers within this time.
const SAYS_WITHIN: Duration = Duration::from_millis(250);
/// Bytes of a strange answer that are shown.
const SHOWN: usize = 40;

/// What comes of an answer, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output<'a> {
    /// STDOUT: the header block, then the body.
    Out(&'a [u8]),
    /// STDERR: what the application has to say besides.
    Err(&'a [u8]),
}

/// When things happened, from the moment that the request was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// The last byte of the request was handed to the kernel; `None`: it never was.
    pub(crate) sent: Option<Duration>,
    /// The first byte of the answer came.
    pub(crate) first_byte: Option<Duration>,
    /// The whole answer has come.
    pub(crate) end: Option<Duration>,
}

/// The end of a whole answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) end: EndRequest,
    pub(crate) times: Times,
}

/// What GET_VALUES brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Content of the GET_VALUES_RESULT.
    pub(crate) content: Vec<u8>,
    pub(crate) took: Duration,
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    address: String,
    /// How long it took to open.
    opened_in: Duration,
    scanner: Scanner,
    /// The record under way.
    record: Header,
    /// Content so far of a record that means something only as a whole.
    content: Vec<u8>,
    /// What has been read and not been taken: less than a header.
    pending: Vec<u8>,
    buffer: Box<[u8]>,
    /// Of the request under way, or the last one.
    id: u16,
    /// Of the request under way, for the message should it not end.
    times: Times,
    /// Bytes that came since the request was begun.
    came: u64,
}

/// Who waits for what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Answer,
    Values,
}

/// What ended the wait.
enum Ended {
    Answer(EndRequest),
    Values(Vec<u8>),
}

impl Connection {
    /// # Errors
    /// Nobody takes the connection within `limit`.
    pub(crate) async fn open(address: &EndpointAddress, limit: Duration) -> Result<Self, Failure> {
        let begun = Instant::now();
        let stream = match timeout(limit, Stream::connect(address)).await {
            Ok(stream) => stream.map_err(|error| Failure::connect(address, &error))?,
            Err(_) => {
                let what = format!("{address}: the connection was not taken within {limit:?}");
                return Err(Failure::new(Kind::Late, what));
            }
        };
        Ok(Self {
            stream,
            address: address.to_string(),
            opened_in: begun.elapsed(),
            scanner: Scanner::default(),
            record: Header::new(Record::Stdout, 0, 0),
            content: vec![],
            pending: vec![],
            buffer: vec![0; READ].into(),
            id: 0,
            times: Times::default(),
            came: 0,
        })
    }

    /// The id for the next request, another than the one before: what comes late of that one can be told apart (rule R6).
    pub(crate) fn next_id(&mut self) -> u16 {
        self.id = self.id.checked_add(1).unwrap_or(1);
        self.id
    }

    /// Sends a request under [`Self::next_id`] and hands on what comes, while it is still being sent as well (rule R17).
    ///
    /// # Errors
    /// There is no whole answer within `limit`, or the application says that it did not serve the request.
    pub(crate) async fn exchange(
        &mut self,
        request: &[u8],
        limit: Duration,
        mut output: impl FnMut(Output<'_>) -> io::Result<()>,
    ) -> Result<Answer, Failure> {
        let begun = Instant::now();
        let ended = timeout_at(begun + limit, self.converse(request, Awaited::Answer, begun, &mut output)).await;
        let end = match ended {
            Ok(Ok(Ended::Answer(end))) => end,
            // Only what is awaited ends the wait.
            Ok(Ok(Ended::Values(_))) | Err(_) => return Err(self.late(limit, request.len())),
            Ok(Err(failure)) => return Err(failure),
        };
        self.times.end = Some(begun.elapsed());
        match end.protocol_status {
            ProtocolStatus::RequestComplete => Ok(Answer { end, times: self.times }),
            status => {
                let what = format!("{}: the application did not serve the request: {}", self.address, name_of(status));
                Err(Failure::new(Kind::Refused, what))
            }
        }
    }

    /// Sends GET_VALUES and waits for what it brings. What still comes of a finished request is dropped.
    ///
    /// # Errors
    /// No answer within `limit`.
    pub(crate) async fn ask(&mut self, limit: Duration) -> Result<Told, Failure> {
        // Go's net/http/fcgi sends an empty result behind the first one (docs/applications.md, G1): it would be taken for
        // the answer to this one.
        self.drop_what_is_there()?;
        let (begun, question) = (Instant::now(), question());
        let ended = timeout_at(begun + limit, self.converse(&question, Awaited::Values, begun, &mut |_| Ok(()))).await;
        match ended {
            Ok(Ok(Ended::Values(content))) => Ok(Told { content, took: begun.elapsed() }),
            Ok(Ok(Ended::Answer(_))) | Err(_) => {
                let failure = self.late(limit, question.len());
                Err(self.explained(failure).await)
            }
            Ok(Err(failure)) => Err(failure),
        }
    }

    /// Why nothing came, where it is another protocol that is spoken there: some HTTP servers (Go's, Python's) wait for the
    /// end of a line before they say so.
    pub(crate) async fn explained(&mut self, failure: Failure) -> Failure {
        if failure.kind != Kind::Late || self.came > 0 || self.times.sent.is_none() {
            return failure;
        }
        let mut ignored = |_: Output<'_>| Ok(());
        let told = self.converse(END_OF_LINES, Awaited::Values, Instant::now(), &mut ignored);
        match timeout(SAYS_WITHIN, told).await {
            Ok(Err(strange)) if strange.kind == Kind::Strange => strange,
            _ => failure,
        }
    }

    /// Whether the application closes the connection within `limit`. What else comes is dropped.
    pub(crate) async fn closes_within(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if self.is_gone() {
                return true;
            }
            if timeout_at(end, self.stream.ready(Interest::READABLE)).await.is_err() {
                return false;
            }
        }
    }

    /// The application has closed it. What it has sent before that is dropped.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.drop_what_is_there().is_err()
    }

    /// Closing it leaves no TIME_WAIT; for a connection whose last answer is whole.
    pub(crate) fn reset(self) {
        self.stream.reset_on_close();
    }

    pub(crate) fn opened_in(&self) -> Duration {
        self.opened_in
    }

    /// Where it leads: an address, where a name may have several.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    async fn converse(
        &mut self,
        bytes: &[u8],
        awaited: Awaited,
        begun: Instant,
        output: &mut impl FnMut(Output<'_>) -> io::Result<()>,
    ) -> Result<Ended, Failure> {
        (self.times, self.came) = (Times::default(), 0);
        let mut sent = 0;
        loop {
            let interest =
                if sent < bytes.len() { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            let ready = self.stream.ready(interest).await.map_err(|error| self.closed(Some(&error)))?;
            if ready.is_writable() && sent < bytes.len() {
                match self.stream.try_write(&bytes[sent..]) {
                    Ok(written) => sent += written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // It may have answered before it closed: reading tells.
                    Err(_) => sent = bytes.len(),
                }
                if sent == bytes.len() {
                    self.times.sent = Some(begun.elapsed());
                    self.stream.quick_acks();
                }
            }
            if ready.is_readable() && self.read()? {
                self.times.first_byte.get_or_insert_with(|| begun.elapsed());
                if let Some(ended) = self.take(awaited, output)? {
                    return Ok(ended);
                }
            }
        }
    }

    /// Reads once. Returns whether anything was there.
    fn read(&mut self) -> Result<bool, Failure> {
        match self.stream.try_read(&mut self.buffer) {
            Ok(0) => Err(self.closed(None)),
            Ok(read) => {
                self.pending.extend_from_slice(&self.buffer[..read]);
                self.came += read as u64;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(self.closed(Some(&error))),
        }
    }

    fn drop_what_is_there(&mut self) -> Result<(), Failure> {
        for _ in 0..READS_AT_MOST {
            if !self.read()? {
                return Ok(());
            }
            while self.take(Awaited::Values, &mut |_| Ok(()))?.is_some() {}
        }
        let what = format!("{}: it goes on sending what belongs to no request", self.address);
        Err(Failure::new(Kind::Strange, what))
    }

    /// Takes what has been read, up to the end of what is awaited.
    fn take(
        &mut self,
        awaited: Awaited,
        output: &mut impl FnMut(Output<'_>) -> io::Result<()>,
    ) -> Result<Option<Ended>, Failure> {
        let (pending, mut at, mut ended) = (std::mem::take(&mut self.pending), 0, None);
        while ended.is_none() {
            let piece = self.scanner.next(&pending[at..]).map_err(|error| self.strange(&error, &pending[at..]))?;
            let Some(piece) = piece else { break };
            let bytes = &pending[at..at + piece.len()];
            at += piece.len();
            match piece {
                Piece::Header(header) => self.begin(header, awaited)?,
                Piece::Content(_) => self.content(bytes, awaited, output)?,
                Piece::Padding(_) => {}
            }
            if self.scanner.at_boundary() {
                ended = self.end(awaited)?;
            }
        }
        self.pending = pending[at..].to_vec();
        Ok(ended)
    }

    /// Judges a record by its header.
    fn begin(&mut self, header: Header, awaited: Awaited) -> Result<(), Failure> {
        self.record = header;
        self.content.clear();
        let name = header.kind.name();
        match header.kind {
            // An application says of itself what it likes, when it likes.
            Record::GetValuesResult | Record::UnknownType if header.id == MANAGEMENT_ID => Ok(()),
            Record::Stdout | Record::Stderr | Record::EndRequest if awaited == Awaited::Values => Ok(()),
            Record::Stdout | Record::Stderr | Record::EndRequest if header.id == self.id => Ok(()),
            Record::Stdout | Record::Stderr | Record::EndRequest => {
                let what =
                    format!("{}: {name} of request {} in the answer to request {}", self.address, header.id, self.id);
                Err(Failure::new(Kind::MixedUp, what))
            }
            _ => {
                let what = format!("{}: {name} record (id {}) in place of an answer", self.address, header.id);
                Err(Failure::new(Kind::Strange, what))
            }
        }
    }

    fn content(
        &mut self,
        bytes: &[u8],
        awaited: Awaited,
        output: &mut impl FnMut(Output<'_>) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let lost = |error: io::Error| Failure::new(Kind::Output, format!("cannot write the answer: {}", words(&error)));
        match self.record.kind {
            Record::Stdout if awaited == Awaited::Answer => output(Output::Out(bytes)).map_err(lost),
            Record::Stderr if awaited == Awaited::Answer => output(Output::Err(bytes)).map_err(lost),
            Record::Stdout | Record::Stderr => Ok(()),
            _ => {
                // At most one record's content.
                self.content.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// A record is whole.
    fn end(&mut self, awaited: Awaited) -> Result<Option<Ended>, Failure> {
        match (self.record.kind, awaited) {
            (Record::GetValuesResult, Awaited::Values) => Ok(Some(Ended::Values(std::mem::take(&mut self.content)))),
            (Record::EndRequest, Awaited::Answer) => match self.content.first_chunk() {
                Some(body) => Ok(Some(Ended::Answer(EndRequest::decode(body)))),
                None => {
                    let what = format!("{}: END_REQUEST of {} bytes in place of 8", self.address, self.content.len());
                    Err(Failure::new(Kind::Strange, what))
                }
            },
            _ => Ok(None),
        }
    }

    /// `error`: what the system says of it, if it was not an ordinary end.
    fn closed(&self, error: Option<&io::Error>) -> Failure {
        let address = &self.address;
        let how = error.map(|error| format!(" ({})", words(error))).unwrap_or_default();
        match self.came {
            0 => Failure::new(Kind::Closed, format!("{address}: the connection was closed without an answer{how}")),
            came => {
                let what = format!("{address}: the connection was closed after {came} bytes, before the end{how}");
                Failure::new(Kind::Broken, what)
            }
        }
    }

    fn late(&self, limit: Duration, size: usize) -> Failure {
        let (address, came) = (&self.address, self.came);
        let where_it_stands = match (self.times.sent, came) {
            (None, 0) => format!("it has not taken the request of {size} bytes whole"),
            (Some(_), 0) => "connected and sent, and nothing came".to_owned(),
            (_, came) => format!("{came} bytes came, and not the end"),
        };
        let failure = Failure::new(Kind::Late, format!("{address}: no answer within {limit:?}: {where_it_stands}"));
        // Somebody is at work: nobody need look for a worker.
        if came == 0 { failure } else { failure.with_advice("a long or slow answer takes a longer --timeout") }
    }

    /// What is no record.
    fn strange(&self, error: &impl fmt::Display, bytes: &[u8]) -> Failure {
        let shown: String = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).escape_debug().collect();
        Failure::new(Kind::Strange, format!("{}: {error}; it says \"{shown}\"", self.address))
    }
}

/// As the specification spells it.
fn name_of(status: ProtocolStatus) -> String {
    match status {
        ProtocolStatus::RequestComplete => "FCGI_REQUEST_COMPLETE".to_owned(),
        ProtocolStatus::CantMpxConn => "FCGI_CANT_MPX_CONN, it serves one request at a time on a connection".to_owned(),
        ProtocolStatus::Overloaded => "FCGI_OVERLOADED, it has no room for it now".to_owned(),
        ProtocolStatus::UnknownRole => "FCGI_UNKNOWN_ROLE, it is no responder".to_owned(),
        ProtocolStatus::Other(number) => format!("protocol status {number}, which the specification does not know"),
    }
}
