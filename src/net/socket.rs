//! A connected stream socket, Unix or TCP, that costs no registration with the event loop until it must be waited for.
//!
//! A short connection from a web server is usually accepted with its request already there, answered within a
//! millisecond and closed: reading and writing at once saves two system calls and a turn of the event loop each time.

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessage, MsgFlags, Shutdown, recv, send, sendmsg, shutdown},
};
use std::{
    io::{self, ErrorKind, IoSlice},
    ops::Range,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    task::{Context, Poll, ready},
};
use tokio::io::unix::AsyncFd;

/// Never blocks: every call either does something at once or says that it would have to wait.
#[derive(Debug)]
pub(super) enum Socket {
    /// Not known to the event loop.
    Plain(OwnedFd),
    /// Wakes its task when it becomes readable or writable.
    Watched(AsyncFd<OwnedFd>),
    /// Between the two, and after a failed registration.
    Void,
}

const FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

impl Socket {
    pub(super) fn plain(fd: impl Into<OwnedFd>) -> Self {
        Self::Plain(fd.into())
    }

    /// Registers the socket with the event loop; does nothing the second time.
    pub(super) fn watch(&mut self) -> io::Result<()> {
        if let Self::Plain(_) = self
            && let Self::Plain(fd) = std::mem::replace(self, Self::Void)
        {
            *self = Self::Watched(watched(fd)?);
        }
        Ok(())
    }

    pub(super) fn is_watched(&self) -> bool {
        matches!(self, Self::Watched(_))
    }

    pub(super) fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        match self {
            Self::Plain(fd) => Ok(fd.as_fd()),
            Self::Watched(fd) => Ok(fd.get_ref().as_fd()),
            Self::Void => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn raw(&self) -> nix::Result<i32> {
        self.fd().map(|fd| fd.as_raw_fd()).map_err(|_| nix::Error::ENOTCONN)
    }

    /// Reads what is there; 0 is the end of the stream.
    pub(super) fn try_recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| recv(self.raw()?, buffer, FLAGS))
    }

    pub(super) fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| send(self.raw()?, bytes, FLAGS))
    }

    pub(super) fn try_send_all_of(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        retry(|| sendmsg::<()>(self.raw()?, slices, &[] as &[ControlMessage<'_>], FLAGS, None))
    }

    /// Looks at what is there and leaves it there; 0 is the end of the stream.
    pub(super) fn try_peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| recv(self.raw()?, buffer, FLAGS | MsgFlags::MSG_PEEK))
    }

    /// Takes all that is there, so that a close is the end of the stream and no reset. Returns whether the stream has ended.
    pub(super) fn drain(&self, buffer: &mut [u8]) -> bool {
        loop {
            match self.try_recv(buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }

    /// Sends no more: the peer reads the end of the stream behind what was sent.
    pub(super) fn shut_down_sending(&self) -> io::Result<()> {
        retry(|| shutdown(self.raw()?, Shutdown::Write))
    }

    /// The connection is closed by the peer, or broken: nothing can be said to it any more. A peer that only has ended its
    /// sending is there; over TCP nothing tells one from the other, and both are taken to be there.
    pub(super) fn is_hung_up(&self) -> bool {
        self.poll_once(PollFlags::empty()).is_none_or(|seen| seen.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
    }

    /// What of `wanted` holds now, and whether the peer has hung up; `None`: there is no connection.
    fn poll_once(&self, wanted: PollFlags) -> Option<PollFlags> {
        let fd = self.fd().ok()?;
        let mut looked_at = [PollFd::new(fd, wanted)];
        retry(|| poll(&mut looked_at, PollTimeout::ZERO)).ok()?;
        looked_at[0].revents()
    }

    /// Takes in more through `take`, once there is more. Registers the socket first. An empty range is the end of the
    /// stream.
    pub(super) fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        mut take: impl FnMut(&Self) -> io::Result<Range<usize>>,
    ) -> Poll<io::Result<Range<usize>>> {
        self.watch()?;
        loop {
            let Self::Watched(fd) = &*self else { return Poll::Ready(Err(ErrorKind::NotConnected.into())) };
            let mut guard = ready!(fd.poll_read_ready(context))?;
            match take(self) {
                // What has been left in the socket hides the end of the stream behind it.
                Err(error) if error.kind() == ErrorKind::WouldBlock && guard.ready().is_read_closed() => {
                    return Poll::Ready(Ok(0..0));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => guard.clear_ready(),
                taken => return Poll::Ready(taken),
            }
        }
    }

    /// Reads once the socket is readable. Registers it first.
    pub(super) fn poll_recv(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.watch()?;
        let Self::Watched(fd) = self else { return Poll::Ready(Err(ErrorKind::NotConnected.into())) };
        loop {
            let mut guard = ready!(fd.poll_read_ready(context))?;
            match retry(|| recv(fd.as_raw_fd(), buffer, FLAGS)) {
                Ok(read) => {
                    // A short read has emptied the socket; what comes later raises a new event.
                    if read > 0 && read < buffer.len() {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(read));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Ready when anything can be read: bytes, the end or an error.
    pub(super) fn poll_anything(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.watch().is_err() {
            return Poll::Ready(());
        }
        let Self::Watched(fd) = self else { return Poll::Ready(()) };
        loop {
            let Ok(mut guard) = ready!(fd.poll_read_ready(context)) else { return Poll::Ready(()) };
            match retry(|| recv(fd.as_raw_fd(), &mut [0], FLAGS | MsgFlags::MSG_PEEK)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => guard.clear_ready(),
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Ready when the connection is closed by the peer, or broken: see [`Socket::is_hung_up`].
    pub(super) fn poll_hangup(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.watch().is_err() {
            return Poll::Ready(());
        }
        let Self::Watched(fd) = &*self else { return Poll::Ready(()) };
        loop {
            // The other direction says no more once the peer has ended its sending.
            let Ok(mut guard) = ready!(fd.poll_write_ready(context)) else { return Poll::Ready(()) };
            if guard.ready().is_write_closed() || self.is_hung_up() {
                return Poll::Ready(());
            }
            // A write that would block asks again by itself.
            guard.clear_ready();
        }
    }

    /// Does `write` at once and, where that would block, again when the socket is writable. Registers it only then.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        match write(self) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.watch()?,
            done => return Poll::Ready(done),
        }
        loop {
            let Self::Watched(fd) = &*self else { return Poll::Ready(Err(ErrorKind::NotConnected.into())) };
            let mut guard = ready!(fd.poll_write_ready(context))?;
            match write(self) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => guard.clear_ready(),
                done => return Poll::Ready(done),
            }
        }
    }
}

/// Registers a descriptor with the event loop.
#[expect(
    deprecated,
    reason = "its successor is unsafe; what it guards against, a type that gives its descriptor away \
                               or closes it while registered, an OwnedFd is not"
)]
pub(super) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(nix::Error::EINTR) => {}
            done => return Ok(done?),
        }
    }
}
