//! One world: the pool under test, its driver, and everything around it.

mod driver;

use crate::{
    application::{Application, Ask, Link, Out, Said, Script, Setup, Timer},
    fleet::{self, Fleet},
    queue::Queue,
    random::Random,
};
use fcgimux::{
    config::{self, Config},
    mux::{
        label::{ConnectionState, EndpointState},
        pool::{Claim, Handshake, Lease, Pool, Settling, SlotKey, WaiterKey},
        proof::Proof,
        reply::{Finished, Reply},
        snapshot::EndpointSnapshot,
    },
};
use std::{
    collections::BTreeMap,
    ops::AddAssign,
    time::{Duration, Instant},
};

const MS: Duration = Duration::from_millis(1);
/// A driver's clock may ring so much late.
const TICK: Duration = Duration::from_millis(10);
/// From then on a driver watches a web server, and reports a fence in front of a request as late.
const WATCH_AFTER: Duration = Duration::from_millis(10);
/// ... and by then the request goes elsewhere.
const RIDE_AT_MOST: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Applications do what they should, and nobody else uses them.
    Calm,
    Faulty,
    /// PHP before 8.2.13.
    Old,
    /// The same as a faulty one, with endpoints that come and go, operators, status pages and reloads.
    Fleet,
}

impl Kind {
    fn has_faults(self) -> bool {
        matches!(self, Self::Faulty | Self::Fleet)
    }
}

/// What happens next, at some time.
#[derive(Debug)]
enum Event {
    Arrive,
    HangUp(usize),
    Connected(Link),
    ConnectTimeout(Link),
    ToApplication(Link, Ask),
    CloseAtApplication(Link),
    ToUs(Link, Said),
    /// The driver looks at an idle connection on which something came.
    Notice(Link),
    ProveTimeout(Link, u64),
    FirstByteTimeout(usize, u64),
    Watch(usize, u64),
    Busy(usize, u64),
    Ring(usize, Timer),
    Fault,
    /// Something changes in the fleet; all is well again.
    Change,
    Mend,
}

/// What the pool keeps of an idle connection, as the real driver does.
#[derive(Debug)]
pub(crate) struct Upstream {
    link: Link,
    /// The end of the exchange before, whose fence has not been sent.
    owed: Option<Finished>,
}

/// What a connection of ours is doing. Its number tells one spell from a later one.
#[derive(Debug)]
enum Role {
    Connecting(SlotKey, Handshake),
    Proving(SlotKey, Handshake, Proof),
    Idle,
    Leased(usize),
    Settling(Settling, Proof),
    Closed,
}

#[derive(Debug)]
struct Connection {
    endpoint: usize,
    /// Its application.
    host: usize,
    role: Role,
    spell: u64,
    /// Bytes that came and have not been read.
    inbox: Vec<u8>,
    over: Option<Said>,
    /// Nothing overtakes on a connection.
    last: [Instant; 2],
}

#[derive(Debug)]
enum State {
    Waiting(WaiterKey),
    /// `held`: the request, as long as it must not go out.
    Leased {
        lease: Lease<()>,
        link: Link,
        reply: Reply,
        held: Option<Ask>,
        keep: bool,
        spell: u64,
        /// It was sent behind the fence of the exchange before.
        rides: bool,
    },
    Served,
    Refused,
    Failed,
    Gone,
}

#[derive(Debug)]
struct Exchange {
    idempotent: bool,
    has_body: bool,
    script: Script,
    state: State,
    attempts: u32,
    unproven: u32,
    executed: u32,
    response: Vec<u8>,
}

/// How exchanges ended, and how many connections that took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fates {
    pub(crate) all: u64,
    pub(crate) served: u64,
    refused: u64,
    failed: u64,
    gone: u64,
    again: u64,
    opened: u64,
}

impl AddAssign for Fates {
    fn add_assign(&mut self, other: Self) {
        let Self { all, served, refused, failed, gone, again, opened } = other;
        self.all += all;
        self.served += served;
        self.refused += refused;
        self.failed += failed;
        self.gone += gone;
        self.again += again;
        self.opened += opened;
    }
}

pub(crate) struct World {
    kind: Kind,
    random: Random,
    config: config::Pool,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    numbers: u64,
    pool: Pool<usize, Upstream>,
    queue: Queue,
    fleet: Fleet,
    applications: Vec<Application>,
    connections: Vec<Connection>,
    exchanges: Vec<Exchange>,
    /// Exchanges that are still to come, and the longest time between two.
    to_come: u64,
    every: Duration,
    faults_until: Instant,
    /// The driver's clock rings late.
    late_clock: bool,
    /// Exchanges are short, and nobody hangs up.
    calm: bool,
    ticked: Instant,
    next_id: u16,
    opened: u64,
    closed: u64,
    /// Since when a waiter has stood beside a free worker, and beside an idle connection.
    idle_beside: [Option<Instant>; 2],
    /// Exchanges begun, by host.
    leased: Vec<u64>,
    /// Whether the pool takes it for one that keeps connections, by host.
    kept: Vec<bool>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
    pub(crate) fn new(kind: Kind, seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(3).wrapping_add(kind as u64));
        let endpoints = random.between(1, if kind == Kind::Fleet { 5 } else { 3 }) as usize;
        let config = settings(kind, endpoints, &mut random);
        let pool_seed = random.next();
        let setup = Setup {
            workers: random.between(1, 5) as usize,
            max_requests: random.pick(&[3, 20, 500, u64::MAX]),
            old: kind == Kind::Old,
            control_timeout: random.pick(&[MS, 500 * MS, 2000 * MS]),
        };
        let long = random.one_in(15);
        let now = Instant::now();
        let to_come = if long { random.between(300, 600) } else { random.between(5, 60) };
        let every = random.pick(&[MS / 10, MS, 5 * MS, 20 * MS, 50 * MS, 500 * MS]);
        let mut world = Self {
            kind,
            pool: Pool::new(&config, pool_seed, now),
            config,
            now,
            events: BTreeMap::new(),
            numbers: 0,
            queue: Queue::default(),
            fleet: Fleet::new(endpoints, false),
            applications: (0..endpoints).map(|_| Application::new(setup)).collect(),
            connections: vec![],
            exchanges: vec![],
            to_come,
            every,
            faults_until: now + every * u32::try_from(to_come).expect("few"),
            late_clock: random.one_in(3),
            calm: false,
            ticked: now,
            next_id: random.next() as u16 | 1,
            opened: 0,
            closed: 0,
            idle_beside: [None; 2],
            leased: vec![0; endpoints],
            kept: vec![true; endpoints],
            random,
        };
        world.after(Duration::ZERO, Event::Arrive);
        if kind.has_faults() {
            world.after(Duration::ZERO, Event::Fault);
        }
        if kind == Kind::Fleet {
            world.after(Duration::ZERO, Event::Change);
        }
        world.obey();
        world
    }

    /// Lives until nothing happens any more, then drains.
    pub(crate) fn live(mut self) -> Fates {
        self.live_until(None);
        for (index, exchange) in self.exchanges.iter().enumerate() {
            let over = !matches!(exchange.state, State::Waiting(_) | State::Leased { .. });
            assert!(over, "exchange {index} has no end: {:?}", exchange.state);
        }
        assert_eq!((self.pool.busy(), self.queue.len()), (0, 0));
        // Whoever was down is found to be back.
        self.live_until(Some(self.now + Duration::from_secs(20)));
        let ejected = |endpoint: &EndpointSnapshot| endpoint.state == EndpointState::Ejected;
        let down = self.pool.snapshot(self.now).endpoints.into_iter().find(ejected);
        assert!(down.is_none(), "it answers: {down:?}");
        if self.kind == Kind::Fleet {
            self.use_all();
        }
        self.pool.drain(self.now);
        self.obey();
        // Long enough for all that can be pending, the places of workers that may be busy included.
        self.live_until(Some(self.now + Duration::from_secs(60)));
        let snapshot = self.pool.snapshot(self.now);
        let held: usize = snapshot.endpoints.iter().flat_map(|endpoint| endpoint.connections).sum();
        assert_eq!((held, snapshot.queue_depth), (0, 0), "{snapshot:?}");
        assert_eq!(self.opened, self.closed, "opened and closed");
        assert_eq!(self.applications.iter().map(Application::open_links).sum::<usize>(), 0, "left open");
        self.fates()
    }

    /// Whoever is well is used, and nobody is left out.
    fn use_all(&mut self) {
        let hosts = self.applications.len();
        self.leased = vec![0; hosts];
        (self.to_come, self.every) = (32 * hosts as u64, Duration::ZERO);
        (self.calm, self.faults_until) = (true, self.now);
        self.after(Duration::ZERO, Event::Arrive);
        self.live_until(Some(self.now + Duration::from_secs(30)));
        let snapshot = self.pool.snapshot(self.now);
        let any_near = (0..hosts).any(|host| self.fleet.is_near(host));
        for endpoint in &snapshot.endpoints {
            let host = self.fleet.number(endpoint);
            // One that does not keep connections is used where others have none that rests.
            let wanted = self.kept[host] && (self.fleet.is_near(host) || !any_near);
            assert!(!wanted || self.leased[host] > 0, "never used: {endpoint:?} {:?}", self.leased);
            assert!(self.leased[host] == 0 || endpoint.state == EndpointState::Up, "not trusted: {endpoint:?}");
        }
    }

    fn fates(&self) -> Fates {
        let mut fates = Fates { opened: self.opened, ..Fates::default() };
        for exchange in &self.exchanges {
            fates.all += 1;
            fates.again += u64::from(exchange.attempts + exchange.unproven);
            match exchange.state {
                State::Served => fates.served += 1,
                State::Refused => fates.refused += 1,
                State::Failed => fates.failed += 1,
                _ => fates.gone += 1,
            }
        }
        fates
    }

    /// Until nothing more happens but, perhaps, that idle connections are looked after; or until then.
    fn live_until(&mut self, until: Option<Instant>) {
        let mut steps = 0_u64;
        loop {
            steps += 1;
            assert!(steps < 1_000_000, "it never ends");
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let tick =
                self.pool.next_deadline().map(|at| if self.late_clock { at.max(self.ticked + TICK) } else { at });
            let next = event.into_iter().chain(tick).min().filter(|at| until.is_none_or(|until| *at <= until));
            let Some(at) = next else {
                self.now = until.unwrap_or(self.now);
                return;
            };
            self.now = self.now.max(at);
            if event.is_some_and(|event| tick.is_none_or(|tick| event <= tick)) {
                let (_, event) = self.events.pop_first().expect("there is one");
                self.happen(event);
            } else {
                self.ticked = self.now;
                self.pool.tick(self.now);
                let next = self.pool.next_deadline();
                assert!(next.is_none_or(|at| at > self.now), "a driver would tick for ever");
            }
            self.obey();
            self.check();
        }
    }

    fn after(&mut self, time: Duration, event: Event) {
        self.numbers += 1;
        self.events.insert((self.now + time, self.numbers), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::HangUp(exchange) => self.hang_up(exchange),
            Event::Connected(link) => self.connected(link),
            Event::ConnectTimeout(link) => self.connect_timeout(link),
            Event::ToApplication(link, ask) => self.at_application(link, |app, out| app.receive(link, ask, out)),
            Event::CloseAtApplication(link) => self.at_application(link, |app, out| app.close(link, out)),
            Event::ToUs(link, said) => self.hear(link, said),
            Event::Notice(link) => self.notice(link),
            Event::ProveTimeout(link, spell) => self.prove_timeout(link, spell),
            Event::FirstByteTimeout(exchange, spell) => self.first_byte_timeout(exchange, spell),
            Event::Watch(exchange, spell) => self.watch(exchange, spell),
            Event::Busy(exchange, spell) => self.busy(exchange, spell),
            Event::Ring(index, timer) => self.application(index, |app, out| app.ring(timer, out)),
            Event::Fault => self.fault(),
            Event::Change => self.change(),
            Event::Mend => self.fleet.mend(&mut self.pool, &mut self.random, self.now),
        }
    }

    // ---------------------------------------------------------------- the others

    fn arrive(&mut self) {
        let exchange = self.exchanges.len();
        let random = &mut self.random;
        let calm = self.calm || self.kind == Kind::Calm;
        let behind = random.one_in(if self.config.queue.depth.is_multiple_of(2) { 10 } else { 500 });
        let script = Script {
            run: random.short(if calm { 20 * MS } else { 100 * MS }),
            behind: behind.then(|| random.micros(0, 100_000)),
            strays: if random.one_in(2) { 0 } else { random.between(1, 300) as u16 },
        };
        let script = if behind { script } else { Script { strays: 0, ..script } };
        let (idempotent, has_body) = (!random.one_in(4), random.one_in(10));
        self.exchanges.push(Exchange {
            idempotent,
            has_body,
            script,
            state: State::Gone,
            attempts: 0,
            unproven: 0,
            executed: 0,
            response: vec![],
        });
        self.want(exchange, Claim { repeatable: idempotent && !has_body, ..Claim::default() });
        if !self.calm && self.random.one_in(12) {
            let patience = self.random.short(500 * MS);
            self.after(patience, Event::HangUp(exchange));
        }
        self.to_come -= 1;
        if self.to_come > 0 {
            // Bursts and gaps.
            let every = self.every;
            let pause = if self.random.one_in(3) { Duration::ZERO } else { self.random.short(2 * every) };
            let pause = if self.calm { 30 * MS } else { pause };
            self.after(pause, Event::Arrive);
        }
    }

    fn fault(&mut self) {
        let index = self.random.between(0, self.applications.len() as u64 - 1) as usize;
        let time = self.random.short(1500 * MS);
        match self.random.between(0, 15) {
            0 => self.application(index, |app, out| app.down(time, out)),
            1 => self.application(index, Application::reload),
            2..=7 => self.application(index, |app, out| app.take(time, out)),
            _ => {
                let place = self.random.between(0, 4) as usize;
                self.application(index, |app, out| app.kill_any(place, out));
            }
        }
        if self.now < self.faults_until {
            let pause = self.random.short(20 * self.every);
            self.after(pause.max(MS), Event::Fault);
        }
    }

    /// Something changes in the fleet.
    fn change(&mut self) {
        if self.random.one_in(16) {
            let settings = settings(self.kind, self.applications.len(), &mut self.random);
            fleet::reconfigure(&mut self.pool, &mut self.config, settings, self.now);
        } else {
            self.fleet.change(&mut self.pool, &mut self.random, self.now);
        }
        let pause = self.random.short(40 * self.every);
        let next = if self.now < self.faults_until { Event::Change } else { Event::Mend };
        self.after(pause.max(MS), next);
    }

    /// Lets an application act, and what it says travel.
    fn application<T>(&mut self, index: usize, act: impl FnOnce(&mut Application, &mut Out) -> T) -> T {
        let mut out = Out::default();
        let result = act(&mut self.applications[index], &mut out);
        for exchange in out.executed {
            let exchange = &mut self.exchanges[exchange];
            exchange.executed += 1;
            assert!(exchange.idempotent || exchange.executed == 1, "executed twice: {exchange:?}");
        }
        for (time, timer) in out.later {
            self.after(time, Event::Ring(index, timer));
        }
        for (link, said) in out.said {
            self.travel(link, 1, Event::ToUs(link, said));
        }
        result
    }

    fn at_application(&mut self, link: Link, act: impl FnOnce(&mut Application, &mut Out)) {
        self.application(self.connections[link].host, act);
    }

    /// Over the network: nothing overtakes.
    fn travel(&mut self, link: Link, direction: usize, event: Event) {
        let at = (self.now + self.random.micros(20, 500)).max(self.connections[link].last[direction]);
        self.connections[link].last[direction] = at;
        self.numbers += 1;
        self.events.insert((at, self.numbers), event);
    }

    // ---------------------------------------------------------------- the rules

    fn check(&mut self) {
        let snapshot = self.pool.snapshot(self.now);
        let mut held = vec![0; self.applications.len()];
        for connection in self.connections.iter().filter(|connection| !matches!(connection.role, Role::Closed)) {
            held[connection.host] += 1;
        }
        #[cfg(debug_assertions)]
        self.pool.check();
        self.fleet.check(&snapshot, &held);
        assert_eq!(self.opened - self.closed, held.iter().sum::<usize>() as u64, "opened, closed and open");
        let slack = if self.late_clock { TICK } else { Duration::ZERO };
        self.queue.check(snapshot.queue_depth, self.config.queue.timeout + slack, self.now);
        let used = || snapshot.endpoints.iter().filter(|endpoint| self.fleet.is_used(endpoint));
        let worker = used().filter(|endpoint| {
            let host = self.fleet.number(endpoint);
            self.applications[host].has_room() && held[host] < endpoint.limit
        });
        let idle = used().filter(|endpoint| endpoint.connections[ConnectionState::Idle as usize] > 0);
        let index = |endpoint| self.fleet.index(endpoint);
        let waits_for = [worker.map(index).collect::<Vec<_>>(), idle.map(index).collect()];
        // With faults the longest pause of a failing endpoint, 2 s, may have to pass first. An idle connection is left
        // alone only for one in the own zone that is on its way.
        let limits = [if self.kind.has_faults() { 2100 * MS } else { 25 * MS }, 10 * MS];
        for (nth, endpoints) in waits_for.into_iter().enumerate() {
            let oldest = self.queue.oldest_for(&endpoints);
            self.idle_beside[nth] = oldest.map(|_| self.idle_beside[nth].unwrap_or(self.now));
            let since = self.idle_beside[nth].max(oldest);
            let time = since.map_or(Duration::ZERO, |since| self.now - since);
            let what = ["a free worker", "an idle connection"][nth];
            assert!(time <= limits[nth] + slack, "somebody waits beside {what} for {time:?}");
        }
    }
}

/// A pool as an operator might set it up, or not quite.
fn settings(kind: Kind, endpoints: usize, random: &mut Random) -> config::Pool {
    let addresses: Vec<_> = (0..endpoints).map(|n| format!("{{address: '{}'}}", fleet::address(n))).collect();
    let text = format!(
        "pools: {{p: {{endpoints: [{}], connections: {{per_endpoint: {}, surplus_idle: {}, idle_timeout: 5s, yield_after: {}, \
         max_age: {}, max_requests: {}, fence: {}, reprove_after: {}, heartbeat: {}}}, slow_start: {}, queue: {{depth: {}, \
         timeout: {}}}, timeouts: {{connect: 1s, prove: {}, first_byte: 2s}}}}}}",
        addresses.join(", "),
        random.between(1, 6),
        random.pick(&["0s", "100ms", "1s"]),
        random.pick(&["off", "50ms", "1s"]),
        random.pick(&["off", "1s", "1h"]),
        random.pick(&["off", "10"]),
        random.pick(&["always", "adaptive"]),
        random.pick(&["0s", "100ms"]),
        random.pick(&["off", "100ms", "250ms"]),
        random.pick(&["off", "1s", "10s"]),
        random.pick(&[3, 40, 101, 1001, 1000]),
        if kind == Kind::Calm { "30s" } else { random.pick(&["100ms", "2s", "10s"]) },
        random.pick(&["200ms", "5s"]),
    );
    Config::from_yaml(&text).unwrap_or_else(|error| panic!("{text}: {error}")).pools.remove(0)
}
