//! Has what was sent over TCP been taken by the other side's kernel?

use super::socket::Socket;
use nix::{getsockopt_impl, libc, sockopt_impl, sys::socket::getsockopt};
use std::time::Duration;

/// What is not acknowledged for so long is looked at: the kernel sends it again after 200 ms at the soonest.
pub(super) const SILENCE: Duration = Duration::from_millis(300);
/// ... and again so much later, until it has arrived.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Bytes of Linux's `struct tcp_info` up to the last one of interest.
const TCP_INFO_LEN: usize = 148;
/// Where `tcpi_retransmits` stands in it: how often its oldest segment has been sent again since the last acknowledgement.
const RETRANSMITS: usize = 2;
/// Where `tcpi_unacked` stands in it: segments sent and not acknowledged.
const UNACKED: usize = 24;
/// Where `tcpi_last_ack_recv` stands in it: milliseconds since the other side last acknowledged anything.
const LAST_ACK: usize = 56;
/// Where `tcpi_notsent_bytes` stands in it: bytes that wait for room at the other side (Linux 4.6).
const NOT_SENT: usize = 144;

sockopt_impl!(TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, [u8; TCP_INFO_LEN]);

/// What the kernels have made of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Every byte has been acknowledged. What has been is read by the application even if the connection is reset then;
    /// what has not is lost.
    Done,
    /// Not yet; the other side last acknowledged something so long ago. Zero until the kernel has sent it again in vain:
    /// what is new needs its time. One without room for more says so again and again.
    Waiting(Duration),
}

/// Of a broken connection nothing more will be.
pub(super) fn delivery(socket: &Socket) -> Delivery {
    let Ok(info) = socket.fd().and_then(|fd| Ok(getsockopt(&fd, TcpInfo)?)) else { return Delivery::Done };
    let field = |at: usize| info[at..at + 4].try_into().map_or(0, u32::from_ne_bytes);
    match field(UNACKED) | field(NOT_SENT) {
        0 => Delivery::Done,
        _ if info[RETRANSMITS] == 0 => Delivery::Waiting(Duration::ZERO),
        _ => Delivery::Waiting(Duration::from_millis(field(LAST_ACK).into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::fd::OwnedFd,
        time::Instant,
    };

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the kernel takes real time")]
    fn bytes_are_delivered_once_the_other_side_has_room_for_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        let socket = Socket::plain(OwnedFd::from(ours.try_clone().unwrap()));
        let mut sent = 0;
        while let Ok(more) = ours.write(&[7; 65_536]) {
            sent += more;
        }
        assert!(sent > 0 && delivery(&socket) != Delivery::Done);
        theirs.read_exact(&mut vec![0; sent]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while delivery(&socket) != Delivery::Done {
            assert!(Instant::now() < deadline, "never delivered");
        }
    }
}
