//! The receiving side of a web server's connection, which leaves the last byte of a request in the socket.
//!
//! A response that breaks off must look to the web server as it does when php-fpm dies: the connection is reset, behind all
//! that has been sent. A Unix socket does so when it is closed with bytes unread (the peer's next read fails with ECONNRESET),
//! and only then: the end of the stream alone is to nginx the end of the response, and a record that cannot be one makes
//! nginx throw away what it holds of the response, status line included. php-fpm leaves the end of STDIN unread. So the last
//! byte of a request is looked at, never taken, until its response has ended. A process that is killed breaks its responses
//! off in the same way.
//!
//! A byte that is left keeps the whole piece that it came in charged to the web server's sending side, which is not writable
//! beside a piece of 53 KiB, such as sendfile makes. So the last byte is left only where the web server has no more to send.

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
    /// Those behind them that the last look showed.
    seen: usize,
}

impl Inlet {
    /// Looks at what has come, without waiting: the part of `buffer` that is new; empty at the end of the stream. To be
    /// followed by [`Inlet::take`]. `more`: so much is still owed that there is no need to leave anything: it is taken at
    /// once.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` also where nothing has come but what was left.
    pub(super) fn look(&mut self, socket: &Socket, buffer: &mut [u8], more: bool) -> io::Result<Range<usize>> {
        let there = if more { socket.try_recv(buffer)? } else { socket.try_peek(buffer)? };
        let left = self.left.min(there);
        if more {
            self.left = 0;
        } else {
            self.seen = there - left;
        }
        if there > 0 && there == left {
            return if more { self.look(socket, buffer, more) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        Ok(left..there)
    }

    /// Takes what has been looked at. `but_one`: its last byte is left, for a break to be seen.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) fn take(&mut self, socket: &Socket, buffer: &mut [u8], but_one: bool) -> io::Result<()> {
        let there = self.left + std::mem::take(&mut self.seen);
        self.left = there.min(but_one.into());
        if there > self.left {
            socket.try_recv(&mut buffer[..there - self.left])?;
        }
        Ok(())
    }

    /// Takes what was left where more may come behind it: the response has ended in order.
    pub(super) fn release(&mut self, socket: &Socket) {
        if std::mem::take(&mut self.left) > 0 {
            // One that cannot be read from is found where it is read from next.
            _ = socket.try_recv(&mut [0]);
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

    fn take(inlet: &mut Inlet, socket: &Socket, but_one: bool) -> io::Result<Vec<u8>> {
        let mut buffer = [0; 64];
        let new = inlet.look(socket, &mut buffer, false)?;
        let new = buffer[new].to_vec();
        inlet.take(socket, &mut buffer, but_one).map(|()| new)
    }

    #[test]
    fn every_byte_is_seen_once_whatever_is_left() {
        for but_one in [false, true] {
            let (mut web, socket) = pair();
            let mut inlet = Inlet::default();
            for part in ["request", "x", "", "yz"] {
                web.write_all(part.as_bytes()).unwrap();
                match take(&mut inlet, &socket, but_one) {
                    Err(error) => assert!(part.is_empty() && error.kind() == ErrorKind::WouldBlock),
                    Ok(bytes) => assert_eq!(bytes, part.as_bytes()),
                }
                assert_eq!(inlet.left, usize::from(but_one));
            }
            inlet.release(&socket);
            assert_eq!(socket.try_peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn what_is_owed_is_taken_at_once_behind_what_was_left() {
        let (mut web, socket) = pair();
        let mut inlet = Inlet::default();
        web.write_all(b"request").unwrap();
        take(&mut inlet, &socket, true).unwrap();
        web.write_all(b"body").unwrap();
        let mut buffer = [0; 64];
        let new = inlet.look(&socket, &mut buffer, true).unwrap();
        assert_eq!(&buffer[new], &b"body"[..]);
        inlet.take(&socket, &mut buffer, true).unwrap();
        assert_eq!((inlet.left, inlet.seen), (0, 0));
        assert_eq!(socket.try_peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_close_with_the_last_byte_left_is_a_reset_behind_what_was_sent() {
        let (mut web, socket) = pair();
        web.write_all(b"request").unwrap();
        take(&mut Inlet::default(), &socket, true).unwrap();
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
        take(&mut Inlet::default(), &socket, true).unwrap();
        assert!(!socket.drain(&mut [0; 4]));
        drop(socket);
        assert_eq!(web.read_to_end(&mut vec![]).unwrap(), 0);
    }
}
