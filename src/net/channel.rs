//! A connection that exchanges share: the task that drives it, and what each exchange holds of it.

use super::{
    clock,
    delivery::{Delivery, LOOK_AGAIN, SILENCE},
    exchange::broken_or_lost,
    pool::{Facts, SharedPool},
    scratch,
    target::Target,
    upstream::Upstream,
};
use crate::mux::{
    channel::{self, Ending, Freed, Opening, Values},
    failure::{Failure, Kind, Origin, Phase},
    label::{Closed, Direction},
    pool::{Share, SlotKey},
};
use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// Reads in a row before others get their turn: all exchanges wait behind one that pours.
const READS: usize = 4;
/// A stall that has lasted so long keeps new exchanges off the connection.
const STALLED_AFTER: Duration = Duration::from_millis(10);

/// One shared connection, as its driver and its exchanges know it.
#[derive(Debug)]
pub(super) struct Channel {
    key: SlotKey,
    target: Arc<Target>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: channel::Channel<Waker>,
    driver: Waker,
    /// Waits for the answer to GET_VALUES.
    asker: Option<Waker>,
    /// The pool wants it closed.
    closing: bool,
    /// The driver has ended.
    over: bool,
    /// Places of exchanges whose owners have left and which the application has not ended.
    left: HashMap<u16, Share>,
}

impl Channel {
    pub(super) fn new(key: SlotKey, target: Arc<Target>, pool: &SharedPool) -> Arc<Self> {
        let connections = &pool.config().connections;
        // At most 16 MiB: see the configuration.
        let core = channel::Channel::new(connections.buffer as usize, connections.stall_timeout);
        let (driver, left) = (Waker::noop().clone(), HashMap::new());
        let inner = Inner { core, driver, asker: None, closing: false, over: false, left };
        Arc::new(Self { key, target, inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under this lock is a defect of the core; its state is not to be trusted after it.
        self.inner.lock().expect("the core of a connection does not panic")
    }

    /// Changes the core, and wakes whom that concerns.
    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner);
        let woken: Vec<Waker> = std::iter::from_fn(|| inner.core.poll_wake()).collect();
        let driver = inner.core.wants_driver().then(|| inner.driver.clone());
        drop(inner);
        woken.into_iter().chain(driver).for_each(Waker::wake);
        result
    }

    // ---------------------------------------------------------------- for the pool

    /// Closes the connection, on which no exchange runs.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closing = true;
        let driver = inner.driver.clone();
        drop(inner);
        driver.wake();
    }

    /// Its driver has ended.
    pub(super) fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Whether it takes one exchange at a time.
    pub(super) fn set_single(&self, single: bool) {
        self.lock().core.set_single(single);
    }

    pub(super) fn ask(&self, question: &[u8]) {
        _ = self.with(|inner| inner.core.ask(question));
    }

    /// Ready with the answer to GET_VALUES, or without one when the connection is over.
    pub(super) fn poll_answer(&self, context: &mut Context<'_>) -> Poll<Option<Values>> {
        let mut inner = self.lock();
        if let Some(values) = inner.core.values() {
            return Poll::Ready(Some(values));
        }
        if inner.over {
            return Poll::Ready(None);
        }
        inner.asker = Some(context.waker().clone());
        Poll::Pending
    }

    // ---------------------------------------------------------------- its task

    /// Carries records both ways until the connection ends.
    pub(super) async fn drive(self: Arc<Self>, pool: Arc<SharedPool>, mut upstream: Upstream) {
        upstream.limit_queue();
        let mut drive = Drive {
            pool: &pool,
            carry: vec![],
            alarm: pool.alarm(),
            send_error: None,
            values: None,
            stalled: false,
            reported: false,
            arrival: None,
        };
        let end = poll_fn(|context| self.poll_drive(context, &mut upstream, &mut drive)).await;
        // First the connection, then its place: the next one may be opened at once.
        drop(upstream);
        let (asker, left, busy) = self.with(|inner| {
            let busy = inner.core.is_busy();
            inner.over = true;
            inner.core.fail(&end);
            (inner.asker.take(), std::mem::take(&mut inner.left), busy)
        });
        let reason = match end {
            Kind::Closed if !busy => Closed::Application,
            Kind::Aborted => Closed::Gone,
            Kind::Protocol(_) | Kind::Headless => Closed::Protocol,
            _ => Closed::Broken,
        };
        if busy && end != Kind::Aborted {
            let (pool, endpoint) = (&pool.name, &self.target);
            let position = String::new();
            let end = Failure { origin: Origin::Application, kind: end, phase: Phase::Responding, position };
            tracing::warn!(pool, %endpoint, "connection with requests on it is over: {end}");
        }
        pool.channel_gone(&self, reason);
        left.into_values().for_each(|share| pool.release(share));
        asker.into_iter().for_each(Waker::wake);
    }

    /// Fixed order: out, in, what the core has to say, the clock. Ready when the connection has ended, with why.
    fn poll_drive(&self, context: &mut Context<'_>, upstream: &mut Upstream, drive: &mut Drive<'_>) -> Poll<Kind> {
        {
            let mut inner = self.lock();
            if !inner.driver.will_wake(context.waker()) {
                inner.driver = context.waker().clone();
            }
            if inner.closing {
                return Poll::Ready(Kind::Closed);
            }
        }
        if drive.send_error.is_none()
            && let Poll::Ready(Err(kind)) = self.poll_send(context, upstream, drive)
        {
            // What the application had said before it closed is heard yet; its end comes as an event.
            drive.send_error = Some(kind);
            drive.pool.channel_let_go(self.key, Closed::Broken, false);
        }
        let mut more = true;
        for _ in 0..READS {
            match self.poll_receive(context, upstream, drive) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(kind)) => return Poll::Ready(drive.send_error.take().unwrap_or(kind)),
                Poll::Pending => {
                    more = false;
                    break;
                }
            }
        }
        if more {
            // Others get their turn.
            context.waker().wake_by_ref();
        }
        if let Some(kind) = self.look_at_arrival(upstream, drive) {
            return Poll::Ready(kind);
        }
        self.poll_rest(context, drive)
    }

    /// Has what was sent arrived? A host that is gone, or cut off, says nothing by itself. Returns how the connection ended,
    /// if that has lasted for too long.
    fn look_at_arrival(&self, upstream: &Upstream, drive: &mut Drive<'_>) -> Option<Kind> {
        let now = clock::now();
        let arrival = drive.arrival.as_mut().filter(|arrival| arrival.look_at <= now)?;
        let Delivery::Waiting(since_heard) = upstream.delivery() else {
            drive.arrival = None;
            return None;
        };
        arrival.look_at = now + LOOK_AGAIN;
        let silent = since_heard.min(now - arrival.sent);
        if silent >= SILENCE && !std::mem::replace(&mut arrival.reported, true) {
            drive.pool.silent(&self.target);
        }
        let gone = silent >= drive.pool.config().timeouts.prove;
        gone.then(|| Kind::Lost(format!("its host has acknowledged nothing for {silent:.1?}")))
    }

    /// Ready when everything is sent, or cannot be.
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        upstream: &mut Upstream,
        drive: &mut Drive<'_>,
    ) -> Poll<Result<(), Kind>> {
        let mut total = 0;
        let result = self.with(|inner| {
            loop {
                let bytes = inner.core.to_send();
                if bytes.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                match upstream.socket.poll_write(context, |socket| socket.try_send(bytes)) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(broken_or_lost(&error))),
                    Poll::Ready(Ok(sent)) => {
                        inner.core.sent(sent);
                        total += sent as u64;
                    }
                }
            }
        });
        if total > 0 {
            upstream.quick_acks();
            drive.pool.metrics.bytes(Direction::Request, total);
            drive.arrival.get_or_insert_with(|| {
                let sent = clock::now();
                Arrival { sent, look_at: sent + SILENCE, reported: false }
            });
        }
        result
    }

    /// Takes one read's worth of records. Not while an exchange holds up the connection.
    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        upstream: &mut Upstream,
        drive: &mut Drive<'_>,
    ) -> Poll<Result<(), Kind>> {
        if drive.stalled {
            let carry = std::mem::take(&mut drive.carry);
            let taken = self.receive(&carry)?;
            drive.carry = carry;
            drive.carry.drain(..taken);
            drive.stalled = self.lock().core.is_stalled();
            return if drive.stalled { Poll::Pending } else { Poll::Ready(Ok(())) };
        }
        scratch::with(|buffer| {
            let carried = drive.carry.len();
            let read = match upstream.socket.poll_recv(context, &mut buffer[carried..]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Kind::Closed)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(broken_or_lost(&error))),
                Poll::Ready(Ok(read)) => read,
            };
            buffer[..carried].copy_from_slice(&drive.carry);
            let bytes = &buffer[..carried + read];
            let taken = self.receive(bytes)?;
            drive.carry.clear();
            drive.carry.extend_from_slice(&bytes[taken..]);
            drive.stalled = self.lock().core.is_stalled();
            Poll::Ready(Ok(()))
        })
    }

    fn receive(&self, bytes: &[u8]) -> Result<usize, Kind> {
        let taken = self.with(|inner| inner.core.receive(bytes, clock::now()));
        taken.map_err(|error| Kind::Protocol(error.to_string()))
    }

    /// What the core has to say, and the clock.
    fn poll_rest(&self, context: &mut Context<'_>, drive: &mut Drive<'_>) -> Poll<Kind> {
        loop {
            let now = clock::now();
            let mut shares = vec![];
            let mut asker = None;
            let (deadline, values, stalled_since, worn_out, doomed) = self.with(|inner| {
                inner.core.tick(now);
                while let Some(Freed { id, .. }) = inner.core.poll_freed() {
                    shares.extend(inner.left.remove(&id));
                }
                while let Some(lasted) = inner.core.poll_stall() {
                    drive.pool.metrics.stalled(lasted);
                }
                drive.pool.metrics.dropped(inner.core.take_dropped());
                let core = &inner.core;
                if core.values().is_some() {
                    asker = inner.asker.take();
                }
                (core.next_deadline(), core.values(), core.stalled_since(), core.is_worn_out(), core.is_doomed())
            });
            shares.into_iter().for_each(|share| drive.pool.release(share));
            asker.into_iter().for_each(Waker::wake);
            if doomed {
                return Poll::Ready(Kind::Aborted);
            }
            if values != drive.values {
                drive.values = values;
                values.into_iter().for_each(|values| drive.pool.channel_learned(self, values));
            }
            if worn_out {
                drive.pool.channel_let_go(self.key, Closed::MaxRequests, false);
            }
            let look = drive.look_at_stall(self.key, stalled_since);
            let arrival = drive.arrival.as_ref().map(|arrival| arrival.look_at);
            let next = [deadline, look, arrival].into_iter().flatten().min();
            if drive.alarm.poll(context, next).is_pending() {
                return Poll::Pending;
            }
            if arrival.is_some_and(|at| at <= now) {
                // It is looked at outside of this.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    pub(super) fn key(&self) -> SlotKey {
        self.key
    }

    pub(super) fn target(&self) -> &Arc<Target> {
        &self.target
    }
}

/// What only the driver of a connection needs.
struct Drive<'a> {
    pool: &'a Arc<SharedPool>,
    /// Bytes read that the core has not taken yet.
    carry: Vec<u8>,
    alarm: clock::Alarm,
    /// Sending failed; what the application says until it closes is still heard.
    send_error: Option<Kind>,
    /// What the pool has been told of the application.
    values: Option<Values>,
    /// The core would not take what is in `carry`.
    stalled: bool,
    /// The pool has been told of that.
    reported: bool,
    /// Of what was sent and is not known to have arrived.
    arrival: Option<Arrival>,
}

/// Bytes that the other side has not acknowledged, for all that is known.
struct Arrival {
    /// When the first of them was sent.
    sent: Instant,
    look_at: Instant,
    /// The pool has been told that it does not.
    reported: bool,
}

impl Drive<'_> {
    /// Tells the pool of a stall that lasts, and of its end. Returns when to look again.
    fn look_at_stall(&mut self, key: SlotKey, since: Option<Instant>) -> Option<Instant> {
        let looks_at = since.map(|since| since + STALLED_AFTER);
        let lasts = looks_at.is_some_and(|at| at <= clock::now());
        if lasts != self.reported {
            self.reported = lasts;
            self.pool.channel_stalled(key, lasts);
        }
        looks_at.filter(|_| !lasts)
    }
}

/// One exchange's place on a shared connection. Dropped, the exchange is over; it is aborted if the application has not
/// ended it.
pub(super) struct Place {
    pool: Arc<SharedPool>,
    channel: Arc<Channel>,
    share: Option<Share>,
    id: Option<u16>,
    /// The connection takes one exchange at a time.
    pub(super) single: bool,
}

impl Place {
    pub(super) fn new(pool: &Arc<SharedPool>, channel: Arc<Channel>, share: Share) -> Self {
        let single = channel.lock().core.is_single();
        Self { pool: pool.clone(), channel, share: Some(share), id: None, single }
    }

    /// Begins the exchange; `head` writes BEGIN_REQUEST and PARAMS under the id that it is told. False where the
    /// connection is over.
    pub(super) fn open(&mut self, opening: Opening<'_>, head: impl FnOnce(u16, &mut Vec<u8>)) -> bool {
        self.id = self.channel.with(|inner| inner.core.open(opening, head, clock::now()));
        self.id.is_some()
    }

    /// Bytes of the body that may be pushed. The task is woken when there is more room.
    pub(super) fn room(&self, context: &mut Context<'_>) -> usize {
        let Some(id) = self.id else { return 0 };
        let mut inner = self.channel.lock();
        // First: another thread may make room in the next moment.
        inner.core.listen(id, context.waker().clone());
        inner.core.room(id)
    }

    /// Sends whole records of the body, with any id in them.
    pub(super) fn push(&self, records: &[u8]) {
        if let Some(id) = self.id {
            self.channel.with(|inner| inner.core.push(id, records));
        }
    }

    /// Takes what has come of the response into an empty buffer, and its ending. The task is woken when there is more, or
    /// room.
    pub(super) fn take(&self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Option<Ending> {
        let id = self.id?;
        self.channel.with(|inner| {
            inner.core.listen(id, context.waker().clone());
            inner.core.take(id, into, clock::now())
        })
    }

    /// How the exchange ended, if not by the application's END_REQUEST. The task is woken when it does.
    pub(super) fn poll_broken(&self, context: &mut Context<'_>) -> Option<Ending> {
        let id = self.id?;
        let ending = self.channel.with(|inner| {
            inner.core.listen(id, context.waker().clone());
            inner.core.ending(id)
        });
        ending.filter(|ending| !matches!(ending, Ending::Ended(_)))
    }

    /// The connection should take nothing more behind this exchange.
    pub(super) fn is_last(&self, reason: Closed) {
        self.pool.channel_let_go(self.channel.key, reason, reason == Closed::Overloaded);
    }

    /// The application takes one request at a time, whatever it said.
    pub(super) fn cannot_multiplex(&self) {
        self.pool.channel_cannot_multiplex(&self.channel);
    }

    pub(super) fn facts(&self) -> Facts {
        let (used, age) = self.share.as_ref().map_or((0, Duration::ZERO), |share| (share.used, share.age));
        Facts { target: self.channel.target.clone(), idle_for: Duration::ZERO, used, age, kept: true }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(share) = self.share.take() else { return };
        let Some(id) = self.id else { return self.pool.release_untouched(share) };
        let share = self.channel.with(|inner| match inner.core.leave(id, clock::now()) {
            true => Some(share),
            // The application still has it.
            false => {
                inner.left.insert(id, share);
                None
            }
        });
        share.into_iter().for_each(|share| self.pool.release(share));
    }
}
