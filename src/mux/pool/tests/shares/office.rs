//! A pool of an application other than php-fpm, by hand.

use super::*;

/// A pool of an application other than php-fpm and its driver, by hand. Connections have numbers, the first one that is
/// opened 1.
pub(super) struct Office {
    pub(super) pool: Pool<u32, u32>,
    pub(super) now: Instant,
    pub(super) log: Vec<String>,
    pub(super) opening: BTreeMap<u32, (SlotKey, usize, Handshake)>,
    pub(super) open: BTreeMap<u32, SlotKey>,
    pub(super) opened: u32,
    /// By waiter: on which connection.
    pub(super) shares: BTreeMap<u32, (u32, Share)>,
    pub(super) waiting: BTreeMap<u32, WaiterKey>,
}

/// So many endpoints, with `connections` as configured, and the rest of the pool.
pub(super) fn office(endpoints: usize, connections: &str, rest: &str) -> Office {
    let text = format!("application: generic, connections: {{{connections}}}, {rest}");
    let World { pool, now, .. } = world(endpoints, &text);
    Office {
        pool,
        now,
        log: vec![],
        opening: BTreeMap::new(),
        open: BTreeMap::new(),
        opened: 0,
        shares: BTreeMap::new(),
        waiting: BTreeMap::new(),
    }
}

impl Office {
    /// What happened since the last time.
    pub(super) fn did(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    // ---------------------------------------------------------------- web servers

    pub(super) fn arrive(&mut self, waiters: impl IntoIterator<Item = u32>) {
        for waiter in waiters {
            match self.pool.arrive(Claim::default(), || waiter, self.now) {
                Ok(Arrival::Share(share)) => self.granted(waiter, share),
                Ok(Arrival::Wait(key)) => _ = self.waiting.insert(waiter, key),
                Ok(Arrival::Lease(_)) => panic!("connections are shared"),
                Err(refusal) => self.log.push(format!("refuse {waiter} {}", refusal.label())),
            }
            self.obey();
        }
    }

    pub(super) fn leave(&mut self, waiter: u32) {
        self.pool.leave(self.waiting.remove(&waiter).unwrap());
        self.obey();
    }

    /// Its exchange has ended.
    pub(super) fn finish(&mut self, waiters: impl IntoIterator<Item = u32>) {
        for waiter in waiters {
            let (_, share) = self.shares.remove(&waiter).unwrap();
            self.pool.release(share, self.now);
            self.obey();
        }
    }

    // ---------------------------------------------------------------- applications

    /// The oldest connection on its way is open.
    pub(super) fn join(&mut self, learned: Learned) -> u32 {
        let (number, (key, _, handshake)) = self.opening.pop_first().unwrap();
        if matches!(handshake, Handshake::Learn | Handshake::Prove) {
            self.pool.connected(key, self.now);
        }
        self.open.insert(number, key);
        self.pool.joined(key, learned, self.now);
        self.obey();
        number
    }

    pub(super) fn fail(&mut self, failure: OpenFailure) {
        let (_, (key, ..)) = self.opening.pop_first().unwrap();
        self.pool.failed(key, failure, self.now);
        self.obey();
    }

    /// The connection ends.
    pub(super) fn gone(&mut self, number: u32) {
        let key = self.open.remove(&number).unwrap();
        assert!(self.pool.gone(key, Closed::Broken, self.now).is_some());
        assert!(self.pool.gone(key, Closed::Broken, self.now).is_none(), "a second time it is nothing");
        self.obey();
    }

    pub(super) fn with(&mut self, number: u32, change: impl FnOnce(&mut Pool<u32, u32>, SlotKey, Instant)) {
        change(&mut self.pool, self.open[&number], self.now);
        self.obey();
    }

    // ---------------------------------------------------------------- the driver

    pub(super) fn obey(&mut self) {
        while let Some(directive) = self.pool.poll_directive() {
            match directive {
                Directive::Found { .. } | Directive::Forget { .. } => {}
                Directive::Ejected { .. } | Directive::Returned { .. } => {}
                Directive::Open { key, endpoint, handshake } => {
                    self.opened += 1;
                    self.opening.insert(self.opened, (key, endpoint, handshake));
                    self.log.push(format!("open c{} at {endpoint} {handshake:?}", self.opened));
                }
                Directive::GrantShare { waiter, share } => {
                    self.waiting.remove(&waiter).expect("a waiter that has not left");
                    self.granted(waiter, share);
                }
                Directive::CloseShared { key, reason, .. } => {
                    let number = self.number(key);
                    assert!(self.shares.values().all(|(each, _)| *each != number), "closed under an exchange");
                    self.open.remove(&number);
                    self.log.push(format!("close c{number} {}", reason.label()));
                }
                Directive::Refuse { waiter, refusal } => {
                    self.waiting.remove(&waiter).expect("a waiter that has not left");
                    self.log.push(format!("refuse {waiter} {}", refusal.label()));
                }
                Directive::Grant { .. } | Directive::Close { .. } | Directive::Probe { .. } => {
                    panic!("connections are shared")
                }
            }
        }
        self.check();
    }

    pub(super) fn granted(&mut self, waiter: u32, share: Share) {
        let number = self.number(share.key);
        self.log.push(format!("grant {waiter} c{number}"));
        self.shares.insert(waiter, (number, share));
    }

    pub(super) fn number(&self, key: SlotKey) -> u32 {
        *self.open.iter().find(|(_, each)| **each == key).expect("a connection that is there").0
    }

    pub(super) fn check(&self) {
        self.pool.check();
        let snapshot = self.pool.snapshot(self.now);
        for (index, endpoint) in snapshot.endpoints.iter().enumerate() {
            let held: usize = endpoint.connections.iter().sum();
            assert!(held <= endpoint.limit, "{endpoint:?} is over its budget");
            let running = self.shares.values().filter(|(_, share)| share.endpoint == index).count();
            assert_eq!(endpoint.in_flight, running);
        }
        assert_eq!(snapshot.queue_depth, self.waiting.len());
        let held: usize = snapshot.endpoints.iter().flat_map(|endpoint| endpoint.connections).sum();
        assert_eq!(held, self.open.len() + self.opening.len());
        let used = self.open.keys().filter(|number| self.taken(**number) > 0).count();
        assert_eq!(self.count(ConnectionState::Leased), used);
        assert_eq!(self.count(ConnectionState::Idle), self.open.len() - used);
    }

    pub(super) fn count(&self, state: ConnectionState) -> usize {
        self.pool.snapshot(self.now).endpoints.iter().map(|endpoint| endpoint.connections[state as usize]).sum()
    }

    /// Exchanges on a connection.
    pub(super) fn taken(&self, number: u32) -> usize {
        self.shares.values().filter(|(each, _)| *each == number).count()
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.pool.next_deadline().filter(|at| *at <= until) {
            self.now = self.now.max(deadline);
            self.tick();
        }
        self.now = until;
        self.tick();
    }

    pub(super) fn tick(&mut self) {
        self.pool.tick(self.now);
        self.obey();
        assert!(self.pool.next_deadline().is_none_or(|at| at > self.now), "a driver would tick for ever");
    }

    /// Everything has come back.
    pub(super) fn assert_quiet(&self) {
        assert!(self.shares.is_empty() && self.waiting.is_empty());
        let snapshot = self.pool.snapshot(self.now);
        assert!(snapshot.endpoints.iter().all(|endpoint| endpoint.in_flight == 0), "{snapshot:?}");
        assert_eq!((self.pool.busy(), snapshot.queue_depth), (0, 0));
    }
}
