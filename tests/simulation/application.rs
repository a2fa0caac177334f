//! php-fpm as far as a pool can tell: workers that are held by one connection each, from accept to close.

use fcgimux::wire::{Header, Kind};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// One connection, on both sides.
pub(crate) type Link = usize;

/// What is sent to an application.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Values,
    Request { id: u16, exchange: usize, keep: bool, script: Script },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// To the end of its response.
    pub(crate) run: Duration,
    /// Work behind the response (`fastcgi_finish_request`).
    pub(crate) behind: Option<Duration>,
    /// Bytes written behind the response.
    pub(crate) strays: u16,
}

/// What an application lets one hear.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Bytes(Vec<u8>),
    Eof,
    Reset,
}

/// What happens to it later. The number tells a worker's life or a script's run from later ones.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    Respond(usize, u64),
    Free(usize, u64),
    Start(usize),
    StopDeadline(u64),
    Up,
    OthersLeave,
}

/// What it does now and wants to do later.
#[derive(Default)]
pub(crate) struct Out {
    pub(crate) said: Vec<(Link, Said)>,
    pub(crate) later: Vec<(Duration, Timer)>,
    /// Scripts that began: their exchanges.
    pub(crate) executed: Vec<usize>,
}

#[derive(Debug, Default)]
struct Worker {
    link: Option<Link>,
    /// Held by somebody else.
    others: bool,
    served: u64,
    stopping: bool,
    /// The running script: its number, and what was asked.
    work: Option<(u64, Ask)>,
}

#[derive(Debug, Default)]
struct Connection {
    worker: Option<usize>,
    inbox: VecDeque<Ask>,
    /// The application has closed its side.
    ended: bool,
    /// We have closed ours.
    closed: bool,
}

/// How one php-fpm is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) workers: usize,
    pub(crate) max_requests: u64,
    /// Closes behind GET_VALUES, as PHP before 8.2.13 does.
    pub(crate) old: bool,
    /// How long stopping workers may take.
    pub(crate) control_timeout: Duration,
}

pub(crate) struct Application {
    setup: Setup,
    /// By place; an empty one is being forked, or waits for a reload to end.
    workers: Vec<Option<Worker>>,
    backlog: VecDeque<Link>,
    links: BTreeMap<Link, Connection>,
    refusing: bool,
    reloading: bool,
    numbers: u64,
}

impl Application {
    pub(crate) fn new(setup: Setup) -> Self {
        Self {
            setup,
            workers: (0..setup.workers).map(|_| Some(Worker::default())).collect(),
            backlog: VecDeque::new(),
            links: BTreeMap::new(),
            refusing: false,
            reloading: false,
            numbers: 0,
        }
    }

    // ---------------------------------------------------------------- connections

    /// False: refused.
    pub(crate) fn connect(&mut self, link: Link, out: &mut Out) -> bool {
        if !self.refusing {
            self.links.insert(link, Connection::default());
            self.backlog.push_back(link);
            self.accept(out);
        }
        !self.refusing
    }

    pub(crate) fn receive(&mut self, link: Link, ask: Ask, out: &mut Out) {
        let Some(connection) = self.links.get_mut(&link).filter(|connection| !connection.ended) else { return };
        connection.inbox.push_back(ask);
        if let Some(worker) = connection.worker {
            self.work(worker, out);
        }
    }

    /// The other side closed. A request that lies unread is executed all the same (fact 13.2), unless the worker has
    /// ended with the one before it (fact 3.2).
    pub(crate) fn close(&mut self, link: Link, out: &mut Out) {
        let Some(connection) = self.links.get_mut(&link) else { return };
        connection.closed = true;
        let unread = connection.inbox.drain(..).filter(|_| !connection.ended);
        out.executed.extend(unread.filter_map(|ask| match ask {
            Ask::Request { exchange, .. } => Some(exchange),
            Ask::Values => None,
        }));
        let worker = connection.worker;
        match worker {
            None => {
                self.backlog.retain(|each| *each != link);
                self.links.remove(&link);
            }
            Some(place) if self.worker(place).work.is_none() => self.release(place, out),
            // It is noticed when the script ends (fact 7.3).
            Some(_) => {}
        }
    }

    // ---------------------------------------------------------------- time

    pub(crate) fn ring(&mut self, timer: Timer, out: &mut Out) {
        match timer {
            Timer::Respond(place, number) => self.respond(place, number, out),
            Timer::Free(place, number) => self.free(place, number, out),
            Timer::Start(place) => {
                if !self.reloading && !self.refusing && self.workers[place].is_none() {
                    self.workers[place] = Some(Worker::default());
                    self.accept(out);
                }
            }
            Timer::StopDeadline(number) => {
                if self.reloading && number == self.numbers {
                    (0..self.workers.len()).for_each(|place| self.kill(place, out));
                }
            }
            Timer::Up => {
                self.refusing = false;
                (0..self.workers.len()).for_each(|place| self.ring(Timer::Start(place), out));
            }
            Timer::OthersLeave => {
                let held = self.workers.iter().position(|worker| worker.as_ref().is_some_and(|each| each.others));
                if let Some(place) = held {
                    self.release(place, out);
                }
            }
        }
    }

    // ---------------------------------------------------------------- faults

    /// SIGKILL to one worker.
    fn kill(&mut self, place: usize, out: &mut Out) {
        let Some(worker) = self.workers[place].take() else { return };
        if let Some(link) = worker.link {
            let connection = self.links.get_mut(&link).expect("a worker's connection");
            if connection.closed {
                self.links.remove(&link);
            } else {
                (connection.ended, connection.worker) = (true, None);
                out.said.push((link, if connection.inbox.is_empty() { Said::Eof } else { Said::Reset }));
            }
        }
        self.exited(place, out);
    }

    /// The same for whichever worker comes in that place.
    pub(crate) fn kill_any(&mut self, place: usize, out: &mut Out) {
        self.kill(place % self.workers.len(), out);
    }

    /// SIGUSR2: workers stop when they are next asked, and new ones come when all have gone (facts 6.2, 6.3).
    pub(crate) fn reload(&mut self, out: &mut Out) {
        if self.refusing || self.reloading {
            return;
        }
        self.reloading = true;
        self.numbers += 1;
        out.later.push((self.setup.control_timeout, Timer::StopDeadline(self.numbers)));
        for place in 0..self.workers.len() {
            match &mut self.workers[place] {
                Some(worker) if worker.link.is_some() || worker.others => worker.stopping = true,
                free => {
                    *free = None;
                    self.exited(place, out);
                }
            }
        }
    }

    /// Everything ends, and connections are refused for so long.
    pub(crate) fn down(&mut self, time: Duration, out: &mut Out) {
        if self.refusing {
            return;
        }
        (self.refusing, self.reloading) = (true, false);
        for link in self.backlog.drain(..) {
            self.links.get_mut(&link).expect("a connection in the backlog").ended = true;
            out.said.push((link, Said::Reset));
        }
        (0..self.workers.len()).for_each(|place| self.kill(place, out));
        out.later.push((time, Timer::Up));
    }

    /// Somebody else takes a free worker for so long.
    pub(crate) fn take(&mut self, time: Duration, out: &mut Out) {
        if let Some(worker) = self.workers.iter_mut().flatten().find(|worker| worker.is_free()) {
            worker.others = true;
            out.later.push((time, Timer::OthersLeave));
        }
    }

    // ---------------------------------------------------------------- getters

    /// A connection would be served at once.
    pub(crate) fn has_room(&self) -> bool {
        !self.refusing && self.backlog.is_empty() && self.workers.iter().flatten().any(Worker::is_free)
    }

    /// Free to begin a request at once.
    pub(crate) fn is_waiting_on(&self, link: Link) -> bool {
        let place = self.links.get(&link).and_then(|connection| connection.worker);
        place.is_some_and(|place| self.workers[place].as_ref().is_some_and(|worker| worker.work.is_none()))
    }

    pub(crate) fn has_ended(&self, link: Link) -> bool {
        self.links.get(&link).is_none_or(|connection| connection.ended)
    }

    /// Connections that we have not closed.
    pub(crate) fn open_links(&self) -> usize {
        self.links.values().filter(|connection| !connection.closed).count()
    }

    // ---------------------------------------------------------------- workers

    fn worker(&mut self, place: usize) -> &mut Worker {
        self.workers[place].as_mut().expect("a worker that lives")
    }

    fn accept(&mut self, out: &mut Out) {
        while let Some(place) = self.workers.iter().position(|worker| worker.as_ref().is_some_and(Worker::is_free)) {
            let Some(link) = self.backlog.pop_front() else { return };
            self.worker(place).link = Some(link);
            self.links.get_mut(&link).expect("a connection in the backlog").worker = Some(place);
            self.work(place, out);
        }
    }

    /// Reads on, unless a script runs.
    fn work(&mut self, place: usize, out: &mut Out) {
        loop {
            let worker = self.worker(place);
            let (Some(link), None) = (worker.link, &worker.work) else { return };
            let stopping = worker.stopping;
            let connection = self.links.get_mut(&link).expect("a worker's connection");
            let Some(ask) = connection.inbox.pop_front().filter(|_| !connection.ended) else { return };
            match ask {
                Ask::Values => {
                    out.said.push((link, Said::Bytes(record(Kind::GetValuesResult, 0, b"\x0f\x01FCGI_MPXS_CONNS0"))));
                    if self.setup.old || stopping {
                        self.end(place, out);
                    }
                }
                Ask::Request { exchange, script, .. } => {
                    out.executed.push(exchange);
                    self.numbers += 1;
                    let number = self.numbers;
                    self.worker(place).work = Some((number, ask));
                    out.later.push((script.run, Timer::Respond(place, number)));
                }
            }
        }
    }

    fn running(&mut self, place: usize, number: u64) -> Option<(Link, Ask)> {
        let worker = self.workers[place].as_ref()?;
        let (_, ask) = worker.work.filter(|(running, _)| *running == number)?;
        Some((worker.link?, ask))
    }

    fn respond(&mut self, place: usize, number: u64, out: &mut Out) {
        let Some((link, Ask::Request { id, exchange, script, .. })) = self.running(place, number) else { return };
        let text = format!("Status: 200 OK\r\n\r\n{exchange}");
        let response = [record(Kind::Stdout, id, text.as_bytes()), record(Kind::EndRequest, id, &[0; 8])].concat();
        out.said.push((link, Said::Bytes(response)));
        self.worker(place).served += 1;
        match script.behind {
            Some(time) => out.later.push((time, Timer::Free(place, number))),
            None => self.free(place, number, out),
        }
    }

    /// The script has ended, work behind its response included.
    fn free(&mut self, place: usize, number: u64, out: &mut Out) {
        let Some((link, Ask::Request { id, keep, script, .. })) = self.running(place, number) else { return };
        if script.strays > 0 {
            out.said.push((link, Said::Bytes(record(Kind::Stdout, id, &vec![b'!'; script.strays.into()]))));
        }
        let max_requests = self.setup.max_requests;
        let worker = self.worker(place);
        worker.work = None;
        let last = !keep || worker.stopping || worker.served >= max_requests;
        if self.links[&link].closed {
            self.release(place, out);
        } else if last {
            self.end(place, out);
        } else {
            self.work(place, out);
        }
    }

    /// Closes its side, and waits for the other (fact 2.5).
    fn end(&mut self, place: usize, out: &mut Out) {
        let link = self.worker(place).link.expect("a connection to end");
        self.links.get_mut(&link).expect("a worker's connection").ended = true;
        out.said.push((link, Said::Eof));
    }

    /// Its connection is gone: to the next, or out.
    fn release(&mut self, place: usize, out: &mut Out) {
        let max_requests = self.setup.max_requests;
        let worker = self.worker(place);
        if let Some(link) = worker.link.take() {
            self.links.remove(&link);
        }
        let worker = self.worker(place);
        (worker.others, worker.work) = (false, None);
        if worker.stopping || worker.served >= max_requests {
            self.workers[place] = None;
            self.exited(place, out);
        }
        self.accept(out);
    }

    /// A place is empty: the master forks another, or begins anew when the last has gone.
    fn exited(&mut self, place: usize, out: &mut Out) {
        let fork = Duration::from_millis(3);
        if !self.reloading {
            out.later.push((fork, Timer::Start(place)));
        } else if self.workers.iter().all(Option::is_none) {
            self.reloading = false;
            out.later.extend((0..self.workers.len()).map(|place| (fork, Timer::Start(place))));
        }
    }
}

impl Worker {
    fn is_free(&self) -> bool {
        self.link.is_none() && !self.others && !self.stopping
    }
}

fn record(kind: Kind, id: u16, content: &[u8]) -> Vec<u8> {
    let padding = (8 - content.len() % 8) as u8 % 8;
    let mut out = Header { padding, ..Header::new(kind, id, content.len() as u16) }.encode().to_vec();
    out.extend_from_slice(content);
    out.resize(out.len() + usize::from(padding), 0);
    out
}
