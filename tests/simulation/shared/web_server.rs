//! Web servers: many requests on one connection, their records interleaved, some taken back.

use super::{Event, Exchange, Fate, MS, World, record, whole_records};
use crate::random::Random;
use fcgimux::{
    mux::{
        intake::{Event as Heard, Intake, Limits},
        label::Refusal,
    },
    wire::{BeginRequest, Kind, Role, put_pair},
};
use std::collections::{BTreeMap, VecDeque};

/// Requests at once that one may have.
const LIMIT: u32 = 12;

pub(super) struct WebServer {
    pub(super) intake: Intake<()>,
    /// Written and not looked at.
    carry: Vec<u8>,
    /// By id: the exchange, and what has not been written of its request.
    requests: BTreeMap<u16, (usize, VecDeque<Vec<u8>>)>,
    /// Requests that are still to come.
    to_come: u64,
    random: Random,
}

impl WebServer {
    /// Nothing runs on it.
    pub(super) fn is_quiet(&self) -> bool {
        self.requests.is_empty() && !self.intake.is_running() && self.carry.is_empty()
    }

    /// The exchange of a request has ended for it.
    pub(super) fn ended(&mut self, id: u16) {
        self.intake.ended(id);
        if self.requests.get(&id).is_some_and(|(_, records)| records.is_empty()) {
            self.requests.remove(&id);
        }
    }

    fn free_id(&self) -> u16 {
        (1..).find(|id| !self.requests.contains_key(id)).expect("few are taken")
    }
}

/// BEGIN_REQUEST, PARAMS with the exchange's number, and its body.
fn request(id: u16, number: usize, exchange: &Exchange, random: &mut Random) -> VecDeque<Vec<u8>> {
    let mut params = vec![];
    put_pair(&mut params, b"TOKEN", number.to_string().as_bytes());
    put_pair(&mut params, b"REQUEST_METHOD", if exchange.idempotent { b"GET" } else { b"POST" });
    let mut records = VecDeque::from([
        record(Kind::BeginRequest, id, &BeginRequest { role: Role::Responder, keep_conn: true }.encode()),
        record(Kind::Params, id, &params),
        record(Kind::Params, id, &[]),
    ]);
    let mut rest = &exchange.body[..];
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(rest.len().min(random.between(1, 9000) as usize));
        records.push_back(record(Kind::Stdin, id, part));
        rest = behind;
    }
    records.push_back(record(Kind::Stdin, id, &[]));
    records
}

impl World {
    pub(super) fn web_server(&mut self) {
        let web = self.webs.len();
        let intake = Intake::new(self.policy.clone(), Limits { connections: 100, requests: LIMIT });
        let to_come = self.random.between(1, 25);
        let random = Random::new(self.random.next());
        self.webs.push(WebServer { intake, carry: vec![], requests: BTreeMap::new(), to_come, random });
        self.after(MS, Event::Write(web));
    }

    /// A new request, or the next record of one that is under way.
    pub(super) fn web_writes(&mut self, web: usize) {
        let server = &mut self.webs[web];
        let unwritten: Vec<u16> =
            server.requests.iter().filter(|(_, (_, records))| !records.is_empty()).map(|(id, _)| *id).collect();
        let begins = server.to_come > 0 && (unwritten.is_empty() || server.random.one_in(4));
        // Now and then one more than there may be.
        let full = server.requests.len() >= LIMIT as usize && !server.random.one_in(20);
        if begins && !full {
            server.to_come -= 1;
            let (id, number) = (server.free_id(), self.exchanges.len());
            let exchange = Exchange::new(web, id, number, &mut self.random);
            let records = request(id, number, &exchange, &mut server.random);
            self.exchanges.push(exchange);
            server.requests.insert(id, (number, records));
        } else if !unwritten.is_empty() {
            let id = server.random.pick(&unwritten);
            self.write_next(web, id);
        }
        let server = &mut self.webs[web];
        let more = server.to_come > 0 || server.requests.values().any(|(_, records)| !records.is_empty());
        let aborts = !server.requests.is_empty() && server.random.one_in(40);
        if aborts {
            let ids: Vec<u16> = server.requests.keys().copied().collect();
            let id = server.random.pick(&ids);
            self.take_back(web, id);
        }
        if more {
            let pause = self.random.short(10 * MS);
            self.after(pause.max(MS / 100), Event::Write(web));
        }
    }

    fn write_next(&mut self, web: usize, id: u16) {
        let server = &mut self.webs[web];
        let (number, records) = server.requests.get_mut(&id).expect("it is under way");
        let (number, bytes) = (*number, records.pop_front().expect("there is more"));
        let last = records.is_empty();
        // In two parts, if it likes.
        let cut = server.random.between(0, bytes.len() as u64) as usize;
        self.taken_in(web, &bytes[..cut]);
        self.taken_in(web, &bytes[cut..]);
        if last && self.exchanges[number].is_over() {
            self.webs[web].requests.remove(&id);
        }
    }

    /// ABORT_REQUEST, and nothing more of it.
    fn take_back(&mut self, web: usize, id: u16) {
        let Some((number, records)) = self.webs[web].requests.get_mut(&id) else { return };
        let number = *number;
        records.clear();
        if self.exchanges[number].is_over() {
            self.webs[web].requests.remove(&id);
            return;
        }
        self.taken_in(web, &record(Kind::AbortRequest, id, &[]));
        // Of one that had not even begun there is nothing to take back.
        if !self.exchanges[number].is_over() {
            self.exchanges[number].end(Fate::Gone);
            self.webs[web].ended(id);
        }
    }

    fn taken_in(&mut self, web: usize, bytes: &[u8]) {
        self.webs[web].carry.extend_from_slice(bytes);
        let mut shown = std::mem::take(&mut self.webs[web].carry);
        loop {
            let taken = self.webs[web].intake.take(&shown).expect("web servers keep to the protocol");
            let Some(event) = taken.event else {
                shown.drain(..taken.consumed);
                break;
            };
            self.heard(web, event, &shown);
            shown.drain(..taken.consumed);
        }
        self.webs[web].carry = shown;
    }

    fn heard(&mut self, web: usize, event: Heard, shown: &[u8]) {
        let number = |id: u16| self.webs[web].requests[&id].0;
        match event {
            Heard::Request(request) => {
                let number = number(request.id);
                self.exchanges[number].request = Some(request);
                self.want(number, false);
            }
            Heard::Body { id, range, .. } => {
                let number = number(id);
                self.exchanges[number].upload.extend(shown[range].iter());
                self.woken.push_back(number);
            }
            Heard::End { id, .. } => {
                let number = number(id);
                self.exchanges[number].whole = true;
                self.woken.push_back(number);
            }
            Heard::Aborted { id } => {
                let number = number(id);
                self.taken_back(number);
            }
            // One more than there may be.
            Heard::Refused { id, why, .. } if why.refusal == Refusal::RequestsInFlight => {
                let number = number(id);
                self.exchanges[number].end(Fate::Refused);
                self.webs[web].ended(id);
            }
            // Taken back before it was announced.
            Heard::Answer(mut answer) => {
                let id = whole_records(&mut answer)[0].0.id;
                let number = number(id);
                self.exchanges[number].end(Fate::Refused);
                self.webs[web].ended(id);
            }
            other => panic!("nothing to refuse: {other:?}"),
        }
    }
}
