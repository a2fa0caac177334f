//! One web server's connection from its first byte to its last: requests in, exchanges, answers out.

use super::{
    clock,
    exchange::{Exchange, READS, Scene, WATCH_AFTER},
    outgoing::Outgoing,
    pool::{Leased, SharedPool, Waiting, Wanted},
    scratch, settle,
    socket::Socket,
    spool::Spool,
    upstream::Upstream,
    webserver::{BodyStorage, Heard, Over, WebServer},
};
use crate::{
    config::Listener,
    mux::{
        Request,
        failure::{Failure, Kind, Origin},
        intake::Intake,
        label::{Closed, Outcome, Refusal, RetryReason},
        refuse::{Refused, Status, put_end, put_response},
        reply::Finished,
        request::Front,
    },
    wire::ProtocolStatus,
};
use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A web server that was refused early may still be sending; so long is it listened to, lest its answer be lost with
/// the connection.
const LINGER: Duration = Duration::from_secs(5);
/// How often it is seen whether an abandoned body has arrived.
const LOOK: Duration = Duration::from_millis(20);
/// Times that an exchange may be sent again for not having been executed: each takes another connection that broke.
const UNPROVEN_RETRIES: u32 = 3;

/// What all connections of one listener have in common.
pub(super) struct Site {
    pub(super) listener: Listener,
    pub(super) pool: Arc<SharedPool>,
    pub(super) storage: BodyStorage,
    pub(super) access_log: bool,
    /// Cancelled when the process begins to stop: connections kept by web servers close when nothing runs on them.
    pub(super) draining: CancellationToken,
}

/// How one exchange ended for its web server.
enum Ended {
    /// Answered to its end; the connection may be used again.
    Answered,
    /// It cannot be used again.
    Broken,
}

impl Site {
    /// Serves one connection. `over_limit`: there are too many, and each request is refused.
    pub(super) async fn serve(self: Arc<Self>, socket: Socket, over_limit: bool) {
        let mut intake = Intake::new(self.pool.policy.clone(), self.listener.max_connections);
        if over_limit {
            let detail = format!("more than {} connections (max_connections)", self.listener.max_connections);
            intake.refuse_all(Refused { refusal: Refusal::Connections, detail });
        }
        let mut web = WebServer::new(socket, intake, self.storage.clone());
        let mut kept = false;
        while let Some(keep_conn) = self.serve_one(&mut web, kept).await {
            if !keep_conn {
                return;
            }
            kept = true;
            web.ended();
            if web.send_answers().is_err() {
                return;
            }
        }
    }

    /// Serves one request. `kept`: not the first one. `None`: the connection is over; else whether it is to be kept.
    async fn serve_one(self: &Arc<Self>, web: &mut WebServer, kept: bool) -> Option<bool> {
        let mut spool = Spool::new(self.pool.next_id());
        match self.hear(web, &mut spool, kept).await {
            Ok(Heard::Request(request)) => {
                let keep_conn = request.keep_conn;
                match self.exchange(web, request, spool).await {
                    Ended::Answered => Some(keep_conn),
                    Ended::Broken => None,
                }
            }
            Ok(Heard::Refused { id, keep_conn, why }) => {
                let answered = self.refuse(web, id, &why, "").await;
                if answered && !keep_conn {
                    self.linger(web).await;
                }
                answered.then_some(keep_conn)
            }
            Ok(Heard::Over) => {
                if web.send_answers().is_ok() && self.flush(web).await.is_ok() {
                    self.linger(web).await;
                }
                None
            }
            // No request runs that could be aborted.
            Ok(Heard::Aborted) => None,
            Err(over) => {
                match (&over, web.open_id()) {
                    (Over::Closed | Over::Broken(_), _) => {}
                    (Over::Silent, Some(id)) => {
                        let why = Refused { refusal: Refusal::ReadTimeout, detail: over.to_string() };
                        self.refuse(web, id, &why, "").await;
                    }
                    _ => tracing::warn!(pool = self.pool.config.name, "connection of a web server closed: {over}"),
                }
                None
            }
        }
    }

    /// Takes in a whole request. A web server that owes bytes is given `read_timeout` for each; one that has nothing to
    /// say may be silent on a kept connection.
    async fn hear(&self, web: &mut WebServer, spool: &mut Spool, kept: bool) -> Result<Heard, Over> {
        let mut draining = pin!(self.draining.cancelled());
        let mut alarm = self.pool.alarm();
        let mut heard_at = clock::now();
        let mut have = 0;
        poll_fn(|context| {
            if let Poll::Ready(heard) = web.poll_hear(context, spool) {
                return Poll::Ready(heard);
            }
            let got = web.received();
            if got != have {
                (have, heard_at) = (got, clock::now());
            }
            // The first request is due from the start.
            let owed = web.owes_bytes() || !kept;
            if !owed && draining.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(Over::Closed));
            }
            let deadline = owed.then_some(heard_at + self.listener.read_timeout);
            if alarm.poll(context, deadline).is_ready() {
                return Poll::Ready(Err(Over::Silent));
            }
            Poll::Pending
        })
        .await
    }

    // ---------------------------------------------------------------- exchanges

    /// Has one request answered by the application, on one connection after another if need be.
    async fn exchange(self: &Arc<Self>, web: &mut WebServer, request: Request, spool: Spool) -> Ended {
        let arrived = clock::now();
        let mut outgoing = Outgoing::new(spool);
        let (mut attempts, mut unproven) = (0, 0);
        let mut again = false;
        loop {
            let leased = match self.lease(web, again).await {
                Ok(leased) => leased,
                Err(NoLease::Refused(refusal)) => {
                    let detail = self.describe(refusal, arrived);
                    let why = Refused { refusal, detail };
                    let answered = self.refuse(web, request.id, &why, &request.script()).await;
                    return if answered { Ended::Answered } else { Ended::Broken };
                }
                Err(NoLease::Gone(aborted)) => {
                    self.pool.metrics.exchange(Outcome::Gone, clock::now() - arrived);
                    return self.answer_abort(web, &request, aborted);
                }
            };
            if !again {
                self.pool.metrics.queue_wait(clock::now() - arrived);
            }
            let failure = match self.attempt(web, &request, leased, outgoing, arrived).await {
                Attempt::Ended(ended) => return ended,
                Attempt::Unfenced(unsent) => {
                    // Not counted: only so many connections can have been handed on without their fence.
                    self.pool.metrics.retried(RetryReason::Unproven);
                    (outgoing, again) = (unsent, true);
                    continue;
                }
                Attempt::Late(failure) => return self.fail(web, &request, &failure, arrived).await,
                Attempt::Failed(failure, unsent) => {
                    outgoing = unsent;
                    failure
                }
            };
            let reason = failure.retry(request.idempotent()).filter(|reason| match reason {
                RetryReason::Unproven => unproven < UNPROVEN_RETRIES,
                RetryReason::Idempotent => attempts < self.pool.config.retry.attempts,
            });
            match reason.filter(|reason| self.pool.may_retry(*reason)) {
                Some(reason) => {
                    attempts += u32::from(reason == RetryReason::Idempotent);
                    unproven += u32::from(reason == RetryReason::Unproven);
                    self.pool.metrics.retried(reason);
                    again = true;
                }
                None => return self.fail(web, &request, &failure, arrived).await,
            }
        }
    }

    /// Waits for a connection; the web server may hang up meanwhile, and is then never sent.
    async fn lease(&self, web: &mut WebServer, again: bool) -> Result<Leased, NoLease> {
        let mut waiting = match self.pool.arrive(again) {
            Ok(Wanted::Leased(leased)) => return Ok(leased),
            Ok(Wanted::Waiting(waiting)) => waiting,
            Err(refusal) => return Err(NoLease::Refused(refusal)),
        };
        let leased = self.wait(web, &mut waiting).await?;
        // The web server may have gone in the moment in which its turn came, or before it was watched.
        if web.is_gone() {
            leased.untouched();
            return Err(NoLease::Gone(false));
        }
        Ok(leased)
    }

    async fn wait(&self, web: &mut WebServer, waiting: &mut Waiting) -> Result<Leased, NoLease> {
        let mut alarm = self.pool.alarm();
        let watch_at = clock::now() + WATCH_AFTER;
        poll_fn(|context| {
            if let Poll::Ready(granted) = waiting.poll(context) {
                return Poll::Ready(granted.map_err(NoLease::Refused));
            }
            if !web.is_watched() {
                if alarm.poll(context, Some(watch_at)).is_pending() {
                    return Poll::Pending;
                }
                if web.watch().is_err() {
                    return Poll::Ready(Err(NoLease::Gone(false)));
                }
            }
            match web.poll_hear(context, &mut Spool::default()) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(Heard::Aborted)) => Poll::Ready(Err(NoLease::Gone(true))),
                Poll::Ready(_) => Poll::Ready(Err(NoLease::Gone(false))),
            }
        })
        .await
    }

    /// Sends the request on one connection and relays the response.
    async fn attempt(
        self: &Arc<Self>,
        web: &mut WebServer,
        request: &Request,
        mut leased: Leased,
        mut outgoing: Outgoing,
        arrived: Instant,
    ) -> Attempt {
        let facts = leased.facts;
        let keep_conn = facts.kept && request.reusable;
        let stale = facts.idle_for > self.pool.config.connections.reprove_after;
        let front = match leased.upstream().owed.take() {
            Some(finished) => Front::Fence(finished),
            None if facts.kept && (stale || !request.idempotent()) => Front::GetValues,
            None => Front::Nothing,
        };
        outgoing.start(request, keep_conn, &front);
        leased.upstream().await_room(outgoing.len());
        let scene = Scene { listener: &self.listener, pool: &self.pool };
        let exchange = Exchange::new(web, &mut leased, &mut outgoing, &scene, request.id, &front);
        match exchange.run().await {
            Ok((reply, behind)) => {
                self.log_access(request, Outcome::Ok, arrived);
                self.pool.metrics.exchange(Outcome::Ok, clock::now() - arrived);
                // An answer that came before the whole request had gone out: what is not read of it must not be read as
                // records.
                let keep_conn = keep_conn && outgoing.is_done();
                let back = GiveBack { leased, keep_conn, finished: reply.finish(), behind };
                Attempt::Ended(self.conclude(web, request.keep_conn, back).await)
            }
            // The connection ended with the exchange before (pm.max_requests, a reload), as the fence would have told.
            Err(failure) if matches!(front, Front::Fence(_)) && failure.retry(false).is_some() => {
                tracing::debug!(pool = self.pool.config.name, "connection is not used again: {failure}");
                self.pool.fence_unanswered(facts.endpoint);
                leased.discard(Closed::Application, false, drop);
                Attempt::Unfenced(outgoing)
            }
            Err(failure) => {
                self.note(request, &leased, &failure);
                let (closed, busy) = (failure.closed(), failure.leaves_worker_busy());
                if failure.origin == Origin::WebServer {
                    self.pool.metrics.exchange(Outcome::Gone, clock::now() - arrived);
                    tokio::spawn(abandon(leased, outgoing, request.body > 0, closed));
                    return Attempt::Ended(self.answer_abort(web, request, failure.kind == Kind::Aborted));
                }
                if matches!(failure.kind, Kind::Timeout(_)) {
                    tokio::spawn(abandon(leased, outgoing, request.body > 0, closed));
                    return Attempt::Late(failure);
                }
                leased.discard(closed, busy, drop);
                Attempt::Failed(failure, outgoing)
            }
        }
    }

    /// The response is whole: the web server gets its last bytes, and the connection goes back by way of the fence.
    async fn conclude(&self, web: &mut WebServer, keep_web: bool, back: GiveBack) -> Ended {
        if web.is_clear() && !keep_web {
            web.close();
            back.run();
            return Ended::Broken;
        }
        // A worker does not wait for a slow web server, nor a web server for a worker.
        back.run();
        match self.flush(web).await {
            Ok(()) => Ended::Answered,
            Err(_) => Ended::Broken,
        }
    }

    // ---------------------------------------------------------------- answers of our own

    /// The application will not answer any more: says so, if that is still possible.
    async fn fail(&self, web: &mut WebServer, request: &Request, failure: &Failure, arrived: Instant) -> Ended {
        self.pool.metrics.exchange(failure.outcome(), clock::now() - arrived);
        self.log_access(request, failure.outcome(), arrived);
        let Some(status) = failure.status() else {
            web.break_off(&failure.to_string());
            // The connection is closed whether that is taken or not.
            _ = self.flush(web).await;
            return Ended::Broken;
        };
        match self.answer(web, request.id, status, &failure.to_string()).await {
            true => Ended::Answered,
            false => Ended::Broken,
        }
    }

    /// Answers in the application's stead. False if the web server did not take it.
    async fn refuse(&self, web: &mut WebServer, id: u16, why: &Refused, script: &str) -> bool {
        self.pool.metrics.refused(why.refusal);
        self.pool.metrics.exchange(Outcome::Refused, Duration::ZERO);
        tracing::warn!(
            pool = self.pool.config.name,
            reason = why.refusal.label(),
            script,
            "request refused: {}",
            why.detail
        );
        self.answer(web, id, why.refusal.status(), &why.detail).await
    }

    async fn answer(&self, web: &mut WebServer, id: u16, status: Status, detail: &str) -> bool {
        let mut out = vec![];
        put_response(&mut out, id, status, detail);
        web.send(&out).is_ok() && self.flush(web).await.is_ok()
    }

    /// An aborted request is over for the web server with END_REQUEST; one that hung up needs nothing.
    fn answer_abort(&self, web: &mut WebServer, request: &Request, aborted: bool) -> Ended {
        if !aborted || !web.is_clear() {
            return Ended::Broken;
        }
        let mut out = vec![];
        put_end(&mut out, request.id, ProtocolStatus::RequestComplete);
        web.responded();
        if web.send(&out).is_ok() { Ended::Answered } else { Ended::Broken }
    }

    /// Waits until the web server has taken everything.
    async fn flush(&self, web: &mut WebServer) -> io::Result<()> {
        while !web.is_clear() {
            timeout(self.listener.write_timeout, poll_fn(|context| web.poll_flush(context))).await??;
        }
        Ok(())
    }

    /// Listens until the web server closes, without heeding what it says.
    async fn linger(&self, web: &mut WebServer) {
        let deaf = async {
            let mut spool = Spool::default();
            while poll_fn(|context| web.poll_hear(context, &mut spool)).await.is_ok() {}
        };
        // After that it is closed all the same.
        _ = timeout(LINGER, deaf).await;
    }

    // ---------------------------------------------------------------- words

    fn describe(&self, refusal: Refusal, arrived: Instant) -> String {
        let pool = &self.pool.config;
        match refusal {
            Refusal::QueueFull => {
                format!("pool {}: {} requests wait already (queue.depth)", pool.name, pool.queue.depth)
            }
            Refusal::QueueTimeout => {
                let waited = (clock::now() - arrived).as_secs_f64();
                format!("pool {}: no worker became free within {waited:.1} s (queue.timeout)", pool.name)
            }
            _ => format!("pool {}: no endpoint is up", pool.name),
        }
    }

    /// One line for an exchange that broke.
    fn note(&self, request: &Request, leased: &Leased, failure: &Failure) {
        let facts = leased.facts;
        tracing::warn!(
            pool = self.pool.config.name,
            endpoint = %self.pool.address(facts.endpoint),
            connection_age = facts.age.as_secs_f64(),
            connection_requests = facts.used,
            phase = ?failure.phase,
            script = %request.script(),
            "exchange broke: {failure}"
        );
    }

    fn log_access(&self, request: &Request, outcome: Outcome, arrived: Instant) {
        if self.access_log {
            tracing::info!(
                target: "access",
                pool = self.pool.config.name,
                outcome = outcome.label(),
                seconds = (clock::now() - arrived).as_secs_f64(),
                body = request.body,
                script = %request.script(),
                "request"
            );
        }
    }
}

/// Why there is no connection for an exchange.
enum NoLease {
    Refused(Refusal),
    /// The web server hung up, or (true) took the request back.
    Gone(bool),
}

enum Attempt {
    Ended(Ended),
    /// A timeout: is never sent again.
    Late(Failure),
    /// May be sent again.
    Failed(Failure, Outgoing),
    /// Must be: the connection had ended before it, and it was not executed.
    Unfenced(Outgoing),
}

/// A connection behind a whole response.
struct GiveBack {
    leased: Leased,
    /// It was asked to stay open.
    keep_conn: bool,
    finished: Option<Finished>,
    /// What came behind the response.
    behind: Vec<u8>,
}

impl GiveBack {
    fn run(self) {
        let Self { leased, keep_conn, finished, behind } = self;
        match finished.filter(Finished::clean) {
            Some(finished) if keep_conn && behind.is_empty() && leased.may_defer() => leased.defer(finished),
            Some(finished) if keep_conn => {
                let (held, upstream) = leased.settle();
                tokio::spawn(settle::fence(held, upstream, finished, behind));
            }
            Some(_) if !leased.facts.kept => leased.discard(Closed::NotKept, false, drop),
            Some(_) => leased.discard(Closed::Body, false, drop),
            None => leased.discard(Closed::Protocol, false, drop),
        }
    }
}

/// Ends an exchange that goes no further. A body must arrive whole or not at all, for it is executed with what has come
/// of it (fact 10.6): once begun it is sent to its end, and the connection stays until all of it has arrived.
async fn abandon(mut leased: Leased, mut outgoing: Outgoing, has_body: bool, closed: Closed) {
    if has_body {
        let upstream = leased.upstream();
        while !(outgoing.is_done() && upstream.has_delivered()) {
            // No event tells of an acknowledgement; hence the look at times.
            let ended = timeout(LOOK, poll_fn(|context| poll_deliver(context, upstream, &mut outgoing))).await;
            if ended.is_ok() {
                break;
            }
        }
    }
    leased.discard(closed, true, drop);
}

/// Sends, and drops what comes back, lest the application wait for a reader. Ready when the connection has ended.
fn poll_deliver(context: &mut Context<'_>, upstream: &mut Upstream, outgoing: &mut Outgoing) -> Poll<()> {
    for _ in 0..READS {
        let sent = match outgoing.is_done() {
            true => Poll::Pending,
            false => outgoing.poll_send(context, &mut upstream.socket),
        };
        let read = scratch::with(|buffer| upstream.socket.poll_recv(context, buffer));
        match (sent, read) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Ok(0) | Err(_))) => return Poll::Ready(()),
            (Poll::Pending, Poll::Pending) => return Poll::Pending,
            _ => {}
        }
    }
    context.waker().wake_by_ref();
    Poll::Pending
}
