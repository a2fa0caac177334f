//! Applications that take many requests on a connection, or one, with the manners of those that there are
//! (docs/applications.md) and some worse.

use super::{Event, MS, World, record, whole_records};
use crate::random::Random;
use fcgimux::wire::{EndRequest, Header, Kind, MANAGEMENT_ID, Pairs, ProtocolStatus, put_pair, variable};
use std::collections::BTreeMap;

/// What an application lets one hear.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Bytes(Vec<u8>),
    Eof,
}

/// What becomes of an exchange that is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AtAbort {
    /// It is ended, and nothing comes behind that.
    Ends,
    /// It is ended at once, and goes on, and is ended again.
    EndsAndGoesOn,
    /// Nothing: it goes on to its end.
    GoesOn,
    /// It is never ended.
    Forgets,
}

/// How all applications of one world behave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// Takes many requests at once, and says so.
    multiplexes: bool,
    says_so: bool,
    /// We are told that it does, whatever it says.
    forced: bool,
    answers: bool,
    /// Two answers to one question.
    twice: bool,
    closes_when_asked: bool,
    max_requests: Option<u32>,
    at_abort: AtAbort,
    /// One in so many: strays, bad ends, refusals, breaks.
    strays: u64,
    bad_ends: u64,
    overloaded: u64,
    closes: u64,
}

impl Habits {
    pub(super) fn new(forced: bool, random: &mut Random) -> Self {
        let never = u64::MAX;
        let multiplexes = !random.one_in(4);
        Self {
            multiplexes,
            says_so: if random.one_in(12) { !multiplexes } else { multiplexes },
            forced,
            answers: !random.one_in(6),
            twice: random.one_in(4),
            closes_when_asked: random.one_in(20),
            max_requests: random.one_in(4).then(|| random.between(1, 8) as u32),
            at_abort: random.pick(&[AtAbort::Ends, AtAbort::EndsAndGoesOn, AtAbort::GoesOn, AtAbort::Forgets]),
            strays: random.pick(&[never, never, 20]),
            bad_ends: random.pick(&[never, never, 40]),
            overloaded: random.pick(&[never, never, 15]),
            closes: random.pick(&[never, never, never, 60]),
        }
    }
}

#[derive(Debug, Default)]
struct Request {
    params: Vec<u8>,
    /// The exchange, once the params are there.
    number: Option<usize>,
    body: Vec<u8>,
    whole: bool,
    /// What it still writes; `None`: it has not begun to.
    answer: Option<Vec<u8>>,
    aborted: bool,
}

/// One connection of one of them.
pub(crate) struct Application {
    habits: Habits,
    inbox: Vec<u8>,
    requests: BTreeMap<u16, Request>,
    over: bool,
    working: bool,
    random: Random,
}

impl Application {
    pub(super) fn new(habits: Habits, random: &mut Random) -> Self {
        let random = Random::new(random.next());
        Self { habits, inbox: vec![], requests: BTreeMap::new(), over: false, working: false, random }
    }

    /// It says nothing more.
    pub(super) fn break_off(&mut self) {
        self.over = true;
        self.requests.clear();
    }

    fn answer_values(&mut self, out: &mut Vec<u8>) {
        if self.habits.answers {
            let mut pairs = vec![];
            put_pair(&mut pairs, variable::MPXS_CONNS, if self.habits.says_so { b"1" } else { b"0" });
            if let Some(limit) = self.habits.max_requests {
                put_pair(&mut pairs, variable::MAX_REQS, limit.to_string().as_bytes());
            }
            out.extend(record(Kind::GetValuesResult, MANAGEMENT_ID, &pairs));
            if self.habits.twice {
                out.extend(record(Kind::GetValuesResult, MANAGEMENT_ID, &[]));
            }
        }
    }

    /// Reads one record. Returns the exchange whose params are there now.
    fn read(&mut self, header: Header, content: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        match header.kind {
            Kind::GetValues if self.habits.closes_when_asked => self.break_off(),
            Kind::GetValues => self.answer_values(out),
            Kind::BeginRequest if !self.habits.multiplexes && !self.requests.is_empty() => {
                out.extend(end(header.id, ProtocolStatus::CantMpxConn));
            }
            Kind::BeginRequest if self.random.one_in(self.habits.overloaded) => {
                out.extend(end(header.id, ProtocolStatus::Overloaded));
            }
            Kind::BeginRequest => {
                let before = self.requests.insert(header.id, Request::default());
                assert!(before.is_none(), "id {} is taken", header.id);
            }
            Kind::Params if content.is_empty() => {
                let request = self.requests.get_mut(&header.id)?;
                let token = Pairs::new(&request.params).filter_map(Result::ok).find(|(name, _)| *name == b"TOKEN");
                let number = std::str::from_utf8(token.expect("it has one").1).unwrap().parse().unwrap();
                request.number = Some(number);
                return Some(number);
            }
            Kind::Params => self.requests.get_mut(&header.id)?.params.extend_from_slice(content),
            Kind::Stdin if content.is_empty() => self.requests.get_mut(&header.id)?.whole = true,
            Kind::Stdin => self.requests.get_mut(&header.id)?.body.extend_from_slice(content),
            Kind::AbortRequest => self.abort(header.id, out),
            other => panic!("{other:?} is nothing for an application"),
        }
        None
    }

    fn abort(&mut self, id: u16, out: &mut Vec<u8>) {
        let Habits { multiplexes, says_so, forced, .. } = self.habits;
        assert!(multiplexes || says_so || forced, "it would take that for an error");
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.aborted = true;
        match self.habits.at_abort {
            AtAbort::Ends => {
                self.requests.remove(&id);
                out.extend(end(id, ProtocolStatus::RequestComplete));
            }
            AtAbort::Forgets => _ = self.requests.remove(&id),
            AtAbort::EndsAndGoesOn => out.extend(end(id, ProtocolStatus::RequestComplete)),
            AtAbort::GoesOn => {}
        }
    }

    /// Writes something of one request that can go on. `answers`: of a request with its body, if that is whole.
    fn write(&mut self, answers: impl Fn(usize, Option<&[u8]>) -> Option<Vec<u8>>, out: &mut Vec<u8>) {
        let ready = |request: &Request| request.answer.is_some() || request.number.is_some();
        let ids: Vec<u16> = self.requests.iter().filter(|(_, each)| ready(each)).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return;
        }
        let id = self.random.pick(&ids);
        let (mut done, random) = (false, &mut self.random);
        let request = self.requests.get_mut(&id).expect("it is there");
        if request.answer.is_none() {
            // One that was aborted is not waited for.
            let body = (request.whole || request.aborted).then_some(&request.body[..]);
            let number = request.number.expect("its params are there");
            request.answer = match body {
                Some(body) if request.aborted => Some(body.to_vec()),
                body => answers(number, body),
            };
        }
        if let Some(answer) = &mut request.answer {
            let len = (random.between(1, 6000) as usize).min(answer.len());
            let part: Vec<u8> = answer.drain(..len).collect();
            if !part.is_empty() {
                out.extend(record(Kind::Stdout, id, &part));
            }
            if random.one_in(30) {
                out.extend(record(Kind::Stderr, id, b"words"));
            }
            done = answer.is_empty();
        }
        if done {
            self.requests.remove(&id);
            if random.one_in(3) {
                out.extend(record(Kind::Stdout, id, &[]));
            }
            let bad = random.one_in(self.habits.bad_ends);
            out.extend(if bad {
                record(Kind::EndRequest, id, b"bad")
            } else {
                end(id, ProtocolStatus::RequestComplete)
            });
        }
        if self.random.one_in(self.habits.strays) {
            let stray = self.random.pick(&[0, 30_000, 60_000]);
            out.extend(record(Kind::Stdout, stray, b"of nobody"));
            out.extend(record(Kind::UnknownType, MANAGEMENT_ID, &[0; 8]));
        }
    }
}

fn end(id: u16, protocol_status: ProtocolStatus) -> Vec<u8> {
    record(Kind::EndRequest, id, &EndRequest { app_status: 0, protocol_status }.encode())
}

impl World {
    pub(super) fn at_application(&mut self, link: usize, bytes: &[u8]) {
        self.links[link].on_the_way[0] -= bytes.len();
        let application = &mut self.links[link].application;
        if application.over {
            return;
        }
        application.inbox.extend_from_slice(bytes);
        let mut out = vec![];
        for (header, content) in whole_records(&mut application.inbox) {
            // Where it closes it reads no further.
            if !application.over
                && let Some(number) = application.read(header, &content, &mut out)
            {
                self.exchanges[number].execute();
            }
        }
        let over = application.over;
        self.say(link, out);
        if over {
            self.travel(link, 1, |link| Event::ToUs(link, Said::Eof));
        }
        self.go_on(link);
    }

    fn say(&mut self, link: usize, out: Vec<u8>) {
        if !out.is_empty() {
            self.links[link].on_the_way[1] += out.len();
            self.travel(link, 1, |link| Event::ToUs(link, Said::Bytes(out)));
        }
    }

    /// There may be work to do.
    fn go_on(&mut self, link: usize) {
        let application = &mut self.links[link].application;
        if !application.working && !application.over && !application.requests.is_empty() {
            application.working = true;
            let pause = self.random.short(10 * MS);
            self.after(pause.max(MS / 20), Event::Work(link));
        }
    }

    pub(super) fn work(&mut self, link: usize) {
        let clogged = self.links[link].is_clogged();
        let application = &mut self.links[link].application;
        application.working = false;
        if application.over {
            return;
        }
        if application.random.one_in(application.habits.closes) {
            application.break_off();
            return self.travel(link, 1, |link| Event::ToUs(link, Said::Eof));
        }
        if clogged {
            // Its writes block.
            application.working = true;
            return self.after(20 * MS, Event::Work(link));
        }
        let exchanges = &self.exchanges;
        let mut out = vec![];
        let answers = |number: usize, body: Option<&[u8]>| {
            let exchange = &exchanges[number];
            assert!(exchange.early || body.is_none_or(|body| body == exchange.body), "a body that is not its own");
            // What an early one answers does not depend on its body.
            (exchange.early || body.is_some()).then(|| exchange.answer.clone())
        };
        application.write(answers, &mut out);
        self.say(link, out);
        self.go_on(link);
    }
}
