//! A web server that has any number of exchanges under way on one connection, and checks every byte of every response.
//!
//! One thread reads, one writes: records of several requests, in random order and of random sizes. What ended comes out
//! of [`WebServer::next_done`].

mod alone;

use std::{
    collections::HashMap,
    io::Write,
    net::Shutdown,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::Socket;

use super::{
    abort,
    dial::dial,
    errand::{Abort, Done, Errand, Outgoing},
    inbox::Inbox,
    random::Random,
};
pub use alone::{Pace, run_alone};

const WRITE: usize = 64 * 1024;
/// Defects beyond so many are not written down.
const DEFECTS: usize = 20;

pub struct WebServer {
    shared: Arc<Shared>,
    done: Receiver<(Errand, Done)>,
    threads: Vec<JoinHandle<()>>,
    random: Random,
}

struct Shared {
    socket: Socket,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    running: HashMap<u16, Running>,
    /// Ids that have something to send.
    sending: Vec<u16>,
    urgent: Vec<u8>,
    reading: Reading,
    /// The connection has ended, or shall.
    closed: bool,
    /// What came and belongs to no request.
    defects: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    Fast,
    Slow(usize, Duration),
    Not,
}

struct Running {
    errand: Errand,
    done: Done,
    begun: bool,
    outgoing: Outgoing,
    since: Instant,
}

impl WebServer {
    /// To the path of a Unix socket, or to `ip:port`.
    #[track_caller]
    pub fn connect(address: &str) -> Self {
        Self::start(address, Reading::Fast)
    }

    /// One that reads so many bytes at a time, with a pause behind each.
    #[track_caller]
    pub fn slow(address: &str, size: usize, pause: Duration) -> Self {
        Self::start(address, Reading::Slow(size, pause))
    }

    /// One that does not read before [`Self::listen`].
    #[track_caller]
    pub fn deaf(address: &str) -> Self {
        Self::start(address, Reading::Not)
    }

    #[track_caller]
    fn start(address: &str, reading: Reading) -> Self {
        let state = Mutex::new(State { reading, ..State::default() });
        let shared = Arc::new(Shared { socket: dial(address), state, changed: Condvar::new() });
        let (sender, done) = channel();
        let (ours, theirs) = (Arc::clone(&shared), Arc::clone(&shared));
        let reader = thread::spawn(move || ours.read_all(&sender));
        let writer = thread::spawn(move || theirs.write_all());
        Self { shared, done, threads: vec![reader, writer], random: Random::next_part() }
    }

    /// Begins an exchange under an id that is free.
    pub fn begin(&mut self, errand: Errand) -> u16 {
        let mut state = self.shared.lock();
        let id = loop {
            let id = u16::try_from(1 + self.random.below(65_535)).expect("an id");
            if !state.running.contains_key(&id) {
                break id;
            }
        };
        let running = Running {
            errand,
            done: Done::default(),
            begun: false,
            outgoing: Outgoing::default(),
            since: Instant::now(),
        };
        state.running.insert(id, running);
        state.sending.push(id);
        drop(state);
        self.shared.changed.notify_all();
        id
    }

    /// The next one that ended, for whatever reason; none came in time.
    pub fn next_done(&self, limit: Duration) -> Option<(Errand, Done)> {
        self.done.recv_timeout(limit).ok()
    }

    /// Keeps so many under way until all have been done, and hands out each.
    #[track_caller]
    pub fn run(
        &mut self,
        at_once: usize,
        errands: impl IntoIterator<Item = Errand>,
        mut each: impl FnMut(&Errand, &Done),
    ) {
        let mut errands = errands.into_iter();
        let mut running = 0;
        loop {
            while running < at_once
                && let Some(errand) = errands.next()
            {
                self.begin(errand);
                running += 1;
            }
            if running == 0 {
                return;
            }
            let (errand, done) = self.next_done(Duration::from_secs(60)).unwrap_or_else(|| {
                panic!("nothing ended in 60 s, {running} under way: {:?}", self.defects());
            });
            each(&errand, &done);
            running -= 1;
        }
    }

    /// Takes a request back.
    pub fn abort(&self, id: u16) {
        self.shared.lock().abort(id);
        self.shared.changed.notify_all();
    }

    /// Begins to read.
    pub fn listen(&self) {
        self.shared.lock().reading = Reading::Fast;
        self.shared.changed.notify_all();
    }

    pub fn running(&self) -> usize {
        self.shared.lock().running.len()
    }

    /// Requests that have not been sent whole.
    pub fn unsent(&self) -> usize {
        self.shared.lock().sending.len()
    }

    /// What came and may not come.
    pub fn defects(&self) -> Vec<String> {
        self.shared.lock().defects.clone()
    }

    pub fn close(self) {}
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        let _ = self.shared.socket.shutdown(Shutdown::Both);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the state of a web server")
    }

    fn read_all(&self, done: &Sender<(Errand, Done)>) {
        let mut inbox = Inbox::new();
        loop {
            let mut state = self.lock();
            while state.reading == Reading::Not && !state.closed {
                state = self.changed.wait(state).expect("the state of a web server");
            }
            let reading = state.reading;
            drop(state);
            let read = if let Reading::Slow(size, pause) = reading {
                thread::sleep(pause);
                inbox.fill_up_to(&mut &self.socket, size)
            } else {
                inbox.fill(&mut &self.socket)
            };
            if !read.is_ok_and(|count| count > 0) {
                break;
            }
            let mut state = self.lock();
            while let Some(piece) = inbox.next() {
                state.take(piece.version, piece.kind, piece.id, piece.content, done);
            }
            let wakes = !state.urgent.is_empty();
            drop(state);
            if wakes {
                self.changed.notify_all();
            }
        }
        let mut state = self.lock();
        if inbox.is_inside() && !state.closed {
            state.defects.push("the connection ended inside a record".to_owned());
        }
        state.closed = true;
        for (_, mut running) in state.running.drain() {
            running.done.took = running.since.elapsed();
            let _ = done.send((running.errand, running.done));
        }
        drop(state);
        self.changed.notify_all();
    }

    fn write_all(&self) {
        let mut random = Random::next_part();
        let mut out = Vec::with_capacity(3 * WRITE);
        loop {
            let mut state = self.lock();
            while state.sending.is_empty() && state.urgent.is_empty() && !state.closed {
                state = self.changed.wait(state).expect("the state of a web server");
            }
            if state.closed {
                return;
            }
            out.clear();
            out.append(&mut state.urgent);
            while out.len() < WRITE && !state.sending.is_empty() {
                state.send_next(&mut random, &mut out);
            }
            drop(state);
            if (&self.socket).write_all(&out).is_err() {
                return;
            }
        }
    }
}

impl State {
    /// Appends the next record of one of the requests.
    fn send_next(&mut self, random: &mut Random, out: &mut Vec<u8>) {
        let place = random.below(self.sending.len());
        let id = self.sending[place];
        let Some(running) = self.running.get_mut(&id) else {
            self.sending.swap_remove(place);
            return;
        };
        if !running.begun {
            running.begun = true;
            out.extend(running.errand.head(id, true));
            return;
        }
        let more = running.outgoing.next(&running.errand, id, random, out);
        let aborts = match running.errand.abort {
            Abort::InBody(at) => running.outgoing.stdin >= at || !more,
            Abort::InResponse(0) => !more,
            _ => false,
        };
        if aborts {
            running.done.aborted = true;
            out.extend(abort(id));
        }
        if aborts || !more {
            self.sending.swap_remove(place);
        }
    }

    fn abort(&mut self, id: u16) {
        self.sending.retain(|sending| *sending != id);
        if let Some(running) = self.running.get_mut(&id).filter(|running| !running.done.aborted) {
            running.done.aborted = true;
            self.urgent.extend(abort(id));
        }
    }

    fn take(&mut self, version: u8, kind: u8, id: u16, content: &[u8], done: &Sender<(Errand, Done)>) {
        let Some(running) = self.running.get_mut(&id).filter(|running| running.begun && version == 1) else {
            if self.defects.len() == DEFECTS {
                return;
            }
            self.defects
                .push(format!("nobody's record: version {version}, type {kind}, id {id}, {} bytes", content.len()));
            return;
        };
        running.done.take(&running.errand, kind, content);
        if running.done.end.is_some() {
            if let Some(mut running) = self.running.remove(&id) {
                running.done.took = running.since.elapsed();
                let _ = done.send((running.errand, running.done));
            }
        } else if let Abort::InResponse(at @ 1..) = running.errand.abort
            && running.done.received >= at
        {
            self.abort(id);
        }
    }
}
