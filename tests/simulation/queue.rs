//! The queue as it should be: who waits, in the order in which they must be served.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

#[derive(Default)]
pub(crate) struct Queue {
    /// Those that had a connection before, then the others.
    classes: [VecDeque<(usize, Instant)>; 2],
}

impl Queue {
    pub(crate) fn push(&mut self, exchange: usize, again: bool, now: Instant) {
        self.classes[usize::from(!again)].push_back((exchange, now));
    }

    pub(crate) fn leave(&mut self, exchange: usize) {
        self.classes.iter_mut().for_each(|class| class.retain(|(each, _)| *each != exchange));
    }

    /// It must be the next in order.
    pub(crate) fn serve(&mut self, exchange: usize) {
        let next = self.classes.iter_mut().find_map(VecDeque::pop_front).map(|(each, _)| each);
        assert_eq!(next, Some(exchange), "served out of turn");
    }

    /// It must have waited for as long as is allowed, and be the oldest of its class.
    pub(crate) fn expire(&mut self, exchange: usize, timeout: Duration, now: Instant) {
        let class = self.classes.iter_mut().find(|class| class.front().is_some_and(|(each, _)| *each == exchange));
        let (_, since) = class.and_then(VecDeque::pop_front).expect("refused before its elders");
        assert!(now - since >= timeout, "refused after {:?}", now - since);
    }

    /// Nobody waits for longer than allowed.
    pub(crate) fn check(&self, len: usize, timeout: Duration, now: Instant) {
        assert_eq!(self.len(), len, "somebody is lost");
        for (exchange, since) in self.classes.iter().filter_map(VecDeque::front) {
            assert!(now - *since <= timeout, "exchange {exchange} has waited for {:?}", now - *since);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }
}
