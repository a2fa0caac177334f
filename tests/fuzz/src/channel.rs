use super::input::Input;
use fcgimux::{
    mux::{
        channel::{Channel, Ending, Freed, Opening},
        failure::Kind as Cause,
        request::GET_VALUES,
    },
    wire::{HEADER_LEN, Header, Kind, put_record},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

const BUFFER: usize = 4096;

/// Any bytes of an application, against owners that open, push, take, dawdle and leave as they like: what they are given
/// is whole records under their own id, nothing is held beyond its bounds, the clock never spins, and in the end nothing
/// is left.
pub fn channel(data: &[u8]) {
    let mut input = Input(data);
    let mut driver = Driver::new(input.byte().is_multiple_of(4));
    let mut steps = 0;
    while !input.is_empty() && steps < 3000 {
        driver.step(&mut input);
        driver.check();
        steps += 1;
    }
    driver.end();
}

struct Driver {
    channel: Channel<u16>,
    now: Instant,
    /// What the application has written and the connection has not taken.
    carry: Vec<u8>,
    /// Owners that have not left: our id, theirs, and whether the response has ended.
    owners: BTreeMap<u16, (u16, bool)>,
    /// Aborted, and not freed.
    left: BTreeSet<u16>,
    opened: u16,
    over: bool,
}

impl Driver {
    #[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
    fn new(single: bool) -> Self {
        let mut channel = Channel::new(BUFFER, Duration::from_secs(5));
        channel.set_single(single);
        Self {
            channel,
            now: Instant::now(),
            carry: vec![],
            owners: BTreeMap::new(),
            left: BTreeSet::new(),
            opened: 0,
            over: false,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 | 1 => self.open(input),
            2 => {
                if let Some(id) = self.pick(input) {
                    let len = input.below(200).min(self.channel.room(id).saturating_sub(HEADER_LEN));
                    let mut records = vec![];
                    put_record(&mut records, Kind::Stdin, 0, &vec![b'b'; len]);
                    self.channel.push(id, &records);
                }
            }
            3 | 4 => _ = self.pick(input).map(|id| self.take(id)),
            5 => _ = self.pick(input).map(|id| self.leave(id)),
            6 | 7 => {
                let len = self.channel.to_send().len();
                self.channel.sent(len.min(1 + input.below(256) * 8));
            }
            8 => _ = self.channel.ask(&GET_VALUES),
            9 => self.pass(Duration::from_millis(1 << input.below(14))),
            // A record that may be meant for somebody.
            10..=12 => {
                let kind = [Kind::Stdout, Kind::Stdout, Kind::Stderr, Kind::EndRequest][input.below(4)];
                let id = self.pick(input).unwrap_or(1);
                let len = if kind == Kind::EndRequest { 8 } else { input.below(256) * 4 };
                let mut record = vec![];
                put_record(&mut record, kind, id, &vec![0; len]);
                self.hear(&record);
            }
            13 | 14 => {
                let len = input.below(64);
                let bytes = input.take(len);
                self.hear(bytes);
            }
            _ => {
                if input.byte().is_multiple_of(64) {
                    self.fail();
                }
            }
        }
    }

    fn pick(&self, input: &mut Input<'_>) -> Option<u16> {
        let nth = input.below(self.owners.len().max(1));
        self.owners.keys().nth(nth).copied()
    }

    fn open(&mut self, input: &mut Input<'_>) {
        if self.owners.len() >= 16 {
            return;
        }
        self.opened = self.opened.wrapping_add(1);
        let (theirs, proven) = (self.opened, input.byte().is_multiple_of(2));
        let head = |id, out: &mut Vec<u8>| {
            put_record(out, Kind::BeginRequest, id, &[0; 8]);
            put_record(out, Kind::Params, id, &[]);
        };
        let opened = self.channel.open(
            Opening { theirs, streams: &[Kind::Stdin], question: proven.then_some(&GET_VALUES[..]) },
            head,
            self.now,
        );
        assert_eq!(opened.is_none(), self.over || self.channel.is_doomed());
        if let Some(id) = opened {
            self.channel.listen(id, id);
            assert!(self.owners.insert(id, (theirs, false)).is_none() && !self.left.contains(&id), "id {id} is taken");
        }
    }

    fn take(&mut self, id: u16) {
        let mut records = vec![];
        let ending = self.channel.take(id, &mut records, self.now);
        assert!(records.len() <= BUFFER + 16, "{} bytes were held", records.len());
        let (theirs, ended) = self.owners.get_mut(&id).expect("it has not left");
        assert!(!*ended || records.is_empty(), "behind the end");
        let mut rest = &records[..];
        while let Some(header) = rest.first_chunk().map(Header::decode) {
            assert_eq!(header.id, *theirs, "under the id of another");
            assert!(matches!(header.kind, Kind::Stdout | Kind::Stderr | Kind::EndRequest));
            rest = &rest[HEADER_LEN + usize::from(header.content) + usize::from(header.padding)..];
            if header.kind == Kind::EndRequest {
                assert!(rest.is_empty() && matches!(ending, Some(Ending::Ended(_))));
            }
        }
        assert!(rest.is_empty(), "a record is not whole");
        *ended = ending.is_some();
    }

    fn leave(&mut self, id: u16) {
        self.owners.remove(&id);
        if !self.channel.leave(id, self.now) {
            self.left.insert(id);
        }
        self.hear(&[]);
    }

    fn hear(&mut self, bytes: &[u8]) {
        if self.over {
            return;
        }
        self.carry.extend_from_slice(bytes);
        if self.channel.is_stalled() {
            return;
        }
        match self.channel.receive(&self.carry, self.now) {
            Ok(taken) => _ = self.carry.drain(..taken),
            Err(_) => self.fail(),
        }
    }

    fn fail(&mut self) {
        self.over = true;
        self.channel.fail(&Cause::Closed);
        assert!(self.channel.to_send().is_empty() && !self.channel.is_stalled());
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.channel.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.channel.tick(self.now);
            assert!(self.channel.next_deadline().is_none_or(|at| at > self.now), "a driver would tick for ever");
            self.hear(&[]);
        }
        self.now = until;
    }

    fn check(&mut self) {
        // A driver shows what it has as soon as there is room.
        self.hear(&[]);
        while let Some(Freed { id, .. }) = self.channel.poll_freed() {
            assert!(self.left.remove(&id), "freed twice, or before its owner had left");
        }
        while let Some(id) = self.channel.poll_wake() {
            if self.owners.contains_key(&id) {
                self.channel.listen(id, id);
            }
        }
        while self.channel.poll_stall().is_some() {}
        assert_eq!(self.channel.in_flight(), self.owners.len() + self.left.len());
        assert!(self.channel.is_stalled() || self.over || self.carry.len() < 2048, "nothing holds it up");
    }

    /// All leave, and what was aborted has had its time.
    fn end(&mut self) {
        let ids: Vec<_> = self.owners.keys().copied().collect();
        for id in ids {
            self.take(id);
            self.leave(id);
        }
        self.pass(Duration::from_secs(10));
        self.check();
        assert_eq!(self.channel.in_flight(), 0);
        assert!(self.channel.next_deadline().is_none() && !self.channel.is_stalled());
        let mut written = 0;
        while !self.over && !self.channel.to_send().is_empty() {
            let len = self.channel.to_send().len();
            self.channel.sent(len);
            written += len;
            assert!(written < 1 << 20, "it never ends");
        }
    }
}
