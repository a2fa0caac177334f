//! Accepts connections and speaks HTTP/1.1 on them.

use super::{
    AdminState, Limits,
    board::Board,
    page::{self, Client},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{collections::VecDeque, convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Bytes of a request's head; hyper answers 431 beyond it. Bodies are never read.
const MAX_HEAD: usize = 16 * 1024;

/// Until the next attempt after accept() failed, most likely for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Until `stop`; then lets running answers end, for [`Limits::grace`] at most.
pub(super) async fn serve(
    listener: TcpListener,
    state: AdminState,
    board: Arc<Board>,
    limits: Limits,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let accepting = accept(listener, Shown { state, board }, limits, &connections, &stop);
    stop.run_until_cancelled(accepting).await;
    connections.close();
    if time::timeout(limits.grace, connections.wait()).await.is_err() {
        tracing::debug!("ended with open admin connections");
    }
}

/// What every connection is served from.
#[derive(Clone)]
struct Shown {
    state: AdminState,
    board: Arc<Board>,
}

async fn accept(
    listener: TcpListener,
    shown: Shown,
    limits: Limits,
    connections: &TaskTracker,
    stop: &CancellationToken,
) {
    let mut places = Places { all: VecDeque::new(), most: limits.connections };
    let waits = Arc::new(Semaphore::new(limits.waits));
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let place = places.next();
                let client = Arriving { stream, address, waits: waits.clone(), _place: place.clone().drop_guard() };
                let serving = serve_connection(client, shown.clone(), limits, stop.child_token());
                connections.spawn(async move { place.run_until_cancelled_owned(serving).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections that are served, the oldest first.
///
/// One more takes the place of the oldest: a probe that waited until clients who say or read nothing have run into their
/// time limits would be taken for a process that is dead.
struct Places {
    /// Cancelled: it has ended. Cancelling one ends it.
    all: VecDeque<CancellationToken>,
    most: usize,
}

impl Places {
    fn next(&mut self) -> CancellationToken {
        if self.all.len() >= self.most {
            self.all.retain(|place| !place.is_cancelled());
        }
        if self.all.len() >= self.most
            && let Some(oldest) = self.all.pop_front()
        {
            oldest.cancel();
        }
        let place = CancellationToken::new();
        self.all.push_back(place.clone());
        place
    }
}

/// One connection of a client.
struct Arriving {
    stream: TcpStream,
    address: SocketAddr,
    /// See [`Limits::waits`].
    waits: Arc<Semaphore>,
    /// Among the [`Places`], until it ends.
    _place: DropGuard,
}

/// `ending` is cancelled when the server stops.
async fn serve_connection(client: Arriving, shown: Shown, limits: Limits, ending: CancellationToken) {
    let Arriving { stream, address, waits, _place } = client;
    let (Shown { state, board }, client) = (&shown, &Client { address, waits: &waits, ending: &ending });
    let respond = async |request| {
        // Others are heard between two requests that a client sends at once: a probe must not wait for all of them.
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(page::respond(state, board, limits, client, &request).await)
    };
    let service = service_fn(respond);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.read_head).max_buf_size(MAX_HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));

    let running = time::timeout(limits.connection_age, connection.as_mut());
    if let Some(Ok(ended)) = ending.run_until_cancelled(running).await {
        return log_end(ended);
    }
    ending.cancel();
    connection.as_mut().graceful_shutdown();
    if let Ok(ended) = time::timeout(limits.grace, connection).await {
        log_end(ended);
    }
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection ended");
    }
}
