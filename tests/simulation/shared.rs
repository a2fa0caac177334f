//! A world of connections that many exchanges share: web servers that send many requests at once, applications that
//! multiplex well or badly, owners that read quickly, slowly or not at all.

mod application;
mod driver;
mod exchange;
mod web_server;

use crate::{
    fleet::{self, Fleet},
    random::Random,
};
use application::{Application, Habits, Said};
use driver::Link;
use exchange::{Exchange, Fate};
use fcgimux::{
    config::{self, Config},
    mux::{policy::Policy, pool::Pool},
    wire::{HEADER_LEN, Header, Kind},
};
use std::{
    collections::{BTreeMap, VecDeque},
    ops::AddAssign,
    sync::Arc,
    time::{Duration, Instant},
};
use web_server::WebServer;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// From then on an application counts as one that does not answer.
const ASK_FOR: Duration = Duration::from_millis(500);
/// A web server that takes nothing is given up then.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// What happens next, at some time.
#[derive(Debug)]
enum Event {
    /// A web server writes.
    Write(usize),
    /// An owner looks for its response.
    Read(usize),
    /// It has not been able to pass on anything for long.
    GiveUp(usize, u32),
    Connected(usize),
    AskedEnough(usize),
    ToApplication(usize, Vec<u8>),
    ToUs(usize, Said),
    /// An application goes on with one of its connections.
    Work(usize),
    Fault,
    /// Something changes in the fleet; all is well again.
    Change,
    Mend,
}

/// How exchanges ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fates {
    pub(crate) all: u64,
    pub(crate) served: u64,
    failed: u64,
    refused: u64,
    gone: u64,
    stalled: u64,
    again: u64,
    opened: u64,
    dropped: u64,
}

impl AddAssign for Fates {
    fn add_assign(&mut self, other: Self) {
        let Self { all, served, failed, refused, gone, stalled, again, opened, dropped } = other;
        self.all += all;
        self.served += served;
        self.failed += failed;
        self.refused += refused;
        self.gone += gone;
        self.stalled += stalled;
        self.again += again;
        self.opened += opened;
        self.dropped += dropped;
    }
}

pub(crate) struct World {
    random: Random,
    config: config::Pool,
    policy: Arc<Policy>,
    habits: Habits,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    numbers: u64,
    pool: Pool<usize, ()>,
    fleet: Fleet,
    links: Vec<Link>,
    exchanges: Vec<Exchange>,
    webs: Vec<WebServer>,
    /// Owners that have something to look at.
    woken: VecDeque<usize>,
    fates: Fates,
    faults_left: u64,
    changes_left: u64,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(7).wrapping_add(3));
        // Half of them with endpoints that come and go.
        let changes_left = if random.one_in(2) { random.between(1, 60) } else { 0 };
        let endpoints = random.between(1, if changes_left > 0 { 5 } else { 3 }) as usize;
        let pool_seed = random.next();
        let config = settings(endpoints, &mut random);
        let habits = Habits::new(config.connections.multiplex == config::Multiplex::Always, &mut random);
        let faults_left = if random.one_in(3) { random.between(1, 6) } else { 0 };
        let now = Instant::now();
        let mut world = Self {
            policy: Arc::new(Policy::new(&config)),
            habits,
            now,
            events: BTreeMap::new(),
            numbers: 0,
            pool: Pool::new(&config, pool_seed, now),
            fleet: Fleet::new(endpoints, true),
            config,
            links: vec![],
            exchanges: vec![],
            webs: vec![],
            woken: VecDeque::new(),
            fates: Fates::default(),
            faults_left,
            changes_left,
            random,
        };
        for _ in 0..world.random.between(1, 4) {
            world.web_server();
        }
        if faults_left > 0 {
            world.after(MS, Event::Fault);
        }
        if changes_left > 0 {
            world.after(MS, Event::Change);
        }
        world.settle();
        world
    }

    /// Lives until nothing happens any more, then drains.
    pub(crate) fn live(mut self) -> Fates {
        self.live_until(None);
        for (index, exchange) in self.exchanges.iter().enumerate() {
            assert!(exchange.is_over(), "exchange {index} has no end: {exchange:?}");
        }
        // Whatever was aborted has its time to be ended.
        self.live_until(Some(self.now + 10 * SECOND));
        assert_eq!(self.pool.busy(), 0);
        assert!(self.webs.iter().all(WebServer::is_quiet), "a web server waits for an end");
        for link in self.links.iter().filter(|link| link.is_open()) {
            link.assert_quiet();
        }
        self.pool.drain(self.now);
        self.settle();
        self.live_until(Some(self.now + 60 * SECOND));
        let snapshot = self.pool.snapshot(self.now);
        let held: usize = snapshot.endpoints.iter().flat_map(|endpoint| endpoint.connections).sum();
        let running: usize = snapshot.endpoints.iter().map(|endpoint| endpoint.in_flight).sum();
        assert_eq!((held, running, snapshot.queue_depth), (0, 0, 0), "{snapshot:?}");
        assert!(self.links.iter().all(|link| !link.is_open()), "left open");
        for exchange in &self.exchanges {
            self.fates.all += 1;
            match exchange.fate() {
                Some(Fate::Served) => self.fates.served += 1,
                Some(Fate::Failed) => self.fates.failed += 1,
                Some(Fate::Refused) => self.fates.refused += 1,
                Some(Fate::Stalled) => self.fates.stalled += 1,
                Some(Fate::Gone) | None => self.fates.gone += 1,
            }
        }
        self.fates.opened = self.links.len() as u64;
        self.fates
    }

    /// Until nothing more happens but, perhaps, that idle connections are looked after; or until then.
    fn live_until(&mut self, until: Option<Instant>) {
        let mut steps = 0_u64;
        loop {
            steps += 1;
            assert!(steps < 400_000, "it never ends");
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let clocks = self.links.iter().filter_map(Link::next_deadline).chain(self.pool.next_deadline());
            let clock = clocks.min();
            let next = event.into_iter().chain(clock).min().filter(|at| until.is_none_or(|until| *at <= until));
            let Some(at) = next else {
                self.now = until.unwrap_or(self.now);
                return;
            };
            self.now = self.now.max(at);
            if event.is_some_and(|event| clock.is_none_or(|clock| event <= clock)) {
                let (_, event) = self.events.pop_first().expect("there is one");
                self.happen(event);
            } else {
                self.pool.tick(self.now);
                self.links.iter_mut().for_each(|link| link.tick(self.now));
            }
            self.settle();
            self.check();
        }
    }

    fn after(&mut self, time: Duration, event: Event) {
        self.numbers += 1;
        self.events.insert((self.now + time, self.numbers), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Write(web) => self.web_writes(web),
            Event::Read(exchange) => self.read_response(exchange),
            Event::GiveUp(exchange, attempt) => self.give_up(exchange, attempt),
            Event::Connected(link) => self.connected(link),
            Event::AskedEnough(link) => self.asked_enough(link),
            Event::ToApplication(link, bytes) => self.at_application(link, &bytes),
            Event::ToUs(link, said) => self.hear(link, said),
            Event::Work(link) => self.work(link),
            Event::Fault => self.fault(),
            Event::Change => self.change(),
            Event::Mend => self.fleet.mend(&mut self.pool, &mut self.random, self.now),
        }
    }

    fn change(&mut self) {
        if self.random.one_in(16) {
            let endpoints = self.config.endpoints.len();
            let multiplex = self.config.connections.multiplex;
            let mut settings = settings(endpoints, &mut self.random);
            // The applications of this world have been told.
            settings.connections.multiplex = multiplex;
            fleet::reconfigure(&mut self.pool, &mut self.config, settings, self.now);
        } else {
            self.fleet.change(&mut self.pool, &mut self.random, self.now);
        }
        self.changes_left -= 1;
        let pause = self.random.short(300 * MS).max(MS);
        self.after(pause, if self.changes_left > 0 { Event::Change } else { Event::Mend });
    }

    /// Some connection breaks.
    fn fault(&mut self) {
        let open: Vec<_> = (0..self.links.len()).filter(|link| self.links[*link].is_open()).collect();
        if !open.is_empty() {
            let link = self.random.pick(&open);
            self.links[link].application.break_off();
            self.travel(link, 1, |link| Event::ToUs(link, Said::Eof));
        }
        self.faults_left -= 1;
        if self.faults_left > 0 {
            let pause = self.random.short(300 * MS);
            self.after(pause.max(MS), Event::Fault);
        }
    }

    fn check(&mut self) {
        #[cfg(debug_assertions)]
        self.pool.check();
        let snapshot = self.pool.snapshot(self.now);
        let mut open = vec![0; self.config.endpoints.len()];
        self.links.iter().filter(|link| link.is_open()).for_each(|link| open[link.host] += 1);
        self.fleet.check(&snapshot, &open);
        for endpoint in &snapshot.endpoints {
            let held: usize = endpoint.connections.iter().sum();
            assert_eq!(open[self.fleet.number(endpoint)], held, "{endpoint:?}");
        }
    }
}

/// Whole records of some bytes; the rest stays.
fn whole_records(bytes: &mut Vec<u8>) -> Vec<(Header, Vec<u8>)> {
    let (mut out, mut at) = (vec![], 0);
    while let Some(header) = bytes[at..].first_chunk().map(Header::decode) {
        let content = at + HEADER_LEN;
        let end = content + usize::from(header.content);
        if end + usize::from(header.padding) > bytes.len() {
            break;
        }
        out.push((header, bytes[content..end].to_vec()));
        at = end + usize::from(header.padding);
    }
    bytes.drain(..at);
    out
}

fn record(kind: Kind, id: u16, content: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    fcgimux::wire::put_record(&mut out, kind, id, content);
    out
}

/// A pool as an operator might set it up, or not quite.
fn settings(endpoints: usize, random: &mut Random) -> config::Pool {
    let addresses: Vec<_> = (0..endpoints).map(|n| format!("{{address: '{}'}}", fleet::address(n))).collect();
    let text = format!(
        "pools: {{p: {{application: generic, endpoints: [{}], connections: {{per_endpoint: {}, surplus_idle: {}, \
         idle_timeout: 5s, max_age: {}, max_requests: {}, multiplex: {}, max_requests_in_flight: {}, buffer: {}, \
         stall_timeout: {}}}, slow_start: {}, queue: {{depth: {}, timeout: 10s}}, timeouts: {{connect: 1s, prove: 2s}}}}}}",
        addresses.join(", "),
        random.between(1, 4),
        random.pick(&["0s", "1s"]),
        random.pick(&["off", "1s"]),
        random.pick(&["off", "10"]),
        random.pick(&["auto", "auto", "auto", "always", "never"]),
        random.pick(&[1, 2, 8, 32]),
        random.pick(&["4KiB", "16KiB", "64KiB"]),
        random.pick(&["100ms", "1s", "5s"]),
        random.pick(&["off", "1s", "10s"]),
        random.pick(&[5, 1000, 1000]),
    );
    Config::from_yaml(&text).unwrap_or_else(|error| panic!("{text}: {error}")).pools.remove(0)
}
