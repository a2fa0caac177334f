//! The pool's operations where exchanges share connections.

use super::{fleet::Fleet, input::Input};
use fcgimux::{
    config::{self, Config},
    mux::{
        channel::Values,
        label::Closed,
        pool::{Arrival, Claim, Directive, Handshake, Learned, OpenFailure, Pool, Share, SlotKey, WaiterKey},
    },
};
use std::{
    collections::BTreeMap,
    sync::LazyLock,
    time::{Duration, Instant},
};

static CONFIGS: LazyLock<Vec<config::Pool>> = LazyLock::new(|| {
    let connections = [
        "per_endpoint: 1, max_requests_in_flight: 3, surplus_idle: 0s",
        "per_endpoint: 2, max_requests_in_flight: 2, max_requests: 4, idle_timeout: 2s",
        "per_endpoint: 3, multiplex: never, max_age: 2s",
        "per_endpoint: 3, multiplex: always, max_requests_in_flight: 2",
    ];
    let config = |connections: &&str| {
        let text = format!(
            "pools: {{p: {{application: generic, endpoints: [{{address: '10.0.0.1:9000'}}, {{address: '10.0.0.2:9000'}}], \
             connections: {{{connections}}}, queue: {{depth: 6, timeout: 3s}}, slow_start: 2s}}}}"
        );
        Config::from_yaml(&text).expect("a sound file").pools.remove(0)
    };
    connections.iter().map(config).collect()
});

pub(crate) fn shares(mut input: Input<'_>) {
    let mut office = Office::new(&CONFIGS[input.below(CONFIGS.len())]);
    let mut steps = 0;
    while !input.is_empty() && steps < 3000 {
        office.step(&mut input);
        office.obey();
        office.check();
        steps += 1;
    }
    office.end();
}

struct Office {
    pool: Pool<usize, ()>,
    fleet: Fleet,
    now: Instant,
    opening: Vec<(SlotKey, usize, Handshake)>,
    open: Vec<(SlotKey, usize)>,
    shares: Vec<Share>,
    waiting: BTreeMap<usize, WaiterKey>,
    waiters: usize,
}

/// One of them, chosen by the input.
fn choose<T>(from: &[T], input: &mut Input<'_>) -> Option<usize> {
    (!from.is_empty()).then(|| input.below(from.len()))
}

impl Office {
    #[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
    fn new(config: &config::Pool) -> Self {
        let now = Instant::now();
        let mut office = Self {
            pool: Pool::new(config, 0, now),
            fleet: Fleet::new(config.endpoints.len()),
            now,
            opening: vec![],
            open: vec![],
            shares: vec![],
            waiting: BTreeMap::new(),
            waiters: 0,
        };
        office.obey();
        office
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..=3 => self.arrive(input.byte().is_multiple_of(8)),
            4 => {
                let nth = input.below(self.waiting.len().max(1));
                if let Some((waiter, key)) = self.waiting.iter().nth(nth).map(|(waiter, key)| (*waiter, *key)) {
                    self.waiting.remove(&waiter);
                    self.pool.leave(key);
                }
            }
            5 | 6 => self.join(input),
            7 => self.fail(input),
            8..=10 => self.release(input),
            11 => self.gone(input),
            12 => self.hear(input),
            13 => self.pass(Duration::from_millis([1, 5, 10, 60, 1000, 2000, 5000, 61_000][input.below(8)])),
            14 if input.byte() == 255 => self.pool.drain(self.now),
            14 => self.reconfigure(input),
            _ => self.fleet.change(&mut self.pool, input, self.now),
        }
    }

    fn arrive(&mut self, again: bool) {
        let waiter = self.waiters;
        self.waiters += 1;
        match self.pool.arrive(Claim { again, ..Claim::default() }, || waiter, self.now) {
            Ok(Arrival::Share(share)) => self.granted(share),
            Ok(Arrival::Lease(_)) => panic!("connections are shared"),
            Ok(Arrival::Wait(key)) => _ = self.waiting.insert(waiter, key),
            Err(_) => {}
        }
    }

    fn join(&mut self, input: &mut Input<'_>) {
        let Some(nth) = choose(&self.opening, input) else { return };
        let (key, endpoint, handshake) = self.opening.swap_remove(nth);
        let learned = match handshake {
            Handshake::Learn | Handshake::Prove => {
                self.pool.connected(key, self.now);
                [Learned::Mute, Learned::Values(values(input))][input.below(2)]
            }
            Handshake::Remind | Handshake::Skip => Learned::Nothing,
        };
        self.open.push((key, endpoint));
        self.pool.joined(key, learned, self.now);
    }

    fn fail(&mut self, input: &mut Input<'_>) {
        use OpenFailure::{Connect, Handshake, Unanswered, Unasked};
        let Some(nth) = choose(&self.opening, input) else { return };
        let (key, ..) = self.opening.swap_remove(nth);
        let failure = [Connect, Handshake, Unanswered, Unasked][input.below(4)];
        self.pool.failed(key, failure, self.now);
    }

    fn release(&mut self, input: &mut Input<'_>) {
        let Some(nth) = choose(&self.shares, input) else { return };
        let share = self.shares.swap_remove(nth);
        match input.byte().is_multiple_of(8) {
            true => self.pool.release_untouched(share, self.now),
            false => self.pool.release(share, self.now),
        }
    }

    fn gone(&mut self, input: &mut Input<'_>) {
        use Closed::{Application, Broken, Gone, Protocol};
        let Some(nth) = choose(&self.open, input) else { return };
        let (key, _) = self.open.swap_remove(nth);
        let reason = [Application, Broken, Gone, Protocol][input.below(4)];
        assert!(self.pool.gone(key, reason, self.now).is_some());
        assert!(self.pool.gone(key, reason, self.now).is_none(), "a second time it is nothing");
    }

    /// Something that a connection shows while it is used.
    fn hear(&mut self, input: &mut Input<'_>) {
        let Some(nth) = choose(&self.open, input) else { return };
        let (key, endpoint) = self.open[nth];
        match input.below(4) {
            0 => self.pool.learned(key, values(input), self.now),
            1 => self.pool.stalled(key, input.below(2) == 0, self.now),
            2 => self.pool.let_go(key, Closed::MaxAge, input.below(2) == 0, self.now),
            _ => _ = (self.pool.answers(endpoint), self.pool.is_single(endpoint, Learned::Nothing)),
        }
    }

    /// As a reload does: what an application is said to be able to stays.
    fn reconfigure(&mut self, input: &mut Input<'_>) {
        let mut config = CONFIGS[input.below(2)].clone();
        config.connections.per_endpoint = 1 + input.below(3) as u32;
        self.pool.reconfigure(&config, self.now);
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
                    let left = self.at(endpoint) + self.shares.iter().filter(|each| each.endpoint == endpoint).count();
                    self.fleet.forgotten(endpoint, left);
                }
                Directive::Ejected { endpoint, .. } | Directive::Returned { endpoint } => {
                    assert!(self.fleet.indices().any(|each| each == endpoint), "none that is there");
                }
                Directive::Open { key, endpoint, handshake } => {
                    self.opening.push((key, endpoint, handshake));
                    self.fleet.may_open(endpoint, self.at(endpoint), &self.pool, self.now);
                }
                Directive::GrantShare { waiter, share } => {
                    self.waiting.remove(&waiter).expect("one that waits");
                    self.granted(share);
                }
                Directive::CloseShared { key, .. } => {
                    assert!(self.shares.iter().all(|share| share.key != key), "closed under an exchange");
                    let nth = self.open.iter().position(|(each, _)| *each == key).expect("one that is open");
                    self.open.swap_remove(nth);
                }
                Directive::Refuse { waiter, .. } => _ = self.waiting.remove(&waiter).expect("one that waits"),
                Directive::Grant { .. } | Directive::Close { .. } | Directive::Probe { .. } => {
                    panic!("connections are shared")
                }
            }
        }
    }

    /// Connections to an endpoint.
    fn at(&self, endpoint: usize) -> usize {
        let opening = self.opening.iter().filter(|(_, each, _)| *each == endpoint).count();
        opening + self.open.iter().filter(|(_, each)| *each == endpoint).count()
    }

    fn granted(&mut self, share: Share) {
        assert!(self.open.contains(&(share.key, share.endpoint)), "a connection that is not open");
        self.fleet.may(share.endpoint, true, &self.pool, self.now);
        self.shares.push(share);
    }

    fn check(&self) {
        #[cfg(debug_assertions)]
        self.pool.check();
        let snapshot = self.pool.snapshot(self.now);
        let held: usize = snapshot.endpoints.iter().flat_map(|endpoint| endpoint.connections).sum();
        let running: usize = snapshot.endpoints.iter().map(|endpoint| endpoint.in_flight).sum();
        assert_eq!((held, running), (self.open.len() + self.opening.len(), self.shares.len()));
        assert_eq!(snapshot.queue_depth, self.waiting.len());
    }

    /// Everybody gives back what he has; nothing may be left.
    fn end(&mut self) {
        self.fleet.mend(&mut self.pool, self.now);
        self.pool.drain(self.now);
        for _ in 0..100 {
            self.obey();
            while let Some((key, ..)) = self.opening.pop() {
                self.pool.failed(key, OpenFailure::Unanswered, self.now);
            }
            while let Some(share) = self.shares.pop() {
                self.pool.release(share, self.now);
            }
            self.obey();
            self.check();
            self.pass(Duration::from_secs(4));
        }
        self.obey();
        self.check();
        assert!(self.waiting.is_empty() && self.shares.is_empty() && self.open.is_empty(), "something is left");
        assert_eq!(self.pool.busy(), 0);
    }
}

fn values(input: &mut Input<'_>) -> Values {
    let limits = [None, Some(1), Some(2), Some(5)];
    Values { multiplexes: input.below(3) > 0, connections: limits[input.below(4)], requests: limits[input.below(4)] }
}
