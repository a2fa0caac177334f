//! One whole request: taken in, checked, ready to be sent as often as it takes.

use super::policy::{Method, put_params};
use crate::wire::{BeginRequest, HEADER_LEN, Header, Kind, MANAGEMENT_ID, Pairs, Role, put_pair, put_record, variable};
use std::fmt;

/// A request whose every byte the web server has sent. Its body is kept by whoever took it in.
pub struct Request {
    /// The web server's id for it.
    pub id: u16,
    /// The web server wants to keep its connection to us.
    pub keep_conn: bool,
    /// Bytes of body, equal to CONTENT_LENGTH.
    pub body: u64,
    /// Whether the connection may be used again behind it (fact 10.5).
    pub reusable: bool,
    pub(super) method: Method,
    /// Encoded pairs, as they go on.
    pub(super) params: Vec<u8>,
}

/// How one sending of a request is framed.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    /// Our id for it on the upstream connection.
    pub id: u16,
    pub keep_conn: bool,
    /// Put a GET_VALUES in front: its absence proves that the request was not executed (rule R12).
    pub prefix: bool,
}

impl Request {
    /// May it be executed twice (RFC 9110, 9.2.2)?
    pub fn idempotent(&self) -> bool {
        self.method == Method::Idempotent
    }

    /// The script, for messages; lossy, and empty where the web server named none.
    pub fn script(&self) -> std::borrow::Cow<'_, str> {
        let scripts = Pairs::new(&self.params).filter_map(Result::ok).filter(|(name, _)| *name == b"SCRIPT_FILENAME");
        String::from_utf8_lossy(scripts.last().map_or(&[], |(_, value)| value))
    }

    /// Appends everything in front of the body: \[GET_VALUES\] BEGIN_REQUEST, PARAMS, empty PARAMS.
    pub fn put_head(&self, out: &mut Vec<u8>, framing: Framing) {
        out.reserve(self.params.len() + 96);
        if framing.prefix {
            put_get_values(out);
        }
        let begin = BeginRequest { role: Role::Responder, keep_conn: framing.keep_conn };
        put_record(out, Kind::BeginRequest, framing.id, &begin.encode());
        put_params(out, framing.id, &self.params);
    }
}

/// Never shows params: they hold cookies and passwords.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("id", &self.id).field("body", &self.body).finish_non_exhaustive()
    }
}

/// Appends the GET_VALUES that we send: one name, which php-fpm answers with one short record (fact 1.1).
pub fn put_get_values(out: &mut Vec<u8>) {
    let mut names = Vec::with_capacity(24);
    put_pair(&mut names, variable::MPXS_CONNS, b"");
    put_record(out, Kind::GetValues, MANAGEMENT_ID, &names);
}

/// Appends what follows END_REQUEST: the end of STDIN, held back until now (fact 6.6), and the GET_VALUES of the fence.
pub fn put_fence(out: &mut Vec<u8>, id: u16) {
    put_record(out, Kind::Stdin, id, &[]);
    put_get_values(out);
}

/// The header of a STDIN record of so many bytes.
pub fn stdin_header(id: u16, content: u16) -> [u8; HEADER_LEN] {
    Header::new(Kind::Stdin, id, content).encode()
}
