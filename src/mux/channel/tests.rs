//! A connection between owners and an application, by hand.

mod ends;
mod ids;
mod properties;
mod scopes;
mod sending;
mod stalls;

use super::*;
use crate::wire::{BeginRequest, HEADER_LEN, Role, put_pair, variable};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const BUFFER: usize = 16 * 1024;
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A whole record.
type Record = (Kind, u16, Vec<u8>);

struct Line {
    channel: Channel<u16>,
    now: Instant,
    /// What the application has written and the connection has not taken.
    carry: Vec<u8>,
}

#[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
fn line() -> Line {
    Line { channel: Channel::new(BUFFER, STALL_TIMEOUT), now: Instant::now(), carry: vec![] }
}

/// With an application that takes one exchange at a time.
fn single() -> Line {
    let mut line = line();
    line.channel.set_single(true);
    line
}

impl Line {
    // ---------------------------------------------------------------- owners

    /// Begins an exchange whose web server calls it `theirs`, with a body to follow.
    fn open(&mut self, theirs: u16) -> u16 {
        self.open_with(Opening { theirs, streams: &[Kind::Stdin], question: None })
    }

    fn open_with(&mut self, opening: Opening<'_>) -> u16 {
        self.channel.open(opening, put_head, self.now).expect("the connection is there")
    }

    /// The same, sent.
    fn begin(&mut self, theirs: u16) -> u16 {
        let id = self.open(theirs);
        self.flush();
        id
    }

    fn push(&mut self, id: u16, content: &[u8]) {
        // Owners do not know our ids.
        self.channel.push(id, &record(Kind::Stdin, 0, content));
    }

    fn take(&mut self, id: u16) -> (Vec<Record>, Option<Ending>) {
        let mut into = vec![];
        let ending = self.channel.take(id, &mut into, self.now);
        (records(&into), ending)
    }

    /// What it has been given of its response, its records joined.
    fn take_text(&mut self, id: u16) -> String {
        let (records, _) = self.take(id);
        let text: Vec<u8> = records.into_iter().flat_map(|(_, _, content)| content).collect();
        String::from_utf8(text).unwrap()
    }

    fn leave(&mut self, id: u16) -> bool {
        self.channel.leave(id, self.now)
    }

    // ---------------------------------------------------------------- the application

    /// All that it is sent.
    fn flush(&mut self) -> Vec<Record> {
        records(&self.flush_bytes())
    }

    fn flush_bytes(&mut self) -> Vec<u8> {
        let mut all = vec![];
        loop {
            let bytes = self.channel.to_send().to_vec();
            if bytes.is_empty() {
                return all;
            }
            self.channel.sent(bytes.len());
            all.extend(bytes);
        }
    }

    /// It writes; what is not taken is shown again with the next.
    fn hear(&mut self, bytes: &[u8]) {
        self.carry.extend_from_slice(bytes);
        let taken = self.channel.receive(&self.carry, self.now).expect("records");
        self.carry.drain(..taken);
    }

    fn says(&mut self, id: u16, text: &str) {
        self.hear(&record(Kind::Stdout, id, text.as_bytes()));
    }

    fn ends(&mut self, id: u16) {
        self.hear(&end(id, ProtocolStatus::RequestComplete));
    }

    /// What comes under this id is nobody's.
    fn assert_dropped(&mut self, id: u16) {
        self.channel.take_dropped();
        self.says(id, "stray");
        assert_eq!(self.channel.take_dropped(), 1);
    }

    // ---------------------------------------------------------------- time

    /// Lets time pass as a driver does.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.channel.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(deadline);
            self.channel.tick(self.now);
            assert!(self.channel.next_deadline().is_none_or(|at| at > self.now), "a driver would tick for ever");
            // A driver shows the rest again.
            self.hear(&[]);
        }
        self.now = until;
        self.channel.tick(until);
        self.hear(&[]);
    }

    fn woken(&mut self) -> Vec<u16> {
        let mut woken: Vec<_> = std::iter::from_fn(|| self.channel.poll_wake()).collect();
        woken.sort_unstable();
        woken
    }

    fn freed(&mut self) -> Vec<Freed> {
        std::iter::from_fn(|| self.channel.poll_freed()).collect()
    }

    fn stalls(&mut self) -> Vec<Duration> {
        std::iter::from_fn(|| self.channel.poll_stall()).collect()
    }
}

fn put_head(id: u16, out: &mut Vec<u8>) {
    put_record(out, Kind::BeginRequest, id, &BeginRequest { role: Role::Responder, keep_conn: true }.encode());
    put_record(out, Kind::Params, id, b"pairs");
    put_record(out, Kind::Params, id, &[]);
}

fn record(kind: Kind, id: u16, content: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    put_record(&mut out, kind, id, content);
    out
}

fn end(id: u16, protocol_status: ProtocolStatus) -> Vec<u8> {
    record(Kind::EndRequest, id, &EndRequest { app_status: 7, protocol_status }.encode())
}

/// What `end` comes to for the web server.
fn ended(theirs: u16) -> Record {
    (Kind::EndRequest, theirs, end(0, ProtocolStatus::RequestComplete)[HEADER_LEN..].to_vec())
}

fn values(pairs: &[(&[u8], &str)]) -> Vec<u8> {
    let mut content = vec![];
    pairs.iter().for_each(|(name, value)| put_pair(&mut content, name, value.as_bytes()));
    record(Kind::GetValuesResult, MANAGEMENT_ID, &content)
}

fn records(mut bytes: &[u8]) -> Vec<Record> {
    let mut out = vec![];
    while let Some(header) = bytes.first_chunk::<HEADER_LEN>().map(Header::decode) {
        let len = HEADER_LEN + usize::from(header.content) + usize::from(header.padding);
        assert!(len <= bytes.len(), "a record is not whole");
        out.push((header.kind, header.id, bytes[HEADER_LEN..HEADER_LEN + usize::from(header.content)].to_vec()));
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty(), "a header is not whole");
    out
}

/// Kinds and ids alone.
fn marks(records: &[Record]) -> Vec<(Kind, u16)> {
    records.iter().map(|(kind, id, _)| (*kind, *id)).collect()
}

fn completed() -> Option<Ending> {
    Some(Ending::Ended(ProtocolStatus::RequestComplete))
}

fn broken(unsent: bool) -> Option<Ending> {
    Some(Ending::Broken { cause: Cause::Closed, unsent })
}

#[test]
fn an_exchange_goes_there_and_back_under_ids_of_its_own() {
    let mut line = line();
    let id = line.open(40);
    line.push(id, b"body");
    line.push(id, b"");
    let sent = line.flush();
    let marks = marks(&sent);
    assert!(marks.iter().all(|(_, each)| *each == id));
    use Kind::{BeginRequest, Params, Stdin};
    assert_eq!(marks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [BeginRequest, Params, Params, Stdin, Stdin]);
    line.says(id, "hel");
    line.says(id, "lo");
    line.hear(&record(Kind::Stderr, id, b"words"));
    line.hear(&record(Kind::Stdout, id, b""));
    line.ends(id);
    let (records, ending) = line.take(id);
    let text = |kind, text: &str| (kind, 40, text.as_bytes().to_vec());
    assert_eq!(records, [text(Kind::Stdout, "hello"), text(Kind::Stderr, "words"), text(Kind::Stdout, ""), ended(40)]);
    assert_eq!(ending, completed());
    assert!(line.leave(id));
    assert_eq!((line.channel.in_flight(), line.flush(), line.freed()), (0, vec![], vec![]));
}
