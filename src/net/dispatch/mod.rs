//! One request from its arrival to its end: a connection for it, an attempt, another one if need be, an answer.

mod abandoned;

use super::{
    channel::Place,
    clock,
    course::Course,
    exchange::{Exchange, READS, Scene, WATCH_AFTER},
    outgoing::Outgoing,
    pool::{Carrier, Facts, Leased, Waiting, Wanted},
    scratch,
    serve::Site,
    settle::{Afterwards, GiveBack},
    sharing::{Break, Sharing},
    spool::Spool,
    upload::Replay,
    upstream::Upstream,
    webserver::{Downstream, Told},
};
use crate::{
    config::{Application, OnAbandoned, OnFailure},
    mux::{
        Request,
        channel::Opening,
        failure::{Failure, Kind, Origin, Phase},
        label::{Closed, Outcome, Refusal, RetryReason},
        pool::Claim,
        refuse::{Refused, Status, put_nothing, put_response},
        request::{Framing, Front, question},
    },
    wire::{Kind as RecordKind, ProtocolStatus, Role},
};
use abandoned::{Abandoned, Turn};
use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;

/// How often it is seen whether an abandoned body has arrived.
const LOOK: Duration = Duration::from_millis(20);
/// Times that an exchange may be sent again for not having been executed: each takes another connection that broke.
const UNPROVEN_RETRIES: u32 = 3;

/// How one exchange ended for its web server.
pub(super) enum Ended {
    /// Answered to its end, or there is nobody to answer; its id may be used again.
    Answered(u16),
    /// Its response goes no further, for this reason.
    Broken(u16, String),
}

/// One request and what has become of it so far.
pub(super) struct Job {
    request: Request,
    course: Course,
    /// To php-fpm: the request as it is sent.
    outgoing: Outgoing,
    /// To others: what has been sent of its body.
    replay: Replay,
}

impl Job {
    pub(super) fn new(request: Request, spool: Spool, replay: Replay, course: Course) -> Self {
        Self { request, course, outgoing: Outgoing::new(spool), replay }
    }

    fn id(&self) -> u16 {
        self.request.id
    }

    fn lasted(&self) -> Duration {
        clock::now() - self.course.arrived()
    }
}

impl Site {
    /// Has one request answered by the application, on one connection after another if need be.
    pub(super) async fn run(&self, web: &Downstream, mut job: Job) -> Ended {
        let (mut attempts, mut unproven) = (0, 0);
        let mut claim = Claim { again: false, repeatable: job.request.repeatable(), avoid: vec![] };
        // Why it may have been executed already.
        let mut first: Option<Failure> = None;
        self.look_for_body(web, &job).await;
        loop {
            let carrier = match self.lease(web, job.id(), &claim).await {
                Ok(carrier) => carrier,
                Err(NoLease::Left(told, turn)) => return self.left(web, job, &told, *turn),
                Err(no_lease) => {
                    return match first.filter(|_| matches!(no_lease, NoLease::Refused(_))) {
                        // 503 would say that it was not executed.
                        Some(failure) => self.fail(web, &mut job, &failure),
                        None => self.unleased(web, &mut job, no_lease),
                    };
                }
            };
            if !claim.again {
                self.pool.metrics.queue_wait(job.lasted());
            }
            let attempt = match carrier {
                Carrier::Leased(leased) => self.attempt(web, &mut job, leased).await,
                // Boxed, lest every waiting request be as large as this.
                Carrier::Place(place) => Box::pin(self.share(web, &mut job, place)).await,
            };
            let failure = match attempt {
                Attempt::Ended(ended) => return ended,
                Attempt::Elsewhere(reason) => {
                    // Not counted: it does not happen to one exchange twice.
                    self.send_again(&mut job, &mut claim, reason);
                    continue;
                }
                Attempt::Failed(failure) => failure,
            };
            let endpoint = job.course.facts.as_ref().map(|facts| facts.target.index);
            let retry = failure.retry(job.request.idempotent()).filter(|_| job.replay.records().is_some());
            let reason = retry.filter(|reason| match reason {
                RetryReason::Idempotent => {
                    claim.avoid.extend(endpoint);
                    attempts < self.pool.config().retry.attempts
                        && self.pool.has_other(&claim.avoid)
                        && self.pool.may_repeat()
                }
                RetryReason::Unproven | RetryReason::Busy => unproven < UNPROVEN_RETRIES,
            });
            let Some(reason) = reason else { return self.fail(web, &mut job, &failure) };
            if reason == RetryReason::Idempotent {
                attempts += 1;
                first = Some(failure);
            }
            unproven += u32::from(reason != RetryReason::Idempotent);
            self.send_again(&mut job, &mut claim, reason);
        }
    }

    fn send_again(&self, job: &mut Job, claim: &mut Claim, reason: RetryReason) {
        self.pool.metrics.retried(reason);
        job.course.handle_retry(clock::now());
        (claim.again, claim.repeatable) = (true, false);
    }

    /// A request to another application goes on at once, body or none. But what has come with it is looked at first: whether it
    /// has a body decides what its connection may be used for behind it, and an end that came along is sent along.
    async fn look_for_body(&self, web: &Downstream, job: &Job) {
        if self.pool.application == Application::PhpFpm || job.request.role == Role::Authorizer {
            return;
        }
        poll_fn(|context| {
            if web.lock().is_unread() {
                // The connection's reader has its turn in between.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Waits for a connection; the web server may hang up meanwhile, and is then never sent.
    async fn lease(&self, web: &Downstream, id: u16, claim: &Claim) -> Result<Carrier, NoLease> {
        let mut waiting = match self.pool.arrive(claim.clone()) {
            Ok(Wanted::Granted(carrier)) => return Ok(carrier),
            Ok(Wanted::Waiting(waiting)) => waiting,
            Err(refusal) => return Err(NoLease::Refused(refusal)),
        };
        let carrier = match self.wait(web, id, &mut waiting).await {
            Ok(carrier) => carrier,
            Err(NoLease::Told(told)) if told.is_leave() && self.runs_abandoned(claim) => {
                return Err(NoLease::Left(told, Box::new(Turn::Waiting(waiting))));
            }
            Err(no_lease) => return Err(no_lease),
        };
        // The web server may have gone in the moment in which its turn came, or before it was watched.
        if web.lock().is_gone() {
            let told = Told::Gone(Kind::Closed);
            match carrier {
                Carrier::Leased(leased) if self.runs_abandoned(claim) => {
                    return Err(NoLease::Left(told, Box::new(Turn::Leased(leased))));
                }
                Carrier::Leased(leased) => leased.untouched(),
                Carrier::Place(place) => drop(place),
            }
            return Err(NoLease::Told(told));
        }
        Ok(carrier)
    }

    /// A request whose client leaves while it waits is executed all the same. Not one that was sent before.
    fn runs_abandoned(&self, claim: &Claim) -> bool {
        self.pool.application == Application::PhpFpm
            && !claim.again
            && self.pool.config().queue.abandoned == OnAbandoned::Run
    }

    /// Its client has left, and it is executed without it.
    fn left(&self, web: &Downstream, job: Job, told: &Told, turn: Turn) -> Ended {
        let id = job.id();
        self.conclude(&job, Outcome::Gone);
        self.answer_abort(web, id, matches!(told, Told::Aborted));
        let Job { request, outgoing, .. } = job;
        Abandoned { pool: self.pool.clone(), request, outgoing }.start(turn);
        Ended::Answered(id)
    }

    async fn wait(&self, web: &Downstream, id: u16, waiting: &mut Waiting) -> Result<Carrier, NoLease> {
        let mut alarm = self.pool.alarm();
        let watch_at = clock::now() + WATCH_AFTER;
        poll_fn(|context| {
            if let Poll::Ready(granted) = waiting.poll(context) {
                return Poll::Ready(granted.map_err(NoLease::Refused));
            }
            let mut web = web.lock();
            if let Poll::Ready(told) = web.poll_told(context, id) {
                return Poll::Ready(Err(NoLease::Told(told)));
            }
            if !web.is_watched()
                && alarm.poll(context, Some(watch_at)).is_ready()
                && let Err(error) = web.listen(context)
            {
                return Poll::Ready(Err(NoLease::Told(Told::Gone(Kind::Broken(error.to_string())))));
            }
            Poll::Pending
        })
        .await
    }

    fn unleased(&self, web: &Downstream, job: &mut Job, why: NoLease) -> Ended {
        match why {
            NoLease::Refused(refusal) => {
                let why = Refused { refusal, detail: self.describe(refusal, job) };
                if refusal == Refusal::NoEndpoint && self.hangs_up(web, job.id()) {
                    self.note_refusal(&why, Some(&job.request), &mut job.course);
                    return Ended::Broken(job.id(), why.detail);
                }
                self.refuse(web, job.id(), &why, Some(&job.request), &mut job.course);
            }
            NoLease::Told(Told::Cut(why)) => self.refuse(web, job.id(), &why, Some(&job.request), &mut job.course),
            NoLease::Told(Told::Stalled) => {
                let position = "while the request waited".into();
                let (origin, kind, phase) = (Origin::Application, Kind::Stalled, Phase::Unsent);
                return self.fail(web, job, &Failure { origin, kind, phase, position });
            }
            NoLease::Told(told) | NoLease::Left(told, _) => {
                self.conclude(job, Outcome::Gone);
                self.answer_abort(web, job.id(), matches!(told, Told::Aborted));
            }
        }
        Ended::Answered(job.id())
    }

    /// Sends the request on one connection and relays the response.
    async fn attempt(&self, web: &Downstream, job: &mut Job, mut leased: Leased) -> Attempt {
        let Job { request, course, outgoing, .. } = job;
        let facts = leased.facts.clone();
        let keep_conn = facts.kept && request.reusable;
        let stale = facts.idle_for > self.pool.config().connections.reprove_after;
        let front = Front::choose(request, leased.upstream().owed.take(), facts.kept, stale);
        outgoing.start(request, keep_conn, &front);
        leased.upstream().await_room(outgoing.len());
        let scene = Scene { listener: &self.listener, pool: &self.pool };
        let exchange = Exchange::new(web, &mut leased, outgoing, &scene, request, &front, course);
        let failure = match exchange.run().await {
            Ok((reply, behind)) => {
                // An answer that came before the whole request had gone out: what is not read of it must not be read as
                // records.
                let keep_conn = keep_conn && outgoing.is_done();
                course.facts = Some(facts);
                let afterwards = self.conclude(job, Outcome::Ok);
                give_back(web, job.id(), GiveBack { leased, keep_conn, finished: reply.finish(), behind, afterwards });
                return Attempt::Ended(Ended::Answered(job.id()));
            }
            Err(failure) => failure,
        };
        if front.is_fence()
            && let Some(reason) = self.rode_in_vain(&failure, &facts)
        {
            let busy = reason == RetryReason::Busy;
            leased.discard(if busy { Closed::Busy } else { Closed::Application }, busy, drop);
            return Attempt::Elsewhere(reason);
        }
        course.facts = Some(facts);
        self.note_broken(request, course, &failure);
        // One that has not met a worker says nothing about how the application answers.
        let unmet = failure.origin == Origin::Application && failure.retry(true) == Some(RetryReason::Unproven);
        let closed = if unmet { Closed::Application } else { failure.closed() };
        let busy = failure.leaves_worker_busy();
        let given_up = failure.origin == Origin::WebServer || matches!(failure.kind, Kind::Timeout(_));
        if given_up && request.body > 0 && !outgoing.is_held() {
            let outgoing = std::mem::replace(outgoing, Outgoing::new(Spool::default()));
            tokio::spawn(abandon(leased, outgoing, closed));
        } else {
            leased.discard(closed, busy, drop);
        }
        if failure.origin == Origin::WebServer {
            self.conclude(job, Outcome::Gone);
            return Attempt::Ended(self.web_server_failed(web, job.id(), &failure));
        }
        Attempt::Failed(failure)
    }

    /// A request behind a fence came to nothing because of the exchange before it.
    fn rode_in_vain(&self, failure: &Failure, facts: &Facts) -> Option<RetryReason> {
        let endpoint = facts.target.index;
        let reason = match (&failure.kind, failure.phase) {
            // The worker is still at work.
            (Kind::Busy, _) => RetryReason::Busy,
            // The connection ended with the exchange before (pm.max_requests, a reload), as the fence would have told.
            (Kind::Closed | Kind::Broken(_), Phase::Unproven) if failure.origin == Origin::Application => {
                self.pool.fence_unanswered(endpoint);
                RetryReason::Unproven
            }
            _ => return None,
        };
        tracing::debug!(pool = self.pool.name, "connection is not used again: {failure}");
        Some(reason)
    }

    /// Sends the request, and its body as it comes, at a place on a shared connection, and relays the response.
    async fn share(&self, web: &Downstream, job: &mut Job, mut place: Place) -> Attempt {
        let Job { request, course, replay, .. } = job;
        let facts = place.facts();
        let filter = request.role == Role::Filter; // which has a file behind its body
        let bodiless = !filter && web.lock().is_bodiless(request.id);
        // What a program leaves unread of its body is taken for records where one exchange follows the other
        // (docs/applications.md). Where exchanges share a connection it must stay open for the others.
        let keep_conn = !place.single || bodiless;
        // Only one that takes a request at a time answers in the order in which it was asked.
        let proven = place.single && !request.idempotent() && self.pool.answers(facts.target.index);
        let question = proven.then(question);
        let opening = Opening { theirs: request.id, streams: streams_of(request.role), question: question.as_deref() };
        let opened = place.open(opening, |id, out| {
            request.put_head(out, Framing { id, keep_conn, front: &Front::Nothing });
        });
        if !opened {
            // Its driver is about to say so; meanwhile nobody else is to be sent here.
            place.is_last(Closed::Broken);
            let position = "before the request was sent".into();
            let (origin, kind, phase) = (Origin::Application, Kind::Closed, Phase::Unsent);
            return Attempt::Failed(Failure { origin, kind, phase, position });
        }
        if !keep_conn {
            place.is_last(Closed::Body);
        }
        replay.records().filter(|records| !records.is_empty()).into_iter().for_each(|records| place.push(records));
        let scene = Scene { listener: &self.listener, pool: &self.pool };
        let failure = match Sharing::new(web, &place, replay, scene, request.id, course).run().await {
            Ok(()) => {
                course.facts = Some(facts);
                self.conclude(job, Outcome::Ok);
                web.lock().close_behind(job.id());
                return Attempt::Ended(Ended::Answered(job.id()));
            }
            Err(Break::Cut(why)) => {
                course.facts = Some(facts);
                self.refuse(web, request.id, &why, Some(request), course);
                return Attempt::Ended(Ended::Answered(request.id));
            }
            Err(Break::Failed(failure)) => failure,
        };
        if let Kind::Rejected(status) = failure.kind {
            if status == ProtocolStatus::CantMpxConn {
                place.cannot_multiplex();
            }
            // What comes next goes elsewhere, or waits until this connection has ended.
            place.is_last(Closed::Overloaded);
        }
        course.facts = Some(facts);
        self.share_failed(web, job, failure)
    }

    fn share_failed(&self, web: &Downstream, job: &mut Job, failure: Failure) -> Attempt {
        self.note_broken(&job.request, &job.course, &failure);
        if failure.origin == Origin::Application {
            return Attempt::Failed(failure);
        }
        // Only this one may be too slow; those beside it on its connection need not be.
        let alone = failure.kind == Kind::Stalled && !self.is_dead(web);
        if alone && failure.phase != Phase::Responding {
            job.course.status = Some(Status::GatewayTimeout.code());
        }
        self.conclude(job, Outcome::Gone);
        Attempt::Ended(match alone {
            true => self.cut(web, job.id(), &failure),
            false => self.web_server_failed(web, job.id(), &failure),
        })
    }

    /// A web server that has taken nothing for as long as one exchange may hold up others: all that runs on its connection
    /// would, one behind the other.
    fn is_dead(&self, web: &Downstream) -> bool {
        let web = web.lock();
        !web.is_clear() && clock::now() - web.took_at() >= self.pool.config().connections.stall_timeout
    }

    // ---------------------------------------------------------------- answers of our own

    /// The application will not answer any more: says so, if that is still possible and not the web server's to say.
    fn fail(&self, web: &Downstream, job: &mut Job, failure: &Failure) -> Ended {
        if failure.kind == Kind::Headless && self.pool.config().on_failure == OnFailure::HangUp {
            return self.end_headless(web, job, failure);
        }
        let hangs_up = failure.is_the_applications_own() && self.hangs_up(web, job.id());
        let status = failure.status().filter(|_| !hangs_up);
        if let Some(status) = status {
            job.course.status = Some(status.code());
        }
        self.conclude(job, failure.outcome());
        let Some(status) = status else { return Ended::Broken(job.id(), failure.to_string()) };
        let mut out = vec![];
        put_response(&mut out, job.id(), status, &failure.to_string());
        // One that has gone meanwhile is seen to by whoever reads.
        _ = web.lock().answer(&out);
        Ended::Answered(job.id())
    }

    /// The response ends without a header block, as the application's did, and without the beginning of one, of which HAProxy
    /// would die.
    fn end_headless(&self, web: &Downstream, job: &mut Job, failure: &Failure) -> Ended {
        self.conclude(job, failure.outcome());
        let mut out = vec![];
        put_nothing(&mut out, job.id(), &failure.to_string());
        // As above.
        _ = web.lock().answer(&out);
        Ended::Answered(job.id())
    }

    /// What the application could have done to the web server itself is done to it: its error pages, stale caches and next
    /// upstreams are for that. Not where others have their exchanges on the connection, which would end with it.
    fn hangs_up(&self, web: &Downstream, id: u16) -> bool {
        self.pool.config().on_failure == OnFailure::HangUp && web.lock().is_alone(id)
    }

    /// The exchange is over for want of a web server that takes its response; nothing of that may have been passed on yet.
    fn cut(&self, web: &Downstream, id: u16, failure: &Failure) -> Ended {
        if failure.phase == Phase::Responding {
            return Ended::Broken(id, failure.to_string());
        }
        let mut out = vec![];
        put_response(&mut out, id, Status::GatewayTimeout, &failure.to_string());
        // One that has gone meanwhile is seen to by whoever reads.
        _ = web.lock().answer(&out);
        Ended::Answered(id)
    }

    /// The web server took the request back, hung up or does not read.
    fn web_server_failed(&self, web: &Downstream, id: u16, failure: &Failure) -> Ended {
        if failure.kind != Kind::Aborted {
            web.lock().gone(failure.kind.clone());
        }
        self.answer_abort(web, id, failure.kind == Kind::Aborted);
        Ended::Answered(id)
    }

    /// An aborted request is over for the web server with END_REQUEST; one that hung up needs nothing.
    fn answer_abort(&self, web: &Downstream, id: u16, aborted: bool) {
        if aborted {
            // One that has gone meanwhile is seen to by whoever reads.
            _ = web.lock().end(id);
        }
    }

    // ---------------------------------------------------------------- words

    /// The exchange is over for its web server: counted, and written down where that is wanted. What there is to be told of
    /// its worker afterwards.
    fn conclude(&self, job: &Job, outcome: Outcome) -> Option<Box<Afterwards>> {
        let Job { request, course, .. } = job;
        self.pool.metrics.exchange(outcome, job.lasted());
        let logged = self.log_access(Some(request), course, outcome, None);
        logged.then(|| Afterwards::new(&self.pool.name, request, course))
    }

    fn describe(&self, refusal: Refusal, job: &Job) -> String {
        let pool = &self.pool.config();
        match refusal {
            Refusal::QueueFull => {
                format!("pool {}: {} requests wait already (queue.depth)", pool.name, pool.queue.depth)
            }
            Refusal::QueueTimeout => {
                let waited = job.lasted().as_secs_f64();
                format!("pool {}: {} within {waited:.1} s (queue.timeout)", pool.name, self.pool.hold_up())
            }
            _ => format!("pool {}: no endpoint is up", pool.name),
        }
    }
}

/// What follows of a request behind its params.
const fn streams_of(role: Role) -> &'static [RecordKind] {
    match role {
        Role::Authorizer => &[],
        Role::Filter => &[RecordKind::Stdin, RecordKind::Data],
        Role::Responder | Role::Other(_) => &[RecordKind::Stdin],
    }
}

/// The response is whole: the connection goes back by way of the fence. A worker does not wait for a slow web server, nor
/// a web server for a worker.
fn give_back(web: &Downstream, id: u16, back: GiveBack) {
    web.lock().close_behind(id);
    back.run();
}

/// Why there is no connection for an exchange.
enum NoLease {
    Refused(Refusal),
    Told(Told),
    /// The client has left, and the request is executed all the same.
    Left(Told, Box<Turn>),
}

enum Attempt {
    Ended(Ended),
    /// May be sent again, if the table of retries says so.
    Failed(Failure),
    /// Must be: its worker was not free for it, or had gone, because of the exchange before.
    Elsewhere(RetryReason),
}

/// Ends an exchange with a body that goes no further. A body must arrive whole or not at all, for it is executed with what
/// has come of it (fact 10.6): once begun it is sent to its end, and the connection stays until all of it has arrived.
async fn abandon(mut leased: Leased, mut outgoing: Outgoing, closed: Closed) {
    let upstream = leased.upstream();
    while !(outgoing.is_done() && upstream.has_delivered()) {
        // No event tells of an acknowledgement; hence the look at times.
        let ended = timeout(LOOK, poll_fn(|context| poll_deliver(context, upstream, &mut outgoing))).await;
        if ended.is_ok() {
            break;
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
