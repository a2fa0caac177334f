//! Accepts connections and speaks HTTP/1.1 on them.

use super::{
    AdminState, Limits,
    board::Board,
    page::{self, Client},
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

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
    let places = Arc::new(Semaphore::new(limits.connections));
    let waits = Arc::new(Semaphore::new(limits.waits));
    loop {
        // Nobody closes this semaphore.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, address)) => {
                let client = Arriving { stream, address, waits: waits.clone(), _place: place };
                connections.spawn(serve_connection(client, shown.clone(), limits, stop.child_token()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection of a client.
struct Arriving {
    stream: TcpStream,
    address: SocketAddr,
    /// See [`Limits::waits`].
    waits: Arc<Semaphore>,
    /// Among the connections, until it ends.
    _place: OwnedSemaphorePermit,
}

/// `ending` is cancelled when the server stops.
async fn serve_connection(client: Arriving, shown: Shown, limits: Limits, ending: CancellationToken) {
    let Arriving { stream, address, waits, _place } = client;
    let (Shown { state, board }, client) = (&shown, &Client { address, waits: &waits, ending: &ending });
    let respond = async |request| Ok::<_, Infallible>(page::respond(state, board, limits, client, &request).await);
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
