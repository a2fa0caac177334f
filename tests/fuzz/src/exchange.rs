use super::input::{Input, reads};
use fcgimux::{
    config::Config,
    mux::{
        Request,
        intake::{Event, Intake, Limits},
        label::Refusal,
        policy::Policy,
        proof::Proof,
        refuse::Refused,
        reply::Reply,
        request::{Framing, Front},
    },
    wire::{Header, Kind, Piece, Scanner},
};
use std::sync::{Arc, LazyLock};

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let text = "pools: {p: {endpoints: [{dns: 'php:9000'}], params: {max_size: 1KiB, max_count: 8}, \
                body: {max_size: 1000B}}}";
    Arc::new(Policy::new(&Config::from_yaml(text).expect("a sound file").pools[0]))
});

/// Our id of each request.
const OURS: u16 = 0x0102;

/// A web server's bytes, then an application's, each in reads of chosen sizes: how they are cut changes nothing, and
/// nothing goes on that must not.
pub fn exchange(data: &[u8]) {
    let mut input = Input(data);
    let (flags, count) = (input.byte(), input.below(8));
    let sizes = input.take(count);
    let share = usize::from(input.byte());
    let bytes = input.0;
    let (web, application) = bytes.split_at(bytes.len() * share / 255);
    let way = Way { answered: flags & 1 != 0, refuse_bodies: flags & 2 != 0, refuse_all: flags & 4 != 0 };
    let whole = hear(std::iter::once(web), way);
    assert_eq!(hear(reads(web, sizes), way), whole);
    assert_eq!(hear(web.chunks(1), way), whole);
    let front = if flags & 8 == 0 { Front::Nothing } else { Front::GetValues };
    let whole = relay(std::iter::once(application), &front);
    assert_eq!(relay(reads(application, sizes), &front), whole);
    assert_eq!(relay(application.chunks(1), &front), whole);
    check_forwarded(&whole.forwarded, whole.ended);
    let wanted = contents(&whole.forwarded);
    for cut in [relay_cut(std::iter::once(application), &front), relay_cut(reads(application, sizes), &front)] {
        check_forwarded(&cut, whole.ended);
        assert_eq!(contents(&cut), wanted);
    }
    let answers = 1 + u8::from(flags & 16 != 0);
    let proven = prove(std::iter::once(application), answers);
    assert_eq!(prove(application.chunks(1), answers), proven);
}

// ---------------------------------------------------------------- the web server's side

#[derive(Clone, Copy)]
struct Way {
    /// Each request is answered before more is read.
    answered: bool,
    /// Bodies cannot be stored.
    refuse_bodies: bool,
    refuse_all: bool,
}

fn hear<'a>(chunks: impl Iterator<Item = &'a [u8]>, way: Way) -> Vec<String> {
    let mut intake: Intake<Vec<u8>> = Intake::new(POLICY.clone(), Limits { connections: 7, requests: 3 });
    let refused = || Refused { refusal: Refusal::Storage, detail: String::new() };
    if way.refuse_all {
        intake.refuse_all(refused());
    }
    let (mut carry, mut seen) = (vec![], vec![]);
    for chunk in chunks {
        carry.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            let taken = match intake.take(&carry[at..]) {
                Ok(taken) => taken,
                Err(violation) => {
                    seen.push(format!("{violation}"));
                    return seen;
                }
            };
            let shown = &carry[at..];
            at += taken.consumed;
            assert!(at <= carry.len());
            match taken.event {
                None => break,
                Some(Event::Body { id, .. }) if way.refuse_bodies => {
                    let Event::Refused { id, .. } = intake.refuse_open(id, refused()) else { panic!("not refused") };
                    seen.push(format!("refused {id}"));
                }
                Some(Event::Body { id, range, .. }) => {
                    intake.store_mut(id).expect("a body belongs to a request").extend_from_slice(&shown[range]);
                }
                Some(Event::Request(request)) => {
                    let body = intake.store_mut(request.id).map(std::mem::take).expect("a request that has begun");
                    seen.push(check_request(&request, &body));
                    if way.answered {
                        intake.ended(request.id);
                    }
                }
                Some(event) => seen.push(format!("{event:?}")),
            }
        }
        carry.drain(..at);
        assert!(carry.len() < 2048, "{} bytes are held back", carry.len());
    }
    seen.push(format!("{}", intake.unfinished()));
    seen
}

fn check_request(request: &Request, body: &[u8]) -> String {
    let mut head = vec![];
    request.put_head(&mut head, Framing { id: OURS, keep_conn: request.reusable, front: &Front::GetValues });
    let (mut scanner, mut at) = (Scanner::default(), 0);
    while let Some(piece) = scanner.next(&head[at..]).expect("what we write") {
        at += piece.len();
    }
    assert!(scanner.at_boundary() && at == head.len());
    format!("{request:?} {head:?} {}", body.len() as u64 == request.body)
}

// ---------------------------------------------------------------- the application's side

#[derive(Debug, PartialEq)]
struct Relayed {
    forwarded: Vec<u8>,
    behind: Vec<u8>,
    error: Option<String>,
    ended: bool,
    clean: Option<bool>,
    proof: Option<Result<bool, String>>,
}

fn relay<'a>(chunks: impl Iterator<Item = &'a [u8]>, front: &Front) -> Relayed {
    let mut reply = Reply::new(OURS, 1, front);
    let (mut left, mut forwarded, mut error) = (vec![], vec![], None);
    for chunk in chunks {
        left.extend_from_slice(chunk);
        while error.is_none() && !reply.ended() {
            match reply.scan(&mut left) {
                Err(broken) => error = Some(broken.to_string()),
                Ok(scan) if scan.forward + scan.skip == 0 => break,
                Ok(scan) => {
                    assert!(scan.forward == 0 || reply.started());
                    forwarded.extend_from_slice(&left[..scan.forward]);
                    left.drain(..scan.forward + scan.skip);
                }
            }
        }
    }
    let ended = reply.ended();
    assert!(!reply.position().is_empty());
    let behind = if error.is_some() { vec![] } else { left };
    let finished = reply.finish();
    let clean = finished.as_ref().map(|finished| finished.clean());
    let proof = finished.map(|finished| {
        let taken = Proof::fence(finished).take(&behind);
        taken.map(|(_, clean)| clean.is_some()).map_err(|error| error.to_string())
    });
    Relayed { forwarded, behind, error, ended, clean, proof }
}

/// The same with every run cut behind a record; what went on.
fn relay_cut<'a>(chunks: impl Iterator<Item = &'a [u8]>, front: &Front) -> Vec<u8> {
    let mut reply = Reply::new(OURS, 1, front);
    let (mut carry, mut forwarded) = (vec![], vec![]);
    for chunk in chunks {
        let mut bytes = std::mem::take(&mut carry);
        bytes.extend_from_slice(chunk);
        let mut at = 0;
        while let Ok(scan) = reply.scan(&mut bytes[at..]) {
            let forward = reply.cut(&mut bytes[at..at + scan.forward], &mut carry);
            forwarded.extend_from_slice(&bytes[at..at + forward]);
            at += scan.forward + scan.skip;
            if reply.ended() || scan.forward + scan.skip == 0 {
                break;
            }
        }
        carry.extend_from_slice(&bytes[at..]);

        contents(&forwarded);
        if reply.ended() {
            break;
        }
    }
    let (mut scanner, mut at) = (Scanner::default(), 0);
    while let Some(piece) = scanner.next(&forwarded[at..]).expect("records") {
        at += piece.len();
    }
    assert!(scanner.at_boundary() && at == forwarded.len(), "cut inside a record");
    forwarded
}

/// Bytes of STDOUT and STDERR.
fn contents(forwarded: &[u8]) -> Vec<(Kind, u8)> {
    let (mut scanner, mut at, mut kind, mut out) = (Scanner::default(), 0, Kind::Stdout, vec![]);
    while let Some(piece) = scanner.next(&forwarded[at..]).expect("records") {
        let bytes = &forwarded[at..at + piece.len()];
        match piece {
            Piece::Header(header) => kind = header.kind,
            Piece::Content(_) if kind != Kind::EndRequest => out.extend(bytes.iter().map(|byte| (kind, *byte))),
            _ => {}
        }
        at += piece.len();
    }
    out
}

/// Only the response goes on, under the web server's id, and nothing behind its end.
fn check_forwarded(forwarded: &[u8], ended: bool) {
    let (mut scanner, mut at, mut last) = (Scanner::default(), 0, None::<Header>);
    while let Some(piece) = scanner.next(&forwarded[at..]).expect("records") {
        if let Piece::Header(header) = piece {
            assert!(matches!(header.kind, Kind::Stdout | Kind::Stderr | Kind::EndRequest) && header.id == 1);
            assert!(last.is_none_or(|last| last.kind != Kind::EndRequest), "bytes behind the end");
            last = Some(header);
        }
        at += piece.len();
    }
    let whole = scanner.at_boundary() && last.is_some_and(|last| last.kind == Kind::EndRequest);
    assert_eq!(whole && at == forwarded.len(), ended);
}

/// Whether the proof came, and behind how many bytes; an error is one wherever it is seen.
fn prove<'a>(chunks: impl Iterator<Item = &'a [u8]>, answers: u8) -> Option<bool> {
    let (mut proof, mut carry) = (Proof::handshake(answers), vec![]);
    let mut proven = false;
    for chunk in chunks {
        if proven {
            return None; // bytes behind the answer
        }
        carry.extend_from_slice(chunk);
        match proof.take(&carry) {
            Ok((taken, clean)) => {
                assert!(taken <= carry.len() && (clean.is_some() == (proof.due() == 0)));
                carry.drain(..taken);
                proven = clean.is_some();
            }
            Err(_) => return None,
        }
    }
    Some(proven)
}
