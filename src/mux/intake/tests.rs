mod whole;

use super::*;
use crate::{
    config::Config,
    mux::policy::Method,
    wire::{Pairs, put_pair, put_record},
};
use proptest::prelude::*;

/// What an intake said, with neighbouring parts of a body joined: how they are cut follows from the reads.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Body(u16, Stream, Vec<u8>),
    End(u16, Stream),
    Request { id: u16, role: Role, keep_conn: bool, body: u64, reusable: bool, method: Method, params: Vec<u8> },
    Answer(Vec<u8>),
    Refused(u16, bool, Refusal),
    Cut(u16, Refusal),
    Aborted(u16),
    Violation(Violation),
}

/// What a web server's bytes come to, shown in these chunks. `answered`: each request is answered before more is read;
/// otherwise the first one runs to the end.
fn read<'a>(mut intake: Intake<()>, chunks: impl IntoIterator<Item = &'a [u8]>, answered: bool) -> Vec<Seen> {
    let (mut carry, mut seen) = (vec![], vec![]);
    for chunk in chunks {
        carry.extend_from_slice(chunk);
        let mut at = 0;
        loop {
            let taken = match intake.take(&carry[at..]) {
                Ok(taken) => taken,
                Err(violation) => {
                    seen.push(Seen::Violation(violation));
                    return seen;
                }
            };
            let shown = &carry[at..];
            at += taken.consumed;
            match taken.event {
                None => break,
                Some(Event::Body { id, stream, range }) => match seen.last_mut() {
                    Some(Seen::Body(last, of, body)) if (*last, *of) == (id, stream) => {
                        body.extend_from_slice(&shown[range]);
                    }
                    _ => seen.push(Seen::Body(id, stream, shown[range].to_vec())),
                },
                Some(Event::End { id, stream }) => seen.push(Seen::End(id, stream)),
                Some(Event::Request(Request { id, role, keep_conn, body, reusable, method, params, .. })) => {
                    seen.push(Seen::Request { id, role, keep_conn, body, reusable, method, params });
                    if answered {
                        intake.ended(id);
                    }
                }
                Some(Event::Answer(answer)) => seen.push(Seen::Answer(answer)),
                Some(Event::Refused { id, keep_conn, why }) => seen.push(Seen::Refused(id, keep_conn, why.refusal)),
                Some(Event::Cut { id, why }) => seen.push(Seen::Cut(id, why.refusal)),
                Some(Event::Aborted { id }) => seen.push(Seen::Aborted(id)),
            }
        }
        carry.drain(..at);
        assert!(carry.len() < HEADER_LEN + usize::from(MAX_GET_VALUES), "{} bytes are held back", carry.len());
    }
    seen
}

const LIMITS: Limits = Limits { connections: 100, requests: 5 };

fn intake(pool: &str) -> Intake<()> {
    intake_with(pool, LIMITS)
}

fn intake_with(pool: &str, limits: Limits) -> Intake<()> {
    let text = format!("pools: {{p: {{endpoints: [{{dns: 'php:9000'}}], {pool}}}}}");
    let config = Config::from_yaml(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    Intake::new(Arc::new(Policy::new(&config.pools[0])), limits)
}

/// What the default rules make of `bytes`, shown at once.
fn seen(bytes: &[u8]) -> Vec<Seen> {
    read(intake(""), [bytes], true)
}

fn refusals(pool: &str, bytes: &[u8]) -> Vec<Seen> {
    read(intake(pool), [bytes], true)
}

// ---------------------------------------------------------------- what a web server writes

fn record(kind: Kind, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let mut out = Header { padding, ..Header::new(kind, id, content.len() as u16) }.encode().to_vec();
    out.extend_from_slice(content);
    out.resize(out.len() + usize::from(padding), 0xa5);
    out
}

fn begin(id: u16, keep_conn: bool) -> Vec<u8> {
    record(Kind::BeginRequest, id, &BeginRequest { role: Role::Responder, keep_conn }.encode(), 0)
}

fn encoded(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![];
    pairs.iter().for_each(|(name, value)| put_pair(&mut out, name.as_bytes(), value.as_bytes()));
    out
}

fn head(id: u16, pairs: &[(&str, &str)]) -> Vec<u8> {
    let params = if pairs.is_empty() { vec![] } else { record(Kind::Params, id, &encoded(pairs), 0) };
    [begin(id, true), params, record(Kind::Params, id, &[], 0)].concat()
}

fn request(id: u16, pairs: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let body = if body.is_empty() { vec![] } else { record(Kind::Stdin, id, body, 3) };
    [head(id, pairs), body, record(Kind::Stdin, id, &[], 0)].concat()
}

fn get(id: u16) -> Vec<u8> {
    request(id, &[("REQUEST_METHOD", "GET"), ("SCRIPT_FILENAME", "/a.php")], &[])
}

fn got(id: u16) -> Seen {
    let params = encoded(&[("REQUEST_METHOD", "GET"), ("SCRIPT_FILENAME", "/a.php")]);
    let (role, method) = (Role::Responder, Method::Idempotent);
    Seen::Request { id, role, keep_conn: true, body: 0, reusable: true, method, params }
}

fn ended(id: u16, status: ProtocolStatus) -> Seen {
    let mut out = vec![];
    put_end(&mut out, id, status);
    Seen::Answer(out)
}

fn one_too_many(id: u16) -> Seen {
    Seen::Refused(id, true, Refusal::RequestsInFlight)
}

/// Params of the only request.
fn params_of(seen: &[Seen]) -> Vec<(String, String)> {
    let [.., Seen::Request { params, .. }] = seen else { panic!("no request: {seen:?}") };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Pairs::new(params).map(|pair| pair.map(|(name, value)| (text(name), text(value))).unwrap()).collect()
}

// ---------------------------------------------------------------- requests

#[test]
fn a_request_is_taken_in_whole_with_its_body() {
    let bytes = request(7, &[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "5")], b"hello");
    let params = encoded(&[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "5")]);
    let (role, method) = (Role::Responder, Method::Post);
    let whole = Seen::Request { id: 7, role, keep_conn: true, body: 5, reusable: true, method, params };
    assert_eq!(seen(&bytes), [Seen::Body(7, Stream::Stdin, b"hello".to_vec()), whole]);
}

#[test]
fn the_next_request_of_a_kept_connection_may_have_the_same_id_and_stand_behind_it() {
    assert_eq!(seen(&[get(1), get(1), get(65_535)].concat()), [got(1), got(1), got(65_535)]);
}

#[test]
fn a_missing_or_empty_content_length_is_filled_in() {
    let unknown = [("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "-1")];
    for (body, length) in [("hello", "5"), ("", "0")] {
        let params = params_of(&seen(&request(1, &unknown, body.as_bytes())));
        assert_eq!(params[1], ("CONTENT_LENGTH".to_owned(), length.to_owned()), "what Caddy says of a chunked upload");
    }
    let given: [&[(&str, &str)]; 2] =
        [&[("REQUEST_METHOD", "POST")], &[("CONTENT_LENGTH", ""), ("REQUEST_METHOD", "POST")]];
    for pairs in given {
        let params = params_of(&seen(&request(1, pairs, b"hello")));
        let wanted = [("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "5")];
        assert_eq!(params, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        // Nothing to fill in without a body.
        assert_eq!(params_of(&seen(&request(1, pairs, b""))).len(), pairs.len());
    }
}

#[test]
fn a_body_that_disagrees_with_content_length_is_refused() {
    let refused = |pairs: &[(&str, &str)], body: &[u8]| {
        matches!(seen(&request(1, pairs, body))[..], [.., Seen::Refused(1, true, Refusal::LengthMismatch)])
    };
    for (said, body) in [("5", "1234"), ("5", "1"), ("4", "12345")] {
        assert!(refused(&[("CONTENT_LENGTH", said)], body.as_bytes()), "{said} {body}");
    }
    for no_length in ["-5", "+5", " 5", "5 ", "0x5", "5,5", "18446744073709551616", "1e1", "٥"] {
        assert!(refused(&[("CONTENT_LENGTH", no_length)], b"12345"), "{no_length}");
    }
    let twice = |first, second| [("CONTENT_LENGTH", first), ("CONTENT_LENGTH", second)];
    // PHP takes the last.
    assert!(refused(&twice("5", "4"), b"12345"));
    assert!(refused(&twice("4", "5"), b"1234"));
    assert!(!refused(&twice("4", "5"), b"12345"));
    assert!(!refused(&twice("5", "5"), b"12345"));
    assert!(!refused(&twice("", "5"), b"12345"));
    // The bytes beyond it do not become body.
    let seen = seen(&request(1, &[("CONTENT_LENGTH", "2")], b"1234"));
    assert!(!seen.iter().any(|event| matches!(event, Seen::Body(..))), "{seen:?}");
}

#[test]
fn what_comes_of_a_refused_request_is_dropped_and_the_next_one_is_served() {
    let bytes = [request(1, &[("CONTENT_LENGTH", "2")], &[b'x'; 3000]), get(1)].concat();
    assert_eq!(seen(&bytes), [Seen::Refused(1, true, Refusal::LengthMismatch), got(1)]);
}

#[test]
fn params_over_the_limits_are_refused() {
    let refused = |pool: &str, pairs: &[(&str, &str)], want| {
        assert_eq!(refusals(pool, &request(1, pairs, b"")), [Seen::Refused(1, true, want)], "{pool}");
    };
    let kilobyte = "v".repeat(1015);
    let over = [("N", kilobyte.as_str()), ("M", "12345")];
    refused("params: {max_size: 1KiB}", &over, Refusal::ParamsTooLarge);
    refused("params: {max_count: 2}", &[("A", ""), ("B", ""), ("C", "")], Refusal::TooManyParams);
    assert_eq!(params_of(&refusals("params: {max_size: 1KiB}", &request(1, &over[..1], b""))).len(), 1);
    assert_eq!(params_of(&refusals("params: {max_count: 2}", &request(1, &[("A", ""), ("B", "")], b""))).len(), 2);
    // A pair goes into one record, however many it came in.
    let mut large = vec![];
    put_pair(&mut large, b"N", &[b'v'; 66_000]);
    let parts = large.chunks(30_000).flat_map(|part| record(Kind::Params, 1, part, 0));
    let bytes = [begin(1, true), parts.collect(), record(Kind::Params, 1, &[], 0)].concat();
    assert_eq!(seen(&bytes), [Seen::Refused(1, true, Refusal::ParamsTooLarge)]);
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_comes_and_while_it_comes() {
    let pool = "body: {max_size: 10B}";
    let refused = [Seen::Refused(1, true, Refusal::BodyTooLarge)];
    let announced = [head(1, &[("CONTENT_LENGTH", "11")]), record(Kind::Stdin, 1, b"1", 0)].concat();
    assert_eq!(refusals(pool, &announced), refused);
    // A length without a body is another request's.
    assert!(matches!(refusals(pool, &request(1, &[("CONTENT_LENGTH", "11")], b""))[..], [Seen::Request { .. }]));
    assert_eq!(refusals(pool, &request(1, &[], b"12345678901")), refused);
    assert!(matches!(refusals(pool, &request(1, &[], b"1234567890"))[..], [.., Seen::Request { body: 10, .. }]));
}

#[test]
fn malformed_pairs_are_refused() {
    let refused = [Seen::Refused(1, true, Refusal::Malformed)];
    for params in [&b"\x05"[..], b"\x05\x05abc", b"\xff\xff\xff\xff\xff\xff\xff\xffx", b"\x80\x00", b"\x01\x00Ax"] {
        let bytes = [begin(1, true), record(Kind::Params, 1, params, 0), record(Kind::Params, 1, &[], 0)].concat();
        assert_eq!(seen(&bytes), refused, "{params:?}");
    }
}

#[test]
fn denied_params_are_refused_or_stripped_and_others_are_set_or_removed() {
    let pairs = [("A", "1"), ("PHP_VALUE", "memory_limit=1"), ("HTTP_PROXY", "x"), ("B", "2")];
    let denying = "params: {deny: [PHP_VALUE]}";
    assert_eq!(refusals(denying, &request(1, &pairs, b"")), [Seen::Refused(1, true, Refusal::ParamDenied)]);
    let pool = "params: {deny: [PHP_VALUE], on_denied: strip, set: {B: mine, C: new}}";
    let params = params_of(&refusals(pool, &request(1, &pairs, b"")));
    let wanted = [("A", "1"), ("B", "mine"), ("C", "new")];
    assert_eq!(params, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let allowed = params_of(&refusals("params: {deny: [], remove: []}", &request(1, &pairs, b"")));
    assert_eq!(allowed.len(), 4);
}

// ---------------------------------------------------------------- answers

#[test]
fn other_roles_are_answered_unknown_role_and_their_records_passed_over() {
    for role in [0, 3, 4, 65_535] {
        let begin = BeginRequest { role: Role::from_number(role), keep_conn: true }.encode();
        let rest = get(3).split_off(16);
        let bytes = [record(Kind::BeginRequest, 3, &begin, 0), rest, get(3)].concat();
        assert_eq!(seen(&bytes), [ended(3, ProtocolStatus::UnknownRole), got(3)], "role {role}");
    }
}

#[test]
fn requests_are_taken_in_side_by_side_and_each_is_told_when_it_is_whole() {
    let (post, hello) = (head(2, &[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "4")]), b"he".as_slice());
    let body = |id, bytes: &[u8]| record(Kind::Stdin, id, bytes, 1);
    let get_head = head(9, &[("REQUEST_METHOD", "GET"), ("SCRIPT_FILENAME", "/a.php")]);
    let bytes = [post, get_head, body(2, hello), get(1), body(2, b"ho"), body(9, b""), body(2, b"")].concat();
    let seen = read(intake(""), [&bytes[..]], false);
    let part = |bytes: &[u8]| Seen::Body(2, Stream::Stdin, bytes.to_vec());
    // None of them waits for an end of STDIN that says nothing new.
    assert_eq!(seen[..4], [got(9), part(hello), got(1), part(b"ho")]);
    assert!(matches!(seen[4..], [Seen::Request { id: 2, body: 4, .. }]), "{seen:?}");
}

#[test]
fn one_request_too_many_is_refused_and_the_others_go_on() {
    let all = (1..=7).map(get).collect::<Vec<_>>().concat();
    let mut wanted: Vec<_> = (1..=5).map(got).collect();
    wanted.extend([6, 7].map(one_too_many));
    assert_eq!(read(intake(""), [&all[..]], false), wanted);
    // Once they are answered there is room again.
    assert_eq!(seen(&all), (1..=7).map(got).collect::<Vec<_>>());
}

#[test]
fn where_one_at_a_time_is_allowed_a_second_one_is_answered_cant_mpx_conn() {
    let one = || intake_with("", Limits { requests: 1, ..LIMITS });
    let second = [head(1, &[]), get(2), record(Kind::Stdin, 1, &[], 0)].concat();
    let events = read(one(), [&second[..]], true);
    assert_eq!(events[0], one_too_many(2));
    assert!(matches!(events[1..], [Seen::Request { id: 1, .. }]), "{events:?}");
    // The same while it runs.
    let running = read(one(), [&[get(1), get(2)].concat()[..]], false);
    assert_eq!(running, [got(1), one_too_many(2)]);
}

#[test]
fn nothing_comes_behind_a_request_that_closes_the_connection() {
    let last = [begin(1, false), get(1).split_off(16)].concat();
    for answered in [true, false] {
        let seen = read(intake(""), [&[last.clone(), get(2)].concat()[..]], answered);
        assert!(matches!(seen[0], Seen::Request { id: 1, keep_conn: false, .. }));
        assert_eq!(seen[1..], []);
    }
    let mut intake = intake("");
    assert!(intake.take(&last).unwrap().event.is_some() && intake.is_last() && !intake.is_over());
    intake.ended(1);
    assert!(intake.is_over());
}

#[test]
fn an_authorizer_is_whole_without_a_body_and_told_of_none() {
    let begin = BeginRequest { role: Role::Authorizer, keep_conn: true }.encode();
    let pairs = [("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "5")];
    let head = [record(Kind::BeginRequest, 1, &begin, 0), head(1, &pairs).split_off(16)].concat();
    let seen = read(intake(""), [&[head, record(Kind::Stdin, 1, &[], 0), get(2)].concat()[..]], false);
    assert!(matches!(seen[0], Seen::Request { id: 1, role: Role::Authorizer, body: 0, .. }), "{seen:?}");
    assert_eq!(params_of(&seen[..1])[1], ("CONTENT_LENGTH".to_owned(), "0".to_owned()));
    assert_eq!(seen[1..], [got(2)]);
}

// ---------------------------------------------------------------- bodies that go on as they come

const GENERIC: &str = "application: generic";

#[test]
fn for_another_application_a_request_begins_with_its_params_and_its_body_follows() {
    let body = |id, bytes: &[u8]| record(Kind::Stdin, id, bytes, 0);
    let post = [("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "9")];
    let bytes = [head(1, &post), body(1, b"abc"), get(2), body(1, b"defghijk"), body(1, b""), body(1, b"late")];
    let seen = read(intake(GENERIC), [&bytes.concat()[..]], false);
    assert!(matches!(seen[0], Seen::Request { id: 1, body: 9, .. }));
    let part = |bytes: &[u8]| Seen::Body(1, Stream::Stdin, bytes.to_vec());
    assert_eq!(seen[1], part(b"abc"));
    assert_eq!(seen[2..4], [got(2), Seen::End(2, Stream::Stdin)]);
    // How long it is, is between the web server and the application.
    assert_eq!(seen[4..], [part(b"defghijk"), Seen::End(1, Stream::Stdin)]);
}

#[test]
fn a_filter_is_given_its_file_behind_its_body() {
    let begin = BeginRequest { role: Role::Filter, keep_conn: true }.encode();
    let head = [record(Kind::BeginRequest, 1, &begin, 0), head(1, &[]).split_off(16)].concat();
    let part = |kind, bytes: &[u8]| record(kind, 1, bytes, 0);
    let bytes = [head, part(Kind::Stdin, b"s"), part(Kind::Stdin, b""), part(Kind::Data, b"d"), part(Kind::Data, b"")];
    let mut events = intake(GENERIC);
    assert!(matches!(events.take(&bytes.concat()).unwrap().event, Some(Event::Request(_))));
    assert!(!events.is_whole(1));
    let seen = read(intake(GENERIC), [&bytes.concat()[..]], false);
    assert!(matches!(seen[0], Seen::Request { id: 1, role: Role::Filter, .. }));
    let wanted = [
        Seen::Body(1, Stream::Stdin, b"s".to_vec()),
        Seen::End(1, Stream::Stdin),
        Seen::Body(1, Stream::Data, b"d".to_vec()),
        Seen::End(1, Stream::Data),
    ];
    assert_eq!(seen[1..], wanted);
}

#[test]
fn a_body_that_grows_over_the_limit_cuts_its_exchange_short_and_no_other() {
    let pool = "application: generic, body: {max_size: 3B}";
    let bytes = [head(1, &[]), record(Kind::Stdin, 1, b"1234", 0), get(2)].concat();
    let seen = read(intake(pool), [&bytes[..]], false);
    assert!(matches!(seen[0], Seen::Request { id: 1, .. }));
    assert_eq!(seen[1..], [Seen::Cut(1, Refusal::BodyTooLarge), got(2), Seen::End(2, Stream::Stdin)]);
}

#[test]
fn what_comes_of_an_exchange_that_has_ended_is_passed_over() {
    let bytes = [head(1, &[]), record(Kind::Stdin, 1, b"1234", 0), record(Kind::Stdin, 1, b"", 0), head(1, &[])];
    let seen = read(intake(GENERIC), [&bytes.concat()[..]], true);
    assert!(matches!(seen[..], [Seen::Request { id: 1, .. }, Seen::Request { id: 1, .. }]), "{seen:?}");
}

#[test]
fn an_abort_ends_a_request_being_taken_in_and_reports_one_that_runs() {
    let abort = |id| record(Kind::AbortRequest, id, &[], 0);
    let bytes = [head(1, &[]), abort(2), abort(1), record(Kind::Stdin, 1, b"late", 0), get(1)].concat();
    assert_eq!(seen(&bytes), [ended(1, ProtocolStatus::RequestComplete), got(1)]);
    assert_eq!(read(intake(""), [&[get(1), abort(2), abort(1)].concat()[..]], false), [got(1), Seen::Aborted(1)]);
    assert_eq!(seen(&[get(1), abort(1)].concat()), [got(1)], "nothing runs any more");
}

#[test]
fn management_records_are_answered_at_any_time() {
    let asked = encoded(&[("FCGI_MAX_CONNS", ""), ("OTHER", "x"), ("FCGI_MPXS_CONNS", ""), ("FCGI_MAX_REQS", "")]);
    let values = record(Kind::GetValues, 0, &asked, 5);
    let mut answer = vec![];
    let pairs = encoded(&[("FCGI_MAX_CONNS", "100"), ("FCGI_MPXS_CONNS", "1"), ("FCGI_MAX_REQS", "5")]);
    put_record(&mut answer, Kind::GetValuesResult, 0, &pairs);
    let mut unknown = vec![];
    put_record(&mut unknown, Kind::UnknownType, 0, &[99, 0, 0, 0, 0, 0, 0, 0]);
    let other = record(Kind::Other(99), 0, &[1; 2000], 255);
    let bytes = [&values[..], &head(1, &[]), &other, &values, &record(Kind::Stdin, 1, &[], 0)].concat();
    let seen = seen(&bytes);
    let (answer, unknown) = (Seen::Answer(answer), Seen::Answer(unknown));
    assert_eq!(seen[..3], [answer.clone(), unknown, answer]);
    assert!(matches!(seen[3..], [Seen::Request { id: 1, .. }]));
}

#[test]
fn get_values_with_lying_lengths_or_nothing_in_it_gets_an_empty_answer() {
    for content in [&b""[..], b"\xff", b"\x7f\x7fxx"] {
        let mut answer = vec![];
        put_record(&mut answer, Kind::GetValuesResult, 0, &[]);
        assert_eq!(seen(&record(Kind::GetValues, 0, content, 0)), [Seen::Answer(answer)]);
    }
}

#[test]
fn every_request_is_refused_while_there_are_too_many_connections() {
    let mut intake = intake("");
    intake.refuse_all(Refused { refusal: Refusal::Connections, detail: String::new() });
    let refused = Seen::Refused(1, true, Refusal::Connections);
    assert_eq!(read(intake, [&[get(1), get(1)].concat()[..]], true), [refused.clone(), refused]);
}

#[test]
fn a_request_given_up_by_its_taker_is_dropped_to_its_end() {
    let mut intake = intake("");
    let bytes = [request(1, &[("CONTENT_LENGTH", "3000")], &[b'x'; 3000]), get(2)].concat();
    let mut at = 0;
    let event = loop {
        let taken = intake.take(&bytes[at..at + 600]).unwrap();
        at += taken.consumed;
        if let Some(event) = taken.event {
            break event;
        }
    };
    assert!(matches!(event, Event::Body { id: 1, .. }) && intake.unfinished());
    let why = Refused { refusal: Refusal::Storage, detail: String::new() };
    assert!(matches!(intake.refuse_open(1, why), Event::Refused { id: 1, keep_conn: true, .. }));
    assert_eq!(read(intake, [&bytes[at..]], true), [got(2)]);
}

#[test]
fn bytes_are_owed_inside_a_request_and_inside_a_record() {
    let (mut intake, bytes) = (intake(""), get(1));
    assert!(!intake.unfinished());
    assert_eq!(intake.take(&bytes[..16]).unwrap().consumed, 16);
    assert!(intake.unfinished(), "a request has begun");
    assert!(matches!(intake.take(&bytes[16..]).unwrap().event, Some(Event::Request(_))));
    assert!(intake.is_running() && !intake.unfinished());
    let passed_over = record(Kind::Data, 9, b"xx", 2);
    assert_eq!(intake.take(&passed_over[..11]).unwrap().consumed, 11);
    assert!(intake.unfinished(), "of this record");
    assert_eq!(intake.take(&passed_over[11..]).unwrap().consumed, 1);
    assert!(!intake.unfinished());
}

// ---------------------------------------------------------------- violations

#[test]
fn what_no_web_server_may_send_is_a_violation() {
    use Violation::{AfterEnd, BeforeParams, BeginLength, BeginTwice, GetValuesLength, Scan};
    let stdin = |id| record(Kind::Stdin, id, b"x", 0);
    let params = |id| record(Kind::Params, id, b"\x01\x00A", 0);
    let cases = [
        (b"GET / HTTP/1.1\r\n".to_vec(), Scan(ScanError { version: b'G' })),
        ([get(1), vec![0; 8]].concat(), Scan(ScanError { version: 0 })),
        (record(Kind::BeginRequest, 1, &[0; 7], 0), BeginLength(7)),
        (record(Kind::BeginRequest, 1, &[0; 9], 0), BeginLength(9)),
        (record(Kind::BeginRequest, 1, &[], 0), BeginLength(0)),
        ([begin(1, true), begin(1, true)].concat(), BeginTwice(1)),
        ([begin(1, false), stdin(1)].concat(), BeforeParams { kind: Kind::Stdin, id: 1 }),
        ([begin(1, false), record(Kind::Stdin, 1, &[], 0)].concat(), BeforeParams { kind: Kind::Stdin, id: 1 }),
        ([head(1, &[]), params(1)].concat(), AfterEnd { kind: Kind::Params, id: 1 }),
        (record(Kind::GetValues, 0, &[0; 1025], 0), GetValuesLength(1025)),
    ];
    for (bytes, violation) in cases {
        let seen = seen(&bytes);
        assert_eq!(seen.last(), Some(&Seen::Violation(violation)), "{seen:?}");
        let single = read(intake(""), bytes.chunks(1), true);
        assert_eq!(single, seen);
    }
}

#[test]
fn another_version_is_seen_as_soon_as_it_comes() {
    let mut bytes = begin(1, false);
    bytes[0] = 2;
    for len in 1..=bytes.len() {
        assert!(intake("").take(&bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn records_of_ids_that_are_not_open_and_of_other_types_are_passed_over() {
    let noise = |id| {
        let kinds = [Kind::Params, Kind::Stdin, Kind::Data, Kind::Stdout, Kind::AbortRequest, Kind::Other(200)];
        kinds.map(|kind| record(kind, id, &[7; 300], 9)).concat()
    };
    let (start, end) = (head(1, &[]), record(Kind::Stdin, 1, &[], 0));
    let data = record(Kind::Data, 1, &[1; 50], 0);
    let seen = seen(&[noise(1), start, noise(2), data, end, noise(1)].concat());
    assert!(matches!(seen[..], [Seen::Request { id: 1, body: 0, .. }]), "{seen:?}");
}

// ---------------------------------------------------------------- properties

/// One thing that a web server may write, right or wrong.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let id = 0_u16..4;
    let kind = (1_u8..14).prop_map(Kind::from_byte);
    let content = prop::collection::vec(any::<u8>(), 0..40);
    let pairs = prop::sample::select(vec![
        vec![("REQUEST_METHOD", "GET")],
        vec![("CONTENT_LENGTH", "3"), ("REQUEST_METHOD", "POST")],
        vec![("HTTP_PROXY", "x")],
        vec![("PHP_VALUE", "x")],
    ]);
    prop_oneof![
        3 => (id.clone(), pairs.clone(), prop::sample::select(vec!["", "abc", "abcd"]))
            .prop_map(|(id, pairs, body)| request(id, &pairs, body.as_bytes())),
        2 => (id.clone(), pairs).prop_map(|(id, pairs)| head(id, &pairs)),
        2 => (id.clone(), content.clone(), 0_u8..9).prop_map(|(id, body, n)| record(Kind::Stdin, id, &body, n)),
        1 => id.clone().prop_map(|id| record(Kind::Stdin, id, &[], 0)),
        1 => (id.clone(), 0_u16..5, any::<bool>()).prop_map(|(id, role, keep_conn)| {
            record(Kind::BeginRequest, id, &BeginRequest { role: Role::from_number(role), keep_conn }.encode(), 0)
        }),
        2 => (kind, id, content, any::<u8>()).prop_map(|(kind, id, content, n)| record(kind, id, &content, n)),
    ]
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_events_and_bodies(
        pool in prop::sample::select(vec!["", GENERIC]),
        pieces in prop::collection::vec(piece(), 0..12),
        cut_off in 0_usize..20,
        sizes in prop::collection::vec(1_usize..100, 1..20),
        answered: bool,
    ) {
        let mut bytes = pieces.concat();
        bytes.truncate(bytes.len().saturating_sub(cut_off));
        let whole = read(intake(pool), [&bytes[..]], answered);
        prop_assert_eq!(&read(intake(pool), bytes.chunks(1), answered), &whole);
        let (mut rest, mut chunks) = (&bytes[..], vec![]);
        for size in sizes.iter().cycle().take(bytes.len()) {
            let (chunk, behind) = rest.split_at(rest.len().min(*size));
            chunks.push(chunk);
            rest = behind;
        }
        prop_assert_eq!(read(intake(pool), chunks, answered), whole);
    }

    #[test]
    fn a_well_formed_request_arrives_as_it_was_sent(
        pairs in prop::collection::vec(("[A-Z_]{1,140}", "[ -~]{0,300}"), 0..20),
        body in prop::collection::vec(any::<u8>(), 0..5000),
        record_size in 1_usize..700,
        padding: u8,
        id in 1_u16..,
    ) {
        let length = body.len().to_string();
        let mut pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        pairs.retain(|(name, _)| !["CONTENT_LENGTH", "HTTP_PROXY", "PHP_VALUE", "PHP_ADMIN_VALUE"].contains(name));
        pairs.push(("CONTENT_LENGTH", &length));
        let params = encoded(&pairs);
        let mut bytes = begin(id, true);
        params.chunks(record_size).for_each(|part| bytes.extend(record(Kind::Params, id, part, padding)));
        bytes.extend(record(Kind::Params, id, &[], padding));
        body.chunks(record_size).for_each(|part| bytes.extend(record(Kind::Stdin, id, part, padding)));
        bytes.extend(record(Kind::Stdin, id, &[], padding));
        let seen = seen(&bytes);
        let Some(Seen::Request { id: seen_id, params: seen_params, body: seen_len, .. }) = seen.last() else {
            panic!("{seen:?}");
        };
        prop_assert_eq!((*seen_id, seen_params, *seen_len), (id, &params, body.len() as u64));
        let seen_body = match &seen[0] { Seen::Body(_, _, bytes) => &bytes[..], _ => &[] };
        prop_assert_eq!(seen_body, &body[..]);
        prop_assert_eq!(seen.len(), 1 + usize::from(!body.is_empty()));
    }
}
