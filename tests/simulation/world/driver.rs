//! The pool's driver, without sockets: what `net` does, as briefly as it can be said.

use super::{Connection, Event, MS, RIDE_AT_MOST, Role, State, Upstream, WATCH_AFTER, World};
use crate::application::{Ask, Link, Said};
use fcgimux::mux::{
    failure::{Failure, Kind, Origin, Phase},
    label::{Closed, Refusal, RetryReason},
    pool::{Arrival, Claim, Directive, Handshake, Lease, OpenFailure},
    proof::Proof,
    reply::{Finished, Reply},
    request::Front,
};

impl World {
    // ---------------------------------------------------------------- web servers

    /// Asks for a connection.
    pub(super) fn want(&mut self, exchange: usize, claim: Claim) {
        let (again, full) = (claim.again, self.queue.len() >= self.config.queue.depth as usize);
        match self.pool.arrive(claim.clone(), || exchange, self.now) {
            Ok(Arrival::Lease(lease)) => {
                assert_eq!(self.queue.len(), 0, "overtaken by exchange {exchange}");
                assert!(!claim.avoid.contains(&lease.endpoint), "it may have been executed there");
                self.granted(exchange, lease);
            }
            Ok(Arrival::Share(_)) => panic!("php-fpm's connections are not shared"),
            Ok(Arrival::Wait(key)) => {
                assert!(again || !full, "the queue is full");
                self.queue.push(exchange, claim, self.now);
                self.exchanges[exchange].state = State::Waiting(key);
            }
            Err(refusal) => {
                assert!(match refusal {
                    Refusal::QueueFull => full && !again,
                    Refusal::NoEndpoint => {
                        self.fleet.may_refuse(&claim.avoid, &self.pool.snapshot(self.now));
                        true
                    }
                    _ => false,
                });
                self.exchanges[exchange].state = State::Refused;
            }
        }
    }

    pub(super) fn hang_up(&mut self, exchange: usize) {
        match std::mem::replace(&mut self.exchanges[exchange].state, State::Gone) {
            State::Waiting(key) => {
                self.queue.leave(exchange);
                self.pool.leave(key);
            }
            State::Leased { lease, link, .. } => {
                self.close(link);
                self.pool.discard(lease, Closed::Gone, true, self.now);
            }
            over => self.exchanges[exchange].state = over,
        }
    }

    // ---------------------------------------------------------------- directives

    /// Carries out what the pool directs.
    pub(super) fn obey(&mut self) {
        while let Some(directive) = self.pool.poll_directive() {
            match directive {
                Directive::Found { endpoint, address } => self.fleet.found(endpoint, &address),
                Directive::Forget { endpoint } => {
                    let left = |each: &&Connection| each.endpoint == endpoint && !matches!(each.role, Role::Closed);
                    self.fleet.forgotten(endpoint, self.connections.iter().filter(left).count());
                    self.queue.forget(endpoint);
                }
                Directive::Ejected { endpoint, .. } => self.fleet.ejected(endpoint),
                Directive::Returned { endpoint } => self.fleet.returned(endpoint),
                Directive::Open { key, endpoint, handshake } => {
                    let link = self.connections.len();
                    self.opened += 1;
                    let host = self.fleet.host(endpoint);
                    self.kept[host] = handshake != Handshake::Skip;
                    self.connections.push(Connection {
                        endpoint,
                        host,
                        role: Role::Connecting(key, handshake),
                        spell: 0,
                        inbox: vec![],
                        over: None,
                        last: [self.now; 2],
                    });
                    let held = |each: &&Connection| each.endpoint == endpoint && !matches!(each.role, Role::Closed);
                    let open = self.connections.iter().filter(held).count();
                    self.fleet.may_open(endpoint, open, &self.pool.snapshot(self.now), self.now);
                    self.travel(link, 0, Event::Connected(link));
                }
                Directive::Grant { waiter, lease } => {
                    self.queue.serve(waiter, lease.endpoint);
                    // It may have hung up in the same moment.
                    if self.random.one_in(40) {
                        self.exchanges[waiter].state = State::Gone;
                        self.connections[lease.connection.link].role = Role::Idle;
                        self.pool.untouched(lease, self.now);
                    } else {
                        self.granted(waiter, lease);
                    }
                }
                Directive::Refuse { waiter, refusal } => {
                    match refusal {
                        Refusal::QueueTimeout => self.queue.expire(waiter, self.config.queue.timeout, self.now),
                        _ => {
                            let avoid = self.queue.leave(waiter);
                            self.fleet.may_refuse(&avoid, &self.pool.snapshot(self.now));
                        }
                    }
                    self.exchanges[waiter].state = State::Refused;
                }
                Directive::Close { connection, endpoint, .. } => {
                    assert_eq!(self.connections[connection.link].endpoint, endpoint);
                    let idle = matches!(self.connections[connection.link].role, Role::Idle);
                    assert!(idle, "closed while in use");
                    assert!(connection.owed.is_none(), "closed with a fence unsent");
                    self.close(connection.link);
                }
                Directive::GrantShare { .. } | Directive::CloseShared { .. } => {
                    panic!("php-fpm's connections are not shared")
                }
                Directive::Probe { settling, mut connection } => {
                    assert!(matches!(self.connections[connection.link].role, Role::Idle), "asked while in use");
                    let proof = match connection.owed.take() {
                        Some(finished) => Proof::fence(finished),
                        None => Proof::handshake(1),
                    };
                    self.enter(connection.link, Role::Settling(settling, proof));
                    let spell = self.connections[connection.link].spell;
                    self.ask(connection.link, Ask::Values);
                    self.after(self.config.timeouts.prove, Event::ProveTimeout(connection.link, spell));
                    self.read(connection.link);
                }
            }
        }
    }

    /// Sends the request.
    fn granted(&mut self, exchange: usize, lease: Lease<Upstream>) {
        let (idle_for, kept, (lease, mut upstream)) = (lease.idle_for, lease.kept, lease.split());
        let link = upstream.link;
        assert!(matches!(self.connections[link].role, Role::Idle), "two exchanges on one connection");
        let (idempotent, has_body, script) = {
            let asked = &self.exchanges[exchange];
            (asked.idempotent, asked.has_body, asked.script)
        };
        let stale = idle_for > self.config.connections.reprove_after;
        let front = match upstream.owed.take() {
            Some(finished) => Front::Fence(finished),
            None if kept && (has_body || !idempotent) => Front::Twice,
            None if kept && stale => Front::GetValues,
            None => Front::Nothing,
        };
        let (endpoint, host) = (self.connections[link].endpoint, self.connections[link].host);
        assert_eq!((lease.endpoint, self.fleet.host(endpoint)), (endpoint, host));
        self.fleet.may_lease(endpoint, &self.pool.snapshot(self.now));
        self.leased[host] += 1;
        let application = &self.applications[host];
        let free = application.is_waiting_on(link) || application.has_ended(link) || self.gone(link);
        let rides = front.is_fence();
        assert!(free || !kept || rides, "leased while its worker is at work");
        assert_eq!(lease.unproven, rides);
        assert!(!rides || (idempotent && !has_body), "sent to a worker that may be busy, and may not be sent again");
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let (id, keep) = (self.next_id, kept && !has_body);
        self.enter(link, Role::Leased(exchange));
        let spell = self.connections[link].spell;
        let reply = Reply::new(id, 1, &front);
        (0..front.questions()).for_each(|_| self.ask(link, Ask::Values));
        let request = Ask::Request { id, exchange, keep, script };
        let held = front.holds().then_some(request);
        if held.is_none() {
            self.ask(link, request);
        }
        self.exchanges[exchange].state = State::Leased { lease, link, reply, held, keep, spell, rides };
        self.after(self.config.timeouts.first_byte.expect("set"), Event::FirstByteTimeout(exchange, spell));
        self.after(WATCH_AFTER, Event::Watch(exchange, spell));
        if rides {
            self.after(RIDE_AT_MOST, Event::Busy(exchange, spell));
        }
        self.read(link);
    }

    // ---------------------------------------------------------------- connections

    pub(super) fn connected(&mut self, link: Link) {
        let host = self.connections[link].host;
        let Role::Connecting(key, handshake) = self.connections[link].role else { return };
        // A SYN may get lost, or the backlog be full.
        if self.kind.has_faults() && !self.calm && self.random.one_in(100) {
            self.after(self.config.timeouts.connect, Event::ConnectTimeout(link));
            return;
        }
        if !self.application(host, |app, out| app.connect(link, out)) {
            self.over(link);
            self.pool.failed(key, OpenFailure::Connect, self.now);
            return;
        }
        let answers = match handshake {
            Handshake::Skip => {
                self.enter(link, Role::Idle);
                self.pool.unprovable(key, Upstream { link, owed: None }, self.now);
                return;
            }
            Handshake::Prove => 1,
            Handshake::Learn => 2,
            Handshake::Remind => unreachable!("php-fpm is asked and waited for"),
        };
        self.pool.connected(key, self.now);
        self.enter(link, Role::Proving(key, handshake, Proof::handshake(answers)));
        (0..answers).for_each(|_| self.ask(link, Ask::Values));
        let spell = self.connections[link].spell;
        self.after(self.config.timeouts.prove, Event::ProveTimeout(link, spell));
    }

    pub(super) fn connect_timeout(&mut self, link: Link) {
        if let Role::Connecting(key, _) = self.connections[link].role {
            self.over(link);
            self.pool.failed(key, OpenFailure::Connect, self.now);
        }
    }

    pub(super) fn prove_timeout(&mut self, link: Link, spell: u64) {
        if self.connections[link].spell != spell {
            return;
        }
        match std::mem::replace(&mut self.connections[link].role, Role::Idle) {
            Role::Proving(key, ..) => {
                self.close(link);
                self.pool.failed(key, OpenFailure::Unanswered, self.now);
            }
            Role::Settling(settling, _) => {
                self.close(link);
                self.pool.unsettled(settling, Closed::Application, self.now);
            }
            role => self.connections[link].role = role,
        }
    }

    pub(super) fn first_byte_timeout(&mut self, exchange: usize, spell: u64) {
        let leased = matches!(&self.exchanges[exchange].state,
            State::Leased { spell: now, reply, .. } if *now == spell && !reply.started());
        if leased {
            self.fail(exchange, Kind::Timeout("first_byte"));
        }
    }

    pub(super) fn watch(&mut self, exchange: usize, spell: u64) {
        if let State::Leased { spell: now, reply, link, .. } = &self.exchanges[exchange].state
            && *now == spell
            && reply.proof_due()
        {
            self.pool.fence_late(self.connections[*link].endpoint, self.now);
        }
    }

    /// The worker is still at work behind the response before.
    pub(super) fn busy(&mut self, exchange: usize, spell: u64) {
        let busy = matches!(&self.exchanges[exchange].state,
            State::Leased { spell: now, reply, .. } if *now == spell && reply.proof_due());
        if busy {
            self.fail(exchange, Kind::Busy);
        }
    }

    /// Something came from an application.
    pub(super) fn hear(&mut self, link: Link, said: Said) {
        let connection = &mut self.connections[link];
        match said {
            Said::Bytes(bytes) => connection.inbox.extend(bytes),
            over => connection.over = Some(over),
        }
        match connection.role {
            Role::Closed => {}
            Role::Idle => {
                let later = if self.random.one_in(3) { self.random.short(MS) } else { std::time::Duration::ZERO };
                self.after(later, Event::Notice(link));
            }
            _ => self.read(link),
        }
    }

    /// The driver sees that something came on an idle connection.
    pub(super) fn notice(&mut self, link: Link) {
        let something = !self.connections[link].inbox.is_empty() || self.connections[link].over.is_some();
        let idle = self.pool.idle_mut().find(|(_, upstream)| upstream.link == link).map(|(key, _)| key);
        if let Some(key) = idle.filter(|_| something)
            && let Some((upstream, endpoint)) = self.pool.lost(key, self.now)
        {
            assert_eq!((upstream.link, endpoint), (link, self.connections[link].endpoint));
            self.close(link);
        }
    }

    /// Reads what has come, in pieces of any size.
    fn read(&mut self, link: Link) {
        loop {
            let connection = &self.connections[link];
            let (have, over) = (connection.inbox.len(), connection.over.is_some());
            // Mostly all of it.
            let whole = self.random.one_in(2);
            let size = if whole { have } else { self.random.between(1, 40).min(have as u64) as usize };
            let spell = self.connections[link].spell;
            let left = match std::mem::replace(&mut self.connections[link].role, Role::Idle) {
                Role::Proving(key, handshake, proof) => self.read_handshake(link, key, handshake, proof, size),
                Role::Settling(settling, proof) => self.read_fence(link, settling, proof, size),
                Role::Leased(exchange) => {
                    self.connections[link].role = Role::Leased(exchange);
                    self.read_response(link, exchange, size)
                }
                role => {
                    self.connections[link].role = role;
                    return;
                }
            };
            let same = self.connections[link].spell == spell;
            if !same || !left || (have == 0 && !over) {
                return;
            }
        }
    }

    /// True while there may be more to read.
    fn read_handshake(
        &mut self,
        link: Link,
        key: fcgimux::mux::pool::SlotKey,
        handshake: Handshake,
        mut proof: Proof,
        size: usize,
    ) -> bool {
        let connection = &mut self.connections[link];
        let failure = match proof.take(&connection.inbox[..size]) {
            Ok((taken, Some(clean))) => {
                connection.inbox.drain(..taken);
                self.enter(link, Role::Idle);
                self.pool.proven(key, Upstream { link, owed: None }, clean, handshake, self.now);
                self.after_rest(link);
                return false;
            }
            Ok((taken, None)) => {
                connection.inbox.drain(..taken);
                if connection.over.is_none() || taken > 0 {
                    connection.role = Role::Proving(key, handshake, proof);
                    return taken > 0 || size < self.connections[link].inbox.len();
                }
                match proof.due() {
                    1 if handshake == Handshake::Learn => OpenFailure::ClosedBehindAnswer,
                    _ => OpenFailure::Handshake,
                }
            }
            Err(_) => OpenFailure::Handshake,
        };
        self.close(link);
        if self.pool.failed(key, failure, self.now) {
            // Twice in a row a worker that stopped: it looks like an old PHP for a while.
            let host = self.connections[link].host;
            self.kept[host] = false;
        }
        false
    }

    fn read_fence(
        &mut self,
        link: Link,
        settling: fcgimux::mux::pool::Settling,
        mut proof: Proof,
        size: usize,
    ) -> bool {
        let connection = &mut self.connections[link];
        match proof.take(&connection.inbox[..size]) {
            Ok((taken, Some(clean))) => {
                connection.inbox.drain(..taken);
                self.enter(link, Role::Idle);
                self.pool.checkin(settling, Upstream { link, owed: None }, clean, self.now);
                self.after_rest(link);
            }
            Ok((taken, None)) if connection.over.is_none() || taken > 0 => {
                connection.inbox.drain(..taken);
                connection.role = Role::Settling(settling, proof);
                return taken > 0 || size < self.connections[link].inbox.len();
            }
            _ => {
                self.close(link);
                self.pool.unsettled(settling, Closed::Application, self.now);
            }
        }
        false
    }

    fn read_response(&mut self, link: Link, exchange: usize, size: usize) -> bool {
        let connection = &mut self.connections[link];
        let asked = &mut self.exchanges[exchange];
        let State::Leased { reply, held, .. } = &mut asked.state else { panic!("no lease: {asked:?}") };
        let mut bytes: Vec<u8> = connection.inbox[..size].to_vec();
        match reply.scan(&mut bytes) {
            Ok(scan) => {
                asked.response.extend_from_slice(&bytes[..scan.forward]);
                let taken = scan.forward + scan.skip;
                connection.inbox.drain(..taken);
                if let Some(request) = held.take_if(|_| !reply.proof_due()) {
                    self.ask(link, request);
                } else if reply.ended() {
                    self.conclude(exchange);
                } else if taken == 0 && size == connection.inbox.len() {
                    if connection.over.is_none() {
                        return false;
                    }
                    self.fail(exchange, Kind::Closed);
                }
                true
            }
            Err(error) => {
                self.fail(exchange, Kind::Protocol(error.to_string()));
                false
            }
        }
    }

    /// What came while a connection went to rest is seen like anything else that comes on it.
    fn after_rest(&mut self, link: Link) {
        if !self.connections[link].inbox.is_empty() || self.connections[link].over.is_some() {
            self.after(std::time::Duration::ZERO, Event::Notice(link));
        }
    }

    // ---------------------------------------------------------------- ends

    /// The response is whole.
    fn conclude(&mut self, exchange: usize) {
        let state = std::mem::replace(&mut self.exchanges[exchange].state, State::Served);
        let State::Leased { lease, link, reply, keep, .. } = state else { panic!("no lease: {state:?}") };
        let asked = &self.exchanges[exchange];
        let response = String::from_utf8_lossy(&asked.response);
        assert!(response.contains(&format!("\r\n\r\n{exchange}")), "another's response: {response:?}");
        assert_eq!(response.matches("Status:").count(), 1, "parts of others: {response:?}");
        assert!(!response.contains('!'), "strays: {response:?}");
        assert!(asked.executed >= 1);
        let behind = !self.connections[link].inbox.is_empty();
        match reply.finish().filter(Finished::clean) {
            Some(finished) if keep && !behind && self.pool.may_defer(&lease, self.now) => {
                self.enter(link, Role::Idle);
                self.pool.defer(lease, Upstream { link, owed: Some(finished) }, self.now);
                self.after_rest(link);
            }
            Some(finished) if keep => {
                let (settling, ()) = self.pool.settle(lease, self.now);
                self.enter(link, Role::Settling(settling, Proof::fence(finished)));
                self.ask(link, Ask::Values);
                self.read(link);
            }
            finished => {
                let reason = match finished {
                    Some(_) if !lease.kept => Closed::NotKept,
                    Some(_) => Closed::Body,
                    None => Closed::Protocol,
                };
                self.close(link);
                self.pool.discard(lease, reason, false, self.now);
            }
        }
    }

    /// The exchange broke: again on another connection, or over.
    fn fail(&mut self, exchange: usize, kind: Kind) {
        let state = std::mem::replace(&mut self.exchanges[exchange].state, State::Failed);
        let State::Leased { lease, link, reply, held, rides, .. } = state else { panic!("no lease: {state:?}") };
        let phase = match () {
            () if reply.started() => Phase::Responding,
            () if held.is_some() => Phase::Unsent,
            () if reply.proof_due() => Phase::Unproven,
            () => Phase::Sent,
        };
        let failure = Failure { origin: Origin::Application, kind, phase, position: String::new() };
        let ended_before = rides && phase == Phase::Unproven && failure.kind == Kind::Closed;
        let endpoint = lease.endpoint;
        self.close(link);
        if ended_before {
            self.pool.fence_unanswered(endpoint);
            self.pool.discard(lease, Closed::Application, false, self.now);
        } else {
            self.pool.discard(lease, failure.closed(), failure.leaves_worker_busy(), self.now);
        }
        let asked = &mut self.exchanges[exchange];
        let mut claim = Claim { again: true, ..Claim::default() };
        let again = match failure.retry(asked.idempotent) {
            Some(RetryReason::Unproven) => {
                asked.unproven += u32::from(!ended_before);
                asked.unproven <= 3
            }
            Some(RetryReason::Idempotent) => {
                asked.attempts += 1;
                claim.avoid = vec![endpoint];
                asked.attempts <= 1 && self.pool.has_other(&[endpoint])
            }
            Some(RetryReason::Busy) => true,
            None => false,
        };
        if again {
            self.obey();
            self.want(exchange, claim);
        }
    }

    // ---------------------------------------------------------------- small things

    fn enter(&mut self, link: Link, role: Role) {
        self.connections[link].role = role;
        self.connections[link].spell += 1;
    }

    fn ask(&mut self, link: Link, ask: Ask) {
        self.travel(link, 0, Event::ToApplication(link, ask));
    }

    /// The application has closed it, whether or not that has been noticed.
    fn gone(&self, link: Link) -> bool {
        self.connections[link].over.is_some()
    }

    fn close(&mut self, link: Link) {
        self.over(link);
        self.travel(link, 0, Event::CloseAtApplication(link));
    }

    fn over(&mut self, link: Link) {
        self.enter(link, Role::Closed);
        self.closed += 1;
    }
}
