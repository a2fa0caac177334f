use super::{fleet::Fleet, input::Input, shares};
use fcgimux::{
    config::{self, Config},
    mux::{
        label::Closed,
        pool::{Arrival, Claim, Directive, Handshake, Lease, OpenFailure, Pool, Settling, SlotKey, WaiterKey},
        proof::{Clean, Proof},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Settings that pull in different directions.
static CONFIGS: LazyLock<Vec<config::Pool>> = LazyLock::new(|| {
    let connections = [
        "per_endpoint: 1, surplus_idle: 0s, yield_after: off, fence: always",
        "per_endpoint: 2, surplus_idle: 1s, idle_timeout: 2s, yield_after: 50ms, max_requests: 3",
        "per_endpoint: 3, max_age: 2s, fence: adaptive, yield_after: off, heartbeat: off",
        "per_endpoint: 8",
    ];
    let endpoints = ["{address: '10.0.0.1:9000'}", "{address: '10.0.0.1:9000'}, {address: '10.0.0.2:9000'}"];
    let config = |connections: &str, endpoints: &str| {
        let text = format!(
            "pools: {{p: {{endpoints: [{endpoints}], connections: {{{connections}}}, queue: {{depth: 6, timeout: 3s}}, slow_start: 2s}}}}"
        );
        Config::from_yaml(&text).expect("a sound file").pools.remove(0)
    };
    endpoints.iter().flat_map(|endpoints| connections.iter().map(|each| config(each, endpoints))).collect()
});

/// Any order of operations that a driver may come up with: budgets hold, waiters are served in order, the clock never
/// spins, and in the end nothing is left.
pub fn pool(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte();
    if kind >= 192 {
        return shares::shares(input);
    }
    let mut driver = Driver::new(&CONFIGS[usize::from(kind) % CONFIGS.len()]);
    let mut steps = 0;
    while !input.is_empty() && steps < 3000 {
        driver.step(&mut input);
        driver.obey();
        driver.check();
        steps += 1;
    }
    driver.end();
}

type Connection = usize;

struct Driver {
    pool: Pool<usize, Connection>,
    fleet: Fleet,
    now: Instant,
    opening: Vec<(SlotKey, Handshake, bool, usize)>,
    /// Of each connection that is open or being opened, by endpoint.
    open: BTreeMap<usize, usize>,
    /// Connections that the pool holds.
    idle: BTreeSet<Connection>,
    leased: Vec<Lease<Connection>>,
    settling: Vec<(Settling, Connection)>,
    waiting: BTreeMap<usize, WaiterKey>,
    /// In the order in which they must be served, with what they ask for: those that come again first.
    order: [VecDeque<(usize, Claim)>; 2],
    connections: usize,
    waiters: usize,
    opened: usize,
    closed: usize,
}

fn clean() -> Clean {
    let taken = Proof::handshake(1).take(&[1, 10, 0, 0, 0, 0, 0, 0]);
    taken.expect("an answer").1.expect("a whole one")
}

/// One of them, chosen by the input.
fn pick<T>(from: &mut Vec<T>, input: &mut Input<'_>) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(input.below(from.len())))
}

impl Driver {
    #[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
    fn new(config: &config::Pool) -> Self {
        let now = Instant::now();
        let mut driver = Self {
            pool: Pool::new(config, 0, now),
            fleet: Fleet::new(config.endpoints.len()),
            now,
            open: BTreeMap::new(),
            opening: vec![],
            idle: BTreeSet::new(),
            leased: vec![],
            settling: vec![],
            waiting: BTreeMap::new(),
            order: [VecDeque::new(), VecDeque::new()],
            connections: 0,
            waiters: 0,
            opened: 0,
            closed: 0,
        };
        driver.obey();
        driver
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 20 {
            0..=3 => self.arrive(input),
            4 => {
                let nth = input.below(self.waiting.len().max(1));
                if let Some((waiter, key)) = self.waiting.iter().nth(nth).map(|(waiter, key)| (*waiter, *key)) {
                    self.forget(waiter);
                    self.pool.leave(key);
                }
            }
            5 | 6 => self.prove(input),
            7 => self.fail(input),
            8 | 9 => {
                if let Some(lease) = pick(&mut self.leased, input) {
                    let (settling, connection) = self.pool.settle(lease, self.now);
                    self.settling.push((settling, connection));
                }
            }
            10 | 11 => {
                if let Some((settling, connection)) = pick(&mut self.settling, input) {
                    self.idle.insert(connection);
                    self.pool.checkin(settling, connection, clean(), self.now);
                }
            }
            12 => self.lose(input),
            13 => self.defer(input),
            14 => self.pass(Duration::from_millis([1, 5, 10, 60, 1000, 2000, 5000, 61_000][input.below(8)])),
            15 if input.byte() == 255 => self.pool.drain(self.now),
            15 => {
                let nth = input.below(2);
                let endpoint = self.fleet.indices().nth(nth);
                endpoint.into_iter().for_each(|endpoint| self.pool.fence_late(endpoint, self.now));
            }
            16 => {
                let config = &CONFIGS[input.below(CONFIGS.len())];
                self.pool.reconfigure(config, self.now);
            }
            _ => self.fleet.change(&mut self.pool, input, self.now),
        }
    }

    fn arrive(&mut self, input: &mut Input<'_>) {
        let waiter = self.waiters;
        self.waiters += 1;
        let kind = input.byte();
        let again = kind.is_multiple_of(8);
        let avoided = self.fleet.indices().nth(input.below(2)).filter(|_| again && kind >= 64);
        let claim = Claim { again, repeatable: kind.is_multiple_of(3), avoid: avoided.into_iter().collect() };
        match self.pool.arrive(claim.clone(), || waiter, self.now) {
            Ok(Arrival::Lease(lease)) => {
                assert!(self.waiting.is_empty(), "overtaken");
                self.granted(lease, &claim);
            }
            Ok(Arrival::Share(_)) => panic!("php-fpm's connections are not shared"),
            Ok(Arrival::Wait(key)) => {
                self.waiting.insert(waiter, key);
                self.order[usize::from(!again)].push_back((waiter, claim));
            }
            Err(_) => {}
        }
    }

    fn prove(&mut self, input: &mut Input<'_>) {
        let Some((key, handshake, connected, endpoint)) = pick(&mut self.opening, input) else { return };
        if handshake != Handshake::Skip && !connected {
            self.pool.connected(key, self.now);
            self.opening.push((key, handshake, true, endpoint));
            return;
        }
        self.connections += 1;
        self.idle.insert(self.connections);
        match handshake {
            Handshake::Skip => self.pool.unprovable(key, self.connections, self.now),
            _ => self.pool.proven(key, self.connections, clean(), handshake, self.now),
        }
    }

    fn fail(&mut self, input: &mut Input<'_>) {
        use OpenFailure::{ClosedBehindAnswer, Connect, Handshake, Unanswered};
        let Some((key, _, connected, endpoint)) = pick(&mut self.opening, input) else { return };
        let failure = match connected {
            false => Connect,
            true => [Unanswered, ClosedBehindAnswer, Handshake][input.below(3)],
        };
        self.close(endpoint);
        self.pool.failed(key, failure, self.now);
    }

    /// A connection ends, in whichever state it is.
    fn lose(&mut self, input: &mut Input<'_>) {
        use Closed::{Application, Body, Broken, Gone, NotKept, Protocol, Silent, Timeout};
        match input.below(4) {
            0 => {
                let nth = input.below(8);
                let found = self.pool.idle_mut().nth(nth).map(|(key, connection)| (key, *connection));
                if let Some((key, connection)) = found
                    && let Some((lost, endpoint)) = self.pool.lost(key, self.now)
                {
                    assert!(lost == connection && self.idle.remove(&lost));
                    self.close(endpoint);
                }
            }
            1 => {
                if let Some(lease) = pick(&mut self.leased, input) {
                    let reason = [Body, Broken, Gone, NotKept, Protocol, Timeout, Application, Silent][input.below(8)];
                    self.close(lease.endpoint);
                    self.pool.discard(lease.split().0, reason, input.byte().is_multiple_of(2), self.now);
                }
            }
            2 => {
                if let Some((settling, _)) = pick(&mut self.settling, input) {
                    self.close(settling.endpoint());
                    self.pool.unsettled(settling, [Application, Silent][input.below(2)], self.now);
                }
            }
            _ => {
                if let Some(lease) = pick(&mut self.leased, input) {
                    self.idle.insert(lease.connection);
                    self.pool.untouched(lease, self.now);
                }
            }
        }
    }

    fn defer(&mut self, input: &mut Input<'_>) {
        let Some(lease) = pick(&mut self.leased, input) else { return };
        let (lease, connection) = lease.split();
        if self.pool.may_defer(&lease, self.now) {
            self.idle.insert(connection);
            self.pool.defer(lease, connection, self.now);
        } else {
            let (settling, ()) = self.pool.settle(lease, self.now);
            self.settling.push((settling, connection));
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut ticks = 0;
        while let Some(deadline) = self.pool.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(deadline);
            self.pool.tick(self.now);
            assert!(self.pool.next_deadline().is_none_or(|at| at > self.now), "a driver would tick for ever");
            self.obey();
            ticks += 1;
            assert!(ticks < 10_000, "the clock spins");
        }
        self.now = until;
        self.pool.tick(self.now);
    }

    fn obey(&mut self) {
        while let Some(directive) = self.pool.poll_directive() {
            match directive {
                Directive::Found { endpoint, address } => self.fleet.found(endpoint, &address),
                Directive::Forget { endpoint } => {
                    let waiting = self.order.iter_mut().flatten();
                    waiting.for_each(|(_, claim)| claim.avoid.retain(|each| *each != endpoint));
                    self.fleet.forgotten(endpoint, self.open.remove(&endpoint).unwrap_or_default());
                }
                Directive::Ejected { endpoint, .. } | Directive::Returned { endpoint } => {
                    assert!(self.fleet.indices().any(|each| each == endpoint), "none that is there");
                }
                Directive::Open { key, endpoint, handshake } => {
                    self.opened += 1;
                    let open = self.open.entry(endpoint).or_default();
                    *open += 1;
                    self.fleet.may_open(endpoint, *open, &self.pool, self.now);
                    self.opening.push((key, handshake, false, endpoint));
                }
                Directive::Grant { waiter, lease } => {
                    let able = |(_, claim): &&(usize, Claim)| !claim.avoid.contains(&lease.endpoint);
                    let next = self.order.iter().flatten().find(able).cloned().expect("one that waits");
                    assert_eq!(next.0, waiter, "served out of turn");
                    self.forget(waiter);
                    self.granted(lease, &next.1);
                }
                Directive::Refuse { waiter, .. } => self.forget(waiter),
                Directive::Close { connection, endpoint, .. } => {
                    assert!(self.idle.remove(&connection), "closed in use");
                    self.close(endpoint);
                }
                Directive::GrantShare { .. } | Directive::CloseShared { .. } => {
                    panic!("php-fpm's connections are not shared")
                }
                Directive::Probe { settling, connection } => {
                    assert!(self.idle.remove(&connection), "asked in use");
                    self.settling.push((settling, connection));
                }
            }
        }
    }

    fn granted(&mut self, lease: Lease<Connection>, claim: &Claim) {
        assert!(!claim.avoid.contains(&lease.endpoint), "it may have been executed there");
        assert!(claim.repeatable || !lease.unproven, "it may not be sent again");
        assert!(self.idle.remove(&lease.connection), "two exchanges on one connection");
        self.fleet.may(lease.endpoint, true, &self.pool, self.now);
        self.leased.push(lease);
    }

    fn forget(&mut self, waiter: usize) {
        self.waiting.remove(&waiter).expect("one that waits");
        self.order.iter_mut().for_each(|class| class.retain(|(each, _)| *each != waiter));
    }

    fn close(&mut self, endpoint: usize) {
        self.closed += 1;
        *self.open.get_mut(&endpoint).expect("one that is there") -= 1;
    }

    fn check(&mut self) {
        #[cfg(debug_assertions)]
        self.pool.check();
        let snapshot = self.pool.snapshot(self.now);
        let mut counted = [0; 5];
        for endpoint in &snapshot.endpoints {
            endpoint.connections.iter().zip(&mut counted).for_each(|(count, sum)| *sum += count);
        }
        let [connecting, proving, idle, leased, settling] = counted;
        assert_eq!(connecting + proving, self.opening.len());
        assert_eq!((idle, leased), (self.idle.len(), self.leased.len()));
        assert!(settling >= self.settling.len());
        assert_eq!(self.pool.idle_mut().count(), idle);
        assert_eq!(snapshot.queue_depth, self.waiting.len());
        let open = self.opening.len() + idle + leased + self.settling.len();
        assert_eq!(self.opened - self.closed, open);
    }

    /// Everybody gives back what he has; nothing may be left.
    fn end(&mut self) {
        self.fleet.mend(&mut self.pool, self.now);
        self.pool.drain(self.now);
        for _ in 0..100 {
            self.obey();
            while let Some((key, _, _, endpoint)) = self.opening.pop() {
                self.close(endpoint);
                self.pool.failed(key, OpenFailure::Unanswered, self.now);
            }
            while let Some((settling, connection)) = self.settling.pop() {
                self.idle.insert(connection);
                self.pool.checkin(settling, connection, clean(), self.now);
            }
            while let Some(lease) = self.leased.pop() {
                let (settling, connection) = self.pool.settle(lease, self.now);
                self.settling.push((settling, connection));
            }
            self.obey();
            self.check();
            self.pass(Duration::from_secs(4));
        }
        self.check();
        assert!(self.waiting.is_empty() && self.leased.is_empty() && self.idle.is_empty(), "something is left");
        assert_eq!((self.pool.busy(), self.settling.len()), (0, 0));
    }
}
