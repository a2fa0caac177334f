//! Connections of web servers that have been answered to the end and wait for their web server to close them.
//!
//! php-fpm ends its sending behind a response and reads until the web server closes, so that whatever still comes (a second
//! end of STDIN, an ABORT_REQUEST) finds a reader and costs nobody the answer. A registration with the event loop for each
//! connection would cost more than the wait is worth: nearly every web server closes at once, so all of them are looked at
//! together, in one system call, once in a while.

use crate::net::{clock, scratch, socket::Socket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How often they are looked at. A web server that has closed costs a file descriptor for so long.
const SWEEP: Duration = Duration::from_millis(10);
/// So long a web server may take to close.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections that wait at most; one more, and the oldest is closed.
const AT_MOST: usize = 1024;

/// See the [module](self). [`Lingering::run`] must run for it to work.
#[derive(Debug, Default)]
pub(in crate::net) struct Lingering {
    /// With the moment in which each was answered, the oldest first.
    sockets: Mutex<VecDeque<(Socket, Instant)>>,
    /// Told when there is a first one.
    begin: Notify,
}

impl Lingering {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(Socket, Instant)>> {
        // Nothing that can panic is done under this lock.
        self.sockets.lock().expect("no panic under this lock")
    }

    /// Ends the sending on a connection of which every byte has been sent, and closes it behind its web server.
    pub(in crate::net) fn part(&self, socket: Socket) {
        if socket.shut_down_sending().is_err() {
            return; // the web server was faster
        }
        let mut sockets = self.lock();
        if sockets.is_empty() {
            self.begin.notify_one();
        }
        sockets.push_back((socket, clock::now()));
        let surplus = sockets.len().saturating_sub(AT_MOST);
        sockets.drain(..surplus).for_each(|(socket, _)| _ = is_at_end(&socket));
    }

    /// Looks after them for as long as the process lives.
    pub(in crate::net) async fn run(self: Arc<Self>) {
        loop {
            self.begin.notified().await;
            while !self.sweep() {
                tokio::time::sleep(SWEEP).await;
            }
        }
    }

    /// Reads what has come and closes those that are over; whether none is left.
    fn sweep(&self) -> bool {
        let mut sockets = self.lock();
        let now = clock::now();
        let mut heard = hear(&sockets).into_iter();
        sockets.retain(|(socket, since)| {
            let heard = heard.next().unwrap_or(false);
            let late = now.saturating_duration_since(*since) >= PATIENCE;
            let ended = (heard || late) && is_at_end(socket);
            !(ended || late)
        });
        sockets.is_empty()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        self.lock().iter().for_each(|(socket, _)| _ = is_at_end(socket));
    }
}

/// Whether there is anything to be read from each of them: bytes, or the end.
fn hear(sockets: &VecDeque<(Socket, Instant)>) -> Vec<bool> {
    let asked = sockets.iter().filter_map(|(socket, _)| socket.fd().ok());
    let mut asked: Vec<_> = asked.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut asked, PollTimeout::ZERO) {
        Ok(_) => asked.iter().map(|asked| asked.any().unwrap_or(true)).collect(),
        // They are looked at again soon.
        Err(_) => vec![],
    }
}

/// Reads what has come, lest closing be a reset, and says whether the web server has ended its sending.
fn is_at_end(socket: &Socket) -> bool {
    scratch::with(|buffer| socket.drain(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    fn parted() -> (UnixStream, Lingering) {
        let (web, ours) = UnixStream::pair().unwrap();
        let lingering = Lingering::default();
        (&web).write_all(b"!").unwrap();
        lingering.part(Socket::plain(ours));
        (web, lingering)
    }

    #[test]
    fn a_web_server_reads_the_end_and_may_write_until_it_closes() {
        let (mut web, lingering) = parted();
        assert_eq!(web.read(&mut [0]).unwrap(), 0);
        for _ in 0..3 {
            web.write_all(&[0; 8]).unwrap();
            assert!(!lingering.sweep());
        }
        drop(web);
        assert!(lingering.sweep());
    }

    #[test]
    fn the_end_of_the_process_is_no_reset() {
        let (mut web, lingering) = parted();
        drop(lingering);
        assert_eq!(web.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn only_so_many_are_waited_for() {
        let lingering = Lingering::default();
        let webs: Vec<_> = (0..=AT_MOST)
            .map(|_| {
                let (web, ours) = UnixStream::pair().unwrap();
                lingering.part(Socket::plain(ours));
                web
            })
            .collect();
        assert!(!lingering.sweep());
        assert_eq!(lingering.lock().len(), AT_MOST);
        assert!((&webs[0]).write(&[0]).is_err() && (&webs[1]).write(&[0]).is_ok());
    }
}
