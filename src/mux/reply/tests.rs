use super::*;
use crate::wire::{EndRequest, HEADER_LEN, ProtocolStatus, VERSION};
use proptest::prelude::*;

const OURS: u16 = 300;
const THEIRS: u16 = 1;

/// What came of a response: the bytes that went on, what was left behind its end, and how it stands.
#[derive(Debug, PartialEq)]
struct Outcome {
    forwarded: Vec<u8>,
    left: Vec<u8>,
    error: Option<ReplyError>,
    ended: bool,
    clean: Option<bool>,
    started: bool,
    proof_due: bool,
}

/// Shows `bytes` to a reply in these chunks, as a driver does: what is not taken is shown again with more behind it.
fn read<'a>(mut reply: Reply, chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut left, mut forwarded, mut error) = (vec![], vec![], None);
    for chunk in chunks {
        left.extend_from_slice(chunk);
        while error.is_none() {
            match reply.scan(&mut left) {
                Err(broken) => error = Some(broken),
                Ok(Scan { forward: 0, skip: 0 }) => break,
                Ok(Scan { forward, skip }) => {
                    assert!(forward == 0 || reply.started(), "bytes went on before the response had started");
                    forwarded.extend_from_slice(&left[..forward]);
                    left.drain(..forward + skip);
                }
            }
        }
        if error.is_some() {
            left.clear();
            break;
        }
        assert!(reply.ended() || left.len() < HEADER_LEN, "{} bytes are held back", left.len());
    }
    let (ended, started, proof_due) = (reply.ended(), reply.started(), reply.proof_due());
    Outcome {
        forwarded,
        left,
        error,
        ended,
        started,
        proof_due,
        clean: reply.finish().map(|finished| finished.clean()),
    }
}

/// What stands in front of the request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Nothing,
    GetValues,
    Fence,
    Twice,
}
use Before::{Fence, GetValues, Nothing, Twice};

const BEFORE: [Before; 4] = [Nothing, GetValues, Fence, Twice];

fn reply(before: Before) -> Reply {
    let front = match before {
        Nothing => Front::Nothing,
        GetValues => Front::GetValues,
        Fence => Front::Fence(Finished { clean: true }),
        Twice => Front::Twice,
    };
    Reply::new(OURS, THEIRS, &front)
}

/// The same by records that are cut out of the whole first.
fn model(bytes: &[u8], before: Before) -> Outcome {
    let mut proofs_due = [Nothing, GetValues, Twice].iter().position(|one| *one == before).unwrap_or(0);
    proofs_due += usize::from(before == Fence);
    let mut owed = before == Fence;
    let (mut forwarded, mut at, mut strays, mut ended, mut error) = (vec![], 0, false, false, None);
    let mut text = vec![];
    while !ended && error.is_none() && at < bytes.len() {
        let rest = &bytes[at..];
        if rest[0] != VERSION {
            error = Some(ReplyError::Scan(ScanError { version: rest[0] }));
            break;
        }
        let Some(header) = rest.first_chunk().map(Header::decode) else { break };
        let len = HEADER_LEN + usize::from(header.content) + usize::from(header.padding);
        let (record, whole) = (&rest[..len.min(rest.len())], len <= rest.len());
        let of_us = header.id == OURS;
        match header.kind {
            Kind::GetValuesResult if header.id == 0 && proofs_due > 0 => {
                proofs_due -= usize::from(whole);
                owed &= !whole;
            }
            Kind::Stdout | Kind::Stderr | Kind::EndRequest if of_us && proofs_due > 0 => {
                error = Some(ReplyError::Kind(header.kind));
            }
            Kind::EndRequest if of_us && header.content != 8 => error = Some(ReplyError::EndLength(header.content)),
            Kind::EndRequest if of_us && is_cut(&text) => error = Some(ReplyError::Head),
            Kind::Stdout | Kind::Stderr | Kind::EndRequest if of_us => {
                forwarded.extend_from_slice(&[&record[..2], &THEIRS.to_be_bytes(), &record[4..]].concat());
                ended = header.kind == Kind::EndRequest && whole;
                if header.kind == Kind::Stdout {
                    let content = &record[HEADER_LEN..];
                    text.extend_from_slice(&content[..content.len().min(header.content.into())]);
                }
            }
            Kind::Stdout | Kind::Stderr | Kind::EndRequest => strays |= !owed,
            other => error = Some(ReplyError::Kind(other)),
        }
        at += record.len();
    }
    let left = if error.is_some() { vec![] } else { bytes[at..].to_vec() };
    let proof_due = proofs_due > 0;
    let clean = ended.then_some(!strays && !proof_due);
    Outcome { started: !forwarded.is_empty(), forwarded, left, error, ended, clean, proof_due }
}

/// A header block that has begun and lacks its empty line.
fn is_cut(text: &[u8]) -> bool {
    let lines: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'\r').collect();
    !text.is_empty() && !lines.starts_with(b"\n") && !lines.windows(2).any(|pair| pair == b"\n\n")
}

// ---------------------------------------------------------------- what an application writes

fn record(kind: Kind, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let mut out = Header { padding, ..Header::new(kind, id, content.len() as u16) }.encode().to_vec();
    out.extend_from_slice(content);
    out.resize(out.len() + usize::from(padding), 0xa5);
    out
}

fn end(id: u16, padding: u8) -> Vec<u8> {
    let body = EndRequest { app_status: 0, protocol_status: ProtocolStatus::RequestComplete }.encode();
    record(Kind::EndRequest, id, &body, padding)
}

fn proof() -> Vec<u8> {
    record(Kind::GetValuesResult, 0, b"\x0f\x01FCGI_MPXS_CONNS0", 6)
}

fn response(id: u16) -> Vec<u8> {
    [record(Kind::Stdout, id, b"Status: 200 OK\r\n\r\nhello", 2), record(Kind::Stdout, id, &[], 0), end(id, 0)].concat()
}

// ---------------------------------------------------------------- rules

#[test]
fn a_response_goes_on_with_the_id_of_the_web_server() {
    let outcome = read(reply(Nothing), [&response(OURS)[..]]);
    assert_eq!(outcome.forwarded, response(THEIRS));
    assert_eq!((outcome.clean, outcome.left.len()), (Some(true), 0));
}

#[test]
fn stderr_goes_on_between_the_parts_of_stdout() {
    let of = |id| [record(Kind::Stderr, id, b"PHP message: x", 2), response(id)].concat();
    assert_eq!(read(reply(Nothing), [&of(OURS)[..]]).forwarded, of(THEIRS));
}

#[test]
fn records_of_other_requests_are_dropped_and_the_connection_is_not_clean() {
    let strays = [record(Kind::Stdout, OURS - 1, &[b'x'; 500], 7), end(OURS - 1, 3), record(Kind::Stderr, 0, b"y", 0)];
    for stray in strays {
        let outcome = read(reply(Nothing), [&[stray, response(OURS)].concat()[..]]);
        assert_eq!((outcome.forwarded, outcome.clean), (response(THEIRS), Some(false)));
    }
}

#[test]
fn the_answer_in_front_of_the_response_is_taken_out() {
    let outcome = read(reply(GetValues), [&[proof(), response(OURS)].concat()[..]]);
    assert_eq!((outcome.forwarded, outcome.clean, outcome.proof_due), (response(THEIRS), Some(true), false));
}

#[test]
fn the_request_is_unproven_until_the_answer_is_whole() {
    let proof = proof();
    let before = read(reply(GetValues), [&proof[..proof.len() - 1]]);
    assert!(before.proof_due && !before.started);
    let behind = read(reply(GetValues), [&proof[..]]);
    assert!(!behind.proof_due && !behind.started);
    assert!(read(reply(Twice), [&proof[..]]).proof_due, "one of two");
    let answered = read(reply(Twice), [&proof.repeat(2)[..], &response(OURS)]);
    assert_eq!((answered.forwarded, answered.clean), (response(THEIRS), Some(true)));
    // An empty answer is one (a header alone).
    assert!(!read(reply(GetValues), [&record(Kind::GetValuesResult, 0, &[], 0)[..]]).proof_due);
}

#[test]
fn a_response_in_front_of_the_answer_that_is_due_is_an_error() {
    for before in [GetValues, Fence, Twice] {
        let outcome = read(reply(before), [&response(OURS)[..]]);
        assert_eq!((outcome.forwarded.len(), outcome.error), (0, Some(ReplyError::Kind(Kind::Stdout))));
        let outcome = read(reply(before), [&end(OURS, 0)[..]]);
        assert_eq!((outcome.forwarded.len(), outcome.error), (0, Some(ReplyError::Kind(Kind::EndRequest))));
    }
}

#[test]
fn what_the_exchange_before_still_writes_is_dropped_up_to_the_answer_of_its_fence() {
    let stray = record(Kind::Stdout, OURS - 1, &[b'x'; 500], 7);
    let outcome = read(reply(Fence), [&[&stray[..], &proof(), &response(OURS)].concat()[..]]);
    assert_eq!((outcome.forwarded, outcome.clean), (response(THEIRS), Some(true)));
    let outcome = read(reply(Fence), [&[&proof()[..], &stray, &response(OURS)].concat()[..]]);
    assert_eq!((outcome.forwarded, outcome.clean), (response(THEIRS), Some(false)), "behind it that must not come");
    let outcome = read(reply(GetValues), [&[&stray[..], &proof(), &response(OURS)].concat()[..]]);
    assert_eq!((outcome.forwarded, outcome.clean), (response(THEIRS), Some(false)), "nor where nothing is owed");
}

#[test]
fn what_may_not_come_during_a_request_is_an_error() {
    let kinds = [Kind::BeginRequest, Kind::Params, Kind::Stdin, Kind::UnknownType, Kind::GetValues, Kind::Other(77)];
    for kind in kinds {
        let outcome = read(reply(GetValues), [&record(kind, OURS, &[0; 8], 0)[..]]);
        assert_eq!(outcome.error, Some(ReplyError::Kind(kind)));
    }
    // A second answer, one that nobody asked for, and one that bears a request's id.
    let twice = [proof(), proof()].concat();
    let result = Some(ReplyError::Kind(Kind::GetValuesResult));
    assert_eq!(read(reply(GetValues), [&twice[..]]).error, result);
    assert_eq!(read(reply(Nothing), [&proof()[..]]).error, result);
    assert_eq!(read(reply(GetValues), [&record(Kind::GetValuesResult, OURS, &[], 0)[..]]).error, result);
    for len in [0, 7, 9] {
        let outcome = read(reply(Nothing), [&record(Kind::EndRequest, OURS, &vec![0; len], 0)[..]]);
        assert_eq!(outcome.error, Some(ReplyError::EndLength(len as u16)));
    }
    assert_eq!(read(reply(Nothing), [&b"HTTP"[..]]).error, Some(ReplyError::Scan(ScanError { version: b'H' })));
}

#[test]
fn a_response_that_ends_inside_its_header_block_is_an_error() {
    let stdout = |text: &str| record(Kind::Stdout, OURS, text.as_bytes(), 3);
    for text in ["A: b", "A: b\r\n", "\r"] {
        let outcome = read(reply(Nothing), [&[stdout(text), end(OURS, 0)].concat()[..]]);
        assert_eq!((outcome.error, outcome.ended), (Some(ReplyError::Head), false), "{text:?}");
    }
    for whole in [vec![], stdout(""), stdout("\n"), [stdout("A: b\r"), stdout("\n\r\n")].concat()] {
        let outcome = read(reply(Nothing), [&[whole, end(OURS, 0)].concat()[..]]);
        assert_eq!((outcome.error, outcome.ended), (None, true));
    }
}

#[test]
fn what_came_before_an_error_goes_on_and_nothing_behind_it() {
    let stdout = |id| record(Kind::Stdout, id, b"part", 4);
    let bytes = [stdout(OURS), record(Kind::Params, OURS, b"x", 0), stdout(OURS)].concat();
    let outcome = read(reply(Nothing), [&bytes[..]]);
    assert_eq!((outcome.forwarded, outcome.error), (stdout(THEIRS), Some(ReplyError::Kind(Kind::Params))));
}

#[test]
fn the_exchange_ends_behind_the_padding_of_end_request_and_takes_nothing_more() {
    let bytes = [end(OURS, 5), response(OURS)].concat();
    let outcome = read(reply(Nothing), [&bytes[..]]);
    assert_eq!((outcome.forwarded, outcome.left), (end(THEIRS, 5), response(OURS)));
    let short = &end(OURS, 5)[..20];
    assert!(!read(reply(Nothing), [short]).ended);
}

#[test]
fn words_say_where_the_application_stopped() {
    let said = |bytes: &[u8]| {
        let mut reply = reply(Nothing);
        reply.scan(&mut bytes.to_vec()).unwrap();
        reply.position()
    };
    assert_eq!(said(b""), "before its response");
    let stdout = record(Kind::Stdout, OURS, &[0; 100], 4);
    assert_eq!(said(&stdout), "between two records of its response");
    assert_eq!(said(&stdout[..48]), "inside a record (60 bytes of content, 4 of padding missing)");
}

// ---------------------------------------------------------------- properties

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let id = prop_oneof![4 => Just(OURS), 1 => Just(OURS - 1), 1 => Just(0)];
    let kind = prop_oneof![
        6 => Just(Kind::Stdout),
        2 => Just(Kind::Stderr),
        1 => (0_u8..14).prop_map(Kind::from_byte),
    ];
    let content = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..100),
        // Header blocks, and parts of them.
        2 => Just(b"A: b\r\n\r\nc".to_vec()),
        2 => prop::collection::vec(prop::sample::select(b"\r\n\na".to_vec()), 0..5),
    ];
    prop_oneof![
        8 => (kind, id.clone(), content, any::<u8>()).prop_map(|(kind, id, content, n)| record(kind, id, &content, n)),
        2 => (id, 0_u8..9).prop_map(|(id, padding)| end(id, padding)),
        1 => Just(proof()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ]
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_what_the_model_says(
        answers in 0_usize..3,
        before in prop::sample::select(&BEFORE[..]),
        pieces in prop::collection::vec(piece(), 0..10),
        cut_off in 0_usize..20,
        sizes in prop::collection::vec(1_usize..100, 1..20),
    ) {
        let mut bytes = proof().repeat(answers);
        bytes.extend(pieces.concat());
        bytes.truncate(bytes.len().saturating_sub(cut_off));
        let wanted = model(&bytes, before);
        prop_assert_eq!(&read(reply(before), [&bytes[..]]), &wanted);
        prop_assert_eq!(&read(reply(before), bytes.chunks(1)), &wanted);
        let (mut rest, mut chunks) = (&bytes[..], vec![]);
        for size in sizes.iter().cycle().take(bytes.len()) {
            let (chunk, behind) = rest.split_at(rest.len().min(*size));
            chunks.push(chunk);
            rest = behind;
        }
        prop_assert_eq!(read(reply(before), chunks), wanted);
    }
}

// ---------------------------------------------------------------- cutting

/// Like [`read`] with every run cut; also checks that what went on ends with a record after each chunk.
fn read_cut<'a>(mut reply: Reply, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Reply, bool) {
    let (mut carry, mut forwarded) = (vec![], vec![]);
    for chunk in chunks {
        let mut bytes = std::mem::take(&mut carry);
        bytes.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            let Ok(scan) = reply.scan(&mut bytes[at..]) else { return (forwarded, reply, true) };
            let forward = reply.cut(&mut bytes[at..at + scan.forward], &mut carry);
            forwarded.extend_from_slice(&bytes[at..at + forward]);
            assert_eq!(reply.started(), !forwarded.is_empty());
            at += scan.forward + scan.skip;
            if reply.ended() || scan == Scan::default() {
                carry.extend_from_slice(&bytes[at..]);
                break;
            }
        }
        let mut scanner = Scanner::default();
        let mut end = 0;
        while let Some(piece) = scanner.next(&forwarded[end..]).unwrap() {
            end += piece.len();
        }
        assert!(scanner.at_boundary() && end == forwarded.len(), "cut inside a record");
    }
    (forwarded, reply, false)
}

/// Content by kind, joined, with empty records as marks; and what follows a record that is not whole left out.
fn contents(mut bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let mut out: Vec<(Kind, Vec<u8>)> = vec![];
    while let Some(header) = bytes.first_chunk().map(Header::decode) {
        let behind = &bytes[HEADER_LEN..];
        let content = &behind[..behind.len().min(header.content.into())];
        match out.last_mut() {
            Some((kind, joined)) if *kind == header.kind && !joined.is_empty() && header.content > 0 => {
                joined.extend_from_slice(content);
            }
            // An END_REQUEST that is not whole means nothing, nor does a header alone.
            _ if header.content > 0 && content.is_empty() => {}
            _ if header.kind == Kind::EndRequest && behind.len() < 8 + usize::from(header.padding) => {}
            _ => out.push((header.kind, content.to_vec())),
        }
        bytes = &behind[behind.len().min(usize::from(header.content) + usize::from(header.padding))..];
    }
    out
}

#[test]
fn a_record_that_is_not_whole_goes_on_as_one_that_is() {
    let stdout = record(Kind::Stdout, OURS, b"hello, world", 4);
    let (forwarded, reply, _) = read_cut(reply(Nothing), [&stdout[..HEADER_LEN + 5]]);
    assert_eq!(forwarded, record(Kind::Stdout, THEIRS, b"hello", 0));
    assert_eq!(reply.position(), "inside a record (7 bytes of content, 4 of padding missing)");
    let (forwarded, reply, _) = read_cut(self::reply(Nothing), stdout.split_at(HEADER_LEN + 5).into_slices());
    assert_eq!(contents(&forwarded), [(Kind::Stdout, b"hello, world".to_vec())]);
    assert_eq!(reply.position(), "between two records of its response");
}

#[test]
fn what_means_nothing_in_part_is_held_back() {
    for part in [&end(OURS, 5)[..HEADER_LEN], &end(OURS, 5)[..20], &record(Kind::Stdout, OURS, b"x", 0)[..HEADER_LEN]] {
        let (forwarded, reply, _) = read_cut(reply(Nothing), [part]);
        assert!(forwarded.is_empty() && !reply.started(), "{part:?}");
    }
    // Behind something that went on.
    let bytes = [record(Kind::Stdout, OURS, b"x", 0), end(OURS, 0)].concat();
    let (forwarded, reply, _) = read_cut(reply(Nothing), [&bytes[..bytes.len() - 1]]);
    assert_eq!(forwarded, record(Kind::Stdout, THEIRS, b"x", 0));
    assert!(reply.started() && !reply.ended());
}

trait Slices<'a> {
    fn into_slices(self) -> [&'a [u8]; 2];
}

impl<'a> Slices<'a> for (&'a [u8], &'a [u8]) {
    fn into_slices(self) -> [&'a [u8]; 2] {
        [self.0, self.1]
    }
}

proptest! {
    #[test]
    fn cutting_changes_no_content(
        before in prop::sample::select(&BEFORE[..]),
        pieces in prop::collection::vec(piece(), 0..10),
        cut_off in 0_usize..20,
        sizes in prop::collection::vec(1_usize..100, 1..20),
    ) {
        let mut bytes = proof().repeat(reply(before).proofs_due.into());
        bytes.extend(pieces.concat());
        bytes.truncate(bytes.len().saturating_sub(cut_off));
        let wanted = model(&bytes, before);
        let (mut rest, mut chunks) = (&bytes[..], vec![]);
        for size in sizes.iter().cycle().take(bytes.len()) {
            let (chunk, behind) = rest.split_at(rest.len().min(*size));
            chunks.push(chunk);
            rest = behind;
        }
        for chunks in [vec![&bytes[..]], bytes.chunks(1).collect(), chunks] {
            let (forwarded, reply, failed) = read_cut(reply(before), chunks);
            prop_assert_eq!(contents(&forwarded), contents(&wanted.forwarded));
            prop_assert_eq!(failed, wanted.error.is_some());
            prop_assert_eq!(reply.ended(), wanted.ended);
            prop_assert_eq!(reply.finish().map(|finished| finished.clean()), wanted.clean);
        }
    }
}
