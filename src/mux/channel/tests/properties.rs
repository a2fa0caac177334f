//! Any order of things: any split of the bytes, many exchanges at once, owners that take, leave and dawdle.

use super::*;
use crate::mux::request::GET_VALUES;
use proptest::prelude::*;
use std::collections::BTreeMap;

const EXCHANGES: u16 = 6;

/// A piece of what an application writes: of exchanges that run, strays, management records, and what breaks an exchange.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![12 => 1..=EXCHANGES, 1 => Just(0), 1 => Just(999_u16)];
    let kind = prop_oneof![
        12 => Just(Kind::Stdout),
        3 => Just(Kind::Stderr),
        1 => (0_u8..14).prop_map(Kind::from_byte),
    ];
    let content = prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..60),
        1 => (0_usize..9000).prop_map(|len| vec![b'z'; len]),
    ];
    let padding = prop_oneof![4 => Just(0_u8), 1 => any::<u8>()];
    let statuses = [ProtocolStatus::RequestComplete, ProtocolStatus::Overloaded, ProtocolStatus::CantMpxConn];
    prop_oneof![
        10 => (kind, id.clone(), content, padding).prop_map(|(kind, id, content, padding)| {
            let mut out = Header { padding, ..Header::new(kind, id, content.len() as u16) }.encode().to_vec();
            out.extend_from_slice(&content);
            out.resize(out.len() + usize::from(padding), 0xa5);
            out
        }),
        2 => (id, prop::sample::select(statuses.to_vec())).prop_map(|(id, status)| end(id, status)),
        1 => Just(values(&[(variable::MPXS_CONNS, "1")])),
    ]
}

/// What an owner has been given, with neighbours of one kind joined.
#[derive(Clone, Debug, Default, PartialEq)]
struct Given {
    parts: Vec<(Kind, Vec<u8>)>,
    ending: Option<Ending>,
}

impl Given {
    fn add(&mut self, kind: Kind, content: &[u8]) {
        match self.parts.last_mut() {
            // How content is cut into records is nobody's business; that a stream ended is.
            Some((last, joined)) if *last == kind && !content.is_empty() && !joined.is_empty() => {
                joined.extend_from_slice(content);
            }
            _ => self.parts.push((kind, content.to_vec())),
        }
    }

    fn over(&self) -> bool {
        self.ending.is_some()
    }
}

/// What each of the exchanges must be given of these pieces: found by cutting out records, one after the other.
fn model(pieces: &[Vec<u8>]) -> (BTreeMap<u16, Given>, u64) {
    let mut given: BTreeMap<u16, Given> = (1..=EXCHANGES).map(|id| (id, Given::default())).collect();
    let mut dropped = 0;
    for piece in pieces {
        let header = Header::decode(piece.first_chunk().unwrap());
        let content = &piece[HEADER_LEN..HEADER_LEN + usize::from(header.content)];
        let Some(exchange) = given.get_mut(&header.id) else {
            dropped += 1;
            continue;
        };
        let settled = matches!(exchange.ending, Some(Ending::Ended(_) | Ending::Rejected(_)));
        if exchange.over() {
            dropped += u64::from(settled);
            continue;
        }
        let words = format!("{} record during a request", header.kind.name());
        exchange.ending = match header.kind {
            Kind::Stdout | Kind::Stderr => {
                exchange.add(header.kind, content);
                None
            }
            Kind::EndRequest if content.len() != 8 => {
                let words = format!("END_REQUEST of {} bytes in place of 8", content.len());
                Some(Ending::Broken { cause: Cause::Protocol(words), unsent: false })
            }
            Kind::EndRequest => {
                let status = EndRequest::decode(content.first_chunk().unwrap()).protocol_status;
                let nothing = exchange.parts.iter().all(|(_, content)| content.is_empty());
                if nothing && matches!(status, ProtocolStatus::Overloaded | ProtocolStatus::CantMpxConn) {
                    Some(Ending::Rejected(status))
                } else {
                    exchange.add(Kind::EndRequest, content);
                    Some(Ending::Ended(status))
                }
            }
            _ => Some(Ending::Broken { cause: Cause::Protocol(words), unsent: false }),
        };
    }
    (given, dropped)
}

/// The same by a channel that is shown these chunks, whose owners take all there is after each.
fn by_channel<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (BTreeMap<u16, Given>, u64) {
    let mut line = line();
    let mut given: BTreeMap<u16, Given> = BTreeMap::new();
    for id in 1..=EXCHANGES {
        assert_eq!(line.begin(100 + id), id);
        given.insert(id, Given::default());
    }
    for chunk in chunks {
        line.hear(chunk);
        while {
            take_all(&mut line, &mut given);
            line.channel.wants_driver()
        } {
            line.channel.to_send();
            line.hear(&[]);
        }
    }
    (given, line.channel.take_dropped())
}

fn take_all(line: &mut Line, given: &mut BTreeMap<u16, Given>) {
    for (id, given) in given {
        let (records, ending) = line.take(*id);
        for (kind, theirs, content) in records {
            assert_eq!(theirs, 100 + id, "under the id of another");
            given.add(kind, &content);
        }
        given.ending = ending;
    }
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_what_the_model_says(
        pieces in prop::collection::vec(piece(), 0..40),
        sizes in prop::collection::vec(1_usize..300, 1..20),
    ) {
        let wanted = model(&pieces);
        let bytes = pieces.concat();
        prop_assert_eq!(&by_channel([&bytes[..]]), &wanted);
        let (mut rest, mut chunks) = (&bytes[..], vec![]);
        for size in sizes.iter().cycle().take(bytes.len()) {
            let (chunk, behind) = rest.split_at(rest.len().min(*size));
            chunks.push(chunk);
            rest = behind;
        }
        prop_assert_eq!(&by_channel(chunks), &wanted);
        if bytes.len() < 5000 {
            prop_assert_eq!(&by_channel(bytes.chunks(1)), &wanted);
        }
    }
}

// ---------------------------------------------------------------- owners and an application at odds

/// What somebody does next; numbers choose among those that are there.
#[derive(Clone, Debug)]
enum Step {
    Open {
        proven: bool,
    },
    Push(usize, usize),
    EndStream(usize),
    Take(usize),
    Leave(usize),
    /// The application is given so many bytes.
    Read(usize),
    /// It writes so much for one that it knows.
    Write(usize, usize),
    Words(usize, usize),
    End(usize),
    /// The driver is shown so many bytes of what it wrote.
    Show(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let nth = 0_usize..64;
    prop_oneof![
        3 => any::<bool>().prop_map(|proven| Step::Open { proven }),
        3 => (nth.clone(), 0_usize..3000).prop_map(|(nth, len)| Step::Push(nth, len)),
        1 => nth.clone().prop_map(Step::EndStream),
        5 => nth.clone().prop_map(Step::Take),
        1 => nth.clone().prop_map(Step::Leave),
        6 => (1_usize..6000).prop_map(Step::Read),
        6 => (nth.clone(), 0_usize..6000).prop_map(|(nth, len)| Step::Write(nth, len)),
        1 => (nth.clone(), 0_usize..200).prop_map(|(nth, len)| Step::Words(nth, len)),
        2 => nth.prop_map(Step::End),
        8 => (1_usize..9000).prop_map(Step::Show),
        1 => (0_u64..3000).prop_map(Step::Pass),
    ]
}

/// The naive view of one exchange: bytes in, bytes out.
#[derive(Debug, Default)]
struct Side {
    theirs: u16,
    /// Pushed, and of that seen by the application.
    pushed: Vec<u8>,
    arrived: Vec<u8>,
    stream_ended: bool,
    /// Written by the application before its END_REQUEST, and of that given to the owner.
    written: Vec<u8>,
    given: Vec<u8>,
    /// The application has BEGIN_REQUEST.
    known: bool,
    end_written: bool,
    ending: Option<Ending>,
    left: bool,
    aborted: bool,
    free: bool,
}

struct Odds {
    line: Line,
    sides: BTreeMap<u16, Side>,
    /// Written by the application and not shown.
    wire: Vec<u8>,
    /// Sent to it and not whole.
    inbox: Vec<u8>,
    bytes: u8,
}

impl Odds {
    fn new() -> Self {
        Self { line: line(), sides: BTreeMap::new(), wire: vec![], inbox: vec![], bytes: 0 }
    }

    /// Content that does not repeat soon.
    fn fresh(&mut self, len: usize) -> Vec<u8> {
        let start = self.bytes;
        self.bytes = self.bytes.wrapping_add(len as u8).wrapping_add(7);
        (0..len).map(|n| start.wrapping_add((n % 251) as u8)).collect()
    }

    fn nth(&self, nth: usize, which: impl Fn(&Side) -> bool) -> Option<u16> {
        let ids: Vec<_> = self.sides.iter().filter(|(_, side)| which(side)).map(|(id, _)| *id).collect();
        (!ids.is_empty()).then(|| ids[nth % ids.len()])
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Open { proven } if self.sides.values().filter(|side| !side.free).count() < 12 => {
                let theirs = 1000 + self.sides.len() as u16;
                let question = proven.then_some(&GET_VALUES[..]);
                let id = self.line.open_with(Opening { theirs, streams: &[Kind::Stdin], question });
                let side = Side { theirs, ..Side::default() };
                assert!(self.sides.insert(id, side).is_none_or(|before| before.free), "id {id} is taken");
            }
            Step::Push(nth, len) => {
                let content = self.fresh(len);
                let Some(id) = self.nth(nth, |side| !side.left && !side.stream_ended) else { return };
                if len > 0 && self.line.channel.room(id) >= len + HEADER_LEN {
                    self.line.push(id, &content);
                    self.sides.get_mut(&id).unwrap().pushed.extend(content);
                }
            }
            Step::EndStream(nth) => {
                let Some(id) = self.nth(nth, |side| !side.left && !side.stream_ended) else { return };
                if self.line.channel.room(id) >= HEADER_LEN {
                    self.line.push(id, b"");
                    self.sides.get_mut(&id).unwrap().stream_ended = true;
                }
            }
            Step::Take(nth) => {
                if let Some(id) = self.nth(nth, |side| !side.left) {
                    self.take(id);
                }
            }
            Step::Leave(nth) => {
                if let Some(id) = self.nth(nth, |side| !side.left) {
                    self.leave(id);
                }
            }
            Step::Read(len) => self.read(len),
            Step::Write(nth, len) => {
                let content = self.fresh(len);
                // One that was aborted is written for as well.
                let Some(id) = self.nth(nth, |side| side.known) else { return };
                self.wire.extend(record(Kind::Stdout, id, &content));
                let side = self.sides.get_mut(&id).unwrap();
                if !side.end_written {
                    side.written.extend(content);
                }
            }
            Step::Words(nth, len) => {
                let Some(id) = self.nth(nth, |side| side.known) else { return };
                self.wire.extend(record(Kind::Stderr, id, &vec![b'w'; len]));
            }
            Step::End(nth) => {
                let Some(id) = self.nth(nth, |side| side.known) else { return };
                self.wire.extend(end(id, ProtocolStatus::RequestComplete));
                self.sides.get_mut(&id).unwrap().end_written = true;
            }
            Step::Show(len) => {
                let len = len.min(self.wire.len());
                let part: Vec<u8> = self.wire.drain(..len).collect();
                self.line.hear(&part);
            }
            Step::Pass(ms) => self.line.pass(MS * ms as u32),
            Step::Open { .. } => {}
        }
    }

    fn take(&mut self, id: u16) {
        let (records, ending) = self.line.take(id);
        let side = self.sides.get_mut(&id).unwrap();
        for (kind, theirs, content) in records {
            assert_eq!(theirs, side.theirs);
            match kind {
                Kind::Stdout => side.given.extend(content),
                Kind::Stderr => assert!(content.iter().all(|byte| *byte == b'w')),
                Kind::EndRequest => assert!(matches!(ending, Some(Ending::Ended(_)))),
                other => panic!("{other:?} is nothing for a web server"),
            }
        }
        assert!(side.written.starts_with(&side.given), "not its own bytes, or not in order");
        side.ending = ending;
        if let Some(Ending::Ended(_)) = side.ending {
            assert_eq!(side.given.len(), side.written.len(), "its end before its last byte");
        }
    }

    fn leave(&mut self, id: u16) {
        let over = self.line.leave(id);
        let side = self.sides.get_mut(&id).unwrap();
        (side.left, side.free) = (true, over);
        side.aborted = !over;
        self.line.hear(&[]);
    }

    fn read(&mut self, len: usize) {
        let part = self.line.channel.to_send();
        let part = part[..part.len().min(len)].to_vec();
        self.line.channel.sent(part.len());
        self.inbox.extend(part);
        while let Some(header) = self.inbox.first_chunk().map(Header::decode) {
            let len = HEADER_LEN + usize::from(header.content) + usize::from(header.padding);
            if self.inbox.len() < len {
                break;
            }
            let record: Vec<u8> = self.inbox.drain(..len).collect();
            self.hear(header, &record[HEADER_LEN..HEADER_LEN + usize::from(header.content)]);
        }
    }

    /// The application reads one record.
    fn hear(&mut self, header: Header, content: &[u8]) {
        if header.kind == Kind::GetValues {
            self.wire.extend(values(&[]));
            return;
        }
        let side = self.sides.get_mut(&header.id).expect("an id that was given out");
        assert_eq!(header.kind != Kind::BeginRequest, side.known, "{:?} in its order", header.kind);
        match header.kind {
            Kind::BeginRequest => side.known = true,
            Kind::Stdin => side.arrived.extend_from_slice(content),
            Kind::AbortRequest => assert!(side.aborted),
            _ => {}
        }
        assert!(side.pushed.starts_with(&side.arrived), "a body that is not its own");
    }

    fn check(&mut self) {
        while let Some(Freed { id, .. }) = self.line.channel.poll_freed() {
            let side = self.sides.get_mut(&id).expect("one that was given out");
            assert!(side.left && !std::mem::replace(&mut side.free, true), "freed twice, or before it was left");
        }
        let held = self.sides.values().filter(|side| !side.free).count();
        assert_eq!(self.line.channel.in_flight(), held);
        for exchange in self.line.channel.exchanges.values() {
            assert!(exchange.kept() <= 2 * BUFFER, "{} bytes are kept", exchange.kept());
        }
        assert!(self.line.channel.out.len() <= 2 * SEND_AT_ONCE);
    }

    /// Everybody goes on to the end.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            self.read(usize::MAX);
            let part = std::mem::take(&mut self.wire);
            self.line.hear(&part);
            let ids: Vec<_> = self.sides.iter().filter(|(_, side)| !side.left).map(|(id, _)| *id).collect();
            ids.iter().for_each(|id| self.take(*id));
            self.line.hear(&[]);
            let unended: Vec<_> = self.sides.iter().filter(|(_, side)| !side.end_written).map(|(id, _)| *id).collect();
            for id in unended {
                let side = self.sides.get_mut(&id).unwrap();
                if side.known {
                    side.end_written = true;
                    self.wire.extend(end(id, ProtocolStatus::RequestComplete));
                }
            }
            for id in ids {
                if self.sides[&id].ending.is_some() {
                    self.leave(id);
                }
            }
            self.check();
            if self.sides.values().all(|side| side.free) && self.wire.is_empty() {
                break;
            }
        }
        assert_eq!(self.line.channel.in_flight(), 0);
        assert!(self.sides.values().all(|side| side.free));
        self.read(usize::MAX);
        let Channel { exchanges, left, freed, out, sent, .. } = &self.line.channel;
        assert!(exchanges.is_empty() && left.is_empty() && freed.is_empty() && out.len() == *sent);
        assert!(!self.line.channel.is_stalled() && self.line.channel.next_deadline().is_none());
        for side in self.sides.values() {
            if !side.aborted && side.ending == completed() {
                assert_eq!(side.given, side.written, "each byte once");
            }
        }
    }
}

proptest! {
    #[test]
    fn each_is_given_its_own_bytes_in_order_and_once_whatever_the_others_do(
        steps in prop::collection::vec(step(), 0..400),
    ) {
        let mut odds = Odds::new();
        for step in &steps {
            odds.step(step);
            odds.check();
        }
        odds.finish();
    }

    #[test]
    fn when_the_connection_breaks_what_was_not_sent_is_known(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut odds = Odds::new();
        steps.iter().for_each(|step| odds.step(step));
        odds.line.channel.fail(&Cause::Closed);
        odds.check();
        let ids: Vec<_> = odds.sides.iter().filter(|(_, side)| !side.left).map(|(id, _)| *id).collect();
        for id in ids {
            odds.take(id);
            let side = &odds.sides[&id];
            if let Some(Ending::Broken { unsent: true, .. }) = side.ending {
                prop_assert!(side.given.is_empty() && !side.known);
            }
            prop_assert!(side.ending.is_some());
            odds.leave(id);
            prop_assert!(odds.sides[&id].free);
        }
        odds.check();
        prop_assert_eq!(odds.line.channel.in_flight(), 0);
    }
}
