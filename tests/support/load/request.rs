//! A request that knows its right answer.

use sha2::{Digest, Sha256};

use super::super::http::Answer;

/// What is sent, and what must come back.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) method: &'static str,
    pub(super) path: String,
    body: Vec<u8>,
    content_type: &'static str,
    headers: Vec<String>,
    pub(super) label: &'static str,
    check: Check,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// Token, method, length and sha256 of the body in headers; so many bytes made of the token as body (0: a line).
    Echo(usize),
    /// The token in a header.
    Token,
    /// Any whole answer.
    Whole,
}

impl Request {
    /// echo.php, which answers `n` bytes made of the token.
    pub fn echo(method: &'static str, n: usize) -> Self {
        let path = format!("/echo.php?n={n}");
        Self { check: Check::Echo(n), ..Self::new(method, &path) }
    }

    /// Another script that gives the token back in `X-Token`.
    pub fn new(method: &'static str, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            body: Vec::new(),
            content_type: "application/octet-stream",
            headers: Vec::new(),
            label: method,
            check: Check::Token,
        }
    }

    /// A body of `length` bytes that differ with `seed`.
    pub fn body(self, length: usize, seed: u64) -> Self {
        let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let bytes = std::iter::repeat_with(|| {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            word.to_le_bytes()
        });
        let body = bytes.flatten().take(length).collect();
        self.body_bytes("application/octet-stream", body)
    }

    pub fn body_bytes(mut self, content_type: &'static str, body: Vec<u8>) -> Self {
        (self.content_type, self.body) = (content_type, body);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(format!("{name}: {value}"));
        self
    }

    /// Sleeps so long in the script (echo.php, log.php, finish.php).
    pub fn micros(mut self, us: u64) -> Self {
        self.path = with_query(&self.path, &format!("us={us}"));
        self
    }

    /// Its latencies are kept under this name; the method by default.
    pub fn label(mut self, label: &'static str) -> Self {
        self.label = label;
        self
    }

    /// Takes any whole answer with status 200, without a token.
    pub fn any_answer(mut self) -> Self {
        self.check = Check::Whole;
        self
    }

    pub(super) fn bytes(&self, token: &str) -> Vec<u8> {
        let path = with_query(&self.path, &format!("token={token}"));
        let mut text = format!("{} {path} HTTP/1.1\r\nHost: test\r\n", self.method);
        if !self.body.is_empty() || self.method == "POST" {
            text += &format!("Content-Type: {}\r\nContent-Length: {}\r\n", self.content_type, self.body.len());
        }
        for header in &self.headers {
            text += header;
            text += "\r\n";
        }
        text += "\r\n";
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// What is wrong with an answer, as a kind and a message.
    pub(super) fn fault(&self, token: &str, answer: &Answer) -> Option<(String, String)> {
        if answer.status != 200 {
            let start = String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)]).into_owned();
            return Some((format!("status {}", answer.status), start));
        }
        if self.check == Check::Whole {
            return None;
        }
        let expect = |name: &'static str, wanted: &str| {
            let got = answer.header(name).unwrap_or("nothing");
            let foreign = if name == "x-token" { "foreign answer" } else { "wrong answer" };
            (got != wanted).then(|| (foreign.to_owned(), format!("{name} is {got}, not {wanted}")))
        };
        let token_fault = expect("x-token", token).or_else(|| expect("x-method", self.method));
        let Check::Echo(n) = self.check else { return token_fault };
        let digest: String = Sha256::digest(&self.body).iter().map(|byte| format!("{byte:02x}")).collect();
        token_fault
            .or_else(|| expect("x-length", &self.body.len().to_string()))
            .or_else(|| expect("x-sha256", &digest))
            .or_else(|| {
                let wrong = !is_echo(token, n, &answer.body);
                wrong.then(|| ("wrong answer".to_owned(), format!("{} bytes of body", answer.body.len())))
            })
    }
}

fn with_query(path: &str, query: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}{query}")
}

/// As echo.php makes it.
fn is_echo(token: &str, n: usize, body: &[u8]) -> bool {
    if n == 0 {
        return body == format!("{token}\n").as_bytes();
    }
    let unit = format!("{token} ");
    body.len() == n && body.iter().zip(unit.as_bytes().iter().cycle()).all(|(got, wanted)| got == wanted)
}
