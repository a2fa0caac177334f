//! The exchanges that run on one connection of a web server.
//!
//! Most connections have one in their life. It is kept in place; only those that come while it runs cost an allocation
//! and a waker each.

use futures_util::stream::{FuturesUnordered, Stream};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// See the [module](self).
pub(super) struct Exchanges<'a, F> {
    first: Pin<&'a mut Option<F>>,
    /// Those beside it, woken one by one.
    others: FuturesUnordered<F>,
}

impl<'a, F: Future> Exchanges<'a, F> {
    /// `place`: where the first one is kept.
    pub(super) fn new(place: Pin<&'a mut Option<F>>) -> Self {
        Self { first: place, others: FuturesUnordered::new() }
    }

    pub(super) fn push(&mut self, exchange: F) {
        match self.first.is_none() {
            true => self.first.set(Some(exchange)),
            false => self.others.push(exchange),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    /// The next one that has ended; `None` while none has.
    pub(super) fn poll_ended(&mut self, context: &mut Context<'_>) -> Option<F::Output> {
        if let Some(first) = self.first.as_mut().as_pin_mut()
            && let Poll::Ready(ended) = first.poll(context)
        {
            self.first.set(None);
            return Some(ended);
        }
        match Pin::new(&mut self.others).poll_next(context) {
            Poll::Ready(ended) => ended,
            Poll::Pending => None,
        }
    }
}
