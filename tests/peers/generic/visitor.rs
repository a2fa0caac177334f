//! A visitor, one request a connection.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Visitor {
    server: SocketAddr,
}

#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Whether it ended as its framing says.
    pub(super) whole: bool,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Visitor {
    pub(super) fn of(server: SocketAddr) -> Self {
        Self { server }
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.get_with(path, "")
    }

    /// With whole header lines.
    pub(super) fn get_with(&self, path: &str, headers: &str) -> Answer {
        parse(&read(self.ask("GET", path, headers, b"")))
    }

    pub(super) fn post(&self, path: &str, body: &[u8]) -> Answer {
        let headers = format!("Content-Type: application/octet-stream\r\nContent-Length: {}\r\n", body.len());
        parse(&read(self.ask("POST", path, &headers, body)))
    }

    /// When each line `chunk` of an answer came.
    pub(super) fn chunks(&self, path: &str) -> Vec<Instant> {
        let mut stream = self.ask("GET", path, "", b"");
        let (mut text, mut times, mut piece) = (String::new(), Vec::new(), [0; 4_096]);
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            text += &String::from_utf8_lossy(&piece[..count]);
            times.resize(text.matches("chunk ").count(), Instant::now());
        }
        times
    }

    /// Goes as soon as the answer has this in it.
    #[track_caller]
    pub(super) fn leave_in(&self, path: &str, text: &str) {
        let mut stream = self.ask("GET", path, "", b"");
        let (mut got, mut piece) = (String::new(), [0; 4_096]);
        while !got.contains(text) {
            let count = stream.read(&mut piece).expect("an answer");
            assert!(count > 0, "it ended: {got}");
            got += &String::from_utf8_lossy(&piece[..count]);
        }
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.server).expect("connect to the web server");
        stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
        let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).expect("send");
        stream
    }
}

fn read(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset shows as an answer that is not whole.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

fn parse(bytes: &[u8]) -> Answer {
    let Some(split) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Answer::default() };
    let (head, body) = (String::from_utf8_lossy(&bytes[..split]).into_owned(), &bytes[split + 4..]);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let mut answer = Answer { status, headers, ..Answer::default() };
    let chunked = answer.header("transfer-encoding").is_some();
    let length = answer.header("content-length").and_then(|length| length.parse::<usize>().ok());
    (answer.body, answer.whole) = match length {
        _ if chunked => dechunk(body),
        Some(length) => (body.to_vec(), body.len() == length),
        None => (body.to_vec(), true),
    };
    answer
}

/// The content of chunks, and whether the last of them came.
fn dechunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|window| window == b"\r\n") else { return (body, false) };
        let size = std::str::from_utf8(&rest[..line]).ok().and_then(|size| usize::from_str_radix(size.trim(), 16).ok());
        match (size, rest.get(line + 2..)) {
            (Some(0), _) => return (body, true),
            (Some(size), Some(content)) if content.len() >= size + 2 => {
                body.extend_from_slice(&content[..size]);
                rest = &content[size + 2..];
            }
            _ => return (body, false),
        }
    }
}
