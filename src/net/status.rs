//! Asks php-fpm how its workers are: the page of `pm.status_path`, from the port of `pm.status_listen`, where it costs no
//! worker. Each time on a connection of its own that is closed behind the answer, since one that is kept holds one of the
//! two processes that answer there (fact 15.2).

use super::{clock, scratch, upstream::Upstream};
use crate::{
    config::{EndpointAddress, Timeouts},
    mux::{
        inquiry::{Answer, AnswerError, question},
        scoreboard::{self, PAGE_AT_MOST, Scoreboard, ScoreboardError},
    },
};
use std::{
    future::poll_fn,
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, SocketAddr},
    task::{Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// How often the page is read. The listen queue in it is counted once a second (fact 15.5).
pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// An answer takes a millisecond, and a few more where a process must be started for it; a host that is busy needs longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Why a page could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum StatusError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("the connection was closed before the answer was whole")]
    Closed,
    #[error("{0}")]
    Answer(#[from] AnswerError),
    #[error("{0}")]
    Scoreboard(#[from] ScoreboardError),
}

/// One page of one php-fpm.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// For the log: the pool, and the endpoint by its name.
    pub(super) pool: String,
    pub(super) endpoint: String,
    /// Where it is asked for.
    pub(super) address: EndpointAddress,
    pub(super) path: String,
    pub(super) timeouts: Timeouts,
}

/// Where php-fpm listens for such questions: the port on the endpoint's host.
pub(super) fn address(endpoint: &EndpointAddress, port: u16) -> EndpointAddress {
    EndpointAddress::Tcp(match endpoint {
        EndpointAddress::Tcp(address) => SocketAddr::new(address.ip(), port),
        EndpointAddress::Unix(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
    })
}

impl Page {
    /// Asks once, on a connection of its own, and returns what stands behind the header block.
    ///
    /// # Errors
    /// There is no such page, or nobody answers within `limit`.
    pub(super) async fn ask(&self, query: &str, limit: Duration) -> Result<Vec<u8>, StatusError> {
        let connected = timeout(self.timeouts.connect, Upstream::connect(&self.address, &self.timeouts)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let mut upstream = connected.map_err(StatusError::Connect)?;
        let answer = timeout(limit, exchange(&mut upstream, &question(&self.path, query))).await;
        answer.map_err(|_| StatusError::Late(limit))??.page().map_err(StatusError::from)
    }

    /// Reads the status page every `period` until it is dropped, and reports what it says. Never asks twice at once.
    pub(super) async fn keep_asking(self, period: Duration, mut report: impl FnMut(Result<Scoreboard, StatusError>)) {
        let mut episode = Episode::default();
        loop {
            let page = self.ask(scoreboard::QUERY, ANSWER_WITHIN).await;
            let board = page.and_then(|page| Ok(Scoreboard::parse(&page)?));
            match &board {
                Ok(_) => self.log_success(&mut episode),
                Err(error) if episode.begins() => tracing::warn!(
                    pool = self.pool,
                    endpoint = self.endpoint,
                    "cannot read the status page {} at {}: {error}; {}",
                    self.path,
                    self.address,
                    advice(error)
                ),
                Err(_) => {}
            }
            report(board);
            sleep(jittered(period)).await;
        }
    }

    fn log_success(&self, episode: &mut Episode) {
        if let Some(lasted) = episode.ends() {
            let (pool, endpoint) = (&self.pool, &self.endpoint);
            tracing::info!(pool, endpoint, "status page {} is there again after {lasted:.1?}", self.path);
        }
    }
}

/// Failures in a row, of which the first is logged.
#[derive(Debug, Default)]
pub(super) struct Episode {
    since: Option<Instant>,
}

impl Episode {
    /// A failure. Returns whether it is the first.
    pub(super) fn begins(&mut self) -> bool {
        let first = self.since.is_none();
        self.since.get_or_insert_with(clock::now);
        first
    }

    /// A success. Returns how long it has failed before, if it has.
    pub(super) fn ends(&mut self) -> Option<Duration> {
        self.since.take().map(|since| clock::now() - since)
    }
}

/// What to do about it.
fn advice(error: &StatusError) -> &'static str {
    match error {
        StatusError::Connect(_) => {
            "pm.status_listen of php-fpm must listen on status.port at an address that can be reached from here"
        }
        StatusError::Closed => "listen.allowed_clients of php-fpm must name this host",
        StatusError::Late(_) => {
            "two processes of php-fpm answer there: does somebody keep connections to pm.status_listen?"
        }
        StatusError::Answer(AnswerError::Status(_)) => "status.path must be php-fpm's pm.status_path",
        StatusError::Answer(_) | StatusError::Scoreboard(_) => "is it php-fpm that listens on status.port?",
    }
}

/// A tenth more or less, so that many processes which ask the same php-fpm do not keep step.
pub(super) fn jittered(period: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1000;
    // Below 1000.
    period.mul_f64(0.9 + 0.0002 * random as f64)
}

/// Sends a question and reads to the end of its answer.
async fn exchange(upstream: &mut Upstream, question: &[u8]) -> Result<Answer, StatusError> {
    let mut sent = 0;
    while sent < question.len() {
        let send = poll_fn(|context| upstream.socket.poll_write(context, |socket| socket.try_send(&question[sent..])));
        sent += send.await.map_err(|_| StatusError::Closed)?;
    }
    upstream.quick_acks();
    let mut answer = Answer::new(PAGE_AT_MOST);
    poll_fn(|context| {
        loop {
            let ended = scratch::with(|buffer| {
                let read = ready!(upstream.socket.poll_recv(context, buffer)).unwrap_or(0);
                if read == 0 {
                    return Poll::Ready(Err(StatusError::Closed));
                }
                Poll::Ready(answer.take(&buffer[..read]).map_err(StatusError::from))
            });
            if ready!(ended)? {
                return Poll::Ready(Ok::<_, StatusError>(()));
            }
        }
    })
    .await?;
    Ok(answer)
}

#[cfg(test)]
mod tests;
