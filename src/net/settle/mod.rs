//! Around the exchanges: how a new connection proves itself, and how a used one comes back.

mod afterwards;

use super::{
    clock::{self, Alarm},
    delivery::{Delivery, LOOK_AGAIN, SILENCE},
    pool::{Leased, Settled, SharedPool},
    scratch,
    target::Target,
    upstream::Upstream,
};
use crate::{
    mux::{
        label::Closed,
        pool::{Handshake, OpenFailure, SlotKey},
        proof::{Clean, Proof, ProofError},
        reply::Finished,
        request::GET_VALUES,
    },
    wire,
};
pub(super) use afterwards::Afterwards;
use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// An HTTP server answers the end of a line within this time.
const SAYS_WITHIN: Duration = Duration::from_millis(250);

/// Connects to an endpoint and lets it prove that a worker is there (rule R3).
pub(super) async fn open(pool: Arc<SharedPool>, key: SlotKey, target: Arc<Target>, handshake: Handshake) {
    let timeouts = pool.config().timeouts.clone();
    let started = Instant::now();
    let connected = timeout(timeouts.connect, Upstream::connect(&target.address, &timeouts)).await;
    let mut upstream = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(upstream) => upstream,
        Err(error) => {
            target.complain(&pool.name, format_args!("cannot connect: {error}"));
            pool.failed(key, &target, OpenFailure::Connect);
            return;
        }
    };
    pool.metrics.connect(started.elapsed());
    let answers = match handshake {
        Handshake::Skip => return pool.unprovable(key, upstream),
        Handshake::Prove => 1,
        Handshake::Learn => 2,
        // Only other applications are not waited for, and those are joined: see `join`.
        Handshake::Remind => 1,
    };
    pool.connected(key);
    match timeout(timeouts.prove, shake_hands(&mut upstream, pool.alarm(), answers)).await {
        Ok(Ok(clean)) => pool.proven(key, upstream, clean, handshake),
        Ok(Err((failure, words))) => {
            drop(upstream);
            report_unproven(&pool, key, &target, failure, &words);
        }
        Err(_) => {
            // One that has answered before is known.
            let other = if handshake == Handshake::Learn { other_protocol(&mut upstream).await } else { None };
            drop(upstream);
            let words = "no worker answered in time (timeouts.prove): all may be busy";
            let words = other.as_deref().unwrap_or(words);
            report_unproven(&pool, key, &target, OpenFailure::Unanswered, words);
        }
    }
}

/// What a server that has not answered says for itself behind the end of a line. Some HTTP servers (Go's, Python's) wait for
/// that; php-fpm, should a worker take the connection up yet, closes at it.
async fn other_protocol(upstream: &mut Upstream) -> Option<String> {
    upstream.socket.try_send(wire::END_OF_LINES).ok()?;
    let mut proof = Proof::handshake(1);
    let answer = timeout(SAYS_WITHIN, poll_fn(|context| poll_answer(context, upstream, &mut proof, &mut vec![])));
    match answer.await {
        Ok(Err(Unanswered::Proof(error))) => Some(error.to_string()),
        _ => None,
    }
}

fn report_unproven(pool: &Arc<SharedPool>, key: SlotKey, target: &Target, failure: OpenFailure, words: &str) {
    if pool.failed(key, target, failure) {
        tracing::warn!(
            pool = pool.name,
            endpoint = %target,
            "application closes behind GET_VALUES, as PHP before 8.2.13 does: it is served with one connection per \
             request from now on; upgrade PHP to keep connections"
        );
    } else if failure != OpenFailure::ClosedBehindAnswer {
        target.complain(&pool.name, format_args!("connection did not prove itself: {words}"));
    }
}

/// Sends so many GET_VALUES in one write and waits for as many answers.
async fn shake_hands(upstream: &mut Upstream, alarm: Alarm, answers: u8) -> Result<Clean, (OpenFailure, String)> {
    let mut proof = Proof::handshake(answers);
    let asked = ask(upstream, alarm, &GET_VALUES.repeat(answers.into()), &mut proof, &[]).await;
    asked.map_err(|why| match proof.due() {
        1 if answers == 2 => (OpenFailure::ClosedBehindAnswer, why.to_string()),
        _ => (OpenFailure::Handshake, why.to_string()),
    })
}

/// A connection behind a whole response.
pub(super) struct GiveBack {
    pub(super) leased: Leased,
    /// It was asked to stay open.
    pub(super) keep_conn: bool,
    pub(super) finished: Option<Finished>,
    /// What came behind the response.
    pub(super) behind: Vec<u8>,
    pub(super) afterwards: Option<Box<Afterwards>>,
}

impl GiveBack {
    pub(super) fn run(self) {
        let Self { leased, keep_conn, finished, behind, afterwards } = self;
        match finished.filter(Finished::clean) {
            Some(finished) if keep_conn => {
                if let Some((held, upstream, finished)) = leased.settle(finished, behind.is_empty()) {
                    tokio::spawn(fence(held, upstream, finished, behind, afterwards));
                }
            }
            Some(_) if !leased.facts.kept => leased.discard(Closed::NotKept, false, drop),
            Some(_) => leased.discard(Closed::Body, false, drop),
            None => leased.discard(Closed::Protocol, false, drop),
        }
    }
}

/// Sends a fence behind a finished exchange and gives the connection back once its worker has answered, however long
/// that takes: until then it is still at work (`fastcgi_finish_request`, fact 11). `behind`: what has come already.
/// `afterwards`: who is told how long.
async fn fence(
    held: Settled,
    mut upstream: Upstream,
    finished: Finished,
    behind: Vec<u8>,
    afterwards: Option<Box<Afterwards>>,
) {
    let started = Instant::now();
    let alarm = held.pool().alarm();
    let answer = ask(&mut upstream, alarm, &GET_VALUES, &mut Proof::fence(finished), &behind).await;
    if !matches!(answer, Err(Unanswered::Silent)) {
        held.pool().metrics.settle(started.elapsed());
        afterwards.into_iter().for_each(|afterwards| afterwards.handle_settled(started.elapsed()));
    }
    conclude(held, upstream, answer);
}

/// Asks an idle connection whether its worker is still there; where a fence is owed, by that.
pub(super) async fn probe(held: Settled, mut upstream: Upstream) {
    if let Some(finished) = upstream.owed.take() {
        return fence(held, upstream, finished, vec![], None).await;
    }
    let limit: Duration = held.pool().config().timeouts.prove;
    let alarm = held.pool().alarm();
    let asked = timeout(limit, ask(&mut upstream, alarm, &GET_VALUES, &mut Proof::handshake(1), &[])).await;
    conclude(held, upstream, asked.unwrap_or_else(|_| Err(Unanswered::Broken("no answer in time".into()))));
}

fn conclude(held: Settled, upstream: Upstream, answer: Result<Clean, Unanswered>) {
    match answer {
        Ok(clean) => held.checkin(upstream, clean),
        Err(why) => {
            // First the connection, then its place: the next one may be opened at once.
            drop(upstream);
            tracing::debug!(pool = held.pool().name, "connection is not used again: {why}");
            held.close(if matches!(why, Unanswered::Silent) { Closed::Silent } else { Closed::Application });
        }
    }
}

/// Why there is no answer to a GET_VALUES.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    /// A worker may take its time, but a host that is there acknowledges at once what it is sent.
    #[error("its host acknowledges nothing")]
    Silent,
    #[error("{0}")]
    Proof(#[from] ProofError),
    #[error("{0}")]
    Broken(String),
}

impl Unanswered {
    fn broken(error: impl ToString) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Sends `out` and reads until the proof is complete.
async fn ask(
    upstream: &mut Upstream,
    mut alarm: Alarm,
    out: &[u8],
    proof: &mut Proof,
    behind: &[u8],
) -> Result<Clean, Unanswered> {
    let mut sent = 0;
    while sent < out.len() {
        let send = poll_fn(|context| upstream.socket.poll_write(context, |socket| socket.try_send(&out[sent..])));
        sent += send.await.map_err(Unanswered::broken)?;
    }
    let (taken, clean) = proof.take(behind)?;
    if let Some(clean) = clean {
        return Ok(clean);
    }
    let mut carry = behind[taken..].to_vec();
    let mut look_at = Some(clock::now() + SILENCE);
    poll_fn(|context| {
        if let Poll::Ready(answer) = poll_answer(context, upstream, proof, &mut carry) {
            return Poll::Ready(answer);
        }
        loop {
            ready!(alarm.poll(context, look_at));
            look_at = match upstream.delivery() {
                Delivery::Waiting(silent) if silent >= SILENCE => return Poll::Ready(Err(Unanswered::Silent)),
                Delivery::Waiting(_) => Some(clock::now() + LOOK_AGAIN),
                Delivery::Done => None,
            };
        }
    })
    .await
}

fn poll_answer(
    context: &mut Context<'_>,
    upstream: &mut Upstream,
    proof: &mut Proof,
    carry: &mut Vec<u8>,
) -> Poll<Result<Clean, Unanswered>> {
    loop {
        let step = scratch::with(|buffer| {
            let (head, space) = buffer.split_at_mut(carry.len());
            let read = ready!(upstream.socket.poll_recv(context, space)).map_err(Unanswered::broken)?;
            if read == 0 {
                return Poll::Ready(Err(Unanswered::broken("application closed the connection")));
            }
            head.copy_from_slice(carry);
            let bytes = &buffer[..carry.len() + read];
            let (taken, clean) = proof.take(bytes)?;
            *carry = bytes[taken..].to_vec();
            Poll::Ready(Ok(clean))
        });
        if let Some(clean) = ready!(step)? {
            return Poll::Ready(Ok(clean));
        }
    }
}
