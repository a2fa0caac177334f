//! Who gets how much: exchanges of known length, one behind the other from so many clients, and what each endpoint is
//! given of them.

use crate::fleet::address;
use fcgimux::{
    config::{self, Config, EndpointAddress},
    mux::{
        label::Closed,
        pool::{
            Arrival, Claim, Directive, Handshake, Learned, Lease, Member, OpenFailure, Pool, Settling, Share, SlotKey,
        },
        proof::{Clean, Proof},
    },
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// To connect and to be answered; to be answered on a connection that is there.
const CONNECT: Duration = Duration::from_micros(400);
const FENCE: Duration = Duration::from_micros(150);

type Connection = (SlotKey, usize);

#[derive(Debug)]
enum Event {
    Opened(SlotKey, usize, Handshake),
    Responded(Lease<Connection>),
    Fenced(Settling, Connection),
    Released(Share),
}

/// Clients, the pool, and applications that differ in nothing but their speed.
pub(crate) struct Office {
    pool: Pool<(), Connection>,
    pub(crate) now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    numbers: u64,
    /// Hosts by the pool's index.
    hosts: BTreeMap<usize, usize>,
    /// How long an exchange takes, by host; `None`: it refuses connections.
    pub(crate) speed: Vec<Option<Duration>>,
    /// Every exchange ends its connection.
    pub(crate) once: bool,
    /// Exchanges begun, by host.
    pub(crate) given: Vec<u64>,
    generic: bool,
}

impl Office {
    /// So many endpoints, each as quick as the others; and so many clients, who send the next request when the one before
    /// is answered.
    #[expect(clippy::disallowed_methods, reason = "any time will do to begin with")]
    pub(crate) fn new(hosts: usize, clients: usize, pool: &str) -> Self {
        let addresses: Vec<_> = (0..hosts).map(|host| format!("{{address: '{}'}}", address(host))).collect();
        let text = format!("pools: {{p: {{endpoints: [{}], {pool}}}}}", addresses.join(", "));
        let config = Config::from_yaml(&text).unwrap_or_else(|error| panic!("{text}: {error}")).pools.remove(0);
        let now = Instant::now();
        let mut office = Self {
            pool: Pool::new(&config, 0, now),
            now,
            events: BTreeMap::new(),
            numbers: 0,
            hosts: BTreeMap::new(),
            speed: vec![Some(5 * MS); hosts],
            once: false,
            given: vec![0; hosts],
            generic: config.application == config::Application::Generic,
        };
        office.obey();
        (0..clients).for_each(|_| office.ask());
        office
    }

    /// Discovery names these, with their weights, and whether they are near.
    pub(crate) fn set(&mut self, members: &[(usize, u32, bool)]) {
        let member = |&(host, weight, near): &(usize, u32, bool)| Member {
            address: EndpointAddress::Tcp(address(host).parse().expect("an address")),
            weight,
            near,
            leaving: false,
        };
        self.pool.set_members(&members.iter().map(member).collect::<Vec<_>>(), self.now);
        self.obey();
    }

    /// What each is given in that time.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<u64> {
        let until = self.now + time;
        self.given.fill(0);
        loop {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let tick = self.pool.next_deadline();
            let Some(at) = event.into_iter().chain(tick).min().filter(|at| *at <= until) else { break };
            self.now = self.now.max(at);
            if event.is_some_and(|event| tick.is_none_or(|tick| event <= tick)) {
                let (_, event) = self.events.pop_first().expect("there is one");
                self.happen(event);
            } else {
                self.pool.tick(self.now);
            }
            self.obey();
        }
        self.now = until;
        self.given.clone()
    }

    /// Asks for a connection.
    fn ask(&mut self) {
        match self.pool.arrive(Claim { repeatable: true, ..Claim::default() }, || (), self.now) {
            Ok(Arrival::Lease(lease)) => self.begin(lease),
            Ok(Arrival::Share(share)) => self.share(share),
            Ok(Arrival::Wait(_)) => {}
            Err(refusal) => panic!("{refusal:?}"),
        }
        self.obey();
    }

    fn obey(&mut self) {
        while let Some(directive) = self.pool.poll_directive() {
            match directive {
                Directive::Found { endpoint, address: found } => {
                    let host = (0..).find(|host| address(*host) == found.to_string()).expect("one of ours");
                    self.hosts.insert(endpoint, host);
                    self.speed.resize(self.speed.len().max(host + 1), Some(5 * MS));
                    self.given.resize(self.given.len().max(host + 1), 0);
                }
                Directive::Forget { endpoint } => _ = self.hosts.remove(&endpoint),
                Directive::Open { key, endpoint, handshake } => {
                    self.after(CONNECT, Event::Opened(key, endpoint, handshake))
                }
                Directive::Grant { lease, .. } => self.begin(lease),
                Directive::GrantShare { share, .. } => self.share(share),
                Directive::Probe { settling, connection } => self.after(FENCE, Event::Fenced(settling, connection)),
                Directive::Refuse { refusal, .. } => panic!("{refusal:?}"),
                Directive::Close { .. } | Directive::CloseShared { .. } => {}
                Directive::Ejected { .. } | Directive::Returned { .. } => {}
            }
        }
    }

    fn begin(&mut self, lease: Lease<Connection>) {
        let time = self.work(lease.endpoint);
        self.after(time, Event::Responded(lease));
    }

    fn share(&mut self, share: Share) {
        let time = self.work(share.endpoint);
        self.after(time, Event::Released(share));
    }

    fn work(&mut self, endpoint: usize) -> Duration {
        let host = self.hosts[&endpoint];
        self.given[host] += 1;
        self.speed[host].unwrap_or(5 * MS)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Opened(key, endpoint, handshake) if self.speed[self.hosts[&endpoint]].is_some() => {
                let connection = (key, endpoint);
                match handshake {
                    _ if self.generic => self.pool.joined(key, Learned::Nothing, self.now),
                    Handshake::Skip => self.pool.unprovable(key, connection, self.now),
                    _ => {
                        self.pool.connected(key, self.now);
                        self.pool.proven(key, connection, clean(), handshake, self.now);
                    }
                }
            }
            Event::Opened(key, ..) => _ = self.pool.failed(key, OpenFailure::Connect, self.now),
            Event::Responded(lease) if self.once => {
                self.pool.discard(lease.split().0, Closed::NotKept, false, self.now);
                self.ask();
            }
            Event::Responded(lease) => {
                let (lease, connection) = lease.split();
                if self.pool.may_defer(&lease, self.now) {
                    self.pool.defer(lease, connection, self.now);
                } else {
                    let (settling, ()) = self.pool.settle(lease, self.now);
                    self.after(FENCE, Event::Fenced(settling, connection));
                }
                self.ask();
            }
            Event::Fenced(settling, connection) => self.pool.checkin(settling, connection, clean(), self.now),
            Event::Released(share) => {
                self.pool.release(share, self.now);
                self.ask();
            }
        }
    }

    fn after(&mut self, time: Duration, event: Event) {
        self.numbers += 1;
        self.events.insert((self.now + time, self.numbers), event);
    }
}

fn clean() -> Clean {
    let taken = Proof::handshake(1).take(&[1, 10, 0, 0, 0, 0, 0, 0]);
    taken.expect("an answer").1.expect("a whole one")
}

/// How far what each has had is from its part of the whole, at most, in percent of that part.
fn deviation(given: &[u64], weights: &[u64]) -> f64 {
    let (all, parts): (u64, u64) = (given.iter().sum(), weights.iter().sum());
    let off = given.iter().zip(weights).map(|(given, weight)| {
        let due = all as f64 * *weight as f64 / parts as f64;
        (*given as f64 - due).abs() * 100.0 / due
    });
    off.fold(0.0, f64::max)
}

/// The ways in which a pool may be used; each is fair.
const KINDS: [(&str, bool); 4] = [
    ("connections: {fence: always}", false),
    ("connections: {fence: adaptive}", false),
    ("connections: {fence: always}", true),
    ("application: generic, connections: {multiplex: always}", false),
];

#[test]
fn equal_endpoints_get_equal_parts_at_any_concurrency() {
    for (pool, once) in KINDS {
        for clients in [1, 2, 3, 4, 7, 12, 24, 40] {
            let mut office = Office::new(3, clients, pool);
            office.once = once;
            office.pass(2 * SECOND);
            let given = office.pass(10 * SECOND);
            assert!(deviation(&given, &[1, 1, 1]) <= 2.0, "{clients} clients, {pool}, once {once}: {given:?}");
        }
    }
}

#[test]
fn endpoints_get_parts_in_proportion_to_their_weights_as_far_as_whole_exchanges_allow() {
    for (pool, once) in KINDS {
        for clients in [1, 3, 4, 6, 9, 12] {
            let mut office = Office::new(3, clients, pool);
            office.once = once;
            office.set(&[(0, 1, true), (1, 2, true), (2, 3, true)]);
            office.pass(2 * SECOND);
            let given = office.pass(20 * SECOND);
            // With fewer at a time than the weights add up to, or with some left over, nobody has his exact part.
            let exact = clients == 1 || clients.is_multiple_of(6);
            let most = if exact { 3.0 } else { 100.0 };
            assert!(deviation(&given, &[1, 2, 3]) <= most, "{clients} clients, {pool}, once {once}: {given:?}");
            assert!(given.is_sorted(), "{clients} clients, {pool}, once {once}: {given:?}");
        }
    }
}

#[test]
fn of_two_hundred_endpoints_each_gets_its_part_of_what_one_client_sends() {
    for (pool, once) in KINDS {
        let mut office = Office::new(200, 1, pool);
        office.once = once;
        // Each ninth request or so gives one more endpoint its first connection.
        office.pass(15 * SECOND);
        let given = office.pass(30 * SECOND);
        assert!(deviation(&given, &[1; 200]) <= 10.0, "{pool}, once {once}: {given:?}");
    }
}

#[test]
fn a_slow_endpoint_gets_what_its_speed_allows_and_the_others_share_the_rest() {
    for (pool, once) in KINDS {
        let mut office = Office::new(3, 12, pool);
        office.once = once;
        office.speed[2] = Some(25 * MS);
        office.pass(2 * SECOND);
        let given = office.pass(20 * SECOND);
        assert!(deviation(&given[..2], &[1, 1]) <= 2.0, "{pool}, once {once}: {given:?}");
        // Four at a time at each, of which the slow one ends a fifth as many.
        let part = given[2] as f64 / given[0] as f64;
        assert!((0.15..=0.3).contains(&part), "{pool}, once {once}: {given:?}");
    }
}

#[test]
fn an_endpoint_that_comes_later_gets_its_part_bit_by_bit_and_never_more() {
    for (pool, once) in KINDS {
        for clients in [1, 3, 6, 12] {
            let mut office = Office::new(2, clients, &format!("{pool}, slow_start: 10s"));
            office.once = once;
            office.pass(3 * SECOND);
            office.set(&[(0, 1, true), (1, 1, true), (2, 1, true)]);
            let mut parts = vec![];
            for second in 1..=10 {
                let given = office.pass(SECOND);
                let part = given[2] as f64 * 2.0 / (given[0] + given[1]) as f64;
                parts.push((part * 100.0).round() / 100.0);
                let most = (f64::from(second) / 10.0).max(0.1);
                assert!(part <= most * 1.25 + 0.03, "{clients} clients, {pool}, once {once}: {parts:?}");
            }
            assert!(parts[9] > 0.6, "{clients} clients, {pool}, once {once}: {parts:?}");
            office.pass(SECOND);
            let given = office.pass(5 * SECOND);
            assert!(deviation(&given, &[1, 1, 1]) <= 2.0, "{clients} clients, {pool}, once {once}: {given:?}");
        }
    }
}

#[test]
fn an_endpoint_that_was_down_gets_its_part_again_and_no_more() {
    for (pool, once) in KINDS {
        let mut office = Office::new(3, 4, &format!("{pool}, slow_start: 2s"));
        office.once = once;
        office.pass(2 * SECOND);
        office.speed[1] = None;
        // Its connections end with an exchange each, as those of a process that is gone.
        office.set(&[(0, 1, true), (2, 1, true)]);
        office.pass(SECOND);
        office.set(&[(0, 1, true), (1, 1, true), (2, 1, true)]);
        let given = office.pass(5 * SECOND);
        assert_eq!(given[1], 0, "{pool}, once {once}: {given:?}");
        office.speed[1] = Some(5 * MS);
        let given = office.pass(SECOND);
        assert!(given[1] < given[0], "{pool}, once {once}: {given:?}");
        office.pass(5 * SECOND);
        let given = office.pass(5 * SECOND);
        assert!(deviation(&given, &[1, 1, 1]) <= 2.0, "{pool}, once {once}: {given:?}");
    }
}

#[test]
fn another_zone_gets_what_the_own_one_has_no_room_for() {
    for (pool, once) in KINDS {
        let single = if pool.contains("generic") { "max_requests_in_flight: 1," } else { "" };
        let pool = pool.replace("connections: {", &format!("connections: {{per_endpoint: 2, {single}"));
        for (clients, far) in [(1, false), (2, false), (8, true)] {
            let mut office = Office::new(4, clients, &pool);
            office.once = once;
            office.set(&[(0, 1, true), (1, 1, true), (2, 1, false), (3, 1, false)]);
            office.pass(2 * SECOND);
            let given = office.pass(5 * SECOND);
            assert!(deviation(&given[..2], &[1, 1]) <= 2.0, "{clients} clients, {pool}, once {once}: {given:?}");
            // A few go there all the same, when every connection of the own zone is being asked at once.
            let there = (given[2] + given[3]) * 100 > given[0] + given[1];
            assert_eq!(there, far, "{clients} clients, {pool}, once {once}: {given:?}");
            assert!(
                !far || deviation(&given[2..], &[1, 1]) <= 2.0,
                "{clients} clients, {pool}, once {once}: {given:?}"
            );
        }
    }
}
