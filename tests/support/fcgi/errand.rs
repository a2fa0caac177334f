//! One exchange that a test wants done with a [`Multiplexer`](super::Multiplexer), and what came of it.

use std::time::Duration;

use super::{
    DATA, END_REQUEST, STDERR, STDIN, STDOUT, begin_role,
    pattern::Pattern,
    random::Random,
    record::{params, record_padded},
};

#[derive(Clone, Debug)]
pub struct Errand {
    pub token: String,
    pub method: &'static str,
    pub role: u16,
    /// Bytes of STDIN.
    pub body: u64,
    /// Bytes of DATA, for a filter.
    pub data: u64,
    /// Bytes of the response behind its header block.
    pub response: u64,
    /// More of the query: `delay=5&abort=late`.
    pub more: String,
    pub abort: Abort,
}

/// When the web server takes the request back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    Never,
    /// When so many bytes of its body have been sent.
    InBody(u64),
    /// When so many bytes of the response have come.
    InResponse(u64),
}

impl Errand {
    pub fn get(token: impl ToString, response: u64) -> Self {
        Self {
            token: token.to_string(),
            method: "GET",
            role: 1,
            body: 0,
            data: 0,
            response,
            more: String::new(),
            abort: Abort::Never,
        }
    }

    pub fn post(token: impl ToString, body: u64, response: u64) -> Self {
        Self { method: "POST", body, ..Self::get(token, response) }
    }

    /// One more part of the query.
    pub fn and(mut self, more: &str) -> Self {
        self.more = format!("{}&{more}", self.more);
        self
    }

    pub fn abort(mut self, when: Abort) -> Self {
        self.abort = when;
        self
    }

    pub fn role(mut self, role: u16) -> Self {
        self.role = role;
        self
    }

    pub fn data(mut self, bytes: u64) -> Self {
        self.data = bytes;
        self
    }

    pub fn query(&self) -> String {
        let mut query = format!("token={}&n={}", self.token, self.response);
        if self.role != 2 {
            query += &format!("&body={}", self.body);
        }
        if self.role == 3 {
            query += &format!("&data={}", self.data);
        }
        query + &self.more
    }

    /// BEGIN_REQUEST and PARAMS.
    pub fn head(&self, id: u16, keep: bool) -> Vec<u8> {
        let (query, length, data) = (self.query(), self.body.to_string(), self.data.to_string());
        let mut pairs = vec![
            ("SCRIPT_FILENAME", "/srv/app"),
            ("SCRIPT_NAME", "/app"),
            ("REQUEST_METHOD", self.method),
            ("QUERY_STRING", &query),
        ];
        if self.body > 0 {
            pairs.extend([("CONTENT_TYPE", "application/octet-stream"), ("CONTENT_LENGTH", &length)]);
        }
        if self.role == 3 {
            pairs.extend([("FCGI_DATA_LENGTH", data.as_str()), ("FCGI_DATA_LAST_MOD", "0")]);
        }
        let mut bytes = begin_role(id, self.role, u8::from(keep));
        bytes.extend(params(id, pairs));
        bytes
    }

    /// Everything behind the head: STDIN, and DATA of a filter, ended.
    pub fn rest(&self, id: u16, random: &mut Random) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut outgoing = Outgoing::default();
        while outgoing.next(self, id, random, &mut bytes) {}
        bytes
    }
}

/// What of the streams of an errand has been sent.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) stdin: u64,
    data: u64,
    stdin_ended: bool,
    ended: bool,
}

impl Outgoing {
    /// Appends the next record; false: that was the last.
    pub(super) fn next(&mut self, errand: &Errand, id: u16, random: &mut Random, out: &mut Vec<u8>) -> bool {
        if errand.role == 2 {
            self.ended = true;
            return false;
        }
        let (kind, sent, whole, pattern) = if self.stdin_ended {
            (DATA, &mut self.data, errand.data, Pattern::of_data(&errand.token))
        } else {
            (STDIN, &mut self.stdin, errand.body, Pattern::of_body(&errand.token))
        };
        let most = if random.one_in(3) { 65_535 } else { 16_384 };
        let size = random.size(most).max(1).min(whole - *sent);
        let mut content = vec![0; usize::try_from(size).expect("a size")];
        pattern.fill(*sent, &mut content);
        let padding = if random.one_in(2) { 0 } else { random.below(8) };
        out.extend(record_padded(kind, id, &content, u8::try_from(padding).expect("below 8")));
        *sent += size;
        if size == 0 {
            self.ended = kind == DATA || errand.role != 3;
            self.stdin_ended = true;
        }
        !self.ended
    }
}

/// What has come for an errand.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// The header block.
    pub head: String,
    /// Bytes behind it.
    pub received: u64,
    /// The first thing that was wrong.
    pub wrong: Option<String>,
    pub stderr: String,
    /// Application and protocol status of END_REQUEST.
    pub end: Option<(u32, u8)>,
    /// Whether ABORT_REQUEST was sent before the end.
    pub aborted: bool,
    pub took: Duration,
    raw_head: Vec<u8>,
    /// Whether it comes from the application, rather than in its stead.
    is_answer: bool,
}

impl Done {
    /// Takes in a record of the response.
    pub(super) fn take(&mut self, errand: &Errand, kind: u8, content: &[u8]) {
        match kind {
            _ if self.end.is_some() => self.is_wrong(errand, format!("a record of type {kind} behind END_REQUEST")),
            STDOUT => self.take_stdout(errand, content),
            STDERR => self.stderr += &String::from_utf8_lossy(content),
            END_REQUEST if content.len() == 8 => {
                let status = u32::from_be_bytes([content[0], content[1], content[2], content[3]]);
                self.end = Some((status, content[4]));
            }
            _ => self.is_wrong(errand, format!("a record of type {kind} of {} bytes", content.len())),
        }
    }

    fn take_stdout(&mut self, errand: &Errand, content: &[u8]) {
        let mut content = content;
        if self.head.is_empty() {
            let before = self.raw_head.len();
            self.raw_head.extend_from_slice(content);
            let Some(at) = self.raw_head.windows(4).position(|window| window == b"\r\n\r\n") else { return };
            self.head = String::from_utf8_lossy(&self.raw_head[..at + 4]).into_owned();
            self.raw_head = Vec::new();
            content = &content[at + 4 - before..];
            let token = self.header("X-Token").map(str::to_owned);
            self.is_answer = token.is_some();
            if token.is_some_and(|token| token != errand.token) {
                self.is_wrong(errand, format!("has the head of another: {:?}", self.head));
            }
        }
        if self.is_answer
            && let Some(at) = Pattern::of(&errand.token).first_difference(self.received, content)
        {
            self.is_wrong(errand, format!("byte {at} is another's"));
        }
        self.received += content.len() as u64;
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Of the `Status` header; 200 without one, 0 without a head.
    pub fn http_status(&self) -> u16 {
        let said = self.header("Status").and_then(|status| status.split(' ').next()?.parse().ok());
        said.unwrap_or(if self.head.is_empty() { 0 } else { 200 })
    }

    /// Whether the whole of its own response came, ended, and nothing else.
    pub fn verdict(&self, errand: &Errand) -> Result<(), String> {
        let token = &errand.token;
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        let is = (self.http_status(), self.header("X-Token"), self.received, self.end, self.stderr.as_str());
        let wanted = (200, Some(token.as_str()), errand.response, Some((0, 0)), "");
        if is == wanted { Ok(()) } else { Err(format!("{token}: {is:?} in place of {wanted:?}")) }
    }

    /// Like [`Self::verdict`], for one that was taken back: what has come of it must be right, and have one end.
    pub fn verdict_of_aborted(&self, errand: &Errand) -> Result<(), String> {
        match &self.wrong {
            Some(wrong) => Err(wrong.clone()),
            None if self.end.is_none() => Err(format!("{}: no END_REQUEST behind ABORT_REQUEST", errand.token)),
            None => Ok(()),
        }
    }

    pub(super) fn is_wrong(&mut self, errand: &Errand, what: String) {
        self.wrong.get_or_insert_with(|| format!("{}: {what}", errand.token));
    }
}
