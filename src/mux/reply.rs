//! What an application sends during one exchange: which bytes go on to the web server, and when it has ended cleanly.

use super::{head::Head, request::Front};
use crate::wire::{END_BODY_LEN, HEADER_LEN, Header, Kind, MANAGEMENT_ID, Piece, ScanError, Scanner, set_id};

/// What to do with the bytes shown: the first `forward` go on, the next `skip` are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    pub forward: usize,
    pub skip: usize,
}

/// Bytes that an application may not send during an exchange; the connection is given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    #[error("{0}")]
    Scan(#[from] ScanError),
    #[error("{} record during a request", .0.name())]
    Kind(Kind),
    #[error("END_REQUEST of {0} bytes in place of 8")]
    EndLength(u16),
    /// A web server can make nothing of that; HAProxy 2.6 dies of it (docs/web-servers.md).
    #[error("the response ended inside its header block")]
    Head,
}

/// What is done with the record under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Current {
    /// STDOUT; goes on.
    Output,
    /// STDERR; goes on as well.
    Forward,
    /// Forwarded; the exchange ends with it.
    End,
    /// The answer to the GET_VALUES in front of the request.
    Proof,
    Skip,
}

/// Reads one response.
///
/// The bytes are changed in place: headers that go on carry the web server's request id.
#[derive(Debug)]
pub struct Reply {
    scanner: Scanner,
    current: Current,
    /// Our id on the upstream connection.
    ours: u16,
    /// The web server's id.
    theirs: u16,
    /// So many GET_VALUES_RESULT are due before the response.
    proofs_due: u8,
    /// The first is owed to the exchange before: until it comes that may still write (fact 11.2).
    strays_allowed: bool,
    head: Head,
    /// Type of the last record that goes on.
    last: Option<Kind>,
    /// Bytes of the response have gone on.
    started: bool,
    /// The same before the last scan.
    started_before: bool,
    /// Where in the bytes of the last scan the record under way has its header, if it goes on.
    record_at: usize,
    /// Content and padding that a record which was cut still lacks.
    missing: (usize, usize),
    /// A record came that does not belong to this exchange; the connection is not used again.
    strays: bool,
    /// An empty STDOUT has come behind a whole header block: the response lacks nothing but END_REQUEST.
    output_over: bool,
    /// END_REQUEST has gone on, padding included.
    ended: bool,
    /// What the application did wrong behind bytes that may still go on.
    broken: Option<ReplyError>,
}

/// Proof that an exchange ended with its END_REQUEST and that the scanner stands right behind it. Only this leads to
/// the fence, and only the fence back to the pool.
#[derive(Debug)]
#[must_use]
pub struct Finished {
    pub(super) clean: bool,
}

impl Finished {
    /// Whether the connection may go on to the fence: nothing came on it that does not belong.
    pub fn clean(&self) -> bool {
        self.clean
    }
}

impl Reply {
    /// `front`: what the request was sent with in front of it.
    pub fn new(ours: u16, theirs: u16, front: &Front) -> Self {
        Self {
            scanner: Scanner::default(),
            current: Current::Skip,
            ours,
            theirs,
            proofs_due: front.questions(),
            strays_allowed: front.is_fence(),
            head: Head::default(),
            last: None,
            started: false,
            started_before: false,
            record_at: 0,
            missing: (0, 0),
            strays: false,
            output_over: false,
            ended: false,
            broken: None,
        }
    }

    /// Scans from the start of `bytes`; call again with what is left until both counts are 0.
    ///
    /// # Errors
    /// The application broke the protocol; nothing more of `bytes` may go on.
    pub fn scan(&mut self, bytes: &mut [u8]) -> Result<Scan, ReplyError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let mut forward = 0;
        self.started_before = self.started;
        if !bytes.is_empty() {
            self.missing = (0, 0);
        }
        while !self.ended {
            let piece = match self.next(&bytes[forward..]) {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => {
                    self.broken = Some(error.clone());
                    // What came in front of it goes on, as it would have in a read of its own.
                    return if forward > 0 { Ok(Scan { forward, skip: 0 }) } else { Err(error) };
                }
            };
            let kept = matches!(self.current, Current::Output | Current::Forward | Current::End);
            if let (Current::Output, Piece::Content(len)) = (self.current, piece) {
                self.head.read_text(&bytes[forward..forward + len]);
            }
            if kept && matches!(piece, Piece::Header(_)) {
                set_id(&mut bytes[forward..], self.theirs);
                self.last = Some(match self.current {
                    Current::End => Kind::EndRequest,
                    Current::Output => Kind::Stdout,
                    _ => Kind::Stderr,
                });
                self.record_at = forward;
            }
            self.finish_record();
            if !kept {
                return Ok(Scan { forward, skip: piece.len() });
            }
            forward += piece.len();
            self.started = true;
        }
        Ok(Scan { forward, skip: 0 })
    }

    /// Cuts a run that is to go on, behind its last whole record or in it, so that it ends with a record: wherever the
    /// application may break off, the web server can then be told. `run` is what the last scan wants forwarded; returns
    /// how much of it may be. What must stand in front of the application's next bytes is put into `carry`.
    pub fn cut(&mut self, run: &mut [u8], carry: &mut Vec<u8>) -> usize {
        // What is dropped, or broke the protocol, stands behind whole records.
        let output = matches!(self.current, Current::Output | Current::Forward);
        let goes_on = (output || self.current == Current::End) && self.broken.is_none();
        if self.scanner.at_boundary() || !goes_on || run.is_empty() {
            return run.len();
        }
        let (start, content_at) = (self.record_at, self.record_at + HEADER_LEN);
        let have = run.len() - content_at;
        let header = run[start..].first_chunk().map_or(Header::new(Kind::Stdout, 0, 0), Header::decode);
        let ours = Header { id: self.ours, ..header };
        let content = usize::from(header.content);
        let mut shorten = |len: usize| {
            // At most the length that was there.
            let short = Header { content: len as u16, padding: 0, ..header };
            run[start..content_at].copy_from_slice(&short.encode());
        };
        if have >= content && output {
            // What still comes of it is padding.
            shorten(content);
            self.current = Current::Skip;
            return content_at + content;
        }
        self.missing = self.scanner.outstanding();
        self.scanner = Scanner::default();
        if output && have > 0 {
            shorten(have);
            let rest = Header { content: header.content - have as u16, ..ours };
            carry.extend_from_slice(&rest.encode());
            return run.len();
        }
        // A header alone, or an END_REQUEST, which is short and means nothing in part.
        carry.extend_from_slice(&ours.encode());
        carry.extend_from_slice(&run[content_at..]);
        self.started = self.started_before || start > 0;
        start
    }

    fn next(&mut self, bytes: &[u8]) -> Result<Option<Piece>, ReplyError> {
        let piece = self.scanner.next(bytes)?;
        if let Some(Piece::Header(header)) = piece {
            self.current = self.judge(header)?;
        }
        Ok(piece)
    }

    fn judge(&mut self, header: Header) -> Result<Current, ReplyError> {
        match header.kind {
            Kind::GetValuesResult if header.id == MANAGEMENT_ID && self.proof_due() => Ok(Current::Proof),
            Kind::Stdout | Kind::Stderr | Kind::EndRequest if header.id != self.ours => {
                self.strays |= !self.strays_allowed;
                Ok(Current::Skip)
            }
            // Before the answer to what stands in front of the request there is no answer to the request.
            Kind::Stdout | Kind::Stderr | Kind::EndRequest if self.proof_due() => Err(ReplyError::Kind(header.kind)),
            Kind::EndRequest if header.content != END_BODY_LEN as u16 => Err(ReplyError::EndLength(header.content)),
            Kind::EndRequest if self.head.is_cut() => Err(ReplyError::Head),
            Kind::EndRequest => Ok(Current::End),
            Kind::Stdout => {
                self.output_over = header.content == 0 && self.head.is_whole();
                Ok(Current::Output)
            }
            Kind::Stderr => Ok(Current::Forward),
            other => Err(ReplyError::Kind(other)),
        }
    }

    fn finish_record(&mut self) {
        if self.scanner.at_boundary() {
            match self.current {
                Current::Proof => (self.proofs_due, self.strays_allowed) = (self.proofs_due - 1, false),
                Current::End => self.ended = true,
                Current::Output | Current::Forward | Current::Skip => {}
            }
        }
    }

    /// The header block is whole: what has been scanned may go on to a web server.
    pub fn head_is_whole(&self) -> bool {
        self.head.is_whole()
    }

    /// What goes on of the last scan ends with a record of STDERR.
    pub fn ends_with_message(&self) -> bool {
        self.last == Some(Kind::Stderr)
    }

    /// Bytes of the response have gone on: nothing can be mended any more.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Of the GET_VALUES in front of the request not all have been answered (rule R12).
    pub fn proof_due(&self) -> bool {
        self.proofs_due > 0
    }

    /// How many have not.
    pub fn proofs_due(&self) -> u8 {
        self.proofs_due
    }

    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The application has closed its connection. Returns whether the response is whole all the same: its output has been
    /// ended, and END_REQUEST is all that is missing, which web servers do without.
    pub fn handle_close(&mut self) -> bool {
        self.ended |= self.output_over && self.scanner.at_boundary();
        self.ended
    }

    /// The token, once the response has ended.
    pub fn finish(self) -> Option<Finished> {
        let clean = !self.strays && !self.proof_due();
        self.ended.then_some(Finished { clean })
    }

    /// Where the application stopped, for messages: "inside a record (12 bytes of content, 4 of padding missing)".
    pub fn position(&self) -> String {
        let missing = if self.scanner.at_boundary() { self.missing } else { self.scanner.outstanding() };
        match missing {
            (0, 0) if self.started => "between two records of its response".into(),
            (0, 0) => "before its response".into(),
            (content, padding) => format!("inside a record ({content} bytes of content, {padding} of padding missing)"),
        }
    }
}

#[cfg(test)]
mod tests;
