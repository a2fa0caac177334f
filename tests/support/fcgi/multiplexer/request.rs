//! One request at a multiplexing application: what has come of it, and what has gone out.

use std::time::{Duration, Instant};

use crate::support::fcgi::{
    DATA, END_REQUEST, GET_VALUES_RESULT, Incoming, PARAMS, Record, STDERR, STDIN, STDOUT, UNKNOWN_TYPE, end_request,
    pattern::Pattern,
    random::Random,
    record,
    wanted::{OnAbort, Wanted, Wrong},
};

/// What END_REQUEST comes so much after ABORT_REQUEST where it comes late.
const LATE: Duration = Duration::from_millis(30);
/// What came before it has been passed on by then.
const BEFORE_WRONG: Duration = Duration::from_millis(50);
const AUTHORIZER: u16 = 2;

pub(super) struct Request {
    pub(super) keep: bool,
    role: u16,
    /// STDIN has come when it is as long as it must be, as for php-fpm: its end may come later.
    by_length: bool,
    raw_params: Vec<u8>,
    pub(super) wanted: Wanted,
    pub(super) method: String,
    stdin: Stream,
    data: Stream,
    pattern: Pattern,
    /// The header block, from the moment the response begins.
    head: Option<Vec<u8>>,
    /// Bytes of STDOUT that have gone out.
    sent: u64,
    /// The first byte of the response may go out then.
    due: Option<Instant>,
    /// END_REQUEST was sent and the rest is to follow all the same.
    pub(super) ended_early: bool,
    abort_due: Option<Instant>,
    /// ABORT_REQUEST has come: its streams may end before they are whole.
    is_aborted: bool,
    wrong: Option<Wrong>,
}

/// STDIN or DATA.
#[derive(Default)]
struct Stream {
    received: u64,
    ended: bool,
}

/// What became of a request in its turn to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    More,
    /// Nothing to write until something comes.
    Waits,
    Ended,
    /// The connection is to be closed behind what was written; with a reset if true.
    Close(bool),
}

impl Request {
    pub(super) fn begin(content: &[u8], by_length: bool) -> Self {
        Self {
            by_length,
            role: u16::from_be_bytes([content[0], content[1]]),
            keep: content[2] & 1 == 1,
            raw_params: Vec::new(),
            wanted: Wanted::default(),
            method: String::new(),
            stdin: Stream::default(),
            data: Stream::default(),
            pattern: Pattern::of(""),
            head: None,
            sent: 0,
            due: None,
            ended_early: false,
            abort_due: None,
            is_aborted: false,
            wrong: None,
        }
    }

    /// Takes in a piece of PARAMS; true with the last one.
    pub(super) fn take_params(&mut self, content: &[u8]) -> bool {
        self.raw_params.extend_from_slice(content);
        if !content.is_empty() {
            return false;
        }
        let mut incoming = Incoming::default();
        let content = std::mem::take(&mut self.raw_params);
        if !content.is_empty() {
            incoming.take(Record { kind: PARAMS, id: 1, content });
        }
        self.wanted = Wanted::read(incoming.param("QUERY_STRING").unwrap_or_default());
        self.method = incoming.param("REQUEST_METHOD").unwrap_or_default().to_owned();
        self.pattern = Pattern::of(&self.wanted.token);
        self.due = Some(Instant::now() + self.wanted.delay);
        true
    }

    pub(super) fn has_params(&self) -> bool {
        self.due.is_some()
    }

    pub(super) fn do_wrong(&mut self, wrong: Option<Wrong>) {
        self.wrong = wrong;
    }

    /// Takes in a piece of STDIN or DATA; says what is wrong with it.
    pub(super) fn take_stream(&mut self, kind: u8, content: &[u8]) -> Option<String> {
        let token = &self.wanted.token;
        let (stream, wanted, pattern, name) = match kind {
            STDIN => (&mut self.stdin, self.wanted.body, Pattern::of_body(token), "STDIN"),
            _ => (&mut self.data, self.wanted.data, Pattern::of_data(token), "DATA"),
        };
        if stream.ended {
            return Some(format!("{token}: {name} behind its end"));
        }
        let at = stream.received;
        stream.received += content.len() as u64;
        stream.ended = content.is_empty();
        let wanted = wanted.filter(|_| !self.is_aborted)?;
        if let Some(wrong) = pattern.first_difference(at, content) {
            return Some(format!("{token}: byte {wrong} of {name} is another's"));
        }
        let (is, over) = (stream.received, stream.ended && stream.received != wanted || stream.received > wanted);
        over.then(|| format!("{token}: {is} bytes of {name} in place of {wanted}"))
    }

    /// ABORT_REQUEST came; the bytes to be sent for it, and whether it ended with that.
    pub(super) fn abort(&mut self, id: u16) -> (Vec<u8>, bool) {
        self.is_aborted = true;
        match self.wanted.on_abort {
            OnAbort::AtOnce => (end_request(id, 0, 0), true),
            OnAbort::Go => {
                self.ended_early = true;
                // What it read of its body is an error to it from now on, and it goes on.
                self.stdin.ended = true;
                self.data.ended = true;
                (end_request(id, 0, 0), false)
            }
            OnAbort::Late => {
                self.abort_due = Some(Instant::now() + LATE);
                (Vec::new(), false)
            }
            OnAbort::Never => (Vec::new(), false),
        }
    }

    /// When there may be something to write; none: when something has come.
    pub(super) fn due(&self) -> Option<Instant> {
        let hangs = self.wrong == Some(Wrong::Hang) && self.sent >= self.wanted.at;
        let begun = self.wanted.early || self.wanted.stream || self.has_come();
        let blocked = hangs || !begun || (self.is_written() && !self.may_end());
        let due = self.due.filter(|_| !blocked);
        match (due, self.abort_due) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Appends one record, or what else is next.
    pub(super) fn write(&mut self, id: u16, random: &mut Random, out: &mut Vec<u8>) -> Turn {
        if self.abort_due.is_some_and(|due| due <= Instant::now()) {
            out.extend(end_request(id, 0, 0));
            return Turn::Ended;
        }
        if self.wrong.is_some()
            && self.sent >= self.wanted.at
            && let Some(turn) = self.write_wrong(id, random, out)
        {
            return turn;
        }
        if self.head.is_none() && self.wanted.stderr > 0 {
            out.extend(record(STDERR, id, &vec![b'e'; self.wanted.stderr]));
        }
        if !self.is_written() {
            self.write_stdout(id, random, out);
            if self.wrong.is_some_and(Wrong::breaks) && self.sent == self.wanted.at {
                self.due = Some(Instant::now() + BEFORE_WRONG);
                return Turn::Waits;
            }
            return if self.is_written() && !self.may_end() { Turn::Waits } else { Turn::More };
        }
        if !self.may_end() {
            return Turn::Waits;
        }
        if random.one_in(2) {
            out.extend(record(STDOUT, id, &[]));
        }
        out.extend(end_request(id, self.wanted.status, 0));
        if self.wrong == Some(Wrong::Trailing) {
            out.extend(record(STDOUT, id, b"behind its end"));
            out.extend(record(STDERR, id, b"behind its end"));
            out.extend(end_request(id, 9, 0));
        }
        Turn::Ended
    }

    fn has_come(&self) -> bool {
        let whole = self.by_length && self.stdin.received == self.wanted.body.unwrap_or(0);
        self.role == AUTHORIZER || whole || self.stdin.ended && (self.role != 3 || self.data.ended)
    }

    fn may_end(&self) -> bool {
        self.wanted.early || self.has_come()
    }

    fn is_written(&self) -> bool {
        self.head.as_ref().is_some_and(|head| self.sent == head.len() as u64 + self.wanted.response)
    }

    fn write_stdout(&mut self, id: u16, random: &mut Random, out: &mut Vec<u8>) {
        let head = self.head.get_or_insert_with(|| head(&self.wanted, self.role, self.stdin.received));
        let whole = head.len() as u64 + self.wanted.response;
        let size = self.wanted.record.unwrap_or_else(|| match random.below(4) {
            0 => 65_535,
            1 => 8_192,
            _ => random.size(65_535) as usize,
        });
        let mut size = (size.max(1) as u64).min(whole - self.sent);
        if self.wrong.is_some() && self.wanted.at > self.sent {
            size = size.min(self.wanted.at - self.sent);
        }
        let most = if random.one_in(9) { 256 } else { 8 };
        let padding = if random.one_in(2) { 0 } else { random.below(most) };
        let (id, length) = (id.to_be_bytes(), (size as u16).to_be_bytes());
        out.extend([1, STDOUT, id[0], id[1], length[0], length[1], padding as u8, 0]);
        let of_head = (head.len() as u64).saturating_sub(self.sent).min(size) as usize;
        let from = (self.sent as usize).min(head.len());
        out.extend_from_slice(&head[from..from + of_head]);
        let start = out.len();
        out.resize(start + size as usize - of_head, 0);
        self.pattern.fill((self.sent + of_head as u64).saturating_sub(head.len() as u64), &mut out[start..]);
        out.resize(out.len() + padding, 0);
        self.sent += size;
    }

    /// What is wrong is done; none: the response goes on behind it.
    fn write_wrong(&mut self, id: u16, random: &mut Random, out: &mut Vec<u8>) -> Option<Turn> {
        let wrong = self.wrong?;
        if !matches!(wrong, Wrong::Strays | Wrong::Trailing | Wrong::Hang) {
            self.wrong = None;
        }
        match wrong {
            Wrong::Hang => return Some(Turn::Waits),
            Wrong::Close => return Some(Turn::Close(false)),
            Wrong::Reset => return Some(Turn::Close(true)),
            Wrong::CloseInside => {
                out.extend(&record(STDOUT, id, &[b'x'; 100])[..50]);
                return Some(Turn::Close(false));
            }
            Wrong::EndLength => {
                out.extend(record(END_REQUEST, id, &[0; 7]));
                return Some(Turn::Ended);
            }
            Wrong::Version => out.extend([0, STDOUT, 0, 1, 0, 0, 0, 0]),
            Wrong::Refuse(status) => {
                out.extend(end_request(id, 0, status));
                return Some(Turn::Ended);
            }
            Wrong::Strays => {
                // From far above those that are given out first.
                let nobody = u16::try_from(60_000 + random.below(5_000)).expect("an id");
                out.extend(record(STDOUT, nobody, b"STRAY"));
                out.extend(record(STDERR, nobody, b"STRAY"));
                out.extend(end_request(nobody, 1, 0));
            }
            Wrong::Management => {
                out.extend(record(GET_VALUES_RESULT, 0, &super::Values::default().pairs()));
                out.extend(record(UNKNOWN_TYPE, 0, &[200, 0, 0, 0, 0, 0, 0, 0]));
                out.extend(record(123, 0, b"of a type to come"));
            }
            Wrong::Foreign => out.extend(record(STDIN, id, b"of a web server")),
            Wrong::Trailing => {}
        }
        None
    }
}

fn head(wanted: &Wanted, role: u16, received: u64) -> Vec<u8> {
    let mut head = format!("Content-Type: application/octet-stream\r\nX-Token: {}\r\n", wanted.token);
    if role == AUTHORIZER {
        head += &format!("Status: 200 OK\r\nVariable-TOKEN: {}\r\n", wanted.token);
    }
    head += &format!("X-Role: {role}\r\nX-Received: {received}\r\n\r\n");
    head.into_bytes()
}

/// Whether a record of this kind belongs to a stream of the request.
pub(super) fn is_stream(kind: u8) -> bool {
    matches!(kind, STDIN | DATA)
}
