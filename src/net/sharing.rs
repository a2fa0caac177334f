//! One exchange on a shared connection: its body goes on as it comes, and so does its response.

use super::{
    channel::Place,
    clock,
    course::Course,
    exchange::{HEAD_AT_MOST, Scene, WATCH_AFTER, web_server_broke},
    upload::Replay,
    webserver::{Downstream, Told},
};
use crate::{
    mux::{
        channel::Ending,
        failure::{Failure, Kind, Origin, Phase},
        head::Head,
        label::{Direction, Refusal},
        refuse::Refused,
    },
    wire::ProtocolStatus,
};
use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// The state of one exchange between a web server and its place on the connection to an application.
pub(super) struct Sharing<'a> {
    web: &'a Downstream,
    /// The web server's request id.
    theirs: u16,
    place: &'a Place,
    replay: &'a mut Replay,
    scene: Scene<'a>,
    course: &'a mut Course,
    /// Of the response, taken and not passed on: the beginning, until its header block is whole.
    response: Vec<u8>,
    head: Head,
    /// Bytes of the response have gone on.
    started: bool,
    /// Nothing is taken: the web server has not taken all of what came before.
    blocked: bool,
    looked_at: bool,
    began: Instant,
    /// Last time that the application took or gave a byte, or was waiting for the web server.
    application: Instant,
    alarm: clock::Alarm,
}

/// Why an exchange goes no further.
pub(super) enum Break {
    Failed(Failure),
    /// The rest of the request cannot be taken in.
    Cut(Refused),
}

impl<'a> Sharing<'a> {
    /// The exchange has been opened at its place, and `replay` pushed.
    pub(super) fn new(
        web: &'a Downstream,
        place: &'a Place,
        replay: &'a mut Replay,
        scene: Scene<'a>,
        theirs: u16,
        course: &'a mut Course,
    ) -> Self {
        let now = clock::now();
        course.handle_lease(now);
        Self {
            web,
            theirs,
            place,
            replay,
            alarm: scene.pool.alarm(),
            scene,
            course,
            response: vec![],
            head: Head::default(),
            started: false,
            blocked: false,
            looked_at: false,
            began: now,
            application: now,
        }
    }

    /// Runs to END_REQUEST. Its last bytes may still be pending at the web server.
    ///
    /// # Errors
    /// It broke.
    pub(super) async fn run(mut self) -> Result<(), Break> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Fixed order: the body, the response, the web server, the clock.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Break>> {
        self.push_body(context);
        if let Poll::Ready(ended) = self.poll_relay(context) {
            return Poll::Ready(ended);
        }
        let told = self.web.lock().poll_told(context, self.theirs);
        if let Poll::Ready(told) = told {
            return Poll::Ready(Err(match told {
                Told::Cut(why) if !self.started => Break::Cut(why),
                // The application does not read its body, and others wait for the web server's connection.
                Told::Stalled => self.broke(Origin::Application, Kind::Stalled),
                told => self.broke(Origin::WebServer, told.into()),
            }));
        }
        self.poll_clock(context)
    }

    /// Passes on what has come of the body and finds room.
    fn push_body(&mut self, context: &mut Context<'_>) {
        let room = self.place.room(context);
        if room == 0 {
            return;
        }
        let mut records = vec![];
        self.web.lock().take_body(self.theirs, room, &mut records);
        if !records.is_empty() {
            self.application = clock::now();
            self.replay.push(&records);
            self.place.push(&records);
        }
    }

    fn poll_relay(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Break>> {
        loop {
            if self.web.lock().poll_clear(context).is_pending() {
                self.blocked = true;
                // What has come stays where it is; that nothing more will is to be known at once.
                let broken = self.place.poll_broken(context);
                return broken
                    .map_or(Poll::Pending, |ending| Poll::Ready(self.relay(&[], Some(ending)).unwrap_or(Ok(()))));
            }
            if std::mem::take(&mut self.blocked) {
                // The application was not heard meanwhile: its time begins anew.
                self.application = clock::now();
            }
            let mut records = vec![];
            let ending = self.place.take(context, &mut records);
            if records.is_empty() && ending.is_none() {
                return Poll::Pending;
            }
            if let Some(ended) = self.relay(&records, ending) {
                return Poll::Ready(ended);
            }
        }
    }

    /// Passes records on, and says how the exchange ended if it has.
    fn relay(&mut self, records: &[u8], ending: Option<Ending>) -> Option<Result<(), Break>> {
        self.application = clock::now();
        if !self.head.is_whole() {
            self.head.read(records);
        }
        let cause = match ending {
            None => None,
            // What a web server makes of a response without a whole header block is its own end (see `Head`).
            Some(Ending::Ended(status)) if !self.head.is_whole() && status != ProtocolStatus::UnknownRole => {
                Some((Origin::Application, Kind::Headless))
            }
            Some(Ending::Ended(_)) => return Some(self.pass_on(records)),
            Some(Ending::Rejected(status)) => Some((Origin::Application, Kind::Rejected(status))),
            Some(Ending::Stalled) => Some((Origin::WebServer, Kind::Stalled)),
            Some(Ending::Broken { cause, unsent: false }) => Some((Origin::Application, cause)),
            Some(Ending::Broken { cause, unsent: true }) => {
                return Some(Err(Break::Failed(self.failure(Origin::Application, cause, Phase::Unsent))));
            }
        };
        if let Some((origin, kind)) = cause {
            if self.started && origin == Origin::Application {
                // What came in front of the break goes on, as it would have a moment earlier.
                _ = self.pass_on(records);
            }
            return Some(Err(self.broke(origin, kind)));
        }
        if self.head.is_whole() || self.response.len() + records.len() > HEAD_AT_MOST {
            return self.pass_on(records).err().map(Err);
        }
        self.response.extend_from_slice(records);
        None
    }

    fn pass_on(&mut self, records: &[u8]) -> Result<(), Break> {
        let held = std::mem::take(&mut self.response);
        let all = if held.is_empty() { records } else { &[&held[..], records].concat() };
        if all.is_empty() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.started, true) {
            self.scene.pool.metrics.first_byte(self.application.saturating_duration_since(self.began));
        }
        self.scene.pool.metrics.bytes(Direction::Response, all.len() as u64);
        self.course.handle_response(all, self.application);
        let sent = self.web.lock().respond(all);
        sent.map_err(|error| {
            let (origin, kind) = web_server_broke(&error);
            self.broke(origin, kind)
        })
    }

    fn broke(&self, origin: Origin, kind: Kind) -> Break {
        let phase = if self.started { Phase::Responding } else { Phase::Sent };
        Break::Failed(self.failure(origin, kind, phase))
    }

    fn failure(&self, origin: Origin, kind: Kind, phase: Phase) -> Failure {
        let position = match (origin, self.started) {
            _ if matches!(kind, Kind::Rejected(_)) => "",
            (Origin::WebServer, _) => "before its response was whole",
            (Origin::Application, true) => "in the middle of its response",
            (Origin::Application, false) => "before its response",
        };
        Failure { origin, kind, phase, position: position.into() }
    }

    /// Has something taken too long?
    fn poll_clock(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Break>> {
        let (deadline, then) = self.deadline();
        if self.alarm.poll(context, Some(deadline)).is_pending() {
            return Poll::Pending;
        }
        match then {
            None => {}
            // Only this request is late, and nothing has been said to it.
            Some((Origin::WebServer, Kind::Timeout("read"))) => {
                let detail = "the rest of the body did not come in time (timeouts.read)".into();
                return Poll::Ready(Err(Break::Cut(Refused { refusal: Refusal::ReadTimeout, detail })));
            }
            Some((origin, kind)) => return Poll::Ready(Err(self.broke(origin, kind))),
        }
        self.looked_at = true;
        // Hear the web server, and wait for the next deadline.
        let listening = self.web.lock().listen(context);
        if let Err(error) = listening {
            let (origin, kind) = web_server_broke(&error);
            return Poll::Ready(Err(self.broke(origin, kind)));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// The next deadline and what it means; `None`: it lasts longer than most, and its web server is watched from now on.
    fn deadline(&self) -> (Instant, Option<(Origin, Kind)>) {
        let config = self.scene.pool.config();
        let timeouts = &config.timeouts;
        let late = |origin, which| Some((origin, Kind::Timeout(which)));
        let look = (!self.looked_at).then_some((self.began + WATCH_AFTER, None));
        let exchange = timeouts.exchange.map(|limit| (self.began + limit, late(Origin::Application, "exchange")));
        let (took_at, owed_since) = {
            let web = self.web.lock();
            (web.took_at(), web.owes_body(self.theirs))
        };
        let progress = if self.blocked {
            Some((took_at + self.scene.listener.write_timeout, late(Origin::WebServer, "write")))
        } else if let Some(since) = owed_since.filter(|_| !self.started) {
            // The application has been given all there is, and waits for the web server itself.
            Some((since.max(self.application) + self.scene.listener.read_timeout, late(Origin::WebServer, "read")))
        } else {
            let (limit, which) = match self.started {
                true => (timeouts.between_bytes, "between_bytes"),
                false => (timeouts.first_byte, "first_byte"),
            };
            limit.map(|limit| (self.application + limit, late(Origin::Application, which)))
        };
        // With every timeout off and the web server watched, its hang-up is what ends the wait.
        let never = (self.began + Duration::from_secs(365 * 86_400), late(Origin::Application, "exchange"));
        [look, exchange, progress].into_iter().flatten().min_by_key(|(at, _)| *at).unwrap_or(never)
    }
}
