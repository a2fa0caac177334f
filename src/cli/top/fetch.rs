//! Asks the admin server.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use fcgimux::admin::overview::Overview;

/// For connecting, and for the answer, which comes from memory: a key is waited for as long to be seen.
const PATIENCE: Duration = Duration::from_secs(3);

/// Far more than thousands of endpoints take.
const LONGEST: usize = 64 * 1024 * 1024;
/// Bytes read at once.
const PIECE: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0} is no address of an admin server: {1}; write HOST:PORT")]
    Address(String, io::Error),
    #[error("no admin server at {0}: {1}; is fcgimux running, and does its admin.listen say so?")]
    Connect(String, io::Error),
    #[error("the admin server at {0} did not answer: {1}")]
    Unanswered(String, io::Error),
    #[error("what listens at {0} is no admin server of fcgimux, or of another version: {1}")]
    Foreign(String, String),
}

pub(super) fn fetch(admin: &str) -> Result<Overview, FetchError> {
    let mut stream = connect(admin)?;
    let answer = ask(&mut stream, admin).map_err(|error| FetchError::Unanswered(admin.to_owned(), error))?;
    read(&answer).map_err(|why| FetchError::Foreign(admin.to_owned(), why))
}

/// To the first of its addresses that takes it.
fn connect(admin: &str) -> Result<TcpStream, FetchError> {
    let named = |error| FetchError::Address(admin.to_owned(), error);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in admin.to_socket_addrs().map_err(named)? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(FetchError::Connect(admin.to_owned(), last))
}

/// In HTTP/1.0, whose answers end with their connection and come in one piece.
fn ask(stream: &mut TcpStream, admin: &str) -> io::Result<Vec<u8>> {
    let begun = super::now();
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /overview HTTP/1.0\r\nHost: {admin}\r\nAccept: application/json\r\n\r\n")?;
    let (mut answer, mut piece) = (vec![], vec![0; PIECE]);
    while answer.len() < LONGEST {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut piece)? {
            0 => break,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    Ok(answer)
}

fn read(answer: &[u8]) -> Result<Overview, String> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("it does not speak HTTP")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") if status.starts_with("HTTP/1.") => {}
        Some(code) if status.starts_with("HTTP/1.") => return Err(format!("status {code} for /overview")),
        _ => return Err("it does not speak HTTP".to_owned()),
    }
    serde_json::from_slice(&answer[end + 4..]).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    #[test]
    fn an_answer_that_drips_is_not_waited_for() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let mut client = server.accept().unwrap().0;
            while client.write_all(b"H").is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        });
        let begun = super::super::now();
        let error = fetch(&address).err().unwrap();
        assert!(matches!(error, FetchError::Unanswered(..)) && begun.elapsed() < 2 * PATIENCE, "{error}");
    }

    #[test]
    fn what_is_no_overview_is_told_apart() {
        for (answer, says) in [
            ("SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
            ("SSH-2.0-OpenSSH_9.2 200\r\n\r\n", "does not speak HTTP"),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "status 404"),
            ("HTTP/1.0 200 OK\r\n\r\n<html>", "expected value"),
            ("HTTP/1.0 200 OK\r\n\r\n{\"version\": \"0.1.0\"", "EOF"),
            ("HTTP/1.0 200 OK\r\n\r\n{\"version\": \"0.1.0\"}", "missing field"),
        ] {
            let why = read(answer.as_bytes()).unwrap_err();
            assert!(why.contains(says), "{answer:?}: {why}");
        }
    }
}
