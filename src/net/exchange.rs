//! One exchange over one leased connection: the request out, the response back, both watched.

use super::{
    clock,
    course::Course,
    delivery::{Delivery, LOOK_AGAIN, SILENCE},
    outgoing::Outgoing,
    pool::{Leased, SharedPool},
    scratch,
    webserver::Downstream,
};
use crate::{
    config::Listener,
    mux::{
        Request,
        failure::{Failure, Kind, Origin, Phase},
        label::Direction,
        refuse::put_end,
        reply::Reply,
        request::Front,
    },
    wire::{ProtocolStatus, put_stderr},
};
use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// A web server is watched for a hang-up once an exchange has lasted so long: registering a socket for one that is
/// over sooner costs more than it can save.
pub(super) const WATCH_AFTER: Duration = Duration::from_millis(10);
/// A fence in front of a request that is not answered for so long: the worker is at work behind the response before, and
/// the request goes elsewhere. Measured with eight workers: a free one answers within half a millisecond, and on a machine
/// whose processors are wanted five times over 99.5 of 100 do within 25 ms. Who waits in vain is to notice nothing; a request
/// that is sent again for nothing costs an execution, at most once a connection, since nothing is sent like that for long
/// afterwards.
const RIDE_AT_MOST: Duration = Duration::from_millis(20);
/// A header block is held back until it is whole, unless it grows over this.
pub(super) const HEAD_AT_MOST: usize = 64 * 1024;
/// Reads in a row before others get their turn.
pub(super) const READS: usize = 16;

/// The state of one exchange between the two connections.
pub(super) struct Exchange<'a> {
    web: &'a Downstream,
    /// The web server's request id.
    theirs: u16,
    leased: &'a mut Leased,
    outgoing: &'a mut Outgoing,
    reply: Reply,
    listener: &'a Listener,
    pool: &'a Arc<SharedPool>,
    clocks: Clocks,
    course: &'a mut Course,
    /// The application is not read from: the web server has not taken all of what came before.
    blocked: bool,
    /// A header of the response of which not all has come.
    carry: Vec<u8>,
    /// The response so far, until its header block is whole: HAProxy dies of one that goes no further.
    head: Vec<u8>,
    /// Bytes of the response have gone on: nothing can be mended any more.
    started: bool,
    /// It has been looked at once for having lasted longer than most.
    looked_at: bool,
    /// Sending failed; what the application says until it closes is still heard.
    send_error: Option<io::Error>,
    /// It may be executed twice, and nothing of it is lost with its connection.
    repeatable: bool,
    /// It was sent behind the fence of the exchange before.
    rides: bool,
    /// When to look next whether what was sent has arrived; `None` once it has.
    arrival: Option<Instant>,
    /// Its endpoint has been reported for not acknowledging what it was sent.
    reported: bool,
}

/// When what happened.
#[derive(Debug)]
struct Clocks {
    started: Instant,
    /// Last time that the application took or gave a byte.
    application: Instant,
    alarm: clock::Alarm,
}

/// Where one exchange takes place, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) listener: &'a Listener,
    pub(super) pool: &'a Arc<SharedPool>,
}

impl<'a> Exchange<'a> {
    /// `request` as the web server sent it; `front`: what it goes behind.
    pub(super) fn new(
        web: &'a Downstream,
        leased: &'a mut Leased,
        outgoing: &'a mut Outgoing,
        scene: &Scene<'a>,
        request: &Request,
        front: &Front,
        course: &'a mut Course,
    ) -> Self {
        let theirs = request.id;
        let Scene { listener, pool } = *scene;
        let now = clock::now();
        let clocks = Clocks { started: now, application: now, alarm: pool.alarm() };
        course.handle_lease(now);
        let reply = Reply::new(outgoing.id(), theirs, front);
        Self {
            web,
            theirs,
            leased,
            outgoing,
            reply,
            listener,
            pool,
            clocks,
            course,
            blocked: false,
            carry: vec![],
            head: vec![],
            started: false,
            looked_at: false,
            send_error: None,
            rides: front.is_fence(),
            repeatable: request.idempotent() && request.body == 0,
            arrival: Some(now + SILENCE),
            reported: false,
        }
    }

    /// Runs to END_REQUEST. Its last bytes may still be pending at the web server. Returns the reply and what came
    /// behind it.
    ///
    /// # Errors
    /// It broke; the connection must be discarded.
    pub(super) async fn run(mut self) -> Result<(Reply, Vec<u8>), Failure> {
        match poll_fn(|context| self.poll(context)).await {
            Ok(()) => Ok((self.reply, self.carry)),
            Err((origin, kind)) => Err(self.failure(origin, kind)),
        }
    }

    fn failure(&self, origin: Origin, kind: Kind) -> Failure {
        let phase = match () {
            () if self.started => Phase::Responding,
            () if self.outgoing.is_held() => Phase::Unsent,
            () if self.reply.proof_due() => Phase::Unproven,
            () => Phase::Sent,
        };
        let position = match origin {
            Origin::Application => self.reply.position(),
            Origin::WebServer => "before its response was whole".into(),
        };
        Failure { origin, kind, phase, position }
    }

    /// Fixed order: out, in, the web server, the clock.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), (Origin, Kind)>> {
        self.poll_send(context);
        for _ in 0..READS {
            match self.poll_relay(context) {
                Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(false)) if self.outgoing.is_held() => {
                    match self.reply.proofs_due() {
                        0 => self.outgoing.release(),
                        1 => self.outgoing.nudge(),
                        _ => {}
                    }
                    self.poll_send(context);
                }
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Pending => return self.poll_rest(context),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_send(&mut self, context: &mut Context<'_>) {
        while !self.outgoing.is_waiting() && self.send_error.is_none() {
            let upstream = self.leased.upstream();
            match self.outgoing.poll_send(context, &mut upstream.socket) {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => self.send_error = Some(error),
                Poll::Ready(Ok(sent)) => {
                    self.leased.upstream().quick_acks();
                    self.clocks.application = clock::now();
                    self.pool.metrics.bytes(Direction::Request, sent);
                    if self.outgoing.is_done() {
                        self.course.handle_sent(self.clocks.application);
                    }
                }
            }
        }
    }

    /// Moves one read's worth of the response. True once it has ended.
    fn poll_relay(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, (Origin, Kind)>> {
        if self.web.lock().poll_clear(context).is_pending() {
            self.blocked = true;
            return Poll::Pending;
        }
        if std::mem::take(&mut self.blocked) {
            // The application was not heard meanwhile: its time begins anew.
            self.clocks.application = clock::now();
        }
        scratch::with(|buffer| {
            let (head, space) = buffer.split_at_mut(self.carry.len());
            let read = match self.leased.upstream().socket.poll_recv(context, space) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(read) => read.map_err(|error| self.application_broke(&error))?,
            };
            if read == 0 {
                return Poll::Ready(self.handle_close());
            }
            head.copy_from_slice(&self.carry);
            let len = self.carry.len() + read;
            self.carry.clear();
            Poll::Ready(self.relay(&mut buffer[..len]))
        })
    }

    /// Passes on what may go on of `bytes`, and keeps what is not whole or lies behind the end.
    fn relay(&mut self, bytes: &mut [u8]) -> Result<bool, (Origin, Kind)> {
        let mut at = 0;
        loop {
            let scan = match self.reply.scan(&mut bytes[at..]) {
                Ok(scan) => scan,
                Err(error) => return Err((Origin::Application, error.into())),
            };
            if scan.forward > 0 {
                // Not for what is dropped: strays do not keep a request alive.
                self.clocks.application = clock::now();
            }
            let forward = self.reply.cut(&mut bytes[at..at + scan.forward], &mut self.carry);
            if forward > 0 {
                self.pass_on(&bytes[at..at + forward])?;
            }
            at += scan.forward + scan.skip;
            if self.reply.ended() || (scan.forward == 0 && scan.skip == 0) {
                self.carry.extend_from_slice(&bytes[at..]);
                return Ok(self.reply.ended());
            }
        }
    }

    /// Sends whole records of the response to the web server, those of its header block together.
    fn pass_on(&mut self, records: &[u8]) -> Result<(), (Origin, Kind)> {
        let held = !self.started && !self.reply.head_is_whole() && !self.reply.ended();
        if held && self.head.len() + records.len() <= HEAD_AT_MOST {
            self.head.extend_from_slice(records);
            return Ok(());
        }
        if !std::mem::replace(&mut self.started, true) {
            let waited = self.clocks.application.saturating_duration_since(self.clocks.started);
            self.pool.metrics.first_byte(waited);
        }
        self.pool.metrics.bytes(Direction::Response, (self.head.len() + records.len()) as u64);
        // HAProxy dies of a message that nothing follows at once (docs/web-servers.md).
        let sent = if self.head.is_empty() && !self.reply.ends_with_message() {
            self.course.handle_response(records, self.clocks.application);
            self.web.lock().respond(records)
        } else {
            let mut all = std::mem::take(&mut self.head);
            all.extend_from_slice(records);
            self.course.handle_response(&all, self.clocks.application);
            if self.reply.ends_with_message() {
                put_stderr(&mut all, self.theirs, &[]);
            }
            self.web.lock().respond(&all)
        };
        sent.map_err(|error| web_server_broke(&error))
    }

    /// While nothing moves: has the web server hung up, or has something taken too long?
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Result<(), (Origin, Kind)>> {
        if let Poll::Ready(told) = self.web.lock().poll_told(context, self.theirs) {
            return Poll::Ready(Err((Origin::WebServer, told.into())));
        }
        let (deadline, then) = self.deadline();
        if self.clocks.alarm.poll(context, Some(deadline)).is_pending() {
            return Poll::Pending;
        }
        if let Some(late) = then {
            return Poll::Ready(Err(late));
        }
        if self.held_until().is_some_and(|at| at <= clock::now()) {
            return Poll::Ready(Err(self.unanswered()));
        }
        if self.arrival.is_some_and(|at| at <= clock::now()) {
            self.look_at_arrival()?;
        }
        self.looked_at = true;
        if self.reply.proof_due() {
            self.pool.fence_late(self.leased.facts.target.index);
        }
        // Hear the web server, and wait for the next deadline.
        self.web.lock().listen(context).map_err(|error| web_server_broke(&error))?;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Has what was sent arrived? A host that is gone, or cut off, says nothing by itself, and the timeouts of an
    /// application are long. What may be executed twice goes elsewhere soon; what may not waits for longer, and its visitor
    /// is told then.
    fn look_at_arrival(&mut self) -> Result<(), (Origin, Kind)> {
        let now = clock::now();
        let since_sent = now.saturating_duration_since(self.clocks.application);
        let silent = match self.leased.upstream().delivery() {
            Delivery::Done if self.outgoing.is_done() => {
                self.arrival = None;
                return Ok(());
            }
            Delivery::Done => Duration::ZERO,
            Delivery::Waiting(since_heard) => since_heard.min(since_sent),
        };
        self.arrival = Some(now + LOOK_AGAIN);
        if silent < SILENCE {
            return Ok(());
        }
        self.report_silence();
        let timeouts = &self.pool.config().timeouts;
        match self.repeatable || self.outgoing.is_held() {
            true if silent >= timeouts.connect => Err((Origin::Application, Kind::Silent(silent))),
            false if silent >= timeouts.prove => Err((Origin::Application, Kind::Timeout("prove"))),
            _ => Ok(()),
        }
    }

    /// Until when a held request waits for the answer before it.
    fn held_until(&self) -> Option<Instant> {
        let waits = self.outgoing.is_held() && self.reply.proof_due();
        waits.then(|| self.clocks.application + self.pool.config().timeouts.connect)
    }

    /// Once: who closes the connection for it says so again.
    fn report_silence(&mut self) {
        if !std::mem::replace(&mut self.reported, true) {
            self.pool.silent(&self.leased.facts.target);
        }
    }

    /// Why the question before a held request has no answer in `timeouts.connect`. The kernel first sends again what is
    /// alone on its way after half a second, so that a host that is gone may not look like one before.
    fn unanswered(&mut self) -> (Origin, Kind) {
        let lasted = self.pool.config().timeouts.connect;
        if self.leased.upstream().delivery() == Delivery::Done {
            return (Origin::Application, Kind::Unanswered(lasted));
        }
        self.report_silence();
        (Origin::Application, Kind::Silent(lasted))
    }

    /// The next deadline and what it means; `None`: it lasts longer than most, and is looked at.
    fn deadline(&self) -> (Instant, Option<(Origin, Kind)>) {
        let config = self.pool.config();
        let timeouts = &config.timeouts;
        let look = (!self.looked_at).then_some((self.clocks.started + WATCH_AFTER, None));
        let late = |origin, which| Some((origin, Kind::Timeout(which)));
        let exchange =
            timeouts.exchange.map(|limit| (self.clocks.started + limit, late(Origin::Application, "exchange")));
        let progress = if self.blocked {
            let at = self.web.lock().took_at() + self.listener.write_timeout;
            Some((at, late(Origin::WebServer, "write")))
        } else {
            let (limit, which) = match self.started {
                true => (timeouts.between_bytes, "between_bytes"),
                false => (timeouts.first_byte, "first_byte"),
            };
            limit.map(|limit| (self.clocks.application + limit, late(Origin::Application, which)))
        };
        let held = self.held_until().map(|at| (at, None));
        let busy = (self.rides && self.reply.proof_due())
            .then(|| (self.clocks.application + RIDE_AT_MOST, Some((Origin::Application, Kind::Busy))));
        // With every timeout off and the web server watched, its hang-up is what ends the wait.
        let never = (self.clocks.started + Duration::from_secs(365 * 86_400), late(Origin::Application, "exchange"));
        let arrival = self.arrival.map(|at| (at, None));
        [look, arrival, held, busy, exchange, progress].into_iter().flatten().min_by_key(|(at, _)| *at).unwrap_or(never)
    }

    fn application_broke(&self, error: &io::Error) -> (Origin, Kind) {
        (Origin::Application, broken_or_lost(self.send_error.as_ref().unwrap_or(error)))
    }

    fn handle_close(&mut self) -> Result<bool, (Origin, Kind)> {
        if self.reply.handle_close() {
            let mut end = vec![];
            put_end(&mut end, self.theirs, ProtocolStatus::RequestComplete);
            self.pass_on(&end)?;
            return Ok(true);
        }
        let kind = self.send_error.as_ref().map_or(Kind::Closed, broken_or_lost);
        Err((Origin::Application, kind))
    }
}

/// Whether the application's side has broken the connection off, or only ours gave it up.
pub(super) fn broken_or_lost(error: &io::Error) -> Kind {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            Kind::Broken(error.to_string())
        }
        _ => Kind::Lost(error.to_string()),
    }
}

pub(super) fn web_server_broke(error: &io::Error) -> (Origin, Kind) {
    (Origin::WebServer, Kind::Broken(error.to_string()))
}
