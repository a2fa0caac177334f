//! A client that sees everything of an answer: status line, headers in order, body, and how it ended. And curl, for what a
//! client of its kind does by itself.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

/// A client waits so long for a byte.
const PATIENCE: Duration = Duration::from_secs(20);

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As its framing says, or where that says nothing, with an orderly close.
    Whole,
    /// Inside its body.
    Cut,
    /// Before its headers were complete.
    None,
    /// The client lost its patience.
    Late,
}

#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status_line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) ending: Ending,
}

/// One request over HTTP/1.1.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<String>,
    body: Vec<u8>,
    chunked: bool,
}

pub(crate) fn get(target: &str) -> Request {
    request("GET", target)
}

/// A form.
pub(crate) fn post(target: &str, body: impl Into<Vec<u8>>) -> Request {
    request("POST", target).header("Content-Type: application/x-www-form-urlencoded").body(body)
}

pub(crate) fn request(method: &str, target: &str) -> Request {
    let (method, target) = (method.to_owned(), target.to_owned());
    Request { method, target, headers: Vec::new(), body: Vec::new(), chunked: false }
}

impl Request {
    pub(crate) fn header(mut self, line: &str) -> Self {
        self.headers.push(line.to_owned());
        self
    }

    /// A body with its length, also where that is 0.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = format!("Content-Length: {}", self.body.len());
        self.header(&length)
    }

    /// A body in chunks, without a length.
    pub(crate) fn chunked(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.chunked = true;
        self.header("Transfer-Encoding: chunked")
    }

    fn bytes(&self, last: bool) -> Vec<u8> {
        let Self { method, target, headers, .. } = self;
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let close = if last { "Connection: close\r\n" } else { "" };
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{close}{lines}\r\n").into_bytes();
        if self.chunked {
            for chunk in self.body.chunks(10_000) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start: String = self.text().chars().take(300).collect();
        write!(out, "{:?} {:?} {:?} {start:?}", self.ending, self.status_line, self.headers)
    }
}

impl Answer {
    /// 0 without one.
    pub(crate) fn status(&self) -> u16 {
        self.status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn none(ending: Ending) -> Self {
        Self { status_line: String::new(), headers: Vec::new(), body: Vec::new(), ending }
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(server: SocketAddr, request: &Request) -> Answer {
    Kept::to(server).send(request, true)
}

/// A connection for several requests.
pub(crate) struct Kept(BufReader<TcpStream>);

impl Kept {
    pub(crate) fn to(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).expect("connect to the web server");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
        Self(BufReader::with_capacity(65_536, stream))
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Answer {
        self.send(request, false)
    }

    /// Asks, and reads nothing.
    pub(crate) fn only_send(&self, request: &Request) {
        self.0.get_ref().write_all_bytes(&request.bytes(true));
    }

    /// So many bytes of what comes.
    pub(crate) fn read_some(&mut self, count: usize) -> usize {
        let mut got = Vec::new();
        let _ = self.0.by_ref().take(count as u64).read_to_end(&mut got);
        got.len()
    }

    fn send(&mut self, request: &Request, last: bool) -> Answer {
        // Whoever is refused may be hung up on while still sending.
        self.0.get_ref().write_all_bytes(&request.bytes(last));
        self.read(&request.method).unwrap_or_else(|error| Answer::none(ending_of(&error, Ending::None)))
    }

    fn read(&mut self, method: &str) -> io::Result<Answer> {
        let mut answer = self.read_head()?;
        let status = answer.status();
        if method == "HEAD" || status == 204 || status == 304 {
            answer.ending = Ending::Whole;
            return Ok(answer);
        }
        let length = answer.header("content-length").and_then(|length| length.parse::<u64>().ok());
        let read = if answer.header("transfer-encoding").is_some() {
            self.read_chunks(&mut answer.body)
        } else if let Some(length) = length {
            let read = self.0.by_ref().take(length).read_to_end(&mut answer.body);
            read.map(|read| read as u64 == length)
        } else {
            self.0.read_to_end(&mut answer.body).map(|_| true)
        };
        answer.ending = match read {
            Ok(true) => Ending::Whole,
            Ok(false) => Ending::Cut,
            Err(error) => ending_of(&error, Ending::Cut),
        };
        Ok(answer)
    }

    fn read_head(&mut self) -> io::Result<Answer> {
        let status_line = self.line()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let answer = Answer { status_line, headers, body: Vec::new(), ending: Ending::Cut };
        // A server may tell that it takes the body first.
        if answer.status() == 100 { self.read_head() } else { Ok(answer) }
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let size = match self.line() {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                size => size?,
            };
            let Ok(size) = u64::from_str_radix(&size, 16) else { return Ok(false) };
            if self.0.by_ref().take(size).read_to_end(body)? as u64 != size {
                return Ok(false);
            }
            self.line()?;
            if size == 0 {
                return Ok(true);
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.0.by_ref().take(1 << 20).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }
}

fn ending_of(error: &io::Error, broken: Ending) -> Ending {
    let late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    if late { Ending::Late } else { broken }
}

trait WriteAllBytes {
    fn write_all_bytes(self, bytes: &[u8]);
}

impl WriteAllBytes for &TcpStream {
    fn write_all_bytes(mut self, bytes: &[u8]) {
        let _ = self.write_all(bytes);
    }
}

/// curl's exit status and output; `{url}` in the arguments stands for the web server.
pub(crate) fn curl(server: SocketAddr, arguments: &[&str]) -> (i32, String) {
    let url = format!("http://{server}");
    let arguments = arguments.iter().map(|argument| argument.replace("{url}", &url));
    let mut command = Command::new("curl");
    command.args(["-q", "-sS", "--max-time", "20"]).args(arguments).env_remove("http_proxy");
    let output = command.output().expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code().unwrap_or(-1), text)
}
