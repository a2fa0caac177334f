//! Requests whose client has left while they waited, executed all the same (`queue.abandoned: run`): in their turn, with
//! their responses thrown away. For what is fired and forgotten, as WordPress does with its cron.

use crate::mux::{
    Request,
    failure::{Failure, Kind, Origin, Phase},
    label::{Refusal, RetryReason},
    pool::Claim,
    reply::Reply,
    request::Front,
};
use crate::net::{
    outgoing::Outgoing,
    pool::{Carrier, Leased, SharedPool, Waiting, Wanted},
    scratch,
    settle::GiveBack,
};
use std::{
    future::{pending, poll_fn},
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::sleep;

/// Times that it may be sent again for not having been executed.
const UNPROVEN_RETRIES: u32 = 3;
/// Reads in a row before others get their turn.
const READS: usize = 16;

/// How far it had come when its client left.
pub(super) enum Turn {
    /// It keeps its place in the queue.
    Waiting(Waiting),
    Leased(Leased),
}

/// One such request.
pub(super) struct Abandoned {
    pub(super) pool: Arc<SharedPool>,
    pub(super) request: Request,
    pub(super) outgoing: Outgoing,
}

impl Abandoned {
    /// Executes it behind the back of the task that served its client.
    pub(super) fn start(self, turn: Turn) {
        tokio::spawn(self.run(turn));
    }

    async fn run(mut self, turn: Turn) {
        let mut leased = match turn {
            Turn::Leased(leased) => Ok(leased),
            Turn::Waiting(waiting) => granted(waiting).await,
        };
        for attempt in 0.. {
            let failure = match leased {
                Ok(leased) => match self.send(leased).await {
                    Ok(()) => return self.note("executed"),
                    Err(failure) => failure,
                },
                Err(refusal) => return self.note(&format!("not executed: {}", refusal.label())),
            };
            if attempt == UNPROVEN_RETRIES || failure.retry(false) != Some(RetryReason::Unproven) {
                return self.note(&failure.to_string());
            }
            self.pool.metrics.retried(RetryReason::Unproven);
            leased = match self.pool.arrive(Claim { again: true, ..Claim::default() }) {
                Ok(Wanted::Granted(carrier)) => own(carrier),
                Ok(Wanted::Waiting(waiting)) => granted(waiting).await,
                Err(refusal) => Err(refusal),
            };
        }
    }

    /// # Errors
    /// It broke; the connection has been discarded.
    async fn send(&mut self, mut leased: Leased) -> Result<(), Failure> {
        let Self { pool, request, outgoing } = self;
        let (kept, idle_for) = (leased.facts.kept, leased.facts.idle_for);
        let (keep_conn, stale) = (kept && request.reusable, idle_for > pool.config().connections.reprove_after);
        let front = Front::choose(request, leased.upstream().owed.take(), kept, stale);
        outgoing.start(request, keep_conn, &front);
        leased.upstream().await_room(outgoing.len());
        let mut course =
            Course { reply: Reply::new(outgoing.id(), request.id, &front), outgoing, behind: vec![], started: false };
        let limit = pool.config().timeouts.exchange;
        let over = async {
            match limit {
                Some(limit) => sleep(limit).await,
                None => pending().await,
            }
        };
        let ended = tokio::select! {
            ended = poll_fn(|context| course.poll(context, &mut leased)) => ended,
            () = over => Err(Kind::Timeout("exchange")),
        };
        match ended {
            Ok(()) => {
                let keep_conn = keep_conn && course.outgoing.is_done();
                let (finished, behind) = (course.reply.finish(), course.behind);
                GiveBack { leased, keep_conn, finished, behind, afterwards: None }.run();
                Ok(())
            }
            Err(kind) => {
                let failure = course.failure(kind);
                leased.discard(failure.closed(), failure.leaves_worker_busy(), drop);
                Err(failure)
            }
        }
    }

    fn note(&self, what: &str) {
        let (pool, method, script) = (&self.pool.name, self.request.method(), self.request.script());
        tracing::info!(pool, method, script = &*script, "request whose client had left while it waited: {what}");
    }
}

/// One sending of it.
struct Course<'a> {
    outgoing: &'a mut Outgoing,
    reply: Reply,
    /// What has come and has not been looked at.
    behind: Vec<u8>,
    /// A byte of the response has come.
    started: bool,
}

impl Course<'_> {
    /// Sends, and drops what comes back. Ready at the end of the response.
    fn poll(&mut self, context: &mut Context<'_>, leased: &mut Leased) -> Poll<Result<(), Kind>> {
        let upstream = leased.upstream();
        for _ in 0..READS {
            while !self.outgoing.is_waiting() {
                match self.outgoing.poll_send(context, &mut upstream.socket) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(_)) => upstream.quick_acks(),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Kind::Broken(error.to_string()))),
                }
            }
            let read = scratch::with(|buffer| {
                let read = upstream.socket.poll_recv(context, buffer);
                if let Poll::Ready(Ok(read)) = read {
                    self.behind.extend_from_slice(&buffer[..read]);
                }
                read
            });
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Kind::Closed)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Kind::Broken(error.to_string()))),
                Poll::Ready(Ok(_)) => {}
            }
            match self.digest() {
                Ok(true) => return Poll::Ready(Ok(())),
                Ok(false) if self.outgoing.is_held() && !self.reply.proof_due() => self.outgoing.release(),
                Ok(false) => {}
                Err(kind) => return Poll::Ready(Err(kind)),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Looks at what has come. True once the response has ended.
    fn digest(&mut self) -> Result<bool, Kind> {
        loop {
            let scan = self.reply.scan(&mut self.behind).map_err(Kind::from)?;
            self.started |= scan.forward > 0;
            self.behind.drain(..scan.forward + scan.skip);
            if self.reply.ended() || (scan.forward == 0 && scan.skip == 0) {
                return Ok(self.reply.ended());
            }
        }
    }

    fn failure(&self, kind: Kind) -> Failure {
        let phase = match () {
            () if self.started => Phase::Responding,
            () if self.outgoing.is_held() => Phase::Unsent,
            () if self.reply.proof_due() => Phase::Unproven,
            () => Phase::Sent,
        };
        Failure { origin: Origin::Application, kind, phase, position: self.reply.position() }
    }
}

async fn granted(mut waiting: Waiting) -> Result<Leased, Refusal> {
    own(poll_fn(|context| waiting.poll(context)).await?)
}

/// Only requests to php-fpm are kept, and those have their connections for themselves.
fn own(carrier: Carrier) -> Result<Leased, Refusal> {
    match carrier {
        Carrier::Leased(leased) => Ok(leased),
        Carrier::Place(_) => Err(Refusal::NoEndpoint),
    }
}
