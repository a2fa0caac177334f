//! A connection to an application: opened, made ready for short messages in both directions, closed without TIME_WAIT.

use super::{
    delivery::{Delivery, delivery},
    socket::Socket,
};
use crate::{
    config::{EndpointAddress, Timeouts},
    mux::reply::Finished,
};
use socket2::{SockRef, TcpKeepalive};
use std::{io, os::fd::OwnedFd, time::Duration};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// An idle peer that is gone without a word (a host that lost power) is noticed after about a minute.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// Sent bytes that nobody takes for so long break the connection, unless the timeouts allow an application more, or
/// there are many: see [`Upstream::await_room`].
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that find room at the other side even if its worker reads nothing; the smallest window that Linux opens with is
/// several times as large.
const ROOM: u64 = 16 * 1024;
/// Bytes that wait in the kernel, in each direction, where exchanges share a connection: Linux takes it twice, which is
/// enough for 100 MB/s over a link of 2 ms.
const SHARED_QUEUE: usize = 128 * 1024;
/// One connection; closing it is dropping it.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) socket: Socket,
    /// The exchange before has ended, and its fence has not been sent.
    pub(super) owed: Option<Finished>,
    tcp: bool,
}

impl Upstream {
    /// # Errors
    /// The system's.
    pub(super) async fn connect(address: &EndpointAddress, timeouts: &Timeouts) -> io::Result<Self> {
        match address {
            EndpointAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await?.into_std()?;
                Ok(Self { socket: Socket::plain(OwnedFd::from(stream)), owed: None, tcp: false })
            }
            EndpointAddress::Tcp(address) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                // Every close is an RST, that of a connect which is given up half way included: nothing stays in
                // TIME_WAIT, here or there (section 0, point 10). Whoever closes sees to it that nothing which matters is
                // still on its way.
                SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
                Self::tcp(socket.connect(*address).await?, user_timeout(timeouts))
            }
        }
    }

    fn tcp(stream: TcpStream, user_timeout: Option<Duration>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
        socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
        socket.set_tcp_user_timeout(user_timeout)?;
        Ok(Self { socket: Socket::plain(OwnedFd::from(stream.into_std()?)), owed: None, tcp: true })
    }

    /// After each send of a request: what comes back is acknowledged at once, or php-fpm's next segment waits 40 ms for
    /// it (fact 17.3). The kernel forgets it by itself, hence each time.
    pub(super) fn quick_acks(&self) {
        if self.tcp
            && let Ok(fd) = self.socket.fd()
        {
            // A socket that refuses is broken, and reading will say so.
            _ = SockRef::from(&fd).set_tcp_quickack(true);
        }
    }

    /// To be called before so many bytes are sent. A worker may take long to read a large body, and breaking off in the
    /// middle would have it executed cut short (fact 10.6): so the connection waits for room, as long as there is
    /// somebody who says that there is none.
    pub(super) fn await_room(&self, bytes: u64) {
        if self.tcp
            && bytes > ROOM
            && let Ok(fd) = self.socket.fd()
        {
            // A socket that refuses is broken, and sending will say so.
            _ = SockRef::from(&fd).set_tcp_user_timeout(None);
        }
    }

    /// Bounds what the kernel keeps of a connection that exchanges share: the small ones wait behind all of it.
    pub(super) fn limit_queue(&self) {
        if self.tcp
            && let Ok(fd) = self.socket.fd()
        {
            // A socket that refuses is slower for some, and not wrong.
            _ = SockRef::from(&fd).set_recv_buffer_size(SHARED_QUEUE);
            _ = SockRef::from(&fd).set_send_buffer_size(SHARED_QUEUE);
        }
    }

    /// How what was sent fares. Over a Unix socket it has arrived at once.
    pub(super) fn delivery(&self) -> Delivery {
        if self.tcp { delivery(&self.socket) } else { Delivery::Done }
    }

    /// True once all that was sent has arrived. Over a Unix socket that is at once.
    pub(super) fn has_delivered(&self) -> bool {
        self.delivery() == Delivery::Done
    }
}

/// The kernel counts a closed window as well, and a script may look at its body as late as the timeouts let it.
fn user_timeout(timeouts: &Timeouts) -> Option<Duration> {
    Some(timeouts.first_byte?.max(timeouts.between_bytes?).max(USER_TIMEOUT))
}
