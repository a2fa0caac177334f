//! One exchange as its owner sees it: what `net` does between a web server and a place, as briefly as it can be said.

use super::{Event, MS, WRITE_TIMEOUT, World, record, whole_records};
use crate::random::Random;
use fcgimux::{
    mux::{
        channel::{Ending, Opening},
        failure::{Failure, Kind as Cause, Origin, Phase},
        label::RetryReason,
        pool::{Arrival, Claim, Share, WaiterKey},
        request::{Framing, Front, Request, question},
    },
    wire::{HEADER_LEN, Kind},
};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Served,
    Failed,
    Refused,
    Gone,
    Stalled,
}

/// How its web server reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Quick,
    Slow,
    Dead,
}

#[derive(Debug)]
enum State {
    /// Its params have not come.
    Coming,
    Waiting(WaiterKey),
    Running {
        link: usize,
        id: u16,
        share: Share,
        executed: u32,
    },
    Over(Fate),
}

#[derive(Debug)]
pub(super) struct Exchange {
    web: usize,
    /// The web server's id.
    theirs: u16,
    pub(super) idempotent: bool,
    pub(super) body: Vec<u8>,
    /// What it must be answered.
    pub(super) answer: Vec<u8>,
    /// The application answers without having read the body.
    pub(super) early: bool,
    reader: Reader,
    pub(super) request: Option<Request>,
    /// Body that has come and not been pushed, and all that has been.
    pub(super) upload: VecDeque<u8>,
    pushed: Vec<u8>,
    /// All of the body has come; and its end has been pushed.
    pub(super) whole: bool,
    closed: bool,
    given: Vec<u8>,
    /// On STDERR.
    words: Vec<u8>,
    state: State,
    /// An owner that reads slowly will look for more.
    looking: bool,
    attempt: u32,
    retried: [u32; 2],
    /// The endpoint that had it last.
    endpoint: usize,
    /// It may have been executed there, and must not go there again.
    pub(super) avoid: Vec<usize>,
    /// Times that an application has begun to work on it.
    pub(super) executed: u32,
}

impl Exchange {
    pub(super) fn new(web: usize, theirs: u16, number: usize, random: &mut Random) -> Self {
        let size = |random: &mut Random| {
            let most = random.pick(&[0, 10, 500, 20_000]);
            random.between(0, most) as usize
        };
        let bytes = |random: &mut Random, len| (0..len).map(|_| random.next() as u8).collect::<Vec<u8>>();
        let (sent, wanted) = (size(random), size(random));
        let body = bytes(random, sent);
        let head = format!("Status: 200\r\n\r\n{number}:").into_bytes();
        Self {
            web,
            theirs,
            idempotent: !random.one_in(3),
            answer: [head, bytes(random, wanted)].concat(),
            body,
            early: random.one_in(6),
            reader: random.pick(&[Reader::Quick, Reader::Quick, Reader::Quick, Reader::Quick, Reader::Slow]),
            request: None,
            upload: VecDeque::new(),
            pushed: vec![],
            whole: false,
            closed: false,
            given: vec![],
            words: vec![],
            state: State::Coming,
            looking: false,
            attempt: 0,
            retried: [0; 2],
            endpoint: 0,
            avoid: vec![],
            executed: 0,
        }
        .perhaps_dead(random)
    }

    fn perhaps_dead(mut self, random: &mut Random) -> Self {
        if random.one_in(60) {
            self.reader = Reader::Dead;
        }
        self
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    pub(super) fn fate(&self) -> Option<Fate> {
        match self.state {
            State::Over(fate) => Some(fate),
            _ => None,
        }
    }

    pub(super) fn end(&mut self, fate: Fate) {
        self.state = State::Over(fate);
    }

    /// An application has it, whole but perhaps for its body.
    pub(super) fn execute(&mut self) {
        self.executed += 1;
        assert!(self.idempotent || self.executed == 1, "executed twice: {self:?}");
    }
}

impl World {
    /// Asks for a place.
    pub(super) fn want(&mut self, number: usize, again: bool) {
        let claim = Claim { again, repeatable: false, avoid: self.exchanges[number].avoid.clone() };
        match self.pool.arrive(claim, || number, self.now) {
            Ok(Arrival::Share(share)) => self.granted(number, share),
            Ok(Arrival::Wait(key)) => self.exchanges[number].state = State::Waiting(key),
            Ok(Arrival::Lease(_)) => panic!("connections are shared"),
            Err(_) => self.conclude(number, Fate::Refused),
        }
    }

    pub(super) fn granted(&mut self, number: usize, share: Share) {
        // Its web server may have gone in the same moment.
        if self.random.one_in(60) {
            self.pool.release_untouched(share, self.now);
            return self.conclude(number, Fate::Gone);
        }
        let link = self.link_of(share.key);
        assert_eq!(share.endpoint, self.links[link].endpoint);
        self.fleet.may_lease(share.endpoint, &self.pool.snapshot(self.now));
        let (answers, now) = (self.pool.answers(share.endpoint), self.now);
        let exchange = &mut self.exchanges[number];
        assert!(!exchange.avoid.contains(&share.endpoint), "it may have been executed there");
        exchange.endpoint = share.endpoint;
        let request = exchange.request.as_ref().expect("it has been announced");
        let channel = self.links[link].channel();
        let proven = channel.is_single() && !exchange.idempotent && answers;
        let question = proven.then(question);
        let opening = Opening { theirs: exchange.theirs, streams: &[Kind::Stdin], question: question.as_deref() };
        let head = |id, out: &mut Vec<u8>| {
            request.put_head(out, Framing { id, keep_conn: true, front: &Front::Nothing });
        };
        let Some(id) = channel.open(opening, head, now) else {
            self.pool.release_untouched(share, now);
            return self.failed(number, Cause::Closed, Phase::Unsent);
        };
        channel.listen(id, number);
        exchange.attempt += 1;
        exchange.closed = false;
        exchange.words.clear();
        // What was pushed before is sent once more.
        let mut all: VecDeque<u8> = std::mem::take(&mut exchange.pushed).into();
        all.append(&mut exchange.upload);
        exchange.upload = all;
        exchange.state = State::Running { link, id, share, executed: exchange.executed };
        if exchange.reader == Reader::Dead {
            let attempt = exchange.attempt;
            self.after(WRITE_TIMEOUT, Event::GiveUp(number, attempt));
        }
        self.woken.push_back(number);
    }

    /// It has been woken: there is room, or something to take.
    pub(super) fn look(&mut self, number: usize) {
        let State::Running { link, id, .. } = self.exchanges[number].state else { return };
        let exchange = &mut self.exchanges[number];
        let channel = self.links[link].channel();
        loop {
            let room = channel.room(id);
            if exchange.upload.is_empty() || room <= HEADER_LEN {
                break;
            }
            let len = exchange.upload.len().min(room - HEADER_LEN).min(4000);
            let part: Vec<u8> = exchange.upload.drain(..len).collect();
            channel.push(id, &record(Kind::Stdin, 0, &part));
            exchange.pushed.extend(part);
        }
        if exchange.whole && exchange.upload.is_empty() && !exchange.closed && channel.room(id) >= HEADER_LEN {
            channel.push(id, &record(Kind::Stdin, 0, &[]));
            exchange.closed = true;
        }
        channel.listen(id, number);
        match exchange.reader {
            Reader::Quick => self.read_response(number),
            Reader::Slow if !exchange.looking => {
                exchange.looking = true;
                let pause = self.random.short(400 * MS);
                self.after(pause, Event::Read(number));
            }
            Reader::Slow | Reader::Dead => {}
        }
    }

    pub(super) fn read_response(&mut self, number: usize) {
        self.exchanges[number].looking = false;
        let State::Running { link, id, executed, .. } = self.exchanges[number].state else { return };
        let mut records = vec![];
        let channel = self.links[link].channel();
        channel.listen(id, number);
        let ending = channel.take(id, &mut records, self.now);
        let exchange = &mut self.exchanges[number];
        for (header, content) in whole_records(&mut records) {
            assert_eq!(header.id, exchange.theirs, "under the id of another");
            match header.kind {
                Kind::Stdout => exchange.given.extend(content),
                Kind::Stderr => exchange.words.extend(content),
                Kind::EndRequest => assert!(matches!(ending, Some(Ending::Ended(_)))),
                other => panic!("{other:?} is nothing for a web server"),
            }
        }
        assert!(records.is_empty(), "a record is not whole");
        assert!(exchange.words.iter().eq(b"words".iter().cycle().take(exchange.words.len())), "or their order");
        assert!(exchange.answer.starts_with(&exchange.given), "not its own bytes, or not in order: {number}");
        let phase = if exchange.given.is_empty() { Phase::Sent } else { Phase::Responding };
        let same = exchange.executed == executed;
        match ending {
            None => {}
            Some(Ending::Ended(_)) => {
                assert_eq!(exchange.given.len(), exchange.answer.len(), "its end before its last byte");
                self.leave_place(number);
                self.conclude(number, Fate::Served);
            }
            Some(Ending::Rejected(status)) => {
                assert!(same, "executed, and rejected");
                if status == fcgimux::wire::ProtocolStatus::CantMpxConn {
                    let key = self.links[link].key;
                    let single = self.pool.is_single(self.links[link].endpoint, ONE);
                    self.links[link].learned(single);
                    self.pool.cannot_multiplex(key, self.now);
                }
                self.leave_place(number);
                self.failed(number, Cause::Rejected(status), phase);
            }
            Some(Ending::Broken { cause, unsent }) => {
                assert!(same || !unsent, "executed, and said not to have been sent");
                self.leave_place(number);
                self.failed(number, cause, if unsent { Phase::Unsent } else { phase });
            }
            Some(Ending::Stalled) => {
                assert_ne!(exchange.reader, Reader::Quick, "it took everything at once");
                self.leave_place(number);
                self.conclude(number, Fate::Stalled);
            }
        }
    }

    /// Its web server takes it back.
    pub(super) fn taken_back(&mut self, number: usize) {
        match self.exchanges[number].state {
            State::Waiting(key) => self.pool.leave(key),
            State::Running { .. } => self.leave_place(number),
            State::Coming | State::Over(_) => return,
        }
        self.conclude(number, Fate::Gone);
    }

    /// Its web server has taken nothing for too long.
    pub(super) fn give_up(&mut self, number: usize, attempt: u32) {
        if self.exchanges[number].attempt == attempt && matches!(self.exchanges[number].state, State::Running { .. }) {
            self.leave_place(number);
            self.conclude(number, Fate::Gone);
        }
    }

    fn leave_place(&mut self, number: usize) {
        let state = std::mem::replace(&mut self.exchanges[number].state, State::Coming);
        let State::Running { link, id, share, .. } = state else { panic!("it has a place") };
        if self.links[link].channel().leave(id, self.now) {
            self.pool.release(share, self.now);
        } else {
            self.links[link].left.insert(id, share);
        }
    }

    /// Once more, where the table of retries says so.
    fn failed(&mut self, number: usize, kind: Cause, phase: Phase) {
        let failure = Failure { origin: Origin::Application, kind, phase, position: String::new() };
        let exchange = &mut self.exchanges[number];
        let reason = failure.retry(exchange.idempotent).filter(|reason| match reason {
            RetryReason::Unproven => exchange.retried[0] < 3,
            RetryReason::Idempotent => exchange.retried[1] < 1 && self.pool.has_other(&[exchange.endpoint]),
            RetryReason::Busy => panic!("no fence goes in front of it"),
        });
        let Some(reason) = reason else { return self.conclude(number, Fate::Failed) };
        assert!(exchange.given.is_empty(), "sent again behind a part of its response");
        exchange.retried[usize::from(reason == RetryReason::Idempotent)] += 1;
        if reason == RetryReason::Idempotent {
            exchange.avoid = vec![exchange.endpoint];
        }
        self.fates.again += 1;
        self.want(number, true);
    }

    pub(super) fn conclude(&mut self, number: usize, fate: Fate) {
        let exchange = &mut self.exchanges[number];
        exchange.end(fate);
        self.webs[exchange.web].ended(exchange.theirs);
    }
}

/// What an application has said that takes one request at a time.
const ONE: fcgimux::mux::pool::Learned = fcgimux::mux::pool::Learned::Values(fcgimux::mux::channel::Values {
    multiplexes: false,
    connections: None,
    requests: None,
});
