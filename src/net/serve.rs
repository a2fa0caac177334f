//! One web server's connection from its first byte to its last: requests in, exchanges, answers out.
//!
//! One task has the connection and all of its exchanges. A short connection with its one request is the common case; a
//! web server that multiplexes may have many exchanges running here, each of which waits for its own connection to an
//! application and for its turn to send.

use super::{
    access::Sampling,
    clock,
    course::Course,
    dispatch::{Ended, Job},
    exchanges::Exchanges,
    pool::SharedPool,
    socket::Socket,
    spool::BodyStorage,
    upload::Replay,
    webserver::{Arrived, Downstream, Heard, Lingering, Over, WebServer},
};
use crate::{
    config::Listener,
    mux::{
        Request,
        intake::{Intake, Limits},
        label::{Outcome, Refusal},
        refuse::{Refused, put_refusal},
    },
};
use arc_swap::ArcSwap;
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// The site of a listener, which is another one after its settings have changed.
pub(super) type Sites = ArcSwap<Site>;

/// What all connections of one listener have in common.
pub(super) struct Site {
    pub(super) listener: Listener,
    pub(super) pool: Arc<SharedPool>,
    pub(super) storage: BodyStorage,
    /// `None`: there is no access log.
    pub(super) access: Option<Sampling>,
    /// Cancelled when the process begins to stop, the listener is removed, or another site has its place: connections
    /// kept by web servers close, or go over to that, when nothing runs on them.
    pub(super) over: CancellationToken,
    /// Takes over connections that have been answered to the end.
    pub(super) lingering: Arc<Lingering>,
}

/// Serves one connection. `over_limit`: there are too many, and each request is refused.
pub(super) async fn serve(sites: Arc<Sites>, socket: Socket, over_limit: bool) {
    let mut connection = Arrived::new(socket);
    loop {
        let site = sites.load_full();
        let Some(kept) = site.serve(connection, over_limit, &sites).await else { return };
        connection = kept;
    }
}

impl Site {
    /// Serves one connection to its end, or until it goes over to another site.
    async fn serve(&self, connection: Arrived, over_limit: bool, sites: &Sites) -> Option<Arrived> {
        let Listener { max_connections, max_requests_in_flight, .. } = self.listener;
        let limits = Limits { connections: max_connections, requests: max_requests_in_flight };
        let mut intake = Intake::new(self.pool.policy(), limits);
        if over_limit {
            let detail = format!("more than {max_connections} connections (max_connections)");
            intake.refuse_all(Refused { refusal: Refusal::Connections, detail });
        }
        let web = Downstream::new(connection, intake, self.storage.clone(), self.pool.clone(), self.lingering.clone());
        let first = pin!(None);
        let mut exchanges = Exchanges::new(first);
        loop {
            match self.next(&web, &mut exchanges).await {
                Next::Heard(Heard::Request(request, spool)) => {
                    if let Some(action) = request.sticky {
                        self.note_sticky(&request, action);
                    }
                    // Others may come while this one runs.
                    if request.keep_conn && web.lock().watch().is_err() {
                        break;
                    }
                    let replay = Replay::new(self.storage.replay);
                    let course = Course::new(clock::now(), self.access.is_some());
                    exchanges.push(self.run(&web, Job::new(request, spool, replay, course)));
                }
                Next::Heard(Heard::Refused { id, why }) => {
                    self.refuse(&web, id, &why, None, &mut Course::new(clock::now(), false));
                }
                // Where another site has this one's place.
                Next::Rest if !std::ptr::eq(&**sites.load(), self) => {
                    return Some(web.lock().hand_over());
                }
                Next::Rest | Next::Over => break,
            }
        }
        self.close(&web).await;
        None
    }

    /// Carries the exchanges on until the web server says something new.
    async fn next(&self, web: &Downstream, exchanges: &mut Exchanges<'_, impl Future<Output = Ended>>) -> Next {
        let mut over = pin!(self.over.cancelled());
        let mut silence = Silence { alarm: self.pool.alarm() };
        poll_fn(|context| {
            poll_exchanges(context, web, exchanges);
            let mut web = web.lock();
            loop {
                if exchanges.is_empty() {
                    web.break_if_cut_short();
                    if web.is_over() {
                        return Poll::Ready(Next::Over);
                    }
                }
                let listening = exchanges.is_empty() || web.must_be_heard();
                if listening && !web.is_over() {
                    match self.poll_hear(context, &mut web) {
                        Poll::Ready(None) => continue,
                        Poll::Ready(Some(heard)) => return Poll::Ready(Next::Heard(heard)),
                        Poll::Pending => {}
                    }
                }
                // Behind everything that may have left something to send.
                let deaf = web.is_deaf();
                if let Poll::Ready(Err(error)) = web.poll_flush(context) {
                    web.gone(Over::Broken(error));
                    continue;
                }
                if (deaf && !web.is_deaf()) || (web.is_over() && exchanges.is_empty()) {
                    continue;
                }
                if !listening || web.is_over() {
                    return Poll::Pending;
                }
                // The first request is due from the start.
                let owed = web.owes_bytes() || web.requests() == 0;
                if !owed && exchanges.is_empty() && over.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Next::Rest);
                }
                let limit = owed.then_some(self.listener.read_timeout);
                if silence.poll(context, &mut web, limit).is_pending() {
                    return Poll::Pending;
                }
                if let Some(heard) = self.give_up(&mut web) {
                    return Poll::Ready(Next::Heard(heard));
                }
            }
        })
        .await
    }

    /// Ready with nothing where the connection is over.
    fn poll_hear(&self, context: &mut Context<'_>, web: &mut WebServer) -> Poll<Option<Heard>> {
        web.poll_hear(context).map(|heard| heard.map_err(|over| self.end(web, over)).ok())
    }

    /// The web server has been silent for too long: its request is refused, or the connection is over.
    fn give_up(&self, web: &mut WebServer) -> Option<Heard> {
        let why = Refused { refusal: Refusal::ReadTimeout, detail: Over::Silent.to_string() };
        let heard = web.give_up_open(why);
        if heard.is_none() {
            self.end(web, Over::Silent);
        }
        heard
    }

    fn end(&self, web: &mut WebServer, over: Over) {
        self.note(&over);
        web.gone(over);
    }

    /// One line for a connection that did not end as it should.
    fn note(&self, over: &Over) {
        if !matches!(over, Over::Closed | Over::Broken(_)) {
            tracing::warn!(pool = self.pool.name, "connection of a web server closed: {over}");
        }
    }

    /// Lets the web server take what is left to take, and ends the connection: by a break where a response goes no further,
    /// otherwise behind whatever the web server still sends.
    async fn close(&self, web: &Downstream) {
        let mut alarm = self.pool.alarm();
        let taken = poll_fn(|context| {
            let mut web = web.lock();
            match web.poll_flush(context) {
                Poll::Ready(taken) => Poll::Ready(taken.is_ok()),
                Poll::Pending => {
                    let deadline = web.took_at() + self.listener.write_timeout;
                    alarm.poll(context, Some(deadline)).map(|()| false)
                }
            }
        });
        if !taken.await || web.lock().is_to_break() {
            return;
        }
        if web.lock().is_sending() {
            self.hear_out(web).await;
        } else {
            web.lock().part();
        }
    }

    /// A request was answered before all of it had come: its web server knows that nothing follows, and is read from until it
    /// has done sending, lest its answer be lost with the connection.
    async fn hear_out(&self, web: &Downstream) {
        if web.lock().shut_down_sending().is_err() {
            return;
        }
        let mut alarm = self.pool.alarm();
        poll_fn(|context| {
            let mut web = web.lock();
            match web.poll_deaf(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => alarm.poll(context, Some(web.heard_at() + self.listener.read_timeout)),
            }
        })
        .await;
    }

    /// Answers in the application's stead.
    pub(super) fn refuse(
        &self,
        web: &Downstream,
        id: u16,
        why: &Refused,
        request: Option<&Request>,
        course: &mut Course,
    ) {
        course.status = Some(why.refusal.status().code());
        self.note_refusal(why, request, course);
        let mut out = vec![];
        put_refusal(&mut out, id, why);
        // One that has gone meanwhile is seen to by whoever reads.
        _ = web.lock().answer(&out);
    }

    /// A request is refused: counted and written down.
    pub(super) fn note_refusal(&self, why: &Refused, request: Option<&Request>, course: &mut Course) {
        self.pool.metrics.refused(why.refusal);
        self.pool.metrics.exchange(Outcome::Refused, clock::now() - course.arrived());
        self.pool.metrics.failed(why.refusal.label(), None, &why.detail);
        self.note_refused(request, why);
        self.log_access(request, course, Outcome::Refused, Some(why.refusal));
    }
}

/// What comes next on a connection.
enum Next {
    Heard(Heard),
    /// Nothing runs or is owed, and this site no longer waits for more.
    Rest,
    /// The connection is over.
    Over,
}

/// Rings when a web server has owed something for too long.
struct Silence {
    alarm: clock::Alarm,
}

impl Silence {
    /// Ready once the web server has been silent for too long. `limit`: of one that owes bytes. Sees to a body that nothing
    /// takes, too.
    fn poll(&mut self, context: &mut Context<'_>, web: &mut WebServer, limit: Option<Duration>) -> Poll<()> {
        let stall = web.stall_deadline();
        let silent = limit.map(|limit| web.owes_since() + limit);
        let due = self.alarm.poll(context, stall.or(silent));
        if due.is_ready() && stall.is_some() {
            // Its exchange is told, and makes room by ending.
            web.stalled();
            return Poll::Pending;
        }
        due
    }
}

fn poll_exchanges(
    context: &mut Context<'_>,
    web: &Downstream,
    exchanges: &mut Exchanges<'_, impl Future<Output = Ended>>,
) {
    while let Some(ended) = exchanges.poll_ended(context) {
        let mut web = web.lock();
        match ended {
            Ended::Answered(id) => web.ended(id),
            Ended::Broken(id, detail) => web.break_off(id, &detail),
        }
    }
}
