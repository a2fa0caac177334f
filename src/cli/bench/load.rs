//! The clients, and what they do.

use std::{cell::RefCell, pin::pin, time::Duration};

use fcgimux::config::EndpointAddress;
use futures_util::future::join_all;
use tokio::{
    signal::ctrl_c,
    time::{Instant, sleep},
};

use super::{Bench, pace::Pace, tally::Tally, token};
use crate::cli::client::{Connection, Failure, Head, Output, Request};

/// A client whose request failed waits so long before it takes the next one: else it would do nothing but fail.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

pub(super) struct Load<'a> {
    bench: &'a Bench,
    request: &'a Request,
    /// At least one; a client uses one of them.
    addresses: &'a [EndpointAddress],
    duration: Option<Duration>,
    tally: RefCell<Tally>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    /// From the first start to the last answer.
    pub(super) elapsed: Duration,
    /// Due, and never begun.
    pub(super) left: u64,
}

impl Outcome {
    pub(super) fn is_clean(&self) -> bool {
        self.tally.failed() == 0 && self.left == 0
    }
}

impl<'a> Load<'a> {
    pub(super) fn new(bench: &'a Bench, request: &'a Request, addresses: &'a [EndpointAddress]) -> Self {
        let unbounded = bench.duration.is_none() && bench.requests.is_none();
        let duration = bench.duration.or_else(|| unbounded.then_some(super::DURATION));
        Self { bench, request, addresses, duration, tally: RefCell::new(Tally::new()) }
    }

    /// Until time or requests are used up, or Ctrl-C; what has been begun ends, or is given up at a further Ctrl-C.
    pub(super) async fn run(self) -> Outcome {
        let pace = Pace::new(self.bench.rate, self.duration, self.bench.requests);
        let left = self.load(&pace).await;
        let elapsed = pace.elapsed();
        Outcome { tally: self.tally.into_inner(), elapsed, left }
    }

    /// Returns how many starts were due that nobody has taken.
    async fn load(&self, pace: &Pace) -> u64 {
        let mut clients = pin!(join_all(
            self.addresses.iter().cycle().take(self.bench.clients as usize).map(|address| self.client(pace, address))
        ));
        let time_is_up = async {
            match self.duration {
                Some(duration) => sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = &mut clients => return 0,
            () = time_is_up => {}
            // Without a handler for the signal it ends the process, as ever.
            Ok(()) = ctrl_c() => {}
        }
        let left = pace.left();
        pace.stop();
        tokio::select! {
            _ = &mut clients => {}
            // Who asks again does not want to wait for what runs.
            Ok(()) = ctrl_c() => self.give_up(pace),
        }
        left
    }

    /// What has been begun and not been answered has failed.
    fn give_up(&self, pace: &Pace) {
        let mut tally = self.tally.borrow_mut();
        let under_way = pace.taken().saturating_sub(tally.answers() + tally.failed());
        (0..under_way).for_each(|_| tally.bad("given_up", || "it was still running at the second Ctrl-C".to_owned()));
    }

    async fn client(&self, pace: &Pace, address: &EndpointAddress) {
        let mut kept = None;
        while let Some(due) = pace.next().await {
            let connection = match self.connection(&mut kept, address).await {
                Ok(connection) => connection,
                Err(failure) => {
                    self.failed(&failure).await;
                    continue;
                }
            };
            kept = self.request(connection, due).await.filter(|_| self.bench.keep);
        }
    }

    /// The one that is kept, if the application has not closed it, or a new one.
    async fn connection(
        &self,
        kept: &mut Option<Connection>,
        address: &EndpointAddress,
    ) -> Result<Connection, Failure> {
        if let Some(mut connection) = kept.take()
            && !connection.is_gone()
        {
            return Ok(connection);
        }
        let connection = Connection::open(address, self.bench.timeout).await?;
        self.tally.borrow_mut().opened += 1;
        Ok(connection)
    }

    /// Returns the connection if its answer was whole.
    async fn request(&self, mut connection: Connection, due: Instant) -> Option<Connection> {
        let (request, mut awaited) = token::attach(self.request, self.bench.token.as_deref());
        let bytes = request.encode(connection.next_id(), self.bench.keep);
        let (mut head, mut length) = (Head::default(), 0);
        let answer = connection.exchange(&bytes, self.bench.timeout, |output| {
            if let Output::Out(output) = output {
                let body = head.take(output).unwrap_or_default();
                awaited.look_at(body);
                length += body.len() as u64;
            }
            Ok(())
        });
        let answer = answer.await;
        let latency = due.elapsed();
        if let Err(failure) = answer {
            self.failed(&failure).await;
            return None;
        }
        let mut tally = self.tally.borrow_mut();
        tally.bytes += length;
        if !head.is_whole() {
            tally.bad("no_header_block", || "an answer without a header block".to_owned());
            return Some(connection);
        }
        let status = head.status();
        *tally.statuses.entry(status).or_default() += 1;
        if status >= 400 || status == 0 {
            tally.bad("status", || format!("status {status}"));
        } else if !awaited.is_found() {
            tally.bad("token", || "an answer without the token of its request: it may be that of another".to_owned());
        } else {
            tally.good(latency);
        }
        Some(connection)
    }

    async fn failed(&self, failure: &Failure) {
        self.tally.borrow_mut().bad(failure.kind.word(), || failure.to_string());
        sleep(AFTER_FAILURE).await;
    }
}
