//! A blocking FastCGI connection over TCP or a Unix socket, for either side of a conversation.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr},
    os::fd::AsFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::sendfile::sendfile64,
};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    call::Call,
    incoming::Incoming,
    record::{GET_VALUES_RESULT, Record, STDOUT, end_request, get_values, record},
    reply::Reply,
};

/// Why no further record came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed in order, between two records.
    Closed,
    /// The peer closed in order, inside a record.
    ClosedInside,
    Reset,
    /// Nothing more came in time; the connection is still open.
    TimedOut,
}

pub struct Connection {
    socket: Socket,
    /// Received and not yet a record.
    buffer: Vec<u8>,
    /// Whether TCP_QUICKACK is set after each send (fact 8).
    quickack: bool,
}

impl Connection {
    #[track_caller]
    pub fn tcp(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("socket");
        socket.connect_timeout(&address.into(), Duration::from_secs(5)).expect("connect");
        socket.set_tcp_nodelay(true).expect("TCP_NODELAY");
        let mut connection = Self::from_socket(socket);
        connection.quickack = true;
        connection
    }

    #[track_caller]
    pub fn unix(path: &Path) -> Self {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("socket");
        socket.connect(&SockAddr::unix(path).expect("path of a socket")).expect("connect");
        Self::from_socket(socket)
    }

    pub fn from_socket(socket: Socket) -> Self {
        socket.set_nonblocking(false).expect("a blocking socket");
        // A peer that does not read shall fail the test, not hang it.
        socket.set_write_timeout(Some(Duration::from_secs(20))).expect("write timeout");
        Self { socket, buffer: Vec::new(), quickack: false }
    }

    pub fn without_quickack(mut self) -> Self {
        self.quickack = false;
        self
    }

    /// Sends in one write, as far as the kernel takes it so.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("send");
    }

    /// Like [`Self::send`], for peers that may be gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&self.socket).write_all(bytes)?;
        if self.quickack {
            let _ = self.socket.set_tcp_quickack(true);
        }
        Ok(())
    }

    /// Sends from a file, as web servers do with a body that they have stored: up to 64 KiB are one piece to the kernel.
    #[track_caller]
    pub fn send_from_file(&mut self, bytes: &[u8]) {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("to write a temporary file");
        let mut offset = 0;
        while (offset as usize) < bytes.len() {
            let rest = bytes.len() - offset as usize;
            sendfile64(&self.socket, &file, Some(&mut offset), rest).expect("sendfile");
        }
    }

    /// Whether an event loop would be told in time that more can be sent.
    pub fn is_writable(&self, limit: Duration) -> bool {
        let limit = PollTimeout::try_from(limit).expect("a short time");
        let mut asked = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
        poll(&mut asked, limit).expect("poll") == 1
    }

    /// As much as the kernel takes without waiting.
    pub fn send_what_fits(&mut self, bytes: &[u8]) -> usize {
        self.socket.set_nonblocking(true).expect("a socket option");
        let mut sent = 0;
        while let Ok(more @ 1..) = self.socket.send(&bytes[sent..]) {
            sent += more;
        }
        self.socket.set_nonblocking(false).expect("a socket option");
        sent
    }

    /// Sends in pieces of these sizes, in turn and from the start again.
    #[track_caller]
    pub fn send_pieces(&mut self, bytes: &[u8], sizes: &[usize], pause: Duration) {
        let mut rest = bytes;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at((*size).clamp(1, rest.len()));
            self.send(piece);
            rest = later;
            thread::sleep(pause);
        }
    }

    #[track_caller]
    pub fn send_bytewise(&mut self, bytes: &[u8]) {
        self.send_pieces(bytes, &[1], Duration::ZERO);
    }

    /// Sends a call and reads to its end.
    #[track_caller]
    pub fn call(&mut self, call: &Call, limit: Duration) -> Reply {
        self.send(&call.bytes());
        self.reply(limit)
    }

    /// The next record.
    pub fn read_record(&mut self, limit: Duration) -> Result<Record, End> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(record) = self.take_record() {
                return Ok(record);
            }
            self.fill(deadline)?;
        }
    }

    /// Reads up to END_REQUEST, or to the end of the connection.
    pub fn reply(&mut self, limit: Duration) -> Reply {
        let start = Instant::now();
        let mut reply = Reply::default();
        while !reply.ended && reply.broken.is_none() {
            match self.read_record(limit.saturating_sub(start.elapsed())) {
                Ok(record) => reply.take(&record),
                Err(end) => reply.broken = Some(end),
            }
        }
        reply.took = start.elapsed();
        reply
    }

    /// Asks GET_VALUES and reads up to its answer; gives the records before it.
    pub fn fence(&mut self, limit: Duration) -> Result<Vec<Record>, End> {
        if self.try_send(&get_values()).is_err() {
            return Err(End::Reset);
        }
        self.fence_answer(limit)
    }

    /// Reads up to the next GET_VALUES_RESULT; gives the records before it.
    pub fn fence_answer(&mut self, limit: Duration) -> Result<Vec<Record>, End> {
        let deadline = Instant::now() + limit;
        let mut stray = Vec::new();
        loop {
            let record = self.read_record(deadline.saturating_duration_since(Instant::now()))?;
            if record.kind == GET_VALUES_RESULT {
                return Ok(stray);
            }
            stray.push(record);
        }
    }

    /// Reads raw bytes until the connection ends.
    pub fn read_to_end(&mut self, limit: Duration) -> (Vec<u8>, End) {
        let deadline = Instant::now() + limit;
        loop {
            if let Err(end) = self.fill(deadline) {
                return (std::mem::take(&mut self.buffer), end);
            }
        }
    }

    /// How the connection ends; records that come before are dropped.
    pub fn ending(&mut self, limit: Duration) -> End {
        let deadline = Instant::now() + limit;
        loop {
            match self.read_record(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(end) => return end,
            }
        }
    }

    /// A request as an application reads it; none: the web server closed before or in it, or sent GET_VALUES.
    pub fn read_request(&mut self, limit: Duration) -> Result<Incoming, End> {
        let mut incoming = Incoming::default();
        let deadline = Instant::now() + limit;
        while !incoming.is_complete() {
            let record = self.read_record(deadline.saturating_duration_since(Instant::now()))?;
            incoming.take(record);
        }
        Ok(incoming)
    }

    /// One STDOUT record with a small CGI response, and END_REQUEST.
    #[track_caller]
    pub fn answer(&mut self, id: u16, body: &[u8]) {
        self.try_answer(id, body).expect("send");
    }

    /// Like [`Self::answer`], for peers that may be gone.
    pub fn try_answer(&mut self, id: u16, body: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let content = [b"Content-Type: text/plain\r\n\r\n".as_slice(), body].concat();
        for chunk in content.chunks(65_535) {
            bytes.extend(record(STDOUT, id, chunk));
        }
        bytes.extend(end_request(id, 0, 0));
        self.try_send(&bytes)
    }

    /// An ordinary close: FIN (RST if something lies unread).
    pub fn close(self) {}

    /// A close by RST.
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    pub fn shutdown_write(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Bytes sent that the peer's kernel has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        let Ok(text) = std::fs::read_to_string("/proc/net/tcp") else { return 0 };
        let (Ok(local), Ok(peer)) = (self.socket.local_addr(), self.socket.peer_addr()) else { return 0 };
        let (Some(local), Some(peer)) = (local.as_socket_ipv4(), peer.as_socket_ipv4()) else { return 0 };
        let ends = format!(":{:04X} ", local.port());
        let peer_end = format!(":{:04X} ", peer.port());
        // Columns: slot, local, remote, state, send queue:receive queue, ...
        let line = text.lines().find(|line| {
            let mut columns = line.split_whitespace().skip(1);
            columns.next().is_some_and(|column| column.ends_with(ends.trim_end()))
                && columns.next().is_some_and(|column| column.ends_with(peer_end.trim_end()))
        });
        let queue = line.and_then(|line| line.split_whitespace().nth(4)?.split(':').next());
        queue.and_then(|queue| usize::from_str_radix(queue, 16).ok()).unwrap_or(0)
    }

    fn take_record(&mut self) -> Option<Record> {
        let header = self.buffer.get(..8)?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let (kind, id, padding) = (header[1], u16::from_be_bytes([header[2], header[3]]), usize::from(header[6]));
        let content = self.buffer.get(8..8 + length + padding)?[..length].to_vec();
        self.buffer.drain(..8 + length + padding);
        Some(Record { kind, id, content })
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), End> {
        let limit = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(limit)).expect("read timeout");
        let mut chunk = [0; 65_536];
        match (&self.socket).read(&mut chunk) {
            Ok(0) if self.buffer.is_empty() => Err(End::Closed),
            Ok(0) => Err(End::ClosedInside),
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Err(End::TimedOut)
            }
            Err(_) => Err(End::Reset),
        }
    }
}
