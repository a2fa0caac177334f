use super::input::Input;
use fcgimux::{
    config::{self, Config},
    mux::{
        label::Closed,
        pool::{Arrival, Directive, Handshake, Lease, OpenFailure, Pool, Settling, SlotKey, WaiterKey},
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
        "per_endpoint: 3, max_age: 2s, fence: adaptive, yield_after: off",
        "per_endpoint: 8",
    ];
    let endpoints = ["{address: '10.0.0.1:9000'}", "{address: '10.0.0.1:9000'}, {address: '10.0.0.2:9000'}"];
    let config = |connections: &str, endpoints: &str| {
        let text = format!(
            "pools: {{p: {{endpoints: [{endpoints}], connections: {{{connections}}}, queue: {{depth: 6, timeout: 3s}}}}}}"
        );
        Config::from_yaml(&text).expect("a sound file").pools.remove(0)
    };
    endpoints.iter().flat_map(|endpoints| connections.iter().map(|each| config(each, endpoints))).collect()
});

/// Any order of operations that a driver may come up with: budgets hold, waiters are served in order, the clock never
/// spins, and in the end nothing is left.
pub fn pool(data: &[u8]) {
    let mut input = Input(data);
    let mut driver = Driver::new(&CONFIGS[input.below(CONFIGS.len())]);
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
    limit: usize,
    now: Instant,
    opening: Vec<(SlotKey, Handshake, bool)>,
    /// Connections that the pool holds.
    idle: BTreeSet<Connection>,
    leased: Vec<Lease<Connection>>,
    settling: Vec<(Settling, Connection)>,
    waiting: BTreeMap<usize, WaiterKey>,
    /// In the order in which they must be served: those that come again first.
    order: [VecDeque<usize>; 2],
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
        Self {
            pool: Pool::new(config),
            limit: config.connections.per_endpoint as usize,
            now: Instant::now(),
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
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..=3 => self.arrive(input.byte().is_multiple_of(8)),
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
            _ if input.byte() == 255 => self.pool.drain(self.now),
            _ => {
                let late = input.below(2);
                self.pool.fence_late(late.min(self.pool.snapshot(self.now).endpoints.len() - 1), self.now);
            }
        }
    }

    fn arrive(&mut self, again: bool) {
        let waiter = self.waiters;
        self.waiters += 1;
        match self.pool.arrive(again, || waiter, self.now) {
            Ok(Arrival::Lease(lease)) => {
                assert!(self.waiting.is_empty(), "overtaken");
                self.granted(lease);
            }
            Ok(Arrival::Share(_)) => panic!("php-fpm's connections are not shared"),
            Ok(Arrival::Wait(key)) => {
                self.waiting.insert(waiter, key);
                self.order[usize::from(!again)].push_back(waiter);
            }
            Err(_) => {}
        }
    }

    fn prove(&mut self, input: &mut Input<'_>) {
        let Some((key, handshake, connected)) = pick(&mut self.opening, input) else { return };
        if handshake != Handshake::Skip && !connected {
            self.pool.connected(key, self.now);
            self.opening.push((key, handshake, true));
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
        let Some((key, _, connected)) = pick(&mut self.opening, input) else { return };
        let failure = match connected {
            false => Connect,
            true => [Unanswered, ClosedBehindAnswer, Handshake][input.below(3)],
        };
        self.closed += 1;
        self.pool.failed(key, failure, self.now);
    }

    /// A connection ends, in whichever state it is.
    fn lose(&mut self, input: &mut Input<'_>) {
        use Closed::{Application, Body, Broken, Gone, NotKept, Protocol, Timeout};
        match input.below(4) {
            0 => {
                let nth = input.below(8);
                let found = self.pool.idle_mut().nth(nth).map(|(key, connection)| (key, *connection));
                if let Some((key, connection)) = found
                    && let Some((lost, _)) = self.pool.lost(key, self.now)
                {
                    assert!(lost == connection && self.idle.remove(&lost));
                    self.closed += 1;
                }
            }
            1 => {
                if let Some(lease) = pick(&mut self.leased, input) {
                    let reason = [Body, Broken, Gone, NotKept, Protocol, Timeout, Application][input.below(7)];
                    self.closed += 1;
                    self.pool.discard(lease.split().0, reason, input.byte().is_multiple_of(2), self.now);
                }
            }
            2 => {
                if let Some((settling, _)) = pick(&mut self.settling, input) {
                    self.closed += 1;
                    self.pool.unsettled(settling, Application, self.now);
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
                Directive::Open { key, handshake, .. } => {
                    self.opened += 1;
                    self.opening.push((key, handshake, false));
                }
                Directive::Grant { waiter, lease } => {
                    let next = self.order.iter().find_map(VecDeque::front);
                    assert_eq!(next, Some(&waiter), "served out of turn");
                    self.forget(waiter);
                    self.granted(lease);
                }
                Directive::Refuse { waiter, .. } => self.forget(waiter),
                Directive::Close { connection, .. } => {
                    assert!(self.idle.remove(&connection), "closed in use");
                    self.closed += 1;
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

    fn granted(&mut self, lease: Lease<Connection>) {
        assert!(self.idle.remove(&lease.connection), "two exchanges on one connection");
        self.leased.push(lease);
    }

    fn forget(&mut self, waiter: usize) {
        self.waiting.remove(&waiter).expect("one that waits");
        self.order.iter_mut().for_each(|class| class.retain(|each| *each != waiter));
    }

    fn check(&mut self) {
        let snapshot = self.pool.snapshot(self.now);
        let mut counted = [0; 5];
        for endpoint in &snapshot.endpoints {
            assert!(endpoint.connections.iter().sum::<usize>() <= self.limit, "over budget");
            endpoint.connections.iter().zip(&mut counted).for_each(|(count, sum)| *sum += count);
        }
        let [connecting, proving, idle, leased, settling] = counted;
        assert_eq!(connecting + proving, self.opening.len());
        assert_eq!((idle, leased), (self.idle.len(), self.leased.len()));
        assert!(settling >= self.settling.len());
        assert_eq!(self.pool.idle_mut().count(), idle);
        assert_eq!(snapshot.queue_depth, self.waiting.len());
        assert!(idle == 0 || self.waiting.is_empty(), "somebody waits beside an idle connection");
        let open = self.opening.len() + idle + leased + self.settling.len();
        assert_eq!(self.opened - self.closed, open);
    }

    /// Everybody gives back what he has; nothing may be left.
    fn end(&mut self) {
        self.pool.drain(self.now);
        for _ in 0..100 {
            self.obey();
            while let Some((key, ..)) = self.opening.pop() {
                self.closed += 1;
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
