//! The queue as it should be: who waits, in the order in which they must be served.

use fcgimux::mux::pool::Claim;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

#[derive(Default)]
pub(crate) struct Queue {
    /// Those that had a connection before, then the others.
    classes: [VecDeque<Waiter>; 2],
}

struct Waiter {
    exchange: usize,
    since: Instant,
    /// Endpoints that must not serve it.
    avoid: Vec<usize>,
}

impl Queue {
    pub(crate) fn push(&mut self, exchange: usize, claim: Claim, now: Instant) {
        self.classes[usize::from(!claim.again)].push_back(Waiter { exchange, since: now, avoid: claim.avoid });
    }

    /// What it avoids.
    pub(crate) fn leave(&mut self, exchange: usize) -> Vec<usize> {
        let class = self.classes.iter_mut().find(|class| class.iter().any(|each| each.exchange == exchange));
        let class = class.expect("one that waits");
        let place = class.iter().position(|each| each.exchange == exchange).expect("just seen");
        class.remove(place).expect("just seen").avoid
    }

    /// It must be the next in order of those that this endpoint may serve.
    pub(crate) fn serve(&mut self, exchange: usize, endpoint: usize) {
        let mut able = self.classes.iter().flatten().filter(|each| !each.avoid.contains(&endpoint));
        assert_eq!(able.next().map(|next| next.exchange), Some(exchange), "served out of turn");
        self.leave(exchange);
    }

    /// It must have waited for as long as is allowed, and be the oldest of its class.
    pub(crate) fn expire(&mut self, exchange: usize, timeout: Duration, now: Instant) {
        let class = self.classes.iter_mut().find(|class| class.front().is_some_and(|each| each.exchange == exchange));
        let Waiter { since, .. } = class.and_then(VecDeque::pop_front).expect("refused before its elders");
        assert!(now - since >= timeout, "refused after {:?}", now - since);
    }

    /// This number may be another endpoint's from now on.
    pub(crate) fn forget(&mut self, endpoint: usize) {
        self.classes.iter_mut().flatten().for_each(|each| each.avoid.retain(|avoided| *avoided != endpoint));
    }

    /// Since when the first has waited that one of these endpoints may serve.
    pub(crate) fn oldest_for(&self, endpoints: &[usize]) -> Option<Instant> {
        let wants = |each: &&Waiter| endpoints.iter().any(|endpoint| !each.avoid.contains(endpoint));
        self.classes.iter().flatten().filter(wants).map(|each| each.since).min()
    }

    /// Nobody waits for longer than allowed.
    pub(crate) fn check(&self, len: usize, timeout: Duration, now: Instant) {
        assert_eq!(self.len(), len, "somebody is lost");
        for Waiter { exchange, since, .. } in self.classes.iter().filter_map(VecDeque::front) {
            assert!(now - *since <= timeout, "exchange {exchange} has waited for {:?}", now - *since);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }
}
