//! A small HTTP/1.1 client that knows a truncated answer from a whole one.

use std::{fmt, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    runtime::Builder,
    time::timeout,
};

/// Header lines and chunk sizes longer than this are an error.
const MAX_LINE: u64 = 64 * 1024;

/// One whole answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the server keeps the connection.
    pub keeps: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    Connect(String),
    /// Broke before the first byte of the answer.
    Unanswered(String),
    /// Broke inside the answer.
    Truncated(String),
    Malformed(String),
    TimedOut,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl HttpError {
    /// The kind, without what differs from case to case.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_) => "not connected",
            Self::Unanswered(_) => "closed before the answer",
            Self::Truncated(_) => "truncated",
            Self::Malformed(_) => "malformed",
            Self::TimedOut => "timed out",
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => out.write_str(self.kind()),
            Self::Connect(why) | Self::Unanswered(why) | Self::Truncated(why) | Self::Malformed(why) => {
                write!(out, "{}: {why}", self.kind())
            }
        }
    }
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<Answer, HttpError> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    ask(address, request.as_bytes(), limit)
}

/// One request, given as its bytes, on a connection of its own.
pub fn ask(address: SocketAddr, request: &[u8], limit: Duration) -> Result<Answer, HttpError> {
    let exchange = async {
        let mut stream = connect(address).await?;
        send(&mut stream, request).await?;
        // What answers a HEAD has a length, and no body.
        if request.starts_with(b"HEAD ") { read_head(&mut stream).await } else { read_answer(&mut stream).await }
    };
    block_on(async { timeout(limit, exchange).await.unwrap_or(Err(HttpError::TimedOut)) })
}

pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
}

pub(super) async fn connect(address: SocketAddr) -> Result<BufReader<TcpStream>, HttpError> {
    let stream = TcpStream::connect(address).await.map_err(|error| HttpError::Connect(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| HttpError::Connect(error.to_string()))?;
    Ok(BufReader::with_capacity(16 * 1024, stream))
}

pub(super) async fn send(stream: &mut BufReader<TcpStream>, bytes: &[u8]) -> Result<(), HttpError> {
    stream.write_all(bytes).await.map_err(|error| HttpError::Unanswered(error.to_string()))
}

pub(super) async fn read_answer(stream: &mut BufReader<TcpStream>) -> Result<Answer, HttpError> {
    let mut answer = read_head(stream).await?;
    match framing(&answer)? {
        Framing::Length(length) => {
            answer.body.resize(length, 0);
            let mut body = std::mem::take(&mut answer.body);
            stream.read_exact(&mut body).await.map_err(truncated)?;
            answer.body = body;
        }
        Framing::Chunked => while read_chunk(stream, &mut answer.body).await? {},
        Framing::Close => {
            answer.keeps = false;
            stream.read_to_end(&mut answer.body).await.map_err(truncated)?;
        }
    }
    Ok(answer)
}

/// How the end of a body is known.
pub(super) enum Framing {
    Length(usize),
    Chunked,
    Close,
}

pub(super) fn framing(answer: &Answer) -> Result<Framing, HttpError> {
    if answer.header("transfer-encoding").is_some() {
        return Ok(Framing::Chunked);
    }
    if answer.status == 204 || answer.status == 304 {
        return Ok(Framing::Length(0));
    }
    match answer.header("content-length") {
        Some(length) => length.parse().map(Framing::Length).map_err(|_| HttpError::Malformed(length.to_owned())),
        None => Ok(Framing::Close),
    }
}

/// Status line and headers.
pub(super) async fn read_head(stream: &mut BufReader<TcpStream>) -> Result<Answer, HttpError> {
    let status = read_line(stream).await.map_err(|why| match why {
        HttpError::Truncated(why) => HttpError::Unanswered(why),
        other => other,
    })?;
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = code.ok_or(HttpError::Malformed(status))?;
    let mut answer = Answer { status, keeps: true, ..Answer::default() };
    loop {
        let line = read_line(stream).await?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| HttpError::Malformed(line.clone()))?;
        answer.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    answer.keeps = !answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(answer)
}

/// Appends one chunk; false when it was the last.
pub(super) async fn read_chunk(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Result<bool, HttpError> {
    let size = read_line(stream).await?;
    let length = usize::from_str_radix(&size, 16).map_err(|_| HttpError::Malformed(size))?;
    let start = body.len();
    body.resize(start + length, 0);
    stream.read_exact(&mut body[start..]).await.map_err(truncated)?;
    read_line(stream).await?;
    Ok(length > 0)
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> Result<String, HttpError> {
    let mut line = Vec::new();
    let read = stream.take(MAX_LINE).read_until(b'\n', &mut line).await.map_err(truncated)?;
    if read == 0 || line.last() != Some(&b'\n') {
        return Err(HttpError::Truncated("end of the connection".to_owned()));
    }
    let text = String::from_utf8_lossy(&line);
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn truncated(error: std::io::Error) -> HttpError {
    HttpError::Truncated(error.to_string())
}
