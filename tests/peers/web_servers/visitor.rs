//! A visitor: raw requests over HTTP/1.1, and answers of which is known whether they came whole.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

/// A visitor waits so long for a byte.
const PATIENCE: Duration = Duration::from_secs(20);

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As its framing says: all bytes of its length, the last chunk, or (where neither is told) an orderly close.
    Whole,
    /// In the middle.
    Cut,
    /// No byte of it came.
    None,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) ending: Ending,
    /// From the request to the first byte of the body.
    pub(crate) first_byte: Duration,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn sha256(&self) -> String {
        sha256(&self.body)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn get(server: SocketAddr, path: &str) -> Answer {
    send(server, "GET", path, "", b"")
}

/// A body with its length, of a type.
pub(crate) fn post(server: SocketAddr, path: &str, content_type: &str, body: &[u8]) -> Answer {
    let headers = format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
    send(server, "POST", path, &headers, body)
}

/// A body in chunks, without a length.
pub(crate) fn post_chunked(server: SocketAddr, path: &str, body: &[u8]) -> Answer {
    let mut bytes = Vec::with_capacity(body.len() + body.len() / 1000);
    for chunk in body.chunks(10_000) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    let headers = "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n";
    send(server, "POST", path, headers, &bytes)
}

pub(crate) fn send(server: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = connect(server);
    let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    let start = Instant::now();
    // Whoever is refused may be hung up on while it still sends.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    read(stream, method == "HEAD", start)
}

/// Asks, reads so many bytes and goes.
pub(crate) fn leave_after(server: SocketAddr, path: &str, bytes: usize) {
    let stream = connect(server);
    write!(&stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").expect("send");
    let mut got = Vec::new();
    let read = stream.take(bytes as u64).read_to_end(&mut got);
    let start = String::from_utf8_lossy(&got[..got.len().min(400)]).into_owned();
    assert_eq!(got.len(), bytes, "{read:?}: {start}");
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).expect("connect to the web server");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
    stream
}

fn read(stream: TcpStream, bodiless: bool, start: Instant) -> Answer {
    let none = Answer { status: 0, headers: Vec::new(), body: Vec::new(), ending: Ending::None, first_byte: PATIENCE };
    let mut reader = BufReader::with_capacity(65_536, stream);
    let Some(mut answer) = read_head(&mut reader) else { return none };
    if bodiless {
        answer.ending = Ending::Whole;
        return answer;
    }
    let _ = reader.fill_buf();
    answer.first_byte = start.elapsed();
    let framed = if answer.header("transfer-encoding").is_some() {
        read_chunks(&mut reader, &mut answer.body)
    } else if let Some(length) = answer.header("content-length") {
        let length = length.parse().expect("a length");
        reader.by_ref().take(length).read_to_end(&mut answer.body).map(|read| read as u64 == length)
    } else {
        reader.read_to_end(&mut answer.body).map(|_| true)
    };
    answer.ending = if framed.unwrap_or(false) { Ending::Whole } else { Ending::Cut };
    answer
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Answer> {
    let status = line(reader).ok()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = Vec::new();
    loop {
        let line = line(reader).ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    // A server may tell that it takes the body first.
    if status == 100 {
        return read_head(reader);
    }
    Some(Answer { status, headers, body: Vec::new(), ending: Ending::Cut, first_byte: PATIENCE })
}

fn read_chunks(reader: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let size = line(reader)?;
        let Ok(size) = u64::from_str_radix(&size, 16) else { return Ok(false) };
        if reader.by_ref().take(size).read_to_end(body)? as u64 != size {
            return Ok(false);
        }
        line(reader)?;
        if size == 0 {
            return Ok(true);
        }
    }
}

fn line(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    reader.by_ref().take(65_536).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}
