//! An API server for EndpointSlices: small, but with the real protocol, and with the real ways to go wrong.
//!
//! It lists and watches by label, numbers every change, forgets old ones when told to (410 Gone), sends bookmarks, and can
//! be stopped, silenced, slowed down, or cut off in the middle of a line.

mod answer;
mod slice;
mod store;

pub use slice::Slice;

use super::Port;
use answer::serve;
use serde_json::Value;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::{
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::Duration,
};
use store::Store;

pub struct KubeApi {
    port: Port,
    shared: Arc<Shared>,
    accepting: Option<(TcpListener, JoinHandle<()>)>,
}

/// What the threads of the connections see.
struct Shared {
    state: Mutex<State>,
    /// Something in the state has changed.
    changed: Condvar,
}

struct State {
    store: Store,
    manners: Manners,
    /// All that have not been broken by us.
    connections: Vec<TcpStream>,
    requests: Vec<Asked>,
    /// Watches that have begun.
    watches: usize,
    /// The watches among the first so many requests are over.
    ended: usize,
}

/// How it behaves.
#[derive(Clone)]
struct Manners {
    bookmarks: Duration,
    refused: Vec<(Verb, u16)>,
    silent: bool,
    slow_lists: Duration,
    cut_next_line: bool,
    short_watches: bool,
    gone_as_status: bool,
    token: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    List,
    Watch,
}

/// A request that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub verb: Verb,
    pub namespace: String,
    /// Of a watch: where it begins.
    pub version: String,
    /// What it showed to be let in.
    pub token: Option<String>,
}

impl KubeApi {
    #[track_caller]
    pub fn start() -> Self {
        let manners = Manners {
            // A real one waits a minute.
            bookmarks: Duration::from_millis(200),
            refused: vec![],
            silent: false,
            slow_lists: Duration::ZERO,
            cut_next_line: false,
            short_watches: false,
            gone_as_status: false,
            token: None,
        };
        let state = State { store: Store::new(), manners, connections: vec![], requests: vec![], watches: 0, ended: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let mut api = Self { port: Port::free(), shared, accepting: None };
        api.resume();
        api
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// A kubeconfig that leads to it.
    pub fn kubeconfig(&self, namespace: &str) -> String {
        kubeconfig(&format!("server: {}", self.url()), namespace, "{}")
    }

    /// Creates a slice, or puts it in place of the one of its name.
    pub fn apply(&self, slice: impl Into<Value>) {
        self.change(|state| state.store.apply(slice.into()));
    }

    /// Takes it out; as `namespace/name`.
    #[track_caller]
    pub fn delete(&self, name: &str) {
        let (namespace, name) = name.split_once('/').expect("namespace/name");
        self.change(|state| assert!(state.store.delete(namespace, name), "there is no slice {name}"));
    }

    /// Something that nobody here watches changes.
    pub fn advance(&self) {
        self.change(|state| state.store.advance());
    }

    /// Forgets all changes so far: who watches, or comes back for what happened since, is told 410.
    pub fn compact(&self) {
        self.change(|state| state.store.compact());
    }

    /// Breaks every connection.
    pub fn disconnect(&self) {
        self.change(|state| {
            for connection in state.connections.drain(..) {
                // The other side may have closed it long ago.
                _ = connection.shutdown(Shutdown::Both);
            }
        });
    }

    /// Breaks the next watch that has something to say, in the middle of its line.
    pub fn cut_next_line(&self) {
        self.change(|state| state.manners.cut_next_line = true);
    }

    /// Ends every watch as a server does whose time is over.
    pub fn end_watches(&self) {
        self.change(|state| state.ended = state.requests.len());
    }

    /// From now on each watch is over as soon as it has said what there is.
    pub fn short_watches(&self) {
        self.change(|state| state.manners.short_watches = true);
    }

    /// Nobody listens any more, and every connection is closed.
    pub fn stop(&mut self) {
        if let Some((listener, accepting)) = self.accepting.take() {
            // Closing it would not wake the thread that waits in accept.
            _ = SockRef::from(&listener).shutdown(Shutdown::Both);
            accepting.join().expect("the thread that accepts");
        }
        self.disconnect();
    }

    /// Listens again, where it did before.
    #[track_caller]
    pub fn resume(&mut self) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        socket.set_reuse_address(true).expect("SO_REUSEADDR");
        socket.bind(&SockAddr::from(self.address())).expect("bind the port of the API server");
        socket.listen(64).expect("listen");
        let listener = TcpListener::from(socket);
        let (accepting, shared) = (listener.try_clone().expect("clone a listener"), self.shared.clone());
        let thread = thread::spawn(move || accept(&accepting, &shared));
        self.accepting = Some((listener, thread));
    }

    /// Connections are accepted, and nothing more is said on any of them until [`KubeApi::speak`].
    pub fn fall_silent(&self) {
        self.change(|state| state.manners.silent = true);
    }

    /// What came meanwhile stays unanswered.
    pub fn speak(&self) {
        self.change(|state| state.manners.silent = false);
    }

    /// Answers with this status until [`KubeApi::allow`].
    pub fn refuse(&self, verb: Verb, status: u16) {
        self.change(|state| state.manners.refused.push((verb, status)));
    }

    pub fn allow(&self) {
        self.change(|state| state.manners.refused.clear());
    }

    pub fn slow_lists(&self, by: Duration) {
        self.change(|state| state.manners.slow_lists = by);
    }

    pub fn bookmarks_every(&self, pause: Duration) {
        self.change(|state| state.manners.bookmarks = pause);
    }

    /// A watch from a version that is too old is refused with the status 410, not with an event that says so.
    pub fn gone_as_status(&self) {
        self.change(|state| state.manners.gone_as_status = true);
    }

    /// Lets in only who shows this token.
    pub fn require_token(&self, token: &str) {
        self.change(|state| state.manners.token = Some(token.to_owned()));
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.lock().requests.clone()
    }

    /// How many watches have begun.
    pub fn watches(&self) -> usize {
        self.shared.lock().watches
    }

    pub fn count(&self, verb: Verb) -> usize {
        self.shared.lock().requests.iter().filter(|asked| asked.verb == verb).count()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((connection, _)) = listener.accept() {
        let Ok(own) = connection.try_clone() else { continue };
        shared.lock().connections.push(own);
        let shared = shared.clone();
        // It ends with its connection, at the latest when the server is dropped.
        thread::spawn(move || _ = serve(connection, &shared));
    }
}

/// A kubeconfig with these lines for the cluster and for the user, in braces.
pub fn kubeconfig(cluster: &str, namespace: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters: [{{name: here, cluster: {{{cluster}}}}}]\n\
         users: [{{name: me, user: {user}}}]\n\
         contexts: [{{name: here, context: {{cluster: here, user: me, namespace: {namespace}}}}}]\n"
    )
}
