//! An application that serves any number of requests at once on a connection, each as its query wants it
//! ([`Wanted`](super::Wanted)), checks every byte it is sent, and counts.
//!
//! A thread per connection reads; another writes, each time some records of some responses, at random.

mod connection;
mod request;
mod tally;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::Socket;

use super::dial::try_dial;
pub use tally::Tally;

/// Bytes, of which the kernel makes twice as many.
const SEND_BUFFER: usize = 128 * 1024;

/// How GET_VALUES is answered, and what is kept of what was announced.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    /// FCGI_MPXS_CONNS. Without it a second request on a connection is answered CANT_MPX_CONN, and a request is whole
    /// when its body is as long as it must be, as for php-fpm.
    pub multiplexes: bool,
    /// FCGI_MAX_CONNS.
    pub max_conns: Option<u32>,
    /// FCGI_MAX_REQS.
    pub max_reqs: Option<u32>,
    pub manner: Manner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Answers,
    /// So much later; what else comes is served meanwhile.
    Late(Duration),
    Never,
    /// Closes the connection in place of an answer.
    Closes,
    /// UNKNOWN_TYPE in place of an answer.
    Unknown,
}

impl Default for Values {
    fn default() -> Self {
        Self { multiplexes: true, max_conns: None, max_reqs: None, manner: Manner::Answers }
    }
}

impl Values {
    pub fn manner(manner: Manner) -> Self {
        Self { manner, ..Self::default() }
    }

    fn pairs(&self) -> Vec<u8> {
        let mut pairs = vec![("FCGI_MPXS_CONNS", u32::from(self.multiplexes).to_string())];
        pairs.extend(self.max_conns.map(|most| ("FCGI_MAX_CONNS", most.to_string())));
        pairs.extend(self.max_reqs.map(|most| ("FCGI_MAX_REQS", most.to_string())));
        super::pairs(pairs)
    }
}

/// Serves until it is dropped.
pub struct Multiplexer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    values: Values,
    stopped: AtomicBool,
    tally: Mutex<Tally>,
    /// Open connections; a place is empty when its connection has ended.
    connections: Mutex<Vec<Option<Socket>>>,
}

impl Multiplexer {
    pub fn start() -> Self {
        Self::with(Values::default())
    }

    pub fn with(values: Values) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            values,
            stopped: AtomicBool::new(false),
            tally: Mutex::default(),
            connections: Mutex::default(),
        });
        let ours = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &ours));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// `ip:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().expect("tally").clone()
    }

    /// How many times a token was executed.
    pub fn executed(&self, token: &str) -> usize {
        self.shared.tally.lock().expect("tally").executed(token)
    }

    /// One number of the tally, without a copy of the rest.
    pub fn count<T>(&self, of: impl FnOnce(&Tally) -> T) -> T {
        of(&self.shared.tally.lock().expect("tally"))
    }

    /// Closes every connection there is, whatever runs on it.
    pub fn close_all(&self) {
        for socket in self.shared.connections.lock().expect("connections").iter().flatten() {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Fails unless every request came as it should: no id begun twice, no wrong byte, no POST executed twice.
    #[track_caller]
    pub fn assert_undisturbed(&self) {
        self.count(|tally| {
            assert!(tally.defects.is_empty(), "{} defects: {:#?}", tally.defects.len(), tally.defects);
            assert_eq!(tally.posts_executed_twice, 0);
        });
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept() {
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        let _ = socket.set_nodelay(true);
        let socket = Socket::from(socket);
        // What lies in it comes before whatever is written next: with the four megabytes that Linux would go up to, a
        // small response waits for ten milliseconds behind a large one, with nothing between application and web server.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        let place = {
            let mut connections = shared.connections.lock().expect("connections");
            connections.push(socket.try_clone().ok());
            connections.len() - 1
        };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            connection::serve(socket, &shared);
            shared.connections.lock().expect("connections")[place] = None;
        });
    }
}

impl Drop for Multiplexer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // Wakes the acceptor.
        let woken = try_dial(&self.address.to_string()).is_ok();
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken) {
            let _ = acceptor.join();
        }
        self.close_all();
    }
}
