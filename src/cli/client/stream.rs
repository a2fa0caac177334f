//! A socket to an application, Unix or TCP.

use std::{io, time::Duration};

use fcgimux::config::EndpointAddress;
use socket2::SockRef;
use tokio::{
    io::{Interest, Ready},
    net::{TcpStream, UnixStream},
};

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(super) async fn connect(address: &EndpointAddress) -> io::Result<Self> {
        match address {
            EndpointAddress::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            EndpointAddress::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Without, a request in two writes waits 40 ms (fact 17.4).
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        // A socket that is always ready never lets a time limit have its turn otherwise: tokio counts no call of this.
        tokio::task::consume_budget().await;
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Unix(stream) => stream.ready(interest).await,
        }
    }

    /// 0 is the end of the stream.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// To be called behind each request: what comes back is acknowledged at once, or php-fpm's next segment waits 40 ms
    /// for it (fact 17.3).
    pub(super) fn quick_acks(&self) {
        if let Self::Tcp(stream) = self {
            // A socket that refuses is broken, and reading will say so.
            _ = SockRef::from(stream).set_tcp_quickack(true);
        }
    }

    /// Closing it leaves no TIME_WAIT, here or there (section 0, point 10). What is still on its way is lost.
    pub(super) fn reset_on_close(&self) {
        if let Self::Tcp(stream) = self {
            // One that refuses closes as usual.
            _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}
