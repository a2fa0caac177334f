//! One whole request: taken in, checked, ready to be sent as often as it takes.

use super::about;
use super::label::Sticky;
use super::policy::{Method, put_params};
use super::reply::Finished;
use super::trace::Trace;
use crate::wire::{BeginRequest, HEADER_LEN, Header, Kind, MANAGEMENT_ID, Role, put_pair, put_record, variable};
use std::{borrow::Cow, fmt};

/// A request of which the web server has sent all params. Its body is kept by whoever took it in.
pub struct Request {
    /// The web server's id for it.
    pub id: u16,
    pub role: Role,
    /// The web server wants to keep its connection to us.
    pub keep_conn: bool,
    /// Bytes of body, equal to CONTENT_LENGTH unless there is none; of a body that follows, what CONTENT_LENGTH says, or 0.
    pub body: u64,
    /// It has a CONTENT_LENGTH and no body, so that PHP must be told of the end of STDIN.
    pub(super) ends_stdin: bool,
    /// Whether the connection may be used again behind it (fact 10.5).
    pub reusable: bool,
    pub(super) method: Method,
    /// It has params that change its worker for all requests behind it, and this becomes of them (fact 18.2).
    pub sticky: Option<Sticky>,
    /// Encoded pairs, as they go on.
    pub(super) params: Vec<u8>,
}

/// How one sending of a request is framed.
#[derive(Clone, Copy, Debug)]
pub struct Framing<'a> {
    /// Our id for it on the upstream connection.
    pub id: u16,
    pub keep_conn: bool,
    pub front: &'a Front,
}

/// What goes in front of a request, in the same write if nothing else is said.
#[derive(Debug)]
pub enum Front {
    Nothing,
    /// A GET_VALUES, in front of what may be executed twice: one that is not answered has found no worker (rule R12), or
    /// something between has lost the answer.
    GetValues,
    /// The same, and the fence that the connection owes for the exchange before this one.
    Fence(Finished),
    /// Two, and the request is held back until both are answered. A worker that is told to stop answers one more and
    /// leaves (fact 6.2); one that has answered two will read the request. For what may not be executed twice: behind the
    /// first byte of it nothing tells any more that it was not, for whatever stands between may end a connection as well.
    Twice,
}

impl Front {
    /// `owed`: the fence of the exchange before, of a connection that goes only to what may be repeated; `kept`: the
    /// application answers GET_VALUES and stays; `stale`: it may have gone unnoticed.
    pub fn choose(request: &Request, owed: Option<Finished>, kept: bool, stale: bool) -> Self {
        match owed {
            Some(finished) => Self::Fence(finished),
            None if kept && !(request.reusable && request.idempotent()) => Self::Twice,
            None if kept && stale => Self::GetValues,
            None => Self::Nothing,
        }
    }

    /// How many GET_VALUES it is.
    pub fn questions(&self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::GetValues | Self::Fence(_) => 1,
            Self::Twice => 2,
        }
    }

    /// The exchange before this one may still write until the first is answered (fact 11.2).
    pub fn is_fence(&self) -> bool {
        matches!(self, Self::Fence(_))
    }

    /// The request is sent when they have been answered, and not before.
    pub fn holds(&self) -> bool {
        matches!(self, Self::Twice)
    }

    /// Bytes of them.
    pub fn size(&self) -> usize {
        usize::from(self.questions()) * GET_VALUES.len()
    }
}

impl Request {
    /// May it be executed twice (RFC 9110, 9.2.2)?
    pub fn idempotent(&self) -> bool {
        self.method == Method::Idempotent
    }

    /// May it be sent to a worker that turns out to be busy, and from there to another one? The first may execute it as
    /// well, once it is free.
    pub fn repeatable(&self) -> bool {
        self.idempotent() && self.body == 0 && self.reusable
    }

    /// The script, for messages; lossy, cut where it is very long, and empty where the web server named none.
    pub fn script(&self) -> Cow<'_, str> {
        about::script(&self.params)
    }

    /// The method, for messages, if it looks like one.
    pub fn method(&self) -> Option<&str> {
        about::method(&self.params)
    }

    /// The host that the client asked for, for messages: that of the web server's configuration, if it says so.
    pub fn host(&self) -> Option<Cow<'_, str>> {
        about::host(&self.params)
    }

    /// The trace that it belongs to.
    pub fn trace(&self) -> Option<Trace<'_>> {
        self.param(b"HTTP_TRACEPARENT").and_then(Trace::parse)
    }

    fn param(&self, wanted: &[u8]) -> Option<&[u8]> {
        about::param(&self.params, wanted)
    }

    /// Appends everything in front of the body: GET_VALUES as many as there are to be, [`NUDGE`] behind those that hold it,
    /// BEGIN_REQUEST, PARAMS, empty PARAMS.
    pub fn put_head(&self, out: &mut Vec<u8>, framing: Framing<'_>) {
        out.reserve(self.params.len() + 96);
        (0..framing.front.questions()).for_each(|_| out.extend_from_slice(&GET_VALUES));
        if framing.front.holds() {
            out.extend_from_slice(&NUDGE);
        }
        let begin = BeginRequest { role: self.role, keep_conn: framing.keep_conn };
        put_record(out, Kind::BeginRequest, framing.id, &begin.encode());
        put_params(out, framing.id, &self.params);
        if self.ends_stdin {
            put_record(out, Kind::Stdin, framing.id, &[]);
        }
    }
}

/// Never shows params: they hold cookies and passwords.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("id", &self.id).field("body", &self.body).finish_non_exhaustive()
    }
}

/// The GET_VALUES that we send, as handshake, in front of a request and as fence. It asks for nothing: the answer is
/// what counts, and php-fpm reads and answers an empty one with the fewest system calls (section 1 of the facts).
pub const GET_VALUES: [u8; HEADER_LEN] = Header::new(Kind::GetValues, MANAGEMENT_ID, 0).encode();

/// An empty STDIN, which php-fpm passes over in front of a BEGIN_REQUEST, and where it waits for one (fact 1.8). It says
/// nothing: it carries an ACK. php-fpm's kernel keeps a second answer back until the first has been acknowledged (fact 17.1),
/// and whoever stands between acknowledges late what brings him nothing to send, 40 ms after it has come.
pub const NUDGE: [u8; HEADER_LEN] = Header::new(Kind::Stdin, MANAGEMENT_ID, 0).encode();

/// The GET_VALUES that asks an application other than php-fpm what it can. Padded: libfcgi answers one only when
/// something follows its last pair (docs/applications.md).
pub fn question() -> Vec<u8> {
    const PADDING: u8 = 8;
    let mut pairs = vec![];
    for name in [variable::MAX_CONNS, variable::MAX_REQS, variable::MPXS_CONNS] {
        put_pair(&mut pairs, name, &[]);
    }
    // Three names of 16 bytes at most.
    let header = Header { padding: PADDING, ..Header::new(Kind::GetValues, MANAGEMENT_ID, pairs.len() as u16) };
    [&header.encode()[..], &pairs, &[0; PADDING as usize]].concat()
}

/// The header of a STDIN record of so many bytes.
pub fn stdin_header(id: u16, content: u16) -> [u8; HEADER_LEN] {
    Header::new(Kind::Stdin, id, content).encode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{MAX_CONTENT, Piece, Scanner, put_pair};

    fn request(pairs: &[(&[u8], &[u8])], keep_conn: bool) -> Request {
        let mut params = vec![];
        pairs.iter().for_each(|(name, value)| put_pair(&mut params, name, value));
        Request {
            id: 1,
            role: Role::Responder,
            keep_conn,
            body: 0,
            ends_stdin: false,
            reusable: true,
            method: Method::Idempotent,
            sticky: None,
            params,
        }
    }

    /// Headers and contents of what was written.
    fn records(bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
        let (mut scanner, mut at, mut out) = (Scanner::default(), 0, vec![]);
        while let Some(piece) = scanner.next(&bytes[at..]).unwrap() {
            match piece {
                Piece::Header(header) => out.push((header, vec![])),
                Piece::Content(len) => out.last_mut().unwrap().1.extend_from_slice(&bytes[at..at + len]),
                Piece::Padding(_) => panic!("padding, which php-fpm does not always consume (fact 9.3)"),
            }
            at += piece.len();
        }
        assert!(scanner.at_boundary() && at == bytes.len());
        out
    }

    fn head(request: &Request, prefix: bool, keep_conn: bool) -> Vec<(Header, Vec<u8>)> {
        let mut out = vec![];
        request.put_head(
            &mut out,
            Framing { id: 77, keep_conn, front: if prefix { &Front::GetValues } else { &Front::Nothing } },
        );
        records(&out)
    }

    fn get_values() -> (Header, Vec<u8>) {
        (Header::new(Kind::GetValues, 0, 0), vec![])
    }

    #[test]
    fn a_head_is_begin_request_params_and_their_end_under_our_id() {
        let request = request(&[(b"A", b"1")], false);
        for keep_conn in [false, true] {
            let begin = BeginRequest { role: Role::Responder, keep_conn }.encode();
            let wanted = [
                (Header::new(Kind::BeginRequest, 77, 8), begin.to_vec()),
                (Header::new(Kind::Params, 77, 4), b"\x01\x01A1".to_vec()),
                (Header::new(Kind::Params, 77, 0), vec![]),
            ];
            assert_eq!(head(&request, false, keep_conn), wanted);
        }
    }

    #[test]
    fn a_prefix_is_one_get_values_in_front_of_the_same_head() {
        let request = request(&[(b"A", b"1")], true);
        let with = head(&request, true, true);
        assert_eq!(with[0], get_values());
        assert_eq!(with[1..], head(&request, false, true));
    }

    #[test]
    fn a_fence_that_is_owed_goes_in_front_of_the_same_head() {
        let request = request(&[(b"A", b"1")], true);
        let mut reply = crate::mux::reply::Reply::new(76, 1, &Front::Nothing);
        assert_eq!(reply.scan(&mut [1, 3, 0, 76, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap().forward, 16);
        let front = Front::Fence(reply.finish().unwrap());
        let mut out = vec![];
        request.put_head(&mut out, Framing { id: 77, keep_conn: true, front: &front });
        let records = records(&out);
        assert_eq!(records[0], get_values());
        assert_eq!(records[1..], head(&request, false, true));
    }

    #[test]
    fn what_may_not_be_executed_twice_is_held_back_behind_two_get_values() {
        let mut request = request(&[], true);
        let chosen = |request: &Request, stale| Front::choose(request, None, true, stale);
        assert!(matches!(chosen(&request, false), Front::Nothing));
        assert!(matches!(chosen(&request, true), Front::GetValues));
        for (method, reusable) in [(Method::Other, true), (Method::Other, false), (Method::Idempotent, false)] {
            (request.method, request.reusable) = (method, reusable);
            let front = chosen(&request, false);
            assert!(matches!(front, Front::Twice) && !front.is_fence());
            assert!(
                matches!(Front::choose(&request, None, false, true), Front::Nothing),
                "an old PHP closes behind one"
            );
            let mut out = vec![];
            request.put_head(&mut out, Framing { id: 77, keep_conn: false, front: &front });
            assert_eq!(records(&out[..front.size()]), [get_values(), get_values()]);
            assert_eq!(records(&out)[2], (Header::new(Kind::Stdin, 0, 0), vec![]));
            assert_eq!(records(&out)[3].0, Header::new(Kind::BeginRequest, 77, 8));
        }
    }

    #[test]
    fn large_params_go_into_several_records() {
        let value = vec![b'v'; 60_000];
        let head = head(&request(&[(b"A", &value), (b"B", &value), (b"C", b"")], false), false, true);
        let sizes: Vec<_> = head[1..].iter().map(|(header, _)| usize::from(header.content)).collect();
        assert_eq!(sizes, [60_006, 60_009, 0]);
        assert!(sizes.iter().all(|size| *size <= MAX_CONTENT));
    }

    #[test]
    fn messages_name_the_last_script_and_never_show_params() {
        let named =
            request(&[(b"SCRIPT_FILENAME", b"/old"), (b"SCRIPT_FILENAME", b"/new\xff"), (b"COOKIE", b"secret")], true);
        assert_eq!(named.script(), "/new\u{fffd}");
        assert!(!format!("{named:?}").contains("secret"));
        assert_eq!(request(&[], false).script(), "");
        assert_eq!(request(&[(b"SCRIPT_NAME", &[b'x'; 60_000])], false).script().len(), about::SCRIPT_AT_MOST);
        assert_eq!(
            request(&[(b"SCRIPT_FILENAME", b"proxy:fcgi://a:9000/a.php?token=secret")], false).script(),
            "proxy:fcgi://a:9000/a.php"
        );
    }

    #[test]
    fn a_method_is_named_only_if_it_looks_like_one() {
        let method = |value: &[u8]| request(&[(b"REQUEST_METHOD", value)], true).method().map(str::to_owned);
        assert_eq!(method(b"PROPFIND").as_deref(), Some("PROPFIND"));
        for bad in [&b""[..], b"GET /?secret", b"GET\n", b"\xff", &[b'A'; about::METHOD_AT_MOST + 1]] {
            assert_eq!(method(bad), None);
        }
        assert_eq!(request(&[], true).method(), None);
    }
}
