//! An application that plays a part, for what no real php-fpm can be made to do.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    connection::{Connection, End},
    incoming::Incoming,
    record::{BEGIN_REQUEST, GET_VALUES, Record, pair, record},
};

/// A part waits so long for the other side.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a closure on a thread of its own for every connection, until it is dropped.
pub struct Application {
    address: Address,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    accepted: AtomicUsize,
    /// What parts told by [`Stage::note`], in order.
    notes: Mutex<Vec<String>>,
    /// Messages of parts that panicked.
    panics: Mutex<Vec<String>>,
}

/// What a part knows besides its connection.
pub struct Stage {
    /// 0 for the first connection.
    pub index: usize,
    shared: Arc<Shared>,
}

impl Stage {
    pub fn note(&self, note: impl Into<String>) {
        self.shared.notes.lock().expect("notes").push(note.into());
    }
}

impl Application {
    pub fn tcp(part: impl Fn(Connection, &Stage) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let address = listener.local_addr().expect("address");
        Self::start(Address::Tcp(address), Socket::from(listener), part)
    }

    pub fn unix(path: &Path, part: impl Fn(Connection, &Stage) + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).expect("bind");
        Self::start(Address::Unix(path.to_owned()), Socket::from(listener), part)
    }

    /// `host:port` or the path, as the configuration takes it.
    pub fn address(&self) -> String {
        match &self.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => path.display().to_string(),
        }
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }

    pub fn notes(&self) -> Vec<String> {
        self.shared.notes.lock().expect("notes").clone()
    }

    fn start(address: Address, listener: Socket, part: impl Fn(Connection, &Stage) + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let part = Arc::new(part);
        let (ours, stage_shared) = (Arc::clone(&shared), Arc::clone(&shared));
        let acceptor = thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                if ours.stopped.load(Ordering::Acquire) {
                    return;
                }
                let index = ours.accepted.fetch_add(1, Ordering::AcqRel);
                let stage = Stage { index, shared: Arc::clone(&stage_shared) };
                let part = Arc::clone(&part);
                thread::spawn(move || play(socket, &stage, part.as_ref()));
            }
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }
}

fn play(socket: Socket, stage: &Stage, part: &(impl Fn(Connection, &Stage) + ?Sized)) {
    let _ = socket.set_tcp_nodelay(true);
    let connection = Connection::from_socket(socket);
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| part(connection, stage)));
    if let Err(panic) = played {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        stage.shared.panics.lock().expect("panics").push(text.unwrap_or_default());
    }
}

impl Drop for Application {
    /// Fails the test when a part failed.
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        let (domain, address) = match &self.address {
            Address::Tcp(address) => (Domain::IPV4, SockAddr::from(*address)),
            Address::Unix(path) => (Domain::UNIX, SockAddr::unix(path).expect("path of a socket")),
        };
        // Wakes the acceptor.
        let socket = Socket::new(domain, Type::STREAM, None).expect("socket");
        let woken = socket.connect(&address).is_ok();
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken) {
            let _ = acceptor.join();
        }
        let panics = self.shared.panics.lock().map(|panics| panics.clone()).unwrap_or_default();
        assert!(panics.is_empty() || thread::panicking(), "the scripted application failed: {panics:?}");
    }
}

/// Serves like a current php-fpm: answers GET_VALUES, one request after the other, echoes the body (or the query).
pub fn polite(mut connection: Connection, _: &Stage) {
    while let Ok(asked) = next(&mut connection) {
        match asked {
            Asked::Values => answer_values(&mut connection),
            Asked::Request(request) => {
                let query = request.param("QUERY_STRING").unwrap_or_default().as_bytes().to_vec();
                let body = if request.body.is_empty() { query } else { request.body };
                if connection.try_answer(request.id, &body).is_err() {
                    return;
                }
                if !request.keep {
                    connection.shutdown_write();
                    let _ = connection.ending(PATIENCE);
                    return;
                }
            }
        }
    }
}

/// A php-fpm before 8.2.13: closes after it answered GET_VALUES.
pub fn old_php(mut connection: Connection, _: &Stage) {
    while let Ok(asked) = next(&mut connection) {
        match asked {
            Asked::Values => {
                answer_values(&mut connection);
                connection.shutdown_write();
                let _ = connection.ending(PATIENCE);
                return;
            }
            Asked::Request(request) => {
                if connection.try_answer(request.id, &request.body).is_err() {
                    return;
                }
                if !request.keep {
                    connection.shutdown_write();
                    let _ = connection.ending(PATIENCE);
                    return;
                }
            }
        }
    }
}

/// Accepts, reads and never says a word, until the other side closes.
pub fn silent(mut connection: Connection, _: &Stage) {
    let _ = connection.read_to_end(PATIENCE);
}

/// Answers whatever comes first with bytes that are no FastCGI, and keeps the connection open.
pub fn garbage(mut connection: Connection, _: &Stage) {
    if connection.read_record(PATIENCE).is_ok() {
        let _ = connection.try_send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    }
    let _ = connection.read_to_end(PATIENCE);
}

/// A TCP port with a full backlog of one that nobody accepts from: the first connections open, the next ones hang.
pub struct Unanswering {
    socket: Socket,
}

impl Unanswering {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("bind");
        socket.listen(0).expect("listen");
        Self { socket }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().ok().and_then(|address| address.as_socket()).expect("address")
    }
}

enum Asked {
    Values,
    Request(Incoming),
}

fn next(connection: &mut Connection) -> Result<Asked, End> {
    let mut incoming = Incoming::default();
    loop {
        let record: Record = connection.read_record(PATIENCE)?;
        if record.kind == GET_VALUES {
            return Ok(Asked::Values);
        }
        // An end of STDIN that belongs to the request before.
        if !incoming.has_begun() && record.kind != BEGIN_REQUEST {
            continue;
        }
        incoming.take(record);
        if incoming.is_complete() {
            return Ok(Asked::Request(incoming));
        }
    }
}

fn answer_values(connection: &mut Connection) {
    let _ = connection.try_send(&record(super::GET_VALUES_RESULT, 0, &pair(b"FCGI_MPXS_CONNS", b"0")));
}
