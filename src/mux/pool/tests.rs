//! A pool and its driver, by hand: what is done to it, and what it directs, one short word line each.

mod choice;
mod demand;
mod elsewhere;
mod fences;
mod fleet;
mod health;
mod idle;
mod shares;
mod waiting;

use super::*;
use crate::{
    config::Config,
    mux::{label::EndpointState, proof::Proof},
};
use std::collections::BTreeMap;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct World {
    pool: Pool<u32, u32>,
    start: Instant,
    now: Instant,
    /// What happened since [`World::did`] was asked last.
    log: Vec<String>,
    /// Connections on their way, the oldest first.
    opening: VecDeque<(SlotKey, usize, Handshake)>,
    waiting: BTreeMap<u32, WaiterKey>,
    /// By the connection's number: 1 is the first that proved itself.
    leases: BTreeMap<u32, Lease<u32>>,
    settling: BTreeMap<u32, Settling>,
    connections: u32,
}

/// Any answered GET_VALUES.
fn clean() -> Clean {
    Proof::handshake(1).take(&[1, 10, 0, 0, 0, 0, 0, 0]).unwrap().1.unwrap()
}

/// A pool of so many endpoints, otherwise as configured.
#[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
fn world(endpoints: usize, pool: &str) -> World {
    let endpoints: String = (0..endpoints).map(|n| format!("{{address: '127.0.0.1:{}'}},", 9000 + n)).collect();
    let text = format!("pools: {{p: {{endpoints: [{endpoints}], {pool}}}}}");
    let mut config = Config::from_yaml(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    if !pool.contains("heartbeat") {
        config.pools[0].connections.heartbeat = None;
    }
    let now = Instant::now();
    World {
        pool: Pool::new(&config.pools[0], 0, now),
        start: now,
        now,
        log: vec![],
        opening: VecDeque::new(),
        waiting: BTreeMap::new(),
        leases: BTreeMap::new(),
        settling: BTreeMap::new(),
        connections: 0,
    }
}

impl World {
    /// What happened since the last time.
    fn did(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    // ---------------------------------------------------------------- web servers

    fn arrive(&mut self, waiter: u32) {
        self.want(waiter, Claim::default());
    }

    /// One that may be executed twice.
    fn arrive_repeatable(&mut self, waiter: u32) {
        self.want(waiter, Claim { repeatable: true, ..Claim::default() });
    }

    /// One whose connection broke before it was of use.
    fn again(&mut self, waiter: u32) {
        self.want(waiter, Claim { again: true, ..Claim::default() });
    }

    /// One that may have been executed at these endpoints.
    fn elsewhere(&mut self, waiter: u32, avoid: &[usize]) {
        self.want(waiter, Claim { again: true, repeatable: false, avoid: avoid.to_vec() });
    }

    fn want(&mut self, waiter: u32, claim: Claim) {
        match self.pool.arrive(claim, || waiter, self.now) {
            Ok(Arrival::Lease(lease)) => self.granted(waiter, lease),
            Ok(Arrival::Wait(key)) => {
                self.waiting.insert(waiter, key);
            }
            Ok(Arrival::Share(_)) => panic!("php-fpm's connections are not shared"),
            Err(refusal) => self.log.push(format!("refuse {waiter} {}", refusal.label())),
        }
        self.obey();
    }

    fn leave(&mut self, waiter: u32) {
        self.pool.leave(self.waiting.remove(&waiter).unwrap());
        self.obey();
    }

    // ---------------------------------------------------------------- applications

    /// The oldest connection on its way proves itself.
    fn prove(&mut self) {
        self.prove_nth(0);
    }

    fn prove_nth(&mut self, nth: usize) {
        let (key, _, handshake) = self.opening.remove(nth).unwrap();
        self.connections += 1;
        if handshake == Handshake::Skip {
            self.pool.unprovable(key, self.connections, self.now);
        } else {
            self.pool.connected(key, self.now);
            self.pool.proven(key, self.connections, clean(), handshake, self.now);
        }
        self.obey();
    }

    /// The oldest connection on its way comes to nothing. Whether the endpoint is news.
    fn fail(&mut self, failure: OpenFailure) -> bool {
        let (key, ..) = self.opening.pop_front().unwrap();
        if failure != OpenFailure::Connect {
            self.pool.connected(key, self.now);
        }
        let news = self.pool.failed(key, failure, self.now);
        self.obey();
        news
    }

    /// The application answers, and then the fence.
    fn finish(&mut self, connection: u32) {
        self.settle(connection);
        self.checkin(connection);
    }

    fn settle(&mut self, connection: u32) {
        let (settling, same) = self.pool.settle(self.leases.remove(&connection).unwrap(), self.now);
        assert_eq!(same, connection);
        self.settling.insert(connection, settling);
        self.obey();
    }

    fn checkin(&mut self, connection: u32) {
        let settling = self.settling.remove(&connection).unwrap();
        self.pool.checkin(settling, connection, clean(), self.now);
        self.obey();
    }

    fn unsettled(&mut self, connection: u32) {
        self.pool.unsettled(self.settling.remove(&connection).unwrap(), Closed::Application, self.now);
        self.obey();
    }

    fn discard(&mut self, connection: u32, reason: Closed, occupied: bool) {
        let (lease, _) = self.leases.remove(&connection).unwrap().split();
        self.pool.discard(lease, reason, occupied, self.now);
        self.obey();
    }

    fn untouched(&mut self, connection: u32) {
        self.pool.untouched(self.leases.remove(&connection).unwrap(), self.now);
        self.obey();
    }

    /// An idle connection sees EOF.
    fn lost(&mut self, connection: u32) {
        let key = self.pool.idle_mut().find(|(_, each)| **each == connection).unwrap().0;
        assert_eq!(self.pool.lost(key, self.now).unwrap().0, connection);
        assert!(self.pool.lost(key, self.now).is_none(), "a second time it is nothing");
        self.obey();
    }

    // ---------------------------------------------------------------- time

    /// Lets time pass as a driver does: it ticks at each deadline, and no deadline may stay behind.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.pool.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(deadline);
            self.tick();
        }
        self.now = until;
        self.tick();
    }

    fn tick(&mut self) {
        self.pool.tick(self.now);
        self.obey();
        let deadline = self.pool.next_deadline();
        assert!(deadline.is_none_or(|at| at > self.now), "a driver would tick for ever");
    }

    fn drain(&mut self) {
        self.pool.drain(self.now);
        self.obey();
    }

    fn obey(&mut self) {
        while let Some(directive) = self.pool.poll_directive() {
            match directive {
                Directive::Found { .. } | Directive::Forget { .. } => {}
                Directive::Ejected { .. } | Directive::Returned { .. } => {}
                Directive::Open { key, endpoint, handshake } => {
                    self.opening.push_back((key, endpoint, handshake));
                    self.log.push(format!("open {endpoint}"));
                }
                Directive::Grant { waiter, lease } => {
                    self.waiting.remove(&waiter).expect("a waiter that has not left");
                    self.granted(waiter, lease);
                }
                Directive::Refuse { waiter, refusal } => {
                    self.waiting.remove(&waiter).expect("a waiter that has not left");
                    self.log.push(format!("refuse {waiter} {}", refusal.label()));
                }
                Directive::Close { connection, reason, .. } => {
                    self.log.push(format!("close c{connection} {}", reason.label()));
                }
                Directive::GrantShare { .. } | Directive::CloseShared { .. } => {
                    panic!("php-fpm's connections are not shared")
                }
                Directive::Probe { settling, connection } => {
                    self.settling.insert(connection, settling);
                    self.log.push(format!("probe c{connection}"));
                }
            }
        }
        self.pool.check();
        let snapshot = self.pool.snapshot(self.now);
        for endpoint in &snapshot.endpoints {
            let held: usize = endpoint.connections.iter().sum();
            assert!(held <= endpoint.limit, "{endpoint:?} is over its budget");
        }
        assert_eq!(snapshot.queue_depth, self.waiting.len());
    }

    fn granted(&mut self, waiter: u32, lease: Lease<u32>) {
        let unproven = if lease.unproven { " unproven" } else { "" };
        self.log.push(format!("grant {waiter} c{}{unproven}", lease.connection));
        assert!(self.leases.insert(lease.connection, lease).is_none(), "two exchanges on one connection");
    }

    // ---------------------------------------------------------------- shortcuts

    /// So many connections, proven and leased, oldest first; none of it is told.
    fn leased(&mut self, count: u32) {
        for waiter in 0..count {
            self.arrive(1000 + waiter);
            self.prove();
        }
        assert_eq!(self.leases.len(), count as usize);
        self.did();
    }

    fn count(&self, endpoint: usize, state: ConnectionState) -> usize {
        self.pool.snapshot(self.now).endpoints[endpoint].connections[state as usize]
    }

    fn idle(&self) -> usize {
        (0..self.pool.endpoints.len()).map(|endpoint| self.count(endpoint, ConnectionState::Idle)).sum()
    }
}
