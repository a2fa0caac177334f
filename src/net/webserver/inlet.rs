//! The receiving side of a web server's connection, which leaves the last byte of what has come in the socket.
//!
//! A response that breaks off must look to the web server as it does when php-fpm dies: the connection is reset, behind all
//! that has been sent. A Unix socket does so when it is closed with bytes unread (the peer's next read fails with ECONNRESET),
//! and only then: the end of the stream alone is to nginx the end of the response, and a record that cannot be one makes
//! nginx throw away what it holds of the response, status line included. So the last byte is looked at, never taken, until
//! more comes behind it or the connection ends in order ([`Inlet::drain`]). A process that is killed breaks its responses off
//! in the same way.

use crate::net::socket::Socket;
use std::{
    io::{self, ErrorKind},
    ops::Range,
};

/// See the [module](self).
#[derive(Debug, Default)]
pub(in crate::net) struct Inlet {
    /// Bytes that stand first in the socket and have been looked at already.
    left: usize,
}

impl Inlet {
    /// Takes in what has come, without waiting: the part of `buffer` that is new; empty at the end of the stream. `more`: so
    /// much is still owed that the last byte cannot be among what fits.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` also where nothing has come but what was left.
    pub(super) fn take(&mut self, socket: &Socket, buffer: &mut [u8], more: bool) -> io::Result<Range<usize>> {
        if more {
            let read = socket.try_recv(buffer)?;
            let new = std::mem::take(&mut self.left).min(read)..read;
            return if read > 0 && new.is_empty() { self.take(socket, buffer, more) } else { Ok(new) };
        }
        let seen = socket.try_peek(buffer)?;
        if seen > 0 && seen == self.left {
            return Err(ErrorKind::WouldBlock.into());
        }
        let new = self.left..seen;
        if seen > 1 {
            let taken = socket.try_recv(&mut buffer[..seen - 1])?;
            self.left = seen - taken;
        } else {
            self.left = seen;
        }
        Ok(new)
    }

    /// Takes what was left, so that a close is the end of the stream and no break. Returns whether the stream has ended.
    pub(in crate::net) fn drain(socket: &Socket, buffer: &mut [u8]) -> bool {
        loop {
            match socket.try_recv(buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    fn pair() -> (UnixStream, Socket) {
        let (web, ours) = UnixStream::pair().unwrap();
        (web, Socket::plain(ours))
    }

    fn take(inlet: &mut Inlet, socket: &Socket) -> io::Result<Vec<u8>> {
        let mut buffer = [0; 64];
        inlet.take(socket, &mut buffer, false).map(|new| buffer[new].to_vec())
    }

    #[test]
    fn every_byte_is_seen_once_and_the_last_one_stays() {
        let (mut web, socket) = pair();
        let mut inlet = Inlet::default();
        for part in ["request", "x", "", "yz"] {
            web.write_all(part.as_bytes()).unwrap();
            match take(&mut inlet, &socket) {
                Err(error) => assert!(part.is_empty() && error.kind() == ErrorKind::WouldBlock),
                Ok(bytes) => assert_eq!(bytes, part.as_bytes()),
            }
            assert_eq!(inlet.left, 1);
        }
    }

    #[test]
    fn a_close_with_the_last_byte_left_is_a_reset_behind_what_was_sent() {
        let (mut web, socket) = pair();
        web.write_all(b"request").unwrap();
        take(&mut Inlet::default(), &socket).unwrap();
        socket.try_send(b"half").unwrap();
        drop(socket);
        let mut got = vec![];
        assert_eq!(web.read_to_end(&mut got).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(got, b"half");
    }

    #[test]
    fn a_close_behind_a_drain_is_the_end_of_the_stream() {
        let (mut web, socket) = pair();
        web.write_all(b"request").unwrap();
        take(&mut Inlet::default(), &socket).unwrap();
        assert!(!Inlet::drain(&socket, &mut [0; 4]));
        drop(socket);
        assert_eq!(web.read_to_end(&mut vec![]).unwrap(), 0);
    }
}
